/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A failing seed made smaller: fewer faults, fewer requests, a shorter time, a simpler world, as
 * long as the same oracle complains.  Each attempt is a history of its own, with other options; so
 * what comes out is a failure of the same kind, not always the same one.
 */
#include "tests/sim/jobs.h"

#include <stdlib.h>
#include <string.h>

#define ATTEMPTS_MAX 400
#define SECONDS_MAX  90

struct shrinker {
	uint64_t seed;
	const char *given; /* the options that the caller set */
	char oracle[32];
	struct world_options options; /* the smallest that fails */
	char sets[1200];              /* what makes them */
	char reason[500];
	unsigned attempts;
	double end_s;
};

/* The options as they would be, written so that they can be given again. */
static void write_sets(
	const struct shrinker *shrinker, const struct world_options *options, char *to, size_t size)
{
	struct world_options drawn;
	size_t used = (size_t)snprintf(to, size, "%s", shrinker->given);

	world_draw_options(&drawn, shrinker->seed);
	(void)world_change_options(&drawn, shrinker->given);
	(void)world_options_difference(&drawn, options, to + used, size - used);
}

static bool still_fails(struct shrinker *shrinker, const struct world_options *options)
{
	struct world_result result;
	char sets[sizeof(shrinker->sets)];

	if (shrinker->attempts >= ATTEMPTS_MAX || seconds_now() > shrinker->end_s) {
		return false;
	}
	shrinker->attempts++;
	write_sets(shrinker, options, sets, sizeof(sets));
	job_run(shrinker->seed, sets, &result);
	if (result.reason[0] == '\0' || strcmp(result.oracle, shrinker->oracle) != 0) {
		return false;
	}
	shrinker->options = *options;
	memcpy(shrinker->sets, sets, sizeof(sets));
	memcpy(shrinker->reason, result.reason, sizeof(result.reason));
	return true;
}

/* Fault by fault, the last first, until none can go. */
static void drop_faults(struct shrinker *shrinker)
{
	bool changed = true;

	shrinker->options.fault_mask &= (UINT64_C(1) << shrinker->options.fault_count) - 1;
	while (changed) {
		changed = false;
		for (int i = FAULTS_MAX - 1; i >= 0; i--) {
			struct world_options options = shrinker->options;

			options.fault_mask &= ~(UINT64_C(1) << i);
			if (options.fault_mask != shrinker->options.fault_mask) {
				changed = still_fails(shrinker, &options) || changed;
			}
		}
	}
}

static void try_value(struct shrinker *shrinker, size_t offset, uint64_t value)
{
	struct world_options options = shrinker->options;

	if (memcmp((char *)&options + offset, &value, sizeof(value)) != 0) {
		memcpy((char *)&options + offset, &value, sizeof(value));
		(void)still_fails(shrinker, &options);
	}
}

/* Ever smaller between `least` and what it is, by halves. */
static void reduce(struct shrinker *shrinker, size_t offset, uint64_t least, uint64_t most)
{
	while (least < most) {
		uint64_t middle = least + (most - least) / 2;
		uint64_t now;

		try_value(shrinker, offset, middle);
		memcpy(&now, (char *)&shrinker->options + offset, sizeof(now));
		if (now == middle) {
			most = middle;
		} else {
			least = middle + 1;
		}
	}
}

#define FIELD(name) offsetof(struct world_options, name)

static void simplify(struct shrinker *shrinker)
{
	try_value(shrinker, FIELD(power_cycle_at_end), 0);
	try_value(shrinker, FIELD(down_at_end), 0);
	try_value(shrinker, FIELD(voter_changes), 0);
	try_value(shrinker, FIELD(no_quorum_ns), 0);
	try_value(shrinker, FIELD(rotten_too), UINT64_MAX);
	try_value(shrinker, FIELD(rotten_agent), UINT64_MAX);
	try_value(shrinker, FIELD(absent_agent), UINT64_MAX);
	try_value(shrinker, FIELD(local_agent), UINT64_MAX);
	try_value(shrinker, FIELD(small_agent), UINT64_MAX);
	try_value(shrinker, FIELD(clock_ppm), 0);
	try_value(shrinker, FIELD(depth), 1);
	try_value(shrinker, FIELD(start_blocks), UINT64_MAX);
	try_value(shrinker, FIELD(block_count), 64);
}

static unsigned fault_count(const struct world_options *options)
{
	uint64_t all = (UINT64_C(1) << options->fault_count) - 1;

	return (unsigned)__builtin_popcountll(options->fault_mask & all);
}

void shrink(uint64_t seed, const char *sets, const struct world_result *failed)
{
	struct shrinker shrinker = {
		.seed = seed,
		.given = sets,
		.end_s = seconds_now() + SECONDS_MAX,
	};
	unsigned faults;

	(void)snprintf(shrinker.oracle, sizeof(shrinker.oracle), "%s", failed->oracle);
	(void)snprintf(shrinker.reason, sizeof(shrinker.reason), "%s", failed->reason);
	(void)snprintf(shrinker.sets, sizeof(shrinker.sets), "%s", sets);
	world_draw_options(&shrinker.options, seed);
	(void)world_change_options(&shrinker.options, sets);
	faults = fault_count(&shrinker.options);
	drop_faults(&shrinker);
	simplify(&shrinker);
	reduce(&shrinker, FIELD(ops_max), 0, min_u64(shrinker.options.ops_max, failed->ops + 100));
	reduce(&shrinker, FIELD(duration_ns), 1, shrinker.options.duration_ns);
	drop_faults(&shrinker);
	printf("shrunk seed %lu with %u attempts: %u faults of %u, at most %lu requests; %s: %s\n"
	       "  replay: tests/sim/run --seed %lu --set '%s'%s\n",
		(unsigned long)seed, shrinker.attempts, fault_count(&shrinker.options), faults,
		(unsigned long)shrinker.options.ops_max, shrinker.oracle, shrinker.reason,
		(unsigned long)seed, shrinker.sets + (shrinker.sets[0] == ' '), mutant_argument());
	(void)fflush(stdout);
}
