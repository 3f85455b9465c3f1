/* SPDX-License-Identifier: Apache-2.0 */
/* Connections, as the listener and the connector make them. */
#ifndef URING_NET_H
#define URING_NET_H

#include "uring/internal.h"

#include <sys/socket.h>

struct uring_conn {
	struct io_conn conn;
	struct uring *uring;
	int fd;
	bool closing;
	unsigned in_flight; /* operations that refer to this connection, but the close */
	struct uring_op send_op, recv_op;
	struct uring_op cancel_send_op, cancel_recv_op;
	struct uring_op close_op;

	struct io_send *send; /* NULL: none in flight */
	struct iovec *send_iov;
	unsigned send_iov_count;
	struct msghdr send_message;

	struct io_recv *recv; /* NULL: none in flight */
	struct msghdr recv_message;

	/* Only while connecting. */
	struct io_connect *connect;
	struct sockaddr_storage to;
	socklen_t to_length;
	struct __kernel_timespec timeout;
	bool timed_out;
	int connect_result;
	struct uring_op connect_op, connect_timeout_op;
};

/* Without a socket; NULL when memory is short. */
struct uring_conn *uring_conn_new(struct uring *uring);
/* One that was never given away; closes its socket. */
void uring_conn_free_unused(struct uring_conn *conn);
/* Its socket is connected: from now on it belongs to whoever gets the result. */
struct io_conn *uring_conn_ready(struct uring_conn *conn, const struct io_address *peer);

#endif
