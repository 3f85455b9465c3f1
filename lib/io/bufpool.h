/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data buffers: a buddy allocator over one region that is allocated, aligned to 4096 and touched at
 * start, so that the data path never asks the system for memory.  Running out is back-pressure: the
 * caller queues a task and tries again when woken. One reactor.
 */
#ifndef IO_BUFPOOL_H
#define IO_BUFPOOL_H

#include "io/io.h"

#define BUFPOOL_UNIT       4096u
#define BUFPOOL_BUFFER_MAX (1024u * 1024)

struct bufpool;

/* size_bytes is rounded up to a multiple of BUFPOOL_BUFFER_MAX. */
int bufpool_new(struct io *io, size_t size_bytes, struct bufpool **ret_pool) __must_check;
void bufpool_free(struct bufpool *pool); /* everything put back before */

/* At least `size` bytes (1 .. BUFPOOL_BUFFER_MAX), aligned to 4096, contents undefined (the owner
 * overwrites or clears what it shows to others: buffers go from volume to volume).  NULL when there
 * is none now. */
void *bufpool_get(struct bufpool *pool, size_t size);
void bufpool_put(struct bufpool *pool, void *buffer, size_t size); /* the size it was got with */

struct bufpool_waiter {
	struct list_node node;
	struct task *task;
};

/* Wakes the task once, in order, after buffers were put back.  A waiter that is freed must be
 * removed. */
void bufpool_wait(struct bufpool *pool, struct bufpool_waiter *waiter, struct task *task);
void bufpool_unwait(struct bufpool_waiter *waiter);

bool bufpool_has_waiters(const struct bufpool *pool);
size_t bufpool_used_bytes(const struct bufpool *pool);

#endif
