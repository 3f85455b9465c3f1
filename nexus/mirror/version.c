/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of different versions (docs/protocol.md 1.1, min_version): a configuration says which
 * version it takes to understand it (cfg.min_version).  Who knows less has no part in it: a nexus
 * does not open the volume, a voter has no vote and is no member.
 */
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

bool version_is_understood(const struct leg *leg, const struct cfg *cfg)
{
	return leg->answer.cfg_version >= cfg->min_version;
}

/* false: the reason is set.  Nothing was changed by then but promises. */
bool version_is_ours(struct volume *volume)
{
	const struct nexus_options *options = &volume->nexus->options;

	if (volume->chosen.min_version <= options->cfg_version) {
		return true;
	}
	snprintf(volume->reason, sizeof(volume->reason),
		"its configuration is of version %u, and this nexus knows up to %u: upgrade the "
		"nexus of this node",
		volume->chosen.min_version, options->cfg_version);
	return false;
}

/* What was fenced before the configuration was known: it is judged when it is fenced anew. */
void version_elected(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (leg->ready && !version_is_understood(leg, &volume->cfg)) {
			leg->refence = true;
		}
	}
}

void version_name_outdated(const struct volume *volume, char reason[VOLUME_REASON_SIZE])
{
	size_t used = strlen(reason);
	unsigned count = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		count += leg->outdated ||
			 (leg->ready && !version_is_understood(leg, &volume->chosen));
	}
	if (count > 0) {
		snprintf(reason + used, VOLUME_REASON_SIZE - used,
			"; %u pool-agents are too old for the volume: upgrade them", count);
	}
}
