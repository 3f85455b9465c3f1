/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A leg: one voter of a volume, its commands, and what is remembered of it.  Sets of legs are bit
 * masks by leg index.  Part of volume_internal.h; one reactor.
 */
#ifndef NEXUS_MIRROR_LEG_H
#define NEXUS_MIRROR_LEG_H

#include "io/bufpool.h"
#include "nexus/mirror/dirty.h"
#include "nexus/mirror/piecemap.h"
#include "nexus/mirror/progress.h"
#include "nexus/nexus.h"
#include "nexus/peer.h"

typedef uint32_t leg_mask;

#define LEG_BIT(leg) ((leg_mask)1 << (leg)->index)

#define EJECT_NS     (2000 * IO_NS_PER_MS) /* a member that does not answer */
#define STAMPS_CHUNK 8192u                 /* stamps asked for with one command */

struct volume;

/* ---- commands to a leg ---- */

enum leg_result {
	LEG_OK,
	LEG_NOSPC,   /* capacity exceeded: surely not acknowledged, perhaps partly executed */
	LEG_IO,      /* internal error of the replica */
	LEG_MEDIA,   /* it cannot read the range from its disk */
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
	bool pooled; /* one of the nexus's buffers waits for it, set by whoever sends it */
	enum leg_result result;
	void (*done)(struct leg_io *lio);
	void *ctx;
};

/* ---- slow.c ---- */

/* Of one leg.  Only host writes are timed: every member gets the same ones, so they can be
 * compared. */
struct slow_leg {
	uint64_t count, sum_ns; /* answered in this window */
	uint64_t mean_ns;       /* of the last window that knew one; 0: none yet */
	uint64_t smooth_ns;     /* of the last few */
	bool known;             /* the last window knew one */
	unsigned strikes;       /* windows in which it was slow against its peers */
	uint64_t strikes_from_ns, strike_last_ns;
};

/* ---- eject.c ---- */

struct eject_leg {
	bool ejected;            /* and not back in S yet */
	uint64_t until_ns;       /* it stays out that long */
	uint64_t away_ns;        /* how long it was kept out last: doubles */
	uint64_t returned_ns;    /* when it was back in S */
	unsigned members_beside; /* that were left when it went */
};

/* ---- resize.c ---- */

/* Of one leg. */
struct resize_leg {
	struct leg_io io;
	uint64_t size_bytes; /* of its replica; an arbiter has none */
	uint64_t asked_bytes;
	uint64_t refused_bytes; /* what it could not grow to when it was asked last; 0: nothing */
	char reason[100];       /* why */
};

/* ---- snapshot.c, layers.c ---- */

/* Of one leg. */
struct snapshot_leg {
	struct leg_io io;          /* PREPARE, FLUSH, RESOLVE, one after the other */
	uint64_t kept;             /* all snapshots up to this number are there for good */
	bool owed;                 /* RESOLVE, in this session */
	uint32_t resolved_session; /* in which it was sent last */
	/* In the present barrier. */
	uint32_t session; /* in which it was asked for its image */
	bool prepared, flushed, refused;
};

enum layers_state {
	LAYERS_START,
	LAYERS_AWAIT_RESOLVED,
	LAYERS_AWAIT_BUFFER,
	LAYERS_AWAIT_LIST,
	LAYERS_AWAIT_READ,
	LAYERS_AWAIT_WRITTEN,
	LAYERS_AWAIT_FLUSHED,
	LAYERS_AWAIT_PREPARED,
	LAYERS_AWAIT_DURABLE,
	LAYERS_AWAIT_KEPT,
	LAYERS_DONE,
};

/* The snapshots that a rebuild's target lacks. */
struct layers {
	struct task task;
	enum layers_state state;
	uint64_t incarnation; /* of the volume */
	uint32_t session;     /* of the leg: all of it happens in one */
	uint64_t number;      /* of the layer that is being copied */
	struct uuid id;
	uint64_t offset, length; /* of the present piece */
	uint64_t blocks_until;  /* below it pieces are single blocks: not all of them can be read */
	leg_mask tried, unread; /* members that did not give the piece; that cannot read it */
	struct bufpool_waiter waiter;
	uint8_t *buffer; /* of the nexus's buffers */
	struct leg_io io, read_io;
};

/* ---- legs ---- */

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
	REBUILD_AWAIT_RESIZED,
	REBUILD_AWAIT_ACCEPT,
	REBUILD_AWAIT_MARK,
	REBUILD_AWAIT_LAYERS,
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
	uint64_t highest; /* stamp that was seen */
	uint64_t next;    /* region, or entry of the window */
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
	bool outdated;     /* faulted: its pool-agent is older than what it would have to know */
	bool faulted;      /* abstains, wrong replica, other lineage: not used until that changes */
	uint64_t foreign_lineage; /* it answered with a configuration of this other one; 0: none */
	struct wire_voter_state answer; /* of the last successful FENCE */
	uint64_t heard_ns; /* sending time of the last heartbeat (or FENCE) that proves our token
			      there */
	uint64_t clean;    /* of its vmeta, followed through MARK and grow */
	bool vmeta_rebuilding;
	uint64_t cfg_wgen; /* of the newest configuration that it has accepted: takes no higher one
			    */

	struct list inflight; /* leg_io */

	/* voters.c */
	bool leaving; /* its replica is no voter: the ladders end */
	bool vacant;  /* nobody's: no peer, all ladders done */
	bool learned; /* not of the voters that the volume was opened with */

	/* member of S */
	bool out;              /* must leave S (or is leaving) */
	uint64_t out_since_ns; /* as seen by the tick; 0: it is not */
	bool power_lost;       /* came back with another power while in S */

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
	/* Of todo: what no member could read when it was tried.  It cannot be shown, so the target
	 * cannot join; the rest is copied. */
	struct piecemap unreadable;
	uint64_t unreadable_until_ns; /* then it is tried again */
	struct dirty dirty; /* what it lacks while it is not in S and no target with a todo */
	uint64_t todo_total_bytes;
	struct list_node rebuild_node;       /* in nexus->rebuilds, while it is a target */
	bool rebuild_turn, rebuild_had_turn; /* it is among those that copy now */
	struct progress progress;
	/* The metrics of that name when the rebuild began. */
	uint64_t before_compared_bytes, before_equal_bytes, before_copied_bytes;
	bool may_be_equal; /* todo was given by stamps, and there was something before */
	bool no_hashes;    /* its pool-agent does not know HASH or STAMP */
	uint64_t older_seq;
	unsigned copies; /* copies of copy.c that touch this target now */
	struct task join_task;
	enum join_state join_state;
	bool joining; /* under joint acknowledgement */

	struct slow_leg slow;
	struct eject_leg eject;
	struct resize_leg resize;
	struct snapshot_leg snapshot;
	struct layers layers;

	struct metric reads, writes, errors, ejections, write_latency, unread, repairs,
		copied_bytes, compared_bytes, equal_bytes;
	struct metric rebuild_total, rebuild_done, rebuild_rate, rebuild_left;
	unsigned unread_run; /* reads in a row that its disk did not give */
};

/* leg.c */
/* Makes room for what it lacks, once the volume's size is known; -ENOMEM. */
int leg_init_dirty(struct leg *leg) __must_check;
/* Of zeroed memory, or of a vacant leg. */
int leg_start(
	struct leg *leg, struct volume *volume, unsigned index, const struct volume_voter *voter);
/* Nothing is in flight and the ladders are done: gives the peer back. */
void leg_vacate(struct leg *leg);
void leg_stop(struct leg *leg); /* and its memory */
bool leg_ends(const struct leg *leg);
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

#endif
