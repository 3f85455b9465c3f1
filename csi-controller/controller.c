/* SPDX-License-Identifier: Apache-2.0 */
/* Caches, queues and the Lease; what a change means for whom. */
#include "csi-controller/controller.h"

#include "base/bytes.h"
#include "csi-controller/act.h"
#include "csi-controller/wait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LEASE_NAME "strake-controller"
/* Everything is looked at again, should a change have been missed. */
#define RESYNC_MS 300000

/* ---- who is to be looked at ---- */

static void look_at(struct controller *controller, unsigned queue, const char *key)
{
	kube_queue_add(controller->queues[queue], key);
}

static void look_at_replicas_of_volume(
	struct controller *controller, const struct world_volume *volume)
{
	list_for_each (&volume->replicas, node) {
		look_at(controller, QUEUE_REPLICAS,
			container_of(node, struct world_replica, in_volume)->entry.key);
	}
}

static void look_at_snapshots_of_volume(
	struct controller *controller, const struct world_volume *volume)
{
	list_for_each (&volume->snapshots, node) {
		look_at(controller, QUEUE_SNAPSHOTS,
			container_of(node, struct world_snapshot, in_volume)->entry.key);
	}
}

/* The pool's replicas, and their volumes. */
static void look_at_users_of_pool(struct controller *controller, const struct world_pool *pool)
{
	list_for_each (&pool->replicas, node) {
		const struct world_replica *replica =
			container_of(node, struct world_replica, in_pool);

		look_at(controller, QUEUE_REPLICAS, replica->entry.key);
		look_at(controller, QUEUE_VOLUMES, replica->object.volume);
	}
}

/* Its condition Redundant does not tell: all of its data are in sync. */
static bool lacks_arbiter(const struct world_volume *volume)
{
	list_for_each (&volume->replicas, node) {
		const struct world_replica *replica =
			container_of(node, struct world_replica, in_volume);

		if (world_is_of(replica, volume) && replica->object.is_arbiter &&
			!replica->object.meta.is_deleted) {
			return false;
		}
	}
	return volume->object.replicas % 2 == 0;
}

/* There may be room now. */
static void look_at_unplaced(struct controller *controller)
{
	const struct table *volumes = &controller->world.volumes;

	for (struct table_entry *entry = table_next(volumes, NULL); entry != NULL;
		entry = table_next(volumes, entry)) {
		const struct world_volume *volume = container_of(entry, struct world_volume, entry);

		if (volume->is_valid &&
			(!volume->object.is_available || !volume->object.is_redundant ||
				lacks_arbiter(volume))) {
			look_at(controller, QUEUE_VOLUMES, entry->key);
		}
	}
}

void controller_look_at_all(struct controller *controller)
{
	const struct table *const tables[QUEUE_MASTER] = {
		[QUEUE_NODES] = &controller->world.nodes,
		[QUEUE_POOLS] = &controller->world.pools,
		[QUEUE_VOLUMES] = &controller->world.volumes,
		[QUEUE_REPLICAS] = &controller->world.replicas,
		[QUEUE_SNAPSHOTS] = &controller->world.snapshots,
	};

	look_at(controller, QUEUE_MASTER, CONTROLLER_MASTER_SECRET);
	for (unsigned queue = 0; queue < QUEUE_MASTER; queue++) {
		for (struct table_entry *entry = table_next(tables[queue], NULL); entry != NULL;
			entry = table_next(tables[queue], entry)) {
			look_at(controller, queue, entry->key);
		}
	}
}

/* ---- changes ---- */

static void note_invalid(struct controller *controller, int result, const struct err *err)
{
	if (result < 0) {
		log_warning(controller->log, "controller", "object-invalid", "error=%s", err->text);
	}
}

/* It is there, attached where, and which one it is. */
static bool is_other_for_snapshots(const json_t *before, const json_t *object)
{
	return (before == NULL) != (object == NULL) ||
	       strcmp(kube_text(before, "spec.uuid"), kube_text(object, "spec.uuid")) != 0 ||
	       strcmp(kube_text(before, "status.attachment.node"),
		       kube_text(object, "status.attachment.node")) != 0;
}

static void volume_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct controller *controller = ctx;
	const struct world_volume *volume = world_volume(&controller->world, key);
	bool was_valid = volume != NULL && volume->is_valid;
	struct err err = {0};

	note_invalid(controller, world_set_volume(&controller->world, key, object, &err), &err);
	look_at(controller, QUEUE_VOLUMES, key);
	volume = world_volume(&controller->world, key);
	if ((before == NULL || object == NULL) && volume != NULL) {
		look_at_replicas_of_volume(controller, volume);
	}
	if (volume != NULL &&
		(was_valid != volume->is_valid || is_other_for_snapshots(before, object))) {
		look_at_snapshots_of_volume(controller, volume);
	}
	waits_check(controller, key);
}

static void replica_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct controller *controller = ctx;
	const json_t *either = object != NULL ? object : before;
	struct err err = {0};

	note_invalid(controller, world_set_replica(&controller->world, key, object, &err), &err);
	look_at(controller, QUEUE_VOLUMES, kube_text(either, "spec.volume"));
	look_at(controller, QUEUE_REPLICAS, key);
	if (before == NULL || object == NULL) {
		look_at(controller, QUEUE_POOLS, kube_text(either, "spec.pool"));
	}
	if (object == NULL) {
		look_at_unplaced(controller);
	}
}

static void snapshot_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct controller *controller = ctx;
	struct err err = {0};

	(void)before;
	note_invalid(controller, world_set_snapshot(&controller->world, key, object, &err), &err);
	look_at(controller, QUEUE_SNAPSHOTS, key);
}

/* Whether placement and volumes see a difference; used space changes all the time. */
static bool is_pool_the_same(const json_t *before, const json_t *object)
{
	static const char *const paths[] = {"spec", "metadata.labels", "metadata.finalizers",
		"metadata.deletionTimestamp", "status.state", "status.capacity"};

	if (before == NULL || object == NULL) {
		return false;
	}
	for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
		const json_t *was = kube_at(before, paths[i]), *is = kube_at(object, paths[i]);

		if (was != is && !json_equal(was, is)) {
			return false;
		}
	}
	return strcmp(kube_condition_status(kube_at(before, "status.conditions"), "Ready"),
		       kube_condition_status(kube_at(object, "status.conditions"), "Ready")) == 0;
}

static void pool_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct controller *controller = ctx;
	const struct world_pool *pool;
	struct err err = {0};

	note_invalid(controller, world_set_pool(&controller->world, key, object, &err), &err);
	look_at(controller, QUEUE_POOLS, key);
	if (is_pool_the_same(before, object)) {
		return;
	}
	look_at(controller, QUEUE_NODES, kube_text(object != NULL ? object : before, "spec.node"));
	pool = world_pool(&controller->world, key);
	if (pool != NULL) {
		look_at_users_of_pool(controller, pool);
	}
	look_at_unplaced(controller);
}

static void node_changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct controller *controller = ctx;
	const struct table *volumes = &controller->world.volumes;
	const struct world_node *node = world_node(&controller->world, key);
	bool was_there = node != NULL && node->is_there, was_ready = node != NULL && node->is_ready;

	(void)before;
	world_set_node(&controller->world, key, object);
	look_at(controller, QUEUE_NODES, key);
	node = world_node(&controller->world, key);
	if (was_there == (node != NULL && node->is_there) &&
		was_ready == (node != NULL && node->is_ready)) {
		/* A heartbeat. */
		return;
	}
	if (node != NULL) {
		list_for_each (&node->pools, pool_node) {
			const struct world_pool *pool =
				container_of(pool_node, struct world_pool, in_node);

			look_at(controller, QUEUE_POOLS, pool->entry.key);
			look_at_users_of_pool(controller, pool);
		}
	}
	for (struct table_entry *entry = table_next(volumes, NULL); entry != NULL;
		entry = table_next(volumes, entry)) {
		const struct world_volume *volume = container_of(entry, struct world_volume, entry);

		if (volume->is_valid && (strcmp(volume->object.nexus.node, key) == 0 ||
						strcmp(volume->object.attached_node, key) == 0)) {
			look_at(controller, QUEUE_VOLUMES, entry->key);
			look_at_snapshots_of_volume(controller, volume);
		}
	}
	look_at_unplaced(controller);
	waits_check(controller, NULL);
}

/* Of a Node only this is needed, and there is much else. */
static void trim_node(json_t *object)
{
	json_t *status = json_object_get(object, "status");
	json_t *conditions = json_incref(json_object_get(status, "conditions"));

	(void)json_object_del(object, "spec");
	(void)json_object_del(json_object_get(object, "metadata"), "annotations");
	if (status != NULL) {
		(void)json_object_clear(status);
		if (conditions != NULL) {
			(void)json_object_set(status, "conditions", conditions);
		}
	}
	json_decref(conditions);
}

/* ---- leading ---- */

bool controller_is_ready(const struct controller *controller)
{
	return controller->synced_count == CACHE_COUNT;
}

bool controller_has_lease(const struct controller *controller)
{
	return controller_is_ready(controller) && !controller->is_stopping &&
	       controller->lease != NULL && kube_lease_is_leading(controller->lease);
}

bool controller_leads(const struct controller *controller)
{
	return controller->key_number != 0 && controller_has_lease(controller);
}

static void cache_synced(void *ctx)
{
	struct controller *controller = ctx;

	controller->synced_count++;
	if (controller_is_ready(controller)) {
		log_info(controller->log, "controller", "ready",
			"volumes=%zu replicas=%zu pools=%zu nodes=%zu",
			controller->world.volumes.count, controller->world.replicas.count,
			controller->world.pools.count, controller->world.nodes.count);
		controller_look_at_all(controller);
		if (controller->options.ready != NULL) {
			controller->options.ready(controller->options.ctx);
		}
	}
}

static void leading(void *ctx, bool leads)
{
	struct controller *controller = ctx;

	log_info(controller->log, "controller", leads ? "leading" : "not-leading", NULL);
	if (leads) {
		controller_look_at_all(controller);
	} else {
		world_forget_asked(&controller->world);
		waits_end(controller, "this csi-controller is not the leader any more");
	}
}

static void resync(struct loop_timer *timer)
{
	struct controller *controller = container_of(timer, struct controller, resync);

	controller_look_at_all(controller);
	loop_timer_start(kube_loop(controller->kube), timer, RESYNC_MS);
}

static int64_t wall_clock_s(void)
{
	return (int64_t)time(NULL);
}

void controller_look_at_clock(struct controller *controller)
{
	controller->world.now_s = controller->options.now_s();
}

/* ---- beginning and end ---- */

static int start_caches(struct controller *controller, struct err *err)
{
	const struct kube_cache_options options[CACHE_COUNT] = {
		[CACHE_NODES] = {.kind = &kube_nodes, .trim = trim_node, .changed = node_changed},
		[CACHE_POOLS] = {.kind = &objects_pools, .changed = pool_changed},
		[CACHE_VOLUMES] = {.kind = &objects_volumes, .changed = volume_changed},
		[CACHE_REPLICAS] = {.kind = &objects_replicas, .changed = replica_changed},
		[CACHE_SNAPSHOTS] = {.kind = &objects_snapshots, .changed = snapshot_changed},
	};
	int result = 0;

	for (unsigned i = 0; i < CACHE_COUNT && result == 0; i++) {
		struct kube_cache_options with_ctx = options[i];

		with_ctx.synced = cache_synced;
		with_ctx.ctx = controller;
		result = kube_cache_new(controller->kube, &with_ctx, &controller->caches[i], err);
	}
	return result;
}

static int start_queues(struct controller *controller, struct err *err)
{
	const struct kube_queue_options options[QUEUE_COUNT] = {
		[QUEUE_NODES] = {.name = "nodes", .work = act_on_node},
		[QUEUE_POOLS] = {.name = "pools", .work = act_on_pool},
		[QUEUE_VOLUMES] = {.name = "volumes", .work = act_on_volume},
		[QUEUE_REPLICAS] = {.name = "replicas", .work = act_on_replica},
		[QUEUE_SNAPSHOTS] = {.name = "snapshots", .work = act_on_snapshot},
		[QUEUE_MASTER] = {.name = "master", .work = act_on_master},
	};
	int result = 0;

	for (unsigned i = 0; i < QUEUE_COUNT && result == 0; i++) {
		struct kube_queue_options with_ctx = options[i];

		with_ctx.ctx = controller;
		result = kube_queue_new(controller->kube, &with_ctx, &controller->queues[i], err);
	}
	return result;
}

int controller_start(
	struct controller *controller, const struct controller_options *options, struct err *err)
{
	struct kube_lease_options lease = {
		.namespace = options->namespace,
		.name = LEASE_NAME,
		.identity = options->identity,
		.leading = leading,
		.ctx = controller,
	};

	*controller = (struct controller){
		.options = *options, .kube = options->kube, .log = options->log};
	if (controller->options.now_s == NULL) {
		controller->options.now_s = wall_clock_s;
	}
	rng_init(&controller->rng, options->seed);
	world_init(&controller->world, options->overcommit_percent);
	controller->world.replace_after_s = options->replace_after_s;
	list_init(&controller->waits);
	controller->resync.expired = resync;
	loop_timer_start(kube_loop(options->kube), &controller->resync, RESYNC_MS);
	/* Queues first: caches fill them. */
	int result = start_queues(controller, err);

	result = result < 0 ? result
			    : kube_recorder_new(options->kube, "strake-controller",
				      options->identity, &controller->recorder, err);
	result = result < 0 ? result : start_caches(controller, err);
	return result < 0 ? result : kube_lease_new(options->kube, &lease, &controller->lease, err);
}

static void part_ended(void *ctx)
{
	struct controller *controller = ctx;

	if (--controller->stopping_count > 0) {
		return;
	}
	loop_timer_stop(&controller->resync);
	for (unsigned i = 0; i < CACHE_COUNT; i++) {
		kube_cache_free(controller->caches[i]);
	}
	for (unsigned i = 0; i < QUEUE_COUNT; i++) {
		kube_queue_free(controller->queues[i]);
	}
	kube_recorder_free(controller->recorder);
	world_done(&controller->world);
	controller->stopped(controller->stopped_ctx);
}

static void lease_freed(void *ctx)
{
	struct controller *controller = ctx;

	controller->lease = NULL;
	part_ended(controller);
}

static void queue_stopped(void *ctx)
{
	struct controller *controller = ctx;

	/* The Lease is given back when nothing of ours is under way any more. */
	if (--controller->stopping_count == 1) {
		kube_lease_free(controller->lease, lease_freed, controller);
	}
}

void controller_stop_waiting(struct controller *controller)
{
	controller->is_stopping = true;
	waits_end(controller, "csi-controller is stopping");
}

void controller_stop(struct controller *controller, void (*stopped)(void *ctx), void *ctx)
{
	controller_stop_waiting(controller);
	controller->stopped = stopped;
	controller->stopped_ctx = ctx;
	controller->stopping_count = QUEUE_COUNT + 1;
	for (unsigned i = 0; i < QUEUE_COUNT; i++) {
		kube_queue_stop(controller->queues[i], queue_stopped, controller);
	}
}
