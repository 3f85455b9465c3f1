/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members that answer, but slowly (docs/protocol.md 1.11).  Every acknowledgement waits for all of
 * S, so one slow member slows the volume for ever.  It leaves S when its host writes took more than
 * ten times as long as its peers' for ten seconds, and comes back by a rebuild, not at once.
 *
 * Being wrong here costs redundancy, so there is much that must not happen: too few members left;
 * one after the other within a minute; all volumes of a pool-agent at once; the nexus's own network
 * taken for its replicas'.
 */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

#define SLOW_WINDOW_NS IO_NS_PER_S
#define SLOW_FACTOR    10
/* Below it nobody is slow: a replica on the nexus's own node may well be ten times as fast. */
#define SLOW_MIN_NS (20 * IO_NS_PER_MS)
/* Peers that take that long are not fast: with ten times as much the 2 s without an answer decide.
 */
#define SLOW_ALL_NS         (200 * IO_NS_PER_MS)
#define SLOW_FOR_NS         (10 * IO_NS_PER_S)
#define SLOW_AWAY_NS        (60 * IO_NS_PER_S)
#define SLOW_AWAY_DOUBLINGS 4
/* An idle volume: what was seen before that is another story. */
#define SLOW_GAP_WINDOWS 5
#define SLOW_PAUSE_NS    (60 * IO_NS_PER_S)
/* Of a pool-agent's replicas that are in use here, at most one in so many is out at a time (one
 * always may be): when all volumes find the same agent slow, the others keep their redundancy. */
#define SLOW_AGENT_PART 4

static uint64_t slow_for_ns(const struct volume *volume)
{
	const struct nexus_options *options = &volume->nexus->options;

	return options->slow_ns != 0 ? options->slow_ns : SLOW_FOR_NS;
}

static uint64_t slow_away_ns(const struct volume *volume)
{
	const struct nexus_options *options = &volume->nexus->options;

	return options->slow_away_ns != 0 ? options->slow_away_ns : SLOW_AWAY_NS;
}

/* Ready members of S that nobody wants out. */
static leg_mask slow_members(const struct volume *volume)
{
	return volume->member_mask & volume_ready_mask(volume) & ~volume_out_mask(volume);
}

/* ---- what is measured ---- */

void slow_note_write(struct leg *leg, uint64_t latency_ns)
{
	leg->slow.count++;
	leg->slow.sum_ns += latency_ns;
}

/* What is under way for longer than the mean counts as well: it will not get faster. */
static void slow_end_window(struct leg *leg, uint64_t now_ns)
{
	struct slow_leg *slow = &leg->slow;
	struct list_node *first = list_first(&leg->inflight);
	uint64_t mean_ns = slow->count > 0 ? slow->sum_ns / slow->count : 0;

	slow->known = slow->count > 0;
	if (first != NULL && leg->ready) {
		const struct leg_io *lio = container_of(first, struct leg_io, node);

		if (now_ns - lio->started_ns > max_u64(mean_ns, SLOW_MIN_NS)) {
			mean_ns = now_ns - lio->started_ns;
			slow->known = true;
		}
	}
	if (slow->known) {
		slow->mean_ns = mean_ns;
		slow->smooth_ns =
			slow->smooth_ns == 0 ? mean_ns : (3 * slow->smooth_ns + mean_ns) / 4;
		metric_set(&leg->write_latency, (int64_t)mean_ns);
	}
	slow->count = 0;
	slow->sum_ns = 0;
}

/*
 * The median of the others' means (of an even number the upper one of the two in the middle: in
 * doubt nobody is slow); 0: nothing can be said.  A remote member is compared with remote ones: one
 * on the nexus's own node says nothing of the network.
 */
static uint64_t slow_peers_ns(const struct leg *leg)
{
	const struct volume *volume = leg->volume;
	leg_mask peers = slow_members(volume) & ~LEG_BIT(leg);
	uint64_t sorted[REPL_VOTERS_MAX];
	unsigned count = 0;

	if (!(volume->local_mask & LEG_BIT(leg))) {
		if ((peers & ~volume->local_mask) == 0) {
			return 0;
		}
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		uint64_t mean_ns = volume->legs[i]->slow.mean_ns;
		unsigned at = count;

		if (!(peers & (leg_mask)1 << i) || mean_ns == 0) {
			continue;
		}
		while (at > 0 && sorted[at - 1] > mean_ns) {
			sorted[at] = sorted[at - 1];
			at--;
		}
		sorted[at] = mean_ns;
		count++;
	}
	return count == 0 ? 0 : sorted[count / 2];
}

/* ---- what is made of it ---- */

static void slow_clear_strikes(struct leg *leg)
{
	leg->slow.strikes = 0;
	leg->slow.strikes_from_ns = 0;
}

static void slow_judge(struct leg *leg, uint64_t now_ns)
{
	struct slow_leg *slow = &leg->slow;
	uint64_t peers_ns = slow_peers_ns(leg);

	if (!slow->known) {
		return;
	}
	if (peers_ns == 0 || peers_ns >= SLOW_ALL_NS || slow->mean_ns < SLOW_MIN_NS ||
		slow->mean_ns <= SLOW_FACTOR * peers_ns) {
		slow_clear_strikes(leg);
		return;
	}
	if (slow->strikes == 0 ||
		now_ns > slow->strike_last_ns + SLOW_GAP_WINDOWS * SLOW_WINDOW_NS) {
		slow->strikes = 0;
		slow->strikes_from_ns = now_ns;
	}
	slow->strikes++;
	slow->strike_last_ns = now_ns;
}

/* All remote members (or all there are) are slow by any measure, until one is twice as fast. */
static void slow_judge_all(struct volume *volume, uint64_t now_ns)
{
	leg_mask members = slow_members(volume);
	uint64_t fastest_ns = UINT64_MAX;
	bool was = volume->slow_all;

	if (members & ~volume->local_mask) {
		members &= ~volume->local_mask;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct slow_leg *slow = &volume->legs[i]->slow;

		if ((members & (leg_mask)1 << i) && slow->known) {
			fastest_ns = min_u64(fastest_ns, slow->smooth_ns);
		}
	}
	if (fastest_ns == UINT64_MAX) {
		return;
	}
	if (fastest_ns < SLOW_ALL_NS / 2) {
		volume->slow_all_from_ns = 0;
	} else if (fastest_ns >= SLOW_ALL_NS && volume->slow_all_from_ns == 0) {
		volume->slow_all_from_ns = now_ns;
	}
	volume->slow_all = volume->slow_all_from_ns != 0 &&
			   now_ns >= volume->slow_all_from_ns + slow_for_ns(volume);
	metric_set(&volume->all_slow, volume->slow_all);
	if (volume->slow_all && !was) {
		log_warning(&volume->io->log, "nexus", "all-replicas-slow",
			"volume=%s note=\"none is dropped for it: perhaps this node's network\"",
			volume->options.name);
	}
	if (volume->slow_all != was) {
		volume_changed(volume);
	}
}

static bool slow_is_proven(const struct leg *leg, uint64_t now_ns)
{
	const struct slow_leg *slow = &leg->slow;

	return slow->strikes > 1 && now_ns >= slow->strikes_from_ns + slow_for_ns(leg->volume) &&
	       (slow->strikes + 1) * 2 * SLOW_WINDOW_NS >= now_ns - slow->strikes_from_ns;
}

static bool slow_may_go(const struct leg *leg, uint64_t now_ns)
{
	const struct volume *volume = leg->volume;
	const struct peer *peer = leg->peer;

	if (!volume->serving || volume->proposal_open || volume->joiner != NULL ||
		volume->slow_all || !(slow_members(volume) & LEG_BIT(leg))) {
		return false;
	}
	if (mask_count(slow_members(volume) & ~LEG_BIT(leg)) < max_u64(volume->min_insync, 1)) {
		return false;
	}
	if (volume->slow_ejected_ns != 0 && now_ns < volume->slow_ejected_ns + SLOW_PAUSE_NS) {
		return false;
	}
	return peer->ejected == 0 || (peer->ejected + 1) * SLOW_AGENT_PART <= peer->users;
}

static void slow_eject(struct leg *leg, uint64_t now_ns)
{
	struct volume *volume = leg->volume;
	struct slow_leg *slow = &leg->slow;
	uint64_t first_ns = slow_away_ns(volume);
	char reason[sizeof(leg->reason)];

	/* The one that was good for long begins anew. */
	if (slow->away_ns == 0 || now_ns > slow->returned_ns + 4 * slow->away_ns) {
		slow->away_ns = first_ns;
	} else {
		slow->away_ns = min_u64(2 * slow->away_ns, first_ns << SLOW_AWAY_DOUBLINGS);
	}
	slow->ejected = true;
	slow->until_ns = now_ns + slow->away_ns;
	slow->members_beside = mask_count(slow_members(volume) & ~LEG_BIT(leg));
	leg->peer->ejected++;
	volume->slow_ejected_ns = now_ns;
	metric_inc(&leg->ejections, 1);
	(void)snprintf(reason, sizeof(reason),
		"slow: %llu ms a write, its peers %llu ms; out for %llu s",
		(unsigned long long)(slow->mean_ns / IO_NS_PER_MS),
		(unsigned long long)(slow_peers_ns(leg) / IO_NS_PER_MS),
		(unsigned long long)(slow->away_ns / IO_NS_PER_S));
	slow_clear_strikes(leg);
	leg_fail(leg, reason);
}

bool slow_keeps_out(const struct leg *leg)
{
	const struct volume *volume = leg->volume;
	unsigned beside =
		mask_count(volume->member_mask & ~volume_out_mask(volume) & ~LEG_BIT(leg));

	/* When another one fails a slow member is better than none. */
	return leg->slow.ejected && io_now_ns(volume->io) < leg->slow.until_ns &&
	       beside >= leg->slow.members_beside;
}

void slow_returned(struct leg *leg)
{
	if (!leg->slow.ejected) {
		return;
	}
	leg->slow.ejected = false;
	leg->slow.returned_ns = io_now_ns(leg->volume->io);
	assert(leg->peer->ejected > 0);
	leg->peer->ejected--;
}

/* Its time is over, or it is needed. */
static void slow_let_back(struct leg *leg)
{
	if (!leg->slow.ejected || slow_keeps_out(leg)) {
		return;
	}
	if (leg->out && leg->ready && (leg->volume->member_mask & LEG_BIT(leg))) {
		/* It is a member still: in place, after everything is sent that it missed. */
		leg->refence = true;
		task_wake(&leg->task);
	}
	task_wake(&leg->rebuild_task);
}

bool slow_wants_tick(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->slow.ejected) {
			return true;
		}
	}
	return false;
}

void slow_tick(struct volume *volume, uint64_t now_ns, bool late)
{
	struct leg *worst = NULL;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		slow_let_back(volume->legs[i]);
	}
	if (!late && now_ns < volume->slow_window_from_ns + SLOW_WINDOW_NS) {
		return;
	}
	volume->slow_window_from_ns = now_ns;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (late) {
			leg->slow.count = 0;
			leg->slow.sum_ns = 0;
			slow_clear_strikes(leg);
		} else {
			slow_end_window(leg, now_ns);
		}
	}
	if (late || !volume->serving) {
		return;
	}
	slow_judge_all(volume, now_ns);
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!(slow_members(volume) & LEG_BIT(leg))) {
			slow_clear_strikes(leg);
			continue;
		}
		slow_judge(leg, now_ns);
		if (slow_is_proven(leg, now_ns) &&
			(worst == NULL || leg->slow.mean_ns > worst->slow.mean_ns)) {
			worst = leg;
		}
	}
	if (worst != NULL && slow_may_go(worst, now_ns)) {
		slow_eject(worst, now_ns);
	}
}
