/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections.  One lives until its owner closed it and every operation that refers to it has
 * completed; the closing of its socket is the last of them, so that closed() is never called from
 * within io_conn_close().
 */
#include "uring/net.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- closing ----------------------------------------------------------------------------------
 */

static struct uring_conn *conn_of(struct io_conn *conn)
{
	return container_of(conn, struct uring_conn, conn);
}

static void close_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	io_uring_prep_close(sqe, container_of(op, struct uring_conn, close_op)->fd);
}

static void close_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, close_op);

	/* Linux gives the descriptor free even when close fails. */
	(void)result;
	uring->real.open_count--;
	if (conn->conn.closed != NULL) {
		conn->conn.closed(&conn->conn);
	}
	free(conn);
}

static const struct uring_op_kind close_kind = {
	.prepare = close_prepare,
	.complete = close_complete,
};

static void close_when_idle(struct uring_conn *conn)
{
	if (conn->closing && conn->in_flight == 0) {
		uring_op_start(conn->uring, &conn->close_op, &close_kind);
	}
}

/* One of the connection's operations has completed.  May start the close: the connection may not be
 * used afterwards. */
static void operation_is_over(struct uring_conn *conn)
{
	assert(conn->in_flight > 0);
	conn->in_flight--;
	close_when_idle(conn);
}

static void cancel_send_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	uring_prepare_cancel(sqe, &container_of(op, struct uring_conn, cancel_send_op)->send_op);
}

static void cancel_send_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)uring;
	(void)result;
	operation_is_over(container_of(op, struct uring_conn, cancel_send_op));
}

static const struct uring_op_kind cancel_send_kind = {
	.prepare = cancel_send_prepare,
	.complete = cancel_send_complete,
};

static void cancel_recv_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	uring_prepare_cancel(sqe, &container_of(op, struct uring_conn, cancel_recv_op)->recv_op);
}

static void cancel_recv_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)uring;
	(void)result;
	operation_is_over(container_of(op, struct uring_conn, cancel_recv_op));
}

static const struct uring_op_kind cancel_recv_kind = {
	.prepare = cancel_recv_prepare,
	.complete = cancel_recv_complete,
};

static void conn_close(struct io_conn *io_conn)
{
	struct uring_conn *conn = conn_of(io_conn);

	assert(!conn->closing);
	conn->closing = true;
	(void)shutdown(conn->fd, SHUT_RDWR);
	if (conn->send != NULL) {
		conn->in_flight++;
		uring_op_start(conn->uring, &conn->cancel_send_op, &cancel_send_kind);
	}
	if (conn->recv != NULL) {
		conn->in_flight++;
		uring_op_start(conn->uring, &conn->cancel_recv_op, &cancel_recv_kind);
	}
	close_when_idle(conn);
}

/* ---- send -------------------------------------------------------------------------------------
 */

static void send_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, send_op);

	if (conn->send_iov_count == 1) {
		io_uring_prep_send(sqe, conn->fd, conn->send_iov->iov_base, conn->send_iov->iov_len,
			MSG_NOSIGNAL);
		return;
	}
	conn->send_message = (struct msghdr){
		.msg_iov = conn->send_iov,
		.msg_iovlen = conn->send_iov_count < IOV_MAX ? conn->send_iov_count : IOV_MAX,
	};
	io_uring_prep_sendmsg(sqe, conn->fd, &conn->send_message, MSG_NOSIGNAL);
}

static void send_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, send_op);
	struct io_send *send = conn->send;
	bool again = result == -EINTR || result == -EAGAIN;

	if (result >= 0) {
		again = real_iov_advance(&conn->send_iov, &conn->send_iov_count, (size_t)result);
	}
	if (again && !conn->closing) {
		uring_op_start(uring, op, op->kind);
		return;
	}
	conn->send = NULL;
	if (result < 0 || again) {
		send->result = conn->closing ? -ECANCELED : result;
	} else {
		send->result = 0;
	}
	/* The callee may close the connection: it stays until this operation is over. */
	send->done(send);
	operation_is_over(conn);
}

static const struct uring_op_kind send_kind = {
	.prepare = send_prepare,
	.complete = send_complete,
};

static void conn_send(struct io_conn *io_conn, struct io_send *send)
{
	struct uring_conn *conn = conn_of(io_conn);

	assert(!conn->closing && conn->send == NULL && send->iov_count > 0);
	conn->send = send;
	conn->send_iov = send->iov;
	conn->send_iov_count = send->iov_count;
	conn->in_flight++;
	uring_op_start(conn->uring, &conn->send_op, &send_kind);
}

/* ---- receive ----------------------------------------------------------------------------------
 */

static void recv_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, recv_op);
	struct io_recv *recv = conn->recv;

	if (recv->iov_count == 1) {
		io_uring_prep_recv(sqe, conn->fd, recv->iov[0].iov_base, recv->iov[0].iov_len, 0);
		return;
	}
	conn->recv_message = (struct msghdr){
		.msg_iov = recv->iov,
		.msg_iovlen = recv->iov_count,
	};
	io_uring_prep_recvmsg(sqe, conn->fd, &conn->recv_message, 0);
}

static void recv_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, recv_op);
	struct io_recv *recv = conn->recv;

	if ((result == -EINTR || result == -EAGAIN) && !conn->closing) {
		uring_op_start(uring, op, op->kind);
		return;
	}
	conn->recv = NULL;
	/* After our own shutdown the end of the stream means nothing. */
	recv->result = conn->closing && result <= 0 ? -ECANCELED : result;
	recv->done(recv);
	operation_is_over(conn);
}

static const struct uring_op_kind recv_kind = {
	.prepare = recv_prepare,
	.complete = recv_complete,
};

static void conn_recv(struct io_conn *io_conn, struct io_recv *recv)
{
	struct uring_conn *conn = conn_of(io_conn);

	assert(!conn->closing && conn->recv == NULL);
	assert(recv->iov_count == 1 || recv->iov_count == 2);
	conn->recv = recv;
	conn->in_flight++;
	uring_op_start(conn->uring, &conn->recv_op, &recv_kind);
}

/* ---- making -----------------------------------------------------------------------------------
 */

static const struct io_conn_ops conn_ops = {
	.send = conn_send,
	.recv = conn_recv,
	.close = conn_close,
};

struct uring_conn *uring_conn_new(struct uring *uring)
{
	struct uring_conn *conn = calloc(1, sizeof(*conn));

	if (conn != NULL) {
		conn->uring = uring;
		conn->fd = -1;
		conn->conn.ops = &conn_ops;
		conn->conn.io = &uring->real.io;
	}
	return conn;
}

void uring_conn_free_unused(struct uring_conn *conn)
{
	if (conn->fd >= 0) {
		close(conn->fd);
	}
	free(conn);
}

struct io_conn *uring_conn_ready(struct uring_conn *conn, const struct io_address *peer)
{
	real_socket_ready(conn->fd, &conn->conn, peer);
	conn->uring->real.open_count++;
	return &conn->conn;
}
