/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes of the frontends' descriptors. */
#include "uring/internal.h"

#include <errno.h>
#include <poll.h>

/* How an operation uses io_fd_op.backend. */
struct fd_state {
	struct uring_op op;
	struct uring_op cancel_op;
	uint32_t in_flight; /* 1, or 2 with a cancel */
	bool cancelled;
	bool over;
};

_Static_assert(sizeof(struct fd_state) <= sizeof(((struct io_fd_op *)NULL)->backend), "must fit");

static struct fd_state *state_of(struct io_fd_op *fd_op)
{
	return (struct fd_state *)(void *)fd_op->backend;
}

static struct io_fd_op *fd_op_of(struct fd_state *state)
{
	return container_of((void *)state, struct io_fd_op, backend);
}

/* done is called when nothing of the ring refers to the operation any more. */
static void operation_is_over(struct fd_state *state)
{
	struct io_fd_op *fd_op = fd_op_of(state);

	state->in_flight--;
	if (state->in_flight == 0) {
		fd_op->done(fd_op);
	}
}

static void finish(struct fd_state *state, ssize_t result)
{
	fd_op_of(state)->result = result;
	state->over = true;
	operation_is_over(state);
}

/* ---- poll: a non-blocking descriptor that has nothing
 * --------------------------------------------- */

static const struct uring_op_kind transfer_kind;

static void poll_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	const struct io_fd_op *fd_op = fd_op_of(container_of(op, struct fd_state, op));

	io_uring_prep_poll_add(sqe, fd_op->fd, fd_op->write ? POLLOUT : POLLIN);
}

static void poll_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct fd_state *state = container_of(op, struct fd_state, op);

	if (state->cancelled) {
		finish(state, -ECANCELED);
	} else if (result < 0) {
		finish(state, result);
	} else {
		uring_op_start(uring, op, &transfer_kind);
	}
}

static const struct uring_op_kind poll_kind = {
	.prepare = poll_prepare,
	.complete = poll_complete,
};

/* ---- read and write ---------------------------------------------------------------------------
 */

static void transfer_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	const struct io_fd_op *fd_op = fd_op_of(container_of(op, struct fd_state, op));
	uint64_t current = UINT64_MAX; /* the descriptor's own position */

	if (fd_op->write) {
		io_uring_prep_writev(sqe, fd_op->fd, fd_op->iov, fd_op->iov_count, current);
	} else {
		io_uring_prep_readv(sqe, fd_op->fd, fd_op->iov, fd_op->iov_count, current);
	}
}

static void transfer_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct fd_state *state = container_of(op, struct fd_state, op);
	bool again = result == -EINTR || result == -EAGAIN;

	if (state->cancelled && (again || result == -ECANCELED)) {
		finish(state, -ECANCELED);
	} else if (again) {
		uring_op_start(uring, op, result == -EAGAIN ? &poll_kind : &transfer_kind);
	} else {
		finish(state, result);
	}
}

static const struct uring_op_kind transfer_kind = {
	.prepare = transfer_prepare,
	.complete = transfer_complete,
};

void uring_fd_submit(struct io *io, struct io_fd_op *fd_op)
{
	struct fd_state *state = state_of(fd_op);

	*state = (struct fd_state){.in_flight = 1};
	uring_op_start(uring_of(io), &state->op, &transfer_kind);
}

/* ---- cancel -----------------------------------------------------------------------------------
 */

static void cancel_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	uring_prepare_cancel(sqe, &container_of(op, struct fd_state, cancel_op)->op);
}

static void cancel_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)uring;
	(void)result;
	operation_is_over(container_of(op, struct fd_state, cancel_op));
}

static const struct uring_op_kind cancel_kind = {
	.prepare = cancel_prepare,
	.complete = cancel_complete,
};

void uring_fd_cancel(struct io *io, struct io_fd_op *fd_op)
{
	struct fd_state *state = state_of(fd_op);

	if (state->cancelled) {
		return;
	}
	state->cancelled = true;
	state->in_flight++;
	uring_op_start(uring_of(io), &state->cancel_op, &cancel_kind);
}

void uring_fd_forget(struct io *io, int fd)
{
	/* The ring knows a descriptor only while an operation is in flight. */
	(void)io;
	(void)fd;
}
