/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forced recovery begins a new lineage (docs/protocol.md 1.12); replicas of the one before may
 * come back at any time, and are never mixed with it (I8): they are fenced, and have no vote.
 */
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <inttypes.h>
#include <stdio.h>

bool lineage_fits(const struct volume *volume, const struct cfg *cfg)
{
	return cfg->gen == 0 || !volume->options.lineage_known ||
	       cfg->lineage == volume->options.lineage || mutant_is(MUTANT_LINEAGE_IGNORED);
}

void lineage_committed(struct volume *volume)
{
	volume->options.lineage = volume->cfg.lineage;
	volume->options.lineage_known = true;
}

bool lineage_is_in_doubt(struct volume *volume, leg_mask fenced)
{
	const struct leg *first = NULL;
	char id[2][UUID_TEXT_SIZE];

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		const struct cfg *cfg = &leg->answer.vmeta.cfg;

		if ((fenced & LEG_BIT(leg)) == 0 || cfg->gen == 0 ||
			mutant_is(MUTANT_LINEAGE_IGNORED)) {
			continue;
		}
		if (first == NULL) {
			first = leg;
		} else if (cfg->lineage != first->answer.vmeta.cfg.lineage) {
			uuid_to_text(&first->voter.replica, id[0]);
			uuid_to_text(&leg->voter.replica, id[1]);
			snprintf(volume->reason, sizeof(volume->reason),
				"two lineages after a forced recovery, and which of them is the "
				"volume is not recorded here: %016" PRIx64
				" (replica %.8s), %016" PRIx64 " (replica %.8s)",
				first->answer.vmeta.cfg.lineage, id[0], cfg->lineage, id[1]);
			return true;
		}
	}
	return false;
}
