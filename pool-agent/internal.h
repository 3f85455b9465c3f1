/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the agent share: pools, namespaces (one a replica), associations, and what an
 * association knows of a namespace (struct claim).  Everything belongs to one reactor.
 *
 * Numbered rules:
 *
 * 1. A namespace has exactly one `cur` = (token, association); it changes only in fence_finish()
 *    and, to "no association", when the association ends or gives it back (RELEASE), the pool's
 *    power changes or the namespace goes.  What an operator fences (agent_change.fences) takes the
 *    same way, with no association.
 *
 * 2. While gate_closed nothing is started on the namespace; `running` data commands finish.
 *
 * 3. All durable metadata of a replica changes in one ladder (voter.c), one change at a time; a
 *    FENCE goes before queued changes and commands, which are tested when it is their turn.
 */
#ifndef POOL_AGENT_INTERNAL_H
#define POOL_AGENT_INTERNAL_H

#include "pool-agent/agent.h"
#include "pool-agent/window.h"
#include "repl/wire.h"

#define AGENT_NSID_POOL   65536u /* namespace ids of one pool */
#define AGENT_REQUESTS    1024u  /* in execution at once, of all hosts */
#define FENCE_WAIT_NS     (100 * IO_NS_PER_MS)
#define AGENT_HOST_PREFIX "nqn.2025-01.io.strake:host:"

struct agent_pool;
struct export;

/* One connected nexus. */
struct assoc {
	struct list_node node; /* in agent->assocs */
	struct agent *agent;
	struct nvmet_ctrl *ctrl;
	struct list claims;   /* every struct claim of it */
	struct list lost;     /* those whose cur left it, not confirmed yet, oldest first */
	uint32_t list_number; /* of the newest entry of `lost` that ever was */
	bool told;            /* that the agent stops */
};

enum fence_status { FENCE_WAITING = UINT16_MAX };

/* What one association knows of one namespace: the result of its last FENCE, and whether it lost
 * it. */
struct claim {
	struct list_node assoc_node;
	struct list_node ns_node;   /* while the namespace exists */
	struct list_node lost_node; /* in assoc->lost */
	struct list_node wait_node; /* in the FENCE command that waits for it */
	struct assoc *assoc;
	struct ns *ns;                 /* NULL: it was removed */
	struct fence_command *command; /* NULL: nobody waits */
	uint32_t nsid;
	uint32_t lost_number;
	uint32_t status; /* FENCE_WAITING, 0 or an NVMe status */
	struct token token;
};

enum voter_step {
	VOTER_START,
	VOTER_AWAIT_WORK,
	VOTER_AWAIT_PROMISE,
	VOTER_AWAIT_DRAIN,
	VOTER_AWAIT_DRAINED,
	VOTER_AWAIT_CHANGE,
	VOTER_AWAIT_FLUSH,
	VOTER_AWAIT_UPDATE,
	VOTER_AWAIT_RESIZE,
	VOTER_AWAIT_RESOLVE,
	VOTER_AWAIT_PREPARE
};

/* The namespace of one replica. */
struct ns {
	struct agent *agent;
	struct agent_pool *pool;
	struct store_replica *replica; /* borrowed until removed */
	uint32_t nsid;
	struct uuid id; /* of the replica */
	enum voter_kind kind;
	uint64_t size_bytes;
	bool abstains;
	bool newer; /* it abstains: what it has is of a newer version than this program */

	/* Who may write. */
	struct token cur;
	struct assoc *assoc; /* of cur; NULL: none */
	bool gate_closed;
	struct token wanted; /* while gate_closed */
	struct assoc *wanted_assoc;
	struct list claims;
	unsigned running; /* data commands in the store */
	struct window window;

	/* The ladder that changes vmeta. */
	struct task task;
	enum voter_step state;
	struct list changes;         /* agent_change */
	struct agent_change *change; /* the one at work */
	bool change_fences;          /* it has closed the gate */
	struct list queue;     /* ACCEPT, MARK, RESIZE, SNAPSHOT ... by nvmet_req.owner_node */
	struct nvmet_req *req; /* the one at work */
	uint16_t req_status;   /* its answer */
	uint64_t req_result;   /* and what comes with it */
	bool needs_flush, needs_update, needs_resize, needs_resolve, needs_prepare;
	bool fence_failed; /* the last promise was not made durable; waits until asked again */
	struct vmeta next;
	struct store_op op;
	struct store_io flush;
	bool op_done;

	/* Removal. */
	bool removing;
	void (*removed)(void *ctx);
	void *removed_ctx;

	struct export *export;
	struct metric reads, writes, bytes_read, bytes_written, bytes_hashed, refused;
};

struct agent_pool {
	struct store *store; /* NULL: no pool here */
	struct ns **slots;   /* owned; replica_slots of them */
	uint32_t slot_count;
	uint32_t ns_count;
	uint64_t power; /* as FENCE reports it; another one closes the namespaces */
	bool removing;
	struct task task; /* ends the removal */
	struct agent *agent;
	void (*removed)(void *ctx);
	void *removed_ctx;
};

/* A data command in the store. */
struct replica_io {
	struct list_node node; /* in agent->io_free */
	struct store_io io;
	struct ns *ns;
	struct nvmet_req *req;
};

struct agent {
	struct io *io;
	struct uuid uuid;
	uint64_t boot;
	uint32_t cfg_version; /* agent_options */
	struct bufpool *buffers;
	struct nvmet *target;
	struct nvmet_subsys subsys;
	struct list assocs;
	struct agent_pool pools[AGENT_POOLS_MAX];
	struct replica_io *ios; /* owned: AGENT_REQUESTS of them */
	struct list io_free;
	struct hasher *hashers; /* owned */
	struct list hash_queue; /* HASH commands that wait for one, by nvmet_req.owner_node */
	struct windows windows;
	struct metric fences, fences_refused, fences_unauthorized, fences_busy;
	unsigned export_count;
	bool closing, target_closed;
	enum agent_close_state {
		AGENT_CLOSE_START,
		AGENT_CLOSE_ANNOUNCE,
		AGENT_CLOSE_LINGER,
		AGENT_CLOSE_EXPORTS,
		AGENT_CLOSE_TARGET
	} state;
	uint32_t restart_wait_ms;
	struct task close_task;
	struct io_timer close_timer;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* agent.c: the agent as a whole */
void agent_metric_add(struct agent *agent, struct metric *metric, const char *name,
	const char *help, const char *labels);
void agent_metric_remove(struct agent *agent, struct metric *metric);
/* Hosts look at the list of namespaces, and at their sizes, anew. */
void agent_namespaces_changed(struct agent *agent);

/* namespace.c */
/* NULL also when it is being removed.  Notices a change of the pool's power first. */
struct ns *agent_find_ns(struct agent *agent, uint32_t nsid);
struct ns *agent_find_replica(struct agent *agent, const struct store_replica *replica);
/* Takes the namespace away when nothing of it is in flight any more and someone waits for that. */
void ns_progress(struct ns *ns);
bool ns_is_idle(const struct ns *ns);
/* With the way out. */
const char *ns_why_abstains(const struct ns *ns);
/* With nothing in flight. */
void agent_free_pools(struct agent *agent);

/* assoc.c */
extern const struct nvmet_subsys_ops data_subsystem_ops;
/* Of the command; made at its first one.  NULL: memory is short. */
struct assoc *assoc_of(struct agent *agent, struct nvmet_req *req);
/* As assoc_of(), but NULL also when it is gone or never was. */
struct assoc *assoc_peek(const struct nvmet_req *req);
struct claim *claim_find(const struct ns *ns, const struct assoc *assoc);
struct claim *claim_get(struct ns *ns, struct assoc *assoc);
/* The association of cur, if any, is told by its heartbeats that it lost the namespace. */
void ns_lose(struct ns *ns);
void claim_regain(struct claim *claim);
/* The namespace goes: nobody has it any more. */
void ns_drop_claims(struct ns *ns);
void assoc_heartbeat(struct agent *agent, struct nvmet_req *req);

/* fence.c */
void fence_command(struct agent *agent, struct nvmet_req *req);
void fence_voter_state(struct agent *agent, struct nvmet_req *req);
void fence_release(struct agent *agent, struct nvmet_req *req);
/* The commands waiting for the claim need not wait longer. */
void claim_answer(struct claim *claim, uint32_t status);
/* Called by the ladder when older commands have ended and the epoch is durable (or could not be
 * made so: result). */
void fence_finish(struct ns *ns, int result);
/* A change of this machine closes the gate: older commands end, none begins. */
void fence_close(struct ns *ns);
/* It is durable: nobody holds `epoch`, and everything below it is over. */
void fence_nobody(struct ns *ns, const struct epoch *epoch);
/* It came to nothing: who had the namespace has it again. */
void fence_reopen(struct ns *ns);
/* The token and association tests of every command but FENCE; a refusal is counted. */
bool ns_is_current(struct ns *ns, const struct nvmet_req *req, uint32_t session);

/* voter.c */
void voter_init(struct ns *ns);
bool voter_is_idle(const struct ns *ns);
/* The namespace goes: what waits is answered. */
void voter_drop(struct ns *ns);
void voter_command(struct agent *agent, struct nvmet_req *req);
/* Of the ladder's store_op. */
void voter_op_done(struct store_op *op);

/* snapshot.c: SNAPSHOT commands as a part of voter.c's ladder, which awaits ns->op_done */
uint16_t snapshot_judge(struct ns *ns);
void snapshot_resolve_start(struct ns *ns);
void snapshot_resolve_end(struct ns *ns);
void snapshot_prepare_start(struct ns *ns);
void snapshot_prepare_end(struct ns *ns);
/* Changes nothing. */
void snapshot_list(struct agent *agent, struct nvmet_req *req);
/* A read of it may begin. */
bool snapshot_is_there(const struct ns *ns, uint32_t number);

/* replica_io.c */
/* The namespace of a command that asks for what an opener or a rebuild wants to know; NULL: it was
 * answered. */
struct ns *replica_asked(struct agent *agent, struct nvmet_req *req);
void replica_io_command(struct agent *agent, struct nvmet_req *req);
void replica_stamps(struct agent *agent, struct nvmet_req *req);
void replica_window(struct agent *agent, struct nvmet_req *req);
void replica_raise_stamp(struct agent *agent, struct nvmet_req *req);
/* Everything that must hold before a data command is executed.  0 or the refusal. */
uint16_t replica_io_judge(struct ns *ns, const struct nvmet_req *req, const struct wire_io *wire);
/* A command that counted in ns->running was answered. */
void ns_command_done(struct ns *ns);

/* hash.c */
int hashers_init(struct agent *agent) __must_check;
void hashers_done(struct agent *agent);
void hash_command(struct agent *agent, struct nvmet_req *req);

/* export.c */
const char *export_nqn(const struct export *export);
/* ns->export is NULL when it is gone, and the namespace's task is woken.  Again while it goes:
 * nothing. */
void export_remove(struct export *export);

#endif
