/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/testing.h"
#include "nexus/mirror/latency.h"

#define MS UINT64_C(1000000)

static void note(struct latency *latency, unsigned count, uint64_t ns)
{
	for (unsigned i = 0; i < count; i++) {
		latency_note(latency, ns);
	}
}

static void too_few_say_nothing(void **state)
{
	struct latency latency = {0};

	(void)state;
	note(&latency, 63, MS);
	assert_int_equal(latency.p99_ns, 0);
	note(&latency, 1, MS);
	assert_int_not_equal(latency.p99_ns, 0);
}

/* The end of a bucket: never below the value, at most a quarter above it. */
static void a_constant_is_its_own_p99(void **state)
{
	static const uint64_t values[] = {0, 1, 1023, 1024, 1025, 1279, 1280, 2047, 2048, 54321, MS,
		33 * MS, 999 * MS, 16000 * MS};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
		struct latency latency = {0};

		note(&latency, 64, values[i]);
		assert_true(latency.p99_ns > values[i]);
		assert_true(latency.p99_ns <= max_u64(1024, values[i] + values[i] / 4));
	}
}

static void beyond_the_last_bucket(void **state)
{
	struct latency latency = {0};

	(void)state;
	note(&latency, 64, UINT64_MAX);
	assert_true(latency.p99_ns > 16000 * MS);
}

static void one_of_a_hundred_may_be_slower(void **state)
{
	struct latency latency = {0};

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		note(&latency, 99, MS);
		note(&latency, 1, 500 * MS);
	}
	note(&latency, 48, MS);
	assert_true(latency.p99_ns < 2 * MS);
	note(&latency, 64, 500 * MS);
	assert_true(latency.p99_ns > 500 * MS);
}

static void what_was_is_forgotten(void **state)
{
	struct latency latency = {0};

	(void)state;
	note(&latency, 4096, 100 * MS);
	assert_true(latency.p99_ns > 100 * MS);
	note(&latency, 20000, MS);
	assert_true(latency.p99_ns < 2 * MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(too_few_say_nothing),
		cmocka_unit_test(a_constant_is_its_own_p99),
		cmocka_unit_test(beyond_the_last_bucket),
		cmocka_unit_test(one_of_a_hundred_may_be_slower),
		cmocka_unit_test(what_was_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
