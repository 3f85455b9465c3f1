/* SPDX-License-Identifier: Apache-2.0 */
/* What is next for a volume that is attached to this node, or was. */
#include "csi-node/plan_test.h"

#include <errno.h>

#define VOLUME_UUID  "7d1c5bf0-5f0a-4c1e-9f0e-3b2a1c0d9e8f"
#define REPLICA_UUID "00000000-0000-4000-8000-000000000001"
#define OTHER_UUID   "00000000-0000-4000-8000-000000000002"

struct volume_fixture {
	json_t *json;
	struct volume_object object;
	Strake__V1__Volume volume;
	Strake__V1__VolumeReplica replica, *replicas[2];
	struct volume_facts facts;
	struct volume_plan plan;
};

static struct volume_plan *replan_volume(struct volume_fixture *fixture)
{
	struct err err = {0};

	json_decref(fixture->plan.nexus);
	fixture->facts.json = fixture->json;
	fixture->facts.object = fixture->json == NULL ? NULL : &fixture->object;
	if (fixture->json != NULL &&
		volume_object_decode(fixture->json, &fixture->object, &err) < 0) {
		fail_msg("%s", err.text);
	}
	plan_volume(&fixture->facts, &fixture->plan);
	return &fixture->plan;
}

static void setup_volume(struct volume_fixture *fixture, const char *node)
{
	memset(fixture, 0, sizeof(*fixture));
	strake__v1__volume__init(&fixture->volume);
	strake__v1__volume_replica__init(&fixture->replica);
	fixture->volume.name = text_of("v");
	fixture->volume.uuid = text_of(VOLUME_UUID);
	fixture->volume.state = text_of("Online");
	fixture->volume.device = text_of("/dev/loop3");
	fixture->volume.epoch = text_of("4.1.77");
	fixture->volume.generation = 2;
	fixture->volume.lineage = UINT64_C(0xfedcba9876543210);
	fixture->volume.size_bytes = UINT64_C(1) << 30;
	fixture->replica.uuid = text_of(REPLICA_UUID);
	fixture->replica.state = text_of("Rebuilding");
	fixture->replica.rebuild_total_bytes = 100;
	fixture->replica.rebuild_done_bytes = 10;
	fixture->replicas[0] = &fixture->replica;
	fixture->volume.replicas = fixture->replicas;
	fixture->volume.n_replicas = 1;
	fixture->facts.node = "n";
	fixture->facts.time_now = "2026-01-02T03:04:05Z";
	fixture->facts.volume = &fixture->volume;
	fixture->facts.clock = (struct plan_clock){.now_ms = 1000000, .may_write_idly = true};
	fixture->json =
		parse("{'metadata': {'name': 'v', 'generation': 1}, 'spec': {'size': '1Gi', "
		      "'uuid': '" VOLUME_UUID
		      "'}, 'status': {'attachment': {'number': 4, 'node': '%s'}}}",
			node);
}

static void teardown_volume(struct volume_fixture *fixture)
{
	json_decref(fixture->plan.nexus);
	json_decref(fixture->json);
}

static void write_nexus(struct volume_fixture *fixture)
{
	(void)json_object_set(
		json_object_get(fixture->json, "status"), "nexus", fixture->plan.nexus);
}

static void test_what_the_nexus_says_is_written_once(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_false(fixture.plan.is_idle);
	assert_string_equal(kube_text(fixture.plan.nexus, "node"), "n");
	assert_string_equal(kube_text(fixture.plan.nexus, "device"), "/dev/loop3");
	assert_string_equal(kube_text(fixture.plan.nexus, "lineage"), "fedcba9876543210");
	assert_string_equal(kube_text(fixture.plan.nexus, "since"), "2026-01-02T03:04:05Z");
	write_nexus(&fixture);
	fixture.facts.time_now = "2027-01-01T00:00:00Z";
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	fixture.volume.state = text_of("Degraded");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	/* The same opening. */
	assert_string_equal(kube_text(fixture.plan.nexus, "since"), "2026-01-02T03:04:05Z");
	fixture.volume.epoch = text_of("4.2.78");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_string_equal(kube_text(fixture.plan.nexus, "since"), "2027-01-01T00:00:00Z");
	teardown_volume(&fixture);
}

static void test_progress_is_written_now_and_then(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	write_nexus(&fixture);
	fixture.facts.clock.written_ms = fixture.facts.clock.now_ms;
	fixture.replica.rebuild_done_bytes = 20;
	fixture.replica.rebuild_seconds_left = 300;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	fixture.facts.clock.now_ms += PLAN_PROGRESS_MS;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_true(fixture.plan.is_idle);
	assert_int_equal(
		kube_number(json_array_get(json_object_get(fixture.plan.nexus, "replicas"), 0),
			"secondsLeft", 0),
		300);
	fixture.facts.clock.may_write_idly = false;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	fixture.replica.state = text_of("Online");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_false(fixture.plan.is_idle);
	teardown_volume(&fixture);
}

static void test_a_volume_that_is_not_attached_here_is_lost(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "other");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	fixture.volume.state = text_of("Closed");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	teardown_volume(&fixture);
	/* Also one that is not there at all, and another one of the same name. */
	setup_volume(&fixture, "n");
	json_decref(fixture.json);
	fixture.json = NULL;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	teardown_volume(&fixture);
	setup_volume(&fixture, "n");
	fixture.volume.uuid = text_of(OTHER_UUID);
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	teardown_volume(&fixture);
}

/* As after `strake volume recover` here: csi-controller raises the number of the attachment. */
static void test_a_record_that_is_ahead_is_said(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	fixture.volume.state = text_of("Closed");
	fixture.volume.attach = 9;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_string_equal(kube_text(fixture.plan.nexus, "state"), "Superseded");
	assert_int_equal(kube_number(fixture.plan.nexus, "supersededBy", 0), 9);
	write_nexus(&fixture);
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	/* When it has been raised it is not said any more. */
	fixture.volume.attach = 4;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_REMOVE_NEXUS);
	teardown_volume(&fixture);
}

/* Until status.record says so: whoever opens the volume next is told it from there. */
static void test_a_recovery_is_said(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	fixture.volume.state = text_of("Closed");
	fixture.volume.attach = 4;
	fixture.volume.lineage = 0xab;
	fixture.volume.recovered = true;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_string_equal(kube_text(fixture.plan.nexus, "record"), "4.0/0 00000000000000ab");
	assert_string_equal(kube_text(fixture.plan.nexus, "state"), "Superseded");
	write_nexus(&fixture);
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	(void)json_object_set_new(json_object_get(fixture.json, "status"), "record",
		json_string("4.0/0 00000000000000ab"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_REMOVE_NEXUS);
	teardown_volume(&fixture);
}

/* Another node's number is higher: csi-controller will not take it any more. */
static void test_a_recovery_that_came_too_late_is_not_said(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	fixture.volume.state = text_of("Closed");
	fixture.volume.attach = 4;
	fixture.volume.lineage = 0xab;
	fixture.volume.recovered = true;
	(void)json_object_set_new(json_object_get(fixture.json, "status"), "record",
		json_string("7.1/5 00000000000000cd"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	assert_false(plan_recovery_is_news(&fixture.object, &fixture.volume));
	(void)json_object_set_new(json_object_get(fixture.json, "status"), "record",
		json_string("3.1/5 00000000000000cd"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_true(plan_recovery_is_news(&fixture.object, &fixture.volume));
	teardown_volume(&fixture);
}

/* Taken from this node by force: nobody else knows what was decided here. */
static void test_a_recovery_that_is_not_said_yet_is_kept(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "other");
	fixture.volume.state = text_of("Closed");
	fixture.volume.attach = 4;
	fixture.volume.lineage = 0xab;
	fixture.volume.recovered = true;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	assert_true(fixture.plan.is_kept);
	(void)json_object_set_new(json_object_get(fixture.json, "status"), "nexus",
		parse("{'node': 'n', 'state': 'Superseded'}"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_REMOVE_NEXUS);
	/* Said, or too late. */
	(void)json_object_set_new(json_object_get(fixture.json, "status"), "record",
		json_string("4.0/0 00000000000000ab"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	(void)json_object_set_new(json_object_get(fixture.json, "status"), "record",
		json_string("7.1/5 00000000000000cd"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	(void)json_object_del(json_object_get(fixture.json, "status"), "record");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_REMOVE_NEXUS);
	/* Nobody opens it again; another one of the name. */
	(void)json_object_set_new(json_object_get(fixture.json, "metadata"), "deletionTimestamp",
		json_string("2026-01-02T03:04:05Z"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	(void)json_object_del(json_object_get(fixture.json, "metadata"), "deletionTimestamp");
	fixture.volume.uuid = text_of(OTHER_UUID);
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_LOST);
	teardown_volume(&fixture);
}

static void test_only_this_nodes_word_is_taken_back(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	write_nexus(&fixture);
	fixture.facts.volume = NULL;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_REMOVE_NEXUS);
	fixture.facts.node = "n2";
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	teardown_volume(&fixture);
}

static void test_a_nexus_that_does_not_answer_takes_nothing_away(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	write_nexus(&fixture);
	fixture.facts.nexus_failure = "connection refused";
	fixture.facts.volume = NULL;
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_WRITE_NEXUS);
	assert_string_equal(kube_text(fixture.plan.nexus, "state"), "Unknown");
	assert_string_equal(kube_text(fixture.plan.nexus, "device"), "/dev/loop3");
	write_nexus(&fixture);
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	teardown_volume(&fixture);
	setup_volume(&fixture, "other");
	fixture.facts.nexus_failure = "connection refused";
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_NOTHING);
	teardown_volume(&fixture);
}

/* The volume has voters REPLICA_UUID (in sync) and, with `second`, OTHER_UUID; status.replicas is
 * `members`; what the nexus says is written already. */
static enum volume_action plan_with_members(
	struct volume_fixture *fixture, Strake__V1__VolumeReplica *second, const char *members)
{
	json_t *status = json_object_get(fixture->json, "status");

	fixture->replica.state = text_of("Online");
	fixture->replica.membership = text_of("Voter");
	if (second != NULL) {
		fixture->replicas[1] = second;
		fixture->volume.n_replicas = 2;
	}
	(void)json_object_set_new(status, "replicas", parse("%s", members));
	(void)replan_volume(fixture);
	if (fixture->plan.action == VOLUME_WRITE_NEXUS) {
		write_nexus(fixture);
		(void)replan_volume(fixture);
	}
	return fixture->plan.action;
}

#define STAYS(uuid)  "{'name': 'a', 'uuid': '" uuid "', 'kind': 'Data', 'state': 'Online'}"
#define LEAVES(uuid) "{'name': 'b', 'uuid': '" uuid "', 'kind': 'Data', 'leaving': true}"

static void test_who_shall_come_comes_first(void **state)
{
	struct volume_fixture fixture;
	Strake__V1__VolumeReplica second;
	struct uuid uuid;

	(void)state;
	setup_volume(&fixture, "n");
	strake__v1__volume_replica__init(&second);
	second.uuid = text_of(OTHER_UUID);
	second.state = text_of("OutOfSync");
	second.membership = text_of("None");
	assert_int_equal(
		plan_with_members(&fixture, NULL, "[" STAYS(REPLICA_UUID) "]"), VOLUME_NOTHING);
	assert_int_equal(plan_with_members(&fixture, NULL,
				 "[" STAYS(REPLICA_UUID) ", " STAYS(OTHER_UUID) "]"),
		VOLUME_ADD_VOTER);
	assert_int_equal(uuid_parse(OTHER_UUID, &uuid), 0);
	assert_true(uuid_equal(&fixture.plan.replica, &uuid));
	/* Known, and without a vote. */
	assert_int_equal(plan_with_members(&fixture, &second,
				 "[" STAYS(REPLICA_UUID) ", " STAYS(OTHER_UUID) "]"),
		VOLUME_ADD_VOTER);
	second.membership = text_of("Adding");
	assert_int_equal(plan_with_members(&fixture, &second,
				 "[" STAYS(REPLICA_UUID) ", " STAYS(OTHER_UUID) "]"),
		VOLUME_NOTHING);
	/* Not while the nexus does not know who has a vote, nor soon after a failure. */
	second.membership = text_of("None");
	fixture.volume.state = text_of("Opening");
	assert_int_equal(plan_with_members(&fixture, &second,
				 "[" STAYS(REPLICA_UUID) ", " STAYS(OTHER_UUID) "]"),
		VOLUME_NOTHING);
	fixture.volume.state = text_of("Online");
	fixture.facts.failure.code = -EBUSY;
	assert_int_equal(plan_with_members(&fixture, &second,
				 "[" STAYS(REPLICA_UUID) ", " STAYS(OTHER_UUID) "]"),
		VOLUME_NOTHING);
	/* What an earlier csi-controller wrote says nothing. */
	fixture.facts.failure.code = 0;
	assert_int_equal(plan_with_members(&fixture, &second, "[{'name': 'a'}, {'name': 'b'}]"),
		VOLUME_NOTHING);
	teardown_volume(&fixture);
}

static void test_who_shall_go_goes_when_the_others_are_in_sync(void **state)
{
	struct volume_fixture fixture;
	Strake__V1__VolumeReplica second;

	(void)state;
	setup_volume(&fixture, "n");
	strake__v1__volume_replica__init(&second);
	second.uuid = text_of(OTHER_UUID);
	second.state = text_of("Online");
	second.membership = text_of("Voter");
	assert_int_equal(plan_with_members(&fixture, &second,
				 "[" STAYS(REPLICA_UUID) ", " LEAVES(OTHER_UUID) "]"),
		VOLUME_REMOVE_VOTER);
	assert_true(fixture.plan.is_known);
	assert_null(kube_at(fixture.json, "status.nexus.removed"));
	/* One of which there is no object any more: the actor looks twice. */
	assert_int_equal(plan_with_members(&fixture, &second, "[" STAYS(REPLICA_UUID) "]"),
		VOLUME_REMOVE_VOTER);
	assert_false(fixture.plan.is_known);
	fixture.volume.replicas[0]->state = text_of("Rebuilding");
	second.membership = text_of("Removing");
	assert_int_equal(plan_with_members(&fixture, &second,
				 "[" STAYS(REPLICA_UUID) ", " LEAVES(OTHER_UUID) "]"),
		VOLUME_NOTHING);
	/* It has no vote any more: that is what csi-controller waits for. */
	second.membership = text_of("None");
	assert_int_equal(plan_with_members(&fixture, &second,
				 "[" STAYS(REPLICA_UUID) ", " LEAVES(OTHER_UUID) "]"),
		VOLUME_NOTHING);
	assert_int_equal(json_array_size(kube_at(fixture.json, "status.nexus.removed")), 1);
	assert_int_equal(json_array_size(kube_at(fixture.json, "status.nexus.replicas")), 1);
	teardown_volume(&fixture);
}

static void test_a_volume_grows_with_its_spec(void **state)
{
	struct volume_fixture fixture;

	(void)state;
	setup_volume(&fixture, "n");
	assert_int_equal(
		plan_with_members(&fixture, NULL, "[" STAYS(REPLICA_UUID) "]"), VOLUME_NOTHING);
	assert_string_equal(kube_text(kube_at(fixture.json, "status.nexus"), "size"), "1Gi");
	(void)json_object_set_new(
		json_object_get(fixture.json, "spec"), "size", json_string("2Gi"));
	assert_int_equal(replan_volume(&fixture)->action, VOLUME_RESIZE);
	/* Not before it serves. */
	fixture.volume.state = text_of("Opening");
	assert_int_equal(
		plan_with_members(&fixture, NULL, "[" STAYS(REPLICA_UUID) "]"), VOLUME_NOTHING);
	fixture.volume.state = text_of("Degraded");
	fixture.volume.size_bytes = UINT64_C(2) << 30;
	assert_int_equal(
		plan_with_members(&fixture, NULL, "[" STAYS(REPLICA_UUID) "]"), VOLUME_NOTHING);
	assert_string_equal(kube_text(kube_at(fixture.json, "status.nexus"), "size"), "2Gi");
	teardown_volume(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_nexus_says_is_written_once),
		cmocka_unit_test(test_progress_is_written_now_and_then),
		cmocka_unit_test(test_a_volume_that_is_not_attached_here_is_lost),
		cmocka_unit_test(test_a_record_that_is_ahead_is_said),
		cmocka_unit_test(test_a_recovery_is_said),
		cmocka_unit_test(test_a_recovery_that_came_too_late_is_not_said),
		cmocka_unit_test(test_a_recovery_that_is_not_said_yet_is_kept),
		cmocka_unit_test(test_only_this_nodes_word_is_taken_back),
		cmocka_unit_test(test_a_nexus_that_does_not_answer_takes_nothing_away),
		cmocka_unit_test(test_who_shall_come_comes_first),
		cmocka_unit_test(test_who_shall_go_goes_when_the_others_are_in_sync),
		cmocka_unit_test(test_a_volume_grows_with_its_spec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
