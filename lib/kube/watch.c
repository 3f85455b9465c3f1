/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The server ends a watch after so long; a random part is added. */
#define TIMEOUT_MIN_S  300u
#define TIMEOUT_MORE_S 300u
/* How much later than that it is dead. */
#define GRACE_MS 30000u
#define BEGIN_MS 30000u

/* ---- events ---- */

static int event_type(const char *text, enum kube_watch_event_type *ret_type)
{
	static const char *const names[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret_type = (enum kube_watch_event_type)i;
			return 0;
		}
	}
	return -EPROTO;
}

int kube_watch_event_parse(
	const char *line, size_t length, struct kube_watch_event *ret_event, struct err *err)
{
	struct kube_watch_event event = {.code = 0};
	json_t *json = kube_json_parse(line, length, err);

	if (json == NULL) {
		return err->code;
	}
	event.object = json_incref(json_object_get(json, "object"));
	if (!json_is_object(event.object) || event_type(kube_text(json, "type"), &event.type) < 0) {
		json_decref(json);
		json_decref(event.object);
		return err_set(err, -EPROTO, "a line of a watch that is no event");
	}
	json_decref(json);
	event.version = kube_text(event.object, "metadata.resourceVersion");
	if (event.type == KUBE_WATCH_ERROR) {
		int64_t code = kube_number(event.object, "code", 500);

		event.code = code >= 100 && code <= 999 ? (unsigned)code : 500;
	} else if (event.version[0] == '\0' ||
		   (event.type != KUBE_WATCH_BOOKMARK && kube_name(event.object)[0] == '\0')) {
		json_decref(event.object);
		return err_set(err, -EPROTO, "an event whose object has no name or version");
	}
	*ret_event = event;
	return 0;
}

void kube_watch_event_done(struct kube_watch_event *event)
{
	json_decref(event->object);
	event->object = NULL;
}

/* ---- the stream ---- */

void kube_watch_stop(struct kube_watch *watch)
{
	kube_transfer_end(&watch->transfer);
	loop_timer_stop(&watch->timer);
}

static void end(struct kube_watch *watch, int result, const struct err *why)
{
	struct err kept = *why;

	kube_watch_stop(watch);
	watch->ended(watch, result, &kept);
}

static void timer_expired(struct loop_timer *timer)
{
	struct kube_watch *watch = container_of(timer, struct kube_watch, timer);
	struct err err = {0};

	(void)err_set(&err, -ETIMEDOUT,
		watch->has_begun ? "the server should have ended the watch %u s ago"
				 : "the server did not begin the watch within %u s",
		(watch->has_begun ? GRACE_MS : BEGIN_MS) / 1000);
	end(watch, -ETIMEDOUT, &err);
}

static int error_event(const struct kube_watch_event *event, struct err *err)
{
	const char *reason = kube_text(event->object, "reason");
	bool is_expired =
		event->code == 410 || strcmp(reason, "Expired") == 0 || strcmp(reason, "Gone") == 0;

	return err_set(err, is_expired ? -ESTALE : -EREMOTEIO, "the watch failed: %s (%u)",
		kube_text(event->object, "message"), event->code);
}

static int take_line(struct kube_watch *watch, const char *line, size_t length, struct err *err)
{
	struct kube_watch_event event;

	if (length == 0) {
		return 0;
	}
	int result = kube_watch_event_parse(line, length, &event, err);

	if (result < 0) {
		return result;
	}
	if (event.type == KUBE_WATCH_ERROR) {
		result = error_event(&event, err);
	} else {
		watch->event(watch, &event);
	}
	kube_watch_event_done(&event);
	return result;
}

/* Takes all whole lines out of what was received. */
static int take_lines(struct kube_watch *watch, struct err *err)
{
	struct strbuf *received = &watch->transfer.received;
	size_t taken = 0;
	int result = 0;

	while (result == 0 && watch->searched < received->length) {
		char *end_of_line = memchr(
			received->text + watch->searched, '\n', received->length - watch->searched);

		if (end_of_line == NULL) {
			watch->searched = received->length;
			break;
		}
		result = take_line(watch, received->text + taken,
			(size_t)(end_of_line - received->text) - taken, err);
		taken = (size_t)(end_of_line - received->text) + 1;
		watch->searched = taken;
	}
	if (taken > 0) {
		memmove(received->text, received->text + taken, received->length - taken + 1);
		received->length -= taken;
		watch->searched -= taken;
	}
	if (result == 0 && received->length > KUBE_BODY_BYTES_MAX) {
		result = err_set(err, -EPROTO, "a line of a watch is above 32 MiB");
	}
	/* A large burst is over: its memory is not kept for the hours to come. */
	if (received->length == 0 && received->capacity > 256u * 1024) {
		strbuf_done(received);
	}
	return result;
}

/* The server did not take the watch, and said why. */
static void refused(struct kube_watch *watch)
{
	struct kube_transfer *transfer = &watch->transfer;
	struct err err = {0};
	json_t *answer =
		kube_json_parse(strbuf_text(&transfer->received), transfer->received.length, &err);
	int result = kube_status_to_errno(transfer->status, answer, KUBE_LIST, &err);

	json_decref(answer);
	if (transfer->status == 401) {
		(void)kube_token_is_new(watch->kube, transfer);
	}
	watch->retry_after_ms = transfer->retry_after_ms;
	end(watch, transfer->status == 410 ? -ESTALE : result, &err);
}

static void transfer_ready(struct kube_transfer *transfer)
{
	struct kube_watch *watch = container_of(transfer, struct kube_watch, transfer);
	struct err err = {0};
	int result = 0;

	if (!watch->has_begun && transfer->status == 200) {
		watch->has_begun = true;
		loop_timer_start(
			watch->kube->loop, &watch->timer, watch->timeout_s * 1000 + GRACE_MS);
		watch->begun(watch);
	}
	if (watch->has_begun) {
		result = take_lines(watch, &err);
	}
	if (result < 0) {
		end(watch, result, &err);
	} else if (transfer->ended && transfer->result < 0) {
		end(watch, transfer->result, &transfer->err);
	} else if (transfer->ended && !watch->has_begun) {
		refused(watch);
	} else if (transfer->ended) {
		/* What follows the last end of a line is half an event: it comes again. */
		end(watch, 0, &err);
	}
}

int kube_watch_start(
	struct kube_watch *watch, const char *path, const char *resource_version, struct err *err)
{
	struct kube_transfer_options options = {
		.method = "GET", .is_stream = true, .ready = transfer_ready};
	struct strbuf url;
	char timeout[16];

	watch->timeout_s = TIMEOUT_MIN_S + (unsigned)rng_below(&watch->kube->rng, TIMEOUT_MORE_S);
	watch->searched = 0;
	watch->has_begun = false;
	watch->retry_after_ms = 0;
	watch->timer.expired = timer_expired;
	(void)snprintf(timeout, sizeof(timeout), "%u", watch->timeout_s);
	strbuf_init(&url);
	strbuf_append(&url, path);
	kube_url_query(&url, "watch", "true");
	kube_url_query(&url, "allowWatchBookmarks", "true");
	kube_url_query(&url, "resourceVersion", resource_version);
	kube_url_query(&url, "timeoutSeconds", timeout);
	options.path = url.text;
	int result = strbuf_failed(&url)
			     ? err_set(err, -ENOMEM, "no memory for a watch")
			     : kube_transfer_start(watch->kube, &watch->transfer, &options, err);

	strbuf_done(&url);
	if (result == 0) {
		loop_timer_start(watch->kube->loop, &watch->timer, BEGIN_MS);
	}
	return result;
}
