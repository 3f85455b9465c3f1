/* SPDX-License-Identifier: Apache-2.0 */
/* I/O of disks: files, block devices and memory. */
#include "base/bytes.h"
#include "real/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>

/* The largest write of zeros. */
#define ZEROS_BYTES 65536u

static _Alignas(4096) const unsigned char zeros[ZEROS_BYTES];

static void finish(struct io_disk_op *op, int result)
{
	op->result = result;
	op->done(op);
}

static void start_step(struct io_disk_op *op, enum real_disk_step step)
{
	struct real_disk_state *state = real_disk_state(op);

	state->step = step;
	state->disk->backend->disk_start(op);
}

/* ---- the calls --------------------------------------------------------------------------------
 */

/* After a short transfer the rest goes in single pieces: the caller's vector stays as it is. */
static struct iovec rest_of_vector(const struct io_disk_op *op, uint64_t moved)
{
	unsigned i = 0;

	while (moved >= op->iov[i].iov_len) {
		moved -= op->iov[i].iov_len;
		i++;
		assert(i < op->iov_count);
	}
	return (struct iovec){
		.iov_base = (char *)op->iov[i].iov_base + moved,
		.iov_len = op->iov[i].iov_len - moved,
	};
}

static void get_transfer(const struct io_disk_op *op, uint64_t moved, struct real_disk_call *call)
{
	bool write = op->kind == IO_DISK_WRITE;

	call->kind = write ? REAL_DISK_WRITEV : REAL_DISK_READV;
	call->flags = write && op->fua ? RWF_DSYNC : 0;
	if (op->iov_count == 1 || moved > 0) {
		call->one = rest_of_vector(op, moved);
	} else {
		call->iov = op->iov;
		call->iov_count = op->iov_count;
	}
}

void real_disk_get_call(struct io_disk_op *op, struct real_disk_call *ret_call)
{
	const struct real_disk_state *state = real_disk_state(op);
	enum real_disk_step step = (enum real_disk_step)state->step;

	*ret_call =
		(struct real_disk_call){.fd = state->disk->fd, .offset = op->offset + state->moved};
	switch (step) {
	case REAL_DISK_TRANSFER:
		get_transfer(op, state->moved, ret_call);
		break;
	case REAL_DISK_FLUSH:
		ret_call->kind = REAL_DISK_SYNC;
		break;
	case REAL_DISK_PUNCH_HOLE:
	case REAL_DISK_ZERO_RANGE:
		ret_call->kind = REAL_DISK_ALLOCATE;
		ret_call->length = op->length;
		ret_call->flags =
			FALLOC_FL_KEEP_SIZE | (step == REAL_DISK_PUNCH_HOLE ? FALLOC_FL_PUNCH_HOLE
									    : FALLOC_FL_ZERO_RANGE);
		break;
	case REAL_DISK_WRITE_ZEROS:
		ret_call->kind = REAL_DISK_WRITEV;
		ret_call->one.iov_base = (void *)(uintptr_t)zeros;
		ret_call->one.iov_len = min_u64(op->length - state->moved, ZEROS_BYTES);
		break;
	}
}

/* ---- what they gave ---------------------------------------------------------------------------
 */

/* Counts what was moved.  Returns 0 when it is all, 1 when there is more, or negative errno. */
static int advance(struct io_disk_op *op, int result)
{
	struct real_disk_state *state = real_disk_state(op);

	if (result < 0) {
		return result;
	}
	state->moved += (uint64_t)result;
	if (state->moved >= op->length) {
		return state->moved == op->length ? 0 : -EIO;
	}
	return result == 0 || (uint64_t)result % state->disk->disk.block_bytes != 0 ? -EIO : 1;
}

/* Also after a refusal: the device's flags then lead to the next best way. */
static void zero_start(struct io_disk_op *op)
{
	const struct real_disk *disk = real_disk_state(op)->disk;

	start_step(op, !disk->no_punch_hole   ? REAL_DISK_PUNCH_HOLE
		       : !disk->no_zero_range ? REAL_DISK_ZERO_RANGE
					      : REAL_DISK_WRITE_ZEROS);
}

static void zero_finish(struct io_disk_op *op, int result)
{
	if (result == 0 && op->fua) {
		start_step(op, REAL_DISK_FLUSH);
	} else {
		finish(op, result);
	}
}

static void allocate_complete(struct io_disk_op *op, int result)
{
	struct real_disk_state *state = real_disk_state(op);

	if (result != -EOPNOTSUPP && result != -ENOSYS && result != -ENODEV && result != -EINVAL) {
		zero_finish(op, result);
		return;
	}
	/* Several may be refused at once: what counts is the way that this one went. */
	if (state->step == REAL_DISK_PUNCH_HOLE) {
		state->disk->no_punch_hole = true;
	} else {
		state->disk->no_zero_range = true;
	}
	zero_start(op);
}

void real_disk_call_complete(struct io_disk_op *op, int result)
{
	struct real_disk_state *state = real_disk_state(op);
	int left;

	if (result == -EINTR || result == -EAGAIN) {
		state->disk->backend->disk_start(op);
		return;
	}
	switch ((enum real_disk_step)state->step) {
	case REAL_DISK_TRANSFER:
	case REAL_DISK_WRITE_ZEROS:
		left = advance(op, result);
		if (left > 0) {
			state->disk->backend->disk_start(op);
		} else if (state->step == REAL_DISK_WRITE_ZEROS) {
			zero_finish(op, left);
		} else {
			finish(op, left);
		}
		break;
	case REAL_DISK_FLUSH:
		finish(op, result);
		break;
	case REAL_DISK_PUNCH_HOLE:
	case REAL_DISK_ZERO_RANGE:
		allocate_complete(op, result);
		break;
	}
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static void memory_transfer(struct real_disk *disk, const struct io_disk_op *op)
{
	unsigned char *at = disk->memory + op->offset;

	for (unsigned i = 0; i < op->iov_count; i++) {
		const struct iovec *iov = &op->iov[i];

		if (op->kind == IO_DISK_WRITE) {
			memcpy(at, iov->iov_base, iov->iov_len);
		} else {
			memcpy(iov->iov_base, at, iov->iov_len);
		}
		at += iov->iov_len;
	}
}

static void memory_complete(struct io_disk_op *op)
{
	struct real_disk *disk = real_disk_state(op)->disk;

	switch (op->kind) {
	case IO_DISK_READ:
	case IO_DISK_WRITE:
		memory_transfer(disk, op);
		break;
	case IO_DISK_ZERO:
		memset(disk->memory + op->offset, 0, op->length);
		break;
	case IO_DISK_FLUSH:
		break;
	}
	finish(op, 0);
}

void real_memory_disks_complete(struct real *real)
{
	struct list done;

	/* What is submitted from within done waits for the next turn. */
	list_init(&done);
	list_splice_back(&done, &real->memory_done);
	struct list_node *node;

	while ((node = list_pop_front(&done)) != NULL) {
		memory_complete(container_of(node, struct io_disk_op, node));
	}
}

/* ---- submission -------------------------------------------------------------------------------
 */

static void check_operation(const struct io_disk *disk, const struct io_disk_op *op)
{
	uint64_t total = 0;

	if (op->kind == IO_DISK_FLUSH) {
		return;
	}
	/* A write behind the end would make a file grow. */
	assert(range_is_within(op->offset, op->length, disk->size_bytes));
	assert(op->length > 0);
	assert((op->offset | op->length) % disk->block_bytes == 0);
	if (op->kind == IO_DISK_ZERO) {
		return;
	}
	assert(op->iov_count > 0 && op->iov_count <= IO_IOV_MAX);
	for (unsigned i = 0; i < op->iov_count; i++) {
		total += op->iov[i].iov_len;
		assert(((uintptr_t)op->iov[i].iov_base | op->iov[i].iov_len) % disk->block_bytes ==
			0);
	}
	assert(total == op->length);
}

static void disk_submit(struct io_disk *io_disk, struct io_disk_op *op)
{
	struct real_disk *disk = container_of(io_disk, struct real_disk, disk);
	struct real_disk_state *state = real_disk_state(op);

	check_operation(io_disk, op);
	state->disk = disk;
	state->moved = 0;
	if (disk->memory != NULL) {
		op->node.next = NULL;
		list_push_back(&disk->real->memory_done, &op->node);
		return;
	}
	switch (op->kind) {
	case IO_DISK_READ:
	case IO_DISK_WRITE:
		start_step(op, REAL_DISK_TRANSFER);
		break;
	case IO_DISK_FLUSH:
		start_step(op, REAL_DISK_FLUSH);
		break;
	case IO_DISK_ZERO:
		zero_start(op);
		break;
	}
}

const struct io_disk_ops real_disk_ops = {
	.submit = disk_submit,
};
