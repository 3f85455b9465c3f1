/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of different versions: what is newer than they are they leave as it is. */
#include "tests/sim/scenario.h"

#include <stdlib.h>
#include <string.h>

#define NEWER (CFG_VERSION + 1)

static void open_whole(struct scenario *scenario)
{
	scenario_open(scenario, 0);
	await_whole(scenario);
}

/* Its process is another program from now on. */
static void run_older(struct scenario *scenario, unsigned agent, bool older)
{
	go_away(scenario, agent);
	scenario->world.agents[agent].older = older;
	come_back(scenario, agent);
}

#define PAIRS_BYTES ((size_t)2 * STORE_BLOCK_BYTES)

/* Both pairs of its metadata, near and far; to be freed. */
static uint8_t *metadata_of(struct scenario *scenario, unsigned agent)
{
	const struct node_agent *node = &scenario->world.agents[agent];
	uint64_t first = 2 * (uint64_t)(node->nsid - 1);
	uint8_t *bytes = malloc(2 * PAIRS_BYTES);

	assert_non_null(bytes);
	sim_disk_peek(node->disk, (node->layout.vmeta_near + first) * STORE_BLOCK_BYTES, bytes,
		PAIRS_BYTES);
	sim_disk_peek(node->disk, (node->layout.vmeta_far + first) * STORE_BLOCK_BYTES,
		bytes + PAIRS_BYTES, PAIRS_BYTES);
	return bytes;
}

/* Frees `before`. */
static void assert_untouched(struct scenario *scenario, unsigned agent, uint8_t *before)
{
	uint8_t *now = metadata_of(scenario, agent);

	assert_memory_equal(now, before, 2 * PAIRS_BYTES);
	free(now);
	free(before);
}

static void assert_told(struct scenario *scenario, unsigned agent)
{
	struct volume_status status;

	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	for (unsigned i = 0; i < status.replica_count; i++) {
		if (uuid_equal(&status.replicas[i].replica,
			    &scenario->world.agents[agent].replica_id)) {
			assert_int_equal(status.replicas[i].state, REPLICA_FAULTED);
			assert_non_null(strstr(status.replicas[i].reason, "upgrade the pool-"));
		}
	}
}

static void assert_reason(struct scenario *scenario, enum volume_state state, const char *reason)
{
	struct volume_status status;

	await_state(scenario, state);
	assert_true(slot_status(&scenario->world.slots[scenario->writer], &status));
	if (strstr(status.reason, reason) == NULL) {
		fail_msg("\"%s\" does not say \"%s\"", status.reason, reason);
	}
}

/* What its pool-agent tells of it. */
static bool is_newer(const struct scenario *scenario, unsigned agent)
{
	const struct node_agent *node = &scenario->world.agents[agent];
	struct agent_replica_status status;

	agent_replica_get_status(node->agent, node->replica, &status);
	return status.newer;
}

/* A member comes back as the program of before: the others go on, and nothing of it is changed,
 * whoever opens. */
static void test_member_is_older(struct scenario *scenario)
{
	uint8_t *before;

	open_whole(scenario);
	write_all(scenario);
	run_older(scenario, B, true);
	before = metadata_of(scenario, B);
	assert_true(is_newer(scenario, B));
	assert_false(is_newer(scenario, A));
	assert_int_equal(do_write(scenario, 0, 8), 0);
	await_replica(scenario, B, REPLICA_FAULTED);
	scenario_open(scenario, 1);
	assert_int_equal(do_write(scenario, 16, 8), 0);
	run_ms(scenario, 3000);
	assert_told(scenario, B);
	assert_untouched(scenario, B, before);
	run_older(scenario, B, false);
	await_whole(scenario);
}

/* The volume begins to need what a voter does not know: it is no member then, and nobody copies to
 * it. */
static void test_raised_beside_an_older_one(struct scenario *scenario)
{
	struct world *world = &scenario->world;
	uint8_t *before;

	world->slots[0].older = true;
	run_older(scenario, B, true);
	open_whole(scenario);
	write_all(scenario);
	world->slots[0].older = false;
	nexus_crash(scenario, true);
	assert_int_equal(do_write(scenario, 0, 8), 0);
	await_replica(scenario, B, REPLICA_FAULTED);
	before = metadata_of(scenario, B);
	run_ms(scenario, 5000);
	assert_told(scenario, B);
	assert_untouched(scenario, B, before);
	assert_int_equal(metric_get(&scenario_leg(scenario, B)->copied_bytes), 0);
	assert_int_equal(volume_state_now(scenario), VOLUME_DEGRADED);
	run_older(scenario, B, false);
	await_whole(scenario);
}

/* Two of three: requests wait, the volume says for what, and nothing is lost. */
static void test_most_are_older(struct scenario *scenario)
{
	const struct scenario_request *request;
	uint8_t *a, *b;

	open_whole(scenario);
	write_all(scenario);
	run_older(scenario, A, true);
	run_older(scenario, B, true);
	a = metadata_of(scenario, A);
	b = metadata_of(scenario, B);
	request = submit_write(scenario, 0, 8);
	assert_reason(scenario, VOLUME_STALLED, "needs");
	run_ms(scenario, 3000);
	assert_told(scenario, A);
	assert_told(scenario, B);
	nexus_crash(scenario, true);
	run_ms(scenario, 3000);
	assert_reason(scenario, VOLUME_OPENING, "2 pool-agents are too old for the volume");
	assert_false(request->done);
	assert_untouched(scenario, A, a);
	assert_untouched(scenario, B, b);
	run_older(scenario, A, false);
	assert_int_equal(answer_of(scenario, request), 0);
	run_older(scenario, B, false);
	await_whole(scenario);
}

/* What the voters have is more than it understands: it commits nothing. */
static void test_nexus_is_older(struct scenario *scenario)
{
	const struct scenario_request *request;
	struct cfg before;

	open_whole(scenario);
	write_all(scenario);
	before = store_replica_vmeta(scenario->world.agents[A].replica)->cfg;
	scenario->world.slots[1].older = true;
	scenario_open(scenario, 1);
	request = submit_write(scenario, 0, 8);
	run_ms(scenario, 5000);
	assert_reason(scenario, VOLUME_OPENING, "upgrade the nexus");
	assert_false(request->done);
	assert_true(
		cfg_equal(&store_replica_vmeta(scenario->world.agents[A].replica)->cfg, &before));
	scenario->world.slots[1].older = false;
	nexus_crash(scenario, true);
	assert_int_equal(answer_of(scenario, request), 0);
	await_whole(scenario);
}

static bool is_resized(void *ctx)
{
	const struct scenario *scenario = ctx;

	return !scenario->world.slots[scenario->writer].resizing;
}

static uint64_t size_of(const struct scenario *scenario, unsigned agent)
{
	return store_replica_vmeta(scenario->world.agents[agent].replica)->size_bytes;
}

static void grow(struct scenario *scenario)
{
	struct slot *slot = &scenario->world.slots[scenario->writer];

	assert_int_equal(do_write(scenario, 0, 8), 0);
	slot_resize(slot, scenario->world.options.block_count);
	await(scenario, is_resized);
	assert_int_equal(slot->resize.result, 0);
}

/* Nor does it make a voter larger: by a configuration that it does not understand. */
static void test_nexus_is_older_than_the_size(struct scenario *scenario)
{
	uint64_t before;

	open_whole(scenario);
	before = size_of(scenario, C);
	go_away(scenario, C);
	await_replica(scenario, C, REPLICA_OFFLINE);
	grow(scenario);
	scenario->world.slots[1].older = true;
	scenario_open(scenario, 1);
	run_ms(scenario, 3000);
	come_back(scenario, C);
	run_ms(scenario, 5000);
	assert_reason(scenario, VOLUME_OPENING, "upgrade the nexus");
	assert_true(size_of(scenario, C) == before);
	scenario->world.slots[1].older = false;
	nexus_crash(scenario, true);
	await_whole(scenario);
	assert_true(size_of(scenario, C) > before);
}

/* Who does not understand the configuration is not made larger by it either. */
static void test_member_is_older_than_the_size(struct scenario *scenario)
{
	uint64_t before;

	scenario->world.slots[0].older = true;
	run_older(scenario, C, true);
	open_whole(scenario);
	before = size_of(scenario, C);
	go_away(scenario, C);
	await_replica(scenario, C, REPLICA_OFFLINE);
	scenario->world.slots[0].older = false;
	nexus_crash(scenario, true);
	grow(scenario);
	come_back(scenario, C);
	scenario_open(scenario, 1);
	assert_int_equal(do_write(scenario, 16, 8), 0);
	run_ms(scenario, 5000);
	assert_told(scenario, C);
	assert_true(size_of(scenario, C) == before);
	run_older(scenario, C, false);
	await_whole(scenario);
	assert_true(size_of(scenario, C) > before);
}

#define GROWS .block_count = 128, .start_blocks = 64

int main(void)
{
	static const struct scenario_case cases[] = {
		{"test_member_is_older", test_member_is_older, {.version = NEWER}},
		{"test_raised_beside_an_older_one", test_raised_beside_an_older_one,
			{.version = NEWER}},
		{"test_most_are_older", test_most_are_older, {.version = NEWER}},
		{"test_nexus_is_older", test_nexus_is_older, {.version = NEWER}},
		{"test_nexus_is_older_than_the_size", test_nexus_is_older_than_the_size,
			{.version = NEWER, GROWS}},
		{"test_member_is_older_than_the_size", test_member_is_older_than_the_size,
			{.version = NEWER, GROWS}},
	};

	return scenario_run_all("version", cases, ARRAY_COUNT(cases));
}
