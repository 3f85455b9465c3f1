/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a disk's blocks behind everybody's back, and what it then knows of it. */
#include "simio/disk.h"

#include <string.h>

/* It holds something else than it was told; `durable` with that, too. */
static void block_mistake(struct sim_disk *disk, size_t index, const uint8_t *holds,
	const uint8_t *told, bool durable)
{
	struct block *block = &disk->blocks[index];
	struct version *version = sim_version_new(holds);
	bool unreadable = block->unreadable;

	version->told = sim_version_new(told);
	sim_block_write(disk, index, version, durable);
	block->unreadable = unreadable;
}

/* Nobody told it. */
static void block_overwrite(struct sim_disk *disk, size_t index, const uint8_t *data)
{
	const struct version *newest = disk->blocks[index].newest;
	uint8_t told[SIM_DISK_BLOCK_BYTES];

	if (newest != NULL && newest->told != NULL) {
		memcpy(told, newest->told->data, sizeof(told));
	} else {
		sim_block_read(disk, index, told);
	}
	block_mistake(disk, index, data, told, true);
}

/* It goes somewhere else, once. */
bool sim_write_is_misdirected(struct sim_disk *disk, const struct io_disk_op *op)
{
	uint8_t before[SIM_DISK_BLOCK_BYTES];

	if (disk->misdirect_from == disk->misdirect_to || op->kind != IO_DISK_WRITE ||
		op->offset < disk->misdirect_from ||
		op->offset >= disk->misdirect_from + disk->misdirect_length ||
		op->offset == disk->misdirect_to || op->length != SIM_DISK_BLOCK_BYTES) {
		return false;
	}
	sim_trace(disk->sim, "disk %s: the write of %lu lands at %lu", disk->name,
		(unsigned long)op->offset, (unsigned long)disk->misdirect_to);
	block_overwrite(disk, disk->misdirect_to / SIM_DISK_BLOCK_BYTES, op->iov[0].iov_base);
	sim_block_read(disk, op->offset / SIM_DISK_BLOCK_BYTES, before);
	block_mistake(
		disk, op->offset / SIM_DISK_BLOCK_BYTES, before, op->iov[0].iov_base, op->fua);
	disk->misdirect_from = disk->misdirect_to = 0;
	return true;
}

/* ---- the test's hand ---- */

void sim_disk_misdirect(struct sim_disk *disk, uint64_t offset, uint64_t length, uint64_t instead)
{
	assert(offset % SIM_DISK_BLOCK_BYTES == 0 && instead % SIM_DISK_BLOCK_BYTES == 0);
	disk->misdirect_from = offset;
	disk->misdirect_length = length;
	disk->misdirect_to = instead;
}

void sim_disk_set_checks(struct sim_disk *disk, bool checks)
{
	disk->checks = checks;
}

void sim_disk_flip_bit(struct sim_disk *disk, uint64_t offset, unsigned bit)
{
	size_t index = offset / SIM_DISK_BLOCK_BYTES;
	uint8_t data[SIM_DISK_BLOCK_BYTES];

	sim_block_read(disk, index, data);
	sim_trace(disk->sim, "disk %s: a bit flips at %lu", disk->name, (unsigned long)offset);
	data[offset % SIM_DISK_BLOCK_BYTES] ^= (uint8_t)(1u << bit % 8);
	block_overwrite(disk, index, data);
}

void sim_disk_mend(struct sim_disk *disk)
{
	for (size_t i = 0; i < disk->block_count; i++) {
		struct block *block = &disk->blocks[i];

		block->unreadable = false;
		if (block->newest != NULL && block->newest->told != NULL) {
			sim_block_write(disk, i, sim_version_new(block->newest->told->data), true);
		}
	}
}

void sim_disk_peek(const struct sim_disk *disk, uint64_t offset, void *to, size_t length)
{
	uint8_t block[SIM_DISK_BLOCK_BYTES];
	uint8_t *out = to;

	assert(range_is_within(offset, length, disk->size_bytes));
	while (length > 0) {
		size_t within = offset % SIM_DISK_BLOCK_BYTES;
		size_t piece = min_u64(length, SIM_DISK_BLOCK_BYTES - within);

		sim_block_read(disk, offset / SIM_DISK_BLOCK_BYTES, block);
		memcpy(out, block + within, piece);
		out += piece;
		offset += piece;
		length -= piece;
	}
}

/* Rot is in what is durable, too: all versions but the new one go. */
void sim_disk_set_unreadable(
	struct sim_disk *disk, uint64_t offset, uint64_t length, bool unreadable)
{
	assert(range_is_within(offset, length, disk->size_bytes));
	for (uint64_t at = offset; at < offset + length; at += SIM_DISK_BLOCK_BYTES) {
		disk->blocks[at / SIM_DISK_BLOCK_BYTES].unreadable = unreadable;
	}
}

void sim_disk_poke(struct sim_disk *disk, uint64_t offset, const void *from, size_t length)
{
	uint8_t block[SIM_DISK_BLOCK_BYTES];
	const uint8_t *in = from;

	assert(range_is_within(offset, length, disk->size_bytes));
	while (length > 0) {
		size_t index = offset / SIM_DISK_BLOCK_BYTES;
		size_t within = offset % SIM_DISK_BLOCK_BYTES;
		size_t piece = min_u64(length, SIM_DISK_BLOCK_BYTES - within);

		sim_block_read(disk, index, block);
		memcpy(block + within, in, piece);
		sim_block_write(disk, index, sim_version_new(block), true);
		in += piece;
		offset += piece;
		length -= piece;
	}
}
