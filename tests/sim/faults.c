/* SPDX-License-Identifier: Apache-2.0 */
/* Faults at random moments. */
#include "tests/sim/world.h"

enum fault_kind {
	FAULT_AGENT_CRASH,
	FAULT_AGENT_POWER,
	FAULT_ALL_POWER,
	FAULT_NEXUS_CRASH,
	FAULT_NEXUS_POWER,
	FAULT_TAKEOVER,
	FAULT_OLD_NEXUS_RETURNS,
	FAULT_PARTITION,
	FAULT_ISOLATION,
	FAULT_CUT,
	FAULT_LATENCY,
	FAULT_FREEZE,
	FAULT_DISK_ERROR,
	FAULT_DISK_SLOW,
	FAULT_DISK_STUCK,
	FAULT_MEMORY,
	FAULT_KINDS,
};

static const unsigned weights[FAULT_KINDS] = {
	[FAULT_AGENT_CRASH] = 16,
	[FAULT_AGENT_POWER] = 10,
	[FAULT_ALL_POWER] = 3,
	[FAULT_NEXUS_CRASH] = 12,
	[FAULT_NEXUS_POWER] = 3,
	[FAULT_TAKEOVER] = 6,
	[FAULT_OLD_NEXUS_RETURNS] = 3,
	[FAULT_PARTITION] = 18,
	[FAULT_ISOLATION] = 7,
	[FAULT_CUT] = 8,
	[FAULT_LATENCY] = 5,
	[FAULT_FREEZE] = 8,
	[FAULT_DISK_ERROR] = 5,
	[FAULT_DISK_SLOW] = 4,
	[FAULT_DISK_STUCK] = 4,
	[FAULT_MEMORY] = 6,
};

static enum fault_kind draw_kind(struct rng *rng)
{
	unsigned total = 0;
	uint64_t at;

	for (unsigned i = 0; i < FAULT_KINDS; i++) {
		total += weights[i];
	}
	at = rng_below(rng, total);
	for (unsigned i = 0; i < FAULT_KINDS; i++) {
		if (at < weights[i]) {
			return (enum fault_kind)i;
		}
		at -= weights[i];
	}
	return FAULT_PARTITION;
}

/* Mostly short; now and then longer than every time-out. */
static uint64_t draw_duration_ns(struct rng *rng)
{
	uint64_t limit_ms = rng_percent(rng, 60) ? 1500 : 7000;

	return (10 + rng_below(rng, limit_ms)) * IO_NS_PER_MS;
}

static struct node_agent *draw_agent(struct world *world)
{
	return &world->agents[rng_below(sim_rng(world->sim), world->options.voters)];
}

static struct sim_host *draw_host(struct world *world)
{
	uint64_t at = rng_below(sim_rng(world->sim), world->options.voters + SLOTS);

	return at < world->options.voters ? world->agents[at].host
					  : world->slots[at - world->options.voters].host;
}

static void on_fault(struct sim_event *event);

static void on_heal(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, end);

	sim_partition(fault->a, fault->b, false);
	if (fault->both) {
		sim_partition(fault->b, fault->a, false);
	}
}

static void fault_partition(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = sim_rng(world->sim);

	/* Most are between a nexus and an agent: agents do not talk to each other. */
	fault->a = draw_host(world);
	fault->b = world->slots[world->active].host;
	if (fault->a == fault->b || rng_percent(rng, 20)) {
		fault->b = draw_host(world);
	}
	if (fault->a == fault->b) {
		return;
	}
	if (rng_percent(rng, 50)) {
		struct sim_host *a = fault->a;

		fault->a = fault->b;
		fault->b = a;
	}
	fault->both = rng_percent(rng, 50);
	world->result->partitions++;
	sim_partition(fault->a, fault->b, true);
	if (fault->both) {
		sim_partition(fault->b, fault->a, true);
	}
	sim_at_ns(world->sim, &fault->end, sim_now_ns(world->sim) + draw_duration_ns(rng), on_heal);
}

static void isolate(struct world *world, struct sim_host *host, bool out, bool in, bool blocked)
{
	for (unsigned i = 0; i < world->options.voters + SLOTS; i++) {
		struct sim_host *other = i < world->options.voters
						 ? world->agents[i].host
						 : world->slots[i - world->options.voters].host;

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
static void fault_isolation(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = sim_rng(world->sim);
	unsigned ways = (unsigned)rng_below(rng, 4);
	bool nexus = rng_percent(rng, 60);

	fault->a = nexus ? world->slots[world->active].host : draw_host(world);
	world->result->partitions++;
	isolate(world, fault->a, ways != 1, ways != 2, true);
	sim_at_ns(world->sim, &fault->end,
		sim_now_ns(world->sim) + (1 + rng_below(rng, 12)) * IO_NS_PER_S, on_isolation_end);
	if (nexus && rng_percent(rng, 50)) {
		fault->takes_over = true;
		sim_at_ns(world->sim, &fault->event,
			sim_now_ns(world->sim) + rng_below(rng, 4 * IO_NS_PER_S), on_fault);
	}
}

static void on_latency_end(struct sim_event *event)
{
	sim_set_extra_latency(container_of(event, struct fault, end)->world->sim, 0);
}

static void fault_latency(struct fault *fault)
{
	struct world *world = fault->world;
	struct rng *rng = sim_rng(world->sim);

	sim_set_extra_latency(world->sim, (1 + rng_below(rng, 400)) * IO_NS_PER_MS);
	sim_at_ns(world->sim, &fault->end, sim_now_ns(world->sim) + draw_duration_ns(rng),
		on_latency_end);
}

static void on_disk_end(struct sim_event *event)
{
	struct node_agent *node = container_of(event, struct node_agent, fault_end);
	struct sim_disk_faults none = {0};

	node->disk_faulty = false;
	sim_disk_set_faults(node->disk, &none);
}

static void fault_disk(struct world *world, enum fault_kind kind)
{
	struct rng *rng = sim_rng(world->sim);
	struct node_agent *node = draw_agent(world);
	struct sim_disk_faults faults = {0};

	if (kind == FAULT_DISK_SLOW) {
		faults.slow_percent = 10 + (unsigned)rng_below(rng, 90);
		faults.slow_max_ns = (1 + rng_below(rng, 800)) * IO_NS_PER_MS;
	} else if (kind == FAULT_DISK_STUCK) {
		faults.stuck = true;
	} else if (rng_percent(rng, 50)) {
		faults.fail_nth = 1 + rng_below(rng, 40);
	} else {
		faults.read_error_percent = (unsigned)rng_below(rng, 10);
		faults.write_error_percent = (unsigned)rng_below(rng, 10);
		faults.flush_error_percent = (unsigned)rng_below(rng, 10);
	}
	node->disk_faulty = kind == FAULT_DISK_ERROR;
	sim_disk_set_faults(node->disk, &faults);
	sim_at_ns(world->sim, &node->fault_end, sim_now_ns(world->sim) + draw_duration_ns(rng),
		on_disk_end);
}

static void fault_freeze(struct world *world)
{
	struct rng *rng = sim_rng(world->sim);
	struct sim_process *process = rng_percent(rng, 50) ? draw_agent(world)->process
							   : world->slots[world->active].process;

	if (process != NULL) {
		sim_process_freeze(process, draw_duration_ns(rng));
	}
}

/* The n-th allocation of a process from now on fails. */
static void fault_memory(struct world *world)
{
	struct rng *rng = sim_rng(world->sim);
	struct sim_process *process = rng_percent(rng, 50) ? draw_agent(world)->process
							   : world->slots[world->active].process;

	if (process != NULL) {
		sim_process_fail_allocation(process, 1 + rng_below(rng, 30));
	}
}

static void fault_all_power(struct world *world)
{
	struct rng *rng = sim_rng(world->sim);
	uint64_t down_ns = draw_duration_ns(rng);

	for (unsigned i = 0; i < world->options.voters; i++) {
		agent_power_loss(&world->agents[i], down_ns + rng_below(rng, IO_NS_PER_S));
	}
}

static void fault_nexus(struct world *world, enum fault_kind kind)
{
	struct rng *rng = sim_rng(world->sim);
	struct slot *active = &world->slots[world->active];
	struct slot *other = &world->slots[1 - world->active];

	if (kind == FAULT_TAKEOVER) {
		slot_takeover(world);
	} else if (kind == FAULT_NEXUS_POWER) {
		slot_power_loss(active, draw_duration_ns(rng));
	} else if (kind == FAULT_OLD_NEXUS_RETURNS) {
		/* It was taken over; it must notice, whatever it remembers. */
		if (other->attach != 0) {
			slot_crash(other, rng_percent(rng, 50));
			slot_restart_after(other, rng_below(rng, IO_NS_PER_S));
		}
	} else {
		slot_crash(active, rng_percent(rng, 50));
		slot_restart_after(active, rng_below(rng, rng_percent(rng, 70) ? 200 * IO_NS_PER_MS
									       : 3 * IO_NS_PER_S));
	}
}

static void on_fault(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, event);
	struct world *world = fault->world;
	struct rng *rng = sim_rng(world->sim);
	enum fault_kind kind = fault->takes_over ? FAULT_TAKEOVER : draw_kind(rng);

	switch (kind) {
	case FAULT_AGENT_CRASH:
		agent_crash(draw_agent(world), draw_duration_ns(rng));
		return;
	case FAULT_AGENT_POWER:
		agent_power_loss(draw_agent(world), draw_duration_ns(rng));
		return;
	case FAULT_ALL_POWER:
		fault_all_power(world);
		return;
	case FAULT_NEXUS_CRASH:
	case FAULT_NEXUS_POWER:
	case FAULT_TAKEOVER:
	case FAULT_OLD_NEXUS_RETURNS:
		fault_nexus(world, kind);
		return;
	case FAULT_PARTITION:
		fault_partition(fault);
		return;
	case FAULT_ISOLATION:
		fault_isolation(fault);
		return;
	case FAULT_CUT:
		(void)sim_cut_random_connection(world->sim);
		return;
	case FAULT_LATENCY:
		fault_latency(fault);
		return;
	case FAULT_FREEZE:
		fault_freeze(world);
		return;
	case FAULT_DISK_ERROR:
	case FAULT_DISK_SLOW:
	case FAULT_DISK_STUCK:
		fault_disk(world, kind);
		return;
	case FAULT_MEMORY:
		fault_memory(world);
		return;
	case FAULT_KINDS:
		return;
	}
}

/* Some come in quick succession, as in the real world. */
void faults_schedule(struct world *world)
{
	struct rng *rng = sim_rng(world->sim);
	uint64_t start_ns = sim_now_ns(world->sim);
	uint64_t at_ns = 0;

	rot_start(world);
	for (unsigned i = 0; i < world->options.fault_count; i++) {
		struct fault *fault = &world->faults[i];

		fault->world = world;
		if (i > 0 && rng_percent(rng, 40)) {
			at_ns += rng_below(rng, 400 * IO_NS_PER_MS);
		} else {
			at_ns = rng_below(rng, world->options.duration_ns);
		}
		sim_at_ns(world->sim, &fault->event, start_ns + at_ns, on_fault);
	}
}

void faults_end(struct world *world)
{
	struct sim_disk_faults none = {0};

	for (unsigned i = 0; i < world->options.fault_count; i++) {
		sim_cancel(world->sim, &world->faults[i].event);
		sim_cancel(world->sim, &world->faults[i].end);
	}
	rot_end(world);
	sim_heal_all(world->sim);
	sim_set_extra_latency(world->sim, 0);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (world->slots[i].process != NULL) {
			sim_process_fail_allocation(world->slots[i].process, 0);
		}
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		sim_cancel(world->sim, &world->agents[i].fault_end);
		if (world->agents[i].process != NULL) {
			sim_process_fail_allocation(world->agents[i].process, 0);
		}
		world->agents[i].disk_faulty = false;
		sim_disk_set_faults(world->agents[i].disk, &none);
	}
}
