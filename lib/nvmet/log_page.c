/* SPDX-License-Identifier: Apache-2.0 */
/* Get Log Page. */
#include "base/bytes.h"
#include "nvmet/internal.h"

#include <stdio.h>
#include <sys/socket.h>

#define RETAIN_EVENT  (1u << 15)
#define KELVIN_NORMAL (273u + 40u)
#define LOG_SUPPORTED 1u
#define TREQ_NO_FLOW  4u /* flow control may be disabled */
#define TREQ_INSECURE 2u
#define PORT_ID       1u

/* ---- pages of every controller ---- */

static void supported_pages(struct request *request, bool discovery)
{
	uint32_t pages[256] = {0};

	pages[NVME_LOG_SUPPORTED_PAGES] = LOG_SUPPORTED;
	if (discovery) {
		pages[NVME_LOG_DISCOVERY] = LOG_SUPPORTED;
	} else {
		pages[NVME_LOG_ERROR] = LOG_SUPPORTED;
		pages[NVME_LOG_SMART] = LOG_SUPPORTED;
		pages[NVME_LOG_FIRMWARE] = LOG_SUPPORTED;
		pages[NVME_LOG_CHANGED_NAMESPACES] = LOG_SUPPORTED;
		pages[NVME_LOG_COMMAND_EFFECTS] = LOG_SUPPORTED;
	}
	request_fill(request, pages, sizeof(pages), nvme_log_offset_bytes(&request->req.sqe));
}

/* ---- pages of an I/O controller ---- */

static void smart(struct request *request)
{
	struct nvme_log_smart page = {.spare = 100, .spare_threshold = 1};

	le16_put(page.temperature, KELVIN_NORMAL);
	request_fill(request, &page, sizeof(page), nvme_log_offset_bytes(&request->req.sqe));
}

static void firmware(struct request *request)
{
	struct nvme_log_firmware page = {.afi = 1};

	text_put(page.frs[0], sizeof(page.frs[0]), FIRMWARE_REVISION);
	request_fill(request, &page, sizeof(page), nvme_log_offset_bytes(&request->req.sqe));
}

/* Which namespaces changed is not remembered: the host looks at all. */
static void changed_namespaces(struct request *request)
{
	struct nvmet_ctrl *ctrl = request->req.ctrl;
	uint32_t first = ctrl->namespaces_changed.masked || ctrl->namespaces_changed.pending
				 ? NVME_NSID_ALL
				 : 0;

	request_fill(request, &first, sizeof(first), nvme_log_offset_bytes(&request->req.sqe));
	if ((request->req.sqe.cdw10 & RETAIN_EVENT) == 0) {
		ctrl->namespaces_changed = (struct notice){0};
	}
}

static void effects_put(struct nvme_log_command_effects *page, const struct nvmet_subsys *subsys)
{
	static const uint8_t admin[] = {NVME_ADMIN_GET_LOG_PAGE, NVME_ADMIN_IDENTIFY,
		NVME_ADMIN_ABORT, NVME_ADMIN_SET_FEATURES, NVME_ADMIN_GET_FEATURES,
		NVME_ADMIN_ASYNC_EVENT_REQUEST, NVME_ADMIN_KEEP_ALIVE};

	for (size_t i = 0; i < sizeof(admin); i++) {
		page->admin[admin[i]] = NVME_EFFECT_SUPPORTED;
	}
	page->io[NVME_IO_FLUSH] = NVME_EFFECT_SUPPORTED;
	page->io[NVME_IO_WRITE] = NVME_EFFECT_SUPPORTED | NVME_EFFECT_BLOCKS;
	page->io[NVME_IO_READ] = NVME_EFFECT_SUPPORTED;
	if ((subsys->oncs & NVME_ONCS_COMPARE) != 0) {
		page->io[NVME_IO_COMPARE] = NVME_EFFECT_SUPPORTED;
	}
	if ((subsys->oncs & NVME_ONCS_WRITE_ZEROES) != 0) {
		page->io[NVME_IO_WRITE_ZEROES] = NVME_EFFECT_SUPPORTED | NVME_EFFECT_BLOCKS;
	}
	if ((subsys->oncs & NVME_ONCS_DSM) != 0) {
		page->io[NVME_IO_DATASET_MANAGEMENT] = NVME_EFFECT_SUPPORTED | NVME_EFFECT_BLOCKS;
	}
}

static void command_effects(struct request *request)
{
	struct nvme_log_command_effects page = {0};

	effects_put(&page, request->req.ctrl->subsys);
	request_fill(request, &page, sizeof(page), nvme_log_offset_bytes(&request->req.sqe));
}

static uint16_t io_page(struct request *request, uint8_t page)
{
	switch (page) {
	case NVME_LOG_SUPPORTED_PAGES:
		supported_pages(request, false);
		return NVME_SC_SUCCESS;
	case NVME_LOG_ERROR:
		return NVME_SC_SUCCESS; /* no entries: zeros */
	case NVME_LOG_SMART:
		smart(request);
		return NVME_SC_SUCCESS;
	case NVME_LOG_FIRMWARE:
		firmware(request);
		return NVME_SC_SUCCESS;
	case NVME_LOG_CHANGED_NAMESPACES:
		changed_namespaces(request);
		return NVME_SC_SUCCESS;
	case NVME_LOG_COMMAND_EFFECTS:
		command_effects(request);
		return NVME_SC_SUCCESS;
	default:
		return NVME_SC_INVALID_LOG_PAGE;
	}
}

/* ---- the discovery log ---- */

/* Puts the part of a piece of the page at `at` that lies within what was asked for. */
static void piece_put(struct request *request, uint64_t at, const void *piece, size_t length)
{
	uint64_t from = nvme_log_offset_bytes(&request->req.sqe);
	uint64_t room = request->req.length;
	uint64_t begin = max_u64(at, from);
	uint64_t end = min_u64(at + length, from + room);

	if (begin < end) {
		memcpy((uint8_t *)request->req.iov.iov_base + (begin - from),
			(const uint8_t *)piece + (begin - at), end - begin);
	}
}

/* The listener's own address may be that of all interfaces: the host is told the one it came by. */
static void entry_fill(struct nvme_log_discovery_entry *entry, const struct io_address *address,
	const struct nvmet_subsys *subsys)
{
	*entry = (struct nvme_log_discovery_entry){
		.trtype = NVME_TRTYPE_TCP,
		.adrfam = strchr(address->host, ':') != NULL ? NVME_ADRFAM_IPV6 : NVME_ADRFAM_IPV4,
		.subtype = NVME_SUBTYPE_NVME,
		.treq = TREQ_INSECURE | TREQ_NO_FLOW,
		.portid = PORT_ID,
		.cntlid = NVME_CNTLID_DYNAMIC,
		.asqsz = QUEUE_DEPTH_MIN,
	};
	(void)snprintf(entry->trsvcid, sizeof(entry->trsvcid), "%u", address->port);
	(void)snprintf(entry->subnqn, sizeof(entry->subnqn), "%s", subsys->nqn);
	(void)snprintf(entry->traddr, sizeof(entry->traddr), "%s", address->host);
}

static void discovery_page(struct request *request)
{
	struct nvmet_ctrl *ctrl = request->req.ctrl;
	struct nvmet *target = ctrl->target;
	struct nvme_log_discovery head = {.genctr = target->discovery_generation};
	struct nvme_log_discovery_entry entry;

	list_for_each (&target->subsystems, node) {
		struct nvmet_subsys *subsys = container_of(node, struct nvmet_subsys, node);

		if (!subsys->in_discovery || subsys->removing ||
			!target_host_allowed(subsys, ctrl->hostnqn)) {
			continue;
		}
		entry_fill(&entry, &request->conn->io_conn->local, subsys);
		piece_put(
			request, sizeof(head) + head.numrec * sizeof(entry), &entry, sizeof(entry));
		head.numrec++;
	}
	piece_put(request, 0, &head, sizeof(head));
	if ((request->req.sqe.cdw10 & RETAIN_EVENT) == 0) {
		ctrl->discovery_changed = (struct notice){0};
	}
}

static uint16_t discovery_controller_page(struct request *request, uint8_t page)
{
	if (page == NVME_LOG_DISCOVERY) {
		discovery_page(request);
		return NVME_SC_SUCCESS;
	}
	if (page == NVME_LOG_SUPPORTED_PAGES) {
		supported_pages(request, true);
		return NVME_SC_SUCCESS;
	}
	return NVME_SC_INVALID_LOG_PAGE;
}

/* ---- all ---- */

void log_page_command(struct request *request)
{
	struct nvmet_req *req = &request->req;
	uint8_t page = (uint8_t)req->sqe.cdw10;
	uint16_t status;

	if (req->length != nvme_log_length_bytes(&req->sqe)) {
		status = NVME_SC_DATA_SGL_LENGTH_INVALID;
	} else if (nvme_log_offset_bytes(&req->sqe) % 4 != 0 ||
		   nvme_log_offset_bytes(&req->sqe) > UINT32_MAX) {
		status = NVME_SC_INVALID_FIELD;
	} else if (ctrl_is_discovery(req->ctrl)) {
		status = discovery_controller_page(request, page);
	} else {
		status = io_page(request, page);
	}
	nvmet_req_complete(req, status, 0);
}
