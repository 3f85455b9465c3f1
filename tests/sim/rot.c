/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of data that go bad, on one pool-agent only: of each block there is a good copy, unless
 * that replica is the last member of S.  Its disk knows what it was told: a block that is not
 * given, was flipped, torn by a loss of power, or written elsewhere is an error when it is read, as
 * it would be for a store with checksums of data.  (The store's present format has none.)  Only the
 * first replica of a pool has its stamps at a known place, which is spared: of those both copies
 * would go.
 *
 * Or on two pool-agents, which may lose the same block of the volume: then it may be unreadable
 * until it is written, and nothing else.
 */
#include "tests/sim/where.h"
#include "tests/sim/world.h"

#define ROT_BLOCKS_MAX 8
#define ROT_PAUSE_NS   (600 * IO_NS_PER_MS)
#define HOT_BLOCKS     32

static void lose_block(struct world *world, int64_t agent, size_t block)
{
	struct node_agent *node = &world->agents[agent];
	uint64_t offset;

	if (node->state != AGENT_UP || node->replica == NULL) {
		return;
	}
	offset = where_is(node->replica, block);
	if (offset != UINT64_MAX) {
		world->oracle.blocks[block].may_be_lost = true;
		sim_disk_set_unreadable(node->disk, offset, ORACLE_BLOCK_BYTES, true);
	}
}

static void on_rot_of_two(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, rot);
	struct rng *rng = sim_rng(world->sim);
	uint64_t blocks = world->options.block_count;

	for (uint64_t left = 1 + rng_below(rng, ROT_BLOCKS_MAX); left > 0; left--) {
		size_t block =
			rng_below(rng, rng_percent(rng, 50) ? min_u64(blocks, HOT_BLOCKS) : blocks);
		unsigned who = (unsigned)rng_below(rng, 4);

		if (who != 0) {
			lose_block(world, world->options.rotten_agent, block);
		}
		if (who != 1) {
			lose_block(world, world->options.rotten_too, block);
		}
	}
	sim_at_ns(world->sim, event, sim_now_ns(world->sim) + rng_below(rng, ROT_PAUSE_NS),
		on_rot_of_two);
}

static uint64_t draw_block(const struct node_agent *node, struct rng *rng)
{
	const struct world *world = node->world;
	/* What is in use lies in front, and there what is written most. */
	uint64_t blocks =
		min_u64(2 * world->options.block_count, node->data_bytes / ORACLE_BLOCK_BYTES);
	uint64_t hot = min_u64(blocks, HOT_BLOCKS);
	uint64_t half = node->layout.cluster_bytes / ORACLE_BLOCK_BYTES / 2;
	uint64_t block = rng_below(rng, rng_percent(rng, 50) ? hot : blocks);

	/* A cluster may hold stamps, of a replica that was made anew, or grew: a page has its
	 * places in both halves, and one of them is good. */
	block -= block / half % 2 * half;
	return node->data_offset + block * ORACLE_BLOCK_BYTES;
}

static void rot_one(struct node_agent *node, struct rng *rng)
{
	uint64_t offset = draw_block(node, rng);

	if (rng_percent(rng, 50)) {
		sim_disk_set_unreadable(node->disk, offset, ORACLE_BLOCK_BYTES, true);
	} else {
		sim_disk_flip_bit(node->disk, offset + rng_below(rng, ORACLE_BLOCK_BYTES),
			(unsigned)rng_below(rng, 8));
	}
}

static void on_rot(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, rot);
	struct node_agent *node = &world->agents[world->options.rotten_agent];
	struct rng *rng = sim_rng(world->sim);

	if (node->remade || node->removing) {
		return;
	}
	for (uint64_t left = 1 + rng_below(rng, ROT_BLOCKS_MAX); left > 0; left--) {
		rot_one(node, rng);
	}
	if (rng_percent(rng, 40)) {
		sim_disk_misdirect(node->disk, draw_block(node, rng), ORACLE_BLOCK_BYTES,
			draw_block(node, rng));
	}
	sim_at_ns(world->sim, event, sim_now_ns(world->sim) + rng_below(rng, ROT_PAUSE_NS), on_rot);
}

void rot_start(struct world *world)
{
	if (world->options.rotten_agent >= 0) {
		struct sim_disk *disk = world->agents[world->options.rotten_agent].disk;

		if (world->options.rotten_too < 0) {
			sim_disk_set_checks(disk, true);
			sim_disk_set_torn_range(disk, 0, sim_disk_size_bytes(disk));
		}
		sim_at_ns(world->sim, &world->rot, sim_now_ns(world->sim),
			world->options.rotten_too >= 0 ? on_rot_of_two : on_rot);
	}
}

void rot_end(struct world *world)
{
	sim_cancel(world->sim, &world->rot);
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct sim_disk *disk = world->agents[i].disk;

		sim_disk_set_unreadable(disk, 0, sim_disk_size_bytes(disk), false);
	}
	if (world->options.rotten_agent >= 0) {
		struct node_agent *node = &world->agents[world->options.rotten_agent];

		sim_disk_mend(node->disk);
		sim_disk_set_checks(node->disk, false);
		sim_disk_set_torn_range(node->disk, 0, node->layout.clusters * STORE_BLOCK_BYTES);
	}
}
