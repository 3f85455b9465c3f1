/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: a ring of blocks, one being written at a time.  Records that arrive meanwhile, from
 * all replicas, share the next block: that is the group commit.
 *
 * A block says in `tail` with which block recovery begins; a block is overwritten only when a
 * *durable* one says that it is before the tail, because a torn block must not take the history
 * along that the one before it still needs.  The last free block of the ring is kept for a block
 * that moves the tail, so that a full ring always gets free again.
 */
#include "base/mutant.h"
#include "pool-agent/store/store_internal.h"

enum journal_state { JOURNAL_START, JOURNAL_AWAIT_WORK, JOURNAL_AWAIT_WRITE, JOURNAL_DONE };

static void journal_step(struct task *task);

int journal_init(struct journal *journal, struct store *store)
{
	struct io *io = store->io;

	journal->store = store;
	task_init(&journal->task, &io->runq, journal_step);
	batch_init(&journal->batch, store->disk, &journal->task);
	list_init(&journal->durable_waiters);
	list_init(&journal->room_waiters);
	journal->open = io_zalloc_aligned(io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
	journal->flying = io_zalloc_aligned(io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
	return journal->open != NULL && journal->flying != NULL ? 0 : -ENOMEM;
}

void journal_done(struct journal *journal)
{
	if (journal->store == NULL) {
		return;
	}
	assert(!journal->writing);
	task_done(&journal->task);
	io_free(journal->store->io, journal->open);
	io_free(journal->store->io, journal->flying);
}

static uint32_t journal_blocks(const struct journal *journal)
{
	return journal->store->sb.layout.journal_blocks;
}

uint64_t journal_used_blocks(const struct journal *journal)
{
	return journal->next_seq - journal->tail_durable;
}

bool journal_has_room(const struct journal *journal, uint32_t count)
{
	return journal->open_count + count <= JOURNAL_BLOCK_RECORDS &&
	       journal_used_blocks(journal) + 1 < journal_blocks(journal);
}

void journal_add(struct journal *journal, const struct record *record)
{
	assert(journal_has_room(journal, 1));
	assert(!journal->store->failed);
	record_encode(record, journal_record_at(journal->open, journal->open_count));
	journal->open_count++;
	journal->queued_lsn++;
	task_wake(&journal->task);
}

void journal_wait_durable(struct journal *journal, struct waiter *waiter, struct task *task)
{
	waiter->lsn = journal->queued_lsn;
	waiter_add(&journal->durable_waiters, waiter, task);
}

/* A block without records only when the tail really moves: it takes the last free one. */
static bool journal_has_work(const struct journal *journal)
{
	if (journal->open_count > 0) {
		return true;
	}
	return journal->publish && checkpoint_tail(&journal->store->checkpoint, journal->next_seq) >
					   journal->tail_durable;
}

static void journal_submit(struct journal *journal)
{
	struct store *store = journal->store;
	struct journal_header header = {
		.seq = journal->next_seq,
		.tail = checkpoint_tail(&store->checkpoint, journal->next_seq),
		.first_lsn = journal->queued_lsn - journal->open_count + 1,
		.count = journal->open_count,
		.previous_crc = journal->crc,
	};
	uint8_t *block = journal->open;

	assert(header.tail >= journal->tail_durable);
	assert(header.seq - journal->tail_durable < journal_blocks(journal));
	journal->crc = journal_seal(&store->sb.uuid, &header, block);
	journal->open = journal->flying;
	journal->flying = block;
	journal->flying_count = journal->open_count;
	journal->open_count = 0;
	journal->tail_flying = header.tail;
	journal->next_seq++;
	journal->publish = false;
	journal->writing = true;
	batch_write_durable(&journal->batch, &journal->op,
		store->sb.layout.journal + header.seq % journal_blocks(journal), block,
		STORE_BLOCK_BYTES);
}

static void journal_apply(struct journal *journal)
{
	struct store *store = journal->store;

	for (uint32_t i = 0; i < journal->flying_count; i++) {
		struct record record;
		struct store_replica *replica;
		int result = record_decode(journal_record_at(journal->flying, i), &record);

		assert(result == 0);
		switch (record.type) {
		case RECORD_STAMP:
			/* NULL: deleted meanwhile; the slot is not used again before the
			 * journal got past this. */
			replica = store->slots[record.slot].replica;
			if (replica != NULL) {
				replica->durable[record.index] =
					mutant_is(MUTANT_B11)
						? record.value
						: max_u64(replica->durable[record.index],
							  record.value);
			}
			break;
		case RECORD_DATA:
		case RECORD_STAMPS:
			clusters_record_durable(&store->clusters, record.index);
			break;
		case RECORD_DIRTY:
		case RECORD_FREE:
			break;
		}
	}
	TRACE(store->io, journal_commit, 0, journal->flying_count, journal->next_seq - 1,
		journal->tail_flying);
	journal->durable_lsn += journal->flying_count;
	journal->tail_durable = journal->tail_flying;
	metric_inc(&store->metrics.journal_writes, 1);
	metric_inc(&store->metrics.journal_records, journal->flying_count);
}

static void journal_wake(struct journal *journal)
{
	while (!list_is_empty(&journal->durable_waiters)) {
		struct waiter *waiter =
			container_of(list_first(&journal->durable_waiters), struct waiter, node);

		if (waiter->lsn > journal->durable_lsn) {
			break;
		}
		list_remove(&waiter->node);
		task_wake(waiter->task);
	}
	waiters_wake(&journal->room_waiters);
	if (journal_used_blocks(journal) > journal_blocks(journal) / 2) {
		task_wake(&journal->store->checkpoint.task);
	}
}

static void journal_step(struct task *task)
{
	struct journal *journal = container_of(task, struct journal, task);
	struct store *store = journal->store;
	int result;

	switch ((enum journal_state)journal->state) {
	case JOURNAL_START:
		for (;;) {
			AWAIT(journal, JOURNAL_AWAIT_WORK,
				journal_has_work(journal) || store->closing || store->failed);
			if (store->closing || store->failed) {
				break;
			}
			journal_submit(journal);
			/* The block that takes records is empty now. */
			waiters_wake(&journal->room_waiters);
			AWAIT(journal, JOURNAL_AWAIT_WRITE, journal->batch.pending == 0);
			journal->writing = false;
			result = batch_take_result(&journal->batch);
			if (result != 0) {
				store_fail(store, "journal write", result);
				break;
			}
			journal_apply(journal);
			journal_wake(journal);
		}
		journal->state = JOURNAL_DONE;
		task_wake(&store->close_task);
		return;
	case JOURNAL_DONE:
		return;
	}
}

bool journal_is_done(const struct journal *journal)
{
	return journal->state == JOURNAL_DONE;
}
