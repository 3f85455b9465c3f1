/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the plans of Snapshots. */
#include "csi-node/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct act {
	struct node *node;
	char key[OBJECTS_NAME_SIZE];
	struct uuid of; /* the Volume, while the nexus is asked */
	struct op op;
	struct kube_request request;
	struct work work;
	/* the thread's */
	char socket[DAEMON_SOCKET_SIZE], volume[OBJECTS_VOLUME_SIZE], uuid[UUID_TEXT_SIZE];
	Strake__V1__Snapshot *made; /* owned */
	int result;
	struct err err;
};

static void act_over(struct act *act, bool is_well)
{
	kube_queue_done(act->node->queues[QUEUE_SNAPSHOTS], act->key,
		is_well ? KUBE_QUEUE_OK : KUBE_QUEUE_AGAIN);
	daemon_message_free(act->made);
	free(act);
}

/* ---- the API ---- */

static void written(struct kube_request *request)
{
	struct act *act = container_of(request, struct act, request);
	struct node *node = act->node;
	bool is_well = request->result == 0 || request->result == -ENOENT;

	if (request->result == 0) {
		if (strcmp(kube_text(request->response, "status.node"), node->options.name) == 0) {
			kube_cache_absorb(node->caches[CACHE_SNAPSHOTS], request->response);
		}
	} else if (!is_well) {
		log_write(node->log, request->result == -EAGAIN ? LOG_DEBUG : LOG_WARNING, "node",
			"snapshot-not-written", "snapshot=%s error=%s", act->key,
			request->err.text);
	}
	act_over(act, is_well);
}

/* Of the very version that was decided on: by now it may be another node's, or say that it is
 * ready. */
static void write_status(struct act *act, const json_t *json, json_t *status)
{
	json_t *body = status_body(&objects_snapshots, act->key, status);

	(void)json_object_set_new(json_object_get(body, "metadata"), "resourceVersion",
		json_string(kube_text(json, "metadata.resourceVersion")));
	act->request = (struct kube_request){
		.verb = KUBE_APPLY,
		.kind = &objects_snapshots,
		.name = act->key,
		.subresource = "status",
		.body = body,
		.done = written,
	};
	kube_send(act->node->kube, &act->request);
	json_decref(body);
}

/* ---- facts ---- */

struct known {
	const json_t *json; /* the cache's */
	struct snapshot_object object;
	struct volume_object volume;
	struct snapshot_facts facts;
};

/* false: there is nothing to decide on. */
static bool look(struct act *act, struct known *known)
{
	struct node *node = act->node;
	const json_t *volume_json;
	struct plan_clock clock;
	struct err err = {0};

	known->json = kube_cache_get(node->caches[CACHE_SNAPSHOTS], act->key);
	if (known->json == NULL) {
		/* An answer that came later made it anew. */
		note_forget(node, QUEUE_SNAPSHOTS, act->key);
		return false;
	}
	if (snapshot_object_decode(known->json, &known->object, &err) < 0) {
		log_warning(node->log, "node", "object-invalid", "error=%s", err.text);
		return false;
	}
	volume_json = kube_cache_get(node->caches[CACHE_VOLUMES], known->object.volume);

	bool has_volume =
		volume_json != NULL && volume_object_decode(volume_json, &known->volume, &err) == 0;

	known->facts = (struct snapshot_facts){
		.node = node->options.name,
		.json = known->json,
		.object = &known->object,
		.volume_object = has_volume ? &known->volume : NULL,
		.nexus_failure = view_failure(&node->nexus_poll),
		.volume = view_volume(node, known->object.volume),
	};
	note_fill(node, note_get(node, QUEUE_SNAPSHOTS, act->key), &known->facts.failure, &clock);
	return true;
}

/* ---- the nexus ---- */

static void nexus_run(struct work *work)
{
	struct act *act = container_of(work, struct act, work);

	act->result = nexus_snapshot(act->socket, act->volume, act->uuid, &act->made, &act->err);
}

/* It is still the object that it was asked for, of the volume that this node has: not of another
 * one that was made under the name. */
static bool is_asked_for(const struct act *act, const struct known *known)
{
	char uuid[UUID_TEXT_SIZE];

	return strcmp(uuid_to_text(&known->object.uuid, uuid), act->uuid) == 0 &&
	       strcmp(known->object.volume, act->volume) == 0 &&
	       known->facts.volume_object != NULL &&
	       uuid_equal(&known->facts.volume_object->uuid, &act->of) &&
	       !known->object.meta.is_deleted && known->object.state != SNAPSHOT_READY &&
	       known->object.state != SNAPSHOT_FAILED;
}

static void nexus_done(struct work *work)
{
	struct act *act = container_of(work, struct act, work);
	struct node *node = act->node;
	char now[KUBE_TIME_TEXT_SIZE];
	struct known known;

	op_end(node, &act->op);
	if (act->result == 0 && !act->made->ready) {
		act->result = err_set(&act->err, -EAGAIN,
			"snapshot %llu was made, and too few replicas in sync have it",
			(unsigned long long)act->made->number);
	}
	note_attempt(node, QUEUE_SNAPSHOTS, act->key, act->result < 0 ? &act->err : NULL);
	if (act->result < 0) {
		log_warning(node->log, "node", "snapshot-failed", "snapshot=%s volume=%s error=%s",
			act->key, act->volume, act->err.text);
		kube_queue_add(node->queues[QUEUE_SNAPSHOTS], act->key);
		act_over(act, true);
		return;
	}
	log_info(node->log, "node", "snapshot-made", "snapshot=%s volume=%s number=%llu", act->key,
		act->volume, (unsigned long long)act->made->number);
	if (!look(act, &known) || !is_asked_for(act, &known)) {
		act_over(act, true);
		return;
	}
	write_status(
		act, known.json, plan_snapshot_made(&known.facts, act->made, kube_time_now(now)));
}

static void ask_nexus(struct act *act, const struct known *known)
{
	struct node *node = act->node;
	struct err err;

	/* The next look at the nexus brings it back. */
	if (op_begin(node, &act->op, known->object.volume, "taking a snapshot", &err) < 0) {
		act_over(act, true);
		return;
	}
	(void)snprintf(act->socket, sizeof(act->socket), "%s", node->options.nexus_socket);
	(void)snprintf(act->volume, sizeof(act->volume), "%s", known->object.volume);
	(void)uuid_to_text(&known->object.uuid, act->uuid);
	act->of = known->volume.uuid;
	act->work.run = nexus_run;
	act->work.done = nexus_done;
	/* It waits for what the volume waits for. */
	workers_submit(node->volume_workers, &act->work);
}

/* ---- one step ---- */

/* The answer of the nexus is of after the last operation on the volume. */
static bool is_view_fresh(struct node *node, const struct known *known)
{
	const char *volume = known->object.volume;

	return op_of(node, volume) == NULL &&
	       (known->facts.volume_object == NULL ||
		       note_is_seen(note_get(node, QUEUE_VOLUMES, volume), &node->nexus_poll));
}

void act_on_snapshot(void *ctx, const char *key)
{
	struct node *node = ctx;
	struct act *act = must_alloc(sizeof(*act));
	struct snapshot_plan next;
	struct known known;

	act->node = node;
	(void)snprintf(act->key, sizeof(act->key), "%s", key);
	if (!node_is_ready(node) || !node->nexus_poll.is_heard || !look(act, &known) ||
		!is_view_fresh(node, &known)) {
		act_over(act, true);
		return;
	}
	plan_snapshot(&known.facts, &next);
	switch (next.action) {
	case SNAPSHOT_NOTHING:
		act_over(act, true);
		return;
	case SNAPSHOT_ASK:
		ask_nexus(act, &known);
		return;
	case SNAPSHOT_WRITE_STATUS:
		write_status(act, known.json, next.status);
		return;
	}
}
