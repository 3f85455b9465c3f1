/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Liveness with a minority away, and how much a rebuild may copy.
 *
 * When the faults stop, a chosen set of agents stays down.  If the others are a majority that has a
 * usable member of the last configuration, and data replicas enough for min_insync, the volume must
 * write, flush and read within LIVE_NS of virtual time: the agents' start, two rounds of opening
 * (5 s with a replica that is busy, 1 s between them), the opener's wait (3.15 s), and the rebuild
 * of a small replica.
 */
#include "nexus/mirror/volume_internal.h"
#include "tests/sim/world.h"

#define LIVE_NS (30 * IO_NS_PER_S)

static bool is_down(uint32_t down, unsigned agent)
{
	return (down >> agent & 1) != 0;
}

/* The highest configuration that an opener will find. */
static const struct cfg *last_cfg(const struct world *world, uint32_t down)
{
	const struct cfg *last = NULL;

	for (unsigned i = 0; i < world->options.voters; i++) {
		const struct cfg *cfg = &world->agents[i].seen.cfg;

		if (!is_down(down, i) && world->agents[i].has_replica && cfg->gen != 0 &&
			cfg->lineage == world->lineage &&
			(last == NULL || cfg_compare(cfg, last) > 0)) {
			last = cfg;
		}
	}
	return last;
}

static bool is_usable_member(const struct node_agent *node, const struct cfg *cfg)
{
	int at = cfg_find(cfg, &node->replica_id);

	return at >= 0 && node->has_replica && cfg->voters[at].insync && !node->seen.rebuilding &&
	       cfg->voters[at].power == sim_disk_power(node->disk);
}

/* A nexus that lives may have proposed, or be about to, an S of those that it still counts on. */
static bool nexus_can_go_on(const struct world *world, const struct slot *slot, uint32_t down)
{
	const struct volume *volume = slot->process != NULL ? slot->volume : NULL;
	bool member = false, proposed = false;
	unsigned votes = 0;

	if (volume == NULL || (!volume->committed && !volume->proposal_open)) {
		return true;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		int at = cfg_find(&volume->proposal, &leg->voter.replica);
		int agent = world_agent_index(world, &leg->voter.replica);

		votes += at >= 0 && agent >= 0 && !is_down(down, (unsigned)agent);
		if (agent < 0 || is_down(down, (unsigned)agent) || leg->power_lost ||
			leg->vmeta_rebuilding) {
			continue;
		}
		member = member || ((volume->member_mask & LEG_BIT(leg)) && !leg->out);
		proposed = proposed || (at >= 0 && volume->proposal.voters[at].insync);
	}
	/* What was overtaken counts on nobody any more, but its last proposal may be on its way. */
	return (member || !volume->committed || slot->index != world->active) &&
	       (!volume->proposal_open || (proposed && votes >= cfg_majority(&volume->proposal)));
}

static bool all_can_go_on(const struct world *world, uint32_t down)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (!nexus_can_go_on(world, &world->slots[i], down)) {
			return false;
		}
	}
	return true;
}

/* The volume's rule (nexus/nexus.h); the most that it can be, as it may be opened anew. */
static uint64_t least_insync(const struct world *world, const struct cfg *cfg)
{
	uint64_t data = 0;

	for (unsigned i = 0; i < cfg->voter_count; i++) {
		data += cfg->voters[i].kind == VOTER_DATA;
	}
	if (world->options.min_insync != 0) {
		return min_u64(world->options.min_insync, data);
	}
	return world->options.data_replicas <= 2 && !world->options.voter_changes
		       ? 1
		       : min_u64(2, data);
}

static bool is_tolerated(const struct world *world, uint32_t down)
{
	const struct cfg *cfg = last_cfg(world, down);
	const struct cfg *committed = chain_last(world);
	unsigned up = 0, up_before = 0, data = 0, members = 0;
	bool is_told = committed == NULL; /* by one whose place every opener knows */

	for (unsigned i = 0; cfg != NULL && i < world->options.voters; i++) {
		const struct node_agent *node = &world->agents[i];
		int at = cfg_find(cfg, &node->replica_id);

		/* A newcomer accepts alone at first, and who opens next may not know its place. */
		if (committed != NULL && node->has_replica && !is_down(down, i) &&
			cfg_find(committed, &node->replica_id) >= 0) {
			up_before++;
			is_told = is_told || cfg_compare(&node->seen.cfg, cfg) == 0;
		}
		if (at >= 0 && node->has_replica && !is_down(down, i)) {
			up++;
			/* Who is only proposed as a voter may have to wait for who is down. */
			data += cfg->voters[at].kind == VOTER_DATA && committed != NULL &&
				cfg_find(committed, &node->replica_id) >= 0;
			members += is_usable_member(node, cfg);
		}
	}
	return cfg != NULL && up >= cfg_majority(cfg) &&
	       (is_told || up_before >= cfg_majority(committed)) &&
	       data >= least_insync(world, cfg) && members > 0 && all_can_go_on(world, down);
}

static uint32_t choose_down(struct world *world)
{
	struct rng *rng = sim_rng(world->sim);
	uint32_t down = 0;

	for (unsigned i = 0; i < 20; i++) {
		down = 0;
		while ((unsigned)__builtin_popcount(down) < world->options.down_at_end) {
			down |= 1u << rng_below(rng, world->options.voters);
		}
		if (is_tolerated(world, down)) {
			return down;
		}
	}
	return 0;
}

static void begin(struct world *world, uint32_t down)
{
	struct slot *active = &world->slots[world->active];

	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];

		if (is_down(down, i)) {
			agent_crash(node, 0);
			sim_cancel(world->sim, &node->restart);
			sim_trace(world->sim, "%s stays down", node->name);
		} else if (node->state != AGENT_UP) {
			agent_restart_after(node, 0);
		}
	}
	if (active->process == NULL) {
		slot_restart_after(active, 0);
	}
}

static void on_live_op(struct op *op)
{
	struct world *world = op->slot->world;

	world->final_done++;
	world->final_errors += op->req.result != 0;
}

/* A write, and when it is there a flush and a read; again after an error (a Faulted volume is
 * opened anew). */
static void try_once(struct world *world, size_t block)
{
	static const enum blk_kind steps[] = {BLK_WRITE, BLK_FLUSH, BLK_READ};
	struct slot *active = &world->slots[world->active];

	if (world->final_errors > 0) {
		world->final_done = world->final_issued = world->final_errors = 0;
	}
	if (active->volume == NULL || world->final_done < world->final_issued ||
		world->final_done == ARRAY_COUNT(steps)) {
		return;
	}
	(void)slot_submit(active, steps[world->final_done],
		steps[world->final_done] == BLK_FLUSH ? 0 : block,
		steps[world->final_done] == BLK_FLUSH ? 0 : 1, on_live_op);
	world->final_issued++;
}

static bool has_served(const struct world *world)
{
	return world->final_done == 3 && world->final_errors == 0;
}

void live_with_minority_down(struct world *world)
{
	uint32_t down = choose_down(world);
	uint64_t start_ns = sim_now_ns(world->sim);
	size_t block = rng_below(sim_rng(world->sim), world->options.start_blocks);
	struct volume_status status = {0};

	if (down == 0 || world->options.small_agent != -1) {
		return;
	}
	begin(world, down);
	world->final_done = world->final_issued = world->final_errors = 0;
	while (!world->failed && sim_now_ns(world->sim) < start_ns + LIVE_NS &&
		!has_served(world)) {
		/* A nexus that went took the request along. */
		if (world->slots[world->active].in_flight == 0) {
			world->final_issued = world->final_done;
		}
		try_once(world, block);
		sim_run_for_ns(world->sim, 10 * IO_NS_PER_MS);
	}
	if (!world->failed && !has_served(world)) {
		char text[CFG_TEXT_SIZE];

		(void)slot_status(&world->slots[world->active], &status);
		world_fail(world, &world->result->stuck, "liveness",
			"does not serve with a tolerated minority down (mask %x): %s (%s), %s",
			down, volume_state_name(status.state), status.reason,
			cfg_to_text(&status.cfg, text));
	}
	world->result->live_ns = max_u64(world->result->live_ns, sim_now_ns(world->sim) - start_ns);
}

/* ---- rebuild traffic ---- */

static unsigned index_of_source(const struct world *world, unsigned target)
{
	for (unsigned i = 0; i < world->options.data_replicas; i++) {
		if (i != target && world->agents[i].state == AGENT_UP) {
			return i;
		}
	}
	return target;
}

uint64_t live_rebuild_bound(const struct world *world, unsigned agent, uint64_t clean)
{
	const struct node_agent *node = &world->agents[agent];
	const struct node_agent *source = &world->agents[index_of_source(world, agent)];
	uint64_t regions = 0;

	for (uint64_t i = 0; i < store_replica_region_count(node->replica); i++) {
		regions += store_replica_stamp(node->replica, i) > clean ||
			   (i < store_replica_region_count(source->replica) &&
				   store_replica_stamp(source->replica, i) > clean);
	}
	return regions * world->options.region_bytes;
}
