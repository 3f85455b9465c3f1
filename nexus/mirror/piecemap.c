/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/mirror/piecemap.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

static uint64_t pieces_a_region(const struct piecemap *map)
{
	return map->region_bytes / map->piece_bytes;
}

static uint64_t words_of(const struct piecemap *map, uint64_t size_bytes)
{
	return div_up_u64(size_bytes, map->region_bytes);
}

int piecemap_init(struct piecemap *map, struct io *io, uint64_t size_bytes, uint64_t region_bytes)
{
	map->size_bytes = size_bytes;
	map->region_bytes = region_bytes;
	map->region_count = div_up_u64(size_bytes, region_bytes);
	map->piece_bytes = max_u64(region_bytes / 64, 4096);
	map->count = 0;
	map->word_capacity = words_of(map, size_bytes);
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
}

void piecemap_done(struct piecemap *map, struct io *io)
{
	io_free(io, map->words);
	map->words = NULL;
	map->count = 0;
}

static void set_piece(struct piecemap *map, uint64_t piece)
{
	uint64_t *word = &map->words[piece / pieces_a_region(map)];
	uint64_t bit = UINT64_C(1) << piece % pieces_a_region(map);

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

void piecemap_set_region(struct piecemap *map, uint64_t region)
{
	uint64_t offset = region * map->region_bytes;

	piecemap_set(map, offset, min_u64(map->region_bytes, map->size_bytes - offset));
}

void piecemap_clear_piece(struct piecemap *map, uint64_t piece)
{
	uint64_t *word = &map->words[piece / pieces_a_region(map)];
	uint64_t bit = UINT64_C(1) << piece % pieces_a_region(map);

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
		if (map->words[piece / pieces_a_region(map)] >> piece % pieces_a_region(map) & 1) {
			return true;
		}
	}
	return false;
}

uint64_t piecemap_next(const struct piecemap *map, uint64_t from)
{
	uint64_t each = pieces_a_region(map);

	if (map->count == 0) {
		return UINT64_MAX;
	}
	for (uint64_t region = from / each; region < map->region_count; region++) {
		uint64_t word = map->words[region];

		if (region == from / each) {
			word &= UINT64_MAX << from % each;
		}
		if (word != 0) {
			return region * each + (unsigned)__builtin_ctzll(word);
		}
	}
	return UINT64_MAX;
}

uint64_t piecemap_piece_length(const struct piecemap *map, uint64_t piece)
{
	return min_u64(map->piece_bytes, map->size_bytes - piece * map->piece_bytes);
}

uint64_t piecemap_regions(const struct piecemap *map)
{
	uint64_t regions = 0;

	for (uint64_t i = 0; map->words != NULL && i < map->region_count; i++) {
		regions += map->words[i] != 0;
	}
	return regions;
}
