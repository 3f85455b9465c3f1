/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured log: one line is time, level, module, event and key=value pairs; written as one JSON
 * object.
 *
 * A data thread never writes to a file: its log has a ring, which the control thread drains
 * (log_drain).  When the ring is full lines are dropped and counted.  The simulator gives a sink of
 * its own.  No secrets and no user data go into a line.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/metric.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

#define LOG_LINE_MAX 1024

/* Takes one finished line: `pairs` is the JSON members after level, module and event, beginning
 * with a comma, or "".  Called from the logging thread. */
typedef void log_sink(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs);

struct log {
	log_sink *sink;
	void *ctx;
	enum log_level level_min;
};

/* A log that drops everything, for tests. */
extern const struct log log_null;

/*
 * event is a constant like "member-ejected"; format is a printf format of pairs in the form
 * "volume=%s replica=%s gen=%u": keys are [a-z_.]+, each value runs to the next " key=" of the
 * FORMAT (so values may hold blanks).  NULL or "" for no pairs.  Too long lines are cut, still
 * valid JSON.
 */
void log_write(const struct log *log, enum log_level level, const char *module, const char *event,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

#define log_debug(log, module, event, ...)   log_write(log, LOG_DEBUG, module, event, __VA_ARGS__)
#define log_info(log, module, event, ...)    log_write(log, LOG_INFO, module, event, __VA_ARGS__)
#define log_warning(log, module, event, ...) log_write(log, LOG_WARNING, module, event, __VA_ARGS__)
#define log_error(log, module, event, ...)   log_write(log, LOG_ERROR, module, event, __VA_ARGS__)

const char *log_level_name(enum log_level level);

/* Sink that writes each line with one write(2) to fd (ctx is &fd, an int that outlives the log).
 * For control threads. */
log_sink log_sink_fd;

/* A ring between one data thread and the control thread.  `capacity` lines of LOG_LINE_MAX bytes, a
 * power of two; its memory is touched at creation.  NULL when memory is short. */
struct log_ring *log_ring_new(unsigned capacity);
void log_ring_free(struct log_ring *ring);
log_sink log_sink_ring; /* ctx is the ring; data thread; never blocks */
/* Control thread: writes what is there to the sink; returns the number of lines. */
unsigned log_ring_drain(struct log_ring *ring, const struct log *to);
uint64_t log_ring_dropped(const struct log_ring *ring);

#endif
