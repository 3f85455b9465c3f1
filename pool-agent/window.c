/* SPDX-License-Identifier: Apache-2.0 */
#include "pool-agent/window.h"

#include "base/bytes.h"
#include "base/mutant.h"

#include <errno.h>

int windows_init(struct windows *windows, struct io *io, uint32_t entries)
{
	windows->io = io;
	windows->bucket_count = 1;
	while (windows->bucket_count < entries) {
		windows->bucket_count *= 2;
	}
	windows->entries = io_zalloc(io, entries * sizeof(*windows->entries));
	windows->buckets = io_zalloc(io, windows->bucket_count * sizeof(*windows->buckets));
	if (windows->entries == NULL || windows->buckets == NULL) {
		windows_done(windows);
		return -ENOMEM;
	}
	list_init(&windows->unused);
	for (uint32_t i = 0; i < entries; i++) {
		list_push_back(&windows->unused, &windows->entries[i].node);
	}
	return 0;
}

void windows_done(struct windows *windows)
{
	io_free(windows->io, windows->entries);
	io_free(windows->io, windows->buckets);
	windows->entries = NULL;
	windows->buckets = NULL;
}

void window_init(
	struct window *window, struct windows *windows, uint32_t nsid, uint64_t region_bytes)
{
	*window = (struct window){
		.windows = windows,
		.nsid = nsid,
		.piece_bytes = max_u64(region_bytes / 64, 4096),
		.valid = mutant_is(MUTANT_B12), /* Deliberate bug: nothing is known, and it says so
						 * as if nothing had been. */
	};
	list_init(&window->own);
	list_init(&window->old);
}

/* ---- entries ---- */

static struct window_entry **bucket_of(const struct window *window, uint32_t piece)
{
	uint64_t key = ((uint64_t)window->nsid << 32 | piece) * UINT64_C(0x9e3779b97f4a7c15);

	return &window->windows->buckets[(key >> 32) & (window->windows->bucket_count - 1)];
}

static struct window_entry *entry_find(const struct window *window, uint32_t piece)
{
	struct window_entry *entry = *bucket_of(window, piece);

	while (entry != NULL && (entry->piece != piece || entry->nsid != window->nsid)) {
		entry = entry->chain;
	}
	return entry;
}

/* NULL: the table or the window is full. */
static struct window_entry *entry_take(struct window *window, uint32_t piece)
{
	struct window_entry **bucket = bucket_of(window, piece);
	struct list_node *node = window->count < WINDOW_ENTRIES_MAX
					 ? list_pop_front(&window->windows->unused)
					 : NULL;
	struct window_entry *entry;

	if (node == NULL) {
		return NULL;
	}
	entry = container_of(node, struct window_entry, node);
	entry->nsid = window->nsid;
	entry->piece = piece;
	entry->seq = 0;
	entry->chain = *bucket;
	*bucket = entry;
	window->count++;
	return entry;
}

static void entry_free(struct window *window, struct window_entry *entry)
{
	struct window_entry **at = bucket_of(window, entry->piece);

	while (*at != entry) {
		at = &(*at)->chain;
	}
	*at = entry->chain;
	list_remove(&entry->node);
	/* The one that was used last is in the cache. */
	list_push_front(&window->windows->unused, &entry->node);
	window->count--;
}

static void entries_free(struct window *window, struct list *list)
{
	struct list_node *node;

	while ((node = list_first(list)) != NULL) {
		entry_free(window, container_of(node, struct window_entry, node));
	}
}

/* ---- windows ---- */

void window_done(struct window *window)
{
	entries_free(window, &window->own);
	entries_free(window, &window->old);
}

void window_invalidate(struct window *window)
{
	window_done(window);
	window->valid = false;
	window->lost_seq = window->last_seq;
}

void window_add(struct window *window, uint64_t seq, uint64_t offset, uint64_t length)
{
	window->last_seq = max_u64(window->last_seq, seq);
	for (uint64_t piece = offset / window->piece_bytes;
		piece <= (offset + length - 1) / window->piece_bytes; piece++) {
		struct window_entry *entry = entry_find(window, (uint32_t)piece);

		if (entry != NULL) {
			/* Also one of an earlier epoch: this epoch settles nothing before that
			 * one's differences are gone (R is empty). */
			list_remove(&entry->node);
		} else {
			entry = entry_take(window, (uint32_t)piece);
		}
		if (entry == NULL) {
			window_invalidate(window);
			return;
		}
		entry->seq = max_u64(entry->seq, seq);
		list_push_back(&window->own, &entry->node);
	}
}

/* Commands come nearly in order of their numbers; one that is sent again late only keeps its entry
 * until those before it in the list go. */
void window_settle(struct window *window, uint64_t settled)
{
	struct list_node *node;

	while ((node = list_first(&window->own)) != NULL) {
		struct window_entry *entry = container_of(node, struct window_entry, node);

		if (entry->seq > settled) {
			return;
		}
		entry_free(window, entry);
	}
}

void window_new_epoch(struct window *window)
{
	list_for_each (&window->own, node) {
		container_of(node, struct window_entry, node)->seq = 0; /* the numbers begin anew */
	}
	list_splice_back(&window->old, &window->own);
	window->last_seq = 0;
	window->lost_seq = 0; /* what it has dropped is R's matter now: it is invalid */
}

bool window_resynced(struct window *window, uint64_t upto)
{
	entries_free(window, &window->old);
	window_settle(window, upto);
	if (upto < window->lost_seq) {
		return false;
	}
	window->lost_seq = 0;
	window->valid = true;
	return true;
}

static uint32_t list_get(const struct list *list, uint32_t *first, uint32_t *pieces, uint32_t max)
{
	uint32_t count = 0;

	list_for_each (list, node) {
		if (*first > 0) {
			(*first)--;
		} else if (count < max) {
			pieces[count++] = container_of(node, struct window_entry, node)->piece;
		} else {
			break;
		}
	}
	return count;
}

uint32_t window_get(const struct window *window, uint32_t first, uint32_t *ret_pieces, uint32_t max)
{
	uint32_t count = list_get(&window->old, &first, ret_pieces, max);

	return count + list_get(&window->own, &first, ret_pieces + count, max - count);
}
