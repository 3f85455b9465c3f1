/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of V while the volume is in use (docs/protocol.md 1.7): one voter is added or one removed
 * by a configuration, never both, and nothing else is begun before that is committed.  What should
 * be is kept here; the membership proposes it.  Legs follow: one is made when a replica's place is
 * told, and ends when the committed V has no use for it.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>
#include <stdio.h>

bool voters_has(const struct cfg *cfg, const struct leg *leg)
{
	return !leg->vacant && !leg->leaving && cfg_find(cfg, &leg->voter.replica) >= 0;
}

static bool change_is(
	const struct volume *volume, enum voter_change change, const struct uuid *replica)
{
	return volume->change == change && uuid_equal(&volume->change_id, replica);
}

/* A change other than this one was proposed, and no configuration after it is committed. */
static bool another_is_unsettled(
	const struct volume *volume, enum voter_change change, const struct uuid *replica)
{
	return volume->unsettled_change != CHANGE_NONE &&
	       (volume->unsettled_change != change || !uuid_equal(&volume->unsettled_id, replica));
}

leg_mask voters_removing_mask(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (change_is(volume, CHANGE_REMOVE, &leg->voter.replica) && !leg->leaving) {
			return LEG_BIT(leg);
		}
	}
	return 0;
}

bool voters_are_enough_without(const struct volume *volume, const struct leg *leg)
{
	leg_mask usable = volume->member_mask & ~volume_out_mask(volume) & ~LEG_BIT(leg);

	return mask_count(usable) >= volume->min_insync;
}

unsigned voters_data_count(const struct volume *volume)
{
	const struct cfg *cfg = &volume->cfg;
	unsigned count = 0;

	for (unsigned i = 0; i < cfg->voter_count; i++) {
		count += cfg->voters[i].kind == VOTER_DATA &&
			 !change_is(volume, CHANGE_REMOVE, &cfg->voters[i].id);
	}
	return count;
}

/* More copies than there are can never be waited for. */
void voters_update_min_insync(struct volume *volume)
{
	unsigned data = voters_data_count(volume);

	for (unsigned i = 0; volume->cfg.voter_count == 0 && i < volume->options.voter_count; i++) {
		data += volume->options.voters[i].kind == VOTER_DATA;
	}
	volume->min_insync = (unsigned)min_u64(volume->options.min_insync, max_u64(data, 1));
}

/* ---- what is proposed ---- */

/* Both majorities can be had of those that are there: a proposal that waits for votes would hold up
 * the changes of S, which need a majority of the present V only. */
static bool change_has_votes(const struct volume *volume, const struct cfg *changed)
{
	leg_mask ready = volume_ready_mask(volume);
	unsigned before = 0, after = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (ready & LEG_BIT(leg)) {
			before += voters_has(&volume->cfg, leg);
			after += voters_has(changed, leg);
		}
	}
	return before >= cfg_majority(&volume->cfg) && after >= cfg_majority(changed);
}

const char *voters_newcomer_is_unfit(const struct volume *volume, const struct leg *leg)
{
	const struct vmeta *vmeta = &leg->answer.vmeta;

	if (vmeta->kind != leg->voter.kind) {
		return leg->voter.kind == VOTER_ARBITER ? "it is no arbiter" : "it is an arbiter";
	}
	if (!uuid_is_nil(&volume->options.uuid) && !uuid_is_nil(&vmeta->volume) &&
		!uuid_equal(&vmeta->volume, &volume->options.uuid)) {
		return "it was created for another volume";
	}
	if (vmeta->kind == VOTER_DATA && leg->resize.size_bytes < resize_wished_bytes(volume)) {
		return leg->resize.refused_bytes != 0 ? leg->resize.reason
						      : "it is smaller than the volume";
	}
	if (vmeta->kind == VOTER_DATA && leg->answer.region_bytes != volume->region_bytes) {
		return "its pool has regions of another size";
	}
	return NULL;
}

static bool add_is_due(const struct volume *volume)
{
	const struct leg *leg = volume_leg_by_id(volume, &volume->change_id);

	return leg != NULL && leg->ready && !leg->refence && !volume->change_refused &&
	       volume->cfg.voter_count < REPL_VOTERS_MAX &&
	       voters_newcomer_is_unfit(volume, leg) == NULL;
}

/* A member of S leaves S first, in a configuration of its own. */
static bool remove_is_due(const struct volume *volume)
{
	leg_mask removing = voters_removing_mask(volume);

	return (removing & (volume->member_mask | volume->proposed_mask)) == 0 &&
	       (volume->joiner == NULL || (removing & LEG_BIT(volume->joiner)) == 0);
}

bool voters_change_is_due(const struct volume *volume)
{
	struct cfg changed = volume->cfg;

	/* The configuration that was found is committed in our own epoch first, and whoever may
	 * still read under a lease is in its V: if we end before that, the next opener must see
	 * whom it did not fence. */
	if (!volume->committed || volume->change == CHANGE_NONE ||
		(io_now_ns(volume->io) < volume->ack_not_before_ns &&
			!mutant_is(MUTANT_VOTERS_EARLY)) ||
		another_is_unsettled(volume, volume->change, &volume->change_id) ||
		(volume->change == CHANGE_ADD ? !add_is_due(volume) : !remove_is_due(volume))) {
		return false;
	}
	voters_apply_change(volume, &changed);
	return change_has_votes(volume, &changed);
}

bool voters_data_is_due(const struct volume *volume)
{
	const struct leg *leg = volume_leg_by_id(volume, &volume->change_id);

	return volume->change == CHANGE_ADD && leg != NULL && leg->voter.kind == VOTER_DATA &&
	       voters_change_is_due(volume);
}

static void cfg_drop_voter(struct cfg *cfg, unsigned at)
{
	cfg->voter_count--;
	memmove(&cfg->voters[at], &cfg->voters[at + 1],
		(cfg->voter_count - at) * sizeof(cfg->voters[0]));
	memset(&cfg->voters[cfg->voter_count], 0, sizeof(cfg->voters[0]));
}

void voters_apply_change(const struct volume *volume, struct cfg *cfg)
{
	int at = cfg_find(cfg, &volume->change_id);

	if (volume->change == CHANGE_REMOVE && at >= 0) {
		cfg_drop_voter(cfg, (unsigned)at);
	} else if (volume->change == CHANGE_ADD && at < 0) {
		const struct leg *leg = volume_leg_by_id(volume, &volume->change_id);

		if (mutant_is(MUTANT_B10) && cfg->voter_count > 2) {
			/* Deliberate bug: the newcomer takes another's place in one step. */
			cfg_drop_voter(cfg, cfg->voter_count - 1);
		}
		cfg->voters[cfg->voter_count++] =
			(struct cfg_voter){.id = leg->voter.replica, .kind = leg->voter.kind};
	}
}

/* ---- what follows from a committed V ---- */

static bool leg_is_of_use(const struct volume *volume, const struct leg *leg)
{
	return voters_has(&volume->cfg, leg) ||
	       change_is(volume, CHANGE_ADD, &leg->voter.replica) ||
	       (volume->unsettled_change == CHANGE_ADD &&
		       uuid_equal(&volume->unsettled_id, &leg->voter.replica));
}

void voters_follow(struct volume *volume)
{
	if (volume->committed || volume->electing) {
		int at = cfg_find(&volume->cfg, &volume->change_id);

		if ((volume->change == CHANGE_ADD && at >= 0) ||
			(volume->change == CHANGE_REMOVE && at < 0)) {
			volume->change = CHANGE_NONE;
		}
		voters_update_min_insync(volume);
	}
	if (!volume->committed) {
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!leg->vacant && !leg->leaving && !leg_is_of_use(volume, leg)) {
			leg->leaving = true;
			rebuild_drop(leg, "it is no voter any more");
			task_wake(&leg->task);
			task_wake(&leg->rebuild_task);
		}
	}
}

/* ---- legs ---- */

static bool leg_is_referred_to(const struct volume *volume, const struct leg *leg)
{
	if ((volume->scan.running && volume->scan.leg == leg) ||
		((volume->member_mask | volume->proposed_mask | volume->raise_pending |
			 volume->accept_pending) &
			LEG_BIT(leg)) ||
		volume->joiner == leg) {
		return true;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *other = volume->legs[i];

		if (other->scan.running && other->scan.leg == leg) {
			return true;
		}
	}
	return ops_refer_to(volume, leg) || copiers_refer_to(volume, leg) ||
	       repairer_refers_to(volume, leg) || volume->compares > 0;
}

/* Legs that have ended give their peers back. */
static void voters_reap(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (leg->leaving && leg_is_idle(leg) && leg->join_state == JOIN_DONE &&
			!leg_is_referred_to(volume, leg)) {
			copiers_forget_leg(volume, leg);
			volume->raise_ok &= ~LEG_BIT(leg);
			volume->local_mask &= ~LEG_BIT(leg);
			leg_vacate(leg);
			volume_changed(volume);
		}
	}
}

void voters_step(struct task *task)
{
	voters_reap(container_of(task, struct volume, voters_task));
}

/* A vacant one, or memory for one more: rare, and asked for by the control side.  NULL without. */
static struct leg *leg_find_place(struct volume *volume, unsigned *ret_index, struct err *err)
{
	struct leg *leg;

	voters_reap(volume);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->vacant) {
			*ret_index = i;
			return volume->legs[i];
		}
	}
	if (volume->leg_count == REPL_VOTERS_MAX) {
		(void)err_set(err, -EALREADY,
			"volume %s: %u replicas are known; one of them must have left first",
			volume->options.name, REPL_VOTERS_MAX);
		return NULL;
	}
	leg = io_zalloc(volume->io, sizeof(*leg));
	if (leg == NULL) {
		(void)err_set(err, -ENOMEM, "volume %s: out of memory", volume->options.name);
	}
	*ret_index = volume->leg_count;
	return leg;
}

static int leg_add(struct volume *volume, const struct volume_voter *voter, struct err *err)
{
	unsigned index;
	struct leg *leg = leg_find_place(volume, &index, err);
	bool is_new = index == volume->leg_count;

	if (leg == NULL) {
		return err->code;
	}
	if (leg_start(leg, volume, index, voter) != 0) {
		if (is_new) {
			io_free(volume->io, leg);
		}
		return err_set(err, -ENOMEM, "volume %s: out of memory", volume->options.name);
	}
	leg->learned = true;
	if (is_new) {
		volume->legs[index] = leg;
		volume->leg_count++;
	}
	task_wake(&volume->open_task);
	return 0;
}

/* ---- what is asked for ---- */

static const char *change_text(enum voter_change change, const struct uuid *replica, char text[80])
{
	char id[UUID_TEXT_SIZE];

	uuid_to_text(replica, id);
	snprintf(text, 80, "%s replica %s", change == CHANGE_ADD ? "adding" : "removing", id);
	return text;
}

/* Nothing but this change of this replica is under way, or being taken back. */
static int check_turn(const struct volume *volume, enum voter_change change,
	const struct uuid *replica, struct err *err)
{
	char text[80];

	if (volume->change != CHANGE_NONE && !change_is(volume, change, replica)) {
		return err_set(err, -EALREADY, "volume %s: %s is under way", volume->options.name,
			change_text(volume->change, &volume->change_id, text));
	}
	if (another_is_unsettled(volume, change, replica)) {
		return err_set(err, -EALREADY, "volume %s: %s is being taken back",
			volume->options.name,
			change_text(volume->unsettled_change, &volume->unsettled_id, text));
	}
	return 0;
}

static void change_begin(
	struct volume *volume, enum voter_change change, const struct uuid *replica)
{
	char text[80];

	volume->change = change;
	volume->change_id = *replica;
	volume->change_refused = false;
	voters_update_min_insync(volume);
	log_info(&volume->io->log, "nexus", "voters-change", "volume=%s change=%s",
		volume->options.name, change_text(change, replica, text));
}

/* The configuration that is asked about: the committed one, or what is being opened. */
static const struct cfg *known_cfg(const struct volume *volume)
{
	return volume->committed ? &volume->cfg : &volume->chosen;
}

/* At most one voter of a volume on a pool-agent: its loss must be the loss of one vote. */
static int check_newcomer(
	const struct volume *volume, const struct volume_voter *voter, struct err *err)
{
	const struct cfg *cfg = known_cfg(volume);
	int at = cfg_find(cfg, &voter->replica);

	if (at >= 0 && cfg->gen != 0 && cfg->voters[at].kind != voter->kind) {
		return err_set(err, -EEXIST, "volume %s: the replica is a voter as %s",
			volume->options.name,
			voter->kind == VOTER_ARBITER ? "data replica" : "arbiter");
	}
	for (unsigned i = 0; at < 0 && volume->committed && i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (voters_has(cfg, leg) && uuid_equal(&leg->voter.agent, &voter->agent)) {
			char id[UUID_TEXT_SIZE];

			return err_set(err, -EEXIST,
				"volume %s: its pool-agent has replica %s of the volume already",
				volume->options.name, uuid_to_text(&leg->voter.replica, id));
		}
	}
	if (at < 0 && volume->committed && cfg->voter_count == REPL_VOTERS_MAX) {
		return err_set(err, -ENOSPC, "volume %s has %u voters, which is the most",
			volume->options.name, REPL_VOTERS_MAX);
	}
	return 0;
}

void volume_get_voters(const struct volume *volume, struct cfg *ret_cfg, struct uuid *ret_adding)
{
	*ret_cfg = volume->cfg;
	*ret_adding = volume->change == CHANGE_ADD             ? volume->change_id
		      : volume->unsettled_change == CHANGE_ADD ? volume->unsettled_id
							       : (struct uuid){{0}};
}

/* Nothing of it changes any more. */
static int check_alive(const struct volume *volume, struct err *err)
{
	return volume_is_dead(volume)
		       ? err_set(err, -EBUSY, "volume %s: %s", volume->options.name,
				 volume->ending ? "it is being closed" : volume->reason)
		       : 0;
}

int volume_add_voter(struct volume *volume, const struct volume_voter *voter, struct err *err)
{
	const struct uuid *replica = &voter->replica;
	bool is_voter = cfg_find(known_cfg(volume), replica) >= 0;
	struct leg *leg = volume_leg_by_id(volume, replica);
	int result = check_alive(volume, err);

	result = result < 0 ? result : check_newcomer(volume, voter, err);
	if (result == 0 && volume->committed && !is_voter) {
		result = check_turn(volume, CHANGE_ADD, replica, err);
	}
	if (result < 0) {
		return result;
	}
	if (leg != NULL) {
		peers_set_address(&volume->nexus->peers, &voter->agent, &voter->address);
		leg->resize.refused_bytes = 0; /* asked anew */
		task_wake(&volume->resizer.task);
	} else {
		result = leg_add(volume, voter, err);
	}
	if (result == 0 && volume->committed) {
		volume->change_refused = false;
		if (is_voter && change_is(volume, CHANGE_REMOVE, replica)) {
			volume->change = CHANGE_NONE; /* it stays */
			voters_update_min_insync(volume);
		} else if (!is_voter && volume->change == CHANGE_NONE) {
			change_begin(volume, CHANGE_ADD, replica);
		}
	}
	volume_changed(volume);
	return result;
}

/* Can the volume do without it? */
static int check_leaver(struct volume *volume, const struct uuid *replica, struct err *err)
{
	const struct leg *leg = volume_leg_by_id(volume, replica);
	leg_mask usable = volume->member_mask & ~volume_out_mask(volume);
	unsigned data = voters_data_count(volume);
	unsigned needed = (unsigned)min_u64(volume->options.min_insync, max_u64(data, 2) - 1);

	if (volume->cfg.voters[cfg_find(&volume->cfg, replica)].kind != VOTER_DATA) {
		return volume->cfg.voter_count > 1 ? 0
						   : err_set(err, -EBUSY, "it is the last voter");
	}
	if (data < 2) {
		return err_set(err, -EBUSY, "volume %s: it is the last data replica",
			volume->options.name);
	}
	if (leg == NULL || (volume->member_mask & LEG_BIT(leg)) == 0) {
		return 0;
	}
	usable &= ~LEG_BIT(leg);
	if (mask_count(usable) < needed) {
		return err_set(err, -EBUSY,
			"volume %s: without it %u replicas are in sync, and min_insync is %u",
			volume->options.name, mask_count(usable), needed);
	}
	return 0;
}

int volume_remove_voter(struct volume *volume, const struct uuid *replica, struct err *err)
{
	struct leg *leg = volume_leg_by_id(volume, replica);
	int result = check_alive(volume, err);

	if (result < 0) {
		return result;
	}
	if (!volume->committed) {
		return err_set(err, -EBUSY, "volume %s is not open yet: %s", volume->options.name,
			volume->reason);
	}
	if (cfg_find(&volume->cfg, replica) < 0) {
		if (change_is(volume, CHANGE_ADD, replica)) {
			volume->change = CHANGE_NONE; /* what was proposed is taken back */
		}
	} else if (!change_is(volume, CHANGE_REMOVE, replica)) {
		result = check_turn(volume, CHANGE_REMOVE, replica, err);
		result = result < 0 ? result : check_leaver(volume, replica, err);
		if (result < 0) {
			return result;
		}
		change_begin(volume, CHANGE_REMOVE, replica);
		if (leg != NULL && voters_are_enough_without(volume, leg)) {
			rebuild_drop(leg, "it is being removed");
		}
	}
	voters_follow(volume);
	volume_changed(volume);
	return 0;
}
