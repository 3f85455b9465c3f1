/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile reading of the mirror found: one history each, which goes wrong without its fix.
 */
#include "tests/sim/scenario.h"

#include <errno.h>

/* An idle volume takes about 150 steps a second. */
#define QUIET_STEPS 2500

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static void write_range(struct scenario *scenario, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += OP_BLOCKS_MAX) {
		assert_int_equal(do_write(scenario, at, OP_BLOCKS_MAX), 0);
	}
}

static unsigned insync(struct scenario *scenario)
{
	return cfg_insync_count(&scenario_volume(scenario)->cfg);
}

/* S = {A, B}; C is being rebuilt, slowly; blocks from 96 on were never written. */
static void open_with_slow_target(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, C);
	write_range(scenario, 0, 96);
	disk_slow(scenario, C, 30);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	while (scenario_leg(scenario, C)->todo_all) {
		(void)sim_step(scenario->world.sim);
	}
}

/* The range is in nobody's todo: a target without that write must not join. */
static void test_target_fails_mirrored_write(struct scenario *scenario)
{
	struct scenario_request *request;

	open_with_slow_target(scenario);
	assert_int_equal(do_write(scenario, 120, 4), 0);
	disk_stuck(scenario, A, true);
	disk_stuck(scenario, B, true);
	run_ms(scenario, 100);
	disk_fails_next(scenario, C);
	request = submit_write(scenario, 120, 4);
	run_ms(scenario, 50);
	disk_sound(scenario, A);
	disk_sound(scenario, B);
	assert_int_equal(answer_of(scenario, request), 0);
	await_whole(scenario);
}

/* Copies that pass parked writes read only from members that have them. */
static void test_copies_pass_parked_writes(struct scenario *scenario)
{
	open_with_slow_target(scenario);
	for (unsigned round = 0; round < 3; round++) {
		freeze(scenario, round % 2, 2600 + 100 * round);
		for (unsigned i = 0; i < 12; i++) {
			(void)submit_write(scenario, 8 * i, 8);
			run_ms(scenario, 3);
		}
		run_ms(scenario, 4000);
	}
	await_whole(scenario);
}

/* A token that is reported lost before the leg is ready: no lease by it. */
static void test_lost_before_ready(struct scenario *scenario)
{
	struct leg *leg;
	uint32_t session;

	open_whole(scenario);
	leg = scenario_leg(scenario, B);
	go_away(scenario, B);
	run_ms(scenario, 100);
	agent_start(&scenario->world.agents[B]);
	while (leg->state != LEG_AWAIT_VOTER_STATE) {
		(void)sim_step(scenario->world.sim);
	}
	session = leg->session;
	leg->watch.heard(&leg->watch, leg->fence_sent_ns, true);
	while (!leg->ready) {
		(void)sim_step(scenario->world.sim);
	}
	assert_true(leg->session > session);
}

static bool is_proposing(void *scenario)
{
	return scenario_volume(scenario)->proposal_open;
}

static bool a_is_back(void *scenario)
{
	const struct leg *leg = scenario_leg(scenario, A);

	return leg->ready && !leg->out;
}

/* B and C may have accepted a configuration without A. */
static void test_reads_from_every_proposed_s(struct scenario *scenario)
{
	struct scenario_request *write;

	open_whole(scenario);
	write_range(scenario, 0, 128);
	freeze(scenario, A, 2600);
	write = submit_write(scenario, 0, 8);
	await(scenario, is_proposing);
	cut_off(scenario, B, false, true);
	cut_off(scenario, C, false, true);
	await(scenario, a_is_back);
	assert_true(is_proposing(scenario));
	assert_int_equal(volume_readable(scenario_volume(scenario)) & 1u, 0);
	cut_off(scenario, B, false, false);
	cut_off(scenario, C, false, false);
	assert_int_equal(answer_of(scenario, write), 0);
}

/* S = {A, B} and A lost its power: it is rebuilt in place and counts again when that is done. */
static void test_rebuilt_in_place_does_not_count(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	go_away(scenario, C);
	write_range(scenario, 0, 96);
	assert_int_equal(insync(scenario), 2);
	lose_power(scenario, A, 300);
	run_ms(scenario, 310);
	disk_slow(scenario, A, 30);
	await_replica(scenario, A, REPLICA_REBUILDING);
	while (scenario_leg(scenario, A)->todo_all) {
		(void)sim_step(scenario->world.sim);
	}
	request = submit_write(scenario, 120, 4);
	assert_int_equal(answer_of(scenario, request), 0);
	assert_int_equal(request->usable, 2);
	come_back(scenario, C);
}

/* Four reads that a stuck disk does not answer are all copiers there are. */
static void test_stuck_source_does_not_stop_copies(struct scenario *scenario)
{
	open_with_slow_target(scenario);
	disk_stuck(scenario, A, true);
	await_replica(scenario, C, REPLICA_INSYNC);
	assert_int_not_equal(replica_state_now(scenario, A), REPLICA_INSYNC);
	disk_sound(scenario, A);
	await_whole(scenario);
}

static void test_closes_with_a_stuck_disk(struct scenario *scenario)
{
	open_whole(scenario);
	disk_stuck(scenario, A, true);
	(void)submit_write(scenario, 0, 8);
	(void)submit(scenario, BLK_READ, 8, 8);
	run_ms(scenario, 10);
	close_slot(&scenario->world.slots[0]);
	assert_false(scenario->world.failed);
	disk_sound(scenario, A);
}

static void test_read_of_a_stuck_disk(struct scenario *scenario)
{
	uint64_t start_ns;

	open_whole(scenario);
	write_range(scenario, 0, 128);
	disk_stuck(scenario, A, true);
	start_ns = sim_now_ns(scenario->world.sim);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(do_read(scenario, 8 * i, 8), 0);
	}
	assert_true(sim_now_ns(scenario->world.sim) < start_ns + 4 * IO_NS_PER_S);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	disk_sound(scenario, A);
	await_whole(scenario);
}

/* A pool too small for the volume. */
static void fill_up(struct scenario *scenario)
{
	unsigned full = 0;

	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		int result = do_write(scenario, at, OP_BLOCKS_MAX);

		assert_true(result == 0 || result == -ENOSPC);
		full += result == -ENOSPC;
	}
	assert_true(full > 0);
	run_ms(scenario, 3000);
	assert_true(steps_of_a_second(scenario) < QUIET_STEPS);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_int_equal(answer_of(scenario, submit(scenario, BLK_DISCARD, 0, 64)), 0);
	run_ms(scenario, 1000);
	assert_int_equal(do_write(scenario, 0, 8), 0);
}

static void test_single_replica_is_full(struct scenario *scenario)
{
	open_whole(scenario);
	fill_up(scenario);
	await_whole(scenario);
}

static bool c_is_copied_to(void *scenario)
{
	const struct leg *leg = scenario_leg(scenario, C);

	return leg->target && !leg->todo_all;
}

/* A piece of R is as large as several pieces of an exact map: a target that has some of them left
 * gets the others from R, of which it may have what the members do not take. */
static void test_target_has_part_of_a_piece(struct scenario *scenario)
{
	size_t last = scenario->world.options.block_count - 16;
	unsigned full = 0;

	open_whole(scenario);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	run_ms(scenario, 5000);
	cut_off(scenario, C, true, true);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(do_write(scenario, last + 8, 4), 0);
	for (size_t at = 16; at < last && full == 0; at += 8) {
		full += do_write(scenario, at, 8) == -ENOSPC;
		scenario->request_count = 0;
	}
	assert_int_equal(full, 1);
	cut_off(scenario, C, false, false);
	await(scenario, c_is_copied_to);
	assert_true(piecemap_test(&scenario_leg(scenario, C)->todo, (last + 8) * 4096, 4096));
	assert_false(piecemap_test(&scenario_leg(scenario, C)->todo, (last + 4) * 4096, 4096));
	assert_int_equal(do_write(scenario, last + 4, 4), -ENOSPC);
	await_whole(scenario);
}

static void test_last_member_is_full(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(insync(scenario), 1);
	fill_up(scenario);
	come_back(scenario, B);
}

/* With min_insync 2 it cannot be dropped: asked again and again, but not at once. */
static void test_failed_store_is_not_asked_all_the_time(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	sim_disk_set_faults(scenario->world.agents[B].disk,
		&(struct sim_disk_faults){.write_error_percent = 100});
	request = submit_write(scenario, 0, 8);
	run_ms(scenario, 3000);
	assert_true(steps_of_a_second(scenario) < QUIET_STEPS);
	assert_false(request->done);
	disk_sound(scenario, B);
}

static bool joiner_is_proposed(void *scenario)
{
	return scenario_volume(scenario)->joiner_proposed;
}

/* It may have accepted the configuration with itself in S, and comes back at once. */
static void test_joiner_flaps(struct scenario *scenario)
{
	open_whole(scenario);
	for (unsigned round = 0; round < 4; round++) {
		go_away(scenario, C);
		write_range(scenario, 0, 32);
		come_back(scenario, C);
		await(scenario, joiner_is_proposed);
		(void)submit_write(scenario, 0, 8);
		go_away(scenario, C);
		(void)submit_write(scenario, 16, 8);
		come_back(scenario, C);
		await_whole(scenario);
		assert_int_equal(do_read(scenario, 0, 32), 0);
	}
}

static bool b_is_flushed(void *scenario)
{
	return scenario_leg(scenario, B)->join_state == JOIN_AWAIT_FLUSH;
}

/* It takes the place of the last member and has not accepted that when the nexus ends: nobody has a
 * configuration with it alone, for which the member would be no source any more. */
static void test_joiner_accepts_first(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, 32);
	go_away(scenario, B);
	write_range(scenario, 0, 32);
	come_back(scenario, B);
	await(scenario, b_is_flushed);
	leg_fail(scenario_leg(scenario, A), "the test wants it");
	go_away(scenario, A);
	await(scenario, joiner_is_proposed);
	assert_int_equal(mask_count(scenario_volume(scenario)->proposed_mask), 1);
	cut_off(scenario, B, true, true);
	run_ms(scenario, 100);
	go_away(scenario, B);
	nexus_crash(scenario, true);
	sim_heal_all(scenario->world.sim);
	come_back(scenario, A);
	come_back(scenario, B);
	await_whole(scenario);
	assert_int_equal(do_read(scenario, 0, 32), 0);
}

/* It fails while the configuration with itself in the place of a lost member is on its way, and
 * without it there are not enough: it is rebuilt again, or nothing would ever go on. */
static void test_joiner_fails_below_the_minimum(struct scenario *scenario)
{
	struct scenario_request *write;

	open_whole(scenario);
	write_range(scenario, 0, 96);
	go_away(scenario, B);
	write_range(scenario, 0, 96);
	disk_slow(scenario, B, 10);
	come_back(scenario, B);
	await_replica(scenario, B, REPLICA_REBUILDING);
	go_away(scenario, A);
	write = submit_write(scenario, 0, 8);
	while (!scenario_volume(scenario)->joiner_proposed) {
		assert_true(sim_step(scenario->world.sim));
	}
	cut_off(scenario, B, true, true);
	run_ms(scenario, 5000);
	cut_off(scenario, B, false, false);
	assert_int_equal(answer_of(scenario, write), 0);
	come_back(scenario, A);
}

/* Every replica is needed, two lose their power: neither may wait for the other to join first. */
static void test_two_are_rebuilt_in_place(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, 96);
	assert_int_equal(do_flush(scenario), 0);
	lose_power(scenario, A, 300);
	lose_power(scenario, C, 400);
	run_ms(scenario, 1000);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(volume_state_now(scenario), VOLUME_ONLINE);
}

/* R is empty: all that was written before this opening is clean. */
static void test_clean_rises(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, 128);
	nexus_crash(scenario, true);
	await_whole(scenario);
	run_ms(scenario, 3000);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(store_replica_vmeta(scenario->world.agents[i].replica)->clean,
			scenario_volume(scenario)->wgen - 1);
	}
}

static void on_compared(struct volume_compare *compare)
{
	(void)compare;
}

/* What the state file says of the size is only for the first opening. */
static void test_smaller_than_its_options(struct scenario *scenario)
{
	struct scenario_request *beyond;
	struct volume_compare compare = {.done = on_compared};

	scenario->world.options.block_count = scenario->world.options.start_blocks = 64;
	open_whole(scenario);
	slot_crash(&scenario->world.slots[0], false);
	scenario->world.options.block_count = scenario->world.options.start_blocks = 128;
	slot_open(&scenario->world.slots[0], 1);
	beyond = submit_write(scenario, 100, 8);
	assert_int_equal(answer_of(scenario, beyond), -ERANGE);
	compare.offset = UINT64_C(64) * ORACLE_BLOCK_BYTES;
	compare.length = ORACLE_BLOCK_BYTES;
	volume_compare(scenario->world.slots[0].volume, &compare);
	assert_int_equal(compare.results[0], -ERANGE);
	assert_int_equal(do_write(scenario, 56, 8), 0);
	scenario->world.options.block_count = scenario->world.options.start_blocks = 64;
}

/* In parts, each on all members before the next; a member goes in between. */
static void test_discard_in_parts(struct scenario *scenario)
{
	size_t blocks = scenario->world.options.block_count;
	struct scenario_request *request;
	struct volume_status status;
	uint64_t before;

	open_whole(scenario);
	write_range(scenario, 0, 16);
	write_range(scenario, blocks - 16, blocks);
	volume_get_status(scenario_volume(scenario), &status);
	before = status.replicas[A].writes;
	request = submit(scenario, BLK_DISCARD, 0, blocks);
	run_ms(scenario, 1);
	go_away(scenario, B);
	assert_int_equal(answer_of(scenario, request), 0);
	volume_get_status(scenario_volume(scenario), &status);
	assert_true(status.replicas[A].writes >= before + 3);
	assert_int_equal(do_read(scenario, blocks - 8, 8), 0);
	come_back(scenario, B);
}

/* Copies that wait for a part must not pass the next one. */
static void test_discard_in_parts_during_rebuild(struct scenario *scenario)
{
	size_t blocks = scenario->world.options.block_count;
	struct scenario_request *request;

	open_whole(scenario);
	go_away(scenario, C);
	for (size_t at = 0; at < blocks; at += blocks / 50) {
		assert_int_equal(do_write(scenario, at, 8), 0);
	}
	come_back(scenario, C);
	while (scenario_leg(scenario, C)->compute_state != COMPUTE_AWAIT_SOURCE) {
		(void)sim_step(scenario->world.sim);
	}
	disk_slow(scenario, A, 50);
	disk_slow(scenario, B, 50);
	request = submit(scenario, BLK_DISCARD, 0, blocks);
	run_ms(scenario, 10);
	go_away(scenario, A);
	assert_int_equal(answer_of(scenario, request), 0);
	disk_sound(scenario, A);
	disk_sound(scenario, B);
	come_back(scenario, A);
	await_whole(scenario);
}

static bool is_at_second_part(void *scenario)
{
	struct list_node *first = list_first(&scenario_volume(scenario)->issued);

	return first != NULL && container_of(first, struct vol_op, seq_node)->part_offset > 0;
}

/* A part that is done is as good as acknowledged: nobody sends it again. */
static void test_discard_in_parts_and_power(struct scenario *scenario)
{
	size_t blocks = scenario->world.options.block_count;
	struct scenario_request *request;

	open_whole(scenario);
	write_range(scenario, 0, 64);
	assert_int_equal(do_flush(scenario), 0);
	request = submit(scenario, BLK_ZERO, 0, blocks);
	request->op->req.fua = false;
	await(scenario, is_at_second_part);
	for (unsigned i = 0; i < 3; i++) {
		lose_power(scenario, i, 100);
	}
	assert_int_equal(answer_of(scenario, request), -EIO);
	assert_int_equal(volume_state_now(scenario), VOLUME_FAULTED);
}

/* The nexus itself was stopped: the answers wait in the sockets. */
static void test_late_tick_ejects_nobody(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	request = submit_write(scenario, 0, 8);
	sim_run_for_ns(scenario->world.sim, 15 * 1000); /* sent, and not answered */
	sim_process_freeze(scenario->world.slots[0].process, 5 * IO_NS_PER_S);
	assert_int_equal(answer_of(scenario, request), 0);
	run_ms(scenario, 500);
	assert_int_equal(insync(scenario), 3);
}

/* Another process of the same attach opens and dies: the first one opens again, in place. */
static void test_reopens_in_place(struct scenario *scenario)
{
	struct scenario_request *request;

	open_whole(scenario);
	write_range(scenario, 0, 64);
	for (unsigned i = 0; i < 8; i++) {
		request = submit_write(scenario, 8 * i + 4, 8);
	}
	slot_open(&scenario->world.slots[1], 1);
	run_ms(scenario, 3000);
	slot_crash(&scenario->world.slots[1], false);
	assert_int_equal(answer_of(scenario, request), 0);
	assert_true(scenario_volume(scenario)->epoch.inc > 2);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	await_whole(scenario);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_target_fails_mirrored_write), .options = {.min_insync = 1}},
		{CASE(test_copies_pass_parked_writes)},
		{CASE(test_lost_before_ready)},
		{CASE(test_reads_from_every_proposed_s)},
		{CASE(test_rebuilt_in_place_does_not_count)},
		{CASE(test_stuck_source_does_not_stop_copies), .options = {.min_insync = 1}},
		{CASE(test_closes_with_a_stuck_disk)},
		{CASE(test_read_of_a_stuck_disk)},
		{CASE(test_single_replica_is_full),
			.options = {.data_replicas = 1, .small_agent = A + 1, .block_count = 512}},
		{CASE(test_target_has_part_of_a_piece), .options = {.small_agent = A + 1,
								.min_insync = 2,
								.block_count = 1024,
								.pool_bytes = UINT64_C(24) << 20,
								.region_bytes = UINT64_C(4) << 20,
								.cluster_bytes = 16384,
								.rebuild_rate_max = 512 << 10}},
		{CASE(test_last_member_is_full),
			.options = {.data_replicas = 2, .small_agent = A + 1, .block_count = 512}},
		{CASE(test_failed_store_is_not_asked_all_the_time),
			.options = {.data_replicas = 2, .min_insync = 2}},
		{CASE(test_joiner_accepts_first), .options = {.data_replicas = 2}},
		{CASE(test_joiner_flaps)},
		{CASE(test_joiner_fails_below_the_minimum)},
		{CASE(test_two_are_rebuilt_in_place), .options = {.min_insync = 3}},
		{CASE(test_clean_rises)},
		{CASE(test_smaller_than_its_options)},
		{CASE(test_discard_in_parts),
			.options = {.block_count = 40000, .region_bytes = 1 << 20}},
		{CASE(test_discard_in_parts_during_rebuild), .options = {.block_count = 40000,
								     .min_insync = 1,
								     .region_bytes = 1 << 20}},
		{CASE(test_discard_in_parts_and_power),
			.options = {.block_count = 40000, .region_bytes = 1 << 20}},
		{CASE(test_late_tick_ejects_nobody)},
		{CASE(test_reopens_in_place)},
	};

	return scenario_run_all("review", cases, ARRAY_COUNT(cases));
}
