/* SPDX-License-Identifier: Apache-2.0 */
#include "pool-agent/testing/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_NS (30 * IO_NS_PER_S)

static const struct uuid agent_uuid = {.b = {0xa9}};

static void op_done(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static void wait_flag(struct world *world, const bool *flag)
{
	assert_true(sim_run_until_flag(world->sim, flag, TIMEOUT_NS));
}

static void op_init(struct store_op *op, struct world *world)
{
	world->flag = false;
	*op = (struct store_op){.done = op_done, .ctx = &world->flag};
}

static void op_wait(struct store_op *op, struct world *world)
{
	wait_flag(world, &world->flag);
	if (op->result != 0) {
		fail_msg("%s", op->err.text);
	}
}

static void replicas_find(struct world *world)
{
	world->replica = store_replica_find(world->store, &world->replica_id);
	world->arbiter = store_replica_find(world->store, &world->arbiter_id);
	if (world->replica != NULL) {
		world->nsid = store_replica_slot(world->replica) + 1;
		world->arbiter_nsid = store_replica_slot(world->arbiter) + 1;
	}
}

void world_start_agent(struct world *world)
{
	struct agent_options options = {.uuid = agent_uuid};
	struct err err;
	struct store_op op;
	struct io *io;

	world->agent_process = sim_process_new(world->agent_host, "agent");
	io = sim_process_io(world->agent_process);
	world->handle = sim_disk_open(world->disk, world->agent_process);
	snprintf(options.address.host, sizeof(options.address.host), "%s",
		sim_host_address(world->agent_host));
	options.address.port = 4430;
	op_init(&op, world);
	store_open(io, world->handle, &world->store, &op);
	op_wait(&op, world);
	assert_int_equal(agent_new(io, &options, &world->agent, &err), 0);
	assert_int_equal(agent_add_store(world->agent, 0, world->store), 0);
	replicas_find(world);
}

void world_stop_agent(struct world *world)
{
	struct store_op op;

	world->flag = false;
	agent_close(world->agent, set_flag, &world->flag);
	wait_flag(world, &world->flag);
	op_init(&op, world);
	store_close(world->store, &op);
	op_wait(&op, world);
	sim_disk_close(world->handle);
	sim_process_exit(world->agent_process);
	world->agent = NULL;
}

void world_crash_agent(struct world *world)
{
	sim_process_crash(world->agent_process);
	world->agent = NULL;
}

struct store_replica *world_create_replica(
	struct world *world, enum voter_kind kind, const char *name, struct uuid *ret_id)
{
	struct store_replica_options options = {
		.kind = kind,
		.size_bytes = kind == VOTER_DATA ? WORLD_REPLICA_BYTES : 0,
	};
	struct store_replica *replica = NULL;
	struct store_op op;

	uuid_make(&options.replica, sim_rng(world->sim));
	uuid_make(&options.volume, sim_rng(world->sim));
	snprintf(options.name, sizeof(options.name), "%s", name);
	*ret_id = options.replica;
	op_init(&op, world);
	store_replica_create(world->store, &options, &replica, &op);
	op_wait(&op, world);
	agent_replica_added(world->agent, replica);
	return replica;
}

static void pool_format(struct world *world)
{
	struct store_format_options options = {.name = "pool", .region_bytes = WORLD_REGION_BYTES};
	struct sim_process *process = sim_process_new(world->agent_host, "format");
	struct io_disk *handle = sim_disk_open(world->disk, process);
	struct store_op op;

	op_init(&op, world);
	store_format(sim_process_io(process), handle, &options, &op);
	op_wait(&op, world);
	sim_disk_close(handle);
	sim_process_exit(process);
}

int world_setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->sim = sim_new(1, NULL);
	world->agent_host = sim_host_new(world->sim, "10.0.0.1");
	world->nexus_host = sim_host_new(world->sim, "10.0.0.2");
	world->disk = sim_disk_new(world->agent_host, "disk", UINT64_C(512) << 20);
	pool_format(world);
	world_start_agent(world);
	world_create_replica(world, VOTER_DATA, "db", &world->replica_id);
	world_create_replica(world, VOTER_ARBITER, "db", &world->arbiter_id);
	replicas_find(world);
	world->nexus_process = sim_process_new(world->nexus_host, "nexus");
	*state = world;
	return 0;
}

int world_teardown(void **state)
{
	struct world *world = *state;

	if (world->agent != NULL) {
		world_stop_agent(world);
	}
	sim_process_exit(world->nexus_process);
	sim_free(world->sim);
	free(world);
	return 0;
}

/* ---- hosts ---- */

static void host_ready(struct nvmeh *assoc)
{
	((struct host *)nvmeh_ctx(assoc))->ready = true;
}

static void host_failed(struct nvmeh *assoc, int code, const char *reason)
{
	struct host *host = nvmeh_ctx(assoc);

	(void)code;
	host->failed = true;
	snprintf(host->reason, sizeof(host->reason), "%s", reason);
}

static void host_closed(struct nvmeh *assoc)
{
	((struct host *)nvmeh_ctx(assoc))->closed = true;
}

static bool host_is_settled(void *ctx)
{
	struct host *host = ctx;

	return host->ready || host->failed;
}

void world_subnqn(char nqn[NVME_NQN_SIZE])
{
	char id[UUID_TEXT_SIZE];

	snprintf(nqn, NVME_NQN_SIZE, "nqn.2025-01.io.strake:pool-agent:%s",
		uuid_to_text(&agent_uuid, id));
}

void host_connect(struct host *host, struct world *world, const char *subnqn, const char *hostnqn)
{
	struct nvmeh_options options = {
		.io_queues = 1,
		.connect_timeout_ns = 2 * IO_NS_PER_S,
		.ready = host_ready,
		.failed = host_failed,
		.closed = host_closed,
		.ctx = host,
	};

	*host = (struct host){.world = world};
	snprintf(options.address.host, sizeof(options.address.host), "%s",
		sim_host_address(world->agent_host));
	options.address.port = 4430;
	snprintf(options.subnqn, sizeof(options.subnqn), "%s", subnqn);
	snprintf(options.hostnqn, sizeof(options.hostnqn), "%s", hostnqn);
	memcpy(options.hostid, hostnqn + strlen(hostnqn) - sizeof(options.hostid),
		sizeof(options.hostid));
	assert_int_equal(
		nvmeh_new(sim_process_io(world->nexus_process), &options, &host->assoc), 0);
	assert_true(sim_run_until(world->sim, host_is_settled, host, TIMEOUT_NS));
}

struct uuid host_uuid(unsigned number)
{
	return (struct uuid){.b = {[0] = 0x40, [15] = (uint8_t)number}};
}

void host_start(struct host *host, struct world *world, unsigned number)
{
	struct uuid id = host_uuid(number);
	char text[UUID_TEXT_SIZE];
	char hostnqn[NVME_NQN_SIZE];
	char subnqn[NVME_NQN_SIZE];

	snprintf(
		hostnqn, sizeof(hostnqn), "nqn.2025-01.io.strake:host:%s", uuid_to_text(&id, text));
	world_subnqn(subnqn);
	host_connect(host, world, subnqn, hostnqn);
	if (!host->ready) {
		fail_msg("connect: %s", host->reason);
	}
}

void host_close(struct host *host)
{
	nvmeh_close(host->assoc);
	wait_flag(host->world, &host->closed);
	/* The target notices, too. */
	sim_run_for_ns(host->world->sim, 20 * IO_NS_PER_MS);
}

/* ---- commands ---- */

static void command_done(struct nvmeh_cmd *cmd)
{
	((struct command *)cmd->ctx)->done = true;
}

void command_send(struct host *host, struct command *command, uint32_t length)
{
	assert_true(length <= sizeof(command->data));
	command->done = false;
	command->iov = (struct iovec){.iov_base = command->data, .iov_len = length};
	command->cmd.iov = &command->iov;
	command->cmd.iov_count = length > 0;
	command->cmd.length = length;
	command->cmd.done = command_done;
	command->cmd.ctx = command;
	nvmeh_submit(host->assoc, &command->cmd);
}

void command_wait(struct host *host, struct command *command)
{
	wait_flag(host->world, &command->done);
	assert_int_equal(command->cmd.result, 0);
}

uint16_t command_run(struct host *host, struct command *command, uint32_t length)
{
	command_send(host, command, length);
	command_wait(host, command);
	return command->cmd.status;
}

static struct command *command_new(uint8_t opcode, uint32_t nsid, uint32_t session)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));

	assert_non_null(command);
	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe.opcode = opcode;
	command->cmd.sqe.nsid = nsid;
	command->cmd.sqe.cdw2 = session;
	return command;
}

struct token token_make(uint32_t attach, uint32_t inc, uint32_t session)
{
	return (struct token){
		.epoch = {.attach = attach, .inc = inc, .nonce = 1000 * attach + inc},
		.session = session,
	};
}

void fence_prepare(
	struct command *command, uint32_t nsid, const struct uuid *id, const struct token *token)
{
	struct wire_fence_entry entry = {.nsid = nsid, .replica = *id, .token = *token};

	memset(&command->cmd, 0, sizeof(command->cmd));
	command->cmd.admin = true;
	command->cmd.sqe.opcode = WIRE_FENCE;
	command->cmd.sqe.cdw10 = 1;
	wire_fence_entry_encode(&entry, command->data);
}

uint16_t host_voter_state(struct host *host, uint32_t nsid, struct wire_voter_state *ret_state)
{
	struct command *command = command_new(WIRE_VOTER_STATE, nsid, 0);
	uint16_t status = command_run(host, command, WIRE_VOTER_STATE_SIZE);

	if (status == 0) {
		assert_int_equal(wire_voter_state_decode(command->data, ret_state), 0);
	}
	free(command);
	return status;
}

uint32_t host_fence_replica(struct host *host, uint32_t nsid, const struct uuid *id,
	const struct token *token, struct wire_voter_state *ret_state)
{
	struct command *command = command_new(WIRE_FENCE, nsid, 0);

	fence_prepare(command, nsid, id, token);
	assert_int_equal(command_run(host, command, WIRE_FENCE_ENTRY_SIZE), 0);
	assert_int_equal(host_voter_state(host, nsid, ret_state), 0);
	assert_int_equal(command->cmd.dw01, ret_state->status != 0);
	free(command);
	return ret_state->status;
}

uint32_t host_fence(
	struct host *host, const struct token *token, struct wire_voter_state *ret_state)
{
	return host_fence_replica(
		host, host->world->nsid, &host->world->replica_id, token, ret_state);
}

struct cfg cfg_make(const struct world *world, const struct token *token, uint32_t gen, bool insync)
{
	struct cfg cfg = {
		.epoch = token->epoch,
		.gen = gen,
		.lineage = 77,
		.size_bytes = WORLD_REPLICA_BYTES,
		.wgen = 5,
		.voter_count = 2,
	};

	cfg.voters[0] = (struct cfg_voter){.id = world->replica_id, .insync = insync, .power = 1};
	cfg.voters[1] = (struct cfg_voter){.id = world->arbiter_id, .kind = VOTER_ARBITER};
	return cfg;
}

static uint16_t accept_run(struct host *host, struct command *command, const struct cfg *cfg)
{
	uint16_t status;

	cfg_encode(cfg, command->data);
	status = command_run(host, command, CFG_ENCODED_SIZE);
	free(command);
	return status;
}

uint16_t host_accept(struct host *host, uint32_t nsid, uint32_t session, const struct cfg *cfg)
{
	return accept_run(host, command_new(WIRE_ACCEPT, nsid, session), cfg);
}

uint16_t host_accept_k(struct host *host, uint32_t session, const struct cfg *cfg, uint64_t k)
{
	struct command *command = command_new(WIRE_ACCEPT, host->world->nsid, session);

	command->cmd.sqe.cdw10 = (uint32_t)k;
	command->cmd.sqe.cdw11 = (uint32_t)(k >> 32);
	command->cmd.sqe.cdw12 = 1;
	return accept_run(host, command, cfg);
}

uint16_t host_resize(struct host *host, uint32_t nsid, uint32_t session, uint64_t size_bytes)
{
	struct command *command = command_new(WIRE_RESIZE, nsid, session);
	uint16_t status;

	command->cmd.sqe.cdw10 = (uint32_t)size_bytes;
	command->cmd.sqe.cdw11 = (uint32_t)(size_bytes >> 32);
	status = command_run(host, command, 0);
	free(command);
	return status;
}

uint16_t host_mark(struct host *host, uint32_t session, uint64_t clean, bool rebuilding)
{
	struct command *command = command_new(WIRE_MARK, host->world->nsid, session);
	uint16_t status;

	command->cmd.sqe.cdw10 = (uint32_t)clean;
	command->cmd.sqe.cdw11 = (uint32_t)(clean >> 32);
	command->cmd.sqe.cdw12 = rebuilding;
	status = command_run(host, command, 0);
	free(command);
	return status;
}

void host_heartbeat(struct host *host, uint32_t confirmed, struct wire_heartbeat *ret_heartbeat)
{
	struct command *command = command_new(WIRE_HEARTBEAT, 0, 0);

	command->cmd.sqe.cdw10 = confirmed;
	assert_int_equal(command_run(host, command, WIRE_HEARTBEAT_SIZE), 0);
	assert_int_equal(wire_heartbeat_decode(command->data, ret_heartbeat), 0);
	free(command);
}

unsigned host_lost_count(struct host *host, uint32_t confirmed)
{
	struct wire_heartbeat heartbeat;

	host_heartbeat(host, confirmed, &heartbeat);
	return heartbeat.lost_count;
}

uint64_t host_boot(struct host *host)
{
	struct wire_heartbeat heartbeat;

	host_heartbeat(host, 0, &heartbeat);
	return heartbeat.boot;
}

void write_prepare(struct command *command, const struct world *world, uint32_t session,
	uint64_t slba, uint8_t fill)
{
	struct wire_io io = {
		.opcode = WIRE_WRITE,
		.nsid = world->nsid,
		.session = session,
		.wgen_low = 5,
		.seq = 1,
		.slba = slba,
		.block_count = 1,
	};

	memset(&command->cmd, 0, sizeof(command->cmd));
	wire_io_encode(&io, &command->cmd.sqe);
	memset(command->data, fill, 4096);
}

uint16_t host_write(struct host *host, uint32_t session, uint64_t slba, uint8_t fill)
{
	struct command *command = command_new(0, 0, 0);
	uint16_t status;

	write_prepare(command, host->world, session, slba, fill);
	status = command_run(host, command, 4096);
	free(command);
	return status;
}

int host_read(struct host *host, uint32_t session, uint64_t slba)
{
	struct wire_io io = {
		.opcode = WIRE_READ,
		.nsid = host->world->nsid,
		.session = session,
		.slba = slba,
		.block_count = 1,
	};
	struct command *command = command_new(0, 0, 0);
	int result;

	command->cmd.admin = false;
	wire_io_encode(&io, &command->cmd.sqe);
	memset(command->data, 0xee, 4096);
	result = -command_run(host, command, 4096);
	if (result == 0) {
		result = command->data[0];
		for (size_t i = 0; i < 4096; i++) {
			assert_int_equal(command->data[i], result);
		}
	}
	free(command);
	return result;
}

uint16_t host_io(struct host *host, const struct wire_io *io)
{
	struct command *command = command_new(0, 0, 0);
	uint16_t status;

	command->cmd.admin = false;
	wire_io_encode(io, &command->cmd.sqe);
	status = command_run(host, command, 0);
	free(command);
	return status;
}
