/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume within the mirror.  One reactor; everything here is reached from its run queue.
 *
 *   open.c        fences a majority, chooses and re-commits the configuration, finds R
 *   leg.[ch]      one voter: fence, sessions, commands, when it counts as failed
 *   op.c          host requests: write, read, flush; op_check.c what of them is refused at once
 *   copy.c        copies under the range lock: R (resync) and rebuilds
 *   copy_compare.c  what need not be copied because it is there already
 *   copy_turn.c   how many copies go on at once with a pool-agent
 *   repair.c      blocks that a member cannot read
 *   lost.c        which of them nobody can read, as far as it is known
 *   membership.c  changes of the configuration record: degrade and grow
 *   voters.c      changes of V: which legs there are
 *   resize.c      replicas, and the volume, grow
 *   snapshot.c    the barrier, and what is kept of it
 *   layers.c      the snapshots that a rebuild's target lacks
 *   lease.c       after a gap on the clock
 *   quorum.c      requests while too few replicas are there
 *   read.c        what is particular to reads
 *   hedge.c       a late read is asked of a second member
 *   slow.c        which member is slow against its peers
 *   eject.c       a member that answers badly leaves S for a while
 *   checkpoint.c  the next write generation, and what is clean
 *   resynced.c    RESYNCED: windows become valid
 *   absent.c      what voters outside of S lack, as far as this nexus knows it exactly
 *   rebuild.c     brings a stale or new replica back: register, compute (todo.c), copy, join
 *   rebuilds.c    which of the nexus's rebuilds copy now, how fast (pace.c), and what is told of
 *                 them (progress.c)
 *   volume.c      life, status, lease
 *
 * Sets of legs are bit masks by leg index.  A leg whose replica is no voter any more ends and is
 * vacant; its index is used again only when nothing refers to it.  The numbers I1..I12 are those of
 * docs/invariants.md.
 */
#ifndef NEXUS_MIRROR_VOLUME_INTERNAL_H
#define NEXUS_MIRROR_VOLUME_INTERNAL_H

#include "nexus/mirror/dirty.h"
#include "nexus/mirror/latency.h"
#include "nexus/mirror/leg.h"
#include "nexus/mirror/pace.h"
#include "nexus/mirror/piecemap.h"
#include "nexus/mirror/range_lock.h"
#include "nexus/mirror/resize.h"
#include "nexus/mirror/snapshot.h"
#include "nexus/nexus.h"
#include "nexus/peer.h"

#include <string.h>

#define LEASE_NS       (3000 * IO_NS_PER_MS)
#define OPEN_WAIT_NS   (3150 * IO_NS_PER_MS) /* an opener that did not fence all of c.S */
#define COLLECT_NS     (1000 * IO_NS_PER_MS)
#define BUSY_NS        (5000 * IO_NS_PER_MS)
#define ASK_AGAIN_NS   (30000 * IO_NS_PER_MS) /* an opener without a majority */
#define UNREAD_RUN_MAX 8u                     /* reads in a row; with more the disk is the matter */
#define TICK_NS        (250 * IO_NS_PER_MS)
#define PINNED_MAX     8u /* given-up commands of a leg whose buffers may wait for a stuck disk */
#define ZERO_PART      (UINT64_C(64) << 20) /* a longer ZERO or DISCARD is sent in parts */
#define COPIERS        4

#define REBUILDS_AT_ONCE 4
#define REBUILD_RATE_MIN (UINT64_C(8) << 20)

struct nexus {
	struct io *io;
	struct nexus_options options;
	struct peers peers;
	struct bufpool *buffers;
	struct dirty_store dirty_store;
	struct list volumes;
	struct list rebuilds;      /* legs that are targets, in the order in which they began */
	struct task rebuilds_task; /* whose turn it is */
	struct pace pace;          /* of their copies */
	struct metric rebuilds_running, rebuilds_waiting, rebuild_limit;
	uint64_t hedge_bytes, hedge_bytes_max; /* of buffers that hedge.c has */
	uint32_t next_session; /* never restarts within a process (docs/decisions.md) */
	struct task close_task;
	struct io_timer close_timer;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* ---- repairs ---- */

/* In the memory of who asks for it, which stays until it is over. */
struct repair {
	struct list_node node; /* in volume->repairs */
	uint64_t offset, length;
	bool equalise;       /* R: all members get the same; else only who cannot read */
	bool busy;           /* until it is over */
	bool complete;       /* everything was read, or cannot be, and was written */
	uint64_t unreadable; /* blocks that no member can read */
	/* A rebuild: these legs get the range, with marks for such blocks, and `filled` is called
	 * while it is locked. */
	leg_mask fill;
	void (*filled)(struct repair *repair);
	bool unmarked;     /* who took no mark may show what nobody else has: not settled */
	struct task *task; /* borrowed; woken at the end */
};

enum repair_state {
	REPAIR_START,
	REPAIR_AWAIT_WORK,
	REPAIR_AWAIT_BUFFER,
	REPAIR_AWAIT_LOCK,
	REPAIR_AWAIT_READS,
	REPAIR_AWAIT_WRITES,
	REPAIR_AWAIT_PENDING,
	REPAIR_DONE,
};

#define REPAIR_BUFFER_BYTES (8u * 4096) /* a block of each leg */

struct repairer {
	struct task task;
	enum repair_state state;
	struct volume *volume;
	struct bufpool_waiter waiter;
	struct repair *repair; /* under way */
	uint64_t at;           /* the block */
	unsigned attempt;
	bool again;   /* the same block */
	bool filling; /* the second pass of a rebuild's, under one lock */
	bool marking; /* the block: it becomes unreadable at its destinations */
	uint64_t incarnation;
	struct range_lock lock;
	uint8_t *buffer;
	int source;
	leg_mask readers, ok, unread, bad, unmarked, destinations, pending;
	struct leg_io ios[REPL_VOTERS_MAX];
};

/* ---- host requests ---- */

enum op_state {
	OP_START,
	OP_AWAIT_SERVING,
	OP_AWAIT_REPAIR,
	OP_AWAIT_RESYNC,
	OP_AWAIT_LOCK,
	OP_AWAIT_BARRIER,
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
	uint64_t begun_ns; /* when the host asked */
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
	bool sent;       /* to anybody, ever */
	leg_mask tried;  /* READ: members that failed */
	leg_mask unread; /* READ: members whose disk did not give it */
	bool repaired;   /* READ: nobody could answer it, and a repair was tried */
	struct repair repair;
	leg_mask abandoned; /* READ: members whose answer, still pending, is dropped */
	unsigned lio_count; /* of lios that were made usable */
	int read_leg;       /* READ: asked for the host's buffer; -1: none yet */
	uint64_t read_sent_ns;
	int hedge_leg;      /* READ: asked beside it, for hedge_buffer; -1: none */
	bool hedge_refused; /* not (once more) in this read */
	void *hedge_buffer; /* of the nexus's buffers */
	struct leg_io lios[REPL_VOTERS_MAX];
};

/* ---- copies ---- */

enum copy_state {
	COPY_START,
	COPY_AWAIT_WORK,
	COPY_AWAIT_BUFFER,
	COPY_AWAIT_LOCK,
	COPY_AWAIT_COMPARED,
	COPY_AWAIT_READ,
	COPY_AWAIT_REPAIR,
	COPY_AWAIT_WRITES,
	COPY_AWAIT_PENDING,
	COPY_AWAIT_PAUSE,
	COPY_DONE,
};

/* copy_compare.c */
enum copy_compare {
	COPY_COMPARE_OFF, /* all of the piece is copied */
	COPY_COMPARE_HASHES,
	COPY_COMPARE_STAMPS,
	COPY_COMPARE_RELOCK, /* a deliberate bug */
	COPY_COMPARE_DONE,
};

#define COMPARE_BLOCKS_MAX 64u /* of a piece */

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
	leg_mask turns;   /* whose peers count this piece */
	uint64_t turn_ns; /* no other one before: others were turned away */
	struct repair repair;
	uint64_t repair_unsettled; /* volume->unsettled when it began */
	struct leg_io read_io;     /* to the source: HASH, STAMP, READ */
	struct leg_io write_ios[REPL_VOTERS_MAX];

	/* What of the piece is left to be copied, and what of it is being copied. */
	enum copy_compare compare;
	leg_mask equal;                    /* destinations found equal */
	uint64_t differs;                  /* a bit for each block, after a comparison */
	bool source_is_zero;               /* after a comparison: there is nothing to read */
	bool whole_left;                   /* without one */
	uint64_t part_offset, part_length; /* in bytes, of the volume; length 0: none yet */
	uint64_t hash_key[2];
};

/* ---- the volume ---- */

enum open_state {
	OPEN_START,
	OPEN_AWAIT_PEERS,
	OPEN_AWAIT_SAVED,
	OPEN_AWAIT_FENCES,
	OPEN_AWAIT_RESIZED,
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

/* What is to change in V. */
enum voter_change { CHANGE_NONE, CHANGE_ADD, CHANGE_REMOVE };

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
	struct leg *legs[REPL_VOTERS_MAX]; /* below leg_count none is NULL */

	/* voters.c */
	struct task voters_task;
	enum voter_change change;
	struct uuid change_id;
	bool change_refused; /* the new voter did not accept: not again until it is asked for */
	/* Proposed since the last commit, and perhaps taken back: an opener may still choose it. */
	enum voter_change unsettled_change;
	struct uuid unsettled_id;

	/* open */
	struct task open_task;
	enum open_state open_state;
	struct io_timer open_timer;
	uint64_t attempt;  /* of opening, from 1 */
	leg_mask tried_up; /* the peers that were up when it was begun */
	uint64_t tried_ns; /* and when that was */
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
	bool waits_for_lineage; /* whoever is fenced, ack_not_before_ns stays (1.12) */
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
	uint32_t superseded_by; /* the highest attach that was seen */
	bool ending;            /* closing */
	bool lease_waiters;
	uint64_t awake_ns; /* when the clock was looked at last */

	struct pace_host pace_host;
	struct latency read_latency; /* of a member */
	uint64_t hedge_credit;
	struct io_timer hedge_timer;
	struct task hedge_task;

	uint64_t ejected_ns; /* the last ejection; 0: none */
	uint64_t slow_window_from_ns;
	uint64_t slow_all_from_ns; /* every remote member is slow since then; 0: not so */
	bool slow_all;             /* for long enough to be told */

	/* R */
	struct piecemap resync;
	/* Of R: what could not be made equal when it was tried, nor be marked on all members but
	 * one. It cannot be shown. */
	struct piecemap unequal;
	uint64_t unequal_until_ns; /* then it is tried again */
	uint64_t unmarked_log_ns;  /* what is set aside is logged again from then on */
	bool resync_by_stamps;     /* R is regions, until it is empty */
	uint64_t unsettled;
	struct copier copiers[COPIERS];
	uint64_t copy_cursor;

	struct list repairs; /* struct repair, waiting */
	struct marks lost;   /* blocks that nobody could read when it was tried last */
	struct repairer repairer;

	struct resizer resizer;
	struct snapshotter snapshotter;

	unsigned compares; /* under way */

	uint64_t no_quorum_ns;   /* requests fail after so long without a quorum; 0: they wait */
	uint64_t quorum_lost_ns; /* since when there is none; 0: there is */
	bool failing;            /* they do */

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

	struct metric reads, writes, flushes, bytes_read, bytes_written, errors, all_slow, hedges,
		hedges_won, unreadable, lost_blocks;
};

/* For whoever asks what this process died of: to the end of the step the thread works on this
 * volume. */
_Static_assert(BLK_READ == 0 && TRACE_WORK_READ + (unsigned)BLK_DISCARD == TRACE_WORK_DISCARD,
	"the kinds of requests are kinds of work in the same order");
static inline void volume_works(struct volume *volume, unsigned work)
{
	runq_work(&volume->io->runq, trace_object(&volume->options.uuid), work);
}

/* volume.c */
void volume_changed(
	struct volume *volume); /* state: wakes everything that may wait for it, tells the owner */
bool volume_lease_is_valid(const struct volume *volume);
bool volume_is_dead(const struct volume *volume); /* faulted, superseded or ending: I/O fails */
void volume_tick_start(struct volume *volume);
/* NULL: its place is not known, or it leaves. */
struct leg *volume_leg_by_id(const struct volume *volume, const struct uuid *replica);
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

/* op_check.c */
/* 0, -EINVAL or -ERANGE: not of whole blocks, too long, beyond the end. */
int op_check(const struct volume *volume, const struct blk_req *req);
/* The mutants preset's way to fail an assertion. */
bool op_is_poisoned(const struct vol_op *op);

/* op.c */
void op_submit(struct blk_dev *dev, struct blk_req *req);
/* Does any write of seq <= `seq` still run (not answered, not parked). */
bool ops_older_run(const struct volume *volume, uint64_t seq);
bool ops_older_pend_on(const struct volume *volume, uint64_t seq, const struct leg *leg);
void ops_forget_leg(struct volume *volume, const struct leg *leg, bool ok_too);
bool ops_refer_to(const struct volume *volume, const struct leg *leg);
leg_mask ops_complete_on(const struct volume *volume, uint64_t offset, uint64_t length);
void ops_unpark(struct volume *volume);
void ops_absorb_skipped(struct volume *volume, const struct leg *leg);
/* Any write that carries a wgen below the present one. */
bool ops_of_older_wgen_run(const struct volume *volume);
/* Writes that are under way, until they hold no range. */
unsigned ops_count_writes(const struct volume *volume);
void ops_revisit(struct volume *volume); /* every request looks at its condition anew */
uint64_t volume_settled(const struct volume *volume);

/* Sends the request, or the part of it that is due, to the leg. */
void op_prepare_lios(struct vol_op *op);
void op_send(struct vol_op *op, struct leg *leg);
/* Nothing goes on, or there was no quorum for too long: true when the request has ended. */
bool op_give_up(struct vol_op *op);

/* read.c */
bool op_resync_overlaps(struct vol_op *op);
/* Sends the read, or looks at its answer; true when it has one (finished), or must make way for a
 * copy or a repair. */
bool op_read_progress(struct vol_op *op);
/* Once a read: what a member could not read is written there again from another one. */
bool op_start_repair(struct vol_op *op);
/* I12: the reply is handed over only under the lease. */
bool op_lease_permits(struct vol_op *op);
/* Everything that is under way. */
void ops_add_to(const struct volume *volume, struct dirty *dirty);

/* lost.c */
/* No member gave the block: it is counted until somebody does, or it is written.  false: it was
 * known. */
bool lost_note(struct volume *volume, uint64_t offset);
void lost_forget(struct volume *volume, uint64_t offset, uint64_t length);
/* What a replica that was fenced has marked. */
void lost_add_marks(struct leg *leg);
static inline bool lost_touches(const struct volume *volume, uint64_t offset, uint64_t length)
{
	return volume->lost.count > 0 && marks_touch(&volume->lost, offset / volume->block_bytes,
						 length / volume->block_bytes);
}

/* copy.c */
void copiers_start(struct volume *volume);
void copiers_wake(struct volume *volume);
void copiers_retry(struct volume *volume, uint64_t offset, uint64_t length);
bool copiers_are_idle(const struct volume *volume);
bool copiers_refer_to(const struct volume *volume, const struct leg *leg);
void copiers_forget_leg(struct volume *volume, const struct leg *leg);
task_step copier_step;
/* R goes to all of these: members, and targets that count on having the range. */
leg_mask copy_members(const struct volume *volume, uint64_t offset, uint64_t length);
/* Of what the copier copies from its source. */
leg_mask copier_destinations(const struct copier *copier);
bool copier_is_valid(const struct copier *copier);
bool copier_is_answered(const struct copier *copier);
bool copier_read_is_over(const struct copier *copier);

/* copy_compare.c: source and range of the copier are known, the range is locked. */
void copy_compare_start(struct copier *copier);
/* Goes on; true when it is over. */
bool copy_compare_is_over(struct copier *copier);
/* Sets the part of the piece that is to be copied next; false: nothing is left, or it cannot go on.
 */
bool copy_next_part(struct copier *copier);
bool copy_is_part_left(const struct copier *copier);

/* copy_turn.c */
/* Legs with whose pool-agents one more piece may be copied. */
leg_mask copy_turn_free(const struct volume *volume);
/* 0: with all of these legs, and one of those, a piece may be copied now.  Else it is to be asked
 * again then. */
uint64_t copy_turn_due_ns(const struct copier *copier, leg_mask all, leg_mask any);
/* Source and range are known. */
void copy_turn_begin(struct copier *copier);
/* Nobody is waited for any more. */
void copy_turn_end(struct copier *copier);
void copy_turn_answered(const struct leg_io *lio);

/* repair.c */
task_step repairer_step;
/* Begins; equalise is set by the caller.  false: not now. */
bool repair_start(struct volume *volume, struct repair *repair, uint64_t offset, uint64_t length,
	struct task *task);
bool repairer_refers_to(const struct volume *volume, const struct leg *leg);

/* membership.c */
task_step member_step;
void membership_wake(struct volume *volume);
void membership_clear_votes(struct volume *volume); /* nothing was asked yet */
/* The last answer of this voter to the present proposal is a refusal or an error. */
bool member_said_no(const struct leg *leg);

/* voters.c */
task_step voters_step;
/* The change of V that is asked for may be proposed now, for a V that follows `cfg`, the committed
 * one. */
bool voters_change_is_due(const struct volume *volume);
/* It is, and brings a data replica. */
bool voters_data_is_due(const struct volume *volume);
void voters_apply_change(const struct volume *volume, struct cfg *cfg);
/* Data replica X is to leave V: it leaves S first.  0: none. */
leg_mask voters_removing_mask(const struct volume *volume);
/* min_insync members are in order without it.  One that is to be removed is rebuilt until then: its
 * removal may have to wait for a voter that is away, and requests for it. */
bool voters_are_enough_without(const struct volume *volume, const struct leg *leg);
/* A configuration was committed, or a wish changed: what follows from V. */
void voters_follow(struct volume *volume);
/* Data voters of the committed V but for the one that is being removed. */
unsigned voters_data_count(const struct volume *volume);
bool voters_has(const struct cfg *cfg, const struct leg *leg);

/* version.c */
bool version_is_understood(const struct leg *leg, const struct cfg *cfg);
bool version_is_ours(struct volume *volume); /* the chosen configuration's */
void version_elected(struct volume *volume);
/* Adds how many voters are missing because their pool-agents are too old. */
void version_name_outdated(const struct volume *volume, char reason[VOLUME_REASON_SIZE]);
void voters_update_min_insync(struct volume *volume);
/* NULL, or why what FENCE told of it says that it cannot become a voter of this volume. */
const char *voters_newcomer_is_unfit(const struct volume *volume, const struct leg *leg);

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

/* layers.c */
task_step layers_step;
/* Marked as rebuilding: deletes what is only PREPARED there, and brings what it lacks. */
void layers_begin(struct leg *leg);
/* Every committed snapshot is there. */
bool layers_are_complete(const struct leg *leg);

/* rebuild.c, grow.c */
task_step rebuild_step;
task_step join_step;
bool rebuild_is_over(const struct leg *leg);
bool rebuild_is_copied(const struct leg *leg);
void rebuild_send(struct leg *leg, uint8_t opcode, struct task *wake);
void rebuild_drop(struct leg *leg, const char *reason); /* no target any more */

/* rebuilds.c */
void rebuilds_init(struct nexus *nexus);
void rebuilds_done(struct nexus *nexus);
/* It is a target from now on; no more. */
void rebuilds_add(struct leg *leg);
void rebuilds_remove(struct leg *leg);
/* At most now_ns: a piece of it may be copied.  Else it is to be asked again then; UINT64_MAX: when
 * the copiers are woken. */
uint64_t rebuilds_due_ns(const struct leg *leg, uint64_t now_ns);
/* It may be another one's turn. */
void rebuilds_changed(struct nexus *nexus);
/* Any copy; target NULL: of R. */
void rebuilds_copy_began(struct volume *volume, const struct leg *target, uint64_t bytes);
/* bytes: that are not to be copied any more. */
void rebuilds_copy_ended(struct volume *volume, struct leg *target, uint64_t bytes);
struct rebuild_status {
	uint64_t total_bytes, done_bytes; /* of the running or last one */
	uint64_t bytes_per_s;             /* 0: nothing moves */
	uint64_t seconds_left;            /* 0: not known */
	bool waits;                       /* for other rebuilds */
};
void rebuilds_get(const struct leg *leg, struct rebuild_status *ret_status);
void rebuilds_show(struct leg *leg); /* in its metrics */
/* With each tick; true: there is a target. */
bool rebuilds_tick(struct volume *volume, uint64_t now_ns);

/* lineage.c */
/* As a forced recovery wrote it: nobody has opened the volume since. */
bool lineage_is_new(const struct cfg *cfg);
/* What a replica has, that answered. */
void lineage_heard(struct leg *leg, const struct cfg *cfg);
/* It has another lineage and is no voter: what it was promised is no matter of this volume. */
bool lineage_is_none_of_ours(const struct leg *leg);
/* It refuses us by what a forced recovery promised, and not to an opener. */
bool lineage_fenced(const struct leg *leg, const struct token *cur);
/* A voter of `cfg` was made another lineage: the volume ends as one that was taken over. */
bool lineage_is_over(struct volume *volume, const struct cfg *cfg);
/* That of the committed configuration is the volume's from now on. */
void lineage_committed(struct volume *volume);
/* Those who were fenced have two, volume->reason names them. */
bool lineage_is_in_doubt(struct volume *volume, leg_mask fenced);

/* open.c */
task_step open_step;
void open_refused(struct volume *volume, struct leg *leg, const struct token *cur);
void open_waited(struct volume *volume); /* no predecessor has a lease: told once it is committed */
void open_fenced_one(struct volume *volume); /* a leg is ready: was it the last to wait for? */

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

/* quorum.c */
void quorum_tick(struct volume *volume, uint64_t now_ns, bool late);
bool quorum_wants_tick(const struct volume *volume);

/* lease.c: before anything relies on what was heard of a leg. */
void lease_note_time(struct volume *volume);

/* hedge.c */
task_step hedge_step;
void hedge_start(struct vol_op *op); /* a read was sent */
bool hedge_is_due(const struct vol_op *op);
/* true: the read may be sent to that leg (-1: there is none) too, into op->hedge_buffer. */
bool hedge_begin(struct vol_op *op, int leg);
/* The second member has answered: puts it into the host's buffer.  false: the first one is just
 * sending into it; the request is woken to try again. */
bool hedge_take(struct vol_op *op);
void hedge_end(struct vol_op *op); /* gives the buffer back, once nothing is under way into it */

/* slow.c */
void slow_note_write(struct leg *leg, uint64_t latency_ns);
/* With each tick; late: the nexus itself stood still, which says nothing about replicas. */
void slow_tick(struct volume *volume, uint64_t now_ns, bool late);

/* eject.c */
/* Ready members of S that nobody wants out. */
leg_mask eject_members(const struct volume *volume);
/* false: not now. */
bool eject_member(struct leg *leg, const char *why);
/* Its disk did not give what another one gives; too often, and it is ejected. */
void eject_unread(struct leg *leg);
/* Its pool-agent is about to stop, and may ask not to be waited for: out before it is missed. */
void eject_leaving(struct leg *leg);
/* It was ejected, and the volume can still do without it. */
bool eject_keeps_out(const struct leg *leg);
/* It is a member again, or the volume ends. */
void eject_returned(struct leg *leg);
void eject_tick(struct volume *volume);
bool eject_wants_tick(const struct volume *volume);

/* ---- replace.c ---- */

/* This member of S has been out for a minute, and a change of V needs a record without it. */
bool replace_may_leave_out(const struct volume *volume, const struct leg *leg);
void replace_tick(struct volume *volume, uint64_t now_ns);
bool replace_wants_tick(const struct volume *volume);

#endif
