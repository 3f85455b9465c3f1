/* SPDX-License-Identifier: Apache-2.0 */
/* Who may write: duels, zombies, stale configurations, old packets.  The numbers are those of the
 * scenarios in docs/testing.md. */
#include "tests/sim/scenario.h"

#include <errno.h>

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static bool is_proposing(void *scenario)
{
	return scenario_volume(scenario)->proposal_open;
}

static const struct vmeta *vmeta_of(struct scenario *scenario, unsigned agent)
{
	return store_replica_vmeta(scenario->world.agents[agent].replica);
}

/* 5: the older one is started again and again and asks for the replicas: refused each time. */
static void test_zombie_cannot_take_back(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	scenario_open(scenario, 1);
	await_whole(scenario);
	for (unsigned i = 0; i < 4; i++) {
		struct slot *zombie = &scenario->world.slots[0];

		slot_crash(zombie, false);
		slot_open(zombie, zombie->attach);
		assert_int_equal(do_write(scenario, 8 * i, 8), 0);
		scenario->writer = 0;
		await_state(scenario, VOLUME_SUPERSEDED);
		scenario->writer = 1;
	}
	assert_int_equal(volume_state_now(scenario), VOLUME_ONLINE);
	assert_int_equal(scenario_volume(scenario)->epoch.inc, 1);
}

/* 7, 85: two processes of one attach raise their inc against each other, from the same first one
 * and with nonces that differ; a higher attach wins for good. */
static void test_duel(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	slot_open(&scenario->world.slots[1], 1);
	for (unsigned i = 0; i < 20; i++) {
		(void)submit_write(scenario, i, 8);
		run_ms(scenario, 200);
	}
	scenario_open(scenario, 2);
	await_whole(scenario);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	for (scenario->writer = 0; scenario->writer < 2; scenario->writer++) {
		await_state(scenario, VOLUME_SUPERSEDED);
	}
}

/* An arbiter's answer to a FENCE of an attempt that is over comes when the next one has committed
 * without it: it is fenced anew, else it would refuse its vote for ever. */
static void test_fenced_late(struct scenario *scenario)
{
	struct sim_host *host = scenario->world.slots[0].host;
	struct sim_host *late = scenario->world.agents[C].host;

	open_whole(scenario);
	write_all(scenario);
	sim_partition(scenario->world.slots[1].host, late, true);
	for (unsigned i = 0; i < 8; i++) {
		sim_set_slow_link(late, host, 1500 * IO_NS_PER_MS);
		slot_open(&scenario->world.slots[1], 1);
		run_ms(scenario, 1200 + 100 * i);
		slot_crash(&scenario->world.slots[1], false);
		run_ms(scenario, 3000);
		sim_set_slow_link(late, host, 0);
		await_whole(scenario);
		go_away(scenario, B);
		assert_int_equal(do_write(scenario, 0, 8), 0);
		come_back(scenario, B);
		await_whole(scenario);
	}
}

/* 12, 13: an opener with an attach number that was given out before is refused and told so; the
 * next higher one opens. */
static void test_attach_goes_back(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	scenario_open(scenario, 1);
	await_whole(scenario);
	slot_crash(&scenario->world.slots[1], false);
	scenario->writer = 2;
	slot_open(&scenario->world.slots[2], 1);
	await_state(scenario, VOLUME_SUPERSEDED);
	slot_crash(&scenario->world.slots[2], false);
	scenario_open(scenario, 2);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 15: a configuration in which the replica is in S with all others is long overtaken. */
static void test_old_generation_is_outranked(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, A);
	write_all(scenario);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, C);
	come_back(scenario, A);
	assert_true(vmeta_of(scenario, A)->cfg.voters[A].insync);
	scenario_open(scenario, 1);
	await_replica(scenario, A, REPLICA_REBUILDING);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, C);
}

/* 11: what the island wrote on its own replica is undone when that one is back. */
static void test_island_write_is_undone(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	(void)submit_write(scenario, 0, 8);
	run_ms(scenario, 100);
	scenario_open(scenario, 1);
	sim_partition(scenario->world.slots[1].host, scenario->world.agents[A].host, true);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	await_whole(scenario);
	go_away(scenario, B);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(do_read(scenario, 0, 8), 0);
	}
	come_back(scenario, B);
}

/* 21: what the older nexus had sent arrives when its successor has long been serving. */
static void test_old_packets_arrive_late(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned i = 0; i < 3; i++) {
		cut_off(scenario, i, true, false);
	}
	for (unsigned i = 0; i < 16; i++) {
		(void)submit_write(scenario, 8 * i, 8);
	}
	run_ms(scenario, 20);
	scenario_open(scenario, 1);
	write_all(scenario);
	sim_heal_all(scenario->world.sim);
	run_ms(scenario, 7000);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(do_read(scenario, 8 * i, 8), 0);
	}
}

/* 23: FENCE is answered BUSY for as long as older I/O is in the backend; the others go on, and the
 * gate stays closed. */
static void test_stuck_backend_stays_gated(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	disk_stuck(scenario, B, true);
	(void)submit_write(scenario, 0, 8);
	run_ms(scenario, 100);
	scenario_open(scenario, 1);
	await_state(scenario, VOLUME_DEGRADED);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_not_equal(replica_state_now(scenario, B), REPLICA_INSYNC);
	disk_stuck(scenario, B, false);
	await_whole(scenario);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 61: a nexus that was suspended for longer than its lease has been taken over meanwhile: it
 * answers no read from before. */
static void test_suspended_nexus_answers_no_read(struct scenario *scenario)
{
	struct scenario_request *read;

	open_whole(scenario);
	write_all(scenario);
	sim_process_freeze(scenario->world.slots[0].process, 20000 * IO_NS_PER_MS);
	read = submit(scenario, BLK_READ, 0, 8);
	run_ms(scenario, 1000);
	scenario_open(scenario, 1);
	write_all(scenario);
	run_ms(scenario, 20000);
	scenario->writer = 0;
	await_state(scenario, VOLUME_SUPERSEDED);
	assert_int_equal(answer_of(scenario, read), -EIO);
	scenario->writer = 1;
}

/* 6: an opener ends before its wait does.  Its successor fences all of the S that it committed, and
 * must wait all the same: the first nexus still reads from the replica that was left out. */
static void test_opener_ends_before_its_wait(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	for (unsigned i = 1; i < SLOTS; i++) {
		sim_partition(scenario->world.slots[i].host, scenario->world.agents[A].host, true);
	}
	scenario_open(scenario, 1);
	await_state(scenario, VOLUME_DEGRADED);
	slot_crash(&scenario->world.slots[1], false);
	scenario_open(scenario, 2);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	scenario->writer = 0;
	for (unsigned i = 0; i < 8; i++) {
		(void)submit(scenario, BLK_READ, i, 1); /* they take turns */
	}
	run_ms(scenario, 10000);
	scenario->writer = 2;
}

/* 6: the same, but it is started again on its node: the configuration is its own, and it must wait
 * nevertheless, for its predecessor had not. */
static void test_opener_crashes_within_its_wait(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	sim_partition(scenario->world.slots[1].host, scenario->world.agents[A].host, true);
	scenario_open(scenario, 1);
	await_state(scenario, VOLUME_DEGRADED);
	nexus_crash(scenario, false);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	scenario->writer = 0;
	for (unsigned i = 0; i < 8; i++) {
		(void)submit(scenario, BLK_READ, i, 1);
	}
	run_ms(scenario, 10000);
	scenario->writer = 1;
}

/* 6: the same with a write that was never acknowledged: once a read has shown it, nobody reads what
 * was there before. */
static void test_unacknowledged_write_is_not_shown_early(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	sim_partition(scenario->world.slots[1].host, scenario->world.agents[A].host, true);
	scenario_open(scenario, 1);
	await_state(scenario, VOLUME_DEGRADED);
	(void)submit_write(scenario, 0, 8);
	run_ms(scenario, 20);
	nexus_crash(scenario, false);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	scenario->writer = 0;
	for (unsigned i = 0; i < 8; i++) {
		(void)submit(scenario, BLK_READ, i, 1);
	}
	run_ms(scenario, 10000);
	scenario->writer = 1;
}

/* 80: two crashes of the nexus, and of a replica in between, before R is empty. */
static void test_two_crashes_and_a_restart(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, true, false);
	(void)submit_write(scenario, 0, 8);
	run_ms(scenario, 5);
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	go_away(scenario, A);
	come_back(scenario, A);
	scenario_open(scenario, 1);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	slot_crash(&scenario->world.slots[1], false);
	go_away(scenario, B);
	come_back(scenario, B);
	scenario_open(scenario, 2);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	go_away(scenario, A);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, A);
}

/* 81: stamps only rise: what was half copied is still to be copied after the crash. */
static void test_half_copied_region(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	disk_slow(scenario, C, 30);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	run_ms(scenario, 60);
	slot_crash(&scenario->world.slots[0], false);
	lose_power(scenario, C, 100);
	disk_sound(scenario, C);
	scenario_open(scenario, 1);
	await_whole(scenario);
	go_away(scenario, A);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(do_read(scenario, 0, 8), 0);
	}
	come_back(scenario, A);
}

/* Five replicas: two of them may fail at once; the third that goes stalls it, although more members
 * are left than min_insync asks for. */
static void test_two_of_five(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, 3);
	go_away(scenario, 4);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	slot_crash(&scenario->world.slots[0], false);
	scenario_open(scenario, 1);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	go_away(scenario, A);
	run_ms(scenario, 8000);
	assert_int_equal(volume_state_now(scenario), VOLUME_STALLED);
	come_back(scenario, 3);
	assert_int_equal(do_write(scenario, 8, 8), 0);
	come_back(scenario, A);
	come_back(scenario, 4);
}

/* Four replicas and an arbiter: two and the arbiter are a majority. */
static void test_four_and_an_arbiter(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, A);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	nexus_crash(scenario, true);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, A);
	come_back(scenario, B);
}

/* A chain of takeovers; whoever was before lives on and hears no answer of one replica. */
static void test_three_nexuses(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned i = 0; i < SLOTS; i++) {
		cut_off(scenario, i, false, true);
		(void)submit_write(scenario, 8 * i, 8);
		await(scenario, is_proposing);
		slot_crash(&scenario->world.slots[(scenario->writer + 1) % SLOTS], false);
		scenario_open(scenario, (scenario->writer + 1) % SLOTS);
		assert_int_equal(do_write(scenario, 8 * i, 4), 0);
	}
	sim_heal_all(scenario->world.sim);
	await_whole(scenario);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_zombie_cannot_take_back)},
		{CASE(test_duel)},
		{CASE(test_fenced_late), .options = {.data_replicas = 2}},
		{CASE(test_attach_goes_back)},
		{CASE(test_old_generation_is_outranked)},
		{CASE(test_island_write_is_undone)},
		{CASE(test_old_packets_arrive_late)},
		{CASE(test_stuck_backend_stays_gated)},
		{CASE(test_suspended_nexus_answers_no_read)},
		{CASE(test_opener_ends_before_its_wait)},
		{CASE(test_opener_crashes_within_its_wait)},
		{CASE(test_unacknowledged_write_is_not_shown_early)},
		{CASE(test_two_crashes_and_a_restart)},
		{CASE(test_half_copied_region)},
		{CASE(test_two_of_five), .options = {.data_replicas = 5}},
		{CASE(test_four_and_an_arbiter), .options = {.data_replicas = 4}},
		{CASE(test_three_nexuses)},
	};

	return scenario_run_all("takeover", cases, ARRAY_COUNT(cases));
}
