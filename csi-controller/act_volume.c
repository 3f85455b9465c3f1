/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the plan of a Volume. */
#include "csi-controller/act.h"
#include "csi-controller/attachment.h"
#include "csi-controller/plan_volume.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

/* ---- events ---- */

static const char *condition_text(const json_t *conditions, const char *type, const char *field)
{
	for (size_t i = 0; i < json_array_size(conditions); i++) {
		const json_t *condition = json_array_get(conditions, i);

		if (strcmp(kube_text(condition, "type"), type) == 0) {
			return kube_text(condition, field);
		}
	}
	return "";
}

static void claim_answered(struct act_request *request)
{
	const json_t *conditions = kube_at(request->json, "status.conditions");

	/* Without the claim there is nobody to tell. */
	if (request->request.result == 0) {
		kube_event(request->act->controller->recorder, request->request.response, true,
			"Unplaceable", "Placing", "volume %s: %s", kube_name(request->json),
			condition_text(conditions, "Available", "message"));
	}
}

/* Who wanted the volume looks at the claim, not at the Volume. */
static void tell_claim(struct act *act, const json_t *object, const json_t *status)
{
	const char *name = kube_text(object, "spec.claim.name");
	struct act_request *request;

	if (name[0] == '\0') {
		return;
	}
	request = act_request_new(act, KUBE_GET, &kube_pvcs, name);
	request->request.namespace = kube_text(object, "spec.claim.namespace");
	request->answered = claim_answered;
	request->json = json_pack(
		"{s:{s:s}, s:O}", "metadata", "name", kube_name(object), "status", status);
	act_send(request, NULL);
}

/* What people care about, once. */
static void tell(struct act *act, const json_t *object, const json_t *status)
{
	struct kube_recorder *recorder = act->controller->recorder;
	const json_t *before = kube_at(object, "status.conditions");
	const json_t *now = kube_at(status, "conditions");
	const char *state = kube_text(status, "state"), *reason = kube_text(status, "reason");
	const char *published = condition_text(now, "Published", "reason");

	if (strcmp(state, kube_text(object, "status.state")) != 0) {
		bool is_bad = strcmp(state, volume_state_name(VOLUME_DEGRADED)) == 0 ||
			      strcmp(state, volume_state_name(VOLUME_STALLED)) == 0 ||
			      strcmp(state, volume_state_name(VOLUME_FAULTED)) == 0;

		kube_event(recorder, object, is_bad, state, "Watching", "%s%s%s replicas in sync",
			reason, reason[0] != '\0' ? "; " : "", kube_text(status, "inSync"));
	}
	if (strcmp(published, condition_text(before, "Published", "reason")) != 0 &&
		(strcmp(published, "Open") == 0 || before != NULL)) {
		const char *message = condition_text(now, "Published", "message");

		kube_event(recorder, object, false,
			strcmp(published, "Open") == 0 ? "Published" : published, "Publishing",
			"%s", message[0] != '\0' ? message : "not attached");
	}
	if (strcmp(condition_text(now, "Available", "reason"), "Unplaceable") == 0 &&
		strcmp(condition_text(now, "Available", "message"),
			condition_text(before, "Available", "message")) != 0) {
		kube_event(recorder, object, true, "Unplaceable", "Placing", "%s",
			condition_text(now, "Available", "message"));
		tell_claim(act, object, status);
	}
}

static void status_answered(struct act_request *request)
{
	if (request->request.result == 0) {
		tell(request->act, kube_at(request->json, "object"),
			kube_at(request->json, "status"));
	} else if (request->request.result != -ENOENT) {
		act_fail(request);
	}
}

/* ---- steps ---- */

static void adopt(struct act *act, const struct world_volume *volume)
{
	struct controller *controller = act->controller;
	struct act_request *request =
		act_request_new(act, KUBE_MERGE_PATCH, &objects_volumes, act->key);
	json_t *patch = finalizer_patch(volume->json, OBJECTS_FINALIZER_VOLUME, true);

	if (uuid_is_nil(&volume->object.uuid)) {
		char text[UUID_TEXT_SIZE];
		struct uuid uuid;

		uuid_make(&uuid, &controller->rng);
		(void)json_object_set_new(
			patch, "spec", json_pack("{s:s}", "uuid", uuid_to_text(&uuid, text)));
	}
	request->cache = controller->caches[CACHE_VOLUMES];
	act_send(request, patch);
}

static void write_status(
	struct act *act, const struct world_volume *volume, json_t *status, bool is_guarded)
{
	struct act_request *request = act_request_new(act, KUBE_APPLY, &objects_volumes, act->key);
	json_t *body = object_new(&objects_volumes, act->key);

	if (is_guarded) {
		(void)json_object_set(json_object_get(body, "metadata"), "resourceVersion",
			(json_t *)(uintptr_t)kube_at(volume->json, "metadata.resourceVersion"));
	}
	(void)json_object_set(body, "status", status);
	request->request.subresource = "status";
	request->cache = act->controller->caches[CACHE_VOLUMES];
	request->answered = status_answered;
	request->json = json_pack("{s:O, s:O}", "object", volume->json, "status", status);
	act_send(request, body);
}

/* ---- reading afresh ---- */

static void replicas_listed(struct act_request *request)
{
	struct controller *controller = request->act->controller;
	struct world_volume *volume = world_volume(&controller->world, request->act->key);
	const json_t *items = kube_at(request->request.response, "items");

	if (request->request.result < 0) {
		act_fail(request);
		return;
	}
	for (size_t i = 0; i < json_array_size(items); i++) {
		kube_cache_absorb(controller->caches[CACHE_REPLICAS], json_array_get(items, i));
	}
	if (volume != NULL &&
		strcmp(kube_uid(volume->json), kube_text(request->json, "uid")) == 0) {
		volume->is_verified = true;
	}
	kube_queue_add(request->act->queue, request->act->key);
}

static void volume_read(struct act_request *request)
{
	struct act *act = request->act;
	struct act_request *list;
	char selector[OBJECTS_VOLUME_SIZE + 16];

	if (request->request.result == -ENOENT) {
		/* The cache hears of it. */
		return;
	}
	if (request->request.result < 0) {
		act_fail(request);
		return;
	}
	(void)snprintf(selector, sizeof(selector), "spec.volume=%.63s", act->key);
	list = act_request_new(act, KUBE_LIST, &objects_replicas, NULL);
	list->request.field_selector = selector;
	list->answered = replicas_listed;
	list->json = json_pack("{s:s}", "uid", kube_uid(request->request.response));
	act_send(list, NULL);
}

/* What another leader did last may not have come through the caches yet. */
static void verify(struct act *act)
{
	struct act_request *request = act_request_new(act, KUBE_GET, &objects_volumes, act->key);

	request->cache = act->controller->caches[CACHE_VOLUMES];
	request->answered = volume_read;
	act_send(request, NULL);
}

/* ---- replicas ---- */

/* The volume's key, for the eyes of the pool's node.  NULL: nothing can be sealed for it. */
static json_t *seal_key(struct controller *controller, const struct world_volume *volume,
	const struct volume_placement *placement, const struct uuid *replica)
{
	const struct world_pool *pool = world_pool(&controller->world, placement->pool);
	char purpose[OBJECTS_SEAL_PURPOSE_SIZE], sealed[SEAL_TEXT_SIZE];
	struct volume_key key;
	struct err err;
	int result;

	volume_key_derive(controller->master, &volume->object.uuid, controller->key_number, &key);
	result = seal(pool != NULL ? pool->object.sealing_key : "",
		replica_seal_purpose(replica, purpose), key.secret, sealed, &err);
	OPENSSL_cleanse(&key, sizeof(key));
	if (result < 0) {
		log_warning(controller->log, "act", "key-not-sealed", "pool=%s error=%s",
			placement->pool, err.text);
		return NULL;
	}
	return json_pack(
		"{s:I, s:s}", "number", (json_int_t)controller->key_number, "sealed", sealed);
}

/* NULL: its key cannot be sealed. */
static json_t *make_replica(struct controller *controller, const struct world_volume *volume,
	const struct volume_placement *placement)
{
	char uuid_text[UUID_TEXT_SIZE], volume_uuid_text[UUID_TEXT_SIZE];
	char size[KUBE_QUANTITY_TEXT_SIZE];
	struct uuid uuid;

	uuid_make(&uuid, &controller->rng);

	json_t *key = seal_key(controller, volume, placement, &uuid);

	if (key == NULL) {
		return NULL;
	}
	json_t *object = object_new(&objects_replicas, placement->name);
	json_t *metadata = json_object_get(object, "metadata");

	(void)json_object_set_new(
		metadata, "finalizers", json_pack("[s]", OBJECTS_FINALIZER_REPLICA));
	(void)json_object_set_new(metadata, "ownerReferences",
		json_pack("[{s:s, s:s, s:s, s:s, s:b, s:b}]", "apiVersion",
			OBJECTS_GROUP "/" OBJECTS_VERSION, "kind", "Volume", "name",
			volume->object.meta.name, "uid", volume->object.meta.uid, "controller", 1,
			"blockOwnerDeletion", 0));
	(void)json_object_set_new(object, "spec",
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:o}", "volume",
			volume->object.meta.name, "volumeUUID",
			uuid_to_text(&volume->object.uuid, volume_uuid_text), "uuid",
			uuid_to_text(&uuid, uuid_text), "pool", placement->pool, "node",
			placement->node, "kind", placement->is_arbiter ? "Arbiter" : "Data", "slot",
			(json_int_t)placement->slot, "key", key));
	if (!placement->is_arbiter) {
		(void)json_object_set_new(json_object_get(object, "spec"), "size",
			json_string(kube_quantity_to_text(volume->object.size_bytes, size)));
	}
	return object;
}

/* Whether a replica of unknown fate is there. */
static void existing_answered(struct act_request *request)
{
	if (request->request.result < 0 && request->request.result != -ENOENT) {
		act_fail(request);
		return;
	}
	/* It is absorbed (or known from the watch, and perhaps gone again), or it is not there.  Of
	 * another volume: the name is taken, the next plan takes another slot. */
	world_unreserve(&request->act->controller->world, request->name);
}

static void look_for_replica(struct act *act, const char *name)
{
	struct act_request *request = act_request_new(act, KUBE_GET, &objects_replicas, name);

	request->cache = act->controller->caches[CACHE_REPLICAS];
	request->answered = existing_answered;
	act_send(request, NULL);
}

static void replica_answered(struct act_request *request)
{
	struct world *world = &request->act->controller->world;

	switch (request->request.result) {
	case 0:
		world_unreserve(world, request->name);
		break;
	case -EEXIST:
		look_for_replica(request->act, request->name);
		break;
	case -EINVAL:
	case -EACCES:
	case -EPERM:
		/* Refused: it is not there. */
		world_unreserve(world, request->name);
		act_fail(request);
		break;
	default:
		/* It may be there, or come to be: nothing else is made in its stead. */
		act_fail(request);
		break;
	}
}

static void make_replicas(
	struct act *act, const struct world_volume *volume, const struct volume_plan *plan)
{
	struct controller *controller = act->controller;

	/* All at once: what others place meanwhile sees their room taken. */
	for (unsigned i = 0; i < plan->placement_count; i++) {
		const struct volume_placement *placement = &plan->placements[i];
		json_t *replica = make_replica(controller, volume, placement);
		struct act_request *request;

		if (replica == NULL) {
			act->failed = true;
			continue;
		}
		request = act_request_new(act, KUBE_CREATE, &objects_replicas, placement->name);
		world_reserve(&controller->world, volume, placement->name, placement->slot,
			placement->pool, placement->node, placement->is_arbiter);
		log_info(controller->log, "act", "replica-placed",
			"volume=%s replica=%s kind=%s pool=%s node=%s", act->key, placement->name,
			placement->is_arbiter ? "Arbiter" : "Data", placement->pool,
			placement->node);
		if (volume->object.attach_number > 0) {
			kube_event(controller->recorder, volume->json, false, "ReplicaPlaced",
				"Placing", "%s %s on pool %s of node %s",
				placement->is_arbiter ? "arbiter" : "replica", placement->name,
				placement->pool, placement->node);
		}
		request->cache = controller->caches[CACHE_REPLICAS];
		request->answered = replica_answered;
		act_send(request, replica);
	}
}

static void drop_replicas(struct act *act, const struct volume_plan *plan)
{
	for (unsigned i = 0; i < plan->victim_count; i++) {
		const struct world_replica *victim = plan->victims[i];
		struct act_request *request;

		if (victim->is_pending) {
			look_for_replica(act, victim->object.meta.name);
			continue;
		}
		log_info(act->controller->log, "act", "replica-deleted",
			"volume=%s replica=%s pool=%s node=%s", act->key, victim->object.meta.name,
			victim->object.pool, victim->object.node);
		request = act_request_new(
			act, KUBE_DELETE, &objects_replicas, victim->object.meta.name);
		world_doom(&act->controller->world, victim->object.meta.name);
		request->request.uid = victim->object.meta.uid;
		/* Of what was decided on: meanwhile it may have been made, and got a vote. */
		request->request.resource_version =
			kube_text(victim->json, "metadata.resourceVersion");
		request->cache = act->controller->caches[CACHE_REPLICAS];
		act_send(request, NULL);
	}
}

static void release(struct act *act, const struct world_volume *volume)
{
	struct act_request *request =
		act_request_new(act, KUBE_MERGE_PATCH, &objects_volumes, act->key);

	/* Not absorbed: it is gone then. */
	act_send(request, finalizer_patch(volume->json, OBJECTS_FINALIZER_VOLUME, false));
}

/* ---- status.nexus of a node that is gone ---- */

static void node_answered(struct act_request *request)
{
	struct act *act = request->act;
	const char *node = kube_text(request->json, "node");
	struct act_request *patch;

	if (request->request.result != -ENOENT) {
		/* It is there again, or nobody knows. */
		act->failed = true;
		return;
	}
	patch = act_request_new(act, KUBE_JSON_PATCH, &objects_volumes, act->key);
	patch->request.subresource = "status";
	patch->cache = act->controller->caches[CACHE_VOLUMES];
	act_send(patch, json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "op", "test", "path",
				"/status/nexus/node", "value", node, "op", "remove", "path",
				"/status/nexus"));
}

static void forget_nexus(struct act *act, const struct world_volume *volume)
{
	struct act_request *request =
		act_request_new(act, KUBE_GET, &kube_nodes, volume->object.nexus.node);

	request->answered = node_answered;
	request->json = json_pack("{s:s}", "node", volume->object.nexus.node);
	act_send(request, NULL);
}

/* ---- a number of a backup ---- */

/* If it is still attached so: the test is the API's own word. */
static void raise_attach(struct act *act, const struct world_volume *volume)
{
	json_int_t number = (json_int_t)volume->object.nexus.superseded_by + 1;
	struct act_request *patch =
		act_request_new(act, KUBE_JSON_PATCH, &objects_volumes, act->key);
	json_t *body = attachment_patch(act->controller, volume->json,
		&(struct attachment){
			number, volume->object.attached_node, volume->object.attached_read_only});

	log_warning(act->controller->log, "act", "attach-number-raised",
		"volume=%s node=%s number=%u to=%lld", act->key, volume->object.attached_node,
		volume->object.attach_number, (long long)number);
	(void)json_array_insert_new(body, 0,
		json_pack("{s:s, s:s, s:s}", "op", "test", "path", "/status/attachment/node",
			"value", volume->object.attached_node));
	patch->request.subresource = "status";
	patch->cache = act->controller->caches[CACHE_VOLUMES];
	act_send(patch, body);
}

/* ---- the work ---- */

static void carry_out(
	struct act *act, const struct world_volume *volume, const struct volume_plan *plan)
{
	switch (plan->action) {
	case VOLUME_NOTHING:
		break;
	case VOLUME_ADOPT:
		adopt(act, volume);
		break;
	case VOLUME_WITHHOLD:
		write_status(act, volume, plan->status, true);
		break;
	case VOLUME_PLACE:
		make_replicas(act, volume, plan);
		break;
	case VOLUME_DROP:
		drop_replicas(act, plan);
		break;
	case VOLUME_RAISE_ATTACH:
		raise_attach(act, volume);
		break;
	case VOLUME_FORGET_NEXUS:
		forget_nexus(act, volume);
		break;
	case VOLUME_RELEASE:
		release(act, volume);
		break;
	case VOLUME_WRITE_STATUS:
		write_status(act, volume, plan->status, false);
		break;
	}
}

/* Or believes that there are none. */
static bool changes_replicas(enum volume_action action)
{
	return action == VOLUME_PLACE || action == VOLUME_DROP || action == VOLUME_RELEASE;
}

void act_on_volume(void *ctx, const char *key)
{
	struct controller *controller = ctx;
	const struct world_volume *volume = world_volume(&controller->world, key);
	struct act *act = act_begin(controller, QUEUE_VOLUMES, key);
	struct volume_plan plan;

	if (controller_leads(controller) && volume != NULL) {
		controller_look_at_clock(controller);
		plan_volume(&controller->world, volume, &plan);
		act->again_s = plan.again_s;
		if (!volume->is_verified && changes_replicas(plan.action)) {
			verify(act);
		} else {
			carry_out(act, volume, &plan);
		}
		volume_plan_done(&plan);
	}
	act_end(act);
}
