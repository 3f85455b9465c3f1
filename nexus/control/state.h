/* SPDX-License-Identifier: Apache-2.0 */
/* What the nexus keeps of a volume in its state folder: volumes/<name>.json.  Control thread. */
#ifndef NEXUS_CONTROL_STATE_H
#define NEXUS_CONTROL_STATE_H

#include "nexus/nexus.h"

enum frontend_kind { FRONTEND_NONE, FRONTEND_FUSE, FRONTEND_NVME };

#define BOOT_ID_TEXT_SIZE 40

#define NO_QUORUM_S_MAX 86400

struct volume_record {
	char name[REPL_NAME_SIZE];
	struct uuid uuid;
	uint64_t size_bytes;
	uint64_t lineage;
	bool lineage_known; /* a configuration of it was committed, or an operator decided for it */
	bool recovered;     /* an operator decided for it, and nobody has opened it since */
	uint32_t attach;    /* of the last open; rises only */
	struct capability capability; /* for it; version 0: none */
	uint32_t inc;                 /* the largest that was used with this attach */
	struct epoch waited;  /* volume_waited(), attach 0: none; counts under boot_id only */
	unsigned min_insync;  /* 0: the nexus's default, or that for `copies` */
	uint32_t no_quorum_s; /* requests fail after so long without a quorum; 0: they wait */
	unsigned copies;      /* data replicas that it was created with */
	/* A configuration was committed: voters are now those that hold one, and `voters` says
	 * where they are found. */
	bool used;
	/* The kernel under which it was open last with this attach; "" when it was closed in order
	 * since, so that no host can have lived on. */
	char boot_id[BOOT_ID_TEXT_SIZE];
	bool opened;                 /* to be opened after a restart */
	enum frontend_kind frontend; /* to be published after a restart */
	unsigned voter_count;
	struct volume_voter voters[REPL_VOTERS_MAX];
};

const char *frontend_kind_name(enum frontend_kind kind); /* "", "fuse", "nvme" */
int frontend_kind_parse(
	const char *text, enum frontend_kind *ret_kind, struct err *err) __must_check;
unsigned volume_record_data_voters(const struct volume_record *record);
int volume_voter_check(const struct volume_voter *voter, struct err *err) __must_check;
/* For what comes from files and clients alike: name, sizes, voters. */
int volume_record_check(const struct volume_record *record, struct err *err) __must_check;
/* `voters` as the committed V, but for those that are not known and for `adding` (nil: none), which
 * is kept.  false: it is so already. */
bool volume_record_follow(
	struct volume_record *record, const struct cfg *cfg, const struct uuid *adding);
/* Notes where a voter is found.  false: it is known so already, or (ret_full) there is no room. */
bool volume_record_learn(
	struct volume_record *record, const struct volume_voter *voter, bool *ret_full);
/* Is `wanted` the recorded volume again?  Where the voters are found, and in which order they
 * stand, does not count; nor who they are when `wanted` is known to have been used.  0, or -EEXIST
 * with what differs. */
int volume_record_compare(const struct volume_record *record, const struct volume_record *wanted,
	struct err *err) __must_check;
/* Takes the lineage that somebody was told by a nexus that had it open under `attach`, unless the
 * record knows one that is not older; 0: in any case.  false: it stays as it is. */
bool volume_record_take_lineage(struct volume_record *record, uint64_t lineage, uint32_t attach);
/* Takes over where the voters of an equal volume are found.  false: it was known already. */
bool volume_record_relocate(struct volume_record *record, const struct volume_record *wanted);

/* Durable when it returns. */
int volume_record_save(
	const char *state_folder, const struct volume_record *record, struct err *err) __must_check;
int volume_record_load(
	const char *path, struct volume_record *ret_record, struct err *err) __must_check;
int volume_record_remove(const char *state_folder, const char *name, struct err *err) __must_check;

/* Calls `found` for each file in volumes/, also for those that cannot be read (record NULL, with
 * what is wrong). */
int volume_records_load(const char *state_folder,
	void (*found)(void *ctx, const char *file, const struct volume_record *record,
		const struct err *err),
	void *ctx, struct err *err) __must_check;

#endif
