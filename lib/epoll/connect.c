/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing connections, each with a timer. */
#include "epoll/net.h"

#include <errno.h>

static void connect_run(struct epoll *epoll, struct epoll_op *op);

/* The timer's task. */
static void timeout_step(struct task *task)
{
	struct epoll_conn *conn = container_of(task, struct epoll_conn, connect_timeout);

	if (io_timer_is_running(&conn->connect_timer)) {
		return;
	}
	conn->timed_out = true;
	if (!list_is_linked(&conn->connect_op.node)) {
		epoll_start(conn->epoll, &conn->connect_op, connect_run);
	}
}

/* -EINPROGRESS, 0 or another negative errno. */
static int begin(struct epoll_conn *conn)
{
	int error = epoll_conn_watch(conn);

	if (error != 0) {
		return error;
	}
	conn->connect_begun = true;
	return connect(conn->fd, (struct sockaddr *)(void *)&conn->to, conn->to_length) == 0
		       ? 0
		       : -errno;
}

static int look(const struct epoll_conn *conn)
{
	struct sockaddr_storage peer;
	socklen_t peer_length = sizeof(peer);
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
		return -errno;
	}
	if (error != 0) {
		return -error;
	}
	/* The set reports a socket that is not connected yet, too. */
	return getpeername(conn->fd, (struct sockaddr *)(void *)&peer, &peer_length) == 0
		       ? 0
		       : -EINPROGRESS;
}

static void connect_run(struct epoll *epoll, struct epoll_op *op)
{
	struct epoll_conn *conn = container_of(op, struct epoll_conn, connect_op);
	struct io_connect *connect = conn->connect;
	int result = conn->connect_begun ? look(conn) : begin(conn);

	(void)epoll;
	if (result == -EINPROGRESS && !conn->timed_out) {
		return;
	}
	io_timer_stop(&conn->connect_timer);
	task_done(&conn->connect_timeout);
	connect->result = result == -EINPROGRESS ? -ETIMEDOUT : result;
	connect->conn = NULL;
	conn->connect = NULL;
	if (result == 0) {
		connect->conn = epoll_conn_ready(conn, &connect->to);
	} else {
		epoll_conn_free_unused(conn);
	}
	connect->done(connect);
}

static void failed_run(struct epoll *epoll, struct epoll_op *op)
{
	struct io_connect *connect = container_of((void *)op, struct io_connect, backend);

	(void)epoll;
	connect->done(connect);
}

_Static_assert(sizeof(struct epoll_op) <= sizeof(((struct io_connect *)NULL)->backend), "must fit");

void epoll_connect(struct io *io, struct io_connect *connect)
{
	struct epoll *epoll = epoll_of(io);
	struct epoll_conn *conn = epoll_conn_new(epoll);
	int error = -ENOMEM;

	connect->conn = NULL;
	if (conn != NULL) {
		conn->fd =
			real_socket_for(&connect->to, SOCK_NONBLOCK, &conn->to, &conn->to_length);
		error = conn->fd < 0 ? conn->fd : 0;
	}
	if (error != 0) {
		struct epoll_op *op = (struct epoll_op *)(void *)connect->backend;

		if (conn != NULL) {
			epoll_conn_free_unused(conn);
		}
		connect->result = error;
		*op = (struct epoll_op){0};
		epoll_start(epoll, op, failed_run);
		return;
	}
	conn->connect = connect;
	task_init(&conn->connect_timeout, &io->runq, timeout_step);
	io_timer_init(&conn->connect_timer, io, &conn->connect_timeout);
	io_timer_start_after(&conn->connect_timer, connect->timeout_ns);
	epoll_start(epoll, &conn->connect_op, connect_run);
}
