/* SPDX-License-Identifier: Apache-2.0 */
/* Where the replicas of a new volume go.  Pure. */
#ifndef CLI_PLACEMENT_H
#define CLI_PLACEMENT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct placement_pool {
	const char *name;
	const char *agent; /* distinct for each pool-agent */
	bool online;
	uint64_t capacity_bytes;
	uint64_t used_bytes;
	bool wanted; /* named by the user */
};

struct placement_wish {
	uint64_t size_bytes;
	unsigned replicas;
	bool arbiter;    /* one more, on an agent of its own */
	bool overcommit; /* pools smaller than the volume will do */
	bool by_name;    /* only pools that are wanted */
};

/*
 * Chooses pools on distinct agents, those with the most free space first; the arbiter comes last
 * and takes no space.  ret_chosen gets the indexes.  -ENOSPC with a text that says what is missing.
 */
int placement_choose(const struct placement_pool *pools, size_t pool_count,
	const struct placement_wish *wish, size_t *ret_chosen, struct err *err) __must_check;

#endif
