/* SPDX-License-Identifier: Apache-2.0 */
/* The ring's part of a turn: one system call submits everything that the turn before produced and
 * waits. */
#include "uring/internal.h"

#include <errno.h>

/* While operations wait for an entry that the kernel could not take, the loop tries again this
 * often. */
#define RETRY_NS (10 * IO_NS_PER_MS)

/* ---- operations -------------------------------------------------------------------------------
 */

void uring_op_start(struct uring *uring, struct uring_op *op, const struct uring_op_kind *kind)
{
	op->kind = kind;
	op->next = NULL;
	if (uring->waiting_last != NULL) {
		uring->waiting_last->next = op;
	} else {
		uring->waiting_first = op;
	}
	uring->waiting_last = op;
	uring->in_flight += kind->prepare_linked != NULL ? 2 : 1;
}

void uring_prepare_cancel(struct io_uring_sqe *sqe, struct uring_op *target)
{
	io_uring_prep_cancel(sqe, target, 0);
}

static void prepare(struct uring *uring, struct uring_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	assert(sqe != NULL);
	op->kind->prepare(op, sqe);
	io_uring_sqe_set_data(sqe, op);
	if (op->kind->prepare_linked != NULL) {
		struct io_uring_sqe *linked_sqe = io_uring_get_sqe(&uring->ring);

		assert(linked_sqe != NULL);
		sqe->flags |= IOSQE_IO_LINK;
		io_uring_sqe_set_data(linked_sqe, op->kind->prepare_linked(op, linked_sqe));
	}
}

/* Moves waiting operations into the submission queue; when it is full it is submitted in between.
 */
static void fill_queue(struct uring *uring)
{
	while (uring->waiting_first != NULL) {
		struct uring_op *op = uring->waiting_first;
		unsigned wanted = op->kind->prepare_linked != NULL ? 2 : 1;

		if (io_uring_sq_space_left(&uring->ring) < wanted) {
			/* What the kernel cannot take now stays and is tried again after the
			 * completions. */
			if (io_uring_submit(&uring->ring) <= 0) {
				return;
			}
			continue;
		}
		uring->waiting_first = op->next;
		if (uring->waiting_first == NULL) {
			uring->waiting_last = NULL;
		}
		prepare(uring, op);
	}
}

static bool kernel_has_work(struct uring *uring)
{
	unsigned flags = IO_URING_READ_ONCE(*uring->ring.sq.kflags);

	return (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
}

static void check_enter(int result)
{
	/* Everything else would be a mistake of ours, such as a closed ring. */
	assert(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
		result == -EBUSY || result == -ENOMEM);
}

/* Submits, and fetches completions without waiting. */
static void enter_now(struct uring *uring)
{
	if (io_uring_sq_ready(&uring->ring) > 0 || kernel_has_work(uring)) {
		check_enter(io_uring_submit_and_get_events(&uring->ring));
	}
}

/* Submits and waits for a completion or until the deadline (UINT64_MAX: for ever). */
static void enter_and_wait(struct uring *uring, uint64_t deadline_ns)
{
	struct io_uring_cqe *cqe = NULL;
	struct __kernel_timespec timeout = {0};

	if (uring->waiting_first != NULL) {
		deadline_ns = deadline_ns < real_clock_ns() + RETRY_NS ? deadline_ns
								       : real_clock_ns() + RETRY_NS;
	}
	if (deadline_ns != UINT64_MAX) {
		uint64_t now_ns = real_clock_ns();
		uint64_t wait_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

		if (wait_ns == 0) {
			enter_now(uring);
			return;
		}
		timeout.tv_sec = (long long)(wait_ns / IO_NS_PER_S);
		timeout.tv_nsec = (long long)(wait_ns % IO_NS_PER_S);
	}
	check_enter(io_uring_submit_and_wait_timeout(
		&uring->ring, &cqe, 1, deadline_ns != UINT64_MAX ? &timeout : NULL, NULL));
}

/* Completes everything that the kernel has reported; returns how many there were. */
unsigned uring_complete(struct real *real)
{
	struct uring *uring = uring_of_real(real);
	struct io_uring_cqe *cqe;
	unsigned total = 0;

	while (io_uring_cq_ready(&uring->ring) > 0) {
		unsigned head;
		unsigned count = 0;

		io_uring_for_each_cqe(&uring->ring, head, cqe)
		{
			struct uring_op *op = io_uring_cqe_get_data(cqe);
			int result = cqe->res;

			count++;
			uring->in_flight--;
			op->kind->complete(uring, op, result);
		}
		io_uring_cq_advance(&uring->ring, count);
		total += count;
	}
	return total;
}

/* ---- wake-ups ---------------------------------------------------------------------------------
 */

static void event_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring *uring = container_of(op, struct uring, event_op);

	io_uring_prep_read(
		sqe, uring->real.event_fd, &uring->event_value, sizeof(uring->event_value), 0);
}

static void event_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)op;
	(void)result;
	uring->event_armed = false;
}

static const struct uring_op_kind event_kind = {
	.prepare = event_prepare,
	.complete = event_complete,
};

static void event_cancel_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring *uring = container_of(op, struct uring, event_cancel_op);

	uring_prepare_cancel(sqe, &uring->event_op);
}

static void event_cancel_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)uring;
	(void)op;
	(void)result;
}

static const struct uring_op_kind event_cancel_kind = {
	.prepare = event_cancel_prepare,
	.complete = event_cancel_complete,
};

/* ---- parts of a turn --------------------------------------------------------------------------
 */

void uring_submit(struct real *real)
{
	struct uring *uring = uring_of_real(real);

	if (!uring->event_armed) {
		uring->event_armed = true;
		uring_op_start(uring, &uring->event_op, &event_kind);
	}
	fill_queue(uring);
}

bool uring_has_work(struct real *real)
{
	struct uring *uring = uring_of_real(real);

	return io_uring_cq_ready(&uring->ring) > 0 || kernel_has_work(uring);
}

void uring_enter(struct real *real, uint64_t deadline_ns)
{
	if (deadline_ns == 0) {
		enter_now(uring_of_real(real));
	} else {
		enter_and_wait(uring_of_real(real), deadline_ns);
	}
}

void uring_drain(struct uring *uring)
{
	/* Closing of sockets may still be on its way; nothing else may be. */
	uint64_t end_ns = real_clock_ns() + 5 * IO_NS_PER_S;

	if (uring->event_armed) {
		uring_op_start(uring, &uring->event_cancel_op, &event_cancel_kind);
	}
	while (uring->in_flight > 0 && real_clock_ns() < end_ns) {
		fill_queue(uring);
		enter_and_wait(uring, end_ns);
		(void)uring_complete(&uring->real);
	}
	assert(uring->in_flight == 0);
}
