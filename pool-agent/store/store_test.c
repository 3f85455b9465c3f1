/* SPDX-License-Identifier: Apache-2.0 */
/* What a store does while nothing goes wrong, and with damage that is there when it opens. */
#include "pool-agent/store/ondisk.h"
#include "pool-agent/testing/store_bench.h"

#define MIB          (UINT64_C(1) << 20)
#define DISK_BYTES   (32 * MIB)
#define CLUSTER      (64u * 1024)
#define REGION       (UINT64_C(256) * 1024)
#define REPLICA_SIZE (8 * MIB)
#define BLOCK        STORE_BLOCK_BYTES

static const struct store_format_options small_options = {
	.name = "pool",
	.cluster_bytes = CLUSTER,
	.region_bytes = REGION,
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
	if (bench->process != NULL) {
		/* Asserts that all memory came back. */
		bench_end_process(bench);
	}
	bench_done(bench);
	free(bench);
	return 0;
}

static void test_new_pool_is_empty(void **state)
{
	struct bench *bench = *state;
	struct store_info info = bench_info(bench);

	assert_string_equal(info.name, "pool");
	assert_false(uuid_is_nil(&info.uuid));
	assert_int_equal(info.used_bytes, 0);
	assert_int_equal(info.reclaiming_bytes, 0);
	assert_int_equal(info.replica_count, 0);
	assert_int_equal(info.replica_slots, 8);
	assert_true(info.size_bytes > 31 * MIB - MIB);
	assert_null(store_replica_next(bench->store, NULL));
	assert_int_equal(bench_probe(bench), STORE_PROBE_POOL);
}

static void test_data_survives_reopen(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	struct uuid id;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	id = store_replica_vmeta(replica)->replica;
	assert_reads(bench, replica, 0, MIB, 0);
	assert_int_equal(bench_write(bench, replica, 3 * BLOCK, BLOCK, 0x11, 5), 0);
	assert_int_equal(bench_write(bench, replica, CLUSTER - BLOCK, 4 * CLUSTER, 0x22, 6), 0);
	assert_int_equal(bench_flush(bench, replica), 0);
	assert_int_equal(bench_reopen(bench), 0);
	replica = store_replica_find(bench->store, &id);
	assert_non_null(replica);
	assert_reads(bench, replica, 0, 3 * BLOCK, 0);
	assert_reads(bench, replica, 3 * BLOCK, BLOCK, 0x11);
	assert_reads(bench, replica, CLUSTER - BLOCK, 4 * CLUSTER, 0x22);
	assert_reads(bench, replica, 5 * CLUSTER - BLOCK, MIB, 0);
	assert_int_equal(store_replica_stamp(replica, 0), 6);
	assert_int_equal(store_replica_stamp(replica, 1), 6);
	assert_int_equal(store_replica_stamp(replica, 2), 0);
	assert_int_equal(store_replica_region_count(replica), REPLICA_SIZE / REGION);
	assert_true(store_replica_region_is_mapped(replica, 1));
	assert_false(store_replica_region_is_mapped(replica, 2));
	/* Five clusters of data, one of stamps. */
	assert_int_equal(store_replica_used_bytes(replica), 6 * CLUSTER);
	assert_int_equal(bench_info(bench).used_bytes, 6 * CLUSTER);
	assert_string_equal(store_replica_vmeta(replica)->name, "db");
}

static void test_overwrite_is_one_disk_operation(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	uint64_t before;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, BLOCK, 1, 5), 0);
	before = sim_disk_operations(bench->disk);
	assert_int_equal(bench_write(bench, replica, 0, BLOCK, 2, 5), 0);
	assert_int_equal(bench_write(bench, replica, BLOCK, BLOCK, 2, 4), 0);
	assert_int_equal(sim_disk_operations(bench->disk) - before, 2);
	/* A new generation: one record, then the data. */
	assert_int_equal(bench_write(bench, replica, 0, BLOCK, 2, 6), 0);
	assert_int_equal(sim_disk_operations(bench->disk) - before, 4);
	assert_int_equal(store_replica_stamp(replica, 0), 6);
}

struct counted {
	struct store_io io;
	struct iovec iov;
	unsigned *done;
};

static void counted_done(struct store_io *io)
{
	struct counted *counted = io->ctx;

	assert_int_equal(io->result, 0);
	(*counted->done)++;
}

static void counted_op_done(struct store_op *op)
{
	assert_int_equal(op->result, 0);
	(*(unsigned *)op->ctx)++;
}

static void test_records_share_journal_writes(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replicas[2];
	struct counted writes[32];
	uint8_t *buffer = bench_buffer(BLOCK);
	unsigned done = 0;
	uint64_t before;

	memset(buffer, 7, BLOCK);
	assert_int_equal(bench_create(bench, "a", REPLICA_SIZE, &replicas[0]), 0);
	assert_int_equal(bench_create(bench, "b", REPLICA_SIZE, &replicas[1]), 0);
	before = bench_info(bench).journal_writes;
	for (unsigned i = 0; i < 32; i++) {
		writes[i].iov = (struct iovec){.iov_base = buffer, .iov_len = BLOCK};
		writes[i].done = &done;
		writes[i].io = (struct store_io){
			.kind = STORE_WRITE,
			.wgen = 1,
			.offset = (uint64_t)(i / 2) * CLUSTER,
			.length = BLOCK,
			.iov = &writes[i].iov,
			.iov_count = 1,
			.done = counted_done,
			.ctx = &writes[i],
		};
		store_submit(replicas[i % 2], &writes[i].io);
	}
	assert_int_equal(done, 0);
	sim_run_for_ns(bench->sim, IO_NS_PER_S);
	assert_int_equal(done, 32);
	assert_true(bench_info(bench).journal_writes - before <= 2);
	/* 32 clusters and 2 * 4 regions. */
	assert_int_equal(bench_info(bench).used_bytes, 34 * CLUSTER);
	free(buffer);
}

static void test_discard_gives_space_back(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	assert_int_equal(bench_write(bench, replica, 0, MIB, 0x33, 1), 0);
	assert_int_equal(bench_info(bench).used_bytes, 17 * CLUSTER);
	assert_int_equal(
		bench_simple(bench, replica, STORE_DISCARD, CLUSTER / 2, 4 * CLUSTER, 2), 0);
	assert_reads(bench, replica, 0, CLUSTER / 2, 0x33);
	assert_reads(bench, replica, CLUSTER / 2, 4 * CLUSTER, 0);
	assert_reads(bench, replica, 4 * CLUSTER + CLUSTER / 2, MIB / 4, 0x33);
	assert_int_equal(bench_info(bench).used_bytes, 14 * CLUSTER);
	assert_int_equal(store_replica_stamp(replica, 0), 2);
	assert_int_equal(store_replica_stamp(replica, 1), 2);
	assert_int_equal(store_replica_stamp(replica, 2), 1);
	assert_int_equal(bench_simple(bench, replica, STORE_ZERO, 0, REPLICA_SIZE, 3), 0);
	assert_reads(bench, replica, 0, REPLICA_SIZE / 8, 0);
	bench_settle(bench);
	assert_int_equal(bench_info(bench).used_bytes, CLUSTER);
	assert_int_equal(bench_info(bench).reclaiming_bytes, 0);
	for (uint64_t i = 0; i < store_replica_region_count(replica); i++) {
		assert_int_equal(store_replica_stamp(replica, i), 3);
	}
	assert_int_equal(bench_reopen(bench), 0);
	replica = store_replica_next(bench->store, NULL);
	assert_int_equal(bench_info(bench).used_bytes, CLUSTER);
	assert_reads(bench, replica, 0, MIB, 0);
}

static void test_full_pool(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	struct store_replica *other;
	uint64_t size = bench_info(bench).size_bytes;
	uint64_t at = 0;
	int result = 0;

	assert_int_equal(bench_create(bench, "db", 2 * DISK_BYTES, &replica), 0);
	for (; result == 0; at += CLUSTER) {
		result = bench_write(bench, replica, at, BLOCK, 1, 1);
	}
	assert_int_equal(result, -ENOSPC);
	assert_int_equal(bench_info(bench).used_bytes, size);
	assert_int_equal(bench_create(bench, "b", MIB, &other), -ENOSPC);
	assert_int_equal(bench_info(bench).replica_count, 1);
	/* Overwrites, reads, updates of metadata and stamps still work. */
	assert_int_equal(bench_write(bench, replica, BLOCK, BLOCK, 2, 2), 0);
	assert_int_equal(bench_update(bench, replica, store_replica_vmeta(replica)), 0);
	assert_reads(bench, replica, BLOCK, BLOCK, 2);
	/* A write that finds nothing free but something being cleaned waits for that. */
	assert_int_equal(bench_simple(bench, replica, STORE_DISCARD, 0, 2 * CLUSTER, 2), 0);
	assert_int_equal(bench_write(bench, replica, 40 * MIB, 2 * CLUSTER, 3, 2), 0);
	assert_int_equal(bench_write(bench, replica, 50 * MIB, BLOCK, 3, 2), -ENOSPC);
	assert_reads(bench, replica, 40 * MIB, 2 * CLUSTER, 3);
	assert_reads(bench, replica, 0, 2 * CLUSTER, 0);
}

static void test_delete_and_reuse(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;

	for (unsigned round = 0; round < 30; round++) {
		assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
		for (uint64_t i = 0; i < store_replica_region_count(replica); i++) {
			assert_int_equal(store_replica_stamp(replica, i), 0);
		}
		assert_reads(bench, replica, 0, MIB, 0);
		assert_int_equal(bench_write(bench, replica, 0, 3 * MIB, 0x44, round + 1), 0);
		assert_int_equal(bench_delete(bench, replica), 0);
		assert_null(store_replica_next(bench->store, NULL));
		assert_int_equal(bench_info(bench).used_bytes, 0);
		if (round % 3 == 1) {
			assert_int_equal(bench_reopen(bench), 0);
		}
	}
	bench_settle(bench);
	assert_int_equal(bench_info(bench).reclaiming_bytes, 0);
	assert_int_equal(bench_info(bench).used_bytes, 0);
}

static void test_slots_run_out(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replicas[9];
	struct store_replica_options options = {.kind = VOTER_ARBITER};
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(bench_create(bench, "x", i % 2 * MIB, &replicas[i]), 0);
		assert_int_equal(store_replica_slot(replicas[i]), i);
	}
	assert_int_equal(bench_create(bench, "x", MIB, &replicas[8]), -ENOSPC);
	assert_int_equal(bench_delete(bench, replicas[3]), 0);
	/* Waits until the slot has been drained. */
	assert_int_equal(bench_create(bench, "x", MIB, &replicas[8]), 0);
	assert_int_equal(store_replica_slot(replicas[8]), 3);
	options.replica = store_replica_vmeta(replicas[0])->replica;
	store_replica_create(bench->store, &options, &replicas[0], &op);
	assert_int_equal(bench_wait(bench, &op, &flag), -EEXIST);
	assert_non_null(strstr(bench->err.text, "id"));
	assert_int_equal(bench_delete(bench, replicas[7]), 0);
	assert_int_equal(bench_create(bench, "x", REPL_SIZE_MAX + BLOCK, &replicas[8]), -ERANGE);
	assert_int_equal(bench_create(bench, "x", 1000, &replicas[8]), -ERANGE);
	assert_int_equal(bench_create(bench, "x", REPL_SIZE_MAX, &replicas[8]), -ENOSPC);
	assert_int_equal(bench_info(bench).replica_count, 7);
}

static void test_update_is_durable(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	struct vmeta vmeta;
	uint64_t seq = 0;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	for (uint32_t i = 1; i <= 5; i++) {
		vmeta = *store_replica_vmeta(replica);
		assert_true(vmeta.seq > seq);
		seq = vmeta.seq;
		vmeta.promised = (struct epoch){.attach = 1, .inc = i, .nonce = 77};
		vmeta.clean = i;
		vmeta.keys[1].secret[31] = (uint8_t)i;
		assert_int_equal(bench_update(bench, replica, &vmeta), 0);
		assert_int_equal(store_replica_vmeta(replica)->promised.inc, i);
		bench_crash(bench, i % 2 == 0);
		assert_int_equal(bench_open(bench), 0);
		replica = store_replica_next(bench->store, NULL);
		assert_int_equal(store_replica_vmeta(replica)->promised.inc, i);
		assert_int_equal(store_replica_vmeta(replica)->clean, i);
		assert_int_equal(store_replica_vmeta(replica)->keys[1].secret[31], i);
	}
}

/* Two flushes for the near and the far members of all, whoever came first by itself. */
static void test_updates_share_flushes(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replicas[8];
	struct vmeta vmeta;
	struct store_op ops[8];
	struct uuid ids[8];
	unsigned done = 0;
	uint64_t before;

	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replicas[i]), 0);
		ids[i] = store_replica_vmeta(replicas[i])->replica;
	}
	bench_settle(bench);
	before = sim_disk_durable_operations(bench->disk);
	for (unsigned i = 0; i < 8; i++) {
		vmeta = *store_replica_vmeta(replicas[i]);
		vmeta.promised = (struct epoch){.attach = 1, .inc = i + 1, .nonce = 77};
		ops[i] = (struct store_op){.done = counted_op_done, .ctx = &done};
		store_replica_update(replicas[i], &vmeta, &ops[i]);
	}
	assert_int_equal(done, 0);
	sim_run_for_ns(bench->sim, IO_NS_PER_S);
	assert_int_equal(done, 8);
	assert_true(sim_disk_durable_operations(bench->disk) - before <= 4);
	bench_crash(bench, true);
	assert_int_equal(bench_open(bench), 0);
	for (unsigned i = 0; i < 8; i++) {
		replicas[i] = store_replica_find(bench->store, &ids[i]);
		assert_non_null(replicas[i]);
		assert_int_equal(store_replica_vmeta(replicas[i])->promised.inc, i + 1);
	}
}

/* A journal of 16 blocks that goes round many times. */
static void test_journal_wraps(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	struct store_info info;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	for (uint64_t wgen = 1; wgen <= 40; wgen++) {
		for (uint64_t at = 0; at < REPLICA_SIZE; at += MIB) {
			assert_int_equal(
				bench_write(bench, replica, at, BLOCK, (uint8_t)wgen, wgen), 0);
		}
		if (wgen % 8 == 0) {
			assert_int_equal(bench_reopen(bench), 0);
			replica = store_replica_next(bench->store, NULL);
		}
		for (uint64_t at = 0; at < REPLICA_SIZE; at += MIB) {
			assert_int_equal(store_replica_stamp(replica, at / REGION), wgen);
		}
	}
	info = bench_info(bench);
	assert_false(info.failed);
	assert_reads(bench, replica, 7 * MIB, BLOCK, 40);
}

/* ---- damage ---- */

static struct layout layout_of_disk(void)
{
	struct layout layout;
	struct err err;

	assert_int_equal(layout_make(DISK_BYTES / BLOCK, &small_options, &layout, &err), 0);
	return layout;
}

static void destroy(struct bench *bench, uint64_t block)
{
	uint8_t bytes[BLOCK];

	memset(bytes, 0x5a, BLOCK);
	sim_disk_poke(bench->disk, block * BLOCK, bytes, BLOCK);
}

static void close_for_damage(struct bench *bench)
{
	assert_int_equal(bench_close(bench), 0);
	bench_end_process(bench);
	bench_start_process(bench);
}

static void test_one_superblock_is_enough(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();

	close_for_damage(bench);
	destroy(bench, 0);
	assert_int_equal(bench_open(bench), 0);
	close_for_damage(bench);
	/* The open has mended the first. */
	destroy(bench, layout.size_blocks - 1);
	assert_int_equal(bench_open(bench), 0);
	close_for_damage(bench);
	destroy(bench, 0);
	assert_int_equal(bench_open(bench), 0);
	close_for_damage(bench);
	destroy(bench, 0);
	destroy(bench, layout.size_blocks - 1);
	assert_int_equal(bench_open(bench), -EBADMSG);
	assert_int_equal(bench_probe(bench), STORE_PROBE_OTHER);
}

static void test_newer_superblock_is_left_alone(void **state)
{
	struct bench *bench = *state;
	struct superblock sb;
	struct err err;
	uint8_t before[BLOCK];
	uint8_t after[BLOCK];

	close_for_damage(bench);
	sim_disk_peek(bench->disk, 0, before, BLOCK);
	assert_int_equal(superblock_decode(before, 0, &sb, &err), 0);
	sb.seq += 10;
	sb.incompat = 4;
	superblock_encode(&sb, 0, before);
	sim_disk_poke(bench->disk, 0, before, BLOCK);
	assert_int_equal(bench_open(bench), -EOPNOTSUPP);
	assert_non_null(strstr(bench->err.text, "features"));
	sim_disk_peek(bench->disk, 0, after, BLOCK);
	assert_memory_equal(before, after, BLOCK);
	assert_int_equal(bench_probe(bench), STORE_PROBE_POOL);
}

static void test_bad_pair_abstains(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();
	struct store_replica *replica;

	for (unsigned pair = 0; pair < 2; pair++) {
		assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
		assert_int_equal(bench_write(bench, replica, 0, MIB, 0x44, 1), 0);
		assert_int_equal(store_replica_slot(replica), 0);
		close_for_damage(bench);
		destroy(bench, layout.vmeta_near + pair);
		assert_int_equal(bench_open(bench), 0);
		replica = store_replica_next(bench->store, NULL);
		assert_false(store_replica_abstains(replica));
		close_for_damage(bench);
		/* The first was mended. */
		destroy(bench, layout.vmeta_far + pair);
		assert_int_equal(bench_open(bench), 0);
		replica = store_replica_next(bench->store, NULL);
		assert_false(store_replica_abstains(replica));
		close_for_damage(bench);
		destroy(bench, layout.vmeta_near + pair);
		destroy(bench, layout.vmeta_far + pair);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(bench_open(bench), 0);
			replica = store_replica_next(bench->store, NULL);
			assert_non_null(replica);
			assert_true(store_replica_abstains(replica));
			assert_int_equal(bench_update(bench, replica, store_replica_vmeta(replica)),
				-EBADMSG);
			close_for_damage(bench);
		}
		assert_int_equal(bench_open(bench), 0);
		replica = store_replica_next(bench->store, NULL);
		assert_int_equal(store_replica_used_bytes(replica), 17 * CLUSTER);
		assert_int_equal(bench_delete(bench, replica), 0);
		bench_settle(bench);
		assert_int_equal(bench_info(bench).used_bytes, 0);
		assert_int_equal(bench_reopen(bench), 0);
		assert_null(store_replica_next(bench->store, NULL));
	}
}

/* Pages are only written when the journal is half full. */
static void write_pages(struct bench *bench, struct store_replica *replica)
{
	for (uint64_t wgen = 1; wgen < 30; wgen++) {
		assert_int_equal(bench_write(bench, replica, 0, BLOCK, 9, wgen), 0);
	}
}

static void test_one_place_of_a_page_is_enough(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	write_pages(bench, replica);
	for (unsigned place = 0; place < 2; place++) {
		close_for_damage(bench);
		destroy(bench, layout.table + place * layout.table_pages);
		/* The first page of stamps is in the first cluster, place 1 in its second half. */
		destroy(bench, layout.clusters + place * (CLUSTER / BLOCK / 2));
		assert_int_equal(bench_open(bench), 0);
		replica = store_replica_next(bench->store, NULL);
		assert_false(store_replica_abstains(replica));
		assert_int_equal(store_replica_stamp(replica, 0), 29);
		assert_reads(bench, replica, 0, BLOCK, 9);
		sim_run_for_ns(bench->sim, IO_NS_PER_S);
	}
	close_for_damage(bench);
	destroy(bench, layout.clusters);
	destroy(bench, layout.clusters + CLUSTER / BLOCK / 2);
	assert_int_equal(bench_open(bench), 0);
	assert_true(store_replica_abstains(store_replica_next(bench->store, NULL)));
	close_for_damage(bench);
	destroy(bench, layout.table);
	destroy(bench, layout.table + layout.table_pages);
	assert_int_equal(bench_open(bench), -EBADMSG);
	assert_non_null(strstr(bench->err.text, "table"));
}

static void test_damaged_journal_is_noticed(void **state)
{
	struct bench *bench = *state;
	struct layout layout = layout_of_disk();
	struct store_replica *replica;

	assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &replica), 0);
	for (uint64_t wgen = 1; wgen < 4; wgen++) {
		assert_int_equal(bench_write(bench, replica, 0, BLOCK, 9, wgen), 0);
	}
	close_for_damage(bench);
	destroy(bench, layout.journal + 2);
	assert_int_equal(bench_open(bench), -EBADMSG);
	assert_non_null(strstr(bench->err.text, "journal"));
}

static void test_probe(void **state)
{
	struct bench *bench = *state;
	struct bench other;
	uint8_t sector[BLOCK] = {0};

	(void)bench;
	bench_init(&other, 1, 4 * MIB);
	assert_int_equal(bench_probe(&other), STORE_PROBE_EMPTY);
	assert_int_equal(bench_open(&other), -EBADMSG);
	sector[1080] = 0x53;
	sector[1081] = 0xef;
	sim_disk_poke(other.disk, 0, sector, BLOCK);
	assert_int_equal(bench_probe(&other), STORE_PROBE_OTHER);
	assert_non_null(strstr(other.err.text, "ext4"));
	assert_int_equal(bench_format(&other, &(struct store_format_options){.name = "x"}), 0);
	assert_int_equal(bench_probe(&other), STORE_PROBE_POOL);
	bench_end_process(&other);
	bench_done(&other);
	bench_init(&other, 1, 256 * BLOCK);
	assert_int_equal(
		bench_format(&other, &(struct store_format_options){.name = "x"}), -ENOSPC);
	assert_int_equal(
		bench_format(&other, &(struct store_format_options){.cluster_bytes = 5000}),
		-EINVAL);
	bench_end_process(&other);
	bench_done(&other);
}

/* A disk full of somebody's data: nothing of it is ever read. */
static void test_disk_that_did_not_start_zeroed(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica;
	uint8_t *junk = bench_buffer(MIB);

	close_for_damage(bench);
	memset(junk, 0xdd, MIB);
	for (uint64_t at = 0; at < DISK_BYTES; at += MIB) {
		sim_disk_poke(bench->disk, at, junk, MIB);
	}
	free(junk);
	bench->handle->starts_zeroed = false;
	assert_int_equal(bench_format(bench, &small_options), 0);
	assert_int_equal(bench_open(bench), 0);
	assert_int_equal(bench_create(bench, "db", 2 * DISK_BYTES, &replica), 0);
	for (uint64_t at = 0; at < 16 * MIB; at += CLUSTER) {
		assert_int_equal(bench_write(bench, replica, at, BLOCK, 1, 1), 0);
		assert_reads(bench, replica, at + BLOCK, CLUSTER - BLOCK, 0);
	}
	bench_crash(bench, true);
	assert_int_equal(bench_open(bench), 0);
	replica = store_replica_next(bench->store, NULL);
	assert_reads(bench, replica, BLOCK, CLUSTER - BLOCK, 0);
	for (uint64_t at = 16 * MIB; bench_write(bench, replica, at, BLOCK, 1, 1) == 0;
		at += CLUSTER) {
		assert_reads(bench, replica, at + BLOCK, CLUSTER - BLOCK, 0);
	}
	assert_int_equal(bench_info(bench).used_bytes, bench_info(bench).size_bytes);
}

/* Each allocation of each operation fails once: a clear error, nothing left behind, and then it
 * works. */
static void test_memory_runs_out(void **state)
{
	struct bench *bench = *state;
	struct store_replica *replica = NULL;
	unsigned before = sim_process_allocations(bench->process);
	uint64_t nth = 0;
	int result;

	do {
		assert_int_equal(sim_process_allocations(bench->process), before);
		sim_process_fail_allocation(bench->process, ++nth);
		result = bench_create(bench, "db", REPLICA_SIZE, &replica);
		assert_true(result == 0 || result == -ENOMEM);
	} while (result != 0);
	sim_process_fail_allocation(bench->process, 1);
	assert_int_equal(bench_delete(bench, replica), -ENOMEM);
	assert_int_equal(bench_write(bench, replica, 0, BLOCK, 1, 1), 0);
	sim_process_fail_allocation(bench->process, 0);
	assert_int_equal(bench_delete(bench, replica), 0);
	assert_true(nth > 5);
	for (nth = 1; nth <= 3; nth++) {
		sim_process_fail_allocation(bench->process, nth);
		assert_int_equal(bench_probe(bench), -ENOMEM);
	}
	sim_process_fail_allocation(bench->process, 0);
	bench_settle(bench);
	close_for_damage(bench);
	for (nth = 1; nth <= 3; nth++) {
		sim_process_fail_allocation(bench->process, nth);
		assert_int_equal(bench_format(bench, &small_options), -ENOMEM);
	}
	sim_process_fail_allocation(bench->process, 0);
	assert_int_equal(bench_open(bench), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_new_pool_is_empty, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_data_survives_reopen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_overwrite_is_one_disk_operation, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_records_share_journal_writes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_discard_gives_space_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full_pool, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_delete_and_reuse, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slots_run_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_update_is_durable, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_updates_share_flushes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_journal_wraps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_superblock_is_enough, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_newer_superblock_is_left_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_pair_abstains, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_one_place_of_a_page_is_enough, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damaged_journal_is_noticed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_probe, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_runs_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_disk_that_did_not_start_zeroed, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
