/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads metadata that lies at one or two places, in big pieces; where a piece cannot be read, block
 * by block, so that one bad sector costs one block.
 */
#include "pool-agent/store/store_internal.h"

enum scan_state { SCAN_START, SCAN_AWAIT_READ, SCAN_DONE };

static uint64_t scan_chunk(const struct scan *scan)
{
	uint64_t most = scan->next < scan->single_until ? 1 : SCAN_BLOCKS_MAX;
	uint64_t count = 1;

	most = min_u64(most, scan->count - scan->next);
	for (; count < most; count++) {
		for (unsigned place = 0; place < scan->places; place++) {
			if (scan->block_of(scan->ctx, scan->next + count, place) !=
				scan->block_of(scan->ctx, scan->next, place) + count) {
				return count;
			}
		}
	}
	return count;
}

static void scan_submit(struct scan *scan)
{
	scan->chunk = scan_chunk(scan);
	for (unsigned place = 0; place < scan->places; place++) {
		batch_read(&scan->batch, &scan->ops[place],
			scan->block_of(scan->ctx, scan->next, place), scan->buffers[place],
			scan->chunk * STORE_BLOCK_BYTES);
	}
}

static int scan_take(struct scan *scan)
{
	if (batch_take_result(&scan->batch) != 0 && scan->chunk > 1) {
		scan->single_until = scan->next + scan->chunk;
		return 0;
	}
	for (uint64_t i = 0; i < scan->chunk; i++) {
		uint8_t *blocks[2] = {NULL, NULL};
		int result;

		for (unsigned place = 0; place < scan->places; place++) {
			if (scan->ops[place].op.result == 0) {
				blocks[place] = scan->buffers[place] + i * STORE_BLOCK_BYTES;
			}
		}
		result = scan->take(scan->ctx, scan->next + i, blocks);
		if (result != 0) {
			return result;
		}
	}
	scan->next += scan->chunk;
	return 0;
}

static void scan_step(struct task *task)
{
	struct scan *scan = container_of(task, struct scan, task);

	switch ((enum scan_state)scan->state) {
	case SCAN_START:
		while (scan->next < scan->count && scan->result == 0) {
			scan_submit(scan);
			AWAIT(scan, SCAN_AWAIT_READ, scan->batch.pending == 0);
			scan->result = scan_take(scan);
		}
		scan->state = SCAN_DONE;
		scan->running = false;
		task_wake(scan->parent);
		return;
	case SCAN_DONE:
		return;
	}
}

int scan_init(struct scan *scan, struct io *io, struct io_disk *disk, struct task *parent)
{
	*scan = (struct scan){.io = io, .parent = parent, .state = SCAN_DONE};
	task_init(&scan->task, &io->runq, scan_step);
	batch_init(&scan->batch, disk, &scan->task);
	for (unsigned i = 0; i < 2; i++) {
		scan->buffers[i] = io_zalloc_aligned(
			io, STORE_BLOCK_BYTES, SCAN_BLOCKS_MAX * (size_t)STORE_BLOCK_BYTES);
		if (scan->buffers[i] == NULL) {
			return -ENOMEM;
		}
	}
	return 0;
}

void scan_done(struct scan *scan)
{
	if (scan->io == NULL) {
		return;
	}
	assert(!scan->running);
	task_done(&scan->task);
	io_free(scan->io, scan->buffers[0]);
	io_free(scan->io, scan->buffers[1]);
}

void scan_start(struct scan *scan)
{
	assert(!scan->running && (scan->places == 1 || scan->places == 2));
	scan->next = 0;
	scan->single_until = 0;
	scan->result = 0;
	scan->running = true;
	scan->state = SCAN_START;
	task_wake(&scan->task);
}
