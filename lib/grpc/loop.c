/* SPDX-License-Identifier: Apache-2.0 */
#include "grpc/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct loop {
	int epoll_fd;
	struct loop_watch wake;            /* an eventfd */
	struct list timers;                /* in order of deadline */
	_Atomic(struct loop_msg *) posted; /* newest first */
	atomic_bool stopped;
};

static void wake(struct loop *loop)
{
	uint64_t one = 1;

	/* Can only fail when the counter is full, and then the loop wakes anyway. */
	ssize_t written = write(loop->wake.fd, &one, sizeof(one));

	(void)written;
}

static void run_posted(struct loop *loop)
{
	struct loop_msg *newest =
		atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
	struct loop_msg *oldest = NULL;

	while (newest != NULL) {
		struct loop_msg *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest != NULL) {
		struct loop_msg *msg = oldest;

		oldest = msg->next;
		msg->next = NULL;
		msg->run(msg);
	}
}

static void wake_ready(struct loop_watch *watch, uint32_t events)
{
	struct loop *loop = container_of(watch, struct loop, wake);
	uint64_t count;
	ssize_t got = read(watch->fd, &count, sizeof(count));

	(void)got;
	(void)events;
	run_posted(loop);
}

int loop_new(struct loop **ret_loop, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (loop == NULL) {
		return err_set(err, -ENOMEM, "no memory for the control loop");
	}
	list_init(&loop->timers);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->wake.events = EPOLLIN;
	loop->wake.ready = wake_ready;
	int result = loop->epoll_fd < 0 || loop->wake.fd < 0 ? -errno
							     : loop_watch_add(loop, &loop->wake);

	if (result < 0) {
		loop_free(loop);
		return err_set(
			err, result, "cannot make the control loop: %s", err_describe(result));
	}
	*ret_loop = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (loop == NULL) {
		return;
	}
	assert(list_is_empty(&loop->timers));
	if (loop->wake.fd >= 0) {
		close(loop->wake.fd);
	}
	if (loop->epoll_fd >= 0) {
		close(loop->epoll_fd);
	}
	free(loop);
}

uint64_t loop_now_ms(const struct loop *loop)
{
	struct timespec now;

	(void)loop;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* true: some ran. */
static bool run_timers(struct loop *loop)
{
	bool ran = false;
	uint64_t now_ms = loop_now_ms(loop);

	for (;;) {
		struct list_node *node = list_first(&loop->timers);

		if (node == NULL ||
			container_of(node, struct loop_timer, node)->deadline_ms > now_ms) {
			return ran;
		}
		struct loop_timer *timer = container_of(node, struct loop_timer, node);

		list_remove(node);
		timer->expired(timer);
		ran = true;
	}
}

/* How long epoll may wait: to the next timer, at most limit_ms (-1: no limit). */
static int wait_ms(const struct loop *loop, int limit_ms)
{
	struct list_node *node = list_first(&loop->timers);

	if (node == NULL) {
		return limit_ms;
	}
	uint64_t deadline_ms = container_of(node, struct loop_timer, node)->deadline_ms;
	uint64_t now_ms = loop_now_ms(loop);
	uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;

	if (limit_ms >= 0 && left_ms > (uint64_t)limit_ms) {
		return limit_ms;
	}
	return left_ms > 3600000 ? 3600000 : (int)left_ms;
}

void loop_turn(struct loop *loop, int timeout_ms)
{
	struct epoll_event event;

	/* A timer may have done what the caller waits for. */
	if (run_timers(loop)) {
		timeout_ms = 0;
	}
	/* One event a turn: what its callback removes or frees can be in no list of events that are
	 * still to be run. The kernel takes turns among ready descriptors. */
	int count = epoll_wait(loop->epoll_fd, &event, 1, wait_ms(loop, timeout_ms));

	if (count == 1) {
		struct loop_watch *watch = event.data.ptr;

		watch->ready(watch, event.events);
	}
	(void)run_timers(loop);
}

void loop_run(struct loop *loop)
{
	while (!atomic_load_explicit(&loop->stopped, memory_order_acquire)) {
		loop_turn(loop, -1);
	}
	atomic_store_explicit(&loop->stopped, false, memory_order_release);
}

void loop_stop(struct loop *loop)
{
	atomic_store_explicit(&loop->stopped, true, memory_order_release);
	wake(loop);
}

int loop_watch_add(struct loop *loop, struct loop_watch *watch)
{
	struct epoll_event event = {.events = watch->events, .data.ptr = watch};

	assert(!watch->added);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0) {
		return -errno;
	}
	watch->added = true;
	return 0;
}

void loop_watch_change(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (watch->events == events) {
		return;
	}
	assert(watch->added);
	watch->events = events;
	int result = epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);

	/* It needs no memory and the descriptor is in the set. */
	assert(result == 0);
}

void loop_watch_remove(struct loop *loop, struct loop_watch *watch)
{
	if (watch->added) {
		int result = epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);

		assert(result == 0);
		watch->added = false;
	}
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t delay_ms)
{
	struct list_node *next = &loop->timers.head;

	list_remove_if_linked(&timer->node);
	timer->deadline_ms = loop_now_ms(loop) + delay_ms;
	while (next->prev != &loop->timers.head &&
		container_of(next->prev, struct loop_timer, node)->deadline_ms >
			timer->deadline_ms) {
		next = next->prev;
	}
	list_insert_before(next, &timer->node);
}

void loop_timer_stop(struct loop_timer *timer)
{
	list_remove_if_linked(&timer->node);
}

void loop_post(struct loop *loop, struct loop_msg *msg)
{
	struct loop_msg *before = atomic_load_explicit(&loop->posted, memory_order_relaxed);

	do {
		msg->next = before;
	} while (!atomic_compare_exchange_weak_explicit(
		&loop->posted, &before, msg, memory_order_release, memory_order_relaxed));
	/* Whoever posted onto an empty list has woken the loop, which takes the whole list. */
	if (before == NULL) {
		wake(loop);
	}
}
