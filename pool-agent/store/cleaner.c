/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps free clusters zero on stable storage.  A dirty cluster is zeroed when its record is durable
 * and when nothing that was at work on it before is left (grace); after a flush it is free.  On a
 * disk that did not start zeroed, the space above the watermark is zeroed ahead of its first use.
 */
#include "pool-agent/store/store_internal.h"

#define ZERO_AHEAD_BYTES (UINT64_C(64) << 20)

enum cleaner_state {
	CLEANER_START,
	CLEANER_AWAIT_WORK,
	CLEANER_AWAIT_DURABLE,
	CLEANER_AWAIT_GRACE,
	CLEANER_AWAIT_ZERO,
	CLEANER_AWAIT_FLUSH,
	CLEANER_AWAIT_ROOM,
	CLEANER_AWAIT_AHEAD,
	CLEANER_AWAIT_AHEAD_FLUSH,
	CLEANER_AWAIT_NEAR,
	CLEANER_AWAIT_FAR,
	CLEANER_DONE,
};

static void cleaner_step(struct task *task);

int cleaner_init(struct cleaner *cleaner, struct store *store)
{
	cleaner->store = store;
	task_init(&cleaner->task, &store->io->runq, cleaner_step);
	batch_init(&cleaner->batch, store->disk, &cleaner->task);
	list_init(&cleaner->space_waiters);
	cleaner->image = io_zalloc_aligned(store->io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
	return cleaner->image != NULL ? 0 : -ENOMEM;
}

void cleaner_done(struct cleaner *cleaner)
{
	if (cleaner->store == NULL) {
		return;
	}
	task_done(&cleaner->task);
	io_free(cleaner->store->io, cleaner->image);
}

bool cleaner_may_free(const struct store *store)
{
	return store->clusters.dirty.count > 0 || store->cleaner.taken_count > 0 ||
	       store->reclaim.draining > 0 ||
	       store->sb.zeroed_clusters < store->sb.layout.cluster_count;
}

static uint64_t ahead_clusters(const struct store *store)
{
	return max_u64(1, ZERO_AHEAD_BYTES / store->sb.layout.cluster_bytes);
}

static bool ahead_is_wanted(const struct store *store)
{
	return store->sb.zeroed_clusters < store->sb.layout.cluster_count &&
	       store->clusters.free.count < ahead_clusters(store);
}

static bool cleaner_must_end(const struct cleaner *cleaner)
{
	return cleaner->store->failed || cleaner->store->closing;
}

static void cleaner_check(struct cleaner *cleaner, const char *what)
{
	int result = batch_take_result(&cleaner->batch);

	if (result != 0) {
		store_fail(cleaner->store, what, result);
	}
}

static void cleaner_take(struct cleaner *cleaner)
{
	struct clusters *clusters = &cleaner->store->clusters;

	cleaner->taken_count = 0;
	while (cleaner->taken_count < CLEANER_CLUSTERS && clusters->dirty.count > 0) {
		cleaner->taken[cleaner->taken_count++] = clusters_take_dirty(clusters);
	}
}

/* Neighbours in one operation. */
static void cleaner_zero(struct cleaner *cleaner)
{
	struct store *store = cleaner->store;
	uint64_t cluster_blocks = store->sb.layout.cluster_bytes / STORE_BLOCK_BYTES;
	uint32_t i = 0;

	while (i < cleaner->taken_count) {
		uint32_t run = 1;

		while (i + run < cleaner->taken_count &&
			cleaner->taken[i + run] == cleaner->taken[i] + run) {
			run++;
		}
		batch_zero(&cleaner->batch, &cleaner->ops[i],
			store_cluster_block(store, cleaner->taken[i]), run * cluster_blocks);
		i += run;
	}
}

/* false: the journal has no room for the rest. */
static bool cleaner_free(struct cleaner *cleaner)
{
	struct store *store = cleaner->store;

	for (; cleaner->index < cleaner->taken_count && !cleaner_must_end(cleaner);
		cleaner->index++) {
		if (!journal_has_room(&store->journal, 1)) {
			waiter_add(&store->journal.room_waiters, &cleaner->waiter, &cleaner->task);
			return false;
		}
		clusters_make_free(&store->clusters, cleaner->taken[cleaner->index]);
	}
	cleaner->taken_count = 0;
	waiters_wake(&store->cleaner.space_waiters);
	return true;
}

static void grace_start(struct grace *grace, struct task *task)
{
	assert(grace->count[1 - grace->current] == 0);
	grace->current = 1 - grace->current;
	grace->task = task;
}

static bool grace_is_over(const struct grace *grace)
{
	return grace->count[1 - grace->current] == 0;
}

static void ahead_start(struct cleaner *cleaner)
{
	struct store *store = cleaner->store;
	uint64_t from = store->sb.zeroed_clusters;
	uint64_t cluster_blocks = store->sb.layout.cluster_bytes / STORE_BLOCK_BYTES;

	cleaner->zero_until = min_u64(store->sb.layout.cluster_count, from + ahead_clusters(store));
	batch_zero(&cleaner->batch, &cleaner->ops[0], store_cluster_block(store, (uint32_t)from),
		(cleaner->zero_until - from) * cluster_blocks);
}

static void ahead_write(struct cleaner *cleaner, uint64_t at)
{
	struct superblock sb = cleaner->store->sb;

	sb.seq++;
	sb.zeroed_clusters = cleaner->zero_until;
	superblock_encode(&sb, at, cleaner->image);
	batch_write_durable(
		&cleaner->batch, &cleaner->ops[0], at, cleaner->image, STORE_BLOCK_BYTES);
}

static void ahead_finish(struct cleaner *cleaner)
{
	struct store *store = cleaner->store;
	uint64_t from = store->sb.zeroed_clusters;

	store->sb.seq++;
	store->sb.zeroed_clusters = cleaner->zero_until;
	clusters_add_zeroed(&store->clusters, from, cleaner->zero_until);
	waiters_wake(&cleaner->space_waiters);
}

static void cleaner_step(struct task *task)
{
	struct cleaner *cleaner = container_of(task, struct cleaner, task);
	struct store *store = cleaner->store;

	switch ((enum cleaner_state)cleaner->state) {
	case CLEANER_START:
		while (!cleaner_must_end(cleaner)) {
			AWAIT(cleaner, CLEANER_AWAIT_WORK,
				store->clusters.dirty.count > 0 || ahead_is_wanted(store) ||
					cleaner_must_end(cleaner));
			if (cleaner_must_end(cleaner)) {
				break;
			}
			if (ahead_is_wanted(store)) {
				ahead_start(cleaner);
				AWAIT(cleaner, CLEANER_AWAIT_AHEAD, cleaner->batch.pending == 0);
				cleaner_check(cleaner, "zeroing of fresh space");
				batch_flush(&cleaner->batch, &cleaner->ops[0]);
				AWAIT(cleaner, CLEANER_AWAIT_AHEAD_FLUSH,
					cleaner->batch.pending == 0);
				cleaner_check(cleaner, "flush of fresh space");
				if (store->failed) {
					break;
				}
				ahead_write(cleaner, 0);
				AWAIT(cleaner, CLEANER_AWAIT_NEAR, cleaner->batch.pending == 0);
				cleaner_check(cleaner, "write of the superblock");
				if (store->failed) {
					break;
				}
				ahead_write(cleaner, store->sb.layout.size_blocks - 1);
				AWAIT(cleaner, CLEANER_AWAIT_FAR, cleaner->batch.pending == 0);
				cleaner_check(cleaner, "write of the superblock");
				if (!store->failed) {
					ahead_finish(cleaner);
				}
				continue;
			}
			cleaner_take(cleaner);
			if (store->journal.durable_lsn < store->journal.queued_lsn) {
				journal_wait_durable(&store->journal, &cleaner->waiter, task);
				AWAIT(cleaner, CLEANER_AWAIT_DURABLE,
					!waiter_waits(&cleaner->waiter));
			}
			grace_start(&store->data.grace, task);
			AWAIT(cleaner, CLEANER_AWAIT_GRACE, grace_is_over(&store->data.grace));
			if (cleaner_must_end(cleaner)) {
				break;
			}
			cleaner_zero(cleaner);
			AWAIT(cleaner, CLEANER_AWAIT_ZERO, cleaner->batch.pending == 0);
			cleaner_check(cleaner, "zeroing of a freed cluster");
			batch_flush(&cleaner->batch, &cleaner->ops[0]);
			AWAIT(cleaner, CLEANER_AWAIT_FLUSH, cleaner->batch.pending == 0);
			cleaner_check(cleaner, "flush of freed clusters");
			cleaner->index = 0;
			while (!cleaner_free(cleaner)) {
				AWAIT(cleaner, CLEANER_AWAIT_ROOM, !waiter_waits(&cleaner->waiter));
				if (cleaner_must_end(cleaner)) {
					break;
				}
			}
		}
		cleaner->state = CLEANER_DONE;
		task_wake(&store->close_task);
		return;
	case CLEANER_DONE:
		return;
	}
}

bool cleaner_is_done(const struct cleaner *cleaner)
{
	return cleaner->state == CLEANER_DONE;
}
