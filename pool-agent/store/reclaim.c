/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives back what deleted replicas had: finds their clusters in the table and makes them dirty, a
 * few a turn.  The slot is free for a new replica when all these records are durable: until then a
 * restart finds the tombstone and begins again.  The same for what a resize took that did not come
 * to its end.
 */
#include "pool-agent/store/store_internal.h"

#define RECLAIM_ENTRIES_A_TURN 4096u
#define RECLAIM_RECORDS_A_TURN 64u

enum reclaim_state {
	RECLAIM_START,
	RECLAIM_AWAIT_WORK,
	RECLAIM_AWAIT_ROOM,
	RECLAIM_AWAIT_TURN,
	RECLAIM_AWAIT_DURABLE,
	RECLAIM_DONE,
};

static void reclaim_step(struct task *task);

void reclaim_init(struct reclaim *reclaim, struct store *store)
{
	reclaim->store = store;
	task_init(&reclaim->task, &store->io->runq, reclaim_step);
}

void reclaim_slot(struct reclaim *reclaim)
{
	reclaim->draining++;
	/* While the pool is being opened nothing may be changed yet: store_run() wakes it. */
	if (reclaim->store->running) {
		task_wake(&reclaim->task);
	}
}

void reclaim_add_surplus(struct reclaim *reclaim, struct slot *slot, uint32_t count)
{
	slot->surplus += count;
	reclaim->surplus += count;
	if (reclaim->store->running) {
		task_wake(&reclaim->task);
	}
}

void reclaim_forget_surplus(struct reclaim *reclaim, struct slot *slot)
{
	assert(reclaim->surplus >= slot->surplus);
	reclaim->surplus -= slot->surplus;
	slot->surplus = 0;
}

static bool reclaim_must_end(const struct reclaim *reclaim)
{
	return reclaim->store->failed || reclaim->store->closing;
}

/* Are there clusters left to find? */
static bool reclaim_has_work(const struct reclaim *reclaim)
{
	const struct store *store = reclaim->store;

	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		if (store->slots[i].use == SLOT_DRAINING && store->slots[i].clusters > 0) {
			return true;
		}
	}
	return reclaim->surplus > 0;
}

static bool is_surplus(const struct slot *slot, uint64_t entry)
{
	return slot->surplus > 0 && entry_state(entry) == CLUSTER_STAMPS &&
	       entry_payload(entry) >= slot->replica->stamp_cluster_count;
}

static bool reclaim_is_ours(const struct store *store, uint64_t entry)
{
	const struct slot *slot = &store->slots[entry_slot(entry)];

	return (entry_state(entry) == CLUSTER_DATA || entry_state(entry) == CLUSTER_STAMPS) &&
	       (slot->use == SLOT_DRAINING || is_surplus(slot, entry));
}

static void reclaim_cluster(struct reclaim *reclaim, uint32_t cluster)
{
	struct clusters *clusters = &reclaim->store->clusters;
	uint64_t entry = clusters->entries[cluster];
	struct slot *slot = &reclaim->store->slots[entry_slot(entry)];

	if (is_surplus(slot, entry)) {
		slot->surplus--;
		reclaim->surplus--;
		/* For the next resize. */
		waiters_wake(&reclaim->store->slot_waiters);
	}
	clusters_make_dirty(clusters, cluster);
}

/* A few clusters; it waits for room when the journal has none. */
static void reclaim_some(struct reclaim *reclaim)
{
	struct store *store = reclaim->store;
	struct clusters *clusters = &store->clusters;
	uint32_t records = 0;

	for (uint32_t i = 0; i < RECLAIM_ENTRIES_A_TURN; i++) {
		uint32_t cluster = reclaim->next;

		if (reclaim_is_ours(store, clusters->entries[cluster])) {
			if (!journal_has_room(&store->journal, 1)) {
				waiter_add(&store->journal.room_waiters, &reclaim->waiter,
					&reclaim->task);
				return;
			}
			reclaim_cluster(reclaim, cluster);
			records++;
		}
		reclaim->next = cluster + 1 < clusters->count ? cluster + 1 : 0;
		if (records == RECLAIM_RECORDS_A_TURN) {
			return;
		}
	}
}

static void reclaim_mark_drained(struct reclaim *reclaim)
{
	struct store *store = reclaim->store;

	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		if (store->slots[i].use == SLOT_DRAINING && store->slots[i].clusters == 0) {
			store->slots[i].use = SLOT_DRAINED;
		}
	}
}

static void reclaim_free_drained(struct reclaim *reclaim)
{
	struct store *store = reclaim->store;

	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		struct slot *slot = &store->slots[i];

		if (slot->use == SLOT_DRAINED) {
			slot->use = SLOT_FREE;
			slot->unmapped = false;
			assert(reclaim->draining > 0);
			reclaim->draining--;
		}
	}
	waiters_wake(&store->slot_waiters);
	/* For those who hoped for space from here. */
	waiters_wake(&store->cleaner.space_waiters);
}

static bool reclaim_turn(struct reclaim *reclaim)
{
	bool turned = reclaim->turned;

	reclaim->turned = true;
	return turned;
}

static void reclaim_step(struct task *task)
{
	struct reclaim *reclaim = container_of(task, struct reclaim, task);
	struct store *store = reclaim->store;

	switch ((enum reclaim_state)reclaim->state) {
	case RECLAIM_START:
		for (;;) {
			AWAIT(reclaim, RECLAIM_AWAIT_WORK,
				reclaim->draining > 0 || reclaim->surplus > 0 ||
					reclaim_must_end(reclaim));
			while (!reclaim_must_end(reclaim) && reclaim_has_work(reclaim)) {
				reclaim_some(reclaim);
				AWAIT(reclaim, RECLAIM_AWAIT_ROOM, !waiter_waits(&reclaim->waiter));
				/* Others have their turn. */
				reclaim->turned = false;
				task_wake(task);
				AWAIT(reclaim, RECLAIM_AWAIT_TURN, reclaim_turn(reclaim));
			}
			if (reclaim_must_end(reclaim)) {
				break;
			}
			reclaim_mark_drained(reclaim);
			if (store->journal.durable_lsn < store->journal.queued_lsn) {
				journal_wait_durable(&store->journal, &reclaim->waiter, task);
				AWAIT(reclaim, RECLAIM_AWAIT_DURABLE,
					!waiter_waits(&reclaim->waiter));
			}
			if (reclaim_must_end(reclaim)) {
				break;
			}
			reclaim_free_drained(reclaim);
		}
		reclaim->state = RECLAIM_DONE;
		task_wake(&store->close_task);
		return;
	case RECLAIM_DONE:
		return;
	}
}

bool reclaim_is_done(const struct reclaim *reclaim)
{
	return reclaim->state == RECLAIM_DONE;
}
