/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas that grow: what they have stays, a crash or an error leaves the old size or the new one,
 * and nothing is lost of the pool. */
#include "pool-agent/testing/store_bench.h"

#define BLOCK STORE_BLOCK_BYTES
/* A region is a block and a cluster two: each 508 blocks of a replica take a page of stamps and one
 * more cluster. */
#define PAGE_BLOCKS 508u
#define CLUSTER     (2 * BLOCK)
#define DISK_BYTES  (UINT64_C(300) * BLOCK)

static const struct store_format_options tiny_options = {
	.name = "pool",
	.cluster_bytes = CLUSTER,
	.region_bytes = BLOCK,
	.replica_slots = 4,
	.journal_blocks = 8,
};

static int set_up(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	bench_init(bench, 1, DISK_BYTES);
	assert_int_equal(bench_format(bench, &tiny_options), 0);
	assert_int_equal(bench_open(bench), 0);
	*state = bench;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(bench_close(bench), 0);
	bench_end_process(bench);
	bench_done(bench);
	free(bench);
	return 0;
}

static void test_data_and_stamps_stay(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	uint64_t blocks = 5;

	assert_int_equal(bench_create(bench, "db", blocks * BLOCK, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, 5 * BLOCK, 0x11, 3), 0);
	for (unsigned round = 1; round <= 5; round++) {
		uint64_t wgen = 10 * round;
		uint64_t before = blocks;

		/* Pages of the old size are in the lists of the checkpoint, and being written. */
		for (uint64_t i = 0; i < 40; i++) {
			assert_int_equal(bench_write(bench, replica, (before - 1) * BLOCK, BLOCK,
						 (uint8_t)round, ++wgen),
				0);
		}
		blocks += round == 1 ? 1 : PAGE_BLOCKS - 2;
		assert_int_equal(bench_resize(bench, replica, blocks * BLOCK), 0);
		assert_int_equal(store_replica_vmeta(replica)->size_bytes, blocks * BLOCK);
		assert_int_equal(store_replica_region_count(replica), blocks);
		assert_int_equal(store_replica_stamp(replica, before - 1), wgen);
		assert_int_equal(store_replica_stamp(replica, before), 0);
		assert_reads(bench, replica, before * BLOCK, (blocks - before) * BLOCK, 0);
		assert_int_equal(bench_write(bench, replica, (blocks - 1) * BLOCK, BLOCK,
					 (uint8_t)(0x80 + round), wgen),
			0);
		if (round % 2 == 0) {
			assert_int_equal(bench_flush(bench, replica), 0);
			bench_crash(bench, true);
			assert_int_equal(bench_open(bench), 0);
		} else {
			assert_int_equal(bench_reopen(bench), 0);
		}
		replica = store_replica_next(bench->store, NULL);
		assert_int_equal(store_replica_region_count(replica), blocks);
		assert_int_equal(store_replica_stamp(replica, 0), 3);
		assert_int_equal(store_replica_stamp(replica, blocks - 1), wgen);
		assert_reads(bench, replica, 0, 4 * BLOCK, 0x11);
		assert_reads(bench, replica, (blocks - 1) * BLOCK, BLOCK, (uint8_t)(0x80 + round));
	}
}

static void test_what_is_refused(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	struct store_replica *arbiter;
	uint64_t before;

	assert_int_equal(bench_create(bench, "db", 100 * BLOCK, &replica), 0);
	assert_int_equal(bench_create(bench, "db", 0, &arbiter), 0);
	before = sim_disk_operations(bench->disk);
	assert_int_equal(bench_resize(bench, replica, 100 * BLOCK), 0);
	assert_int_equal(bench_resize(bench, replica, 99 * BLOCK), -EINVAL);
	assert_non_null(strstr(bench->err.text, "shrink"));
	assert_int_equal(bench_resize(bench, replica, 0), -EINVAL);
	assert_int_equal(bench_resize(bench, replica, 100 * BLOCK + 512), -ERANGE);
	assert_int_equal(bench_resize(bench, replica, REPL_SIZE_MAX + BLOCK), -ERANGE);
	assert_int_equal(bench_resize(bench, replica, REPL_SIZE_MAX), -ENOSPC);
	assert_int_equal(bench_resize(bench, arbiter, BLOCK), -ERANGE);
	assert_int_equal(sim_disk_operations(bench->disk), before);
	assert_int_equal(store_replica_vmeta(replica)->size_bytes, 100 * BLOCK);
}

/* What it took before the pool was full comes back, and it may be tried again. */
static void test_no_room_for_stamps(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	uint64_t used;
	uint64_t free_clusters;

	assert_int_equal(bench_create(bench, "db", BLOCK, &replica), 0);
	assert_int_equal(bench_resize(bench, replica, PAGE_BLOCKS * BLOCK), 0);
	free_clusters = bench_info(bench).size_bytes / CLUSTER - 1;
	assert_int_equal(bench_write(bench, replica, 0, (free_clusters - 3) * CLUSTER, 0x77, 1), 0);
	used = bench_info(bench).used_bytes;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(
			bench_resize(bench, replica, (4 + i) * PAGE_BLOCKS * BLOCK + BLOCK),
			-ENOSPC);
		assert_int_equal(store_replica_vmeta(replica)->size_bytes, PAGE_BLOCKS * BLOCK);
		assert_int_equal(store_replica_used_bytes(replica), used);
		assert_int_equal(bench_info(bench).used_bytes, used);
	}
	assert_int_equal(bench_resize(bench, replica, 4 * PAGE_BLOCKS * BLOCK), 0);
	assert_int_equal(bench_info(bench).used_bytes, used + 3 * CLUSTER);
	assert_int_equal(bench_reopen(bench), 0);
	replica = store_replica_next(bench->store, NULL);
	assert_int_equal(bench_info(bench).used_bytes, used + 3 * CLUSTER);
	assert_int_equal(bench_delete(bench, replica), 0);
	bench_settle(bench);
	assert_int_equal(bench_info(bench).used_bytes, 0);
	assert_int_equal(bench_info(bench).reclaiming_bytes, 0);
}

/* At every disk operation: the old size or the new one; the other clusters are given back, also
 * when the replica is resized again or deleted at once. */
static void test_crash_while_resizing(void **state)
{
	struct bench *bench = *state;
	bool ended = false;

	for (uint64_t nth = 1; !ended; nth++) {
		struct store_replica *replica;
		struct store_op op = {.done = bench_op_done, .ctx = &ended};
		uint64_t size = 100 * BLOCK;
		uint64_t stop_at;

		assert_int_equal(bench_create(bench, "db", size, &replica), 0);
		stop_at = sim_disk_operations(bench->disk) + nth;
		store_replica_resize(replica, 3 * PAGE_BLOCKS * BLOCK, &op);
		while (!ended && sim_disk_operations(bench->disk) < stop_at) {
			assert_true(sim_step(bench->sim));
		}
		bench_crash(bench, nth % 2 == 0);
		assert_int_equal(bench_open(bench), 0);
		replica = store_replica_next(bench->store, NULL);
		assert_non_null(replica);
		size = store_replica_vmeta(replica)->size_bytes;
		assert_true(size == 3 * PAGE_BLOCKS * BLOCK || (size == 100 * BLOCK && !ended));
		assert_int_equal(store_replica_used_bytes(replica),
			size == 100 * BLOCK ? CLUSTER : 3 * CLUSTER);
		if (nth % 3 != 0) {
			assert_int_equal(bench_resize(bench, replica, 4 * PAGE_BLOCKS * BLOCK), 0);
			assert_int_equal(bench_write(bench, replica,
						 4 * PAGE_BLOCKS * BLOCK - BLOCK, BLOCK, 5, nth),
				0);
			bench_settle(bench);
			assert_int_equal(bench_reopen(bench), 0);
			replica = store_replica_next(bench->store, NULL);
			assert_int_equal(store_replica_stamp(replica, 4 * PAGE_BLOCKS - 1), nth);
			assert_int_equal(bench_info(bench).used_bytes, 5 * CLUSTER);
		}
		assert_int_equal(bench_delete(bench, replica), 0);
		bench_settle(bench);
		assert_int_equal(bench_info(bench).used_bytes, 0);
	}
}

static void test_memory_runs_out(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	uint64_t nth = 0;
	unsigned before;
	int result;

	assert_int_equal(bench_create(bench, "db", 100 * BLOCK, &replica), 0);
	before = sim_process_allocations(bench->process);
	do {
		assert_int_equal(sim_process_allocations(bench->process), before);
		sim_process_fail_allocation(bench->process, ++nth);
		result = bench_resize(bench, replica, 3 * PAGE_BLOCKS * BLOCK);
		assert_true(result == 0 || result == -ENOMEM);
	} while (result != 0);
	sim_process_fail_allocation(bench->process, 0);
	assert_true(nth > 6);
	assert_int_equal(sim_process_allocations(bench->process), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_data_and_stamps_stay, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_room_for_stamps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_crash_while_resizing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_runs_out, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
