/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop.  One turn: what the turn before started goes to the kernel, the loop waits there; then
 * all completions, messages, timers and a bounded number of steps.
 */
#include "real/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define STEPS_BUDGET 256

uint64_t real_clock_ns(void)
{
	struct timespec now;

	/* Monotonic, and goes on while the machine is suspended: leases do. */
	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * IO_NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t real_now_ns(struct io *io)
{
	struct real *real = real_of(io);

	return real->in_turn ? real->now_ns : real_clock_ns();
}

/* ---- wake-ups ---------------------------------------------------------------------------------
 */

/* Any thread, and signal handlers. */
static void ring_the_bell(struct real *real)
{
	uint64_t one = 1;

	while (write(real->event_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

static void *asleep_mark(struct real *real)
{
	return real;
}

void real_post(struct io *io, struct io_msg *msg)
{
	struct real *real = real_of(io);
	void *before = atomic_load_explicit(&real->messages, memory_order_relaxed);

	do {
		msg->node.next = before == asleep_mark(real) ? NULL : before;
	} while (!atomic_compare_exchange_weak_explicit(
		&real->messages, &before, &msg->node, memory_order_release, memory_order_relaxed));
	/* Only the first message after it fell asleep wakes the loop. */
	if (before == asleep_mark(real)) {
		ring_the_bell(real);
	}
}

/* False when there are messages. */
static bool fall_asleep(struct real *real)
{
	void *empty = NULL;

	return atomic_compare_exchange_strong_explicit(&real->messages, &empty, asleep_mark(real),
		memory_order_acq_rel, memory_order_relaxed);
}

static bool run_messages(struct real *real)
{
	void *taken = atomic_exchange_explicit(&real->messages, NULL, memory_order_acq_rel);
	struct list_node *newest = taken == asleep_mark(real) ? NULL : taken;
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

void real_stop(struct real *real)
{
	atomic_store_explicit(&real->stop, true, memory_order_release);
	ring_the_bell(real);
}

/* ---- turns ------------------------------------------------------------------------------------
 */

static bool has_messages(struct real *real)
{
	return atomic_load_explicit(&real->messages, memory_order_relaxed) != NULL;
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
static bool poll_for_work(struct real *real)
{
	if (real->options.poll_ns == 0) {
		return false;
	}
	uint64_t next_ns = io_timers_next_ns(&real->io.timers);
	uint64_t now_ns = real_clock_ns();
	uint64_t end_ns = now_ns + real->options.poll_ns;

	real->backend->enter(real, 0);
	for (end_ns = end_ns < next_ns ? end_ns : next_ns; now_ns < end_ns;
		now_ns = real_clock_ns()) {
		if (real->backend->has_work(real) || has_messages(real)) {
			return true;
		}
		relax();
	}
	return false;
}

static void sleep_or_enter(struct real *real, bool was_busy)
{
	bool work_is_there = !runq_is_empty(&real->io.runq) || !list_is_empty(&real->memory_done) ||
			     real->backend->has_work(real) || has_messages(real);

	if (work_is_there || (was_busy && poll_for_work(real)) || !fall_asleep(real)) {
		real->backend->enter(real, 0);
		return;
	}
	metric_inc(&real->metrics.sleeps, 1);
	real->backend->enter(real, io_timers_next_ns(&real->io.timers));
}

/* Returns true if something was done that makes more I/O likely soon. */
static bool turn(struct real *real, bool was_busy)
{
	real->backend->submit(real);
	real->in_turn = false;
	sleep_or_enter(real, was_busy);
	real->now_ns = real_clock_ns();
	real->in_turn = true;
	unsigned completed = real->backend->complete(real);
	bool busy = completed > 0 || !list_is_empty(&real->memory_done);

	real_memory_disks_complete(real);
	busy = run_messages(real) || busy;
	io_timers_expire(&real->io.timers, real->now_ns);
	(void)runq_run(&real->io.runq, STEPS_BUDGET);
	metric_inc(&real->metrics.turns, 1);
	metric_inc(&real->metrics.operations, completed);
	metric_set(&real->metrics.steps, (int64_t)real->io.runq.steps);
	return busy;
}

void real_run(struct real *real)
{
	bool busy = false;

	while (!atomic_exchange_explicit(&real->stop, false, memory_order_acquire)) {
		busy = turn(real, busy);
	}
	real->in_turn = false;
}

/* ---- memory -----------------------------------------------------------------------------------
 */

void *real_zalloc(struct io *io, size_t alignment, size_t size)
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

void real_free_memory(struct io *io, void *memory)
{
	(void)io;
	free(memory);
}

void real_dump(struct io *io, void *memory, size_t size, bool may)
{
	(void)io;
	/* Refused by a kernel without core dumps. */
	(void)madvise(memory, size, may ? MADV_DODUMP : MADV_DONTDUMP);
}
