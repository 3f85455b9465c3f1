/* SPDX-License-Identifier: Apache-2.0 */
/* How volumes are shown: the fuse frontend with its launcher, and the export over NVMe/TCP. */
#include "nexus/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- fuse ---- */

static void fuse_returned(struct reactor_call *call)
{
	struct cvolume *cv = container_of(call, struct cvolume, fuse_call);

	cv->fuse_busy = false;
	cv->fuse_serves = cv->fuse != NULL;
	if (cv->fuse_result < 0) {
		log_error(daemon_log(cv->control->daemon), "control", "fuse-not-served",
			"volume=%s error=%s", cv->record.name, cv->fuse_err.text);
	}
	fuse_step(cv);
	cvolume_follow_size(cv);
}

static void fuse_start_there(struct reactor_call *call)
{
	struct cvolume *cv = container_of(call, struct cvolume, fuse_call);
	struct fuse_frontend_options options = {
		.fuse_fd = cv->held->fuse_fd,
		.table = cv->held->table,
		.table_bytes = cv->held->table_bytes,
		.dev = volume_blk(cv->volume),
		.name = cv->record.name,
		.object = trace_object(&cv->record.uuid),
	};

	cv->fuse_result = fuse_frontend_new(
		daemon_io(cv->control->daemon), &options, &cv->fuse, &cv->fuse_err);
	reactor_call_return(call);
}

static void fuse_closed(void *ctx)
{
	struct cvolume *cv = ctx;

	cv->fuse = NULL;
	reactor_call_return(&cv->fuse_call);
}

static void fuse_close_there(struct reactor_call *call)
{
	struct cvolume *cv = container_of(call, struct cvolume, fuse_call);

	fuse_frontend_close(cv->fuse, fuse_closed, cv);
}

static void fuse_call(struct cvolume *cv, void (*run)(struct reactor_call *call))
{
	cv->fuse_busy = true;
	cv->fuse_call.run = run;
	cv->fuse_call.done = fuse_returned;
	reactor_call(daemon_reactor(cv->control->daemon), &cv->fuse_call);
}

void fuse_step(struct cvolume *cv)
{
	struct control *control = cv->control;

	if (cv->fuse_busy) {
		return;
	}
	bool wanted = cv->held != NULL && !cv->held->gone && cv->is_open && !control->stopping &&
		      cv->fuse_result == 0;

	if (wanted && !cv->fuse_serves) {
		fuse_call(cv, fuse_start_there);
		return;
	}
	if (!wanted && cv->fuse_serves) {
		fuse_call(cv, fuse_close_there);
		return;
	}
	if (!cv->fuse_serves && cv->held != NULL && cv->held->gone) {
		launcher_link_release(cv->held);
		cv->held = NULL;
		cv->fuse_result = 0;
	}
	job_wake(cv);
	if (control->stopping) {
		control_stop_step(control);
	}
}

bool fuse_is_gone(const struct cvolume *cv)
{
	return !cv->fuse_busy && !cv->fuse_serves && cv->held == NULL;
}

/* ---- what the launcher tells ---- */

static void link_held(struct launcher_volume *held, void *ctx)
{
	struct control *control = ctx;
	struct cvolume *cv = control_find(control, held->name);
	struct err err = {0};

	if (cv == NULL || cv->held != NULL) {
		log_error(daemon_log(control->daemon), "control", "unknown-volume-held",
			"volume=%s hint=%s", held->name,
			"its state file is missing: put it back, or stop the launcher");
		return;
	}
	held->ctx = cv;
	cv->held = held;
	if (cv->record.frontend == FRONTEND_NONE) {
		cv->record.frontend = FRONTEND_FUSE;
		if (cvolume_save(cv, &err) < 0) {
			log_error(daemon_log(control->daemon), "control", "state-not-saved",
				"volume=%s error=%s", cv->record.name, err.text);
		}
	}
	fuse_step(cv);
}

static void link_gone(struct launcher_volume *held, void *ctx)
{
	struct cvolume *cv = held->ctx;

	(void)ctx;
	if (cv == NULL) {
		launcher_link_release(held);
		return;
	}
	fuse_step(cv);
}

static void link_ready(void *ctx)
{
	struct control *control = ctx;

	control->link_ready = true;
	list_for_each_safe (&control->volumes, node, following) {
		control_republish(container_of(node, struct cvolume, node));
	}
}

static void link_lost(void *ctx)
{
	struct control *control = ctx;

	loop_watch_remove(daemon_loop(control->daemon), &control->link_watch);
	list_for_each_safe (&control->volumes, node, following) {
		struct cvolume *cv = container_of(node, struct cvolume, node);

		if (cv->held != NULL) {
			cv->held->gone = true;
			fuse_step(cv);
		}
	}
}

const struct launcher_link_ops control_link_ops = {
	.held = link_held,
	.gone = link_gone,
	.ready = link_ready,
	.lost = link_lost,
};

/* ---- export ---- */

/* The listening socket comes with the first export: a nexus without any has no open port. */
static int make_target(struct control *control, struct err *err)
{
	struct io *io = daemon_io(control->daemon);

	if (bufpool_new(io, control->options.buffer_bytes, &control->target_buffers) < 0) {
		return err_set(err, -ENOMEM, "no memory for the buffers of the export");
	}
	struct nvmet_options options = {
		.address = control->options.export_address,
		.buffers = control->target_buffers,
	};
	int result = nvmet_new(io, &options, &control->target, err);

	if (result < 0) {
		bufpool_free(control->target_buffers);
		control->target_buffers = NULL;
		return err_prefix(err, "export");
	}
	return 0;
}

int export_add(struct cvolume *cv, struct err *err)
{
	struct control *control = cv->control;
	char nqn[NVME_NQN_SIZE];

	if (control->target == NULL && make_target(control, err) < 0) {
		return err->code;
	}
	(void)snprintf(nqn, sizeof(nqn), EXPORT_NQN_PREFIX "%s", cv->record.name);
	return nvmet_blk_new(control->target, daemon_io(control->daemon), volume_blk(cv->volume),
		nqn, &cv->record.uuid, &cv->blk, err);
}
