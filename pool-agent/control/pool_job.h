/* SPDX-License-Identifier: Apache-2.0 */
/* What pools.c, pool_create.c and pool_delete.c share. */
#ifndef POOL_AGENT_CONTROL_POOL_JOB_H
#define POOL_AGENT_CONTROL_POOL_JOB_H

#include "pool-agent/control/control.h"

#define FILE_PREFIX   "file://"
#define MEMORY_PREFIX "memory://"

enum pool_job_state {
	POOL_JOB_START,
	POOL_JOB_AWAIT_PROBE,
	POOL_JOB_AWAIT_FORMAT,
	POOL_JOB_AWAIT_OPEN,
	POOL_JOB_AWAIT_CLOSE,
};

struct pool_job {
	struct job job;
	enum pool_job_state state;
	struct pool *pool;
	struct store *store;
	bool may_format;    /* an empty disk is formatted */
	bool must_format;   /* what is there, is lost */
	bool made_file;     /* by this job: taken back when it fails */
	bool again;         /* CreatePool of a pool that is there */
	bool resumes;       /* CreatePool that was interrupted goes on */
	struct err foreign; /* what libblkid found; code 0: nothing */
	struct store_format_options format;
	struct store_info info; /* as opened */
};

/* The ladder: looks at the disk, formats it if it may, opens it, serves it. */
void pool_step(struct task *task);
/* Name and uuid for a format. */
void pool_job_name(struct pool_job *pj);
/* After the ladder has succeeded. */
void pool_online(struct pool_job *pj);
void pool_fault(struct control *control, struct pool *pool, const struct err *err);
struct pool *pool_free_place(struct control *control);
/* state_save(), with a text that says what is true of the pool all the same. */
int pools_save(struct control *control, const struct pool *pool, const char *what, struct err *err);

bool disk_is_file(const char *disk);
bool disk_is_memory(const char *disk);
/* Without "file://". */
const char *disk_path(const char *disk);
int disk_open(struct pool *pool, struct control *control, bool create, uint64_t size_bytes,
	unsigned lock_wait_ms, struct err *err);
void disk_give_back(struct pool *pool, bool made_file);

#endif
