/* SPDX-License-Identifier: Apache-2.0 */
/* The whole store: its memory, its end, what it tells about itself. */
#include "pool-agent/store/store_internal.h"

#include <stdio.h>

enum close_state { CLOSE_IDLE, CLOSE_START, CLOSE_AWAIT_BUSY, CLOSE_AWAIT_LADDERS };

static void close_step(struct task *task);

int store_init(struct store *store)
{
	int result;

	list_init(&store->slot_waiters);
	task_init(&store->close_task, &store->io->runq, close_step);
	cleaner_init(&store->cleaner, store);
	reclaim_init(&store->reclaim, store);
	result = slots_init(store);
	result = result != 0 ? result : clusters_init(&store->clusters, store);
	result = result != 0 ? result : journal_init(&store->journal, store);
	result = result != 0 ? result : checkpoint_init(&store->checkpoint, store);
	result = result != 0 ? result : ahead_init(&store->ahead, store);
	return result != 0 ? result : data_init(store);
}

void store_free(struct store *store)
{
	struct io *io = store->io;

	store_metrics_remove(store);
	if (store->close_task.step != NULL) {
		task_done(&store->close_task);
		task_done(&store->reclaim.task);
	}
	data_done(store);
	ahead_done(&store->ahead);
	cleaner_done(&store->cleaner);
	checkpoint_done(&store->checkpoint);
	journal_done(&store->journal);
	clusters_done(&store->clusters);
	slots_done(store);
	io_free(io, store);
}

static void wake_ladders(struct store *store)
{
	task_wake(&store->journal.task);
	task_wake(&store->checkpoint.task);
	task_wake(&store->cleaner.task);
	task_wake(&store->ahead.task);
	task_wake(&store->reclaim.task);
	task_wake(&store->data.flusher.task);
}

void store_run(struct store *store)
{
	store->running = true;
	store_metrics_add(store);
	/* When all that fills the journal is of replicas that are gone, no page is written back and
	 * nothing but a block of its own moves the tail. */
	store->journal.publish = !journal_has_room(&store->journal, 1);
	wake_ladders(store);
}

static void wake_waiters(struct store *store)
{
	waiters_wake(&store->journal.durable_waiters);
	waiters_wake(&store->journal.room_waiters);
	waiters_wake(&store->cleaner.space_waiters);
	waiters_wake(&store->checkpoint.idle_waiters);
	waiters_wake(&store->slot_waiters);
	waiters_wake(&store->data.segment_waiters);
}

void store_fail(struct store *store, const char *what, int result)
{
	if (store->failed) {
		return;
	}
	log_error(&store->io->log, "store", "pool-failed", "pool=%s what=%s error=%s",
		store->sb.name, what, err_name(result));
	store->failed = true;
	wake_waiters(store);
	wake_ladders(store);
}

/* ---- operations ---- */

void store_unbusy(struct store *store)
{
	assert(store->busy > 0);
	store->busy--;
	if (store->busy == 0 && store->close_op != NULL) {
		task_wake(&store->close_task);
	}
}

void store_op_finish(struct store_op *op, int result)
{
	op->result = result;
	op->done(op);
}

static void fail_step(struct task *task)
{
	struct store_op *op = container_of(task, struct store_op, task);

	if (op->backend != NULL) {
		store_unbusy(op->backend);
	}
	op->done(op);
}

void store_op_fail_later(struct io *io, struct store *store, struct store_op *op, int result)
{
	op->result = result;
	op->backend = store;
	task_init(&op->task, &io->runq, fail_step);
	task_wake(&op->task);
}

/* ---- close ---- */

static bool ladders_are_done(const struct store *store)
{
	return journal_is_done(&store->journal) && checkpoint_is_done(&store->checkpoint) &&
	       cleaner_is_done(&store->cleaner) && reclaim_is_done(&store->reclaim) &&
	       ahead_is_done(&store->ahead) && flusher_is_done(store);
}

static void close_step(struct task *task)
{
	struct store *store = container_of(task, struct store, close_task);
	struct store_op *op = store->close_op;

	switch ((enum close_state)store->close_state) {
	case CLOSE_START:
		AWAIT_AT(store->close_state, CLOSE_AWAIT_BUSY, store->busy == 0);
		store->closing = true;
		wake_waiters(store);
		wake_ladders(store);
		AWAIT_AT(store->close_state, CLOSE_AWAIT_LADDERS, ladders_are_done(store));
		store_free(store);
		store_op_finish(op, 0);
		return;
	case CLOSE_IDLE:
		return;
	}
}

void store_close(struct store *store, struct store_op *op)
{
	assert(store->close_op == NULL);
	store->close_op = op;
	store->close_state = CLOSE_START;
	task_wake(&store->close_task);
}

/* ---- information ---- */

void store_get_info(const struct store *store, struct store_info *ret_info)
{
	const struct layout *layout = &store->sb.layout;
	uint64_t reclaiming =
		store->clusters.dirty.count + store->cleaner.taken_count + store->reclaim.surplus;
	uint64_t used = store->clusters.used - store->reclaim.surplus;
	struct store_info info = {
		.uuid = store->sb.uuid,
		.size_bytes = layout->cluster_count * layout->cluster_bytes,
		.replica_count = store->replica_count,
		.replica_slots = layout->slots,
		.journal_writes = metric_get(&store->metrics.journal_writes),
		.journal_records = metric_get(&store->metrics.journal_records),
		.failed = store->failed,
	};

	for (uint32_t i = 0; i < layout->slots; i++) {
		if (store->slots[i].use == SLOT_DRAINING) {
			reclaiming += store->slots[i].clusters;
			used -= store->slots[i].clusters;
		}
	}
	(void)snprintf(info.name, sizeof(info.name), "%s", store->sb.name);
	info.used_bytes = used * layout->cluster_bytes;
	info.reclaiming_bytes = reclaiming * layout->cluster_bytes;
	*ret_info = info;
}

uint64_t store_power(const struct store *store)
{
	return store->disk->power;
}
