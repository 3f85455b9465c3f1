/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "nexus/mirror/progress.h"

#define MS  UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)

static uint64_t go(struct progress *progress, uint64_t now_ns, unsigned ms, uint64_t bytes_a_ms)
{
	for (unsigned i = 0; i < ms; i++) {
		now_ns += MS;
		progress_note(progress, bytes_a_ms, now_ns);
	}
	return now_ns;
}

static void too_early_to_tell(void **state)
{
	struct progress progress;
	uint64_t now_ns = 1000 * MS;

	(void)state;
	progress_begin(&progress, now_ns);
	now_ns = go(&progress, now_ns, 100, 1000);
	assert_int_equal(progress_rate(&progress, now_ns), 0);
	assert_int_equal(progress_seconds_left(&progress, MIB, now_ns), 0);
	now_ns = go(&progress, now_ns, 200, 1000);
	assert_in_range(progress_rate(&progress, now_ns), 990000, 1010000);
}

static void a_constant_speed(void **state)
{
	struct progress progress;
	uint64_t now_ns = 1000 * MS;

	(void)state;
	progress_begin(&progress, now_ns);
	now_ns = go(&progress, now_ns, 30500, 50000);
	assert_in_range(progress_rate(&progress, now_ns), 49000000, 51000000);
	assert_in_range(progress_seconds_left(&progress, 500000000, now_ns), 9, 11);
	assert_int_equal(progress_seconds_left(&progress, 1, now_ns), 1);
	assert_int_equal(progress_seconds_left(&progress, 0, now_ns), 0);
}

static void follows_within_seconds(void **state)
{
	struct progress progress;
	uint64_t now_ns = 1000 * MS;

	(void)state;
	progress_begin(&progress, now_ns);
	now_ns = go(&progress, now_ns, 10000, 100000);
	now_ns = go(&progress, now_ns, 15000, 10000);
	assert_in_range(progress_rate(&progress, now_ns), 9000000, 13000000);
}

/* Large pieces, some seconds each: every one of them counts for the time that it took. */
static void a_piece_every_few_seconds(void **state)
{
	struct progress progress;
	uint64_t now_ns = 1000 * MS;

	(void)state;
	progress_begin(&progress, now_ns);
	now_ns = go(&progress, now_ns, 5000, 100000);
	for (unsigned i = 0; i < 6; i++) {
		now_ns += 4000 * MS;
		progress_note(&progress, 4 * MIB, now_ns);
	}
	assert_in_range(progress_rate(&progress, now_ns), MIB * 9 / 10, MIB * 12 / 10);
}

static void what_stands_has_no_end(void **state)
{
	struct progress progress;
	uint64_t now_ns = 1000 * MS;

	(void)state;
	progress_begin(&progress, now_ns);
	now_ns = go(&progress, now_ns, 5000, 100000);
	assert_true(progress_rate(&progress, now_ns + 5000 * MS) <
		    progress_rate(&progress, now_ns) / 2);
	assert_int_equal(progress_rate(&progress, now_ns + 10000 * MS), 0);
	assert_int_equal(progress_seconds_left(&progress, MIB, now_ns + 10000 * MS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(too_early_to_tell),
		cmocka_unit_test(a_constant_speed),
		cmocka_unit_test(follows_within_seconds),
		cmocka_unit_test(a_piece_every_few_seconds),
		cmocka_unit_test(what_stands_has_no_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
