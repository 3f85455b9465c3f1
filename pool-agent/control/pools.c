/* SPDX-License-Identifier: Apache-2.0 */
/* Pools: their disks, and how they are opened; at start as configured and recorded. */
#include "pool-agent/control/pool_job.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- names ---- */

struct pool *control_find_pool(struct control *control, const char *name)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		if (control->pools[i].used && strcmp(control->pools[i].name, name) == 0) {
			return &control->pools[i];
		}
	}
	return NULL;
}

struct pool *pool_free_place(struct control *control)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		if (!control->pools[i].used) {
			return &control->pools[i];
		}
	}
	return NULL;
}

int pool_name_check(const char *name, struct err *err)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < length; i++) {
		if (!isalnum((unsigned char)name[i]) &&
			(i == 0 || strchr("-_.", name[i]) == NULL)) {
			return err_set(err, -EINVAL,
				"pool name '%s': letters, digits, and within it - _ .", name);
		}
	}
	if (length == 0 || length >= STORE_POOL_NAME_SIZE) {
		return err_set(err, -EINVAL, "a pool needs a name of 1 to %u characters",
			STORE_POOL_NAME_SIZE - 1);
	}
	return 0;
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool disk_is_file(const char *disk)
{
	return has_prefix(disk, FILE_PREFIX);
}

bool disk_is_memory(const char *disk)
{
	return strcmp(disk, MEMORY_PREFIX) == 0;
}

int pool_disk_check(const char *disk, struct err *err)
{
	if (strlen(disk) >= PATH_MAX) {
		return err_set(err, -EINVAL, "disk: the path is too long");
	}
	if ((has_prefix(disk, "/dev/") && disk[5] != 0) || has_prefix(disk, FILE_PREFIX "/") ||
		strcmp(disk, MEMORY_PREFIX) == 0) {
		return 0;
	}
	return err_set(err, -EINVAL,
		"disk '%s': give a block device as /dev/NAME or a file as file:///PATH", disk);
}

const char *disk_path(const char *disk)
{
	return has_prefix(disk, FILE_PREFIX) ? disk + strlen(FILE_PREFIX) : disk;
}

/* ---- opening: control thread first, then the reactor ---- */

static int err_append(struct err *err, const char *text)
{
	size_t length = strlen(err->text);

	snprintf(err->text + length, sizeof(err->text) - length, "%s", text);
	return err->code;
}

static void pool_job_end(struct pool_job *pj, int code)
{
	if (code != 0 && pj->job.err.code == 0) {
		pj->job.err = pj->job.op.err;
		if (pj->job.err.code == 0) {
			err_set(&pj->job.err, code, "%s", err_describe(code));
		}
	}
	job_end(&pj->job);
}

/* What was found on the disk decides.  0: go on. */
static int judge_probe(struct pool_job *pj)
{
	const struct store_op *op = &pj->job.op;
	bool is_asked = pj->job.call != NULL;

	if (op->result < 0) {
		return op->result;
	}
	if (op->result == STORE_PROBE_POOL && (!is_asked || pj->resumes)) {
		return 0;
	}
	if ((op->result == STORE_PROBE_EMPTY || op->result == STORE_PROBE_UNFINISHED) &&
		pj->foreign.code == 0) {
		pj->must_format = true;
		return 0;
	}
	err_set(&pj->job.err, -EEXIST, "%s", op->err.text[0] != 0 ? op->err.text : "other data");
	if (op->result != STORE_PROBE_POOL && pj->foreign.code != 0) {
		pj->job.err = pj->foreign;
	} else {
		err_prefix(&pj->job.err, "%s", disk_path(pj->pool->disk));
	}
	return err_append(&pj->job.err, is_asked ? "; nothing was changed (with wipe the disk is "
						   "taken, and what is on it destroyed)"
						 : "; nothing was changed");
}

/* Another pool on the disk than the one that was there: two disks were exchanged, or one is
 * configured twice. */
static int judge_identity(struct pool_job *pj)
{
	const struct store_info *info = &pj->info;
	const struct pool *pool = pj->pool;
	char found[UUID_TEXT_SIZE];
	char known[UUID_TEXT_SIZE];

	store_get_info(pj->store, &pj->info);
	if (strcmp(info->name, pool->name) != 0) {
		return err_set(&pj->job.err, -EMEDIUMTYPE,
			"%s holds pool %s: configure it under that name", disk_path(pool->disk),
			info->name);
	}
	if (uuid_is_nil(&pool->uuid) || pj->must_format || uuid_equal(&pool->uuid, &info->uuid)) {
		return 0;
	}
	return err_set(&pj->job.err, -EMEDIUMTYPE, "%s holds another pool %s (%s), not %s",
		disk_path(pool->disk), info->name, uuid_to_text(&info->uuid, found),
		uuid_to_text(&pool->uuid, known));
}

void pool_step(struct task *task)
{
	struct pool_job *pj = container_of(task, struct pool_job, job.task);
	struct io *io = real_io(pj->job.control->real);
	struct io_disk *disk = pj->pool->handle;
	int result;

	switch (pj->state) {
	case POOL_JOB_START:
		if (pj->may_format && !pj->must_format) {
			store_probe(io, disk, job_op(&pj->job));
			AWAIT(pj, POOL_JOB_AWAIT_PROBE, pj->job.done);
			result = judge_probe(pj);
			if (result != 0) {
				pool_job_end(pj, result);
				return;
			}
		}
		if (pj->must_format) {
			store_format(io, disk, &pj->format, job_op(&pj->job));
			AWAIT(pj, POOL_JOB_AWAIT_FORMAT, pj->job.done);
			if (pj->job.op.result != 0) {
				pool_job_end(pj, pj->job.op.result);
				return;
			}
		}
		store_open(io, disk, &pj->store, job_op(&pj->job));
		AWAIT(pj, POOL_JOB_AWAIT_OPEN, pj->job.done);
		if (pj->job.op.result != 0) {
			pool_job_end(pj, pj->job.op.result);
			return;
		}
		/* Before the agent is there, it takes all stores when it comes. */
		result = judge_identity(pj);
		if (result == 0 && pj->job.control->agent != NULL) {
			result =
				agent_add_store(pj->job.control->agent, pj->pool->index, pj->store);
		}
		if (result == 0) {
			pj->pool->store = pj->store;
			pool_job_end(pj, 0);
			return;
		}
		if (pj->job.err.code == 0) {
			err_set(&pj->job.err, result, "%s", err_describe(result));
		}
		store_close(pj->store, job_op(&pj->job));
		AWAIT(pj, POOL_JOB_AWAIT_CLOSE, pj->job.done);
		pool_job_end(pj, pj->job.err.code);
	}
}

int disk_open(struct pool *pool, struct control *control, bool create, uint64_t size_bytes,
	unsigned lock_wait_ms, struct err *err)
{
	struct real_disk_options options = {.create = create, .size_bytes = size_bytes};

	if (disk_is_memory(pool->disk)) {
		return real_memory_disk_new(control->real, size_bytes, &pool->handle, err);
	}
	return real_disk_open(
		control->real, disk_path(pool->disk), &options, lock_wait_ms, &pool->handle, err);
}

void disk_give_back(struct pool *pool, bool made_file)
{
	if (pool->handle != NULL) {
		real_disk_close(pool->handle);
		pool->handle = NULL;
	}
	if (made_file) {
		(void)unlink(disk_path(pool->disk));
	}
}

void pool_job_name(struct pool_job *pj)
{
	snprintf(pj->format.name, sizeof(pj->format.name), "%s", pj->pool->name);
	pj->format.uuid = pj->pool->uuid;
}

/* ---- at start, and again for those that failed ---- */

void pool_fault(struct control *control, struct pool *pool, const struct err *err)
{
	if (pool->state != POOL_FAULTED || strcmp(pool->reason.text, err->text) != 0) {
		log_error(control->log, "pools", "pool-faulted", "pool=%s reason=%s", pool->name,
			err->text);
	}
	pool->state = POOL_FAULTED;
	pool->reason = *err;
	disk_give_back(pool, false);
	pools_report(control);
}

/* The disk may come (back), or who holds its lock may go; what is on it does not change by itself.
 */
static bool is_worth_a_retry(const struct pool *pool)
{
	int code = pool->reason.code;

	return pool->used && !pool->is_deleting && pool->phase == POOL_PRESENT &&
	       pool->state == POOL_FAULTED &&
	       (code == -EBUSY || code == -ENOENT || code == -ENXIO || code == -ENODEV ||
		       code == -EAGAIN);
}

static void retry_start(struct control *control)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		if (is_worth_a_retry(&control->pools[i]) && !control->stopping) {
			loop_timer_start(control->loop, &control->retry, CONTROL_RETRY_MS);
			return;
		}
	}
}

void pool_online(struct pool_job *pj)
{
	struct control *control = pj->job.control;
	struct pool *pool = pj->pool;

	pool->state = POOL_ONLINE;
	pool->uuid = pj->info.uuid;
	pools_report(control);
	log_info(control->log, "pools", "pool-online", "pool=%s disk=%s", pool->name, pool->disk);
}

int pools_save(struct control *control, const struct pool *pool, const char *what, struct err *err)
{
	if (state_save(control, err) == 0) {
		return 0;
	}
	err_prefix(err, "pool %s is %s but that could not be recorded", pool->name, what);
	log_error(control->log, "pools", "state-not-saved", "pool=%s reason=%s", pool->name,
		err->text);
	return err->code;
}

static void pool_opened(struct job *job)
{
	struct pool_job *pj = container_of(job, struct pool_job, job);
	struct control *control = job->control;

	control->opening_count--;
	if (job->err.code != 0) {
		if (pj->made_file) {
			(void)unlink(disk_path(pj->pool->disk));
		}
		pool_fault(control, pj->pool, &job->err);
	} else {
		bool is_new = !uuid_equal(&pj->pool->uuid, &pj->info.uuid);

		pj->pool->made_file |= pj->made_file;
		pool_online(pj);
		/* Recorded at the next start, if not now. */
		if (is_new) {
			(void)pools_save(control, pj->pool, "online", &job->err);
		}
	}
	free(pj);
	retry_start(control);
}

/* May the disk's content be replaced?  Only one that was never opened and that the YAML file gives
 * to us. */
static int start_judge(struct pool *pool, bool *ret_create, struct err *err)
{
	bool is_file = disk_is_file(pool->disk);

	*ret_create = false;
	if (disk_is_memory(pool->disk)) {
		return pool->size_bytes != 0 ? 0 : err_set(err, -EINVAL, "it needs a size");
	}
	if (access(disk_path(pool->disk), F_OK) != 0 && errno == ENOENT) {
		if (is_file && pool->size_bytes != 0 && uuid_is_nil(&pool->uuid)) {
			*ret_create = true;
			return 0;
		}
		return err_set(err, -ENOENT, "%s does not exist", disk_path(pool->disk));
	}
	return 0;
}

static void pool_open(struct control *control, struct pool *pool, unsigned lock_wait_ms)
{
	struct pool_job *pj = calloc(1, sizeof(*pj));
	bool never_opened = uuid_is_nil(&pool->uuid) && pool->is_configured;
	bool is_memory = disk_is_memory(pool->disk);
	bool create = false;
	struct err err;

	err_clear(&err);
	if (pj == NULL) {
		err_set(&err, -ENOMEM, "out of memory");
	} else if (start_judge(pool, &create, &err) == 0) {
		pj->made_file = create;
		(void)disk_open(pool, control, create, pool->size_bytes, lock_wait_ms, &err);
	}
	if (err.code != 0) {
		free(pj);
		pool_fault(control, pool, &err);
		return;
	}
	pool->state = POOL_OPENING;
	pj->pool = pool;
	pj->may_format = never_opened;
	/* A file that an interrupted start left is empty for the probe; what is not is not ours. */
	pj->must_format = is_memory || create;
	if (pj->may_format && !pj->must_format) {
		pj->foreign.code = disk_probe(disk_path(pool->disk), &pj->foreign);
	}
	pool_job_name(pj);
	job_init(&pj->job, control, NULL, pool_step, pool_opened);
	control->opening_count++;
	job_look(&pj->job);
}

static void retry_expired(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, retry);

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		if (is_worth_a_retry(&control->pools[i])) {
			pool_open(control, &control->pools[i], 0);
		}
	}
	retry_start(control);
}

/* The YAML file's pools get their places; what it does not name any more keeps its own and stays
 * closed. */
static int merge_configured(struct control *control, struct err *err)
{
	const struct control_options *options = control->options;
	bool named[AGENT_POOLS_MAX] = {false};

	for (unsigned i = 0; i < options->pool_count; i++) {
		const struct control_pool_options *from = &options->pools[i];
		struct pool *pool = control_find_pool(control, from->name);

		if (pool == NULL) {
			pool = pool_free_place(control);
		}
		if (pool == NULL) {
			return err_set(err, -E2BIG, "more than %d pools", AGENT_POOLS_MAX);
		}
		if (pool->phase != POOL_PRESENT) {
			/* What CreatePool or DeletePool left half done, the file asks for anew. */
			*pool = (struct pool){.index = pool->index};
		}
		pool->used = true;
		pool->is_configured = true;
		pool->size_bytes = from->size_bytes;
		snprintf(pool->name, sizeof(pool->name), "%s", from->name);
		snprintf(pool->disk, sizeof(pool->disk), "%s", from->disk);
		named[pool - control->pools] = true;
	}
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct pool *pool = &control->pools[i];

		pool->is_dropped = pool->used && pool->is_configured && !named[i];
	}
	return state_save(control, err);
}

static void fault_half_done(struct control *control, struct pool *pool)
{
	struct err err;

	err_set(&err, -EINPROGRESS, "its %s was interrupted: %s",
		pool->phase == POOL_CREATING ? "creation" : "deletion",
		pool->phase == POOL_CREATING ? "create it again, or delete it" : "delete it again");
	pool_fault(control, pool, &err);
}

int pools_start(struct control *control, struct err *err)
{
	uint64_t deadline_ms = loop_now_ms(control->loop) + CONTROL_OPEN_WAIT_MS;
	int result;

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		control->pools[i].index = i;
	}
	control->retry.expired = retry_expired;
	result = merge_configured(control, err);
	if (result != 0) {
		return result;
	}
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct pool *pool = &control->pools[i];

		if (pool->used && pool->phase != POOL_PRESENT) {
			fault_half_done(control, pool);
		} else if (pool->used && !pool->is_dropped) {
			pool_open(control, pool, CONTROL_LOCK_WAIT_MS);
		}
	}
	while (control->opening_count > 0 && loop_now_ms(control->loop) < deadline_ms) {
		loop_turn(control->loop, 100);
	}
	retry_start(control);
	return 0;
}
