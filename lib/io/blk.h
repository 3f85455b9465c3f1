/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device as frontends and exports see it.  A volume of the nexus is one; so is a plain
 * replica shown to strangers. One reactor.  Completion as in io.h: never inline.
 */
#ifndef IO_BLK_H
#define IO_BLK_H

#include "io/io.h"

enum blk_kind {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,
	BLK_ZERO,    /* reads as zeros afterwards */
	BLK_DISCARD, /* as BLK_ZERO, and space is given back; the only promise is zeros */
};

struct blk_dev;

struct blk_req {
	struct list_node node; /* the device's from submit to released */
	enum blk_kind kind;
	bool fua;          /* WRITE, ZERO, DISCARD */
	uint64_t offset;   /* bytes, multiple of the device's block */
	uint64_t length;   /* bytes, > 0 but for FLUSH; at most BLK_LENGTH_MAX for READ and WRITE */
	struct iovec *iov; /* READ, WRITE; borrowed until released */
	unsigned iov_count; /* at most IO_IOV_MAX */
	/* 0; -ENOSPC capacity exceeded; -EIO; -ERANGE outside of the device; -ESHUTDOWN the device
	 * went away or is fenced */
	int result;
	/* The answer for the host. */
	void (*done)(struct blk_req *req);
	/* Once, after done: nothing refers to iov or req any more (a late replica may still send
	 * from a buffer long after done). */
	void (*released)(struct blk_req *req);
	void *ctx; /* the frontend's */
	/* The device's own state of this request, of dev->req_private_bytes, allocated by the
	 * frontend at start, zeroed. */
	void *private_state;
};

#define BLK_LENGTH_MAX (1024u * 1024)

struct blk_dev_ops {
	void (*submit)(struct blk_dev *dev, struct blk_req *req);
};

struct blk_dev {
	const struct blk_dev_ops *ops;
	uint64_t size_bytes;
	uint32_t block_bytes;
	size_t req_private_bytes;
	bool read_only; /* what would change it is answered with -EROFS */
};

static inline void blk_submit(struct blk_dev *dev, struct blk_req *req)
{
	dev->ops->submit(dev, req);
}

#endif
