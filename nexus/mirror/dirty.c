/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/mirror/dirty.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define NONE        UINT32_MAX
#define PAGE_PIECES (DIRTY_PAGE_WORDS * 64u)

int dirty_store_init(struct dirty_store *store, struct io *io, size_t size_bytes)
{
	store->count = (uint32_t)(size_bytes / DIRTY_PAGE_BYTES);
	store->first_free = NONE;
	store->pages = io_zalloc(io, store->count * sizeof(*store->pages));
	if (store->pages == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = store->count; i-- > 0;) {
		store->pages[i].words[0] = store->first_free;
		store->first_free = i;
	}
	return 0;
}

void dirty_store_done(struct dirty_store *store, struct io *io)
{
	io_free(io, store->pages);
	store->pages = NULL;
}

static uint32_t pages_of(const struct dirty *dirty, uint64_t size_bytes)
{
	return (uint32_t)div_up_u64(size_bytes, dirty->piece_bytes * PAGE_PIECES);
}

int dirty_init(struct dirty *dirty, struct dirty_store *store, struct io *io, uint64_t size_bytes,
	uint64_t region_bytes)
{
	dirty_done(dirty, io);
	dirty->store = store;
	dirty->size_bytes = size_bytes;
	dirty->piece_bytes = max_u64(region_bytes / PIECES_A_REGION_FINE, 4096);
	dirty->page_count = pages_of(dirty, size_bytes);
	dirty->page_capacity = dirty->page_count;
	dirty->pages = io_zalloc(io, dirty->page_count * sizeof(*dirty->pages));
	if (dirty->pages == NULL) {
		return -ENOMEM;
	}
	memset(dirty->pages, 0xff, dirty->page_count * sizeof(*dirty->pages));
	return 0;
}

int dirty_reserve(struct dirty *dirty, struct io *io, uint64_t size_bytes)
{
	uint32_t count, *pages;

	if (dirty->pages == NULL) {
		return 0;
	}
	count = pages_of(dirty, size_bytes);
	if (count <= dirty->page_capacity) {
		return 0;
	}
	pages = io_zalloc(io, count * sizeof(*pages));
	if (pages == NULL) {
		return -ENOMEM;
	}
	memset(pages, 0xff, count * sizeof(*pages));
	memcpy(pages, dirty->pages, dirty->page_count * sizeof(*pages));
	io_free(io, dirty->pages);
	dirty->pages = pages;
	dirty->page_capacity = count;
	return 0;
}

void dirty_grow(struct dirty *dirty, uint64_t size_bytes)
{
	if (dirty->pages == NULL) {
		return;
	}
	assert(size_bytes >= dirty->size_bytes &&
		pages_of(dirty, size_bytes) <= dirty->page_capacity);
	dirty->size_bytes = size_bytes;
	dirty->page_count = pages_of(dirty, size_bytes);
}

void dirty_done(struct dirty *dirty, struct io *io)
{
	dirty_forget(dirty);
	io_free(io, dirty->pages);
	dirty->pages = NULL;
	dirty->page_count = 0;
	dirty->page_capacity = 0;
}

void dirty_begin(struct dirty *dirty, uint64_t power)
{
	if (!dirty->known && dirty->pages != NULL) {
		dirty->known = true;
		dirty->power = power;
	}
}

void dirty_forget(struct dirty *dirty)
{
	struct dirty_store *store = dirty->store;

	if (!dirty->known) {
		return;
	}
	dirty->known = false;
	for (uint32_t i = 0; i < dirty->page_count; i++) {
		uint32_t page = dirty->pages[i];

		if (page != NONE) {
			store->pages[page].words[0] = store->first_free;
			store->first_free = page;
			dirty->pages[i] = NONE;
		}
	}
}

/* NULL when there is none left. */
static struct dirty_page *page_of(struct dirty *dirty, uint64_t piece)
{
	struct dirty_store *store = dirty->store;
	uint32_t *at = &dirty->pages[piece / PAGE_PIECES];
	struct dirty_page *page;

	if (*at != NONE) {
		return &store->pages[*at];
	}
	if (store->first_free == NONE) {
		return NULL;
	}
	*at = store->first_free;
	page = &store->pages[*at];
	store->first_free = (uint32_t)page->words[0];
	memset(page, 0, sizeof(*page));
	return page;
}

void dirty_set(struct dirty *dirty, uint64_t offset, uint64_t length)
{
	if (!dirty->known) {
		return;
	}
	assert(length > 0 && range_is_within(offset, length, dirty->size_bytes));
	for (uint64_t piece = offset / dirty->piece_bytes;
		piece <= (offset + length - 1) / dirty->piece_bytes; piece++) {
		struct dirty_page *page = page_of(dirty, piece);

		if (page == NULL) {
			dirty_forget(dirty);
			return;
		}
		page->words[piece % PAGE_PIECES / 64] |= UINT64_C(1) << piece % 64;
	}
}

/* Pieces of the same size, whole words at once. */
static void add_words(struct dirty *dirty, const struct piecemap *map)
{
	for (uint64_t piece = piecemap_next(map, 0); piece != UINT64_MAX && dirty->known;
		piece = piecemap_next(map, round_up_u64(piece + 1, 64))) {
		struct dirty_page *page = page_of(dirty, piece);

		if (page == NULL) {
			dirty_forget(dirty);
		} else {
			page->words[piece % PAGE_PIECES / 64] |= piecemap_word(map, piece / 64);
		}
	}
}

void dirty_add_map(struct dirty *dirty, const struct piecemap *map)
{
	if (!dirty->known) {
		return;
	}
	if (map->piece_bytes == dirty->piece_bytes) {
		add_words(dirty, map);
		return;
	}
	if (map->count > DIRTY_COARSE_MAX) {
		dirty_forget(dirty); /* the reactor has other things to do */
		return;
	}
	for (uint64_t piece = piecemap_next(map, 0); piece != UINT64_MAX;
		piece = piecemap_next(map, piece + 1)) {
		dirty_set(dirty, piece * map->piece_bytes, piecemap_piece_length(map, piece));
	}
}

void dirty_add_to(const struct dirty *dirty, struct piecemap *map)
{
	assert(map->piece_bytes == dirty->piece_bytes);
	for (uint32_t i = 0; dirty->known && i < dirty->page_count; i++) {
		for (unsigned word = 0; dirty->pages[i] != NONE && word < DIRTY_PAGE_WORDS;
			word++) {
			piecemap_set_word(map, (uint64_t)i * DIRTY_PAGE_WORDS + word,
				dirty->store->pages[dirty->pages[i]].words[word]);
		}
	}
}
