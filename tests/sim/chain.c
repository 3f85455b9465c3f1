/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committed configurations form a chain (I7): one content for each (epoch, gen), and of two that
 * follow each other any two majorities have a voter in common, or a later opener could miss one.
 */
#include "tests/sim/chain.h"

#include <stdio.h>
#include <stdlib.h>

#define CHAIN_STEP 256

void chain_done(struct chain *chain)
{
	free(chain->cfgs);
	*chain = (struct chain){0};
}

static bool majorities_meet(const struct cfg *a, const struct cfg *b)
{
	unsigned all = a->voter_count;

	for (unsigned i = 0; i < b->voter_count; i++) {
		all += cfg_find(a, &b->voters[i].id) < 0;
	}
	return cfg_majority(a) + cfg_majority(b) > all;
}

static bool pair_is_good(struct chain *chain, const struct cfg *before, const struct cfg *after)
{
	char text[2][CFG_TEXT_SIZE];

	if (cfg_compare(before, after) == 0
			? cfg_equal(before, after)
			: before->lineage == after->lineage && majorities_meet(before, after)) {
		return true;
	}
	(void)snprintf(chain->reason, sizeof(chain->reason), "%.180s is followed by %.180s",
		cfg_to_text(before, text[0]), cfg_to_text(after, text[1]));
	return false;
}

bool chain_add(struct chain *chain, const struct cfg *cfg)
{
	size_t at = chain->count;

	if (chain->count % CHAIN_STEP == 0) {
		struct cfg *more =
			realloc(chain->cfgs, (chain->count + CHAIN_STEP) * sizeof(*chain->cfgs));

		if (more == NULL) {
			abort();
		}
		chain->cfgs = more;
	}
	/* An older nexus may hear late that it had committed. */
	while (at > 0 && cfg_compare(&chain->cfgs[at - 1], cfg) > 0) {
		chain->cfgs[at] = chain->cfgs[at - 1];
		at--;
	}
	chain->cfgs[at] = *cfg;
	chain->count++;
	return (at == 0 || pair_is_good(chain, &chain->cfgs[at - 1], cfg)) &&
	       (at + 1 == chain->count || pair_is_good(chain, cfg, &chain->cfgs[at + 1]));
}
