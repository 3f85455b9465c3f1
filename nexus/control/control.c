/* SPDX-License-Identifier: Apache-2.0 */
/* Start and end of the nexus's control side. */
#include "nexus/control/control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* For the copies of rebuilds and resyncs. */
#define COPY_BUFFER_BYTES (4u * 1024 * 1024)

/* ---- start ---- */

static void nexus_make(void *ctx)
{
	struct control *control = ctx;
	struct nexus_options options = {.host_uuid = control->uuid,
		.buffer_bytes = COPY_BUFFER_BYTES,
		.dirty_bytes = control->options.dirty_bytes,
		.rebuilds = control->options.rebuilds,
		.rebuild_rate_min = control->options.rebuild_rate_min,
		.rebuild_rate_max = control->options.rebuild_rate_max};

	control->result =
		nexus_new(daemon_io(control->daemon), &options, &control->nexus, &control->err);
}

static void record_found(
	void *ctx, const char *file, const struct volume_record *record, const struct err *err)
{
	struct control *control = ctx;

	if (record == NULL) {
		/* The other volumes go on; nothing is overwritten, because the name stays in the
		 * folder. */
		log_error(daemon_log(control->daemon), "control", "bad-state-file",
			"file=%s error=%s", file, err->text);
	} else if (cvolume_new(control, record) == NULL) {
		log_error(daemon_log(control->daemon), "control", "no-memory", "file=%s", file);
	}
}

static void link_readable(struct loop_watch *watch, uint32_t events)
{
	struct control *control = container_of(watch, struct control, link_watch);

	(void)events;
	launcher_link_process(control->link);
}

static int start_link(struct control *control, struct err *err)
{
	int result = launcher_link_new(&control_link_ops, control, daemon_log(control->daemon),
		&control->link, &control->link_err);

	if (result == -ENOENT) {
		return 0;
	}
	if (result < 0) {
		*err = control->link_err;
		return result;
	}
	control->link_watch.fd = launcher_link_fd(control->link);
	control->link_watch.events = EPOLLIN;
	control->link_watch.ready = link_readable;
	result = loop_watch_add(daemon_loop(control->daemon), &control->link_watch);
	return result < 0 ? err_set(err, result, "watch the launcher: %s", err_describe(result))
			  : 0;
}

/* What the process before died of is counted against the volume that it worked on. */
static void count_crash(struct control *control)
{
	const struct trace_crash *died = daemon_predecessor(control->daemon);
	const char *folder = daemon_state_folder(control->daemon);
	const struct log *log = daemon_log(control->daemon);
	struct err err = {0};

	if (crashes_load(folder, &control->crashes, &err) < 0) {
		log_error(log, "control", "bad-state-file", "error=%s", err.text);
	}
	if (died->signal == 0 || !died->on_data_thread || died->work.operation == TRACE_WORK_NONE) {
		return;
	}
	list_for_each (&control->volumes, node) {
		const struct volume_record *record =
			&container_of(node, struct cvolume, node)->record;

		if (trace_object(&record->uuid) != died->work.object) {
			continue;
		}
		crashes_add(&control->crashes, &record->uuid, record->attach,
			trace_work_name(died->work.operation), (uint64_t)time(NULL));
		log_error(log, "control", "died-of-volume", "volume=%s work=%s count=%u",
			record->name, trace_work_name(died->work.operation),
			crashes_find(&control->crashes, &record->uuid, record->attach)->count);
		if (crashes_save(folder, &control->crashes, &err) < 0) {
			log_error(log, "control", "crash-not-saved", "error=%s", err.text);
		}
	}
}

/* What may end this process, too, comes last. */
static void open_all(struct control *control, bool suspect)
{
	list_for_each_safe (&control->volumes, node, following) {
		struct cvolume *cv = container_of(node, struct cvolume, node);
		bool is_suspect = crashes_find(&control->crashes, &cv->record.uuid,
					  cv->record.attach) != NULL;

		if (cv->record.opened && is_suspect == suspect) {
			job_open(cv, 0, NULL, NULL);
		}
	}
}

int control_start(struct control *control, struct daemon *daemon,
	const struct control_options *options, struct err *err)
{
	char path[PATH_MAX];

	memset(control, 0, sizeof(*control));
	control->daemon = daemon;
	control->options = *options;
	list_init(&control->volumes);
	(void)snprintf(path, sizeof(path), "%.*s/uuid", PATH_MAX - 8, daemon_state_folder(daemon));
	if (uuid_is_nil(&options->uuid)) {
		int result = file_uuid(path, &control->uuid, err);

		if (result < 0) {
			return result;
		}
	} else {
		control->uuid = options->uuid;
	}
	reactor_ask(daemon_reactor(daemon), nexus_make, control);
	if (control->result < 0) {
		*err = control->err;
		return control->result;
	}
	int result = volume_records_load(daemon_state_folder(daemon), record_found, control, err);

	if (result < 0) {
		return result;
	}
	count_crash(control);
	result = start_link(control, err);
	if (result < 0) {
		return result;
	}
	open_all(control, false);
	open_all(control, true);
	return 0;
}

/* ---- stop ---- */

/* Reactor: one of the volume's parts is gone. */
static void volume_part_gone(struct cvolume *cv)
{
	if (--cv->stop_pending > 0) {
		return;
	}
	if (cv->inc_posted) {
		cv->inc_waiter = &cv->stop_call;
	} else {
		reactor_call_return(&cv->stop_call);
	}
}

static void stop_blk_removed(void *ctx)
{
	struct cvolume *cv = ctx;

	cv->blk = NULL;
	volume_part_gone(cv);
}

static void stop_volume_closed(void *ctx)
{
	struct cvolume *cv = ctx;

	cv->volume = NULL;
	volume_part_gone(cv);
}

/* Reactor.  Nothing is waited for in between: a volume that stalls would keep its export, whose
 * requests end with the volume. */
static void stop_volume_there(struct reactor_call *call)
{
	struct cvolume *cv = container_of(call, struct cvolume, stop_call);

	cv->stop_pending = cv->blk != NULL ? 2 : 1;
	if (cv->blk != NULL) {
		nvmet_blk_remove(cv->blk, stop_blk_removed, cv);
	}
	volume_close(cv->volume, stop_volume_closed, cv);
}

static void stop_volume_returned(struct reactor_call *call)
{
	struct cvolume *cv = container_of(call, struct cvolume, stop_call);

	cv->stop_busy = false;
	cv->is_open = false;
	control_stop_step(cv->control);
}

/* Reactor. */
static void nexus_closed(void *ctx)
{
	struct control *control = ctx;

	bufpool_free(control->target_buffers);
	reactor_call_return(&control->call);
}

static void target_closed(void *ctx)
{
	struct control *control = ctx;

	nexus_close(control->nexus, nexus_closed, control);
}

static void close_all_there(struct reactor_call *call)
{
	struct control *control = container_of(call, struct control, call);

	if (control->target != NULL) {
		nvmet_close(control->target, target_closed, control);
	} else {
		nexus_close(control->nexus, nexus_closed, control);
	}
}

static void all_closed(struct reactor_call *call)
{
	struct control *control = container_of(call, struct control, call);
	struct list_node *node;

	loop_watch_remove(daemon_loop(control->daemon), &control->link_watch);
	/* Ends what is still asked of the launcher. */
	launcher_link_free(control->link);
	control->link = NULL;
	while ((node = list_first(&control->volumes)) != NULL) {
		cvolume_free(container_of(node, struct cvolume, node));
	}
	control->stopped(control->stopped_ctx);
}

void control_stop_step(struct control *control)
{
	bool all_are_closed = true;

	list_for_each (&control->volumes, node) {
		struct cvolume *cv = container_of(node, struct cvolume, node);

		if (compare_is_running(cv) || job_is_in_reactor(cv)) {
			return;
		}
	}
	list_for_each (&control->volumes, node) {
		struct cvolume *cv = container_of(node, struct cvolume, node);

		if (cv->is_open && !cv->stop_sent) {
			cv->stop_sent = true;
			cv->stop_busy = true;
			cv->stop_call.run = stop_volume_there;
			cv->stop_call.done = stop_volume_returned;
			reactor_call(daemon_reactor(control->daemon), &cv->stop_call);
		}
		all_are_closed =
			all_are_closed && !cv->is_open && !cv->fuse_busy && !cv->fuse_serves;
	}
	if (all_are_closed && !control->closed_all) {
		control->closed_all = true;
		control->call.run = close_all_there;
		control->call.done = all_closed;
		reactor_call(daemon_reactor(control->daemon), &control->call);
	}
}

void control_stop(struct control *control, void (*stopped)(void *ctx), void *ctx)
{
	control->stopping = true;
	control->stopped = stopped;
	control->stopped_ctx = ctx;
	list_for_each (&control->volumes, node) {
		struct cvolume *cv = container_of(node, struct cvolume, node);

		compare_cancel(cv);
		/* The frontend first: what it has not answered stays in the table for the
		 * successor. */
		fuse_step(cv);
	}
	control_stop_step(control);
}
