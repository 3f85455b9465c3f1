/* SPDX-License-Identifier: Apache-2.0 */
/* Admin commands but the large ones. */
#include "base/bytes.h"
#include "nvmet/internal.h"

void text_put(char *to, size_t size, const char *text)
{
	size_t length = strnlen(text, size);

	memset(to, ' ', size);
	memcpy(to, text, length);
}

void request_fill(struct request *request, const void *from, size_t length, uint64_t offset)
{
	size_t room = request->req.length;

	if (offset < length && room > 0) {
		memcpy(request->req.iov.iov_base, (const uint8_t *)from + offset,
			min_u64(room, length - offset));
	}
}

/* Event requests are held until there is something to tell. */
static void async_event_request(struct request *request)
{
	struct nvmet_ctrl *ctrl = request->req.ctrl;

	if (ctrl->event_count == ASYNC_EVENTS_MAX) {
		nvmet_req_complete(&request->req, NVME_SC_ASYNC_EVENT_LIMIT_EXCEEDED, 0);
		return;
	}
	ctrl->events[ctrl->event_count++] = request;
	request_hold(request);
	ctrl_send_events(ctrl);
}

/* The commands of a discovery controller. */
static bool discovery_knows(uint8_t opcode)
{
	return opcode == NVME_ADMIN_GET_LOG_PAGE || opcode == NVME_ADMIN_IDENTIFY ||
	       opcode == NVME_ADMIN_SET_FEATURES || opcode == NVME_ADMIN_GET_FEATURES ||
	       opcode == NVME_ADMIN_ASYNC_EVENT_REQUEST || opcode == NVME_ADMIN_KEEP_ALIVE;
}

void admin_command(struct request *request)
{
	struct nvmet_req *req = &request->req;

	if (ctrl_is_discovery(req->ctrl) && !discovery_knows(req->sqe.opcode)) {
		nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
		return;
	}
	switch (req->sqe.opcode) {
	case NVME_ADMIN_IDENTIFY:
		identify_command(request);
		return;
	case NVME_ADMIN_GET_LOG_PAGE:
		log_page_command(request);
		return;
	case NVME_ADMIN_SET_FEATURES:
		features_set(request);
		return;
	case NVME_ADMIN_GET_FEATURES:
		features_get(request);
		return;
	case NVME_ADMIN_ASYNC_EVENT_REQUEST:
		async_event_request(request);
		return;
	case NVME_ADMIN_KEEP_ALIVE:
		nvmet_req_complete(req, NVME_SC_SUCCESS, 0);
		return;
	case NVME_ADMIN_ABORT:
		/* Bit 0: not aborted.  The command is executed to its end. */
		nvmet_req_complete(req, NVME_SC_SUCCESS, 1);
		return;
	default:
		nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
	}
}
