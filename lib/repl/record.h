/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of the replication protocol, as nexus, pool-agent, disk and wire share them
 * (docs/protocol.md, section 1.1 and 1.2). Pure.
 */
#ifndef REPL_RECORD_H
#define REPL_RECORD_H

#include "base/uuid.h"
#include "repl/capability.h"
#include "repl/marks.h"

#include <stdbool.h>
#include <stdint.h>

#define REPL_REGION_BYTES (UINT64_C(16) << 20) /* one stamp for each */
#define REPL_VOTERS_MAX   7
#define REPL_NAME_SIZE    64 /* with NUL */
#define REPL_SIZE_MAX     (UINT64_C(64) << 40)

/* The newest meaning of a configuration that this program knows.  Who knows less than
 * cfg.min_version neither votes for it nor changes it. */
#define CFG_VERSION 1u

/* (attach, inc) orders; the nonce tells two processes with the same (attach, inc) apart. */
struct epoch {
	uint32_t attach;
	uint32_t inc;
	uint64_t nonce;
};

struct token {
	struct epoch epoch;
	uint32_t session;
};

enum voter_kind { VOTER_DATA = 0, VOTER_ARBITER = 1 };

struct cfg_voter {
	struct uuid id; /* replica id: new whenever a replica is created */
	enum voter_kind kind;
	bool insync;    /* member of S */
	uint64_t power; /* of a member of S: as FENCE reported it when it was counted in */
};

/* The configuration record; ordered by (epoch, gen).  gen 0 means "none" (nothing was ever
 * accepted). */
struct cfg {
	struct epoch epoch;
	uint32_t gen;
	uint64_t lineage;
	uint64_t size_bytes;
	uint64_t wgen;
	uint64_t snap_seq;
	struct uuid snap_id;
	uint32_t min_version;
	unsigned voter_count;
	struct cfg_voter voters[REPL_VOTERS_MAX];
};

/* By (attach, inc): < 0, 0, > 0. */
int epoch_compare(const struct epoch *a, const struct epoch *b);
bool epoch_equal(const struct epoch *a, const struct epoch *b); /* the nonce too */
/* By (attach, inc, session). */
int token_compare(const struct token *a, const struct token *b);
bool token_equal(const struct token *a, const struct token *b); /* the nonce too */
/* By (attach, inc, gen); "none" is below everything. */
int cfg_compare(const struct cfg *a, const struct cfg *b);
/* Content, byte for byte as encoded. */
bool cfg_equal(const struct cfg *a, const struct cfg *b);
/* -1 when it is no voter. */
int cfg_find(const struct cfg *cfg, const struct uuid *id);
unsigned cfg_insync_count(const struct cfg *cfg);
unsigned cfg_majority(const struct cfg *cfg); /* votes needed: voter_count / 2 + 1 */

#define EPOCH_TEXT_SIZE 48
char *epoch_to_text(const struct epoch *epoch, char text[EPOCH_TEXT_SIZE]); /* "1.4" (attach.inc) */
#define CFG_TEXT_SIZE 512
char *cfg_to_text(const struct cfg *cfg, char text[CFG_TEXT_SIZE]);

/* Fixed encoding, little-endian, CFG_ENCODED_SIZE bytes (docs/on-disk-format.md). */
#define CFG_ENCODED_SIZE 320
void cfg_encode(const struct cfg *cfg, uint8_t to[CFG_ENCODED_SIZE]);
/* 0, or -EBADMSG: counts, kinds, bits, duplicate ids, sizes out of range.  gen 0 decodes as "none"
 * whatever else is there. */
int cfg_decode(const uint8_t from[CFG_ENCODED_SIZE], struct cfg *ret_cfg);

/* ---- vmeta: what a voter keeps durably
 * ------------------------------------------------------------------------- */

enum vmeta_state {
	VMETA_CREATING = 1, /* first of the two writes of a creation; found at start: the creation
			       is undone */
	VMETA_READY = 2,
	VMETA_DELETED =
		3, /* tombstone; space is being or was given back, the slot may be used again */
};

struct vmeta {
	uint64_t seq; /* of this slot, for ever rising */
	enum vmeta_state state;
	struct uuid volume;
	struct uuid replica;
	struct uuid pool;          /* with slot, where it lies: what was written elsewhere by a */
	uint32_t slot;             /* disk's mistake is not taken for this one's */
	char name[REPL_NAME_SIZE]; /* the Volume's name */
	struct epoch promised;     /* fence only; never used to rank */
	struct cfg cfg;            /* last ACCEPTED; gen 0: none */
	uint64_t clean;  /* all data stamped <= clean was identical and flushed on all of S */
	bool rebuilding; /* never in S while rebuilding */
	struct volume_key keys[2]; /* current and previous; number 0: none, and no capability is
				      asked for */
	/* replica header */
	enum voter_kind kind;
	uint64_t size_bytes; /* of the replica */
	struct marks marks;  /* its unreadable blocks, of 4096 bytes */
	char class_name[REPL_NAME_SIZE];
	char claim_namespace[REPL_NAME_SIZE];
	char claim_name[REPL_NAME_SIZE];
};

/* Content, as encoded. */
bool vmeta_equal(const struct vmeta *a, const struct vmeta *b);

#define VMETA_SIZE    4096
#define VMETA_MAGIC   0x314d5453u /* "STM1" */
#define VMETA_VERSION 1

void vmeta_encode(const struct vmeta *vmeta, uint8_t to[VMETA_SIZE]);
/* 0; -ENODATA all zero (never written); -EBADMSG checksum or content; -EOPNOTSUPP newer version or
 * unknown feature. */
int vmeta_decode(const uint8_t from[VMETA_SIZE], struct vmeta *ret_vmeta);

#endif
