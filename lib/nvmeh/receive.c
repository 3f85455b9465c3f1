/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the controller's bytes apart.  Headers and small data come through the queue's receive
 * buffer; what is large is received into the command's own buffer, with the receive buffer behind
 * it for what follows.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "nvmeh/internal.h"

#include <assert.h>
#include <errno.h>

static bool refuse(struct queue *queue, uint16_t fes, const char *text)
{
	const struct pdu_fault fault = {.fes = fes, .text = text};
	const struct pdu_encoding encoding = queue->encoding;
	uint8_t header[PDU_HEADER_MAX];

	/* The header was used up; it is as good encoded again. */
	assoc_fail_pdu(queue, &fault, header, pdu_encode(&queue->receiver.pdu, &encoding, header));
	return false;
}

/* ---- PDUs without data, and what data are for
 * ---------------------------------------------------------- */

static bool icresp_take(struct queue *queue)
{
	const struct pdu_icresp *icresp = &queue->receiver.pdu.icresp;
	const struct nvmeh_options *options = &queue->assoc->options;

	if ((icresp->header_digest && !options->header_digest) ||
		(icresp->data_digest && !options->data_digest)) {
		return refuse(queue, PDU_FES_UNSUPPORTED, "a digest that we did not offer");
	}
	queue->limits.header_digest = icresp->header_digest;
	queue->limits.data_digest = icresp->data_digest;
	queue->encoding.header_digest = icresp->header_digest;
	queue->encoding.data_digest = icresp->data_digest;
	queue->encoding.pda = icresp->cpda;
	queue->maxh2cdata = icresp->maxh2cdata;
	queue->negotiated = true;
	task_wake(&queue->setup);
	return true;
}

static bool response_take(struct queue *queue)
{
	const struct nvme_cqe *cqe = &queue->receiver.pdu.cqe;
	struct slot *slot = queue_slot(queue, cqe->cid);

	if (slot == NULL) {
		return refuse(
			queue, PDU_FES_SEQUENCE, "a response to a command that is not under way");
	}
	if (nvme_status_from_wire(cqe->status) == NVME_SC_SUCCESS && slot->cmd->length > 0 &&
		slot->moved != slot->cmd->length) {
		return refuse(
			queue, PDU_FES_SEQUENCE, "a success before all data were transferred");
	}
	/* After an error what R2T asked for before is still sent: the controller waits for it. */
	queue_answer(queue, slot, cqe);
	return true;
}

static bool r2t_take(struct queue *queue)
{
	const struct pdu_r2t *r2t = &queue->receiver.pdu.r2t;
	struct slot *slot = queue_slot(queue, r2t->cccid);

	if (slot == NULL || slot->in_capsule || slot_direction(slot) != NVME_HOST_TO_CONTROLLER) {
		return refuse(
			queue, PDU_FES_SEQUENCE, "R2T for a command that has no data to send");
	}
	if (slot->ordered > 0) {
		return refuse(queue, PDU_FES_LIMIT, "a second R2T before the first was served");
	}
	if (r2t->offset != slot->moved || r2t->length > slot->cmd->length - slot->moved) {
		return refuse(queue, PDU_FES_OUT_OF_RANGE, "R2T outside of the command's data");
	}
	slot->ordered = r2t->length;
	slot->ttag = r2t->ttag;
	list_push_back(&queue->to_send, &slot->send_node);
	task_wake(&queue->send_task);
	return true;
}

/* Before the data of C2HData. */
static bool data_begin(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;
	const struct pdu_data *data = &receiver->pdu.data;
	struct slot *slot = queue_slot(queue, data->cccid);
	uint32_t left;

	if (slot == NULL || slot_direction(slot) != NVME_CONTROLLER_TO_HOST) {
		return refuse(queue, PDU_FES_SEQUENCE, "data for a command that wants none");
	}
	left = slot->cmd->length - slot->moved;
	if (data->offset != slot->moved || data->length > left) {
		return refuse(queue, PDU_FES_OUT_OF_RANGE, "data outside of the command's buffer");
	}
	if (data->success && data->length != left) {
		return refuse(queue, PDU_FES_SEQUENCE, "SUCCESS before all data were transferred");
	}
	receiver->slot = slot;
	return true;
}

/* Behind the data and their digest. */
static bool data_end(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;
	struct slot *slot = receiver->slot;

	receiver->slot = NULL;
	if (slot != NULL && receiver->pdu.data.success) {
		const struct nvme_cqe success = {.cid = slot->cid};

		queue_answer(queue, slot, &success);
	}
	return true;
}

/* The header is complete and valid. */
static bool header_take(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;

	if ((receiver->pdu.type == PDU_ICRESP) == queue->negotiated &&
		receiver->pdu.type != PDU_C2H_TERM) {
		return refuse(queue, PDU_FES_SEQUENCE,
			queue->negotiated ? "a second ICResp" : "a PDU before ICResp");
	}
	switch (receiver->pdu.type) {
	case PDU_ICRESP:
		return icresp_take(queue);
	case PDU_C2H_TERM:
		assoc_fail(queue->assoc, -EPROTO,
			"queue %u: the controller ended the connection: FES %u, FEI %u", queue->qid,
			receiver->pdu.term.fes, receiver->pdu.term.fei);
		return false;
	case PDU_CAPSULE_RESP:
		return response_take(queue);
	case PDU_C2H_DATA:
		return data_begin(queue);
	case PDU_R2T:
		return r2t_take(queue);
	case PDU_ICREQ:
	case PDU_H2C_TERM:
	case PDU_CAPSULE_CMD:
	case PDU_H2C_DATA:
		break; /* the decoder lets none of these through */
	}
	assert(false);
	return false;
}

/* ---- the stream
 * ------------------------------------------------------------------------------------------- */

/* Enters the first phase from `from` on that has bytes to come; behind the last the PDU is
 * complete. */
static bool phase_enter(struct queue *queue, enum receive_phase from)
{
	struct receiver *receiver = &queue->receiver;
	const struct pdu_frame *frame = &receiver->frame;

	switch (from) {
	case RECEIVE_PADDING:
		receiver->phase = RECEIVE_PADDING;
		receiver->left = frame->data_offset - frame->header_bytes;
		if (frame->data_length > 0 && receiver->left > 0) {
			return true;
		}
		__attribute__((fallthrough));
	case RECEIVE_DATA:
		receiver->phase = RECEIVE_DATA;
		receiver->left = frame->data_length;
		receiver->crc = 0;
		if (receiver->left > 0) {
			return true;
		}
		__attribute__((fallthrough));
	case RECEIVE_DIGEST:
		receiver->phase = RECEIVE_DIGEST;
		receiver->left = PDU_DIGEST_BYTES;
		if (frame->data_digest) {
			return true;
		}
		__attribute__((fallthrough));
	case RECEIVE_HEADER:
		receiver->phase = RECEIVE_HEADER;
		return frame->data_length > 0 ? data_end(queue) : true;
	}
	assert(false);
	return false;
}

/* false: more bytes are needed, or the association is over. */
static bool header_parse(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;
	const uint8_t *from = receiver->bytes + receiver->begin;
	uint32_t there = receiver->end - receiver->begin;
	struct pdu_fault fault;

	if (there < PDU_COMMON_BYTES) {
		return false;
	}
	if (pdu_frame_decode(&queue->limits, from, &receiver->frame, &fault) != 0) {
		assoc_fail_pdu(queue, &fault, from, PDU_COMMON_BYTES);
		return false;
	}
	if (there < receiver->frame.header_bytes) {
		return false;
	}
	if (pdu_decode(&queue->limits, &receiver->frame, from, &receiver->pdu, &fault) != 0) {
		assoc_fail_pdu(queue, &fault, from, receiver->frame.header_bytes);
		return false;
	}
	receiver->begin += receiver->frame.header_bytes;
	return header_take(queue) && phase_enter(queue, RECEIVE_PADDING);
}

/* `bytes` of data were put into the command's buffer at its cursor. */
static void data_account(struct queue *queue, uint32_t bytes)
{
	struct receiver *receiver = &queue->receiver;
	struct slot *slot = receiver->slot;

	assert(bytes <= receiver->left);
	receiver->left -= bytes;
	if (slot->cmd->abandoned) {
		slot->moved += bytes;
		return;
	}
	while (bytes > 0) {
		const struct iovec *to = &slot->cmd->iov[slot->cursor.index];
		uint32_t here = (uint32_t)min_u64(bytes, to->iov_len - slot->cursor.offset);

		if (queue->limits.data_digest) {
			receiver->crc = crc32c_extend(receiver->crc,
				(const uint8_t *)to->iov_base + slot->cursor.offset, here);
		}
		slot->moved += here;
		bytes -= here;
		slot->cursor.offset += here;
		if (slot->cursor.offset == to->iov_len) {
			slot->cursor.index++;
			slot->cursor.offset = 0;
		}
	}
}

static bool data_parse(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;
	struct slot *slot = receiver->slot;

	while (receiver->left > 0) {
		uint32_t there = (uint32_t)min_u64(receiver->left, receiver->end - receiver->begin);
		const struct iovec *to;
		uint32_t here;

		if (there == 0) {
			return false;
		}
		if (slot->cmd->abandoned) {
			receiver->begin += there;
			data_account(queue, there);
			continue;
		}
		to = &slot->cmd->iov[slot->cursor.index];
		here = (uint32_t)min_u64(there, to->iov_len - slot->cursor.offset);
		memcpy((uint8_t *)to->iov_base + slot->cursor.offset,
			receiver->bytes + receiver->begin, here);
		receiver->begin += here;
		if (here == 0) {
			slot->cursor.index++;
			slot->cursor.offset = 0;
		}
		data_account(queue, here);
	}
	return phase_enter(queue, RECEIVE_DIGEST);
}

static bool digest_parse(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;

	if (receiver->end - receiver->begin < PDU_DIGEST_BYTES) {
		return false;
	}
	/* What nobody wants was not summed up. */
	if (!receiver->slot->cmd->abandoned &&
		le32_get(receiver->bytes + receiver->begin) != receiver->crc) {
		assoc_fail(queue->assoc, -EBADMSG, "queue %u: the digest of received data is wrong",
			queue->qid);
		return false;
	}
	receiver->begin += PDU_DIGEST_BYTES;
	return phase_enter(queue, RECEIVE_HEADER);
}

/* One step; false: more bytes are needed. */
static bool parse(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;
	uint32_t skipped;

	switch (receiver->phase) {
	case RECEIVE_HEADER:
		return header_parse(queue);
	case RECEIVE_PADDING:
		skipped = (uint32_t)min_u64(receiver->left, receiver->end - receiver->begin);
		receiver->begin += skipped;
		receiver->left -= skipped;
		return receiver->left == 0 && phase_enter(queue, RECEIVE_DATA);
	case RECEIVE_DATA:
		return data_parse(queue);
	case RECEIVE_DIGEST:
		return digest_parse(queue);
	}
	assert(false);
	return false;
}

/* ---- receiving
 * -----------------------------------------------------------------------------------------------
 */

static void receive_done(struct io_recv *recv)
{
	struct queue *queue = recv->ctx;

	queue->receiving = false;
	queue->received = true;
	task_wake(&queue->receive_task);
}

/* The next piece of the command's buffer, as far as this PDU's data go. */
static struct iovec direct_piece(
	const struct receiver *receiver, struct cursor *cursor, uint32_t left)
{
	const struct nvmeh_cmd *cmd = receiver->slot->cmd;
	struct iovec piece;

	while (cmd->iov[cursor->index].iov_len == cursor->offset) {
		cursor->index++;
		cursor->offset = 0;
	}
	piece.iov_base = (uint8_t *)cmd->iov[cursor->index].iov_base + cursor->offset;
	piece.iov_len = min_u64(left, cmd->iov[cursor->index].iov_len - cursor->offset);
	cursor->offset += piece.iov_len;
	return piece;
}

void receive_start(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;
	struct io_recv *recv = &queue->recv;
	struct iovec rest;

	assert(!queue->receiving && !queue->received);
	memmove(receiver->bytes, receiver->bytes + receiver->begin,
		receiver->end - receiver->begin);
	receiver->end -= receiver->begin;
	receiver->begin = 0;
	rest = (struct iovec){receiver->bytes + receiver->end, receiver->size - receiver->end};
	assert(rest.iov_len > 0);
	*recv = (struct io_recv){.done = receive_done, .ctx = queue};
	receiver->direct_bytes = 0;
	if (receiver->phase == RECEIVE_DATA && receiver->left >= RECEIVE_DIRECT_MIN &&
		!receiver->slot->cmd->abandoned) {
		struct cursor cursor = receiver->slot->cursor;

		assert(receiver->end == 0);
		recv->iov[recv->iov_count++] = direct_piece(receiver, &cursor, receiver->left);
		receiver->direct_bytes = (uint32_t)recv->iov[0].iov_len;
		if (receiver->direct_bytes < receiver->left) {
			rest = direct_piece(
				receiver, &cursor, receiver->left - receiver->direct_bytes);
			receiver->direct_bytes += (uint32_t)rest.iov_len;
		}
	}
	recv->iov[recv->iov_count++] = rest;
	queue->receiving = true;
	io_conn_recv(queue->conn, recv);
}

void receive_end(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;

	queue->ending = true;
	if (queue->receiving) {
		return;
	}
	queue->received = false;
	receiver->phase = RECEIVE_HEADER;
	receiver->begin = receiver->end = 0;
	receive_start(queue);
}

static bool receive_result_take(struct queue *queue)
{
	struct receiver *receiver = &queue->receiver;
	ssize_t result = queue->recv.result;
	uint32_t bytes, direct;

	if (result == 0) {
		assoc_fail(queue->assoc, -ECONNRESET,
			"queue %u: the controller closed the connection", queue->qid);
		return false;
	}
	if (result < 0) {
		assoc_fail(queue->assoc, (int)result, "queue %u: receiving failed: %s", queue->qid,
			err_describe((int)result));
		return false;
	}
	bytes = (uint32_t)result;
	queue->assoc->stats.receives++;
	queue->assoc->stats.received_bytes += bytes;
	direct = (uint32_t)min_u64(bytes, receiver->direct_bytes);
	if (direct > 0) {
		data_account(queue, direct);
	}
	receiver->end += bytes - direct;
	assert(receiver->end <= receiver->size);
	if (receiver->phase == RECEIVE_DATA && receiver->left == 0) {
		return phase_enter(queue, RECEIVE_DIGEST);
	}
	return true;
}

void nvmeh_receive_step(struct task *task)
{
	struct queue *queue = container_of(task, struct queue, receive_task);
	bool more;

	if (!queue->received || queue->shut) {
		return;
	}
	if (queue->ending) {
		queue->hung_up = queue->recv.result <= 0;
		if (queue->hung_up) {
			task_wake(&queue->assoc->life);
		} else {
			receive_end(queue);
		}
		return;
	}
	if (assoc_is_over(queue->assoc)) {
		return;
	}
	queue->received = false;
	more = receive_result_take(queue);
	while (more && !assoc_is_over(queue->assoc)) {
		more = parse(queue);
	}
	if (!assoc_is_over(queue->assoc)) {
		receive_start(queue);
	}
}

bool receive_is_into(const struct queue *queue, const struct nvmeh_cmd *cmd)
{
	const struct receiver *receiver = &queue->receiver;

	return (queue->receiving || queue->received) && receiver->direct_bytes > 0 &&
	       receiver->slot != NULL && receiver->slot->cmd == cmd;
}
