/* SPDX-License-Identifier: Apache-2.0 */
/* CreateVolume and DeleteVolume: the object is made or deleted, and the call waits for what comes
 * of it. */
#include "base/bytes.h"
#include "csi-controller/request.h"
#include "csi-controller/service.h"
#include "csi-controller/wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A call until it waits. */
struct job {
	struct kube_request request;
	struct grpc_call *call;
	struct controller *controller;
	char name[OBJECTS_VOLUME_SIZE];
	char uid[40];            /* of what is deleted */
	char version[40];        /* the resourceVersion of what is given up, else "" */
	bool is_unwanted;        /* the claim of a CreateVolume is gone */
	struct volume_wish wish; /* of CreateVolume */
};

static struct job *job_new(struct grpc_call *call, const char *name)
{
	struct job *job = must_alloc(sizeof(*job));

	job->call = call;
	job->controller = grpc_call_ctx(call);
	(void)snprintf(job->name, sizeof(job->name), "%s", name);
	return job;
}

static void job_free(struct job *job)
{
	volume_wish_done(&job->wish);
	free(job);
}

/* Takes the body. */
static void job_send(struct job *job, enum kube_verb verb, json_t *body,
	void (*done)(struct kube_request *request))
{
	job->request = (struct kube_request){.verb = verb,
		.kind = &objects_volumes,
		.name = job->name,
		.body = body,
		.uid = job->uid[0] != '\0' ? job->uid : NULL,
		.resource_version = job->version[0] != '\0' ? job->version : NULL,
		.timeout_ms = CONTROLLER_WRITE_MS_MAX,
		.done = done};
	kube_send(job->controller->kube, &job->request);
	json_decref(body);
}

/* After an answer, which may be of a time when another one led: nothing is written then. */
static bool may_go_on(struct job *job)
{
	if (service_may(job->call)) {
		return true;
	}
	job_free(job);
	return false;
}

/* ---- CreateVolume ---- */

static void reply_created(struct grpc_call *call, const struct volume_object *volume)
{
	Csi__V1__CreateVolumeResponse response = CSI__V1__CREATE_VOLUME_RESPONSE__INIT;
	Csi__V1__Volume message = CSI__V1__VOLUME__INIT;
	char name[OBJECTS_NAME_SIZE];

	/* No accessible_topology: it would pin pods, and a volume opens on every node. */
	(void)snprintf(name, sizeof(name), "%s", volume->meta.name);
	message.volume_id = name;
	message.capacity_bytes = (int64_t)volume->size_bytes;
	response.volume = &message;
	grpc_call_reply(call, &response.base);
}

static bool check_created(struct wait *wait, bool is_over)
{
	const struct world_volume *volume = world_volume(&wait->controller->world, wait->volume);

	if (volume == NULL || !volume->is_there || volume->object.meta.is_deleted) {
		grpc_call_failf(wait->call, -EALREADY, "volume %s is being deleted", wait->volume);
		return true;
	}
	if (volume->is_valid && volume->object.is_available) {
		reply_created(wait->call, &volume->object);
		return true;
	}
	if (is_over) {
		const char *reason = kube_text(volume->json, "status.reason");

		grpc_call_failf(wait->call, -EALREADY, "volume %s is not ready yet: %s",
			wait->volume, reason[0] != '\0' ? reason : "its replicas are being placed");
	}
	return is_over;
}

static void wait_for_created(struct job *job)
{
	struct wait wait = {.call = job->call, .check = check_created};

	(void)snprintf(wait.volume, sizeof(wait.volume), "%s", job->name);
	wait_for(job->controller, &wait);
	job_free(job);
}

static void topology_answered(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);

	/* A preference only: whatever came of it, the volume is waited for. */
	if (request->result == 0) {
		kube_cache_absorb(job->controller->caches[CACHE_VOLUMES], request->response);
	}
	wait_for_created(job);
}

/* Asked again with another node, as the pod went there: what has no place yet gets one there. */
static bool wants_another_node(const struct job *job, const struct world_volume *volume)
{
	return job->wish.preferred_node[0] != '\0' && !volume->object.meta.is_deleted &&
	       volume->object.attach_number == 0 && list_is_empty(&volume->replicas) &&
	       strcmp(job->wish.preferred_node, volume->object.preferred_node) != 0;
}

static void go_on_with(struct job *job, const struct world_volume *volume)
{
	struct err err = {0};

	if (volume->is_valid && volume_wish_compare(&job->wish, &volume->object, &err) < 0) {
		grpc_call_fail(job->call, &err);
		job_free(job);
		return;
	}
	if (volume->is_valid && wants_another_node(job, volume)) {
		job_send(job, KUBE_MERGE_PATCH,
			json_pack("{s:{s:s}, s:{s:{s:s}}}", "metadata", "resourceVersion",
				kube_text(volume->json, "metadata.resourceVersion"), "spec",
				"placement", "preferredNode", job->wish.preferred_node),
			topology_answered);
		return;
	}
	wait_for_created(job);
}

static void existing_read(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);
	const struct world_volume *volume;

	if (!may_go_on(job)) {
		return;
	}
	if (request->result < 0 && request->result != -ENOENT) {
		service_fail_again(job->call, &request->err);
		job_free(job);
		return;
	}
	if (request->result == 0) {
		kube_cache_absorb(job->controller->caches[CACHE_VOLUMES], request->response);
	}
	volume = world_volume(&job->controller->world, job->name);
	if (volume == NULL || !volume->is_there) {
		grpc_call_failf(job->call, -EALREADY, "volume %s is being deleted", job->name);
		job_free(job);
		return;
	}
	go_on_with(job, volume);
}

static void object_made(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);

	if (request->result == -EEXIST) {
		job_send(job, KUBE_GET, NULL, existing_read);
	} else if (request->result == -EINVAL) {
		/* The server does not take it, so it is not there: a final answer. */
		grpc_call_fail(job->call, &request->err);
		job_free(job);
	} else if (request->result < 0) {
		service_fail_again(job->call, &request->err);
		job_free(job);
	} else {
		kube_cache_absorb(job->controller->caches[CACHE_VOLUMES], request->response);
		wait_for_created(job);
	}
}

static void create(struct job *job)
{
	struct controller *controller = job->controller;
	const struct world_volume *volume = world_volume(&controller->world, job->name);
	struct uuid uuid;

	if (volume != NULL && volume->is_there) {
		go_on_with(job, volume);
		return;
	}
	uuid_make(&uuid, &controller->rng);
	job_send(job, KUBE_CREATE, volume_wish_object(&job->wish, &uuid), object_made);
}

/* ---- deletion: for DeleteVolume, and of what CreateVolume gives up ---- */

static void reply_deleted(struct grpc_call *call)
{
	Csi__V1__DeleteVolumeResponse response = CSI__V1__DELETE_VOLUME_RESPONSE__INIT;

	grpc_call_reply(call, &response.base);
}

static void reply_unwanted(struct grpc_call *call, const char *volume)
{
	grpc_call_failf(call, -ENOENT, "volume %s is not made: its claim is gone", volume);
}

static bool check_gone(struct wait *wait, bool is_over)
{
	const struct world_volume *volume = world_volume(&wait->controller->world, wait->volume);
	const char *reason;

	if (volume == NULL || !volume->is_there || strcmp(kube_uid(volume->json), wait->uid) != 0) {
		if (wait->is_unwanted) {
			reply_unwanted(wait->call, wait->volume);
		} else {
			reply_deleted(wait->call);
		}
		return true;
	}
	if (is_over) {
		reason = kube_text(volume->json, "status.reason");
		grpc_call_failf(wait->call, -EALREADY, "volume %s is being deleted: %s",
			wait->volume, reason[0] != '\0' ? reason : "its replicas are being erased");
	}
	return is_over;
}

/* For the end of the Volume with the uid of the job. */
static void wait_for_gone(struct job *job)
{
	struct wait wait = {
		.call = job->call, .check = check_gone, .is_unwanted = job->is_unwanted};

	(void)snprintf(wait.volume, sizeof(wait.volume), "%s", job->name);
	(void)snprintf(wait.uid, sizeof(wait.uid), "%s", job->uid);
	wait_for(job->controller, &wait);
	job_free(job);
}

/* Of a request for the Volume: has the call gone on to its end, as there is none or no answer? */
static bool is_answered(struct job *job)
{
	if (!may_go_on(job)) {
		return true;
	}
	if (job->request.result == 0) {
		/* A volume without finalizer is gone at once, and the answer is no Volume. */
		kube_cache_absorb(job->controller->caches[CACHE_VOLUMES], job->request.response);
		return false;
	}
	if (job->request.result != -ENOENT) {
		service_fail_again(job->call, &job->request.err);
	} else if (job->is_unwanted) {
		reply_unwanted(job->call, job->name);
	} else {
		reply_deleted(job->call);
	}
	job_free(job);
	return true;
}

static void object_deleted(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);

	if (!is_answered(job)) {
		wait_for_gone(job);
	}
}

/* Nobody was told that it is there, nor can be: what is deleted is this version of it. */
static bool may_be_given_up(const struct job *job)
{
	const struct world_volume *volume = world_volume(&job->controller->world, job->name);

	return volume != NULL && volume->is_valid && !volume->object.is_available &&
	       volume->object.attach_number == 0;
}

static void read_before_delete(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);
	const char *attached;

	if (is_answered(job)) {
		return;
	}
	attached = kube_text(request->response, "status.attachment.node");
	if (kube_is_deleted(request->response)) {
		(void)snprintf(job->uid, sizeof(job->uid), "%s", kube_uid(request->response));
		wait_for_gone(job);
	} else if (job->is_unwanted && !may_be_given_up(job)) {
		/* Who makes it deletes it. */
		create(job);
	} else if (attached[0] != '\0') {
		grpc_call_failf(
			job->call, -EBUSY, "volume %s is attached to node %s", job->name, attached);
		job_free(job);
	} else {
		/* A nexus that still has it open is closing it; the plan waits for it. */
		(void)snprintf(job->uid, sizeof(job->uid), "%s", kube_uid(request->response));
		if (job->is_unwanted) {
			(void)snprintf(job->version, sizeof(job->version), "%s",
				kube_text(request->response, "metadata.resourceVersion"));
		}
		job_send(job, KUBE_DELETE, NULL, object_deleted);
	}
}

/* ---- CreateVolume for a claim that is gone ---- */

/* The provisioner asks for a volume until it has it or hears that there will be none, also when
 * its claim was deleted meanwhile: else what has no place would wait for one for ever. */

/* The provisioner names a volume pvc-UID: another claim of the same name does not want it. */
static bool is_claim_of(const json_t *claim, const char *volume)
{
	struct uuid uuid;

	return strncmp(volume, "pvc-", 4) != 0 || uuid_parse(volume + 4, &uuid) < 0 ||
	       strcmp(volume + 4, kube_uid(claim)) == 0;
}

static void claim_read(struct kube_request *request)
{
	struct job *job = container_of(request, struct job, request);
	bool is_wanted = request->result == 0 ? is_claim_of(request->response, job->name)
					      : request->result != -ENOENT;

	if (!may_go_on(job)) {
		return;
	}
	if (is_wanted) {
		create(job);
	} else {
		job->is_unwanted = true;
		job_send(job, KUBE_GET, NULL, read_before_delete);
	}
}

static void look_for_claim(struct job *job)
{
	job->request = (struct kube_request){.verb = KUBE_GET,
		.kind = &kube_pvcs,
		.namespace = job->wish.claim_namespace,
		.name = job->wish.claim_name,
		.timeout_ms = CONTROLLER_WRITE_MS_MAX,
		.done = claim_read};
	kube_send(job->controller->kube, &job->request);
}

void service_create_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__CreateVolumeRequest *request = (const void *)message;
	const struct world_volume *volume;
	struct volume_wish wish;
	struct err err = {0};
	struct job *job;

	if (!service_may(call)) {
		return;
	}
	if (volume_wish_decode(request, &wish, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	job = job_new(call, wish.name);
	job->wish = wish;
	volume = world_volume(&job->controller->world, wish.name);
	if (wish.claim_name[0] != '\0' &&
		(volume == NULL || !volume->is_valid || !volume->object.is_available)) {
		look_for_claim(job);
	} else {
		create(job);
	}
}

/* ---- DeleteVolume ---- */

void service_delete_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__DeleteVolumeRequest *request = (const void *)message;
	struct err err = {0};

	if (!service_may(call)) {
		return;
	}
	if (csi_need("volume_id", request->volume_id, &err) < 0) {
		grpc_call_fail(call, &err);
	} else if (!csi_volume_id_is_possible(request->volume_id)) {
		reply_deleted(call);
	} else {
		job_send(job_new(call, request->volume_id), KUBE_GET, NULL, read_before_delete);
	}
}
