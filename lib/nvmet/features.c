/* SPDX-License-Identifier: Apache-2.0 */
/* Get and Set Features.  Nothing is saved: a new association begins with the defaults. */
#include "base/bytes.h"
#include "nvmet/internal.h"

#define SELECT_CURRENT      0u
#define SELECT_CAPABILITIES 3u
#define CAPABILITY_CHANGE   4u
#define SAVE                (1u << 31)
#define HOST_ID_EXTENDED    1u
#define TEMPERATURE_UNDER   (1u << 20)

static const uint32_t defaults[FEATURE_COUNT] = {
	[FEATURE_ARBITRATION] = 7, /* burst: no limit */
	[FEATURE_TEMPERATURE_OVER] = 0xffff,
};

void features_init(struct nvmet_ctrl *ctrl)
{
	memcpy(ctrl->features, defaults, sizeof(defaults));
	ctrl->queues_given = target_io_queues_max(ctrl->target);
}

/* FEATURE_COUNT: it is none of those that are only stored. */
static enum feature stored_feature(uint8_t id, uint32_t cdw11)
{
	switch (id) {
	case NVME_FEATURE_ARBITRATION:
		return FEATURE_ARBITRATION;
	case NVME_FEATURE_POWER_MANAGEMENT:
		return FEATURE_POWER_MANAGEMENT;
	case NVME_FEATURE_TEMPERATURE:
		return (cdw11 & TEMPERATURE_UNDER) != 0 ? FEATURE_TEMPERATURE_UNDER
							: FEATURE_TEMPERATURE_OVER;
	case NVME_FEATURE_ERROR_RECOVERY:
		return FEATURE_ERROR_RECOVERY;
	case NVME_FEATURE_WRITE_ATOMICITY:
		return FEATURE_WRITE_ATOMICITY;
	case NVME_FEATURE_ASYNC_EVENT_CONFIG:
		return FEATURE_ASYNC_EVENTS;
	default:
		return FEATURE_COUNT;
	}
}

static bool discovery_knows(uint8_t id)
{
	return id == NVME_FEATURE_ASYNC_EVENT_CONFIG || id == NVME_FEATURE_KEEP_ALIVE_TIMER;
}

/* ---- set ---- */

static uint16_t queues_set(struct nvmet_ctrl *ctrl, uint32_t wanted, uint64_t *ret_value)
{
	uint32_t submission = (wanted & 0xffffu) + 1, completion = (wanted >> 16) + 1;
	uint32_t count;

	if (submission == 0x10000 || completion == 0x10000) {
		return NVME_SC_INVALID_FIELD;
	}
	list_for_each (&ctrl->conns, node) {
		if (container_of(node, struct conn, ctrl_node)->qid != 0) {
			return NVME_SC_COMMAND_SEQUENCE_ERROR;
		}
	}
	count = (uint32_t)min_u64(
		target_io_queues_max(ctrl->target), min_u64(submission, completion));
	ctrl->queues_given = count;
	*ret_value = (count - 1) | (count - 1) << 16;
	return NVME_SC_SUCCESS;
}

static uint16_t feature_set(struct request *request, uint64_t *ret_value)
{
	const struct nvme_sqe *sqe = &request->req.sqe;
	struct nvmet_ctrl *ctrl = request->req.ctrl;
	uint8_t id = (uint8_t)sqe->cdw10;
	enum feature stored = stored_feature(id, sqe->cdw11);

	if (ctrl_is_discovery(ctrl) && !discovery_knows(id)) {
		return NVME_SC_INVALID_FIELD;
	}
	if ((sqe->cdw10 & SAVE) != 0) {
		return NVME_SC_FEATURE_NOT_SAVEABLE;
	}
	switch (id) {
	case NVME_FEATURE_NUMBER_OF_QUEUES:
		return queues_set(ctrl, sqe->cdw11, ret_value);
	case NVME_FEATURE_KEEP_ALIVE_TIMER:
		ctrl_set_kato(ctrl, sqe->cdw11);
		return NVME_SC_SUCCESS;
	case NVME_FEATURE_VOLATILE_WRITE_CACHE:
		/* It cannot be turned off. */
		return (sqe->cdw11 & 1u) != 0 ? NVME_SC_SUCCESS : NVME_SC_FEATURE_NOT_CHANGEABLE;
	case NVME_FEATURE_HOST_ID:
		/* Connect told it. */
		return NVME_SC_COMMAND_SEQUENCE_ERROR;
	case NVME_FEATURE_POWER_MANAGEMENT:
		if ((sqe->cdw11 & 0x1fu) != 0) {
			return NVME_SC_INVALID_FIELD; /* there is power state 0 only */
		}
		break;
	default:
		break;
	}
	if (stored == FEATURE_COUNT) {
		return NVME_SC_INVALID_FIELD;
	}
	ctrl->features[stored] = sqe->cdw11;
	return NVME_SC_SUCCESS;
}

void features_set(struct request *request)
{
	struct nvmet_ctrl *ctrl = request->req.ctrl;
	uint64_t value = 0;
	uint16_t status = feature_set(request, &value);

	nvmet_req_complete(&request->req, status, value);
	if (status == 0) {
		ctrl_send_events(ctrl);
	}
}

/* ---- get ---- */

static bool feature_is_changeable(uint8_t id)
{
	return id != NVME_FEATURE_HOST_ID && id != NVME_FEATURE_VOLATILE_WRITE_CACHE;
}

static uint16_t host_id_get(struct request *request)
{
	const struct nvmet_ctrl *ctrl = request->req.ctrl;

	if ((request->req.sqe.cdw11 & HOST_ID_EXTENDED) == 0) {
		return NVME_SC_HOST_ID_INCONSISTENT; /* fabrics know the long form only */
	}
	request_fill(request, ctrl->hostid, sizeof(ctrl->hostid), 0);
	return NVME_SC_SUCCESS;
}

static uint16_t feature_get(struct request *request, uint64_t *ret_value)
{
	const struct nvme_sqe *sqe = &request->req.sqe;
	const struct nvmet_ctrl *ctrl = request->req.ctrl;
	uint8_t id = (uint8_t)sqe->cdw10;
	uint32_t select = sqe->cdw10 >> 8 & 7u;
	bool current = select == SELECT_CURRENT;
	enum feature stored = stored_feature(id, sqe->cdw11);
	uint32_t queues = target_io_queues_max(ctrl->target);

	if (select > SELECT_CAPABILITIES || (ctrl_is_discovery(ctrl) && !discovery_knows(id))) {
		return NVME_SC_INVALID_FIELD;
	}
	switch (id) {
	case NVME_FEATURE_NUMBER_OF_QUEUES:
		queues = current ? ctrl->queues_given : queues;
		*ret_value = (queues - 1) | (queues - 1) << 16;
		break;
	case NVME_FEATURE_KEEP_ALIVE_TIMER:
		*ret_value = current ? ctrl->kato_ms : 0;
		break;
	case NVME_FEATURE_VOLATILE_WRITE_CACHE:
		*ret_value = 1;
		break;
	case NVME_FEATURE_HOST_ID:
		if (select != SELECT_CAPABILITIES) {
			return host_id_get(request);
		}
		break;
	default:
		if (stored == FEATURE_COUNT) {
			return NVME_SC_INVALID_FIELD;
		}
		*ret_value = current ? ctrl->features[stored] : defaults[stored];
		break;
	}
	if (select == SELECT_CAPABILITIES) {
		*ret_value = feature_is_changeable(id) ? CAPABILITY_CHANGE : 0;
	}
	return NVME_SC_SUCCESS;
}

void features_get(struct request *request)
{
	uint64_t value = 0;
	uint16_t status = feature_get(request, &value);

	nvmet_req_complete(&request->req, status, value);
}
