/* SPDX-License-Identifier: Apache-2.0 */
/* HASH and STAMP: a replica is compared with another one, and told that it is equal. */
#include "base/bytes.h"
#include "base/testing.h"
#include "pool-agent/testing/world.h"
#include "repl/blockhash.h"

#include <stdlib.h>
#include <string.h>

#define REGION_BLOCKS (WORLD_REGION_BYTES / 4096)

static const uint64_t key[2] = {UINT64_C(0x0123456789abcdef), 42};

static void start(struct host *host, struct world *world)
{
	struct token token = token_make(1, 1, 1);
	struct wire_voter_state state;
	struct cfg cfg = cfg_make(world, &token, 1, true);

	host_start(host, world, 1);
	assert_int_equal(host_fence(host, &token, &state), 0);
	assert_int_equal(host_accept(host, world->nsid, 1, &cfg), 0);
}

static struct command *hash_command_new(
	const struct world *world, uint32_t session, uint64_t slba, uint64_t count)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct wire_io io = {
		.opcode = WIRE_HASH,
		.nsid = world->nsid,
		.session = session,
		.slba = slba,
		.block_count = count,
		.key = {key[0], key[1]},
	};

	memset(command, 0xee, sizeof(*command));
	memset(&command->cmd, 0, sizeof(command->cmd));
	command->done = false;
	wire_io_encode(&io, &command->cmd.sqe);
	return command;
}

static uint16_t host_hash(
	struct host *host, uint32_t session, uint64_t slba, uint64_t count, uint32_t length)
{
	struct command *command = hash_command_new(host->world, session, slba, count);
	uint16_t status = command_run(host, command, length);

	free(command);
	return status;
}

static uint16_t host_stamp(struct host *host, uint32_t session, uint32_t region, uint64_t stamp)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	uint16_t status;

	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe = (struct nvme_sqe){
		.opcode = WIRE_STAMP,
		.nsid = host->world->nsid,
		.cdw2 = session,
		.cdw10 = region,
		.cdw12 = (uint32_t)stamp,
		.cdw13 = (uint32_t)(stamp >> 32),
	};
	status = command_run(host, command, 0);
	free(command);
	return status;
}

static void disk_stick(struct world *world, bool stuck)
{
	struct sim_disk_faults faults = {.stuck = stuck};

	sim_disk_set_faults(world->disk, &faults);
}

static void assert_hash_of(struct command *command, uint64_t at, uint8_t fill)
{
	uint8_t block[4096], bytes[BLOCKHASH_KEY_SIZE], hash[BLOCKHASH_SIZE];

	memset(block, fill, sizeof(block));
	wire_hash_key(key, bytes);
	blockhash_blocks(bytes, block, sizeof(block), 1, hash);
	assert_memory_equal(wire_hash_at(command->data, at), hash, sizeof(hash));
}

/* Of each block by itself, over several parts, holes too; and the stamp of the region. */
static void test_hashes_of_blocks(void **ctx)
{
	struct world *world = *ctx;
	struct command *command = hash_command_new(world, 1, 3, 100);
	struct host host;

	start(&host, world);
	assert_int_equal(host_write(&host, 1, 3, 0x11), 0);
	assert_int_equal(host_write(&host, 1, 60, 0x22), 0);
	assert_int_equal(host_write(&host, 1, 102, 0x33), 0);
	assert_int_equal(command_run(&host, command, WIRE_HASH_SIZE(100)), 0);
	assert_int_equal(wire_hash_stamp(command->data), 5);
	assert_hash_of(command, 0, 0x11);
	assert_hash_of(command, 1, 0);
	assert_hash_of(command, 57, 0x22);
	assert_hash_of(command, 98, 0);
	assert_hash_of(command, 99, 0x33);
	/* A region that was never written. */
	free(command);
	command = hash_command_new(world, 1, REGION_BLOCKS, 1);
	assert_int_equal(command_run(&host, command, WIRE_HASH_SIZE(1)), 0);
	assert_int_equal(wire_hash_stamp(command->data), 0);
	assert_hash_of(command, 0, 0);
	free(command);
	host_close(&host);
}

static void test_hash_is_judged(void **ctx)
{
	struct world *world = *ctx;
	struct host host, other;

	start(&host, world);
	host_start(&other, world, 2);
	assert_int_equal(host_hash(&other, 1, 0, 1, WIRE_HASH_SIZE(1)), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_hash(&host, 2, 0, 1, WIRE_HASH_SIZE(1)), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(
		host_hash(&host, 1, 0, 2, WIRE_HASH_SIZE(1)), NVME_SC_DATA_SGL_LENGTH_INVALID);
	assert_int_equal(host_hash(&host, 1, REGION_BLOCKS - 1, 2, WIRE_HASH_SIZE(2)),
		NVME_SC_INVALID_FIELD);
	assert_int_equal(host_hash(&host, 1, WORLD_REPLICA_BYTES / 4096, 1, WIRE_HASH_SIZE(1)),
		NVME_SC_LBA_OUT_OF_RANGE);
	assert_int_equal(host_hash(&host, 1, 0, WIRE_HASH_BLOCKS_MAX + 1,
				 WIRE_HASH_SIZE(WIRE_HASH_BLOCKS_MAX + 1)),
		NVME_SC_INVALID_OPCODE);
	assert_int_equal(
		host_hash(&host, 1, 0, WIRE_HASH_BLOCKS_MAX, WIRE_HASH_SIZE(WIRE_HASH_BLOCKS_MAX)),
		0);
	host_close(&other);
	host_close(&host);
}

/* What the disk does not give has no hash. */
static void test_unreadable_block(void **ctx)
{
	struct world *world = *ctx;
	struct host host;

	start(&host, world);
	assert_int_equal(host_write(&host, 1, 3, 0x11), 0);
	sim_disk_set_unreadable(world->disk, 0, world->handle->size_bytes, true);
	assert_int_equal(
		host_hash(&host, 1, 0, 8, WIRE_HASH_SIZE(8)), NVME_SC_UNRECOVERED_READ_ERROR);
	sim_disk_set_unreadable(world->disk, 0, world->handle->size_bytes, false);
	assert_int_equal(host_hash(&host, 1, 0, 8, WIRE_HASH_SIZE(8)), 0);
	host_close(&host);
}

/* FENCE waits for those that read, and only for them: who still waits for a hasher is judged when
 * its turn comes, and has lost the replica then. */
static void test_fence_waits_for_hashing(void **ctx)
{
	enum { COUNT = 40 };
	struct world *world = *ctx;
	struct command *commands[COUNT];
	struct token token = token_make(2, 1, 1);
	struct wire_voter_state state;
	struct host host, other;
	unsigned done = 0, stale = 0;

	start(&host, world);
	host_start(&other, world, 2);
	assert_int_equal(host_write(&host, 1, 3, 0x11), 0);
	disk_stick(world, true);
	for (unsigned i = 0; i < COUNT; i++) {
		commands[i] = hash_command_new(world, 1, 0, 8);
		command_send(&host, commands[i], WIRE_HASH_SIZE(8));
	}
	sim_run_for_ns(world->sim, 5 * IO_NS_PER_MS);
	assert_int_equal(host_fence(&other, &token, &state), WIRE_STATUS_BUSY);
	disk_stick(world, false);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		command_wait(&host, commands[i]);
		done += commands[i]->cmd.status == 0;
		stale += commands[i]->cmd.status == WIRE_STATUS_STALE_TOKEN;
		free(commands[i]);
	}
	assert_true(done > 0 && stale > 0);
	assert_int_equal(done + stale, COUNT);
	assert_int_equal(host_hash(&other, 1, 0, 8, WIRE_HASH_SIZE(8)), 0);
	host_close(&other);
	host_close(&host);
}

/* However many commands hang at one replica, and wait for its hashers: another one is hashed. */
static void test_hung_replica_leaves_hashers(void **ctx)
{
	enum { COUNT = 40 };
	struct world *world = *ctx;
	struct command *commands[COUNT], *command;
	struct token token = token_make(1, 1, 1);
	struct wire_voter_state state;
	struct uuid other_id;
	struct store_replica *other = world_create_replica(world, VOTER_DATA, "other", &other_id);
	uint32_t other_nsid = store_replica_slot(other) + 1;
	struct host host;

	start(&host, world);
	assert_int_equal(host_fence_replica(&host, other_nsid, &other_id, &token, &state), 0);
	assert_int_equal(host_write(&host, 1, 3, 0x11), 0);
	disk_stick(world, true);
	for (unsigned i = 0; i < COUNT; i++) {
		commands[i] = hash_command_new(world, 1, 0, 8);
		command_send(&host, commands[i], WIRE_HASH_SIZE(8));
	}
	sim_run_for_ns(world->sim, 5 * IO_NS_PER_MS);
	/* Nothing was written there: no disk is asked. */
	command = hash_command_new(world, 1, 0, 8);
	command->cmd.sqe.nsid = other_nsid;
	command_send(&host, command, WIRE_HASH_SIZE(8));
	sim_run_for_ns(world->sim, 5 * IO_NS_PER_MS);
	assert_true(command->done);
	assert_int_equal(command->cmd.status, 0);
	disk_stick(world, false);
	for (unsigned i = 0; i < COUNT; i++) {
		command_wait(&host, commands[i]);
		assert_int_equal(commands[i]->cmd.status, 0);
		free(commands[i]);
	}
	free(command);
	host_close(&host);
}

/* The association ends, then the agent, while a disk is slow: it waits for its own reads. */
static void test_all_ends_while_hashing(void **ctx)
{
	struct world *world = *ctx;
	struct command *command = hash_command_new(world, 1, 0, 64);
	struct sim_disk_faults slow = {.slow_percent = 100, .slow_max_ns = 100 * IO_NS_PER_MS};
	struct host host;

	start(&host, world);
	assert_int_equal(host_write(&host, 1, 3, 0x11), 0);
	sim_disk_set_faults(world->disk, &slow);
	command_send(&host, command, WIRE_HASH_SIZE(64));
	sim_run_for_ns(world->sim, 5 * IO_NS_PER_MS);
	assert_false(command->done);
	host_close(&host);
	assert_true(command->done);
	assert_true(command->cmd.result != 0);
	world_stop_agent(world);
	world_start_agent(world);
	free(command);
}

/* It rises, durably, and nothing else happens. */
static void test_stamp_rises(void **ctx)
{
	struct world *world = *ctx;
	struct host host;
	uint64_t used;

	start(&host, world);
	used = store_replica_used_bytes(world->replica);
	assert_int_equal(host_stamp(&host, 1, 2, 3), 0);
	assert_int_equal(store_replica_stamp(world->replica, 2), 3);
	assert_int_equal(store_replica_stamp(world->replica, 1), 0);
	assert_int_equal(store_replica_stamp(world->replica, 3), 0);
	assert_int_equal(host_stamp(&host, 1, 2, 2), 0);
	assert_int_equal(store_replica_stamp(world->replica, 2), 3);
	assert_int_equal(host_stamp(&host, 1, 2, 5), 0);
	assert_int_equal(store_replica_stamp(world->replica, 2), 5);
	assert_int_equal(store_replica_used_bytes(world->replica), used);
	host_close(&host);
	world_crash_agent(world);
	world_start_agent(world);
	assert_int_equal(store_replica_stamp(world->replica, 2), 5);
}

static void test_stamp_is_judged(void **ctx)
{
	struct world *world = *ctx;
	struct host host, other;

	start(&host, world);
	host_start(&other, world, 2);
	/* The configuration's wgen is 5: nothing was ever written with a higher one. */
	assert_int_equal(host_stamp(&host, 1, 2, 6), WIRE_STATUS_REFUSED);
	assert_int_equal(host_stamp(&host, 1, 2, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(host_stamp(&host, 1, WORLD_REPLICA_BYTES / WORLD_REGION_BYTES, 3),
		NVME_SC_INVALID_FIELD);
	assert_int_equal(host_stamp(&host, 2, 2, 3), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_stamp(&other, 1, 2, 3), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(store_replica_stamp(world->replica, 2), 0);
	host_close(&other);
	host_close(&host);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_hashes_of_blocks),
		TEST(test_hash_is_judged),
		TEST(test_unreadable_block),
		TEST(test_fence_waits_for_hashing),
		TEST(test_hung_replica_leaves_hashers),
		TEST(test_all_ends_while_hashing),
		TEST(test_stamp_rises),
		TEST(test_stamp_is_judged),
	};

	return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
