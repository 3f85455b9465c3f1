/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pairing heap: `child` is the first child, `sibling` the next of the same parent, `prev` the
 * sibling before or, for a first child, the parent.  The root has neither sibling nor prev.
 */
#include "io/io.h"

#include <assert.h>

/* Both are roots or NULL; the earlier one becomes the root.  Of equal deadlines the first argument
 * wins. */
static struct io_timer *meld(struct io_timer *a, struct io_timer *b)
{
	if (a == NULL) {
		return b;
	}
	if (b == NULL) {
		return a;
	}
	if (b->deadline_ns < a->deadline_ns) {
		struct io_timer *earlier = b;

		b = a;
		a = earlier;
	}
	b->sibling = a->child;
	if (b->sibling != NULL) {
		b->sibling->prev = b;
	}
	b->prev = a;
	a->child = b;
	return a;
}

static struct io_timer *detach_first(struct io_timer **first)
{
	struct io_timer *timer = *first;

	if (timer != NULL) {
		*first = timer->sibling;
		timer->sibling = NULL;
		timer->prev = NULL;
	}
	return timer;
}

/* Makes one heap of a chain of siblings: melded in pairs forwards, the pairs then backwards. */
static struct io_timer *meld_siblings(struct io_timer *first)
{
	struct io_timer *pairs = NULL;
	struct io_timer *root = NULL;

	while (first != NULL) {
		struct io_timer *a = detach_first(&first);
		struct io_timer *b = detach_first(&first);
		struct io_timer *pair = meld(a, b);

		pair->sibling = pairs;
		pairs = pair;
	}
	while (pairs != NULL) {
		struct io_timer *pair = detach_first(&pairs);

		root = meld(root, pair);
	}
	return root;
}

static void heap_remove(struct io_timers *timers, struct io_timer *timer)
{
	struct io_timer *rest = meld_siblings(timer->child);

	if (timers->root == timer) {
		timers->root = rest;
	} else {
		if (timer->prev->child == timer) {
			timer->prev->child = timer->sibling;
		} else {
			timer->prev->sibling = timer->sibling;
		}
		if (timer->sibling != NULL) {
			timer->sibling->prev = timer->prev;
		}
		timers->root = meld(timers->root, rest);
	}
	timer->child = NULL;
	timer->sibling = NULL;
	timer->prev = NULL;
}

void io_timer_init(struct io_timer *timer, struct io *io, struct task *task)
{
	*timer = (struct io_timer){.io = io, .task = task};
}

void io_timer_start(struct io_timer *timer, uint64_t deadline_ns)
{
	struct io_timers *timers = &timer->io->timers;

	assert(timer->task != NULL);
	if (timer->running) {
		heap_remove(timers, timer);
	}
	timer->deadline_ns = deadline_ns;
	timer->running = true;
	timers->root = meld(timers->root, timer);
}

void io_timer_start_after(struct io_timer *timer, uint64_t delay_ns)
{
	uint64_t now_ns = io_now_ns(timer->io);

	io_timer_start(timer, delay_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + delay_ns);
}

void io_timer_stop(struct io_timer *timer)
{
	if (timer->running) {
		heap_remove(&timer->io->timers, timer);
		timer->running = false;
	}
}

void io_timers_expire(struct io_timers *timers, uint64_t now_ns)
{
	/* Waking only queues: no timer is started from within the loop. */
	while (timers->root != NULL && timers->root->deadline_ns <= now_ns) {
		struct io_timer *timer = timers->root;

		heap_remove(timers, timer);
		timer->running = false;
		task_wake(timer->task);
	}
}

uint64_t io_timers_next_ns(const struct io_timers *timers)
{
	return timers->root != NULL ? timers->root->deadline_ns : UINT64_MAX;
}
