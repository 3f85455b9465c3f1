/* SPDX-License-Identifier: Apache-2.0 */
/* Each type goes there and back with every digest and alignment; each field that must be refused
 * is. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/testing.h"
#include "nvme/pdu.h"

#include <errno.h>

static enum pdu_role receiver_of(enum pdu_type type)
{
	return type == PDU_ICREQ || type == PDU_H2C_TERM || type == PDU_CAPSULE_CMD ||
			       type == PDU_H2C_DATA
		       ? PDU_ROLE_CONTROLLER
		       : PDU_ROLE_HOST;
}

static const struct pdu samples[] = {
	{.type = PDU_ICREQ, .icreq = {.hpda = 3, .header_digest = true, .maxr2t = 15}},
	{.type = PDU_ICRESP, .icresp = {.cpda = 31, .data_digest = true, .maxh2cdata = 131072}},
	{.type = PDU_H2C_TERM, .data_length = 24, .term = {.fes = 1, .fei = 4}},
	{.type = PDU_C2H_TERM, .data_length = 128, .term = {.fes = 3, .fei = 0xdeadbeef}},
	{.type = PDU_C2H_TERM, .term = {.fes = 2}},
	{.type = PDU_CAPSULE_CMD, .sqe = {.opcode = 2, .cid = 7, .nsid = 1, .cdw15 = 9}},
	{.type = PDU_CAPSULE_CMD, .data_length = 4096, .sqe = {.opcode = 1, .cid = 8}},
	{.type = PDU_CAPSULE_RESP,
		.cqe = {.dw01 = 1, .sqhd = 2, .sqid = 3, .cid = 4, .status = 0x8004}},
	{.type = PDU_H2C_DATA,
		.data_length = 8192,
		.data = {.cccid = 5, .ttag = 6, .offset = 4096, .length = 8192, .last = true}},
	{.type = PDU_C2H_DATA,
		.data_length = 512,
		.data = {.cccid = 5, .length = 512, .last = true, .success = true}},
	{.type = PDU_C2H_DATA, .data_length = 4, .data = {.cccid = 9, .offset = 8, .length = 4}},
	{.type = PDU_R2T, .r2t = {.cccid = 1, .ttag = 2, .offset = 16, .length = 65536}},
};

static struct pdu_limits limits_for(const struct pdu *pdu, const struct pdu_encoding *encoding)
{
	return (struct pdu_limits){
		.receiver = receiver_of(pdu->type),
		.header_digest = encoding->header_digest,
		.data_digest = encoding->data_digest,
		.pda = encoding->pda,
		.capsule_data_max = 8192,
		.data_max = 131072,
	};
}

static void round_trip(const struct pdu *pdu, const struct pdu_encoding *encoding)
{
	struct pdu_limits limits = limits_for(pdu, encoding);
	uint8_t bytes[PDU_HEADER_MAX];
	struct pdu_frame frame;
	struct pdu_fault fault;
	struct pdu got;
	uint32_t length = pdu_encode(pdu, encoding, bytes);
	bool digest = pdu_has_data_digest(pdu, encoding);

	assert_true(length <= PDU_HEADER_MAX);
	assert_int_equal(pdu_frame_decode(&limits, bytes, &frame, &fault), 0);
	assert_int_equal(frame.type, pdu->type);
	assert_int_equal(frame.data_length, pdu->data_length);
	assert_int_equal(frame.data_offset, length);
	assert_int_equal(frame.data_digest, digest);
	assert_int_equal(frame.total_bytes, length + pdu->data_length + (digest ? 4 : 0));
	if (pdu->data_length > 0 && pdu->type != PDU_C2H_TERM && pdu->type != PDU_H2C_TERM) {
		assert_int_equal(length % ((encoding->pda + 1u) * 4), 0);
	}
	assert_int_equal(pdu_decode(&limits, &frame, bytes, &got, &fault), 0);
	assert_memory_equal(&got, pdu, sizeof(got));
}

static void every_type_survives_the_round_trip(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
		for (unsigned pda = 0; pda <= PDU_PDA_MAX; pda++) {
			for (unsigned digests = 0; digests < 4; digests++) {
				struct pdu_encoding encoding = {
					.header_digest = (digests & 1) != 0,
					.data_digest = (digests & 2) != 0,
					.pda = (uint8_t)pda,
				};

				round_trip(&samples[i], &encoding);
			}
		}
	}
}

/* A sample with some bytes changed must be refused with this status and field. */
struct bad {
	const char *what;
	size_t sample;
	unsigned at;
	unsigned bytes;
	uint32_t value;
	uint16_t fes;
	uint32_t fei;
};

static const struct bad bads[] = {
	{"reserved type 8", 6, 0, 1, 8, PDU_FES_HEADER_FIELD, 0},
	{"reserved type 255", 6, 0, 1, 255, PDU_FES_HEADER_FIELD, 0},
	{"type of the other direction", 6, 0, 1, PDU_R2T, PDU_FES_HEADER_FIELD, 0},
	{"HDGSTF not negotiated", 5, 1, 1, 1, PDU_FES_HEADER_FIELD, 1},
	{"DDGSTF not negotiated", 6, 1, 1, 2, PDU_FES_HEADER_FIELD, 1},
	{"DDGSTF without data", 5, 1, 1, 2, PDU_FES_HEADER_FIELD, 1},
	{"LAST in a capsule", 5, 1, 1, 4, PDU_FES_HEADER_FIELD, 1},
	{"SUCCESS in H2CData", 8, 1, 1, 8 | 4, PDU_FES_HEADER_FIELD, 1},
	{"SUCCESS without LAST", 9, 1, 1, 8, PDU_FES_HEADER_FIELD, 1},
	{"reserved flag", 9, 1, 1, 0x10, PDU_FES_HEADER_FIELD, 1},
	{"flags in ICReq", 0, 1, 1, 1, PDU_FES_HEADER_FIELD, 1},
	{"flags in R2T", 11, 1, 1, 4, PDU_FES_HEADER_FIELD, 1},
	{"HLEN short", 6, 2, 1, 64, PDU_FES_HEADER_FIELD, 2},
	{"HLEN long", 7, 2, 1, 28, PDU_FES_HEADER_FIELD, 2},
	{"PDO within the header", 6, 3, 1, 68, PDU_FES_HEADER_FIELD, 3},
	{"PDO not aligned", 6, 3, 1, 74, PDU_FES_HEADER_FIELD, 3},
	{"PDO 0", 8, 3, 1, 0, PDU_FES_HEADER_FIELD, 3},
	{"PDO too large", 8, 3, 1, 148, PDU_FES_HEADER_FIELD, 3},
	{"PLEN below the header", 5, 4, 4, 71, PDU_FES_HEADER_FIELD, 4},
	{"PLEN 0", 6, 4, 4, 0, PDU_FES_HEADER_FIELD, 4},
	{"PLEN of ICReq", 0, 4, 4, 129, PDU_FES_HEADER_FIELD, 4},
	{"PLEN of a response", 7, 4, 4, 28, PDU_FES_HEADER_FIELD, 4},
	{"PLEN of a TermReq", 2, 4, 4, 153, PDU_FES_HEADER_FIELD, 4},
	{"H2CData without data", 8, 4, 4, 24, PDU_FES_HEADER_FIELD, 4},
	{"capsule too large", 6, 4, 4, 72 + 8193, PDU_FES_LIMIT, 0},
	{"4 GiB capsule", 6, 4, 4, 0xffffffff, PDU_FES_LIMIT, 0},
	{"H2CData above MAXH2CDATA", 8, 4, 4, 24 + 131073, PDU_FES_LIMIT, 0},
	{"ICReq PFV", 0, 8, 2, 1, PDU_FES_UNSUPPORTED, 8},
	{"ICReq HPDA", 0, 10, 1, 32, PDU_FES_HEADER_FIELD, 10},
	{"ICReq DGST", 0, 11, 1, 4, PDU_FES_HEADER_FIELD, 11},
	{"ICResp PFV", 1, 8, 2, 256, PDU_FES_UNSUPPORTED, 8},
	{"ICResp CPDA", 1, 10, 1, 255, PDU_FES_HEADER_FIELD, 10},
	{"ICResp MAXH2CDATA small", 1, 12, 4, 4092, PDU_FES_HEADER_FIELD, 12},
	{"ICResp MAXH2CDATA odd", 1, 12, 4, 4098, PDU_FES_HEADER_FIELD, 12},
	{"DATAO not aligned", 8, 12, 4, 2, PDU_FES_HEADER_FIELD, 12},
	{"DATAL 0", 8, 16, 4, 0, PDU_FES_HEADER_FIELD, 16},
	{"DATAL other than PLEN", 8, 16, 4, 8191, PDU_FES_HEADER_FIELD, 16},
	{"DATAO + DATAL overflows", 9, 12, 4, 0xfffffffc, PDU_FES_OUT_OF_RANGE, 0},
	{"R2TO not aligned", 11, 12, 4, 17, PDU_FES_HEADER_FIELD, 12},
	{"R2TL 0", 11, 16, 4, 0, PDU_FES_HEADER_FIELD, 16},
	{"R2T overflows", 11, 16, 4, 0xfffffff0, PDU_FES_OUT_OF_RANGE, 0},
};

static int decode(const struct pdu_limits *limits, const uint8_t *bytes, struct pdu_fault *fault)
{
	struct pdu_frame frame;
	struct pdu pdu;
	int err = pdu_frame_decode(limits, bytes, &frame, fault);

	return err != 0 ? err : pdu_decode(limits, &frame, bytes, &pdu, fault);
}

static void every_invalid_field_is_refused(void **state)
{
	const struct pdu_encoding encoding = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bads); i++) {
		const struct bad *bad = &bads[i];
		const struct pdu *pdu = &samples[bad->sample];
		struct pdu_limits limits = limits_for(pdu, &encoding);
		uint8_t bytes[PDU_HEADER_MAX];
		struct pdu_fault fault = {0};
		int err;

		pdu_encode(pdu, &encoding, bytes);
		assert_int_equal(decode(&limits, bytes, &fault), 0);
		memcpy(bytes + bad->at, &bad->value, bad->bytes);
		err = decode(&limits, bytes, &fault);
		if (err != -EPROTO || fault.fes != bad->fes || fault.fei != bad->fei) {
			fail_msg("%s: %d, FES %u FEI %u", bad->what, err, fault.fes, fault.fei);
		}
		assert_non_null(fault.text);
	}
}

static void missing_digests_are_refused(void **state)
{
	const struct pdu_encoding plain = {0};
	const struct pdu_encoding header = {.header_digest = true};
	struct pdu_limits limits = limits_for(&samples[6], &header);
	uint8_t bytes[PDU_HEADER_MAX];
	struct pdu_fault fault;

	(void)state;
	pdu_encode(&samples[6], &plain, bytes);
	assert_int_equal(decode(&limits, bytes, &fault), -EPROTO);
	assert_int_equal(fault.fei, 1);
	limits.header_digest = false;
	limits.data_digest = true;
	assert_int_equal(decode(&limits, bytes, &fault), -EPROTO);
	assert_int_equal(fault.fei, 1);
}

static void a_flipped_bit_breaks_the_header_digest(void **state)
{
	const struct pdu_encoding encoding = {.header_digest = true};
	struct pdu_limits limits = limits_for(&samples[6], &encoding);
	uint8_t bytes[PDU_HEADER_MAX];
	struct pdu_fault fault;

	(void)state;
	pdu_encode(&samples[6], &encoding, bytes);
	assert_int_equal(le32_get(bytes + 72), crc32c(bytes, 72));
	for (unsigned bit = 8 * 8; bit < 76 * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(decode(&limits, bytes, &fault), -EPROTO);
		assert_int_equal(fault.fes, PDU_FES_HEADER_DIGEST);
		assert_int_equal(fault.fei, le32_get(bytes + 72));
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void the_layout_is_that_of_the_specification(void **state)
{
	const struct pdu_encoding encoding = {0};
	uint8_t bytes[PDU_HEADER_MAX];
	const uint8_t r2t[] = {
		9, 0, 24, 0, 24, 0, 0, 0, 1, 0, 2, 0, 16, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0};
	const uint8_t c2h[] = {
		7, 0x0c, 24, 24, 24, 2, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0};

	(void)state;
	assert_int_equal(pdu_encode(&samples[11], &encoding, bytes), sizeof(r2t));
	assert_memory_equal(bytes, r2t, sizeof(r2t));
	assert_int_equal(pdu_encode(&samples[9], &encoding, bytes), sizeof(c2h));
	assert_memory_equal(bytes, c2h, sizeof(c2h));
}

static void a_term_request_carries_the_header(void **state)
{
	struct pdu_fault fault = {.fes = PDU_FES_HEADER_FIELD, .fei = 4, .text = "x"};
	struct pdu_limits limits = {.receiver = PDU_ROLE_CONTROLLER};
	uint8_t header[200], bytes[PDU_TERM_BYTES_MAX];
	struct pdu_frame frame;
	struct pdu pdu;

	(void)state;
	memset(header, 0xa5, sizeof(header));
	assert_int_equal(
		pdu_term_encode(PDU_ROLE_HOST, &fault, header, sizeof(header), bytes), 152);
	assert_int_equal(pdu_frame_decode(&limits, bytes, &frame, &fault), 0);
	assert_int_equal(frame.data_length, 128);
	assert_int_equal(pdu_decode(&limits, &frame, bytes, &pdu, &fault), 0);
	assert_int_equal(pdu.term.fes, PDU_FES_HEADER_FIELD);
	assert_int_equal(pdu.term.fei, 4);
	assert_memory_equal(bytes + frame.data_offset, header, 128);
	assert_int_equal(pdu_term_encode(PDU_ROLE_CONTROLLER, &fault, header, 8, bytes), 32);
	assert_int_equal(bytes[0], PDU_C2H_TERM);
}

static void sgl_descriptors_go_there_and_back(void **state)
{
	const struct nvme_sgl in = {.in_capsule = true, .offset = 64, .length = 4096};
	const struct nvme_sgl out = {.length = 1u << 20};
	struct nvme_sgl got;
	uint16_t status = 0;
	uint8_t bytes[16];

	(void)state;
	nvme_sgl_encode(bytes, &in);
	assert_int_equal(nvme_sgl_decode(bytes, &got, &status), 0);
	assert_true(got.in_capsule && got.offset == 64 && got.length == 4096);
	nvme_sgl_encode(bytes, &out);
	assert_int_equal(nvme_sgl_decode(bytes, &got, &status), 0);
	assert_true(!got.in_capsule && got.length == 1u << 20);
	bytes[15] = 0x00;
	assert_int_equal(nvme_sgl_decode(bytes, &got, &status), -EPROTO);
	assert_int_equal(status, NVME_SC_SGL_TYPE_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_survives_the_round_trip),
		cmocka_unit_test(every_invalid_field_is_refused),
		cmocka_unit_test(missing_digests_are_refused),
		cmocka_unit_test(a_flipped_bit_breaks_the_header_digest),
		cmocka_unit_test(the_layout_is_that_of_the_specification),
		cmocka_unit_test(a_term_request_carries_the_header),
		cmocka_unit_test(sgl_descriptors_go_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
