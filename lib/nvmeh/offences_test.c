/* SPDX-License-Identifier: Apache-2.0 */
/* What a controller may not say, and what it may although it is unusual. */
#include "nvmeh/env_test.h"

static bool bad_cid(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_respond(conn, (uint16_t)(sqe->cid + 1), 0, 0);
	return true;
}

static bool stale_cid(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_respond(conn, sqe->cid ^ (1u << 10), 0, 0);
	return true;
}

static bool bad_cid_huge(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	(void)sqe;
	fake_respond(conn, 0xffff, 0, 0);
	return true;
}

static bool answer_twice(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_respond(conn, sqe->cid, 1, 0);
	fake_respond(conn, sqe->cid, 1, 0);
	return true;
}

/* The second answer comes while the first one still waits for the data to leave. */
static bool refuse_twice(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	conn->fake->drop_h2c = true;
	fake_put_r2t(conn, sqe->cid, 0, fake_length(sqe));
	fake_respond(conn, sqe->cid, NVME_SC_WRITE_FAULT, 0);
	fake_respond(conn, sqe->cid, NVME_SC_WRITE_FAULT, 0);
	return true;
}

static bool short_read(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_c2h(conn, &(struct pdu_data){.cccid = sqe->cid, .length = 4096, .last = true},
		conn->fake->store);
	fake_respond(conn, sqe->cid, 0, 0);
	return true;
}

static bool short_read_success(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_c2h(conn,
		&(struct pdu_data){
			.cccid = sqe->cid, .length = 4096, .last = true, .success = true},
		conn->fake->store);
	return true;
}

static bool long_read(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_c2h(conn, &(struct pdu_data){.cccid = sqe->cid, .length = 8196, .last = true},
		conn->fake->store);
	return true;
}

static bool overlapping_read(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	struct pdu_data data = {.cccid = sqe->cid, .length = 4096};

	fake_put_c2h(conn, &data, conn->fake->store);
	fake_put_c2h(conn, &data, conn->fake->store);
	fake_respond(conn, sqe->cid, 0, 0);
	return true;
}

static bool hole_in_read(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_c2h(conn, &(struct pdu_data){.cccid = sqe->cid, .offset = 4096, .length = 4096},
		conn->fake->store);
	return true;
}

static bool data_for_nobody(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_c2h(conn, &(struct pdu_data){.cccid = (uint16_t)(sqe->cid + 1), .length = 4096},
		conn->fake->store);
	return true;
}

static bool r2t_for_read(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_r2t(conn, sqe->cid, 0, 4096);
	return true;
}

static bool r2t_too_long(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_r2t(conn, sqe->cid, 0, 65540);
	return true;
}

static bool r2t_hole(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_r2t(conn, sqe->cid, 4096, 4096);
	return true;
}

static bool r2t_twice(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_r2t(conn, sqe->cid, 0, 4096);
	fake_put_r2t(conn, sqe->cid, 4096, 4096);
	return true;
}

static bool success_without_data(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_respond(conn, sqe->cid, 0, 0);
	return true;
}

static bool second_icresp(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	(void)sqe;
	fake_put_pdu(conn, &(struct pdu){.type = PDU_ICRESP, .icresp = {.maxh2cdata = 4096}}, NULL);
	return true;
}

static bool garbage(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	(void)sqe;
	fake_put(conn, "HTTP/1.1 200 OK\r\n\r\n", 19);
	return true;
}

static bool term_request(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	const struct pdu_fault fault = {.fes = PDU_FES_SEQUENCE};
	uint8_t bytes[PDU_TERM_BYTES_MAX];

	fake_put(conn, bytes,
		pdu_term_encode(
			PDU_ROLE_CONTROLLER, &fault, (const uint8_t *)sqe, sizeof(*sqe), bytes));
	return true;
}

static const struct {
	bool (*misbehave)(struct fake_conn *conn, const struct nvme_sqe *sqe);
	uint8_t opcode;
	const char *text;
	unsigned terms;
} offences[] = {
	{bad_cid, VENDOR_NONE, "not under way", 1},
	{stale_cid, VENDOR_NONE, "not under way", 1},
	{bad_cid_huge, VENDOR_NONE, "not under way", 1},
	{answer_twice, VENDOR_NONE, "not under way", 1},
	{refuse_twice, VENDOR_WRITE, "not under way", 1},
	{short_read, VENDOR_READ, "before all data", 1},
	{short_read_success, VENDOR_READ, "before all data", 1},
	{long_read, VENDOR_READ, "outside of the command's buffer", 1},
	{overlapping_read, VENDOR_READ, "outside of the command's buffer", 1},
	{hole_in_read, VENDOR_READ, "outside of the command's buffer", 1},
	{data_for_nobody, VENDOR_READ, "wants none", 1},
	{short_read, VENDOR_WRITE, "wants none", 1},
	{r2t_for_read, VENDOR_READ, "no data to send", 1},
	{r2t_too_long, VENDOR_WRITE, "outside of the command's data", 1},
	{r2t_hole, VENDOR_WRITE, "outside of the command's data", 1},
	{r2t_twice, VENDOR_WRITE, "a second R2T", 1},
	{success_without_data, VENDOR_WRITE, "before all data", 1},
	{success_without_data, VENDOR_READ, "before all data", 1},
	{second_icresp, VENDOR_NONE, "second ICResp", 1},
	{garbage, VENDOR_NONE, "does not come here", 1},
	{term_request, VENDOR_NONE, "FES 2", 0},
};

static void an_offence_fails_the_association(void **state)
{
	static uint8_t buffer[65536];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(offences); i++) {
		bool is_read = offences[i].opcode == VENDOR_READ;
		struct env env;
		struct op op, other;

		env_init(&env, i);
		env_connect(&env);
		env.fake->misbehave = offences[i].misbehave;
		op_init(&op, offences[i].opcode, 0, buffer,
			offences[i].opcode == VENDOR_NONE ? 0
			: is_read                         ? 8192
							  : 65536);
		op_init(&other, VENDOR_WRITE, 100, buffer, 65536);
		nvmeh_submit(env.assoc, &op.cmd);
		assert_true(sim_run_until_flag(env.sim, &env.failed, SECONDS(3)));
		if (strstr(env.reason, offences[i].text) == NULL) {
			fail_msg("case %zu: %s", i, env.reason);
		}
		nvmeh_submit(env.assoc, &other.cmd);
		assert_true(sim_run_until_flag(env.sim, &other.is_done, SECONDS(3)));
		assert_int_equal(other.cmd.result, -ECONNRESET);
		assert_int_equal(op.done, 1);
		if (offences[i].misbehave != answer_twice &&
			offences[i].misbehave != refuse_twice) {
			assert_int_equal(op.cmd.result, -ECONNRESET);
		}
		sim_run_for_ns(env.sim, SECONDS(1));
		if (env.fake->terms != offences[i].terms) {
			fail_msg("case %zu: %u TermReqs", i, env.fake->terms);
		}
		env_close(&env);
		assert_int_equal(op.done, 1);
	}
}

static void a_wrong_data_digest_is_noticed(void **state)
{
	static uint8_t buffer[65536];

	(void)state;
	for (unsigned large = 0; large < 2; large++) {
		struct env env;
		struct op op;

		env_init(&env, 1);
		env.options.data_digest = env.fake->data_digest = true;
		env_connect(&env);
		env.fake->flip_data = true;
		op_init(&op, VENDOR_READ, 0, buffer, large ? 65536 : 512);
		op_run(&env, &op);
		assert_int_equal(op.cmd.result, -ECONNRESET);
		assert_true(env.failed);
		assert_non_null(strstr(env.reason, "digest"));
		env_close(&env);
	}
}

/* R2T for all data, and the error at once behind it. */
static bool order_and_refuse(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_put_r2t(conn, sqe->cid, 0, fake_length(sqe));
	fake_respond(conn, sqe->cid, NVME_SC_WRITE_FAULT, 0);
	conn->fake->drop_h2c = true;
	return true;
}

static void a_refused_write_is_done_when_its_buffer_is_free(void **state)
{
	static uint8_t buffer[65536];
	struct env env;
	struct op op;

	(void)state;
	env_init(&env, 1);
	env.fake->maxh2cdata = 4096;
	env_connect(&env);
	env.fake->misbehave = order_and_refuse;
	op_init(&op, VENDOR_WRITE, 0, buffer, sizeof(buffer));
	op_split(&op, 64);
	op_run(&env, &op);
	assert_int_equal(op.cmd.result, 0);
	assert_int_equal(op.cmd.status, NVME_SC_WRITE_FAULT);
	assert_int_equal(op.cmd.transferred, sizeof(buffer));
	env.fake->misbehave = NULL;
	sim_run_for_ns(env.sim, SECONDS(1));
	assert_int_equal(env.fake->dropped_bytes, sizeof(buffer));
	env.fake->drop_h2c = false;
	write_and_read(&env, 65536, 1);
	env_close(&env);
}

/* The write is answered with an error although nobody asked for its data yet. */
static bool refuse_early(struct fake_conn *conn, const struct nvme_sqe *sqe)
{
	fake_respond(conn, sqe->cid, NVME_SC_LBA_OUT_OF_RANGE, 0);
	return true;
}

static void an_error_status_leaves_the_association_alive(void **state)
{
	static uint8_t buffer[65536];
	struct env env;
	struct op op;

	(void)state;
	env_init(&env, 1);
	env_connect(&env);
	env.fake->misbehave = refuse_early;
	op_init(&op, VENDOR_WRITE, 0, buffer, sizeof(buffer));
	op_run(&env, &op);
	assert_int_equal(op.cmd.result, 0);
	assert_int_equal(op.cmd.status, NVME_SC_LBA_OUT_OF_RANGE);
	op_init(&op, VENDOR_READ, 0, buffer, sizeof(buffer));
	op_run(&env, &op);
	assert_int_equal(op.cmd.status, NVME_SC_LBA_OUT_OF_RANGE);
	env.fake->misbehave = NULL;
	write_and_read(&env, 65536, 1);
	assert_false(env.failed);
	env_close(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_offence_fails_the_association),
		cmocka_unit_test(a_wrong_data_digest_is_noticed),
		cmocka_unit_test(a_refused_write_is_done_when_its_buffer_is_free),
		cmocka_unit_test(an_error_status_leaves_the_association_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
