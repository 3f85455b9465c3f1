/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a replica that is there: deletion, another key, export. */
#include "pool-agent/control/replica_job.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct replica_job *replica_job_of(struct job *job)
{
	return container_of(job, struct replica_job, job);
}

struct replica_job *replica_job_new(
	struct grpc_call *call, task_step *step, void (*finish)(struct job *job))
{
	struct replica_job *rj = calloc(1, sizeof(*rj));

	if (rj == NULL) {
		grpc_call_failf(call, -ENOMEM, "out of memory");
		return NULL;
	}
	job_init(&rj->job, grpc_call_ctx(call), call, step, finish);
	return rj;
}

void replica_job_op_failed(struct job *job)
{
	if (job->err.code == 0 && job->op.result != 0) {
		job->err = job->op.err;
		if (job->err.code == 0) {
			err_set(&job->err, job->op.result, "%s", err_describe(job->op.result));
		}
	}
}

void replica_job_named(struct job *job, const char *id)
{
	(void)replica_name_parse(id, &replica_job_of(job)->name, &job->err);
}

/* Whose is it?  A replica without a configuration was never used: there is nothing to lose. */
static int delete_judge(struct replica_job *rj)
{
	const struct agent_replica_status *status = &rj->text.info.status;

	if (status->exported) {
		return err_set(&rj->job.err, -EBUSY, "it is exported as %s: unexport it first",
			status->export_nqn);
	}
	if (status->associated && rj->text.info.vmeta.cfg.gen != 0) {
		return err_set(&rj->job.err, -EBUSY, "volume %s has it open on %s: close it first",
			rj->text.info.vmeta.name, status->host);
	}
	return 0;
}

static void delete_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);
	struct control *control = rj->job.control;

	switch (rj->state) {
	case REPLICA_JOB_START:
		rj->replica = replica_find(control, &rj->name, &rj->pool_index, &rj->job.err);
		if (rj->replica != NULL) {
			replica_info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
		}
		if (rj->replica == NULL || delete_judge(rj) != 0) {
			job_end(&rj->job);
			return;
		}
		rj->job.done = false;
		agent_replica_remove(control->agent, rj->replica, job_wake, &rj->job);
		AWAIT(rj, REPLICA_JOB_AWAIT_1, rj->job.done);
		store_replica_delete(rj->replica, job_op(&rj->job));
		AWAIT(rj, REPLICA_JOB_AWAIT_2, rj->job.done);
		replica_job_op_failed(&rj->job);
		job_end(&rj->job);
	}
}

static void delete_begin(struct job *job)
{
	const Strake__V1__DeleteReplicaRequest *request =
		(const void *)grpc_call_request(job->call);

	replica_job_named(job, request->uuid);
}

static void delete_finish(struct job *job)
{
	const Strake__V1__DeleteReplicaRequest *request =
		(const void *)grpc_call_request(job->call);
	Strake__V1__DeleteReplicaResponse reply = STRAKE__V1__DELETE_REPLICA_RESPONSE__INIT;

	if (job->err.code != 0) {
		err_prefix(&job->err, "delete replica %s", request->uuid);
		grpc_call_fail(job->call, &job->err);
	} else {
		log_info(job->control->log, "replicas", "replica-deleted", "replica=%s",
			request->uuid);
		grpc_call_reply(job->call, &reply.base);
	}
	free(replica_job_of(job));
}

void replica_delete(struct grpc_call *call)
{
	struct replica_job *rj = replica_job_new(call, delete_step, delete_finish);

	if (rj != NULL) {
		job_change(&rj->job, delete_begin);
	}
}

/* On the reactor, when it is its turn. */
static int key_apply(struct agent_change *change, struct vmeta *vmeta)
{
	const struct volume_key *key = &container_of(change, struct replica_job, change)->key;
	const struct volume_key *mine = &vmeta->keys[0];

	if (key->number < mine->number) {
		return err_set(&change->err, -ESTALE, "key %u: the replica has key %u already",
			key->number, mine->number);
	}
	if (key->number > mine->number) {
		vmeta->keys[1] = *mine;
		vmeta->keys[0] = *key;
	} else if (!volume_key_equal(key, mine)) {
		return err_set(&change->err, -EEXIST,
			"key %u: the replica has another key of that number", key->number);
	}
	return 0;
}

static void key_changed(struct agent_change *change)
{
	job_wake(&container_of(change, struct replica_job, change)->job);
}

static void key_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);
	struct control *control = rj->job.control;

	switch (rj->state) {
	case REPLICA_JOB_START:
		rj->replica = replica_find(control, &rj->name, &rj->pool_index, &rj->job.err);
		if (rj->replica == NULL) {
			job_end(&rj->job);
			return;
		}
		rj->change.apply = key_apply;
		rj->change.done = key_changed;
		rj->job.done = false;
		agent_replica_change(control->agent, rj->replica, &rj->change);
		AWAIT(rj, REPLICA_JOB_AWAIT_1, rj->job.done);
		if (rj->change.result == 0) {
			replica_info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
		} else {
			rj->job.err = rj->change.err;
		}
		job_end(&rj->job);
		return;
	case REPLICA_JOB_AWAIT_2:
		assert(false && "not a state of this");
	}
}

static void key_begin(struct job *job)
{
	const Strake__V1__SetReplicaKeyRequest *request =
		(const void *)grpc_call_request(job->call);

	replica_job_named(job, request->uuid);
	if (job->err.code == 0) {
		(void)replica_key_parse(
			request->key_number, request->key, &replica_job_of(job)->key, &job->err);
	}
}

static void key_finish(struct job *job)
{
	const Strake__V1__SetReplicaKeyRequest *request =
		(const void *)grpc_call_request(job->call);
	struct replica_job *rj = replica_job_of(job);

	if (job->err.code != 0) {
		err_prefix(&job->err, "set key of replica %s", request->uuid);
		grpc_call_fail(job->call, &job->err);
	} else {
		log_info(job->control->log, "replicas", "replica-key-set", "replica=%s number=%u",
			request->uuid, request->key_number);
		replica_text_fill(job->control, &rj->text);
		grpc_call_reply(job->call, &rj->text.message.base);
	}
	free(rj);
}

void replica_set_key(struct grpc_call *call)
{
	struct replica_job *rj = replica_job_new(call, key_step, key_finish);

	if (rj != NULL) {
		job_change(&rj->job, key_begin);
	}
}

static void export_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);
	struct control *control = rj->job.control;

	rj->replica = replica_find(control, &rj->name, &rj->pool_index, &rj->job.err);
	if (rj->replica != NULL && agent_replica_export(control->agent, rj->replica, rj->read_only,
					   &rj->job.err) == 0) {
		replica_info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
	}
	job_end(&rj->job);
}

static void export_begin(struct job *job)
{
	const Strake__V1__ExportReplicaRequest *request =
		(const void *)grpc_call_request(job->call);

	replica_job_named(job, request->uuid);
	replica_job_of(job)->read_only = request->read_only;
}

static void export_finish(struct job *job)
{
	const Strake__V1__ExportReplicaRequest *request =
		(const void *)grpc_call_request(job->call);
	Strake__V1__ExportReplicaResponse reply = STRAKE__V1__EXPORT_REPLICA_RESPONSE__INIT;
	struct replica_job *rj = replica_job_of(job);

	if (job->err.code != 0) {
		err_prefix(&job->err, "export replica %s", request->uuid);
		grpc_call_fail(job->call, &job->err);
	} else {
		reply.nqn = rj->text.info.status.export_nqn;
		reply.address = io_address_to_text(&job->control->address, rj->text.address);
		grpc_call_reply(job->call, &reply.base);
	}
	free(rj);
}

void replica_export(struct grpc_call *call)
{
	struct replica_job *rj = replica_job_new(call, export_step, export_finish);

	if (rj != NULL) {
		job_change(&rj->job, export_begin);
	}
}

static void unexport_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);
	struct control *control = rj->job.control;

	switch (rj->state) {
	case REPLICA_JOB_START:
		rj->replica = replica_find(control, &rj->name, &rj->pool_index, &rj->job.err);
		if (rj->replica == NULL) {
			job_end(&rj->job);
			return;
		}
		replica_info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
		if (rj->text.info.status.exported) {
			rj->job.done = false;
			agent_replica_unexport(control->agent, rj->replica, job_wake, &rj->job);
			AWAIT(rj, REPLICA_JOB_AWAIT_1, rj->job.done);
		}
		job_end(&rj->job);
		return;
	case REPLICA_JOB_AWAIT_2:
		assert(false && "not a state of this");
	}
}

static void unexport_begin(struct job *job)
{
	const Strake__V1__UnexportReplicaRequest *request =
		(const void *)grpc_call_request(job->call);

	replica_job_named(job, request->uuid);
}

static void unexport_finish(struct job *job)
{
	Strake__V1__UnexportReplicaResponse reply = STRAKE__V1__UNEXPORT_REPLICA_RESPONSE__INIT;

	if (job->err.code != 0) {
		err_prefix(&job->err, "unexport replica");
		grpc_call_fail(job->call, &job->err);
	} else {
		grpc_call_reply(job->call, &reply.base);
	}
	free(replica_job_of(job));
}

void replica_unexport(struct grpc_call *call)
{
	struct replica_job *rj = replica_job_new(call, unexport_step, unexport_finish);

	if (rj != NULL) {
		job_change(&rj->job, unexport_begin);
	}
}
