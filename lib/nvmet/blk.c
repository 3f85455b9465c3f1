/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blk_dev as a subsystem with one namespace.  What the device needs of a command is in a job;
 * there is a fixed number of them, further commands wait.
 *
 * A job ends in two steps, as the device's requests do: the host is answered, and later the data
 * are given back.  Jobs of several steps (dataset management, compare) are ladders; compares go one
 * after the other, because they share the memory that they read into.
 */
#include "io/blk.h"

#include "base/bytes.h"
#include "nvmet/nvmet.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define JOBS          256u
#define COMPARE_BYTES (128u * 1024)
#define NSID          1u
#define PRINFO_MASK   (0xfu << 26)
#define NLB(sqe)      (((sqe)->cdw12 & 0xffffu) + 1)

enum job_state {
	JOB_START,
	JOB_AWAIT_DONE,
	JOB_AWAIT_RELEASED,
	JOB_STEP,
	JOB_STEP_RELEASED,
};

struct job {
	struct list_node node; /* nvmet_blk: free, or waiting for the compare memory */
	struct nvmet_blk *nvmet_blk;
	struct nvmet_req *req;
	struct blk_req blk;
	struct iovec iov;
	struct task task;
	enum job_state state;
	bool done, released;
	uint32_t range;  /* dataset management: the next one */
	uint32_t at;     /* compare: bytes that are equal */
	uint16_t status; /* compare */
};

struct nvmet_blk {
	struct nvmet_subsys subsys;
	struct nvmet *target;
	struct io *io;
	struct blk_dev *dev; /* borrowed */
	struct uuid uuid;
	struct job jobs[JOBS];
	uint8_t *private_states; /* owned */
	struct list free;        /* job */
	struct list waiting;     /* nvmet_req, by owner_node */
	uint8_t *compare;        /* owned, COMPARE_BYTES */
	struct job *comparing;
	struct list compares; /* job */
	unsigned jobs_used;
	bool is_removed;
	struct task end_task;
	void (*removed)(void *ctx);
	void *removed_ctx;
};

/* ---- results ---- */

/* The one table from results of devices to status codes.  Capacity, range and readiness say that
 * nothing was done; after the others a write may or may not have happened. */
static uint16_t status_of(int result, enum blk_kind kind)
{
	switch (result) {
	case 0:
		return NVME_SC_SUCCESS;
	case -ENOSPC:
		return NVME_SC_CAPACITY_EXCEEDED;
	case -ERANGE:
		return NVME_SC_LBA_OUT_OF_RANGE;
	case -ESHUTDOWN:
		return NVME_SC_NAMESPACE_NOT_READY;
	case -EROFS:
		return NVME_SC_NAMESPACE_WRITE_PROTECTED;
	case -EIO:
		return kind == BLK_READ ? NVME_SC_UNRECOVERED_READ_ERROR : NVME_SC_WRITE_FAULT;
	default:
		return NVME_SC_INTERNAL_ERROR;
	}
}

/* ---- jobs ---- */

static void command_start(struct nvmet_blk *nvmet_blk, struct nvmet_req *req);

static struct job *job_take(struct nvmet_blk *nvmet_blk, struct nvmet_req *req)
{
	struct job *job = container_of(list_pop_front(&nvmet_blk->free), struct job, node);

	nvmet_blk->jobs_used++;
	job->req = req;
	job->state = JOB_START;
	return job;
}

static void job_free(struct job *job)
{
	struct nvmet_blk *nvmet_blk = job->nvmet_blk;
	struct list_node *next;

	task_done(&job->task);
	job->req = NULL;
	nvmet_blk->jobs_used--;
	list_push_front(&nvmet_blk->free, &job->node);
	next = list_pop_front(&nvmet_blk->waiting);
	if (next != NULL) {
		command_start(nvmet_blk, container_of(next, struct nvmet_req, owner_node));
	}
	task_wake(&nvmet_blk->end_task);
}

static void blk_done(struct blk_req *blk)
{
	struct job *job = blk->ctx;

	job->done = true;
	task_wake(&job->task);
}

static void blk_released(struct blk_req *blk)
{
	struct job *job = blk->ctx;

	job->released = true;
	task_wake(&job->task);
}

static void job_submit(struct job *job, enum blk_kind kind, uint64_t offset, uint64_t length)
{
	void *private_state = job->blk.private_state;

	job->blk = (struct blk_req){
		.kind = kind,
		.offset = offset,
		.length = length,
		.done = blk_done,
		.released = blk_released,
		.ctx = job,
		.private_state = private_state,
	};
	if (kind == BLK_READ || kind == BLK_WRITE) {
		job->blk.iov = &job->iov;
		job->blk.iov_count = 1;
	}
	if (kind != BLK_READ && kind != BLK_FLUSH) {
		job->blk.fua = (job->req->sqe.cdw12 & NVME_RW_FUA) != 0 &&
			       job->req->sqe.opcode != NVME_IO_DATASET_MANAGEMENT;
	}
	job->done = false;
	job->released = false;
	blk_submit(job->nvmet_blk->dev, &job->blk);
}

static uint64_t offset_of(const struct job *job)
{
	const struct nvme_sqe *sqe = &job->req->sqe;

	return (sqe->cdw10 | (uint64_t)sqe->cdw11 << 32) * job->nvmet_blk->dev->block_bytes;
}

static uint64_t length_of(const struct job *job)
{
	return (uint64_t)NLB(&job->req->sqe) * job->nvmet_blk->dev->block_bytes;
}

/* ---- commands of one step ---- */

static void simple_submit(struct job *job)
{
	const struct nvme_sqe *sqe = &job->req->sqe;

	job->iov = job->req->iov;
	switch (sqe->opcode) {
	case NVME_IO_FLUSH:
		job_submit(job, BLK_FLUSH, 0, 0);
		return;
	case NVME_IO_READ:
		job_submit(job, BLK_READ, offset_of(job), length_of(job));
		return;
	case NVME_IO_WRITE:
		job_submit(job, BLK_WRITE, offset_of(job), length_of(job));
		return;
	case NVME_IO_WRITE_ZEROES:
		job_submit(job, (sqe->cdw12 & NVME_WZ_DEALLOCATE) != 0 ? BLK_DISCARD : BLK_ZERO,
			offset_of(job), length_of(job));
		return;
	default:
		assert(false);
	}
}

static void simple_step(struct task *task)
{
	struct job *job = container_of(task, struct job, task);

	switch (job->state) {
	case JOB_START:
		simple_submit(job);
		AWAIT(job, JOB_AWAIT_DONE, job->done);
		nvmet_req_answer(job->req, status_of(job->blk.result, job->blk.kind), 0);
		AWAIT(job, JOB_AWAIT_RELEASED, job->released);
		nvmet_req_release(job->req);
		job_free(job);
		return;
	case JOB_STEP:
	case JOB_STEP_RELEASED:
		break;
	}
	assert(false);
}

/* ---- dataset management ---- */

static uint32_t range_count(const struct nvme_sqe *sqe)
{
	return (sqe->cdw10 & 0xffu) + 1;
}

static struct nvme_dsm_range range_at(const struct nvmet_req *req, uint32_t index)
{
	struct nvme_dsm_range range;

	memcpy(&range, (const uint8_t *)req->iov.iov_base + index * sizeof(range), sizeof(range));
	return range;
}

/* Empty ranges are allowed and do nothing. */
static void ranges_skip_empty(struct job *job)
{
	while (job->range < range_count(&job->req->sqe) &&
		range_at(job->req, job->range).blocks == 0) {
		job->range++;
	}
}

static void range_submit(struct job *job)
{
	const struct nvme_dsm_range range = range_at(job->req, job->range);
	uint64_t block_bytes = job->nvmet_blk->dev->block_bytes;

	job_submit(job, BLK_DISCARD, range.lba * block_bytes, range.blocks * block_bytes);
}

static void dsm_end(struct job *job, uint16_t status)
{
	nvmet_req_complete(job->req, status, 0);
	job_free(job);
}

static void dsm_step(struct task *task)
{
	struct job *job = container_of(task, struct job, task);

	switch (job->state) {
	case JOB_START:
		job->range = 0;
		for (ranges_skip_empty(job); job->range < range_count(&job->req->sqe);
			job->range++, ranges_skip_empty(job)) {
			range_submit(job);
			AWAIT(job, JOB_STEP_RELEASED, job->released);
			if (job->blk.result != 0) {
				break;
			}
		}
		if (job->range < range_count(&job->req->sqe)) {
			dsm_end(job, status_of(job->blk.result, job->blk.kind));
		} else {
			dsm_end(job, NVME_SC_SUCCESS);
		}
		return;
	case JOB_STEP:
	case JOB_AWAIT_DONE:
	case JOB_AWAIT_RELEASED:
		break;
	}
	assert(false);
}

/* ---- compare ---- */

static void compare_submit(struct job *job)
{
	uint64_t length = min_u64(length_of(job) - job->at, COMPARE_BYTES);

	job->iov = (struct iovec){job->nvmet_blk->compare, length};
	job_submit(job, BLK_READ, offset_of(job) + job->at, length);
}

/* The part that was read. */
static uint16_t compare_part(const struct job *job)
{
	if (job->blk.result != 0) {
		return status_of(job->blk.result, BLK_READ);
	}
	if (memcmp(job->nvmet_blk->compare, (const uint8_t *)job->req->iov.iov_base + job->at,
		    job->blk.length) != 0) {
		return NVME_SC_COMPARE_FAILURE;
	}
	return NVME_SC_SUCCESS;
}

static void compare_end(struct job *job)
{
	struct nvmet_blk *nvmet_blk = job->nvmet_blk;
	struct list_node *next = list_pop_front(&nvmet_blk->compares);

	nvmet_blk->comparing = NULL;
	if (next != NULL) {
		nvmet_blk->comparing = container_of(next, struct job, node);
		task_wake(&nvmet_blk->comparing->task);
	}
	nvmet_req_complete(job->req, job->status, 0);
	job_free(job);
}

static void compare_step(struct task *task)
{
	struct job *job = container_of(task, struct job, task);

	switch (job->state) {
	case JOB_START:
		job->at = 0;
		job->status = NVME_SC_SUCCESS;
		if (job->nvmet_blk->comparing == NULL) {
			job->nvmet_blk->comparing = job;
		} else {
			list_push_back(&job->nvmet_blk->compares, &job->node);
		}
		AWAIT(job, JOB_STEP, job->nvmet_blk->comparing == job);
		while (job->at < length_of(job) && job->status == NVME_SC_SUCCESS) {
			compare_submit(job);
			AWAIT(job, JOB_STEP_RELEASED, job->released);
			job->status = compare_part(job);
			job->at += (uint32_t)job->blk.length;
		}
		compare_end(job);
		return;
	case JOB_AWAIT_DONE:
	case JOB_AWAIT_RELEASED:
		break;
	}
	assert(false);
}

/* ---- checks ---- */

static bool blocks_are_within(const struct nvmet_blk *nvmet_blk, uint64_t lba, uint64_t blocks)
{
	const struct blk_dev *dev = nvmet_blk->dev;

	return range_is_within(lba, blocks, dev->size_bytes / dev->block_bytes);
}

static uint16_t judge_extent(const struct nvmet_blk *nvmet_blk, const struct nvmet_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;
	uint64_t lba = sqe->cdw10 | (uint64_t)sqe->cdw11 << 32;
	uint64_t bytes = (uint64_t)NLB(sqe) * nvmet_blk->dev->block_bytes;

	if ((sqe->cdw12 & PRINFO_MASK) != 0) {
		return NVME_SC_INVALID_FIELD; /* there is no protection information */
	}
	if (sqe->opcode == NVME_IO_WRITE_ZEROES) {
		bytes = 0;
	} else if (bytes > BLK_LENGTH_MAX) {
		return NVME_SC_INVALID_FIELD;
	}
	if (req->length != bytes) {
		return NVME_SC_DATA_SGL_LENGTH_INVALID;
	}
	return blocks_are_within(nvmet_blk, lba, NLB(sqe)) ? NVME_SC_SUCCESS
							   : NVME_SC_LBA_OUT_OF_RANGE;
}

static uint16_t judge_dsm(const struct nvmet_blk *nvmet_blk, const struct nvmet_req *req)
{
	uint32_t count = range_count(&req->sqe);

	/* Some hosts always send the whole list of 256. */
	if (req->length < count * sizeof(struct nvme_dsm_range)) {
		return NVME_SC_DATA_SGL_LENGTH_INVALID;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct nvme_dsm_range range = range_at(req, i);

		if (!blocks_are_within(nvmet_blk, range.lba, range.blocks)) {
			return NVME_SC_LBA_OUT_OF_RANGE;
		}
	}
	return NVME_SC_SUCCESS;
}

static uint16_t judge(const struct nvmet_blk *nvmet_blk, const struct nvmet_req *req)
{
	const struct nvme_sqe *sqe = &req->sqe;
	bool flush_all = sqe->opcode == NVME_IO_FLUSH && sqe->nsid == NVME_NSID_ALL;

	if (sqe->nsid != NSID && !flush_all) {
		return NVME_SC_INVALID_NAMESPACE;
	}
	if ((sqe->flags & NVME_SQE_FUSE_MASK) != 0) {
		return NVME_SC_INVALID_FIELD;
	}
	switch (sqe->opcode) {
	case NVME_IO_FLUSH:
		return req->length == 0 ? NVME_SC_SUCCESS : NVME_SC_DATA_SGL_LENGTH_INVALID;
	case NVME_IO_READ:
	case NVME_IO_WRITE:
	case NVME_IO_COMPARE:
	case NVME_IO_WRITE_ZEROES:
		return judge_extent(nvmet_blk, req);
	case NVME_IO_DATASET_MANAGEMENT:
		return judge_dsm(nvmet_blk, req);
	default:
		return NVME_SC_INVALID_OPCODE;
	}
}

/* ---- the subsystem ---- */

static void command_start(struct nvmet_blk *nvmet_blk, struct nvmet_req *req)
{
	struct job *job = job_take(nvmet_blk, req);
	task_step *step = simple_step;

	if (req->sqe.opcode == NVME_IO_DATASET_MANAGEMENT) {
		step = dsm_step;
	} else if (req->sqe.opcode == NVME_IO_COMPARE) {
		step = compare_step;
	}
	task_init(&job->task, &nvmet_blk->io->runq, step);
	task_wake(&job->task);
}

static void blk_io(struct nvmet_subsys *subsys, struct nvmet_req *req)
{
	struct nvmet_blk *nvmet_blk = subsys->ctx;
	uint16_t status = judge(nvmet_blk, req);

	if (status != 0) {
		nvmet_req_complete(req, status, 0);
		return;
	}
	if (req->sqe.opcode == NVME_IO_DATASET_MANAGEMENT &&
		(req->sqe.cdw11 & NVME_DSM_DEALLOCATE) == 0) {
		/* Hints that are not used. */
		nvmet_req_complete(req, NVME_SC_SUCCESS, 0);
		return;
	}
	if (list_is_empty(&nvmet_blk->free)) {
		list_push_back(&nvmet_blk->waiting, &req->owner_node);
		return;
	}
	command_start(nvmet_blk, req);
}

static bool blk_ns_info(struct nvmet_subsys *subsys, uint32_t nsid, struct nvmet_ns_info *ret_info)
{
	const struct nvmet_blk *nvmet_blk = subsys->ctx;

	if (nsid != NSID) {
		return false;
	}
	*ret_info = (struct nvmet_ns_info){
		.block_count = nvmet_blk->dev->size_bytes / nvmet_blk->dev->block_bytes,
		.block_bytes = nvmet_blk->dev->block_bytes,
		.uuid = nvmet_blk->uuid,
		.read_only = nvmet_blk->dev->read_only,
	};
	return true;
}

static uint32_t blk_ns_next(struct nvmet_subsys *subsys, uint32_t after)
{
	(void)subsys;
	return after < NSID ? NSID : 0;
}

static const struct nvmet_subsys_ops blk_ops = {
	.ns_info = blk_ns_info,
	.ns_next = blk_ns_next,
	.io = blk_io,
};

/* ---- making and removing ---- */

static void blk_free(struct nvmet_blk *nvmet_blk)
{
	struct io *io = nvmet_blk->io;

	task_done(&nvmet_blk->end_task);
	io_free(io, nvmet_blk->private_states);
	io_free(io, nvmet_blk->compare);
	io_free(io, nvmet_blk);
}

static void end_step(struct task *task)
{
	struct nvmet_blk *nvmet_blk = container_of(task, struct nvmet_blk, end_task);
	void (*removed)(void *ctx) = nvmet_blk->removed;
	void *ctx = nvmet_blk->removed_ctx;

	if (nvmet_blk->is_removed && nvmet_blk->jobs_used == 0) {
		blk_free(nvmet_blk);
		removed(ctx);
	}
}

static void subsys_removed(struct nvmet_subsys *subsys)
{
	struct nvmet_blk *nvmet_blk = subsys->ctx;

	nvmet_blk->is_removed = true;
	task_wake(&nvmet_blk->end_task);
}

static int jobs_init(struct nvmet_blk *nvmet_blk)
{
	size_t size = round_up_u64(nvmet_blk->dev->req_private_bytes, 64);

	list_init(&nvmet_blk->free);
	list_init(&nvmet_blk->waiting);
	list_init(&nvmet_blk->compares);
	if (size > 0) {
		nvmet_blk->private_states = io_zalloc_aligned(nvmet_blk->io, 64, JOBS * size);
		if (nvmet_blk->private_states == NULL) {
			return -ENOMEM;
		}
	}
	for (unsigned i = 0; i < JOBS; i++) {
		struct job *job = &nvmet_blk->jobs[i];

		job->nvmet_blk = nvmet_blk;
		if (size > 0) {
			job->blk.private_state = nvmet_blk->private_states + i * size;
		}
		list_push_back(&nvmet_blk->free, &job->node);
	}
	nvmet_blk->compare = io_zalloc_aligned(nvmet_blk->io, BUFPOOL_UNIT, COMPARE_BYTES);
	return nvmet_blk->compare != NULL ? 0 : -ENOMEM;
}

static void subsys_init(struct nvmet_blk *nvmet_blk, const char *nqn)
{
	struct nvmet_subsys *subsys = &nvmet_blk->subsys;
	char id[UUID_TEXT_SIZE];

	uuid_to_text(&nvmet_blk->uuid, id);
	subsys->ops = &blk_ops;
	subsys->ctx = nvmet_blk;
	subsys->allow_any_host = true;
	subsys->in_discovery = true;
	subsys->one_each_host = true;
	subsys->oncs = NVME_ONCS_COMPARE | NVME_ONCS_DSM | NVME_ONCS_WRITE_ZEROES;
	subsys->removed = subsys_removed;
	(void)snprintf(subsys->nqn, sizeof(subsys->nqn), "%s", nqn);
	(void)snprintf(subsys->serial, sizeof(subsys->serial), "%.8s%.4s%.4s", id, id + 9, id + 14);
	(void)snprintf(subsys->model, sizeof(subsys->model), "Strake volume");
}

int nvmet_blk_new(struct nvmet *target, struct io *io, struct blk_dev *dev, const char *nqn,
	const struct uuid *uuid, struct nvmet_blk **ret_blk, struct err *err)
{
	struct nvmet_blk *nvmet_blk;
	int result;

	assert(is_power_of_two(dev->block_bytes));
	if (strlen(nqn) >= NVME_NQN_SIZE) {
		return err_set(err, -EINVAL, "NQN %s is longer than %d characters", nqn,
			NVME_NQN_SIZE - 1);
	}
	nvmet_blk = io_zalloc_aligned(io, 64, sizeof(*nvmet_blk));
	if (nvmet_blk == NULL) {
		return err_set(err, -ENOMEM, "out of memory");
	}
	nvmet_blk->target = target;
	nvmet_blk->io = io;
	nvmet_blk->dev = dev;
	nvmet_blk->uuid = *uuid;
	task_init(&nvmet_blk->end_task, &io->runq, end_step);
	if (jobs_init(nvmet_blk) != 0) {
		blk_free(nvmet_blk);
		return err_set(err, -ENOMEM, "out of memory");
	}
	subsys_init(nvmet_blk, nqn);
	result = nvmet_add(target, &nvmet_blk->subsys);
	if (result != 0) {
		blk_free(nvmet_blk);
		return err_set(err, result, "a subsystem with NQN %s is there already", nqn);
	}
	*ret_blk = nvmet_blk;
	return 0;
}

void nvmet_blk_resized(struct nvmet_blk *nvmet_blk)
{
	nvmet_namespaces_changed(nvmet_blk->target, &nvmet_blk->subsys);
}

void nvmet_blk_remove(struct nvmet_blk *nvmet_blk, void (*removed)(void *ctx), void *ctx)
{
	nvmet_blk->removed = removed;
	nvmet_blk->removed_ctx = ctx;
	nvmet_remove(nvmet_blk->target, &nvmet_blk->subsys);
}
