/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes a pool off its disk: the ends of the disk become zero, the superblocks last, far and near.
 * An erasure that was cut off leaves a superblock that still says whose the disk is, and is done
 * again.
 */
#include "pool-agent/store/store_internal.h"

#define ERASE_BLOCKS (1024u * 1024 / STORE_BLOCK_BYTES)

enum erase_state {
	ERASE_START,
	ERASE_AWAIT_READ,
	ERASE_AWAIT_ZERO,
	ERASE_AWAIT_FLUSH,
	ERASE_AWAIT_FAR,
	ERASE_AWAIT_FAR_FLUSH,
	ERASE_AWAIT_NEAR,
	ERASE_AWAIT_NEAR_FLUSH,
	ERASE_DONE,
};

struct erase {
	struct task task;
	int state;
	struct io *io;
	struct store_op *op;
	struct batch batch;
	struct batch_op ops[2];
	struct uuid uuid;
	uint64_t last;      /* block */
	uint8_t *blocks[2]; /* owned; near and far superblock */
	int result;
};

/* A superblock that is damaged is ours too: a cut may have torn it, and this disk was ours. */
static int erase_judge(struct erase *erase)
{
	const uint64_t places[2] = {0, erase->last};
	bool found = false;

	for (unsigned i = 0; i < 2; i++) {
		struct superblock sb;
		struct err err = {0};
		char text[UUID_TEXT_SIZE];
		int result = superblock_decode(erase->blocks[i], places[i], &sb, &err);

		if (result == 0 && !uuid_equal(&sb.uuid, &erase->uuid)) {
			return err_set(&erase->op->err, -ENOENT,
				"the disk holds another pool: %s (%s)", sb.name,
				uuid_to_text(&sb.uuid, text));
		}
		if (result != 0 && result != -ENODATA && result != -EBADMSG) {
			erase->op->err = err;
			return result;
		}
		found = found || result != -ENODATA;
	}
	return found ? 0 : err_set(&erase->op->err, -ENOENT, "the disk holds no pool");
}

static void erase_check(struct erase *erase, const char *what)
{
	int result = batch_take_result(&erase->batch);

	if (result != 0 && erase->result == 0) {
		erase->result = err_set(
			&erase->op->err, result, "erase: %s: %s", what, err_describe(result));
	}
}

static void erase_ends(struct erase *erase)
{
	uint64_t head_end = min_u64(ERASE_BLOCKS, erase->last);
	uint64_t tail = erase->last > ERASE_BLOCKS ? erase->last - ERASE_BLOCKS : 1;

	if (head_end > 1) {
		batch_zero(&erase->batch, &erase->ops[0], 1, head_end - 1);
	}
	tail = max_u64(tail, head_end);
	if (tail < erase->last) {
		batch_zero(&erase->batch, &erase->ops[1], tail, erase->last - tail);
	}
}

static void erase_free(struct erase *erase)
{
	struct io *io = erase->io;

	io_free(io, erase->blocks[0]);
	io_free(io, erase->blocks[1]);
	io_free(io, erase);
}

static void erase_step(struct task *task)
{
	struct erase *erase = container_of(task, struct erase, task);
	struct store_op *op = erase->op;
	int result;

	switch ((enum erase_state)erase->state) {
	case ERASE_START:
		batch_read(&erase->batch, &erase->ops[0], 0, erase->blocks[0], STORE_BLOCK_BYTES);
		batch_read(&erase->batch, &erase->ops[1], erase->last, erase->blocks[1],
			STORE_BLOCK_BYTES);
		AWAIT(erase, ERASE_AWAIT_READ, erase->batch.pending == 0);
		erase_check(erase, "read of the superblocks");
		if (erase->result == 0) {
			erase->result = erase_judge(erase);
		}
		if (erase->result != 0) {
			break;
		}
		erase_ends(erase);
		AWAIT(erase, ERASE_AWAIT_ZERO, erase->batch.pending == 0);
		erase_check(erase, "zeroing of metadata");
		batch_flush(&erase->batch, &erase->ops[0]);
		AWAIT(erase, ERASE_AWAIT_FLUSH, erase->batch.pending == 0);
		erase_check(erase, "flush");
		if (erase->result != 0) {
			break;
		}
		batch_zero(&erase->batch, &erase->ops[0], erase->last, 1);
		AWAIT(erase, ERASE_AWAIT_FAR, erase->batch.pending == 0);
		batch_flush(&erase->batch, &erase->ops[0]);
		AWAIT(erase, ERASE_AWAIT_FAR_FLUSH, erase->batch.pending == 0);
		erase_check(erase, "zeroing of the far superblock");
		if (erase->result != 0) {
			break;
		}
		batch_zero(&erase->batch, &erase->ops[0], 0, 1);
		AWAIT(erase, ERASE_AWAIT_NEAR, erase->batch.pending == 0);
		batch_flush(&erase->batch, &erase->ops[0]);
		AWAIT(erase, ERASE_AWAIT_NEAR_FLUSH, erase->batch.pending == 0);
		erase_check(erase, "zeroing of the superblock");
		break;
	case ERASE_DONE:
		return;
	}
	result = erase->result;
	erase->state = ERASE_DONE;
	task_done(task);
	erase_free(erase);
	store_op_finish(op, result);
}

void store_erase(struct io *io, struct io_disk *disk, const struct uuid *uuid, struct store_op *op)
{
	struct erase *erase;

	err_clear(&op->err);
	if (disk->size_bytes < 2 * STORE_BLOCK_BYTES) {
		store_op_fail_later(
			io, NULL, op, err_set(&op->err, -ENOENT, "the disk holds no pool"));
		return;
	}
	if (store_check_disk(disk, &op->err) != 0) {
		store_op_fail_later(io, NULL, op, op->err.code);
		return;
	}
	erase = io_zalloc(io, sizeof(*erase));
	if (erase != NULL) {
		erase->io = io;
		erase->blocks[0] = io_zalloc_aligned(io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
		erase->blocks[1] = io_zalloc_aligned(io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
	}
	if (erase == NULL || erase->blocks[0] == NULL || erase->blocks[1] == NULL) {
		if (erase != NULL) {
			erase_free(erase);
		}
		store_op_fail_later(io, NULL, op, err_set(&op->err, -ENOMEM, "erase: no memory"));
		return;
	}
	erase->op = op;
	erase->uuid = *uuid;
	erase->last = disk->size_bytes / STORE_BLOCK_BYTES - 1;
	task_init(&erase->task, &io->runq, erase_step);
	batch_init(&erase->batch, disk, &erase->task);
	task_wake(&erase->task);
}
