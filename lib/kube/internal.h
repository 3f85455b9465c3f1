/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef KUBE_INTERNAL_H
#define KUBE_INTERNAL_H

#include "base/rng.h"
#include "base/strbuf.h"
#include "kube/config.h"
#include "kube/kube.h"

#include <sys/stat.h>

/* The longest page of a list and the longest line of a watch. */
#define KUBE_BODY_BYTES_MAX (32u * 1024 * 1024)
#define KUBE_PAGE_LIMIT     500u

struct kube_line;

struct kube {
	struct loop *loop; /* borrowed, as are log and metrics */
	const struct log *log;
	struct metric_registry *metrics;
	struct kube_config config;
	char *user_agent, *field_manager; /* owned */
	unsigned request_timeout_ms;
	struct rng rng;

	/* What token_file held when it was last read. */
	char *token; /* owned */
	uint64_t token_read_ms;
	struct stat token_stat;

	struct kube_line *line; /* which new transfers take; NULL: made with the next */
	struct list lines;
	struct list requests; /* under way; empty before kube_free */
	unsigned cache_count, queue_count, lease_count, recorder_count;

	struct metric metric_requests, metric_failures, metric_retries, metric_seconds;
	_Atomic uint64_t seconds_buckets[METRIC_BUCKETS];
	struct metric metric_connections, metric_watches, metric_relists;
};

/* ---- small things (util.c) ---- */

/* Appends the whole file; -EFBIG above bytes_max. */
int kube_file_read(
	const char *path, size_t bytes_max, struct strbuf *to, struct err *err) __must_check;
/* min_ms * 2^tries, at most max_ms; of that a random part between a half and the whole. */
uint64_t kube_backoff_ms(struct kube *kube, unsigned tries, uint64_t min_ms, uint64_t max_ms);
/* Everything but unreserved characters as %XX. */
void kube_url_escape(struct strbuf *to, const char *text);
/* "/apis/group/version/namespaces/x/plural/name/subresource"; namespace, name and subresource may
 * be NULL. */
void kube_url_path(struct strbuf *to, const struct kube_kind *kind, const char *namespace,
	const char *name, const char *subresource);
/* "&key=value", or "?key=value" when it is the first one; nothing for NULL. */
void kube_url_query(struct strbuf *to, const char *key, const char *value);
/* Order of two resource versions as strcmp does; what is no number is newer than everything. */
int kube_version_compare(const char *a, const char *b);
/* RFC 3339 with microseconds, as MicroTime wants it. */
char *kube_time_now_micro(char text[KUBE_TIME_TEXT_SIZE]);
/* A JSON string of any bytes: what is no UTF-8 becomes U+FFFD.  At most bytes_max bytes; 0: no
 * limit. */
json_t *kube_json_text(const char *text, size_t bytes_max);

/* ---- answers (answer.c) ---- */

/* Bytes from the network.  NULL and err->code -EPROTO when it is no JSON object. */
json_t *kube_json_parse(const char *text, size_t length, struct err *err);
/* Takes managedFields away and fills in apiVersion and kind, which items of lists lack. */
void kube_object_tidy(json_t *object, const struct kube_kind *kind);
/* The errno of a status of 300 and above, and the server's text for it.  `answer` may be NULL. */
int kube_status_to_errno(
	unsigned status, const json_t *answer, enum kube_verb verb, struct err *err);

/* ---- requests that take a list page by page (request.c) ---- */

struct kube_pager {
	/* `items`: an array, to be plundered.  The time of the request begins anew. */
	void (*page)(void *ctx, json_t *items, const char *resource_version);
	/* The list begins anew: what came before may be of another state. */
	void (*again)(void *ctx);
	void *ctx;
};

/* As kube_send of KUBE_LIST, but response stays NULL.  `pager` is borrowed until done. */
void kube_send_paged(
	struct kube *kube, struct kube_request *request, const struct kube_pager *pager);

#endif
