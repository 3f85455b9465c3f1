/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frontend that works on every kernel: one file on FUSE, made into a block device by a loop
 * device with direct I/O.
 *
 * It speaks the kernel's protocol on the /dev/fuse descriptor itself, because no library can go on
 * with the session of a process that died.  The descriptor and the request table (a memfd) belong
 * to a launcher that outlives the nexus.  Every request is read right into a slot of the table and
 * stays there until it is answered, so that whoever comes after a killed nexus finds all that is in
 * flight:
 *
 *   slot empty (unique 0)       nothing to do
 *   slot full, not marked done  execute, mark, answer, empty
 *   slot full, marked done      answer again with the recorded result, empty; never execute: an
 *                               older write would land over a newer one.  If the kernel has the
 *                               answer already it says ENOENT, which is as good.
 *
 * The mark is set before the answer is written.  Reads are executed again instead: their data is
 * not recorded.
 *
 * Runs on the reactor, like everything that uses struct io.
 */
#ifndef NEXUS_FRONTEND_FUSE_H
#define NEXUS_FRONTEND_FUSE_H

#include "io/blk.h"
#include "io/io.h"

#define FUSE_FRONTEND_NAME_SIZE 64

/* The table: one page of its own, then the slots; each a page (marks, answer, and at its end the
 * request's header) and the data.  The layout is fixed by the version in its first page; a nexus
 * that does not know the version leaves it alone. */
#define FUSE_FRONTEND_SLOTS      32u
#define FUSE_FRONTEND_DATA_BYTES (128u * 1024)
#define FUSE_FRONTEND_PAGE       4096u
#define FUSE_FRONTEND_TABLE_BYTES                                                                  \
	(FUSE_FRONTEND_PAGE +                                                                      \
		FUSE_FRONTEND_SLOTS * (size_t)(FUSE_FRONTEND_PAGE + FUSE_FRONTEND_DATA_BYTES))

struct fuse_frontend;

struct fuse_frontend_options {
	/* /dev/fuse, opened with O_NONBLOCK, and mounted by the launcher; borrowed until closed. */
	int fuse_fd;
	/* The memfd, mapped shared and writable; zeroed when the volume was just published.
	 * Borrowed until closed. */
	void *table;
	size_t table_bytes;  /* at least FUSE_FRONTEND_TABLE_BYTES */
	struct blk_dev *dev; /* borrowed until closed */
	const char *name;    /* of the file; copied */
	uint64_t object;     /* trace_object() of the volume */
};

struct fuse_frontend_status {
	bool ready; /* the kernel's INIT was answered */
	bool gone;  /* unmounted or aborted: nothing comes any more; close it */
	unsigned executed_again, answered_again; /* left by the predecessor */
	uint64_t requests;
	unsigned in_flight; /* requests being served */
};

/* Answers what a predecessor left in the table, then serves.  -EPROTO: a table of another version
 * or another volume's. */
int fuse_frontend_new(struct io *io, const struct fuse_frontend_options *options,
	struct fuse_frontend **ret_frontend, struct err *err) __must_check;

/*
 * Takes no more requests and waits for those in flight to be answered and released.  A request that
 * the device ends with an error from now on is not answered but left in the table, for a successor
 * to execute: so close the frontend first, then the volume, both without waiting, when the
 * successor is to go on (a restart); when the device is to vanish have the launcher unpublish it
 * before.  Called once; everything borrowed is free, and the frontend gone, after `closed`.
 */
void fuse_frontend_close(struct fuse_frontend *frontend, void (*closed)(void *ctx), void *ctx);

void fuse_frontend_get_status(
	const struct fuse_frontend *frontend, struct fuse_frontend_status *ret_status);

#endif
