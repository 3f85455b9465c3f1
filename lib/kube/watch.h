/* SPDX-License-Identifier: Apache-2.0 */
/* One watch: a stream of lines, each an event. */
#ifndef KUBE_WATCH_H
#define KUBE_WATCH_H

#include "kube/transfer.h"

enum kube_watch_event_type {
	KUBE_WATCH_ADDED,
	KUBE_WATCH_MODIFIED,
	KUBE_WATCH_DELETED,
	KUBE_WATCH_BOOKMARK,
	KUBE_WATCH_ERROR,
};

struct kube_watch_event {
	enum kube_watch_event_type type;
	json_t *object; /* owned by the event; has metadata.name and .resourceVersion, but in an
			   error */
	const char *version; /* of the object; "" in an error */
	unsigned code;       /* of an error: its HTTP status */
};

/* 0, or -EPROTO. */
int kube_watch_event_parse(const char *line, size_t length, struct kube_watch_event *ret_event,
	struct err *err) __must_check;
void kube_watch_event_done(struct kube_watch_event *event);

struct kube_watch {
	/* Set by the owner before the start. */
	struct kube *kube;
	/* The watch runs: the server has taken it. */
	void (*begun)(struct kube_watch *watch);
	/* May take event->object.  Must not end the watch. */
	void (*event)(struct kube_watch *watch, struct kube_watch_event *event);
	/* The watch is over: `result` 0 is the server's regular end; -ESTALE: it does not know that
	 * resource version any more. */
	void (*ended)(struct kube_watch *watch, int result, const struct err *why);

	struct kube_transfer transfer;
	struct loop_timer timer; /* until it begins, then until it must be over */
	size_t searched;         /* of what was received: no end of a line in it */
	bool has_begun;
	unsigned timeout_s;
	uint64_t retry_after_ms; /* that the server wants */
};

/* `path` has a query already or none; the rest of the query is added. */
int kube_watch_start(struct kube_watch *watch, const char *path, const char *resource_version,
	struct err *err) __must_check;
void kube_watch_stop(struct kube_watch *watch);

#endif
