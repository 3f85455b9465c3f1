/* SPDX-License-Identifier: Apache-2.0 */
/* From JSON into structs.  Spec is checked; status is our own programs' and what it lacks is empty.
 */
#include "objects/objects.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FILE_URL "file://"

/* A decoder's state: the first mistake counts. */
struct decoder {
	const json_t *json;
	const char *kind;
	struct err *err;
	int result;
};

__attribute__((format(printf, 3, 4))) static void refuse(
	struct decoder *decoder, const char *field, const char *format, ...)
{
	char text[256];
	va_list args;

	if (decoder->result != 0) {
		return;
	}
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	decoder->result = err_set(decoder->err, -EINVAL, "%s %s: %s: %s", decoder->kind,
		kube_name(decoder->json), field, text);
}

static void take_text(struct decoder *decoder, const char *path, char *to, size_t size)
{
	const char *text = kube_text(decoder->json, path);

	if (strlen(text) >= size) {
		refuse(decoder, path, "longer than %zu characters", size - 1);
		return;
	}
	(void)snprintf(to, size, "%s", text);
}

static void take_required(struct decoder *decoder, const char *path, char *to, size_t size)
{
	take_text(decoder, path, to, size);
	if (to[0] == '\0') {
		refuse(decoder, path, "is missing");
	}
}

/* Of status: what does not fit is cut. */
static void copy_text(struct decoder *decoder, const char *path, char *to, size_t size)
{
	(void)snprintf(to, size, "%s", kube_text(decoder->json, path));
}

static void take_uuid(struct decoder *decoder, const char *path, struct uuid *to, bool required)
{
	const char *text = kube_text(decoder->json, path);

	memset(to, 0, sizeof(*to));
	if ((required || text[0] != '\0') && uuid_parse(text, to) < 0) {
		refuse(decoder, path, "\"%.64s\" is no uuid", text);
	}
}

static uint32_t take_number(
	struct decoder *decoder, const char *path, uint32_t fallback, uint32_t min, uint32_t max)
{
	int64_t number = kube_number(decoder->json, path, fallback);

	if (number < min || number > max) {
		refuse(decoder, path, "%lld is not between %u and %u", (long long)number, min, max);
		return fallback;
	}
	return (uint32_t)number;
}

/* A quantity may be written as a number too. */
static int quantity_at(const json_t *json, const char *path, uint64_t *ret_bytes)
{
	const json_t *value = kube_at(json, path);

	*ret_bytes = 0;
	if (json_is_integer(value)) {
		if (json_integer_value(value) < 0) {
			return -EINVAL;
		}
		*ret_bytes = (uint64_t)json_integer_value(value);
		return 0;
	}
	return json_is_string(value) ? kube_quantity_parse(json_string_value(value), ret_bytes)
				     : -ENOENT;
}

static uint64_t take_size(struct decoder *decoder, const char *path)
{
	uint64_t bytes;

	if (quantity_at(decoder->json, path, &bytes) < 0) {
		refuse(decoder, path, "is missing or no quantity (10Gi)");
	} else if (bytes < OBJECTS_SIZE_MIN || bytes > OBJECTS_SIZE_MAX ||
		   bytes % OBJECTS_SIZE_UNIT != 0) {
		refuse(decoder, path, "must be a multiple of 1Mi, from 1Mi to 64Ti");
	}
	return bytes;
}

/* Of status: 0 when it is not there. */
static uint64_t size_of(struct decoder *decoder, const char *path)
{
	uint64_t bytes;

	return quantity_at(decoder->json, path, &bytes) < 0 ? 0 : bytes;
}

static uint64_t count_of(const json_t *json, const char *path, uint64_t max)
{
	int64_t number = kube_number(json, path, 0);

	return number < 0 ? 0 : (uint64_t)number > max ? max : (uint64_t)number;
}

/* The enum whose name it is; `count` when none. */
static unsigned state_of(const char *text, const char *(*name)(unsigned), unsigned count)
{
	unsigned state = 0;

	while (state < count && strcmp(text, name(state)) != 0) {
		state++;
	}
	return state;
}

static void take_meta(struct decoder *decoder, const char *finalizer, struct object_meta *meta)
{
	take_required(decoder, "metadata.name", meta->name, sizeof(meta->name));
	copy_text(decoder, "metadata.uid", meta->uid, sizeof(meta->uid));
	meta->generation = kube_number(decoder->json, "metadata.generation", 0);
	meta->is_deleted = kube_is_deleted(decoder->json);
	meta->has_finalizer = kube_has_finalizer(decoder->json, finalizer);
}

static bool has_condition(const json_t *json, const char *type)
{
	return strcmp(kube_condition_status(kube_at(json, "status.conditions"), type), "True") == 0;
}

/* ---- Pool ---- */

static const char *pool_name_of(unsigned state)
{
	return pool_state_name((enum pool_state)state);
}

/* "/dev/sdb", "file:///path?size=10Gi". */
static void take_disk(struct decoder *decoder, struct pool_object *pool)
{
	const json_t *disks = kube_at(decoder->json, "spec.disks");
	const char *text = json_string_value(json_array_get(disks, 0));
	const char *query;
	size_t length;

	if (json_array_size(disks) != 1 || text == NULL) {
		refuse(decoder, "spec.disks", "a pool has one disk now; make a Pool for each");
		return;
	}
	query = strncmp(text, FILE_URL, strlen(FILE_URL)) == 0 ? strchr(text, '?') : NULL;
	length = query != NULL ? (size_t)(query - text) : strlen(text);
	if (strncmp(text, "/dev/", 5) != 0 &&
		strncmp(text, FILE_URL "/", strlen(FILE_URL) + 1) != 0) {
		refuse(decoder, "spec.disks",
			"\"%.100s\" is neither /dev/... nor file:///path?size=10Gi", text);
	} else if (length >= sizeof(pool->disk)) {
		refuse(decoder, "spec.disks", "longer than %zu characters", sizeof(pool->disk) - 1);
	} else if (query != NULL &&
		   (strncmp(query, "?size=", 6) != 0 ||
			   kube_quantity_parse(query + 6, &pool->file_size_bytes) < 0 ||
			   pool->file_size_bytes == 0)) {
		refuse(decoder, "spec.disks", "\"%.100s\": only ?size=10Gi may follow the path",
			text);
	} else {
		memcpy(pool->disk, text, length);
		pool->disk[length] = '\0';
	}
}

int pool_object_decode(const json_t *json, struct pool_object *ret_pool, struct err *err)
{
	struct decoder decoder = {.json = json, .kind = "Pool", .err = err};
	struct pool_object *pool = ret_pool;
	unsigned state = state_of(kube_text(json, "status.state"), pool_name_of, POOL_RELEASED + 1);

	memset(pool, 0, sizeof(*pool));
	take_meta(&decoder, OBJECTS_FINALIZER_POOL, &pool->meta);
	take_required(&decoder, "spec.node", pool->node, sizeof(pool->node));
	take_disk(&decoder, pool);
	pool->unschedulable = kube_bool(json, "spec.unschedulable");
	pool->wipe = kube_bool(json, "spec.wipe");
	pool->state = state > POOL_RELEASED ? POOL_CREATING : (enum pool_state)state;
	pool->is_ready = has_condition(json, "Ready");
	copy_text(&decoder, "status.uuid", pool->uuid, sizeof(pool->uuid));
	copy_text(&decoder, "status.agent", pool->agent, sizeof(pool->agent));
	copy_text(&decoder, "status.address", pool->address, sizeof(pool->address));
	copy_text(&decoder, "status.reason", pool->reason, sizeof(pool->reason));
	copy_text(&decoder, "status.sealingKey", pool->sealing_key, sizeof(pool->sealing_key));
	pool->capacity_bytes = size_of(&decoder, "status.capacity");
	pool->used_bytes = size_of(&decoder, "status.used");
	pool->reserved_bytes = size_of(&decoder, "status.reserved");
	pool->replicas = (uint32_t)count_of(json, "status.replicas", UINT32_MAX);
	return decoder.result;
}

/* ---- Replica ---- */

static const char *replica_name_of(unsigned state)
{
	return replica_state_name((enum replica_state)state);
}

int replica_object_decode(const json_t *json, struct replica_object *ret_replica, struct err *err)
{
	struct decoder decoder = {.json = json, .kind = "Replica", .err = err};
	struct replica_object *replica = ret_replica;
	unsigned state =
		state_of(kube_text(json, "status.state"), replica_name_of, REPLICA_ORPHANED + 1);

	memset(replica, 0, sizeof(*replica));
	take_meta(&decoder, OBJECTS_FINALIZER_REPLICA, &replica->meta);
	take_required(&decoder, "spec.volume", replica->volume, sizeof(replica->volume));
	take_uuid(&decoder, "spec.volumeUUID", &replica->volume_uuid, true);
	take_uuid(&decoder, "spec.uuid", &replica->uuid, true);
	take_required(&decoder, "spec.pool", replica->pool, sizeof(replica->pool));
	take_required(&decoder, "spec.node", replica->node, sizeof(replica->node));
	replica->is_arbiter = strcmp(kube_text(json, "spec.kind"), "Arbiter") == 0;
	if (!replica->is_arbiter && strcmp(kube_text(json, "spec.kind"), "Data") != 0) {
		refuse(&decoder, "spec.kind",
			"\"%.32s\" is not known here; there are Data and Arbiter",
			kube_text(json, "spec.kind"));
	}
	if (!replica->is_arbiter) {
		replica->size_bytes = take_size(&decoder, "spec.size");
	}
	replica->slot = take_number(&decoder, "spec.slot", 0, 0, INT32_MAX);
	replica->key_number = take_number(&decoder, "spec.key.number", 0, 0, UINT16_MAX);
	take_text(&decoder, "spec.key.sealed", replica->key_sealed, sizeof(replica->key_sealed));
	replica->state = state > REPLICA_ORPHANED ? REPLICA_CREATING : (enum replica_state)state;
	replica->nsid = (uint32_t)count_of(json, "status.nsid", UINT32_MAX);
	replica->used_bytes = size_of(&decoder, "status.used");
	replica->refused = count_of(json, "status.refused", INT64_MAX);
	copy_text(&decoder, "status.reason", replica->reason, sizeof(replica->reason));
	return decoder.result;
}

/* ---- Volume ---- */

static const char *volume_name_of(unsigned state)
{
	return volume_state_name((enum volume_state)state);
}

static void take_nexus(struct decoder *decoder, struct volume_nexus *nexus)
{
	const json_t *legs = kube_at(decoder->json, "status.nexus.replicas");
	size_t index;
	const json_t *leg;

	copy_text(decoder, "status.nexus.node", nexus->node, sizeof(nexus->node));
	nexus->is_there = nexus->node[0] != '\0';
	copy_text(decoder, "status.nexus.device", nexus->device, sizeof(nexus->device));
	copy_text(decoder, "status.nexus.epoch", nexus->epoch, sizeof(nexus->epoch));
	copy_text(decoder, "status.nexus.lineage", nexus->lineage, sizeof(nexus->lineage));
	copy_text(decoder, "status.nexus.record", nexus->record, sizeof(nexus->record));
	copy_text(decoder, "status.nexus.state", nexus->state, sizeof(nexus->state));
	copy_text(decoder, "status.nexus.reason", nexus->reason, sizeof(nexus->reason));
	nexus->superseded_by =
		(uint32_t)count_of(decoder->json, "status.nexus.supersededBy", UINT32_MAX);
	nexus->generation =
		(uint32_t)count_of(decoder->json, "status.nexus.generation", UINT32_MAX);
	json_array_foreach(legs, index, leg)
	{
		if (index == OBJECTS_VOTERS_MAX) {
			break;
		}
		(void)snprintf(nexus->replicas[index].uuid, sizeof(nexus->replicas[index].uuid),
			"%s", kube_text(leg, "uuid"));
		(void)snprintf(nexus->replicas[index].state, sizeof(nexus->replicas[index].state),
			"%s", kube_text(leg, "state"));
		nexus->replicas[index].progress_percent = (unsigned)count_of(leg, "progress", 100);
		nexus->replica_count++;
	}
}

static void take_removed(const json_t *json, struct volume_nexus *nexus)
{
	const json_t *removed = kube_at(json, "status.nexus.removed");
	size_t index;
	const json_t *uuid;

	json_array_foreach(removed, index, uuid)
	{
		if (index < OBJECTS_VOTERS_MAX && json_is_string(uuid)) {
			(void)snprintf(nexus->removed[nexus->removed_count++], UUID_TEXT_SIZE, "%s",
				json_string_value(uuid));
		}
	}
}

static void take_members(const json_t *json, struct volume_object *volume)
{
	const json_t *list = kube_at(json, "status.replicas");
	size_t index;
	const json_t *item;

	json_array_foreach(list, index, item)
	{
		struct volume_member *member = &volume->members[volume->member_count];

		/* Written by an earlier version: it says nothing of voters. */
		if (index == OBJECTS_VOTERS_MAX || kube_text(item, "uuid")[0] == '\0') {
			volume->member_count = 0;
			return;
		}
		(void)snprintf(member->name, sizeof(member->name), "%s", kube_text(item, "name"));
		(void)snprintf(member->uuid, sizeof(member->uuid), "%s", kube_text(item, "uuid"));
		member->is_arbiter = strcmp(kube_text(item, "kind"), "Arbiter") == 0;
		member->is_leaving = kube_bool(item, "leaving");
		volume->member_count++;
	}
}

/* "attach.inc/generation lineage"; earlier versions wrote no lineage. */
static void take_record(const char *record, struct volume_object *volume)
{
	volume->is_used = record[0] != '\0';
	if (sscanf(record, "%" SCNu32 ".%*u/%*u %" SCNx64, &volume->lineage_attach,
		    &volume->lineage) != 2) {
		volume->lineage_attach = 0;
		volume->lineage = 0;
	}
}

static void take_status(struct decoder *decoder, struct volume_object *volume)
{
	const json_t *json = decoder->json;
	unsigned state =
		state_of(kube_text(json, "status.state"), volume_name_of, VOLUME_DELETING + 1);

	volume->state = state > VOLUME_DELETING ? VOLUME_CREATING : (enum volume_state)state;
	volume->is_available = has_condition(json, "Available");
	volume->is_redundant = has_condition(json, "Redundant");
	volume->attach_number = (uint32_t)count_of(json, "status.attachment.number", UINT32_MAX);
	copy_text(decoder, "status.attachment.node", volume->attached_node,
		sizeof(volume->attached_node));
	volume->attached_read_only = kube_bool(json, "status.attachment.readOnly");
	copy_text(decoder, "status.attachment.capability", volume->capability,
		sizeof(volume->capability));
	take_record(kube_text(json, "status.record"), volume);
	take_nexus(decoder, &volume->nexus);
	take_removed(json, &volume->nexus);
	take_members(json, volume);
}

int volume_object_decode(const json_t *json, struct volume_object *ret_volume, struct err *err)
{
	struct decoder decoder = {.json = json, .kind = "Volume", .err = err};
	struct volume_object *volume = ret_volume;

	memset(volume, 0, sizeof(*volume));
	take_meta(&decoder, OBJECTS_FINALIZER_VOLUME, &volume->meta);
	if (strlen(volume->meta.name) >= OBJECTS_VOLUME_SIZE) {
		refuse(&decoder, "metadata.name", "longer than %d characters",
			OBJECTS_VOLUME_SIZE - 1);
	}
	volume->size_bytes = take_size(&decoder, "spec.size");
	take_uuid(&decoder, "spec.uuid", &volume->uuid, false);
	take_text(&decoder, "spec.csiName", volume->csi_name, sizeof(volume->csi_name));
	volume->replicas = take_number(&decoder, "spec.replicas", 3, 1, OBJECTS_REPLICAS_MAX);
	volume->min_insync = take_number(&decoder, "spec.minInsync", 0, 0, volume->replicas);
	take_text(&decoder, "spec.frontend", volume->frontend, sizeof(volume->frontend));
	take_text(&decoder, "spec.placement.preferredNode", volume->preferred_node,
		sizeof(volume->preferred_node));
	volume->pool_selector = kube_at(json, "spec.placement.poolSelector");
	take_text(&decoder, "spec.className", volume->class_name, sizeof(volume->class_name));
	take_text(&decoder, "spec.claim.namespace", volume->claim_namespace,
		sizeof(volume->claim_namespace));
	take_text(&decoder, "spec.claim.name", volume->claim_name, sizeof(volume->claim_name));
	take_status(&decoder, volume);
	return decoder.result;
}

/* ---- Snapshot ---- */

static const char *snapshot_name_of(unsigned state)
{
	return snapshot_state_name((enum snapshot_object_state)state);
}

int snapshot_object_decode(
	const json_t *json, struct snapshot_object *ret_snapshot, struct err *err)
{
	struct decoder decoder = {.json = json, .kind = "Snapshot", .err = err};
	struct snapshot_object *snapshot = ret_snapshot;
	unsigned state =
		state_of(kube_text(json, "status.state"), snapshot_name_of, SNAPSHOT_FAILED + 1);

	memset(snapshot, 0, sizeof(*snapshot));
	take_meta(&decoder, OBJECTS_FINALIZER_SNAPSHOT, &snapshot->meta);
	take_required(&decoder, "spec.volume", snapshot->volume, sizeof(snapshot->volume));
	take_uuid(&decoder, "spec.uuid", &snapshot->uuid, false);
	copy_text(&decoder, "status.node", snapshot->node, sizeof(snapshot->node));
	snapshot->state =
		state > SNAPSHOT_FAILED ? SNAPSHOT_PENDING : (enum snapshot_object_state)state;
	snapshot->is_ready_to_use = kube_bool(json, "status.readyToUse");
	take_uuid(&decoder, "status.volumeUUID", &snapshot->volume_uuid, false);
	return decoder.result;
}
