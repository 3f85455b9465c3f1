/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's life, what it says about itself, and its lease. */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>
#include <stdio.h>

#define CHECKPOINT_NS (300 * IO_NS_PER_S)

static task_step volume_tick_step;
static task_step volume_close_step;

/* ---- sets of legs ---- */

unsigned mask_count(leg_mask mask)
{
	return (unsigned)__builtin_popcount(mask);
}

leg_mask volume_out_mask(const struct volume *volume)
{
	leg_mask mask = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		mask |= volume->legs[i]->out ? LEG_BIT(volume->legs[i]) : 0;
	}
	return mask;
}

leg_mask volume_ready_mask(const struct volume *volume)
{
	leg_mask mask = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		mask |= leg->ready && !leg->refence ? LEG_BIT(leg) : 0;
	}
	return mask;
}

leg_mask volume_target_mask(const struct volume *volume)
{
	leg_mask mask = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		mask |= volume->legs[i]->target ? LEG_BIT(volume->legs[i]) : 0;
	}
	return mask;
}

leg_mask volume_needed(const struct volume *volume)
{
	leg_mask mask = volume->member_mask;

	if (!mutant_is(MUTANT_FORGETS_PROPOSED)) {
		mask |= volume->proposed_mask;
	}
	if (volume->joiner != NULL && volume->joiner->joining && !mutant_is(MUTANT_NO_JOINT)) {
		mask |= LEG_BIT(volume->joiner);
	}
	return mask;
}

leg_mask volume_readable(const struct volume *volume)
{
	leg_mask mask = volume->member_mask & volume->proposed_common;

	if (mutant_is(MUTANT_READS_TARGET)) {
		mask |= volume_target_mask(volume);
	}
	return volume->serving ? mask & volume_ready_mask(volume) & ~volume_out_mask(volume) : 0;
}

struct leg *volume_leg_by_id(const struct volume *volume, const struct uuid *replica)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (!volume->legs[i]->leaving &&
			uuid_equal(&volume->legs[i]->voter.replica, replica)) {
			return volume->legs[i];
		}
	}
	return NULL;
}

/* ---- state ---- */

bool volume_is_dead(const struct volume *volume)
{
	return volume->faulted || volume->superseded || volume->ending;
}

void volume_changed(struct volume *volume)
{
	ops_revisit(volume);
	copiers_wake(volume);
	rebuilds_changed(volume->nexus);
	task_wake(&volume->repairer.task);
	task_wake(&volume->open_task);
	task_wake(&volume->checkpoint_task);
	task_wake(&volume->resynced_task);
	task_wake(&volume->member_task);
	task_wake(&volume->resizer.task);
	task_wake(&volume->snapshotter.task);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		task_wake(&leg->task);
		task_wake(&leg->rebuild_task);
		task_wake(&leg->join_task);
		task_wake(&leg->layers.task);
	}
	if (volume->options.changed != NULL) {
		volume->options.changed(volume, volume->options.ctx);
	}
}

void volume_fault(struct volume *volume, const char *reason)
{
	volume->faulted = true;
	snprintf(volume->reason, sizeof(volume->reason), "%s", reason);
	log_error(&volume->io->log, "nexus", "faulted", "volume=%s reason=%s", volume->options.name,
		reason);
	volume_changed(volume);
}

/* I12: t is the largest time such that a majority of V answered a heartbeat sent at or after t. */
bool volume_lease_is_valid(const struct volume *volume)
{
	uint64_t heard_ns[REPL_VOTERS_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		uint64_t value = leg->ready && !leg->lost ? leg->heard_ns : 0;
		unsigned at = count++;

		if (!voters_has(&volume->cfg, leg)) {
			count--;
			continue;
		}
		while (at > 0 && heard_ns[at - 1] < value) {
			heard_ns[at] = heard_ns[at - 1];
			at--;
		}
		heard_ns[at] = value;
	}
	if (count < cfg_majority(&volume->cfg)) {
		return false;
	}
	return io_now_ns(volume->io) < heard_ns[cfg_majority(&volume->cfg) - 1] + LEASE_NS &&
	       heard_ns[cfg_majority(&volume->cfg) - 1] != 0;
}

/* ---- the tick: runs only while something may be late ---- */

void volume_tick_start(struct volume *volume)
{
	if (!io_timer_is_running(&volume->tick_timer)) {
		volume->tick_due_ns = io_now_ns(volume->io) + TICK_NS;
		io_timer_start(&volume->tick_timer, volume->tick_due_ns);
	}
}

static void volume_tick_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, tick_task);
	uint64_t now_ns = io_now_ns(volume->io);
	bool late =
		now_ns > volume->tick_due_ns + IO_NS_PER_S; /* answers may wait in the sockets */
	bool more = now_ns < volume->ack_not_before_ns || volume->lease_waiters ||
		    eject_wants_tick(volume) || quorum_wants_tick(volume) ||
		    replace_wants_tick(volume);
	uint64_t next_ns = UINT64_MAX;

	volume_works(volume, TRACE_WORK_TICK);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!late) {
			leg_check_deadlines(leg, now_ns);
		}
		next_ns = min_u64(next_ns, leg_next_deadline_ns(leg));
		more = more || !list_is_empty(&leg->inflight) ||
		       (!leg->ready && !leg->out && (volume->member_mask & LEG_BIT(leg)));
	}
	eject_tick(volume);
	quorum_tick(volume, now_ns, late);
	replace_tick(volume, now_ns);
	slow_tick(volume, now_ns, late);
	more = rebuilds_tick(volume, now_ns) || more;
	if (volume->lease_waiters || volume->ack_not_before_ns != 0) {
		volume->lease_waiters = false;
		if (now_ns >= volume->ack_not_before_ns) {
			volume->ack_not_before_ns = 0;
			open_waited(volume);
			membership_wake(volume);
			copiers_wake(volume);
		}
		ops_revisit(volume);
	}
	if (more && !volume->ending) {
		volume_tick_start(volume);
	}
	if (io_timer_is_running(&volume->tick_timer) && next_ns > now_ns &&
		next_ns < volume->tick_due_ns) {
		/* Requests wait for a member to be out: not longer than it may take. */
		volume->tick_due_ns = next_ns;
		io_timer_start(&volume->tick_timer, volume->tick_due_ns);
	}
}

/* ---- open ---- */

static void volume_add_metrics(struct volume *volume)
{
	struct {
		struct metric *metric;
		const char *name, *help;
	} all[] = {
		{&volume->reads, "strake_nexus_reads_total", "Read requests answered."},
		{&volume->writes, "strake_nexus_writes_total", "Write requests answered."},
		{&volume->flushes, "strake_nexus_flushes_total", "Flush requests answered."},
		{&volume->bytes_read, "strake_nexus_read_bytes_total", "Bytes read."},
		{&volume->bytes_written, "strake_nexus_written_bytes_total", "Bytes written."},
		{&volume->errors, "strake_nexus_errors_total", "Requests that ended in an error."},
		{&volume->hedges, "strake_nexus_read_hedges_total",
			"Reads that were late and were asked of a second replica."},
		{&volume->hedges_won, "strake_nexus_read_hedges_won_total",
			"Late reads that the second replica answered first."},
		{&volume->unreadable, "strake_nexus_unreadable_blocks_total",
			"Blocks that no replica in sync could read when it was tried."},
	};

	for (unsigned i = 0; i < ARRAY_COUNT(all) && volume->io->metrics != NULL; i++) {
		metric_add(volume->io->metrics, all[i].metric, METRIC_COUNTER, all[i].name,
			all[i].help, "volume=\"%s\"", volume->options.name);
	}
	if (volume->io->metrics != NULL) {
		metric_add(volume->io->metrics, &volume->all_slow, METRIC_GAUGE,
			"strake_nexus_all_replicas_slow",
			"1 while every remote replica in sync is slow: none is ejected for it.",
			"volume=\"%s\"", volume->options.name);
		metric_add(volume->io->metrics, &volume->lost_blocks, METRIC_GAUGE,
			"strake_nexus_unreadable_blocks",
			"Blocks that no replica in sync could read when it was tried last, and "
			"that were not written since (at most 128 are counted).",
			"volume=\"%s\"", volume->options.name);
	}
}

static void volume_remove_metrics(struct volume *volume)
{
	struct metric *all[] = {&volume->reads, &volume->writes, &volume->flushes,
		&volume->bytes_read, &volume->bytes_written, &volume->errors, &volume->all_slow,
		&volume->hedges, &volume->hedges_won, &volume->unreadable, &volume->lost_blocks};

	for (unsigned i = 0; i < ARRAY_COUNT(all) && volume->io->metrics != NULL; i++) {
		metric_remove(volume->io->metrics, all[i]);
	}
}

static void volume_init(
	struct volume *volume, struct nexus *nexus, const struct volume_options *options)
{
	static const struct blk_dev_ops ops = {.submit = op_submit};
	struct io *io = nexus->io;

	volume->nexus = nexus;
	volume->io = io;
	volume->options = *options;
	volume->block_bytes = 4096;
	volume->size_bytes = options->size_bytes;
	volume->blk = (struct blk_dev){.ops = &ops,
		.size_bytes = options->size_bytes,
		.block_bytes = volume->block_bytes,
		.req_private_bytes = sizeof(struct vol_op)};
	volume->inc_seen = options->inc_min;
	volume->no_quorum_ns = options->no_quorum_ns;
	volume->checkpoint_ns =
		nexus->options.checkpoint_ns != 0 ? nexus->options.checkpoint_ns : CHECKPOINT_NS;
	volume->epoch.nonce = rng_u64(&io->rng);
	list_init(&volume->ops);
	list_init(&volume->issued);
	list_init(&volume->repairs);
	volume->repairer.volume = volume;
	task_init(&volume->repairer.task, &io->runq, repairer_step);
	range_locks_init(&volume->locks);
	task_init(&volume->open_task, &io->runq, open_step);
	io_timer_init(&volume->open_timer, io, &volume->open_task);
	task_init(&volume->voters_task, &io->runq, voters_step);
	task_init(&volume->checkpoint_task, &io->runq, checkpoint_step);
	io_timer_init(&volume->checkpoint_timer, io, &volume->checkpoint_task);
	io_timer_init(&volume->raise_timer, io, &volume->checkpoint_task);
	task_init(&volume->resynced_task, &io->runq, resynced_step);
	io_timer_init(&volume->resynced_timer, io, &volume->resynced_task);
	task_init(&volume->member_task, &io->runq, member_step);
	io_timer_init(&volume->member_timer, io, &volume->member_task);
	task_init(&volume->tick_task, &io->runq, volume_tick_step);
	io_timer_init(&volume->tick_timer, io, &volume->tick_task);
	task_init(&volume->resizer.task, &io->runq, resize_step);
	io_timer_init(&volume->resizer.timer, io, &volume->resizer.task);
	task_init(&volume->snapshotter.task, &io->runq, snapshot_step);
	io_timer_init(&volume->snapshotter.timer, io, &volume->snapshotter.task);
	io_timer_init(&volume->snapshotter.pause_timer, io, &volume->snapshotter.task);
	task_init(&volume->hedge_task, &io->runq, hedge_step);
	io_timer_init(&volume->hedge_timer, io, &volume->hedge_task);
	task_init(&volume->close_task, &io->runq, volume_close_step);
	io_timer_init(&volume->close_timer, io, &volume->close_task);
	volume_set_min_insync(volume, options->min_insync);
}

static void volume_free(struct volume *volume)
{
	struct io *io = volume->io;

	piecemap_done(&volume->resync, io);
	piecemap_done(&volume->unequal, io);
	piecemap_done(&volume->written, io);
	piecemap_done(&volume->recent, io);
	piecemap_done(&volume->retiring, io);
	io_free(io, volume->close_flush_state);
	io_free(io, volume);
}

/* Legs whose start succeeded cannot be taken back at once (they may have sent something): the
 * volume closes them in the ordinary way. */
static int volume_start_legs(struct volume *volume)
{
	for (unsigned i = 0; i < volume->options.voter_count; i++) {
		struct leg *leg = io_zalloc(volume->io, sizeof(*leg));

		if (leg == NULL || leg_start(leg, volume, i, &volume->options.voters[i]) != 0) {
			io_free(volume->io, leg);
			return -ENOMEM;
		}
		volume->legs[i] = leg;
		volume->leg_count++;
	}
	return 0;
}

static void volume_closed_quietly(void *ctx)
{
	(void)ctx;
}

int volume_open(struct nexus *nexus, const struct volume_options *options,
	struct volume **ret_volume, struct err *err)
{
	struct volume *volume;

	if (nexus_find_volume(nexus, options->name) != NULL) {
		return err_set(err, -EEXIST, "volume %s is open already", options->name);
	}
	if (options->voter_count == 0 || options->voter_count > REPL_VOTERS_MAX ||
		options->attach == 0 || options->size_bytes == 0 ||
		options->size_bytes % 4096 != 0 || options->size_bytes > REPL_SIZE_MAX) {
		return err_set(err, -EINVAL,
			"volume %s: needs 1 to 7 voters, an attach number and a size in multiples "
			"of 4096",
			options->name);
	}
	volume = io_zalloc(nexus->io, sizeof(*volume));
	if (volume == NULL) {
		return err_set(err, -ENOMEM, "volume %s: out of memory", options->name);
	}
	volume_init(volume, nexus, options);
	volume->close_flush_state = io_zalloc(nexus->io, sizeof(struct vol_op));
	if (volume->close_flush_state == NULL) {
		volume_free(volume);
		return err_set(err, -ENOMEM, "volume %s: out of memory", options->name);
	}
	list_push_back(&nexus->volumes, &volume->node);
	volume_add_metrics(volume);
	copiers_start(volume);
	task_wake(&volume->repairer.task);
	if (volume_start_legs(volume) != 0) {
		volume_close(volume, volume_closed_quietly, NULL);
		return err_set(err, -ENOMEM, "volume %s: out of memory", options->name);
	}
	if (options->fault[0] != '\0') {
		volume_fault(volume, options->fault);
	}
	task_wake(&volume->open_task);
	task_wake(&volume->checkpoint_task);
	task_wake(&volume->resynced_task);
	task_wake(&volume->member_task);
	*ret_volume = volume;
	return 0;
}

/* ---- close ---- */

static void volume_close_flushed(struct blk_req *req)
{
	(void)req;
}

static void volume_close_released(struct blk_req *req)
{
	struct volume *volume = req->ctx;

	volume->close_flush_busy = false;
	task_wake(&volume->close_task);
}

static void volume_close_send_flush(struct volume *volume)
{
	struct blk_req *req = &volume->close_flush;

	req->kind = BLK_FLUSH;
	req->private_state = volume->close_flush_state;
	req->done = volume_close_flushed;
	req->released = volume_close_released;
	req->ctx = volume;
	volume->close_flush_busy = true;
	io_timer_start_after(&volume->close_timer, EJECT_NS);
	blk_submit(&volume->blk, req);
}

static bool volume_has_ended(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (!leg_is_idle(volume->legs[i])) {
			return false;
		}
	}
	return volume->open_state == OPEN_DONE && volume->member_state == MEMBER_DONE &&
	       volume->checkpoint_state == CHECKPOINT_DONE &&
	       volume->resynced_state == RESYNCED_DONE && copiers_are_idle(volume) &&
	       volume->repairer.state == REPAIR_DONE && volume->resizer.request == NULL &&
	       volume->snapshotter.request == NULL && list_is_empty(&volume->ops) &&
	       volume->compares == 0;
}

/* Requests that a live pool-agent does not answer come back when their association goes. */
static void volume_reset_stuck(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (!leg_is_idle(volume->legs[i])) {
			peer_reset(
				volume->legs[i]->peer, "a volume is closed while a disk is stuck");
		}
	}
}

static void volume_end(struct volume *volume)
{
	struct io *io = volume->io;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		leg_stop(volume->legs[i]);
	}
	for (unsigned i = 0; i < COPIERS; i++) {
		task_done(&volume->copiers[i].task);
	}
	io_timer_stop(&volume->tick_timer);
	io_timer_stop(&volume->close_timer);
	io_timer_stop(&volume->hedge_timer);
	io_timer_stop(&volume->resizer.timer);
	task_done(&volume->resizer.task);
	io_timer_stop(&volume->snapshotter.timer);
	io_timer_stop(&volume->snapshotter.pause_timer);
	task_done(&volume->snapshotter.task);
	task_done(&volume->hedge_task);
	task_done(&volume->repairer.task);
	task_done(&volume->open_task);
	task_done(&volume->checkpoint_task);
	task_done(&volume->resynced_task);
	task_done(&volume->member_task);
	task_done(&volume->voters_task);
	task_done(&volume->tick_task);
	task_done(&volume->close_task);
	volume_remove_metrics(volume);
	list_remove(&volume->node);
	log_info(&io->log, "nexus", "closed", "volume=%s", volume->options.name);
}

static void volume_close_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, close_task);
	void (*closed)(void *ctx);
	void *ctx;

	volume_works(volume, TRACE_WORK_CLOSE);
	switch (volume->close_state) {
	case CLOSE_START:
		AWAIT_AT(volume->close_state, CLOSE_AWAIT_WANTED, volume->closing);
		if (volume->serving && !volume_is_dead(volume)) {
			volume_close_send_flush(volume);
			AWAIT_AT(volume->close_state, CLOSE_AWAIT_FLUSH,
				!volume->close_flush_busy ||
					!io_timer_is_running(&volume->close_timer));
		}
		volume->ending = true;
		volume_changed(volume);
		io_timer_start_after(&volume->close_timer, EJECT_NS);
		AWAIT_AT(volume->close_state, CLOSE_AWAIT_ENDED,
			volume_has_ended(volume) || !io_timer_is_running(&volume->close_timer));
		if (!volume_has_ended(volume)) {
			volume_reset_stuck(volume);
			AWAIT_AT(volume->close_state, CLOSE_AWAIT_RESET, volume_has_ended(volume));
		}
		volume->close_state = CLOSE_DONE;
		closed = volume->closed;
		ctx = volume->closed_ctx;
		volume_end(volume);
		volume_free(volume);
		closed(ctx);
		return;
	case CLOSE_DONE:
		return;
	}
}

void volume_close(struct volume *volume, void (*closed)(void *ctx), void *ctx)
{
	assert(!volume->closing);
	volume->closing = true;
	volume->closed = closed;
	volume->closed_ctx = ctx;
	task_wake(&volume->open_task);
	task_wake(&volume->checkpoint_task);
	task_wake(&volume->resynced_task);
	task_wake(&volume->member_task);
	task_wake(&volume->close_task);
}

void volume_set_min_insync(struct volume *volume, unsigned min_insync)
{
	unsigned data = 0;

	for (unsigned i = 0; i < volume->options.voter_count; i++) {
		data += volume->options.voters[i].kind == VOTER_DATA;
	}
	/* By what it was opened with: a replica that is added so that another may go raises
	 * nothing. */
	volume->options.min_insync = min_insync != 0 ? min_insync : data <= 2 ? 1 : 2;
	voters_update_min_insync(volume);
	if (volume->leg_count > 0) {
		volume_changed(volume);
	}
}

const char *volume_name(const struct volume *volume)
{
	return volume->options.name;
}

struct blk_dev *volume_blk(struct volume *volume)
{
	return &volume->blk;
}
