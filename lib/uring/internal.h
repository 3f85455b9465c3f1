/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lib/uring share. */
#ifndef URING_INTERNAL_H
#define URING_INTERNAL_H

#include "uring/uring.h"

#include <liburing.h>
#include <stdatomic.h>

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

struct uring_metrics {
	struct metric turns;
	struct metric sleeps;
	struct metric operations;
	struct metric steps;
};

struct uring {
	struct io io;
	struct io_uring ring;
	struct uring_options options;
	char flags_text[96];

	/* Operations that have no submission queue entry yet, first come first served. */
	struct uring_op *waiting_first;
	struct uring_op *waiting_last;
	unsigned in_flight; /* completions to come, those of waiting operations too */

	/* Operations that are done without the ring (memory disks): completed at the next turn. */
	struct list local_done; /* struct io_disk_op.node */

	uint64_t now_ns; /* of this turn */
	bool in_turn;
	unsigned open_count; /* connections and listeners that nobody closed yet */

	/* Messages from other threads, the newest first; the loop's own address while it sleeps. */
	_Atomic(void *) messages;
	_Atomic bool stop;
	int event_fd;
	uint64_t event_value;
	bool event_armed;
	struct uring_op event_op;
	struct uring_op event_cancel_op;
	struct uring_metrics metrics;
};

static inline struct uring *uring_of(struct io *io)
{
	return io->ctx;
}

/* Hands the operation to the ring; it is submitted with everything else at the end of the turn. */
void uring_op_start(struct uring *uring, struct uring_op *op, const struct uring_op_kind *kind);

/* As uring_new, without the best `first_setup` of the URING_SETUPS combinations of flags: as on an
 * older kernel. */
#define URING_SETUPS 4
int uring_new_from_setup(const struct uring_options *options, unsigned first_setup,
	struct uring **ret_uring, struct err *err) __must_check;

extern const struct io_ops uring_io_ops;
/* Waits for what is still being closed, at the end. */
void uring_drain(struct uring *uring);

/* For cancelling operations: prepares IORING_OP_ASYNC_CANCEL of `target`. */
void uring_prepare_cancel(struct io_uring_sqe *sqe, struct uring_op *target);

/* disk */
void uring_memory_disks_complete(struct uring *uring);
extern const struct io_disk_ops uring_disk_ops;

struct uring_disk {
	struct io_disk disk;
	struct uring *uring;
	int fd; /* -1: memory */
	bool is_block_device;
	/* What the device was found not to do; then the next best is used. */
	bool no_punch_hole;
	bool no_zero_range;
	unsigned char *memory;
};

/* disk_identity */
uint64_t uring_disk_power(int fd);
/* Appends who holds a lock on the file, as " (held by process 12, strake-agent)", to text. */
void uring_disk_lock_holder(int fd, char *text, size_t text_size);

/* The socket, for tests that make its buffers small. */
int uring_conn_fd(struct io_conn *conn);

/* listen, connect, fd: parts of the operations of struct io */
int uring_listen(struct io *io, struct io_listener *listener, struct err *err);
void uring_unlisten(struct io *io, struct io_listener *listener);
void uring_connect(struct io *io, struct io_connect *connect);
void uring_fd_submit(struct io *io, struct io_fd_op *fd_op);
void uring_fd_cancel(struct io *io, struct io_fd_op *fd_op);

#endif
