/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one range of every reached data replica, directly, under the range lock: what the replicas
 * hold, not what the volume would answer. */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>

enum compare_state {
	COMPARE_START,
	COMPARE_AWAIT_LOCK,
	COMPARE_AWAIT_READS,
	COMPARE_AWAIT_LATE,
	COMPARE_DONE,
};

struct compare_op {
	struct task task;
	enum compare_state state;
	struct volume *volume;
	struct volume_compare *compare;
	struct range_lock lock;
	leg_mask pending;
	struct leg_io ios[REPL_VOTERS_MAX];
};

static void compare_read_done(struct leg_io *lio)
{
	struct compare_op *op = lio->ctx;

	op->pending &= ~LEG_BIT(lio->leg);
	op->compare->results[lio->leg->index] = lio->result == LEG_OK ? 0 : -EIO;
	task_wake(&op->task);
}

static void compare_send(struct compare_op *op)
{
	struct volume *volume = op->volume;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];
		struct wire_io wio = {
			.opcode = WIRE_READ,
			.nsid = leg->voter.nsid,
			.session = leg->session,
			.wgen_low = (uint32_t)volume->wgen,
			.seq = volume->seq,
			.slba = op->compare->offset / volume->block_bytes,
			.block_count = op->compare->length / volume->block_bytes,
		};

		op->compare->results[i] = -ENOTCONN;
		if (!leg->ready || leg->refence || leg->voter.kind != VOTER_DATA ||
			!voters_has(&volume->cfg, leg)) {
			continue;
		}
		op->ios[i].iov.iov_base = op->compare->buffers[i];
		op->ios[i].iov.iov_len = op->compare->length;
		op->ios[i].done = compare_read_done;
		op->ios[i].ctx = op;
		op->pending |= LEG_BIT(leg);
		leg_submit_io(leg, &op->ios[i], &wio, &op->ios[i].iov, 1);
	}
}

static void compare_finish(struct compare_op *op)
{
	struct volume_compare *compare = op->compare;
	struct volume *volume = op->volume;

	range_lock_release(&volume->locks, &op->lock);
	task_done(&op->task);
	io_free(volume->io, op);
	volume->compares--;
	task_wake(&volume->close_task);
	compare->done(compare);
}

static void compare_step(struct task *task)
{
	struct compare_op *op = container_of(task, struct compare_op, task);

	volume_works(op->volume, TRACE_WORK_COMPARE);
	switch (op->state) {
	case COMPARE_START:
		range_lock_acquire(&op->volume->locks, &op->lock, &op->task);
		AWAIT(op, COMPARE_AWAIT_LOCK, op->lock.held);
		if (op->volume->serving && !volume_is_dead(op->volume)) {
			compare_send(op);
			AWAIT(op, COMPARE_AWAIT_READS,
				(op->pending & volume_ready_mask(op->volume)) == 0);
			/* Who was given up keeps only the buffers waiting, not the range. */
			range_lock_release(&op->volume->locks, &op->lock);
			AWAIT(op, COMPARE_AWAIT_LATE, op->pending == 0);
		}
		op->state = COMPARE_DONE;
		compare_finish(op);
		return;
	case COMPARE_DONE:
		return;
	}
}

void volume_compare(struct volume *volume, struct volume_compare *compare)
{
	/* Who asks may count on a size that is not committed. */
	bool fits = range_is_within(compare->offset, compare->length, volume->size_bytes);
	struct compare_op *op = fits ? io_zalloc(volume->io, sizeof(*op)) : NULL;

	for (unsigned i = 0; i < REPL_VOTERS_MAX; i++) {
		compare->results[i] = !fits ? -ERANGE : op == NULL ? -ENOMEM : -ESHUTDOWN;
	}
	if (op == NULL) {
		compare->done(compare);
		return;
	}
	op->volume = volume;
	op->compare = compare;
	op->lock.offset = compare->offset;
	op->lock.length = compare->length;
	op->lock.exclusive = true;
	volume->compares++;
	task_init(&op->task, &volume->io->runq, compare_step);
	task_wake(&op->task);
}
