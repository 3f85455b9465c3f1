/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies under the range lock: R, where members may differ after a takeover or a failed write (from
 * one member to all others), and rebuilds (from a member to one target).  A few copiers a volume;
 * ranges that a read waits for come first.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#define COPY_PAUSE_NS        (50 * IO_NS_PER_MS)
#define COPY_UNREADABLE_NS   (10 * IO_NS_PER_S)
#define COPY_UNMARKED_LOG_NS (60 * IO_NS_PER_S)

void copiers_wake(struct volume *volume)
{
	for (unsigned i = 0; i < COPIERS; i++) {
		task_wake(&volume->copiers[i].task);
	}
}

bool copiers_are_idle(const struct volume *volume)
{
	for (unsigned i = 0; i < COPIERS; i++) {
		if (volume->copiers[i].state != COPY_DONE) {
			return false;
		}
	}
	return true;
}

bool copiers_refer_to(const struct volume *volume, const struct leg *leg)
{
	for (unsigned i = 0; i < COPIERS; i++) {
		const struct copier *copier = &volume->copiers[i];

		if (copier->pending & LEG_BIT(leg)) {
			return true;
		}
		if (copier->working &&
			(copier->source == (int)leg->index || copier->target == (int)leg->index ||
				((copier->ok | copier->destinations | copier->turns) &
					LEG_BIT(leg)))) {
			return true;
		}
	}
	return false;
}

void copiers_forget_leg(struct volume *volume, const struct leg *leg)
{
	for (unsigned i = 0; i < COPIERS; i++) {
		volume->copiers[i].tried &= ~LEG_BIT(leg);
	}
}

void copiers_start(struct volume *volume)
{
	for (unsigned i = 0; i < COPIERS; i++) {
		struct copier *copier = &volume->copiers[i];

		copier->volume = volume;
		task_init(&copier->task, &volume->io->runq, copier_step);
		io_timer_init(&copier->timer, volume->io, &copier->task);
		task_wake(&copier->task);
	}
}

/* ---- choosing work ---- */

static bool piece_is_taken(const struct volume *volume, const struct piecemap *map, uint64_t piece)
{
	for (unsigned i = 0; i < COPIERS; i++) {
		const struct copier *copier = &volume->copiers[i];

		if (copier->working && copier->map == map && copier->piece == piece) {
			return true;
		}
	}
	return false;
}

/* It was tried, and waits. */
static bool piece_is_unreadable(const struct volume *volume, int target, uint64_t piece)
{
	const struct piecemap *waiting =
		target >= 0 ? &volume->legs[target]->unreadable : &volume->unequal;

	return waiting->count > 0 && piecemap_test(waiting, piece * waiting->piece_bytes, 1);
}

/* The host has written there: what waits of R may be readable now. */
void copiers_retry(struct volume *volume, uint64_t offset, uint64_t length)
{
	struct piecemap *waiting = &volume->unequal;
	uint64_t piece;

	if (waiting->count == 0 || !piecemap_test(waiting, offset, length)) {
		return;
	}
	for (piece = piecemap_next(waiting, offset / waiting->piece_bytes);
		piece != UINT64_MAX && piece * waiting->piece_bytes < offset + length;
		piece = piecemap_next(waiting, piece + 1)) {
		piecemap_clear_piece(waiting, piece);
	}
	copiers_wake(volume);
}

static bool copier_take(struct copier *copier, struct piecemap *map, int target, uint64_t from)
{
	struct volume *volume = copier->volume;
	uint64_t piece = piecemap_next(map, from);

	while (piece != UINT64_MAX && (piece_is_taken(volume, map, piece) ||
					      piece_is_unreadable(volume, target, piece))) {
		piece = piecemap_next(map, piece + 1);
	}
	if (piece == UINT64_MAX) {
		return false;
	}
	copier->map = map;
	copier->piece = piece;
	copier->target = target;
	copier->offset = piece * map->piece_bytes;
	copier->length = piecemap_piece_length(map, piece);
	copier->incarnation = volume->incarnation;
	copier->working = true;
	copier->compare = COPY_COMPARE_OFF;
	copier->whole_left = false;
	if (target >= 0) {
		volume->legs[target]->copies++;
	}
	rebuilds_copy_began(volume, target >= 0 ? volume->legs[target] : NULL, copier->length);
	return true;
}

/* A range of R that a read waits for. */
static bool copier_take_demanded(struct copier *copier)
{
	struct volume *volume = copier->volume;

	list_for_each (&volume->ops, pos) {
		const struct vol_op *op = container_of(pos, struct vol_op, node);
		uint64_t first;

		if (op->req->kind != BLK_READ ||
			(op->state != OP_AWAIT_RESYNC && op->state != OP_AWAIT_READ)) {
			continue;
		}
		first = op->req->offset / volume->resync.piece_bytes;
		if (piecemap_test(&volume->resync, op->req->offset, op->req->length) &&
			copier_take(copier, &volume->resync, -1, first)) {
			return true;
		}
	}
	return false;
}

/* Looks for work then, at the latest. */
static void copier_look_at(struct copier *copier, uint64_t at_ns)
{
	if (!io_timer_is_running(&copier->timer) || copier->timer.deadline_ns > at_ns) {
		io_timer_start(&copier->timer, at_ns);
	}
}

/* What could not be read from anybody is tried again now and then: the host may have written it
 * anew. */
static void copier_retry(struct copier *copier, struct piecemap *unreadable, uint64_t at_ns)
{
	if (unreadable->count == 0) {
		return;
	}
	if (io_now_ns(copier->volume->io) < at_ns) {
		copier_look_at(copier, at_ns);
		return;
	}
	piecemap_clear(unreadable);
	rebuilds_changed(copier->volume->nexus);
}

/* A range that has left R may be read, and may hold what was never acknowledged: nobody sees that
 * while a predecessor may still answer reads by its lease with what was there before (1.9). */
static bool copier_may_settle(struct volume *volume)
{
	if (io_now_ns(volume->io) < volume->ack_not_before_ns) {
		volume_tick_start(volume);
		return false;
	}
	return true;
}

static bool copier_has_turn(struct copier *copier, leg_mask all, leg_mask any)
{
	uint64_t due_ns = copy_turn_due_ns(copier, all, any);

	if (due_ns != 0) {
		copier_look_at(copier, due_ns);
	}
	return due_ns == 0;
}

/* R goes to all members.  While one is out and S cannot shrink, its turn comes later. */
static bool copier_take_resync(struct copier *copier)
{
	struct volume *volume = copier->volume;
	leg_mask needed = volume_needed(volume);

	return volume->resync.count > volume->unequal.count && copier_may_settle(volume) &&
	       (needed & (volume_out_mask(volume) | ~volume_ready_mask(volume))) == 0 &&
	       copier_has_turn(copier, needed, 0) &&
	       (copier_take_demanded(copier) || copier_take(copier, &volume->resync, -1, 0));
}

/* A piece of the target's rebuild, if it may be copied now. */
static bool copier_take_rebuild(struct copier *copier, struct leg *leg)
{
	uint64_t now_ns = io_now_ns(copier->volume->io);
	uint64_t due_ns = rebuilds_due_ns(leg, now_ns);

	if (due_ns <= now_ns) {
		if (!copier_has_turn(copier, LEG_BIT(leg), volume_readable(copier->volume))) {
			return false;
		}
		return copier_take(copier, &leg->todo, (int)leg->index, 0);
	}
	if (due_ns != UINT64_MAX) {
		copier_look_at(copier, due_ns);
	}
	return false;
}

static bool copier_find_work(struct copier *copier)
{
	struct volume *volume = copier->volume;

	if (!volume->serving || volume_is_dead(volume)) {
		return false;
	}
	copier_retry(copier, &volume->unequal, volume->unequal_until_ns);
	if (copier_take_resync(copier)) {
		return true;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		unsigned at = (unsigned)((volume->copy_cursor + i) % volume->leg_count);
		struct leg *leg = volume->legs[at];

		if (leg->target) {
			copier_retry(copier, &leg->unreadable, leg->unreadable_until_ns);
		}
		if (leg->target && !leg->todo_all && leg->ready &&
			copier_take_rebuild(copier, leg)) {
			volume->copy_cursor = at + 1u;
			return true;
		}
	}
	return false;
}

/* ---- one copy ---- */

/* The work is still there: nothing was reopened, the target is still one, the piece is still to be
 * copied. */
bool copier_is_valid(const struct copier *copier)
{
	const struct volume *volume = copier->volume;

	if (volume_is_dead(volume) || !volume->serving ||
		copier->incarnation != volume->incarnation) {
		return false;
	}
	if (copier->target >= 0 && !volume->legs[copier->target]->target) {
		return false;
	}
	return piecemap_test(copier->map, copier->offset, copier->length);
}

static void copy_read_done(struct leg_io *lio)
{
	struct copier *copier = lio->ctx;

	copy_turn_answered(lio);
	task_wake(&copier->task);
}

static void copy_write_done(struct leg_io *lio)
{
	struct copier *copier = lio->ctx;
	leg_mask bit = LEG_BIT(lio->leg);

	copy_turn_answered(lio);
	copier->pending &= ~bit;
	if (lio->result == LEG_OK) {
		copier->ok |= bit;
	} else if (lio->result == LEG_NOSPC) {
		copier->nospc |= bit;
	}
	task_wake(&copier->task);
}

/* R of a single member: there is nobody to differ from, and nothing to read. */
static bool copier_is_alone(const struct copier *copier)
{
	const struct volume *volume = copier->volume;

	return copier->target < 0 && mask_count(volume_needed(volume)) == 1 &&
	       volume_target_mask(volume) == 0;
}

/* Answered, or its source was given up: the range is not kept waiting for that. */
bool copier_read_is_over(const struct copier *copier)
{
	return !copier->read_io.busy ||
	       !(volume_ready_mask(copier->volume) & (leg_mask)1 << copier->source);
}

/* Deliberate bug ROT_COPIED: whatever the buffer holds goes to the others. */
static bool copier_has_read(const struct copier *copier)
{
	return (copier->read_io.result == LEG_OK ||
		       (copier->read_io.result == LEG_MEDIA && mutant_is(MUTANT_ROT_COPIED))) &&
	       copier_is_valid(copier);
}

static bool copier_has_source(const struct copier *copier)
{
	const struct volume *volume = copier->volume;

	return (volume_readable(volume) &
		       ops_complete_on(volume, copier->offset, copier->length)) != 0;
}

/* Copies are ordinary writes: who is rebuilt later from where they went must get them too. */
static uint64_t copier_wgen(const struct copier *copier)
{
	const struct volume *volume = copier->volume;

	if (mutant_is(MUTANT_B8)) {
		return 1; /* Deliberate bug. */
	}
	if (mutant_is(MUTANT_B11) && copier->target >= 0) {
		/* Deliberate bug, with one in the store that lets a stamp fall. */
		return max_u64(volume->legs[copier->target]->clean, 1);
	}
	return volume->wgen;
}

static struct wire_io copier_command(struct copier *copier, const struct leg *leg, uint8_t opcode)
{
	struct volume *volume = copier->volume;
	uint64_t settled = volume_settled(volume);

	return (struct wire_io){
		.opcode = opcode,
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.wgen_low = (uint32_t)copier_wgen(copier),
		.seq = opcode == WIRE_READ ? volume->seq : ++volume->seq,
		.settled = settled,
		.slba = copier->part_offset / volume->block_bytes,
		.block_count = copier->part_length / volume->block_bytes,
	};
}

/* false: no member can be read now. */
static bool copier_choose_source(struct copier *copier)
{
	const struct volume *volume = copier->volume;
	leg_mask readable = volume_readable(volume) & ~copier->tried &
			    ops_complete_on(volume, copier->offset, copier->length);

	if (readable == 0) {
		return false;
	}
	if (readable & copy_turn_free(volume)) {
		readable &= copy_turn_free(volume);
	}
	copier->source = __builtin_ctz(readable);
	copy_turn_begin(copier);
	TRACE(volume->io, copy_begin, trace_id(&volume->options.uuid), copier->source,
		copier->offset, copier->length);
	return true;
}

static bool copier_source_is_ready(const struct copier *copier)
{
	const struct leg *leg = copier->volume->legs[copier->source];

	return leg->ready && !leg->refence;
}

static bool copier_part_is_read(const struct copier *copier)
{
	return !copier->read_io.busy && copier_has_read(copier);
}

static bool copier_part_is_copied(const struct copier *copier)
{
	return copier_part_is_read(copier) && (copier->destinations & ~copier->ok) == 0;
}

/* false: nothing is left to be copied, or it cannot go on. */
static bool copier_send_read(struct copier *copier)
{
	struct volume *volume = copier->volume;
	struct leg *leg = volume->legs[copier->source];
	struct wire_io wio;

	if (!copier_is_valid(copier) || !copier_source_is_ready(copier) ||
		(copier->part_length > 0 && !copier_part_is_copied(copier)) ||
		!copy_next_part(copier)) {
		return false;
	}
	if (copier->source_is_zero) {
		memset(copier->buffer, 0, copier->part_length);
		return true;
	}
	wio = copier_command(copier, leg, WIRE_READ);
	copier->read_io.iov.iov_base = copier->buffer;
	copier->read_io.iov.iov_len = copier->part_length;
	copier->read_io.done = copy_read_done;
	copier->read_io.ctx = copier;
	copier->read_io.pooled = true;
	leg_submit_io(leg, &copier->read_io, &wio, &copier->read_io.iov, 1);
	return true;
}

leg_mask copy_members(const struct volume *volume, uint64_t offset, uint64_t length)
{
	leg_mask mask = volume_needed(volume);

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		/* Its pieces may be smaller: of the rest it has what it had, or was sent. */
		if (leg->target && !leg->todo_all && !piecemap_covers(&leg->todo, offset, length)) {
			mask |= LEG_BIT(leg);
		}
	}
	return mask;
}

/* A rebuild goes to its target. */
leg_mask copier_destinations(const struct copier *copier)
{
	if (copier->target >= 0) {
		return (leg_mask)1 << copier->target;
	}
	return copy_members(copier->volume, copier->offset, copier->length) &
	       ~((leg_mask)1 << copier->source);
}

static void copier_send_writes(struct copier *copier)
{
	struct volume *volume = copier->volume;
	bool zero;

	if (!copier_part_is_read(copier)) {
		return;
	}
	zero = bytes_are_zero(copier->buffer, copier->part_length);
	if (copier->compare == COPY_COMPARE_OFF) {
		copier->destinations = copier_destinations(copier);
	}
	copier->ok = copier->equal;
	if (zero && mutant_is(MUTANT_COPY_NO_ZEROS)) {
		copier->ok = copier->destinations;
		return;
	}
	checkpoint_note_written(volume, copier->part_offset, copier->part_length);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];
		struct leg_io *lio = &copier->write_ios[i];
		struct wire_io wio;

		if (!(copier->destinations & ~copier->equal & LEG_BIT(leg)) || !leg->ready ||
			leg->refence) {
			continue;
		}
		/* Zeros take no space: a hole stays a hole, and what is too much there is
		 * discarded. */
		wio = copier_command(copier, leg, zero ? WIRE_DISCARD : WIRE_WRITE);
		lio->iov.iov_base = copier->buffer;
		lio->iov.iov_len = copier->part_length;
		lio->done = copy_write_done;
		lio->ctx = copier;
		lio->pooled = true; /* also without data: the buffer is not given back before */
		copier->pending |= LEG_BIT(leg);
		metric_inc(&leg->writes, 1);
		metric_inc(
			&leg->copied_bytes, copier->target >= 0 && !zero ? copier->part_length : 0);
		leg_submit_io(leg, lio, &wio, zero ? NULL : &lio->iov, zero ? 0 : 1);
	}
}

/* Nobody who still counts is waited for; a leg that was given up may answer later, its buffer stays
 * ours until then. */
bool copier_is_answered(const struct copier *copier)
{
	const struct volume *volume = copier->volume;

	return (copier->pending & volume_ready_mask(volume)) == 0 || volume_is_dead(volume);
}

static void copier_clear(struct copier *copier)
{
	struct volume *volume = copier->volume;

	if (copier->length < piecemap_piece_length(copier->map, copier->piece)) {
		/* The volume grew meanwhile: writes to what is new in the piece were left to a copy
		 * of it. */
		return;
	}
	piecemap_clear_piece(copier->map, copier->piece);
	if (copier->target < 0) {
		volume->acked++; /* reads rely on it: lost with the power like a write */
	}
	if (copier->target < 0 && volume->resync.count == 0) {
		volume->unsettled = 0;
		volume->resync_by_stamps = false;
	}
	task_wake(&volume->checkpoint_task);
	task_wake(&volume->resynced_task);
}

static void copier_finish(struct copier *copier)
{
	struct volume *volume = copier->volume;
	leg_mask wanted = copier_destinations(copier);
	bool complete = copier_is_valid(copier) && !copy_is_part_left(copier) &&
			((wanted & ~copier->ok) == 0 || mutant_is(MUTANT_COPY_FAILED));

	TRACE(volume->io, copy_end, trace_id(&volume->options.uuid), copier->source, copier->offset,
		copier->ok);
	if (complete) {
		copier_clear(copier);
	} else if (copier_is_valid(copier)) {
		for (unsigned i = 0; i < volume->leg_count; i++) {
			struct leg *leg = volume->legs[i];

			if (!(wanted & LEG_BIT(leg)) || !leg->ready ||
				(copier->ok & LEG_BIT(leg)) || copier->write_ios[i].busy) {
				continue;
			}
			/* Pool full where another member's content needs space: with another member
			 * as the source it may fit. */
			if ((copier->nospc & LEG_BIT(leg)) && copier->target < 0 &&
				(volume_readable(volume) & ~copier->tried &
					~((leg_mask)1 << copier->source))) {
				continue;
			}
			if (copier->nospc & LEG_BIT(leg)) {
				leg_fail(leg, "pool full");
			} else if (copier->write_ios[i].result == LEG_IO) {
				leg_fail(leg, "I/O error while copying");
			}
		}
	}
	copier->tried = complete ? 0 : copier->tried | (leg_mask)1 << copier->source;
}

/* ---- the buffer ---- */

static bool copier_get_buffer(struct copier *copier)
{
	if (copier->buffer == NULL) {
		copier->buffer = bufpool_get(copier->volume->nexus->buffers, copier->length);
		if (copier->buffer == NULL) {
			bufpool_wait(
				copier->volume->nexus->buffers, &copier->waiter, &copier->task);
		}
	}
	return copier->buffer != NULL;
}

static void copier_put_buffer(struct copier *copier)
{
	assert(copier->pending == 0 && !copier->read_io.busy);
	bufpool_unwait(&copier->waiter);
	if (copier->buffer != NULL) {
		bufpool_put(copier->volume->nexus->buffers, copier->buffer, copier->length);
		copier->buffer = NULL;
	}
}

/* ---- what the source cannot read ---- */

/* The repair has brought the piece to the target, with marks for what nobody can read; the range is
 * locked. */
static void copier_filled(struct repair *repair)
{
	struct copier *copier = container_of(repair, struct copier, repair);

	if (copier_is_valid(copier) && !repair->unmarked) {
		copier->tried = 0;
		copier_clear(copier);
	}
}

static bool copier_start_repair(struct copier *copier)
{
	struct volume *volume = copier->volume;

	copier->tried |= (leg_mask)1 << copier->source;
	range_lock_release(&volume->locks, &copier->lock);
	copier_put_buffer(copier); /* the repair needs one */
	copy_turn_end(copier);     /* repairs wait for each other: others copy meanwhile */
	copier->repair.equalise = copier->target < 0;
	copier->repair.fill = copier->target >= 0 ? (leg_mask)1 << copier->target : 0;
	copier->repair.filled = copier_filled;
	copier->repair_unsettled = volume->unsettled;
	return repair_start(volume, &copier->repair, copier->offset, copier->length, &copier->task);
}

/* Not again before COPY_UNREADABLE_NS.  All of it fails again each time: one is logged now and
 * then, the status counts them. */
static void copier_set_aside(const struct copier *copier)
{
	struct volume *volume = copier->volume;
	uint64_t now_ns = io_now_ns(volume->io);
	uint64_t until_ns = now_ns + COPY_UNREADABLE_NS;

	if (copier->target >= 0) {
		piecemap_set(&volume->legs[copier->target]->unreadable, copier->offset,
			copier->length);
		volume->legs[copier->target]->unreadable_until_ns = until_ns;
	} else {
		piecemap_set(&volume->unequal, copier->offset, copier->length);
		volume->unequal_until_ns = until_ns;
	}
	if (now_ns < volume->unmarked_log_ns) {
		return;
	}
	volume->unmarked_log_ns = now_ns + COPY_UNMARKED_LOG_NS;
	log_error(&volume->io->log, "nexus", "unmarked",
		"volume=%s replica=%d offset=%llu blocks=%llu", volume->options.name,
		copier->target, (unsigned long long)copier->offset,
		(unsigned long long)copier->repair.unreadable);
}

/* A rebuild's piece was brought by the repair, and R is settled by it, unless a write failed there
 * meanwhile.  What is nowhere, and not marked where it must be, waits. */
static void copier_take_repaired(struct copier *copier)
{
	const struct repair *repair = &copier->repair;

	if (!copier_is_valid(copier) || !repair->complete) {
		return;
	}
	if (repair->unmarked) {
		copier_set_aside(copier);
	} else if (copier->target < 0 &&
		   copier->repair_unsettled == copier->volume->unsettled) {
		copier_clear(copier);
	}
	copier->tried = 0;
}

static void copier_let_go(struct copier *copier)
{
	struct volume *volume = copier->volume;
	struct leg *target = copier->target >= 0 ? volume->legs[copier->target] : NULL;
	bool is_done = !piecemap_test(copier->map, copier->offset, copier->length);

	copy_turn_end(copier);
	range_lock_release(&volume->locks, &copier->lock);
	ops_revisit(volume);
	rebuilds_copy_ended(volume, target, is_done ? copier->length : 0);
	if (target != NULL) {
		target->copies--;
		task_wake(&target->rebuild_task);
		task_wake(&target->join_task);
	}
	copier->working = false;
}

static bool copier_ends(const struct copier *copier)
{
	return copier->volume->ending || copier->volume->superseded;
}

static void copier_lock(struct copier *copier)
{
	copier->lock.offset = copier->offset;
	copier->lock.length = copier->length;
	copier->lock.exclusive = true;
	copier->lock.internal = true;
	if (mutant_is(MUTANT_COPY_UNLOCKED)) {
		copier->lock.held = true;
		return;
	}
	range_lock_acquire(&copier->volume->locks, &copier->lock, &copier->task);
}

/* Nothing of it is under way any more.  When all copiers wait for a stuck disk its association
 * goes, and the buffers come back. */
static bool copier_is_free(struct copier *copier)
{
	struct volume *volume = copier->volume;
	leg_mask stuck = 0;

	if (copier->pending == 0 && !copier->read_io.busy) {
		return true;
	}
	for (unsigned i = 0; i < COPIERS; i++) {
		const struct copier *other = &volume->copiers[i];

		if (other->state != COPY_AWAIT_PENDING) {
			return false;
		}
		stuck |= other->pending | (other->read_io.busy ? (leg_mask)1 << other->source : 0);
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if ((stuck & (leg_mask)1 << i) && !volume->legs[i]->ready) {
			peer_reset(volume->legs[i]->peer,
				"all copies of a volume wait for a stuck disk");
		}
	}
	return false;
}

void copier_step(struct task *task)
{
	struct copier *copier = container_of(task, struct copier, task);
	struct volume *volume = copier->volume;

	volume_works(volume, TRACE_WORK_COPY);
	switch (copier->state) {
	case COPY_START:
		for (;;) {
			AWAIT(copier, COPY_AWAIT_WORK,
				copier_ends(copier) || copier_find_work(copier));
			if (!copier->working) {
				break;
			}
			AWAIT(copier, COPY_AWAIT_BUFFER,
				copier_get_buffer(copier) || copier_ends(copier));
			copier_lock(copier);
			AWAIT(copier, COPY_AWAIT_LOCK,
				copier->lock.held || !copier_is_valid(copier));
			if (copier_is_valid(copier) && copier_is_alone(copier)) {
				copier->source = __builtin_ctz(volume_needed(volume));
				copier_finish(copier);
			} else if (copier_is_valid(copier) && copier->buffer != NULL &&
				   copier_choose_source(copier)) {
				copy_compare_start(copier);
				AWAIT(copier, COPY_AWAIT_COMPARED, copy_compare_is_over(copier));
				while (copier_send_read(copier)) {
					AWAIT(copier, COPY_AWAIT_READ, copier_read_is_over(copier));
					copier_send_writes(copier);
					AWAIT(copier, COPY_AWAIT_WRITES,
						copier_is_answered(copier));
				}
				if (copier->read_io.busy) {
					copier->tried |= (leg_mask)1 << copier->source;
				} else if (copier_part_is_read(copier)) {
					copier_finish(copier);
				} else if (copier->read_io.result == LEG_MEDIA &&
					   copier->pending == 0 && copier_is_valid(copier) &&
					   copier_start_repair(copier)) {
					AWAIT(copier, COPY_AWAIT_REPAIR, !copier->repair.busy);
					copier_take_repaired(copier);
				} else if (copier->read_io.result == LEG_IO ||
					   copier->read_io.result == LEG_MEDIA ||
					   copier->read_io.result == LEG_REFUSED) {
					copier->tried |= (leg_mask)1 << copier->source;
				}
			} else {
				copier->tried = 0;
			}
			copier_let_go(copier);
			if (copier->tried != 0 || !copier_has_source(copier)) {
				/* It did not work: not at once again. */
				io_timer_start_after(&copier->timer, COPY_PAUSE_NS);
				AWAIT(copier, COPY_AWAIT_PAUSE,
					!io_timer_is_running(&copier->timer) ||
						copier_ends(copier));
			}
			AWAIT(copier, COPY_AWAIT_PENDING, copier_is_free(copier));
			copier_put_buffer(copier);
		}
		io_timer_stop(&copier->timer);
		copier->state = COPY_DONE;
		task_wake(&volume->close_task);
		return;
	case COPY_DONE:
		return;
	}
}
