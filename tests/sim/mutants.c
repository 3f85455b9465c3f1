/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/jobs.h"

const char *mutant_name(enum mutant mutant)
{
#define NAME(id, name) [MUTANT_##id] = (name),
	static const char *const names[] = {[MUTANT_NONE] = "none", MUTANTS(NAME)};
#undef NAME

	return names[mutant];
}

const char *mutant_argument(void)
{
#ifdef STRAKE_MUTANTS
	static char text[64];

	if (mutant_active != MUTANT_NONE) {
		(void)snprintf(text, sizeof(text), " --mutant %s", mutant_name(mutant_active));
		return text;
	}
#endif
	return "";
}
