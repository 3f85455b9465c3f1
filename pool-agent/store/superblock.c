/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock, and where the parts of a pool lie: see ondisk.h. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "pool-agent/store/ondisk.h"

#include <errno.h>
#include <stdio.h>

static const char superblock_magic[8] = {'S', 'T', 'R', 'K', 'P', 'O', 'O', 'L'};

enum {
	SB_AT_MAGIC = 0,
	SB_AT_VERSION = 8,
	SB_AT_CRC = 12,
	SB_AT_SEQ = 16,
	SB_AT_COMPAT = 24,
	SB_AT_RO_COMPAT = 32,
	SB_AT_INCOMPAT = 40,
	SB_AT_UUID = 48,
	SB_AT_NAME = 64,
	SB_AT_SIZE_BLOCKS = 128,
	SB_AT_BLOCK_BYTES = 136,
	SB_AT_CLUSTER_BYTES = 140,
	SB_AT_REGION_BYTES = 144,
	SB_AT_SLOTS = 152,
	SB_AT_JOURNAL_BLOCKS = 156,
	SB_AT_VMETA_NEAR = 160,
	SB_AT_JOURNAL = 168,
	SB_AT_TABLE = 176,
	SB_AT_TABLE_PAGES = 184,
	SB_AT_CLUSTERS = 192,
	SB_AT_CLUSTER_COUNT = 200,
	SB_AT_VMETA_FAR = 208,
	SB_AT_ZEROED_CLUSTERS = 216,
	SB_AT_OWN_BLOCK = 224,
};

/* ---- layout ---- */

#define GIB                (UINT64_C(1) << 30)
#define SLOTS_SMALL        128u
#define SLOTS_BIG          1024u
#define JOURNAL_SMALL      256u
#define JOURNAL_BIG        1024u
#define SMALL_BELOW_BLOCKS (16 * GIB / STORE_BLOCK_BYTES)

static int layout_check_options(const struct layout *layout, struct err *err)
{
	if (!is_power_of_two(layout->cluster_bytes) || layout->cluster_bytes < STORE_BLOCK_BYTES ||
		layout->cluster_bytes > ONDISK_CLUSTER_BYTES_MAX) {
		return err_set(err, -EINVAL, "cluster size %u is not a power of two from 4K to 16M",
			layout->cluster_bytes);
	}
	if (!is_power_of_two(layout->region_bytes) || layout->region_bytes < STORE_BLOCK_BYTES ||
		layout->region_bytes > REPL_SIZE_MAX) {
		return err_set(err, -EINVAL, "region size %llu is not a power of two of 4K or more",
			(unsigned long long)layout->region_bytes);
	}
	if (layout->slots == 0 || layout->slots > ONDISK_SLOTS_MAX) {
		return err_set(err, -EINVAL, "%u replica slots are not within 1 and %u",
			layout->slots, ONDISK_SLOTS_MAX);
	}
	if (layout->journal_blocks < ONDISK_JOURNAL_BLOCKS_MIN ||
		layout->journal_blocks > ONDISK_JOURNAL_BLOCKS_MAX) {
		return err_set(err, -EINVAL, "%u journal blocks are not within %u and %u",
			layout->journal_blocks, ONDISK_JOURNAL_BLOCKS_MIN,
			ONDISK_JOURNAL_BLOCKS_MAX);
	}
	return 0;
}

/* The clusters that fit between the table (which grows with them) and vmeta_far. */
static uint64_t layout_fit(struct layout *layout)
{
	uint64_t cluster_blocks = layout->cluster_bytes / STORE_BLOCK_BYTES;
	uint64_t count = 0;

	if (layout->vmeta_far > layout->table) {
		count = min_u64(
			(layout->vmeta_far - layout->table) / cluster_blocks, UINT32_MAX - 1);
	}
	for (; count > 0; count--) {
		layout->table_pages = div_up_u64(count, PAGE_ENTRIES);
		layout->clusters =
			round_up_u64(layout->table + 2 * layout->table_pages, cluster_blocks);
		if (layout->clusters + count * cluster_blocks <= layout->vmeta_far) {
			break;
		}
	}
	return count;
}

int layout_make(uint64_t size_blocks, const struct store_format_options *options,
	struct layout *ret_layout, struct err *err)
{
	bool small = size_blocks < SMALL_BELOW_BLOCKS;
	struct layout layout = {.size_blocks = size_blocks};
	uint64_t ends;
	int result;

	layout.cluster_bytes =
		options->cluster_bytes != 0 ? options->cluster_bytes : STORE_CLUSTER_BYTES;
	layout.region_bytes =
		options->region_bytes != 0 ? options->region_bytes : REPL_REGION_BYTES;
	layout.slots = options->replica_slots;
	if (layout.slots == 0) {
		layout.slots = small ? SLOTS_SMALL : SLOTS_BIG;
	}
	layout.journal_blocks = options->journal_blocks;
	if (layout.journal_blocks == 0) {
		layout.journal_blocks = small ? JOURNAL_SMALL : JOURNAL_BIG;
	}
	result = layout_check_options(&layout, err);
	if (result != 0) {
		return result;
	}
	layout.vmeta_near = 1;
	layout.journal = layout.vmeta_near + 2 * (uint64_t)layout.slots;
	layout.table = layout.journal + layout.journal_blocks;
	ends = 2 * (uint64_t)layout.slots + 1;
	layout.vmeta_far = size_blocks > ends ? size_blocks - ends : 0;
	layout.cluster_count = layout_fit(&layout);
	if (layout.cluster_count == 0) {
		return err_set(err, -ENOSPC,
			"too small for a pool: %llu KiB, of which %llu KiB are for metadata",
			(unsigned long long)(size_blocks * 4),
			(unsigned long long)((layout.table + 2 + ends) * 4));
	}
	*ret_layout = layout;
	return 0;
}

/* What the numbers of a superblock lead to must be what it says: nothing of it is believed that
 * could send us outside of the pool. */
static int layout_check(const struct layout *layout, struct err *err)
{
	struct store_format_options options = {
		.cluster_bytes = layout->cluster_bytes,
		.region_bytes = layout->region_bytes,
		.replica_slots = layout->slots,
		.journal_blocks = layout->journal_blocks,
	};
	struct layout own;
	int result;

	if (layout->cluster_bytes == 0 || layout->region_bytes == 0 || layout->slots == 0 ||
		layout->journal_blocks == 0 ||
		layout->size_blocks > UINT64_MAX / STORE_BLOCK_BYTES) {
		return err_set(err, -EBADMSG, "superblock: sizes of zero or beyond all limits");
	}
	result = layout_make(layout->size_blocks, &options, &own, err);
	if (result != 0) {
		err_prefix(err, "superblock");
		err->code = -EBADMSG;
		return -EBADMSG;
	}
	if (own.vmeta_near != layout->vmeta_near || own.journal != layout->journal ||
		own.table != layout->table || own.table_pages != layout->table_pages ||
		own.clusters != layout->clusters || own.cluster_count != layout->cluster_count ||
		own.vmeta_far != layout->vmeta_far) {
		return err_set(err, -EBADMSG, "superblock: its layout contradicts its sizes");
	}
	return 0;
}

/* ---- superblock ---- */

static uint32_t superblock_crc(const uint8_t *block)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c(block, SB_AT_CRC);

	crc = crc32c_extend(crc, zero, sizeof(zero));
	return crc32c_extend(crc, block + SB_AT_CRC + 4, STORE_BLOCK_BYTES - SB_AT_CRC - 4);
}

void superblock_encode(const struct superblock *sb, uint64_t at, uint8_t to[STORE_BLOCK_BYTES])
{
	const struct layout *layout = &sb->layout;

	memset(to, 0, STORE_BLOCK_BYTES);
	memcpy(to + SB_AT_MAGIC, superblock_magic, sizeof(superblock_magic));
	le32_put(to + SB_AT_VERSION, ONDISK_VERSION);
	le64_put(to + SB_AT_SEQ, sb->seq);
	le64_put(to + SB_AT_COMPAT, sb->compat);
	le64_put(to + SB_AT_RO_COMPAT, sb->ro_compat);
	le64_put(to + SB_AT_INCOMPAT, sb->incompat);
	memcpy(to + SB_AT_UUID, sb->uuid.b, sizeof(sb->uuid.b));
	memcpy(to + SB_AT_NAME, sb->name, strnlen(sb->name, STORE_POOL_NAME_SIZE - 1));
	le64_put(to + SB_AT_SIZE_BLOCKS, layout->size_blocks);
	le32_put(to + SB_AT_BLOCK_BYTES, STORE_BLOCK_BYTES);
	le32_put(to + SB_AT_CLUSTER_BYTES, layout->cluster_bytes);
	le64_put(to + SB_AT_REGION_BYTES, layout->region_bytes);
	le32_put(to + SB_AT_SLOTS, layout->slots);
	le32_put(to + SB_AT_JOURNAL_BLOCKS, layout->journal_blocks);
	le64_put(to + SB_AT_VMETA_NEAR, layout->vmeta_near);
	le64_put(to + SB_AT_JOURNAL, layout->journal);
	le64_put(to + SB_AT_TABLE, layout->table);
	le64_put(to + SB_AT_TABLE_PAGES, layout->table_pages);
	le64_put(to + SB_AT_CLUSTERS, layout->clusters);
	le64_put(to + SB_AT_CLUSTER_COUNT, layout->cluster_count);
	le64_put(to + SB_AT_VMETA_FAR, layout->vmeta_far);
	le64_put(to + SB_AT_ZEROED_CLUSTERS, sb->zeroed_clusters);
	le64_put(to + SB_AT_OWN_BLOCK, at);
	le32_put(to + SB_AT_CRC, superblock_crc(to));
}

static int superblock_check_version(const uint8_t *from, struct err *err)
{
	uint64_t incompat = le64_get(from + SB_AT_INCOMPAT) & ~ONDISK_INCOMPAT_KNOWN;
	uint64_t ro_compat = le64_get(from + SB_AT_RO_COMPAT) & ~ONDISK_RO_COMPAT_KNOWN;

	if (le32_get(from + SB_AT_VERSION) > ONDISK_VERSION) {
		return err_set(err, -EOPNOTSUPP,
			"the pool has format version %u, this program knows up to %u: use a newer "
			"one",
			le32_get(from + SB_AT_VERSION), ONDISK_VERSION);
	}
	if (incompat != 0) {
		return err_set(err, -EOPNOTSUPP,
			"the pool uses features that this program does not know (incompatible "
			"%#llx): "
			"use a newer one",
			(unsigned long long)incompat);
	}
	if (ro_compat != 0) {
		return err_set(err, -EOPNOTSUPP,
			"the pool uses features with which this program must not write to it "
			"(read-only compatible %#llx): use a newer one",
			(unsigned long long)ro_compat);
	}
	return 0;
}

static void superblock_decode_layout(const uint8_t *from, struct layout *layout)
{
	layout->size_blocks = le64_get(from + SB_AT_SIZE_BLOCKS);
	layout->cluster_bytes = le32_get(from + SB_AT_CLUSTER_BYTES);
	layout->region_bytes = le64_get(from + SB_AT_REGION_BYTES);
	layout->slots = le32_get(from + SB_AT_SLOTS);
	layout->journal_blocks = le32_get(from + SB_AT_JOURNAL_BLOCKS);
	layout->vmeta_near = le64_get(from + SB_AT_VMETA_NEAR);
	layout->journal = le64_get(from + SB_AT_JOURNAL);
	layout->table = le64_get(from + SB_AT_TABLE);
	layout->table_pages = le64_get(from + SB_AT_TABLE_PAGES);
	layout->clusters = le64_get(from + SB_AT_CLUSTERS);
	layout->cluster_count = le64_get(from + SB_AT_CLUSTER_COUNT);
	layout->vmeta_far = le64_get(from + SB_AT_VMETA_FAR);
}

int superblock_decode(const uint8_t from[STORE_BLOCK_BYTES], uint64_t at, struct superblock *ret_sb,
	struct err *err)
{
	struct superblock sb = {0};
	int result;

	if (memcmp(from + SB_AT_MAGIC, superblock_magic, sizeof(superblock_magic)) != 0) {
		return err_set(err, -ENODATA, "no Strake superblock");
	}
	if (le32_get(from + SB_AT_CRC) != superblock_crc(from)) {
		return err_set(err, -EBADMSG, "superblock: bad checksum");
	}
	/* Magic, version and checksum keep their places in every version. */
	result = superblock_check_version(from, err);
	if (result != 0) {
		return result;
	}
	if (le32_get(from + SB_AT_BLOCK_BYTES) != STORE_BLOCK_BYTES ||
		le64_get(from + SB_AT_OWN_BLOCK) != at) {
		return err_set(err, -EBADMSG, "superblock: not written for this place");
	}
	sb.seq = le64_get(from + SB_AT_SEQ);
	sb.compat = le64_get(from + SB_AT_COMPAT);
	memcpy(sb.uuid.b, from + SB_AT_UUID, sizeof(sb.uuid.b));
	memcpy(sb.name, from + SB_AT_NAME, STORE_POOL_NAME_SIZE);
	superblock_decode_layout(from, &sb.layout);
	sb.zeroed_clusters = le64_get(from + SB_AT_ZEROED_CLUSTERS);
	if (sb.name[STORE_POOL_NAME_SIZE - 1] != '\0') {
		return err_set(err, -EBADMSG, "superblock: the name has no end");
	}
	result = layout_check(&sb.layout, err);
	if (result != 0) {
		return result;
	}
	if (sb.seq > ONDISK_SEQ_MAX) {
		return err_set(err, -EBADMSG, "superblock: senseless sequence number");
	}
	if (sb.zeroed_clusters > sb.layout.cluster_count) {
		return err_set(err, -EBADMSG, "superblock: more clusters zeroed than there are");
	}
	*ret_sb = sb;
	return 0;
}
