/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After the faults: everything comes back, the volume must serve and get whole within a bounded
 * time, what it holds must be what the oracle allows, and all replicas must be equal.
 */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"
#include "tests/sim/cluster.h"

#include <stdlib.h>
#include <string.h>

#define WHOLE_NS    (120 * IO_NS_PER_S)
#define SLICE_NS    (20 * IO_NS_PER_MS)
#define READ_BLOCKS 16

static struct slot *active_slot(struct world *world)
{
	return &world->slots[world->active];
}

bool run_slices_for(struct world *world, bool (*is_done)(struct world *world), const char *what,
	uint64_t limit_ns)
{
	uint64_t end_ns = sim_now_ns(world->sim) + limit_ns;
	struct volume_status status = {0};

	while (!world->failed && sim_now_ns(world->sim) < end_ns) {
		if (is_done(world)) {
			return true;
		}
		sim_run_for_ns(world->sim, SLICE_NS);
	}
	if (!world->failed) {
		char text[CFG_TEXT_SIZE];

		(void)slot_status(active_slot(world), &status);
		world_fail(world, &world->result->stuck, "liveness",
			"%s takes too long: %s (%s), %s, %lu in flight, %lu regions to resync",
			what, volume_state_name(status.state), status.reason,
			cfg_to_text(&status.cfg, text), (unsigned long)status.in_flight,
			(unsigned long)status.resync_regions);
	}
	return false;
}

/* A failure when it takes too long. */
static bool run_slices(struct world *world, bool (*is_done)(struct world *world), const char *what)
{
	return run_slices_for(world, is_done, what, WHOLE_NS);
}

bool nothing_in_flight(struct world *world)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (world->slots[i].in_flight != 0) {
			return false;
		}
	}
	return true;
}

static bool may_lack(const struct world *world, unsigned index)
{
	/* With all pools full a rebuild may find no room: what is to be discarded comes too late.
	 */
	return (int)index == world->options.small_agent || world->options.small_agent == -2;
}

bool is_whole(struct world *world)
{
	struct volume_status status;

	if (!slot_status(active_slot(world), &status)) {
		return false;
	}
	if (status.state != VOLUME_ONLINE && status.state != VOLUME_DEGRADED) {
		return false;
	}
	for (unsigned i = 0; i < status.cfg.voter_count; i++) {
		const struct cfg_voter *voter = &status.cfg.voters[i];
		const struct node_agent *node = agent_of_replica(world, &voter->id);

		if (node == NULL || (voter->kind == VOTER_DATA && !voter->insync &&
					    !may_lack(world, node->index))) {
			return false;
		}
	}
	return status.resync_regions == 0 && operator_is_done(world) && resizer_is_done(world);
}

static bool is_whole_without_absent(struct world *world)
{
	struct volume_status status;
	unsigned insync;

	if (!slot_status(active_slot(world), &status)) {
		return false;
	}
	insync = cfg_insync_count(&status.cfg);
	return (status.state == VOLUME_ONLINE || status.state == VOLUME_DEGRADED) &&
	       insync + 1 >= world->options.data_replicas && nothing_in_flight(world);
}

static bool agents_are_up(struct world *world)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].state != AGENT_UP) {
			return false;
		}
	}
	return true;
}

static void bring_back(struct world *world)
{
	struct slot *active = active_slot(world);

	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];

		if (node->state != AGENT_UP) {
			agent_restart_after(node, rng_below(sim_rng(world->sim), IO_NS_PER_S));
		}
	}
	if (active->process == NULL) {
		slot_restart_after(active, rng_below(sim_rng(world->sim), IO_NS_PER_S));
	}
}

/* ---- contents ---- */

static void on_final_op(struct op *op)
{
	struct world *world = op->slot->world;

	world->final_done++;
	if (op->req.result != 0) {
		world->final_errors++;
		world->final_result = op->req.result;
	}
}

static bool final_ops_are_done(struct world *world)
{
	return world->final_done == world->final_issued;
}

static void final_submit(struct world *world, enum blk_kind kind, size_t first, size_t count)
{
	world->final_issued++;
	(void)slot_submit(active_slot(world), kind, first, count, on_final_op);
}

static void write_blocks(struct world *world, const struct marks *lost)
{
	world->final_issued = 0;
	world->final_done = 0;
	for (uint32_t i = 0; i < lost->count; i++) {
		size_t block = lost->blocks[i];

		if (world->options.rotten_too >= 0 && !world->oracle.blocks[block].may_be_lost) {
			world_fail(world, &world->result->lost, "lost",
				"block %zu is unreadable, and every disk has given it", block);
			return;
		}
		world->result->unreadable++;
		final_submit(world, BLK_READ, block, 1);
		final_submit(world, BLK_WRITE, block, 1);
	}
	(void)run_slices(world, final_ops_are_done, "writing what was lost");
}

/* What two disks did not give may be gone, and is unreadable until it is written. */
static void write_what_is_lost(struct world *world)
{
	for (unsigned i = 0; i < 3 && !world->failed; i++) {
		const struct marks lost = active_slot(world)->volume->lost;

		if (lost.count == 0) {
			return;
		}
		write_blocks(world, &lost);
	}
	if (!world->failed && active_slot(world)->volume->lost.count > 0) {
		world_fail(world, &world->result->broken, "unreadable",
			"%u blocks are unreadable although they were written",
			active_slot(world)->volume->lost.count);
	}
}

static bool try_to_read_everything(struct world *world)
{
	size_t blocks = slot_blocks(active_slot(world));

	world->final_issued = 0;
	world->final_done = 0;
	world->final_errors = 0;
	for (size_t first = 0; first < blocks; first += READ_BLOCKS) {
		final_submit(world, BLK_READ, first, min_u64(READ_BLOCKS, blocks - first));
	}
	if (!run_slices(world, final_ops_are_done, "reading everything")) {
		return true;
	}
	final_submit(world, BLK_FLUSH, 0, 0);
	return !run_slices(world, final_ops_are_done, "the last flush") || world->final_errors == 0;
}

/* What the last faults did may be noticed only now: then the volume is opened anew. */
static void read_everything(struct world *world)
{
	for (unsigned i = 0; i < 3 && !world->failed; i++) {
		if (try_to_read_everything(world)) {
			return;
		}
		sim_run_for_ns(world->sim, IO_NS_PER_S);
		(void)run_slices(world, is_whole, "getting whole again");
	}
	if (!world->failed) {
		world_fail(world, &world->result->stuck, "liveness",
			"the healed volume answered %d", world->final_result);
	}
}

struct comparison {
	struct volume_compare compare;
	bool done;
};

static void on_compared(struct volume_compare *compare)
{
	((struct comparison *)compare->ctx)->done = true;
}

/* Every replica in sync has answered: what the last faults did may be noticed only now. */
static bool all_answered(const struct volume_status *status, const struct volume_compare *compare)
{
	for (unsigned i = 0; i < status->replica_count; i++) {
		if (status->replicas[i].state == REPLICA_INSYNC &&
			status->replicas[i].kind == VOTER_DATA && compare->results[i] != 0) {
			return false;
		}
	}
	return true;
}

static void judge_compared(struct world *world, const struct volume_status *status,
	const struct volume_compare *compare)
{
	int first = -1;

	for (unsigned i = 0; i < status->replica_count; i++) {
		if (status->replicas[i].state != REPLICA_INSYNC ||
			status->replicas[i].kind != VOTER_DATA) {
			continue;
		}
		if (first < 0) {
			first = (int)i;
		}
		for (size_t at = 0; at < compare->length; at += ORACLE_BLOCK_BYTES) {
			const uint8_t *a = (const uint8_t *)compare->buffers[first] + at;
			const uint8_t *b = (const uint8_t *)compare->buffers[i] + at;

			if (memcmp(a, b, ORACLE_BLOCK_BYTES) != 0) {
				world_fail(world, &world->result->diverged, "diverged",
					"block %lu: replica %d holds write %lu, replica %u write "
					"%lu",
					(unsigned long)((compare->offset + at) /
							ORACLE_BLOCK_BYTES),
					first, (unsigned long)le64_get(a), i,
					(unsigned long)le64_get(b));
				return;
			}
		}
	}
}

static void compare_piece(struct world *world, struct comparison *comparison)
{
	struct slot *slot = active_slot(world);
	struct volume_status status;

	for (unsigned attempt = 0; attempt < 3 && !world->failed; attempt++) {
		volume_get_status(slot->volume, &status);
		comparison->done = false;
		volume_compare(slot->volume, &comparison->compare);
		if (!sim_run_until_flag(world->sim, &comparison->done, WHOLE_NS)) {
			world_fail(
				world, &world->result->stuck, "liveness", "a compare does not end");
			return;
		}
		if (all_answered(&status, &comparison->compare)) {
			judge_compared(world, &status, &comparison->compare);
			return;
		}
		(void)run_slices(world, is_whole, "getting whole again");
	}
	world_fail(world, &world->result->stuck, "compare", "the replicas do not answer");
}

static void compare_replicas(struct world *world)
{
	struct comparison comparison = {0};
	uint64_t size = slot_blocks(active_slot(world)) * ORACLE_BLOCK_BYTES;
	uint32_t piece = READ_BLOCKS * ORACLE_BLOCK_BYTES;

	for (unsigned i = 0; i < REPL_VOTERS_MAX; i++) {
		comparison.compare.buffers[i] = aligned_alloc(ORACLE_BLOCK_BYTES, piece);
		assert(comparison.compare.buffers[i] != NULL);
	}
	for (uint64_t offset = 0; offset < size && !world->failed; offset += piece) {
		comparison.compare.offset = offset;
		comparison.compare.length = (uint32_t)min_u64(piece, size - offset);
		comparison.compare.done = on_compared;
		comparison.compare.ctx = &comparison;
		compare_piece(world, &comparison);
	}
	/* Of a compare that did not end the buffers are still the nexus's. */
	for (unsigned i = 0; i < REPL_VOTERS_MAX && comparison.done; i++) {
		free(comparison.compare.buffers[i]);
	}
}

static void check_contents(struct world *world)
{
	if (run_slices(world, is_whole, "getting whole")) {
		write_what_is_lost(world);
		read_everything(world);
	}
	if (!world->failed) {
		compare_replicas(world);
	}
}

static uint64_t rebuild_bytes(struct world *world, unsigned agent)
{
	struct volume_status status = {0};

	(void)slot_status(active_slot(world), &status);
	return status.replicas[agent].rebuild_total_bytes;
}

/* The stamps decide what is copied: never more than what was written since all were equal. */
static void check_rebuild_bytes(
	struct world *world, unsigned agent, uint64_t clean, uint64_t before)
{
	uint64_t bytes = rebuild_bytes(world, agent);
	uint64_t bound = live_rebuild_bound(world, agent, clean);

	if (bytes != before && bytes > bound) {
		world_fail(world, &world->result->broken, "traffic",
			"the rebuild of agent%u was for %lu bytes, the stamps allow %lu", agent,
			(unsigned long)bytes, (unsigned long)bound);
	}
}

/* One replica goes away for longer than every time-out: the others serve. */
static void absent_phase(struct world *world)
{
	struct node_agent *node = &world->agents[world->options.absent_agent];
	uint64_t before, clean;

	if (rng_percent(sim_rng(world->sim), 50)) {
		/* Opened anew, everything is clean; then only a part is written. */
		slot_crash(active_slot(world), false);
		slot_restart_after(active_slot(world), 0);
		if (!run_slices(world, is_whole, "opening anew")) {
			return;
		}
		sim_run_for_ns(world->sim, IO_NS_PER_S);
		world->load_blocks = world->options.block_count / 4;
	}
	before = rebuild_bytes(world, node->index);
	clean = node->seen.clean;

	agent_crash(node, 0);
	sim_cancel(world->sim, &node->restart);
	slot_start_issuing(active_slot(world));
	sim_run_for_ns(world->sim, 5 * IO_NS_PER_S);
	slot_stop_issuing(active_slot(world));
	if (!run_slices(world, is_whole_without_absent, "serving without one replica")) {
		return;
	}
	agent_restart_after(node, 0);
	if (run_slices(world, agents_are_up, "starting the absent agent")) {
		check_contents(world);
	}
	if (!world->failed && node->kind == VOTER_DATA) {
		check_rebuild_bytes(world, node->index, clean, before);
	}
}

/* After a flush nothing may be lost, whoever loses power. */
static void power_cycle(struct world *world)
{
	struct slot *slot = active_slot(world);

	for (unsigned i = 0; i < world->options.voters; i++) {
		agent_power_loss(&world->agents[i], IO_NS_PER_S);
	}
	slot_crash(slot, false);
	slot->lived_on = false;
	slot_restart_after(slot, 2 * IO_NS_PER_S);
	if (run_slices(world, agents_are_up, "starting after the loss of power")) {
		check_contents(world);
	}
}

/* ---- a clean end: nothing may be left over ---- */

static void on_closed(void *ctx)
{
	*(bool *)ctx = true;
}

/* The oracles that look after each step must not find it any more. */
static void on_volume_closed(void *ctx)
{
	struct slot *slot = ctx;

	slot->volume = NULL;
	slot->closed = true;
}

static void wait_closed(struct world *world, const bool *flag, const char *what)
{
	if (!world->failed && !sim_run_until_flag(world->sim, flag, WHOLE_NS)) {
		world_fail(world, &world->result->stuck, "liveness", "%s does not end", what);
	}
}

void close_slot(struct slot *slot)
{
	struct world *world = slot->world;

	if (slot->process == NULL || world->failed) {
		return;
	}
	slot->closed = false;
	sim_cancel(world->sim, &slot->inc_saved);
	sim_cancel(world->sim, &slot->file_saved);
	volume_close(slot->volume, on_volume_closed, slot);
	wait_closed(world, &slot->closed, "closing the volume");
	if (world->failed) {
		return;
	}
	slot->closed = false;
	nexus_close(slot->nexus, on_closed, &slot->closed);
	wait_closed(world, &slot->closed, "closing the nexus");
	if (world->failed) {
		return;
	}
	if (slot->in_flight != 0 || !list_is_empty(&slot->ops)) {
		world_fail(world, &world->result->stuck, "answer",
			"closing left %u requests unanswered", slot->in_flight);
		return;
	}
	sim_process_exit(slot->process);
	slot->process = NULL;
}

static void on_store_closed(struct store_op *op)
{
	((struct node_agent *)op->ctx)->op_done = true;
}

static void on_agent_closed(void *ctx)
{
	struct node_agent *node = ctx;

	node->agent = NULL;
	node->op_done = true;
}

static void close_agent(struct node_agent *node)
{
	struct world *world = node->world;

	if (node->state != AGENT_UP || world->failed) {
		return;
	}
	node->op_done = false;
	node->state = AGENT_CLOSING;
	agent_close(node->agent, on_agent_closed, node);
	wait_closed(world, &node->op_done, "closing an agent");
	if (world->failed) {
		return;
	}
	node->op_done = false;
	node->op = (struct store_op){.done = on_store_closed, .ctx = node};
	store_close(node->store, &node->op);
	wait_closed(world, &node->op_done, "closing a store");
	if (world->failed) {
		return;
	}
	sim_disk_close(node->handle);
	sim_process_exit(node->process);
	node->process = NULL;
	node->state = AGENT_DOWN;
}

/* All replicas that an older nexus knows may be gone: nobody is left who could tell it that it was
 * taken over, and it waits for ever.  Its node is told from outside then. */
static void end_forgotten_nexus(struct world *world)
{
	struct volume_status status;

	if (!world->options.voter_changes || nothing_in_flight(world)) {
		return;
	}
	sim_run_for_ns(world->sim, 10 * IO_NS_PER_S);
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *old = &world->slots[i];

		if (i != world->active && slot_status(old, &status) &&
			status.state != VOLUME_SUPERSEDED) {
			slot_crash(old, false);
		}
	}
}

void world_finish(struct world *world)
{
	world->healing = true;
	faults_end(world);
	recovery_end(world);
	if (world->cluster != NULL) {
		cluster_heal(world->cluster);
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		slot_stop_issuing(&world->slots[i]);
	}
	if (world->options.down_at_end > 0) {
		live_with_minority_down(world);
	}
	bring_back(world);
	if (!run_slices(world, agents_are_up, "starting the agents")) {
		return;
	}
	if (world->cluster != NULL) {
		cluster_settle(world->cluster);
	} else {
		end_forgotten_nexus(world);
	}
	if (!run_slices(world, nothing_in_flight, "answering what is in flight")) {
		return;
	}
	check_contents(world);
	if (!world->failed && world->options.absent_agent >= 0) {
		absent_phase(world);
	}
	if (!world->failed && world->options.power_cycle_at_end) {
		power_cycle(world);
	}
	if (!world->failed && world->cluster != NULL) {
		cluster_end(world->cluster);
	}
	sim_cancel(world->sim, &world->monitor);
	operator_stop(world);
	resizer_stop(world);
	snapshots_stop(world);
	for (unsigned i = 0; i < SLOTS; i++) {
		close_slot(&world->slots[i]);
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		close_agent(&world->agents[i]);
	}
}
