/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of clusters in memory: whose each is; from it a hash (slot, logical cluster) ->
 * cluster, which is the map of all replicas in memory of a fixed size; and lists of free and of
 * dirty clusters, linked through the entries themselves.
 */
#include "pool-agent/store/store_internal.h"

/* ---- lists ---- */

static void cluster_list_init(struct cluster_list *list)
{
	*list = (struct cluster_list){.first = CLUSTER_NONE, .last = CLUSTER_NONE};
}

static void cluster_list_push(struct clusters *clusters, struct cluster_list *list,
	uint32_t cluster, enum cluster_state state)
{
	clusters->entries[cluster] = entry_make(state, 0, 0);
	if (list->count == 0) {
		list->first = cluster;
	} else {
		/* Payload: the next one + 1; 0 ends. */
		clusters->entries[list->last] = entry_make(state, 0, (uint64_t)cluster + 1);
	}
	list->last = cluster;
	list->count++;
}

static uint32_t cluster_list_pop(struct clusters *clusters, struct cluster_list *list)
{
	uint32_t cluster = list->first;
	uint64_t next = entry_payload(clusters->entries[cluster]);

	assert(list->count > 0);
	list->count--;
	list->first = next == 0 ? CLUSTER_NONE : (uint32_t)(next - 1);
	assert((list->count == 0) == (list->first == CLUSTER_NONE));
	return cluster;
}

/* ---- map ---- */

/* Neighbours stay neighbours within a group of 8, for the sake of the cache. */
static uint32_t hash_of(const struct clusters *clusters, uint32_t slot, uint64_t logical)
{
	uint64_t x = (logical >> 3) ^ (uint64_t)slot << 45;

	x ^= x >> 31;
	x *= UINT64_C(0x9e3779b97f4a7c15);
	x ^= x >> 29;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 32;
	return (uint32_t)(x << 3 | (logical & 7)) & clusters->hash_mask;
}

static bool cluster_is(
	const struct clusters *clusters, uint32_t cluster, uint32_t slot, uint64_t logical)
{
	uint64_t entry = clusters->entries[cluster] & ~ENTRY_PENDING;

	return entry == entry_make(CLUSTER_DATA, slot, logical);
}

uint32_t clusters_find(const struct clusters *clusters, uint32_t slot, uint64_t logical)
{
	uint32_t at = hash_of(clusters, slot, logical);

	for (;; at = (at + 1) & clusters->hash_mask) {
		uint32_t cluster = clusters->hash[at];

		if (cluster == CLUSTER_NONE || cluster_is(clusters, cluster, slot, logical)) {
			return cluster;
		}
	}
}

int clusters_map_add(struct clusters *clusters, uint32_t cluster)
{
	uint64_t entry = clusters->entries[cluster];
	uint32_t slot = entry_slot(entry);
	uint64_t logical = entry_payload(entry);
	uint32_t at = hash_of(clusters, slot, logical);

	for (; clusters->hash[at] != CLUSTER_NONE; at = (at + 1) & clusters->hash_mask) {
		if (cluster_is(clusters, clusters->hash[at], slot, logical)) {
			return -EBADMSG;
		}
	}
	clusters->hash[at] = cluster;
	return 0;
}

static uint32_t hash_home(const struct clusters *clusters, uint32_t at)
{
	uint64_t entry = clusters->entries[clusters->hash[at]];

	return hash_of(clusters, entry_slot(entry), entry_payload(entry));
}

/* Takes it out and moves up what was placed behind it, so that no searched chain has a hole. */
static void clusters_map_remove(struct clusters *clusters, uint32_t cluster)
{
	uint64_t entry = clusters->entries[cluster];
	uint32_t hole = hash_of(clusters, entry_slot(entry), entry_payload(entry));
	uint32_t at;

	while (clusters->hash[hole] != cluster) {
		assert(clusters->hash[hole] != CLUSTER_NONE);
		hole = (hole + 1) & clusters->hash_mask;
	}
	for (at = (hole + 1) & clusters->hash_mask; clusters->hash[at] != CLUSTER_NONE;
		at = (at + 1) & clusters->hash_mask) {
		uint32_t from_home = (at - hash_home(clusters, at)) & clusters->hash_mask;
		uint32_t from_hole = (at - hole) & clusters->hash_mask;

		if (from_home >= from_hole) {
			clusters->hash[hole] = clusters->hash[at];
			hole = at;
		}
	}
	clusters->hash[hole] = CLUSTER_NONE;
}

/* ---- life ---- */

int clusters_init(struct clusters *clusters, struct store *store)
{
	const struct layout *layout = &store->sb.layout;
	struct io *io = store->io;
	uint64_t hash_size = 16;

	clusters->store = store;
	clusters->count = (uint32_t)layout->cluster_count;
	while (hash_size < 2 * layout->cluster_count) {
		hash_size *= 2;
	}
	clusters->hash_mask = (uint32_t)(hash_size - 1);
	clusters->entries = io_zalloc(io, layout->cluster_count * sizeof(uint64_t));
	clusters->hash = io_zalloc(io, hash_size * sizeof(uint32_t));
	clusters->pages = io_zalloc(io, layout->table_pages * sizeof(struct meta_page));
	if (clusters->entries == NULL || clusters->hash == NULL || clusters->pages == NULL) {
		return -ENOMEM;
	}
	memset(clusters->hash, 0xff, hash_size * sizeof(uint32_t));
	for (uint64_t i = 0; i < layout->table_pages; i++) {
		clusters->pages[i].index = (uint32_t)i;
	}
	cluster_list_init(&clusters->free);
	cluster_list_init(&clusters->dirty);
	return 0;
}

void clusters_done(struct clusters *clusters)
{
	if (clusters->store == NULL) {
		return;
	}
	io_free(clusters->store->io, clusters->entries);
	io_free(clusters->store->io, clusters->hash);
	io_free(clusters->store->io, clusters->pages);
}

void clusters_build_lists(struct clusters *clusters)
{
	for (uint32_t i = 0; i < clusters->count; i++) {
		unsigned state = entry_state(clusters->entries[i]);

		if (state == CLUSTER_DIRTY) {
			cluster_list_push(clusters, &clusters->dirty, i, CLUSTER_DIRTY);
		} else if (state != CLUSTER_FREE) {
			clusters->used++;
		} else if (i < clusters->store->sb.zeroed_clusters) {
			cluster_list_push(clusters, &clusters->free, i, CLUSTER_FREE);
		}
	}
}

void clusters_add_zeroed(struct clusters *clusters, uint64_t from, uint64_t until)
{
	for (uint64_t i = from; i < until; i++) {
		assert(clusters->entries[i] == 0);
		cluster_list_push(clusters, &clusters->free, (uint32_t)i, CLUSTER_FREE);
	}
}

/* ---- changes ---- */

bool clusters_is_pending(const struct clusters *clusters, uint32_t cluster)
{
	return (clusters->entries[cluster] & ENTRY_PENDING) != 0;
}

void clusters_record_durable(struct clusters *clusters, uint32_t cluster)
{
	clusters->entries[cluster] &= ~ENTRY_PENDING;
}

static void clusters_record(struct clusters *clusters, const struct record *record)
{
	struct store *store = clusters->store;

	journal_add(&store->journal, record);
	checkpoint_page_dirty(&store->checkpoint, &clusters->pages[record->index / PAGE_ENTRIES],
		store->journal.next_seq);
}

static uint32_t clusters_take(
	struct clusters *clusters, enum cluster_state state, uint32_t slot, uint64_t payload)
{
	uint32_t cluster = cluster_list_pop(clusters, &clusters->free);
	struct record record = {
		.type = state == CLUSTER_DATA ? RECORD_DATA : RECORD_STAMPS,
		.slot = slot,
		.index = cluster,
		.value = payload,
	};

	clusters->entries[cluster] = entry_make(state, slot, payload) | ENTRY_PENDING;
	clusters->used++;
	clusters->store->slots[slot].clusters++;
	clusters_record(clusters, &record);
	if (clusters->store->sb.zeroed_clusters < clusters->count) {
		task_wake(&clusters->store->ahead.task);
	}
	return cluster;
}

void clusters_map(struct clusters *clusters, uint32_t slot, uint64_t logical)
{
	int result =
		clusters_map_add(clusters, clusters_take(clusters, CLUSTER_DATA, slot, logical));

	assert(result == 0);
}

uint32_t clusters_take_stamps(struct clusters *clusters, uint32_t slot, uint64_t index)
{
	return clusters_take(clusters, CLUSTER_STAMPS, slot, index);
}

void clusters_make_dirty(struct clusters *clusters, uint32_t cluster)
{
	uint64_t entry = clusters->entries[cluster];
	struct record record = {.type = RECORD_DIRTY, .index = cluster};
	struct slot *slot = &clusters->store->slots[entry_slot(entry)];

	assert(entry_state(entry) == CLUSTER_DATA || entry_state(entry) == CLUSTER_STAMPS);
	/* What a slot that abstains has is in no map. */
	if (entry_state(entry) == CLUSTER_DATA && !slot->unmapped) {
		clusters_map_remove(clusters, cluster);
	}
	clusters->used--;
	slot->clusters--;
	cluster_list_push(clusters, &clusters->dirty, cluster, CLUSTER_DIRTY);
	clusters_record(clusters, &record);
	task_wake(&clusters->store->cleaner.task);
}

uint32_t clusters_take_dirty(struct clusters *clusters)
{
	uint32_t cluster = cluster_list_pop(clusters, &clusters->dirty);

	clusters->entries[cluster] = entry_make(CLUSTER_DIRTY, 0, 0);
	return cluster;
}

void clusters_make_free(struct clusters *clusters, uint32_t cluster)
{
	struct record record = {.type = RECORD_FREE, .index = cluster};

	assert(clusters->entries[cluster] == entry_make(CLUSTER_DIRTY, 0, 0));
	cluster_list_push(clusters, &clusters->free, cluster, CLUSTER_FREE);
	clusters_record(clusters, &record);
}

void clusters_encode_page(const struct clusters *clusters, uint32_t index, uint8_t *page)
{
	uint64_t first = (uint64_t)index * PAGE_ENTRIES;
	uint64_t count = min_u64(PAGE_ENTRIES, clusters->count - first);

	memset(page, 0, STORE_BLOCK_BYTES);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t entry = clusters->entries[first + i] & ~ENTRY_PENDING;

		if (entry_state(entry) == CLUSTER_FREE || entry_state(entry) == CLUSTER_DIRTY) {
			entry = entry_state(entry); /* the lists are memory's own */
		}
		le64_put(page_entry(page, i), entry);
	}
}
