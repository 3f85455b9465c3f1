/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On a disk that did not start zeroed: zeroes the space above the watermark ahead of its first use,
 * and moves the watermark in the superblock only when that is durable.
 */
#include "pool-agent/store/store_internal.h"

#define ZERO_AHEAD_BYTES (UINT64_C(64) << 20)

enum ahead_state {
	AHEAD_START,
	AHEAD_AWAIT_WORK,
	AHEAD_AWAIT_ZERO,
	AHEAD_AWAIT_FLUSH,
	AHEAD_AWAIT_NEAR,
	AHEAD_AWAIT_FAR,
	AHEAD_DONE,
};

static void ahead_step(struct task *task);

int ahead_init(struct ahead *ahead, struct store *store)
{
	ahead->store = store;
	task_init(&ahead->task, &store->io->runq, ahead_step);
	batch_init(&ahead->batch, store->disk, &ahead->task);
	ahead->image = io_zalloc_aligned(store->io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
	return ahead->image != NULL ? 0 : -ENOMEM;
}

void ahead_done(struct ahead *ahead)
{
	if (ahead->store == NULL) {
		return;
	}
	task_done(&ahead->task);
	io_free(ahead->store->io, ahead->image);
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

static bool ahead_must_end(const struct ahead *ahead)
{
	return ahead->store->failed || ahead->store->closing;
}

static void ahead_check(struct ahead *ahead, const char *what)
{
	int result = batch_take_result(&ahead->batch);

	if (result != 0) {
		store_fail(ahead->store, what, result);
	}
}

static void ahead_zero(struct ahead *ahead)
{
	struct store *store = ahead->store;
	uint64_t from = store->sb.zeroed_clusters;
	uint64_t cluster_blocks = store->sb.layout.cluster_bytes / STORE_BLOCK_BYTES;

	ahead->until = min_u64(store->sb.layout.cluster_count, from + ahead_clusters(store));
	batch_zero(&ahead->batch, &ahead->op, store_cluster_block(store, (uint32_t)from),
		(ahead->until - from) * cluster_blocks);
}

static void ahead_write(struct ahead *ahead, uint64_t at)
{
	struct superblock sb = ahead->store->sb;

	sb.seq++;
	sb.zeroed_clusters = ahead->until;
	superblock_encode(&sb, at, ahead->image);
	batch_write_durable(&ahead->batch, &ahead->op, at, ahead->image, STORE_BLOCK_BYTES);
}

static void ahead_finish(struct ahead *ahead)
{
	struct store *store = ahead->store;
	uint64_t from = store->sb.zeroed_clusters;

	store->sb.seq++;
	store->sb.zeroed_clusters = ahead->until;
	clusters_add_zeroed(&store->clusters, from, ahead->until);
	waiters_wake(&store->cleaner.space_waiters);
}

static void ahead_step(struct task *task)
{
	struct ahead *ahead = container_of(task, struct ahead, task);
	struct store *store = ahead->store;

	switch ((enum ahead_state)ahead->state) {
	case AHEAD_START:
		for (;;) {
			AWAIT(ahead, AHEAD_AWAIT_WORK,
				ahead_is_wanted(store) || ahead_must_end(ahead));
			if (ahead_must_end(ahead)) {
				break;
			}
			ahead_zero(ahead);
			AWAIT(ahead, AHEAD_AWAIT_ZERO, ahead->batch.pending == 0);
			ahead_check(ahead, "zeroing of fresh space");
			batch_flush(&ahead->batch, &ahead->op);
			AWAIT(ahead, AHEAD_AWAIT_FLUSH, ahead->batch.pending == 0);
			ahead_check(ahead, "flush of fresh space");
			if (store->failed) {
				break;
			}
			ahead_write(ahead, 0);
			AWAIT(ahead, AHEAD_AWAIT_NEAR, ahead->batch.pending == 0);
			ahead_check(ahead, "write of the superblock");
			if (store->failed) {
				break;
			}
			ahead_write(ahead, store->sb.layout.size_blocks - 1);
			AWAIT(ahead, AHEAD_AWAIT_FAR, ahead->batch.pending == 0);
			ahead_check(ahead, "write of the superblock");
			if (store->failed) {
				break;
			}
			ahead_finish(ahead);
		}
		ahead->state = AHEAD_DONE;
		task_wake(&store->close_task);
		return;
	case AHEAD_DONE:
		return;
	}
}

bool ahead_is_done(const struct ahead *ahead)
{
	return ahead->state == AHEAD_DONE;
}
