/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: send and receive are tried without waiting, and again when the socket says so. */
#include "epoll/net.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

static struct epoll_conn *conn_of(struct io_conn *conn)
{
	return container_of(conn, struct epoll_conn, conn);
}

static void conn_ready(struct epoll *epoll, struct epoll_source *source, uint32_t events);

/* ---- send -------------------------------------------------------------------------------------
 */

/* 1 when all of it was taken, 0 when the socket is full, or negative errno. */
static int send_some(struct epoll_conn *conn)
{
	for (;;) {
		struct msghdr message = {
			.msg_iov = conn->send_iov,
			.msg_iovlen =
				conn->send_iov_count < IOV_MAX ? conn->send_iov_count : IOV_MAX,
		};
		ssize_t sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno != EINTR) {
			return errno == EAGAIN ? 0 : -errno;
		}
		if (sent >= 0 &&
			!real_iov_advance(&conn->send_iov, &conn->send_iov_count, (size_t)sent)) {
			return 1;
		}
	}
}

static void send_run(struct epoll *epoll, struct epoll_op *op)
{
	struct epoll_conn *conn = container_of(op, struct epoll_conn, send_op);
	struct io_send *send = conn->send;
	int result = send_some(conn);

	(void)epoll;
	if (result == 0) {
		conn->writable = false;
		return;
	}
	conn->send = NULL;
	send->result = result < 0 ? result : 0;
	send->done(send);
}

static void conn_send(struct io_conn *io_conn, struct io_send *send)
{
	struct epoll_conn *conn = conn_of(io_conn);

	assert(!conn->closing && conn->send == NULL && send->iov_count > 0);
	conn->send = send;
	conn->send_iov = send->iov;
	conn->send_iov_count = send->iov_count;
	if (conn->writable) {
		epoll_start(conn->epoll, &conn->send_op, send_run);
	}
}

/* ---- receive ----------------------------------------------------------------------------------
 */

static void recv_run(struct epoll *epoll, struct epoll_op *op)
{
	struct epoll_conn *conn = container_of(op, struct epoll_conn, recv_op);
	struct io_recv *recv = conn->recv;
	struct msghdr message = {.msg_iov = recv->iov, .msg_iovlen = recv->iov_count};
	size_t wanted = recv->iov[0].iov_len + (recv->iov_count > 1 ? recv->iov[1].iov_len : 0);
	ssize_t result;

	(void)epoll;
	do {
		result = recvmsg(conn->fd, &message, MSG_DONTWAIT);
	} while (result < 0 && errno == EINTR);
	if (result < 0 && errno == EAGAIN) {
		conn->readable = false;
		return;
	}
	/* Less than asked for: the socket was emptied, and more is a new event.  Its end is none
	 * when it was told together with the bytes before it. */
	if (result > 0 && (size_t)result < wanted && !conn->ended) {
		conn->readable = false;
	}
	conn->recv = NULL;
	recv->result = result >= 0 ? result : -errno;
	recv->done(recv);
}

static void conn_recv(struct io_conn *io_conn, struct io_recv *recv)
{
	struct epoll_conn *conn = conn_of(io_conn);

	assert(!conn->closing && conn->recv == NULL);
	assert(recv->iov_count == 1 || recv->iov_count == 2);
	conn->recv = recv;
	if (conn->readable) {
		epoll_start(conn->epoll, &conn->recv_op, recv_run);
	}
}

/* ---- closing ----------------------------------------------------------------------------------
 */

static void close_run(struct epoll *epoll, struct epoll_op *op)
{
	struct epoll_conn *conn = container_of(op, struct epoll_conn, close_op);
	struct io_send *send = conn->send;
	struct io_recv *recv = conn->recv;

	conn->send = NULL;
	conn->recv = NULL;
	if (send != NULL) {
		send->result = -ECANCELED;
		send->done(send);
	}
	if (recv != NULL) {
		recv->result = -ECANCELED;
		recv->done(recv);
	}
	epoll_remove(epoll, conn->fd);
	close(conn->fd);
	epoll->real.open_count--;
	if (conn->conn.closed != NULL) {
		conn->conn.closed(&conn->conn);
	}
	free(conn);
}

static void conn_close(struct io_conn *io_conn)
{
	struct epoll_conn *conn = conn_of(io_conn);

	assert(!conn->closing);
	conn->closing = true;
	(void)shutdown(conn->fd, SHUT_RDWR);
	list_remove_if_linked(&conn->send_op.node);
	list_remove_if_linked(&conn->recv_op.node);
	epoll_start(conn->epoll, &conn->close_op, close_run);
}

/* ---- events -----------------------------------------------------------------------------------
 */

static void conn_ready(struct epoll *epoll, struct epoll_source *source, uint32_t events)
{
	struct epoll_conn *conn = container_of(source, struct epoll_conn, source);

	if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
		conn->ended = true;
	}
	if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
		conn->readable = true;
		if (conn->recv != NULL && !conn->closing && !list_is_linked(&conn->recv_op.node)) {
			epoll_start(epoll, &conn->recv_op, recv_run);
		}
	}
	if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) == 0) {
		return;
	}
	conn->writable = true;
	if (conn->send != NULL && !conn->closing && !list_is_linked(&conn->send_op.node)) {
		epoll_start(epoll, &conn->send_op, send_run);
	}
	if (conn->connect != NULL && conn->connect_begun &&
		!list_is_linked(&conn->connect_op.node)) {
		epoll_start(epoll, &conn->connect_op, conn->connect_op.run);
	}
}

/* ---- making -----------------------------------------------------------------------------------
 */

static const struct io_conn_ops conn_ops = {
	.send = conn_send,
	.recv = conn_recv,
	.close = conn_close,
};

struct epoll_conn *epoll_conn_new(struct epoll *epoll)
{
	struct epoll_conn *conn = calloc(1, sizeof(*conn));

	if (conn != NULL) {
		conn->epoll = epoll;
		conn->fd = -1;
		conn->source.ready = conn_ready;
		conn->conn.ops = &conn_ops;
		conn->conn.io = &epoll->real.io;
	}
	return conn;
}

void epoll_conn_free_unused(struct epoll_conn *conn)
{
	if (conn->fd >= 0) {
		epoll_remove(conn->epoll, conn->fd);
		close(conn->fd);
	}
	free(conn);
}

int epoll_conn_watch(struct epoll_conn *conn)
{
	return epoll_add(conn->epoll, conn->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &conn->source);
}

struct io_conn *epoll_conn_ready(struct epoll_conn *conn, const struct io_address *peer)
{
	real_socket_ready(conn->fd, &conn->conn, peer);
	conn->writable = true;
	conn->epoll->real.open_count++;
	return &conn->conn;
}
