/* SPDX-License-Identifier: Apache-2.0 */
/* The whole: start, and end in order. */
#include "pool-agent/control/control.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *control_nqn(const struct control *control, char nqn[NVME_NQN_SIZE])
{
	char id[UUID_TEXT_SIZE];

	snprintf(nqn, NVME_NQN_SIZE, "nqn.2025-01.io.strake:pool-agent:%s",
		uuid_to_text(&control->uuid, id));
	return nqn;
}

/* ---- start ---- */

struct start_job {
	struct job job;
	struct agent_options options;
	bool finished;
};

/* In one turn, so that no nexus comes before its replicas are there. */
static void stores_add(struct control *control, struct err *err)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct store *store = control->pools[i].store;
		int result = store == NULL ? 0 : agent_add_store(control->agent, i, store);

		if (result != 0) {
			err_set(err, result, "serve pool %s: %s", control->pools[i].name,
				err_describe(result));
			return;
		}
	}
}

static void start_step(struct task *task)
{
	struct start_job *sj = container_of(task, struct start_job, job.task);
	struct control *control = sj->job.control;

	if (agent_new(real_io(control->real), &sj->options, &control->agent, &sj->job.err) == 0) {
		control->address = sj->options.address;
		control->address.port = agent_port(control->agent);
		stores_add(control, &sj->job.err);
	}
	job_end(&sj->job);
}

static void start_finish(struct job *job)
{
	container_of(job, struct start_job, job)->finished = true;
}

static int agent_try_start(struct control *control, struct err *err)
{
	struct start_job sj = {.options = control->options->agent};

	sj.options.uuid = control->uuid;
	job_init(&sj.job, control, NULL, start_step, start_finish);
	job_look(&sj.job);
	while (!sj.finished) {
		loop_turn(control->loop, -1);
	}
	if (sj.job.err.code != 0) {
		*err = sj.job.err;
	}
	return sj.job.err.code;
}

static int agent_start(struct control *control, struct err *err)
{
	unsigned waited_ms = 0;
	int result;

	do {
		result = agent_try_start(control, err);
	} while (result == -EADDRINUSE && daemon_wait_for_port(&waited_ms));
	return result;
}

int control_start(struct control *control, struct daemon *daemon,
	const struct control_options *options, struct err *err)
{
	int result;

	*control = (struct control){
		.daemon = daemon,
		.loop = daemon_loop(daemon),
		.real = reactor_real(daemon_reactor(daemon)),
		.log = daemon_log(daemon),
		.options = options,
	};
	list_init(&control->queue);
	health_start(control);
	result = state_load(control, err);
	if (result == 0) {
		result = pools_start(control, err);
	}
	return result != 0 ? result : agent_start(control, err);
}

/* ---- end ---- */

enum stop_state { STOP_START, STOP_AWAIT_AGENT, STOP_AWAIT_STORE };

struct stop_job {
	struct job job;
	enum stop_state state;
	unsigned index;
};

static void stop_step(struct task *task)
{
	struct stop_job *sj = container_of(task, struct stop_job, job.task);
	struct control *control = sj->job.control;

	switch (sj->state) {
	case STOP_START:
		if (control->agent != NULL) {
			sj->job.done = false;
			agent_close(control->agent, job_wake, &sj->job);
			AWAIT(sj, STOP_AWAIT_AGENT, sj->job.done);
			control->agent = NULL;
		}
		for (sj->index = 0; sj->index < AGENT_POOLS_MAX; sj->index++) {
			if (control->pools[sj->index].store == NULL) {
				continue;
			}
			store_close(control->pools[sj->index].store, job_op(&sj->job));
			AWAIT(sj, STOP_AWAIT_STORE, sj->job.done);
			control->pools[sj->index].store = NULL;
		}
		job_end(&sj->job);
	}
}

static void stop_finish(struct job *job)
{
	struct stop_job *sj = container_of(job, struct stop_job, job);
	struct control *control = job->control;

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		if (control->pools[i].handle != NULL) {
			real_disk_close(control->pools[i].handle);
			control->pools[i].handle = NULL;
		}
	}
	free(sj);
	health_end(control);
	control->stopped(control->stopped_ctx);
}

/* It is its turn when every change before it has ended. */
static void server_stopped(void *ctx)
{
	struct control *control = ctx;
	struct stop_job *sj = calloc(1, sizeof(*sj));

	if (sj == NULL) {
		/* What was acknowledged as flushed is safe without an orderly end. */
		abort();
	}
	job_init(&sj->job, control, NULL, stop_step, stop_finish);
	job_change(&sj->job, NULL);
}

void control_stop(struct control *control, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx)
{
	assert(!control->stopping);
	control->stopping = true;
	control->stopped = stopped;
	control->stopped_ctx = ctx;
	loop_timer_stop(&control->retry);
	health_stop(control);
	daemon_stop_serving(control->daemon, grace_ms, server_stopped, control);
}
