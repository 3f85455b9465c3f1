/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/mirror/piecemap.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

static uint64_t word_count(const struct piecemap *map)
{
	return div_up_u64(map->piece_count, 64);
}

static uint64_t words_of(const struct piecemap *map, uint64_t size_bytes)
{
	return div_up_u64(div_up_u64(size_bytes, map->piece_bytes), 64);
}

int piecemap_init(struct piecemap *map, struct io *io, uint64_t size_bytes, uint64_t region_bytes,
	unsigned pieces)
{
	map->size_bytes = size_bytes;
	map->region_bytes = region_bytes;
	map->region_count = div_up_u64(size_bytes, region_bytes);
	map->piece_bytes = max_u64(region_bytes / pieces, 4096);
	map->piece_count = div_up_u64(size_bytes, map->piece_bytes);
	map->count = 0;
	map->word_capacity = word_count(map);
	map->words = io_zalloc(io, map->word_capacity * sizeof(*map->words));
	return map->words == NULL ? -ENOMEM : 0;
}

int piecemap_reserve(struct piecemap *map, struct io *io, uint64_t size_bytes)
{
	uint64_t count = words_of(map, size_bytes);
	uint64_t *words;

	if (count <= map->word_capacity) {
		return 0;
	}
	words = io_zalloc(io, count * sizeof(*words));
	if (words == NULL) {
		return -ENOMEM;
	}
	memcpy(words, map->words, words_of(map, map->size_bytes) * sizeof(*words));
	io_free(io, map->words);
	map->words = words;
	map->word_capacity = count;
	return 0;
}

void piecemap_grow(struct piecemap *map, uint64_t size_bytes)
{
	assert(size_bytes >= map->size_bytes && words_of(map, size_bytes) <= map->word_capacity);
	map->size_bytes = size_bytes;
	map->region_count = div_up_u64(size_bytes, map->region_bytes);
	map->piece_count = div_up_u64(size_bytes, map->piece_bytes);
}

void piecemap_done(struct piecemap *map, struct io *io)
{
	io_free(io, map->words);
	map->words = NULL;
	map->count = 0;
}

void piecemap_clear(struct piecemap *map)
{
	if (map->count > 0) {
		memset(map->words, 0, word_count(map) * sizeof(*map->words));
		map->count = 0;
	}
}

static void set_piece(struct piecemap *map, uint64_t piece)
{
	uint64_t *word = &map->words[piece / 64];
	uint64_t bit = UINT64_C(1) << piece % 64;

	if ((*word & bit) == 0) {
		*word |= bit;
		map->count++;
	}
}

void piecemap_set(struct piecemap *map, uint64_t offset, uint64_t length)
{
	assert(length > 0 && range_is_within(offset, length, map->size_bytes));
	for (uint64_t piece = offset / map->piece_bytes;
		piece <= (offset + length - 1) / map->piece_bytes; piece++) {
		set_piece(map, piece);
	}
}

void piecemap_set_word(struct piecemap *map, uint64_t index, uint64_t word)
{
	if (word != 0) {
		assert(index < word_count(map));
		map->count += (unsigned)__builtin_popcountll(word & ~map->words[index]);
		map->words[index] |= word;
	}
}

uint64_t piecemap_word(const struct piecemap *map, uint64_t index)
{
	return map->words[index];
}

void piecemap_set_region(struct piecemap *map, uint64_t region)
{
	uint64_t offset = region * map->region_bytes;

	piecemap_set(map, offset, min_u64(map->region_bytes, map->size_bytes - offset));
}

void piecemap_clear_piece(struct piecemap *map, uint64_t piece)
{
	uint64_t *word = &map->words[piece / 64];
	uint64_t bit = UINT64_C(1) << piece % 64;

	if ((*word & bit) != 0) {
		*word &= ~bit;
		map->count--;
	}
}

bool piecemap_test(const struct piecemap *map, uint64_t offset, uint64_t length)
{
	if (map->count == 0 || length == 0) {
		return false;
	}
	for (uint64_t piece = offset / map->piece_bytes;
		piece <= (offset + length - 1) / map->piece_bytes; piece++) {
		if (map->words[piece / 64] >> piece % 64 & 1) {
			return true;
		}
	}
	return false;
}

bool piecemap_covers(const struct piecemap *map, uint64_t offset, uint64_t length)
{
	if (map->count == 0) {
		return false;
	}
	for (uint64_t piece = offset / map->piece_bytes;
		piece <= (offset + length - 1) / map->piece_bytes; piece++) {
		if (!(map->words[piece / 64] >> piece % 64 & 1)) {
			return false;
		}
	}
	return true;
}

uint64_t piecemap_next(const struct piecemap *map, uint64_t from)
{
	if (map->count == 0) {
		return UINT64_MAX;
	}
	for (uint64_t at = from / 64; at < word_count(map); at++) {
		uint64_t word = map->words[at];

		if (at == from / 64) {
			word &= UINT64_MAX << from % 64;
		}
		if (word != 0) {
			return at * 64 + (unsigned)__builtin_ctzll(word);
		}
	}
	return UINT64_MAX;
}

void piecemap_add(struct piecemap *map, const struct piecemap *from)
{
	for (uint64_t piece = piecemap_next(from, 0); piece != UINT64_MAX;
		piece = piecemap_next(from, piece + 1)) {
		piecemap_set(map, piece * from->piece_bytes, piecemap_piece_length(from, piece));
	}
}

uint64_t piecemap_piece_length(const struct piecemap *map, uint64_t piece)
{
	return min_u64(map->piece_bytes, map->size_bytes - piece * map->piece_bytes);
}

uint64_t piecemap_regions(const struct piecemap *map)
{
	uint64_t each = map->count == 0 ? 1 : map->region_bytes / map->piece_bytes;
	uint64_t piece = piecemap_next(map, 0);
	uint64_t regions = 0;

	for (; piece != UINT64_MAX; piece = piecemap_next(map, round_up_u64(piece + 1, each))) {
		regions++;
	}
	return regions;
}
