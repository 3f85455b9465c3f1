/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica's vmeta: four blocks in two pairs, the members of a pair at opposite ends of the pool.
 * Version n goes to pair n % 2, near and then far, each with fua: the other pair has version n - 1
 * whole while a crash may leave this one half written.
 */
#include "base/mutant.h"
#include "pool-agent/store/store_internal.h"

enum slot_write_state {
	SLOT_WRITE_IDLE,
	SLOT_WRITE_START,
	SLOT_WRITE_AWAIT_NEAR,
	SLOT_WRITE_AWAIT_FAR,
};

uint64_t slot_block(const struct store *store, uint32_t slot, unsigned pair, unsigned member)
{
	const struct layout *layout = &store->sb.layout;

	return (member == 0 ? layout->vmeta_near : layout->vmeta_far) + 2 * (uint64_t)slot + pair;
}

static void slot_write_member(struct slot *slot, unsigned member)
{
	unsigned pair = (unsigned)(slot->written_seq % 2);
	uint64_t block = slot_block(slot->store, slot->index, pair, member);

	if (mutant_is(MUTANT_VMETA_VOLATILE)) {
		batch_write(&slot->batch, &slot->op, block, slot->image, VMETA_SIZE);
		return;
	}
	batch_write_durable(&slot->batch, &slot->op, block, slot->image, VMETA_SIZE);
}

static void slot_step(struct task *task)
{
	struct slot *slot = container_of(task, struct slot, task);
	struct task *parent;

	switch ((enum slot_write_state)slot->state) {
	case SLOT_WRITE_START:
		slot_write_member(slot, 0);
		AWAIT(slot, SLOT_WRITE_AWAIT_NEAR, slot->batch.pending == 0);
		slot->result = batch_take_result(&slot->batch);
		if (slot->result == 0) {
			slot_write_member(slot, 1);
			AWAIT(slot, SLOT_WRITE_AWAIT_FAR, slot->batch.pending == 0);
			slot->result = batch_take_result(&slot->batch);
		}
		if (slot->result == 0) {
			slot->seq = slot->written_seq;
		} else {
			/* Nobody knows which version is on the disk now. */
			store_fail(slot->store, "write of a replica's metadata", slot->result);
		}
		slot->state = SLOT_WRITE_IDLE;
		parent = slot->parent;
		slot->parent = NULL;
		task_wake(parent);
		return;
	case SLOT_WRITE_IDLE:
		return;
	}
}

bool slot_take(struct slot *slot, struct waiter *waiter, struct task *task)
{
	if (slot->taken) {
		waiter_add(&slot->takers, waiter, task);
		return false;
	}
	slot->taken = true;
	return true;
}

void slot_give(struct slot *slot)
{
	assert(slot->taken);
	slot->taken = false;
	waiters_wake(&slot->takers);
}

void slot_write(struct slot *slot, uint8_t *image, struct vmeta *vmeta, struct task *parent)
{
	assert(slot->parent == NULL && slot->state == SLOT_WRITE_IDLE);
	slot->written_seq = slot->seq + 1;
	vmeta->seq = slot->written_seq;
	vmeta->pool = slot->store->sb.uuid;
	vmeta->slot = slot->index;
	vmeta_encode(vmeta, image);
	slot->image = image;
	slot->parent = parent;
	slot->state = SLOT_WRITE_START;
	task_wake(&slot->task);
}

int slots_init(struct store *store)
{
	uint32_t count = store->sb.layout.slots;

	store->slots = io_zalloc(store->io, count * sizeof(struct slot));
	if (store->slots == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct slot *slot = &store->slots[i];

		slot->store = store;
		slot->index = i;
		task_init(&slot->task, &store->io->runq, slot_step);
		batch_init(&slot->batch, store->disk, &slot->task);
		list_init(&slot->takers);
	}
	return 0;
}

void slots_done(struct store *store)
{
	if (store->slots == NULL) {
		return;
	}
	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		struct slot *slot = &store->slots[i];

		assert(slot->parent == NULL);
		task_done(&slot->task);
		replica_free(slot->replica);
		for (unsigned member = 0; member < 4; member++) {
			io_free(store->io, slot->repair[member / 2][member % 2]);
		}
	}
	io_free(store->io, store->slots);
}
