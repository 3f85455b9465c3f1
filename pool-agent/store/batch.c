/* SPDX-License-Identifier: Apache-2.0 */
/* Disk operations of one ladder at once. */
#include "pool-agent/store/store_internal.h"

void batch_init(struct batch *batch, struct io_disk *disk, struct task *task)
{
	*batch = (struct batch){.disk = disk, .task = task};
}

static void batch_op_done(struct io_disk_op *op)
{
	struct batch_op *own = container_of(op, struct batch_op, op);
	struct batch *batch = own->batch;

	assert(batch->pending > 0);
	batch->pending--;
	if (op->result != 0 && batch->result == 0) {
		batch->result = op->result;
	}
	task_wake(batch->task);
}

static void batch_submit(struct batch *batch, struct batch_op *op, enum io_disk_op_kind kind,
	uint64_t block, uint64_t length)
{
	op->batch = batch;
	op->op = (struct io_disk_op){
		.kind = kind,
		.offset = block * STORE_BLOCK_BYTES,
		.length = length,
		.done = batch_op_done,
	};
	batch->pending++;
}

static void batch_transfer(struct batch_op *op, void *memory, size_t length)
{
	op->iov = (struct iovec){.iov_base = memory, .iov_len = length};
	op->op.iov = &op->iov;
	op->op.iov_count = 1;
	io_disk_submit(op->batch->disk, &op->op);
}

void batch_read(struct batch *batch, struct batch_op *op, uint64_t block, void *to, size_t length)
{
	batch_submit(batch, op, IO_DISK_READ, block, length);
	batch_transfer(op, to, length);
}

void batch_write(
	struct batch *batch, struct batch_op *op, uint64_t block, void *from, size_t length)
{
	batch_submit(batch, op, IO_DISK_WRITE, block, length);
	batch_transfer(op, from, length);
}

void batch_write_durable(
	struct batch *batch, struct batch_op *op, uint64_t block, void *from, size_t length)
{
	batch_submit(batch, op, IO_DISK_WRITE, block, length);
	op->op.fua = true;
	batch_transfer(op, from, length);
}

void batch_zero(struct batch *batch, struct batch_op *op, uint64_t block, uint64_t block_count)
{
	batch_submit(batch, op, IO_DISK_ZERO, block, block_count * STORE_BLOCK_BYTES);
	io_disk_submit(batch->disk, &op->op);
}

void batch_flush(struct batch *batch, struct batch_op *op)
{
	batch_submit(batch, op, IO_DISK_FLUSH, 0, 0);
	io_disk_submit(batch->disk, &op->op);
}

int batch_take_result(struct batch *batch)
{
	int result = batch->result;

	assert(batch->pending == 0);
	batch->result = 0;
	return result;
}

void waiters_wake(struct list *list)
{
	struct list_node *node;

	/* Each is asked again when it runs, and may wait anew then. */
	while ((node = list_pop_front(list)) != NULL) {
		task_wake(container_of(node, struct waiter, node)->task);
	}
}
