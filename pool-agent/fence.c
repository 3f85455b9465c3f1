/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FENCE (protocol 1.4): an association asks for namespaces with a token each.  A larger token
 * closes the gate at once; when everything older has completed and the epoch is durable, cur
 * becomes (token, association) and the gate opens. That goes on by itself when the command was
 * answered BUSY or its association ended: asking again, with the same token or a higher session,
 * then finds it done.
 */
#include "base/mutant.h"
#include "pool-agent/internal.h"
#include "pool-agent/store/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* In nvmet_req.owner_state while a FENCE waits. */
struct fence_command {
	struct task task;
	struct io_timer timer;
	struct nvmet_req *req;
	struct list waiting; /* claims */
	uint64_t failed;     /* entries that were not granted */
};
_Static_assert(sizeof(struct fence_command) <= sizeof(((struct nvmet_req *)0)->owner_state),
	"a FENCE keeps its state in the request");

/* The largest token that was ever let in: what a refusal shows. */
static const struct token *ns_top(const struct ns *ns)
{
	return ns->gate_closed ? &ns->wanted : &ns->cur;
}

bool ns_is_current(struct ns *ns, const struct nvmet_req *req, uint32_t session)
{
	const struct assoc *assoc = assoc_peek(req);

	if (assoc != NULL && !ns->gate_closed && ns->assoc == assoc && ns->cur.session == session) {
		return true;
	}
	if (mutant_is(MUTANT_ANY_ASSOCIATION) && !ns->gate_closed && ns->cur.session == session) {
		return true;
	}
	metric_inc(&ns->refused, 1);
	return false;
}

void claim_answer(struct claim *claim, uint32_t status)
{
	struct fence_command *command = claim->command;

	claim->status = status;
	if (command == NULL) {
		return;
	}
	claim->command = NULL;
	list_remove(&claim->wait_node);
	command->failed += status != 0;
	task_wake(&command->task);
}

/* A replica with a key is for those alone whom the controller gave the attachment. */
static bool ns_authorizes(
	const struct ns *ns, const struct assoc *assoc, const struct wire_fence_entry *entry)
{
	const struct vmeta *vmeta = store_replica_vmeta(ns->replica);
	struct uuid node;

	if (vmeta->keys[0].number == 0) {
		return true;
	}
	/* Its form was tested when it connected. */
	if (uuid_parse(nvmet_ctrl_hostnqn(assoc->ctrl) + strlen(AGENT_HOST_PREFIX), &node) != 0) {
		return false;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (capability_fits(&entry->capability, &vmeta->keys[i], &vmeta->volume,
			    entry->token.epoch.attach, &node)) {
			return true;
		}
	}
	return false;
}

/* What the token means for the namespace now: 0 it is current, FENCE_WAITING it was let in, else a
 * refusal. */
static uint32_t ns_judge(struct ns *ns, struct assoc *assoc, const struct wire_fence_entry *entry)
{
	const struct token *token = &entry->token;
	const struct token *top = ns_top(ns);
	const struct assoc *top_assoc = ns->gate_closed ? ns->wanted_assoc : ns->assoc;

	if (ns->abstains) {
		return WIRE_STATUS_ABSTAIN;
	}
	if (!uuid_equal(&entry->replica, &ns->id)) {
		return WIRE_STATUS_WRONG_REPLICA;
	}
	if (!ns_authorizes(ns, assoc, entry)) {
		return WIRE_STATUS_UNAUTHORIZED;
	}
	if (ns->export != NULL) {
		return WIRE_STATUS_REFUSED;
	}
	if (token_equal(token, top) && assoc == top_assoc) {
		return ns->gate_closed ? FENCE_WAITING : 0;
	}
	if (token_compare(token, top) <= 0 || (epoch_compare(&token->epoch, &top->epoch) == 0 &&
						      token->epoch.nonce != top->epoch.nonce)) {
		return WIRE_STATUS_STALE_TOKEN;
	}
	return FENCE_WAITING;
}

/* One entry: recorded in the association's claim; false when memory is short. */
static bool fence_entry(
	struct fence_command *command, struct assoc *assoc, const struct wire_fence_entry *entry)
{
	struct ns *ns = agent_find_ns(assoc->agent, entry->nsid);
	struct claim *claim;
	uint32_t status;

	if (ns == NULL) {
		command->failed++;
		return true;
	}
	claim = claim_get(ns, assoc);
	if (claim == NULL) {
		return false;
	}
	status = ns_judge(ns, assoc, entry);
	/* An earlier FENCE of this association that still waits is answered by this later one. */
	claim_answer(claim, WIRE_STATUS_STALE_TOKEN);
	claim->token = entry->token;
	claim->status = status;
	if (status != FENCE_WAITING) {
		command->failed += status != 0;
		if (status == WIRE_STATUS_STALE_TOKEN) {
			metric_inc(&assoc->agent->fences_refused, 1);
		} else if (status == WIRE_STATUS_UNAUTHORIZED) {
			metric_inc(&assoc->agent->fences_unauthorized, 1);
		}
		return true;
	}
	TRACE(assoc->agent->io, fence, trace_id(&ns->id), 0, entry->token.epoch.inc,
		entry->token.session);
	claim->command = command;
	list_push_back(&command->waiting, &claim->wait_node);
	ns->gate_closed = true;
	ns->wanted = entry->token;
	ns->wanted_assoc = assoc;
	ns->fence_failed = false;
	task_wake(&ns->task);
	return true;
}

static void fence_complete(struct fence_command *command, uint16_t status)
{
	struct nvmet_req *req = command->req;

	assert(list_is_empty(&command->waiting));
	io_timer_stop(&command->timer);
	task_done(&command->task);
	nvmet_req_complete(req, status, command->failed);
}

static void fence_give_up(struct fence_command *command, struct agent *agent)
{
	struct list_node *node;

	while ((node = list_first(&command->waiting)) != NULL) {
		metric_inc(&agent->fences_busy, 1);
		claim_answer(container_of(node, struct claim, wait_node), WIRE_STATUS_BUSY);
	}
}

/* The command ends when every entry is decided, or after FENCE_WAIT_NS. */
static void fence_step(struct task *task)
{
	struct fence_command *command = container_of(task, struct fence_command, task);
	struct agent *agent = command->req->owner_ctx;

	if (!list_is_empty(&command->waiting)) {
		if (io_timer_is_running(&command->timer)) {
			return;
		}
		fence_give_up(command, agent);
	}
	fence_complete(command, NVME_SC_SUCCESS);
}

void fence_command(struct agent *agent, struct nvmet_req *req)
{
	struct fence_command *command = (void *)req->owner_state;
	struct assoc *assoc = assoc_of(agent, req);
	uint32_t count = req->sqe.cdw10;
	const uint8_t *data = req->iov.iov_base;
	struct wire_fence_entry entry;

	if (count == 0 || count > WIRE_FENCE_ENTRIES_MAX ||
		req->length != count * WIRE_FENCE_ENTRY_SIZE) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (wire_fence_entry_decode(data + (size_t)i * WIRE_FENCE_ENTRY_SIZE, &entry) !=
			0) {
			nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
			return;
		}
	}
	if (assoc == NULL) {
		nvmet_req_complete(req, NVME_SC_INTERNAL_ERROR, 0);
		return;
	}
	*command = (struct fence_command){.req = req};
	req->owner_ctx = agent;
	task_init(&command->task, &agent->io->runq, fence_step);
	io_timer_init(&command->timer, agent->io, &command->task);
	list_init(&command->waiting);
	metric_inc(&agent->fences, count);
	for (uint32_t i = 0; i < count; i++) {
		(void)wire_fence_entry_decode(data + (size_t)i * WIRE_FENCE_ENTRY_SIZE, &entry);
		if (!fence_entry(command, assoc, &entry)) {
			/* What was let in goes on; for the host it is as if the answer were lost.
			 */
			fence_give_up(command, agent);
			fence_complete(command, NVME_SC_INTERNAL_ERROR);
			return;
		}
	}
	io_timer_start_after(&command->timer, FENCE_WAIT_NS);
	task_wake(&command->task);
}

/* The association does not want the namespace any more: cur keeps its token, which nobody is given
 * again, and a FENCE of it that is still under way goes on without it. */
void fence_release(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = agent_find_ns(agent, req->sqe.nsid);
	const struct assoc *assoc = assoc_peek(req);
	uint16_t status = WIRE_STATUS_STALE_TOKEN;

	if (ns == NULL) {
		nvmet_req_complete(req, NVME_SC_INVALID_NAMESPACE, 0);
		return;
	}
	if (assoc != NULL && ns->assoc == assoc && ns->cur.session == req->sqe.cdw2) {
		claim_find(ns, assoc)->status = WIRE_STATUS_STALE_TOKEN;
		ns->assoc = NULL;
		status = NVME_SC_SUCCESS;
	}
	if (assoc != NULL && ns->gate_closed && ns->wanted_assoc == assoc &&
		ns->wanted.session == req->sqe.cdw2) {
		claim_answer(claim_find(ns, assoc), WIRE_STATUS_STALE_TOKEN);
		ns->wanted_assoc = NULL;
		status = NVME_SC_SUCCESS;
	}
	nvmet_req_complete(req, status, 0);
}

/* Older commands have ended.  cur moves to the largest token that asked, the gate opens. */
void fence_finish(struct ns *ns, int result)
{
	assert(ns->gate_closed && (ns->running == 0 || mutant_is(MUTANT_NO_DRAIN)));
	TRACE(ns->agent->io, fence_done, trace_id(&ns->id), 0, ns->wanted.epoch.inc,
		(unsigned)-result);
	if (result != 0) {
		/* It is unknown whether the promise is durable: nothing is served until somebody
		 * asks again. */
		ns->fence_failed = true;
		list_for_each (&ns->claims, node) {
			struct claim *claim = container_of(node, struct claim, ns_node);

			if (claim->status == FENCE_WAITING) {
				claim_answer(claim, NVME_SC_INTERNAL_ERROR);
			}
		}
		return;
	}
	assert(token_compare(&ns->wanted, &ns->cur) > 0);
	if (ns->assoc != ns->wanted_assoc) {
		/* Before anybody is answered (protocol 1.9): the reader's lease depends on it. */
		ns_lose(ns);
	}
	if (epoch_compare(&ns->wanted.epoch, &ns->cur.epoch) > 0) {
		window_new_epoch(&ns->window);
	}
	ns->cur = ns->wanted;
	ns->assoc = ns->wanted_assoc;
	ns->wanted_assoc = NULL;
	ns->gate_closed = false;
	list_for_each (&ns->claims, node) {
		struct claim *claim = container_of(node, struct claim, ns_node);
		bool granted = claim->assoc == ns->assoc && token_equal(&claim->token, &ns->cur);

		if (granted) {
			claim_regain(claim);
		}
		if (claim->status == FENCE_WAITING ||
			(granted && claim->status == WIRE_STATUS_BUSY)) {
			claim_answer(claim, granted ? 0 : WIRE_STATUS_STALE_TOKEN);
		}
	}
}

void fence_close(struct ns *ns)
{
	if (!ns->gate_closed) {
		ns->gate_closed = true;
		ns->wanted = ns->cur;
		ns->wanted_assoc = ns->assoc;
	}
}

/* A FENCE that came meanwhile with a higher token goes on by itself. */
void fence_nobody(struct ns *ns, const struct epoch *epoch)
{
	const struct token token = {.epoch = *epoch};

	assert(ns->gate_closed);
	window_invalidate(&ns->window);
	if (token_compare(&token, &ns->wanted) > 0) {
		ns->wanted = token;
		ns->wanted_assoc = NULL;
		fence_finish(ns, 0);
	}
}

void fence_reopen(struct ns *ns)
{
	assert(ns->gate_closed);
	if (!token_equal(&ns->wanted, &ns->cur)) {
		return; /* a FENCE waits, or failed */
	}
	ns->gate_closed = false;
	ns->wanted_assoc = NULL;
	list_for_each (&ns->claims, node) {
		struct claim *claim = container_of(node, struct claim, ns_node);

		if (claim->status == FENCE_WAITING) {
			claim_answer(
				claim, claim->assoc == ns->assoc ? 0 : WIRE_STATUS_STALE_TOKEN);
		}
	}
}

/* What the association's last FENCE of the namespace came to, as of now: cur may have moved since.
 */
static uint32_t claim_status_now(const struct claim *claim, const struct ns *ns)
{
	bool current = !ns->gate_closed && ns->assoc == claim->assoc &&
		       token_equal(&ns->cur, &claim->token);

	if (claim->status == FENCE_WAITING) {
		return WIRE_STATUS_BUSY;
	}
	return claim->status == 0 && !current ? WIRE_STATUS_STALE_TOKEN : claim->status;
}

void fence_voter_state(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = agent_find_ns(agent, req->sqe.nsid);
	struct assoc *assoc = assoc_peek(req);
	struct claim *claim;
	struct wire_voter_state state = {0};

	if (ns == NULL) {
		nvmet_req_complete(req, NVME_SC_INVALID_NAMESPACE, 0);
		return;
	}
	if (req->length != WIRE_VOTER_STATE_SIZE) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	claim = assoc == NULL ? NULL : claim_find(ns, assoc);
	if (claim == NULL) {
		/* There was no FENCE whose result could be told. */
		nvmet_req_complete(req, NVME_SC_COMMAND_SEQUENCE_ERROR, 0);
		return;
	}
	state.status = claim_status_now(claim, ns);
	state.cur = state.status == WIRE_STATUS_STALE_TOKEN ? *ns_top(ns) : ns->cur;
	state.power = ns->pool->power;
	state.boot = agent->boot;
	state.block_bytes = STORE_BLOCK_BYTES;
	state.cfg_version = agent->cfg_version;
	state.newer = ns->abstains && ns->newer;
	state.window_valid = ns->window.valid;
	if (!ns->abstains && state.status != WIRE_STATUS_UNAUTHORIZED) {
		state.region_bytes = store_replica_region_bytes(ns->replica);
		state.snapshots = store_replica_has_snapshots(ns->replica);
		state.snapshots_kept = store_snapshots_kept(ns->replica);
		state.vmeta = *store_replica_vmeta(ns->replica);
		/* The keys are for the replica alone. */
		memset(state.vmeta.keys, 0, sizeof(state.vmeta.keys));
	}
	wire_voter_state_encode(&state, req->iov.iov_base);
	nvmet_req_complete(req, NVME_SC_SUCCESS, 0);
}
