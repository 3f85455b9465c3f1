/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners: one accept in flight for each. */
#include "uring/net.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct uring_listener {
	struct io_listener *listener; /* NULL after unlisten */
	struct uring *uring;
	int fd;
	unsigned in_flight;
	bool pausing;    /* pause_op is in flight, not accept_op */
	bool complained; /* since the last success */
	struct sockaddr_storage peer;
	socklen_t peer_length;
	struct __kernel_timespec pause;
	struct uring_op accept_op, pause_op, cancel_op, close_op;
};

static void accept_start(struct uring_listener *own);

/* ---- closing ----------------------------------------------------------------------------------
 */

static void close_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	io_uring_prep_close(sqe, container_of(op, struct uring_listener, close_op)->fd);
}

static void close_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)uring;
	(void)result;
	free(container_of(op, struct uring_listener, close_op));
}

static const struct uring_op_kind close_kind = {
	.prepare = close_prepare,
	.complete = close_complete,
};

static void operation_is_over(struct uring_listener *own)
{
	own->in_flight--;
	if (own->listener == NULL && own->in_flight == 0) {
		uring_op_start(own->uring, &own->close_op, &close_kind);
	}
}

static void cancel_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring_listener *own = container_of(op, struct uring_listener, cancel_op);

	uring_prepare_cancel(sqe, own->pausing ? &own->pause_op : &own->accept_op);
}

static void cancel_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)uring;
	(void)result;
	operation_is_over(container_of(op, struct uring_listener, cancel_op));
}

static const struct uring_op_kind cancel_kind = {
	.prepare = cancel_prepare,
	.complete = cancel_complete,
};

void uring_unlisten(struct io *io, struct io_listener *listener)
{
	struct uring_listener *own = listener->backend;

	assert(own != NULL && own->listener == listener);
	own->listener = NULL;
	listener->backend = NULL;
	real_of(io)->open_count--;
	/* At once, so that nobody is let in and the port can be taken again. */
	(void)shutdown(own->fd, SHUT_RDWR);
	own->in_flight++;
	uring_op_start(own->uring, &own->cancel_op, &cancel_kind);
}

/* ---- accept -----------------------------------------------------------------------------------
 */

static void pause_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring_listener *own = container_of(op, struct uring_listener, pause_op);

	own->pause.tv_nsec = (long long)REAL_ACCEPT_PAUSE_NS;
	io_uring_prep_timeout(sqe, &own->pause, 0, 0);
}

static void pause_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct uring_listener *own = container_of(op, struct uring_listener, pause_op);

	(void)uring;
	(void)result;
	own->pausing = false;
	if (own->listener != NULL) {
		accept_start(own);
	}
	operation_is_over(own);
}

static const struct uring_op_kind pause_kind = {
	.prepare = pause_prepare,
	.complete = pause_complete,
};

static void pause_start(struct uring_listener *own, int error)
{
	if (!own->complained) {
		log_warning(&own->uring->real.io.log, "uring", "accept-failed", "port=%u error=%s",
			own->listener->address.port, err_name(error));
	}
	own->complained = true;
	own->pausing = true;
	own->in_flight++;
	uring_op_start(own->uring, &own->pause_op, &pause_kind);
}

/* Returns false when memory is short; then the socket is closed. */
static bool give_away(struct uring_listener *own, int fd)
{
	struct uring_conn *conn = uring_conn_new(own->uring);
	struct io_address peer;

	if (conn == NULL) {
		close(fd);
		return false;
	}
	own->complained = false;
	conn->fd = fd;
	real_address_from_sockaddr(&own->peer, &peer);
	own->listener->accepted(own->listener, uring_conn_ready(conn, &peer));
	return true;
}

static void accept_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct uring_listener *own = container_of(op, struct uring_listener, accept_op);
	bool short_of_something = real_accept_is_short(result);

	(void)uring;
	if (own->listener == NULL) {
		if (result >= 0) {
			close(result);
		}
	} else if (result >= 0) {
		if (!give_away(own, result)) {
			short_of_something = true;
			result = -ENOMEM;
		}
	}
	/* accepted() may have called unlisten. */
	if (own->listener != NULL && short_of_something) {
		pause_start(own, result);
	} else if (own->listener != NULL) {
		accept_start(own);
	}
	operation_is_over(own);
}

static void accept_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct uring_listener *own = container_of(op, struct uring_listener, accept_op);

	own->peer_length = sizeof(own->peer);
	io_uring_prep_accept(sqe, own->fd, (struct sockaddr *)(void *)&own->peer, &own->peer_length,
		SOCK_CLOEXEC);
}

static const struct uring_op_kind accept_kind = {
	.prepare = accept_prepare,
	.complete = accept_complete,
};

static void accept_start(struct uring_listener *own)
{
	own->in_flight++;
	uring_op_start(own->uring, &own->accept_op, &accept_kind);
}

/* ---- listen -----------------------------------------------------------------------------------
 */

int uring_listen(struct io *io, struct io_listener *listener, struct err *err)
{
	struct uring *uring = uring_of(io);
	struct uring_listener *own = calloc(1, sizeof(*own));

	if (own == NULL) {
		return err_set(err, -ENOMEM, "no memory for a listener");
	}
	int error = real_socket_listen(&listener->address, 0, &own->fd, err);

	if (error != 0) {
		free(own);
		return error;
	}
	own->uring = uring;
	own->listener = listener;
	listener->backend = own;
	uring->real.open_count++;
	accept_start(own);
	return 0;
}
