/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of replicas, as far as the pool's format has them. */
#include "pool-agent/store/snapshot.h"

#include "pool-agent/store/store_internal.h"

void store_set_snapshots(struct store *store, const struct store_snapshot_ops *ops, void *ctx)
{
	store->snapshot_ops = ops;
	store->snapshot_ctx = ctx;
}

bool store_replica_has_snapshots(const struct store_replica *replica)
{
	return replica->store->snapshot_ops != NULL;
}

void store_snapshot_prepare(
	struct store_replica *replica, uint64_t number, const struct uuid *id, struct store_op *op)
{
	struct store *store = replica->store;

	if (store->snapshot_ops != NULL) {
		store->snapshot_ops->prepare(store->snapshot_ctx, replica, number, id, op);
		return;
	}
	store->busy++;
	err_set(&op->err, -EOPNOTSUPP, "pool %s: " STORE_SNAPSHOTS_NEED, store->sb.name);
	store_op_fail_later(store->io, store, op, -EOPNOTSUPP);
}

void store_snapshot_resolve(struct store_replica *replica, uint64_t committed, struct store_op *op)
{
	struct store *store = replica->store;

	if (store->snapshot_ops != NULL) {
		store->snapshot_ops->resolve(store->snapshot_ctx, replica, committed, op);
		return;
	}
	store->busy++;
	store_op_fail_later(store->io, store, op, 0);
}

bool store_snapshot_next(
	const struct store_replica *replica, uint64_t after, struct store_snapshot *ret_snapshot)
{
	const struct store *store = replica->store;

	return store->snapshot_ops != NULL &&
	       store->snapshot_ops->next(store->snapshot_ctx, replica, after, ret_snapshot);
}

bool store_snapshot_find(
	const struct store_replica *replica, uint64_t number, struct store_snapshot *ret_snapshot)
{
	return number != 0 && store_snapshot_next(replica, number - 1, ret_snapshot) &&
	       ret_snapshot->number == number;
}

uint64_t store_snapshots_kept(const struct store_replica *replica)
{
	struct store_snapshot snapshot;
	uint64_t kept = 0;

	while (store_snapshot_find(replica, kept + 1, &snapshot) && snapshot.kept) {
		kept++;
	}
	return kept;
}

void store_snapshot_read(struct store_replica *replica, uint64_t number, struct store_io *io)
{
	struct store *store = replica->store;

	assert(store->snapshot_ops != NULL && io->kind == STORE_READ);
	store->snapshot_ops->read(store->snapshot_ctx, replica, number, io);
}
