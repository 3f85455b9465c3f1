/* SPDX-License-Identifier: Apache-2.0 */
/* A volume grows (docs/protocol.md 1.10), step by step. */
#include "tests/sim/scenario.h"

#include <errno.h>
#include <string.h>

#define D     3
#define SMALL 64  /* blocks in the beginning */
#define BIG   128 /* afterwards */

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

static struct slot *slot_of(struct scenario *scenario)
{
	return &scenario->world.slots[scenario->writer];
}

static const struct cfg *cfg_of(struct scenario *scenario)
{
	return &scenario_volume(scenario)->cfg;
}

static size_t blocks(struct scenario *scenario)
{
	return slot_blocks(slot_of(scenario));
}

static void begin_resize(struct scenario *scenario, size_t to_blocks)
{
	slot_resize(slot_of(scenario), to_blocks);
}

static bool is_resized(void *scenario)
{
	return !slot_of(scenario)->resizing;
}

static int resize_result(struct scenario *scenario)
{
	await(scenario, is_resized);
	return slot_of(scenario)->resize.result;
}

static int resize(struct scenario *scenario, size_t to_blocks)
{
	begin_resize(scenario, to_blocks);
	return resize_result(scenario);
}

static void write_range(struct scenario *scenario, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += OP_BLOCKS_MAX) {
		assert_int_equal(do_write(scenario, at, min_u64(OP_BLOCKS_MAX, to - at)), 0);
	}
}

static uint64_t replica_blocks(struct scenario *scenario, unsigned agent)
{
	return store_replica_vmeta(scenario->world.agents[agent].replica)->size_bytes /
	       ORACLE_BLOCK_BYTES;
}

/* ---- the plain ways ---- */

static void test_grow(struct scenario *scenario)
{
	uint32_t gen;

	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	assert_int_equal(do_write(scenario, SMALL, 1), -ERANGE);
	gen = cfg_of(scenario)->gen;
	assert_int_equal(resize(scenario, BIG), 0);
	assert_int_equal(blocks(scenario), BIG);
	assert_int_equal(cfg_of(scenario)->gen, gen + 1);
	assert_int_equal(cfg_of(scenario)->size_bytes, BIG * ORACLE_BLOCK_BYTES);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(replica_blocks(scenario, i), BIG);
	}
	assert_int_equal(do_read(scenario, BIG - 1, 1), 0);
	write_range(scenario, SMALL - 1, BIG);
	assert_int_equal(do_write(scenario, BIG, 1), -ERANGE);
	/* Once more: done already.  Less: refused. */
	assert_int_equal(resize(scenario, BIG), 0);
	assert_int_equal(cfg_of(scenario)->gen, gen + 1);
	assert_int_equal(resize(scenario, BIG - 1), -EINVAL);
	assert_int_equal(blocks(scenario), BIG);
	await_whole(scenario);
}

static void test_with_an_arbiter(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(resize(scenario, BIG), 0);
	write_range(scenario, SMALL, BIG);
	come_back(scenario, B);
	await_whole(scenario);
	assert_int_equal(replica_blocks(scenario, B), BIG);
}

/* 60: a replica that is away grows when it is back, and gets what was written there meanwhile. */
static void test_while_degraded(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(resize(scenario, BIG), 0);
	write_range(scenario, SMALL, BIG);
	assert_int_equal(replica_blocks(scenario, A), BIG);
	come_back(scenario, C);
	assert_int_equal(replica_blocks(scenario, C), SMALL);
	await_whole(scenario);
	assert_int_equal(replica_blocks(scenario, C), BIG);
	go_away(scenario, A);
	assert_int_equal(do_read(scenario, BIG - 8, 8), 0);
	come_back(scenario, A);
	await_whole(scenario);
}

/* A member that is away for less than the time-out is waited for. */
static void test_waits_for_a_member(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	go_away(scenario, C);
	begin_resize(scenario, BIG);
	run_ms(scenario, 1000);
	assert_true(slot_of(scenario)->resizing);
	assert_int_equal(blocks(scenario), SMALL);
	come_back(scenario, C);
	assert_int_equal(resize_result(scenario), 0);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 3);
	assert_int_equal(replica_blocks(scenario, C), BIG);
}

/* Without a majority nothing is proposed, and it is said. */
static void test_without_a_majority(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, B);
	go_away(scenario, C);
	assert_int_equal(resize(scenario, BIG), -EAGAIN);
	assert_int_equal(blocks(scenario), SMALL);
	assert_int_equal(scenario_volume(scenario)->resizer.proposable_bytes, 0);
	come_back(scenario, B);
	come_back(scenario, C);
	await_whole(scenario);
	assert_int_equal(cfg_of(scenario)->size_bytes, SMALL * ORACLE_BLOCK_BYTES);
	assert_int_equal(resize(scenario, BIG), 0);
	await_whole(scenario);
}

/* The pools have no room for so many stamps: nothing changes, and who could not is named. */
static void test_full_pool(struct scenario *scenario)
{
	const char *text = slot_of(scenario)->resize.err.text;

	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	assert_int_equal(resize(scenario, SMALL << 20), -ENOSPC);
	assert_non_null(strstr(text, "replica "));
	assert_non_null(strstr(text, "pool is full"));
	assert_int_equal(blocks(scenario), SMALL);
	assert_int_equal(do_write(scenario, SMALL, 1), -ERANGE);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 3);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	nexus_crash(scenario, true);
	await_whole(scenario);
	assert_int_equal(blocks(scenario), SMALL);
}

/* ---- crashes ---- */

static bool has_grown_somewhere(void *ctx)
{
	return replica_blocks(ctx, A) == BIG || replica_blocks(ctx, B) == BIG ||
	       replica_blocks(ctx, C) == BIG;
}

/* Some replicas have grown, nothing is committed. */
static void test_nexus_dies_before_the_commit(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	begin_resize(scenario, BIG);
	await(scenario, has_grown_somewhere);
	nexus_crash(scenario, true);
	await_whole(scenario);
	assert_true(blocks(scenario) == SMALL || blocks(scenario) == BIG);
	assert_int_equal(resize(scenario, BIG), 0);
	write_range(scenario, SMALL, BIG);
	await_whole(scenario);
}

static bool is_proposed(void *scenario)
{
	const struct volume *volume = scenario_volume(scenario);

	return volume->proposal_open && volume->proposal.size_bytes == BIG * ORACLE_BLOCK_BYTES;
}

static void test_nexus_dies_within_the_commit(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	begin_resize(scenario, BIG);
	await(scenario, is_proposed);
	nexus_crash(scenario, true);
	await_whole(scenario);
	assert_int_equal(resize(scenario, BIG), 0);
	write_range(scenario, SMALL, BIG);
	await_whole(scenario);
}

/* What was acknowledged beyond the old end is there, on another node, too; the requests that are
 * under way there are sent again to a nexus whose file has the old size. */
static void test_nexus_dies_after_the_commit(struct scenario *scenario)
{
	struct scenario_request *late;

	open_whole(scenario);
	assert_int_equal(resize(scenario, BIG), 0);
	write_range(scenario, 0, BIG);
	assert_int_equal(do_flush(scenario), 0);
	late = submit_write(scenario, BIG - 8, 8);
	sim_cancel(scenario->world.sim, &slot_of(scenario)->file_saved);
	slot_of(scenario)->file.size_bytes = SMALL * ORACLE_BLOCK_BYTES;
	nexus_crash(scenario, true);
	assert_int_equal(answer_of(scenario, late), 0);
	assert_int_equal(do_read(scenario, BIG - 8, 8), 0);
	scenario_open(scenario, 1);
	assert_int_equal(do_read(scenario, BIG - 8, 8), 0);
	assert_int_equal(blocks(scenario), BIG);
	await_whole(scenario);
}

/* C was away while the volume grew, and is needed as a voter by an opener that does not reach B. */
static void test_opener_needs_a_small_voter(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	assert_int_equal(resize(scenario, BIG), 0);
	write_range(scenario, SMALL, BIG);
	slot_crash(slot_of(scenario), true);
	go_away(scenario, B);
	agent_start(&scenario->world.agents[C]);
	run_ms(scenario, 2000);
	slot_open(slot_of(scenario), slot_of(scenario)->attach);
	await_replica(scenario, C, REPLICA_INSYNC);
	assert_int_equal(do_read(scenario, BIG - 8, 8), 0);
	assert_int_equal(replica_blocks(scenario, C), BIG);
	come_back(scenario, B);
	await_whole(scenario);
}

/* It was to be bigger before it was ever open. */
static void test_first_open_with_a_bigger_size(struct scenario *scenario)
{
	struct slot *slot = &scenario->world.slots[0];

	places_init(&slot->file, slot);
	slot->file.size_bytes = BIG * ORACLE_BLOCK_BYTES;
	open_whole(scenario);
	assert_int_equal(blocks(scenario), BIG);
	assert_int_equal(cfg_insync_count(cfg_of(scenario)), 3);
	write_range(scenario, 0, BIG);
}

/* ---- beside rebuilds and changes of voters ---- */

/* C is being rebuilt while the volume grows and is written all over. */
static void test_while_rebuilding(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	go_away(scenario, C);
	write_range(scenario, 0, SMALL);
	disk_slow(scenario, C, 40);
	come_back(scenario, C);
	await_replica(scenario, C, REPLICA_REBUILDING);
	begin_resize(scenario, BIG);
	for (unsigned i = 0; i < 60; i++) {
		(void)submit_write(scenario, i * 7 % (blocks(scenario) - 8), 8);
		run_ms(scenario, 3);
	}
	assert_int_equal(resize_result(scenario), 0);
	write_range(scenario, SMALL, BIG);
	disk_sound(scenario, C);
	await_whole(scenario);
}

static bool copies_the_last_piece(void *ctx)
{
	const struct volume *volume = scenario_volume(ctx);

	for (unsigned i = 0; i < COPIERS; i++) {
		const struct copier *copier = &volume->copiers[i];

		if (copier->working && copier->target >= 0 &&
			copier->offset + copier->length == volume->size_bytes) {
			return true;
		}
	}
	return false;
}

static void do_nothing(struct task *task)
{
	(void)task;
}

/* The piece at the end gets longer while a copy of it is under way; what is written to its new part
 * is not mirrored, because the piece is still to be copied. */
static void test_the_last_piece_grows(struct scenario *scenario)
{
	struct range_lock lock = {
		.offset = SMALL * ORACLE_BLOCK_BYTES, .length = ORACLE_BLOCK_BYTES};
	struct volume *volume;
	struct task task;

	open_whole(scenario);
	volume = scenario_volume(scenario);
	assert_true(volume->resync.piece_bytes > ORACLE_BLOCK_BYTES);
	go_away(scenario, C);
	write_range(scenario, 0, SMALL + 1);
	task_init(&task, &volume->io->runq, do_nothing);
	range_lock_acquire(&volume->locks, &lock, &task);
	come_back(scenario, C);
	await(scenario, copies_the_last_piece);
	assert_int_equal(resize(scenario, BIG), 0);
	assert_int_equal(do_write(scenario, SMALL + 1, 1), 0);
	range_lock_release(&volume->locks, &lock);
	task_done(&task);
	await_whole(scenario);
}

/* A replica that was made for the old size grows before it is a voter. */
static void test_newcomer_is_small(struct scenario *scenario)
{
	struct node_agent *node = &scenario->world.agents[D];
	struct volume_voter place;
	struct err err = {0};

	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	assert_true(agent_make_replica(node, VOTER_DATA));
	while (node->making) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_int_equal(resize(scenario, BIG), 0);
	write_range(scenario, SMALL, BIG);
	assert_int_equal(replica_blocks(scenario, D), SMALL);
	place = agent_place(node, slot_of(scenario));
	places_add(&slot_of(scenario)->file, &place);
	assert_int_equal(volume_add_voter(scenario_volume(scenario), &place, &err), 0);
	await_replica(scenario, D, REPLICA_INSYNC);
	assert_int_equal(replica_blocks(scenario, D), BIG);
	await_whole(scenario);
}

/* One whose pool-agent failed to grow it is tried again when it is asked for again. */
static void test_newcomer_is_asked_again(struct scenario *scenario)
{
	struct node_agent *node = &scenario->world.agents[D];
	struct volume_voter place;
	struct err err = {0};

	open_whole(scenario);
	assert_true(agent_make_replica(node, VOTER_DATA));
	while (node->making) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_int_equal(resize(scenario, BIG), 0);
	place = agent_place(node, slot_of(scenario));
	places_add(&slot_of(scenario)->file, &place);
	assert_int_equal(volume_add_voter(scenario_volume(scenario), &place, &err), 0);
	while (!scenario_leg(scenario, D)->resize.io.busy) {
		assert_true(sim_step(scenario->world.sim));
	}
	sim_process_fail_allocation(node->process, 1);
	run_ms(scenario, 1000);
	sim_process_fail_allocation(node->process, 0);
	assert_int_not_equal(scenario_leg(scenario, D)->resize.refused_bytes, 0);
	assert_int_equal(volume_add_voter(scenario_volume(scenario), &place, &err), 0);
	await_replica(scenario, D, REPLICA_INSYNC);
	await_whole(scenario);
}

/* Members fail at every step of it, and requests go on. */
static void test_members_fail_meanwhile(struct scenario *scenario)
{
	open_whole(scenario);
	write_range(scenario, 0, SMALL);
	begin_resize(scenario, BIG);
	run_ms(scenario, (unsigned)scenario->world.options.seed);
	go_away(scenario, B);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	if (resize_result(scenario) != 0) {
		assert_int_equal(resize(scenario, BIG), 0);
	}
	write_range(scenario, SMALL, BIG);
	come_back(scenario, B);
	await_whole(scenario);
}

int main(void)
{
#define SIZES .block_count = BIG + 8, .start_blocks = SMALL
#define CASE(name)                                                                                 \
	{                                                                                          \
		#name, name,                                                                       \
		{                                                                                  \
			SIZES                                                                      \
		}                                                                                  \
	}
	static const struct scenario_case cases[] = {
		CASE(test_grow),
		{"test_with_an_arbiter", test_with_an_arbiter, {SIZES, .data_replicas = 2}},
		CASE(test_while_degraded),
		CASE(test_waits_for_a_member),
		CASE(test_without_a_majority),
		CASE(test_full_pool),
		CASE(test_nexus_dies_before_the_commit),
		CASE(test_nexus_dies_within_the_commit),
		CASE(test_nexus_dies_after_the_commit),
		CASE(test_opener_needs_a_small_voter),
		CASE(test_first_open_with_a_bigger_size),
		CASE(test_while_rebuilding),
		{"test_the_last_piece_grows", test_the_last_piece_grows,
			{.block_count = BIG + 8,
				.start_blocks = SMALL + 1,
				.region_bytes = 1u << 20}},
		{"test_newcomer_is_small", test_newcomer_is_small, {SIZES, .spares = 1}},
		{"test_newcomer_is_asked_again", test_newcomer_is_asked_again,
			{SIZES, .spares = 1}},
		CASE(test_members_fail_meanwhile),
	};

	return scenario_run_all("resize", cases, ARRAY_COUNT(cases));
}
