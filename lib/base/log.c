/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/bytes.h"
#include "base/json_text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What time, level, module and event take of a line. */
#define LINE_HEAD_MAX 192
#define PAIRS_MAX     (LOG_LINE_MAX - LINE_HEAD_MAX)
#define FORMAT_MAX    512

static void sink_null(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	(void)ctx;
	(void)level;
	(void)module;
	(void)event;
	(void)pairs;
}

const struct log log_null = {.sink = sink_null, .ctx = NULL, .level_min = LOG_ERROR};

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = {
		[LOG_DEBUG] = "debug",
		[LOG_INFO] = "info",
		[LOG_WARNING] = "warning",
		[LOG_ERROR] = "error",
	};

	return names[level];
}

/* ---- pairs ------------------------------------------------------------------------------------
 */

static bool is_key_character(char c)
{
	return (c >= 'a' && c <= 'z') || c == '_' || c == '.';
}

/* Length of the key if "key=" begins here, else 0. */
static size_t key_length(const char *at)
{
	size_t length = 0;

	while (is_key_character(at[length])) {
		length++;
	}
	return at[length] == '=' ? length : 0;
}

/* Where the value that begins here ends: before the next " key=" or at the end of the format. */
static const char *value_end(const char *at)
{
	for (; *at != '\0'; at++) {
		if (*at == ' ' && key_length(at + 1) > 0) {
			break;
		}
	}
	return at;
}

/* A lone integer conversion prints as a JSON number. */
static bool is_integer_format(const char *from, const char *to)
{
	if (to - from < 2 || *from != '%' || strchr("diu", to[-1]) == NULL) {
		return false;
	}
	for (from++; from < to - 1; from++) {
		if (strchr("lhzjt", *from) == NULL) {
			return false;
		}
	}
	return true;
}

/* The length of what the first `length` characters of the format print. */
__attribute__((format(printf, 1, 0))) static size_t printed_length(
	const char *format, size_t length, va_list args)
{
	char part[FORMAT_MAX];
	va_list again;

	memcpy(part, format, length);
	part[length] = '\0';
	va_copy(again, args);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	int printed = vsnprintf(NULL, 0, part, again);
#pragma GCC diagnostic pop
	va_end(again);
	return printed < 0 ? 0 : (size_t)printed;
}

struct pairs {
	char text[PAIRS_MAX];
	size_t length;
};

/* Appends `,"key":value`; a string value is cut to what has room, a pair that has none at all is
 * left out. */
static void append_pair(struct pairs *pairs, const char *key, size_t key_bytes, const char *value,
	const char *value_to, bool is_integer)
{
	size_t overhead = key_bytes + 4 + 2 + 1;
	size_t least = is_integer ? (size_t)(value_to - value) : 0;

	if (pairs->length + overhead + least > sizeof(pairs->text)) {
		return;
	}
	char *at = pairs->text + pairs->length;

	*at++ = ',';
	*at++ = '"';
	memcpy(at, key, key_bytes);
	at += key_bytes;
	*at++ = '"';
	*at++ = ':';
	if (is_integer) {
		memcpy(at, value, least);
		at += least;
	} else {
		const char *last = pairs->text + sizeof(pairs->text) - 2;

		*at++ = '"';
		while (value < value_to) {
			char character[JSON_CHARACTER_MAX];
			size_t length = json_character(&value, value_to, character);

			if (length > (size_t)(last - at)) {
				break;
			}
			memcpy(at, character, length);
			at += length;
		}
		*at++ = '"';
	}
	*at = '\0';
	pairs->length = (size_t)(at - pairs->text);
}

/*
 * Boundaries are measured by printing ever longer parts of the format: a value cannot pretend to be
 * a key, whatever it holds.
 */
__attribute__((format(printf, 2, 0))) static void build_pairs(
	struct pairs *pairs, const char *format, va_list args)
{
	char printed[LOG_LINE_MAX];
	va_list again;

	assert(strlen(format) < FORMAT_MAX);
	va_copy(again, args);
	(void)vsnprintf(printed, sizeof(printed), format, again);
	va_end(again);
	size_t printed_bytes = strlen(printed);
	const char *at = format;

	while (*at != '\0') {
		size_t key_bytes = key_length(at);

		assert(key_bytes > 0); /* The format is not in the form key=value key=value. */
		const char *value = at + key_bytes + 1;
		const char *end = value_end(value);
		size_t from = printed_length(format, (size_t)(value - format), args);
		size_t to = printed_length(format, (size_t)(end - format), args);
		bool is_integer = is_integer_format(value, end) && to <= printed_bytes;

		from = min_u64(from, printed_bytes);
		to = min_u64(to, printed_bytes);
		append_pair(pairs, at, key_bytes, printed + from, printed + to, is_integer);
		at = *end == ' ' ? end + 1 : end;
	}
}

void log_write(const struct log *log, enum log_level level, const char *module, const char *event,
	const char *format, ...)
{
	struct pairs pairs;

	if (log->sink == NULL || level < log->level_min || log->sink == sink_null) {
		return;
	}
	pairs.length = 0;
	pairs.text[0] = '\0';
	if (format != NULL && format[0] != '\0') {
		va_list args;

		va_start(args, format);
		build_pairs(&pairs, format, args);
		va_end(args);
	}
	log->sink(log->ctx, level, module, event, pairs.text);
}

/* ---- to a descriptor --------------------------------------------------------------------------
 */

static void write_line(int fd, const struct timespec *when, enum log_level level,
	const char *module, const char *event, const char *pairs)
{
	char line[LOG_LINE_MAX + 1];
	struct tm utc;
	char date[32];

	(void)gmtime_r(&when->tv_sec, &utc);
	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
	int length = snprintf(line, sizeof(line),
		"{\"time\":\"%s.%06ldZ\",\"level\":\"%s\",\"module\":\"%.40s\",\"event\":\"%.60s\"%"
		"s}\n",
		date, when->tv_nsec / 1000, log_level_name(level), module, event, pairs);

	assert(length > 0 && (size_t)length < sizeof(line));
	while (write(fd, line, (size_t)length) < 0 && errno == EINTR) {
	}
	/* A log that cannot be written has nobody to tell it to. */
}

void log_sink_fd(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	const int *fd = ctx;
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	write_line(*fd, &now, level, module, event, pairs);
}

/* ---- the ring ---------------------------------------------------------------------------------
 */

struct ring_line {
	struct timespec when;
	const char *module; /* static */
	const char *event;  /* static */
	enum log_level level;
	char pairs[PAIRS_MAX];
};

_Static_assert(sizeof(struct ring_line) <= LOG_LINE_MAX, "a line of the ring has its size");

struct log_ring {
	_Atomic uint64_t written;              /* lines ever; stored by the data thread */
	_Atomic uint64_t dropped;              /* stored by the data thread */
	_Alignas(64) _Atomic uint64_t drained; /* lines ever; stored by the control thread */
	unsigned capacity;
	struct ring_line *lines;
};

struct log_ring *log_ring_new(unsigned capacity)
{
	assert(is_power_of_two(capacity));
	struct log_ring *ring = aligned_alloc(64, sizeof(*ring));
	struct ring_line *lines = malloc(capacity * sizeof(*lines));

	if (ring == NULL || lines == NULL) {
		free(lines);
		free(ring);
		return NULL;
	}
	memset(ring, 0, sizeof(*ring));
	memset(lines, 0, capacity * sizeof(*lines));
	ring->capacity = capacity;
	ring->lines = lines;
	return ring;
}

void log_ring_free(struct log_ring *ring)
{
	if (ring != NULL) {
		free(ring->lines);
		free(ring);
	}
}

void log_sink_ring(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	struct log_ring *ring = ctx;
	uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
	uint64_t drained = atomic_load_explicit(&ring->drained, memory_order_acquire);

	if (written - drained == ring->capacity) {
		uint64_t dropped = atomic_load_explicit(&ring->dropped, memory_order_relaxed);

		atomic_store_explicit(&ring->dropped, dropped + 1, memory_order_relaxed);
		return;
	}
	struct ring_line *line = &ring->lines[written & (ring->capacity - 1)];
	size_t length = strlen(pairs);

	assert(length < sizeof(line->pairs));
	/* The line has the time of the event, not that of the drain. */
	(void)clock_gettime(CLOCK_REALTIME, &line->when);
	line->level = level;
	line->module = module;
	line->event = event;
	memcpy(line->pairs, pairs, length + 1);
	atomic_store_explicit(&ring->written, written + 1, memory_order_release);
}

unsigned log_ring_drain(struct log_ring *ring, const struct log *to)
{
	uint64_t drained = atomic_load_explicit(&ring->drained, memory_order_relaxed);
	uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
	unsigned count = 0;

	for (; drained != written; drained++, count++) {
		const struct ring_line *line = &ring->lines[drained & (ring->capacity - 1)];

		if (to->sink == log_sink_fd) {
			const int *fd = to->ctx;

			write_line(*fd, &line->when, line->level, line->module, line->event,
				line->pairs);
		} else if (to->sink != NULL) {
			to->sink(to->ctx, line->level, line->module, line->event, line->pairs);
		}
		atomic_store_explicit(&ring->drained, drained + 1, memory_order_release);
	}
	return count;
}

uint64_t log_ring_dropped(const struct log_ring *ring)
{
	return atomic_load_explicit(&ring->dropped, memory_order_relaxed);
}
