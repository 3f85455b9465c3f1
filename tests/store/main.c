/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The crash consistency of the store, by enumeration: see sweep.h, and workload.h for the letters.
 *
 *   store-sweep [-j N] [--seed S]     what a merge has time for: every sequence of up to two
 *                                     operations, one of so many of three
 *   store-sweep --full [-j N]         every sequence of up to three, every second crash
 *   store-sweep --case TEXT           one case again, as a failure prints it
 *   store-sweep --mutants             each deliberate bug, until it is found
 *   --mutant S1                       with that deliberate bug
 *   --third N                         one of N sequences of three operations
 *
 * The sequences are shared out to N processes, so that an assertion fails one case and not the run.
 */
#include "base/mutant.h"
#include "tests/store/sweep.h"

#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX       64u
#define FAILURES_SHOWN 10u

/* What a run of a merge takes; 1 is all. */
#define SAMPLE_THIRD      24u /* of sequences of three operations */
#define SAMPLE_SECOND     16u /* of states, a crash in their recovery */
#define SAMPLE_GO_ON      8u  /* of states, work afterwards */
#define SAMPLE_FAULTS     64u /* of states, faults in their recovery */
#define SAMPLE_FAULTS_SEQ 8u  /* of sequences of three operations that are swept, their faults */

struct options {
	unsigned jobs;
	uint64_t seed;
	bool full, mutants;
	enum mutant mutant;
	const char *one;
	unsigned third;
};

/* Of one process; shared. */
struct job {
	struct totals totals;
	char text[CASE_MAX];
	uint64_t next; /* number of the sequence that it is at */
	pid_t pid;     /* 0: not running */
};

static struct job *jobs;
char *case_text;

static const struct {
	const char *name;
	enum mutant mutant;
} mutants[] = {
	{"S1", MUTANT_S1},
	{"S2", MUTANT_S2},
	{"S3", MUTANT_S3},
	{"S4", MUTANT_VMETA_VOLATILE},
	{"S5", MUTANT_S5},
	{"S6", MUTANT_S6},
	{"S7", MUTANT_S7},
	{"S8", MUTANT_S8},
	{"S9", MUTANT_S9},
};

static void set_mutant(enum mutant mutant)
{
#ifdef STRAKE_MUTANTS
	mutant_active = mutant;
#else
	if (mutant != MUTANT_NONE) {
		fprintf(stderr, "built without deliberate bugs (cmake preset \"mutants\")\n");
		exit(2);
	}
#endif
}

void case_name(struct sweep *sweep, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(sweep->text, CASE_MAX, format, arguments);
	va_end(arguments);
}

void case_failed(const char *format, ...)
{
	va_list arguments;

	printf("FAILED %s: ", case_text != NULL ? case_text : "while the first disks are made");
	va_start(arguments, format);
	(void)vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	(void)fflush(stdout);
	_exit(1);
}

/* ---- the sequences, numbered ---- */

#define LETTER_COUNT (sizeof(LETTERS) - 1)
#define PER_BASE                                                                                   \
	(2 * (1 + LETTER_COUNT + LETTER_COUNT * LETTER_COUNT +                                     \
		     LETTER_COUNT * LETTER_COUNT * LETTER_COUNT))
#define BASES 4u

struct sequence {
	const char *base_name;
	bool overlapped;
	char letters[SEQUENCE_MAX + 1];
};

static void sequence_of(uint64_t number, struct sequence *sequence)
{
	uint64_t rest = number % PER_BASE / 2;
	uint64_t count = 1;
	unsigned length = 0;

	*sequence = (struct sequence){
		.base_name = base_names[number / PER_BASE],
		.overlapped = number % 2 != 0,
	};
	for (; rest >= count; length++) {
		rest -= count;
		count *= LETTER_COUNT;
	}
	for (unsigned i = 0; i < length; i++) {
		sequence->letters[length - 1 - i] = LETTERS[rest % LETTER_COUNT];
		rest /= LETTER_COUNT;
	}
}

static void sweep_sequence(struct sweep *sweep, const struct options *options, uint64_t number)
{
	struct sequence sequence;
	uint64_t draw;

	sequence_of(number, &sequence);
	draw = hash_mix(options->seed, number) >> 8;
	if ((sequence.letters[0] == '\0' || sequence.letters[1] == '\0') && sequence.overlapped) {
		return; /* nothing to overlap */
	}
	if (sequence.letters[0] != '\0' && sequence.letters[1] != '\0' &&
		sequence.letters[2] != '\0') {
		if (!options->full && draw % options->third != 0) {
			return;
		}
		draw /= options->third;
	} else {
		draw = 0;
	}
	sweep->base = base_find(sequence.base_name);
	sweep->base_name = sequence.base_name;
	sweep->overlapped = sequence.overlapped;
	sweep->letters = sequence.letters;
	if (sweep_crashes(sweep) && (options->full || draw % SAMPLE_FAULTS_SEQ == 0)) {
		sweep_faults(sweep);
	}
}

/* ---- processes ---- */

static struct sweep sweep_make(const struct options *options, struct job *job)
{
	case_text = job->text;
	return (struct sweep){
		.seed = options->seed,
		.second_every = options->full ? 1 : SAMPLE_SECOND,
		.go_on_every = SAMPLE_GO_ON,
		.fault_every = SAMPLE_FAULTS,
		.totals = &job->totals,
		.text = job->text,
	};
}

static void run_job(const struct options *options, struct job *job)
{
	struct sweep sweep = sweep_make(options, job);

	for (; job->next < BASES * PER_BASE; job->next += options->jobs) {
		sweep_sequence(&sweep, options, job->next);
	}
	_exit(0);
}

static void start_job(const struct options *options, struct job *job)
{
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_job(options, job);
	}
	/* The parent's alone: the memory is shared. */
	job->pid = pid;
}

static void print_failure(const struct options *options, const struct job *job, int status)
{
	if (WIFSIGNALED(status)) {
		printf("FAILED %s: signal %d (an assertion, or worse)\n", job->text,
			WTERMSIG(status));
	}
	printf("  again: tests/store/run --seed %llu --case %s\n",
		(unsigned long long)options->seed, job->text);
}

/* All sequences, in processes; stops at the first failure when there is a mutant. */
static void run_all(const struct options *options)
{
	unsigned running = 0;
	uint64_t failures = 0;

	for (unsigned i = 0; i < options->jobs; i++) {
		memset(&jobs[i], 0, sizeof(jobs[i]));
		jobs[i].next = i;
		start_job(options, &jobs[i]);
		running++;
	}
	while (running > 0) {
		int status;
		pid_t pid = wait(&status);
		struct job *job = jobs;

		while (job < jobs + options->jobs && job->pid != pid) {
			job++;
		}
		if (pid < 0 || job == jobs + options->jobs) {
			continue;
		}
		job->pid = 0;
		running--;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
			continue;
		}
		failures++;
		job->totals.failures++;
		print_failure(options, job, status);
		job->next += options->jobs;
		if (failures < FAILURES_SHOWN && options->mutant == MUTANT_NONE) {
			start_job(options, job);
			running++;
		} else {
			for (unsigned i = 0; i < options->jobs; i++) {
				if (jobs[i].pid > 0) {
					(void)kill(jobs[i].pid, SIGKILL);
				}
			}
			while (wait(NULL) > 0) {
			}
			running = 0;
		}
	}
}

static struct totals totals_of(const struct options *options)
{
	struct totals sum = {0};

	for (unsigned i = 0; i < options->jobs; i++) {
		const uint64_t *from = (const uint64_t *)&jobs[i].totals;
		uint64_t *to = (uint64_t *)&sum;

		for (size_t j = 0; j < sizeof(sum) / sizeof(*to); j++) {
			to[j] += from[j];
		}
	}
	return sum;
}

static double seconds_now(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_totals(const struct options *options, const struct totals *totals, double seconds)
{
	printf("seed %llu, %u processes, %.0f s: %llu moments and %llu of recoveries; of the crash "
	       "points %llu with a torn block, %llu the same as others\n",
		(unsigned long long)options->seed, options->jobs, seconds,
		(unsigned long long)totals->points, (unsigned long long)totals->second_points,
		(unsigned long long)totals->torn, (unsigned long long)totals->same);
	printf("sequences=%llu crash_points=%llu recoveries=%llu second_crashes=%llu "
	       "io_errors=%llu "
	       "alloc_failures=%llu lost=%llu\n",
		(unsigned long long)totals->sequences, (unsigned long long)totals->crash_points,
		(unsigned long long)totals->recoveries, (unsigned long long)totals->second_crashes,
		(unsigned long long)totals->io_errors, (unsigned long long)totals->alloc_failures,
		(unsigned long long)totals->failures);
}

/* ---- one case again ---- */

static int fault_of(const char *text, struct selection *only)
{
	static const char *const names[FAULT_KINDS] = {
		"read", "write", "flush", "discard", "memory"};

	for (unsigned kind = 0; kind < FAULT_KINDS; kind++) {
		if (strncmp(text, names[kind], strlen(names[kind])) == 0) {
			const char *dot = strchr(text, '.');

			only->fault = dot != NULL;
			only->kind = (enum fault_kind)kind;
			only->and_later = strstr(text, "+later") != NULL;
			only->lands = strstr(text, "+lands") != NULL;
			only->nth = dot != NULL ? strtoull(dot + 1, NULL, 10) : 0;
			return dot != NULL ? 0 : -1;
		}
	}
	return -1;
}

/* BASE:MODE:LETTERS[:POINT.STATE[:POINT.STATE]][:FAULT.N] */
static int run_case(const struct options *options)
{
	struct selection only = {.crash = {false, false}};
	struct sweep sweep = sweep_make(options, jobs);
	char *text = strdup(options->one);
	char *rest = text;
	const char *base = strsep(&rest, ":");
	const char *mode = strsep(&rest, ":");
	const char *letters = strsep(&rest, ":");
	unsigned depth = 0;
	const char *part;

	if (mode == NULL || letters == NULL || base_find(base) == NULL ||
		strspn(letters, LETTERS) != strlen(letters)) {
		fprintf(stderr, "no such case: %s\n", options->one);
		return 2;
	}
	while ((part = strsep(&rest, ":")) != NULL) {
		if (fault_of(part, &only) == 0) {
			continue;
		}
		if (depth == 2 ||
			sscanf(part, "%u.%u", &only.point[depth], &only.state[depth]) != 2) {
			fprintf(stderr, "no such case: %s\n", options->one);
			return 2;
		}
		only.crash[depth++] = true;
	}
	sweep.base = base_find(base);
	sweep.base_name = base;
	sweep.overlapped = mode[0] == 'o';
	sweep.letters = letters;
	if (depth > 0 || only.fault) {
		sweep.only = &only;
	}
	if (depth > 0 || !only.fault) {
		(void)sweep_crashes(&sweep);
	}
	if (depth == 0) {
		sweep_faults(&sweep);
	}
	free(text);
	return 0;
}

/* ---- deliberate bugs ---- */

static int run_mutants(struct options *options)
{
	unsigned found = 0;

	for (unsigned i = 0; i < ARRAY_COUNT(mutants); i++) {
		double start = seconds_now(CLOCK_MONOTONIC);
		struct totals totals;

		options->mutant = mutants[i].mutant;
		set_mutant(options->mutant);
		run_all(options);
		totals = totals_of(options);
		printf("mutant %s: %s after %llu crash points, %.1f s\n", mutants[i].name,
			totals.failures > 0 ? "found" : "NOT found",
			(unsigned long long)totals.crash_points,
			seconds_now(CLOCK_MONOTONIC) - start);
		found += totals.failures > 0;
	}
	printf("mutants=%zu found=%u\n", ARRAY_COUNT(mutants), found);
	return found != ARRAY_COUNT(mutants);
}

static enum mutant mutant_of(const char *text)
{
	for (unsigned i = 0; i < ARRAY_COUNT(mutants); i++) {
		if (strcmp(mutants[i].name, text) == 0) {
			return mutants[i].mutant;
		}
	}
	fprintf(stderr, "no deliberate bug is called %s\n", text);
	exit(2);
}

static void parse(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{"jobs", required_argument, NULL, 'j'},
		{"seed", required_argument, NULL, 's'},
		{"full", no_argument, NULL, 'f'},
		{"third", required_argument, NULL, 't'},
		{"case", required_argument, NULL, 'c'},
		{"mutants", no_argument, NULL, 'M'},
		{"mutant", required_argument, NULL, 'm'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "j:", known, NULL)) != -1) {
		switch (option) {
		case 'j':
			options->jobs = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			options->seed = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			options->full = true;
			break;
		case 't':
			options->third = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			options->one = optarg;
			break;
		case 'M':
			options->mutants = true;
			break;
		case 'm':
			options->mutant = mutant_of(optarg);
			break;
		default:
			exit(2);
		}
	}
	if (optind != argc || options->jobs < 1 || options->jobs > JOBS_MAX || options->third < 1) {
		fprintf(stderr, "usage: see the head of tests/store/main.c\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct options options = {.jobs = 1, .seed = 1, .third = SAMPLE_THIRD};
	double start = seconds_now(CLOCK_MONOTONIC);
	struct totals totals;

	parse(&options, argc, argv);
	/* The same memory again and again, instead of new pages from the kernel each time. */
	(void)mallopt(M_MMAP_THRESHOLD, 16 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	jobs = mmap(NULL, JOBS_MAX * sizeof(*jobs), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (jobs == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	bases_init(options.seed);
	if (options.mutants) {
		return run_mutants(&options);
	}
	set_mutant(options.mutant);
	if (options.one != NULL) {
		int result = run_case(&options);

		if (result == 0) {
			printf("%s: passed\n", options.one);
		}
		return result;
	}
	run_all(&options);
	totals = totals_of(&options);
	print_totals(&options, &totals, seconds_now(CLOCK_MONOTONIC) - start);
	return totals.failures > 0 || totals.crash_points == 0;
}
