/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "simio/simio.h"

#include <errno.h>
#include <string.h>

#define BLOCK  SIM_DISK_BLOCK_BYTES
#define BLOCKS 16u

struct disk_world {
	struct sim *sim;
	struct sim_host *host;
	struct sim_process *process;
	struct sim_disk *backing;
	struct io_disk *disk;
};

struct operation {
	struct io_disk_op op;
	struct iovec iov;
	bool over;
};

static void world_init(struct disk_world *world, uint64_t seed)
{
	world->sim = sim_new(seed, NULL);
	world->host = sim_host_new(world->sim, "10.0.0.1");
	world->process = sim_process_new(world->host, "store");
	world->backing = sim_disk_new(world->host, "pool", (uint64_t)BLOCK * BLOCKS);
	world->disk = sim_disk_open(world->backing, world->process);
}

static void on_done(struct io_disk_op *op)
{
	container_of(op, struct operation, op)->over = true;
}

static void submit(struct disk_world *world, struct operation *operation, enum io_disk_op_kind kind,
	unsigned block, unsigned count)
{
	operation->over = false;
	operation->op.kind = kind;
	operation->op.offset = (uint64_t)block * BLOCK;
	operation->op.length = (uint64_t)count * BLOCK;
	operation->op.done = on_done;
	operation->op.iov = &operation->iov;
	operation->op.iov_count = 1;
	operation->iov.iov_len = (size_t)count * BLOCK;
	io_disk_submit(world->disk, &operation->op);
	assert_false(operation->over);
}

static void wait_for(struct disk_world *world, struct operation *operation)
{
	assert_true(sim_run_until_flag(world->sim, &operation->over, IO_NS_PER_S));
}

static void write_value(
	struct disk_world *world, unsigned block, unsigned count, uint8_t value, bool fua)
{
	struct operation operation = {.op.fua = fua};

	operation.iov.iov_base =
		io_zalloc_aligned(sim_process_io(world->process), BLOCK, (size_t)count * BLOCK);
	memset(operation.iov.iov_base, value, (size_t)count * BLOCK);
	submit(world, &operation, IO_DISK_WRITE, block, count);
	wait_for(world, &operation);
	assert_int_equal(operation.op.result, 0);
	io_free(sim_process_io(world->process), operation.iov.iov_base);
}

static uint8_t value_of(struct disk_world *world, unsigned block)
{
	uint8_t data[BLOCK];

	sim_disk_peek(world->backing, (uint64_t)block * BLOCK, data, sizeof(data));
	for (unsigned i = 1; i < BLOCK; i++) {
		assert_int_equal(data[i], data[0]);
	}
	return data[0];
}

static void power_cycle(struct disk_world *world)
{
	sim_host_power_loss(world->host);
	sim_host_power_on(world->host);
	world->process = sim_process_new(world->host, "store");
	world->disk = sim_disk_open(world->backing, world->process);
}

/* Over many seeds each of the unflushed blocks is kept sometimes and lost sometimes; what was
 * flushed or FUA stays. */
static void test_power_loss_keeps_what_was_flushed(void **state)
{
	unsigned kept[BLOCKS] = {0};
	unsigned whole = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct disk_world world;
		struct operation flush = {0};
		uint64_t power;

		world_init(&world, seed);
		write_value(&world, 0, 4, 1, false);
		submit(&world, &flush, IO_DISK_FLUSH, 0, 0);
		wait_for(&world, &flush);
		write_value(&world, 8, 1, 2, true);
		write_value(&world, 2, 4, 3, false);
		assert_int_equal(sim_disk_unflushed_blocks(world.backing), 4);
		power = world.disk->power;
		power_cycle(&world);
		assert_true(world.disk->power != power);
		assert_int_equal(value_of(&world, 0), 1);
		assert_int_equal(value_of(&world, 8), 2);
		for (unsigned block = 2; block < 6; block++) {
			uint8_t value = value_of(&world, block);

			assert_true(value == 3 || value == (block < 4 ? 1 : 0));
			kept[block] += value == 3;
		}
		whole += value_of(&world, 2) == 3 && value_of(&world, 3) == 3 &&
			 value_of(&world, 4) == 3 && value_of(&world, 5) == 3;
		sim_free(world.sim);
	}
	for (unsigned block = 2; block < 6; block++) {
		assert_in_range(kept[block], 5, 55);
	}
	assert_in_range(whole, 1, 40);
}

/* A write that had been submitted when the process crashed lands, in part or not at all, and stays
 * so from the next opening on. */
static void test_submitted_writes_of_a_crashed_process(void **state)
{
	unsigned landed = 0;
	unsigned torn = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct disk_world world;
		struct operation operation = {0};
		unsigned count = 0;
		uint64_t power;

		world_init(&world, seed);
		write_value(&world, 0, 1, 9, false);
		power = world.disk->power;
		operation.iov.iov_base =
			io_zalloc_aligned(sim_process_io(world.process), BLOCK, 4 * BLOCK);
		memset(operation.iov.iov_base, 5, 4 * BLOCK);
		submit(&world, &operation, IO_DISK_WRITE, 1, 4);
		sim_process_crash(world.process);
		world.process = sim_process_new(world.host, "store");
		world.disk = sim_disk_open(world.backing, world.process);
		assert_true(world.disk->power == power);
		assert_int_equal(value_of(&world, 0), 9);
		for (unsigned block = 1; block < 5; block++) {
			count += value_of(&world, block) == 5;
		}
		assert_false(operation.over);
		landed += count == 4;
		torn += count > 0 && count < 4;
		sim_free(world.sim);
	}
	assert_true(landed > 0 && landed < 60);
	assert_true(torn > 0);
}

/* A flush covers what completed before it was submitted, not what it overtakes. */
static void test_flush_does_not_cover_later_writes(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct disk_world world;
		struct operation flush = {0};
		struct operation write = {0};

		world_init(&world, seed);
		write.iov.iov_base = io_zalloc_aligned(sim_process_io(world.process), BLOCK, BLOCK);
		memset(write.iov.iov_base, 4, BLOCK);
		submit(&world, &flush, IO_DISK_FLUSH, 0, 0);
		submit(&world, &write, IO_DISK_WRITE, 0, 1);
		wait_for(&world, &write);
		wait_for(&world, &flush);
		power_cycle(&world);
		lost += value_of(&world, 0) != 4;
		sim_free(world.sim);
	}
	assert_in_range(lost, 1, 59);
}

static void test_zero_read_and_copy(void **state)
{
	struct disk_world world;
	struct operation operation = {0};
	struct sim_disk *copy;
	uint8_t data[BLOCK];

	(void)state;
	world_init(&world, 1);
	write_value(&world, 3, 2, 7, true);
	submit(&world, &operation, IO_DISK_ZERO, 3, 1);
	wait_for(&world, &operation);
	operation.iov.iov_base = io_zalloc_aligned(sim_process_io(world.process), BLOCK, 2 * BLOCK);
	submit(&world, &operation, IO_DISK_READ, 3, 2);
	wait_for(&world, &operation);
	assert_int_equal(((uint8_t *)operation.iov.iov_base)[0], 0);
	assert_int_equal(((uint8_t *)operation.iov.iov_base)[BLOCK], 7);
	copy = sim_disk_power_loss_copy(world.backing, world.host, "copy");
	sim_disk_peek(copy, (uint64_t)4 * BLOCK, data, sizeof(data));
	assert_int_equal(data[0], 7);
	assert_int_equal(sim_disk_unflushed_blocks(world.backing), 1);
	sim_disk_poke(world.backing, 5, "x", 1);
	sim_disk_peek(world.backing, 5, data, 1);
	assert_int_equal(data[0], 'x');
	sim_free(world.sim);
}

static void test_injected_errors_and_stuck(void **state)
{
	struct disk_world world;
	struct operation operation = {0};
	struct sim_disk_faults faults = {.fail_nth = 2};

	(void)state;
	world_init(&world, 2);
	operation.iov.iov_base = io_zalloc_aligned(sim_process_io(world.process), BLOCK, BLOCK);
	sim_disk_set_faults(world.backing, &faults);
	submit(&world, &operation, IO_DISK_READ, 0, 1);
	wait_for(&world, &operation);
	assert_int_equal(operation.op.result, 0);
	submit(&world, &operation, IO_DISK_READ, 0, 1);
	wait_for(&world, &operation);
	assert_int_equal(operation.op.result, -EIO);
	faults = (struct sim_disk_faults){.stuck = true};
	sim_disk_set_faults(world.backing, &faults);
	submit(&world, &operation, IO_DISK_FLUSH, 0, 0);
	assert_false(sim_run_until_flag(world.sim, &operation.over, 60 * IO_NS_PER_S));
	faults.stuck = false;
	sim_disk_set_faults(world.backing, &faults);
	wait_for(&world, &operation);
	assert_int_equal(sim_disk_operations(world.backing), 3);
	assert_int_equal(sim_disk_in_flight(world.backing), 0);
	sim_free(world.sim);
}

/* Of one block, until it is written. */
static void test_unreadable_blocks(void **state)
{
	struct disk_world world;
	struct operation operation = {0};

	(void)state;
	world_init(&world, 4);
	operation.iov.iov_base = io_zalloc_aligned(sim_process_io(world.process), BLOCK, 4 * BLOCK);
	sim_disk_set_unreadable(world.backing, BLOCK, 2 * BLOCK, true);
	sim_disk_set_unreadable(world.backing, 2 * BLOCK, BLOCK, false);
	submit(&world, &operation, IO_DISK_READ, 0, 4);
	wait_for(&world, &operation);
	assert_int_equal(operation.op.result, -EIO);
	submit(&world, &operation, IO_DISK_READ, 2, 2);
	wait_for(&world, &operation);
	assert_int_equal(operation.op.result, 0);
	submit(&world, &operation, IO_DISK_WRITE, 1, 1);
	wait_for(&world, &operation);
	submit(&world, &operation, IO_DISK_READ, 0, 4);
	wait_for(&world, &operation);
	assert_int_equal(operation.op.result, 0);
	sim_free(world.sim);
}

static void test_declared_metadata_is_torn_at_sectors(void **state)
{
	unsigned torn = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 80; seed++) {
		struct disk_world world;
		uint8_t data[BLOCK];
		unsigned sectors = 0;

		world_init(&world, seed);
		sim_disk_set_torn_range(world.backing, 0, BLOCK);
		write_value(&world, 0, 2, 6, false);
		power_cycle(&world);
		(void)value_of(&world, 1);
		sim_disk_peek(world.backing, 0, data, sizeof(data));
		for (unsigned at = 0; at < BLOCK; at += SIM_DISK_SECTOR_BYTES) {
			sectors += data[at] == 6;
		}
		torn += sectors > 0 && sectors < BLOCK / SIM_DISK_SECTOR_BYTES;
		sim_free(world.sim);
	}
	assert_true(torn > 0);
}

static void test_misdirected_write(void **state)
{
	struct disk_world world;

	(void)state;
	world_init(&world, 1);
	sim_disk_misdirect(world.backing, 2 * BLOCK, BLOCK, 5 * BLOCK);
	write_value(&world, 1, 1, 6, false);
	write_value(&world, 2, 1, 7, false);
	assert_int_equal(value_of(&world, 1), 6);
	assert_int_equal(value_of(&world, 2), 0);
	assert_int_equal(value_of(&world, 5), 7);
	write_value(&world, 2, 1, 8, false);
	assert_int_equal(value_of(&world, 2), 8);
	sim_free(world.sim);
}

static int read_result(struct disk_world *world, unsigned block)
{
	struct operation operation = {0};

	submit(world, &operation, IO_DISK_READ, block, 1);
	wait_for(world, &operation);
	return operation.op.result;
}

/* It knows what it was told: what is flipped, or was written elsewhere, is not given, until it is
 * written; nor after a loss of power that brings it back. */
static void test_disk_that_checks(void **state)
{
	struct disk_world world;

	(void)state;
	world_init(&world, 1);
	sim_disk_set_checks(world.backing, true);
	write_value(&world, 1, 1, 6, true);
	sim_disk_flip_bit(world.backing, BLOCK + 77, 3);
	assert_int_equal(read_result(&world, 1), -EIO);
	sim_disk_misdirect(world.backing, 2 * BLOCK, BLOCK, 5 * BLOCK);
	write_value(&world, 2, 1, 7, true);
	assert_int_equal(read_result(&world, 2), -EIO);
	assert_int_equal(read_result(&world, 5), -EIO);
	power_cycle(&world);
	assert_int_equal(read_result(&world, 1), -EIO);
	assert_int_equal(read_result(&world, 2), -EIO);
	assert_int_equal(read_result(&world, 5), -EIO);
	write_value(&world, 5, 1, 8, true);
	assert_int_equal(value_of(&world, 5), 8);
	sim_disk_mend(world.backing);
	assert_int_equal(value_of(&world, 1), 6);
	assert_int_equal(value_of(&world, 2), 7);
	assert_int_equal(value_of(&world, 5), 8);
	sim_free(world.sim);
}

static void test_disk_that_lies(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct disk_world world;
		struct operation flush = {0};

		world_init(&world, seed);
		sim_disk_set_lying(world.backing, true);
		write_value(&world, 0, 1, 6, false);
		submit(&world, &flush, IO_DISK_FLUSH, 0, 0);
		wait_for(&world, &flush);
		assert_int_equal(flush.op.result, 0);
		power_cycle(&world);
		lost += value_of(&world, 0) == 0;
		sim_free(world.sim);
	}
	assert_true(lost > 0);
}

static void on_event(struct sim_event *event)
{
	event->at_ns = 1;
}

/* Counted are writes, not reads; it is not called from within the submission. */
static void test_event_at_a_write(void **state)
{
	struct disk_world world;
	struct sim_event event = {0};

	(void)state;
	world_init(&world, 1);
	sim_disk_at_write(world.backing, 2, &event, on_event);
	write_value(&world, 0, 1, 6, false);
	(void)value_of(&world, 0);
	sim_run_for_ns(world.sim, IO_NS_PER_S);
	assert_int_equal(event.at_ns, 0);
	write_value(&world, 1, 1, 6, false);
	sim_run_for_ns(world.sim, IO_NS_PER_S);
	assert_int_equal(event.at_ns, 1);
	sim_free(world.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_loss_keeps_what_was_flushed),
		cmocka_unit_test(test_submitted_writes_of_a_crashed_process),
		cmocka_unit_test(test_flush_does_not_cover_later_writes),
		cmocka_unit_test(test_zero_read_and_copy),
		cmocka_unit_test(test_injected_errors_and_stuck),
		cmocka_unit_test(test_unreadable_blocks),
		cmocka_unit_test(test_declared_metadata_is_torn_at_sectors),
		cmocka_unit_test(test_misdirected_write),
		cmocka_unit_test(test_disk_that_checks),
		cmocka_unit_test(test_disk_that_lies),
		cmocka_unit_test(test_event_at_a_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
