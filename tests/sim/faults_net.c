/* SPDX-License-Identifier: Apache-2.0 */
/* Networks: partitions, delays, connections that break. */
#include "tests/sim/faults.h"

static void on_heal(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, end);

	sim_partition(fault->a, fault->b, false);
	if (fault->both) {
		sim_partition(fault->b, fault->a, false);
	}
}

/* Most are between a nexus and an agent: agents do not talk to each other. */
static bool draw_pair(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = &fault->rng;

	fault->a = draw_host(fault);
	fault->b = world->slots[world->active].host;
	if (fault->a == fault->b || rng_percent(rng, 20)) {
		fault->b = draw_host(fault);
	}
	if (rng_percent(rng, 50)) {
		struct sim_host *a = fault->a;

		fault->a = fault->b;
		fault->b = a;
	}
	return fault->a != fault->b;
}

void fault_partition(struct fault *fault)
{
	struct rng *rng = &fault->rng;

	if (!draw_pair(fault)) {
		return;
	}
	fault->both = rng_percent(rng, 50);
	fault->world->result->partitions++;
	sim_partition(fault->a, fault->b, true);
	if (fault->both) {
		sim_partition(fault->b, fault->a, true);
	}
	fault_ends_after(fault, draw_duration_ns(rng), on_heal);
}

static unsigned host_count(const struct world *world)
{
	return (unsigned)world->options.voters + SLOTS;
}

static struct sim_host *host_at(struct world *world, unsigned index)
{
	return index < world->options.voters ? world->agents[index].host
					     : world->slots[index - world->options.voters].host;
}

static void isolate(struct world *world, struct sim_host *host, bool out, bool in, bool blocked)
{
	for (unsigned i = 0; i < host_count(world); i++) {
		struct sim_host *other = host_at(world, i);

		if (other == host) {
			continue;
		}
		if (out) {
			sim_partition(host, other, blocked);
		}
		if (in) {
			sim_partition(other, host, blocked);
		}
	}
}

static void on_isolation_end(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, end);

	isolate(fault->world, fault->a, true, true, false);
}

/* A host that reaches nobody; often the one with the nexus, and then another node takes over while
 * the old nexus, perhaps with a replica beside it, lives on. */
void fault_isolation(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = &fault->rng;
	unsigned ways = (unsigned)rng_below(rng, 4);
	bool nexus = rng_percent(rng, 75);

	fault->a = nexus ? world->slots[world->active].host : draw_host(fault);
	world->result->partitions++;
	isolate(world, fault->a, ways != 1, ways != 2, true);
	fault_ends_after(fault, (1 + rng_below(rng, 12)) * IO_NS_PER_S, on_isolation_end);
	if (nexus && rng_percent(rng, 70)) {
		fault_take_over_after(fault, rng_below(rng, 3 * IO_NS_PER_S));
	}
}

static void on_swizzle(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, end);
	struct world *world = fault->world;
	struct rng *rng = &fault->rng;
	uint32_t *from = fault->step < fault->steps ? &fault->hosts : &fault->clogged;
	unsigned nth;

	if (*from == 0) {
		return;
	}
	nth = (unsigned)rng_below(rng, (unsigned)__builtin_popcount(*from));
	for (unsigned i = 0; i < host_count(world); i++) {
		if ((*from >> i & 1) != 0 && nth-- == 0) {
			fault->hosts &= ~(1u << i);
			fault->clogged ^= 1u << i;
			isolate(world, host_at(world, i), true, true,
				(fault->clogged >> i & 1) != 0);
			break;
		}
	}
	fault->step++;
	fault_ends_after(fault, rng_below(rng, 1500) * IO_NS_PER_MS, on_swizzle);
}

/* Some hosts lose the network one after the other, and get it back in another order. */
void fault_swizzle(struct fault *fault)
{
	struct rng *rng = &fault->rng;

	fault->hosts = (uint32_t)rng_below(rng, UINT64_C(1) << host_count(fault->world));
	fault->steps = (unsigned)__builtin_popcount(fault->hosts);
	fault->step = 0;
	fault->clogged = 0;
	fault->world->result->partitions += fault->steps;
	on_swizzle(&fault->end);
}

static void on_latency_end(struct sim_event *event)
{
	sim_set_extra_latency(container_of(event, struct fault, end)->world->sim, 0);
}

void fault_latency(struct fault *fault)
{
	struct rng *rng = &fault->rng;

	sim_set_extra_latency(fault->world->sim, (1 + rng_below(rng, 400)) * IO_NS_PER_MS);
	fault_ends_after(fault, draw_duration_ns(rng), on_latency_end);
}

static void on_slow_link_end(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, end);

	sim_set_slow_link(fault->a, fault->b, 0);
}

void fault_slow_link(struct fault *fault)
{
	struct rng *rng = &fault->rng;

	if (draw_pair(fault)) {
		sim_set_slow_link(fault->a, fault->b,
			(1 + rng_below(rng, rng_percent(rng, 50) ? 50 : 1500)) * IO_NS_PER_MS);
		fault_ends_after(fault, draw_duration_ns(rng), on_slow_link_end);
	}
}

/* What was sent on it arrives after what is sent later on its successor. */
void fault_slow_connection(struct fault *fault)
{
	struct rng *rng = &fault->rng;

	(void)sim_slow_random_connection(fault->world->sim,
		(1 + rng_below(rng, 2500)) * IO_NS_PER_MS,
		sim_now_ns(fault->world->sim) + draw_duration_ns(rng));
}

/* At any byte of what is under way, or of what follows. */
void fault_cut(struct fault *fault)
{
	struct sim *sim = fault->world->sim;

	if (rng_percent(&fault->rng, 50)) {
		(void)sim_cut_random_connection(sim);
	} else {
		(void)sim_cut_random_connection_after(sim, rng_below(&fault->rng, 100000));
	}
}
