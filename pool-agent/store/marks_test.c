/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a replica that are unreadable until they are written: what reads say, what takes the
 * mark away, and what is left of it by restarts, growth and deletion. */
#include "pool-agent/testing/store_bench.h"

#define BLOCK      STORE_BLOCK_BYTES
#define CLUSTER    (4 * BLOCK)
#define SIZE       (200 * BLOCK)
#define DISK_BYTES (UINT64_C(600) * BLOCK)

static const struct store_format_options small_options = {
	.name = "pool",
	.cluster_bytes = CLUSTER,
	.region_bytes = CLUSTER,
	.replica_slots = 2,
	.journal_blocks = 8,
};

static int set_up(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	bench_init(bench, 1, DISK_BYTES);
	assert_int_equal(bench_format(bench, &small_options), 0);
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

static int mark(struct bench *bench, struct store_replica *replica, uint64_t block, uint64_t count,
	uint64_t wgen)
{
	return bench_simple(
		bench, replica, STORE_UNCORRECTABLE, block * BLOCK, count * BLOCK, wgen);
}

/* Each block is `fill`, or unreadable where its letter in `expected` is 'x'. */
static void assert_blocks(struct bench *bench, struct store_replica *replica, uint64_t first,
	const char *expected, uint8_t fill)
{
	uint8_t *buffer = bench_buffer(BLOCK);

	for (size_t i = 0; expected[i] != '\0'; i++) {
		int result = bench_read(bench, replica, (first + i) * BLOCK, BLOCK, buffer);

		assert_int_equal(result, expected[i] == 'x' ? -EIO : 0);
		if (result == 0) {
			assert_int_equal(buffer[0], expected[i] == '0' ? 0 : fill);
			assert_int_equal(buffer[BLOCK - 1], expected[i] == '0' ? 0 : fill);
		}
	}
	free(buffer);
}

static struct store_replica *reopened(struct bench *bench)
{
	assert_int_equal(bench_reopen(bench), 0);
	return store_replica_next(bench->store, NULL);
}

static void test_reads_fail_until_written(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	uint8_t *buffer = bench_buffer(8 * BLOCK);

	assert_int_equal(bench_create(bench, "db", SIZE, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, 8 * BLOCK, 0x11, 3), 0);
	assert_int_equal(mark(bench, replica, 2, 3, 7), 0);
	assert_int_equal(store_replica_stamp(replica, 0), 7);
	assert_int_equal(store_replica_stamp(replica, 1), 7);
	assert_blocks(bench, replica, 0, "11xxx111", 0x11);
	assert_int_equal(bench_read(bench, replica, 0, 8 * BLOCK, buffer), -EIO);
	replica = reopened(bench);
	assert_blocks(bench, replica, 0, "11xxx111", 0x11);
	assert_int_equal(bench_write(bench, replica, 3 * BLOCK, BLOCK, 0x11, 8), 0);
	assert_blocks(bench, replica, 0, "11x1x111", 0x11);
	replica = reopened(bench);
	assert_blocks(bench, replica, 0, "11x1x111", 0x11);
	/* Again, and beside it. */
	assert_int_equal(mark(bench, replica, 1, 4, 8), 0);
	assert_blocks(bench, replica, 0, "1xxxx111", 0x11);
	assert_int_equal(bench_write(bench, replica, 0, 8 * BLOCK, 0x11, 8), 0);
	assert_int_equal(store_replica_vmeta(replica)->marks.count, 0);
	assert_blocks(bench, replica, 0, "11111111", 0x11);
	free(buffer);
}

/* Zeros of both kinds, of a part of a cluster and of all of it, and where nothing is mapped. */
static void test_zeros_take_it_away(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", SIZE, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, 8 * BLOCK, 0x11, 3), 0);
	assert_int_equal(mark(bench, replica, 0, 10, 3), 0);
	assert_int_equal(bench_simple(bench, replica, STORE_DISCARD, BLOCK, BLOCK, 3), 0);
	assert_blocks(bench, replica, 0, "x0xxxxxxxx", 0x11);
	assert_int_equal(bench_simple(bench, replica, STORE_DISCARD, CLUSTER, CLUSTER, 3), 0);
	assert_blocks(bench, replica, 0, "x0xx0000xx", 0x11);
	assert_int_equal(bench_simple(bench, replica, STORE_ZERO, 2 * BLOCK, 7 * BLOCK, 3), 0);
	assert_blocks(bench, replica, 0, "x00000000x", 0x11);
	replica = reopened(bench);
	assert_blocks(bench, replica, 0, "x00000000x0", 0x11);
}

static void test_there_is_room_for_so_many(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", SIZE, &replica), 0);
	for (uint64_t i = 0; i < MARKS_MAX - 1; i++) {
		assert_int_equal(mark(bench, replica, i + i / 2, 1, 3), 0);
	}
	assert_int_equal(mark(bench, replica, 195, 2, 3), -ENOBUFS);
	assert_blocks(bench, replica, 195, "00", 0);
	assert_int_equal(mark(bench, replica, 195, 1, 3), 0);
	assert_int_equal(mark(bench, replica, 196, 1, 3), -ENOBUFS);
	/* One that is there already needs none. */
	assert_int_equal(mark(bench, replica, 195, 1, 3), 0);
	replica = reopened(bench);
	assert_int_equal(store_replica_vmeta(replica)->marks.count, MARKS_MAX);
	assert_int_equal(mark(bench, replica, 196, 1, 3), -ENOBUFS);
	assert_int_equal(bench_simple(bench, replica, STORE_DISCARD, 0, SIZE, 3), 0);
	assert_int_equal(store_replica_vmeta(replica)->marks.count, 0);
	assert_int_equal(mark(bench, replica, 196, 4, 3), 0);
}

static void test_growth_and_deletion(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", SIZE, &replica), 0);
	assert_int_equal(mark(bench, replica, 5, 1, 3), 0);
	assert_int_equal(bench_resize(bench, replica, 2 * SIZE), 0);
	assert_blocks(bench, replica, 4, "0x0", 0);
	replica = reopened(bench);
	assert_blocks(bench, replica, 4, "0x0", 0);
	assert_int_equal(bench_delete(bench, replica), 0);
	assert_int_equal(bench_create(bench, "db", SIZE, &replica), 0);
	assert_blocks(bench, replica, 4, "000", 0);
}

/* An update that began before the mark was durable has it too. */
static void test_beside_an_update(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", SIZE, &replica), 0);
	for (uint64_t i = 0; i < 20; i++) {
		bool marked = false;
		bool updated = false;
		struct store_io io = {
			.kind = STORE_UNCORRECTABLE,
			.wgen = 3,
			.offset = i * BLOCK,
			.length = BLOCK,
			.done = bench_io_done,
			.ctx = &marked,
		};
		struct store_op op = {.done = bench_op_done, .ctx = &updated};
		struct vmeta vmeta = *store_replica_vmeta(replica);

		vmeta.clean = i + 1;
		store_submit(replica, &io);
		sim_run_for_ns(bench->sim, i * 20000);
		store_replica_update(replica, &vmeta, &op);
		assert_true(sim_run_until_flag(bench->sim, &marked, BENCH_TIMEOUT_NS));
		assert_true(sim_run_until_flag(bench->sim, &updated, BENCH_TIMEOUT_NS));
		assert_int_equal(io.result, 0);
		assert_int_equal(op.result, 0);
		assert_int_equal(store_replica_vmeta(replica)->clean, i + 1);
		assert_int_equal(store_replica_vmeta(replica)->marks.count, i + 1);
	}
	replica = reopened(bench);
	assert_int_equal(store_replica_vmeta(replica)->clean, 20);
	assert_blocks(bench, replica, 0, "xxxxxxxxxxxxxxxxxxxx0", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reads_fail_until_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_zeros_take_it_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_there_is_room_for_so_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_growth_and_deletion, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_beside_an_update, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
