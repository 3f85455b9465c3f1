/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a nexus's rebuilds copy: volumes that are nothing but what rebuilds.c looks at. */
#include "base/bytes.h"
#include "base/testing.h"
#include "nexus/mirror/volume_internal.h"

#include <stdlib.h>

#define VOLUMES 6
#define LEGS    3
#define NOW_NS  (1000 * IO_NS_PER_S)
#define TARGET  2

struct fixture {
	struct io io;
	struct nexus nexus;
	struct volume volumes[VOLUMES];
	struct leg legs[VOLUMES][LEGS];
};

static unsigned woken; /* volumes, bit by bit */

static void copier_looks(struct task *task)
{
	const struct copier *copier = container_of(task, struct copier, task);

	woken |= 1u << (copier->volume -
			 container_of(copier->volume->nexus, struct fixture, nexus)->volumes);
}

static uint64_t now(struct io *io)
{
	(void)io;
	return NOW_NS;
}

static void fixture_init(struct fixture *fixture, unsigned rebuilds)
{
	static const struct io_ops ops = {.now_ns = now};

	memset(fixture, 0, sizeof(*fixture));
	io_init(&fixture->io, &ops, NULL, 1, NULL);
	fixture->nexus.io = &fixture->io;
	fixture->nexus.options.rebuilds = rebuilds;
	fixture->nexus.options.rebuild_rate_min = 1;
	rebuilds_init(&fixture->nexus);
	for (unsigned i = 0; i < VOLUMES; i++) {
		struct volume *volume = &fixture->volumes[i];

		volume->nexus = &fixture->nexus;
		volume->io = &fixture->io;
		volume->serving = true;
		volume->min_insync = 1;
		volume->leg_count = LEGS;
		volume->member_mask = volume->proposed_mask = 3;
		volume->proposed_common = ~(leg_mask)0;
		for (unsigned j = 0; j < COPIERS; j++) {
			volume->copiers[j].volume = volume;
			task_init(&volume->copiers[j].task, &fixture->io.runq, copier_looks);
		}
		for (unsigned j = 0; j < LEGS; j++) {
			volume->legs[j] = &fixture->legs[i][j];
			fixture->legs[i][j] =
				(struct leg){.volume = volume, .index = j, .ready = true};
		}
	}
}

/* The third replica of a volume begins its rebuild. */
static struct leg *begin(struct fixture *fixture, unsigned volume)
{
	struct leg *leg = &fixture->legs[volume][TARGET];

	leg->target = true;
	leg->todo.count = 100;
	rebuilds_add(leg);
	return leg;
}

/* Whatever happens tells the nexus. */
static bool copies(const struct leg *leg)
{
	struct nexus *nexus = leg->volume->nexus;

	rebuilds_changed(nexus);
	assert_false(runq_run(&nexus->io->runq, 1000));
	return rebuilds_due_ns(leg, NOW_NS) <= NOW_NS;
}

static void only_so_many_at_once(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));
	struct leg *legs[VOLUMES];
	unsigned count = 0;

	(void)state;
	assert_non_null(fixture);
	fixture_init(fixture, 2);
	for (unsigned i = 0; i < VOLUMES; i++) {
		legs[i] = begin(fixture, i);
	}
	/* As each is done the next one begins, in the order in which they came. */
	for (unsigned done = 0; done < VOLUMES; done++) {
		for (unsigned i = 0; i < VOLUMES; i++) {
			assert_int_equal(copies(legs[i]), i >= done && i < done + 2);
		}
		legs[done]->todo.count = 0;
		count++;
	}
	assert_int_equal(count, VOLUMES);
	free(fixture);
}

static void four_by_default(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));

	(void)state;
	assert_non_null(fixture);
	fixture_init(fixture, 0);
	for (unsigned i = 0; i < VOLUMES; i++) {
		assert_int_equal(copies(begin(fixture, i)), i < 4);
	}
	free(fixture);
}

static void the_least_redundant_first(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));
	struct leg *two, *one;

	(void)state;
	assert_non_null(fixture);
	fixture_init(fixture, 1);
	two = begin(fixture, 0);
	assert_true(copies(two));
	fixture->volumes[1].member_mask = fixture->volumes[1].proposed_mask = 1;
	one = begin(fixture, 1);
	assert_true(copies(one));
	assert_false(copies(two));
	/* A member that is about to be left out is none. */
	fixture->legs[0][0].out = true;
	assert_true(copies(two));
	assert_false(copies(one));
	free(fixture);
}

/* Acknowledgements wait: at once, whatever the others do and the host wants. */
static void who_is_needed_is_not_held_up(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));
	struct leg *others[2], *needed;

	(void)state;
	assert_non_null(fixture);
	fixture_init(fixture, 1);
	others[0] = begin(fixture, 0);
	others[1] = begin(fixture, 1);
	needed = begin(fixture, 2);
	pace_copy_began(&fixture->nexus.pace, 1 << 20, true, NOW_NS);
	pace_host_began(&fixture->nexus.pace, NOW_NS - 1);
	assert_false(copies(others[0]));
	assert_false(copies(others[1]));
	assert_false(copies(needed));
	fixture->volumes[2].min_insync = 3;
	assert_true(copies(needed));
	fixture->volumes[2].min_insync = 2;
	assert_false(copies(needed));
	fixture->volumes[2].proposed_mask |= 1u << TARGET;
	assert_true(copies(needed));
	free(fixture);
}

/* Who cannot copy takes nobody's place. */
static void who_cannot_copy_holds_nobody_up(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));
	struct leg *first, *second;

	(void)state;
	assert_non_null(fixture);
	fixture_init(fixture, 1);
	first = begin(fixture, 0);
	second = begin(fixture, 1);
	assert_true(copies(first));
	assert_false(copies(second));
	first->unreadable.count = first->todo.count; /* until the host writes it */
	assert_false(copies(first));
	assert_true(copies(second));
	first->unreadable.count = 0;
	assert_false(copies(second));
	fixture->legs[0][0].ready = fixture->legs[0][1].ready = false; /* no source */
	assert_false(copies(first));
	assert_true(copies(second));
	fixture->legs[0][0].ready = true;
	assert_false(copies(second));
	fixture->volumes[0].ending = true;
	assert_true(copies(second));
	fixture->volumes[0].ending = false;
	first->todo_all = true; /* it is being computed */
	assert_true(copies(second));
	free(fixture);
}

/* Whatever lets another one begin wakes it, and only it: the last piece, and an end before that. */
static void who_waits_is_woken(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));
	struct leg *first, *second, *third;

	(void)state;
	assert_non_null(fixture);
	fixture_init(fixture, 1);
	first = begin(fixture, 0);
	second = begin(fixture, 1);
	third = begin(fixture, 2);
	assert_true(copies(first));
	woken = 0;
	rebuilds_copy_began(first->volume, first, 4096);
	first->todo.count--;
	rebuilds_copy_ended(first->volume, first, 4096);
	assert_false(runq_run(&fixture->io.runq, 1000));
	assert_int_equal(woken & 6, 0);
	rebuilds_copy_began(first->volume, first, 4096);
	first->todo.count = 0;
	rebuilds_copy_ended(first->volume, first, 4096);
	assert_false(runq_run(&fixture->io.runq, 1000));
	assert_int_equal(woken & 6, 2);
	assert_true(copies(second));
	assert_false(copies(third));
	woken = 0;
	second->target = false;
	rebuilds_remove(second);
	assert_false(runq_run(&fixture->io.runq, 1000));
	assert_int_equal(woken & 4, 4);
	assert_true(copies(third));
	free(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_so_many_at_once),
		cmocka_unit_test(four_by_default),
		cmocka_unit_test(the_least_redundant_first),
		cmocka_unit_test(who_is_needed_is_not_held_up),
		cmocka_unit_test(who_cannot_copy_holds_nobody_up),
		cmocka_unit_test(who_waits_is_woken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
