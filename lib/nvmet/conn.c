/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection.  After it is closed its memory stays until the handlers have completed its last
 * requests.
 */
#include "nvmet/internal.h"

#include <assert.h>
#include <errno.h>

/* ---- memory ---- */

static void conn_free(struct conn *conn)
{
	struct nvmet *target = conn->target;
	struct io *io = target->io;

	if (list_is_linked(&conn->node)) {
		list_remove(&conn->node);
		target->conn_count--;
		task_wake(&target->task);
	}
	task_done(&conn->life_task);
	task_done(&conn->receive_task);
	task_done(&conn->send_task);
	io_free(io, conn->requests);
	io_free_data(io, conn->spare, CAPSULE_DATA_MAX);
	io_free(io, conn->send_headers);
	io_free_data(io, conn->receiver.bytes, conn->receiver.size);
	io_free(io, conn);
}

static void request_init(struct conn *conn, struct request *request, unsigned index)
{
	request->conn = conn;
	request->index = (uint16_t)index;
	request->ttag = (uint16_t)index;
	list_push_back(&conn->free, &request->node);
}

int conn_add_requests(struct conn *conn, unsigned entries)
{
	/* More than the host may use: a slot is occupied a little longer than the host knows, and
	 * events are held for ever. */
	unsigned count = entries + entries / 2 + ASYNC_EVENTS_MAX;

	assert(conn->requests == NULL && count < 1u << TTAG_INDEX_BITS);
	conn->requests = io_zalloc(conn->target->io, count * sizeof(*conn->requests));
	if (conn->requests == NULL) {
		return -ENOMEM;
	}
	conn->request_count = count;
	for (unsigned i = 0; i < count; i++) {
		request_init(conn, &conn->requests[i], i + 1);
	}
	return 0;
}

/* ---- life ---- */

static void conn_end(struct conn *conn)
{
	conn->ended = true;
	io_timer_stop(&conn->timer);
	bufpool_unwait(&conn->buffer_waiter);
	conn_drop_requests(conn);
	if (conn->connect != NULL) {
		task_wake(&conn->target->task);
	}
	if (conn->ctrl != NULL) {
		ctrl_detach(conn->ctrl, conn);
	}
}

static void life_step(struct task *task)
{
	struct conn *conn = container_of(task, struct conn, life_task);
	bool expired = conn->timer.deadline_ns != 0 && !io_timer_is_running(&conn->timer);

	if (!conn->closing && expired && (conn->refused || conn->ctrl == NULL)) {
		conn_shut(conn);
	}
	if (conn->closed && !conn->ended) {
		conn_end(conn);
	}
	if (conn->ended && conn->counted == 0) {
		conn_free(conn);
	}
}

static void conn_closed(struct io_conn *io_conn)
{
	struct conn *conn = io_conn->ctx;

	conn->closed = true;
	conn->io_conn = NULL;
	task_wake(&conn->life_task);
}

void conn_shut(struct conn *conn)
{
	if (conn->closing) {
		return;
	}
	conn->closing = true;
	io_conn_close(conn->io_conn);
}

void conn_refuse(struct conn *conn, const struct pdu_fault *fault, const uint8_t *header,
	size_t header_length)
{
	char peer[IO_ADDRESS_TEXT_SIZE];

	if (conn_is_over(conn)) {
		return;
	}
	log_debug(&conn->target->io->log, "nvmet", "pdu-refused", "peer=%s queue=%u reason=%s",
		io_address_to_text(&conn->io_conn->peer, peer), conn->qid, fault->text);
	conn->refused = true;
	conn->term_length =
		pdu_term_encode(PDU_ROLE_CONTROLLER, fault, header, header_length, conn->term);
	io_timer_start_after(&conn->timer, LINGER_NS);
	task_wake(&conn->send_task);
	task_wake(&conn->receive_task);
}

/* ---- the beginning ---- */

static void refused_closed(struct io_conn *io_conn)
{
	(void)io_conn;
}

static struct conn *conn_new(struct nvmet *target)
{
	struct io *io = target->io;
	struct conn *conn = io_zalloc(io, sizeof(*conn));

	if (conn == NULL) {
		return NULL;
	}
	conn->target = target;
	task_init(&conn->life_task, &io->runq, life_step);
	task_init(&conn->receive_task, &io->runq, receive_step);
	task_init(&conn->send_task, &io->runq, send_step);
	io_timer_init(&conn->timer, io, &conn->life_task);
	list_init(&conn->free);
	list_init(&conn->await_buffer);
	list_init(&conn->to_send);
	list_init(&conn->in_flight);
	request_init(conn, &conn->first, 0);
	conn->limits = (struct pdu_limits){
		.receiver = PDU_ROLE_CONTROLLER,
		.capsule_data_max = CAPSULE_DATA_MAX,
		.data_max = H2C_DATA_MAX,
	};
	conn->receiver.size = RECEIVE_BYTES_ADMIN;
	conn->receiver.size_wanted = RECEIVE_BYTES_ADMIN;
	conn->receiver.bytes = io_zalloc_data(io, conn->receiver.size);
	conn->send_headers = io_zalloc(io, SEND_HEADERS_BYTES);
	conn->spare = io_zalloc_data(io, CAPSULE_DATA_MAX);
	if (conn->receiver.bytes == NULL || conn->send_headers == NULL || conn->spare == NULL) {
		conn_free(conn);
		return NULL;
	}
	return conn;
}

void conn_accept(struct nvmet *target, struct io_conn *io_conn)
{
	struct conn *conn = NULL;
	char peer[IO_ADDRESS_TEXT_SIZE];

	if (!target->closing && target->conn_count < target->options.queues_max) {
		conn = conn_new(target);
	}
	if (conn == NULL) {
		log_debug(&target->io->log, "nvmet", "connection-refused", "peer=%s connections=%u",
			io_address_to_text(&io_conn->peer, peer), target->conn_count);
		io_conn->closed = refused_closed;
		io_conn_close(io_conn);
		return;
	}
	conn->io_conn = io_conn;
	io_conn->ctx = conn;
	io_conn->closed = conn_closed;
	list_push_back(&target->conns, &conn->node);
	target->conn_count++;
	io_timer_start_after(&conn->timer, SETUP_TIMEOUT_NS);
	task_wake(&conn->receive_task);
}
