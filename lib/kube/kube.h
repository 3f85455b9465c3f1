/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the Kubernetes API on a control loop (grpc/loop.h): requests, caches that follow a
 * kind of object (list and watch), work queues, leader election by a Lease, and Events.
 *
 * One thread, the loop's; nothing here blocks, every answer comes later from the loop.  JSON is
 * jansson's: what a function is given it borrows unless it says that it steals.
 */
#ifndef KUBE_KUBE_H
#define KUBE_KUBE_H

#include "base/err.h"
#include "base/log.h"
#include "base/metric.h"
#include "grpc/loop.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct kube;

/* ---- connection ---- */

struct kube_options {
	struct loop *loop;               /* borrowed */
	const struct log *log;           /* borrowed */
	struct metric_registry *metrics; /* borrowed */
	/* A kubeconfig file (YAML: current-context, its cluster's server, certificate authority or
	 * insecure-skip-tls-verify, its user's token, tokenFile, client certificate and key; data
	 * or files). NULL: what Kubernetes gives a pod (service account token, which is read again
	 * as it is renewed, ca.crt, KUBERNETES_SERVICE_HOST and _PORT). */
	const char *kubeconfig;
	const char *user_agent;      /* "csi-node/0.1.0" */
	const char *field_manager;   /* "strake-node"; of every write */
	unsigned request_timeout_ms; /* 0: 30 s */
	const char
		*service_account_folder; /* NULL: /var/run/secrets/kubernetes.io/serviceaccount */
};

/* Reads the configuration; -EINVAL, -ENOENT name the file and what it lacks.  Connects with the
 * first request: that the server is away is no error here. */
int kube_new(
	const struct kube_options *options, struct kube **ret_kube, struct err *err) __must_check;
/* Requests, caches, queues, leases and recorders were ended before.  Not from a callback of theirs.
 */
void kube_free(struct kube *kube);
struct loop *kube_loop(struct kube *kube);

/* ---- kinds ---- */

struct kube_kind {
	const char *group; /* "" is the core group */
	const char *version;
	const char *plural;
	const char *kind;
	bool namespaced;
};

extern const struct kube_kind kube_pods, kube_nodes, kube_secrets, kube_events, kube_leases,
	kube_pvcs, kube_pvs, kube_volume_attachments;

/* ---- requests ---- */

enum kube_verb {
	KUBE_GET,
	KUBE_LIST, /* whole, however many pages it took: response.items */
	KUBE_CREATE,
	KUBE_APPLY,      /* server-side apply, forced: takes over what another manager had */
	KUBE_JSON_PATCH, /* `body` is an array; a lost "test" is -ESTALE */
	KUBE_MERGE_PATCH,
	KUBE_REPLACE, /* whole, with its resourceVersion; a lost race is -EAGAIN */
	KUBE_DELETE,  /* already gone is -ENOENT */
};

/*
 * One request.  The struct is the caller's until done (or kube_cancel); zero it, fill the first
 * part. Results: 0; -ENOENT not there; -EEXIST it is there; -EAGAIN lost a race (409 Conflict);
 * -ESTALE lost a test of a JSON patch (422); -EINVAL the server refuses the object, its text says
 * why; -EACCES, -EPERM who we are or what we may (401, 403); -EBUSY too many requests, also after
 * our own retries; -ETIMEDOUT; -ECONNREFUSED and other network errors; -EPROTO no proper answer;
 * -EREMOTEIO 5xx. 429 and 503 with Retry-After are tried again within the request's time; a few
 * times also every request that never left us, and GET, LIST, APPLY and DELETE of a uid after any
 * broken connection.  Another write whose connection broke (-ECONNRESET, -ETIMEDOUT) may have been
 * executed.
 */
struct kube_request {
	enum kube_verb verb;
	const struct kube_kind *kind; /* borrowed */
	const char *namespace;        /* borrowed until kube_send returns, as the other texts */
	const char *name;
	const char *subresource;                     /* "status", or NULL */
	const char *label_selector, *field_selector; /* LIST */
	json_t *body;                                /* borrowed until kube_send returns */
	const char *uid;              /* DELETE: only this one; a different one is -EAGAIN */
	const char *resource_version; /* the same of a version; only with uid */
	bool foreground;              /* DELETE: dependents first; else in the background */
	unsigned timeout_ms;          /* 0: the client's */
	void (*done)(struct kube_request *request); /* from the loop; may free the struct */
	void *ctx;

	int result;
	unsigned status; /* HTTP, 0 without an answer */
	/* The object, the list, or the Status of a refusal (NULL without one); gone when done
	 * returns unless json_incref'ed. */
	json_t *response;
	struct err err; /* text: "volumes.strake.io db: ..." */

	void *backend;
};

void kube_send(struct kube *kube, struct kube_request *request);
/* No done afterwards; what was sent may be executed. */
void kube_cancel(struct kube_request *request);

/* ---- caches ---- */

/*
 * The objects of a kind as the server last told us: list, then watch with bookmarks, resumed after
 * broken connections, listed anew when the server has forgotten (410).  Stale by nature: what is
 * decided on it must be guarded by names, uids or tests.
 */
struct kube_cache;

struct kube_cache_options {
	const struct kube_kind *kind; /* borrowed */
	const char *namespace;        /* NULL: all */
	const char *label_selector, *field_selector;
	/* Takes away what is not needed (managedFields are always dropped); NULL: nothing. */
	void (*trim)(json_t *object);
	/* `object` NULL: it is gone (or does not match the selectors any more); `before` NULL: new.
	 * Only called for a change.  During a relist too.  Must not free the cache. */
	void (*changed)(void *ctx, const char *key, const json_t *before, const json_t *object);
	void (*synced)(void *ctx); /* the first list is in; once */
	void *ctx;
};

int kube_cache_new(struct kube *kube, const struct kube_cache_options *options,
	struct kube_cache **ret_cache, struct err *err) __must_check;
void kube_cache_free(struct kube_cache *cache);
bool kube_cache_is_synced(const struct kube_cache *cache);
/* Key: "name", or "namespace/name".  Borrowed, until the loop turns.  NULL: not there. */
const json_t *kube_cache_get(const struct kube_cache *cache, const char *key);
size_t kube_cache_count(const struct kube_cache *cache);
/* In no order; `each` must not change the cache. */
void kube_cache_each(const struct kube_cache *cache,
	void (*each)(void *ctx, const char *key, const json_t *object), void *ctx);
/* Since the server last said anything on it (bookmarks count): UINT64_MAX before the first list. */
uint64_t kube_cache_age_ms(const struct kube_cache *cache);
/* Puts in what a write just returned, if it is newer than what is there: a reconciler then sees its
 * own writes.  Calls `changed` at once.  Only what the cache's selectors match: of anything else no
 * watch would ever say that it is gone. */
void kube_cache_absorb(struct kube_cache *cache, const json_t *object);

/* ---- work queues ---- */

/*
 * Keys that want to be looked at.  A key is worked on once at a time, and again when it was added
 * meanwhile; failed ones come back after a growing, jittered while.
 */
struct kube_queue;

struct kube_queue_options {
	const char *name;                    /* for log and metrics */
	unsigned parallel_max;               /* keys worked on at the same time; 0: 16 */
	unsigned again_ms_min, again_ms_max; /* 0: 200 ms and 60 s */
	/* Begins work, which ends with kube_queue_done(), at once or later; `key` stays until then.
	 */
	void (*work)(void *ctx, const char *key);
	void *ctx;
};

int kube_queue_new(struct kube *kube, const struct kube_queue_options *options,
	struct kube_queue **ret_queue, struct err *err) __must_check;
/* Nothing is being worked on. */
void kube_queue_free(struct kube_queue *queue);
void kube_queue_add(struct kube_queue *queue, const char *key);
void kube_queue_add_after(struct kube_queue *queue, const char *key, uint64_t delay_ms);
enum kube_queue_result {
	KUBE_QUEUE_OK,    /* forgets its failures */
	KUBE_QUEUE_AGAIN, /* back-off */
};
void kube_queue_done(struct kube_queue *queue, const char *key, enum kube_queue_result result);
/* Takes no more; `stopped` when nothing is being worked on. */
void kube_queue_stop(struct kube_queue *queue, void (*stopped)(void *ctx), void *ctx);

/* ---- leader election ---- */

struct kube_lease;

struct kube_lease_options {
	/* The identity is this process's alone: after its own restart it is another. */
	const char *namespace, *name, *identity;
	unsigned duration_ms, renew_ms, retry_ms; /* 0: 15 s, 10 s (its deadline), 2 s */
	void (*leading)(void *ctx, bool leads);   /* false: at once stop acting as the leader */
	void *ctx;
};

int kube_lease_new(struct kube *kube, const struct kube_lease_options *options,
	struct kube_lease **ret_lease, struct err *err) __must_check;
/* Gives the lease back when it is ours, so that the next need not wait; then `freed`.  Whoever led
 * has stopped before: `leading` is not called any more. */
void kube_lease_free(struct kube_lease *lease, void (*freed)(void *ctx), void *ctx);
bool kube_lease_is_leading(const struct kube_lease *lease);

/* ---- Events ---- */

/* events.k8s.io/v1; equal ones (object, reason, note) within 10 minutes become one with a count; a
 * flood is dropped and counted, 25 at once and then one in 5 s for each object. */
struct kube_recorder;

int kube_recorder_new(struct kube *kube, const char *controller, const char *instance,
	struct kube_recorder **ret_recorder, struct err *err) __must_check;
void kube_recorder_free(struct kube_recorder *recorder);
/* `object` has apiVersion, kind and metadata (a cached object, a reference made by hand).  Of an
 * object without namespace it is in "default".  `reason` and `action` are needed: UpperCamelCase.
 */
void kube_event(struct kube_recorder *recorder, const json_t *object, bool is_warning,
	const char *reason, const char *action, const char *note_format, ...)
	__attribute__((format(printf, 6, 7)));

/* ---- JSON ---- */

/* By a path of member names, "status.attachment.number"; NULL, "" or fallback when it is not there
 * or of another type. */
const json_t *kube_at(const json_t *object, const char *path);
const char *kube_text(const json_t *object, const char *path);
int64_t kube_number(const json_t *object, const char *path, int64_t fallback);
bool kube_bool(const json_t *object, const char *path);
/* metadata.name, .namespace, .uid; metadata.deletionTimestamp is there. */
const char *kube_name(const json_t *object);
const char *kube_namespace(const json_t *object);
const char *kube_uid(const json_t *object);
bool kube_is_deleted(const json_t *object);
bool kube_has_finalizer(const json_t *object, const char *finalizer);

/* Resource quantities: "10Gi", "1.5e9", "500M", in bytes, rounded up.  0, or -EINVAL (not a
 * quantity, negative, or above INT64_MAX). */
int kube_quantity_parse(const char *text, uint64_t *ret_bytes) __must_check;
/* Canonical, binary: "10Gi", "1500Mi", "123456". */
#define KUBE_QUANTITY_TEXT_SIZE 24
char *kube_quantity_to_text(uint64_t bytes, char text[KUBE_QUANTITY_TEXT_SIZE]);
/* RFC 3339 of the wall clock, in UTC: "2026-01-02T03:04:05Z". */
#define KUBE_TIME_TEXT_SIZE 32
char *kube_time_now(char text[KUBE_TIME_TEXT_SIZE]);

/* Sets a condition in a list of them (status.conditions): lastTransitionTime changes with the
 * status only.  Returns whether anything changed.  `status`: "True", "False" or "Unknown". */
bool kube_condition_set(json_t *conditions, const char *type, const char *status,
	const char *reason, const char *message, int64_t observed_generation);
/* "True", ... or "" */
const char *kube_condition_status(const json_t *conditions, const char *type);

#endif
