/* SPDX-License-Identifier: Apache-2.0 */
/* Guards of clean, todo and windows that only rare histories need (docs/invariants.md). */
#include "tests/sim/scenario_voters.h"

static bool windows_are_valid(void *ctx)
{
	struct scenario *scenario = ctx;

	for (unsigned i = 0; i < 3; i++) {
		if (!scenario_leg(scenario, i)->resynced ||
			scenario_leg(scenario, i)->resynced_io.busy) {
			return false;
		}
	}
	return true;
}

static bool is_serving(void *scenario)
{
	return scenario_volume(scenario)->serving;
}

static bool is_clean(void *ctx)
{
	struct volume *volume = scenario_volume(ctx);

	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->clean != volume->wgen - 1) {
			return false;
		}
	}
	return volume->wgen == volume->wgen_proposed;
}

static bool checkpoint_is_committed(void *ctx)
{
	return !is_clean(ctx) && scenario_volume(ctx)->wgen == scenario_volume(ctx)->wgen_proposed;
}

static bool c_is_out(void *scenario)
{
	return scenario_leg(scenario, C)->out;
}

/* C loses what was written after it accepted a checkpoint, just before all are flushed.  It is out,
 * but in S, and its rebuild is not begun yet, as it had one a moment ago: what it was told to be
 * clean then would not be copied to it when it is fenced anew. */
static void test_clean_beside_one_that_is_out(struct scenario *scenario)
{
	struct volume *volume;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_INSYNC);
	volume = scenario_volume(scenario);
	volume_set_min_insync(volume, 3);
	volume->checkpoint_pays = true;
	task_wake(&volume->checkpoint_task);
	await(scenario, is_proposing);
	disk_slow(scenario, A, 40);
	run_ms(scenario, 5); /* C has accepted it, and flushed what it had */
	assert_int_equal(do_write(scenario, 96, 8), 0);
	assert_true(is_proposing(scenario));
	disk_sound(scenario, A);
	await(scenario, checkpoint_is_committed);
	lose_power(scenario, C, 20);
	await(scenario, c_is_out);
	run_ms(scenario, 150);
	assert_true(c_is_out(scenario) && !scenario_leg(scenario, C)->target);
	go_away(scenario, C);
	come_back(scenario, C);
	await_whole(scenario);
}

/* B loses power after a checkpoint.  What it wrote before it accepted that is flushed then; what it
 * wrote afterwards, with the older wgen, must be before it is called clean: it is not copied again.
 */
static void test_clean_is_flushed(struct scenario *scenario)
{
	struct volume *volume;

	open_whole(scenario);
	write_all(scenario);
	await(scenario, is_clean);
	volume = scenario_volume(scenario);
	volume->checkpoint_pays = true;
	task_wake(&volume->checkpoint_task);
	await(scenario, is_proposing);
	disk_slow(scenario, A, 40);
	run_ms(scenario, 5);
	assert_int_equal(do_write(scenario, 96, 8), 0);
	assert_true(is_proposing(scenario));
	disk_sound(scenario, A);
	await(scenario, checkpoint_is_committed);
	await(scenario, is_clean);
	lose_power(scenario, B, 200);
	run_ms(scenario, 100);
	assert_int_equal(do_write(scenario, 0, 1), 0);
	await_replica(scenario, B, REPLICA_REBUILDING);
	await_whole(scenario);
}

static bool target_is_asked(void *scenario)
{
	return scenario_leg(scenario, C)->compute_state == COMPUTE_AWAIT_TARGET;
}

/* What a rebuild has to copy is computed from A, which lacks a write that B has.  A cannot be
 * read then, and R is copied from B while the target is asked for its stamps. */
static void test_source_of_R_changes(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario); /* or A reads a hole, which no disk refuses */
	nexus_crash(scenario, true);
	await_whole(scenario);
	await(scenario, is_clean);
	await(scenario, windows_are_valid);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	cut_off(scenario, A, true, false);
	(void)submit_write(scenario, 96, 8);
	run_ms(scenario, 2);
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	come_back(scenario, C);
	scenario_open(scenario, 1);
	await(scenario, is_serving);
	sim_disk_set_faults(
		scenario->world.agents[A].disk, &(struct sim_disk_faults){.read_error_percent = 100,
							.slow_percent = 100,
							.slow_max_ns = 15 * IO_NS_PER_MS});
	await(scenario, target_is_asked);
	assert_true(scenario_volume(scenario)->resync.count > 0);
	freeze(scenario, C, 1500);
	run_ms(scenario, 1400);
	assert_true(scenario_volume(scenario)->resync.count == 0 && target_is_asked(scenario));
	disk_sound(scenario, A);
	await_whole(scenario);
}

/* A write that ended in an error is on A alone: while it is not settled the window of A must keep
 * it, whatever is written then. */
static void test_settled_beside_a_failed_write(struct scenario *scenario)
{
	struct scenario_request *write;

	open_whole(scenario);
	await(scenario, windows_are_valid);
	volume_set_no_quorum(scenario_volume(scenario), 3 * IO_NS_PER_S);
	cut_off(scenario, B, true, true);
	write = submit_write(scenario, 0, 8);
	assert_int_not_equal(answer_of(scenario, write), 0);
	for (unsigned i = 0; i < 3; i++) {
		disk_slow(scenario, i, 2000);
	}
	sim_heal_all(scenario->world.sim);
	while (scenario_volume(scenario)->failing) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_true(scenario_volume(scenario)->resync.count > 0);
	(void)submit_write(scenario, 96, 8);
	(void)submit_write(scenario, 64, 8);
	run_ms(scenario, 5);
	assert_true(scenario_volume(scenario)->resync.count > 0);
	slot_crash(&scenario->world.slots[0], false);
	for (unsigned i = 0; i < 3; i++) {
		disk_sound(scenario, i);
	}
	scenario_open(scenario, 1);
	await(scenario, is_serving);
	assert_true(scenario_volume(scenario)->scan_windows);
	await_whole(scenario);
}

static bool a_has_first_piece(void *scenario)
{
	const struct leg *leg = scenario_leg(scenario, A);

	return leg->layers.state == LAYERS_AWAIT_WRITTEN && leg->layers.offset > 0;
}

/* A cannot be left out of S, and is being made what the volume was at a snapshot, when B loses its
 * power, too, and the nexus ends: of the two, none has the power with which it was counted in. (The
 * opener leaves A out, and A would refuse: this fails without both.) */
static void test_all_lost_power_and_one_is_rebuilt(struct scenario *scenario)
{
	struct slot *slot = &scenario->world.slots[0];

	open_whole(scenario);
	go_away(scenario, C);
	write_all(scenario);
	slot_snapshot(slot, &(struct uuid){.b = {0x51}});
	while (slot->snapshotting) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_int_equal(slot->snapshot.result, 0);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(do_flush(scenario), 0);
	run_ms(scenario, 500);
	image_lose(&scenario->world.agents[A], 1); /* as if its RESOLVE had not come through */
	lose_power(scenario, A, 100);
	await(scenario, a_has_first_piece);
	slot_crash(slot, false);
	lose_power(scenario, B, 100);
	scenario_open(scenario, 1);
	await(scenario, is_serving);
	scenario_volume(scenario)->local_mask = LEG_BIT(scenario_leg(scenario, A));
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, C);
	await_whole(scenario);
}

static bool c_has_accepted(void *ctx)
{
	const struct node_agent *node = &((struct scenario *)ctx)->world.agents[C];
	int at = cfg_find(&node->seen.cfg, &node->replica_id);

	return node->seen.cfg.voters[at].insync && !node->seen.rebuilding;
}

static bool c_is_rebuilt_again(void *scenario)
{
	return ((struct scenario *)scenario)->world.agents[C].seen.rebuilding;
}

/* C takes the place of B, has accepted that and fails before A does: with too few others it is
 * rebuilt again, with itself in the newest S and the power of which that tells.  A has lost its
 * power when the next one opens: it is to begin with A, and not to wait for C, which refuses. */
static void test_rebuilt_member_kept_its_power(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	assert_int_equal(do_flush(scenario), 0);
	disk_slow(scenario, C, 10);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	go_away(scenario, B);
	(void)submit_write(scenario, 0, 8);
	await(scenario, c_has_accepted);
	leg_fail(scenario_leg(scenario, C), "the test wants it");
	await(scenario, c_is_rebuilt_again);
	slot_crash(&scenario->world.slots[0], false);
	lose_power(scenario, A, 100);
	scenario_open(scenario, 1);
	await(scenario, is_serving);
	come_back(scenario, B);
	await_whole(scenario);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_clean_beside_one_that_is_out), .options = {.min_insync = 2}},
		{CASE(test_clean_is_flushed)},
		{CASE(test_source_of_R_changes), .options = {.min_insync = 2}},
		{CASE(test_settled_beside_a_failed_write), .options = {.min_insync = 3}},
		{CASE(test_all_lost_power_and_one_is_rebuilt), .options = {.snapshots = 1}},
		{CASE(test_rebuilt_member_kept_its_power)},
	};

	return scenario_run_all("guards", cases, ARRAY_COUNT(cases));
}
