/* SPDX-License-Identifier: Apache-2.0 */
/* A node's nexus and the host in front of it, which outlives the nexus process. */
#include "tests/sim/cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Reads in flight beyond the depth: many are stuck behind writes of a nexus that is cut off, and it
 * must be asked all the same. */
#define READS_MORE 150

/* ---- requests ---- */

static const char *kind_name(enum blk_kind kind)
{
	switch (kind) {
	case BLK_READ:
		return "read";
	case BLK_WRITE:
		return "write";
	case BLK_FLUSH:
		return "flush";
	case BLK_ZERO:
		return "zero";
	case BLK_DISCARD:
		return "discard";
	}
	return "?";
}

static bool is_writing(const struct op *op)
{
	return op->req.kind != BLK_READ && op->req.kind != BLK_FLUSH;
}

static void op_free(struct op *op)
{
	list_remove(&op->node);
	free(op->req.private_state);
	free(op->buffer);
	free(op);
}

static void judge(struct op *op, enum oracle_verdict verdict)
{
	struct world *world = op->slot->world;

	switch (verdict) {
	case ORACLE_FINE:
		return;
	case ORACLE_LOST:
		world_fail(world, &world->result->lost, "lost", "%s", world->oracle.reason);
		return;
	case ORACLE_FLIPS:
		world_fail(world, &world->result->flips, "flips", "%s", world->oracle.reason);
		return;
	}
}

/* The host hears nothing of it any more. */
static void op_unknown(struct op *op)
{
	struct oracle *oracle = &op->slot->world->oracle;

	(void)oracle_tick(oracle);
	op->answered = true;
	if (recovery_overtook(op->slot->world, op->order)) {
		return;
	}
	for (size_t i = 0; i < op->count && is_writing(op); i++) {
		oracle_write_failed(oracle, op->first + i, op->number);
	}
}

static void op_succeeded(struct op *op)
{
	struct oracle *oracle = &op->slot->world->oracle;

	(void)oracle_tick(oracle);
	if (op->req.kind != BLK_READ) {
		chain_acked(op->slot);
	}
	op->answered = true;
	if (recovery_overtook(op->slot->world, op->order)) {
		return;
	}
	if (op->req.kind == BLK_FLUSH) {
		oracle_flushed(oracle, op->issued, op->order);
	}
	for (size_t i = 0; i < op->count; i++) {
		size_t block = op->first + i;

		if (is_writing(op)) {
			judge(op, oracle_write_acked(
					  oracle, block, op->number, op->order, op->req.fua));
		} else {
			judge(op, oracle_read(oracle, block, op->issued, op->order,
					  op->buffer + i * ORACLE_BLOCK_BYTES));
		}
	}
}

#define SCRIBBLE 0xee

/* What a read has brought is on its way to the host: nobody may write to it any more.  (After an
 * error the buffer is the device's until the request is released.) */
static void scribble(struct op *op)
{
	if (op->req.kind == BLK_READ && op->req.result == 0) {
		memset(op->buffer, SCRIBBLE, op->count * ORACLE_BLOCK_BYTES);
	}
}

static void check_scribble(struct op *op)
{
	struct world *world = op->slot->world;

	size_t length = op->req.kind == BLK_READ && op->req.result == 0
				? op->count * ORACLE_BLOCK_BYTES
				: 0;

	for (size_t i = 0; i < length; i++) {
		if (op->buffer[i] != SCRIBBLE) {
			world_fail(world, &world->result->broken, "buffer",
				"a read's buffer was written to after its answer");
			return;
		}
	}
}

static void on_done(struct blk_req *req)
{
	struct op *op = container_of(req, struct op, req);
	struct slot *slot = op->slot;
	struct world *world = slot->world;

	sim_trace(world->sim, "%s op %lu %s %zu+%zu: %d", slot->name, (unsigned long)op->number,
		kind_name(req->kind), op->first, op->count, req->result);
	if (op->answered) {
		world_fail(world, &world->result->broken, "answer", "a request was answered twice");
		return;
	}
	slot->in_flight--;
	slot->reads_in_flight -= req->kind == BLK_READ;
	world->result->ops++;
	if (req->result == 0) {
		op_succeeded(op);
	} else {
		world->result->errors++;
		op_unknown(op);
	}
	if (op->then != NULL) {
		op->then(op);
	}
	scribble(op);
}

static void on_released(struct blk_req *req)
{
	struct op *op = container_of(req, struct op, req);
	struct world *world = op->slot->world;

	if (!op->answered) {
		world_fail(world, &world->result->broken, "answer",
			"a request was released before it was answered");
		op->slot->in_flight--;
		op->slot->reads_in_flight -= req->kind == BLK_READ;
		op_unknown(op);
	} else {
		check_scribble(op);
	}
	op_free(op);
}

static void op_send(struct op *op)
{
	struct slot *slot = op->slot;
	struct blk_dev *dev = volume_blk(slot->volume);

	op->order = slot->order;
	memcpy(op->iov_copy, op->iov, sizeof(op->iov));
	op->req.iov = op->iov_copy;
	op->req.private_state = calloc(1, dev->req_private_bytes);
	assert(op->req.private_state != NULL);
	slot->in_flight++;
	slot->reads_in_flight += op->req.kind == BLK_READ;
	blk_submit(dev, &op->req);
	if (op->answered) {
		world_fail(slot->world, &slot->world->result->broken, "answer",
			"a request was answered inline");
	}
}

static void op_make_buffer(struct op *op)
{
	struct rng *rng = sim_rng(op->slot->world->sim);
	size_t left = op->count;
	uint8_t *at;

	at = op->buffer = aligned_alloc(ORACLE_BLOCK_BYTES, op->count * ORACLE_BLOCK_BYTES);
	assert(op->buffer != NULL);
	while (left > 0) {
		bool last = op->req.iov_count == ARRAY_COUNT(op->iov) - 1;
		size_t piece = last ? left : 1 + rng_below(rng, left);

		op->iov[op->req.iov_count++] = (struct iovec){at, piece * ORACLE_BLOCK_BYTES};
		at += piece * ORACLE_BLOCK_BYTES;
		left -= piece;
	}
}

struct op *slot_submit(struct slot *slot, enum blk_kind kind, size_t first, size_t count,
	void (*then)(struct op *op))
{
	struct world *world = slot->world;
	struct op *op = calloc(1, sizeof(*op));

	assert(op != NULL);
	op->slot = slot;
	op->first = first;
	op->count = count;
	op->then = then;
	op->issued = oracle_tick(&world->oracle);
	op->req.kind = kind;
	op->req.offset = first * ORACLE_BLOCK_BYTES;
	op->req.length = count * ORACLE_BLOCK_BYTES;
	op->req.done = on_done;
	op->req.released = on_released;
	op->req.fua = is_writing(op) && rng_percent(sim_rng(world->sim), 12);
	if (kind == BLK_READ || kind == BLK_WRITE) {
		op_make_buffer(op);
	}
	for (size_t i = 0; i < count && is_writing(op); i++) {
		if (!recovery_overtook(world, slot->order)) {
			op->number = oracle_write_issued(&world->oracle, first + i, op->number,
				kind != BLK_WRITE, slot->order);
		} else if (op->number == 0) {
			op->number = world->oracle.next_number++;
		}
		if (kind == BLK_WRITE) {
			oracle_fill(op->buffer + i * ORACLE_BLOCK_BYTES, first + i, op->number);
		}
	}
	world->ops_issued++;
	sim_trace(world->sim, "%s issue %lu %s %zu+%zu%s", slot->name, (unsigned long)op->number,
		kind_name(kind), first, count, op->req.fua ? " fua" : "");
	list_push_back(&slot->ops, &op->node);
	op_send(op);
	return op;
}

/* ---- load ---- */

/* How far the load has got, when it begins with few blocks. */
static size_t blocks_reached(struct world *world)
{
	size_t blocks = world->load_blocks != 0 ? world->load_blocks : world->options.block_count;
	uint64_t elapsed_ns = sim_now_ns(world->sim) - world->load_begin_ns;

	if (world->options.spreads == 0 || elapsed_ns >= world->options.duration_ns) {
		return blocks;
	}
	return 1 + (size_t)(elapsed_ns / 1000 * (blocks - 1) / (world->options.duration_ns / 1000));
}

/* Reads go on while writes wait: a nexus that is cut off must not answer them for ever. */
static void issue_random(struct slot *slot)
{
	unsigned writes = slot->in_flight - slot->reads_in_flight;
	struct world *world = slot->world;
	struct rng *rng = &world->load_rng;
	size_t blocks = min_u64(blocks_reached(world), slot_blocks(slot));
	unsigned dice = (unsigned)rng_below(rng, 100);
	enum blk_kind kind = dice < 52   ? BLK_WRITE
			     : dice < 84 ? BLK_READ
			     : dice < 91 ? BLK_FLUSH
			     : dice < 96 ? BLK_ZERO
					 : BLK_DISCARD;
	size_t count_max =
		kind == BLK_ZERO || kind == BLK_DISCARD ? ZERO_BLOCKS_MAX : OP_BLOCKS_MAX;
	size_t count = rng_percent(rng, 50) ? 1 : 1 + rng_below(rng, count_max);
	/* Half of it goes to few places, so that requests meet each other. */
	size_t range = rng_percent(rng, 50) ? min_u64(blocks, 16) : blocks;
	size_t first = rng_below(rng, range);

	resizer_saw(slot);
	if (writes >= world->options.depth) {
		kind = BLK_READ;
	}
	if (kind == BLK_READ && slot->reads_in_flight >= world->options.depth + READS_MORE) {
		return;
	}
	if (kind == BLK_FLUSH) {
		(void)slot_submit(slot, kind, 0, 0, NULL);
		return;
	}
	count = min_u64(count, blocks - first);
	(void)slot_submit(slot, kind, first, count, NULL);
}

static void on_issue(struct sim_event *event)
{
	struct slot *slot = container_of(event, struct slot, issue);
	struct world *world = slot->world;
	struct rng *rng = &world->load_rng;
	uint64_t pace_ns = world->options.duration_ns / world->options.ops_target;
	unsigned burst = rng_percent(rng, 20) ? 1 + (unsigned)rng_below(rng, 6) : 1;

	while (burst-- > 0 && slot->process != NULL && world->ops_issued < world->options.ops_max) {
		issue_random(slot);
	}
	sim_at_ns(world->sim, event, sim_now_ns(world->sim) + rng_below(rng, 2 * pace_ns) + 1000,
		on_issue);
}

/* Requests that meet what the nexus has just begun. */
void slot_issue_soon(struct slot *slot)
{
	struct world *world = slot->world;

	if (slot->issuing && rng_percent(&world->load_rng, 50)) {
		sim_at_ns(world->sim, &slot->issue,
			sim_now_ns(world->sim) + rng_below(&world->load_rng, IO_NS_PER_MS),
			on_issue);
	}
}

void slot_issue_now(struct slot *slot)
{
	if (slot->issuing) {
		sim_at_ns(slot->world->sim, &slot->issue, sim_now_ns(slot->world->sim), on_issue);
	}
}

void slot_start_issuing(struct slot *slot)
{
	slot->issuing = true;
	sim_at_ns(slot->world->sim, &slot->issue, sim_now_ns(slot->world->sim), on_issue);
}

void slot_stop_issuing(struct slot *slot)
{
	slot->issuing = false;
	sim_cancel(slot->world->sim, &slot->issue);
}

/* ---- the nexus ---- */

static void on_inc_saved(struct sim_event *event)
{
	struct slot *slot = container_of(event, struct slot, inc_saved);

	slot->inc_file = slot->inc_pending;
	volume_inc_saved(slot->volume);
}

static void on_save_inc(struct volume *volume, uint32_t inc, void *ctx)
{
	struct slot *slot = ctx;
	struct world *world = slot->world;

	(void)volume;
	if (inc <= slot->inc_file) {
		world_fail(world, &world->result->broken, "inc",
			"%s takes inc %u although its file holds %u", slot->name, inc,
			slot->inc_file);
	}
	slot->inc_pending = inc;
	sim_at_ns(world->sim, &slot->inc_saved,
		sim_now_ns(world->sim) + rng_below(sim_rng(world->sim), 3 * IO_NS_PER_MS),
		on_inc_saved);
}

/* Called at every commit, before anything is answered under it. */
static void on_changed(struct volume *volume, void *ctx)
{
	struct slot *slot = ctx;
	struct volume_status status;

	slot->waited = volume_waited(volume);
	volume_get_status(volume, &status);
	if (status.cfg.gen == 0 || status.cfg.epoch.attach != slot->attach ||
		cfg_compare(&status.cfg, &slot->committed) <= 0) {
		return;
	}
	slot->committed = status.cfg;
	resizer_note(slot, &status);
	places_follow(slot);
	chain_committed(slot->world, &status.cfg);
	snapshots_judge(slot->world, &status.cfg);
	world_note_commit(slot->world, &status.cfg, slot->fresh, slot->order);
	slot->fresh = false;
	slot->lived_on = true;
}

static void volume_options_fill(struct slot *slot, struct volume_options *options)
{
	struct world *world = slot->world;

	*options = (struct volume_options){
		.name = "sim",
		.uuid = world->volume_uuid,
		.size_bytes = max_u64(
			slot->file.size_bytes, world->options.start_blocks * ORACLE_BLOCK_BYTES),
		.lineage = slot->file.cfg.gen != 0   ? slot->file.cfg.lineage
			   : slot->told_lineage != 0 ? slot->told_lineage
						     : world->lineage,
		.lineage_known = slot->file.cfg.gen != 0 || slot->told_lineage != 0,
		.attach = slot->attach,
		.inc_min = slot->inc_file,
		.min_insync = (unsigned)world->options.min_insync,
		.no_quorum_ns = world->options.no_quorum_ns,
		.voter_count = slot->file.count,
		.capability = slot->capability,
		.used = slot->file.cfg.gen != 0 || slot->told_used,
		.host_may_have_lived_on = slot->lived_on,
		.waited = slot->lived_on ? slot->waited : (struct epoch){0},
		.save_inc = on_save_inc,
		.changed = on_changed,
		.ctx = slot,
	};
	memcpy(options->voters, slot->file.voters, sizeof(options->voters));
	slot->data_at_open = 0;
	for (unsigned i = 0; i < slot->file.count; i++) {
		slot->data_at_open += slot->file.voters[i].kind == VOTER_DATA;
	}
}

static void resend_all(struct slot *slot)
{
	struct list resend;

	list_init(&resend);
	list_splice_back(&resend, &slot->resend);
	while (!list_is_empty(&resend)) {
		struct op *op = container_of(list_pop_front(&resend), struct op, node);

		for (size_t i = 0; i < op->count && is_writing(op) &&
				   !recovery_overtook(slot->world, slot->order);
			i++) {
			oracle_write_resent(
				&slot->world->oracle, op->first + i, op->number, slot->order);
		}
		list_push_back(&slot->ops, &op->node);
		op_send(op);
	}
}

static void drop_resend(struct slot *slot)
{
	while (!list_is_empty(&slot->resend)) {
		struct op *op = container_of(list_first(&slot->resend), struct op, node);

		op_unknown(op);
		op_free(op);
	}
}

void slot_open(struct slot *slot, uint32_t attach)
{
	struct world *world = slot->world;
	struct nexus_options nexus_options = {
		.host_uuid = slot->host_uuid,
		.buffer_bytes = world->options.nexus_buffers,
		.slow_ns = world->options.slow_ns,
		.eject_away_ns = world->options.eject_away_ns,
		.lost_ns = world->options.eject_away_ns,
		.checkpoint_ns = world->options.checkpoint_ns,
		.dirty_bytes = world->options.dirty_bytes,
		.rebuilds = (unsigned)world->options.rebuilds,
		.rebuild_rate_min = world->options.rebuild_rate_min,
		.rebuild_rate_max = world->options.rebuild_rate_max,
		.cfg_version = slot->older ? 0 : (uint32_t)world->options.version,
		.cfg_needs = slot->older ? 0 : (uint32_t)world->options.version,
	};
	struct volume_options options;
	struct err err = {0};
	int result;

	assert(slot->process == NULL);
	if (slot->file.count == 0) {
		places_init(&slot->file, slot);
	}
	if (slot->attach != attach) {
		if (world->api.count != 0) {
			places_take(&slot->file, &world->api, slot);
		}
		slot->attach = attach;
		slot->inc_file = 0;
		slot->lived_on = false;
		slot->openings = 0;
		drop_resend(slot);
	}
	slot->order = attach << 16 |
		      (world->cluster != NULL ? ++world->order_last & 0xffff : ++slot->openings);
	slot->process = sim_process_new(slot->host, slot->name);
	if (attach > world->attach_last) {
		world->attach_last = attach;
		world->active = slot->index;
	}
	slot->fresh = !slot->lived_on;
	slot->committed.gen = 0;
	slot->resizing = false;
	slot->snapshotting = false;
	memset(slot->snapshot_answers, 0, sizeof(slot->snapshot_answers));
	slot->snapshot_attempt = 0;
	volume_options_fill(slot, &options);
	result = nexus_new(sim_process_io(slot->process), &nexus_options, &slot->nexus, &err);
	if (result == 0) {
		result = volume_open(slot->nexus, &options, &slot->volume, &err);
	}
	if (result != 0) {
		world_fail(world, &world->result->broken, "start", "%s does not open: %d %s",
			slot->name, result, err.text);
		return;
	}
	resend_all(slot);
}

bool slot_status(struct slot *slot, struct volume_status *ret_status)
{
	if (slot->process == NULL || slot->volume == NULL) {
		return false;
	}
	volume_get_status(slot->volume, ret_status);
	return true;
}

static void ops_end(struct slot *slot, bool resend)
{
	list_for_each_safe (&slot->ops, node, following) {
		struct op *op = container_of(node, struct op, node);

		if (!op->answered && resend) {
			free(op->req.private_state);
			op->req.private_state = NULL;
			list_remove(&op->node);
			list_push_back(&slot->resend, &op->node);
			continue;
		}
		if (!op->answered) {
			op_unknown(op);
		}
		op_free(op);
	}
	slot->in_flight = 0;
	slot->reads_in_flight = 0;
}

static void slot_gone(struct slot *slot, bool resend)
{
	sim_cancel(slot->world->sim, &slot->inc_saved);
	sim_cancel(slot->world->sim, &slot->file_saved);
	sim_cancel(slot->world->sim, &slot->exits);
	ops_end(slot, resend);
	slot->process = NULL;
	slot->nexus = NULL;
	slot->volume = NULL;
	slot->closing = false;
}

void slot_crash(struct slot *slot, bool resend)
{
	struct sim_process *process = slot->process;

	if (process == NULL) {
		return;
	}
	slot_gone(slot, resend);
	sim_process_crash(process);
	slot->world->result->crashes++;
}

static void on_restart(struct sim_event *event)
{
	struct slot *slot = container_of(event, struct slot, restart);

	if (slot->process != NULL || slot->attach == 0 ||
		(slot->world->cluster != NULL && !slot->recorded)) {
		return;
	}
	if (!sim_host_is_up(slot->host)) {
		sim_host_power_on(slot->host);
	}
	slot_open(slot, slot->attach);
}

void slot_restart_after(struct slot *slot, uint64_t delay_ns)
{
	sim_at_ns(slot->world->sim, &slot->restart, sim_now_ns(slot->world->sim) + delay_ns,
		on_restart);
}

void slot_power_loss(struct slot *slot, uint64_t down_ns)
{
	struct world *world = slot->world;

	if (!sim_host_is_up(slot->host)) {
		return;
	}
	if (slot->process != NULL) {
		slot_gone(slot, false);
	}
	drop_resend(slot);
	slot->lived_on = false;
	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].host == slot->host) {
			agent_lose_power(&world->agents[i], down_ns);
		}
	}
	sim_host_power_loss(slot->host);
	world->result->crashes++;
	slot_restart_after(slot, down_ns + rng_below(sim_rng(world->sim), IO_NS_PER_S));
}

void slot_takeover(struct world *world)
{
	unsigned other = (unsigned)rng_below(sim_rng(world->sim), SLOTS - 1);
	struct slot *slot = &world->slots[(world->active + 1 + other) % SLOTS];

	if (world->cluster != NULL) {
		cluster_force_move(world->cluster);
		return;
	}
	if (recovery_is_under_way(world)) {
		return; /* the one who attaches knows of it */
	}
	slot_crash(slot, false);
	sim_cancel(world->sim, &slot->restart);
	if (!sim_host_is_up(slot->host)) {
		sim_host_power_on(slot->host);
	}
	world->result->takeovers++;
	slot_open(slot, world->attach_last + 1);
	slot_start_issuing(slot);
}

void slot_renew(struct slot *slot)
{
	slot->world->result->faulted++;
	slot_crash(slot, false);
	drop_resend(slot);
	slot->lived_on = false;
	slot_open(slot, slot->attach);
}
