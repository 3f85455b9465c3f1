/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/kube/kube.h again, for tests of what uses it: an API server in memory, and clients whose
 * every step (a request is executed, an answer comes, a cache hears of a change, a key is worked
 * on) is taken by the test, in any order, or never.  Also the calls of lib/grpc/grpc.h that
 * handlers use.
 *
 * Linked before strake_kube and strake_grpc, whose own ones are left out then.
 */
#ifndef CSI_CONTROLLER_TESTING_FAKE_KUBE_H
#define CSI_CONTROLLER_TESTING_FAKE_KUBE_H

#include "base/rng.h"
#include "grpc/grpc.h"
#include "kube/kube.h"

struct fake_server {
	json_t *objects; /* "plural/name" to object */
	json_t *log;     /* of changes: {kind: plural, object, gone} */
	uint64_t version;
	int64_t now_s;
	/* After each change; `object` NULL: it is gone. */
	void (*changed)(void *ctx, const char *key, const json_t *before, const json_t *object);
	void *ctx;
};

void fake_server_init(struct fake_server *server, int64_t now_s);
void fake_server_done(struct fake_server *server);
/* Borrowed; NULL: not there. */
const json_t *fake_server_get(
	const struct fake_server *server, const char *plural, const char *name);
/* What others do; takes the object.  A new one gets its uid, one that exists keeps it. */
void fake_server_put(struct fake_server *server, const char *plural, json_t *object);
void fake_server_delete(struct fake_server *server, const char *plural, const char *name);
/* All objects as they were, under new versions: etcd is restored from a backup (a copy of
 * `objects`). */
void fake_server_restore(struct fake_server *server, const json_t *backup);
/* A copy, to be changed and put. */
json_t *fake_server_copy(const struct fake_server *server, const char *plural, const char *name);

/* Calls back for each object of a kind; objects may be changed meanwhile. */
void fake_server_each(const struct fake_server *server, const char *plural,
	void (*visit)(void *ctx, const json_t *object), void *ctx);

/* ---- a client ---- */

struct kube *fake_kube_new(struct fake_server *server, struct loop *loop, struct rng *rng);
/* All requests end: some are executed, no answer comes.  As the server sees it the process died. */
void fake_kube_drop_requests(struct kube *kube);
/* Caches and so on were ended before. */
void fake_kube_free(struct kube *kube);
/* Each takes one step, if there is one; false: there is none. */
bool fake_kube_execute(struct kube *kube, unsigned fail_percent); /* a request, at the server */
bool fake_kube_answer(struct kube *kube);
bool fake_kube_hear(struct kube *kube); /* a cache lists, or takes one change */
bool fake_kube_work(struct kube *kube);
/* Keys that wait for their time have waited. */
void fake_kube_pass_time(struct kube *kube);
/* Those whose time has come, by the loop's clock. */
void fake_kube_pass_time_until(struct kube *kube, uint64_t now_ms);
void fake_kube_lead(struct kube *kube, bool leads);
unsigned fake_kube_events(const struct kube *kube); /* Events so far */

/* ---- calls ---- */

struct grpc_call {
	void *ctx;
	ProtobufCMessage *request; /* owned */
	bool is_done;
	int result; /* negative errno */
	char text[ERR_TEXT_MAX];
	int64_t number;   /* of a PublishContext */
	int64_t capacity; /* GetCapacity */
	void (*done)(struct grpc_call *call);
	void *done_ctx;
};

#endif
