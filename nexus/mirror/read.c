/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is particular to a read: which member is asked, what its answer is worth, when it makes way
 * for a copy (I6) or a repair, and the lease (I12).  op.c has the ladder.
 */
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>

bool op_resync_overlaps(struct vol_op *op)
{
	if (mutant_is(MUTANT_B3)) {
		return false; /* Deliberate bug: no copy before return. */
	}
	return piecemap_test(&op->volume->resync, op->req->offset, op->req->length);
}

/* The node's own replicas are preferred; among several, reads take turns.  -1: none can be asked
 * now. */
static int op_choose_source(struct vol_op *op)
{
	struct volume *volume = op->volume;
	leg_mask readable = volume_readable(volume) & ~op->tried & ~op->pending;
	leg_mask choice =
		(readable & volume->local_mask) ? readable & volume->local_mask : readable;

	if (choice == 0) {
		return -1;
	}
	do {
		volume->read_turn = (volume->read_turn + 1) % volume->leg_count;
	} while ((choice & (leg_mask)1 << volume->read_turn) == 0);
	return (int)volume->read_turn;
}

/* The member that is being asked was given up (it did not answer in time): another one is asked,
 * and what it still sends is dropped. */
static void op_abandon_late(struct vol_op *op)
{
	leg_mask late = op->pending & ~op->abandoned & ~volume_ready_mask(op->volume);

	for (unsigned i = 0; i < op->volume->leg_count; i++) {
		struct leg *leg = op->volume->legs[i];

		if ((late & LEG_BIT(leg)) && leg->peer->assoc != NULL &&
			nvmeh_abandon(leg->peer->assoc, &op->lios[i].cmd)) {
			op->abandoned |= LEG_BIT(leg);
		}
	}
}

/* The answer counts only if its source is still one whose content may be shown. */
static bool op_answer_counts(const struct vol_op *op, int leg)
{
	const struct volume *volume = op->volume;
	leg_mask bit = leg >= 0 ? (leg_mask)1 << leg : 0;

	return (op->ok & bit) != 0 && op->incarnation == volume->incarnation &&
	       (volume->member_mask & bit) != 0;
}

/* Looks at what has come of the members that were asked.  true: nobody is waited for; the read is
 * finished, or another member is to be asked. */
static bool op_read_settle(struct vol_op *op)
{
	op_abandon_late(op);
	if (op_answer_counts(op, op->read_leg)) {
		op->finished = true;
		return true;
	}
	if (op_answer_counts(op, op->hedge_leg)) {
		op->finished = hedge_take(op);
		return op->finished;
	}
	op->tried |= op->failed;
	op->ok = op->failed = 0;
	if ((op->pending & ~op->abandoned) == 0) {
		hedge_end(op);
		return true;
	}
	if (hedge_is_due(op) && hedge_begin(op, op_choose_source(op))) {
		op_send(op, op->volume->legs[op->hedge_leg]);
	}
	return false;
}

/* Once a read: what a member could not read is written there again from another one, and so is what
 * nobody could give before and somebody gives now. */
bool op_start_repair(struct vol_op *op)
{
	struct volume *volume = op->volume;

	if (op->repaired || mask_count(volume->member_mask) < 2) {
		return false;
	}
	if (op->unread == 0 && (op->req->kind != BLK_READ ||
				       !lost_touches(volume, op->req->offset, op->req->length))) {
		return false;
	}
	op->repaired = true;
	return repair_start(volume, &op->repair, op->req->offset, op->req->length, &op->task);
}

/* Sends the read, or looks at its answer; true when it has one (finished), or must make way for a
 * copy. */
bool op_read_progress(struct vol_op *op)
{
	struct volume *volume = op->volume;

	if (op->finished || op_give_up(op)) {
		return true;
	}
	if (!op_read_settle(op) || op->finished) {
		return op->finished;
	}
	if (op_resync_overlaps(op)) {
		return true; /* without an answer: the range is given up for the copy */
	}
	if (!volume->serving) {
		return false;
	}
	op->incarnation = volume->incarnation;
	op->read_leg = op_choose_source(op);
	if (op->read_leg >= 0) {
		op->lock.parked = false;
		op_send(op, volume->legs[op->read_leg]);
		hedge_start(op);
	} else if (op->tried != 0 && (volume->member_mask & ~op->tried) == 0) {
		if (op_start_repair(op)) {
			op->tried = 0;
			return true; /* without an answer: each may have a part of it */
		}
		op->result = -EIO;
		op->finished = true;
		return true;
	} else if (op->lock.held && !op->lock.parked) {
		/* The members that could answer it are being rebuilt: their copies may pass. */
		op->lock.parked = true;
		range_lock_parked(&volume->locks, &op->lock);
	}
	return false;
}

/* I12: the reply is handed over only under the lease. */
bool op_lease_permits(struct vol_op *op)
{
	if (op->result != 0 || volume_is_dead(op->volume) || mutant_is(MUTANT_NO_LEASE)) {
		return true;
	}
	lease_note_time(op->volume);
	if (volume_lease_is_valid(op->volume)) {
		return true;
	}
	if (op->volume->failing) {
		op->result = -EIO;
		return true;
	}
	op->volume->lease_waiters = true;
	return false;
}
