/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster comes to rest, and the volume's end. */
#include "tests/sim/cluster.h"

#include <string.h>

#define SETTLE_NS (300 * IO_NS_PER_S) /* and what it takes to replace who is away */
#define END_NS    (180 * IO_NS_PER_S)

/* What is not as it should be; "": all is. */
static const char *unsettled(struct world *world)
{
	static char why[400];
	struct cluster *cluster = world->cluster;
	struct volume_status status;
	char epoch[EPOCH_TEXT_SIZE];

	why[0] = '\0';
	if (cluster->pod != POD_RUNS || world->active != cluster->node) {
		return "the pod does not run";
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		if (i != cluster->node && world->slots[i].recorded) {
			return "an older nexus still has the volume";
		}
	}
	if (!slot_status(&world->slots[cluster->node], &status) || !is_whole(world)) {
		return "the volume is not whole";
	}
	if (!kube_is_at_rest(cluster->kube, epoch_to_text(&status.cfg.epoch, epoch),
		    status.size_bytes, why, sizeof(why))) {
		return why;
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].has_replica &&
			cfg_find(&status.cfg, &world->agents[i].replica_id) < 0) {
			return "a replica is left over in a pool";
		}
	}
	return "";
}

static bool is_settled(struct world *world)
{
	return unsettled(world)[0] == '\0';
}

static void say_why(struct world *world, const char *why)
{
	if (world->failed && strcmp(world->result->oracle, "liveness") == 0) {
		size_t used = strlen(world->result->reason);

		(void)snprintf(world->result->reason + used, sizeof(world->result->reason) - used,
			": %s", why);
	}
}

void cluster_settle(struct cluster *cluster)
{
	struct world *world = cluster->world;

	(void)run_slices_for(world, is_settled, "coming to rest",
		SETTLE_NS + world->options.replace_after_s * IO_NS_PER_S);
	say_why(world, unsettled(world));
	/* The load is over; what follows reads and compares. */
	slot_stop_issuing(&world->slots[cluster->node]);
}

static bool is_detached(struct world *world)
{
	return world->cluster->pod == POD_GONE;
}

static bool nothing_is_left(struct world *world)
{
	for (unsigned i = 0; i < world->options.voters; i++) {
		if (world->agents[i].has_replica) {
			return false;
		}
	}
	return !kube_volume_is_there(world->cluster->kube) &&
	       kube_replica_count(world->cluster->kube) == 0 &&
	       kube_snapshot_count(world->cluster->kube) == 0;
}

void cluster_end(struct cluster *cluster)
{
	struct world *world = cluster->world;

	cluster->is_ending = true;
	cluster_move(cluster, cluster->node, false);
	if (!run_slices_for(world, is_detached, "detaching", END_NS)) {
		return;
	}
	if (cluster->away_at_end_ms > 0) {
		int node = kube_replica_node(cluster->kube, 0);

		agent_power_loss(&world->agents[node], cluster->away_at_end_ms * IO_NS_PER_MS);
		sim_run_for_ns(world->sim, rng_below(&cluster->rng, 20) * IO_NS_PER_S);
	}
	kube_delete_volume(cluster->kube);
	for (unsigned i = 0; i < CLUSTER_SNAPSHOTS; i++) {
		kube_delete_snapshot(cluster->kube, i);
	}
	if (!run_slices_for(world, nothing_is_left, "deleting the volume", END_NS)) {
		return;
	}
	sim_cancel(world->sim, &cluster->turn);
	world->cluster = NULL;
	cluster_free(cluster);
}
