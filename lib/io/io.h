/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seams.  Everything that is not deterministic (clock, timers, random numbers, disks, network,
 * memory) reaches the code of nexus and pool-agent through one `struct io`, one per reactor thread.
 * Implementations: lib/uring and lib/epoll (the real world, in the loop of lib/real) and lib/simio
 * (a simulated one, from a seed).  Only a main.c or a test chooses.
 *
 * The completion contract, for every asynchronous operation here:
 *  - submitting never completes inline: `done` is called later, from the reactor's loop, never from
 * within a call that the logic makes;
 *  - `done` records what happened and wakes tasks; it may submit further operations, but takes no
 * decisions;
 *  - an operation's struct and its buffers belong to the backend from submission until `done` is
 * called, which is called exactly once;
 *  - result is 0 (or a byte count where it says so) or a negative errno.
 *
 * Everything is called from the reactor's own thread but io_post().
 */
#ifndef IO_IO_H
#define IO_IO_H

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/rng.h"
#include "base/task.h"
#include "trace/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/sdt.h>
#include <sys/uio.h>

#define IO_NS_PER_MS  UINT64_C(1000000)
#define IO_NS_PER_S   UINT64_C(1000000000)
#define IO_PAGE_BYTES 4096u

struct io;

/* ---- messages from other threads
 * ------------------------------------------------------------------------------- */

/* Runs on the reactor's thread.  The message may be freed or reused from within run. */
struct io_msg {
	struct list_node node;
	void (*run)(struct io_msg *msg);
};

/* ---- timers
 * ----------------------------------------------------------------------------------------------------
 */

/*
 * Wakes a task at a monotonic time.  Intrusive (a pairing heap in struct io): starting one
 * allocates nothing. A timer that is running must be stopped before its memory goes.
 */
struct io_timer {
	struct io *io;     /* borrowed */
	struct task *task; /* borrowed; woken when the timer expires */
	uint64_t deadline_ns;
	bool running;
	struct io_timer *child, *sibling, *prev; /* the heap's */
};

void io_timer_init(struct io_timer *timer, struct io *io, struct task *task);
/* Starts, or moves a running timer.  A deadline in the past expires at the next turn of the loop.
 */
void io_timer_start(struct io_timer *timer, uint64_t deadline_ns);
void io_timer_start_after(struct io_timer *timer, uint64_t delay_ns);
void io_timer_stop(struct io_timer *timer);
/* Not running: expired, stopped or never started. */
static inline bool io_timer_is_running(const struct io_timer *timer)
{
	return timer->running;
}

struct io_timers {
	struct io_timer *root;
};

/* For backends: wakes the tasks of all timers due at now_ns; the next deadline, UINT64_MAX when
 * there is none. */
void io_timers_expire(struct io_timers *timers, uint64_t now_ns);
uint64_t io_timers_next_ns(const struct io_timers *timers);

/* ---- disks
 * -----------------------------------------------------------------------------------------------------
 */

enum io_disk_op_kind {
	IO_DISK_READ,
	IO_DISK_WRITE,
	IO_DISK_FLUSH, /* everything completed before this was submitted is durable when it
			  completes */
	IO_DISK_ZERO,  /* the range reads as zeros afterwards; space is given back where the backend
			  can */
};

struct io_disk_op {
	struct list_node node; /* the backend's while submitted, free for the caller's use before
				  and after */
	enum io_disk_op_kind kind;
	bool fua;           /* WRITE, ZERO: durable when it completes */
	uint64_t offset;    /* bytes; a multiple of disk->block_bytes */
	uint64_t length;    /* bytes; equals the sum of iov for READ and WRITE */
	struct iovec *iov;  /* borrowed; each base and length a multiple of disk->block_bytes */
	unsigned iov_count; /* at most IO_IOV_MAX */
	int result;         /* 0 or negative errno; a short transfer is -EIO */
	void (*done)(struct io_disk_op *op);
	void *ctx;           /* the caller's */
	uint64_t backend[6]; /* the backend's */
};

#define IO_IOV_MAX 64

/* Opened by a main.c, a control thread or a test; closed by whoever opened it, with nothing in
 * flight. */
struct io_disk {
	const struct io_disk_ops *ops;
	uint64_t size_bytes;
	uint32_t block_bytes; /* alignment of offset, length and memory; a write of this size at
				 this alignment is not torn */
	/* Changes whenever an acknowledged, unflushed write may have been lost: from the kernel's
	 * boot id and the device's identity.  protocol 1.1 "power". */
	uint64_t power;
	bool starts_zeroed; /* never-written ranges are known to read as zeros (a sparse file made
			       by us) */
};

struct io_disk_ops {
	/* Required.  Never fails by itself: errors arrive in op->result. */
	void (*submit)(struct io_disk *disk, struct io_disk_op *op);
};

static inline void io_disk_submit(struct io_disk *disk, struct io_disk_op *op)
{
	disk->ops->submit(disk, op);
}

/* ---- network
 * ---------------------------------------------------------------------------------------------------
 */

#define IO_HOST_TEXT_SIZE 64

struct io_address {
	char host[IO_HOST_TEXT_SIZE]; /* a numeric IPv4 or IPv6 address */
	uint16_t port;
};

struct io_conn;

/* One send at a time on a connection.  Completes when the whole of iov was taken by the transport
 * (or it failed): afterwards the bytes are no longer needed. */
struct io_send {
	struct iovec *iov; /* borrowed; the backend may change the entries while it sends */
	unsigned iov_count;
	int result; /* 0 or negative errno */
	void (*done)(struct io_send *send);
	void *ctx;
};

/* One receive at a time on a connection.  Completes with what is there, at least one byte. */
struct io_recv {
	struct iovec iov[2]; /* filled in order */
	unsigned iov_count;
	ssize_t result; /* > 0 bytes; 0 end of stream; negative errno */
	void (*done)(struct io_recv *recv);
	void *ctx;
};

struct io_conn {
	const struct io_conn_ops *ops;
	struct io *io;
	struct io_address peer;
	struct io_address local; /* our end: where a host that connected to us found us */
	/* Called once, after io_conn_close() and after what was in flight has completed (with
	 * -ECANCELED unless it was just done); the connection's memory is the backend's and is gone
	 * afterwards. */
	void (*closed)(struct io_conn *conn);
	void *ctx; /* the owner's */
};

struct io_conn_ops {
	void (*send)(struct io_conn *conn, struct io_send *send);
	void (*recv)(struct io_conn *conn, struct io_recv *recv);
	void (*close)(struct io_conn *conn);
};

static inline void io_conn_send(struct io_conn *conn, struct io_send *send)
{
	conn->ops->send(conn, send);
}

static inline void io_conn_recv(struct io_conn *conn, struct io_recv *recv)
{
	conn->ops->recv(conn, recv);
}

/* Drops the connection at once (no lingering; unsent bytes are lost).  Called once. */
static inline void io_conn_close(struct io_conn *conn)
{
	conn->ops->close(conn);
}

struct io_connect {
	struct io_address to;
	uint64_t timeout_ns; /* at most this long */
	int result;
	struct io_conn *conn; /* when result is 0: now the caller's, who sets ctx and closed */
	void (*done)(struct io_connect *connect);
	void *ctx;
	uint64_t backend[8];
};

struct io_listener {
	struct io_address address; /* port 0: set to the port that was chosen */
	/* A new connection; the callee owns it, sets ctx and closed, or closes it. */
	void (*accepted)(struct io_listener *listener, struct io_conn *conn);
	void *ctx;
	void *backend;
};

/* ---- file descriptors of the frontends (/dev/fuse)
 * ------------------------------------------------------------- */

/*
 * One read or write of a descriptor whose reads may wait for long.  The real backends only;
 * elsewhere -ENOSYS.  Before the descriptor is closed: io_fd_forget().
 */
struct io_fd_op {
	int fd;
	bool write;
	struct iovec *iov; /* borrowed until done */
	unsigned iov_count;
	ssize_t result; /* bytes or negative errno */
	void (*done)(struct io_fd_op *op);
	void *ctx;
	uint64_t backend[8];
};

/* ---- one reactor's environment
 * ---------------------------------------------------------------------------------- */

struct io_ops {
	uint64_t (*now_ns)(
		struct io *io); /* monotonic; constant within one turn of the loop is allowed */
	void (*post)(struct io *io, struct io_msg *msg);
	/* 0 or negative errno with text; the listener must stay until unlisten. */
	int (*listen)(struct io *io, struct io_listener *listener, struct err *err);
	void (*unlisten)(struct io *io, struct io_listener *listener);
	void (*connect)(struct io *io, struct io_connect *connect);
	void (*fd_submit)(struct io *io, struct io_fd_op *op);
	void (*fd_cancel)(struct io *io,
		struct io_fd_op *op); /* done follows, with -ECANCELED if it had not happened */
	void (*fd_forget)(struct io *io, int fd);
	/* Zeroed memory at `alignment` (a power of two, >= 16); NULL when there is none. */
	void *(*zalloc)(struct io *io, size_t alignment, size_t size);
	void (*free)(struct io *io, void *memory);
	/* May whole pages be in a core dump?  Memory that was just allocated may. */
	void (*dump)(struct io *io, void *memory, size_t size, bool may);
};

struct io {
	const struct io_ops *ops;
	void *ctx; /* the backend's */
	struct runq runq;
	struct io_timers timers;
	struct rng rng;
	struct log log;
	struct metric_registry *metrics; /* borrowed */
	struct trace *trace;             /* borrowed; NULL: nothing is traced */
};

/*
 * A point of trace/points.h: a record of the reactor's trace, and the USDT probe strake:POINT with
 * the same numbers: the short id of a volume or replica (trace_id()), a small number, and two of 64
 * bits.
 */
#define TRACE(on, point, object, part, a, b)                                                       \
	do {                                                                                       \
		struct io *const trace_io_ = (on);                                                 \
		const uint32_t trace_object_ = (object);                                           \
		const uint16_t trace_part_ = (uint16_t)(part);                                     \
		const uint64_t trace_a_ = (a), trace_b_ = (b);                                     \
                                                                                                   \
		STAP_PROBE4(strake, point, trace_object_, trace_part_, trace_a_, trace_b_);        \
		if (trace_io_->trace != NULL) {                                                    \
			trace_put(trace_io_->trace, io_now_ns(trace_io_), TRACE_##point,           \
				trace_object_, trace_part_, trace_a_, trace_b_);                   \
		}                                                                                  \
	} while (0)

/* For backends: fills the common part; log is dropped until set, rng is seeded with `seed`. */
void io_init(struct io *io, const struct io_ops *ops, void *ctx, uint64_t seed,
	struct metric_registry *metrics);

static inline uint64_t io_now_ns(struct io *io)
{
	return io->ops->now_ns(io);
}

/* Any thread.  The message runs on the reactor in order of posting (per poster). */
static inline void io_post(struct io *io, struct io_msg *msg)
{
	io->ops->post(io, msg);
}

static inline int __must_check io_listen(
	struct io *io, struct io_listener *listener, struct err *err)
{
	return io->ops->listen(io, listener, err);
}

/* No accepted() afterwards; connections that it gave away stay. */
static inline void io_unlisten(struct io *io, struct io_listener *listener)
{
	io->ops->unlisten(io, listener);
}

static inline void io_connect(struct io *io, struct io_connect *connect)
{
	io->ops->connect(io, connect);
}

static inline void io_fd_submit(struct io *io, struct io_fd_op *op)
{
	io->ops->fd_submit(io, op);
}

static inline void io_fd_cancel(struct io *io, struct io_fd_op *op)
{
	io->ops->fd_cancel(io, op);
}

/* Nothing of this descriptor is in flight, and it is going to be closed: the backend lets go of it.
 */
static inline void io_fd_forget(struct io *io, int fd)
{
	io->ops->fd_forget(io, fd);
}

/* All memory of nexus and pool-agent logic comes from here, so that a simulated crash can take it
 * back and a test can make the n-th allocation fail. */
static inline void *io_zalloc(struct io *io, size_t size)
{
	return io->ops->zalloc(io, 16, size);
}

static inline void *io_zalloc_aligned(struct io *io, size_t alignment, size_t size)
{
	return io->ops->zalloc(io, alignment, size);
}

static inline void io_free(struct io *io, void *memory)
{
	io->ops->free(io, memory);
}

/* Memory for users' data: whole pages, zeroed, which are left out of core dumps.  The size is
 * needed to give it back. */
void *io_zalloc_data(struct io *io, size_t size);
void io_free_data(struct io *io, void *memory, size_t size);

/* "10.0.0.1:4430", "[fe80::1]:4430".  0 or -EINVAL with text. */
int io_address_parse(const char *text, uint16_t port_default, struct io_address *ret_address,
	struct err *err) __must_check;
#define IO_ADDRESS_TEXT_SIZE (IO_HOST_TEXT_SIZE + 10)
char *io_address_to_text(const struct io_address *address, char text[IO_ADDRESS_TEXT_SIZE]);

#endif
