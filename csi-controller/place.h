/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pools take the replicas of a volume.  Two tables (place.c): filters say why a pool cannot,
 * scores order those that can; a new rule is a new row.
 */
#ifndef CSI_CONTROLLER_PLACE_H
#define CSI_CONTROLLER_PLACE_H

#include "csi-controller/world.h"

struct place_request {
	const struct world *world;
	/* Pools that have something of it already, and are not in `kept`, are not asked again.
	 * NULL: a volume that does not exist yet. */
	const struct world_volume *volume;
	uint64_t size_bytes;
	const char *preferred_node;  /* "": none */
	const json_t *pool_selector; /* map of texts, NULL: every pool */
	unsigned count;              /* that many, each on a node of its own */
	/* Replicas that stay: their nodes are taken. */
	const struct world_replica *kept[OBJECTS_REPLICAS_MAX * 2];
	unsigned kept_count;
};

#define PLACE_WHY_SIZE 400

struct place_answer {
	bool is_possible; /* all of them; else `why` says what is wrong with each pool */
	const struct world_pool *pools[OBJECTS_REPLICAS_MAX];
	char why[PLACE_WHY_SIZE];
};

void place(const struct place_request *request, struct place_answer *ret_answer);

/* The size of the largest volume with so many replicas that would find a place now; size_bytes,
 * volume and kept are not used. */
uint64_t place_largest(const struct place_request *request);

#endif
