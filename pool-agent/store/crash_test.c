/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on a tiny pool against a model in memory, with a crash at every disk operation
 * (of the process, or of power with any subset of what was not flushed, metadata torn at 512
 * bytes), again while the crashed pool is being opened, and with the n-th disk operation failing.
 */
#include "pool-agent/store/store_internal.h"
#include "pool-agent/store/testing.h"

#define BLOCK          STORE_BLOCK_BYTES
#define CLUSTER_BLOCKS 2u
#define REGION_BLOCKS  4u
#define BLOCKS_MAX     48u
#define REGIONS_MAX    (BLOCKS_MAX / REGION_BLOCKS)
#define DISK_BLOCKS    212u /* some 90 clusters: their page takes two sectors */
#define HISTORY        48u
#define REPLICAS       4u
#define DEPTH          4u
#define VALUES_MAX     4096u

/* ---- the model ---- */

/* What a block may hold: entries[0] is the oldest that a loss of power may bring back;
 * entries[certain] and later ones are what it may hold while power stays. */
struct model_block {
	uint32_t entries[HISTORY]; /* numbers of writes; 0 is zeros */
	unsigned count;
	unsigned certain;
	uint64_t dropped; /* entries that are no longer here, for positions of flushes */
	bool busy;        /* a write is in flight */
};

enum existence { ABSENT, MAYBE, PRESENT };

struct model_replica {
	enum existence existence;
	struct uuid id;
	uint32_t tag; /* in each of its blocks */
	unsigned block_count;
	struct model_block blocks[BLOCKS_MAX];
	uint64_t stamp_low[REGIONS_MAX];  /* at least */
	uint64_t stamp_high[REGIONS_MAX]; /* at most */
	uint32_t clean_acked, clean_issued;
	uint64_t seq_seen;
	bool known; /* it was created once */
	bool updating, deleting;
	unsigned ios;
	struct store_replica *handle;
};

struct test_op {
	struct store_io io;
	struct store_op op;
	struct iovec iov[2];
	uint8_t *buffer;
	struct model_replica *replica;
	struct world *world;
	bool used;
	bool is_io;
	enum { OP_CREATE, OP_DELETE, OP_UPDATE } control;
	uint32_t number; /* of a write */
	uint64_t flush_at[BLOCKS_MAX];
};

struct world {
	struct bench bench;
	struct model_replica replicas[REPLICAS];
	struct test_op ops[DEPTH];
	unsigned in_flight;
	uint32_t next_number, next_tag;
	uint64_t value_wgen[VALUES_MAX]; /* by number */
	uint64_t wgen;
	struct sim_disk_faults slow;
	bool faults;        /* errors are expected */
	uint64_t seed, nth; /* of this run, for the message when it fails */
	unsigned no_space, errors, completed;
};

static void block_push(struct model_block *block, uint32_t number)
{
	assert_true(block->count < HISTORY);
	block->entries[block->count++] = number;
}

static void block_drop(struct model_block *block, unsigned count)
{
	memmove(block->entries, block->entries + count,
		(block->count - count) * sizeof(block->entries[0]));
	block->count -= count;
	block->certain = block->certain > count ? block->certain - count : 0;
	block->dropped += count;
}

static void block_reset(struct model_block *block, uint32_t number)
{
	block->dropped += block->count;
	block->entries[0] = number;
	block->count = 1;
	block->certain = 0;
	block->busy = false;
}

static bool block_may_be(const struct model_block *block, uint32_t number, bool power_lost)
{
	for (unsigned i = power_lost ? 0 : block->certain; i < block->count; i++) {
		if (block->entries[i] == number) {
			return true;
		}
	}
	return false;
}

static void block_fill(uint8_t *to, uint32_t tag, uint32_t number)
{
	for (size_t at = 0; at < BLOCK; at += 8) {
		le32_put(to + at, tag);
		le32_put(to + at + 4, number);
	}
}

/* The number in a block of that replica; everything else in it is a failure. */
static uint32_t block_number(const uint8_t *from, uint32_t tag)
{
	uint32_t number = le32_get(from + 4);

	if (number == 0) {
		assert_true(bytes_are_zero(from, BLOCK));
		return 0;
	}
	for (size_t at = 0; at < BLOCK; at += 8) {
		assert_int_equal(le32_get(from + at), tag);
		assert_int_equal(le32_get(from + at + 4), number);
	}
	return number;
}

/* ---- running operations ---- */

static struct rng *rng_of(struct world *world)
{
	return sim_rng(world->bench.sim);
}

static uint64_t below(struct world *world, uint64_t bound)
{
	return rng_below(rng_of(world), bound);
}

static struct test_op *op_get(struct world *world, struct model_replica *replica)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		struct test_op *op = &world->ops[i];

		if (!op->used) {
			*op = (struct test_op){.used = true, .world = world, .replica = replica};
			world->in_flight++;
			return op;
		}
	}
	return NULL;
}

static void op_put(struct test_op *op)
{
	free(op->buffer);
	op->buffer = NULL;
	op->used = false;
	op->world->in_flight--;
	op->world->completed++;
}

static void count_result(struct world *world, int result)
{
	if (result == -ENOSPC) {
		world->no_space++;
	} else if (result != 0) {
		assert_true(world->faults);
		assert_int_equal(result, -EIO);
		world->errors++;
	}
}

static unsigned first_block(const struct test_op *op)
{
	return (unsigned)(op->io.offset / BLOCK);
}

static unsigned block_count(const struct test_op *op)
{
	return (unsigned)(op->io.length / BLOCK);
}

static void write_done(struct test_op *op)
{
	struct model_replica *replica = op->replica;

	for (unsigned i = 0; i < block_count(op); i++) {
		unsigned at = first_block(op) + i;
		struct model_block *block = &replica->blocks[at];
		uint64_t *low = &replica->stamp_low[at / REGION_BLOCKS];

		block->busy = false;
		if (op->io.result != 0) {
			continue; /* it holds the old or the new */
		}
		block->certain = block->count - 1;
		*low = max_u64(*low, op->io.wgen);
		if (op->io.fua && op->io.kind == STORE_WRITE) {
			block_drop(block, block->count - 1);
		}
	}
}

static void flush_done(struct test_op *op)
{
	struct model_replica *replica = op->replica;

	for (unsigned i = 0; op->io.result == 0 && i < replica->block_count; i++) {
		struct model_block *block = &replica->blocks[i];

		if (op->flush_at[i] > block->dropped) {
			block_drop(block, (unsigned)(op->flush_at[i] - block->dropped));
		}
	}
}

static void read_done(struct test_op *op)
{
	struct model_replica *replica = op->replica;

	for (unsigned i = 0; op->io.result == 0 && i < block_count(op); i++) {
		struct model_block *block = &replica->blocks[first_block(op) + i];

		assert_true(block_may_be(
			block, block_number(op->buffer + (size_t)i * BLOCK, replica->tag), false));
		block->busy = false;
	}
	for (unsigned i = 0; i < block_count(op); i++) {
		replica->blocks[first_block(op) + i].busy = false;
	}
}

static void io_done(struct store_io *io)
{
	struct test_op *op = io->ctx;

	count_result(op->world, io->result);
	switch (io->kind) {
	case STORE_READ:
		read_done(op);
		break;
	case STORE_WRITE:
	case STORE_ZERO:
	case STORE_DISCARD:
		write_done(op);
		break;
	case STORE_FLUSH:
		flush_done(op);
		break;
	}
	op->replica->ios--;
	op_put(op);
}

static void control_done(struct store_op *store_op)
{
	struct test_op *op = store_op->ctx;
	struct model_replica *replica = op->replica;
	int result = store_op->result;

	count_result(op->world, result);
	switch (op->control) {
	case OP_CREATE:
		if (result == 0) {
			replica->existence = PRESENT;
		} else if (result == -ENOSPC) {
			replica->existence = ABSENT;
		} else {
			replica->handle = NULL;
		}
		break;
	case OP_DELETE:
		replica->deleting = false;
		if (result == 0) {
			replica->existence = ABSENT;
			replica->handle = NULL;
		}
		break;
	case OP_UPDATE:
		replica->updating = false;
		if (result == 0) {
			replica->clean_acked = replica->clean_issued;
		}
		break;
	}
	op_put(op);
}

/* ---- the workload ---- */

static void start_create(struct world *world, struct model_replica *replica)
{
	struct test_op *op = op_get(world, replica);
	struct store_replica_options options = {.kind = VOTER_DATA};

	*replica =
		(struct model_replica){.existence = MAYBE, .tag = world->next_tag++, .known = true};
	/* One of eight is an arbiter. */
	if (below(world, 8) == 0) {
		options.kind = VOTER_ARBITER;
	} else {
		replica->block_count = (unsigned)(1 + below(world, BLOCKS_MAX));
	}
	for (unsigned i = 0; i < replica->block_count; i++) {
		block_reset(&replica->blocks[i], 0);
	}
	uuid_make(&replica->id, rng_of(world));
	options.replica = replica->id;
	options.size_bytes = (uint64_t)replica->block_count * BLOCK;
	(void)snprintf(options.name, sizeof(options.name), "r%u", replica->tag);
	op->control = OP_CREATE;
	op->op = (struct store_op){.done = control_done, .ctx = op};
	store_replica_create(world->bench.store, &options, &replica->handle, &op->op);
}

static void start_delete(struct world *world, struct model_replica *replica)
{
	struct test_op *op = op_get(world, replica);

	op->control = OP_DELETE;
	op->op = (struct store_op){.done = control_done, .ctx = op};
	replica->deleting = true;
	replica->existence = MAYBE;
	store_replica_delete(replica->handle, &op->op);
}

static void start_update(struct world *world, struct model_replica *replica)
{
	struct test_op *op = op_get(world, replica);
	struct vmeta vmeta = *store_replica_vmeta(replica->handle);

	vmeta.clean = ++replica->clean_issued;
	op->control = OP_UPDATE;
	op->op = (struct store_op){.done = control_done, .ctx = op};
	replica->updating = true;
	store_replica_update(replica->handle, &vmeta, &op->op);
}

/* Range without blocks that are busy (nor histories that are full); length 0: none found. */
static void pick_range(struct world *world, struct model_replica *replica, unsigned *ret_first,
	unsigned *ret_count)
{
	unsigned first = (unsigned)below(world, replica->block_count);
	unsigned most =
		(unsigned)(1 + below(world, rng_percent(rng_of(world), 30) ? BLOCKS_MAX : 3));
	unsigned count = 0;

	while (count < most && first + count < replica->block_count &&
		!replica->blocks[first + count].busy &&
		replica->blocks[first + count].count < HISTORY - 1) {
		count++;
	}
	*ret_first = first;
	*ret_count = count;
}

static void op_memory(struct test_op *op, unsigned count)
{
	unsigned half = count / 2;

	op->buffer = bench_buffer((uint64_t)count * BLOCK);
	op->iov[0] = (struct iovec){.iov_base = op->buffer, .iov_len = (size_t)half * BLOCK};
	op->iov[1] = (struct iovec){.iov_base = op->buffer + (size_t)half * BLOCK,
		.iov_len = (size_t)(count - half) * BLOCK};
	op->io.iov = half > 0 ? op->iov : op->iov + 1;
	op->io.iov_count = half > 0 ? 2 : 1;
}

static void mark_write(struct test_op *op, unsigned first, unsigned count)
{
	struct model_replica *replica = op->replica;

	for (unsigned i = 0; i < count; i++) {
		uint64_t *high = &replica->stamp_high[(first + i) / REGION_BLOCKS];

		block_push(&replica->blocks[first + i], op->number);
		replica->blocks[first + i].busy = true;
		*high = max_u64(*high, op->io.wgen);
	}
}

static void start_io(struct world *world, struct model_replica *replica, enum store_io_kind kind)
{
	unsigned first;
	unsigned count;
	struct test_op *op;

	pick_range(world, replica, &first, &count);
	if (count == 0 && kind != STORE_FLUSH) {
		return;
	}
	op = op_get(world, replica);
	op->io = (struct store_io){.kind = kind, .done = io_done, .ctx = op};
	op->io.fua = rng_percent(rng_of(world), 20);
	op->io.wgen = world->wgen;
	if (kind == STORE_FLUSH) {
		for (unsigned i = 0; i < replica->block_count; i++) {
			op->flush_at[i] = replica->blocks[i].dropped + replica->blocks[i].certain;
		}
	} else {
		op->io.offset = (uint64_t)first * BLOCK;
		op->io.length = (uint64_t)count * BLOCK;
	}
	if (kind == STORE_WRITE) {
		op->number = world->next_number++;
		assert_true(op->number < VALUES_MAX);
		world->value_wgen[op->number] = world->wgen;
		op_memory(op, count);
		for (unsigned i = 0; i < count; i++) {
			block_fill(op->buffer + (size_t)i * BLOCK, replica->tag, op->number);
		}
	}
	if (kind == STORE_READ) {
		op_memory(op, count);
		for (unsigned i = 0; i < count; i++) {
			replica->blocks[first + i].busy = true;
		}
	} else if (kind != STORE_FLUSH) {
		mark_write(op, first, count);
	}
	replica->ios++;
	store_submit(replica->handle, &op->io);
}

static void start_something(struct world *world)
{
	struct model_replica *replica = &world->replicas[below(world, REPLICAS)];
	unsigned dice = (unsigned)below(world, 100);

	if (replica->existence == ABSENT) {
		start_create(world, replica);
		return;
	}
	if (replica->existence != PRESENT || replica->deleting) {
		return;
	}
	if (dice < 3) {
		world->wgen++;
	}
	if (dice < 6) {
		if (replica->ios == 0 && !replica->updating) {
			start_delete(world, replica);
		}
	} else if (dice < 14 || replica->block_count == 0) {
		if (!replica->updating) {
			start_update(world, replica);
		}
	} else if (dice < 26) {
		start_io(world, replica, STORE_FLUSH);
	} else if (dice < 36) {
		start_io(world, replica, STORE_DISCARD);
	} else if (dice < 42) {
		start_io(world, replica, STORE_ZERO);
	} else if (dice < 55) {
		start_io(world, replica, STORE_READ);
	} else {
		start_io(world, replica, STORE_WRITE);
	}
}

static bool was_hit(struct world *world, uint64_t stop_at)
{
	return stop_at != 0 && sim_disk_operations(world->bench.disk) >= stop_at;
}

/* true: the disk got its operation number stop_at (0: never). */
static bool run_workload(struct world *world, unsigned steps, uint64_t stop_at)
{
	for (unsigned i = 0; i < steps; i++) {
		while (world->in_flight == DEPTH ||
			(world->in_flight > 0 && rng_percent(rng_of(world), 40))) {
			assert_true(sim_step(world->bench.sim));
			if (was_hit(world, stop_at)) {
				return true;
			}
		}
		if (bench_info(&world->bench).failed) {
			break;
		}
		start_something(world);
	}
	while (world->in_flight > 0) {
		assert_true(sim_step(world->bench.sim));
		if (was_hit(world, stop_at)) {
			return true;
		}
	}
	return false;
}

/* ---- checks ---- */

/* The tables in memory agree with each other, and free space is zero on the disk. */
static void check_structure(struct world *world)
{
	struct store *store = world->bench.store;
	struct clusters *clusters = &store->clusters;
	uint32_t counts[4] = {0};
	uint64_t used = 0;

	for (uint32_t i = 0; i < clusters->count; i++) {
		uint64_t entry = clusters->entries[i];
		unsigned state = entry_state(entry);

		counts[state]++;
		if (state == CLUSTER_DATA) {
			assert_int_equal(
				clusters_find(clusters, entry_slot(entry), entry_payload(entry)),
				i);
		}
		if (state == CLUSTER_DATA || state == CLUSTER_STAMPS) {
			assert_int_equal(store->slots[entry_slot(entry)].use, SLOT_READY);
			assert_int_equal(entry & ENTRY_PENDING, 0);
		}
		if (state == CLUSTER_FREE) {
			uint8_t bytes[CLUSTER_BLOCKS * BLOCK];

			sim_disk_peek(world->bench.disk, store_cluster_block(store, i) * BLOCK,
				bytes, sizeof(bytes));
			assert_true(bytes_are_zero(bytes, sizeof(bytes)));
		}
	}
	assert_int_equal(counts[CLUSTER_FREE], clusters->free.count);
	assert_int_equal(counts[CLUSTER_DIRTY], 0);
	for (struct store_replica *replica = store_replica_next(store, NULL); replica != NULL;
		replica = store_replica_next(store, replica)) {
		used += store_replica_used_bytes(replica);
	}
	assert_int_equal(bench_info(&world->bench).used_bytes, used);
	assert_int_equal(
		used, (counts[CLUSTER_DATA] + counts[CLUSTER_STAMPS]) * CLUSTER_BLOCKS * BLOCK);
	assert_int_equal(bench_info(&world->bench).reclaiming_bytes, 0);
}

static void check_replica(struct world *world, struct model_replica *replica, bool power_lost)
{
	struct store_replica *handle = replica->handle;
	const struct vmeta *vmeta = store_replica_vmeta(handle);
	uint8_t *buffer = bench_buffer((uint64_t)BLOCKS_MAX * BLOCK);

	assert_false(store_replica_abstains(handle));
	assert_true(vmeta->clean >= replica->clean_acked && vmeta->clean <= replica->clean_issued);
	assert_true(vmeta->seq >= replica->seq_seen);
	replica->seq_seen = vmeta->seq;
	replica->clean_acked = (uint32_t)vmeta->clean;
	replica->clean_issued = (uint32_t)vmeta->clean;
	assert_int_equal(vmeta->size_bytes, (uint64_t)replica->block_count * BLOCK);
	if (vmeta->size_bytes > 0) {
		assert_int_equal(
			bench_read(&world->bench, handle, 0, vmeta->size_bytes, buffer), 0);
	}
	for (unsigned i = 0; i < store_replica_region_count(handle); i++) {
		uint64_t stamp = store_replica_stamp(handle, i);

		assert_true(stamp >= replica->stamp_low[i] && stamp <= replica->stamp_high[i]);
		replica->stamp_low[i] = stamp;
		replica->stamp_high[i] = stamp;
	}
	for (unsigned i = 0; i < replica->block_count; i++) {
		struct model_block *block = &replica->blocks[i];
		uint32_t number = block_number(buffer + (size_t)i * BLOCK, replica->tag);

		assert_true(block_may_be(block, number, power_lost));
		if (number != 0) {
			assert_true(store_replica_stamp(handle, i / REGION_BLOCKS) >=
				    world->value_wgen[number]);
		}
		/* Opening has flushed: what is there now stays. */
		block_reset(block, number);
	}
	free(buffer);
	replica->ios = 0;
	replica->updating = false;
	replica->deleting = false;
}

/* After an open. */
static void check_all(struct world *world, bool power_lost)
{
	struct store *store = world->bench.store;
	unsigned present = 0;

	for (unsigned i = 0; i < REPLICAS; i++) {
		struct model_replica *replica = &world->replicas[i];
		struct store_replica *handle =
			replica->known ? store_replica_find(store, &replica->id) : NULL;

		assert_true(replica->existence != PRESENT || handle != NULL);
		assert_true(replica->existence != ABSENT || handle == NULL);
		replica->existence = handle != NULL ? PRESENT : ABSENT;
		replica->handle = handle;
		if (handle != NULL) {
			present++;
			check_replica(world, replica, power_lost);
		}
	}
	assert_int_equal(bench_info(&world->bench).replica_count, present);
	bench_settle(&world->bench);
	check_structure(world);
}

/* ---- worlds ---- */

static struct world *world_new(uint64_t seed)
{
	static const struct store_format_options options = {
		.name = "tiny",
		.cluster_bytes = CLUSTER_BLOCKS * BLOCK,
		.region_bytes = REGION_BLOCKS * BLOCK,
		.replica_slots = REPLICAS,
		.journal_blocks = 8,
	};
	struct world *world = calloc(1, sizeof(*world));
	struct layout layout;
	struct err err;

	assert_non_null(world);
	world->seed = seed;
	world->wgen = 1;
	world->next_number = 1;
	world->next_tag = 1;
	bench_init(&world->bench, seed, DISK_BLOCKS * BLOCK);
	assert_int_equal(layout_make(DISK_BLOCKS, &options, &layout, &err), 0);
	sim_disk_set_torn_range(world->bench.disk, 0, layout.clusters * BLOCK);
	/* Half of the seeds on a disk that is full of something. */
	if (seed % 2 == 0) {
		uint8_t junk[BLOCK];

		memset(junk, 0xdd, sizeof(junk));
		for (uint64_t i = 0; i < DISK_BLOCKS; i++) {
			sim_disk_poke(world->bench.disk, i * BLOCK, junk, BLOCK);
		}
		world->bench.handle->starts_zeroed = false;
	}
	assert_int_equal(bench_format(&world->bench, &options), 0);
	assert_int_equal(bench_open(&world->bench), 0);
	/* A third with a disk that is very slow now and then: more is under way at once. */
	if (seed % 3 == 0) {
		world->slow = (struct sim_disk_faults){
			.slow_percent = 15,
			.slow_max_ns = 5 * IO_NS_PER_MS,
		};
		sim_disk_set_faults(world->bench.disk, &world->slow);
	}
	return world;
}

static void forget_ops(struct world *world)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		free(world->ops[i].buffer);
		world->ops[i] = (struct test_op){0};
	}
	world->in_flight = 0;
}

static void world_free(struct world *world)
{
	forget_ops(world);
	bench_done(&world->bench);
	free(world);
}

static void crash(struct world *world, bool power)
{
	bench_crash(&world->bench, power);
	forget_ops(world);
}

/* Starts an open and crashes at its n-th disk operation; true: it did not get so far. */
static bool crash_while_opening(struct world *world, uint64_t nth, bool power)
{
	struct bench *bench = &world->bench;
	uint64_t stop_at = sim_disk_operations(bench->disk) + nth;
	bool flag = false;
	struct store_op op = {.done = bench_op_done, .ctx = &flag};

	store_open(bench->io, bench->handle, &bench->store, &op);
	while (!flag && sim_disk_operations(bench->disk) < stop_at) {
		assert_true(sim_step(bench->sim));
	}
	if (flag) {
		assert_int_equal(op.result, 0);
		return true;
	}
	crash(world, power);
	return false;
}

static void open_and_check(struct world *world, bool power_lost)
{
	int result = bench_open(&world->bench);

	if (result != 0) {
		print_error("seed %llu, operation %llu: open: %s\n",
			(unsigned long long)world->seed, (unsigned long long)world->nth,
			world->bench.err.text);
	}
	assert_int_equal(result, 0);
	check_all(world, power_lost);
}

/* ---- tests ---- */

#define STEPS 60u

/* Disk operations of the whole workload. */
static uint64_t measure(uint64_t seed)
{
	struct world *world = world_new(seed);
	uint64_t begin = sim_disk_operations(world->bench.disk);
	uint64_t operations;

	run_workload(world, STEPS, 0);
	operations = sim_disk_operations(world->bench.disk) - begin;
	assert_int_equal(bench_close(&world->bench), 0);
	bench_end_process(&world->bench);
	bench_start_process(&world->bench);
	open_and_check(world, false);
	world_free(world);
	return operations;
}

static void crash_at(uint64_t seed, uint64_t nth)
{
	struct world *world = world_new(seed);
	uint64_t begin = sim_disk_operations(world->bench.disk);
	bool power = nth % 3 != 0;
	bool second_power = nth % 2 == 0;

	world->nth = nth;
	run_workload(world, STEPS, begin + nth);
	crash(world, power);
	/* Two of five with another crash, while the pool is being opened. */
	if (nth % 5 < 2 && !crash_while_opening(world, 1 + nth * 7 % 23, second_power)) {
		power |= second_power;
		open_and_check(world, power);
	} else if (world->bench.store == NULL) {
		open_and_check(world, power);
	} else {
		check_all(world, power);
	}
	if (nth % 4 == 1) {
		/* What an open has shown stays, whatever happens next. */
		crash(world, true);
		open_and_check(world, true);
	}
	/* It goes on as if nothing had happened. */
	run_workload(world, STEPS / 2, 0);
	crash(world, !power);
	open_and_check(world, !power);
	world_free(world);
}

static uint64_t seeds_from_environment(uint64_t standard)
{
	const char *text = getenv("STRAKE_STORE_SEEDS");

	return text != NULL ? strtoull(text, NULL, 10) : standard;
}

static void test_crash_at_every_operation(void **state)
{
	uint64_t points = 0;

	(void)state;
	if (getenv("STRAKE_STORE_SEED") != NULL && getenv("STRAKE_STORE_OPERATION") != NULL) {
		/* One failure again, alone. */
		crash_at(strtoull(getenv("STRAKE_STORE_SEED"), NULL, 10),
			strtoull(getenv("STRAKE_STORE_OPERATION"), NULL, 10));
		return;
	}
	for (uint64_t seed = 1; seed <= seeds_from_environment(6); seed++) {
		uint64_t operations = measure(seed);

		assert_true(operations > STEPS / 2);
		for (uint64_t nth = 1; nth <= operations; nth++) {
			crash_at(seed, nth);
		}
		points += operations;
	}
	print_message("%llu crash points\n", (unsigned long long)points);
}

/* true: the fault was hit. */
static bool fail_at(uint64_t seed, uint64_t nth, bool and_later)
{
	struct world *world = world_new(seed);
	struct sim_disk_faults faults = {.fail_nth = nth, .fail_after_nth = and_later};
	uint64_t begin = sim_disk_operations(world->bench.disk);
	bool hit;

	world->nth = nth;
	world->faults = true;
	sim_disk_set_faults(world->bench.disk, &faults);
	run_workload(world, STEPS, 0);
	hit = sim_disk_operations(world->bench.disk) - begin >= nth;
	assert_true(hit || world->errors == 0);
	assert_int_equal(bench_close(&world->bench), 0);
	bench_end_process(&world->bench);
	sim_disk_set_faults(world->bench.disk, &(struct sim_disk_faults){0});
	bench_start_process(&world->bench);
	open_and_check(world, false);
	run_workload(world, STEPS / 2, 0);
	world_free(world);
	return hit;
}

static void test_every_operation_fails_once(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		for (uint64_t nth = 1; fail_at(seed, nth, false); nth++) {
		}
		for (uint64_t nth = 1; fail_at(seed, nth, true); nth += 3) {
		}
	}
}

/* Faults while opening: a clear error, or it opens; afterwards all is as it was. */
static void test_every_operation_of_open_fails_once(void **state)
{
	bool more = true;

	(void)state;
	for (uint64_t nth = 1; more; nth++) {
		struct world *world = world_new(3);
		struct sim_disk_faults faults = {.fail_nth = nth};
		uint64_t begin;
		int result;

		run_workload(world, STEPS, 0);
		crash(world, false);
		begin = sim_disk_operations(world->bench.disk);
		sim_disk_set_faults(world->bench.disk, &faults);
		result = bench_open(&world->bench);
		more = sim_disk_operations(world->bench.disk) - begin >= nth;
		sim_disk_set_faults(world->bench.disk, &(struct sim_disk_faults){0});
		assert_true(result == 0 || result == -EIO || result == -EBADMSG);
		if (result == 0) {
			assert_int_equal(bench_close(&world->bench), 0);
		} else {
			assert_true(more);
			assert_string_not_equal(world->bench.err.text, "");
		}
		bench_end_process(&world->bench);
		bench_start_process(&world->bench);
		open_and_check(world, false);
		world_free(world);
	}
}

/* Every allocation fails once; nothing is left behind, and the next try succeeds. */
static void test_every_allocation_fails_once(void **state)
{
	bool failed = true;

	(void)state;
	for (uint64_t nth = 1; failed; nth++) {
		struct world *world = world_new(5);
		int result;

		run_workload(world, 20, 0);
		assert_int_equal(bench_close(&world->bench), 0);
		bench_end_process(&world->bench);
		bench_start_process(&world->bench);
		sim_process_fail_allocation(world->bench.process, nth);
		result = bench_open(&world->bench);
		failed = result != 0;
		if (failed) {
			assert_int_equal(result, -ENOMEM);
			assert_int_equal(sim_process_allocations(world->bench.process), 0);
		} else {
			assert_int_equal(bench_close(&world->bench), 0);
		}
		bench_end_process(&world->bench);
		bench_start_process(&world->bench);
		open_and_check(world, false);
		world_free(world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash_at_every_operation),
		cmocka_unit_test(test_every_operation_fails_once),
		cmocka_unit_test(test_every_operation_of_open_fails_once),
		cmocka_unit_test(test_every_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
