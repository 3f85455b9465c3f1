/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions on Snapshots. */
#include "csi-node/plan_test.h"

#include <errno.h>

#define UUID         "00000000-0000-4000-8000-000000000009"
#define VOLUME_UUID  "7d1c5bf0-5f0a-4c1e-9f0e-3b2a1c0d9e8f"
#define REPLICA_UUID "00000000-0000-4000-8000-000000000001"
#define OTHER_UUID   "00000000-0000-4000-8000-000000000002"
#define NOW          "2026-01-02T03:04:05Z"

static struct fixture {
	json_t *json, *volume_json;
	struct snapshot_object object;
	struct volume_object volume_object;
	Strake__V1__Volume volume;
	struct snapshot_facts facts;
	struct snapshot_plan plan;
} fixture;

static void set_snapshot(const char *more_metadata, const char *status)
{
	char text[1024];
	struct err err = {0};

	(void)snprintf(text, sizeof(text),
		"{\"metadata\": {%s \"name\": \"s\", \"generation\": 2}, \"spec\": {\"volume\": "
		"\"v\", \"uuid\": \"" UUID "\"}, \"status\": {%s}}",
		more_metadata, status);
	json_decref(fixture.json);
	fixture.json = parse("%s", text);
	assert_int_equal(snapshot_object_decode(fixture.json, &fixture.object, &err), 0);
	fixture.facts.json = fixture.json;
	fixture.facts.object = &fixture.object;
}

static int setup(void **state)
{
	struct err err = {0};

	(void)state;
	memset(&fixture, 0, sizeof(fixture));
	strake__v1__volume__init(&fixture.volume);
	fixture.volume.name = text_of("v");
	fixture.volume.uuid = text_of(VOLUME_UUID);
	fixture.volume.state = text_of("Online");
	fixture.volume_json = parse(
		"{\"metadata\": {\"name\": \"v\"}, \"spec\": {\"size\": \"1Gi\", \"uuid\": "
		"\"" VOLUME_UUID "\"}, \"status\": {\"replicas\": [{\"name\": \"v-a\", \"uuid\": "
		"\"" REPLICA_UUID "\"}]}}");
	assert_int_equal(
		volume_object_decode(fixture.volume_json, &fixture.volume_object, &err), 0);
	fixture.facts.node = "n1";
	fixture.facts.volume = &fixture.volume;
	fixture.facts.volume_object = &fixture.volume_object;
	set_snapshot("", "\"node\": \"n1\", \"state\": \"Creating\"");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(fixture.plan.status);
	json_decref(fixture.volume_json);
	json_decref(fixture.json);
	return 0;
}

static enum snapshot_action ask(void)
{
	json_decref(fixture.plan.status);
	plan_snapshot(&fixture.facts, &fixture.plan);
	return fixture.plan.action;
}

static const char *ready(const json_t *status, const char *field)
{
	return kube_text(json_array_get(kube_at(status, "conditions"), 0), field);
}

/* It is said, and once: the server then holds it. */
static void expect_said(const char *state, const char *reason, const char *message)
{
	assert_int_equal(ask(), SNAPSHOT_WRITE_STATUS);
	assert_string_equal(kube_text(fixture.plan.status, "state"), state);
	assert_true(json_is_false(kube_at(fixture.plan.status, "readyToUse")));
	assert_string_equal(ready(fixture.plan.status, "type"), "Ready");
	assert_string_equal(ready(fixture.plan.status, "reason"), reason);
	assert_non_null(strstr(ready(fixture.plan.status, "message"), message));
	assert_int_equal(
		json_object_update(json_object_get(fixture.json, "status"), fixture.plan.status),
		0);
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

static void fail_with(int code, const char *text)
{
	fixture.facts.failure.code = code;
	(void)snprintf(fixture.facts.failure.text, sizeof(fixture.facts.failure.text), "%s", text);
}

static void test_the_nexus_is_asked_when_it_serves_the_volume(void **state)
{
	(void)state;
	assert_int_equal(ask(), SNAPSHOT_ASK);
	fixture.volume.state = text_of("Degraded");
	assert_int_equal(ask(), SNAPSHOT_ASK);
	fixture.volume.state = text_of("Stalled");
	fixture.volume.reason = text_of("needs r2");
	expect_said("Creating", "NotOpen", "volume v is Stalled on node n1: needs r2");
	fixture.facts.volume = NULL;
	expect_said("Creating", "NotOpen", "volume v is not open yet on node n1");
}

static void test_a_volume_of_the_name_that_is_another_one_is_not_snapshot(void **state)
{
	(void)state;
	fixture.volume.uuid = text_of(OTHER_UUID);
	expect_said("Creating", "NotOpen", "volume v is not open yet on node n1");
}

static void test_a_nexus_that_is_away_is_said(void **state)
{
	(void)state;
	fixture.facts.nexus_failure = "nexus: nobody listens";
	expect_said("Creating", "NexusUnreachable", "nexus: nobody listens");
}

static void test_a_pool_without_snapshots_ends_it_with_the_words_of_the_nexus(void **state)
{
	(void)state;
	fail_with(-EOPNOTSUPP, "volume v: a snapshot needs pool format 1: replica r of pool p");
	expect_said("Failed", "NotSupported",
		"volume v: a snapshot needs pool format 1: replica r of pool p");
	/* Nor when the failure is forgotten. */
	set_snapshot("", "\"node\": \"n1\", \"state\": \"Failed\"");
	fixture.facts.failure.code = 0;
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

static void test_what_may_be_over_soon_is_said_and_asked_again_later(void **state)
{
	(void)state;
	fail_with(-EAGAIN, "volume v: its writes did not end in time: ask again");
	expect_said("Creating", "Waiting", "ask again");
	fixture.facts.failure.code = 0;
	assert_int_equal(ask(), SNAPSHOT_ASK);
}

static void test_what_is_over_deleted_or_another_nodes_is_left_alone(void **state)
{
	(void)state;
	set_snapshot("", "\"node\": \"n1\", \"state\": \"Ready\", \"readyToUse\": true");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	set_snapshot("\"deletionTimestamp\": \"" NOW "\",", "\"node\": \"n1\"");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	set_snapshot("", "\"node\": \"n2\", \"state\": \"Creating\"");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
	set_snapshot("", "");
	assert_int_equal(ask(), SNAPSHOT_NOTHING);
}

static void test_what_was_made_says_of_what_and_where(void **state)
{
	char *replicas[] = {text_of(REPLICA_UUID), text_of(OTHER_UUID)};
	Strake__V1__Snapshot made = STRAKE__V1__SNAPSHOT__INIT;
	const json_t *list;

	(void)state;
	made.number = 3;
	made.size_bytes = UINT64_C(1) << 30;
	made.ready = true;
	made.replicas = replicas;
	made.n_replicas = 2;

	json_t *status = plan_snapshot_made(&fixture.facts, &made, NOW);

	assert_string_equal(kube_text(status, "state"), "Ready");
	assert_true(kube_bool(status, "readyToUse"));
	assert_string_equal(ready(status, "status"), "True");
	/* There, so that what was said before does not stay. */
	assert_true(json_is_string(kube_at(status, "reason")));
	assert_string_equal(kube_text(status, "size"), "1Gi");
	assert_string_equal(kube_text(status, "creationTime"), NOW);
	assert_string_equal(kube_text(status, "volumeUUID"), VOLUME_UUID);
	list = kube_at(status, "replicas");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(kube_text(json_array_get(list, 0), "name"), "v-a");
	assert_string_equal(kube_text(json_array_get(list, 0), "uuid"), REPLICA_UUID);
	assert_int_equal(kube_number(json_array_get(list, 0), "number", 0), 3);
	assert_null(kube_at(json_array_get(list, 1), "name"));
	json_decref(status);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_nexus_is_asked_when_it_serves_the_volume),
		TEST(test_a_volume_of_the_name_that_is_another_one_is_not_snapshot),
		TEST(test_a_nexus_that_is_away_is_said),
		TEST(test_a_pool_without_snapshots_ends_it_with_the_words_of_the_nexus),
		TEST(test_what_may_be_over_soon_is_said_and_asked_again_later),
		TEST(test_what_is_over_deleted_or_another_nodes_is_left_alone),
		TEST(test_what_was_made_says_of_what_and_where),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
