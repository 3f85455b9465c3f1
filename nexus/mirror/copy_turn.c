/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many pieces are compared or copied at once with a pool-agent, by all volumes of this nexus
 * (docs/protocol.md 1.8): as many as it answers in time.  They queue there, and what the host writes
 * queues behind them: a disk that is slow, and has too much to copy, must not be taken for one that
 * does not answer.
 *
 * It begins with one piece; each command that is answered in time makes it one more, each late one
 * half as many.  Who finds no turn asks again soon; who has just had one, and others were turned
 * away, asks later than they do.
 */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"

#define TURN_LATE_NS (500 * IO_NS_PER_MS)
#define TURNS_MAX    64u /* an association has 128 commands, which the host needs too */
#define TURN_POLL_NS (20 * IO_NS_PER_MS)

leg_mask copy_turn_free(const struct volume *volume)
{
	leg_mask mask = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (!leg->vacant && leg->peer->copies < max_u64(leg->peer->copies_max, 1)) {
			mask |= LEG_BIT(leg);
		}
	}
	return mask;
}

/* 0: now; else to be asked again then. */
uint64_t copy_turn_due_ns(const struct copier *copier, leg_mask all, leg_mask any)
{
	struct volume *volume = copier->volume;
	uint64_t now_ns = io_now_ns(volume->io);
	leg_mask free = copy_turn_free(volume);

	if (now_ns < copier->turn_ns) {
		return copier->turn_ns;
	}
	if ((all & ~free) == 0 && (any == 0 || (any & free) != 0)) {
		return 0;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if ((all | any) & ~free & (leg_mask)1 << i && !volume->legs[i]->vacant) {
			volume->legs[i]->peer->copy_wanted = true;
		}
	}
	return now_ns + TURN_POLL_NS;
}

void copy_turn_begin(struct copier *copier)
{
	struct volume *volume = copier->volume;

	copier->turns = copier_destinations(copier) | (leg_mask)1 << copier->source;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (copier->turns & (leg_mask)1 << i) {
			volume->legs[i]->peer->copies++;
		}
	}
}

void copy_turn_end(struct copier *copier)
{
	struct volume *volume = copier->volume;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct peer *peer = volume->legs[i]->peer;

		if (!(copier->turns & (leg_mask)1 << i)) {
			continue;
		}
		assert(peer->copies > 0);
		peer->copies--;
		if (peer->copy_wanted) {
			peer->copy_wanted = false;
			copier->turn_ns = io_now_ns(volume->io) + 2 * TURN_POLL_NS;
		}
	}
	copier->turns = 0;
}

void copy_turn_answered(const struct leg_io *lio)
{
	struct peer *peer = lio->leg->peer;
	uint64_t most = max_u64(peer->copies_max, 1);

	if (lio->result == LEG_RESET) {
		return;
	}
	if (io_now_ns(lio->leg->volume->io) < lio->started_ns + TURN_LATE_NS) {
		most = min_u64(most + 1, TURNS_MAX);
	} else {
		most = max_u64(most / 2, 1);
	}
	peer->copies_max = (unsigned)most;
}
