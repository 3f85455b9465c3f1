/* SPDX-License-Identifier: Apache-2.0 */
/* Which pools a volume gets, and what is said when it gets none. */
#include "base/bytes.h"
#include "base/size.h"
#include "csi-controller/place.h"
#include "csi-controller/world_test.h"

static struct world world;

static int setup(void **state)
{
	(void)state;
	world_init(&world, 100);
	world.now_s = TEST_NOW_S;
	for (unsigned i = 1; i <= 4; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "n%u", i);
		set_node(&world, name, true);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_done(&world);
	return 0;
}

static struct place_answer ask(uint64_t size_gib, unsigned count, const char *preferred)
{
	struct place_request request = {.world = &world,
		.size_bytes = size_gib * GIB,
		.preferred_node = preferred,
		.count = count};
	struct place_answer answer;

	place(&request, &answer);
	return answer;
}

static void assert_says(const struct place_answer *answer, const char *text)
{
	assert_false(answer->is_possible);
	if (strstr(answer->why, text) == NULL) {
		fail_msg("\"%s\" is not in \"%s\"", text, answer->why);
	}
}

static void test_each_replica_gets_a_node_of_its_own(void **state)
{
	(void)state;
	set_pool(&world, &(struct test_pool){.name = "a1", "n1", 100});
	set_pool(&world, &(struct test_pool){.name = "a2", "n1", 200});
	set_pool(&world, &(struct test_pool){.name = "b", "n2", 10});
	struct place_answer answer = ask(5, 2, "");

	assert_true(answer.is_possible);
	assert_string_equal(answer.pools[0]->entry.key, "a2");
	assert_string_equal(answer.pools[1]->entry.key, "b");
	answer = ask(5, 3, "");
	assert_says(&answer, "2 of 3 replicas have a place");
	assert_says(&answer, "pool a1: same node as pool a2");
}

static void test_preferred_node_then_few_volumes_then_room(void **state)
{
	(void)state;
	set_pool(&world, &(struct test_pool){.name = "a", "n1", 50});
	set_pool(&world, &(struct test_pool){.name = "b", "n2", 60});
	set_pool(&world, &(struct test_pool){.name = "c", "n3", 70});
	set_pool(&world, &(struct test_pool){.name = "d", "n4", 40});
	set_replica(&world, &(struct test_replica){.volume = "v", "c", "n3", 0, 1});
	struct place_answer answer = ask(1, 3, "n4");

	assert_true(answer.is_possible);
	assert_string_equal(answer.pools[0]->entry.key, "d");
	assert_string_equal(answer.pools[1]->entry.key, "b");
	assert_string_equal(answer.pools[2]->entry.key, "a");
	/* A preference that cannot be had is none. */
	answer = ask(45, 3, "n4");
	assert_true(answer.is_possible);
	assert_string_equal(answer.pools[0]->entry.key, "b");
}

static void test_room_is_what_is_not_promised_yet(void **state)
{
	(void)state;
	set_pool(&world, &(struct test_pool){.name = "a", "n1", 10});
	assert_true(ask(10, 1, "").is_possible);
	set_replica(&world, &(struct test_replica){.volume = "v", "a", "n1", 0, 4});
	struct place_answer answer = ask(7, 1, "");

	assert_says(&answer, "pool a: 1.0 GiB short");
	assert_true(ask(6, 1, "").is_possible);
	/* Being erased, it still takes its room; gone, it does not. */
	set_replica(&world, &(struct test_replica){.volume = "v",
				    .pool = "a",
				    .node = "n1",
				    .size_gib = 4,
				    .more_metadata = "'deletionTimestamp': '" TEST_NOW "',"});
	assert_false(ask(7, 1, "").is_possible);
	forget(&world, world_set_replica, replica_name_of_slot("v", 0));
	assert_true(ask(7, 1, "").is_possible);
}

/* Its replicas were made with the size of before. */
static void test_a_volume_that_grows_takes_room(void **state)
{
	(void)state;
	set_pool(&world, &(struct test_pool){.name = "a", "n1", 10});
	set_replica(&world, &(struct test_replica){.volume = "v", "a", "n1", 0, 4});
	set_volume(&world, &(struct test_volume){.name = "v", 4, 1});
	assert_true(ask(6, 1, "").is_possible);
	set_volume(&world, &(struct test_volume){.name = "v", 7, 1});
	assert_true(ask(3, 1, "").is_possible);
	struct place_answer answer = ask(4, 1, "");

	assert_says(&answer, "pool a: 1.0 GiB short");
	forget(&world, world_set_replica, replica_name_of_slot("v", 0));
	assert_true(ask(10, 1, "").is_possible);
	/* One that comes when the volume is bigger already. */
	set_replica(&world, &(struct test_replica){.volume = "v", "a", "n1", 0, 4});
	assert_false(ask(4, 1, "").is_possible);
}

static void test_overcommit_multiplies_room(void **state)
{
	(void)state;
	set_pool(&world, &(struct test_pool){.name = "a", "n1", 10});
	world.overcommit_percent = 250;
	assert_true(ask(25, 1, "").is_possible);
	assert_false(ask(26, 1, "").is_possible);
	world.overcommit_percent = 50;
	assert_true(ask(5, 1, "").is_possible);
	assert_false(ask(6, 1, "").is_possible);
}

static void test_reserved_room_is_taken_at_once(void **state)
{
	struct world_volume *volume;

	(void)state;
	set_pool(&world, &(struct test_pool){.name = "a", "n1", 10});
	volume = set_volume(&world, &(struct test_volume){.name = "v", 6, 1});
	world_reserve(&world, volume, "v-x", 0, "a", "n1", false);
	assert_false(ask(6, 1, "").is_possible);
	world_unreserve(&world, "v-x");
	assert_true(ask(6, 1, "").is_possible);
	/* The real one replaces what was reserved. */
	world_reserve(&world, volume, replica_name_of_slot("v", 0), 0, "a", "n1", false);
	set_replica(&world, &(struct test_replica){.volume = "v", "a", "n1", 0, 6});
	world_unreserve(&world, replica_name_of_slot("v", 0));
	assert_false(ask(6, 1, "").is_possible);
	assert_true(ask(4, 1, "").is_possible);
	assert_int_equal(world_pool(&world, "a")->replica_count, 1);
}

static void test_every_refusal_is_told(void **state)
{
	static const struct {
		struct test_pool pool;
		const char *why;
	} cases[] = {
		{{.name = "p", "n1", 10, .more_spec = "'unschedulable': true,"},
			"pool p: unschedulable"},
		{{.name = "p", "n1", 10, .more_metadata = "'deletionTimestamp': '" TEST_NOW "',"},
			"pool p: is being deleted"},
		{{.name = "p", "n1", 10, .state = "Faulted", .reason = "DiskMissing"},
			"pool p: Faulted, DiskMissing"},
		{{.name = "p", "n1", 10, .reason = "AgentUnreachable"},
			"pool p: Online, AgentUnreachable"},
		{{.name = "p", "n9", 10}, "pool p: there is no node n9"},
		{{.name = "p", "away", 10}, "pool p: node away is not ready"},
		{{.name = "p", "n1", 10, .has_no_finalizer = true}, "pool p: is new"},
		{{.name = "p", "n1", 10, .has_no_sealing_key = true},
			"pool p: csi-node of n1 has not published its sealing key"},
		{{.name = "p", "n1", 0}, "pool p: 1.0 GiB short"},
	};

	(void)state;
	struct place_answer answer = ask(1, 1, "");

	assert_says(&answer, "there are no pools");
	set_node(&world, "away", false);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		set_pool(&world, &cases[i].pool);
		answer = ask(1, 1, "");
		assert_says(&answer, cases[i].why);
	}
}

static void test_labels_select(void **state)
{
	json_t *selector = parse("{'tier': 'fast'}");
	struct place_request request = {.world = &world,
		.size_bytes = GIB,
		.preferred_node = "",
		.pool_selector = selector,
		.count = 1};
	struct place_answer answer;

	(void)state;
	set_pool(&world, &(struct test_pool){.name = "a", "n1", 10});
	set_pool(&world,
		&(struct test_pool){
			.name = "b", "n2", 10, .more_metadata = "'labels': {'tier': 'slow'},"});
	place(&request, &answer);
	assert_says(&answer, "pool a: has no label tier=fast");
	set_pool(&world,
		&(struct test_pool){
			.name = "b", "n2", 10, .more_metadata = "'labels': {'tier': 'fast'},"});
	place(&request, &answer);
	assert_true(answer.is_possible);
	assert_string_equal(answer.pools[0]->entry.key, "b");
	json_decref(selector);
}

static void test_a_long_list_of_refusals_is_cut(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "p%02u", i);
		set_pool(&world, &(struct test_pool){.name = name, "n1", 1});
	}
	struct place_answer answer = ask(100, 1, "");

	assert_says(&answer, "pool p07: 99.0 GiB short; and 22 more pools");
}

static void test_largest_volume(void **state)
{
	struct place_request request = {.world = &world, .preferred_node = "", .count = 3};

	(void)state;
	assert_int_equal(place_largest(&request), 0);
	set_pool(&world, &(struct test_pool){.name = "a1", "n1", 100});
	set_pool(&world, &(struct test_pool){.name = "a2", "n1", 90});
	set_pool(&world, &(struct test_pool){.name = "b", "n2", 50});
	assert_int_equal(place_largest(&request), 0);
	set_pool(&world, &(struct test_pool){.name = "c", "n3", 20});
	assert_int_equal(place_largest(&request), 20 * GIB);
	request.count = 2;
	assert_int_equal(place_largest(&request), 50 * GIB);
	request.count = 1;
	assert_int_equal(place_largest(&request), 100 * GIB);
	set_replica(&world, &(struct test_replica){.volume = "v", "a1", "n1", 0, 30});
	assert_int_equal(place_largest(&request), 90 * GIB);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_each_replica_gets_a_node_of_its_own),
		TEST(test_preferred_node_then_few_volumes_then_room),
		TEST(test_room_is_what_is_not_promised_yet),
		TEST(test_a_volume_that_grows_takes_room),
		TEST(test_overcommit_multiplies_room),
		TEST(test_reserved_room_is_taken_at_once),
		TEST(test_every_refusal_is_told),
		TEST(test_labels_select),
		TEST(test_a_long_list_of_refusals_is_cut),
		TEST(test_largest_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
