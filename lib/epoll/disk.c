/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each disk has a few threads of its own, so that one that hangs does not keep the others from
 * theirs.  The loop hands over what was started once a turn; a thread executes one call of an
 * operation and posts what it gave as a message.
 */
#include "epoll/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* All of it may be locked in memory. */
#define STACK_BYTES (128u * 1024)

struct epoll_disk {
	struct list started;   /* the loop's: struct io_disk_op.node, to be handed over */
	struct list_node node; /* in epoll->started_disks */
	pthread_mutex_t lock;  /* of what follows */
	pthread_cond_t wanted;
	struct list queued; /* struct io_disk_op.node */
	unsigned waiting;   /* threads without an operation */
	bool ending;
	unsigned thread_count;
	pthread_t threads[EPOLL_DISK_THREADS];
};

/* How an operation uses real_disk_state.backend. */
_Static_assert(
	sizeof(struct io_msg) <= sizeof(((struct real_disk_state *)NULL)->backend), "must fit");

static struct io_msg *msg_of(struct real_disk_state *state)
{
	return (struct io_msg *)(void *)state->backend;
}

/* ---- a thread ---------------------------------------------------------------------------------
 */

static int execute(struct io_disk_op *op)
{
	struct real_disk_call call;
	ssize_t result = -1;

	real_disk_get_call(op, &call);
	const struct iovec *iov = call.iov != NULL ? call.iov : &call.one;
	int iov_count = call.iov != NULL ? (int)call.iov_count : 1;

	switch (call.kind) {
	case REAL_DISK_READV:
		result = preadv2(call.fd, iov, iov_count, (off_t)call.offset, call.flags);
		break;
	case REAL_DISK_WRITEV:
		result = pwritev2(call.fd, iov, iov_count, (off_t)call.offset, call.flags);
		break;
	case REAL_DISK_SYNC:
		result = fdatasync(call.fd);
		break;
	case REAL_DISK_ALLOCATE:
		result = fallocate(call.fd, call.flags, (off_t)call.offset, (off_t)call.length);
		break;
	}
	return result >= 0 ? (int)result : -errno;
}

/* Waits for an operation; NULL when the disk is being closed. */
static struct io_disk_op *take(struct epoll_disk *own)
{
	struct list_node *node;

	pthread_mutex_lock(&own->lock);
	while ((node = list_pop_front(&own->queued)) == NULL && !own->ending) {
		own->waiting++;
		pthread_cond_wait(&own->wanted, &own->lock);
		own->waiting--;
	}
	bool more = !list_is_empty(&own->queued) && own->waiting > 0;

	pthread_mutex_unlock(&own->lock);
	/* One wakes the next: the loop has to wake one only. */
	if (more) {
		pthread_cond_signal(&own->wanted);
	}
	return node != NULL ? container_of(node, struct io_disk_op, node) : NULL;
}

static void *thread_main(void *ctx)
{
	struct real_disk *disk = ctx;
	struct epoll_disk *own = disk->threads;
	struct io_disk_op *op;

	while ((op = take(own)) != NULL) {
		struct real_disk_state *state = real_disk_state(op);

		state->result = execute(op);
		real_post(&disk->real->io, msg_of(state));
	}
	return NULL;
}

/* ---- the loop ---------------------------------------------------------------------------------
 */

static void call_is_over(struct io_msg *msg)
{
	struct real_disk_state *state = container_of((void *)msg, struct real_disk_state, backend);

	metric_inc(&state->disk->real->metrics.operations, 1);
	real_disk_call_complete(
		container_of((void *)state, struct io_disk_op, backend), state->result);
}

void epoll_disk_start(struct io_disk_op *op)
{
	struct real_disk_state *state = real_disk_state(op);
	struct epoll_disk *own = state->disk->threads;

	*msg_of(state) = (struct io_msg){.run = call_is_over};
	op->node = (struct list_node){0};
	if (list_is_empty(&own->started)) {
		list_push_back(&epoll_of_real(state->disk->real)->started_disks, &own->node);
	}
	list_push_back(&own->started, &op->node);
}

void epoll_disks_hand_over(struct epoll *epoll)
{
	struct list_node *node;

	while ((node = list_pop_front(&epoll->started_disks)) != NULL) {
		struct epoll_disk *own = container_of(node, struct epoll_disk, node);

		pthread_mutex_lock(&own->lock);
		list_splice_back(&own->queued, &own->started);
		bool wake = own->waiting > 0;

		pthread_mutex_unlock(&own->lock);
		if (wake) {
			pthread_cond_signal(&own->wanted);
		}
	}
}

/* ---- opening and closing ----------------------------------------------------------------------
 */

int epoll_disk_open(struct real_disk *disk, struct err *err)
{
	struct epoll_disk *own = calloc(1, sizeof(*own));

	if (own == NULL) {
		return err_set(err, -ENOMEM, "no memory for a disk's threads");
	}
	list_init(&own->started);
	list_init(&own->queued);
	(void)pthread_mutex_init(&own->lock, NULL);
	(void)pthread_cond_init(&own->wanted, NULL);
	disk->threads = own;
	for (unsigned i = 0; i < EPOLL_DISK_THREADS; i++) {
		int error = real_thread_start(&own->threads[i], STACK_BYTES, thread_main, disk);

		if (error != 0) {
			epoll_disk_close(disk);
			return err_set(
				err, error, "start a disk's thread: %s", err_describe(error));
		}
		own->thread_count++;
	}
	return 0;
}

void epoll_disk_close(struct real_disk *disk)
{
	struct epoll_disk *own = disk->threads;

	pthread_mutex_lock(&own->lock);
	assert(list_is_empty(&own->queued));
	own->ending = true;
	pthread_cond_broadcast(&own->wanted);
	pthread_mutex_unlock(&own->lock);
	for (unsigned i = 0; i < own->thread_count; i++) {
		(void)pthread_join(own->threads[i], NULL);
	}
	(void)pthread_cond_destroy(&own->wanted);
	(void)pthread_mutex_destroy(&own->lock);
	free(own);
	disk->threads = NULL;
}
