/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the Node service, and what a stage makes of the objects. */
#include "base/testing.h"
#include "csi-node/request.h"
#include "csi-node/stage_plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VOLUME_UUID "7d1c5bf0-5f0a-4c1e-9f0e-3b2a1c0d9e8f"
#define AGENT_UUID  "00000000-0000-4000-8000-0000000000aa"

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

/* ---- requests ---- */

struct built {
	Csi__V1__NodeStageVolumeRequest stage;
	Csi__V1__NodePublishVolumeRequest publish;
	Csi__V1__VolumeCapability capability;
	Csi__V1__VolumeCapability__AccessMode mode;
	Csi__V1__VolumeCapability__MountVolume mount;
	Csi__V1__NodeStageVolumeRequest__PublishContextEntry entry, *entries[1];
	char *flags[3];
};

static void build(struct built *to)
{
	memset(to, 0, sizeof(*to));
	csi__v1__node_stage_volume_request__init(&to->stage);
	csi__v1__node_publish_volume_request__init(&to->publish);
	csi__v1__volume_capability__init(&to->capability);
	csi__v1__volume_capability__access_mode__init(&to->mode);
	csi__v1__volume_capability__mount_volume__init(&to->mount);
	csi__v1__node_stage_volume_request__publish_context_entry__init(&to->entry);
	to->mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
	to->capability.access_mode = &to->mode;
	to->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
	to->capability.mount = &to->mount;
	to->entry.key = text_of(CSI_ATTACH_KEY);
	to->entry.value = text_of("4");
	to->entries[0] = &to->entry;
	to->stage.volume_id = text_of("v");
	to->stage.staging_target_path = text_of("/kubelet/staging");
	to->stage.volume_capability = &to->capability;
	to->stage.publish_context = to->entries;
	to->stage.n_publish_context = 1;
	to->publish.volume_id = text_of("v");
	to->publish.staging_target_path = text_of("/kubelet/staging");
	to->publish.target_path = text_of("/kubelet/pods/a");
	to->publish.volume_capability = &to->capability;
}

static int stage_result(const struct built *built)
{
	struct stage_wish wish;
	struct err err = {0};
	int result = stage_wish_decode(&built->stage, &wish, &err);

	assert_true(result == 0 || err.text[0] != '\0');
	return result;
}

static int publish_result(const struct built *built)
{
	struct publish_wish wish;
	struct err err = {0};
	int result = publish_wish_decode(&built->publish, &wish, &err);

	assert_true(result == 0 || err.text[0] != '\0');
	return result;
}

static void test_a_good_stage_request(void **state)
{
	struct built built;
	struct stage_wish wish;
	struct err err = {0};

	(void)state;
	build(&built);
	built.flags[0] = text_of("noatime");
	built.flags[1] = text_of("data=ordered");
	built.mount.mount_flags = built.flags;
	built.mount.n_mount_flags = 2;
	assert_int_equal(stage_wish_decode(&built.stage, &wish, &err), 0);
	assert_string_equal(wish.volume, "v");
	assert_string_equal(wish.use.options, "noatime,data=ordered");
	assert_string_equal(wish.use.fs_type, "ext4");
	assert_int_equal(wish.attach_min, 4);
}

static void test_what_a_stage_request_must_have(void **state)
{
	struct built built;

	(void)state;
	build(&built);
	built.stage.volume_id = text_of("");
	assert_int_equal(stage_result(&built), -EINVAL);
	build(&built);
	built.stage.staging_target_path = text_of("");
	assert_int_equal(stage_result(&built), -EINVAL);
	build(&built);
	built.stage.volume_capability = NULL;
	assert_int_equal(stage_result(&built), -EINVAL);
	build(&built);
	built.stage.n_publish_context = 0;
	assert_int_equal(stage_result(&built), -EINVAL);
	build(&built);
	built.entry.value = text_of("x");
	assert_int_equal(stage_result(&built), -EINVAL);
	/* The name of no volume: it never gets into a URL. */
	build(&built);
	built.stage.volume_id = text_of("../nodes");
	assert_int_equal(stage_result(&built), -ENOENT);
	build(&built);
	built.mount.fs_type = text_of("ntfs");
	assert_int_equal(stage_result(&built), -EDOM);
	build(&built);
	built.mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER;
	assert_int_equal(stage_result(&built), -EDOM);
}

static void test_paths_and_flags_that_are_none(void **state)
{
	static const char *const paths[] = {"relative", "/", "/a/../b", "/..", "/a/.."};
	static const char *const flags[] = {"", "a b", "a\nb", "a\\b"};
	struct built built;
	char long_path[REQUEST_PATH_SIZE + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		build(&built);
		built.stage.staging_target_path = text_of(paths[i]);
		assert_int_equal(stage_result(&built), -EINVAL);
		build(&built);
		built.publish.target_path = text_of(paths[i]);
		assert_int_equal(publish_result(&built), -EINVAL);
	}
	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = '\0';
	build(&built);
	built.publish.target_path = long_path;
	assert_int_equal(publish_result(&built), -EINVAL);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		build(&built);
		built.flags[0] = text_of(flags[i]);
		built.mount.mount_flags = built.flags;
		built.mount.n_mount_flags = 1;
		assert_int_equal(stage_result(&built), -EINVAL);
	}
}

static void test_publish_requests(void **state)
{
	struct built built;
	struct publish_wish wish;
	struct err err = {0};

	(void)state;
	build(&built);
	built.publish.readonly = true;
	built.mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER;
	assert_int_equal(publish_wish_decode(&built.publish, &wish, &err), 0);
	assert_true(wish.is_read_only && wish.use.is_single_pod && !wish.use.is_read_only);
	build(&built);
	built.publish.staging_target_path = text_of("");
	assert_int_equal(publish_result(&built), -EBUSY);
	build(&built);
	built.publish.target_path = text_of("");
	assert_int_equal(publish_result(&built), -EINVAL);
	build(&built);
	built.publish.volume_capability = NULL;
	assert_int_equal(publish_result(&built), -EINVAL);
}

static void test_stats_of_no_path_are_not_found(void **state)
{
	Csi__V1__NodeGetVolumeStatsRequest request = CSI__V1__NODE_GET_VOLUME_STATS_REQUEST__INIT;
	struct path_wish wish;
	struct err err = {0};

	(void)state;
	request.volume_path = text_of("some/path");
	assert_int_equal(stats_wish_decode(&request, &wish, &err), -EINVAL);
	request.volume_id = text_of("v");
	assert_int_equal(stats_wish_decode(&request, &wish, &err), -ENOENT);
	request.volume_path = text_of("");
	assert_int_equal(stats_wish_decode(&request, &wish, &err), -EINVAL);
	request.volume_path = text_of("/a/b");
	assert_int_equal(stats_wish_decode(&request, &wish, &err), 0);
}

/* ---- stage ---- */

static void make_volume(struct volume_object *volume)
{
	memset(volume, 0, sizeof(*volume));
	(void)snprintf(volume->meta.name, sizeof(volume->meta.name), "v");
	(void)snprintf(volume->attached_node, sizeof(volume->attached_node), "n");
	assert_int_equal(uuid_parse(VOLUME_UUID, &volume->uuid), 0);
	volume->attach_number = 1;
	volume->replicas = 3;
	volume->size_bytes = UINT64_C(1) << 30;
}

static void test_a_volume_must_be_attached_here_as_late_as_the_context_says(void **state)
{
	struct stage_wish wish = {.attach_min = 2};
	struct volume_object volume;
	struct err err = {0};

	(void)state;
	make_volume(&volume);
	volume.attach_number = 2;
	assert_int_equal(stage_check_volume(&volume, &wish, "n", &err), 0);
	assert_int_equal(stage_check_volume(&volume, &wish, "other", &err), -EBUSY);
	volume.attach_number = 1;
	assert_int_equal(stage_check_volume(&volume, &wish, "n", &err), -EALREADY);
	volume.attach_number = 3;
	assert_int_equal(stage_check_volume(&volume, &wish, "n", &err), 0);
	volume.meta.is_deleted = true;
	assert_int_equal(stage_check_volume(&volume, &wish, "n", &err), -EBUSY);
}

static json_t *replica_json(const char *name, const char *volume_uuid, unsigned slot)
{
	return json_pack("{s:{s:s}, s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}, s:{s:s, s:i}}",
		"metadata", "name", name, "spec", "volume", "v", "volumeUUID", volume_uuid, "uuid",
		"00000000-0000-4000-8000-000000000001", "pool", "p", "node", "n", "kind", "Data",
		"size", "1Gi", "slot", (int)slot, "status", "state", "Online", "nsid", 5);
}

static void test_replicas_are_taken_by_slot_and_not_those_of_another_volume(void **state)
{
	struct volume_object volume;
	static struct stage_voters voters;
	struct err err = {0};
	json_t *items = json_array();

	(void)state;
	make_volume(&volume);
	(void)json_array_append_new(items, replica_json("v-c", VOLUME_UUID, 2));
	(void)json_array_append_new(items, replica_json("v-old", AGENT_UUID, 1));
	(void)json_array_append_new(items, replica_json("v-a", VOLUME_UUID, 0));
	(void)json_array_append_new(items, replica_json("v-b", VOLUME_UUID, 1));
	assert_int_equal(stage_take_replicas(&volume, items, &voters, &err), 0);
	assert_int_equal(voters.count, 3);
	assert_string_equal(voters.voters[0].replica.meta.name, "v-a");
	assert_string_equal(voters.voters[1].replica.meta.name, "v-b");
	assert_string_equal(voters.voters[2].replica.meta.name, "v-c");
	json_decref(items);
}

static void make_voters(struct stage_voters *voters)
{
	memset(voters, 0, sizeof(*voters));
	voters->count = 3;
	for (unsigned i = 0; i < voters->count; i++) {
		struct stage_voter *voter = &voters->voters[i];

		voter->replica.nsid = i + 1;
		voter->has_pool = true;
		(void)snprintf(
			voter->replica.node, sizeof(voter->replica.node), i == 1 ? "n" : "m");
		(void)snprintf(voter->pool.agent, sizeof(voter->pool.agent), AGENT_UUID);
		(void)snprintf(voter->pool.address, sizeof(voter->pool.address), "10.0.0.1:4430");
	}
}

static void test_what_the_nexus_is_given(void **state)
{
	struct volume_object volume;
	static struct stage_voters voters;
	struct nexus_wish wish;
	struct err err = {0};

	(void)state;
	make_volume(&volume);
	make_voters(&voters);
	volume.lineage = 42;
	volume.lineage_attach = 7;
	assert_int_equal(stage_make_wish(&volume, &voters, "n", &wish, &err), 0);
	assert_int_equal(wish.voter_count, 3);
	assert_int_equal(wish.lineage, 42);
	assert_int_equal(wish.lineage_attach, 7);
	assert_int_equal(wish.attach, 1);
	assert_false(wish.voters[0].is_local);
	assert_true(wish.voters[1].is_local);
	assert_int_equal(wish.voters[2].nsid, 3);
	voters.voters[2].replica.nsid = 0;
	assert_int_equal(stage_make_wish(&volume, &voters, "n", &wish, &err), -EAGAIN);
}

static void test_a_pool_that_is_gone_stops_the_first_opening_only(void **state)
{
	struct volume_object volume;
	static struct stage_voters voters;
	struct nexus_wish wish;
	struct err err = {0};

	(void)state;
	make_volume(&volume);
	make_voters(&voters);
	voters.voters[0].has_pool = false;
	assert_int_equal(stage_make_wish(&volume, &voters, "n", &wish, &err), -EAGAIN);
	volume.attach_number = 2;
	assert_int_equal(stage_make_wish(&volume, &voters, "n", &wish, &err), 0);
	assert_int_equal(wish.voter_count, 2);
	voters.voters[1].pool.address[0] = '\0';
	assert_int_equal(stage_make_wish(&volume, &voters, "n", &wish, &err), -EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_good_stage_request),
		cmocka_unit_test(test_what_a_stage_request_must_have),
		cmocka_unit_test(test_paths_and_flags_that_are_none),
		cmocka_unit_test(test_publish_requests),
		cmocka_unit_test(test_stats_of_no_path_are_not_found),
		cmocka_unit_test(test_a_volume_must_be_attached_here_as_late_as_the_context_says),
		cmocka_unit_test(test_replicas_are_taken_by_slot_and_not_those_of_another_volume),
		cmocka_unit_test(test_what_the_nexus_is_given),
		cmocka_unit_test(test_a_pool_that_is_gone_stops_the_first_opening_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
