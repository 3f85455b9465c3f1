/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of the fake: requests, caches, queues, Lease, Events. */
#include "csi-controller/testing/fake_kube.h"

#include "csi-controller/table.h"
#include "csi-controller/testing/fake_server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kube_kind kube_nodes = {"", "v1", "nodes", "Node", false};
const struct kube_kind kube_secrets = {"", "v1", "secrets", "Secret", true};
const struct kube_kind kube_pvcs = {
	"", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true};

#define AGAIN_MS 1000

/* What "struct kube" is here; the real one's layout is not used. */
struct fake {
	struct fake_server *server;
	struct loop *loop;
	struct rng *rng;
	struct list requests, caches, queues;
	struct kube_lease *lease;
	unsigned events;
};

struct sent {
	struct list_node node;
	struct kube_request *caller;
	struct fake_server_request request;
	bool is_executed;
};

static struct fake *of(struct kube *kube)
{
	return (struct fake *)(void *)kube;
}

static size_t list_length(const struct list *list)
{
	size_t length = 0;

	list_for_each (list, node) {
		length++;
	}
	return length;
}

/* Any of a list; NULL: it is empty. */
static struct list_node *pick(const struct list *list, struct rng *rng)
{
	size_t length = list_length(list), index = length == 0 ? 0 : rng_below(rng, length);

	list_for_each (list, node) {
		if (index-- == 0) {
			return node;
		}
	}
	return NULL;
}

struct kube *fake_kube_new(struct fake_server *server, struct loop *loop, struct rng *rng)
{
	struct fake *fake = must_alloc(sizeof(*fake));

	fake->server = server;
	fake->loop = loop;
	fake->rng = rng;
	list_init(&fake->requests);
	list_init(&fake->caches);
	list_init(&fake->queues);
	return (struct kube *)(void *)fake;
}

struct loop *kube_loop(struct kube *kube)
{
	return of(kube)->loop;
}

/* ---- requests ---- */

void kube_send(struct kube *kube, struct kube_request *caller)
{
	struct sent *sent = must_alloc(sizeof(*sent));

	sent->caller = caller;
	sent->request = (struct fake_server_request){
		.verb = caller->verb,
		.plural = caller->kind->plural,
		.name = must_copy(
			caller->verb == KUBE_LIST ? caller->field_selector : caller->name),
		.uid = caller->uid != NULL ? must_copy(caller->uid) : NULL,
		.version = caller->resource_version != NULL ? must_copy(caller->resource_version)
							    : NULL,
		.is_status = caller->subresource != NULL,
		.body = caller->body != NULL ? json_deep_copy(caller->body) : NULL,
	};
	caller->result = 0;
	caller->response = NULL;
	caller->backend = sent;
	err_clear(&caller->err);
	list_push_back(&of(kube)->requests, &sent->node);
}

static void sent_free(struct sent *sent)
{
	list_remove(&sent->node);
	json_decref(sent->request.body);
	json_decref(sent->request.response);
	must_free(sent->request.name);
	must_free(sent->request.uid);
	must_free(sent->request.version);
	must_free(sent);
}

void kube_cancel(struct kube_request *caller)
{
	/* A caller has no kube: its request knows where it is. */
	sent_free(caller->backend);
}

bool fake_kube_execute(struct kube *kube, unsigned fail_percent)
{
	struct fake *fake = of(kube);
	struct list_node *node = pick(&fake->requests, fake->rng);
	struct sent *sent = node == NULL ? NULL : container_of(node, struct sent, node);

	if (sent == NULL || sent->is_executed) {
		return false;
	}
	sent->is_executed = true;
	if (rng_percent(fake->rng, fail_percent)) {
		/* It never came there. */
		sent->request.result = -ECONNREFUSED;
		return true;
	}
	fake_server_execute(fake->server, &sent->request);
	if (rng_percent(fake->rng, fail_percent)) {
		/* The answer never comes. */
		json_decref(sent->request.response);
		sent->request.response = NULL;
		sent->request.result = -ETIMEDOUT;
	}
	return true;
}

bool fake_kube_answer(struct kube *kube)
{
	struct list_node *node = pick(&of(kube)->requests, of(kube)->rng);
	struct sent *sent = node == NULL ? NULL : container_of(node, struct sent, node);
	struct kube_request *caller;

	if (sent == NULL || !sent->is_executed) {
		return false;
	}
	caller = sent->caller;
	json_t *response = json_incref(sent->request.response);

	caller->result = sent->request.result;
	caller->response = response;
	if (caller->result < 0) {
		(void)err_set(&caller->err, caller->result, "%s %s: %s", sent->request.plural,
			sent->request.name, err_describe(caller->result));
	}
	sent_free(sent);
	caller->done(caller);
	json_decref(response);
	return true;
}

/* ---- caches ---- */

struct kube_cache {
	struct list_node node;
	struct fake *fake;
	char path[64], value[300]; /* the field selector: "" for all */
	struct kube_cache_options options;
	json_t *objects;
	bool is_synced;
	size_t heard;     /* of the server's log */
	uint64_t version; /* up to there all is known */
};

static uint64_t version_of(const json_t *object)
{
	return strtoull(kube_text(object, "metadata.resourceVersion"), NULL, 10);
}

int kube_cache_new(struct kube *kube, const struct kube_cache_options *options,
	struct kube_cache **ret_cache, struct err *err)
{
	struct kube_cache *cache = must_alloc(sizeof(*cache));

	(void)err;
	cache->fake = of(kube);
	cache->options = *options;
	if (options->field_selector != NULL) {
		size_t length = strcspn(options->field_selector, "=");

		(void)snprintf(cache->path, sizeof(cache->path), "%.*s", (int)length,
			options->field_selector);
		(void)snprintf(cache->value, sizeof(cache->value), "%s",
			options->field_selector + length + 1);
	}
	cache->options.field_selector = NULL; /* the caller's */
	cache->objects = json_object();
	list_push_back(&of(kube)->caches, &cache->node);
	*ret_cache = cache;
	return 0;
}

void kube_cache_free(struct kube_cache *cache)
{
	list_remove(&cache->node);
	json_decref(cache->objects);
	must_free(cache);
}

static bool is_selected(const struct kube_cache *cache, const json_t *object)
{
	return cache->path[0] == '\0' || strcmp(kube_text(object, cache->path), cache->value) == 0;
}

static void cache_set(struct kube_cache *cache, const char *name, const json_t *object)
{
	json_t *before = json_incref(json_object_get(cache->objects, name));
	json_t *copy =
		object == NULL || !is_selected(cache, object) ? NULL : json_deep_copy(object);

	if (before != NULL && object != NULL && version_of(before) >= version_of(object)) {
		json_decref(before);
		json_decref(copy);
		return;
	}
	if (copy != NULL && cache->options.trim != NULL) {
		cache->options.trim(copy);
	}
	if (copy != NULL) {
		(void)json_object_set_new(cache->objects, name, json_incref(copy));
	} else {
		(void)json_object_del(cache->objects, name);
	}
	if (copy != NULL || before != NULL) {
		cache->options.changed(cache->options.ctx, name, before, copy);
	}
	json_decref(copy);
	json_decref(before);
}

const json_t *kube_cache_get(const struct kube_cache *cache, const char *key)
{
	return json_object_get(cache->objects, key);
}

size_t kube_cache_count(const struct kube_cache *cache)
{
	return json_object_size(cache->objects);
}

void kube_cache_each(const struct kube_cache *cache,
	void (*each)(void *ctx, const char *key, const json_t *object), void *ctx)
{
	const char *key;
	json_t *object;

	json_object_foreach(cache->objects, key, object)
	{
		each(ctx, key, object);
	}
}

void kube_cache_absorb(struct kube_cache *cache, const json_t *object)
{
	if (object != NULL && version_of(object) > cache->version && is_selected(cache, object)) {
		cache_set(cache, kube_name(object), object);
	}
}

static void cache_list(struct kube_cache *cache)
{
	const char *key;
	json_t *object;
	size_t prefix = strlen(cache->options.kind->plural);

	json_object_foreach(cache->fake->server->objects, key, object)
	{
		if (strncmp(key, cache->options.kind->plural, prefix) == 0 && key[prefix] == '/') {
			cache_set(cache, key + prefix + 1, object);
		}
	}
	cache->version = cache->fake->server->version;
	cache->heard = json_array_size(cache->fake->server->log);
	cache->is_synced = true;
	if (cache->options.synced != NULL) {
		cache->options.synced(cache->options.ctx);
	}
}

bool fake_kube_hear(struct kube *kube)
{
	struct fake *fake = of(kube);
	struct list_node *node = pick(&fake->caches, fake->rng);
	struct kube_cache *cache =
		node == NULL ? NULL : container_of(node, struct kube_cache, node);

	if (cache == NULL) {
		return false;
	}
	if (!cache->is_synced) {
		cache_list(cache);
		return true;
	}
	while (cache->heard < json_array_size(fake->server->log)) {
		const json_t *change = json_array_get(fake->server->log, cache->heard++);
		const json_t *object = json_object_get(change, "object");

		if (strcmp(kube_text(change, "kind"), cache->options.kind->plural) != 0) {
			continue;
		}
		cache->version = (uint64_t)kube_number(change, "version", 0);
		cache_set(cache, kube_name(object), kube_bool(change, "gone") ? NULL : object);
		return true;
	}
	return false;
}

/* ---- queues ---- */

struct item {
	struct list_node node;
	char *key; /* owned */
	bool is_working, is_added, is_later;
	uint64_t due_ms; /* of the loop's clock, when is_later */
};

struct kube_queue {
	struct list_node node;
	struct fake *fake;
	struct kube_queue_options options;
	struct list items;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

int kube_queue_new(struct kube *kube, const struct kube_queue_options *options,
	struct kube_queue **ret_queue, struct err *err)
{
	struct kube_queue *queue = must_alloc(sizeof(*queue));

	(void)err;
	queue->fake = of(kube);
	queue->options = *options;
	list_init(&queue->items);
	list_push_back(&of(kube)->queues, &queue->node);
	*ret_queue = queue;
	return 0;
}

static void item_free(struct item *item)
{
	list_remove(&item->node);
	must_free(item->key);
	must_free(item);
}

static struct item *need_item(struct kube_queue *queue, const char *key, bool *ret_is_new)
{
	struct item *item;

	*ret_is_new = false;
	list_for_each (&queue->items, node) {
		item = container_of(node, struct item, node);
		if (strcmp(item->key, key) == 0) {
			return item;
		}
	}
	item = must_alloc(sizeof(*item));
	item->key = must_copy(key);
	list_push_back(&queue->items, &item->node);
	*ret_is_new = true;
	return item;
}

void kube_queue_add(struct kube_queue *queue, const char *key)
{
	bool is_new;
	struct item *item = need_item(queue, key, &is_new);

	item->is_added = item->is_working;
	item->is_later = false;
}

void kube_queue_add_after(struct kube_queue *queue, const char *key, uint64_t delay_ms)
{
	bool is_new;
	struct item *item = need_item(queue, key, &is_new);
	uint64_t due_ms = loop_now_ms(queue->fake->loop) + delay_ms;

	if (!item->is_later) {
		item->is_later = is_new || item->is_working;
		item->due_ms = due_ms;
	} else if (due_ms < item->due_ms) {
		item->due_ms = due_ms;
	}
}

void kube_queue_done(struct kube_queue *queue, const char *key, enum kube_queue_result result)
{
	bool is_new;
	struct item *item = need_item(queue, key, &is_new);

	assert(item->is_working);
	item->is_working = false;
	if (item->is_added) {
		item->is_added = false;
		item->is_later = false;
	} else if (result == KUBE_QUEUE_AGAIN) {
		item->is_later = true;
		item->due_ms = loop_now_ms(queue->fake->loop) + AGAIN_MS;
	} else if (!item->is_later) {
		item_free(item);
	}
}

bool fake_kube_work(struct kube *kube)
{
	struct fake *fake = of(kube);
	struct list_node *node = pick(&fake->queues, fake->rng);
	struct kube_queue *queue =
		node == NULL ? NULL : container_of(node, struct kube_queue, node);
	struct item *item;

	node = queue == NULL ? NULL : pick(&queue->items, fake->rng);
	if (node == NULL) {
		return false;
	}
	item = container_of(node, struct item, node);
	if (item->is_working || item->is_later) {
		return false;
	}
	item->is_working = true;
	/* The item may be gone when it returns. */
	char *key = must_copy(item->key);

	queue->options.work(queue->options.ctx, key);
	must_free(key);
	return true;
}

void fake_kube_pass_time_until(struct kube *kube, uint64_t now_ms)
{
	list_for_each (&of(kube)->queues, node) {
		struct kube_queue *queue = container_of(node, struct kube_queue, node);

		list_for_each (&queue->items, item_node) {
			struct item *item = container_of(item_node, struct item, node);

			item->is_later = item->is_later && item->due_ms > now_ms;
		}
	}
}

void fake_kube_pass_time(struct kube *kube)
{
	fake_kube_pass_time_until(kube, UINT64_MAX);
}

void kube_queue_stop(struct kube_queue *queue, void (*stopped)(void *ctx), void *ctx)
{
	(void)queue;
	stopped(ctx);
}

void kube_queue_free(struct kube_queue *queue)
{
	list_for_each_safe (&queue->items, node, following) {
		item_free(container_of(node, struct item, node));
	}
	list_remove(&queue->node);
	must_free(queue);
}

/* ---- leader, Events ---- */

struct kube_lease {
	struct kube_lease_options options;
	struct fake *fake;
	bool leads;
};

int kube_lease_new(struct kube *kube, const struct kube_lease_options *options,
	struct kube_lease **ret_lease, struct err *err)
{
	(void)err;
	*ret_lease = must_alloc(sizeof(**ret_lease));
	(*ret_lease)->options = *options;
	(*ret_lease)->fake = of(kube);
	of(kube)->lease = *ret_lease;
	return 0;
}

void kube_lease_free(struct kube_lease *lease, void (*freed)(void *ctx), void *ctx)
{
	lease->fake->lease = NULL;
	must_free(lease);
	freed(ctx);
}

bool kube_lease_is_leading(const struct kube_lease *lease)
{
	return lease->leads;
}

void fake_kube_lead(struct kube *kube, bool leads)
{
	struct kube_lease *lease = of(kube)->lease;

	lease->leads = leads;
	lease->options.leading(lease->options.ctx, leads);
}

int kube_recorder_new(struct kube *kube, const char *controller, const char *instance,
	struct kube_recorder **ret_recorder, struct err *err)
{
	(void)controller;
	(void)instance;
	(void)err;
	*ret_recorder = (struct kube_recorder *)(void *)kube;
	return 0;
}

void kube_recorder_free(struct kube_recorder *recorder)
{
	(void)recorder;
}

void kube_event(struct kube_recorder *recorder, const json_t *object, bool is_warning,
	const char *reason, const char *action, const char *note_format, ...)
{
	(void)is_warning;
	(void)action;
	(void)note_format;
	assert(kube_name(object)[0] != '\0' && reason[0] != '\0');
	((struct fake *)(void *)recorder)->events++;
}

unsigned fake_kube_events(const struct kube *kube)
{
	return ((const struct fake *)(const void *)kube)->events;
}

/* ---- the end ---- */

void fake_kube_drop_requests(struct kube *kube)
{
	struct fake *fake = of(kube);

	while (!list_is_empty(&fake->requests)) {
		struct sent *sent = container_of(list_first(&fake->requests), struct sent, node);
		struct kube_request *caller = sent->caller;

		if (!sent->is_executed && rng_percent(fake->rng, 50)) {
			fake_server_execute(fake->server, &sent->request);
		}
		caller->result = err_set(&caller->err, -ETIMEDOUT, "the process died");
		caller->response = NULL;
		sent_free(sent);
		caller->done(caller);
	}
}

void fake_kube_free(struct kube *kube)
{
	struct fake *fake = of(kube);

	assert(list_is_empty(&fake->requests) && list_is_empty(&fake->caches) &&
		list_is_empty(&fake->queues) && fake->lease == NULL);
	must_free(fake);
}

/* ---- calls ---- */

void *grpc_call_ctx(const struct grpc_call *call)
{
	return call->ctx;
}

uint64_t grpc_call_left_ms(const struct grpc_call *call)
{
	(void)call;
	return UINT64_MAX;
}

static void call_done(struct grpc_call *call, int result)
{
	assert(!call->is_done);
	call->is_done = true;
	call->result = result;
	if (call->done != NULL) {
		call->done(call);
	}
}

void grpc_call_fail(struct grpc_call *call, const struct err *err)
{
	(void)snprintf(call->text, sizeof(call->text), "%s", err->text);
	call_done(call, err->code);
}

void grpc_call_failf(struct grpc_call *call, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(call->text, sizeof(call->text), format, args);
	va_end(args);
	call_done(call, code);
}

void grpc_call_reply(struct grpc_call *call, const ProtobufCMessage *response)
{
	/* What is not well-formed is found here. */
	uint8_t *bytes = must_alloc(protobuf_c_message_get_packed_size(response) + 1);

	(void)protobuf_c_message_pack(response, bytes);
	must_free(bytes);
	call_done(call, 0);
}
