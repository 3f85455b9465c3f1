/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator decides of a replica when the volume cannot go on by itself: it becomes the
 * volume, or the openings of it are over. */
#include "pool-agent/control/replica_job.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static void recover_changed(struct agent_change *change)
{
	job_wake(change->ctx);
}

/* On the reactor: the answer, or why not. */
static void take_result(struct replica_job *rj, const struct agent_change *change)
{
	if (change->result == 0) {
		replica_info_fill(rj->job.control, rj->replica, rj->pool_index, &rj->text.info);
	} else {
		rj->job.err = change->err;
	}
}

/* The ladder of both: finds the replica, asks the agent, takes its answer. */
static void decide(
	struct replica_job *rj, struct agent_change *change, void (*ask)(struct replica_job *rj))
{
	switch (rj->state) {
	case REPLICA_JOB_START:
		rj->replica =
			replica_find(rj->job.control, &rj->name, &rj->pool_index, &rj->job.err);
		if (rj->replica == NULL) {
			job_end(&rj->job);
			return;
		}
		change->done = recover_changed;
		change->ctx = &rj->job;
		rj->job.done = false;
		ask(rj);
		AWAIT(rj, REPLICA_JOB_AWAIT_1, rj->job.done);
		take_result(rj, change);
		job_end(&rj->job);
		return;
	case REPLICA_JOB_AWAIT_2:
		assert(false && "not a state of this");
	}
}

static void ask_recover(struct replica_job *rj)
{
	agent_replica_recover(rj->job.control->agent, rj->replica, &rj->recovery);
}

static void recover_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);

	decide(rj, &rj->recovery.change, ask_recover);
}

static void recover_begin(struct job *job)
{
	const Strake__V1__RecoverReplicaRequest *request =
		(const void *)grpc_call_request(job->call);
	struct replica_job *rj = replica_job_of(job);

	replica_job_named(job, request->uuid);
	if (job->err.code == 0 && (request->lineage == 0 || request->attach == 0)) {
		(void)err_set(&job->err, -EINVAL, "lineage and attach must be given");
	}
	rj->recovery.lineage = request->lineage;
	rj->recovery.attach = request->attach;
	rj->recovery.wgen = request->wgen;
	rj->recovery.half_rebuilt = request->half_rebuilt;
}

static void recover_finish(struct job *job)
{
	const Strake__V1__RecoverReplicaRequest *request =
		(const void *)grpc_call_request(job->call);
	struct replica_job *rj = replica_job_of(job);

	if (job->err.code != 0) {
		err_prefix(&job->err, "recover replica %s", request->uuid);
		grpc_call_fail(job->call, &job->err);
	} else {
		log_warning(job->control->log, "replicas", "replica-recovered",
			"replica=%s volume=%s lineage=%016" PRIx64 " attach=%u", request->uuid,
			rj->text.info.vmeta.name, request->lineage, rj->recovery.attach);
		replica_text_fill(job->control, &rj->text);
		grpc_call_reply(job->call, &rj->text.message.base);
	}
	free(rj);
}

void replica_recover(struct grpc_call *call)
{
	struct replica_job *rj = replica_job_new(call, recover_step, recover_finish);

	if (rj != NULL) {
		job_change(&rj->job, recover_begin);
	}
}

static void ask_fence(struct replica_job *rj)
{
	agent_replica_fence(rj->job.control->agent, rj->replica, &rj->fencing);
}

static void fence_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);

	decide(rj, &rj->fencing.change, ask_fence);
}

static void fence_begin(struct job *job)
{
	const Strake__V1__FenceReplicaRequest *request = (const void *)grpc_call_request(job->call);

	replica_job_named(job, request->uuid);
	if (job->err.code == 0 && (request->attach == 0 || request->nonce == 0)) {
		(void)err_set(&job->err, -EINVAL, "attach and nonce must be given");
	}
	replica_job_of(job)->fencing.epoch = (struct epoch){
		.attach = request->attach,
		.inc = 0, /* which no opener has: it is seen what ended it */
		.nonce = request->nonce,
	};
}

static void fence_finish(struct job *job)
{
	const Strake__V1__FenceReplicaRequest *request = (const void *)grpc_call_request(job->call);
	struct replica_job *rj = replica_job_of(job);

	if (job->err.code != 0) {
		err_prefix(&job->err, "fence replica %s", request->uuid);
		grpc_call_fail(job->call, &job->err);
	} else {
		log_warning(job->control->log, "replicas", "replica-fenced", "replica=%s attach=%u",
			request->uuid, request->attach);
		replica_text_fill(job->control, &rj->text);
		grpc_call_reply(job->call, &rj->text.message.base);
	}
	free(rj);
}

void replica_fence(struct grpc_call *call)
{
	struct replica_job *rj = replica_job_new(call, fence_step, fence_finish);

	if (rj != NULL) {
		job_change(&rj->job, fence_begin);
	}
}
