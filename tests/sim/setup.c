/* SPDX-License-Identifier: Apache-2.0 */
/* The pools with their replicas, and the nodes that may run the nexus. */
#include "pool-agent/store/ondisk.h"
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

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

	if ((int64_t)node->index != options->small_agent && options->small_agent != -2) {
		return options->pool_bytes;
	}
	return SMALL_POOL_BASE_BYTES + options->block_count * ORACLE_BLOCK_BYTES / 2;
}

static struct store_format_options pool_format(const struct world *world)
{
	return (struct store_format_options){
		.name = "pool",
		.cluster_bytes = (uint32_t)world->options.cluster_bytes,
		.region_bytes = world->options.region_bytes,
		.replica_slots =
			world->options.pool_slots != 0 ? (uint32_t)world->options.pool_slots : 8,
		.journal_blocks = (uint32_t)world->options.journal_blocks,
	};
}

void agent_layout(const struct node_agent *node, struct layout *ret_layout)
{
	struct store_format_options format = pool_format(node->world);
	uint64_t blocks = round_up_u64(pool_bytes(node), 65536) / STORE_BLOCK_BYTES;
	struct err err;
	int result = layout_make(blocks, &format, ret_layout, &err);

	assert(result == 0);
}

static void make_pool(struct node_agent *node)
{
	struct world *world = node->world;
	struct store_format_options format = pool_format(world);
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
	agent_layout(node, &node->layout);
	/* The first cluster is given out with the replica, for its stamps. */
	node->data_offset = node->layout.clusters * STORE_BLOCK_BYTES + node->layout.cluster_bytes;
	node->data_bytes = (node->layout.cluster_count - 1) * node->layout.cluster_bytes;
	sim_disk_set_torn_range(node->disk, 0, node->layout.clusters * STORE_BLOCK_BYTES);
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

/* Its clock has a rate of its own. */
static struct sim_host *make_host(struct world *world, const char *address)
{
	struct sim_host *host = sim_host_new(world->sim, address);
	int64_t most = (int64_t)world->options.clock_ppm;

	if (most != 0) {
		sim_host_set_clock_rate(host,
			(int64_t)rng_below(sim_rng(world->sim), 2 * (uint64_t)most + 1) - most);
	}
	return host;
}

static void setup_agent(struct world *world, unsigned index)
{
	struct node_agent *node = &world->agents[index];
	char address[IO_HOST_TEXT_SIZE];

	node->world = world;
	node->index = index;
	(void)snprintf(node->name, sizeof(node->name), "agent%u", index);
	(void)snprintf(address, sizeof(address), "10.0.0.%u", index + 1);
	node->host = make_host(world, address);
	image_store_init(node);
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
	if (world->options.local_agent >= 0 && index < world->options.voters) {
		uint64_t agent =
			((uint64_t)world->options.local_agent + index) % world->options.voters;

		slot->host = world->agents[agent].host;
	} else {
		slot->host = make_host(world, address);
	}
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
