/* SPDX-License-Identifier: Apache-2.0 */
/* SNAPSHOT PREPARE, RESOLVE, LIST, and reads of a snapshot: who may, and what a store is asked. */
#include "base/bytes.h"
#include "base/testing.h"
#include "pool-agent/store/snapshot.h"
#include "pool-agent/testing/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FAKE_MAX 8

/* A store with snapshots, as far as an agent can tell. */
static struct fake {
	struct store_snapshot snapshots[FAKE_MAX]; /* by number - 1; number 0: none */
	uint64_t resolved;                         /* the last that it was told */
	unsigned resolves, prepares;
	int result; /* of the next PREPARE */
	uint8_t fill;
	struct store_op *op;
	struct store_io *io;
	struct task task;
} fake;

static void fake_step(struct task *task)
{
	struct store_op *op = fake.op;
	struct store_io *io = fake.io;

	(void)task;
	fake.op = NULL;
	fake.io = NULL;
	if (op != NULL) {
		op->done(op);
	}
	if (io != NULL) {
		io->done(io);
	}
}

static void fake_prepare(void *ctx, struct store_replica *replica, uint64_t number,
	const struct uuid *id, struct store_op *op)
{
	(void)ctx;
	(void)replica;
	assert_true(number <= FAKE_MAX && fake.snapshots[number - 1].number == 0);
	/* Older attempts are settled first. */
	assert_int_equal(fake.resolved, number - 1);
	fake.prepares++;
	op->result = fake.result;
	if (fake.result == 0) {
		fake.snapshots[number - 1] = (struct store_snapshot){.number = number, .id = *id};
	}
	fake.op = op;
	task_wake(&fake.task);
}

static void fake_resolve(
	void *ctx, struct store_replica *replica, uint64_t committed, struct store_op *op)
{
	(void)ctx;
	(void)replica;
	fake.resolves++;
	fake.resolved = committed;
	for (unsigned i = 0; i < FAKE_MAX; i++) {
		struct store_snapshot *snapshot = &fake.snapshots[i];

		if (snapshot->number != 0 && !snapshot->kept) {
			snapshot->kept = snapshot->number <= committed;
			snapshot->number = snapshot->kept ? snapshot->number : 0;
		}
	}
	op->result = 0;
	fake.op = op;
	task_wake(&fake.task);
}

static bool fake_next(void *ctx, const struct store_replica *replica, uint64_t after,
	struct store_snapshot *ret_snapshot)
{
	(void)ctx;
	(void)replica;
	for (uint64_t i = after; i < FAKE_MAX; i++) {
		if (fake.snapshots[i].number != 0) {
			*ret_snapshot = fake.snapshots[i];
			return true;
		}
	}
	return false;
}

static void fake_read(
	void *ctx, struct store_replica *replica, uint64_t number, struct store_io *io)
{
	(void)ctx;
	(void)replica;
	assert_int_equal(number, 1);
	for (unsigned i = 0; i < io->iov_count; i++) {
		memset(io->iov[i].iov_base, fake.fill, io->iov[i].iov_len);
	}
	io->result = 0;
	fake.io = io;
	task_wake(&fake.task);
}

static uint64_t fake_flush_begins(void *ctx, const struct store_replica *replica)
{
	(void)ctx;
	(void)replica;
	return 0;
}

static void fake_flushed(void *ctx, struct store_replica *replica, uint64_t begun)
{
	(void)ctx;
	(void)replica;
	(void)begun;
}

static const struct store_snapshot_ops fake_ops = {
	.prepare = fake_prepare,
	.resolve = fake_resolve,
	.next = fake_next,
	.read = fake_read,
	.flush_begins = fake_flush_begins,
	.flushed = fake_flushed,
};

static void fake_install(struct world *world)
{
	fake = (struct fake){0};
	task_init(&fake.task, &sim_process_io(world->agent_process)->runq, fake_step);
	store_set_snapshots(world->store, &fake_ops, NULL);
}

/* ---- commands ---- */

static struct wire_voter_state fence(struct host *host, uint32_t session)
{
	struct token token = token_make(1, 1, session);
	struct wire_voter_state state;

	assert_int_equal(host_fence(host, &token, &state), 0);
	return state;
}

static struct uuid id_of(uint8_t number)
{
	return (struct uuid){.b = {[0] = 7, [15] = number}};
}

static uint16_t run(struct host *host, uint32_t session, uint8_t opcode, uint64_t number,
	uint8_t id, uint64_t *ret_result)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct uuid uuid = id_of(id);
	uint16_t status;

	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe.opcode = opcode;
	command->cmd.sqe.nsid = host->world->nsid;
	command->cmd.sqe.cdw2 = session;
	wire_snapshot_encode(number, &uuid, &command->cmd.sqe);
	status = command_run(host, command, 0);
	*ret_result = command->cmd.dw01;
	free(command);
	return status;
}

static uint16_t prepare(struct host *host, uint32_t session, uint64_t number, uint8_t id)
{
	uint64_t result;

	return run(host, session, WIRE_SNAPSHOT_PREPARE, number, id, &result);
}

static uint16_t resolve(struct host *host, uint32_t session, uint64_t committed, uint64_t *ret_kept)
{
	return run(host, session, WIRE_SNAPSHOT_RESOLVE, committed, 0, ret_kept);
}

static struct wire_snapshot_list list_of(struct host *host, uint32_t session)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct wire_snapshot_list list;

	memset(command, 0, sizeof(*command));
	command->cmd.admin = true;
	command->cmd.sqe.opcode = WIRE_SNAPSHOT_LIST;
	command->cmd.sqe.nsid = host->world->nsid;
	command->cmd.sqe.cdw2 = session;
	assert_int_equal(command_run(host, command, WIRE_SNAPSHOT_LIST_SIZE), 0);
	assert_int_equal(wire_snapshot_list_decode(command->data, &list), 0);
	free(command);
	return list;
}

static uint16_t read_snapshot(
	struct host *host, uint32_t session, uint32_t snapshot, uint8_t *ret_byte)
{
	struct command *command = aligned_alloc(4096, sizeof(*command));
	struct wire_io io = {
		.opcode = WIRE_READ,
		.nsid = host->world->nsid,
		.session = session,
		.block_count = 1,
		.snapshot = snapshot,
	};
	uint16_t status;

	memset(command, 0, sizeof(*command));
	wire_io_encode(&io, &command->cmd.sqe);
	status = command_run(host, command, 4096);
	*ret_byte = command->data[4095];
	free(command);
	return status;
}

/* ---- tests ---- */

static void test_format_0_has_none(void **ctx)
{
	struct world *world = *ctx;
	struct wire_voter_state state;
	struct host host;
	uint64_t kept = 1;
	uint8_t byte;

	host_start(&host, world, 1);
	state = fence(&host, 1);
	assert_false(state.snapshots);
	assert_int_equal(state.snapshots_kept, 0);
	assert_int_equal(prepare(&host, 1, 1, 1), WIRE_STATUS_REFUSED);
	assert_int_equal(resolve(&host, 1, 0, &kept), 0);
	assert_int_equal(kept, 0);
	assert_int_equal(list_of(&host, 1).total, 0);
	assert_int_equal(read_snapshot(&host, 1, 1, &byte), NVME_SC_INVALID_FIELD);
	host_close(&host);
}

static void on_op(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

/* Who asks the store itself is told what it needs. */
static void test_format_0_says_so(void **ctx)
{
	struct world *world = *ctx;
	bool done = false;
	struct store_op op = {.done = on_op, .ctx = &done};
	struct uuid id = id_of(1);

	assert_false(store_replica_has_snapshots(world->replica));
	store_snapshot_prepare(world->replica, 1, &id, &op);
	assert_false(done);
	assert_true(sim_run_until_flag(world->sim, &done, IO_NS_PER_S));
	assert_int_equal(op.result, -EOPNOTSUPP);
	assert_non_null(strstr(op.err.text, "needs pool format 1"));
}

static void test_prepare_and_resolve(void **ctx)
{
	struct world *world = *ctx;
	struct wire_snapshot_list list;
	struct host host;
	uint64_t kept, as;

	fake_install(world);
	host_start(&host, world, 1);
	assert_true(fence(&host, 1).snapshots);
	assert_int_equal(prepare(&host, 1, 0, 1), NVME_SC_INVALID_FIELD);
	assert_int_equal(prepare(&host, 1, 1, 1), 0);
	assert_int_equal(resolve(&host, 1, 1, &kept), 0);
	assert_int_equal(kept, 1);
	/* An attempt that came to nothing is not the next one's image. */
	assert_int_equal(prepare(&host, 1, 2, 2), 0);
	assert_int_equal(prepare(&host, 1, 2, 3), 0);
	assert_int_equal(fake.prepares, 3);
	list = list_of(&host, 1);
	assert_int_equal(list.count, 2);
	assert_true(list.snapshots[0].kept && !list.snapshots[1].kept);
	assert_int_equal(list.snapshots[1].id.b[15], 3);
	assert_int_equal(fence(&host, 2).snapshots_kept, 1);
	/* What is kept is not made again: not its number, and not its id. */
	assert_int_equal(run(&host, 2, WIRE_SNAPSHOT_PREPARE, 2, 1, &as), WIRE_STATUS_REFUSED);
	assert_int_equal(as, 1);
	assert_int_equal(run(&host, 2, WIRE_SNAPSHOT_PREPARE, 1, 9, &as), WIRE_STATUS_REFUSED);
	assert_int_equal(as, 0);
	assert_int_equal(fake.prepares, 3);
	/* 0 keeps nothing that was only PREPARED. */
	assert_int_equal(resolve(&host, 2, 0, &kept), 0);
	assert_int_equal(kept, 1);
	assert_int_equal(list_of(&host, 2).count, 1);
	fake.result = -ENOSPC;
	assert_int_equal(prepare(&host, 2, 2, 4), NVME_SC_CAPACITY_EXCEEDED);
	fake.result = -EIO;
	assert_int_equal(prepare(&host, 2, 2, 4), NVME_SC_INTERNAL_ERROR);
	host_close(&host);
}

static void recovery_done(struct agent_change *change)
{
	*(bool *)change->ctx = true;
}

static const struct cfg *recover(struct world *world, uint64_t lineage)
{
	bool done = false;
	struct agent_recovery recovery = {
		.change = {.done = recovery_done, .ctx = &done}, .lineage = lineage};

	agent_replica_recover(world->agent, world->replica, &recovery);
	assert_true(sim_run_until_flag(world->sim, &done, IO_NS_PER_S));
	assert_int_equal(recovery.change.result, 0);
	return &store_replica_vmeta(world->replica)->cfg;
}

/* A recovered replica names only what it keeps, though a configuration said more. */
static void test_recovery_names_what_is_kept(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, true);
	const struct cfg *recovered;
	struct host host;
	uint64_t kept;

	fake_install(world);
	host_start(&host, world, 1);
	(void)fence(&host, 1);
	assert_int_equal(prepare(&host, 1, 1, 1), 0);
	assert_int_equal(resolve(&host, 1, 1, &kept), 0);
	assert_int_equal(prepare(&host, 1, 2, 2), 0);
	cfg.snap_seq = 2;
	cfg.snap_id = id_of(3); /* not the one that is only PREPARED */
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	recovered = recover(world, 1234);
	assert_int_equal(recovered->snap_seq, 1);
	assert_true(uuid_equal(&recovered->snap_id, (const struct uuid[]){id_of(1)}));
	fake.snapshots[0].number = 0;
	recovered = recover(world, 1235);
	assert_int_equal(recovered->snap_seq, 0);
	assert_true(uuid_is_nil(&recovered->snap_id));
	host_close(&host);
}

static void test_only_the_current_session(void **ctx)
{
	struct world *world = *ctx;
	struct host host, other;
	uint64_t kept;
	uint8_t byte;

	fake_install(world);
	host_start(&host, world, 1);
	host_start(&other, world, 2);
	(void)fence(&host, 1);
	(void)fence(&host, 2);
	assert_int_equal(prepare(&host, 1, 1, 1), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(prepare(&other, 2, 1, 1), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(resolve(&host, 1, 0, &kept), WIRE_STATUS_STALE_TOKEN);
	assert_int_equal(fake.resolves + fake.prepares, 0);
	assert_int_equal(prepare(&host, 2, 1, 1), 0);
	assert_int_equal(read_snapshot(&host, 1, 1, &byte), WIRE_STATUS_STALE_TOKEN);
	host_close(&other);
	host_close(&host);
}

static void test_reads(void **ctx)
{
	struct world *world = *ctx;
	struct token token = token_make(1, 1, 1);
	struct cfg cfg = cfg_make(world, &token, 1, true);
	struct wire_io write = {
		.opcode = WIRE_WRITE_ZEROES, .session = 1, .block_count = 1, .snapshot = 1};
	struct host host;
	uint8_t byte;

	fake_install(world);
	fake.fill = 0x5a;
	host_start(&host, world, 1);
	(void)fence(&host, 1);
	assert_int_equal(host_accept(&host, world->nsid, 1, &cfg), 0);
	assert_int_equal(host_write(&host, 1, 0, 0x11), 0);
	assert_int_equal(prepare(&host, 1, 1, 1), 0);
	assert_int_equal(read_snapshot(&host, 1, 1, &byte), 0);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(read_snapshot(&host, 1, 0, &byte), 0);
	assert_int_equal(byte, 0x11);
	assert_int_equal(read_snapshot(&host, 1, 2, &byte), NVME_SC_INVALID_FIELD);
	/* Nobody writes to a snapshot. */
	write.nsid = world->nsid;
	assert_int_equal(host_io(&host, &write), NVME_SC_INVALID_OPCODE);
	host_close(&host);
}

static void test_list_is_checked(void **ctx)
{
	struct wire_snapshot_list list = {.total = 3, .count = 1, .snapshots = {{.number = 1}}};
	uint8_t data[WIRE_SNAPSHOT_LIST_SIZE];

	(void)ctx;
	wire_snapshot_list_encode(&list, data);
	assert_int_equal(wire_snapshot_list_decode(data, &list), 0);
	assert_int_equal(list.total, 3);
	data[0] = 4; /* more than there are */
	assert_int_equal(wire_snapshot_list_decode(data, &list), -EBADMSG);
	data[0] = data[4] = WIRE_SNAPSHOTS_MAX + 1;
	assert_int_equal(wire_snapshot_list_decode(data, &list), -EBADMSG);
	data[0] = data[4] = 2; /* the second has no number */
	assert_int_equal(wire_snapshot_list_decode(data, &list), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_format_0_has_none, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_format_0_says_so, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_prepare_and_resolve, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_recovery_names_what_is_kept, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_only_the_current_session, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_reads, world_setup, world_teardown),
		cmocka_unit_test(test_list_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
