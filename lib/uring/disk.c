/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of disk operations, as entries of the ring. */
#include "uring/internal.h"

static struct io_disk_op *disk_op_of(struct uring_op *op)
{
	struct real_disk_state *state = container_of((void *)op, struct real_disk_state, backend);

	return container_of((void *)state, struct io_disk_op, backend);
}

static void call_prepare(struct uring_op *op, struct io_uring_sqe *sqe)
{
	struct real_disk_call call;

	real_disk_get_call(disk_op_of(op), &call);
	switch (call.kind) {
	case REAL_DISK_READV:
		if (call.iov == NULL) {
			io_uring_prep_read(sqe, call.fd, call.one.iov_base,
				(unsigned)call.one.iov_len, call.offset);
		} else {
			io_uring_prep_readv(sqe, call.fd, call.iov, call.iov_count, call.offset);
		}
		break;
	case REAL_DISK_WRITEV:
		if (call.iov == NULL) {
			io_uring_prep_write(sqe, call.fd, call.one.iov_base,
				(unsigned)call.one.iov_len, call.offset);
		} else {
			io_uring_prep_writev(sqe, call.fd, call.iov, call.iov_count, call.offset);
		}
		sqe->rw_flags = call.flags;
		break;
	case REAL_DISK_SYNC:
		io_uring_prep_fsync(sqe, call.fd, IORING_FSYNC_DATASYNC);
		break;
	case REAL_DISK_ALLOCATE:
		io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, call.fd,
			(const void *)(uintptr_t)call.length, (unsigned)call.flags, call.offset);
		break;
	}
}

static void call_complete(struct uring *uring, struct uring_op *op, int result)
{
	(void)uring;
	real_disk_call_complete(disk_op_of(op), result);
}

static const struct uring_op_kind call_kind = {
	.prepare = call_prepare,
	.complete = call_complete,
};

_Static_assert(
	sizeof(struct uring_op) <= sizeof(((struct real_disk_state *)NULL)->backend), "must fit");

void uring_disk_start(struct io_disk_op *op)
{
	struct real_disk_state *state = real_disk_state(op);

	uring_op_start(uring_of_real(state->disk->real), (struct uring_op *)(void *)state->backend,
		&call_kind);
}
