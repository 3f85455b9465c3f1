/* SPDX-License-Identifier: Apache-2.0 */
/* Pool-agents: the shipped logic over a simulated disk; crash, loss of power, restart. */
#include "tests/sim/world.h"

#include <errno.h>
#include <string.h>

#define AGENT_PORT 4430

static void on_restart(struct sim_event *event)
{
	struct node_agent *node = container_of(event, struct node_agent, restart);

	if (node->state == AGENT_UP || node->state == AGENT_STARTING) {
		return;
	}
	if (node->process != NULL) {
		sim_process_crash(node->process);
		image_store_crash(node, false);
		node->process = NULL;
		node->state = AGENT_DOWN;
	}
	if (!sim_host_is_up(node->host)) {
		sim_host_power_on(node->host);
	}
	agent_start(node);
}

void agent_restart_after(struct node_agent *node, uint64_t delay_ns)
{
	uint64_t at_ns = max_u64(sim_now_ns(node->world->sim) + delay_ns, node->lost_until_ns);

	sim_at_ns(node->world->sim, &node->restart, at_ns, on_restart);
}

static void agent_serve(struct node_agent *node)
{
	struct world *world = node->world;
	struct agent_options options = {
		.uuid = node->uuid,
		.address = {.port = AGENT_PORT},
		.buffer_bytes = world->options.agent_buffers,
		.window_entries = (uint32_t)world->options.window_entries,
		.queues_max = 64,
		.restart_wait_ms = (uint32_t)world->options.restart_wait_ms,
		.cfg_version = node->older ? 0 : (uint32_t)world->options.version,
	};
	struct err err = {0};
	int result;

	memcpy(options.address.host, sim_host_address(node->host), sizeof(options.address.host));
	result = agent_new(sim_process_io(node->process), &options, &node->agent, &err);
	if (world->options.snapshots) {
		store_set_snapshots(node->store, &image_store_ops, node);
	}
	if (result == 0) {
		result = agent_add_store(node->agent, 0, node->store);
	}
	if (result == -ENOMEM && !world->healing) {
		node->state = AGENT_FAILED;
		agent_restart_after(node, 300 * IO_NS_PER_MS);
		return;
	}
	if (result != 0) {
		world_fail(world, &world->result->broken, "start", "%s does not start: %d %s",
			node->name, result, err.text);
		return;
	}
	node->replica = store_replica_find(node->store, &node->replica_id);
	if (node->making || node->removing) {
		/* A crash in between may leave the one or the other. */
		node->has_replica = node->replica != NULL;
		node->making = node->removing = false;
	}
	if (!node->has_replica || (node->replica == NULL && node->may_abstain)) {
		node->state = AGENT_UP;
		return;
	}
	if (node->replica == NULL) {
		world_fail(world, &world->result->broken, "store", "the replica of %s is gone",
			node->name);
		return;
	}
	if (store_replica_abstains(node->replica) && !node->may_abstain) {
		world_fail(world, &world->result->broken, "store", "the replica of %s abstains",
			node->name);
		return;
	}
	node->nsid = store_replica_slot(node->replica) + 1;
	node->cur_seen = (struct token){0};
	node->state = AGENT_UP;
}

static bool replica_abstains(const struct node_agent *node)
{
	const struct store_replica *replica = store_replica_find(node->store, &node->replica_id);

	return replica != NULL && store_replica_abstains(replica);
}

static void on_open(struct store_op *op)
{
	struct node_agent *node = op->ctx;
	struct world *world = node->world;

	if (op->result == 0 && node->disk_faulty && replica_abstains(node)) {
		node->state = AGENT_FAILED;
		agent_restart_after(node, 300 * IO_NS_PER_MS);
		return;
	}
	if (op->result == 0) {
		agent_serve(node);
		return;
	}
	sim_trace(world->sim, "%s: store_open: %d %s", node->name, op->result, op->err.text);
	node->state = AGENT_FAILED;
	/* What cannot be read is as good as damaged, while that lasts. */
	if (!node->disk_faulty && op->result != -EIO && op->result != -ENOMEM) {
		world_fail(world, &world->result->broken, "store",
			"the pool of %s does not open: %d %s", node->name, op->result,
			op->err.text);
		return;
	}
	agent_restart_after(node, 300 * IO_NS_PER_MS);
}

void agent_start(struct node_agent *node)
{
	assert(node->process == NULL);
	node->process = sim_process_new(node->host, node->name);
	node->starts++;
	node->handle = sim_disk_open(node->disk, node->process);
	node->state = AGENT_STARTING;
	node->store = NULL;
	node->agent = NULL;
	node->replica = NULL;
	node->op = (struct store_op){.done = on_open, .ctx = node};
	store_open(sim_process_io(node->process), node->handle, &node->store, &node->op);
}

void agent_crash(struct node_agent *node, uint64_t down_ns)
{
	if (node->process == NULL) {
		return;
	}
	sim_process_crash(node->process);
	image_store_crash(node, false);
	node->process = NULL;
	node->state = AGENT_DOWN;
	node->world->result->crashes++;
	agent_restart_after(node, down_ns);
}

static void on_stopped(void *ctx)
{
	struct node_agent *node = ctx;

	node->agent = NULL;
	agent_restart_after(node, node->stopped_ns);
}

void agent_stop(struct node_agent *node, uint64_t down_ns)
{
	if (node->state != AGENT_UP || node->making || node->removing) {
		return;
	}
	node->state = AGENT_CLOSING;
	node->stopped_ns = down_ns;
	agent_close(node->agent, on_stopped, node);
}

void agent_power_loss(struct node_agent *node, uint64_t down_ns)
{
	struct world *world = node->world;

	if (!sim_host_is_up(node->host)) {
		return;
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		if (world->slots[i].host == node->host) {
			/* Both share the host: the slot's part takes its power. */
			slot_power_loss(&world->slots[i], down_ns);
			return;
		}
	}
	agent_lose_power(node, down_ns);
	sim_host_power_loss(node->host);
}

void agent_lose_power(struct node_agent *node, uint64_t down_ns)
{
	image_store_crash(node, true);
	node->process = NULL;
	node->state = AGENT_DOWN;
	node->world->result->crashes++;
	node->world->result->power_losses++;
	agent_restart_after(node, down_ns);
}

/* ---- who has lost what ---- */

int world_agent_index(const struct world *world, const struct uuid *replica)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		const struct node_agent *node = &world->agents[i];

		if (node->has_replica && uuid_equal(&node->replica_id, replica)) {
			return (int)i;
		}
	}
	return -1;
}

bool agent_has_replica_now(const struct node_agent *node)
{
	return (node->state == AGENT_UP || (node->state == AGENT_CLOSING && node->agent != NULL)) &&
	       node->has_replica && !node->making && !node->removing && node->replica != NULL &&
	       node->nsid != 0;
}

void world_note_commit(struct world *world, const struct cfg *cfg, bool fresh, unsigned order)
{
	bool kept = false;

	if (recovery_overtook(world, order)) {
		return;
	}
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		struct node_agent *node = agent_of_replica(world, &cfg->voters[i].id);

		if (cfg->voters[i].insync && node != NULL) {
			kept = kept || node->cfg.gen == 0 ||
			       node->counted_power == sim_disk_power(node->disk);
		}
	}
	if (fresh && !kept) {
		sim_trace(world->sim, "opened by members that have lost their power");
		oracle_power_lost(&world->oracle, order);
	}
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		struct node_agent *node = agent_of_replica(world, &cfg->voters[i].id);

		if (cfg->voters[i].insync && node != NULL && cfg_compare(cfg, &node->cfg) > 0) {
			node->cfg = *cfg;
			node->counted_power = cfg->voters[i].power;
		}
	}
}
