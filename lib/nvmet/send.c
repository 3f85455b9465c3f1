/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gathers everything that a connection has to send into one vector: headers one after the other in
 * send_headers (neighbours become one entry), data from the requests' buffers.  Many answers cost
 * one system call.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "nvmet/internal.h"

#include <assert.h>

/* ---- the vector ---- */

static void vector_add(struct conn *conn, void *base, size_t length)
{
	conn->send_bytes += (uint32_t)length;
	if (conn->send_iov_count > 0) {
		struct iovec *last = &conn->send_iov[conn->send_iov_count - 1];

		if ((uint8_t *)last->iov_base + last->iov_len == base) {
			last->iov_len += length;
			return;
		}
	}
	assert(conn->send_iov_count < IO_IOV_MAX);
	conn->send_iov[conn->send_iov_count++] = (struct iovec){base, length};
}

/* Is there room for data with their header and digest, and a response? */
static bool vector_has_room(const struct conn *conn)
{
	return conn->send_iov_count + 3 <= IO_IOV_MAX &&
	       conn->send_headers_used + 2 * PDU_HEADER_MAX <= SEND_HEADERS_BYTES &&
	       conn->send_bytes < SEND_BYTES_MAX;
}

static void *headers_take(struct conn *conn, uint32_t length)
{
	void *bytes = conn->send_headers + conn->send_headers_used;

	conn->send_headers_used += length;
	assert(conn->send_headers_used <= SEND_HEADERS_BYTES);
	return bytes;
}

static void header_add(struct conn *conn, const struct pdu *pdu)
{
	uint32_t length =
		pdu_encode(pdu, &conn->encoding, conn->send_headers + conn->send_headers_used);

	vector_add(conn, headers_take(conn, length), length);
}

/* ---- what is sent ---- */

static void gather_icresp(struct conn *conn)
{
	const struct pdu pdu = {
		.type = PDU_ICRESP,
		.icresp = {.header_digest = conn->limits.header_digest,
			.data_digest = conn->limits.data_digest,
			.maxh2cdata = H2C_DATA_MAX},
	};

	conn->icresp_pending = false;
	header_add(conn, &pdu);
}

static void gather_r2t(struct conn *conn, struct request *request)
{
	const struct pdu pdu = {
		.type = PDU_R2T,
		.r2t = {.cccid = request->req.sqe.cid,
			.ttag = request->ttag,
			.length = request->req.length},
	};

	request->state = REQUEST_AWAIT_DATA;
	header_add(conn, &pdu);
}

static void gather_data(struct conn *conn, struct request *request, bool success)
{
	const struct pdu pdu = {
		.type = PDU_C2H_DATA,
		.data_length = request->req.length,
		.data = {.cccid = request->req.sqe.cid,
			.length = request->req.length,
			.last = true,
			.success = success},
	};
	uint8_t *data = request->req.iov.iov_base;

	header_add(conn, &pdu);
	vector_add(conn, data, request->req.length);
	if (pdu_has_data_digest(&pdu, &conn->encoding)) {
		uint8_t *digest = headers_take(conn, PDU_DIGEST_BYTES);

		le32_put(digest, crc32c(data, request->req.length));
		vector_add(conn, digest, PDU_DIGEST_BYTES);
	}
}

/* Would the same command fail again? */
static bool status_is_final(uint16_t status)
{
	switch (status) {
	case NVME_SC_DATA_TRANSFER_ERROR:
	case NVME_SC_INTERNAL_ERROR:
	case NVME_SC_ABORT_REQUESTED:
	case NVME_SC_ABORTED_SQ_DELETION:
	case NVME_SC_TRANSIENT_TRANSPORT_ERROR:
	case NVME_SC_NAMESPACE_NOT_READY:
	case NVME_SC_CONNECT_CONTROLLER_BUSY:
	case NVME_SC_WRITE_FAULT:
	case NVME_SC_UNRECOVERED_READ_ERROR:
		return false;
	default:
		return status != 0 && status < NVME_SC_INTERNAL_PATH_ERROR;
	}
}

static void gather_response(struct conn *conn, const struct request *request)
{
	uint16_t status = nvme_status_to_wire(request->status);
	const struct pdu pdu = {
		.type = PDU_CAPSULE_RESP,
		.cqe = {.dw01 = request->dw01,
			.sqhd = conn->no_flow_control ? 0xffff : conn->sqhd,
			.sqid = conn->qid,
			.cid = request->req.sqe.cid,
			.status =
				(uint16_t)(status |
					   (status_is_final(request->status) ? NVME_CQE_DNR : 0))},
	};

	header_add(conn, &pdu);
}

/* No byte of it is needed any more for sending. */
static void request_sent(struct request *request)
{
	request->state = REQUEST_DONE;
	if (!request->counted) {
		request_recycle(request);
	}
}

static void gather_answer(struct conn *conn, struct request *request)
{
	bool has_data = request->status == 0 && request->req.length > 0 &&
			nvme_sqe_direction(&request->req.sqe) == NVME_CONTROLLER_TO_HOST;
	/* The response may be left out where it would tell nothing: no queue head, no result. */
	bool success = has_data && conn->no_flow_control && request->dw01 == 0;

	if (has_data) {
		gather_data(conn, request, success);
		request->state = REQUEST_SENDING;
		list_push_back(&conn->in_flight, &request->node);
	}
	if (!success) {
		gather_response(conn, request);
	}
	if (!has_data) {
		request_sent(request);
	}
}

static bool gather_first(struct conn *conn)
{
	struct list_node *node = list_first(&conn->to_send);
	struct request *request;

	if (node == NULL || !vector_has_room(conn)) {
		return false;
	}
	list_remove(node);
	request = container_of(node, struct request, node);
	if (request->state == REQUEST_SEND_R2T) {
		gather_r2t(conn, request);
	} else {
		gather_answer(conn, request);
	}
	return true;
}

/* ---- sending ---- */

static void send_done(struct io_send *send)
{
	struct conn *conn = send->ctx;

	conn->sending = false;
	task_wake(&conn->send_task);
}

static void send_submit(struct conn *conn)
{
	conn->sending = true;
	conn->target->stats.sends++;
	conn->target->stats.sent_bytes += conn->send_bytes;
	conn->send = (struct io_send){
		.iov = conn->send_iov,
		.iov_count = conn->send_iov_count,
		.done = send_done,
		.ctx = conn,
	};
	io_conn_send(conn->io_conn, &conn->send);
}

static void send_term(struct conn *conn)
{
	if (conn->term_sent) {
		return;
	}
	conn->term_sent = true;
	conn->send_iov[0] = (struct iovec){conn->term, conn->term_length};
	conn->send_iov_count = 1;
	conn->send_bytes = conn->term_length;
	send_submit(conn);
}

/* The send before this is over. */
static void flight_land(struct conn *conn)
{
	struct list_node *node;

	while ((node = list_pop_front(&conn->in_flight)) != NULL) {
		request_sent(container_of(node, struct request, node));
	}
}

void send_step(struct task *task)
{
	struct conn *conn = container_of(task, struct conn, send_task);

	if (conn->sending || conn->closing) {
		return;
	}
	if (conn->send.result != 0) {
		conn_shut(conn);
		return;
	}
	flight_land(conn);
	if (conn->refused) {
		send_term(conn);
		return;
	}
	if (list_is_empty(&conn->to_send) && !conn->icresp_pending) {
		return;
	}
	if (!conn->send_yielded) {
		/* Whoever else runs in this turn may have more for the same send. */
		conn->send_yielded = true;
		task_wake(task);
		return;
	}
	conn->send_yielded = false;
	conn->send_iov_count = 0;
	conn->send_bytes = 0;
	conn->send_headers_used = 0;
	if (conn->icresp_pending) {
		gather_icresp(conn);
	}
	while (gather_first(conn)) {
	}
	send_submit(conn);
}
