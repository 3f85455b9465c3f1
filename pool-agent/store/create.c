/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creation and deletion of replicas.
 *
 * Creation: vmeta CREATING, clusters for the stamps, vmeta READY.  A crash in between leaves
 * CREATING, which the next open turns into a tombstone.  Deletion: the tombstone; then the clusters
 * become dirty in the background, and only when all of that is durable may the slot be used again.
 */
#include "pool-agent/store/store_internal.h"

#include <stdio.h>
#include <string.h>

enum create_state {
	CREATE_START,
	CREATE_AWAIT_SLOT,
	CREATE_AWAIT_CREATING,
	CREATE_AWAIT_CLUSTERS,
	CREATE_AWAIT_READY,
	CREATE_AWAIT_UNDONE,
	CREATE_DONE,
};

struct create {
	struct task task;
	int state;
	struct store *store;
	struct store_op *op;
	struct store_replica **ret_replica;
	struct vmeta vmeta;
	struct slot *slot;
	struct store_replica *replica; /* owned until it is in its slot */
	struct waiter waiter;
	uint32_t next_cluster;
	int result;
};

static void create_fail(struct create *create, int result, const char *why)
{
	create->result = err_set(
		&create->op->err, result, "create replica of %s: %s", create->vmeta.name, why);
}

static struct slot *free_slot(struct store *store)
{
	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		if (store->slots[i].use == SLOT_FREE) {
			return &store->slots[i];
		}
	}
	return NULL;
}

static bool uuid_is_taken(struct store *store, const struct uuid *id)
{
	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		const struct slot *slot = &store->slots[i];

		if (slot->replica != NULL && uuid_equal(&slot->replica->vmeta.replica, id)) {
			return true;
		}
	}
	return false;
}

static void create_check(struct create *create)
{
	struct store *store = create->store;
	uint64_t size_bytes = create->vmeta.size_bytes;
	bool data = create->vmeta.kind == VOTER_DATA;

	if (store->failed) {
		create_fail(create, -EIO, "the pool has failed");
	} else if (data ? size_bytes == 0 : size_bytes != 0) {
		create_fail(create, -ERANGE, "size 0 is for arbiters, and theirs alone");
	} else if (size_bytes > REPL_SIZE_MAX || size_bytes % STORE_BLOCK_BYTES != 0) {
		create_fail(create, -ERANGE, "the size is above 64 TiB or no multiple of 4096");
	} else if (uuid_is_taken(store, &create->vmeta.replica)) {
		create_fail(create, -EEXIST, "a replica with this id is in the pool");
	} else if (replica_stamp_clusters(&store->sb.layout, size_bytes) >
		   store->sb.layout.cluster_count) {
		create_fail(create, -ENOSPC, "the pool has no room for its stamps");
	}
}

/* Takes a slot; true: done, or failed. */
static bool create_take_slot(struct create *create)
{
	struct store *store = create->store;
	int result;

	create_check(create);
	if (create->result != 0) {
		return true;
	}
	create->slot = free_slot(store);
	if (create->slot == NULL) {
		if (store->reclaim.draining > 0) {
			waiter_add(&store->slot_waiters, &create->waiter, &create->task);
			return false;
		}
		create_fail(create, -ENOSPC, "all replica slots of the pool are taken");
		return true;
	}
	result = replica_new(store, create->slot, &create->vmeta, &create->replica);
	if (result != 0) {
		create->slot = NULL;
		create_fail(create, result, "no memory");
		return true;
	}
	create->slot->use = SLOT_BUSY;
	/* From now on its id is taken. */
	create->slot->replica = create->replica;
	return true;
}

/* true: all clusters are there and durable, or it failed; else it waits. */
static bool create_take_clusters(struct create *create)
{
	struct store_replica *replica = create->replica;
	int result = replica_take_clusters(replica, replica->stamp_clusters, &create->next_cluster,
		replica->stamp_cluster_count, &create->waiter, &create->task);

	if (result == -ENOSPC) {
		create_fail(create, result, "the pool has no room for its stamps");
	} else if (result < 0) {
		create_fail(create, result, "the pool has failed");
	}
	return result <= 0;
}

static void create_slot_result(struct create *create)
{
	if (create->slot->result != 0) {
		create_fail(create, create->slot->result, "its metadata cannot be written");
	}
}

/* A tombstone, unless the pool has failed: then the next open makes it. */
static void create_undo(struct create *create)
{
	create->vmeta.state = VMETA_DELETED;
	slot_write(create->slot, create->replica->image, &create->vmeta, &create->task);
}

static void create_finish(struct create *create)
{
	struct store *store = create->store;
	struct store_op *op = create->op;
	int result = create->result;

	create->state = CREATE_DONE;
	if (result == 0) {
		create->replica->vmeta = create->vmeta;
		create->slot->use = SLOT_READY;
		store->replica_count++;
		*create->ret_replica = create->replica;
	} else if (create->slot != NULL) {
		create->slot->replica = NULL;
		replica_free(create->replica);
		create->slot->use = SLOT_DRAINING;
		reclaim_slot(&store->reclaim);
	}
	task_done(&create->task);
	io_free(store->io, create);
	store_unbusy(store);
	store_op_finish(op, result);
}

static void create_step(struct task *task)
{
	struct create *create = container_of(task, struct create, task);

	switch ((enum create_state)create->state) {
	case CREATE_START:
		while (!create_take_slot(create)) {
			AWAIT(create, CREATE_AWAIT_SLOT, !waiter_waits(&create->waiter));
		}
		if (create->result == 0) {
			create->vmeta.state = VMETA_CREATING;
			slot_write(create->slot, create->replica->image, &create->vmeta, task);
			AWAIT(create, CREATE_AWAIT_CREATING, create->slot->parent == NULL);
			create_slot_result(create);
		}
		while (create->result == 0 && !create_take_clusters(create)) {
			AWAIT(create, CREATE_AWAIT_CLUSTERS, !waiter_waits(&create->waiter));
		}
		if (create->result == 0) {
			create->vmeta.state = VMETA_READY;
			slot_write(create->slot, create->replica->image, &create->vmeta, task);
			AWAIT(create, CREATE_AWAIT_READY, create->slot->parent == NULL);
			create_slot_result(create);
		}
		if (create->result != 0 && create->slot != NULL && !create->store->failed) {
			create_undo(create);
			AWAIT(create, CREATE_AWAIT_UNDONE, create->slot->parent == NULL);
		}
		create_finish(create);
		return;
	case CREATE_DONE:
		return;
	}
}

void store_replica_create(struct store *store, const struct store_replica_options *options,
	struct store_replica **ret_replica, struct store_op *op)
{
	struct create *create = io_zalloc(store->io, sizeof(*create));

	store->busy++;
	if (create == NULL) {
		store_op_fail_later(store->io, store, op,
			err_set(&op->err, -ENOMEM, "create replica: no memory"));
		return;
	}
	create->store = store;
	create->op = op;
	create->ret_replica = ret_replica;
	create->vmeta.volume = options->volume;
	create->vmeta.replica = options->replica;
	create->vmeta.kind = options->kind;
	create->vmeta.size_bytes = options->size_bytes;
	create->vmeta.keys[0] = options->key;
	(void)snprintf(create->vmeta.name, REPL_NAME_SIZE, "%s", options->name);
	(void)snprintf(create->vmeta.class_name, REPL_NAME_SIZE, "%s", options->class_name);
	(void)snprintf(
		create->vmeta.claim_namespace, REPL_NAME_SIZE, "%s", options->claim_namespace);
	(void)snprintf(create->vmeta.claim_name, REPL_NAME_SIZE, "%s", options->claim_name);
	task_init(&create->task, &store->io->runq, create_step);
	task_wake(&create->task);
}

/* ---- deletion ---- */

enum delete_state {
	DELETE_START,
	DELETE_AWAIT_TOMBSTONE,
	DELETE_AWAIT_SECOND,
	DELETE_AWAIT_PAGES,
	DELETE_DONE,
};

struct delete
{
	struct task task;
	int state;
	struct store *store;
	struct store_op *op;
	struct store_replica *replica;
	struct slot *slot;
	struct vmeta vmeta;
	struct waiter waiter;
	int result;
};

static void delete_write(struct delete *delete)
{
	delete->vmeta.state = VMETA_DELETED;
	slot_write(delete->slot, delete->replica->image, &delete->vmeta, &delete->task);
}

static bool delete_pages_are_written(struct delete *delete)
{
	struct checkpoint *checkpoint = &delete->store->checkpoint;

	if (waiter_waits(&delete->waiter)) {
		return false;
	}
	if (checkpoint_is_writing(checkpoint, delete->replica)) {
		waiter_add(&checkpoint->idle_waiters, &delete->waiter, &delete->task);
		return false;
	}
	return true;
}

static void delete_finish(struct delete *delete)
{
	struct store *store = delete->store;
	struct store_op *op = delete->op;
	int result = delete->result;

	delete->state = DELETE_DONE;
	if (result == 0) {
		checkpoint_forget(delete->replica);
		reclaim_forget_surplus(&store->reclaim, delete->slot);
		replica_free(delete->replica);
		delete->slot->replica = NULL;
		delete->slot->abstains = false;
		delete->slot->use = SLOT_DRAINING;
		store->replica_count--;
		reclaim_slot(&store->reclaim);
	} else {
		/* The pool has failed; the next open shows whether it was deleted. */
		err_set(&op->err, result, "delete replica of %s: its metadata cannot be written",
			delete->vmeta.name);
		delete->slot->use = SLOT_READY;
	}
	task_done(&delete->task);
	io_free(store->io, delete);
	store_unbusy(store);
	store_op_finish(op, result);
}

static void delete_step(struct task *task)
{
	struct delete *delete = container_of(task, struct delete, task);

	switch ((enum delete_state) delete->state) {
	case DELETE_START:
		delete->result = delete->store->failed ? -EIO : 0;
		if (delete->result == 0) {
			delete_write(delete);
			AWAIT(delete, DELETE_AWAIT_TOMBSTONE, delete->slot->parent == NULL);
			delete->result = delete->slot->result;
		}
		if (delete->result == 0 && delete->slot->abstains) {
			/* Both pairs must be whole again, or the slot would abstain for ever. */
			delete_write(delete);
			AWAIT(delete, DELETE_AWAIT_SECOND, delete->slot->parent == NULL);
			delete->result = delete->slot->result;
		}
		if (delete->result == 0) {
			AWAIT(delete, DELETE_AWAIT_PAGES, delete_pages_are_written(delete));
		}
		delete_finish(delete);
		return;
	case DELETE_DONE:
		return;
	}
}

void store_replica_delete(struct store_replica *replica, struct store_op *op)
{
	struct store *store = replica->store;
	struct delete *delete = io_zalloc(store->io, sizeof(*delete));

	assert(replica->ios == 0 && replica->update == NULL);
	assert(replica->slot->use == SLOT_READY);
	store->busy++;
	if (delete == NULL) {
		store_op_fail_later(store->io, store, op,
			err_set(&op->err, -ENOMEM, "delete replica: no memory"));
		return;
	}
	delete->store = store;
	delete->op = op;
	delete->replica = replica;
	delete->slot = replica->slot;
	delete->vmeta = replica->vmeta;
	memset(delete->vmeta.keys, 0, sizeof(delete->vmeta.keys));
	delete->vmeta.marks.count = 0;
	delete->slot->use = SLOT_BUSY;
	task_init(&delete->task, &store->io->runq, delete_step);
	task_wake(&delete->task);
}
