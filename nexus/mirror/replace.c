/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking the place of a member that does not come back (docs/protocol.md 1.7).  A record needs all
 * of its S, so with min_insync members of which one is lost for good nobody could become a voter in
 * its place.  A member that has been out for so long that it does not just start again is left out
 * by a record that brings a data replica to V, and by the one that settles a change of V that was
 * proposed, however few stay.
 */
#include "nexus/mirror/volume_internal.h"

#define REPLACE_LOST_NS (60 * IO_NS_PER_S)

static bool replace_is_of(const struct volume *volume, const struct leg *leg)
{
	return leg->out && (volume->member_mask & LEG_BIT(leg)) != 0;
}

bool replace_may_leave_out(const struct volume *volume, const struct leg *leg)
{
	uint64_t lost_ns = volume->nexus->options.lost_ns;

	lost_ns = lost_ns != 0 ? lost_ns : REPLACE_LOST_NS;
	return leg->out && leg->out_since_ns != 0 &&
	       io_now_ns(volume->io) >= leg->out_since_ns + lost_ns &&
	       (volume->unsettled_change != CHANGE_NONE || voters_data_is_due(volume));
}

bool replace_wants_tick(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (replace_is_of(volume, volume->legs[i])) {
			return true;
		}
	}
	return false;
}

void replace_tick(struct volume *volume, uint64_t now_ns)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!replace_is_of(volume, leg)) {
			leg->out_since_ns = 0;
		} else if (leg->out_since_ns == 0) {
			leg->out_since_ns = now_ns;
		} else if (replace_may_leave_out(volume, leg)) {
			membership_wake(volume);
		}
	}
}
