/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vendor commands between a nexus and a pool-agent (docs/wire.md).  Pure: payloads, and the fields
 * of the 64-byte command. Bits 1:0 of an opcode are the transfer direction of the NVMe base
 * specification: 0 none, 1 host to controller, 2 controller to host.
 */
#ifndef REPL_WIRE_H
#define REPL_WIRE_H

#include "nvme/spec.h"
#include "repl/record.h"

enum wire_admin_opcode {
	WIRE_FENCE = 0xc1,       /* CDW10 count; data: that many entries of WIRE_FENCE_ENTRY_SIZE */
	WIRE_VOTER_STATE = 0xc2, /* NSID; data: WIRE_VOTER_STATE_SIZE: the result of this
				    association's last FENCE of it */
	WIRE_MARK = 0xc4, /* NSID, CDW2 session, CDW10-11 clean, CDW12 bit 0 rebuilding=1 (clean is
			     then ignored) */
	WIRE_ACCEPT = 0xc5, /* NSID, CDW2 session, CDW10-11 k, CDW12 bit 0 k is given; data: cfg */
	WIRE_RESYNCED = 0xc8, /* NSID, CDW2 session, CDW10-11 boot, CDW12-13 upto */
	WIRE_HEARTBEAT =
		0xca,       /* CDW10 number of the last list confirmed; data: WIRE_HEARTBEAT_SIZE */
	WIRE_RESIZE = 0xd0, /* NSID, CDW2 session, CDW10-11 new size in bytes: grows the replica */
	WIRE_RELEASE = 0xcc, /* NSID, CDW2 session: this association gives the namespace back */
	WIRE_STAMPS =
		0xce, /* NSID, CDW2 session, CDW10 first region, CDW11 count; data: count u64 */
	WIRE_WINDOW = 0xd2, /* NSID, CDW2 session, CDW10 first entry; data: WIRE_WINDOW_SIZE */
	WIRE_STAMP = 0xd4,  /* NSID, CDW2 session, CDW10 region, CDW12-13 stamp: raises the region's
			       to that, unless it is as high */
	WIRE_SNAPSHOT_PREPARE = 0xd8, /* NSID, CDW2 session, CDW10-11 number, CDW12-15 id */
	WIRE_SNAPSHOT_LIST = 0xda,    /* NSID, CDW2 session, CDW10 those above this number; data:
					 WIRE_SNAPSHOT_LIST_SIZE */
	WIRE_SNAPSHOT_RESOLVE = 0xdc, /* NSID, CDW2 session, CDW10-11 number of the last committed
					 one */
};

enum wire_io_opcode {
	WIRE_WRITE = 0x81,
	WIRE_READ = 0x82,
	WIRE_WRITE_ZEROES = 0x84,
	WIRE_DISCARD = 0x88,
	WIRE_FLUSH = 0x8c,
	WIRE_HASH = 0x92, /* of a range within one region; data: WIRE_HASH_SIZE(count) */
	WIRE_WRITE_UNCORRECTABLE = 0x98, /* the blocks are unreadable until they are written */
};

/* Vendor specific status (SCT 7). */
enum wire_status {
	WIRE_STATUS_STALE_TOKEN = 0x701, /* not the current token or not its association */
	WIRE_STATUS_BUSY = 0x702, /* older commands still run; the gate stays closed; ask again */
	WIRE_STATUS_ABSTAIN =
		0x703, /* the voter's metadata is unreadable: replace it under a new id */
	WIRE_STATUS_REFUSED = 0x704,       /* ACCEPT, MARK, RESYNCED, RESIZE, STAMP, SNAPSHOT
					      PREPARE: content not acceptable */
	WIRE_STATUS_WRONG_REPLICA = 0x705, /* the namespace holds another replica id */
	WIRE_STATUS_UNAUTHORIZED =
		0x706, /* FENCE without the capability of this attachment and node */
	WIRE_STATUS_MARKS_FULL = 0x707, /* WRITE_UNCORRECTABLE: the replica has no room for more */
};

/* Fields of the data commands: CDW2 session, CDW3 low 32 bits of wgen, MPTR seq, CDW10-11 SLBA,
 * CDW12 bits 15:0 NLB - 1 and bit 30 FUA (WRITE_ZEROES and DISCARD: CDW14 high bits of the
 * zero-based length, so that they may be longer), CDW13 min(seq - settled, 2^32-1); READ: CDW15
 * number of a snapshot, 0: what is there now.  HASH has neither wgen nor numbers: MPTR and
 * CDW14-15 are the halves of its key. */
struct wire_io {
	uint8_t opcode;
	uint32_t nsid;
	uint32_t session;
	uint32_t wgen_low;
	uint64_t seq;
	uint64_t settled;
	uint64_t slba;
	uint64_t block_count; /* 0 for FLUSH */
	uint32_t snapshot;    /* READ: of this one */
	bool fua;
	uint64_t key[2]; /* HASH */
};

void wire_io_encode(const struct wire_io *io, struct nvme_sqe *ret_sqe);
/* 0 or -EINVAL (an opcode that is none of wire_io_opcode, settled > seq, a count of 0, a snapshot
 * that is to be changed). */
int wire_io_decode(const struct nvme_sqe *sqe, struct wire_io *ret_io);

/* What HASH answers: the stamp of the region, after the range was read, and a hash of each block in
 * order (blockhash.h). */
#define WIRE_HASH_BLOCKS_MAX  256u
#define WIRE_HASH_SIZE(count) (16u + 16u * (count))

/* The key as blockhash_set_key() takes it. */
void wire_hash_key(const uint64_t key[2], uint8_t ret_key[16]);
void wire_hash_put_stamp(uint8_t *answer, uint64_t stamp);
uint64_t wire_hash_stamp(const uint8_t *answer);
uint8_t *wire_hash_at(uint8_t *answer, uint64_t block);
/* CDW10-15 of SNAPSHOT PREPARE. */
void wire_snapshot_encode(uint64_t number, const struct uuid *id, struct nvme_sqe *sqe);
uint64_t wire_snapshot_decode(const struct nvme_sqe *sqe, struct uuid *ret_id);

#define WIRE_FENCE_ENTRY_SIZE  128
#define WIRE_FENCE_ENTRIES_MAX 256

struct wire_fence_entry {
	uint32_t nsid;
	struct uuid replica;
	struct token token;
	struct capability capability;
};

void wire_fence_entry_encode(
	const struct wire_fence_entry *entry, uint8_t to[WIRE_FENCE_ENTRY_SIZE]);
int wire_fence_entry_decode(
	const uint8_t from[WIRE_FENCE_ENTRY_SIZE], struct wire_fence_entry *ret_entry);

#define WIRE_VOTER_STATE_SIZE 8192

struct wire_voter_state {
	uint32_t status;  /* 0: fenced for you; else an enum wire_status: STALE_TOKEN means refused,
			     see cur */
	struct token cur; /* the namespace's current token */
	uint64_t power, boot;
	uint64_t region_bytes; /* REPL_REGION_BYTES, or smaller in the simulator */
	uint32_t block_bytes;
	uint32_t cfg_version;    /* what its pool-agent understands (cfg.min_version) */
	bool newer;              /* ABSTAIN: its metadata are newer than its pool-agent */
	bool window_valid;       /* WINDOW tells where the replica may differ; else the stamps do */
	bool snapshots;          /* its pool can make them */
	uint64_t snapshots_kept; /* all up to this number are there for good */
	struct vmeta vmeta;      /* valid when status is 0 or STALE_TOKEN or BUSY; its marks travel
				  beside it: who does not know them can do without */
};

void wire_voter_state_encode(
	const struct wire_voter_state *state, uint8_t to[WIRE_VOTER_STATE_SIZE]);
int wire_voter_state_decode(
	const uint8_t from[WIRE_VOTER_STATE_SIZE], struct wire_voter_state *ret_state);

#define WIRE_WINDOW_SIZE       8192
#define WIRE_WINDOW_PIECES_MAX 2040

/* A part of the window of a replica: pieces that were written by commands which are not known to be
 * on all of S. */
struct wire_window {
	bool valid;
	uint32_t total; /* entries of the whole window, in no order */
	uint64_t piece_bytes;
	uint32_t count; /* in this part */
	uint32_t pieces[WIRE_WINDOW_PIECES_MAX];
};

void wire_window_encode(const struct wire_window *window, uint8_t to[WIRE_WINDOW_SIZE]);
int wire_window_decode(const uint8_t from[WIRE_WINDOW_SIZE], struct wire_window *ret_window);

#define WIRE_SNAPSHOT_LIST_SIZE 4096
#define WIRE_SNAPSHOTS_MAX      127

/* The snapshots of a replica in order of their numbers; `total` may be more than fit. */
struct wire_snapshot_list {
	uint32_t total, count;
	struct wire_snapshot {
		uint64_t number;
		struct uuid id;
		bool kept; /* else only PREPARED */
	} snapshots[WIRE_SNAPSHOTS_MAX];
};

void wire_snapshot_list_encode(
	const struct wire_snapshot_list *list, uint8_t to[WIRE_SNAPSHOT_LIST_SIZE]);
int wire_snapshot_list_decode(
	const uint8_t from[WIRE_SNAPSHOT_LIST_SIZE], struct wire_snapshot_list *ret_list);

#define WIRE_HEARTBEAT_SIZE     4096
#define WIRE_HEARTBEAT_LOST_MAX 1000

/* The namespaces whose cur left this association since the last confirmed list.  More than fit:
 * `all`. */
struct wire_heartbeat {
	uint64_t boot;
	uint32_t list_number;
	bool all;
	bool stopping;            /* the pool-agent ends in a moment */
	uint32_t restart_wait_ms; /* when stopping: how long to wait for it; 0: not at all */
	unsigned lost_count;
	uint32_t lost[WIRE_HEARTBEAT_LOST_MAX];
};

void wire_heartbeat_encode(const struct wire_heartbeat *heartbeat, uint8_t to[WIRE_HEARTBEAT_SIZE]);
int wire_heartbeat_decode(
	const uint8_t from[WIRE_HEARTBEAT_SIZE], struct wire_heartbeat *ret_heartbeat);

#endif
