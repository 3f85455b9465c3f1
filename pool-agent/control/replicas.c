/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas: create, list, delete, export. */
#include "pool-agent/control/control.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "nsid:7" names a replica whose metadata, and with them its id, are unreadable. */
#define NSID_PREFIX "nsid:"

#define PAGE_REPLICAS 64u

struct replica_info {
	uint32_t nsid;
	bool abstains;
	struct vmeta vmeta;
	uint64_t used_bytes;
	struct agent_replica_status status;
	unsigned pool;
};

/* ---- finding, on the reactor ---- */

struct replica_name {
	struct uuid id;
	uint32_t nsid; /* 0: by id */
};

static int replica_name_parse(const char *text, struct replica_name *ret_name, struct err *err)
{
	unsigned long nsid;
	char *end;

	*ret_name = (struct replica_name){0};
	if (strncmp(text, NSID_PREFIX, strlen(NSID_PREFIX)) == 0) {
		nsid = strtoul(text + strlen(NSID_PREFIX), &end, 10);
		if (*end == 0 && nsid > 0 && nsid < UINT32_MAX) {
			ret_name->nsid = (uint32_t)nsid;
			return 0;
		}
	} else if (uuid_parse(text, &ret_name->id) == 0) {
		return 0;
	}
	return err_set(err, -EINVAL, "replica '%s': give its uuid", text);
}

static uint32_t nsid_of(unsigned pool, const struct store_replica *replica)
{
	return pool * 65536u + store_replica_slot(replica) + 1;
}

static struct store_replica *find_in(
	struct store *store, unsigned pool, const struct replica_name *name)
{
	struct store_replica *replica = NULL;

	if (name->nsid == 0) {
		return store_replica_find(store, &name->id);
	}
	do {
		replica = store_replica_next(store, replica);
	} while (replica != NULL && nsid_of(pool, replica) != name->nsid);
	return replica;
}

static struct store_replica *find_replica(struct control *control, const struct replica_name *name,
	unsigned *ret_pool, struct err *err)
{
	char id[UUID_TEXT_SIZE];

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct store *store = control->pools[i].store;
		struct store_replica *replica = store == NULL ? NULL : find_in(store, i, name);

		if (replica != NULL) {
			*ret_pool = i;
			return replica;
		}
	}
	if (name->nsid != 0) {
		err_set(err, -ENOENT, "namespace %" PRIu32 ": no such replica", name->nsid);
	} else {
		err_set(err, -ENOENT, "replica %s: not on this pool-agent",
			uuid_to_text(&name->id, id));
	}
	return NULL;
}

static void info_fill(struct control *control, struct store_replica *replica, unsigned pool,
	struct replica_info *ret_info)
{
	ret_info->pool = pool;
	ret_info->nsid = nsid_of(pool, replica);
	ret_info->abstains = store_replica_abstains(replica);
	ret_info->used_bytes = store_replica_used_bytes(replica);
	if (!ret_info->abstains) {
		ret_info->vmeta = *store_replica_vmeta(replica);
	}
	agent_replica_get_status(control->agent, replica, &ret_info->status);
}

/* ---- as a message ---- */

/* Texts that a Strake__V1__Replica points to. */
struct replica_text {
	Strake__V1__Replica message;
	char uuid[UUID_TEXT_SIZE];
	char volume[UUID_TEXT_SIZE];
	char agent[UUID_TEXT_SIZE];
	char cfg[CFG_TEXT_SIZE];
	char token[64];
	char address[IO_ADDRESS_TEXT_SIZE];
	char kind[16], state[16];
	char pool[STORE_POOL_NAME_SIZE];
	struct replica_info info;
};

/* What its own metadata say; whether that is still so, only a majority of the volume's voters
 * knows. */
static const char *state_name(const struct replica_info *info)
{
	const struct cfg *cfg = &info->vmeta.cfg;
	int place;

	if (info->abstains) {
		return "Abstains";
	}
	if (info->status.exported) {
		return "Exported";
	}
	if (cfg->gen == 0) {
		return "Free";
	}
	place = cfg_find(cfg, &info->vmeta.replica);
	if (place < 0) {
		return "Removed";
	}
	if (info->vmeta.kind == VOTER_ARBITER) {
		return "Votes";
	}
	if (info->vmeta.rebuilding) {
		return "Rebuilding";
	}
	return cfg->voters[place].insync ? "InSync" : "OutOfSync";
}

static void text_fill(struct control *control, struct replica_text *text)
{
	const struct replica_info *info = &text->info;
	Strake__V1__Replica *message = &text->message;
	char epoch[EPOCH_TEXT_SIZE];

	strake__v1__replica__init(message);
	snprintf(text->pool, sizeof(text->pool), "%s", control->pools[info->pool].name);
	snprintf(text->state, sizeof(text->state), "%s", state_name(info));
	snprintf(text->kind, sizeof(text->kind), "%s",
		info->vmeta.kind == VOTER_ARBITER ? "arbiter" : "data");
	snprintf(text->token, sizeof(text->token), "%s/%" PRIu32,
		epoch_to_text(&info->status.cur.epoch, epoch), info->status.cur.session);
	uuid_to_text(&info->vmeta.replica, text->uuid);
	if (info->abstains) {
		snprintf(text->uuid, sizeof(text->uuid), NSID_PREFIX "%" PRIu32, info->nsid);
	}
	message->uuid = text->uuid;
	message->pool = text->pool;
	message->volume_name = text->info.vmeta.name;
	message->volume_uuid = uuid_to_text(&info->vmeta.volume, text->volume);
	message->size_bytes = info->vmeta.size_bytes;
	message->used_bytes = info->used_bytes;
	message->nsid = info->nsid;
	message->kind = text->kind;
	message->state = text->state;
	message->cfg = cfg_to_text(&info->vmeta.cfg, text->cfg);
	message->clean = info->vmeta.clean;
	message->host = text->info.status.host;
	message->token = text->token;
	message->refused = info->status.refused;
	message->export_nqn = text->info.status.export_nqn;
	message->agent = uuid_to_text(&control->uuid, text->agent);
	message->address = io_address_to_text(&control->address, text->address);
}

/* ---- list: pages of the reactor's time ---- */

struct list_job {
	struct job job;
	const char *pool, *volume; /* "": any; of the request */
	struct replica_name name;
	bool by_name;
	uint32_t after; /* namespace id of the last one looked at */
	bool is_last;
	unsigned page_count;
	struct replica_info page[PAGE_REPLICAS];
	struct replica_text **texts; /* owned */
	size_t text_count;
};

static bool is_wanted(const struct list_job *lj, struct store_replica *replica, unsigned pool)
{
	bool abstains = store_replica_abstains(replica);

	if (lj->by_name && lj->name.nsid != 0) {
		return nsid_of(pool, replica) == lj->name.nsid;
	}
	if (abstains) {
		return !lj->by_name && lj->volume[0] == 0;
	}
	if (lj->by_name && !uuid_equal(&store_replica_vmeta(replica)->replica, &lj->name.id)) {
		return false;
	}
	return lj->volume[0] == 0 || strcmp(store_replica_vmeta(replica)->name, lj->volume) == 0;
}

/* False when the page is full. */
static bool list_pool(struct list_job *lj, unsigned pool)
{
	struct control *control = lj->job.control;
	struct store *store = control->pools[pool].store;

	if (store == NULL ||
		(lj->pool[0] != 0 && strcmp(control->pools[pool].name, lj->pool) != 0)) {
		return true;
	}
	for (struct store_replica *replica = store_replica_next(store, NULL); replica != NULL;
		replica = store_replica_next(store, replica)) {
		if (nsid_of(pool, replica) <= lj->after || !is_wanted(lj, replica, pool)) {
			continue;
		}
		if (lj->page_count == PAGE_REPLICAS) {
			return false;
		}
		info_fill(control, replica, pool, &lj->page[lj->page_count++]);
		lj->after = nsid_of(pool, replica);
	}
	return true;
}

static void list_step(struct task *task)
{
	struct list_job *lj = container_of(task, struct list_job, job.task);

	lj->is_last = true;
	lj->page_count = 0;
	for (unsigned i = lj->after / 65536; i < AGENT_POOLS_MAX && lj->is_last; i++) {
		lj->is_last = list_pool(lj, i);
	}
	job_end(&lj->job);
}

static void list_free(struct list_job *lj)
{
	for (size_t i = 0; i < lj->text_count; i++) {
		free(lj->texts[i]);
	}
	free(lj->texts);
	free(lj);
}

static int page_keep(struct list_job *lj)
{
	struct replica_text **texts =
		realloc(lj->texts, (lj->text_count + lj->page_count + 1) * sizeof(*texts));

	if (texts == NULL) {
		return -ENOMEM;
	}
	lj->texts = texts;
	for (unsigned i = 0; i < lj->page_count; i++) {
		struct replica_text *text = calloc(1, sizeof(*text));

		if (text == NULL) {
			return -ENOMEM;
		}
		text->info = lj->page[i];
		text_fill(lj->job.control, text);
		lj->texts[lj->text_count++] = text;
	}
	return 0;
}

static void list_finish(struct job *job)
{
	struct list_job *lj = container_of(job, struct list_job, job);
	Strake__V1__ListReplicasResponse reply = STRAKE__V1__LIST_REPLICAS_RESPONSE__INIT;

	if (page_keep(lj) != 0) {
		grpc_call_failf(job->call, -ENOMEM, "out of memory");
		list_free(lj);
		return;
	}
	if (!lj->is_last) {
		job_init(job, job->control, job->call, list_step, list_finish);
		job_look(job);
		return;
	}
	/* The message is the first member of a text. */
	_Static_assert(offsetof(struct replica_text, message) == 0, "list of messages");
	reply.n_replicas = lj->text_count;
	reply.replicas = (Strake__V1__Replica **)(void *)lj->texts;
	grpc_call_reply(job->call, &reply.base);
	list_free(lj);
}

void replicas_list(struct grpc_call *call, const char *pool, const char *volume, const char *id)
{
	struct control *control = grpc_call_ctx(call);
	struct list_job *lj = calloc(1, sizeof(*lj));
	struct err err;

	if (lj == NULL) {
		grpc_call_failf(call, -ENOMEM, "out of memory");
		return;
	}
	lj->pool = pool;
	lj->volume = volume;
	lj->by_name = id[0] != 0;
	if (lj->by_name && replica_name_parse(id, &lj->name, &err) != 0) {
		grpc_call_fail(call, &err);
		free(lj);
		return;
	}
	if (pool[0] != 0 && control_find_pool(control, pool) == NULL) {
		grpc_call_failf(call, -ENOENT, "pool %s: not on this pool-agent", pool);
		free(lj);
		return;
	}
	job_init(&lj->job, control, call, list_step, list_finish);
	job_look(&lj->job);
}

/* ---- create, delete, export, unexport ---- */

enum replica_job_state { REPLICA_JOB_START, REPLICA_JOB_AWAIT_1, REPLICA_JOB_AWAIT_2 };

struct replica_job {
	struct job job;
	enum replica_job_state state;
	struct pool *pool;
	struct store_replica_options options;
	struct replica_name name;
	struct store_replica *replica;
	unsigned pool_index;
	bool is_there;            /* a creation found it */
	struct replica_text text; /* the answer */
};

static struct replica_job *replica_job_of(struct job *job)
{
	return container_of(job, struct replica_job, job);
}

static struct replica_job *replica_job_new(
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

static void op_failed(struct job *job)
{
	if (job->err.code == 0 && job->op.result != 0) {
		job->err = job->op.err;
		if (job->err.code == 0) {
			err_set(&job->err, job->op.result, "%s", err_describe(job->op.result));
		}
	}
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
	if (vmeta->size_bytes != options->size_bytes) {
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
		rj->replica = find_replica(control, &name, &rj->pool_index, &ignored);
		if (rj->replica != NULL) {
			rj->is_there = true;
			info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
			(void)create_compare(rj);
			job_end(&rj->job);
			return;
		}
		store_replica_create(rj->pool->store, &rj->options, &rj->replica, job_op(&rj->job));
		AWAIT(rj, REPLICA_JOB_AWAIT_1, rj->job.done);
		op_failed(&rj->job);
		if (rj->job.err.code == 0 &&
			agent_replica_added(control->agent, rj->replica) == 0) {
			/* It is served after a restart. */
			err_set(&rj->job.err, -ENOMEM, "out of memory");
		}
		if (rj->job.err.code == 0) {
			info_fill(control, rj->replica, rj->pool->index, &rj->text.info);
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
		text_fill(job->control, &rj->text);
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
		rj->replica = find_replica(control, &rj->name, &rj->pool_index, &rj->job.err);
		if (rj->replica != NULL) {
			info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
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
		op_failed(&rj->job);
		job_end(&rj->job);
	}
}

static void named_begin(struct job *job, const char *id)
{
	(void)replica_name_parse(id, &replica_job_of(job)->name, &job->err);
}

static void delete_begin(struct job *job)
{
	const Strake__V1__DeleteReplicaRequest *request =
		(const void *)grpc_call_request(job->call);

	named_begin(job, request->uuid);
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

static void export_step(struct task *task)
{
	struct replica_job *rj = container_of(task, struct replica_job, job.task);
	struct control *control = rj->job.control;

	rj->replica = find_replica(control, &rj->name, &rj->pool_index, &rj->job.err);
	if (rj->replica != NULL &&
		agent_replica_export(control->agent, rj->replica, &rj->job.err) == 0) {
		info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
	}
	job_end(&rj->job);
}

static void export_begin(struct job *job)
{
	const Strake__V1__ExportReplicaRequest *request =
		(const void *)grpc_call_request(job->call);

	named_begin(job, request->uuid);
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
		rj->replica = find_replica(control, &rj->name, &rj->pool_index, &rj->job.err);
		if (rj->replica == NULL) {
			job_end(&rj->job);
			return;
		}
		info_fill(control, rj->replica, rj->pool_index, &rj->text.info);
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

	named_begin(job, request->uuid);
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
