/* SPDX-License-Identifier: Apache-2.0 */
/* The scenarios that the replication protocol must survive (docs/protocol.md), as far as they are
 * not about what does not exist yet.  The end of each is in scenario.h: whole again, all equal. */
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

/* ---- takeover ---- */

/* 1 and 2: a configuration that only one voter has, its nexus dies. */
static void half_proposed(struct scenario *scenario, unsigned absent)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	(void)submit_write(scenario, 0, 1);
	run_ms(scenario, 1500);
	cut_off(scenario, B, true, false);
	await(scenario, is_proposing);
	run_ms(scenario, 5);
	slot_crash(&scenario->world.slots[0], false);
	assert_true(cfg_compare(&store_replica_vmeta(scenario->world.agents[A].replica)->cfg,
			    &store_replica_vmeta(scenario->world.agents[B].replica)->cfg) > 0);
	come_back(scenario, C);
	go_away(scenario, absent);
	sim_heal_all(scenario->world.sim);
	scenario_open(scenario, 1);
	await_state(scenario, VOLUME_DEGRADED);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	come_back(scenario, absent);
	await_whole(scenario);
}

static void test_half_proposed_then_without_it(struct scenario *scenario)
{
	half_proposed(scenario, A);
}

static void test_half_proposed_then_with_it(struct scenario *scenario)
{
	half_proposed(scenario, B);
}

/* 3: who was merely fenced by a higher epoch does not outrank what was accepted. */
static void test_fenced_is_not_accepted(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	come_back(scenario, C);
	slot_crash(&scenario->world.slots[0], false);
	scenario->writer = 1;
	cut_off(scenario, A, true, true);
	cut_off(scenario, B, true, true);
	scenario_open(scenario, 1);
	run_ms(scenario, 3000);
	slot_crash(&scenario->world.slots[1], false);
	sim_heal_all(scenario->world.sim);
	scenario_open(scenario, 0);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 4, 21, 62, 63: the older nexus lives on, is refused and says so. */
static void test_superseded(struct scenario *scenario)
{
	struct scenario_request *late;

	open_whole(scenario);
	write_all(scenario);
	late = submit_write(scenario, 3, 4);
	scenario_open(scenario, 1);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	await_whole(scenario);
	scenario->writer = 0;
	(void)answer_of(scenario, late);
	assert_int_equal(do_write(scenario, 0, 1), -EIO);
	assert_int_equal(do_read(scenario, 0, 1), -EIO);
	assert_int_equal(volume_state_now(scenario), VOLUME_SUPERSEDED);
	scenario->writer = 1;
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 6, 11: on an island with one replica, the old nexus answers nothing after its lease. */
static void test_island(struct scenario *scenario)
{
	struct scenario_request *read, *write;

	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	write = submit_write(scenario, 0, 4);
	scenario_open(scenario, 1);
	sim_partition(scenario->world.slots[1].host, scenario->world.agents[A].host, true);
	await_state(scenario, VOLUME_DEGRADED);
	assert_int_equal(do_write(scenario, 8, 8), 0);
	scenario->writer = 0;
	read = submit(scenario, BLK_READ, 8, 8);
	run_ms(scenario, 10000);
	assert_false(read->done || write->done);
	assert_int_equal(volume_state_now(scenario), VOLUME_STALLED);
}

/* 7, 8, 67: the same node opens anew, again and again, and repeats what was not answered. */
static void test_restarts_in_place(struct scenario *scenario)
{
	open_whole(scenario);
	for (unsigned i = 0; i < 6; i++) {
		(void)submit_write(scenario, 3 * i, 8);
		(void)submit_write(scenario, 3 * i + 2, 4);
		run_ms(scenario, i % 2);
		nexus_crash(scenario, true);
	}
	assert_int_equal(do_write(scenario, 100, 8), 0);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 17, 19: a majority without the last member of S does not open. */
static void test_never_elects_a_non_member(struct scenario *scenario)
{
	volume_set_min_insync((scenario_open(scenario, 0), scenario_volume(scenario)), 1);
	await_whole(scenario);
	go_away(scenario, A);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	come_back(scenario, A);
	await(scenario, is_proposing);
	go_away(scenario, A);
	await_state(scenario, VOLUME_DEGRADED);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, B);
	go_away(scenario, C);
	come_back(scenario, A);
	scenario_open(scenario, 1);
	run_ms(scenario, 8000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	come_back(scenario, B);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 50, 51: what a read returned after a takeover does not change when its source dies. */
static void test_copy_before_return(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned round = 0; round < 3; round++) {
		cut_off(scenario, round, true, false);
		(void)submit_write(scenario, 0, 8);
		run_ms(scenario, 2);
		slot_crash(&scenario->world.slots[scenario->writer], false);
		sim_heal_all(scenario->world.sim);
		scenario_open(scenario, 1 - scenario->writer);
		assert_int_equal(do_read(scenario, 0, 8), 0);
		go_away(scenario, (round + 1) % 3);
		assert_int_equal(do_read(scenario, 0, 8), 0);
		come_back(scenario, (round + 1) % 3);
		await_whole(scenario);
	}
}

/* ---- members fail ---- */

/* 39, 22: frozen for long, its buffers hold old writes. */
static void test_frozen_for_a_minute(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned i = 0; i < 8; i++) {
		(void)submit_write(scenario, i, 8);
	}
	freeze(scenario, B, 60000);
	run_ms(scenario, 10000);
	write_all(scenario);
	await_state(scenario, VOLUME_DEGRADED);
	run_ms(scenario, 55000);
	await_whole(scenario);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 40: the second fails while the first is being dropped. */
static void test_two_fail(struct scenario *scenario)
{
	struct scenario_request *request;

	scenario_open(scenario, 0);
	volume_set_min_insync(scenario_volume(scenario), 1);
	await_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	request = submit_write(scenario, 0, 8);
	await(scenario, is_proposing);
	disk_stuck(scenario, C, true);
	run_ms(scenario, 6000);
	disk_stuck(scenario, C, false);
	assert_int_equal(answer_of(scenario, request), 0);
	come_back(scenario, B);
	await_whole(scenario);
}

/* 41: the answer to ACCEPT is lost. */
static void test_accept_unanswered(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	go_away(scenario, C);
	request = submit_write(scenario, 0, 8);
	await(scenario, is_proposing);
	cut_off(scenario, B, false, true);
	run_ms(scenario, 500);
	assert_false(request->done);
	(void)sim_cut_random_connection(scenario->world.sim);
	run_ms(scenario, 500);
	cut_off(scenario, B, false, false);
	assert_int_equal(answer_of(scenario, request), 0);
	come_back(scenario, C);
}

/* 42 and 43: source and target of a rebuild die midway. */
static void test_rebuild_ends_die(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	disk_slow(scenario, C, 20);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	run_ms(scenario, 30);
	go_away(scenario, A);
	run_ms(scenario, 4000);
	go_away(scenario, C);
	come_back(scenario, A);
	come_back(scenario, C);
	await_whole(scenario);
}

/* 44: the nexus dies midway; what is half copied is no member. */
static void test_nexus_dies_in_rebuild(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	disk_slow(scenario, C, 20);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	run_ms(scenario, 30);
	slot_crash(&scenario->world.slots[0], false);
	assert_true(store_replica_vmeta(scenario->world.agents[C].replica)->rebuilding);
	scenario_open(scenario, 1);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_int_not_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
}

/* 45, 46, 49, 52: writes, zeros and discards that overlap each other and a rebuild that starts. */
static void test_writes_during_rebuild(struct scenario *scenario)
{
	static const enum blk_kind kinds[] = {BLK_WRITE, BLK_ZERO, BLK_WRITE, BLK_DISCARD};

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	write_all(scenario);
	disk_slow(scenario, B, 5);
	come_back(scenario, B);
	for (unsigned i = 0; i < 100; i++) {
		(void)submit(scenario, kinds[i % 4], i * 7 % 120, 1 + i % 8);
		run_ms(scenario, i % 3);
	}
	await_whole(scenario);
}

/* 47: who was rebuilt is the source of the next. */
static void test_rebuilt_is_source(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, A);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	go_away(scenario, C);
	run_ms(scenario, 100);
	come_back(scenario, C);
	assert_int_equal(do_write(scenario, 16, 8), 0);
	await_replica(scenario, C, REPLICA_INSYNC);
	go_away(scenario, B);
	come_back(scenario, A);
	run_ms(scenario, 5000);
	come_back(scenario, B);
	await_whole(scenario);
}

/* 48: the nexus dies when the grown configuration is on its way. */
static void test_dies_in_grow(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	await(scenario, is_proposing);
	cut_off(scenario, B, true, true);
	cut_off(scenario, C, true, true);
	(void)submit_write(scenario, 0, 8);
	run_ms(scenario, 10);
	slot_crash(&scenario->world.slots[0], false);
	sim_heal_all(scenario->world.sim);
	go_away(scenario, A);
	scenario_open(scenario, 1);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, A);
}

/* 54: a flush that one member cannot do is answered without that member only. */
static void test_flush_fails_on_one(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	sim_disk_set_faults(scenario->world.agents[C].disk,
		&(struct sim_disk_faults){.flush_error_percent = 100});
	assert_int_equal(do_flush(scenario), 0);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 2);
	disk_sound(scenario, C);
}

/* 66: one pool-agent after the other is restarted, within the pause: nobody is dropped. */
static void test_rolling_restart(struct scenario *scenario)
{
	open_whole(scenario);
	for (unsigned i = 0; i < 3; i++) {
		struct scenario_request *request = submit_write(scenario, 8 * i, 8);

		go_away(scenario, i);
		come_back(scenario, i);
		assert_int_equal(answer_of(scenario, request), 0);
		assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
		await_whole(scenario);
	}
}

/* 75: what it answers is not heard. */
static void test_asymmetric_partition(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	cut_off(scenario, B, false, true);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 84, min_insync 2: with two usable members and a target, the loss of one waits for the target. */
static void test_target_replaces_member(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	write_all(scenario);
	disk_slow(scenario, C, 10);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	go_away(scenario, A);
	request = submit_write(scenario, 0, 8);
	assert_int_equal(answer_of(scenario, request), 0);
	assert_int_equal(request->usable, 2);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
	come_back(scenario, A);
}

/* ---- power ---- */

/* 29, 76: one member loses power and is back within the pause. */
static void test_one_loses_power(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	lose_power(scenario, B, 200);
	run_ms(scenario, 400);
	(void)submit_write(scenario, 0, 8);
	await_replica(scenario, B, REPLICA_REBUILDING);
	await_whole(scenario);
	slot_crash(&scenario->world.slots[0], false);
	scenario_open(scenario, 1);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

static void all_lose_power(struct scenario *scenario)
{
	for (unsigned i = 0; i < scenario->world.options.voters; i++) {
		lose_power(scenario, i, 300 + 10 * i);
	}
}

/* 77: with acknowledged writes that no flush covers: no flush succeeds ever again. */
static void test_all_lose_power_unflushed(struct scenario *scenario)
{
	struct scenario_request *flush;

	open_whole(scenario);
	assert_int_equal(do_flush(scenario), 0);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	all_lose_power(scenario);
	flush = submit(scenario, BLK_FLUSH, 0, 0);
	await_state(scenario, VOLUME_FAULTED);
	assert_int_equal(answer_of(scenario, flush), -EIO);
	assert_int_equal(do_flush(scenario), -EIO);
	assert_int_equal(do_write(scenario, 0, 1), -EIO);
}

/* Same, but the nexus is restarted meanwhile: it does not forget. */
static void test_all_lose_power_and_nexus_restarts(struct scenario *scenario)
{
	open_whole(scenario);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	slot_crash(&scenario->world.slots[0], true);
	all_lose_power(scenario);
	run_ms(scenario, 1000);
	slot_open(&scenario->world.slots[0], 1);
	await_state(scenario, VOLUME_FAULTED);
	assert_int_equal(do_flush(scenario), -EIO);
}

static void test_all_lose_power_flushed(struct scenario *scenario)
{
	struct scenario_request *write;

	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(do_flush(scenario), 0);
	all_lose_power(scenario);
	write = submit_write(scenario, 0, 8);
	assert_int_equal(answer_of(scenario, write), 0);
	assert_int_equal(do_flush(scenario), 0);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	await_whole(scenario);
}

/* ---- one replica ---- */

/* 73, 78: only the pool-agent's process is restarted. */
static void test_single_replica(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	write_all(scenario);
	request = submit_write(scenario, 0, 8);
	go_away(scenario, A);
	run_ms(scenario, 5000);
	assert_false(request->done);
	come_back(scenario, A);
	assert_int_equal(answer_of(scenario, request), 0);
	assert_int_equal(do_flush(scenario), 0);
	nexus_crash(scenario, true);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	await_whole(scenario);
}

/* 16: two replicas and an arbiter, one replica dies: it goes on. */
static void test_arbiter(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	nexus_crash(scenario, true);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	go_away(scenario, A);
	come_back(scenario, B);
	nexus_crash(scenario, true);
	run_ms(scenario, 6000);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	come_back(scenario, A);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_half_proposed_then_without_it)},
		{CASE(test_half_proposed_then_with_it)},
		{CASE(test_fenced_is_not_accepted)},
		{CASE(test_superseded)},
		{CASE(test_island)},
		{CASE(test_restarts_in_place)},
		{CASE(test_never_elects_a_non_member)},
		{CASE(test_copy_before_return)},
		{CASE(test_frozen_for_a_minute)},
		{CASE(test_two_fail)},
		{CASE(test_accept_unanswered)},
		{CASE(test_rebuild_ends_die)},
		{CASE(test_nexus_dies_in_rebuild)},
		{CASE(test_writes_during_rebuild)},
		{CASE(test_rebuilt_is_source)},
		{CASE(test_dies_in_grow)},
		{CASE(test_flush_fails_on_one)},
		{CASE(test_rolling_restart)},
		{CASE(test_asymmetric_partition)},
		{CASE(test_target_replaces_member)},
		{CASE(test_one_loses_power)},
		{CASE(test_all_lose_power_unflushed)},
		{CASE(test_all_lose_power_and_nexus_restarts)},
		{CASE(test_all_lose_power_flushed)},
		{CASE(test_single_replica), .options = {.data_replicas = 1}},
		{CASE(test_arbiter), .options = {.data_replicas = 2}},
	};

	return scenario_run_all("protocol", cases, ARRAY_COUNT(cases));
}
