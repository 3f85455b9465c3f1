/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deliberate bugs: each is one changed decision in the shipped code, compiled in only for the
 * simulator (cmake preset "mutants"), to prove that the simulator finds them.  Without
 * STRAKE_MUTANTS mutant_is() is a constant false and nothing of them is left.  The names of
 * the first are those of the protocol's model.
 */
#ifndef BASE_MUTANT_H
#define BASE_MUTANT_H

#include <stdbool.h>

/* clang-format off */
#define MUTANTS(X) \
	X(B1, "B1")  /* the configuration is ranked without its epoch */ \
	X(B3, "B3")  /* no resync, no copy before return */ \
	X(B5, "B5")  /* a command of an older session is executed */ \
	X(B6, "B6")  /* acknowledged by two of three, the laggard stays in S */ \
	X(B9, "B9")  /* clean is raised before all of S has completed */
/* clang-format on */

#define MUTANT_ENUMERATOR(id, name) MUTANT_##id,
enum mutant { MUTANT_NONE, MUTANTS(MUTANT_ENUMERATOR) MUTANT_COUNT };
#undef MUTANT_ENUMERATOR

#ifdef STRAKE_MUTANTS
extern enum mutant mutant_active; /* set by the simulator alone, before a world begins */

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
