/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to the daemons of this node.  Blocking: for worker threads; one connection a call. */
#ifndef CSI_NODE_DAEMONS_H
#define CSI_NODE_DAEMONS_H

#include "api/strake.pb-c.h"
#include "base/err.h"
#include "objects/objects.h"
#include "repl/capability.h"

#define DAEMON_SOCKET_SIZE 108

/* ---- pool-agent ---- */

/* What it says of all that it has; messages are owned, all NULL before and after a failure. */
struct agent_view {
	Strake__V1__Agent *agent;
	Strake__V1__ListPoolsResponse *pools;
	Strake__V1__ListReplicasResponse *replicas;
};

int agent_look(const char *socket, struct agent_view *ret_view, struct err *err) __must_check;
void agent_view_done(struct agent_view *view);

/* Copies of what the calls need; not all are used by each. */
struct agent_wish {
	char pool[OBJECTS_NAME_SIZE];
	char disk[OBJECTS_DISK_SIZE];
	uint64_t size_bytes;
	bool wipe;
	struct uuid replica, volume_uuid;
	char volume[OBJECTS_VOLUME_SIZE];
	bool is_arbiter;
	uint32_t key_number; /* 0: no key */
	uint8_t key[SEAL_SECRET_BYTES];
};

int agent_create_pool(
	const char *socket, const struct agent_wish *wish, struct err *err) __must_check;
/* Also one that is not in order; 0 too when it is not there. */
int agent_delete_pool(const char *socket, const char *pool, struct err *err) __must_check;
int agent_create_replica(
	const char *socket, const struct agent_wish *wish, struct err *err) __must_check;
/* 0 too when it is not there. */
int agent_delete_replica(
	const char *socket, const struct uuid *replica, struct err *err) __must_check;

/* ---- nexus ---- */

int nexus_look(const char *socket, Strake__V1__ListVolumesResponse **ret_volumes,
	struct err *err) __must_check;
/* One; *ret_volume NULL: it does not have it.  Freed with daemon_message_free(). */
int nexus_find(const char *socket, const char *volume, Strake__V1__Volume **ret_volume,
	struct err *err) __must_check;

struct nexus_voter {
	struct uuid replica;
	char agent[UUID_TEXT_SIZE];
	char address[OBJECTS_ADDRESS_SIZE];
	uint32_t nsid;
	bool is_local;
	bool is_arbiter;
};

struct nexus_wish {
	char volume[OBJECTS_VOLUME_SIZE];
	struct uuid uuid;
	uint64_t size_bytes;
	uint32_t attach;
	uint8_t capability[CAPABILITY_ENCODED_SIZE];
	bool has_capability;
	unsigned min_insync;
	/* A configuration was committed once: `voters` are places, not who has a vote. */
	bool is_used;
	/* Of that configuration, and the attach number under which it was open; 0: not known. */
	uint64_t lineage;
	uint32_t lineage_attach;
	unsigned voter_count;
	struct nexus_voter voters[OBJECTS_VOTERS_MAX];
};

/*
 * Has the volume open under its attach number, in service and published, whatever the nexus knew of
 * it before; waits for service until `end_ms` of the monotonic clock.  *ret_volume as it is then.
 * What an earlier attachment left (`is_mounted` false: nothing that matters is mounted of it) is
 * taken away by force.  -EAGAIN: not yet, with its state and reason.
 */
int nexus_bring_up(const char *socket, const struct nexus_wish *wish, bool is_mounted,
	uint64_t end_ms, Strake__V1__Volume **ret_volume, struct err *err) __must_check;
/* Unpublishes, closes and forgets it; what is gone is fine.  `force`: also what is in use. */
int nexus_take_away(
	const char *socket, const char *volume, bool force, struct err *err) __must_check;

/* Of an open volume: begins to change its voters; repeated until the nexus lists them so.
 * -EALREADY: another change is under way; -EBUSY: it cannot be spared now. */
int nexus_add_voter(const char *socket, const char *volume, const struct nexus_voter *voter,
	struct err *err) __must_check;
int nexus_remove_voter(const char *socket, const char *volume, const struct uuid *replica,
	struct err *err) __must_check;
int nexus_resize(
	const char *socket, const char *volume, uint64_t size_bytes, struct err *err) __must_check;
/* Again with the same name: the one that it made; -EAGAIN: again, with the same name; -EOPNOTSUPP:
 * a replica's pool has no snapshots.  *ret_snapshot is freed with daemon_message_free(). */
int nexus_snapshot(const char *socket, const char *volume, const char *name,
	Strake__V1__Snapshot **ret_snapshot, struct err *err) __must_check;
int nexus_set_min_insync(
	const char *socket, const char *volume, unsigned min_insync, struct err *err) __must_check;

void daemon_message_free(void *message);
uint64_t monotonic_ms(void);

/* States of a nexus's volume. */
#define NEXUS_ONLINE     "Online"
#define NEXUS_DEGRADED   "Degraded"
#define NEXUS_FAULTED    "Faulted"
#define NEXUS_SUPERSEDED "Superseded"
#define NEXUS_CLOSED     "Closed"

#endif
