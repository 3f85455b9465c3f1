/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many volumes of one nexus over the same three pool-agents, which lose one of them at once
 * (scenario 74).  Beside the world's own volume, which rests; each of them has an oracle and one
 * request after the other.
 */
#include "tests/sim/scenario.h"

#include <stdio.h>
#include <stdlib.h>

#define VOLUMES      48
#define BLOCKS       16
#define AGENTS       3
#define REBUILDS     2
#define OP_PAUSE_NS  (100 * IO_NS_PER_MS) /* between two requests of a volume, at most */
#define SILENCE_NS   (2 * IO_NS_PER_S)    /* then a member is given up */
#define MIB          (UINT64_C(1) << 20)
#define DISK_RATE    (8 * MIB) /* one operation after the other: 4 KiB in 0.5 ms */
#define REBUILD_RATE MIB

struct fleet;

struct member {
	struct fleet *fleet;
	struct volume *volume;
	struct uuid replicas[AGENTS];
	struct oracle oracle;
	unsigned incs; /* that it asked to save */
	uint64_t seq;  /* of the metadata of the one that loses its power, when it does */
	bool closed;

	/* The request. */
	struct blk_req req;
	struct iovec iov;
	uint8_t *buffer;
	size_t block;
	uint64_t number, issued, issued_ns;
	bool busy;
	struct sim_event next;
	uint64_t longest_ns; /* that one took */
	unsigned errors;
};

struct fleet {
	struct scenario *scenario;
	struct member members[VOLUMES];
	bool stopping;
	struct sim_event power_loss;
	bool lost_power;
};

/* ---- the volumes ---- */

static void on_created(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

static uint32_t create_replica(
	struct node_agent *node, const struct uuid *volume, const struct uuid *id, const char *name)
{
	struct store_replica_options options = {
		.volume = *volume,
		.replica = *id,
		.kind = VOTER_DATA,
		.size_bytes = BLOCKS * ORACLE_BLOCK_BYTES,
	};
	struct store_replica *replica = NULL;
	bool done = false;
	struct store_op op = {.done = on_created, .ctx = &done};

	(void)snprintf(options.name, sizeof(options.name), "%s", name);
	store_replica_create(node->store, &options, &replica, &op);
	assert_true(sim_run_until_flag(node->world->sim, &done, 60 * IO_NS_PER_S));
	assert_int_equal(op.result, 0);
	return agent_replica_added(node->agent, replica);
}

static void on_save_inc(struct volume *volume, uint32_t inc, void *ctx)
{
	(void)inc;
	((struct member *)ctx)->incs++;
	volume_inc_saved(volume);
}

static void member_open(struct member *member, unsigned index)
{
	struct world *world = &member->fleet->scenario->world;
	struct slot *slot = &world->slots[0];
	struct volume_options options = {
		.size_bytes = BLOCKS * ORACLE_BLOCK_BYTES,
		.lineage = rng_u64(sim_rng(world->sim)) | 1,
		.attach = 1,
		.voter_count = AGENTS,
		.save_inc = on_save_inc,
		.ctx = member,
	};
	struct err err;

	oracle_init(&member->oracle, BLOCKS);
	member->buffer = aligned_alloc(ORACLE_BLOCK_BYTES, ORACLE_BLOCK_BYTES);
	assert_non_null(member->buffer);
	(void)snprintf(options.name, sizeof(options.name), "fleet-%u", index);
	uuid_make(&options.uuid, sim_rng(world->sim));
	for (unsigned i = 0; i < AGENTS; i++) {
		struct volume_voter *voter = &options.voters[i];

		uuid_make(&member->replicas[i], sim_rng(world->sim));
		*voter = agent_place(&world->agents[i], slot);
		voter->replica = member->replicas[i];
		voter->nsid = create_replica(
			&world->agents[i], &options.uuid, &voter->replica, options.name);
	}
	assert_int_equal(volume_open(slot->nexus, &options, &member->volume, &err), 0);
}

static unsigned count_in_state(const struct fleet *fleet, enum volume_state state)
{
	unsigned count = 0;

	for (unsigned i = 0; i < VOLUMES; i++) {
		struct volume_status status;

		volume_get_status(fleet->members[i].volume, &status);
		count += status.state == state;
	}
	return count;
}

static void await_all(struct fleet *fleet, enum volume_state state)
{
	uint64_t end_ns = sim_now_ns(fleet->scenario->world.sim) + 60 * IO_NS_PER_S;

	while (count_in_state(fleet, state) < VOLUMES) {
		assert_true(sim_now_ns(fleet->scenario->world.sim) < end_ns);
		run_ms(fleet->scenario, 10);
	}
}

/* ---- the load ---- */

static void on_done(struct blk_req *req)
{
	struct member *member = req->ctx;
	uint64_t took_ns = sim_now_ns(member->fleet->scenario->world.sim) - member->issued_ns;
	unsigned order = 1;

	(void)oracle_tick(&member->oracle);
	member->longest_ns = took_ns > member->longest_ns ? took_ns : member->longest_ns;
	if (req->result != 0) {
		member->errors++;
	} else if (req->kind == BLK_WRITE) {
		assert_int_equal(oracle_write_acked(&member->oracle, member->block, member->number,
					 order, false),
			ORACLE_FINE);
	} else {
		assert_int_equal(oracle_read(&member->oracle, member->block, member->issued, order,
					 member->buffer),
			ORACLE_FINE);
	}
}

static void on_next(struct sim_event *event);

static void on_released(struct blk_req *req)
{
	struct member *member = req->ctx;
	struct sim *sim = member->fleet->scenario->world.sim;

	free(req->private_state);
	member->busy = false;
	if (!member->fleet->stopping) {
		sim_at_ns(sim, &member->next,
			sim_now_ns(sim) + rng_below(sim_rng(sim), OP_PAUSE_NS), on_next);
	}
}

static void member_submit(struct member *member, enum blk_kind kind, size_t block)
{
	struct blk_dev *dev = volume_blk(member->volume);

	member->busy = true;
	member->block = block;
	member->issued = oracle_tick(&member->oracle);
	member->issued_ns = sim_now_ns(member->fleet->scenario->world.sim);
	if (kind == BLK_WRITE) {
		member->number = oracle_write_issued(&member->oracle, block, 0, false, 1);
		oracle_fill(member->buffer, block, member->number);
	}
	member->iov = (struct iovec){member->buffer, ORACLE_BLOCK_BYTES};
	member->req = (struct blk_req){
		.kind = kind,
		.offset = block * ORACLE_BLOCK_BYTES,
		.length = ORACLE_BLOCK_BYTES,
		.iov = &member->iov,
		.iov_count = 1,
		.done = on_done,
		.released = on_released,
		.ctx = member,
		.private_state = calloc(1, dev->req_private_bytes),
	};
	assert_non_null(member->req.private_state);
	blk_submit(dev, &member->req);
}

static void on_next(struct sim_event *event)
{
	struct member *member = container_of(event, struct member, next);
	struct rng *rng = sim_rng(member->fleet->scenario->world.sim);

	member_submit(member, rng_percent(rng, 70) ? BLK_WRITE : BLK_READ, rng_below(rng, BLOCKS));
}

static bool is_quiet(void *ctx)
{
	const struct fleet *fleet = ctx;

	for (unsigned i = 0; i < VOLUMES; i++) {
		if (fleet->members[i].busy) {
			return false;
		}
	}
	return true;
}

static void await_quiet(struct fleet *fleet)
{
	assert_true(sim_run_until(fleet->scenario->world.sim, is_quiet, fleet, 60 * IO_NS_PER_S));
}

/* Every block of every volume: what follows overwrites. */
static void fleet_fill(struct fleet *fleet)
{
	fleet->stopping = true;
	for (size_t block = 0; block < BLOCKS; block++) {
		for (unsigned i = 0; i < VOLUMES; i++) {
			member_submit(&fleet->members[i], BLK_WRITE, block);
		}
		await_quiet(fleet);
	}
}

static void fleet_start(struct fleet *fleet)
{
	fleet->stopping = false;
	for (unsigned i = 0; i < VOLUMES; i++) {
		fleet->members[i].longest_ns = 0;
		on_next(&fleet->members[i].next);
	}
}

static void fleet_stop(struct fleet *fleet)
{
	fleet->stopping = true;
	for (unsigned i = 0; i < VOLUMES; i++) {
		sim_cancel(fleet->scenario->world.sim, &fleet->members[i].next);
	}
	await_quiet(fleet);
}

static struct fleet *fleet_new(struct scenario *scenario)
{
	struct fleet *fleet = calloc(1, sizeof(*fleet));

	assert_non_null(fleet);
	fleet->scenario = scenario;
	scenario_open(scenario, 0);
	await_whole(scenario);
	for (unsigned i = 0; i < VOLUMES; i++) {
		fleet->members[i].fleet = fleet;
		member_open(&fleet->members[i], i);
	}
	await_all(fleet, VOLUME_ONLINE);
	fleet_fill(fleet);
	for (unsigned i = 0; i < AGENTS; i++) {
		sim_disk_set_faults(scenario->world.agents[i].disk,
			&(struct sim_disk_faults){.bytes_per_s = DISK_RATE});
	}
	fleet_start(fleet);
	run_ms(scenario, 500);
	return fleet;
}

/* ---- the end ---- */

static void set_flag(struct volume_compare *compare)
{
	*(bool *)compare->ctx = true;
}

/* All replicas hold the same, which is what the oracle allows. */
static void member_check(struct member *member)
{
	uint8_t *bytes = aligned_alloc(ORACLE_BLOCK_BYTES, AGENTS * BLOCKS * ORACLE_BLOCK_BYTES);
	size_t length = BLOCKS * ORACLE_BLOCK_BYTES;
	bool done = false;
	struct volume_compare compare = {
		.length = (uint32_t)length, .done = set_flag, .ctx = &done};

	assert_non_null(bytes);
	for (unsigned i = 0; i < AGENTS; i++) {
		compare.buffers[i] = bytes + i * length;
	}
	volume_compare(member->volume, &compare);
	assert_true(
		sim_run_until_flag(member->fleet->scenario->world.sim, &done, 60 * IO_NS_PER_S));
	for (unsigned i = 0; i < AGENTS; i++) {
		assert_int_equal(compare.results[i], 0);
		assert_memory_equal(bytes + i * length, bytes, length);
	}
	for (size_t block = 0; block < BLOCKS; block++) {
		assert_int_equal(oracle_read(&member->oracle, block, oracle_tick(&member->oracle),
					 1, bytes + block * ORACLE_BLOCK_BYTES),
			ORACLE_FINE);
	}
	free(bytes);
}

static void on_closed(void *ctx)
{
	((struct member *)ctx)->closed = true;
}

static void fleet_end(struct fleet *fleet)
{
	struct sim *sim = fleet->scenario->world.sim;

	await_all(fleet, VOLUME_ONLINE);
	fleet_stop(fleet);
	for (unsigned i = 0; i < VOLUMES; i++) {
		struct member *member = &fleet->members[i];

		assert_int_equal(member->errors, 0);
		member_check(member);
		volume_close(member->volume, on_closed, member);
		assert_true(sim_run_until_flag(sim, &member->closed, 60 * IO_NS_PER_S));
		oracle_done(&member->oracle);
		free(member->buffer);
	}
	free(fleet);
}

/* ---- what happens ---- */

static uint64_t durable_operations(const struct scenario *scenario, unsigned agent)
{
	return sim_disk_durable_operations(scenario->world.agents[agent].disk);
}

/* Targets with copies under way, of all volumes. */
static unsigned count_copying(const struct fleet *fleet, unsigned agent, unsigned *ret_waiting)
{
	unsigned copying = 0;

	*ret_waiting = 0;
	for (unsigned i = 0; i < VOLUMES; i++) {
		const struct member *member = &fleet->members[i];
		const struct leg *leg = volume_leg_by_id(member->volume, &member->replicas[agent]);
		struct rebuild_status status;

		rebuilds_get(leg, &status);
		copying += leg->copies > 0;
		*ret_waiting += status.waits;
	}
	return copying;
}

/* It comes back; never do more copy to it than may. */
static void rebuild_all(struct fleet *fleet, unsigned agent)
{
	unsigned waiting = 0, most_waiting = 0;
	uint64_t end_ns;

	come_back(fleet->scenario, agent);
	end_ns = sim_now_ns(fleet->scenario->world.sim) + 120 * IO_NS_PER_S;
	while (count_in_state(fleet, VOLUME_ONLINE) < VOLUMES) {
		assert_true(sim_now_ns(fleet->scenario->world.sim) < end_ns);
		for (unsigned i = 0; i < 20; i++) {
			run_ms(fleet->scenario, 1);
			assert_true(count_copying(fleet, agent, &waiting) <= REBUILDS);
			most_waiting = waiting > most_waiting ? waiting : most_waiting;
		}
	}
	assert_true(most_waiting > VOLUMES / 2);
}

/* Each commits without it by its voters alone: nobody opens anew, nobody stands still for longer
 * than a member is waited for, and the configurations share what makes them durable. */
static void test_all_lose_one(struct scenario *scenario)
{
	struct fleet *fleet = fleet_new(scenario);
	uint64_t before[] = {durable_operations(scenario, A), durable_operations(scenario, B)};

	go_away(scenario, C);
	await_all(fleet, VOLUME_DEGRADED);
	run_ms(scenario, 3000);
	for (unsigned i = 0; i < ARRAY_COUNT(before); i++) {
		assert_true(durable_operations(scenario, i) - before[i] < VOLUMES / 2);
	}
	for (unsigned i = 0; i < VOLUMES; i++) {
		const struct member *member = &fleet->members[i];

		assert_int_equal(member->volume->cfg.epoch.inc, 1);
		assert_int_equal(member->incs, 1);
		assert_int_equal(cfg_insync_count(&member->volume->cfg), 2);
		assert_true(member->longest_ns < SILENCE_NS + IO_NS_PER_S / 2);
	}
	rebuild_all(fleet, C);
	fleet_end(fleet);
}

static const struct vmeta *vmeta_of(const struct member *member, unsigned agent)
{
	const struct node_agent *node = &member->fleet->scenario->world.agents[agent];
	const struct store_replica *replica =
		store_replica_find(node->store, &member->replicas[agent]);

	assert_non_null(replica);
	assert_false(store_replica_abstains(replica));
	return store_replica_vmeta(replica);
}

static void on_power_loss(struct sim_event *event)
{
	struct fleet *fleet = container_of(event, struct fleet, power_loss);

	for (unsigned i = 0; i < VOLUMES; i++) {
		fleet->members[i].seq = vmeta_of(&fleet->members[i], B)->seq;
	}
	lose_power(fleet->scenario, B, 500);
	fleet->lost_power = true;
}

static bool is_up_again(void *ctx)
{
	const struct fleet *fleet = ctx;

	return fleet->lost_power && fleet->scenario->world.agents[B].state == AGENT_UP;
}

/* Another one loses its power while they commit: each has there what was durable by its word, or
 * the version after that. */
static void test_second_loses_power_meanwhile(struct scenario *scenario)
{
	struct fleet *fleet = fleet_new(scenario);
	struct sim *sim = scenario->world.sim;

	go_away(scenario, C);
	sim_at_ns(sim, &fleet->power_loss,
		sim_now_ns(sim) + SILENCE_NS + rng_below(sim_rng(sim), 120 * IO_NS_PER_MS),
		on_power_loss);
	assert_true(sim_run_until(sim, is_up_again, fleet, 60 * IO_NS_PER_S));
	for (unsigned i = 0; i < VOLUMES; i++) {
		assert_true(vmeta_of(&fleet->members[i], B)->seq >= fleet->members[i].seq);
	}
	come_back(scenario, C);
	fleet_end(fleet);
}

#define FLEET                                                                                      \
	.block_count = 16, .pool_bytes = UINT64_C(24) << 20, .pool_slots = VOLUMES + 1,            \
	.rebuilds = REBUILDS, .rebuild_rate_max = REBUILD_RATE

int main(void)
{
	static const struct scenario_case cases[] = {
		{"test_all_lose_one", test_all_lose_one, {FLEET}},
		{"test_second_loses_power_meanwhile", test_second_loses_power_meanwhile, {FLEET}},
	};

	return scenario_run_all("fleet", cases, ARRAY_COUNT(cases));
}
