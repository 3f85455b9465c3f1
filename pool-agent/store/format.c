/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a fresh pool: the superblocks of a former one go first, then all metadata areas become
 * zero, then the journal's first block, and at last the superblocks, far and near: a format that
 * was cut off leaves nothing that opens.
 */
#include "pool-agent/store/store_internal.h"

#include <stdio.h>

#define ZERO_BLOCKS 256u

enum format_state {
	FORMAT_START,
	FORMAT_AWAIT_KILL,
	FORMAT_AWAIT_KILL_FLUSH,
	FORMAT_AWAIT_ZERO,
	FORMAT_AWAIT_JOURNAL,
	FORMAT_AWAIT_FLUSH,
	FORMAT_AWAIT_FAR,
	FORMAT_AWAIT_NEAR,
	FORMAT_DONE,
};

struct format {
	struct task task;
	int state;
	struct io *io;
	struct store_op *op;
	struct batch batch;
	struct batch_op ops[2];
	uint8_t *block; /* owned */
	uint8_t *zeros; /* owned; ZERO_BLOCKS blocks */
	uint64_t next;  /* block to be zeroed */
	struct superblock sb;
	int result;
};

static void format_check(struct format *format, const char *what)
{
	int result = batch_take_result(&format->batch);

	if (result != 0 && format->result == 0) {
		format->result = err_set(
			&format->op->err, result, "format: %s: %s", what, err_describe(result));
	}
}

/* The next piece of the metadata areas; false: all done.  Written, not punched: on a sparse file
 * the space for metadata is taken now, and never missing later. */
static bool format_zeros(struct format *format)
{
	const struct layout *layout = &format->sb.layout;
	uint64_t end = layout->clusters;
	uint64_t count;

	if (format->next == end) {
		format->next = layout->vmeta_far;
	}
	if (format->next >= layout->vmeta_far) {
		end = layout->size_blocks - 1;
	}
	count = min_u64(end - format->next, ZERO_BLOCKS);
	if (count == 0) {
		return false;
	}
	batch_write(&format->batch, &format->ops[0], format->next, format->zeros,
		count * STORE_BLOCK_BYTES);
	format->next += count;
	return true;
}

static void format_journal(struct format *format)
{
	const struct layout *layout = &format->sb.layout;
	struct journal_header header = {.seq = 1, .tail = 1, .first_lsn = 1};

	memset(format->block, 0, STORE_BLOCK_BYTES);
	(void)journal_seal(&format->sb.uuid, &header, format->block);
	batch_write_durable(&format->batch, &format->ops[0],
		layout->journal + header.seq % layout->journal_blocks, format->block,
		STORE_BLOCK_BYTES);
}

static void format_superblock(struct format *format, uint64_t at)
{
	superblock_encode(&format->sb, at, format->block);
	batch_write_durable(&format->batch, &format->ops[0], at, format->block, STORE_BLOCK_BYTES);
}

static void format_finish(struct format *format)
{
	struct store_op *op = format->op;
	int result = format->result;

	format->state = FORMAT_DONE;
	task_done(&format->task);
	io_free(format->io, format->block);
	io_free(format->io, format->zeros);
	io_free(format->io, format);
	store_op_finish(op, result);
}

static void format_step(struct task *task)
{
	struct format *format = container_of(task, struct format, task);
	const struct layout *layout = &format->sb.layout;
	uint64_t last = layout->size_blocks - 1;

	switch ((enum format_state)format->state) {
	case FORMAT_START:
		batch_zero(&format->batch, &format->ops[0], 0, 1);
		batch_zero(&format->batch, &format->ops[1], last, 1);
		AWAIT(format, FORMAT_AWAIT_KILL, format->batch.pending == 0);
		format_check(format, "zeroing of the superblocks");
		batch_flush(&format->batch, &format->ops[0]);
		AWAIT(format, FORMAT_AWAIT_KILL_FLUSH, format->batch.pending == 0);
		format_check(format, "flush");
		if (format->result != 0) {
			break;
		}
		while (format_zeros(format)) {
			AWAIT(format, FORMAT_AWAIT_ZERO, format->batch.pending == 0);
			format_check(format, "zeroing of metadata");
			if (format->result != 0) {
				break;
			}
		}
		format_journal(format);
		AWAIT(format, FORMAT_AWAIT_JOURNAL, format->batch.pending == 0);
		format_check(format, "write of the journal");
		batch_flush(&format->batch, &format->ops[0]);
		AWAIT(format, FORMAT_AWAIT_FLUSH, format->batch.pending == 0);
		format_check(format, "flush");
		if (format->result != 0) {
			break;
		}
		format_superblock(format, last);
		AWAIT(format, FORMAT_AWAIT_FAR, format->batch.pending == 0);
		format_check(format, "write of the far superblock");
		if (format->result != 0) {
			break;
		}
		format_superblock(format, 0);
		AWAIT(format, FORMAT_AWAIT_NEAR, format->batch.pending == 0);
		format_check(format, "write of the superblock");
		break;
	case FORMAT_DONE:
		return;
	}
	format_finish(format);
}

static int format_plan(struct io *io, struct io_disk *disk,
	const struct store_format_options *options, struct superblock *sb, struct err *err)
{
	int result = store_check_disk(disk, err);

	if (result == 0) {
		result = layout_make(
			disk->size_bytes / STORE_BLOCK_BYTES, options, &sb->layout, err);
	}
	if (result != 0) {
		return result;
	}
	sb->seq = 1;
	sb->uuid = options->uuid;
	if (uuid_is_nil(&sb->uuid)) {
		uuid_make(&sb->uuid, &io->rng);
	}
	(void)snprintf(sb->name, sizeof(sb->name), "%s", options->name);
	sb->zeroed_clusters = disk->starts_zeroed ? sb->layout.cluster_count : 0;
	return 0;
}

void store_format(struct io *io, struct io_disk *disk, const struct store_format_options *options,
	struct store_op *op)
{
	struct superblock sb = {0};
	struct format *format;
	int result;

	err_clear(&op->err);
	result = format_plan(io, disk, options, &sb, &op->err);
	if (result != 0) {
		store_op_fail_later(io, NULL, op, result);
		return;
	}
	format = io_zalloc(io, sizeof(*format));
	if (format != NULL) {
		format->block = io_zalloc_aligned(io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
		format->zeros = io_zalloc_aligned(
			io, STORE_BLOCK_BYTES, ZERO_BLOCKS * (size_t)STORE_BLOCK_BYTES);
	}
	if (format == NULL || format->block == NULL || format->zeros == NULL) {
		if (format != NULL) {
			io_free(io, format->block);
			io_free(io, format->zeros);
		}
		io_free(io, format);
		store_op_fail_later(io, NULL, op, err_set(&op->err, -ENOMEM, "format: no memory"));
		return;
	}
	format->io = io;
	format->op = op;
	format->sb = sb;
	format->next = 1;
	task_init(&format->task, &io->runq, format_step);
	batch_init(&format->batch, disk, &format->task);
	task_wake(&format->task);
}
