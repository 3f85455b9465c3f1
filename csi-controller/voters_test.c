/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas of a volume that is open: who comes, who stays, who leaves. */
#include "base/bytes.h"
#include "csi-controller/plan_volume.h"
#include "csi-controller/world_test.h"

#define AFTER_S 600

static struct world world;
static struct volume_plan plan;
/* What the nexus says of the replica of each slot, and status.replicas of it; NULL: not listed. */
static const char *states[6];
static const char *marks[6]; /* further fields of status.replicas */
static const char *removed;  /* status.nexus.removed */

static int setup(void **state)
{
	(void)state;
	world_init(&world, 100);
	world.now_s = TEST_NOW_S;
	world.replace_after_s = AFTER_S;
	memset(states, 0, sizeof(states));
	memset(marks, 0, sizeof(marks));
	removed = "";
	for (unsigned i = 1; i <= 5; i++) {
		char name[8], node[8];

		(void)snprintf(name, sizeof(name), "p%u", i);
		(void)snprintf(node, sizeof(node), "n%u", i);
		set_node(&world, node, true);
		set_pool(&world, &(struct test_pool){.name = name, node, 10});
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	volume_plan_done(&plan);
	world_done(&world);
	return 0;
}

static void have(unsigned slot, const char *state)
{
	static char nodes[6][8], pools[6][8];

	(void)snprintf(nodes[slot], sizeof(nodes[slot]), "n%u", slot + 1);
	(void)snprintf(pools[slot], sizeof(pools[slot]), "p%u", slot + 1);
	set_replica(&world,
		&(struct test_replica){.volume = "v", pools[slot], nodes[slot], slot, 1, true});
	states[slot] = state;
}

/* Three that are in sync, on n1 to n3. */
static void have_three(void)
{
	for (unsigned slot = 0; slot < 3; slot++) {
		have(slot, "Online");
	}
}

static enum volume_action ask(unsigned replicas)
{
	char of_nexus[1024] = "", members[1024] = "", status[4096];
	size_t nexus_length = 0, members_length = 0;

	for (unsigned slot = 0; slot < ARRAY_COUNT(states); slot++) {
		if (states[slot] == NULL) {
			continue;
		}
		nexus_length += (size_t)snprintf(of_nexus + nexus_length,
			sizeof(of_nexus) - nexus_length, "%s{'uuid': '%s', 'state': '%s'}",
			nexus_length > 0 ? ", " : "", replica_uuid_of(slot), states[slot]);
		members_length +=
			(size_t)snprintf(members + members_length, sizeof(members) - members_length,
				"%s{'name': '%s', 'uuid': '%s', 'state': '%s', 'since': '%s'%s}",
				members_length > 0 ? ", " : "", replica_name_of_slot("v", slot),
				replica_uuid_of(slot), states[slot], TEST_BEFORE,
				marks[slot] != NULL ? marks[slot] : "");
	}
	(void)snprintf(status, sizeof(status),
		"{'attachment': {'number': 1, 'node': 'n1'}, 'record': '1.1/1', 'conditions': "
		"[{'type': 'Available', 'status': 'True', 'reason': 'ReplicasMade', 'message': '', "
		"'lastTransitionTime': '" TEST_BEFORE "'}], 'nexus': {'node': 'n1', 'state': "
		"'Degraded', 'device': '/dev/loop3', 'epoch': '1.1', 'generation': 1, 'replicas': "
		"[%s], 'removed': [%s]}, 'replicas': [%s]}",
		of_nexus, removed, members);
	set_volume(&world, &(struct test_volume){.name = "v", 1, replicas, .status = status});
	volume_plan_done(&plan);
	plan_volume(&world, world_volume(&world, "v"), &plan);
	return plan.action;
}

static bool leaves(unsigned slot)
{
	const json_t *list = kube_at(plan.status, "replicas");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);

		if (strcmp(kube_text(item, "uuid"), replica_uuid_of(slot)) == 0) {
			return kube_bool(item, "leaving");
		}
	}
	return false;
}

static void test_more_are_made_one_at_a_time(void **state)
{
	(void)state;
	have(0, "Online");
	assert_int_equal(ask(3), VOLUME_PLACE);
	assert_int_equal(plan.placement_count, 1);
	assert_false(plan.placements[0].is_arbiter);
	assert_string_not_equal(plan.placements[0].node, "n1");
	/* Not before it is there is the next one made. */
	world_reserve(&world, world_volume(&world, "v"), plan.placements[0].name,
		plan.placements[0].slot, plan.placements[0].pool, plan.placements[0].node, false);
	assert_int_equal(ask(3), VOLUME_PLACE);
	assert_int_equal(plan.placement_count, 1);
	assert_int_equal(plan.placements[0].slot, 1);
}

static void test_less_is_the_youngest(void **state)
{
	(void)state;
	have_three();
	assert_int_equal(ask(1), VOLUME_WRITE_STATUS);
	assert_false(leaves(0));
	assert_true(leaves(1) && leaves(2));
	/* Marked, it is kept until it has no vote. */
	marks[1] = marks[2] = ", 'leaving': true";
	(void)ask(1);
	assert_int_not_equal(plan.action, VOLUME_DROP);
	removed = "'00000000-0000-4000-8000-000000000002'";
	assert_int_equal(ask(1), VOLUME_DROP);
	assert_int_equal(plan.victim_count, 1);
	assert_int_equal(plan.victims[0]->object.slot, 1);
	/* The mark stays, whatever is wanted now. */
	removed = "";
	assert_int_equal(ask(3), VOLUME_PLACE);
	assert_true(leaves(1) && leaves(2));
}

static void test_none_leaves_while_others_are_not_in_sync(void **state)
{
	(void)state;
	have_three();
	states[0] = "Rebuilding";
	(void)ask(2);
	/* It is the one that is not in sync which goes: two are, without it. */
	assert_true(leaves(0));
	assert_false(leaves(1) || leaves(2));
	states[1] = "OutOfSync";
	(void)ask(2);
	assert_false(leaves(0) || leaves(1) || leaves(2));
}

static void test_what_is_away_for_long_is_replaced(void **state)
{
	(void)state;
	have_three();
	states[2] = "Offline";
	marks[2] = ", 'since': '2023-11-14T22:03:30Z'";
	world.now_s = TEST_NOW_S;
	(void)ask(3);
	assert_int_equal(plan.action, VOLUME_WRITE_STATUS);
	assert_int_equal(plan.again_s, 10);
	world.now_s += 10;
	assert_int_equal(ask(3), VOLUME_PLACE);
	assert_true(strcmp(plan.placements[0].node, "n4") == 0 ||
		    strcmp(plan.placements[0].node, "n5") == 0);
	/* It leaves when the new one is in sync. */
	have(3, "Rebuilding");
	(void)ask(3);
	assert_int_not_equal(plan.action, VOLUME_PLACE);
	assert_false(leaves(2));
	states[3] = "Online";
	(void)ask(3);
	assert_true(leaves(2));
	assert_false(leaves(3));
	/* It came back before: then it stays, and the new one is too many. */
	states[2] = "Online";
	(void)ask(3);
	assert_false(leaves(2));
	assert_true(leaves(3));
}

static void test_a_pool_that_goes_is_left(void **state)
{
	(void)state;
	have_three();
	set_pool(&world, &(struct test_pool){.name = "p2",
				 "n2",
				 10,
				 .more_metadata = "'deletionTimestamp': '" TEST_NOW "',"});
	assert_int_equal(ask(3), VOLUME_PLACE);
	have(3, "Online");
	(void)ask(3);
	assert_true(leaves(1));
	assert_false(leaves(0) || leaves(2) || leaves(3));
}

/* No node has two votes, so another one can come to its node only when it has left. */
static void test_what_is_gone_for_good_makes_room(void **state)
{
	(void)state;
	have_three();
	(void)world_set_pool(&world, "p4", NULL, &(struct err){0});
	(void)world_set_pool(&world, "p5", NULL, &(struct err){0});
	states[2] = "Offline";
	(void)ask(3);
	assert_false(leaves(2));
	(void)world_set_pool(&world, "p3", NULL, &(struct err){0});
	set_pool(&world, &(struct test_pool){.name = "p6", "n3", 10});
	(void)ask(3);
	assert_true(leaves(2));
	assert_false(leaves(0) || leaves(1));
	/* It can be reached and is in sync: not before there is another. */
	states[2] = "Online";
	(void)ask(3);
	assert_false(leaves(2));
}

static void test_without_another_place_it_says_so(void **state)
{
	(void)state;
	have_three();
	have(3, "Online");
	assert_int_equal(ask(5), VOLUME_PLACE);
	set_node(&world, "n5", false);
	assert_int_equal(ask(5), VOLUME_WRITE_STATUS);
	assert_non_null(
		strstr(kube_text(json_array_get(kube_at(plan.status, "conditions"), 1), "message"),
			"no place for another: 4 of 5 replicas have a place"));
}

static void test_nothing_changes_while_nobody_serves_it(void **state)
{
	(void)state;
	have(0, "Online");
	set_node(&world, "n1", false);
	(void)ask(3);
	assert_int_not_equal(plan.action, VOLUME_PLACE);
}

static void test_arbiters(void **state)
{
	(void)state;
	have(0, "Online");
	have(1, "Online");
	assert_int_equal(ask(2), VOLUME_PLACE);
	assert_true(plan.placements[0].is_arbiter);
	/* Data first. */
	states[1] = "Rebuilding";
	(void)ask(2);
	assert_int_not_equal(plan.action, VOLUME_PLACE);
	states[1] = "Online";
	/* An odd number needs none: it leaves before the third replica is there, as that may need
	 * its node. */
	have(2, "Online");
	json_t *json = json_deep_copy(world_replica(&world, replica_name_of_slot("v", 2))->json);
	struct err err;

	(void)json_object_set_new(json_object_get(json, "spec"), "kind", json_string("Arbiter"));
	(void)json_object_del(json_object_get(json, "spec"), "size");
	assert_int_equal(world_set_replica(&world, replica_name_of_slot("v", 2), json, &err), 0);
	json_decref(json);
	(void)ask(2);
	assert_false(leaves(2));
	assert_int_equal(ask(3), VOLUME_PLACE);
	assert_false(plan.placements[0].is_arbiter);
	assert_true(leaves(2));
	states[1] = "Offline";
	(void)ask(3);
	assert_false(leaves(2));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_more_are_made_one_at_a_time),
		TEST(test_less_is_the_youngest),
		TEST(test_none_leaves_while_others_are_not_in_sync),
		TEST(test_what_is_away_for_long_is_replaced),
		TEST(test_a_pool_that_goes_is_left),
		TEST(test_what_is_gone_for_good_makes_room),
		TEST(test_without_another_place_it_says_so),
		TEST(test_nothing_changes_while_nobody_serves_it),
		TEST(test_arbiters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
