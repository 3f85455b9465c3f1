/* SPDX-License-Identifier: Apache-2.0 */
/* Associations. */
#include "base/bytes.h"
#include "nvmet/internal.h"

#include <assert.h>
#include <stdio.h>

/* ---- keep-alive ---- */

static void keep_alive_step(struct task *task)
{
	struct nvmet_ctrl *ctrl = container_of(task, struct nvmet_ctrl, task);
	uint64_t deadline_ns = ctrl->alive_ns + ctrl->kato_ms * IO_NS_PER_MS;

	if (ctrl->kato_ms == 0 || ctrl->dropped) {
		return;
	}
	if (io_now_ns(ctrl->target->io) < deadline_ns) {
		io_timer_start(&ctrl->timer, deadline_ns);
		return;
	}
	log_debug(&ctrl->target->io->log, "nvmet", "keep-alive-missed", "host=%s cntlid=%u ms=%u",
		ctrl->hostnqn, ctrl->cntlid, ctrl->kato_ms);
	nvmet_ctrl_drop(ctrl);
}

void ctrl_set_kato(struct nvmet_ctrl *ctrl, uint32_t kato_ms)
{
	uint64_t rounded = round_up_u64(kato_ms, KATO_UNIT_MS);

	ctrl->kato_ms = (uint32_t)min_u64(rounded, UINT32_MAX / KATO_UNIT_MS * KATO_UNIT_MS);
	ctrl->alive_ns = io_now_ns(ctrl->target->io);
	if (ctrl->kato_ms == 0) {
		io_timer_stop(&ctrl->timer);
	} else {
		io_timer_start_after(&ctrl->timer, ctrl->kato_ms * IO_NS_PER_MS);
	}
}

/* ---- life ---- */

struct nvmet_ctrl *ctrl_find(struct nvmet *target, uint16_t cntlid)
{
	list_for_each (&target->ctrls, node) {
		struct nvmet_ctrl *ctrl = container_of(node, struct nvmet_ctrl, node);

		if (ctrl->cntlid == cntlid) {
			return ctrl;
		}
	}
	return NULL;
}

/* There are fewer associations than numbers. */
static uint16_t cntlid_next(struct nvmet *target)
{
	do {
		target->cntlid_last = target->cntlid_last >= CNTLID_MAX
					      ? 1
					      : (uint16_t)(target->cntlid_last + 1u);
	} while (ctrl_find(target, target->cntlid_last) != NULL);
	return target->cntlid_last;
}

struct nvmet_ctrl *ctrl_new(
	struct nvmet *target, struct nvmet_subsys *subsys, const struct nvme_connect_data *data)
{
	struct nvmet_ctrl *ctrl = io_zalloc(target->io, sizeof(*ctrl));

	if (ctrl == NULL) {
		return NULL;
	}
	ctrl->target = target;
	ctrl->subsys = subsys;
	ctrl->cntlid = cntlid_next(target);
	(void)snprintf(
		ctrl->hostnqn, sizeof(ctrl->hostnqn), "%.*s", NVME_NQN_SIZE - 1, data->hostnqn);
	memcpy(ctrl->hostid, data->hostid, sizeof(ctrl->hostid));
	list_init(&ctrl->conns);
	task_init(&ctrl->task, &target->io->runq, keep_alive_step);
	io_timer_init(&ctrl->timer, target->io, &ctrl->task);
	features_init(ctrl);
	list_push_back(&target->ctrls, &ctrl->node);
	subsys->ctrl_count++;
	return ctrl;
}

void ctrl_free(struct nvmet_ctrl *ctrl)
{
	struct nvmet *target = ctrl->target;

	assert(ctrl->counted == 0 && list_is_empty(&ctrl->conns));
	ctrl->subsys->ctrl_count--;
	list_remove(&ctrl->node);
	io_timer_stop(&ctrl->timer);
	task_done(&ctrl->task);
	io_free(target->io, ctrl);
	task_wake(&target->task);
}

void ctrl_attach(struct nvmet_ctrl *ctrl, struct conn *conn)
{
	conn->ctrl = ctrl;
	list_push_back(&ctrl->conns, &conn->ctrl_node);
	if (conn->qid == 0) {
		ctrl->admin = conn;
	}
	io_timer_stop(&conn->timer);
}

void ctrl_detach(struct nvmet_ctrl *ctrl, struct conn *conn)
{
	conn->ctrl = NULL;
	list_remove(&conn->ctrl_node);
	if (ctrl->admin == conn) {
		/* Without its admin queue an association is over. */
		ctrl->admin = NULL;
		ctrl->event_count = 0;
		nvmet_ctrl_drop(ctrl);
	}
	if (list_is_empty(&ctrl->conns)) {
		ctrl->dropped = true;
		ctrl->gone = true;
		io_timer_stop(&ctrl->timer);
		if (ctrl->subsys->ops->ctrl_gone != NULL) {
			ctrl->subsys->ops->ctrl_gone(ctrl->subsys, ctrl);
		}
		task_wake(&ctrl->target->task);
	}
}

void nvmet_ctrl_drop(struct nvmet_ctrl *ctrl)
{
	ctrl->dropped = true;
	list_for_each (&ctrl->conns, node) {
		conn_shut(container_of(node, struct conn, ctrl_node));
	}
}

void ctrl_drop_io(struct nvmet_ctrl *ctrl)
{
	list_for_each (&ctrl->conns, node) {
		struct conn *conn = container_of(node, struct conn, ctrl_node);

		if (conn->qid != 0) {
			conn_shut(conn);
		}
	}
}

/* ---- events ---- */

static bool notice_send(struct nvmet_ctrl *ctrl, struct notice *notice, uint32_t enabled,
	uint32_t information, uint32_t page)
{
	if (!notice->pending || notice->masked || ctrl->event_count == 0) {
		return false;
	}
	if ((ctrl->features[FEATURE_ASYNC_EVENTS] & enabled) == 0) {
		notice->pending = false;
		return false;
	}
	notice->pending = false;
	notice->masked = true;
	ctrl->event_count--;
	request_answer(ctrl->events[ctrl->event_count], NVME_SC_SUCCESS,
		NVME_EVENT_TYPE_NOTICE | information << 8 | page << 16);
	return true;
}

void ctrl_send_events(struct nvmet_ctrl *ctrl)
{
	(void)notice_send(ctrl, &ctrl->namespaces_changed, NVME_OAES_NAMESPACES,
		NVME_EVENT_NOTICE_NAMESPACES, NVME_LOG_CHANGED_NAMESPACES);
	(void)notice_send(ctrl, &ctrl->discovery_changed, NVME_OAES_DISCOVERY,
		NVME_EVENT_NOTICE_DISCOVERY, NVME_LOG_DISCOVERY);
}

/* ---- what others ask ---- */

bool ctrl_is_discovery(const struct nvmet_ctrl *ctrl)
{
	return ctrl->subsys == &ctrl->target->discovery;
}

unsigned target_io_queues_max(const struct nvmet *target)
{
	return target->options.queues_max - 1;
}

const char *nvmet_ctrl_hostnqn(const struct nvmet_ctrl *ctrl)
{
	return ctrl->hostnqn;
}

uint16_t nvmet_ctrl_id(const struct nvmet_ctrl *ctrl)
{
	return ctrl->cntlid;
}

void **nvmet_ctrl_owner(struct nvmet_ctrl *ctrl)
{
	return &ctrl->owner;
}
