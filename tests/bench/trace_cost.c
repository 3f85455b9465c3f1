/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a trace point and a mark of the breadcrumb cost, in nanoseconds: a loop of them on a trace
 * of a daemon's size in /dev/shm, less the loop without.  The clock is that of a reactor within a
 * turn: a call and a load.  Once with nothing else, and once with 1 KiB of 64 MiB read before each,
 * as requests' data push the trace out of the caches.  Prints the smallest of several rounds.
 */
#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FOLDER      "/dev/shm"
#define NAME        "strake-trace-cost"
#define ROUNDS      500
#define TIMES       10000u
#define OTHER_BYTES (64u << 20)
#define OTHER_EACH  1024u
#define LINE        64u

static uint64_t turn_ns;

static uint64_t clock_of_turn(struct io *io)
{
	(void)io;
	return turn_ns;
}

static const struct io_ops ops = {.now_ns = clock_of_turn};

enum what { NOTHING, WORK, POINT };

struct bench {
	struct io io;
	const volatile unsigned char *other; /* NULL: nothing else is touched */
	size_t at;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * IO_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void touch_other(struct bench *bench)
{
	for (unsigned i = 0; i < OTHER_EACH; i += LINE) {
		(void)bench->other[bench->at + i];
	}
	bench->at = (bench->at + OTHER_EACH) % OTHER_BYTES;
}

static double round_ns(struct bench *bench, enum what what)
{
	struct io *io = &bench->io;
	uint64_t begin = now_ns();

	for (unsigned i = 0; i < TIMES; i++) {
		/* The loop is not optimised away, and knows nothing of the round before. */
		__asm__ volatile("" : : "r"(io) : "memory");
		if (bench->other != NULL) {
			touch_other(bench);
		}
		switch (what) {
		case NOTHING:
			break;
		case WORK:
			runq_work(&io->runq, i, TRACE_WORK_WRITE);
			break;
		case POINT:
			TRACE(io, leg_send, 1, 2, i, 3);
			break;
		}
	}
	return (double)(now_ns() - begin) / TIMES;
}

/* In turns, so that all meet the same noise. */
static void measure(struct bench *bench, struct trace *trace, const char *text)
{
	static const struct {
		enum what what;
		bool traced;
	} all[] = {{NOTHING, false}, {WORK, false}, {POINT, false}, {POINT, true}};
	double smallest[4] = {1e9, 1e9, 1e9, 1e9};

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < 4; i++) {
			bench->io.trace = all[i].traced ? trace : NULL;
			double ns = round_ns(bench, all[i].what);

			smallest[i] = ns < smallest[i] ? ns : smallest[i];
		}
	}
	printf("%s: point %.1f ns, without a trace %.1f ns, mark of work %.1f ns; the rest of the "
	       "loop %.1f ns\n",
		text, smallest[3] - smallest[0], smallest[2] - smallest[0],
		smallest[1] - smallest[0], smallest[0]);
}

int main(void)
{
	unsigned char *other = calloc(1, OTHER_BYTES);
	struct bench bench = {.at = 0};
	struct trace_crash crash;
	struct trace *trace;
	struct err err = {0};
	char path[256];

	io_init(&bench.io, &ops, NULL, 1, NULL);
	turn_ns = now_ns();
	if (other == NULL ||
		trace_new(FOLDER, NAME, "bench", TRACE_RECORDS, &trace, &crash, &err) < 0) {
		(void)fprintf(stderr, "trace-cost: %s\n", err.text);
		return 1;
	}
	bench.io.runq.work = &trace->head->work;
	for (size_t at = 0; at < OTHER_BYTES; at += 4096) {
		other[at] = 1;
	}
	measure(&bench, trace, "in the caches");
	bench.other = other;
	measure(&bench, trace, "beside data");
	trace_free(trace);
	trace_path(FOLDER, NAME, false, path, sizeof(path));
	(void)unlink(path);
	free(other);
	return 0;
}
