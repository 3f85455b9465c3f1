/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a trace point and a mark of the breadcrumb cost, in nanoseconds: a loop of them on a trace
 * of a daemon's size in /dev/shm, less the empty loop.  The clock is that of a reactor within a
 * turn: a call and a load.  Prints the smallest of several rounds.
 */
#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FOLDER "/dev/shm"
#define NAME   "strake-trace-cost"
#define ROUNDS 20
#define TIMES  1000000u

static uint64_t turn_ns;

static uint64_t clock_of_turn(struct io *io)
{
	(void)io;
	return turn_ns;
}

static const struct io_ops ops = {.now_ns = clock_of_turn};

enum what { NOTHING, WORK, POINT, POINT_OFF };

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * IO_NS_PER_S + (uint64_t)now.tv_nsec;
}

static double round_ns(struct io *io, enum what what)
{
	uint64_t begin = now_ns();

	for (unsigned i = 0; i < TIMES; i++) {
		/* The loop is not optimised away, and knows nothing of the round before. */
		__asm__ volatile("" : : "r"(io) : "memory");
		switch (what) {
		case NOTHING:
			break;
		case WORK:
			runq_work(&io->runq, i, TRACE_WORK_WRITE);
			break;
		case POINT:
		case POINT_OFF:
			TRACE(io, leg_send, 1, 2, i, 3);
			break;
		}
	}
	return (double)(now_ns() - begin) / TIMES;
}

static double smallest_ns(struct io *io, enum what what)
{
	double smallest = round_ns(io, what);

	for (unsigned i = 1; i < ROUNDS; i++) {
		double ns = round_ns(io, what);

		smallest = ns < smallest ? ns : smallest;
	}
	return smallest;
}

int main(void)
{
	struct trace_crash crash;
	struct trace *trace;
	struct err err = {0};
	char path[256];
	struct io io;

	io_init(&io, &ops, NULL, 1, NULL);
	turn_ns = now_ns();
	if (trace_new(FOLDER, NAME, "bench", TRACE_RECORDS, &trace, &crash, &err) < 0) {
		(void)fprintf(stderr, "trace-cost: %s\n", err.text);
		return 1;
	}
	io.runq.work = &trace->head->work;
	double nothing = smallest_ns(&io, NOTHING);
	double work = smallest_ns(&io, WORK);
	double off = smallest_ns(&io, POINT_OFF);

	io.trace = trace;
	printf("point %.1f ns, without a trace %.1f ns, mark of work %.1f ns\n",
		smallest_ns(&io, POINT) - nothing, off - nothing, work - nothing);
	trace_free(trace);
	trace_path(FOLDER, NAME, false, path, sizeof(path));
	(void)unlink(path);
	return 0;
}
