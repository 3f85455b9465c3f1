/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members that answer, but slowly (docs/protocol.md 1.11).  Every acknowledgement waits for all of
 * S, so one slow member slows the volume for ever.  It leaves S when its host writes took more than
 * ten times as long as its peers' for ten seconds (eject.c), unless all are slow: that is the
 * nexus's own network.
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
#define SLOW_ALL_NS (200 * IO_NS_PER_MS)
#define SLOW_FOR_NS (10 * IO_NS_PER_S)
/* An idle volume: what was seen before that is another story. */
#define SLOW_GAP_WINDOWS 5

static uint64_t slow_for_ns(const struct volume *volume)
{
	const struct nexus_options *options = &volume->nexus->options;

	return options->slow_ns != 0 ? options->slow_ns : SLOW_FOR_NS;
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
	leg_mask peers = eject_members(volume) & ~LEG_BIT(leg);
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
	leg_mask members = eject_members(volume);
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

static void slow_eject(struct leg *leg)
{
	char reason[80];

	(void)snprintf(reason, sizeof(reason), "slow: %llu ms a write, its peers %llu ms",
		(unsigned long long)(leg->slow.mean_ns / IO_NS_PER_MS),
		(unsigned long long)(slow_peers_ns(leg) / IO_NS_PER_MS));
	if (eject_member(leg, reason)) {
		slow_clear_strikes(leg);
	}
}

void slow_tick(struct volume *volume, uint64_t now_ns, bool late)
{
	struct leg *worst = NULL;

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

		if (!(eject_members(volume) & LEG_BIT(leg))) {
			slow_clear_strikes(leg);
			continue;
		}
		slow_judge(leg, now_ns);
		if (slow_is_proven(leg, now_ns) &&
			(worst == NULL || leg->slow.mean_ns > worst->slow.mean_ns)) {
			worst = leg;
		}
	}
	if (worst != NULL && !volume->slow_all) {
		slow_eject(worst);
	}
}
