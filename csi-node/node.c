/* SPDX-License-Identifier: Apache-2.0 */
/* Caches, queues, notes and operations; beginning and end. */
#include "csi-node/node.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOLUME_THREADS 16
#define STATS_THREADS  4
#define DAEMON_THREADS 4

#define RETRY_MS_MIN 2000
#define RETRY_MS_MAX 60000

#define STOP_WAIT_MS 10000
#define STOP_LOOK_MS 50

/* ---- notes ---- */

static struct note *note_find(const struct node *node, unsigned queue, const char *name)
{
	struct key_node *at = keys_find(&node->notes[queue], name);

	return at == NULL ? NULL : container_of(at, struct note, key_node);
}

struct note *note_get(struct node *node, unsigned queue, const char *name)
{
	struct note *note = note_find(node, queue, name);

	if (note == NULL) {
		note = must_alloc(sizeof(*note));
		(void)snprintf(note->name, sizeof(note->name), "%s", name);
		note->key_node.key = note->name;
		if (keys_add(&node->notes[queue], &note->key_node) < 0) {
			abort();
		}
	}
	return note;
}

static void note_free(struct node *node, unsigned queue, struct note *note)
{
	keys_remove(&node->notes[queue], &note->key_node);
	free(note);
}

void note_forget(struct node *node, unsigned queue, const char *name)
{
	struct note *note = note_find(node, queue, name);

	if (note != NULL) {
		note_free(node, queue, note);
	}
}

void note_fill(struct node *node, const struct note *note, struct plan_failure *ret_failure,
	struct plan_clock *ret_clock)
{
	uint64_t now_ms = loop_now_ms(node->loop);

	*ret_failure = note->failure;
	if (now_ms >= note->retry_ms) {
		*ret_failure = (struct plan_failure){0};
	}
	*ret_clock = (struct plan_clock){
		.now_ms = now_ms,
		.written_ms = note->written_ms,
		.may_write_idly = node->idle_written_ms == 0 ||
				  now_ms - node->idle_written_ms >= PLAN_IDLE_MS,
	};
}

void note_attempt(struct node *node, unsigned queue, const char *name, const struct err *err)
{
	struct note *note = note_get(node, queue, name);
	uint64_t delay_ms = RETRY_MS_MIN;

	note->touched_ms = loop_now_ms(node->loop);
	if (err == NULL) {
		note->failure = (struct plan_failure){0};
		note->failure_count = 0;
		return;
	}
	for (unsigned i = 0; i < note->failure_count && delay_ms < RETRY_MS_MAX; i++) {
		delay_ms *= 2;
	}
	note->failure_count++;
	note->failure.code = err->code;
	(void)snprintf(note->failure.text, sizeof(note->failure.text), "%.*s",
		(int)sizeof(note->failure.text) - 1, err->text);
	note->retry_ms = loop_now_ms(node->loop) + min_u64(delay_ms, RETRY_MS_MAX);
	kube_queue_add_after(node->queues[queue], name, min_u64(delay_ms, RETRY_MS_MAX) + 1);
}

void note_written(struct node *node, unsigned queue, const char *name, bool is_idle)
{
	uint64_t now_ms = loop_now_ms(node->loop);

	note_get(node, queue, name)->written_ms = now_ms;
	if (is_idle) {
		node->idle_written_ms = now_ms;
	}
}

bool note_is_seen(const struct note *note, const struct view *view)
{
	return view->is_heard && view->asked_ms >= note->touched_ms;
}

/* ---- operations ---- */

const struct op *op_of(const struct node *node, const char *volume)
{
	list_for_each (&node->ops, at) {
		const struct op *op = container_of(at, struct op, node);

		if (strcmp(op->volume, volume) == 0) {
			return op;
		}
	}
	return NULL;
}

int op_begin(
	struct node *node, struct op *op, const char *volume, const char *what, struct err *err)
{
	const struct op *other = op_of(node, volume);

	if (node->is_stopping) {
		return err_set(err, -ESHUTDOWN, "csi-node is stopping");
	}
	if (other != NULL) {
		return err_set(err, -EALREADY,
			"volume %s is busy: %s is under way; try again when it is done", volume,
			other->what);
	}
	(void)snprintf(op->volume, sizeof(op->volume), "%s", volume);
	op->what = what;
	list_push_back(&node->ops, &op->node);
	return 0;
}

void op_end(struct node *node, struct op *op)
{
	list_remove(&op->node);
	note_get(node, QUEUE_VOLUMES, op->volume)->touched_ms = loop_now_ms(node->loop);
	view_nexus_soon(node);
}

/* ---- changes ---- */

static void look_at(struct node *node, unsigned queue, const char *key)
{
	kube_queue_add(node->queues[queue], key);
}

static void look_at_each(void *ctx, const char *key, const json_t *object)
{
	struct node *node = ctx;

	(void)object;
	look_at(node, QUEUE_REPLICAS, key);
}

static void pool_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct node *node = ctx;

	look_at(node, QUEUE_POOLS, key);
	if (object == NULL) {
		note_forget(node, QUEUE_POOLS, key);
	} else if (before == NULL) {
		view_agent_soon(node);
	}
	/* Whether it is given up matters for its replicas. */
	if (before == NULL || object == NULL ||
		kube_is_deleted(before) != kube_is_deleted(object)) {
		kube_cache_each(node->caches[CACHE_REPLICAS], look_at_each, node);
	}
}

static void replica_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct node *node = ctx;

	look_at(node, QUEUE_REPLICAS, key);
	if (object == NULL) {
		note_forget(node, QUEUE_REPLICAS, key);
	}
	if (before == NULL || object == NULL) {
		/* What is reserved, and whether it may be deleted. */
		look_at(node, QUEUE_POOLS,
			kube_text(object != NULL ? object : before, "spec.pool"));
	}
	if (before == NULL) {
		view_agent_soon(node);
	}
}

static void volume_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct node *node = ctx;

	if (object == NULL &&
		strcmp(kube_text(before, "status.nexus.node"), node->options.name) == 0) {
		(void)json_object_set_new(node->said, key, json_true());
	}
	look_at(node, QUEUE_VOLUMES, key);
	if (before == NULL || object == NULL) {
		view_nexus_soon(node);
	}
}

static void snapshot_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct node *node = ctx;

	(void)before;
	look_at(node, QUEUE_SNAPSHOTS, key);
	if (object == NULL) {
		note_forget(node, QUEUE_SNAPSHOTS, key);
	}
}

void node_absorb_volume(struct node *node, const json_t *json)
{
	if (strcmp(kube_text(json, "status.attachment.node"), node->options.name) == 0) {
		kube_cache_absorb(node->caches[CACHE_VOLUMES], json);
	}
}

bool node_is_ready(const struct node *node)
{
	return node->synced_count == CACHE_COUNT;
}

static void cache_synced(void *ctx)
{
	struct node *node = ctx;

	node->synced_count++;
	if (node_is_ready(node)) {
		log_info(node->log, "node", "ready", "pools=%zu replicas=%zu volumes=%zu",
			kube_cache_count(node->caches[CACHE_POOLS]),
			kube_cache_count(node->caches[CACHE_REPLICAS]),
			kube_cache_count(node->caches[CACHE_VOLUMES]));
		act_sweep(node);
		view_nexus_soon(node);
	}
	node->options.ready(node->options.ctx);
}

/* ---- beginning ---- */

static int start_caches(struct node *node, struct err *err)
{
	char by_node[OBJECTS_NAME_SIZE + 32], by_attachment[OBJECTS_NAME_SIZE + 32];
	char by_taker[OBJECTS_NAME_SIZE + 32];
	const struct kube_cache_options options[CACHE_COUNT] = {
		[CACHE_POOLS] = {.kind = &objects_pools,
			.field_selector = by_node,
			.changed = pool_changed},
		[CACHE_REPLICAS] = {.kind = &objects_replicas,
			.field_selector = by_node,
			.changed = replica_changed},
		[CACHE_VOLUMES] = {.kind = &objects_volumes,
			.field_selector = by_attachment,
			.changed = volume_changed},
		[CACHE_SNAPSHOTS] = {.kind = &objects_snapshots,
			.field_selector = by_taker,
			.changed = snapshot_changed},
	};
	int result = 0;

	(void)snprintf(by_node, sizeof(by_node), "spec.node=%s", node->options.name);
	(void)snprintf(by_attachment, sizeof(by_attachment), "status.attachment.node=%s",
		node->options.name);
	(void)snprintf(by_taker, sizeof(by_taker), "status.node=%s", node->options.name);
	for (unsigned i = 0; i < CACHE_COUNT && result == 0; i++) {
		struct kube_cache_options with_ctx = options[i];

		with_ctx.synced = cache_synced;
		with_ctx.ctx = node;
		result = kube_cache_new(node->kube, &with_ctx, &node->caches[i], err);
	}
	return result;
}

static int start_queues(struct node *node, struct err *err)
{
	const struct kube_queue_options options[QUEUE_COUNT] = {
		[QUEUE_POOLS] = {.name = "pools", .work = act_on_pool},
		[QUEUE_REPLICAS] = {.name = "replicas", .work = act_on_replica},
		[QUEUE_VOLUMES] = {.name = "volumes", .work = act_on_volume},
		[QUEUE_SNAPSHOTS] = {.name = "snapshots", .work = act_on_snapshot},
	};
	int result = 0;

	for (unsigned i = 0; i < QUEUE_COUNT && result == 0; i++) {
		struct kube_queue_options with_ctx = options[i];

		with_ctx.ctx = node;
		result = kube_queue_new(node->kube, &with_ctx, &node->queues[i], err);
	}
	return result;
}

int node_start(struct node *node, const struct node_options *options, struct err *err)
{
	*node = (struct node){
		.options = *options,
		.kube = options->kube,
		.loop = options->loop,
		.log = options->log,
	};
	list_init(&node->ops);
	list_init(&node->stats_ops);
	node->said = json_object();
	int result = seal_key_public(options->sealing_key, node->sealing_key, err);

	result = result < 0 ? result
			    : workers_new(node->loop, "volume", VOLUME_THREADS,
				      &node->volume_workers, err);
	result = result < 0 ? result
			    : workers_new(node->loop, "stats", STATS_THREADS, &node->stats_workers,
				      err);
	result = result < 0 ? result
			    : workers_new(node->loop, "daemon", DAEMON_THREADS,
				      &node->daemon_workers, err);
	/* Queues first: caches fill them. */
	result = result < 0 ? result : start_queues(node, err);
	if (result == 0) {
		views_start(node);
	}
	return result < 0 ? result : start_caches(node, err);
}

/* ---- end ---- */

static unsigned busy_count(const struct node *node)
{
	return workers_busy(node->volume_workers) + workers_busy(node->stats_workers) +
	       workers_busy(node->daemon_workers);
}

static void node_done(struct node *node)
{
	for (unsigned i = 0; i < CACHE_COUNT; i++) {
		kube_cache_free(node->caches[i]);
	}
	for (unsigned i = 0; i < QUEUE_COUNT; i++) {
		kube_queue_free(node->queues[i]);
	}
	workers_free(node->volume_workers);
	workers_free(node->stats_workers);
	workers_free(node->daemon_workers);
	for (unsigned i = 0; i < QUEUE_COUNT; i++) {
		struct key_node *at;

		while ((at = keys_any(&node->notes[i])) != NULL) {
			note_free(node, i, container_of(at, struct note, key_node));
		}
		keys_done(&node->notes[i]);
	}
	agent_view_done(&node->agent);
	daemon_message_free(node->volumes);
	json_decref(node->said);
}

static void stop_look(struct loop_timer *timer)
{
	struct node *node = container_of(timer, struct node, stop_timer);

	if (node->stopping_count > 0 || busy_count(node) > 0 || !list_is_empty(&node->ops)) {
		loop_timer_start(node->loop, timer, STOP_LOOK_MS);
		return;
	}
	node_done(node);
	node->stopped(node->stopped_ctx);
}

static void queue_stopped(void *ctx)
{
	struct node *node = ctx;

	node->stopping_count--;
}

void node_stop(struct node *node, void (*stopped)(void *ctx), void *ctx)
{
	node->is_stopping = true;
	node->stopped = stopped;
	node->stopped_ctx = ctx;
	views_stop(node);
	loop_timer_stop(&node->sweep_again);
	if (node->is_sweeping) {
		kube_cancel(&node->sweep);
	}
	node->stopping_count = QUEUE_COUNT;
	for (unsigned i = 0; i < QUEUE_COUNT; i++) {
		kube_queue_stop(node->queues[i], queue_stopped, node);
	}
	node->stop_timer.expired = stop_look;
	loop_timer_start(node->loop, &node->stop_timer, 0);
}
