/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC service PoolAgent: the table of its methods, and those that only look. */
#include "base/bytes.h"
#include "pool-agent/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void handle_get_agent(struct grpc_call *call, const ProtobufCMessage *request)
{
	struct control *control = grpc_call_ctx(call);
	Strake__V1__Agent reply = STRAKE__V1__AGENT__INIT;
	char id[UUID_TEXT_SIZE];
	char nqn[NVME_NQN_SIZE];
	char address[IO_ADDRESS_TEXT_SIZE];
	char version[] = STRAKE_VERSION;
	char io[160];

	(void)request;
	snprintf(io, sizeof(io), "%s", daemon_io_text(control->daemon));
	reply.uuid = uuid_to_text(&control->uuid, id);
	reply.address = io_address_to_text(&control->address, address);
	reply.nqn = nqn;
	control_nqn(control, nqn);
	reply.version = version;
	reply.io = io;
	reply.io_flusher = daemon_has_io_flusher(control->daemon);
	grpc_call_reply(call, &reply.base);
}

/* ---- ListPools ---- */

struct pools_job {
	struct job job;
	bool has_info[AGENT_POOLS_MAX];
	struct store_info info[AGENT_POOLS_MAX];
};

static void pools_step(struct task *task)
{
	struct pools_job *pj = container_of(task, struct pools_job, job.task);

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct store *store = pj->job.control->pools[i].store;

		pj->has_info[i] = store != NULL;
		if (store != NULL) {
			store_get_info(store, &pj->info[i]);
		}
	}
	job_end(&pj->job);
}

static const char *pool_state_text(const struct pool *pool, bool failed)
{
	if (pool->state == POOL_FAULTED || failed) {
		return "Faulted";
	}
	if (pool->phase == POOL_DELETING) {
		return "Deleting";
	}
	return pool->state == POOL_OPENING ? "Opening" : "Online";
}

void pool_text_fill(struct control *control, struct pool *pool, const struct store_info *info,
	struct pool_text *ret_text)
{
	bool failed = info != NULL && info->failed;

	strake__v1__pool__init(&ret_text->message);
	snprintf(ret_text->state, sizeof(ret_text->state), "%s", pool_state_text(pool, failed));
	ret_text->reason[0] = 0;
	if (pool->state == POOL_FAULTED) {
		snprintf(ret_text->reason, sizeof(ret_text->reason), "%s", pool->reason.text);
	} else if (failed) {
		snprintf(ret_text->reason, sizeof(ret_text->reason), "%s", POOL_STORE_FAILED_TEXT);
	}
	ret_text->message.name = pool->name;
	ret_text->message.disk = pool->disk;
	ret_text->message.uuid = uuid_to_text(&pool->uuid, ret_text->uuid);
	ret_text->message.agent = uuid_to_text(&control->uuid, ret_text->agent);
	ret_text->message.state = ret_text->state;
	ret_text->message.reason = ret_text->reason;
	if (info != NULL) {
		ret_text->message.capacity_bytes = info->size_bytes;
		ret_text->message.used_bytes = info->used_bytes;
		ret_text->message.reclaiming_bytes = info->reclaiming_bytes;
		ret_text->message.replicas = info->replica_count;
	}
}

static void pools_reply(struct pools_job *pj, struct pool_text *texts)
{
	const Strake__V1__ListPoolsRequest *request = (const void *)grpc_call_request(pj->job.call);
	Strake__V1__ListPoolsResponse reply = STRAKE__V1__LIST_POOLS_RESPONSE__INIT;
	Strake__V1__Pool *pools[AGENT_POOLS_MAX];

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct pool *pool = &pj->job.control->pools[i];

		if (!pool->used || pool->is_dropped ||
			(request->name[0] != 0 && strcmp(pool->name, request->name) != 0)) {
			continue;
		}
		pool_text_fill(
			pj->job.control, pool, pj->has_info[i] ? &pj->info[i] : NULL, &texts[i]);
		pools[reply.n_pools++] = &texts[i].message;
	}
	if (reply.n_pools == 0 && request->name[0] != 0) {
		grpc_call_failf(
			pj->job.call, -ENOENT, "pool %s: not on this pool-agent", request->name);
		return;
	}
	reply.pools = pools;
	grpc_call_reply(pj->job.call, &reply.base);
}

static void pools_finish(struct job *job)
{
	struct pools_job *pj = container_of(job, struct pools_job, job);
	struct pool_text *texts = calloc(AGENT_POOLS_MAX, sizeof(*texts));

	if (texts == NULL) {
		grpc_call_failf(job->call, -ENOMEM, "out of memory");
	} else {
		pools_reply(pj, texts);
	}
	free(texts);
	free(pj);
}

static void handle_list_pools(struct grpc_call *call, const ProtobufCMessage *request)
{
	struct pools_job *pj = calloc(1, sizeof(*pj));

	(void)request;
	if (pj == NULL) {
		grpc_call_failf(call, -ENOMEM, "out of memory");
		return;
	}
	job_init(&pj->job, grpc_call_ctx(call), call, pools_step, pools_finish);
	job_look(&pj->job);
}

/* ---- the table ---- */

static void handle_create_pool(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	pool_create(call);
}

static void handle_delete_pool(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	pool_delete(call);
}

static void handle_create_replica(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	replica_create(call);
}

static void handle_list_replicas(struct grpc_call *call, const ProtobufCMessage *request)
{
	const Strake__V1__ListReplicasRequest *list = (const void *)request;

	replicas_list(call, list->pool, list->volume_name, list->uuid);
}

static void handle_delete_replica(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	replica_delete(call);
}

static void handle_set_replica_key(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	replica_set_key(call);
}

static void handle_recover_replica(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	replica_recover(call);
}

static void handle_fence_replica(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	replica_fence(call);
}

static void handle_export_replica(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	replica_export(call);
}

static void handle_unexport_replica(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	replica_unexport(call);
}

#define METHOD(name, request_type, response_type, function)                                        \
	{"/strake.v1.PoolAgent/" name, &strake__v1__##request_type##__descriptor,                  \
		&strake__v1__##response_type##__descriptor, function}

const struct grpc_method control_methods[] = {
	METHOD("GetAgent", get_agent_request, agent, handle_get_agent),
	METHOD("CreatePool", create_pool_request, pool, handle_create_pool),
	METHOD("DeletePool", delete_pool_request, delete_pool_response, handle_delete_pool),
	METHOD("ListPools", list_pools_request, list_pools_response, handle_list_pools),
	METHOD("CreateReplica", create_replica_request, replica, handle_create_replica),
	METHOD("ListReplicas", list_replicas_request, list_replicas_response, handle_list_replicas),
	METHOD("DeleteReplica", delete_replica_request, delete_replica_response,
		handle_delete_replica),
	METHOD("SetReplicaKey", set_replica_key_request, replica, handle_set_replica_key),
	METHOD("RecoverReplica", recover_replica_request, replica, handle_recover_replica),
	METHOD("FenceReplica", fence_replica_request, replica, handle_fence_replica),
	METHOD("ExportReplica", export_replica_request, export_replica_response,
		handle_export_replica),
	METHOD("UnexportReplica", unexport_replica_request, unexport_replica_response,
		handle_unexport_replica),
};
const size_t control_method_count = ARRAY_COUNT(control_methods);
