/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: their slots, the checks that every command passes, their buffers, their execution and
 * the answer. */
#include "base/bytes.h"
#include "nvmet/internal.h"

#include <assert.h>

static struct request *request_of(struct nvmet_req *req)
{
	return container_of(req, struct request, req);
}

/* ---- slots ---- */

struct request *request_of_index(struct conn *conn, unsigned index)
{
	if (index == 0) {
		return &conn->first;
	}
	return index <= conn->request_count ? &conn->requests[index - 1] : NULL;
}

struct request *request_take(struct conn *conn)
{
	struct list_node *node = list_pop_front(&conn->free);
	struct request *request;

	if (node == NULL) {
		return NULL;
	}
	request = container_of(node, struct request, node);
	assert(request->state == REQUEST_FREE && request->buffer_bytes == 0 && !request->counted);
	memset(&request->req, 0, sizeof(request->req));
	request->state = REQUEST_RECEIVING;
	request->status = 0;
	request->digest_error = false;
	request->moved = 0;
	request->dw01 = 0;
	return request;
}

static void buffer_put(struct request *request)
{
	struct conn *conn = request->conn;

	if (request->spare) {
		request->spare = false;
		conn->spare_used = false;
	} else if (request->buffer_bytes > 0) {
		bufpool_put(conn->target->options.buffers, request->req.iov.iov_base,
			request->buffer_bytes);
	}
	request->buffer_bytes = 0;
	request->req.iov = (struct iovec){0};
}

void request_recycle(struct request *request)
{
	struct conn *conn = request->conn;

	assert(!request->counted && !list_is_linked(&request->node));
	buffer_put(request);
	request->state = REQUEST_FREE;
	/* A late H2CData must not find the slot's next command. */
	request->ttag = (uint16_t)(request->ttag + (1u << TTAG_INDEX_BITS));
	list_push_front(&conn->free, &request->node);
	if (conn->receiver.stalled) {
		task_wake(&conn->receive_task);
	}
}

/* ---- checks ---- */

static uint16_t judge_data(const struct request *request, const struct nvme_sgl *sgl)
{
	if (sgl->length == 0) {
		return 0;
	}
	if (sgl->length > TRANSFER_MAX) {
		return NVME_SC_INVALID_FIELD;
	}
	switch ((enum nvme_direction)nvme_sqe_direction(&request->req.sqe)) {
	case NVME_NO_DATA:
		return NVME_SC_DATA_SGL_LENGTH_INVALID;
	case NVME_HOST_TO_CONTROLLER:
		return 0;
	case NVME_CONTROLLER_TO_HOST:
		return sgl->in_capsule ? NVME_SC_SGL_TYPE_INVALID : 0;
	case NVME_BOTH_WAYS:
		return NVME_SC_INVALID_FIELD;
	}
	return NVME_SC_INVALID_FIELD;
}

static bool is_connect(const struct nvme_sqe *sqe)
{
	return sqe->opcode == NVME_FABRICS && nvme_sqe_fctype(sqe) == NVME_FABRICS_CONNECT;
}

uint16_t request_judge(struct request *request, uint32_t capsule_bytes)
{
	const struct nvme_sqe *sqe = &request->req.sqe;
	struct nvme_sgl sgl;
	uint16_t status;

	if ((sqe->flags & NVME_SQE_PSDT_MASK) != NVME_SQE_PSDT_SGL) {
		return NVME_SC_INVALID_FIELD;
	}
	if (nvme_sgl_decode(sqe->dptr, &sgl, &status) != 0) {
		/* Where there are no data, some hosts leave the descriptor empty. */
		if (!bytes_are_zero(sqe->dptr, sizeof(sqe->dptr))) {
			return status;
		}
		sgl = (struct nvme_sgl){0};
	}
	if (sgl.in_capsule && sgl.offset != 0) {
		return NVME_SC_SGL_OFFSET_INVALID;
	}
	if (capsule_bytes != (sgl.in_capsule ? sgl.length : 0)) {
		return NVME_SC_DATA_SGL_LENGTH_INVALID;
	}
	if (request->conn->ctrl == NULL) {
		if (!is_connect(sqe)) {
			return NVME_SC_COMMAND_SEQUENCE_ERROR;
		}
		if (sgl.length != sizeof(struct nvme_connect_data)) {
			return NVME_SC_DATA_SGL_LENGTH_INVALID;
		}
	}
	status = judge_data(request, &sgl);
	if (status == 0) {
		request->req.length = sgl.length;
	}
	return status;
}

/* ---- buffers ---- */

static bool buffer_get(struct request *request)
{
	uint32_t length = request->req.length;
	void *buffer = bufpool_get(request->conn->target->options.buffers, length);

	if (buffer == NULL) {
		return false;
	}
	request->buffer_bytes = length;
	request->req.iov = (struct iovec){buffer, length};
	return true;
}

static void wait_for_buffer(struct conn *conn)
{
	bufpool_wait(conn->target->options.buffers, &conn->buffer_waiter, &conn->receive_task);
}

bool request_get_capsule_buffer(struct request *request)
{
	struct conn *conn = request->conn;

	if (buffer_get(request)) {
		return true;
	}
	if (conn->spare_used) {
		wait_for_buffer(conn);
		return false;
	}
	assert(request->req.length <= CAPSULE_DATA_MAX);
	conn->spare_used = true;
	request->spare = true;
	request->buffer_bytes = request->req.length;
	request->req.iov = (struct iovec){conn->spare, request->req.length};
	return true;
}

void conn_serve_buffers(struct conn *conn)
{
	struct list_node *node;

	while (!conn_is_over(conn) && (node = list_first(&conn->await_buffer)) != NULL) {
		struct request *request = container_of(node, struct request, node);

		if (!buffer_get(request)) {
			wait_for_buffer(conn);
			return;
		}
		list_remove(&request->node);
		if (nvme_sqe_direction(&request->req.sqe) == NVME_CONTROLLER_TO_HOST) {
			request_data_complete(request);
		} else {
			request->state = REQUEST_SEND_R2T;
			list_push_back(&conn->to_send, &request->node);
			task_wake(&conn->send_task);
		}
	}
}

/* ---- execution ---- */

static void admin_execute(struct request *request)
{
	struct nvmet_req *req = &request->req;
	struct nvmet_subsys *subsys = req->ctrl->subsys;

	if (req->iov.iov_len > 0 && nvme_sqe_direction(&req->sqe) == NVME_CONTROLLER_TO_HOST) {
		memset(req->iov.iov_base, 0, req->iov.iov_len);
	}
	if (!ctrl_is_ready(req->ctrl)) {
		nvmet_req_complete(req, NVME_SC_COMMAND_SEQUENCE_ERROR, 0);
	} else if (req->sqe.opcode >= NVME_ADMIN_VENDOR_FIRST &&
		   subsys->ops->admin_vendor != NULL) {
		subsys->ops->admin_vendor(subsys, req);
	} else {
		admin_command(request);
	}
}

static void execute(struct request *request)
{
	struct conn *conn = request->conn;
	struct nvmet_req *req = &request->req;

	assert(!request->counted);
	request->state = REQUEST_EXECUTING;
	request->counted = true;
	conn->counted++;
	conn->target->counted++;
	req->ctrl = conn->ctrl;
	req->qid = conn->qid;
	req->admin = conn->qid == 0;
	if (req->ctrl != NULL) {
		req->ctrl->counted++;
		req->ctrl->unanswered++;
	}
	if (req->sqe.opcode == NVME_FABRICS) {
		fabrics_command(request);
		return;
	}
	assert(req->ctrl != NULL);
	if (req->admin) {
		admin_execute(request);
	} else if (!ctrl_is_ready(req->ctrl)) {
		nvmet_req_complete(req, NVME_SC_COMMAND_SEQUENCE_ERROR, 0);
	} else {
		req->ctrl->subsys->ops->io(req->ctrl->subsys, req);
	}
}

static bool has_place(const struct nvmet *target)
{
	return target->counted < target->options.requests_max;
}

void request_data_complete(struct request *request)
{
	struct conn *conn = request->conn;
	struct nvmet *target = conn->target;

	request->state = REQUEST_READY;
	if (conn_is_over(conn)) {
		return;
	}
	if (request->digest_error) {
		request_answer(request, NVME_SC_TRANSIENT_TRANSPORT_ERROR, 0);
	} else if (!has_place(target) || !list_is_empty(&target->ready)) {
		list_push_back(&target->ready, &request->node);
	} else {
		execute(request);
	}
}

void target_run_ready(struct nvmet *target)
{
	while (has_place(target) && !list_is_empty(&target->ready)) {
		struct request *request =
			container_of(list_pop_front(&target->ready), struct request, node);

		if (!conn_is_over(request->conn)) {
			execute(request);
		}
	}
}

void request_begin(struct request *request)
{
	struct conn *conn = request->conn;

	if (request->status != 0) {
		request_answer(request, request->status, 0);
	} else if (request->req.length == 0) {
		request_data_complete(request);
	} else if (request->buffer_bytes == 0) {
		request->state = REQUEST_AWAIT_BUFFER;
		list_push_back(&conn->await_buffer, &request->node);
		conn_serve_buffers(conn);
	}
}

/* ---- answers ---- */

void request_answer(struct request *request, uint16_t status, uint64_t dw01)
{
	struct conn *conn = request->conn;

	assert(request->state != REQUEST_FREE && request->state < REQUEST_ANSWERED);
	assert(!list_is_linked(&request->node));
	request->status = status;
	request->dw01 = dw01;
	if (conn_is_over(conn)) {
		request->state = REQUEST_DONE;
		return;
	}
	request->state = REQUEST_ANSWERED;
	list_push_back(&conn->to_send, &request->node);
	task_wake(&conn->send_task);
}

static void uncount(struct request *request)
{
	struct conn *conn = request->conn;
	struct nvmet_ctrl *ctrl = request->req.ctrl;
	struct nvmet *target = conn->target;

	assert(request->counted);
	request->counted = false;
	conn->counted--;
	target->counted--;
	if (conn->ended) {
		task_wake(&conn->life_task);
	}
	if (ctrl != NULL) {
		ctrl->counted--;
	}
	if (!list_is_empty(&target->ready) || (ctrl != NULL && ctrl->gone)) {
		task_wake(&target->task);
	}
}

/* What is answered can do no harm any more; that its owner needs it longer stops nobody. */
static void settled(struct request *request)
{
	struct nvmet_ctrl *ctrl = request->req.ctrl;

	if (ctrl != NULL && --ctrl->unanswered == 0 && ctrl->gone) {
		task_wake(&ctrl->target->task);
	}
}

void nvmet_req_answer(struct nvmet_req *req, uint16_t status, uint64_t dw01)
{
	struct request *request = request_of(req);

	assert(request->state == REQUEST_EXECUTING);
	settled(request);
	request_answer(request, status, dw01);
}

void nvmet_req_release(struct nvmet_req *req)
{
	struct request *request = request_of(req);

	assert(request->state >= REQUEST_ANSWERED);
	uncount(request);
	if (request->state == REQUEST_DONE) {
		request_recycle(request);
	}
}

void nvmet_req_complete(struct nvmet_req *req, uint16_t status, uint64_t dw01)
{
	nvmet_req_answer(req, status, dw01);
	nvmet_req_release(req);
}

void request_hold(struct request *request)
{
	assert(request->state == REQUEST_EXECUTING);
	request->state = REQUEST_HELD;
	settled(request);
	uncount(request);
}

/* ---- the end ---- */

static void drop(struct request *request)
{
	if (request->state == REQUEST_FREE || request->state == REQUEST_EXECUTING) {
		return;
	}
	list_remove_if_linked(&request->node);
	if (request->counted) {
		request->state = REQUEST_DONE;
	} else {
		request_recycle(request);
	}
}

void conn_drop_requests(struct conn *conn)
{
	for (unsigned i = 0; i <= conn->request_count; i++) {
		drop(request_of_index(conn, i));
	}
}
