/* SPDX-License-Identifier: Apache-2.0 */
/* A pool is taken off its disk, also with a loss of power at every disk operation. */
#include "pool-agent/testing/store_bench.h"

#define MIB        (UINT64_C(1) << 20)
#define DISK_BYTES (8 * MIB)

static const struct store_format_options options = {.name = "pool", .replica_slots = 8};

static void erase_begin(struct bench *bench, const struct uuid *uuid, struct store_op *op)
{
	store_erase(bench->io, bench->handle, uuid, op);
}

static int erase(struct bench *bench, const struct uuid *uuid)
{
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	erase_begin(bench, uuid, &op);
	return bench_wait(bench, &op, &flag);
}

/* Returns the uuid of a pool that was used and closed. */
static struct uuid make_pool(struct bench *bench, uint64_t seed)
{
	struct store_replica *replica;
	struct uuid uuid;

	bench_init(bench, seed, DISK_BYTES);
	assert_int_equal(bench_format(bench, &options), 0);
	assert_int_equal(bench_open(bench), 0);
	uuid = bench_info(bench).uuid;
	assert_int_equal(bench_create(bench, "db", MIB, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, MIB, 0x5a, 1), 0);
	assert_int_equal(bench_close(bench), 0);
	return uuid;
}

static void test_the_disk_is_empty_afterwards(void **state)
{
	struct bench bench;
	struct uuid uuid = make_pool(&bench, 1);

	(void)state;
	assert_int_equal(erase(&bench, &uuid), 0);
	assert_int_equal(bench_probe(&bench), STORE_PROBE_EMPTY);
	assert_int_equal(bench_open(&bench), -EBADMSG);
	assert_int_equal(erase(&bench, &uuid), -ENOENT);
	assert_int_equal(bench_format(&bench, &options), 0);
	bench_end_process(&bench);
	bench_done(&bench);
}

static void test_another_pool_is_left_alone(void **state)
{
	struct bench bench;
	struct uuid uuid = make_pool(&bench, 2);

	(void)state;
	uuid.b[0] ^= 1;
	assert_int_equal(erase(&bench, &uuid), -ENOENT);
	assert_non_null(strstr(bench.err.text, "another pool: pool"));
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_info(&bench).replica_count, 1);
	assert_int_equal(bench_close(&bench), 0);
	bench_end_process(&bench);
	bench_done(&bench);
}

static void test_a_disk_too_small_for_a_pool(void **state)
{
	struct bench bench;
	struct uuid uuid = {{1}};

	(void)state;
	bench_init(&bench, 3, STORE_BLOCK_BYTES);
	assert_int_equal(erase(&bench, &uuid), -ENOENT);
	bench_end_process(&bench);
	bench_done(&bench);
}

/* false: it ended before that operation. */
static bool cut_at(uint64_t nth)
{
	struct bench bench;
	struct uuid uuid = make_pool(&bench, nth);
	uint64_t stop_at = sim_disk_operations(bench.disk) + nth;
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};
	int found;

	sim_disk_set_torn_range(bench.disk, 0, DISK_BYTES);
	erase_begin(&bench, &uuid, &op);
	while (!flag && sim_disk_operations(bench.disk) < stop_at) {
		assert_true(sim_step(bench.sim));
	}
	bench_crash(&bench, nth % 3 != 0);
	found = bench_probe(&bench);
	/* Whose it is can be told until it is empty. */
	assert_true(found == STORE_PROBE_POOL || found == STORE_PROBE_EMPTY);
	assert_true(found == STORE_PROBE_EMPTY || !flag);
	assert_int_equal(erase(&bench, &uuid), found == STORE_PROBE_POOL ? 0 : -ENOENT);
	assert_int_equal(bench_probe(&bench), STORE_PROBE_EMPTY);
	bench_end_process(&bench);
	bench_done(&bench);
	return !flag;
}

static void test_cut_off_at_every_operation(void **state)
{
	uint64_t nth = 1;

	(void)state;
	while (cut_at(nth)) {
		nth++;
	}
	assert_true(nth > 8);
}

/* A format of an empty disk that was cut off is known as such, and may begin again. */
static bool cut_format_at(uint64_t nth)
{
	struct bench bench;
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};
	uint64_t stop_at;
	int found;

	bench_init(&bench, nth, DISK_BYTES);
	stop_at = sim_disk_operations(bench.disk) + nth;
	store_format(bench.io, bench.handle, &options, &op);
	while (!flag && sim_disk_operations(bench.disk) < stop_at) {
		assert_true(sim_step(bench.sim));
	}
	bench_crash(&bench, nth % 3 != 0);
	found = bench_probe(&bench);
	assert_true(found != STORE_PROBE_OTHER);
	assert_true(found == STORE_PROBE_POOL || !flag);
	bench_end_process(&bench);
	bench_done(&bench);
	return !flag;
}

static void test_format_cut_off_at_every_operation(void **state)
{
	uint64_t nth = 1;

	(void)state;
	while (cut_format_at(nth)) {
		nth++;
	}
	assert_true(nth > 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_disk_is_empty_afterwards),
		cmocka_unit_test(test_another_pool_is_left_alone),
		cmocka_unit_test(test_a_disk_too_small_for_a_pool),
		cmocka_unit_test(test_cut_off_at_every_operation),
		cmocka_unit_test(test_format_cut_off_at_every_operation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
