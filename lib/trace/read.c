/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a trace: a file that may be of a process that died in the middle, of one that is writing
 * it, or anything else. */
#include "trace/trace.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

/* The oldest records of a full ring are not read: the writer may be at one of them, and another
 * processor may see what it writes there before the count that says so. */
#define MARGIN 8u

int trace_view_init(struct trace_view *view, const void *bytes, size_t size, struct err *err)
{
	const struct trace_head *head = bytes;

	assert((uintptr_t)bytes % _Alignof(struct trace_head) == 0);
	if (size < TRACE_HEAD_BYTES || memcmp(head->magic, TRACE_MAGIC, sizeof(head->magic)) != 0) {
		return err_set(err, -EBADMSG, "it is no trace");
	}
	if (head->version != TRACE_VERSION || head->record_bytes != sizeof(struct trace_record)) {
		return err_set(err, -EBADMSG, "it has version %u, and this program reads %u",
			head->version, TRACE_VERSION);
	}
	if (head->record_count <= MARGIN || head->record_count > TRACE_RECORDS_MAX ||
		!is_power_of_two(head->record_count) ||
		size != TRACE_HEAD_BYTES + head->record_count * sizeof(struct trace_record)) {
		return err_set(err, -EBADMSG, "its size of %zu is not that of %u records", size,
			head->record_count);
	}
	*view = (struct trace_view){
		.head = head,
		.records = (const void *)((const char *)bytes + TRACE_HEAD_BYTES),
	};
	return 0;
}

/* The first record that may be read while `written` are there. */
static uint64_t oldest(const struct trace_view *view, uint64_t written)
{
	uint64_t kept = view->head->record_count - MARGIN;

	return written > kept ? written - kept : 0;
}

unsigned trace_view_read(
	const struct trace_view *view, uint64_t *cursor, struct trace_record *to, unsigned max)
{
	const struct trace_head *head = view->head;
	uint64_t written = atomic_load_explicit(&head->written, memory_order_acquire);
	uint64_t first = max_u64(*cursor, oldest(view, written));
	unsigned count = 0;

	while (count < max && first + count < written) {
		to[count] = view->records[(first + count) & (head->record_count - 1)];
		count++;
	}
	*cursor = max_u64(*cursor, first + count);
	/* What was written meanwhile may have gone over what was copied first. */
	atomic_thread_fence(memory_order_acquire);
	uint64_t now_oldest =
		oldest(view, atomic_load_explicit(&head->written, memory_order_relaxed));
	unsigned lost = now_oldest > first ? (unsigned)min_u64(now_oldest - first, count) : 0;

	memmove(to, to + lost, (count - lost) * sizeof(*to));
	return count - lost;
}

struct trace_crash trace_view_crash(const struct trace_view *view)
{
	const struct trace_head *head = view->head;

	return (struct trace_crash){
		.signal = atomic_load(&head->crash_signal),
		.on_data_thread = head->data_thread != 0 && head->crash_thread == head->data_thread,
		.work = head->crash_work,
	};
}

/* ---- text ---- */

#define TRACE_POINT_TEXTS(name, object, part, a, b) {#name, {object, part, a, b}},
static const struct {
	const char *name;
	const char *labels[4];
} points[] = {TRACE_POINTS(TRACE_POINT_TEXTS)};

#define TRACE_WORK_TEXT(name, text) text,
static const char *const works[] = {TRACE_WORKS(TRACE_WORK_TEXT)};

const char *trace_work_name(uint64_t operation)
{
	return operation < ARRAY_COUNT(works) ? works[operation] : "?";
}

static void append_time(const struct trace_view *view, uint64_t monotonic_ns, struct strbuf *text)
{
	uint64_t ns = view->head->start_real_ns + (monotonic_ns - view->head->start_monotonic_ns);
	/* A year of 9999 at most, whatever the file says. */
	time_t seconds = (time_t)min_u64(ns / NS_PER_S, UINT64_C(253402300799));
	struct tm utc;
	char date[32];

	(void)gmtime_r(&seconds, &utc);
	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
	strbuf_printf(text, "%s.%06uZ", date, (unsigned)(ns % NS_PER_S / 1000));
}

static void append_number(const char *label, uint64_t number, struct strbuf *text)
{
	if (label[0] == '\0') {
		return;
	}
	if (strcmp(label, "request") == 0) {
		/* An enum blk_kind. */
		strbuf_printf(text, " %s=%s", label, trace_work_name(number + TRACE_WORK_READ));
	} else if (strcmp(label, "opcode") == 0) {
		strbuf_printf(text, " %s=0x%02" PRIx64, label, number);
	} else {
		strbuf_printf(text, " %s=%" PRIu64, label, number);
	}
}

void trace_record_to_text(
	const struct trace_view *view, const struct trace_record *record, struct strbuf *text)
{
	append_time(view, record->time_ns, text);
	if (record->point >= ARRAY_COUNT(points)) {
		strbuf_printf(text, " point-%u %08x %u %" PRIu64 " %" PRIu64, record->point,
			record->object, record->part, record->a, record->b);
		return;
	}
	const char *const *labels = points[record->point].labels;

	strbuf_printf(text, " %s", points[record->point].name);
	if (labels[0][0] != '\0') {
		strbuf_printf(text, " %s=%08x", labels[0], record->object);
	}
	append_number(labels[1], record->part, text);
	append_number(labels[2], record->a, text);
	append_number(labels[3], record->b, text);
}

/* Up to the first byte that is not to be shown on a terminal. */
static void append_name(const char *name, size_t size, struct strbuf *text)
{
	size_t length = 0;

	while (length < size && name[length] > ' ' && name[length] <= '~') {
		length++;
	}
	strbuf_append_bytes(text, name, length);
}

void trace_view_to_text(const struct trace_view *view, struct strbuf *text)
{
	const struct trace_head *head = view->head;
	struct trace_crash crash = trace_view_crash(view);

	append_name(head->program, sizeof(head->program), text);
	strbuf_append(text, " ");
	append_name(head->release, sizeof(head->release), text);
	strbuf_printf(text, ", process %d, since ", head->pid);
	append_time(view, head->start_monotonic_ns, text);
	strbuf_append(text, "\n");
	if (crash.signal == 0) {
		return;
	}
	append_time(view, head->crash_monotonic_ns, text);
	strbuf_printf(text, " died of signal %d", crash.signal);
	if (!crash.on_data_thread) {
		strbuf_append(text, ", not on the data thread");
	} else if (crash.work.operation != TRACE_WORK_NONE) {
		strbuf_printf(text, " at work=%s volume=%08x",
			trace_work_name(crash.work.operation), (unsigned)(crash.work.object >> 32));
	}
	strbuf_append(text, "\n");
}
