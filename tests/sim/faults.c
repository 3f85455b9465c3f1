/* SPDX-License-Identifier: Apache-2.0 */
/* Faults at random moments: which, when, and those of processes and of power. */
#include "tests/sim/faults.h"

#include "nexus/mirror/volume_internal.h"

uint64_t draw_duration_ns(struct rng *rng)
{
	uint64_t limit_ms = rng_percent(rng, 60) ? 1500 : 7000;

	return (10 + rng_below(rng, limit_ms)) * IO_NS_PER_MS;
}

struct node_agent *draw_agent(struct fault *fault)
{
	return &fault->world->agents[rng_below(&fault->rng, fault->world->options.voters)];
}

struct sim_host *draw_host(struct fault *fault)
{
	struct world *world = fault->world;
	uint64_t at = rng_below(&fault->rng, world->options.voters + SLOTS);

	return at < world->options.voters ? world->agents[at].host
					  : world->slots[at - world->options.voters].host;
}

/* Mostly the one that serves; else one that was taken over, if it runs. */
static struct slot *draw_slot(struct fault *fault)
{
	struct world *world = fault->world;
	unsigned offset =
		rng_percent(&fault->rng, 70) ? 0 : (unsigned)rng_below(&fault->rng, SLOTS);

	return &world->slots[(world->active + offset) % SLOTS];
}

static struct sim_process *draw_process(struct fault *fault)
{
	return rng_percent(&fault->rng, 50) ? draw_agent(fault)->process
					    : draw_slot(fault)->process;
}

void fault_ends_after(struct fault *fault, uint64_t delay_ns, void (*run)(struct sim_event *))
{
	struct sim *sim = fault->world->sim;

	sim_at_ns(sim, &fault->end, sim_now_ns(sim) + delay_ns, run);
}

static void on_take_over(struct sim_event *event)
{
	slot_takeover(container_of(event, struct fault, event)->world);
}

void fault_take_over_after(struct fault *fault, uint64_t delay_ns)
{
	struct sim *sim = fault->world->sim;

	sim_at_ns(sim, &fault->event, sim_now_ns(sim) + delay_ns, on_take_over);
}

/* ---- processes ---- */

static void fault_agent_crash(struct fault *fault)
{
	agent_crash(draw_agent(fault), draw_duration_ns(&fault->rng));
}

static void fault_agent_stop(struct fault *fault)
{
	agent_stop(draw_agent(fault), draw_duration_ns(&fault->rng));
}

static void on_upgrade(struct sim_event *event)
{
	struct node_agent *node = container_of(event, struct fault, end)->agent;

	node->older = false;
	agent_crash(node, 0);
}

/* One at a time is the program of before, as while a cluster is upgraded, or when that is taken
 * back. */
static void fault_older_build(struct fault *fault)
{
	struct world *world = fault->world;

	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].older) {
			return;
		}
	}
	fault->agent = draw_agent(fault);
	fault->agent->older = true;
	agent_crash(fault->agent, 0);
	fault_ends_after(fault, draw_duration_ns(&fault->rng), on_upgrade);
}

static void fault_nexus_crash(struct fault *fault)
{
	struct rng *rng = &fault->rng;
	struct slot *slot = &fault->world->slots[fault->world->active];

	slot_crash(slot, rng_percent(rng, 50));
	slot_restart_after(
		slot, rng_below(rng, rng_percent(rng, 70) ? 200 * IO_NS_PER_MS : 3 * IO_NS_PER_S));
}

static void on_nexus(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, event);

	if (rng_percent(&fault->rng, 40)) {
		slot_takeover(fault->world);
	} else {
		fault_nexus_crash(fault);
	}
}

void fault_nexus_soon(struct fault *fault, uint64_t within_ns)
{
	struct sim *sim = fault->world->sim;

	sim_at_ns(
		sim, &fault->event, sim_now_ns(sim) + rng_below(&fault->rng, within_ns), on_nexus);
}

static void fault_takeover(struct fault *fault)
{
	slot_takeover(fault->world);
}

/* It was taken over; it must notice, whatever it remembers. */
static void fault_old_nexus_returns(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = &fault->rng;
	struct slot *other = &world->slots[(world->active + 1 + rng_below(rng, SLOTS - 1)) % SLOTS];

	if (other->attach != 0) {
		slot_crash(other, rng_percent(rng, 50));
		slot_restart_after(other, rng_below(rng, IO_NS_PER_S));
	}
}

/* Now and then for longer than everything; and then another node may take over. */
static void fault_freeze(struct fault *fault)
{
	struct rng *rng = &fault->rng;
	struct sim_process *process = draw_process(fault);
	uint64_t duration_ns =
		rng_percent(rng, 85) ? draw_duration_ns(rng) : rng_below(rng, 60 * IO_NS_PER_S);

	if (process == NULL) {
		return;
	}
	sim_process_freeze(process, duration_ns);
	if (process == fault->world->slots[fault->world->active].process && rng_percent(rng, 40)) {
		fault_take_over_after(fault, rng_below(rng, 4 * IO_NS_PER_S));
	}
}

/* The n-th allocation of a process from now on fails.  They are few while all goes well: often it
 * has to connect anew, and what follows from that. */
static void fault_memory(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = &fault->rng;
	struct sim_process *process = draw_process(fault);
	struct sim_host *nexus = world->slots[world->active].host;
	struct sim_host *host, *other;

	if (process == NULL) {
		return;
	}
	host = sim_process_host(process);
	other = host == nexus ? draw_agent(fault)->host : nexus;
	sim_process_fail_allocation(process, 1 + rng_below(rng, rng_percent(rng, 60) ? 3 : 30));
	if (host != other && rng_percent(rng, 70)) {
		sim_cut_connections(host, other);
	}
}

/* A member is given up although it is well. */
static void fault_ejection(struct fault *fault)
{
	struct volume *volume = draw_slot(fault)->volume;

	if (volume != NULL && volume->committed && !volume_is_dead(volume)) {
		leg_fail(volume->legs[rng_below(&fault->rng, volume->leg_count)],
			"the test wants it");
	}
}

/* ---- at a step of the protocol ---- */

/* What the serving nexus is about: it changes when an opening, a proposal, a rebuild gets on. */
static uint64_t protocol_step(const struct world *world)
{
	const struct slot *slot = &world->slots[world->active];
	const struct volume *volume = slot->volume;
	uint64_t step;

	if (slot->process == NULL || volume == NULL) {
		return 0;
	}
	step = (uint64_t)volume->open_state << 16 | (uint64_t)volume->checkpoint_state << 8 |
	       (uint64_t)volume->proposal_open << 1 | volume->joiner_ready;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		step = step * 31 + (uint64_t)volume->legs[i]->rebuild_state * 16 +
		       (uint64_t)volume->legs[i]->join_state;
	}
	return step;
}

static void on_protocol_step(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, event);
	struct rng *rng = &fault->rng;

	switch (rng_below(rng, 4)) {
	case 0:
		fault_nexus_crash(fault);
		return;
	case 1:
		agent_crash(draw_agent(fault), draw_duration_ns(rng));
		break;
	case 2:
		fault_partition(fault);
		break;
	default:
		agent_power_loss(draw_agent(fault), draw_duration_ns(rng));
		break;
	}
	if (rng_percent(rng, 60)) {
		fault_nexus_soon(fault, 20 * IO_NS_PER_MS);
	}
}

void faults_observe(struct world *world)
{
	uint64_t step = world->healing ? world->step_seen : protocol_step(world);

	for (unsigned i = 0; i < world->options.fault_count && !world->healing; i++) {
		fault_join_observe(&world->faults[i]);
	}
	if (step == world->step_seen) {
		return;
	}
	world->step_seen = step;
	slot_issue_soon(&world->slots[world->active]);
	for (unsigned i = 0; i < world->options.fault_count; i++) {
		struct fault *fault = &world->faults[i];

		if (fault->changes > 0 && --fault->changes == 0) {
			sim_at_ns(world->sim, &fault->event,
				sim_now_ns(world->sim) + rng_below(&fault->rng, 4 * IO_NS_PER_MS),
				on_protocol_step);
		}
	}
}

/* Just after the serving nexus went on with something. */
static void fault_at_protocol_step(struct fault *fault)
{
	fault->changes = 1 + (unsigned)rng_below(&fault->rng, 12);
}

/* ---- power ---- */

static void fault_agent_power(struct fault *fault)
{
	agent_power_loss(draw_agent(fault), draw_duration_ns(&fault->rng));
}

static void fault_nexus_power(struct fault *fault)
{
	slot_power_loss(&fault->world->slots[fault->world->active], draw_duration_ns(&fault->rng));
}

static void fault_all_power(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = &fault->rng;
	uint64_t down_ns = draw_duration_ns(rng);

	for (unsigned i = 0; i < world->options.voters; i++) {
		agent_power_loss(&world->agents[i], down_ns + rng_below(rng, IO_NS_PER_S));
	}
}

/* ---- which, and when ---- */

static const struct fault_kind {
	const char *name;
	unsigned weight;
	void (*run)(struct fault *fault);
} kinds[] = {
	{"agent-crash", 14, fault_agent_crash},
	{"agent-power", 8, fault_agent_power},
	{"all-power", 3, fault_all_power},
	{"crash-at-write", 8, fault_crash_at_write},
	{"at-protocol-step", 10, fault_at_protocol_step},
	{"nexus-crash", 12, fault_nexus_crash},
	{"nexus-power", 3, fault_nexus_power},
	{"takeover", 6, fault_takeover},
	{"old-nexus-returns", 4, fault_old_nexus_returns},
	{"partition", 14, fault_partition},
	{"isolation", 9, fault_isolation},
	{"swizzle", 4, fault_swizzle},
	{"cut", 8, fault_cut},
	{"latency", 4, fault_latency},
	{"slow-link", 4, fault_slow_link},
	{"slow-connection", 5, fault_slow_connection},
	{"freeze", 8, fault_freeze},
	{"ejection", 4, fault_ejection},
	{"memory", 6, fault_memory},
	{"disk-error", 5, fault_disk_error},
	{"disk-slow", 7, fault_disk_slow},
	{"disk-stuck", 5, fault_disk_stuck},
	{"rot", 3, fault_rot},
	{"misdirected-write", 2, fault_misdirect},
	{"agent-stop", 6, fault_agent_stop},
	{"at-join", 8, fault_at_join},
	{"older-build", 5, fault_older_build},
};

static const struct fault_kind *draw_kind(struct fault *fault)
{
	uint64_t mask = fault->world->options.kind_mask;
	unsigned total = 0;
	uint64_t at;

	for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
		total += (mask >> i & 1) != 0 ? kinds[i].weight : 0;
	}
	at = rng_below(&fault->rng, total == 0 ? 1 : total);
	for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
		unsigned weight = (mask >> i & 1) != 0 ? kinds[i].weight : 0;

		if (at < weight) {
			return &kinds[i];
		}
		at -= weight;
	}
	return &kinds[0];
}

static void on_fault(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, event);
	const struct fault_kind *kind = draw_kind(fault);

	sim_trace(fault->world->sim, "fault %u: %s", fault->index, kind->name);
	kind->run(fault);
}

/* Some come in quick succession, as in the real world. */
void faults_schedule(struct world *world)
{
	struct rng rng;
	uint64_t start_ns = sim_now_ns(world->sim);
	uint64_t at_ns = 0;

	rot_start(world);
	rng_init(&rng, world->options.seed ^ UINT64_C(0xfa17));
	world->options.fault_count = min_u64(world->options.fault_count, FAULTS_MAX);
	for (unsigned i = 0; i < world->options.fault_count; i++) {
		struct fault *fault = &world->faults[i];

		fault->world = world;
		fault->index = i;
		rng_init(&fault->rng, rng_u64(&rng));
		if (i > 0 && rng_percent(&rng, 40)) {
			at_ns += rng_below(&rng, 400 * IO_NS_PER_MS);
		} else {
			at_ns = rng_below(&rng, world->options.duration_ns);
		}
		if ((world->options.fault_mask >> i & 1) != 0) {
			sim_at_ns(world->sim, &fault->event, start_ns + at_ns, on_fault);
		}
	}
}

void faults_end(struct world *world)
{
	struct sim_disk_faults none = {0};

	for (unsigned i = 0; i < world->options.fault_count; i++) {
		world->faults[i].changes = 0;
		world->faults[i].join = JOIN_FAULT_NONE;
		sim_cancel(world->sim, &world->faults[i].event);
		sim_cancel(world->sim, &world->faults[i].end);
	}
	rot_end(world);
	sim_heal_all(world->sim);
	sim_set_extra_latency(world->sim, 0);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (world->slots[i].process != NULL) {
			sim_process_fail_allocation(world->slots[i].process, 0);
			sim_process_freeze(world->slots[i].process, 0);
		}
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];

		sim_cancel(world->sim, &node->fault_end);
		if (node->process != NULL) {
			sim_process_fail_allocation(node->process, 0);
			sim_process_freeze(node->process, 0);
		}
		if (node->older) {
			node->older = false;
			agent_crash(node, 0);
		}
		node->disk_faulty = false;
		sim_disk_set_faults(node->disk, &none);
		sim_disk_at_write(node->disk, 0, NULL, NULL);
		sim_disk_misdirect(node->disk, 0, 0, 0);
	}
}
