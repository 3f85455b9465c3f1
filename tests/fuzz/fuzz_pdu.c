/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe/TCP PDU decoder.  Input: 1 byte of what was negotiated (bit 0 header digest, 1 data
 * digest, 2 receiver is the host, 7:3 data alignment), then the PDU.  What is accepted must survive
 * encoding and decoding unchanged.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "nvme/pdu.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void check_round_trip(
	const struct pdu_limits *limits, const struct pdu_frame *frame, const struct pdu *pdu)
{
	const struct pdu_encoding encoding = {
		.header_digest = limits->header_digest,
		.data_digest = limits->data_digest,
		.pda = limits->pda,
	};
	uint8_t bytes[PDU_HEADER_MAX];
	struct pdu_frame again_frame;
	struct pdu again;
	struct pdu_fault fault;
	uint32_t length = pdu_encode(pdu, &encoding, bytes);

	require(pdu_frame_decode(limits, bytes, &again_frame, &fault) == 0);
	require(again_frame.type == frame->type && again_frame.flags == frame->flags);
	require(again_frame.data_offset == length && length <= frame->data_offset);
	require(again_frame.data_length == frame->data_length);
	require(pdu_decode(limits, &again_frame, bytes, &again, &fault) == 0);
	require(memcmp(pdu, &again, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pdu_limits limits = {.capsule_data_max = 8192, .data_max = 131072};
	uint8_t bytes[PDU_HEADER_MAX];
	struct pdu_frame frame;
	struct pdu_fault fault = {.text = NULL};
	struct pdu pdu;

	if (size < 1 + PDU_COMMON_BYTES) {
		return 0;
	}
	limits.header_digest = (data[0] & 1) != 0;
	limits.data_digest = (data[0] & 2) != 0;
	limits.receiver = (data[0] & 4) != 0 ? PDU_ROLE_HOST : PDU_ROLE_CONTROLLER;
	limits.pda = data[0] >> 3;
	data++;
	size = min_u64(size - 1, sizeof(bytes));
	memcpy(bytes, data, size);
	if (pdu_frame_decode(&limits, bytes, &frame, &fault) != 0) {
		require(fault.text != NULL && fault.fes != 0);
		return 0;
	}
	require(frame.header_bytes <= PDU_HEADER_MAX && frame.data_offset <= PDU_HEADER_MAX);
	require(frame.total_bytes ==
		frame.data_offset + frame.data_length + (frame.data_digest ? PDU_DIGEST_BYTES : 0));
	if (size < frame.header_bytes) {
		return 0;
	}
	if (limits.header_digest && frame.header_bytes > PDU_DIGEST_BYTES &&
		(frame.flags & 1) != 0) {
		/* The fuzzer does not find digests by itself. */
		le32_put(bytes + frame.header_bytes - PDU_DIGEST_BYTES,
			crc32c(bytes, frame.header_bytes - PDU_DIGEST_BYTES));
	}
	if (pdu_decode(&limits, &frame, bytes, &pdu, &fault) != 0) {
		require(fault.text != NULL && fault.fes != 0);
		return 0;
	}
	check_round_trip(&limits, &frame, &pdu);
	return 0;
}
