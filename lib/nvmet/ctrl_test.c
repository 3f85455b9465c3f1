/* SPDX-License-Identifier: Apache-2.0 */
/* Associations: Connect and its refusals, properties, keep-alive, the end. */
#include "base/testing.h"
#include "nvmet/env_test.h"
#include "nvmet/watched_test.h"

/* ---- Connect ---- */

struct refusal {
	const char *name;
	struct nvme_connect_cmd cmd;
	const char *subnqn, *hostnqn;
	uint16_t cntlid;
	uint16_t recfmt;
	uint16_t status;
	uint32_t result;
};

#define IN_DATA NVME_CONNECT_INVALID_IN_DATA

static const struct refusal refusals[] = {
	{"unknown subsystem", {.sqsize = 31}, "nqn.none", HOST_NQN, 0xffff, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, IN_DATA | 256},
	{"host not allowed", {.sqsize = 31}, WATCHED_NQN, "nqn.test:stranger", 0xffff, 0,
		NVME_SC_CONNECT_INVALID_HOST, IN_DATA | 512},
	{"static controller", {.sqsize = 31}, NQN, HOST_NQN, 1, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, IN_DATA | 16},
	{"queue size 0", {.sqsize = 0}, NQN, HOST_NQN, 0xffff, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, 44},
	{"queue too large", {.sqsize = 128}, NQN, HOST_NQN, 0xffff, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, 44},
	{"record format", {.sqsize = 31}, NQN, HOST_NQN, 0xffff, 1,
		NVME_SC_CONNECT_INCOMPATIBLE_FORMAT, 0},
	{"no such association", {.qid = 1, .sqsize = 31}, NQN, HOST_NQN, 99, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, IN_DATA | 16},
	{"association of another subsystem", {.qid = 1, .sqsize = 31}, WATCHED_NQN, HOST_NQN, 1, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, IN_DATA | 256},
	{"association of another host", {.qid = 1, .sqsize = 31}, NQN, "nqn.test:other", 1, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, IN_DATA | 512},
	{"queue that was not granted", {.qid = 64, .sqsize = 31}, NQN, HOST_NQN, 1, 0,
		NVME_SC_CONNECT_INVALID_PARAMETERS, 42},
	{"queue that is there", {.qid = 1, .sqsize = 31}, NQN, HOST_NQN, 1, 0,
		NVME_SC_COMMAND_SEQUENCE_ERROR, 0},
};

static void refused_connects(void **state)
{
	static struct env env;
	static struct test_peer peer;
	struct watched watched;

	(void)state;
	env_init(&env);
	watched_add(&env, &watched);
	admin_start(&env);
	io_start(&env, 0, 0);
	for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
		const struct refusal *row = &refusals[i];
		struct nvme_connect_data data;
		struct nvme_sqe sqe = {.cid = 9};
		struct nvme_cqe cqe;
		uint8_t bytes[1500];

		print_message("           %s\n", row->name);
		negotiate(&env, &peer, 0);
		connect_data(&data, row->cntlid);
		(void)snprintf(data.subnqn, sizeof(data.subnqn), "%s", row->subnqn);
		(void)snprintf(data.hostnqn, sizeof(data.hostnqn), "%s", row->hostnqn);
		nvme_connect_put(&sqe, &row->cmd);
		sqe.cdw10 |= row->recfmt;
		say(&env, &peer, bytes, test_put_command(&peer, bytes, &sqe, &data, sizeof(data)));
		cqe = expect(&env, &peer, PDU_CAPSULE_RESP).cqe;
		assert_int_equal(status_of(&cqe), row->status);
		assert_int_equal(cqe.dw01, row->result);
		test_peer_close(&peer);
		sim_run_for_ns(env.sim, MS(10));
	}
	watched_remove(&env, &watched);
	env_done(&env);
}

static void connect_of_wrong_form(void **state)
{
	static struct env env;
	static struct test_peer peer;
	const struct nvme_connect_cmd cmd = {.sqsize = 31};
	struct nvme_sqe sqe = {0};
	struct nvme_connect_data data;
	struct nvme_cqe cqe;
	uint8_t bytes[1500];

	(void)state;
	env_init(&env);
	negotiate(&env, &peer, 0);
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	nvme_connect_put(&sqe, &cmd);
	say(&env, &peer, bytes, test_put_command(&peer, bytes, &sqe, &data, 1020));
	cqe = expect(&env, &peer, PDU_CAPSULE_RESP).cqe;
	assert_int_equal(status_of(&cqe), NVME_SC_DATA_SGL_LENGTH_INVALID);
	memset(data.subnqn, 'x', sizeof(data.subnqn));
	cqe = connect_queue(&env, &peer, &cmd, &data);
	assert_int_equal(cqe.dw01, IN_DATA | 256);
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	memset(data.hostnqn, 'x', sizeof(data.hostnqn));
	cqe = connect_queue(&env, &peer, &cmd, &data);
	assert_int_equal(cqe.dw01, IN_DATA | 512);
	/* By R2T, and on the same connection: it may try again. */
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	say(&env, &peer, bytes, test_put_command(&peer, bytes, &sqe, NULL, sizeof(data)));
	const struct pdu_data extent = {.ttag = expect(&env, &peer, PDU_R2T).r2t.ttag,
		.length = sizeof(data),
		.last = true};

	say(&env, &peer, bytes, test_put_h2c(&peer, bytes, &extent, &data));
	assert_int_equal(expect(&env, &peer, PDU_CAPSULE_RESP).cqe.status, 0);
	cqe = connect_queue(&env, &peer, &cmd, &data);
	assert_int_equal(status_of(&cqe), NVME_SC_COMMAND_SEQUENCE_ERROR);
	test_peer_close(&peer);
	env_done(&env);
}

static void hosts(void **state)
{
	static struct env env;
	static struct test_peer peer;
	static const char *const allowed[] = {HOST_NQN, "nqn.test:other", "nqn.test:asked"};
	const struct nvme_connect_cmd cmd = {.sqsize = 31};
	struct nvme_connect_data data;
	struct watched watched;

	(void)state;
	env_init(&env);
	watched_add(&env, &watched);
	for (size_t i = 0; i < ARRAY_COUNT(allowed); i++) {
		negotiate(&env, &peer, 0);
		connect_data(&data, NVME_CNTLID_DYNAMIC);
		(void)snprintf(data.subnqn, sizeof(data.subnqn), WATCHED_NQN);
		(void)snprintf(data.hostnqn, sizeof(data.hostnqn), "%s", allowed[i]);
		assert_int_equal(connect_queue(&env, &peer, &cmd, &data).status, 0);
		test_peer_close(&peer);
		sim_run_for_ns(env.sim, SECONDS(1));
		assert_int_equal(watched.gone, i + 1);
	}
	/* Some hosts have no name; a volume for everybody takes them. */
	negotiate(&env, &peer, 0);
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	data.hostnqn[0] = '\0';
	assert_int_equal(connect_queue(&env, &peer, &cmd, &data).status, 0);
	test_peer_close(&peer);
	watched_remove(&env, &watched);
	env_done(&env);
}

/* ---- properties ---- */

static struct nvme_cqe property(struct env *env, bool set, uint32_t at, uint32_t value)
{
	struct nvme_sqe sqe = {.opcode = NVME_FABRICS,
		.nsid = set ? NVME_FABRICS_PROPERTY_SET : NVME_FABRICS_PROPERTY_GET,
		.cdw10 = at == NVME_PROPERTY_CAP ? NVME_PROPERTY_8_BYTES : 0,
		.cdw11 = at,
		.cdw12 = value};

	return command(env, &env->admin, &sqe);
}

static void properties(void **state)
{
	static struct env env;
	const struct nvme_connect_cmd cmd = {.sqsize = 31};
	struct nvme_sqe keep_alive = {.opcode = NVME_ADMIN_KEEP_ALIVE};
	struct nvme_connect_data data;
	struct nvme_cqe cqe;

	(void)state;
	env_init(&env);
	negotiate(&env, &env.admin, 0);
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	(void)connect_queue(&env, &env.admin, &cmd, &data);
	cqe = property(&env, false, NVME_PROPERTY_CAP, 0);
	assert_int_equal(cqe.dw01 & NVME_CAP_MQES_MASK, 127);
	assert_int_equal(NVME_CAP_MPSMIN(cqe.dw01), 0);
	assert_int_equal(property(&env, false, NVME_PROPERTY_VS, 0).dw01, 0x20000);
	assert_int_equal(property(&env, false, NVME_PROPERTY_CSTS, 0).dw01, 0);
	cqe = command(&env, &env.admin, &keep_alive);
	assert_int_equal(status_of(&cqe), NVME_SC_COMMAND_SEQUENCE_ERROR);
	/* Wrong entry sizes: fatal until it is reset. */
	assert_int_equal(property(&env, true, NVME_PROPERTY_CC, 1).status, 0);
	assert_int_equal(property(&env, false, NVME_PROPERTY_CSTS, 0).dw01, NVME_CSTS_CFS);
	assert_int_equal(property(&env, true, NVME_PROPERTY_CC, 0).status, 0);
	assert_int_equal(property(&env, true, NVME_PROPERTY_CC, 0x460001).status, 0);
	assert_int_equal(property(&env, false, NVME_PROPERTY_CC, 0).dw01, 0x460001);
	assert_int_equal(property(&env, false, NVME_PROPERTY_CSTS, 0).dw01, NVME_CSTS_RDY);
	assert_int_equal(command(&env, &env.admin, &keep_alive).status, 0);
	assert_int_equal(property(&env, true, NVME_PROPERTY_CC, 0x464001).status, 0);
	assert_int_equal(property(&env, false, NVME_PROPERTY_CSTS, 0).dw01,
		NVME_CSTS_RDY | NVME_CSTS_SHST_COMPLETE);
	cqe = property(&env, false, 0x40, 0);
	assert_int_equal(status_of(&cqe), NVME_SC_INVALID_FIELD);
	cqe = property(&env, true, NVME_PROPERTY_CSTS, 0);
	assert_int_equal(status_of(&cqe), NVME_SC_INVALID_FIELD);
	env_done(&env);
}

/* A host that leaves descriptors of commands without data empty, names all command sets, does not
 * ask for a number of queues and has another identifier for each queue. */
static void host_of_another_kind(void **state)
{
	static struct env env;
	const struct nvme_connect_cmd cmd = {.sqsize = 31}, io_cmd = {.qid = 1, .sqsize = 127};
	struct pdu enable = {.type = PDU_CAPSULE_CMD,
		.sqe = {.opcode = NVME_FABRICS,
			.flags = NVME_SQE_PSDT_SGL,
			.cdw11 = NVME_PROPERTY_CC,
			.cdw12 = 0x460061}};
	struct nvme_connect_data data;
	uint8_t bytes[256];

	(void)state;
	env_init(&env);
	negotiate(&env, &env.admin, 0);
	connect_data(&data, NVME_CNTLID_DYNAMIC);
	assert_int_equal(connect_queue(&env, &env.admin, &cmd, &data).status, 0);
	say(&env, &env.admin, bytes, test_put_pdu(&env.admin, bytes, &enable, NULL));
	assert_int_equal(expect(&env, &env.admin, PDU_CAPSULE_RESP).cqe.status, 0);
	assert_int_equal(property(&env, false, NVME_PROPERTY_CSTS, 0).dw01, NVME_CSTS_RDY);
	negotiate(&env, &env.io, 0);
	connect_data(&data, 1);
	data.hostid[0] = 99;
	assert_int_equal(connect_queue(&env, &env.io, &io_cmd, &data).status, 0);
	env_done(&env);
}

static void disabling_ends_the_queues(void **state)
{
	static struct env env;

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	assert_int_equal(property(&env, true, NVME_PROPERTY_CC, 0x460000).status, 0);
	assert_true(sim_run_until_flag(env.sim, &env.io.over, SECONDS(1)));
	assert_false(env.admin.over);
	assert_int_equal(property(&env, true, NVME_PROPERTY_CC, 0x460001).status, 0);
	test_peer_close(&env.io);
	sim_run_for_ns(env.sim, MS(10));
	io_start(&env, 0, 0);
	env_done(&env);
}

/* ---- keep-alive ---- */

static void keep_alive(void **state)
{
	static struct env env;
	struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};
	struct watched watched;

	(void)state;
	env_init(&env);
	watched_add(&env, &watched);
	admin_open(&env, WATCHED_NQN, 1000);
	for (unsigned i = 0; i < 10; i++) {
		sim_run_for_ns(env.sim, MS(900));
		assert_int_equal(command(&env, &env.admin, &sqe).status, 0);
	}
	sim_run_for_ns(env.sim, MS(900));
	assert_int_equal(watched.gone, 0);
	sim_run_for_ns(env.sim, MS(200));
	assert_int_equal(watched.gone, 1);
	assert_true(env.admin.over);
	watched_remove(&env, &watched);
	env_done(&env);
}

static void no_keep_alive(void **state)
{
	static struct env env;

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	sim_run_for_ns(env.sim, SECONDS(1000));
	assert_false(env.admin.over || env.io.over);
	env_done(&env);
}

/* ---- the end ---- */

static void admin_queue_takes_the_others_along(void **state)
{
	static struct env env;

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	test_peer_close(&env.admin);
	assert_true(sim_run_until_flag(env.sim, &env.io.over, SECONDS(1)));
	env_done(&env);
}

static void io_queue_goes_alone(void **state)
{
	static struct env env;
	struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	test_peer_close(&env.io);
	sim_run_for_ns(env.sim, MS(10));
	assert_int_equal(command(&env, &env.admin, &sqe).status, 0);
	io_start(&env, 0, 0);
	env_done(&env);
}

/* The request outlives its connection, and the association its request. */
static void request_outlives_everything(void **state)
{
	static struct env env;
	struct nvme_sqe sqe = {.opcode = 0xc2};
	uint8_t bytes[256];
	struct watched watched;

	(void)state;
	env_init(&env);
	watched_add(&env, &watched);
	admin_open(&env, WATCHED_NQN, 0);
	watched.hold = true;
	say(&env, &env.admin, bytes, test_put_command(&env.admin, bytes, &sqe, NULL, 4096));
	assert_non_null(watched.held);
	assert_int_equal(watched.held->length, 4096);
	test_peer_close(&env.admin);
	sim_run_for_ns(env.sim, SECONDS(1));
	assert_int_equal(watched.gone, 1);
	nvmet_remove(env.target, &watched.subsys);
	sim_run_for_ns(env.sim, SECONDS(1));
	assert_false(watched.is_removed);
	assert_string_equal(nvmet_ctrl_hostnqn(watched.held->ctrl), HOST_NQN);
	assert_int_equal(nvmet_ctrl_id(watched.held->ctrl), 1);
	memset(watched.held->iov.iov_base, 1, watched.held->length);
	nvmet_req_complete(watched.held, 0, 0);
	assert_false(watched.is_removed);
	assert_true(sim_run_until_flag(env.sim, &watched.is_removed, SECONDS(1)));
	assert_int_equal(watched.gone, 1);
	env_done(&env);
}

static void drop_from_a_handler(void **state)
{
	static struct env env;
	struct nvme_sqe sqe = {.opcode = 0xc0};
	struct watched watched;

	(void)state;
	env_init(&env);
	watched_add(&env, &watched);
	admin_open(&env, WATCHED_NQN, 0);
	assert_int_equal(command(&env, &env.admin, &sqe).status, 0);
	nvmet_ctrl_drop(watched.ctrl);
	assert_true(sim_run_until_flag(env.sim, &env.admin.over, SECONDS(1)));
	sim_run_for_ns(env.sim, MS(100));
	assert_int_equal(watched.gone, 1);
	watched_remove(&env, &watched);
	env_done(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_connects),
		cmocka_unit_test(connect_of_wrong_form),
		cmocka_unit_test(hosts),
		cmocka_unit_test(properties),
		cmocka_unit_test(host_of_another_kind),
		cmocka_unit_test(disabling_ends_the_queues),
		cmocka_unit_test(keep_alive),
		cmocka_unit_test(no_keep_alive),
		cmocka_unit_test(admin_queue_takes_the_others_along),
		cmocka_unit_test(io_queue_goes_alone),
		cmocka_unit_test(request_outlives_everything),
		cmocka_unit_test(drop_from_a_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
