/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A read that its member does not answer soon is asked of another one too, and the first answer
 * wins (docs/protocol.md 1.11).  The second one goes to a buffer of its own: a late answer must not
 * meet the host's buffer after the host has it back, and of two answers that arrive at once none
 * may mix with the other.  What the loser still sends stays with the request until it is over.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#define HEDGE_FACTOR 3
#define HEDGE_MIN_NS (20 * IO_NS_PER_MS)
/* Half of what a member may take to answer at all; also while there are too few reads to tell. */
#define HEDGE_MAX_NS (EJECT_NS / 2)
/* At most one read in so many is hedged, in the long run: a disk that is overloaded must not get
 * twice as much to do. */
#define HEDGE_SHARE 20
#define HEDGE_BURST 8
/* How soon a buffer that is being received into is looked at again. */
#define HEDGE_POLL_NS (2 * IO_NS_PER_MS)

static uint64_t hedge_delay_ns(const struct volume *volume)
{
	uint64_t p99_ns = volume->read_latency.p99_ns;

	if (p99_ns == 0) {
		return HEDGE_MAX_NS;
	}
	return min_u64(max_u64(HEDGE_FACTOR * p99_ns, HEDGE_MIN_NS), HEDGE_MAX_NS);
}

void hedge_start(struct vol_op *op)
{
	struct volume *volume = op->volume;
	uint64_t due_ns;

	op->read_sent_ns = io_now_ns(volume->io);
	volume->hedge_credit = min_u64(volume->hedge_credit + 1, HEDGE_SHARE * HEDGE_BURST);
	due_ns = op->read_sent_ns + hedge_delay_ns(volume);
	/* The delay may have become shorter. */
	if (!io_timer_is_running(&volume->hedge_timer) ||
		volume->hedge_timer.deadline_ns > due_ns) {
		io_timer_start(&volume->hedge_timer, due_ns);
	}
}

static bool hedge_waits(const struct vol_op *op)
{
	return op->req->kind == BLK_READ && op->state == OP_AWAIT_READ && op->hedge_leg < 0 &&
	       !op->hedge_refused && (op->pending & ~op->abandoned) != 0;
}

/* The answer is there, and the member that was asked first is just sending. */
static bool hedge_holds(const struct vol_op *op)
{
	return op->req->kind == BLK_READ && op->state == OP_AWAIT_READ && op->hedge_leg >= 0 &&
	       (op->ok & (leg_mask)1 << op->hedge_leg) != 0;
}

/* One timer for all reads of the volume: what is due is woken and judges itself. */
void hedge_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, hedge_task);
	uint64_t delay_ns = hedge_delay_ns(volume);
	uint64_t now_ns = io_now_ns(volume->io);
	uint64_t next_ns = UINT64_MAX;

	if (io_timer_is_running(&volume->hedge_timer)) {
		return;
	}
	list_for_each (&volume->ops, pos) {
		struct vol_op *op = container_of(pos, struct vol_op, node);

		if (hedge_holds(op)) {
			task_wake(&op->task);
			next_ns = min_u64(next_ns, now_ns + HEDGE_POLL_NS);
		} else if (hedge_waits(op) && now_ns >= op->read_sent_ns + delay_ns) {
			task_wake(&op->task);
		} else if (hedge_waits(op)) {
			next_ns = min_u64(next_ns, op->read_sent_ns + delay_ns);
		}
	}
	if (next_ns != UINT64_MAX) {
		io_timer_start(&volume->hedge_timer, next_ns);
	}
}

bool hedge_is_due(const struct vol_op *op)
{
	const struct volume *volume = op->volume;

	return hedge_waits(op) && volume->serving && op->incarnation == volume->incarnation &&
	       io_now_ns(volume->io) >= op->read_sent_ns + hedge_delay_ns(volume);
}

bool hedge_begin(struct vol_op *op, int leg)
{
	struct volume *volume = op->volume;
	struct nexus *nexus = volume->nexus;
	uint64_t length = op->req->length;

	op->hedge_refused = true;
	if (leg < 0 || volume->hedge_credit < HEDGE_SHARE ||
		nexus->hedge_bytes + length > nexus->hedge_bytes_max) {
		return false;
	}
	op->hedge_buffer = bufpool_get(nexus->buffers, length);
	if (op->hedge_buffer == NULL) {
		return false; /* copies need them more */
	}
	nexus->hedge_bytes += length;
	volume->hedge_credit -= HEDGE_SHARE;
	op->hedge_leg = leg;
	metric_inc(&volume->hedges, 1);
	return true;
}

bool hedge_take(struct vol_op *op)
{
	struct volume *volume = op->volume;
	leg_mask first = op->read_leg >= 0 ? (leg_mask)1 << op->read_leg : 0;
	const uint8_t *from = op->hedge_buffer;

	if ((op->pending & ~op->abandoned & first) && !mutant_is(MUTANT_H1)) {
		struct leg *leg = volume->legs[op->read_leg];

		if (leg->peer->assoc == NULL ||
			!nvmeh_abandon(leg->peer->assoc, &op->lios[op->read_leg].cmd)) {
			if (!io_timer_is_running(&volume->hedge_timer)) {
				io_timer_start_after(&volume->hedge_timer, HEDGE_POLL_NS);
			}
			return false;
		}
		op->abandoned |= first;
	}
	for (unsigned i = 0; i < op->req->iov_count; i++) {
		memcpy(op->req->iov[i].iov_base, from, op->req->iov[i].iov_len);
		from += op->req->iov[i].iov_len;
	}
	metric_inc(&volume->hedges_won, 1);
	return true;
}

void hedge_end(struct vol_op *op)
{
	struct nexus *nexus = op->volume->nexus;

	if (op->hedge_leg < 0 || (op->pending & (leg_mask)1 << op->hedge_leg)) {
		return;
	}
	bufpool_put(nexus->buffers, op->hedge_buffer, op->req->length);
	nexus->hedge_bytes -= op->req->length;
	op->hedge_buffer = NULL;
	op->hedge_leg = -1;
}
