/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one ladder of a namespace that changes its durable metadata: promises (for FENCE), changes
 * ordered on this machine, ACCEPT, MARK, RESIZE, and snapshots.  One at a time; a FENCE whose older
 * commands have ended goes before all that wait, and these are judged when it is their turn.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "pool-agent/internal.h"

#include <assert.h>
#include <errno.h>

void voter_op_done(struct store_op *op)
{
	struct ns *ns = op->ctx;

	ns->op_done = true;
	task_wake(&ns->task);
}

static void flush_done(struct store_io *io)
{
	struct ns *ns = io->ctx;

	ns->op_done = true;
	task_wake(&ns->task);
}

static void update_start(struct ns *ns)
{
	ns->op = (struct store_op){.done = voter_op_done, .ctx = ns};
	ns->op_done = false;
	store_replica_update(ns->replica, &ns->next, &ns->op);
}

static void flush_start(struct ns *ns)
{
	ns->flush = (struct store_io){.kind = STORE_FLUSH, .done = flush_done, .ctx = ns};
	ns->op_done = false;
	store_submit(ns->replica, &ns->flush);
}

/* ---- promises ---- */

static bool fence_is_ready(const struct ns *ns)
{
	return ns->gate_closed && !ns->fence_failed &&
	       (ns->running == 0 || mutant_is(MUTANT_NO_DRAIN)) && !ns->removing;
}

static bool promise_is_missing(const struct ns *ns)
{
	return epoch_compare(&ns->wanted.epoch, &store_replica_vmeta(ns->replica)->promised) > 0;
}

static void promise_start(struct ns *ns)
{
	ns->next = *store_replica_vmeta(ns->replica);
	ns->next.promised = ns->wanted.epoch;
	if (mutant_is(MUTANT_FENCE_ACCEPTS) && ns->next.cfg.gen != 0) {
		ns->next.cfg.epoch = ns->wanted.epoch;
	}
	update_start(ns);
}

/* A still larger epoch may have asked meanwhile: then the ladder comes here again. */
static void promise_end(struct ns *ns)
{
	if (ns->removing || (ns->op.result == 0 && promise_is_missing(ns))) {
		return;
	}
	fence_finish(ns, ns->op.result);
}

/* ---- changes from this machine ---- */

void agent_replica_change(
	struct agent *agent, struct store_replica *replica, struct agent_change *change)
{
	struct ns *ns = agent_find_replica(agent, replica);

	assert(ns != NULL && !ns->removing);
	change->result = 0;
	list_push_back(&ns->changes, &change->node);
	task_wake(&ns->task);
}

/* false: it is refused, or there is nothing to be done. */
static bool change_apply(struct ns *ns)
{
	struct agent_change *change = ns->change;
	const struct vmeta *vmeta = store_replica_vmeta(ns->replica);

	if (ns->abstains) {
		change->result = err_set(&change->err, -EIO, "%s", ns_why_abstains(ns));
		return false;
	}
	ns->next = *vmeta;
	change->seen = ns->gate_closed ? ns->wanted.epoch : ns->cur.epoch;
	if (epoch_compare(&vmeta->promised, &change->seen) > 0) {
		change->seen = vmeta->promised;
	}
	change->result = change->apply(change, &ns->next);
	return change->result == 0 && !vmeta_equal(&ns->next, vmeta);
}

static bool change_start(struct ns *ns)
{
	ns->change = container_of(list_pop_front(&ns->changes), struct agent_change, node);
	ns->change_fences = false;
	if (!change_apply(ns)) {
		return false;
	}
	if (ns->change->fences) {
		ns->change_fences = true;
		fence_close(ns);
	}
	return true;
}

static bool change_is_alone(const struct ns *ns)
{
	return !ns->change_fences || ns->running == 0;
}

/* What was answered as written is there for whoever comes next. */
static void change_flush(struct ns *ns)
{
	ns->flush.result = 0;
	ns->op_done = true;
	if (ns->change_fences && ns->change->flushes && ns->kind == VOTER_DATA) {
		flush_start(ns);
	}
}

/* true: something is being made durable. */
static bool change_write(struct ns *ns)
{
	if (ns->flush.result != 0) {
		ns->change->result = err_set(
			&ns->change->err, ns->flush.result, "its data could not be flushed");
		return false;
	}
	if (ns->change_fences && !change_apply(ns)) {
		return false;
	}
	update_start(ns);
	return true;
}

static void change_end(struct ns *ns, int result)
{
	struct agent_change *change = ns->change;

	ns->change = NULL;
	if (change->result == 0 && result != 0) {
		change->result = err_set(&change->err, result, "its metadata could not be written");
	}
	if (ns->change_fences && ns->removing) {
		/* The gate stays closed. */
	} else if (ns->change_fences && result != 0) {
		fence_finish(ns, result);
	} else if (ns->change_fences && change->result == 0) {
		fence_nobody(ns, &ns->next.promised);
	} else if (ns->change_fences) {
		fence_reopen(ns);
	}
	change->done(change);
}

/* ---- ACCEPT, MARK, RESIZE ---- */

static uint64_t sqe_u64(uint32_t low, uint32_t high)
{
	return (uint64_t)high << 32 | low;
}

/* May this configuration replace mine?  0 or the refusal (protocol 1.4, ACCEPT).  The one that
 * removes this voter is for it, too: it counts in the majority of those before, and leads whoever
 * still knows only them to the voters of today. */
static uint16_t judge_cfg(const struct ns *ns, const struct cfg *cfg)
{
	const struct cfg *mine = &ns->next.cfg;
	int place = cfg_find(cfg, &ns->id);

	if (cfg->gen == 0 || cfg->min_version > ns->agent->cfg_version ||
		!epoch_equal(&cfg->epoch, &ns->cur.epoch) ||
		(place < 0 ? mine->gen == 0 : cfg->voters[place].kind != ns->kind)) {
		return WIRE_STATUS_REFUSED;
	}
	if (ns->kind == VOTER_DATA && cfg->size_bytes > ns->size_bytes) {
		return WIRE_STATUS_REFUSED;
	}
	if (mine->gen == 0 || cfg_equal(cfg, mine)) {
		return 0;
	}
	if (cfg_compare(cfg, mine) <= 0 ||
		(cfg->lineage != mine->lineage && !mutant_is(MUTANT_LINEAGE_IGNORED))) {
		return WIRE_STATUS_REFUSED;
	}
	return 0;
}

/* What is being written cannot be called clean.  The deliberate bug B9 raises it too early and must
 * get through here. */
static bool clean_is_too_high(uint64_t clean, const struct cfg *cfg)
{
	return clean >= cfg->wgen && !mutant_is(MUTANT_B9);
}

static uint16_t prepare_accept(struct ns *ns)
{
	const struct nvme_sqe *sqe = &ns->req->sqe;
	bool k_is_given = (sqe->cdw12 & 1) != 0;
	uint64_t k = sqe_u64(sqe->cdw10, sqe->cdw11);
	struct cfg cfg;
	uint16_t status;
	int place;

	if (ns->req->length != CFG_ENCODED_SIZE || cfg_decode(ns->req->iov.iov_base, &cfg) != 0) {
		return NVME_SC_INVALID_FIELD;
	}
	status = judge_cfg(ns, &cfg);
	if (status != 0) {
		return status;
	}
	place = cfg_find(&cfg, &ns->id);
	ns->needs_update = !cfg_equal(&cfg, &ns->next.cfg);
	if (ns->next.rebuilding && place >= 0 && cfg.voters[place].insync) {
		/* Data that the copies did not finish must not count as in sync (I5). */
		if (!k_is_given || clean_is_too_high(k, &cfg)) {
			return WIRE_STATUS_REFUSED;
		}
		ns->next.rebuilding = false;
		ns->next.clean = k;
		ns->needs_update = true;
	}
	ns->next.cfg = cfg;
	ns->needs_flush =
		ns->needs_update && ns->kind == VOTER_DATA && !mutant_is(MUTANT_SNAPSHOT_UNFLUSHED);
	return 0;
}

static uint16_t prepare_mark(struct ns *ns)
{
	const struct nvme_sqe *sqe = &ns->req->sqe;
	uint64_t clean = sqe_u64(sqe->cdw10, sqe->cdw11);

	if (ns->kind == VOTER_ARBITER) {
		return WIRE_STATUS_REFUSED;
	}
	if ((sqe->cdw12 & 1) != 0) {
		ns->needs_update = !ns->next.rebuilding;
		ns->next.rebuilding = true;
		return 0;
	}
	if (ns->next.rebuilding || clean_is_too_high(clean, &ns->next.cfg)) {
		return WIRE_STATUS_REFUSED;
	}
	/* It only rises: a late or repeated lower one has been fulfilled already. */
	ns->needs_update = clean > ns->next.clean;
	ns->next.clean = max_u64(clean, ns->next.clean);
	return 0;
}

/* A replica only grows.  An arbiter has no size: whatever it is to be is fine. */
static uint16_t prepare_resize(struct ns *ns)
{
	uint64_t size_bytes = sqe_u64(ns->req->sqe.cdw10, ns->req->sqe.cdw11);

	if (size_bytes == 0 || size_bytes % STORE_BLOCK_BYTES != 0 || size_bytes > REPL_SIZE_MAX) {
		return NVME_SC_INVALID_FIELD;
	}
	if (ns->kind == VOTER_ARBITER) {
		return 0;
	}
	ns->needs_resize = size_bytes > ns->size_bytes;
	return size_bytes < ns->size_bytes ? WIRE_STATUS_REFUSED : 0;
}

static void resize_start(struct ns *ns)
{
	ns->op = (struct store_op){.done = voter_op_done, .ctx = ns};
	ns->op_done = false;
	store_replica_resize(ns->replica, sqe_u64(ns->req->sqe.cdw10, ns->req->sqe.cdw11), &ns->op);
}

static void resize_end(struct ns *ns)
{
	if (ns->op.result != 0) {
		ns->req_status = ns->op.result == -ENOSPC ? NVME_SC_CAPACITY_EXCEEDED
							  : NVME_SC_INTERNAL_ERROR;
		return;
	}
	ns->size_bytes = store_replica_vmeta(ns->replica)->size_bytes;
	agent_namespaces_changed(ns->agent);
}

static uint16_t prepare(struct ns *ns)
{
	switch (ns->req->sqe.opcode) {
	case WIRE_ACCEPT:
		return prepare_accept(ns);
	case WIRE_RESIZE:
		return prepare_resize(ns);
	case WIRE_SNAPSHOT_PREPARE:
	case WIRE_SNAPSHOT_RESOLVE:
		return snapshot_judge(ns);
	default:
		return prepare_mark(ns);
	}
}

/* Takes the oldest command; next becomes what is to be made durable. */
static void command_take(struct ns *ns)
{
	ns->req = container_of(list_pop_front(&ns->queue), struct nvmet_req, owner_node);
	ns->needs_flush = false;
	ns->needs_update = false;
	ns->needs_resize = false;
	ns->needs_resolve = false;
	ns->needs_prepare = false;
	ns->req_result = 0;
	if (!ns_is_current(ns, ns->req, ns->req->sqe.cdw2)) {
		ns->req_status = ns->abstains ? WIRE_STATUS_ABSTAIN : WIRE_STATUS_STALE_TOKEN;
		return;
	}
	ns->next = *store_replica_vmeta(ns->replica);
	ns->req_status = prepare(ns);
	if (ns->req_status != 0) {
		ns->needs_flush = false;
		ns->needs_update = false;
	}
}

static void command_complete(struct ns *ns)
{
	struct nvmet_req *req = ns->req;

	TRACE(ns->agent->io, voter_command, trace_id(&ns->id), req->sqe.opcode, ns->next.cfg.gen,
		ns->req_status);
	ns->req = NULL;
	nvmet_req_complete(req, ns->req_status, ns->req_result);
}

static bool has_work(const struct ns *ns)
{
	return fence_is_ready(ns) || !list_is_empty(&ns->changes) || !list_is_empty(&ns->queue);
}

static void voter_run(struct ns *ns)
{
	switch (ns->state) {
	case VOTER_START:
		for (;;) {
			AWAIT(ns, VOTER_AWAIT_WORK, has_work(ns));
			if (fence_is_ready(ns)) {
				ns->op.result = 0;
				if (promise_is_missing(ns)) {
					promise_start(ns);
					AWAIT(ns, VOTER_AWAIT_PROMISE, ns->op_done);
				}
				promise_end(ns);
				continue;
			}
			if (!list_is_empty(&ns->changes)) {
				ns->op.result = 0;
				if (change_start(ns)) {
					AWAIT(ns, VOTER_AWAIT_DRAIN, change_is_alone(ns));
					change_flush(ns);
					AWAIT(ns, VOTER_AWAIT_DRAINED, ns->op_done);
					if (change_write(ns)) {
						AWAIT(ns, VOTER_AWAIT_CHANGE, ns->op_done);
					}
				}
				change_end(ns, ns->op.result);
				continue;
			}
			command_take(ns);
			if (ns->needs_flush) {
				flush_start(ns);
				AWAIT(ns, VOTER_AWAIT_FLUSH, ns->op_done);
				if (ns->flush.result != 0) {
					ns->req_status = NVME_SC_WRITE_FAULT;
					ns->needs_update = false;
				}
			}
			if (ns->needs_update) {
				update_start(ns);
				AWAIT(ns, VOTER_AWAIT_UPDATE, ns->op_done);
				if (ns->op.result != 0) {
					ns->req_status = NVME_SC_INTERNAL_ERROR;
				}
			}
			if (ns->needs_resize) {
				resize_start(ns);
				AWAIT(ns, VOTER_AWAIT_RESIZE, ns->op_done);
				resize_end(ns);
			}
			if (ns->needs_resolve) {
				snapshot_resolve_start(ns);
				AWAIT(ns, VOTER_AWAIT_RESOLVE, ns->op_done);
				snapshot_resolve_end(ns);
			}
			if (ns->needs_prepare) {
				snapshot_prepare_start(ns);
				AWAIT(ns, VOTER_AWAIT_PREPARE, ns->op_done);
				snapshot_prepare_end(ns);
			}
			command_complete(ns);
		}
	}
}

static void voter_step(struct task *task)
{
	struct ns *ns = container_of(task, struct ns, task);

	voter_run(ns);
	ns_progress(ns);
}

void voter_init(struct ns *ns)
{
	list_init(&ns->changes);
	list_init(&ns->queue);
	task_init(&ns->task, &ns->agent->io->runq, voter_step);
	ns->state = VOTER_START;
}

bool voter_is_idle(const struct ns *ns)
{
	return (ns->state == VOTER_START || ns->state == VOTER_AWAIT_WORK) && !has_work(ns);
}

void voter_drop(struct ns *ns)
{
	struct list_node *node;

	while ((node = list_pop_front(&ns->queue)) != NULL) {
		nvmet_req_complete(container_of(node, struct nvmet_req, owner_node),
			NVME_SC_INVALID_NAMESPACE, 0);
	}
	while ((node = list_pop_front(&ns->changes)) != NULL) {
		struct agent_change *change = container_of(node, struct agent_change, node);

		change->result = err_set(&change->err, -ENOENT, "it is being deleted");
		change->done(change);
	}
}

/* RESYNCED changes nothing durable. */
static uint16_t resynced(struct ns *ns, const struct nvmet_req *req)
{
	if (!ns_is_current(ns, req, req->sqe.cdw2)) {
		return ns->abstains ? WIRE_STATUS_ABSTAIN : WIRE_STATUS_STALE_TOKEN;
	}
	if (ns->kind == VOTER_ARBITER ||
		sqe_u64(req->sqe.cdw10, req->sqe.cdw11) != ns->agent->boot) {
		return WIRE_STATUS_REFUSED;
	}
	return window_resynced(&ns->window, sqe_u64(req->sqe.cdw12, req->sqe.cdw13))
		       ? 0
		       : WIRE_STATUS_REFUSED;
}

void voter_command(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = agent_find_ns(agent, req->sqe.nsid);

	if (ns == NULL) {
		nvmet_req_complete(req, NVME_SC_INVALID_NAMESPACE, 0);
		return;
	}
	if (req->sqe.opcode == WIRE_RESYNCED) {
		nvmet_req_complete(req, resynced(ns, req), 0);
		return;
	}
	list_push_back(&ns->queue, &req->owner_node);
	task_wake(&ns->task);
}
