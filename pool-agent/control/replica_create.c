/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a replica, or finds that it is there. */
#include "pool-agent/control/replica_job.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int replica_key_parse(
	uint32_t number, ProtobufCBinaryData bytes, struct volume_key *ret_key, struct err *err)
{
	if (number == 0 || number > UINT16_MAX || bytes.len != sizeof(ret_key->secret)) {
		return err_set(err, -EINVAL,
			"key: %zu bytes with number %u, not 32 bytes with 1 to %d", bytes.len,
			number, UINT16_MAX);
	}
	ret_key->number = (uint16_t)number;
	memcpy(ret_key->secret, bytes.data, sizeof(ret_key->secret));
	return 0;
}

static int differs(struct replica_job *rj, const char *what, const char *is, const char *wanted)
{
	return err_set(&rj->job.err, -EEXIST, "the replica exists already, with %s '%s', not '%s'",
		what, is, wanted);
}

/* The replica is there: is it the one that is asked for? */
static int create_compare(struct replica_job *rj)
{
	const struct store_replica_options *options = &rj->options;
	const struct vmeta *vmeta = &rj->text.info.vmeta;
	const char *pool = rj->job.control->pools[rj->pool_index].name;
	char is[UUID_TEXT_SIZE], wanted[UUID_TEXT_SIZE];

	if (rj->pool_index != rj->pool->index) {
		return differs(rj, "pool", pool, rj->pool->name);
	}
	if (!uuid_equal(&vmeta->volume, &options->volume)) {
		return differs(rj, "volume_uuid", uuid_to_text(&vmeta->volume, is),
			uuid_to_text(&options->volume, wanted));
	}
	if (vmeta->kind != options->kind) {
		return differs(rj, "kind", vmeta->kind == VOTER_ARBITER ? "arbiter" : "data",
			options->kind == VOTER_ARBITER ? "arbiter" : "data");
	}
	if (options->key.number != 0 && !volume_key_equal(&options->key, &vmeta->keys[0])) {
		snprintf(is, sizeof(is), "%u", vmeta->keys[0].number);
		snprintf(wanted, sizeof(wanted), "%u%s", options->key.number,
			options->key.number == vmeta->keys[0].number ? ", which is another one"
								     : "");
		return differs(rj, "key_number", is, wanted);
	}
	/* It may have grown since. */
	if (vmeta->size_bytes < options->size_bytes) {
		snprintf(is, sizeof(is), "%" PRIu64, vmeta->size_bytes);
		snprintf(wanted, sizeof(wanted), "%" PRIu64, options->size_bytes);
		return differs(rj, "size_bytes", is, wanted);
	}
	if (strcmp(vmeta->name, options->name) != 0) {
		return differs(rj, "volume_name", vmeta->name, options->name);
	}
	if (strcmp(vmeta->class_name, options->class_name) != 0) {
		return differs(rj, "class_name", vmeta->class_name, options->class_name);
	}
	if (strcmp(vmeta->claim_namespace, options->claim_namespace) != 0) {
		return differs(
			rj, "claim_namespace", vmeta->claim_namespace, options->claim_namespace);
	}
	return strcmp(vmeta->claim_name, options->claim_name) == 0
		       ? 0
		       : differs(rj, "claim_name", vmeta->claim_name, options->claim_name);
}

static void create_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);
	struct control *control = rj->job.control;
	struct replica_name name = {.id = rj->options.replica};
	struct err ignored;

	switch (rj->state) {
	case REPLICA_JOB_START:
		rj->replica = replica_find(control, &name, &rj->pool_index, &ignored);
		if (rj->replica != NULL) {
			rj->is_there = true;
			replica_info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
			(void)create_compare(rj);
			job_end(&rj->job);
			return;
		}
		store_replica_create(rj->pool->store, &rj->options, &rj->replica, job_op(&rj->job));
		AWAIT(rj, REPLICA_JOB_AWAIT_1, rj->job.done);
		replica_job_op_failed(&rj->job);
		if (rj->job.err.code == 0 &&
			agent_replica_added(control->agent, rj->replica) == 0) {
			/* It is served after a restart. */
			err_set(&rj->job.err, -ENOMEM, "out of memory");
		}
		if (rj->job.err.code == 0) {
			replica_info_fill(control, rj->replica, rj->pool->index, &rj->text.info);
		}
		job_end(&rj->job);
		return;
	case REPLICA_JOB_AWAIT_2:
		assert(false && "not a state of a creation");
	}
}

static int name_copy(char to[REPL_NAME_SIZE], const char *from, const char *what, struct err *err)
{
	if (strlen(from) >= REPL_NAME_SIZE) {
		return err_set(err, -EINVAL, "%s: longer than %d bytes", what, REPL_NAME_SIZE - 1);
	}
	snprintf(to, REPL_NAME_SIZE, "%s", from);
	return 0;
}

static int create_parse(const Strake__V1__CreateReplicaRequest *request,
	struct store_replica_options *options, struct err *err)
{
	if (strcmp(request->kind, "arbiter") == 0) {
		options->kind = VOTER_ARBITER;
	} else if (request->kind[0] != 0 && strcmp(request->kind, "data") != 0) {
		return err_set(err, -EINVAL, "kind '%s': data or arbiter", request->kind);
	}
	if (uuid_parse(request->uuid, &options->replica) != 0 || uuid_is_nil(&options->replica)) {
		return err_set(err, -EINVAL, "uuid: missing or not a uuid");
	}
	if (request->volume_uuid[0] != 0 &&
		uuid_parse(request->volume_uuid, &options->volume) != 0) {
		return err_set(err, -EINVAL, "volume_uuid: not a uuid");
	}
	if (request->volume_name[0] == 0) {
		return err_set(err, -EINVAL, "volume_name: missing");
	}
	options->size_bytes = request->size_bytes;
	if (options->kind == VOTER_ARBITER && options->size_bytes != 0) {
		return err_set(err, -EINVAL, "an arbiter has no size");
	}
	if (options->kind == VOTER_DATA &&
		(options->size_bytes == 0 || options->size_bytes > REPL_SIZE_MAX ||
			options->size_bytes % STORE_BLOCK_BYTES != 0)) {
		return err_set(err, -EINVAL, "size: a multiple of 4096, more than 0, at most 64T");
	}
	if ((request->key_number != 0 || request->key.len != 0) &&
		replica_key_parse(request->key_number, request->key, &options->key, err) != 0) {
		return err->code;
	}
	if (name_copy(options->name, request->volume_name, "volume_name", err) != 0 ||
		name_copy(options->class_name, request->class_name, "class_name", err) != 0 ||
		name_copy(options->claim_namespace, request->claim_namespace, "claim_namespace",
			err) != 0 ||
		name_copy(options->claim_name, request->claim_name, "claim_name", err) != 0) {
		return err->code;
	}
	return 0;
}

static void create_begin(struct job *job)
{
	struct replica_job *rj = replica_job_of(job);
	const Strake__V1__CreateReplicaRequest *request =
		(const void *)grpc_call_request(job->call);

	rj->pool = control_find_pool(job->control, request->pool);
	if (rj->pool == NULL) {
		err_set(&job->err, -ENOENT, "pool '%s': not on this pool-agent", request->pool);
	} else if (rj->pool->state != POOL_ONLINE) {
		err_set(&job->err, -ENODEV, "pool %s is not online: %s", request->pool,
			rj->pool->reason.text);
	} else {
		(void)create_parse(request, &rj->options, &job->err);
	}
}

static void create_finish(struct job *job)
{
	struct replica_job *rj = replica_job_of(job);

	if (job->err.code != 0) {
		err_prefix(&job->err, "create replica");
		grpc_call_fail(job->call, &job->err);
	} else {
		replica_text_fill(job->control, &rj->text);
		if (!rj->is_there) {
			log_info(job->control->log, "replicas", "replica-created",
				"replica=%s pool=%s volume=%s nsid=%u", rj->text.uuid,
				rj->text.pool, rj->text.info.vmeta.name, rj->text.info.nsid);
		}
		grpc_call_reply(job->call, &rj->text.message.base);
	}
	free(rj);
}

void replica_create(struct grpc_call *call)
{
	struct replica_job *rj = replica_job_new(call, create_step, create_finish);

	if (rj != NULL) {
		job_change(&rj->job, create_begin);
	}
}
