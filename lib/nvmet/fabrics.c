/* SPDX-License-Identifier: Apache-2.0 */
/* Fabrics commands: Connect, properties. */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nvmet/internal.h"

/* Places of Connect's parameters, for the answer that refuses one. */
#define AT_QID     offsetof(struct nvme_sqe, cdw10) + 2
#define AT_SQSIZE  offsetof(struct nvme_sqe, cdw11)
#define AT_CNTLID  NVME_CONNECT_INVALID_IN_DATA | offsetof(struct nvme_connect_data, cntlid)
#define AT_SUBNQN  NVME_CONNECT_INVALID_IN_DATA | offsetof(struct nvme_connect_data, subnqn)
#define AT_HOSTNQN NVME_CONNECT_INVALID_IN_DATA | offsetof(struct nvme_connect_data, hostnqn)

static uint16_t refuse_parameter(uint64_t at, uint64_t *ret_result)
{
	*ret_result = at;
	return NVME_SC_CONNECT_INVALID_PARAMETERS;
}

/* ---- Connect ---- */

static bool nqn_is_valid(const char *nqn)
{
	return memchr(nqn, '\0', NVME_NQN_SIZE) != NULL;
}

static uint16_t judge_connect(const struct conn *conn, const struct nvme_sqe *sqe,
	const struct nvme_connect_data *data, uint64_t *ret_result)
{
	const struct nvme_connect_cmd cmd = nvme_connect_get(sqe);

	if (nvme_connect_recfmt(sqe) != 0) {
		return NVME_SC_CONNECT_INCOMPATIBLE_FORMAT;
	}
	if (cmd.sqsize == 0 || cmd.sqsize >= conn->target->options.queue_depth) {
		return refuse_parameter(AT_SQSIZE, ret_result);
	}
	if (!nqn_is_valid(data->subnqn)) {
		return refuse_parameter(AT_SUBNQN, ret_result);
	}
	/* An empty host NQN is one of some hosts; whether it may connect is the subsystem's say. */
	if (!nqn_is_valid(data->hostnqn)) {
		return refuse_parameter(AT_HOSTNQN, ret_result);
	}
	return NVME_SC_SUCCESS;
}

/* Everything that a queue of this size needs, as the last step that can fail. */
static uint16_t queue_prepare(struct conn *conn, const struct nvme_connect_cmd *cmd)
{
	if (conn_add_requests(conn, cmd->sqsize + 1u) != 0) {
		return NVME_SC_CONNECT_CONTROLLER_BUSY;
	}
	conn->qid = cmd->qid;
	conn->entries = (uint16_t)(cmd->sqsize + 1u);
	conn->sqhd = (uint16_t)(1u % conn->entries);
	conn->no_flow_control = (cmd->cattr & NVME_CATTR_DISABLE_SQ_FLOW) != 0;
	if (conn->qid != 0) {
		conn->receiver.size_wanted = RECEIVE_BYTES_IO;
	}
	return NVME_SC_SUCCESS;
}

/* Not a status: it is decided later. */
#define CONNECT_WAITS UINT16_MAX

/*
 * The host sends again what was not answered on a connection that it has given up, and goes on:
 * what it sent there first may still be on its way, or at the device.  What was answered is
 * neither: its owner may keep it for long, as a nexus does while a replica that it ejected does not
 * answer. Hosts without a name may be several.
 */
static bool connect_must_wait(
	struct nvmet *target, const struct nvmet_subsys *subsys, const char *hostnqn)
{
	bool waits = false;

	if (!subsys->one_each_host || hostnqn[0] == '\0' || mutant_is(MUTANT_OLD_PATH)) {
		return false;
	}
	list_for_each (&target->ctrls, node) {
		struct nvmet_ctrl *ctrl = container_of(node, struct nvmet_ctrl, node);

		if (ctrl->subsys == subsys && strcmp(ctrl->hostnqn, hostnqn) == 0) {
			nvmet_ctrl_drop(ctrl);
			waits = waits || !ctrl->gone || ctrl->unanswered > 0;
		}
	}
	return waits;
}

static uint16_t connect_admin(struct conn *conn, const struct nvme_connect_cmd *cmd,
	const struct nvme_connect_data *data, uint64_t *ret_result)
{
	struct nvmet *target = conn->target;
	struct nvmet_subsys *subsys = target_find_subsys(target, data->subnqn);
	struct nvmet_ctrl *ctrl;
	uint32_t kato_ms = cmd->kato_ms;
	uint16_t status;

	if (subsys == NULL) {
		return refuse_parameter(AT_SUBNQN, ret_result);
	}
	if (!target_host_allowed(subsys, data->hostnqn)) {
		*ret_result = AT_HOSTNQN;
		return NVME_SC_CONNECT_INVALID_HOST;
	}
	if (data->cntlid != NVME_CNTLID_DYNAMIC) {
		return refuse_parameter(AT_CNTLID, ret_result);
	}
	if (connect_must_wait(target, subsys, data->hostnqn)) {
		return CONNECT_WAITS;
	}
	ctrl = ctrl_new(target, subsys, data);
	if (ctrl == NULL) {
		return NVME_SC_CONNECT_CONTROLLER_BUSY;
	}
	status = queue_prepare(conn, cmd);
	if (status != 0) {
		ctrl_free(ctrl);
		return status;
	}
	ctrl_attach(ctrl, conn);
	if (ctrl_is_discovery(ctrl) && kato_ms == 0) {
		kato_ms = DISCOVERY_KATO_MS;
	}
	ctrl_set_kato(ctrl, kato_ms);
	return NVME_SC_SUCCESS;
}

static bool queue_is_there(const struct nvmet_ctrl *ctrl, uint16_t qid)
{
	list_for_each (&ctrl->conns, node) {
		if (container_of(node, struct conn, ctrl_node)->qid == qid) {
			return true;
		}
	}
	return false;
}

static uint16_t connect_io(struct conn *conn, const struct nvme_connect_cmd *cmd,
	const struct nvme_connect_data *data, uint64_t *ret_result)
{
	struct nvmet_ctrl *ctrl = ctrl_find(conn->target, data->cntlid);
	uint16_t status;

	if (ctrl == NULL || ctrl->dropped) {
		return refuse_parameter(AT_CNTLID, ret_result);
	}
	if (strcmp(ctrl->subsys->nqn, data->subnqn) != 0) {
		return refuse_parameter(AT_SUBNQN, ret_result);
	}
	if (strcmp(ctrl->hostnqn, data->hostnqn) != 0) {
		return refuse_parameter(AT_HOSTNQN, ret_result);
	}
	/* The host identifier is not compared: there are hosts that make one up for each queue. */
	if (ctrl_is_discovery(ctrl) || cmd->qid > ctrl->queues_given) {
		return refuse_parameter(AT_QID, ret_result);
	}
	if (!ctrl_is_ready(ctrl) || queue_is_there(ctrl, cmd->qid)) {
		return NVME_SC_COMMAND_SEQUENCE_ERROR;
	}
	status = queue_prepare(conn, cmd);
	if (status == 0) {
		ctrl_attach(ctrl, conn);
	}
	return status;
}

static void connect_command(struct request *request)
{
	struct conn *conn = request->conn;
	const struct nvme_connect_cmd cmd = nvme_connect_get(&request->req.sqe);
	const struct nvme_connect_data *data = request->req.iov.iov_base;
	uint64_t result = 0;
	uint16_t status;

	if (conn->ctrl != NULL || request->req.length != sizeof(*data)) {
		nvmet_req_complete(&request->req, NVME_SC_COMMAND_SEQUENCE_ERROR, 0);
		return;
	}
	status = judge_connect(conn, &request->req.sqe, data, &result);
	if (status == 0) {
		status = cmd.qid == 0 ? connect_admin(conn, &cmd, data, &result)
				      : connect_io(conn, &cmd, data, &result);
	}
	if (status == CONNECT_WAITS) {
		conn->connect = request;
		return;
	}
	if (status == 0) {
		result = conn->ctrl->cntlid;
	}
	log_debug(&conn->target->io->log, "nvmet", "connect", "host=%.223s queue=%u status=%03x",
		data->hostnqn, cmd.qid, status);
	nvmet_req_complete(&request->req, status, result);
}

void fabrics_run_connects(struct nvmet *target)
{
	list_for_each (&target->conns, node) {
		struct conn *conn = container_of(node, struct conn, node);
		struct request *request = conn->connect;

		if (request == NULL) {
			continue;
		}
		conn->connect = NULL;
		if (conn_is_over(conn)) {
			nvmet_req_complete(&request->req, NVME_SC_CONNECT_CONTROLLER_BUSY, 0);
		} else {
			connect_command(request);
		}
	}
}

/* ---- properties ---- */

static uint64_t capabilities(const struct nvmet *target)
{
	uint64_t timeout = 15; /* 7.5 s */

	return (target->options.queue_depth - 1) | NVME_CAP_CQR | timeout << NVME_CAP_TO_SHIFT |
	       NVME_CAP_CSS_NVM;
}

static uint16_t property_get(const struct request *request, uint64_t *ret_value)
{
	const struct nvme_sqe *sqe = &request->req.sqe;
	const struct nvmet_ctrl *ctrl = request->req.ctrl;
	bool is_long = (sqe->cdw10 & 7u) == NVME_PROPERTY_8_BYTES;

	if (is_long != (sqe->cdw11 == NVME_PROPERTY_CAP) || (sqe->cdw10 & 7u) > 1) {
		return NVME_SC_INVALID_FIELD;
	}
	switch (sqe->cdw11) {
	case NVME_PROPERTY_CAP:
		*ret_value = capabilities(ctrl->target);
		return NVME_SC_SUCCESS;
	case NVME_PROPERTY_VS:
		*ret_value = NVME_VERSION_2_0;
		return NVME_SC_SUCCESS;
	case NVME_PROPERTY_CC:
		*ret_value = ctrl->cc;
		return NVME_SC_SUCCESS;
	case NVME_PROPERTY_CSTS:
		*ret_value = ctrl->csts;
		return NVME_SC_SUCCESS;
	default:
		return NVME_SC_INVALID_FIELD;
	}
}

/* The command set is NVM (0), alone or as all that there are (6), pages are 4 KiB, arbitration is
 * round robin, and queue entries have the one size that there is (a discovery controller has no I/O
 * queues). */
static bool cc_is_valid(const struct nvmet_ctrl *ctrl, uint32_t cc)
{
	uint32_t sqes = cc >> NVME_CC_IOSQES_SHIFT & 0xfu;
	uint32_t cqes = cc >> NVME_CC_IOCQES_SHIFT & 0xfu;
	uint32_t css = cc >> 4 & 7u;

	if ((cc & 0x3f80u) != 0 || (css != 0 && css != 6)) {
		return false;
	}
	return ctrl_is_discovery(ctrl) || (sqes == 6 && cqes == 4);
}

static void cc_set(struct nvmet_ctrl *ctrl, uint32_t cc)
{
	bool was_enabled = (ctrl->cc & NVME_CC_EN) != 0;

	ctrl->cc = cc;
	if ((cc & NVME_CC_SHN_MASK) != 0) {
		ctrl->csts = (ctrl->csts & ~NVME_CSTS_SHST_MASK) | NVME_CSTS_SHST_COMPLETE;
	}
	if ((cc & NVME_CC_EN) == 0) {
		if (was_enabled) {
			ctrl_drop_io(ctrl);
			ctrl->csts &= ~(NVME_CSTS_RDY | NVME_CSTS_CFS);
			if ((cc & NVME_CC_SHN_MASK) == 0) {
				ctrl->csts &= ~NVME_CSTS_SHST_MASK;
			}
		}
		return;
	}
	if (was_enabled) {
		return;
	}
	if (cc_is_valid(ctrl, cc)) {
		ctrl->csts = NVME_CSTS_RDY | (ctrl->csts & NVME_CSTS_SHST_MASK);
		if ((cc & NVME_CC_SHN_MASK) == 0) {
			ctrl->csts &= ~NVME_CSTS_SHST_MASK;
		}
	} else {
		ctrl->csts |= NVME_CSTS_CFS;
	}
}

static uint16_t property_set(struct request *request)
{
	const struct nvme_sqe *sqe = &request->req.sqe;

	if ((sqe->cdw10 & 7u) != 0 || sqe->cdw11 != NVME_PROPERTY_CC) {
		return NVME_SC_INVALID_FIELD;
	}
	cc_set(request->req.ctrl, sqe->cdw12);
	return NVME_SC_SUCCESS;
}

/* ---- all ---- */

void fabrics_command(struct request *request)
{
	struct nvmet_req *req = &request->req;
	uint64_t value = 0;
	uint16_t status;

	if (nvme_sqe_fctype(&req->sqe) == NVME_FABRICS_CONNECT) {
		connect_command(request);
		return;
	}
	if (!req->admin) {
		/* Disconnect too: a queue ends with its connection. */
		nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
		return;
	}
	switch (nvme_sqe_fctype(&req->sqe)) {
	case NVME_FABRICS_PROPERTY_GET:
		status = property_get(request, &value);
		break;
	case NVME_FABRICS_PROPERTY_SET:
		status = property_set(request);
		break;
	default:
		status = NVME_SC_INVALID_OPCODE;
		break;
	}
	nvmet_req_complete(req, status, value);
}
