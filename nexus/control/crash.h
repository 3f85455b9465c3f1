/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes whose work this nexus died of: crashes.json in the state folder, apart from the volumes'
 * records, which whoever closes a volume may remove.  Control thread.
 */
#ifndef NEXUS_CONTROL_CRASH_H
#define NEXUS_CONTROL_CRASH_H

#include "base/err.h"
#include "base/uuid.h"

#define CRASHES_MAX     64 /* volumes; the one that crashed longest ago is forgotten */
#define CRASHES_FAULT   2  /* so many of the same kind of work make a volume Faulted */
#define CRASHES_DAY_S   UINT64_C(86400)
#define CRASH_WORK_SIZE 16

struct crash {
	struct uuid volume;
	uint32_t attach; /* a higher one begins anew */
	unsigned count;
	uint64_t last_s;            /* of the clock, since 1970 */
	char work[CRASH_WORK_SIZE]; /* trace_work_name() */
};

struct crashes {
	unsigned count;
	struct crash all[CRASHES_MAX];
};

/* Once more, at this work.  What was of other work, of an earlier attachment, or more than a day
 * ago, does not count. */
void crashes_add(struct crashes *crashes, const struct uuid *volume, uint32_t attach,
	const char *work, uint64_t now_s);
/* NULL: not with this attachment. */
const struct crash *crashes_find(
	const struct crashes *crashes, const struct uuid *volume, uint32_t attach);

/* No file is no crash. */
int crashes_load(
	const char *state_folder, struct crashes *ret_crashes, struct err *err) __must_check;
/* Durable when it returns. */
int crashes_save(
	const char *state_folder, const struct crashes *crashes, struct err *err) __must_check;

#endif
