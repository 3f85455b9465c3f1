/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/placement.h"

#include "base/size.h"

#include <errno.h>
#include <string.h>

static uint64_t free_bytes(const struct placement_pool *pool)
{
	return pool->capacity_bytes > pool->used_bytes ? pool->capacity_bytes - pool->used_bytes
						       : 0;
}

static bool fits(
	const struct placement_pool *pool, const struct placement_wish *wish, bool for_arbiter)
{
	return pool->online && (pool->wanted || !wish->by_name) &&
	       (for_arbiter || wish->overcommit || pool->capacity_bytes >= wish->size_bytes);
}

static bool agent_is_taken(
	const struct placement_pool *pools, const char *agent, const size_t *chosen, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(pools[chosen[i]].agent, agent) == 0) {
			return true;
		}
	}
	return false;
}

/* Why nothing was found, and the way out. */
static int explain(const struct placement_pool *pools, size_t pool_count,
	const struct placement_wish *wish, unsigned found, struct err *err)
{
	unsigned needed = wish->replicas + wish->arbiter;
	uint64_t largest = 0;
	char size[SIZE_TEXT_SIZE], largest_text[SIZE_TEXT_SIZE];
	unsigned too_small = 0;

	for (size_t i = 0; i < pool_count; i++) {
		if (pools[i].online && (pools[i].wanted || !wish->by_name)) {
			too_small += pools[i].capacity_bytes < wish->size_bytes;
			largest = pools[i].capacity_bytes > largest ? pools[i].capacity_bytes
								    : largest;
		}
	}
	if (too_small > 0 && !wish->overcommit) {
		return err_set(err, -ENOSPC,
			"the volume's size %s is larger than %u of the pools (the largest holds "
			"%s), and %u of %u "
			"replicas found a place; choose a smaller size, add pools, or allow it "
			"with --overcommit",
			size_to_text(wish->size_bytes, size), too_small,
			size_to_text(largest, largest_text), found, needed);
	}
	return err_set(err, -ENOSPC,
		"%u replicas%s need online pools on %u different agents, and there are %u%s; add "
		"pools or ask for fewer "
		"replicas",
		wish->replicas, wish->arbiter ? " and an arbiter" : "", needed, found,
		wish->by_name ? " among the pools given with --pool" : "");
}

int placement_choose(const struct placement_pool *pools, size_t pool_count,
	const struct placement_wish *wish, size_t *ret_chosen, struct err *err)
{
	unsigned needed = wish->replicas + wish->arbiter;

	for (unsigned count = 0; count < needed; count++) {
		bool for_arbiter = count == wish->replicas;
		size_t best = pool_count;

		for (size_t i = 0; i < pool_count; i++) {
			if (fits(&pools[i], wish, for_arbiter) &&
				!agent_is_taken(pools, pools[i].agent, ret_chosen, count) &&
				(best == pool_count ||
					free_bytes(&pools[i]) > free_bytes(&pools[best]))) {
				best = i;
			}
		}
		if (best == pool_count) {
			return explain(pools, pool_count, wish, count, err);
		}
		ret_chosen[count] = best;
	}
	return 0;
}
