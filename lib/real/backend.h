/* SPDX-License-Identifier: Apache-2.0 */
/* What the loop and its backends share. */
#ifndef REAL_BACKEND_H
#define REAL_BACKEND_H

#include "real/real.h"

#include <stdatomic.h>
#include <sys/socket.h>

struct real_disk;

/*
 * How I/O reaches the kernel.  One turn of the loop calls submit, then enter, then complete; what
 * the backend completes it completes there, or in messages that it posts to its own loop.
 */
struct real_backend {
	const char *name; /* as in STRAKE_IO */
	const char *cost; /* what it costs where it stands in for a better one */
	const struct io_ops *ops;
	size_t size; /* of its struct, which begins with a struct real */
	/* 0 or negative errno: -ENOSYS and -EPERM when the kernel lacks or forbids it.  Fills
	 * real->text. */
	int (*open)(struct real *real, struct err *err);
	/* Waits for what is still being closed. */
	void (*close)(struct real *real);
	/* Hands what was started since the last turn to the kernel, where that is no system call.
	 */
	void (*submit)(struct real *real);
	/* Is there something to complete?  As cheap as it can be told. */
	bool (*has_work)(struct real *real);
	/* Waits for something to complete until the deadline; UINT64_MAX: for ever; 0: looks only.
	 */
	void (*enter)(struct real *real, uint64_t deadline_ns);
	/* Calls `done` of what is complete; returns how many there were. */
	unsigned (*complete)(struct real *real);
	/* Executes the operation's next call (real_disk_get_call) and tells
	 * real_disk_call_complete(). */
	void (*disk_start)(struct io_disk_op *op);
	/* Any thread; NULL: nothing to do. */
	int (*disk_open)(struct real_disk *disk, struct err *err);
	void (*disk_close)(struct real_disk *disk);
};

struct real_metrics {
	struct metric info;
	struct metric turns;
	struct metric sleeps;
	struct metric operations;
	struct metric steps;
};

struct real {
	struct io io;
	const struct real_backend *backend;
	struct real_options options;
	char text[128];
	char why[512];

	/* Operations that are done without the kernel (memory disks): completed at the next turn.
	 */
	struct list memory_done; /* struct io_disk_op.node */

	uint64_t now_ns; /* of this turn */
	bool in_turn;
	unsigned open_count;    /* connections and listeners that nobody closed yet */
	atomic_uint disk_count; /* open ones */

	/* Messages from other threads, the newest first; the loop's own address while it sleeps. */
	_Atomic(void *) messages;
	_Atomic bool stop;
	int event_fd; /* written to wake the loop */
	struct real_metrics metrics;
};

static inline struct real *real_of(struct io *io)
{
	return io->ctx;
}

uint64_t real_clock_ns(void);

/* ---- the same in every backend's struct io_ops ---- */

uint64_t real_now_ns(struct io *io);
void real_post(struct io *io, struct io_msg *msg);
void *real_zalloc(struct io *io, size_t alignment, size_t size);
void real_free_memory(struct io *io, void *memory);
void real_dump(struct io *io, void *memory, size_t size, bool may);

/* ---- sockets ---- */

void real_address_from_sockaddr(
	const struct sockaddr_storage *from, struct io_address *ret_address);
/* A listening socket; the address learns the port that was chosen.  `flags` as SOCK_NONBLOCK. */
int real_socket_listen(struct io_address *address, int flags, int *ret_fd, struct err *err);
/* A socket to connect with, and to where.  A descriptor or negative errno. */
int real_socket_for(const struct io_address *to, int flags, struct sockaddr_storage *ret_to,
	socklen_t *ret_to_length);
/* A connected one: its options, and both ends. */
void real_socket_ready(int fd, struct io_conn *conn, const struct io_address *peer);
/* accept() says that there is a shortage of something: it would say so again at once. */
bool real_accept_is_short(int error);
/* Then it pauses for so long. */
#define REAL_ACCEPT_PAUSE_NS (100 * IO_NS_PER_MS)

/* Leaves out of a vector what was moved.  Returns true if there is more. */
bool real_iov_advance(struct iovec **iov, unsigned *iov_count, size_t moved);

/* ---- disks ---- */

struct real_disk {
	struct io_disk disk;
	struct real *real;
	const struct real_backend *backend;
	void *threads; /* the backend's */
	int fd;        /* -1: memory */
	bool is_block_device;
	/* What the device was found not to do; then the next best is used.  The loop's. */
	bool no_punch_hole;
	bool no_zero_range;
	unsigned char *memory;
};

enum real_disk_step {
	REAL_DISK_TRANSFER,
	REAL_DISK_FLUSH,
	REAL_DISK_PUNCH_HOLE, /* gives the space back */
	REAL_DISK_ZERO_RANGE,
	REAL_DISK_WRITE_ZEROS,
};

/* How an operation uses io_disk_op.backend. */
struct real_disk_state {
	struct real_disk *disk;
	uint64_t moved; /* bytes done so far */
	uint32_t step;  /* enum real_disk_step */
	int32_t result; /* the backend's */
	uint64_t backend[3];
};

_Static_assert(
	sizeof(struct real_disk_state) <= sizeof(((struct io_disk_op *)NULL)->backend), "must fit");

static inline struct real_disk_state *real_disk_state(struct io_disk_op *op)
{
	return (struct real_disk_state *)(void *)op->backend;
}

/* An operation is a ladder of one or more system calls. */
enum real_disk_call_kind { REAL_DISK_READV, REAL_DISK_WRITEV, REAL_DISK_SYNC, REAL_DISK_ALLOCATE };

struct real_disk_call {
	enum real_disk_call_kind kind;
	int fd;
	struct iovec one; /* used when iov is NULL */
	struct iovec *iov;
	unsigned iov_count;
	uint64_t offset;
	uint64_t length; /* ALLOCATE */
	int flags;       /* of preadv2, pwritev2, fallocate */
};

/* The call that comes next.  Also from a thread that the operation was handed to. */
void real_disk_get_call(struct io_disk_op *op, struct real_disk_call *ret_call);
/* What it gave: a byte count or negative errno.  On the loop, in complete or a message; may start
 * the next call. */
void real_disk_call_complete(struct io_disk_op *op, int result);

extern const struct io_disk_ops real_disk_ops;
void real_memory_disks_complete(struct real *real);
/* When unflushed writes may be gone this number changes. */
uint64_t real_disk_power(int fd);
/* Writes who holds a lock on the file, as " (process 12, pool-agent)", into text. */
void real_disk_lock_holder(int fd, char *text, size_t text_size);

#endif
