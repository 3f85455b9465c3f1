/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi-node: caches of this node's Pools, Replicas, attached Volumes and the Snapshots to be taken
 * of them, views of what its daemons have, queues whose works are one step of a plan each, and the
 * CSI Node service.  All on the control loop, but for works on threads (worker.h), which have
 * copies of what they need.
 *
 * Rules:
 *  1 One operation on a volume at a time (struct op): a CSI call, or a take-away.
 *  2 A decision on a view is taken only when the view is younger than the last operation's end.
 *  3 The API may be away for as long as it likes: what is open stays open.
 */
#ifndef CSI_NODE_NODE_H
#define CSI_NODE_NODE_H

#include "csi-node/daemons.h"
#include "csi-node/plan.h"
#include "csi-node/worker.h"
#include "grpc/grpc.h"
#include "kube/keys.h"
#include "objects/objects.h"

struct node_options {
	struct loop *loop; /* borrowed, as the rest */
	struct kube *kube;
	const struct log *log;
	const char *name; /* of the Kubernetes Node */
	const char *nexus_socket, *agent_socket;
	unsigned volumes_max;       /* for the scheduler; 0: no limit */
	const uint8_t *sealing_key; /* SEAL_KEY_BYTES; opens what is sealed for this node */
	/* Something that node_is_ready() depends on has changed. */
	void (*ready)(void *ctx);
	void *ctx;
};

enum { CACHE_POOLS, CACHE_REPLICAS, CACHE_VOLUMES, CACHE_SNAPSHOTS, CACHE_COUNT };
enum { QUEUE_POOLS, QUEUE_REPLICAS, QUEUE_VOLUMES, QUEUE_SNAPSHOTS, QUEUE_COUNT };

/* What is remembered of an object between two steps. */
struct note {
	struct key_node key_node; /* key: `name` */
	char name[OBJECTS_NAME_SIZE];
	struct plan_failure failure;
	unsigned failure_count;
	uint64_t retry_ms;   /* the failure counts until then */
	uint64_t written_ms; /* its status */
	uint64_t touched_ms; /* end of the last change by its daemon */
};

/* What a daemon said last. */
struct view {
	struct node *node;
	unsigned cache; /* of the objects that are looked at after each answer */
	struct loop_timer timer;
	struct work work;
	bool is_asking, is_asked_again;
	bool is_heard;               /* an answer, or a failure, is there */
	uint64_t asked_ms, began_ms; /* of the answer that is there; of the question under way */
	char failure[OBJECTS_REASON_SIZE]; /* "": it answered */
	/* the thread's, while asking */
	struct agent_view new_agent;
	Strake__V1__ListVolumesResponse *new_volumes;
	int result;
	struct err err;
};

/* An operation on a volume; at most one at a time. */
struct op {
	struct list_node node;
	char volume[OBJECTS_VOLUME_SIZE];
	const char *what; /* static */
};

struct node {
	struct node_options options;
	struct kube *kube;                  /* borrowed, as loop and log */
	char sealing_key[SEAL_PUBLIC_SIZE]; /* the public one */
	struct loop *loop;
	const struct log *log;
	struct kube_cache *caches[CACHE_COUNT];
	struct kube_queue *queues[QUEUE_COUNT];
	unsigned synced_count;
	struct workers *volume_workers; /* what may hang with a volume */
	struct workers *stats_workers;  /* statfs hangs too */
	struct workers *daemon_workers; /* calls with time-outs */
	struct keys notes[QUEUE_COUNT]; /* every look at a daemon asks for each of them */
	struct list ops, stats_ops;
	uint64_t idle_written_ms; /* the last write that is limited */

	struct view agent_poll, nexus_poll;
	struct agent_view agent;                  /* owned */
	Strake__V1__ListVolumesResponse *volumes; /* owned */
	/* Volumes that are not in the cache and whose status.nexus may name this node. */
	json_t *said;
	struct kube_request sweep;
	struct loop_timer sweep_again;
	bool is_swept, is_sweeping;

	bool is_stopping;
	unsigned stopping_count;
	struct loop_timer stop_timer;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

int node_start(struct node *node, const struct node_options *options, struct err *err) __must_check;
/* After CSI calls were ended.  Works that hang are not waited for for ever: -ETIMEDOUT, and then
 * the process must end without node_free. */
void node_stop(struct node *node, void (*stopped)(void *ctx), void *ctx);
/* The caches were read. */
bool node_is_ready(const struct node *node);

/* Puts a Volume that a write returned into the cache, if it is one for it. */
void node_absorb_volume(struct node *node, const json_t *json);

/* ---- notes (node.c) ---- */

/* Never NULL. */
struct note *note_get(struct node *node, unsigned queue, const char *name);
/* For a plan: the failure, if it still counts. */
void note_fill(struct node *node, const struct note *note, struct plan_failure *ret_failure,
	struct plan_clock *ret_clock);
/* The end of an attempt; `err` NULL: it went well. */
void note_attempt(struct node *node, unsigned queue, const char *name, const struct err *err);
/* The daemon was asked what it has after the last change that it made for us. */
bool note_is_seen(const struct note *note, const struct view *view);
void note_written(struct node *node, unsigned queue, const char *name, bool is_idle);
void note_forget(struct node *node, unsigned queue, const char *name);

/* ---- operations (node.c) ---- */

/* -EALREADY names what is under way. */
int op_begin(struct node *node, struct op *op, const char *volume, const char *what,
	struct err *err) __must_check;
void op_end(struct node *node, struct op *op);
const struct op *op_of(const struct node *node, const char *volume);

/* ---- views (view.c) ---- */

void views_start(struct node *node);
/* Asks at once, or once more when it is asking. */
void view_agent_soon(struct node *node);
void view_nexus_soon(struct node *node);
/* Stops the timers. */
void views_stop(struct node *node);
/* NULL: it does not have it; only when heard and without failure. */
const Strake__V1__Pool *view_pool(const struct node *node, const char *name);
const Strake__V1__Replica *view_replica(const struct node *node, const struct uuid *uuid);
const Strake__V1__Volume *view_volume(const struct node *node, const char *name);
/* The daemon's failure for a plan: NULL when it answers. */
const char *view_failure(const struct view *view);

/* ---- works of the queues (act_*.c) ---- */

void act_on_pool(void *node, const char *key);
void act_on_replica(void *node, const char *key);
void act_on_volume(void *node, const char *key);
void act_on_snapshot(void *node, const char *key);
/* Carries out a change of the voters; ends the work on the key. */
void act_on_voters(struct node *node, const char *key, const struct volume_object *volume,
	const struct volume_plan *plan);
/* Lists once the Volumes whose status.nexus still names this node. */
void act_sweep(struct node *node);

/* ---- bodies of requests (act.c) ---- */

/* {apiVersion, kind, metadata.name, status}; steals the status. */
json_t *status_body(const struct kube_kind *kind, const char *name, json_t *status);
/* The JSON patch that takes the finalizer away, if it is where it was; NULL: it is not there. */
json_t *finalizer_removal(const json_t *object, const char *finalizer);
/* The JSON patch that sets status.nexus (stolen), if the Volume is still attached to this node: a
 * node that has lost it, and does not know yet, must not overwrite what the other one says. */
json_t *nexus_setting(const struct node *node, json_t *nexus);
/* The JSON patch that takes status.nexus away, if it is this node's. */
json_t *nexus_removal(const struct node *node);

/* Zeroed; never NULL: without memory the program ends, is started again and reads everything anew.
 */
void *must_alloc(size_t size);

#endif
