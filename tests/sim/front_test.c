/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host that uses the volume over NVMe/TCP, on two paths: two interfaces of one node, with one
 * host NQN.  When a path is lost it sends what was not answered again on the other one, and goes on
 * there (scenario 24).
 */
#include "nvmeh/nvmeh.h"
#include "nvmet/nvmet.h"
#include "tests/sim/scenario.h"

#include <stdio.h>
#include <stdlib.h>

#define NQN      "nqn.2025-01.io.strake:volume:sim"
#define HOST_NQN "nqn.2014-08.org.nvmexpress:uuid:two-paths"
#define PORT     4431

struct path {
	struct sim_process *process;
	struct nvmeh *assoc; /* NULL when it is closed */
	bool ready, failed, closed;
};

/* What is written: to the first blocks, always. */
struct content {
	uint8_t *buffer; /* owned */
	size_t count;
	uint64_t number;
};

struct sent {
	struct nvmeh_cmd cmd;
	struct iovec iov;
	bool done;
};

struct front {
	struct scenario *scenario;
	struct bufpool *buffers;
	struct nvmet *target;
	struct nvmet_blk *blk;
	struct path paths[2];
	struct content w1, w2;
	struct sent sent[3]; /* W1; W1 again, W2 on the other path */
	bool removed, target_closed;
};

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static void wait_flag(struct front *front, const bool *flag)
{
	assert_true(sim_run_until_flag(front->scenario->world.sim, flag, 60 * IO_NS_PER_S));
}

/* ---- the target ---- */

static void front_start(struct front *front, struct scenario *scenario)
{
	struct slot *slot = &scenario->world.slots[0];
	struct io *io;
	struct nvmet_options options = {.address = {.port = PORT}};
	struct err err;

	*front = (struct front){.scenario = scenario};
	scenario_open(scenario, 0);
	await_whole(scenario);
	write_all(scenario);
	io = sim_process_io(slot->process);
	assert_int_equal(bufpool_new(io, 1 << 20, &front->buffers), 0);
	(void)snprintf(options.address.host, sizeof(options.address.host), "%s",
		sim_host_address(slot->host));
	options.buffers = front->buffers;
	assert_int_equal(nvmet_new(io, &options, &front->target, &err), 0);
	assert_int_equal(nvmet_blk_new(front->target, io, volume_blk(slot->volume), NQN,
				 &scenario->world.volume_uuid, &front->blk, &err),
		0);
}

/* ---- the host ---- */

static void path_ready(struct nvmeh *assoc)
{
	((struct path *)nvmeh_ctx(assoc))->ready = true;
}

static void path_failed(struct nvmeh *assoc, int code, const char *reason)
{
	(void)code;
	(void)reason;
	((struct path *)nvmeh_ctx(assoc))->failed = true;
}

static void path_closed(struct nvmeh *assoc)
{
	struct path *path = nvmeh_ctx(assoc);

	path->closed = true;
	path->assoc = NULL;
}

static void path_begin(struct front *front, unsigned which)
{
	struct world *world = &front->scenario->world;
	struct path *path = &front->paths[which];
	struct nvmeh_options options = {
		.address = {.port = PORT},
		.subnqn = NQN,
		.hostnqn = HOST_NQN,
		.io_queues = 1,
		.connect_timeout_ns = 30 * IO_NS_PER_S,
		.ready = path_ready,
		.failed = path_failed,
		.closed = path_closed,
		.ctx = path,
	};

	(void)snprintf(options.address.host, sizeof(options.address.host), "%s",
		sim_host_address(world->slots[0].host));
	path->process = sim_process_new(world->slots[1 + which].host, "host");
	assert_int_equal(nvmeh_new(sim_process_io(path->process), &options, &path->assoc), 0);
}

static void path_connect(struct front *front, unsigned which)
{
	path_begin(front, which);
	wait_flag(front, &front->paths[which].ready);
}

static void path_end(struct front *front, unsigned which)
{
	struct path *path = &front->paths[which];

	if (path->assoc != NULL) {
		nvmeh_close(path->assoc);
		wait_flag(front, &path->closed);
	}
	sim_process_exit(path->process);
}

/* While it is lost, what is on its way stays there. */
static void path_lost(struct front *front, bool lost)
{
	struct world *world = &front->scenario->world;

	sim_partition(world->slots[1].host, world->slots[0].host, lost);
	sim_partition(world->slots[0].host, world->slots[1].host, lost);
}

static void content_make(struct front *front, struct content *content, size_t count)
{
	struct world *world = &front->scenario->world;

	content->count = count;
	(void)oracle_tick(&world->oracle);
	content->buffer = malloc(count * ORACLE_BLOCK_BYTES);
	assert_non_null(content->buffer);
	for (size_t i = 0; i < count; i++) {
		content->number = oracle_write_issued(
			&world->oracle, i, content->number, false, world->slots[0].order);
		oracle_fill(content->buffer + i * ORACLE_BLOCK_BYTES, i, content->number);
	}
}

static void on_written(struct nvmeh_cmd *cmd)
{
	((struct sent *)cmd->ctx)->done = true;
}

static void send_write(
	struct front *front, struct sent *sent, const struct content *content, unsigned path)
{
	size_t length = content->count * ORACLE_BLOCK_BYTES;
	uint32_t block_bytes = volume_blk(scenario_volume(front->scenario))->block_bytes;

	sent->iov = (struct iovec){content->buffer, length};
	sent->cmd = (struct nvmeh_cmd){
		.sqe = {.opcode = NVME_IO_WRITE,
			.nsid = 1,
			.cdw12 = (uint32_t)(length / block_bytes) - 1},
		.iov = &sent->iov,
		.iov_count = 1,
		.length = (uint32_t)length,
		.done = on_written,
		.ctx = sent,
	};
	nvmeh_submit(front->paths[path].assoc, &sent->cmd);
}

/* On path 1; when it is answered, that is what the blocks hold. */
static void do_front_write(struct front *front, struct sent *sent, const struct content *content)
{
	struct world *world = &front->scenario->world;

	send_write(front, sent, content, 1);
	wait_flag(front, &sent->done);
	assert_int_equal(sent->cmd.result, 0);
	assert_int_equal(sent->cmd.status, 0);
	(void)oracle_tick(&world->oracle);
	for (size_t i = 0; i < content->count; i++) {
		assert_int_equal(oracle_write_acked(&world->oracle, i, content->number,
					 world->slots[0].order, false),
			ORACLE_FINE);
	}
}

/* W1 again and W2 on path 1; then what was on its way on path 0 arrives. */
static void go_on(struct front *front)
{
	do_front_write(front, &front->sent[1], &front->w1);
	content_make(front, &front->w2, front->w1.count);
	do_front_write(front, &front->sent[2], &front->w2);
	path_lost(front, false);
	run_ms(front->scenario, 2000);
}

/* Reads what is there, with the oracle's eyes; then all ends cleanly. */
static void front_end(struct front *front)
{
	struct scenario *scenario = front->scenario;

	assert_int_equal(do_read(scenario, 0, front->w1.count), 0);
	if (scenario->world.failed) {
		fail_msg("%s", scenario->result.reason);
	}
	path_end(front, 0);
	path_end(front, 1);
	free(front->w1.buffer);
	free(front->w2.buffer);
	nvmet_blk_remove(front->blk, set_flag, &front->removed);
	wait_flag(front, &front->removed);
	nvmet_close(front->target, set_flag, &front->target_closed);
	wait_flag(front, &front->target_closed);
	bufpool_free(front->buffers);
	await_whole(scenario);
}

/* ---- what happens ---- */

/* W1 is on its way on path 0 when that is lost: all of it, or the target has asked for the data. */
static void late_on_the_old_path(struct scenario *scenario, size_t count)
{
	struct front front;

	front_start(&front, scenario);
	path_connect(&front, 0);
	content_make(&front, &front.w1, count);
	path_lost(&front, count == 1);
	send_write(&front, &front.sent[0], &front.w1, 0);
	sim_run_for_ns(scenario->world.sim, rng_below(sim_rng(scenario->world.sim), IO_NS_PER_MS));
	path_lost(&front, true);
	run_ms(scenario, 1000);
	path_connect(&front, 1);
	go_on(&front);
	front_end(&front);
}

static void test_old_path_writes_late(struct scenario *scenario)
{
	late_on_the_old_path(scenario, 1);
}

static void test_old_path_sends_data_late(struct scenario *scenario)
{
	late_on_the_old_path(scenario, 8);
}

/* W1 is at the replicas, one of which does not answer: the host may not begin anew before that is
 * over. */
static void test_old_path_write_is_executing(struct scenario *scenario)
{
	struct volume_status status;
	struct front front;

	front_start(&front, scenario);
	path_connect(&front, 0);
	content_make(&front, &front.w1, 1);
	disk_stuck(scenario, B, true);
	send_write(&front, &front.sent[0], &front.w1, 0);
	run_ms(scenario, 10);
	path_lost(&front, true);
	path_begin(&front, 1);
	run_ms(scenario, 500);
	assert_false(front.paths[1].ready);
	volume_get_status(scenario_volume(scenario), &status);
	assert_int_equal(status.in_flight, 1);
	disk_stuck(scenario, B, false);
	wait_flag(&front, &front.paths[1].ready);
	volume_get_status(scenario_volume(scenario), &status);
	assert_int_equal(status.in_flight, 0);
	go_on(&front);
	front_end(&front);
}

/* W1 was answered without a replica whose disk is stuck: that one keeps nobody out. */
static void test_old_path_write_was_answered(struct scenario *scenario)
{
	struct volume_status status;
	struct front front;

	front_start(&front, scenario);
	path_connect(&front, 0);
	content_make(&front, &front.w1, 1);
	disk_stuck(scenario, B, true);
	send_write(&front, &front.sent[0], &front.w1, 0);
	wait_flag(&front, &front.sent[0].done);
	assert_int_equal(front.sent[0].cmd.result, 0);
	assert_int_equal(front.sent[0].cmd.status, 0);
	path_lost(&front, true);
	path_begin(&front, 1);
	run_ms(scenario, 5000);
	assert_true(front.paths[1].ready);
	volume_get_status(scenario_volume(scenario), &status);
	assert_int_equal(status.in_flight, 1);
	go_on(&front);
	disk_stuck(scenario, B, false);
	front_end(&front);
}

int main(void)
{
	static const struct scenario_case cases[] = {
		{"test_old_path_writes_late", test_old_path_writes_late, {0}},
		{"test_old_path_sends_data_late", test_old_path_sends_data_late, {0}},
		{"test_old_path_write_is_executing", test_old_path_write_is_executing, {0}},
		{"test_old_path_write_was_answered", test_old_path_write_was_answered, {0}},
	};

	return scenario_run_all("front", cases, ARRAY_COUNT(cases));
}
