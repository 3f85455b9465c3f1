/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HASH: a range is read here and only the hashes of its blocks are sent (docs/protocol.md 1.8).
 *
 * A few hashers with a buffer of their own share the work, so that rebuilds of many volumes bound
 * what they take of memory, of the disk, and of this thread: between two parts (HASH_PART_BYTES,
 * about 10 us at 6 GB/s) everybody else has a turn.  What a nexus compares at once is read at once:
 * a slow disk takes no longer for a hash of it than for a read.  A namespace has at most a part of
 * them: where its reads hang, those of others go on.  A command that waits for a hasher
 * is judged when it gets one and counts as under way only from then on, so a FENCE waits for reads,
 * not for the queue.
 */
#include "base/bytes.h"
#include "pool-agent/internal.h"
#include "repl/blockhash.h"

#include <assert.h>
#include <errno.h>

#define HASHERS         16u
#define HASHERS_A_NS    4u /* a nexus compares as many pieces of a volume at once */
#define HASH_READ_BYTES (256u * 1024)
#define HASH_PART_BYTES (64u * 1024)

enum hasher_state { HASHER_START, HASHER_AWAIT_WORK, HASHER_AWAIT_READ, HASHER_AWAIT_TURN };

struct hasher {
	struct task task;
	enum hasher_state state;
	struct agent *agent;
	struct nvmet_req *req; /* at work */
	struct ns *ns;
	struct wire_io wire;
	uint64_t done_blocks, read_blocks; /* hashed; read into the buffer, up to there */
	uint8_t key[BLOCKHASH_KEY_SIZE];
	uint8_t *buffer;
	struct iovec iov;
	struct store_io io;
	bool reading;
	bool gave_way; /* to others, before the next part */
};

static uint16_t hash_judge(struct ns *ns, const struct nvmet_req *req, const struct wire_io *wire)
{
	uint64_t region_blocks =
		ns->abstains || ns->kind == VOTER_ARBITER
			? 1
			: store_replica_region_bytes(ns->replica) / STORE_BLOCK_BYTES;
	uint16_t status = replica_io_judge(ns, req, wire);

	if (status == 0 && wire->slba / region_blocks !=
				   (wire->slba + wire->block_count - 1) / region_blocks) {
		return NVME_SC_INVALID_FIELD; /* it has one stamp to tell */
	}
	return status;
}

static bool has_all_hashers(const struct agent *agent, const struct ns *ns)
{
	unsigned count = 0;

	for (unsigned i = 0; i < HASHERS; i++) {
		count += agent->hashers[i].req != NULL && agent->hashers[i].ns == ns;
	}
	return count >= HASHERS_A_NS;
}

/* The oldest one whose namespace has a hasher left: when one of its hashers is done, it looks here
 * again. */
static struct nvmet_req *hash_queue_pop(struct agent *agent)
{
	list_for_each (&agent->hash_queue, pos) {
		struct nvmet_req *req = container_of(pos, struct nvmet_req, owner_node);
		const struct ns *ns = agent_find_ns(agent, req->sqe.nsid);

		if (ns == NULL || !has_all_hashers(agent, ns)) {
			list_remove(&req->owner_node);
			return req;
		}
	}
	return NULL;
}

/* The oldest command that may be executed. */
static bool hasher_take(struct hasher *hasher)
{
	struct agent *agent = hasher->agent;
	struct nvmet_req *req;

	while ((req = hash_queue_pop(agent)) != NULL) {
		struct ns *ns = agent_find_ns(agent, req->sqe.nsid);
		int decoded = wire_io_decode(&req->sqe, &hasher->wire);
		uint16_t status = NVME_SC_INVALID_NAMESPACE;

		assert(decoded == 0);
		if (ns != NULL) {
			status = hash_judge(ns, req, &hasher->wire);
		}
		if (status == 0) {
			wire_hash_key(hasher->wire.key, hasher->key);
			hasher->req = req;
			hasher->ns = ns;
			hasher->done_blocks = hasher->read_blocks = 0;
			hasher->io.result = 0;
			ns->running++;
			return true;
		}
		nvmet_req_complete(req, status, 0);
	}
	return false;
}

static void hasher_read_done(struct store_io *io)
{
	struct hasher *hasher = io->ctx;

	hasher->reading = false;
	task_wake(&hasher->task);
}

static bool hasher_has_more(const struct hasher *hasher)
{
	return hasher->io.result == 0 && hasher->done_blocks < hasher->wire.block_count;
}

static void hasher_read(struct hasher *hasher)
{
	uint64_t count = min_u64(hasher->wire.block_count - hasher->done_blocks,
		HASH_READ_BYTES / STORE_BLOCK_BYTES);
	uint64_t length = count * STORE_BLOCK_BYTES;

	hasher->iov = (struct iovec){.iov_base = hasher->buffer, .iov_len = length};
	hasher->io = (struct store_io){
		.kind = STORE_READ,
		.offset = (hasher->wire.slba + hasher->done_blocks) * STORE_BLOCK_BYTES,
		.length = length,
		.iov = &hasher->iov,
		.iov_count = 1,
		.done = hasher_read_done,
		.ctx = hasher,
	};
	hasher->read_blocks += count;
	hasher->reading = true;
	store_submit(hasher->ns->replica, &hasher->io);
}

/* false: all that was read is hashed. */
static bool hasher_add_part(struct hasher *hasher)
{
	uint64_t count = min_u64(
		hasher->read_blocks - hasher->done_blocks, HASH_PART_BYTES / STORE_BLOCK_BYTES);
	uint64_t at = hasher->done_blocks % (HASH_READ_BYTES / STORE_BLOCK_BYTES);

	if (hasher->io.result != 0) {
		return false;
	}
	metric_inc(&hasher->ns->bytes_hashed, count * STORE_BLOCK_BYTES);
	blockhash_blocks(hasher->key, hasher->buffer + at * STORE_BLOCK_BYTES, STORE_BLOCK_BYTES,
		count, wire_hash_at(hasher->req->iov.iov_base, hasher->done_blocks));
	hasher->done_blocks += count;
	hasher->gave_way = false;
	return hasher->done_blocks < hasher->read_blocks;
}

/* At the second time: whoever was ready at the first one has had his turn. */
static bool hasher_has_turn(struct hasher *hasher)
{
	bool had = hasher->gave_way;

	hasher->gave_way = true;
	if (!had) {
		task_wake(&hasher->task);
	}
	return had;
}

static void hasher_finish(struct hasher *hasher)
{
	struct ns *ns = hasher->ns;
	uint64_t region = hasher->io.offset / store_replica_region_bytes(ns->replica);
	uint16_t status = hasher->io.result == 0 ? NVME_SC_SUCCESS : NVME_SC_UNRECOVERED_READ_ERROR;

	/* The content was read before: its stamp is this one or an older one. */
	wire_hash_put_stamp(hasher->req->iov.iov_base, store_replica_stamp(ns->replica, region));
	TRACE(hasher->agent->io, command_done, trace_id(&ns->id), WIRE_HASH, hasher->wire.slba,
		status);
	nvmet_req_complete(hasher->req, status, 0);
	hasher->req = NULL;
	ns_command_done(ns);
}

static void hasher_step(struct task *task)
{
	struct hasher *hasher = container_of(task, struct hasher, task);

	switch (hasher->state) {
	case HASHER_START:
		for (;;) {
			AWAIT(hasher, HASHER_AWAIT_WORK, hasher_take(hasher));
			while (hasher_has_more(hasher)) {
				hasher_read(hasher);
				AWAIT(hasher, HASHER_AWAIT_READ, !hasher->reading);
				while (hasher_add_part(hasher)) {
					AWAIT(hasher, HASHER_AWAIT_TURN, hasher_has_turn(hasher));
				}
			}
			hasher_finish(hasher);
		}
	}
}

void hash_command(struct agent *agent, struct nvmet_req *req)
{
	list_push_back(&agent->hash_queue, &req->owner_node);
	for (unsigned i = 0; i < HASHERS; i++) {
		struct hasher *hasher = &agent->hashers[i];

		if (hasher->req == NULL && !task_is_queued(&hasher->task)) {
			task_wake(&hasher->task);
			return;
		}
	}
}

int hashers_init(struct agent *agent)
{
	struct io *io = agent->io;

	list_init(&agent->hash_queue);
	if (blockhash_prepare() != 0) {
		return -ENOMEM;
	}
	agent->hashers = io_zalloc(io, HASHERS * sizeof(*agent->hashers));
	for (unsigned i = 0; agent->hashers != NULL && i < HASHERS; i++) {
		struct hasher *hasher = &agent->hashers[i];

		hasher->agent = agent;
		hasher->buffer = io_zalloc_data(io, HASH_READ_BYTES);
		task_init(&hasher->task, &io->runq, hasher_step);
		if (hasher->buffer == NULL) {
			hashers_done(agent);
		}
	}
	return agent->hashers == NULL ? -ENOMEM : 0;
}

/* Nothing is under way. */
void hashers_done(struct agent *agent)
{
	for (unsigned i = 0; agent->hashers != NULL && i < HASHERS; i++) {
		struct hasher *hasher = &agent->hashers[i];

		if (hasher->agent != NULL) {
			task_done(&hasher->task);
			io_free_data(agent->io, hasher->buffer, HASH_READ_BYTES);
		}
	}
	io_free(agent->io, agent->hashers);
	agent->hashers = NULL;
}
