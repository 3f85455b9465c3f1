/* SPDX-License-Identifier: Apache-2.0 */
/* Connections, as the listener and the connector make them. */
#ifndef EPOLL_NET_H
#define EPOLL_NET_H

#include "epoll/internal.h"

struct epoll_conn {
	struct io_conn conn;
	struct epoll *epoll;
	struct epoll_source source;
	int fd;
	bool closing;
	/* What the socket was last found to be, or said in an event. */
	bool readable, writable;
	bool ended; /* the peer sends no more, or there is an error: no further event says so */
	struct epoll_op send_op, recv_op, close_op; /* started, or in no list */

	struct io_send *send; /* NULL: none in flight */
	struct iovec *send_iov;
	unsigned send_iov_count;
	struct io_recv *recv; /* NULL: none in flight */

	/* Only while connecting. */
	struct io_connect *connect;
	struct epoll_op connect_op;
	struct io_timer connect_timer;
	struct task connect_timeout;
	bool connect_begun, timed_out;
	struct sockaddr_storage to;
	socklen_t to_length;
};

/* Without a socket; NULL when memory is short. */
struct epoll_conn *epoll_conn_new(struct epoll *epoll);
/* One that was never given away; closes its socket. */
void epoll_conn_free_unused(struct epoll_conn *conn);
/* Puts its socket into the set.  0 or negative errno. */
int epoll_conn_watch(struct epoll_conn *conn);
/* Its socket is connected and watched: from now on it belongs to whoever gets the result. */
struct io_conn *epoll_conn_ready(struct epoll_conn *conn, const struct io_address *peer);

#endif
