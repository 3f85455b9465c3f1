/* SPDX-License-Identifier: Apache-2.0 */
/* Voters that come and go (docs/protocol.md 1.7), step by step; D and E are agents without a
 * replica in the beginning. */
#include "tests/sim/scenario_voters.h"

#include <errno.h>
#include <string.h>

/* What the API tells is as old as the volume. */
static void api_is_stale(struct scenario *scenario)
{
	struct world *world = &scenario->world;

	sim_cancel(world->sim, &world->api_saved);
	world->api = world->api_next = (struct places){0};
}

static bool reason_has(struct scenario *scenario, const char *text)
{
	struct volume_status status;

	assert_true(slot_status(slot_of(scenario), &status));
	return strstr(status.reason, text) != NULL;
}

/* ---- the plain ways ---- */

/* 69: the new one has everything before the old one goes, and nobody waits. */
static void test_move(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	make(scenario, D, VOTER_DATA);
	disk_slow(scenario, D, 10);
	begin_add(scenario, D);
	for (unsigned i = 0; i < 60; i++) {
		(void)submit(scenario, i % 3 == 0 ? BLK_READ : BLK_WRITE, i * 7 % 120, 1 + i % 8);
		run_ms(scenario, 3);
		assert_true(cfg_insync_count(cfg_of(scenario)) >= 3);
	}
	await_replica(scenario, D, REPLICA_INSYNC);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 4);
	drop(scenario, A);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 3);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	await_whole(scenario);
}

static void test_move_the_only_one(struct scenario *scenario)
{
	struct err err = {0};

	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(ask_remove(scenario, A, &err), -EBUSY);
	add(scenario, 1, VOTER_DATA);
	drop(scenario, A);
	assert_int_equal(ask_remove(scenario, 1, &err), -EBUSY);
	nexus_crash(scenario, true);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	await_whole(scenario);
}

/* The arbiter's place is taken by another, and then by none. */
static void test_arbiters(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	add(scenario, D, VOTER_ARBITER);
	drop(scenario, C);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	come_back(scenario, B);
	await_whole(scenario);
	drop(scenario, D);
	assert_int_equal(cfg_of(scenario)->voter_count, 2);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	await_whole(scenario);
}

/* Legs' places are used again and again. */
static void test_places_are_used_again(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned i = 0; i < 9; i++) {
		unsigned comes = i % 2 == 0 ? D : E, goes = i % 2 == 0 ? E : D;

		(void)submit_write(scenario, i * 8, 8);
		make(scenario, comes, VOTER_DATA);
		/* The ladders of a place that is empty may be queued. */
		volume_changed(scenario_volume(scenario));
		begin_add(scenario, comes);
		await_replica(scenario, comes, REPLICA_INSYNC);
		(void)submit_write(scenario, i * 8 + 4, 8);
		if (i > 0) {
			drop(scenario, goes);
			agent_remove_replica(&scenario->world.agents[goes]);
			while (scenario->world.agents[goes].has_replica) {
				assert_true(sim_step(scenario->world.sim));
			}
		}
	}
	assert_true(scenario_volume(scenario)->leg_count < REPL_VOTERS_MAX);
	await_whole(scenario);
}

/* Removed and wanted again at once, under its old id: it lacks what was written meanwhile. */
static void test_wanted_again(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned i = 0; i < 4; i++) {
		drop(scenario, C);
		assert_int_equal(do_write(scenario, 16 * i, 8), 0);
		begin_add(scenario, C);
		await_voter(scenario, C, true);
		(void)submit_write(scenario, 16 * i + 4, 8);
		await_replica(scenario, C, REPLICA_INSYNC);
	}
	go_away(scenario, A);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, A);
	await_whole(scenario);
}

/* A dead one is replaced, and comes back to nobody who wants it. */
static void test_replace_the_dead(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	add(scenario, D, VOTER_DATA);
	drop(scenario, C);
	await_whole(scenario);
	come_back(scenario, C);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	go_away(scenario, A);
	run_ms(scenario, 5000);
	assert_int_equal(volume_state_now(scenario), VOLUME_STALLED);
	come_back(scenario, A);
	come_back(scenario, B);
	await_whole(scenario);
}

/* 36: metadata that cannot be read are no empty replica; another takes its place. */
static void test_unreadable_metadata(struct scenario *scenario)
{
	struct node_agent *node = &scenario->world.agents[C];
	uint8_t garbage[STORE_BLOCK_BYTES];

	memset(garbage, 0x5a, sizeof(garbage));
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	for (unsigned pair = 0; pair < 2; pair++) {
		sim_disk_poke(node->disk, (node->layout.vmeta_near + pair) * STORE_BLOCK_BYTES,
			garbage, sizeof(garbage));
		sim_disk_poke(node->disk, (node->layout.vmeta_far + pair) * STORE_BLOCK_BYTES,
			garbage, sizeof(garbage));
	}
	node->may_abstain = true;
	come_back(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	await_replica(scenario, C, REPLICA_FAULTED);
	add(scenario, D, VOTER_DATA);
	drop(scenario, C);
	await_whole(scenario);
}

/* ---- one at a time, and what is refused ---- */

/* 83: nothing is begun beside a change that is not committed; it can be taken back. */
static void test_one_at_a_time(struct scenario *scenario)
{
	struct err err = {0};

	open_whole(scenario);
	make(scenario, D, VOTER_DATA);
	make(scenario, E, VOTER_DATA);
	go_away(scenario, D);
	begin_add(scenario, D);
	run_ms(scenario, 3000);
	assert_false(is_voter(scenario, D));
	assert_int_equal(ask_add(scenario, D, &err), 0);
	assert_int_equal(ask_add(scenario, E, &err), -EALREADY);
	assert_int_equal(ask_remove(scenario, C, &err), -EALREADY);
	assert_int_equal(ask_add(scenario, C, &err), 0); /* it is one */
	assert_int_equal(ask_remove(scenario, D, &err), 0);
	assert_int_equal(ask_remove(scenario, D, &err), 0);
	come_back(scenario, D);
	run_ms(scenario, 1000);
	assert_false(is_voter(scenario, D));
	assert_int_equal(cfg_of(scenario)->voter_count, 3);
	begin_add(scenario, E);
	await_voter(scenario, E, true);
	await_whole(scenario);
}

static enum replica_membership membership_now(struct scenario *scenario, unsigned agent)
{
	struct volume_status status;

	assert_true(slot_status(slot_of(scenario), &status));
	for (unsigned i = 0; i < status.replica_count; i++) {
		if (uuid_equal(&status.replicas[i].replica,
			    &scenario->world.agents[agent].replica_id)) {
			return status.replicas[i].membership;
		}
	}
	return MEMBERSHIP_UNKNOWN;
}

/* What was proposed and taken back may still be found by an opener: it is listed, and nothing else
 * begins, until a configuration after it is committed. */
static void test_taken_back_is_settled_first(struct scenario *scenario)
{
	struct err err = {0};

	open_whole(scenario);
	make(scenario, D, VOTER_DATA);
	make(scenario, E, VOTER_DATA);
	begin_add(scenario, D);
	await(scenario, is_proposing);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	run_ms(scenario, 500);
	assert_int_equal(membership_now(scenario, D), MEMBERSHIP_ADDING);
	assert_int_equal(ask_remove(scenario, D, &err), 0);
	assert_int_equal(membership_now(scenario, D), MEMBERSHIP_REMOVING);
	assert_int_equal(ask_add(scenario, E, &err), -EALREADY);
	assert_int_equal(ask_remove(scenario, A, &err), -EALREADY);
	run_ms(scenario, 1000);
	assert_int_equal(membership_now(scenario, D), MEMBERSHIP_REMOVING);
	sim_heal_all(scenario->world.sim);
	await_whole(scenario);
	if (is_voter(scenario, D)) {
		drop(scenario, D); /* the votes came in time: asked again, it goes as any other */
	}
	assert_int_equal(membership_now(scenario, D), MEMBERSHIP_UNKNOWN);
	assert_int_equal(cfg_of(scenario)->voter_count, 3);
	begin_add(scenario, E);
	await_voter(scenario, E, true);
	await_whole(scenario);
}

static void test_refusals(struct scenario *scenario)
{
	struct volume_voter place;
	struct err err = {0};

	open_whole(scenario);
	make(scenario, D, VOTER_DATA);
	place = agent_place(&scenario->world.agents[D], slot_of(scenario));
	place.agent = scenario->world.agents[A].uuid;
	assert_int_equal(volume_add_voter(scenario_volume(scenario), &place, &err), -EEXIST);
	place = agent_place(&scenario->world.agents[A], slot_of(scenario));
	place.kind = VOTER_ARBITER;
	assert_int_equal(volume_add_voter(scenario_volume(scenario), &place, &err), -EEXIST);
	/* With min_insync 2 two of S are not to be spared. */
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(ask_remove(scenario, A, &err), -EBUSY);
	assert_int_equal(ask_remove(scenario, C, &err), 0);
	await_voter(scenario, C, false);
	/* It says that it is data, and is not. */
	place = agent_place(&scenario->world.agents[D], slot_of(scenario));
	place.kind = VOTER_ARBITER;
	assert_int_equal(volume_add_voter(scenario_volume(scenario), &place, &err), 0);
	run_ms(scenario, 2000);
	assert_false(is_voter(scenario, D));
	assert_int_equal(ask_remove(scenario, D, &err), 0);
	come_back(scenario, C);
	await_whole(scenario);
}

/* The newcomer and a member are lost while it is proposed: the member is left out by the voters of
 * before, and the newcomer comes when it can. */
static void test_change_holds_nobody_up(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	write_all(scenario);
	make(scenario, D, VOTER_DATA);
	begin_add(scenario, D);
	await(scenario, is_proposing);
	cut_off(scenario, C, true, true);
	cut_off(scenario, D, true, true);
	request = submit_write(scenario, 0, 8);
	assert_int_equal(answer_of(scenario, request), 0);
	assert_false(is_voter(scenario, D));
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	sim_heal_all(scenario->world.sim);
	await_voter(scenario, D, true);
	await_whole(scenario);
}

/* ---- who opens next ---- */

/* 14: it knows the voters of before only; they lead it to those of today. */
static void test_old_voters(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	add(scenario, D, VOTER_DATA);
	drop(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	run_ms(scenario, 100);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, A);
	go_away(scenario, B);
	api_is_stale(scenario);
	/* The one that was removed knows. */
	scenario_open(scenario, 1);
	run_ms(scenario, 3000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	assert_true(reason_has(scenario, "place unknown"));
	come_back(scenario, A);
	run_ms(scenario, 3000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	assert_true(reason_has(scenario, "place unknown"));
	begin_add(scenario, D);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_int_equal(cfg_of(scenario)->voter_count, 3);
	assert_false(is_voter(scenario, C));
	come_back(scenario, B);
	await_whole(scenario);
}

/* An opener that reaches no majority asks again, now and then: it was taken over meanwhile. */
static void test_forgotten_opener(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	sim_partition(scenario->world.slots[0].host, scenario->world.agents[D].host, true);
	nexus_crash(scenario, false);
	run_ms(scenario, 5000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	assert_true(scenario_volume(scenario)->attempt < 4);
	scenario_open(scenario, 1);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	add(scenario, D, VOTER_DATA);
	scenario->writer = 0;
	await_state(scenario, VOLUME_SUPERSEDED);
	scenario->writer = 1;
}

/* The arbiter that an opener needs cannot write: what it answered to one attempt says nothing about
 * the next, after it was restarted. */
static void test_arbiter_cannot_write(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, B);
	slot_crash(&scenario->world.slots[0], false);
	/* The two of its promise go well. */
	sim_disk_set_faults(
		scenario->world.agents[C].disk, &(struct sim_disk_faults){.fail_nth = 3});
	scenario_open(scenario, 1);
	run_ms(scenario, 3000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	go_away(scenario, C);
	disk_sound(scenario, C);
	come_back(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	come_back(scenario, B);
	await_whole(scenario);
}

/* The first nexus lives on and hears of C alone; the others do not reach C. */
static void open_without_third(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, A, true, true);
	cut_off(scenario, B, true, true);
	for (unsigned i = 1; i < SLOTS; i++) {
		sim_partition(scenario->world.slots[i].host, scenario->world.agents[C].host, true);
	}
	scenario_open(scenario, 1);
	await_state(scenario, VOLUME_DEGRADED);
}

/* 6: whom an opener did not fence may still be read from, by the lease of the nexus before: it is a
 * voter until that is over, or the next opener, who sees none that it did not fence, would not
 * wait. */
static void test_unfenced_is_not_removed_early(struct scenario *scenario)
{
	struct err err = {0};

	open_without_third(scenario);
	assert_int_equal(ask_remove(scenario, C, &err), 0);
	run_ms(scenario, 50);
	slot_crash(&scenario->world.slots[1], false);
	api_is_stale(scenario);
	scenario_open(scenario, 2);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	scenario->writer = 0;
	for (unsigned i = 0; i < 12; i++) {
		(void)submit(scenario, BLK_READ, i % 8, 1); /* they take turns */
	}
	run_ms(scenario, 10000);
	scenario->writer = 2;
}

/* When the wait is over what was asked for is done, without anything else that happens. */
static void test_change_is_made_after_the_wait(struct scenario *scenario)
{
	struct err err = {0};

	open_without_third(scenario);
	assert_int_equal(ask_remove(scenario, C, &err), 0);
	run_ms(scenario, 2500);
	assert_true(is_voter(scenario, C));
	run_ms(scenario, 1000);
	assert_false(is_voter(scenario, C));
}

/* Or when those that were not fenced are, after all. */
static void test_change_is_made_when_all_are_fenced(struct scenario *scenario)
{
	struct err err = {0};

	open_without_third(scenario);
	make(scenario, D, VOTER_DATA);
	begin_add(scenario, D);
	run_ms(scenario, 500);
	assert_false(is_voter(scenario, D));
	sim_partition(scenario->world.slots[1].host, scenario->world.agents[C].host, false);
	run_ms(scenario, 500);
	assert_true(is_voter(scenario, D));
	assert_int_equal(ask_remove(scenario, D, &err), 0);
	await_voter(scenario, D, false);
}

/* New voters without a configuration are no volume, however many they are. */
static void test_newcomers_do_not_begin_anew(struct scenario *scenario)
{
	struct places places = {.cfg = {.gen = 1, .lineage = scenario->world.lineage}};

	open_whole(scenario);
	write_all(scenario);
	make(scenario, D, VOTER_DATA);
	make(scenario, E, VOTER_DATA);
	slot_crash(&scenario->world.slots[0], false);
	places.voters[places.count++] = agent_place(&scenario->world.agents[A], slot_of(scenario));
	places.voters[places.count++] = agent_place(&scenario->world.agents[D], slot_of(scenario));
	places.voters[places.count++] = agent_place(&scenario->world.agents[E], slot_of(scenario));
	sim_cancel(scenario->world.sim, &scenario->world.api_saved);
	scenario->world.api = places;
	go_away(scenario, A);
	scenario_open(scenario, 1);
	run_ms(scenario, 5000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	come_back(scenario, A);
	run_ms(scenario, 3000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	assert_true(reason_has(scenario, "place unknown"));
	begin_add(scenario, B);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	begin_add(scenario, C);
	await_whole(scenario);
}

/* A newcomer is proposed with only A and B left, and nobody hears B's answer; its nexus dies. */
static void half_added(struct scenario *scenario, bool b_has_it)
{
	open_whole(scenario);
	write_all(scenario);
	make(scenario, D, VOTER_DATA);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	begin_add(scenario, D);
	await(scenario, is_proposing);
	cut_off(scenario, B, !b_has_it, b_has_it);
	run_ms(scenario, 100);
	assert_false(is_voter(scenario, D));
	api_is_current(scenario);
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	come_back(scenario, C);
}

static void open_and_end_with_four(struct scenario *scenario, unsigned absent)
{
	scenario_open(scenario, 1);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	come_back(scenario, absent);
	begin_add(scenario, D);
	await_voter(scenario, D, true);
	assert_int_equal(cfg_of(scenario)->voter_count, 4);
	await_whole(scenario);
}

/* Nobody who is left knows of it. */
static void test_half_added_then_without_it(struct scenario *scenario)
{
	half_added(scenario, false);
	go_away(scenario, A);
	api_is_stale(scenario);
	open_and_end_with_four(scenario, A);
}

/* 41: those who have it are a majority of it, though nobody was told. */
static void test_half_added_then_with_it(struct scenario *scenario)
{
	half_added(scenario, true);
	go_away(scenario, C);
	open_and_end_with_four(scenario, C);
}

/* The newcomer is gone for good: it is a voter that is removed as any other. */
static void test_half_added_then_given_up(struct scenario *scenario)
{
	struct err err = {0};

	half_added(scenario, true);
	go_away(scenario, D);
	scenario_open(scenario, 1);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_true(is_voter(scenario, D));
	assert_int_equal(ask_remove(scenario, D, &err), 0);
	await_voter(scenario, D, false);
	come_back(scenario, D);
	await_whole(scenario);
}

/* Removed by a nexus that dies before it tells: the one that was removed has no say any more. */
static void test_half_removed(struct scenario *scenario)
{
	struct err err = {0};

	open_whole(scenario);
	write_all(scenario);
	add(scenario, D, VOTER_DATA);
	assert_int_equal(ask_remove(scenario, A, &err), 0);
	await(scenario, is_proposing);
	run_ms(scenario, 1);
	api_is_current(scenario);
	slot_crash(&scenario->world.slots[0], false);
	scenario_open(scenario, 1);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(ask_remove(scenario, A, &err), 0);
	await_voter(scenario, A, false);
	go_away(scenario, D);
	nexus_crash(scenario, true);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, D);
	await_whole(scenario);
}

/* Its removal has to wait for a voter that is away, and until then it is needed: it is rebuilt. */
static void test_needed_until_removed(struct scenario *scenario)
{
	struct err err = {0};

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	await_state(scenario, VOLUME_DEGRADED);
	nexus_crash(scenario, false);
	go_away(scenario, B);
	come_back(scenario, C);
	await(scenario, is_committed);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 1);
	assert_int_equal(ask_remove(scenario, C, &err), 0);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_true(is_voter(scenario, C));
	come_back(scenario, B);
	await_voter(scenario, C, false);
	await_whole(scenario);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_move), .options = {.spares = 1}},
		{CASE(test_move_the_only_one), .options = {.data_replicas = 1, .spares = 1}},
		{CASE(test_arbiters), .options = {.data_replicas = 2, .spares = 1}},
		{CASE(test_places_are_used_again), .options = {.spares = 2}},
		{CASE(test_wanted_again)},
		{CASE(test_replace_the_dead), .options = {.spares = 1}},
		{CASE(test_needed_until_removed)},
		{CASE(test_unreadable_metadata), .options = {.spares = 1}},
		{CASE(test_one_at_a_time), .options = {.spares = 2}},
		{CASE(test_taken_back_is_settled_first), .options = {.spares = 2}},
		{CASE(test_refusals), .options = {.spares = 1}},
		{CASE(test_change_holds_nobody_up), .options = {.spares = 1, .min_insync = 1}},
		{CASE(test_old_voters), .options = {.spares = 1, .min_insync = 1}},
		{CASE(test_arbiter_cannot_write), .options = {.data_replicas = 2}},
		{CASE(test_forgotten_opener), .options = {.spares = 1, .min_insync = 1}},
		{CASE(test_unfenced_is_not_removed_early)},
		{CASE(test_change_is_made_after_the_wait)},
		{CASE(test_change_is_made_when_all_are_fenced), .options = {.spares = 1}},
		{CASE(test_newcomers_do_not_begin_anew), .options = {.spares = 2}},
		{CASE(test_half_added_then_without_it), .options = {.spares = 1, .min_insync = 1}},
		{CASE(test_half_added_then_with_it), .options = {.spares = 1, .min_insync = 1}},
		{CASE(test_half_added_then_given_up), .options = {.spares = 1, .min_insync = 1}},
		{CASE(test_half_removed), .options = {.spares = 1}},
	};

	return scenario_run_all("voters", cases, ARRAY_COUNT(cases));
}
