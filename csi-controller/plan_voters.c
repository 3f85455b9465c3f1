/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicas of a volume that was attached: its voters change only while a nexus serves it, which
 * csi-node of its node tells who shall come and who go (status.replicas).
 *
 * A replica that is to leave is marked first, and deleted when csi-node says that it has no vote
 * any more; the mark stays.  Nothing is marked that leaves fewer in sync than are wanted, but what
 * will never be in sync again: its vote only has to be outvoted, and its node may have a new disk.
 */
#include "base/mutant.h"
#include "csi-controller/plan_volume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* An arbiter has no data that would have to come back with it. */
#define ARBITER_AFTER_S 30

/* What there is of a volume, of one kind. */
struct roster {
	unsigned wanted;
	unsigned count;
	struct candidate {
		struct replica_view *view;
		bool is_lost; /* shall be replaced */
		unsigned rank;
	} candidates[OBJECTS_VOTERS_MAX];
	unsigned keep_count; /* of those: the first ones */
	unsigned good_count; /* in sync, also of those that are to be replaced */
	bool is_sound;       /* all that have a vote, or get one, are in sync */
	bool is_whole;       /* all that are wanted are kept and in sync */
};

/* Whether it shall be replaced; if that is only a question of time, the plan is asked again then.
 */
static bool is_lost(
	const struct world *world, struct volume_plan *plan, const struct replica_view *view)
{
	const struct world_pool *pool = view->replica->pool;
	int64_t limit_s =
		view->replica->object.is_arbiter ? ARBITER_AFTER_S : world->replace_after_s;

	if (!pool->is_there || (pool->is_valid && pool->object.meta.is_deleted)) {
		return true;
	}
	if (strcmp(view->state, "Offline") != 0 && strcmp(view->state, "Faulted") != 0) {
		return false;
	}
	return plan_is_over(world, plan, view->since_s, limit_s);
}

static unsigned rank_of(const struct candidate *candidate)
{
	const struct world_pool *pool = candidate->view->replica->pool;

	if (candidate->is_lost) {
		return 8;
	}
	return (candidate->view->is_good                                   ? 0u
		       : strcmp(candidate->view->state, "Rebuilding") == 0 ? 2u
									   : 4u) +
	       (pool->is_valid && pool->object.unschedulable);
}

/* Who stays comes first; among equals the older one. */
static int by_rank(const void *a, const void *b)
{
	const struct candidate *left = a, *right = b;

	if (left->rank != right->rank) {
		return left->rank < right->rank ? -1 : 1;
	}
	return left->view->replica->object.slot < right->view->replica->object.slot ? -1 : 1;
}

static void take_roster(const struct world *world, struct volume_facts *facts, bool of_arbiters,
	unsigned wanted, struct volume_plan *plan, struct roster *ret_roster)
{
	struct roster *roster = ret_roster;
	unsigned good_count = 0;

	*roster = (struct roster){.wanted = wanted};
	for (unsigned i = 0; i < facts->live_count; i++) {
		struct replica_view *view = &facts->views[i];
		struct candidate *candidate = &roster->candidates[roster->count];

		if (view->replica->object.is_arbiter != of_arbiters || view->is_leaving ||
			roster->count == OBJECTS_VOTERS_MAX) {
			continue;
		}
		candidate->view = view;
		candidate->is_lost = is_lost(world, plan, view);
		candidate->rank = rank_of(candidate);
		roster->good_count += view->is_good;
		roster->count++;
	}
	qsort(roster->candidates, roster->count, sizeof(roster->candidates[0]), by_rank);
	while (roster->keep_count < roster->count && roster->keep_count < wanted &&
		!roster->candidates[roster->keep_count].is_lost) {
		good_count += roster->candidates[roster->keep_count++].view->is_good;
	}
	roster->is_sound = roster->good_count == roster->count;
	roster->is_whole = good_count == wanted;
}

/* ---- steps ---- */

static bool is_removed(const struct world_volume *volume, const struct replica_view *view)
{
	const struct volume_nexus *nexus = &volume->object.nexus;
	char text[UUID_TEXT_SIZE];

	uuid_to_text(&view->replica->object.uuid, text);
	for (unsigned i = 0; i < nexus->removed_count; i++) {
		if (strcasecmp(nexus->removed[i], text) == 0) {
			return true;
		}
	}
	return false;
}

/* Those that left, and those that could not be made (nobody was told of them). */
static void plan_drops(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts, struct volume_plan *plan)
{
	for (unsigned i = 0; i < facts->live_count; i++) {
		const struct replica_view *view = &facts->views[i];

		if (view->replica->is_pending) {
			continue;
		}
		if (view->is_leaving ? is_removed(volume, view) || mutant_is(MUTANT_DELETES_VOTER)
				     : view->replica->object.nsid == 0 &&
					       plan_replica_is_bad(world, plan, view->replica)) {
			plan->victims[plan->victim_count++] = view->replica;
		}
	}
	if (plan->victim_count > 0) {
		plan->action = VOLUME_DROP;
	}
}

/* One at a time: the next when this one is known. */
static void plan_more(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, bool of_arbiter, struct volume_plan *plan)
{
	const struct volume_object *object = &volume->object;
	struct place_request request = {
		.world = world,
		.volume = volume,
		.size_bytes = of_arbiter ? 0 : object->size_bytes,
		.preferred_node = of_arbiter ? "" : object->preferred_node,
		.pool_selector = of_arbiter ? NULL : object->pool_selector,
		.count = 1,
	};
	struct place_answer answer;

	if (facts->live_count == OBJECTS_VOTERS_MAX) {
		return;
	}
	/* Also of those that leave or are lost: no node has two votes. */
	for (unsigned i = 0; i < facts->live_count; i++) {
		request.kept[request.kept_count++] = facts->live[i];
	}
	place(&request, &answer);
	if (answer.is_possible) {
		plan_placements(world, volume, &answer, 1, of_arbiter, plan);
	} else if (!of_arbiter) {
		(void)snprintf(
			facts->redundant_why, sizeof(facts->redundant_why), "%s", answer.why);
	}
}

/* Its Pool was deleted, and what was on it is given up. */
static bool is_gone_for_good(const struct replica_view *view)
{
	return !view->replica->pool->is_there && !view->is_good;
}

/* Those whose going leaves as many in sync as are wanted; the worst first. */
static void let_go(struct roster *roster)
{
	for (unsigned i = roster->count; i > roster->keep_count; i--) {
		struct replica_view *view = roster->candidates[i - 1].view;

		if (is_gone_for_good(view) ||
			roster->good_count - view->is_good >= roster->wanted) {
			roster->good_count -= view->is_good;
			view->is_leaving = true;
		}
	}
}

static bool is_serving(const struct world *world, const struct world_volume *volume)
{
	const char *state = volume->object.nexus.state;

	return volume_nexus_is_heard(world, volume) &&
	       (strcmp(state, "Online") == 0 || strcmp(state, "Degraded") == 0);
}

void plan_voters(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, struct volume_plan *plan)
{
	struct roster data, arbiters;

	/* Before the first configuration nobody can say who has a vote. */
	if (!volume->object.is_used || !is_serving(world, volume)) {
		return;
	}
	plan_drops(world, volume, facts, plan);
	if (plan->action != VOLUME_NOTHING || plan_pending(facts, plan)) {
		return;
	}
	take_roster(world, facts, false, volume->object.replicas, plan, &data);
	take_roster(world, facts, true, volume->object.replicas % 2 == 0, plan, &arbiters);
	let_go(&data);
	/* An arbiter that is not needed may be where a replica shall be.  Its vote is needed while
	 * others are away. */
	if (arbiters.wanted == 0 ? data.is_sound : data.is_whole) {
		let_go(&arbiters);
	}
	if (data.keep_count < data.wanted) {
		plan_more(world, volume, facts, false, plan);
	} else if (data.is_whole && arbiters.keep_count < arbiters.wanted) {
		plan_more(world, volume, facts, true, plan);
	}
}
