/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as a whole: start and end. */
#include "pool-agent/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Nexuses send a heartbeat every 500 ms. */
#define ANNOUNCE_NS        (1000 * IO_NS_PER_MS)
#define ANNOUNCE_LINGER_NS (50 * IO_NS_PER_MS)

void agent_metric_add(struct agent *agent, struct metric *metric, const char *name,
	const char *help, const char *labels)
{
	if (agent->io->metrics != NULL) {
		metric_add(agent->io->metrics, metric, METRIC_COUNTER, name, help, "%s", labels);
	}
}

void agent_metric_remove(struct agent *agent, struct metric *metric)
{
	if (agent->io->metrics != NULL) {
		metric_remove(agent->io->metrics, metric);
	}
}

void agent_namespaces_changed(struct agent *agent)
{
	nvmet_namespaces_changed(agent->target, &agent->subsys);
}

static void metrics_add(struct agent *agent)
{
	agent_metric_add(agent, &agent->fences, "strake_agent_fences_total",
		"Namespaces that nexuses asked for.", "");
	agent_metric_add(agent, &agent->fences_refused, "strake_agent_fences_refused_total",
		"FENCE entries refused for a token that is not larger.", "");
	agent_metric_add(agent, &agent->fences_unauthorized,
		"strake_agent_fences_unauthorized_total",
		"FENCE entries refused without a capability for the attachment and node.", "");
	agent_metric_add(agent, &agent->fences_busy, "strake_agent_fences_busy_total",
		"FENCE entries answered busy: older commands had not ended in time.", "");
}

static void metrics_remove(struct agent *agent)
{
	agent_metric_remove(agent, &agent->fences);
	agent_metric_remove(agent, &agent->fences_refused);
	agent_metric_remove(agent, &agent->fences_unauthorized);
	agent_metric_remove(agent, &agent->fences_busy);
}

static int target_start(struct agent *agent, const struct agent_options *options, struct err *err)
{
	struct nvmet_options target = {
		.address = options->address,
		.buffers = agent->buffers,
		.queues_max = options->queues_max,
		.requests_max = AGENT_REQUESTS,
	};
	char id[UUID_TEXT_SIZE];
	int result = nvmet_new(agent->io, &target, &agent->target, err);

	if (result != 0) {
		return result;
	}
	uuid_to_text(&agent->uuid, id);
	agent->subsys = (struct nvmet_subsys){.ops = &data_subsystem_ops, .ctx = agent};
	snprintf(agent->subsys.nqn, sizeof(agent->subsys.nqn),
		"nqn.2025-01.io.strake:pool-agent:%s", id);
	snprintf(agent->subsys.serial, sizeof(agent->subsys.serial), "%.8s%.4s", id, id + 9);
	snprintf(agent->subsys.model, sizeof(agent->subsys.model), "Strake pool-agent");
	result = nvmet_add(agent->target, &agent->subsys);
	assert(result == 0);
	return result;
}

static void ios_init(struct agent *agent)
{
	list_init(&agent->io_free);
	for (unsigned i = 0; i < AGENT_REQUESTS; i++) {
		list_push_back(&agent->io_free, &agent->ios[i].node);
	}
}

static void close_step(struct task *task);

int agent_new(struct io *io, const struct agent_options *options, struct agent **ret_agent,
	struct err *err)
{
	struct agent *agent = io_zalloc(io, sizeof(*agent));
	int result = -ENOMEM;

	if (agent == NULL) {
		return err_set(err, -ENOMEM, "out of memory");
	}
	agent->io = io;
	agent->uuid = options->uuid;
	agent->boot = rng_u64(&io->rng);
	list_init(&agent->assocs);
	agent->restart_wait_ms = options->restart_wait_ms;
	agent->cfg_version = options->cfg_version != 0 ? options->cfg_version : CFG_VERSION;
	task_init(&agent->close_task, &io->runq, close_step);
	io_timer_init(&agent->close_timer, io, &agent->close_task);
	agent->ios = io_zalloc(io, AGENT_REQUESTS * sizeof(*agent->ios));
	if (agent->ios == NULL ||
		bufpool_new(io, options->buffer_bytes != 0 ? options->buffer_bytes : 8u << 20,
			&agent->buffers) != 0) {
		err_set(err, -ENOMEM, "out of memory for data buffers");
		goto out_free;
	}
	if (windows_init(&agent->windows, io,
		    options->window_entries != 0 ? options->window_entries : WINDOW_ENTRIES_MAX) !=
		0) {
		err_set(err, -ENOMEM, "out of memory for windows");
		goto out_free_buffers;
	}
	if (hashers_init(agent) != 0) {
		err_set(err, -ENOMEM, "out of memory for comparing");
		goto out_free_windows;
	}
	ios_init(agent);
	result = target_start(agent, options, err);
	if (result != 0) {
		goto out_free_hashers;
	}
	metrics_add(agent);
	*ret_agent = agent;
	return 0;

out_free_hashers:
	hashers_done(agent);
out_free_windows:
	windows_done(&agent->windows);
out_free_buffers:
	bufpool_free(agent->buffers);
out_free:
	io_free(io, agent->ios);
	io_free(io, agent);
	return result;
}

uint16_t agent_port(const struct agent *agent)
{
	return nvmet_port(agent->target);
}

static void target_closed(void *ctx)
{
	struct agent *agent = ctx;

	agent->target_closed = true;
	task_wake(&agent->close_task);
}

static bool all_idle(const struct agent *agent)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		const struct agent_pool *pool = &agent->pools[i];

		for (uint32_t slot = 0; pool->store != NULL && slot < pool->slot_count; slot++) {
			if (pool->slots[slot] != NULL && !ns_is_idle(pool->slots[slot])) {
				return false;
			}
		}
	}
	return true;
}

static void close_end(struct agent *agent)
{
	struct io *io = agent->io;
	void (*closed)(void *ctx) = agent->closed;
	void *ctx = agent->closed_ctx;

	assert(list_is_empty(&agent->assocs));
	io_timer_stop(&agent->close_timer);
	task_done(&agent->close_task);
	agent_free_pools(agent);
	hashers_done(agent);
	windows_done(&agent->windows);
	metrics_remove(agent);
	bufpool_free(agent->buffers);
	io_free(io, agent->ios);
	io_free(io, agent);
	closed(ctx);
}

static void exports_remove(struct agent *agent)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		const struct agent_pool *pool = &agent->pools[i];

		for (uint32_t slot = 0; pool->store != NULL && slot < pool->slot_count; slot++) {
			struct ns *ns = pool->slots[slot];

			if (ns != NULL && ns->export != NULL) {
				export_remove(ns->export);
			}
		}
	}
}

/* Nobody is left who does not know, or the time for it is over. */
static bool is_announced(const struct agent *agent)
{
	if (!io_timer_is_running(&agent->close_timer)) {
		return true;
	}
	list_for_each (&agent->assocs, pos) {
		if (!container_of(pos, struct assoc, node)->told) {
			return false;
		}
	}
	return true;
}

static void close_step(struct task *task)
{
	struct agent *agent = container_of(task, struct agent, close_task);

	if (!agent->closing) {
		return;
	}
	switch (agent->state) {
	case AGENT_CLOSE_START:
		io_timer_start_after(&agent->close_timer, ANNOUNCE_NS);
		AWAIT(agent, AGENT_CLOSE_ANNOUNCE, is_announced(agent));
		if (!list_is_empty(&agent->assocs)) {
			/* The last answer is still to be sent. */
			io_timer_start_after(&agent->close_timer, ANNOUNCE_LINGER_NS);
			AWAIT(agent, AGENT_CLOSE_LINGER,
				!io_timer_is_running(&agent->close_timer) ||
					list_is_empty(&agent->assocs));
		}
		io_timer_stop(&agent->close_timer);
		exports_remove(agent);
		AWAIT(agent, AGENT_CLOSE_EXPORTS, agent->export_count == 0);
		nvmet_close(agent->target, target_closed, agent);
		AWAIT(agent, AGENT_CLOSE_TARGET, agent->target_closed && all_idle(agent));
		close_end(agent);
	}
}

void agent_close(struct agent *agent, void (*closed)(void *ctx), void *ctx)
{
	assert(!agent->closing);
	agent->closing = true;
	agent->closed = closed;
	agent->closed_ctx = ctx;
	task_wake(&agent->close_task);
}
