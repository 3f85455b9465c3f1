/* SPDX-License-Identifier: Apache-2.0 */
/* What the store does with what it finds damaged or contradictory: the only good copy stays,
 * nothing asserts, nothing waits for ever. */
#include "base/crc32c.h"
#include "pool-agent/store/ondisk.h"
#include "pool-agent/testing/store_bench.h"

#define MIB          (UINT64_C(1) << 20)
#define DISK_BYTES   (32 * MIB)
#define REPLICA_SIZE (8 * MIB)
#define BLOCK        STORE_BLOCK_BYTES

static const struct store_format_options small_options = {
	.name = "pool",
	.cluster_bytes = 64 * 1024,
	.region_bytes = UINT64_C(256) * 1024,
	.replica_slots = 8,
	.journal_blocks = 16,
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

	if (bench->store != NULL) {
		assert_int_equal(bench_close(bench), 0);
	}
	bench_end_process(bench);
	bench_done(bench);
	free(bench);
	return 0;
}

static struct layout layout_of_disk(void)
{
	struct layout layout;
	struct err err;

	assert_int_equal(layout_make(DISK_BYTES / BLOCK, &small_options, &layout, &err), 0);
	return layout;
}

/* Freed by whoever asked. */
static uint8_t *block_bytes(const struct bench *bench, uint64_t block)
{
	uint8_t *bytes = bench_buffer(BLOCK);

	sim_disk_peek(bench->disk, block * BLOCK, bytes, BLOCK);
	return bytes;
}

static uint32_t block_sum(const struct bench *bench, uint64_t block)
{
	uint8_t *bytes = block_bytes(bench, block);
	uint32_t sum = crc32c(bytes, BLOCK);

	free(bytes);
	return sum;
}

static void destroy(struct bench *bench, uint64_t block)
{
	uint8_t *bytes = bench_buffer(BLOCK);

	memset(bytes, 0x5a, BLOCK);
	sim_disk_poke(bench->disk, block * BLOCK, bytes, BLOCK);
	free(bytes);
}

static void close_for_damage(struct bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_end_process(bench);
	bench_start_process(bench);
}

/* Pages are only written when the journal is half full. */
static void write_pages(struct bench *bench, struct store_replica *replica)
{
	for (uint64_t wgen = 1; wgen < 30; wgen++) {
		assert_int_equal(bench_write(bench, replica, 0, BLOCK, 9, wgen), 0);
	}
}

/* While one place is damaged the other one, all that there is, is not touched: its write may be
 * torn.
 */
static void test_only_good_place_is_not_overwritten(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	write_pages(bench, replica);
	for (unsigned place = 0; place < 2; place++) {
		uint64_t own = layout.table + place * layout.table_pages;
		uint64_t other = layout.table + (1 - place) * layout.table_pages;
		uint32_t damaged;
		uint32_t good;

		close_for_damage(bench);
		destroy(bench, own);
		damaged = block_sum(bench, own);
		good = block_sum(bench, other);
		assert_int_equal(bench_open(bench), 0);
		while (block_sum(bench, own) == damaged) {
			assert_int_equal(block_sum(bench, other), good);
			sim_run_for_ns(bench->sim, IO_NS_PER_MS / 100);
		}
		sim_run_for_ns(bench->sim, IO_NS_PER_S);
		assert_int_equal(block_sum(bench, own), block_sum(bench, other));
	}
}

/* Blocks 2 to `last` with one stamp each for a slot that has no replica; the tail stays at 1. */
static void fill_journal(struct bench *bench, uint64_t last)
{
	struct layout layout = layout_of_disk();
	struct uuid pool = bench_info(bench).uuid;
	struct journal_header header = {.tail = 1, .count = 1};
	uint8_t *block = bench_buffer(BLOCK);
	int result;

	close_for_damage(bench);
	sim_disk_peek(bench->disk, (layout.journal + 1) * BLOCK, block, BLOCK);
	result = journal_check(&pool, block, &(struct journal_header){0}, &header.previous_crc);
	assert_int_equal(result, 0);
	for (uint64_t seq = 2; seq <= last; seq++) {
		const struct record record = {.type = RECORD_STAMP, .slot = 3, .value = seq};

		memset(block, 0, BLOCK);
		record_encode(&record, journal_record_at(block, 0));
		header.seq = seq;
		header.first_lsn = seq - 1;
		header.previous_crc = journal_seal(&pool, &header, block);
		sim_disk_poke(bench->disk, (layout.journal + seq % layout.journal_blocks) * BLOCK,
			block, BLOCK);
	}
	free(block);
}

/* What a crash right after the deletion of the replica that filled it leaves. */
static void test_journal_full_of_what_is_gone(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;

	fill_journal(bench, small_options.journal_blocks - 1);
	assert_int_equal(bench_open(bench), 0);
	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, BLOCK, 1, 1), 0);
}

/* The list of free clusters must not begin with what a page claims. */
static void test_senseless_entry_is_refused(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();
	struct uuid pool;
	const struct page_id id = {.kind = PAGE_TABLE};
	const struct page_header header = {.seq = 100};
	uint8_t *page;

	pool = bench_info(bench).uuid;
	close_for_damage(bench);
	page = block_bytes(bench, layout.table);
	le64_put(page_entry(page, 0), entry_make(CLUSTER_FREE, 0, 77));
	page_seal(&pool, &id, &header, page);
	sim_disk_poke(bench->disk, layout.table * BLOCK, page, BLOCK);
	free(page);
	assert_int_equal(bench_open(bench), -EBADMSG);
	assert_non_null(strstr(bench->err.text, "senseless"));
}

/* A version that the disk put to another slot does not make that slot another replica. */
static void test_version_of_another_slot_does_not_count(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();
	struct store_replica *first;
	struct store_replica *second;
	struct uuid id;
	uint8_t *version;

	assert_int_equal(bench_create(bench, "a", REPLICA_SIZE, &first), 0);
	assert_int_equal(bench_create(bench, "b", REPLICA_SIZE, &second), 0);
	id = store_replica_vmeta(second)->replica;
	assert_int_equal(bench_update(bench, first, store_replica_vmeta(first)), 0);
	close_for_damage(bench);
	/* Version 3 of slot 0, where slot 1 has its version 1. */
	version = block_bytes(bench, layout.vmeta_near + 1);
	sim_disk_poke(bench->disk, (layout.vmeta_near + 2 + 1) * BLOCK, version, BLOCK);
	free(version);
	assert_int_equal(bench_open(bench), 0);
	second = store_replica_find(bench->store, &id);
	assert_non_null(second);
	assert_int_equal(store_replica_slot(second), 1);
	assert_false(store_replica_abstains(second));
}

/* A disk whose blocks are bigger than ours is refused, not met with an assert. */
static void test_big_blocks_are_refused(void **state)
{
	struct bench *bench = *state;

	close_for_damage(bench);
	bench->handle->block_bytes = 4 * BLOCK;
	assert_int_equal(bench_probe(bench), -EOPNOTSUPP);
	assert_int_equal(bench_format(bench, &small_options), -EOPNOTSUPP);
	assert_int_equal(bench_open(bench), -EOPNOTSUPP);
	assert_non_null(strstr(bench->err.text, "16384"));
	bench->handle->block_bytes = 512;
	assert_int_equal(bench_open(bench), 0);
}

/* Zeros where metadata was are not an empty slot whose data may go. */
static void test_erased_metadata_abstains(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();
	struct store_replica *replica;
	uint8_t *zeros = bench_buffer(BLOCK);

	memset(zeros, 0, BLOCK);
	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, BLOCK, 1, 1), 0);
	close_for_damage(bench);
	destroy(bench, layout.vmeta_near);
	destroy(bench, layout.vmeta_near + 1);
	sim_disk_poke(bench->disk, layout.vmeta_far * BLOCK, zeros, BLOCK);
	sim_disk_poke(bench->disk, (layout.vmeta_far + 1) * BLOCK, zeros, BLOCK);
	free(zeros);
	assert_int_equal(bench_open(bench), 0);
	replica = store_replica_next(bench->store, NULL);
	assert_non_null(replica);
	assert_true(store_replica_abstains(replica));
	assert_int_equal(store_replica_used_bytes(replica), 2 * small_options.cluster_bytes);
	assert_int_equal(bench_delete(bench, replica), 0);
	bench_settle(bench);
	assert_int_equal(bench_info(bench).used_bytes, 0);
	assert_int_equal(bench_reopen(bench), 0);
	assert_null(store_replica_next(bench->store, NULL));
}

/* Opens while the disk operations number nth to nth + 3 fail: a page, at both of its places,
 * together with its neighbours and then alone. */
static int open_with_failures(struct bench *bench, uint64_t nth)
{
	struct sim_disk_faults faults = {.fail_nth = nth, .fail_after_nth = true};
	uint64_t until = sim_disk_operations(bench->disk) + nth + 3;
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	sim_disk_set_faults(bench->disk, &faults);
	store_open(bench->io, bench->handle, &bench->store, &op);
	while (!flag && sim_disk_operations(bench->disk) < until) {
		assert_true(sim_step(bench->sim));
	}
	sim_disk_set_faults(bench->disk, &(struct sim_disk_faults){0});
	return bench_wait(bench, &op, &flag);
}

/* Whatever cannot be read while a pool is opened: afterwards every stamp is there, also those that
 * only the journal had, and those of a replica that could not be opened. */
static void test_failed_reads_lose_no_stamp(void **state)
{
	struct bench *bench = *state;
	struct store_replica *first;
	struct store_replica *second;

	assert_int_equal(bench_create(bench, "first", REPLICA_SIZE, &first), 0);
	assert_int_equal(bench_create(bench, "second", REPLICA_SIZE, &second), 0);
	for (uint64_t nth = 1; nth <= 40; nth++) {
		assert_int_equal(bench_write(bench, first, 0, BLOCK, 9, nth), 0);
		close_for_damage(bench);
		if (open_with_failures(bench, nth) == 0) {
			second = store_replica_next(
				bench->store, store_replica_next(bench->store, NULL));
			/* The tail of the journal moves past all that is there. */
			for (uint64_t i = 0; !store_replica_abstains(second) && i < 40; i++) {
				(void)bench_write(bench, second, 0, BLOCK, 9, 100 * nth + i);
			}
			close_for_damage(bench);
		}
		assert_int_equal(bench_open(bench), 0);
		first = store_replica_next(bench->store, NULL);
		assert_false(store_replica_abstains(first));
		assert_int_equal(store_replica_stamp(first, 0), nth);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_only_good_place_is_not_overwritten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_journal_full_of_what_is_gone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_version_of_another_slot_does_not_count, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_big_blocks_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_failed_reads_lose_no_stamp, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_erased_metadata_abstains, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_senseless_entry_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
