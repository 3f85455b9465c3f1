/* SPDX-License-Identifier: Apache-2.0 */
/* Too few replicas: requests wait, or fail where the volume says so; what failed is settled before
 * it is read (trap F11). */
#include "tests/sim/scenario.h"

#include <errno.h>
#include <string.h>

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static void open_that_fails_after_5_s(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	volume_set_no_quorum(scenario_volume(scenario), 5 * IO_NS_PER_S);
}

static bool says_so(struct scenario *scenario)
{
	struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	return strstr(status.reason, "requests fail meanwhile") != NULL;
}

/* 16, the default: they wait as long as it takes. */
static void test_stall(struct scenario *scenario)
{
	struct scenario_request *write, *read;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	go_away(scenario, C);
	write = submit_write(scenario, 0, 8);
	read = submit(scenario, BLK_READ, 16, 8);
	run_ms(scenario, 120000);
	assert_false(write->done);
	come_back(scenario, B);
	assert_int_equal(answer_of(scenario, write), 0);
	assert_int_equal(answer_of(scenario, read), 0);
	come_back(scenario, C);
}

static void test_error_after_a_while(struct scenario *scenario)
{
	struct scenario_request *write, *flush, *read;
	uint64_t start_ns;

	open_that_fails_after_5_s(scenario);
	go_away(scenario, B);
	go_away(scenario, C);
	write = submit_write(scenario, 0, 8);
	flush = submit(scenario, BLK_FLUSH, 0, 0);
	run_ms(scenario, 4500);
	assert_false(write->done || flush->done);
	assert_false(says_so(scenario));
	read = submit(scenario, BLK_READ, 16, 8);
	assert_int_equal(answer_of(scenario, write), -EIO);
	assert_int_equal(answer_of(scenario, flush), -EIO);
	assert_int_equal(answer_of(scenario, read), -EIO);
	assert_int_equal(volume_state_now(scenario), VOLUME_STALLED);
	assert_true(says_so(scenario));
	start_ns = sim_now_ns(scenario->world.sim);
	assert_int_equal(do_write(scenario, 8, 8), -EIO);
	assert_int_equal(do_read(scenario, 8, 8), -EIO);
	assert_true(sim_now_ns(scenario->world.sim) < start_ns + 10 * IO_NS_PER_MS);
	come_back(scenario, B);
	run_ms(scenario, 3000);
	assert_false(says_so(scenario));
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(do_flush(scenario), 0);
	come_back(scenario, C);
}

/* A write that only one member took, and that failed: all get one content before it is read, and it
 * stays that. */
static void test_failed_write_is_settled(struct scenario *scenario)
{
	struct scenario_request *write;

	open_that_fails_after_5_s(scenario);
	for (unsigned round = 0; round < 3; round++) {
		unsigned b = (round + 1) % 3, c = (round + 2) % 3;

		cut_off(scenario, b, true, true);
		cut_off(scenario, c, true, true);
		write = submit_write(scenario, 0, 8);
		assert_int_equal(answer_of(scenario, write), -EIO);
		assert_true(scenario_volume(scenario)->resync.count > 0);
		cut_off(scenario, b, false, false);
		cut_off(scenario, c, false, false);
		run_ms(scenario, 3000);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(do_read(scenario, 0, 8), 0);
		}
		await_whole(scenario);
		assert_int_equal(scenario_volume(scenario)->resync.count, 0);
	}
}

/* It was never open: no majority of the voters. */
static void test_opening_without_majority(struct scenario *scenario)
{
	struct scenario_request *read;

	open_whole(scenario);
	write_all(scenario);
	slot_crash(&scenario->world.slots[0], false);
	go_away(scenario, B);
	go_away(scenario, C);
	scenario_open(scenario, 1);
	volume_set_no_quorum(scenario_volume(scenario), 5 * IO_NS_PER_S);
	read = submit(scenario, BLK_READ, 0, 8);
	assert_int_equal(answer_of(scenario, read), -EIO);
	assert_int_equal(volume_state_now(scenario), VOLUME_OPENING);
	come_back(scenario, B);
	run_ms(scenario, 5000);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	come_back(scenario, C);
}

/* Changed while requests wait: to errors, and back. */
static void test_changed_live(struct scenario *scenario)
{
	struct scenario_request *write;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	go_away(scenario, C);
	write = submit_write(scenario, 0, 8);
	run_ms(scenario, 20000);
	assert_false(write->done);
	volume_set_no_quorum(scenario_volume(scenario), IO_NS_PER_S);
	assert_int_equal(answer_of(scenario, write), -EIO);
	volume_set_no_quorum(scenario_volume(scenario), 0);
	run_ms(scenario, 1000);
	write = submit_write(scenario, 0, 8);
	run_ms(scenario, 20000);
	assert_false(write->done);
	/* One copy is enough now, but there is no majority that would agree to leave the others. */
	volume_set_min_insync(scenario_volume(scenario), 1);
	run_ms(scenario, 5000);
	assert_false(write->done);
	come_back(scenario, B);
	assert_int_equal(answer_of(scenario, write), 0);
	come_back(scenario, C);
}

/* The minimum of the live volume: two of three, then one, then two again. */
static void test_min_insync_changed_live(struct scenario *scenario)
{
	struct scenario_request *write;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	volume_set_min_insync(scenario_volume(scenario), 3);
	write = submit_write(scenario, 0, 8);
	run_ms(scenario, 5000);
	assert_false(write->done);
	assert_int_equal(volume_state_now(scenario), VOLUME_STALLED);
	volume_set_min_insync(scenario_volume(scenario), 2);
	assert_int_equal(answer_of(scenario, write), 0);
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	come_back(scenario, C);
}

/* 27: full everywhere: the host hears it, nobody goes, and it is settled before it is read; the
 * host's next try finds room. */
static void test_full_everywhere(struct scenario *scenario)
{
	struct volume_status status;
	unsigned failed = 0;

	open_whole(scenario);
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		int result = do_write(scenario, at, OP_BLOCKS_MAX);

		assert_true(result == 0 || result == -ENOSPC);
		failed += result == -ENOSPC;
	}
	assert_true(failed > 0);
	assert_true(slot_status(&scenario->world.slots[0], &status));
	assert_int_equal(cfg_insync_count(&status.cfg), 1);
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		assert_int_equal(do_read(scenario, at, OP_BLOCKS_MAX), 0);
	}
	run_ms(scenario, 1000);
	assert_true(slot_status(&scenario->world.slots[0], &status));
	assert_int_equal(status.resync_regions, 0);
	assert_int_equal(status.unsettled_ranges, 0);
	assert_int_equal(answer_of(scenario, submit(scenario, BLK_DISCARD, 0, 32)), 0);
	run_ms(scenario, 1000);
	assert_int_equal(do_write(scenario, scenario->world.options.block_count - 8, 8), 0);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_stall)},
		{CASE(test_error_after_a_while)},
		{CASE(test_failed_write_is_settled)},
		{CASE(test_opening_without_majority)},
		{CASE(test_changed_live)},
		{CASE(test_min_insync_changed_live)},
		{CASE(test_full_everywhere), .options = {.data_replicas = 1, .small_agent = 1}},
	};

	return scenario_run_all("quorum", cases, ARRAY_COUNT(cases));
}
