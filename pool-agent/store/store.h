/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of thin replicas on one disk, format version 0 (docs/on-disk-format.md).  All operations
 * are asynchronous, on one reactor, over the seams only: the simulator runs this very code.
 *
 * What it promises: what was flushed (or written with fua) survives a crash or power loss at any
 * moment and needs no repair tool; never-written and discarded ranges read as zeros, never as
 * another replica's data; a stamp is durable before the data write that it announces is submitted;
 * stamps only rise; metadata updates of many replicas share one journal write (group commit).
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/err.h"
#include "io/io.h"
#include "repl/record.h"

#define STORE_BLOCK_BYTES    4096u
#define STORE_CLUSTER_BYTES  (256u * 1024)
#define STORE_POOL_NAME_SIZE 64

struct store;
struct store_replica;

/* Options that a test makes small so that collisions and boundaries are common; 0 means the
 * default. */
struct store_format_options {
	char name[STORE_POOL_NAME_SIZE];
	struct uuid uuid;        /* nil: made from io's rng */
	uint32_t cluster_bytes;  /* default STORE_CLUSTER_BYTES */
	uint64_t region_bytes;   /* default REPL_REGION_BYTES */
	uint32_t replica_slots;  /* default: 128 below 16 GiB, else 1024 */
	uint32_t journal_blocks; /* default by size */
};

/* One asynchronous operation without data; err has the text when result is negative.  The caller
 * keeps it until done. */
struct store_op {
	int result;
	struct err err;
	void (*done)(struct store_op *op);
	void *ctx;
	void *backend;    /* the store's */
	struct task task; /* the store's */
};

/* Writes a fresh pool onto the disk.  It does not look at what is there: the caller did
 * (store_probe). */
void store_format(struct io *io, struct io_disk *disk, const struct store_format_options *options,
	struct store_op *op);

enum store_probe_result {
	STORE_PROBE_EMPTY = 0, /* first and last MiB are zero */
	STORE_PROBE_POOL = 1,  /* a Strake pool (any version) */
	STORE_PROBE_OTHER = 2, /* something else is there */
	STORE_PROBE_UNFINISHED =
		3, /* a format of an empty disk that was cut off: nothing is lost */
};
/* op->result is an enum store_probe_result or negative; op->err.text describes what was found. */
void store_probe(struct io *io, struct io_disk *disk, struct store_op *op);

/* Takes the pool with this uuid off a disk that is not open as a store: afterwards the probe finds
 * it empty.  -ENOENT: no such pool is there, nothing was changed.  After a crash within it is
 * called again. */
void store_erase(struct io *io, struct io_disk *disk, const struct uuid *uuid, struct store_op *op);

/* Opens: superblock, vmeta slots, tables, journal replay.  *ret_store is set before done is called
 * with result 0.  -EOPNOTSUPP: newer version or unknown incompatible features; -EBADMSG: no good
 * superblock. */
void store_open(struct io *io, struct io_disk *disk, struct store **ret_store, struct store_op *op);
/* Everything in flight completes first; writes back nothing that is needed.  The store is gone when
 * done is called. */
void store_close(struct store *store, struct store_op *op);

struct store_info {
	char name[STORE_POOL_NAME_SIZE];
	struct uuid uuid;
	uint64_t size_bytes;       /* for data */
	uint64_t used_bytes;       /* mapped clusters and stamp pages */
	uint64_t reclaiming_bytes; /* freed, being zeroed */
	uint32_t replica_count;
	uint32_t replica_slots;
	uint64_t journal_writes, journal_records; /* since open */
	bool failed; /* a metadata write failed: everything but reads answers -EIO until reopened
			(scenario 32: no retry) */
};
void store_get_info(const struct store *store, struct store_info *ret_info);
/* The power id of the disk as it is now (io_disk.power). */
uint64_t store_power(const struct store *store);

/* ---- replicas ---- */

struct store_replica_options {
	struct uuid volume;
	struct uuid replica;
	char name[REPL_NAME_SIZE];
	char class_name[REPL_NAME_SIZE], claim_namespace[REPL_NAME_SIZE],
		claim_name[REPL_NAME_SIZE];
	enum voter_kind kind;
	uint64_t size_bytes;   /* multiple of 4096; 0 for an arbiter */
	struct volume_key key; /* number 0: it can be opened without a capability */
};

/* -EEXIST: the replica id is there; -ENOSPC: no slot, or no room for its stamps; -ERANGE: size 0 or
 * above REPL_SIZE_MAX. *ret_replica is set before done with 0. */
void store_replica_create(struct store *store, const struct store_replica_options *options,
	struct store_replica **ret_replica, struct store_op *op);
/* Tombstone first (durable when done), space returns in the background, also after a restart.
 * Nothing of the replica may be in flight; the handle is gone when done is called. */
void store_replica_delete(struct store_replica *replica, struct store_op *op);

/* In order of slots; NULL ends.  Deleted ones are not shown. */
struct store_replica *store_replica_next(struct store *store, struct store_replica *after);
struct store_replica *store_replica_find(struct store *store, const struct uuid *replica);
/* 0-based, stable for the replica's life (the namespace id is slot + 1). */
uint32_t store_replica_slot(const struct store_replica *replica);
/* true: both members of a vmeta pair are unreadable; the voter abstains for ever and only delete is
 * allowed. */
bool store_replica_abstains(const struct store_replica *replica);
/* It abstains because its metadata are of a version or have a feature that this program does not
 * know. */
bool store_replica_is_newer(const struct store_replica *replica);
/* The current durable vmeta; valid until the next turn of the loop. */
const struct vmeta *store_replica_vmeta(const struct store_replica *replica);
uint64_t store_replica_used_bytes(const struct store_replica *replica);
uint64_t store_replica_region_bytes(const struct store_replica *replica);

/* Durably replaces promised, cfg, clean, rebuilding, keys of the slot (seq is set by the store):
 * both members of the pair, FUA, one after the other.  Updates of one replica are serialised by the
 * caller (one at a time).  An error means that it is unknown whether the new version is durable;
 * the store is failed then. */
void store_replica_update(
	struct store_replica *replica, const struct vmeta *vmeta, struct store_op *op);

/*
 * Makes the replica as big as size_bytes; 0 also when it is already.  Durable when done; until
 * then, and after an error, it has its old size.  Counts as an update: one of both at a time; data
 * operations may be in flight.  -EINVAL: it is bigger, and does not shrink; -ERANGE: above
 * REPL_SIZE_MAX, no multiple of 4096, or an arbiter; -ENOSPC: no room for its stamps; -EBADMSG: it
 * abstains; -ENOMEM; -EIO as for an update.
 */
void store_replica_resize(struct store_replica *replica, uint64_t size_bytes, struct store_op *op);

/* The stamp of a region, as durable on disk; 0: never written. */
uint64_t store_replica_stamp(const struct store_replica *replica, uint64_t region);
uint64_t store_replica_region_count(const struct store_replica *replica);
/* true: some cluster of the region is mapped. */
bool store_replica_region_is_mapped(const struct store_replica *replica, uint64_t region);

/* ---- data ---- */

enum store_io_kind {
	STORE_READ,
	STORE_WRITE,
	STORE_ZERO,
	STORE_DISCARD,
	STORE_FLUSH,
	STORE_UNCORRECTABLE,
	STORE_STAMP,
};

/* Offsets and lengths in bytes, multiples of STORE_BLOCK_BYTES, within the replica (checked by the
 * caller: asserted). */
struct store_io {
	enum store_io_kind kind;
	bool fua;
	uint64_t wgen; /* stamp for WRITE, ZERO, DISCARD, UNCORRECTABLE, STAMP; 0: do not stamp (a
			  plain replica without a volume) */
	uint64_t offset, length;
	struct iovec *iov; /* READ, WRITE; 4096-aligned */
	unsigned iov_count;
	int result; /* 0; -ENOSPC pool full (nothing of a WRITE that needs space was executed, or
		     * part of it: undefined as for any failed write); -ENOBUFS too many blocks are
		     * unreadable; -EIO */
	void (*done)(struct store_io *io);
	void *ctx;
	uint64_t backend[40]; /* the store's */
};

/*
 * STORE_ZERO and STORE_DISCARD: whole clusters are unmapped, the edges are written with zeros where
 * they are mapped. STORE_FLUSH: everything of this replica that completed before is durable, data
 * and map. STORE_UNCORRECTABLE: the blocks are unreadable, durably: a read that touches one ends
 * with -EIO as for a bad sector, until what was written, zeroed or discarded there is durable,
 * which it is when it is answered.  A replica has room for MARKS_MAX of them. STORE_STAMP: the
 * stamps of the regions that the range touches are at least wgen, durably; nothing else happens.
 * Overlapping writes in flight at once: the result is one of them for each block (the nexus never
 * sends such).
 */
void store_submit(struct store_replica *replica, struct store_io *io);

#endif
