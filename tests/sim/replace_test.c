/* SPDX-License-Identifier: Apache-2.0 */
/* A member is lost for good below min_insync, and another takes its place (docs/protocol.md 1.7).
 */
#include "tests/sim/scenario_voters.h"

#define LOST_MS 57000 /* and 2 s until it is out: a little later it may be replaced */

/* min_insync copies are needed and one is lost for good: the one that takes its place comes in,
 * too, and nothing is acknowledged before it has caught up. */
static void test_replace_below_minimum(struct scenario *scenario)
{
	struct scenario_request *write;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	write = submit_write(scenario, 0, 8);
	run_ms(scenario, 4000);
	make(scenario, D, VOTER_DATA);
	disk_slow(scenario, D, 10);
	begin_add(scenario, D);
	run_ms(scenario, LOST_MS - 4000);
	assert_false(is_voter(scenario, D));
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 2);
	await_voter(scenario, D, true);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 1);
	assert_false(write->done);
	assert_int_equal(answer_of(scenario, write), 0);
	assert_int_equal(write->usable, 2);
	drop(scenario, B);
	nexus_crash(scenario, true);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	await_whole(scenario);
}

/* The same, but the lost one is back before its place is taken. */
static void test_returns_below_minimum(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	(void)submit_write(scenario, 0, 8);
	run_ms(scenario, LOST_MS);
	make(scenario, D, VOTER_DATA);
	disk_slow(scenario, D, 20);
	begin_add(scenario, D);
	await_voter(scenario, D, true);
	come_back(scenario, B);
	go_away(scenario, D);
	assert_int_equal(do_write(scenario, 4, 8), 0);
	come_back(scenario, D);
	await_whole(scenario);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 3);
}

/* B only starts again while D comes: it stays in S, and does without A afterwards. */
static void test_reboots_below_minimum(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	make(scenario, D, VOTER_DATA);
	begin_add(scenario, D);
	run_ms(scenario, 20000);
	assert_false(is_voter(scenario, D));
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 2);
	go_away(scenario, A);
	come_back(scenario, B);
	nexus_crash(scenario, false);
	await(scenario, is_committed);
	begin_add(scenario, D);
	await_voter(scenario, D, true);
	come_back(scenario, A);
	await_whole(scenario);
}

/* B is lost, and D is proposed in its place. */
static void propose_replacement(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	make(scenario, D, VOTER_DATA);
	make(scenario, E, VOTER_DATA);
	go_away(scenario, B);
	run_ms(scenario, LOST_MS);
	begin_add(scenario, D);
	await(scenario, is_proposing);
}

static void replace_with_another(struct scenario *scenario)
{
	begin_add(scenario, E);
	await_voter(scenario, E, true);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	drop(scenario, B);
	await_whole(scenario);
}

/* The new disk cannot take it: that is settled without B, too, and another one comes. */
static void test_replacement_cannot_write(struct scenario *scenario)
{
	struct err err = {0};

	propose_replacement(scenario);
	disk_fails_next(scenario, D);
	run_ms(scenario, 1000);
	assert_false(is_voter(scenario, D));
	assert_false(is_proposing(scenario));
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 1);
	assert_int_equal(ask_remove(scenario, D, &err), 0);
	replace_with_another(scenario);
}

/* It dies before it has the record, and so does the nexus: nobody else has a record that needs its
 * vote. */
static void test_replacement_dies_with_the_nexus(struct scenario *scenario)
{
	propose_replacement(scenario);
	cut_off(scenario, D, true, true);
	run_ms(scenario, 100);
	go_away(scenario, D);
	api_is_current(scenario);
	slot_crash(&scenario->world.slots[0], false);
	scenario_open(scenario, 1);
	await(scenario, is_committed);
	replace_with_another(scenario);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_replace_below_minimum),
			.options = {.data_replicas = 2, .spares = 1, .min_insync = 2}},
		{CASE(test_returns_below_minimum),
			.options = {.data_replicas = 2, .spares = 1, .min_insync = 2}},
		{CASE(test_reboots_below_minimum),
			.options = {.data_replicas = 2, .spares = 1, .min_insync = 2}},
		{CASE(test_replacement_cannot_write),
			.options = {.data_replicas = 2, .spares = 2, .min_insync = 2}},
		{CASE(test_replacement_dies_with_the_nexus),
			.options = {.data_replicas = 2, .spares = 2, .min_insync = 2}},
	};

	return scenario_run_all("replace", cases, ARRAY_COUNT(cases));
}
