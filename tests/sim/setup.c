/* SPDX-License-Identifier: Apache-2.0 */
/* What the seed decides, and the pools with their replicas. */
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

void world_draw_options(struct world_options *options, uint64_t seed)
{
	struct rng rng;

	rng_init(&rng, seed ^ UINT64_C(0x5eed5eed));
	*options = (struct world_options){
		.seed = seed,
		.data_replicas = rng_percent(&rng, 75) ? 3 : 1 + (unsigned)rng_below(&rng, 2),
		.min_insync = rng_percent(&rng, 60) ? 0 : 1,
		.block_count = 64 + rng_below(&rng, 193),
		.cluster_bytes = 16384,
		.region_bytes = UINT64_C(16384) << rng_below(&rng, 3),
		.pool_bytes = UINT64_C(6) << 20,
		.small_agent = -1,
		.rotten_agent = -1,
		.local_agent = -1,
		.absent_agent = -1,
		.depth = 1 + (unsigned)rng_below(&rng, 12),
		.duration_ns = (8 + rng_below(&rng, 25)) * IO_NS_PER_S,
		.ops_target = 150 + (unsigned)rng_below(&rng, 250),
		.fault_count = 4 + (unsigned)rng_below(&rng, 10),
		.power_cycle_at_end = rng_percent(&rng, 25),
	};
	options->voters = options->data_replicas == 1 ? 1 : 3;
	if (rng_percent(&rng, 40)) {
		options->local_agent = (int)rng_below(&rng, options->voters);
	}
	if (options->data_replicas == 3 && rng_percent(&rng, 12)) {
		options->small_agent = (int)rng_below(&rng, 3);
	}
	if (options->voters == 3 && options->small_agent < 0 && rng_percent(&rng, 15)) {
		options->absent_agent = (int)rng_below(&rng, 3);
	}
	if (options->data_replicas > 1 && rng_percent(&rng, 40)) {
		options->rotten_agent = (int)rng_below(&rng, options->data_replicas);
	}
	if (rng_percent(&rng, 25)) {
		options->no_quorum_ns = (1 + rng_below(&rng, 5)) * IO_NS_PER_S;
	}
	/* Faults do not last as long as it takes in the real world. */
	options->slow_ns = (1 + rng_below(&rng, 3)) * IO_NS_PER_S;
	options->eject_away_ns = (1 + rng_below(&rng, 3)) * IO_NS_PER_S;
	options->voter_changes = rng_percent(&rng, 35);
	if (options->voter_changes) {
		options->spares = 1 + (unsigned)rng_below(&rng, AGENTS_MAX - options->voters);
		options->voters += options->spares;
		options->small_agent = -1;
		options->absent_agent = -1;
	}
	resizer_draw(options, &rng);
}

static void on_setup_op(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

static void setup_wait(struct node_agent *node, const char *what)
{
	struct world *world = node->world;

	if (!sim_run_until_flag(world->sim, &node->op_done, 60 * IO_NS_PER_S)) {
		world_fail(world, &world->result->stuck, "setup", "%s: %s does not end", node->name,
			what);
	} else if (node->op.result != 0) {
		world_fail(world, &world->result->broken, "setup", "%s: %s: %d %s", node->name,
			what, node->op.result, node->op.err.text);
	}
}

static struct store_op *setup_op(struct node_agent *node)
{
	node->op_done = false;
	node->op = (struct store_op){.done = on_setup_op, .ctx = &node->op_done};
	return &node->op;
}

/* The small one has room for about half of the volume. */
static uint64_t pool_bytes(const struct node_agent *node)
{
	const struct world_options *options = &node->world->options;

	if ((int)node->index != options->small_agent) {
		return options->pool_bytes;
	}
	return SMALL_POOL_BASE_BYTES + options->block_count * ORACLE_BLOCK_BYTES / 2;
}

static void make_pool(struct node_agent *node)
{
	struct world *world = node->world;
	struct store_format_options format = {
		.name = "pool",
		.cluster_bytes = world->options.cluster_bytes,
		.region_bytes = world->options.region_bytes,
		.replica_slots = 8,
		.journal_blocks = 32,
	};
	struct err err;
	struct store_replica_options replica = {
		.volume = world->volume_uuid,
		.replica = node->replica_id,
		.name = "sim",
		.kind = node->kind,
		.size_bytes = node->kind == VOTER_DATA
				      ? world->options.start_blocks * ORACLE_BLOCK_BYTES
				      : 0,
	};
	struct io *io;

	node->disk = sim_disk_new(node->host, node->name, round_up_u64(pool_bytes(node), 65536));
	/* The store's checksummed metadata in front may be torn within a block; data are not (4 KiB
	 * power-fail atomicity). */
	if (layout_make(round_up_u64(pool_bytes(node), 65536) / STORE_BLOCK_BYTES, &format,
		    &node->layout, &err) == 0) {
		/* The first cluster is given out with the replica, for its stamps. */
		node->data_offset =
			node->layout.clusters * STORE_BLOCK_BYTES + node->layout.cluster_bytes;
		node->data_bytes = (node->layout.cluster_count - 1) * node->layout.cluster_bytes;
		sim_disk_set_torn_range(node->disk, 0, node->layout.clusters * STORE_BLOCK_BYTES);
	}
	node->process = sim_process_new(node->host, node->name);
	io = sim_process_io(node->process);
	node->handle = sim_disk_open(node->disk, node->process);
	store_format(io, node->handle, &format, setup_op(node));
	setup_wait(node, "format");
	if (world->failed) {
		return;
	}
	store_open(io, node->handle, &node->store, setup_op(node));
	setup_wait(node, "open");
	if (world->failed) {
		return;
	}
	if (node->has_replica) {
		store_replica_create(node->store, &replica, &node->replica, setup_op(node));
		setup_wait(node, "create");
	}
	if (world->failed) {
		return;
	}
	store_close(node->store, setup_op(node));
	setup_wait(node, "close");
	if (world->failed) {
		return;
	}
	sim_disk_close(node->handle);
	sim_process_exit(node->process);
	node->process = NULL;
}

static bool all_agents_are_up(void *ctx)
{
	const struct world *world = ctx;

	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].state != AGENT_UP) {
			return world->failed;
		}
	}
	return true;
}

static void setup_agent(struct world *world, unsigned index)
{
	struct node_agent *node = &world->agents[index];
	char address[IO_HOST_TEXT_SIZE];

	node->world = world;
	node->index = index;
	(void)snprintf(node->name, sizeof(node->name), "agent%u", index);
	(void)snprintf(address, sizeof(address), "10.0.0.%u", index + 1);
	node->host = sim_host_new(world->sim, address);
	node->kind = index < world->options.data_replicas ? VOTER_DATA : VOTER_ARBITER;
	node->has_replica = index < world->options.voters - world->options.spares;
	uuid_make(&node->uuid, sim_rng(world->sim));
	uuid_make(&node->replica_id, sim_rng(world->sim));
	make_pool(node);
}

static void setup_slot(struct world *world, unsigned index)
{
	struct slot *slot = &world->slots[index];
	char address[IO_HOST_TEXT_SIZE];

	slot->world = world;
	slot->index = index;
	(void)snprintf(slot->name, sizeof(slot->name), "nexus%u", index);
	(void)snprintf(address, sizeof(address), "10.0.1.%u", index + 1);
	slot->host = index == 0 && world->options.local_agent >= 0
			     ? world->agents[world->options.local_agent].host
			     : sim_host_new(world->sim, address);
	uuid_make(&slot->host_uuid, sim_rng(world->sim));
	list_init(&slot->ops);
	list_init(&slot->resend);
}

void world_setup(struct world *world)
{
	uuid_make(&world->volume_uuid, sim_rng(world->sim));
	world->lineage = rng_u64(sim_rng(world->sim)) | 1;
	oracle_init(&world->oracle, world->options.block_count);
	for (unsigned i = 0; i < world->options.voters && !world->failed; i++) {
		setup_agent(world, i);
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		setup_slot(world, i);
	}
	for (unsigned i = 0; i < world->options.voters && !world->failed; i++) {
		agent_start(&world->agents[i]);
	}
	if (!world->failed &&
		!sim_run_until(world->sim, all_agents_are_up, world, 60 * IO_NS_PER_S)) {
		world_fail(world, &world->result->stuck, "setup", "the agents do not start");
	}
}
