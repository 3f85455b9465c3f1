/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key has an item while it waits, is worked on, waits for its time, or failed the last time. Work
 * is only begun from the pump, a timer: never from within kube_queue_add or kube_queue_done.
 */
#include "base/bytes.h"
#include "kube/internal.h"
#include "kube/keys.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PARALLEL_MAX 16
#define AGAIN_MIN_MS 200
#define AGAIN_MAX_MS 60000

struct item {
	struct key_node key_node;
	struct list_node node;   /* of `waiting` */
	struct loop_timer timer; /* to when it is added again */
	struct kube_queue *queue;
	bool is_working;
	bool is_added; /* while it was worked on */
	unsigned failures;
	uint64_t began_ms;
};

struct kube_queue {
	struct kube *kube;
	struct kube_queue_options options;
	char *name; /* owned */
	struct keys keys;
	struct list waiting;
	unsigned working;
	struct loop_timer pump;
	bool is_stopping;
	void (*stopped)(void *ctx);
	void *stopped_ctx;

	struct metric metric_waiting, metric_working, metric_works, metric_failures, metric_seconds;
	_Atomic uint64_t seconds_buckets[METRIC_BUCKETS];
};

/* ---- items ---- */

static void item_free(struct item *item)
{
	loop_timer_stop(&item->timer);
	if (list_is_linked(&item->node)) {
		list_remove(&item->node);
		metric_inc(&item->queue->metric_waiting, UINT64_MAX);
	}
	keys_remove(&item->queue->keys, &item->key_node);
	free(item->key_node.key);
	free(item);
}

static struct item *find(const struct kube_queue *queue, const char *key)
{
	struct key_node *node = keys_find(&queue->keys, key);

	return node == NULL ? NULL : container_of(node, struct item, key_node);
}

static void item_add(struct item *item)
{
	struct kube_queue *queue = item->queue;

	if (item->is_working) {
		item->is_added = true;
		return;
	}
	loop_timer_stop(&item->timer);
	if (!list_is_linked(&item->node)) {
		list_push_back(&queue->waiting, &item->node);
		metric_inc(&queue->metric_waiting, 1);
	}
	if (!loop_timer_is_running(&queue->pump)) {
		loop_timer_start(queue->kube->loop, &queue->pump, 0);
	}
}

static void timer_expired(struct loop_timer *timer)
{
	item_add(container_of(timer, struct item, timer));
}

/* NULL only without memory, which is logged: a resync or the next event adds the key again. */
static struct item *find_or_make(struct kube_queue *queue, const char *key)
{
	struct item *item = find(queue, key);

	if (item != NULL) {
		return item;
	}
	item = calloc(1, sizeof(*item));
	if (item != NULL) {
		item->queue = queue;
		item->timer.expired = timer_expired;
		item->key_node.key = strdup(key);
	}
	if (item == NULL || item->key_node.key == NULL ||
		keys_add(&queue->keys, &item->key_node) < 0) {
		log_error(queue->kube->log, "kube", "queue-no-memory", "queue=%s key=%s",
			queue->name, key);
		if (item != NULL) {
			free(item->key_node.key);
		}
		free(item);
		return NULL;
	}
	return item;
}

void kube_queue_add(struct kube_queue *queue, const char *key)
{
	struct item *item = queue->is_stopping ? NULL : find_or_make(queue, key);

	if (item != NULL) {
		item_add(item);
	}
}

void kube_queue_add_after(struct kube_queue *queue, const char *key, uint64_t delay_ms)
{
	struct item *item = queue->is_stopping ? NULL : find_or_make(queue, key);

	/* What is to happen sooner stays. */
	if (item == NULL || list_is_linked(&item->node) ||
		(loop_timer_is_running(&item->timer) &&
			item->timer.deadline_ms <= loop_now_ms(queue->kube->loop) + delay_ms)) {
		return;
	}
	loop_timer_start(queue->kube->loop, &item->timer, delay_ms);
}

/* ---- work ---- */

static void start_pump(struct kube_queue *queue)
{
	if (!loop_timer_is_running(&queue->pump)) {
		loop_timer_start(queue->kube->loop, &queue->pump, 0);
	}
}

static void begin(struct kube_queue *queue, struct item *item)
{
	list_remove(&item->node);
	metric_inc(&queue->metric_waiting, UINT64_MAX);
	metric_inc(&queue->metric_works, 1);
	item->is_working = true;
	item->began_ms = loop_now_ms(queue->kube->loop);
	queue->working++;
	metric_set(&queue->metric_working, queue->working);
	queue->options.work(queue->options.ctx, item->key_node.key);
}

static void pump_expired(struct loop_timer *timer)
{
	struct kube_queue *queue = container_of(timer, struct kube_queue, pump);
	/* As many as there are now: one that adds itself again must not keep the loop. */
	unsigned budget = queue->options.parallel_max;

	while (!queue->is_stopping && budget-- > 0 &&
		queue->working < queue->options.parallel_max) {
		struct list_node *node = list_first(&queue->waiting);

		if (node == NULL) {
			return;
		}
		begin(queue, container_of(node, struct item, node));
	}
	if (queue->is_stopping && queue->working == 0 && queue->stopped != NULL) {
		void (*stopped)(void *ctx) = queue->stopped;

		queue->stopped = NULL;
		stopped(queue->stopped_ctx);
	} else if (!queue->is_stopping && !list_is_empty(&queue->waiting) &&
		   queue->working < queue->options.parallel_max) {
		start_pump(queue);
	}
}

void kube_queue_done(struct kube_queue *queue, const char *key, enum kube_queue_result result)
{
	struct item *item = find(queue, key);

	assert(item != NULL && item->is_working);
	item->is_working = false;
	queue->working--;
	metric_set(&queue->metric_working, queue->working);
	metric_observe_ns(&queue->metric_seconds,
		(loop_now_ms(queue->kube->loop) - item->began_ms) * 1000000);
	start_pump(queue);
	if (result == KUBE_QUEUE_OK) {
		item->failures = 0;
	} else {
		item->failures++;
		metric_inc(&queue->metric_failures, 1);
	}
	if (queue->is_stopping) {
		item_free(item);
	} else if (item->is_added) {
		item->is_added = false;
		item_add(item);
	} else if (result == KUBE_QUEUE_AGAIN) {
		kube_queue_add_after(queue, item->key_node.key,
			kube_backoff_ms(queue->kube, item->failures - 1,
				queue->options.again_ms_min, queue->options.again_ms_max));
	} else if (!loop_timer_is_running(&item->timer)) {
		item_free(item);
	}
}

/* ---- life ---- */

int kube_queue_new(struct kube *kube, const struct kube_queue_options *options,
	struct kube_queue **ret_queue, struct err *err)
{
	struct kube_queue *queue = calloc(1, sizeof(*queue));
	struct metric_registry *metrics = kube->metrics;

	if (queue == NULL || (queue->name = strdup(options->name)) == NULL) {
		free(queue);
		return err_set(err, -ENOMEM, "no memory for the queue %s", options->name);
	}
	kube->queue_count++;
	queue->kube = kube;
	queue->options = *options;
	queue->options.name = queue->name;
	queue->options.parallel_max =
		options->parallel_max != 0 ? options->parallel_max : PARALLEL_MAX;
	queue->options.again_ms_min =
		options->again_ms_min != 0 ? options->again_ms_min : AGAIN_MIN_MS;
	queue->options.again_ms_max =
		options->again_ms_max != 0 ? options->again_ms_max : AGAIN_MAX_MS;
	queue->pump.expired = pump_expired;
	queue->metric_seconds.buckets = queue->seconds_buckets;
	list_init(&queue->waiting);
	metric_add(metrics, &queue->metric_waiting, METRIC_GAUGE, "strake_kube_queue_waiting",
		"Keys that wait to be worked on.", "queue=\"%s\"", queue->name);
	metric_add(metrics, &queue->metric_working, METRIC_GAUGE, "strake_kube_queue_working",
		"Keys that are being worked on.", "queue=\"%s\"", queue->name);
	metric_add(metrics, &queue->metric_works, METRIC_COUNTER, "strake_kube_queue_works_total",
		"How often a key was worked on.", "queue=\"%s\"", queue->name);
	metric_add(metrics, &queue->metric_failures, METRIC_COUNTER,
		"strake_kube_queue_failures_total", "Of those the ones that must be tried again.",
		"queue=\"%s\"", queue->name);
	metric_add(metrics, &queue->metric_seconds, METRIC_HISTOGRAM, "strake_kube_queue_seconds",
		"How long a key is worked on.", "queue=\"%s\"", queue->name);
	*ret_queue = queue;
	return 0;
}

void kube_queue_stop(struct kube_queue *queue, void (*stopped)(void *ctx), void *ctx)
{
	queue->is_stopping = true;
	queue->stopped = stopped;
	queue->stopped_ctx = ctx;
	start_pump(queue);
}

void kube_queue_free(struct kube_queue *queue)
{
	if (queue == NULL) {
		return;
	}
	assert(queue->working == 0);
	for (struct key_node *node = keys_any(&queue->keys); node != NULL;
		node = keys_any(&queue->keys)) {
		item_free(container_of(node, struct item, key_node));
	}
	keys_done(&queue->keys);
	loop_timer_stop(&queue->pump);
	metric_remove(queue->kube->metrics, &queue->metric_waiting);
	metric_remove(queue->kube->metrics, &queue->metric_working);
	metric_remove(queue->kube->metrics, &queue->metric_works);
	metric_remove(queue->kube->metrics, &queue->metric_failures);
	metric_remove(queue->kube->metrics, &queue->metric_seconds);
	queue->kube->queue_count--;
	free(queue->name);
	free(queue);
}
