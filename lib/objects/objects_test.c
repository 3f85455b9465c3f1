/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "objects/objects.h"

#include <errno.h>
#include <string.h>

#define UUID_A "11111111-1111-4111-8111-111111111111"
#define UUID_B "22222222-2222-4222-8222-222222222222"

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *json = json_loads(text, 0, &error);

	assert_non_null(json);
	return json;
}

static void a_pool_is_decoded(void **state)
{
	struct pool_object pool;
	struct err err = {0};
	json_t *json = parse(
		"{\"metadata\":{\"name\":\"a\",\"generation\":2,\"finalizers\":[\"strake.io/"
		"in-use\"]},"
		"\"spec\":{\"node\":\"n1\",\"disks\":[\"file:///var/x?size=10Gi\"],\"wipe\":true},"
		"\"status\":{\"state\":\"Online\",\"capacity\":\"1Gi\",\"used\":4096,\"agent\":"
		"\"" UUID_A "\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}");

	(void)state;
	assert_int_equal(pool_object_decode(json, &pool, &err), 0);
	assert_string_equal(pool.disk, "file:///var/x");
	assert_int_equal(pool.file_size_bytes, UINT64_C(10) << 30);
	assert_int_equal(pool.capacity_bytes, 1 << 30);
	assert_int_equal(pool.used_bytes, 4096);
	assert_true(pool.wipe && pool.is_ready && pool.meta.has_finalizer && !pool.meta.is_deleted);
	assert_int_equal(pool.state, POOL_ONLINE);
	assert_string_equal(pool.agent, UUID_A);
	json_decref(json);
}

static void a_pool_that_makes_no_sense_is_refused_by_name(void **state)
{
	static const char *const specs[] = {
		"{}",
		"{\"node\":\"n1\"}",
		"{\"node\":\"n1\",\"disks\":[]}",
		"{\"node\":\"n1\",\"disks\":[\"/dev/a\",\"/dev/b\"]}",
		"{\"node\":\"n1\",\"disks\":[5]}",
		"{\"node\":\"n1\",\"disks\":[\"sda\"]}",
		"{\"node\":\"n1\",\"disks\":[\"file:///x?size=\"]}",
		"{\"node\":\"n1\",\"disks\":[\"file:///x?sise=1Gi\"]}",
		"{\"node\":7,\"disks\":[\"/dev/a\"]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct pool_object pool;
		struct err err = {0};
		char text[256];

		(void)snprintf(text, sizeof(text), "{\"metadata\":{\"name\":\"a\"},\"spec\":%s}",
			specs[i]);
		json_t *json = parse(text);

		assert_int_equal(pool_object_decode(json, &pool, &err), -EINVAL);
		assert_non_null(strstr(err.text, "Pool a: spec."));
		json_decref(json);
	}
}

static void a_replica_is_decoded(void **state)
{
	struct replica_object replica;
	struct err err = {0};
	json_t *json =
		parse("{\"metadata\":{\"name\":\"v-x\"},\"spec\":{\"volume\":\"v\",\"volumeUUID\":"
		      "\"" UUID_A "\",\"uuid\":\"" UUID_B
		      "\",\"pool\":\"p\",\"node\":\"n\",\"kind\":\"Data\",\"size\":\"64Mi\","
		      "\"slot\":4},\"status\":{\"state\":\"Faulted\",\"nsid\":3,\"refused\":12}}");

	(void)state;
	assert_int_equal(replica_object_decode(json, &replica, &err), 0);
	assert_int_equal(replica.size_bytes, 64 << 20);
	assert_int_equal(replica.slot, 4);
	assert_int_equal(replica.nsid, 3);
	assert_int_equal(replica.refused, 12);
	assert_int_equal(replica.state, REPLICA_FAULTED);
	json_decref(json);
}

static void a_volume_is_decoded_and_what_is_missing_is_the_default(void **state)
{
	struct volume_object volume;
	struct err err = {0};
	json_t *json = parse(
		"{\"metadata\":{\"name\":\"db\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},"
		"\"spec\":{\"size\":\"1Gi\"},\"status\":{\"attachment\":{\"number\":4,\"node\":"
		"\"n1\"},\"record\":\"4.2/7 fedcba9876543210\","
		"\"nexus\":{\"node\":\"n1\",\"state\":\"Online\",\"replicas\":[{\"uuid\":\"" UUID_A
		"\",\"state\":\"InSync\",\"progress\":200}]}}}");

	(void)state;
	assert_int_equal(volume_object_decode(json, &volume, &err), 0);
	assert_true(uuid_is_nil(&volume.uuid) && volume.meta.is_deleted);
	assert_int_equal(volume.replicas, 3);
	assert_int_equal(volume.attach_number, 4);
	assert_true(volume.is_used);
	assert_int_equal(volume.lineage, UINT64_C(0xfedcba9876543210));
	assert_int_equal(volume.lineage_attach, 4);
	assert_true(volume.nexus.is_there);
	assert_int_equal(volume.nexus.replica_count, 1);
	assert_int_equal(volume.nexus.replicas[0].progress_percent, 100);
	assert_int_equal(volume.state, VOLUME_CREATING);
	json_decref(json);
}

static void a_volume_of_an_impossible_size_is_refused(void **state)
{
	static const char *const specs[] = {"{}", "{\"size\":\"0\"}", "{\"size\":\"1500Ki\"}",
		"{\"size\":\"65Ti\"}", "{\"size\":-1048576}", "{\"size\":\"1Gi\",\"replicas\":6}",
		"{\"size\":\"1Gi\",\"replicas\":2,\"minInsync\":3}",
		"{\"size\":\"1Gi\",\"uuid\":\"x\"}"};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct volume_object volume;
		struct err err = {0};
		char text[256];

		(void)snprintf(text, sizeof(text), "{\"metadata\":{\"name\":\"db\"},\"spec\":%s}",
			specs[i]);
		json_t *json = parse(text);

		assert_int_equal(volume_object_decode(json, &volume, &err), -EINVAL);
		assert_non_null(strstr(err.text, "Volume db: spec."));
		json_decref(json);
	}
}

static void a_snapshot_is_decoded_and_what_is_missing_is_the_default(void **state)
{
	struct snapshot_object snapshot;
	struct err err = {0};
	json_t *json = parse("{\"metadata\":{\"name\":\"daily\",\"finalizers\":[\"strake.io/"
			     "snapshot\"]},\"spec\":"
			     "{\"volume\":\"db\",\"uuid\":\"" UUID_A
			     "\"},\"status\":{\"state\":\"Ready\",\"node\":"
			     "\"n1\",\"readyToUse\":true,\"volumeUUID\":\"" UUID_B "\"}}");
	json_t *fresh = parse("{\"metadata\":{\"name\":\"daily\"},\"spec\":{\"volume\":\"db\"}}");
	struct uuid uuid;

	(void)state;
	assert_int_equal(snapshot_object_decode(json, &snapshot, &err), 0);
	assert_true(snapshot.meta.has_finalizer && snapshot.is_ready_to_use);
	assert_string_equal(snapshot.volume, "db");
	assert_string_equal(snapshot.node, "n1");
	assert_int_equal(snapshot.state, SNAPSHOT_READY);
	assert_int_equal(uuid_parse(UUID_B, &uuid), 0);
	assert_true(uuid_equal(&snapshot.volume_uuid, &uuid));
	assert_int_equal(snapshot_object_decode(fresh, &snapshot, &err), 0);
	assert_true(uuid_is_nil(&snapshot.uuid) && uuid_is_nil(&snapshot.volume_uuid));
	assert_false(snapshot.meta.has_finalizer || snapshot.is_ready_to_use);
	assert_int_equal(snapshot.state, SNAPSHOT_PENDING);
	json_decref(fresh);
	json_decref(json);
}

#define SIXTEEN "0123456789abcdef"

static void a_snapshot_that_makes_no_sense_is_refused_by_name(void **state)
{
	static const char *const objects[] = {"\"spec\":{}", "\"spec\":{\"volume\":\"\"}",
		"\"spec\":{\"volume\":7}",
		"\"spec\":{\"volume\":\"" SIXTEEN SIXTEEN SIXTEEN SIXTEEN "\"}",
		"\"spec\":{\"volume\":\"db\",\"uuid\":\"x\"}",
		"\"spec\":{\"volume\":\"db\"},\"status\":{\"volumeUUID\":\"x\"}"};

	(void)state;
	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
		struct snapshot_object snapshot;
		struct err err = {0};
		char text[256];

		(void)snprintf(
			text, sizeof(text), "{\"metadata\":{\"name\":\"daily\"},%s}", objects[i]);
		json_t *json = parse(text);

		assert_int_equal(snapshot_object_decode(json, &snapshot, &err), -EINVAL);
		assert_non_null(strstr(err.text, "Snapshot daily: s"));
		json_decref(json);
	}
}

static void names_are_labels_and_stay_the_same(void **state)
{
	char name[OBJECTS_VOLUME_SIZE], again[OBJECTS_VOLUME_SIZE];
	char replica[OBJECTS_NAME_SIZE], other[OBJECTS_NAME_SIZE];
	char longest[129];
	struct uuid uuid;

	(void)state;
	volume_name_from_csi("pvc-12", name);
	assert_string_equal(name, "pvc-12");
	memset(longest, 'x', 128);
	longest[128] = '\0';
	volume_name_from_csi(longest, name);
	volume_name_from_csi(longest, again);
	assert_string_equal(name, again);
	assert_int_equal(strlen(name), 22);
	longest[127] = 'y';
	volume_name_from_csi(longest, again);
	assert_string_not_equal(name, again);
	volume_name_from_csi("Upper", name);
	assert_int_equal(strncmp(name, "v-", 2), 0);
	volume_name_from_csi("", name);
	assert_int_equal(strncmp(name, "v-", 2), 0);

	assert_int_equal(uuid_parse(UUID_A, &uuid), 0);
	replica_name_make("db", &uuid, 0, replica);
	assert_int_equal(strlen(replica), 8);
	replica_name_make("db", &uuid, 1, other);
	assert_string_not_equal(replica, other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pool_is_decoded),
		cmocka_unit_test(a_pool_that_makes_no_sense_is_refused_by_name),
		cmocka_unit_test(a_replica_is_decoded),
		cmocka_unit_test(a_volume_is_decoded_and_what_is_missing_is_the_default),
		cmocka_unit_test(a_volume_of_an_impossible_size_is_refused),
		cmocka_unit_test(a_snapshot_is_decoded_and_what_is_missing_is_the_default),
		cmocka_unit_test(a_snapshot_that_makes_no_sense_is_refused_by_name),
		cmocka_unit_test(names_are_labels_and_stay_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
