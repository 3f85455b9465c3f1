/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a control thread: descriptors (epoll), timers, messages from other threads. One
 * thread but for loop_post() and loop_stop().  Nothing of the data path runs here.
 */
#ifndef GRPC_LOOP_H
#define GRPC_LOOP_H

#include "base/err.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop;

int loop_new(struct loop **ret_loop, struct err *err) __must_check;
/* Every watch and timer was removed before; messages that were not run are dropped. */
void loop_free(struct loop *loop);

/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
/* Runs what is ready, waiting at most timeout_ms for something (-1: for ever).  For tests and for
 * waiting at the end. */
void loop_turn(struct loop *loop, int timeout_ms);
/* Any thread. */
void loop_stop(struct loop *loop);
uint64_t loop_now_ms(const struct loop *loop); /* monotonic */

/* ---- descriptors; level-triggered ---- */

struct loop_watch {
	int fd;          /* the owner's */
	uint32_t events; /* EPOLLIN, EPOLLOUT; change with loop_watch_change */
	/* May remove this watch or any other and free their memory. */
	void (*ready)(struct loop_watch *watch, uint32_t events);
	bool added;
};

/* The struct must have fd, events and ready set and `added` false. */
int loop_watch_add(struct loop *loop, struct loop_watch *watch) __must_check;
void loop_watch_change(struct loop *loop, struct loop_watch *watch, uint32_t events);
/* Does nothing when it was not added.  Before the descriptor is closed. */
void loop_watch_remove(struct loop *loop, struct loop_watch *watch);

/* ---- timers ---- */

/* Zeroed memory with `expired` set is a stopped timer. */
struct loop_timer {
	struct list_node node;
	uint64_t deadline_ms;
	void (*expired)(struct loop_timer *timer); /* may free the timer or start it again */
};

/* Starts or moves it. */
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t delay_ms);
void loop_timer_stop(struct loop_timer *timer);
static inline bool loop_timer_is_running(const struct loop_timer *timer)
{
	return list_is_linked(&timer->node);
}

/* ---- messages ---- */

/* Runs on the loop's thread, in order of posting; may be freed or posted again from within run. */
struct loop_msg {
	struct loop_msg *next;
	void (*run)(struct loop_msg *msg);
};

/* Any thread, the data thread too: it takes no lock and never blocks.  A message is posted once
 * until it ran. */
void loop_post(struct loop *loop, struct loop_msg *msg);

#endif
