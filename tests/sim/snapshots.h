/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots in a world: who asks for them, and what must hold of them. */
#ifndef SIM_SNAPSHOTS_H
#define SIM_SNAPSHOTS_H

#include "nexus/nexus.h"
#include "simio/simio.h"
#include "tests/sim/snapshot_store.h"

#define SNAPSHOTS_OF_WORLD 12 /* committed ones; no more are asked for */

struct world;
struct slot;
struct world_options;

/* The values that each block may have in a snapshot: those that a read might have returned when the
 * writes had ended. */
struct snapshot_attempt {
	uint64_t number;
	struct uuid id;
	size_t block_count;
	struct snapshot_values {
		uint64_t *numbers; /* owned */
		size_t count;
	} *blocks; /* owned */
};

struct snapshots {
	struct sim_event event;
	struct uuid last_id;
	struct snapshot_attempt *attempts; /* owned */
	size_t attempt_count, attempt_capacity;
	/* By number, from 1: what the first configuration with it showed. */
	struct image committed[SNAPSHOTS_OF_WORLD + 1];
	uint64_t last; /* the highest number that was committed */
	struct cfg last_cfg;
};

void snapshots_draw(struct world_options *options, struct rng *rng);
void snapshots_start(struct world *world);
void snapshots_stop(struct world *world);
void snapshots_done(struct world *world);
/* After each step. */
void snapshots_observe(struct world *world);
/* A nexus has committed this: all of S have every snapshot of it. */
void snapshots_judge(struct world *world, const struct cfg *cfg);
/* The first one of a new lineage: what it does not name is lost. */
void snapshots_recovered(struct world *world, const struct cfg *cfg);
/* An agent was told that it exists. */
void snapshots_judge_kept(struct node_agent *node, const struct image *image);
/* None of this slot is under way. */
void slot_snapshot(struct slot *slot, const struct uuid *id);

#endif
