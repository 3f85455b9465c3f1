/* SPDX-License-Identifier: Apache-2.0 */
/* Times and amounts that are promised (docs/protocol.md), in the simulator's own time, with the
 * time-outs of production. */
#include "tests/sim/scenario.h"

#include <string.h>

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static uint64_t now_ms(struct scenario *scenario)
{
	return sim_now_ns(scenario->world.sim) / IO_NS_PER_MS;
}

/* ---- a load: one request at a time, each with its time ---- */

#define LOAD_BLOCKS_MAX 2048

struct load {
	bool sparse; /* a block or two in sixteen, everywhere */
	uint64_t slowest_ms;
	bool written[LOAD_BLOCKS_MAX]; /* blocks, at least once */
};

/* A block that is written often counts once. */
static uint64_t written_bytes(const struct load *load)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < LOAD_BLOCKS_MAX; i++) {
		bytes += load->written[i] ? ORACLE_BLOCK_BYTES : 0;
	}
	return bytes;
}

static void forget_written(struct load *load)
{
	memset(load->written, 0, sizeof(load->written));
}

/* All are answered: there is room for more. */
static void forget_requests(struct scenario *scenario)
{
	memset(scenario->requests, 0, sizeof(scenario->requests));
	scenario->request_count = 0;
}

/* Requests of up to eight blocks, most of them in a part of the volume, until the time is over. */
static void run_load(struct scenario *scenario, struct load *load, unsigned ms)
{
	struct rng *rng = sim_rng(scenario->world.sim);
	uint64_t end_ms = now_ms(scenario) + ms;

	while (now_ms(scenario) < end_ms) {
		uint64_t count = 1 + rng_below(rng, 8);
		uint64_t first = rng_below(rng,
			(rng_percent(rng, 80) ? 400 : scenario->world.options.block_count) - count);
		uint64_t start_ms = now_ms(scenario);

		if (load->sparse) {
			count = 1 + count % 2;
			first = rng_below(rng, scenario->world.options.block_count / 16) * 16;
		}
		forget_requests(scenario);
		assert_int_equal(do_write(scenario, first, count), 0);
		load->slowest_ms = max_u64(load->slowest_ms, now_ms(scenario) - start_ms);
		memset(load->written + first, true, count * sizeof(bool));
		run_ms(scenario, 20);
	}
}

/* ---- rebuilds ---- */

static uint64_t copied_to(struct scenario *scenario, unsigned agent)
{
	return metric_get(&scenario_leg(scenario, agent)->copied_bytes);
}

static void fill(struct scenario *scenario)
{
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		forget_requests(scenario);
		assert_int_equal(do_write(scenario, at, OP_BLOCKS_MAX), 0);
	}
}

/* After a minute without network, and under load: less than one and a half times what was written.
 */
static void test_absence_of_a_minute(struct scenario *scenario)
{
	struct load load = {0};

	open_whole(scenario);
	fill(scenario);
	run_load(scenario, &load, 1000);
	forget_written(&load);
	cut_off(scenario, C, true, true);
	run_load(scenario, &load, 60000);
	cut_off(scenario, C, false, false);
	run_load(scenario, &load, 3000);
	await_whole(scenario);
	assert_true(copied_to(scenario, C) > 0);
	assert_true(copied_to(scenario, C) < written_bytes(&load) * 3 / 2);
}

/* After a restart of its pool-agent, which knows nothing then: whole regions are compared, no more
 * moves. */
static void test_restart_of_an_agent(struct scenario *scenario)
{
	struct load load = {.sparse = true};

	open_whole(scenario);
	fill(scenario);
	run_load(scenario, &load, 1000);
	forget_written(&load);
	go_away(scenario, C);
	run_load(scenario, &load, 60000);
	come_back(scenario, C);
	run_load(scenario, &load, 3000);
	await_whole(scenario);
	assert_true(copied_to(scenario, C) > 0);
	assert_true(copied_to(scenario, C) < written_bytes(&load) * 3 / 2);
	/* All of it was looked at. */
	assert_true(metric_get(&scenario_leg(scenario, C)->compared_bytes) >=
		    scenario->world.options.block_count * ORACLE_BLOCK_BYTES);
}

/* The same twice, the second one while it is rebuilt. */
static void test_absence_in_a_rebuild(struct scenario *scenario)
{
	struct load load = {0};

	open_whole(scenario);
	fill(scenario);
	run_load(scenario, &load, 1000);
	forget_written(&load);
	cut_off(scenario, C, true, true);
	run_load(scenario, &load, 20000);
	disk_slow(scenario, C, 10);
	cut_off(scenario, C, false, false);
	run_load(scenario, &load, 400);
	cut_off(scenario, C, true, true);
	run_load(scenario, &load, 20000);
	disk_sound(scenario, C);
	cut_off(scenario, C, false, false);
	await_whole(scenario);
	assert_true(copied_to(scenario, C) < written_bytes(&load) * 3 / 2);
}

/* ---- a nexus that is started anew ---- */

static void test_restart_with_all(struct scenario *scenario)
{
	uint64_t start_ms;

	open_whole(scenario);
	fill(scenario);
	for (unsigned i = 0; i < 8; i++) {
		(void)submit_write(scenario, 8 * i, 8);
	}
	run_ms(scenario, 1);
	start_ms = now_ms(scenario);
	nexus_crash(scenario, true);
	assert_int_equal(do_write(scenario, 3, 8), 0);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_true(now_ms(scenario) - start_ms <= 2000);
}

/* Its predecessor had finished its wait: the replica that is away was left out then already. */
static void test_restart_with_one_away(struct scenario *scenario)
{
	uint64_t start_ms;

	open_whole(scenario);
	fill(scenario);
	cut_off(scenario, C, true, true);
	await_state(scenario, VOLUME_DEGRADED);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(do_write(scenario, 3, 8), 0);
		start_ms = now_ms(scenario);
		nexus_crash(scenario, true);
		assert_int_equal(do_write(scenario, 3, 8), 0);
		assert_int_equal(do_read(scenario, 0, 8), 0);
		assert_true(now_ms(scenario) - start_ms <= 2000);
	}
	cut_off(scenario, C, false, false);
	await_whole(scenario);
}

static void test_restart_without_one(struct scenario *scenario)
{
	uint64_t start_ms;

	open_whole(scenario);
	fill(scenario);
	cut_off(scenario, C, true, true);
	run_ms(scenario, 5);
	start_ms = now_ms(scenario);
	nexus_crash(scenario, true);
	assert_int_equal(do_write(scenario, 3, 8), 0);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_true(now_ms(scenario) - start_ms <= 5500);
}

/* ---- a member fails ---- */

static void member_fails(struct scenario *scenario, void (*hit)(struct scenario *scenario))
{
	struct load load = {0};

	open_whole(scenario);
	for (unsigned i = 0; i < 3; i++) {
		/* At any moment between two heartbeats. */
		run_load(scenario, &load,
			300 + (unsigned)rng_below(sim_rng(scenario->world.sim), 500));
		hit(scenario);
		run_load(scenario, &load, 6000);
		sim_heal_all(scenario->world.sim);
		disk_sound(scenario, B);
		if (scenario->world.agents[B].process == NULL) {
			come_back(scenario, B);
		}
		await_whole(scenario);
	}
	assert_true(load.slowest_ms > 1900);
	assert_true(load.slowest_ms <= 2100);
}

static void is_cut_off(struct scenario *scenario)
{
	cut_off(scenario, B, true, true);
}

static void is_not_heard(struct scenario *scenario)
{
	cut_off(scenario, B, false, true);
}

static void dies(struct scenario *scenario)
{
	go_away(scenario, B);
}

static void freezes(struct scenario *scenario)
{
	freeze(scenario, B, 5000);
}

static void disk_gets_stuck(struct scenario *scenario)
{
	disk_stuck(scenario, B, true);
}

static void test_stall_cut_off(struct scenario *scenario)
{
	member_fails(scenario, is_cut_off);
}

static void test_stall_not_heard(struct scenario *scenario)
{
	member_fails(scenario, is_not_heard);
}

static void test_stall_dead(struct scenario *scenario)
{
	member_fails(scenario, dies);
}

static void test_stall_frozen(struct scenario *scenario)
{
	member_fails(scenario, freezes);
}

static void test_stall_stuck_disk(struct scenario *scenario)
{
	member_fails(scenario, disk_gets_stuck);
}

/* ---- a member is stopped, as for an upgrade ---- */

static unsigned members_now(struct scenario *scenario)
{
	return cfg_insync_count(&scenario_volume(scenario)->cfg);
}

/* It comes back soon: nobody does without it, and nothing is copied. */
static void test_announced_restart(struct scenario *scenario)
{
	struct load load = {0};
	uint64_t copied, writes;
	struct cfg cfg;

	open_whole(scenario);
	run_load(scenario, &load, 1000);
	for (unsigned i = 0; i < 3; i++) {
		cfg = scenario_volume(scenario)->cfg;
		copied = copied_to(scenario, i);
		writes = scenario_leg(scenario, i)->peer->generation;
		agent_stop(&scenario->world.agents[i], 6000 * IO_NS_PER_MS);
		run_load(scenario, &load, 12000);
		assert_true(scenario_leg(scenario, i)->peer->generation > writes);
		assert_int_equal(members_now(scenario), 3);
		assert_int_equal(scenario_volume(scenario)->cfg.gen, cfg.gen);
		assert_int_equal(copied_to(scenario, i), copied);
	}
	assert_true(load.slowest_ms > 5900);
	assert_true(load.slowest_ms <= 8000);
}

/* The wait is for one return only. */
static void test_dies_after_announced_restart(struct scenario *scenario)
{
	struct load load = {0};

	open_whole(scenario);
	agent_stop(&scenario->world.agents[B], 1000 * IO_NS_PER_MS);
	run_load(scenario, &load, 5000);
	assert_int_equal(members_now(scenario), 3);
	go_away(scenario, B);
	load.slowest_ms = 0;
	run_load(scenario, &load, 10000);
	assert_int_equal(members_now(scenario), 2);
	assert_true(load.slowest_ms > 1900);
	assert_true(load.slowest_ms <= 2100);
}

/* It does not: out after 10 s. */
static void test_announced_for_good(struct scenario *scenario)
{
	struct load load = {0};

	open_whole(scenario);
	agent_stop(&scenario->world.agents[B], 60 * IO_NS_PER_S);
	run_load(scenario, &load, 15000);
	assert_int_equal(members_now(scenario), 2);
	assert_true(load.slowest_ms > 9000);
	assert_true(load.slowest_ms <= 10100);
}

/* Nobody waits for it when another one fails. */
static void test_announced_and_another_fails(struct scenario *scenario)
{
	struct load load = {0};

	open_whole(scenario);
	agent_stop(&scenario->world.agents[B], 60 * IO_NS_PER_S);
	run_ms(scenario, 1000);
	go_away(scenario, C);
	run_load(scenario, &load, 4000);
	assert_int_equal(members_now(scenario), 2);
	assert_true(load.slowest_ms <= 4500);
}

/* Asked not to be waited for: no write notices. */
static void test_announced_leaves(struct scenario *scenario)
{
	struct load load = {0};

	open_whole(scenario);
	agent_stop(&scenario->world.agents[B], 30 * IO_NS_PER_S);
	run_load(scenario, &load, 15000);
	assert_int_equal(members_now(scenario), 2);
	assert_true(load.slowest_ms <= 100);
}

/* It cannot be spared. */
static void test_announced_leaves_too_few(struct scenario *scenario)
{
	struct load load = {0};

	open_whole(scenario);
	agent_stop(&scenario->world.agents[A], 4 * IO_NS_PER_S);
	run_load(scenario, &load, 8000);
	assert_int_equal(members_now(scenario), 2);
	assert_true(load.slowest_ms > 3500);
	assert_true(load.slowest_ms <= 6000);
}

static bool heartbeat_waits(void *ctx)
{
	return scenario_leg(ctx, B)->peer->heartbeat_busy;
}

/* The heartbeat is found missing before the request is late: that does not begin anew. */
static void test_stall_heartbeat_first(struct scenario *scenario)
{
	uint64_t start_ms;

	open_whole(scenario);
	run_ms(scenario, 3000);
	cut_off(scenario, B, true, true);
	await(scenario, heartbeat_waits);
	run_ms(scenario, 300);
	assert_true(heartbeat_waits(scenario));
	start_ms = now_ms(scenario);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_true(now_ms(scenario) - start_ms <= 2100);
}

#define CASE(function) .name = #function, .run = function
#define LARGE          .block_count = 2048, .pool_bytes = UINT64_C(24) << 20, .region_bytes = 1 << 20

#define WAITED_FOR .restart_wait_ms = 10000

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_absence_of_a_minute), .options = {LARGE}},
		{CASE(test_restart_of_an_agent), .options = {LARGE}},
		{CASE(test_absence_in_a_rebuild), .options = {LARGE}},
		{CASE(test_restart_with_all), .options = {LARGE}},
		{CASE(test_restart_with_one_away), .options = {LARGE}},
		{CASE(test_restart_without_one), .options = {LARGE}},
		{CASE(test_stall_cut_off), .options = {.block_count = 512}},
		{CASE(test_stall_not_heard), .options = {.block_count = 512}},
		{CASE(test_stall_dead), .options = {.block_count = 512}},
		{CASE(test_stall_frozen), .options = {.block_count = 512}},
		{CASE(test_stall_stuck_disk), .options = {.block_count = 512}},
		{CASE(test_stall_heartbeat_first)},
		{CASE(test_announced_restart), .options = {.block_count = 512, WAITED_FOR}},
		{CASE(test_dies_after_announced_restart),
			.options = {.block_count = 512, WAITED_FOR}},
		{CASE(test_announced_for_good), .options = {.block_count = 512, WAITED_FOR}},
		{CASE(test_announced_and_another_fails),
			.options = {.block_count = 512, .data_replicas = 4, WAITED_FOR}},
		{CASE(test_announced_leaves), .options = {.block_count = 512}},
		{CASE(test_announced_leaves_too_few),
			.options = {.block_count = 512, .data_replicas = 2, .min_insync = 2}},
	};

	return scenario_run_all("figures", cases, ARRAY_COUNT(cases));
}
