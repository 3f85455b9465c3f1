/* SPDX-License-Identifier: Apache-2.0 */
/* A replica in memory: its size, its stamps and their pages, its update. */
#include "base/mutant.h"
#include "pool-agent/store/store_internal.h"

#include <string.h>

enum update_state { UPDATE_IDLE, UPDATE_START, UPDATE_AWAIT_TURN, UPDATE_AWAIT_SLOT };

static uint64_t region_count(const struct layout *layout, uint64_t size_bytes)
{
	return div_up_u64(size_bytes, layout->region_bytes);
}

uint32_t replica_page_count(uint64_t regions)
{
	return (uint32_t)div_up_u64(regions, PAGE_ENTRIES);
}

/* Pages whose two places lie together in one group of the stamp space: in one cluster, unless a
 * cluster is one block. */
static uint64_t group_pages(const struct layout *layout)
{
	return max_u64(1, layout->cluster_bytes / STORE_BLOCK_BYTES / 2);
}

/* The stamp space is groups of pages: place 0 of each, then place 1 of each.  Where a page lies
 * does not depend on the size of the replica, which may grow. */
uint64_t replica_stamp_clusters(const struct layout *layout, uint64_t size_bytes)
{
	uint64_t regions = region_count(layout, size_bytes);
	uint64_t groups;

	if (regions > UINT32_MAX) {
		return UINT64_MAX;
	}
	groups = div_up_u64(replica_page_count(regions), group_pages(layout));
	return groups * max_u64(1, 2 * STORE_BLOCK_BYTES / layout->cluster_bytes);
}

uint64_t replica_page_block(const struct store_replica *replica, uint32_t page, unsigned place)
{
	uint64_t cluster_blocks = replica->store->sb.layout.cluster_bytes / STORE_BLOCK_BYTES;
	uint64_t group = group_pages(&replica->store->sb.layout);
	uint64_t block = page / group * 2 * group + place * group + page % group;

	return store_cluster_block(
		       replica->store, replica->stamp_clusters[block / cluster_blocks]) +
	       block % cluster_blocks;
}

void replica_encode_page(const struct store_replica *replica, uint32_t index, uint8_t *page)
{
	uint64_t first = (uint64_t)index * PAGE_ENTRIES;
	uint64_t count = min_u64(PAGE_ENTRIES, replica->region_count - first);

	memset(page, 0, STORE_BLOCK_BYTES);
	memcpy(page_entry(page, 0), replica->queued + first, count * sizeof(uint64_t));
}

void replica_queue_stamp(struct store_replica *replica, uint64_t region, uint64_t wgen)
{
	struct store *store = replica->store;
	struct record record = {
		.type = RECORD_STAMP,
		.slot = replica->slot->index,
		.index = (uint32_t)region,
		.value = wgen,
	};

	assert(region < replica->region_count);
	assert(wgen > replica->queued[region] || mutant_is(MUTANT_B11));
	TRACE(store->io, stamp, trace_id(&replica->vmeta.replica), 0, region, wgen);
	replica->queued[region] = wgen;
	journal_add(&store->journal, &record);
	checkpoint_page_dirty(&store->checkpoint, &replica->pages[region / PAGE_ENTRIES],
		store->journal.next_seq);
}

int replica_take_clusters(struct store_replica *replica, uint32_t *clusters, uint32_t *next,
	uint32_t count, struct waiter *waiter, struct task *task)
{
	struct store *store = replica->store;

	for (; *next < count && !store->failed; (*next)++) {
		if (store->clusters.free.count == 0) {
			if (!cleaner_may_free(store)) {
				return -ENOSPC;
			}
			waiter_add(&store->cleaner.space_waiters, waiter, task);
			return 1;
		}
		if (!journal_has_room(&store->journal, 1)) {
			waiter_add(&store->journal.room_waiters, waiter, task);
			return 1;
		}
		clusters[*next] =
			clusters_take_stamps(&store->clusters, replica->slot->index, *next);
	}
	if (store->failed) {
		return -EIO;
	}
	if (count > 0 && clusters_is_pending(&store->clusters, clusters[count - 1]) &&
		!mutant_is(MUTANT_S7)) {
		journal_wait_durable(&store->journal, waiter, task);
		return 1;
	}
	return 0;
}

/* ---- update ---- */

static void update_step(struct task *task)
{
	struct store_replica *replica = container_of(task, struct store_replica, update_task);
	struct slot *slot = replica->slot;
	struct store_op *op = replica->update;
	int result;

	switch ((enum update_state)replica->update_state) {
	case UPDATE_START:
		while (!slot_take(slot, &replica->update_waiter, task)) {
			AWAIT_AT(replica->update_state, UPDATE_AWAIT_TURN,
				!waiter_waits(&replica->update_waiter));
		}
		result = slot->abstains ? -EBADMSG : replica->store->failed ? -EIO : 0;
		if (result == 0) {
			if (!mutant_is(MUTANT_S9)) {
				replica->next.marks = replica->vmeta.marks;
			}
			slot_write(slot, replica->image, &replica->next, task);
			AWAIT_AT(replica->update_state, UPDATE_AWAIT_SLOT, slot->parent == NULL);
			result = slot->result;
			if (result == 0) {
				replica->vmeta = replica->next;
			}
		}
		if (result != 0) {
			err_set(&op->err, result, "replica %s: metadata cannot be written",
				replica->vmeta.name);
		}
		slot_give(slot);
		replica->update_state = UPDATE_IDLE;
		replica->update = NULL;
		store_unbusy(replica->store);
		store_op_finish(op, result);
		return;
	case UPDATE_IDLE:
		return;
	}
}

void store_replica_update(
	struct store_replica *replica, const struct vmeta *vmeta, struct store_op *op)
{
	assert(replica->update == NULL);
	replica->next = replica->vmeta;
	replica->next.promised = vmeta->promised;
	replica->next.cfg = vmeta->cfg;
	replica->next.clean = vmeta->clean;
	replica->next.rebuilding = vmeta->rebuilding;
	memcpy(replica->next.keys, vmeta->keys, sizeof(vmeta->keys));
	replica->update = op;
	replica->store->busy++;
	replica->update_state = UPDATE_START;
	task_wake(&replica->update_task);
}

/* ---- life ---- */

static int replica_alloc(struct store_replica *replica)
{
	struct io *io = replica->store->io;

	replica->image = io_zalloc_aligned(io, STORE_BLOCK_BYTES, VMETA_SIZE);
	if (replica->image == NULL) {
		return -ENOMEM;
	}
	if (replica->region_count == 0) {
		return 0;
	}
	replica->durable = io_zalloc(io, replica->region_count * sizeof(uint64_t));
	replica->queued = io_zalloc(io, replica->region_count * sizeof(uint64_t));
	replica->pages = io_zalloc(io, replica->page_count * sizeof(struct meta_page));
	replica->stamp_clusters = io_zalloc(io, replica->stamp_cluster_count * sizeof(uint32_t));
	if (replica->durable == NULL || replica->queued == NULL || replica->pages == NULL ||
		replica->stamp_clusters == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < replica->page_count; i++) {
		replica->pages[i].replica = replica;
		replica->pages[i].index = i;
	}
	memset(replica->stamp_clusters, 0xff, replica->stamp_cluster_count * sizeof(uint32_t));
	return 0;
}

int replica_new(struct store *store, struct slot *slot, const struct vmeta *vmeta,
	struct store_replica **ret_replica)
{
	const struct layout *layout = &store->sb.layout;
	struct store_replica *replica;
	uint64_t clusters = slot->abstains ? 0 : replica_stamp_clusters(layout, vmeta->size_bytes);
	int result;

	if (clusters > layout->cluster_count) {
		return -ENOSPC;
	}
	replica = io_zalloc(store->io, sizeof(*replica));
	if (replica == NULL) {
		return -ENOMEM;
	}
	replica->store = store;
	replica->slot = slot;
	replica->vmeta = *vmeta;
	if (!slot->abstains) {
		replica->region_count = region_count(layout, vmeta->size_bytes);
		replica->page_count = replica_page_count(replica->region_count);
		replica->stamp_cluster_count = (uint32_t)clusters;
	}
	task_init(&replica->update_task, &store->io->runq, update_step);
	result = replica_alloc(replica);
	if (result != 0) {
		replica_free(replica);
		return result;
	}
	*ret_replica = replica;
	return 0;
}

void replica_free(struct store_replica *replica)
{
	struct io *io;

	if (replica == NULL) {
		return;
	}
	assert(replica->update == NULL && replica->ios == 0);
	io = replica->store->io;
	task_done(&replica->update_task);
	io_free(io, replica->image);
	io_free(io, replica->durable);
	io_free(io, replica->queued);
	io_free(io, replica->pages);
	io_free(io, replica->stamp_clusters);
	io_free(io, replica);
}

/* A page may be in a list of the checkpoint: its new memory takes its place there. */
static void page_move(struct meta_page *to, struct meta_page *from)
{
	struct list_node node = to->node;

	if (list_is_linked(&from->node)) {
		list_insert_before(&from->node, &to->node);
		list_remove(&from->node);
		node = to->node;
	}
	*to = *from;
	to->node = node;
}

void replica_become(struct store_replica *replica, struct store_replica *bigger)
{
	struct store_replica old = *replica;

	assert(bigger->region_count >= old.region_count);
	memcpy(bigger->durable, old.durable, old.region_count * sizeof(uint64_t));
	memcpy(bigger->queued, old.queued, old.region_count * sizeof(uint64_t));
	for (uint32_t i = 0; i < old.page_count; i++) {
		page_move(&bigger->pages[i], &old.pages[i]);
	}
	for (uint32_t i = 0; i < bigger->page_count; i++) {
		bigger->pages[i].replica = replica;
	}
	replica->vmeta = bigger->vmeta;
	replica->region_count = bigger->region_count;
	replica->durable = bigger->durable;
	replica->queued = bigger->queued;
	replica->page_count = bigger->page_count;
	replica->pages = bigger->pages;
	replica->stamp_cluster_count = bigger->stamp_cluster_count;
	replica->stamp_clusters = bigger->stamp_clusters;
	bigger->durable = old.durable;
	bigger->queued = old.queued;
	bigger->pages = old.pages;
	bigger->stamp_clusters = old.stamp_clusters;
	replica_free(bigger);
}

/* ---- questions ---- */

struct store_replica *store_replica_next(struct store *store, struct store_replica *after)
{
	uint32_t i = after == NULL ? 0 : after->slot->index + 1;

	for (; i < store->sb.layout.slots; i++) {
		struct slot *slot = &store->slots[i];

		if (slot->use == SLOT_READY) {
			return slot->replica;
		}
	}
	return NULL;
}

struct store_replica *store_replica_find(struct store *store, const struct uuid *id)
{
	struct store_replica *replica = store_replica_next(store, NULL);

	while (replica != NULL && !uuid_equal(&replica->vmeta.replica, id)) {
		replica = store_replica_next(store, replica);
	}
	return replica;
}

uint32_t store_replica_slot(const struct store_replica *replica)
{
	return replica->slot->index;
}

bool store_replica_abstains(const struct store_replica *replica)
{
	return replica->slot->abstains;
}

bool store_replica_is_newer(const struct store_replica *replica)
{
	return replica->slot->newer;
}

const struct vmeta *store_replica_vmeta(const struct store_replica *replica)
{
	return &replica->vmeta;
}

uint64_t store_replica_used_bytes(const struct store_replica *replica)
{
	const struct slot *slot = replica->slot;

	return (slot->clusters - slot->surplus) * replica->store->sb.layout.cluster_bytes;
}

uint64_t store_replica_region_bytes(const struct store_replica *replica)
{
	return replica->store->sb.layout.region_bytes;
}

uint64_t store_replica_stamp(const struct store_replica *replica, uint64_t region)
{
	assert(region < replica->region_count);
	return replica->durable[region];
}

uint64_t store_replica_region_count(const struct store_replica *replica)
{
	return replica->region_count;
}

bool store_replica_region_is_mapped(const struct store_replica *replica, uint64_t region)
{
	const struct layout *layout = &replica->store->sb.layout;
	uint64_t from = region * layout->region_bytes;
	uint64_t until = min_u64(from + layout->region_bytes, replica->vmeta.size_bytes);

	assert(region < replica->region_count);
	for (uint64_t logical = from / layout->cluster_bytes;
		logical * layout->cluster_bytes < until; logical++) {
		if (clusters_find(&replica->store->clusters, replica->slot->index, logical) !=
			CLUSTER_NONE) {
			return true;
		}
	}
	return false;
}
