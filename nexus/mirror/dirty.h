/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a voter that left S lacks, exactly: a bit for each 64 KiB, in pages that are taken from one
 * store for all volumes of the nexus when a bit of theirs is set first.  When the store is empty
 * the map is unknown from then on: the stamps decide.  One reactor; nothing is allocated but by
 * dirty_init() and dirty_reserve().
 */
#ifndef NEXUS_MIRROR_DIRTY_H
#define NEXUS_MIRROR_DIRTY_H

#include "nexus/mirror/piecemap.h"

#define DIRTY_PAGE_WORDS 64u
#define DIRTY_COARSE_MAX 65536u
#define DIRTY_PAGE_BYTES (DIRTY_PAGE_WORDS * sizeof(uint64_t)) /* 256 MiB of a volume */

struct dirty_page {
	uint64_t words[DIRTY_PAGE_WORDS];
};

struct dirty_store {
	struct dirty_page *pages; /* owned */
	uint32_t count;
	uint32_t first_free; /* chained by words[0]; NONE at the end */
};

int dirty_store_init(struct dirty_store *store, struct io *io, size_t size_bytes) __must_check;
void dirty_store_done(struct dirty_store *store, struct io *io);

/* Zeroed: unknown. */
struct dirty {
	struct dirty_store *store; /* borrowed */
	uint32_t *pages; /* owned: of each DIRTY_PAGE_WORDS * 64 pieces; NONE: all clear */
	uint32_t page_count;
	uint32_t page_capacity; /* of pages, at least page_count */
	uint64_t size_bytes, piece_bytes;
	bool known;
	/* The power id under which the voter has everything else: with another one the map says
	 * nothing. */
	uint64_t power;
};

/* Unknown.  A second time: for another size. */
int dirty_init(struct dirty *dirty, struct dirty_store *store, struct io *io, uint64_t size_bytes,
	uint64_t region_bytes) __must_check;
/* So that dirty_grow() up to that size cannot fail.  0 or -ENOMEM. */
int dirty_reserve(struct dirty *dirty, struct io *io, uint64_t size_bytes) __must_check;
/* Nothing is set in what is added; known or unknown as before. */
void dirty_grow(struct dirty *dirty, uint64_t size_bytes);
void dirty_done(struct dirty *dirty, struct io *io);
/* Known and empty; a map that is known already stays as it is. */
void dirty_begin(struct dirty *dirty, uint64_t power);
void dirty_forget(struct dirty *dirty); /* unknown */
/* Nothing while it is unknown. */
void dirty_set(struct dirty *dirty, uint64_t offset, uint64_t length);
/* Of the same volume; one with larger pieces, and more than DIRTY_COARSE_MAX of them, makes it
 * unknown. */
void dirty_add_map(struct dirty *dirty, const struct piecemap *map);
/* Adds what it has to a map of the same volume with pieces of the same size. */
void dirty_add_to(const struct dirty *dirty, struct piecemap *map);

#endif
