/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of format version 0: superblock, metadata pages and journal blocks; encode, decode,
 * validate.  Pure.  docs/on-disk-format.md describes the same, byte by byte.
 *
 *   block 0        superblock, near copy
 *   vmeta_near     two blocks a slot: its pair 0 and its pair 1
 *   journal        ring of blocks
 *   table          place 0 of every page, then place 1 of every page
 *   clusters       aligned to the size of a cluster
 *   vmeta_far      two blocks a slot
 *   last block     superblock, far copy
 */
#ifndef STORE_ONDISK_H
#define STORE_ONDISK_H

#include "base/err.h"
#include "base/uuid.h"
#include "pool-agent/store/store.h"

#define ONDISK_VERSION            0u
#define ONDISK_SLOTS_MAX          8192u
#define ONDISK_JOURNAL_BLOCKS_MIN 8u
#define ONDISK_JOURNAL_BLOCKS_MAX 65536u
#define ONDISK_CLUSTER_BYTES_MAX  (16u << 20)

/* Beyond this no sequence number of ours ever gets: what says so is damaged. */
#define ONDISK_SEQ_MAX (UINT64_C(1) << 62)

/* Feature bits that this version understands: none yet. */
#define ONDISK_COMPAT_KNOWN    UINT64_C(0)
#define ONDISK_RO_COMPAT_KNOWN UINT64_C(0)
#define ONDISK_INCOMPAT_KNOWN  UINT64_C(0)

/* ---- superblock ---- */

/* Where everything lies, in blocks of STORE_BLOCK_BYTES. */
struct layout {
	uint64_t size_blocks; /* of the pool, with both superblocks */
	uint32_t cluster_bytes;
	uint64_t region_bytes;
	uint32_t slots;
	uint32_t journal_blocks;
	uint64_t vmeta_near;
	uint64_t journal;
	uint64_t table;
	uint64_t table_pages; /* each at two places */
	uint64_t clusters;
	uint64_t cluster_count;
	uint64_t vmeta_far;
};

struct superblock {
	uint64_t seq; /* rises with each change; the higher one of the two copies counts */
	uint64_t compat, ro_compat, incompat;
	struct uuid uuid;
	char name[STORE_POOL_NAME_SIZE];
	struct layout layout;
	/* Clusters below this one were zero on stable storage once: the others are zeroed before
	 * they are given out for the first time. */
	uint64_t zeroed_clusters;
};

/* Fills in the places for a pool of that size; -ENOSPC with text when not even one cluster fits;
 * -EINVAL with text for senseless sizes. */
int layout_make(uint64_t size_blocks, const struct store_format_options *options,
	struct layout *ret_layout, struct err *err) __must_check;

/* `at` is the block it is written to. */
void superblock_encode(const struct superblock *sb, uint64_t at, uint8_t to[STORE_BLOCK_BYTES]);
/* 0; -ENODATA: no superblock of ours at all; -EBADMSG: damaged; -EOPNOTSUPP: newer version or
 * unknown features; all but 0 with text. */
int superblock_decode(const uint8_t from[STORE_BLOCK_BYTES], uint64_t at, struct superblock *ret_sb,
	struct err *err) __must_check;

/* ---- metadata pages ---- */

#define PAGE_HEADER_BYTES 32u
#define PAGE_ENTRIES      ((STORE_BLOCK_BYTES - PAGE_HEADER_BYTES) / 8)

enum page_kind { PAGE_TABLE = 1, PAGE_STAMPS = 2 };

struct page_id {
	enum page_kind kind;
	uint32_t slot;  /* of stamps; 0 */
	uint32_t index; /* of the page in its array */
};

struct page_header {
	uint64_t seq; /* version of this page; 0: never written, all entries 0 */
	uint64_t lsn; /* the last journal record that is in it */
};

/* The entries are at to + PAGE_HEADER_BYTES and are there already. */
void page_seal(const struct uuid *pool, const struct page_id *id, const struct page_header *header,
	uint8_t to[STORE_BLOCK_BYTES]);
/* 0, or -EBADMSG.  A page of zeros was never written. */
int page_check(const struct uuid *pool, const struct page_id *id,
	const uint8_t from[STORE_BLOCK_BYTES], struct page_header *ret_header) __must_check;

static inline uint8_t *page_entry(uint8_t *page, size_t index)
{
	return page + PAGE_HEADER_BYTES + index * 8;
}

/* An entry of the cluster table: state in bits 0 to 2, slot in 3 to 15, payload in 16 to 62.  Bit
 * 63 is zero on disk. */
enum cluster_state {
	CLUSTER_FREE = 0,   /* zero on stable storage (below the zeroed watermark) */
	CLUSTER_DATA = 1,   /* payload: logical cluster of the replica in that slot */
	CLUSTER_STAMPS = 2, /* payload: index in the slot's stamp space */
	CLUSTER_DIRTY = 3,  /* nobody's, to be zeroed */
};

#define ENTRY_PENDING     (UINT64_C(1) << 63) /* in memory: its record is not durable yet */
#define ENTRY_PAYLOAD_MAX ((UINT64_C(1) << 47) - 1)

static inline uint64_t entry_make(enum cluster_state state, uint32_t slot, uint64_t payload)
{
	return (uint64_t)state | (uint64_t)slot << 3 | payload << 16;
}

static inline unsigned entry_state(uint64_t entry)
{
	return (unsigned)(entry & 7);
}

static inline uint32_t entry_slot(uint64_t entry)
{
	return (uint32_t)(entry >> 3 & 0x1fff);
}

static inline uint64_t entry_payload(uint64_t entry)
{
	return entry >> 16 & ENTRY_PAYLOAD_MAX;
}

/* ---- journal ---- */

#define JOURNAL_MAGIC 0x4c4e4a53u /* "SJNL", at offset 0 */

#define JOURNAL_HEADER_BYTES  64u
#define JOURNAL_RECORD_BYTES  16u
#define JOURNAL_BLOCK_RECORDS ((STORE_BLOCK_BYTES - JOURNAL_HEADER_BYTES) / JOURNAL_RECORD_BYTES)

enum record_type {
	RECORD_STAMP = 1,  /* slot, index = region, value = wgen */
	RECORD_DATA = 2,   /* slot, index = cluster, value = logical cluster */
	RECORD_STAMPS = 3, /* slot, index = cluster, value = index in the stamp space; 0: a new
			    * replica begins, all its stamps are 0 */
	RECORD_DIRTY = 4,  /* index = cluster */
	RECORD_FREE = 5,   /* index = cluster: it is zero on stable storage */
};

struct record {
	enum record_type type;
	uint32_t slot;
	uint32_t index;
	uint64_t value;
};

struct journal_header {
	uint64_t seq;       /* of this block; it lies at seq % journal_blocks */
	uint64_t tail;      /* recovery begins with this block */
	uint64_t first_lsn; /* number of its first record */
	uint32_t count;     /* of records */
	uint32_t previous_crc;
};

void record_encode(const struct record *record, uint8_t to[JOURNAL_RECORD_BYTES]);
int record_decode(const uint8_t from[JOURNAL_RECORD_BYTES], struct record *ret_record) __must_check;

static inline uint8_t *journal_record_at(uint8_t *block, uint32_t index)
{
	return block + JOURNAL_HEADER_BYTES + (size_t)index * JOURNAL_RECORD_BYTES;
}

/* The records are there already.  Returns the block's crc, for the next one's previous_crc. */
uint32_t journal_seal(const struct uuid *pool, const struct journal_header *header,
	uint8_t to[STORE_BLOCK_BYTES]);
/* 0, or -EBADMSG: not a block of this journal (or torn).  The records are not looked at. */
int journal_check(const struct uuid *pool, const uint8_t from[STORE_BLOCK_BYTES],
	struct journal_header *ret_header, uint32_t *ret_crc) __must_check;

#endif
