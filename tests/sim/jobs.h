/* SPDX-License-Identifier: Apache-2.0 */
/* Histories in processes of their own, several at once: an assertion that fails ends one only. */
#ifndef SIM_JOBS_H
#define SIM_JOBS_H

#include "base/mutant.h"
#include "tests/sim/world.h"

#include <sys/types.h>

#define JOBS_MAX 16

/* One process that runs a few seeds, one after the other. */
struct job {
	pid_t pid; /* 0: free */
	int fd;
	uint64_t seed, end; /* the one that it is at; the first that it is not to run */
};

double seconds_now(void);
/* Memory that was given back is kept: most of a history's time went into asking for it again. */
void jobs_keep_memory(void);

void job_start(struct job *job, uint64_t seed, uint64_t end, const char *sets);
/* Waits for the result of job->seed and goes on to the next one (also after an assertion, with a
 * new process); the job is free after its last. */
void job_take_result(struct job *job, const char *sets, struct world_result *ret_result);
/* In the middle of it. */
void job_kill(struct job *job);
/* One seed, start to end. */
void job_run(uint64_t seed, const char *sets, struct world_result *ret_result);

/* mutants.c */
const char *mutant_name(enum mutant mutant);
/* --set under which seeds meet it soon; "": none. */
const char *mutant_options(enum mutant mutant);
/* "PROGRAM TEST": the directed history that fails with it, where seeds do not meet it; or NULL. */
const char *mutant_scenario(enum mutant mutant);
/* Of a command that replays: "" or " --mutant B1". */
const char *mutant_argument(void);

/* shrink.c: what of the options can be left out or made smaller so that the same oracle still
 * complains; prints how far it got, and the command that replays it. */
void shrink(uint64_t seed, const char *sets, const struct world_result *failed);

#endif
