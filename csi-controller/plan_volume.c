/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/plan_volume.h"

#include "base/bytes.h"
#include "base/mutant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A replica that is not made after so long is made elsewhere, if there is a place. */
#define BAD_AFTER_S 30
/* The same when nobody says anything of it: its node may be starting. */
#define SILENT_AFTER_S 60
/* Replicas of a deleted volume are not waited for any longer: nothing depends on them. */
#define ERASE_WAIT_S 60

/* ---- facts ---- */

static int by_slot(const void *a, const void *b)
{
	const struct world_replica *const *left = a, *const *right = b;
	uint32_t of_left = (*left)->object.slot, of_right = (*right)->object.slot;

	return of_left < of_right ? -1 : of_left > of_right;
}

static void gather(const struct world_volume *volume, struct volume_facts *facts)
{
	list_for_each (&volume->replicas, node) {
		const struct world_replica *replica =
			container_of(node, struct world_replica, in_volume);

		if (world_is_of(replica, volume) && !replica->object.meta.is_deleted &&
			facts->live_count < ARRAY_COUNT(facts->live)) {
			facts->live[facts->live_count++] = replica;
		}
	}
	qsort(facts->live, facts->live_count, sizeof(facts->live[0]), by_slot);
}

static bool is_made(const struct world_replica *replica)
{
	return !replica->is_pending && replica->object.nsid != 0;
}

static void look_again(struct volume_plan *plan, int64_t in_s)
{
	unsigned seconds = in_s < 1 ? 1 : (unsigned)in_s;

	plan->again_s = plan->again_s == 0 || seconds < plan->again_s ? seconds : plan->again_s;
}

bool plan_is_over(
	const struct world *world, struct volume_plan *plan, int64_t since_s, int64_t limit_s)
{
	if (world->now_s >= since_s + limit_s) {
		return true;
	}
	look_again(plan, since_s + limit_s - world->now_s);
	return false;
}

bool plan_replica_is_bad(
	const struct world *world, struct volume_plan *plan, const struct world_replica *replica)
{
	const struct world_pool *pool = replica->pool;

	if (replica->is_pending) {
		return false;
	}
	if (!pool->is_there || (pool->is_valid && pool->object.meta.is_deleted)) {
		return true;
	}
	if (is_made(replica)) {
		return false;
	}
	if (strcmp(replica->ready.status, "False") == 0) {
		return strcmp(replica->ready.reason, "NoSpace") == 0 ||
		       plan_is_over(world, plan, replica->ready.since_s, BAD_AFTER_S);
	}
	if (!world_pool_is_usable(pool)) {
		int64_t since_s = pool->ready.since_s > replica->created_s ? pool->ready.since_s
									   : replica->created_s;

		return plan_is_over(world, plan, since_s, BAD_AFTER_S);
	}
	return plan_is_over(world, plan, replica->created_s, SILENT_AFTER_S);
}

/* ---- making replicas ---- */

/* The lowest slots that nothing has: what was sent and not answered gets the same name again. */
void plan_placements(const struct world *world, const struct world_volume *volume,
	const struct place_answer *answer, unsigned count, bool of_arbiter,
	struct volume_plan *plan)
{
	uint32_t slot = 0;

	for (unsigned i = 0; i < count; i++) {
		struct volume_placement *placement = &plan->placements[i];

		do {
			placement->slot = slot++;
			replica_name_make(volume->object.meta.name, &volume->object.uuid,
				placement->slot, placement->name);
		} while (world_replica(world, placement->name) != NULL);
		placement->pool = answer->pools[i]->object.meta.name;
		placement->node = answer->pools[i]->object.node;
		placement->is_arbiter = of_arbiter;
	}
	plan->placement_count = count;
	plan->action = VOLUME_PLACE;
}

/* In the same place: it may be there. */
bool plan_pending(const struct volume_facts *facts, struct volume_plan *plan)
{
	for (unsigned i = 0; i < facts->live_count; i++) {
		const struct world_replica *replica = facts->live[i];

		if (replica->is_pending && plan->placement_count < OBJECTS_VOTERS_MAX) {
			struct volume_placement *placement =
				&plan->placements[plan->placement_count++];

			placement->slot = replica->object.slot;
			(void)snprintf(placement->name, sizeof(placement->name), "%s",
				replica->object.meta.name);
			placement->pool = replica->object.pool;
			placement->node = replica->object.node;
			placement->is_arbiter = replica->object.is_arbiter;
		}
	}
	plan->action = plan->placement_count > 0 ? VOLUME_PLACE : plan->action;
	return plan->action == VOLUME_PLACE;
}

/* What was asked for before and not answered is asked for again: deletions first. */
static bool plan_again(const struct volume_facts *facts, struct volume_plan *plan)
{
	for (unsigned i = 0; i < facts->live_count; i++) {
		if (facts->live[i]->is_doomed && !facts->live[i]->is_pending) {
			plan->victims[plan->victim_count++] = facts->live[i];
		}
	}
	plan->action = plan->victim_count > 0 ? VOLUME_DROP : plan->action;
	return plan->action == VOLUME_DROP || plan_pending(facts, plan);
}

static void wait_for_replicas(
	const struct volume_facts *facts, const char *no_place, char *why, size_t size)
{
	size_t length = 0;

	for (unsigned i = 0; i < facts->live_count && length < size; i++) {
		char problem[200];

		if (is_made(facts->live[i])) {
			continue;
		}
		replica_problem(facts->live[i], problem, sizeof(problem));
		length += (size_t)snprintf(
			why + length, size - length, "%s%s", length > 0 ? "; " : "", problem);
	}
	if (no_place[0] != '\0' && length < size) {
		(void)snprintf(why + length, size - length, "%sno other place: %s",
			length > 0 ? "; " : "", no_place);
	}
}

/* The replicas of a volume: those that stay, those that do not, and places for what is missing
 * then. */
struct sorted {
	struct place_request request;
	struct place_answer answer;
	unsigned bad_count, made_count;
	const struct world_replica *bad[OBJECTS_REPLICAS_MAX * 2];
};

/* `is_lenient`: what is made stays on pools that are to go, which stay until their replicas do. */
static void sort_replicas(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts, struct volume_plan *plan, bool is_lenient,
	struct sorted *ret_sorted)
{
	const struct volume_object *object = &volume->object;
	struct place_request *request = &ret_sorted->request;

	*ret_sorted = (struct sorted){
		.request = {.world = world,
			.volume = volume,
			.size_bytes = object->size_bytes,
			.preferred_node = object->preferred_node,
			.pool_selector = object->pool_selector},
		.answer = {.is_possible = true},
	};
	for (unsigned i = 0; i < facts->live_count; i++) {
		const struct world_replica *replica = facts->live[i];

		if (replica->object.is_arbiter) {
			continue;
		}
		bool is_surplus = request->kept_count == object->replicas;
		bool may_stay = is_lenient && is_made(replica) && replica->pool->is_there;

		if (is_surplus || (!may_stay && plan_replica_is_bad(world, plan, replica))) {
			ret_sorted->bad[ret_sorted->bad_count++] = replica;
		} else {
			request->kept[request->kept_count++] = replica;
			ret_sorted->made_count += is_made(replica);
		}
	}
	request->count = object->replicas - request->kept_count;
	/* An arbiter must not stand where data can: it comes last. */
	for (unsigned i = 0; i < facts->live_count && request->count > 0; i++) {
		if (facts->live[i]->object.is_arbiter) {
			ret_sorted->bad[ret_sorted->bad_count++] = facts->live[i];
		}
	}
	if (request->count > 0) {
		place(request, &ret_sorted->answer);
	}
}

/*
 * With an even number of replicas a majority of the voters is lost with the first of them, unless
 * an arbiter on another node votes too.  Where there is no such node there is none.  true: a step
 * is to be taken, or waited for.
 */
static bool plan_arbiter(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, struct sorted *data, struct volume_plan *plan)
{
	struct place_request *request = &data->request;
	struct place_answer answer;
	unsigned kept_count = 0;
	bool is_made_now = true;

	for (unsigned i = 0; i < facts->live_count; i++) {
		const struct world_replica *replica = facts->live[i];

		if (!replica->object.is_arbiter) {
			continue;
		}
		if (kept_count == 1 || volume->object.replicas % 2 != 0 ||
			plan_replica_is_bad(world, plan, replica)) {
			plan->victims[plan->victim_count++] = replica;
		} else {
			kept_count++;
			is_made_now = is_made(replica);
		}
	}
	if (plan->victim_count > 0) {
		plan->action = VOLUME_DROP;
		return true;
	}
	if (kept_count == 1 || volume->object.replicas % 2 != 0) {
		return !is_made_now;
	}
	request->count = 1;
	request->size_bytes = 0;
	request->preferred_node = "";
	request->pool_selector = NULL;
	place(request, &answer);
	if (answer.is_possible) {
		plan_placements(world, volume, &answer, 1, true, plan);
	}
	return answer.is_possible;
}

/* Of a volume that is not available: what it waits for. */
static void explain_waiting(
	const struct sorted *sorted, unsigned replicas, struct volume_facts *facts)
{
	if (!sorted->answer.is_possible && facts->live_count < replicas) {
		facts->available_reason = "Unplaceable";
		(void)snprintf(facts->available_why, sizeof(facts->available_why), "%s",
			sorted->answer.why);
	} else {
		wait_for_replicas(facts, sorted->answer.why, facts->available_why,
			sizeof(facts->available_why));
	}
}

/* The replicas of a volume that was never attached. */
static void plan_replicas(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, struct volume_plan *plan)
{
	const struct volume_object *object = &volume->object;
	struct sorted sorted;

	facts->available_reason = "WaitingForReplicas";
	if (plan_again(facts, plan)) {
		wait_for_replicas(facts, "", facts->available_why, sizeof(facts->available_why));
		return;
	}
	sort_replicas(world, volume, facts, plan, false, &sorted);
	if (!sorted.answer.is_possible) {
		sort_replicas(world, volume, facts, plan, true, &sorted);
	}
	if (sorted.bad_count == 0 && sorted.made_count == object->replicas) {
		if (!plan_arbiter(world, volume, facts, &sorted, plan)) {
			facts->is_available = true;
			facts->available_reason = "ReplicasMade";
		} else if (plan->action != VOLUME_NOTHING && object->is_available) {
			plan->action = VOLUME_WITHHOLD;
		}
		if (!facts->is_available) {
			wait_for_replicas(
				facts, "", facts->available_why, sizeof(facts->available_why));
		}
		return;
	}
	explain_waiting(&sorted, object->replicas, facts);
	if (!sorted.answer.is_possible || (sorted.bad_count == 0 && sorted.request.count == 0)) {
		return;
	}
	if (object->is_available) {
		plan->action = VOLUME_WITHHOLD;
	} else if (sorted.bad_count > 0) {
		plan->action = VOLUME_DROP;
		plan->victim_count = sorted.bad_count;
		memcpy(plan->victims, sorted.bad, sorted.bad_count * sizeof(sorted.bad[0]));
	} else {
		plan_placements(world, volume, &sorted.answer, sorted.request.count, false, plan);
	}
}

_Static_assert(OBJECTS_REPLICAS_MAX * 2 <= PLAN_VICTIMS_MAX, "all of a volume's can be dropped");

/* ---- a volume's life ---- */

/* The object is of a backup: the node that it is attached to is refused by replicas that a later
 * attachment has fenced. */
static bool has_old_number(const struct volume_object *object)
{
	return object->nexus.is_there && object->attached_node[0] != '\0' &&
	       strcmp(object->nexus.node, object->attached_node) == 0 &&
	       strcmp(object->nexus.state, "Superseded") == 0 &&
	       object->nexus.superseded_by > object->attach_number &&
	       object->nexus.superseded_by < UINT32_MAX && !mutant_is(MUTANT_KEEPS_OLD_NUMBER);
}

static void plan_life(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, struct volume_plan *plan)
{
	const struct volume_object *object = &volume->object;
	const struct world_node *nexus_node = world_node(world, object->nexus.node);
	unsigned made_count = 0;

	if (!object->meta.has_finalizer || uuid_is_nil(&object->uuid)) {
		facts->available_reason = "WaitingForReplicas";
		plan->action = VOLUME_ADOPT;
		return;
	}
	if (object->attach_number == 0) {
		plan_replicas(world, volume, facts, plan);
		return;
	}
	/* What was attached once was available, and stays it: its replicas hold what it is. */
	for (unsigned i = 0; i < facts->live_count; i++) {
		made_count += is_made(facts->live[i]) && !facts->live[i]->object.is_arbiter;
	}
	facts->is_available = object->is_available || made_count >= object->replicas;
	facts->available_reason = facts->is_available ? "ReplicasMade" : "WaitingForReplicas";
	if (!facts->is_available) {
		wait_for_replicas(facts, "", facts->available_why, sizeof(facts->available_why));
	}
	if (has_old_number(object)) {
		plan->action = VOLUME_RAISE_ATTACH;
		return;
	}
	if (object->nexus.is_there && (nexus_node == NULL || !nexus_node->is_there) &&
		strcmp(object->attached_node, object->nexus.node) != 0) {
		plan->action = VOLUME_FORGET_NEXUS;
	}
	if (plan->action == VOLUME_NOTHING && facts->is_available) {
		plan_voters(world, volume, facts, plan);
	}
}

/* ---- its end ---- */

/* True when nothing can be expected of who would erase it. */
static bool is_away(const struct world_replica *replica)
{
	return !world_pool_is_usable(replica->pool);
}

static void plan_erasing(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, struct volume_plan *plan)
{
	const struct world_replica *waiting = NULL;

	list_for_each (&volume->replicas, node) {
		const struct world_replica *replica =
			container_of(node, struct world_replica, in_volume);

		if (!world_is_of(replica, volume)) {
			continue;
		}
		if (replica->object.meta.is_deleted) {
			waiting = is_away(replica) ? waiting : replica;
		} else if (plan->victim_count < PLAN_VICTIMS_MAX) {
			plan->victims[plan->victim_count++] = replica;
		}
	}
	if (plan->victim_count > 0) {
		plan->action = VOLUME_DROP;
	} else if (waiting == NULL || plan_is_over(world, plan, volume->deleted_s, ERASE_WAIT_S)) {
		plan->action = VOLUME_RELEASE;
	} else {
		(void)snprintf(facts->end_why, sizeof(facts->end_why),
			"waits for node %.64s to erase replica %.64s", waiting->object.node,
			waiting->object.meta.name);
	}
}

static void plan_end(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, struct volume_plan *plan)
{
	const struct volume_object *object = &volume->object;

	facts->is_available = object->is_available;
	facts->available_reason = facts->is_available ? "ReplicasMade" : "WaitingForReplicas";
	if (!object->meta.has_finalizer) {
		return;
	}
	/* Somebody deleted it while it is in use: its data stay until it is not. */
	if (object->attached_node[0] != '\0') {
		(void)snprintf(facts->end_why, sizeof(facts->end_why), "is attached to node %.128s",
			object->attached_node);
	} else if (object->nexus.is_there && world_node_is_ready(world, object->nexus.node)) {
		(void)snprintf(facts->end_why, sizeof(facts->end_why),
			"waits for node %.128s to close it", object->nexus.node);
	} else {
		plan_erasing(world, volume, facts, plan);
	}
}

/* What an operator decided on a node is in the plan's status, and not in the object's yet. */
static bool is_recovery_unsaid(const struct world_volume *volume, const struct volume_plan *plan)
{
	return volume->object.nexus.is_there && volume->object.nexus.record[0] != '\0' &&
	       strcmp(kube_text(plan->status, "record"),
		       kube_text(volume->json, "status.record")) != 0;
}

void plan_volume(
	const struct world *world, const struct world_volume *volume, struct volume_plan *ret_plan)
{
	struct volume_plan *plan = ret_plan;
	struct volume_facts facts = {0};

	*plan = (struct volume_plan){0};
	if (!volume->is_there || !volume->is_valid) {
		return;
	}
	gather(volume, &facts);
	volume_look(world, volume, &facts);
	if (volume->object.meta.is_deleted) {
		plan_end(world, volume, &facts, plan);
	} else {
		plan_life(world, volume, &facts, plan);
	}
	plan->status = volume_status_make(world, volume, &facts);
	if (plan->action == VOLUME_NOTHING && !volume_status_is(volume->json, plan->status)) {
		/* A first attachment may be on its way: one of the two is lost. */
		plan->action = volume->object.is_available && !facts.is_available
				       ? VOLUME_WITHHOLD
				       : VOLUME_WRITE_STATUS;
	} else if (plan->action == VOLUME_RAISE_ATTACH && is_recovery_unsaid(volume, plan)) {
		/* With the number the node opens the volume, and says no more that it was
		 * recovered. */
		plan->action = VOLUME_WRITE_STATUS;
	}
}

void volume_plan_done(struct volume_plan *plan)
{
	json_decref(plan->status);
	plan->status = NULL;
}
