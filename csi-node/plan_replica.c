/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "csi-node/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct verdict {
	enum replica_state state;
	const char *ready, *reason;
	char why[OBJECTS_REASON_SIZE];
};

static void explain(struct verdict *verdict, const char *text)
{
	(void)snprintf(verdict->why, sizeof(verdict->why), "%s", text);
}

static bool pool_is_online(const struct replica_facts *facts)
{
	return facts->agent_failure == NULL && facts->pool != NULL &&
	       strcmp(facts->pool->state, "Online") == 0;
}

static bool was_made(const struct replica_facts *facts)
{
	return facts->object->nsid != 0;
}

/* ---- how it is ---- */

static void judge_missing(const struct replica_facts *facts, struct verdict *verdict)
{
	verdict->state = REPLICA_CREATING;
	if (was_made(facts)) {
		/* An empty one in its place would vote as if it knew nothing of what it has
		 * acknowledged. */
		verdict->state = REPLICA_FAULTED;
		verdict->reason = "CreateFailed";
		explain(verdict,
			"it was made, and is not in its pool any more: it is not made again");
	} else if (facts->failure.code == -ENOSPC) {
		verdict->reason = "NoSpace";
		explain(verdict, facts->failure.text);
	} else if (facts->failure.code != 0) {
		verdict->reason = "CreateFailed";
		explain(verdict, facts->failure.text);
	} else {
		verdict->reason = "Creating";
		explain(verdict, "it is about to be made");
	}
}

static void judge_present(const struct replica_facts *facts, struct verdict *verdict)
{
	const Strake__V1__Replica *replica = facts->replica;
	char text[UUID_TEXT_SIZE];

	if (strcasecmp(replica->volume_uuid, uuid_to_text(&facts->object->volume_uuid, text)) !=
		0) {
		verdict->state = REPLICA_FAULTED;
		verdict->reason = "CreateFailed";
		explain(verdict, "the pool has a replica of that uuid of another volume");
		return;
	}
	if (strcmp(replica->state, "Newer") == 0) {
		verdict->state = REPLICA_FAULTED;
		verdict->reason = "AgentTooOld";
		explain(verdict,
			"its metadata are newer than its pool-agent: upgrade the pool-agent");
		return;
	}
	verdict->state = REPLICA_ONLINE;
	verdict->ready = "True";
	verdict->reason = "Online";
}

static void judge(const struct replica_facts *facts, struct verdict *verdict)
{
	*verdict = (struct verdict){.ready = "False", .state = facts->object->state};
	if (facts->agent_failure != NULL) {
		verdict->reason = "AgentUnreachable";
		explain(verdict, facts->agent_failure);
	} else if (!pool_is_online(facts)) {
		verdict->state = was_made(facts) ? REPLICA_FAULTED : REPLICA_CREATING;
		verdict->reason = "PoolNotReady";
		(void)snprintf(verdict->why, sizeof(verdict->why), "pool %.64s is %s",
			facts->object->pool,
			facts->pool == NULL ? "not in the pool-agent" : facts->pool->state);
	} else if (facts->replica == NULL) {
		judge_missing(facts, verdict);
	} else {
		judge_present(facts, verdict);
	}
	if (facts->object->meta.is_deleted && facts->failure.code != 0) {
		explain(verdict, facts->failure.text);
	}
}

/* ---- what its status says ---- */

static void set_numbers(json_t *status, const struct replica_facts *facts, uint64_t used_bytes)
{
	static const char *const kept[] = {"nsid", "used", "refused"};

	if (facts->replica != NULL && pool_is_online(facts)) {
		(void)json_object_set_new(
			status, "nsid", json_integer((json_int_t)facts->replica->nsid));
		(void)json_object_set_new(status, "used", plan_quantity(used_bytes));
		(void)json_object_set_new(
			status, "refused", json_integer((json_int_t)facts->replica->refused));
		return;
	}
	for (size_t i = 0; i < ARRAY_COUNT(kept); i++) {
		json_t *value = json_object_get(kube_at(facts->json, "status"), kept[i]);

		if (value != NULL) {
			(void)json_object_set(status, kept[i], value);
		}
	}
}

static json_t *make_status(
	const struct replica_facts *facts, const struct verdict *verdict, uint64_t used_bytes)
{
	int64_t generation = facts->object->meta.generation;
	json_t *conditions = json_array();
	json_t *status = json_pack("{s:s, s:I}", "state", replica_state_name(verdict->state),
		"observedGeneration", (json_int_t)generation);

	if (verdict->why[0] != '\0') {
		(void)json_object_set_new(status, "reason", plan_text(verdict->why));
	}
	set_numbers(status, facts, used_bytes);
	plan_add_condition(conditions, facts->json, "Ready", verdict->ready, verdict->reason,
		verdict->why, generation);
	(void)json_object_set_new(status, "conditions", conditions);
	return status;
}

static void plan_writing(const struct replica_facts *facts, struct replica_plan *plan)
{
	static const char *const fields[] = {
		"state", "reason", "observedGeneration", "nsid", "used", "refused"};
	const struct replica_object *object = facts->object;
	uint64_t used_bytes = facts->replica != NULL ? facts->replica->used_bytes : 0;
	struct verdict verdict;
	json_t *status;

	judge(facts, &verdict);
	status = make_status(facts, &verdict, object->used_bytes);
	bool is_same = plan_status_is(facts->json, status, fields, ARRAY_COUNT(fields));

	json_decref(status);
	plan->is_idle = is_same;
	if (is_same && (facts->replica == NULL || !plan_used_is_due(object->used_bytes, used_bytes,
							  object->size_bytes, &facts->clock))) {
		return;
	}
	plan->action = REPLICA_WRITE_STATUS;
	plan->status = make_status(facts, &verdict, used_bytes);
}

/* ---- what is to be done ---- */

/* Its pool will not be online again, or never was: the pool-agent does not have it, or has a disk
 * that it cannot read, and who deletes the Pool gives up what is on it.  (A Pool that is not there
 * is csi-controller's matter: it looks twice.) */
static bool is_given_up(const struct replica_facts *facts)
{
	const struct pool_object *pool = facts->pool_object;

	if (pool == NULL || facts->agent_failure != NULL) {
		return false;
	}
	if (facts->pool == NULL) {
		return pool->meta.is_deleted || pool->uuid[0] == '\0';
	}
	return pool->meta.is_deleted && strcmp(facts->pool->state, "Faulted") == 0;
}

void plan_replica(const struct replica_facts *facts, struct replica_plan *ret_plan)
{
	const struct object_meta *meta = &facts->object->meta;
	struct replica_plan *plan = ret_plan;

	*plan = (struct replica_plan){0};
	if (meta->is_deleted && !meta->has_finalizer) {
		return;
	}
	if (meta->is_deleted && pool_is_online(facts) && facts->failure.code == 0) {
		plan->action = REPLICA_ERASE;
	} else if (meta->is_deleted && is_given_up(facts)) {
		plan->action = REPLICA_RELEASE;
	} else if (!meta->is_deleted && pool_is_online(facts) && facts->replica == NULL &&
		   !was_made(facts) && facts->failure.code == 0) {
		plan->action = REPLICA_CREATE;
	} else if (facts->pool_object != NULL || facts->object->state != REPLICA_ORPHANED) {
		/* Of one whose Pool is gone csi-controller has the word. */
		plan_writing(facts, plan);
	}
}
