/* SPDX-License-Identifier: Apache-2.0 */
#include "pool-agent/testing/store_workload.h"

#include "pool-agent/store/store_internal.h"

#define BLOCK STORE_BLOCK_BYTES

static void block_push(struct model_block *block, uint32_t number)
{
	assert_true(block->count < WORKLOAD_HISTORY);
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

static struct rng *rng_of(struct workload *world)
{
	return sim_rng(world->bench.sim);
}

static uint64_t below(struct workload *world, uint64_t bound)
{
	return rng_below(rng_of(world), bound);
}

static struct test_op *op_get(struct workload *world, struct model_replica *replica)
{
	for (unsigned i = 0; i < WORKLOAD_DEPTH; i++) {
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

static void count_result(struct workload *world, int result)
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
		uint64_t *low = &replica->stamp_low[at / WORKLOAD_REGION_BLOCKS];

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

/* Durable from now on. */
static void stamp_done(struct test_op *op)
{
	for (unsigned i = 0; op->io.result == 0 && i < block_count(op); i++) {
		uint64_t *low =
			&op->replica->stamp_low[(first_block(op) + i) / WORKLOAD_REGION_BLOCKS];

		*low = max_u64(*low, op->io.wgen);
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
	case STORE_UNCORRECTABLE:
		write_done(op);
		break;
	case STORE_FLUSH:
		flush_done(op);
		break;
	case STORE_STAMP:
		stamp_done(op);
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

static void start_create(struct workload *world, struct model_replica *replica)
{
	struct test_op *op = op_get(world, replica);
	struct store_replica_options options = {.kind = VOTER_DATA};

	*replica =
		(struct model_replica){.existence = MAYBE, .tag = world->next_tag++, .known = true};
	/* One of eight is an arbiter. */
	if (below(world, 8) == 0) {
		options.kind = VOTER_ARBITER;
	} else {
		replica->block_count = (unsigned)(1 + below(world, WORKLOAD_BLOCKS_MAX));
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

static void start_delete(struct workload *world, struct model_replica *replica)
{
	struct test_op *op = op_get(world, replica);

	op->control = OP_DELETE;
	op->op = (struct store_op){.done = control_done, .ctx = op};
	replica->deleting = true;
	replica->existence = MAYBE;
	store_replica_delete(replica->handle, &op->op);
}

static void start_update(struct workload *world, struct model_replica *replica)
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
static void pick_range(struct workload *world, struct model_replica *replica, unsigned *ret_first,
	unsigned *ret_count)
{
	unsigned first = (unsigned)below(world, replica->block_count);
	unsigned most =
		(unsigned)(1 +
			   below(world, rng_percent(rng_of(world), 30) ? WORKLOAD_BLOCKS_MAX : 3));
	unsigned count = 0;

	while (count < most && first + count < replica->block_count &&
		!replica->blocks[first + count].busy &&
		replica->blocks[first + count].count < WORKLOAD_HISTORY - 1) {
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
		uint64_t *high = &replica->stamp_high[(first + i) / WORKLOAD_REGION_BLOCKS];

		block_push(&replica->blocks[first + i], op->number);
		replica->blocks[first + i].busy = true;
		*high = max_u64(*high, op->io.wgen);
	}
}

static void mark_stamps(struct test_op *op, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t *high = &op->replica->stamp_high[(first + i) / WORKLOAD_REGION_BLOCKS];

		*high = max_u64(*high, op->io.wgen);
	}
}

static void start_io(struct workload *world, struct model_replica *replica, enum store_io_kind kind)
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
		assert_true(op->number < WORKLOAD_VALUES_MAX);
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
	} else if (kind == STORE_STAMP) {
		mark_stamps(op, first, count);
	} else if (kind != STORE_FLUSH) {
		mark_write(op, first, count);
	}
	replica->ios++;
	store_submit(replica->handle, &op->io);
}

static void start_something(struct workload *world)
{
	struct model_replica *replica = &world->replicas[below(world, WORKLOAD_REPLICAS)];
	unsigned dice = (unsigned)below(world, 100);

	if (replica->existence == ABSENT) {
		start_create(world, replica);
		return;
	}
	if (replica->existence != PRESENT || replica->deleting) {
		return;
	}
	if (rng_percent(rng_of(world), world->seed % 4 == 0 ? 30 : 3)) {
		/* Of every fourth seed each write makes records: the journal fills. */
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
	} else if (dice < 41) {
		start_io(world, replica, STORE_ZERO);
	} else if (dice < 43) {
		start_io(world, replica, STORE_STAMP);
	} else if (dice < 55) {
		start_io(world, replica, STORE_READ);
	} else {
		start_io(world, replica, STORE_WRITE);
	}
}

static bool was_hit(struct workload *world, uint64_t stop_at)
{
	return stop_at != 0 && sim_disk_operations(world->bench.disk) >= stop_at;
}

/* true: the disk got its operation number stop_at (0: never). */
bool workload_run(struct workload *world, unsigned steps, uint64_t stop_at)
{
	for (unsigned i = 0; i < steps; i++) {
		while (world->in_flight == WORKLOAD_DEPTH ||
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
static void check_structure(struct workload *world)
{
	struct store *store = world->bench.store;
	struct clusters *clusters = &store->clusters;
	uint32_t counts[4] = {0};
	uint64_t used = 0;

	for (uint32_t i = 0; i < clusters->count; i++) {
		uint64_t entry = clusters->entries[i];
		unsigned state = entry_state(entry);

		if (i >= store->sb.zeroed_clusters) {
			/* Not used yet, and perhaps not zeroed. */
			assert_int_equal(entry, 0);
			continue;
		}
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
			uint8_t bytes[WORKLOAD_CLUSTER_BLOCKS * BLOCK];

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
	assert_int_equal(used,
		(counts[CLUSTER_DATA] + counts[CLUSTER_STAMPS]) * WORKLOAD_CLUSTER_BLOCKS * BLOCK);
	assert_int_equal(bench_info(&world->bench).reclaiming_bytes, 0);
}

static void check_replica(struct workload *world, struct model_replica *replica, bool power_lost)
{
	struct store_replica *handle = replica->handle;
	const struct vmeta *vmeta = store_replica_vmeta(handle);
	uint8_t *buffer = bench_buffer((uint64_t)WORKLOAD_BLOCKS_MAX * BLOCK);

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
			assert_true(store_replica_stamp(handle, i / WORKLOAD_REGION_BLOCKS) >=
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
void workload_check(struct workload *world, bool power_lost)
{
	struct store *store = world->bench.store;
	unsigned present = 0;

	for (unsigned i = 0; i < WORKLOAD_REPLICAS; i++) {
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

struct workload *workload_new(uint64_t seed)
{
	static const struct store_format_options options = {
		.name = "tiny",
		.cluster_bytes = WORKLOAD_CLUSTER_BLOCKS * BLOCK,
		.region_bytes = WORKLOAD_REGION_BLOCKS * BLOCK,
		.replica_slots = WORKLOAD_REPLICAS,
		.journal_blocks = 8,
	};
	struct workload *world = calloc(1, sizeof(*world));
	struct layout layout;
	struct err err;

	assert_non_null(world);
	world->seed = seed;
	world->wgen = 1;
	world->next_number = 1;
	world->next_tag = 1;
	bench_init(&world->bench, seed, WORKLOAD_DISK_BLOCKS * BLOCK);
	assert_int_equal(layout_make(WORKLOAD_DISK_BLOCKS, &options, &layout, &err), 0);
	sim_disk_set_torn_range(world->bench.disk, 0, layout.clusters * BLOCK);
	/* Half of the seeds on a disk that is full of something. */
	if (seed % 2 == 0) {
		uint8_t junk[BLOCK];

		memset(junk, 0xdd, sizeof(junk));
		for (uint64_t i = 0; i < WORKLOAD_DISK_BLOCKS; i++) {
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

static void forget_ops(struct workload *world)
{
	for (unsigned i = 0; i < WORKLOAD_DEPTH; i++) {
		free(world->ops[i].buffer);
		world->ops[i] = (struct test_op){0};
	}
	world->in_flight = 0;
}

void workload_free(struct workload *world)
{
	forget_ops(world);
	bench_done(&world->bench);
	free(world);
}

void workload_crash(struct workload *world, bool power)
{
	bench_crash(&world->bench, power);
	forget_ops(world);
}

/* Starts an open and crashes at its n-th disk operation; true: it did not get so far. */
bool workload_crash_while_opening(struct workload *world, uint64_t nth, bool power)
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
	workload_crash(world, power);
	return false;
}

void workload_open_and_check(struct workload *world, bool power_lost)
{
	int result = bench_open(&world->bench);

	if (result != 0) {
		print_error("seed %llu, operation %llu: open: %s\n",
			(unsigned long long)world->seed, (unsigned long long)world->nth,
			world->bench.err.text);
	}
	assert_int_equal(result, 0);
	workload_check(world, power_lost);
}
