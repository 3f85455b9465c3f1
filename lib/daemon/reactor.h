/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data thread and the ways between it and the control loop.  Neither ever waits for the other,
 * but for reactor_ask(), with which the control thread waits for a short look.
 */
#ifndef DAEMON_REACTOR_H
#define DAEMON_REACTOR_H

#include "base/log.h"
#include "grpc/loop.h"
#include "io/io.h"
#include "real/real.h"

struct reactor;

struct reactor_options {
	struct loop *loop;     /* borrowed */
	const struct log *log; /* borrowed; the lines of the data thread come out of it, on the
				  control thread */
	unsigned log_lines;    /* of the ring between, a power of two; 0: 256 */
	struct metric_registry *metrics; /* borrowed */
	struct trace *trace;             /* borrowed; NULL: nothing is traced */
};

/* Starts the thread and waits until its loop is there. */
int reactor_start(const struct reactor_options *options, struct reactor **ret_reactor,
	struct err *err) __must_check;
/* Ends the thread: everything on it was closed before.  The loop is gone then. */
void reactor_stop(struct reactor *reactor);
struct io *reactor_io(struct reactor *reactor);
struct real *reactor_real(struct reactor *reactor);
uint64_t reactor_log_dropped(const struct reactor *reactor);

/*
 * A call into the reactor: `run` on the data thread starts what is to be done; when that has its
 * result, there or later, it calls reactor_call_return(), and `done` runs on the control loop.  The
 * struct is the caller's, until done.
 */
struct reactor_call {
	struct io_msg there;
	struct loop_msg back;
	struct reactor *reactor;
	void (*run)(struct reactor_call *call);
	void (*done)(struct reactor_call *call);
};

void reactor_call(struct reactor *reactor, struct reactor_call *call); /* control thread */
void reactor_call_return(struct reactor_call *call);                   /* data thread */

/* Runs it on the data thread and waits.  Only for what does not wait there itself. */
void reactor_ask(struct reactor *reactor, void (*run)(void *ctx), void *ctx);

#endif
