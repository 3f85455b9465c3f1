/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forced recovery begins a new lineage (docs/protocol.md 1.12); replicas of the one before may
 * come back at any time, and are never mixed with it (I8): they are fenced, and have no vote.
 */
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <inttypes.h>
#include <stdio.h>

static bool lineage_fits(const struct volume *volume, const struct cfg *cfg)
{
	return cfg->gen == 0 || !volume->options.lineage_known ||
	       cfg->lineage == volume->options.lineage || mutant_is(MUTANT_LINEAGE_IGNORED);
}

bool lineage_is_new(const struct cfg *cfg)
{
	return cfg->gen != 0 && cfg->epoch.nonce == cfg->lineage && !mutant_is(MUTANT_NO_OPEN_WAIT);
}

/*
 * No voter comes from another lineage, and none changes its own but by a forced recovery: so a
 * voter that has another one shows that ours was left behind.  It does not matter whose attach
 * number is higher.
 */
bool lineage_is_over(struct volume *volume, const struct cfg *cfg)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		char id[UUID_TEXT_SIZE];

		if (leg->foreign_lineage == 0 || !voters_has(cfg, leg) ||
			mutant_is(MUTANT_LINEAGE_GOES_ON)) {
			continue;
		}
		uuid_to_text(&leg->voter.replica, id);
		volume->superseded = true;
		volume->superseded_by = 0;
		snprintf(volume->reason, sizeof(volume->reason),
			"a forced recovery made replica %.8s the volume (lineage %016" PRIx64
			", this is %016" PRIx64 "): open that one, or delete that replica",
			id, leg->foreign_lineage, cfg->lineage);
		log_error(&volume->io->log, "nexus", "lineage-over",
			"volume=%s attach=%u replica=%s lineage=%016" PRIx64, volume->options.name,
			volume->options.attach, id, leg->foreign_lineage);
		volume_changed(volume);
		return true;
	}
	return false;
}

bool lineage_fenced(const struct leg *leg, const struct token *cur)
{
	return (cur->epoch.inc == 0 || leg->foreign_lineage != 0) &&
	       !mutant_is(MUTANT_LINEAGE_GOES_ON);
}

bool lineage_is_none_of_ours(const struct leg *leg)
{
	const struct volume *volume = leg->volume;

	return leg->foreign_lineage != 0 && volume->committed && !voters_has(&volume->cfg, leg);
}

void lineage_heard(struct leg *leg, const struct cfg *cfg)
{
	struct volume *volume = leg->volume;

	leg->foreign_lineage = lineage_fits(volume, cfg) ? 0 : cfg->lineage;
	if (volume->committed && !volume->superseded) {
		(void)lineage_is_over(volume, &volume->cfg);
	}
}

void lineage_committed(struct volume *volume)
{
	volume->options.lineage = volume->cfg.lineage;
	volume->options.lineage_known = true;
	(void)lineage_is_over(volume, &volume->cfg);
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
