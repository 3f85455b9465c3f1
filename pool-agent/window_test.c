/* SPDX-License-Identifier: Apache-2.0 */
/* Windows against a naive model, and what a nexus sees of them. */
#include "base/bytes.h"
#include "base/testing.h"
#include "pool-agent/testing/world.h"
#include "pool-agent/window.h"

#include <stdlib.h>
#include <string.h>

#define PIECES       256u
#define REGION       (UINT64_C(16) << 20)
#define PIECE        (REGION / 64)
#define WORLD_PIECE  (WORLD_REGION_BYTES / 64)
#define WORLD_BLOCKS (WORLD_PIECE / 4096)

/* ---- the table ---- */

struct bench {
	struct sim *sim;
	struct sim_process *process;
	struct windows windows;
};

static void bench_start(struct bench *bench, uint32_t entries)
{
	bench->sim = sim_new(5, NULL);
	bench->process = sim_process_new(sim_host_new(bench->sim, "10.0.0.1"), "test");
	assert_int_equal(windows_init(&bench->windows, sim_process_io(bench->process), entries), 0);
}

static void bench_end(struct bench *bench)
{
	windows_done(&bench->windows);
	sim_process_exit(bench->process);
	sim_free(bench->sim);
}

static bool window_has(const struct window *window, uint32_t piece)
{
	uint32_t pieces[PIECES];
	uint32_t count = window_get(window, 0, pieces, PIECES);

	assert_int_equal(count, window->count);
	for (uint32_t i = 0; i < count; i++) {
		if (pieces[i] == piece) {
			return true;
		}
	}
	return false;
}

/* What must be in it: 0 nothing, else the highest seq of this epoch, or UINT64_MAX of an older one.
 */
struct model {
	uint64_t seqs[PIECES];
	bool old[PIECES];
};

static void check_model(const struct window *window, const struct model *model)
{
	for (uint32_t i = 0; i < PIECES; i++) {
		/* A superset. */
		assert_true(window_has(window, i) || (model->seqs[i] == 0 && !model->old[i]));
	}
}

static void model_turn(struct window *window, struct model *model, struct rng *rng, uint64_t *seq)
{
	uint64_t settled = *seq > 20 ? *seq - rng_below(rng, 20) : 0;
	uint64_t first = rng_below(rng, PIECES - 4);
	uint64_t count = 1 + rng_below(rng, 4);
	/* Some come late. */
	uint64_t at = rng_percent(rng, 20) && *seq > settled ? settled + 1 : ++(*seq);

	window_settle(window, settled);
	window_add(window, at, first * PIECE + 4096, count * PIECE - 8192);
	for (uint32_t i = 0; i < PIECES; i++) {
		bool touched = i >= first && i < first + count;

		model->seqs[i] = model->seqs[i] <= settled ? 0 : model->seqs[i];
		model->seqs[i] = touched ? max_u64(model->seqs[i], at) : model->seqs[i];
		/* Nothing of this epoch is settled before what was older is the same everywhere. */
		model->old[i] = model->old[i] && !touched;
	}
}

static void test_random_commands(void **ctx)
{
	struct bench bench;
	struct window window, other;
	struct model model = {0};
	struct rng rng;
	uint64_t seq = 0;

	(void)ctx;
	rng_init(&rng, 9);
	bench_start(&bench, 2 * PIECES);
	window_init(&window, &bench.windows, 1, REGION);
	window_init(&other, &bench.windows, 2, REGION);
	assert_false(window.valid);
	for (unsigned turn = 0; turn < 4000; turn++) {
		model_turn(&window, &model, &rng, &seq);
		window_add(&other, turn + 1, rng_below(&rng, PIECES) * PIECE, 4096);
		window_settle(&other, turn - min_u64(turn, 5));
		check_model(&window, &model);
		if (rng_percent(&rng, 1)) {
			window_new_epoch(&window);
			for (uint32_t i = 0; i < PIECES; i++) {
				model.old[i] = model.old[i] || model.seqs[i] != 0;
				model.seqs[i] = 0;
			}
			seq = 0;
		} else if (rng_percent(&rng, 1)) {
			uint64_t upto = seq - min_u64(seq, 3);

			assert_true(window_resynced(&window, upto));
			memset(model.old, 0, sizeof(model.old));
			for (uint32_t i = 0; i < PIECES; i++) {
				model.seqs[i] = model.seqs[i] <= upto ? 0 : model.seqs[i];
			}
		}
	}
	assert_true(window.valid);
	/* Settled, all of it is given back. */
	assert_true(window_resynced(&window, seq));
	assert_int_equal(window.count, 0);
	window_done(&other);
	bench_end(&bench);
}

/* It drops everything and says so; RESYNCED is refused until what was dropped is settled. */
static void test_too_many(void **ctx)
{
	struct bench bench;
	struct window window, other;

	(void)ctx;
	bench_start(&bench, 10);
	window_init(&window, &bench.windows, 1, REGION);
	window_init(&other, &bench.windows, 2, REGION);
	assert_true(window_resynced(&window, 0) && window_resynced(&other, 0));
	window_add(&window, 1, 0, 6 * PIECE);
	window_add(&other, 1, 0, 4 * PIECE);
	assert_true(window.valid && other.valid);
	window_add(&window, 7, 0, PIECE); /* there already */
	assert_true(window.valid);
	window_add(&window, 8, 20 * PIECE, PIECE);
	assert_false(window.valid);
	assert_int_equal(window.count, 0);
	assert_true(other.valid);
	assert_int_equal(other.count, 4);
	window_add(&window, 9, 30 * PIECE, PIECE);
	assert_false(window_resynced(&window, 7));
	assert_false(window.valid);
	assert_true(window_resynced(&window, 8));
	assert_true(window.valid);
	assert_int_equal(window.count, 1);
	/* Another epoch: what was lost is in what its opener copies. */
	window_invalidate(&window);
	window_new_epoch(&window);
	assert_true(window_resynced(&window, 0));
	window_done(&window);
	window_done(&other);
	bench_end(&bench);
}

/* ---- commands ---- */

static void hold(struct host *host, struct world *world, uint32_t inc, uint32_t session)
{
	struct token token = token_make(1, inc, session);
	struct wire_voter_state state;
	struct cfg cfg = cfg_make(world, &token, 1, true);

	assert_int_equal(host_fence(host, &token, &state), 0);
	assert_int_equal(host_accept(host, world->nsid, session, &cfg), 0);
}

struct seen {
	bool valid;
	uint32_t total, count;
	uint32_t pieces[4]; /* the first ones */
};

static uint16_t get_window(
	struct host *host, uint32_t session, uint32_t first, struct seen *ret_seen)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	uint16_t status;

	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe.opcode = WIRE_WINDOW;
	command->cmd.sqe.nsid = host->world->nsid;
	command->cmd.sqe.cdw2 = session;
	command->cmd.sqe.cdw10 = first;
	status = command_run(host, command, WIRE_WINDOW_SIZE);
	if (status == 0) {
		struct wire_window *window = malloc(sizeof(*window));

		assert_int_equal(wire_window_decode(command->data, window), 0);
		assert_int_equal(window->piece_bytes, WORLD_PIECE);
		ret_seen->valid = window->valid;
		ret_seen->total = window->total;
		ret_seen->count = window->count;
		memcpy(ret_seen->pieces, window->pieces, sizeof(ret_seen->pieces));
		free(window);
	}
	free(command);
	return status;
}

static uint16_t resynced(struct host *host, uint32_t session, uint64_t boot, uint32_t upto)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	uint16_t status;

	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe.opcode = WIRE_RESYNCED;
	command->cmd.sqe.nsid = host->world->nsid;
	command->cmd.sqe.cdw2 = session;
	command->cmd.sqe.cdw10 = (uint32_t)boot;
	command->cmd.sqe.cdw11 = (uint32_t)(boot >> 32);
	command->cmd.sqe.cdw12 = upto;
	status = command_run(host, command, 0);
	free(command);
	return status;
}

static void discard(
	struct host *host, uint32_t session, uint64_t seq, uint64_t settled, uint64_t piece)
{
	struct wire_io io = {
		.opcode = WIRE_DISCARD,
		.nsid = host->world->nsid,
		.session = session,
		.wgen_low = 1,
		.seq = seq,
		.settled = settled,
		.slba = piece * WORLD_BLOCKS + 1,
		.block_count = 2,
	};

	assert_int_equal(host_io(host, &io), 0);
}

static struct seen window_of(struct host *host, uint32_t session)
{
	struct seen window;

	assert_int_equal(get_window(host, session, 0, &window), 0);
	return window;
}

static void test_of_a_nexus(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct seen window;
	struct token token;
	struct host host;

	host_start(&host, world, 1);
	hold(&host, world, 1, 1);
	window = window_of(&host, 1);
	assert_false(window.valid);
	assert_int_equal(window.total, 0);
	discard(&host, 1, 1, 0, 3);
	discard(&host, 1, 2, 0, 5);
	assert_int_equal(window_of(&host, 1).total, 2);
	assert_int_equal(get_window(&host, 2, 0, &window), WIRE_STATUS_STALE_TOKEN);
	/* Not this boot. */
	assert_int_equal(resynced(&host, 1, host_boot(&host) + 1, 0), WIRE_STATUS_REFUSED);
	assert_false(window_of(&host, 1).valid);
	assert_int_equal(resynced(&host, 1, host_boot(&host), 1), 0);
	window = window_of(&host, 1);
	assert_true(window.valid);
	assert_int_equal(window.total, 1);
	assert_int_equal(window.pieces[0], 5);
	/* Settled by a later command, of the same epoch and another session. */
	token = token_make(1, 1, 2);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_true(state.window_valid);
	assert_int_equal(window_of(&host, 2).total, 1);
	discard(&host, 2, 3, 2, 7);
	window = window_of(&host, 2);
	assert_int_equal(window.total, 1);
	assert_int_equal(window.pieces[0], 7);
	/* FENCE of another epoch changes nothing, and its commands do not settle it. */
	hold(&host, world, 2, 1);
	discard(&host, 1, 9, 8, 1);
	discard(&host, 1, 10, 9, 2);
	window = window_of(&host, 1);
	assert_true(window.valid);
	assert_int_equal(window.total, 2);
	assert_int_equal(window.pieces[0], 7);
	assert_int_equal(window.pieces[1], 2);
	assert_int_equal(get_window(&host, 1, 1, &window), 0);
	assert_int_equal(window.count, 1);
	assert_int_equal(window.pieces[0], 2);
	assert_int_equal(resynced(&host, 1, host_boot(&host), 9), 0);
	assert_int_equal(window_of(&host, 1).total, 1);
	/* Another process knows nothing. */
	host_close(&host);
	world_stop_agent(world);
	world_start_agent(world);
	host_start(&host, world, 1);
	hold(&host, world, 3, 1);
	window = window_of(&host, 1);
	assert_false(window.valid);
	assert_int_equal(window.total, 0);
	host_close(&host);
}

/* The disk's power id changes under a running agent: nobody holds it, and the window is nothing. */
static void test_power_changes(void **ctx)
{
	struct world *world = *ctx;
	struct seen window;
	struct host host;

	host_start(&host, world, 1);
	hold(&host, world, 1, 1);
	assert_int_equal(resynced(&host, 1, host_boot(&host), 0), 0);
	discard(&host, 1, 1, 0, 3);
	assert_true(window_of(&host, 1).valid);
	world->handle->power++;
	assert_int_equal(get_window(&host, 1, 0, &window), WIRE_STATUS_STALE_TOKEN);
	hold(&host, world, 1, 2);
	window = window_of(&host, 2);
	assert_false(window.valid);
	assert_int_equal(window.total, 0);
	/* What it had is not known to be on all of S. */
	assert_int_equal(resynced(&host, 2, host_boot(&host), 0), WIRE_STATUS_REFUSED);
	assert_int_equal(resynced(&host, 2, host_boot(&host), 1), 0);
	host_close(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_commands),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test_setup_teardown(test_of_a_nexus, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_power_changes, world_setup, world_teardown),
	};

	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
