/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data subsystem: which hosts may connect, associations and what they hold, heartbeats, and the
 * way of each command to its handler.
 */
#include "base/bytes.h"
#include "pool-agent/internal.h"

#include <assert.h>
#include <string.h>

/* ---- associations ---- */

struct assoc *assoc_peek(const struct nvmet_req *req)
{
	return *nvmet_ctrl_owner(req->ctrl);
}

struct assoc *assoc_of(struct agent *agent, struct nvmet_req *req)
{
	struct assoc *assoc = assoc_peek(req);

	if (assoc != NULL) {
		return assoc;
	}
	assoc = io_zalloc(agent->io, sizeof(*assoc));
	if (assoc == NULL) {
		return NULL;
	}
	assoc->agent = agent;
	assoc->ctrl = req->ctrl;
	list_init(&assoc->claims);
	list_init(&assoc->lost);
	list_push_back(&agent->assocs, &assoc->node);
	*nvmet_ctrl_owner(req->ctrl) = assoc;
	return assoc;
}

struct claim *claim_find(const struct ns *ns, const struct assoc *assoc)
{
	list_for_each (&ns->claims, node) {
		struct claim *claim = container_of(node, struct claim, ns_node);

		if (claim->assoc == assoc) {
			return claim;
		}
	}
	return NULL;
}

struct claim *claim_get(struct ns *ns, struct assoc *assoc)
{
	struct claim *claim = claim_find(ns, assoc);

	if (claim != NULL) {
		return claim;
	}
	claim = io_zalloc(ns->agent->io, sizeof(*claim));
	if (claim == NULL) {
		return NULL;
	}
	claim->assoc = assoc;
	claim->ns = ns;
	claim->nsid = ns->nsid;
	claim->status = WIRE_STATUS_STALE_TOKEN;
	list_push_back(&assoc->claims, &claim->assoc_node);
	list_push_back(&ns->claims, &claim->ns_node);
	return claim;
}

static void claim_free(struct claim *claim)
{
	struct io *io = claim->assoc->agent->io;

	claim_answer(claim, NVME_SC_ABORTED_SQ_DELETION);
	list_remove(&claim->assoc_node);
	list_remove_if_linked(&claim->ns_node);
	list_remove_if_linked(&claim->lost_node);
	io_free(io, claim);
}

static void claim_lose(struct claim *claim)
{
	struct assoc *assoc = claim->assoc;

	list_remove_if_linked(&claim->lost_node);
	assoc->list_number++;
	claim->lost_number = assoc->list_number;
	list_push_back(&assoc->lost, &claim->lost_node);
}

void claim_regain(struct claim *claim)
{
	list_remove_if_linked(&claim->lost_node);
}

void ns_lose(struct ns *ns)
{
	struct claim *claim;

	if (ns->assoc == NULL) {
		return;
	}
	claim = claim_find(ns, ns->assoc);
	assert(claim != NULL);
	claim_lose(claim);
	ns->assoc = NULL;
}

void ns_drop_claims(struct ns *ns)
{
	struct list_node *node;

	ns_lose(ns);
	ns->wanted_assoc = NULL;
	while ((node = list_pop_front(&ns->claims)) != NULL) {
		struct claim *claim = container_of(node, struct claim, ns_node);

		claim->ns = NULL;
		claim_answer(claim, NVME_SC_INVALID_NAMESPACE);
		if (!list_is_linked(&claim->lost_node)) {
			claim_free(claim);
		}
	}
}

/* The cur of its namespaces keeps the token and has no association; a FENCE under way goes on
 * without it. */
static void ctrl_gone(struct nvmet_subsys *subsys, struct nvmet_ctrl *ctrl)
{
	struct agent *agent = subsys->ctx;
	struct assoc *assoc = *nvmet_ctrl_owner(ctrl);
	struct list_node *node;

	if (assoc == NULL) {
		return;
	}
	*nvmet_ctrl_owner(ctrl) = NULL;
	while ((node = list_first(&assoc->claims)) != NULL) {
		struct claim *claim = container_of(node, struct claim, assoc_node);
		struct ns *ns = claim->ns;

		if (ns != NULL && ns->assoc == assoc) {
			ns->assoc = NULL;
		}
		if (ns != NULL && ns->wanted_assoc == assoc) {
			ns->wanted_assoc = NULL;
		}
		claim_free(claim);
	}
	log_info(
		&agent->io->log, "agent", "association-ended", "host=%s", nvmet_ctrl_hostnqn(ctrl));
	list_remove(&assoc->node);
	io_free(agent->io, assoc);
	task_wake(&agent->close_task);
}

/* ---- heartbeats ---- */

void assoc_heartbeat(struct agent *agent, struct nvmet_req *req)
{
	struct assoc *assoc = assoc_of(agent, req);
	struct wire_heartbeat heartbeat = {
		.boot = agent->boot,
		.stopping = agent->closing,
		.restart_wait_ms = agent->restart_wait_ms,
	};

	if (req->length != WIRE_HEARTBEAT_SIZE) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	if (assoc == NULL) {
		nvmet_req_complete(req, NVME_SC_INTERNAL_ERROR, 0);
		return;
	}
	list_for_each_safe (&assoc->lost, node, following) {
		struct claim *claim = container_of(node, struct claim, lost_node);

		if (claim->lost_number <= req->sqe.cdw10) {
			list_remove(&claim->lost_node);
			if (claim->ns == NULL) {
				claim_free(claim);
			}
		} else if (heartbeat.lost_count < WIRE_HEARTBEAT_LOST_MAX) {
			heartbeat.lost[heartbeat.lost_count++] = claim->nsid;
		} else {
			heartbeat.all = true;
		}
	}
	heartbeat.list_number = assoc->list_number;
	if (agent->closing) {
		assoc->told = true;
		task_wake(&agent->close_task);
	}
	wire_heartbeat_encode(&heartbeat, req->iov.iov_base);
	nvmet_req_complete(req, NVME_SC_SUCCESS, 0);
}

/* ---- the subsystem ---- */

static bool host_allowed(struct nvmet_subsys *subsys, const char *hostnqn)
{
	struct uuid host;

	(void)subsys;
	return strncmp(hostnqn, AGENT_HOST_PREFIX, strlen(AGENT_HOST_PREFIX)) == 0 &&
	       uuid_parse(hostnqn + strlen(AGENT_HOST_PREFIX), &host) == 0;
}

static bool ns_info(struct nvmet_subsys *subsys, uint32_t nsid, struct nvmet_ns_info *ret_info)
{
	struct ns *ns = agent_find_ns(subsys->ctx, nsid);

	if (ns == NULL) {
		return false;
	}
	*ret_info = (struct nvmet_ns_info){
		.block_count = ns->size_bytes / STORE_BLOCK_BYTES,
		.block_bytes = STORE_BLOCK_BYTES,
		.uuid = ns->id,
	};
	return true;
}

static uint32_t ns_next(struct nvmet_subsys *subsys, uint32_t after)
{
	struct agent *agent = subsys->ctx;
	uint32_t slot = after % AGENT_NSID_POOL;

	for (uint32_t i = after / AGENT_NSID_POOL; i < AGENT_POOLS_MAX; i++, slot = 0) {
		const struct agent_pool *pool = &agent->pools[i];

		for (; pool->store != NULL && slot < pool->slot_count; slot++) {
			if (pool->slots[slot] != NULL && !pool->slots[slot]->removing) {
				return i * AGENT_NSID_POOL + slot + 1;
			}
		}
	}
	return 0;
}

static void io_command(struct nvmet_subsys *subsys, struct nvmet_req *req)
{
	if (req->sqe.opcode >= NVME_IO_VENDOR_FIRST) {
		replica_io_command(subsys->ctx, req);
	} else if (req->sqe.opcode == NVME_IO_READ || req->sqe.opcode == NVME_IO_WRITE ||
		   req->sqe.opcode == NVME_IO_FLUSH || req->sqe.opcode == NVME_IO_WRITE_ZEROES ||
		   req->sqe.opcode == NVME_IO_DATASET_MANAGEMENT ||
		   req->sqe.opcode == NVME_IO_COMPARE) {
		/* They carry no session: nothing would tell a late one from a current one. */
		nvmet_req_complete(req, NVME_SC_ACCESS_DENIED, 0);
	} else {
		nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
	}
}

static void admin_vendor(struct nvmet_subsys *subsys, struct nvmet_req *req)
{
	struct agent *agent = subsys->ctx;

	switch (req->sqe.opcode) {
	case WIRE_FENCE:
		fence_command(agent, req);
		return;
	case WIRE_VOTER_STATE:
		fence_voter_state(agent, req);
		return;
	case WIRE_RELEASE:
		fence_release(agent, req);
		return;
	case WIRE_MARK:
	case WIRE_ACCEPT:
	case WIRE_RESIZE:
	case WIRE_RESYNCED:
	case WIRE_SNAPSHOT_PREPARE:
	case WIRE_SNAPSHOT_RESOLVE:
		voter_command(agent, req);
		return;
	case WIRE_HEARTBEAT:
		assoc_heartbeat(agent, req);
		return;
	case WIRE_STAMPS:
		replica_stamps(agent, req);
		return;
	case WIRE_WINDOW:
		replica_window(agent, req);
		return;
	case WIRE_STAMP:
		replica_raise_stamp(agent, req);
		return;
	case WIRE_SNAPSHOT_LIST:
		snapshot_list(agent, req);
		return;
	default:
		nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
	}
}

const struct nvmet_subsys_ops data_subsystem_ops = {
	.ns_info = ns_info,
	.ns_next = ns_next,
	.io = io_command,
	.admin_vendor = admin_vendor,
	.ctrl_gone = ctrl_gone,
	.host_allowed = host_allowed,
};
