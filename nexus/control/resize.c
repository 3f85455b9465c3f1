/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume grows (ResizeVolume): committed first, then the state file, then what shows it: hosts of
 * the export are told, the launcher lets the block device grow.  The last also by itself, when the
 * size was committed and whoever asked for it is gone.
 */
#include "base/task.h"
#include "nexus/control/job.h"

#include <errno.h>

enum resize_state { RESIZE_START, RESIZE_AWAIT_REACTOR, RESIZE_AWAIT_LAUNCHER, RESIZE_DONE };

struct resize_job {
	struct job job;
	enum resize_state state;
	uint64_t size_bytes; /* 0: only what shows it follows */
	struct volume_resize resize;
	uint64_t device_bytes; /* asked of the launcher */
};

static struct resize_job *resize_job_of(struct job *job)
{
	return (struct resize_job *)(void *)job;
}

/* Reactor. */
static void resized(struct volume_resize *resize)
{
	struct resize_job *its = resize->ctx;

	its->job.result = resize->result;
	its->job.err = resize->err;
	reactor_call_return(&its->job.reactor_call);
}

static void resize_there(struct job *job)
{
	struct resize_job *its = resize_job_of(job);

	its->resize = (struct volume_resize){
		.size_bytes = its->size_bytes,
		.done = resized,
		.ctx = its,
	};
	volume_resize(job->cv->volume, &its->resize);
}

/* In the file before anybody can see it. */
static void resize_save(struct resize_job *its)
{
	struct cvolume *cv = its->job.cv;

	if (its->job.result == 0 && cv->record.size_bytes < its->size_bytes) {
		cv->record.size_bytes = its->size_bytes;
		job_save(&its->job);
	}
}

static bool device_is_small(const struct cvolume *cv)
{
	return cv->is_open && cv->fuse_serves && cv->held != NULL && !cv->held->gone &&
	       cv->control->link != NULL && cv->held->size_bytes < cv->record.size_bytes;
}

static void launcher_answered(void *ctx, int result, const char *device, const char *text)
{
	struct job *job = ctx;
	struct cvolume *cv = job->cv;
	uint64_t device_bytes = resize_job_of(job)->device_bytes;

	(void)device;
	if (result < 0) {
		job_fail(job, result, text[0] != '\0' ? text : err_describe(result));
		cv->size_refused = device_bytes;
	} else if (cv->held != NULL) {
		cv->held->size_bytes = device_bytes;
	}
	job->waiting = false;
	job->step(job);
}

static void resize_ask_launcher(struct job *job)
{
	struct cvolume *cv = job->cv;
	struct launch_msg msg;

	resize_job_of(job)->device_bytes = cv->record.size_bytes;
	launcher_link_fill_publish(&msg, cv->record.name, cv->record.size_bytes, 4096);
	job->result =
		launcher_link_publish(cv->control->link, &msg, launcher_answered, job, &job->err);
	job->waiting = job->result == 0;
}

static void resize_step(struct job *job)
{
	struct resize_job *its = resize_job_of(job);
	struct cvolume *cv = job->cv;

	switch (its->state) {
	case RESIZE_START:
		if (!cv->is_open) {
			job_fail(job, -EBUSY, "it is not open; open it first");
		} else if (its->size_bytes != 0) {
			job_call(job, resize_there);
			AWAIT(its, RESIZE_AWAIT_REACTOR, !job->waiting);
			resize_save(its);
		}
		if (job->result == 0 && device_is_small(cv)) {
			resize_ask_launcher(job);
			AWAIT(its, RESIZE_AWAIT_LAUNCHER, !job->waiting);
		}
		its->state = RESIZE_DONE;
		job_end(job);
		return;
	case RESIZE_DONE:
		return;
	}
}

void job_resize(struct cvolume *cv, uint64_t size_bytes, struct grpc_call *call)
{
	struct resize_job *its = job_new(cv, call, "resize", sizeof(*its), resize_step);

	if (its != NULL) {
		its->size_bytes = size_bytes;
		resize_step(&its->job);
	}
}

void cvolume_follow_size(struct cvolume *cv)
{
	if (cv->job == NULL && !cv->control->stopping && device_is_small(cv) &&
		cv->size_refused != cv->record.size_bytes) {
		job_resize(cv, 0, NULL);
	}
}
