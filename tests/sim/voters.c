/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one who adds and removes replicas, as a controller would: it asks again and again for what
 * should be, on the node that has the volume now.  Beside it, what each node, and the API, know of
 * the places of the voters: a file that follows the committed configurations, and a copy that comes
 * late.
 */
#include "tests/sim/world.h"

#include <string.h>

#define AGENT_PORT    4430
#define API_DELAY_NS  (3 * IO_NS_PER_S)
#define FILE_DELAY_NS (5 * IO_NS_PER_MS)

static void on_operator(struct sim_event *event);

/* ---- places ---- */

struct volume_voter agent_place(const struct node_agent *node, const struct slot *slot)
{
	struct volume_voter voter = {
		.replica = node->replica_id,
		.kind = node->kind,
		.agent = node->uuid,
		.nsid = node->nsid,
		.local = node->host == slot->host,
		.address = {.port = AGENT_PORT},
	};

	memcpy(voter.address.host, sim_host_address(node->host), sizeof(voter.address.host));
	return voter;
}

struct node_agent *agent_of_replica(struct world *world, const struct uuid *replica)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];

		if (node->has_replica && uuid_equal(&node->replica_id, replica)) {
			return node;
		}
	}
	return NULL;
}

void places_init(struct places *places, struct slot *slot)
{
	const struct world *world = slot->world;

	places->size_bytes = world->options.start_blocks * ORACLE_BLOCK_BYTES;
	for (unsigned i = 0; i < world->options.voters - world->options.spares; i++) {
		places->voters[places->count++] = agent_place(&world->agents[i], slot);
	}
}

void places_take(struct places *places, const struct places *from, const struct slot *slot)
{
	*places = *from;
	for (unsigned i = 0; i < places->count; i++) {
		places->voters[i].local =
			strcmp(places->voters[i].address.host, sim_host_address(slot->host)) == 0;
	}
}

void places_add(struct places *places, const struct volume_voter *voter)
{
	for (unsigned i = 0; i < places->count; i++) {
		if (uuid_equal(&places->voters[i].replica, &voter->replica)) {
			return;
		}
	}
	if (places->count < REPL_VOTERS_MAX) {
		places->voters[places->count++] = *voter;
	}
}

/* Without those that are no voters, and are not about to be. */
static void places_prune(struct places *places, const struct volume_status *status)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < places->count; i++) {
		const struct volume_voter *voter = &places->voters[i];

		if (cfg_find(&status->cfg, &voter->replica) >= 0 ||
			uuid_equal(&status->adding, &voter->replica)) {
			places->voters[kept++] = *voter;
		}
	}
	places->count = kept;
	places->cfg = status->cfg;
	places->size_bytes = status->size_bytes;
}

static void on_api_saved(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, api_saved);

	if (cfg_compare(&world->api_next.cfg, &world->api.cfg) > 0) {
		world->api = world->api_next;
	}
}

bool places_follow_now(struct slot *slot)
{
	struct volume_status status;

	if (!slot_status(slot, &status) || status.cfg.gen == 0) {
		return false; /* it is closed, or being opened anew */
	}
	places_prune(&slot->file, &status);
	return true;
}

static void on_file_saved(struct sim_event *event)
{
	struct slot *slot = container_of(event, struct slot, file_saved);
	struct world *world = slot->world;

	if (places_follow_now(slot) && world->cluster == NULL &&
		cfg_compare(&slot->file.cfg, &world->api_next.cfg) > 0) {
		world->api_next = slot->file;
		if (world->api_saved.index == 0) {
			sim_at_ns(world->sim, &world->api_saved,
				sim_now_ns(world->sim) +
					rng_below(sim_rng(world->sim), API_DELAY_NS),
				on_api_saved);
		}
	}
}

void places_follow(struct slot *slot)
{
	struct world *world = slot->world;

	if (slot->file_saved.index == 0) {
		sim_at_ns(world->sim, &slot->file_saved,
			sim_now_ns(world->sim) + rng_below(sim_rng(world->sim), FILE_DELAY_NS),
			on_file_saved);
	}
}

/* ---- replicas come and go ---- */

static void on_made(struct store_op *op)
{
	struct node_agent *node = op->ctx;

	node->making = false;
	node->made_result = op->result;
	if (op->result != 0) {
		sim_trace(node->world->sim, "%s: no replica: %d %s", node->name, op->result,
			op->err.text);
		return;
	}
	node->has_replica = true;
	node->nsid = agent_replica_added(node->agent, node->replica);
	if (node->nsid == 0) {
		agent_crash(node, 0); /* out of memory: it is served after a restart */
	}
}

static bool can_make(const struct node_agent *node)
{
	return node->state == AGENT_UP && !node->has_replica && !node->making && !node->removing;
}

bool agent_make_replica(struct node_agent *node, enum voter_kind kind)
{
	struct world *world = node->world;
	struct store_replica_options options = {
		.volume = world->volume_uuid,
		.name = "sim",
		.kind = kind,
		.size_bytes =
			kind == VOTER_DATA ? world->options.start_blocks * ORACLE_BLOCK_BYTES : 0,
	};

	if (!can_make(node)) {
		return false;
	}
	uuid_make(&options.replica, sim_rng(world->sim));
	return agent_make_named_replica(node, &options);
}

bool agent_make_named_replica(struct node_agent *node, const struct store_replica_options *options)
{
	if (!can_make(node)) {
		return false;
	}
	node->replica_id = options->replica;
	node->kind = options->kind;
	/* It was never counted in, and has nothing to lose before. */
	node->cfg = (struct cfg){.gen = 1};
	node->counted_power = sim_disk_power(node->disk);
	node->may_abstain = false;
	node->seen = (struct vmeta){0};
	node->cur_seen = (struct token){0};
	node->remade = true;
	sim_disk_set_unreadable(node->disk, 0, sim_disk_size_bytes(node->disk), false);
	node->making = true;
	node->op = (struct store_op){.done = on_made, .ctx = node};
	store_replica_create(node->store, options, &node->replica, &node->op);
	return true;
}

static void on_deleted(struct store_op *op)
{
	struct node_agent *node = op->ctx;

	if (op->result != 0) {
		agent_crash(node, 0); /* the next start tells whether it is gone */
		return;
	}
	node->has_replica = node->removing = false;
	node->replica = NULL;
}

static void on_namespace_gone(void *ctx)
{
	struct node_agent *node = ctx;

	node->op = (struct store_op){.done = on_deleted, .ctx = node};
	store_replica_delete(node->replica, &node->op);
}

void agent_remove_replica(struct node_agent *node)
{
	sim_trace(node->world->sim, "%s: its replica is deleted", node->name);
	node->removing = true;
	agent_replica_remove(node->agent, node->replica, on_namespace_gone, node);
}

/* ---- the operator ---- */

/* Once the API shows a configuration without it, nobody will ask it any more (1.7). */
static void operator_clean_up(struct world *world)
{
	const struct cfg *last = chain_last(world);

	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];

		if (node->has_replica && node->state == AGENT_UP && !node->removing &&
			node != world->adding && node != world->leaving && last != NULL &&
			world->api.cfg.gen != 0 &&
			cfg_find(&world->api.cfg, &node->replica_id) < 0 &&
			cfg_find(last, &node->replica_id) < 0 &&
			(!recovery_left_behind(node) || rng_percent(sim_rng(world->sim), 4))) {
			agent_remove_replica(node);
		}
	}
}

static struct node_agent *draw_left_behind(struct world *world)
{
	struct node_agent *node =
		&world->agents[rng_below(sim_rng(world->sim), world->options.voters)];

	return node->kind == VOTER_DATA && agent_has_replica_now(node) && recovery_left_behind(node)
		       ? node
		       : NULL;
}

static struct node_agent *draw_free_agent(struct world *world)
{
	uint64_t from = rng_below(sim_rng(world->sim), world->options.voters);

	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[(from + i) % world->options.voters];

		if (node->state == AGENT_UP && !node->has_replica && !node->making) {
			return node;
		}
	}
	return NULL;
}

/* A voter that can be spared for good; NULL: none. */
static struct node_agent *draw_leaver(struct world *world, const struct cfg *cfg)
{
	const struct cfg_voter *voter =
		&cfg->voters[rng_below(sim_rng(world->sim), cfg->voter_count)];
	unsigned data = 0;

	for (unsigned i = 0; i < cfg->voter_count; i++) {
		data += cfg->voters[i].kind == VOTER_DATA;
	}
	return cfg->voter_count > 1 && (voter->kind == VOTER_ARBITER || data > 1)
		       ? agent_of_replica(world, &voter->id)
		       : NULL;
}

static void operator_decide(struct world *world, const struct cfg *cfg)
{
	struct rng *rng = sim_rng(world->sim);
	bool replace = rng_percent(rng, 50);
	bool add = replace || cfg->voter_count < 3 || rng_percent(rng, 50);

	if (add) {
		world->adding = draw_free_agent(world);
	}
	if (world->recovery.done && rng_percent(rng, 30)) {
		/* Not told that what is there is of before the recovery. */
		world->adding = draw_left_behind(world);
		if (world->adding != NULL) {
			sim_trace(world->sim, "operator: add %s as it is", world->adding->name);
			return;
		}
	}
	if (world->adding != NULL) {
		world->adding->kind = rng_percent(rng, 25) ? VOTER_ARBITER : VOTER_DATA;
	}
	if (replace ? world->adding != NULL && world->adding->kind == VOTER_DATA : !add) {
		world->leaving = draw_leaver(world, cfg);
	}
	world->in_a_hurry = rng_percent(rng, 30);
	if (world->adding != NULL || world->leaving != NULL) {
		sim_trace(world->sim, "operator: add %s%s, remove %s%s",
			world->adding != NULL ? world->adding->name : "nobody",
			world->adding != NULL && world->adding->kind == VOTER_ARBITER ? " (arbiter)"
										      : "",
			world->leaving != NULL ? world->leaving->name : "nobody",
			world->in_a_hurry ? ", in a hurry" : "");
	}
}

static void operator_add(struct slot *slot, const struct volume_status *status)
{
	struct world *world = slot->world;
	struct node_agent *node = world->adding;
	int at = cfg_find(&status->cfg, &node->replica_id);
	struct volume_voter place;
	struct err err = {0};

	if (!node->has_replica) {
		(void)agent_make_replica(node, node->kind);
		return;
	}
	if (node->nsid == 0 || slot->file.cfg.gen == 0) {
		return;
	}
	if ((world->healing && recovery_left_behind(node)) ||
		(!world->healing && rng_percent(sim_rng(world->sim), 4))) {
		/* A change of mind: it is asked away until it is no voter. */
		sim_trace(world->sim, "operator: %s is not wanted any more", node->name);
		world->leaving = node;
		world->adding = NULL;
		return;
	}
	if (status->cfg.gen != 0 && at >= 0 &&
		(node->kind == VOTER_ARBITER || world->leaving == NULL || world->in_a_hurry ||
			status->cfg.voters[at].insync)) {
		world->adding = NULL;
		return;
	}
	/* Its place is in the file before it can be in a configuration. */
	place = agent_place(node, slot);
	places_add(&slot->file, &place);
	if (volume_add_voter(slot->volume, &place, &err) != 0) {
		sim_trace(world->sim, "operator: %s", err.text);
	}
}

static void operator_remove(struct slot *slot, const struct volume_status *status)
{
	struct world *world = slot->world;
	struct err err = {0};

	if (status->cfg.gen != 0 && cfg_find(&status->cfg, &world->leaving->replica_id) < 0 &&
		!uuid_equal(&status->adding, &world->leaving->replica_id)) {
		world->leaving = NULL;
	} else if (volume_remove_voter(slot->volume, &world->leaving->replica_id, &err) != 0) {
		sim_trace(world->sim, "operator: %s", err.text);
	}
}

static void operator_tell_places(struct slot *slot, const struct volume_status *status)
{
	for (unsigned i = 0; i < status->replica_count; i++) {
		const struct volume_replica_status *replica = &status->replicas[i];
		const struct node_agent *node = agent_of_replica(slot->world, &replica->replica);
		struct err err = {0};

		if (uuid_is_nil(&replica->agent) && node != NULL && node->nsid != 0) {
			struct volume_voter place = agent_place(node, slot);

			places_add(&slot->file, &place);
			if (volume_add_voter(slot->volume, &place, &err) != 0) {
				sim_trace(slot->world->sim, "operator: %s", err.text);
			}
		}
	}
}

static void on_operator(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, operator_event);
	struct slot *slot = &world->slots[world->active];
	struct rng *rng = sim_rng(world->sim);
	struct volume_status status;

	if (!world->healing && !recovery_is_under_way(world)) {
		operator_clean_up(world);
	}
	if (!recovery_is_under_way(world) && slot_status(slot, &status)) {
		operator_tell_places(slot, &status);
		if (world->adding == NULL && world->leaving == NULL && !world->healing &&
			status.cfg.gen != 0 && rng_percent(rng, 40)) {
			operator_decide(world, &status.cfg);
		} else if (world->adding != NULL) {
			operator_add(slot, &status);
		} else if (world->leaving != NULL) {
			operator_remove(slot, &status);
		}
	}
	sim_at_ns(world->sim, event,
		sim_now_ns(world->sim) + (20 + rng_below(rng, 400)) * IO_NS_PER_MS, on_operator);
}

void operator_start(struct world *world)
{
	if (world->options.voter_changes) {
		sim_at_ns(world->sim, &world->operator_event, sim_now_ns(world->sim) + IO_NS_PER_S,
			on_operator);
	}
}

void operator_stop(struct world *world)
{
	sim_cancel(world->sim, &world->operator_event);
	sim_cancel(world->sim, &world->api_saved);
}

bool operator_is_done(const struct world *world)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].making || world->agents[i].removing) {
			return false;
		}
	}
	return world->adding == NULL && world->leaving == NULL;
}
