/* SPDX-License-Identifier: Apache-2.0 */
/* What copies leave of a pool-agent, and of the nexus's buffers, to others. */
#include "tests/sim/scenario.h"

#include <string.h>

static bool is_serving(void *scenario)
{
	return scenario_volume(scenario)->serving;
}

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static void write_each(struct scenario *scenario)
{
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		scenario->request_count = 0;
		assert_int_equal(do_write(scenario, at, OP_BLOCKS_MAX), 0);
	}
}

/* R is every region that was written: the window of B is not valid. */
static void begin_with_regions_in_r(struct scenario *scenario)
{
	struct slot *slot = &scenario->world.slots[0];

	open_whole(scenario);
	write_each(scenario);
	slot_crash(slot, true);
	go_away(scenario, B);
	come_back(scenario, B);
	slot_open(slot, slot->attach);
}

static bool a_copier_is(struct scenario *scenario, enum copy_state state)
{
	const struct volume *volume = scenario_volume(scenario);

	for (unsigned i = 0; i < COPIERS; i++) {
		if (volume->copiers[i].state == state) {
			return true;
		}
	}
	return false;
}

/* All of the nexus's copy buffers but one of a piece; `held` has room for them. */
static size_t hold_buffers(struct scenario *scenario, void **held, size_t length)
{
	struct bufpool *buffers = scenario_volume(scenario)->nexus->buffers;
	size_t count = 0;

	while ((held[count] = bufpool_get(buffers, length)) != NULL) {
		count++;
	}
	bufpool_put(buffers, held[--count], length);
	return count;
}

static void give_back(struct scenario *scenario, void **held, size_t count, size_t length)
{
	while (count > 0) {
		bufpool_put(scenario_volume(scenario)->nexus->buffers, held[--count], length);
	}
}

static bool c_is_not_there(void *scenario)
{
	return !scenario_leg(scenario, C)->ready;
}

static bool c_is_asked_for(void *ctx)
{
	return scenario_leg(ctx, C)->target && a_copier_is(ctx, COPY_AWAIT_WRITES);
}

/* S = {A, B}; C and D are targets, and C's disk is stuck with the last of the buffers that all
 * copies share. */
static size_t open_with_stuck_target(struct scenario *scenario, void **held)
{
	size_t count;

	open_whole(scenario);
	go_away(scenario, C);
	go_away(scenario, C + 1);
	write_each(scenario);
	count = hold_buffers(scenario, held, ORACLE_BLOCK_BYTES);
	come_back(scenario, C);
	await(scenario, c_is_asked_for);
	disk_stuck(scenario, C, true);
	await(scenario, c_is_not_there);
	come_back(scenario, C + 1);
	return count;
}

/* They come back although C is no member and nothing else asks anything of it. */
static void test_stuck_target_does_not_keep_buffers(struct scenario *scenario)
{
	void *held[1024];
	size_t count = open_with_stuck_target(scenario, held);
	uint32_t generation = scenario_leg(scenario, C)->peer->generation;

	await_replica(scenario, C + 1, REPLICA_INSYNC);
	run_ms(scenario, 30000);
	assert_int_equal(scenario_leg(scenario, C)->peer->generation, generation + 1);
	give_back(scenario, held, count, ORACLE_BLOCK_BYTES);
	disk_sound(scenario, C);
	await_whole(scenario);
}

/* Its disk goes on for a moment now and then: its rebuild is tried again later each time. */
static void test_target_is_not_reset_all_the_time(struct scenario *scenario)
{
	void *held[1024];
	size_t count = open_with_stuck_target(scenario, held);
	uint32_t generation = scenario_leg(scenario, C)->peer->generation;

	disk_stuck(scenario, C + 1, true);
	for (unsigned i = 0; i < 20; i++) {
		run_ms(scenario, 6000);
		disk_stuck(scenario, C, false);
		run_ms(scenario, 100);
		disk_stuck(scenario, C, true);
	}
	assert_in_range(scenario_leg(scenario, C)->peer->generation - generation, 2, 6);
	assert_true(scenario_leg(scenario, C)->rebuild_retry_ns >= 8 * IO_NS_PER_S);
	give_back(scenario, held, count, ORACLE_BLOCK_BYTES);
	disk_sound(scenario, C);
	disk_sound(scenario, C + 1);
	await_whole(scenario);
}

static bool reads_for_a_copy(void *scenario)
{
	return a_copier_is(scenario, COPY_AWAIT_READ);
}

static bool c_is_there(void *scenario)
{
	return scenario_leg(scenario, C)->ready;
}

static bool b_is_not_there(void *scenario)
{
	return !scenario_leg(scenario, B)->ready;
}

static bool copy_is_written_to_c(void *scenario)
{
	return a_copier_is(scenario, COPY_AWAIT_WRITES);
}

/* A piece that was not sent to a member, which was not there: an error that it answered for another
 * piece is not held against it. */
static void test_error_of_an_earlier_piece(struct scenario *scenario)
{
	struct volume *volume;

	begin_with_regions_in_r(scenario);
	await(scenario, c_is_there);
	scenario_leg(scenario, C)->no_hashes = true; /* nobody is asked but by the copy */
	volume = scenario_volume(scenario);
	for (unsigned i = 0; i < COPIERS; i++) {
		volume->copiers[i].write_ios[scenario_leg(scenario, B)->index].result = LEG_IO;
	}
	await(scenario, is_serving);
	disk_stuck(scenario, A, true);
	await(scenario, reads_for_a_copy);
	peer_reset(scenario_leg(scenario, B)->peer, "the test wants it");
	await(scenario, b_is_not_there);
	disk_slow(scenario, C, 1500);
	disk_sound(scenario, A);
	await(scenario, copy_is_written_to_c);
	run_ms(scenario, 1500);
	disk_sound(scenario, C);
	assert_string_equal(scenario_leg(scenario, B)->failure, "");
	await_whole(scenario);
}

/* A disk that takes 0.6 s for a piece, one after the other, is not asked to read four at once, of
 * which the last one would not be answered within the 2 s after which a member is out. */
static void test_slow_disk_is_not_overrun(struct scenario *scenario)
{
	struct volume *volume;
	unsigned had_turn = 0;

	begin_with_regions_in_r(scenario);
	await(scenario, is_serving);
	volume = scenario_volume(scenario);
	assert_true(volume->resync.count > 16);
	sim_disk_set_faults(scenario->world.agents[C].disk,
		&(struct sim_disk_faults){.bytes_per_s = 110 << 10});
	while (volume->resync.count > 0) {
		assert_true(sim_step(scenario->world.sim));
		assert_false(scenario_leg(scenario, C)->out);
		for (unsigned i = 0; i < COPIERS; i++) {
			had_turn |= volume->copiers[i].turns != 0 ? 1u << i : 0;
		}
	}
	assert_int_equal(had_turn, (1u << COPIERS) - 1); /* nobody keeps it for himself */
	assert_int_equal(cfg_insync_count(&volume->cfg), 3);
	disk_sound(scenario, C);
}

/* Each operation of a disk takes up to 0.9 s, also four at once: a hash of 256 KiB takes no longer
 * than a read of them. */
static void test_hash_takes_no_longer_than_a_read(struct scenario *scenario)
{
	struct volume *volume;

	begin_with_regions_in_r(scenario);
	await(scenario, is_serving);
	volume = scenario_volume(scenario);
	assert_int_equal(volume->resync.piece_bytes, 256 << 10);
	disk_slow(scenario, C, 900);
	while (volume->resync.count > 0) {
		assert_true(sim_step(scenario->world.sim));
		assert_false(scenario_leg(scenario, C)->out);
	}
	disk_sound(scenario, C);
}

/* Of 16 blocks that nobody has, beside a disk that takes up to 1.2 s for each: who waits for the
 * repair of one piece keeps no turn, and another piece, which a read waits for, is copied. */
static void test_repair_keeps_no_turn(struct scenario *scenario)
{
	struct volume *volume;
	uint64_t start_ns;

	begin_with_regions_in_r(scenario);
	for (unsigned i = 0; i < 3; i++) {
		for (size_t block = 0; block < 16; block++) {
			sim_disk_set_unreadable(scenario->world.agents[i].disk,
				disk_place(scenario, i, block), ORACLE_BLOCK_BYTES, true);
		}
	}
	await(scenario, is_serving);
	volume = scenario_volume(scenario);
	disk_slow(scenario, C, 1200);
	run_ms(scenario, 3000);
	assert_true(a_copier_is(scenario, COPY_AWAIT_REPAIR));
	start_ns = sim_now_ns(scenario->world.sim);
	assert_int_equal(do_read(scenario, 1000, 1), 0);
	assert_true(sim_now_ns(scenario->world.sim) - start_ns < 10 * IO_NS_PER_S);
	assert_true(a_copier_is(scenario, COPY_AWAIT_REPAIR));
	assert_true(volume->resync.count > 0);
	disk_sound(scenario, C);
	for (unsigned i = 0; i < 3; i++) {
		struct sim_disk *disk = scenario->world.agents[i].disk;

		sim_disk_set_unreadable(disk, 0, sim_disk_size_bytes(disk), false);
	}
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(do_write(scenario, 8, 8), 0);
}

/* A disk that takes 5 s for a block, of a member that cannot be spared, while others wait for copy
 * buffers: the host's write has none, and is not ended by a reset, and sent again, for ever. */
static void test_slow_write_beside_buffer_waiters(struct scenario *scenario)
{
	static struct bufpool_waiter waiter;
	const struct scenario_request *request;
	struct volume *volume;
	uint32_t generation;

	open_whole(scenario);
	write_each(scenario);
	run_ms(scenario, 3000);
	volume = scenario_volume(scenario);
	generation = scenario_leg(scenario, B)->peer->generation;
	sim_disk_set_faults(
		scenario->world.agents[B].disk, &(struct sim_disk_faults){.bytes_per_s = 800});
	request = submit_write(scenario, 0, 1);
	for (unsigned i = 0; i < 3000 && !request->done; i++) {
		bufpool_wait(volume->nexus->buffers, &waiter, &volume->copiers[0].task);
		run_ms(scenario, 10);
	}
	bufpool_unwait(&waiter);
	assert_true(request->done);
	assert_int_equal(request->result, 0);
	assert_int_equal(scenario_leg(scenario, B)->peer->generation, generation);
	disk_sound(scenario, B);
	await_whole(scenario);
}

#define CASE(function) .name = #function, .run = function
/* Pieces of 64 KiB. */
#define HEAVY .block_count = 1024, .pool_bytes = UINT64_C(16) << 20, .region_bytes = 4 << 20

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_stuck_target_does_not_keep_buffers), .options = {.data_replicas = 4}},
		{CASE(test_target_is_not_reset_all_the_time), .options = {.data_replicas = 4}},
		{CASE(test_error_of_an_earlier_piece)},
		{CASE(test_slow_disk_is_not_overrun), .options = {HEAVY}},
		{CASE(test_repair_keeps_no_turn), .options = {HEAVY}},
		{CASE(test_slow_write_beside_buffer_waiters),
			.options = {.data_replicas = 2, .min_insync = 2}},
		{CASE(test_hash_takes_no_longer_than_a_read),
			.options = {.block_count = 1024,
				.pool_bytes = UINT64_C(16) << 20,
				.region_bytes = 16 << 20}},
	};

	return scenario_run_all("copies", cases, ARRAY_COUNT(cases));
}
