/* SPDX-License-Identifier: Apache-2.0 */
/* How steps of plans are carried out: requests on behalf of a key of a queue, whose work ends with
 * the last answer. */
#ifndef CSI_CONTROLLER_ACT_H
#define CSI_CONTROLLER_ACT_H

#include "csi-controller/controller.h"

struct act {
	struct controller *controller;
	struct kube_queue *queue;
	char *key;        /* owned */
	unsigned again_s; /* looked at again then; 0: no need */
	unsigned open;    /* requests under way, and who builds them */
	bool failed;      /* again after a while */
};

struct act_request {
	struct kube_request request;
	struct act *act;
	char name[OBJECTS_NAME_SIZE]; /* of the object */
	struct kube_cache *cache;     /* takes what the server answers; NULL: none does */
	/* Looks at the answer after it was absorbed, may send more; NULL: what the act does of
	 * itself, which is to fail on every error but -ENOENT. */
	void (*answered)(struct act_request *request);
	/* For `answered`. */
	json_t *json; /* owned; NULL: none */
};

/* The works of the queues: one step of the plan of a key. */
void act_on_volume(void *controller, const char *key);
void act_on_pool(void *controller, const char *key);
void act_on_replica(void *controller, const char *key);
void act_on_snapshot(void *controller, const char *key);
void act_on_node(void *controller, const char *key);
void act_on_master(void *controller, const char *key);

struct act *act_begin(struct controller *controller, unsigned queue, const char *key);
/* The builder is done; the work ends with the last answer. */
void act_end(struct act *act);
/* For another step of the same act (`name` NULL: of LIST); `cache` and `answered` are set before
 * act_send. */
struct act_request *act_request_new(
	struct act *act, enum kube_verb verb, const struct kube_kind *kind, const char *name);
/* Takes the body (NULL: none). */
void act_send(struct act_request *request, json_t *body);
/* Fails the act, and says why in the log. */
void act_fail(struct act_request *request);

/* A merge patch that sets `finalizer` or takes it away, of this very version. */
json_t *finalizer_patch(const json_t *object, const char *finalizer, bool wanted);
/* {metadata: {resourceVersion}}: the beginning of a merge patch of this very version. */
json_t *version_patch(const json_t *object);

#endif
