/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions on Pools and Replicas; of Volumes: plan_volume_test.c. */
#include "csi-node/plan_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VOLUME_UUID  "7d1c5bf0-5f0a-4c1e-9f0e-3b2a1c0d9e8f"
#define REPLICA_UUID "00000000-0000-4000-8000-000000000001"
#define OTHER_UUID   "00000000-0000-4000-8000-000000000002"
#define POOL_UUID    "00000000-0000-4000-8000-000000000003"
#define GIB          (UINT64_C(1) << 30)
#define MIB          (UINT64_C(1) << 20)
#define DELETED      "'deletionTimestamp': '2023-01-01T00:00:00Z',"

/* What the server holds after the status was written. */
static void write_status(json_t *object, const json_t *status)
{
	json_t *copy = json_deep_copy(status);

	assert_int_equal(json_object_update(json_object_get(object, "status"), copy), 0);
	json_decref(copy);
}

static const char *condition_reason(const json_t *status, const char *type)
{
	const json_t *list = kube_at(status, "conditions");

	for (size_t i = 0; i < json_array_size(list); i++) {
		if (strcmp(kube_text(json_array_get(list, i), "type"), type) == 0) {
			return kube_text(json_array_get(list, i), "reason");
		}
	}
	return "";
}

/* ---- pools ---- */

struct pool_fixture {
	json_t *json;
	struct pool_object object;
	Strake__V1__Agent agent;
	Strake__V1__Pool pool;
	struct pool_facts facts;
	struct pool_plan plan;
};

static struct pool_plan *replan_pool(struct pool_fixture *fixture)
{
	struct err err = {0};

	if (pool_object_decode(fixture->json, &fixture->object, &err) < 0) {
		fail_msg("%s", err.text);
	}
	json_decref(fixture->plan.status);
	fixture->facts.json = fixture->json;
	fixture->facts.object = &fixture->object;
	plan_pool(&fixture->facts, &fixture->plan);
	return &fixture->plan;
}

static void setup_pool(struct pool_fixture *fixture, const char *more_metadata,
	const char *more_spec, const char *status)
{
	memset(fixture, 0, sizeof(*fixture));
	strake__v1__agent__init(&fixture->agent);
	strake__v1__pool__init(&fixture->pool);
	fixture->agent.uuid = text_of(OTHER_UUID);
	fixture->agent.address = text_of("10.0.0.1:4430");
	fixture->pool.name = text_of("p");
	fixture->pool.uuid = text_of(POOL_UUID);
	fixture->pool.state = text_of("Online");
	fixture->pool.capacity_bytes = 10 * GIB;
	fixture->facts.agent = &fixture->agent;
	fixture->facts.sealing_key = "the public key";
	fixture->facts.clock = (struct plan_clock){.now_ms = 1000000, .may_write_idly = true};
	fixture->json = parse("{'metadata': {%s 'name': 'p', 'generation': 3}, 'spec': {%s 'node': "
			      "'n', 'disks': ['file:///x?size=10Gi']}, 'status': %s}",
		more_metadata, more_spec, status);
}

static void teardown_pool(struct pool_fixture *fixture)
{
	json_decref(fixture->plan.status);
	json_decref(fixture->json);
}

static void test_a_pool_that_the_agent_lacks_is_created(void **state)
{
	struct pool_fixture fixture;

	(void)state;
	setup_pool(&fixture, "", "'wipe': true,", "{}");
	assert_int_equal(replan_pool(&fixture)->action, POOL_CREATE);
	assert_int_equal(fixture.plan.size_bytes, 10 * GIB);
	assert_true(fixture.plan.wipe);
	teardown_pool(&fixture);
}

static void test_a_pool_that_was_there_is_never_wiped_or_made_anew(void **state)
{
	struct pool_fixture fixture;

	(void)state;
	setup_pool(&fixture, "", "'wipe': true,", "{'uuid': '" POOL_UUID "'}");
	assert_int_equal(replan_pool(&fixture)->action, POOL_CREATE);
	assert_int_equal(fixture.plan.size_bytes, 0);
	assert_false(fixture.plan.wipe);
	teardown_pool(&fixture);
}

static void test_a_failed_creation_is_said_and_not_tried_at_once(void **state)
{
	static const struct {
		int code;
		const char *reason;
	} cases[] = {{-ENOENT, "DiskMissing"}, {-ENODEV, "DiskMissing"}, {-EEXIST, "DiskInUse"},
		{-EBUSY, "DiskInUse"}, {-EIO, "CreateFailed"}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pool_fixture fixture;

		setup_pool(&fixture, "", "", "{}");
		fixture.facts.failure = (struct plan_failure){cases[i].code, "/dev/sdb: why"};
		assert_int_equal(replan_pool(&fixture)->action, POOL_WRITE_STATUS);
		assert_string_equal(kube_text(fixture.plan.status, "reason"), "/dev/sdb: why");
		assert_string_equal(
			condition_reason(fixture.plan.status, "Ready"), cases[i].reason);
		write_status(fixture.json, fixture.plan.status);
		assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
		teardown_pool(&fixture);
	}
}

static void test_an_online_pool_is_described_once(void **state)
{
	struct pool_fixture fixture;
	json_t *conditions;

	(void)state;
	setup_pool(&fixture, "", "", "{}");
	fixture.facts.pool = &fixture.pool;
	fixture.facts.reserved_bytes = 3 * GIB;
	fixture.pool.replicas = 2;
	fixture.pool.used_bytes = GIB;
	assert_int_equal(replan_pool(&fixture)->action, POOL_WRITE_STATUS);
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Online");
	assert_string_equal(kube_text(fixture.plan.status, "uuid"), POOL_UUID);
	assert_string_equal(kube_text(fixture.plan.status, "address"), "10.0.0.1:4430");
	assert_string_equal(kube_text(fixture.plan.status, "sealingKey"), "the public key");
	assert_string_equal(kube_text(fixture.plan.status, "capacity"), "10Gi");
	assert_string_equal(kube_text(fixture.plan.status, "used"), "1Gi");
	assert_string_equal(kube_text(fixture.plan.status, "reserved"), "3Gi");
	assert_int_equal(kube_number(fixture.plan.status, "replicas", 0), 2);
	assert_int_equal(kube_number(fixture.plan.status, "observedGeneration", 0), 3);
	write_status(fixture.json, fixture.plan.status);
	assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
	/* csi-controller's condition beside ours changes nothing. */
	conditions = json_object_get(json_object_get(fixture.json, "status"), "conditions");
	(void)json_array_append_new(conditions, parse("{'type': 'Deletable', 'status': 'True'}"));
	assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
	teardown_pool(&fixture);
}

static void test_used_space_is_written_when_it_moved_or_after_a_while(void **state)
{
	struct pool_fixture fixture;

	(void)state;
	setup_pool(&fixture, "", "", "{}");
	fixture.facts.pool = &fixture.pool;
	fixture.pool.used_bytes = GIB;
	write_status(fixture.json, replan_pool(&fixture)->status);
	fixture.facts.clock.written_ms = fixture.facts.clock.now_ms;
	fixture.pool.used_bytes += MIB;
	assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
	fixture.facts.clock.now_ms += PLAN_USED_MS;
	assert_int_equal(replan_pool(&fixture)->action, POOL_WRITE_STATUS);
	assert_true(fixture.plan.is_idle);
	fixture.facts.clock.now_ms -= 1;
	assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
	fixture.pool.used_bytes += 200 * MIB;
	assert_int_equal(replan_pool(&fixture)->action, POOL_WRITE_STATUS);
	fixture.facts.clock.may_write_idly = false;
	assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
	/* What is urgent is not held up. */
	fixture.pool.state = text_of("Faulted");
	assert_int_equal(replan_pool(&fixture)->action, POOL_WRITE_STATUS);
	assert_false(fixture.plan.is_idle);
	teardown_pool(&fixture);
}

static void test_an_agent_that_is_away_makes_the_pool_unknown_and_keeps_what_was_known(void **state)
{
	struct pool_fixture fixture;

	(void)state;
	setup_pool(&fixture, "", "", "{}");
	fixture.facts.pool = &fixture.pool;
	write_status(fixture.json, replan_pool(&fixture)->status);
	fixture.facts.pool = NULL;
	fixture.facts.agent = NULL;
	fixture.facts.agent_failure = "connection refused";
	assert_int_equal(replan_pool(&fixture)->action, POOL_WRITE_STATUS);
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Unknown");
	assert_string_equal(condition_reason(fixture.plan.status, "Ready"), "AgentUnreachable");
	assert_string_equal(kube_text(fixture.plan.status, "uuid"), POOL_UUID);
	assert_string_equal(kube_text(fixture.plan.status, "agent"), OTHER_UUID);
	assert_string_equal(kube_text(fixture.plan.status, "capacity"), "10Gi");
	write_status(fixture.json, fixture.plan.status);
	assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
	teardown_pool(&fixture);
}

static void test_a_deleted_pool_goes_when_no_replica_names_it(void **state)
{
	struct pool_fixture fixture;

	(void)state;
	setup_pool(&fixture, DELETED, "", "{'uuid': '" POOL_UUID "'}");
	fixture.facts.pool = &fixture.pool;
	fixture.facts.replica_count = 1;
	assert_int_not_equal(replan_pool(&fixture)->action, POOL_DELETE);
	fixture.facts.replica_count = 0;
	assert_int_equal(replan_pool(&fixture)->action, POOL_DELETE);
	/* One of a Replica that lost its finalizer while the node was away. */
	struct uuid left = {0};

	fixture.facts.left = &left;
	assert_int_equal(replan_pool(&fixture)->action, POOL_ERASE_LEFT);
	fixture.facts.left = NULL;
	fixture.facts.agent_failure = "away";
	assert_int_equal(replan_pool(&fixture)->action, POOL_WRITE_STATUS);
	fixture.facts.agent_failure = NULL;
	/* Never there: released all the same, and never created. */
	fixture.facts.pool = NULL;
	assert_int_equal(replan_pool(&fixture)->action, POOL_DELETE);
	json_t *released = plan_pool_released(&fixture.facts);

	write_status(fixture.json, released);
	json_decref(released);
	assert_int_equal(replan_pool(&fixture)->action, POOL_NOTHING);
	teardown_pool(&fixture);
}

/* ---- replicas ---- */

struct replica_fixture {
	json_t *json;
	struct replica_object object;
	struct pool_object pool_object;
	Strake__V1__Pool pool;
	Strake__V1__Replica replica;
	struct replica_facts facts;
	struct replica_plan plan;
};

static struct replica_plan *replan_replica(struct replica_fixture *fixture)
{
	struct err err = {0};

	if (replica_object_decode(fixture->json, &fixture->object, &err) < 0) {
		fail_msg("%s", err.text);
	}
	json_decref(fixture->plan.status);
	fixture->facts.json = fixture->json;
	fixture->facts.object = &fixture->object;
	plan_replica(&fixture->facts, &fixture->plan);
	return &fixture->plan;
}

static void setup_replica(
	struct replica_fixture *fixture, const char *more_metadata, const char *status)
{
	memset(fixture, 0, sizeof(*fixture));
	strake__v1__pool__init(&fixture->pool);
	strake__v1__replica__init(&fixture->replica);
	fixture->pool.state = text_of("Online");
	fixture->replica.uuid = text_of(REPLICA_UUID);
	fixture->replica.volume_uuid = text_of(VOLUME_UUID);
	fixture->replica.nsid = 7;
	(void)snprintf(fixture->pool_object.uuid, sizeof(fixture->pool_object.uuid), POOL_UUID);
	fixture->facts.pool = &fixture->pool;
	fixture->facts.pool_object = &fixture->pool_object;
	fixture->facts.clock = (struct plan_clock){.now_ms = 1000000, .may_write_idly = true};
	fixture->json = parse(
		"{'metadata': {%s 'name': 'v-0', 'generation': 1, 'finalizers': "
		"['strake.io/erase']}, 'spec': {'volume': 'v', 'volumeUUID': '" VOLUME_UUID
		"', 'uuid': '" REPLICA_UUID "', 'pool': 'p', 'node': 'n', 'kind': 'Data', 'size': "
		"'1Gi', 'slot': 0}, 'status': %s}",
		more_metadata, status);
}

static void teardown_replica(struct replica_fixture *fixture)
{
	json_decref(fixture->plan.status);
	json_decref(fixture->json);
}

static void test_a_replica_is_made_when_its_pool_is_online(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, "", "{}");
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_CREATE);
	fixture.pool.state = text_of("Opening");
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	assert_string_equal(condition_reason(fixture.plan.status, "Ready"), "PoolNotReady");
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Creating");
	teardown_replica(&fixture);
}

static void test_a_replica_that_was_made_and_is_gone_is_not_made_again(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, "", "{'state': 'Online', 'nsid': 7}");
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Faulted");
	assert_int_equal(kube_number(fixture.plan.status, "nsid", 0), 7);
	write_status(fixture.json, fixture.plan.status);
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_NOTHING);
	teardown_replica(&fixture);
}

static void test_a_replica_is_not_online_with_a_pool_agent_that_is_too_old(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, "", "{'state': 'Online', 'nsid': 7}");
	fixture.facts.replica = &fixture.replica;
	fixture.replica.state = text_of("Newer");
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Faulted");
	assert_string_equal(condition_reason(fixture.plan.status, "Ready"), "AgentTooOld");
	assert_int_equal(kube_number(fixture.plan.status, "nsid", 0), 7);
	write_status(fixture.json, fixture.plan.status);
	fixture.replica.state = text_of("InSync");
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Online");
	teardown_replica(&fixture);
}

static void test_a_replica_says_that_it_is_online_and_what_it_refused(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, "", "{}");
	fixture.facts.replica = &fixture.replica;
	fixture.replica.refused = 4;
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Online");
	assert_int_equal(kube_number(fixture.plan.status, "nsid", 0), 7);
	assert_int_equal(kube_number(fixture.plan.status, "refused", 0), 4);
	write_status(fixture.json, fixture.plan.status);
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_NOTHING);
	fixture.facts.replica = NULL;
	fixture.facts.agent_failure = "away";
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	/* It is where it was; only its condition tells. */
	assert_string_equal(kube_text(fixture.plan.status, "state"), "Online");
	assert_string_equal(condition_reason(fixture.plan.status, "Ready"), "AgentUnreachable");
	assert_int_equal(kube_number(fixture.plan.status, "nsid", 0), 7);
	teardown_replica(&fixture);
}

static void test_no_space_is_told_apart(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, "", "{}");
	fixture.facts.failure = (struct plan_failure){-ENOSPC, "full"};
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	assert_string_equal(condition_reason(fixture.plan.status, "Ready"), "NoSpace");
	fixture.facts.failure.code = -EINVAL;
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	assert_string_equal(condition_reason(fixture.plan.status, "Ready"), "CreateFailed");
	teardown_replica(&fixture);
}

static void test_a_deleted_replica_is_erased_before_it_is_let_go(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, DELETED, "{'state': 'Online', 'nsid': 7}");
	fixture.facts.replica = &fixture.replica;
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_ERASE);
	/* Also one that the list does not name: the pool-agent's word on deletion counts. */
	fixture.facts.replica = NULL;
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_ERASE);
	fixture.pool.state = text_of("Faulted");
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_WRITE_STATUS);
	fixture.facts.agent_failure = "away";
	assert_int_not_equal(replan_replica(&fixture)->action, REPLICA_ERASE);
	teardown_replica(&fixture);
}

static void test_a_deleted_replica_is_let_go_when_its_pool_is_given_up(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, DELETED, "{}");
	/* The pool exists and is only away now. */
	fixture.facts.pool = NULL;
	assert_int_not_equal(replan_replica(&fixture)->action, REPLICA_RELEASE);
	fixture.pool_object.meta.is_deleted = true;
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_RELEASE);
	fixture.facts.pool = &fixture.pool;
	fixture.pool.state = text_of("Faulted");
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_RELEASE);
	fixture.facts.agent_failure = "away";
	assert_int_not_equal(replan_replica(&fixture)->action, REPLICA_RELEASE);
	fixture.facts.agent_failure = NULL;
	/* A pool that never was. */
	fixture.facts.pool = NULL;
	fixture.pool_object.meta.is_deleted = false;
	fixture.pool_object.uuid[0] = '\0';
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_RELEASE);
	/* One that csi-controller must look for. */
	fixture.facts.pool_object = NULL;
	assert_int_not_equal(replan_replica(&fixture)->action, REPLICA_RELEASE);
	teardown_replica(&fixture);
}

/* The pool-agent still has the pool, whose Pool was taken away by hand: csi-controller's word
 * stays, or the two would answer each other for ever. */
static void test_an_orphan_is_left_alone(void **state)
{
	struct replica_fixture fixture;

	(void)state;
	setup_replica(&fixture, "", "{'state': 'Orphaned', 'nsid': 1}");
	fixture.facts.pool_object = NULL;
	assert_int_equal(replan_replica(&fixture)->action, REPLICA_NOTHING);
	teardown_replica(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pool_that_the_agent_lacks_is_created),
		cmocka_unit_test(test_a_pool_that_was_there_is_never_wiped_or_made_anew),
		cmocka_unit_test(test_a_failed_creation_is_said_and_not_tried_at_once),
		cmocka_unit_test(test_an_online_pool_is_described_once),
		cmocka_unit_test(test_used_space_is_written_when_it_moved_or_after_a_while),
		cmocka_unit_test(
			test_an_agent_that_is_away_makes_the_pool_unknown_and_keeps_what_was_known),
		cmocka_unit_test(test_a_deleted_pool_goes_when_no_replica_names_it),
		cmocka_unit_test(test_a_replica_is_made_when_its_pool_is_online),
		cmocka_unit_test(test_a_replica_that_was_made_and_is_gone_is_not_made_again),
		cmocka_unit_test(test_a_replica_is_not_online_with_a_pool_agent_that_is_too_old),
		cmocka_unit_test(test_a_replica_says_that_it_is_online_and_what_it_refused),
		cmocka_unit_test(test_no_space_is_told_apart),
		cmocka_unit_test(test_a_deleted_replica_is_erased_before_it_is_let_go),
		cmocka_unit_test(test_a_deleted_replica_is_let_go_when_its_pool_is_given_up),
		cmocka_unit_test(test_an_orphan_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
