/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the plans of Volumes: status.nexus, and taking away what this node has lost. */
#include "csi-node/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_AGAIN_MS 30000

struct act {
	struct node *node;
	char key[OBJECTS_NAME_SIZE];
	struct op op;
	bool has_op;
	bool is_idle;
	struct kube_request request;
	struct work work;
	/* the thread's */
	char socket[DAEMON_SOCKET_SIZE];
	int result;
	struct err err;
};

static void act_over(struct act *act, bool is_well)
{
	if (act->has_op) {
		op_end(act->node, &act->op);
	}
	kube_queue_done(act->node->queues[QUEUE_VOLUMES], act->key,
		is_well ? KUBE_QUEUE_OK : KUBE_QUEUE_AGAIN);
	free(act);
}

/* ---- the API ---- */

static void send(struct act *act, enum kube_verb verb, const char *subresource, json_t *body,
	void (*done)(struct kube_request *request))
{
	act->request = (struct kube_request){
		.verb = verb,
		.kind = &objects_volumes,
		.name = act->key,
		.subresource = subresource,
		.body = body,
		.done = done,
	};
	kube_send(act->node->kube, &act->request);
	json_decref(body);
}

static void fail(struct act *act)
{
	log_warning(act->node->log, "node", "volume-not-written", "volume=%s error=%s", act->key,
		act->request.err.text);
	act_over(act, false);
}

static void nexus_written(struct kube_request *request)
{
	struct act *act = container_of(request, struct act, request);

	if (request->result < 0 && request->result != -ENOENT && request->result != -ESTALE) {
		fail(act);
		return;
	}
	if (request->result == 0) {
		note_written(act->node, QUEUE_VOLUMES, act->key, act->is_idle);
		node_absorb_volume(act->node, request->response);
	}
	act_over(act, true);
}

/* Gone, another node's, or nothing: all the same. */
static void nexus_removed(struct kube_request *request)
{
	struct act *act = container_of(request, struct act, request);

	if (request->result < 0 && request->result != -ENOENT && request->result != -ESTALE) {
		fail(act);
		return;
	}
	(void)json_object_del(act->node->said, act->key);
	act_over(act, true);
}

static void remove_nexus(struct act *act)
{
	send(act, KUBE_JSON_PATCH, "status", nexus_removal(act->node), nexus_removed);
}

/* ---- taking away ---- */

static void away_run(struct work *work)
{
	struct act *act = container_of(work, struct act, work);

	act->result = nexus_take_away(act->socket, act->key, true, &act->err);
}

static void away_done(struct work *work)
{
	struct act *act = container_of(work, struct act, work);

	if (act->result < 0) {
		log_warning(act->node->log, "node", "lost-volume-not-taken-away",
			"volume=%s error=%s", act->key, act->err.text);
		act_over(act, false);
		return;
	}
	log_info(act->node->log, "node", "lost-volume-taken-away", "volume=%s", act->key);
	remove_nexus(act);
}

static void take_away(struct act *act, const char *why)
{
	log_warning(act->node->log, "node", "volume-lost", "volume=%s why=%s", act->key, why);
	(void)snprintf(act->socket, sizeof(act->socket), "%s", act->node->options.nexus_socket);
	act->work.run = away_run;
	act->work.done = away_done;
	/* It may wait for what hangs. */
	workers_submit(act->node->volume_workers, &act->work);
}

/* ---- one step ---- */

/* Decides on the object as it is here, or, NULL, on its absence.  -EINVAL: it cannot be read. */
static int plan(struct act *act, const json_t *json, struct volume_plan *ret_plan)
{
	struct node *node = act->node;
	char now[KUBE_TIME_TEXT_SIZE];
	struct volume_object object;
	struct err err = {0};
	struct volume_facts facts = {
		.node = node->options.name,
		.json = json,
		.nexus_failure = view_failure(&node->nexus_poll),
		.volume = view_volume(node, act->key),
		.time_now = kube_time_now(now),
	};

	*ret_plan = (struct volume_plan){0};
	if (json != NULL) {
		if (volume_object_decode(json, &object, &err) < 0) {
			log_warning(node->log, "node", "object-invalid", "error=%s", err.text);
			return -EINVAL;
		}
		facts.object = &object;
	}
	note_fill(node, note_get(node, QUEUE_VOLUMES, act->key), &facts.failure, &facts.clock);
	plan_volume(&facts, ret_plan);
	return 0;
}

/* Asked about again now and then: the cache does not tell when it may go. */
static void keep(struct act *act)
{
	struct node *node = act->node;
	struct err err = {0};

	(void)err_set(&err, -EAGAIN,
		"it was recovered on this node, which status.record does not say: its record is "
		"kept for the next attachment to this node");
	if (note_get(node, QUEUE_VOLUMES, act->key)->failure_count == 0) {
		log_warning(
			node->log, "node", "recovery-kept", "volume=%s why=%s", act->key, err.text);
	}
	note_attempt(node, QUEUE_VOLUMES, act->key, &err);
}

static bool is_kept_for_now(const struct act *act)
{
	struct node *node = act->node;
	const Strake__V1__Volume *volume = view_volume(node, act->key);
	struct plan_failure failure;
	struct plan_clock clock;

	note_fill(node, note_get(node, QUEUE_VOLUMES, act->key), &failure, &clock);
	return failure.code != 0 && volume != NULL && volume->recovered &&
	       !plan_nexus_is_open(volume);
}

/* The API's own word, not the cache's. */
static void confirmed(struct kube_request *request)
{
	struct act *act = container_of(request, struct act, request);
	const json_t *json = request->result == 0 ? request->response : NULL;
	struct volume_plan next;

	if (request->result < 0 && request->result != -ENOENT) {
		act_over(act, false);
		return;
	}
	if (plan(act, json, &next) < 0) {
		act_over(act, true);
		return;
	}
	switch (next.action) {
	case VOLUME_LOST:
		take_away(act, json == NULL ? "there is no such Volume"
					    : "it is not attached to this node");
		return;
	case VOLUME_REMOVE_NEXUS:
		remove_nexus(act);
		return;
	case VOLUME_WRITE_NEXUS:
	case VOLUME_ADD_VOTER:
	case VOLUME_REMOVE_VOTER:
	case VOLUME_SET_POLICY:
	case VOLUME_RESIZE:
	case VOLUME_NOTHING:
		/* The cache will have it. */
		if (json == NULL || strcmp(kube_text(json, "status.nexus.node"),
					    act->node->options.name) != 0) {
			(void)json_object_del(act->node->said, act->key);
		}
		if (next.is_kept) {
			keep(act);
		}
		json_decref(next.nexus);
		act_over(act, true);
		return;
	}
}

static void confirm(struct act *act)
{
	struct err err;

	if (op_begin(act->node, &act->op, act->key, "looking after a lost volume", &err) < 0) {
		act_over(act, true);
		return;
	}
	act->has_op = true;
	send(act, KUBE_GET, NULL, NULL, confirmed);
}

static void begin(struct act *act, const json_t *json)
{
	struct volume_plan next;
	struct volume_object object;
	struct node *node = act->node;
	struct err err;

	if (json == NULL) {
		if (is_kept_for_now(act)) {
			act_over(act, true);
		} else {
			confirm(act);
		}
		return;
	}
	if (plan(act, json, &next) < 0) {
		act_over(act, true);
		return;
	}
	act->is_idle = next.is_idle;
	switch (next.action) {
	case VOLUME_NOTHING:
		act_over(act, true);
		return;
	case VOLUME_WRITE_NEXUS:
		send(act, KUBE_JSON_PATCH, "status", nexus_setting(act->node, next.nexus),
			nexus_written);
		return;
	case VOLUME_REMOVE_NEXUS:
		remove_nexus(act);
		return;
	case VOLUME_ADD_VOTER:
	case VOLUME_REMOVE_VOTER:
	case VOLUME_SET_POLICY:
	case VOLUME_RESIZE:
		if (volume_object_decode(json, &object, &err) == 0) {
			act_on_voters(node, act->key, &object, &next);
			free(act);
		} else {
			act_over(act, true);
		}
		return;
	case VOLUME_LOST:
		confirm(act);
		return;
	}
}

void act_on_volume(void *ctx, const char *key)
{
	struct node *node = ctx;
	struct act *act = must_alloc(sizeof(*act));
	const json_t *json = kube_cache_get(node->caches[CACHE_VOLUMES], key);
	bool is_known = json != NULL || view_volume(node, key) != NULL ||
			json_object_get(node->said, key) != NULL;

	act->node = node;
	(void)snprintf(act->key, sizeof(act->key), "%s", key);
	if (!is_known) {
		note_forget(node, QUEUE_VOLUMES, key);
		act_over(act, true);
		return;
	}
	/* The next look at the nexus brings it back. */
	if (!node_is_ready(node) || op_of(node, key) != NULL ||
		!note_is_seen(note_get(node, QUEUE_VOLUMES, key), &node->nexus_poll) ||
		(json == NULL && view_failure(&node->nexus_poll) != NULL)) {
		act_over(act, true);
		return;
	}
	begin(act, json);
}

/* ---- the sweep ---- */

static void swept(struct kube_request *request)
{
	struct node *node = container_of(request, struct node, sweep);
	json_t *items = json_object_get(request->response, "items"), *item;
	size_t i;

	node->is_sweeping = false;
	if (request->result < 0) {
		log_warning(node->log, "node", "sweep-failed", "error=%s", request->err.text);
		loop_timer_start(node->loop, &node->sweep_again, SWEEP_AGAIN_MS);
		return;
	}
	json_array_foreach(items, i, item)
	{
		if (strcmp(kube_text(item, "status.nexus.node"), node->options.name) == 0 &&
			kube_cache_get(node->caches[CACHE_VOLUMES], kube_name(item)) == NULL) {
			(void)json_object_set_new(node->said, kube_name(item), json_true());
		}
	}
	node->is_swept = true;
	view_nexus_soon(node);
}

static void sweep_again(struct loop_timer *timer)
{
	act_sweep(container_of(timer, struct node, sweep_again));
}

void act_sweep(struct node *node)
{
	char selector[OBJECTS_NAME_SIZE + 32];

	if (node->is_swept || node->is_sweeping || node->is_stopping) {
		return;
	}
	/* Not all Volumes of the cluster: of those there may be thousands. */
	(void)snprintf(selector, sizeof(selector), "status.nexus.node=%s", node->options.name);
	node->is_sweeping = true;
	node->sweep_again.expired = sweep_again;
	node->sweep = (struct kube_request){.verb = KUBE_LIST,
		.kind = &objects_volumes,
		.field_selector = selector,
		.done = swept};
	kube_send(node->kube, &node->sweep);
}
