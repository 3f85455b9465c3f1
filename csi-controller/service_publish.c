/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ControllerPublishVolume and ControllerUnpublishVolume: status.attachment, changed by a JSON patch
 * that tests what was read.  The first attachment tests the whole version: it must not pass by a
 * plan that replaces replicas (plan_volume.h).
 */
#include "base/mutant.h"
#include "csi-controller/attachment.h"
#include "csi-controller/service.h"
#include "csi-controller/wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_MAX 20

struct job {
	struct kube_request request;
	struct grpc_call *call;
	struct controller *controller;
	char name[OBJECTS_VOLUME_SIZE];
	char node[OBJECTS_NAME_SIZE]; /* "" in an Unpublish of wherever it is */
	bool is_read_only;
	bool is_node_known; /* was asked for when the cache did not have it */
	unsigned tries;
	/* What to do when the Volume was read, or a test was lost. */
	void (*go_on)(struct job *job);
};

static struct job *job_new(struct grpc_call *call, const char *name, const char *node)
{
	struct job *job = must_alloc(sizeof(*job));

	job->call = call;
	job->controller = grpc_call_ctx(call);
	(void)snprintf(job->name, sizeof(job->name), "%s", name);
	(void)snprintf(job->node, sizeof(job->node), "%s", node);
	return job;
}

static void job_fail(struct job *job, const struct err *err)
{
	grpc_call_fail(job->call, err);
	free(job);
}

/* ---- requests ---- */

static void job_read(struct job *job);

static void volume_read(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);

	if (request->result == 0) {
		kube_cache_absorb(job->controller->caches[CACHE_VOLUMES], request->response);
	} else if (request->result != -ENOENT) {
		service_fail_again(job->call, &request->err);
		free(job);
		return;
	}
	/* Gone: the cache knows it too, or will. */
	job->go_on(job);
}

static void job_read(struct job *job)
{
	job->request = (struct kube_request){
		.verb = KUBE_GET, .kind = &objects_volumes, .name = job->name, .done = volume_read};
	kube_send(job->controller->kube, &job->request);
}

/* True: the patch was refused, and the job goes on otherwise or is over. */
static bool is_patch_lost(struct job *job)
{
	struct kube_request *request = &job->request;
	struct err err = {0};

	if (request->result == -ESTALE || request->result == -EAGAIN) {
		if (++job->tries < TRIES_MAX) {
			job_read(job);
		} else {
			(void)err_set(&err, -EALREADY, "volume %s changes all the time", job->name);
			job_fail(job, &err);
		}
		return true;
	}
	if (request->result < 0) {
		service_fail_again(job->call, &request->err);
		free(job);
		return true;
	}
	kube_cache_absorb(job->controller->caches[CACHE_VOLUMES], request->response);
	return false;
}

/* Sets status.attachment, if it is still what the object says. */
static void job_patch(struct job *job, const json_t *object, json_int_t number, const char *node,
	bool is_read_only, void (*done)(struct kube_request *request))
{
	json_t *body = attachment_patch(
		job->controller, object, &(struct attachment){number, node, is_read_only});

	job->request = (struct kube_request){.verb = KUBE_JSON_PATCH,
		.kind = &objects_volumes,
		.name = job->name,
		.subresource = "status",
		.body = body,
		.timeout_ms = CONTROLLER_WRITE_MS_MAX,
		.done = done};
	kube_send(job->controller->kube, &job->request);
	json_decref(body);
}

/* ---- ControllerPublishVolume ---- */

static void reply_published(struct grpc_call *call, int64_t number)
{
	Csi__V1__ControllerPublishVolumeResponse response =
		CSI__V1__CONTROLLER_PUBLISH_VOLUME_RESPONSE__INIT;
	Csi__V1__ControllerPublishVolumeResponse__PublishContextEntry entry =
		CSI__V1__CONTROLLER_PUBLISH_VOLUME_RESPONSE__PUBLISH_CONTEXT_ENTRY__INIT;
	Csi__V1__ControllerPublishVolumeResponse__PublishContextEntry *entries[] = {&entry};
	char key[] = CSI_ATTACH_KEY, value[24];

	(void)snprintf(value, sizeof(value), "%lld", (long long)number);
	entry.key = key;
	entry.value = value;
	response.publish_context = entries;
	response.n_publish_context = 1;
	grpc_call_reply(call, &response.base);
}

static void published(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);

	if (is_patch_lost(job)) {
		return;
	}
	log_info(job->controller->log, "service", "attached", "volume=%s node=%s number=%lld",
		job->name, job->node,
		(long long)kube_number(request->response, "status.attachment.number", 0));
	reply_published(job->call, kube_number(request->response, "status.attachment.number", 0));
	free(job);
}

static void node_read(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);
	struct err err = {0};

	if (request->result == -ENOENT) {
		(void)err_set(&err, -ENOENT, "there is no node %s", job->node);
		job_fail(job, &err);
	} else if (request->result < 0) {
		service_fail_again(job->call, &request->err);
		free(job);
	} else {
		job->is_node_known = true;
		job->go_on(job);
	}
}

/* Why the volume cannot be attached there now; 0: it can, or is. */
static int check_attachable(
	const struct job *job, const struct world_volume *volume, struct err *err)
{
	const struct volume_object *object = &volume->object;
	const char *reason = kube_text(volume->json, "status.reason");

	if (!volume->is_valid) {
		return err_set(err, -EALREADY, "volume %s: its object is not valid", job->name);
	}
	if (object->meta.is_deleted) {
		return err_set(err, -EBUSY, "volume %s is being deleted", job->name);
	}
	if (strcmp(object->attached_node, job->node) == 0) {
		return object->attached_read_only == job->is_read_only
			       ? 0
			       : err_set(err, -EEXIST,
					 "volume %s is attached to node %s %s already", job->name,
					 job->node,
					 object->attached_read_only ? "read-only" : "writable");
	}
	if (object->attached_node[0] != '\0') {
		return err_set(err, -EBUSY, "volume %s is attached to node %s", job->name,
			object->attached_node);
	}
	if (!object->is_available) {
		return err_set(err, -EALREADY, "volume %s is not ready yet: %s", job->name,
			reason[0] != '\0' ? reason : "its replicas are being placed");
	}
	return object->attach_number == UINT32_MAX
		       ? err_set(err, -EBUSY, "volume %s has no attach number left", job->name)
		       : 0;
}

static void publish(struct job *job)
{
	struct controller *controller = job->controller;
	const struct world_volume *volume = world_volume(&controller->world, job->name);
	const struct world_node *node = world_node(&controller->world, job->node);
	struct err err = {0};

	if (volume == NULL || !volume->is_there) {
		if (job->tries++ == 0) {
			job_read(job);
			return;
		}
		(void)err_set(&err, -ENOENT, "there is no volume %s", job->name);
		job_fail(job, &err);
		return;
	}
	if (!job->is_node_known && (node == NULL || !node->is_there)) {
		job->request = (struct kube_request){.verb = KUBE_GET,
			.kind = &kube_nodes,
			.name = job->node,
			.done = node_read};
		kube_send(controller->kube, &job->request);
		return;
	}
	if (check_attachable(job, volume, &err) < 0) {
		job_fail(job, &err);
		return;
	}
	if (strcmp(volume->object.attached_node, job->node) == 0) {
		reply_published(job->call, volume->object.attach_number);
		free(job);
		return;
	}
	job_patch(job, volume->json,
		(json_int_t)volume->object.attach_number + !mutant_is(MUTANT_ATTACH_REUSED),
		job->node, job->is_read_only, published);
}

void service_publish_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__ControllerPublishVolumeRequest *request = (const void *)message;
	struct csi_capability capability;
	struct err err = {0};
	struct job *job;

	if (!service_may(call)) {
		return;
	}
	if (csi_need("volume_id", request->volume_id, &err) < 0 ||
		csi_need("node_id", request->node_id, &err) < 0 ||
		csi_capability_decode(request->volume_capability, &capability, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	if (!csi_volume_id_is_possible(request->volume_id)) {
		grpc_call_failf(call, -ENOENT, "there is no volume \"%.64s\"", request->volume_id);
		return;
	}
	if (!csi_node_id_is_possible(request->node_id)) {
		grpc_call_failf(call, -ENOENT, "there is no node \"%.64s\"", request->node_id);
		return;
	}
	job = job_new(call, request->volume_id, request->node_id);
	job->is_read_only = request->readonly || capability.is_read_only;
	job->go_on = publish;
	publish(job);
}

/* ---- ControllerUnpublishVolume ---- */

static void reply_unpublished(struct grpc_call *call)
{
	Csi__V1__ControllerUnpublishVolumeResponse response =
		CSI__V1__CONTROLLER_UNPUBLISH_VOLUME_RESPONSE__INIT;

	grpc_call_reply(call, &response.base);
}

/* Until the nexus of that node has closed it; one that cannot is fenced by the next open. */
static bool check_closed(struct wait *wait, bool is_over)
{
	const struct world *world = &wait->controller->world;
	const struct world_volume *volume = world_volume(world, wait->volume);
	const char *open = volume == NULL ? "" : kube_text(volume->json, "status.nexus.node");

	if (open[0] == '\0' || !world_node_is_ready(world, open) ||
		(wait->node_name[0] != '\0' && strcmp(wait->node_name, open) != 0)) {
		reply_unpublished(wait->call);
		return true;
	}
	if (is_over) {
		grpc_call_failf(wait->call, -EALREADY, "volume %s waits for node %s to close it",
			wait->volume, open);
	}
	return is_over;
}

static void wait_for_closed(struct job *job)
{
	struct wait wait = {.call = job->call, .check = check_closed};

	(void)snprintf(wait.volume, sizeof(wait.volume), "%s", job->name);
	(void)snprintf(wait.node_name, sizeof(wait.node_name), "%s", job->node);
	wait_for(job->controller, &wait);
	free(job);
}

static void unpublished(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);

	if (is_patch_lost(job)) {
		return;
	}
	log_info(job->controller->log, "service", "detached", "volume=%s node=%s", job->name,
		job->node[0] != '\0' ? job->node : "*");
	wait_for_closed(job);
}

static void unpublish(struct job *job)
{
	const struct world_volume *volume = world_volume(&job->controller->world, job->name);
	const char *attached =
		volume == NULL ? "" : kube_text(volume->json, "status.attachment.node");

	if (volume == NULL || !volume->is_there) {
		reply_unpublished(job->call);
		free(job);
	} else if (attached[0] != '\0' &&
		   (job->node[0] == '\0' || strcmp(job->node, attached) == 0)) {
		job_patch(job, volume->json,
			kube_number(volume->json, "status.attachment.number", 0), "", false,
			unpublished);
	} else {
		wait_for_closed(job);
	}
}

void service_unpublish_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__ControllerUnpublishVolumeRequest *request = (const void *)message;
	struct err err = {0};
	struct job *job;

	if (!service_may(call)) {
		return;
	}
	if (csi_need("volume_id", request->volume_id, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	if (!csi_volume_id_is_possible(request->volume_id) ||
		(request->node_id[0] != '\0' && !csi_node_id_is_possible(request->node_id))) {
		reply_unpublished(call);
		return;
	}
	job = job_new(call, request->volume_id, request->node_id);
	job->go_on = unpublish;
	/* "Not attached" must not be an old memory. */
	job_read(job);
}
