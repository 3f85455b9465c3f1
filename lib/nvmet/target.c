/* SPDX-License-Identifier: Apache-2.0 */
/* The port: its listener, its subsystems, and the end of everything that belongs to it. */
#include "base/bytes.h"
#include "nvmet/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

/* ---- the discovery subsystem: no namespaces ---- */

static bool discovery_ns_info(
	struct nvmet_subsys *subsys, uint32_t nsid, struct nvmet_ns_info *ret_info)
{
	(void)subsys;
	(void)nsid;
	(void)ret_info;
	return false;
}

static uint32_t discovery_ns_next(struct nvmet_subsys *subsys, uint32_t after)
{
	(void)subsys;
	(void)after;
	return 0;
}

static void discovery_io(struct nvmet_subsys *subsys, struct nvmet_req *req)
{
	(void)subsys;
	nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
}

static const struct nvmet_subsys_ops discovery_ops = {
	.ns_info = discovery_ns_info,
	.ns_next = discovery_ns_next,
	.io = discovery_io,
};

/* ---- what is over ---- */

static void reap_ctrls(struct nvmet *target)
{
	list_for_each_safe (&target->ctrls, node, following) {
		struct nvmet_ctrl *ctrl = container_of(node, struct nvmet_ctrl, node);

		if (ctrl->gone && ctrl->counted == 0) {
			ctrl_free(ctrl);
		}
	}
}

static void reap_subsystems(struct nvmet *target)
{
	list_for_each_safe (&target->subsystems, node, following) {
		struct nvmet_subsys *subsys = container_of(node, struct nvmet_subsys, node);

		if (subsys->ctrl_count > 0 || (!subsys->removing && !target->closing)) {
			continue;
		}
		list_remove(&subsys->node);
		if (subsys->removing && subsys->removed != NULL) {
			subsys->removed(subsys);
			/* It may have removed another one. */
			task_wake(&target->task);
			return;
		}
	}
}

static void target_free(struct nvmet *target)
{
	void (*closed)(void *ctx) = target->closed;
	void *ctx = target->closed_ctx;

	assert(target->counted == 0 && target->conn_count == 0);
	task_done(&target->task);
	io_free(target->io, target);
	closed(ctx);
}

static void target_step(struct task *task)
{
	struct nvmet *target = container_of(task, struct nvmet, task);

	target_run_ready(target);
	reap_ctrls(target);
	fabrics_run_connects(target);
	reap_subsystems(target);
	if (target->closing && list_is_empty(&target->conns) && list_is_empty(&target->ctrls) &&
		list_is_empty(&target->subsystems)) {
		target_free(target);
	}
}

/* ---- new connections ---- */

static void target_accepted(struct io_listener *listener, struct io_conn *io_conn)
{
	conn_accept(listener->ctx, io_conn);
}

/* ---- the port ---- */

static unsigned default_or_within(unsigned value, unsigned otherwise, unsigned min, unsigned max)
{
	value = value != 0 ? value : otherwise;
	value = value < min ? min : value;
	return value > max ? max : value;
}

static void options_take(struct nvmet *target, const struct nvmet_options *options)
{
	struct nvmet_options *own = &target->options;

	*own = *options;
	own->queue_depth = default_or_within(
		options->queue_depth, QUEUE_DEPTH_DEFAULT, QUEUE_DEPTH_MIN, QUEUE_DEPTH_MAX);
	own->queues_max = default_or_within(options->queues_max, QUEUES_MAX_DEFAULT, 2, UINT16_MAX);
	own->requests_max =
		default_or_within(options->requests_max, REQUESTS_MAX_DEFAULT, 1, UINT32_MAX);
	(void)snprintf(target->discovery_nqn, sizeof(target->discovery_nqn), "%s",
		options->discovery_nqn != NULL ? options->discovery_nqn : NVME_DISCOVERY_NQN);
	own->discovery_nqn = target->discovery_nqn;
}

static void discovery_init(struct nvmet *target)
{
	struct nvmet_subsys *discovery = &target->discovery;

	discovery->ops = &discovery_ops;
	discovery->ctx = target;
	discovery->allow_any_host = true;
	(void)snprintf(discovery->nqn, sizeof(discovery->nqn), "%s", target->discovery_nqn);
	(void)snprintf(discovery->serial, sizeof(discovery->serial), "discovery");
	(void)snprintf(discovery->model, sizeof(discovery->model), "Strake discovery");
}

int nvmet_new(struct io *io, const struct nvmet_options *options, struct nvmet **ret_target,
	struct err *err)
{
	struct nvmet *target = io_zalloc(io, sizeof(*target));
	int result;

	assert(options->buffers != NULL);
	if (target == NULL) {
		return err_set(err, -ENOMEM, "out of memory");
	}
	target->io = io;
	options_take(target, options);
	list_init(&target->subsystems);
	list_init(&target->ctrls);
	list_init(&target->conns);
	list_init(&target->ready);
	task_init(&target->task, &io->runq, target_step);
	discovery_init(target);
	target->listener = (struct io_listener){
		.address = options->address, .accepted = target_accepted, .ctx = target};
	result = io_listen(io, &target->listener, err);
	if (result != 0) {
		io_free(io, target);
		return result;
	}
	*ret_target = target;
	return 0;
}

void nvmet_close(struct nvmet *target, void (*closed)(void *ctx), void *ctx)
{
	assert(!target->closing);
	target->closing = true;
	target->closed = closed;
	target->closed_ctx = ctx;
	io_unlisten(target->io, &target->listener);
	list_for_each (&target->conns, node) {
		conn_shut(container_of(node, struct conn, node));
	}
	task_wake(&target->task);
}

uint16_t nvmet_port(const struct nvmet *target)
{
	return target->listener.address.port;
}

void nvmet_get_stats(const struct nvmet *target, struct nvmet_stats *ret_stats)
{
	*ret_stats = target->stats;
}

/* ---- subsystems ---- */

static bool is_discovery_nqn(const struct nvmet *target, const char *nqn)
{
	return strcmp(nqn, NVME_DISCOVERY_NQN) == 0 || strcmp(nqn, target->discovery_nqn) == 0;
}

struct nvmet_subsys *target_find_subsys(struct nvmet *target, const char *nqn)
{
	if (target->closing) {
		return NULL;
	}
	if (is_discovery_nqn(target, nqn)) {
		return &target->discovery;
	}
	list_for_each (&target->subsystems, node) {
		struct nvmet_subsys *subsys = container_of(node, struct nvmet_subsys, node);

		if (strcmp(subsys->nqn, nqn) == 0 && !subsys->removing) {
			return subsys;
		}
	}
	return NULL;
}

bool target_host_allowed(struct nvmet_subsys *subsys, const char *hostnqn)
{
	if (subsys->allow_any_host) {
		return true;
	}
	for (unsigned i = 0; i < subsys->allowed_host_count; i++) {
		if (strcmp(subsys->allowed_hosts[i], hostnqn) == 0) {
			return true;
		}
	}
	return subsys->ops->host_allowed != NULL && subsys->ops->host_allowed(subsys, hostnqn);
}

static void discovery_changed(struct nvmet *target)
{
	target->discovery_generation++;
	list_for_each (&target->ctrls, node) {
		struct nvmet_ctrl *ctrl = container_of(node, struct nvmet_ctrl, node);

		if (ctrl_is_discovery(ctrl)) {
			ctrl->discovery_changed.pending = true;
			ctrl_send_events(ctrl);
		}
	}
}

int nvmet_add(struct nvmet *target, struct nvmet_subsys *subsys)
{
	if (is_discovery_nqn(target, subsys->nqn)) {
		return -EEXIST;
	}
	/* Also one that is being removed: its memory is still in the list. */
	list_for_each (&target->subsystems, node) {
		if (strcmp(container_of(node, struct nvmet_subsys, node)->nqn, subsys->nqn) == 0) {
			return -EEXIST;
		}
	}
	subsys->ctrl_count = 0;
	subsys->removing = false;
	list_push_back(&target->subsystems, &subsys->node);
	if (subsys->in_discovery) {
		discovery_changed(target);
	}
	return 0;
}

void nvmet_remove(struct nvmet *target, struct nvmet_subsys *subsys)
{
	assert(!subsys->removing);
	subsys->removing = true;
	list_for_each (&target->ctrls, node) {
		struct nvmet_ctrl *ctrl = container_of(node, struct nvmet_ctrl, node);

		if (ctrl->subsys == subsys) {
			nvmet_ctrl_drop(ctrl);
		}
	}
	if (subsys->in_discovery) {
		discovery_changed(target);
	}
	task_wake(&target->task);
}

void nvmet_namespaces_changed(struct nvmet *target, struct nvmet_subsys *subsys)
{
	list_for_each (&target->ctrls, node) {
		struct nvmet_ctrl *ctrl = container_of(node, struct nvmet_ctrl, node);

		if (ctrl->subsys == subsys) {
			ctrl->namespaces_changed.pending = true;
			ctrl_send_events(ctrl);
		}
	}
}
