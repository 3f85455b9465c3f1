/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "csi-node/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct verdict {
	enum snapshot_object_state state;
	const char *reason;
	char why[OBJECTS_REASON_SIZE];
};

/* ---- how it is ---- */

static void judge_unopened(const struct snapshot_facts *facts, struct verdict *verdict)
{
	bool is_there = facts->volume_object != NULL && facts->volume != NULL &&
			plan_nexus_is_of(facts->volume_object, facts->volume);

	verdict->reason = "NotOpen";
	(void)snprintf(verdict->why, sizeof(verdict->why), "volume %s is %s on node %.64s%s%s",
		facts->object->volume, is_there ? facts->volume->state : "not open yet",
		facts->node, is_there && facts->volume->reason[0] != '\0' ? ": " : "",
		is_there ? facts->volume->reason : "");
}

static bool is_served(const struct snapshot_facts *facts)
{
	return facts->volume_object != NULL && facts->volume != NULL &&
	       plan_nexus_is_of(facts->volume_object, facts->volume) &&
	       plan_nexus_is_serving(facts->volume);
}

/* false: there is nothing to be said, the nexus is to be asked. */
static bool judge(const struct snapshot_facts *facts, struct verdict *verdict)
{
	*verdict = (struct verdict){.state = SNAPSHOT_CREATING};
	if (facts->nexus_failure != NULL) {
		verdict->reason = "NexusUnreachable";
		(void)snprintf(verdict->why, sizeof(verdict->why), "%s", facts->nexus_failure);
	} else if (facts->failure.code == -EOPNOTSUPP) {
		/* It would be refused again: who changes the pools makes another Snapshot, which
		 * is of that time. */
		verdict->state = SNAPSHOT_FAILED;
		verdict->reason = "NotSupported";
		(void)snprintf(verdict->why, sizeof(verdict->why), "%s", facts->failure.text);
	} else if (!is_served(facts)) {
		judge_unopened(facts, verdict);
	} else if (facts->failure.code != 0) {
		verdict->reason = "Waiting";
		(void)snprintf(verdict->why, sizeof(verdict->why), "%s", facts->failure.text);
	} else {
		return false;
	}
	return true;
}

/* ---- what its status says ---- */

static json_t *make_status(const struct snapshot_facts *facts, const struct verdict *verdict)
{
	int64_t generation = facts->object->meta.generation;
	bool is_ready = verdict->state == SNAPSHOT_READY;
	json_t *conditions = json_array();

	plan_add_condition(conditions, facts->json, "Ready", is_ready ? "True" : "False",
		verdict->reason, verdict->why, generation);
	/* The reason always: csi-controller's must not stay. */
	return json_pack("{s:s, s:o, s:b, s:I, s:o}", "state", snapshot_state_name(verdict->state),
		"reason", plan_text(verdict->why), "readyToUse", is_ready, "observedGeneration",
		(json_int_t)generation, "conditions", conditions);
}

/* "" where the Volume does not say it yet. */
static const char *replica_name(const struct volume_object *volume, const char *uuid)
{
	for (unsigned i = 0; i < volume->member_count; i++) {
		if (strcasecmp(volume->members[i].uuid, uuid) == 0) {
			return volume->members[i].name;
		}
	}
	return "";
}

static json_t *replicas_json(const struct snapshot_facts *facts, const Strake__V1__Snapshot *made)
{
	json_t *replicas = json_array();

	for (size_t i = 0; i < made->n_replicas; i++) {
		const char *name = replica_name(facts->volume_object, made->replicas[i]);
		json_t *replica = json_pack("{s:o, s:I}", "uuid", plan_text(made->replicas[i]),
			"number", (json_int_t)made->number);

		if (name[0] != '\0') {
			(void)json_object_set_new(replica, "name", plan_text(name));
		}
		(void)json_array_append_new(replicas, replica);
	}
	return replicas;
}

json_t *plan_snapshot_made(
	const struct snapshot_facts *facts, const Strake__V1__Snapshot *made, const char *time_now)
{
	struct verdict verdict = {.state = SNAPSHOT_READY, .reason = "SnapshotMade"};
	char volume_uuid[UUID_TEXT_SIZE];
	json_t *status = make_status(facts, &verdict);

	(void)json_object_set_new(status, "size", plan_quantity(made->size_bytes));
	(void)json_object_set_new(status, "creationTime", json_string(time_now));
	(void)json_object_set_new(status, "volumeUUID",
		json_string(uuid_to_text(&facts->volume_object->uuid, volume_uuid)));
	(void)json_object_set_new(status, "replicas", replicas_json(facts, made));
	return status;
}

/* ---- what is to be done ---- */

void plan_snapshot(const struct snapshot_facts *facts, struct snapshot_plan *ret_plan)
{
	static const char *const fields[] = {"state", "reason", "readyToUse", "observedGeneration"};
	const struct snapshot_object *object = facts->object;
	struct verdict verdict;

	*ret_plan = (struct snapshot_plan){0};
	if (object->meta.is_deleted || object->state == SNAPSHOT_READY ||
		object->state == SNAPSHOT_FAILED || uuid_is_nil(&object->uuid) ||
		strcmp(object->node, facts->node) != 0) {
		return;
	}
	if (!judge(facts, &verdict)) {
		ret_plan->action = SNAPSHOT_ASK;
		return;
	}
	ret_plan->status = make_status(facts, &verdict);
	if (plan_status_is(facts->json, ret_plan->status, fields, ARRAY_COUNT(fields))) {
		json_decref(ret_plan->status);
		ret_plan->status = NULL;
		return;
	}
	ret_plan->action = SNAPSHOT_WRITE_STATUS;
}
