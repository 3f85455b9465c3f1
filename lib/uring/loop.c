/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop.  One turn: one system call that submits everything which the turn before produced and
 * waits; then all completions, messages, timers and a bounded number of steps.
 */
#include "uring/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define STEPS_BUDGET 256
/* While operations wait for an entry that the kernel could not take, the loop tries again this
 * often. */
#define RETRY_NS (10 * IO_NS_PER_MS)

static uint64_t clock_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * IO_NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t uring_now_ns(struct io *io)
{
	struct uring *uring = uring_of(io);

	return uring->in_turn ? uring->now_ns : clock_now_ns();
}

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
		deadline_ns = deadline_ns < clock_now_ns() + RETRY_NS ? deadline_ns
								      : clock_now_ns() + RETRY_NS;
	}
	if (deadline_ns != UINT64_MAX) {
		uint64_t now_ns = clock_now_ns();
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
static unsigned reap(struct uring *uring)
{
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
		sqe, uring->event_fd, &uring->event_value, sizeof(uring->event_value), 0);
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

/* Any thread, and signal handlers. */
static void ring_the_bell(struct uring *uring)
{
	uint64_t one = 1;

	while (write(uring->event_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

static void *asleep_mark(struct uring *uring)
{
	return uring;
}

static void uring_post(struct io *io, struct io_msg *msg)
{
	struct uring *uring = uring_of(io);
	void *before = atomic_load_explicit(&uring->messages, memory_order_relaxed);

	do {
		msg->node.next = before == asleep_mark(uring) ? NULL : before;
	} while (!atomic_compare_exchange_weak_explicit(
		&uring->messages, &before, &msg->node, memory_order_release, memory_order_relaxed));
	/* Only the first message after it fell asleep wakes the loop. */
	if (before == asleep_mark(uring)) {
		ring_the_bell(uring);
	}
}

/* False when there are messages. */
static bool fall_asleep(struct uring *uring)
{
	void *empty = NULL;

	return atomic_compare_exchange_strong_explicit(&uring->messages, &empty, asleep_mark(uring),
		memory_order_acq_rel, memory_order_relaxed);
}

static bool run_messages(struct uring *uring)
{
	void *taken = atomic_exchange_explicit(&uring->messages, NULL, memory_order_acq_rel);
	struct list_node *newest = taken == asleep_mark(uring) ? NULL : taken;
	struct list_node *oldest = NULL;
	bool any = newest != NULL;

	while (newest != NULL) {
		struct list_node *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest != NULL) {
		struct io_msg *msg = container_of(oldest, struct io_msg, node);

		oldest = oldest->next;
		msg->node.next = NULL;
		msg->run(msg);
	}
	return any;
}

void uring_stop(struct uring *uring)
{
	atomic_store_explicit(&uring->stop, true, memory_order_release);
	ring_the_bell(uring);
}

/* ---- turns ------------------------------------------------------------------------------------
 */

static bool has_messages(struct uring *uring)
{
	return atomic_load_explicit(&uring->messages, memory_order_relaxed) != NULL;
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Looks for completions for a while before the loop sleeps.  Returns true if there are some. */
static bool poll_for_work(struct uring *uring)
{
	if (uring->options.poll_ns == 0) {
		return false;
	}
	uint64_t next_ns = io_timers_next_ns(&uring->io.timers);
	uint64_t now_ns = clock_now_ns();
	uint64_t end_ns = now_ns + uring->options.poll_ns;

	enter_now(uring);
	for (end_ns = end_ns < next_ns ? end_ns : next_ns; now_ns < end_ns;
		now_ns = clock_now_ns()) {
		if (io_uring_cq_ready(&uring->ring) > 0 || kernel_has_work(uring) ||
			has_messages(uring)) {
			enter_now(uring);
			return true;
		}
		relax();
	}
	return false;
}

static void sleep_or_enter(struct uring *uring, bool was_busy)
{
	bool work_is_there = !runq_is_empty(&uring->io.runq) ||
			     !list_is_empty(&uring->local_done) ||
			     io_uring_cq_ready(&uring->ring) > 0 || has_messages(uring);

	if (work_is_there || (was_busy && poll_for_work(uring)) || !fall_asleep(uring)) {
		enter_now(uring);
		return;
	}
	metric_inc(&uring->metrics.sleeps, 1);
	enter_and_wait(uring, io_timers_next_ns(&uring->io.timers));
}

/* Returns true if something was done that makes more I/O likely soon. */
static bool turn(struct uring *uring, bool was_busy)
{
	if (!uring->event_armed) {
		uring->event_armed = true;
		uring_op_start(uring, &uring->event_op, &event_kind);
	}
	fill_queue(uring);
	uring->in_turn = false;
	sleep_or_enter(uring, was_busy);
	uring->now_ns = clock_now_ns();
	uring->in_turn = true;
	unsigned completed = reap(uring);
	bool busy = completed > 0 || !list_is_empty(&uring->local_done);

	uring_memory_disks_complete(uring);
	busy = run_messages(uring) || busy;
	io_timers_expire(&uring->io.timers, uring->now_ns);
	(void)runq_run(&uring->io.runq, STEPS_BUDGET);
	metric_inc(&uring->metrics.turns, 1);
	metric_inc(&uring->metrics.operations, completed);
	metric_set(&uring->metrics.steps, (int64_t)uring->io.runq.steps);
	return busy;
}

void uring_run(struct uring *uring)
{
	bool busy = false;

	while (!atomic_exchange_explicit(&uring->stop, false, memory_order_acquire)) {
		busy = turn(uring, busy);
	}
	uring->in_turn = false;
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static void *uring_zalloc(struct io *io, size_t alignment, size_t size)
{
	(void)io;
	if (size > SIZE_MAX - alignment) {
		return NULL;
	}
	size_t rounded = (size + alignment - 1) & ~(alignment - 1);
	void *memory = aligned_alloc(alignment, rounded > 0 ? rounded : alignment);

	if (memory != NULL) {
		memset(memory, 0, rounded);
	}
	return memory;
}

static void uring_free_memory(struct io *io, void *memory)
{
	(void)io;
	free(memory);
}

const struct io_ops uring_io_ops = {
	.now_ns = uring_now_ns,
	.post = uring_post,
	.listen = uring_listen,
	.unlisten = uring_unlisten,
	.connect = uring_connect,
	.fd_submit = uring_fd_submit,
	.fd_cancel = uring_fd_cancel,
	.zalloc = uring_zalloc,
	.free = uring_free_memory,
};

void uring_drain(struct uring *uring)
{
	/* Closing of sockets may still be on its way; nothing else may be. */
	assert(uring->open_count == 0);
	uint64_t end_ns = clock_now_ns() + 5 * IO_NS_PER_S;

	if (uring->event_armed) {
		uring_op_start(uring, &uring->event_cancel_op, &event_cancel_kind);
	}
	while (uring->in_flight > 0 && clock_now_ns() < end_ns) {
		fill_queue(uring);
		enter_and_wait(uring, end_ns);
		(void)reap(uring);
	}
	assert(uring->in_flight == 0);
}
