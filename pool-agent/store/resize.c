/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growth of a replica: memory for its new size, clusters for the stamps of its new regions, then a
 * vmeta with the new size.  A crash or an error before that leaves clusters beyond the stamp space
 * of the old size, which reclaim.c gives back.
 */
#include "pool-agent/store/store_internal.h"

#include <string.h>

enum resize_state {
	RESIZE_START,
	RESIZE_AWAIT_RECLAIM,
	RESIZE_AWAIT_CLUSTERS,
	RESIZE_AWAIT_TURN,
	RESIZE_AWAIT_SLOT,
	RESIZE_DONE,
};

struct resize {
	struct task task;
	int state;
	struct store_op *op;
	struct store_replica *replica;
	struct store_replica *bigger; /* owned; NULL: none yet, or no longer */
	struct vmeta vmeta;
	struct waiter waiter;
	uint32_t next_cluster;
	int result;
};

static void resize_fail(struct resize *resize, int result, const char *why)
{
	resize->result = err_set(&resize->op->err, result, "resize replica of %s: %s",
		resize->replica->vmeta.name, why);
}

static void resize_check(struct resize *resize)
{
	struct store_replica *replica = resize->replica;
	uint64_t size_bytes = resize->vmeta.size_bytes;

	if (replica->slot->abstains) {
		resize_fail(resize, -EBADMSG, "its metadata are damaged");
	} else if (replica->store->failed) {
		resize_fail(resize, -EIO, "the pool has failed");
	} else if (replica->vmeta.kind != VOTER_DATA) {
		resize_fail(resize, -ERANGE, "an arbiter has no size");
	} else if (size_bytes > REPL_SIZE_MAX || size_bytes % STORE_BLOCK_BYTES != 0) {
		resize_fail(resize, -ERANGE, "the size is above 64 TiB or no multiple of 4096");
	} else if (size_bytes < replica->vmeta.size_bytes) {
		resize_fail(resize, -EINVAL, "it cannot shrink");
	}
}

/* What an earlier resize took must be gone from the table before its places are taken anew. */
static bool resize_may_take(struct resize *resize)
{
	struct store_replica *replica = resize->replica;

	if (replica->slot->surplus == 0 || replica->store->failed) {
		return true;
	}
	waiter_add(&replica->store->slot_waiters, &resize->waiter, &resize->task);
	return false;
}

static void resize_alloc(struct resize *resize)
{
	struct store_replica *replica = resize->replica;
	int result = replica_new(replica->store, replica->slot, &resize->vmeta, &resize->bigger);

	if (result != 0) {
		resize_fail(resize, result,
			result == -ENOSPC ? "the pool has no room for its stamps" : "no memory");
		return;
	}
	memcpy(resize->bigger->stamp_clusters, replica->stamp_clusters,
		replica->stamp_cluster_count * sizeof(uint32_t));
	resize->next_cluster = replica->stamp_cluster_count;
}

/* true: all clusters are there and durable, or it failed; else it waits. */
static bool resize_take_clusters(struct resize *resize)
{
	struct store_replica *replica = resize->replica;
	int result = replica_take_clusters(replica, resize->bigger->stamp_clusters,
		&resize->next_cluster, resize->bigger->stamp_cluster_count, &resize->waiter,
		&resize->task);

	if (result < 0) {
		resize_fail(resize, result,
			result == -ENOSPC ? "the pool has no room for its stamps"
					  : "the pool has failed");
		reclaim_add_surplus(&replica->store->reclaim, replica->slot,
			resize->next_cluster - replica->stamp_cluster_count);
	}
	return result <= 0;
}

/* The version with the new size was written. */
static void resize_apply(struct resize *resize)
{
	if (resize->result == 0) {
		resize->bigger->vmeta = resize->vmeta;
		replica_become(resize->replica, resize->bigger);
		resize->bigger = NULL;
	}
}

static void resize_finish(struct resize *resize)
{
	struct store_replica *replica = resize->replica;
	struct store *store = replica->store;
	struct store_op *op = resize->op;
	int result = resize->result;

	resize->state = RESIZE_DONE;
	replica_free(resize->bigger);
	replica->update = NULL;
	task_done(&resize->task);
	io_free(store->io, resize);
	store_unbusy(store);
	store_op_finish(op, result);
}

static void resize_step(struct task *task)
{
	struct resize *resize = container_of(task, struct resize, task);
	struct store_replica *replica = resize->replica;

	switch ((enum resize_state)resize->state) {
	case RESIZE_START:
		resize_check(resize);
		if (resize->result != 0 || resize->vmeta.size_bytes == replica->vmeta.size_bytes) {
			resize_finish(resize);
			return;
		}
		while (!resize_may_take(resize)) {
			AWAIT(resize, RESIZE_AWAIT_RECLAIM, !waiter_waits(&resize->waiter));
		}
		resize_alloc(resize);
		while (resize->result == 0 && !resize_take_clusters(resize)) {
			AWAIT(resize, RESIZE_AWAIT_CLUSTERS, !waiter_waits(&resize->waiter));
		}
		if (resize->result == 0) {
			while (!slot_take(replica->slot, &resize->waiter, task)) {
				AWAIT(resize, RESIZE_AWAIT_TURN, !waiter_waits(&resize->waiter));
			}
			resize->vmeta.marks = replica->vmeta.marks;
			slot_write(replica->slot, replica->image, &resize->vmeta, task);
			AWAIT(resize, RESIZE_AWAIT_SLOT, replica->slot->parent == NULL);
			if (replica->slot->result != 0) {
				resize_fail(resize, replica->slot->result,
					"its metadata cannot be written");
			}
			resize_apply(resize);
			slot_give(replica->slot);
		}
		resize_finish(resize);
		return;
	case RESIZE_DONE:
		return;
	}
}

void store_replica_resize(struct store_replica *replica, uint64_t size_bytes, struct store_op *op)
{
	struct store *store = replica->store;
	struct resize *resize = io_zalloc(store->io, sizeof(*resize));

	assert(replica->update == NULL);
	assert(replica->slot->use == SLOT_READY);
	store->busy++;
	if (resize == NULL) {
		store_op_fail_later(store->io, store, op,
			err_set(&op->err, -ENOMEM, "resize replica: no memory"));
		return;
	}
	resize->op = op;
	resize->replica = replica;
	resize->vmeta = replica->vmeta;
	resize->vmeta.size_bytes = size_bytes;
	replica->update = op;
	task_init(&resize->task, &store->io->runq, resize_step);
	task_wake(&resize->task);
}
