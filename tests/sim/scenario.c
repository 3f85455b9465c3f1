/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/scenario.h"

#include "tests/sim/cluster.h"
#include "tests/sim/jobs.h"

#include <stdlib.h>
#include <string.h>

#define LONG_NS (60 * IO_NS_PER_S)

/* ---- running ---- */

void scenario_open(struct scenario *scenario, unsigned slot)
{
	scenario->writer = slot;
	slot_open(&scenario->world.slots[slot], scenario->world.attach_last + 1);
	assert_false(scenario->world.failed);
}

struct volume *scenario_volume(struct scenario *scenario)
{
	return scenario->world.slots[scenario->writer].volume;
}

struct leg *scenario_leg(struct scenario *scenario, unsigned agent)
{
	return volume_leg_by_id(
		scenario_volume(scenario), &scenario->world.agents[agent].replica_id);
}

void run_ms(struct scenario *scenario, unsigned ms)
{
	sim_run_for_ns(scenario->world.sim, ms * IO_NS_PER_MS);
}

void await(struct scenario *scenario, bool (*is_so)(void *scenario))
{
	assert_true(sim_run_until(scenario->world.sim, is_so, scenario, LONG_NS));
}

enum volume_state volume_state_now(struct scenario *scenario)
{
	struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	return status.state;
}

enum replica_state replica_state_now(struct scenario *scenario, unsigned agent)
{
	struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	for (unsigned i = 0; i < status.replica_count; i++) {
		if (uuid_equal(&status.replicas[i].replica,
			    &scenario->world.agents[agent].replica_id)) {
			return status.replicas[i].state;
		}
	}
	return REPLICA_UNKNOWN;
}

static bool is_whole_now(void *ctx)
{
	struct scenario *scenario = ctx;
	struct volume_status status;

	return slot_status(&scenario->world.slots[scenario->writer], &status) &&
	       status.state == VOLUME_ONLINE && status.resync_regions == 0;
}

void await_whole(struct scenario *scenario)
{
	await(scenario, is_whole_now);
}

void await_state(struct scenario *scenario, enum volume_state state)
{
	uint64_t end_ns = sim_now_ns(scenario->world.sim) + LONG_NS;

	while (volume_state_now(scenario) != state) {
		assert_true(sim_now_ns(scenario->world.sim) < end_ns);
		(void)sim_step(scenario->world.sim);
	}
}

void await_replica(struct scenario *scenario, unsigned agent, enum replica_state state)
{
	uint64_t end_ns = sim_now_ns(scenario->world.sim) + LONG_NS;

	while (replica_state_now(scenario, agent) != state) {
		assert_true(sim_now_ns(scenario->world.sim) < end_ns);
		(void)sim_step(scenario->world.sim);
	}
}

uint64_t steps_of_a_second(struct scenario *scenario)
{
	uint64_t before = sim_steps(scenario->world.sim);

	run_ms(scenario, 1000);
	return sim_steps(scenario->world.sim) - before;
}

/* ---- requests ---- */

static void on_answer(struct op *op)
{
	struct scenario *scenario = container_of(op->slot->world, struct scenario, world);
	const struct volume *volume = op->slot->volume;

	for (unsigned i = 0; i < scenario->request_count; i++) {
		struct scenario_request *request = &scenario->requests[i];

		if (request->op == op) {
			request->op = NULL;
			request->done = true;
			request->result = op->req.result;
			request->usable = volume == NULL ? 0 /* it is being closed */
							 : mask_count(volume->member_mask &
								      ~volume_out_mask(volume));
		}
	}
}

struct scenario_request *submit(
	struct scenario *scenario, enum blk_kind kind, size_t first, size_t count)
{
	struct scenario_request *request;

	assert_true(scenario->request_count < SCENARIO_REQUESTS);
	request = &scenario->requests[scenario->request_count++];
	*request = (struct scenario_request){0}; /* a test may have begun anew */
	request->op = slot_submit(
		&scenario->world.slots[scenario->writer], kind, first, count, on_answer);
	return request;
}

struct scenario_request *submit_write(struct scenario *scenario, size_t first, size_t count)
{
	struct scenario_request *request = submit(scenario, BLK_WRITE, first, count);

	request->op->req.fua = false;
	return request;
}

int answer_of(struct scenario *scenario, const struct scenario_request *request)
{
	assert_true(sim_run_until_flag(scenario->world.sim, &request->done, LONG_NS));
	return request->result;
}

int do_write(struct scenario *scenario, size_t first, size_t count)
{
	return answer_of(scenario, submit_write(scenario, first, count));
}

int do_read(struct scenario *scenario, size_t first, size_t count)
{
	return answer_of(scenario, submit(scenario, BLK_READ, first, count));
}

int do_flush(struct scenario *scenario)
{
	return answer_of(scenario, submit(scenario, BLK_FLUSH, 0, 0));
}

void write_all(struct scenario *scenario)
{
	for (size_t at = 0; at < scenario->world.options.block_count; at += OP_BLOCKS_MAX) {
		assert_int_equal(do_write(scenario, at, OP_BLOCKS_MAX), 0);
	}
}

/* ---- what happens to the nodes ---- */

void go_away(struct scenario *scenario, unsigned agent)
{
	struct node_agent *node = &scenario->world.agents[agent];

	agent_crash(node, 0);
	sim_cancel(scenario->world.sim, &node->restart);
}

static bool agents_are_back(void *ctx)
{
	const struct scenario *scenario = ctx;

	for (unsigned i = 0; i < scenario->world.options.voters; i++) {
		if (scenario->world.agents[i].state == AGENT_STARTING) {
			return false;
		}
	}
	return true;
}

void come_back(struct scenario *scenario, unsigned agent)
{
	agent_start(&scenario->world.agents[agent]);
	await(scenario, agents_are_back);
}

void lose_power(struct scenario *scenario, unsigned agent, unsigned down_ms)
{
	agent_power_loss(&scenario->world.agents[agent], down_ms * IO_NS_PER_MS);
}

static void set_faults(
	struct scenario *scenario, unsigned agent, const struct sim_disk_faults *faults)
{
	sim_disk_set_faults(scenario->world.agents[agent].disk, faults);
}

void disk_stuck(struct scenario *scenario, unsigned agent, bool stuck)
{
	set_faults(scenario, agent, &(struct sim_disk_faults){.stuck = stuck});
}

void disk_fails_next(struct scenario *scenario, unsigned agent)
{
	set_faults(scenario, agent, &(struct sim_disk_faults){.fail_nth = 1});
}

void disk_slow(struct scenario *scenario, unsigned agent, unsigned max_ms)
{
	set_faults(scenario, agent,
		&(struct sim_disk_faults){
			.slow_percent = 100, .slow_max_ns = max_ms * IO_NS_PER_MS});
}

void disk_sound(struct scenario *scenario, unsigned agent)
{
	set_faults(scenario, agent, &(struct sim_disk_faults){0});
}

static bool is_value_of(const struct scenario *scenario, const uint8_t *data, size_t block)
{
	const struct oracle_block *values = &scenario->world.oracle.blocks[block];
	uint8_t expected[ORACLE_BLOCK_BYTES];

	for (size_t i = 0; i < values->count; i++) {
		oracle_fill(expected, block, values->values[i].number);
		if (memcmp(expected, data, ORACLE_BLOCK_BYTES) == 0) {
			return true;
		}
	}
	return false;
}

uint64_t disk_place(struct scenario *scenario, unsigned agent, size_t block)
{
	struct node_agent *node = &scenario->world.agents[agent];
	uint8_t data[ORACLE_BLOCK_BYTES];

	for (uint64_t at = node->data_offset; at < node->data_offset + node->data_bytes;
		at += ORACLE_BLOCK_BYTES) {
		sim_disk_peek(node->disk, at, data, sizeof(data));
		if (is_value_of(scenario, data, block)) {
			return at;
		}
	}
	fail_msg("agent %u does not hold block %zu", agent, block);
	return 0;
}

void cut_off(struct scenario *scenario, unsigned agent, bool to_agent, bool from_agent)
{
	struct sim_host *nexus = scenario->world.slots[scenario->writer].host;
	struct sim_host *host = scenario->world.agents[agent].host;

	sim_partition(nexus, host, to_agent);
	sim_partition(host, nexus, from_agent);
}

void freeze(struct scenario *scenario, unsigned agent, unsigned ms)
{
	sim_process_freeze(scenario->world.agents[agent].process, ms * IO_NS_PER_MS);
}

void nexus_crash(struct scenario *scenario, bool resend)
{
	struct slot *slot = &scenario->world.slots[scenario->writer];

	slot_crash(slot, resend);
	slot_open(slot, slot->attach);
}

/* ---- a case ---- */

static struct world_options options_of(const struct scenario_case *test, uint64_t seed)
{
	struct world_options options = test->options;

	options.seed = seed;
	options.data_replicas = options.data_replicas == 0 ? 3 : options.data_replicas;
	options.voters = (options.data_replicas | 1) + options.spares;
	options.block_count = options.block_count == 0 ? 128 : options.block_count;
	options.start_blocks =
		options.start_blocks == 0 ? options.block_count : options.start_blocks;
	options.cluster_bytes = 16384;
	options.journal_blocks = options.journal_blocks == 0 ? 32 : options.journal_blocks;
	options.agent_buffers = UINT64_C(2) << 20;
	options.nexus_buffers = UINT64_C(1) << 20;
	options.ops_max = UINT64_MAX;
	options.region_bytes = options.region_bytes == 0 ? 16384 : options.region_bytes;
	options.pool_bytes = options.pool_bytes == 0 ? UINT64_C(6) << 20 : options.pool_bytes;
	options.small_agent = options.small_agent == 0 ? -1 : options.small_agent - 1;
	options.local_agent = options.absent_agent = -1;
	options.rotten_agent = options.rotten_too = -1;
	cluster_adapt_options(&options);
	return options;
}

/* What an operator would do, so that the rest can heal by itself. */
static void look_after(struct scenario *scenario)
{
	struct world *world = &scenario->world;
	struct slot *active = &world->slots[world->active];
	struct volume_status status;

	if (world->cluster != NULL) {
		return;
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];
		struct store_info info;

		if (node->state == AGENT_UP) {
			store_get_info(node->store, &info);
			if (info.failed) {
				agent_crash(node, 0);
			}
		}
	}
	if (slot_status(active, &status) && status.state == VOLUME_FAULTED) {
		slot_renew(active);
	}
}

static void run_with_seed(const struct scenario_case *test, uint64_t seed)
{
	const char *trace = getenv("SCENARIO_TRACE");
	struct scenario *scenario = calloc(1, sizeof(*scenario));
	struct world *world = &scenario->world;

	assert_non_null(scenario);
	world->result = &scenario->result;
	world->options = options_of(test, seed);
	world->sim = world_sim_new(world, trace != NULL ? stderr : NULL, false);
	world_setup(world);
	assert_false(world->failed);
	test->run(scenario);
	look_after(scenario);
	world_finish(world);
	if (world->failed) {
		fail_msg("seed %lu: %s: %s", (unsigned long)seed, scenario->result.oracle,
			scenario->result.reason);
	}
	sim_free(world->sim);
	world_drop(world);
	free(scenario);
}

static void run_case(void **state)
{
	const struct scenario_case *test = *state;

	for (uint64_t seed = 1; seed <= SCENARIO_SEEDS; seed++) {
		run_with_seed(test, seed);
	}
}

/* tests/sim/run --mutants: those that random worlds do not meet. */
static void take_mutant(void)
{
#ifdef STRAKE_MUTANTS
	const char *name = getenv("SCENARIO_MUTANT");

	for (unsigned i = 0; name != NULL && i < MUTANT_COUNT; i++) {
		if (strcmp(mutant_name((enum mutant)i), name) == 0) {
			mutant_active = (enum mutant)i;
		}
	}
#endif
}

int scenario_run_all(const char *group, const struct scenario_case *cases, size_t count)
{
	struct CMUnitTest *tests = calloc(count, sizeof(*tests));
	int result;

	assert(tests != NULL);
	take_mutant();
	for (size_t i = 0; i < count; i++) {
		tests[i].name = cases[i].name;
		tests[i].test_func = run_case;
		tests[i].initial_state = (void *)(uintptr_t)&cases[i];
	}
	cmocka_set_test_filter(getenv("SCENARIO"));
	result = _cmocka_run_group_tests(group, tests, count, NULL, NULL);
	free(tests);
	return result;
}
