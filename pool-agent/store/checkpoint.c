/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes changed pages back, oldest first, so that the journal's tail can move.  A page goes to
 * both of its places, one after the other with a flush behind each: at any moment one place is
 * whole, and at rest both are the same, so that one of them may rot.  A place that was found
 * damaged or older at open goes first: the other one is all that there is.
 */
#include "base/mutant.h"
#include "pool-agent/store/store_internal.h"

enum checkpoint_state {
	CHECKPOINT_START,
	CHECKPOINT_AWAIT_WORK,
	CHECKPOINT_AWAIT_DURABLE,
	CHECKPOINT_AWAIT_FIRST,
	CHECKPOINT_AWAIT_FIRST_FLUSH,
	CHECKPOINT_AWAIT_SECOND,
	CHECKPOINT_AWAIT_SECOND_FLUSH,
	CHECKPOINT_DONE,
};

static void checkpoint_step(struct task *task);

int checkpoint_init(struct checkpoint *checkpoint, struct store *store)
{
	checkpoint->store = store;
	task_init(&checkpoint->task, &store->io->runq, checkpoint_step);
	batch_init(&checkpoint->batch, store->disk, &checkpoint->task);
	list_init(&checkpoint->dirty);
	list_init(&checkpoint->writing);
	list_init(&checkpoint->idle_waiters);
	checkpoint->images = io_zalloc_aligned(
		store->io, STORE_BLOCK_BYTES, CHECKPOINT_PAGES * (size_t)STORE_BLOCK_BYTES);
	return checkpoint->images != NULL ? 0 : -ENOMEM;
}

void checkpoint_done(struct checkpoint *checkpoint)
{
	if (checkpoint->store == NULL) {
		return;
	}
	task_done(&checkpoint->task);
	io_free(checkpoint->store->io, checkpoint->images);
}

void checkpoint_page_dirty(struct checkpoint *checkpoint, struct meta_page *page, uint64_t seq)
{
	/* `writing` has an image of its own: what changes now is not in it. */
	if (page->writing) {
		page->dirty_again = page->dirty_again != 0 ? page->dirty_again : seq;
		return;
	}
	if (!list_is_linked(&page->node)) {
		page->first_seq = seq;
		list_push_back(&checkpoint->dirty, &page->node);
	}
}

bool checkpoint_is_writing(const struct checkpoint *checkpoint, const struct store_replica *replica)
{
	list_for_each (&checkpoint->writing, node) {
		if (container_of(node, struct meta_page, node)->replica == replica) {
			return true;
		}
	}
	return false;
}

void checkpoint_forget(struct store_replica *replica)
{
	for (uint32_t i = 0; i < replica->page_count; i++) {
		assert(!replica->pages[i].writing);
		list_remove_if_linked(&replica->pages[i].node);
	}
}

uint64_t checkpoint_tail(const struct checkpoint *checkpoint, uint64_t seq)
{
	if (!list_is_empty(&checkpoint->writing)) {
		return min_u64(seq, checkpoint->writing_seq);
	}
	if (!list_is_empty(&checkpoint->dirty)) {
		return min_u64(
			seq, container_of(list_first(&checkpoint->dirty), struct meta_page, node)
				     ->first_seq);
	}
	return seq;
}

static bool checkpoint_is_wanted(const struct checkpoint *checkpoint)
{
	const struct store *store = checkpoint->store;

	return (checkpoint->urgent || journal_used_blocks(&store->journal) >
					      store->sb.layout.journal_blocks / 2) &&
	       !list_is_empty(&checkpoint->dirty);
}

/* Copies what the pages hold now; all of it is in records up to journal.queued_lsn. */
static void checkpoint_take(struct checkpoint *checkpoint)
{
	struct store *store = checkpoint->store;
	uint8_t *image = checkpoint->images;

	for (unsigned i = 0; i < CHECKPOINT_PAGES; i++, image += STORE_BLOCK_BYTES) {
		struct list_node *node = list_pop_front(&checkpoint->dirty);
		struct page_header header = {.lsn = store->journal.queued_lsn};
		struct page_id id = {.kind = PAGE_TABLE};
		struct meta_page *page;

		if (node == NULL) {
			break;
		}
		page = container_of(node, struct meta_page, node);
		if (i == 0) {
			checkpoint->writing_seq = page->first_seq;
		}
		page->writing = true;
		list_push_back(&checkpoint->writing, &page->node);
		id.index = page->index;
		if (page->replica != NULL) {
			id.kind = PAGE_STAMPS;
			id.slot = page->replica->slot->index;
			replica_encode_page(page->replica, page->index, image);
		} else {
			clusters_encode_page(&store->clusters, page->index, image);
		}
		header.seq = ++page->seq;
		page_seal(&store->sb.uuid, &id, &header, image);
	}
}

static uint64_t page_block(const struct store *store, const struct meta_page *page, unsigned place)
{
	const struct layout *layout = &store->sb.layout;

	if (page->replica != NULL) {
		return replica_page_block(page->replica, page->index, place);
	}
	return layout->table + place * layout->table_pages + page->index;
}

static void checkpoint_write(struct checkpoint *checkpoint, unsigned round)
{
	uint8_t *image = checkpoint->images;
	unsigned i = 0;

	list_for_each (&checkpoint->writing, node) {
		struct meta_page *page = container_of(node, struct meta_page, node);

		batch_write(&checkpoint->batch, &checkpoint->ops[i++],
			page_block(checkpoint->store, page, page->first_place ^ round), image,
			STORE_BLOCK_BYTES);
		image += STORE_BLOCK_BYTES;
	}
}

/* Pages that changed meanwhile are dirty again; in order of their first record. */
static void checkpoint_written(struct checkpoint *checkpoint)
{
	while (!list_is_empty(&checkpoint->writing)) {
		struct meta_page *page =
			container_of(list_pop_front(&checkpoint->writing), struct meta_page, node);
		struct list_node *after = &checkpoint->dirty.head;

		page->writing = false;
		page->first_place = 0;
		checkpoint->written++;
		if (page->dirty_again == 0) {
			continue;
		}
		page->first_seq = page->dirty_again;
		page->dirty_again = 0;
		while (after->prev != &checkpoint->dirty.head &&
			container_of(after->prev, struct meta_page, node)->first_seq >
				page->first_seq) {
			after = after->prev;
		}
		list_insert_before(after, &page->node);
	}
}

/* A block of its own for the tail only when it is worth one. */
static void checkpoint_publish(struct checkpoint *checkpoint)
{
	struct journal *journal = &checkpoint->store->journal;
	uint64_t tail = checkpoint_tail(checkpoint, journal->next_seq);
	uint64_t step = checkpoint->store->sb.layout.journal_blocks / 8;

	if (tail >= journal->tail_durable + step || !journal_has_room(journal, 1) ||
		list_is_empty(&checkpoint->dirty)) {
		journal->publish = tail > journal->tail_durable;
		task_wake(&journal->task);
	}
}

static bool checkpoint_ended(struct checkpoint *checkpoint, const char *what)
{
	struct store *store = checkpoint->store;
	int result = batch_take_result(&checkpoint->batch);

	if (result != 0) {
		store_fail(store, what, result);
	}
	return store->failed || store->closing;
}

/* The ladder ends: replicas that wait for their pages need not. */
static void checkpoint_end(struct checkpoint *checkpoint)
{
	checkpoint_written(checkpoint);
	checkpoint->state = CHECKPOINT_DONE;
	waiters_wake(&checkpoint->idle_waiters);
	task_wake(&checkpoint->store->close_task);
}

static void checkpoint_step(struct task *task)
{
	struct checkpoint *checkpoint = container_of(task, struct checkpoint, task);
	struct store *store = checkpoint->store;

	switch ((enum checkpoint_state)checkpoint->state) {
	case CHECKPOINT_START:
		for (;;) {
			AWAIT(checkpoint, CHECKPOINT_AWAIT_WORK,
				checkpoint_is_wanted(checkpoint) || store->closing ||
					store->failed);
			if (store->closing || store->failed) {
				break;
			}
			checkpoint_take(checkpoint);
			/* A page must never be ahead of the journal. */
			journal_wait_durable(&store->journal, &checkpoint->waiter, task);
			if (store->journal.durable_lsn == store->journal.queued_lsn) {
				list_remove(&checkpoint->waiter.node);
			}
			AWAIT(checkpoint, CHECKPOINT_AWAIT_DURABLE,
				!waiter_waits(&checkpoint->waiter));
			if (checkpoint_ended(checkpoint, "")) {
				break;
			}
			checkpoint_write(checkpoint, 0);
			AWAIT(checkpoint, CHECKPOINT_AWAIT_FIRST, checkpoint->batch.pending == 0);
			if (checkpoint_ended(checkpoint, "write of metadata")) {
				break;
			}
			if (!mutant_is(MUTANT_S6)) {
				batch_flush(&checkpoint->batch, &checkpoint->flush);
			}
			AWAIT(checkpoint, CHECKPOINT_AWAIT_FIRST_FLUSH,
				checkpoint->batch.pending == 0);
			if (checkpoint_ended(checkpoint, "flush of metadata")) {
				break;
			}
			checkpoint_write(checkpoint, 1);
			AWAIT(checkpoint, CHECKPOINT_AWAIT_SECOND, checkpoint->batch.pending == 0);
			if (checkpoint_ended(checkpoint, "write of metadata")) {
				break;
			}
			batch_flush(&checkpoint->batch, &checkpoint->flush);
			AWAIT(checkpoint, CHECKPOINT_AWAIT_SECOND_FLUSH,
				checkpoint->batch.pending == 0);
			if (checkpoint_ended(checkpoint, "flush of metadata")) {
				break;
			}
			checkpoint_written(checkpoint);
			checkpoint->urgent &= !list_is_empty(&checkpoint->dirty);
			checkpoint_publish(checkpoint);
			waiters_wake(&checkpoint->idle_waiters);
		}
		checkpoint_end(checkpoint);
		return;
	case CHECKPOINT_DONE:
		return;
	}
}

bool checkpoint_is_done(const struct checkpoint *checkpoint)
{
	return checkpoint->state == CHECKPOINT_DONE;
}
