/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real seams over io_uring: one loop for a reactor thread, its disks, sockets and clock.
 * Where the kernel has them SINGLE_ISSUER, COOP_TASKRUN and DEFER_TASKRUN are used, else a plain
 * ring.
 */
#ifndef URING_URING_H
#define URING_URING_H

#include "io/io.h"

struct uring;

struct uring_options {
	unsigned entries; /* submission queue entries, a power of two; 0: 256 */
	uint64_t poll_ns; /* after I/O the loop looks this long for more before it sleeps; 0: sleeps
			     at once */
	struct metric_registry *metrics;
	const char *name; /* of the reactor, for the label of its metrics; borrowed; NULL: "0" */
};

/*
 * Makes the ring.  Must be called by the thread that will run it.  When io_uring is absent or
 * forbidden: -ENOSYS or -EPERM with a text that says how to allow it.
 */
int uring_new(const struct uring_options *options, struct uring **ret_uring,
	struct err *err) __must_check;
void uring_free(struct uring *uring); /* everything closed before */
struct io *uring_io(struct uring *uring);

/* Runs until uring_stop(). */
void uring_run(struct uring *uring);
/* Any thread, or a signal handler's thread: the loop returns from uring_run after its turn. */
void uring_stop(struct uring *uring);
/* Names of the ring's set-up flags in use, for log and status, like "SINGLE_ISSUER DEFER_TASKRUN".
 */
const char *uring_flags_text(const struct uring *uring);

/* ---- disks: any thread may open and close; I/O only from the loop's thread ---- */

struct uring_disk_options {
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
int uring_disk_open(struct uring *uring, const char *path, const struct uring_disk_options *options,
	unsigned lock_wait_ms, struct io_disk **ret_disk, struct err *err) __must_check;
void uring_disk_close(struct io_disk *disk);

/* Memory as a disk: benchmarks only (nothing is durable). */
int uring_memory_disk_new(struct uring *uring, uint64_t size_bytes, struct io_disk **ret_disk,
	struct err *err) __must_check;

#endif
