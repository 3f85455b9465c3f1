/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/daemons.h"

#include "base/bytes.h"
#include "grpc/grpc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CONNECT_MS 3000
/* A daemon answers such a question at once, or is not well. */
#define LOOK_MS 5000
/* Formatting a large disk and erasing a large replica are the slowest. */
#define CHANGE_MS 60000

#define METHOD(service, name, request_type, response_type)                                         \
	{"/strake.v1." service "/" name, &strake__v1__##request_type##__descriptor,                \
		&strake__v1__##response_type##__descriptor, NULL}

enum method {
	GET_AGENT,
	LIST_POOLS,
	LIST_REPLICAS,
	CREATE_POOL,
	DELETE_POOL,
	CREATE_REPLICA,
	DELETE_REPLICA,
};

static const struct grpc_method methods[] = {
	[GET_AGENT] = METHOD("PoolAgent", "GetAgent", get_agent_request, agent),
	[LIST_POOLS] = METHOD("PoolAgent", "ListPools", list_pools_request, list_pools_response),
	[LIST_REPLICAS] =
		METHOD("PoolAgent", "ListReplicas", list_replicas_request, list_replicas_response),
	[CREATE_POOL] = METHOD("PoolAgent", "CreatePool", create_pool_request, pool),
	[DELETE_POOL] =
		METHOD("PoolAgent", "DeletePool", delete_pool_request, delete_pool_response),
	[CREATE_REPLICA] = METHOD("PoolAgent", "CreateReplica", create_replica_request, replica),
	[DELETE_REPLICA] = METHOD(
		"PoolAgent", "DeleteReplica", delete_replica_request, delete_replica_response),
};

void daemon_message_free(void *message)
{
	if (message != NULL) {
		protobuf_c_message_free_unpacked(message, NULL);
	}
}

uint64_t monotonic_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* protobuf-c's strings are not const; it does not write to them. */
static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

/* NULL after a failure. */
static void *call(struct grpc_client *client, enum method method, const ProtobufCMessage *request,
	unsigned timeout_ms, struct err *err)
{
	ProtobufCMessage *response = NULL;

	return grpc_client_call(client, &methods[method], request, timeout_ms, &response, err) == 0
		       ? response
		       : NULL;
}

/* ---- looking ---- */

void agent_view_done(struct agent_view *view)
{
	daemon_message_free(view->agent);
	daemon_message_free(view->pools);
	daemon_message_free(view->replicas);
	*view = (struct agent_view){0};
}

int agent_look(const char *socket, struct agent_view *ret_view, struct err *err)
{
	Strake__V1__GetAgentRequest agent = STRAKE__V1__GET_AGENT_REQUEST__INIT;
	Strake__V1__ListPoolsRequest pools = STRAKE__V1__LIST_POOLS_REQUEST__INIT;
	Strake__V1__ListReplicasRequest replicas = STRAKE__V1__LIST_REPLICAS_REQUEST__INIT;
	struct grpc_client *client;

	*ret_view = (struct agent_view){0};
	if (grpc_client_new(socket, CONNECT_MS, &client, err) < 0) {
		return err_prefix(err, "pool-agent");
	}
	ret_view->agent = call(client, GET_AGENT, &agent.base, LOOK_MS, err);
	if (ret_view->agent != NULL) {
		ret_view->pools = call(client, LIST_POOLS, &pools.base, LOOK_MS, err);
	}
	/* Last: a pool that is online here was so before its replicas were listed. */
	if (ret_view->pools != NULL) {
		ret_view->replicas = call(client, LIST_REPLICAS, &replicas.base, LOOK_MS, err);
	}
	grpc_client_free(client);
	if (ret_view->replicas == NULL) {
		agent_view_done(ret_view);
		return err_prefix(err, "pool-agent");
	}
	return 0;
}

/* ---- changing ---- */

static int change(
	const char *socket, enum method method, const ProtobufCMessage *request, struct err *err)
{
	struct grpc_client *client;
	void *response;
	int result = grpc_client_new(socket, CONNECT_MS, &client, err);

	if (result < 0) {
		/* Nothing of what was asked for is the reason. */
		err->code = -EAGAIN;
		return err_prefix(err, "pool-agent");
	}
	response = call(client, method, request, CHANGE_MS, err);
	grpc_client_free(client);
	if (response == NULL) {
		return err->code;
	}
	daemon_message_free(response);
	return 0;
}

int agent_create_pool(const char *socket, const struct agent_wish *wish, struct err *err)
{
	Strake__V1__CreatePoolRequest request = STRAKE__V1__CREATE_POOL_REQUEST__INIT;

	request.name = text_of(wish->pool);
	request.disk = text_of(wish->disk);
	request.size_bytes = wish->size_bytes;
	request.wipe = wish->wipe;
	return change(socket, CREATE_POOL, &request.base, err);
}

int agent_delete_pool(const char *socket, const char *pool, struct err *err)
{
	Strake__V1__DeletePoolRequest request = STRAKE__V1__DELETE_POOL_REQUEST__INIT;

	request.name = text_of(pool);
	request.forget = true;
	int result = change(socket, DELETE_POOL, &request.base, err);

	return result == -ENOENT ? 0 : result;
}

int agent_create_replica(const char *socket, const struct agent_wish *wish, struct err *err)
{
	Strake__V1__CreateReplicaRequest request = STRAKE__V1__CREATE_REPLICA_REQUEST__INIT;
	char replica[UUID_TEXT_SIZE], volume_uuid[UUID_TEXT_SIZE];

	request.pool = text_of(wish->pool);
	request.uuid = uuid_to_text(&wish->replica, replica);
	request.volume_name = text_of(wish->volume);
	request.volume_uuid = uuid_to_text(&wish->volume_uuid, volume_uuid);
	request.size_bytes = wish->size_bytes;
	request.kind = text_of(wish->is_arbiter ? "arbiter" : "data");
	if (wish->key_number != 0) {
		request.key_number = wish->key_number;
		request.key =
			(ProtobufCBinaryData){sizeof(wish->key), (uint8_t *)(uintptr_t)wish->key};
	}
	return change(socket, CREATE_REPLICA, &request.base, err);
}

int agent_delete_replica(const char *socket, const struct uuid *replica, struct err *err)
{
	Strake__V1__DeleteReplicaRequest request = STRAKE__V1__DELETE_REPLICA_REQUEST__INIT;
	char text[UUID_TEXT_SIZE];

	request.uuid = uuid_to_text(replica, text);
	int result = change(socket, DELETE_REPLICA, &request.base, err);

	return result == -ENOENT ? 0 : result;
}
