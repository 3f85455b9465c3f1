/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/kube/loop.h"

#include "csi-node/node.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

struct loop {
	struct list timers;
	struct list waiting, ran; /* works */
};

struct workers {
	struct loop *loop;
	unsigned busy;
};

static uint64_t clock_ms;

void sim_loop_set_clock(uint64_t now_ms)
{
	clock_ms = now_ms;
}

uint64_t sim_loop_clock_ms(void)
{
	return clock_ms;
}

/* time() of lib/kube/util.c, which is compiled anew for this (CMakeLists.txt). */
time_t strake_sim_time(time_t *ret_time);
time_t strake_sim_time(time_t *ret_time)
{
	time_t now = (time_t)(SIM_LOOP_WALL_S + (int64_t)(clock_ms / 1000));

	if (ret_time != NULL) {
		*ret_time = now;
	}
	return now;
}

uint64_t monotonic_ms(void)
{
	return clock_ms;
}

struct loop *sim_loop_new(void)
{
	struct loop *loop = must_alloc(sizeof(*loop));

	list_init(&loop->timers);
	list_init(&loop->waiting);
	list_init(&loop->ran);
	return loop;
}

void sim_loop_free(struct loop *loop)
{
	assert(list_is_empty(&loop->timers) && list_is_empty(&loop->waiting) &&
		list_is_empty(&loop->ran));
	free(loop);
}

/* ---- timers ---- */

uint64_t loop_now_ms(const struct loop *loop)
{
	(void)loop;
	return clock_ms;
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t delay_ms)
{
	loop_timer_stop(timer);
	timer->deadline_ms = clock_ms + delay_ms;
	list_push_back(&loop->timers, &timer->node);
}

void loop_timer_stop(struct loop_timer *timer)
{
	if (loop_timer_is_running(timer)) {
		list_remove(&timer->node);
	}
}

static struct loop_timer *first_expired(struct loop *loop)
{
	struct loop_timer *first = NULL;

	list_for_each (&loop->timers, node) {
		struct loop_timer *timer = container_of(node, struct loop_timer, node);

		if (timer->deadline_ms <= clock_ms &&
			(first == NULL || timer->deadline_ms < first->deadline_ms)) {
			first = timer;
		}
	}
	return first;
}

void sim_loop_run_timers(struct loop *loop)
{
	struct loop_timer *timer;

	/* One that starts itself again at once has its turn the next time. */
	for (unsigned i = 0; i < 100 && (timer = first_expired(loop)) != NULL; i++) {
		loop_timer_stop(timer);
		timer->expired(timer);
	}
}

/* ---- works ---- */

int workers_new(struct loop *loop, const char *name, unsigned thread_max,
	struct workers **ret_workers, struct err *err)
{
	(void)name;
	(void)thread_max;
	(void)err;
	*ret_workers = must_alloc(sizeof(**ret_workers));
	(*ret_workers)->loop = loop;
	return 0;
}

void workers_submit(struct workers *workers, struct work *work)
{
	work->workers = workers;
	workers->busy++;
	list_push_back(&workers->loop->waiting, &work->node);
}

unsigned workers_busy(const struct workers *workers)
{
	return workers->busy;
}

void workers_free(struct workers *workers)
{
	if (workers != NULL) {
		assert(workers->busy == 0);
		free(workers);
	}
}

bool sim_loop_work(struct loop *loop)
{
	struct list_node *node = list_pop_front(&loop->ran);
	struct work *work;

	if (node != NULL) {
		work = container_of(node, struct work, node);
		work->workers->busy--;
		work->done(work);
		return true;
	}
	node = list_pop_front(&loop->waiting);
	if (node != NULL) {
		work = container_of(node, struct work, node);
		work->run(work);
		list_push_back(&loop->ran, &work->node);
	}
	return node != NULL;
}
