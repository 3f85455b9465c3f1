/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of a volume; what the rest of the mirror must know of them (snapshot.c, layers.c). */
#ifndef NEXUS_MIRROR_SNAPSHOT_H
#define NEXUS_MIRROR_SNAPSHOT_H

#include "nexus/nexus.h"

struct leg;
struct vol_op;

enum snapshot_state {
	SNAPSHOT_START,
	SNAPSHOT_AWAIT_WANTED,
	SNAPSHOT_AWAIT_QUIET,
	SNAPSHOT_AWAIT_DRAINED,
	SNAPSHOT_AWAIT_PREPARED,
	SNAPSHOT_AWAIT_FLUSHED,
	SNAPSHOT_AWAIT_COMMITTED,
	SNAPSHOT_DONE,
};

/* One snapshot is in the making at a time. */
struct snapshotter {
	struct task task;
	enum snapshot_state state;
	struct io_timer timer;           /* runs while the request may wait */
	struct io_timer pause_timer;     /* runs while host writes may be stopped */
	struct volume_snapshot *request; /* borrowed; NULL: none */
	uint64_t incarnation;            /* of the volume when it was begun */
	/* From the barrier until the commit, or until it is given up; 0: nothing. */
	uint64_t number;
	struct uuid id;
	uint64_t attempt; /* of the barrier, from 1: for who looks on */
	bool stops;       /* host writes wait */
	bool proposable;  /* may be, or was, proposed */
	/* One was proposed since the last commit, and perhaps given up: an opener may still choose
	 * it. */
	bool unsettled;
	uint64_t exists;  /* a member has this id already, as this number; 0: no */
	uint32_t members; /* a leg_mask: S when it began, for a deliberate bug */
};

task_step snapshot_step;
/* A new session has begun. */
void snapshot_leg_came_up(struct leg *leg);
/* A host write waits for the barrier. */
bool snapshot_stops(const struct vol_op *op);
/* Nobody joins S, and the size stays as it is. */
bool snapshot_is_open(const struct volume *volume);
/* It may not join: a committed snapshot is not there. */
bool snapshot_is_lacking(const struct leg *leg);
/* A configuration was committed, or the volume is opened anew. */
void snapshot_committed(struct volume *volume);
void snapshot_reopened(struct volume *volume);
void snapshot_proposed(struct volume *volume);
/* What the next configuration says. */
void snapshot_wish(const struct volume *volume, struct cfg *cfg);

#endif
