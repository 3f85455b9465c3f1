/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gathers everything that a queue has to send into one vector: headers one after the other in
 * send_headers (neighbours become one entry), data from the commands' buffers.  Many small commands
 * cost one system call.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "nvmeh/internal.h"

#include <assert.h>
#include <errno.h>

void cursor_advance(struct cursor *cursor, const struct nvmeh_cmd *cmd, size_t bytes)
{
	while (bytes > 0) {
		size_t here;

		assert(cursor->index < cmd->iov_count);
		here = cmd->iov[cursor->index].iov_len - cursor->offset;
		if (bytes < here) {
			cursor->offset += bytes;
			return;
		}
		bytes -= here;
		cursor->index++;
		cursor->offset = 0;
	}
}

/* ---- the vector
 * --------------------------------------------------------------------------------------- */

static void vector_add(struct queue *queue, void *base, size_t length)
{
	queue->send_bytes += (uint32_t)length;
	if (queue->send_iov_count > 0) {
		struct iovec *last = &queue->send_iov[queue->send_iov_count - 1];

		if ((uint8_t *)last->iov_base + last->iov_len == base) {
			last->iov_len += length;
			return;
		}
	}
	assert(queue->send_iov_count < IO_IOV_MAX);
	queue->send_iov[queue->send_iov_count++] = (struct iovec){base, length};
}

/* Is there room for a PDU with this many pieces of data? */
static bool vector_has_room(const struct queue *queue, unsigned pieces)
{
	return queue->send_iov_count + pieces + 2 <= IO_IOV_MAX &&
	       queue->send_headers_used + PDU_HEADER_MAX + PDU_DIGEST_BYTES <=
		       queue->send_headers_size &&
	       queue->send_bytes < SEND_BYTES_MAX;
}

static void *headers_take(struct queue *queue, uint32_t length)
{
	void *bytes = queue->send_headers + queue->send_headers_used;

	queue->send_headers_used += length;
	assert(queue->send_headers_used <= queue->send_headers_size);
	return bytes;
}

/* One PDU with pdu->data_length bytes of the command from the cursor on. */
static void pdu_add(struct queue *queue, struct slot *slot, const struct pdu *pdu)
{
	uint8_t *header = queue->send_headers + queue->send_headers_used;
	uint32_t length = pdu_encode(pdu, &queue->encoding, header);
	uint32_t left = pdu->data_length, crc = 0;

	vector_add(queue, headers_take(queue, length), length);
	while (left > 0) {
		const struct iovec *from = &slot->cmd->iov[slot->cursor.index];
		uint8_t *base = (uint8_t *)from->iov_base + slot->cursor.offset;
		uint32_t here = (uint32_t)min_u64(left, from->iov_len - slot->cursor.offset);

		if (here > 0) {
			vector_add(queue, base, here);
		}
		if (queue->encoding.data_digest) {
			crc = crc32c_extend(crc, base, here);
		}
		cursor_advance(&slot->cursor, slot->cmd, here);
		if (here == 0) {
			slot->cursor.index++;
			slot->cursor.offset = 0;
		}
		left -= here;
	}
	slot->moved += pdu->data_length;
	if (pdu_has_data_digest(pdu, &queue->encoding)) {
		uint8_t *digest = headers_take(queue, PDU_DIGEST_BYTES);

		le32_put(digest, crc);
		vector_add(queue, digest, PDU_DIGEST_BYTES);
	}
	if (!list_is_linked(&slot->flight_node)) {
		list_push_back(&queue->in_flight, &slot->flight_node);
	}
}

/* ---- what is sent
 * ------------------------------------------------------------------------------------- */

static bool gather_capsule(struct queue *queue, struct slot *slot)
{
	struct pdu pdu = {.type = PDU_CAPSULE_CMD, .sqe = slot->cmd->sqe};

	if (!vector_has_room(queue, slot->in_capsule ? slot->cmd->iov_count : 0)) {
		return false;
	}
	if (slot->in_capsule) {
		pdu.data_length = slot->cmd->length;
	}
	pdu_add(queue, slot, &pdu);
	slot->capsule_sent = true;
	list_remove(&slot->send_node);
	return true;
}

/* How much of `wanted` bytes the free entries of the vector can hold. */
static uint32_t vector_fit(const struct queue *queue, const struct slot *slot, uint32_t wanted)
{
	unsigned pieces = IO_IOV_MAX - 2 - queue->send_iov_count;
	struct cursor cursor = slot->cursor;
	uint64_t bytes = 0;

	while (bytes < wanted && pieces > 0) {
		bytes += slot->cmd->iov[cursor.index].iov_len - cursor.offset;
		cursor.index++;
		cursor.offset = 0;
		pieces--;
	}
	/* Offsets of H2CData are multiples of 4. */
	return bytes >= wanted ? wanted : (uint32_t)bytes & ~3u;
}

static bool gather_data(struct queue *queue, struct slot *slot)
{
	struct pdu pdu = {.type = PDU_H2C_DATA};
	uint32_t length = (uint32_t)min_u64(slot->ordered, queue->maxh2cdata);

	if (!vector_has_room(queue, 1)) {
		return false;
	}
	length = vector_fit(queue, slot, length);
	if (length == 0) {
		return false;
	}
	slot->ordered -= length;
	pdu.data_length = length;
	pdu.data = (struct pdu_data){
		.cccid = slot->cid,
		.ttag = slot->ttag,
		.offset = slot->moved,
		.length = length,
		.last = slot->ordered == 0,
	};
	pdu_add(queue, slot, &pdu);
	/* Behind the others: a large write does not hold up small commands. */
	list_remove(&slot->send_node);
	if (slot->ordered > 0) {
		list_push_back(&queue->to_send, &slot->send_node);
	}
	return true;
}

static bool gather_first(struct queue *queue)
{
	struct list_node *node = list_first(&queue->to_send);
	struct slot *slot;

	if (node == NULL) {
		return false;
	}
	slot = container_of(node, struct slot, send_node);
	return slot->capsule_sent ? gather_data(queue, slot) : gather_capsule(queue, slot);
}

/* ---- sending
 * ------------------------------------------------------------------------------------------- */

static void send_done(struct io_send *send)
{
	struct queue *queue = send->ctx;

	queue->sending = false;
	if (send->result != 0) {
		assoc_fail(queue->assoc, send->result, "queue %u: sending failed: %s", queue->qid,
			err_describe(send->result));
	}
	task_wake(&queue->send_task);
	task_wake(&queue->assoc->life);
}

static void send_submit(struct queue *queue, struct iovec *iov, unsigned iov_count)
{
	queue->sending = true;
	queue->assoc->stats.sends++;
	queue->assoc->stats.sent_bytes += queue->send_bytes;
	queue->send = (struct io_send){
		.iov = iov,
		.iov_count = iov_count,
		.done = send_done,
		.ctx = queue,
	};
	io_conn_send(queue->conn, &queue->send);
}

void send_raw(struct queue *queue, const uint8_t *bytes, uint32_t length)
{
	assert(!queue->sending && queue->conn != NULL);
	assert(length <= queue->send_headers_size);
	memcpy(queue->send_headers, bytes, length);
	queue->send_bytes = length;
	queue->send_iov[0] = (struct iovec){queue->send_headers, length};
	send_submit(queue, queue->send_iov, 1);
}

/* The send before this is over: what was answered meanwhile is complete. */
static void flight_land(struct queue *queue)
{
	struct list landed;
	struct list_node *node;

	list_init(&landed);
	list_splice_back(&landed, &queue->in_flight);
	while ((node = list_pop_front(&landed)) != NULL) {
		queue_settle(queue, container_of(node, struct slot, flight_node));
	}
}

void nvmeh_send_step(struct task *task)
{
	struct queue *queue = container_of(task, struct queue, send_task);

	if (queue->sending || assoc_is_over(queue->assoc) || queue->conn == NULL) {
		return;
	}
	flight_land(queue);
	if (list_is_empty(&queue->to_send) || assoc_is_over(queue->assoc)) {
		return;
	}
	if (!queue->send_yielded) {
		/* Whoever else runs in this turn may have more for the same send. */
		queue->send_yielded = true;
		task_wake(task);
		return;
	}
	queue->send_yielded = false;
	queue->send_iov_count = 0;
	queue->send_bytes = 0;
	queue->send_headers_used = 0;
	while (gather_first(queue)) {
	}
	assert(queue->send_iov_count > 0);
	send_submit(queue, queue->send_iov, queue->send_iov_count);
}
