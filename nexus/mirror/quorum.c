/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests while too few replicas are there (docs/protocol.md 1.7): they wait, for ever if need be,
 * or, where the volume says so, they end in errors once that has lasted for long enough, until it
 * is over.
 */
#include "nexus/mirror/volume_internal.h"

/* Reads and writes could be answered now, or in the next moment. */
static bool quorum_is_there(const struct volume *volume)
{
	leg_mask usable = volume->member_mask & ~volume_out_mask(volume);

	return volume->serving && !volume->proposal_open && volume_lease_is_valid(volume) &&
	       mask_count(usable) >= volume->min_insync;
}

bool quorum_wants_tick(const struct volume *volume)
{
	return volume->no_quorum_ns != 0 &&
	       (volume->quorum_lost_ns != 0 || !list_is_empty(&volume->ops));
}

static void quorum_set_failing(struct volume *volume, bool failing)
{
	if (volume->failing == failing) {
		return;
	}
	volume->failing = failing;
	log_warning(&volume->io->log, "nexus",
		failing ? "requests-fail-without-quorum" : "requests-wait-again", "volume=%s",
		volume->options.name);
	volume_changed(volume);
}

void quorum_tick(struct volume *volume, uint64_t now_ns, bool late)
{
	if (volume->no_quorum_ns == 0 || volume_is_dead(volume) || quorum_is_there(volume)) {
		volume->quorum_lost_ns = 0;
		quorum_set_failing(volume, false);
		return;
	}
	if (volume->quorum_lost_ns == 0 || late) {
		volume->quorum_lost_ns = now_ns;
	}
	quorum_set_failing(
		volume, volume->failing || now_ns >= volume->quorum_lost_ns + volume->no_quorum_ns);
}

void volume_set_no_quorum(struct volume *volume, uint64_t error_after_ns)
{
	volume->no_quorum_ns = error_after_ns;
	if (error_after_ns == 0) {
		volume->quorum_lost_ns = 0;
		quorum_set_failing(volume, false);
	}
	volume_tick_start(volume);
}
