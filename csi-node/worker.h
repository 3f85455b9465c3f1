/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for what blocks: calls to the daemons, mounts, programs.  A work has copies of everything
 * that it needs; nothing of the loop's is touched by it.
 */
#ifndef CSI_NODE_WORKER_H
#define CSI_NODE_WORKER_H

#include "base/list.h"
#include "grpc/loop.h"

struct workers;

struct work {
	struct list_node node;
	struct workers *workers;         /* borrowed */
	void (*run)(struct work *work);  /* on a thread */
	void (*done)(struct work *work); /* on the loop, afterwards; may free the struct */
	struct loop_msg back;
};

/* At most thread_max works at a time, the others wait.  Threads are made as they are needed. */
int workers_new(struct loop *loop, const char *name, unsigned thread_max,
	struct workers **ret_workers, struct err *err) __must_check;
/* The struct is the caller's until done. */
void workers_submit(struct workers *workers, struct work *work);
/* Works that were submitted and whose done() has not run. */
unsigned workers_busy(const struct workers *workers);
/* Nothing is busy.  Ends the threads. */
void workers_free(struct workers *workers);

#endif
