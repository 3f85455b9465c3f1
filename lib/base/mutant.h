/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deliberate bugs: each is one changed decision in the shipped code, compiled in only for the
 * simulator (cmake preset "mutants"), to prove that the simulator finds them.  Without
 * STRAKE_MUTANTS mutant_is() is a constant false and nothing of them is left.  The names are those
 * of the protocol's model (docs/protocol.md, section 5), but for the last, which is for
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
	MUTANT_Z1,  /* a host sees a new size before it is committed */
	MUTANT_R1,  /* an unreadable block is repaired while the host may write it */
	MUTANT_COUNT,
	/* Not one that the simulator looks for: a write that begins with MUTANT_POISON fails an
	 * assertion.  The program `nexus` of that build has it, always. */
	MUTANT_CRASH = MUTANT_COUNT,
};

#define MUTANT_POISON "strake dies here" /* without the terminating NUL */

#ifdef STRAKE_MUTANTS
extern enum mutant mutant_active; /* set by the simulator before a world begins, and by a main.c */

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
