/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator.  Each seed runs in a process of its own, several at a time, so that an assertion
 * fails one seed and not the run.
 *
 *   sim [--seeds N] [--first S] [--minutes M] [--jobs J]   many seeds
 *   sim --seed S [--io]                                    one, with its trace
 *   sim --mutants [--seeds N]                              each deliberate bug, until it is found
 * or N seeds have passed
 *   --mutant B1                                            with that deliberate bug
 */
#include "base/mutant.h"
#include "tests/sim/world.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX         16
#define FAILURES_SHOWN   10
#define SEED_SECONDS_MAX 120
#define MEANS_FROM_SEEDS 20

struct options {
	uint64_t seeds, first, seed;
	unsigned minutes, jobs;
	bool one, io, mutants, quiet, until_failure;
	enum mutant mutant;
};

struct job {
	pid_t pid; /* 0: free */
	int fd;
	uint64_t seed;
};

struct totals {
	uint64_t seeds, failures;
	struct world_result sum;
	uint64_t first_failed;
	struct world_result first;
};

static const char *const mutant_names[MUTANT_COUNT] = {
	[MUTANT_NONE] = "none",
	[MUTANT_B1] = "B1",
	[MUTANT_B3] = "B3",
	[MUTANT_B5] = "B5",
	[MUTANT_B6] = "B6",
	[MUTANT_B9] = "B9",
	[MUTANT_B10] = "B10",
	[MUTANT_H1] = "H1",
	[MUTANT_R1] = "R1",
	[MUTANT_Z1] = "Z1",
};

static double seconds_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

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

/* ---- one seed ---- */

static void run_child(uint64_t seed, int fd)
{
	struct world_result result;

	(void)alarm(SEED_SECONDS_MAX);
	world_run(seed, NULL, false, &result);
	if (seed % 100 == 0 && result.reason[0] == '\0') {
		struct world_result again;

		world_run(seed, NULL, false, &again);
		if (again.hash != result.hash) {
			result.broken++;
			(void)snprintf(result.oracle, sizeof(result.oracle), "determinism");
			(void)snprintf(result.reason, sizeof(result.reason),
				"two runs of the seed differ: %016lx after %lu steps, %016lx after "
				"%lu",
				(unsigned long)result.hash, (unsigned long)result.steps,
				(unsigned long)again.hash, (unsigned long)again.steps);
		}
	}
	if (write(fd, &result, sizeof(result)) != (ssize_t)sizeof(result)) {
		_exit(3);
	}
}

static void job_start(struct job *job, uint64_t seed)
{
	int fds[2];

	if (pipe(fds) != 0) {
		perror("sim: pipe");
		exit(2);
	}
	(void)fflush(NULL);
	job->pid = fork();
	if (job->pid < 0) {
		perror("sim: fork");
		exit(2);
	}
	if (job->pid == 0) {
		(void)close(fds[0]);
		run_child(seed, fds[1]);
		exit(0);
	}
	(void)close(fds[1]);
	job->fd = fds[0];
	job->seed = seed;
}

static void job_result(struct job *job, struct world_result *ret_result)
{
	int status = 0;
	ssize_t got = read(job->fd, ret_result, sizeof(*ret_result));

	(void)close(job->fd);
	(void)waitpid(job->pid, &status, 0);
	job->pid = 0;
	if (got == (ssize_t)sizeof(*ret_result) && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		return;
	}
	if (got != (ssize_t)sizeof(*ret_result)) {
		memset(ret_result, 0, sizeof(*ret_result));
	}
	ret_result->broken++;
	(void)snprintf(ret_result->oracle, sizeof(ret_result->oracle), "assert");
	if (WIFSIGNALED(status)) {
		(void)snprintf(ret_result->reason, sizeof(ret_result->reason), "%s",
			WTERMSIG(status) == SIGALRM ? "it does not end"
						    : strsignal(WTERMSIG(status)));
	} else {
		(void)snprintf(ret_result->reason, sizeof(ret_result->reason), "exit status %d",
			WEXITSTATUS(status));
	}
}

/* ---- many ---- */

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
	if (result->reason[0] == '\0') {
		return;
	}
	if (totals->failures++ == 0 || seed < totals->first_failed) {
		totals->first_failed = seed;
		totals->first = *result;
	}
	if (!options->quiet && totals->failures <= FAILURES_SHOWN) {
		printf("seed %lu: %s: %s\n  replay: tests/sim/run --seed %lu\n",
			(unsigned long)seed, result->oracle, result->reason, (unsigned long)seed);
	}
}

static void print_progress(const struct totals *totals, double start)
{
	printf("[%5.1fs] %lu seeds, %lu operations (%lu failed), %lu crashes, %lu losses of power, "
	       "%lu partitions, %lu takeovers, %lu faulted; %lu seeds failed\n",
		seconds_now() - start, (unsigned long)totals->seeds, (unsigned long)totals->sum.ops,
		(unsigned long)totals->sum.errors, (unsigned long)totals->sum.crashes,
		(unsigned long)totals->sum.power_losses, (unsigned long)totals->sum.partitions,
		(unsigned long)totals->sum.takeovers, (unsigned long)totals->sum.faulted,
		(unsigned long)totals->failures);
	(void)fflush(stdout);
}

static unsigned start_jobs(
	const struct options *options, struct job *jobs, uint64_t *next, bool stop)
{
	unsigned running = 0;

	for (unsigned i = 0; i < options->jobs; i++) {
		if (jobs[i].pid == 0 && !stop && *next < options->first + options->seeds) {
			job_start(&jobs[i], (*next)++);
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

			job_result(&jobs[i], &result);
			totals_add(totals, options, jobs[i].seed, &result);
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
	}
	printf("seeds=%lu ops=%lu crashes=%lu partitions=%lu lost=%lu flips=%lu diverged=%lu\n",
		(unsigned long)totals.seeds, (unsigned long)sum->ops, (unsigned long)sum->crashes,
		(unsigned long)sum->partitions, (unsigned long)sum->lost, (unsigned long)sum->flips,
		(unsigned long)sum->diverged);
	return totals.failures > 0 || idle || totals.seeds == 0;
}

static int run_one(const struct options *options)
{
	struct world_result result;

	/* Nothing of the trace may be missing when an assertion fails. */
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	world_run(options->seed, options->quiet ? NULL : stdout, options->io, &result);
	if (result.reason[0] != '\0') {
		printf("seed %lu: %s: %s\n  replay: tests/sim/run --seed %lu\n",
			(unsigned long)options->seed, result.oracle, result.reason,
			(unsigned long)options->seed);
	}
	printf("hash=%016lx steps=%lu\n", (unsigned long)result.hash, (unsigned long)result.steps);
	printf("seeds=1 ops=%lu crashes=%lu partitions=%lu lost=%lu flips=%lu diverged=%lu\n",
		(unsigned long)result.ops, (unsigned long)result.crashes,
		(unsigned long)result.partitions, (unsigned long)result.lost,
		(unsigned long)result.flips, (unsigned long)result.diverged);
	return result.reason[0] != '\0';
}

static int run_mutants(const struct options *options)
{
	unsigned found = 0;

	for (unsigned mutant = MUTANT_NONE + 1; mutant < MUTANT_COUNT; mutant++) {
		struct options these = *options;
		struct totals totals;
		double start = seconds_now();

		these.quiet = true;
		these.until_failure = true;
		set_mutant((enum mutant)mutant);
		run_seeds(&these, &totals);
		if (totals.failures > 0) {
			found++;
			printf("mutant %s: found by oracle %s with seed %lu after %lu seeds, %.1f "
			       "s: %s\n",
				mutant_names[mutant], totals.first.oracle,
				(unsigned long)totals.first_failed, (unsigned long)totals.seeds,
				seconds_now() - start, totals.first.reason);
		} else {
			printf("mutant %s: NOT found with %lu seeds, %.1f s\n",
				mutant_names[mutant], (unsigned long)totals.seeds,
				seconds_now() - start);
		}
		(void)fflush(stdout);
	}
	printf("mutants=%u found=%u\n", MUTANT_COUNT - 1, found);
	return found != MUTANT_COUNT - 1;
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
		if (strcmp(mutant_names[i], text) == 0) {
			return (enum mutant)i;
		}
	}
	fprintf(stderr, "sim: --mutant wants B1, B3, B5, B6, B9, B10, H1, R1 or Z1\n");
	exit(2);
}

/* Returns how many arguments it used. */
static int parse_argument(struct options *options, const char *name, const char *value)
{
	if (strcmp(name, "--mutants") == 0) {
		options->mutants = true;
		return 1;
	}
	if (strcmp(name, "--io") == 0) {
		options->io = true;
		return 1;
	}
	if (strcmp(name, "--quiet") == 0) {
		options->quiet = true;
		return 1;
	}
	if (strcmp(name, "--mutant") == 0) {
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
	set_mutant(options.mutant);
	if (options.mutants) {
		return run_mutants(&options);
	}
	return options.one ? run_one(&options) : run_many(&options);
}
