/* SPDX-License-Identifier: Apache-2.0 */
/* What a voter keeps: ACCEPT, MARK, RESYNCED, RESIZE; what data commands and plain ones may do. */
#include "base/bytes.h"
#include "base/testing.h"
#include "pool-agent/testing/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void fence(struct host *host, uint32_t attach, uint32_t inc, uint32_t session)
{
	struct token token = token_make(attach, inc, session);
	struct wire_voter_state state;

	assert_int_equal(host_fence(host, &token, &state), 0);
}

static struct vmeta vmeta_of(struct host *host)
{
	struct wire_voter_state state;

	assert_int_equal(host_voter_state(host, host->world->nsid, &state), 0);
	return state.vmeta;
}

static void test_accept_rules(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 2, true);
	struct cfg bad;
	struct host host;

	host_start(&host, world, 1);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), WIRE_STATUS_STALE_TOKEN);
	fence(&host, 1, 1, 1);
	assert_int_equal(host_accept(&host, world->nsid, 0, &cfg), WIRE_STATUS_STALE_TOKEN);

	bad = cfg; /* another epoch than the token's */
	bad.epoch.inc++;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg;
	bad.epoch.nonce++;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* not a voter of it */
	bad.voters[0].id.b[0]++;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* a voter of another kind */
	bad.voters[0].kind = VOTER_ARBITER;
	bad.voters[0].insync = false;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* larger than the replica */
	bad.size_bytes += 4096;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* written by a later version */
	bad.min_version = 1000;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* none */
	bad.gen = 0;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* nonsense */
	bad.voter_count = 0;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), NVME_SC_INVALID_FIELD);
	assert_int_equal(vmeta_of(&host).cfg.gen, 0);

	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	bad = cfg; /* the same number, another content */
	bad.wgen++;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* older */
	bad.gen = 1;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad = cfg; /* another lineage */
	bad.gen = 3;
	bad.lineage++;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), WIRE_STATUS_REFUSED);
	bad.lineage--;
	assert_int_equal(host_accept(&host, world->nsid, 1, &bad), 0);
	/* A newer epoch begins at generation 1. */
	fence(&host, 1, 2, 1);
	token = token_make(1, 2, 1);
	cfg = cfg_make(world, &token, 1, false);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	{
		struct vmeta vmeta = vmeta_of(&host);

		assert_true(cfg_equal(&vmeta.cfg, &cfg));
	}
	host_close(&host);
}

/* The configuration that removes a voter is accepted by it, also when it was being rebuilt, and
 * shown to whoever fences it; by one that never had any it is not. */
static void test_accept_of_its_own_removal(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, false);
	struct cfg without = cfg;
	struct host host;
	struct vmeta vmeta;

	without.gen = 2;
	without.voters[0].id.b[0]++;
	without.voters[0].insync = true;
	host_start(&host, world, 1);
	fence(&host, 1, 1, 1);
	assert_int_equal(host_accept(&host, world->nsid, 1, &without), WIRE_STATUS_REFUSED);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_int_equal(host_mark(&host, 1, 0, true), 0);
	assert_int_equal(host_accept(&host, world->nsid, 1, &without), 0);
	vmeta = vmeta_of(&host);
	assert_true(cfg_equal(&vmeta.cfg, &without));
	assert_true(vmeta.rebuilding);
	/* Older ones do not bring it back. */
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), WIRE_STATUS_REFUSED);
	cfg.gen = 3;
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	host_close(&host);
}

static void test_accept_while_rebuilding_needs_k(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, false);
	struct host host;
	struct vmeta vmeta;

	host_start(&host, world, 1);
	fence(&host, 1, 1, 1);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_int_equal(host_mark(&host, 1, 0, true), 0);
	assert_int_equal(host_mark(&host, 1, 0, true), 0);
	assert_int_equal(host_mark(&host, 1, 1, false), WIRE_STATUS_REFUSED);
	/* Outside of S: no k is needed. */
	cfg.gen = 2;
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_true(vmeta_of(&host).rebuilding);
	cfg = cfg_make(world, &token, 3, true);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), WIRE_STATUS_REFUSED);
	/* The generation that is being written cannot be clean. */
	assert_int_equal(host_accept_k(&host, 1, &cfg, cfg.wgen), WIRE_STATUS_REFUSED);
	assert_int_equal(host_accept_k(&host, 1, &cfg, 3), 0);
	vmeta = vmeta_of(&host);
	assert_false(vmeta.rebuilding);
	assert_int_equal(vmeta.clean, 3);
	assert_int_equal(vmeta.cfg.gen, 3);
	host_close(&host);
}

static void test_mark_only_rises(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, true);
	struct host host;

	host_start(&host, world, 1);
	fence(&host, 1, 1, 1);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_int_equal(host_mark(&host, 2, 3, false), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_mark(&host, 1, 3, false), 0);
	assert_int_equal(host_mark(&host, 1, 2, false), 0);
	assert_int_equal(vmeta_of(&host).clean, 3);
	assert_int_equal(host_mark(&host, 1, cfg.wgen, false), WIRE_STATUS_REFUSED);
	assert_int_equal(host_mark(&host, 1, cfg.wgen - 1, false), 0);
	assert_int_equal(vmeta_of(&host).clean, 4);
	host_close(&host);
}

static uint16_t resynced(struct host *host, uint32_t nsid, uint32_t session, uint64_t boot)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	uint16_t status;

	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe = (struct nvme_sqe){
		.opcode = WIRE_RESYNCED,
		.nsid = nsid,
		.cdw2 = session,
		.cdw10 = (uint32_t)boot,
		.cdw11 = (uint32_t)(boot >> 32),
	};
	status = command_run(host, command, 0);
	free(command);
	return status;
}

static void test_resynced_is_for_this_boot(void **ctx)
{
	struct world *world = *ctx;
	struct host host;
	uint64_t boot;

	host_start(&host, world, 1);
	boot = host_boot(&host);
	fence(&host, 1, 1, 1);
	assert_int_equal(resynced(&host, world->nsid, 1, boot), 0);
	assert_int_equal(resynced(&host, world->nsid, 1, boot + 1), WIRE_STATUS_REFUSED);
	assert_int_equal(resynced(&host, world->nsid, 2, boot), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(resynced(&host, 88, 1, boot), NVME_SC_INVALID_NAMESPACE);
	host_close(&host);
}

static void start(struct host *host, struct world *world)
{
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, true);

	host_start(host, world, 1);
	fence(host, 1, 1, 1);
	assert_int_equal(host_accept(host, world->nsid, 1, &cfg), 0);
}

static void test_stamps_follow_writes(void **ctx)
{
	struct world *world = *ctx;
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct host host;

	start(&host, world);
	assert_int_equal(host_write(&host, 1, 3 * WORLD_REGION_BYTES / 4096, 0x55), 0);
	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe = (struct nvme_sqe){
		.opcode = WIRE_STAMPS, .nsid = world->nsid, .cdw2 = 1, .cdw10 = 2, .cdw11 = 3};
	assert_int_equal(command_run(&host, command, 24), 0);
	assert_int_equal(le64_get(command->data), 0);
	assert_int_equal(le64_get(command->data + 8), 5);
	assert_int_equal(le64_get(command->data + 16), 0);
	command->cmd.sqe.cdw10 = WORLD_REPLICA_BYTES / WORLD_REGION_BYTES - 2;
	assert_int_equal(command_run(&host, command, 24), NVME_SC_INVALID_FIELD);
	command->cmd.sqe.cdw10 = 0;
	assert_int_equal(command_run(&host, command, 16), NVME_SC_INVALID_FIELD);
	command->cmd.sqe.cdw2 = 9;
	assert_int_equal(command_run(&host, command, 24), WIRE_STATUS_STALE_TOKEN);
	free(command);
	host_close(&host);
}

static void test_write_generation_is_checked(void **ctx)
{
	struct world *world = *ctx;
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct wire_io zero = {
		.opcode = WIRE_WRITE_ZEROES,
		.nsid = world->nsid,
		.session = 1,
		.block_count = 1,
		.wgen_low = 6,
	};
	struct host host;

	host_start(&host, world, 1);
	fence(&host, 1, 1, 1);
	/* No configuration yet. */
	assert_int_equal(host_write(&host, 1, 0, 1), NVME_SC_INVALID_FIELD);
	host_close(&host);
	host_start(&host, world, 1);
	fence(&host, 1, 1, 2);
	{
		struct token token = token_make(1, 1, 2);
		struct cfg cfg = cfg_make(world, &token, 1, true);

		cfg.wgen = (UINT64_C(7) << 32) + 5;
		assert_int_equal(host_accept(&host, world->nsid, 2, &cfg), 0);
	}
	zero.session = 2;
	assert_int_equal(host_io(&host, &zero), NVME_SC_INVALID_FIELD);
	zero.wgen_low = 5;
	assert_int_equal(host_io(&host, &zero), 0);
	assert_true(store_replica_stamp(world->replica, 0) == (UINT64_C(7) << 32) + 5);
	free(command);
	host_close(&host);
}

static void test_ranges_and_lengths_are_checked(void **ctx)
{
	struct world *world = *ctx;
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct wire_io io = {
		.opcode = WIRE_DISCARD,
		.nsid = world->nsid,
		.session = 1,
		.wgen_low = 5,
		.block_count = 1,
	};
	struct host host;

	start(&host, world);
	assert_int_equal(
		host_write(&host, 1, WORLD_REPLICA_BYTES / 4096, 1), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(host_write(&host, 1, UINT64_MAX, 1), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(host_write(&host, 1, WORLD_REPLICA_BYTES / 4096 - 1, 1), 0);
	write_prepare(command, world, 1, 0, 1);
	assert_int_equal(command_run(&host, command, 8192), NVME_SC_DATA_SGL_LENGTH_INVALID);
	/* The whole replica, at once. */
	io.block_count = WORLD_REPLICA_BYTES / 4096;
	assert_int_equal(host_io(&host, &io), 0);
	assert_int_equal(host_read(&host, 1, WORLD_REPLICA_BYTES / 4096 - 1), 0);
	io.block_count++;
	assert_int_equal(host_io(&host, &io), NVME_SC_LBA_OUT_OF_RANGE);
	io = (struct wire_io){.opcode = WIRE_FLUSH, .nsid = world->nsid, .session = 1};
	assert_int_equal(host_io(&host, &io), 0);
	io.opcode = 0x90;
	assert_int_equal(host_io(&host, &io), NVME_SC_INVALID_OPCODE);
	free(command);
	host_close(&host);
}

/* WRITE UNCORRECTABLE is a write in every respect, and reads end as those of a bad sector do. */
static void test_marks(void **ctx)
{
	struct world *world = *ctx;
	struct wire_io io = {
		.opcode = WIRE_WRITE_UNCORRECTABLE,
		.nsid = world->nsid,
		.session = 1,
		.wgen_low = 5,
		.seq = 9,
		.slba = 20,
		.block_count = 2,
	};
	struct vmeta vmeta;
	struct host host;

	start(&host, world);
	assert_int_equal(host_write(&host, 1, 21, 7), 0);
	io.session = 2;
	assert_int_equal(host_io(&host, &io), WIRE_STATUS_STALE_TOKEN);
	io.session = 1;
	io.wgen_low = 1000; /* above the configuration's */
	assert_int_equal(host_io(&host, &io), NVME_SC_INVALID_FIELD);
	assert_int_equal(host_read(&host, 1, 21), 7);
	io.wgen_low = 5;
	assert_int_equal(host_io(&host, &io), 0);
	assert_int_equal(host_read(&host, 1, 21), -NVME_SC_UNRECOVERED_READ_ERROR);
	assert_int_equal(host_read(&host, 1, 22), 0);
	/* The next one to open it hears of them. */
	fence(&host, 1, 1, 2);
	vmeta = vmeta_of(&host);
	assert_int_equal(vmeta.marks.count, 2);
	assert_true(marks_touch(&vmeta.marks, 20, 1));
	assert_int_equal(host_write(&host, 2, 21, 8), 0);
	assert_int_equal(host_read(&host, 2, 21), 8);
	assert_int_equal(host_read(&host, 2, 20), -NVME_SC_UNRECOVERED_READ_ERROR);
	io.session = 2;
	io.block_count = MARKS_MAX + 1;
	assert_int_equal(host_io(&host, &io), WIRE_STATUS_MARKS_FULL);
	assert_int_equal(host_read(&host, 2, 21), 8);
	host_close(&host);
}

static void test_arbiter_votes_and_has_no_data(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, true);
	struct wire_voter_state state;
	struct wire_io io = {.opcode = WIRE_FLUSH, .nsid = world->arbiter_nsid, .session = 1};
	struct host host;

	host_start(&host, world, 1);
	assert_int_equal(
		host_fence_replica(&host, world->arbiter_nsid, &world->arbiter_id, &token, &state),
		0);
	assert_int_equal(state.vmeta.kind, VOTER_ARBITER);
	assert_int_equal(host_accept(&host, world->arbiter_nsid, 1, &cfg), 0);
	assert_int_equal(host_io(&host, &io), NVME_SC_INVALID_OPCODE);
	/* Whatever size the volume is to have. */
	assert_int_equal(host_resize(&host, world->arbiter_nsid, 1, REPL_SIZE_MAX), 0);
	assert_int_equal(host_resize(&host, world->arbiter_nsid, 1, 4096), 0);
	cfg.gen = 2;
	cfg.size_bytes *= 1024;
	assert_int_equal(host_accept(&host, world->arbiter_nsid, 1, &cfg), 0);
	assert_int_equal(resynced(&host, world->arbiter_nsid, 1, state.boot), WIRE_STATUS_REFUSED);
	host_close(&host);
}

static uint64_t size_of(struct host *host)
{
	return vmeta_of(host).size_bytes;
}

static void test_resize_grows_and_stays(void **ctx)
{
	const uint64_t big = 2 * WORLD_REPLICA_BYTES + 4096;
	const uint64_t last = big / 4096 - 1;
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, true);
	struct host host;

	host_start(&host, world, 1);
	assert_int_equal(host_resize(&host, world->nsid, 1, big), WIRE_STATUS_STALE_TOKEN);
	fence(&host, 1, 1, 1);
	assert_int_equal(host_resize(&host, world->nsid, 2, big), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_resize(&host, world->nsid, 1, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(host_resize(&host, world->nsid, 1, big + 1), NVME_SC_INVALID_FIELD);
	assert_int_equal(
		host_resize(&host, world->nsid, 1, REPL_SIZE_MAX + 4096), NVME_SC_INVALID_FIELD);
	assert_int_equal(host_resize(&host, world->nsid, 1, WORLD_REPLICA_BYTES - 4096),
		WIRE_STATUS_REFUSED);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_int_equal(-host_read(&host, 1, last), NVME_SC_LBA_OUT_OF_RANGE);
	cfg.gen = 2;
	cfg.size_bytes = big;
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), WIRE_STATUS_REFUSED);

	assert_int_equal(host_resize(&host, world->nsid, 1, WORLD_REPLICA_BYTES), 0);
	assert_int_equal(size_of(&host), WORLD_REPLICA_BYTES);
	assert_int_equal(host_resize(&host, world->nsid, 1, big), 0);
	assert_int_equal(host_resize(&host, world->nsid, 1, big), 0);
	assert_int_equal(
		host_resize(&host, world->nsid, 1, WORLD_REPLICA_BYTES), WIRE_STATUS_REFUSED);
	assert_int_equal(size_of(&host), big);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_int_equal(host_read(&host, 1, last), 0);
	assert_int_equal(host_write(&host, 1, last, 7), 0);
	assert_int_equal(-host_read(&host, 1, last + 1), NVME_SC_LBA_OUT_OF_RANGE);
	host_close(&host);

	world_crash_agent(world);
	world_start_agent(world);
	host_start(&host, world, 1);
	fence(&host, 1, 2, 1);
	assert_int_equal(size_of(&host), big);
	assert_int_equal(-host_read(&host, 1, last + 1), NVME_SC_LBA_OUT_OF_RANGE);
	host_close(&host);
}

/* Nothing changes when the pool has no room for the stamps: another replica has taken it. */
static void test_resize_of_a_full_pool(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct wire_voter_state state;
	struct store_replica *other;
	struct uuid other_id;
	uint32_t other_nsid;
	struct host host;

	other = world_create_replica(world, VOTER_DATA, "other", &other_id);
	other_nsid = store_replica_slot(other) + 1;
	host_start(&host, world, 1);
	fence(&host, 1, 1, 1);
	assert_int_equal(host_fence_replica(&host, other_nsid, &other_id, &token, &state), 0);
	assert_int_equal(host_resize(&host, other_nsid, 1, REPL_SIZE_MAX), 0);
	assert_int_equal(
		host_resize(&host, world->nsid, 1, REPL_SIZE_MAX), NVME_SC_CAPACITY_EXCEEDED);
	assert_int_equal(size_of(&host), WORLD_REPLICA_BYTES);
	assert_int_equal(
		-host_read(&host, 1, WORLD_REPLICA_BYTES / 4096), NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(host_resize(&host, world->nsid, 1, 2 * WORLD_REPLICA_BYTES), 0);
	host_close(&host);
}

static void test_plain_commands_are_refused(void **ctx)
{
	struct world *world = *ctx;
	static const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE};
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct host host;

	start(&host, world);
	for (unsigned i = 0; i < sizeof(opcodes); i++) {
		memset(command, 0, sizeof(*command));
		command->cmd.sqe.opcode = opcodes[i];
		command->cmd.sqe.nsid = world->nsid;
		assert_int_equal(command_run(&host, command, 4096), NVME_SC_ACCESS_DENIED);
	}
	memset(command, 0, sizeof(*command));
	command->cmd.sqe.opcode = NVME_IO_FLUSH;
	command->cmd.sqe.nsid = world->nsid;
	assert_int_equal(command_run(&host, command, 0), NVME_SC_ACCESS_DENIED);
	assert_int_equal(host_read(&host, 1, 0), 0);
	free(command);
	host_close(&host);
}

static void test_flush_precedes_accept(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 2, true);
	struct sim_disk_faults faults = {.flush_error_percent = 100};
	struct host host;

	start(&host, world);
	assert_int_equal(host_write(&host, 1, 0, 9), 0);
	sim_disk_set_faults(world->disk, &faults);
	assert_true(host_accept(&host, world->nsid, 1, &cfg) != 0);
	assert_int_equal(vmeta_of(&host).cfg.gen, 1);
	host_close(&host);
}

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static void test_export_of_a_free_replica(void **ctx)
{
	struct world *world = *ctx;
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct token token = token_make(1, 1, 1);
	struct agent_replica_status status;
	struct wire_voter_state state;
	struct host nexus, stranger;
	struct err err;
	bool removed = false;

	host_start(&nexus, world, 1);
	assert_int_equal(agent_replica_export(world->agent, world->arbiter, false, &err), -EINVAL);
	assert_int_equal(agent_replica_export(world->agent, world->replica, false, &err), 0);
	assert_int_equal(agent_replica_export(world->agent, world->replica, false, &err), -EEXIST);
	agent_replica_get_status(world->agent, world->replica, &status);
	assert_true(status.exported);
	assert_string_equal(status.export_nqn, "nqn.2025-01.io.strake:volume:db");
	assert_int_equal(host_fence(&nexus, &token, &state), WIRE_STATUS_REFUSED);

	host_connect(&stranger, world, status.export_nqn,
		"nqn.2014-08.org.nvmexpress:uuid:40000000-0000-0000-0000-000000000001");
	assert_true(stranger.ready);
	memset(command, 0, sizeof(*command));
	memset(command->data, 0xab, 4096);
	command->cmd.sqe.opcode = NVME_IO_WRITE;
	command->cmd.sqe.nsid = 1;
	assert_int_equal(command_run(&stranger, command, 4096), 0);
	memset(command->data, 0, 4096);
	command->cmd.sqe.opcode = NVME_IO_READ;
	assert_int_equal(command_run(&stranger, command, 4096), 0);
	assert_int_equal(command->data[4095], 0xab);
	/* A volume that uses it later sees that this region was written. */
	assert_int_equal(store_replica_stamp(world->replica, 0), 1);

	agent_replica_unexport(world->agent, world->replica, set_flag, &removed);
	assert_true(sim_run_until_flag(world->sim, &removed, IO_NS_PER_S));
	assert_int_equal(host_fence(&nexus, &token, &state), 0);
	assert_int_equal(agent_replica_export(world->agent, world->replica, false, &err), -EBUSY);
	host_close(&stranger);
	host_close(&nexus);
	/* It belongs to a volume from its first configuration on. */
	{
		struct cfg cfg;

		token = token_make(1, 2, 1);
		cfg = cfg_make(world, &token, 1, true);
		host_start(&nexus, world, 1);
		fence(&nexus, 1, 2, 1);
		assert_int_equal(host_accept(&nexus, world->nsid, 1, &cfg), 0);
	}
	host_close(&nexus);
	assert_int_equal(agent_replica_export(world->agent, world->replica, false, &err), -EBUSY);
	free(command);
}

static void test_end_while_exported(void **ctx)
{
	struct world *world = *ctx;
	struct err err;

	assert_int_equal(agent_replica_export(world->agent, world->replica, false, &err), 0);
	world_stop_agent(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_accept_rules),
		TEST(test_accept_of_its_own_removal),
		TEST(test_accept_while_rebuilding_needs_k),
		TEST(test_mark_only_rises),
		TEST(test_resynced_is_for_this_boot),
		TEST(test_stamps_follow_writes),
		TEST(test_write_generation_is_checked),
		TEST(test_ranges_and_lengths_are_checked),
		TEST(test_marks),
		TEST(test_arbiter_votes_and_has_no_data),
		TEST(test_resize_grows_and_stays),
		TEST(test_resize_of_a_full_pool),
		TEST(test_plain_commands_are_refused),
		TEST(test_flush_precedes_accept),
		TEST(test_export_of_a_free_replica),
		TEST(test_end_while_exported),
	};

	return cmocka_run_group_tests_name("voter", tests, NULL, NULL);
}
