/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: from the verb to the URL and body, tries, pages of lists, and from the answer to a
 * result.
 */
#include "base/bytes.h"
#include "kube/transfer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_MAX        3 /* after broken connections */
#define TRY_AGAIN_MIN_MS 100
#define TRY_AGAIN_MAX_MS 10000

struct request {
	struct list_node node; /* kube->requests */
	struct kube *kube;
	struct kube_request *caller; /* NULL: being ended */
	struct kube_transfer transfer;
	struct loop_timer timer; /* to the next try, or to the end with `result` */
	int result;
	char *path;  /* owned; of a list without limit and continue */
	char *title; /* owned: "volumes.strake.io db" */
	char *body;  /* owned */
	size_t body_length;
	uint64_t started_ms, timeout_ms, deadline_ms;
	unsigned tries;      /* that failed, of this page */
	bool identified_new; /* the token was read again for it */
	bool is_repeatable;  /* executed twice it does no harm */

	/* Lists. */
	const struct kube_pager *pager; /* borrowed; NULL: collect in `list` */
	json_t *list;                   /* owned */
	char *continue_token;           /* owned; NULL: the first page */
	unsigned limit, expired_count;
};

static const struct {
	const char *method, *content_type;
	bool is_write, needs_name;
} verbs[] = {
	[KUBE_GET] = {"GET", NULL, false, true},
	[KUBE_LIST] = {"GET", NULL, false, false},
	[KUBE_CREATE] = {"POST", "application/json", true, false},
	[KUBE_APPLY] = {"PATCH", "application/apply-patch+yaml", true, true},
	[KUBE_JSON_PATCH] = {"PATCH", "application/json-patch+json", true, true},
	[KUBE_MERGE_PATCH] = {"PATCH", "application/merge-patch+json", true, true},
	[KUBE_REPLACE] = {"PUT", "application/json", true, true},
	[KUBE_DELETE] = {"DELETE", "application/json", false, true},
};

/* ---- the end ---- */

static void request_free(struct request *request)
{
	kube_transfer_end(&request->transfer);
	loop_timer_stop(&request->timer);
	list_remove(&request->node);
	json_decref(request->list);
	free(request->path);
	free(request->title);
	free(request->body);
	free(request->continue_token);
	free(request);
}

static void count(struct request *request, const struct kube_request *caller)
{
	struct kube *kube = request->kube;

	metric_inc(&kube->metric_requests, 1);
	if (caller->status == 0 || caller->status == 429 || caller->status >= 500) {
		metric_inc(&kube->metric_failures, 1);
	}
	metric_observe_ns(
		&kube->metric_seconds, (loop_now_ms(kube->loop) - request->started_ms) * 1000000);
}

/* Frees the request; `response` is taken. */
static void finish(struct request *request, int result, json_t *response)
{
	struct kube_request *caller = request->caller;

	caller->result = result;
	caller->response = response;
	caller->backend = NULL;
	if (result < 0 && request->title != NULL) {
		(void)err_prefix(&caller->err, "%s", request->title);
	}
	count(request, caller);
	request_free(request);
	caller->done(caller);
	json_decref(response);
}

void kube_cancel(struct kube_request *request)
{
	if (request->backend != NULL) {
		request_free(request->backend);
		request->backend = NULL;
	}
}

/* ---- tries ---- */

static void transfer_ready(struct kube_transfer *transfer);

static int page_path(const struct request *request, struct strbuf *path)
{
	char limit[16];

	strbuf_append(path, request->path);
	if (request->caller->verb == KUBE_LIST) {
		(void)snprintf(limit, sizeof(limit), "%u", request->limit);
		kube_url_query(path, "limit", limit);
		kube_url_query(path, "continue", request->continue_token);
	}
	return strbuf_failed(path) ? -ENOMEM : 0;
}

static void attempt(struct request *request)
{
	struct kube *kube = request->kube;
	uint64_t now_ms = loop_now_ms(kube->loop);
	struct strbuf path;
	struct kube_transfer_options options = {.method = verbs[request->caller->verb].method,
		.content_type =
			request->body != NULL ? verbs[request->caller->verb].content_type : NULL,
		.body = request->body,
		.body_length = request->body_length,
		.ready = transfer_ready};

	if (now_ms >= request->deadline_ms) {
		finish(request, err_set(&request->caller->err, -ETIMEDOUT, "no answer in time"),
			NULL);
		return;
	}
	strbuf_init(&path);
	int result = page_path(request, &path);

	options.timeout_ms = (unsigned)(request->deadline_ms - now_ms);
	options.path = path.text;
	if (result == 0) {
		result = kube_transfer_start(
			kube, &request->transfer, &options, &request->caller->err);
	}
	strbuf_done(&path);
	if (result < 0) {
		finish(request, err_set(&request->caller->err, result, "no memory for a request"),
			NULL);
	}
}

static void timer_expired(struct loop_timer *timer)
{
	struct request *request = container_of(timer, struct request, timer);

	if (request->result < 0) {
		finish(request, request->result, NULL);
	} else {
		attempt(request);
	}
}

/* False when the time does not suffice for that. */
static bool again_after(struct request *request, uint64_t delay_ms)
{
	if (loop_now_ms(request->kube->loop) + delay_ms >= request->deadline_ms) {
		return false;
	}
	kube_transfer_end(&request->transfer);
	metric_inc(&request->kube->metric_retries, 1);
	loop_timer_start(request->kube->loop, &request->timer, delay_ms);
	return true;
}

static bool again_later(struct request *request)
{
	if (request->tries >= TRIES_MAX) {
		return false;
	}
	request->tries++;
	return again_after(request, kube_backoff_ms(request->kube, request->tries * 2 - 2,
					    TRY_AGAIN_MIN_MS, TRY_AGAIN_MAX_MS));
}

/* ---- lists ---- */

/* Forgets the pages that came. */
static void list_again(struct request *request)
{
	free(request->continue_token);
	request->continue_token = NULL;
	if (request->pager != NULL) {
		request->pager->again(request->pager->ctx);
	} else {
		(void)json_array_clear(json_object_get(request->list, "items"));
	}
}

static void take_page(struct request *request, json_t *items, const char *version)
{
	if (request->pager != NULL) {
		request->pager->page(request->pager->ctx, items, version);
		return;
	}
	if (request->list == NULL) {
		request->list = json_pack("{s:s, s:s, s:{}, s:[]}", "apiVersion", "v1", "kind",
			"List", "metadata", "items");
	}
	(void)json_object_set_new(json_object_get(request->list, "metadata"), "resourceVersion",
		json_string(version));
	(void)json_array_extend(json_object_get(request->list, "items"), items);
}

/* Takes `page`. */
static void page_received(struct request *request, json_t *page)
{
	json_t *items = json_object_get(page, "items");
	const char *next = kube_text(page, "metadata.continue");
	size_t i;
	json_t *item;

	/* Go writes a slice that is nil as null. */
	if (items != NULL && !json_is_null(items) && !json_is_array(items)) {
		json_decref(page);
		finish(request,
			err_set(&request->caller->err, -EPROTO, "the server's answer is no list"),
			NULL);
		return;
	}
	json_array_foreach(items, i, item)
	{
		kube_object_tidy(item, request->caller->kind);
	}
	take_page(request, items, kube_text(page, "metadata.resourceVersion"));
	free(request->continue_token);
	request->continue_token = next[0] != '\0' ? strdup(next) : NULL;
	bool is_last = next[0] == '\0';

	json_decref(page);
	if (!is_last && request->continue_token == NULL) {
		finish(request, err_set(&request->caller->err, -ENOMEM, "no memory for a list"),
			NULL);
		return;
	}
	if (is_last) {
		json_t *list = request->list;

		request->list = NULL;
		finish(request, 0, list);
		return;
	}
	request->tries = 0;
	if (request->pager != NULL) {
		request->deadline_ms = loop_now_ms(request->kube->loop) + request->timeout_ms;
	}
	kube_transfer_end(&request->transfer);
	attempt(request);
}

/* A list whose next page the server cannot make any more, or whose pages are too large. */
static bool list_can_go_on(struct request *request)
{
	struct kube_transfer *transfer = &request->transfer;

	if (request->caller->verb != KUBE_LIST) {
		return false;
	}
	if (transfer->too_large && request->limit > 1) {
		request->limit = (request->limit + 7) / 8;
		return again_after(request, 0);
	}
	if (transfer->status == 410 && request->continue_token != NULL) {
		list_again(request);
		request->expired_count++;
		return again_after(request, kube_backoff_ms(request->kube, request->expired_count,
						    TRY_AGAIN_MIN_MS, TRY_AGAIN_MAX_MS));
	}
	return false;
}

/* ---- answers ---- */

/* Nobody has seen the request, or it does no harm when it is executed twice. */
static bool may_be_repeated(const struct request *request)
{
	return request->is_repeatable || request->transfer.never_sent;
}

static bool goes_on_after_break(struct request *request)
{
	const struct kube_transfer *transfer = &request->transfer;

	if (transfer->too_large) {
		return list_can_go_on(request);
	}
	return transfer->result != -EPROTO && may_be_repeated(request) && again_later(request);
}

static bool goes_on_after_refusal(struct request *request)
{
	const struct kube_transfer *transfer = &request->transfer;

	if (transfer->status == 401 && !request->identified_new) {
		request->identified_new = true;
		return kube_token_is_new(request->kube, transfer) && again_after(request, 0);
	}
	if (transfer->status == 429 || (transfer->status == 503 && transfer->retry_after_ms > 0)) {
		uint64_t delay_ms = max_u64(transfer->retry_after_ms, 1000);

		/* Not all at the same moment. */
		return again_after(
			request, delay_ms + rng_below(&request->kube->rng, delay_ms / 4 + 1));
	}
	return list_can_go_on(request);
}

static void answered(struct request *request)
{
	struct kube_transfer *transfer = &request->transfer;
	struct kube_request *caller = request->caller;
	struct err why = {0};
	json_t *answer =
		kube_json_parse(strbuf_text(&transfer->received), transfer->received.length, &why);

	if (transfer->status < 200 || transfer->status >= 300) {
		if (goes_on_after_refusal(request)) {
			json_decref(answer);
			return;
		}
		finish(request,
			kube_status_to_errno(transfer->status, answer, caller->verb, &caller->err),
			answer);
		return;
	}
	if (answer == NULL) {
		caller->err = why;
		finish(request, why.code, NULL);
	} else if (caller->verb == KUBE_LIST) {
		strbuf_done(&transfer->received);
		page_received(request, answer);
	} else {
		kube_object_tidy(answer, NULL);
		finish(request, 0, answer);
	}
}

static void transfer_ready(struct kube_transfer *transfer)
{
	struct request *request = container_of(transfer, struct request, transfer);

	if (!transfer->ended) {
		return;
	}
	request->caller->status = transfer->status;
	if (transfer->result == 0) {
		answered(request);
	} else if (!goes_on_after_break(request)) {
		request->caller->err = transfer->err;
		finish(request, transfer->result, NULL);
	}
}

/* ---- sending ---- */

static char *make_title(const struct kube_request *caller)
{
	char *title = NULL;
	const char *name = caller->name != NULL ? caller->name : kube_name(caller->body);
	bool has_namespace = caller->kind->namespaced && caller->namespace != NULL;

	if (asprintf(&title, "%s%s%s%s%s%s%s", caller->kind->plural,
		    caller->kind->group[0] != '\0' ? "." : "", caller->kind->group,
		    has_namespace || name[0] != '\0' ? " " : "",
		    has_namespace ? caller->namespace : "",
		    has_namespace && name[0] != '\0' ? "/" : "", name) < 0) {
		return NULL;
	}
	return title;
}

static char *make_path(const struct kube *kube, const struct kube_request *caller)
{
	struct strbuf path;
	/* A new object is named by its body, unless something is made below one that is there. */
	bool names = caller->verb != KUBE_LIST &&
		     (caller->verb != KUBE_CREATE || caller->subresource != NULL);

	strbuf_init(&path);
	kube_url_path(&path, caller->kind, caller->namespace, names ? caller->name : NULL,
		names ? caller->subresource : NULL);
	if (caller->verb == KUBE_LIST) {
		kube_url_query(&path, "labelSelector", caller->label_selector);
		kube_url_query(&path, "fieldSelector", caller->field_selector);
	}
	if (verbs[caller->verb].is_write) {
		kube_url_query(&path, "fieldManager", kube->field_manager);
	}
	if (caller->verb == KUBE_APPLY) {
		kube_url_query(&path, "force", "true");
	}
	if (strbuf_failed(&path)) {
		strbuf_done(&path);
	}
	return path.text;
}

static char *make_body(const struct kube_request *caller)
{
	if (caller->verb != KUBE_DELETE) {
		return json_dumps(caller->body, JSON_COMPACT | JSON_ENCODE_ANY);
	}
	json_t *options = json_pack("{s:s, s:s, s:s}", "kind", "DeleteOptions", "apiVersion", "v1",
		"propagationPolicy", caller->foreground ? "Foreground" : "Background");

	if (caller->uid != NULL) {
		(void)json_object_set_new(options, "preconditions",
			json_pack("{s:s, s:s*}", "uid", caller->uid, "resourceVersion",
				caller->resource_version));
	}
	char *text = json_dumps(options, JSON_COMPACT);

	json_decref(options);
	return text;
}

/* An empty name would make of "this one" "all of them". */
static bool is_complete(const struct kube_request *caller)
{
	bool needs_name = verbs[caller->verb].needs_name || caller->subresource != NULL;

	return (!needs_name || (caller->name != NULL && caller->name[0] != '\0')) &&
	       (!caller->kind->namespaced || caller->verb == KUBE_LIST ||
		       (caller->namespace != NULL && caller->namespace[0] != '\0')) &&
	       (!verbs[caller->verb].is_write || caller->body != NULL);
}

static int prepare(struct request *request, struct kube_request *caller)
{
	bool has_body = verbs[caller->verb].is_write || caller->verb == KUBE_DELETE;

	request->title = make_title(caller);
	if (!is_complete(caller)) {
		return err_set(
			&caller->err, -EINVAL, "the request lacks a name, a namespace or a body");
	}
	request->path = make_path(request->kube, caller);
	request->body = has_body ? make_body(caller) : NULL;
	if (request->title == NULL || request->path == NULL ||
		(has_body && request->body == NULL)) {
		return err_set(&caller->err, -ENOMEM, "no memory for a request");
	}
	request->body_length = has_body ? strlen(request->body) : 0;
	return 0;
}

void kube_send_paged(struct kube *kube, struct kube_request *caller, const struct kube_pager *pager)
{
	struct request *request = calloc(1, sizeof(*request));

	/* There is no other way to tell. */
	assert(request != NULL);
	caller->result = 0;
	caller->status = 0;
	caller->response = NULL;
	err_clear(&caller->err);
	caller->backend = request;
	request->kube = kube;
	request->caller = caller;
	request->pager = pager;
	request->limit = KUBE_PAGE_LIMIT;
	request->timer.expired = timer_expired;
	request->started_ms = loop_now_ms(kube->loop);
	request->timeout_ms =
		caller->timeout_ms != 0 ? caller->timeout_ms : kube->request_timeout_ms;
	request->deadline_ms = request->started_ms + request->timeout_ms;
	request->is_repeatable = caller->verb == KUBE_GET || caller->verb == KUBE_LIST ||
				 caller->verb == KUBE_APPLY ||
				 (caller->verb == KUBE_DELETE && caller->uid != NULL);
	list_push_back(&kube->requests, &request->node);
	request->result = prepare(request, caller);
	/* From the loop also when it fails at once. */
	loop_timer_start(kube->loop, &request->timer, 0);
}

void kube_send(struct kube *kube, struct kube_request *request)
{
	kube_send_paged(kube, request, NULL);
}
