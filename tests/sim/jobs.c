/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/jobs.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED_SECONDS_MAX 120
/* Every so manieth seed is run twice. */
#define TWICE_EVERY 100

double seconds_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void jobs_keep_memory(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	(void)mallopt(M_TOP_PAD, 16 << 20);
}

/* ---- in the child ---- */

static void run_seed(uint64_t seed, const char *sets, struct world_result *result)
{
	struct world_request request = {.seed = seed, .sets = sets};
	struct world_result again;

	(void)alarm(SEED_SECONDS_MAX);
	world_run(&request, result);
	if (seed % TWICE_EVERY != 0 || result->reason[0] != '\0') {
		return;
	}
	world_run(&request, &again);
	if (again.hash != result->hash) {
		result->broken++;
		(void)snprintf(result->oracle, sizeof(result->oracle), "determinism");
		(void)snprintf(result->reason, sizeof(result->reason),
			"two runs of the seed differ: %016lx after %lu steps, %016lx after %lu",
			(unsigned long)result->hash, (unsigned long)result->steps,
			(unsigned long)again.hash, (unsigned long)again.steps);
	}
}

static void run_child(uint64_t seed, uint64_t end, const char *sets, int fd)
{
	for (; seed < end; seed++) {
		struct world_result result;

		run_seed(seed, sets, &result);
		if (write(fd, &result, sizeof(result)) != (ssize_t)sizeof(result)) {
			_exit(3);
		}
	}
}

/* ---- in the parent ---- */

void job_start(struct job *job, uint64_t seed, uint64_t end, const char *sets)
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
		run_child(seed, end, sets, fds[1]);
		exit(0);
	}
	(void)close(fds[1]);
	job->fd = fds[0];
	job->seed = seed;
	job->end = end;
}

static int job_end(struct job *job)
{
	int status = 0;

	(void)close(job->fd);
	(void)waitpid(job->pid, &status, 0);
	job->pid = 0;
	return status;
}

/* It died instead of reporting. */
static void describe_death(int status, struct world_result *ret_result)
{
	memset(ret_result, 0, sizeof(*ret_result));
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

void job_take_result(struct job *job, const char *sets, struct world_result *ret_result)
{
	ssize_t got;

	do {
		got = read(job->fd, ret_result, sizeof(*ret_result));
	} while (got < 0 && errno == EINTR);
	job->seed++;
	if (got != (ssize_t)sizeof(*ret_result)) {
		uint64_t next = job->seed, end = job->end;

		describe_death(job_end(job), ret_result);
		if (next < end) {
			job_start(job, next, end, sets);
		}
		return;
	}
	if (job->seed == job->end) {
		int status = job_end(job);

		/* The leak checker speaks at the very end. */
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
			describe_death(status, ret_result);
		}
	}
}

void job_kill(struct job *job)
{
	if (job->pid != 0) {
		(void)kill(job->pid, SIGKILL);
		(void)job_end(job);
	}
}

void job_run(uint64_t seed, const char *sets, struct world_result *ret_result)
{
	struct job job = {0};

	job_start(&job, seed, seed + 1, sets);
	job_take_result(&job, sets, ret_result);
}
