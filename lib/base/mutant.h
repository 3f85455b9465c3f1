/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deliberate bugs: each is one changed decision in the shipped code, compiled in only for the
 * simulator and the store's sweep (cmake preset "mutants"), to prove that they find them.  Without
 * STRAKE_MUTANTS mutant_is() is a constant false and nothing of them is left.  The names of the
 * protocol's are those of its model (docs/protocol.md, section 5); MUTANT_CRASH is for
 * tests/e2e/92-crash.sh.
 */
#ifndef BASE_MUTANT_H
#define BASE_MUTANT_H

#include <stdbool.h>

enum mutant {
	MUTANT_NONE,
	MUTANT_B1,  /* the configuration is ranked without its epoch */
	MUTANT_B3,  /* no resync, no copy before return */
	MUTANT_B5,  /* a command of an older session is executed */
	MUTANT_B6,  /* acknowledged by two of three, the laggard stays in S */
	MUTANT_B9,  /* clean is raised before all of S has completed */
	MUTANT_B10, /* a voter takes another's place in one step */
	MUTANT_H1,  /* a read is answered while another member may still send into its buffer */
	MUTANT_R1,  /* an unreadable block is repaired while the host may write it */
	MUTANT_COUNT,
	/* Not one that the simulator looks for: a write that begins with MUTANT_POISON fails an
	 * assertion.  The program `nexus` of that build has it, always. */
	MUTANT_CRASH = MUTANT_COUNT,
	/* Of the store; tests/store finds them. */
	MUTANT_S1, /* data are submitted before their map is durable */
	MUTANT_S2, /* a block of the journal counts whatever its checksum says */
	MUTANT_S3, /* data are submitted before their stamps are durable */
	MUTANT_S4, /* a voter's metadata are written without FUA */
	MUTANT_S5, /* a freed cluster is given out without a flush of its zeros */
	MUTANT_S6, /* no flush between the two places of a page */
	MUTANT_S7, /* a replica has its new size before the clusters for its stamps are durable */
};

#define MUTANT_POISON "strake dies here" /* without the terminating NUL */

#ifdef STRAKE_MUTANTS
extern enum mutant mutant_active; /* set by those before a world begins, and by a main.c */

static inline bool mutant_is(enum mutant mutant)
{
	return mutant_active == mutant;
}
#else
static inline bool mutant_is(enum mutant mutant)
{
	(void)mutant;
	return false;
}
#endif

#endif
