/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lib/uring share. */
#ifndef URING_INTERNAL_H
#define URING_INTERNAL_H

#include "real/backend.h"

#include <liburing.h>

struct uring;
struct uring_op;

/* What an operation of the ring does.  One constant for each kind. */
struct uring_op_kind {
	/* Fills one submission queue entry; the caller sets its user data. */
	void (*prepare)(struct uring_op *op, struct io_uring_sqe *sqe);
	/* Fills the entry of an operation that is linked behind this one, and returns that
	 * operation; NULL: there is none. */
	struct uring_op *(*prepare_linked)(struct uring_op *op, struct io_uring_sqe *sqe);
	void (*complete)(struct uring *uring, struct uring_op *op, int result);
};

/* Embedded in whatever is in flight; its address is the user data.  It must fit into the backend[]
 * arrays of io.h. */
struct uring_op {
	const struct uring_op_kind *kind;
	struct uring_op *next; /* while it waits for its entry */
};

struct uring {
	struct real real;
	struct io_uring ring;

	/* Operations that have no submission queue entry yet, first come first served. */
	struct uring_op *waiting_first;
	struct uring_op *waiting_last;
	unsigned in_flight; /* completions to come, those of waiting operations too */

	/* The read of real.event_fd, which other threads write to. */
	uint64_t event_value;
	bool event_armed;
	struct uring_op event_op;
	struct uring_op event_cancel_op;
};

static inline struct uring *uring_of_real(struct real *real)
{
	return container_of(real, struct uring, real);
}

static inline struct uring *uring_of(struct io *io)
{
	return uring_of_real(real_of(io));
}

/* Hands the operation to the ring; it is submitted with everything else at the end of the turn. */
void uring_op_start(struct uring *uring, struct uring_op *op, const struct uring_op_kind *kind);

/* Parts of struct real_backend. */
void uring_submit(struct real *real);
bool uring_has_work(struct real *real);
void uring_enter(struct real *real, uint64_t deadline_ns);
unsigned uring_complete(struct real *real);
void uring_disk_start(struct io_disk_op *op);
/* Waits for what is still being closed, at the end. */
void uring_drain(struct uring *uring);

/* For cancelling operations: prepares IORING_OP_ASYNC_CANCEL of `target`. */
void uring_prepare_cancel(struct io_uring_sqe *sqe, struct uring_op *target);

/* listen, connect, fd: parts of the operations of struct io */
int uring_listen(struct io *io, struct io_listener *listener, struct err *err);
void uring_unlisten(struct io *io, struct io_listener *listener);
void uring_connect(struct io *io, struct io_connect *connect);
void uring_fd_submit(struct io *io, struct io_fd_op *fd_op);
void uring_fd_cancel(struct io *io, struct io_fd_op *fd_op);
void uring_fd_forget(struct io *io, int fd);

#endif
