/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sequence of operations, crashed wherever it may be: every state of the disk that a crash may
 * leave is opened and checked, and crashed again while it is being opened and put in order.  And
 * the same sequence with the n-th disk operation or allocation failing.
 */
#ifndef STORE_SWEEP_SWEEP_H
#define STORE_SWEEP_SWEEP_H

#include "tests/store/check.h"

#define SEQUENCE_MAX 3u
#define CASE_MAX     160u

enum fault_kind {
	FAULT_READ,
	FAULT_WRITE,
	FAULT_FLUSH,
	FAULT_DISCARD,
	FAULT_MEMORY,
	FAULT_KINDS,
};

struct totals {
	uint64_t sequences;
	uint64_t points;         /* moments */
	uint64_t crash_points;   /* states of the disk that a crash leaves, at all moments */
	uint64_t same;           /* of these with a content and a model that were there before */
	uint64_t recoveries;     /* stores opened after a crash */
	uint64_t second_points;  /* moments of these recoveries */
	uint64_t second_crashes; /* of crash_points: during a recovery */
	uint64_t torn;           /* of crash_points: with a block torn */
	uint64_t io_errors;      /* runs with a disk operation that failed */
	uint64_t alloc_failures; /* runs with an allocation that failed */
	uint64_t failures;
};

/* Which part is asked for: when a case is run again. */
struct selection {
	bool crash[2]; /* at depth 0, 1: only this moment and state */
	unsigned point[2], state[2];
	bool fault;
	enum fault_kind kind;
	uint64_t nth;
	bool and_later, lands;
};

struct sweep {
	const struct base *base;
	const char *base_name;
	bool overlapped; /* an operation begins although the one before it is not answered */
	const char *letters;
	uint64_t seed;
	unsigned second_every;        /* of so many states one is crashed again while it recovers */
	unsigned go_on_every;         /* one is worked on afterwards */
	unsigned fault_every;         /* one is recovered with faults */
	const struct selection *only; /* NULL: all */
	struct totals *totals;        /* shared with the parent */
	char *text;                   /* CASE_MAX; shared; the case that is running */
};

void bases_init(uint64_t seed);
/* By name; NULL: there is none. */
const struct base *base_find(const char *name);
extern const char *const base_names[];

/* false: some operation had nothing to work on. */
bool sweep_crashes(struct sweep *sweep);
void sweep_faults(struct sweep *sweep);
/* Of a state that a crash left: the recovery with faults. */
void sweep_recovery_faults(
	struct sweep *sweep, const struct image *image, const struct model *model);
/* Opens the image, checks it against the model, lets it settle and ends; `go_on`: works with it
 * before, and opens it once more. */
void verify(struct sweep *sweep, const struct image *image, const struct model *model,
	bool power_lost, uint32_t torn, bool go_on);
/* The letters, as this sequence has them; false: nothing to work on for one of them.  `last` is
 * called before the last one. */
bool run_letters(struct sweep *sweep, struct run *run, void (*last)(struct run *run));
void case_name(struct sweep *sweep, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern char *case_text;

#endif
