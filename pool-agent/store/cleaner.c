/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps free clusters zero on stable storage.  A dirty cluster is zeroed when its record is durable
 * and when nothing that was at work on it before is left (grace); after a flush it is free.
 */
#include "pool-agent/store/store_internal.h"

enum cleaner_state {
	CLEANER_START,
	CLEANER_AWAIT_WORK,
	CLEANER_AWAIT_DURABLE,
	CLEANER_AWAIT_GRACE,
	CLEANER_AWAIT_ZERO,
	CLEANER_AWAIT_FLUSH,
	CLEANER_AWAIT_ROOM,
	CLEANER_DONE,
};

static void cleaner_step(struct task *task);

void cleaner_init(struct cleaner *cleaner, struct store *store)
{
	cleaner->store = store;
	task_init(&cleaner->task, &store->io->runq, cleaner_step);
	batch_init(&cleaner->batch, store->disk, &cleaner->task);
	list_init(&cleaner->space_waiters);
}

void cleaner_done(struct cleaner *cleaner)
{
	if (cleaner->store != NULL) {
		task_done(&cleaner->task);
	}
}

bool cleaner_may_free(const struct store *store)
{
	return store->clusters.dirty.count > 0 || store->cleaner.taken_count > 0 ||
	       store->reclaim.draining > 0 || store->reclaim.surplus > 0 ||
	       store->sb.zeroed_clusters < store->sb.layout.cluster_count;
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

static void cleaner_step(struct task *task)
{
	struct cleaner *cleaner = container_of(task, struct cleaner, task);
	struct store *store = cleaner->store;

	switch ((enum cleaner_state)cleaner->state) {
	case CLEANER_START:
		while (!cleaner_must_end(cleaner)) {
			AWAIT(cleaner, CLEANER_AWAIT_WORK,
				store->clusters.dirty.count > 0 || cleaner_must_end(cleaner));
			if (cleaner_must_end(cleaner)) {
				break;
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
