/* SPDX-License-Identifier: Apache-2.0 */
/* All configurations that any nexus of a world has committed, in order of (epoch, gen). */
#ifndef SIM_CHAIN_H
#define SIM_CHAIN_H

#include "repl/record.h"

#include <stddef.h>

struct chain {
	struct cfg *cfgs; /* owned */
	size_t count;
	char reason[400]; /* why the last one did not fit */
};

/* false: it contradicts I7. */
bool chain_add(struct chain *chain, const struct cfg *cfg);
void chain_done(struct chain *chain);

#endif
