/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing connections, each with a time-out that is linked to it. */
#include "uring/net.h"

#include <errno.h>

static void connect_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, connect_op);

	io_uring_prep_connect(sqe, conn->fd, (struct sockaddr *)(void *)&conn->to, conn->to_length);
}

static void finish(struct uring_conn *conn)
{
	struct io_connect *connect = conn->connect;
	int result = conn->connect_result;

	if (conn->in_flight > 0) {
		return;
	}
	if (result != 0) {
		connect->result = conn->timed_out ? -ETIMEDOUT : result;
		connect->conn = NULL;
		uring_conn_free_unused(conn);
	} else {
		conn->connect = NULL;
		connect->result = 0;
		connect->conn = uring_conn_ready(conn, &connect->to);
	}
	connect->done(connect);
}

static void timeout_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, connect_timeout_op);

	(void)uring;
	conn->timed_out = result == -ETIME;
	conn->in_flight--;
	finish(conn);
}

static const struct uring_op_kind timeout_kind = {
	.complete = timeout_complete,
};

static struct uring_op *timeout_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, connect_op);

	conn->connect_timeout_op.kind = &timeout_kind;
	io_uring_prep_link_timeout(sqe, &conn->timeout, 0);
	return &conn->connect_timeout_op;
}

static void connect_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct uring_conn *conn = container_of(op, struct uring_conn, connect_op);

	(void)uring;
	conn->connect_result = result;
	conn->in_flight--;
	finish(conn);
}

static const struct uring_op_kind connect_kind = {
	.prepare = connect_prepare,
	.prepare_linked = timeout_prepare,
	.complete = connect_complete,
};

/* ---- failures before there is anything to wait for ---------------------------------------------
 */

static void failed_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	(void)op;
	io_uring_prep_nop(sqe);
}

static void failed_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct io_connect *connect = container_of((void *)op, struct io_connect, backend);

	(void)uring;
	(void)result;
	connect->done(connect);
}

static const struct uring_op_kind failed_kind = {
	.prepare = failed_prepare,
	.complete = failed_complete,
};

_Static_assert(sizeof(struct uring_op) <= sizeof(((struct io_connect *)NULL)->backend), "must fit");

void uring_connect(struct io *io, struct io_connect *connect)
{
	struct uring *uring = uring_of(io);
	struct uring_conn *conn = uring_conn_new(uring);
	int error = -ENOMEM;

	connect->conn = NULL;
	if (conn != NULL) {
		conn->fd = real_socket_for(&connect->to, 0, &conn->to, &conn->to_length);
		error = conn->fd < 0 ? conn->fd : 0;
	}
	if (error != 0) {
		if (conn != NULL) {
			uring_conn_free_unused(conn);
		}
		connect->result = error;
		uring_op_start(uring, (struct uring_op *)(void *)connect->backend, &failed_kind);
		return;
	}
	conn->connect = connect;
	conn->timeout.tv_sec = (long long)(connect->timeout_ns / IO_NS_PER_S);
	conn->timeout.tv_nsec = (long long)(connect->timeout_ns % IO_NS_PER_S);
	conn->in_flight = 2;
	uring_op_start(uring, &conn->connect_op, &connect_kind);
}
