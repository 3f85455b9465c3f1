/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas: finding them, what is told of them, the list. */
#include "pool-agent/control/replica_job.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "nsid:7" names a replica whose metadata, and with them its id, are unreadable. */
#define NSID_PREFIX "nsid:"

#define PAGE_REPLICAS 64u

/* ---- finding, on the reactor ---- */

int replica_name_parse(const char *text, struct replica_name *ret_name, struct err *err)
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

struct store_replica *replica_find(struct control *control, const struct replica_name *name,
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

void replica_info_fill(struct control *control, struct store_replica *replica, unsigned pool,
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

/* What its own metadata say; whether that is still so, only a majority of the volume's voters
 * knows. */
static const char *state_name(const struct replica_info *info)
{
	const struct cfg *cfg = &info->vmeta.cfg;
	int place;

	if (info->abstains) {
		return "Abstains";
	}
	if (info->status.newer) {
		return "Newer";
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

static void configuration_fill(struct replica_text *text)
{
	const struct cfg *cfg = &text->info.vmeta.cfg;
	Strake__V1__Configuration *message = &text->configuration;

	strake__v1__configuration__init(message);
	message->attach = cfg->epoch.attach;
	message->inc = cfg->epoch.inc;
	message->generation = cfg->gen;
	message->lineage = cfg->lineage;
	message->size_bytes = cfg->size_bytes;
	message->wgen = cfg->wgen;
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		strake__v1__configuration_voter__init(&text->voters[i]);
		text->voters[i].replica = uuid_to_text(&cfg->voters[i].id, text->voter_ids[i]);
		text->voters[i].kind =
			(char *)(uintptr_t)(cfg->voters[i].kind == VOTER_ARBITER ? "arbiter"
										 : "data");
		text->voters[i].in_sync = cfg->voters[i].insync;
		text->voter_list[i] = &text->voters[i];
	}
	message->voters = text->voter_list;
	message->n_voters = cfg->voter_count;
	text->message.configuration = message;
	text->message.promised = text->info.vmeta.promised.attach;
}

void replica_text_fill(struct control *control, struct replica_text *text)
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
	message->key_number = info->vmeta.keys[0].number;
	configuration_fill(text);
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
		replica_info_fill(control, replica, pool, &lj->page[lj->page_count++]);
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
		replica_text_fill(lj->job.control, text);
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
