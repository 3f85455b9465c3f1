/* SPDX-License-Identifier: Apache-2.0 */
/* One step of a Volume, a Pool, a Replica, a Node from what is known. */
#include "base/bytes.h"
#include "csi-controller/plan_pool.h"
#include "csi-controller/plan_volume.h"
#include "csi-controller/world_test.h"

#define DELETED      "'deletionTimestamp': '" TEST_NOW "',"
#define LONG_DELETED "'deletionTimestamp': '" TEST_BEFORE "',"
#define AVAILABLE                                                                                  \
	"'conditions': [{'type': 'Available', 'status': 'True', 'reason': 'ReplicasMade', "        \
	"'message': '', 'lastTransitionTime': '" TEST_BEFORE "'}]"

static struct world world;
static struct volume_plan plan;

static int setup(void **state)
{
	(void)state;
	world_init(&world, 100);
	world.now_s = TEST_NOW_S;
	for (unsigned i = 1; i <= 4; i++) {
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

static const struct test_volume volume3 = {.name = "v", 1, 3};

static enum volume_action ask(void)
{
	volume_plan_done(&plan);
	plan_volume(&world, world_volume(&world, "v"), &plan);
	return plan.action;
}

static void make_three(bool is_made)
{
	set_replica(&world, &(struct test_replica){.volume = "v", "p1", "n1", 0, 1, is_made});
	set_replica(&world, &(struct test_replica){.volume = "v", "p2", "n2", 1, 1, is_made});
	set_replica(&world, &(struct test_replica){.volume = "v", "p3", "n3", 2, 1, is_made});
}

static const char *said(const char *path)
{
	return kube_text(plan.status, path);
}

static const char *condition(const char *type, const char *field)
{
	return condition_of(plan.status, type, field);
}

/* ---- making ---- */

static void test_a_new_volume_is_adopted_first(void **state)
{
	(void)state;
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .has_no_finalizer = true});
	assert_int_equal(ask(), VOLUME_ADOPT);
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .has_no_uuid = true});
	assert_int_equal(ask(), VOLUME_ADOPT);
	set_volume(&world, &volume3);
	assert_int_equal(ask(), VOLUME_PLACE);
	assert_int_equal(plan.placement_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(plan.placements[i].slot, i);
		assert_string_equal(plan.placements[i].name, replica_name_of_slot("v", i));
	}
}

static void test_what_is_missing_is_made_under_the_same_names(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	set_replica(&world, &(struct test_replica){.volume = "v", "p1", "n1", 0});
	set_replica(&world, &(struct test_replica){.volume = "v", "p3", "n3", 2});
	assert_int_equal(ask(), VOLUME_PLACE);
	assert_int_equal(plan.placement_count, 1);
	assert_string_equal(plan.placements[0].name, replica_name_of_slot("v", 1));
	assert_string_not_equal(plan.placements[0].node, "n1");
	assert_string_not_equal(plan.placements[0].node, "n3");
	/* A name that something else has is passed over. */
	set_replica(&world, &(struct test_replica){.volume = "other",
				    "p4",
				    "n4",
				    .name = replica_name_of_slot("v", 1),
				    .volume_uuid = "7d1c5bf0-0000-4c1e-9f0e-3b2a1c0d9e8f"});
	assert_int_equal(ask(), VOLUME_PLACE);
	assert_string_equal(plan.placements[0].name, replica_name_of_slot("v", 3));
}

static void test_what_was_asked_for_and_not_answered_is_asked_for_again(void **state)
{
	struct world_volume *volume = set_volume(&world, &volume3);

	(void)state;
	/* Elsewhere there is as much room, but it may be there. */
	world_reserve(&world, volume, replica_name_of_slot("v", 1), 1, "p4", "n4", false);
	set_replica(&world, &(struct test_replica){.volume = "v", "p1", "n1", 0});
	assert_int_equal(ask(), VOLUME_PLACE);
	assert_int_equal(plan.placement_count, 1);
	assert_string_equal(plan.placements[0].name, replica_name_of_slot("v", 1));
	assert_string_equal(plan.placements[0].pool, "p4");
	/* Of a volume that is to go it is looked for. */
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, DELETED});
	assert_int_equal(ask(), VOLUME_DROP);
	assert_int_equal(plan.victim_count, 2);
	/* Another leader decided meanwhile. */
	world_forget_asked(&world);
	assert_null(world_replica(&world, replica_name_of_slot("v", 1)));
}

static void test_a_replica_whose_deletion_was_asked_for_is_not_relied_upon(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	make_three(true);
	world_doom(&world, replica_name_of_slot("v", 2));
	assert_int_equal(ask(), VOLUME_DROP);
	assert_int_equal(plan.victim_count, 1);
	assert_string_equal(condition("Available", "status"), "False");
	/* Also when it is heard of once more. */
	make_three(true);
	assert_int_equal(ask(), VOLUME_DROP);
}

static void test_all_or_nothing(void **state)
{
	(void)state;
	forget(&world, world_set_pool, "p3");
	forget(&world, world_set_pool, "p4");
	set_volume(&world, &volume3);
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(said("state"), "Creating");
	assert_string_equal(condition("Available", "status"), "False");
	assert_string_equal(condition("Available", "reason"), "Unplaceable");
	assert_string_equal(condition("Available", "message"),
		"2 of 3 replicas have a place; there are no other pools");
}

static void test_available_when_all_are_made(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	make_three(false);
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(condition("Available", "reason"), "WaitingForReplicas");
	assert_non_null(strstr(condition("Available", "message"), "on pool p2: is being made"));
	/* Nobody made them in this while. */
	assert_int_equal(plan.again_s, 60);
	make_three(true);
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(condition("Available", "status"), "True");
	assert_string_equal(condition("Redundant", "status"), "True");
	assert_string_equal(condition("Published", "reason"), "Detached");
	assert_string_equal(said("state"), "Online");
	assert_string_equal(said("inSync"), "3/3");
	assert_int_equal(json_array_size(kube_at(plan.status, "replicas")), 3);
	assert_int_equal(plan.again_s, 0);
}

static void test_written_status_is_not_written_again(void **state)
{
	json_t *object;
	struct err err = {0};

	(void)state;
	set_volume(&world, &volume3);
	make_three(true);
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	object = json_deep_copy(world_volume(&world, "v")->json);
	(void)json_object_set(object, "status", plan.status);
	assert_int_equal(world_set_volume(&world, "v", object, &err), 0);
	assert_int_equal(ask(), VOLUME_NOTHING);
	json_decref(object);
}

/* ---- making elsewhere ---- */

static void test_a_replica_without_space_is_made_elsewhere(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	make_three(true);
	set_replica(&world,
		&(struct test_replica){
			.volume = "v", "p2", "n2", 1, .reason = "NoSpace", .since = TEST_NOW});
	assert_int_equal(ask(), VOLUME_DROP);
	assert_int_equal(plan.victim_count, 1);
	assert_string_equal(plan.victims[0]->object.pool, "p2");
	/* While it is erased another one is made, not on the same pool and under another name. */
	set_replica(&world,
		&(struct test_replica){.volume = "v", "p2", "n2", 1, .more_metadata = DELETED});
	assert_int_equal(ask(), VOLUME_PLACE);
	assert_int_equal(plan.placement_count, 1);
	assert_string_equal(plan.placements[0].pool, "p4");
	assert_int_equal(plan.placements[0].slot, 3);
}

static void test_available_is_taken_away_before_replicas_are(void **state)
{
	(void)state;
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .status = "{" AVAILABLE "}"});
	make_three(true);
	set_pool(&world, &(struct test_pool){.name = "p2", "n2", 10, .more_metadata = DELETED});
	assert_int_equal(ask(), VOLUME_WITHHOLD);
	assert_string_equal(condition("Available", "status"), "False");
	set_volume(&world, &volume3);
	assert_int_equal(ask(), VOLUME_DROP);
	assert_string_equal(plan.victims[0]->object.pool, "p2");
}

static void test_without_another_place_everything_stays(void **state)
{
	(void)state;
	forget(&world, world_set_pool, "p4");
	set_volume(&world, &volume3);
	make_three(true);
	set_replica(
		&world, &(struct test_replica){.volume = "v", "p2", "n2", 1, .reason = "NoSpace"});
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_non_null(
		strstr(condition("Available", "message"), "on pool p2: NoSpace; no other place"));
	/* Made replicas on a pool that is to go are as good as others. */
	make_three(true);
	set_pool(&world, &(struct test_pool){.name = "p2", "n2", 10, .more_metadata = DELETED});
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(condition("Available", "status"), "True");
}

static void test_other_failures_are_given_time(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	make_three(true);
	set_replica(&world,
		&(struct test_replica){
			.volume = "v", "p2", "n2", 1, .reason = "CreateFailed", .since = TEST_NOW});
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_int_equal(plan.again_s, 30);
	world.now_s += 30;
	assert_int_equal(ask(), VOLUME_DROP);
}

static void test_a_replica_on_a_dead_node_is_made_elsewhere_after_a_while(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	make_three(true);
	set_replica(&world, &(struct test_replica){.volume = "v", "p2", "n2", 1});
	set_node(&world, "n2", false);
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	world.now_s += 30;
	assert_int_equal(ask(), VOLUME_DROP);
}

static void test_what_was_attached_keeps_its_replicas(void **state)
{
	static const struct test_volume attached = {.name = "v",
		1,
		3,
		.status = "{'attachment': {'number': 1, 'node': ''}, " AVAILABLE "}"};

	(void)state;
	set_volume(&world, &attached);
	make_three(true);
	forget(&world, world_set_pool, "p2");
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(condition("Available", "status"), "True");
	assert_string_equal(said("state"), "Degraded");
	forget(&world, world_set_replica, replica_name_of_slot("v", 1));
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(said("reason"), "1 of 3 replicas are not there");
	set_node(&world, "n1", false);
	ask();
	assert_string_equal(said("state"), "Stalled");
}

static void test_too_many_are_taken_away(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	make_three(true);
	set_replica(&world, &(struct test_replica){.volume = "v", "p4", "n4", 3, 1, true});
	assert_int_equal(ask(), VOLUME_DROP);
	assert_int_equal(plan.victim_count, 1);
	assert_int_equal(plan.victims[0]->object.slot, 3);
}

/* ---- status ---- */

static void test_the_nexus_says_how_replicas_are(void **state)
{
	static const struct test_volume open = {.name = "v",
		1,
		3,
		.status = "{'attachment': {'number': 1, 'node': 'n4'}, " AVAILABLE
			  ", 'nexus': {'node': 'n4', "
			  "'device': '/dev/loop3', 'state': 'Degraded', 'reason': '2 of 3 replicas "
			  "in sync', "
			  "'replicas': ["
			  "{'uuid': '00000000-0000-4000-8000-000000000001', 'state': 'Online'}, "
			  "{'uuid': '00000000-0000-4000-8000-000000000002', 'state': 'Rebuilding', "
			  "'progress': 40}, "
			  "{'uuid': '00000000-0000-4000-8000-000000000003', 'state': 'Online'}]}}"};
	const json_t *second;

	(void)state;
	set_volume(&world, &open);
	make_three(true);
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(said("state"), "Degraded");
	assert_string_equal(said("reason"), "2 of 3 replicas in sync");
	assert_string_equal(said("inSync"), "2/3");
	assert_string_equal(condition("Published", "status"), "True");
	assert_string_equal(condition("Published", "message"), "on node n4, /dev/loop3");
	assert_string_equal(condition("Redundant", "status"), "False");
	second = json_array_get(kube_at(plan.status, "replicas"), 1);
	assert_string_equal(kube_text(second, "state"), "Rebuilding");
	assert_int_equal(kube_number(second, "progress", 0), 40);
	/* A node that is away says nothing: the replicas speak for themselves. */
	set_node(&world, "n4", false);
	ask();
	assert_string_equal(said("state"), "Online");
	assert_string_equal(said("inSync"), "3/3");
}

static void test_out_of_sync_outlives_the_nexus(void **state)
{
	char status[512];

	(void)state;
	(void)snprintf(status, sizeof(status),
		"{'attachment': {'number': 1, 'node': ''}, " AVAILABLE
		", 'replicas': [{'name': '%s', 'state': 'Rebuilding'}]}",
		replica_name_of_slot("v", 1));
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .status = status});
	make_three(true);
	ask();
	assert_string_equal(said("state"), "Degraded");
	assert_string_equal(said("inSync"), "2/3");
}

/* Of a Volume that is attached with number 3. */
static enum volume_action ask_refused(const char *node, const char *nexus_state, unsigned by)
{
	char status[512];

	(void)snprintf(status, sizeof(status),
		"{'attachment': {'number': 3, 'node': '%s'}, 'nexus': {'node': 'n4', 'state': "
		"'%s', "
		"'supersededBy': %u}, " AVAILABLE "}",
		node, nexus_state, by);
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .status = status});
	make_three(true);
	return ask();
}

static enum volume_action ask_recorded(
	const char *record, const char *nexus_state, const char *nexus)
{
	char status[500];

	(void)snprintf(status, sizeof(status),
		"{'attachment': {'number': 3, 'node': 'n4'}, 'record': '%s', 'nexus': {'node': "
		"'n4', 'state': '%s', %s}, " AVAILABLE "}",
		record, nexus_state, nexus);
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .status = status});
	make_three(true);
	return ask();
}

static const char *record_of(const char *record, const char *nexus)
{
	(void)ask_recorded(record, "Online", nexus);
	return said("record");
}

#define RECOVERED "'epoch': '0.0', 'generation': 0, 'record': '4.0/0 00000000000000ef'"

/* So that a node that never had the volume is told which lineage it is. */
static void test_the_lineage_is_recorded(void **state)
{
	(void)state;
#define NEXUS "'epoch': '3.2.99', 'generation': 4"
	assert_string_equal(
		record_of("", NEXUS ", 'lineage': '00000000000000ab'"), "3.2/4 00000000000000ab");
	/* Of an earlier version. */
	assert_string_equal(record_of("3.2/4", NEXUS ", 'lineage': '00000000000000ab'"),
		"3.2/4 00000000000000ab");
	assert_string_equal(record_of("3.2/3 00000000000000ab", NEXUS), "3.2/4 00000000000000ab");
	/* Older, and newer, than what is known. */
	assert_string_equal(
		record_of("4.1/1 00000000000000cd", NEXUS ", 'lineage': '00000000000000ab'"),
		"4.1/1 00000000000000cd");
	assert_string_equal(
		record_of("3.1/9 00000000000000ab", NEXUS ", 'lineage': '00000000000000cd'"),
		"3.2/4 00000000000000cd");
	/* An operator decided. */
	assert_string_equal(
		record_of("3.2/4 00000000000000ab", RECOVERED), "4.0/0 00000000000000ef");
	assert_string_equal(
		record_of("5.1/1 00000000000000ab", RECOVERED), "5.1/1 00000000000000ab");
	assert_string_equal(
		record_of("4.0/0 00000000000000ef", "'epoch': '4.1', 'generation': 1, 'lineage': "
						    "'00000000000000ef'"),
		"4.1/1 00000000000000ef");
#undef NEXUS
}

/* The nexus misses nobody, and there should be one more. */
static void test_fewer_voters_than_wanted_is_degraded(void **state)
{
	char nexus[256];

	(void)state;
	for (unsigned count = 2; count <= 3; count++) {
		size_t length = (size_t)snprintf(nexus, sizeof(nexus), "'replicas': [");

		for (unsigned slot = 0; slot < count; slot++) {
			length += (size_t)snprintf(nexus + length, sizeof(nexus) - length,
				"%s{'uuid': '%s'}", slot > 0 ? ", " : "", replica_uuid_of(slot));
		}
		(void)snprintf(nexus + length, sizeof(nexus) - length, "]");
		(void)record_of("", nexus);
		assert_string_equal(said("state"), count == 3 ? "Online" : "Degraded");
	}
}

static void test_a_number_of_a_backup_is_raised(void **state)
{
	(void)state;
	assert_int_equal(ask_refused("n4", "Superseded", 5), VOLUME_RAISE_ATTACH);
	/* By an attachment of before this one; of a node that has lost it; of a nexus that serves.
	 */
	assert_int_not_equal(ask_refused("n4", "Superseded", 3), VOLUME_RAISE_ATTACH);
	assert_int_not_equal(ask_refused("n3", "Superseded", 5), VOLUME_RAISE_ATTACH);
	assert_int_not_equal(ask_refused("", "Superseded", 5), VOLUME_RAISE_ATTACH);
	assert_int_not_equal(ask_refused("n4", "Online", 5), VOLUME_RAISE_ATTACH);
}

static enum volume_action ask_recovered(const char *record)
{
	return ask_recorded(record, "Superseded", "'supersededBy': 4, " RECOVERED);
}

/* The raised number lets the node open the volume: then its nexus says it no more, and who is told
 * the old lineage next would be refused. */
static void test_a_recovery_is_recorded_before_its_number_is_raised(void **state)
{
	(void)state;
	assert_int_equal(ask_recovered("3.2/4 00000000000000ab"), VOLUME_WRITE_STATUS);
	assert_string_equal(said("record"), "4.0/0 00000000000000ef");
	assert_int_equal(ask_recovered("4.0/0 00000000000000ef"), VOLUME_RAISE_ATTACH);
	/* One that came too late is not waited for. */
	assert_int_equal(ask_recovered("5.1/1 00000000000000ab"), VOLUME_RAISE_ATTACH);
}

static void test_the_nexus_of_a_node_that_is_gone_is_forgotten(void **state)
{
	char text[512];

	(void)state;
	make_three(true);
	(void)snprintf(text, sizeof(text),
		"{'attachment': {'number': 1, 'node': 'n1'}, " AVAILABLE
		", 'nexus': {'node': 'n9'}}");
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .status = text});
	assert_int_equal(ask(), VOLUME_FORGET_NEXUS);
	set_node(&world, "n9", false);
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
}

/* ---- the end ---- */

static void test_a_deleted_volume_in_use_is_kept(void **state)
{
	(void)state;
	make_three(true);
	set_volume(&world, &(struct test_volume){.name = "v",
				   1,
				   3,
				   DELETED,
				   .status = "{'attachment': {'number': 1, 'node': 'n1'}}"});
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(said("state"), "Deleting");
	assert_string_equal(said("reason"), "is attached to node n1");
	set_volume(&world, &(struct test_volume){.name = "v",
				   1,
				   3,
				   DELETED,
				   .status = "{'attachment': {'number': 1, 'node': ''}, 'nexus': "
					     "{'node': 'n1'}}"});
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_string_equal(said("reason"), "waits for node n1 to close it");
	/* A dead node closes nothing. */
	set_node(&world, "n1", false);
	assert_int_equal(ask(), VOLUME_DROP);
}

static void test_replicas_go_before_the_volume(void **state)
{
	(void)state;
	make_three(true);
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, DELETED});
	assert_int_equal(ask(), VOLUME_DROP);
	assert_int_equal(plan.victim_count, 3);
	set_replica(&world,
		&(struct test_replica){.volume = "v", "p1", "n1", 0, .more_metadata = DELETED});
	set_replica(&world,
		&(struct test_replica){.volume = "v", "p2", "n2", 1, .more_metadata = DELETED});
	assert_int_equal(ask(), VOLUME_DROP);
	assert_int_equal(plan.victim_count, 1);
	set_replica(&world,
		&(struct test_replica){.volume = "v", "p3", "n3", 2, .more_metadata = DELETED});
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_non_null(strstr(said("reason"), "to erase replica"));
	forget(&world, world_set_replica, replica_name_of_slot("v", 0));
	forget(&world, world_set_replica, replica_name_of_slot("v", 1));
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	/* Nobody waits for a node that is away. */
	set_node(&world, "n3", false);
	assert_int_equal(ask(), VOLUME_RELEASE);
}

static void test_nobody_waits_for_ever_for_an_erase(void **state)
{
	(void)state;
	set_replica(&world, &(struct test_replica){
				    .volume = "v", "p1", "n1", 0, .more_metadata = LONG_DELETED});
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, DELETED});
	assert_int_equal(ask(), VOLUME_WRITE_STATUS);
	assert_int_equal(plan.again_s, 60);
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, LONG_DELETED});
	assert_int_equal(ask(), VOLUME_RELEASE);
}

static void test_replicas_of_an_earlier_volume_of_the_name_are_not_its(void **state)
{
	(void)state;
	set_volume(&world, &volume3);
	set_replica(&world, &(struct test_replica){.volume = "v",
				    "p1",
				    "n1",
				    .name = "v-old",
				    .volume_uuid = "7d1c5bf0-0000-4c1e-9f0e-3b2a1c0d9e8f",
				    .more_metadata = DELETED});
	assert_int_equal(ask(), VOLUME_PLACE);
	assert_int_equal(plan.placement_count, 3);
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, DELETED});
	assert_int_equal(ask(), VOLUME_RELEASE);
}

/* ---- pools ---- */

static enum pool_action ask_pool(const char *name, struct pool_plan *pool_plan)
{
	plan_pool(&world, world_pool(&world, name), pool_plan);
	return pool_plan->action;
}

static void test_pools(void **state)
{
	static const struct {
		struct test_pool pool;
		bool has_replica;
		enum pool_action action;
		const char *text; /* in the status */
	} cases[] = {
		{{.name = "p1", "n1", 10, .has_no_finalizer = true}, false, POOL_ADOPT, NULL},
		{{.name = "p1", "n1", 10}, false, POOL_WRITE_STATUS, "NoReplicas"},
		{{.name = "p1", "n1", 10}, true, POOL_WRITE_STATUS, "HasReplicas"},
		{{.name = "p1", "n1", 10, DELETED}, true, POOL_WRITE_STATUS, "1 replicas: v-"},
		{{.name = "p1", "n1", 10, DELETED}, false, POOL_WRITE_STATUS, "NoReplicas"},
		{{.name = "p1", "n1", 10, DELETED, .state = "Released"}, true, POOL_WRITE_STATUS,
			"HasReplicas"},
		{{.name = "p1", "n1", 10, DELETED, .state = "Released"}, false, POOL_RELEASE, NULL},
		{{.name = "p1", "n9", 10, DELETED}, false, POOL_RELEASE, NULL},
		{{.name = "p1", "n9", 10, DELETED}, true, POOL_MARK_UNKNOWN, "there is no node n9"},
		{{.name = "p1", "away", 10}, false, POOL_MARK_UNKNOWN, "node away is not ready"},
		{{.name = "p1", "away", 10, .state = "Unknown", .reason = "NodeNotReady"}, false,
			POOL_WRITE_STATUS, "NoReplicas"},
		{{.name = "p1", "away", 10, DELETED, .state = "Released"}, false, POOL_RELEASE,
			NULL},
		{{.name = "p1", "away", 10, DELETED, .state = "Unknown", .reason = "NodeNotReady"},
			false, POOL_WRITE_STATUS, "NoReplicas"},
	};

	(void)state;
	set_node(&world, "away", false);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct pool_plan pool_plan;

		if (cases[i].has_replica) {
			set_replica(&world, &(struct test_replica){.volume = "v", "p1", "n1", 0});
		}
		set_pool(&world, &cases[i].pool);
		if (ask_pool("p1", &pool_plan) != cases[i].action) {
			fail_msg("case %zu: %d", i, (int)pool_plan.action);
		}
		if (cases[i].text != NULL) {
			char *text = json_dumps(pool_plan.status, 0);

			if (strstr(text, cases[i].text) == NULL) {
				fail_msg("case %zu: %s", i, text);
			}
			free(text);
		}
		pool_plan_done(&pool_plan);
		forget(&world, world_set_replica, replica_name_of_slot("v", 0));
	}
}

/* ---- replicas and nodes ---- */

static void test_replicas_that_nobody_else_decides(void **state)
{
	const struct test_replica kept = {.volume = "v", "p1", "n1", 0};
	const struct test_replica deleted = {
		.volume = "v", "p1", "n1", 0, .more_metadata = DELETED};
	struct world_replica *replica;

	(void)state;
	replica = set_replica(&world, &kept);
	assert_int_equal(plan_replica(&world, replica), REPLICA_DELETE);
	set_volume(&world, &volume3);
	assert_int_equal(plan_replica(&world, replica), REPLICA_NOTHING);
	replica = set_replica(&world, &deleted);
	assert_int_equal(plan_replica(&world, replica), REPLICA_NOTHING);
	/* Its pool is deleted by somebody who gives up the node. */
	set_pool(&world, &(struct test_pool){.name = "p1", "n1", 10, DELETED});
	assert_int_equal(plan_replica(&world, replica), REPLICA_NOTHING);
	set_node(&world, "n1", false);
	assert_int_equal(plan_replica(&world, replica), REPLICA_PURGE);
	set_pool(&world, &(struct test_pool){.name = "p1", "n1", 10});
	assert_int_equal(plan_replica(&world, replica), REPLICA_NOTHING);
	forget(&world, world_set_pool, "p1");
	assert_int_equal(plan_replica(&world, replica), REPLICA_PURGE);
	replica = set_replica(&world, &kept);
	assert_int_equal(plan_replica(&world, replica), REPLICA_MARK_ORPHAN);
	/* Another volume has the name now. */
	set_replica(&world, &(struct test_replica){.volume = "v",
				    "p2",
				    "n2",
				    .name = "v-old",
				    .volume_uuid = "7d1c5bf0-0000-4c1e-9f0e-3b2a1c0d9e8f"});
	assert_int_equal(plan_replica(&world, world_replica(&world, "v-old")), REPLICA_DELETE);
	/* A volume without uuid may become its. */
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .has_no_uuid = true});
	assert_int_equal(plan_replica(&world, world_replica(&world, "v-old")), REPLICA_NOTHING);
}

static void test_nodes_with_pools_are_labelled(void **state)
{
	json_t *json;

	(void)state;
	assert_int_equal(plan_node(world_node(&world, "n1")), NODE_LABEL);
	json = parse("{'metadata': {'name': 'n1', 'labels': {'strake.io/pool-agent': 'true'}}}");
	world_set_node(&world, "n1", json);
	json_decref(json);
	assert_int_equal(plan_node(world_node(&world, "n1")), NODE_NOTHING);
	forget(&world, world_set_pool, "p1");
	assert_int_equal(plan_node(world_node(&world, "n1")), NODE_UNLABEL);
	world_set_node(&world, "n1", NULL);
	assert_null(world_node(&world, "n1"));
	set_pool(&world, &(struct test_pool){.name = "p5", "n5", 10});
	assert_int_equal(plan_node(world_node(&world, "n5")), NODE_NOTHING);
}

static void test_times(void **state)
{
	(void)state;
	assert_int_equal(world_time_parse(TEST_NOW), TEST_NOW_S);
	assert_int_equal(world_time_parse("1970-01-01T00:00:00Z"), 0);
	assert_int_equal(world_time_parse("2024-02-29T12:00:01.123456Z"), 1709208001);
	assert_int_equal(world_time_parse(""), 0);
	assert_int_equal(world_time_parse("yesterday"), 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_new_volume_is_adopted_first),
		TEST(test_what_is_missing_is_made_under_the_same_names),
		TEST(test_what_was_asked_for_and_not_answered_is_asked_for_again),
		TEST(test_a_replica_whose_deletion_was_asked_for_is_not_relied_upon),
		TEST(test_all_or_nothing),
		TEST(test_available_when_all_are_made),
		TEST(test_written_status_is_not_written_again),
		TEST(test_a_replica_without_space_is_made_elsewhere),
		TEST(test_available_is_taken_away_before_replicas_are),
		TEST(test_without_another_place_everything_stays),
		TEST(test_other_failures_are_given_time),
		TEST(test_a_replica_on_a_dead_node_is_made_elsewhere_after_a_while),
		TEST(test_what_was_attached_keeps_its_replicas),
		TEST(test_too_many_are_taken_away),
		TEST(test_the_nexus_says_how_replicas_are),
		TEST(test_out_of_sync_outlives_the_nexus),
		TEST(test_the_lineage_is_recorded),
		TEST(test_a_recovery_is_recorded_before_its_number_is_raised),
		TEST(test_fewer_voters_than_wanted_is_degraded),
		TEST(test_a_number_of_a_backup_is_raised),
		TEST(test_the_nexus_of_a_node_that_is_gone_is_forgotten),
		TEST(test_a_deleted_volume_in_use_is_kept),
		TEST(test_replicas_go_before_the_volume),
		TEST(test_nobody_waits_for_ever_for_an_erase),
		TEST(test_replicas_of_an_earlier_volume_of_the_name_are_not_its),
		TEST(test_pools),
		TEST(test_replicas_that_nobody_else_decides),
		TEST(test_nodes_with_pools_are_labelled),
		TEST(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
