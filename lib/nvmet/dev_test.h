/* SPDX-License-Identifier: Apache-2.0 */
/* A blk_dev in memory for tests: completes from a task, answers and releases in separate turns. */
#ifndef NVMET_DEV_TEST_H
#define NVMET_DEV_TEST_H

#include "io/blk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TEST_DEV_PRIVATE 40u

struct test_dev {
	struct blk_dev dev;
	struct io *io;
	struct task task;
	uint8_t *memory;
	struct list submitted, answered; /* blk_req */
	bool hold;                       /* what is submitted stays until this is taken back */
	bool hold_release;               /* it is answered, but not released */
	int result;                      /* of everything; 0: it is executed */
	unsigned count[BLK_DISCARD + 1];
	unsigned fua_count;
	unsigned in_flight, in_flight_max;
};

static inline int test_dev_execute(struct test_dev *dev, struct blk_req *req)
{
	uint64_t at = req->offset;

	if (dev->result != 0) {
		return dev->result;
	}
	switch (req->kind) {
	case BLK_READ:
	case BLK_WRITE:
		for (unsigned i = 0; i < req->iov_count; i++) {
			uint8_t *memory = dev->memory + at;

			if (req->kind == BLK_READ) {
				memcpy(req->iov[i].iov_base, memory, req->iov[i].iov_len);
			} else {
				memcpy(memory, req->iov[i].iov_base, req->iov[i].iov_len);
			}
			at += req->iov[i].iov_len;
		}
		assert(at == req->offset + req->length);
		break;
	case BLK_ZERO:
	case BLK_DISCARD:
		memset(dev->memory + at, 0, req->length);
		break;
	case BLK_FLUSH:
		break;
	}
	return 0;
}

static inline void test_dev_step(struct task *task)
{
	struct test_dev *dev = container_of(task, struct test_dev, task);
	struct list_node *node;

	while (!dev->hold_release && (node = list_pop_front(&dev->answered)) != NULL) {
		struct blk_req *req = container_of(node, struct blk_req, node);

		memset(req->private_state, 0, TEST_DEV_PRIVATE);
		dev->in_flight--;
		req->released(req);
	}
	while (!dev->hold && (node = list_pop_front(&dev->submitted)) != NULL) {
		struct blk_req *req = container_of(node, struct blk_req, node);

		req->result = test_dev_execute(dev, req);
		list_push_back(&dev->answered, &req->node);
		task_wake(&dev->task);
		req->done(req);
	}
}

static inline void test_dev_submit(struct blk_dev *blk, struct blk_req *req)
{
	struct test_dev *dev = container_of(blk, struct test_dev, dev);

	assert(req->kind == BLK_FLUSH || req->length > 0);
	assert(req->offset % blk->block_bytes == 0 && req->length % blk->block_bytes == 0);
	assert(req->offset + req->length <= blk->size_bytes);
	for (unsigned i = 0; i < TEST_DEV_PRIVATE; i++) {
		assert(((uint8_t *)req->private_state)[i] == 0);
	}
	memset(req->private_state, 0xaa, TEST_DEV_PRIVATE);
	dev->count[req->kind]++;
	dev->fua_count += req->fua;
	dev->in_flight++;
	dev->in_flight_max =
		dev->in_flight > dev->in_flight_max ? dev->in_flight : dev->in_flight_max;
	list_push_back(&dev->submitted, &req->node);
	task_wake(&dev->task);
}

static inline void test_dev_init(
	struct test_dev *dev, struct io *io, uint64_t size_bytes, uint32_t block_bytes)
{
	static const struct blk_dev_ops ops = {.submit = test_dev_submit};

	memset(dev, 0, sizeof(*dev));
	dev->dev = (struct blk_dev){&ops, size_bytes, block_bytes, TEST_DEV_PRIVATE, false};
	dev->io = io;
	dev->memory = calloc(1, size_bytes);
	assert(dev->memory != NULL);
	list_init(&dev->submitted);
	list_init(&dev->answered);
	task_init(&dev->task, &io->runq, test_dev_step);
}

static inline void test_dev_done(struct test_dev *dev)
{
	assert(dev->in_flight == 0);
	task_done(&dev->task);
	free(dev->memory);
}

#endif
