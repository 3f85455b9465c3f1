/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemons have: asked for regularly, as they do not tell by themselves. */
#include "csi-node/node.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define AGENT_MS      5000
#define NEXUS_MS      1000  /* while volumes are open */
#define NEXUS_IDLE_MS 10000 /* to find what was lost while nobody looked */
/* After a look every object is looked at: where there are many, changes are looked at together. */
#define OBJECTS_A_MS 8

static void ask(struct view *view)
{
	view->is_asking = true;
	view->began_ms = loop_now_ms(view->node->loop);
	workers_submit(view->node->daemon_workers, &view->work);
}

static void timer_expired(struct loop_timer *timer)
{
	ask(container_of(timer, struct view, timer));
}

/* A moment that further changes do not put off. */
static uint64_t soon_ms(const struct view *view)
{
	const struct node *node = view->node;
	uint64_t now_ms = loop_now_ms(node->loop);
	uint64_t next_ms =
		view->began_ms + kube_cache_count(node->caches[view->cache]) / OBJECTS_A_MS;

	return next_ms > now_ms ? next_ms - now_ms : 0;
}

static void ask_soon(struct view *view)
{
	if (view->node->is_stopping) {
		return;
	}
	if (view->is_asking) {
		view->is_asked_again = true;
		return;
	}
	loop_timer_start(view->node->loop, &view->timer, soon_ms(view));
}

/* Of both: an answer, or why there is none. */
static void take_answer(struct view *view, const char *daemon)
{
	bool was_failed = view->failure[0] != '\0';

	view->is_asking = false;
	view->is_heard = true;
	view->asked_ms = view->began_ms;
	view->failure[0] = '\0';
	if (view->result < 0) {
		(void)snprintf(view->failure, sizeof(view->failure), "%.*s",
			(int)sizeof(view->failure) - 1, view->err.text);
	}
	if (was_failed != (view->failure[0] != '\0')) {
		log_info(view->node->log, "node", "daemon-heard", "daemon=%s failure=%s", daemon,
			view->failure);
	}
}

static void ask_later(struct view *view, uint64_t delay_ms)
{
	if (view->node->is_stopping) {
		return;
	}
	loop_timer_start(
		view->node->loop, &view->timer, view->is_asked_again ? soon_ms(view) : delay_ms);
	view->is_asked_again = false;
}

const char *view_failure(const struct view *view)
{
	return view->failure[0] != '\0' ? view->failure : NULL;
}

/* ---- pool-agent ---- */

static void agent_run(struct work *work)
{
	struct view *view = container_of(work, struct view, work);

	err_clear(&view->err);
	view->result = agent_look(view->node->options.agent_socket, &view->new_agent, &view->err);
}

static void add_pool(void *ctx, const char *key, const json_t *object)
{
	struct node *node = ctx;

	(void)object;
	kube_queue_add(node->queues[QUEUE_POOLS], key);
}

static void add_replica(void *ctx, const char *key, const json_t *object)
{
	struct node *node = ctx;

	(void)object;
	kube_queue_add(node->queues[QUEUE_REPLICAS], key);
}

static void agent_done(struct work *work)
{
	struct view *view = container_of(work, struct view, work);
	struct node *node = view->node;

	take_answer(view, "pool-agent");
	agent_view_done(&node->agent);
	node->agent = view->new_agent;
	view->new_agent = (struct agent_view){0};
	kube_cache_each(node->caches[CACHE_POOLS], add_pool, node);
	kube_cache_each(node->caches[CACHE_REPLICAS], add_replica, node);
	/* Where there is nothing, there need not be a pool-agent. */
	if (kube_cache_count(node->caches[CACHE_POOLS]) > 0 ||
		kube_cache_count(node->caches[CACHE_REPLICAS]) > 0) {
		ask_later(view, AGENT_MS);
	}
}

void view_agent_soon(struct node *node)
{
	ask_soon(&node->agent_poll);
}

const Strake__V1__Pool *view_pool(const struct node *node, const char *name)
{
	const Strake__V1__ListPoolsResponse *pools = node->agent.pools;

	for (size_t i = 0; pools != NULL && i < pools->n_pools; i++) {
		if (strcmp(pools->pools[i]->name, name) == 0) {
			return pools->pools[i];
		}
	}
	return NULL;
}

const Strake__V1__Replica *view_replica(const struct node *node, const struct uuid *uuid)
{
	const Strake__V1__ListReplicasResponse *replicas = node->agent.replicas;
	char text[UUID_TEXT_SIZE];

	(void)uuid_to_text(uuid, text);
	for (size_t i = 0; replicas != NULL && i < replicas->n_replicas; i++) {
		if (strcasecmp(replicas->replicas[i]->uuid, text) == 0) {
			return replicas->replicas[i];
		}
	}
	return NULL;
}

/* ---- nexus ---- */

static void nexus_run(struct work *work)
{
	struct view *view = container_of(work, struct view, work);

	err_clear(&view->err);
	view->result = nexus_look(view->node->options.nexus_socket, &view->new_volumes, &view->err);
}

static void add_volume(void *ctx, const char *key, const json_t *object)
{
	struct node *node = ctx;

	(void)object;
	kube_queue_add(node->queues[QUEUE_VOLUMES], key);
}

static void add_snapshot(void *ctx, const char *key, const json_t *object)
{
	struct node *node = ctx;

	(void)object;
	kube_queue_add(node->queues[QUEUE_SNAPSHOTS], key);
}

static void nexus_done(struct work *work)
{
	struct view *view = container_of(work, struct view, work);
	struct node *node = view->node;
	size_t volume_count;
	const char *key;
	json_t *value;

	take_answer(view, "nexus");
	daemon_message_free(node->volumes);
	node->volumes = view->new_volumes;
	view->new_volumes = NULL;
	volume_count = node->volumes != NULL ? node->volumes->n_volumes : 0;
	kube_cache_each(node->caches[CACHE_VOLUMES], add_volume, node);
	kube_cache_each(node->caches[CACHE_SNAPSHOTS], add_snapshot, node);
	for (size_t i = 0; i < volume_count; i++) {
		kube_queue_add(node->queues[QUEUE_VOLUMES], node->volumes->volumes[i]->name);
	}
	json_object_foreach(node->said, key, value)
	{
		kube_queue_add(node->queues[QUEUE_VOLUMES], key);
	}
	bool is_idle = view->failure[0] == '\0' && volume_count == 0 &&
		       kube_cache_count(node->caches[CACHE_VOLUMES]) == 0 &&
		       json_object_size(node->said) == 0;

	ask_later(view, is_idle ? NEXUS_IDLE_MS : NEXUS_MS);
}

void view_nexus_soon(struct node *node)
{
	ask_soon(&node->nexus_poll);
}

const Strake__V1__Volume *view_volume(const struct node *node, const char *name)
{
	for (size_t i = 0; node->volumes != NULL && i < node->volumes->n_volumes; i++) {
		if (strcmp(node->volumes->volumes[i]->name, name) == 0) {
			return node->volumes->volumes[i];
		}
	}
	return NULL;
}

/* ---- both ---- */

static void start(struct node *node, struct view *view, unsigned cache,
	void (*run)(struct work *work), void (*done)(struct work *work))
{
	view->node = node;
	view->cache = cache;
	view->timer.expired = timer_expired;
	view->work.run = run;
	view->work.done = done;
}

void views_start(struct node *node)
{
	start(node, &node->agent_poll, CACHE_REPLICAS, agent_run, agent_done);
	start(node, &node->nexus_poll, CACHE_VOLUMES, nexus_run, nexus_done);
}

void views_stop(struct node *node)
{
	loop_timer_stop(&node->agent_poll.timer);
	loop_timer_stop(&node->nexus_poll.timer);
}
