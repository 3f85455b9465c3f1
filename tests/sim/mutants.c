/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/jobs.h"

const char *mutant_name(enum mutant mutant)
{
#define NAME(id, name) [MUTANT_##id] = (name),
	static const char *const names[] = {[MUTANT_NONE] = "none", MUTANTS(NAME)};
#undef NAME

	return names[mutant];
}

/* Other bugs are met by seeds as they come. */
const char *mutant_options(enum mutant mutant)
{
	switch ((unsigned)mutant) {
	case MUTANT_B4: /* dirty maps and windows know what the stamps would say */
		return "voter_changes=0 dirty=1 windows=1";
	case MUTANT_R1: /* needs blocks that rot */
		return "voter_changes=0 rotten=0";
	case MUTANT_ATTACH_REUSED:
	case MUTANT_DELETES_VOTER:
	case MUTANT_TWO_ON_A_NODE:
	case MUTANT_LOST_NODE_SPEAKS:
		return "kube=1";
	case MUTANT_KEEPS_OLD_NUMBER: /* needs a restored backup */
		return "kube=1 restores=1";
	default:
		return "";
	}
}

bool mutant_is_rare(enum mutant mutant)
{
	return mutant == MUTANT_FORGETS_PROPOSED || mutant == MUTANT_NO_JOINT;
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
