/* SPDX-License-Identifier: Apache-2.0 */
/* A host, a scripted controller and the commands between them, for nvmeh's tests.  Header only, as
 * the controller is. */
#ifndef NVMEH_ENV_TEST_H
#define NVMEH_ENV_TEST_H

#include "base/testing.h"
#include "nvmeh/fake_controller.h"
#include "nvmeh/nvmeh.h"
#include "simio/simio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define VENDOR_WRITE 0x81
#define VENDOR_READ  0x82
#define VENDOR_NONE  0x8c

#define SECONDS(n) ((n) * IO_NS_PER_S)

struct env {
	struct sim *sim;
	struct sim_host *hosts[2];
	struct sim_process *process, *peer;
	struct fake *fake;
	struct nvmeh_options options;
	struct nvmeh *assoc;
	bool ready, failed, closed, close_when_failed;
	int code;
	char reason[300];
};

static inline void env_ready(struct nvmeh *assoc)
{
	struct env *env = nvmeh_ctx(assoc);

	assert_false(env->ready);
	env->ready = true;
}

static inline void env_failed(struct nvmeh *assoc, int code, const char *reason)
{
	struct env *env = nvmeh_ctx(assoc);

	assert_false(env->failed);
	env->failed = true;
	env->code = code;
	(void)snprintf(env->reason, sizeof(env->reason), "%s", reason);
	if (env->close_when_failed) {
		nvmeh_close(assoc);
	}
}

static inline void env_closed(struct nvmeh *assoc)
{
	struct env *env = nvmeh_ctx(assoc);

	assert_false(env->closed);
	env->closed = true;
	env->assoc = NULL;
}

static inline void env_init(struct env *env, uint64_t seed)
{
	memset(env, 0, sizeof(*env));
	env->sim = sim_new(seed, NULL);
	env->hosts[0] = sim_host_new(env->sim, "10.0.0.1");
	env->hosts[1] = sim_host_new(env->sim, "10.0.0.2");
	env->process = sim_process_new(env->hosts[0], "host");
	env->peer = sim_process_new(env->hosts[1], "controller");
	env->fake = calloc(1, sizeof(*env->fake));
	assert_non_null(env->fake);
	fake_start(env->fake, sim_process_io(env->peer), "10.0.0.2", 4430);
	env->options = (struct nvmeh_options){
		.address = {"10.0.0.2", 4430},
		.subnqn = "nqn.fake:subsystem",
		.hostnqn = "nqn.fake:host",
		.io_queues = 1,
		.connect_timeout_ns = SECONDS(5),
		.ready = env_ready,
		.failed = env_failed,
		.closed = env_closed,
		.ctx = env,
	};
}

static inline void env_open(struct env *env)
{
	assert_int_equal(nvmeh_new(sim_process_io(env->process), &env->options, &env->assoc), 0);
}

static inline void env_connect(struct env *env)
{
	env_open(env);
	if (!sim_run_until_flag(env->sim, &env->ready, SECONDS(10))) {
		fail_msg("not ready: %s", env->reason);
	}
	assert_false(env->failed);
}

static inline void env_close(struct env *env)
{
	if (env->assoc != NULL) {
		nvmeh_close(env->assoc);
		assert_true(sim_run_until_flag(env->sim, &env->closed, SECONDS(20)));
	}
	sim_process_exit(env->process);
	sim_free(env->sim);
	free(env->fake);
}

/* ---- commands
 * ------------------------------------------------------------------------------------------------
 */

struct op {
	struct nvmeh_cmd cmd;
	struct iovec iov[64];
	unsigned done;
	bool is_done;
	unsigned *count;
};

static inline void op_done(struct nvmeh_cmd *cmd)
{
	struct op *op = cmd->ctx;

	op->done++;
	op->is_done = true;
	if (op->count != NULL) {
		(*op->count)++;
	}
}

static inline void op_init(
	struct op *op, uint8_t opcode, uint32_t block, uint8_t *buffer, uint32_t length)
{
	memset(op, 0, sizeof(*op));
	op->cmd.sqe.opcode = opcode;
	op->cmd.sqe.nsid = 1;
	op->cmd.sqe.cdw10 = block;
	op->cmd.iov = op->iov;
	op->cmd.length = length;
	op->cmd.done = op_done;
	op->cmd.ctx = op;
	if (length > 0) {
		op->iov[0] = (struct iovec){buffer, length};
		op->cmd.iov_count = 1;
	}
}

/* `pieces` parts of nearly the same length, most of them multiples of nothing. */
static inline void op_split(struct op *op, unsigned pieces)
{
	uint8_t *base = op->iov[0].iov_base;
	uint32_t left = op->cmd.length;

	for (unsigned i = 0; i < pieces; i++) {
		uint32_t here = i + 1 == pieces ? left : left / (pieces - i) + (i % 2 ? 3 : 0);

		op->iov[i] = (struct iovec){base, here};
		base += here;
		left -= here;
	}
	op->cmd.iov_count = pieces;
}

static inline void op_run(struct env *env, struct op *op)
{
	nvmeh_submit(env->assoc, &op->cmd);
	assert_false(op->is_done);
	if (!sim_run_until_flag(env->sim, &op->is_done, SECONDS(10))) {
		fail_msg("not done: %s", env->reason);
	}
	assert_int_equal(op->done, 1);
}

static inline void fill(uint8_t *buffer, size_t length, uint64_t seed)
{
	struct rng rng;

	rng_init(&rng, seed);
	for (size_t i = 0; i < length; i++) {
		buffer[i] = (uint8_t)rng_u64(&rng);
	}
}

static inline void write_and_read(struct env *env, uint32_t length, unsigned pieces)
{
	uint8_t *out = malloc(length), *in = malloc(length);
	struct op op;

	fill(out, length, length + pieces);
	memset(in, 0, length);
	op_init(&op, VENDOR_WRITE, 3, out, length);
	op_split(&op, pieces);
	op_run(env, &op);
	assert_int_equal(op.cmd.result, 0);
	assert_int_equal(op.cmd.status, 0);
	assert_int_equal(op.cmd.transferred, length);
	assert_memory_equal(env->fake->store + 3 * FAKE_BLOCK, out, length);
	op_init(&op, VENDOR_READ, 3, in, length);
	op_split(&op, pieces);
	op_run(env, &op);
	assert_int_equal(op.cmd.result, 0);
	assert_int_equal(op.cmd.transferred, length);
	assert_memory_equal(in, out, length);
	free(out);
	free(in);
}

#endif
