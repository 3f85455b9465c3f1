/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/size.h"
#include "base/testing.h"
#include "cli/placement.h"

#include <errno.h>
#include <string.h>

static const struct placement_pool pools[] = {
	{"a1", "A", true, 10 * GIB, 9 * GIB, false},
	{"a2", "A", true, 10 * GIB, 1 * GIB, true},
	{"b1", "B", true, 20 * GIB, 0, true},
	{"c1", "C", true, 4 * GIB, 0, true},
	{"d1", "D", false, 90 * GIB, 0, false},
};

static int choose(struct placement_wish wish, size_t *chosen, struct err *err)
{
	return placement_choose(pools, ARRAY_COUNT(pools), &wish, chosen, err);
}

static void test_most_free_space_on_distinct_agents(void **state)
{
	size_t chosen[4] = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(
		choose((struct placement_wish){.size_bytes = GIB, .replicas = 3}, chosen, &err), 0);
	assert_string_equal(pools[chosen[0]].name, "b1");
	assert_string_equal(pools[chosen[1]].name, "a2");
	assert_string_equal(pools[chosen[2]].name, "c1");
}

static void test_larger_than_the_pools(void **state)
{
	size_t chosen[4] = {0};
	struct err err = {0};
	struct placement_wish wish = {.size_bytes = 5 * GIB, .replicas = 3};

	(void)state;
	assert_int_equal(choose(wish, chosen, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "5G is larger than 1 of the pools"));
	wish.overcommit = true;
	assert_int_equal(choose(wish, chosen, &err), 0);
}

static void test_too_few_agents(void **state)
{
	size_t chosen[8] = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(
		choose((struct placement_wish){.size_bytes = GIB, .replicas = 4}, chosen, &err),
		-ENOSPC);
	assert_non_null(strstr(err.text, "4 different agents, and there are 3"));
}

static void test_arbiter_takes_an_agent_but_no_space(void **state)
{
	size_t chosen[4] = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(choose(
				 (struct placement_wish){
					 .size_bytes = 8 * GIB, .replicas = 2, .arbiter = true},
				 chosen, &err),
		0);
	assert_string_equal(pools[chosen[2]].name, "c1");
}

static void test_only_pools_that_are_named(void **state)
{
	size_t chosen[4] = {0};
	struct err err = {0};
	struct placement_pool some[ARRAY_COUNT(pools)];
	struct placement_wish wish = {.size_bytes = GIB, .replicas = 2, .by_name = true};

	(void)state;
	memcpy(some, pools, sizeof(some));
	some[2].wanted = false;
	assert_int_equal(placement_choose(some, ARRAY_COUNT(some), &wish, chosen, &err), 0);
	assert_string_equal(some[chosen[0]].name, "a2");
	assert_string_equal(some[chosen[1]].name, "c1");
	wish.replicas = 3;
	assert_int_equal(placement_choose(some, ARRAY_COUNT(some), &wish, chosen, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "--pool"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_most_free_space_on_distinct_agents),
		cmocka_unit_test(test_larger_than_the_pools),
		cmocka_unit_test(test_too_few_agents),
		cmocka_unit_test(test_arbiter_takes_an_agent_but_no_space),
		cmocka_unit_test(test_only_pools_that_are_named),
	};

	return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
