/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, pools and memory that fail.  The numbers are those of the scenarios in docs/testing.md. */
#include "pool-agent/store/ondisk.h"
#include "tests/sim/scenario.h"

#include <errno.h>
#include <string.h>

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

/* 27: one pool of three is full: it is dropped and the host hears nothing of it. */
static void test_one_pool_is_full(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	assert_int_equal(do_flush(scenario), 0);
	assert_int_equal(do_read(scenario, 0, 8), 0);
}

/* 30: the rack loses power; what was flushed is there, each replica lost other unflushed blocks,
 * and what was read once stays so. */
static void test_rack_loses_power(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(do_flush(scenario), 0);
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(do_write(scenario, 8 * i, 8), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		lose_power(scenario, i, 300);
	}
	slot_power_loss(&scenario->world.slots[0], 500 * IO_NS_PER_MS);
	run_ms(scenario, 1000);
	slot_crash(&scenario->world.slots[0], false);
	sim_cancel(scenario->world.sim, &scenario->world.slots[0].restart);
	scenario_open(scenario, 1);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(do_read(scenario, 8 * i, 8), 0);
	}
	go_away(scenario, A);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(do_read(scenario, 8 * i, 8), 0);
	}
	come_back(scenario, A);
}

/* 32: a flush that fails once is not tried again: the pool is opened anew first. */
static void test_failed_flush_is_not_retried(struct scenario *scenario)
{
	struct node_agent *node = &scenario->world.agents[C];
	struct store_info info;

	open_whole(scenario);
	write_all(scenario);
	sim_disk_set_faults(node->disk, &(struct sim_disk_faults){.flush_error_percent = 100});
	assert_int_equal(do_flush(scenario), 0);
	disk_sound(scenario, C);
	run_ms(scenario, 3000);
	store_get_info(node->store, &info);
	assert_true(info.failed);
	assert_int_not_equal(replica_state_now(scenario, C), REPLICA_INSYNC);
	go_away(scenario, C);
	come_back(scenario, C);
	await_whole(scenario);
}

/* The place of one of the four blocks of a replica's metadata. */
static uint64_t vmeta_offset(struct scenario *scenario, unsigned agent, unsigned pair, bool far)
{
	const struct node_agent *node = &scenario->world.agents[agent];
	uint32_t slot = node->nsid - 1;
	struct layout layout;

	agent_layout(node, &layout);
	return ((far ? layout.vmeta_far : layout.vmeta_near) + 2 * (uint64_t)slot + pair) *
	       STORE_BLOCK_BYTES;
}

/* Exchanges the content of a block with `block`. */
static void exchange(struct scenario *scenario, unsigned agent, uint64_t offset, uint8_t *block)
{
	struct sim_disk *disk = scenario->world.agents[agent].disk;
	uint8_t was[STORE_BLOCK_BYTES];

	sim_disk_peek(disk, offset, was, sizeof(was));
	sim_disk_poke(disk, offset, block, sizeof(was));
	memcpy(block, was, sizeof(was));
}

/* 36: a voter whose metadata are unreadable abstains: it neither votes nor counts as empty. */
static void test_unreadable_metadata_abstain(struct scenario *scenario)
{
	struct world *world = &scenario->world;
	uint8_t near[STORE_BLOCK_BYTES], far[STORE_BLOCK_BYTES];
	unsigned pair;

	open_whole(scenario);
	write_all(scenario);
	go_away(scenario, B);
	go_away(scenario, C);
	(void)submit_write(scenario, 0, 8);
	pair = world->agents[C].seen.seq % 2;
	memset(near, 0x5a, sizeof(near));
	memset(far, 0x5a, sizeof(far));
	exchange(scenario, C, vmeta_offset(scenario, C, pair, false), near);
	exchange(scenario, C, vmeta_offset(scenario, C, pair, true), far);
	world->agents[C].may_abstain = true;
	come_back(scenario, C);
	run_ms(scenario, 8000);
	/* A and C are no majority. */
	assert_int_equal(volume_state_now(scenario), VOLUME_STALLED);
	come_back(scenario, B);
	await_state(scenario, VOLUME_DEGRADED);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	go_away(scenario, C);
	world->agents[C].may_abstain = false;
	exchange(scenario, C, vmeta_offset(scenario, C, pair, false), near);
	exchange(scenario, C, vmeta_offset(scenario, C, pair, true), far);
	come_back(scenario, C);
}

/* One good block of a pair is enough, and the other is repaired. */
static void test_one_metadata_block_rots(struct scenario *scenario)
{
	uint8_t block[STORE_BLOCK_BYTES];
	unsigned pair;

	open_whole(scenario);
	write_all(scenario);
	for (unsigned i = 0; i < 4; i++) {
		go_away(scenario, C);
		pair = scenario->world.agents[C].seen.seq % 2;
		memset(block, 0x5a, sizeof(block));
		exchange(scenario, C, vmeta_offset(scenario, C, pair, i % 2 == 0), block);
		come_back(scenario, C);
		await_whole(scenario);
	}
}

/* 52, 53: zeros and discards that one replica missed. */
static void test_missed_trim(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	assert_int_equal(do_flush(scenario), 0);
	go_away(scenario, C);
	assert_int_equal(answer_of(scenario, submit(scenario, BLK_DISCARD, 3, 61)), 0);
	assert_int_equal(answer_of(scenario, submit(scenario, BLK_ZERO, 70, 9)), 0);
	come_back(scenario, C);
	await_whole(scenario);
	go_away(scenario, A);
	go_away(scenario, B);
	run_ms(scenario, 100);
	come_back(scenario, A);
	assert_int_equal(do_read(scenario, 0, 8), 0);
	assert_int_equal(do_read(scenario, 56, 16), 0);
	come_back(scenario, B);
}

/* 72: the n-th allocation of the nexus fails, and of a pool-agent. */
static void test_memory_runs_out(struct scenario *scenario)
{
	open_whole(scenario);
	write_all(scenario);
	for (unsigned nth = 1; nth <= 24; nth++) {
		sim_process_fail_allocation(scenario->world.slots[0].process, nth);
		sim_process_fail_allocation(scenario->world.agents[nth % 3].process, nth);
		go_away(scenario, (nth + 1) % 3);
		(void)submit_write(scenario, nth, 8);
		run_ms(scenario, 20);
		come_back(scenario, (nth + 1) % 3);
	}
	sim_process_fail_allocation(scenario->world.slots[0].process, 0);
	for (unsigned i = 0; i < 3; i++) {
		sim_process_fail_allocation(scenario->world.agents[i].process, 0);
	}
	await_whole(scenario);
	assert_int_equal(do_write(scenario, 0, 8), 0);
}

/* A journal of a few blocks and little memory: requests wait for each other and none for ever. */
static void test_small_limits(struct scenario *scenario)
{
	struct scenario_request *last = NULL;

	open_whole(scenario);
	for (unsigned i = 0; i < 100; i++) {
		last = submit_write(scenario, i, 8);
	}
	assert_int_equal(answer_of(scenario, last), 0);
	go_away(scenario, B);
	write_all(scenario);
	come_back(scenario, B);
	await_whole(scenario);
}

#define CASE(function) .name = #function, .run = function

int main(void)
{
	static const struct scenario_case cases[] = {
		{CASE(test_one_pool_is_full),
			.options = {.small_agent = C + 1, .block_count = 512}},
		{CASE(test_rack_loses_power)},
		{CASE(test_failed_flush_is_not_retried)},
		{CASE(test_unreadable_metadata_abstain)},
		{CASE(test_one_metadata_block_rots)},
		{CASE(test_missed_trim)},
		{CASE(test_memory_runs_out)},
		{CASE(test_small_limits), .options = {.journal_blocks = 8}},
	};

	return scenario_run_all("damage", cases, ARRAY_COUNT(cases));
}
