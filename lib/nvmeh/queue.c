/* SPDX-License-Identifier: Apache-2.0 */
/* One queue: its connection, and the slots that commands have from their dispatch to their answer.
 */
#include "base/bytes.h"
#include "nvmeh/internal.h"

#include <assert.h>
#include <errno.h>

/* A CID is a slot's number and, above it, how often it was used: an answer that comes twice is
 * noticed. */
#define CID_SLOT_BITS 10u
#define CID_SLOT_MASK ((1u << CID_SLOT_BITS) - 1)
#define CID_USES      63u /* FFFFh is nobody's */
_Static_assert(QUEUE_DEPTH_MAX <= 1u << CID_SLOT_BITS, "a slot's number fits");

/* ---- memory
 * ------------------------------------------------------------------------------------------ */

static unsigned queue_entries(const struct nvmeh *assoc, unsigned qid)
{
	unsigned entries = assoc->options.queue_depth;

	if (qid == 0) {
		return ADMIN_DEPTH;
	}
	if (entries == 0) {
		entries = QUEUE_DEPTH_DEFAULT;
	}
	return (unsigned)min_u64(max_u64(entries, 2), QUEUE_DEPTH_MAX);
}

int queue_init(struct queue *queue, struct nvmeh *assoc, unsigned qid)
{
	struct io *io = assoc->io;

	queue->assoc = assoc;
	queue->qid = (uint16_t)qid;
	queue->entries = (uint16_t)queue_entries(assoc, qid);
	queue->slot_count = queue->entries - 1u; /* a full queue has one entry free */
	queue->free_count = queue->slot_count;
	queue->capsule_max = ADMIN_CAPSULE_MAX;
	queue->limits = (struct pdu_limits){.receiver = PDU_ROLE_HOST, .data_max = UINT32_MAX};
	list_init(&queue->free);
	list_init(&queue->waiting);
	list_init(&queue->to_send);
	list_init(&queue->in_flight);
	task_init(&queue->setup, &io->runq, queue_setup_step);
	task_init(&queue->send_task, &io->runq, nvmeh_send_step);
	task_init(&queue->receive_task, &io->runq, nvmeh_receive_step);
	queue->receiver.size = qid == 0 ? RECEIVE_BYTES_ADMIN : RECEIVE_BYTES_IO;
	queue->send_headers_size = qid == 0 ? SEND_HEADERS_ADMIN : SEND_HEADERS_IO;
	queue->slots = io_zalloc(io, sizeof(*queue->slots) * queue->slot_count);
	queue->receiver.bytes = io_zalloc_data(io, queue->receiver.size);
	queue->send_headers = io_zalloc(io, queue->send_headers_size);
	if (queue->slots == NULL || queue->receiver.bytes == NULL || queue->send_headers == NULL) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i < queue->slot_count; i++) {
		queue->slots[i].cid = (uint16_t)i;
		list_push_back(&queue->free, &queue->slots[i].node);
	}
	return 0;
}

void queue_limit_entries(struct queue *queue, unsigned entries)
{
	assert(queue->free_count == queue->slot_count);
	entries = (unsigned)max_u64(entries, 2);
	while (queue->entries > entries) {
		queue->entries--;
		queue->slot_count--;
		queue->free_count--;
		list_remove(&queue->slots[queue->slot_count].node);
	}
}

void queue_free(struct queue *queue)
{
	struct io *io = queue->assoc->io;

	task_done(&queue->setup);
	task_done(&queue->send_task);
	task_done(&queue->receive_task);
	if (queue->slots != NULL) {
		io_free(io, queue->slots);
	}
	io_free_data(io, queue->receiver.bytes, queue->receiver.size);
	if (queue->send_headers != NULL) {
		io_free(io, queue->send_headers);
	}
}

/* ---- connection
 * -------------------------------------------------------------------------------------- */

static void queue_closed(struct io_conn *conn)
{
	struct queue *queue = conn->ctx;

	queue->conn = NULL;
	task_wake(&queue->assoc->life);
}

static void queue_connected(struct io_connect *connect)
{
	struct queue *queue = connect->ctx;

	queue->connecting = false;
	if (connect->result == 0) {
		queue->conn = connect->conn;
		queue->conn->ctx = queue;
		queue->conn->closed = queue_closed;
		if (queue->shut) {
			io_conn_close(queue->conn);
		}
	}
	task_wake(&queue->setup);
	task_wake(&queue->assoc->life);
}

void queue_connect(struct queue *queue)
{
	const struct nvmeh_options *options = &queue->assoc->options;

	queue->connecting = true;
	queue->connect = (struct io_connect){
		.to = options->address,
		.timeout_ns = options->connect_timeout_ns,
		.done = queue_connected,
		.ctx = queue,
	};
	io_connect(queue->assoc->io, &queue->connect);
}

void queue_shut(struct queue *queue)
{
	assert(!queue->shut);
	queue->shut = true;
	if (queue->conn != NULL) {
		io_conn_close(queue->conn);
	}
}

bool queue_is_down(const struct queue *queue)
{
	return queue->shut && !queue->connecting && queue->conn == NULL;
}

/* ---- slots
 * ------------------------------------------------------------------------------------------- */

unsigned slot_direction(const struct slot *slot)
{
	return nvme_sqe_direction(&slot->cmd->sqe);
}

struct slot *queue_slot(struct queue *queue, uint16_t cid)
{
	unsigned index = cid & CID_SLOT_MASK;
	struct slot *slot = index < queue->slot_count ? &queue->slots[index] : NULL;

	if (slot == NULL || slot->cmd == NULL || slot->cid != cid || !slot->capsule_sent ||
		slot->answered) {
		return NULL;
	}
	return slot;
}

static void slot_take(struct queue *queue, struct nvmeh_cmd *cmd)
{
	struct slot *slot = container_of(list_pop_front(&queue->free), struct slot, node);
	struct nvme_sgl sgl = {.length = cmd->length};
	bool fabrics = cmd->sqe.opcode == NVME_FABRICS;

	queue->assoc->stats.commands++;
	queue->free_count--;
	slot->cmd = cmd;
	slot->in_capsule = cmd->length > 0 &&
			   nvme_sqe_direction(&cmd->sqe) == NVME_HOST_TO_CONTROLLER &&
			   cmd->length <= (fabrics ? ADMIN_CAPSULE_MAX : queue->capsule_max) &&
			   cmd->iov_count + 2 <= IO_IOV_MAX;
	slot->capsule_sent = false;
	slot->answered = false;
	slot->cursor = (struct cursor){0};
	slot->moved = 0;
	slot->ordered = 0;
	sgl.in_capsule = slot->in_capsule;
	cmd->cid = slot->cid;
	cmd->sqe.cid = slot->cid;
	cmd->sqe.flags = NVME_SQE_PSDT_SGL;
	nvme_sgl_encode(cmd->sqe.dptr, &sgl);
	list_push_back(&queue->to_send, &slot->send_node);
	task_wake(&queue->send_task);
}

static struct nvmeh_cmd *slot_release(struct queue *queue, struct slot *slot)
{
	struct nvmeh_cmd *cmd = slot->cmd;
	unsigned uses = (slot->cid >> CID_SLOT_BITS) + 1u;

	cmd->transferred = slot->moved;
	slot->cmd = NULL;
	slot->cid = (uint16_t)((slot->cid & CID_SLOT_MASK) | uses % CID_USES << CID_SLOT_BITS);
	queue->free_count++;
	/* The one used last is the warmest. */
	list_push_front(&queue->free, &slot->node);
	return cmd;
}

void queue_dispatch(struct queue *queue)
{
	/* One slot of the admin queue is kept for keep-alive. */
	unsigned kept = queue->qid == 0 ? 1 : 0;

	while (queue->open && queue->free_count > kept && !list_is_empty(&queue->waiting)) {
		struct list_node *node = list_pop_front(&queue->waiting);

		slot_take(queue, container_of(node, struct nvmeh_cmd, node));
	}
}

void queue_submit_first(struct queue *queue, struct nvmeh_cmd *cmd)
{
	assert(queue->free_count > 0);
	slot_take(queue, cmd);
}

void queue_settle(struct queue *queue, struct slot *slot)
{
	struct nvmeh_cmd *cmd;

	if (!slot->answered || list_is_linked(&slot->send_node) ||
		list_is_linked(&slot->flight_node)) {
		return;
	}
	cmd = slot_release(queue, slot);
	cmd->done(cmd);
	queue_dispatch(queue);
}

void queue_answer(struct queue *queue, struct slot *slot, const struct nvme_cqe *cqe)
{
	struct nvmeh_cmd *cmd = slot->cmd;

	cmd->result = 0;
	cmd->status = nvme_status_from_wire(cqe->status);
	cmd->dnr = (cqe->status & NVME_CQE_DNR) != 0;
	cmd->dw01 = cqe->dw01;
	slot->answered = true;
	queue_settle(queue, slot);
}

void queue_bury(struct queue *queue, struct list *dead)
{
	assert(queue_is_down(queue));
	for (unsigned i = 0; i < queue->slot_count; i++) {
		struct slot *slot = &queue->slots[i];

		if (slot->cmd != NULL) {
			list_remove_if_linked(&slot->send_node);
			list_remove_if_linked(&slot->flight_node);
			list_push_back(dead, &slot_release(queue, slot)->node);
		}
	}
	list_splice_back(dead, &queue->waiting);
}
