/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica that joins S: what is proposed with it may be on some voters only, and what was written
 * meanwhile must be on it before anybody may choose that (docs/protocol.md 1.7, grow).  So, just
 * when it joins, its disk gets slow, others go, its answers are lost; and somebody opens anew soon
 * after.
 */
#include "nexus/mirror/volume_internal.h"
#include "tests/sim/faults.h"

#define STEP_NS (4 * IO_NS_PER_MS)

static const struct volume *serving_volume(const struct world *world)
{
	const struct slot *slot = &world->slots[world->active];

	return slot->process != NULL ? slot->volume : NULL;
}

/* What is submitted from now on ends in any order. */
static void make_disk_slow(struct fault *fault)
{
	struct node_agent *node = fault->agent;
	struct rng *rng = &fault->rng;

	fault_disk_ends_after(node, draw_duration_ns(rng));
	sim_disk_set_faults(
		node->disk, &(struct sim_disk_faults){
				    .slow_percent = 10 + (unsigned)rng_below(rng, 50),
				    .slow_max_ns = (1 + rng_below(rng, 200)) * IO_NS_PER_MS,
			    });
}

static void crash_another(struct fault *fault)
{
	struct node_agent *node = draw_agent(fault);

	if (node != fault->agent) {
		agent_crash(node, draw_duration_ns(&fault->rng));
	}
}

/* The votes of those who are no members of S: without them nothing that follows is committed. */
static void crash_bystanders(struct fault *fault)
{
	struct world *world = fault->world;
	const struct cfg *cfg = &world->slots[world->active].committed;
	uint64_t down_ns = draw_duration_ns(&fault->rng);

	for (unsigned i = 0; i < cfg->voter_count; i++) {
		struct node_agent *node = agent_of_replica(world, &cfg->voters[i].id);

		if (!cfg->voters[i].insync && node != NULL && node != fault->agent) {
			agent_crash(node, down_ns);
		}
	}
}

static void on_heal(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, end);

	sim_partition(fault->a, fault->b, false);
}

static void lose_its_answers(struct fault *fault)
{
	fault->a = fault->agent->host;
	fault->b = fault->world->slots[fault->world->active].host;
	if (fault->a != fault->b) {
		fault->world->result->partitions++;
		sim_partition(fault->a, fault->b, true);
		fault_ends_after(fault, draw_duration_ns(&fault->rng), on_heal);
	}
}

/* The configuration with it is on its way, or has just been committed. */
static void on_proposed(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, event);
	struct rng *rng = &fault->rng;

	switch (rng_below(rng, 4)) {
	case 0:
		agent_crash(fault->agent, draw_duration_ns(rng));
		break;
	case 1:
		agent_power_loss(fault->agent, draw_duration_ns(rng));
		break;
	default:
		lose_its_answers(fault);
		break;
	}
	if (rng_percent(rng, 50)) {
		crash_bystanders(fault);
	}
	fault_nexus_soon(fault, rng_percent(rng, 40) ? STEP_NS : 5 * IO_NS_PER_S);
}

void fault_at_join(struct fault *fault)
{
	fault->join = JOIN_FAULT_ARMED;
}

void fault_join_observe(struct fault *fault)
{
	struct world *world = fault->world;
	const struct volume *volume;
	const struct leg *joiner;

	if (fault->join == JOIN_FAULT_NONE) {
		return;
	}
	volume = serving_volume(world);
	joiner = volume != NULL ? volume->joiner : NULL;
	if (joiner == NULL) {
		return;
	}
	if (fault->join == JOIN_FAULT_ARMED && joiner->joining) {
		fault->agent = agent_of_replica(world, &joiner->voter.replica);
		fault->join = JOIN_FAULT_JOINS;
		make_disk_slow(fault);
		slot_issue_now(&world->slots[world->active]);
		if (rng_percent(&fault->rng, 30)) {
			crash_another(fault);
		}
	} else if (fault->join == JOIN_FAULT_JOINS && volume->joiner_proposed) {
		fault->join = JOIN_FAULT_NONE;
		sim_at_ns(world->sim, &fault->event,
			sim_now_ns(world->sim) +
				rng_below(&fault->rng, rng_percent(&fault->rng, 50)
							       ? STEP_NS
							       : 100 * IO_NS_PER_MS),
			on_proposed);
	}
}
