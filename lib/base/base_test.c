/* SPDX-License-Identifier: Apache-2.0 */
/* Run queue, errors, bytes, CRC, random numbers, UUIDs, strings and sizes. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/rng.h"
#include "base/size.h"
#include "base/strbuf.h"
#include "base/task.h"
#include "base/testing.h"
#include "base/uuid.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- tasks ------------------------------------------------------------------------------------
 */

enum ladder_state { LADDER_START, LADDER_AWAIT_FIRST, LADDER_AWAIT_SECOND, LADDER_DONE };

struct ladder {
	struct task task;
	enum ladder_state state;
	bool first, second;
	unsigned steps;
};

static void ladder_run(struct ladder *ladder)
{
	switch (ladder->state) {
	case LADDER_START:
		AWAIT(ladder, LADDER_AWAIT_FIRST, ladder->first);
		AWAIT(ladder, LADDER_AWAIT_SECOND, ladder->second);
		ladder->state = LADDER_DONE;
		return;
	case LADDER_DONE:
		return;
	}
}

static void ladder_step(struct task *task)
{
	struct ladder *ladder = container_of(task, struct ladder, task);

	ladder->steps++;
	ladder_run(ladder);
}

static void test_ladder(void **state)
{
	struct runq runq;
	struct ladder ladder = {0};

	(void)state;
	runq_init(&runq);
	task_init(&ladder.task, &runq, ladder_step);
	task_wake(&ladder.task);
	task_wake(&ladder.task);
	assert_false(runq_run(&runq, 10));
	assert_int_equal(ladder.steps, 1);
	assert_int_equal(ladder.state, LADDER_AWAIT_FIRST);
	/* A wake is a hint: the condition does not hold yet. */
	task_wake(&ladder.task);
	assert_false(runq_run(&runq, 10));
	assert_int_equal(ladder.state, LADDER_AWAIT_FIRST);
	ladder.first = true;
	task_wake(&ladder.task);
	assert_false(runq_run(&runq, 10));
	assert_int_equal(ladder.state, LADDER_AWAIT_SECOND);
	ladder.second = true;
	task_wake(&ladder.task);
	assert_false(runq_run(&runq, 10));
	assert_int_equal(ladder.state, LADDER_DONE);
	assert_int_equal(runq.steps, 4);
}

struct waker {
	struct task task;
	struct task *other;
	unsigned steps;
};

static void waker_step(struct task *task)
{
	struct waker *waker = container_of(task, struct waker, task);

	waker->steps++;
	task_wake(waker->other);
}

static void test_budget_and_order(void **state)
{
	struct runq runq;
	struct waker a = {0}, b = {0};

	(void)state;
	runq_init(&runq);
	task_init(&a.task, &runq, waker_step);
	task_init(&b.task, &runq, waker_step);
	a.other = &b.task;
	b.other = &a.task;
	task_wake(&a.task);
	/* They wake each other for ever; the budget ends it. */
	assert_true(runq_run(&runq, 7));
	assert_int_equal(a.steps, 4);
	assert_int_equal(b.steps, 3);
	assert_true(task_is_queued(&b.task));
	task_done(&b.task);
	task_done(&b.task);
	assert_true(runq_is_empty(&runq));
}

static void free_step(struct task *task)
{
	free(container_of(task, struct waker, task));
}

static void test_step_may_free_its_task(void **state)
{
	struct runq runq;
	struct waker *waker = calloc(1, sizeof(*waker));

	(void)state;
	runq_init(&runq);
	task_init(&waker->task, &runq, free_step);
	task_wake(&waker->task);
	assert_false(runq_run(&runq, 1));
}

/* ---- errors -----------------------------------------------------------------------------------
 */

static void test_err(void **state)
{
	struct err err;
	char longest[ERR_TEXT_MAX * 2];

	(void)state;
	err_clear(&err);
	assert_int_equal(err.code, 0);
	assert_int_equal(err_set(&err, -ENOSPC, "pool %s is full", "p0"), -ENOSPC);
	assert_int_equal(err_prefix(&err, "volume %s", "db"), -ENOSPC);
	assert_string_equal(err.text, "volume db: pool p0 is full");
	/* The old text as an argument. */
	(void)err_set(&err, -EIO, "again: %s", err.text);
	assert_string_equal(err.text, "again: volume db: pool p0 is full");
	assert_int_equal(err_set(NULL, -EIO, "nobody listens"), -EIO);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	(void)err_set(&err, -EIO, "%s", longest);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	(void)err_prefix(&err, "short");
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_memory_equal(err.text, "short: xxx", 10);
	(void)err_set(&err, -EIO, "cause");
	(void)err_prefix(&err, "%s", longest);
	assert_string_equal(err.text, "cause");
	assert_string_equal(err_name(-ENOSPC), "ENOSPC");
	assert_string_equal(err_name(EIO), "EIO");
	assert_string_equal(err_describe(-ENOSPC), "No space left on device");
	assert_non_null(err_name(-99999));
	assert_non_null(err_describe(INT_MIN));
}

/* ---- bytes and CRC ----------------------------------------------------------------------------
 */

static void test_bytes(void **state)
{
	unsigned char bytes[70] = {0};

	(void)state;
	le16_put(bytes + 1, 0x1234);
	le32_put(bytes + 3, 0x56789ABC);
	le64_put(bytes + 7, UINT64_C(0x1122334455667788));
	assert_int_equal(bytes[1], 0x34);
	assert_int_equal(le16_get(bytes + 1), 0x1234);
	assert_int_equal(le32_get(bytes + 3), 0x56789ABC);
	assert_true(le64_get(bytes + 7) == UINT64_C(0x1122334455667788));
	memset(bytes, 0, sizeof(bytes));
	for (size_t length = 0; length <= sizeof(bytes); length++) {
		assert_true(bytes_are_zero(bytes, length));
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = 1;
		assert_true(bytes_are_zero(bytes, i));
		assert_false(bytes_are_zero(bytes, i + 1));
		assert_false(bytes_are_zero(bytes, sizeof(bytes)));
		bytes[i] = 0;
	}
	assert_true(range_is_within(UINT64_MAX, 0, UINT64_MAX));
	assert_false(range_is_within(UINT64_MAX, 1, UINT64_MAX));
	assert_false(range_is_within(2, UINT64_MAX, 100));
}

static void test_crc32c(void **state)
{
	unsigned char data[300];

	(void)state;
	assert_int_equal(crc32c("123456789", 9), 0xE3069283);
	assert_int_equal(crc32c("", 0), 0);
	/* RFC 3720 B.4 */
	memset(data, 0, 32);
	assert_int_equal(crc32c(data, 32), 0x8A9136AA);
	memset(data, 0xFF, 32);
	assert_int_equal(crc32c(data, 32), 0x62A8AB43);
	for (unsigned i = 0; i < sizeof(data); i++) {
		data[i] = (unsigned char)(i * 7);
	}
	for (size_t i = 0; i <= sizeof(data); i++) {
		assert_int_equal(crc32c_extend(crc32c(data, i), data + i, sizeof(data) - i),
			crc32c(data, sizeof(data)));
	}
}

/* ---- random numbers and UUIDs ------------------------------------------------------------------
 */

static void test_rng(void **state)
{
	struct rng a, b;
	unsigned counts[7] = {0};
	unsigned hits = 0;

	(void)state;
	rng_init(&a, 42);
	rng_init(&b, 42);
	for (unsigned i = 0; i < 70000; i++) {
		uint64_t value = rng_below(&a, 7);

		assert_true(value == rng_below(&b, 7));
		assert_true(value < 7);
		counts[value]++;
	}
	for (unsigned i = 0; i < 7; i++) {
		assert_in_range(counts[i], 9500, 10500);
	}
	rng_init(&b, 43);
	assert_true(rng_u64(&a) != rng_u64(&b));
	for (unsigned i = 0; i < 10000; i++) {
		hits += rng_percent(&a, 30) ? 1 : 0;
		assert_false(rng_percent(&a, 0));
		assert_true(rng_percent(&a, 100));
		assert_true(rng_below(&a, 1) == 0);
	}
	assert_in_range(hits, 2800, 3200);
}

static void test_uuid(void **state)
{
	static const char *const bad[] = {"", "00112233-4455-6677-8899-aabbccddeef",
		"00112233-4455-6677-8899-aabbccddeeff0", "0011223304455-6677-8899-aabbccddeeff",
		"00112233-4455-6677-8899-aabbccddeefg", "00112233-4455-6677-8899aaabbccddeeff",
		"{0112233-4455-6677-8899-aabbccddeeff}"};
	struct rng rng;
	struct uuid uuid, parsed;
	char text[UUID_TEXT_SIZE];

	(void)state;
	rng_init(&rng, 1);
	for (unsigned i = 0; i < 100; i++) {
		uuid_make(&uuid, &rng);
		assert_int_equal(strlen(uuid_to_text(&uuid, text)), 36);
		assert_int_equal(text[14], '4');
		assert_non_null(strchr("89ab", text[19]));
		assert_int_equal(uuid_parse(text, &parsed), 0);
		assert_true(uuid_equal(&uuid, &parsed));
		assert_false(uuid_is_nil(&uuid));
	}
	assert_int_equal(uuid_parse("00112233-4455-6677-8899-AABBccddeeff", &parsed), 0);
	assert_string_equal(uuid_to_text(&parsed, text), "00112233-4455-6677-8899-aabbccddeeff");
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(uuid_parse(bad[i], &parsed), -EINVAL);
	}
	/* A failure writes nothing. */
	assert_int_equal(parsed.b[15], 0xFF);
	memset(&uuid, 0, sizeof(uuid));
	assert_true(uuid_is_nil(&uuid));
}

/* ---- text -------------------------------------------------------------------------------------
 */

static void test_strbuf(void **state)
{
	struct strbuf buf;

	(void)state;
	strbuf_init(&buf);
	assert_string_equal(strbuf_text(&buf), "");
	for (unsigned i = 0; i < 1000; i++) {
		strbuf_printf(&buf, "%03u", i);
		strbuf_append(&buf, ",");
	}
	assert_int_equal(buf.length, 4000);
	assert_memory_equal(strbuf_text(&buf), "000,001,", 8);
	assert_string_equal(strbuf_text(&buf) + 3996, "999,");
	assert_false(strbuf_failed(&buf));
	strbuf_append_bytes(&buf, "x", SIZE_MAX / 2);
	assert_true(strbuf_failed(&buf));
	strbuf_append(&buf, "more");
	assert_int_equal(buf.length, 4000);
	strbuf_done(&buf);
}

static void check_json(const char *text, const char *expected)
{
	struct strbuf buf;

	strbuf_init(&buf);
	strbuf_append_json_string(&buf, text);
	assert_string_equal(strbuf_text(&buf), expected);
	strbuf_done(&buf);
}

static void test_json_string(void **state)
{
	(void)state;
	check_json("", "\"\"");
	check_json("a\"b\\c\n\x01\x7F", "\"a\\\"b\\\\c\\n\\u0001\\u007f\"");
	check_json(
		"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\"");
	/* Cut off, overlong, a surrogate, too large, a lone continuation. */
	check_json("\xC3", "\"\xEF\xBF\xBD\"");
	check_json("\xC0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
	check_json("\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
	check_json("\xF4\x90\x80\x80x", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx\"");
	check_json("\x80z", "\"\xEF\xBF\xBDz\"");
}

static void check_size(const char *text, uint64_t expected)
{
	uint64_t bytes = 0;
	struct err err;

	assert_int_equal(size_parse(text, &bytes, &err), 0);
	assert_true(bytes == expected);
}

static void test_size(void **state)
{
	static const char *const bad[] = {
		"", "M", "-1", "1.5G", "10 G", "10X", "10Gx", "10GiBs", "0x10", "+1", "1KK", " 1"};
	static const char *const large[] = {
		"18446744073709551616", "16777216T", "99999999999999999999G"};
	char text[SIZE_TEXT_SIZE];
	uint64_t bytes = 5;
	struct err err;

	(void)state;
	check_size("0", 0);
	check_size("4096", 4096);
	check_size("4096B", 4096);
	check_size("64M", 64 * MIB);
	check_size("10Gi", 10 * GIB);
	check_size("10GiB", 10 * GIB);
	check_size("3kB", 3 * KIB);
	check_size("16777215T", UINT64_MAX - TIB + 1);
	check_size("18446744073709551615", UINT64_MAX);
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(size_parse(bad[i], &bytes, &err), -EINVAL);
		assert_non_null(strstr(err.text, "64M"));
	}
	for (unsigned i = 0; i < ARRAY_COUNT(large); i++) {
		assert_int_equal(size_parse(large[i], &bytes, &err), -ERANGE);
	}
	assert_int_equal(bytes, 5);
	assert_string_equal(size_to_text(0, text), "0");
	assert_string_equal(size_to_text(1023, text), "1023");
	assert_string_equal(size_to_text(64 * MIB, text), "64M");
	assert_string_equal(size_to_text(GIB + GIB / 2, text), "1.50G");
	assert_string_equal(size_to_text(GIB + 1, text), "1.00G");
	assert_string_equal(size_to_text(UINT64_MAX, text), "16777215.99T");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ladder),
		cmocka_unit_test(test_budget_and_order),
		cmocka_unit_test(test_step_may_free_its_task),
		cmocka_unit_test(test_err),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_rng),
		cmocka_unit_test(test_uuid),
		cmocka_unit_test(test_strbuf),
		cmocka_unit_test(test_json_string),
		cmocka_unit_test(test_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
