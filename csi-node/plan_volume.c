/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/daemons.h"
#include "csi-node/plan.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#define STATE_UNKNOWN "Unknown"

bool plan_nexus_is_open(const Strake__V1__Volume *volume)
{
	return volume != NULL && strcmp(volume->state, NEXUS_CLOSED) != 0;
}

/*
 * It is recorded here with a higher attach number than it is attached with: after a forced recovery
 * on this node, or when etcd was restored.  It cannot be opened so.
 */
static bool is_ahead(const struct volume_object *object, const Strake__V1__Volume *volume)
{
	return volume != NULL && !plan_nexus_is_open(volume) && object->attach_number > 0 &&
	       volume->attach > object->attach_number;
}

bool plan_recovery_is_news(const struct volume_object *object, const Strake__V1__Volume *volume)
{
	/* As csi-controller orders them: one that came too late is void. */
	return volume->recovered && !plan_nexus_is_open(volume) &&
	       object->lineage != volume->lineage && volume->attach > object->lineage_attach;
}

/* ---- status.nexus ---- */

static void set_text(json_t *to, const char *key, const char *text)
{
	if (text[0] != '\0') {
		(void)json_object_set_new(to, key, plan_text(text));
	}
}

static json_t *replica_json(const Strake__V1__VolumeReplica *replica)
{
	json_t *json = json_object();
	uint64_t done = replica->rebuild_done_bytes, total = replica->rebuild_total_bytes;

	set_text(json, "uuid", replica->uuid);
	set_text(json, "state", replica->state);
	set_text(json, "reason", replica->reason);
	if (strcmp(replica->state, "Rebuilding") == 0 && total > 0) {
		(void)json_object_set_new(json, "progress",
			json_integer((json_int_t)((done < total ? done : total) * 100 / total)));
		if (replica->rebuild_seconds_left > 0) {
			(void)json_object_set_new(json, "secondsLeft",
				json_integer((json_int_t)replica->rebuild_seconds_left));
		}
	}
	return json;
}

bool plan_nexus_is_serving(const Strake__V1__Volume *volume)
{
	return strcmp(volume->state, NEXUS_ONLINE) == 0 ||
	       strcmp(volume->state, NEXUS_DEGRADED) == 0;
}

/* NULL: it has no vote, and is not about to get one. */
static const Strake__V1__VolumeReplica *voter_of(const Strake__V1__Volume *volume, const char *uuid)
{
	for (size_t i = 0; i < volume->n_replicas; i++) {
		const Strake__V1__VolumeReplica *replica = volume->replicas[i];

		if (strcasecmp(replica->uuid, uuid) == 0 &&
			strcmp(replica->membership, "None") != 0) {
			return replica;
		}
	}
	return NULL;
}

static json_t *removed_json(const struct volume_object *object, const Strake__V1__Volume *volume)
{
	json_t *removed = json_array();

	for (unsigned i = 0; i < object->member_count && plan_nexus_is_serving(volume); i++) {
		const struct volume_member *member = &object->members[i];

		if (member->is_leaving && voter_of(volume, member->uuid) == NULL) {
			(void)json_array_append_new(removed, json_string(member->uuid));
		}
	}
	return removed;
}

json_t *plan_nexus_json(const char *node, const struct volume_object *object,
	const Strake__V1__Volume *volume, const json_t *before, const char *time_now)
{
	json_t *json = json_object(), *replicas = json_array();
	bool is_same = strcmp(kube_text(before, "node"), node) == 0 &&
		       strcmp(kube_text(before, "epoch"), volume->epoch) == 0;

	set_text(json, "node", node);
	/* Of this opening. */
	set_text(json, "since", is_same ? kube_text(before, "since") : time_now);
	set_text(json, "device", volume->device);
	set_text(json, "frontend", volume->frontend);
	set_text(json, "epoch", volume->epoch);
	(void)json_object_set_new(json, "generation", json_integer((json_int_t)volume->generation));
	if (volume->lineage != 0) {
		char lineage[OBJECTS_LINEAGE_SIZE];

		/* JSON numbers have no 64 bits everywhere. */
		(void)snprintf(lineage, sizeof(lineage), "%016" PRIx64, volume->lineage);
		set_text(json, "lineage", lineage);
	}
	if (plan_nexus_is_serving(volume)) {
		(void)json_object_set_new(json, "size", plan_quantity(volume->size_bytes));
	}
	uint32_t superseded_by = volume->superseded_by;

	if (plan_recovery_is_news(object, volume)) {
		char record[OBJECTS_RECORD_SIZE];

		(void)snprintf(record, sizeof(record), "%" PRIu32 ".0/0 %016" PRIx64,
			volume->attach, volume->lineage);
		set_text(json, "record", record);
	}
	if (is_ahead(object, volume) || plan_recovery_is_news(object, volume)) {
		superseded_by = volume->attach;
		set_text(json, "state", NEXUS_SUPERSEDED);
		set_text(json, "reason",
			"this node has recorded a higher attach number than that of the "
			"attachment");
	} else {
		set_text(json, "state", volume->state);
		set_text(json, "reason", volume->reason);
	}
	if (superseded_by > 0) {
		(void)json_object_set_new(
			json, "supersededBy", json_integer((json_int_t)superseded_by));
	}
	for (size_t i = 0; i < volume->n_replicas; i++) {
		if (strcmp(volume->replicas[i]->membership, "None") != 0) {
			(void)json_array_append_new(replicas, replica_json(volume->replicas[i]));
		}
	}
	(void)json_object_set_new(json, "replicas", replicas);

	json_t *removed = removed_json(object, volume);

	if (json_array_size(removed) > 0) {
		(void)json_object_set(json, "removed", removed);
	}
	json_decref(removed);
	return json;
}

/* Without what moves all the time. */
static json_t *without_progress(const json_t *nexus)
{
	json_t *copy = json_deep_copy(nexus);
	json_t *replicas = json_object_get(copy, "replicas"), *replica;
	size_t i;

	json_array_foreach(replicas, i, replica)
	{
		(void)json_object_del(replica, "progress");
		(void)json_object_del(replica, "secondsLeft");
	}
	return copy;
}

static bool differs_in_progress_only(const json_t *a, const json_t *b)
{
	json_t *plain_a = without_progress(a), *plain_b = without_progress(b);
	bool is_equal = json_equal(plain_a, plain_b);

	json_decref(plain_a);
	json_decref(plain_b);
	return is_equal;
}

static void plan_writing(
	const struct volume_facts *facts, const json_t *before, struct volume_plan *plan)
{
	json_t *nexus =
		plan_nexus_json(facts->node, facts->object, facts->volume, before, facts->time_now);
	bool is_due = true;

	if (before != NULL && json_equal(before, nexus)) {
		is_due = false;
	} else if (before != NULL && differs_in_progress_only(before, nexus)) {
		plan->is_idle = true;
		is_due = facts->clock.may_write_idly &&
			 (facts->clock.written_ms == 0 ||
				 facts->clock.now_ms - facts->clock.written_ms >= PLAN_PROGRESS_MS);
	}
	if (!is_due) {
		json_decref(nexus);
		return;
	}
	plan->action = VOLUME_WRITE_NEXUS;
	plan->nexus = nexus;
}

/* ---- voters ---- */

static const struct volume_member *member_of(const struct volume_object *object, const char *uuid)
{
	for (unsigned i = 0; i < object->member_count; i++) {
		if (strcasecmp(object->members[i].uuid, uuid) == 0) {
			return &object->members[i];
		}
	}
	return NULL;
}

/* Who shall come, comes; when all that stay are in sync, who shall go, goes. */
static void plan_voters(const struct volume_facts *facts, struct volume_plan *plan)
{
	const struct volume_object *object = facts->object;
	const Strake__V1__Volume *volume = facts->volume;
	bool is_whole = object->member_count > 0;

	if (!plan_nexus_is_serving(volume)) {
		return;
	}
	for (unsigned i = 0; i < object->member_count; i++) {
		const struct volume_member *member = &object->members[i];
		const Strake__V1__VolumeReplica *voter = voter_of(volume, member->uuid);

		if (member->is_leaving) {
			continue;
		}
		if (voter == NULL && uuid_parse(member->uuid, &plan->replica) == 0) {
			plan->action = VOLUME_ADD_VOTER;
			return;
		}
		is_whole = is_whole && voter != NULL && strcmp(voter->state, NEXUS_ONLINE) == 0;
	}
	for (size_t i = 0; i < volume->n_replicas && is_whole; i++) {
		const Strake__V1__VolumeReplica *voter = volume->replicas[i];
		const struct volume_member *member = member_of(object, voter->uuid);

		if ((member == NULL || member->is_leaving) &&
			strcmp(voter->membership, "Voter") == 0 &&
			uuid_parse(voter->uuid, &plan->replica) == 0) {
			plan->action = VOLUME_REMOVE_VOTER;
			plan->is_known = member != NULL;
			return;
		}
	}
	if (object->min_insync != 0 && object->min_insync != volume->min_insync) {
		plan->action = VOLUME_SET_POLICY;
	} else if (object->size_bytes > volume->size_bytes) {
		plan->action = VOLUME_RESIZE;
	}
}

/* The nexus does not answer: it may serve its volume all the same. */
static void plan_unheard(
	const struct volume_facts *facts, const json_t *before, struct volume_plan *plan)
{
	json_t *nexus = json_deep_copy(before);

	(void)json_object_set_new(nexus, "state", json_string(STATE_UNKNOWN));
	set_text(nexus, "reason", facts->nexus_failure);
	if (json_equal(before, nexus)) {
		json_decref(nexus);
		return;
	}
	plan->action = VOLUME_WRITE_NEXUS;
	plan->nexus = nexus;
}

/* ---- what is to be done ---- */

bool plan_nexus_is_of(const struct volume_object *object, const Strake__V1__Volume *volume)
{
	char text[UUID_TEXT_SIZE];

	return strcasecmp(volume->uuid, uuid_to_text(&object->uuid, text)) == 0;
}

/* Closed, and yet there is something to say. */
static bool is_at_rest_but_news(
	const struct volume_object *object, const Strake__V1__Volume *volume)
{
	return is_ahead(object, volume) ||
	       (volume != NULL && plan_recovery_is_news(object, volume));
}

/* Detached before csi-controller heard of it: the next attachment to this node says it. */
static bool is_kept(const struct volume_object *object, const Strake__V1__Volume *volume)
{
	return object != NULL && !object->meta.is_deleted && plan_nexus_is_of(object, volume) &&
	       plan_recovery_is_news(object, volume);
}

void plan_volume(const struct volume_facts *facts, struct volume_plan *ret_plan)
{
	struct volume_plan *plan = ret_plan;
	bool is_ours =
		facts->object != NULL && strcmp(facts->object->attached_node, facts->node) == 0;
	bool is_said = facts->object != NULL && facts->object->nexus.is_there &&
		       strcmp(facts->object->nexus.node, facts->node) == 0;
	const json_t *before = is_said ? kube_at(facts->json, "status.nexus") : NULL;

	*plan = (struct volume_plan){0};
	if (facts->nexus_failure != NULL) {
		if (is_said) {
			plan_unheard(facts, before, plan);
		}
	} else if (facts->volume != NULL &&
		   (!is_ours || !plan_nexus_is_of(facts->object, facts->volume))) {
		plan->is_kept = is_kept(facts->object, facts->volume);
		plan->action = !plan->is_kept ? VOLUME_LOST
			       : is_said      ? VOLUME_REMOVE_NEXUS
					      : VOLUME_NOTHING;
	} else if (plan_nexus_is_open(facts->volume) ||
		   (is_ours && is_at_rest_but_news(facts->object, facts->volume))) {
		plan_writing(facts, before, plan);
		/* A failure is tried again when its time has come. */
		if (plan->action == VOLUME_NOTHING && facts->failure.code == 0) {
			plan_voters(facts, plan);
		}
	} else if (is_said) {
		plan->action = VOLUME_REMOVE_NEXUS;
	}
}
