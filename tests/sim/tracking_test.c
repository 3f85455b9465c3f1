/* SPDX-License-Identifier: Apache-2.0 */
/* What a replica that was away may lack (docs/protocol.md 1.2): checkpoints, dirty maps,
 * windows. */
#include "tests/sim/scenario.h"

#define SECOND_NS IO_NS_PER_S

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static bool all_is_clean(void *ctx)
{
	struct scenario *scenario = ctx;
	struct volume *volume = scenario_volume(scenario);

	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->clean != volume->wgen - 1) {
			return false;
		}
	}
	return volume->wgen == volume->wgen_proposed;
}

static uint64_t clean_on_disk(struct scenario *scenario, unsigned agent)
{
	return store_replica_vmeta(scenario->world.agents[agent].replica)->clean;
}

static uint64_t rebuild_bytes(struct scenario *scenario, unsigned agent)
{
	struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	return status.replicas[agent].rebuild_total_bytes;
}

static uint64_t active_regions(struct scenario *scenario)
{
	return checkpoint_active_regions(scenario_volume(scenario));
}

/* ---- checkpoints ---- */

/* What was written long ago is clean: who comes back after a loss of power lacks only regions that
 * were written since. */
static void test_checkpoint_retires(struct scenario *scenario)
{
	uint64_t wgen;

	open_whole(scenario);
	await(scenario, all_is_clean);
	wgen = scenario_volume(scenario)->wgen;
	write_all(scenario);
	assert_int_equal(active_regions(scenario), 32);
	run_ms(scenario, 3000);
	assert_int_equal(scenario_volume(scenario)->wgen, wgen + 1);
	assert_int_equal(scenario_volume(scenario)->cfg.wgen, wgen + 1);
	assert_int_equal(active_regions(scenario), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(clean_on_disk(scenario, i), wgen);
	}
	/* Nothing more is to be had: no second one. */
	run_ms(scenario, 10000);
	assert_int_equal(scenario_volume(scenario)->wgen, wgen + 1);
	lose_power(scenario, C, 1000);
	assert_int_equal(do_write(scenario, 5, 1), 0);
	run_ms(scenario, 2000);
	await_whole(scenario);
	assert_int_equal(rebuild_bytes(scenario, C), scenario->world.options.region_bytes);
}

/* Regions that are written all the time would only get a new stamp. */
static void test_no_checkpoint_without_benefit(struct scenario *scenario)
{
	uint64_t wgen;

	open_whole(scenario);
	wgen = scenario_volume(scenario)->wgen;
	for (unsigned round = 0; round < 40; round++) {
		for (size_t at = 0; at < 128; at += 4) {
			(void)submit_write(scenario, at, 1);
		}
		scenario->request_count = 0; /* their answers are not looked at */
		run_ms(scenario, 200);
	}
	assert_int_equal(scenario_volume(scenario)->wgen, wgen);
	/* When they are left alone it pays. */
	run_ms(scenario, 3000);
	assert_int_equal(scenario_volume(scenario)->wgen, wgen + 1);
}

static bool is_serving(void *ctx)
{
	return scenario_volume(ctx)->serving;
}

/* 82: a member is away, a target is rebuilt, R is not empty: clean stays. */
static void test_no_checkpoint_while_members_may_differ(struct scenario *scenario)
{
	uint64_t wgen, clean;

	open_whole(scenario);
	await(scenario, all_is_clean);
	wgen = scenario_volume(scenario)->wgen;
	write_all(scenario);
	/* With min_insync 3 it cannot be left out: it stays a member that is not reached. */
	go_away(scenario, C);
	run_ms(scenario, 10000);
	assert_int_equal(scenario_volume(scenario)->wgen, wgen);
	assert_int_equal(clean_on_disk(scenario, A), wgen - 1);
	come_back(scenario, C);
	await_whole(scenario);
	run_ms(scenario, 5000);
	write_all(scenario);
	clean = clean_on_disk(scenario, A);
	nexus_crash(scenario, true);
	await(scenario, is_serving);
	go_away(scenario, C);
	run_ms(scenario, 5000);
	assert_true(scenario_volume(scenario)->resync.count > 0);
	assert_int_equal(clean_on_disk(scenario, A), clean);
	come_back(scenario, C);
}

static bool wgen_is_proposed(void *ctx)
{
	struct volume *volume = scenario_volume(ctx);

	return volume->proposal_open && volume->proposal.wgen > volume->wgen;
}

/* A configuration that follows a proposal carries its wgen; writes meanwhile carry the committed
 * one. */
static void test_wgen_survives_a_failed_proposal(struct scenario *scenario)
{
	struct scenario_request *request;
	uint64_t wgen;

	open_whole(scenario);
	await(scenario, all_is_clean);
	wgen = scenario_volume(scenario)->wgen;
	write_all(scenario);
	cut_off(scenario, C, true, true);
	await(scenario, wgen_is_proposed);
	request = submit_write(scenario, 0, 8);
	assert_int_equal(scenario_volume(scenario)->wgen, wgen);
	assert_int_equal(answer_of(scenario, request), 0);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 2);
	assert_int_equal(scenario_volume(scenario)->wgen, wgen + 1);
	assert_int_equal(clean_on_disk(scenario, C), wgen - 1);
	run_ms(scenario, 1000);
	/* Who is outside of S keeps the clean that it had. */
	assert_int_equal(clean_on_disk(scenario, A), wgen);
	assert_int_equal(clean_on_disk(scenario, C), wgen - 1);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_true(clean_on_disk(scenario, C) >= wgen);
}

/* A checkpoint is nothing until all of S is flushed: power goes before. */
static void test_power_goes_in_a_checkpoint(struct scenario *scenario)
{
	uint64_t wgen;

	open_whole(scenario);
	await(scenario, all_is_clean);
	wgen = scenario_volume(scenario)->wgen;
	write_all(scenario);
	await(scenario, wgen_is_proposed);
	disk_stuck(scenario, B, true);
	run_ms(scenario, 100);
	assert_int_equal(clean_on_disk(scenario, A), wgen - 1);
	lose_power(scenario, C, 200);
	disk_stuck(scenario, B, false);
	await_whole(scenario);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* Single blocks: those of the agent's disk take up to two seconds, what comes after them does not.
 */
static void write_with_one_late(struct scenario *scenario, unsigned agent)
{
	disk_slow(scenario, agent, 1900);
	for (size_t block = 0; block < 8; block++) {
		(void)submit_write(scenario, block, 1);
	}
	run_ms(scenario, 2);
	disk_sound(scenario, agent);
}

static void read_first_from(struct scenario *scenario, unsigned agent)
{
	scenario_volume(scenario)->local_mask = LEG_BIT(scenario_leg(scenario, agent));
	for (size_t block = 0; block < 8; block++) {
		assert_int_equal(do_read(scenario, block, 1), 0);
	}
}

/* The next look comes soon, and a checkpoint is due. */
static void run_until_a_checkpoint_is_near(struct scenario *scenario)
{
	const struct volume *volume = scenario_volume(scenario);

	while (io_now_ns(volume->io) < volume->wgen_since_ns + SECOND_NS - 40 * IO_NS_PER_MS) {
		run_ms(scenario, 10);
	}
}

/* A write of the wgen before is on its way to one member's disk when a checkpoint is committed: its
 * region is not clean, for who opens next must make all equal there. */
static void test_write_outlasts_a_checkpoint(struct scenario *scenario)
{
	struct volume *volume;
	uint64_t wgen;

	open_whole(scenario);
	await(scenario, all_is_clean);
	write_all(scenario);
	run_until_a_checkpoint_is_near(scenario);
	volume = scenario_volume(scenario);
	wgen = volume->wgen;
	write_with_one_late(scenario, B);
	run_ms(scenario, 150);
	assert_int_equal(volume->wgen, wgen + 1);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, B);
	come_back(scenario, B);
	scenario_open(scenario, 1);
	read_first_from(scenario, A);
	read_first_from(scenario, B);
	await_whole(scenario);
}

/* ---- what an absent member lacks ---- */

static bool is_left_out(void *ctx)
{
	struct scenario *scenario = ctx;

	return cfg_insync_count(&scenario_volume(scenario)->cfg) < 3;
}

/* Cut off, not dead: it gets what was written meanwhile, and nothing else of those regions. */
static void test_absence_is_copied_exactly(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	/* Which tells that all of the above is everywhere. */
	assert_int_equal(do_write(scenario, 0, 1), 0);
	cut_off(scenario, C, true, true);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(do_write(scenario, 20 * i, 1), 0);
	}
	assert_true(is_left_out(scenario));
	run_ms(scenario, 5000);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_int_equal(rebuild_bytes(scenario, C), 6 * ORACLE_BLOCK_BYTES);
}

static bool third_is_rebuilt(void *ctx)
{
	struct leg *leg = scenario_leg(ctx, C);

	return leg->target && !leg->todo_all && leg->todo.count < 20;
}

static bool first_is_rebuilt(void *ctx)
{
	struct leg *leg = scenario_leg(ctx, A);

	return leg->target && !leg->todo_all && leg->todo.count < 20;
}

static bool first_has_joined(void *ctx)
{
	return (scenario_volume(ctx)->member_mask & LEG_BIT(scenario_leg(ctx, A))) != 0;
}

/* What was acknowledged before the target joins, and is still on its way to its disk, must be there
 * before it is a member: who opens next may take what it has. */
static void test_write_outlasts_a_rebuild(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, A);
	write_all(scenario);
	disk_slow(scenario, A, 5);
	come_back(scenario, A);
	await(scenario, first_is_rebuilt);
	write_with_one_late(scenario, A);
	await(scenario, first_has_joined);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, A);
	come_back(scenario, A);
	scenario_open(scenario, 1);
	read_first_from(scenario, A);
	await_whole(scenario);
}

/* A target that fails again keeps what was not copied yet, and what is written from then on. */
static void test_target_fails_again(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	/* Which tells that all of the above is everywhere. */
	assert_int_equal(do_write(scenario, 0, 1), 0);
	cut_off(scenario, C, true, true);
	for (size_t at = 0; at < 64; at += 8) {
		assert_int_equal(do_write(scenario, at, 8), 0);
	}
	run_ms(scenario, 5000);
	disk_slow(scenario, C, 20);
	cut_off(scenario, C, false, false);
	await(scenario, third_is_rebuilt);
	assert_int_equal(rebuild_bytes(scenario, C), 64 * ORACLE_BLOCK_BYTES);
	cut_off(scenario, C, true, true);
	for (unsigned i = 0; i < 8; i++) {
		(void)submit_write(scenario, 8 * i, 1);
	}
	assert_int_equal(do_write(scenario, 120, 8), 0);
	run_ms(scenario, 5000);
	disk_sound(scenario, C);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_true(rebuild_bytes(scenario, C) >= 8 * ORACLE_BLOCK_BYTES);
	assert_true(rebuild_bytes(scenario, C) <= (19 + 8 + 8) * ORACLE_BLOCK_BYTES);
}

/* Memory for what was written in one half of the volume: with the other half the stamps decide. */
static void test_absence_forgotten(struct scenario *scenario)
{
	open_whole(scenario);
	cut_off(scenario, C, true, true);
	assert_int_equal(do_write(scenario, 0, 1), 0);
	assert_true(scenario_leg(scenario, C)->dirty.known);
	assert_int_equal(do_write(scenario, 4500, 1), 0);
	assert_false(scenario_leg(scenario, C)->dirty.known);
	assert_int_equal(do_write(scenario, 0, 1), 0);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_int_equal(rebuild_bytes(scenario, C), 2 * scenario->world.options.region_bytes);
}

/* What it had may be gone: the map of what it missed says nothing. */
static void test_absence_and_power(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, C, true, true);
	assert_int_equal(do_write(scenario, 0, 1), 0);
	lose_power(scenario, C, 3000);
	run_ms(scenario, 5000);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_int_equal(rebuild_bytes(scenario, C), 128 * ORACLE_BLOCK_BYTES);
}

/* ---- windows ---- */

static bool windows_are_valid(void *ctx)
{
	struct scenario *scenario = ctx;

	for (unsigned i = 0; i < scenario->world.options.voters; i++) {
		if (!scenario_leg(scenario, i)->resynced ||
			scenario_leg(scenario, i)->resynced_io.busy) {
			return false;
		}
	}
	return true;
}

static void restart_nexus(struct scenario *scenario)
{
	slot_crash(&scenario->world.slots[0], true);
	slot_open(&scenario->world.slots[0], 1);
	await(scenario, is_serving);
}

/* A nexus that is started again copies what was under way, not what was ever written. */
static void test_restart_by_windows(struct scenario *scenario)
{
	open_whole(scenario);
	await(scenario, windows_are_valid);
	write_all(scenario);
	(void)submit_write(scenario, 3, 2);
	(void)submit_write(scenario, 70, 3);
	run_ms(scenario, 1);
	restart_nexus(scenario);
	assert_true(scenario_volume(scenario)->scan_windows);
	/* The two, and what was not known to be everywhere when the last command was sent. */
	assert_true(scenario_volume(scenario)->resync.count <= 2 + 3 + 8);
	await_whole(scenario);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 80: a pool-agent was started anew in between: it does not know, the stamps decide. */
static void test_restarts_of_both(struct scenario *scenario)
{
	open_whole(scenario);
	await(scenario, windows_are_valid);
	write_all(scenario);
	slot_crash(&scenario->world.slots[0], true);
	go_away(scenario, B);
	come_back(scenario, B);
	slot_open(&scenario->world.slots[0], 1);
	await(scenario, is_serving);
	assert_false(scenario_volume(scenario)->scan_windows);
	assert_int_equal(scenario_volume(scenario)->resync.count, 128);
	await_whole(scenario);
	/* And once more: R is empty, the windows count again. */
	await(scenario, windows_are_valid);
	restart_nexus(scenario);
	assert_true(scenario_volume(scenario)->scan_windows);
	assert_true(scenario_volume(scenario)->resync.count <= 8);
}

/* A member that was started anew, while others have not answered what it answered before: its
 * window counts only when that is settled. */
static void test_restarted_member(struct scenario *scenario)
{
	open_whole(scenario);
	await(scenario, windows_are_valid);
	write_all(scenario);
	cut_off(scenario, B, true, false);
	(void)submit_write(scenario, 3, 2);
	run_ms(scenario, 20);
	go_away(scenario, A);
	come_back(scenario, A);
	run_ms(scenario, 1200);
	assert_true(scenario_leg(scenario, A)->ready);
	assert_false(scenario_leg(scenario, A)->resynced);
	cut_off(scenario, B, false, false);
	await(scenario, windows_are_valid);
	restart_nexus(scenario);
	assert_true(scenario_volume(scenario)->scan_windows);
}

/* Two takeovers in a row before R is copied: what the first one found is found again. */
static void test_two_takeovers_in_r(struct scenario *scenario)
{
	open_whole(scenario);
	await(scenario, windows_are_valid);
	write_all(scenario);
	for (unsigned round = 0; round < 4; round++) {
		cut_off(scenario, round % 3, true, false);
		(void)submit_write(scenario, 30 * round, 8);
		run_ms(scenario, 2);
		slot_crash(&scenario->world.slots[scenario->writer], false);
		sim_heal_all(scenario->world.sim);
		scenario_open(scenario, 1 - scenario->writer);
		await(scenario, is_serving);
		assert_true(scenario_volume(scenario)->scan_windows);
	}
	for (unsigned round = 0; round < 4; round++) {
		assert_int_equal(do_read(scenario, 30 * round, 8), 0);
	}
}

/* The window of a replica with four entries overflows; it is valid again after a checkpoint. */
static void test_window_overflows(struct scenario *scenario)
{
	open_whole(scenario);
	await(scenario, windows_are_valid);
	for (unsigned i = 0; i < 12; i++) {
		(void)submit_write(scenario, 10 * i, 1);
	}
	run_ms(scenario, 100);
	restart_nexus(scenario);
	assert_false(scenario_volume(scenario)->scan_windows);
	await_whole(scenario);
	await(scenario, windows_are_valid);
	for (unsigned i = 0; i < 12; i++) {
		(void)submit_write(scenario, 10 * i, 1);
	}
	run_ms(scenario, 5000);
	await(scenario, windows_are_valid);
	restart_nexus(scenario);
	assert_true(scenario_volume(scenario)->scan_windows);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_checkpoint_retires), .options = {.checkpoint_ns = SECOND_NS}},
		{CASE(test_no_checkpoint_without_benefit), .options = {.checkpoint_ns = SECOND_NS}},
		{CASE(test_no_checkpoint_while_members_may_differ),
			.options = {.checkpoint_ns = SECOND_NS, .min_insync = 3}},
		{CASE(test_wgen_survives_a_failed_proposal),
			.options = {.checkpoint_ns = SECOND_NS}},
		{CASE(test_power_goes_in_a_checkpoint), .options = {.checkpoint_ns = SECOND_NS}},
		{CASE(test_write_outlasts_a_checkpoint), .options = {.checkpoint_ns = SECOND_NS}},
		{CASE(test_write_outlasts_a_rebuild)},
		{CASE(test_absence_is_copied_exactly)},
		{CASE(test_target_fails_again)},
		{CASE(test_absence_forgotten),
			.options = {.dirty_bytes = DIRTY_PAGE_BYTES, .block_count = 5000}},
		{CASE(test_absence_and_power)},
		{CASE(test_restart_by_windows)},
		{CASE(test_restarts_of_both)},
		{CASE(test_restarted_member)},
		{CASE(test_two_takeovers_in_r)},
		{CASE(test_window_overflows),
			.options = {.window_entries = 4, .checkpoint_ns = SECOND_NS}},
	};

	return scenario_run_all("tracking", cases, ARRAY_COUNT(cases));
}
