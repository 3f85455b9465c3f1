/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CreatePool.  It is recorded as being created before its disk is touched, with the uuid that it
 * will have: the same request after a kill goes on, and knows which file and which pool are its
 * own.
 */
#include "pool-agent/control/pool_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const Strake__V1__CreatePoolRequest *create_request(const struct job *job)
{
	return (const void *)grpc_call_request(job->call);
}

static int check_request(const Strake__V1__CreatePoolRequest *request, struct err *err)
{
	if (pool_name_check(request->name, err) != 0 || pool_disk_check(request->disk, err) != 0) {
		return err->code;
	}
	if (!disk_is_file(request->disk) && request->size_bytes != 0) {
		return err_set(err, -EINVAL,
			"a size is for files that are to be made: %s has its own", request->disk);
	}
	if (request->size_bytes % STORE_BLOCK_BYTES != 0) {
		return err_set(err, -EINVAL, "size: not a multiple of 4096");
	}
	if (disk_is_memory(request->disk)) {
		return err_set(err, -EINVAL, "a pool in memory is for benchmarks: configure it");
	}
	return 0;
}

/* ---- is it there already? ---- */

/* The pool is there: is it the one that is asked for? */
static int compare(
	const struct pool *pool, const Strake__V1__CreatePoolRequest *request, struct err *err)
{
	struct stat status;

	if (strcmp(pool->disk, request->disk) != 0) {
		return err_set(err, -EEXIST, "pool %s exists already, on %s, not %s", pool->name,
			pool->disk, request->disk);
	}
	if (pool->is_dropped) {
		return err_set(err, -EEXIST,
			"pool %s was taken out of the configuration file and keeps its place: "
			"configure it again, or delete it with forget",
			pool->name);
	}
	if (request->size_bytes != 0 && stat(disk_path(pool->disk), &status) == 0 &&
		(uint64_t)status.st_size != request->size_bytes) {
		return err_set(err, -EEXIST,
			"pool %s exists already, in a file of %" PRIu64 " bytes, not %" PRIu64,
			pool->name, (uint64_t)status.st_size, request->size_bytes);
	}
	return 0;
}

static int check_disk_is_free(struct control *control, const struct pool *own,
	const Strake__V1__CreatePoolRequest *request, struct err *err)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		const struct pool *pool = &control->pools[i];

		if (pool->used && pool != own && strcmp(pool->disk, request->disk) == 0) {
			return err_set(err, -EBUSY, "%s is the disk of pool %s",
				disk_path(request->disk), pool->name);
		}
	}
	return 0;
}

static int judge_existing(struct pool_job *pj, struct pool *pool, struct err *err)
{
	const Strake__V1__CreatePoolRequest *request = create_request(&pj->job);

	switch (pool->phase) {
	case POOL_PRESENT:
		pj->again = true;
		return compare(pool, request, err);
	case POOL_CREATING:
		pj->resumes = true;
		if (strcmp(pool->disk, request->disk) == 0) {
			return 0;
		}
		return err_set(err, -EEXIST,
			"pool %s was begun on %s and not finished: delete it first", pool->name,
			pool->disk);
	case POOL_DELETING:
		break;
	}
	return err_set(err, -EBUSY, "the deletion of pool %s was interrupted: delete it again",
		pool->name);
}

/* ---- its place, and the record ---- */

static int new_uuid(struct uuid *ret_uuid, struct err *err)
{
	struct rng rng;

	if (getrandom(&rng, sizeof(rng), 0) != sizeof(rng)) {
		return err_set(err, -EIO, "no random numbers");
	}
	uuid_make(ret_uuid, &rng);
	return 0;
}

static void forget(struct pool *pool)
{
	*pool = (struct pool){.index = pool->index};
}

static int take_place(struct pool_job *pj, struct err *err)
{
	const Strake__V1__CreatePoolRequest *request = create_request(&pj->job);
	struct pool *pool = pool_free_place(pj->job.control);

	if (pool == NULL) {
		return err_set(err, -E2BIG, "%d pools are the most", AGENT_POOLS_MAX);
	}
	forget(pool);
	pj->pool = pool;
	snprintf(pool->name, sizeof(pool->name), "%s", request->name);
	snprintf(pool->disk, sizeof(pool->disk), "%s", request->disk);
	return new_uuid(&pool->uuid, err);
}

/* Before the disk is touched. */
static int record(struct pool_job *pj, bool makes_file, struct err *err)
{
	struct pool *pool = pj->pool;

	pool->phase = POOL_CREATING;
	pool->state = POOL_OPENING;
	pool->made_file |= makes_file;
	pool->used = true;
	return state_save(pj->job.control, err);
}

/* ---- its disk ---- */

/* May the file be made?  One that an interrupted creation of ours left without its size goes. */
static int judge_file(struct pool_job *pj, bool *ret_create, struct err *err)
{
	const Strake__V1__CreatePoolRequest *request = create_request(&pj->job);
	const char *path = disk_path(request->disk);
	struct stat status;
	bool is_there = stat(path, &status) == 0;
	bool is_ours = pj->resumes && pj->pool->made_file;

	if (is_there && is_ours && S_ISREG(status.st_mode) && status.st_size == 0) {
		(void)unlink(path);
		is_there = false;
	}
	*ret_create = !is_there && request->size_bytes != 0;
	if (!is_there && !*ret_create) {
		return err_set(err, -ENOENT, "%s does not exist%s", path,
			disk_is_file(request->disk) ? ": give a size to make it" : "");
	}
	if (is_there && request->size_bytes != 0 && !request->wipe &&
		(!is_ours || (uint64_t)status.st_size != request->size_bytes)) {
		return err_set(err, -EEXIST,
			"%s exists already: leave the size out to take it as it is", path);
	}
	return 0;
}

/* Opens the disk, or makes the file, and looks whether somebody else's data are there. */
static int create_open(struct pool_job *pj, struct err *err)
{
	const Strake__V1__CreatePoolRequest *request = create_request(&pj->job);
	bool create = false;
	int result = judge_file(pj, &create, err);

	result = result != 0 ? result : record(pj, create, err);
	if (result == 0) {
		result = disk_open(pj->pool, pj->job.control, create, request->size_bytes, 0, err);
	}
	if (result != 0) {
		return result;
	}
	pj->made_file = create;
	if (create || request->wipe) {
		pj->must_format = true;
		return 0;
	}
	pj->foreign.code = disk_probe(disk_path(request->disk), &pj->foreign);
	return 0;
}

static void create_begin(struct job *job)
{
	struct pool_job *pj = container_of(job, struct pool_job, job);
	const Strake__V1__CreatePoolRequest *request = create_request(job);
	struct control *control = job->control;
	struct err *err = &job->err;

	if (control->stopping) {
		err_set(err, -ESHUTDOWN, "the pool-agent is stopping");
		return;
	}
	if (check_request(request, err) != 0) {
		return;
	}
	struct pool *pool = control_find_pool(control, request->name);

	if (pool != NULL && judge_existing(pj, pool, err) != 0) {
		return;
	}
	if (pj->again) {
		pj->pool = pool;
		return;
	}
	if (check_disk_is_free(control, pool, request, err) != 0) {
		return;
	}
	if (pool != NULL) {
		pj->pool = pool;
	} else if (take_place(pj, err) != 0) {
		return;
	}
	pj->may_format = true;
	pool_job_name(pj);
	(void)create_open(pj, err);
}

static void create_step(struct task *task)
{
	struct pool_job *pj = container_of(task, struct pool_job, job.task);

	if (!pj->again) {
		pool_step(task);
		return;
	}
	if (pj->pool->store != NULL) {
		store_get_info(pj->pool->store, &pj->info);
	}
	job_end(&pj->job);
}

/* ---- the end ---- */

static void create_reply(struct pool_job *pj)
{
	struct pool *pool = pj->pool;
	struct pool_text text;

	pool_text_fill(pj->job.control, pool, pool->store != NULL ? &pj->info : NULL, &text);
	grpc_call_reply(pj->job.call, &text.message.base);
}

/* One that was begun earlier stays recorded: it can be tried again, or deleted. */
static void create_undo(struct pool_job *pj)
{
	struct control *control = pj->job.control;
	struct pool *pool = pj->pool;
	bool was_recorded = pool->used;
	struct err err;

	disk_give_back(pool, pj->made_file);
	if (pj->resumes) {
		pool_fault(control, pool, &pj->job.err);
		return;
	}
	forget(pool);
	if (was_recorded && state_save(control, &err) != 0) {
		log_error(control->log, "pools", "state-not-saved", "reason=%s", err.text);
	}
	pools_report(control);
}

static void create_failed(struct pool_job *pj)
{
	log_warning(pj->job.control->log, "pools", "create-failed", "reason=%s", pj->job.err.text);
	if (pj->pool != NULL && !pj->again) {
		create_undo(pj);
	}
	grpc_call_fail(pj->job.call, &pj->job.err);
}

static void create_finish(struct job *job)
{
	struct pool_job *pj = container_of(job, struct pool_job, job);

	if (job->err.code != 0) {
		create_failed(pj);
	} else if (pj->again) {
		create_reply(pj);
	} else {
		pj->pool->phase = POOL_PRESENT;
		pool_online(pj);
		if (pools_save(job->control, pj->pool, "online", &job->err) == 0) {
			create_reply(pj);
		} else {
			grpc_call_fail(job->call, &job->err);
		}
	}
	free(pj);
}

void pool_create(struct grpc_call *call)
{
	struct control *control = grpc_call_ctx(call);
	struct pool_job *pj = calloc(1, sizeof(*pj));

	if (pj == NULL) {
		grpc_call_failf(call, -ENOMEM, "out of memory");
		return;
	}
	job_init(&pj->job, control, call, create_step, create_finish);
	job_change(&pj->job, create_begin);
}
