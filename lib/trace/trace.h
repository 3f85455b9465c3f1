/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a data thread did last, for whoever looks after it has died: a ring of records and a
 * breadcrumb (what it is working on, struct task_work of base/task.h) in a file that is mapped, on
 * a file system in memory.  Writing is a few stores: no system call, no lock, no allocation.
 *
 * One daemon writes one file, run_dir/NAME.trace; the one of the process before it is NAME.trace.1.
 * Numbers are in the machine's own byte order: the file does not leave it.
 *
 * Points are written with TRACE() of io/io.h, which is a USDT probe too.
 */
#ifndef TRACE_TRACE_H
#define TRACE_TRACE_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "base/task.h"
#include "base/uuid.h"
#include "trace/points.h"

#include <stdatomic.h>
#include <stddef.h>

#define TRACE_MAGIC         "STRKTRCE"
#define TRACE_VERSION       1u
#define TRACE_RECORDS       8192u /* of a daemon's ring: 256 KiB */
#define TRACE_RECORDS_MAX   (1u << 24)
#define TRACE_PROGRAM_SIZE  16
#define TRACE_RELEASE_SIZE  16
#define TRACE_PATH_NAME_MAX 64

struct trace_record {
	uint64_t time_ns; /* monotonic; the same within one turn of the reactor's loop */
	uint64_t a, b;
	uint32_t object; /* short id of a volume or replica */
	uint16_t point;  /* enum trace_point */
	uint16_t part;
};
_Static_assert(sizeof(struct trace_record) == 32, "two in a cache line");

/* The first page of the file. */
struct trace_head {
	char magic[8]; /* written last */
	uint32_t version;
	uint32_t record_bytes;
	uint32_t record_count; /* a power of two */
	int32_t pid;
	char program[TRACE_PROGRAM_SIZE];
	char release[TRACE_RELEASE_SIZE];
	/* The same instant on both clocks. */
	uint64_t start_real_ns, start_monotonic_ns;

	/* Written by the data thread all the time. */
	_Alignas(64) _Atomic uint64_t written; /* records, ever: the next goes to written % count */
	struct task_work work;

	/* Written once, by the handler of the signal that the process died of. */
	_Alignas(64) int32_t data_thread; /* its id */
	_Atomic int32_t crash_signal;     /* 0: it was not a crash of its own */
	int32_t crash_thread;
	uint64_t crash_monotonic_ns;
	struct task_work crash_work; /* what the data thread was at */
};
#define TRACE_HEAD_BYTES 4096u
_Static_assert(sizeof(struct trace_head) <= TRACE_HEAD_BYTES, "one page");

/* ---- writing: the data thread ---- */

struct trace {
	struct trace_head *head;      /* mapped; owned */
	struct trace_record *records; /* behind it */
	uint32_t mask;
	size_t bytes; /* of the mapping */
};

static inline void trace_put(struct trace *trace, uint64_t time_ns, enum trace_point point,
	uint32_t object, uint16_t part, uint64_t a, uint64_t b)
{
	uint64_t at = atomic_load_explicit(&trace->head->written, memory_order_relaxed);

	trace->records[at & trace->mask] = (struct trace_record){
		.time_ns = time_ns,
		.a = a,
		.b = b,
		.object = object,
		.point = (uint16_t)point,
		.part = part,
	};
	/* The record is there before it counts, for a reader as for a crash in between. */
	atomic_store_explicit(&trace->head->written, at + 1, memory_order_release);
}

/* The object of work: the first 16 digits of the uuid. */
static inline uint64_t trace_object(const struct uuid *uuid)
{
	return __builtin_bswap64(le64_get(uuid->b));
}

/* Of records: the first eight. */
static inline uint32_t trace_id(const struct uuid *uuid)
{
	return (uint32_t)(trace_object(uuid) >> 32);
}

/* ---- the file: ring.c, control thread ---- */

/* What the process before was working on when it died of itself; signal 0: it did not. */
struct trace_crash {
	int signal;
	bool on_data_thread; /* else the work means nothing */
	struct task_work work;
};

/* Puts the file of the process before aside and makes a new one; *ret_crash is filled in also when
 * that fails.  -EOPNOTSUPP: the folder is not in memory, and the data thread could have to wait for
 * a disk. */
int trace_new(const char *folder, const char *name, const char *program, uint32_t record_count,
	struct trace **ret_trace, struct trace_crash *ret_crash, struct err *err) __must_check;
/* The file stays. */
void trace_free(struct trace *trace);

/* run_dir/NAME.trace, or the one before it. */
void trace_path(const char *folder, const char *name, bool previous, char *path, size_t path_bytes);

/* ---- crashes: crash.c ---- */

/*
 * From now on a signal that the process dies of by its own fault (SIGABRT of an assert, SIGSEGV,
 * SIGBUS, SIGILL, SIGFPE; not when somebody sent it) is written down in the head, and then takes
 * its usual course.  One trace in a process; trace_free() ends it.
 */
void crash_watch(struct trace *trace);
/* On the data thread: its work is what counts, and it needs a stack for a handler. */
void crash_watch_data_thread(struct trace *trace);

/* ---- reading: read.c, pure ---- */

/* A file in memory, perhaps one that is being written to; whatever is in it. */
struct trace_view {
	const struct trace_head *head;
	const struct trace_record *records;
};

/* `bytes` is aligned to 64 and borrowed.  -EBADMSG: no trace, or one of another version. */
int trace_view_init(
	struct trace_view *view, const void *bytes, size_t size, struct err *err) __must_check;
/* Copies up to `max` records from *cursor on (0: the oldest there is), moves it behind them, and
 * returns how many.  Records that were overwritten before they could be read are passed over. */
unsigned trace_view_read(
	const struct trace_view *view, uint64_t *cursor, struct trace_record *to, unsigned max);
struct trace_crash trace_view_crash(const struct trace_view *view);

/* "nexus 0.1.0, process 4711, since ..." and, after a crash, what it died of; each with a newline.
 */
void trace_view_to_text(const struct trace_view *view, struct strbuf *text);
/* One line without a newline. */
void trace_record_to_text(
	const struct trace_view *view, const struct trace_record *record, struct strbuf *text);
const char *trace_work_name(uint64_t operation); /* "?" for one of a later version */

#endif
