/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole pool is opened whose image was changed.  Input: one byte of options (bit 0: checksums of
 * changed blocks are put right), then changes: block (1 byte), offset (2), count (1), bytes.  The
 * open must end, with an error that has a text or with a store that serves: everything is read, and
 * some things are written, created and deleted.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "pool-agent/store/ondisk.h"
#include "pool-agent/store/store.h"
#include "simio/simio.h"

#include <errno.h>
#include <stdlib.h>

#define BLOCK            STORE_BLOCK_BYTES
#define DISK_BLOCKS      64u
#define TIMEOUT_NS       (1000 * IO_NS_PER_S)
#define SIZE_MAX_TO_READ (256u * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pool {
	struct sim *sim;
	struct sim_host *host;
	struct sim_disk *disk;
	struct sim_process *process;
	struct io *io;
	struct io_disk *handle;
	struct store *store;
};

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void set_flag(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

static int wait_op(struct pool *pool, struct store_op *op)
{
	require(sim_run_until_flag(pool->sim, op->ctx, TIMEOUT_NS));
	require(op->result >= 0 || op->err.text[0] != '\0');
	return op->result;
}

static void set_io_flag(struct store_io *io)
{
	*(bool *)io->ctx = true;
}

static int run_io(struct pool *pool, struct store_replica *replica, enum store_io_kind kind,
	uint64_t offset, uint64_t length)
{
	static const uint64_t wgen = 3;
	bool flag = false;
	uint8_t *memory = aligned_alloc(BLOCK, length + BLOCK);
	struct iovec iov = {.iov_base = memory, .iov_len = length};
	struct store_io io = {
		.kind = kind,
		.wgen = wgen,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = 1,
		.done = set_io_flag,
		.ctx = &flag,
	};

	require(memory != NULL);
	memset(memory, 0x5a, length + BLOCK);
	store_submit(replica, &io);
	require(sim_run_until_flag(pool->sim, &flag, TIMEOUT_NS));
	free(memory);
	return io.result;
}

static struct store_replica *create(struct pool *pool, uint64_t size_bytes)
{
	bool flag = false;
	struct store_op op = {.done = set_flag, .ctx = &flag};
	struct store_replica *replica = NULL;
	struct store_replica_options options = {.name = "r", .size_bytes = size_bytes};

	uuid_make(&options.replica, sim_rng(pool->sim));
	store_replica_create(pool->store, &options, &replica, &op);
	return wait_op(pool, &op) == 0 ? replica : NULL;
}

static void delete(struct pool *pool, struct store_replica *replica)
{
	bool flag = false;
	struct store_op op = {.done = set_flag, .ctx = &flag};

	store_replica_delete(replica, &op);
	require(wait_op(pool, &op) == 0);
}

static void pool_begin(struct pool *pool)
{
	*pool = (struct pool){.sim = sim_new(1, NULL)};
	pool->host = sim_host_new(pool->sim, "h");
	pool->disk = sim_disk_new(pool->host, "d", DISK_BLOCKS * BLOCK);
	pool->process = sim_process_new(pool->host, "p");
	pool->io = sim_process_io(pool->process);
	pool->handle = sim_disk_open(pool->disk, pool->process);
}

static int pool_open(struct pool *pool)
{
	bool flag = false;
	struct store_op op = {.done = set_flag, .ctx = &flag};

	store_open(pool->io, pool->handle, &pool->store, &op);
	return wait_op(pool, &op);
}

static void pool_close(struct pool *pool)
{
	bool flag = false;
	struct store_op op = {.done = set_flag, .ctx = &flag};

	store_close(pool->store, &op);
	require(wait_op(pool, &op) == 0);
}

static void pool_end(struct pool *pool)
{
	sim_disk_close(pool->handle);
	sim_process_exit(pool->process);
	sim_free(pool->sim);
}

/* A pool with something of everything: two replicas, one deleted, a journal with records. */
static void make_image(uint8_t *image)
{
	struct store_format_options options = {
		.name = "fuzz",
		.cluster_bytes = BLOCK,
		.region_bytes = 2 * BLOCK,
		.replica_slots = 3,
		.journal_blocks = 8,
	};
	struct pool pool;
	bool flag = false;
	struct store_op op = {.done = set_flag, .ctx = &flag};
	struct store_replica *replica;

	pool_begin(&pool);
	store_format(pool.io, pool.handle, &options, &op);
	require(wait_op(&pool, &op) == 0);
	require(pool_open(&pool) == 0);
	replica = create(&pool, 16 * BLOCK);
	require(replica != NULL);
	for (unsigned i = 0; i < 6; i++) {
		require(run_io(&pool, replica, STORE_WRITE, i * 2 * BLOCK, 3 * BLOCK) == 0);
		require(run_io(&pool, replica, STORE_DISCARD, i * BLOCK, BLOCK) == 0);
	}
	replica = create(&pool, 8 * BLOCK);
	require(replica != NULL);
	require(run_io(&pool, replica, STORE_WRITE, 0, 4 * BLOCK) == 0);
	delete (&pool, replica);
	replica = create(&pool, 4 * BLOCK);
	require(replica != NULL);
	require(run_io(&pool, replica, STORE_WRITE, BLOCK, BLOCK) == 0);
	pool_close(&pool);
	sim_disk_peek(pool.disk, 0, image, DISK_BLOCKS * BLOCK);
	pool_end(&pool);
}

/* Whatever kind of block it claims to be gets its right checksum. */
static void reseal(uint8_t *block, const uint8_t *pool_uuid)
{
	uint32_t magic = le32_get(block);
	unsigned at = magic == VMETA_MAGIC ? 16 : memcmp(block, "STRK", 4) == 0 ? 12 : 4;
	uint32_t crc = at == 4 ? crc32c(pool_uuid, 16) : 0;

	le32_put(block + at, 0);
	le32_put(block + at, crc32c_extend(crc, block, BLOCK));
}

static void change_image(uint8_t *image, const uint8_t *data, size_t size)
{
	bool seal = size > 0 && (data[0] & 1) != 0;
	uint8_t pool_uuid[16];
	size_t at = 1;

	memcpy(pool_uuid, image + 48, sizeof(pool_uuid));
	while (at + 4 <= size) {
		uint8_t *block = image + (size_t)(data[at] % DISK_BLOCKS) * BLOCK;
		size_t offset = le16_get(data + at + 1) % BLOCK;
		size_t count = min_u64(data[at + 3], min_u64(size - at - 4, BLOCK - offset));

		memcpy(block + offset, data + at + 4, count);
		if (seal) {
			reseal(block, pool_uuid);
		}
		at += 4 + count;
	}
}

static void use_replica(struct pool *pool, struct store_replica *replica)
{
	const struct vmeta *vmeta = store_replica_vmeta(replica);
	uint64_t length = min_u64(vmeta->size_bytes, SIZE_MAX_TO_READ) / BLOCK * BLOCK;

	if (store_replica_abstains(replica) || length == 0) {
		return;
	}
	for (uint64_t i = 0; i < store_replica_region_count(replica); i++) {
		(void)store_replica_stamp(replica, i);
		(void)store_replica_region_is_mapped(replica, i);
	}
	require(run_io(pool, replica, STORE_READ, 0, length) == 0);
	(void)run_io(pool, replica, STORE_WRITE, 0, min_u64(length, 5 * BLOCK));
	(void)run_io(pool, replica, STORE_DISCARD, 0, BLOCK);
	(void)run_io(pool, replica, STORE_FLUSH, 0, 0);
}

static void use_store(struct pool *pool)
{
	struct store_replica *replica;

	for (replica = store_replica_next(pool->store, NULL); replica != NULL;
		replica = store_replica_next(pool->store, replica)) {
		use_replica(pool, replica);
	}
	replica = create(pool, 3 * BLOCK);
	if (replica != NULL) {
		use_replica(pool, replica);
	}
	while ((replica = store_replica_next(pool->store, NULL)) != NULL) {
		delete (pool, replica);
	}
	sim_run_for_ns(pool->sim, IO_NS_PER_S);
}

static void fuzz_decode(const uint8_t *data, size_t size)
{
	uint8_t block[BLOCK] = {0};
	uint8_t again[BLOCK];
	struct superblock sb;
	struct superblock same;
	struct err err;

	memcpy(block, data, min_u64(size, BLOCK));
	le32_put(block + 12, 0);
	le32_put(block + 12, crc32c(block, BLOCK));
	if (superblock_decode(block, 0, &sb, &err) != 0) {
		require(err.text[0] != '\0');
		return;
	}
	superblock_encode(&sb, 0, again);
	require(superblock_decode(again, 0, &same, &err) == 0);
	require(memcmp(&sb, &same, sizeof(sb)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Made once: the same for every input. */
	static uint8_t base[DISK_BLOCKS * BLOCK];
	static bool made;
	static uint8_t image[DISK_BLOCKS * BLOCK];
	struct pool pool;

	if (!made) {
		make_image(base);
		made = true;
	}
	fuzz_decode(data, size);
	memcpy(image, base, sizeof(image));
	change_image(image, data, size);
	pool_begin(&pool);
	sim_disk_poke(pool.disk, 0, image, sizeof(image));
	if (pool_open(&pool) == 0) {
		use_store(&pool);
		pool_close(&pool);
	}
	pool_end(&pool);
	return 0;
}
