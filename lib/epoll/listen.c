/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners. */
#include "epoll/net.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* So many connections in one turn. */
#define ACCEPT_BUDGET 16

struct epoll_listener {
	struct io_listener *listener; /* NULL after unlisten */
	struct epoll *epoll;
	struct epoll_source source;
	int fd;
	bool complained; /* since the last success */
	struct epoll_op accept_op, free_op;
	struct io_timer pause;
	struct task pause_over;
};

static void accept_run(struct epoll *epoll, struct epoll_op *op);

static void accept_start(struct epoll_listener *own)
{
	if (!list_is_linked(&own->accept_op.node)) {
		epoll_start(own->epoll, &own->accept_op, accept_run);
	}
}

static void listener_ready(struct epoll *epoll, struct epoll_source *source, uint32_t events)
{
	struct epoll_listener *own = container_of(source, struct epoll_listener, source);

	(void)epoll;
	(void)events;
	if (own->listener != NULL && !io_timer_is_running(&own->pause)) {
		accept_start(own);
	}
}

static void pause_step(struct task *task)
{
	struct epoll_listener *own = container_of(task, struct epoll_listener, pause_over);

	accept_start(own);
}

static void pause_start(struct epoll_listener *own, int error)
{
	if (!own->complained) {
		log_warning(&own->epoll->real.io.log, "epoll", "accept-failed", "port=%u error=%s",
			own->listener->address.port, err_name(error));
	}
	own->complained = true;
	io_timer_start_after(&own->pause, REAL_ACCEPT_PAUSE_NS);
}

/* 0 or negative errno; then the socket is closed. */
static int give_away(struct epoll_listener *own, int fd, const struct sockaddr_storage *from)
{
	struct epoll_conn *conn = epoll_conn_new(own->epoll);
	struct io_address peer;

	if (conn == NULL) {
		close(fd);
		return -ENOMEM;
	}
	conn->fd = fd;
	int error = epoll_conn_watch(conn);

	if (error != 0) {
		epoll_conn_free_unused(conn);
		return error;
	}
	own->complained = false;
	real_address_from_sockaddr(from, &peer);
	own->listener->accepted(own->listener, epoll_conn_ready(conn, &peer));
	return 0;
}

static void accept_run(struct epoll *epoll, struct epoll_op *op)
{
	struct epoll_listener *own = container_of(op, struct epoll_listener, accept_op);

	(void)epoll;
	/* accepted() may call unlisten. */
	for (unsigned i = 0; i < ACCEPT_BUDGET && own->listener != NULL; i++) {
		struct sockaddr_storage peer;
		socklen_t peer_length = sizeof(peer);
		int fd = accept4(own->fd, (struct sockaddr *)(void *)&peer, &peer_length,
			SOCK_CLOEXEC | SOCK_NONBLOCK);
		int error = fd < 0 ? -errno : give_away(own, fd, &peer);

		if (error == -EAGAIN) {
			return;
		}
		if (real_accept_is_short(error) || error == -ENOSPC) {
			pause_start(own, error);
			return;
		}
	}
	if (own->listener != NULL) {
		accept_start(own);
	}
}

static void free_run(struct epoll *epoll, struct epoll_op *op)
{
	(void)epoll;
	free(container_of(op, struct epoll_listener, free_op));
}

void epoll_unlisten(struct io *io, struct io_listener *listener)
{
	struct epoll_listener *own = listener->backend;

	assert(own != NULL && own->listener == listener);
	own->listener = NULL;
	listener->backend = NULL;
	real_of(io)->open_count--;
	io_timer_stop(&own->pause);
	task_done(&own->pause_over);
	epoll_remove(own->epoll, own->fd);
	close(own->fd);
	list_remove_if_linked(&own->accept_op.node);
	/* Not at once: accept_run may be the caller. */
	epoll_start(own->epoll, &own->free_op, free_run);
}

int epoll_listen(struct io *io, struct io_listener *listener, struct err *err)
{
	struct epoll_listener *own = calloc(1, sizeof(*own));

	if (own == NULL) {
		return err_set(err, -ENOMEM, "no memory for a listener");
	}
	int error = real_socket_listen(&listener->address, SOCK_NONBLOCK, &own->fd, err);

	if (error != 0) {
		free(own);
		return error;
	}
	own->epoll = epoll_of(io);
	own->source.ready = listener_ready;
	error = epoll_add(own->epoll, own->fd, EPOLLIN, &own->source);
	if (error != 0) {
		close(own->fd);
		free(own);
		return err_set(err, error, "epoll_ctl: %s", err_describe(error));
	}
	task_init(&own->pause_over, &io->runq, pause_step);
	io_timer_init(&own->pause, io, &own->pause_over);
	own->listener = listener;
	listener->backend = own;
	own->epoll->real.open_count++;
	return 0;
}
