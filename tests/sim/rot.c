/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of data that a disk does not give any more, on one pool-agent only: of each block there is
 * a good copy, unless that replica is the last member of S.
 */
#include "tests/sim/world.h"

#define ROT_BLOCKS_MAX 48

void rot_some(struct world *world)
{
	struct rng *rng = sim_rng(world->sim);
	struct node_agent *node;
	uint64_t blocks;

	if (world->options.rotten_agent < 0) {
		return;
	}
	node = &world->agents[world->options.rotten_agent];
	/* What is in use lies in front. */
	blocks = min_u64(2 * world->options.block_count,
		(sim_disk_size_bytes(node->disk) - node->data_offset) / ORACLE_BLOCK_BYTES - 1);
	for (uint64_t left = 1 + rng_below(rng, ROT_BLOCKS_MAX); left > 0; left--) {
		sim_disk_set_unreadable(node->disk,
			node->data_offset + rng_below(rng, blocks) * ORACLE_BLOCK_BYTES,
			ORACLE_BLOCK_BYTES, true);
	}
}

void rot_end(struct world *world)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];

		sim_disk_set_unreadable(node->disk, 0, sim_disk_size_bytes(node->disk), false);
	}
}
