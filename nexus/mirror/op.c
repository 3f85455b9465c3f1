/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host requests.  A write goes to every member of S under its range lock and is answered when every
 * member of every S that an opener may still choose has it (I1); what a member did not take is the
 * membership's matter, and the request waits.  A read waits for overlapping writes, and for copies
 * where members may differ (I6), and is answered only under the lease (I12).
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>

static task_step op_step;

/* ---- what others ask about requests ---- */

static bool op_is_older_and_running(const struct vol_op *op, uint64_t seq)
{
	return op->seq <= seq && !op->finished && !op->lock.parked && op->req->kind != BLK_FLUSH;
}

bool ops_older_run(const struct volume *volume, uint64_t seq)
{
	list_for_each (&volume->issued, pos) {
		if (op_is_older_and_running(container_of(pos, struct vol_op, seq_node), seq)) {
			return true;
		}
	}
	return false;
}

bool ops_older_pend_on(const struct volume *volume, uint64_t seq, const struct leg *leg)
{
	list_for_each (&volume->issued, pos) {
		const struct vol_op *op = container_of(pos, struct vol_op, seq_node);

		if (op->seq <= seq && (op->pending & LEG_BIT(leg))) {
			return true;
		}
	}
	return false;
}

/* The leg begins anew: what was skipped or failed there is looked at again; with ok_too also what
 * it had answered. */
void ops_forget_leg(struct volume *volume, const struct leg *leg, bool ok_too)
{
	list_for_each (&volume->issued, pos) {
		struct vol_op *op = container_of(pos, struct vol_op, seq_node);

		op->skipped &= ~LEG_BIT(leg);
		op->failed &= ~LEG_BIT(leg);
		op->nospc &= ~LEG_BIT(leg);
		op->lock.parked = false; /* it has more to do: copies wait again */
		if (ok_too) {
			op->ok &= ~LEG_BIT(leg);
		}
		task_wake(&op->task);
	}
}

/* Members that have every write which is not answered yet in this range: what a copy may read that
 * passes parked writes. */
leg_mask ops_complete_on(const struct volume *volume, uint64_t offset, uint64_t length)
{
	leg_mask mask = ~(leg_mask)0;

	list_for_each (&volume->issued, pos) {
		const struct vol_op *op = container_of(pos, struct vol_op, seq_node);

		if (!op->finished && op->req->kind != BLK_FLUSH &&
			op->req->offset < offset + length &&
			offset < op->req->offset + op->req->length) {
			mask &= op->incarnation == volume->incarnation ? op->ok : 0;
		}
	}
	return mask;
}

/* Writes of an incarnation that ended are sent anew: copies wait for them again. */
void ops_unpark(struct volume *volume)
{
	list_for_each (&volume->issued, pos) {
		container_of(pos, struct vol_op, seq_node)->lock.parked = false;
	}
}

/* Everything was copied to the target: what was left to the copy counts as answered. */
void ops_absorb_skipped(struct volume *volume, const struct leg *leg)
{
	list_for_each (&volume->issued, pos) {
		struct vol_op *op = container_of(pos, struct vol_op, seq_node);

		op->ok |= op->skipped & LEG_BIT(leg);
		op->skipped &= ~LEG_BIT(leg);
	}
}

/* Its bit may stand in a mask of a request that began before it left. */
bool ops_refer_to(const struct volume *volume, const struct leg *leg)
{
	list_for_each (&volume->ops, pos) {
		const struct vol_op *op = container_of(pos, struct vol_op, node);

		if ((op->ok | op->pending | op->skipped | op->nospc | op->failed | op->tried |
			    op->unread | op->abandoned) &
			LEG_BIT(leg)) {
			return true;
		}
	}
	return false;
}

bool ops_of_older_wgen_run(const struct volume *volume)
{
	list_for_each (&volume->issued, pos) {
		const struct vol_op *op = container_of(pos, struct vol_op, seq_node);

		if (op->req->kind != BLK_FLUSH && op->wgen < volume->wgen) {
			return true;
		}
	}
	return false;
}

unsigned ops_count_writes(const struct volume *volume)
{
	unsigned count = 0;

	list_for_each (&volume->issued, pos) {
		count += container_of(pos, struct vol_op, seq_node)->req->kind != BLK_FLUSH;
	}
	return count;
}

void ops_add_to(const struct volume *volume, struct dirty *dirty)
{
	list_for_each (&volume->issued, pos) {
		const struct blk_req *req = container_of(pos, struct vol_op, seq_node)->req;

		if (req->kind != BLK_FLUSH) {
			dirty_set(dirty, req->offset, req->length);
		}
	}
}

void ops_revisit(struct volume *volume)
{
	list_for_each (&volume->ops, pos) {
		task_wake(&container_of(pos, struct vol_op, node)->task);
	}
}

/* Every command up to this number is on all of S.  One that a target did not answer is in its todo
 * before it leaves `issued`, copies are R's or some todo's until then. */
uint64_t volume_settled(const struct volume *volume)
{
	struct list_node *first = list_first(&volume->issued);

	if (mutant_is(MUTANT_B15)) {
		return volume->seq; /* Deliberate bug: nobody's answer is waited for. */
	}
	if (volume->resync.count > 0 && !mutant_is(MUTANT_SETTLED_IN_R)) {
		return 0;
	}
	return first == NULL ? volume->seq : container_of(first, struct vol_op, seq_node)->seq - 1;
}

/* ---- sending ---- */

static uint8_t op_opcode(const struct vol_op *op)
{
	switch (op->req->kind) {
	case BLK_READ:
		return WIRE_READ;
	case BLK_WRITE:
		return WIRE_WRITE;
	case BLK_FLUSH:
		return WIRE_FLUSH;
	case BLK_ZERO:
		return WIRE_WRITE_ZEROES;
	case BLK_DISCARD:
		return WIRE_DISCARD;
	}
	return 0;
}

static bool op_is_ranged_write(const struct vol_op *op)
{
	return op->req->kind != BLK_READ && op->req->kind != BLK_FLUSH;
}

static void op_leg_done(struct leg_io *lio)
{
	struct vol_op *op = lio->ctx;
	leg_mask bit = LEG_BIT(lio->leg);

	op->pending &= ~bit;
	if (op->req->kind == BLK_WRITE && lio->result != LEG_RESET) {
		slow_note_write(lio->leg, io_now_ns(op->volume->io) - lio->started_ns);
	} else if (op->req->kind == BLK_READ && lio->result == LEG_OK) {
		latency_note(
			&op->volume->read_latency, io_now_ns(op->volume->io) - lio->started_ns);
	}
	if (op->abandoned & bit) {
		op->abandoned &= ~bit;
		task_wake(&op->task);
		return;
	}
	switch (lio->result) {
	case LEG_OK:
		op->ok |= bit;
		break;
	case LEG_NOSPC:
		op->nospc |= bit;
		break;
	case LEG_MEDIA:
		op->unread |= bit;
		op->failed |= bit;
		break;
	case LEG_IO:
	case LEG_REFUSED:
		op->failed |= bit;
		break;
	case LEG_STALE:
	case LEG_RESET:
		/* Sent again when the leg is ready again, if this is still needed. */
		break;
	}
	if (lio->leg->target && op_is_ranged_write(op) && lio->result != LEG_OK) {
		/* It may have it or not, and nobody else remembers that. */
		piecemap_set(&lio->leg->todo, op->part_offset, op->part_length);
	}
	if (lio->leg->target && op->req->kind != BLK_READ &&
		(lio->result == LEG_NOSPC || lio->result == LEG_IO || lio->result == LEG_REFUSED)) {
		/* The range is not in its todo: only a new rebuild brings it. */
		leg_fail(lio->leg, lio->result == LEG_NOSPC ? "pool full" : "I/O error");
	}
	task_wake(&op->task);
	if (lio->leg->joining) {
		/* It waits for what was under way when it began to join. */
		task_wake(&lio->leg->join_task);
	}
}

/* Legs may have come since the request did. */
void op_prepare_lios(struct vol_op *op)
{
	for (; op->lio_count < op->volume->leg_count; op->lio_count++) {
		op->lios[op->lio_count].busy = false;
		op->lios[op->lio_count].node.next = NULL;
	}
}

void op_send(struct vol_op *op, struct leg *leg)
{
	struct volume *volume = op->volume;
	struct blk_req *req = op->req;
	struct leg_io *lio = &op->lios[leg->index];
	struct wire_io wio = {
		.opcode = op_opcode(op),
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.wgen_low = (uint32_t)op->wgen,
		.seq = op->seq,
		.settled = volume_settled(volume),
		.slba = op->part_offset / volume->block_bytes,
		.block_count = op->part_length / volume->block_bytes,
		.fua = req->fua && req->kind != BLK_READ && req->kind != BLK_FLUSH,
	};
	bool has_data = req->kind == BLK_READ || req->kind == BLK_WRITE;
	struct iovec *iov = has_data ? req->iov : NULL;
	unsigned iov_count = has_data ? req->iov_count : 0;

	op_prepare_lios(op);
	lio->pooled = req->kind == BLK_READ && op->hedge_leg == (int)leg->index;
	if (lio->pooled) {
		lio->iov = (struct iovec){op->hedge_buffer, req->length};
		iov = &lio->iov;
		iov_count = 1;
	}
	wio.settled = min_u64(wio.settled, wio.seq);
	lio->done = op_leg_done;
	lio->ctx = op;
	op->pending |= LEG_BIT(leg);
	op->sent = true;
	metric_inc(req->kind == BLK_READ ? &leg->reads : &leg->writes, 1);
	leg_submit_io(leg, lio, &wio, iov, iov_count);
}

/* Sends to every member and target that has neither answered nor is being asked. */
static void op_send_missing(struct vol_op *op, leg_mask needed)
{
	struct volume *volume = op->volume;
	leg_mask settled = op->ok | op->pending | op->skipped | op->nospc | op->failed;

	op_prepare_lios(op);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!leg->ready || leg->refence || (settled & LEG_BIT(leg)) || op->lios[i].busy) {
			continue;
		}
		if (leg->target) {
			if (op->req->kind == BLK_FLUSH) {
				if (leg->joining) {
					op_send(op, leg);
				}
			} else if (leg->todo_all ||
				   piecemap_test(&leg->todo, op->part_offset, op->part_length)) {
				/* The copy will bring it: all of the pieces that it touches. */
				if (!leg->todo_all || !mutant_is(MUTANT_LATE_REGISTER)) {
					uint64_t before = leg->todo.count;

					piecemap_set(&leg->todo, op->part_offset, op->part_length);
					if (leg->todo.count > before) {
						/* It may have lost its turn when all that
						 * was left had to wait. */
						rebuilds_changed(volume->nexus);
						copiers_wake(volume);
					}
				}
				op->skipped |= LEG_BIT(leg);
			} else {
				op_send(op, leg);
			}
		} else if ((needed & LEG_BIT(leg)) && !leg->out) {
			op_send(op, leg);
		}
	}
}

/* ---- when a write or flush is answered ---- */

static bool op_covers(const struct vol_op *op, const struct leg *leg)
{
	if (op->ok & LEG_BIT(leg)) {
		return true;
	}
	return (op->skipped & LEG_BIT(leg)) && leg->target && !leg->todo_all &&
	       !piecemap_test(&leg->todo, op->part_offset, op->part_length);
}

static bool op_is_covered(const struct vol_op *op, leg_mask legs)
{
	unsigned missing = 0;

	for (unsigned i = 0; i < op->volume->leg_count; i++) {
		if ((legs & (leg_mask)1 << i) && !op_covers(op, op->volume->legs[i])) {
			missing++;
		}
	}
	if (mutant_is(MUTANT_ACK_FIRST)) {
		return (op->ok & legs) != 0;
	}
	if (mutant_is(MUTANT_FLUSH_LACKS_ONE) && op->req->kind == BLK_FLUSH) {
		return missing <= 1 && (op->ok & legs) != 0;
	}
	if (mutant_is(MUTANT_B6)) {
		/* Deliberate bug: two copies are enough, and the third stays in S. */
		return missing == 0 || mask_count(op->ok & legs) >= 2;
	}
	return missing == 0;
}

/* The host hears of an error and nobody is dropped: the members may differ here (trap F11). */
static void op_unsettle(struct vol_op *op)
{
	struct volume *volume = op->volume;

	if (!mutant_is(MUTANT_FORGETS_UNSETTLED)) {
		piecemap_set(&volume->resync, op->req->offset, op->req->length);
		absent_note(volume, op->req->offset, op->req->length);
	}
	volume->unsettled++;
	copiers_wake(volume);
}

/* No quorum, for too long: true when the request has ended. */
bool op_give_up(struct vol_op *op)
{
	struct volume *volume = op->volume;

	if (volume_is_dead(volume)) {
		op->result = volume->ending ? -ESHUTDOWN : -EIO;
		op->finished = true;
	} else if (volume->failing) {
		op->result = -EIO;
		op->finished = true;
		/* While it is being opened the stamps will tell. */
		if (op->sent && volume->serving && op->req->kind != BLK_READ &&
			op->req->kind != BLK_FLUSH) {
			op_unsettle(op);
		}
	}
	return op->finished;
}

/* Every needed member has answered or is out, and some said no. */
static void op_judge_errors(struct vol_op *op, leg_mask needed)
{
	struct volume *volume = op->volume;
	leg_mask out = volume_out_mask(volume);
	leg_mask bad = (op->nospc | op->failed) & needed & ~out;
	leg_mask good = op->ok & needed & ~out;
	bool unsettle;

	if (bad == 0 || (needed & ~(op->ok | op->nospc | op->failed | out)) != 0) {
		return;
	}
	unsettle = good == 0 || ((op->nospc & bad) != 0 && mask_count(good) < volume->min_insync);
	if (unsettle && op->req->kind != BLK_FLUSH &&
		((op->nospc & bad) != 0 || (out & needed) == 0)) {
		op->result = (op->nospc & bad) != 0 ? -ENOSPC : -EIO;
		op->finished = true;
		op_unsettle(op);
		return;
	}
	if (unsettle && (out & needed) != 0) {
		return; /* the configuration first: who is out may be dropped, or come back */
	}
	if (unsettle) {
		op->result = -EIO; /* a flush that failed everywhere */
		op->finished = true;
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (bad & (leg_mask)1 << i) {
			leg_fail(volume->legs[i],
				op->nospc & (leg_mask)1 << i ? "pool full" : "I/O error");
		}
	}
}

static void op_park(struct vol_op *op, leg_mask needed)
{
	struct volume *volume = op->volume;
	leg_mask reachable = needed & ~volume_out_mask(volume);
	bool complete =
		reachable != 0 && (reachable & ~op->ok) == 0 && (op->pending & reachable) == 0;

	if (op->lock.held && complete != op->lock.parked) {
		op->lock.parked = complete;
		if (complete) {
			range_lock_parked(&volume->locks, &op->lock);
			for (unsigned i = 0; i < volume->leg_count; i++) {
				task_wake(&volume->legs[i]->rebuild_task);
			}
		}
	}
}

static bool op_has_next_part(const struct vol_op *op)
{
	return op->req->kind != BLK_FLUSH &&
	       op->part_offset + op->part_length != op->req->offset + op->req->length;
}

/* A long ZERO or DISCARD goes on behind the part that is on all members; targets must have
 * answered, too.  A copy that passed it while it was parked ends first: what it has read of a later
 * part must not reach its target after that part was left to the copy. */
static void op_next_part(struct vol_op *op)
{
	struct volume *volume = op->volume;

	op->lock.parked = false;
	if ((op->pending & volume_ready_mask(volume)) != 0 ||
		range_lock_is_shared(&volume->locks, &op->lock)) {
		return;
	}
	if (!op->req->fua) {
		volume->acked++; /* nobody sends it again: lost with the power like a write */
	}
	op->part_offset += op->part_length;
	op->part_length = min_u64(op->req->offset + op->req->length - op->part_offset, ZERO_PART);
	op->ok = op->skipped = op->nospc = op->failed = 0;
	task_wake(&op->task);
}

/* I10: a member that is out, or rebuilt in place, does not count. */
static bool op_is_on_enough(const struct vol_op *op, leg_mask needed)
{
	const struct volume *volume = op->volume;

	return mask_count(volume->member_mask & ~volume_out_mask(volume)) >= volume->min_insync &&
	       op_is_covered(op, needed);
}

/* Looks at everything anew; true when the request has its answer. */
static bool op_progress(struct vol_op *op)
{
	struct volume *volume = op->volume;
	leg_mask needed;

	if (op->finished || op_give_up(op)) {
		return true;
	}
	if (!volume->serving) {
		return false;
	}
	if (op->incarnation != volume->incarnation) {
		op->incarnation = volume->incarnation;
		op->wgen = volume->wgen;
		op->ok = op->skipped = op->nospc = op->failed = 0;
	}
	needed = volume_needed(volume);
	if (mutant_is(MUTANT_ACK_BEFORE_COMMIT)) {
		needed &= ~volume_out_mask(volume);
	}
	op_send_missing(op, needed);
	op_judge_errors(op, needed);
	if (op->finished) {
		return true;
	}
	if (!op_is_on_enough(op, needed)) {
		op_park(op, needed);
		return false;
	}
	if (io_now_ns(volume->io) < volume->ack_not_before_ns) {
		volume_tick_start(volume);
		return false;
	}
	if (op_has_next_part(op)) {
		op_next_part(op);
		return false;
	}
	op->finished = true;
	return true;
}

static void op_account(struct vol_op *op)
{
	struct volume *volume = op->volume;
	struct blk_req *req = op->req;

	if (op->result != 0) {
		metric_inc(&volume->errors, 1);
		return;
	}
	switch (req->kind) {
	case BLK_READ:
		metric_inc(&volume->reads, 1);
		metric_inc(&volume->bytes_read, req->length);
		return;
	case BLK_FLUSH:
		metric_inc(&volume->flushes, 1);
		volume->flushed = max_u64(volume->flushed, op->flush_from);
		return;
	case BLK_WRITE:
	case BLK_ZERO:
	case BLK_DISCARD:
		if (volume->lost.count > 0) {
			lost_forget(volume, req->offset, req->length);
		}
		copiers_retry(volume, req->offset, req->length);
		metric_inc(&volume->writes, 1);
		metric_inc(&volume->bytes_written, req->length);
		if (!req->fua) {
			volume->acked++;
		}
		return;
	}
}

/* ---- the ladder ---- */

/* It ends, one way or the other: what it waits for may never come. */
static bool op_must_end(const struct vol_op *op)
{
	return volume_is_dead(op->volume) || op->volume->failing;
}

static bool op_may_begin(const struct vol_op *op)
{
	return op->volume->serving || op_must_end(op);
}

static bool op_takes_lock(const struct vol_op *op)
{
	return op->req->kind != BLK_FLUSH &&
	       (op->req->kind != BLK_READ || !mutant_is(MUTANT_READS_UNLOCKED));
}

static bool op_must_wait_for_copy(struct vol_op *op)
{
	const struct volume *volume = op->volume;

	if (op->req->kind != BLK_READ || !op_resync_overlaps(op) || op_must_end(op)) {
		return false;
	}
	if (volume->unequal.count > 0 &&
		piecemap_test(&volume->unequal, op->req->offset, op->req->length)) {
		op->result = -EIO; /* that may take until the host writes there */
		op->finished = true;
		return false;
	}
	return true;
}

static void op_issue(struct vol_op *op)
{
	struct volume *volume = op->volume;

	assert(!op_is_poisoned(op));
	op->seq = ++volume->seq;
	op->incarnation = volume->incarnation;
	op->wgen = volume->wgen;
	op->flush_from = volume->acked;
	op->part_offset = op->req->offset;
	op->part_length = op->req->length;
	if (op->req->kind == BLK_ZERO || op->req->kind == BLK_DISCARD) {
		op->part_length = min_u64(op->part_length, ZERO_PART);
	}
	list_push_back(&volume->issued, &op->seq_node);
	/* A volume that was superseded before it was ever open has no maps. */
	if (op->req->kind != BLK_FLUSH && volume->serving) {
		checkpoint_note_written(volume, op->req->offset, op->req->length);
		absent_note(volume, op->req->offset, op->req->length);
	}
}

/* What the copies of rebuilds are paced by. */
static void op_note_pace(struct vol_op *op)
{
	struct volume *volume = op->volume;
	bool is_read = op->req->kind == BLK_READ, is_large = op->req->length > PACE_LARGE_BYTES;

	if (op->result == 0 && (is_read || op->req->kind == BLK_WRITE)) {
		pace_host_ended(&volume->nexus->pace, &volume->pace_host,
			is_read ? (is_large ? PACE_LARGE_READ : PACE_READ)
				: (is_large ? PACE_LARGE_WRITE : PACE_WRITE),
			op->begun_ns, io_now_ns(volume->io));
	}
}

static void op_answer(struct vol_op *op)
{
	if (op->result == 0 && volume_is_dead(op->volume) && op->req->kind == BLK_READ) {
		op->result = op->volume->ending ? -ESHUTDOWN : -EIO;
	}
	op_account(op);
	op->lock.parked = false;
	op_note_pace(op);
	op->req->result = op->result;
	TRACE(op->volume->io, host_ack, trace_id(&op->volume->options.uuid), op->req->kind,
		op->req->offset, (unsigned)-op->result);
	op->req->done(op->req);
}

/* What a read has not got is dropped, or goes to a buffer that nobody looks at. */
static bool op_may_unlock(const struct vol_op *op)
{
	return op->req->kind == BLK_READ ||
	       (op->pending & (volume_target_mask(op->volume) | op->volume->member_mask) &
		       ~volume_out_mask(op->volume)) == 0;
}

static void op_unlock(struct vol_op *op)
{
	struct volume *volume = op->volume;

	list_remove_if_linked(&op->seq_node);
	range_lock_release(&volume->locks, &op->lock);
	if (op->wgen < volume->wgen) {
		task_wake(&volume->checkpoint_task);
	}
	if (volume->resynced_waits) {
		task_wake(&volume->resynced_task);
	}
	if (volume->snapshotter.stops) {
		task_wake(&volume->snapshotter.task);
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->target) {
			task_wake(&volume->legs[i]->rebuild_task);
		}
	}
}

static void op_step(struct task *task)
{
	struct vol_op *op = container_of(task, struct vol_op, task);
	struct volume *volume = op->volume;
	struct blk_req *req = op->req;

	volume_works(volume, TRACE_WORK_READ + (unsigned)req->kind);
	switch (op->state) {
	case OP_START:
		AWAIT(op, OP_AWAIT_SERVING, op_may_begin(op) || op->result != 0);
		if (op->result == 0) {
			op->result = op_check(volume, req); /* the size is known for certain now */
		}
		if (op->result == 0) {
			(void)op_give_up(op); /* before anything is sent */
		}
		while (op->result == 0 && !op->finished) {
			AWAIT(op, OP_AWAIT_REPAIR, !op->repair.busy || op_must_end(op));
			AWAIT(op, OP_AWAIT_RESYNC, !op_must_wait_for_copy(op));
			if (op_takes_lock(op)) {
				range_lock_acquire(&volume->locks, &op->lock, &op->task);
				AWAIT(op, OP_AWAIT_LOCK, op->lock.held || op_must_end(op));
			}
			if (req->kind != BLK_READ) {
				AWAIT(op, OP_AWAIT_BARRIER, !snapshot_stops(op) || op_must_end(op));
				op_issue(op);
				AWAIT(op, OP_AWAIT_ACK, op_progress(op));
				break;
			}
			op->seq = volume->seq;
			op->part_offset = req->offset;
			op->part_length = req->length;
			op->read_leg = -1;
			AWAIT(op, OP_AWAIT_READ, op_read_progress(op));
			if (!op->finished) {
				range_lock_release(&volume->locks, &op->lock);
			}
		}
		if (req->kind == BLK_READ) {
			AWAIT(op, OP_AWAIT_LEASE, op_lease_permits(op));
		}
		op_answer(op);
		AWAIT(op, OP_AWAIT_UNLOCK, op_may_unlock(op));
		op_unlock(op);
		(void)op_start_repair(op);
		AWAIT(op, OP_AWAIT_RELEASE, op->pending == 0 && !op->repair.busy);
		hedge_end(op);
		op->state = OP_DONE;
		list_remove(&op->node);
		task_done(&op->task);
		task_wake(&volume->close_task);
		req->released(req);
		return;
	case OP_DONE:
		assert(false && "a finished request was woken");
	}
}

void op_submit(struct blk_dev *dev, struct blk_req *req)
{
	struct volume *volume = container_of(dev, struct volume, blk);
	struct vol_op *op = req->private_state;

	/* The commands (lios) are written when they are used: only the head is cleared. */
	memset(op, 0, offsetof(struct vol_op, lios));
	op->volume = volume;
	op->req = req;
	op->begun_ns = io_now_ns(volume->io);
	op->hedge_leg = -1;
	pace_host_began(&volume->nexus->pace, op->begun_ns);
	/* What a predecessor died of is not tried again. */
	op->result = volume->options.fault[0] != '\0' ? -EIO : op_check(volume, req);
	op->lock.offset = req->offset;
	op->lock.length = req->length;
	op->lock.exclusive = req->kind != BLK_READ;
	TRACE(volume->io, host_issue, trace_id(&volume->options.uuid), req->kind, req->offset,
		req->length);
	if (volume->no_quorum_ns != 0) {
		volume_tick_start(volume);
	}
	task_init(&op->task, &volume->io->runq, op_step);
	list_push_back(&volume->ops, &op->node);
	task_wake(&op->task);
}
