/* SPDX-License-Identifier: Apache-2.0 */
/* An operator makes a replica the volume, or ends the openings of one. */
#include "base/testing.h"
#include "pool-agent/testing/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP (UINT64_C(1) << 32)

static void change_done(struct agent_change *change)
{
	*(bool *)change->ctx = true;
}

static int recover(struct world *world, struct agent_recovery *recovery)
{
	bool done = false;

	recovery->change.done = change_done;
	recovery->change.ctx = &done;
	agent_replica_recover(world->agent, world->replica, recovery);
	assert_false(done);
	assert_true(sim_run_until_flag(world->sim, &done, IO_NS_PER_S));
	return recovery->change.result;
}

static int fence_for_nobody(struct world *world, uint32_t attach)
{
	struct agent_fencing fencing = {.epoch = {.attach = attach, .inc = 0, .nonce = 99}};
	bool done = false;

	fencing.change.done = change_done;
	fencing.change.ctx = &done;
	agent_replica_fence(world->agent, world->replica, &fencing);
	assert_true(sim_run_until_flag(world->sim, &done, IO_NS_PER_S));
	return fencing.change.result;
}

static const struct vmeta *vmeta_now(const struct world *world)
{
	return store_replica_vmeta(world->replica);
}

/* One member of S in use, with a block written in generation 5. */
static struct cfg in_use(struct world *world, struct host *host)
{
	struct token token = token_make(3, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, true);
	struct wire_voter_state state;

	host_start(host, world, 1);
	assert_int_equal(host_fence(host, &token, &state), 0);
	assert_int_equal(host_accept(host, world->nsid, 1, &cfg), 0);
	assert_int_equal(host_mark(host, 1, 4, false), 0);
	assert_int_equal(host_write(host, 1, 10, 0x35), 0);
	return cfg;
}

static void check_recovered(const struct world *world, const struct cfg *before)
{
	const struct vmeta *vmeta = vmeta_now(world);
	const struct cfg *cfg = &vmeta->cfg;

	assert_int_equal(cfg->lineage, 1234);
	assert_int_equal(cfg->epoch.attach, 4);
	assert_true(epoch_equal(&cfg->epoch, &vmeta->promised));
	assert_int_equal(cfg->gen, 1);
	assert_int_equal(cfg->size_bytes, before->size_bytes);
	assert_int_equal(cfg->wgen, before->wgen + STEP);
	assert_int_equal(cfg->voter_count, 1);
	assert_true(uuid_equal(&cfg->voters[0].id, &world->replica_id));
	assert_true(cfg->voters[0].insync);
	assert_int_equal(cfg->voters[0].power, store_power(world->store));
	assert_int_equal(vmeta->clean, 0);
	assert_false(vmeta->rebuilding);
}

static void test_it_becomes_the_volume(void **ctx)
{
	struct world *world = *ctx;
	struct agent_recovery recovery = {.lineage = 1234};
	struct wire_voter_state state;
	struct token token;
	struct host host, other;
	struct cfg before = in_use(world, &host), after;

	assert_int_equal(recover(world, &recovery), 0);
	assert_int_equal(recovery.attach, 4);
	check_recovered(world, &before);
	/* Who had it has it no more, hears so, and does not get it back. */
	assert_int_equal(host_write(&host, 1, 11, 0x01), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_read(&host, 1, 10), -WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_lost_count(&host, 0), 1);
	token = token_make(3, 9, 9);
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(state.cur.epoch.attach, 4);
	/* Whoever opens it now finds the data, and cannot go on with the old lineage. */
	host_start(&other, world, 2);
	token = token_make(4, 2, 1);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	assert_false(state.window_valid);
	after = state.vmeta.cfg;
	after.epoch = token.epoch;
	before.epoch = token.epoch;
	assert_int_equal(host_accept(&other, world->nsid, 1, &before), WIRE_STATUS_REFUSED);
	assert_int_equal(host_accept(&other, world->nsid, 1, &after), 0);
	assert_int_equal(host_read(&other, 1, 10), 0x35);
	host_close(&host);
	host_close(&other);
}

/* The same again, as when the answer was lost, changes nothing, also when it is in use since. */
static void test_again_is_no_change(void **ctx)
{
	struct world *world = *ctx;
	struct agent_recovery recovery = {.lineage = 1234, .attach = 9, .wgen = 3 * STEP};
	struct wire_voter_state state;
	struct token token = token_make(9, 2, 1);
	struct host host, other;
	struct vmeta before;

	(void)in_use(world, &host);
	assert_int_equal(recover(world, &recovery), 0);
	assert_int_equal(recovery.attach, 9);
	assert_int_equal(vmeta_now(world)->cfg.wgen, 4 * STEP);
	host_start(&other, world, 2);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	before = *vmeta_now(world);
	recovery = (struct agent_recovery){.lineage = 1234};
	assert_int_equal(recover(world, &recovery), 0);
	assert_int_equal(recovery.attach, 9);
	assert_true(vmeta_equal(&before, vmeta_now(world)));
	assert_int_equal(host_read(&other, 1, 10), 0x35);
	host_close(&host);
	host_close(&other);
}

static void test_refusals_change_nothing(void **ctx)
{
	struct world *world = *ctx;
	struct agent_recovery recovery = {.lineage = 1234};
	struct store_replica *replica = world->replica;
	struct vmeta before;
	struct host host;

	/* No volume ever used it. */
	assert_int_equal(recover(world, &recovery), -EINVAL);
	world->replica = world->arbiter;
	assert_int_equal(recover(world, &recovery), -EINVAL);
	world->replica = replica;
	(void)in_use(world, &host);
	assert_int_equal(host_mark(&host, 1, 0, true), 0);
	before = *vmeta_now(world);
	assert_int_equal(recover(world, &recovery), -EBUSY);
	assert_true(vmeta_equal(&before, vmeta_now(world)));
	/* The one who has it notices nothing. */
	assert_int_equal(host_read(&host, 1, 10), 0x35);
	assert_int_equal(host_lost_count(&host, 0), 0);
	recovery.half_rebuilt = true;
	assert_int_equal(recover(world, &recovery), 0);
	assert_false(vmeta_now(world)->rebuilding);
	host_close(&host);
}

static void disk_stick(struct world *world, bool stuck)
{
	struct sim_disk_faults faults = {.stuck = stuck};

	sim_disk_set_faults(world->disk, &faults);
}

/* What was begun under the old lineage ends before the new one begins; who asks with a higher epoch
 * meanwhile gets the new one. */
static void test_older_commands_end_first(void **ctx)
{
	struct world *world = *ctx;
	struct agent_recovery recovery = {.lineage = 1234};
	struct command *write = aligned_alloc(4096, sizeof(*write));
	struct wire_voter_state state;
	struct token token = token_make(7, 1, 1);
	struct host host, other;
	bool done = false;

	(void)in_use(world, &host);
	host_start(&other, world, 2);
	disk_stick(world, true);
	write_prepare(write, world, 1, 10, 0x77);
	command_send(&host, write, 4096);
	sim_run_for_ns(world->sim, 5 * IO_NS_PER_MS);
	recovery.change.done = change_done;
	recovery.change.ctx = &done;
	agent_replica_recover(world->agent, world->replica, &recovery);
	sim_run_for_ns(world->sim, 50 * IO_NS_PER_MS);
	assert_false(done);
	assert_int_equal(host_read(&host, 1, 10), -WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_fence(&other, &token, &state), WIRE_STATUS_BUSY);
	disk_stick(world, false);
	assert_true(sim_run_until_flag(world->sim, &done, IO_NS_PER_S));
	assert_int_equal(recovery.change.result, 0);
	assert_true(write->done);
	assert_int_equal(recovery.attach, 8);
	assert_int_equal(host_fence(&other, &token, &state), WIRE_STATUS_STALE_TOKEN);
	token = token_make(8, 2, 1);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	assert_int_equal(state.vmeta.cfg.lineage, 1234);
	assert_int_equal(host_read(&other, 1, 10), 0x77);
	free(write);
	host_close(&host);
	host_close(&other);
}

/* Durable: a crash right after the answer loses neither it nor the data. */
static void test_survives_a_crash(void **ctx)
{
	struct world *world = *ctx;
	struct agent_recovery recovery = {.lineage = 1234};
	struct wire_voter_state state;
	struct token token = token_make(4, 2, 1);
	struct host host;
	struct cfg before = in_use(world, &host);

	assert_int_equal(recover(world, &recovery), 0);
	host_close(&host);
	world_crash_agent(world);
	world_start_agent(world);
	check_recovered(world, &before);
	host_start(&host, world, 1);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(host_read(&host, 1, 10), 0x35);
	host_close(&host);
}

static void test_fenced_for_nobody(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct token token = token_make(3, 2, 2);
	struct host host;
	struct cfg before = in_use(world, &host);

	assert_int_equal(fence_for_nobody(world, 3), -ESTALE);
	assert_int_equal(host_read(&host, 1, 10), 0x35);
	assert_int_equal(fence_for_nobody(world, 6), 0);
	assert_int_equal(fence_for_nobody(world, 6), 0);
	assert_int_equal(fence_for_nobody(world, 5), -ESTALE);
	assert_int_equal(host_read(&host, 1, 10), -WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_lost_count(&host, 0), 1);
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	assert_true(cfg_equal(&vmeta_now(world)->cfg, &before));
	token = token_make(6, 2, 2);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	host_close(&host);
}

/* A fence needs nothing of the data: also where they cannot be flushed any more nobody goes on. */
static void test_fenced_without_a_flush(void **ctx)
{
	const struct sim_disk_faults faults = {.flush_error_percent = 100};
	struct world *world = *ctx;
	struct agent_recovery recovery = {.lineage = 1234};
	struct host host;

	(void)in_use(world, &host);
	sim_disk_set_faults(world->disk, &faults);
	assert_int_equal(fence_for_nobody(world, 6), 0);
	assert_int_equal(host_read(&host, 1, 10), -WIRE_STATUS_STALE_TOKEN);
	assert_int_not_equal(recover(world, &recovery), 0);
	host_close(&host);
}

static void set_flag(void *flag)
{
	*(bool *)flag = true;
}

/* What is on a replica of a volume that does not use it can be saved, and is not changed by that.
 */
static void test_read_only_export(void **ctx)
{
	struct world *world = *ctx;
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct agent_recovery recovery = {.lineage = 1234};
	struct agent_replica_status status;
	struct wire_voter_state state;
	struct token token = token_make(3, 2, 2);
	struct host host, stranger;
	struct err err;
	bool removed = false;

	(void)in_use(world, &host);
	assert_int_equal(agent_replica_export(world->agent, world->replica, true, &err), -EBUSY);
	assert_int_equal(fence_for_nobody(world, 6), 0);
	assert_int_equal(agent_replica_export(world->agent, world->replica, false, &err), -EBUSY);
	assert_int_equal(agent_replica_export(world->agent, world->replica, true, &err), 0);
	assert_int_equal(recover(world, &recovery), -EBUSY);
	agent_replica_get_status(world->agent, world->replica, &status);
	host_connect(&stranger, world, status.export_nqn,
		"nqn.2014-08.org.nvmexpress:uuid:40000000-0000-0000-0000-000000000001");
	assert_true(stranger.ready);
	memset(command, 0, sizeof(*command));
	memset(command->data, 0xab, 4096);
	command->cmd.sqe.opcode = NVME_IO_WRITE;
	command->cmd.sqe.nsid = 1;
	command->cmd.sqe.cdw10 = 10;
	assert_int_not_equal(command_run(&stranger, command, 4096), 0);
	command->cmd.sqe.opcode = NVME_IO_READ;
	assert_int_equal(command_run(&stranger, command, 4096), 0);
	assert_int_equal(command->data[0], 0x35);
	assert_int_equal(command->data[4095], 0x35);
	agent_replica_unexport(world->agent, world->replica, set_flag, &removed);
	assert_true(sim_run_until_flag(world->sim, &removed, IO_NS_PER_S));
	token = token_make(7, 1, 1);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(host_read(&host, 1, 10), 0x35);
	free(command);
	host_close(&stranger);
	host_close(&host);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_it_becomes_the_volume),
		TEST(test_again_is_no_change),
		TEST(test_refusals_change_nothing),
		TEST(test_older_commands_end_first),
		TEST(test_survives_a_crash),
		TEST(test_fenced_for_nobody),
		TEST(test_fenced_without_a_flush),
		TEST(test_read_only_export),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
