/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DeletePool, in two parts, each a ladder on the reactor.  Between them it is recorded that the
 * pool is being deleted: from then on it is never opened again, and the same request after a kill
 * goes on.
 *
 *   look    has it replicas?
 *   end     close the store, erase the pool
 *   then    a file of ours goes, and the record at last
 */
#include "daemon/file.h"
#include "pool-agent/control/pool_job.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMED_MAX 3u

enum delete_state {
	DELETE_START,
	DELETE_AWAIT_REMOVED,
	DELETE_AWAIT_CLOSED,
	DELETE_AWAIT_ERASED,
	DELETE_AWAIT_PROBED,
};

struct delete_job {
	struct job job;
	enum delete_state state;
	struct pool *pool; /* NULL: it is not there */
	bool forget;       /* also a pool that is not in order */
	bool keeps_disk;   /* the disk is left as it is */
	struct store *store;
	struct store_info info;
	char replicas[200]; /* the first of them */
	bool disk_is_empty; /* afterwards */
};

static const Strake__V1__DeletePoolRequest *delete_request(const struct job *job)
{
	return (const void *)grpc_call_request(job->call);
}

/* ---- may it go? ---- */

static void name_replicas(struct delete_job *dj)
{
	size_t length = 0;
	unsigned count = 0;

	for (struct store_replica *replica = store_replica_next(dj->pool->store, NULL);
		replica != NULL && count < NAMED_MAX;
		replica = store_replica_next(dj->pool->store, replica), count++) {
		char id[UUID_TEXT_SIZE] = "one that is unreadable";

		if (!store_replica_abstains(replica)) {
			uuid_to_text(&store_replica_vmeta(replica)->replica, id);
		}
		int more = snprintf(dj->replicas + length, sizeof(dj->replicas) - length, "%s%s",
			count > 0 ? ", " : "", id);

		length += more > 0 ? (size_t)more : 0;
		assert(length < sizeof(dj->replicas));
	}
}

static void look_step(struct task *task)
{
	struct delete_job *dj = container_of(task, struct delete_job, job.task);

	if (dj->pool != NULL && dj->pool->store != NULL) {
		store_get_info(dj->pool->store, &dj->info);
		name_replicas(dj);
	}
	job_end(&dj->job);
}

/* One that is not open: what an earlier call left, or one whose disk is lost. */
static int judge_closed(struct delete_job *dj, struct err *err)
{
	struct pool *pool = dj->pool;
	const char *text = pool->is_dropped ? "it is not in the configuration file any more"
					    : pool->reason.text;

	if (pool->phase == POOL_PRESENT) {
		dj->keeps_disk = true;
		return dj->forget ? 0
				  : err_set(err, -ENODEV,
					    "it is not online: %s; forget takes it off the list "
					    "and leaves its disk as it is",
					    text);
	}
	if (disk_open(pool, dj->job.control, false, 0, 0, err) == 0) {
		return 0;
	}
	if (dj->forget || (err->code == -ENOENT && disk_is_file(pool->disk))) {
		err_clear(err);
		dj->keeps_disk = true;
		return 0;
	}
	return err->code;
}

static void delete_begin(struct job *job)
{
	struct delete_job *dj = container_of(job, struct delete_job, job);
	struct control *control = job->control;
	struct err *err = &job->err;

	dj->pool = control_find_pool(control, delete_request(job)->name);
	dj->forget = delete_request(job)->forget;
	if (control->stopping) {
		err_set(err, -ESHUTDOWN, "the pool-agent is stopping");
	} else if (delete_request(job)->name[0] == 0) {
		err_set(err, -EINVAL, "the pool's name is missing");
	} else if (dj->pool == NULL) {
		return;
	} else if (dj->pool->is_configured && !dj->pool->is_dropped) {
		err_set(err, -EBUSY,
			"it is in the configuration file: take it out there and restart the "
			"pool-agent first");
	} else if (dj->pool->state == POOL_OPENING && !dj->pool->is_dropped) {
		err_set(err, -EBUSY, "it is just being opened: try again");
	} else if (dj->pool->state == POOL_ONLINE || judge_closed(dj, err) == 0) {
		dj->pool->is_deleting = true;
	}
}

/* ---- it goes ---- */

static void end_step(struct task *task)
{
	struct delete_job *dj = container_of(task, struct delete_job, job.task);
	struct io *io = real_io(dj->job.control->real);
	int result;

	switch (dj->state) {
	case DELETE_START:
		dj->store = dj->pool->store;
		/* Who only looks does not find it any more. */
		dj->pool->store = NULL;
		if (dj->store != NULL) {
			dj->job.done = false;
			agent_remove_store(dj->job.control->agent, dj->store, job_wake, &dj->job);
			AWAIT(dj, DELETE_AWAIT_REMOVED, dj->job.done);
			store_close(dj->store, job_op(&dj->job));
			AWAIT(dj, DELETE_AWAIT_CLOSED, dj->job.done);
		}
		if (dj->keeps_disk) {
			job_end(&dj->job);
			return;
		}
		store_erase(io, dj->pool->handle, &dj->pool->uuid, job_op(&dj->job));
		AWAIT(dj, DELETE_AWAIT_ERASED, dj->job.done);
		result = dj->job.op.result;
		if (result != 0 && result != -ENOENT) {
			dj->job.err = dj->job.op.err;
			job_end(&dj->job);
			return;
		}
		store_probe(io, dj->pool->handle, job_op(&dj->job));
		AWAIT(dj, DELETE_AWAIT_PROBED, dj->job.done);
		result = dj->job.op.result;
		if (result < 0) {
			dj->job.err = dj->job.op.err;
		}
		dj->disk_is_empty = result == STORE_PROBE_EMPTY || result == STORE_PROBE_UNFINISHED;
		job_end(&dj->job);
	}
}

static void delete_failed(struct delete_job *dj)
{
	struct job *job = &dj->job;

	if (dj->pool != NULL) {
		dj->pool->is_deleting = false;
	}
	err_prefix(&job->err, "delete pool %s", delete_request(job)->name);
	log_warning(job->control->log, "pools", "delete-failed", "reason=%s", job->err.text);
	grpc_call_fail(job->call, &job->err);
	free(dj);
}

/* It was begun: the next call goes on. */
static void interrupted(struct delete_job *dj)
{
	struct err reason = dj->job.err;

	err_set(&reason, -EINPROGRESS, "its deletion was interrupted: delete it again (%.300s)",
		dj->job.err.text);
	pool_fault(dj->job.control, dj->pool, &reason);
	delete_failed(dj);
}

/* The record goes last. */
static int forget_pool(struct delete_job *dj)
{
	struct control *control = dj->job.control;
	struct pool *pool = dj->pool;
	const struct pool before = *pool;

	if (pool->made_file && dj->disk_is_empty &&
		file_remove(disk_path(pool->disk), &dj->job.err) != 0) {
		return dj->job.err.code;
	}
	*pool = (struct pool){.index = pool->index};
	if (state_save(control, &dj->job.err) != 0) {
		*pool = before;
		return dj->job.err.code;
	}
	log_info(control->log, "pools", "pool-deleted", "pool=%s disk=%s disk_is=%s", before.name,
		before.disk, dj->disk_is_empty ? "empty" : "left as it is");
	pools_report(control);
	return 0;
}

static void delete_reply(struct delete_job *dj)
{
	Strake__V1__DeletePoolResponse reply = STRAKE__V1__DELETE_POOL_RESPONSE__INIT;

	grpc_call_reply(dj->job.call, &reply.base);
	free(dj);
}

static void end_finish(struct job *job)
{
	struct delete_job *dj = container_of(job, struct delete_job, job);

	disk_give_back(dj->pool, false);
	if (job->err.code != 0 || forget_pool(dj) != 0) {
		interrupted(dj);
	} else {
		delete_reply(dj);
	}
}

static void look_finish(struct job *job)
{
	struct delete_job *dj = container_of(job, struct delete_job, job);
	struct pool *pool = dj->pool;

	if (job->err.code == 0 && dj->info.replica_count > 0 && !(dj->forget && dj->info.failed)) {
		err_set(&job->err, -EBUSY, "it holds %u replica%s: %s%s; delete them first",
			dj->info.replica_count, dj->info.replica_count == 1 ? "" : "s",
			dj->replicas, dj->info.replica_count > NAMED_MAX ? ", ..." : "");
	}
	if (job->err.code != 0) {
		delete_failed(dj);
		return;
	}
	if (pool == NULL) {
		delete_reply(dj);
		return;
	}
	enum pool_phase before = pool->phase;

	/* A disk that cannot even be written to is left as it is, when that is wanted. */
	dj->keeps_disk = dj->keeps_disk || (dj->forget && dj->info.failed);
	pool->phase = POOL_DELETING;
	if (state_save(job->control, &job->err) != 0) {
		pool->phase = before;
		if (pool->state != POOL_ONLINE) {
			disk_give_back(pool, false);
		}
		delete_failed(dj);
		return;
	}
	job_continue(job, end_step, end_finish);
}

void pool_delete(struct grpc_call *call)
{
	struct delete_job *dj = calloc(1, sizeof(*dj));

	if (dj == NULL) {
		grpc_call_failf(call, -ENOMEM, "out of memory");
		return;
	}
	job_init(&dj->job, grpc_call_ctx(call), call, look_step, look_finish);
	job_change(&dj->job, delete_begin);
}
