/* SPDX-License-Identifier: Apache-2.0 */
/* Rebuilds beside the host's requests and beside each other. */
#include "tests/sim/scenario.h"

#include <string.h>

#define MIB       (UINT64_C(1) << 20)
#define DISK_RATE (8 * MIB)
#define RATE_MIN  (UINT64_C(256) << 10)
#define RATE_MAX  (MIB / 2)

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static uint64_t now_ns(struct scenario *scenario)
{
	return sim_now_ns(scenario->world.sim);
}

static void fill(struct scenario *scenario)
{
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		scenario->request_count = 0;
		assert_int_equal(do_write(scenario, at, OP_BLOCKS_MAX), 0);
	}
}

/* While the agents are away everything is written; then they are back, with no copy begun. */
static void miss_all(struct scenario *scenario, unsigned agents)
{
	open_whole(scenario);
	for (unsigned i = 0; i < agents; i++) {
		go_away(scenario, C + i);
	}
	fill(scenario);
	for (unsigned i = 0; i < agents; i++) {
		come_back(scenario, C + i);
	}
}

static bool is_whole_now(struct scenario *scenario)
{
	return volume_state_now(scenario) == VOLUME_ONLINE;
}

static uint64_t copied_to(struct scenario *scenario, unsigned agent)
{
	return metric_get(&scenario_leg(scenario, agent)->copied_bytes);
}

/* ---- beside the host ---- */

struct load {
	uint64_t count, took_ns;
};

/* One request after the other, as an application that waits for each of them. */
static void run_load(struct scenario *scenario, struct load *load, unsigned ms)
{
	struct rng *rng = sim_rng(scenario->world.sim);
	uint64_t end_ns = now_ns(scenario) + ms * IO_NS_PER_MS;

	while (now_ns(scenario) < end_ns) {
		size_t first = rng_below(rng, scenario->world.options.block_count - 4);
		uint64_t start_ns = now_ns(scenario);

		scenario->request_count = 0;
		assert_int_equal(do_write(scenario, first, 4), 0);
		load->took_ns += now_ns(scenario) - start_ns;
		load->count++;
		run_ms(scenario, 10);
	}
}

static void disks_have_a_speed(struct scenario *scenario, uint64_t bytes_per_s)
{
	for (unsigned i = 0; i < 3; i++) {
		sim_disk_set_faults(scenario->world.agents[i].disk,
			&(struct sim_disk_faults){.bytes_per_s = bytes_per_s});
	}
}

/* The mean time of a write while C is rebuilt, in hundredths of that without copies; how long that
 * takes. */
static uint64_t measure(struct scenario *scenario, uint64_t *ret_ms)
{
	struct load usual = {0}, beside = {0};
	uint64_t start_ns;

	open_whole(scenario);
	disks_have_a_speed(scenario, DISK_RATE);
	go_away(scenario, C);
	fill(scenario);
	run_load(scenario, &usual, 3000);
	come_back(scenario, C);
	start_ns = now_ns(scenario);
	while (!is_whole_now(scenario)) {
		run_load(scenario, &beside, 50);
		assert_true(now_ns(scenario) < start_ns + 60 * IO_NS_PER_S);
	}
	*ret_ms = (now_ns(scenario) - start_ns) / IO_NS_PER_MS;
	disks_have_a_speed(scenario, 0);
	return beside.took_ns / beside.count * 100 / (usual.took_ns / usual.count);
}

static void test_host_is_given_way(struct scenario *scenario)
{
	uint64_t ms;
	uint64_t percent = measure(scenario, &ms);

	print_message("paced: writes took %lu %%, the rebuild %lu ms\n", (unsigned long)percent,
		(unsigned long)ms);
	assert_true(percent < 160);
}

/* The same without: it is the pace that makes the difference. */
static void test_host_is_not_given_way(struct scenario *scenario)
{
	uint64_t ms;
	uint64_t percent = measure(scenario, &ms);

	print_message("unpaced: writes took %lu %%, the rebuild %lu ms\n", (unsigned long)percent,
		(unsigned long)ms);
	assert_true(percent > 200);
}

/* ---- the limit ---- */

static void test_rate_limit(struct scenario *scenario)
{
	uint64_t start_ns, before;

	miss_all(scenario, 1);
	start_ns = now_ns(scenario);
	before = copied_to(scenario, C);
	while (!is_whole_now(scenario)) {
		uint64_t elapsed_ms;

		run_ms(scenario, 10);
		elapsed_ms = (now_ns(scenario) - start_ns) / IO_NS_PER_MS;
		/* 50 ms may be saved up, and four pieces be under way. */
		assert_true(copied_to(scenario, C) - before <=
			    RATE_MAX * (elapsed_ms + 50) / 1000 + 5 * (16 << 10));
		assert_true(elapsed_ms < 60000);
	}
	assert_int_equal(copied_to(scenario, C), 2048 * ORACLE_BLOCK_BYTES);
	assert_true(now_ns(scenario) - start_ns > 15 * IO_NS_PER_S);
}

/* What is told meanwhile. */
static void test_progress_is_told(struct scenario *scenario)
{
	struct volume_status status;
	const struct volume_replica_status *replica = &status.replicas[C];

	miss_all(scenario, 1);
	await_replica(scenario, C, REPLICA_REBUILDING);
	run_ms(scenario, 6000);
	(void)slot_status(&scenario->world.slots[0], &status);
	assert_int_equal(replica->rebuild_total_bytes, 8 * MIB);
	assert_in_range(replica->rebuild_done_bytes, 5 * RATE_MAX, 7 * RATE_MAX);
	assert_in_range(replica->rebuild_bytes_per_s, RATE_MAX * 8 / 10, RATE_MAX * 12 / 10);
	assert_in_range(replica->rebuild_seconds_left, 7, 14);
	assert_int_equal(metric_get(&scenario_leg(scenario, C)->rebuild_total), 8 * MIB);
	assert_true(metric_get(&scenario_leg(scenario, C)->rebuild_done) > 4 * RATE_MAX);
	assert_true(metric_get(&scenario_leg(scenario, C)->rebuild_left) > 0);
	assert_int_equal(metric_get(&scenario_volume(scenario)->nexus->rebuilds_running), 1);
	/* Its source does not answer any more: nobody knows when it will end. */
	disk_stuck(scenario, C, true);
	run_ms(scenario, 1900);
	(void)slot_status(&scenario->world.slots[0], &status);
	assert_true(replica->rebuild_bytes_per_s < RATE_MAX * 8 / 10);
	disk_sound(scenario, C);
	await_whole(scenario);
	assert_int_equal(metric_get(&scenario_leg(scenario, C)->rebuild_total), 0);
	assert_int_equal(metric_get(&scenario_volume(scenario)->nexus->rebuilds_running), 0);
}

/* ---- beside each other ---- */

static void test_one_at_a_time(struct scenario *scenario)
{
	unsigned steps_waiting = 0;
	uint64_t end_ns;

	miss_all(scenario, 2);
	end_ns = now_ns(scenario) + 60 * IO_NS_PER_S;
	while (!is_whole_now(scenario)) {
		struct volume_status status;
		unsigned begun = 0;

		(void)slot_status(&scenario->world.slots[0], &status);
		for (unsigned i = C; i <= C + 1; i++) {
			begun += status.replicas[i].state == REPLICA_REBUILDING &&
				 status.replicas[i].rebuild_done_bytes > 0;
			if (status.replicas[i].rebuild_waits) {
				steps_waiting++;
				assert_int_equal(scenario_leg(scenario, i)->copies, 0);
				assert_int_equal(status.replicas[i].state, REPLICA_REBUILDING);
				assert_non_null(strstr(
					status.replicas[i].reason, "waits for other rebuilds"));
			}
		}
		assert_true(begun <= 1);
		assert_true(now_ns(scenario) < end_ns);
		run_ms(scenario, 1);
	}
	assert_true(steps_waiting > 1000);
}

/* ---- who is needed ---- */

/* B goes while C is rebuilt, slowly: from now on each write waits for that. */
static void test_needed_is_not_held_up(struct scenario *scenario)
{
	const struct scenario_request *request;
	uint64_t start_ns;

	miss_all(scenario, 1);
	await_replica(scenario, C, REPLICA_REBUILDING);
	run_ms(scenario, 500);
	assert_int_equal(replica_state_now(scenario, C), REPLICA_REBUILDING);
	go_away(scenario, B);
	start_ns = now_ns(scenario);
	scenario->request_count = 0;
	request = submit_write(scenario, 0, 8);
	assert_int_equal(answer_of(scenario, request), 0);
	/* 2 s until B is out; at RATE_MAX it would be 16 s. */
	assert_true(now_ns(scenario) - start_ns < 4 * IO_NS_PER_S);
	come_back(scenario, B);
}

/* R is never held up: reads wait for it. */
static void test_resync_is_not_held_up(struct scenario *scenario)
{
	struct slot *slot = &scenario->world.slots[0];
	uint64_t start_ns;

	open_whole(scenario);
	fill(scenario);
	/* Without the window of B, R is every region that was written. */
	slot_crash(slot, true);
	go_away(scenario, B);
	come_back(scenario, B);
	slot_open(slot, slot->attach);
	start_ns = now_ns(scenario);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_true(scenario_volume(scenario)->resync.count > 100);
	while (scenario_volume(scenario)->resync.count > 0) {
		run_ms(scenario, 10);
		assert_true(now_ns(scenario) - start_ns < 8 * IO_NS_PER_S);
	}
}

#define CASE(function) .name = #function, .run = function
#define LARGE          .block_count = 2048, .pool_bytes = UINT64_C(24) << 20, .region_bytes = 1 << 20
/* Pieces of 64 KiB. */
#define HEAVY .block_count = 4096, .pool_bytes = UINT64_C(32) << 20, .region_bytes = 4 << 20

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_host_is_given_way), .options = {HEAVY, .rebuild_rate_min = RATE_MIN}},
		{CASE(test_host_is_not_given_way),
			.options = {HEAVY, .rebuild_rate_min = UINT64_MAX / 2}},
		{CASE(test_rate_limit), .options = {LARGE, .rebuild_rate_max = RATE_MAX}},
		{CASE(test_progress_is_told), .options = {LARGE, .rebuild_rate_max = RATE_MAX}},
		{CASE(test_one_at_a_time), .options = {LARGE, .data_replicas = 5, .rebuilds = 1,
						   .rebuild_rate_max = 2 * RATE_MAX}},
		{CASE(test_needed_is_not_held_up),
			.options = {LARGE, .rebuild_rate_max = RATE_MAX}},
		{CASE(test_resync_is_not_held_up),
			.options = {LARGE, .rebuild_rate_max = RATE_MAX / 4}},
	};

	return scenario_run_all("pace", cases, ARRAY_COUNT(cases));
}
