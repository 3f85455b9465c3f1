/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the configuration record: degrade and grow in one loop (docs/protocol.md 1.7).  A
 * proposal that was sent is never taken back: what follows is a newer one.  Committed means:
 * accepted by all of its S and by a majority of the voters (I2).
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

void membership_wake(struct volume *volume)
{
	task_wake(&volume->member_task);
}

/* The S that should be: without those who are out, with the target that has caught up; whoever is
 * to leave V goes while enough others are there. */
static leg_mask member_wish(const struct volume *volume)
{
	leg_mask wish = volume->member_mask & ~volume_out_mask(volume);
	leg_mask rest;

	if (volume->joiner != NULL && volume->joiner_ready && volume->joiner->ready &&
		volume->joiner->target) {
		wish |= LEG_BIT(volume->joiner);
	}
	rest = wish & ~voters_removing_mask(volume);
	return rest != 0 && mask_count(rest) >= volume->min_insync ? rest : wish;
}

/* The configuration that should follow the committed one; gen as there. */
static void member_wished_cfg(const struct volume *volume, struct cfg *ret_cfg)
{
	leg_mask wish = member_wish(volume);

	*ret_cfg = volume->cfg;
	ret_cfg->wgen = volume->wgen_proposed;
	ret_cfg->size_bytes = resize_wished_bytes(volume);
	snapshot_wish(volume, ret_cfg);
	if (voters_change_is_due(volume)) {
		voters_apply_change(volume, ret_cfg);
	}
	for (unsigned i = 0; i < ret_cfg->voter_count; i++) {
		struct cfg_voter *voter = &ret_cfg->voters[i];
		const struct leg *leg = volume_leg_by_id(volume, &voter->id);

		voter->insync = leg != NULL && (wish & LEG_BIT(leg)) != 0;
		voter->power = voter->insync ? leg->answer.power : 0;
	}
}

/*
 * Every member of S came back with another power.  When nothing that was acknowledged is missing
 * from their disks they go on as they are (but for those whose rebuild had begun); else the host
 * must hear that unflushed writes are gone (docs/protocol.md 1.6).
 */
static void member_judge_power(struct volume *volume)
{
	leg_mask intact = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (!(volume->member_mask & LEG_BIT(leg))) {
			continue;
		}
		if (!leg->ready || !leg->power_lost) {
			return;
		}
		intact |= leg->vmeta_rebuilding ? 0 : LEG_BIT(leg);
	}
	if (volume->acked > volume->flushed || intact == 0) {
		volume_fault(volume, "unflushed writes lost: every replica in sync lost power");
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (intact & LEG_BIT(leg)) {
			leg->power_lost = false;
			leg->out = false;
			ops_forget_leg(volume, leg, true);
		}
	}
	volume->repropose = true;
}

static bool member_is_active(const struct volume *volume)
{
	return (volume->committed || volume->electing) && !volume_is_dead(volume);
}

/*
 * What was proposed leaves no member to read or to rebuild from: those that it named have lost
 * their power, those that it left out are back.  Only a newer configuration settles that, of any
 * size, as an opener would commit it.
 */
static bool member_must_settle(const struct volume *volume)
{
	return volume->proposal_open && volume_readable(volume) == 0;
}

/*
 * Below min_insync nothing is taken away: S is what was committed or proposed last, and an opener
 * decides (who may commit any size: the minimum gates acknowledgements).  But a rebuilt replica may
 * come in, when those that go have lost their power: no opener would trust them, and each of
 * several such would wait for the other.  And one that is lost may go when another is to take its
 * place (replace.c).
 */
static bool member_may_shrink(const struct volume *volume, leg_mask wish)
{
	leg_mask taken = volume->member_mask & ~wish;
	bool joins = volume->joiner != NULL && (wish & LEG_BIT(volume->joiner)) != 0;

	if (volume->electing || mask_count(wish) >= volume->min_insync ||
		member_must_settle(volume)) {
		return true;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if ((taken & LEG_BIT(leg)) && !(joins && leg->power_lost) &&
			!replace_may_leave_out(volume, leg)) {
			return false;
		}
	}
	return true;
}

/* true: there is something to propose now. */
static bool member_has_cause(struct volume *volume)
{
	leg_mask wish;

	if (!member_is_active(volume)) {
		return false;
	}
	if (volume->committed && volume->member_mask != 0) {
		member_judge_power(volume);
	}
	if (volume_is_dead(volume)) {
		return false;
	}
	wish = member_wish(volume);
	if (wish == volume->member_mask && !volume->proposal_open && !volume->repropose &&
		!volume->joiner_ready && volume->wgen_proposed == volume->cfg.wgen &&
		!voters_change_is_due(volume) &&
		resize_wished_bytes(volume) == volume->cfg.size_bytes &&
		!volume->snapshotter.proposable) {
		return false;
	}
	if (wish == 0 || !member_may_shrink(volume, wish)) {
		return false;
	}
	/* A member that is away for less than the time-out may come back: the proposal needs its
	 * vote anyway. */
	return (wish & ~volume_ready_mask(volume)) == 0;
}

/* k of 1.7: what the members agree to be clean. */
static uint64_t members_clean(const struct volume *volume)
{
	uint64_t clean = UINT64_MAX;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if ((volume->member_mask & LEG_BIT(leg)) && !leg->out && leg->clean < clean) {
			clean = leg->clean;
		}
	}
	return clean == UINT64_MAX ? 0 : clean;
}

static void member_make_proposal(struct volume *volume)
{
	struct cfg *cfg = &volume->proposal;
	leg_mask wish = member_wish(volume);

	member_wished_cfg(volume, cfg);
	if (voters_change_is_due(volume)) {
		volume->unsettled_change = volume->change;
		volume->unsettled_id = volume->change_id;
	}
	snapshot_proposed(volume);
	cfg->gen = ++volume->gen_last;
	volume->proposal_number++;
	volume->proposed_mask |= wish;
	volume->proposed_common &= wish;
	volume->proposal_open = true;
	volume->joiner_proposed = volume->joiner != NULL && (wish & LEG_BIT(volume->joiner)) != 0;
	volume->joiner_clean = members_clean(volume);
	TRACE(volume->io, member_propose, trace_id(&volume->options.uuid), 0, cfg->gen, wish);
}

static void member_accept_done(struct leg_io *lio)
{
	struct volume *volume = lio->leg->volume;

	/* The answer to an older proposal says nothing about this one. */
	if (lio->leg->accept_number == volume->proposal_number) {
		lio->leg->accepted = lio->result == LEG_OK;
		volume->accept_pending &= ~LEG_BIT(lio->leg);
	}
	if (lio->result == LEG_OK) {
		lio->leg->cfg_wgen = max_u64(lio->leg->cfg_wgen, lio->leg->accept_wgen);
	}
	task_wake(&volume->member_task);
}

static void member_send_accept(struct volume *volume, struct leg *leg)
{
	struct leg_io *lio = &leg->accept_io;
	bool joins = volume->joiner == leg && volume->joiner_proposed;

	cfg_encode(&volume->proposal, leg->accept_data);
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = WIRE_ACCEPT;
	if (joins) {
		lio->cmd.sqe.cdw10 = (uint32_t)volume->joiner_clean;
		lio->cmd.sqe.cdw11 = (uint32_t)(volume->joiner_clean >> 32);
		lio->cmd.sqe.cdw12 = 1;
	}
	lio->iov.iov_base = leg->accept_data;
	lio->iov.iov_len = CFG_ENCODED_SIZE;
	lio->done = member_accept_done;
	leg->asked = true;
	leg->accept_number = volume->proposal_number;
	leg->accept_wgen = volume->proposal.wgen;
	volume->accept_pending |= LEG_BIT(leg);
	leg_submit(leg, lio, true, &lio->iov, 1);
}

/* A new voter, or the target that joins S. */
static bool member_accepts_first(const struct volume *volume, const struct leg *leg)
{
	return (voters_has(&volume->proposal, leg) && !voters_has(&volume->cfg, leg)) ||
	       (volume->joiner_proposed && volume->joiner == leg && !mutant_is(MUTANT_JOINS_LAST));
}

/* Nobody else has a record that needs a new voter's vote, or a target that is still being rebuilt,
 * before that one has accepted it, or who opens then would need it, too. */
static bool member_first_is_due(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (!leg->accepted && member_accepts_first(volume, leg)) {
			return true;
		}
	}
	return false;
}

static bool member_wants_accept(const struct volume *volume, const struct leg *leg)
{
	return leg->ready && !leg->refence && !leg->accepted && !leg->accept_io.busy &&
	       (voters_has(&volume->cfg, leg) || voters_has(&volume->proposal, leg)) &&
	       (member_accepts_first(volume, leg) || !member_first_is_due(volume));
}

static void member_send_accepts(struct volume *volume)
{
	if (mutant_is(MUTANT_B2) && volume->electing) {
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (member_wants_accept(volume, volume->legs[i])) {
			member_send_accept(volume, volume->legs[i]);
		}
	}
}

/* Who accepts first has, and the others were not asked yet. */
static bool member_others_are_next(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (!volume->legs[i]->asked && member_wants_accept(volume, volume->legs[i])) {
			return true;
		}
	}
	return false;
}

/* Those who are not ready any more do not answer in time. */
static bool member_answers_are_in(const struct volume *volume)
{
	return (volume->accept_pending & volume_ready_mask(volume)) == 0 ||
	       !member_is_active(volume);
}

/* From now on writes carry the wgen of the configuration, which who has not accepted it refuses. */
static void member_begin_wgen(struct volume *volume)
{
	checkpoint_wgen_began(volume, volume->cfg.wgen);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->cfg_wgen < volume->wgen) {
			rebuild_drop(volume->legs[i], "it has not accepted the configuration");
		}
	}
}

static void member_commit(struct volume *volume)
{
	char text[CFG_TEXT_SIZE];
	struct cfg before = volume->cfg;
	leg_mask members_before = volume->member_mask;

	volume->cfg = volume->proposal;
	volume->member_mask = 0;
	volume->proposed_mask = 0;
	volume->proposed_common = ~(leg_mask)0;
	volume->proposal_open = false;
	volume->repropose = false;
	/* A degrade that was under way leaves the joiner's turn to the next proposal. */
	volume->joiner_ready = volume->joiner_ready && !volume->joiner_proposed;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];
		int at = cfg_find(&volume->cfg, &leg->voter.replica);
		int at_before = cfg_find(&before, &leg->voter.replica);

		if (at >= 0 && volume->cfg.voters[at].insync) {
			volume->member_mask |= LEG_BIT(leg);
			if (!leg->out) {
				eject_returned(leg);
				dirty_forget(&leg->dirty);
			}
			if (volume->joiner == leg && leg->target) {
				leg->clean = volume->joiner_clean;
				leg->vmeta_rebuilding = false;
				leg->power_lost = false;
				leg->out = false;
			}
			if (leg->out && leg->ready && !leg->refence && !leg->power_lost &&
				!leg->vmeta_rebuilding) {
				/* It came back while it was no member: judged anew when it is
				 * fenced anew. */
				leg->refence = true;
				task_wake(&leg->task);
			}
		} else {
			if (at_before >= 0 && (members_before & LEG_BIT(leg)) && !leg->target) {
				absent_begin(leg, before.voters[at_before].power);
			}
			leg->out = false;
			leg->power_lost = false;
		}
		task_wake(&leg->rebuild_task);
	}
	volume->chosen = volume->cfg;
	volume->unsettled_change = CHANGE_NONE;
	TRACE(volume->io, member_commit, trace_id(&volume->options.uuid), 0, volume->cfg.gen,
		volume->member_mask);
	if (volume->cfg.wgen > volume->wgen) {
		member_begin_wgen(volume);
	}
	log_info(&volume->io->log, "nexus", "configuration-committed", "volume=%s cfg=%s",
		volume->options.name, cfg_to_text(&volume->cfg, text));
	resize_committed(volume);
	snapshot_committed(volume);
	voters_follow(volume);
	volume_changed(volume);
}

bool member_said_no(const struct leg *leg)
{
	return leg->asked && leg->ready && !leg->accept_io.busy && !leg->accepted &&
	       (leg->accept_io.result == LEG_REFUSED || leg->accept_io.result == LEG_IO ||
		       leg->accept_io.result == LEG_NOSPC);
}

/* What the answers make of the proposal; true: committed (I2).  A newcomer must have accepted, too:
 * a vote that was never given would only be missing later. */
static bool member_judge(struct volume *volume)
{
	unsigned votes = 0, votes_before = 0;
	bool all = true;

	if (mutant_is(MUTANT_B2) && volume->electing) {
		return true;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];
		bool before = voters_has(&volume->cfg, leg);
		int at = leg->leaving ? -1 : cfg_find(&volume->proposal, &leg->voter.replica);

		votes_before += before && leg->accepted;
		if (at < 0) {
			continue;
		}
		votes += leg->accepted;
		if (!before && !leg->accepted) {
			all = false;
			volume->change_refused = volume->change_refused || member_said_no(leg);
		}
		if (volume->proposal.voters[at].insync && !leg->accepted) {
			all = false;
			if (member_said_no(leg)) {
				leg_fail(leg, "did not accept the configuration");
			}
		}
	}
	return all && ((votes >= cfg_majority(&volume->proposal) &&
			       votes_before >= cfg_majority(&volume->cfg)) ||
			      mutant_is(MUTANT_NO_MAJORITY));
}

void membership_clear_votes(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		volume->legs[i]->accepted = false;
		volume->legs[i]->asked = false;
	}
}

/* The proposal still says what should be: only votes are missing. */
static bool proposal_is_wish(const struct volume *volume)
{
	struct cfg wished;

	member_wished_cfg(volume, &wished);
	wished.gen = volume->proposal.gen;
	return cfg_equal(&wished, &volume->proposal);
}

static bool member_ends(const struct volume *volume)
{
	return volume->ending || volume->superseded;
}

void member_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, member_task);

	volume_works(volume, TRACE_WORK_MEMBERSHIP);
	switch (volume->member_state) {
	case MEMBER_START:
		for (;;) {
			AWAIT_AT(volume->member_state, MEMBER_AWAIT_CAUSE,
				member_has_cause(volume) || member_ends(volume));
			if (member_ends(volume)) {
				break;
			}
			membership_clear_votes(volume);
			member_make_proposal(volume);
			do {
				member_send_accepts(volume);
				AWAIT_AT(volume->member_state, MEMBER_AWAIT_ACCEPTS,
					member_answers_are_in(volume));
				if (!member_is_active(volume)) {
					break;
				}
				if (member_judge(volume)) {
					member_commit(volume);
					break;
				}
				if (!proposal_is_wish(volume)) {
					break;
				}
				if (member_others_are_next(volume)) {
					continue;
				}
				/* Votes are missing: they may come later, but for an opener's. */
				task_wake(&volume->open_task);
				io_timer_start_after(&volume->member_timer, 100 * IO_NS_PER_MS);
				AWAIT_AT(volume->member_state, MEMBER_AWAIT_RETRY,
					!io_timer_is_running(&volume->member_timer) ||
						!member_is_active(volume));
			} while (member_is_active(volume) && proposal_is_wish(volume));
			volume->accept_pending = 0;
		}
		io_timer_stop(&volume->member_timer);
		volume->member_state = MEMBER_DONE;
		task_wake(&volume->close_task);
		return;
	case MEMBER_DONE:
		return;
	}
}
