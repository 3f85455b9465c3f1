/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica's vmeta: four blocks in two pairs, the members of a pair at opposite ends of the pool.
 * Version n goes to pair n % 2, near and then far, each durable before what follows: the other pair
 * has version n - 1 whole while a crash may leave this one half written.
 *
 * One version is written with fua.  What arrives meanwhile goes together, with a flush of the disk
 * behind all near members and one behind all far ones: when a node is lost, all its volumes want to
 * write here at once.
 */
#include "base/mutant.h"
#include "pool-agent/store/store_internal.h"

enum slot_writer_state {
	SLOT_WRITER_START,
	SLOT_WRITER_AWAIT_NEAR,
	SLOT_WRITER_AWAIT_NEAR_FLUSH,
	SLOT_WRITER_AWAIT_FAR,
	SLOT_WRITER_AWAIT_FAR_FLUSH,
};

uint64_t slot_block(const struct store *store, uint32_t slot, unsigned pair, unsigned member)
{
	const struct layout *layout = &store->sb.layout;

	return (member == 0 ? layout->vmeta_near : layout->vmeta_far) + 2 * (uint64_t)slot + pair;
}

static void writer_write(struct slot_writer *writer, unsigned member)
{
	bool alone = writer->served.head.next == writer->served.head.prev;

	list_for_each (&writer->served, node) {
		struct slot *slot = container_of(node, struct slot, write_node);
		unsigned pair = (unsigned)(slot->written_seq % 2);
		uint64_t block = slot_block(slot->store, slot->index, pair, member);

		if (alone && !mutant_is(MUTANT_VMETA_VOLATILE)) {
			batch_write_durable(
				&writer->batch, &slot->op, block, slot->image, VMETA_SIZE);
		} else {
			batch_write(&writer->batch, &slot->op, block, slot->image, VMETA_SIZE);
		}
	}
	writer->flushes = !alone && !mutant_is(MUTANT_VMETA_VOLATILE);
}

/* Of what was written without fua. */
static void writer_flush(struct slot_writer *writer)
{
	writer->result = batch_take_result(&writer->batch);
	if (writer->flushes && writer->result == 0) {
		batch_flush(&writer->batch, &writer->flush);
	}
}

static void writer_flushed(struct slot_writer *writer)
{
	int result = batch_take_result(&writer->batch);

	writer->result = writer->result != 0 ? writer->result : result;
}

static void writer_end(struct slot_writer *writer)
{
	struct list_node *node;

	if (writer->result != 0) {
		/* Nobody knows which versions are on the disk now. */
		store_fail(writer->store, "write of a replica's metadata", writer->result);
	}
	while ((node = list_pop_front(&writer->served)) != NULL) {
		struct slot *slot = container_of(node, struct slot, write_node);
		struct task *parent = slot->parent;

		slot->result = writer->result;
		if (slot->result == 0) {
			slot->seq = slot->written_seq;
		}
		slot->parent = NULL;
		task_wake(parent);
	}
}

static void writer_step(struct task *task)
{
	struct slot_writer *writer = container_of(task, struct slot_writer, task);

	switch ((enum slot_writer_state)writer->state) {
	case SLOT_WRITER_START:
		while (!list_is_empty(&writer->waiting)) {
			list_splice_back(&writer->served, &writer->waiting);
			if (writer->store->failed) {
				writer->result = -EIO;
				writer_end(writer);
				continue;
			}
			writer_write(writer, 0);
			AWAIT(writer, SLOT_WRITER_AWAIT_NEAR, writer->batch.pending == 0);
			writer_flush(writer);
			AWAIT(writer, SLOT_WRITER_AWAIT_NEAR_FLUSH, writer->batch.pending == 0);
			writer_flushed(writer);
			if (writer->result == 0) {
				writer_write(writer, 1);
				AWAIT(writer, SLOT_WRITER_AWAIT_FAR, writer->batch.pending == 0);
				writer_flush(writer);
				AWAIT(writer, SLOT_WRITER_AWAIT_FAR_FLUSH,
					writer->batch.pending == 0);
				writer_flushed(writer);
			}
			writer_end(writer);
		}
		writer->state = SLOT_WRITER_START;
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
	struct slot_writer *writer = &slot->store->slot_writer;

	assert(slot->parent == NULL);
	slot->written_seq = slot->seq + 1;
	vmeta->seq = slot->written_seq;
	vmeta->pool = slot->store->sb.uuid;
	vmeta->slot = slot->index;
	vmeta_encode(vmeta, image);
	slot->image = image;
	slot->parent = parent;
	list_push_back(&writer->waiting, &slot->write_node);
	task_wake(&writer->task);
}

static void writer_init(struct store *store)
{
	struct slot_writer *writer = &store->slot_writer;

	writer->store = store;
	task_init(&writer->task, &store->io->runq, writer_step);
	batch_init(&writer->batch, store->disk, &writer->task);
	list_init(&writer->waiting);
	list_init(&writer->served);
}

int slots_init(struct store *store)
{
	uint32_t count = store->sb.layout.slots;

	writer_init(store);
	store->slots = io_zalloc(store->io, count * sizeof(struct slot));
	if (store->slots == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct slot *slot = &store->slots[i];

		slot->store = store;
		slot->index = i;
		list_init(&slot->takers);
	}
	return 0;
}

void slots_done(struct store *store)
{
	if (store->slots == NULL) {
		return;
	}
	task_done(&store->slot_writer.task);
	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		struct slot *slot = &store->slots[i];

		assert(slot->parent == NULL);
		replica_free(slot->replica);
		for (unsigned member = 0; member < 4; member++) {
			io_free(store->io, slot->repair[member / 2][member % 2]);
		}
	}
	io_free(store->io, store->slots);
}
