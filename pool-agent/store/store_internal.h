/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the store share.  README.md has the rules; the layers, lowest first:
 *
 *   ondisk, superblock   bytes, pure
 *   batch, scan          several disk operations at once; reading what lies at two places
 *   journal              records, durable in order, shared by everyone (group commit)
 *   clusters             table of all clusters: who owns which; map; free and dirty lists
 *   checkpoint           writes pages of table and stamps back, so that the journal's tail moves
 *   slots, replica       vmeta, stamps
 *   create, resize       creation and deletion; growth
 *   cleaner, reclaim     dirty clusters become zero and free; those of deleted replicas become
 * dirty io, discard          data format, probe, open, recover, store
 */
#ifndef STORE_STORE_INTERNAL_H
#define STORE_STORE_INTERNAL_H

#include "base/bytes.h"
#include "base/mutant.h"
#include "pool-agent/store/ondisk.h"
#include "pool-agent/store/snapshot.h"

#include <assert.h>
#include <errno.h>

#define CLUSTER_NONE UINT32_MAX

/* ---- disk operations of one ladder ---- */

/* Operations in flight at once for one task; `pending` falls to 0 when all have completed. */
struct batch {
	struct io_disk *disk;
	struct task *task; /* borrowed, woken with each completion */
	unsigned pending;
	int result; /* of the first that failed; the ladder clears it */
};

struct batch_op {
	struct io_disk_op op;
	struct batch *batch;
	struct iovec iov;
};

void batch_init(struct batch *batch, struct io_disk *disk, struct task *task);
void batch_read(struct batch *batch, struct batch_op *op, uint64_t block, void *to, size_t length);
void batch_write(
	struct batch *batch, struct batch_op *op, uint64_t block, void *from, size_t length);
/* The same with fua: durable when it completes. */
void batch_write_durable(
	struct batch *batch, struct batch_op *op, uint64_t block, void *from, size_t length);
void batch_zero(struct batch *batch, struct batch_op *op, uint64_t block, uint64_t block_count);
void batch_flush(struct batch *batch, struct batch_op *op);
/* What the operations left, and clears it for the next ones. */
int batch_take_result(struct batch *batch);

/* ---- reading a range that lies at one or two places ---- */

#define SCAN_BLOCKS_MAX 64u

/* Reads blocks 0 .. count - 1 of something; a block that cannot be read is shown as NULL. */
struct scan {
	struct task task;
	int state;
	struct io *io;
	struct batch batch;
	struct batch_op ops[2];
	uint8_t *buffers[2]; /* owned; SCAN_BLOCKS_MAX blocks each */
	unsigned places;     /* 1 or 2 */
	uint64_t count;
	uint64_t next;
	uint64_t chunk;        /* blocks read at once */
	uint64_t single_until; /* below this one by one: a chunk there could not be read */
	bool running;
	int result; /* of the scan: 0, or what `take` returned */
	struct task *parent;
	/* Where block `index` lies at that place. */
	uint64_t (*block_of)(void *ctx, uint64_t index, unsigned place);
	/* 0 goes on. */
	int (*take)(void *ctx, uint64_t index, uint8_t *const blocks[2]);
	void *ctx;
};

/* 0 or -ENOMEM. */
int scan_init(struct scan *scan, struct io *io, struct io_disk *disk, struct task *parent);
void scan_done(struct scan *scan);
/* places, count, block_of, take, ctx are set; the parent awaits !running. */
void scan_start(struct scan *scan);

/* ---- waiting ---- */

/* A task's place in one of the store's wait lists; unlinked when it is woken. */
struct waiter {
	struct list_node node;
	struct task *task;
	uint64_t lsn; /* in the journal's list */
};

static inline bool waiter_waits(const struct waiter *waiter)
{
	return list_is_linked(&waiter->node);
}

static inline void waiter_add(struct list *list, struct waiter *waiter, struct task *task)
{
	waiter->task = task;
	list_push_back(list, &waiter->node);
}

void waiters_wake(struct list *list);

/* ---- metadata pages in memory ---- */

/* A page of the table or of a replica's stamps. */
struct meta_page {
	struct list_node node; /* in checkpoint.dirty or checkpoint.writing */
	uint64_t first_seq;    /* journal block with the oldest record not written back */
	uint64_t dirty_again;  /* the same for what came while it was being written; 0 */
	bool writing;
	bool stale;                    /* found so at open: one of its places is damaged or older */
	unsigned first_place;          /* the one that is written first: never the only good one */
	uint64_t seq;                  /* version on disk */
	struct store_replica *replica; /* borrowed; NULL: the table */
	uint32_t index;
};

/* ---- journal ---- */

struct journal {
	struct store *store;
	struct task task;
	int state;
	struct batch batch;
	struct batch_op op;
	uint8_t *open;   /* owned; the block that takes records, with seq next_seq */
	uint8_t *flying; /* owned; the block that is being written */
	uint32_t open_count, flying_count;
	uint64_t next_seq;
	uint64_t tail_durable; /* as the newest durable block says: blocks before it may be
				  overwritten */
	uint64_t tail_flying;
	uint32_t crc; /* of the newest block */
	uint64_t queued_lsn, durable_lsn;
	bool writing;
	bool publish; /* a block is wanted even without records: the tail has moved */
	struct list durable_waiters; /* by lsn */
	struct list room_waiters;
};

int journal_init(struct journal *journal, struct store *store);
void journal_done(struct journal *journal);
bool journal_is_done(const struct journal *journal);
/* Is there room for that many records now?  What is admitted can be written without waiting for the
 * tail. */
bool journal_has_room(const struct journal *journal, uint32_t count);
/* There must be room. */
void journal_add(struct journal *journal, const struct record *record);
/* Blocks between tail and head. */
uint64_t journal_used_blocks(const struct journal *journal);
void journal_wait_durable(struct journal *journal, struct waiter *waiter, struct task *task);

/* ---- clusters ---- */

struct cluster_list {
	uint32_t first, last; /* CLUSTER_NONE: empty; linked through the entries' payloads */
	uint32_t count;
};

struct clusters {
	struct store *store;
	uint64_t *entries; /* owned; as on disk, with ENTRY_PENDING, and links of the lists */
	uint32_t count;
	uint32_t *hash; /* owned; (slot, logical) -> cluster */
	uint32_t hash_mask;
	struct meta_page *pages; /* owned */
	struct cluster_list free, dirty;
	uint32_t used; /* data and stamps, of replicas that are there */
};

int clusters_init(struct clusters *clusters, struct store *store);
void clusters_done(struct clusters *clusters);
/* After entries were loaded: lists.  Entries of the map are added by clusters_map_add. */
void clusters_build_lists(struct clusters *clusters);
/* -EBADMSG: it is there already. */
int clusters_map_add(struct clusters *clusters, uint32_t cluster);
/* CLUSTER_NONE: not mapped. */
uint32_t clusters_find(const struct clusters *clusters, uint32_t slot, uint64_t logical);
bool clusters_is_pending(const struct clusters *clusters, uint32_t cluster);
/* Each of these changes memory and adds a record, for which there must be room. */
void clusters_map(struct clusters *clusters, uint32_t slot, uint64_t logical);
uint32_t clusters_take_stamps(struct clusters *clusters, uint32_t slot, uint64_t index);
void clusters_make_dirty(struct clusters *clusters, uint32_t cluster);
void clusters_make_free(struct clusters *clusters, uint32_t cluster);
/* The next dirty one, which belongs to the caller until clusters_make_free(). */
uint32_t clusters_take_dirty(struct clusters *clusters);
/* The first clusters above the watermark have been zeroed. */
void clusters_add_zeroed(struct clusters *clusters, uint64_t from, uint64_t until);
void clusters_record_durable(struct clusters *clusters, uint32_t cluster);
void clusters_encode_page(const struct clusters *clusters, uint32_t index, uint8_t *page);

/* ---- checkpoint ---- */

#define CHECKPOINT_PAGES 32u

struct checkpoint {
	struct store *store;
	struct task task;
	int state;
	struct batch batch;
	struct batch_op ops[CHECKPOINT_PAGES];
	struct batch_op flush;
	struct waiter waiter;
	uint8_t *images;          /* owned; CHECKPOINT_PAGES blocks */
	struct list dirty;        /* by first_seq */
	struct list writing;      /* in the order of images */
	struct list idle_waiters; /* woken when nothing is being written */
	bool urgent;          /* not only when the journal fills: a damaged page is to be mended */
	uint64_t writing_seq; /* smallest first_seq of `writing` */
	uint64_t written;     /* pages since open */
};

int checkpoint_init(struct checkpoint *checkpoint, struct store *store);
void checkpoint_done(struct checkpoint *checkpoint);
bool checkpoint_is_done(const struct checkpoint *checkpoint);
/* A record of journal block `seq` changes the page. */
void checkpoint_page_dirty(struct checkpoint *checkpoint, struct meta_page *page, uint64_t seq);
/* The replica is going: its pages are not written any more.  Nothing of it is being written. */
void checkpoint_forget(struct store_replica *replica);
bool checkpoint_is_writing(
	const struct checkpoint *checkpoint, const struct store_replica *replica);
/* The oldest journal block that is still needed, if the next block were `seq`. */
uint64_t checkpoint_tail(const struct checkpoint *checkpoint, uint64_t seq);

/* ---- slots and replicas ---- */

enum slot_state {
	SLOT_FREE,
	SLOT_BUSY,     /* being created or deleted */
	SLOT_READY,    /* has a replica */
	SLOT_DRAINING, /* deleted; its clusters are becoming dirty */
	SLOT_DRAINED,  /* they all are; the last records are not durable yet */
};

/* The places of one slot on disk, and a writer for them. */
struct slot {
	struct store *store;
	uint32_t index;
	enum slot_state use;
	uint64_t seq;          /* highest good one */
	uint8_t *repair[2][2]; /* [pair][member], owned while opening: to be written there */
	bool abstains;         /* a pair, or a page of stamps, is bad on both sides */
	bool newer;            /* so because it is of a version that this program does not know */
	bool unreadable;       /* so because a read failed: another open may succeed */
	bool unmapped;         /* its clusters are not in the map: nobody knows what they are for */
	uint64_t clusters;     /* that belong to it, in the table */
	uint32_t surplus; /* of these beyond its stamp space: a resize did not come to its end */
	uint64_t created_lsn;          /* while opening: its last RECORD_STAMPS with value 0 */
	struct store_replica *replica; /* owned; READY */
	struct list_node write_node;   /* slot_writer, while a version is being written */
	struct batch_op op;
	uint8_t *image; /* borrowed, likewise */
	uint64_t written_seq;
	struct task *parent; /* borrowed; woken when the version is durable; NULL: not writing */
	int result;
	bool taken;         /* somebody makes the next version from the present one */
	struct list takers; /* struct waiter */
};

/* Of all slots. */
struct slot_writer {
	struct store *store;
	struct task task;
	int state;
	struct batch batch;
	struct batch_op flush;
	bool flushes;        /* what is being written needs it */
	struct list waiting; /* slot; those that came while others are being written */
	struct list served;
	int result;
};

struct store_replica {
	struct store *store;
	struct slot *slot;
	struct vmeta vmeta;
	uint64_t region_count;
	uint64_t *durable; /* owned; stamps as on disk */
	uint64_t *queued;  /* owned; with records that are under way */
	uint32_t page_count;
	struct meta_page *pages; /* owned */
	uint32_t stamp_cluster_count;
	uint32_t *stamp_clusters; /* owned */
	uint64_t ios;             /* in flight */
	uint8_t *image;           /* owned; for the slot's writer */
	struct vmeta next;        /* of an update */
	struct store_op *update;  /* borrowed; in flight */
	struct task update_task;
	struct waiter update_waiter;
	int update_state;
};

/* Starts writing the version slot->seq + 1 of vmeta; the parent awaits slot->parent == NULL. */
void slot_write(struct slot *slot, uint8_t *image, struct vmeta *vmeta, struct task *parent);
/* Who makes a version of a replica that is in use from the one before it has the slot meanwhile.
 * false: the waiter waits; ask again. */
bool slot_take(struct slot *slot, struct waiter *waiter, struct task *task);
void slot_give(struct slot *slot);
uint64_t slot_block(const struct store *store, uint32_t slot, unsigned pair, unsigned member);
int slots_init(struct store *store);
void slots_done(struct store *store);

/* 0, -ENOMEM, -ENOSPC.  Memory only. */
int replica_new(struct store *store, struct slot *slot, const struct vmeta *vmeta,
	struct store_replica **ret_replica);
void replica_free(struct store_replica *replica);
/* The replica takes over size and memory of `bigger`, which replica_new() made with a later vmeta
 * of the same slot and which is gone then. */
void replica_become(struct store_replica *replica, struct store_replica *bigger);
/* How many clusters its stamps take; UINT64_MAX: more than the pool can have. */
uint64_t replica_stamp_clusters(const struct layout *layout, uint64_t size_bytes);
uint32_t replica_page_count(uint64_t region_count);
uint64_t replica_page_block(const struct store_replica *replica, uint32_t page, unsigned place);
void replica_encode_page(const struct store_replica *replica, uint32_t index, uint8_t *page);
/* Clusters *next .. count - 1 of its stamp space, into `clusters`.  0: all are there, durably; 1:
 * it waits; -ENOSPC, -EIO: those below *next were taken. */
int replica_take_clusters(struct store_replica *replica, uint32_t *clusters, uint32_t *next,
	uint32_t count, struct waiter *waiter, struct task *task);
/* Adds a record; there must be room. */
void replica_queue_stamp(struct store_replica *replica, uint64_t region, uint64_t wgen);

/* ---- background ---- */

/* Nothing that began before grace_start() is still at work on clusters when `old` falls to 0. */
struct grace {
	unsigned current;
	uint64_t count[2];
	struct task *task; /* borrowed; woken when count[1 - current] falls to 0 */
};

#define CLEANER_CLUSTERS 16u

struct cleaner {
	struct store *store;
	struct task task;
	int state;
	struct batch batch;
	struct batch_op ops[CLEANER_CLUSTERS];
	struct waiter waiter;
	uint32_t taken[CLEANER_CLUSTERS];
	uint32_t taken_count;
	uint32_t index;
	struct list space_waiters;
};

void cleaner_init(struct cleaner *cleaner, struct store *store);
void cleaner_done(struct cleaner *cleaner);
bool cleaner_is_done(const struct cleaner *cleaner);
/* true: a cluster may become free without anybody's help; wait in space_waiters. */
bool cleaner_may_free(const struct store *store);

/* Zeroes space before its first use. */
struct ahead {
	struct store *store;
	struct task task;
	int state;
	struct batch batch;
	struct batch_op op;
	uint64_t until; /* cluster */
	uint8_t *image; /* owned; of the superblock */
};

int ahead_init(struct ahead *ahead, struct store *store);
void ahead_done(struct ahead *ahead);
bool ahead_is_done(const struct ahead *ahead);

/* Makes the clusters of deleted replicas dirty. */
struct reclaim {
	struct store *store;
	struct task task;
	int state;
	struct waiter waiter;
	uint32_t next;     /* cluster to look at */
	uint32_t draining; /* slots, DRAINED ones too */
	uint32_t surplus;  /* clusters, of all slots */
	bool turned;
};

void reclaim_init(struct reclaim *reclaim, struct store *store);
bool reclaim_is_done(const struct reclaim *reclaim);
/* A slot has become SLOT_DRAINING. */
void reclaim_slot(struct reclaim *reclaim);
/* That many clusters of the slot lie beyond its stamp space now. */
void reclaim_add_surplus(struct reclaim *reclaim, struct slot *slot, uint32_t count);
/* They are left where they are, or go with all others of the slot. */
void reclaim_forget_surplus(struct reclaim *reclaim, struct slot *slot);

/* ---- data ---- */

#define SEGMENTS 128u

/* One disk operation of a store_io. */
struct segment {
	struct io_disk_op op;
	struct store_io *io;
	uint8_t epoch; /* of grace */
	bool pooled;
};

struct pooled_segment {
	struct list_node node;
	struct segment segment;
	struct iovec iov[IO_IOV_MAX];
};

/* Lies in store_io.backend. */
struct sio {
	struct task task;
	struct waiter waiter;
	struct store_replica *replica;
	uint64_t cursor; /* bytes, in the replica */
	uint64_t lsn;
	uint64_t piece_end;      /* of a discard */
	uint64_t waits_since_ns; /* for stamps or map; 0: it does not */
	uint64_t flush_begun;    /* of a flush, for snapshots */
	uint32_t pending;
	int state;
	int prepared;
	bool waits_for_stamp;
	bool alone_used;
	bool turned;
	bool unmarks; /* it writes to unreadable blocks: they are readable when it is durable */
	struct segment alone; /* for an io that is one disk operation */
};
_Static_assert(sizeof(struct sio) <= sizeof(((struct store_io *)0)->backend), "store_io.backend");

static inline struct sio *sio_of(struct store_io *io)
{
	return (struct sio *)(void *)io->backend;
}

struct flusher {
	struct store *store;
	struct task task;
	int state;
	struct batch batch;
	struct batch_op op;
	struct list
		waiting; /* struct waiter of sios; those that came while a flush was on its way */
	struct list served;
	int result;
};

struct data {
	struct pooled_segment *segments; /* owned */
	struct list free_segments;
	struct list segment_waiters;
	struct grace grace;
	struct flusher flusher;
};

int data_init(struct store *store);
void data_done(struct store *store);
/* io.c's helpers for discard.c. */
struct segment *sio_segment(struct store *store, struct store_io *io, bool alone);
void sio_segment_submit(
	struct store *store, struct segment *segment, uint64_t disk_offset, uint64_t length);
void sio_finish(struct store_io *io, int result);
/* Stamps of the regions in [from, until): 0 durable, 1 waiting (linked), negative. */
int sio_stamp(struct store_io *io, uint64_t from, uint64_t until);
/* The data are durable when they are answered. */
static inline bool sio_is_durable(struct store_io *io)
{
	return io->fua || (sio_of(io)->unmarks && !mutant_is(MUTANT_S8));
}

void discard_step(struct task *task);
/* marks.c */
bool sio_touches_marks(struct store_io *io);
void mark_step(struct task *task);
/* The data are durable: the marks go, and the io ends. */
void sio_unmark(struct store_io *io);
bool flusher_is_done(const struct store *store);

/* ---- metrics ---- */

struct store_metrics {
	struct metric journal_writes, journal_records; /* since open */
	struct metric stamp_wait, map_wait;
	_Atomic uint64_t stamp_buckets[METRIC_BUCKETS], map_buckets[METRIC_BUCKETS];
};

/* While the store runs. */
void store_metrics_add(struct store *store);
void store_metrics_remove(struct store *store);

/* ---- store ---- */

struct store {
	struct io *io;
	struct io_disk *disk;
	struct superblock sb;
	bool running; /* opened: the background ladders are at work */
	bool failed;
	bool closing;
	uint64_t unmapped_lsn; /* of the newest record that took a cluster from a replica's map */
	struct slot *slots;    /* owned */
	struct slot_writer slot_writer;
	uint32_t replica_count;
	struct clusters clusters;
	struct journal journal;
	struct checkpoint checkpoint;
	struct cleaner cleaner;
	struct ahead ahead;
	struct reclaim reclaim;
	struct data data;
	struct store_metrics metrics;
	uint64_t busy;            /* operations and ios in flight */
	struct list slot_waiters; /* creations that wait for a draining slot */
	struct task close_task;
	int close_state;
	struct store_op *close_op;
	const struct store_snapshot_ops *snapshot_ops; /* borrowed; NULL: format 0 has none */
	void *snapshot_ctx;
};

/* No further metadata: everything but reads answers -EIO. */
void store_fail(struct store *store, const char *what, int result);
/* Frees memory; nothing is in flight. */
void store_free(struct store *store);
/* Memory for the parts, once the superblock is known. */
int store_init(struct store *store);
/* The background ladders begin. */
void store_run(struct store *store);
void store_unbusy(struct store *store);
void store_op_finish(struct store_op *op, int result);
/* For an operation that could not even begin: done with `result` at the next turn; a store (or
 * NULL) becomes unbusy then. */
void store_op_fail_later(struct io *io, struct store *store, struct store_op *op, int result);

/* Can the store work with blocks of that size?  0 or -EOPNOTSUPP with text. */
int store_check_disk(const struct io_disk *disk, struct err *err) __must_check;

/* ---- opening ---- */

enum pair_state { PAIR_NEVER, PAIR_GOOD, PAIR_BAD, PAIR_NEWER };

struct pair {
	enum pair_state state;
	struct vmeta vmeta; /* GOOD */
};

/* Reading what is on disk into a store: the steps of open.c, in this order. */
struct recovery {
	struct store *store;
	struct err *err;
	struct pair pairs[2];           /* of the slot that is being read */
	uint8_t *journal;               /* owned; all blocks */
	struct journal_header *headers; /* owned; seq 0: no good block there */
	uint32_t *crcs;                 /* owned */
	bool *unreadable;               /* owned; blocks of the journal */
	uint64_t first_seq, last_seq;   /* to be replayed */
	uint64_t page_lsn_max;          /* of all pages */
	bool stale;                     /* some page is */
	struct store_replica *replica;  /* whose stamps are being read */
};

int recovery_init(struct recovery *recovery, struct store *store, struct err *err);
void recovery_done(struct recovery *recovery);
int recover_vmeta(void *ctx, uint64_t index, uint8_t *const blocks[2]);
int recover_table_page(void *ctx, uint64_t index, uint8_t *const blocks[2]);
int recover_journal_block(void *ctx, uint64_t index, uint8_t *const blocks[2]);
int recover_journal_end(struct recovery *recovery);
/* Replays what concerns clusters, finds out whose they are, makes map and lists. */
int recover_clusters(struct recovery *recovery);
/* Once for each replica. */
int recover_stamp_page(void *ctx, uint64_t index, uint8_t *const blocks[2]);
/* Replays stamps; marks the pages that the journal is ahead of. */
int recover_stamps(struct recovery *recovery);

static inline uint64_t store_cluster_block(const struct store *store, uint32_t cluster)
{
	const struct layout *layout = &store->sb.layout;

	return layout->clusters + (uint64_t)cluster * (layout->cluster_bytes / STORE_BLOCK_BYTES);
}

#endif
