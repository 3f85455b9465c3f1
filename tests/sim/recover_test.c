/* SPDX-License-Identifier: Apache-2.0 */
/* Forced recovery (docs/protocol.md 1.12), step by step. */
#include "tests/sim/scenario.h"

#include <errno.h>
#include <string.h>

#define D       3
#define LONG_NS (60 * IO_NS_PER_S)

static struct node_agent *node_of(struct scenario *scenario, unsigned agent)
{
	return &scenario->world.agents[agent];
}

static bool is_recovered(void *ctx)
{
	const struct scenario *scenario = ctx;

	return scenario->world.recovery.done && !recovery_is_under_way(&scenario->world);
}

/* `agent` becomes the volume; some node opens it, and the requests go there. */
static void recover(struct scenario *scenario, unsigned agent)
{
	recovery_start(&scenario->world, node_of(scenario, agent));
	await(scenario, is_recovered);
	scenario_open(scenario, (scenario->world.active + 1) % SLOTS);
	await_whole(scenario);
}

/* A lacks the second half of what was written. */
static void leave_a_behind(struct scenario *scenario)
{
	volume_set_min_insync((scenario_open(scenario, 0), scenario_volume(scenario)), 1);
	await_whole(scenario);
	write_all(scenario);
	go_away(scenario, A);
	write_all(scenario);
	assert_int_equal(do_flush(scenario), 0);
}

static void read_all(struct scenario *scenario)
{
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		assert_int_equal(do_read(scenario, at, OP_BLOCKS_MAX), 0);
	}
}

static const char *reason_of(struct scenario *scenario, unsigned agent)
{
	static struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	for (unsigned i = 0; i < status.replica_count; i++) {
		if (uuid_equal(
			    &status.replicas[i].replica, &node_of(scenario, agent)->replica_id)) {
			return status.replicas[i].reason;
		}
	}
	return "";
}

static int ask_add(struct scenario *scenario, unsigned agent, struct err *err)
{
	struct slot *slot = &scenario->world.slots[scenario->writer];
	struct volume_voter place = agent_place(node_of(scenario, agent), slot);

	places_add(&slot->file, &place);
	return volume_add_voter(scenario_volume(scenario), &place, err);
}

static int ask_remove(struct scenario *scenario, unsigned agent, struct err *err)
{
	return volume_remove_voter(
		scenario_volume(scenario), &node_of(scenario, agent)->replica_id, err);
}

static bool nobody_makes(void *ctx)
{
	struct scenario *scenario = ctx;

	for (unsigned i = 0; i < scenario->world.options.voters; i++) {
		if (node_of(scenario, i)->making || node_of(scenario, i)->removing) {
			return false;
		}
	}
	return true;
}

static void remake(struct scenario *scenario, unsigned agent)
{
	struct err err = {0};

	agent_remove_replica(node_of(scenario, agent));
	await(scenario, nobody_makes);
	assert_true(agent_make_replica(node_of(scenario, agent), VOTER_DATA));
	await(scenario, nobody_makes);
	assert_int_equal(ask_add(scenario, agent, &err), 0);
	await_replica(scenario, agent, REPLICA_INSYNC);
}

/* 17: those in sync are lost, a stale one is there: nothing without an operator; with one the
 * volume is what the stale one has, and gets as many replicas as before. */
static void test_last_ones_lost(struct scenario *scenario)
{
	leave_a_behind(scenario);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, B);
	go_away(scenario, C);
	come_back(scenario, A);
	scenario_open(scenario, 1);
	run_ms(scenario, 10000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	recover(scenario, A);
	assert_int_equal(scenario_volume(scenario)->cfg.voter_count, 1);
	read_all(scenario);
	write_all(scenario);
	come_back(scenario, B);
	come_back(scenario, C);
	run_ms(scenario, 5000);
	read_all(scenario);
	remake(scenario, B);
	remake(scenario, C);
	read_all(scenario);
	assert_int_equal(scenario_volume(scenario)->cfg.voter_count, 3);
}

/* 18: one that was in sync comes back, and is asked to be a voter as it is. */
static void test_old_member_comes_back(struct scenario *scenario)
{
	const struct cfg *cfg;
	struct vmeta before;
	struct err err = {0};

	leave_a_behind(scenario);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, B);
	go_away(scenario, C);
	come_back(scenario, A);
	recover(scenario, A);
	write_all(scenario);
	before = node_of(scenario, B)->seen;
	come_back(scenario, B);
	assert_int_equal(ask_add(scenario, B, &err), 0);
	run_ms(scenario, 5000);
	assert_int_equal(replica_state_now(scenario, B), REPLICA_FAULTED);
	assert_non_null(strstr(reason_of(scenario, B), "another lineage"));
	cfg = &node_of(scenario, B)->seen.cfg;
	assert_true(cfg_equal(cfg, &before.cfg));
	assert_int_equal(scenario_volume(scenario)->cfg.voter_count, 1);
	nexus_crash(scenario, false);
	await_whole(scenario);
	read_all(scenario);
	assert_int_equal(ask_remove(scenario, B, &err), 0);
	come_back(scenario, C);
	remake(scenario, C);
	read_all(scenario);
}

/* A nexus on an island with B goes on with the old lineage; the operator reaches A and C, which is
 * the majority that it would need: it acknowledges nothing, and learns that it is over. */
static void test_island_of_the_old_lineage(struct scenario *scenario)
{
	struct slot *old = &scenario->world.slots[0];
	struct scenario_request *write;
	struct volume_status status;

	volume_set_min_insync((scenario_open(scenario, 0), scenario_volume(scenario)), 1);
	await_whole(scenario);
	write_all(scenario);
	cut_off(scenario, A, true, true);
	cut_off(scenario, C, true, true);
	write = submit_write(scenario, 0, 8);
	scenario->world.recovery.unreached = 1u << B;
	scenario->world.recovery.lives_on = true;
	recover(scenario, A);
	write_all(scenario);
	assert_true(slot_status(old, &status));
	assert_false(write->done);
	sim_heal_all(scenario->world.sim);
	run_ms(scenario, 15000);
	assert_true(!write->done || write->result != 0);
	assert_true(slot_status(old, &status));
	assert_int_equal(status.state, VOLUME_SUPERSEDED);
	assert_non_null(strstr(status.reason, "forced recovery"));
	assert_int_equal(status.superseded_by, 0); /* csi-controller would raise it above */
	read_all(scenario);
}

/* Until the lease has ended by which a nexus of before may still read, from a replica that is no
 * voter any more, nothing is acknowledged. */
static void test_waits_for_the_lease_of_before(struct scenario *scenario)
{
	struct scenario_request *write;

	scenario_open(scenario, 0);
	await_whole(scenario);
	write_all(scenario);
	cut_off(scenario, A, true, true);
	cut_off(scenario, C, true, true);
	scenario->world.recovery.unreached = 1u << B;
	scenario->world.recovery.lives_on = true;
	recovery_start(&scenario->world, node_of(scenario, A));
	await(scenario, is_recovered);
	scenario_open(scenario, 1);
	write = submit_write(scenario, 0, 8);
	run_ms(scenario, 3000);
	assert_false(write->done);
	run_ms(scenario, 3000);
	assert_true(write->done);
	assert_int_equal(write->result, 0);
	sim_heal_all(scenario->world.sim);
	run_ms(scenario, 5000);
	await_whole(scenario);
	read_all(scenario);
}

/* Those that an operator fenced say so, also after their pool-agent was started anew. */
static void test_fenced_for_recovery(struct scenario *scenario)
{
	struct world *world = &scenario->world;
	struct slot *old = &world->slots[0];
	struct volume_status status;

	scenario_open(scenario, 0);
	await_whole(scenario);
	write_all(scenario);
	cut_off(scenario, A, true, true);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	world->recovery.lives_on = true;
	recover(scenario, A);
	go_away(scenario, A);
	go_away(scenario, B);
	go_away(scenario, C);
	come_back(scenario, B);
	come_back(scenario, C);
	sim_heal_all(world->sim);
	run_ms(scenario, 5000);
	assert_true(slot_status(old, &status));
	assert_int_equal(status.state, VOLUME_SUPERSEDED);
	assert_non_null(strstr(status.reason, "forced recovery"));
	assert_int_equal(status.superseded_by, 0);
	come_back(scenario, A);
	await_whole(scenario);
	read_all(scenario);
}

/* The operator reaches A alone, and was wrong: B and C live on with a nexus.  Both lineages go on,
 * each for itself, until that nexus reaches A; nothing of the one is ever seen in the other. */
static void test_both_lineages_serve(struct scenario *scenario)
{
	struct slot *old = &scenario->world.slots[0];
	struct volume_status status;
	unsigned writer;

	leave_a_behind(scenario);
	come_back(scenario, A);
	cut_off(scenario, A, true, true);
	run_ms(scenario, 3000);
	scenario->world.recovery.unreached = 1u << B | 1u << C;
	scenario->world.recovery.lives_on = true;
	recover(scenario, A);
	writer = scenario->writer;
	scenario->writer = old->index;
	write_all(scenario);
	scenario->writer = writer;
	sim_heal_all(scenario->world.sim);
	run_ms(scenario, 5000);
	assert_true(slot_status(old, &status));
	assert_int_equal(status.state, VOLUME_SUPERSEDED);
	read_all(scenario);
}

/* Whose file knows no lineage chooses none of two. */
static void test_two_lineages(struct scenario *scenario)
{
	struct world *world = &scenario->world;
	struct slot *slot;
	struct volume_status status;
	struct places places = {0};

	leave_a_behind(scenario);
	slot_crash(&world->slots[0], false);
	go_away(scenario, B);
	go_away(scenario, C);
	come_back(scenario, A);
	recover(scenario, A);
	write_all(scenario);
	slot_crash(&world->slots[scenario->writer], false);
	come_back(scenario, B);
	come_back(scenario, C);
	places = world->api;
	slot = &world->slots[(scenario->writer + 1) % SLOTS];
	slot_crash(slot, false);
	world->api = (struct places){.size_bytes = places.size_bytes};
	for (unsigned i = 0; i < 3; i++) {
		struct volume_voter place = agent_place(node_of(scenario, i), slot);

		places_add(&world->api, &place);
	}
	scenario_open(scenario, slot->index);
	run_ms(scenario, 8000);
	assert_true(slot_status(slot, &status));
	assert_int_equal(status.state, VOLUME_OPENING);
	assert_non_null(strstr(status.reason, "two lineages"));
	/* Told which, it serves. */
	slot_crash(slot, false);
	world->api = places;
	scenario_open(scenario, slot->index);
	await_whole(scenario);
	read_all(scenario);
}

/* A is the volume; B and C, where the nodes of before think it is, are back. */
static struct places recover_and_come_back(struct scenario *scenario)
{
	struct places before;

	scenario_open(scenario, 0);
	await_whole(scenario);
	write_all(scenario);
	before = scenario->world.slots[0].file;
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, B);
	go_away(scenario, C);
	recover(scenario, A);
	write_all(scenario);
	slot_crash(&scenario->world.slots[scenario->writer], false);
	come_back(scenario, B);
	come_back(scenario, C);
	run_ms(scenario, 1000);
	return before;
}

/* What the node's file says, or nobody says: not what the API does. */
static struct slot *open_with(struct scenario *scenario, const struct places *file)
{
	struct world *world = &scenario->world;
	struct slot *slot = &world->slots[(scenario->writer + 1) % SLOTS];
	struct places api = world->api;

	slot_crash(slot, false);
	world->api = *file;
	slot_open(slot, world->attach_last + 1);
	world->api = api;
	scenario->writer = slot->index;
	return slot;
}

static void check_over(struct slot *slot)
{
	struct volume_status status;

	assert_true(slot_status(slot, &status));
	assert_int_equal(status.state, VOLUME_SUPERSEDED);
	assert_non_null(strstr(status.reason, "forced recovery"));
	assert_int_equal(status.superseded_by, 0); /* a higher attach number is no remedy */
}

/* Whoever is told of the recovery, whatever the one that is over has told meanwhile. */
static void check_recovered_opens(
	struct scenario *scenario, struct slot *over, const struct places *recovered)
{
	slot_crash(over, false);
	sim_cancel(scenario->world.sim, &scenario->world.api_saved);
	scenario->world.api = *recovered;
	scenario_open(scenario, (over->index + 1) % SLOTS);
	await_whole(scenario);
	read_all(scenario);
}

/* The file of a node is of before the recovery, and B and C are a majority for it with a higher
 * attach number; but A shows that it is over. */
static void test_stale_file(struct scenario *scenario)
{
	struct places before = recover_and_come_back(scenario);
	struct places recovered = scenario->world.api;
	struct slot *slot = open_with(scenario, &before);

	run_ms(scenario, 4000);
	check_over(slot);
	assert_int_not_equal(node_of(scenario, B)->seen.cfg.epoch.attach, slot->attach);
	check_recovered_opens(scenario, slot, &recovered);
}

/* A is not reached at first: it ends when it is, and does not begin again then. */
static void test_stale_file_hears_late(struct scenario *scenario)
{
	struct places before = recover_and_come_back(scenario);
	struct places recovered = scenario->world.api;
	struct slot *slot;

	go_away(scenario, A);
	slot = open_with(scenario, &before);
	run_ms(scenario, 4000);
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	come_back(scenario, A);
	run_ms(scenario, 6000);
	check_over(slot);
	before = slot->file;
	slot = open_with(scenario, &before);
	run_ms(scenario, 4000);
	check_over(slot);
	check_recovered_opens(scenario, slot, &recovered);
}

/* Nobody has told the node which lineage is the volume's, and A is slow. */
static void test_told_nothing_hears_late(struct scenario *scenario)
{
	struct places before = recover_and_come_back(scenario);
	struct places recovered = scenario->world.api;
	struct slot *slot;

	before.cfg = (struct cfg){0};
	go_away(scenario, A);
	slot = open_with(scenario, &before);
	run_ms(scenario, 4000);
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	come_back(scenario, A);
	run_ms(scenario, 6000);
	check_over(slot);
	check_recovered_opens(scenario, slot, &recovered);
}

/* In sync, but without a majority: nothing is lost. */
static void test_majority_lost(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	go_away(scenario, C);
	run_ms(scenario, 5000);
	assert_int_equal(volume_state_now(scenario), VOLUME_STALLED);
	recover(scenario, A);
	read_all(scenario);
	come_back(scenario, B);
	come_back(scenario, C);
	remake(scenario, B);
	remake(scenario, C);
	/* What is written with others away reaches them by stamps as ever. */
	go_away(scenario, C);
	write_all(scenario);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_INSYNC);
	read_all(scenario);
}

/* The agent dies in the middle of it: asked again, it is the same recovery. */
static void test_agent_dies_in_recovery(struct scenario *scenario)
{
	leave_a_behind(scenario);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, B);
	go_away(scenario, C);
	come_back(scenario, A);
	recovery_start(&scenario->world, node_of(scenario, A));
	run_ms(scenario, (unsigned)(10 + scenario->world.options.seed * 3));
	agent_crash(node_of(scenario, A), 500 * IO_NS_PER_MS);
	await(scenario, is_recovered);
	scenario_open(scenario, 1);
	await_whole(scenario);
	read_all(scenario);
	write_all(scenario);
}

static void take_snapshot(struct scenario *scenario, uint8_t id)
{
	struct slot *slot = &scenario->world.slots[scenario->writer];

	slot_snapshot(slot, &(struct uuid){.b = {[15] = id}});
	while (slot->snapshotting) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_int_equal(slot->snapshot.result, 0);
}

/* A accepts the configuration with a snapshot that it has no image of. */
static void take_one_without_a(struct scenario *scenario)
{
	struct node_agent *a = node_of(scenario, A);

	sim_disk_set_faults(a->disk, &(struct sim_disk_faults){.read_error_percent = 100});
	take_snapshot(scenario, 2);
	while (a->seen.cfg.snap_seq < 2) {
		assert_true(sim_step(scenario->world.sim));
	}
	disk_sound(scenario, A);
	assert_null(image_find(a, 2));
	slot_crash(&scenario->world.slots[scenario->writer], false);
	go_away(scenario, B);
	go_away(scenario, C);
}

/* Of the snapshots only those are left that the recovered replica has: replicas that are added get
 * them, and join. */
static void test_snapshot_is_lost(struct scenario *scenario)
{
	struct node_agent *a = node_of(scenario, A);

	scenario_open(scenario, 0);
	await_whole(scenario);
	write_all(scenario);
	take_snapshot(scenario, 1);
	run_ms(scenario, 500);
	write_all(scenario);
	take_one_without_a(scenario);
	recover(scenario, A);
	assert_int_equal(a->seen.cfg.snap_seq, 1);
	assert_true(uuid_equal(&a->seen.cfg.snap_id, &image_find(a, 1)->id));
	come_back(scenario, B);
	remake(scenario, B);
	assert_true(image_find(node_of(scenario, B), 1)->kept);
	/* Its number is the next one's. */
	take_snapshot(scenario, 3);
	assert_int_equal(a->seen.cfg.snap_seq, 2);
	come_back(scenario, C);
	remake(scenario, C);
	assert_true(image_find(node_of(scenario, C), 2)->kept);
	read_all(scenario);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_last_ones_lost)},
		{CASE(test_old_member_comes_back)},
		{CASE(test_island_of_the_old_lineage)},
		{CASE(test_waits_for_the_lease_of_before)},
		{CASE(test_fenced_for_recovery)},
		{CASE(test_both_lineages_serve)},
		{CASE(test_two_lineages)},
		{CASE(test_stale_file)},
		{CASE(test_stale_file_hears_late)},
		{CASE(test_told_nothing_hears_late)},
		{CASE(test_majority_lost)},
		{CASE(test_agent_dies_in_recovery)},
		{CASE(test_snapshot_is_lost), .options = {.snapshots = 1}},
	};

	return scenario_run_all("recover", cases, ARRAY_COUNT(cases));
}
