/* SPDX-License-Identifier: Apache-2.0 */
/* Comparison by hashes before anything is copied (docs/protocol.md 1.8). */
#include "tests/sim/scenario.h"

#define SECOND_NS IO_NS_PER_S
#define BLOCK     ORACLE_BLOCK_BYTES

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static uint64_t copied_to(struct scenario *scenario, unsigned agent)
{
	return metric_get(&scenario_leg(scenario, agent)->copied_bytes);
}

static uint64_t compared_on(struct scenario *scenario, unsigned agent)
{
	return metric_get(&scenario_leg(scenario, agent)->compared_bytes);
}

static uint64_t equal_on(struct scenario *scenario, unsigned agent)
{
	return metric_get(&scenario_leg(scenario, agent)->equal_bytes);
}

static uint64_t stamp_on(struct scenario *scenario, unsigned agent, size_t block)
{
	return store_replica_stamp(scenario->world.agents[agent].replica,
		block * BLOCK / scenario->world.options.region_bytes);
}

static uint64_t clean_on(struct scenario *scenario, unsigned agent)
{
	return store_replica_vmeta(scenario->world.agents[agent].replica)->clean;
}

static void discard(struct scenario *scenario, size_t first, size_t count)
{
	assert_int_equal(answer_of(scenario, submit(scenario, BLK_DISCARD, first, count)), 0);
}

static void write_each(struct scenario *scenario)
{
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		scenario->request_count = 0; /* its answer was looked at */
		assert_int_equal(do_write(scenario, at, OP_BLOCKS_MAX), 0);
	}
}

/* A copier is comparing for that target. */
static bool is_compared(struct scenario *scenario, unsigned agent)
{
	struct volume *volume = scenario_volume(scenario);

	for (unsigned i = 0; i < COPIERS; i++) {
		const struct copier *copier = &volume->copiers[i];

		if (copier->state == COPY_AWAIT_COMPARED &&
			copier->target == (int)scenario_leg(scenario, agent)->index) {
			return true;
		}
	}
	return false;
}

static bool third_is_compared(void *ctx)
{
	return is_compared(ctx, C);
}

/* ---- what is moved ---- */

/* After a restart of a pool-agent whole regions are compared, and runs of blocks that differ are
 * copied: at the ends of a piece, in its middle, more than one of them, all of it. */
static void test_only_what_differs_moves(struct scenario *scenario)
{
	static const struct {
		unsigned first, count;
	} runs[] = {{0, 1}, {3, 1}, {37, 2}, {128, 8}, {300, 1}, {302, 2}};
	struct volume_status status;
	uint64_t written = 0;

	open_whole(scenario);
	write_each(scenario);
	go_away(scenario, C);
	for (unsigned i = 0; i < ARRAY_COUNT(runs); i++) {
		assert_int_equal(do_write(scenario, runs[i].first, runs[i].count), 0);
		written += runs[i].count * BLOCK;
	}
	come_back(scenario, C);
	await_whole(scenario);
	assert_int_equal(copied_to(scenario, C), written);
	assert_true(compared_on(scenario, C) >= 2 * scenario->world.options.region_bytes);
	assert_int_equal(equal_on(scenario, C), compared_on(scenario, C) - written);
	assert_true(slot_status(&scenario->world.slots[0], &status));
	assert_int_equal(status.replicas[C].rebuild_copied_bytes, written);
	assert_int_equal(status.replicas[C].rebuild_compared_bytes, compared_on(scenario, C));
	assert_int_equal(status.replicas[C].rebuild_equal_bytes, equal_on(scenario, C));
	/* Those of the next one begin anew. */
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 40, 1), 0);
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(slot_status(&scenario->world.slots[0], &status));
	assert_int_equal(status.replicas[C].rebuild_copied_bytes, BLOCK);
}

/* What it never had is not looked for. */
static void test_new_replica_is_not_compared(struct scenario *scenario)
{
	go_away(scenario, C);
	scenario_open(scenario, 0);
	await_replica(scenario, A, REPLICA_INSYNC);
	write_each(scenario);
	come_back(scenario, C);
	await_whole(scenario);
	assert_int_equal(compared_on(scenario, C), 0);
	assert_true(copied_to(scenario, C) > 0);
}

/* An exact map says what was written: it is not looked at again. */
static void test_exact_map_is_not_compared(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	cut_off(scenario, C, true, true);
	assert_int_equal(do_write(scenario, 20, 8), 0);
	run_ms(scenario, 5000);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_int_equal(compared_on(scenario, C), 0);
	assert_true(copied_to(scenario, C) >= 8 * BLOCK);
}

/* A target whose rebuild by stamps is cut short keeps its todo, and what is in there may still be
 * equal. */
static void test_cut_short(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 500, 4), 0);
	come_back(scenario, C);
	disk_slow(scenario, C, 20);
	await(scenario, third_is_compared);
	cut_off(scenario, C, true, true);
	run_ms(scenario, 5000);
	disk_sound(scenario, C);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_true(copied_to(scenario, C) <= 8 * BLOCK);
}

/* An agent that does not know the command: everything is copied. */
static void test_agent_without_hashes(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 20, 8), 0);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	scenario_leg(scenario, C)->no_hashes = true;
	await_whole(scenario);
	assert_true(copied_to(scenario, C) >= scenario->world.options.region_bytes);
}

/* What is a hole at the source is one at the target, whatever was there. */
static void test_holes(struct scenario *scenario)
{
	uint64_t used;

	open_whole(scenario);
	write_each(scenario);
	go_away(scenario, C);
	discard(scenario, 0, 8);
	discard(scenario, 8, 8);
	/* A part of a piece: zeros, in the place of what was there. */
	discard(scenario, 33, 2);
	come_back(scenario, C);
	await_whole(scenario);
	used = store_replica_used_bytes(scenario->world.agents[A].replica);
	assert_int_equal(store_replica_used_bytes(scenario->world.agents[C].replica), used);
	assert_int_equal(copied_to(scenario, C), 0);
}

static bool is_serving(void *ctx)
{
	return scenario_volume(ctx)->serving;
}

/* R by stamps: members that are equal get nothing written. */
static void test_equal_members(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	assert_int_equal(do_flush(scenario), 0);
	slot_crash(&scenario->world.slots[0], true);
	go_away(scenario, B);
	come_back(scenario, B);
	slot_open(&scenario->world.slots[0], 1);
	await(scenario, is_serving);
	assert_false(scenario_volume(scenario)->scan_windows);
	assert_true(scenario_volume(scenario)->resync.count > 16);
	await_whole(scenario);
	for (unsigned i = A; i <= C; i++) {
		assert_int_equal(metric_get(&scenario_leg(scenario, i)->writes), 0);
	}
}

/* ---- stamps ---- */

/*
 * 47: what A missed is on B, and on C by comparison, not by a copy: a zero became a value, which A
 * keeps, and a zero again, which C had all the time.  When A is rebuilt from C, C's stamp must
 * tell. (The fourth one votes.)
 */
static void test_third_rejoins_from_the_equal_one(struct scenario *scenario)
{
	uint64_t value_stamp;

	open_whole(scenario);
	assert_int_equal(do_write(scenario, 100, 1), 0);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 8, 4), 0);
	value_stamp = stamp_on(scenario, A, 8);
	run_ms(scenario, 5000);
	assert_true(clean_on(scenario, A) >= value_stamp);
	go_away(scenario, A);
	discard(scenario, 8, 4);
	assert_true(stamp_on(scenario, B, 8) > value_stamp);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_INSYNC);
	assert_int_equal(equal_on(scenario, C), compared_on(scenario, C));
	assert_int_equal(stamp_on(scenario, C, 8), stamp_on(scenario, B, 8));
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 101, 1), 0);
	come_back(scenario, A);
	await_replica(scenario, A, REPLICA_INSYNC);
	come_back(scenario, B);
	await_whole(scenario);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(do_read(scenario, 8, 4), 0);
	}
}

/* The other way round: the target has a stamp of its own that nobody else got. */
static void test_target_has_the_higher_stamp(struct scenario *scenario)
{
	uint64_t stamp;

	open_whole(scenario);
	assert_int_equal(do_write(scenario, 100, 1), 0);
	run_ms(scenario, 3000);
	cut_off(scenario, A, true, true);
	cut_off(scenario, B, true, true);
	(void)submit(scenario, BLK_ZERO, 8, 4);
	run_ms(scenario, 20);
	stamp = stamp_on(scenario, C, 8);
	assert_true(stamp > stamp_on(scenario, A, 8));
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	go_away(scenario, C);
	scenario_open(scenario, 1);
	await_replica(scenario, A, REPLICA_INSYNC);
	assert_int_equal(do_write(scenario, 100, 1), 0);
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(stamp_on(scenario, A, 8) >= stamp);
	assert_true(stamp_on(scenario, C, 8) >= stamp);
}

/* ---- while it is compared ---- */

/* The host writes what is just being compared. */
static void test_write_while_comparing(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	for (unsigned round = 0; round < 3; round++) {
		go_away(scenario, C);
		assert_int_equal(do_write(scenario, 8 * round, 1), 0);
		run_ms(scenario, 3000);
		come_back(scenario, C);
		disk_slow(scenario, C, 5);
		await(scenario, third_is_compared);
		scenario->request_count = 0;
		for (unsigned i = 0; i < 40 && scenario_leg(scenario, C)->target; i++) {
			const struct volume *volume = scenario_volume(scenario);

			for (unsigned j = 0; j < COPIERS; j++) {
				const struct copier *copier = &volume->copiers[j];

				if (copier->state == COPY_AWAIT_COMPARED &&
					scenario->request_count < SCENARIO_REQUESTS - 2) {
					(void)submit_write(scenario, copier->offset / BLOCK, 1);
				}
			}
			run_ms(scenario, 2);
		}
		disk_sound(scenario, C);
		await_whole(scenario);
		scenario->request_count = 0;
	}
}

static void test_source_dies_while_comparing(struct scenario *scenario)
{
	unsigned source;

	open_whole(scenario);
	write_each(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 20, 4), 0);
	come_back(scenario, C);
	disk_slow(scenario, A, 20);
	disk_slow(scenario, B, 20);
	await(scenario, third_is_compared);
	source = scenario_volume(scenario)->copiers[0].source == 0 ? A : B;
	go_away(scenario, source);
	disk_sound(scenario, A);
	disk_sound(scenario, B);
	await_replica(scenario, C, REPLICA_INSYNC);
	come_back(scenario, source);
	await_whole(scenario);
	assert_true(copied_to(scenario, C) <= 8 * BLOCK);
}

static void test_target_dies_while_comparing(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	for (unsigned round = 0; round < 3; round++) {
		go_away(scenario, C);
		assert_int_equal(do_write(scenario, 20 * round, 4), 0);
		come_back(scenario, C);
		disk_slow(scenario, C, 10);
		await(scenario, third_is_compared);
		run_ms(scenario, 7 * round);
		go_away(scenario, C);
		disk_sound(scenario, C);
		come_back(scenario, C);
		await_whole(scenario);
	}
}

static void test_nexus_dies_while_comparing(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	for (unsigned round = 0; round < 3; round++) {
		go_away(scenario, C);
		assert_int_equal(do_write(scenario, 20 * round, 4), 0);
		come_back(scenario, C);
		disk_slow(scenario, C, 10);
		await(scenario, third_is_compared);
		run_ms(scenario, 7 * round);
		nexus_crash(scenario, true);
		disk_sound(scenario, C);
		await_whole(scenario);
	}
}

/* ---- blocks that cannot be read ---- */

static void make_unreadable(
	struct scenario *scenario, unsigned agent, uint64_t from, uint64_t length)
{
	struct node_agent *node = &scenario->world.agents[agent];

	sim_disk_set_unreadable(node->disk, node->data_offset + from, length, true);
}

/* The target's are written, as if nothing had been compared. */
static void test_target_cannot_be_read(struct scenario *scenario)
{
	open_whole(scenario);
	write_each(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 20, 4), 0);
	make_unreadable(scenario, C, 0, scenario->world.agents[C].data_bytes / 2);
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(copied_to(scenario, C) > 4 * BLOCK);
	scenario_volume(scenario)->local_mask = LEG_BIT(scenario_leg(scenario, C));
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		assert_int_equal(do_read(scenario, at, OP_BLOCKS_MAX), 0);
	}
	assert_int_equal(metric_get(&scenario_leg(scenario, C)->repairs), 0);
}

#define CASE(function) .name = #function, .run = function
#define LARGE          .block_count = 1024, .pool_bytes = UINT64_C(16) << 20, .region_bytes = 1 << 20
#define ONE            .min_insync = 1, .checkpoint_ns = SECOND_NS

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_only_what_differs_moves), .options = {LARGE}},
		{CASE(test_new_replica_is_not_compared)},
		{CASE(test_exact_map_is_not_compared), .options = {LARGE}},
		{CASE(test_cut_short), .options = {LARGE}},
		{CASE(test_agent_without_hashes), .options = {LARGE}},
		{CASE(test_holes), .options = {LARGE}},
		{CASE(test_equal_members)},
		{CASE(test_third_rejoins_from_the_equal_one), .options = {ONE, .data_replicas = 4}},
		{CASE(test_target_has_the_higher_stamp), .options = {ONE}},
		{CASE(test_write_while_comparing)},
		{CASE(test_source_dies_while_comparing), .options = {LARGE}},
		{CASE(test_target_dies_while_comparing)},
		{CASE(test_nexus_dies_while_comparing)},
		{CASE(test_target_cannot_be_read)},
	};

	return scenario_run_all("compare", cases, ARRAY_COUNT(cases));
}
