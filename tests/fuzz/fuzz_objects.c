/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What csi-controller and csi-node read from outside: objects of the API server (JSON) and CSI
 * requests (protobuf).  The first byte says which.  What is accepted must hold what others rely on.
 */
#include "base/bytes.h"
#include "csi-controller/request.h"
#include "csi-node/request.h"
#include "kube/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

/* Refused with a reason, or taken. */
static bool is_taken(int result, const struct err *err)
{
	require(result == 0 || (result < 0 && err->code == result && err->text[0] != '\0'));
	return result == 0;
}

/* ---- objects ---- */

static bool is_size(uint64_t bytes)
{
	return bytes >= OBJECTS_SIZE_MIN && bytes <= OBJECTS_SIZE_MAX &&
	       bytes % OBJECTS_SIZE_UNIT == 0;
}

static void check_pool(const json_t *json)
{
	struct pool_object pool;
	struct err err = {0};

	if (is_taken(pool_object_decode(json, &pool, &err), &err)) {
		require(pool.meta.name[0] != '\0' && pool.node[0] != '\0');
		require(strncmp(pool.disk, "/dev/", 5) == 0 ||
			strncmp(pool.disk, "file:///", 8) == 0);
		require(pool_state_name(pool.state)[0] != '?');
	}
}

static void check_replica(const json_t *json)
{
	struct replica_object replica;
	struct err err = {0};

	if (is_taken(replica_object_decode(json, &replica, &err), &err)) {
		require(replica.meta.name[0] != '\0' && replica.volume[0] != '\0');
		require(replica.pool[0] != '\0' && replica.node[0] != '\0');
		require(replica.is_arbiter ? replica.size_bytes == 0 : is_size(replica.size_bytes));
		require(replica_state_name(replica.state)[0] != '?');
	}
}

static void check_volume(const json_t *json)
{
	struct volume_object volume;
	char name[OBJECTS_NAME_SIZE];
	struct err err = {0};

	if (is_taken(volume_object_decode(json, &volume, &err), &err)) {
		require(volume.meta.name[0] != '\0' && is_size(volume.size_bytes));
		require(volume.replicas >= 1 && volume.replicas <= OBJECTS_REPLICAS_MAX);
		require(volume.min_insync <= volume.replicas);
		require(volume.nexus.replica_count <= OBJECTS_VOTERS_MAX);
		require(volume_state_name(volume.state)[0] != '?');
		replica_name_make(volume.meta.name, &volume.uuid, 0, name);
	}
}

static void check_snapshot(const json_t *json)
{
	struct snapshot_object snapshot;
	struct err err = {0};

	if (is_taken(snapshot_object_decode(json, &snapshot, &err), &err)) {
		require(snapshot.meta.name[0] != '\0' && snapshot.volume[0] != '\0');
		require(snapshot_state_name(snapshot.state)[0] != '?');
	}
}

static void check_json(void (*check)(const json_t *json), const uint8_t *data, size_t size)
{
	struct err err = {0};
	json_t *json = kube_json_parse((const char *)data, size, &err);

	if (json != NULL) {
		check(json);
	}
	json_decref(json);
}

/* ---- requests of the Controller service ---- */

/* The object that is made of it is one that is taken, and what was asked for. */
static void check_wish(const struct volume_wish *wish)
{
	static const struct uuid uuid = {.b = {1}};
	json_t *object = volume_wish_object(wish, &uuid);
	struct volume_object volume;
	struct err err = {0};

	require(csi_volume_id_is_possible(wish->name) && is_size(wish->size_bytes));
	require(is_taken(volume_object_decode(object, &volume, &err), &err));
	require(strcmp(volume.meta.name, wish->name) == 0);
	require(volume.size_bytes == wish->size_bytes);
	require(strcmp(volume.preferred_node, wish->preferred_node) == 0);
	require(strcmp(volume.claim_name, wish->claim_name) == 0);
	require(is_taken(volume_wish_compare(wish, &volume, &err), &err));
	json_decref(object);
}

static void check_create(const ProtobufCMessage *request)
{
	struct volume_wish wish;
	struct err err = {0};

	if (is_taken(volume_wish_decode((const void *)request, &wish, &err), &err)) {
		check_wish(&wish);
		volume_wish_done(&wish);
	}
}

static void check_list(const ProtobufCMessage *message)
{
	const Csi__V1__ListVolumesRequest *request = (const void *)message;
	char last[OBJECTS_VOLUME_SIZE], token[LIST_TOKEN_SIZE];
	struct err err = {0};

	if (is_taken(list_token_decode(request->starting_token, last, &err), &err) &&
		last[0] != '\0') {
		list_token_make(last, token);
		require(strcmp(token, request->starting_token) == 0);
	}
}

/* ---- requests of the Node service ---- */

static void require_path(const char *path)
{
	require(path[0] == '/' && path[1] != '\0' && strstr(path, "/../") == NULL);
}

static void check_stage(const ProtobufCMessage *request)
{
	struct stage_wish wish;
	struct err err = {0};

	if (is_taken(stage_wish_decode((const void *)request, &wish, &err), &err)) {
		require(csi_volume_id_is_possible(wish.volume));
		require_path(wish.staging_path);
		require(wish.use.is_block || wish.use.fs_type[0] != '\0');
	}
}

static void check_publish(const ProtobufCMessage *request)
{
	struct publish_wish wish;
	struct err err = {0};

	if (is_taken(publish_wish_decode((const void *)request, &wish, &err), &err)) {
		require(csi_volume_id_is_possible(wish.volume));
		require_path(wish.staging_path);
		require_path(wish.target_path);
		require(wish.is_read_only || !wish.use.is_read_only);
	}
}

static void check_path_wish(int result, const struct path_wish *wish, const struct err *err)
{
	if (is_taken(result, err)) {
		require(csi_volume_id_is_possible(wish->volume));
		require_path(wish->path);
	}
}

static void check_unstage(const ProtobufCMessage *request)
{
	struct path_wish wish;
	struct err err = {0};
	int result = unstage_wish_decode((const void *)request, &wish, &err);

	check_path_wish(result, &wish, &err);
}

static void check_unpublish(const ProtobufCMessage *request)
{
	struct path_wish wish;
	struct err err = {0};
	int result = unpublish_wish_decode((const void *)request, &wish, &err);

	check_path_wish(result, &wish, &err);
}

static void check_stats(const ProtobufCMessage *request)
{
	struct path_wish wish;
	struct err err = {0};
	int result = stats_wish_decode((const void *)request, &wish, &err);

	check_path_wish(result, &wish, &err);
}

/* ---- which ---- */

static void (*const objects[])(const json_t *json) = {
	check_pool, check_volume, check_replica, check_snapshot};

#define REQUEST(name, check) {&csi__v1__##name##_request__descriptor, check}

static const struct {
	const ProtobufCMessageDescriptor *descriptor;
	void (*check)(const ProtobufCMessage *request);
} requests[] = {
	REQUEST(create_volume, check_create),
	REQUEST(list_volumes, check_list),
	REQUEST(node_stage_volume, check_stage),
	REQUEST(node_publish_volume, check_publish),
	REQUEST(node_unstage_volume, check_unstage),
	REQUEST(node_unpublish_volume, check_unpublish),
	REQUEST(node_get_volume_stats, check_stats),
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) {
		return 0;
	}
	/* '0' is the first. */
	size_t which = (uint8_t)(data[0] - '0') % (ARRAY_COUNT(objects) + ARRAY_COUNT(requests));

	if (which < ARRAY_COUNT(objects)) {
		check_json(objects[which], data + 1, size - 1);
		return 0;
	}
	which -= ARRAY_COUNT(objects);
	ProtobufCMessage *request =
		protobuf_c_message_unpack(requests[which].descriptor, NULL, size - 1, data + 1);

	if (request != NULL) {
		requests[which].check(request);
		protobuf_c_message_free_unpacked(request, NULL);
	}
	return 0;
}
