/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the plans of Snapshots. */
#include "csi-controller/act.h"
#include "csi-controller/plan_snapshot.h"

#include <errno.h>
#include <string.h>

static void patch_snapshot(struct act *act, json_t *patch, const char *subresource)
{
	struct act_request *request =
		act_request_new(act, KUBE_MERGE_PATCH, &objects_snapshots, act->key);

	request->request.subresource = subresource;
	request->cache = act->controller->caches[CACHE_SNAPSHOTS];
	act_send(request, patch);
}

static void release_snapshot(struct act *act, const struct world_snapshot *snapshot)
{
	struct act_request *request =
		act_request_new(act, KUBE_MERGE_PATCH, &objects_snapshots, act->key);

	/* Without its finalizer it may be gone: nothing for the cache. */
	act_send(request, finalizer_patch(snapshot->json, OBJECTS_FINALIZER_SNAPSHOT, false));
}

static json_t *status_patch(const struct world_snapshot *snapshot, json_t *status)
{
	json_t *patch = version_patch(snapshot->json);

	(void)json_object_set(patch, "status", status);
	return patch;
}

static void fill_uuid(struct act *act, const struct world_snapshot *snapshot)
{
	json_t *patch = version_patch(snapshot->json);
	char text[UUID_TEXT_SIZE];
	struct uuid uuid;

	uuid_make(&uuid, &act->controller->rng);
	(void)json_object_set_new(
		patch, "spec", json_pack("{s:s}", "uuid", uuid_to_text(&uuid, text)));
	patch_snapshot(act, patch, NULL);
}

static void volume_answered(struct act_request *request)
{
	const char *uuid = kube_text(request->json, "volumeUUID");

	if (request->request.result == -ENOENT ||
		(request->request.result == 0 &&
			strcmp(kube_text(request->request.response, "spec.uuid"), uuid) != 0)) {
		patch_snapshot(request->act, json_incref(json_object_get(request->json, "patch")),
			"status");
	} else if (request->request.result < 0) {
		act_fail(request);
	}
}

/* Ready once, it is not again: the cache's word is not enough. */
static void lose_snapshot(
	struct act *act, const struct world_snapshot *snapshot, const struct snapshot_plan *plan)
{
	struct act_request *request =
		act_request_new(act, KUBE_GET, &objects_volumes, snapshot->object.volume);

	request->cache = act->controller->caches[CACHE_VOLUMES];
	request->answered = volume_answered;
	request->json = json_pack("{s:s, s:o}", "volumeUUID",
		kube_text(snapshot->json, "status.volumeUUID"), "patch",
		status_patch(snapshot, plan->status));
	act_send(request, NULL);
}

void act_on_snapshot(void *ctx, const char *key)
{
	struct controller *controller = ctx;
	const struct world_snapshot *snapshot = world_snapshot(&controller->world, key);
	struct act *act = act_begin(controller, QUEUE_SNAPSHOTS, key);
	struct snapshot_plan plan = {0};

	if (controller_leads(controller) && snapshot != NULL) {
		plan_snapshot(&controller->world, snapshot, &plan);
		switch (plan.action) {
		case SNAPSHOT_NOTHING:
			break;
		case SNAPSHOT_FILL:
			fill_uuid(act, snapshot);
			break;
		case SNAPSHOT_HOLD:
			patch_snapshot(act,
				finalizer_patch(snapshot->json, OBJECTS_FINALIZER_SNAPSHOT, true),
				NULL);
			break;
		case SNAPSHOT_WRITE_STATUS:
			patch_snapshot(act, status_patch(snapshot, plan.status), "status");
			break;
		case SNAPSHOT_LOSE:
			lose_snapshot(act, snapshot, &plan);
			break;
		case SNAPSHOT_RELEASE:
			release_snapshot(act, snapshot);
			break;
		}
		snapshot_plan_done(&plan);
	}
	act_end(act);
}
