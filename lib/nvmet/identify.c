/* SPDX-License-Identifier: Apache-2.0 */
/* Identify. */
#include "base/bytes.h"
#include "nvmet/internal.h"

#include <assert.h>
#include <stdio.h>

#define CMIC_MANY          (NVME_CMIC_MANY_CTRLS)
#define CTRATT_TBKAS       (1u << 6) /* every command keeps the association alive */
#define LPA_EFFECTS        (1u << 1)
#define VWC_WITH_FLUSH_ALL 7u
#define KAS_UNITS          (KATO_UNIT_MS / 100u)
#define NSFEAT_THIN        1u
#define DLFEAT_ZEROS       9u /* deallocated blocks read as zeros; write zeroes may deallocate */
#define NMIC_SHARED        1u
#define NSATTR_PROTECTED   1u
#define NSTAT_READY        1u
#define NAMESPACES_MIN     1024u

/* ---- controller ---- */

static uint32_t namespace_max(const struct nvmet_ctrl *ctrl)
{
	struct nvmet_subsys *subsys = ctrl->subsys;
	uint32_t last = 0;

	if (ctrl_is_discovery(ctrl)) {
		return 0;
	}
	for (uint32_t nsid = 0; (nsid = subsys->ops->ns_next(subsys, nsid)) != 0;) {
		last = nsid;
	}
	return (uint32_t)max_u64(last, NAMESPACES_MIN);
}

static void fill_io_part(const struct nvmet_ctrl *ctrl, struct nvme_id_ctrl *id)
{
	id->cmic = CMIC_MANY;
	id->oaes = NVME_OAES_NAMESPACES;
	id->cntrltype = NVME_CNTRLTYPE_IO;
	id->lpa = NVME_LPA_EXTENDED | LPA_EFFECTS;
	id->sqes = 0x66;
	id->cqes = 0x44;
	id->nn = namespace_max(ctrl);
	id->mnan = id->nn;
	id->oncs = ctrl->subsys->oncs;
	id->vwc = VWC_WITH_FLUSH_ALL;
	id->ioccsz = (uint32_t)(sizeof(struct nvme_sqe) + CAPSULE_DATA_MAX) / 16;
	id->iorcsz = sizeof(struct nvme_cqe) / 16;
	id->wctemp = 273 + 70;
	id->cctemp = 273 + 80;
	id->awun = 0;
	le16_put(id->psd[0], 100); /* of 10 mW: the one power state uses 1 W */
}

static uint16_t identify_controller(struct request *request, void *page)
{
	const struct nvmet_ctrl *ctrl = request->req.ctrl;
	const struct nvmet_subsys *subsys = ctrl->subsys;
	struct nvme_id_ctrl *id = page;

	text_put(id->sn, sizeof(id->sn), subsys->serial);
	text_put(id->mn, sizeof(id->mn), subsys->model);
	text_put(id->fr, sizeof(id->fr), FIRMWARE_REVISION);
	id->mdts = MDTS;
	id->cntlid = ctrl->cntlid;
	id->ver = NVME_VERSION_2_0;
	id->ctratt = NVME_CTRATT_HOSTID_128 | CTRATT_TBKAS;
	id->acl = 3;
	id->aerl = ASYNC_EVENTS_MAX - 1;
	id->kas = KAS_UNITS;
	id->maxcmd = (uint16_t)ctrl->target->options.queue_depth;
	id->sgls = NVME_SGLS_ANY_ALIGNMENT | NVME_SGLS_OFFSET | NVME_SGLS_TRANSPORT;
	id->msdbd = 1;
	(void)snprintf(id->subnqn, sizeof(id->subnqn), "%s", subsys->nqn);
	if (ctrl_is_discovery(ctrl)) {
		id->oaes = NVME_OAES_DISCOVERY;
		id->cntrltype = NVME_CNTRLTYPE_DISCOVERY;
		id->lpa = NVME_LPA_EXTENDED;
	} else {
		fill_io_part(ctrl, id);
	}
	return NVME_SC_SUCCESS;
}

/* ---- namespaces ---- */

static bool ns_info(const struct request *request, struct nvmet_ns_info *ret_info)
{
	struct nvmet_subsys *subsys = request->req.ctrl->subsys;

	return subsys->ops->ns_info(subsys, request->req.sqe.nsid, ret_info);
}

/* A namespace that is not there is described by zeros. */
static uint16_t missing_namespace(const struct request *request)
{
	uint32_t nsid = request->req.sqe.nsid;

	return nsid == 0 || nsid > namespace_max(request->req.ctrl) ? NVME_SC_INVALID_NAMESPACE
								    : NVME_SC_SUCCESS;
}

static uint8_t log2_of(uint32_t power)
{
	assert(is_power_of_two(power));
	return (uint8_t)__builtin_ctz(power);
}

static uint16_t identify_namespace(struct request *request, void *page)
{
	struct nvme_id_ns *id = page;
	struct nvmet_ns_info info;

	if (!ns_info(request, &info)) {
		return missing_namespace(request);
	}
	id->nsze = info.block_count;
	id->ncap = info.block_count;
	id->nuse = info.block_count;
	id->nsfeat = NSFEAT_THIN;
	id->dlfeat = DLFEAT_ZEROS;
	id->nmic = NMIC_SHARED;
	id->nsattr = info.read_only ? NSATTR_PROTECTED : 0;
	memcpy(id->nguid, info.uuid.b, sizeof(id->nguid));
	id->lbaf[0].lbads = log2_of(info.block_bytes);
	return NVME_SC_SUCCESS;
}

static uint16_t identify_active(struct request *request, void *page)
{
	struct nvmet_subsys *subsys = request->req.ctrl->subsys;
	uint8_t *to = page;
	uint32_t nsid = request->req.sqe.nsid;

	if (nsid >= 0xfffffffeu) {
		return NVME_SC_INVALID_NAMESPACE;
	}
	for (unsigned i = 0; i < NVME_IDENTIFY_SIZE / 4; i++) {
		nsid = subsys->ops->ns_next(subsys, nsid);
		if (nsid == 0) {
			break;
		}
		le32_put(to + i * 4, nsid);
	}
	return NVME_SC_SUCCESS;
}

static uint8_t *descriptor_put(uint8_t *to, uint8_t type, const void *id, uint8_t length)
{
	const struct nvme_ns_descriptor descriptor = {.type = type, .length = length};

	memcpy(to, &descriptor, sizeof(descriptor));
	memcpy(to + sizeof(descriptor), id, length);
	return to + sizeof(descriptor) + length;
}

static uint16_t identify_descriptors(struct request *request, void *page)
{
	static const uint8_t nvm_command_set = 0;
	struct nvmet_ns_info info;
	uint8_t *to = page;

	if (!ns_info(request, &info)) {
		return NVME_SC_INVALID_NAMESPACE;
	}
	to = descriptor_put(to, NVME_NIDT_NGUID, info.uuid.b, sizeof(info.uuid.b));
	to = descriptor_put(to, NVME_NIDT_UUID, info.uuid.b, sizeof(info.uuid.b));
	(void)descriptor_put(to, NVME_NIDT_CSI, &nvm_command_set, 1);
	return NVME_SC_SUCCESS;
}

/* ---- of a command set: NVM is the only one ---- */

static bool is_nvm(const struct nvme_sqe *sqe)
{
	return sqe->cdw11 >> 24 == 0;
}

static uint16_t identify_set_namespace(struct request *request, void *page)
{
	struct nvmet_ns_info info;

	(void)page; /* nothing of what it describes (protection information) is there */
	if (!is_nvm(&request->req.sqe)) {
		return NVME_SC_INVALID_FIELD;
	}
	return ns_info(request, &info) ? NVME_SC_SUCCESS : missing_namespace(request);
}

static uint16_t identify_set_controller(struct request *request, void *page)
{
	(void)page; /* zeros: no limits beyond those of Identify Controller */
	return is_nvm(&request->req.sqe) ? NVME_SC_SUCCESS : NVME_SC_INVALID_FIELD;
}

static uint16_t identify_independent(struct request *request, void *page)
{
	uint8_t *to = page;
	struct nvmet_ns_info info;

	if (!ns_info(request, &info)) {
		return missing_namespace(request);
	}
	to[1] = NMIC_SHARED;
	to[13] = info.read_only ? NSATTR_PROTECTED : 0;
	to[14] = NSTAT_READY;
	return NVME_SC_SUCCESS;
}

static uint16_t identify_command_sets(struct request *request, void *page)
{
	uint8_t *to = page;

	(void)request;
	le64_put(to, 1); /* combination 0: NVM */
	return NVME_SC_SUCCESS;
}

/* ---- all ---- */

void identify_command(struct request *request)
{
	struct nvmet_req *req = &request->req;
	uint8_t cns = (uint8_t)req->sqe.cdw10;
	void *page = req->iov.iov_base;
	uint16_t status = NVME_SC_INVALID_FIELD;

	if (req->length < NVME_IDENTIFY_SIZE) {
		nvmet_req_complete(req, NVME_SC_DATA_SGL_LENGTH_INVALID, 0);
		return;
	}
	if (ctrl_is_discovery(req->ctrl) && cns != NVME_CNS_CONTROLLER) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	switch (cns) {
	case NVME_CNS_NAMESPACE:
		status = identify_namespace(request, page);
		break;
	case NVME_CNS_CONTROLLER:
		status = identify_controller(request, page);
		break;
	case NVME_CNS_ACTIVE_NAMESPACES:
		status = identify_active(request, page);
		break;
	case NVME_CNS_NAMESPACE_DESCRIPTORS:
		status = identify_descriptors(request, page);
		break;
	case NVME_CNS_COMMAND_SET_NAMESPACE:
		status = identify_set_namespace(request, page);
		break;
	case NVME_CNS_COMMAND_SET_CONTROLLER:
		status = identify_set_controller(request, page);
		break;
	case NVME_CNS_INDEPENDENT_NAMESPACE:
		status = identify_independent(request, page);
		break;
	case NVME_CNS_COMMAND_SETS:
		status = identify_command_sets(request, page);
		break;
	default:
		break;
	}
	nvmet_req_complete(req, status, 0);
}
