/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller: caches of Pools, Volumes, Replicas, Snapshots and Nodes feed the world, changes
 * put keys into queues, a key's work is one step of its plan, and CSI calls change the same objects
 * and wait for them. Everything runs on the control loop, and acts only while it holds the Lease.
 */
#ifndef CSI_CONTROLLER_CONTROLLER_H
#define CSI_CONTROLLER_CONTROLLER_H

#include "csi-controller/world.h"
#include "repl/capability.h"

/* A write that was sent before the Lease was lost is not executed under the next leader. */
#define CONTROLLER_WRITE_MS_MAX 5000

struct controller_options {
	struct kube *kube; /* borrowed, as the texts */
	const struct log *log;
	const char *namespace; /* of the Lease and of Events on cluster-scoped objects */
	const char *identity;  /* of this process in the Lease */
	unsigned overcommit_percent;
	unsigned replace_after_s; /* a replica that is away for so long is replaced */
	uint64_t seed;            /* of uuids: unpredictable, but in tests */
	int64_t (*now_s)(void);   /* NULL: the wall clock */
	/* All caches were read for the first time; once. */
	void (*ready)(void *ctx);
	void *ctx;
};

enum {
	CACHE_NODES,
	CACHE_POOLS,
	CACHE_VOLUMES,
	CACHE_REPLICAS,
	CACHE_SNAPSHOTS,
	CACHE_COUNT,
};
enum {
	QUEUE_NODES,
	QUEUE_POOLS,
	QUEUE_VOLUMES,
	QUEUE_REPLICAS,
	QUEUE_SNAPSHOTS,
	QUEUE_MASTER,
	QUEUE_COUNT,
};

/* In options.namespace: "key" is the master secret, "number" (1 without one) the number of the
 * volume keys that are made of it. */
#define CONTROLLER_MASTER_SECRET "strake-master-key"

struct controller {
	struct controller_options options;
	struct kube *kube;
	const struct log *log;
	struct rng rng;
	struct world world;
	struct kube_cache *caches[CACHE_COUNT];
	struct kube_queue *queues[QUEUE_COUNT];
	unsigned synced_count;
	struct kube_recorder *recorder;
	struct kube_lease *lease;
	bool is_stopping;
	uint16_t key_number; /* 0: the master secret was not read yet */
	uint8_t master[CAPABILITY_SECRET_SIZE];
	struct list waits; /* wait.h */
	struct loop_timer resync;

	unsigned stopping_count; /* parts that have not ended yet */
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

int controller_start(struct controller *controller, const struct controller_options *options,
	struct err *err) __must_check;
/* Calls that wait are answered, nothing more is begun. */
void controller_stop_waiting(struct controller *controller);
/* After CSI calls were ended.  Gives the Lease back. */
void controller_stop(struct controller *controller, void (*stopped)(void *ctx), void *ctx);

/* The caches were read. */
bool controller_is_ready(const struct controller *controller);
/* Ready, and the one that acts as soon as it has the master secret. */
bool controller_has_lease(const struct controller *controller);
/* The one that acts. */
bool controller_leads(const struct controller *controller);
void controller_look_at_all(struct controller *controller);
/* Brings the world's clock up to date. */
void controller_look_at_clock(struct controller *controller);

#endif
