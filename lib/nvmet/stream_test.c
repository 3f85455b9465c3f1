/* SPDX-License-Identifier: Apache-2.0 */
/* A target and a host of hand-made bytes: every way to be malformed, and every way to be split. */
#include "base/testing.h"
#include "nvmet/env_test.h"

static size_t put_io(
	struct test_peer *peer, uint8_t *bytes, uint8_t opcode, const void *data, uint32_t length)
{
	const struct nvme_sqe sqe = {.opcode = opcode,
		.cid = opcode,
		.nsid = 1,
		.cdw10 = 4,
		.cdw12 = length > 0 ? length / BLOCK - 1 : 0};

	return test_put_command(peer, bytes, &sqe, data, length);
}

/* A write in the capsule, a write by R2T with two H2CData, a read, a flush. */
static void io_session(struct env *env)
{
	struct test_peer *peer = &env->io;
	uint8_t bytes[2048], data[2 * BLOCK];
	struct pdu_data extent;
	struct pdu r2t;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(i * 7 + i / 256);
	}
	say(env, peer, bytes, put_io(peer, bytes, NVME_IO_WRITE, data, BLOCK));
	assert_int_equal(expect(env, peer, PDU_CAPSULE_RESP).cqe.status, 0);
	say(env, peer, bytes, put_io(peer, bytes, NVME_IO_WRITE, NULL, 2 * BLOCK));
	r2t = expect(env, peer, PDU_R2T);
	assert_int_equal(r2t.r2t.length, 2 * BLOCK);
	extent = (struct pdu_data){
		.cccid = NVME_IO_WRITE, .ttag = r2t.r2t.ttag, .length = BLOCK + 8};
	say(env, peer, bytes, test_put_h2c(peer, bytes, &extent, data));
	extent.offset = BLOCK + 8;
	extent.length = BLOCK - 8;
	extent.last = true;
	say(env, peer, bytes, test_put_h2c(peer, bytes, &extent, data + BLOCK + 8));
	assert_int_equal(expect(env, peer, PDU_CAPSULE_RESP).cqe.status, 0);
	assert_memory_equal(env->dev.memory + 4 * BLOCK, data, sizeof(data));
	say(env, peer, bytes, put_io(peer, bytes, NVME_IO_READ, NULL, 2 * BLOCK));
	assert_int_equal(expect(env, peer, PDU_C2H_DATA).data.length, 2 * BLOCK);
	assert_memory_equal(
		peer->in + peer->in_taken - 2 * BLOCK - (peer->encoding.data_digest ? 4 : 0), data,
		2 * BLOCK);
	assert_int_equal(expect(env, peer, PDU_CAPSULE_RESP).cqe.status, 0);
	say(env, peer, bytes, put_io(peer, bytes, NVME_IO_FLUSH, NULL, 0));
	assert_int_equal(expect(env, peer, PDU_CAPSULE_RESP).cqe.status, 0);
}

static size_t session(unsigned digests, size_t cut, bool every_byte, struct test_peer *ret_peer)
{
	static struct env env;
	size_t length;

	env_init(&env);
	admin_start(&env);
	env.cut = cut;
	env.every_byte = every_byte;
	io_start(&env, digests, 0);
	io_session(&env);
	length = env.sent;
	memcpy(ret_peer, &env.io, sizeof(*ret_peer));
	env_done(&env);
	return length;
}

/* ---- tests: split ---- */

static void split_at_every_byte(void **state)
{
	struct test_peer *whole = malloc(sizeof(*whole)), *split = malloc(sizeof(*split));
	size_t length = session(0, SIZE_MAX, false, whole);

	(void)state;
	assert_true(length > 3000);
	for (size_t cut = 1; cut < length; cut++) {
		(void)session(0, cut, false, split);
		assert_int_equal(whole->in_length, split->in_length);
		assert_memory_equal(whole->in, split->in, whole->in_length);
	}
	free(whole);
	free(split);
}

static void one_byte_at_a_time(void **state)
{
	struct test_peer *whole = malloc(sizeof(*whole)), *split = malloc(sizeof(*split));

	(void)state;
	for (unsigned digests = 0; digests < 4; digests++) {
		(void)session(digests, SIZE_MAX, false, whole);
		(void)session(digests, SIZE_MAX, true, split);
		assert_int_equal(whole->in_length, split->in_length);
		assert_memory_equal(whole->in, split->in, whole->in_length);
	}
	free(whole);
	free(split);
}

/* ---- tests: success flag, digests ---- */

static void success_without_response(void **state)
{
	static struct env env;
	uint8_t bytes[256];
	struct pdu pdu;

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, NVME_CATTR_DISABLE_SQ_FLOW);
	say(&env, &env.io, bytes, put_io(&env.io, bytes, NVME_IO_READ, NULL, BLOCK));
	pdu = expect(&env, &env.io, PDU_C2H_DATA);
	assert_true(pdu.data.success && pdu.data.last);
	say(&env, &env.io, bytes, put_io(&env.io, bytes, NVME_IO_FLUSH, NULL, 0));
	assert_int_equal(expect(&env, &env.io, PDU_CAPSULE_RESP).cqe.sqhd, 0xffff);
	env_done(&env);
}

static void queue_head_goes_round(void **state)
{
	static struct env env;
	struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	for (unsigned i = 2; i < 20; i++) {
		assert_int_equal(command(&env, &env.io, &flush).sqhd, i % 8);
	}
	env_done(&env);
}

/* The command fails, the connection goes on. */
static void wrong_data_digest(void **state)
{
	static struct env env;
	uint8_t bytes[2048], data[BLOCK] = {5};
	struct pdu_data extent = {.cccid = NVME_IO_WRITE, .length = BLOCK, .last = true};
	struct nvme_cqe cqe;
	size_t length;

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 3, 0);
	length = put_io(&env.io, bytes, NVME_IO_WRITE, data, BLOCK);
	bytes[length - 1] ^= 1;
	say(&env, &env.io, bytes, length);
	cqe = expect(&env, &env.io, PDU_CAPSULE_RESP).cqe;
	assert_int_equal(nvme_status_from_wire(cqe.status), NVME_SC_TRANSIENT_TRANSPORT_ERROR);
	say(&env, &env.io, bytes, put_io(&env.io, bytes, NVME_IO_WRITE, NULL, BLOCK));
	extent.ttag = expect(&env, &env.io, PDU_R2T).r2t.ttag;
	length = test_put_h2c(&env.io, bytes, &extent, data);
	bytes[length - 10] ^= 1;
	say(&env, &env.io, bytes, length);
	cqe = expect(&env, &env.io, PDU_CAPSULE_RESP).cqe;
	assert_int_equal(nvme_status_from_wire(cqe.status), NVME_SC_TRANSIENT_TRANSPORT_ERROR);
	assert_int_equal(env.dev.count[BLK_WRITE], 0);
	say(&env, &env.io, bytes, put_io(&env.io, bytes, NVME_IO_WRITE, data, BLOCK));
	assert_int_equal(expect(&env, &env.io, PDU_CAPSULE_RESP).cqe.status, 0);
	env_done(&env);
}

/* ---- tests: refused PDUs ---- */

/* The connection says why and ends; the association and the target live. */
static void expect_refusal(struct env *env, struct test_peer *peer, uint16_t fes, uint32_t fei)
{
	struct pdu pdu = expect(env, peer, PDU_C2H_TERM);

	assert_int_equal(pdu.term.fes, fes);
	assert_int_equal(pdu.term.fei, fei);
	assert_true(sim_run_until_flag(env->sim, &peer->over, SECONDS(5)));
}

struct patch {
	const char *name;
	int digests;  /* -1: instead of ICReq */
	size_t at[2]; /* bytes changed; 0 in the second: only one */
	uint8_t byte[2];
	size_t extra; /* sent behind */
	uint16_t fes;
	uint32_t fei;
};

/* On a 512-byte write in the capsule (or an ICReq). */
static const struct patch patches[] = {
	{"unknown type", 0, {0}, {8}, 0, PDU_FES_HEADER_FIELD, 0},
	{"type far out", 0, {0}, {0xff}, 0, PDU_FES_HEADER_FIELD, 0},
	{"a PDU of the controller", 0, {0}, {PDU_CAPSULE_RESP}, 0, PDU_FES_HEADER_FIELD, 0},
	{"second ICReq", 0, {0, 2}, {PDU_ICREQ, 128}, 0, PDU_FES_HEADER_FIELD, 4},
	{"reserved flag", 0, {1}, {0x10}, 0, PDU_FES_HEADER_FIELD, 1},
	{"digest not agreed", 0, {1}, {1}, 0, PDU_FES_HEADER_FIELD, 1},
	{"digest missing", 3, {1}, {2}, 0, PDU_FES_HEADER_FIELD, 1},
	{"data digest missing", 3, {1}, {1}, 0, PDU_FES_HEADER_FIELD, 1},
	{"HLEN 0", 0, {2}, {0}, 0, PDU_FES_HEADER_FIELD, 2},
	{"HLEN too large", 0, {2}, {73}, 0, PDU_FES_HEADER_FIELD, 2},
	{"PDO inside the header", 0, {3}, {71}, 0, PDU_FES_HEADER_FIELD, 3},
	{"PDO unaligned", 0, {3}, {73}, 0, PDU_FES_HEADER_FIELD, 3},
	{"PLEN 3", 0, {4, 5}, {3, 0}, 0, PDU_FES_HEADER_FIELD, 4},
	{"PLEN 4 GiB", 0, {6, 7}, {0xff, 0xff}, 0, PDU_FES_LIMIT, 0},
	{"PLEN 8 KiB + 1", 0, {4, 5}, {73, 32}, 0, PDU_FES_LIMIT, 0},
	{"header digest", 3, {10}, {0x55}, 0, PDU_FES_HEADER_DIGEST, UINT32_MAX},
	{"command before ICReq", -1, {0, 2}, {PDU_CAPSULE_CMD, 72}, 0, PDU_FES_HEADER_FIELD, 3},
	{"ICReq with PFV 1", -1, {8}, {1}, 0, PDU_FES_UNSUPPORTED, 8},
	{"ICReq with HPDA 32", -1, {10}, {32}, 0, PDU_FES_HEADER_FIELD, 10},
	{"ICReq with DGST 4", -1, {11}, {4}, 0, PDU_FES_HEADER_FIELD, 11},
	{"ICReq too long", -1, {4}, {132}, 4, PDU_FES_HEADER_FIELD, 4},
};

static void patched(const struct patch *patch)
{
	static struct env env;
	struct test_peer *peer = &env.io;
	uint8_t bytes[2048] = {0}, data[BLOCK] = {0};
	size_t length;
	uint32_t fei = patch->fei;

	env_init(&env);
	admin_start(&env);
	if (patch->digests < 0) {
		peer_open(&env, peer);
		length = test_put_icreq(peer, bytes, 0);
	} else {
		io_start(&env, (unsigned)patch->digests, 0);
		length = put_io(peer, bytes, NVME_IO_WRITE, data, BLOCK);
	}
	bytes[patch->at[0]] = patch->byte[0];
	if (patch->at[1] != 0) {
		bytes[patch->at[1]] = patch->byte[1];
	}
	if (fei == UINT32_MAX) {
		fei = le32_get(bytes + 72);
	}
	say(&env, peer, bytes, length + patch->extra);
	expect_refusal(&env, peer, patch->fes, fei);
	/* The association goes on. */
	assert_false(env.admin.over);
	assert_int_equal(env.dev.count[BLK_WRITE], 0);
	env_done(&env);
}

static void refused_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(patches); i++) {
		print_message("           %s\n", patches[i].name);
		patched(&patches[i]);
	}
}

static void second_icreq(void **state)
{
	static struct env env;
	uint8_t bytes[256];

	(void)state;
	env_init(&env);
	negotiate(&env, &env.io, 0);
	say(&env, &env.io, bytes, test_put_icreq(&env.io, bytes, 0));
	expect_refusal(&env, &env.io, PDU_FES_SEQUENCE, 0);
	env_done(&env);
}

static void h2c_refused(const struct pdu_data *change, uint16_t fes, uint32_t fei)
{
	static struct env env;
	uint8_t bytes[2048], data[4 * BLOCK] = {0};
	struct pdu_data extent = *change;

	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	say(&env, &env.io, bytes, put_io(&env.io, bytes, NVME_IO_WRITE, NULL, 2 * BLOCK));
	extent.ttag = (uint16_t)(expect(&env, &env.io, PDU_R2T).r2t.ttag + change->ttag);
	extent.cccid = (uint16_t)(NVME_IO_WRITE + change->cccid);
	say(&env, &env.io, bytes, test_put_h2c(&env.io, bytes, &extent, data));
	expect_refusal(&env, &env.io, fes, fei);
	assert_int_equal(env.dev.count[BLK_WRITE], 0);
	env_done(&env);
}

static void refused_h2c_data(void **state)
{
	const uint32_t all = 2 * BLOCK;

	(void)state;
	h2c_refused(&(struct pdu_data){.ttag = 1, .length = all, .last = true},
		PDU_FES_HEADER_FIELD, 10);
	h2c_refused(&(struct pdu_data){.ttag = 1 << 11, .length = all, .last = true},
		PDU_FES_HEADER_FIELD, 10);
	h2c_refused(&(struct pdu_data){.ttag = 2047, .length = all, .last = true},
		PDU_FES_HEADER_FIELD, 10);
	h2c_refused(&(struct pdu_data){.cccid = 1, .length = all, .last = true},
		PDU_FES_HEADER_FIELD, 8);
	h2c_refused(&(struct pdu_data){.offset = 4, .length = all - 4, .last = true},
		PDU_FES_OUT_OF_RANGE, 0);
	h2c_refused(&(struct pdu_data){.length = all + 4, .last = true}, PDU_FES_OUT_OF_RANGE, 0);
	h2c_refused(&(struct pdu_data){.length = all}, PDU_FES_SEQUENCE, 0);
	h2c_refused(&(struct pdu_data){.length = all - 4, .last = true}, PDU_FES_SEQUENCE, 0);
}

/* The tag of a write that is over. */
static void late_h2c_data(void **state)
{
	static struct env env;
	uint8_t bytes[2048], data[BLOCK] = {0};
	struct pdu_data extent = {.cccid = NVME_IO_WRITE, .length = BLOCK, .last = true};

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	say(&env, &env.io, bytes, put_io(&env.io, bytes, NVME_IO_WRITE, NULL, BLOCK));
	extent.ttag = expect(&env, &env.io, PDU_R2T).r2t.ttag;
	say(&env, &env.io, bytes, test_put_h2c(&env.io, bytes, &extent, data));
	(void)expect(&env, &env.io, PDU_CAPSULE_RESP);
	say(&env, &env.io, bytes, put_io(&env.io, bytes, NVME_IO_WRITE, NULL, BLOCK));
	(void)expect(&env, &env.io, PDU_R2T);
	say(&env, &env.io, bytes, test_put_h2c(&env.io, bytes, &extent, data));
	expect_refusal(&env, &env.io, PDU_FES_HEADER_FIELD, 10);
	env_done(&env);
}

/* ---- tests: refused commands ---- */

static uint16_t bad_command(struct env *env, uint8_t flags, uint8_t sgl_type, uint64_t offset,
	uint32_t length, uint32_t in_capsule)
{
	uint8_t bytes[2048], data[BLOCK] = {0};
	struct nvme_sgl_descriptor sgl = {.address = offset, .length = length, .type = sgl_type};
	struct pdu pdu = {.type = PDU_CAPSULE_CMD,
		.data_length = in_capsule,
		.sqe = {.opcode = NVME_IO_WRITE, .nsid = 1, .flags = flags}};

	memcpy(pdu.sqe.dptr, &sgl, sizeof(sgl));
	say(env, &env->io, bytes, test_put_pdu(&env->io, bytes, &pdu, data));
	return nvme_status_from_wire(expect(env, &env->io, PDU_CAPSULE_RESP).cqe.status);
}

static void refused_descriptors(void **state)
{
	static struct env env;

	(void)state;
	env_init(&env);
	admin_start(&env);
	io_start(&env, 0, 0);
	assert_int_equal(bad_command(&env, 0, 1, 0, BLOCK, BLOCK), NVME_SC_INVALID_FIELD);
	assert_int_equal(bad_command(&env, 0x40, 0x40, 0, BLOCK, 0), NVME_SC_SGL_TYPE_INVALID);
	assert_int_equal(bad_command(&env, 0x40, 1, 4, BLOCK, BLOCK), NVME_SC_SGL_OFFSET_INVALID);
	assert_int_equal(
		bad_command(&env, 0x40, 1, 0, BLOCK, 256), NVME_SC_DATA_SGL_LENGTH_INVALID);
	assert_int_equal(bad_command(&env, 0x40, 1, 0, BLOCK, 0), NVME_SC_DATA_SGL_LENGTH_INVALID);
	assert_int_equal(
		bad_command(&env, 0x40, 0x5a, 0, BLOCK, BLOCK), NVME_SC_DATA_SGL_LENGTH_INVALID);
	assert_int_equal(
		bad_command(&env, 0x40, 0x5a, 0, (1 << 20) + BLOCK, 0), NVME_SC_INVALID_FIELD);
	assert_int_equal(bad_command(&env, 0x40, 1, 0, BLOCK, BLOCK), 0);
	assert_int_equal(env.dev.count[BLK_WRITE], 1);
	env_done(&env);
}

static void command_before_connect(void **state)
{
	static struct env env;
	struct nvme_sqe identify = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = 1, .cid = 5};
	struct nvme_cqe cqe;

	(void)state;
	env_init(&env);
	negotiate(&env, &env.io, 0);
	cqe = command(&env, &env.io, &identify);
	assert_int_equal(nvme_status_from_wire(cqe.status), NVME_SC_COMMAND_SEQUENCE_ERROR);
	assert_int_equal(cqe.cid, 5);
	env_done(&env);
}

static void silent_connection_is_closed(void **state)
{
	static struct env env;

	(void)state;
	env_init(&env);
	negotiate(&env, &env.io, 0);
	peer_open(&env, &env.admin);
	sim_run_for_ns(env.sim, SECONDS(9));
	assert_false(env.io.over || env.admin.over);
	sim_run_for_ns(env.sim, SECONDS(2));
	assert_true(env.io.over && env.admin.over);
	env_done(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_at_every_byte),
		cmocka_unit_test(one_byte_at_a_time),
		cmocka_unit_test(success_without_response),
		cmocka_unit_test(queue_head_goes_round),
		cmocka_unit_test(wrong_data_digest),
		cmocka_unit_test(refused_headers),
		cmocka_unit_test(second_icreq),
		cmocka_unit_test(refused_h2c_data),
		cmocka_unit_test(late_h2c_data),
		cmocka_unit_test(refused_descriptors),
		cmocka_unit_test(command_before_connect),
		cmocka_unit_test(silent_connection_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
