/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The logic of a nexus on one reactor: associations with pool-agents (peer), volumes (mirror).
 * main.c wires it to the real world, tests/sim to a simulated one.
 */
#ifndef NEXUS_NEXUS_H
#define NEXUS_NEXUS_H

#include "io/blk.h"
#include "io/bufpool.h"
#include "io/io.h"
#include "repl/record.h"

struct nexus;
struct volume;

#define VOLUME_REASON_SIZE 256

/* Time-outs of protocol 1.11, and sizes; 0 means the default. */
struct nexus_options {
	struct uuid host_uuid;  /* hostnqn nqn.2025-01.io.strake:host:<uuid> */
	size_t buffer_bytes;    /* for copies: rebuild and resync; default 8 MiB */
	size_t dirty_bytes;     /* for what absent replicas lack: 512 bytes for each 256 MiB of a
				   volume in which something was written; default 2 MiB */
	unsigned queue_depth;   /* I/O queue of an association, default 128 */
	uint64_t checkpoint_ns; /* a write generation is at least that old, default 5 min */
	uint64_t slow_ns; /* a replica that was slow against its peers for so long leaves S: 10 s */
	uint64_t eject_away_ns; /* how long one stays out that answered badly, at first: 60 s */
	uint64_t lost_ns; /* a member that is out for so long may be replaced below min_insync: 60 s
			   */
	/* Of rebuilds that no acknowledgement waits for: how many copy at once (4), and how much
	 * all of them together in a second: not less than min (8 MiB), however slow the host's
	 * requests get; never more than max (no limit). */
	unsigned rebuilds;
	uint64_t rebuild_rate_min, rebuild_rate_max;
	/* The newest configuration that it understands; 0: CFG_VERSION.  What it commits needs
	 * cfg_needs at least (cfg.min_version): nothing does yet.  For tests, which have older and
	 * newer programs that way. */
	uint32_t cfg_version, cfg_needs;
};

int nexus_new(struct io *io, const struct nexus_options *options, struct nexus **ret_nexus,
	struct err *err) __must_check;
/* All volumes were closed before. */
void nexus_close(struct nexus *nexus, void (*closed)(void *ctx), void *ctx);

/* The pool-agent is found at this address now.  An association that is up stays; all others, also
 * of volumes that are open, are made there. */
void nexus_set_agent_address(
	struct nexus *nexus, const struct uuid *agent, const struct io_address *address);

/* Where a voter is found: from the state file or the Kubernetes object. */
struct volume_voter {
	struct uuid replica;
	enum voter_kind kind;
	struct uuid agent;
	struct io_address address;
	uint32_t nsid;
	bool local; /* on the nexus's own node: read first */
};

struct volume_options {
	char name[REPL_NAME_SIZE];
	struct uuid uuid;
	uint64_t size_bytes; /* for the first open; later cfg.size rules */
	/* likewise; lineage_known: what it is from then on.  Replicas of another lineage are none
	 * of its (forced recovery).  Not known: the one that all who answer have, or it does not
	 * open. */
	uint64_t lineage;
	bool lineage_known;
	uint32_t attach;
	struct capability capability; /* for `attach` and this nexus; version 0: none */
	uint32_t inc_min; /* the largest inc that this node used for this attach (local file); 0 at
			     first */
	unsigned min_insync; /* 0: default (1 for up to 2 data replicas, else 2) */
	/* Without a quorum requests wait (0), or end in errors after so long. */
	uint64_t no_quorum_ns;
	/* Where replicas are found that are voters, as far as is known.  Which ones are, the voters
	 * themselves say; only a volume that was never open begins with just these. */
	unsigned voter_count;
	struct volume_voter voters[REPL_VOTERS_MAX];
	/* A configuration was committed before: without one at a majority it does not open. */
	bool used;
	/* The kernel of this node is the one under which the volume was open with this attach last
	 * (state file): the host may have lived on. */
	bool host_may_have_lived_on;
	/* volume_waited() of an earlier process of the same state file that has ended, or all 0. */
	struct epoch waited;
	/* Not "": it is Faulted from the start, for this reason, and asks no replica for anything.
	 */
	char fault[VOLUME_REASON_SIZE];
	/* The state file must hold inc before it is used: called on the reactor; the owner calls
	 * volume_inc_saved(). */
	void (*save_inc)(struct volume *volume, uint32_t inc, void *ctx);
	/* State or anything in volume_status changed; hint to look.  May be NULL. */
	void (*changed)(struct volume *volume, void *ctx);
	void *ctx;
};

enum volume_state {
	VOLUME_OPENING,    /* fencing a majority; reason says what is missing */
	VOLUME_ONLINE,     /* S is all data voters; an arbiter may be missing */
	VOLUME_DEGRADED,   /* serves, a replica is missing, stale or being rebuilt */
	VOLUME_STALLED,    /* I/O waits: reason says which replicas it needs */
	VOLUME_FAULTED,    /* I/O fails until it is opened anew: reason */
	VOLUME_SUPERSEDED, /* a higher attach number took it over: I/O fails */
	VOLUME_CLOSED,
};
const char *volume_state_name(enum volume_state state); /* "Opening", "Online", ... */

enum replica_state {
	REPLICA_UNKNOWN,     /* not reached yet */
	REPLICA_OFFLINE,     /* no association or not fenced */
	REPLICA_INSYNC,      /* member of S; an arbiter that is reached */
	REPLICA_OUT_OF_SYNC, /* reached; not in S, waiting for its rebuild */
	REPLICA_REBUILDING,
	REPLICA_FAULTED, /* abstains, other lineage, wrong id: reason */
};
const char *replica_state_name(enum replica_state state);

enum replica_membership {
	MEMBERSHIP_UNKNOWN, /* the volume is not open yet */
	MEMBERSHIP_NONE,    /* its place is known; it has no vote */
	MEMBERSHIP_VOTER,
	MEMBERSHIP_ADDING,
	MEMBERSHIP_REMOVING, /* still a voter, or its adding is being taken back */
};
const char *replica_membership_name(enum replica_membership membership);

struct volume_replica_status {
	struct uuid replica; /* nil: the place is empty */
	enum voter_kind kind;
	enum replica_membership membership;
	struct uuid agent; /* nil: it is not known where it is found */
	struct io_address address;
	enum replica_state state;
	char reason[VOLUME_REASON_SIZE];
	/* Of the running or last rebuild. */
	uint64_t rebuild_total_bytes, rebuild_done_bytes;
	uint64_t rebuild_compared_bytes, rebuild_equal_bytes, rebuild_copied_bytes;
	uint64_t rebuild_bytes_per_s;  /* of the running one; 0: nothing moves, or too early */
	uint64_t rebuild_seconds_left; /* 0: not known */
	bool rebuild_waits;            /* for other rebuilds of this nexus */
	uint64_t reads, writes, errors;
	uint64_t unreadable, repairs; /* reads that its disk did not give; blocks written again */
	uint64_t ejections;           /* because it answered badly: slow, unreadable */
};

struct volume_status {
	enum volume_state state;
	char reason[VOLUME_REASON_SIZE];
	uint32_t superseded_by; /* the highest attach number that refused it; 0: none */
	uint64_t size_bytes;
	struct cfg cfg; /* committed now; gen 0 before the first commit */
	unsigned min_insync;
	uint64_t no_quorum_ns;
	uint64_t active_regions; /* stamped above clean */
	uint64_t resync_regions; /* left in R */
	uint64_t unsettled_ranges;
	uint64_t unreadable_blocks; /* no replica in sync gives them; at most 128 are counted */
	uint64_t reads, writes, flushes, bytes_read, bytes_written, errors;
	uint64_t in_flight, waiting; /* requests; of them waiting (stalled, range lock) */
	struct uuid adding;          /* is to become a voter, or might be found as one; nil: none */
	unsigned replica_count;      /* in no order; there may be empty places between them */
	struct volume_replica_status replicas[REPL_VOTERS_MAX];
};

/* Begins to open: the volume exists at once and takes requests, which wait until it serves. -EEXIST
 * by name. */
int volume_open(struct nexus *nexus, const struct volume_options *options,
	struct volume **ret_volume, struct err *err) __must_check;
void volume_inc_saved(struct volume *volume);
/* Flushes if it can, ends what waits with -ESHUTDOWN, releases its voters; the memory is gone after
 * `closed`. */
void volume_close(struct volume *volume, void (*closed)(void *ctx), void *ctx);
struct volume *nexus_find_volume(struct nexus *nexus, const char *name);
struct volume *nexus_next_volume(struct nexus *nexus, struct volume *after);
const char *volume_name(const struct volume *volume);
struct blk_dev *volume_blk(struct volume *volume);
void volume_get_status(struct volume *volume, struct volume_status *ret_status);
/* As volume_options.no_quorum_ns. */
void volume_set_no_quorum(struct volume *volume, uint64_t error_after_ns);
/* The committed configuration, gen 0 before there is one, and the replica that is to become a
 * voter, or was and may still be found as one by whoever opens next (nil: none). */
void volume_get_voters(const struct volume *volume, struct cfg *ret_cfg, struct uuid *ret_adding);
/* The newest epoch of this volume that was committed here and past its wait (1.9): no nexus before
 * it has a lease any more.  attach 0: none yet. */
struct epoch volume_waited(const struct volume *volume);
/* 0: the default for as many data replicas as it was opened with. */
void volume_set_min_insync(struct volume *volume, unsigned min_insync);

/*
 * Voters come and go one at a time; each change is committed by a majority of the voters before it
 * and of those after it.  Both say what should be; a change that is under way is told by the status
 * (membership), and a repeated call does no harm.  They take back the opposite of the same replica
 * that is not committed yet.
 *
 * Add: the voter is to be one of V and is found there; while the volume is being opened only the
 * latter.  0; -EALREADY another change is under way, or no place is free yet; -EEXIST its
 * pool-agent has another voter, or it is one of the other kind; -ENOSPC; -ENOMEM.
 * Remove: 0; -EALREADY; -EBUSY it cannot be spared, or the volume is not open yet.
 * Both -EBUSY when the volume is faulted, superseded or being closed.
 */
int volume_add_voter(
	struct volume *volume, const struct volume_voter *voter, struct err *err) __must_check;
int volume_remove_voter(
	struct volume *volume, const struct uuid *replica, struct err *err) __must_check;

/*
 * The volume grows: all replicas in sync, being rebuilt or else reached first, then it is
 * committed, then blk_dev.size_bytes follows, before `done`; volume_options.changed is called as
 * for any configuration.  One at a time.  Again with a size that it has already: 0.
 *
 * result: 0; -EINVAL it is bigger; -ENOSPC a replica cannot grow; -ENOMEM; -EIO; nothing has
 * changed then, but that some replicas may be bigger than the volume, which does no harm.  -EAGAIN
 * after 5 s: what is missing may come; when the new size was proposed already it is committed as
 * soon as that is possible; -EBUSY faulted or superseded; -ESHUTDOWN.
 */
struct volume_resize {
	uint64_t size_bytes; /* multiple of 4096, at most REPL_SIZE_MAX */
	int result;
	struct err err;
	void (*done)(struct volume_resize *resize); /* never from within volume_resize() */
	void *ctx;
};
void volume_resize(struct volume *volume, struct volume_resize *resize);

/*
 * A snapshot of the volume, while it is used: host writes wait for at most 1 s, reads do not.  It
 * exists when a configuration with it is committed, and is on every replica in sync then.  One at a
 * time.  Again with the id of one that exists: 0, and its number.
 *
 * result: 0; -EOPNOTSUPP a replica lies in a pool that has no snapshots: nothing was stopped;
 * -EAGAIN what is in the way, or failed, may be over soon: it is told, and nothing is left of the
 * attempt but when the commit is uncertain: ask again with the same id; -EBUSY faulted or
 * superseded; -ESHUTDOWN.
 */
struct volume_snapshot {
	struct uuid id;
	uint64_t number; /* result 0: of the snapshot, from 1 */
	unsigned copies; /* replicas in sync, which have it */
	bool ready;      /* they are enough (min_insync) */
	int result;
	struct err err;
	void (*done)(struct volume_snapshot *snapshot); /* never from within volume_snapshot() */
	void *ctx;
};
void volume_snapshot(struct volume *volume, struct volume_snapshot *snapshot);

/*
 * Compare: reads a range of every data replica that is in S or reached, directly, under the range
 * lock.  `buffers[i]` gets the bytes of the replica that is the volume_status's i-th at that
 * moment, results[i] is 0 or negative errno.  length at most BLK_LENGTH_MAX.
 */
struct volume_compare {
	uint64_t offset;
	uint32_t length;
	void *buffers[REPL_VOTERS_MAX]; /* the caller's, 4096-aligned */
	int results[REPL_VOTERS_MAX];   /* -ERANGE: beyond the committed size */
	void (*done)(struct volume_compare *compare);
	void *ctx;
	void *backend;
};
void volume_compare(struct volume *volume, struct volume_compare *compare);

#endif
