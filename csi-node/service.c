/* SPDX-License-Identifier: Apache-2.0 */
/* The methods' table, what has no volume, and what all calls have. */
#include "csi-node/service.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a client that gave none; and what is left of it for the answer. */
#define DEADLINE_MS  120000
#define ANSWER_MS    1000
#define DEADLINE_MIN 500

/* ---- jobs ---- */

void *service_job_new(struct grpc_call *call, const char *volume, const char *what, size_t size)
{
	struct node *node = grpc_call_ctx(call);
	struct service_job *job = must_alloc(size);
	uint64_t left_ms = min_u64(grpc_call_left_ms(call), DEADLINE_MS);
	struct err err = {0};

	if (op_begin(node, &job->op, volume, what, &err) < 0) {
		grpc_call_fail(call, &err);
		free(job);
		return NULL;
	}
	job->node = node;
	job->call = call;
	job->what = what;
	job->end_ms = monotonic_ms() +
		      (left_ms > ANSWER_MS + DEADLINE_MIN ? left_ms - ANSWER_MS : DEADLINE_MIN);
	(void)snprintf(
		job->nexus_socket, sizeof(job->nexus_socket), "%s", node->options.nexus_socket);
	return job;
}

void service_job_run(
	struct service_job *job, void (*run)(struct work *work), void (*done)(struct work *work))
{
	job->work.run = run;
	job->work.done = done;
	workers_submit(job->node->volume_workers, &job->work);
}

void service_job_fail(struct service_job *job)
{
	log_warning(job->node->log, "node", "call-failed", "volume=%s call=%s code=%s error=%s",
		job->op.volume, job->what, grpc_code_name(grpc_code_from_errno(job->err.code)),
		job->err.text);
	op_end(job->node, &job->op);
	grpc_call_fail(job->call, &job->err);
	free(job);
}

void service_job_reply(struct service_job *job, const ProtobufCMessage *response)
{
	log_info(job->node->log, "node", "call-done", "volume=%s call=%s", job->op.volume,
		job->what);
	op_end(job->node, &job->op);
	grpc_call_reply(job->call, response);
	free(job);
}

void service_api_error(const struct err *why, struct err *ret_err)
{
	(void)err_set(ret_err, -EAGAIN, "the Kubernetes API: %s", why->text);
}

/* ---- without a volume ---- */

static void probe(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	/* That caches are still being read does not stop what the kubelet may ask for. */
	csi_probe_reply(call, true);
}

static void get_capabilities(struct grpc_call *call, const ProtobufCMessage *request)
{
	static const Csi__V1__NodeServiceCapability__RPC__Type types[] = {
		CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME,
		CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME_STATS,
		CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER,
	};
	Csi__V1__NodeServiceCapability__RPC rpcs[ARRAY_COUNT(types)];
	Csi__V1__NodeServiceCapability capabilities[ARRAY_COUNT(types)];
	Csi__V1__NodeServiceCapability *pointers[ARRAY_COUNT(types)];
	Csi__V1__NodeGetCapabilitiesResponse response =
		CSI__V1__NODE_GET_CAPABILITIES_RESPONSE__INIT;

	(void)request;
	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		csi__v1__node_service_capability__rpc__init(&rpcs[i]);
		rpcs[i].type = types[i];
		csi__v1__node_service_capability__init(&capabilities[i]);
		capabilities[i].type_case = CSI__V1__NODE_SERVICE_CAPABILITY__TYPE_RPC;
		capabilities[i].rpc = &rpcs[i];
		pointers[i] = &capabilities[i];
	}
	response.capabilities = pointers;
	response.n_capabilities = ARRAY_COUNT(types);
	grpc_call_reply(call, &response.base);
}

static void get_info(struct grpc_call *call, const ProtobufCMessage *request)
{
	const struct node *node = grpc_call_ctx(call);
	Csi__V1__NodeGetInfoResponse response = CSI__V1__NODE_GET_INFO_RESPONSE__INIT;
	Csi__V1__Topology topology = CSI__V1__TOPOLOGY__INIT;
	Csi__V1__Topology__SegmentsEntry segment = CSI__V1__TOPOLOGY__SEGMENTS_ENTRY__INIT;
	Csi__V1__Topology__SegmentsEntry *segments[] = {&segment};
	char key[] = OBJECTS_TOPOLOGY_NODE;

	(void)request;
	segment.key = key;
	segment.value = (char *)(uintptr_t)node->options.name;
	topology.segments = segments;
	topology.n_segments = ARRAY_COUNT(segments);
	response.node_id = (char *)(uintptr_t)node->options.name;
	response.max_volumes_per_node = node->options.volumes_max;
	response.accessible_topology = &topology;
	grpc_call_reply(call, &response.base);
}

static void expand(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	grpc_call_failf(call, -EOPNOTSUPP, "volumes cannot be resized yet");
}

#define METHOD(name, request_type, response_type, handler)                                         \
	{"/csi.v1.Node/" name, &csi__v1__##request_type##__descriptor,                             \
		&csi__v1__##response_type##__descriptor, handler}

const struct grpc_method service_methods[] = {
	CSI_IDENTITY_METHODS(probe),
	METHOD("NodeStageVolume", node_stage_volume_request, node_stage_volume_response,
		service_stage),
	METHOD("NodeUnstageVolume", node_unstage_volume_request, node_unstage_volume_response,
		service_unstage),
	METHOD("NodePublishVolume", node_publish_volume_request, node_publish_volume_response,
		service_publish),
	METHOD("NodeUnpublishVolume", node_unpublish_volume_request, node_unpublish_volume_response,
		service_unpublish),
	METHOD("NodeGetVolumeStats", node_get_volume_stats_request, node_get_volume_stats_response,
		service_stats),
	METHOD("NodeExpandVolume", node_expand_volume_request, node_expand_volume_response, expand),
	METHOD("NodeGetCapabilities", node_get_capabilities_request, node_get_capabilities_response,
		get_capabilities),
	METHOD("NodeGetInfo", node_get_info_request, node_get_info_response, get_info),
};
const size_t service_method_count = ARRAY_COUNT(service_methods);
