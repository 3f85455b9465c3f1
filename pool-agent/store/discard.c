/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ZERO and DISCARD: clusters that are covered whole leave the map and become dirty (durable with
 * their records); of the others the covered part is zeroed where it is mapped.  A range may be as
 * big as the replica: it is worked on in pieces, a piece a turn.
 */
#include "pool-agent/store/store_internal.h"

#define DISCARD_CLUSTERS_A_TURN 1024u

enum discard_state {
	DISCARD_START,
	DISCARD_AWAIT_STAMPS,
	DISCARD_AWAIT_PART,
	DISCARD_AWAIT_TURN,
	DISCARD_AWAIT_DURABLE,
	DISCARD_AWAIT_DISK,
	DISCARD_DONE,
};

static uint64_t piece_end(const struct store_io *io, const struct sio *sio)
{
	uint64_t cluster_bytes = sio->replica->store->sb.layout.cluster_bytes;
	uint64_t end = (sio->cursor / cluster_bytes + DISCARD_CLUSTERS_A_TURN) * cluster_bytes;

	return min_u64(end, io->offset + io->length);
}

/* 0: the stamps of the piece are durable; 1: it waits; negative. */
static int discard_stamp(struct store_io *io)
{
	struct sio *sio = sio_of(io);
	struct store *store = sio->replica->store;
	int waits;

	if (store->failed) {
		return -EIO;
	}
	waits = sio_stamp(io, sio->cursor, piece_end(io, sio));
	if (waits == 1 && !waiter_waits(&sio->waiter)) {
		journal_wait_durable(&store->journal, &sio->waiter, &sio->task);
	}
	return waits;
}

static bool discard_zero(struct store_io *io, uint32_t cluster, uint64_t length)
{
	struct sio *sio = sio_of(io);
	struct store *store = sio->replica->store;
	uint64_t within = sio->cursor % store->sb.layout.cluster_bytes;
	struct segment *segment = sio_segment(store, io, true);

	if (segment == NULL) {
		return false;
	}
	segment->op.kind = IO_DISK_ZERO;
	segment->op.fua = sio_is_durable(io);
	sio_segment_submit(store, segment,
		store_cluster_block(store, cluster) * STORE_BLOCK_BYTES + within, length);
	return true;
}

/* The piece from the cursor on.  0: all of it; 1: it waits for room or for a segment; negative. */
static int discard_piece(struct store_io *io)
{
	struct sio *sio = sio_of(io);
	struct store *store = sio->replica->store;
	uint64_t cluster_bytes = store->sb.layout.cluster_bytes;

	while (sio->cursor < sio->piece_end) {
		uint64_t logical = sio->cursor / cluster_bytes;
		uint64_t end = min_u64((logical + 1) * cluster_bytes, sio->piece_end);
		uint32_t cluster =
			clusters_find(&store->clusters, sio->replica->slot->index, logical);

		if (store->failed) {
			return -EIO;
		}
		if (cluster != CLUSTER_NONE && end - sio->cursor < cluster_bytes) {
			if (!discard_zero(io, cluster, end - sio->cursor)) {
				return 1;
			}
		} else if (cluster != CLUSTER_NONE) {
			if (!journal_has_room(&store->journal, 1)) {
				waiter_add(&store->journal.room_waiters, &sio->waiter, &sio->task);
				return 1;
			}
			clusters_make_dirty(&store->clusters, cluster);
			sio->lsn = store->journal.queued_lsn;
			store->unmapped_lsn = sio->lsn;
		}
		sio->cursor = end;
	}
	return 0;
}

static bool discard_turn(struct sio *sio)
{
	bool turned = sio->turned;

	sio->turned = true;
	return turned;
}

/* true: what was unmapped is so durably, or never will be. */
static bool discard_is_durable(struct store_io *io)
{
	struct sio *sio = sio_of(io);
	struct store *store = sio->replica->store;

	if (sio->lsn <= store->journal.durable_lsn) {
		return true;
	}
	if (store->failed) {
		io->result = -EIO;
		return true;
	}
	if (!waiter_waits(&sio->waiter)) {
		journal_wait_durable(&store->journal, &sio->waiter, &sio->task);
	}
	return false;
}

void discard_step(struct task *task)
{
	struct sio *sio = container_of(task, struct sio, task);
	struct store_io *io = container_of(sio, struct store_io, backend);

	switch ((enum discard_state)sio->state) {
	case DISCARD_START:
		while (sio->cursor < io->offset + io->length && io->result == 0) {
			while ((sio->prepared = discard_stamp(io)) == 1) {
				AWAIT(sio, DISCARD_AWAIT_STAMPS, !waiter_waits(&sio->waiter));
			}
			sio->piece_end = piece_end(io, sio);
			while (sio->prepared == 0 && (sio->prepared = discard_piece(io)) == 1) {
				AWAIT(sio, DISCARD_AWAIT_PART, !waiter_waits(&sio->waiter));
				sio->prepared = 0;
			}
			if (sio->prepared < 0) {
				io->result = sio->prepared;
				break;
			}
			/* Others have their turn. */
			sio->turned = false;
			task_wake(task);
			AWAIT(sio, DISCARD_AWAIT_TURN, discard_turn(sio));
		}
		AWAIT(sio, DISCARD_AWAIT_DISK, sio->pending == 0);
		AWAIT(sio, DISCARD_AWAIT_DURABLE, discard_is_durable(io));
		sio->state = DISCARD_DONE;
		if (sio->unmarks && io->result == 0) {
			sio_unmark(io);
			return;
		}
		sio_finish(io, io->result);
		return;
	case DISCARD_DONE:
		return;
	}
}
