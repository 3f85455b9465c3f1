/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world with Kubernetes (--set kube=1): each agent is a node with a pool and a csi-node, the
 * first SLOTS of them can run the pod that uses the volume, and nothing is opened, made or changed
 * but by the shipped csi-controller and csi-nodes (kube/), which are told by objects and by the
 * calls of a kubelet and of external-attacher.
 */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "tests/sim/kube/kube.h"
#include "tests/sim/world.h"

/* Objects; after a restore each may have been made twice (SNAPSHOTS_OF_WORLD). */
#define CLUSTER_SNAPSHOTS 5

enum pod_state {
	POD_NONE,      /* the volume is not available yet */
	POD_PUBLISH,   /* being attached to `node` */
	POD_STAGE,     /* being staged there */
	POD_RUNS,      /* the host's load runs there */
	POD_STOPS,     /* its last requests */
	POD_UNSTAGE,   /* being unstaged, for a while: kubelets give up with their node */
	POD_UNPUBLISH, /* being detached, then PUBLISH, or GONE */
	POD_GONE,
};

struct cluster {
	struct world *world;
	struct kube_side *kube;
	struct rng rng;
	struct sim_event turn, work, restore;
	enum pod_state pod;
	unsigned node, next_node;
	bool is_ending; /* the pod ends with the next detachment */
	bool is_manual; /* a test says what happens */
	uint64_t call_after_ms, give_up_ms;
	uint64_t away_since_ms[AGENTS_MAX]; /* 0: the API hears of the node */
	uint64_t cut_until_ms[AGENTS_MAX], outage_until_ms;
	bool pool_is_gone[AGENTS_MAX], pool_is_taken[AGENTS_MAX];
	unsigned pools_deleted, snapshots_made;
	uint32_t backup_number;  /* of the attachment */
	uint64_t away_at_end_ms; /* for so long a replica's node is away when the volume is deleted
				  */
	/* what happened */
	unsigned moves, forced_moves, restarts, outages, replacements;
};

/* options.c: some seeds have it; and what such a world cannot have. */
void cluster_draw_options(struct world_options *options);
void cluster_adapt_options(struct world_options *options);

/* Makes the objects and runs until the pod does. */
void cluster_start(struct world *world);
void cluster_make(struct world *world); /* only the processes and pools */
void cluster_free(struct cluster *cluster);
uint64_t cluster_now_ms(const struct cluster *cluster);
/* The pod goes to another node without waiting for the one that it is on. */
void cluster_force_move(struct cluster *cluster);
void cluster_move(struct cluster *cluster, unsigned node, bool is_forced);
/* The objects are of before: the pod is where they say. */
void cluster_take_back_pod(struct cluster *cluster, int attached);
/* pod.c: one step of pod, kubelet and attacher. */
void pod_step(struct cluster *cluster);
/* cluster_work.c: what users and failures do all the time. */
void cluster_work_start(struct cluster *cluster);
void cluster_heal(struct cluster *cluster);
/* cluster_finish.c: nothing fails any more, all comes to rest in order; then the volume is deleted
 * and nothing is left of it. */
void cluster_settle(struct cluster *cluster);
void cluster_end(struct cluster *cluster);

/* cluster_daemons.c: the world that csi-node's calls go to. */
void cluster_daemons_set(struct cluster *cluster);
bool cluster_has_vote(void *cluster, const struct uuid *replica);
unsigned cluster_vote_count(void *cluster);
bool cluster_is_snapshot(void *cluster, const struct uuid *id, uint64_t number);

#endif
