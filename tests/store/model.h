/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store may hold: for each replica whether it is there, its size, its metadata, the stamps
 * of its regions and the values of the blocks that the workload writes.  It follows what was asked
 * for and what was answered, and nothing else.  No pointers: it is copied and hashed as bytes.
 */
#ifndef STORE_SWEEP_MODEL_H
#define STORE_SWEEP_MODEL_H

#include "pool-agent/store/store.h"

/* A cluster is two blocks, a region two clusters. */
#define CLUSTER_BLOCKS   2u
#define REGION_BLOCKS    4u
#define MODEL_SLOTS      5u
#define MODEL_REPLICAS   8u
#define MODEL_HISTORY    10u
#define MODEL_VALUES_MAX 160u
#define MODEL_MARK       (MODEL_VALUES_MAX - 1) /* the number of every mark: unreadable */

/*
 * The blocks that are ever written ("cells"): the 48 around its region 60 (whose stamp
 * is the first one in the second sector of its page), and two regions at its end
 * that are there only when it was resized.  508 regions have their stamps in one page: the first
 * resize takes a second one, and a cluster for it.
 */
/* All of the front in a new generation is more records than the first sector of a journal block
 * holds. */
#define FRONT_CELLS   48u
#define FRONT_BLOCK   224u
#define TAIL_CELLS    REGION_BLOCKS
#define CELLS         (FRONT_CELLS + 2 * TAIL_CELLS)
#define CELL_REGIONS  (CELLS / REGION_BLOCKS)
#define CELL_CLUSTERS (CELLS / CLUSTER_BLOCKS)
#define SIZE_BLOCKS   2026u
#define SIZES         4u

enum existence { ABSENT, MAYBE, PRESENT };

/* entries[0] is the oldest that a loss of power may bring back; entries[certain] and later ones are
 * what it may hold while power stays. */
struct cell {
	uint16_t entries[MODEL_HISTORY]; /* numbers of writes; 0: zeros */
	uint16_t count, certain;
	uint16_t dropped; /* entries that are no longer here, for positions of flushes */
};

struct model_replica {
	uint8_t existence;
	uint8_t arbiter;
	uint16_t number;                 /* its uuid is made from it, and its blocks carry it */
	uint8_t size_acked, size_issued; /* indices of model_size_blocks */
	uint16_t update_acked, update_issued;
	uint64_t seq_low;
	uint64_t stamp_low[CELL_REGIONS];  /* at least */
	uint64_t stamp_high[CELL_REGIONS]; /* at most */
	uint32_t mapped_maybe;             /* bits: cell clusters that may be mapped */
	struct cell cells[CELLS];
};

struct model {
	uint16_t replica_count; /* ever: the numbers that were given */
	uint16_t next_number;   /* of a write */
	uint32_t wgen;
	bool marked; /* ever: value_wgen[MODEL_MARK] is that of the first one */
	uint64_t value_wgen[MODEL_VALUES_MAX];
	struct model_replica replicas[MODEL_REPLICAS];
};

extern const uint32_t model_size_blocks[SIZES];
uint32_t cell_logical(unsigned cell);
uint32_t cell_region(unsigned cell_region);
/* Is the cell within a replica of that size? */
bool cell_is_within(unsigned cell, uint32_t size_blocks);

void cell_push(struct cell *cell, uint16_t number);
/* The newest entry is what it holds while power stays; durable: also after it was lost. */
void cell_settle(struct cell *cell, bool durable);
void cell_drop(struct cell *cell, unsigned count);
/* It holds that and nothing else. */
void cell_pin(struct cell *cell, uint16_t number);
bool cell_may_be(const struct cell *cell, uint16_t number, bool power_lost);

struct uuid model_uuid(uint16_t number);
/* What an update with that number writes. */
void model_vmeta(uint16_t number, struct vmeta *vmeta);
/* Bytes of a block, and their number again: -1 when they are no block of that replica at that
 * place. With `sector` only one sector is looked at. */
void value_fill(uint8_t *to, uint16_t replica, uint32_t logical, uint16_t number);
int value_read(const uint8_t *from, uint16_t replica, uint32_t logical, unsigned sector,
	unsigned sector_count);
uint64_t model_hash(const struct model *model);

#endif
