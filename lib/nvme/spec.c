/* SPDX-License-Identifier: Apache-2.0 */
/* SGL descriptors and the words for status codes. */
#include "nvme/spec.h"

#include "base/bytes.h"

#include <errno.h>

int nvme_sgl_decode(const uint8_t dptr[16], struct nvme_sgl *ret_sgl, uint16_t *ret_status)
{
	struct nvme_sgl_descriptor descriptor;

	memcpy(&descriptor, dptr, sizeof(descriptor));
	switch (descriptor.type) {
	case NVME_SGL_TYPE_DATA_OFFSET:
		*ret_sgl = (struct nvme_sgl){.in_capsule = true,
			.offset = descriptor.address,
			.length = descriptor.length};
		return 0;
	case NVME_SGL_TYPE_TRANSPORT:
		*ret_sgl = (struct nvme_sgl){.length = descriptor.length};
		return 0;
	default:
		*ret_status = NVME_SC_SGL_TYPE_INVALID;
		return -EPROTO;
	}
}

void nvme_sgl_encode(uint8_t dptr[16], const struct nvme_sgl *sgl)
{
	struct nvme_sgl_descriptor descriptor = {
		.address = sgl->in_capsule ? sgl->offset : 0,
		.length = sgl->length,
		.type = sgl->in_capsule ? NVME_SGL_TYPE_DATA_OFFSET : NVME_SGL_TYPE_TRANSPORT,
	};

	memcpy(dptr, &descriptor, sizeof(descriptor));
}

static const struct {
	uint16_t status;
	const char *text;
} status_texts[] = {
	{NVME_SC_SUCCESS, "success"},
	{NVME_SC_INVALID_OPCODE, "invalid command opcode"},
	{NVME_SC_INVALID_FIELD, "invalid field in command"},
	{NVME_SC_CID_CONFLICT, "command id conflict"},
	{NVME_SC_DATA_TRANSFER_ERROR, "data transfer error"},
	{NVME_SC_INTERNAL_ERROR, "internal error"},
	{NVME_SC_ABORT_REQUESTED, "command abort requested"},
	{NVME_SC_ABORTED_SQ_DELETION, "aborted because the queue was deleted"},
	{NVME_SC_INVALID_NAMESPACE, "invalid namespace or format"},
	{NVME_SC_COMMAND_SEQUENCE_ERROR, "command sequence error"},
	{NVME_SC_DATA_SGL_LENGTH_INVALID, "data SGL length invalid"},
	{NVME_SC_SGL_TYPE_INVALID, "SGL descriptor type invalid"},
	{NVME_SC_SGL_OFFSET_INVALID, "SGL offset invalid"},
	{NVME_SC_HOST_ID_INCONSISTENT, "host identifier inconsistent format"},
	{NVME_SC_KEEP_ALIVE_EXPIRED, "keep alive timeout expired"},
	{NVME_SC_KEEP_ALIVE_INVALID, "keep alive timeout invalid"},
	{NVME_SC_NAMESPACE_WRITE_PROTECTED, "namespace is write protected"},
	{NVME_SC_LBA_OUT_OF_RANGE, "LBA out of range"},
	{NVME_SC_CAPACITY_EXCEEDED, "capacity exceeded"},
	{NVME_SC_NAMESPACE_NOT_READY, "namespace not ready"},
	{NVME_SC_RESERVATION_CONFLICT, "reservation conflict"},
	{NVME_SC_INVALID_QUEUE_ID, "invalid queue identifier"},
	{NVME_SC_INVALID_QUEUE_SIZE, "invalid queue size"},
	{NVME_SC_ASYNC_EVENT_LIMIT_EXCEEDED, "asynchronous event request limit exceeded"},
	{NVME_SC_INVALID_LOG_PAGE, "invalid log page"},
	{NVME_SC_CONNECT_INCOMPATIBLE_FORMAT, "connect incompatible format"},
	{NVME_SC_CONNECT_CONTROLLER_BUSY, "connect controller busy"},
	{NVME_SC_CONNECT_INVALID_PARAMETERS, "connect invalid parameters"},
	{NVME_SC_CONNECT_RESTART_DISCOVERY, "connect restart discovery"},
	{NVME_SC_CONNECT_INVALID_HOST, "connect invalid host"},
	{NVME_SC_AUTHENTICATION_REQUIRED, "authentication required"},
	{NVME_SC_WRITE_FAULT, "write fault"},
	{NVME_SC_UNRECOVERED_READ_ERROR, "unrecovered read error"},
	{NVME_SC_COMPARE_FAILURE, "compare failure"},
	{NVME_SC_ACCESS_DENIED, "access denied"},
	{NVME_SC_UNWRITTEN_BLOCK, "deallocated or unwritten block"},
};

const char *nvme_status_text(uint16_t status)
{
	for (size_t i = 0; i < ARRAY_COUNT(status_texts); i++) {
		if (status_texts[i].status == status) {
			return status_texts[i].text;
		}
	}
	return status >= 0x700 ? "vendor specific status" : "unknown status";
}
