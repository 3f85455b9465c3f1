/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pod that uses the volume, its node's kubelet, and external-attacher: each asks again and
 * again for what is next.  A pod that was moved by force goes on with its load where it was, until
 * its device is taken away.
 */
#include "tests/sim/cluster.h"

#define AGAIN_MS   400
#define STOPS_MS   8000
#define UNSTAGE_MS 20000

static struct slot *slot_of(struct cluster *cluster)
{
	return &cluster->world->slots[cluster->node];
}

static void enter(struct cluster *cluster, enum pod_state state)
{
	static const char *const names[] = {"waits", "is being attached", "is being staged", "runs",
		"stops", "is being unstaged", "is being detached", "is gone"};

	cluster->pod = state;
	cluster->call_after_ms = 0;
	/* A call of before may be under way still. */
	for (unsigned i = 0; i < KUBE_CALL_COUNT; i++) {
		kube_call_forget(cluster->kube, (enum kube_call)i);
	}
	sim_trace(cluster->world->sim, "pod on n%u %s", cluster->node, names[state]);
}

/* Asks until it is done; true: it is. */
static bool ask(struct cluster *cluster, enum kube_call call, unsigned node)
{
	uint64_t now_ms = cluster_now_ms(cluster);

	switch (kube_call_state(cluster->kube, call)) {
	case KUBE_CALL_DONE:
		return true;
	case KUBE_CALL_FAILED:
		sim_trace(cluster->world->sim, "call %d to n%u: %.150s", (int)call, node,
			kube_call_error(cluster->kube, call));
		cluster->call_after_ms = now_ms + AGAIN_MS;
		return false;
	case KUBE_CALL_NONE:
		if (now_ms >= cluster->call_after_ms) {
			kube_call_begin(cluster->kube, call, node);
		}
		return false;
	case KUBE_CALL_RUNNING:
		return false;
	}
	return false;
}

static bool kubelet_works(const struct cluster *cluster)
{
	return sim_host_is_up(cluster->world->agents[cluster->node].host) &&
	       !kube_node_is_cut(cluster->kube, cluster->node) &&
	       cluster_now_ms(cluster) >= cluster->outage_until_ms;
}

static void step_runs(struct cluster *cluster)
{
	struct slot *slot = slot_of(cluster);
	struct volume_status status;

	/* Its requests end in errors: the kubelet starts it anew. */
	if (!slot->recorded ||
		(slot_status(slot, &status) &&
			(status.state == VOLUME_FAULTED || status.state == VOLUME_SUPERSEDED))) {
		slot_stop_issuing(slot);
		enter(cluster, POD_STAGE);
	}
}

static void step_stops(struct cluster *cluster)
{
	uint64_t now_ms = cluster_now_ms(cluster);

	if (slot_of(cluster)->in_flight == 0 || now_ms >= cluster->give_up_ms) {
		cluster->give_up_ms = now_ms + UNSTAGE_MS;
		enter(cluster, POD_UNSTAGE);
	}
}

static void step_unstage(struct cluster *cluster)
{
	bool may_give_up = cluster_now_ms(cluster) >= cluster->give_up_ms && !cluster->is_ending;

	if (may_give_up ||
		(kubelet_works(cluster) && ask(cluster, KUBE_CALL_UNSTAGE, cluster->node))) {
		enter(cluster, POD_UNPUBLISH);
	}
}

static void step_unpublish(struct cluster *cluster)
{
	if (!ask(cluster, KUBE_CALL_UNPUBLISH, cluster->node)) {
		return;
	}
	cluster->node = cluster->next_node;
	enter(cluster, cluster->is_ending ? POD_GONE : POD_PUBLISH);
}

static void step_publish(struct cluster *cluster)
{
	int attached = kube_attached_node(cluster->kube);

	if (attached >= 0 && (unsigned)attached != cluster->node &&
		kube_call_state(cluster->kube, KUBE_CALL_PUBLISH) != KUBE_CALL_RUNNING) {
		/* What an earlier call had done. */
		cluster->next_node = cluster->node;
		cluster->node = (unsigned)attached;
		enter(cluster, POD_UNPUBLISH);
	} else if (ask(cluster, KUBE_CALL_PUBLISH, cluster->node)) {
		enter(cluster, POD_STAGE);
	}
}

static void step_stage(struct cluster *cluster)
{
	if (kube_attached_node(cluster->kube) != (int)cluster->node) {
		/* Restored objects: external-attacher compares what is attached with what shall be.
		 */
		if (kube_call_state(cluster->kube, KUBE_CALL_STAGE) != KUBE_CALL_RUNNING) {
			enter(cluster, POD_PUBLISH);
		}
	} else if (kubelet_works(cluster) && ask(cluster, KUBE_CALL_STAGE, cluster->node)) {
		slot_start_issuing(slot_of(cluster));
		enter(cluster, POD_RUNS);
	}
}

void pod_step(struct cluster *cluster)
{
	switch (cluster->pod) {
	case POD_NONE:
		if (kube_volume_is_available(cluster->kube)) {
			enter(cluster, POD_PUBLISH);
		}
		return;
	case POD_PUBLISH:
		step_publish(cluster);
		return;
	case POD_STAGE:
		step_stage(cluster);
		return;
	case POD_RUNS:
		step_runs(cluster);
		return;
	case POD_STOPS:
		step_stops(cluster);
		return;
	case POD_UNSTAGE:
		step_unstage(cluster);
		return;
	case POD_UNPUBLISH:
		step_unpublish(cluster);
		return;
	case POD_GONE:
		return;
	}
}

void cluster_take_back_pod(struct cluster *cluster, int attached)
{
	/* What was running goes on until it is taken away. */
	if (attached >= 0) {
		cluster->node = (unsigned)attached;
	}
	cluster->next_node = cluster->node;
	enter(cluster, attached >= 0 ? POD_STAGE : POD_PUBLISH);
}

void cluster_move(struct cluster *cluster, unsigned node, bool is_forced)
{
	cluster->next_node = node;
	if (cluster->pod == POD_STAGE || cluster->pod == POD_RUNS) {
		cluster->moves++;
		cluster->forced_moves += is_forced;
		cluster->world->result->takeovers++;
		cluster->give_up_ms = cluster_now_ms(cluster) + STOPS_MS;
		if (!is_forced) {
			slot_stop_issuing(slot_of(cluster));
		}
		enter(cluster, is_forced ? POD_UNPUBLISH : POD_STOPS);
	}
}

void cluster_force_move(struct cluster *cluster)
{
	cluster_move(cluster,
		(cluster->node + 1 + (unsigned)rng_below(&cluster->rng, SLOTS - 1)) % SLOTS, true);
}
