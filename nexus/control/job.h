/* SPDX-License-Identifier: Apache-2.0 */
/* What all operations on a volume have: one at a time, each a ladder on the control thread. */
#ifndef NEXUS_CONTROL_JOB_H
#define NEXUS_CONTROL_JOB_H

#include "nexus/control/control.h"

struct job {
	struct cvolume *cv;
	struct grpc_call *call; /* NULL: the nexus's own */
	const char *what;       /* "open" */
	void (*step)(struct job *job);
	struct reactor_call reactor_call;
	void (*there)(struct job *job);
	bool waiting; /* for the reactor or the launcher */
	bool in_reactor;
	int result;
	struct err err;
};

/* The first member of an operation's struct, of zeroed memory.  NULL: refused, the call was
 * answered. */
void *job_new(struct cvolume *cv, struct grpc_call *call, const char *what, size_t size,
	void (*step)(struct job *job));
/* Runs `there` on the reactor, which ends with reactor_call_return(). */
void job_call(struct job *job, void (*there)(struct job *job));
void job_fail(struct job *job, int code, const char *text);
/* Records what changed; a failure becomes the job's. */
void job_save(struct job *job);
/* The job is gone afterwards. */
void job_end(struct job *job);

#endif
