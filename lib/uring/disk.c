/* SPDX-License-Identifier: Apache-2.0 */
/* I/O of disks: files, block devices and memory. */
#include "base/bytes.h"
#include "uring/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>

/* How an operation uses io_disk_op.backend. */
struct disk_state {
	struct uring_op op;
	struct uring_disk *disk;
	union {
		uint64_t moved; /* bytes done so far */
		uint64_t way;   /* of fallocate that is being tried */
	};
};

_Static_assert(
	sizeof(struct disk_state) <= sizeof(((struct io_disk_op *)NULL)->backend), "must fit");

static struct disk_state *state_of(struct io_disk_op *disk_op)
{
	return (struct disk_state *)(void *)disk_op->backend;
}

static struct io_disk_op *disk_op_of(struct uring_op *op)
{
	return container_of((void *)op, struct io_disk_op, backend);
}

static void finish(struct io_disk_op *disk_op, int result)
{
	disk_op->result = result;
	disk_op->done(disk_op);
}

/* ---- read and write ---------------------------------------------------------------------------
 */

/* After a short transfer the rest goes in single pieces: the caller's vector stays as it is. */
static struct iovec rest_of_vector(const struct io_disk_op *disk_op, uint64_t moved)
{
	unsigned i = 0;

	while (moved >= disk_op->iov[i].iov_len) {
		moved -= disk_op->iov[i].iov_len;
		i++;
		assert(i < disk_op->iov_count);
	}
	return (struct iovec){
		.iov_base = (char *)disk_op->iov[i].iov_base + moved,
		.iov_len = disk_op->iov[i].iov_len - moved,
	};
}

static void transfer_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct io_disk_op *disk_op = disk_op_of(op);
	const struct disk_state *state = state_of(disk_op);
	bool write = disk_op->kind == IO_DISK_WRITE;
	uint64_t offset = disk_op->offset + state->moved;
	int fd = state->disk->fd;

	if (disk_op->iov_count == 1 || state->moved > 0) {
		struct iovec iov = rest_of_vector(disk_op, state->moved);

		if (write) {
			io_uring_prep_write(sqe, fd, iov.iov_base, (unsigned)iov.iov_len, offset);
		} else {
			io_uring_prep_read(sqe, fd, iov.iov_base, (unsigned)iov.iov_len, offset);
		}
	} else if (write) {
		io_uring_prep_writev(sqe, fd, disk_op->iov, disk_op->iov_count, offset);
	} else {
		io_uring_prep_readv(sqe, fd, disk_op->iov, disk_op->iov_count, offset);
	}
	if (write && disk_op->fua) {
		sqe->rw_flags = RWF_DSYNC;
	}
}

static void transfer_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct io_disk_op *disk_op = disk_op_of(op);
	struct disk_state *state = state_of(disk_op);

	if (result == -EINTR || result == -EAGAIN) {
		uring_op_start(uring, op, op->kind);
		return;
	}
	if (result < 0) {
		finish(disk_op, result);
		return;
	}
	state->moved += (uint64_t)result;
	if (state->moved >= disk_op->length) {
		finish(disk_op, state->moved == disk_op->length ? 0 : -EIO);
		return;
	}
	if (result == 0 || (uint64_t)result % state->disk->disk.block_bytes != 0) {
		finish(disk_op, -EIO);
		return;
	}
	uring_op_start(uring, op, op->kind);
}

static const struct uring_op_kind transfer_kind = {
	.prepare = transfer_prepare,
	.complete = transfer_complete,
};

/* ---- flush ------------------------------------------------------------------------------------
 */

static void flush_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	io_uring_prep_fsync(sqe, state_of(disk_op_of(op))->disk->fd, IORING_FSYNC_DATASYNC);
}

static void flush_complete(struct uring *uring, struct uring_op *op, int result)
{
	if (result == -EINTR || result == -EAGAIN) {
		uring_op_start(uring, op, op->kind);
		return;
	}
	finish(disk_op_of(op), result);
}

static const struct uring_op_kind flush_kind = {
	.prepare = flush_prepare,
	.complete = flush_complete,
};

/* ---- zero -------------------------------------------------------------------------------------
 */

#define ZEROS_BYTES 65536u

static _Alignas(4096) const unsigned char zeros[ZEROS_BYTES];

static void zero_start(struct uring *uring, struct io_disk_op *disk_op);

static void zero_finish(struct uring *uring, struct io_disk_op *disk_op)
{
	if (disk_op->fua) {
		uring_op_start(uring, &state_of(disk_op)->op, &flush_kind);
	} else {
		finish(disk_op, 0);
	}
}

static void zero_allocate_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	const struct io_disk_op *disk_op = disk_op_of(op);
	struct disk_state *state = state_of(disk_op_of(op));
	/* A punched hole gives the space back. */
	int way = state->disk->no_punch_hole ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;

	state->way = (uint64_t)way;
	io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, state->disk->fd,
		(const void *)(uintptr_t)disk_op->length, (unsigned)(way | FALLOC_FL_KEEP_SIZE),
		disk_op->offset);
}

static void zero_allocate_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct io_disk_op *disk_op = disk_op_of(op);
	struct disk_state *state = state_of(disk_op);

	if (result == 0) {
		zero_finish(uring, disk_op);
	} else if (result == -EINTR || result == -EAGAIN) {
		uring_op_start(uring, op, op->kind);
	} else if (result == -EOPNOTSUPP || result == -ENOSYS || result == -ENODEV ||
		   result == -EINVAL) {
		/* Several may be refused at once: what counts is the way that this one went. */
		if (state->way == FALLOC_FL_PUNCH_HOLE) {
			state->disk->no_punch_hole = true;
		} else {
			state->disk->no_zero_range = true;
		}
		zero_start(uring, disk_op);
	} else {
		finish(disk_op, result);
	}
}

static const struct uring_op_kind zero_allocate_kind = {
	.prepare = zero_allocate_prepare,
	.complete = zero_allocate_complete,
};

static void zero_write_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	const struct io_disk_op *disk_op = disk_op_of(op);
	const struct disk_state *state = state_of(disk_op_of(op));
	uint64_t length = min_u64(disk_op->length - state->moved, ZEROS_BYTES);

	io_uring_prep_write(
		sqe, state->disk->fd, zeros, (unsigned)length, disk_op->offset + state->moved);
}

static void zero_write_complete(struct uring *uring, struct uring_op *op, int result)
{
	struct io_disk_op *disk_op = disk_op_of(op);
	struct disk_state *state = state_of(disk_op);

	if (result < 0 && result != -EINTR && result != -EAGAIN) {
		finish(disk_op, result);
		return;
	}
	if (result == 0 || (result > 0 && (uint32_t)result % state->disk->disk.block_bytes != 0)) {
		finish(disk_op, -EIO);
		return;
	}
	state->moved += result > 0 ? (uint64_t)result : 0;
	if (state->moved < disk_op->length) {
		uring_op_start(uring, op, op->kind);
	} else {
		zero_finish(uring, disk_op);
	}
}

static const struct uring_op_kind zero_write_kind = {
	.prepare = zero_write_prepare,
	.complete = zero_write_complete,
};

/* Also after a refusal: the device's flags then lead to the next best way. */
static void zero_start(struct uring *uring, struct io_disk_op *disk_op)
{
	struct disk_state *state = state_of(disk_op);
	bool by_writing = state->disk->no_punch_hole && state->disk->no_zero_range;

	state->moved = 0;
	uring_op_start(uring, &state->op, by_writing ? &zero_write_kind : &zero_allocate_kind);
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static void memory_transfer(struct uring_disk *disk, const struct io_disk_op *disk_op)
{
	unsigned char *at = disk->memory + disk_op->offset;

	for (unsigned i = 0; i < disk_op->iov_count; i++) {
		const struct iovec *iov = &disk_op->iov[i];

		if (disk_op->kind == IO_DISK_WRITE) {
			memcpy(at, iov->iov_base, iov->iov_len);
		} else {
			memcpy(iov->iov_base, at, iov->iov_len);
		}
		at += iov->iov_len;
	}
}

static void memory_complete(struct io_disk_op *disk_op)
{
	struct uring_disk *disk = state_of(disk_op)->disk;

	switch (disk_op->kind) {
	case IO_DISK_READ:
	case IO_DISK_WRITE:
		memory_transfer(disk, disk_op);
		break;
	case IO_DISK_ZERO:
		memset(disk->memory + disk_op->offset, 0, disk_op->length);
		break;
	case IO_DISK_FLUSH:
		break;
	}
	finish(disk_op, 0);
}

void uring_memory_disks_complete(struct uring *uring)
{
	struct list done;

	/* What is submitted from within done waits for the next turn. */
	list_init(&done);
	list_splice_back(&done, &uring->local_done);
	struct list_node *node;

	while ((node = list_pop_front(&done)) != NULL) {
		memory_complete(container_of(node, struct io_disk_op, node));
	}
}

/* ---- submission -------------------------------------------------------------------------------
 */

static void check_operation(const struct io_disk *disk, const struct io_disk_op *disk_op)
{
	uint64_t total = 0;

	if (disk_op->kind == IO_DISK_FLUSH) {
		return;
	}
	/* A write behind the end would make a file grow. */
	assert(range_is_within(disk_op->offset, disk_op->length, disk->size_bytes));
	assert(disk_op->length > 0);
	assert((disk_op->offset | disk_op->length) % disk->block_bytes == 0);
	if (disk_op->kind == IO_DISK_ZERO) {
		return;
	}
	assert(disk_op->iov_count > 0 && disk_op->iov_count <= IO_IOV_MAX);
	for (unsigned i = 0; i < disk_op->iov_count; i++) {
		total += disk_op->iov[i].iov_len;
		assert(((uintptr_t)disk_op->iov[i].iov_base | disk_op->iov[i].iov_len) %
				disk->block_bytes ==
			0);
	}
	assert(total == disk_op->length);
}

static void disk_submit(struct io_disk *io_disk, struct io_disk_op *disk_op)
{
	struct uring_disk *disk = container_of(io_disk, struct uring_disk, disk);
	struct disk_state *state = state_of(disk_op);

	check_operation(io_disk, disk_op);
	state->disk = disk;
	state->moved = 0;
	if (disk->memory != NULL) {
		disk_op->node.next = NULL;
		list_push_back(&disk->uring->local_done, &disk_op->node);
		return;
	}
	switch (disk_op->kind) {
	case IO_DISK_READ:
	case IO_DISK_WRITE:
		uring_op_start(disk->uring, &state->op, &transfer_kind);
		break;
	case IO_DISK_FLUSH:
		uring_op_start(disk->uring, &state->op, &flush_kind);
		break;
	case IO_DISK_ZERO:
		zero_start(disk->uring, disk_op);
		break;
	}
}

const struct io_disk_ops uring_disk_ops = {
	.submit = disk_submit,
};
