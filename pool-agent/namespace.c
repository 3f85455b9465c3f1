/* SPDX-License-Identifier: Apache-2.0 */
/* Pools and the namespaces of their replicas: how they come and go. */
#include "base/mutant.h"
#include "pool-agent/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

/* A volatile cache may have lost acknowledged writes: nobody holds a namespace of the pool any more
 * until it is fenced anew, and learns the new power then. */
static void pool_check_power(struct agent_pool *pool)
{
	uint64_t power = store_power(pool->store);

	if (power == pool->power) {
		return;
	}
	pool->power = power;
	for (uint32_t slot = 0; slot < pool->slot_count; slot++) {
		if (pool->slots[slot] != NULL) {
			ns_lose(pool->slots[slot]);
			window_invalidate(&pool->slots[slot]->window);
		}
	}
}

struct ns *agent_find_ns(struct agent *agent, uint32_t nsid)
{
	uint32_t index = nsid - 1;
	struct agent_pool *pool;
	struct ns *ns;

	if (nsid == 0 || index / AGENT_NSID_POOL >= AGENT_POOLS_MAX) {
		return NULL;
	}
	pool = &agent->pools[index / AGENT_NSID_POOL];
	if (pool->store == NULL || index % AGENT_NSID_POOL >= pool->slot_count) {
		return NULL;
	}
	pool_check_power(pool);
	ns = pool->slots[index % AGENT_NSID_POOL];
	return ns == NULL || ns->removing ? NULL : ns;
}

struct ns *agent_find_replica(struct agent *agent, const struct store_replica *replica)
{
	uint32_t slot = store_replica_slot(replica);

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		const struct agent_pool *pool = &agent->pools[i];

		if (pool->store != NULL && slot < pool->slot_count && pool->slots[slot] != NULL &&
			pool->slots[slot]->replica == replica) {
			return pool->slots[slot];
		}
	}
	return NULL;
}

static void ns_metrics_add(struct ns *ns)
{
	char id[UUID_TEXT_SIZE];
	char labels[METRIC_LABELS_MAX];

	uuid_to_text(&ns->id, id);
	snprintf(labels, sizeof(labels), "replica=\"%s\",nsid=\"%u\"", id, ns->nsid);
	agent_metric_add(ns->agent, &ns->reads, "strake_replica_reads_total",
		"Reads of the holding nexus.", labels);
	agent_metric_add(ns->agent, &ns->writes, "strake_replica_writes_total",
		"Writes of the holding nexus.", labels);
	agent_metric_add(ns->agent, &ns->bytes_read, "strake_replica_read_bytes_total",
		"Bytes read by the holding nexus.", labels);
	agent_metric_add(ns->agent, &ns->bytes_written, "strake_replica_written_bytes_total",
		"Bytes written by the holding nexus.", labels);
	agent_metric_add(ns->agent, &ns->bytes_hashed, "strake_replica_hashed_bytes_total",
		"Bytes read here to send only their hashes.", labels);
	agent_metric_add(ns->agent, &ns->refused, "strake_replica_refused_total",
		"Commands refused because their token or association is not the current one.",
		labels);
}

static void ns_metrics_remove(struct ns *ns)
{
	agent_metric_remove(ns->agent, &ns->reads);
	agent_metric_remove(ns->agent, &ns->writes);
	agent_metric_remove(ns->agent, &ns->bytes_read);
	agent_metric_remove(ns->agent, &ns->bytes_written);
	agent_metric_remove(ns->agent, &ns->bytes_hashed);
	agent_metric_remove(ns->agent, &ns->refused);
}

const char *ns_why_abstains(const struct ns *ns)
{
	return ns->newer ? "its metadata are newer than this pool-agent: upgrade the pool-agent"
			 : "its metadata are unreadable: delete it and make a new one";
}

/* What is newer than this program is left as it is, for the one that comes after it. */
static void ns_judge_version(struct ns *ns)
{
	uint32_t needed = store_replica_vmeta(ns->replica)->cfg.min_version;
	char id[UUID_TEXT_SIZE];

	ns->newer = store_replica_is_newer(ns->replica) ||
		    (!ns->abstains && needed > ns->agent->cfg_version);
	if (!ns->newer || mutant_is(MUTANT_VERSION_IGNORED)) {
		return;
	}
	ns->abstains = true;
	uuid_to_text(&store_replica_vmeta(ns->replica)->replica, id);
	log_error(&ns->agent->io->log, "pool-agent", "replica-newer",
		"replica=%s nsid=%u needs=%u knows=%u reason=%s", id, ns->nsid, needed,
		ns->agent->cfg_version, ns_why_abstains(ns));
}

/* cur is what was promised before, with no association: nobody writes before the next FENCE. */
static struct ns *ns_new(
	struct agent_pool *pool, uint32_t first_nsid, struct store_replica *replica)
{
	struct agent *agent = pool->agent;
	uint32_t slot = store_replica_slot(replica);
	struct ns *ns = io_zalloc(agent->io, sizeof(*ns));

	assert(slot < pool->slot_count && pool->slots[slot] == NULL);
	if (ns == NULL) {
		return NULL;
	}
	ns->agent = agent;
	ns->pool = pool;
	ns->replica = replica;
	ns->nsid = first_nsid + slot;
	ns->abstains = store_replica_abstains(replica);
	ns_judge_version(ns);
	list_init(&ns->claims);
	if (!ns->abstains) {
		const struct vmeta *vmeta = store_replica_vmeta(replica);

		ns->id = vmeta->replica;
		ns->kind = vmeta->kind;
		ns->size_bytes = vmeta->size_bytes;
		ns->cur = (struct token){.epoch = vmeta->promised};
	}
	window_init(&ns->window, &agent->windows, ns->nsid,
		ns->abstains ? REPL_REGION_BYTES : store_replica_region_bytes(replica));
	voter_init(ns);
	ns_metrics_add(ns);
	pool->slots[slot] = ns;
	pool->ns_count++;
	return ns;
}

static void ns_free(struct ns *ns)
{
	struct agent_pool *pool = ns->pool;

	assert(ns->running == 0 && ns->req == NULL && list_is_empty(&ns->claims));
	pool->slots[store_replica_slot(ns->replica)] = NULL;
	pool->ns_count--;
	ns_metrics_remove(ns);
	window_done(&ns->window);
	task_done(&ns->task);
	io_free(ns->agent->io, ns);
}

bool ns_is_idle(const struct ns *ns)
{
	return ns->running == 0 && ns->export == NULL && voter_is_idle(ns);
}

void ns_progress(struct ns *ns)
{
	struct agent_pool *pool = ns->pool;
	void (*removed)(void *ctx) = ns->removed;
	void *ctx = ns->removed_ctx;

	if (!ns_is_idle(ns)) {
		return;
	}
	if (ns->agent->closing) {
		task_wake(&ns->agent->close_task);
	}
	if (!ns->removing) {
		return;
	}
	ns_free(ns);
	if (pool->removing && pool->ns_count == 0) {
		task_wake(&pool->task);
	}
	if (removed != NULL) {
		removed(ctx);
	}
}

/* Ends in ns_progress(), never inline. */
static void ns_remove(struct ns *ns, void (*removed)(void *ctx), void *ctx)
{
	ns->removing = true;
	ns->removed = removed;
	ns->removed_ctx = ctx;
	ns_drop_claims(ns);
	if (ns->export != NULL) {
		export_remove(ns->export);
	}
	voter_drop(ns);
	task_wake(&ns->task);
}

/* ---- stores ---- */

static void pool_clear(struct agent_pool *pool)
{
	struct io *io = pool->agent->io;

	task_done(&pool->task);
	io_free(io, pool->slots);
	*pool = (struct agent_pool){0};
}

static void pool_free_all_ns(struct agent_pool *pool)
{
	for (uint32_t slot = 0; slot < pool->slot_count; slot++) {
		struct ns *ns = pool->slots[slot];

		if (ns != NULL) {
			ns_drop_claims(ns);
			ns_free(ns);
		}
	}
}

void agent_free_pools(struct agent *agent)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		if (agent->pools[i].store != NULL) {
			pool_free_all_ns(&agent->pools[i]);
			pool_clear(&agent->pools[i]);
		}
	}
}

static void pool_step(struct task *task)
{
	struct agent_pool *pool = container_of(task, struct agent_pool, task);
	void (*removed)(void *ctx) = pool->removed;
	void *ctx = pool->removed_ctx;

	if (!pool->removing || pool->ns_count > 0) {
		return;
	}
	pool_clear(pool);
	removed(ctx);
}

int agent_add_store(struct agent *agent, unsigned pool_index, struct store *store)
{
	struct agent_pool *pool = &agent->pools[pool_index];
	struct store_info info;

	assert(pool_index < AGENT_POOLS_MAX && pool->store == NULL && !agent->closing);
	store_get_info(store, &info);
	assert(info.replica_slots <= AGENT_NSID_POOL);
	*pool = (struct agent_pool){
		.store = store,
		.slot_count = info.replica_slots,
		.power = store_power(store),
		.agent = agent,
		.slots = io_zalloc(agent->io, info.replica_slots * sizeof(*pool->slots)),
	};
	task_init(&pool->task, &agent->io->runq, pool_step);
	if (pool->slots == NULL) {
		pool_clear(pool);
		return -ENOMEM;
	}
	for (struct store_replica *replica = store_replica_next(store, NULL); replica != NULL;
		replica = store_replica_next(store, replica)) {
		if (ns_new(pool, pool_index * AGENT_NSID_POOL + 1, replica) == NULL) {
			pool_free_all_ns(pool);
			pool_clear(pool);
			return -ENOMEM;
		}
	}
	agent_namespaces_changed(agent);
	return 0;
}

static struct agent_pool *pool_of(struct agent *agent, const struct store *store)
{
	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		if (agent->pools[i].store == store) {
			return &agent->pools[i];
		}
	}
	return NULL;
}

void agent_remove_store(
	struct agent *agent, struct store *store, void (*removed)(void *ctx), void *ctx)
{
	struct agent_pool *pool = pool_of(agent, store);

	assert(pool != NULL && !pool->removing);
	pool->removing = true;
	pool->removed = removed;
	pool->removed_ctx = ctx;
	for (uint32_t slot = 0; slot < pool->slot_count; slot++) {
		if (pool->slots[slot] != NULL && !pool->slots[slot]->removing) {
			ns_remove(pool->slots[slot], NULL, NULL);
		}
	}
	task_wake(&pool->task);
	agent_namespaces_changed(agent);
}

/* ---- single replicas ---- */

uint32_t agent_replica_added(struct agent *agent, struct store_replica *replica)
{
	const struct uuid *id = &store_replica_vmeta(replica)->replica;

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		struct agent_pool *pool = &agent->pools[i];

		if (pool->store != NULL && store_replica_find(pool->store, id) == replica) {
			struct ns *ns = ns_new(pool, i * AGENT_NSID_POOL + 1, replica);

			agent_namespaces_changed(agent);
			return ns == NULL ? 0 : ns->nsid;
		}
	}
	assert(false && "the replica is of a store that was added");
	return 0;
}

void agent_replica_remove(
	struct agent *agent, struct store_replica *replica, void (*removed)(void *ctx), void *ctx)
{
	struct ns *ns = agent_find_replica(agent, replica);

	assert(ns != NULL && !ns->removing);
	ns_remove(ns, removed, ctx);
	agent_namespaces_changed(agent);
}

void agent_replica_get_status(struct agent *agent, const struct store_replica *replica,
	struct agent_replica_status *ret_status)
{
	const struct ns *ns = agent_find_replica(agent, replica);

	*ret_status = (struct agent_replica_status){0};
	if (ns == NULL) {
		/* It is being deleted, and no namespace any more. */
		return;
	}
	*ret_status = (struct agent_replica_status){
		.nsid = ns->nsid,
		.cur = ns->cur,
		.associated = ns->assoc != NULL,
		.reads = metric_get(&ns->reads),
		.writes = metric_get(&ns->writes),
		.bytes_read = metric_get(&ns->bytes_read),
		.bytes_written = metric_get(&ns->bytes_written),
		.refused = metric_get(&ns->refused),
		.newer = ns->newer,
		.exported = ns->export != NULL,
	};
	if (ns->assoc != NULL) {
		snprintf(ret_status->host, sizeof(ret_status->host), "%s",
			nvmet_ctrl_hostnqn(ns->assoc->ctrl));
	}
	if (ns->export != NULL) {
		snprintf(ret_status->export_nqn, sizeof(ret_status->export_nqn), "%s",
			export_nqn(ns->export));
	}
}
