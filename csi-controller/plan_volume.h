/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is next for one Volume: pure, from the world as it is known to one step.  The actor carries
 * it out, the world changes, and the plan is asked again; any step may be lost or repeated.
 *
 * While the volume was never attached, no nexus has a record that names its voters, and its
 * replicas are made and replaced as is best.  Condition Available guards the way to the first
 * attachment: that needs it True in the very version of the object that it changes, and replacing
 * begins with taking it away in a version with attach number 0.  From then on they change with the
 * nexus's help (plan_voters.c).
 */
#ifndef CSI_CONTROLLER_PLAN_VOLUME_H
#define CSI_CONTROLLER_PLAN_VOLUME_H

#include "csi-controller/place.h"

enum volume_action {
	VOLUME_NOTHING,
	VOLUME_ADOPT,    /* the finalizer, and a uuid when it has none; guarded by the version */
	VOLUME_WITHHOLD, /* `status` says Available=False; guarded by the version */
	VOLUME_PLACE,    /* makes the Replicas `placements` */
	VOLUME_DROP,     /* deletes the Replicas `victims` */
	VOLUME_RAISE_ATTACH, /* gives its attachment a number above all that the replicas know */
	VOLUME_FORGET_NEXUS, /* takes status.nexus of a node away that does not exist any more */
	VOLUME_RELEASE,      /* takes the finalizer away */
	VOLUME_WRITE_STATUS,
};

struct volume_placement {
	uint32_t slot;
	char name[OBJECTS_NAME_SIZE]; /* of the Replica */
	const char *pool, *node;      /* of the world */
	bool is_arbiter;
};

#define PLAN_VICTIMS_MAX 16 /* in one step */

struct volume_plan {
	enum volume_action action;
	unsigned placement_count;
	struct volume_placement placements[OBJECTS_VOTERS_MAX];
	unsigned victim_count;
	const struct world_replica *victims[PLAN_VICTIMS_MAX];
	json_t *status;   /* owned: what status shall be, of the fields that are csi-controller's */
	unsigned again_s; /* look again then, though nothing has changed; 0: no need */
};

void plan_volume(
	const struct world *world, const struct world_volume *volume, struct volume_plan *ret_plan);
void volume_plan_done(struct volume_plan *plan);

/* ---- for the plan files ---- */

/* How a replica is, by what is known. */
struct replica_view {
	const struct world_replica *replica;
	const char *state;               /* for status.replicas: Replica's states, and Offline */
	char since[KUBE_TIME_TEXT_SIZE]; /* the state is so */
	int64_t since_s;                 /* the same, Unix time */
	unsigned progress_percent;       /* of Rebuilding, else PROGRESS_NONE */
	bool is_good;                    /* in sync (an arbiter: votes) and reachable */
	bool is_leaving;                 /* it shall have no vote any more */
	bool is_named;                   /* by the nexus: it has a vote, or gets one */
};

#define PROGRESS_NONE 101

/* The replicas that are not deleted, by slot. */
struct volume_facts {
	unsigned live_count;
	const struct world_replica *live[OBJECTS_REPLICAS_MAX * 2];
	struct replica_view views[OBJECTS_REPLICAS_MAX * 2];
	char redundant_why[PLACE_WHY_SIZE]; /* why what is missing finds no place; "": it does */
	bool is_available;
	const char *available_reason;            /* CamelCase */
	char available_why[PLACE_WHY_SIZE + 64]; /* "" when it is */
	char end_why[OBJECTS_REASON_SIZE];       /* of a deleted volume: what it waits for */
};

/* Whether `limit_s` have passed since; else the plan is asked again then. */
bool plan_is_over(
	const struct world *world, struct volume_plan *plan, int64_t since_s, int64_t limit_s);
/* A replica that was not made is better made elsewhere. */
bool plan_replica_is_bad(
	const struct world *world, struct volume_plan *plan, const struct world_replica *replica);
/* Replicas that were asked for and not answered are asked for again.  true: there are such. */
bool plan_pending(const struct volume_facts *facts, struct volume_plan *plan);
/* The first `count` pools of the answer get replicas. */
void plan_placements(const struct world *world, const struct world_volume *volume,
	const struct place_answer *answer, unsigned count, bool of_arbiter,
	struct volume_plan *plan);

/* ---- plan_voters.c ---- */

/* Replicas of a volume that was attached; also fills views[].is_leaving and redundant_why. */
void plan_voters(const struct world *world, const struct world_volume *volume,
	struct volume_facts *facts, struct volume_plan *plan);

/* ---- plan_status.c ---- */

/* A nexus on a node that does not answer says nothing any more. */
bool volume_nexus_is_heard(const struct world *world, const struct world_volume *volume);
/* Fills views. */
void volume_look(
	const struct world *world, const struct world_volume *volume, struct volume_facts *facts);
/* A new reference. */
json_t *volume_status_make(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts);
/* Whether an object's status has all that, and nothing else of it. */
bool volume_status_is(const json_t *object, const json_t *status);

/* What is wrong with a replica that was not made yet, for a person: "replica db-x2f9q on pool a:
 * ...". */
void replica_problem(const struct world_replica *replica, char *text, size_t size);

#endif
