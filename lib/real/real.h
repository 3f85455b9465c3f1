/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real world behind the seams of io/io.h: the loop of a reactor thread, its clock, messages,
 * disks and sockets.  How I/O reaches the kernel is a backend's: lib/uring or lib/epoll.  Only a
 * main.c, a control thread or a test includes this.
 */
#ifndef REAL_REAL_H
#define REAL_REAL_H

#include "io/io.h"

#include <pthread.h>

struct real;
struct real_backend;

#define REAL_BACKENDS 2

struct real_options {
	/* What there is to choose from, the best first: {&uring_backend, &epoll_backend}. */
	const struct real_backend *backends[REAL_BACKENDS];
	uint64_t poll_ns; /* after I/O the loop looks this long for more before it sleeps; 0: sleeps
			     at once */
	struct metric_registry *metrics;
	const char *name; /* of the reactor, for the label of its metrics; borrowed; NULL: "0" */
	unsigned ring_entries;     /* of io_uring, a power of two; 0: 256 */
	unsigned ring_first_setup; /* for tests: leaves out the best set-ups of io_uring, as an
				      older kernel would */
};

/*
 * Makes the loop.  Must be called by the thread that will run it.  The environment variable
 * STRAKE_IO names the backend; without it, it is the first one that the kernel does not lack or
 * forbid (-ENOSYS, -EPERM).  Errors have a text that says the way out.
 */
int real_new(
	const struct real_options *options, struct real **ret_real, struct err *err) __must_check;
/* Everything closed before, disks too. */
void real_free(struct real *real);
struct io *real_io(struct real *real);

/* Runs until real_stop(). */
void real_run(struct real *real);
/* Any thread: the loop returns from real_run after its turn. */
void real_stop(struct real *real);

/* For log and status: "io_uring SINGLE_ISSUER ...", "epoll, 8 threads for each disk". */
const char *real_text(const struct real *real);
/* Why a better backend could not be had, and what this one costs instead; "" when it is the best or
 * was asked for. */
const char *real_why(const struct real *real);

/* ---- disks: any thread may open and close; I/O only from the loop's thread ---- */

struct real_disk_options {
	bool read_only;
	bool create;         /* a file that must not exist yet, made sparse with size_bytes */
	uint64_t size_bytes; /* with create */
	/* Where O_DIRECT is refused (tmpfs of older kernels), goes through the page cache instead
	 * of failing.  For tests. */
	bool buffered_allowed;
};

/*
 * Opens a file or block device with O_DIRECT (and O_EXCL for a block device), takes flock(LOCK_EX)
 * on the very descriptor used for I/O before anything is read, waiting up to lock_wait_ms for a
 * killed predecessor whose submitted I/O may still land. -EBUSY names who may hold it.  `power` is
 * derived from the kernel's boot id and the device's identity.
 */
int real_disk_open(struct real *real, const char *path, const struct real_disk_options *options,
	unsigned lock_wait_ms, struct io_disk **ret_disk, struct err *err) __must_check;
void real_disk_close(struct io_disk *disk);

/* Memory as a disk: benchmarks only (nothing is durable). */
int real_memory_disk_new(struct real *real, uint64_t size_bytes, struct io_disk **ret_disk,
	struct err *err) __must_check;

/* ---- threads ---- */

/* Starts a thread that gets no signals, with a stack that is in memory but for its last 32 KiB.
 * 0 or negative errno. */
int real_thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*main)(void *ctx),
	void *ctx) __must_check;

#endif
