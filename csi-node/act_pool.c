/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the plans of Pools. */
#include "csi-node/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct act {
	struct node *node;
	char key[OBJECTS_NAME_SIZE];
	enum pool_action action;
	bool is_idle;
	json_t *status; /* owned: what it says after a deletion */
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
	kube_queue_done(act->node->queues[QUEUE_POOLS], act->key,
		is_well ? KUBE_QUEUE_OK : KUBE_QUEUE_AGAIN);
	json_decref(act->status);
	free(act);
}

/* ---- status ---- */

static void status_written(struct kube_request *request)
{
	struct act *act = container_of(request, struct act, request);
	struct node *node = act->node;
	bool is_well = request->result == 0 || request->result == -ENOENT;

	if (request->result == 0) {
		note_written(node, QUEUE_POOLS, act->key, act->is_idle);
		kube_cache_absorb(node->caches[CACHE_POOLS], request->response);
	} else if (!is_well) {
		log_warning(node->log, "node", "status-not-written", "pool=%s error=%s", act->key,
			request->err.text);
	}
	act_over(act, is_well);
}

/* Takes the status. */
static void write_status(struct act *act, json_t *status)
{
	json_t *body = status_body(&objects_pools, act->key, status);

	act->request = (struct kube_request){
		.verb = KUBE_APPLY,
		.kind = &objects_pools,
		.name = act->key,
		.subresource = "status",
		.body = body,
		.done = status_written,
	};
	kube_send(act->node->kube, &act->request);
	json_decref(body);
}

/* ---- the pool-agent ---- */

static void agent_run(struct work *work)
{
	struct act *act = container_of(work, struct act, work);

	switch (act->action) {
	case POOL_CREATE:
		act->result = agent_create_pool(act->socket, &act->wish, &act->err);
		return;
	case POOL_DELETE:
		act->result = agent_delete_pool(act->socket, act->wish.pool, &act->err);
		return;
	case POOL_ERASE_LEFT:
		act->result = agent_delete_replica(act->socket, &act->wish.replica, &act->err);
		return;
	case POOL_NOTHING:
	case POOL_WRITE_STATUS:
		return;
	}
}

static void agent_done(struct work *work)
{
	struct act *act = container_of(work, struct act, work);
	struct node *node = act->node;
	const char *what = act->action == POOL_CREATE   ? "create"
			   : act->action == POOL_DELETE ? "delete"
							: "erase a replica";

	view_agent_soon(node);
	if (act->result == -EAGAIN) {
		/* It does not answer: the view will say so. */
		act_over(act, false);
		return;
	}
	note_attempt(node, QUEUE_POOLS, act->key, act->result < 0 ? &act->err : NULL);
	if (act->result < 0) {
		log_warning(node->log, "node", "pool-failed", "pool=%s operation=%s error=%s",
			act->key, what, act->err.text);
		/* Its status says so with the next look. */
		kube_queue_add(node->queues[QUEUE_POOLS], act->key);
		act_over(act, true);
		return;
	}
	log_info(node->log, "node", "pool-done", "pool=%s operation=%s", act->key, what);
	if (act->action == POOL_DELETE) {
		json_t *status = act->status;

		act->status = NULL;
		write_status(act, status);
	} else {
		act_over(act, true);
	}
}

static void ask_agent(
	struct act *act, const struct pool_object *object, const struct pool_plan *plan)
{
	(void)snprintf(act->socket, sizeof(act->socket), "%s", act->node->options.agent_socket);
	(void)snprintf(act->wish.pool, sizeof(act->wish.pool), "%s", object->meta.name);
	(void)snprintf(act->wish.disk, sizeof(act->wish.disk), "%s", object->disk);
	act->wish.size_bytes = plan->size_bytes;
	act->wish.wipe = plan->wipe;
	act->work.run = agent_run;
	act->work.done = agent_done;
	workers_submit(act->node->daemon_workers, &act->work);
}

/* ---- facts ---- */

struct sum {
	const char *pool;
	uint64_t bytes;
	unsigned count;
};

static void add_replica(void *ctx, const char *key, const json_t *json)
{
	struct sum *sum = ctx;
	struct replica_object replica;
	struct err err;

	(void)key;
	if (strcmp(kube_text(json, "spec.pool"), sum->pool) == 0) {
		sum->count++;
		if (replica_object_decode(json, &replica, &err) == 0) {
			sum->bytes += replica.size_bytes;
		}
	}
}

/* Of the agent's replicas in a pool that no Replica names, while one of them is enough.  All that
 * were made here were made of Replicas that the cache had: what is not in it now is gone. */
static bool find_left(const struct node *node, const char *pool, struct uuid *ret_left)
{
	const Strake__V1__ListReplicasResponse *replicas = node->agent.replicas;

	for (size_t i = 0; replicas != NULL && i < replicas->n_replicas; i++) {
		/* One whose metadata are unreadable has no uuid. */
		if (strcmp(replicas->replicas[i]->pool, pool) == 0 &&
			uuid_parse(replicas->replicas[i]->uuid, ret_left) == 0) {
			return true;
		}
	}
	return false;
}

static void gather(struct node *node, const json_t *json, const struct pool_object *object,
	struct uuid *left, struct pool_facts *facts)
{
	struct sum sum = {.pool = object->meta.name};

	kube_cache_each(node->caches[CACHE_REPLICAS], add_replica, &sum);
	*facts = (struct pool_facts){
		.json = json,
		.object = object,
		.agent_failure = view_failure(&node->agent_poll),
		.agent = node->agent.agent,
		.sealing_key = node->sealing_key,
		.pool = view_pool(node, object->meta.name),
		.reserved_bytes = sum.bytes,
		.replica_count = sum.count,
	};
	/* With Replicas the pool waits for them. */
	facts->left = sum.count == 0 && find_left(node, object->meta.name, left) ? left : NULL;
	note_fill(node, note_get(node, QUEUE_POOLS, object->meta.name), &facts->failure,
		&facts->clock);
}

/* ---- one step ---- */

static void begin(struct act *act, struct pool_facts *facts, struct pool_plan *plan)
{
	json_t *status = plan->status;

	act->action = plan->action;
	act->is_idle = plan->is_idle;
	switch (plan->action) {
	case POOL_NOTHING:
		act_over(act, true);
		return;
	case POOL_CREATE:
		ask_agent(act, facts->object, plan);
		return;
	case POOL_DELETE:
		act->status = plan_pool_released(facts);
		ask_agent(act, facts->object, plan);
		return;
	case POOL_ERASE_LEFT:
		act->wish.replica = *facts->left;
		ask_agent(act, facts->object, plan);
		return;
	case POOL_WRITE_STATUS:
		write_status(act, status);
		return;
	}
}

void act_on_pool(void *ctx, const char *key)
{
	struct node *node = ctx;
	const json_t *json = kube_cache_get(node->caches[CACHE_POOLS], key);
	struct act *act = must_alloc(sizeof(*act));
	struct pool_object object;
	struct pool_facts facts;
	struct pool_plan plan;
	struct uuid left;
	struct err err = {0};

	act->node = node;
	(void)snprintf(act->key, sizeof(act->key), "%s", key);
	/* The next look at the pool-agent brings it back. */
	if (json == NULL || !node_is_ready(node) ||
		!note_is_seen(note_get(node, QUEUE_POOLS, key), &node->agent_poll)) {
		act_over(act, true);
		return;
	}
	if (pool_object_decode(json, &object, &err) < 0) {
		log_warning(node->log, "node", "object-invalid", "error=%s", err.text);
		act_over(act, true);
		return;
	}
	gather(node, json, &object, &left, &facts);
	plan_pool(&facts, &plan);
	begin(act, &facts, &plan);
}
