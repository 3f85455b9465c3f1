/* SPDX-License-Identifier: Apache-2.0 */
/* CSI requests: sizes, parameters, names, topologies, tokens. */
#include "base/bytes.h"
#include "base/size.h"
#include "base/testing.h"
#include "csi-controller/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PAIRS_MAX 8

/* A request of which the tests change one thing. */
struct built {
	Csi__V1__CreateVolumeRequest request;
	Csi__V1__CapacityRange range;
	Csi__V1__VolumeCapability capability, *capabilities[1];
	Csi__V1__VolumeCapability__AccessMode mode;
	Csi__V1__VolumeCapability__MountVolume mount;
	Csi__V1__CreateVolumeRequest__ParametersEntry entries[PAIRS_MAX], *pointers[PAIRS_MAX];
	Csi__V1__TopologyRequirement topology;
	Csi__V1__Topology segment, *segments[1];
	Csi__V1__Topology__SegmentsEntry node, *nodes[1];
};

static char *text(const char *constant)
{
	return (char *)(uintptr_t)constant;
}

static Csi__V1__CreateVolumeRequest *build(struct built *to, const char *name)
{
	csi__v1__create_volume_request__init(&to->request);
	csi__v1__capacity_range__init(&to->range);
	csi__v1__volume_capability__init(&to->capability);
	csi__v1__volume_capability__access_mode__init(&to->mode);
	csi__v1__volume_capability__mount_volume__init(&to->mount);
	to->mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
	to->capability.access_mode = &to->mode;
	to->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
	to->capability.mount = &to->mount;
	to->capabilities[0] = &to->capability;
	to->request.name = text(name);
	to->request.volume_capabilities = to->capabilities;
	to->request.n_volume_capabilities = 1;
	to->request.parameters = to->pointers;
	return &to->request;
}

static void add_parameter(struct built *to, const char *key, const char *value)
{
	size_t at = to->request.n_parameters++;

	csi__v1__create_volume_request__parameters_entry__init(&to->entries[at]);
	to->entries[at].key = text(key);
	to->entries[at].value = text(value);
	to->pointers[at] = &to->entries[at];
}

static int decode(const struct built *built, struct volume_wish *wish, struct err *err)
{
	*err = (struct err){0};
	int result = volume_wish_decode(&built->request, wish, err);

	if (result < 0) {
		assert_int_not_equal(err->text[0], 0);
	}
	return result;
}

/* ---- sizes ---- */

static void test_sizes(void **state)
{
	static const struct {
		int64_t required, limit;
		int result;
		uint64_t size;
	} cases[] = {
		{0, 0, 0, GIB},
		{1, 0, 0, MIB},
		{MIB, MIB, 0, MIB},
		{MIB + 1, 0, 0, 2 * MIB},
		{MIB + 1, 2 * MIB, 0, 2 * MIB},
		{MIB + 1, 2 * MIB - 1, -ERANGE, 0},
		{1, MIB - 1, -ERANGE, 0},
		{0, 100 * MIB, 0, 100 * MIB},
		{0, 100 * MIB + 5, 0, 100 * MIB},
		{0, 5 * GIB, 0, GIB},
		{0, 5, -ERANGE, 0},
		{2, 1, -EINVAL, 0},
		{-1, 0, -EINVAL, 0},
		{0, -1, -EINVAL, 0},
		{64 * TIB, 0, 0, 64 * TIB},
		{64 * TIB + 1, 0, -ERANGE, 0},
		{INT64_MAX, 0, -ERANGE, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct built built = {0};
		struct volume_wish wish;
		struct err err;

		build(&built, "a")->capacity_range = &built.range;
		built.range.required_bytes = cases[i].required;
		built.range.limit_bytes = cases[i].limit;
		if (decode(&built, &wish, &err) != cases[i].result) {
			fail_msg("case %zu: %s", i, err.text);
		}
		if (cases[i].result == 0) {
			assert_int_equal(wish.size_bytes, cases[i].size);
		}
	}
}

/* What mkfs would refuse is refused before there is a volume. */
static void test_size_of_file_system(void **state)
{
	static const struct {
		const char *fs_type;
		uint64_t size;
		int result;
	} cases[] = {
		{"xfs", 300 * MIB - 1, 0}, /* rounded up */
		{"xfs", 299 * MIB, -EDOM},
		{"xfs", 300 * MIB, 0},
		{"ext4", MIB, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct built built = {0};
		struct volume_wish wish;
		struct err err;

		build(&built, "a")->capacity_range = &built.range;
		built.range.required_bytes = (int64_t)cases[i].size;
		built.mount.fs_type = text(cases[i].fs_type);
		assert_int_equal(decode(&built, &wish, &err), cases[i].result);
		if (cases[i].result != 0) {
			assert_non_null(strstr(err.text, "300 MiB"));
		}
	}
}

/* ---- parameters ---- */

static void test_parameters(void **state)
{
	static const struct {
		const char *key, *value;
		const char *why; /* in the text; NULL: it is taken */
	} cases[] = {
		{"replicas", "1", NULL},
		{"replicas", "5", NULL},
		{"replicas", "6", "from 1 to 5"},
		{"replicas", "0", "from 1 to 5"},
		{"replicas", "", "from 1 to 5"},
		{"replicas", "3x", "from 1 to 5"},
		{"replicas", "-1", "from 1 to 5"},
		{"replicas", "999999999999", "from 1 to 5"},
		{"minInsync", "3", NULL},
		{"minInsync", "4", "more than the 3 replicas"},
		{"frontend", "fuse", NULL},
		{"frontend", "", NULL},
		{"frontend", "ublk", "is not offered"},
		{"dataLocality", "best-effort", NULL},
		{"dataLocality", "disabled", NULL},
		{"dataLocality", "strict-local", "not there yet"},
		{"dataLocality", "best", "neither"},
		{"poolSelector", "tier=fast", NULL},
		{"poolSelector", "tier=fast, zone=a,example.org/x=", NULL},
		{"poolSelector", "tier", "key=value"},
		{"poolSelector", "=x", "key=value"},
		{"poolSelector", "a=b,,", "key=value"},
		{"poolSelector", "a=b c", "key=value"},
		{"csi.storage.k8s.io/anything", "x", NULL},
		{"Replicas", "3",
			"there are replicas, minInsync, frontend, poolSelector, dataLocality"},
		{"fsType", "xfs", "unknown"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct built built = {0};
		struct volume_wish wish;
		struct err err;

		(void)build(&built, "a");
		add_parameter(&built, cases[i].key, cases[i].value);
		int result = decode(&built, &wish, &err);

		if (result != (cases[i].why == NULL ? 0 : -EINVAL) ||
			(result < 0 && strstr(err.text, cases[i].why) == NULL)) {
			fail_msg("case %zu: %s", i, err.text);
		}
		volume_wish_done(&wish);
	}
}

static void test_of_a_parameter_that_comes_twice_the_last_counts(void **state)
{
	struct built built = {0};
	struct volume_wish wish;
	struct err err;

	(void)state;
	build(&built, "twice");
	add_parameter(&built, "poolSelector", "tier=fast");
	add_parameter(&built, "poolSelector", "zone=a");
	assert_int_equal(decode(&built, &wish, &err), 0);
	assert_int_equal(json_object_size(wish.class.pool_selector), 1);
	assert_string_equal(kube_text(wish.class.pool_selector, "zone"), "a");
	volume_wish_done(&wish);
}

static void test_a_whole_request_becomes_an_object(void **state)
{
	struct built built = {0};
	struct volume_wish wish;
	struct uuid uuid = {{1}};
	struct err err;
	struct volume_object volume;

	(void)state;
	build(&built, "Name with blanks")->capacity_range = &built.range;
	built.range.required_bytes = 3 * (int64_t)GIB;
	add_parameter(&built, "replicas", "2");
	add_parameter(&built, "minInsync", "1");
	add_parameter(&built, "frontend", "fuse");
	add_parameter(&built, "poolSelector", "tier=fast,zone=a");
	add_parameter(&built, "csi.storage.k8s.io/pvc/name", "data");
	add_parameter(&built, "csi.storage.k8s.io/pvc/namespace", "web");
	csi__v1__topology_requirement__init(&built.topology);
	csi__v1__topology__init(&built.segment);
	csi__v1__topology__segments_entry__init(&built.node);
	built.node.key = text("csi.strake.io/node");
	built.node.value = text("node1");
	built.nodes[0] = &built.node;
	built.segment.segments = built.nodes;
	built.segment.n_segments = 1;
	built.segments[0] = &built.segment;
	built.topology.preferred = built.segments;
	built.topology.n_preferred = 1;
	built.request.accessibility_requirements = &built.topology;
	assert_int_equal(decode(&built, &wish, &err), 0);
	json_t *object = volume_wish_object(&wish, &uuid);

	if (volume_object_decode(object, &volume, &err) < 0) {
		fail_msg("%s", err.text);
	}
	assert_memory_equal(volume.meta.name, "v-", 2);
	assert_true(volume.meta.has_finalizer);
	assert_string_equal(volume.csi_name, "Name with blanks");
	assert_int_equal(volume.size_bytes, 3 * GIB);
	assert_int_equal(volume.replicas, 2);
	assert_int_equal(volume.min_insync, 1);
	assert_string_equal(volume.frontend, "fuse");
	assert_string_equal(volume.preferred_node, "node1");
	assert_string_equal(volume.claim_namespace, "web");
	assert_string_equal(volume.claim_name, "data");
	assert_string_equal(kube_text(volume.pool_selector, "zone"), "a");
	assert_int_equal(json_object_size(volume.pool_selector), 2);
	/* The same request finds it. */
	assert_int_equal(volume_wish_compare(&wish, &volume, &err), 0);
	/* Without locality no node is better than another. */
	volume_wish_done(&wish);
	add_parameter(&built, "dataLocality", "disabled");
	assert_int_equal(decode(&built, &wish, &err), 0);
	assert_string_equal(wish.preferred_node, "");
	volume_wish_done(&wish);
	json_decref(object);
}

/* ---- the same name ---- */

static void test_another_volume_under_the_same_name_is_refused(void **state)
{
	static const struct {
		const char *key, *value;
		int64_t required, limit;
		const char *what; /* NULL: it is the same */
	} cases[] = {
		{"replicas", "3", 2 * (int64_t)GIB, 0, NULL},
		{"replicas", "3", 0, 0, NULL},
		{"replicas", "3", GIB, 2 * (int64_t)GIB, NULL},
		{"replicas", "3", 2 * (int64_t)GIB + 1, 0, "size"},
		{"replicas", "3", GIB, GIB, "size"},
		{"replicas", "2", 0, 0, "replicas"},
		{"minInsync", "1", 0, 0, "minInsync"},
		{"frontend", "fuse", 0, 0, "frontend"},
		{"poolSelector", "a=b", 0, 0, "poolSelector"},
	};
	json_t *object = json_pack("{s:{s:s}, s:{s:s, s:i}}", "metadata", "name", "a", "spec",
		"size", "2Gi", "replicas", 3);
	struct volume_object volume;
	struct err err;

	(void)state;
	assert_int_equal(volume_object_decode(object, &volume, &err), 0);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct built built = {0};
		struct volume_wish wish;

		build(&built, "a")->capacity_range = &built.range;
		built.range.required_bytes = cases[i].required;
		built.range.limit_bytes = cases[i].limit;
		add_parameter(&built, cases[i].key, cases[i].value);
		assert_int_equal(decode(&built, &wish, &err), 0);
		int result = volume_wish_compare(&wish, &volume, &err);

		if (result != (cases[i].what == NULL ? 0 : -EEXIST) ||
			(result < 0 && strstr(err.text, cases[i].what) == NULL)) {
			fail_msg("case %zu: %d %s", i, result, err.text);
		}
		volume_wish_done(&wish);
	}
	json_decref(object);
}

/* ---- what is missing or not offered ---- */

static void test_bad_requests(void **state)
{
	char long_name[CSI_TEXT_MAX + 2];
	struct volume_wish wish;
	struct err err;
	Csi__V1__VolumeContentSource source = CSI__V1__VOLUME_CONTENT_SOURCE__INIT;

	(void)state;
	memset(long_name, 'a', sizeof(long_name));
	long_name[CSI_TEXT_MAX + 1] = '\0';
	for (unsigned i = 0; i < 8; i++) {
		struct built built = {0};

		(void)build(&built, i == 0   ? ""
				    : i == 1 ? long_name
				    : i == 2 ? "a\x01"
				    : i == 3 ? "a\xff"
					     : "a");
		if (i == 4) {
			built.request.n_volume_capabilities = 0;
		} else if (i == 5) {
			built.capability.access_mode = NULL;
		} else if (i == 6) {
			built.request.volume_content_source = &source;
		} else if (i == 7) {
			built.request.n_mutable_parameters = 1;
		}
		if (decode(&built, &wish, &err) != -EINVAL) {
			fail_msg("case %u", i);
		}
		volume_wish_done(&wish);
	}
	struct built built = {0};

	(void)build(&built, "a");
	built.mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER;
	assert_int_equal(decode(&built, &wish, &err), -EDOM);
	volume_wish_done(&wish);
	long_name[CSI_TEXT_MAX] = '\0';
	(void)build(&built, long_name);
	assert_int_equal(decode(&built, &wish, &err), 0);
	assert_true(csi_volume_id_is_possible(wish.name));
	volume_wish_done(&wish);
}

static void test_tokens(void **state)
{
	static const char *const bad[] = {
		"invalid-token", "after:", "after:A", "after:a/b", "1", "after"};
	char token[LIST_TOKEN_SIZE], name[OBJECTS_VOLUME_SIZE];
	struct err err;

	(void)state;
	list_token_make("pvc-1", token);
	assert_int_equal(list_token_decode(token, name, &err), 0);
	assert_string_equal(name, "pvc-1");
	assert_int_equal(list_token_decode("", name, &err), 0);
	assert_string_equal(name, "");
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(list_token_decode(bad[i], name, &err), -ESTALE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_size_of_file_system),
		cmocka_unit_test(test_parameters),
		cmocka_unit_test(test_of_a_parameter_that_comes_twice_the_last_counts),
		cmocka_unit_test(test_a_whole_request_becomes_an_object),
		cmocka_unit_test(test_another_volume_under_the_same_name_is_refused),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
