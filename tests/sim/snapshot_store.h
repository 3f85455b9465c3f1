/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of the replica of one simulated pool-agent, behind the shipped table of
 * pool-agent/store/snapshot.h: an image is what the replica holds when PREPARE reads it through the
 * shipped store.  It outlives the process as the disk does: what no flush of the replica covers may
 * be gone with the process, and be gone or damaged after a loss of power.
 */
#ifndef SIM_SNAPSHOT_STORE_H
#define SIM_SNAPSHOT_STORE_H

#include "pool-agent/store/snapshot.h"

/* Of a block. */
#define IMAGE_DAMAGED INT64_C(-2) /* what was never there */
#define IMAGE_UNREADABLE                                                                           \
	INT64_C(-3) /* marked when it was PREPARED, or the disk does not give it                   \
		     */

struct node_agent;

/* The content by the numbers of writes (oracle.h). */
struct image {
	uint64_t number; /* 0: a free place */
	struct uuid id, replica;
	bool kept, durable;
	uint64_t made; /* in order of making */
	size_t block_count;
	int64_t *blocks; /* owned */
};

#define IMAGES_MAX 16

struct image_store {
	struct image images[IMAGES_MAX];
	uint64_t made;
	struct image making; /* by PREPARE */
	struct store_op *op; /* of PREPARE or RESOLVE, under way in this process */
	struct store_replica *source;
	size_t single_until; /* PREPARE: below it block by block, some of it cannot be read */
	uint64_t committed;  /* of RESOLVE */
	struct store_io io;
	struct iovec iov;
	uint8_t *buffer; /* owned */
	struct list reads;
};

extern const struct store_snapshot_ops image_store_ops; /* ctx: the node_agent */

void image_store_init(struct node_agent *node);
void image_store_done(struct node_agent *node);
/* The process is gone; with the power or without. */
void image_store_crash(struct node_agent *node, bool power_lost);
/* As if it had never been PREPARED there. */
void image_lose(struct node_agent *node, uint64_t number);
/* Its disk does not give this block of it any more. */
void image_spoil(struct node_agent *node, uint64_t number, size_t block);
/* NULL: it is not there. */
const struct image *image_find(const struct node_agent *node, uint64_t number);

#endif
