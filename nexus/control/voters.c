/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Voters come and go (AddReplica, RemoveReplica).  A place is in the state file before its replica
 * can be in a configuration, so that whoever opens the volume next finds all voters; and it leaves
 * the file when the configuration without it is committed.
 */
#include "base/task.h"
#include "nexus/control/job.h"

#include <errno.h>

enum voters_state { VOTERS_START, VOTERS_AWAIT_REACTOR, VOTERS_DONE };

struct voters_job {
	struct job job;
	enum voters_state state;
	bool add;
	struct volume_voter voter; /* remove: only its id */
	struct volume_record before;
	/* of the reactor */
	struct cfg cfg;
	struct uuid adding;
};

static struct voters_job *voters_job_of(struct job *job)
{
	return (struct voters_job *)(void *)job;
}

static void voters_there(struct job *job)
{
	struct voters_job *voters = voters_job_of(job);
	struct volume *volume = job->cv->volume;

	job->result = voters->add ? volume_add_voter(volume, &voters->voter, &job->err)
				  : volume_remove_voter(volume, &voters->voter.replica, &job->err);
	volume_get_voters(volume, &voters->cfg, &voters->adding);
	reactor_call_return(&job->reactor_call);
}

/* false: refused. */
static bool voters_begin(struct voters_job *voters)
{
	struct job *job = &voters->job;
	struct volume_record *record = &job->cv->record;
	bool is_full = false;

	voters->before = *record;
	if (!job->cv->is_open) {
		job_fail(job, -EBUSY, "it is not open; open it first");
	} else if (!record->used) {
		job_fail(job, -EBUSY,
			"it has not been open yet: its voters are those it was created with until "
			"then");
	} else if (voters->add && volume_record_learn(record, &voters->voter, &is_full)) {
		job_save(job);
	} else if (voters->add && is_full) {
		job_fail(job, -ENOSPC, "seven replicas are known, which is the most");
	}
	return job->result == 0;
}

/* What was told in between waits for this. */
static void voters_follow(struct voters_job *voters)
{
	struct job *job = &voters->job;
	struct volume_record *record = &job->cv->record;

	if (voters->cfg.gen != 0 ? volume_record_follow(record, &voters->cfg, &voters->adding)
				 : job->result < 0) {
		if (voters->cfg.gen == 0) {
			record->voter_count = voters->before.voter_count;
		}
		job_save(job);
	}
}

static void voters_step(struct job *job)
{
	struct voters_job *voters = voters_job_of(job);
	struct cvolume *cv = job->cv;

	switch (voters->state) {
	case VOTERS_START:
		cv->changes_voters = true;
		if (voters_begin(voters)) {
			job_call(job, voters_there);
			AWAIT(voters, VOTERS_AWAIT_REACTOR, !job->waiting);
			voters_follow(voters);
		}
		voters->state = VOTERS_DONE;
		cv->changes_voters = false;
		job_end(job);
		return;
	case VOTERS_DONE:
		return;
	}
}

void job_add_voter(struct cvolume *cv, const struct volume_voter *voter, struct grpc_call *call)
{
	struct voters_job *voters =
		job_new(cv, call, "add a replica to", sizeof(*voters), voters_step);

	if (voters != NULL) {
		voters->add = true;
		voters->voter = *voter;
		voters_step(&voters->job);
	}
}

void job_remove_voter(struct cvolume *cv, const struct uuid *replica, struct grpc_call *call)
{
	struct voters_job *voters =
		job_new(cv, call, "remove a replica from", sizeof(*voters), voters_step);

	if (voters != NULL) {
		voters->voter.replica = *replica;
		voters_step(&voters->job);
	}
}
