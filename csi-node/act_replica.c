/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the plans of Replicas. */
#include "csi-node/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct act {
	struct node *node;
	char key[OBJECTS_NAME_SIZE];
	char uid[sizeof(((struct object_meta *)NULL)->uid)]; /* of the object that it acts on */
	enum replica_action action;
	bool is_idle;
	struct kube_request request;
	struct work work;
	/* the thread's */
	char socket[DAEMON_SOCKET_SIZE];
	struct agent_wish wish;
	int result;
	struct err err;
};

static void act_over(struct act *act, bool is_well)
{
	kube_queue_done(act->node->queues[QUEUE_REPLICAS], act->key,
		is_well ? KUBE_QUEUE_OK : KUBE_QUEUE_AGAIN);
	free(act);
}

/* ---- the API ---- */

static void written(struct kube_request *request)
{
	struct act *act = container_of(request, struct act, request);
	struct node *node = act->node;
	bool is_status = request->verb == KUBE_APPLY;
	bool is_well = request->result == 0 || request->result == -ENOENT;

	if (request->result == 0 && is_status) {
		note_written(node, QUEUE_REPLICAS, act->key, act->is_idle);
		kube_cache_absorb(node->caches[CACHE_REPLICAS], request->response);
	} else if (!is_well) {
		log_write(node->log, request->result == -ESTALE ? LOG_DEBUG : LOG_WARNING, "node",
			"replica-not-written", "replica=%s what=%s error=%s", act->key,
			is_status ? "status" : "finalizer", request->err.text);
	}
	act_over(act, is_well);
}

static void send(struct act *act, enum kube_verb verb, const char *subresource, json_t *body)
{
	act->request = (struct kube_request){
		.verb = verb,
		.kind = &objects_replicas,
		.name = act->key,
		.subresource = subresource,
		.body = body,
		.done = written,
	};
	kube_send(act->node->kube, &act->request);
	json_decref(body);
}

static void release(struct act *act)
{
	const json_t *json = kube_cache_get(act->node->caches[CACHE_REPLICAS], act->key);
	/* While the pool-agent erased, another one of the name may have come. */
	bool is_this = json != NULL && strcmp(kube_uid(json), act->uid) == 0;
	json_t *patch = is_this ? finalizer_removal(json, OBJECTS_FINALIZER_REPLICA) : NULL;

	if (patch == NULL) {
		act_over(act, true);
		return;
	}
	log_info(act->node->log, "node", "replica-released", "replica=%s", act->key);
	send(act, KUBE_JSON_PATCH, NULL, patch);
}

/* ---- the pool-agent ---- */

static void agent_run(struct work *work)
{
	struct act *act = container_of(work, struct act, work);

	act->result = act->action == REPLICA_CREATE
			      ? agent_create_replica(act->socket, &act->wish, &act->err)
			      : agent_delete_replica(act->socket, &act->wish.replica, &act->err);
}

static void agent_done(struct work *work)
{
	struct act *act = container_of(work, struct act, work);
	struct node *node = act->node;
	const char *what = act->action == REPLICA_CREATE ? "create" : "erase";

	if (act->result == -EAGAIN) {
		view_agent_soon(node);
		act_over(act, false);
		return;
	}
	note_attempt(node, QUEUE_REPLICAS, act->key, act->result < 0 ? &act->err : NULL);
	if (act->result < 0) {
		log_warning(node->log, "node", "replica-failed", "replica=%s operation=%s error=%s",
			act->key, what, act->err.text);
		kube_queue_add(node->queues[QUEUE_REPLICAS], act->key);
		act_over(act, true);
		return;
	}
	log_info(node->log, "node", "replica-done", "replica=%s operation=%s", act->key, what);
	view_agent_soon(node);
	if (act->action == REPLICA_ERASE) {
		release(act);
	} else {
		act_over(act, true);
	}
}

/* The volume's key, if the replica has one.  -EBADMSG: it is not for us. */
static int open_key(struct act *act, const struct replica_object *object)
{
	char purpose[OBJECTS_SEAL_PURPOSE_SIZE];

	act->wish.key_number = object->key_number;
	if (object->key_number == 0) {
		return 0;
	}
	if (seal_open(act->node->options.sealing_key, replica_seal_purpose(&object->uuid, purpose),
		    object->key_sealed, act->wish.key, &act->err) < 0) {
		return err_prefix(&act->err, "spec.key");
	}
	return 0;
}

static void ask_agent(struct act *act, const struct replica_object *object)
{
	(void)snprintf(act->socket, sizeof(act->socket), "%s", act->node->options.agent_socket);
	(void)snprintf(act->wish.pool, sizeof(act->wish.pool), "%s", object->pool);
	(void)snprintf(act->wish.volume, sizeof(act->wish.volume), "%s", object->volume);
	act->wish.size_bytes = object->size_bytes;
	act->wish.is_arbiter = object->is_arbiter;
	act->wish.replica = object->uuid;
	act->wish.volume_uuid = object->volume_uuid;
	act->work.run = agent_run;
	act->work.done = agent_done;
	if (act->action == REPLICA_CREATE) {
		act->result = open_key(act, object);
		if (act->result < 0) {
			agent_done(&act->work);
			return;
		}
	}
	workers_submit(act->node->daemon_workers, &act->work);
}

/* ---- one step ---- */

static void plan(struct act *act, const json_t *json, const struct replica_object *object,
	struct replica_plan *ret_plan)
{
	struct node *node = act->node;
	const json_t *pool_json = kube_cache_get(node->caches[CACHE_POOLS], object->pool);
	struct pool_object pool;
	struct err err;
	bool has_pool = pool_json != NULL && pool_object_decode(pool_json, &pool, &err) == 0;
	struct replica_facts facts = {
		.json = json,
		.object = object,
		.pool_object = has_pool ? &pool : NULL,
		.agent_failure = view_failure(&node->agent_poll),
		.pool = view_pool(node, object->pool),
		.replica = view_replica(node, &object->uuid),
	};

	note_fill(node, note_get(node, QUEUE_REPLICAS, object->meta.name), &facts.failure,
		&facts.clock);
	plan_replica(&facts, ret_plan);
}

void act_on_replica(void *ctx, const char *key)
{
	struct node *node = ctx;
	const json_t *json = kube_cache_get(node->caches[CACHE_REPLICAS], key);
	struct act *act = must_alloc(sizeof(*act));
	struct replica_object object;
	struct replica_plan next;
	struct err err = {0};

	act->node = node;
	(void)snprintf(act->key, sizeof(act->key), "%s", key);
	/* The next look at the pool-agent brings it back. */
	if (json == NULL || !node_is_ready(node) ||
		!note_is_seen(note_get(node, QUEUE_REPLICAS, key), &node->agent_poll)) {
		act_over(act, true);
		return;
	}
	if (replica_object_decode(json, &object, &err) < 0) {
		log_warning(node->log, "node", "object-invalid", "error=%s", err.text);
		act_over(act, true);
		return;
	}
	(void)snprintf(act->uid, sizeof(act->uid), "%s", object.meta.uid);
	plan(act, json, &object, &next);
	act->action = next.action;
	act->is_idle = next.is_idle;
	switch (next.action) {
	case REPLICA_NOTHING:
		act_over(act, true);
		return;
	case REPLICA_CREATE:
	case REPLICA_ERASE:
		ask_agent(act, &object);
		return;
	case REPLICA_RELEASE:
		release(act);
		return;
	case REPLICA_WRITE_STATUS:
		send(act, KUBE_APPLY, "status",
			status_body(&objects_replicas, act->key, next.status));
		return;
	}
}
