/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe/TCP host against a controller that says anything.  Input: 1 byte of options (bit 0
 * header digest, 1 data digest, 2 from the very first byte on instead of after the set-up), then
 * what the controller sends on the connection.  After the set-up the I/O queue has a read of 16 KiB
 * in two pieces (CID 1024), a write of 64 KiB that waits for R2T (CID 1) and a command without data
 * (CID 2).
 */
#define FAKE_BUFFER_BYTES (32u * 1024)
#define FAKE_STORE_BYTES  (64u * 1024)

#include "nvmeh/fake_controller.h"
#include "nvmeh/nvmeh.h"
#include "simio/simio.h"

#include <stdlib.h>

#define COMMANDS 3u

struct run {
	const uint8_t *data;
	size_t size;
	bool ready, failed, closed;
	unsigned done;
	struct fake fake;
	struct nvmeh_cmd cmds[COMMANDS];
	struct iovec iov[3];
	uint8_t buffer[65536];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void run_ready(struct nvmeh *assoc)
{
	struct run *run = nvmeh_ctx(assoc);

	run->ready = true;
}

static void run_failed(struct nvmeh *assoc, int code, const char *reason)
{
	struct run *run = nvmeh_ctx(assoc);

	require(code < 0 && reason[0] != '\0' && !run->failed);
	run->failed = true;
}

static void run_closed(struct nvmeh *assoc)
{
	struct run *run = nvmeh_ctx(assoc);

	run->closed = true;
}

static void cmd_done(struct nvmeh_cmd *cmd)
{
	struct run *run = cmd->ctx;

	run->done++;
}

/* The input instead of an answer. */
static void say(struct fake_conn *conn, const struct run *run)
{
	conn->fake->deaf = true;
	fake_put(conn, run->data, min_u64(run->size, FAKE_BUFFER_BYTES));
}

static bool answer_anything(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	/* The last of the three, so that all are under way. */
	if (nvme_sqe_direction(sqe) != NVME_NO_DATA) {
		return true;
	}
	say(conn, container_of(conn->fake, struct run, fake));
	return true;
}

static void submit_all(struct run *run, struct nvmeh *assoc)
{
	run->iov[0] = (struct iovec){run->buffer, 6000};
	run->iov[1] = (struct iovec){run->buffer + 6000, 16384 - 6000};
	run->iov[2] = (struct iovec){run->buffer, sizeof(run->buffer)};
	run->cmds[0] = (struct nvmeh_cmd){
		.sqe = {.opcode = 0x82}, .iov = run->iov, .iov_count = 2, .length = 16384};
	run->cmds[1] = (struct nvmeh_cmd){.sqe = {.opcode = 0x81},
		.iov = run->iov + 2,
		.iov_count = 1,
		.length = sizeof(run->buffer)};
	run->cmds[2] = (struct nvmeh_cmd){.sqe = {.opcode = 0x8c}};
	for (unsigned i = 0; i < COMMANDS; i++) {
		run->cmds[i].done = cmd_done;
		run->cmds[i].ctx = run;
		nvmeh_submit(assoc, &run->cmds[i]);
	}
}

static void run_in(struct run *run, struct sim *sim, uint8_t mode)
{
	struct sim_host *host = sim_host_new(sim, "10.0.0.1");
	struct sim_process *process = sim_process_new(host, "host");
	struct sim_process *peer = sim_process_new(host, "controller");
	struct nvmeh_options options = {
		.address = {"10.0.0.1", 4430},
		.subnqn = "nqn.fake:subsystem",
		.hostnqn = "nqn.fake:host",
		.io_queues = 1,
		.header_digest = (mode & 1) != 0,
		.data_digest = (mode & 2) != 0,
		.connect_timeout_ns = IO_NS_PER_S,
		.ready = run_ready,
		.failed = run_failed,
		.closed = run_closed,
		.ctx = run,
	};
	struct nvmeh *assoc;

	fake_start(&run->fake, sim_process_io(peer), "10.0.0.1", 4430);
	run->fake.header_digest = options.header_digest;
	run->fake.data_digest = options.data_digest;
	run->fake.misbehave = answer_anything;
	run->fake.mute = (mode & 4) != 0 ? FAKE_MUTE_IC : FAKE_ANSWERS;
	require(nvmeh_new(sim_process_io(process), &options, &assoc) == 0);
	submit_all(run, assoc);
	if ((mode & 4) != 0) {
		while (run->fake.conn_count == 0 && sim_step(sim)) {
		}
		say(&run->fake.conns[0], run);
		fake_conn_send(&run->fake.conns[0]);
	}
	sim_run_for_ns(sim, 3 * IO_NS_PER_S);
	nvmeh_close(assoc);
	sim_run_for_ns(sim, 3 * IO_NS_PER_S);
	require(run->closed && run->done == COMMANDS);
	sim_process_exit(process);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run *run;
	struct sim *sim;

	if (size < 1) {
		return 0;
	}
	run = calloc(1, sizeof(*run));
	require(run != NULL);
	run->data = data + 1;
	run->size = size - 1;
	sim = sim_new(1, NULL);
	run_in(run, sim, data[0]);
	sim_free(sim);
	free(run);
	return 0;
}
