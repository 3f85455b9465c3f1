/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator's own state is kept apart from the buffers: nothing that is written to a buffer
 * after it was put back can damage it, and a wrong put is noticed.
 */
#include "io/bufpool.h"

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>

#define ORDERS 9 /* 4 KiB << 0 .. 4 KiB << 8 */
#define NONE   UINT32_MAX

_Static_assert(BUFPOOL_UNIT << (ORDERS - 1) == BUFPOOL_BUFFER_MAX,
	"the largest order is the largest buffer");

enum unit_state {
	UNIT_INSIDE, /* not the first unit of a block */
	UNIT_FREE,   /* first unit of a free block */
	UNIT_USED,   /* first unit of a block that was got */
};

struct unit {
	uint32_t next, prev; /* of the free list of its order */
	uint8_t order;
	uint8_t state;
};

struct bufpool {
	struct io *io;
	unsigned char *region;
	struct unit *units;
	uint32_t unit_count;
	uint32_t first_free[ORDERS];
	size_t used_bytes;
	struct list waiters;
};

static void free_list_push(struct bufpool *pool, uint32_t index, unsigned order)
{
	struct unit *unit = &pool->units[index];

	unit->state = UNIT_FREE;
	unit->order = (uint8_t)order;
	unit->prev = NONE;
	unit->next = pool->first_free[order];
	if (unit->next != NONE) {
		pool->units[unit->next].prev = index;
	}
	pool->first_free[order] = index;
}

static void free_list_remove(struct bufpool *pool, uint32_t index)
{
	struct unit *unit = &pool->units[index];

	assert(unit->state == UNIT_FREE);
	if (unit->prev != NONE) {
		pool->units[unit->prev].next = unit->next;
	} else {
		pool->first_free[unit->order] = unit->next;
	}
	if (unit->next != NONE) {
		pool->units[unit->next].prev = unit->prev;
	}
	unit->state = UNIT_INSIDE;
}

int bufpool_new(struct io *io, size_t size_bytes, struct bufpool **ret_pool)
{
	size_t size = round_up_u64(size_bytes, BUFPOOL_BUFFER_MAX);

	if (size == 0 || size < size_bytes || size / BUFPOOL_UNIT >= NONE) {
		return -EINVAL;
	}
	struct bufpool *pool = io_zalloc(io, sizeof(*pool));

	if (pool == NULL) {
		return -ENOMEM;
	}
	pool->io = io;
	pool->unit_count = (uint32_t)(size / BUFPOOL_UNIT);
	pool->units = io_zalloc(io, pool->unit_count * sizeof(*pool->units));
	pool->region = io_zalloc_data(io, size);
	if (pool->units == NULL || pool->region == NULL) {
		io_free(io, pool->units);
		io_free_data(io, pool->region, size);
		io_free(io, pool);
		return -ENOMEM;
	}
	/* Zeroed memory may still be without pages behind it. */
	for (size_t at = 0; at < size; at += BUFPOOL_UNIT) {
		*(volatile unsigned char *)(pool->region + at) = 0;
	}
	list_init(&pool->waiters);
	for (unsigned order = 0; order < ORDERS; order++) {
		pool->first_free[order] = NONE;
	}
	/* The lowest addresses are first in their list, so that they are used first. */
	for (uint32_t end = pool->unit_count; end > 0; end -= 1u << (ORDERS - 1)) {
		free_list_push(pool, end - (1u << (ORDERS - 1)), ORDERS - 1);
	}
	*ret_pool = pool;
	return 0;
}

void bufpool_free(struct bufpool *pool)
{
	if (pool == NULL) {
		return;
	}
	assert(pool->used_bytes == 0);
	assert(list_is_empty(&pool->waiters));
	struct io *io = pool->io;

	io_free_data(io, pool->region, (size_t)pool->unit_count * BUFPOOL_UNIT);
	io_free(io, pool->units);
	io_free(io, pool);
}

static unsigned order_of_size(size_t size)
{
	unsigned order = 0;

	assert(size > 0 && size <= BUFPOOL_BUFFER_MAX);
	while ((size_t)BUFPOOL_UNIT << order < size) {
		order++;
	}
	return order;
}

void *bufpool_get(struct bufpool *pool, size_t size)
{
	unsigned wanted = order_of_size(size);
	unsigned order = wanted;

	while (order < ORDERS && pool->first_free[order] == NONE) {
		order++;
	}
	if (order == ORDERS) {
		return NULL;
	}
	uint32_t index = pool->first_free[order];

	free_list_remove(pool, index);
	/* The upper half of what is too large goes back. */
	while (order > wanted) {
		order--;
		free_list_push(pool, index + (1u << order), order);
	}
	pool->units[index].state = UNIT_USED;
	pool->units[index].order = (uint8_t)wanted;
	pool->used_bytes += (size_t)BUFPOOL_UNIT << wanted;
	return pool->region + (size_t)index * BUFPOOL_UNIT;
}

void bufpool_put(struct bufpool *pool, void *buffer, size_t size)
{
	size_t offset = (size_t)((unsigned char *)buffer - pool->region);
	unsigned order = order_of_size(size);

	assert(offset % BUFPOOL_UNIT == 0 && offset / BUFPOOL_UNIT < pool->unit_count);
	uint32_t index = (uint32_t)(offset / BUFPOOL_UNIT);

	assert(pool->units[index].state == UNIT_USED && pool->units[index].order == order);
	pool->units[index].state = UNIT_INSIDE;
	pool->used_bytes -= (size_t)BUFPOOL_UNIT << order;
	while (order < ORDERS - 1) {
		uint32_t buddy = index ^ (1u << order);

		if (pool->units[buddy].state != UNIT_FREE || pool->units[buddy].order != order) {
			break;
		}
		free_list_remove(pool, buddy);
		index &= ~(1u << order);
		order++;
	}
	free_list_push(pool, index, order);
	/*
	 * All of them, since the first may want more than there is now while the others do not.
	 * Whoever fails waits again, in the same order.
	 */
	struct list_node *node;

	while ((node = list_pop_front(&pool->waiters)) != NULL) {
		task_wake(container_of(node, struct bufpool_waiter, node)->task);
	}
}

void bufpool_wait(struct bufpool *pool, struct bufpool_waiter *waiter, struct task *task)
{
	waiter->task = task;
	if (!list_is_linked(&waiter->node)) {
		list_push_back(&pool->waiters, &waiter->node);
	}
}

void bufpool_unwait(struct bufpool_waiter *waiter)
{
	list_remove_if_linked(&waiter->node);
}

bool bufpool_has_waiters(const struct bufpool *pool)
{
	return !list_is_empty(&pool->waiters);
}

size_t bufpool_used_bytes(const struct bufpool *pool)
{
	return pool->used_bytes;
}
