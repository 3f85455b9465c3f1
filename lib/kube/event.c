/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events.  A series is what was said of one object in the same words: the first time makes an
 * Event, later ones raise its count.  A budget is how much may still be said of one object.  Both
 * are kept in bounded numbers, the least recently used goes.
 */
#include "base/bytes.h"
#include "kube/internal.h"
#include "kube/keys.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_BYTES_MAX 1024
#define TEXT_BYTES_MAX 128 /* reason, action, reporting instance */
#define NAME_BYTES_MAX 253
#define SERIES_MS      (10u * 60 * 1000)
#define SERIES_MAX     512u
#define BUDGETS_MAX    1024u
#define BUDGET_MAX     25u
#define BUDGET_MS      5000u /* for one more */
#define SENDING_MAX    4u
#define TRIES_MAX      12u
#define AGAIN_MIN_MS   1000
#define AGAIN_MAX_MS   30000

struct kube_recorder {
	struct kube *kube;
	char *controller, *instance; /* owned */
	struct keys series, budgets;
	struct list series_lru, budgets_lru; /* least recently used first */
	struct list waiting;                 /* series that want to be written */
	unsigned sending;
	uint64_t number; /* of the last Event, for its name */
	struct metric metric_written, metric_dropped;
};

struct budget {
	struct key_node key_node;
	struct list_node lru;
	uint64_t credit_ms, at_ms;
};

struct series {
	struct key_node key_node;
	struct list_node lru;
	struct list_node waiting;
	struct kube_recorder *recorder;
	json_t *event; /* owned; the Event without its series */
	uint64_t last_ms;
	unsigned count, sent_count;
	unsigned written_count; /* that the server knows; 0: it has no such Event */
	unsigned tries;
	bool is_sending;
	bool is_wanted; /* there was more to write while it was sent */
	struct kube_request request;
	struct loop_timer again;
};

/* ---- budgets ---- */

static void budget_free(struct kube_recorder *recorder, struct budget *budget)
{
	keys_remove(&recorder->budgets, &budget->key_node);
	list_remove(&budget->lru);
	free(budget->key_node.key);
	free(budget);
}

static struct budget *budget_new(struct kube_recorder *recorder, const char *key)
{
	struct budget *budget = calloc(1, sizeof(*budget));

	if (budget == NULL) {
		return NULL;
	}
	budget->key_node.key = strdup(key);
	if (budget->key_node.key == NULL || keys_add(&recorder->budgets, &budget->key_node) < 0) {
		free(budget->key_node.key);
		free(budget);
		return NULL;
	}
	list_push_back(&recorder->budgets_lru, &budget->lru);
	budget->credit_ms = BUDGET_MAX * BUDGET_MS;
	if (recorder->budgets.count > BUDGETS_MAX) {
		budget_free(recorder,
			container_of(list_first(&recorder->budgets_lru), struct budget, lru));
	}
	return budget;
}

static bool may_say(struct kube_recorder *recorder, const char *object_key)
{
	struct key_node *node = keys_find(&recorder->budgets, object_key);
	struct budget *budget = node != NULL ? container_of(node, struct budget, key_node)
					     : budget_new(recorder, object_key);
	uint64_t now_ms = loop_now_ms(recorder->kube->loop);

	if (budget == NULL) {
		return false;
	}
	list_remove(&budget->lru);
	list_push_back(&recorder->budgets_lru, &budget->lru);
	if (budget->at_ms != 0) {
		budget->credit_ms =
			min_u64(budget->credit_ms + now_ms - budget->at_ms, BUDGET_MAX * BUDGET_MS);
	}
	budget->at_ms = now_ms;
	if (budget->credit_ms < BUDGET_MS) {
		return false;
	}
	budget->credit_ms -= BUDGET_MS;
	return true;
}

/* ---- writing ---- */

static void series_free(struct series *series)
{
	struct kube_recorder *recorder = series->recorder;

	kube_cancel(&series->request);
	recorder->sending -= series->is_sending;
	loop_timer_stop(&series->again);
	list_remove_if_linked(&series->waiting);
	list_remove_if_linked(&series->lru);
	keys_remove(&recorder->series, &series->key_node);
	json_decref(series->event);
	free(series->key_node.key);
	free(series);
}

/* A subdomain of at most 253 characters that nobody else makes: the object's name, time, a number.
 */
static void name_event(struct series *series)
{
	char name[NAME_BYTES_MAX + 1], suffix[48];
	struct kube_recorder *recorder = series->recorder;
	const char *object = kube_text(series->event, "regarding.name");
	size_t length = strlen(object);

	recorder->number++;
	(void)snprintf(suffix, sizeof(suffix), ".%012" PRIx64 "%04x",
		rng_u64(&recorder->kube->rng) >> 16, (unsigned)recorder->number & 0xffff);
	length = min_u64(length, NAME_BYTES_MAX - strlen(suffix));
	(void)snprintf(name, sizeof(name), "%.*s%s", (int)length, object, suffix);
	for (size_t i = 0; i < length; i++) {
		bool is_plain = (name[i] >= 'a' && name[i] <= 'z') ||
				(name[i] >= '0' && name[i] <= '9') ||
				(name[i] == '.' && i > 0 && name[i - 1] != '.' && i + 1 < length);

		name[i] = is_plain ? name[i] : i == 0 || i + 1 == length ? 'x' : '-';
		if (i > 0 && ((name[i] == '.' && name[i - 1] == '-') ||
				     (name[i] == '-' && name[i - 1] == '.'))) {
			name[i] = 'x';
		}
	}
	(void)json_object_set_new(
		json_object_get(series->event, "metadata"), "name", json_string(name));
}

static json_t *make_count(const struct series *series)
{
	char now[KUBE_TIME_TEXT_SIZE];

	return json_pack("{s:i, s:s}", "count", (int)min_u64(series->count, INT32_MAX),
		"lastObservedTime", kube_time_now_micro(now));
}

static void send_more(struct kube_recorder *recorder);
static void series_sent(struct kube_request *request);

static void send_series(struct series *series)
{
	struct kube_recorder *recorder = series->recorder;
	bool is_new = series->written_count == 0;
	json_t *body;

	if (is_new) {
		body = json_deep_copy(series->event);
		if (series->count > 1) {
			(void)json_object_set_new(body, "series", make_count(series));
		}
	} else {
		body = json_pack("{s:o}", "series", make_count(series));
	}
	series->request = (struct kube_request){.verb = is_new ? KUBE_CREATE : KUBE_MERGE_PATCH,
		.kind = &kube_events,
		.namespace = kube_namespace(series->event),
		.name = kube_name(series->event),
		.body = body,
		.done = series_sent};
	series->sent_count = series->count;
	series->is_sending = true;
	series->is_wanted = false;
	recorder->sending++;
	kube_send(recorder->kube, &series->request);
	json_decref(body);
}

static void send_more(struct kube_recorder *recorder)
{
	while (recorder->sending < SENDING_MAX) {
		struct list_node *node = list_pop_front(&recorder->waiting);

		if (node == NULL) {
			return;
		}
		send_series(container_of(node, struct series, waiting));
	}
}

static void want_to_send(struct series *series)
{
	if (series->is_sending) {
		series->is_wanted = true;
	} else if (!list_is_linked(&series->waiting) && !loop_timer_is_running(&series->again)) {
		list_push_back(&series->recorder->waiting, &series->waiting);
	}
	send_more(series->recorder);
}

static void again_expired(struct loop_timer *timer)
{
	want_to_send(container_of(timer, struct series, again));
}

static bool may_pass(int result)
{
	return result != -EINVAL && result != -EPERM && result != -ENOENT && result != -EPROTO;
}

static void series_sent(struct kube_request *request)
{
	struct series *series = container_of(request, struct series, request);
	struct kube_recorder *recorder = series->recorder;
	bool was_new = series->written_count == 0;
	int result = request->result;

	series->is_sending = false;
	recorder->sending--;
	if (result == 0 || (was_new && result == -EEXIST)) {
		/* That it is there: a broken connection's request was executed. */
		metric_inc(&recorder->metric_written, 1);
		series->written_count = series->sent_count;
		series->tries = 0;
		if (series->is_wanted) {
			want_to_send(series);
		}
	} else if (result == -ENOENT && !was_new) {
		/* The server keeps Events for an hour. */
		series->written_count = 0;
		name_event(series);
		want_to_send(series);
	} else if (may_pass(result) && series->tries < TRIES_MAX) {
		loop_timer_start(recorder->kube->loop, &series->again,
			kube_backoff_ms(
				recorder->kube, series->tries++, AGAIN_MIN_MS, AGAIN_MAX_MS));
	} else {
		metric_inc(&recorder->metric_dropped, 1);
		log_warning(recorder->kube->log, "kube", "event-refused", "reason=%s error=%s",
			kube_text(series->event, "reason"), request->err.text);
		series_free(series);
	}
	send_more(recorder);
}

/* ---- saying ---- */

static json_t *make_event(const struct kube_recorder *recorder, const json_t *object,
	bool is_warning, const char *reason, const char *action, json_t *note)
{
	char now[KUBE_TIME_TEXT_SIZE];
	const char *namespace = kube_namespace(object);
	json_t *event = json_pack("{s:s, s:s, s:{s:s}, s:s, s:s, s:s, s:s, s:o*, s:o*, s:o*}",
		"apiVersion", "events.k8s.io/v1", "kind", "Event", "metadata", "namespace",
		namespace[0] != '\0' ? namespace : "default", "eventTime", kube_time_now_micro(now),
		"type", is_warning ? "Warning" : "Normal", "reportingController",
		recorder->controller, "reportingInstance", recorder->instance, "reason",
		kube_json_text(reason, TEXT_BYTES_MAX), "action",
		kube_json_text(action, TEXT_BYTES_MAX), "note", note);
	json_t *regarding =
		json_pack("{s:s, s:s, s:s}", "apiVersion", kube_text(object, "apiVersion"), "kind",
			kube_text(object, "kind"), "name", kube_name(object));

	if (namespace[0] != '\0') {
		(void)json_object_set_new(regarding, "namespace", json_string(namespace));
	}
	if (kube_uid(object)[0] != '\0') {
		(void)json_object_set_new(regarding, "uid", json_string(kube_uid(object)));
	}
	(void)json_object_set_new(event, "regarding", regarding);
	return event;
}

static void object_key(const json_t *object, struct strbuf *key)
{
	strbuf_printf(key, "%s\n%s\n%s\n%s", kube_text(object, "kind"), kube_namespace(object),
		kube_name(object), kube_uid(object));
}

/* Takes `event`.  NULL: no memory, or everything that is kept is still to be written. */
static struct series *series_new(struct kube_recorder *recorder, const char *key, json_t *event)
{
	struct list_node *oldest = list_first(&recorder->series_lru);
	struct series *series = NULL;

	if (recorder->series.count >= SERIES_MAX) {
		struct series *old = container_of(oldest, struct series, lru);

		if (old->is_sending || list_is_linked(&old->waiting) ||
			loop_timer_is_running(&old->again)) {
			json_decref(event);
			return NULL;
		}
		series_free(old);
	}
	series = calloc(1, sizeof(*series));
	if (series != NULL) {
		series->key_node.key = strdup(key);
	}
	if (event == NULL || series == NULL || series->key_node.key == NULL ||
		keys_add(&recorder->series, &series->key_node) < 0) {
		json_decref(event);
		if (series != NULL) {
			free(series->key_node.key);
		}
		free(series);
		return NULL;
	}
	series->recorder = recorder;
	series->event = event;
	series->again.expired = again_expired;
	list_push_back(&recorder->series_lru, &series->lru);
	name_event(series);
	return series;
}

/* The series that this belongs to, its count raised; NULL: none, or it is too old. */
static struct series *find_series(struct kube_recorder *recorder, const char *key)
{
	struct key_node *node = keys_find(&recorder->series, key);
	struct series *series = node == NULL ? NULL : container_of(node, struct series, key_node);

	if (series == NULL) {
		return NULL;
	}
	if (loop_now_ms(recorder->kube->loop) - series->last_ms > SERIES_MS &&
		!series->is_sending) {
		series_free(series);
		return NULL;
	}
	list_remove(&series->lru);
	list_push_back(&recorder->series_lru, &series->lru);
	return series;
}

static void say(struct kube_recorder *recorder, const json_t *object, bool is_warning,
	const char *reason, const char *action, const char *text)
{
	json_t *note = kube_json_text(text, NOTE_BYTES_MAX);
	struct strbuf key;
	struct series *series = NULL;

	strbuf_init(&key);
	object_key(object, &key);
	bool may = !strbuf_failed(&key) && note != NULL && kube_name(object)[0] != '\0' &&
		   may_say(recorder, key.text);

	strbuf_printf(&key, "\n%d\n%s\n%s\n%s", is_warning, reason, action,
		note != NULL ? json_string_value(note) : "");
	if (!strbuf_failed(&key)) {
		series = find_series(recorder, key.text);
	}
	/* Also when it may not be said now: the next time tells. */
	if (series == NULL && may) {
		series = series_new(recorder, key.text,
			make_event(
				recorder, object, is_warning, reason, action, json_incref(note)));
	}
	if (series != NULL) {
		series->count++;
		series->last_ms = loop_now_ms(recorder->kube->loop);
	}
	if (series != NULL && may) {
		want_to_send(series);
	} else {
		metric_inc(&recorder->metric_dropped, 1);
	}
	strbuf_done(&key);
	json_decref(note);
}

void kube_event(struct kube_recorder *recorder, const json_t *object, bool is_warning,
	const char *reason, const char *action, const char *note_format, ...)
{
	struct strbuf text;
	va_list args;

	strbuf_init(&text);
	va_start(args, note_format);
	strbuf_vprintf(&text, note_format, args);
	va_end(args);
	say(recorder, object, is_warning, reason, action, strbuf_text(&text));
	strbuf_done(&text);
}

/* ---- life ---- */

int kube_recorder_new(struct kube *kube, const char *controller, const char *instance,
	struct kube_recorder **ret_recorder, struct err *err)
{
	struct kube_recorder *recorder = calloc(1, sizeof(*recorder));

	if (recorder == NULL) {
		return err_set(err, -ENOMEM, "no memory for Events");
	}
	kube->recorder_count++;
	recorder->kube = kube;
	recorder->controller = strdup(controller);
	recorder->instance = strndup(instance, TEXT_BYTES_MAX);
	list_init(&recorder->series_lru);
	list_init(&recorder->budgets_lru);
	list_init(&recorder->waiting);
	metric_add(kube->metrics, &recorder->metric_written, METRIC_COUNTER,
		"strake_kube_events_written_total", "Events that were written, and their counts.",
		"%s", "");
	metric_add(kube->metrics, &recorder->metric_dropped, METRIC_COUNTER,
		"strake_kube_events_dropped_total",
		"Events that were not: too many of one object, or the server refuses them.", "%s",
		"");
	if (recorder->controller == NULL || recorder->instance == NULL) {
		kube_recorder_free(recorder);
		return err_set(err, -ENOMEM, "no memory for Events");
	}
	*ret_recorder = recorder;
	return 0;
}

void kube_recorder_free(struct kube_recorder *recorder)
{
	struct list_node *node;

	if (recorder == NULL) {
		return;
	}
	while ((node = list_first(&recorder->series_lru)) != NULL) {
		series_free(container_of(node, struct series, lru));
	}
	while ((node = list_first(&recorder->budgets_lru)) != NULL) {
		budget_free(recorder, container_of(node, struct budget, lru));
	}
	keys_done(&recorder->series);
	keys_done(&recorder->budgets);
	metric_remove(recorder->kube->metrics, &recorder->metric_written);
	metric_remove(recorder->kube->metrics, &recorder->metric_dropped);
	recorder->kube->recorder_count--;
	free(recorder->controller);
	free(recorder->instance);
	free(recorder);
}
