/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the plans of Pools, Replicas and Nodes. */
#include "csi-controller/act.h"
#include "csi-controller/plan_pool.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* ---- pools ---- */

static void patch_pool(struct act *act, json_t *patch, bool is_absorbed)
{
	struct act_request *request =
		act_request_new(act, KUBE_MERGE_PATCH, &objects_pools, act->key);

	request->cache = is_absorbed ? act->controller->caches[CACHE_POOLS] : NULL;
	act_send(request, patch);
}

static void mark_pool(struct act *act, const struct world_pool *pool, json_t *status)
{
	struct act_request *request =
		act_request_new(act, KUBE_MERGE_PATCH, &objects_pools, act->key);
	json_t *patch = version_patch(pool->json);

	(void)json_object_set(patch, "status", status);
	request->request.subresource = "status";
	request->cache = act->controller->caches[CACHE_POOLS];
	act_send(request, patch);
}

static void write_pool_status(struct act *act, json_t *status)
{
	struct act_request *request = act_request_new(act, KUBE_APPLY, &objects_pools, act->key);
	json_t *body = object_new(&objects_pools, act->key);

	(void)json_object_set(body, "status", status);
	request->request.subresource = "status";
	request->cache = act->controller->caches[CACHE_POOLS];
	act_send(request, body);
}

static void node_answered(struct act_request *request)
{
	if (request->request.result == -ENOENT) {
		patch_pool(request->act, json_incref(request->json), false);
	} else if (request->request.result < 0) {
		act_fail(request);
	}
}

static void release_pool(struct act *act, const struct world_pool *pool)
{
	json_t *patch = finalizer_patch(pool->json, OBJECTS_FINALIZER_POOL, false);
	struct act_request *request;

	if (pool->object.state == POOL_RELEASED) {
		patch_pool(act, patch, false);
		return;
	}
	/* Nobody released it: only when its node is really gone. */
	request = act_request_new(act, KUBE_GET, &kube_nodes, pool->object.node);
	request->cache = act->controller->caches[CACHE_NODES];
	request->answered = node_answered;
	request->json = patch;
	act_send(request, NULL);
}

void act_on_pool(void *ctx, const char *key)
{
	struct controller *controller = ctx;
	const struct world_pool *pool = world_pool(&controller->world, key);
	struct act *act = act_begin(controller, QUEUE_POOLS, key);
	struct pool_plan plan;

	if (controller_leads(controller) && pool != NULL) {
		plan_pool(&controller->world, pool, &plan);
		switch (plan.action) {
		case POOL_NOTHING:
			break;
		case POOL_ADOPT:
			patch_pool(act, finalizer_patch(pool->json, OBJECTS_FINALIZER_POOL, true),
				true);
			break;
		case POOL_MARK_UNKNOWN:
			kube_event(controller->recorder, pool->json, true, "NodeNotReady",
				"Watching", "%s", kube_text(plan.status, "reason"));
			mark_pool(act, pool, plan.status);
			break;
		case POOL_WRITE_STATUS:
			write_pool_status(act, plan.status);
			break;
		case POOL_RELEASE:
			release_pool(act, pool);
			break;
		}
		pool_plan_done(&plan);
	}
	act_end(act);
}

/* ---- replicas ---- */

static void patch_replica(struct act *act, json_t *patch, const char *subresource)
{
	struct act_request *request =
		act_request_new(act, KUBE_MERGE_PATCH, &objects_replicas, act->key);

	request->request.subresource = subresource;
	/* Without its finalizer it is gone. */
	request->cache = subresource != NULL ? act->controller->caches[CACHE_REPLICAS] : NULL;
	act_send(request, patch);
}

static void volume_answered(struct act_request *request)
{
	const char *uid = kube_text(request->json, "uid");
	const char *volume_uuid = kube_text(request->json, "volumeUUID");
	struct act *act = request->act;

	if (request->request.result == 0 &&
		strcasecmp(kube_text(request->request.response, "spec.uuid"), volume_uuid) == 0) {
		/* The cache was behind; the volume is absorbed now. */
		return;
	}
	if (request->request.result == 0 || request->request.result == -ENOENT) {
		struct act_request *delete =
			act_request_new(act, KUBE_DELETE, &objects_replicas, act->key);

		log_info(act->controller->log, "act", "replica-without-volume-deleted",
			"replica=%s", act->key);
		delete->request.uid = uid;
		delete->cache = act->controller->caches[CACHE_REPLICAS];
		act_send(delete, NULL);
	} else {
		act_fail(request);
	}
}

static void delete_replica(struct act *act, const struct world_replica *replica)
{
	struct act_request *request =
		act_request_new(act, KUBE_GET, &objects_volumes, replica->object.volume);

	request->cache = act->controller->caches[CACHE_VOLUMES];
	request->answered = volume_answered;
	request->json = json_pack("{s:s, s:s}", "uid", replica->object.meta.uid, "volumeUUID",
		kube_text(replica->json, "spec.volumeUUID"));
	act_send(request, NULL);
}

static void pool_answered(struct act_request *request)
{
	if (request->request.result == -ENOENT) {
		patch_replica(request->act, json_incref(request->json),
			kube_at(request->json, "status") != NULL ? "status" : NULL);
	} else if (request->request.result < 0) {
		act_fail(request);
	}
}

/* The patch is for a replica whose pool is gone. */
static void patch_when_pool_is_gone(
	struct act *act, const struct world_replica *replica, json_t *patch)
{
	struct act_request *request =
		act_request_new(act, KUBE_GET, &objects_pools, replica->object.pool);

	request->cache = act->controller->caches[CACHE_POOLS];
	request->answered = pool_answered;
	request->json = patch;
	act_send(request, NULL);
}

static void purge_replica(struct act *act, const struct world_replica *replica)
{
	json_t *patch = finalizer_patch(replica->json, OBJECTS_FINALIZER_REPLICA, false);

	log_info(act->controller->log, "act", "replica-purged", "replica=%s pool=%s node=%s",
		act->key, replica->object.pool, replica->object.node);
	if (replica->pool->is_there) {
		patch_replica(act, patch, NULL);
	} else {
		patch_when_pool_is_gone(act, replica, patch);
	}
}

void act_on_replica(void *ctx, const char *key)
{
	struct controller *controller = ctx;
	const struct world_replica *replica = world_replica(&controller->world, key);
	struct act *act = act_begin(controller, QUEUE_REPLICAS, key);
	json_t *patch;

	if (!controller_leads(controller) || replica == NULL) {
		act_end(act);
		return;
	}
	switch (plan_replica(&controller->world, replica)) {
	case REPLICA_NOTHING:
		break;
	case REPLICA_DELETE:
		delete_replica(act, replica);
		break;
	case REPLICA_PURGE:
		purge_replica(act, replica);
		break;
	case REPLICA_MARK_ORPHAN:
		patch = version_patch(replica->json);
		(void)json_object_set_new(patch, "status",
			json_pack("{s:s, s:s}", "state", replica_state_name(REPLICA_ORPHANED),
				"reason", "its pool is gone"));
		patch_when_pool_is_gone(act, replica, patch);
		break;
	}
	act_end(act);
}

/* ---- nodes ---- */

void act_on_node(void *ctx, const char *key)
{
	struct controller *controller = ctx;
	const struct world_node *node = world_node(&controller->world, key);
	struct act *act = act_begin(controller, QUEUE_NODES, key);
	enum node_action action =
		node == NULL || !controller_leads(controller) ? NODE_NOTHING : plan_node(node);

	if (action != NODE_NOTHING) {
		struct act_request *request =
			act_request_new(act, KUBE_MERGE_PATCH, &kube_nodes, key);

		request->cache = controller->caches[CACHE_NODES];
		act_send(request,
			json_pack("{s:{s:{s:o}}}", "metadata", "labels", OBJECTS_LABEL_POOL_AGENT,
				action == NODE_LABEL ? json_string("true") : json_null()));
	}
	act_end(act);
}
