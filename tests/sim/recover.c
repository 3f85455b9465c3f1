/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forced recovery, as an operator does it (docs/protocol.md 1.12): the host's node is told to give
 * the volume up, who is reached of the old lineage is fenced, one replica becomes the volume, and a
 * node opens it with a new attach number.  What the replica holds at that moment is what the volume
 * holds from then on; the oracle learns it by reading the replica behind the agent's back.  Those
 * of the old lineage come back, are tried to be added as they are, and are deleted at last; a nexus
 * that was overtaken may go on with them.
 */
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NS     (10 * IO_NS_PER_MS)
#define AWAY_NS     (12 * IO_NS_PER_S)
#define FINISH_NS   (120 * IO_NS_PER_S)
#define READ_BYTES  ((uint64_t)ORACLE_BLOCK_BYTES)
#define RETRY_LATER (300 * IO_NS_PER_MS)

void recovery_draw(struct world_options *options, struct rng *rng)
{
	options->recover = options->voter_changes != 0 && rng_percent(rng, 60);
}

bool recovery_is_under_way(const struct world *world)
{
	return world->recovery.state != RECOVERY_NONE;
}

bool recovery_overtook(const struct world *world, unsigned order)
{
	return order < world->recovery.order;
}

bool recovery_left_behind(const struct node_agent *node)
{
	const struct cfg *cfg = &node->seen.cfg;

	return node->world->recovery.done && node->has_replica && cfg->gen != 0 &&
	       cfg->lineage != node->world->lineage;
}

static void on_recovery(struct sim_event *event);

static void look_again(struct world *world, uint64_t delay_ns)
{
	sim_at_ns(
		world->sim, &world->recovery.event, sim_now_ns(world->sim) + delay_ns, on_recovery);
}

/* ---- who ---- */

static bool is_of_the_volume(const struct node_agent *node)
{
	return agent_has_replica_now(node) && !store_replica_abstains(node->replica) &&
	       store_replica_vmeta(node->replica)->cfg.gen != 0 &&
	       store_replica_vmeta(node->replica)->cfg.lineage == node->world->lineage;
}

/* Of the last configuration all but this one are lost, or those who were in sync. */
static void lose_the_others(struct world *world, const struct node_agent *chosen)
{
	const struct cfg *last = chain_last(world);
	int at = cfg_find(last, &chosen->replica_id);
	bool all = (at >= 0 && last->voters[at].insync) || rng_percent(sim_rng(world->sim), 50);

	for (unsigned i = 0; i < last->voter_count; i++) {
		struct node_agent *node = agent_of_replica(world, &last->voters[i].id);

		if (node != NULL && node != chosen && (all || last->voters[i].insync)) {
			node->lost_until_ns =
				sim_now_ns(world->sim) + rng_below(sim_rng(world->sim), AWAY_NS);
			agent_crash(node, 0);
		}
	}
}

/* A replica that is in sync, too: the others that are lost may be the majority. */
static struct node_agent *choose(struct world *world)
{
	const struct cfg *last = chain_last(world);
	uint64_t from = rng_below(sim_rng(world->sim), world->options.voters);

	if (last == NULL || last->voter_count < 2 || last->lineage != world->lineage) {
		return NULL;
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[(from + i) % world->options.voters];

		if (is_of_the_volume(node) && node->kind == VOTER_DATA) {
			return node;
		}
	}
	return NULL;
}

/* ---- step by step ---- */

static void on_fenced(struct agent_change *change)
{
	*(bool *)change->ctx = true;
}

static void fence_others(struct world *world)
{
	struct recovery *recovery = &world->recovery;

	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];
		struct agent_fencing *fencing = &recovery->fencings[i];

		recovery->fenced[i] = node == recovery->node || !is_of_the_volume(node) ||
				      (recovery->unreached >> i & 1) != 0;
		if (!recovery->fenced[i]) {
			const struct vmeta *vmeta = store_replica_vmeta(node->replica);

			recovery->wgen = max_u64(recovery->wgen, vmeta->cfg.wgen);
			*fencing = (struct agent_fencing){
				.change = {.done = on_fenced, .ctx = &recovery->fenced[i]},
				.epoch = {recovery->attach, 0, recovery->lineage},
			};
			agent_replica_fence(node->agent, node->replica, fencing);
		}
	}
}

static bool others_are_fenced(const struct world *world)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		if (!world->recovery.fenced[i]) {
			return false;
		}
	}
	return true;
}

void recovery_start(struct world *world, struct node_agent *node)
{
	struct recovery *recovery = &world->recovery;
	struct slot *active = &world->slots[world->active];

	sim_trace(world->sim, "operator: %s becomes the volume", node->name);
	if (!recovery->lives_on) {
		slot_stop_issuing(active);
		slot_crash(active, false);
		sim_cancel(world->sim, &active->restart);
	}
	world->adding = world->leaving = NULL;
	recovery->node = node;
	recovery->lineage = rng_u64(sim_rng(world->sim)) | 1;
	recovery->attach = world->attach_last + 1;
	recovery->answered = false;
	recovery->starts = 0;
	recovery->state = RECOVERY_FENCING;
	fence_others(world);
	look_again(world, TICK_NS);
}

static void on_written(struct agent_change *change)
{
	((struct recovery *)change->ctx)->answered = true;
}

/* Again, with the same lineage, when the agent has died. */
static void ask(struct recovery *recovery)
{
	struct node_agent *node = recovery->node;

	recovery->starts = node->starts;
	recovery->answered = false;
	recovery->request = (struct agent_recovery){
		.change = {.done = on_written, .ctx = recovery},
		.lineage = recovery->lineage,
		.attach = recovery->attach,
		.wgen = recovery->wgen,
		.half_rebuilt = true,
	};
	agent_replica_recover(node->agent, node->replica, &recovery->request);
}

/* From here on the volume is this, wherever it is opened. */
static void take_over(struct world *world)
{
	struct recovery *recovery = &world->recovery;
	struct node_agent *node = recovery->node;
	const struct cfg *cfg = &node->seen.cfg;

	chain_recovered(world, cfg);
	snapshots_recovered(world, cfg);
	world->lineage = recovery->lineage;
	world->attach_last = (uint32_t)max_u64(world->attach_last, recovery->request.attach);
	world->seen_bytes = cfg->size_bytes;
	recovery->order = world->attach_last << 16;
	node->cfg = *cfg;
	node->counted_power = cfg->voters[0].power;
	sim_cancel(world->sim, &world->api_saved);
	world->api = (struct places){.cfg = *cfg, .size_bytes = cfg->size_bytes, .count = 1};
	world->api.voters[0] = agent_place(node, &world->slots[world->active]);
	world->api_next = world->api;
	recovery->io = (struct store_io){.kind = STORE_READ, .length = READ_BYTES};
	recovery->state = RECOVERY_READING;
	recovery->answered = true;
	recovery->starts = node->starts;
	if (recovery->buffer == NULL) {
		recovery->buffer = aligned_alloc(ORACLE_BLOCK_BYTES, ORACLE_BLOCK_BYTES);
		assert(recovery->buffer != NULL);
	}
}

static void on_read(struct store_io *io)
{
	((struct recovery *)io->ctx)->answered = true;
}

static void read_block(struct recovery *recovery)
{
	uint64_t offset = recovery->io.offset;

	recovery->starts = recovery->node->starts;
	recovery->answered = false;
	recovery->iov = (struct iovec){recovery->buffer, READ_BYTES};
	recovery->io = (struct store_io){
		.kind = STORE_READ,
		.offset = offset,
		.length = READ_BYTES,
		.iov = &recovery->iov,
		.iov_count = 1,
		.result = -EIO,
		.done = on_read,
		.ctx = recovery,
	};
	store_submit(recovery->node->replica, &recovery->io);
}

static void learn_block(struct world *world, size_t block, const uint8_t *data)
{
	if (oracle_recovered(&world->oracle, block, data, world->recovery.order) != ORACLE_FINE) {
		world_fail(world, &world->result->lost, "recovered", "%s", world->oracle.reason);
	}
}

/* What the volume grows by is zeros. */
static void learn_the_rest(struct world *world, size_t block)
{
	memset(world->recovery.buffer, 0, ORACLE_BLOCK_BYTES);
	for (; block < world->options.block_count; block++) {
		learn_block(world, block, world->recovery.buffer);
	}
}

static void finish(struct world *world)
{
	struct recovery *recovery = &world->recovery;

	learn_the_rest(world, recovery->io.offset / ORACLE_BLOCK_BYTES);
	recovery->state = RECOVERY_NONE;
	recovery->done = true;
	sim_trace(world->sim, "operator: %s is the volume", recovery->node->name);
	if (world->options.recover) {
		slot_takeover(world);
	}
	if (world->healing) {
		slot_stop_issuing(&world->slots[world->active]);
	}
}

/* Its metadata got unreadable meanwhile: those who were thought to be lost come back after all. */
static void give_up(struct world *world)
{
	sim_trace(world->sim, "operator: %s is of no use either", world->recovery.node->name);
	world->recovery.state = RECOVERY_NONE;
	slot_takeover(world);
}

static void go_on_writing(struct world *world)
{
	struct recovery *recovery = &world->recovery;
	struct node_agent *node = recovery->node;
	bool is_same = recovery->starts == node->starts;

	if (!agent_has_replica_now(node)) {
		if (node->state == AGENT_UP && node->may_abstain) {
			give_up(world);
		}
		return;
	}
	if (store_replica_abstains(node->replica)) {
		give_up(world);
	} else if (!is_same || (recovery->answered && recovery->request.change.result != 0)) {
		ask(recovery);
	} else if (recovery->answered) {
		take_over(world);
	}
}

/* Marked, by a rebuild that it was in the middle of: nothing is to be learned, a read of it ends in
 * an error until it is written. */
static bool is_lost(const struct node_agent *node)
{
	const struct marks *marks = &store_replica_vmeta(node->replica)->marks;

	return marks_touch(marks, node->world->recovery.io.offset / ORACLE_BLOCK_BYTES,
		READ_BYTES / ORACLE_BLOCK_BYTES);
}

/* As fast as it goes; an agent that dies in between holds the same afterwards. */
static void go_on_reading(struct world *world)
{
	struct recovery *recovery = &world->recovery;
	struct node_agent *node = recovery->node;
	bool is_same = recovery->starts == node->starts;

	if (!agent_has_replica_now(node) || (is_same && !recovery->answered)) {
		return;
	}
	if (is_same && recovery->io.iov_count == 1 && (recovery->io.result == 0 || is_lost(node))) {
		if (recovery->io.result == 0) {
			learn_block(
				world, recovery->io.offset / ORACLE_BLOCK_BYTES, recovery->buffer);
		}
		recovery->io.offset += READ_BYTES;
		recovery->io.iov_count = 0;
	}
	if (recovery->io.offset >= world->api.size_bytes) {
		finish(world);
	} else {
		read_block(recovery);
	}
}

static void on_recovery(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, recovery.event);
	struct recovery *recovery = &world->recovery;
	struct node_agent *node;
	uint64_t delay_ns = TICK_NS;

	switch (recovery->state) {
	case RECOVERY_NONE:
		node = world->healing ? NULL : choose(world);
		if (node != NULL) {
			lose_the_others(world, node);
			recovery->lives_on = rng_percent(sim_rng(world->sim), 30);
			recovery->unreached = (uint32_t)(rng_u64(sim_rng(world->sim)) &
							 rng_u64(sim_rng(world->sim)));
			recovery_start(world, node);
			return;
		}
		delay_ns = RETRY_LATER;
		break;
	case RECOVERY_FENCING:
		/* Who does not answer is as good as not there. */
		if (others_are_fenced(world) || rng_percent(sim_rng(world->sim), 3)) {
			recovery->state = RECOVERY_WRITING;
		}
		break;
	case RECOVERY_WRITING:
		go_on_writing(world);
		break;
	case RECOVERY_READING:
		delay_ns = IO_NS_PER_MS;
		go_on_reading(world);
		break;
	}
	if (recovery_is_under_way(world) || (!recovery->done && !world->healing)) {
		look_again(world, delay_ns);
	}
}

void recovery_schedule(struct world *world)
{
	uint64_t second = IO_NS_PER_S;

	if (world->options.recover) {
		look_again(world, second + rng_below(sim_rng(world->sim),
						   world->options.duration_ns * 3 / 4));
	}
}

static bool is_over(void *ctx)
{
	const struct world *world = ctx;

	return !recovery_is_under_way(world) || world->failed;
}

void recovery_end(struct world *world)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		world->agents[i].lost_until_ns = 0;
	}
	if (recovery_is_under_way(world) && !sim_run_until(world->sim, is_over, world, FINISH_NS)) {
		world_fail(world, &world->result->stuck, "recovery", "it does not end");
	}
	sim_cancel(world->sim, &world->recovery.event);
}
