/* SPDX-License-Identifier: Apache-2.0 */
/* What a Volume's status says, of the fields that are csi-controller's. */
#include "base/bytes.h"
#include "csi-controller/plan_volume.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- replicas ---- */

void replica_problem(const struct world_replica *replica, char *text, size_t size)
{
	const struct replica_object *object = &replica->object;
	const char *why = object->reason;

	if (replica->is_pending || replica->json == NULL) {
		why = "is being made";
	} else if (!replica->pool->is_there) {
		why = "its pool is gone";
	} else if (why[0] == '\0' && strcmp(replica->ready.status, "False") == 0) {
		why = replica->ready.reason;
	} else if (why[0] == '\0') {
		why = world_pool_is_usable(replica->pool) ? "is being made"
							  : "the pool is not ready";
	}
	(void)snprintf(text, size, "replica %.80s on pool %.64s: %s", object->meta.name,
		object->pool, why);
}

/* The nexus's word for it, when it has the volume open; NULL: it does not know the replica. */
static const char *nexus_state_of(
	const struct volume_nexus *nexus, const struct uuid *uuid, unsigned *ret_progress)
{
	char text[UUID_TEXT_SIZE];

	uuid_to_text(uuid, text);
	for (unsigned i = 0; i < nexus->replica_count; i++) {
		if (strcasecmp(nexus->replicas[i].uuid, text) == 0) {
			*ret_progress = nexus->replicas[i].progress_percent;
			return nexus->replicas[i].state;
		}
	}
	return NULL;
}

/* What status.replicas said of it last; NULL: nothing. */
static const json_t *last_of(const struct world_volume *volume, const char *name)
{
	const json_t *list = kube_at(volume->json, "status.replicas");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);

		if (strcmp(kube_text(item, "name"), name) == 0) {
			return item;
		}
	}
	return NULL;
}

static void look_at_closed(const char *last, struct replica_view *view)
{
	const struct replica_object *object = &view->replica->object;

	if (!world_pool_is_usable(view->replica->pool) && object->state == REPLICA_ONLINE) {
		view->state = "Offline";
	} else if (object->state == REPLICA_ONLINE &&
		   (strcmp(last, "OutOfSync") == 0 || strcmp(last, "Rebuilding") == 0)) {
		/* Only a nexus makes it whole again. */
		view->state = "OutOfSync";
	} else {
		view->state = replica_state_name(object->state);
		view->is_good = object->state == REPLICA_ONLINE;
	}
}

static void look_at_open(const char *state, unsigned progress, struct replica_view *view)
{
	static const char *const states[] = {"Online", "OutOfSync", "Rebuilding", "Faulted"};

	view->state = "Offline"; /* also what the nexus does not know yet */
	for (size_t i = 0; i < ARRAY_COUNT(states); i++) {
		view->state = strcmp(state, states[i]) == 0 ? states[i] : view->state;
	}
	view->is_good = strcmp(view->state, "Online") == 0;
	if (strcmp(view->state, "Rebuilding") == 0) {
		view->progress_percent = progress;
	}
}

bool volume_nexus_is_heard(const struct world *world, const struct world_volume *volume)
{
	const struct volume_nexus *nexus = &volume->object.nexus;

	return nexus->is_there && world_node_is_ready(world, nexus->node) &&
	       strcmp(nexus->state, "Superseded") != 0 && strcmp(nexus->state, "Closed") != 0;
}

static void look(
	const struct world *world, const struct world_volume *volume, struct replica_view *view)
{
	const json_t *last = last_of(volume, view->replica->object.meta.name);
	unsigned progress = 0;
	const char *state = NULL;

	view->progress_percent = PROGRESS_NONE;
	view->is_leaving = kube_bool(last, "leaving");
	if (volume_nexus_is_heard(world, volume)) {
		state = nexus_state_of(
			&volume->object.nexus, &view->replica->object.uuid, &progress);
	}
	view->is_named = state != NULL;
	if (state != NULL && strcmp(state, "Unknown") != 0) {
		look_at_open(state, progress, view);
	} else {
		look_at_closed(kube_text(last, "state"), view);
	}
	view->since_s = world_time_parse(kube_text(last, "since"));
	if (view->since_s == 0 || strcmp(kube_text(last, "state"), view->state) != 0) {
		view->since_s = world->now_s;
	}
	(void)world_time_text(view->since_s, view->since);
}

void volume_look(
	const struct world *world, const struct world_volume *volume, struct volume_facts *facts)
{
	for (unsigned i = 0; i < facts->live_count; i++) {
		facts->views[i] = (struct replica_view){.replica = facts->live[i]};
		look(world, volume, &facts->views[i]);
	}
}

/* ---- the whole ---- */

/* Of those that stay. */
struct tally {
	unsigned good_count, named_count, arbiter_count, good_arbiter_count;
};

static struct tally tally_of(const struct volume_facts *facts)
{
	struct tally tally = {0};

	for (unsigned i = 0; i < facts->live_count; i++) {
		const struct replica_view *view = &facts->views[i];

		if (view->replica->object.is_arbiter) {
			tally.arbiter_count += !view->is_leaving;
			tally.good_arbiter_count += !view->is_leaving && view->is_good;
		} else {
			tally.good_count += !view->is_leaving && view->is_good;
			tally.named_count += !view->is_leaving && view->is_named;
		}
	}
	return tally;
}

static enum volume_state judge(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts, const struct tally *tally)
{
	static const enum volume_state of_nexus[] = {
		VOLUME_ONLINE, VOLUME_DEGRADED, VOLUME_STALLED, VOLUME_FAULTED};
	const struct volume_object *object = &volume->object;

	if (object->meta.is_deleted) {
		return VOLUME_DELETING;
	}
	if (!facts->is_available) {
		return VOLUME_CREATING;
	}
	for (size_t i = 0; i < ARRAY_COUNT(of_nexus) && volume_nexus_is_heard(world, volume); i++) {
		if (strcmp(object->nexus.state, volume_state_name(of_nexus[i])) == 0) {
			/* The nexus misses none of its voters; there should be more of them. */
			return of_nexus[i] == VOLUME_ONLINE && tally->named_count < object->replicas
				       ? VOLUME_DEGRADED
				       : of_nexus[i];
		}
	}
	/* Opening takes a majority of the voters, and data. */
	return tally->good_count >= object->replicas ? VOLUME_ONLINE
	       : tally->good_count > 0 && 2 * (tally->good_count + tally->good_arbiter_count) >
						  object->replicas + tally->arbiter_count
		       ? VOLUME_DEGRADED
		       : VOLUME_STALLED;
}

static void explain_replicas(
	const struct volume_facts *facts, const struct world_volume *volume, char *why, size_t size)
{
	size_t length = 0;
	unsigned data_count = 0;

	why[0] = '\0';
	for (unsigned i = 0; i < facts->live_count && length < size; i++) {
		const struct replica_view *view = &facts->views[i];
		const struct replica_object *object = &view->replica->object;

		data_count += !object->is_arbiter && !view->is_leaving;
		if (!view->is_good && !view->is_leaving) {
			length += (size_t)snprintf(why + length, size - length,
				"%s%s %.80s on node %.64s: %s", length > 0 ? "; " : "",
				object->is_arbiter ? "arbiter" : "replica", object->meta.name,
				object->node, view->state);
		}
	}
	if (data_count < volume->object.replicas && length < size) {
		length += (size_t)snprintf(why + length, size - length,
			"%s%u of %u replicas are not there", length > 0 ? "; " : "",
			volume->object.replicas - data_count, volume->object.replicas);
	}
	if (facts->redundant_why[0] != '\0' && length < size) {
		(void)snprintf(why + length, size - length, "%sno place for another: %s",
			length > 0 ? "; " : "", facts->redundant_why);
	}
}

static void set_published(
	const struct world *world, const struct volume_object *object, json_t *conditions)
{
	const struct volume_nexus *nexus = &object->nexus;
	bool is_here = nexus->is_there && strcmp(nexus->node, object->attached_node) == 0;
	char why[2 * OBJECTS_NAME_SIZE + 128];
	const char *reason;

	if (is_here && nexus->device[0] != '\0') {
		reason = "Open";
		(void)snprintf(why, sizeof(why), "on node %s, %s", nexus->node, nexus->device);
	} else if (object->attached_node[0] != '\0') {
		reason = "Opening";
		(void)snprintf(why, sizeof(why), "attached to node %s", object->attached_node);
	} else if (nexus->is_there) {
		reason = "Closing";
		(void)snprintf(why, sizeof(why), "node %s %s", nexus->node,
			world_node_is_ready(world, nexus->node)
				? "closes it"
				: "is not ready; it had it open when last heard of");
	} else {
		reason = "Detached";
		why[0] = '\0';
	}
	(void)kube_condition_set(conditions, "Published",
		strcmp(reason, "Open") == 0 ? "True" : "False", reason, why, 0);
}

static json_t *make_conditions(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts, unsigned good_count, const char *bad_why)
{
	json_t *conditions = json_deep_copy(kube_at(volume->json, "status.conditions"));
	bool is_redundant = good_count >= volume->object.replicas;

	if (!json_is_array(conditions)) {
		json_decref(conditions);
		conditions = json_array();
	}
	(void)kube_condition_set(conditions, "Available", facts->is_available ? "True" : "False",
		facts->available_reason, facts->available_why, 0);
	(void)kube_condition_set(conditions, "Redundant", is_redundant ? "True" : "False",
		is_redundant ? "AllInSync" : "ReplicasNotInSync", bad_why, 0);
	set_published(world, &volume->object, conditions);
	return conditions;
}

static json_t *make_replicas(const struct replica_view *views, unsigned count)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++) {
		const struct replica_object *object = &views[i].replica->object;
		char uuid[UUID_TEXT_SIZE];

		/* Its uuid is not known yet. */
		if (views[i].replica->is_pending) {
			continue;
		}
		json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "name",
			object->meta.name, "uuid", uuid_to_text(&object->uuid, uuid), "kind",
			object->is_arbiter ? "Arbiter" : "Data", "pool", object->pool, "node",
			object->node, "state", views[i].state, "since", views[i].since);

		if (views[i].is_leaving) {
			(void)json_object_set_new(item, "leaving", json_true());
		}
		if (views[i].progress_percent != PROGRESS_NONE) {
			(void)json_object_set_new(item, "progress",
				json_integer((json_int_t)views[i].progress_percent));
		}
		(void)json_array_append_new(list, item);
	}
	return list;
}

/* The most important sentence. */
static const char *choose_reason(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts, enum volume_state state, const char *bad_why)
{
	if (state == VOLUME_DELETING) {
		return facts->end_why;
	}
	if (state == VOLUME_CREATING) {
		return facts->available_why;
	}
	if (volume_nexus_is_heard(world, volume) && volume->object.nexus.reason[0] != '\0') {
		return volume->object.nexus.reason;
	}
	return bad_why;
}

/* Reads status.record and its like; a csi-node of an earlier version tells no lineage. */
static bool parse_record(const char *text, unsigned number[3], char lineage[OBJECTS_LINEAGE_SIZE])
{
	lineage[0] = '\0';
	number[0] = number[1] = number[2] = 0;
	return sscanf(text, "%u.%u/%u %16[0-9a-f]", &number[0], &number[1], &number[2], lineage) >=
	       3;
}

/* What the nexus tells: what an operator decided there, or what is committed. */
static bool nexus_record(
	const struct volume_nexus *nexus, unsigned number[3], char lineage[OBJECTS_LINEAGE_SIZE])
{
	if (nexus->is_there && nexus->record[0] != '\0') {
		return parse_record(nexus->record, number, lineage);
	}
	(void)snprintf(lineage, OBJECTS_LINEAGE_SIZE, "%s", nexus->lineage);
	number[2] = nexus->generation;
	return nexus->is_there && nexus->generation > 0 &&
	       sscanf(nexus->epoch, "%u.%u", &number[0], &number[1]) == 2;
}

/* Of the newest configuration that was heard of, or of a forced recovery. */
static void set_record(json_t *status, const struct world_volume *volume)
{
	const char *last = kube_text(volume->json, "status.record");
	unsigned was[3], is[3];
	char was_of[OBJECTS_LINEAGE_SIZE], of[OBJECTS_LINEAGE_SIZE], text[OBJECTS_RECORD_SIZE];
	int order = 0;

	if (!parse_record(last, was, was_of)) {
		last = "";
	}
	if (nexus_record(&volume->object.nexus, is, of)) {
		for (unsigned i = 0; i < 3 && order == 0; i++) {
			order = is[i] > was[i] ? 1 : is[i] < was[i] ? -1 : 0;
		}
	} else {
		order = -1;
	}
	if (order >= 0) {
		const char *lineage = of[0] != '\0' ? of : was_of;

		(void)snprintf(text, sizeof(text), "%u.%u/%u%s%s", is[0], is[1], is[2],
			lineage[0] != '\0' ? " " : "", lineage);
		last = text;
	}
	if (last[0] != '\0') {
		(void)json_object_set_new(status, "record", json_string(last));
	}
}

json_t *volume_status_make(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts)
{
	struct tally tally = tally_of(facts);
	char bad_why[768], in_sync[32];
	unsigned good_count = tally.good_count < volume->object.replicas ? tally.good_count
									 : volume->object.replicas;

	explain_replicas(facts, volume, bad_why, sizeof(bad_why));
	(void)snprintf(in_sync, sizeof(in_sync), "%u/%u", good_count, volume->object.replicas);
	enum volume_state state = judge(world, volume, facts, &tally);
	const char *reason = choose_reason(world, volume, facts, state, bad_why);
	json_t *status = json_pack("{s:s, s:s, s:I, s:o, s:o}", "state", volume_state_name(state),
		"inSync", in_sync, "observedGeneration", (json_int_t)volume->object.meta.generation,
		"replicas", make_replicas(facts->views, facts->live_count), "conditions",
		make_conditions(world, volume, facts, good_count, bad_why));

	set_record(status, volume);

	/* A cut in the middle of a character would be no JSON text. */
	if (reason[0] != '\0') {
		json_t *text = json_string(reason);

		(void)json_object_set_new(
			status, "reason", text != NULL ? text : json_string("see the conditions"));
	}
	return status;
}

/* Lists by name, which the server may order as it likes. */
static bool is_same_list(const json_t *is, const json_t *shall_be)
{
	if (json_array_size(is) != json_array_size(shall_be)) {
		return false;
	}
	for (size_t i = 0; i < json_array_size(is); i++) {
		bool found = false;

		for (size_t j = 0; j < json_array_size(shall_be) && !found; j++) {
			found = json_equal(json_array_get(is, i), json_array_get(shall_be, j));
		}
		if (!found) {
			return false;
		}
	}
	return true;
}

bool volume_status_is(const json_t *object, const json_t *status)
{
	static const char *const ours[] = {"state", "reason", "observedGeneration", "replicas",
		"inSync", "record", "conditions"};
	const json_t *now = kube_at(object, "status");

	for (size_t i = 0; i < ARRAY_COUNT(ours); i++) {
		const json_t *is = json_object_get(now, ours[i]);
		const json_t *shall_be = json_object_get(status, ours[i]);

		bool is_list = json_is_array(is) || json_is_array(shall_be);

		if (is_list ? !is_same_list(is, shall_be)
			    : is != shall_be && !json_equal(is, shall_be)) {
			return false;
		}
	}
	return true;
}
