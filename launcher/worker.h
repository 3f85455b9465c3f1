/* SPDX-License-Identifier: Apache-2.0 */
/* A helper process for one job that may have to wait for the nexus. */
#ifndef LAUNCHER_WORKER_H
#define LAUNCHER_WORKER_H

#include "base/err.h"
#include "launch/launch.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct worker_result {
	int32_t result;
	char device[LAUNCH_DEVICE_SIZE];
	char text[LAUNCH_TEXT_SIZE];
};

struct worker {
	pid_t pid; /* 0: none runs */
	int pipe_fd;
};

typedef void worker_job(const void *arg, struct worker_result *result);

/* The job runs in a copy of this process that holds none of its descriptors. */
int worker_start(
	struct worker *worker, worker_job *job, const void *arg, struct err *err) __must_check;

static inline bool worker_is_running(const struct worker *worker)
{
	return worker->pid != 0;
}

/* Readable when the job is over, also when the helper died. */
static inline int worker_fd(const struct worker *worker)
{
	return worker->pipe_fd;
}

/* Takes the result and the process away. */
void worker_finish(struct worker *worker, struct worker_result *ret_result);

/* Kills it, and gives it a second to end: what it just did is done then.  It may stay longer in a
 * system call of the kernel's. */
void worker_abandon(struct worker *worker);

#endif
