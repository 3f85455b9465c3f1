/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of pieces of a volume, one bit each: what is still to be copied, or was written.  Pieces
 * divide a region; a piece is at least one block.  One reactor.
 */
#ifndef NEXUS_MIRROR_PIECEMAP_H
#define NEXUS_MIRROR_PIECEMAP_H

#include "io/io.h"

#define PIECES_A_REGION      64u  /* of a copy: 256 KiB of 16 MiB */
#define PIECES_A_REGION_FINE 256u /* where it is known exactly what was written: 64 KiB */

struct piecemap {
	uint64_t *words; /* owned; NULL: empty and nothing can be set */
	uint64_t size_bytes;
	uint64_t word_capacity; /* of words, at least what size_bytes needs */
	uint64_t region_bytes;
	uint64_t region_count;
	uint64_t piece_bytes;
	uint64_t piece_count; /* of the volume */
	uint64_t count;       /* of pieces set */
};

/* pieces: of a region (1: a bit for each region). */
int piecemap_init(struct piecemap *map, struct io *io, uint64_t size_bytes, uint64_t region_bytes,
	unsigned pieces) __must_check;
void piecemap_done(struct piecemap *map, struct io *io);
void piecemap_clear(struct piecemap *map);
/* Adds what is in `from`, of the same volume; pieces may have another size. */
void piecemap_add(struct piecemap *map, const struct piecemap *from);
/* So that piecemap_grow() up to that size cannot fail; what is set stays set.  0 or -ENOMEM. */
int piecemap_reserve(struct piecemap *map, struct io *io, uint64_t size_bytes) __must_check;
/* What is added is not set; the last piece may get longer. */
void piecemap_grow(struct piecemap *map, uint64_t size_bytes);
void piecemap_set(struct piecemap *map, uint64_t offset, uint64_t length);
/* 64 pieces at once. */
void piecemap_set_word(struct piecemap *map, uint64_t index, uint64_t word);
uint64_t piecemap_word(const struct piecemap *map, uint64_t index);
void piecemap_set_region(struct piecemap *map, uint64_t region);
void piecemap_clear_piece(struct piecemap *map, uint64_t piece);
bool piecemap_test(const struct piecemap *map, uint64_t offset, uint64_t length);
/* All of the range is set. */
bool piecemap_covers(const struct piecemap *map, uint64_t offset, uint64_t length);
/* First set piece at or after `from`; UINT64_MAX when there is none. */
uint64_t piecemap_next(const struct piecemap *map, uint64_t from);
/* Bytes of a piece: the last one of the volume may be short. */
uint64_t piecemap_piece_length(const struct piecemap *map, uint64_t piece);
/* Regions with something set. */
uint64_t piecemap_regions(const struct piecemap *map);

#endif
