/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/act.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A write that was sent before the Lease was lost must not be executed under the next leader. */
#define WRITE_MS_MAX 5000

struct act *act_begin(struct controller *controller, unsigned queue, const char *key)
{
	struct act *act = must_alloc(sizeof(*act));

	act->controller = controller;
	act->queue = controller->queues[queue];
	act->key = must_copy(key);
	act->open = 1;
	return act;
}

void act_end(struct act *act)
{
	if (--act->open > 0) {
		return;
	}
	if (act->again_s > 0) {
		kube_queue_add_after(act->queue, act->key, (uint64_t)act->again_s * 1000);
	}
	kube_queue_done(act->queue, act->key, act->failed ? KUBE_QUEUE_AGAIN : KUBE_QUEUE_OK);
	free(act->key);
	free(act);
}

void act_fail(struct act_request *request)
{
	/* Losing a race is what caches are for. */
	enum log_level level =
		request->request.result == -EAGAIN || request->request.result == -ESTALE
			? LOG_DEBUG
			: LOG_WARNING;

	request->act->failed = true;
	log_write(request->act->controller->log, level, "act", "request-failed",
		"key=%s object=%s error=%s", request->act->key, request->name,
		request->request.err.text);
}

static void request_done(struct kube_request *kube_request)
{
	struct act_request *request = container_of(kube_request, struct act_request, request);
	struct act *act = request->act;

	if (kube_request->result == 0 && request->cache != NULL) {
		kube_cache_absorb(request->cache, kube_request->response);
	}
	if (request->answered != NULL) {
		request->answered(request);
	} else if (kube_request->result < 0 && kube_request->result != -ENOENT) {
		act_fail(request);
	}
	json_decref(request->json);
	free(request);
	act_end(act);
}

struct act_request *act_request_new(
	struct act *act, enum kube_verb verb, const struct kube_kind *kind, const char *name)
{
	struct act_request *request = must_alloc(sizeof(*request));

	request->act = act;
	(void)snprintf(request->name, sizeof(request->name), "%s", name != NULL ? name : "");
	request->request = (struct kube_request){
		.verb = verb,
		.kind = kind,
		.name = name != NULL ? request->name : NULL,
		.timeout_ms = WRITE_MS_MAX,
		.done = request_done,
	};
	return request;
}

void act_send(struct act_request *request, json_t *body)
{
	request->act->open++;
	request->request.body = body;
	kube_send(request->act->controller->kube, &request->request);
	json_decref(body);
}

json_t *version_patch(const json_t *object)
{
	return json_pack("{s:{s:s}}", "metadata", "resourceVersion",
		kube_text(object, "metadata.resourceVersion"));
}

json_t *finalizer_patch(const json_t *object, const char *finalizer, bool wanted)
{
	const json_t *before = kube_at(object, "metadata.finalizers");
	json_t *finalizers = json_array(), *patch = version_patch(object);

	for (size_t i = 0; i < json_array_size(before); i++) {
		json_t *item = json_array_get(before, i);

		if (!json_is_string(item) || strcmp(json_string_value(item), finalizer) != 0) {
			(void)json_array_append(finalizers, item);
		}
	}
	if (wanted) {
		(void)json_array_append_new(finalizers, json_string(finalizer));
	}
	(void)json_object_set_new(json_object_get(patch, "metadata"), "finalizers", finalizers);
	return patch;
}
