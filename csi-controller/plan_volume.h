/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is next for one Volume: pure, from the world as it is known to one step.  The actor carries
 * it out, the world changes, and the plan is asked again; any step may be lost or repeated.
 *
 * Replicas are made and replaced only while the volume was never attached: then no nexus has a
 * record that names its voters.  Condition Available guards the way between: a first attachment
 * needs it True in the very version of the object that it changes, and replacing begins with taking
 * it away in a version with attach number 0.
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
	VOLUME_FORGET_NEXUS, /* takes status.nexus of a node away that does not exist any more */
	VOLUME_RELEASE,      /* takes the finalizer away */
	VOLUME_WRITE_STATUS,
};

struct volume_placement {
	uint32_t slot;
	char name[OBJECTS_NAME_SIZE]; /* of the Replica */
	const char *pool, *node;      /* of the world */
};

#define PLAN_VICTIMS_MAX 16 /* in one step */

struct volume_plan {
	enum volume_action action;
	unsigned placement_count;
	struct volume_placement placements[OBJECTS_REPLICAS_MAX];
	unsigned victim_count;
	const struct world_replica *victims[PLAN_VICTIMS_MAX];
	json_t *status;   /* owned: what status shall be, of the fields that are csi-controller's */
	unsigned again_s; /* look again then, though nothing has changed; 0: no need */
};

void plan_volume(
	const struct world *world, const struct world_volume *volume, struct volume_plan *ret_plan);
void volume_plan_done(struct volume_plan *plan);

/* ---- plan_status.c ---- */

/* The replicas that are not deleted, by slot. */
struct volume_facts {
	unsigned live_count;
	const struct world_replica *live[OBJECTS_REPLICAS_MAX * 2];
	bool is_available;
	const char *available_reason;            /* CamelCase */
	char available_why[PLACE_WHY_SIZE + 64]; /* "" when it is */
	char end_why[OBJECTS_REASON_SIZE];       /* of a deleted volume: what it waits for */
};

/* A new reference. */
json_t *volume_status_make(const struct world *world, const struct world_volume *volume,
	const struct volume_facts *facts);
/* Whether an object's status has all that, and nothing else of it. */
bool volume_status_is(const json_t *object, const json_t *status);

/* What is wrong with a replica that was not made yet, for a person: "replica db-x2f9q on pool a:
 * ...". */
void replica_problem(const struct world_replica *replica, char *text, size_t size);

#endif
