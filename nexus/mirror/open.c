/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening (docs/protocol.md 1.5): fence a majority under a new epoch, choose the highest
 * configuration that was ACCEPTED there, commit it again under the own epoch before the first read
 * or write, find where members may differ, and make them equal.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>
#include <stdio.h>

/* No (further) opening: a faulted volume stays so until a new process or attach opens it. */
static bool open_ends(const struct volume *volume)
{
	return volume->ending || volume->superseded || volume->faulted;
}

void open_refused(struct volume *volume, struct leg *leg, const struct token *cur)
{
	if (volume->superseded && volume->superseded_by == 0) {
		return; /* its lineage is over: that says more */
	}
	if (cur->epoch.attach > volume->options.attach && lineage_fenced(leg, cur)) {
		volume->superseded = true;
		volume->superseded_by = 0; /* no attach number above it is a remedy */
		snprintf(volume->reason, sizeof(volume->reason),
			"an operator ended this opening for a forced recovery (attach %u; this is "
			"attach %u): open the volume that was recovered",
			cur->epoch.attach, volume->options.attach);
		log_error(&volume->io->log, "nexus", "fenced-for-recovery",
			"volume=%s attach=%u by=%u replica=%u", volume->options.name,
			volume->options.attach, cur->epoch.attach, leg->index);
		volume_changed(volume);
		return;
	}
	if (cur->epoch.attach > volume->options.attach) {
		volume->superseded = true;
		if (cur->epoch.attach > volume->superseded_by) {
			volume->superseded_by = cur->epoch.attach;
		}
		snprintf(volume->reason, sizeof(volume->reason),
			"attach %u took the volume over (this is attach %u)", cur->epoch.attach,
			volume->options.attach);
		log_error(&volume->io->log, "nexus", "superseded",
			"volume=%s attach=%u by=%u replica=%u", volume->options.name,
			volume->options.attach, cur->epoch.attach, leg->index);
		volume_changed(volume);
		return;
	}
	if (cur->epoch.inc > volume->inc_seen) {
		volume->inc_seen = cur->epoch.inc;
	}
	volume->reopen = true;
	task_wake(&volume->open_task);
}

/* ---- fencing ---- */

/* "needs voter 01234567: place unknown": of the configuration that was found.  false: all known. */
static bool open_name_unplaced(struct volume *volume)
{
	size_t used = 0;

	for (unsigned i = 0; i < volume->chosen.voter_count; i++) {
		char id[UUID_TEXT_SIZE];

		if (volume_leg_by_id(volume, &volume->chosen.voters[i].id) == NULL &&
			used + 48 < sizeof(volume->reason)) {
			uuid_to_text(&volume->chosen.voters[i].id, id);
			used += (size_t)snprintf(volume->reason + used,
				sizeof(volume->reason) - used, "%s %s",
				used == 0 ? "needs voter" : ",", id);
		}
	}
	if (used > 0) {
		snprintf(volume->reason + used, sizeof(volume->reason) - used, ": place unknown");
	}
	return used > 0;
}

/*
 * Who the voters are is known only when some have answered.  A majority of those that are known so
 * far is waited for; what is reached below that is asked once, as it may know that they are others
 * (1.5), and again when something else is reached, or after a while: another node may have taken
 * the volume over, and changed its voters.
 */
static bool open_has_peers(struct volume *volume)
{
	leg_mask up = 0;
	unsigned places = 0, needed, found = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (leg->vacant || leg->leaving) {
			continue;
		}
		places++;
		if (leg->peer->up) {
			up |= LEG_BIT(leg);
			found += volume->chosen.gen == 0 || voters_has(&volume->chosen, leg);
		}
	}
	needed = volume->chosen.gen == 0 ? places / 2 + 1 : cfg_majority(&volume->chosen);
	if (found >= needed || (up & ~volume->tried_up) != 0 ||
		(up != 0 && io_now_ns(volume->io) >= volume->tried_ns + ASK_AGAIN_NS)) {
		volume->tried_up = up;
		volume->tried_ns = io_now_ns(volume->io);
		return true;
	}
	volume->tried_up = up;
	if (up != 0 && !io_timer_is_running(&volume->open_timer)) {
		io_timer_start(&volume->open_timer, volume->tried_ns + ASK_AGAIN_NS);
	}
	if (!open_name_unplaced(volume)) {
		snprintf(volume->reason, sizeof(volume->reason),
			"needs a majority: %u of %u pool-agents reached, %u needed", found,
			volume->chosen.gen == 0 ? places : volume->chosen.voter_count, needed);
	}
	return false;
}

static void open_reset_legs(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		rebuild_drop(leg, "the volume is opened again");
		leg->out = false;
		leg->power_lost = false;
	}
}

/* A new attempt has a new inc; it is saved before it is used. */
static void open_begin(struct volume *volume)
{
	volume->attempt++;
	volume->reopen = false;
	volume->committed = false;
	volume->electing = false;
	volume->serving = false;
	volume->fencing = false;
	volume->incarnation++;
	ops_unpark(volume);
	resize_reopened(volume);
	snapshot_reopened(volume);
	volume->epoch.attach = volume->options.attach;
	volume->epoch.inc = (uint32_t)max_u64(volume->epoch.inc, volume->inc_seen) + 1;
	volume->inc_saved = volume->options.save_inc == NULL;
	TRACE(volume->io, open_begin, trace_id(&volume->options.uuid), 0, volume->epoch.attach,
		volume->epoch.inc);
	open_reset_legs(volume);
	absent_forget_all(volume);
	if (volume->options.save_inc != NULL) {
		volume->options.save_inc(volume, volume->epoch.inc, volume->options.ctx);
	}
}

void volume_inc_saved(struct volume *volume)
{
	volume->inc_saved = true;
	task_wake(&volume->open_task);
}

static void open_fence(struct volume *volume)
{
	volume->open_session = volume->nexus->next_session++;
	volume->fencing = true;
	volume->collect_from_ns = io_now_ns(volume->io);
	io_timer_start(&volume->open_timer, volume->collect_from_ns + COLLECT_NS);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		task_wake(&volume->legs[i]->task);
	}
}

/* Fenced in this attempt. */
static bool leg_in_f(const struct leg *leg)
{
	return leg->ready && leg->attempt == leg->volume->attempt;
}

static leg_mask open_fenced_mask(const struct volume *volume)
{
	leg_mask mask = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		mask |= leg_in_f(volume->legs[i]) ? LEG_BIT(volume->legs[i]) : 0;
	}
	return mask;
}

static int open_rank(const struct cfg *a, const struct cfg *b)
{
	if (mutant_is(MUTANT_B1)) {
		/* Deliberate bug: after fencing all have promised the same, so only the generation
		 * ranks. */
		return a->gen < b->gen ? -1 : a->gen > b->gen;
	}
	return cfg_compare(a, b);
}

static void open_begin_volume(struct volume *volume)
{
	struct cfg *chosen = &volume->chosen;

	chosen->lineage = volume->options.lineage;
	chosen->size_bytes = volume->options.size_bytes;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		struct cfg_voter *voter = &chosen->voters[chosen->voter_count];

		if (leg->vacant || leg->leaving || leg->learned) {
			continue;
		}
		chosen->voter_count++;
		voter->id = leg->voter.replica;
		voter->kind = leg->voter.kind;
		voter->insync = voter->kind == VOTER_DATA;
	}
}

/* c = the highest configuration accepted in F; without any, the one that the volume was created
 * with. */
static void open_choose(struct volume *volume)
{
	struct cfg *chosen = &volume->chosen;

	memset(chosen, 0, sizeof(*chosen));
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (leg_in_f(leg) && open_rank(&leg->answer.vmeta.cfg, chosen) > 0) {
			*chosen = leg->answer.vmeta.cfg;
		}
	}
	if (chosen->gen == 0) {
		open_begin_volume(volume);
	}
	chosen->min_version =
		(uint32_t)max_u64(chosen->min_version, volume->nexus->options.cfg_needs);
}

static unsigned open_votes(const struct volume *volume)
{
	unsigned votes = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		votes += leg_in_f(leg) && voters_has(&volume->chosen, leg) &&
			 version_is_understood(leg, &volume->chosen);
	}
	return votes;
}

/* Empty voters would begin a new volume in the place of the one that is not reached. */
static bool open_has_votes(const struct volume *volume)
{
	return open_votes(volume) >= cfg_majority(&volume->chosen) &&
	       (volume->chosen.gen != 0 || !volume->options.used);
}

/* c.S outside of F: the members that did not answer (and whether one of them is busy). */
static bool open_lacks_members(const struct volume *volume, bool *ret_busy)
{
	bool lacks = false;

	*ret_busy = false;
	for (unsigned i = 0; i < volume->chosen.voter_count; i++) {
		const struct leg *leg = volume_leg_by_id(volume, &volume->chosen.voters[i].id);

		if (!volume->chosen.voters[i].insync) {
			continue;
		}
		if (leg == NULL || !leg_in_f(leg)) {
			lacks = true;
			*ret_busy = *ret_busy || (leg != NULL && leg->fence_busy);
		}
	}
	return lacks;
}

/*
 * May a predecessor still answer reads by its lease (1.9)?  It reads from any data replica that we
 * did not fence, also one that is not in c.S any more: who took it out of S may have been an opener
 * that ended before its own wait did.  Not when c is of a process of this node that has ended, and
 * had finished its wait: nobody before it has a lease, and nobody after it has committed.
 */
static bool open_must_wait(const struct volume *volume)
{
	if (volume->chosen.gen == 0 || mutant_is(MUTANT_NO_OPEN_WAIT)) {
		return false; /* nobody ever served */
	}
	if (lineage_is_new(&volume->chosen)) {
		return true; /* by replicas that are none of V any more */
	}
	if (epoch_equal(&volume->chosen.epoch, &volume->options.waited)) {
		return false;
	}
	for (unsigned i = 0; i < volume->chosen.voter_count; i++) {
		const struct cfg_voter *voter = &volume->chosen.voters[i];
		bool fenced = false;

		for (unsigned j = 0; j < volume->leg_count; j++) {
			fenced = fenced ||
				 (leg_in_f(volume->legs[j]) &&
					 uuid_equal(&volume->legs[j]->voter.replica, &voter->id));
		}
		if (voter->kind == VOTER_DATA && !fenced) {
			return true;
		}
	}
	return false;
}

void open_waited(struct volume *volume)
{
	bool over = volume->ack_not_before_ns == 0 || mutant_is(MUTANT_WAITED_EARLY);

	if (volume->committed && over &&
		!epoch_equal(&volume->options.waited, &volume->cfg.epoch)) {
		volume->options.waited = volume->cfg.epoch;
		volume_changed(volume);
	}
}

struct epoch volume_waited(const struct volume *volume)
{
	return volume->options.waited;
}

void open_fenced_one(struct volume *volume)
{
	if (volume->ack_not_before_ns != 0 && !volume->waits_for_lineage &&
		!open_must_wait(volume)) {
		volume->ack_not_before_ns = 0;
		open_waited(volume);
	}
}

/* Who is reached may have another lineage than those that were quicker; where nobody has told which
 * one is the volume's, also who is not reached yet. */
static bool open_knows_lineage(const struct volume *volume)
{
	bool known = volume->options.lineage_known;

	if (volume->chosen.gen == 0) {
		return true;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (leg->vacant || leg->leaving || leg->faulted || leg_in_f(leg) ||
			(known && (!leg->peer->up || leg->fence_busy))) {
			continue;
		}
		return false;
	}
	return true;
}

/* Everybody whom we wait for has answered, or the time is over. */
static bool open_is_collected(struct volume *volume)
{
	uint64_t waited_ns = io_now_ns(volume->io) - volume->collect_from_ns;
	bool busy;

	if (volume->reopen || open_ends(volume)) {
		return true;
	}
	open_choose(volume);
	if (open_has_votes(volume) && !open_lacks_members(volume, &busy) &&
		open_knows_lineage(volume)) {
		return true;
	}
	(void)open_lacks_members(volume, &busy);
	if (waited_ns >= BUSY_NS || (waited_ns >= COLLECT_NS && !busy)) {
		return true;
	}
	if (!io_timer_is_running(&volume->open_timer)) {
		io_timer_start(&volume->open_timer, volume->collect_from_ns + BUSY_NS);
	}
	return false;
}

/* ---- choosing S1 ---- */

static leg_mask open_members(const struct volume *volume, bool same_power)
{
	const struct cfg *chosen = &volume->chosen;
	leg_mask mask = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		int at = cfg_find(chosen, &leg->voter.replica);

		if (at < 0 || !chosen->voters[at].insync || !leg_in_f(leg) ||
			leg->vmeta_rebuilding || !version_is_understood(leg, chosen)) {
			continue; /* I5 */
		}
		if (same_power && chosen->gen != 0 &&
			chosen->voters[at].power != leg->answer.power) {
			continue;
		}
		mask |= LEG_BIT(leg);
	}
	return mask;
}

static void open_name_missing(struct volume *volume)
{
	size_t used =
		(size_t)snprintf(volume->reason, sizeof(volume->reason), "needs 1 of replicas");

	for (unsigned i = 0; i < volume->chosen.voter_count; i++) {
		char id[UUID_TEXT_SIZE];

		if (volume->chosen.voters[i].insync && used + 12 < sizeof(volume->reason)) {
			uuid_to_text(&volume->chosen.voters[i].id, id);
			used += (size_t)snprintf(
				volume->reason + used, sizeof(volume->reason) - used, " %.8s", id);
		}
	}
}

static uint64_t open_wgen_seen(const struct volume *volume)
{
	uint64_t wgen = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (leg_in_f(volume->legs[i])) {
			wgen = max_u64(wgen, volume->legs[i]->answer.vmeta.cfg.wgen);
		}
	}
	return wgen;
}

static bool open_make_map(struct volume *volume, struct piecemap *map, unsigned pieces)
{
	piecemap_done(map, volume->io);
	return piecemap_init(map, volume->io, volume->size_bytes, volume->region_bytes, pieces) ==
	       0;
}

static bool open_take_geometry(struct volume *volume, leg_mask members)
{
	volume->region_bytes = volume->legs[__builtin_ctz(members)]->answer.region_bytes;
	volume->size_bytes = volume->chosen.size_bytes;
	volume->blk.size_bytes = volume->size_bytes;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (leg_init_dirty(volume->legs[i]) != 0) {
			return false;
		}
	}
	return open_make_map(volume, &volume->resync, PIECES_A_REGION) &&
	       open_make_map(volume, &volume->unequal, PIECES_A_REGION) &&
	       open_make_map(volume, &volume->written, 1) &&
	       open_make_map(volume, &volume->recent, 1) &&
	       open_make_map(volume, &volume->retiring, 1);
}

/* Who was away while the volume grew, or was made for a smaller one: the vote of each may be
 * needed.  Not by a configuration that they, or this nexus, do not understand.
 */
static bool open_voters_grew(struct volume *volume)
{
	leg_mask voters = 0;

	if (volume->chosen.min_version > volume->nexus->options.cfg_version) {
		return true;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		voters |= leg_in_f(leg) && voters_has(&volume->chosen, leg) &&
					  version_is_understood(leg, &volume->chosen)
				  ? LEG_BIT(leg)
				  : 0;
	}
	return volume->reopen || open_ends(volume) || !open_has_votes(volume) ||
	       resize_is_over(volume, voters, volume->chosen.size_bytes);
}

static void open_name_votes(struct volume *volume)
{
	if (open_votes(volume) >= cfg_majority(&volume->chosen)) {
		snprintf(volume->reason, sizeof(volume->reason),
			"needs a voter with the volume's configuration: those that answered have "
			"none");
	} else if (!open_name_unplaced(volume)) {
		snprintf(volume->reason, sizeof(volume->reason),
			"needs a majority: %u of %u voters answered", open_votes(volume),
			volume->chosen.voter_count);
	}
	version_name_outdated(volume, volume->reason);
}

/* false: this attempt ends here, volume->reason says why. */
static bool open_elect(struct volume *volume)
{
	leg_mask members;
	bool power_lost = false;

	if (lineage_is_in_doubt(volume, open_fenced_mask(volume)) || !version_is_ours(volume)) {
		return false;
	}
	if (!open_has_votes(volume)) {
		open_name_votes(volume);
		return false;
	}
	if (lineage_is_over(volume, &volume->chosen)) {
		return false;
	}
	members = open_members(volume, true);
	if (members == 0) {
		members = open_members(volume, false);
		power_lost = members != 0;
	}
	if (members == 0) {
		open_name_missing(volume);
		return false;
	}
	if (power_lost && volume->chosen.epoch.attach == volume->epoch.attach &&
		volume->options.host_may_have_lived_on && !mutant_is(MUTANT_FORGETS_FAULT)) {
		/* Nothing is proposed: a configuration with the new power ids would let the next
		 * opening forget that writes are gone. */
		volume_fault(volume, "unflushed writes lost: every replica in sync lost power");
		return false;
	}
	if (!open_take_geometry(volume, members)) {
		snprintf(volume->reason, sizeof(volume->reason), "out of memory");
		return false;
	}
	if (open_must_wait(volume)) {
		volume->ack_not_before_ns = io_now_ns(volume->io) + OPEN_WAIT_NS;
		volume->waits_for_lineage = lineage_is_new(&volume->chosen);
	}
	checkpoint_wgen_began(volume, open_wgen_seen(volume) + 1);
	volume->wgen_proposed = volume->wgen;
	volume->cfg = volume->chosen;
	volume->cfg.epoch = volume->epoch;
	volume->cfg.gen = 0;
	volume->cfg.wgen = volume->wgen;
	volume->gen_last = 0;
	volume->member_mask = members;
	volume->proposed_mask = 0;
	volume->proposed_common = ~(leg_mask)0;
	volume->proposal_open = false;
	volume->unsettled_change = CHANGE_NONE;
	volume->repropose = true;
	membership_clear_votes(volume);
	volume->electing = true;
	task_wake(&volume->snapshotter.task);
	membership_wake(volume);
	return true;
}

static bool open_election_is_over(const struct volume *volume)
{
	unsigned voters = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		voters += leg_in_f(volume->legs[i]) &&
			  voters_has(&volume->chosen, volume->legs[i]) &&
			  !member_said_no(volume->legs[i]);
	}
	return volume->cfg.gen != 0 || volume->reopen || open_ends(volume) ||
	       (volume->member_mask & ~volume_out_mask(volume)) == 0 ||
	       voters < cfg_majority(&volume->chosen);
}

/* The configuration is ours: from here on sessions may rise and members may be dropped. */
static void open_elected(struct volume *volume)
{
	char epoch[EPOCH_TEXT_SIZE];

	volume->tried_up = 0;
	volume->electing = false;
	volume->fencing = false;
	volume->committed = true;
	/* From now on, also if this process has to open it once more. */
	volume->options.host_may_have_lived_on = true;
	volume->options.used = true;
	lineage_committed(volume);
	version_elected(volume);
	volume->scan_leg = 0;
	volume->scan_windows = true;
	log_info(&volume->io->log, "nexus", "opened", "volume=%s epoch=%s members=%u wgen=%llu",
		volume->options.name, epoch_to_text(&volume->epoch, epoch),
		mask_count(volume->member_mask), (unsigned long long)volume->wgen);
	open_waited(volume);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		task_wake(&volume->legs[i]->task);
	}
}

/* ---- R ---- */

/* The next member whose stamps are to be read is there (or there is none left). */
static bool open_next_member(struct volume *volume)
{
	leg_mask usable = volume->member_mask & ~volume_out_mask(volume);

	while (volume->scan_leg < volume->leg_count) {
		const struct leg *leg = volume->legs[volume->scan_leg];

		if (volume->member_mask & LEG_BIT(leg)) {
			if (leg->out && mask_count(usable) < volume->min_insync) {
				/* It cannot be left out either: an opening without it can. */
				volume->reopen = true;
			}
			return leg->ready && !leg->refence && !leg->out;
		}
		volume->scan_leg++;
	}
	return true;
}

static bool open_must_stop(const struct volume *volume)
{
	return volume->reopen || open_ends(volume);
}

static void open_scan(struct volume *volume)
{
	struct leg *leg = volume->legs[volume->scan_leg];

	if (volume->scan_windows) {
		window_scan_start(&volume->scan, leg, &volume->resync, &volume->open_task);
	} else {
		stamps_scan_start(
			&volume->scan, leg, &volume->resync, leg->clean, &volume->open_task);
	}
}

static void open_scanned(struct volume *volume)
{
	if (volume->scan.result == 0) {
		volume->scan_leg++;
	} else if (volume->scan.result == -ENODATA) {
		/* One window is not valid: the stamps of all decide. */
		volume->scan_windows = false;
		volume->scan_leg = 0;
		piecemap_clear(&volume->resync);
	}
}

static void open_serve(struct volume *volume)
{
	volume->serving = true;
	volume->resync_by_stamps = !volume->scan_windows && volume->resync.count > 0;
	volume->reason[0] = '\0';
	if (mutant_is(MUTANT_B3)) {
		piecemap_clear(&volume->resync); /* Deliberate bug: members that differ stay so. */
	}
	TRACE(volume->io, open_serve, trace_id(&volume->options.uuid), 0, volume->member_mask,
		piecemap_regions(&volume->resync));
	log_info(&volume->io->log, "nexus", "serving", "volume=%s resync_regions=%llu by=%s",
		volume->options.name, (unsigned long long)piecemap_regions(&volume->resync),
		volume->scan_windows ? "windows" : "stamps");
	volume_changed(volume);
}

/* ---- the ladder ---- */

void open_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, open_task);

	volume_works(volume, TRACE_WORK_OPEN);
	switch (volume->open_state) {
	case OPEN_START:
		while (!open_ends(volume)) {
			AWAIT_AT(volume->open_state, OPEN_AWAIT_PEERS,
				open_has_peers(volume) || open_ends(volume));
			if (open_ends(volume)) {
				break;
			}
			open_begin(volume);
			AWAIT_AT(volume->open_state, OPEN_AWAIT_SAVED,
				volume->inc_saved || open_ends(volume));
			open_fence(volume);
			AWAIT_AT(volume->open_state, OPEN_AWAIT_FENCES, open_is_collected(volume));
			AWAIT_AT(volume->open_state, OPEN_AWAIT_RESIZED, open_voters_grew(volume));
			if (!volume->reopen && !open_ends(volume) && open_elect(volume)) {
				AWAIT_AT(volume->open_state, OPEN_AWAIT_COMMIT,
					open_election_is_over(volume));
			}
			if (!volume->electing || volume->cfg.gen == 0 || volume->reopen ||
				open_ends(volume)) {
				volume->electing = false;
				volume->fencing = false;
				/* Two openers that refuse each other get out of step. */
				io_timer_start_after(&volume->open_timer,
					(200 + rng_below(&volume->io->rng, 800)) * IO_NS_PER_MS);
				AWAIT_AT(volume->open_state, OPEN_AWAIT_RETRY,
					!io_timer_is_running(&volume->open_timer) ||
						open_ends(volume));
				continue;
			}
			open_elected(volume);
			while (volume->scan_leg < volume->leg_count && !open_must_stop(volume)) {
				AWAIT_AT(volume->open_state, OPEN_AWAIT_MEMBER,
					open_next_member(volume) || open_must_stop(volume));
				if (volume->scan_leg < volume->leg_count &&
					!open_must_stop(volume)) {
					open_scan(volume);
					AWAIT_AT(volume->open_state, OPEN_AWAIT_STAMPS,
						!volume->scan.running);
					open_scanned(volume);
				}
			}
			if (!open_must_stop(volume)) {
				open_serve(volume);
			}
			AWAIT_AT(volume->open_state, OPEN_AWAIT_REOPEN,
				volume->reopen || open_ends(volume));
		}
		io_timer_stop(&volume->open_timer);
		volume->open_state = OPEN_DONE;
		task_wake(&volume->close_task);
		return;
	case OPEN_DONE:
		return;
	}
}
