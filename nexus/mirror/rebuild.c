/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings a stale or new replica back while I/O goes on (docs/protocol.md 1.8): accept the present
 * configuration, persist rebuilding=1, register in the write path, compute what may differ
 * (todo.c), copy it; grow.c lets it join.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

#define REBUILD_RETRY_NS     (1000 * IO_NS_PER_MS)
#define REBUILD_RETRY_MAX_NS (16000 * IO_NS_PER_MS)

static bool rebuild_ends(const struct leg *leg)
{
	return leg_ends(leg);
}

void rebuild_drop(struct leg *leg, const char *reason)
{
	struct volume *volume = leg->volume;

	if (!leg->target) {
		return;
	}
	TRACE(volume->io, rebuild_drop, trace_id(&volume->options.uuid), leg->index, 0, 0);
	absent_keep(leg);
	leg->target = false;
	leg->joining = false;
	if (leg->ready) {
		/* What was mirrored to it and is not answered must not land after a later copy. */
		leg->refence = true;
		task_wake(&leg->task);
	}
	if (volume->joiner == leg) {
		volume->joiner_ready = false;
		if (volume->joiner_proposed && volume->proposal_open) {
			/* It may have accepted: only a newer configuration without it settles that.
			 */
			leg->out = true;
		}
	}
	log_info(&volume->io->log, "nexus", "rebuild-stopped", "volume=%s replica=%u reason=%s",
		volume->options.name, leg->index, reason);
	task_wake(&leg->rebuild_task);
	task_wake(&leg->join_task);
	membership_wake(volume);
	volume_changed(volume);
}

/*
 * A proposal with the leg in it is open.  It may have accepted, and then only a newer configuration
 * settles what it is: one without it, where there are members enough; else one with it again, when
 * it was rebuilt again (who opens meanwhile sees that it is being rebuilt and leaves it out).
 */
static bool rebuild_waits_for_proposal(const struct volume *volume, const struct leg *leg)
{
	leg_mask usable = volume->member_mask & ~volume_out_mask(volume);

	return volume->proposal_open && (volume->proposed_mask & LEG_BIT(leg)) &&
	       mask_count(usable) >= volume->min_insync;
}

/* Reached, not in S (or out of it with doubtful content). */
static bool rebuild_is_candidate(struct leg *leg)
{
	struct volume *volume = leg->volume;
	bool member = (volume->member_mask & LEG_BIT(leg)) != 0;

	if (!volume->serving || volume_is_dead(volume) || !leg->ready || leg->refence ||
		leg->peer->leaving || leg->voter.kind != VOTER_DATA || eject_keeps_out(leg) ||
		!voters_has(&volume->cfg, leg)) {
		return false;
	}
	if ((voters_removing_mask(volume) & LEG_BIT(leg)) &&
		voters_are_enough_without(volume, leg)) {
		return false;
	}
	if (member && !(leg->out && (leg->power_lost || leg->vmeta_rebuilding))) {
		return false;
	}
	if (!member && rebuild_waits_for_proposal(volume, leg)) {
		return false;
	}
	return volume_readable(volume) != 0;
}

static void rebuild_cmd_done(struct leg_io *lio)
{
	task_wake(lio->ctx);
}

/* A smaller one cannot take the configuration, nor what is written beyond its end. */
static bool rebuild_is_too_small(const struct leg *leg)
{
	return leg->resize.size_bytes < resize_goal(leg->volume);
}

static void rebuild_begin_resize(struct leg *leg)
{
	if (rebuild_is_too_small(leg) && !leg->resize.io.busy) {
		resize_send(leg, resize_goal(leg->volume));
	}
}

static bool rebuild_may_begin(struct leg *leg)
{
	return rebuild_is_candidate(leg) && !rebuild_is_too_small(leg);
}

/* ACCEPT of the present configuration, MARK rebuilding=1, FLUSH. */
void rebuild_send(struct leg *leg, uint8_t opcode, struct task *wake)
{
	struct leg_io *lio = &leg->rebuild_io;
	struct wire_io flush = {
		.opcode = WIRE_FLUSH,
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.wgen_low = (uint32_t)leg->volume->wgen,
		.seq = leg->volume->seq,
	};

	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = opcode;
	lio->done = rebuild_cmd_done;
	lio->ctx = wake;
	lio->iov.iov_base = leg->rebuild_data;
	lio->iov.iov_len = CFG_ENCODED_SIZE;
	if (opcode == WIRE_FLUSH) {
		leg_submit_io(leg, lio, &flush, NULL, 0);
		return;
	}
	if (opcode == WIRE_MARK) {
		/* From here on it may be so: layers are written before it is registered. */
		leg->vmeta_rebuilding = leg->vmeta_rebuilding || !mutant_is(MUTANT_TARGET_INTACT);
		lio->cmd.sqe.cdw12 = 1;
	} else {
		cfg_encode(&leg->volume->cfg, leg->rebuild_data);
		leg->rebuild_wgen = leg->volume->cfg.wgen;
	}
	leg_submit(leg, lio, true, &lio->iov, opcode == WIRE_ACCEPT ? 1 : 0);
}

/* Whether it is marked after an error, the next FENCE tells. */
static void rebuild_take_mark(struct leg *leg)
{
	if (leg->rebuild_io.result != LEG_OK && leg->ready) {
		leg->refence = true;
		task_wake(&leg->task);
	}
}

static bool rebuild_is_marked(struct leg *leg)
{
	return rebuild_may_begin(leg) && leg->rebuild_io.result == LEG_OK &&
	       leg->cfg_wgen >= leg->volume->wgen;
}

/* Registered BEFORE anything is computed: from now on writes go to it or into todo (DRBD 9.0.26).
 */
static bool rebuild_register(struct leg *leg)
{
	struct volume *volume = leg->volume;
	unsigned pieces = todo_may_be_exact(leg) ? PIECES_A_REGION_FINE : PIECES_A_REGION;

	if (piecemap_init(&leg->todo, volume->io, volume->size_bytes, volume->region_bytes,
		    pieces) != 0) {
		return false;
	}
	if (piecemap_init(&leg->unreadable, volume->io, volume->size_bytes, volume->region_bytes,
		    pieces) != 0 ||
		resize_reserve(volume, &leg->todo) != 0 ||
		resize_reserve(volume, &leg->unreadable) != 0) {
		piecemap_done(&leg->todo, volume->io);
		piecemap_done(&leg->unreadable, volume->io);
		return false;
	}
	/* R goes to it too: what is copied between members while todo is computed passes it by. */
	piecemap_add(&leg->todo, &volume->resync);
	TRACE(volume->io, rebuild_begin, trace_id(&volume->options.uuid), leg->index, 0, 0);
	leg->todo_all = true;
	leg->target = true;
	rebuilds_add(leg);
	leg->older_seq = volume->seq;
	ops_forget_leg(volume, leg, true);
	return true;
}

static void rebuild_unregister(struct leg *leg)
{
	struct volume *volume = leg->volume;

	leg->target = false;
	leg->todo_all = false;
	rebuilds_remove(leg);
	piecemap_done(&leg->todo, volume->io);
	piecemap_done(&leg->unreadable, volume->io);
	membership_wake(volume);
	volume_changed(volume);
}

/* The end of the attempt, one way or the other. */
bool rebuild_is_over(const struct leg *leg)
{
	return !leg->target || rebuild_ends(leg) || volume_is_dead(leg->volume) ||
	       !leg->volume->serving;
}

bool rebuild_is_copied(const struct leg *leg)
{
	return leg->todo.count == 0 && leg->copies == 0;
}

/* Refused: it has accepted this one, or a newer proposal, already. */
static bool rebuild_has_accepted(struct leg *leg)
{
	if (leg->rebuild_io.result != LEG_OK && leg->rebuild_io.result != LEG_REFUSED) {
		return false;
	}
	leg->cfg_wgen = max_u64(leg->cfg_wgen, leg->rebuild_wgen);
	return true;
}

static void rebuild_begin_copy(struct leg *leg)
{
	struct volume *volume = leg->volume;

	leg->todo_all = false;
	dirty_forget(&leg->dirty); /* todo has it now */
	leg->todo_total_bytes = leg->todo.count * leg->todo.piece_bytes;
	progress_begin(&leg->progress, io_now_ns(volume->io));
	leg->before_compared_bytes = metric_get(&leg->compared_bytes);
	leg->before_equal_bytes = metric_get(&leg->equal_bytes);
	leg->before_copied_bytes = metric_get(&leg->copied_bytes);
	TRACE(volume->io, rebuild_copy, trace_id(&volume->options.uuid), leg->index,
		leg->todo.count, 0);
	log_info(&volume->io->log, "nexus", "rebuild-started", "volume=%s replica=%u bytes=%llu",
		volume->options.name, leg->index, (unsigned long long)leg->todo_total_bytes);
	rebuilds_changed(volume->nexus);
	copiers_wake(volume);
	ops_revisit(volume);
}

/* A pool that is full stays so for long, and each attempt copies until it is full again. */
static void rebuild_start_timer(struct leg *leg)
{
	if (leg->rebuild_retry_ns == 0) {
		leg->rebuild_retry_ns = REBUILD_RETRY_NS;
	}
	io_timer_start_after(&leg->rebuild_timer, leg->rebuild_retry_ns);
	leg->rebuild_retry_ns = min_u64(2 * leg->rebuild_retry_ns, REBUILD_RETRY_MAX_NS);
}

void rebuild_step(struct task *task)
{
	struct leg *leg = container_of(task, struct leg, rebuild_task);
	struct volume *volume = leg->volume;

	volume_works(volume, TRACE_WORK_REBUILD);
	switch (leg->rebuild_state) {
	case REBUILD_START:
		for (;;) {
			AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_CANDIDATE,
				rebuild_is_candidate(leg) || rebuild_ends(leg));
			if (rebuild_ends(leg)) {
				break;
			}
			rebuild_begin_resize(leg);
			AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_RESIZED, !leg->resize.io.busy);
			if (rebuild_may_begin(leg)) {
				rebuild_send(leg, WIRE_ACCEPT, &leg->rebuild_task);
				AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_ACCEPT,
					!leg->rebuild_io.busy);
			}
			if (rebuild_may_begin(leg) && rebuild_has_accepted(leg)) {
				rebuild_send(leg, WIRE_MARK, &leg->rebuild_task);
				AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_MARK,
					!leg->rebuild_io.busy);
				rebuild_take_mark(leg);
			}
			if (rebuild_is_marked(leg)) {
				layers_begin(leg);
				AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_LAYERS,
					leg->layers.state == LAYERS_DONE);
			}
			if (rebuild_is_marked(leg) && layers_are_complete(leg) &&
				rebuild_register(leg)) {
				AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_OLDER,
					!ops_older_run(volume, leg->older_seq) ||
						rebuild_is_over(leg));
				leg->compute_state = COMPUTE_START;
				task_wake(&leg->compute_task);
				AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_COMPUTED,
					leg->compute_state == COMPUTE_DONE);
				if (!rebuild_is_over(leg)) {
					rebuild_begin_copy(leg);
					AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_COPIED,
						rebuild_is_copied(leg) || rebuild_is_over(leg));
					leg->join_state = JOIN_START;
					task_wake(&leg->join_task);
					AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_JOINED,
						leg->join_state == JOIN_DONE);
				}
				AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_COPIERS,
					leg->copies == 0);
				rebuild_unregister(leg);
			}
			rebuild_start_timer(leg);
			AWAIT_AT(leg->rebuild_state, REBUILD_AWAIT_RETRY,
				!io_timer_is_running(&leg->rebuild_timer) || rebuild_ends(leg));
		}
		io_timer_stop(&leg->rebuild_timer);
		leg->rebuild_state = REBUILD_DONE;
		task_wake(&volume->close_task);
		task_wake(&volume->voters_task);
		return;
	case REBUILD_DONE:
		return;
	}
}
