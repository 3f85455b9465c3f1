/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SNAPSHOT PREPARE, RESOLVE and LIST (docs/protocol.md 1.10).  The first two are a part of the
 * ladder of voter.c: no other change of the replica's metadata, and no FENCE, is in between.  The
 * nexus has stopped its writes: whatever it was told to be complete is in the image.
 */
#include "pool-agent/store/snapshot.h"

#include "base/bytes.h"
#include "base/mutant.h"
#include "pool-agent/internal.h"

#include <errno.h>

static uint64_t number_of(const struct nvme_sqe *sqe)
{
	struct uuid id;

	return wire_snapshot_decode(sqe, &id);
}

/* The number of the kept one with this id; 0: none. */
static uint64_t kept_as(const struct ns *ns, const struct uuid *id)
{
	struct store_snapshot snapshot;
	uint64_t kept = store_snapshots_kept(ns->replica);

	for (uint64_t number = 1; number <= kept; number++) {
		if (store_snapshot_find(ns->replica, number, &snapshot) &&
			uuid_equal(&snapshot.id, id)) {
			return number;
		}
	}
	return 0;
}

/* An arbiter has no data, and nothing to keep.  PREPARE of what is kept already, under whatever
 * number, is refused and says which that is. */
uint16_t snapshot_judge(struct ns *ns)
{
	const struct nvme_sqe *sqe = &ns->req->sqe;
	bool prepares = sqe->opcode == WIRE_SNAPSHOT_PREPARE;
	struct uuid id;

	if (ns->kind == VOTER_ARBITER || !store_replica_has_snapshots(ns->replica)) {
		return prepares ? WIRE_STATUS_REFUSED : 0;
	}
	ns->needs_resolve = true;
	if (!prepares) {
		return 0;
	}
	if (number_of(sqe) == 0) {
		ns->needs_resolve = false;
		return NVME_SC_INVALID_FIELD;
	}
	(void)wire_snapshot_decode(sqe, &id);
	ns->req_result = kept_as(ns, &id);
	if (ns->req_result != 0 || number_of(sqe) <= store_snapshots_kept(ns->replica)) {
		ns->needs_resolve = false;
		return WIRE_STATUS_REFUSED;
	}
	ns->needs_prepare = true;
	return 0;
}

/* PREPARE first settles what is left of older attempts: numbers are used again. */
void snapshot_resolve_start(struct ns *ns)
{
	uint64_t committed = number_of(&ns->req->sqe) - (ns->needs_prepare ? 1 : 0);

	ns->op = (struct store_op){.done = voter_op_done, .ctx = ns};
	ns->op_done = false;
	if (mutant_is(MUTANT_SNAPSHOT_LEFTOVER) && ns->needs_prepare) {
		ns->op_done = true; /* Deliberate bug. */
		return;
	}
	store_snapshot_resolve(ns->replica, committed, &ns->op);
}

void snapshot_resolve_end(struct ns *ns)
{
	if (ns->op.result != 0) {
		ns->req_status = NVME_SC_INTERNAL_ERROR;
		ns->needs_prepare = false;
	}
	ns->req_result = store_snapshots_kept(ns->replica);
}

void snapshot_prepare_start(struct ns *ns)
{
	struct store_snapshot left;
	struct uuid id;

	ns->op = (struct store_op){.done = voter_op_done, .ctx = ns};
	ns->op_done = false;
	if (mutant_is(MUTANT_SNAPSHOT_LEFTOVER) &&
		store_snapshot_find(ns->replica, number_of(&ns->req->sqe), &left)) {
		ns->op_done = true; /* Deliberate bug: "done already". */
		return;
	}
	store_snapshot_prepare(ns->replica, wire_snapshot_decode(&ns->req->sqe, &id), &id, &ns->op);
}

void snapshot_prepare_end(struct ns *ns)
{
	ns->req_result = 0;
	if (ns->op.result != 0) {
		ns->req_status = ns->op.result == -ENOSPC ? NVME_SC_CAPACITY_EXCEEDED
							  : NVME_SC_INTERNAL_ERROR;
	}
}

void snapshot_list(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = replica_asked(agent, req);
	struct wire_snapshot_list list = {0};
	struct store_snapshot snapshot = {0};

	if (ns == NULL) {
		return;
	}
	if (ns->kind == VOTER_ARBITER || req->length != WIRE_SNAPSHOT_LIST_SIZE) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	while (store_snapshot_next(ns->replica, snapshot.number, &snapshot)) {
		if (snapshot.number > req->sqe.cdw10 && list.count < WIRE_SNAPSHOTS_MAX) {
			list.snapshots[list.count++] = (struct wire_snapshot){
				.number = snapshot.number,
				.id = snapshot.id,
				.kept = snapshot.kept,
			};
		}
		list.total++;
	}
	wire_snapshot_list_encode(&list, req->iov.iov_base);
	nvmet_req_complete(req, NVME_SC_SUCCESS, 0);
}

bool snapshot_is_there(const struct ns *ns, uint32_t number)
{
	struct store_snapshot snapshot;

	return store_replica_has_snapshots(ns->replica) &&
	       store_snapshot_find(ns->replica, number, &snapshot);
}
