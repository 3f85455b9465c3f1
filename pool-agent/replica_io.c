/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data commands of the nexus that holds a namespace.  Each is judged when it is dispatched: from
 * then on it counts in ns->running, and the next FENCE waits for it.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "pool-agent/internal.h"
#include "pool-agent/store/snapshot.h"

#include <assert.h>
#include <errno.h>

/* The table of data path results: what surely did not happen and what may have, is the same for
 * each: a failed write is undefined until it is settled by the nexus. */
static uint16_t status_of(int result, enum store_io_kind kind)
{
	if (result == 0) {
		return NVME_SC_SUCCESS;
	}
	if (result == -ENOSPC) {
		return NVME_SC_CAPACITY_EXCEEDED;
	}
	if (result == -ENOBUFS) {
		return WIRE_STATUS_MARKS_FULL;
	}
	return kind == STORE_READ ? NVME_SC_UNRECOVERED_READ_ERROR : NVME_SC_WRITE_FAULT;
}

void ns_command_done(struct ns *ns)
{
	assert(ns->running > 0);
	ns->running--;
	if (ns->running == 0 && (ns->gate_closed || ns->removing || ns->agent->closing)) {
		task_wake(&ns->task);
	}
}

static void replica_io_done(struct store_io *io)
{
	struct replica_io *rio = io->ctx;
	struct ns *ns = rio->ns;
	struct nvmet_req *req = rio->req;
	uint16_t status = status_of(io->result, io->kind);

	if (io->kind == STORE_READ) {
		metric_inc(&ns->reads, 1);
		metric_inc(&ns->bytes_read, io->length);
	} else if (io->kind == STORE_WRITE) {
		metric_inc(&ns->writes, 1);
		metric_inc(&ns->bytes_written, io->length);
	}
	TRACE(ns->agent->io, command_done, trace_id(&ns->id), req->sqe.opcode,
		io->offset / STORE_BLOCK_BYTES, status);
	list_push_front(&ns->agent->io_free, &rio->node);
	nvmet_req_complete(req, status, 0);
	ns_command_done(ns);
}

/* The write generation in full: the command has its low half, the accepted configuration the high
 * half.  0: not allowed. A generation that began before the low half last wrapped around comes out
 * above the configuration's and is refused: 2^32 opens later nothing of it is under way. */
static uint64_t wgen_of(const struct cfg *cfg, uint32_t wgen_low)
{
	uint64_t wgen = (cfg->wgen & ~UINT64_C(0xffffffff)) | wgen_low;

	return cfg->gen == 0 || wgen > cfg->wgen ? 0 : wgen;
}

static bool data_is_current(struct ns *ns, const struct nvmet_req *req, uint32_t session)
{
	if (mutant_is(MUTANT_B5) && assoc_peek(req) != NULL && !ns->gate_closed) {
		/* The deliberate bug: the epoch decides alone, a delayed command of an older
		 * session passes. */
		const struct claim *claim = claim_find(ns, assoc_peek(req));

		if (claim != NULL && claim->status == 0 &&
			epoch_equal(&claim->token.epoch, &ns->cur.epoch)) {
			return true;
		}
	}
	return ns_is_current(ns, req, session);
}

static bool changes_data(uint8_t opcode)
{
	return opcode != WIRE_READ && opcode != WIRE_HASH && opcode != WIRE_FLUSH;
}

/* Bytes that go with the command. */
static uint64_t data_length(const struct wire_io *wire)
{
	switch ((enum wire_io_opcode)wire->opcode) {
	case WIRE_WRITE:
	case WIRE_READ:
		return wire->block_count * STORE_BLOCK_BYTES;
	case WIRE_HASH:
		return WIRE_HASH_SIZE(wire->block_count);
	case WIRE_WRITE_ZEROES:
	case WIRE_DISCARD:
	case WIRE_WRITE_UNCORRECTABLE:
	case WIRE_FLUSH:
		break;
	}
	return 0;
}

uint16_t replica_io_judge(struct ns *ns, const struct nvmet_req *req, const struct wire_io *wire)
{
	uint64_t blocks = ns->size_bytes / STORE_BLOCK_BYTES;

	if (ns->abstains) {
		return WIRE_STATUS_ABSTAIN;
	}
	if (ns->kind == VOTER_ARBITER) {
		return NVME_SC_INVALID_OPCODE;
	}
	if (!data_is_current(ns, req, wire->session)) {
		return WIRE_STATUS_STALE_TOKEN;
	}
	if (!range_is_within(wire->slba, wire->block_count, blocks)) {
		return NVME_SC_LBA_OUT_OF_RANGE;
	}
	if (req->length != data_length(wire)) {
		return NVME_SC_DATA_SGL_LENGTH_INVALID;
	}
	if (wire->snapshot != 0 && !snapshot_is_there(ns, wire->snapshot)) {
		return NVME_SC_INVALID_FIELD;
	}
	if (changes_data(wire->opcode) &&
		wgen_of(&store_replica_vmeta(ns->replica)->cfg, wire->wgen_low) == 0) {
		return NVME_SC_INVALID_FIELD;
	}
	return 0;
}

static enum store_io_kind kind_of(uint8_t opcode)
{
	switch ((enum wire_io_opcode)opcode) {
	case WIRE_WRITE:
		return STORE_WRITE;
	case WIRE_READ:
		return STORE_READ;
	case WIRE_WRITE_ZEROES:
		return STORE_ZERO;
	case WIRE_DISCARD:
		return STORE_DISCARD;
	case WIRE_FLUSH:
		return STORE_FLUSH;
	case WIRE_WRITE_UNCORRECTABLE:
		return STORE_UNCORRECTABLE;
	case WIRE_HASH:
		break;
	}
	assert(false && "the decoder lets nothing else through");
	return STORE_FLUSH;
}

/* It is under way from here on. */
static struct replica_io *replica_io_take(struct ns *ns, struct nvmet_req *req)
{
	/* There are as many as the target has requests. */
	struct list_node *node = list_pop_front(&ns->agent->io_free);
	struct replica_io *rio;

	assert(node != NULL);
	rio = container_of(node, struct replica_io, node);
	rio->ns = ns;
	rio->req = req;
	rio->io.result = 0;
	rio->io.done = replica_io_done;
	rio->io.ctx = rio;
	ns->running++;
	return rio;
}

void replica_io_command(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = agent_find_ns(agent, req->sqe.nsid);
	struct replica_io *rio;
	struct wire_io wire;
	uint16_t status;

	if (ns == NULL) {
		nvmet_req_complete(req, NVME_SC_INVALID_NAMESPACE, 0);
		return;
	}
	if ((req->sqe.flags & NVME_SQE_FUSE_MASK) != 0 || wire_io_decode(&req->sqe, &wire) != 0) {
		nvmet_req_complete(req, NVME_SC_INVALID_OPCODE, 0);
		return;
	}
	TRACE(agent->io, command, trace_id(&ns->id), wire.opcode, wire.slba, wire.block_count);
	if (wire.opcode == WIRE_HASH) {
		hash_command(agent, req);
		return;
	}
	status = replica_io_judge(ns, req, &wire);
	if (status != 0) {
		TRACE(agent->io, command_done, trace_id(&ns->id), wire.opcode, wire.slba, status);
		nvmet_req_complete(req, status, 0);
		return;
	}
	rio = replica_io_take(ns, req);
	rio->io.kind = kind_of(wire.opcode);
	rio->io.fua = wire.fua;
	rio->io.wgen = wgen_of(&store_replica_vmeta(ns->replica)->cfg, wire.wgen_low);
	rio->io.offset = wire.slba * STORE_BLOCK_BYTES;
	rio->io.length = wire.block_count * STORE_BLOCK_BYTES;
	rio->io.iov = &req->iov;
	rio->io.iov_count = req->length > 0;
	window_settle(&ns->window, wire.settled);
	if (changes_data(wire.opcode)) {
		window_add(&ns->window, wire.seq, rio->io.offset, rio->io.length);
	}
	if (wire.snapshot != 0) {
		store_snapshot_read(ns->replica, wire.snapshot, &rio->io);
		return;
	}
	store_submit(ns->replica, &rio->io);
}

struct ns *replica_asked(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = agent_find_ns(agent, req->sqe.nsid);

	if (ns == NULL) {
		nvmet_req_complete(req, NVME_SC_INVALID_NAMESPACE, 0);
		return NULL;
	}
	if (ns->abstains || !ns_is_current(ns, req, req->sqe.cdw2)) {
		nvmet_req_complete(
			req, ns->abstains ? WIRE_STATUS_ABSTAIN : WIRE_STATUS_STALE_TOKEN, 0);
		return NULL;
	}
	return ns;
}

/* Stamps of `count` regions from `first`, as durable. */
void replica_stamps(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = replica_asked(agent, req);
	uint64_t first = req->sqe.cdw10;
	uint64_t count = req->sqe.cdw11;
	uint8_t *to = req->iov.iov_base;

	if (ns == NULL) {
		return;
	}
	if (ns->kind == VOTER_ARBITER || count == 0 || req->length != count * 8 ||
		!range_is_within(first, count, store_replica_region_count(ns->replica))) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	for (uint64_t i = 0; i < count; i++) {
		le64_put(to + i * 8, store_replica_stamp(ns->replica, first + i));
	}
	nvmet_req_complete(req, NVME_SC_SUCCESS, 0);
}

/* The content was found equal to that of another replica with a higher stamp: the region gets it.
 * Only what this replica's configuration says may have been written. */
void replica_raise_stamp(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = replica_asked(agent, req);
	uint64_t region = req->sqe.cdw10;
	uint64_t stamp = (uint64_t)req->sqe.cdw13 << 32 | req->sqe.cdw12;
	struct replica_io *rio;

	if (ns == NULL) {
		return;
	}
	if (ns->kind == VOTER_ARBITER || req->length != 0 || stamp == 0 ||
		region >= store_replica_region_count(ns->replica)) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	if (stamp > store_replica_vmeta(ns->replica)->cfg.wgen) {
		nvmet_req_complete(req, WIRE_STATUS_REFUSED, 0);
		return;
	}
	rio = replica_io_take(ns, req);
	rio->io.kind = STORE_STAMP;
	rio->io.wgen = stamp;
	rio->io.offset = region * store_replica_region_bytes(ns->replica);
	rio->io.length = STORE_BLOCK_BYTES;
	rio->io.iov_count = 0;
	store_submit(ns->replica, &rio->io);
}

/* A part of the window; nothing is changed by asking. */
void replica_window(struct agent *agent, struct nvmet_req *req)
{
	struct ns *ns = replica_asked(agent, req);
	struct wire_window window;

	if (ns == NULL) {
		return;
	}
	if (ns->kind == VOTER_ARBITER || req->length != WIRE_WINDOW_SIZE) {
		nvmet_req_complete(req, NVME_SC_INVALID_FIELD, 0);
		return;
	}
	window.valid = ns->window.valid;
	window.total = ns->window.count;
	window.piece_bytes = ns->window.piece_bytes;
	window.count =
		window_get(&ns->window, req->sqe.cdw10, window.pieces, WIRE_WINDOW_PIECES_MAX);
	wire_window_encode(&window, req->iov.iov_base);
	nvmet_req_complete(req, NVME_SC_SUCCESS, 0);
}
