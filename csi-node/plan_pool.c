/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "csi-node/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Less free than that: no room for the replicas that are there to grow. */
#define SPACE_LOW_PERCENT 5

struct verdict {
	enum pool_state state;
	const char *ready, *reason; /* of condition Ready */
	char why[OBJECTS_REASON_SIZE];
};

static void explain(struct verdict *verdict, const char *text)
{
	(void)snprintf(verdict->why, sizeof(verdict->why), "%s", text);
}

/* ---- how it is ---- */

static const char *reason_of_failure(int code)
{
	switch (-code) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return "DiskMissing";
	case EEXIST:
	case EBUSY:
		return "DiskInUse";
	default:
		return "CreateFailed";
	}
}

static void judge_missing(const struct pool_facts *facts, struct verdict *verdict)
{
	verdict->state = facts->object->uuid[0] != '\0' ? POOL_FAULTED : POOL_CREATING;
	if (facts->failure.code != 0) {
		verdict->reason = reason_of_failure(facts->failure.code);
		explain(verdict, facts->failure.text);
	} else {
		verdict->reason = "Creating";
		explain(verdict, "the pool-agent is about to take the disk");
	}
}

static void judge_present(const struct pool_facts *facts, struct verdict *verdict)
{
	const Strake__V1__Pool *pool = facts->pool;

	if (strcmp(pool->state, "Online") == 0) {
		verdict->state = POOL_ONLINE;
		verdict->ready = "True";
		verdict->reason = "Online";
	} else if (strcmp(pool->state, "Faulted") == 0) {
		verdict->state = POOL_FAULTED;
		verdict->reason = "Faulted";
	} else {
		verdict->state = POOL_CREATING;
		verdict->reason = "Creating";
		explain(verdict, "the pool-agent opens the disk");
	}
	if (pool->reason[0] != '\0') {
		explain(verdict, pool->reason);
	}
}

static void judge(const struct pool_facts *facts, struct verdict *verdict)
{
	*verdict = (struct verdict){.ready = "False"};
	if (facts->agent_failure != NULL) {
		verdict->state = POOL_UNKNOWN;
		verdict->reason = "AgentUnreachable";
		explain(verdict, facts->agent_failure);
	} else if (facts->pool == NULL) {
		judge_missing(facts, verdict);
	} else {
		judge_present(facts, verdict);
	}
	if (facts->object->meta.is_deleted && facts->failure.code != 0) {
		explain(verdict, facts->failure.text);
	}
}

/* ---- what its status says ---- */

/* What is not known now stays as it was. */
static void keep(json_t *status, const json_t *json, const char *field)
{
	json_t *value = json_object_get(kube_at(json, "status"), field);

	if (value != NULL) {
		(void)json_object_set(status, field, value);
	}
}

static void set_space(
	json_t *status, json_t *conditions, const struct pool_facts *facts, uint64_t used_bytes)
{
	const Strake__V1__Pool *pool = facts->pool;
	uint64_t free_bytes =
		pool->capacity_bytes > used_bytes ? pool->capacity_bytes - used_bytes : 0;
	bool is_low = free_bytes < pool->capacity_bytes / 100 * SPACE_LOW_PERCENT;

	(void)json_object_set_new(status, "capacity", plan_quantity(pool->capacity_bytes));
	(void)json_object_set_new(status, "used", plan_quantity(used_bytes));
	(void)json_object_set_new(status, "replicas", json_integer((json_int_t)pool->replicas));
	plan_add_condition(conditions, facts->json, "SpaceOK", is_low ? "False" : "True",
		is_low ? "AlmostFull" : "Enough",
		is_low ? "less than 5 % is free: its replicas fail when they need more" : "",
		facts->object->meta.generation);
}

static void keep_space(json_t *status, json_t *conditions, const struct pool_facts *facts)
{
	static const char *const fields[] = {"capacity", "used", "replicas"};
	const json_t *list = kube_at(facts->json, "status.conditions");
	size_t i;
	json_t *condition;

	for (size_t j = 0; j < ARRAY_COUNT(fields); j++) {
		keep(status, facts->json, fields[j]);
	}
	json_array_foreach(list, i, condition)
	{
		if (strcmp(kube_text(condition, "type"), "SpaceOK") == 0) {
			(void)json_array_append_new(conditions, json_deep_copy(condition));
		}
	}
}

static void set_identity(json_t *status, const struct pool_facts *facts)
{
	bool has_uuid = facts->pool != NULL && facts->pool->uuid[0] != '\0';

	if (has_uuid) {
		(void)json_object_set_new(status, "uuid", plan_text(facts->pool->uuid));
	} else {
		keep(status, facts->json, "uuid");
	}
	(void)json_object_set_new(status, "sealingKey", plan_text(facts->sealing_key));
	if (facts->agent_failure == NULL) {
		(void)json_object_set_new(status, "agent", plan_text(facts->agent->uuid));
		(void)json_object_set_new(status, "address", plan_text(facts->agent->address));
	} else {
		keep(status, facts->json, "agent");
		keep(status, facts->json, "address");
	}
}

static json_t *make_status(
	const struct pool_facts *facts, const struct verdict *verdict, uint64_t used_bytes)
{
	const struct pool_object *object = facts->object;
	json_t *conditions = json_array();
	json_t *status = json_pack("{s:s, s:I, s:o}", "state", pool_state_name(verdict->state),
		"observedGeneration", (json_int_t)object->meta.generation, "reserved",
		plan_quantity(facts->reserved_bytes));

	if (verdict->why[0] != '\0') {
		(void)json_object_set_new(status, "reason", plan_text(verdict->why));
	}
	set_identity(status, facts);
	plan_add_condition(conditions, facts->json, "Ready", verdict->ready, verdict->reason,
		verdict->why, object->meta.generation);
	/* A pool that is not open has no numbers. */
	if (facts->agent_failure == NULL && facts->pool != NULL &&
		facts->pool->capacity_bytes > 0) {
		set_space(status, conditions, facts, used_bytes);
	} else {
		keep_space(status, conditions, facts);
	}
	(void)json_object_set_new(status, "conditions", conditions);
	return status;
}

static const char *const fields[] = {"state", "reason", "observedGeneration", "uuid", "agent",
	"address", "sealingKey", "capacity", "used", "reserved", "replicas"};

static void plan_writing(const struct pool_facts *facts, struct pool_plan *plan)
{
	const struct pool_object *object = facts->object;
	uint64_t used_bytes = facts->pool != NULL ? facts->pool->used_bytes : 0;
	struct verdict verdict;
	json_t *status;

	judge(facts, &verdict);
	/* All else first: with the number that is written already. */
	status = make_status(facts, &verdict, object->used_bytes);
	if (plan_status_is(facts->json, status, fields, ARRAY_COUNT(fields)) &&
		plan_used_is_due(object->used_bytes, used_bytes,
			facts->pool != NULL ? facts->pool->capacity_bytes : 0, &facts->clock)) {
		plan->is_idle = true;
	} else if (plan_status_is(facts->json, status, fields, ARRAY_COUNT(fields))) {
		json_decref(status);
		return;
	}
	json_decref(status);
	plan->action = POOL_WRITE_STATUS;
	plan->status = make_status(facts, &verdict, used_bytes);
}

json_t *plan_pool_released(const struct pool_facts *facts)
{
	json_t *conditions = json_array();

	plan_add_condition(conditions, facts->json, "Ready", "False", "Released",
		"the pool-agent gave its disk up", facts->object->meta.generation);
	return json_pack("{s:s, s:I, s:o}", "state", pool_state_name(POOL_RELEASED),
		"observedGeneration", (json_int_t)facts->object->meta.generation, "conditions",
		conditions);
}

/* ---- what is to be done ---- */

static bool shall_delete(const struct pool_facts *facts)
{
	return facts->object->meta.is_deleted && facts->agent_failure == NULL &&
	       facts->replica_count == 0 && facts->failure.code == 0;
}

/* A failed attempt is said first, and tried again when its time has come (the actor forgets the
 * failure then). */
static bool shall_create(const struct pool_facts *facts)
{
	return !facts->object->meta.is_deleted && facts->agent_failure == NULL &&
	       facts->pool == NULL && facts->failure.code == 0;
}

void plan_pool(const struct pool_facts *facts, struct pool_plan *ret_plan)
{
	struct pool_plan *plan = ret_plan;
	const struct pool_object *object = facts->object;

	*plan = (struct pool_plan){0};
	if (object->meta.is_deleted && object->state == POOL_RELEASED) {
		return;
	}
	if (shall_delete(facts)) {
		plan->action = facts->left != NULL ? POOL_ERASE_LEFT : POOL_DELETE;
	} else if (shall_create(facts)) {
		bool is_new = object->uuid[0] == '\0';

		/* One that was there before is only taken again as it is: what it holds may be the
		 * last copy of something. */
		plan->action = POOL_CREATE;
		plan->size_bytes = is_new ? object->file_size_bytes : 0;
		plan->wipe = is_new && object->wipe;
	} else {
		plan_writing(facts, plan);
	}
}
