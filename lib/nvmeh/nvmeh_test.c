/* SPDX-License-Identifier: Apache-2.0 */
/* The host against a scripted controller in the simulated world. */
#include "nvmeh/env_test.h"

/* ---- set-up
 * ----------------------------------------------------------------------------------------------------
 */

static void it_sets_up_and_closes(void **state)
{
	(void)state;
	for (unsigned queues = 0; queues < 4; queues++) {
		struct env env;

		env_init(&env, queues);
		env.options.io_queues = queues;
		env.fake->not_ready_polls = queues;
		env_connect(&env);
		assert_int_equal(nvmeh_cntlid(env.assoc), 7);
		assert_int_equal(nvmeh_transfer_max(env.assoc), 1024 * 1024);
		assert_int_equal(env.fake->conn_count, queues + 1);
		env_close(&env);
	}
}

static void failures_of_the_set_up_have_reasons(void **state)
{
	static const struct {
		enum fake_mute mute;
		uint16_t connect_status;
		uint32_t granted;
		unsigned not_ready;
		const char *text;
	} cases[] = {
		{FAKE_MUTE_IC, 0, 8, 0, "waiting for ICResp"},
		{FAKE_MUTE_CONNECT, 0, 8, 0, "the answer to Connect"},
		{FAKE_MUTE_ADMIN, 0, 8, 0, "Property Get (CAP)"},
		{FAKE_ANSWERS, 0, 8, 1000000, "to become ready"},
		{FAKE_ANSWERS, 0, 1, 0, "grants 1 I/O queues of 2"},
		{FAKE_ANSWERS, NVME_SC_CONNECT_INVALID_PARAMETERS, 8, 0, "NQN nqn.fake:subsystem"},
		{FAKE_ANSWERS, NVME_SC_CONNECT_INVALID_HOST, 8, 0, "not allow host nqn.fake:host"},
		{FAKE_ANSWERS, NVME_SC_CONNECT_CONTROLLER_BUSY, 8, 0, "controller busy"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct env env;
		struct op op;

		env_init(&env, i);
		env.options.io_queues = 2;
		env.fake->mute = cases[i].mute;
		env.fake->connect_status = cases[i].connect_status;
		env.fake->connect_dw01 = 256 | NVME_CONNECT_INVALID_IN_DATA;
		env.fake->queues_granted = cases[i].granted;
		env.fake->not_ready_polls = cases[i].not_ready;
		env_open(&env);
		op_init(&op, VENDOR_NONE, 0, NULL, 0);
		nvmeh_submit(env.assoc, &op.cmd);
		assert_true(sim_run_until_flag(env.sim, &env.failed, SECONDS(20)));
		if (strstr(env.reason, cases[i].text) == NULL) {
			fail_msg("case %zu: %s", i, env.reason);
		}
		assert_false(env.ready);
		assert_true(sim_run_until_flag(env.sim, &op.is_done, SECONDS(20)));
		assert_int_equal(op.cmd.result, -ECONNRESET);
		env_close(&env);
	}
}

static void a_refused_connection_names_the_address(void **state)
{
	struct env env;

	(void)state;
	env_init(&env, 1);
	env.options.address.port = 4999;
	env.close_when_failed = true;
	env_open(&env);
	assert_true(sim_run_until_flag(env.sim, &env.closed, SECONDS(20)));
	assert_int_equal(env.code, -ECONNREFUSED);
	assert_non_null(strstr(env.reason, "connect to 10.0.0.2:4999: "));
	env_close(&env);
}

static void memory_running_out_is_an_error_without_loss(void **state)
{
	struct env env;
	int err = -ENOMEM;

	(void)state;
	env_init(&env, 1);
	for (unsigned n = 1; err != 0; n++) {
		assert_true(n < 100);
		sim_process_fail_allocation(env.process, n);
		err = nvmeh_new(sim_process_io(env.process), &env.options, &env.assoc);
		assert_true(err == 0 || err == -ENOMEM);
		assert_true(err == 0 || sim_process_memory_bytes(env.process) == 0);
	}
	sim_process_fail_allocation(env.process, 0);
	env_close(&env);
}

static void closing_is_possible_at_any_moment_of_the_set_up(void **state)
{
	(void)state;
	for (unsigned steps = 0; steps < 120; steps++) {
		struct env env;

		env_init(&env, steps);
		env.options.io_queues = 2;
		env_open(&env);
		for (unsigned i = 0; i < steps; i++) {
			(void)sim_step(env.sim);
		}
		env_close(&env);
		assert_false(env.failed);
	}
}

/* ---- data
 * ------------------------------------------------------------------------------------------------------
 */

static void data_go_there_and_back(void **state)
{
	static const uint32_t lengths[] = {
		4, 512, 4096, 8192, 8196, 65536, 1000 * 1000, 1024 * 1024};

	(void)state;
	for (unsigned mode = 0; mode < 16; mode++) {
		struct env env;

		env_init(&env, mode);
		env.options.header_digest = env.fake->header_digest = (mode & 1) != 0;
		env.options.data_digest = env.fake->data_digest = (mode & 2) != 0;
		env.fake->success_flag = (mode & 4) != 0;
		if ((mode & 8) != 0) {
			env.fake->cpda = 31;
			env.fake->maxh2cdata = 4096;
			env.fake->r2t_max = 40000;
			env.fake->c2h_max = 6000;
			env.fake->ioccsz_bytes = 4096;
		}
		env_connect(&env);
		for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
			write_and_read(&env, lengths[i], 1);
			if (lengths[i] > 1000) {
				write_and_read(&env, lengths[i], 3);
				write_and_read(&env, lengths[i], 64);
			}
		}
		env_close(&env);
	}
}

static void small_writes_travel_in_the_capsule(void **state)
{
	struct env env;

	(void)state;
	env_init(&env, 1);
	env.fake->ioccsz_bytes = 4096;
	env_connect(&env);
	write_and_read(&env, 4096, 1);
	assert_int_equal(env.fake->capsules_with_data, 1);
	assert_int_equal(env.fake->r2ts, 0);
	write_and_read(&env, 4100, 1);
	assert_int_equal(env.fake->capsules_with_data, 1);
	assert_int_equal(env.fake->r2ts, 1);
	env_close(&env);
}

static void a_command_without_data_returns_its_result(void **state)
{
	struct env env;
	struct op op;

	(void)state;
	env_init(&env, 1);
	env_connect(&env);
	op_init(&op, VENDOR_NONE, 0, NULL, 0);
	op_run(&env, &op);
	assert_int_equal(op.cmd.result, 0);
	assert_true(op.cmd.dw01 == 0x1122334455667788);
	op_init(&op, 0xc0, 0, NULL, 0);
	op.cmd.admin = true;
	op_run(&env, &op);
	assert_int_equal(op.cmd.result, 0);
	assert_int_equal(op.cmd.status, NVME_SC_INVALID_OPCODE);
	env_close(&env);
}

#define MANY 300u

static void commands_beyond_the_depth_wait_in_order(void **state)
{
	struct env env;
	struct op *ops = calloc(MANY, sizeof(*ops));
	uint8_t *buffer = malloc(MANY * 4096);
	struct nvmeh_stats stats;
	unsigned count = 0;

	(void)state;
	env_init(&env, 1);
	env.fake->mqes = 31;
	env_connect(&env);
	fill(buffer, MANY * 4096, 1);
	for (unsigned i = 0; i < MANY; i++) {
		op_init(&ops[i], VENDOR_WRITE, i, buffer + i * 4096, 4096);
		ops[i].cmd.sqe.cdw13 = i;
		ops[i].count = &count;
		nvmeh_submit(env.assoc, &ops[i].cmd);
	}
	sim_run_for_ns(env.sim, SECONDS(2));
	assert_int_equal(count, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(ops[i].cmd.result, 0);
		assert_int_equal(ops[i].done, 1);
		assert_int_equal(env.fake->trace[i], i);
	}
	assert_memory_equal(env.fake->store, buffer, MANY * 4096);
	/* 31 at a time, in one send as far as that many vector entries allow. */
	nvmeh_get_stats(env.assoc, &stats);
	assert_true(stats.sends < 12 + MANY / 5);
	env_close(&env);
	free(ops);
	free(buffer);
}

/* A read that is given up writes nothing any more, is done once, and does not disturb what follows
 * on its connection. */
static void an_abandoned_read_leaves_its_buffer_alone(void **state)
{
	static uint8_t data[1024 * 1024];
	static uint8_t buffer[1024 * 1024];
	unsigned given_up = 0;

	(void)state;
	fill(data, sizeof(data), 1);
	for (unsigned steps = 0; steps < 200; steps++) {
		uint32_t length = steps % 2 == 0 ? 4096 : sizeof(data);
		struct env env;
		struct op op;

		env_init(&env, steps);
		env.options.data_digest = env.fake->data_digest = steps % 3 == 0;
		env_connect(&env);
		memcpy(env.fake->store, data, sizeof(data));
		memset(buffer, 0, sizeof(buffer));
		op_init(&op, VENDOR_READ, 0, buffer, length);
		nvmeh_submit(env.assoc, &op.cmd);
		for (unsigned i = 0; i < steps / 2; i++) {
			(void)sim_step(env.sim);
		}
		if (op.done == 0 && nvmeh_abandon(env.assoc, &op.cmd)) {
			given_up++;
			memset(buffer, 0x5a, sizeof(buffer));
		}
		sim_run_for_ns(env.sim, SECONDS(1));
		assert_int_equal(op.done, 1);
		assert_int_equal(op.cmd.result, 0);
		for (uint32_t i = 0; i < length; i++) {
			assert_int_equal(buffer[i], op.cmd.abandoned ? 0x5a : data[i]);
		}
		assert_false(env.failed);
		write_and_read(&env, 4096, 1);
		env_close(&env);
	}
	assert_true(given_up > 10);
}

/* ---- keep-alive and loss
 * ---------------------------------------------------------------------------------------- */

static void keep_alive_is_sent_at_half_of_the_time(void **state)
{
	struct env env;

	(void)state;
	env_init(&env, 1);
	env.options.kato_ms = 2000;
	env_connect(&env);
	sim_run_for_ns(env.sim, SECONDS(10) + SECONDS(1) / 2);
	assert_in_range(env.fake->keep_alives, 9, 10);
	env.fake->mute = FAKE_MUTE_KEEP_ALIVE;
	assert_true(sim_run_until_flag(env.sim, &env.failed, SECONDS(4)));
	assert_non_null(strstr(env.reason, "keep-alive was not answered in 2000 ms"));
	env_close(&env);
}

static void a_partition_is_noticed_by_keep_alive(void **state)
{
	static uint8_t buffer[4096];
	struct env env;
	struct op op;

	(void)state;
	env_init(&env, 1);
	env.options.kato_ms = 2000;
	env_connect(&env);
	sim_partition(env.hosts[1], env.hosts[0], true);
	op_init(&op, VENDOR_WRITE, 0, buffer, sizeof(buffer));
	nvmeh_submit(env.assoc, &op.cmd);
	assert_true(sim_run_until_flag(env.sim, &op.is_done, SECONDS(10)));
	assert_int_equal(op.cmd.result, -ECONNRESET);
	assert_true(env.failed);
	env_close(&env);
}

static void a_crash_of_the_controller_fails_the_association(void **state)
{
	static uint8_t buffer[4096];
	struct env env;
	struct op op;

	(void)state;
	env_init(&env, 1);
	env_connect(&env);
	sim_process_crash(env.peer);
	op_init(&op, VENDOR_WRITE, 0, buffer, sizeof(buffer));
	nvmeh_submit(env.assoc, &op.cmd);
	assert_true(sim_run_until_flag(env.sim, &op.is_done, SECONDS(10)));
	assert_int_equal(op.cmd.result, -ECONNRESET);
	assert_true(env.failed);
	env_close(&env);
}

#define OPS 64u

/* Random commands, and at a random moment the end: each command is done exactly once and nothing is
 * left. */
static void every_command_is_done_once_whatever_happens(void **state)
{
	uint8_t *buffer = malloc(64 * 65536);

	(void)state;
	for (uint64_t seed = 0; seed < 150; seed++) {
		struct env env;
		struct op *ops = calloc(OPS, sizeof(*ops));
		struct rng rng;
		unsigned count = 0;

		rng_init(&rng, seed);
		env_init(&env, seed);
		env.options.io_queues = 1 + (unsigned)rng_below(&rng, 2);
		env.fake->success_flag = rng_percent(&rng, 50);
		env_connect(&env);
		for (unsigned i = 0; i < OPS; i++) {
			uint32_t length = (uint32_t)(1 + rng_below(&rng, 16)) * 4096;

			op_init(&ops[i], rng_percent(&rng, 50) ? VENDOR_WRITE : VENDOR_READ,
				i * 16 / 4, buffer + i * 65536, length);
			ops[i].cmd.queue = (unsigned)rng_below(&rng, env.options.io_queues);
			ops[i].count = &count;
			nvmeh_submit(env.assoc, &ops[i].cmd);
			sim_run_for_ns(env.sim, rng_below(&rng, 30000));
		}
		sim_run_for_ns(env.sim, rng_below(&rng, 600000));
		switch (rng_below(&rng, 4)) {
		case 0:
			sim_run_for_ns(env.sim, SECONDS(1));
			assert_int_equal(count, OPS);
			break;
		case 1:
			sim_process_crash(env.peer);
			break;
		case 2:
			(void)sim_cut_random_connection(env.sim);
			sim_run_for_ns(env.sim, SECONDS(1));
			break;
		}
		env_close(&env);
		assert_int_equal(count, OPS);
		for (unsigned i = 0; i < OPS; i++) {
			assert_int_equal(ops[i].done, 1);
			assert_true(ops[i].cmd.result == 0 || ops[i].cmd.result == -ECONNRESET);
		}
		free(ops);
	}
	free(buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_sets_up_and_closes),
		cmocka_unit_test(failures_of_the_set_up_have_reasons),
		cmocka_unit_test(a_refused_connection_names_the_address),
		cmocka_unit_test(memory_running_out_is_an_error_without_loss),
		cmocka_unit_test(closing_is_possible_at_any_moment_of_the_set_up),
		cmocka_unit_test(data_go_there_and_back),
		cmocka_unit_test(small_writes_travel_in_the_capsule),
		cmocka_unit_test(a_command_without_data_returns_its_result),
		cmocka_unit_test(commands_beyond_the_depth_wait_in_order),
		cmocka_unit_test(an_abandoned_read_leaves_its_buffer_alone),
		cmocka_unit_test(keep_alive_is_sent_at_half_of_the_time),
		cmocka_unit_test(a_partition_is_noticed_by_keep_alive),
		cmocka_unit_test(a_crash_of_the_controller_fails_the_association),
		cmocka_unit_test(every_command_is_done_once_whatever_happens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
