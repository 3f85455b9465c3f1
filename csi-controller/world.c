/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/world.h"

#include "base/bytes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- times ---- */

/* Days since 1970 of a date of the Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	/* The year begins in March: the leap day is its last. */
	year -= month <= 2;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - 719468;
}

char *world_time_text(int64_t time_s, char text[KUBE_TIME_TEXT_SIZE])
{
	time_t time = (time_t)time_s;
	struct tm parts;

	(void)gmtime_r(&time, &parts);
	(void)strftime(text, KUBE_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts);
	return text;
}

int64_t world_time_parse(const char *text)
{
	unsigned year, month, day, hour, minute, second;

	if (sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u", &year, &month, &day, &hour, &minute, &second) !=
			6 ||
		month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59) {
		return 0;
	}
	return days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
}

/* ---- entries ---- */

/* Finds or makes the entry of a name. */
static struct world_node *need_node(struct world *world, const char *name)
{
	struct world_node *node = world_node(world, name);

	if (node == NULL) {
		node = must_alloc(sizeof(*node));
		list_init(&node->pools);
		table_add(&world->nodes, &node->entry, name);
	}
	return node;
}

static struct world_pool *need_pool(struct world *world, const char *name)
{
	struct world_pool *pool = world_pool(world, name);

	if (pool == NULL) {
		pool = must_alloc(sizeof(*pool));
		list_init(&pool->replicas);
		table_add(&world->pools, &pool->entry, name);
	}
	return pool;
}

static struct world_volume *need_volume(struct world *world, const char *name)
{
	struct world_volume *volume = world_volume(world, name);

	if (volume == NULL) {
		volume = must_alloc(sizeof(*volume));
		list_init(&volume->replicas);
		list_init(&volume->snapshots);
		table_add(&world->volumes, &volume->entry, name);
	}
	return volume;
}

static void drop_node(struct world *world, struct world_node *node)
{
	if (node != NULL && !node->is_there && list_is_empty(&node->pools)) {
		table_remove(&world->nodes, &node->entry);
		free(node);
	}
}

static void drop_pool(struct world *world, struct world_pool *pool)
{
	if (pool != NULL && !pool->is_there && list_is_empty(&pool->replicas)) {
		table_remove(&world->pools, &pool->entry);
		free(pool);
	}
}

static void drop_volume(struct world *world, struct world_volume *volume)
{
	if (volume != NULL && !volume->is_there && list_is_empty(&volume->replicas) &&
		list_is_empty(&volume->snapshots)) {
		table_remove(&world->volumes, &volume->entry);
		free(volume);
	}
}

/* ---- nodes ---- */

static const json_t *condition_of(const json_t *json, const char *type)
{
	const json_t *conditions = kube_at(json, "status.conditions");

	for (size_t i = 0; i < json_array_size(conditions); i++) {
		const json_t *condition = json_array_get(conditions, i);

		if (strcmp(kube_text(condition, "type"), type) == 0) {
			return condition;
		}
	}
	return NULL;
}

void world_set_node(struct world *world, const char *name, const json_t *json)
{
	struct world_node *node = need_node(world, name);
	/* The label's key has dots. */
	const char *label = json_string_value(
		json_object_get(kube_at(json, "metadata.labels"), OBJECTS_LABEL_POOL_AGENT));

	node->is_there = json != NULL;
	node->is_ready = json != NULL &&
			 strcmp(kube_text(condition_of(json, "Ready"), "status"), "True") == 0;
	node->has_label = label != NULL && strcmp(label, "true") == 0;
	drop_node(world, node);
}

/* ---- pools ---- */

static void read_ready(const json_t *json, struct world_ready *to)
{
	const json_t *condition = condition_of(json, "Ready");

	(void)snprintf(to->status, sizeof(to->status), "%s", kube_text(condition, "status"));
	(void)snprintf(to->reason, sizeof(to->reason), "%s", kube_text(condition, "reason"));
	to->since_s = world_time_parse(kube_text(condition, "lastTransitionTime"));
}

static void replace_json(json_t **to, const json_t *json)
{
	/* Objects in caches do not change: a new version is a new one. */
	json_t *taken = json_incref((json_t *)(uintptr_t)json);

	json_decref(*to);
	*to = taken;
}

int world_set_pool(struct world *world, const char *name, const json_t *json, struct err *err)
{
	struct world_pool *pool = need_pool(world, name);
	struct world_node *before = pool->node;
	int result = 0;

	replace_json(&pool->json, json);
	pool->is_there = json != NULL;
	if (json != NULL) {
		result = pool_object_decode(json, &pool->object, err);
	}
	pool->is_valid = json != NULL && result == 0;
	list_remove_if_linked(&pool->in_node);
	pool->node = NULL;
	if (pool->is_valid) {
		read_ready(json, &pool->ready);
		pool->node = need_node(world, pool->object.node);
		list_push_back(&pool->node->pools, &pool->in_node);
	}
	if (before != pool->node) {
		drop_node(world, before);
	}
	drop_pool(world, pool);
	return result;
}

/* ---- volumes ---- */

/* A replica grows with its volume, whatever size it was made with: its room is what it may come to
 * need. */
static void reserve_room(struct world_replica *replica)
{
	const struct world_volume *volume = replica->volume;
	uint64_t size_bytes = replica->object.size_bytes;

	if (!replica->object.is_arbiter && volume->is_valid &&
		uuid_equal(&volume->object.uuid, &replica->object.volume_uuid)) {
		size_bytes = max_u64(size_bytes, volume->object.size_bytes);
	}
	replica->pool->reserved_bytes += size_bytes - replica->reserved_bytes;
	replica->reserved_bytes = size_bytes;
}

int world_set_volume(struct world *world, const char *name, const json_t *json, struct err *err)
{
	struct world_volume *volume = need_volume(world, name);
	int result = 0;

	if (strcmp(kube_uid(volume->json), kube_uid(json)) != 0) {
		volume->is_verified = false;
	}
	replace_json(&volume->json, json);
	volume->is_there = json != NULL;
	if (json != NULL) {
		result = volume_object_decode(json, &volume->object, err);
	}
	volume->is_valid = json != NULL && result == 0;
	volume->deleted_s = world_time_parse(kube_text(json, "metadata.deletionTimestamp"));
	list_for_each (&volume->replicas, node) {
		reserve_room(container_of(node, struct world_replica, in_volume));
	}
	drop_volume(world, volume);
	return result;
}

/* ---- replicas ---- */

static void unlink_replica(struct world *world, struct world_replica *replica)
{
	struct world_pool *pool = replica->pool;
	struct world_volume *volume = replica->volume;

	if (!replica->is_valid) {
		return;
	}
	list_remove(&replica->in_pool);
	list_remove(&replica->in_volume);
	pool->replica_count--;
	pool->reserved_bytes -= replica->reserved_bytes;
	replica->reserved_bytes = 0;
	replica->pool = NULL;
	replica->volume = NULL;
	replica->is_valid = false;
	drop_pool(world, pool);
	drop_volume(world, volume);
}

static void link_replica(struct world *world, struct world_replica *replica)
{
	replica->is_valid = true;
	replica->pool = need_pool(world, replica->object.pool);
	replica->volume = need_volume(world, replica->object.volume);
	list_push_back(&replica->pool->replicas, &replica->in_pool);
	list_push_back(&replica->volume->replicas, &replica->in_volume);
	replica->pool->replica_count++;
	reserve_room(replica);
}

static struct world_replica *need_replica(struct world *world, const char *name)
{
	struct world_replica *replica = world_replica(world, name);

	if (replica == NULL) {
		replica = must_alloc(sizeof(*replica));
		table_add(&world->replicas, &replica->entry, name);
	}
	return replica;
}

static void free_replica(struct world *world, struct world_replica *replica)
{
	unlink_replica(world, replica);
	json_decref(replica->json);
	table_remove(&world->replicas, &replica->entry);
	free(replica);
}

int world_set_replica(struct world *world, const char *name, const json_t *json, struct err *err)
{
	struct world_replica *replica = need_replica(world, name);
	int result;

	if (json == NULL) {
		free_replica(world, replica);
		return 0;
	}
	if (replica->json == NULL || strcmp(kube_uid(replica->json), kube_uid(json)) != 0) {
		replica->is_doomed = false;
	}
	unlink_replica(world, replica);
	replace_json(&replica->json, json);
	replica->is_pending = false;
	result = replica_object_decode(json, &replica->object, err);
	if (result == 0) {
		read_ready(json, &replica->ready);
		replica->created_s =
			world_time_parse(kube_text(json, "metadata.creationTimestamp"));
		link_replica(world, replica);
	}
	return result;
}

void world_reserve(struct world *world, const struct world_volume *volume, const char *name,
	uint32_t slot, const char *pool, const char *node, bool is_arbiter)
{
	struct world_replica *replica = world_replica(world, name);
	struct replica_object *object;

	if (replica != NULL) {
		return;
	}
	replica = need_replica(world, name);
	replica->is_pending = true;
	replica->created_s = world->now_s;
	object = &replica->object;
	(void)snprintf(object->meta.name, sizeof(object->meta.name), "%s", name);
	(void)snprintf(object->volume, sizeof(object->volume), "%.63s", volume->object.meta.name);
	(void)snprintf(object->pool, sizeof(object->pool), "%s", pool);
	(void)snprintf(object->node, sizeof(object->node), "%s", node);
	object->volume_uuid = volume->object.uuid;
	object->is_arbiter = is_arbiter;
	object->size_bytes = is_arbiter ? 0 : volume->object.size_bytes;
	object->slot = slot;
	link_replica(world, replica);
}

void world_unreserve(struct world *world, const char *name)
{
	struct world_replica *replica = world_replica(world, name);

	if (replica != NULL && replica->is_pending) {
		free_replica(world, replica);
	}
}

void world_doom(struct world *world, const char *name)
{
	struct world_replica *replica = world_replica(world, name);

	if (replica != NULL) {
		replica->is_doomed = true;
	}
}

void world_forget_asked(struct world *world)
{
	struct table_entry *entry;

	for (entry = table_next(&world->volumes, NULL); entry != NULL;
		entry = table_next(&world->volumes, entry)) {
		container_of(entry, struct world_volume, entry)->is_verified = false;
	}
	entry = table_next(&world->replicas, NULL);
	while (entry != NULL) {
		struct world_replica *replica = container_of(entry, struct world_replica, entry);

		replica->is_doomed = false;
		entry = table_next(&world->replicas, entry);
		if (replica->is_pending) {
			free_replica(world, replica);
		}
	}
}

/* ---- snapshots ---- */

static void unlink_snapshot(struct world *world, struct world_snapshot *snapshot)
{
	struct world_volume *volume = snapshot->volume;

	if (snapshot->is_valid) {
		list_remove(&snapshot->in_volume);
		snapshot->volume = NULL;
		snapshot->is_valid = false;
		drop_volume(world, volume);
	}
}

static void free_snapshot(struct world *world, struct world_snapshot *snapshot)
{
	unlink_snapshot(world, snapshot);
	json_decref(snapshot->json);
	table_remove(&world->snapshots, &snapshot->entry);
	free(snapshot);
}

int world_set_snapshot(struct world *world, const char *name, const json_t *json, struct err *err)
{
	struct world_snapshot *snapshot = world_snapshot(world, name);
	int result;

	if (json == NULL) {
		if (snapshot != NULL) {
			free_snapshot(world, snapshot);
		}
		return 0;
	}
	if (snapshot == NULL) {
		snapshot = must_alloc(sizeof(*snapshot));
		table_add(&world->snapshots, &snapshot->entry, name);
	}
	unlink_snapshot(world, snapshot);
	replace_json(&snapshot->json, json);
	result = snapshot_object_decode(json, &snapshot->object, err);
	if (result == 0) {
		snapshot->is_valid = true;
		snapshot->volume = need_volume(world, snapshot->object.volume);
		list_push_back(&snapshot->volume->snapshots, &snapshot->in_volume);
	}
	return result;
}

/* ---- the whole ---- */

void world_init(struct world *world, unsigned overcommit_percent)
{
	*world = (struct world){.overcommit_percent = overcommit_percent};
}

void world_done(struct world *world)
{
	struct table_entry *entry;

	while ((entry = table_next(&world->replicas, NULL)) != NULL) {
		free_replica(world, container_of(entry, struct world_replica, entry));
	}
	while ((entry = table_next(&world->snapshots, NULL)) != NULL) {
		free_snapshot(world, container_of(entry, struct world_snapshot, entry));
	}
	while ((entry = table_next(&world->volumes, NULL)) != NULL) {
		struct world_volume *volume = container_of(entry, struct world_volume, entry);

		json_decref(volume->json);
		table_remove(&world->volumes, entry);
		free(volume);
	}
	while ((entry = table_next(&world->pools, NULL)) != NULL) {
		struct world_pool *pool = container_of(entry, struct world_pool, entry);

		json_decref(pool->json);
		table_remove(&world->pools, entry);
		free(pool);
	}
	while ((entry = table_next(&world->nodes, NULL)) != NULL) {
		struct world_node *node = container_of(entry, struct world_node, entry);

		table_remove(&world->nodes, entry);
		free(node);
	}
	table_done(&world->replicas);
	table_done(&world->snapshots);
	table_done(&world->volumes);
	table_done(&world->pools);
	table_done(&world->nodes);
}

/* ---- questions ---- */

struct world_node *world_node(const struct world *world, const char *name)
{
	struct table_entry *entry = table_find(&world->nodes, name);

	return entry == NULL ? NULL : container_of(entry, struct world_node, entry);
}

struct world_pool *world_pool(const struct world *world, const char *name)
{
	struct table_entry *entry = table_find(&world->pools, name);

	return entry == NULL ? NULL : container_of(entry, struct world_pool, entry);
}

struct world_volume *world_volume(const struct world *world, const char *name)
{
	struct table_entry *entry = table_find(&world->volumes, name);

	return entry == NULL ? NULL : container_of(entry, struct world_volume, entry);
}

struct world_replica *world_replica(const struct world *world, const char *name)
{
	struct table_entry *entry = table_find(&world->replicas, name);

	return entry == NULL ? NULL : container_of(entry, struct world_replica, entry);
}

struct world_snapshot *world_snapshot(const struct world *world, const char *name)
{
	struct table_entry *entry = table_find(&world->snapshots, name);

	return entry == NULL ? NULL : container_of(entry, struct world_snapshot, entry);
}

bool world_is_of(const struct world_replica *replica, const struct world_volume *volume)
{
	return replica->is_valid && volume->is_valid && replica->volume == volume &&
	       uuid_equal(&replica->object.volume_uuid, &volume->object.uuid);
}

bool world_node_is_ready(const struct world *world, const char *name)
{
	const struct world_node *node = world_node(world, name);

	return node != NULL && node->is_there && node->is_ready;
}

bool world_pool_is_usable(const struct world_pool *pool)
{
	return pool->is_valid && pool->object.state == POOL_ONLINE && pool->object.is_ready &&
	       pool->node->is_there && pool->node->is_ready;
}

uint64_t world_pool_room(const struct world *world, const struct world_pool *pool)
{
	uint64_t capacity = pool->object.capacity_bytes, percent = world->overcommit_percent;
	uint64_t promised = capacity / 100 * percent + capacity % 100 * percent / 100;

	return promised > pool->reserved_bytes ? promised - pool->reserved_bytes : 0;
}
