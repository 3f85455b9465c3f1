/* SPDX-License-Identifier: Apache-2.0 */
/* Who may write: FENCE, sessions, associations, heartbeats. */
#include "base/bytes.h"
#include "base/testing.h"
#include "pool-agent/testing/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The host holds the replica under 1.1 session 1 and has had a first configuration accepted. */
static struct token start(struct host *host, struct world *world)
{
	struct token token = token_make(1, 1, 1);
	struct wire_voter_state state;
	struct cfg cfg = cfg_make(world, &token, 1, true);

	host_start(host, world, 1);
	assert_int_equal(host_fence(host, &token, &state), 0);
	assert_int_equal(host_accept(host, world->nsid, 1, &cfg), 0);
	return token;
}

static void test_fence_grants_and_reports_the_voter(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(3, 4, 9);
	struct wire_voter_state state;
	struct host host;

	host_start(&host, world, 1);
	assert_int_equal(
		host_voter_state(&host, world->nsid, &state), NVME_SC_COMMAND_SEQUENCE_ERROR);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_true(token_equal(&state.cur, &token));
	assert_true(state.power == world->handle->power);
	assert_int_equal(state.region_bytes, WORLD_REGION_BYTES);
	assert_int_equal(state.block_bytes, 4096);
	assert_false(state.window_valid);
	assert_true(epoch_equal(&state.vmeta.promised, &token.epoch));
	assert_int_equal(state.vmeta.cfg.gen, 0);
	assert_true(uuid_equal(&state.vmeta.replica, &world->replica_id));
	/* The same once more: the same answer. */
	assert_int_equal(host_fence(&host, &token, &state), 0);
	host_close(&host);
}

static void test_tokens_only_rise(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host, other;
	struct token token = token_make(2, 5, 3);
	struct token refused[] = {token_make(2, 5, 2), token_make(2, 4, 99), token_make(1, 99, 99)};

	host_start(&host, world, 1);
	host_start(&other, world, 2);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(host_fence(&host, &refused[i], &state), WIRE_STATUS_STALE_TOKEN);
		assert_true(token_equal(&state.cur, &token));
	}
	/* Granted it still is. */
	assert_int_equal(host_fence(&host, &token, &state), 0);
	/* The very token from another association. */
	assert_int_equal(host_fence(&other, &token, &state), WIRE_STATUS_STALE_TOKEN);
	token = token_make(2, 5, 4);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	/* A new epoch may begin at any session. */
	token = token_make(2, 6, 1);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	token = token_make(3, 1, 0);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	host_close(&host);
	host_close(&other);
}

static void test_another_nonce_of_the_same_epoch_is_refused(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct token token = token_make(2, 5, 3);
	struct host host;

	host_start(&host, world, 1);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	token.epoch.nonce++;
	token.session++;
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	token.epoch.inc++;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	host_close(&host);
	/* Also after a restart. */
	world_stop_agent(world);
	world_start_agent(world);
	host_start(&host, world, 1);
	token.epoch.nonce++;
	token.session++;
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	host_close(&host);
}

static void test_wrong_replica_and_unknown_namespace(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct token token = token_make(1, 1, 1);
	struct uuid id = world->replica_id;
	struct host host;
	struct command *command = aligned_alloc(4096, sizeof(*command));

	host_start(&host, world, 1);
	id.b[3]++;
	assert_int_equal(host_fence_replica(&host, world->nsid, &id, &token, &state),
		WIRE_STATUS_WRONG_REPLICA);
	fence_prepare(command, 4711, &id, &token);
	assert_int_equal(command_run(&host, command, WIRE_FENCE_ENTRY_SIZE), 0);
	assert_int_equal(command->cmd.dw01, 1);
	assert_int_equal(host_voter_state(&host, 4711, &state), NVME_SC_INVALID_NAMESPACE);
	/* Lists that lie about their length. */
	fence_prepare(command, world->nsid, &world->replica_id, &token);
	command->cmd.sqe.cdw10 = 2;
	assert_int_equal(command_run(&host, command, WIRE_FENCE_ENTRY_SIZE), NVME_SC_INVALID_FIELD);
	fence_prepare(command, world->nsid, &world->replica_id, &token);
	command->cmd.sqe.cdw10 = 0;
	assert_int_equal(command_run(&host, command, WIRE_FENCE_ENTRY_SIZE), NVME_SC_INVALID_FIELD);
	free(command);
	host_close(&host);
}

static void test_list_is_answered_each_on_its_own(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct wire_fence_entry entry = {.token = token_make(1, 1, 1)};
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct host host;

	host_start(&host, world, 1);
	fence_prepare(command, world->nsid, &world->replica_id, &entry.token);
	entry.nsid = 999;
	wire_fence_entry_encode(&entry, command->data + WIRE_FENCE_ENTRY_SIZE);
	entry.nsid = world->arbiter_nsid;
	entry.replica = world->arbiter_id;
	wire_fence_entry_encode(&entry, command->data + 2 * WIRE_FENCE_ENTRY_SIZE);
	command->cmd.sqe.cdw10 = 3;
	assert_int_equal(command_run(&host, command, 3 * WIRE_FENCE_ENTRY_SIZE), 0);
	assert_int_equal(command->cmd.dw01, 1);
	assert_int_equal(host_voter_state(&host, world->nsid, &state), 0);
	assert_int_equal(state.status, 0);
	assert_int_equal(host_voter_state(&host, world->arbiter_nsid, &state), 0);
	assert_int_equal(state.status, 0);
	free(command);
	host_close(&host);
}

static void test_old_session_is_refused(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host;
	struct token token = start(&host, world);
	struct agent_replica_status status;

	assert_int_equal(host_write(&host, 1, 10, 0x11), 0);
	assert_int_equal(host_read(&host, 1, 10), 0x11);
	token.session = 2;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(host_write(&host, 1, 10, 0x22), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_read(&host, 1, 10), -WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_read(&host, 2, 10), 0x11);
	agent_replica_get_status(world->agent, world->replica, &status);
	assert_int_equal(status.refused, 2);
	assert_int_equal(status.writes, 1);
	assert_int_equal(status.bytes_written, 4096);
	assert_int_equal(status.reads, 2);
	host_close(&host);
}

static void test_other_association_is_refused(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host, other;
	struct token token = start(&host, world);

	host_start(&other, world, 2);
	/* The session number is right, the association is not. */
	assert_int_equal(host_write(&other, 1, 10, 0x22), WIRE_STATUS_STALE_TOKEN);
	token = token_make(1, 2, 1);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	assert_int_equal(host_write(&host, 1, 10, 0x33), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_write(&other, 1, 10, 0x44), 0);
	/* What the first one's FENCE came to is no longer so. */
	assert_int_equal(host_voter_state(&host, world->nsid, &state), 0);
	assert_int_equal(state.status, WIRE_STATUS_STALE_TOKEN);
	assert_true(token_equal(&state.cur, &token));
	host_close(&host);
	host_close(&other);
}

static void test_association_ends(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct agent_replica_status status;
	struct host host;
	struct token token = start(&host, world);

	agent_replica_get_status(world->agent, world->replica, &status);
	assert_true(status.associated);
	assert_string_equal(
		status.host, "nqn.2025-01.io.strake:host:40000000-0000-0000-0000-000000000001");
	host_close(&host);
	agent_replica_get_status(world->agent, world->replica, &status);
	assert_false(status.associated);
	assert_true(token_equal(&status.cur, &token));
	host_start(&host, world, 1);
	assert_int_equal(host_write(&host, 1, 10, 0x33), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	token.session++;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(host_write(&host, 2, 10, 0x33), 0);
	host_close(&host);
}

/* Reads wait for the disk, so writes of the held session are stuck in it. */
static void disk_stick(struct world *world, bool stuck)
{
	struct sim_disk_faults faults = {.stuck = stuck};

	sim_disk_set_faults(world->disk, &faults);
}

static uint16_t host_release(struct host *host, uint32_t session)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	uint16_t status;

	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe.opcode = WIRE_RELEASE;
	command->cmd.sqe.nsid = host->world->nsid;
	command->cmd.sqe.cdw2 = session;
	status = command_run(host, command, 0);
	free(command);
	return status;
}

static void test_released_is_nobodys(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct agent_replica_status status;
	struct host host, other;
	struct token token = start(&host, world);

	host_start(&other, world, 2);
	assert_int_equal(host_release(&other, token.session), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_release(&host, token.session + 1), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_write(&host, token.session, 10, 0x33), 0);
	assert_int_equal(host_release(&host, token.session), 0);
	agent_replica_get_status(world->agent, world->replica, &status);
	assert_false(status.associated);
	assert_true(token_equal(&status.cur, &token));
	/* Its association lives, and may not write any more; it did not lose it to anybody. */
	assert_int_equal(host_write(&host, token.session, 10, 0x34), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_voter_state(&host, world->nsid, &state), 0);
	assert_int_equal(state.status, WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_lost_count(&host, 0), 0);
	assert_int_equal(host_release(&host, token.session), WIRE_STATUS_STALE_TOKEN);
	/* The same token is not given again, a higher one is. */
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	token.session++;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(host_write(&host, token.session, 10, 0x35), 0);
	host_close(&other);
	host_close(&host);
}

static void test_fence_waits_for_older_commands(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host, other;
	struct token token = start(&host, world);
	struct command *write = aligned_alloc(4096, sizeof(*write));
	uint64_t begin_ns;

	host_start(&other, world, 2);
	disk_stick(world, true);
	write_prepare(write, world, 1, 10, 0x77);
	command_send(&host, write, 4096);
	sim_run_for_ns(world->sim, 5 * IO_NS_PER_MS);
	assert_false(write->done);

	begin_ns = sim_now_ns(world->sim);
	token = token_make(2, 1, 1);
	assert_int_equal(host_fence(&other, &token, &state), WIRE_STATUS_BUSY);
	assert_true(sim_now_ns(world->sim) - begin_ns >= 100 * IO_NS_PER_MS);
	assert_true(sim_now_ns(world->sim) - begin_ns < 150 * IO_NS_PER_MS);
	/* The gate is closed: for the old holder, and for the new one until it is granted.  Reads,
	 * too. */
	assert_int_equal(host_read(&host, 1, 10), -WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_write(&other, 1, 10, 0x01), WIRE_STATUS_STALE_TOKEN);
	/* A smaller one has no chance any more, and learns why. */
	token = token_make(1, 9, 1);
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(state.cur.epoch.attach, 2);
	/* Heartbeats are not held up; nothing is lost yet. */
	assert_int_equal(host_lost_count(&host, 0), 0);
	/* Asking again with a higher session, then with the same token. */
	token = token_make(2, 1, 2);
	assert_int_equal(host_fence(&other, &token, &state), WIRE_STATUS_BUSY);
	assert_false(write->done);
	disk_stick(world, false);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	assert_true(write->done);
	assert_int_equal(write->cmd.status, 0);
	assert_int_equal(host_read(&other, 2, 10), 0x77);
	assert_int_equal(host_lost_count(&host, 0), 1);
	free(write);
	host_close(&host);
	host_close(&other);
}

static void test_fence_goes_on_when_its_association_ends(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host, other;
	struct token token = start(&host, world);
	struct command *write = aligned_alloc(4096, sizeof(*write));
	struct agent_replica_status status;

	host_start(&other, world, 2);
	disk_stick(world, true);
	write_prepare(write, world, 1, 10, 0x77);
	command_send(&host, write, 4096);
	token = token_make(2, 1, 1);
	assert_int_equal(host_fence(&other, &token, &state), WIRE_STATUS_BUSY);
	host_close(&other);
	disk_stick(world, false);
	command_wait(&host, write);
	sim_run_for_ns(world->sim, 50 * IO_NS_PER_MS);
	agent_replica_get_status(world->agent, world->replica, &status);
	assert_false(status.associated);
	assert_true(token_equal(&status.cur, &token));
	assert_int_equal(host_write(&host, 1, 10, 0x78), WIRE_STATUS_STALE_TOKEN);
	token = token_make(2, 2, 1);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	free(write);
	host_close(&host);
}

static void test_heartbeat_lists_what_was_lost(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct wire_heartbeat beat;
	struct host host, other;
	struct token token = start(&host, world);

	host_start(&other, world, 2);
	host_heartbeat(&host, 0, &beat);
	assert_int_equal(beat.lost_count, 0);
	assert_int_equal(beat.list_number, 0);
	assert_true(beat.boot != 0);
	/* The own FENCE of a higher session loses nothing. */
	token.session = 2;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(host_lost_count(&host, 0), 0);
	token = token_make(2, 1, 1);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	for (unsigned i = 0; i < 2; i++) {
		host_heartbeat(&host, 0, &beat);
		assert_int_equal(beat.lost_count, 1);
		assert_int_equal(beat.lost[0], world->nsid);
		assert_int_equal(beat.list_number, 1);
		assert_false(beat.all);
	}
	assert_int_equal(host_lost_count(&other, 0), 0);
	assert_int_equal(host_lost_count(&host, 1), 0);
	/* Back and lost once more: a new number, so that an old confirmation does not hide it. */
	token = token_make(2, 2, 1);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	token = token_make(2, 3, 1);
	assert_int_equal(host_fence(&other, &token, &state), 0);
	host_heartbeat(&host, 1, &beat);
	assert_int_equal(beat.lost_count, 1);
	assert_int_equal(beat.list_number, 2);
	/* What came back is not listed. */
	token = token_make(2, 4, 1);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(host_lost_count(&host, 1), 0);
	host_close(&host);
	host_close(&other);
}

static void test_restart_keeps_promise_and_cfg(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host;
	struct token token = start(&host, world);
	struct cfg cfg = cfg_make(world, &token, 1, true);
	uint64_t boot = host_boot(&host);
	struct token promised = token_make(4, 2, 7);

	assert_int_equal(host_fence(&host, &promised, &state), 0);
	world_crash_agent(world);
	nvmeh_close(host.assoc);
	assert_true(sim_run_until_flag(world->sim, &host.closed, IO_NS_PER_S));
	world_start_agent(world);
	host_start(&host, world, 1);
	token = token_make(4, 2, 0);
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_STALE_TOKEN);
	assert_true(epoch_equal(&state.cur.epoch, &promised.epoch));
	assert_int_equal(state.cur.session, 0);
	assert_true(cfg_equal(&state.vmeta.cfg, &cfg));
	assert_true(state.boot != boot);
	/* Nobody holds it: the last holder's session does not count any more. */
	assert_int_equal(host_write(&host, 7, 0, 1), WIRE_STATUS_STALE_TOKEN);
	token.session = 1;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	host_close(&host);
}

static void test_unchanged_epoch_writes_nothing(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host;
	struct token token = start(&host, world);
	uint64_t operations = sim_disk_operations(world->disk);

	token.session = 2;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_int_equal(sim_disk_operations(world->disk), operations);
	token = token_make(1, 2, 2);
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_true(sim_disk_operations(world->disk) > operations);
	host_close(&host);
}

static void test_promise_that_is_not_durable_is_not_given(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host;
	struct token token = start(&host, world);
	struct sim_disk_faults faults = {.write_error_percent = 100};

	sim_disk_set_faults(world->disk, &faults);
	token = token_make(2, 1, 1);
	assert_int_equal(host_fence(&host, &token, &state), NVME_SC_INTERNAL_ERROR);
	/* Nobody is served: it is unknown what a restart will find. */
	assert_int_equal(host_read(&host, 1, 0), -WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_fence(&host, &token, &state), NVME_SC_INTERNAL_ERROR);
	host_close(&host);
}

static void test_power_change_takes_everything_away(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host;
	struct token token = start(&host, world);

	world->handle->power++;
	assert_int_equal(host_write(&host, 1, 0, 1), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(host_lost_count(&host, 0), 1);
	token.session++;
	assert_int_equal(host_fence(&host, &token, &state), 0);
	assert_true(state.power == world->handle->power);
	assert_int_equal(host_write(&host, 2, 0, 1), 0);
	host_close(&host);
}

static void test_hosts_and_names(void **ctx)
{
	struct world *world = *ctx;
	static const char *const hosts[] = {
		"nqn.2014-08.org.nvmexpress:uuid:40000000-0000-0000-0000-000000000001",
		"nqn.2025-01.io.strake:hose:40000000-0000-0000-0000-000000000001",
		"nqn.2025-01.io.strake:host:40000000-0000-0000-0000-0000000000zz",
		"nqn.2025-01.io.strake:host:40000000-0000-0000-0000-00000000000100"};
	char subnqn[NVME_NQN_SIZE];
	struct host host;

	world_subnqn(subnqn);
	for (unsigned i = 0; i < 4; i++) {
		host_connect(&host, world, subnqn, hosts[i]);
		assert_false(host.ready);
		host_close(&host);
	}
	subnqn[strlen(subnqn) - 1] = 'f';
	host_connect(&host, world, subnqn,
		"nqn.2025-01.io.strake:host:40000000-0000-0000-0000-000000000001");
	assert_false(host.ready);
	host_close(&host);
}

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

/* ---- capabilities ---- */

struct key_change {
	struct agent_change change;
	struct volume_key key;
	bool done;
};

static int key_apply(struct agent_change *change, struct vmeta *vmeta)
{
	vmeta->keys[1] = vmeta->keys[0];
	vmeta->keys[0] = container_of(change, struct key_change, change)->key;
	return 0;
}

static void key_done(struct agent_change *change)
{
	container_of(change, struct key_change, change)->done = true;
}

/* The replica gets key `number` of a master secret of `fill`. */
static struct volume_key give_key(struct world *world, uint8_t fill, uint16_t number)
{
	struct key_change key = {.change = {.apply = key_apply, .done = key_done}};
	uint8_t master[CAPABILITY_SECRET_SIZE];

	memset(master, fill, sizeof(master));
	volume_key_derive(master, &store_replica_vmeta(world->replica)->volume, number, &key.key);
	agent_replica_change(world->agent, world->replica, &key.change);
	assert_true(sim_run_until_flag(world->sim, &key.done, IO_NS_PER_S));
	assert_int_equal(key.change.result, 0);
	return key.key;
}

/* FENCE with what `key` gives to host `number` for `attach`. */
static uint32_t fence_with(struct host *host, unsigned number, const struct volume_key *key,
	uint32_t attach, const struct token *token, struct wire_voter_state *ret_state)
{
	struct world *world = host->world;
	struct wire_fence_entry entry = {
		.nsid = world->nsid, .replica = world->replica_id, .token = *token};
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct uuid node = host_uuid(number);

	capability_make(key, &store_replica_vmeta(world->replica)->volume, attach, &node,
		&entry.capability);
	fence_prepare(command, world->nsid, &world->replica_id, token);
	wire_fence_entry_encode(&entry, command->data);
	assert_int_equal(command_run(host, command, WIRE_FENCE_ENTRY_SIZE), 0);
	free(command);
	assert_int_equal(host_voter_state(host, world->nsid, ret_state), 0);
	return ret_state->status;
}

static void test_only_who_has_the_capability(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct token token = token_make(3, 1, 1);
	struct host host, other;
	struct volume_key key, wrong;

	key = give_key(world, 1, 1);
	wrong = key;
	wrong.secret[0] ^= 1;
	host_start(&host, world, 1);
	host_start(&other, world, 2);
	assert_int_equal(host_fence(&host, &token, &state), WIRE_STATUS_UNAUTHORIZED);
	/* Nothing is told to a stranger. */
	assert_int_equal(state.vmeta.size_bytes, 0);
	assert_int_equal(fence_with(&host, 1, &wrong, 3, &token, &state), WIRE_STATUS_UNAUTHORIZED);
	assert_int_equal(fence_with(&host, 1, &key, 2, &token, &state), WIRE_STATUS_UNAUTHORIZED);
	/* Another node's. */
	assert_int_equal(fence_with(&other, 1, &key, 3, &token, &state), WIRE_STATUS_UNAUTHORIZED);
	assert_int_equal(host_write(&host, 1, 0, 1), WIRE_STATUS_STALE_TOKEN);
	/* None of them moved the token. */
	assert_int_equal(fence_with(&host, 1, &key, 3, &token, &state), 0);
	assert_true(token_equal(&state.cur, &token));
	assert_int_equal(state.vmeta.keys[0].number, 0);
	assert_true(bytes_are_zero(state.vmeta.keys[0].secret, CAPABILITY_SECRET_SIZE));
	host_close(&host);
	host_close(&other);
}

static void test_next_key_and_the_one_before(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct token token = token_make(3, 1, 1);
	struct volume_key keys[3];
	struct host host;

	for (unsigned i = 0; i < 3; i++) {
		keys[i] = give_key(world, (uint8_t)i, (uint16_t)(i + 1));
	}
	/* Also after a restart. */
	world_stop_agent(world);
	world_start_agent(world);
	host_start(&host, world, 1);
	assert_int_equal(
		fence_with(&host, 1, &keys[0], 3, &token, &state), WIRE_STATUS_UNAUTHORIZED);
	assert_int_equal(fence_with(&host, 1, &keys[1], 3, &token, &state), 0);
	token.session++;
	assert_int_equal(fence_with(&host, 1, &keys[2], 3, &token, &state), 0);
	host_close(&host);
}

static void test_change_waits_for_its_turn(void **ctx)
{
	struct world *world = *ctx;
	struct key_change key = {.change = {.apply = key_apply, .done = key_done}};
	struct host host;
	bool removed = false;

	(void)start(&host, world);
	agent_replica_change(world->agent, world->replica, &key.change);
	assert_false(key.done);
	/* What cannot have its turn any more is answered. */
	agent_replica_remove(world->agent, world->replica, set_flag, &removed);
	assert_true(sim_run_until_flag(world->sim, &removed, IO_NS_PER_S));
	assert_true(key.done);
	assert_int_equal(key.change.result, -ENOENT);
	host_close(&host);
}

static void test_removed_namespace_is_lost(void **ctx)
{
	struct world *world = *ctx;
	struct wire_heartbeat beat;
	struct host host;
	bool removed = false;

	(void)start(&host, world);
	agent_replica_remove(world->agent, world->replica, set_flag, &removed);
	assert_false(removed);
	assert_int_equal(host_write(&host, 1, 0, 1), NVME_SC_INVALID_NAMESPACE);
	assert_true(removed);
	host_heartbeat(&host, 0, &beat);
	assert_int_equal(beat.lost_count, 1);
	assert_int_equal(beat.lost[0], world->nsid);
	assert_int_equal(host_lost_count(&host, beat.list_number), 0);
	removed = false;
	agent_remove_store(world->agent, world->store, set_flag, &removed);
	sim_run_for_ns(world->sim, IO_NS_PER_MS);
	assert_true(removed);
	host_close(&host);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_fence_grants_and_reports_the_voter),
		TEST(test_tokens_only_rise),
		TEST(test_another_nonce_of_the_same_epoch_is_refused),
		TEST(test_wrong_replica_and_unknown_namespace),
		TEST(test_list_is_answered_each_on_its_own),
		TEST(test_old_session_is_refused),
		TEST(test_other_association_is_refused),
		TEST(test_association_ends),
		TEST(test_released_is_nobodys),
		TEST(test_fence_waits_for_older_commands),
		TEST(test_fence_goes_on_when_its_association_ends),
		TEST(test_heartbeat_lists_what_was_lost),
		TEST(test_restart_keeps_promise_and_cfg),
		TEST(test_unchanged_epoch_writes_nothing),
		TEST(test_promise_that_is_not_durable_is_not_given),
		TEST(test_power_change_takes_everything_away),
		TEST(test_hosts_and_names),
		TEST(test_removed_namespace_is_lost),
		TEST(test_only_who_has_the_capability),
		TEST(test_next_key_and_the_one_before),
		TEST(test_change_waits_for_its_turn),
	};

	return cmocka_run_group_tests_name("fence", tests, NULL, NULL);
}
