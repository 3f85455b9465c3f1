/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/reactor.h"

#include "epoll/epoll.h"
#include "uring/uring.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Enough for the deepest step with a formatted log line, and small enough to be locked. */
#define STACK_BYTES (512u * 1024)
#define LOG_LINES   256u

struct reactor {
	struct reactor_options options;
	struct log_ring *ring; /* owned */
	struct loop_msg drain;
	atomic_bool drain_posted;
	pthread_t thread;
	struct real *real; /* owned by the thread */
	sem_t started;
	sem_t stopped; /* nobody refers to the loop any more */
	int result;
	struct err err;
};

/* ---- log ---- */

static void drain_run(struct loop_msg *msg)
{
	struct reactor *reactor = container_of(msg, struct reactor, drain);

	/* Before the lines are looked at: a line that comes now posts again. */
	atomic_store(&reactor->drain_posted, false);
	(void)log_ring_drain(reactor->ring, reactor->options.log);
}

static void log_sink_reactor(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	struct reactor *reactor = ctx;

	log_sink_ring(reactor->ring, level, module, event, pairs);
	if (!atomic_exchange(&reactor->drain_posted, true)) {
		loop_post(reactor->options.loop, &reactor->drain);
	}
}

uint64_t reactor_log_dropped(const struct reactor *reactor)
{
	return log_ring_dropped(reactor->ring);
}

/* ---- the thread ---- */

static void wait_for(sem_t *semaphore)
{
	while (sem_wait(semaphore) < 0) {
		assert(errno == EINTR);
	}
}

static void *reactor_main(void *ctx)
{
	struct reactor *reactor = ctx;

	struct real_options options = {
		.backends = {&uring_backend, &epoll_backend}, .metrics = reactor->options.metrics};

	reactor->result = real_new(&options, &reactor->real, &reactor->err);
	if (reactor->result < 0) {
		sem_post(&reactor->started);
		return NULL;
	}
	real_io(reactor->real)->log = (struct log){
		.sink = log_sink_reactor,
		.ctx = reactor,
		.level_min = reactor->options.log->level_min,
	};
	if (reactor->options.trace != NULL) {
		real_io(reactor->real)->trace = reactor->options.trace;
		real_io(reactor->real)->runq.work = &reactor->options.trace->head->work;
		crash_watch_data_thread(reactor->options.trace);
	}
	sem_post(&reactor->started);
	real_run(reactor->real);
	/* real_stop() may still be ringing. */
	wait_for(&reactor->stopped);
	real_free(reactor->real);
	return NULL;
}

static void reactor_free(struct reactor *reactor)
{
	log_ring_free(reactor->ring);
	(void)sem_destroy(&reactor->started);
	(void)sem_destroy(&reactor->stopped);
	free(reactor);
}

int reactor_start(
	const struct reactor_options *options, struct reactor **ret_reactor, struct err *err)
{
	struct reactor *reactor = calloc(1, sizeof(*reactor));

	if (reactor == NULL) {
		return err_set(err, -ENOMEM, "no memory for the data thread");
	}
	reactor->options = *options;
	reactor->drain.run = drain_run;
	(void)sem_init(&reactor->started, 0, 0);
	(void)sem_init(&reactor->stopped, 0, 0);
	reactor->ring = log_ring_new(options->log_lines != 0 ? options->log_lines : LOG_LINES);
	int result = reactor->ring == NULL ? -ENOMEM
					   : real_thread_start(&reactor->thread, STACK_BYTES,
						     reactor_main, reactor);

	if (result < 0) {
		reactor_free(reactor);
		return err_set(err, result, "start the data thread: %s", err_describe(result));
	}
	wait_for(&reactor->started);
	if (reactor->result < 0) {
		result = err_set(err, reactor->result, "%s", reactor->err.text);
		(void)pthread_join(reactor->thread, NULL);
		reactor_free(reactor);
		return result;
	}
	*ret_reactor = reactor;
	return 0;
}

void reactor_stop(struct reactor *reactor)
{
	if (reactor == NULL) {
		return;
	}
	real_stop(reactor->real);
	sem_post(&reactor->stopped);
	(void)pthread_join(reactor->thread, NULL);
	/* Also what was logged last, and so that the loop has no message of ours any more. */
	while (atomic_load(&reactor->drain_posted)) {
		loop_turn(reactor->options.loop, 0);
	}
	(void)log_ring_drain(reactor->ring, reactor->options.log);
	reactor_free(reactor);
}

struct io *reactor_io(struct reactor *reactor)
{
	return real_io(reactor->real);
}

struct real *reactor_real(struct reactor *reactor)
{
	return reactor->real;
}

/* ---- calls ---- */

static void call_there(struct io_msg *msg)
{
	struct reactor_call *call = container_of(msg, struct reactor_call, there);

	call->run(call);
}

static void call_back(struct loop_msg *msg)
{
	struct reactor_call *call = container_of(msg, struct reactor_call, back);

	call->done(call);
}

void reactor_call(struct reactor *reactor, struct reactor_call *call)
{
	call->reactor = reactor;
	call->there.run = call_there;
	call->back.run = call_back;
	io_post(reactor_io(reactor), &call->there);
}

void reactor_call_return(struct reactor_call *call)
{
	loop_post(call->reactor->options.loop, &call->back);
}

struct ask {
	struct io_msg msg;
	void (*run)(void *ctx);
	void *ctx;
	sem_t done;
};

static void ask_there(struct io_msg *msg)
{
	struct ask *ask = container_of(msg, struct ask, msg);

	ask->run(ask->ctx);
	sem_post(&ask->done);
}

void reactor_ask(struct reactor *reactor, void (*run)(void *ctx), void *ctx)
{
	struct ask ask = {.msg.run = ask_there, .run = run, .ctx = ctx};

	(void)sem_init(&ask.done, 0, 0);
	io_post(reactor_io(reactor), &ask.msg);
	wait_for(&ask.done);
	(void)sem_destroy(&ask.done);
}
