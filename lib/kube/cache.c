/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server told: a list, then a watch from the list's resource version on.
 *
 * `version` is where the watch is; everything up to it is in `objects`, so an event or an absorbed
 * object that is not newer than it has nothing to say.  While a list is read `objects` holds the
 * old state with the pages that came so far; what the list did not name goes when it is whole.
 */
#include "base/bytes.h"
#include "kube/watch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MIN_MS 500
#define AGAIN_MAX_MS 30000
/* A watch that lasted so long was a good one. */
#define WATCH_GOOD_MS      5000
#define WATCH_FAILURES_MAX 3

struct kube_cache {
	struct kube *kube;
	struct kube_cache_options options; /* texts owned */
	char *path;                        /* owned; of list and watch, with the selectors */
	json_t *objects;                   /* key to object */
	char *version;                     /* owned; NULL: never listed */
	bool must_list;                    /* the watch cannot go on from `version` */
	bool is_synced;
	uint64_t heard_ms;
	unsigned calling; /* in someone's callback: must not be freed */

	struct loop_timer again;
	unsigned list_failures, watch_failures;

	/* A list that is being read. */
	struct kube_request request;
	struct kube_pager pager;
	bool is_listing;
	json_t *listed;     /* keys that came */
	json_t *absorbed;   /* keys of what was put in meanwhile */
	char *list_version; /* owned; of its pages */

	struct kube_watch watch;
	bool is_watching;
	uint64_t watch_began_ms;
	bool event_came;

	struct metric metric_objects;
};

static const char *version_of(const json_t *object)
{
	return kube_text(object, "metadata.resourceVersion");
}

static bool set_string(char **to, const char *text)
{
	char *copy = strdup(text);

	if (copy != NULL) {
		free(*to);
		*to = copy;
	}
	return copy != NULL;
}

static void key_of(const json_t *object, struct strbuf *key)
{
	const char *namespace = kube_namespace(object);

	strbuf_init(key);
	if (namespace[0] != '\0') {
		strbuf_printf(key, "%s/", namespace);
	}
	strbuf_append(key, kube_name(object));
}

/* ---- one object ---- */

static void report(
	struct kube_cache *cache, const char *key, const json_t *before, const json_t *object)
{
	metric_set(&cache->metric_objects, (int64_t)json_object_size(cache->objects));
	if (cache->options.changed != NULL) {
		cache->calling++;
		cache->options.changed(cache->options.ctx, key, before, object);
		cache->calling--;
	}
}

/* Takes `object`.  Nothing is reported when it is the same version. */
static void put(struct kube_cache *cache, const char *key, json_t *object)
{
	json_t *before = json_incref(json_object_get(cache->objects, key));

	if (before != NULL && strcmp(version_of(before), version_of(object)) == 0) {
		json_decref(before);
		json_decref(object);
		return;
	}
	kube_object_tidy(object, cache->options.kind);
	if (cache->options.trim != NULL) {
		cache->options.trim(object);
	}
	/* The callback may absorb another version of it. */
	json_incref(object);
	if (json_object_set_new(cache->objects, key, object) == 0) {
		report(cache, key, before, object);
	}
	json_decref(object);
	json_decref(before);
}

static void take_away(struct kube_cache *cache, const char *key)
{
	json_t *before = json_incref(json_object_get(cache->objects, key));

	if (before != NULL) {
		(void)json_object_del(cache->objects, key);
		report(cache, key, before, NULL);
		json_decref(before);
	}
}

void kube_cache_absorb(struct kube_cache *cache, const json_t *object)
{
	struct strbuf key;
	const char *version = version_of(object);
	const char *namespace = cache->options.namespace;

	/* Up to `version` all is known, its end too: it must not come back. */
	if (version[0] == '\0' || kube_name(object)[0] == '\0' ||
		(cache->version != NULL && kube_version_compare(version, cache->version) <= 0) ||
		(namespace != NULL && strcmp(namespace, kube_namespace(object)) != 0)) {
		return;
	}
	key_of(object, &key);
	const json_t *before = json_object_get(cache->objects, strbuf_text(&key));
	json_t *copy = NULL;

	if (!strbuf_failed(&key) &&
		(before == NULL || kube_version_compare(version, version_of(before)) > 0)) {
		copy = json_deep_copy(object);
	}
	if (copy != NULL) {
		if (cache->is_listing) {
			(void)json_object_set_new(cache->absorbed, key.text, json_true());
		}
		put(cache, key.text, copy);
	}
	strbuf_done(&key);
}

/* ---- lists ---- */

static void start_list(struct kube_cache *cache);
static void start_watch(struct kube_cache *cache);

static void list_page(void *ctx, json_t *items, const char *version)
{
	struct kube_cache *cache = ctx;
	struct strbuf key;
	size_t i;
	json_t *item;

	cache->heard_ms = loop_now_ms(cache->kube->loop);
	(void)set_string(&cache->list_version, version);
	json_array_foreach(items, i, item)
	{
		key_of(item, &key);
		const json_t *before = json_object_get(cache->objects, strbuf_text(&key));
		bool is_older = json_object_get(cache->absorbed, strbuf_text(&key)) != NULL &&
				kube_version_compare(version_of(before), version_of(item)) > 0;

		if (!strbuf_failed(&key) && kube_name(item)[0] != '\0') {
			(void)json_object_set_new(cache->listed, key.text, json_true());
			if (!is_older) {
				put(cache, key.text, json_incref(item));
			}
		}
		strbuf_done(&key);
	}
	(void)json_array_clear(items);
}

static void list_again(void *ctx)
{
	struct kube_cache *cache = ctx;

	(void)json_object_clear(cache->listed);
}

/* What the list did not name is gone, unless it was made while the list was read. */
static void sweep(struct kube_cache *cache)
{
	json_t *gone = json_array();
	const char *key;
	json_t *object;
	size_t i;

	json_object_foreach(cache->objects, key, object)
	{
		bool is_newer = json_object_get(cache->absorbed, key) != NULL &&
				kube_version_compare(version_of(object), cache->list_version) > 0;

		if (json_object_get(cache->listed, key) == NULL && !is_newer) {
			(void)json_array_append_new(gone, json_string(key));
		}
	}
	json_array_foreach(gone, i, object)
	{
		take_away(cache, json_string_value(object));
	}
	json_decref(gone);
}

static void list_over(struct kube_cache *cache)
{
	cache->is_listing = false;
	json_decref(cache->listed);
	json_decref(cache->absorbed);
	cache->listed = NULL;
	cache->absorbed = NULL;
}

static void again_after_list(struct kube_cache *cache)
{
	cache->list_failures++;
	loop_timer_start(cache->kube->loop, &cache->again,
		kube_backoff_ms(cache->kube, cache->list_failures - 1, AGAIN_MIN_MS, AGAIN_MAX_MS));
}

static void list_done(struct kube_request *request)
{
	struct kube_cache *cache = container_of(request, struct kube_cache, request);
	int result = request->result;

	if (result == 0 && (cache->list_version == NULL || cache->list_version[0] == '\0')) {
		result = err_set(&request->err, -EPROTO, "%s: the list has no resourceVersion",
			cache->options.kind->plural);
	}
	if (result == 0) {
		sweep(cache);
	}
	list_over(cache);
	if (result < 0) {
		log_warning(cache->kube->log, "kube", "list-failed", "kind=%s error=%s",
			cache->options.kind->plural, request->err.text);
		again_after_list(cache);
		return;
	}
	free(cache->version);
	cache->version = cache->list_version;
	cache->list_version = NULL;
	cache->must_list = false;
	cache->list_failures = 0;
	metric_set(&cache->metric_objects, (int64_t)json_object_size(cache->objects));
	start_watch(cache);
	if (!cache->is_synced) {
		cache->is_synced = true;
		if (cache->options.synced != NULL) {
			cache->calling++;
			cache->options.synced(cache->options.ctx);
			cache->calling--;
		}
	}
}

static void start_list(struct kube_cache *cache)
{
	cache->listed = json_object();
	cache->absorbed = json_object();
	cache->is_listing = true;
	free(cache->list_version);
	cache->list_version = NULL;
	cache->pager = (struct kube_pager){.page = list_page, .again = list_again, .ctx = cache};
	cache->request = (struct kube_request){.verb = KUBE_LIST,
		.kind = cache->options.kind,
		.namespace = cache->options.namespace,
		.label_selector = cache->options.label_selector,
		.field_selector = cache->options.field_selector,
		.done = list_done};
	metric_inc(&cache->kube->metric_relists, 1);
	kube_send_paged(cache->kube, &cache->request, &cache->pager);
}

/* ---- watches ---- */

static void again_after_watch(struct kube_cache *cache, uint64_t delay_ms)
{
	if (cache->watch_failures > 0) {
		delay_ms = max_u64(delay_ms, kube_backoff_ms(cache->kube, cache->watch_failures - 1,
						     AGAIN_MIN_MS, AGAIN_MAX_MS));
	}
	loop_timer_start(cache->kube->loop, &cache->again, delay_ms);
}

static void watch_begun(struct kube_watch *watch)
{
	struct kube_cache *cache = container_of(watch, struct kube_cache, watch);

	cache->heard_ms = loop_now_ms(cache->kube->loop);
	cache->watch_began_ms = cache->heard_ms;
}

static void watch_event(struct kube_watch *watch, struct kube_watch_event *event)
{
	struct kube_cache *cache = container_of(watch, struct kube_cache, watch);
	struct strbuf key;

	cache->heard_ms = loop_now_ms(cache->kube->loop);
	if (kube_version_compare(event->version, cache->version) <= 0 &&
		event->type != KUBE_WATCH_BOOKMARK) {
		/* From a server that is behind, or a repetition. */
		log_debug(cache->kube->log, "kube", "event-stale", "kind=%s version=%s",
			cache->options.kind->plural, event->version);
		return;
	}
	cache->event_came = true;
	if (kube_version_compare(event->version, cache->version) > 0 &&
		!set_string(&cache->version, event->version)) {
		return;
	}
	if (event->type == KUBE_WATCH_BOOKMARK) {
		return;
	}
	key_of(event->object, &key);
	const json_t *before = json_object_get(cache->objects, strbuf_text(&key));
	bool is_older =
		before != NULL && kube_version_compare(version_of(before), event->version) > 0;

	if (!strbuf_failed(&key) && !is_older) {
		if (event->type == KUBE_WATCH_DELETED) {
			take_away(cache, key.text);
		} else {
			put(cache, key.text, json_incref(event->object));
		}
	}
	strbuf_done(&key);
}

static void watch_ended(struct kube_watch *watch, int result, const struct err *why)
{
	struct kube_cache *cache = container_of(watch, struct kube_cache, watch);
	uint64_t lasted_ms =
		watch->has_begun ? loop_now_ms(cache->kube->loop) - cache->watch_began_ms : 0;

	cache->is_watching = false;
	if (cache->event_came || lasted_ms >= WATCH_GOOD_MS) {
		cache->watch_failures = 0;
	}
	/* Also one that ended well, when it was not worth its while. */
	if (result < 0 || lasted_ms < WATCH_GOOD_MS) {
		cache->watch_failures++;
	}
	log_write(cache->kube->log, result < 0 ? LOG_INFO : LOG_DEBUG, "kube", "watch-ended",
		"kind=%s seconds=%llu why=%s", cache->options.kind->plural,
		(unsigned long long)lasted_ms / 1000, result < 0 ? why->text : "its time is over");
	/* The server answers, but not to this: perhaps it does not like the version. */
	bool is_refused = result == -EREMOTEIO || result == -EINVAL || result == -EPROTO ||
			  result == -ENOENT || result == -EAGAIN;

	if (result == -ESTALE || (is_refused && cache->watch_failures >= WATCH_FAILURES_MAX)) {
		cache->must_list = true;
	}
	again_after_watch(cache, watch->retry_after_ms);
}

static void start_watch(struct kube_cache *cache)
{
	struct err err = {0};

	cache->watch.kube = cache->kube;
	cache->watch.begun = watch_begun;
	cache->watch.event = watch_event;
	cache->watch.ended = watch_ended;
	cache->event_came = false;
	metric_inc(&cache->kube->metric_watches, 1);
	if (kube_watch_start(&cache->watch, cache->path, cache->version, &err) < 0) {
		cache->watch_failures++;
		again_after_watch(cache, 0);
		return;
	}
	cache->is_watching = true;
}

static void again_expired(struct loop_timer *timer)
{
	struct kube_cache *cache = container_of(timer, struct kube_cache, again);

	if (cache->version == NULL || cache->must_list) {
		start_list(cache);
	} else {
		start_watch(cache);
	}
}

/* ---- making and asking ---- */

static bool copy_text(const char **text)
{
	char *copy = *text == NULL ? NULL : strdup(*text);
	bool is_copied = *text == NULL || copy != NULL;

	*text = copy;
	return is_copied;
}

static void free_text(const char *text)
{
	free((char *)(uintptr_t)text);
}

int kube_cache_new(struct kube *kube, const struct kube_cache_options *options,
	struct kube_cache **ret_cache, struct err *err)
{
	struct kube_cache *cache = calloc(1, sizeof(*cache));
	struct strbuf path;

	if (cache == NULL) {
		return err_set(err, -ENOMEM, "no memory for a cache of %s", options->kind->plural);
	}
	kube->cache_count++;
	cache->kube = kube;
	cache->options = *options;
	cache->again.expired = again_expired;
	cache->objects = json_object();
	strbuf_init(&path);
	kube_url_path(&path, options->kind, options->namespace, NULL, NULL);
	kube_url_query(&path, "labelSelector", options->label_selector);
	kube_url_query(&path, "fieldSelector", options->field_selector);
	bool is_copied = copy_text(&cache->options.namespace);

	is_copied = copy_text(&cache->options.label_selector) && is_copied;
	is_copied = copy_text(&cache->options.field_selector) && is_copied;
	cache->path = path.text;
	metric_add(kube->metrics, &cache->metric_objects, METRIC_GAUGE, "strake_kube_cache_objects",
		"Objects of this kind that are known.", "kind=\"%s\"", options->kind->plural);
	if (cache->objects == NULL || strbuf_failed(&path) || !is_copied) {
		kube_cache_free(cache);
		return err_set(err, -ENOMEM, "no memory for a cache of %s", options->kind->plural);
	}
	loop_timer_start(kube->loop, &cache->again, 0);
	*ret_cache = cache;
	return 0;
}

void kube_cache_free(struct kube_cache *cache)
{
	if (cache == NULL) {
		return;
	}
	assert(cache->calling == 0);
	loop_timer_stop(&cache->again);
	kube_cancel(&cache->request);
	list_over(cache);
	if (cache->is_watching) {
		kube_watch_stop(&cache->watch);
	}
	metric_remove(cache->kube->metrics, &cache->metric_objects);
	free_text(cache->options.namespace);
	free_text(cache->options.label_selector);
	free_text(cache->options.field_selector);
	free(cache->path);
	free(cache->version);
	free(cache->list_version);
	json_decref(cache->objects);
	cache->kube->cache_count--;
	free(cache);
}

bool kube_cache_is_synced(const struct kube_cache *cache)
{
	return cache->is_synced;
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

uint64_t kube_cache_age_ms(const struct kube_cache *cache)
{
	return cache->is_synced ? loop_now_ms(cache->kube->loop) - cache->heard_ms : UINT64_MAX;
}
