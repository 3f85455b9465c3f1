/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume within the mirror.  One reactor; everything here is reached from its run queue.
 *
 *   open.c        fences a majority, chooses and re-commits the configuration, finds R
 *   leg.c         one voter: fence, sessions, commands, when it counts as failed
 *   op.c          host requests: write, read, flush
 *   copy.c        copies under the range lock: R (resync) and rebuilds
 *   membership.c  changes of the configuration record: degrade and grow
 *   checkpoint.c  the next write generation, and what is clean
 *   resynced.c    RESYNCED: windows become valid
 *   absent.c      what voters outside of S lack, as far as this nexus knows it exactly
 *   rebuild.c     brings a stale or new replica back: register, compute (todo.c), copy, join
 *   volume.c      life, status, lease
 *
 * Sets of legs are bit masks by leg index.  The numbers I1..I12 are those of docs/invariants.md.
 */
#ifndef NEXUS_MIRROR_VOLUME_INTERNAL_H
#define NEXUS_MIRROR_VOLUME_INTERNAL_H

#include "nexus/mirror/dirty.h"
#include "nexus/mirror/piecemap.h"
#include "nexus/mirror/range_lock.h"
#include "nexus/nexus.h"
#include "nexus/peer.h"

#include <string.h>

typedef uint32_t leg_mask;

#define LEG_BIT(leg) ((leg_mask)1 << (leg)->index)

#define EJECT_NS     (2000 * IO_NS_PER_MS) /* a member that does not answer */
#define LEASE_NS     (3000 * IO_NS_PER_MS)
#define OPEN_WAIT_NS (3150 * IO_NS_PER_MS) /* an opener that did not fence all of c.S */
#define COLLECT_NS   (1000 * IO_NS_PER_MS)
#define BUSY_NS      (5000 * IO_NS_PER_MS)
#define TICK_NS      (250 * IO_NS_PER_MS)
#define PINNED_MAX   8u /* given-up commands of a leg whose buffers may wait for a stuck disk */
#define ZERO_PART    (UINT64_C(64) << 20) /* a longer ZERO or DISCARD is sent in parts */
#define COPIERS      4
#define STAMPS_CHUNK 8192u /* stamps asked for with one command */

struct nexus {
	struct io *io;
	struct nexus_options options;
	struct peers peers;
	struct bufpool *buffers;
	struct dirty_store dirty_store;
	struct list volumes;
	uint32_t next_session; /* never restarts within a process (docs/decisions.md) */
	struct task close_task;
	struct io_timer close_timer;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* ---- commands to a leg
 * ------------------------------------------------------------------------------------------ */

enum leg_result {
	LEG_OK,
	LEG_NOSPC,   /* capacity exceeded: surely not acknowledged, perhaps partly executed */
	LEG_IO,      /* media or internal error of the replica */
	LEG_STALE,   /* our token is not the current one any more */
	LEG_REFUSED, /* ACCEPT, MARK, RESYNCED not acceptable; BUSY; ABSTAIN: see status */
	LEG_RESET,   /* the association ended: unknown whether it was executed */
};

struct leg_io {
	struct nvmeh_cmd cmd;
	struct leg *leg;
	struct list_node node; /* in leg->inflight, in order of submission */
	struct iovec iov;
	uint64_t started_ns;
	bool busy;
	enum leg_result result;
	void (*done)(struct leg_io *lio);
	void *ctx;
};

/* ---- legs
 * -------------------------------------------------------------------------------------------------------
 */

enum leg_state {
	LEG_START,
	LEG_AWAIT_WANTED, /* an association, and a reason to fence */
	LEG_AWAIT_FENCE,
	LEG_AWAIT_VOTER_STATE,
	LEG_AWAIT_DRAIN, /* our own older commands to be answered */
	LEG_AWAIT_LOSS,  /* ready */
	LEG_AWAIT_RETRY,
	LEG_AWAIT_QUIET, /* at the end: our own commands to be answered */
	LEG_AWAIT_RELEASE,
	LEG_DONE,
};

enum rebuild_state {
	REBUILD_START,
	REBUILD_AWAIT_CANDIDATE,
	REBUILD_AWAIT_ACCEPT,
	REBUILD_AWAIT_MARK,
	REBUILD_AWAIT_OLDER,
	REBUILD_AWAIT_COMPUTED,
	REBUILD_AWAIT_COPIED,
	REBUILD_AWAIT_JOINED,
	REBUILD_AWAIT_COPIERS,
	REBUILD_AWAIT_RETRY,
	REBUILD_DONE,
};

enum compute_state {
	COMPUTE_START,
	COMPUTE_AWAIT_WINDOW,
	COMPUTE_AWAIT_SOURCE,
	COMPUTE_AWAIT_TARGET,
	COMPUTE_DONE,
};

enum join_state {
	JOIN_START,
	JOIN_AWAIT_TURN,
	JOIN_AWAIT_OLDER,
	JOIN_AWAIT_FLUSH,
	JOIN_AWAIT_COMMIT,
	JOIN_DONE,
};

/* Reads all stamps of one replica and sets the regions whose stamp is above a threshold; or reads
 * its window and sets what is in there. */
enum stamps_state { STAMPS_START, STAMPS_AWAIT_CHUNK, STAMPS_DONE };

struct stamps_scan {
	struct task task;
	enum stamps_state state;
	struct leg *leg;
	struct piecemap *map; /* borrowed until done */
	bool window;
	bool more;
	uint64_t above;
	uint64_t next; /* region, or entry of the window */
	uint32_t count;
	struct leg_io io;
	uint8_t *data;       /* owned while running */
	struct task *parent; /* woken at the end */
	bool running;
	int result; /* 0; -ENOMEM; -EIO: the leg failed or is not ready any more; -ENODATA: its
		     * window is not valid */
};

struct leg {
	struct volume *volume;
	unsigned index;
	struct volume_voter voter;
	struct peer *peer;
	struct peer_watch watch;

	struct task task;
	enum leg_state state;
	struct io_timer timer;
	struct leg_io fence_io; /* FENCE, VOTER_STATE, RELEASE, one after the other */
	uint8_t *fence_data;    /* WIRE_VOTER_STATE_SIZE */
	uint64_t fence_sent_ns;
	uint32_t session;      /* of the last FENCE */
	uint64_t attempt;      /* the open attempt in which this leg was fenced last */
	uint32_t generation;   /* of the peer's association on which it was fenced */
	uint64_t unready_ns;   /* since when it does not answer, while it is not ready */
	uint64_t reset_ns;     /* since when what ended with its association was under way; 0 */
	uint64_t attempt_over; /* the attempt whose outcome for this leg is known */
	bool fence_fetched;    /* fence_data is an answer of VOTER STATE */
	bool fence_busy;       /* the last answer was BUSY: the same token is sent again */
	bool ready;            /* fenced, drained: takes commands */
	bool refence;          /* to be fenced anew with a higher session: commands were given up */
	bool gave_up;          /* it was fenced anew because it failed: not at once again */
	bool lost;             /* another token was seen: somebody else fenced the replica */
	char reason[160];      /* why it is not ready, or faulted */
	char failure[160]; /* what put it out of S or ended its rebuild; "" once it is in sync */
	bool faulted;      /* abstains, wrong replica, other lineage: not used until that changes */
	struct wire_voter_state answer; /* of the last successful FENCE */
	uint64_t heard_ns; /* sending time of the last heartbeat (or FENCE) that proves our token
			      there */
	uint64_t clean;    /* of its vmeta, followed through MARK and grow */
	bool vmeta_rebuilding;
	uint64_t cfg_wgen; /* of the newest configuration that it has accepted: takes no higher one
			    */

	struct list inflight; /* leg_io */

	/* member of S */
	bool out;        /* must leave S (or is leaving) */
	bool power_lost; /* came back with another power while in S */

	/* its window */
	uint64_t boot, boot_incarnation;
	uint64_t boot_seq; /* commands up to this one are not in the window of this boot */
	bool resynced;     /* RESYNCED was sent and not refused */
	struct leg_io resynced_io;

	/* ACCEPT by the membership task */
	struct leg_io accept_io;
	uint8_t accept_data[CFG_ENCODED_SIZE];
	uint64_t accept_number; /* of the proposal that was sent */
	uint64_t accept_wgen;   /* of it */
	bool asked, accepted;   /* in this proposal */

	/* rebuild */
	struct task rebuild_task;
	enum rebuild_state rebuild_state;
	struct io_timer rebuild_timer;
	uint64_t rebuild_retry_ns; /* doubles with each attempt that fails */
	struct leg_io rebuild_io;
	uint8_t rebuild_data[CFG_ENCODED_SIZE];
	uint64_t rebuild_wgen; /* of the configuration in rebuild_data */
	struct task compute_task;
	enum compute_state compute_state;
	struct stamps_scan scan;
	bool target;   /* registered in the write path */
	bool todo_all; /* todo is being computed: every range counts as still to be copied */
	struct piecemap todo;
	struct dirty dirty; /* what it lacks while it is not in S and no target with a todo */
	uint64_t todo_total_bytes;
	uint64_t older_seq;
	unsigned copies; /* copies of copy.c that touch this target now */
	struct task join_task;
	enum join_state join_state;
	bool joining; /* under joint acknowledgement */

	struct metric reads, writes, errors, copied_bytes;
};

/* ---- host requests
 * ---------------------------------------------------------------------------------------------- */

enum op_state {
	OP_START,
	OP_AWAIT_SERVING,
	OP_AWAIT_RESYNC,
	OP_AWAIT_LOCK,
	OP_AWAIT_ACK,
	OP_AWAIT_READ,
	OP_AWAIT_LEASE,
	OP_AWAIT_UNLOCK,
	OP_AWAIT_RELEASE,
	OP_DONE,
};

/* In blk_req.private_state. */
struct vol_op {
	struct task task;
	enum op_state state;
	struct volume *volume;
	struct blk_req *req;
	struct list_node node;     /* in volume->ops from submission to release */
	struct list_node seq_node; /* in volume->issued, in order of seq, from issue to unlock */
	struct range_lock lock;
	uint64_t seq;
	uint64_t incarnation; /* of the volume's epoch in which the masks below count */
	uint64_t wgen;        /* in which it is sent, also again */
	leg_mask ok;          /* answered success */
	leg_mask pending;     /* a command is on its way */
	leg_mask skipped;     /* targets whose todo covers the range: the copy brings it */
	leg_mask nospc, failed;
	uint64_t part_offset, part_length; /* of the request: what is being sent now */
	uint64_t flush_from;               /* FLUSH: acknowledged writes that it covers */
	int result;
	bool finished;
	leg_mask tried;     /* READ: members that failed */
	leg_mask abandoned; /* READ: members whose answer, still pending, is dropped */
	int read_leg;
	struct leg_io lios[REPL_VOTERS_MAX];
};

/* ---- copies
 * -----------------------------------------------------------------------------------------------------
 */

enum copy_state {
	COPY_START,
	COPY_AWAIT_WORK,
	COPY_AWAIT_BUFFER,
	COPY_AWAIT_LOCK,
	COPY_AWAIT_READ,
	COPY_AWAIT_WRITES,
	COPY_AWAIT_PENDING,
	COPY_AWAIT_PAUSE,
	COPY_DONE,
};

struct copier {
	struct task task;
	enum copy_state state;
	struct volume *volume;
	struct io_timer timer;
	struct bufpool_waiter waiter;
	bool working;
	int target; /* leg index of a rebuild; -1: resync of R */
	uint64_t piece, offset, length;
	struct piecemap *map; /* whose piece it is: volume->resync or leg->todo */
	struct range_lock lock;
	uint64_t incarnation;
	void *buffer;
	int source;
	leg_mask tried, destinations, ok, pending, nospc;
	struct leg_io read_io;
	struct leg_io write_ios[REPL_VOTERS_MAX];
};

/* ---- the volume
 * -------------------------------------------------------------------------------------------------
 */

enum open_state {
	OPEN_START,
	OPEN_AWAIT_PEERS,
	OPEN_AWAIT_SAVED,
	OPEN_AWAIT_FENCES,
	OPEN_AWAIT_COMMIT,
	OPEN_AWAIT_RETRY,
	OPEN_AWAIT_MEMBER,
	OPEN_AWAIT_STAMPS,
	OPEN_AWAIT_REOPEN,
	OPEN_DONE,
};

enum checkpoint_state {
	CHECKPOINT_START,
	CHECKPOINT_AWAIT_CAUSE,
	CHECKPOINT_AWAIT_FLUSHED,
	CHECKPOINT_AWAIT_MARKED,
	CHECKPOINT_AWAIT_RETRY,
	CHECKPOINT_DONE,
};

enum resynced_state {
	RESYNCED_START,
	RESYNCED_AWAIT_DUE,
	RESYNCED_AWAIT_PAUSE,
	RESYNCED_DONE,
};

enum close_state {
	CLOSE_START,
	CLOSE_AWAIT_WANTED,
	CLOSE_AWAIT_FLUSH,
	CLOSE_AWAIT_ENDED,
	CLOSE_AWAIT_RESET,
	CLOSE_DONE,
};

enum member_state {
	MEMBER_START,
	MEMBER_AWAIT_CAUSE,
	MEMBER_AWAIT_ACCEPTS,
	MEMBER_AWAIT_RETRY,
	MEMBER_DONE,
};

struct volume {
	struct list_node node;
	struct nexus *nexus;
	struct io *io;
	struct volume_options options;
	struct blk_dev blk;
	unsigned min_insync;
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint64_t region_bytes;
	unsigned leg_count;
	struct leg *legs[REPL_VOTERS_MAX];

	/* open */
	struct task open_task;
	enum open_state open_state;
	struct io_timer open_timer;
	uint64_t attempt;  /* of opening, from 1 */
	bool fencing;      /* legs may be fenced for this attempt (session open_session) */
	uint32_t inc_seen; /* largest inc of our attach seen anywhere */
	bool inc_saved;
	struct epoch epoch;
	uint32_t open_session;
	uint64_t incarnation; /* raised at each (re)open: what was sent before counts no more */
	struct cfg chosen;    /* c */
	uint64_t collect_from_ns;
	bool reopen; /* our token was refused: open again */
	struct stamps_scan scan;
	unsigned scan_leg;
	bool scan_windows; /* R is the union of the windows, as long as all are valid */
	char reason[VOLUME_REASON_SIZE];

	/* write generations, and what is clean */
	uint64_t wgen;          /* of the committed configuration: what writes carry */
	uint64_t wgen_proposed; /* the highest ever proposed in this epoch */
	uint64_t wgen_since_ns;
	uint64_t checkpoint_ns; /* how old a wgen is at least */
	struct task checkpoint_task;
	enum checkpoint_state checkpoint_state;
	struct io_timer checkpoint_timer, raise_timer;
	bool checkpoint_pays;
	struct piecemap written, recent; /* regions written in this wgen; of them, since the last
					    look */
	struct piecemap retiring;        /* written before it and not clean yet */
	uint64_t raise_incarnation;
	struct cfg raise_cfg;
	struct leg_io raise_ios[REPL_VOTERS_MAX];
	leg_mask raise_pending, raise_ok;

	/* windows */
	struct task resynced_task;
	enum resynced_state resynced_state;
	struct io_timer resynced_timer;
	bool resynced_waits; /* for what is under way */

	/* configuration */
	bool electing;  /* the opener's own configuration is being committed */
	bool committed; /* a configuration was committed under this epoch */
	bool serving;   /* and R is known */
	struct cfg cfg; /* committed */
	struct cfg proposal;
	leg_mask member_mask;   /* S of cfg */
	leg_mask proposed_mask; /* union of the S proposed since cfg was committed */
	uint64_t proposal_number;
	leg_mask proposed_common; /* in the committed S and in every S proposed since */
	bool proposal_open; /* proposed and neither committed nor superseded by a later commit */
	bool repropose;     /* the members' power ids changed without loss */
	uint32_t gen_last;
	struct leg *joiner; /* the target that is joining, one at a time */
	bool joiner_ready;  /* its steps 1 to 3 are done */
	bool joiner_proposed;
	uint64_t joiner_clean; /* k for it, fixed with the proposal */
	struct task member_task;
	enum member_state member_state;
	struct io_timer member_timer;
	leg_mask accept_pending;
	uint64_t ack_not_before_ns;

	/* requests */
	struct list ops;     /* vol_op, all */
	struct list issued;  /* vol_op by seq */
	leg_mask local_mask; /* legs on the nexus's own node */
	unsigned read_turn;  /* the leg that was read from last */
	struct range_locks locks;
	uint64_t seq;
	uint64_t acked, flushed; /* counts of acknowledged writes; acked ones that a completed flush
				    covers */
	struct io_timer tick_timer;
	struct task tick_task;
	uint64_t tick_due_ns; /* a tick that is late judges nobody: it was us */
	bool faulted;
	bool superseded;
	bool ending; /* closing */
	bool lease_waiters;

	/* R */
	struct piecemap resync;
	bool resync_by_stamps; /* R is regions, until it is empty */
	uint64_t unsettled;
	struct copier copiers[COPIERS];
	uint64_t copy_cursor;

	unsigned compares; /* under way */

	/* close */
	struct task close_task;
	enum close_state close_state;
	bool closing;
	struct io_timer close_timer;
	struct blk_req close_flush;
	void *close_flush_state;
	bool close_flush_busy;
	void (*closed)(void *ctx);
	void *closed_ctx;

	struct metric reads, writes, flushes, bytes_read, bytes_written, errors;
};

/* volume.c */
void volume_changed(
	struct volume *volume); /* state: wakes everything that may wait for it, tells the owner */
bool volume_lease_is_valid(const struct volume *volume);
bool volume_is_dead(const struct volume *volume); /* faulted, superseded or ending: I/O fails */
void volume_tick_start(struct volume *volume);
struct leg *volume_leg_by_id(struct volume *volume, const struct uuid *replica);
leg_mask volume_out_mask(const struct volume *volume);
leg_mask volume_ready_mask(const struct volume *volume);
leg_mask volume_target_mask(const struct volume *volume);
unsigned mask_count(leg_mask mask);
/* Every acknowledgement needs all of these (I1): the committed S, every S proposed since, the
 * joining target. */
leg_mask volume_needed(const struct volume *volume);
/* Members whose content may be shown: in every S that an opener may choose, reached, with their
 * power. */
leg_mask volume_readable(const struct volume *volume);
void volume_fault(struct volume *volume, const char *reason);

/* leg.c */
int leg_start(struct leg *leg, struct volume *volume, unsigned index);
void leg_stop(struct leg *leg); /* nothing in flight; gives the peer back */
bool leg_is_idle(const struct leg *leg);
/* lio->done and ctx are set; sqe too for admin commands (session is filled in).  The leg must be
 * ready. */
void leg_submit(
	struct leg *leg, struct leg_io *lio, bool admin, struct iovec *iov, unsigned iov_count);
struct wire_io;
void leg_submit_io(struct leg *leg, struct leg_io *lio, const struct wire_io *wio,
	struct iovec *iov, unsigned iov_count);
/* The leg failed its part (did not answer, error): commands are given up, it is fenced anew; a
 * member must leave S. */
void leg_fail(struct leg *leg, const char *reason);
/* Any leg's tick: gives up what is too late. */
void leg_check_deadlines(struct leg *leg, uint64_t now_ns);
/* When that should be called next; UINT64_MAX: nothing is late soon. */
uint64_t leg_next_deadline_ns(const struct leg *leg);

/* op.c */
void op_submit(struct blk_dev *dev, struct blk_req *req);
/* Does any write of seq <= `seq` still run (not answered, not parked). */
bool ops_older_run(const struct volume *volume, uint64_t seq);
bool ops_older_pend_on(const struct volume *volume, uint64_t seq, const struct leg *leg);
void ops_forget_leg(struct volume *volume, const struct leg *leg, bool ok_too);
leg_mask ops_complete_on(const struct volume *volume, uint64_t offset, uint64_t length);
void ops_unpark(struct volume *volume);
void ops_absorb_skipped(struct volume *volume, const struct leg *leg);
/* Any write that carries a wgen below the present one. */
bool ops_of_older_wgen_run(const struct volume *volume);
void ops_revisit(struct volume *volume); /* every request looks at its condition anew */
uint64_t volume_settled(const struct volume *volume);

/* Everything that is under way. */
void ops_add_to(const struct volume *volume, struct dirty *dirty);

/* copy.c */
void copiers_start(struct volume *volume);
void copiers_wake(struct volume *volume);
bool copiers_are_idle(const struct volume *volume);
task_step copier_step;

/* membership.c */
task_step member_step;
void membership_wake(struct volume *volume);

/* absent.c */
/* The range is written: who is not in S lacks it. */
void absent_note(struct volume *volume, uint64_t offset, uint64_t length);
/* S was committed without the leg, which had this power in it. */
void absent_begin(struct leg *leg, uint64_t power);
/* The rebuild of the leg, whose todo is known, ends early. */
void absent_keep(struct leg *leg);
/* leg->dirty is all that it lacks. */
bool absent_is_known(const struct leg *leg);
void absent_forget_all(struct volume *volume);

/* stamps.c: begins; scan->running is false and `parent` is woken when it is over. */
void stamps_scan_start(struct stamps_scan *scan, struct leg *leg, struct piecemap *map,
	uint64_t above, struct task *parent);
void window_scan_start(
	struct stamps_scan *scan, struct leg *leg, struct piecemap *map, struct task *parent);

/* todo.c */
task_step todo_step;
/* So that its pieces may be small. */
bool todo_may_be_exact(const struct leg *leg);

/* rebuild.c, grow.c */
task_step rebuild_step;
task_step join_step;
bool rebuild_is_over(const struct leg *leg);
bool rebuild_is_copied(const struct leg *leg);
void rebuild_send(struct leg *leg, uint8_t opcode, struct task *wake);
void rebuild_drop(struct leg *leg, const char *reason); /* no target any more */

/* open.c */
task_step open_step;
void open_refused(struct volume *volume, struct leg *leg, const struct token *cur);

/* resynced.c */
task_step resynced_step;
void resynced_leg_came_up(struct leg *leg);
/* The member is to be told (again). */
void resynced_owe(struct leg *leg);

/* checkpoint.c */
task_step checkpoint_step;
/* A configuration with this wgen was committed: writes carry it from now on. */
void checkpoint_wgen_began(struct volume *volume, uint64_t wgen);
void checkpoint_note_written(struct volume *volume, uint64_t offset, uint64_t length);
/* Regions written by this nexus and not clean. */
uint64_t checkpoint_active_regions(const struct volume *volume);

#endif
