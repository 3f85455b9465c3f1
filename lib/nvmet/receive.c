/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the host's bytes apart.  One receive may bring many PDUs: all are handled in one turn.
 * Headers and small data come through the connection's receive buffer; what is large is received
 * into the request's own buffer, with the receive buffer behind it for what follows.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "nvmet/internal.h"

#include <assert.h>

/* false: more bytes are needed, or it is stalled, or over. */
typedef bool receive_part(struct conn *conn);

/* The header of a PDU that is refused is still in the receive buffer. */
static bool refuse(struct conn *conn, uint16_t fes, uint32_t fei, const char *text)
{
	const struct pdu_fault fault = {.fes = fes, .fei = fei, .text = text};
	const struct receiver *receiver = &conn->receiver;

	conn_refuse(conn, &fault, receiver->bytes + receiver->begin, receiver->frame.header_bytes);
	return false;
}

/* ---- PDUs: called with the header still in the buffer ---- */

static bool icreq_take(struct conn *conn)
{
	const struct pdu_icreq *icreq = &conn->receiver.pdu.icreq;

	conn->limits.header_digest = icreq->header_digest;
	conn->limits.data_digest = icreq->data_digest;
	conn->encoding.header_digest = icreq->header_digest;
	conn->encoding.data_digest = icreq->data_digest;
	conn->encoding.pda = icreq->hpda;
	conn->negotiated = true;
	conn->icresp_pending = true;
	task_wake(&conn->send_task);
	return true;
}

static bool stall(struct conn *conn)
{
	conn->receiver.stalled = true;
	return false;
}

static bool command_take(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	struct request *request = request_take(conn);

	receiver->request = NULL;
	if (request == NULL) {
		return stall(conn);
	}
	request->req.sqe = receiver->pdu.sqe;
	request->status = request_judge(request, receiver->pdu.data_length);
	if (request->status == 0 && receiver->pdu.data_length > 0) {
		if (!request_get_capsule_buffer(request)) {
			request_recycle(request);
			return stall(conn);
		}
		receiver->request = request;
	}
	conn->target->stats.commands++;
	if (conn->entries > 0) {
		conn->sqhd = (uint16_t)((conn->sqhd + 1u) % conn->entries);
	}
	request_begin(request);
	return true;
}

static bool data_take(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	const struct pdu_data *data = &receiver->pdu.data;
	struct request *request =
		request_of_index(conn, data->ttag & ((1u << TTAG_INDEX_BITS) - 1));
	uint32_t left;

	receiver->request = NULL;
	if (request == NULL || request->ttag != data->ttag ||
		request->state != REQUEST_AWAIT_DATA) {
		return refuse(
			conn, PDU_FES_HEADER_FIELD, 10, "H2CData with a tag that was not given");
	}
	if (data->cccid != request->req.sqe.cid) {
		return refuse(
			conn, PDU_FES_HEADER_FIELD, 8, "H2CData with another command's identifier");
	}
	left = request->req.length - request->moved;
	if (data->offset != request->moved || data->length > left) {
		return refuse(conn, PDU_FES_OUT_OF_RANGE, 0, "H2CData outside of what R2T asked");
	}
	if (data->last != (data->length == left)) {
		return refuse(conn, PDU_FES_SEQUENCE, 0, "LAST_PDU does not fit the data");
	}
	receiver->request = request;
	return true;
}

static bool header_take(struct conn *conn)
{
	enum pdu_type type = conn->receiver.pdu.type;

	if (type != PDU_H2C_TERM && (type == PDU_ICREQ) == conn->negotiated) {
		return refuse(conn, PDU_FES_SEQUENCE, 0,
			conn->negotiated ? "a second ICReq" : "a PDU before ICReq");
	}
	switch (type) {
	case PDU_ICREQ:
		return icreq_take(conn);
	case PDU_H2C_TERM:
		conn_shut(conn);
		return false;
	case PDU_CAPSULE_CMD:
		return command_take(conn);
	case PDU_H2C_DATA:
		return data_take(conn);
	case PDU_ICRESP:
	case PDU_C2H_TERM:
	case PDU_CAPSULE_RESP:
	case PDU_C2H_DATA:
	case PDU_R2T:
		break; /* the decoder lets none of these through */
	}
	assert(false);
	return false;
}

/* ---- the stream ---- */

/* The data of a PDU and their digest are there. */
static void data_end(struct conn *conn)
{
	struct request *request = conn->receiver.request;

	conn->receiver.request = NULL;
	if (request != NULL && request->moved == request->req.length) {
		request_data_complete(request);
	}
}

/* Enters the first phase from `from` on that has bytes to come; behind the last the PDU is
 * complete. */
static void phase_enter(struct conn *conn, enum receive_phase from)
{
	struct receiver *receiver = &conn->receiver;
	const struct pdu_frame *frame = &receiver->frame;

	switch (from) {
	case RECEIVE_PADDING:
		receiver->phase = RECEIVE_PADDING;
		receiver->left = frame->data_offset - frame->header_bytes;
		if (frame->data_length > 0 && receiver->left > 0) {
			return;
		}
		__attribute__((fallthrough));
	case RECEIVE_DATA:
		receiver->phase = RECEIVE_DATA;
		receiver->left = frame->data_length;
		receiver->crc = 0;
		if (receiver->left > 0) {
			return;
		}
		__attribute__((fallthrough));
	case RECEIVE_DIGEST:
		receiver->phase = RECEIVE_DIGEST;
		receiver->left = PDU_DIGEST_BYTES;
		if (frame->data_digest) {
			return;
		}
		__attribute__((fallthrough));
	case RECEIVE_HEADER:
		receiver->phase = RECEIVE_HEADER;
		if (frame->data_length > 0) {
			data_end(conn);
		}
	}
}

static bool header_parse(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	const uint8_t *from = receiver->bytes + receiver->begin;
	uint32_t there = receiver->end - receiver->begin;
	struct pdu_fault fault;

	if (there < PDU_COMMON_BYTES) {
		return false;
	}
	if (pdu_frame_decode(&conn->limits, from, &receiver->frame, &fault) != 0) {
		conn_refuse(conn, &fault, from, PDU_COMMON_BYTES);
		return false;
	}
	if (there < receiver->frame.header_bytes) {
		return false;
	}
	if (pdu_decode(&conn->limits, &receiver->frame, from, &receiver->pdu, &fault) != 0) {
		conn_refuse(conn, &fault, from, receiver->frame.header_bytes);
		return false;
	}
	if (!header_take(conn)) {
		return false;
	}
	receiver->begin += receiver->frame.header_bytes;
	phase_enter(conn, RECEIVE_PADDING);
	return true;
}

static bool padding_parse(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	uint32_t here = (uint32_t)min_u64(receiver->left, receiver->end - receiver->begin);

	receiver->begin += here;
	receiver->left -= here;
	if (receiver->left > 0) {
		return false;
	}
	phase_enter(conn, RECEIVE_DATA);
	return true;
}

static uint8_t *data_place(const struct receiver *receiver)
{
	return (uint8_t *)receiver->request->req.iov.iov_base + receiver->request->moved;
}

/* `bytes` of data are in the request's buffer. */
static void data_account(struct conn *conn, uint32_t bytes)
{
	struct receiver *receiver = &conn->receiver;

	assert(bytes <= receiver->left);
	if (conn->limits.data_digest) {
		receiver->crc = crc32c_extend(receiver->crc, data_place(receiver), bytes);
	}
	receiver->request->moved += bytes;
	receiver->left -= bytes;
}

static bool data_parse(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	uint32_t here = (uint32_t)min_u64(receiver->left, receiver->end - receiver->begin);

	if (here > 0 && receiver->request != NULL) {
		memcpy(data_place(receiver), receiver->bytes + receiver->begin, here);
		data_account(conn, here);
	} else {
		receiver->left -= here;
	}
	receiver->begin += here;
	if (receiver->left > 0) {
		return false;
	}
	phase_enter(conn, RECEIVE_DIGEST);
	return true;
}

static bool digest_parse(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;

	if (receiver->end - receiver->begin < PDU_DIGEST_BYTES) {
		return false;
	}
	if (receiver->request != NULL &&
		le32_get(receiver->bytes + receiver->begin) != receiver->crc) {
		/* Not fatal: the command is answered when the rest of its data came. */
		receiver->request->digest_error = true;
	}
	receiver->begin += PDU_DIGEST_BYTES;
	phase_enter(conn, RECEIVE_HEADER);
	return true;
}

static bool parse(struct conn *conn)
{
	static receive_part *const parts[] = {
		[RECEIVE_HEADER] = header_parse,
		[RECEIVE_PADDING] = padding_parse,
		[RECEIVE_DATA] = data_parse,
		[RECEIVE_DIGEST] = digest_parse,
	};

	return parts[conn->receiver.phase](conn);
}

/* ---- receiving ---- */

static void receive_done(struct io_recv *recv)
{
	struct conn *conn = recv->ctx;

	conn->receiving = false;
	conn->received = true;
	task_wake(&conn->receive_task);
}

/* A queue for I/O gets a larger buffer; when there is no memory it goes on with what it has. */
static void receiver_grow(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	struct io *io = conn->target->io;
	uint8_t *bytes = io_zalloc_data(io, receiver->size_wanted);

	if (bytes == NULL) {
		receiver->size_wanted = receiver->size;
		return;
	}
	memcpy(bytes, receiver->bytes, receiver->end);
	io_free_data(io, receiver->bytes, receiver->size);
	receiver->bytes = bytes;
	receiver->size = receiver->size_wanted;
}

static void receive_start(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	struct io_recv *recv = &conn->recv;

	if (receiver->begin > 0) {
		memmove(receiver->bytes, receiver->bytes + receiver->begin,
			receiver->end - receiver->begin);
		receiver->end -= receiver->begin;
		receiver->begin = 0;
	}
	if (receiver->size_wanted != receiver->size) {
		receiver_grow(conn);
	}
	assert(receiver->end < receiver->size);
	*recv = (struct io_recv){.done = receive_done, .ctx = conn};
	receiver->direct_bytes = 0;
	if (receiver->phase == RECEIVE_DATA && receiver->request != NULL &&
		receiver->left >= RECEIVE_DIRECT_MIN) {
		assert(receiver->end == 0);
		receiver->direct_bytes = receiver->left;
		recv->iov[recv->iov_count++] = (struct iovec){data_place(receiver), receiver->left};
	}
	recv->iov[recv->iov_count++] =
		(struct iovec){receiver->bytes + receiver->end, receiver->size - receiver->end};
	conn->receiving = true;
	io_conn_recv(conn->io_conn, recv);
}

/* What the last receive brought.  false: the connection is over. */
static bool result_take(struct conn *conn)
{
	struct receiver *receiver = &conn->receiver;
	ssize_t result = conn->recv.result;
	uint32_t bytes, direct;

	conn->received = false;
	if (result <= 0) {
		conn_shut(conn);
		return false;
	}
	bytes = (uint32_t)result;
	conn->target->stats.receives++;
	conn->target->stats.received_bytes += bytes;
	direct = (uint32_t)min_u64(bytes, receiver->direct_bytes);
	receiver->direct_bytes = 0;
	receiver->end += bytes - direct;
	assert(receiver->end <= receiver->size);
	if (direct > 0 && !conn->refused) {
		data_account(conn, direct);
	}
	if (conn->ctrl != NULL) {
		conn->ctrl->alive_ns = io_now_ns(conn->target->io);
	}
	return true;
}

/* After a refusal everything is thrown away until the host closes or the time is over. */
static void discard(struct conn *conn)
{
	conn->receiver.begin = 0;
	conn->receiver.end = 0;
	conn->receiver.request = NULL;
	if (!conn->receiving) {
		receive_start(conn);
	}
}

void receive_step(struct task *task)
{
	struct conn *conn = container_of(task, struct conn, receive_task);
	uint64_t commands_before = conn->target->stats.commands;
	bool more = true;

	if (conn->closing || (conn->received && !result_take(conn))) {
		return;
	}
	conn->receiver.stalled = false;
	conn_serve_buffers(conn);
	while (more && !conn_is_over(conn) && !conn->receiving) {
		more = parse(conn);
		if (conn->target->stats.commands - commands_before >= RECEIVE_BUDGET) {
			/* The other connections come in between. */
			task_wake(task);
			return;
		}
	}
	if (conn->closing) {
		return;
	}
	if (conn->refused) {
		discard(conn);
	} else if (!conn->receiving && !conn->receiver.stalled) {
		receive_start(conn);
	}
}
