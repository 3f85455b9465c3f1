/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lib/epoll share. */
#ifndef EPOLL_INTERNAL_H
#define EPOLL_INTERNAL_H

#include "real/backend.h"

#include <pthread.h>
#include <sys/epoll.h>

#define EPOLL_EVENTS       128
#define EPOLL_DISK_THREADS 8

struct epoll;

/* Something to do in the next turn's complete: a system call that does not block is tried, or a
 * result that is there already is delivered.  Embedded in whatever is in flight; it must fit into
 * the backend[] arrays of io.h. */
struct epoll_op {
	struct list_node node;
	void (*run)(struct epoll *epoll, struct epoll_op *op);
};

/*
 * A descriptor in the epoll set, whose address is the event's data.  All are edge-triggered:
 * `ready` notes that there is something again and starts the operations that wait for it; who finds
 * nothing (EAGAIN) notes that and waits.  So nothing is armed or disarmed for an operation.
 */
struct epoll_source {
	void (*ready)(struct epoll *epoll, struct epoll_source *source, uint32_t events);
};

struct epoll {
	struct real real;
	int epoll_fd;
	bool no_pwait2; /* the kernel has no time-outs finer than a millisecond */
	unsigned event_count;
	unsigned skipped; /* turns in a row that did not look at the set */
	struct epoll_event events[EPOLL_EVENTS];
	struct list started;       /* struct epoll_op.node */
	struct list started_disks; /* struct epoll_disk.node: they have something to hand over */
	struct epoll_source event_source;
	/* The frontends' descriptors by their number; NULL: never used, or forgotten.  Owned. */
	struct epoll_fd **fds;
	size_t fd_count;
};

static inline struct epoll *epoll_of_real(struct real *real)
{
	return container_of(real, struct epoll, real);
}

static inline struct epoll *epoll_of(struct io *io)
{
	return epoll_of_real(real_of(io));
}

static inline void epoll_start(
	struct epoll *epoll, struct epoll_op *op, void (*run)(struct epoll *, struct epoll_op *))
{
	op->run = run;
	list_push_back(&epoll->started, &op->node);
}

/* 0 or negative errno. */
int epoll_add(struct epoll *epoll, int fd, uint32_t events, struct epoll_source *source);
/* Before the descriptor is closed: another one of the same file may be open elsewhere. */
void epoll_remove(struct epoll *epoll, int fd);

/* Parts of struct io_ops. */
int epoll_listen(struct io *io, struct io_listener *listener, struct err *err);
void epoll_unlisten(struct io *io, struct io_listener *listener);
void epoll_connect(struct io *io, struct io_connect *connect);
void epoll_fd_submit(struct io *io, struct io_fd_op *fd_op);
void epoll_fd_cancel(struct io *io, struct io_fd_op *fd_op);
void epoll_fd_forget(struct io *io, int fd);
void epoll_fds_free(struct epoll *epoll);

/* Parts of struct real_backend. */
int epoll_disk_open(struct real_disk *disk, struct err *err);
void epoll_disk_close(struct real_disk *disk);
void epoll_disk_start(struct io_disk_op *op);
/* Gives what was started to the disks' threads. */
void epoll_disks_hand_over(struct epoll *epoll);

#endif
