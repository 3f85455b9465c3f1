/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshots that a rebuild's target lacks (docs/protocol.md 1.10), where images cannot be read:
 * step by step.  The plain ways are in snapshot_test.c. */
#include "tests/sim/scenario.h"

#include <string.h>

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
	write_all(scenario);
}

static void snapshot(struct scenario *scenario)
{
	struct slot *slot = &scenario->world.slots[scenario->writer];

	slot_snapshot(slot, &(struct uuid){.b = {0x51}});
	while (slot->snapshotting) {
		assert_true(sim_step(scenario->world.sim));
	}
	assert_int_equal(slot->snapshot.result, 0);
	run_ms(scenario, 500); /* all are told */
}

static const struct image *image_on(struct scenario *scenario, unsigned agent)
{
	return image_find(&scenario->world.agents[agent], 1);
}

static void spoil(struct scenario *scenario, unsigned agent, size_t block)
{
	image_spoil(&scenario->world.agents[agent], 1, block);
}

static int64_t shown(struct scenario *scenario, unsigned agent, size_t block)
{
	return image_on(scenario, agent)->blocks[block];
}

/* A and B have snapshot 1, C is away and lacks it. */
static void leave_c_behind(struct scenario *scenario)
{
	open_whole(scenario);
	go_away(scenario, C);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	snapshot(scenario);
}

/* The disk of A does not give two blocks of its image, far from each other; B has them. */
static void test_unreadable_in_one_image(struct scenario *scenario)
{
	leave_c_behind(scenario);
	spoil(scenario, A, 5);
	spoil(scenario, A, 41);
	write_all(scenario);
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(image_on(scenario, C)->kept);
	assert_true(shown(scenario, C, 5) > 0);
	assert_int_equal(shown(scenario, C, 5), shown(scenario, B, 5));
	assert_int_equal(shown(scenario, C, 41), shown(scenario, B, 41));
}

/* In one piece each has a block that the other one gives, and one is lost; the volume itself has
 * it. */
static void test_unreadable_in_all_images(struct scenario *scenario)
{
	leave_c_behind(scenario);
	spoil(scenario, A, 40);
	spoil(scenario, B, 42);
	spoil(scenario, A, 44);
	spoil(scenario, B, 44);
	come_back(scenario, C);
	await_whole(scenario);
	assert_true(image_on(scenario, C)->kept);
	assert_int_equal(shown(scenario, C, 40), shown(scenario, B, 40));
	assert_int_equal(shown(scenario, C, 42), shown(scenario, A, 42));
	assert_int_equal(shown(scenario, C, 44), IMAGE_UNREADABLE);
	assert_int_equal(scenario->world.agents[C].seen.marks.count, 0);
	go_away(scenario, A);
	scenario_volume(scenario)->local_mask = LEG_BIT(scenario_leg(scenario, C));
	assert_int_equal(do_read(scenario, 40, 8), 0);
	come_back(scenario, A);
	await_whole(scenario);
}

static bool c_says_so(void *ctx)
{
	return strstr(scenario_leg(ctx, C)->failure, "cannot be read") != NULL;
}

static bool c_has_a_mark(void *ctx)
{
	return ((struct scenario *)ctx)->world.agents[C].seen.marks.count > 0;
}

/* The target comes back in the middle of it: what its mark says of a snapshot is not said of the
 * volume. */
static void test_mark_is_not_of_the_volume(struct scenario *scenario)
{
	leave_c_behind(scenario);
	spoil(scenario, A, 44);
	spoil(scenario, B, 44);
	come_back(scenario, C);
	await(scenario, c_has_a_mark);
	agent_crash(&scenario->world.agents[C], 100 * IO_NS_PER_MS);
	await_whole(scenario);
	assert_int_equal(scenario_volume(scenario)->lost.count, 0);
	assert_int_equal(scenario->world.agents[C].seen.marks.count, 0);
}

/* B, which has the block that A does not give, is in sync and not reached: nothing is marked. */
static void test_unreadable_and_one_is_away(struct scenario *scenario)
{
	leave_c_behind(scenario);
	spoil(scenario, A, 44);
	go_away(scenario, B);
	come_back(scenario, C);
	await(scenario, c_says_so);
	assert_null(image_on(scenario, C));
	come_back(scenario, B);
	await_whole(scenario);
	assert_int_equal(shown(scenario, C, 44), shown(scenario, B, 44));
}

#define CASE(function) {.name = #function, .run = function, .options = {.snapshots = 1}}

int main(void)
{
	static const struct scenario_case cases[] = {
		CASE(test_unreadable_in_one_image),
		CASE(test_unreadable_in_all_images),
		CASE(test_mark_is_not_of_the_volume),
		CASE(test_unreadable_and_one_is_away),
	};

	return scenario_run_all("layers", cases, ARRAY_COUNT(cases));
}
