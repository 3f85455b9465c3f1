/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding of NVMe/TCP PDUs; see pdu.h. */
#include "nvme/pdu.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <assert.h>
#include <errno.h>

/* FLAGS */
#define FLAG_HEADER_DIGEST 0x01u
#define FLAG_DATA_DIGEST   0x02u
#define FLAG_LAST          0x04u
#define FLAG_SUCCESS       0x08u

/* Offsets in the common header. */
enum { AT_TYPE = 0, AT_FLAGS = 1, AT_HLEN = 2, AT_PDO = 3, AT_PLEN = 4 };

enum data_rule {
	DATA_NONE,
	DATA_OPTIONAL, /* in a command capsule */
	DATA_REQUIRED,
	DATA_TERM, /* directly behind the header, PDO unused, no digest */
};

struct type_rule {
	const char *name; /* NULL: a reserved type */
	enum pdu_role receiver;
	uint8_t header_bytes;
	uint8_t flags;           /* allowed */
	bool before_negotiation; /* never with digests */
	enum data_rule data;
};

static const struct type_rule type_rules[] = {
	[PDU_ICREQ] = {"ICReq", PDU_ROLE_CONTROLLER, 128, 0, true, DATA_NONE},
	[PDU_ICRESP] = {"ICResp", PDU_ROLE_HOST, 128, 0, true, DATA_NONE},
	[PDU_H2C_TERM] = {"H2CTermReq", PDU_ROLE_CONTROLLER, 24, 0, true, DATA_TERM},
	[PDU_C2H_TERM] = {"C2HTermReq", PDU_ROLE_HOST, 24, 0, true, DATA_TERM},
	[PDU_CAPSULE_CMD] = {"CapsuleCmd", PDU_ROLE_CONTROLLER, 72,
		FLAG_HEADER_DIGEST | FLAG_DATA_DIGEST, false, DATA_OPTIONAL},
	[PDU_CAPSULE_RESP] = {"CapsuleResp", PDU_ROLE_HOST, 24, FLAG_HEADER_DIGEST, false,
		DATA_NONE},
	[PDU_H2C_DATA] = {"H2CData", PDU_ROLE_CONTROLLER, 24,
		FLAG_HEADER_DIGEST | FLAG_DATA_DIGEST | FLAG_LAST, false, DATA_REQUIRED},
	[PDU_C2H_DATA] = {"C2HData", PDU_ROLE_HOST, 24,
		FLAG_HEADER_DIGEST | FLAG_DATA_DIGEST | FLAG_LAST | FLAG_SUCCESS, false,
		DATA_REQUIRED},
	[PDU_R2T] = {"R2T", PDU_ROLE_HOST, 24, FLAG_HEADER_DIGEST, false, DATA_NONE},
};

static const struct type_rule *type_rule_of(unsigned type)
{
	if (type >= ARRAY_COUNT(type_rules) || type_rules[type].name == NULL) {
		return NULL;
	}
	return &type_rules[type];
}

const char *pdu_type_name(enum pdu_type type)
{
	const struct type_rule *rule = type_rule_of((unsigned)type);

	return rule != NULL ? rule->name : "reserved";
}

static int refuse(struct pdu_fault *fault, uint16_t fes, uint32_t fei, const char *text)
{
	fault->fes = fes;
	fault->fei = fei;
	fault->text = text;
	return -EPROTO;
}

static int refuse_field(struct pdu_fault *fault, uint32_t at, const char *text)
{
	return refuse(fault, PDU_FES_HEADER_FIELD, at, text);
}

/* ---- the common header
 * ---------------------------------------------------------------------------- */

static int frame_flags_check(const struct pdu_limits *limits, const struct type_rule *rule,
	uint8_t flags, struct pdu_fault *fault)
{
	if ((flags & ~rule->flags) != 0) {
		return refuse_field(fault, AT_FLAGS, "FLAGS has bits that this type does not know");
	}
	if (!rule->before_negotiation &&
		((flags & FLAG_HEADER_DIGEST) != 0) != limits->header_digest) {
		return refuse_field(fault, AT_FLAGS, "HDGSTF differs from what was negotiated");
	}
	if ((flags & FLAG_SUCCESS) != 0 && (flags & FLAG_LAST) == 0) {
		return refuse_field(fault, AT_FLAGS, "SUCCESS without LAST_PDU");
	}
	return 0;
}

/* PDO, PLEN and DDGSTF of a PDU that carries data. */
static int frame_data_decode(const struct pdu_limits *limits, const uint8_t *from,
	struct pdu_frame *frame, struct pdu_fault *fault)
{
	uint32_t alignment = (limits->pda + 1u) * 4;
	uint32_t offset = from[AT_PDO];
	uint32_t digest = limits->data_digest ? PDU_DIGEST_BYTES : 0;

	if (((frame->flags & FLAG_DATA_DIGEST) != 0) != limits->data_digest) {
		return refuse_field(fault, AT_FLAGS, "DDGSTF differs from what was negotiated");
	}
	if (offset < frame->header_bytes || offset % alignment != 0 || offset > PDU_HEADER_MAX) {
		return refuse_field(fault, AT_PDO, "PDO is outside of its range or not aligned");
	}
	if (frame->total_bytes <= offset + digest) {
		return refuse_field(fault, AT_PLEN, "PLEN leaves no room for data");
	}
	frame->data_digest = limits->data_digest;
	frame->data_offset = offset;
	frame->data_length = frame->total_bytes - offset - digest;
	if (frame->data_length >
		(frame->type == PDU_CAPSULE_CMD ? limits->capsule_data_max : limits->data_max)) {
		return refuse(fault, PDU_FES_LIMIT, 0, "more data than agreed");
	}
	return 0;
}

static int frame_length_decode(const struct pdu_limits *limits, const struct type_rule *rule,
	const uint8_t *from, struct pdu_frame *frame, struct pdu_fault *fault)
{
	switch (rule->data) {
	case DATA_OPTIONAL:
		if (frame->total_bytes == frame->header_bytes) {
			if ((frame->flags & FLAG_DATA_DIGEST) != 0) {
				return refuse_field(fault, AT_FLAGS, "DDGSTF without data");
			}
			return 0;
		}
		return frame_data_decode(limits, from, frame, fault);
	case DATA_REQUIRED:
		return frame_data_decode(limits, from, frame, fault);
	case DATA_TERM:
		if (frame->total_bytes < frame->header_bytes ||
			frame->total_bytes > PDU_TERM_BYTES_MAX) {
			return refuse_field(fault, AT_PLEN, "PLEN is outside of its range");
		}
		frame->data_offset = frame->header_bytes;
		frame->data_length = frame->total_bytes - frame->header_bytes;
		return 0;
	case DATA_NONE:
		if (frame->total_bytes != frame->header_bytes) {
			return refuse_field(fault, AT_PLEN, "PLEN does not fit the type");
		}
		return 0;
	}
	assert(false);
	return -EPROTO;
}

int pdu_frame_decode(const struct pdu_limits *limits, const uint8_t *from,
	struct pdu_frame *ret_frame, struct pdu_fault *ret_fault)
{
	const struct type_rule *rule = type_rule_of(from[AT_TYPE]);
	struct pdu_frame frame = {.flags = from[AT_FLAGS]};
	int err;

	if (rule == NULL || rule->receiver != limits->receiver) {
		return refuse_field(ret_fault, AT_TYPE, "a PDU of this type does not come here");
	}
	err = frame_flags_check(limits, rule, frame.flags, ret_fault);
	if (err != 0) {
		return err;
	}
	if (from[AT_HLEN] != rule->header_bytes) {
		return refuse_field(ret_fault, AT_HLEN, "HLEN does not fit the type");
	}
	frame.type = (enum pdu_type)from[AT_TYPE];
	frame.total_bytes = le32_get(from + AT_PLEN);
	frame.header_bytes = rule->header_bytes;
	if ((frame.flags & FLAG_HEADER_DIGEST) != 0) {
		frame.header_bytes += PDU_DIGEST_BYTES;
	}
	if (frame.total_bytes < frame.header_bytes) {
		return refuse_field(ret_fault, AT_PLEN, "PLEN is shorter than the header");
	}
	frame.data_offset = frame.header_bytes;
	err = frame_length_decode(limits, rule, from, &frame, ret_fault);
	if (err != 0) {
		return err;
	}
	*ret_frame = frame;
	return 0;
}

/* ---- the headers of each type
 * ----------------------------------------------------------------------- */

static int pda_decode(const uint8_t *from, uint8_t *ret_pda, struct pdu_fault *fault)
{
	if (le16_get(from + 8) != 0) {
		return refuse(fault, PDU_FES_UNSUPPORTED, 8, "PFV is not 0");
	}
	if (from[10] > PDU_PDA_MAX) {
		return refuse_field(fault, 10, "the data alignment is out of range");
	}
	if ((from[11] & ~3u) != 0) {
		return refuse_field(fault, 11, "DGST has bits that nobody knows");
	}
	*ret_pda = from[10];
	return 0;
}

static int icreq_decode(const uint8_t *from, struct pdu_icreq *ret_icreq, struct pdu_fault *fault)
{
	ret_icreq->pfv = 0;
	ret_icreq->header_digest = (from[11] & 1u) != 0;
	ret_icreq->data_digest = (from[11] & 2u) != 0;
	ret_icreq->maxr2t = le32_get(from + 12);
	return pda_decode(from, &ret_icreq->hpda, fault);
}

static int icresp_decode(
	const uint8_t *from, struct pdu_icresp *ret_icresp, struct pdu_fault *fault)
{
	uint32_t maxh2cdata = le32_get(from + 12);

	if (maxh2cdata < PDU_MAXH2CDATA_MIN || maxh2cdata % 4 != 0) {
		return refuse_field(fault, 12, "MAXH2CDATA is out of range");
	}
	ret_icresp->pfv = 0;
	ret_icresp->header_digest = (from[11] & 1u) != 0;
	ret_icresp->data_digest = (from[11] & 2u) != 0;
	ret_icresp->maxh2cdata = maxh2cdata;
	return pda_decode(from, &ret_icresp->cpda, fault);
}

/* Offset at 12 and length at 16, as H2CData, C2HData and R2T have them. */
static int extent_decode(
	const uint8_t *from, uint32_t *ret_offset, uint32_t *ret_length, struct pdu_fault *fault)
{
	uint32_t offset = le32_get(from + 12);
	uint32_t length = le32_get(from + 16);

	if (offset % 4 != 0) {
		return refuse_field(fault, 12, "the data offset is not a multiple of 4");
	}
	if (length == 0) {
		return refuse_field(fault, 16, "the data length is 0");
	}
	if (length > UINT32_MAX - offset) {
		return refuse(fault, PDU_FES_OUT_OF_RANGE, 0, "the data end beyond 4 GiB");
	}
	*ret_offset = offset;
	*ret_length = length;
	return 0;
}

static int data_decode(const struct pdu_frame *frame, const uint8_t *from,
	struct pdu_data *ret_data, struct pdu_fault *fault)
{
	int err = extent_decode(from, &ret_data->offset, &ret_data->length, fault);

	if (err != 0) {
		return err;
	}
	if (ret_data->length != frame->data_length) {
		return refuse_field(fault, 16, "DATAL differs from what PLEN and PDO leave");
	}
	ret_data->cccid = le16_get(from + 8);
	ret_data->ttag = frame->type == PDU_H2C_DATA ? le16_get(from + 10) : 0;
	ret_data->last = (frame->flags & FLAG_LAST) != 0;
	ret_data->success = (frame->flags & FLAG_SUCCESS) != 0;
	return 0;
}

static int header_digest_check(
	const struct pdu_frame *frame, const uint8_t *from, struct pdu_fault *fault)
{
	uint32_t covered = frame->header_bytes - PDU_DIGEST_BYTES;
	uint32_t received;

	if ((frame->flags & FLAG_HEADER_DIGEST) == 0) {
		return 0;
	}
	received = le32_get(from + covered);
	if (crc32c(from, covered) != received) {
		return refuse(fault, PDU_FES_HEADER_DIGEST, received, "the header digest is wrong");
	}
	return 0;
}

int pdu_decode(const struct pdu_limits *limits, const struct pdu_frame *frame, const uint8_t *from,
	struct pdu *ret_pdu, struct pdu_fault *ret_fault)
{
	struct pdu pdu;
	int err;

	(void)limits; /* what depends on it is in the frame; here for checks that later versions add
		       */
	err = header_digest_check(frame, from, ret_fault);
	if (err != 0) {
		return err;
	}
	memset(&pdu, 0, sizeof(pdu));
	pdu.type = frame->type;
	pdu.data_length = frame->data_length;
	switch (frame->type) {
	case PDU_ICREQ:
		err = icreq_decode(from, &pdu.icreq, ret_fault);
		break;
	case PDU_ICRESP:
		err = icresp_decode(from, &pdu.icresp, ret_fault);
		break;
	case PDU_H2C_TERM:
	case PDU_C2H_TERM:
		pdu.term.fes = le16_get(from + 8);
		pdu.term.fei = le32_get(from + 10);
		break;
	case PDU_CAPSULE_CMD:
		memcpy(&pdu.sqe, from + PDU_COMMON_BYTES, sizeof(pdu.sqe));
		break;
	case PDU_CAPSULE_RESP:
		memcpy(&pdu.cqe, from + PDU_COMMON_BYTES, sizeof(pdu.cqe));
		break;
	case PDU_H2C_DATA:
	case PDU_C2H_DATA:
		err = data_decode(frame, from, &pdu.data, ret_fault);
		break;
	case PDU_R2T:
		pdu.r2t.cccid = le16_get(from + 8);
		pdu.r2t.ttag = le16_get(from + 10);
		err = extent_decode(from, &pdu.r2t.offset, &pdu.r2t.length, ret_fault);
		break;
	}
	if (err == 0) {
		*ret_pdu = pdu;
	}
	return err;
}

/* ---- encoding
 * ------------------------------------------------------------------------------------------ */

static void extent_encode(uint8_t *to, uint32_t offset, uint32_t length)
{
	le32_put(to + 12, offset);
	le32_put(to + 16, length);
}

static void data_encode(const struct pdu *pdu, uint8_t *to)
{
	const struct pdu_data *data = &pdu->data;

	assert(data->length == pdu->data_length && data->length > 0);
	assert(data->last || !data->success);
	le16_put(to + 8, data->cccid);
	if (pdu->type == PDU_H2C_DATA) {
		le16_put(to + 10, data->ttag);
	}
	extent_encode(to, data->offset, data->length);
	if (data->last) {
		to[AT_FLAGS] |= FLAG_LAST;
	}
	if (data->success) {
		to[AT_FLAGS] |= FLAG_SUCCESS;
	}
}

/* What comes behind the common header. */
static void body_encode(const struct pdu *pdu, uint8_t *to)
{
	switch (pdu->type) {
	case PDU_ICREQ:
		to[10] = pdu->icreq.hpda;
		to[11] = (uint8_t)(pdu->icreq.header_digest | pdu->icreq.data_digest << 1);
		le32_put(to + 12, pdu->icreq.maxr2t);
		break;
	case PDU_ICRESP:
		to[10] = pdu->icresp.cpda;
		to[11] = (uint8_t)(pdu->icresp.header_digest | pdu->icresp.data_digest << 1);
		le32_put(to + 12, pdu->icresp.maxh2cdata);
		break;
	case PDU_H2C_TERM:
	case PDU_C2H_TERM:
		le16_put(to + 8, pdu->term.fes);
		le32_put(to + 10, pdu->term.fei);
		break;
	case PDU_CAPSULE_CMD:
		memcpy(to + PDU_COMMON_BYTES, &pdu->sqe, sizeof(pdu->sqe));
		break;
	case PDU_CAPSULE_RESP:
		memcpy(to + PDU_COMMON_BYTES, &pdu->cqe, sizeof(pdu->cqe));
		break;
	case PDU_H2C_DATA:
	case PDU_C2H_DATA:
		data_encode(pdu, to);
		break;
	case PDU_R2T:
		le16_put(to + 8, pdu->r2t.cccid);
		le16_put(to + 10, pdu->r2t.ttag);
		extent_encode(to, pdu->r2t.offset, pdu->r2t.length);
		break;
	}
}

uint32_t pdu_encode(
	const struct pdu *pdu, const struct pdu_encoding *encoding, uint8_t to[PDU_HEADER_MAX])
{
	const struct type_rule *rule = type_rule_of((unsigned)pdu->type);
	uint32_t alignment = (encoding->pda + 1u) * 4;
	bool header_digest, data_digest = pdu_has_data_digest(pdu, encoding);
	uint32_t length;

	assert(rule != NULL && encoding->pda <= PDU_PDA_MAX);
	assert(rule->data != DATA_NONE || pdu->data_length == 0);
	header_digest = encoding->header_digest && !rule->before_negotiation;
	memset(to, 0, rule->header_bytes);
	to[AT_TYPE] = (uint8_t)pdu->type;
	to[AT_FLAGS] = (uint8_t)((header_digest ? FLAG_HEADER_DIGEST : 0) |
				 (data_digest ? FLAG_DATA_DIGEST : 0));
	to[AT_HLEN] = rule->header_bytes;
	body_encode(pdu, to);
	length = rule->header_bytes + (header_digest ? PDU_DIGEST_BYTES : 0);
	if (pdu->data_length > 0 && rule->data != DATA_TERM) {
		uint32_t offset = (uint32_t)round_up_u64(length, alignment);

		assert(offset <= PDU_HEADER_MAX);
		memset(to + length, 0, offset - length);
		to[AT_PDO] = (uint8_t)offset;
		length = offset;
	}
	le32_put(to + AT_PLEN, length + pdu->data_length + (data_digest ? PDU_DIGEST_BYTES : 0));
	if (header_digest) {
		le32_put(to + rule->header_bytes, crc32c(to, rule->header_bytes));
	}
	return length;
}

uint32_t pdu_term_encode(enum pdu_role sender, const struct pdu_fault *fault, const uint8_t *header,
	size_t header_length, uint8_t to[PDU_TERM_BYTES_MAX])
{
	const struct pdu_encoding plain = {0};
	struct pdu pdu = {
		.type = sender == PDU_ROLE_HOST ? PDU_H2C_TERM : PDU_C2H_TERM,
		.data_length = (uint32_t)min_u64(header_length, 128),
		.term = {.fes = fault->fes, .fei = fault->fei},
	};
	uint32_t length = pdu_encode(&pdu, &plain, to);

	memcpy(to + length, header, pdu.data_length);
	return length + pdu.data_length;
}
