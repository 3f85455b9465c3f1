/* SPDX-License-Identifier: Apache-2.0 */
/* A csi-node's life, and its kubelet's calls. */
#include "csi-node/node.h"

#include "csi-node/service.h"
#include "tests/sim/kube/side.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(KUBE_SEAL_KEY_BYTES == SEAL_KEY_BYTES, "one kind of key");

#define STAGING_PATH "/var/lib/kubelet/plugins/staging"

static void ready(void *ctx)
{
	(void)ctx;
}

void node_process_start(struct process *process)
{
	struct node *node = calloc(1, sizeof(*node));
	struct err err = {0};

	assert(node != NULL);
	process->kube = fake_kube_new(&process->side->server, process->loop, &process->side->rng);
	process->program = node;

	struct node_options options = {.loop = process->loop,
		.kube = process->kube,
		.log = &process->log,
		.name = process->node_name,
		/* Not a path: cluster_daemons.c knows the node by it. */
		.nexus_socket = process->socket,
		.agent_socket = process->socket,
		.sealing_key = process->sealing_key,
		.ready = ready};
	int result = node_start(node, &options, &err);

	assert(result == 0);
}

static void stopped(void *ctx)
{
	*(bool *)ctx = true;
}

/* What its threads have begun is carried out; of what it had sent some is executed. */
void node_process_kill(struct process *process)
{
	struct node *node = process->program;
	bool is_stopped = false;

	node_stop(node, stopped, &is_stopped);
	do {
		fake_kube_drop_requests(process->kube);
	} while (sim_loop_work(process->loop));
	sim_loop_run_timers(process->loop);
	assert(is_stopped);
	fake_kube_free(process->kube);
	free(node);
	process->program = NULL;
}

static void stage(struct grpc_call *grpc, int64_t attach_number)
{
	Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;
	Csi__V1__NodeStageVolumeRequest__PublishContextEntry entry =
		CSI__V1__NODE_STAGE_VOLUME_REQUEST__PUBLISH_CONTEXT_ENTRY__INIT;
	Csi__V1__NodeStageVolumeRequest__PublishContextEntry *entries[] = {&entry};
	Csi__V1__VolumeCapability capability = CSI__V1__VOLUME_CAPABILITY__INIT;
	Csi__V1__VolumeCapability__AccessMode mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__INIT;
	Csi__V1__VolumeCapability__BlockVolume block =
		CSI__V1__VOLUME_CAPABILITY__BLOCK_VOLUME__INIT;
	char volume[] = KUBE_VOLUME, path[] = STAGING_PATH, key[] = CSI_ATTACH_KEY, number[24];

	(void)snprintf(number, sizeof(number), "%lld", (long long)attach_number);
	entry.key = key;
	entry.value = number;
	mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
	capability.access_mode = &mode;
	capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
	capability.block = &block;
	request.volume_id = volume;
	request.staging_target_path = path;
	request.volume_capability = &capability;
	request.publish_context = entries;
	request.n_publish_context = 1;
	service_stage(grpc, &request.base);
}

static void unstage(struct grpc_call *grpc)
{
	Csi__V1__NodeUnstageVolumeRequest request = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;
	char volume[] = KUBE_VOLUME, path[] = STAGING_PATH;

	request.volume_id = volume;
	request.staging_target_path = path;
	service_unstage(grpc, &request.base);
}

void node_call(
	struct process *process, enum kube_call call, struct grpc_call *grpc, int64_t attach_number)
{
	grpc->ctx = process->program;
	if (call == KUBE_CALL_STAGE) {
		stage(grpc, attach_number);
	} else {
		unstage(grpc);
	}
}
