/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unreadable blocks.  They are part of the replica's vmeta, so that a mark is durable with a
 * version of it, whole or not at all.  A write to one makes its data durable first and takes the
 * mark away then: a crash in between leaves the mark, never what lay there before.
 */
#include "base/mutant.h"
#include "pool-agent/store/store_internal.h"

enum mark_state {
	MARK_START,
	MARK_AWAIT_STAMPS,
	MARK_AWAIT_TURN,
	MARK_AWAIT_SLOT,
	MARK_DONE,
};

static uint64_t first_block(const struct store_io *io)
{
	return io->offset / STORE_BLOCK_BYTES;
}

static uint64_t block_count(const struct store_io *io)
{
	return io->length / STORE_BLOCK_BYTES;
}

bool sio_touches_marks(struct store_io *io)
{
	const struct marks *marks = &sio_of(io)->replica->vmeta.marks;

	return marks_touch(marks, first_block(io), block_count(io));
}

/* 0: the stamps are durable; 1: it waits; negative. */
static int mark_stamp(struct store_io *io)
{
	struct sio *sio = sio_of(io);
	struct store *store = sio->replica->store;
	int waits;

	if (store->failed) {
		return -EIO;
	}
	waits = sio_stamp(io, io->offset, io->offset + io->length);
	if (waits == 1 && !waiter_waits(&sio->waiter)) {
		journal_wait_durable(&store->journal, &sio->waiter, &sio->task);
	}
	return waits;
}

static bool mark_apply(const struct store_io *io, struct marks *marks)
{
	if (io->kind == STORE_UNCORRECTABLE) {
		return marks_add(marks, first_block(io), block_count(io));
	}
	marks_remove(marks, first_block(io), block_count(io));
	return true;
}

/* The slot is ours: begins to write the next version.  0 or negative. */
static int mark_write(struct store_io *io)
{
	struct sio *sio = sio_of(io);
	struct store_replica *replica = sio->replica;
	struct vmeta next = replica->vmeta;

	if (replica->store->failed) {
		return -EIO;
	}
	if (!mark_apply(io, &next.marks)) {
		return -ENOBUFS;
	}
	slot_write(replica->slot, replica->image, &next, &sio->task);
	return 0;
}

static void mark_written(struct store_io *io)
{
	struct store_replica *replica = sio_of(io)->replica;

	io->result = replica->slot->result;
	if (io->result == 0) {
		(void)mark_apply(io, &replica->vmeta.marks);
		replica->vmeta.seq = replica->slot->seq;
	}
}

/* Both ways: STORE_UNCORRECTABLE begins here, a write comes here when its data are durable. */
void mark_step(struct task *task)
{
	struct sio *sio = container_of(task, struct sio, task);
	struct store_io *io = container_of(sio, struct store_io, backend);
	struct slot *slot = sio->replica->slot;

	switch ((enum mark_state)sio->state) {
	case MARK_START:
		while (io->kind == STORE_UNCORRECTABLE && (sio->prepared = mark_stamp(io)) == 1) {
			AWAIT(sio, MARK_AWAIT_STAMPS, !waiter_waits(&sio->waiter));
		}
		if (sio->prepared < 0) {
			sio_finish(io, sio->prepared);
			return;
		}
		while (!slot_take(slot, &sio->waiter, task)) {
			AWAIT(sio, MARK_AWAIT_TURN, !waiter_waits(&sio->waiter));
		}
		io->result = mark_write(io);
		if (io->result == 0) {
			AWAIT(sio, MARK_AWAIT_SLOT, slot->parent == NULL);
			mark_written(io);
		}
		slot_give(slot);
		sio->state = MARK_DONE;
		sio_finish(io, io->result);
		return;
	case MARK_DONE:
		return;
	}
}

void sio_unmark(struct store_io *io)
{
	struct sio *sio = sio_of(io);

	sio->state = MARK_START;
	sio->prepared = 0;
	sio->task.step = mark_step;
	task_wake(&sio->task);
}
