/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool-agent as this nexus knows it: one association, shared by all volumes that have a replica
 * there; kept up by reconnecting, watched by heartbeats (docs/protocol.md 1.9, 1.11).  One reactor.
 */
#ifndef NEXUS_PEER_H
#define NEXUS_PEER_H

#include "io/io.h"
#include "nvmeh/nvmeh.h"
#include "repl/wire.h"

#define PEER_HEARTBEAT_NS (500 * IO_NS_PER_MS)
#define PEER_DEAD_NS      (2000 * IO_NS_PER_MS)
/* After so long without a command a pool-agent lets go of an association whose host is gone without
 * a word, as one is that lost its power. */
#define PEER_KATO_MS 10000u
/* At most, for a pool-agent that said that it is being restarted. */
#define PEER_RESTART_NS   (10 * IO_NS_PER_S)
#define PEER_RETRY_MIN_NS (50 * IO_NS_PER_MS)
#define PEER_RETRY_MAX_NS (1000 * IO_NS_PER_MS)

enum peer_state {
	PEER_START,
	PEER_AWAIT_READY,
	PEER_AWAIT_HEARTBEAT,
	PEER_AWAIT_CLOSED,
	PEER_AWAIT_RETRY,
	PEER_STOPPED,
};

struct peers {
	struct io *io;
	struct list list;
	char hostnqn[NVME_NQN_SIZE];
	uint8_t hostid[16];
	unsigned queue_depth;
};

struct peer {
	struct list_node node; /* in peers->list */
	struct peers *peers;
	struct uuid agent;
	struct io_address address;
	unsigned users;
	unsigned ejected; /* of its users: legs that slow.c keeps out of S */
	bool stopping;

	struct task task;
	enum peer_state state;
	struct io_timer timer;
	uint64_t retry_ns;
	char reason[160]; /* why it is not up */

	struct nvmeh *assoc; /* from connect to closed */
	bool ready, failed, closed;
	bool was_reset; /* the association, by us: the pool-agent is the same as before */
	bool up;                   /* watchers were told so */
	uint32_t generation;       /* of associations: raised when one comes up */
	bool leaving;              /* the agent said that it stops; until it is up again */
	uint64_t awaited_until_ns; /* and is to be waited for so long; 0: not */

	/* Of all volumes: nexus/mirror/copy_turn.c. */
	unsigned copies, copies_max; /* pieces under way, and how many may be; 0: one */
	bool copy_wanted;            /* somebody was turned away */

	struct nvmeh_cmd heartbeat;
	struct iovec heartbeat_iov;
	uint8_t *heartbeat_data; /* WIRE_HEARTBEAT_SIZE */
	struct wire_heartbeat answer;
	uint64_t heartbeat_sent_ns;
	bool heartbeat_busy;
	uint32_t confirmed; /* number of the last list that was handled */

	struct list watchers;
};

/* What a leg hears of its peer.  All are called from the peer's task, never from within a call of
 * the leg's. */
struct peer_watch {
	struct list_node node;
	void (*up)(struct peer_watch *watch);
	/* The association is gone; its commands have been or will be completed with -ECONNRESET. */
	void (*down)(struct peer_watch *watch);
	/* An answered heartbeat that was sent at sent_ns on this association; lost: this
	 * namespace's token left the association. */
	void (*heard)(struct peer_watch *watch, uint64_t sent_ns, bool lost);
	uint32_t nsid;
};

void peers_init(struct peers *peers, struct io *io, const struct uuid *host, unsigned queue_depth);
/* Finds or makes the peer and registers the watch; when the peer is up, up() is called soon.  NULL
 * without memory. */
struct peer *peer_get(struct peers *peers, const struct uuid *agent,
	const struct io_address *address, struct peer_watch *watch);
/* Where the next association with this agent is made. */
void peers_set_address(
	struct peers *peers, const struct uuid *agent, const struct io_address *address);
/* Drops the association: what is in flight completes with -ECONNRESET, a new one is made at once.
 * For commands that a live pool-agent does not answer (a stuck disk) and whose buffers must come
 * back. */
void peer_reset(struct peer *peer, const char *reason);
/* No calls of the watch afterwards.  The last user's put closes the association. */
void peer_put(struct peer *peer, struct peer_watch *watch);

#endif
