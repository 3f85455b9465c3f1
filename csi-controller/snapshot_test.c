/* SPDX-License-Identifier: Apache-2.0 */
/* One step of a Snapshot from what is known. */
#include "base/bytes.h"
#include "csi-controller/plan_snapshot.h"
#include "csi-controller/world_test.h"

#include <errno.h>

#define DELETED    "'deletionTimestamp': '" TEST_NOW "',"
#define HELD       "'finalizers': ['strake.io/snapshot'],"
#define OTHER_UUID "00000000-0000-4000-8000-000000000009"
#define ATTACHED   "{'attachment': {'number': 1, 'node': 'n1'}}"
#define READY      "'state': 'Ready', 'readyToUse': true, 'volumeUUID': '" TEST_UUID "'"

static struct world world;
static struct snapshot_plan plan;

static int setup(void **state)
{
	(void)state;
	world_init(&world, 100);
	set_node(&world, "n1", true);
	set_node(&world, "n2", true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	snapshot_plan_done(&plan);
	world_done(&world);
	return 0;
}

static void set_json(const json_t *json)
{
	struct err err = {0};

	if (world_set_snapshot(&world, "s", json, &err) < 0) {
		fail_msg("%s", err.text);
	}
}

static void set_snapshot(const char *more_metadata, const char *more_spec, const char *status)
{
	json_t *json = parse("{'metadata': {%s 'name': 's', 'generation': 2, 'resourceVersion': "
			     "'5'}, 'spec': {%s 'volume': 'v'}, 'status': {%s}}",
		more_metadata, more_spec, status);

	set_json(json);
	json_decref(json);
}

static void set_attached_volume(const char *status)
{
	set_volume(&world, &(struct test_volume){.name = "v", 1, 3, .status = status});
}

static enum snapshot_action ask(void)
{
	snapshot_plan_done(&plan);
	plan_snapshot(&world, world_snapshot(&world, "s"), &plan);
	return plan.action;
}

#define UUID "'uuid': '" OTHER_UUID "',"

static const char *condition(const char *type, const char *field)
{
	return condition_of(plan.status, type, field);
}

/* What the server holds when the patch was taken. */
static void take_patch(void)
{
	json_t *json = json_deep_copy(world_snapshot(&world, "s")->json);
	json_t *status = json_object_get(json, "status"), *value;
	const char *key;

	json_object_foreach(plan.status, key, value)
	{
		if (json_is_null(value)) {
			(void)json_object_del(status, key);
		} else {
			(void)json_object_set(status, key, value);
		}
	}
	set_json(json);
	json_decref(json);
}

/* It is said once, and Pending; nobody is to take it. */
static void expect_pending(const char *reason, const char *message)
{
	assert_int_equal(ask(), SNAPSHOT_WRITE_STATUS);
	assert_string_equal(kube_text(plan.status, "state"), "Pending");
	assert_true(json_is_null(kube_at(plan.status, "node")));
	assert_true(json_is_false(kube_at(plan.status, "readyToUse")));
	assert_string_equal(condition("Ready", "status"), "False");
	assert_string_equal(condition("Ready", "reason"), reason);
	assert_non_null(strstr(condition("Ready", "message"), message));
	assert_string_equal(kube_text(plan.status, "reason"), condition("Ready", "message"));
	take_patch();
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

static void test_a_new_snapshot_gets_its_uuid_first(void **state)
{
	(void)state;
	set_attached_volume(ATTACHED);
	set_snapshot("", "", "");
	assert_int_equal(ask(), SNAPSHOT_FILL);
}

static void test_who_has_the_volume_takes_it(void **state)
{
	(void)state;
	set_attached_volume(ATTACHED);
	set_snapshot("", UUID, "");
	assert_int_equal(ask(), SNAPSHOT_WRITE_STATUS);
	assert_string_equal(kube_text(plan.status, "node"), "n1");
	assert_string_equal(kube_text(plan.status, "state"), "Creating");
	take_patch();
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	/* What csi-node says of it stays. */
	set_snapshot("", UUID, "'node': 'n1', 'state': 'Creating', 'reason': 'volume v is busy'");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	set_attached_volume("{'attachment': {'number': 2, 'node': 'n2'}}");
	assert_int_equal(ask(), SNAPSHOT_WRITE_STATUS);
	assert_string_equal(kube_text(plan.status, "node"), "n2");
}

static void test_that_nobody_can_take_it_is_said(void **state)
{
	(void)state;
	set_snapshot("", UUID, "'node': 'n1', 'state': 'Creating'");
	expect_pending("VolumeNotFound", "there is no Volume v");
	set_attached_volume("{}");
	expect_pending("VolumeDetached", "Volume v is attached to no node");
	set_attached_volume(ATTACHED);
	set_node(&world, "n1", false);
	expect_pending("NodeNotReady", "node n1, which is not ready");
	forget(&world, world_set_volume, "v");
	expect_pending("VolumeNotFound", "there is no Volume v");
}

static void test_one_that_was_made_is_held_and_leaves_its_node(void **state)
{
	(void)state;
	set_attached_volume(ATTACHED);
	set_snapshot("", UUID, "'node': 'n1', " READY);
	assert_int_equal(ask(), SNAPSHOT_HOLD);
	set_snapshot(HELD, UUID, "'node': 'n1', " READY);
	assert_int_equal(ask(), SNAPSHOT_WRITE_STATUS);
	assert_int_equal(json_object_size(plan.status), 1);
	assert_true(json_is_null(kube_at(plan.status, "node")));
	take_patch();
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	set_attached_volume("{}");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

static void test_one_that_failed_is_not_tried_again(void **state)
{
	(void)state;
	set_attached_volume(ATTACHED);
	set_snapshot("", UUID, "'node': 'n1', 'state': 'Failed', 'reason': 'no'");
	assert_int_equal(ask(), SNAPSHOT_WRITE_STATUS);
	take_patch();
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	set_attached_volume("{'attachment': {'number': 2, 'node': 'n2'}}");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	forget(&world, world_set_volume, "v");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

static void test_a_deleted_one_stays_as_long_as_its_volume_has_it(void **state)
{
	(void)state;
	set_attached_volume(ATTACHED);
	set_snapshot(DELETED HELD, UUID, READY);
	assert_int_equal(ask(), SNAPSHOT_WRITE_STATUS);
	assert_int_equal(json_object_size(plan.status), 1);
	assert_string_equal(condition("Deletable", "status"), "False");
	assert_non_null(strstr(condition("Deletable", "message"), "goes with its Volume v"));
	take_patch();
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	forget(&world, world_set_volume, "v");
	assert_int_equal(ask(), SNAPSHOT_LOSE);
	take_patch();
	assert_int_equal(ask(), SNAPSHOT_RELEASE);
}

static void test_what_was_not_made_or_is_lost_is_not_held(void **state)
{
	(void)state;
	set_attached_volume(ATTACHED);
	set_snapshot(DELETED HELD, "", "");
	assert_int_equal(ask(), SNAPSHOT_RELEASE);
	/* Once csi-controller is uninstalled nobody would do it. */
	set_snapshot(HELD, UUID, "'state': 'Failed', 'readyToUse': false");
	assert_int_equal(ask(), SNAPSHOT_RELEASE);
	/* Another one's finalizer. */
	set_snapshot(DELETED "'finalizers': ['a/b'],", UUID, "'state': 'Failed'");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

static void test_it_is_gone_with_its_volume_also_when_there_is_another_of_the_name(void **state)
{
	(void)state;
	set_snapshot(
		HELD, UUID, "'state': 'Ready', 'readyToUse': true, 'volumeUUID': '" OTHER_UUID "'");
	set_attached_volume("{}");
	assert_int_equal(ask(), SNAPSHOT_LOSE);
	assert_true(json_is_false(kube_at(plan.status, "readyToUse")));
	assert_string_equal(kube_text(plan.status, "state"), "Failed");
	assert_string_equal(condition("Ready", "reason"), "VolumeGone");
	/* One that cannot be read is there. */
	struct err err = {0};
	json_t *json = parse("{'metadata': {'name': 'v'}, 'spec': {}}");

	assert_int_equal(world_set_volume(&world, "v", json, &err), -EINVAL);
	json_decref(json);
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_new_snapshot_gets_its_uuid_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_has_the_volume_takes_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_that_nobody_can_take_it_is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_one_that_was_made_is_held_and_leaves_its_node, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_one_that_failed_is_not_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_deleted_one_stays_as_long_as_its_volume_has_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_what_was_not_made_or_is_lost_is_not_held, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_it_is_gone_with_its_volume_also_when_there_is_another_of_the_name,
			setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
