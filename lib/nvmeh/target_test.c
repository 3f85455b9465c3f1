/* SPDX-License-Identifier: Apache-2.0 */
/* Host and target of our own together, over a disk in memory: every combination of digests, random
 * commands, lost connections. */
#include "base/bytes.h"
#include "base/testing.h"
#include "nvmeh/nvmeh.h"
#include "nvmet/nvmet.h"
#include "simio/simio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS(n) ((n) * IO_NS_PER_S)
#define DISK_BYTES (8u * 1024 * 1024)
#define BLOCK      4096u
#define SUBSYSTEM  "nqn.2025-01.io.strake:volume:test"
#define HOST       "nqn.2025-01.io.strake:host:test"

/* ---- a disk in memory: requests are carried out in the next turn
 * ------------------------------------------------ */

struct memory {
	struct blk_dev dev;
	struct task task;
	struct list requests;
	uint8_t *bytes;
	unsigned writes;
};

static void memory_submit(struct blk_dev *dev, struct blk_req *req)
{
	struct memory *memory = container_of(dev, struct memory, dev);

	list_push_back(&memory->requests, &req->node);
	task_wake(&memory->task);
}

static void memory_do(struct memory *memory, struct blk_req *req)
{
	uint8_t *at = memory->bytes + req->offset;

	assert_true(req->offset + req->length <= DISK_BYTES);
	switch (req->kind) {
	case BLK_READ:
	case BLK_WRITE:
		for (unsigned i = 0; i < req->iov_count; i++) {
			if (req->kind == BLK_READ) {
				memcpy(req->iov[i].iov_base, at, req->iov[i].iov_len);
			} else {
				memcpy(at, req->iov[i].iov_base, req->iov[i].iov_len);
			}
			at += req->iov[i].iov_len;
		}
		memory->writes += req->kind == BLK_WRITE;
		break;
	case BLK_ZERO:
	case BLK_DISCARD:
		memset(at, 0, req->length);
		break;
	case BLK_FLUSH:
		break;
	}
}

static void memory_step(struct task *task)
{
	struct memory *memory = container_of(task, struct memory, task);
	struct list_node *node;

	while ((node = list_pop_front(&memory->requests)) != NULL) {
		struct blk_req *req = container_of(node, struct blk_req, node);

		memory_do(memory, req);
		req->result = 0;
		req->done(req);
		req->released(req);
	}
}

static const struct blk_dev_ops memory_ops = {.submit = memory_submit};

/* ---- both sides
 * ----------------------------------------------------------------------------------------------------
 */

struct world {
	struct sim *sim;
	struct sim_process *host, *controller;
	struct memory memory;
	struct bufpool *buffers;
	struct nvmet *target;
	struct nvmet_blk *blk;
	struct nvmeh_options options;
	struct nvmeh *assoc;
	bool ready, failed, closed, target_closed, blk_removed;
	char reason[256];
};

static void world_ready(struct nvmeh *assoc)
{
	((struct world *)nvmeh_ctx(assoc))->ready = true;
}

static void world_failed(struct nvmeh *assoc, int code, const char *reason)
{
	struct world *world = nvmeh_ctx(assoc);

	assert_true(code < 0);
	world->failed = true;
	(void)snprintf(world->reason, sizeof(world->reason), "%s", reason);
}

static void world_closed(struct nvmeh *assoc)
{
	((struct world *)nvmeh_ctx(assoc))->closed = true;
}

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static void target_start(struct world *world)
{
	struct io *io = sim_process_io(world->controller);
	struct nvmet_options options = {.address = {"10.0.0.2", 4431}};
	struct uuid uuid;
	struct err err;

	list_init(&world->memory.requests);
	task_init(&world->memory.task, &io->runq, memory_step);
	world->memory.bytes = calloc(1, DISK_BYTES);
	world->memory.dev = (struct blk_dev){
		.ops = &memory_ops, .size_bytes = DISK_BYTES, .block_bytes = BLOCK};
	assert_int_equal(bufpool_new(io, 8u << 20, &world->buffers), 0);
	options.buffers = world->buffers;
	assert_int_equal(nvmet_new(io, &options, &world->target, &err), 0);
	uuid_make(&uuid, &io->rng);
	assert_int_equal(nvmet_blk_new(world->target, io, &world->memory.dev, SUBSYSTEM, &uuid,
				 &world->blk, &err),
		0);
}

static void world_init(struct world *world, uint64_t seed)
{
	memset(world, 0, sizeof(*world));
	world->sim = sim_new(seed, NULL);
	world->host = sim_process_new(sim_host_new(world->sim, "10.0.0.1"), "host");
	world->controller = sim_process_new(sim_host_new(world->sim, "10.0.0.2"), "target");
	target_start(world);
	world->options = (struct nvmeh_options){
		.address = {"10.0.0.2", 4431},
		.subnqn = SUBSYSTEM,
		.hostnqn = HOST,
		.hostid = {1, 2, 3},
		.io_queues = 2,
		.kato_ms = 5000,
		.connect_timeout_ns = SECONDS(5),
		.ready = world_ready,
		.failed = world_failed,
		.closed = world_closed,
		.ctx = world,
	};
}

static void world_open(struct world *world)
{
	assert_int_equal(nvmeh_new(sim_process_io(world->host), &world->options, &world->assoc), 0);
}

static void world_connect(struct world *world)
{
	world_open(world);
	if (!sim_run_until_flag(world->sim, &world->ready, SECONDS(10))) {
		fail_msg("not ready: %s", world->reason);
	}
}

static void world_done(struct world *world)
{
	nvmeh_close(world->assoc);
	assert_true(sim_run_until_flag(world->sim, &world->closed, SECONDS(10)));
	nvmet_blk_remove(world->blk, set_flag, &world->blk_removed);
	assert_true(sim_run_until_flag(world->sim, &world->blk_removed, SECONDS(10)));
	nvmet_close(world->target, set_flag, &world->target_closed);
	assert_true(sim_run_until_flag(world->sim, &world->target_closed, SECONDS(10)));
	assert_int_equal(bufpool_used_bytes(world->buffers), 0);
	bufpool_free(world->buffers);
	task_done(&world->memory.task);
	sim_process_exit(world->host);
	sim_process_exit(world->controller);
	sim_free(world->sim);
	free(world->memory.bytes);
}

struct op {
	struct nvmeh_cmd cmd;
	struct iovec iov[8];
	bool done;
};

static void op_done(struct nvmeh_cmd *cmd)
{
	struct op *op = cmd->ctx;

	assert_false(op->done);
	op->done = true;
}

static void op_init(struct op *op, uint8_t opcode, uint64_t lba, uint8_t *buffer, uint32_t length)
{
	uint32_t pieces = length >= 3 * BLOCK ? 3 : 1;

	memset(op, 0, sizeof(*op));
	op->cmd.sqe = (struct nvme_sqe){
		.opcode = opcode, .nsid = 1, .cdw10 = (uint32_t)lba, .cdw12 = length / BLOCK - 1};
	op->cmd.iov = op->iov;
	op->cmd.iov_count = pieces;
	op->cmd.length = length;
	op->cmd.done = op_done;
	op->cmd.ctx = op;
	for (uint32_t i = 0, at = 0; i < pieces; i++) {
		uint32_t here = i + 1 == pieces ? length - at : BLOCK;

		op->iov[i] = (struct iovec){buffer + at, here};
		at += here;
	}
}

static void op_run(struct world *world, struct op *op)
{
	nvmeh_submit(world->assoc, &op->cmd);
	if (!sim_run_until_flag(world->sim, &op->done, SECONDS(10))) {
		fail_msg("not done: %s", world->reason);
	}
	assert_int_equal(op->cmd.result, 0);
}

static void what_is_written_is_read(void **state)
{
	static const uint32_t lengths[] = {BLOCK, 2 * BLOCK, 16 * BLOCK, 128 * BLOCK};
	uint8_t *out = malloc(128 * BLOCK), *in = malloc(128 * BLOCK);

	(void)state;
	for (unsigned mode = 0; mode < 4; mode++) {
		struct world world;
		struct op op;

		world_init(&world, mode);
		world.options.header_digest = (mode & 1) != 0;
		world.options.data_digest = (mode & 2) != 0;
		world_connect(&world);
		for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
			for (uint32_t b = 0; b < lengths[i]; b++) {
				out[b] = (uint8_t)rng_u64(sim_rng(world.sim));
			}
			op_init(&op, NVME_IO_WRITE, 5, out, lengths[i]);
			op_run(&world, &op);
			assert_int_equal(op.cmd.status, 0);
			assert_memory_equal(world.memory.bytes + 5 * BLOCK, out, lengths[i]);
			op_init(&op, NVME_IO_READ, 5, in, lengths[i]);
			op.cmd.queue = 1;
			op_run(&world, &op);
			assert_int_equal(op.cmd.status, 0);
			assert_memory_equal(in, out, lengths[i]);
		}
		op_init(&op, NVME_IO_READ, DISK_BYTES / BLOCK, in, BLOCK);
		op_run(&world, &op);
		assert_int_equal(op.cmd.status, NVME_SC_LBA_OUT_OF_RANGE);
		assert_false(world.failed);
		world_done(&world);
	}
	free(out);
	free(in);
}

static void an_unknown_subsystem_is_explained(void **state)
{
	struct world world;

	(void)state;
	world_init(&world, 1);
	(void)snprintf(world.options.subnqn, sizeof(world.options.subnqn), "nqn.other");
	world_open(&world);
	assert_true(sim_run_until_flag(world.sim, &world.failed, SECONDS(10)));
	assert_non_null(strstr(world.reason, "nqn.other"));
	world_done(&world);
}

#define OPS 48u

static void connections_may_break_at_any_time(void **state)
{
	uint8_t *buffer = malloc(OPS * 32 * BLOCK);

	(void)state;
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct world world;
		struct op *ops = calloc(OPS, sizeof(*ops));
		struct rng rng;

		rng_init(&rng, seed);
		world_init(&world, seed);
		world.options.data_digest = rng_percent(&rng, 30);
		world_connect(&world);
		for (unsigned i = 0; i < OPS; i++) {
			uint32_t length = (uint32_t)(1 + rng_below(&rng, 32)) * BLOCK;

			op_init(&ops[i], rng_percent(&rng, 50) ? NVME_IO_WRITE : NVME_IO_READ,
				i * 32, buffer + i * 32 * BLOCK, length);
			ops[i].cmd.queue = (unsigned)rng_below(&rng, 2);
			nvmeh_submit(world.assoc, &ops[i].cmd);
			sim_run_for_ns(world.sim, rng_below(&rng, 50000));
		}
		sim_run_for_ns(world.sim, rng_below(&rng, 300000));
		if (rng_percent(&rng, 70)) {
			(void)sim_cut_random_connection(world.sim);
			sim_run_for_ns(world.sim, rng_below(&rng, SECONDS(1)));
		}
		world_done(&world);
		for (unsigned i = 0; i < OPS; i++) {
			assert_true(ops[i].done);
			assert_true(ops[i].cmd.result == 0 || ops[i].cmd.result == -ECONNRESET);
		}
		free(ops);
	}
	free(buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(an_unknown_subsystem_is_explained),
		cmocka_unit_test(connections_may_break_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
