/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One simulated history: one to five data replicas with arbiters, three nodes that may run the
 * nexus, a host that writes, reads and flushes, faults; then everything heals, the volume must get
 * whole, and all replicas must be equal and hold what the oracles say.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "base/bytes.h"
#include "nexus/nexus.h"
#include "pool-agent/agent.h"
#include "pool-agent/store/ondisk.h"
#include "simio/simio.h"
#include "tests/sim/oracle.h"
#include "tests/sim/snapshots.h"

#define AGENTS_MAX REPL_VOTERS_MAX
#define SLOTS      3 /* nodes that may run the nexus: more than one of them may at once */
#define FAULTS_MAX 32
/* What a pool takes for itself, roughly. */
#define SMALL_POOL_BASE_BYTES (UINT64_C(320) << 10)
#define OP_BLOCKS_MAX         8
#define ZERO_BLOCKS_MAX       40

/*
 * Drawn from the seed, then changed by name (options.c: `--set faults=0x5`), which is how a failing
 * seed is made smaller and replayed.  What the seed decides later does not shift: each fault and
 * the load have random numbers of their own.
 */
struct world_options {
	uint64_t seed;
	uint64_t data_replicas; /* an even number is made odd by an arbiter */
	uint64_t voters;        /* agents */
	uint64_t spares;        /* the last of them hold no replica in the beginning */
	uint64_t voter_changes; /* voters come and go all the time: voters.c */
	uint64_t min_insync;
	uint64_t block_count;  /* at most */
	uint64_t start_blocks; /* in the beginning: less when the volume grows */
	uint64_t cluster_bytes;
	uint64_t region_bytes;
	uint64_t pool_bytes;
	uint64_t pool_slots;                   /* replicas of a pool, at most; 0: 8 */
	uint64_t journal_blocks;               /* a small one is full all the time */
	uint64_t agent_buffers, nexus_buffers; /* bytes: few make requests wait for each other */
	int64_t small_agent;  /* whose pool is too small for the volume; -1 none, -2 all */
	int64_t local_agent;  /* on the host of slot 0, the next one on that of slot 1 and so on; -1
				 none */
	int64_t rotten_agent; /* some blocks of its disk get unreadable; -1 none */
	int64_t rotten_too;   /* and of this one's, also the same; -1 none */
	int64_t absent_agent; /* goes away once more after all is whole; -1 none */
	uint64_t depth;
	uint64_t duration_ns;
	uint64_t window_entries;  /* of an agent; 0: as in production */
	uint64_t restart_wait_ms; /* agent_options */
	uint64_t checkpoint_ns;   /* 0: likewise */
	uint64_t dirty_bytes;     /* of a nexus; 0: likewise, 1: no map is ever known */
	uint64_t ops_target;      /* the pace: requests in duration_ns */
	uint64_t ops_max;         /* no more are issued */
	uint64_t
		spreads; /* the load begins with few blocks and reaches more of them all the time */
	uint64_t fault_count;
	uint64_t fault_mask;              /* bit i: fault i happens */
	uint64_t kind_mask;               /* bit i: faults may be of kind i (faults.c) */
	uint64_t net_max_ns, disk_max_ns; /* latencies */
	/* nexus_options; 0: as in production. */
	uint64_t rebuilds, rebuild_rate_min, rebuild_rate_max;
	uint64_t no_quorum_ns;           /* requests fail after so long; 0: they wait */
	uint64_t slow_ns, eject_away_ns; /* nexus_options */
	uint64_t kube;                   /* with Kubernetes: cluster.h */
	uint64_t restores;               /* the API is restored from a backup */
	uint64_t replace_after_s;        /* of its csi-controller */
	uint64_t clock_ppm;   /* clocks of hosts run up to this much too fast or too slow */
	uint64_t down_at_end; /* how many agents stay away when the faults end, at first */
	uint64_t power_cycle_at_end;
	uint64_t snapshots; /* the pools have them, and somebody asks for some: snapshots.c */
	uint64_t version;   /* configurations need it, and programs know it, but for those that are
			       older; 0: as shipped */
	uint64_t recover; /* once, all but a replica is lost, and an operator makes it the volume */
};

struct world_result {
	uint64_t ops, errors, crashes, power_losses, partitions, takeovers, faulted, rotten,
		unreadable;
	uint64_t lost, flips, diverged, stuck, broken;
	uint64_t snapshots; /* that were committed */
	uint64_t hash, steps;
	uint64_t live_ns; /* until it served with a minority down */
	char reason[500]; /* of the first failure; "" when everything is right */
	char oracle[32];
};

struct world;
struct cluster; /* cluster.h */

enum agent_state { AGENT_DOWN, AGENT_STARTING, AGENT_UP, AGENT_FAILED, AGENT_CLOSING };

struct node_agent {
	struct world *world;
	unsigned index;
	char name[16];
	struct sim_host *host;
	struct sim_disk *disk;
	uint64_t data_offset, data_bytes; /* on it: where clusters of data are */
	enum voter_kind kind;
	struct uuid uuid, replica_id;
	bool has_replica;
	bool making, removing; /* its replica, in this process */
	bool remade;           /* its replica was made while the world runs */
	int made_result;       /* of the last attempt */
	bool may_abstain;      /* its metadata were damaged on purpose */
	bool older;            /* its program is the shipped one, whatever `version` says */
	struct layout layout;  /* of its pool */
	enum agent_state state;
	struct sim_process *process; /* NULL when down */
	struct io_disk *handle;
	struct store *store;
	struct agent *agent;
	struct store_replica *replica;
	uint32_t nsid;
	struct store_op op;
	bool op_done;
	struct vmeta seen;     /* chain.c: what it had durably, before crashes too */
	struct token cur_seen; /* and its token */
	struct cfg cfg;        /* the last committed one with this replica in S */
	uint64_t counted_power;
	struct sim_event restart;
	uint64_t stopped_ns; /* how long it stays away when it has stopped */
	bool disk_faulty;
	struct sim_event fault_end; /* of what was done to its disk */
	uint64_t lost_until_ns;     /* it does not start before that */
	unsigned starts;            /* tells its processes apart */
	struct image_store images;
};

/* Every configuration that some voter ever had. */
struct chain_record {
	struct cfg cfg;
	uint32_t accepted_by; /* bit i: its voters[i] */
	bool said;            /* a nexus went on under it */
};

struct chain {
	struct chain_record *records;
	size_t count, capacity;
};

struct slot; /* below */

/* A host's request. */
struct op {
	struct blk_req req;
	struct list_node node; /* slot->ops, until released */
	struct slot *slot;
	size_t first, count;
	uint64_t number;
	uint64_t issued;
	unsigned order; /* of the opening that it was sent to last */
	bool answered;

	uint8_t *buffer;
	struct iovec iov[4];
	struct iovec iov_copy[4];
	void (*then)(struct op *op); /* the final check's */
};

/* Where voters are found, as one node, or the API, knows. */
struct places {
	unsigned count;
	struct volume_voter voters[REPL_VOTERS_MAX];
	struct cfg cfg; /* the committed one that they follow; gen 0: never open */
	uint64_t size_bytes;
};

/* A node that may run the nexus: the host's side of it survives the nexus process. */
#define SLOT_ANSWERS 8

struct slot {
	struct world *world;
	unsigned index;
	char name[16];
	struct sim_host *host;
	struct uuid host_uuid;
	struct sim_process *process; /* NULL when the nexus is down */
	bool older;                  /* as of an agent */
	struct nexus *nexus;
	struct volume *volume;
	uint32_t attach;     /* 0: never attached */
	uint32_t inc_file;   /* the state file */
	struct epoch waited; /* there, too */
	struct places file;
	struct sim_event file_saved;
	uint32_t inc_pending;
	unsigned openings;     /* under this attach */
	bool lived_on;         /* served under this attach and this boot */
	unsigned data_at_open; /* data replicas that it was opened with */
	bool fresh;            /* this opening may show what a loss of power left */
	struct cfg committed;  /* the last one of this process */
	unsigned order;
	struct list ops;
	unsigned in_flight;
	unsigned reads_in_flight; /* of them */
	struct list resend;       /* of a crashed predecessor, for the launcher to send again */
	struct sim_event inc_saved;
	struct sim_event restart;
	struct sim_event issue;
	bool issuing;
	bool closed;
	struct volume_resize resize; /* while resizing */
	bool resizing;
	struct volume_snapshot snapshot; /* while snapshotting */
	bool snapshotting;
	/* The last ones that ended; cluster_daemons.c tells each once, and then its id is nil. */
	struct volume_snapshot snapshot_answers[SLOT_ANSWERS];
	unsigned snapshot_answered;
	uint64_t snapshot_attempt; /* the last that was seen */
	/* cluster_daemons.c: what a state file has beyond `file` and inc_file */
	bool recorded; /* the nexus has the volume, open or about to be opened again */
	bool told_used;
	uint64_t told_lineage; /* 0: none */
	struct capability capability;
	bool closing; /* it is being taken away */
	struct sim_event exits;
};

/* faults_join.c */
enum join_fault { JOIN_FAULT_NONE, JOIN_FAULT_ARMED, JOIN_FAULT_JOINS };

struct fault {
	struct sim_event event;
	struct sim_event end;
	struct world *world;
	unsigned index;
	struct rng rng;
	struct sim_host *a, *b; /* of a partition */
	bool both;
	struct node_agent *agent;
	unsigned changes; /* steps of the protocol to wait for */
	enum join_fault join;
	uint32_t hosts, clogged; /* of a swizzle: bits by number of the host */
	unsigned step, steps;
};

/* recover.c: forced recovery (docs/protocol.md 1.12). */
enum recovery_state { RECOVERY_NONE, RECOVERY_FENCING, RECOVERY_WRITING, RECOVERY_READING };

struct recovery {
	struct sim_event event;
	enum recovery_state state;
	uint32_t unreached; /* agents that the operator does not reach */
	bool lives_on;      /* nor the node that has the volume: its nexus goes on */
	struct node_agent *node;
	uint64_t lineage;
	uint64_t wgen;
	uint32_t attach;
	struct agent_fencing fencings[AGENTS_MAX];
	bool fenced[AGENTS_MAX]; /* answered, or not there */
	struct agent_recovery request;
	unsigned starts; /* of the agent that was asked; 0: none was */
	bool answered;
	struct store_io io; /* reads what it holds */
	struct iovec iov;
	uint8_t *buffer;
	unsigned order; /* openings below it are of the old lineage; 0: there is only one */
	bool done;
};

struct world {
	struct sim *sim;
	struct cluster *cluster; /* NULL: nothing but hosts */
	struct world_options options;
	struct world_result *result;
	struct oracle oracle;
	struct chain chain;
	struct uuid volume_uuid;
	uint64_t lineage;
	struct node_agent agents[AGENTS_MAX];
	struct slot slots[SLOTS];
	struct rng load_rng;
	uint64_t load_begin_ns;
	size_t load_blocks; /* the load keeps to the first ones; 0: all */
	unsigned active;    /* slot of the newest attach */
	uint32_t attach_last;
	unsigned order_last;
	bool healing; /* no more faults; crashed things come back at once */
	bool failed;
	struct fault faults[FAULTS_MAX];
	uint64_t step_seen; /* of the protocol */
	struct sim_event monitor;
	struct sim_event rot;
	uint64_t ops_issued;
	/* voters.c */
	struct places api, api_next; /* what a node that takes over is told; late */
	struct sim_event api_saved;
	struct sim_event operator_event;
	struct node_agent *adding, *leaving; /* what the operator is about; NULL: nothing */
	bool in_a_hurry;                     /* what is added need not be in sync before */
	struct recovery recovery;
	/* resize.c */
	struct sim_event resizer_event;
	uint64_t seen_bytes; /* the largest size that a host was shown */
	struct snapshots snapshots;
	/* the final check */
	unsigned final_issued, final_done, final_errors;
	int final_result;
};

struct world_request {
	uint64_t seed;
	const char *sets; /* "name=value name=value": changes what the seed draws; NULL: nothing */
	FILE *trace;      /* may be NULL */
	bool trace_io;
};

/* The whole history of a seed. */
void world_run(const struct world_request *request, struct world_result *ret_result);

/* With the oracles of chain.c at work. */
struct sim *world_sim_new(struct world *world, FILE *trace, bool trace_io);

/* Its memory, once the simulation is over. */
void world_drop(struct world *world);

/* A check failed: the first one is kept. */
void world_fail(struct world *world, uint64_t *counter, const char *oracle, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* options.c */
void world_draw_options(struct world_options *options, uint64_t seed);
/* "" or the first name or value that is wrong. */
const char *world_change_options(struct world_options *options, const char *sets);
/* Writes " name=value" for what is different in `b`; the length. */
size_t world_options_difference(
	const struct world_options *a, const struct world_options *b, char *to, size_t size);
void world_trace_options(struct world *world);

/* setup.c */
void world_setup(struct world *world);

/* node.c: agents */
void agent_start(struct node_agent *node);
void agent_crash(struct node_agent *node, uint64_t down_ns);
/* Announced, drained; then it is away for so long. */
void agent_stop(struct node_agent *node, uint64_t down_ns);
/* Where things lie in its pool. */
void agent_layout(const struct node_agent *node, struct layout *ret_layout);
/* Of its host, and so of a nexus that runs there. */
void agent_power_loss(struct node_agent *node, uint64_t down_ns);
void agent_lose_power(struct node_agent *node, uint64_t down_ns); /* its part of that */
void agent_restart_after(struct node_agent *node, uint64_t delay_ns);
/*
 * A nexus has committed a configuration.  When it is its first and no member of it kept its power
 * since it was last counted in, what no flush covers may be gone, if the host may see that (fresh):
 * a new attach, or a host that did not live on.
 */
void world_note_commit(struct world *world, const struct cfg *cfg, bool fresh, unsigned order);

int world_agent_index(const struct world *world, const struct uuid *replica); /* -1: none */
/* Its replica is served, and is not about to come or go. */
bool agent_has_replica_now(const struct node_agent *node);

/* chain.c */
void chain_observe(struct world *world); /* after each step */
/* An operator's: the first one of its lineage. */
void chain_recovered(struct world *world, const struct cfg *cfg);
/* A nexus goes on under it. */
void chain_committed(struct world *world, const struct cfg *cfg);
/* A write or flush was answered with success under it. */
void chain_acked(const struct slot *slot);
/* The last one that a nexus said; NULL: none. */
const struct cfg *chain_last(const struct world *world);
void chain_done(struct chain *chain);

/* slot.c: the nexus and its host */
void slot_open(struct slot *slot, uint32_t attach);
void slot_crash(struct slot *slot, bool resend);
void slot_power_loss(struct slot *slot, uint64_t down_ns);
void slot_restart_after(struct slot *slot, uint64_t delay_ns);
void slot_note(struct slot *slot);                                     /* has it served? */
bool slot_status(struct slot *slot, struct volume_status *ret_status); /* false when it is down */
void slot_start_issuing(struct slot *slot);
void slot_issue_soon(struct slot *slot);
void slot_issue_now(struct slot *slot);
void slot_stop_issuing(struct slot *slot);
void slot_takeover(struct world *world);
/* A faulted volume: its frontend is torn down and made anew. */
void slot_renew(struct slot *slot);
struct op *slot_submit(struct slot *slot, enum blk_kind kind, size_t first, size_t count,
	void (*then)(struct op *op));

/* voters.c: the one who adds and removes replicas */
struct volume_voter agent_place(const struct node_agent *node, const struct slot *slot);
struct node_agent *agent_of_replica(struct world *world, const struct uuid *replica);
/* The voters of the beginning. */
void places_init(struct places *places, struct slot *slot);
void places_add(struct places *places, const struct volume_voter *voter);
void places_take(struct places *places, const struct places *from, const struct slot *slot);
/* A configuration was committed: the file is soon as V is. */
void places_follow(struct slot *slot);
bool places_follow_now(struct slot *slot);
void operator_start(struct world *world);
void operator_stop(struct world *world);
bool operator_is_done(const struct world *world);
/* Creates a replica in the pool of an agent that has none; false: not now. */
bool agent_make_replica(struct node_agent *node, enum voter_kind kind);
/* The same of a replica that somebody else has named. */
bool agent_make_named_replica(struct node_agent *node, const struct store_replica_options *options);
void agent_remove_replica(struct node_agent *node);
/* rot.c: from time to time some blocks that the rotten agent's disk does not give, and their end.
 */
void rot_start(struct world *world);
void rot_end(struct world *world);

/* recover.c */
void recovery_draw(struct world_options *options, struct rng *rng);
void recovery_schedule(struct world *world);
/* The replica becomes the volume; then a node opens it, or a directed history does. */
void recovery_start(struct world *world, struct node_agent *node);
bool recovery_is_under_way(const struct world *world);
void recovery_end(struct world *world);
/* Of before a recovery, and of no use since. */
bool recovery_left_behind(const struct node_agent *node);
/* What this opening's requests say is no matter of the oracle: it goes on with the old lineage. */
bool recovery_overtook(const struct world *world, unsigned order);

/* resize.c: the one who lets the volume grow */
void resizer_draw(struct world_options *options, struct rng *rng);
void resizer_start(struct world *world);
void resizer_stop(struct world *world);
bool resizer_is_done(const struct world *world);
/* Its volume has committed something. */
void resizer_note(struct slot *slot, const struct volume_status *status);
/* A host looks at the size. */
void resizer_saw(struct slot *slot);
/* None of this slot is under way. */
void slot_resize(struct slot *slot, size_t blocks);
/* As a host sees it now. */
size_t slot_blocks(const struct slot *slot);

/* faults.c */
void faults_observe(struct world *world); /* after each step */
void faults_schedule(struct world *world);
void faults_end(struct world *world);

/* live.c */
/* As many agents as the options say stay away: it must serve. */
void live_with_minority_down(struct world *world);
/* The bytes that the rebuild of an agent's replica may copy at most, when that had this `clean`
 * before: the regions that it or a source has stamped above. */
uint64_t live_rebuild_bound(const struct world *world, unsigned agent, uint64_t clean);

/* finish.c */
/* Volume and nexus end in the ordinary way. */
void close_slot(struct slot *slot);
bool nothing_in_flight(struct world *world);
/* Serves, and all replicas that can be are members of S. */
bool is_whole(struct world *world);
/* Runs in slices until is_done; a failure when it takes longer than limit_ns. */
bool run_slices_for(struct world *world, bool (*is_done)(struct world *world), const char *what,
	uint64_t limit_ns);
void world_finish(struct world *world);

#endif
