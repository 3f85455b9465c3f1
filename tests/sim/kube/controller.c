/* SPDX-License-Identifier: Apache-2.0 */
/* csi-controller's life, and external-attacher's calls. */
#include "csi-controller/controller.h"

#include "csi-controller/service.h"
#include "tests/sim/kube/side.h"

#include <assert.h>
#include <stdlib.h>

static int64_t wall_clock_s(void)
{
	return SIM_LOOP_WALL_S + (int64_t)(sim_loop_clock_ms() / 1000);
}

void controller_process_start(struct process *process)
{
	struct kube_side *side = process->side;
	struct controller *controller = calloc(1, sizeof(*controller));
	struct err err = {0};

	assert(controller != NULL);
	process->kube = fake_kube_new(&side->server, process->loop, &side->rng);
	process->program = controller;

	struct controller_options options = {.kube = process->kube,
		.log = &process->log,
		.namespace = "strake",
		.identity = "sim",
		.overcommit_percent = 100,
		.replace_after_s = (unsigned)side->world.replace_after_s,
		.seed = rng_u64(&side->rng),
		.now_s = wall_clock_s};
	int result = controller_start(controller, &options, &err);

	assert(result == 0);
	fake_kube_lead(process->kube, true);
}

static void stopped(void *ctx)
{
	*(bool *)ctx = true;
}

/* Between any two steps: what it had sent may be executed all the same. */
void controller_process_kill(struct process *process)
{
	struct controller *controller = process->program;
	bool is_stopped = false;

	controller_stop_waiting(controller);
	fake_kube_drop_requests(process->kube);
	controller_stop(controller, stopped, &is_stopped);
	assert(is_stopped);
	fake_kube_free(process->kube);
	free(controller);
	process->program = NULL;
}

static void publish(struct grpc_call *grpc, char *node_name)
{
	Csi__V1__ControllerPublishVolumeRequest request =
		CSI__V1__CONTROLLER_PUBLISH_VOLUME_REQUEST__INIT;
	Csi__V1__VolumeCapability capability = CSI__V1__VOLUME_CAPABILITY__INIT;
	Csi__V1__VolumeCapability__AccessMode mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__INIT;
	Csi__V1__VolumeCapability__BlockVolume block =
		CSI__V1__VOLUME_CAPABILITY__BLOCK_VOLUME__INIT;
	char volume[] = KUBE_VOLUME;

	mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
	capability.access_mode = &mode;
	capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
	capability.block = &block;
	request.volume_id = volume;
	request.node_id = node_name;
	request.volume_capability = &capability;
	service_publish_volume(grpc, &request.base);
}

static void unpublish(struct grpc_call *grpc, char *node_name)
{
	Csi__V1__ControllerUnpublishVolumeRequest request =
		CSI__V1__CONTROLLER_UNPUBLISH_VOLUME_REQUEST__INIT;
	char volume[] = KUBE_VOLUME;

	request.volume_id = volume;
	request.node_id = node_name;
	service_unpublish_volume(grpc, &request.base);
}

void controller_call(
	struct process *process, enum kube_call call, struct grpc_call *grpc, const char *node_name)
{
	char name[8];

	(void)snprintf(name, sizeof(name), "%s", node_name);
	grpc->ctx = process->program;
	if (call == KUBE_CALL_PUBLISH) {
		publish(grpc, name);
	} else {
		unpublish(grpc, name);
	}
}
