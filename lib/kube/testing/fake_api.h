/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Kubernetes API server in memory, for tests: any group and kind, list with pages, watch,
 * patches, finalizers, status apart from the rest; no schema, no defaults.  On the loop of what is
 * tested.
 */
#ifndef KUBE_TESTING_FAKE_API_H
#define KUBE_TESTING_FAKE_API_H

#include "kube/testing/fake_http.h"

#include <jansson.h>

struct fake_api;

struct fake_api *fake_api_new(struct loop *loop);
void fake_api_free(struct fake_api *api);
struct fake_http *fake_api_http(struct fake_api *api);
/* Writes a kubeconfig with the server's address and `user` (a YAML mapping in braces; NULL: {}). */
void fake_api_kubeconfig(const struct fake_api *api, const char *path, const char *user);

/* What others do: an object as it would be sent to its path ("/api/v1/namespaces/a/pods/x"). */
void fake_api_put(struct fake_api *api, const char *path, const char *json);
void fake_api_delete(struct fake_api *api, const char *path);
/* NULL: not there. */
const json_t *fake_api_get(const struct fake_api *api, const char *path);
unsigned fake_api_count(const struct fake_api *api);
uint64_t fake_api_version(const struct fake_api *api);
/* Versions go on from there: as after etcd was restored from a backup, or far ahead. */
void fake_api_set_version(struct fake_api *api, uint64_t version);
/* Forgets all versions up to now: watches and pages of older ones are 410. */
void fake_api_compact(struct fake_api *api);
void fake_api_bookmark(struct fake_api *api);

/* ---- faults ---- */

/* Sees each request first; true: it was answered (or never will be). */
typedef bool fake_api_hook(void *ctx, const struct fake_request *request);
void fake_api_set_hook(struct fake_api *api, fake_api_hook *hook, void *ctx);
/* Other tokens are 401; NULL: any. */
void fake_api_set_token(struct fake_api *api, const char *token);
/* Each later watch is cut after so many bytes; SIZE_MAX: never. */
void fake_api_cut_watches_after(struct fake_api *api, size_t bytes);
/* 410 comes as an event in the stream, not as the answer's status. */
void fake_api_set_late_expiry(struct fake_api *api, bool late);
void fake_api_close_watches(struct fake_api *api);
void fake_api_end_watches(struct fake_api *api); /* as after timeoutSeconds */
void fake_api_half_close_watches(struct fake_api *api);
/* Bytes as they are into all watches. */
void fake_api_send_to_watches(struct fake_api *api, const char *bytes);
unsigned fake_api_watch_count(const struct fake_api *api);
unsigned fake_api_request_count(const struct fake_api *api);

#endif
