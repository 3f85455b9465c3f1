/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/jobs.h"

const char *mutant_name(enum mutant mutant)
{
#define NAME(id, name) [MUTANT_##id] = (name),
	static const char *const names[] = {[MUTANT_NONE] = "none", MUTANTS(NAME)};
#undef NAME

	return names[mutant];
}

/*
 * A lost write needs that the one who joins has accepted, its answer is lost, no majority is left
 * for the next configuration, and somebody opens anew from what it has; or that it has accepted,
 * what was written when it joined is still on its way to its disk, and its process dies.  With an
 * arbiter as the third voter each rebuild has the one; the last kind of faults is "at-join".
 */
#define JOINS                                                                                      \
	"replicas=2 voters=3 spares=0 voter_changes=0 small=-1 local=-1 absent=-1 rotten=-1 "      \
	"rotten_too=-1 kube=0 snapshots=0 recover=0 min_insync=1 fault_count=30 kinds=0x20002a1"

#define PLAIN "voter_changes=0 kube=0 snapshots=0 recover=0 "

/* Other bugs are met by seeds as they come. */
const char *mutant_options(enum mutant mutant)
{
	switch ((unsigned)mutant) {
	case MUTANT_NO_DRAIN: /* disks that are late, and nexuses that take over */
		return PLAIN "kinds=0x3000a0";
	case MUTANT_NO_LEASE: /* an isolated nexus that is overtaken */
		return PLAIN "kinds=0x480";
	case MUTANT_FLUSH_LACKS_ONE: /* losses of power */
		return PLAIN "kinds=0x7";
	case MUTANT_B4: /* dirty maps and windows know what the stamps would say */
		return "voter_changes=0 dirty=1 windows=1";
	case MUTANT_EQUAL_NO_STAMP: /* two away at once, of whom the second is rebuilt from the
				       first */
		return "voter_changes=0 replicas=4 voters=5 spares=0 min_insync=1 region=16384 "
		       "cluster=16384 checkpoint=50000000 small=-1 absent=-1 rotten=-1 local=-1 "
		       "dirty=1 windows=1 kinds=1 fault_count=24 down=0";
	case MUTANT_HASH_STALE: /* needs rebuilds by stamps, many of them */
		return "voter_changes=0 min_insync=1 dirty=1 windows=1 kinds=1 fault_count=24 "
		       "down=0";
	case MUTANT_ROT_COPIED:
	case MUTANT_R1: /* needs blocks that rot */
		return "voter_changes=0 rotten=0";
	case MUTANT_WAITED_EARLY: /* a nexus dies within its wait, while an isolated one reads */
		return "voter_changes=0 kinds=0x420";
	case MUTANT_GARBAGE_AFTER_BAD: /* the same block on two disks */
		return "voter_changes=0 rotten=0 rotten_too=1";
	case MUTANT_FORGETS_PROPOSED:
	case MUTANT_NO_JOINT:
		return JOINS;
	case MUTANT_SNAPSHOT_NO_DRAIN:
	case MUTANT_SNAPSHOT_NO_STOP:
	case MUTANT_SNAPSHOT_IN_R:
	case MUTANT_SNAPSHOT_UNFLUSHED:
	case MUTANT_SNAPSHOT_EARLY:
	case MUTANT_SNAPSHOT_LEFTOVER:
	case MUTANT_SNAPSHOT_TARGET:
	case MUTANT_SNAPSHOT_JOINS:
	case MUTANT_SNAPSHOT_LACKING:
	case MUTANT_SNAPSHOT_LAYER:
		return "snapshots=1";
	case MUTANT_LINEAGE_IGNORED: /* need a forced recovery */
	case MUTANT_RECOVER_LOW_WGEN:
		return "recover=1 snapshots=0 voter_changes=1 absent=-1 small=-1 rotten=-1";
	case MUTANT_RECOVER_SNAPSHOTS:
		return "recover=1 snapshots=1 voter_changes=1 absent=-1 small=-1 rotten=-1";
	case MUTANT_VERSION_IGNORED: /* needs programs of two versions */
		return PLAIN "version=2";
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

const char *mutant_scenario(enum mutant mutant)
{
	switch ((unsigned)mutant) {
	case MUTANT_VOTERS_EARLY:
		return "sim_voters_test test_unfenced_is_not_removed_early";
	case MUTANT_CLEAN_OLDER:
		return "sim_tracking_test test_write_outlasts_a_checkpoint";
	case MUTANT_TARGET_INTACT:
		return "sim_snapshot_test test_all_lose_power_in_a_layer";
	case MUTANT_CLEAN_BESIDE_OUT:
		return "sim_guards_test test_clean_beside_one_that_is_out";
	case MUTANT_B13:
		return "sim_guards_test test_clean_is_flushed";
	case MUTANT_SETTLED_IN_R:
		return "sim_guards_test test_settled_beside_a_failed_write";
	case MUTANT_JOINS_LAST:
		return "sim_review_test test_joiner_accepts_first";
	case MUTANT_OLD_PATH:
		return "sim_front_test test_old_path_writes_late";
	case MUTANT_JOIN_EARLY:
		return "sim_tracking_test test_write_outlasts_a_rebuild";
	case MUTANT_LINEAGE_GOES_ON:
		return "sim_recover_test test_stale_file";
	default:
		return NULL;
	}
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
