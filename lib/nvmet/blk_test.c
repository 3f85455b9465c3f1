/* SPDX-License-Identifier: Apache-2.0 */
/* A device served over simulated connections, used through our own host. */
#include "base/bytes.h"
#include "base/testing.h"
#include "nvmeh/nvmeh.h"
#include "nvmet/dev_test.h"
#include "nvmet/nvmet.h"
#include "simio/simio.h"

#include <errno.h>
#include <stdio.h>

#define DEV_BYTES  (16u << 20)
#define BLOCK      4096u
#define NQN        "nqn.test:volume"
#define POOL_BYTES (8u << 20)
#define SECONDS(n) ((n) * IO_NS_PER_S)
#define OPS_MAX    512u

struct env {
	struct sim *sim;
	struct sim_process *server, *client;
	struct bufpool *pool;
	struct nvmet *target;
	struct nvmet_blk *blk;
	struct test_dev dev;
	bool blk_removed, target_closed;
	struct nvmeh_options options;
	struct nvmeh *assoc;
	bool ready, failed, closed;
	int code;
	char reason[300];
};

struct op {
	struct nvmeh_cmd cmd;
	struct iovec iov;
	bool is_done;
	unsigned *count;
};

/* ---- environment ---- */

static void on_ready(struct nvmeh *assoc)
{
	((struct env *)nvmeh_ctx(assoc))->ready = true;
}

static void on_failed(struct nvmeh *assoc, int code, const char *reason)
{
	struct env *env = nvmeh_ctx(assoc);

	env->failed = true;
	env->code = code;
	(void)snprintf(env->reason, sizeof(env->reason), "%s", reason);
}

static void on_closed(struct nvmeh *assoc)
{
	struct env *env = nvmeh_ctx(assoc);

	env->closed = true;
	env->assoc = NULL;
}

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static void env_init_pool(struct env *env, uint64_t seed, size_t pool_bytes)
{
	const struct uuid uuid = {{1, 2, 3, 4, 5}};
	struct nvmet_options target = {.address = {"10.0.0.2", 4431}};
	struct io *io;
	struct err err;

	memset(env, 0, sizeof(*env));
	env->sim = sim_new(seed, NULL);
	env->client = sim_process_new(sim_host_new(env->sim, "10.0.0.1"), "client");
	env->server = sim_process_new(sim_host_new(env->sim, "10.0.0.2"), "server");
	io = sim_process_io(env->server);
	assert_int_equal(bufpool_new(io, pool_bytes, &env->pool), 0);
	target.buffers = env->pool;
	assert_int_equal(nvmet_new(io, &target, &env->target, &err), 0);
	test_dev_init(&env->dev, io, DEV_BYTES, BLOCK);
	assert_int_equal(
		nvmet_blk_new(env->target, io, &env->dev.dev, NQN, &uuid, &env->blk, &err), 0);
	env->options = (struct nvmeh_options){
		.address = {"10.0.0.2", 4431},
		.subnqn = NQN,
		.hostnqn = "nqn.test:host",
		.io_queues = 1,
		.connect_timeout_ns = SECONDS(5),
		.ready = on_ready,
		.failed = on_failed,
		.closed = on_closed,
		.ctx = env,
	};
}

static void env_connect(struct env *env)
{
	assert_int_equal(nvmeh_new(sim_process_io(env->client), &env->options, &env->assoc), 0);
	if (!sim_run_until_flag(env->sim, &env->ready, SECONDS(10))) {
		fail_msg("not ready: %s", env->reason);
	}
}

static void env_init(struct env *env)
{
	env_init_pool(env, 1, POOL_BYTES);
	env_connect(env);
}

static void env_done(struct env *env)
{
	if (env->assoc != NULL) {
		nvmeh_close(env->assoc);
		assert_true(sim_run_until_flag(env->sim, &env->closed, SECONDS(20)));
	}
	if (env->blk != NULL) {
		nvmet_blk_remove(env->blk, set_flag, &env->blk_removed);
		assert_true(sim_run_until_flag(env->sim, &env->blk_removed, SECONDS(20)));
	}
	nvmet_close(env->target, set_flag, &env->target_closed);
	assert_true(sim_run_until_flag(env->sim, &env->target_closed, SECONDS(20)));
	assert_int_equal(bufpool_used_bytes(env->pool), 0);
	bufpool_free(env->pool);
	test_dev_done(&env->dev);
	sim_process_exit(env->server);
	sim_process_exit(env->client);
	sim_free(env->sim);
}

static void op_done(struct nvmeh_cmd *cmd)
{
	struct op *op = cmd->ctx;

	op->is_done = true;
	if (op->count != NULL) {
		(*op->count)++;
	}
}

static void op_init(struct op *op, uint8_t opcode, uint64_t lba, void *buffer, uint32_t length)
{
	uint32_t blocks = length > 0 ? length / BLOCK : 1;

	memset(op, 0, sizeof(*op));
	op->iov = (struct iovec){buffer, length};
	op->cmd = (struct nvmeh_cmd){
		.sqe = {.opcode = opcode,
			.nsid = 1,
			.cdw10 = (uint32_t)lba,
			.cdw11 = (uint32_t)(lba >> 32),
			.cdw12 = (blocks - 1) & 0xffffu},
		.iov = &op->iov,
		.iov_count = length > 0 ? 1 : 0,
		.length = length,
		.done = op_done,
		.ctx = op,
	};
}

static uint16_t op_run(struct env *env, struct op *op)
{
	nvmeh_submit(env->assoc, &op->cmd);
	if (!sim_run_until_flag(env->sim, &op->is_done, SECONDS(20))) {
		fail_msg("not done: %s", env->reason);
	}
	assert_int_equal(op->cmd.result, 0);
	return op->cmd.status;
}

static uint16_t run(struct env *env, uint8_t opcode, uint64_t lba, void *buffer, uint32_t length)
{
	struct op op;

	op_init(&op, opcode, lba, buffer, length);
	return op_run(env, &op);
}

static void fill(uint8_t *buffer, size_t length, uint64_t seed)
{
	struct rng rng;

	rng_init(&rng, seed);
	for (size_t i = 0; i < length; i++) {
		buffer[i] = (uint8_t)rng_u64(&rng);
	}
}

/* ---- reading and writing ---- */

static void write_and_read(struct env *env, uint32_t length)
{
	uint8_t *out = malloc(length), *in = calloc(1, length);

	fill(out, length, length);
	assert_int_equal(run(env, NVME_IO_WRITE, 5, out, length), 0);
	assert_memory_equal(env->dev.memory + 5 * BLOCK, out, length);
	assert_int_equal(run(env, NVME_IO_READ, 5, in, length), 0);
	assert_memory_equal(in, out, length);
	free(out);
	free(in);
}

static void sizes(void **state)
{
	static const uint32_t lengths[] = {4096, 8192, 12288, 65536, 131072, 266240, 1 << 20};
	struct env env;

	(void)state;
	for (unsigned digests = 0; digests < 4; digests++) {
		env_init_pool(&env, digests, POOL_BYTES);
		env.options.header_digest = (digests & 1) != 0;
		env.options.data_digest = (digests & 2) != 0;
		env_connect(&env);
		assert_int_equal(nvmeh_transfer_max(env.assoc), 1 << 20);
		for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
			write_and_read(&env, lengths[i]);
		}
		env_done(&env);
	}
}

static void too_large_and_out_of_range(void **state)
{
	uint64_t blocks = DEV_BYTES / BLOCK;
	uint8_t *buffer = calloc(1, 2 << 20);
	struct op op;
	struct env env;

	(void)state;
	env_init(&env);
	assert_int_equal(run(&env, NVME_IO_READ, 0, buffer, 2 << 20), NVME_SC_INVALID_FIELD);
	assert_int_equal(run(&env, NVME_IO_READ, blocks, buffer, BLOCK), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(
		run(&env, NVME_IO_WRITE, blocks - 1, buffer, 2 * BLOCK), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(
		run(&env, NVME_IO_READ, UINT64_MAX, buffer, BLOCK), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(run(&env, NVME_IO_WRITE, blocks - 1, buffer, BLOCK), 0);
	op_init(&op, NVME_IO_WRITE, 0, buffer, 2 * BLOCK);
	op.cmd.sqe.cdw12 = 0;
	assert_int_equal(op_run(&env, &op), NVME_SC_DATA_SGL_LENGTH_INVALID);
	op_init(&op, NVME_IO_READ, 0, buffer, BLOCK);
	op.cmd.sqe.cdw12 |= 1u << 26;
	assert_int_equal(op_run(&env, &op), NVME_SC_INVALID_FIELD);
	op_init(&op, NVME_IO_READ, 0, buffer, BLOCK);
	op.cmd.sqe.nsid = 2;
	assert_int_equal(op_run(&env, &op), NVME_SC_INVALID_NAMESPACE);
	assert_true(op.cmd.dnr);
	assert_int_equal(
		run(&env, NVME_IO_WRITE_UNCORRECTABLE, 0, NULL, 0), NVME_SC_INVALID_OPCODE);
	assert_int_equal(run(&env, 0x91, 0, buffer, BLOCK), NVME_SC_INVALID_OPCODE);
	assert_int_equal(env.dev.count[BLK_READ] + env.dev.count[BLK_WRITE], 1);
	free(buffer);
	env_done(&env);
}

static void flush_and_fua(void **state)
{
	uint8_t buffer[BLOCK] = {1};
	struct op op;
	struct env env;

	(void)state;
	env_init(&env);
	assert_int_equal(run(&env, NVME_IO_FLUSH, 0, NULL, 0), 0);
	op_init(&op, NVME_IO_FLUSH, 0, NULL, 0);
	op.cmd.sqe.nsid = NVME_NSID_ALL;
	assert_int_equal(op_run(&env, &op), 0);
	assert_int_equal(env.dev.count[BLK_FLUSH], 2);
	assert_int_equal(run(&env, NVME_IO_WRITE, 0, buffer, BLOCK), 0);
	assert_int_equal(env.dev.fua_count, 0);
	op_init(&op, NVME_IO_WRITE, 0, buffer, BLOCK);
	op.cmd.sqe.cdw12 |= NVME_RW_FUA;
	assert_int_equal(op_run(&env, &op), 0);
	assert_int_equal(env.dev.fua_count, 1);
	env_done(&env);
}

static void zeroes_and_ranges(void **state)
{
	struct nvme_dsm_range ranges[4] = {
		{.lba = 10, .blocks = 2}, {.lba = 3, .blocks = 0}, {.lba = 20, .blocks = 1}};
	struct op op;
	struct env env;

	(void)state;
	env_init(&env);
	memset(env.dev.memory, 0x55, DEV_BYTES);
	op_init(&op, NVME_IO_WRITE_ZEROES, 100, NULL, 0);
	op.cmd.sqe.cdw12 = 999;
	assert_int_equal(op_run(&env, &op), 0);
	assert_true(bytes_are_zero(env.dev.memory + 100 * BLOCK, 1000 * BLOCK));
	assert_int_equal(env.dev.memory[1100 * BLOCK], 0x55);
	op_init(&op, NVME_IO_WRITE_ZEROES, 1100, NULL, 0);
	op.cmd.sqe.cdw12 = NVME_WZ_DEALLOCATE;
	assert_int_equal(op_run(&env, &op), 0);
	assert_int_equal(env.dev.count[BLK_ZERO], 1);
	assert_int_equal(env.dev.count[BLK_DISCARD], 1);

	op_init(&op, NVME_IO_DATASET_MANAGEMENT, 0, ranges, sizeof(ranges[0]) * 3);
	op.cmd.sqe.cdw10 = 2;
	op.cmd.sqe.cdw11 = NVME_DSM_DEALLOCATE;
	assert_int_equal(op_run(&env, &op), 0);
	assert_int_equal(env.dev.count[BLK_DISCARD], 3);
	assert_true(bytes_are_zero(env.dev.memory + 10 * BLOCK, 2 * BLOCK));
	assert_int_equal(env.dev.memory[12 * BLOCK], 0x55);
	assert_true(bytes_are_zero(env.dev.memory + 20 * BLOCK, BLOCK));

	/* One bad range: nothing is done. */
	ranges[2].lba = DEV_BYTES / BLOCK;
	ranges[0].lba = 30;
	op.is_done = false;
	assert_int_equal(op_run(&env, &op), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(env.dev.memory[30 * BLOCK], 0x55);
	op.is_done = false;
	op.cmd.sqe.cdw10 = 3;
	assert_int_equal(op_run(&env, &op), NVME_SC_DATA_SGL_LENGTH_INVALID);
	env_done(&env);
}

static void compare(void **state)
{
	uint32_t length = 512 * 1024;
	uint8_t *buffer = malloc(length);
	struct op ops[8];
	unsigned count = 0;
	struct env env;

	(void)state;
	env_init_pool(&env, 1, 4 << 20);
	env_connect(&env);
	fill(buffer, length, 9);
	assert_int_equal(run(&env, NVME_IO_WRITE, 0, buffer, length), 0);
	assert_int_equal(run(&env, NVME_IO_COMPARE, 0, buffer, length), 0);
	env.dev.memory[length - 1] ^= 1;
	assert_int_equal(run(&env, NVME_IO_COMPARE, 0, buffer, length), NVME_SC_COMPARE_FAILURE);
	assert_int_equal(run(&env, NVME_IO_COMPARE, 0, buffer, BLOCK), 0);
	/* Many at a time with a pool that their data fill. */
	for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
		op_init(&ops[i], NVME_IO_COMPARE, 0, buffer, length);
		ops[i].count = &count;
		nvmeh_submit(env.assoc, &ops[i].cmd);
	}
	sim_run_for_ns(env.sim, SECONDS(5));
	assert_int_equal(count, ARRAY_COUNT(ops));
	for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
		assert_int_equal(ops[i].cmd.status, NVME_SC_COMPARE_FAILURE);
	}
	free(buffer);
	env_done(&env);
}

static void results_as_status(void **state)
{
	static const struct {
		int result;
		uint8_t opcode;
		uint16_t status;
		bool dnr;
	} rows[] = {
		{-ENOSPC, NVME_IO_WRITE, NVME_SC_CAPACITY_EXCEEDED, true},
		{-ERANGE, NVME_IO_WRITE, NVME_SC_LBA_OUT_OF_RANGE, true},
		{-EIO, NVME_IO_WRITE, NVME_SC_WRITE_FAULT, false},
		{-EIO, NVME_IO_READ, NVME_SC_UNRECOVERED_READ_ERROR, false},
		{-EIO, NVME_IO_COMPARE, NVME_SC_UNRECOVERED_READ_ERROR, false},
		{-ESHUTDOWN, NVME_IO_READ, NVME_SC_NAMESPACE_NOT_READY, false},
		{-EROFS, NVME_IO_WRITE, NVME_SC_NAMESPACE_WRITE_PROTECTED, true},
		{-ENOMEM, NVME_IO_WRITE, NVME_SC_INTERNAL_ERROR, false},
	};
	uint8_t buffer[BLOCK] = {0};
	struct env env;

	(void)state;
	env_init(&env);
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct op op;

		env.dev.result = rows[i].result;
		op_init(&op, rows[i].opcode, 0, buffer, BLOCK);
		assert_int_equal(op_run(&env, &op), rows[i].status);
		assert_int_equal(op.cmd.dnr, rows[i].dnr);
	}
	env_done(&env);
}

/* ---- load ---- */

/* Every operation writes and then reads its own place; more of them than jobs, slots and buffers.
 */
static void many(struct env *env, uint32_t length, unsigned ops_count, uint8_t opcode)
{
	static struct op ops[OPS_MAX];
	uint8_t *buffer = malloc((size_t)length * ops_count);
	unsigned count = 0;

	fill(buffer, (size_t)length * ops_count, 77);
	for (unsigned i = 0; i < ops_count; i++) {
		op_init(&ops[i], opcode, (uint64_t)i * length / BLOCK, buffer + (size_t)i * length,
			length);
		ops[i].count = &count;
		nvmeh_submit(env->assoc, &ops[i].cmd);
	}
	for (unsigned i = 0; i < 100 && count < ops_count; i++) {
		sim_run_for_ns(env->sim, SECONDS(1));
	}
	assert_int_equal(count, ops_count);
	for (unsigned i = 0; i < ops_count; i++) {
		assert_int_equal(ops[i].cmd.result, 0);
		assert_int_equal(ops[i].cmd.status, 0);
	}
	assert_memory_equal(buffer, env->dev.memory, (size_t)length * ops_count);
	free(buffer);
}

/* A pool of one buffer: reads, writes by R2T and in-capsule writes all get through. */
static void pool_is_short(void **state)
{
	struct env env;

	(void)state;
	env_init_pool(&env, 3, 1 << 20);
	env.options.io_queues = 2;
	env_connect(&env);
	many(&env, 1 << 20, 16, NVME_IO_WRITE);
	many(&env, 1 << 20, 16, NVME_IO_READ);
	many(&env, 4096, 512, NVME_IO_WRITE);
	many(&env, 4096, 512, NVME_IO_READ);
	many(&env, 12288, 300, NVME_IO_WRITE);
	env_done(&env);
}

/* All buffers belong to writes that wait for data which come behind in-capsule writes. */
static void no_deadlock_behind_capsules(void **state)
{
	static struct op ops[200];
	uint8_t *large = malloc(1 << 20), *small = malloc(BLOCK);
	unsigned count = 0;
	struct env env;

	(void)state;
	env_init_pool(&env, 4, 1 << 20);
	env_connect(&env);
	fill(large, 1 << 20, 5);
	fill(small, BLOCK, 6);
	for (unsigned i = 0; i < ARRAY_COUNT(ops); i++) {
		op_init(&ops[i], NVME_IO_WRITE, i % 4 == 0 ? 0 : 1024 + i,
			i % 4 == 0 ? large : small, i % 4 == 0 ? 1 << 20 : BLOCK);
		ops[i].count = &count;
		nvmeh_submit(env.assoc, &ops[i].cmd);
	}
	sim_run_for_ns(env.sim, SECONDS(20));
	assert_int_equal(count, ARRAY_COUNT(ops));
	assert_memory_equal(env.dev.memory, large, 1 << 20);
	assert_memory_equal(env.dev.memory + 1025 * BLOCK, small, BLOCK);
	free(large);
	free(small);
	env_done(&env);
}

static void answers_are_batched(void **state)
{
	struct nvmet_stats before, after;
	struct env env;

	(void)state;
	env_init(&env);
	nvmet_get_stats(env.target, &before);
	many(&env, 4096, 512, NVME_IO_WRITE);
	nvmet_get_stats(env.target, &after);
	assert_int_equal(after.commands - before.commands, 512);
	/* Fewer than one send for four commands, and as few receives. */
	assert_true(after.sends - before.sends < 128);
	env_done(&env);
}

/* ---- the end of things ---- */

static void connection_goes_while_executing(void **state)
{
	uint8_t buffer[BLOCK] = {7};
	struct op op;
	struct env env;

	(void)state;
	env_init(&env);
	env.dev.hold = true;
	op_init(&op, NVME_IO_WRITE, 1, buffer, BLOCK);
	nvmeh_submit(env.assoc, &op.cmd);
	sim_run_for_ns(env.sim, SECONDS(1));
	assert_int_equal(env.dev.in_flight, 1);
	nvmeh_close(env.assoc);
	assert_true(sim_run_until_flag(env.sim, &env.closed, SECONDS(5)));
	assert_int_equal(op.cmd.result, -ECONNRESET);
	nvmet_blk_remove(env.blk, set_flag, &env.blk_removed);
	sim_run_for_ns(env.sim, SECONDS(5));
	assert_false(env.blk_removed);
	env.dev.hold = false;
	task_wake(&env.dev.task);
	assert_true(sim_run_until_flag(env.sim, &env.blk_removed, SECONDS(5)));
	assert_int_equal(env.dev.memory[BLOCK], 7);
	env.blk = NULL;
	env_done(&env);
}

struct second {
	struct nvmeh *assoc;
	bool ready, failed, closed;
};

static void second_ready(struct nvmeh *assoc)
{
	((struct second *)nvmeh_ctx(assoc))->ready = true;
}

static void second_failed(struct nvmeh *assoc, int code, const char *reason)
{
	(void)code;
	(void)reason;
	((struct second *)nvmeh_ctx(assoc))->failed = true;
}

static void second_closed(struct nvmeh *assoc)
{
	((struct second *)nvmeh_ctx(assoc))->closed = true;
}

static void second_connect(struct env *env, struct second *second)
{
	struct nvmeh_options options = env->options;

	*second = (struct second){0};
	options.ready = second_ready;
	options.failed = second_failed;
	options.closed = second_closed;
	options.connect_timeout_ns = SECONDS(60);
	options.ctx = second;
	assert_int_equal(nvmeh_new(sim_process_io(env->client), &options, &second->assoc), 0);
}

static void second_close(struct env *env, struct second *second)
{
	nvmeh_close(second->assoc);
	assert_true(sim_run_until_flag(env->sim, &second->closed, SECONDS(5)));
}

/* A host begins anew when what it had begun before is over, and not before. */
static void new_association_ends_the_old_one(void **state)
{
	uint8_t buffer[BLOCK] = {7};
	struct second second;
	struct op op;
	struct env env;

	(void)state;
	env_init(&env);
	env.dev.hold = true;
	op_init(&op, NVME_IO_WRITE, 1, buffer, BLOCK);
	nvmeh_submit(env.assoc, &op.cmd);
	sim_run_for_ns(env.sim, SECONDS(1));
	second_connect(&env, &second);
	assert_true(sim_run_until_flag(env.sim, &env.failed, SECONDS(5)));
	sim_run_for_ns(env.sim, SECONDS(5));
	assert_false(second.ready);
	env.dev.hold = false;
	task_wake(&env.dev.task);
	assert_true(sim_run_until_flag(env.sim, &second.ready, SECONDS(5)));
	assert_int_equal(env.dev.memory[BLOCK], 7);
	assert_int_equal(op.cmd.result, -ECONNRESET);
	second_close(&env, &second);
	env_done(&env);
}

/* Another host's is its own. */
static void other_hosts_stay(void **state)
{
	struct second second;
	struct env env;

	(void)state;
	env_init(&env);
	(void)snprintf(env.options.hostnqn, sizeof(env.options.hostnqn), "nqn.test:other");
	second_connect(&env, &second);
	assert_true(sim_run_until_flag(env.sim, &second.ready, SECONDS(5)));
	sim_run_for_ns(env.sim, SECONDS(1));
	assert_false(env.failed);
	second_close(&env, &second);
	env_done(&env);
}

/* Hosts without a name are not one host. */
static void unnamed_hosts_stay(void **state)
{
	struct second second, third;
	struct env env;

	(void)state;
	env_init(&env);
	env.options.hostnqn[0] = '\0';
	second_connect(&env, &second);
	assert_true(sim_run_until_flag(env.sim, &second.ready, SECONDS(5)));
	second_connect(&env, &third);
	assert_true(sim_run_until_flag(env.sim, &third.ready, SECONDS(5)));
	sim_run_for_ns(env.sim, SECONDS(1));
	assert_false(second.failed);
	second_close(&env, &second);
	second_close(&env, &third);
	env_done(&env);
}

/* It is not waited for without end; and the target may go meanwhile. */
static void new_association_waits_in_vain(void **state)
{
	uint8_t buffer[BLOCK] = {7};
	struct second second;
	struct op op;
	struct env env;

	(void)state;
	env_init(&env);
	env.dev.hold = true;
	op_init(&op, NVME_IO_WRITE, 1, buffer, BLOCK);
	nvmeh_submit(env.assoc, &op.cmd);
	sim_run_for_ns(env.sim, SECONDS(1));
	second_connect(&env, &second);
	assert_true(sim_run_until_flag(env.sim, &second.failed, SECONDS(20)));
	second_close(&env, &second);
	second_connect(&env, &second);
	sim_run_for_ns(env.sim, SECONDS(1));
	nvmet_blk_remove(env.blk, set_flag, &env.blk_removed);
	sim_run_for_ns(env.sim, SECONDS(1));
	env.dev.hold = false;
	task_wake(&env.dev.task);
	assert_true(sim_run_until_flag(env.sim, &env.blk_removed, SECONDS(5)));
	assert_true(sim_run_until_flag(env.sim, &second.failed, SECONDS(5)));
	env.blk = NULL;
	second_close(&env, &second);
	env_done(&env);
}

/* The answer is sent, the buffer stays until the device gives it back. */
static void late_release(void **state)
{
	uint8_t buffer[BLOCK] = {7};
	struct env env;

	(void)state;
	env_init(&env);
	env.dev.hold_release = true;
	assert_int_equal(run(&env, NVME_IO_WRITE, 1, buffer, BLOCK), 0);
	assert_int_equal(run(&env, NVME_IO_WRITE, 2, buffer, BLOCK), 0);
	assert_int_equal(bufpool_used_bytes(env.pool), 2 * BLOCK);
	env.dev.hold_release = false;
	task_wake(&env.dev.task);
	sim_run_for_ns(env.sim, SECONDS(1));
	assert_int_equal(bufpool_used_bytes(env.pool), 0);
	env_done(&env);
}

static void remove_drops_hosts(void **state)
{
	struct env env;

	(void)state;
	env_init(&env);
	nvmet_blk_remove(env.blk, set_flag, &env.blk_removed);
	assert_true(sim_run_until_flag(env.sim, &env.blk_removed, SECONDS(5)));
	assert_true(sim_run_until_flag(env.sim, &env.failed, SECONDS(5)));
	env.blk = NULL;
	env_done(&env);
}

static void same_nqn_twice(void **state)
{
	const struct uuid uuid = {{9}};
	struct nvmet_blk *second;
	struct err err;
	struct env env;

	(void)state;
	env_init(&env);
	assert_int_equal(nvmet_blk_new(env.target, sim_process_io(env.server), &env.dev.dev, NQN,
				 &uuid, &second, &err),
		-EEXIST);
	env_done(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(too_large_and_out_of_range),
		cmocka_unit_test(flush_and_fua),
		cmocka_unit_test(zeroes_and_ranges),
		cmocka_unit_test(compare),
		cmocka_unit_test(results_as_status),
		cmocka_unit_test(pool_is_short),
		cmocka_unit_test(no_deadlock_behind_capsules),
		cmocka_unit_test(answers_are_batched),
		cmocka_unit_test(connection_goes_while_executing),
		cmocka_unit_test(new_association_ends_the_old_one),
		cmocka_unit_test(other_hosts_stay),
		cmocka_unit_test(unnamed_hosts_stay),
		cmocka_unit_test(new_association_waits_in_vain),
		cmocka_unit_test(late_release),
		cmocka_unit_test(remove_drops_hosts),
		cmocka_unit_test(same_nqn_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
