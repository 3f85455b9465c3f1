/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/plan_pool.h"

#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 10 /* of replicas in a message; the others are counted */

/* ---- pools ---- */

/* For a pool that is to go: who holds it. */
static void explain_use(const struct world_pool *pool, struct strbuf *text)
{
	const char *names[NAMES_MAX];
	unsigned count = 0;

	/* The first by name, so that the message does not change with the order of the cache. */
	list_for_each (&pool->replicas, node) {
		const char *name = container_of(node, struct world_replica, in_pool)->entry.key;
		unsigned at = count < NAMES_MAX ? count : NAMES_MAX;

		while (at > 0 && strcmp(names[at - 1], name) > 0) {
			if (at < NAMES_MAX) {
				names[at] = names[at - 1];
			}
			at--;
		}
		if (at < NAMES_MAX) {
			names[at] = name;
		}
		count++;
	}
	strbuf_printf(text, "%u replicas:", count);
	for (unsigned i = 0; i < count && i < NAMES_MAX; i++) {
		strbuf_printf(text, "%s %s", i == 0 ? "" : ",", names[i]);
	}
	if (count > NAMES_MAX) {
		strbuf_printf(text, " and %u more", count - NAMES_MAX);
	}
}

static json_t *copy_conditions(const struct world_pool *pool)
{
	json_t *conditions = json_deep_copy(kube_at(pool->json, "status.conditions"));

	if (!json_is_array(conditions)) {
		json_decref(conditions);
		conditions = json_array();
	}
	return conditions;
}

/* Condition Deletable; the list of replicas only when somebody waits for them: it would be written
 * with every volume. */
static void plan_deletable(const struct world_pool *pool, struct pool_plan *plan)
{
	json_t *conditions = copy_conditions(pool);
	struct strbuf why;

	strbuf_init(&why);
	if (pool->replica_count > 0 && pool->object.meta.is_deleted) {
		explain_use(pool, &why);
	}
	bool is_free = pool->replica_count == 0;
	bool changed = kube_condition_set(conditions, "Deletable", is_free ? "True" : "False",
		is_free ? "NoReplicas" : "HasReplicas", strbuf_text(&why), 0);
	size_t i;
	json_t *condition;

	json_array_foreach(conditions, i, condition)
	{
		if (changed && strcmp(kube_text(condition, "type"), "Deletable") == 0) {
			plan->action = POOL_WRITE_STATUS;
			/* The other conditions are csi-node's. */
			plan->status = json_pack("{s:[O]}", "conditions", condition);
		}
	}
	strbuf_done(&why);
	json_decref(conditions);
}

static void plan_unknown(const struct world_pool *pool, struct pool_plan *plan)
{
	json_t *conditions = copy_conditions(pool);
	char why[OBJECTS_NAME_SIZE + 64];

	(void)snprintf(why, sizeof(why),
		pool->node->is_there ? "node %s is not ready" : "there is no node %s",
		pool->object.node);
	(void)kube_condition_set(conditions, "Ready", "False", "NodeNotReady", why, 0);
	plan->action = POOL_MARK_UNKNOWN;
	plan->status = json_pack("{s:s, s:s, s:o}", "state", pool_state_name(POOL_UNKNOWN),
		"reason", why, "conditions", conditions);
}

void plan_pool(const struct world *world, const struct world_pool *pool, struct pool_plan *ret_plan)
{
	const struct pool_object *object = &pool->object;

	(void)world;
	*ret_plan = (struct pool_plan){0};
	if (!pool->is_there || !pool->is_valid) {
		return;
	}
	bool is_away = !pool->node->is_there || !pool->node->is_ready;

	if (!object->meta.is_deleted && !object->meta.has_finalizer) {
		ret_plan->action = POOL_ADOPT;
	} else if (object->meta.is_deleted && object->meta.has_finalizer &&
		   pool->replica_count == 0 &&
		   (object->state == POOL_RELEASED || !pool->node->is_there)) {
		ret_plan->action = POOL_RELEASE;
	} else if (is_away && object->state != POOL_RELEASED &&
		   (object->state != POOL_UNKNOWN || object->is_ready)) {
		plan_unknown(pool, ret_plan);
	} else {
		plan_deletable(pool, ret_plan);
	}
}

void pool_plan_done(struct pool_plan *plan)
{
	json_decref(plan->status);
	plan->status = NULL;
}

/* ---- replicas ---- */

enum replica_action plan_replica(const struct world *world, const struct world_replica *replica)
{
	const struct world_pool *pool = replica->pool;

	(void)world;
	if (!replica->is_valid || replica->is_pending) {
		return REPLICA_NOTHING;
	}
	if (!replica->object.meta.is_deleted) {
		/* A volume that cannot be read is there. */
		bool is_gone =
			!replica->volume->is_there ||
			(replica->volume->is_valid && !uuid_is_nil(&replica->volume->object.uuid) &&
				!world_is_of(replica, replica->volume));

		return is_gone ? REPLICA_DELETE
		       : !pool->is_there && replica->object.state != REPLICA_ORPHANED
			       ? REPLICA_MARK_ORPHAN
			       : REPLICA_NOTHING;
	}
	if (!replica->object.meta.has_finalizer) {
		return REPLICA_NOTHING;
	}
	if (!pool->is_there) {
		return REPLICA_PURGE;
	}
	/* Who deletes the pool of a node that is away gives up what is on it. */
	return pool->is_valid && pool->object.meta.is_deleted &&
			       (!pool->node->is_there || !pool->node->is_ready)
		       ? REPLICA_PURGE
		       : REPLICA_NOTHING;
}

/* ---- nodes ---- */

enum node_action plan_node(const struct world_node *node)
{
	bool has_pools = !list_is_empty(&node->pools);

	if (!node->is_there || has_pools == node->has_label) {
		return NODE_NOTHING;
	}
	return has_pools ? NODE_LABEL : NODE_UNLABEL;
}
