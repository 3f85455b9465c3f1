/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operator decides on this machine when the volume cannot go on by itself
 * (docs/protocol.md 1.12): a replica becomes the volume under a new lineage, and openings of the
 * old one are ended.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "pool-agent/internal.h"
#include "pool-agent/store/snapshot.h"

#include <assert.h>
#include <errno.h>

/* Above every write generation that anybody may have had who is not there to tell. */
#define RECOVERY_WGEN_STEP (UINT64_C(1) << 32)

static uint64_t highest_stamp(const struct store_replica *replica)
{
	uint64_t regions = store_replica_region_count(replica);
	uint64_t stamp = 0;

	for (uint64_t i = 0; i < regions; i++) {
		stamp = max_u64(stamp, store_replica_stamp(replica, i));
	}
	return stamp;
}

/* A voter accepts the number of a snapshot without having it, and what is only PREPARED may be of
 * an attempt that came to nothing: only what it keeps is there for a rebuild. */
static void recover_snapshots(const struct store_replica *replica, struct cfg *cfg)
{
	struct store_snapshot last;

	cfg->snap_seq = min_u64(cfg->snap_seq, store_snapshots_kept(replica));
	cfg->snap_id = (struct uuid){0};
	if (store_snapshot_find(replica, cfg->snap_seq, &last)) {
		cfg->snap_id = last.id;
	}
}

/* The replica's content is what it has: nobody else's counts. */
static void recover_cfg(
	const struct agent_recovery *recovery, const struct epoch *epoch, struct vmeta *vmeta)
{
	const struct ns *ns = recovery->ns;
	struct cfg old = vmeta->cfg;
	uint64_t wgen = max_u64(max_u64(old.wgen, vmeta->clean),
		max_u64(recovery->wgen, highest_stamp(ns->replica)));

	/* Deliberate bug: its stamps and clean are above what is written from now on.  (With clean
	 * back at 0 a low write generation alone would only copy too much.) */
	wgen = mutant_is(MUTANT_RECOVER_LOW_WGEN) ? 0 : wgen + RECOVERY_WGEN_STEP;
	if (!mutant_is(MUTANT_RECOVER_SNAPSHOTS)) {
		recover_snapshots(ns->replica, &old);
	}
	vmeta->cfg = (struct cfg){
		.epoch = *epoch,
		.gen = 1,
		.lineage = recovery->lineage,
		.size_bytes = old.size_bytes,
		.wgen = wgen,
		.snap_seq = old.snap_seq,
		.snap_id = old.snap_id,
		.min_version = old.min_version,
		.voter_count = 1,
		.voters = {{.id = ns->id,
			.kind = VOTER_DATA,
			.insync = true,
			.power = store_power(ns->pool->store)}},
	};
}

static int recover_judge(struct agent_recovery *recovery, const struct vmeta *vmeta)
{
	struct err *err = &recovery->change.err;

	if (vmeta->kind == VOTER_ARBITER) {
		return err_set(err, -EINVAL, "it is an arbiter and has no data");
	}
	if (vmeta->cfg.gen == 0) {
		return err_set(err, -EINVAL, "no volume has ever used it: there is nothing on it");
	}
	if (recovery->ns->export != NULL) {
		return err_set(err, -EBUSY, "it is exported: unexport it first");
	}
	if (vmeta->rebuilding && !recovery->half_rebuilt) {
		return err_set(err, -EBUSY,
			"it was in the middle of a rebuild: it is old in some places and new in "
			"others, as the volume never was");
	}
	if (max_u64(recovery->change.seen.attach, vmeta->cfg.epoch.attach) >= UINT32_MAX - 1 ||
		max_u64(recovery->wgen, vmeta->cfg.wgen) > UINT64_MAX / 2) {
		return err_set(err, -ERANGE, "its attach number or write generation is too high");
	}
	return 0;
}

static int recover_apply(struct agent_change *change, struct vmeta *vmeta)
{
	struct agent_recovery *recovery = container_of(change, struct agent_recovery, change);
	uint64_t above = max_u64(change->seen.attach, vmeta->cfg.epoch.attach) + 1;
	struct epoch epoch = {
		.attach = (uint32_t)max_u64(recovery->attach, above),
		.inc = 1,
		.nonce = recovery->lineage,
	};
	int result;

	if (vmeta->cfg.gen != 0 && vmeta->cfg.lineage == recovery->lineage) {
		recovery->attach = vmeta->cfg.epoch.attach; /* it was asked for before */
		return 0;
	}
	result = recover_judge(recovery, vmeta);
	if (result != 0) {
		return result;
	}
	recover_cfg(recovery, &epoch, vmeta);
	vmeta->promised = epoch;
	vmeta->clean = mutant_is(MUTANT_RECOVER_LOW_WGEN) ? vmeta->clean : 0;
	vmeta->rebuilding = false;
	recovery->attach = epoch.attach;
	return 0;
}

void agent_replica_recover(
	struct agent *agent, struct store_replica *replica, struct agent_recovery *recovery)
{
	recovery->ns = agent_find_replica(agent, replica);
	recovery->change.apply = recover_apply;
	recovery->change.fences = true;
	recovery->change.flushes = true;
	agent_replica_change(agent, replica, &recovery->change);
}

static int fencing_apply(struct agent_change *change, struct vmeta *vmeta)
{
	const struct epoch *epoch = &container_of(change, struct agent_fencing, change)->epoch;

	if (epoch_equal(epoch, &vmeta->promised)) {
		return 0;
	}
	if (epoch_compare(epoch, &change->seen) <= 0) {
		return err_set(&change->err, -ESTALE,
			"attach %u has it, or had it, which is not lower than %u",
			change->seen.attach, epoch->attach);
	}
	vmeta->promised = *epoch;
	return 0;
}

void agent_replica_fence(
	struct agent *agent, struct store_replica *replica, struct agent_fencing *fencing)
{
	fencing->change.apply = fencing_apply;
	fencing->change.fences = true;
	agent_replica_change(agent, replica, &fencing->change);
}
