/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes of the frontends' descriptors. */
#include "epoll/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* One descriptor.  Many operations may wait on it. */
struct epoll_fd {
	struct epoll_source source;
	int fd;
	bool blocking; /* is asked before each call whether that would wait */
	/* For each direction: there may be something, so an operation is tried at once. */
	bool ready[2];
	struct list waiting[2]; /* struct epoll_op.node */
};

/* How an operation uses io_fd_op.backend. */
struct fd_state {
	struct epoll_op op;
	struct epoll_fd *own;
	bool cancelled;
};

_Static_assert(sizeof(struct fd_state) <= sizeof(((struct io_fd_op *)NULL)->backend), "must fit");

static struct fd_state *state_of(struct io_fd_op *fd_op)
{
	return (struct fd_state *)(void *)fd_op->backend;
}

static void fd_run(struct epoll *epoll, struct epoll_op *op);

static void fd_ready(struct epoll *epoll, struct epoll_source *source, uint32_t events)
{
	static const uint32_t wanted[2] = {
		EPOLLIN | EPOLLHUP | EPOLLERR, EPOLLOUT | EPOLLHUP | EPOLLERR};
	struct epoll_fd *own = container_of(source, struct epoll_fd, source);

	for (unsigned i = 0; i < 2; i++) {
		if ((events & wanted[i]) != 0) {
			own->ready[i] = true;
			list_splice_back(&epoll->started, &own->waiting[i]);
		}
	}
}

/* ---- descriptors ------------------------------------------------------------------------------
 */

static int make_room(struct epoll *epoll, size_t count)
{
	if (count <= epoll->fd_count) {
		return 0;
	}
	struct epoll_fd **fds = realloc(epoll->fds, count * sizeof(struct epoll_fd *));

	if (fds == NULL) {
		return -ENOMEM;
	}
	memset(fds + epoll->fd_count, 0, (count - epoll->fd_count) * sizeof(struct epoll_fd *));
	epoll->fds = fds;
	epoll->fd_count = count;
	return 0;
}

/* Known from its first operation until it is forgotten. */
static int find_fd(struct epoll *epoll, int fd, struct epoll_fd **ret_own)
{
	if (fd < 0) {
		return -EBADF;
	}
	if (make_room(epoll, (size_t)fd + 1) != 0) {
		return -ENOMEM;
	}
	struct epoll_fd *own = epoll->fds[fd];

	if (own == NULL) {
		int flags = fcntl(fd, F_GETFL);

		own = flags >= 0 ? calloc(1, sizeof(*own)) : NULL;
		if (own == NULL) {
			return flags < 0 ? -errno : -ENOMEM;
		}
		*own = (struct epoll_fd){.source.ready = fd_ready,
			.fd = fd,
			.blocking = (flags & O_NONBLOCK) == 0,
			.ready = {true, true}};
		list_init(&own->waiting[0]);
		list_init(&own->waiting[1]);
		int error = epoll_add(epoll, fd, EPOLLIN | EPOLLOUT, &own->source);

		if (error != 0) {
			free(own);
			return error;
		}
		epoll->fds[fd] = own;
	}
	*ret_own = own;
	return 0;
}

void epoll_fd_forget(struct io *io, int fd)
{
	struct epoll *epoll = epoll_of(io);
	struct epoll_fd *own = fd >= 0 && (size_t)fd < epoll->fd_count ? epoll->fds[fd] : NULL;

	if (own == NULL) {
		return;
	}
	assert(list_is_empty(&own->waiting[0]) && list_is_empty(&own->waiting[1]));
	epoll_remove(epoll, fd);
	epoll->fds[fd] = NULL;
	free(own);
}

void epoll_fds_free(struct epoll *epoll)
{
	for (size_t i = 0; i < epoll->fd_count; i++) {
		epoll_fd_forget(&epoll->real.io, (int)i);
	}
	free(epoll->fds);
}

/* ---- operations -------------------------------------------------------------------------------
 */

static ssize_t transfer(struct epoll_fd *own, const struct io_fd_op *fd_op)
{
	struct pollfd look = {.fd = own->fd, .events = fd_op->write ? POLLOUT : POLLIN};
	ssize_t result;

	if (own->blocking && poll(&look, 1, 0) == 0) {
		return -EAGAIN;
	}
	do {
		result = fd_op->write ? writev(own->fd, fd_op->iov, (int)fd_op->iov_count)
				      : readv(own->fd, fd_op->iov, (int)fd_op->iov_count);
	} while (result < 0 && errno == EINTR);
	return result >= 0 ? result : -errno;
}

static void fd_run(struct epoll *epoll, struct epoll_op *op)
{
	struct fd_state *state = container_of(op, struct fd_state, op);
	struct io_fd_op *fd_op = container_of((void *)state, struct io_fd_op, backend);
	struct epoll_fd *own = state->own;
	ssize_t result = -ECANCELED;

	(void)epoll;
	if (!state->cancelled) {
		/* One request of the kernel starts all reads that wait; the first that finds
		 * nothing spares the others the look. */
		result = own->ready[fd_op->write] ? transfer(own, fd_op) : -EAGAIN;
		if (result == -EAGAIN) {
			own->ready[fd_op->write] = false;
			list_push_back(&own->waiting[fd_op->write], &op->node);
			return;
		}
	}
	fd_op->result = result;
	fd_op->done(fd_op);
}

static void fd_failed(struct epoll *epoll, struct epoll_op *op)
{
	struct io_fd_op *fd_op = container_of((void *)op, struct io_fd_op, backend);

	(void)epoll;
	fd_op->done(fd_op);
}

_Static_assert(offsetof(struct fd_state, op) == 0, "as fd_failed has it");

void epoll_fd_submit(struct io *io, struct io_fd_op *fd_op)
{
	struct epoll *epoll = epoll_of(io);
	struct fd_state *state = state_of(fd_op);

	*state = (struct fd_state){.op.run = fd_run};
	fd_op->result = find_fd(epoll, fd_op->fd, &state->own);
	if (fd_op->result != 0) {
		epoll_start(epoll, &state->op, fd_failed);
	} else if (state->own->ready[fd_op->write]) {
		epoll_start(epoll, &state->op, fd_run);
	} else {
		list_push_back(&state->own->waiting[fd_op->write], &state->op.node);
	}
}

void epoll_fd_cancel(struct io *io, struct io_fd_op *fd_op)
{
	struct fd_state *state = state_of(fd_op);

	if (state->cancelled) {
		return;
	}
	state->cancelled = true;
	list_remove(&state->op.node);
	epoll_start(epoll_of(io), &state->op, state->op.run);
}
