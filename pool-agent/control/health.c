/* SPDX-License-Identifier: Apache-2.0 */
/* Tells health and metrics how the pools are; looks now and then for stores that failed while
 * running. */
#include "pool-agent/control/control.h"

#include <stdio.h>
#include <stdlib.h>

#define HEALTH_LOOK_MS 5000u

/* ---- the report ---- */

static const char *pool_trouble(const struct pool *pool)
{
	if (pool->state == POOL_FAULTED) {
		return pool->reason.text;
	}
	return pool->store_failed ? POOL_STORE_FAILED_TEXT : NULL;
}

void pools_report(struct control *control)
{
	const struct pool *first = NULL;
	unsigned online = 0;
	unsigned faulted = 0;
	char text[256] = "";

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		const struct pool *pool = &control->pools[i];

		if (!pool->used || pool->is_dropped) {
			continue;
		}
		if (pool_trouble(pool) != NULL) {
			faulted++;
			first = first == NULL ? pool : first;
		} else {
			online += pool->state == POOL_ONLINE;
		}
	}
	metric_set(&control->online_metric, online);
	metric_set(&control->faulted_metric, faulted);
	if (first != NULL) {
		snprintf(text, sizeof(text), "%u of %u pools faulted; %s: %.150s", faulted,
			online + faulted, first->name, pool_trouble(first));
	}
	daemon_set_degraded(control->daemon, text);
}

/* ---- the look ---- */

struct health_job {
	struct job job;
	bool failed[AGENT_POOLS_MAX];
};

static void health_step(struct task *task)
{
	struct health_job *hj = container_of(task, struct health_job, job.task);
	struct store_info info;

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		const struct store *store = hj->job.control->pools[i].store;

		if (store != NULL) {
			store_get_info(store, &info);
			hj->failed[i] = info.failed;
		}
	}
	job_end(&hj->job);
}

static void health_finish(struct job *job)
{
	struct health_job *hj = container_of(job, struct health_job, job);
	struct control *control = job->control;

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct pool *pool = &control->pools[i];

		if (hj->failed[i] && !pool->store_failed) {
			log_error(control->log, "pools", "pool-faulted", "pool=%s reason=%s",
				pool->name, POOL_STORE_FAILED_TEXT);
		}
		pool->store_failed = hj->failed[i];
	}
	pools_report(control);
	free(hj);
	if (!control->stopping) {
		loop_timer_start(control->loop, &control->health, HEALTH_LOOK_MS);
	}
}

static void health_expired(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, health);
	struct health_job *hj = calloc(1, sizeof(*hj));

	if (hj == NULL) {
		loop_timer_start(control->loop, &control->health, HEALTH_LOOK_MS);
		return;
	}
	job_init(&hj->job, control, NULL, health_step, health_finish);
	job_look(&hj->job);
}

void health_start(struct control *control)
{
	struct metric_registry *metrics = daemon_metrics(control->daemon);

	metric_add(metrics, &control->online_metric, METRIC_GAUGE, "strake_agent_pools",
		"Pools by state.", "state=\"online\"");
	metric_add(metrics, &control->faulted_metric, METRIC_GAUGE, "strake_agent_pools",
		"Pools by state.", "state=\"faulted\"");
	control->health.expired = health_expired;
	loop_timer_start(control->loop, &control->health, HEALTH_LOOK_MS);
}

/* A look under way is back before whatever is sent to the reactor after this. */
void health_stop(struct control *control)
{
	loop_timer_stop(&control->health);
}

void health_end(struct control *control)
{
	metric_remove(daemon_metrics(control->daemon), &control->online_metric);
	metric_remove(daemon_metrics(control->daemon), &control->faulted_metric);
}
