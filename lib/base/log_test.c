/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/testing.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct captured {
	unsigned count;
	enum log_level level;
	char line[2048];
};

static void capture(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	struct captured *captured = ctx;

	captured->count++;
	captured->level = level;
	snprintf(captured->line, sizeof(captured->line), "%s/%s%s", module, event, pairs);
}

static void test_pairs(void **state)
{
	struct captured captured = {0};
	struct log log = {.sink = capture, .ctx = &captured, .level_min = LOG_INFO};

	(void)state;
	log_debug(&log, "m", "too-low", NULL);
	assert_int_equal(captured.count, 0);
	log_info(&log, "m", "none", NULL);
	assert_string_equal(captured.line, "m/none");
	log_warning(&log, "m", "some", "volume=%s gen=%u bytes=%" PRIu64 " left=%d%% at=%d:%d",
		"db", 7u, UINT64_C(12345678901), 5, 1, 2);
	assert_string_equal(captured.line, "m/"
					   "some,\"volume\":\"db\",\"gen\":7,\"bytes\":12345678901,"
					   "\"left\":\"5%\",\"at\":\"1:2\"");
	assert_int_equal(captured.level, LOG_WARNING);
	/* A value cannot pretend to be a key, and blanks of the format belong to the value. */
	log_error(&log, "m", "hostile", "name=%s reason=was %s here path.x=%s", "a b=c\" d=e",
		"not", "");
	assert_string_equal(captured.line,
		"m/hostile,\"name\":\"a b=c\\\" d=e\",\"reason\":\"was not here\",\"path.x\":\"\"");
}

static void test_long_values_are_cut(void **state)
{
	struct captured captured = {0};
	struct log log = {.sink = capture, .ctx = &captured, .level_min = LOG_DEBUG};
	char value[3000];

	(void)state;
	for (size_t length = 0; length < sizeof(value); length += 97) {
		memset(value, '"', length);
		value[length] = '\0';
		log_info(&log, "m", "e", "first=%s second=%s third=%d", value, value, 12345);
		size_t line_length = strlen(captured.line);

		assert_true(line_length < LOG_LINE_MAX);
		/* Whatever is left ends as a whole pair. */
		char last = captured.line[line_length - 1];

		assert_true(last == '"' || last == '5');
		assert_memory_equal(captured.line, "m/e,\"first\":\"", 13);
	}
}

static void test_fd_sink_writes_json(void **state)
{
	int fds[2];
	char line[LOG_LINE_MAX * 2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	struct log log = {.sink = log_sink_fd, .ctx = &fds[1], .level_min = LOG_DEBUG};

	log_info(&log, "nexus", "member-ejected", "volume=%s", "db");
	ssize_t length = read(fds[0], line, sizeof(line) - 1);

	assert_true(length > 0);
	line[length] = '\0';
	assert_memory_equal(line, "{\"time\":\"20", 11);
	assert_non_null(strstr(line, "Z\",\"level\":\"info\",\"module\":\"nexus\",\"event\":"
				     "\"member-ejected\",\"volume\":\"db\"}\n"));
	close(fds[0]);
	close(fds[1]);
}

#define LINES 20000

static void *write_lines(void *ctx)
{
	struct log log = {.sink = log_sink_ring, .ctx = ctx, .level_min = LOG_DEBUG};

	for (unsigned i = 0; i < LINES; i++) {
		log_info(&log, "m", "line", "number=%u", i);
	}
	return NULL;
}

struct counted {
	unsigned count;
	unsigned last;
};

static void count_lines(
	void *ctx, enum log_level level, const char *module, const char *event, const char *pairs)
{
	struct counted *counted = ctx;
	unsigned number = 0;

	assert_int_equal(level, LOG_INFO);
	assert_string_equal(module, "m");
	assert_string_equal(event, "line");
	assert_int_equal(sscanf(pairs, ",\"number\":%u", &number), 1);
	assert_true(counted->count == 0 || number > counted->last);
	counted->last = number;
	counted->count++;
}

static void test_ring_between_threads(void **state)
{
	struct log_ring *ring = log_ring_new(16);
	struct counted counted = {0};
	struct log to = {.sink = count_lines, .ctx = &counted, .level_min = LOG_DEBUG};
	pthread_t thread;

	(void)state;
	assert_non_null(ring);
	assert_int_equal(pthread_create(&thread, NULL, write_lines, ring), 0);
	while (counted.count + log_ring_dropped(ring) < LINES) {
		(void)log_ring_drain(ring, &to);
	}
	pthread_join(thread, NULL);
	assert_int_equal(log_ring_drain(ring, &to), 0);
	assert_int_equal(counted.count + log_ring_dropped(ring), LINES);
	assert_true(counted.count >= 16);
	log_ring_free(ring);
	log_ring_free(NULL);
}

static void test_full_ring_drops(void **state)
{
	struct log_ring *ring = log_ring_new(4);
	struct counted counted = {0};
	struct log to = {.sink = count_lines, .ctx = &counted, .level_min = LOG_DEBUG};

	(void)state;
	(void)write_lines(ring);
	assert_int_equal(log_ring_dropped(ring), LINES - 4);
	assert_int_equal(log_ring_drain(ring, &to), 4);
	assert_int_equal(counted.last, 3);
	log_ring_free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_long_values_are_cut),
		cmocka_unit_test(test_fd_sink_writes_json),
		cmocka_unit_test(test_ring_between_threads),
		cmocka_unit_test(test_full_ring_drops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
