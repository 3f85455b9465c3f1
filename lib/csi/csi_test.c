/* SPDX-License-Identifier: Apache-2.0 */
/* What volumes can do, fields of requests, and the Identity service over a socket. */
#include "base/bytes.h"
#include "base/testing.h"
#include "csi/csi.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- capabilities ---- */

struct built {
	Csi__V1__VolumeCapability capability;
	Csi__V1__VolumeCapability__AccessMode mode;
	Csi__V1__VolumeCapability__MountVolume mount;
	Csi__V1__VolumeCapability__BlockVolume block;
};

static Csi__V1__VolumeCapability *build(struct built *to, unsigned mode, const char *fs_type)
{
	csi__v1__volume_capability__init(&to->capability);
	csi__v1__volume_capability__access_mode__init(&to->mode);
	csi__v1__volume_capability__mount_volume__init(&to->mount);
	csi__v1__volume_capability__block_volume__init(&to->block);
	to->mode.mode = (Csi__V1__VolumeCapability__AccessMode__Mode)mode;
	to->capability.access_mode = &to->mode;
	if (fs_type != NULL) {
		to->mount.fs_type = (char *)(uintptr_t)fs_type;
		to->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
		to->capability.mount = &to->mount;
	} else {
		to->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
		to->capability.block = &to->block;
	}
	return &to->capability;
}

static void test_access_modes_of_one_node_are_taken(void **state)
{
	static const struct {
		unsigned mode;
		int result;
		bool is_read_only, is_single_pod;
	} cases[] = {
		{0, -EINVAL, false, false},
		{1, 0, false, false},
		{2, 0, true, false},
		{3, -EDOM, false, false},
		{4, -EDOM, false, false},
		{5, -EDOM, false, false},
		{6, 0, false, true},
		{7, 0, false, false},
		{99, -EDOM, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct built built;
		struct csi_capability capability;
		struct err err = {0};

		assert_int_equal(
			csi_capability_decode(
				build(&built, cases[i].mode, i % 2 ? "" : NULL), &capability, &err),
			cases[i].result);
		if (cases[i].result == 0) {
			assert_int_equal(capability.is_read_only, cases[i].is_read_only);
			assert_int_equal(capability.is_single_pod, cases[i].is_single_pod);
			assert_int_equal(capability.is_block, i % 2 == 0);
		} else {
			assert_int_not_equal(err.text[0], 0);
		}
		if (cases[i].result == -EDOM) {
			assert_non_null(strstr(err.text, "ReadWriteOnce"));
		}
	}
}

static void test_file_systems(void **state)
{
	static const struct {
		const char *asked, *got; /* NULL: refused */
	} cases[] = {{"", "ext4"}, {"ext4", "ext4"}, {"xfs", "xfs"}, {"ext3", NULL}, {"XFS", NULL},
		{"btrfs", NULL}};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct built built;
		struct csi_capability capability;
		struct err err = {0};
		int result =
			csi_capability_decode(build(&built, 1, cases[i].asked), &capability, &err);

		assert_int_equal(result, cases[i].got != NULL ? 0 : -EDOM);
		if (cases[i].got != NULL) {
			assert_string_equal(capability.fs_type, cases[i].got);
		} else {
			assert_non_null(strstr(err.text, "xfs"));
		}
	}
}

static void test_incomplete_capabilities_are_refused(void **state)
{
	struct built built;
	struct csi_capability capability;
	struct err err = {0};
	Csi__V1__VolumeCapability *list[2];

	(void)state;
	assert_int_equal(csi_capability_decode(NULL, &capability, &err), -EINVAL);
	build(&built, 1, "")->access_mode = NULL;
	assert_int_equal(csi_capability_decode(&built.capability, &capability, &err), -EINVAL);
	build(&built, 1, "")->access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE__NOT_SET;
	assert_int_equal(csi_capability_decode(&built.capability, &capability, &err), -EINVAL);

	struct built good;

	list[0] = build(&good, 1, "");
	list[1] = build(&built, 5, "");
	assert_int_equal(csi_capabilities_check(list, 0, 0, &err), -EINVAL);
	assert_int_equal(csi_capabilities_check(list, 1, 0, &err), 0);
	assert_int_equal(csi_capabilities_check(list, 2, 0, &err), -EDOM);
}

/* ---- fields ---- */

static void test_ids(void **state)
{
	static const char *const bad[] = {"", "-a", "a-", "A", "a/b", "../a", "a%2f", "a b",
		"0123456789012345678901234567890123456789012345678901234567890123"};

	(void)state;
	assert_true(csi_volume_id_is_possible("pvc-0b5e"));
	assert_true(csi_node_id_is_possible("node1.example.org"));
	assert_false(csi_volume_id_is_possible("node1.example.org"));
	assert_false(csi_node_id_is_possible(".a"));
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_false(csi_volume_id_is_possible(bad[i]));
	}
}

static void test_attach_numbers(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint32_t number;
	} cases[] = {{"1", 0, 1}, {"4294967295", 0, UINT32_MAX}, {"0", -EINVAL, 0},
		{"4294967296", -EINVAL, 0}, {"99999999999999999999", -EINVAL, 0}, {"", -EINVAL, 0},
		{"-1", -EINVAL, 0}, {"1 ", -EINVAL, 0}};
	Csi__V1__NodeStageVolumeRequest__PublishContextEntry entry =
		CSI__V1__NODE_STAGE_VOLUME_REQUEST__PUBLISH_CONTEXT_ENTRY__INIT;
	Csi__V1__NodeStageVolumeRequest__PublishContextEntry *entries[] = {&entry};
	struct err err = {0};
	uint32_t number = 0;

	(void)state;
	assert_int_equal(csi_attach_number_decode(NULL, 0, &number, &err), -EINVAL);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char key[] = CSI_ATTACH_KEY;
		char value[32];

		(void)snprintf(value, sizeof(value), "%s", cases[i].text);
		entry.key = key;
		entry.value = value;
		assert_int_equal(
			csi_attach_number_decode(entries, 1, &number, &err), cases[i].result);
		if (cases[i].result == 0) {
			assert_int_equal(number, cases[i].number);
		}
	}
}

/* ---- Identity ---- */

static void probe(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	csi_probe_reply(call, *(const bool *)grpc_call_ctx(call));
}

static const struct grpc_method methods[] = {CSI_IDENTITY_METHODS(probe)};

static void *run_loop(void *loop)
{
	loop_run(loop);
	return NULL;
}

static void server_gone(void *ctx)
{
	*(bool *)ctx = true;
}

static void check_answers(struct grpc_client *client, bool ready)
{
	Csi__V1__GetPluginInfoRequest ask_info = CSI__V1__GET_PLUGIN_INFO_REQUEST__INIT;
	Csi__V1__GetPluginCapabilitiesRequest ask_capabilities =
		CSI__V1__GET_PLUGIN_CAPABILITIES_REQUEST__INIT;
	Csi__V1__ProbeRequest ask_probe = CSI__V1__PROBE_REQUEST__INIT;
	ProtobufCMessage *answer;
	struct err err = {0};

	assert_int_equal(
		grpc_client_call(client, &methods[0], &ask_info.base, 5000, &answer, &err), 0);
	assert_string_equal(((Csi__V1__GetPluginInfoResponse *)answer)->name, "csi.strake.io");
	protobuf_c_message_free_unpacked(answer, NULL);
	assert_int_equal(
		grpc_client_call(client, &methods[1], &ask_capabilities.base, 5000, &answer, &err),
		0);
	assert_int_equal(((Csi__V1__GetPluginCapabilitiesResponse *)answer)->n_capabilities, 2);
	protobuf_c_message_free_unpacked(answer, NULL);
	assert_int_equal(
		grpc_client_call(client, &methods[2], &ask_probe.base, 5000, &answer, &err), 0);
	assert_int_equal(((Csi__V1__ProbeResponse *)answer)->ready->value, ready);
	protobuf_c_message_free_unpacked(answer, NULL);
}

static void test_identity_answers(void **state)
{
	char folder[] = "/tmp/csi_test.XXXXXX";
	char path[64];
	bool ready = false, gone = false;
	struct grpc_server_options options = {.socket_path = path,
		.methods = methods,
		.method_count = ARRAY_COUNT(methods),
		.ctx = &ready};
	struct loop *loop;
	struct grpc_server *server;
	struct grpc_client *client;
	pthread_t thread;
	struct err err = {0};

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/csi.sock", folder);
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(grpc_server_new(loop, &options, &server, &err), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_loop, loop), 0);
	assert_int_equal(grpc_client_new(path, 5000, &client, &err), 0);
	check_answers(client, false);
	ready = true;
	check_answers(client, true);
	grpc_client_free(client);
	loop_stop(loop);
	assert_int_equal(pthread_join(thread, NULL), 0);
	grpc_server_stop(server, 0, server_gone, &gone);
	while (!gone) {
		loop_turn(loop, 100);
	}
	loop_free(loop);
	(void)unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_access_modes_of_one_node_are_taken),
		cmocka_unit_test(test_file_systems),
		cmocka_unit_test(test_incomplete_capabilities_are_refused),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_attach_numbers),
		cmocka_unit_test(test_identity_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
