/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deliberate bugs: each is one changed decision in the shipped code, compiled in only for the
 * simulator and the store's sweep (cmake preset "mutants"), to prove that they find them.  Without
 * STRAKE_MUTANTS mutant_is() is a constant false and nothing of them is left.  The names of the
 * first are those of the protocol's model (docs/protocol.md, section 5); MUTANT_CRASH is for
 * tests/e2e/92-crash.sh.
 */
#ifndef BASE_MUTANT_H
#define BASE_MUTANT_H

#include <stdbool.h>

/* clang-format off */
#define MUTANTS(X) \
	X(B1, "B1") /* the configuration is ranked without its epoch */ \
	X(B2, "B2") /* an opener serves without committing what it chose */ \
	X(B3, "B3") /* no resync, no copy before return */ \
	X(B4, "B4") /* a rebuild ignores the stamps of the replica that comes back */ \
	X(B5, "B5") /* a command of an older session is executed */ \
	X(B6, "B6") /* acknowledged by two of three, the laggard stays in S */ \
	X(B8, "B8") /* what is copied is not stamped: who is rebuilt from it later does not get it */ \
	X(B9, "B9") /* clean is raised before all of S has completed */ \
	X(B10, "B10") /* a voter takes another's place in one step */ \
	X(B11, "B11") /* a copy to a rebuild target takes its stamp back to clean */ \
	X(B12, "B12") /* a pool-agent that was started anew calls its windows valid */ \
	X(B13, "B13") /* clean is raised without a flush */ \
	X(B14, "B14") /* clean is raised while R is not empty */ \
	X(B15, "B15") /* commands count as settled before all of S has completed them */ \
	X(H1, "H1") /* a read is answered while another member may still send into its buffer */ \
	X(ROT_COPIED, "rot-copied") /* what a source cannot read counts as read */ \
	X(R1, "R1") /* an unreadable block is repaired while the host may write it */ \
	X(Z1, "Z1") /* a host sees a new size before it is committed */ \
	X(NO_DRAIN, "no-drain") /* FENCE does not wait for older commands */ \
	X(FENCE_ACCEPTS, "fence-accepts") /* a promise counts as an acceptance */ \
	X(ANY_ASSOCIATION, "any-association") /* the session is enough, whoever sends it */ \
	X(ACK_FIRST, "ack-first") /* acknowledged at the first answer */ \
	X(ACK_BEFORE_COMMIT, "ack-before-commit") /* acknowledged before the smaller S is committed */ \
	X(FORGETS_PROPOSED, "forgets-proposed") /* only the committed S must have a write */ \
	X(NO_JOINT, "no-joint") /* who joins need not have what is acknowledged meanwhile */ \
	X(NO_MAJORITY, "no-majority") /* a configuration needs its S, and no majority */ \
	X(FLUSH_LACKS_ONE, "flush-lacks-one") /* a flush is acknowledged with one member that did not */ \
	X(NO_LEASE, "no-lease") /* reads are answered without a lease */ \
	X(NO_OPEN_WAIT, "no-open-wait") /* an opener does not wait for leases to end */ \
	X(WAITED_EARLY, "waited-early") /* its own wait counts as finished before it is */ \
	X(VOTERS_EARLY, "voters-early") /* voters change before the opener's wait is over */ \
	X(READS_TARGET, "reads-target") /* a rebuild target is read from */ \
	X(READS_UNLOCKED, "reads-unlocked") /* reads do not wait for writes */ \
	X(NO_RANGE_LOCK, "no-range-lock") /* overlapping writes are not ordered */ \
	X(COPY_UNLOCKED, "copy-unlocked") /* copies do not lock their range */ \
	X(COPY_FAILED, "copy-failed") /* a copy that was not answered counts as done */ \
	X(COPY_NO_ZEROS, "copy-no-zeros") /* zeros are not copied */ \
	X(EQUAL_NO_STAMP, "equal-no-stamp") /* what is found equal keeps its stamp */ \
	X(HASH_STALE, "hash-stale") /* hosts write while a piece is compared */ \
	X(JOINS_LAST, "joins-last") /* others accept a configuration before the target that joins with it */ \
	X(JOIN_EARLY, "join-early") /* who joins may lack what was acknowledged before */ \
	X(CLEAN_OLDER, "clean-older") /* clean is raised beside writes of an older generation */ \
	X(CLEAN_BESIDE_OUT, "clean-beside-out") /* clean is raised on a member that lost its power */ \
	X(SETTLED_IN_R, "settled-in-R") /* commands count as settled beside one that failed on some */ \
	X(LATE_REGISTER, "late-register") /* writes while a rebuild starts are not noted */ \
	X(POWER_IGNORED, "power-ignored") /* a member that lost power stays in S */ \
	X(FORGETS_FAULT, "forgets-fault") /* an opener goes on although unflushed writes are gone */ \
	X(FORGETS_UNSETTLED, "forgets-unsettled") /* a write that failed everywhere leaves no trace */ \
	X(GARBAGE_AFTER_BAD, "garbage-after-bad") /* a rebuild brings zeros for what nobody can read */ \
	X(VMETA_VOLATILE, "vmeta-volatile") /* the metadata of a replica are not written through */ \
	X(SNAPSHOT_NO_DRAIN, "snapshot-no-drain") /* members are prepared while writes run */ \
	X(SNAPSHOT_NO_STOP, "snapshot-no-stop") /* writes go on while members are prepared */ \
	X(SNAPSHOT_IN_R, "snapshot-in-R") /* members are prepared while they may differ */ \
	X(SNAPSHOT_UNFLUSHED, "snapshot-unflushed") /* committed before its images are durable */ \
	X(SNAPSHOT_EARLY, "snapshot-early") /* an opener keeps and deletes before it has committed */ \
	X(SNAPSHOT_LEFTOVER, "snapshot-leftover") /* what an attempt left is the next one's image */ \
	X(SNAPSHOT_TARGET, "snapshot-target") /* a rebuild keeps what is PREPARED on its target */ \
	X(SNAPSHOT_JOINS, "snapshot-joins") /* a target joins between PREPARE and the commit */ \
	X(SNAPSHOT_LACKING, "snapshot-lacking") /* a target joins that lacks a snapshot */ \
	X(SNAPSHOT_LAYER, "snapshot-layer") /* a copied layer is kept before it is flushed */ \
	X(LINEAGE_GOES_ON, "lineage-goes-on") /* a voter that a forced recovery made another lineage does not end ours */ \
	X(LINEAGE_IGNORED, "lineage-ignored") /* a replica of another lineage is a voter, and rebuilt by stamps */ \
	X(RECOVER_LOW_WGEN, "recover-low-wgen") /* a forced recovery begins with a write generation below clean */ \
	X(RECOVER_SNAPSHOTS, "recover-snapshots") /* a recovered replica names snapshots that it lacks */ \
	X(TARGET_INTACT, "target-intact") /* a target counts as intact until it is fenced anew */ \
	X(OLD_PATH, "old-path") /* a host that connects anew may still be writing on its connections of before */ \
	X(VERSION_IGNORED, "version-ignored") /* a voter goes on with a configuration that it does not understand */ \
	X(ATTACH_REUSED, "attach-reused") /* an attachment gets the number of the one before */ \
	X(DELETES_VOTER, "deletes-voter") /* a replica is deleted before V is without it */ \
	X(TWO_ON_A_NODE, "two-on-a-node") /* a new replica may come to a node that has one */ \
	X(KEEPS_OLD_NUMBER, "keeps-old-number") /* an attach number of a backup is not raised */ \
	X(LOST_NODE_SPEAKS, "lost-node-speaks") /* status.nexus is written by who lost the volume */ \
	X(LYING_FLUSH, "lying-flush") /* not ours: disks that do nothing when they are flushed */
/* clang-format on */

#define MUTANT_ENUMERATOR(id, name) MUTANT_##id,
enum mutant {
	MUTANT_NONE,
	MUTANTS(MUTANT_ENUMERATOR) MUTANT_COUNT,
	/* Not one that the simulator looks for: a write that begins with MUTANT_POISON fails an
	 * assertion.  The program `nexus` of that build has it, always. */
	MUTANT_CRASH = MUTANT_COUNT,
	/* Of the store; tests/store finds them, and VMETA_VOLATILE as its S4. */
	MUTANT_S1, /* data are submitted before their map is durable */
	MUTANT_S2, /* a block of the journal counts whatever its checksum says */
	MUTANT_S3, /* data are submitted before their stamps are durable */
	MUTANT_S5, /* a freed cluster is given out without a flush of its zeros */
	MUTANT_S6, /* no flush between the two places of a page */
	MUTANT_S7, /* a replica has its new size before the clusters for its stamps are durable */
	MUTANT_S8, /* a mark goes before what was written there is durable */
	MUTANT_S9, /* an update of the metadata forgets the marks that came meanwhile */
};
#undef MUTANT_ENUMERATOR

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
