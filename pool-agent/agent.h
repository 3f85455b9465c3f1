/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The logic of a pool-agent on one reactor: its pools, the data subsystem with a namespace a
 * replica, who may write (fence.h). main.c wires it to the real world, tests/sim to a simulated
 * one.
 */
#ifndef POOL_AGENT_AGENT_H
#define POOL_AGENT_AGENT_H

#include "nvmet/nvmet.h"
#include "pool-agent/store/store.h"

struct agent;

struct agent_options {
	struct uuid uuid;          /* of this pool-agent, kept in its state folder */
	struct io_address address; /* data port */
	size_t buffer_bytes;       /* data buffers, 0: 8 MiB */
	unsigned queues_max;
	/* Writes of all replicas that are remembered exactly until they are on all members of their
	 * volumes, 48 bytes each; 0: 65536. */
	uint32_t window_entries;
	/* After agent_close(), which announces it: for how long nexuses wait for the next process
	 * before its replicas leave S; at most 10 s.  0: they leave at once. */
	uint32_t restart_wait_ms;
	/* The newest configuration that it understands; 0: CFG_VERSION.  For tests, which have
	 * older and newer programs that way. */
	uint32_t cfg_version;
};

/* NQN of the data subsystem: nqn.2025-01.io.strake:pool-agent:<uuid>; hosts must be
 * nqn.2025-01.io.strake:host:<uuid>. */
int agent_new(struct io *io, const struct agent_options *options, struct agent **ret_agent,
	struct err *err) __must_check;
/* Announces it with the next heartbeat of each nexus (for at most a second), then stops listening,
 * drains, closes no stores. */
void agent_close(struct agent *agent, void (*closed)(void *ctx), void *ctx);
uint16_t agent_port(const struct agent *agent);

/* A store whose replicas are served from now on; at most AGENT_POOLS_MAX.  nsid = pool_index *
 * 65536 + slot + 1, the index being the order of pools in the configuration. */
#define AGENT_POOLS_MAX 64
int agent_add_store(struct agent *agent, unsigned pool_index, struct store *store) __must_check;
/* Its namespaces close; `removed` when nothing is in flight. */
void agent_remove_store(
	struct agent *agent, struct store *store, void (*removed)(void *ctx), void *ctx);

/* After store_replica_create(): serves it.  Returns the nsid. */
uint32_t agent_replica_added(struct agent *agent, struct store_replica *replica);
/* Before store_replica_delete(): closes the namespace; `removed` when nothing is in flight. */
void agent_replica_remove(
	struct agent *agent, struct store_replica *replica, void (*removed)(void *ctx), void *ctx);

/*
 * A change of a replica's durable metadata that is ordered on this machine, not by a nexus.  The
 * caller keeps it until done, which is called on the reactor and never from agent_replica_change().
 */
struct agent_change {
	struct list_node node; /* the agent's */
	/* When it is its turn, among ACCEPTs and MARKs: changes *vmeta; 0 (durable before done, if
	 * anything did change), or a negative errno with err filled in. */
	int (*apply)(struct agent_change *change, struct vmeta *vmeta);
	/* It takes the namespace away from whoever has it: everything older has ended when it
	 * becomes durable, and then the token is (vmeta->promised, 0), which nobody holds.  apply
	 * raises the promise above `seen`, and is asked twice: whether at all, and when everything
	 * has ended. */
	bool fences;
	bool flushes;      /* with fences: everything older is durable then, too */
	struct epoch seen; /* the highest that was let in so far; for apply */
	int result;
	struct err err;
	void (*done)(struct agent_change *change);
	void *ctx;
};
void agent_replica_change(
	struct agent *agent, struct store_replica *replica, struct agent_change *change);

/*
 * Forced recovery (docs/protocol.md 1.12), an operator's decision: the replica becomes the volume.
 * A configuration of a new lineage is written with nobody but this replica in V and S, and
 * everything older is fenced.  The caller keeps it until change.done; change.result is -EINVAL (an
 * arbiter, or no configuration), -EBUSY (exported, or in the middle of a rebuild), -EIO, -ENOENT.
 */
struct agent_recovery {
	struct agent_change change; /* done and ctx are the caller's */
	uint64_t lineage;           /* the new one, random; the replica's own: it is done already */
	uint64_t wgen;              /* the highest that other voters told */
	uint32_t attach;            /* a lower one is not taken; afterwards: the one that was */
	bool half_rebuilt;          /* also in the middle of a rebuild */
	struct ns *ns;              /* the agent's */
};
void agent_replica_recover(
	struct agent *agent, struct store_replica *replica, struct agent_recovery *recovery);

/*
 * Promises (attach, 0, nonce) for nobody: openings with a lower attach number are over, and those
 * that are refused see by the inc that it was no opener.  -ESTALE: a higher epoch was promised; it
 * says which.
 */
struct agent_fencing {
	struct agent_change change; /* done and ctx are the caller's */
	struct epoch epoch;
};
void agent_replica_fence(
	struct agent *agent, struct store_replica *replica, struct agent_fencing *fencing);

struct agent_replica_status {
	uint32_t nsid;
	struct token cur;
	bool associated; /* cur has an association */
	char host[NVME_NQN_SIZE];
	uint64_t reads, writes, bytes_read, bytes_written,
		refused; /* refused: commands with a stale token */
	bool newer;      /* its configuration, than this program understands */
	bool exported;
	char export_nqn[NVME_NQN_SIZE];
};
void agent_replica_get_status(struct agent *agent, const struct store_replica *replica,
	struct agent_replica_status *ret_status);

/*
 * Shows one replica that no volume uses (no cfg was ever accepted: -EBUSY otherwise) as a plain
 * single-namespace subsystem nqn.2025-01.io.strake:volume:<replica name> to any host; from then on
 * FENCE of it is refused.  read_only: nothing of it can be changed, and one of a volume may be
 * shown too, unless a nexus has it fenced: to save what is on a replica that was left behind.
 */
int agent_replica_export(struct agent *agent, struct store_replica *replica, bool read_only,
	struct err *err) __must_check;
void agent_replica_unexport(
	struct agent *agent, struct store_replica *replica, void (*removed)(void *ctx), void *ctx);

#endif
