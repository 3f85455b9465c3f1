/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on one volume: one at a time, each a ladder on the control thread whose waits are
 * calls into the reactor, answers of the launcher, and the fuse side coming to rest.
 */
#include "nexus/control/job.h"

#include "base/task.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum open_state { OPEN_START, OPEN_AWAIT_REACTOR, OPEN_DONE };
enum close_state { CLOSE_START, CLOSE_AWAIT_REACTOR, CLOSE_AWAIT_FUSE, CLOSE_DONE };
enum publish_state { PUBLISH_START, PUBLISH_AWAIT_EXPORT, PUBLISH_AWAIT_LAUNCHER, PUBLISH_DONE };
enum unpublish_state {
	UNPUBLISH_START,
	UNPUBLISH_AWAIT_EXPORT,
	UNPUBLISH_AWAIT_LOOK,
	UNPUBLISH_AWAIT_LAUNCHER,
	UNPUBLISH_AWAIT_FUSE,
	UNPUBLISH_DONE
};

struct open_job {
	struct job job;
	enum open_state state;
	uint32_t attach;
	struct capability capability; /* version 0: none was given */
	struct volume_options options;
};

struct close_job {
	struct job job;
	enum close_state state;
};

struct publish_job {
	struct job job;
	enum publish_state state;
	enum frontend_kind frontend;
};

struct unpublish_job {
	struct job job;
	enum unpublish_state state;
	bool force;
	bool data_is_lost;
};

/* ---- what all have ---- */

void *job_new(struct cvolume *cv, struct grpc_call *call, const char *what, size_t size,
	void (*step)(struct job *job))
{
	struct job *job = NULL;

	if (cv->control->stopping) {
		if (call != NULL) {
			grpc_call_failf(call, -ESHUTDOWN, "the nexus is stopping");
		}
		return NULL;
	}
	if (cv->job != NULL) {
		if (call != NULL) {
			grpc_call_failf(call, -EALREADY,
				"volume %s is busy: %s is under way; try again when it is done",
				cv->record.name, cv->job->what);
		}
		return NULL;
	}
	job = calloc(1, size);
	if (job == NULL) {
		if (call != NULL) {
			grpc_call_failf(
				call, -ENOMEM, "no memory to %s volume %s", what, cv->record.name);
		}
		return NULL;
	}
	job->cv = cv;
	job->call = call;
	job->what = what;
	job->step = step;
	cv->job = job;
	return job;
}

static void job_returned(struct reactor_call *call)
{
	struct job *job = container_of(call, struct job, reactor_call);

	job->waiting = false;
	job->in_reactor = false;
	job->step(job);
}

static void job_run_there(struct reactor_call *call)
{
	struct job *job = container_of(call, struct job, reactor_call);

	job->there(job);
}

void job_call(struct job *job, void (*there)(struct job *job))
{
	job->there = there;
	job->waiting = true;
	job->in_reactor = true;
	job->reactor_call.run = job_run_there;
	job->reactor_call.done = job_returned;
	reactor_call(daemon_reactor(job->cv->control->daemon), &job->reactor_call);
}

void job_fail(struct job *job, int code, const char *text)
{
	job->result = err_set(&job->err, code, "%s", text);
}

void job_save(struct job *job)
{
	struct err err = {0};

	if (cvolume_save(job->cv, &err) < 0 && job->result == 0) {
		job->result = err.code;
		job->err = err;
	}
}

void job_end(struct job *job)
{
	struct cvolume *cv = job->cv;
	struct control *control = cv->control;
	struct grpc_call *forcing = cv->forcing;

	cv->job = NULL;
	if (job->result < 0) {
		log_warning(daemon_log(control->daemon), "control", "operation-failed",
			"volume=%s operation=%s error=%s", cv->record.name, job->what,
			job->err.text);
	} else {
		log_info(daemon_log(control->daemon), "control", "operation-done",
			"volume=%s operation=%s attach=%u", cv->record.name, job->what,
			cv->record.attach);
	}
	if (job->call != NULL && job->result < 0) {
		(void)err_prefix(&job->err, "%s volume %s", job->what, cv->record.name);
		grpc_call_fail(job->call, &job->err);
	} else if (job->call != NULL) {
		reply_volume(job->call, cv);
	}
	free(job);
	fuse_step(cv);
	if (forcing != NULL) {
		/* Its turn, before anything else of this volume begins. */
		cv->forcing = NULL;
		job_unpublish(cv, true, forcing);
	}
	cvolume_follow_size(cv);
}

void job_wake(struct cvolume *cv)
{
	if (cv->job != NULL && !cv->job->waiting) {
		cv->job->step(cv->job);
	}
}

bool job_is_in_reactor(const struct cvolume *cv)
{
	return cv->job != NULL && cv->job->in_reactor;
}

/* ---- open ---- */

static void open_there(struct job *job)
{
	struct open_job *open = container_of(job, struct open_job, job);
	struct cvolume *cv = job->cv;

	job->result = volume_open(cv->control->nexus, &open->options, &cv->volume, &job->err);
	reactor_call_return(&job->reactor_call);
}

/* Takes the attach number into the record.  false: refused. */
static bool open_prepare(struct open_job *open)
{
	struct job *job = &open->job;
	struct volume_record *record = &job->cv->record;
	const char *boot_id = daemon_boot_id(job->cv->control->daemon);
	const struct volume_record before = *record;
	char text[200];

	if (open->attach != 0 && open->attach < record->attach) {
		(void)snprintf(text, sizeof(text),
			"attach number %u is older than %u, under which it was open here already",
			open->attach, record->attach);
		job_fail(job, -ESTALE, text);
		return false;
	}
	bool same_attach = open->attach == 0 || open->attach == record->attach;
	bool lived_on = same_attach && boot_id[0] != '\0' && strcmp(record->boot_id, boot_id) == 0;

	if (!same_attach) {
		record->attach = open->attach;
		record->inc = 0;
		record->capability.version = 0;
	}
	if (open->capability.version != 0) {
		record->capability = open->capability;
	}
	(void)snprintf(record->boot_id, sizeof(record->boot_id), "%s", boot_id);
	record->opened = true;
	job_save(job);
	if (job->result < 0) {
		*record = before;
		return false;
	}
	job->cv->followed = (struct cfg){0};
	atomic_store(&job->cv->inc_wanted, record->inc);
	job->cv->inc_saved = record->inc;
	cvolume_fill_options(job->cv, lived_on, &open->options);
	return true;
}

static void open_finish(struct open_job *open)
{
	struct cvolume *cv = open->job.cv;

	if (open->job.result < 0) {
		cv->record.opened = false;
		job_save(&open->job);
	} else {
		cv->is_open = true;
	}
}

static void open_step(struct job *job)
{
	struct open_job *open = container_of(job, struct open_job, job);
	struct cvolume *cv = job->cv;

	switch (open->state) {
	case OPEN_START:
		if (cv->is_open) {
			if (open->attach != 0 && open->attach != cv->record.attach) {
				job_fail(job, -EBUSY, "it is open; close it first");
			}
		} else if (open_prepare(open)) {
			job_call(job, open_there);
			AWAIT(open, OPEN_AWAIT_REACTOR, !job->waiting);
			open_finish(open);
		}
		open->state = OPEN_DONE;
		job_end(job);
		control_republish(cv);
		return;
	case OPEN_DONE:
		return;
	}
}

void job_open(struct cvolume *cv, uint32_t attach, const struct capability *capability,
	struct grpc_call *call)
{
	struct open_job *open = job_new(cv, call, "open", sizeof(*open), open_step);

	if (open != NULL) {
		open->attach = attach;
		if (capability != NULL) {
			open->capability = *capability;
		}
		open_step(&open->job);
	}
}

/* ---- close ---- */

static void close_closed(void *ctx)
{
	struct job *job = ctx;
	struct cvolume *cv = job->cv;

	cv->volume = NULL;
	if (cv->inc_posted) {
		/* Its message still refers to us. */
		cv->inc_waiter = &job->reactor_call;
	} else {
		reactor_call_return(&job->reactor_call);
	}
}

static void close_there(struct job *job)
{
	volume_close(job->cv->volume, close_closed, job);
}

static bool close_is_allowed(struct job *job)
{
	struct cvolume *cv = job->cv;

	if (cv->record.frontend != FRONTEND_NONE || (cv->held != NULL && !cv->held->gone) ||
		cv->exported) {
		job_fail(job, -EBUSY, "it is published; unpublish it first");
		return false;
	}
	if (compare_is_running(cv)) {
		job_fail(job, -EBUSY, "it is being compared; wait for the end");
		return false;
	}
	return true;
}

static void close_step(struct job *job)
{
	struct close_job *closing = container_of(job, struct close_job, job);
	struct cvolume *cv = job->cv;

	switch (closing->state) {
	case CLOSE_START:
		if (cv->is_open && close_is_allowed(job)) {
			job_call(job, close_there);
			AWAIT(closing, CLOSE_AWAIT_REACTOR, !job->waiting);
			cv->is_open = false;
			/* After a forced unpublish its requests ended with the volume only. */
			AWAIT(closing, CLOSE_AWAIT_FUSE, fuse_is_gone(cv));
			cv->record.opened = false;
			/* No host has it any more. */
			cv->record.boot_id[0] = '\0';
			job_save(job);
		}
		closing->state = CLOSE_DONE;
		job_end(job);
		return;
	case CLOSE_DONE:
		return;
	}
}

void job_close(struct cvolume *cv, struct grpc_call *call)
{
	struct close_job *closing = job_new(cv, call, "close", sizeof(*closing), close_step);

	if (closing != NULL) {
		close_step(&closing->job);
	}
}

/* ---- publish ---- */

static void export_there(struct job *job)
{
	job->result = export_add(job->cv, &job->err);
	reactor_call_return(&job->reactor_call);
}

static void launcher_answered(void *ctx, int result, const char *device, const char *text)
{
	struct job *job = ctx;

	(void)device;
	if (result < 0) {
		job_fail(job, result, text[0] != '\0' ? text : err_describe(result));
	}
	job->waiting = false;
	job->step(job);
}

static void launcher_answered_nobody(void *ctx, int result, const char *device, const char *text)
{
	(void)ctx;
	(void)result;
	(void)device;
	(void)text;
}

/* Is there anything to do? */
static bool publish_begins(struct publish_job *publish)
{
	struct job *job = &publish->job;
	struct cvolume *cv = job->cv;
	char text[100];

	if (!cv->is_open) {
		job_fail(job, -EBUSY, "it is not open; open it first");
		return false;
	}
	if (cv->record.frontend != FRONTEND_NONE && cv->record.frontend != publish->frontend) {
		(void)snprintf(text, sizeof(text), "it is published by %s; unpublish it first",
			frontend_kind_name(cv->record.frontend));
		job_fail(job, -EBUSY, text);
		return false;
	}
	if (cv->held != NULL && cv->held->gone) {
		job_fail(job, -EBUSY,
			"what it was published as before still ends; close it first, or try again");
		return false;
	}
	bool is_there = publish->frontend == FRONTEND_NVME ? cv->exported : cv->held != NULL;

	if (!is_there && publish->frontend == FRONTEND_FUSE && cv->control->link == NULL) {
		job_fail(job, -EOPNOTSUPP, cv->control->link_err.text);
		return false;
	}
	return !is_there;
}

static void publish_ask_launcher(struct publish_job *publish)
{
	struct job *job = &publish->job;
	struct cvolume *cv = job->cv;
	struct launch_msg msg;

	cv->fuse_result = 0;
	launcher_link_fill_publish(&msg, cv->record.name, cv->record.size_bytes, 4096);
	job->result =
		launcher_link_publish(cv->control->link, &msg, launcher_answered, job, &job->err);
	job->waiting = job->result == 0;
}

/* Recorded before the device can be there: a nexus that is killed in between finds it again. */
static void publish_record(struct publish_job *publish, enum frontend_kind frontend)
{
	publish->job.cv->record.frontend = frontend;
	job_save(&publish->job);
}

static void publish_step(struct job *job)
{
	struct publish_job *publish = container_of(job, struct publish_job, job);
	struct cvolume *cv = job->cv;

	switch (publish->state) {
	case PUBLISH_START:
		if (publish_begins(publish)) {
			publish_record(publish, publish->frontend);
			if (job->result == 0 && publish->frontend == FRONTEND_NVME) {
				job_call(job, export_there);
				AWAIT(publish, PUBLISH_AWAIT_EXPORT, !job->waiting);
				cv->exported = job->result == 0;
			} else if (job->result == 0) {
				publish_ask_launcher(publish);
				AWAIT(publish, PUBLISH_AWAIT_LAUNCHER, !job->waiting);
			}
			/* What a restart could not bring back stays recorded: the next one may. */
			if (job->result < 0 && job->call != NULL) {
				publish_record(publish, FRONTEND_NONE);
			}
		}
		publish->state = PUBLISH_DONE;
		job_end(job);
		return;
	case PUBLISH_DONE:
		return;
	}
}

void job_publish(struct cvolume *cv, enum frontend_kind frontend, struct grpc_call *call)
{
	struct publish_job *publish = job_new(cv, call, "publish", sizeof(*publish), publish_step);

	if (publish != NULL) {
		publish->frontend = frontend;
		publish_step(&publish->job);
	}
}

/* After a restart. */
void control_republish(struct cvolume *cv)
{
	struct control *control = cv->control;

	if (!cv->is_open || cv->job != NULL || control->stopping) {
		return;
	}
	switch (cv->record.frontend) {
	case FRONTEND_NONE:
		return;
	case FRONTEND_NVME:
		if (!cv->exported) {
			job_publish(cv, FRONTEND_NVME, NULL);
		}
		return;
	case FRONTEND_FUSE:
		/* The launcher tells first what it holds. */
		if (cv->held == NULL && (control->link_ready || control->link == NULL)) {
			job_publish(cv, FRONTEND_FUSE, NULL);
		}
		return;
	}
}

/* ---- unpublish ---- */

static void export_removed(void *ctx)
{
	struct job *job = ctx;

	job->cv->blk = NULL;
	reactor_call_return(&job->reactor_call);
}

static void unexport_there(struct job *job)
{
	if (job->cv->blk == NULL) {
		reactor_call_return(&job->reactor_call);
		return;
	}
	nvmet_blk_remove(job->cv->blk, export_removed, job);
}

/* Reactor.  A volume that fails everything for good cannot be flushed: its device must go all the
 * same. */
static void unpublish_look_there(struct job *job)
{
	struct unpublish_job *unpublish = container_of(job, struct unpublish_job, job);
	struct volume_status status;

	unpublish->data_is_lost = false;
	if (job->cv->volume != NULL) {
		volume_get_status(job->cv->volume, &status);
		unpublish->data_is_lost =
			status.state == VOLUME_SUPERSEDED || status.state == VOLUME_FAULTED;
	}
	reactor_call_return(&job->reactor_call);
}

static void unpublish_ask_launcher(struct job *job)
{
	struct unpublish_job *unpublish = container_of(job, struct unpublish_job, job);
	struct cvolume *cv = job->cv;

	/* Its publishing was under way when the nexus started again: as in is_publishing(). */
	unpublish->force = unpublish->force || cv->held->device[0] == '\0';

	uint32_t flags = unpublish->force          ? LAUNCH_FORCE
			 : unpublish->data_is_lost ? LAUNCH_DATA_IS_LOST
						   : 0;

	job->result = launcher_link_unpublish(
		cv->control->link, cv->record.name, flags, launcher_answered, job, &job->err);
	job->waiting = job->result == 0;
}

static bool unpublish_has_device(const struct cvolume *cv)
{
	return cv->held != NULL && !cv->held->gone && cv->control->link != NULL;
}

static void unpublish_step(struct job *job)
{
	struct unpublish_job *unpublish = container_of(job, struct unpublish_job, job);
	struct cvolume *cv = job->cv;

	switch (unpublish->state) {
	case UNPUBLISH_START:
		if (cv->exported) {
			job_call(job, unexport_there);
			AWAIT(unpublish, UNPUBLISH_AWAIT_EXPORT, !job->waiting);
			cv->exported = false;
		}
		if (unpublish_has_device(cv)) {
			job_call(job, unpublish_look_there);
			AWAIT(unpublish, UNPUBLISH_AWAIT_LOOK, !job->waiting);
		}
		if (unpublish_has_device(cv)) {
			unpublish_ask_launcher(job);
			AWAIT(unpublish, UNPUBLISH_AWAIT_LAUNCHER, !job->waiting);
			/* It went meanwhile, by another's force. */
			if (job->result == -ENOENT) {
				job->result = 0;
			}
			/* With force not: the requests of a volume that stalls end with its close.
			 */
			if (job->result == 0) {
				AWAIT(unpublish, UNPUBLISH_AWAIT_FUSE,
					fuse_is_gone(cv) || unpublish->force ||
						cv->forcing != NULL);
			}
		}
		if (job->result == 0 && cv->record.frontend != FRONTEND_NONE) {
			cv->record.frontend = FRONTEND_NONE;
			job_save(job);
		}
		unpublish->state = UNPUBLISH_DONE;
		job_end(job);
		return;
	case UNPUBLISH_DONE:
		return;
	}
}

/* The device goes, whatever its volume is at; the call is answered by the job that follows. */
static void unpublish_by_force(struct cvolume *cv, struct grpc_call *call)
{
	struct err err = {0};

	if (cv->forcing != NULL) {
		grpc_call_failf(call, -EALREADY, "volume %s is being unpublished by force already",
			cv->record.name);
		return;
	}
	cv->forcing = call;
	if (cv->control->link != NULL &&
		launcher_link_unpublish(cv->control->link, cv->record.name, LAUNCH_FORCE,
			launcher_answered_nobody, NULL, &err) < 0) {
		log_warning(daemon_log(cv->control->daemon), "control", "not-forced",
			"volume=%s error=%s", cv->record.name, err.text);
	}
	job_wake(cv);
}

/* Nobody has seen a device yet, so taking it back by force loses nothing.  It may wait for ever:
 * the kernel flushes what it binds a loop device to, which a volume without a quorum does not
 * answer. */
static bool is_publishing(const struct cvolume *cv)
{
	return cv->job != NULL && cv->job->step == publish_step;
}

void job_unpublish(struct cvolume *cv, bool force, struct grpc_call *call)
{
	struct unpublish_job *unpublish;

	if ((force ? cv->job != NULL : is_publishing(cv)) && !cv->control->stopping) {
		unpublish_by_force(cv, call);
		return;
	}
	unpublish = job_new(cv, call, "unpublish", sizeof(*unpublish), unpublish_step);
	if (unpublish != NULL) {
		unpublish->force = force;
		unpublish_step(&unpublish->job);
	}
}
