/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas that answer, but slowly. */
#include "tests/sim/scenario.h"

#include <errno.h>
#include <string.h>

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

/* One write after the other, as often as they are answered. */
static void write_for_ms(struct scenario *scenario, unsigned ms)
{
	uint64_t end_ns = sim_now_ns(scenario->world.sim) + ms * IO_NS_PER_MS;

	while (sim_now_ns(scenario->world.sim) < end_ns) {
		scenario->request_count = 0;
		assert_int_equal(do_write(scenario, 0, 4), 0);
		run_ms(scenario, 50);
	}
}

static bool has_reason(struct scenario *scenario, const char *text)
{
	struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	return strstr(status.reason, text) != NULL;
}

/* 37: slow against its peers for ten seconds; back by a rebuild, and not at once. */
static void test_slow_replica_leaves(struct scenario *scenario)
{
	struct volume_status status;

	open_whole(scenario);
	disk_slow(scenario, C, 600);
	write_for_ms(scenario, 9000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
	write_for_ms(scenario, 6000);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 2);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	(void)slot_status(&scenario->world.slots[0], &status);
	assert_non_null(strstr(status.replicas[C].reason, "slow"));
	assert_int_equal(status.replicas[C].ejections, 1);
	disk_sound(scenario, C);
	run_ms(scenario, 40000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	await_whole(scenario);
}

/* It is still slow when it is back: out again, for longer. */
static void test_still_slow(struct scenario *scenario)
{
	open_whole(scenario);
	disk_slow(scenario, C, 300);
	write_for_ms(scenario, 200000);
	assert_int_equal(metric_get(&scenario_leg(scenario, C)->ejections), 2);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	disk_sound(scenario, C);
	run_ms(scenario, 120000);
	await_whole(scenario);
}

/* Not below min_insync. */
static void test_slow_but_needed(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, B);
	disk_slow(scenario, C, 600);
	write_for_ms(scenario, 25000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
	assert_int_equal(metric_get(&scenario_leg(scenario, C)->ejections), 0);
	disk_sound(scenario, C);
	come_back(scenario, B);
}

/* When another one fails the slow one is better than none. */
static void test_slow_is_better_than_none(struct scenario *scenario)
{
	open_whole(scenario);
	disk_slow(scenario, C, 300);
	write_for_ms(scenario, 15000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	go_away(scenario, B);
	run_ms(scenario, 1);
	assert_int_equal(do_write(scenario, 8, 8), 0);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
	disk_sound(scenario, C);
	come_back(scenario, B);
}

/* 38: all slow is the nexus's own network: nobody is dropped, and it is said. */
static void test_all_slow(struct scenario *scenario)
{
	open_whole(scenario);
	sim_set_extra_latency(scenario->world.sim, 450 * IO_NS_PER_MS);
	write_for_ms(scenario, 40000);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
	assert_true(has_reason(scenario, "every replica is slow"));
	assert_int_equal(metric_get(&scenario_volume(scenario)->all_slow), 1);
	sim_set_extra_latency(scenario->world.sim, 0);
	write_for_ms(scenario, 12000);
	assert_false(has_reason(scenario, "slow"));
	assert_int_equal(metric_get(&scenario_volume(scenario)->all_slow), 0);
}

/* The replica on the nexus's own node is no measure of the network. */
static void test_local_is_no_measure(struct scenario *scenario)
{
	open_whole(scenario);
	scenario_volume(scenario)->local_mask = 1u << A;
	disk_slow(scenario, B, 300);
	disk_slow(scenario, C, 300);
	write_for_ms(scenario, 25000);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
	disk_sound(scenario, B);
	write_for_ms(scenario, 15000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	assert_int_equal(replica_state_now(scenario, B), REPLICA_INSYNC);
	disk_sound(scenario, C);
}

/* Of four volumes on a pool-agent one may lack it for that; with one out the others keep it. */
static void test_budget_of_an_agent(struct scenario *scenario)
{
	struct peer *peer;

	open_whole(scenario);
	peer = scenario_leg(scenario, C)->peer;
	peer->users += 3;
	peer->ejected += 1;
	disk_slow(scenario, C, 300);
	write_for_ms(scenario, 25000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
	peer->ejected -= 1;
	write_for_ms(scenario, 3000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	peer->users -= 3;
	disk_sound(scenario, C);
}

/* One a minute: the second slow one waits, also when S could do without both. */
static void test_one_a_minute(struct scenario *scenario)
{
	open_whole(scenario);
	volume_set_min_insync(scenario_volume(scenario), 1);
	scenario_volume(scenario)->ejected_ns = io_now_ns(scenario_volume(scenario)->io);
	disk_slow(scenario, C, 300);
	write_for_ms(scenario, 50000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
	write_for_ms(scenario, 25000);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_OUT_OF_SYNC);
	disk_sound(scenario, C);
}

/* ---- reads ---- */

static uint64_t hedges(struct scenario *scenario)
{
	return metric_get(&scenario_volume(scenario)->hedges);
}

/* So many that it is known how long a read takes. */
static void read_much(struct scenario *scenario)
{
	for (unsigned i = 0; i < 200; i++) {
		scenario->request_count = 0;
		assert_int_equal(do_read(scenario, i % 100, 8), 0);
	}
}

static void open_and_read_much(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	read_much(scenario);
	assert_int_equal(hedges(scenario), 0);
}

/* A read that one member does not answer is answered by another one, long before that is out. */
static void test_late_read_is_hedged(struct scenario *scenario)
{
	uint64_t start_ns;

	open_and_read_much(scenario);
	disk_stuck(scenario, A, true);
	start_ns = sim_now_ns(scenario->world.sim);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(do_read(scenario, 8 * i, 8), 0);
	}
	assert_true(sim_now_ns(scenario->world.sim) < start_ns + 500 * IO_NS_PER_MS);
	assert_in_range(hedges(scenario), 2, 3);
	assert_int_equal(metric_get(&scenario_volume(scenario)->hedges_won), hedges(scenario));
	/* The losers keep no range: what they will send shows nobody anything. */
	disk_stuck(scenario, A, false);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
}

/* The first one wins after all: the second one's answer is for nobody. */
static void test_hedge_loses(struct scenario *scenario)
{
	open_and_read_much(scenario);
	for (unsigned i = 0; i < 8; i++) {
		struct scenario_request *read;

		disk_stuck(scenario, A, true);
		disk_stuck(scenario, B, true);
		disk_stuck(scenario, C, true);
		read = submit(scenario, BLK_READ, 0, 8);
		run_ms(scenario, 100);
		assert_int_equal(hedges(scenario), i + 1);
		disk_sound(scenario, A);
		disk_sound(scenario, B);
		disk_sound(scenario, C);
		assert_int_equal(answer_of(scenario, read), 0);
		assert_int_equal(do_write(scenario, 0, 8), 0);
	}
	assert_true(metric_get(&scenario_volume(scenario)->hedges_won) < hedges(scenario));
}

/* Not more than one in twenty, when it goes on. */
static void test_hedges_are_few(struct scenario *scenario)
{
	open_and_read_much(scenario);
	for (unsigned i = 0; i < 400; i++) {
		scenario->request_count = 0;
		sim_disk_set_faults(scenario->world.agents[i % 3].disk,
			&(struct sim_disk_faults){
				.slow_percent = 100, .slow_max_ns = (100 + 2 * i) * IO_NS_PER_MS});
		assert_int_equal(do_read(scenario, 0, 8), 0);
	}
	assert_true(hedges(scenario) > 8);
	assert_true(hedges(scenario) <= 8 + 600 / 20);
}

/* With one replica there is nobody else. */
static void test_nobody_to_hedge_with(struct scenario *scenario)
{
	struct scenario_request *read;

	open_and_read_much(scenario);
	disk_stuck(scenario, A, true);
	read = submit(scenario, BLK_READ, 0, 8);
	run_ms(scenario, 1500);
	assert_false(read->done);
	assert_int_equal(hedges(scenario), 0);
	disk_stuck(scenario, A, false);
	assert_int_equal(answer_of(scenario, read), 0);
}

/* The member that was asked first is just sending, and is stopped. */
static void test_hedge_during_a_transfer(struct scenario *scenario)
{
	struct sim *sim = scenario->world.sim;
	struct rng *rng = sim_rng(sim);

	open_and_read_much(scenario);
	for (unsigned i = 0; i < 60; i++) {
		struct scenario_request *read;
		unsigned frozen = (unsigned)rng_below(rng, 3);

		scenario->request_count = 0;
		read = submit(scenario, BLK_READ, 0, 8);
		sim_run_for_ns(sim, rng_below(rng, 900) * 1000);
		cut_off(scenario, frozen, false, true);
		run_ms(scenario, 300);
		cut_off(scenario, frozen, false, false);
		assert_int_equal(answer_of(scenario, read), 0);
		assert_int_equal(do_write(scenario, 0, 8), 0);
	}
	assert_true(hedges(scenario) > 0);
}

/* ---- the nexus itself ---- */

static void suspend(struct scenario *scenario, unsigned ms)
{
	sim_process_freeze(scenario->world.slots[scenario->writer].process, ms * IO_NS_PER_MS);
}

/* 61: after a gap that is longer than the lease all are fenced anew before a read is answered. */
static void test_fences_after_a_gap(struct scenario *scenario)
{
	uint32_t sessions[3];

	open_whole(scenario);
	write_all(scenario);
	suspend(scenario, 2500);
	for (unsigned i = 0; i < 3; i++) {
		sessions[i] = scenario_leg(scenario, i)->session;
	}
	assert_int_equal(do_read(scenario, 0, 8), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(scenario_leg(scenario, i)->session, sessions[i]);
	}
	for (unsigned round = 0; round < 3; round++) {
		struct scenario_request *read = NULL;

		run_ms(scenario, 1000);
		for (unsigned i = 0; i < 3; i++) {
			sessions[i] = scenario_leg(scenario, i)->session;
		}
		/* Asked before, within, or after it. */
		if (round == 0) {
			read = submit(scenario, BLK_READ, 0, 8);
		}
		suspend(scenario, 4000);
		run_ms(scenario, round == 2 ? 4001 : 1000);
		if (round != 0) {
			read = submit(scenario, BLK_READ, 0, 8);
		}
		assert_int_equal(answer_of(scenario, read), 0);
		/* A majority at least; who is late comes in the next moments. */
		assert_true((scenario_leg(scenario, 0)->session > sessions[0]) +
				    (scenario_leg(scenario, 1)->session > sessions[1]) +
				    (scenario_leg(scenario, 2)->session > sessions[2]) >=
			    2);
	}
	assert_int_equal(cfg_insync_count(&scenario_volume(scenario)->cfg), 3);
}

/* Meanwhile another node took over and wrote: it does not answer what it knew. */
static void test_taken_over_in_a_gap(struct scenario *scenario)
{
	struct scenario_request *before, *within;

	open_whole(scenario);
	write_all(scenario);
	before = submit(scenario, BLK_READ, 0, 8);
	suspend(scenario, 20000);
	run_ms(scenario, 1000);
	within = submit(scenario, BLK_READ, 0, 8);
	scenario_open(scenario, 1);
	write_all(scenario);
	run_ms(scenario, 20000);
	assert_int_equal(answer_of(scenario, within), -EIO);
	(void)answer_of(scenario, before); /* the oracle knows what it may show */
	scenario->writer = 0;
	assert_int_equal(volume_state_now(scenario), VOLUME_SUPERSEDED);
	scenario->writer = 1;
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_slow_replica_leaves)},
		{CASE(test_still_slow)},
		{CASE(test_slow_but_needed)},
		{CASE(test_slow_is_better_than_none)},
		{CASE(test_all_slow)},
		{CASE(test_local_is_no_measure)},
		{CASE(test_budget_of_an_agent)},
		{CASE(test_one_a_minute)},
		{CASE(test_late_read_is_hedged)},
		{CASE(test_hedge_loses)},
		{CASE(test_hedges_are_few)},
		{CASE(test_nobody_to_hedge_with), .options = {.data_replicas = 1}},
		{CASE(test_hedge_during_a_transfer)},
		{CASE(test_fences_after_a_gap)},
		{CASE(test_taken_over_in_a_gap)},
	};

	return scenario_run_all("slow", cases, ARRAY_COUNT(cases));
}
