/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/plan_snapshot.h"

#include <stdio.h>
#include <string.h>

struct verdict {
	enum snapshot_object_state state;
	const char *node; /* NULL: nobody takes it */
	const char *reason;
	char why[OBJECTS_NAME_SIZE + OBJECTS_VOLUME_SIZE + 96];
};

/* ---- how it is ---- */

static bool volume_is_gone(const struct world_snapshot *snapshot)
{
	const struct world_volume *volume = snapshot->volume;

	return !volume->is_there ||
	       (volume->is_valid && !uuid_is_nil(&volume->object.uuid) &&
		       !uuid_equal(&volume->object.uuid, &snapshot->object.volume_uuid));
}

/* Of one that is to be taken. */
static void judge(
	const struct world *world, const struct world_snapshot *snapshot, struct verdict *verdict)
{
	const struct world_volume *volume = snapshot->volume;
	const char *name = snapshot->object.volume, *node = volume->object.attached_node;

	*verdict = (struct verdict){.state = SNAPSHOT_PENDING};
	if (!volume->is_there || !volume->is_valid) {
		verdict->reason = "VolumeNotFound";
		(void)snprintf(verdict->why, sizeof(verdict->why),
			volume->is_there ? "Volume %s cannot be read" : "there is no Volume %s",
			name);
	} else if (node[0] == '\0') {
		verdict->reason = "VolumeDetached";
		(void)snprintf(verdict->why, sizeof(verdict->why),
			"Volume %s is attached to no node: the snapshot is taken when it is used",
			name);
	} else if (!world_node_is_ready(world, node)) {
		verdict->reason = "NodeNotReady";
		(void)snprintf(verdict->why, sizeof(verdict->why),
			"Volume %s is attached to node %s, which is not ready", name, node);
	} else {
		verdict->state = SNAPSHOT_CREATING;
		verdict->node = node;
		verdict->reason = "Waiting";
		(void)snprintf(verdict->why, sizeof(verdict->why), "node %s is to take it", node);
	}
}

/* ---- what its status says ---- */

/* Of a merge patch lists are whole; NULL: it says so already. */
static json_t *set_condition(const struct world_snapshot *snapshot, const char *type,
	const char *reason, const char *message)
{
	json_t *conditions = json_deep_copy(kube_at(snapshot->json, "status.conditions"));

	if (!json_is_array(conditions)) {
		json_decref(conditions);
		conditions = json_array();
	}
	if (!kube_condition_set(
		    conditions, type, "False", reason, message, snapshot->object.meta.generation)) {
		json_decref(conditions);
		return NULL;
	}
	return conditions;
}

static json_t *make_status(const struct world_snapshot *snapshot, const struct verdict *verdict)
{
	json_t *conditions = set_condition(snapshot, "Ready", verdict->reason, verdict->why);
	json_t *status = json_pack("{s:s, s:s, s:b, s:I, s:s?}", "state",
		snapshot_state_name(verdict->state), "reason", verdict->why, "readyToUse", false,
		"observedGeneration", (json_int_t)snapshot->object.meta.generation, "node",
		verdict->node);

	if (conditions != NULL) {
		(void)json_object_set_new(status, "conditions", conditions);
	}
	return status;
}

static void write_status(struct snapshot_plan *plan, json_t *status)
{
	plan->action = SNAPSHOT_WRITE_STATUS;
	plan->status = status;
}

/* ---- what is to be done ---- */

/* Who is to take it says how it goes. */
static void plan_taking(const struct world *world, const struct world_snapshot *snapshot,
	struct snapshot_plan *plan)
{
	const struct snapshot_object *object = &snapshot->object;
	struct verdict verdict;

	judge(world, snapshot, &verdict);
	if (strcmp(object->node, verdict.node != NULL ? verdict.node : "") != 0) {
		write_status(plan, make_status(snapshot, &verdict));
	} else if (verdict.node == NULL &&
		   (object->state != SNAPSHOT_PENDING ||
			   strcmp(kube_text(snapshot->json, "status.reason"), verdict.why) != 0)) {
		write_status(plan, make_status(snapshot, &verdict));
	}
}

static void plan_losing(const struct world_snapshot *snapshot, struct snapshot_plan *plan)
{
	struct verdict verdict = {.state = SNAPSHOT_FAILED, .reason = "VolumeGone"};

	(void)snprintf(verdict.why, sizeof(verdict.why),
		"Volume %s is gone, and the snapshot with it", snapshot->object.volume);
	plan->action = SNAPSHOT_LOSE;
	plan->status = make_status(snapshot, &verdict);
}

/* It was made, and no nexus takes one away. */
static void plan_keeping(const struct world_snapshot *snapshot, struct snapshot_plan *plan)
{
	char why[OBJECTS_VOLUME_SIZE + 96];

	(void)snprintf(why, sizeof(why),
		"a snapshot cannot be deleted alone yet: it goes with its Volume %s",
		snapshot->object.volume);

	json_t *conditions = set_condition(snapshot, "Deletable", "NotSupported", why);

	if (conditions != NULL) {
		write_status(plan, json_pack("{s:o}", "conditions", conditions));
	}
}

static void plan_deletion(const struct world_snapshot *snapshot, struct snapshot_plan *plan)
{
	if (!snapshot->object.meta.has_finalizer) {
		return;
	}
	if (volume_is_gone(snapshot)) {
		plan_losing(snapshot, plan);
	} else {
		plan_keeping(snapshot, plan);
	}
}

void plan_snapshot(const struct world *world, const struct world_snapshot *snapshot,
	struct snapshot_plan *ret_plan)
{
	const struct snapshot_object *object = &snapshot->object;

	*ret_plan = (struct snapshot_plan){0};
	if (!snapshot->is_valid) {
		return;
	}
	bool is_over = object->state == SNAPSHOT_READY || object->state == SNAPSHOT_FAILED;

	if (object->meta.has_finalizer && !object->is_ready_to_use) {
		ret_plan->action = SNAPSHOT_RELEASE;
	} else if (object->meta.is_deleted) {
		plan_deletion(snapshot, ret_plan);
	} else if (uuid_is_nil(&object->uuid)) {
		ret_plan->action = SNAPSHOT_FILL;
	} else if (object->is_ready_to_use && volume_is_gone(snapshot)) {
		plan_losing(snapshot, ret_plan);
	} else if (object->is_ready_to_use && !object->meta.has_finalizer) {
		ret_plan->action = SNAPSHOT_HOLD;
	} else if (!is_over) {
		plan_taking(world, snapshot, ret_plan);
	} else if (object->node[0] != '\0') {
		/* Nodes watch what is still to be taken. */
		write_status(ret_plan, json_pack("{s:n}", "node"));
	}
}

void snapshot_plan_done(struct snapshot_plan *plan)
{
	json_decref(plan->status);
	plan->status = NULL;
}
