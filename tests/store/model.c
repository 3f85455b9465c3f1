/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/model.h"

#include "base/bytes.h"
#include "tests/store/image.h"

#include <assert.h>
#include <string.h>

const uint32_t model_size_blocks[SIZES] = {SIZE_BLOCKS, 2040, 2048, 4080};

uint32_t cell_logical(unsigned cell)
{
	if (cell < FRONT_CELLS) {
		return FRONT_BLOCK + cell;
	}
	cell -= FRONT_CELLS;
	return cell < TAIL_CELLS ? 2036 + cell : 2044 + cell - TAIL_CELLS;
}

uint32_t cell_region(unsigned region)
{
	return cell_logical(region * REGION_BLOCKS) / REGION_BLOCKS;
}

bool cell_is_within(unsigned cell, uint32_t size_blocks)
{
	return cell_logical(cell) < size_blocks;
}

void cell_push(struct cell *cell, uint16_t number)
{
	assert(cell->count < MODEL_HISTORY);
	cell->entries[cell->count++] = number;
}

void cell_drop(struct cell *cell, unsigned count)
{
	memmove(cell->entries, cell->entries + count,
		(cell->count - count) * sizeof(cell->entries[0]));
	memset(cell->entries + cell->count - count, 0, count * sizeof(cell->entries[0]));
	cell->count = (uint16_t)(cell->count - count);
	cell->certain = (uint16_t)(cell->certain > count ? cell->certain - count : 0);
	cell->dropped = (uint16_t)(cell->dropped + count);
}

void cell_settle(struct cell *cell, bool durable)
{
	cell->certain = (uint16_t)(cell->count - 1);
	if (durable) {
		cell_drop(cell, cell->certain);
	}
}

void cell_pin(struct cell *cell, uint16_t number)
{
	memset(cell, 0, sizeof(*cell));
	cell->entries[0] = number;
	cell->count = 1;
}

bool cell_may_be(const struct cell *cell, uint16_t number, bool power_lost)
{
	for (unsigned i = power_lost ? 0 : cell->certain; i < cell->count; i++) {
		if (cell->entries[i] == number) {
			return true;
		}
	}
	return false;
}

struct uuid model_uuid(uint16_t number)
{
	struct uuid uuid = {.b = {0x52}};

	le16_put(uuid.b + 14, number);
	return uuid;
}

void model_vmeta(uint16_t number, struct vmeta *vmeta)
{
	vmeta->promised = (struct epoch){.attach = number > 0, .inc = number, .nonce = number};
	vmeta->clean = number;
	vmeta->rebuilding = number % 2 != 0;
	memset(vmeta->keys, 0, sizeof(vmeta->keys));
	vmeta->keys[0].number = number;
	memset(vmeta->keys[0].secret, number, number > 0 ? sizeof(vmeta->keys[0].secret) : 0);
	memset(&vmeta->cfg, 0, sizeof(vmeta->cfg));
	if (number == 0) {
		return;
	}
	vmeta->cfg.epoch = vmeta->promised;
	vmeta->cfg.gen = number;
	vmeta->cfg.lineage = 7;
	vmeta->cfg.size_bytes = (uint64_t)SIZE_BLOCKS * STORE_BLOCK_BYTES;
	vmeta->cfg.wgen = number;
	vmeta->cfg.voter_count = 1;
	vmeta->cfg.voters[0] = (struct cfg_voter){.id = model_uuid(1), .insync = true, .power = 1};
}

void value_fill(uint8_t *to, uint16_t replica, uint32_t logical, uint16_t number)
{
	for (size_t at = 0; at < STORE_BLOCK_BYTES; at += 8) {
		le32_put(to + at, (uint32_t)number << 16 | replica);
		le32_put(to + at + 4, logical << 8 | (uint32_t)(at / SECTOR_BYTES));
	}
}

int value_read(const uint8_t *from, uint16_t replica, uint32_t logical, unsigned sector,
	unsigned sector_count)
{
	const uint8_t *first = from + (size_t)sector * SECTOR_BYTES;
	uint8_t expected[STORE_BLOCK_BYTES];
	size_t length = (size_t)sector_count * SECTOR_BYTES;
	uint16_t number = le16_get(first + 2);

	if (bytes_are_zero(first, length)) {
		return 0;
	}
	value_fill(expected, replica, logical, number);
	if (number == 0 || memcmp(first, expected + (first - from), length) != 0) {
		return -1;
	}
	return number;
}

uint64_t model_hash(const struct model *model)
{
	return hash_bytes(model, sizeof(*model));
}
