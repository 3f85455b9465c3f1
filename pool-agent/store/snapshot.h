/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool-agent asks of a store for snapshots (docs/protocol.md 1.10).  An image of a replica
 * is PREPARED under a number: it is what every command that had completed before left there, it is
 * volatile until a FLUSH of the replica that began later, and of no use until it is kept.  Kept it
 * is once the volume's voters have committed that number; every other one is deleted.
 *
 * Pool format 0 has no snapshots.  Who has is behind this table; the simulator has one of its own
 * (tests/sim/snapshot_store.c).
 */
#ifndef STORE_SNAPSHOT_H
#define STORE_SNAPSHOT_H

#include "pool-agent/store/store.h"

#define STORE_SNAPSHOTS_NEED "needs pool format 1"

struct store_snapshot {
	uint64_t number; /* from 1 */
	struct uuid id;
	bool kept;
};

/* All of one replica; one of prepare and resolve at a time.  `op` ends as any store_op, never
 * inline. */
struct store_snapshot_ops {
	/* There is none with this number.  What is marked unreadable is so in the image, too.
	 * -ENOSPC, -EIO, -ENOMEM: nothing is left of it. */
	void (*prepare)(void *ctx, struct store_replica *replica, uint64_t number,
		const struct uuid *id, struct store_op *op);
	/* Keeps what is PREPARED up to `committed` and deletes the rest of what is PREPARED;
	 * durable when done. */
	void (*resolve)(
		void *ctx, struct store_replica *replica, uint64_t committed, struct store_op *op);
	/* The one with the next number above `after`; false: there is none. */
	bool (*next)(void *ctx, const struct store_replica *replica, uint64_t after,
		struct store_snapshot *ret_snapshot);
	/* STORE_READ of a snapshot that is there; zeros beyond its end.  -EIO: as of a replica. */
	void (*read)(
		void *ctx, struct store_replica *replica, uint64_t number, struct store_io *io);
	/* A FLUSH of the replica begins; what `flushed` is given when it has succeeded. */
	uint64_t (*flush_begins)(void *ctx, const struct store_replica *replica);
	void (*flushed)(void *ctx, struct store_replica *replica, uint64_t begun);
};

/* Before any use of the store; borrowed as long as it is open. */
void store_set_snapshots(struct store *store, const struct store_snapshot_ops *ops, void *ctx);

/* false: prepare ends with -EOPNOTSUPP, and there is nothing to resolve, list or read. */
bool store_replica_has_snapshots(const struct store_replica *replica);
void store_snapshot_prepare(
	struct store_replica *replica, uint64_t number, const struct uuid *id, struct store_op *op);
void store_snapshot_resolve(struct store_replica *replica, uint64_t committed, struct store_op *op);
bool store_snapshot_next(
	const struct store_replica *replica, uint64_t after, struct store_snapshot *ret_snapshot);
/* All numbers from 1 to this one are kept. */
uint64_t store_snapshots_kept(const struct store_replica *replica);
bool store_snapshot_find(
	const struct store_replica *replica, uint64_t number, struct store_snapshot *ret_snapshot);
/* -ENOENT: there is none. */
void store_snapshot_read(struct store_replica *replica, uint64_t number, struct store_io *io);

#endif
