/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata pages and journal blocks: see ondisk.h. */
#include "pool-agent/store/ondisk.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mutant.h"

#include <errno.h>

#define PAGE_MAGIC 0x47415053u /* "SPAG" */

/* In pages and journal blocks alike. */
enum { AT_MAGIC = 0, AT_CRC = 4 };

enum {
	PAGE_AT_SEQ = 8,
	PAGE_AT_LSN = 16,
	PAGE_AT_INDEX = 24,
	PAGE_AT_KIND = 28,
	PAGE_AT_SLOT = 30
};

enum {
	JOURNAL_AT_SEQ = 8,
	JOURNAL_AT_TAIL = 16,
	JOURNAL_AT_FIRST_LSN = 24,
	JOURNAL_AT_COUNT = 32,
	JOURNAL_AT_PREVIOUS_CRC = 36,
};

enum { RECORD_AT_TYPE = 0, RECORD_AT_SLOT = 2, RECORD_AT_INDEX = 4, RECORD_AT_VALUE = 8 };

_Static_assert(PAGE_HEADER_BYTES + PAGE_ENTRIES * 8 == STORE_BLOCK_BYTES, "page");
_Static_assert(
	JOURNAL_HEADER_BYTES + JOURNAL_BLOCK_RECORDS * JOURNAL_RECORD_BYTES == STORE_BLOCK_BYTES,
	"journal block");

/* The pool's id is part of it, so that what an older pool left on the disk is never taken for ours;
 * the crc itself counts as zero. */
static uint32_t block_crc(const struct uuid *pool, const uint8_t *block)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c(pool->b, sizeof(pool->b));

	crc = crc32c_extend(crc, block, AT_CRC);
	crc = crc32c_extend(crc, zero, sizeof(zero));
	return crc32c_extend(crc, block + AT_CRC + 4, STORE_BLOCK_BYTES - AT_CRC - 4);
}

void page_seal(const struct uuid *pool, const struct page_id *id, const struct page_header *header,
	uint8_t to[STORE_BLOCK_BYTES])
{
	le32_put(to + AT_MAGIC, PAGE_MAGIC);
	le64_put(to + PAGE_AT_SEQ, header->seq);
	le64_put(to + PAGE_AT_LSN, header->lsn);
	le32_put(to + PAGE_AT_INDEX, id->index);
	le16_put(to + PAGE_AT_KIND, (uint16_t)id->kind);
	le16_put(to + PAGE_AT_SLOT, (uint16_t)id->slot);
	le32_put(to + AT_CRC, block_crc(pool, to));
}

int page_check(const struct uuid *pool, const struct page_id *id,
	const uint8_t from[STORE_BLOCK_BYTES], struct page_header *ret_header)
{
	struct page_header header = {
		.seq = le64_get(from + PAGE_AT_SEQ),
		.lsn = le64_get(from + PAGE_AT_LSN),
	};

	if (le32_get(from + AT_MAGIC) == 0 && bytes_are_zero(from, STORE_BLOCK_BYTES)) {
		*ret_header = (struct page_header){0};
		return 0;
	}
	if (le32_get(from + AT_MAGIC) != PAGE_MAGIC ||
		le32_get(from + AT_CRC) != block_crc(pool, from)) {
		return -EBADMSG;
	}
	if (le16_get(from + PAGE_AT_KIND) != (uint16_t)id->kind ||
		le16_get(from + PAGE_AT_SLOT) != id->slot ||
		le32_get(from + PAGE_AT_INDEX) != id->index || header.seq == 0 ||
		header.seq > ONDISK_SEQ_MAX || header.lsn > ONDISK_SEQ_MAX) {
		return -EBADMSG;
	}
	*ret_header = header;
	return 0;
}

void record_encode(const struct record *record, uint8_t to[JOURNAL_RECORD_BYTES])
{
	le16_put(to + RECORD_AT_TYPE, (uint16_t)record->type);
	le16_put(to + RECORD_AT_SLOT, (uint16_t)record->slot);
	le32_put(to + RECORD_AT_INDEX, record->index);
	le64_put(to + RECORD_AT_VALUE, record->value);
}

int record_decode(const uint8_t from[JOURNAL_RECORD_BYTES], struct record *ret_record)
{
	uint16_t type = le16_get(from + RECORD_AT_TYPE);

	if (type < RECORD_STAMP || type > RECORD_FREE) {
		return -EBADMSG;
	}
	*ret_record = (struct record){
		.type = (enum record_type)type,
		.slot = le16_get(from + RECORD_AT_SLOT),
		.index = le32_get(from + RECORD_AT_INDEX),
		.value = le64_get(from + RECORD_AT_VALUE),
	};
	return 0;
}

uint32_t journal_seal(
	const struct uuid *pool, const struct journal_header *header, uint8_t to[STORE_BLOCK_BYTES])
{
	uint32_t crc;

	memset(to, 0, JOURNAL_HEADER_BYTES);
	memset(journal_record_at(to, header->count), 0,
		(JOURNAL_BLOCK_RECORDS - header->count) * JOURNAL_RECORD_BYTES);
	le32_put(to + AT_MAGIC, JOURNAL_MAGIC);
	le64_put(to + JOURNAL_AT_SEQ, header->seq);
	le64_put(to + JOURNAL_AT_TAIL, header->tail);
	le64_put(to + JOURNAL_AT_FIRST_LSN, header->first_lsn);
	le32_put(to + JOURNAL_AT_COUNT, header->count);
	le32_put(to + JOURNAL_AT_PREVIOUS_CRC, header->previous_crc);
	crc = block_crc(pool, to);
	le32_put(to + AT_CRC, crc);
	return crc;
}

int journal_check(const struct uuid *pool, const uint8_t from[STORE_BLOCK_BYTES],
	struct journal_header *ret_header, uint32_t *ret_crc)
{
	struct journal_header header = {
		.seq = le64_get(from + JOURNAL_AT_SEQ),
		.tail = le64_get(from + JOURNAL_AT_TAIL),
		.first_lsn = le64_get(from + JOURNAL_AT_FIRST_LSN),
		.count = le32_get(from + JOURNAL_AT_COUNT),
		.previous_crc = le32_get(from + JOURNAL_AT_PREVIOUS_CRC),
	};

	if (le32_get(from + AT_MAGIC) != JOURNAL_MAGIC ||
		(le32_get(from + AT_CRC) != block_crc(pool, from) && !mutant_is(MUTANT_S2))) {
		return -EBADMSG;
	}
	if (header.seq == 0 || header.seq > ONDISK_SEQ_MAX || header.tail == 0 ||
		header.tail > header.seq || header.first_lsn == 0 ||
		header.first_lsn > ONDISK_SEQ_MAX || header.count > JOURNAL_BLOCK_RECORDS) {
		return -EBADMSG;
	}
	*ret_header = header;
	*ret_crc = le32_get(from + AT_CRC);
	return 0;
}
