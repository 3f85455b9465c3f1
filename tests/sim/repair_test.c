/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that a replica's disk does not give any more. */
#include "tests/sim/scenario.h"

#include <errno.h>
#include <string.h>

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static void rot(struct scenario *scenario, unsigned agent, size_t first, size_t count)
{
	for (size_t block = first; block < first + count; block++) {
		sim_disk_set_unreadable(scenario->world.agents[agent].disk,
			disk_place(scenario, agent, block), ORACLE_BLOCK_BYTES, true);
	}
}

static void disk_gives_again(struct scenario *scenario, unsigned agent)
{
	struct sim_disk *disk = scenario->world.agents[agent].disk;

	sim_disk_set_unreadable(disk, 0, sim_disk_size_bytes(disk), false);
}

static uint64_t repairs(struct scenario *scenario, unsigned agent)
{
	return metric_get(&scenario_leg(scenario, agent)->repairs);
}

/* Reads take turns: each member is asked. */
static void read_by_all(struct scenario *scenario, size_t first, size_t count)
{
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(do_read(scenario, first, count), 0);
		run_ms(scenario, 100);
	}
}

static void read_only_from(struct scenario *scenario, unsigned agent)
{
	scenario_volume(scenario)->local_mask = 1u << agent;
}

static void read_all_from(struct scenario *scenario, unsigned agent)
{
	read_only_from(scenario, agent);
	for (size_t at = 0; at < 128; at += 8) {
		assert_int_equal(do_read(scenario, at, 8), 0);
	}
}

static void open_and_write_all(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
}

/* 33: another member answers, and the bad block is written again in its place. */
static void test_read_repair(struct scenario *scenario)
{
	open_and_write_all(scenario);
	rot(scenario, B, 10, 2);
	read_by_all(scenario, 8, 8);
	assert_int_equal(repairs(scenario, B), 2);
	assert_int_equal(repairs(scenario, A) + repairs(scenario, C), 0);
	assert_int_equal(metric_get(&scenario_leg(scenario, B)->unread), 1 + 2);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
	read_only_from(scenario, B);
	assert_int_equal(do_read(scenario, 8, 8), 0);
	assert_int_equal(metric_get(&scenario_leg(scenario, B)->unread), 1 + 2);
}

/* Each member has another bad block of the range. */
static void test_each_has_a_part(struct scenario *scenario)
{
	open_and_write_all(scenario);
	rot(scenario, A, 9, 1);
	rot(scenario, B, 11, 1);
	rot(scenario, C, 13, 1);
	read_by_all(scenario, 8, 8);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(repairs(scenario, i), 1);
	}
}

/* Nobody has it: an error, until it is written anew. */
static void test_nobody_has_it(struct scenario *scenario)
{
	open_and_write_all(scenario);
	for (unsigned i = 0; i < 3; i++) {
		rot(scenario, i, 10, 1);
	}
	assert_int_equal(do_read(scenario, 8, 8), -EIO);
	assert_int_equal(metric_get(&scenario_volume(scenario)->unreadable), 1);
	read_by_all(scenario, 8, 2);
	read_by_all(scenario, 11, 5);
	assert_int_equal(do_read(scenario, 10, 1), -EIO);
	assert_int_equal(volume_state_now(scenario), VOLUME_ONLINE);
	assert_int_equal(do_write(scenario, 10, 1), 0);
	read_by_all(scenario, 8, 8);
}

/* While the host writes there, all the time. */
static void test_repair_beside_writes(struct scenario *scenario)
{
	open_and_write_all(scenario);
	for (unsigned i = 0; i < 40; i++) {
		scenario->request_count = 0;
		rot(scenario, i % 3, 8, 4);
		for (unsigned j = 0; j < 3; j++) {
			(void)submit(scenario, BLK_READ, 8, 4);
		}
		sim_run_for_ns(
			scenario->world.sim, rng_below(sim_rng(scenario->world.sim), 2000) * 1000);
		for (unsigned j = 0; j < 4; j++) {
			(void)submit_write(scenario, 8 + j, 1);
		}
		run_ms(scenario, 50);
	}
	assert_true(repairs(scenario, A) + repairs(scenario, B) + repairs(scenario, C) > 0);
}

/* More than a few in a row: the disk is the matter, and the replica goes. */
static void test_disk_gives_nothing(struct scenario *scenario)
{
	struct volume_status status;

	open_and_write_all(scenario);
	sim_disk_set_faults(scenario->world.agents[C].disk,
		&(struct sim_disk_faults){.read_error_percent = 100});
	for (unsigned i = 0; i < 12; i++) {
		read_by_all(scenario, 8 * i, 8);
	}
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 2);
	assert_true(slot_status(&scenario->world.slots[0], &status));
	assert_non_null(strstr(status.replicas[C].reason, "reads in a row failed"));
	disk_sound(scenario, C);
	run_ms(scenario, 30000);
	await_whole(scenario);
}

/* It cannot be spared: it stays, and is reported. */
static void test_disk_gives_nothing_but_is_needed(struct scenario *scenario)
{
	struct volume_status status;

	open_and_write_all(scenario);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	sim_disk_set_faults(scenario->world.agents[C].disk,
		&(struct sim_disk_faults){.read_error_percent = 100});
	for (unsigned i = 0; i < 12; i++) {
		read_by_all(scenario, 8 * i, 8);
	}
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 2);
	assert_true(slot_status(&scenario->world.slots[0], &status));
	assert_int_equal(status.replicas[C].state, REPLICA_INSYNC);
	assert_non_null(strstr(status.replicas[C].reason, "replace its disk"));
	disk_sound(scenario, C);
	come_back(scenario, B);
}

/* ---- 34: copies ---- */

/* C lacks everything. */
static void open_with_stale_target(struct scenario *scenario)
{
	open_and_write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	await_state(scenario, VOLUME_DEGRADED);
}

/* The source of a rebuild has a bad block: another member has it, and the source gets it back. */
static void test_bad_source(struct scenario *scenario)
{
	open_with_stale_target(scenario);
	rot(scenario, A, 30, 1);
	rot(scenario, B, 60, 3);
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(repairs(scenario, A) <= 1);
	read_only_from(scenario, C);
	for (size_t at = 0; at < 128; at += 8) {
		assert_int_equal(do_read(scenario, at, 8), 0);
	}
}

static uint64_t unreadable_blocks(struct scenario *scenario)
{
	struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	return status.unreadable_blocks;
}

static void assert_unreadable_on_all(struct scenario *scenario, size_t block)
{
	for (unsigned i = 0; i < 3; i++) {
		read_only_from(scenario, i);
		assert_int_equal(do_read(scenario, block, 1), -EIO);
	}
	read_only_from(scenario, REPL_VOTERS_MAX);
}

/* Nobody has it: the target gets the rest, and a mark there: it joins, and shows an error as the
 * others do, until the host writes the block.  The next nexus knows of it. */
static void test_source_has_lost_it(struct scenario *scenario)
{
	open_with_stale_target(scenario);
	rot(scenario, A, 30, 1);
	rot(scenario, B, 30, 1);
	come_back(scenario, C);
	await_whole(scenario);
	assert_int_equal(unreadable_blocks(scenario), 1);
	assert_unreadable_on_all(scenario, 30);
	read_by_all(scenario, 31, 4);
	/* That is not held against the disks. */
	for (unsigned i = 0; i < 4 * UNREAD_RUN_MAX; i++) {
		assert_int_equal(do_read(scenario, 30, 1), -EIO);
	}
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
	/* An idle one does not turn without end. */
	assert_true(steps_of_a_second(scenario) < 400);
	go_away(scenario, C);
	run_ms(scenario, 100);
	come_back(scenario, C);
	scenario_open(scenario, 1);
	await_whole(scenario);
	assert_int_equal(unreadable_blocks(scenario), 1);
	assert_unreadable_on_all(scenario, 30);
	assert_int_equal(do_write(scenario, 30, 1), 0);
	assert_int_equal(unreadable_blocks(scenario), 0);
	read_by_all(scenario, 28, 8);
}

/* A disk gives it again: who has a mark gets the content back. */
static void test_lost_block_is_found(struct scenario *scenario)
{
	open_with_stale_target(scenario);
	rot(scenario, A, 30, 1);
	rot(scenario, B, 30, 1);
	come_back(scenario, C);
	await_whole(scenario);
	assert_int_equal(unreadable_blocks(scenario), 1);
	disk_gives_again(scenario, B);
	/* Also when the one is asked that can read it. */
	read_only_from(scenario, rng_percent(sim_rng(scenario->world.sim), 50) ? B : C);
	assert_int_equal(do_read(scenario, 30, 1), 0);
	run_ms(scenario, 100);
	assert_int_equal(unreadable_blocks(scenario), 0);
	assert_int_equal(repairs(scenario, A), 1);
	assert_int_equal(repairs(scenario, C), 1);
	read_by_all(scenario, 28, 4);
}

/* The sources refuse reads of more than a block, and give each block: the piece is copied block by
 * block, or that would begin again without end. */
static void test_source_gives_single_blocks(struct scenario *scenario)
{
	open_with_stale_target(scenario);
	for (unsigned i = A; i <= B; i++) {
		sim_disk_set_faults(scenario->world.agents[i].disk,
			&(struct sim_disk_faults){.read_max_bytes = ORACLE_BLOCK_BYTES});
	}
	come_back(scenario, C);
	await_whole(scenario);
	assert_int_equal(unreadable_blocks(scenario), 0);
	disk_sound(scenario, A);
	disk_sound(scenario, B);
	read_all_from(scenario, C);
}

/* A source whose disk gives nothing cannot be spared: what the other one gives gets to the target.
 */
static void test_source_gives_nothing(struct scenario *scenario)
{
	open_with_stale_target(scenario);
	sim_disk_set_faults(scenario->world.agents[A].disk,
		&(struct sim_disk_faults){.read_error_percent = 100});
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_INSYNC);
	assert_int_equal(unreadable_blocks(scenario), 0);
	disk_sound(scenario, A);
	read_all_from(scenario, C);
}

/* While the host writes beside it, and to the very piece. */
static void test_marks_beside_writes(struct scenario *scenario)
{
	open_with_stale_target(scenario);
	for (unsigned i = 0; i < 8; i++) {
		rot(scenario, A, 4 + 16 * i, 1);
		rot(scenario, B, 4 + 16 * i, 1);
	}
	come_back(scenario, C);
	for (unsigned i = 0; i < 100; i++) {
		scenario->request_count = 0;
		for (unsigned j = 0; j < 4; j++) {
			size_t at = rng_below(sim_rng(scenario->world.sim), 128);

			if (at % 16 != 4) {
				(void)submit_write(scenario, at, 1);
			}
		}
		run_ms(scenario, 10);
	}
	await_whole(scenario);
	assert_int_equal(unreadable_blocks(scenario), 8);
	assert_unreadable_on_all(scenario, 4);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(unreadable_blocks(scenario), 7);
}

/* More than a replica can mark: it gets what it can, and waits for the host with the rest. */
static void test_no_room_for_marks(struct scenario *scenario)
{
	struct volume_status status;

	open_with_stale_target(scenario);
	rot(scenario, A, 0, MARKS_MAX + 40);
	rot(scenario, B, 0, MARKS_MAX + 40);
	come_back(scenario, C);
	run_ms(scenario, 30000);
	assert_true(slot_status(&scenario->world.slots[0], &status));
	assert_int_equal(status.replicas[C].state, REPLICA_REBUILDING);
	assert_non_null(strstr(status.replicas[C].reason, "no replica in sync can read"));
	assert_int_equal(unreadable_blocks(scenario), MARKS_MAX);
	for (size_t at = 0; at < MARKS_MAX + 40; at += 8) {
		assert_int_equal(do_write(scenario, at, 8), 0);
	}
	await_whole(scenario);
	assert_int_equal(unreadable_blocks(scenario), 0);
}

/* All that is left of a rebuild waits, and with it its turn: what the host writes beside that, and
 * leaves to the copy, does not wait. */
static void test_write_beside_what_waits(struct scenario *scenario)
{
	const struct leg *leg;
	uint64_t beside = (uint64_t)(MARKS_MAX + 41) * ORACLE_BLOCK_BYTES;

	open_with_stale_target(scenario);
	rot(scenario, A, 0, MARKS_MAX + 40);
	rot(scenario, B, 0, MARKS_MAX + 40);
	come_back(scenario, C);
	run_ms(scenario, 30000);
	leg = scenario_leg(scenario, C);
	assert_true(leg->unreadable.count > 0);
	assert_int_equal(leg->todo.count, leg->unreadable.count);
	while (leg->unreadable_until_ns < sim_now_ns(scenario->world.sim) + 5 * IO_NS_PER_S) {
		run_ms(scenario, 100);
	}
	assert_int_equal(do_write(scenario, MARKS_MAX + 36, 8), 0);
	run_ms(scenario, 1000);
	assert_false(piecemap_test(&leg->todo, beside, ORACLE_BLOCK_BYTES));
	for (size_t at = 0; at < MARKS_MAX + 40; at += 8) {
		assert_int_equal(do_write(scenario, at, 8), 0);
	}
	await_whole(scenario);
}

/* A block of R that one member cannot read after a takeover, beside a write that only one has. */
static void test_bad_block_in_r(struct scenario *scenario)
{
	open_and_write_all(scenario);
	for (unsigned round = 0; round < 3; round++) {
		cut_off(scenario, round, true, false);
		(void)submit_write(scenario, 0, 4);
		run_ms(scenario, 2);
		slot_crash(&scenario->world.slots[scenario->writer], false);
		sim_heal_all(scenario->world.sim);
		rot(scenario, (round + 1) % 3, 1, 2);
		scenario_open(scenario, 1 - scenario->writer);
		read_by_all(scenario, 0, 8);
		await_whole(scenario);
		assert_int_equal(do_write(scenario, 0, 8), 0);
	}
}

static bool hash_is_under_way(void *scenario)
{
	const struct volume *volume = scenario_volume(scenario);

	for (unsigned i = 0; i < COPIERS; i++) {
		const struct copier *copier = &volume->copiers[i];

		if (copier->state == COPY_AWAIT_COMPARED && !copier->read_io.busy &&
			copier->read_io.result == LEG_MEDIA &&
			(copier->pending & LEG_BIT(scenario_leg(scenario, B)))) {
			return true;
		}
	}
	return false;
}

/* A destination is given up whose answer may still arrive, in the buffer: that is not given back
 * before, although the source's error is repaired. */
static void test_bad_source_and_late_hash(struct scenario *scenario)
{
	open_and_write_all(scenario);
	cut_off(scenario, C, true, false);
	(void)submit_write(scenario, 0, 4);
	run_ms(scenario, 2);
	slot_crash(&scenario->world.slots[scenario->writer], false);
	sim_heal_all(scenario->world.sim);
	rot(scenario, A, 0, 4);
	disk_slow(scenario, B, 400);
	scenario_open(scenario, 1 - scenario->writer);
	await(scenario, hash_is_under_way);
	leg_fail(scenario_leg(scenario, B), "the test wants it");
	run_ms(scenario, 1000);
	disk_sound(scenario, B);
	await_whole(scenario);
}

/* The same, but nobody has one of them: the rest of R gets equal, and R ends. */
static void test_lost_block_in_r(struct scenario *scenario)
{
	open_and_write_all(scenario);
	cut_off(scenario, A, true, false);
	(void)submit_write(scenario, 0, 4);
	run_ms(scenario, 2);
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	for (unsigned i = 0; i < 3; i++) {
		rot(scenario, i, 1, 1);
	}
	scenario_open(scenario, 1);
	assert_int_equal(do_read(scenario, 1, 1), -EIO);
	read_by_all(scenario, 2, 6);
	await_whole(scenario);
	/* The disks may give it again, but not what they held: it might differ. */
	for (unsigned i = 0; i < 3; i++) {
		disk_gives_again(scenario, i);
	}
	assert_int_equal(unreadable_blocks(scenario), 1);
	assert_unreadable_on_all(scenario, 1);
	assert_int_equal(do_write(scenario, 0, 8), 0);
}

static bool r_is_empty(void *scenario)
{
	return scenario_volume(scenario)->resync.count == 0;
}

/* More lost blocks in R than replicas have marks for, of which one differs: it does not count as
 * settled while two members could show what they have, whatever that is. */
static void test_no_room_for_marks_in_r(struct scenario *scenario)
{
	size_t differs = MARKS_MAX + 20;
	struct volume_status status;

	open_and_write_all(scenario);
	cut_off(scenario, A, true, false);
	(void)submit_write(scenario, differs, 1);
	run_ms(scenario, 2);
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	/* Without the window of C, R is every region that was written. */
	go_away(scenario, C);
	come_back(scenario, C);
	run_ms(scenario, 500);
	for (unsigned i = 0; i < 3; i++) {
		rot(scenario, i, 0, MARKS_MAX + 40);
	}
	scenario_open(scenario, 1);
	run_ms(scenario, 5000);
	assert_true(scenario_volume(scenario)->resync.count > 0);
	assert_int_equal(do_read(scenario, differs, 1), -EIO);
	/* What nobody gives says nothing about a disk, however often it is tried. */
	run_ms(scenario, 60000);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_string_equal(scenario_leg(scenario, i)->failure, "");
	}
	assert_true(slot_status(&scenario->world.slots[1], &status));
	assert_non_null(strstr(status.reason, "no room for more marks"));
	assert_true(steps_of_a_second(scenario) < 400);
	/* The host writes some of them: those are settled, and read, at once. */
	assert_int_equal(do_write(scenario, MARKS_MAX, 8), 0);
	assert_int_equal(do_read(scenario, MARKS_MAX, 8), 0);
	for (unsigned i = 0; i < 3; i++) {
		disk_gives_again(scenario, i);
		read_only_from(scenario, i);
		assert_int_equal(do_read(scenario, differs, 1), -EIO);
	}
	await(scenario, r_is_empty);
	for (unsigned i = 0; i < 3; i++) {
		read_only_from(scenario, i);
		assert_int_equal(do_read(scenario, differs, 1), 0);
	}
	read_only_from(scenario, REPL_VOTERS_MAX);
}

/* ---- disks that know what they were told ---- */

static void set_checks(struct scenario *scenario, unsigned agent)
{
	sim_disk_set_checks(scenario->world.agents[agent].disk, true);
}

static void flip(struct scenario *scenario, unsigned agent, size_t block)
{
	sim_disk_flip_bit(scenario->world.agents[agent].disk,
		disk_place(scenario, agent, block) + 100 + block, 3);
}

/* 33: a bit that flips. */
static void test_bit_rot(struct scenario *scenario)
{
	open_and_write_all(scenario);
	set_checks(scenario, B);
	flip(scenario, B, 10);
	flip(scenario, B, 12);
	read_by_all(scenario, 8, 8);
	assert_int_equal(repairs(scenario, B), 2);
	read_all_from(scenario, B);
}

/* 34: what rots on the source of a rebuild does not get to its target. */
static void test_rot_on_the_source(struct scenario *scenario)
{
	open_with_stale_target(scenario);
	set_checks(scenario, A);
	for (size_t block = 3; block < 128; block += 20) {
		flip(scenario, A, block);
	}
	come_back(scenario, C);
	await_whole(scenario);
	read_all_from(scenario, C);
	read_all_from(scenario, A);
}

/* 35: a write lands where another block is: both are noticed, and come back from the others. */
static void test_misdirected_write(struct scenario *scenario)
{
	uint64_t intended, instead;

	open_and_write_all(scenario);
	set_checks(scenario, B);
	intended = disk_place(scenario, B, 10);
	instead = disk_place(scenario, B, 50);
	sim_disk_misdirect(scenario->world.agents[B].disk, intended, ORACLE_BLOCK_BYTES, instead);
	assert_int_equal(do_write(scenario, 10, 1), 0);
	read_by_all(scenario, 8, 8);
	read_by_all(scenario, 48, 8);
	assert_int_equal(repairs(scenario, B), 2);
	read_all_from(scenario, B);
}

/* 25, 26: power goes on one member in the middle of its writes: blocks that are half old and half
 * new are in regions that it gets again. */
static void test_torn_data_of_one(struct scenario *scenario)
{
	struct node_agent *node = &scenario->world.agents[B];

	open_and_write_all(scenario);
	set_checks(scenario, B);
	sim_disk_set_torn_range(node->disk, 0, sim_disk_size_bytes(node->disk));
	for (unsigned round = 0; round < 4; round++) {
		for (size_t at = 0; at < 128; at += 8) {
			(void)submit_write(scenario, at, 8);
		}
		sim_run_for_ns(
			scenario->world.sim, rng_below(sim_rng(scenario->world.sim), 4000) * 1000);
		lose_power(scenario, B, 300);
		run_ms(scenario, 1000);
		await_whole(scenario);
		read_all_from(scenario, B);
	}
	sim_disk_set_torn_range(node->disk, 0, node->data_offset);
}

/* A read that waits for a repair does not keep the volume from its end. */
static void test_closes_during_repair(struct scenario *scenario)
{
	open_and_write_all(scenario);
	for (unsigned i = 0; i < 3; i++) {
		rot(scenario, i, 8, 8);
		(void)submit(scenario, BLK_READ, 8, 8);
	}
	sim_run_for_ns(scenario->world.sim, rng_below(sim_rng(scenario->world.sim), 4000) * 1000);
	disk_stuck(scenario, A, true);
	close_slot(&scenario->world.slots[0]);
	assert_false(scenario->world.failed);
	disk_sound(scenario, A);
}

/* A write that failed while one member was away, and that the other one cannot read any more when
 * both are there again, but not yet one set: nobody has settled it, for one was not asked. */
static void test_bad_block_while_a_member_returns(struct scenario *scenario)
{
	struct scenario_request *write;

	open_and_write_all(scenario);
	volume_set_no_quorum(scenario_volume(scenario), IO_NS_PER_S);
	cut_off(scenario, A, true, true);
	cut_off(scenario, C, true, true);
	write = submit_write(scenario, 10, 1);
	run_ms(scenario, 100);
	rot(scenario, B, 10, 1);
	run_ms(scenario, 5000);
	assert_int_equal(answer_of(scenario, write), -EIO);
	disk_slow(scenario, A, 50);
	cut_off(scenario, A, false, false);
	run_ms(scenario, 5000);
	disk_sound(scenario, A);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	/* It was tried before A counted again, and once more after that. */
	assert_true(metric_get(&scenario_leg(scenario, B)->unread) > 0);
	read_only_from(scenario, B);
	assert_int_equal(do_read(scenario, 10, 1), 0);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_read_repair)},
		{CASE(test_each_has_a_part)},
		{CASE(test_nobody_has_it)},
		{CASE(test_repair_beside_writes)},
		{CASE(test_disk_gives_nothing)},
		{CASE(test_disk_gives_nothing_but_is_needed)},
		{CASE(test_bad_source)},
		{CASE(test_source_has_lost_it)},
		{CASE(test_lost_block_is_found)},
		{CASE(test_source_gives_single_blocks), .options = {.region_bytes = 1 << 20}},
		{CASE(test_source_gives_nothing)},
		{CASE(test_marks_beside_writes)},
		{CASE(test_no_room_for_marks), .options = {.block_count = 192}},
		{CASE(test_write_beside_what_waits), .options = {.block_count = 192}},
		{CASE(test_bad_block_in_r)},
		{CASE(test_lost_block_in_r)},
		{CASE(test_no_room_for_marks_in_r), .options = {.block_count = 192}},
		{CASE(test_bad_source_and_late_hash)},
		{CASE(test_bad_block_while_a_member_returns), .options = {.data_replicas = 2}},
		{CASE(test_bit_rot)},
		{CASE(test_rot_on_the_source)},
		{CASE(test_misdirected_write)},
		{CASE(test_torn_data_of_one)},
		{CASE(test_closes_during_repair)},
	};

	return scenario_run_all("repair", cases, ARRAY_COUNT(cases));
}
