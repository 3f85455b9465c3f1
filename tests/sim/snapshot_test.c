/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots (docs/protocol.md 1.10), step by step; snapshots.c judges every configuration. */
#include "tests/sim/scenario.h"

#include <errno.h>
#include <string.h>

#define PAUSE_MAX_NS (1050 * IO_NS_PER_MS) /* 1 s, and what a step of the world may take */

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static struct slot *slot_of(struct scenario *scenario)
{
	return &scenario->world.slots[scenario->writer];
}

static struct snapshotter *snapshotter_of(struct scenario *scenario)
{
	return &scenario_volume(scenario)->snapshotter;
}

static const struct cfg *cfg_of(struct scenario *scenario)
{
	return &scenario_volume(scenario)->cfg;
}

static struct uuid id_of(uint8_t number)
{
	return (struct uuid){.b = {[0] = 0x51, [15] = number}};
}

static void begin_snapshot(struct scenario *scenario, uint8_t id)
{
	struct uuid uuid = id_of(id);

	slot_snapshot(slot_of(scenario), &uuid);
}

static int snapshot_result(struct scenario *scenario)
{
	const struct slot *slot = slot_of(scenario);

	while (slot->snapshotting) {
		assert_true(sim_step(scenario->world.sim));
	}
	return slot->snapshot.result;
}

static int snapshot(struct scenario *scenario, uint8_t id)
{
	begin_snapshot(scenario, id);
	return snapshot_result(scenario);
}

static uint64_t number_made(struct scenario *scenario)
{
	return slot_of(scenario)->snapshot.number;
}

static const struct image *image_on(struct scenario *scenario, unsigned agent, uint64_t number)
{
	return image_find(&scenario->world.agents[agent], number);
}

static bool has_kept(struct scenario *scenario, unsigned agent, uint64_t number)
{
	const struct image *image = image_on(scenario, agent, number);

	return image != NULL && image->kept && image->durable;
}

static bool all_kept_last(void *ctx)
{
	struct scenario *scenario = ctx;

	for (unsigned i = 0; i < 3; i++) {
		if (!has_kept(scenario, i, cfg_of(scenario)->snap_seq)) {
			return false;
		}
	}
	return true;
}

/* Somebody has anything that no configuration has. */
static bool has_leftovers(struct scenario *scenario)
{
	for (unsigned i = 0; i < 3; i++) {
		if (image_on(scenario, i, cfg_of(scenario)->snap_seq + 1) != NULL) {
			return true;
		}
	}
	return false;
}

static bool nothing_is_left(void *ctx)
{
	return !has_leftovers(ctx);
}

/* From the moment when host writes are stopped until they go on. */
static uint64_t pause_ns(struct scenario *scenario)
{
	uint64_t from_ns;

	while (!snapshotter_of(scenario)->stops) {
		assert_true(sim_step(scenario->world.sim));
	}
	from_ns = sim_now_ns(scenario->world.sim);
	while (snapshotter_of(scenario)->stops) {
		assert_true(sim_step(scenario->world.sim));
	}
	return sim_now_ns(scenario->world.sim) - from_ns;
}

static bool is_prepared_on_all(void *ctx)
{
	struct scenario *scenario = ctx;

	for (unsigned i = 0; i < 3; i++) {
		if (image_on(scenario, i, 1) == NULL) {
			return false;
		}
	}
	return true;
}

static bool is_prepared_somewhere(void *ctx)
{
	return has_leftovers(ctx);
}

static bool is_proposed(void *ctx)
{
	const struct volume *volume = scenario_volume(ctx);

	return volume->proposal_open && volume->proposal.snap_seq == 1;
}

/* ---- the plain ways ---- */

static void test_snapshot(struct scenario *scenario)
{
	uint32_t gen;

	open_whole(scenario);
	write_all(scenario);
	gen = cfg_of(scenario)->gen;
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(number_made(scenario), 1);
	assert_int_equal(slot_of(scenario)->snapshot.copies, 3);
	assert_true(slot_of(scenario)->snapshot.ready);
	assert_int_equal(cfg_of(scenario)->gen, gen + 1);
	write_all(scenario);
	await(scenario, all_kept_last);
	/* Again with the same id: it is there. */
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(number_made(scenario), 1);
	assert_int_equal(cfg_of(scenario)->gen, gen + 1);
	assert_int_equal(snapshot(scenario, 2), 0);
	assert_int_equal(number_made(scenario), 2);
	await(scenario, all_kept_last);
	/* Also that of one before the last. */
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(number_made(scenario), 1);
	assert_int_equal(cfg_of(scenario)->snap_seq, 2);
	await(scenario, nothing_is_left);
	await_whole(scenario);
}

/* What a write that is under way leaves is in all images or in none. */
static void test_under_load(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned i = 0; i < 200; i++) {
		(void)submit_write(scenario, i * 5 % 120, 8);
		if (i % 40 == 20) {
			begin_snapshot(scenario, (uint8_t)i);
		}
		run_ms(scenario, 1);
		if (i % 40 == 39) {
			assert_int_equal(snapshot_result(scenario), 0);
		}
	}
	assert_int_equal(cfg_of(scenario)->snap_seq, 5);
	await_whole(scenario);
}

/* A pool without snapshots: it is said before anything is stopped. */
static void test_format_0(struct scenario *scenario)
{
	const char *text = slot_of(scenario)->snapshot.err.text;
	uint32_t gen;

	open_whole(scenario);
	gen = cfg_of(scenario)->gen;
	assert_int_equal(snapshot(scenario, 1), -EOPNOTSUPP);
	assert_non_null(strstr(text, "needs pool format 1"));
	assert_non_null(strstr(text, "replica "));
	assert_non_null(strstr(text, "of pool "));
	assert_int_equal(snapshotter_of(scenario)->attempt, 0);
	assert_int_equal(cfg_of(scenario)->gen, gen);
	write_all(scenario);
}

static void test_survives_all_loss_of_power(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	for (unsigned i = 0; i < 3; i++) {
		lose_power(scenario, i, 500);
	}
	run_ms(scenario, 4000);
	slot_crash(slot_of(scenario), false);
	scenario_open(scenario, 1);
	await_whole(scenario);
	assert_int_equal(cfg_of(scenario)->snap_seq, 1);
	await(scenario, all_kept_last);
}

/* ---- 56: a member fails in PREPARE ---- */

static void disk_unreadable(struct scenario *scenario, unsigned agent)
{
	sim_disk_set_faults(scenario->world.agents[agent].disk,
		&(struct sim_disk_faults){.read_error_percent = 100});
}

/* The others are enough: it leaves S, and gets the snapshot with its rebuild. */
static void test_member_fails_in_prepare(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	disk_unreadable(scenario, B);
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(slot_of(scenario)->snapshot.copies, 2);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 2);
	assert_null(image_on(scenario, B, 1));
	disk_sound(scenario, B);
	await_whole(scenario);
	assert_true(has_kept(scenario, B, 1));
}

/* They are not: nothing is made, nothing is left, nobody is dropped. */
static void test_member_that_is_needed_fails_in_prepare(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	disk_unreadable(scenario, B);
	assert_int_equal(snapshot(scenario, 1), -EAGAIN);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 3);
	disk_sound(scenario, B);
	await(scenario, nothing_is_left);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(cfg_of(scenario)->snap_seq, 0);
	assert_int_equal(snapshot(scenario, 1), 0);
	await_whole(scenario);
}

/* ---- 57: the nexus dies between PREPARE and the commit ---- */

static void test_nexus_dies_after_prepare(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	begin_snapshot(scenario, 1);
	await(scenario, is_prepared_on_all);
	nexus_crash(scenario, true);
	await_whole(scenario);
	await(scenario, cfg_of(scenario)->snap_seq == 0 ? nothing_is_left : all_kept_last);
	/* Whatever became of it, asking again is what there is to do. */
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(number_made(scenario), 1);
	await(scenario, all_kept_last);
	await_whole(scenario);
}

static void test_nexus_dies_in_the_commit(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	begin_snapshot(scenario, 1);
	await(scenario, is_proposed);
	for (unsigned i = 0; i < 40 * scenario->world.options.seed; i++) {
		(void)sim_step(scenario->world.sim);
	}
	slot_crash(slot_of(scenario), false);
	scenario_open(scenario, 1);
	await_whole(scenario);
	write_all(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(number_made(scenario), 1);
	await(scenario, all_kept_last);
}

/* Proposed to one voter; an opener does not reach it, and dies before its own configuration is
 * committed; the next one finds the snapshot. */
static void test_opener_dies_before_its_commit(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	begin_snapshot(scenario, 1);
	await(scenario, is_proposed);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	run_ms(scenario, 100);
	slot_crash(slot_of(scenario), false);
	sim_heal_all(scenario->world.sim);
	go_away(scenario, A);
	scenario_open(scenario, 1);
	while (!scenario_volume(scenario)->electing) {
		assert_true(sim_step(scenario->world.sim));
	}
	slot_crash(slot_of(scenario), false);
	agent_start(&scenario->world.agents[A]);
	run_ms(scenario, 500);
	scenario_open(scenario, 2);
	await_whole(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(number_made(scenario), 1);
	await(scenario, all_kept_last);
}

/* What a pool-agent has only PREPARED may be gone with its process, though its disk kept power. */
static void test_agent_restarts_after_prepare(struct scenario *scenario)
{
	int result;

	open_whole(scenario);
	write_all(scenario);
	begin_snapshot(scenario, 1);
	await(scenario, is_prepared_on_all);
	agent_crash(&scenario->world.agents[B], 10 * IO_NS_PER_MS);
	result = snapshot_result(scenario);
	assert_true(result == 0 || result == -EAGAIN);
	if (result == -EAGAIN) {
		await_whole(scenario);
		assert_int_equal(snapshot(scenario, 1), 0);
	}
	await_whole(scenario);
	await(scenario, all_kept_last);
}

/* ---- 58: while a replica is rebuilt ---- */

static void test_while_rebuilding(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	disk_slow(scenario, C, 40);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(slot_of(scenario)->snapshot.copies, 2);
	assert_true(slot_of(scenario)->snapshot.ready);
	assert_null(image_on(scenario, C, 1));
	write_all(scenario);
	disk_sound(scenario, C);
	await_whole(scenario);
	assert_true(has_kept(scenario, C, 1));
}

/* With fewer copies than are needed there is none. */
static void test_too_few_in_sync(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	run_ms(scenario, 3000);
	assert_int_equal(snapshot(scenario, 1), -EAGAIN);
	assert_non_null(strstr(slot_of(scenario)->snapshot.err.text, "ask again"));
	assert_int_equal(snapshotter_of(scenario)->attempt, 0);
	come_back(scenario, C);
	await_whole(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(slot_of(scenario)->snapshot.copies, 3);
}

/* ---- layers ---- */

static void take_some(struct scenario *scenario, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(do_write(scenario, 8 * (size_t)i, 8), 0);
		assert_int_equal(submit(scenario, BLK_DISCARD, 40 + i, 3)->result, 0);
		assert_int_equal(snapshot(scenario, (uint8_t)(10 + i)), 0);
	}
	write_all(scenario);
}

static void test_layers(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	go_away(scenario, C);
	take_some(scenario, 3);
	come_back(scenario, C);
	await_whole(scenario);
	for (uint64_t number = 1; number <= 4; number++) {
		assert_true(has_kept(scenario, C, number));
	}
	/* They know them by their ids, too. */
	go_away(scenario, A);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(snapshot(scenario, 11), 0);
	assert_int_equal(number_made(scenario), 3);
	come_back(scenario, A);
	await_whole(scenario);
}

static bool copies_the_third_layer(void *ctx)
{
	return scenario_leg(ctx, C)->layers.number == 3 && scenario_leg(ctx, C)->layers.offset > 0;
}

static void test_target_loses_power_in_a_layer(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	take_some(scenario, 3);
	come_back(scenario, C);
	await(scenario, copies_the_third_layer);
	lose_power(scenario, C, 300);
	assert_int_equal(do_write(scenario, 100, 8), 0);
	await_whole(scenario);
	assert_true(has_kept(scenario, C, 3));
}

static void test_nexus_and_source_die_in_a_layer(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	take_some(scenario, 3);
	come_back(scenario, C);
	await(scenario, copies_the_third_layer);
	nexus_crash(scenario, true);
	await(scenario, copies_the_third_layer);
	agent_crash(&scenario->world.agents[A], 100 * IO_NS_PER_MS);
	await_whole(scenario);
	assert_true(has_kept(scenario, C, 3));
}

/* The association has gone since the rebuild gave the word. */
static void test_target_goes_before_its_layers(struct scenario *scenario)
{
	struct leg *leg;

	open_whole(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	leg = scenario_leg(scenario, C);
	while (leg->peer->assoc != NULL) {
		assert_true(sim_step(scenario->world.sim));
	}
	layers_begin(leg);
	run_ms(scenario, 10);
	assert_int_equal(leg->layers.state, LAYERS_DONE);
	come_back(scenario, C);
	await_whole(scenario);
}

static bool b_has_first_piece(void *ctx)
{
	const struct leg *leg = scenario_leg(ctx, B);

	return leg->layers.state == LAYERS_AWAIT_WRITTEN && leg->layers.offset > 0;
}

static bool a_is_back(void *ctx)
{
	struct leg *leg = scenario_leg(ctx, A);

	return leg->ready && !leg->out && !leg->power_lost;
}

/* B cannot be left out of S, and is being made what the volume was, when A loses its power, too. */
static void test_all_lose_power_in_a_layer(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, C);
	write_all(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(do_flush(scenario), 0);
	run_ms(scenario, 500);
	image_lose(&scenario->world.agents[B], 1); /* as if its RESOLVE had not come through */
	lose_power(scenario, B, 100);
	await(scenario, b_has_first_piece);
	lose_power(scenario, A, 100);
	while (!a_is_back(scenario)) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_true(scenario_leg(scenario, B)->out);
	scenario_volume(scenario)->local_mask = LEG_BIT(scenario_leg(scenario, B));
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(has_kept(scenario, B, 1));
}

/* The nexus knows exactly what C lacks; then a layer is written over all that it had. */
static void test_exact_map_and_a_layer(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	await(scenario, all_kept_last);
	write_all(scenario);
	run_ms(scenario, 2000); /* windows are valid */
	cut_off(scenario, C, true, true);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	image_lose(&scenario->world.agents[C], 1);
	sim_heal_all(scenario->world.sim);
	await_whole(scenario);
	assert_true(has_kept(scenario, C, 1));
}

/* ---- 59: the pause ---- */

static void test_pause_is_short(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	begin_snapshot(scenario, 1);
	assert_true(pause_ns(scenario) < 200 * IO_NS_PER_MS);
	assert_int_equal(snapshot_result(scenario), 0);
}

/* A member does not answer PREPARE: writes go on after a second, and nothing is left. */
static void test_pause_ends(struct scenario *scenario)
{
	const struct scenario_request *write;

	open_whole(scenario);
	write_all(scenario);
	disk_stuck(scenario, B, true);
	begin_snapshot(scenario, 1);
	assert_true(pause_ns(scenario) < PAUSE_MAX_NS);
	assert_int_equal(snapshot_result(scenario), -EAGAIN);
	write = submit_write(scenario, 0, 8);
	disk_stuck(scenario, B, false);
	assert_int_equal(answer_of(scenario, write), 0);
	await_whole(scenario);
	await(scenario, nothing_is_left);
	assert_int_equal(cfg_of(scenario)->snap_seq, 0);
	assert_int_equal(snapshot(scenario, 2), 0);
}

/* A write does not end: the same, and it is answered in the end. */
static void test_drain_takes_too_long(struct scenario *scenario)
{
	const struct scenario_request *first, *second;

	open_whole(scenario);
	write_all(scenario);
	disk_stuck(scenario, B, true);
	first = submit_write(scenario, 0, 8);
	run_ms(scenario, 20);
	begin_snapshot(scenario, 1);
	run_ms(scenario, 20);
	second = submit_write(scenario, 64, 8);
	assert_true(pause_ns(scenario) < PAUSE_MAX_NS);
	assert_int_equal(snapshot_result(scenario), -EAGAIN);
	assert_int_equal(snapshotter_of(scenario)->attempt, 0);
	disk_stuck(scenario, B, false);
	assert_int_equal(answer_of(scenario, first), 0);
	assert_int_equal(answer_of(scenario, second), 0);
	await_whole(scenario);
}

/* Writes wait, reads do not. */
static void test_reads_go_on(struct scenario *scenario)
{
	const struct scenario_request *write, *reads[3];

	open_whole(scenario);
	write_all(scenario);
	disk_stuck(scenario, B, true);
	begin_snapshot(scenario, 1);
	while (!snapshotter_of(scenario)->stops) {
		assert_true(sim_step(scenario->world.sim));
	}
	write = submit_write(scenario, 0, 8);
	for (unsigned i = 0; i < 3; i++) {
		reads[i] = submit(scenario, BLK_READ, 64 + 8 * (size_t)i, 8);
	}
	run_ms(scenario, 500);
	assert_true(snapshotter_of(scenario)->stops);
	assert_false(write->done);
	/* Members take turns: one of them is asked of B. */
	assert_true(reads[0]->done + reads[1]->done + reads[2]->done >= 2);
	disk_stuck(scenario, B, false);
	(void)snapshot_result(scenario);
	assert_int_equal(answer_of(scenario, write), 0);
	await_whole(scenario);
}

/* ---- beside changes of S ---- */

/* Its voters do not accept it: it is given up, what an attempt left is not what the next one makes.
 */
static void test_no_majority_in_the_commit(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	begin_snapshot(scenario, 1);
	await(scenario, is_prepared_somewhere);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	assert_int_equal(snapshot_result(scenario), -EAGAIN);
	sim_heal_all(scenario->world.sim);
	await_whole(scenario);
	write_all(scenario);
	assert_int_equal(snapshot(scenario, 2), 0);
	await(scenario, all_kept_last);
	await_whole(scenario);
}

/* A target that has caught up waits until the snapshot is committed, and gets it first. */
static void test_nobody_joins_in_between(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	for (unsigned i = 0; i < 12 && replica_state_now(scenario, C) != REPLICA_INSYNC; i++) {
		(void)snapshot(scenario, (uint8_t)(1 + i));
	}
	await_whole(scenario);
	await(scenario, all_kept_last);
}

/* A is gone when the snapshot is proposed, and B alone is too few: it is given up, so that C can
 * take A's place. */
static void test_given_up_for_a_target(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	begin_snapshot(scenario, 1);
	await(scenario, is_proposed);
	go_away(scenario, A);
	agent_start(&scenario->world.agents[C]);
	if (snapshot_result(scenario) != 0) {
		assert_int_equal(do_write(scenario, 0, 8), 0);
		assert_int_equal(cfg_of(scenario)->snap_seq, 0);
	}
	await_replica(scenario, C, REPLICA_INSYNC);
	assert_int_equal(do_write(scenario, 8, 8), 0);
	come_back(scenario, A);
	await_whole(scenario);
	assert_int_equal(snapshot(scenario, 1), 0);
	await(scenario, all_kept_last);
}

static bool has_open_proposal(void *ctx)
{
	return scenario_volume(ctx)->proposal_open;
}

/* A is to take B's place, and lacks a snapshot that C has not been told of: a checkpoint that waits
 * for B is open meanwhile. */
static void test_source_is_told_beside_an_open_proposal(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, A);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(snapshot(scenario, 1), 0);
	run_ms(scenario, 500);
	assert_int_equal(snapshot(scenario, 2), 0);
	go_away(scenario, B);
	scenario_volume(scenario)->wgen_proposed++; /* as a checkpoint begins */
	membership_wake(scenario_volume(scenario));
	cut_off(scenario, C, true, true); /* a new session, in which it is to be told again */
	run_ms(scenario, 300);
	sim_heal_all(scenario->world.sim);
	await(scenario, has_open_proposal);
	come_back(scenario, A);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_true(has_kept(scenario, A, 2));
	come_back(scenario, B);
	await_whole(scenario);
}

static const char *reason_of(
	struct scenario *scenario, unsigned agent, struct volume_status *status)
{
	assert_true(slot_status(slot_of(scenario), status));
	for (unsigned i = 0; i < status->replica_count; i++) {
		if (uuid_equal(&status->replicas[i].replica,
			    &scenario->world.agents[agent].replica_id)) {
			return status->replicas[i].reason;
		}
	}
	return "";
}

/* One whose pool has no snapshots stays out of S, and says why. */
static void test_target_without_snapshots(struct scenario *scenario)
{
	struct volume_status status;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(snapshot(scenario, 1), 0);
	scenario->world.options.snapshots = 0;
	come_back(scenario, C);
	run_ms(scenario, 4000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	assert_non_null(strstr(reason_of(scenario, C, &status), "lacks snapshot 1"));
	assert_non_null(strstr(reason_of(scenario, C, &status), "needs pool format 1"));
	assert_int_equal(snapshot(scenario, 2), -EOPNOTSUPP);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	go_away(scenario, C);
	scenario->world.options.snapshots = 1;
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(has_kept(scenario, C, 1));
}

/* The volume grows: not while a snapshot is made. */
static void test_beside_resize(struct scenario *scenario)
{
	open_whole(scenario);
	begin_snapshot(scenario, 1);
	slot_resize(slot_of(scenario), 120);
	assert_int_equal(snapshot_result(scenario), 0);
	while (slot_of(scenario)->resizing) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_int_equal(slot_of(scenario)->resize.result, 0);
	assert_int_equal(snapshot(scenario, 2), 0);
	assert_int_equal(image_on(scenario, A, 2)->block_count, 120);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 100, 8), 0);
	assert_int_equal(snapshot(scenario, 3), 0);
	come_back(scenario, C);
	await_whole(scenario);
}

int main(void)
{
#define CASE(name, ...)                                                                            \
	{                                                                                          \
		#name, name,                                                                       \
		{                                                                                  \
			.snapshots = 1, ##__VA_ARGS__                                              \
		}                                                                                  \
	}
	static const struct scenario_case cases[] = {
		CASE(test_snapshot),
		CASE(test_under_load),
		{"test_format_0", test_format_0, {.snapshots = 0}},
		CASE(test_survives_all_loss_of_power),
		CASE(test_member_fails_in_prepare),
		CASE(test_member_that_is_needed_fails_in_prepare, .min_insync = 3),
		CASE(test_nexus_dies_after_prepare),
		CASE(test_nexus_dies_in_the_commit),
		CASE(test_opener_dies_before_its_commit),
		CASE(test_agent_restarts_after_prepare),
		CASE(test_while_rebuilding),
		CASE(test_too_few_in_sync, .min_insync = 3),
		CASE(test_layers),
		CASE(test_target_loses_power_in_a_layer),
		CASE(test_nexus_and_source_die_in_a_layer),
		CASE(test_target_goes_before_its_layers),
		CASE(test_all_lose_power_in_a_layer),
		CASE(test_exact_map_and_a_layer),
		CASE(test_pause_is_short),
		CASE(test_pause_ends),
		CASE(test_drain_takes_too_long),
		CASE(test_reads_go_on),
		CASE(test_no_majority_in_the_commit),
		CASE(test_nobody_joins_in_between),
		CASE(test_given_up_for_a_target),
		CASE(test_source_is_told_beside_an_open_proposal),
		CASE(test_target_without_snapshots),
		CASE(test_beside_resize, .start_blocks = 64),
	};

	return scenario_run_all("snapshot", cases, ARRAY_COUNT(cases));
}
