/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "tests/sim/oracle.h"

#include <string.h>

static uint64_t write_issue(struct oracle *oracle, unsigned order)
{
	(void)oracle_tick(oracle);
	return oracle_write_issued(oracle, 0, 0, false, order);
}

static enum oracle_verdict write_ack(struct oracle *oracle, uint64_t number, unsigned order)
{
	(void)oracle_tick(oracle);
	return oracle_write_acked(oracle, 0, number, order, false);
}

static uint64_t write_whole(struct oracle *oracle, unsigned order)
{
	uint64_t number = write_issue(oracle, order);

	assert_int_equal(write_ack(oracle, number, order), ORACLE_FINE);
	return number;
}

static void write_fail(struct oracle *oracle, uint64_t number)
{
	(void)oracle_tick(oracle);
	oracle_write_failed(oracle, 0, number);
}

/* A read from begin to end, of what write `number` left (0: zeros). */
static enum oracle_verdict read_value(struct oracle *oracle, uint64_t number, unsigned order)
{
	static uint8_t data[ORACLE_BLOCK_BYTES];
	uint64_t issued = oracle_tick(oracle);

	memset(data, 0, sizeof(data));
	if (number != 0) {
		oracle_fill(data, 0, number);
	}
	(void)oracle_tick(oracle);
	return oracle_read(oracle, 0, issued, order, data);
}

static void flush(struct oracle *oracle, unsigned order)
{
	uint64_t issued = oracle_tick(oracle);

	(void)oracle_tick(oracle);
	oracle_flushed(oracle, issued, order);
}

static void test_acknowledged_write_stays(void **state)
{
	struct oracle oracle;
	uint64_t a, b;

	(void)state;
	oracle_init(&oracle, 1);
	assert_int_equal(read_value(&oracle, 0, 1), ORACLE_FINE);
	a = write_whole(&oracle, 1);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, 0, 1), ORACLE_LOST);
	b = write_whole(&oracle, 1);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_LOST);
	assert_int_equal(read_value(&oracle, b, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, b + 1, 1), ORACLE_LOST);
	oracle_done(&oracle);
}

static void test_failed_write_is_either_until_read(void **state)
{
	struct oracle oracle;
	uint64_t a, b, c;

	(void)state;
	oracle_init(&oracle, 1);
	a = write_whole(&oracle, 1);
	b = write_issue(&oracle, 1);
	write_fail(&oracle, b);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, b, 1), ORACLE_FLIPS);
	c = write_issue(&oracle, 1);
	write_fail(&oracle, c);
	assert_int_equal(read_value(&oracle, c, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_FLIPS);
	oracle_done(&oracle);
}

static void test_concurrent_writes_have_either_order(void **state)
{
	struct oracle oracle;
	uint64_t a, b;

	(void)state;
	oracle_init(&oracle, 1);
	a = write_issue(&oracle, 1);
	b = write_issue(&oracle, 1);
	assert_int_equal(write_ack(&oracle, a, 1), ORACLE_FINE);
	assert_int_equal(write_ack(&oracle, b, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, b, 1), ORACLE_FLIPS);
	oracle_done(&oracle);
}

static void test_later_opening_ends_the_earlier_one(void **state)
{
	struct oracle oracle;
	uint64_t a, b, c;

	(void)state;
	oracle_init(&oracle, 1);
	a = write_issue(&oracle, 1);
	b = write_issue(&oracle, 1);
	c = write_whole(&oracle, 2);
	/* Its answer was late: all replicas had it before. */
	assert_int_equal(write_ack(&oracle, a, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_LOST);
	assert_int_equal(read_value(&oracle, b, 2), ORACLE_LOST);
	assert_int_equal(read_value(&oracle, c, 2), ORACLE_FINE);
	b = write_issue(&oracle, 1);
	assert_int_equal(write_ack(&oracle, b, 1), ORACLE_LOST);
	oracle_done(&oracle);
}

static void test_power_loss_brings_back_what_no_flush_covers(void **state)
{
	struct oracle oracle;
	uint64_t a, b, c;

	(void)state;
	oracle_init(&oracle, 1);
	a = write_whole(&oracle, 1);
	b = write_whole(&oracle, 1);
	flush(&oracle, 1);
	assert_false(oracle_has_unflushed(&oracle));
	c = write_whole(&oracle, 1);
	assert_true(oracle_has_unflushed(&oracle));
	oracle_power_lost(&oracle, 1);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_LOST);
	assert_int_equal(read_value(&oracle, b, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, c, 1), ORACLE_FLIPS);
	c = write_issue(&oracle, 1);
	(void)oracle_tick(&oracle);
	assert_int_equal(oracle_write_acked(&oracle, 0, c, 1, true), ORACLE_FINE);
	oracle_power_lost(&oracle, 1);
	assert_int_equal(read_value(&oracle, b, 1), ORACLE_LOST);
	assert_int_equal(read_value(&oracle, c, 1), ORACLE_FINE);
	oracle_done(&oracle);
}

/* The answer of a write that a loss of power took comes late, from a nexus that was overtaken. */
static void test_late_answer_after_power_loss(void **state)
{
	struct oracle oracle;
	uint64_t a, b;

	(void)state;
	oracle_init(&oracle, 1);
	a = write_whole(&oracle, 1);
	flush(&oracle, 1);
	b = write_issue(&oracle, 1);
	oracle_power_lost(&oracle, 2);
	(void)oracle_tick(&oracle);
	assert_int_equal(oracle_write_acked(&oracle, 0, b, 1, false), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, a, 2), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, b, 2), ORACLE_FLIPS);
	oracle_done(&oracle);
}

/* A flush does not cover what was written while it was under way. */
static void test_flush_covers_what_was_before_it(void **state)
{
	struct oracle oracle;
	uint64_t issued, a;

	(void)state;
	oracle_init(&oracle, 1);
	issued = oracle_tick(&oracle);
	a = write_whole(&oracle, 1);
	oracle_flushed(&oracle, issued, 1);
	oracle_power_lost(&oracle, 1);
	assert_int_equal(read_value(&oracle, 0, 1), ORACLE_FINE);
	assert_int_equal(read_value(&oracle, a, 1), ORACLE_FLIPS);
	oracle_done(&oracle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acknowledged_write_stays),
		cmocka_unit_test(test_failed_write_is_either_until_read),
		cmocka_unit_test(test_concurrent_writes_have_either_order),
		cmocka_unit_test(test_later_opening_ends_the_earlier_one),
		cmocka_unit_test(test_power_loss_brings_back_what_no_flush_covers),
		cmocka_unit_test(test_late_answer_after_power_loss),
		cmocka_unit_test(test_flush_covers_what_was_before_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
