/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator.  Each seed runs in a process of its own, several at a time, so that an assertion
 * fails one seed and not the run.
 *
 *   sim [--seeds N] [--first S] [--minutes M] [--jobs J]   many seeds
 *   sim --seed S [--io]                                    one, with its trace
 *   sim --seed S --shrink                                  makes a failing one smaller
 *   sim --mutants [--seeds N]                              each deliberate bug, until it is found
 * or N seeds have passed
 *   --set "name=value ..."                                 other options (options.c)
 *   --mutant B1                                            with that deliberate bug (with
 * --mutants: that one only)
 */
#include "base/mutant.h"
#include "tests/sim/jobs.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAILURES_SHOWN   10
#define MEANS_FROM_SEEDS 20
/* Seeds that one process runs. */
#define JOB_SEEDS 10

struct options {
	uint64_t seeds, first, seed;
	unsigned minutes, jobs;
	bool one, io, mutants, quiet, until_failure, shrink, no_shrink;
	enum mutant mutant;
	char sets[1000];
};

struct totals {
	uint64_t seeds, failures;
	struct world_result sum;
	uint64_t first_failed;
	struct world_result first;
};

static void set_mutant(enum mutant mutant)
{
#ifdef STRAKE_MUTANTS
	mutant_active = mutant;
#else
	if (mutant != MUTANT_NONE) {
		fprintf(stderr, "sim: built without deliberate bugs (cmake preset \"mutants\")\n");
		exit(2);
	}
#endif
}

/* ---- many ---- */

static void print_replay(const struct options *options, uint64_t seed)
{
	printf("  replay: tests/sim/run --seed %lu", (unsigned long)seed);
	if (options->sets[0] != '\0') {
		printf(" --set '%s'", options->sets);
	}
	printf("%s\n", mutant_argument());
}

static void totals_add(struct totals *totals, const struct options *options, uint64_t seed,
	const struct world_result *result)
{
	struct world_result *sum = &totals->sum;

	totals->seeds++;
	sum->ops += result->ops;
	sum->errors += result->errors;
	sum->crashes += result->crashes;
	sum->power_losses += result->power_losses;
	sum->partitions += result->partitions;
	sum->takeovers += result->takeovers;
	sum->faulted += result->faulted;
	sum->lost += result->lost;
	sum->flips += result->flips;
	sum->diverged += result->diverged;
	sum->stuck += result->stuck;
	sum->broken += result->broken;
	sum->rotten += result->rotten;
	sum->unreadable += result->unreadable;
	sum->snapshots += result->snapshots;
	sum->live_ns = max_u64(sum->live_ns, result->live_ns);
	/* In whatever order they come in. */
	sum->hash ^= (result->hash ^ seed) * UINT64_C(0x9E3779B97F4A7C15);
	if (result->reason[0] == '\0') {
		return;
	}
	if (totals->failures++ == 0 || seed < totals->first_failed) {
		totals->first_failed = seed;
		totals->first = *result;
	}
	if (!options->quiet && totals->failures <= FAILURES_SHOWN) {
		printf("seed %lu: %s: %s\n", (unsigned long)seed, result->oracle, result->reason);
		print_replay(options, seed);
	}
}

static void print_progress(const struct totals *totals, double start)
{
	printf("[%5.1fs] %lu seeds, %lu operations (%lu failed), %lu crashes, %lu losses of power, "
	       "%lu partitions, %lu takeovers, %lu faulted, %lu rotten blocks, %lu lost on all "
	       "disks, %lu snapshots; %lu seeds failed\n",
		seconds_now() - start, (unsigned long)totals->seeds, (unsigned long)totals->sum.ops,
		(unsigned long)totals->sum.errors, (unsigned long)totals->sum.crashes,
		(unsigned long)totals->sum.power_losses, (unsigned long)totals->sum.partitions,
		(unsigned long)totals->sum.takeovers, (unsigned long)totals->sum.faulted,
		(unsigned long)totals->sum.rotten, (unsigned long)totals->sum.unreadable,
		(unsigned long)totals->sum.snapshots, (unsigned long)totals->failures);
	(void)fflush(stdout);
}

static unsigned start_jobs(
	const struct options *options, struct job *jobs, uint64_t *next, bool stop)
{
	uint64_t end = options->first + options->seeds;
	unsigned running = 0;

	for (unsigned i = 0; i < options->jobs; i++) {
		if (stop) {
			job_kill(&jobs[i]);
		} else if (jobs[i].pid == 0 && *next < end) {
			uint64_t from = *next;

			*next = min_u64(from + JOB_SEEDS, end);
			job_start(&jobs[i], from, *next, options->sets);
		}
		running += jobs[i].pid != 0;
	}
	return running;
}

static void collect_jobs(const struct options *options, struct job *jobs, struct totals *totals)
{
	struct pollfd fds[JOBS_MAX];

	for (unsigned i = 0; i < options->jobs; i++) {
		fds[i] =
			(struct pollfd){.fd = jobs[i].pid != 0 ? jobs[i].fd : -1, .events = POLLIN};
	}
	(void)poll(fds, options->jobs, -1);
	for (unsigned i = 0; i < options->jobs; i++) {
		if (jobs[i].pid != 0 && fds[i].revents != 0) {
			struct world_result result;
			uint64_t seed = jobs[i].seed;

			job_take_result(&jobs[i], options->sets, &result);
			totals_add(totals, options, seed, &result);
		}
	}
}

static void run_seeds(const struct options *options, struct totals *totals)
{
	struct job jobs[JOBS_MAX] = {0};
	uint64_t next = options->first;
	double start = seconds_now();
	double shown = start;

	*totals = (struct totals){0};
	for (;;) {
		double now = seconds_now();
		bool stop = (options->until_failure && totals->failures > 0) ||
			    (options->minutes > 0 && now - start > options->minutes * 60.0);

		if (start_jobs(options, jobs, &next, stop) == 0) {
			break;
		}
		collect_jobs(options, jobs, totals);
		if (!options->quiet && now - shown > 5) {
			shown = now;
			print_progress(totals, start);
		}
	}
	if (!options->quiet) {
		print_progress(totals, start);
	}
}

static const char *commit(void)
{
	const char *text = getenv("STRAKE_COMMIT"); /* of tests/sim/run */

	return text != NULL ? text : "unknown";
}

static int run_many(const struct options *options)
{
	struct totals totals;
	const struct world_result *sum = &totals.sum;
	bool idle;

	run_seeds(options, &totals);
	idle = totals.seeds >= MEANS_FROM_SEEDS &&
	       (sum->ops < 50 * totals.seeds || sum->crashes < totals.seeds ||
		       sum->partitions < totals.seeds);
	if (idle) {
		printf("too little happens: less than 50 operations, 1 crash and 1 partition a "
		       "seed\n");
	}
	if (totals.failures > 0) {
		printf("%lu of %lu seeds failed (stuck %lu, broken %lu); the first: seed %lu: %s: "
		       "%s\n",
			(unsigned long)totals.failures, (unsigned long)totals.seeds,
			(unsigned long)sum->stuck, (unsigned long)sum->broken,
			(unsigned long)totals.first_failed, totals.first.oracle,
			totals.first.reason);
		if (!options->no_shrink) {
			shrink(totals.first_failed, options->sets, &totals.first);
		}
	}
	printf("longest wait with a minority down: %.1f s\n", (double)sum->live_ns / 1e9);
	printf("seeds from %lu, commit %s, hash %016lx\n", (unsigned long)options->first, commit(),
		(unsigned long)sum->hash);
	printf("seeds=%lu ops=%lu crashes=%lu partitions=%lu lost=%lu flips=%lu diverged=%lu\n",
		(unsigned long)totals.seeds, (unsigned long)sum->ops, (unsigned long)sum->crashes,
		(unsigned long)sum->partitions, (unsigned long)sum->lost, (unsigned long)sum->flips,
		(unsigned long)sum->diverged);
	return totals.failures > 0 || idle || totals.seeds == 0;
}

static int run_one(const struct options *options)
{
	struct world_request request = {
		.seed = options->seed,
		.sets = options->sets,
		.trace = options->quiet ? NULL : stdout,
		.trace_io = options->io,
	};
	struct world_result result;

	/* Nothing of the trace may be missing when an assertion fails. */
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	world_run(&request, &result);
	if (result.reason[0] != '\0') {
		printf("seed %lu: %s: %s\n", (unsigned long)options->seed, result.oracle,
			result.reason);
		print_replay(options, options->seed);
	}
	printf("seed %lu, commit %s, hash %016lx after %lu steps\n", (unsigned long)options->seed,
		commit(), (unsigned long)result.hash, (unsigned long)result.steps);
	printf("seeds=1 ops=%lu crashes=%lu partitions=%lu lost=%lu flips=%lu diverged=%lu\n",
		(unsigned long)result.ops, (unsigned long)result.crashes,
		(unsigned long)result.partitions, (unsigned long)result.lost,
		(unsigned long)result.flips, (unsigned long)result.diverged);
	return result.reason[0] != '\0';
}

static int run_shrink(const struct options *options)
{
	struct world_result result;

	job_run(options->seed, options->sets, &result);
	if (result.reason[0] == '\0') {
		printf("seed %lu does not fail\n", (unsigned long)options->seed);
		return 1;
	}
	shrink(options->seed, options->sets, &result);
	return 0;
}

static bool find_mutant(const struct options *options, enum mutant mutant)
{
	struct options these = *options;
	struct totals totals;
	double start = seconds_now();

	these.quiet = true;
	these.until_failure = true;
	(void)snprintf(these.sets + strlen(these.sets), sizeof(these.sets) - strlen(these.sets),
		"%s%s", these.sets[0] != '\0' ? " " : "", mutant_options(mutant));
	set_mutant(mutant);
	run_seeds(&these, &totals);
	if (totals.failures > 0) {
		printf("mutant %s: found by oracle %s with seed %lu --set '%s' after %lu seeds, "
		       "%.1f s: %s\n",
			mutant_name(mutant), totals.first.oracle,
			(unsigned long)totals.first_failed, these.sets, (unsigned long)totals.seeds,
			seconds_now() - start, totals.first.reason);
	} else {
		printf("mutant %s: NOT found with %lu seeds, %.1f s\n", mutant_name(mutant),
			(unsigned long)totals.seeds, seconds_now() - start);
	}
	(void)fflush(stdout);
	return totals.failures > 0;
}

/* All of them, or the one that was named. */
static int run_mutants(const struct options *options)
{
	unsigned count = 0, found = 0;

	for (unsigned mutant = MUTANT_NONE + 1; mutant < MUTANT_COUNT; mutant++) {
		const char *scenario = mutant_scenario((enum mutant)mutant);

		if (options->mutant != MUTANT_NONE && options->mutant != mutant) {
			continue;
		}
		if (scenario != NULL) {
			printf("directed %s: %s\n", mutant_name((enum mutant)mutant), scenario);
		} else {
			count++;
			found += find_mutant(options, (enum mutant)mutant);
		}
	}
	printf("mutants=%u found=%u\n", count, found);
	return found != count;
}

/* ---- arguments ---- */

static uint64_t number_of(const char *name, const char *text)
{
	char *end = NULL;
	uint64_t number;

	errno = 0;
	number = text != NULL ? strtoull(text, &end, 0) : 0;
	if (text == NULL || errno != 0 || end == text || *end != '\0') {
		fprintf(stderr, "sim: %s wants a number\n", name);
		exit(2);
	}
	return number;
}

static enum mutant mutant_of(const char *text)
{
	for (unsigned i = 0; i < MUTANT_COUNT && text != NULL; i++) {
		if (strcmp(mutant_name((enum mutant)i), text) == 0) {
			return (enum mutant)i;
		}
	}
	fprintf(stderr, "sim: --mutant wants one of:");
	for (unsigned i = 0; i < MUTANT_COUNT; i++) {
		fprintf(stderr, " %s", mutant_name((enum mutant)i));
	}
	fprintf(stderr, "\n");
	exit(2);
}

static void add_set(struct options *options, const char *value)
{
	struct world_options tried = {0};
	size_t used = strlen(options->sets);

	if (value == NULL || *world_change_options(&tried, value) != '\0') {
		fprintf(stderr, "sim: --set wants name=value (tests/sim/options.c): %s\n",
			value == NULL ? "" : world_change_options(&tried, value));
		exit(2);
	}
	(void)snprintf(options->sets + used, sizeof(options->sets) - used, "%s%s",
		used > 0 ? " " : "", value);
}

static bool parse_flag(struct options *options, const char *name)
{
	struct {
		const char *name;
		bool *flag;
	} flags[] = {{"--mutants", &options->mutants}, {"--io", &options->io},
		{"--quiet", &options->quiet}, {"--shrink", &options->shrink},
		{"--no-shrink", &options->no_shrink}};

	for (unsigned i = 0; i < ARRAY_COUNT(flags); i++) {
		if (strcmp(flags[i].name, name) == 0) {
			*flags[i].flag = true;
			return true;
		}
	}
	return false;
}

/* Returns how many arguments it used. */
static int parse_argument(struct options *options, const char *name, const char *value)
{
	if (parse_flag(options, name)) {
		return 1;
	}
	if (strcmp(name, "--set") == 0) {
		add_set(options, value);
	} else if (strcmp(name, "--mutant") == 0) {
		options->mutant = mutant_of(value);
	} else if (strcmp(name, "--seeds") == 0) {
		options->seeds = number_of(name, value);
	} else if (strcmp(name, "--first") == 0) {
		options->first = number_of(name, value);
	} else if (strcmp(name, "--minutes") == 0) {
		options->minutes = (unsigned)number_of(name, value);
	} else if (strcmp(name, "--jobs") == 0) {
		options->jobs = (unsigned)number_of(name, value);
	} else if (strcmp(name, "--seed") == 0) {
		options->seed = number_of(name, value);
		options->one = true;
	} else {
		fprintf(stderr, "sim: unknown argument %s (see tests/sim/run)\n", name);
		exit(2);
	}
	return 2;
}

int main(int argc, char **argv)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct options options = {.first = 1, .jobs = cores > 0 ? (unsigned)cores : 1};

	for (int i = 1; i < argc;) {
		i += parse_argument(&options, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
	}
	if (options.seeds == 0) {
		options.seeds = options.minutes > 0 ? UINT64_MAX / 2
				: options.mutants   ? 10000
						    : 200;
	}
	options.jobs = options.jobs == 0 ? 1 : options.jobs > JOBS_MAX ? JOBS_MAX : options.jobs;
	jobs_keep_memory();
	set_mutant(options.mutant);
	if (options.mutants) {
		return run_mutants(&options);
	}
	if (options.one && options.shrink) {
		return run_shrink(&options);
	}
	return options.one ? run_one(&options) : run_many(&options);
}
