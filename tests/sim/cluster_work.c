/* SPDX-License-Identifier: Apache-2.0 */
/* What users and failures do to a cluster, beside the faults of hosts (faults.c). */
#include "tests/sim/cluster.h"

#define PAUSE_MS 4000

static void on_work(struct sim_event *event);

static uint64_t draw_ms(struct cluster *cluster)
{
	uint64_t limit_ms = rng_percent(&cluster->rng, 60) ? 3000 : 20000;

	return cluster_now_ms(cluster) + 100 + rng_below(&cluster->rng, limit_ms);
}

static void move_pod(struct cluster *cluster)
{
	cluster_move(cluster, (unsigned)rng_below(&cluster->rng, SLOTS), false);
}

static void force_move(struct cluster *cluster)
{
	cluster_force_move(cluster);
}

/* Mostly the pod's; then it may be moved, and goes on where it is. */
static void cut_node(struct cluster *cluster)
{
	unsigned node = rng_percent(&cluster->rng, 60) ? cluster->node
						       : (unsigned)rng_below(&cluster->rng,
								 cluster->world->options.voters);

	cluster->cut_until_ms[node] = draw_ms(cluster);
	kube_node_set_cut(cluster->kube, node, true);
	cluster->outages++;
	if (node == cluster->node && rng_percent(&cluster->rng, 50)) {
		cluster_force_move(cluster);
	}
}

static void api_outage(struct cluster *cluster)
{
	cluster->outage_until_ms = draw_ms(cluster);
	cluster->outages++;
}

static void deafen(struct cluster *cluster)
{
	uint64_t process = rng_below(&cluster->rng, cluster->world->options.voters + 1);

	kube_set_deaf(cluster->kube,
		process == cluster->world->options.voters ? KUBE_NODES_MAX : (unsigned)process,
		draw_ms(cluster));
}

static void crash_controller(struct cluster *cluster)
{
	cluster->restarts++;
	kube_controller_crash(cluster->kube);
}

static void crash_node(struct cluster *cluster)
{
	cluster->restarts++;
	kube_node_crash(
		cluster->kube, (unsigned)rng_below(&cluster->rng, cluster->world->options.voters));
}

static void change_replicas(struct cluster *cluster)
{
	uint64_t most = min_u64(cluster->world->options.voters - cluster->pools_deleted, 5);

	kube_set_replicas(cluster->kube, 1 + (unsigned)rng_below(&cluster->rng, most));
}

static void grow(struct cluster *cluster)
{
	uint64_t size_bytes = kube_volume_size(cluster->kube) + (UINT64_C(1) << 20);

	if (size_bytes <= cluster->world->options.block_count * ORACLE_BLOCK_BYTES) {
		kube_set_size(cluster->kube, size_bytes);
	}
}

/* It is evacuated.  Once, and with room left. */
static void delete_pool(struct cluster *cluster)
{
	unsigned node = (unsigned)rng_below(&cluster->rng, cluster->world->options.voters);

	if (cluster->pools_deleted == 0 &&
		cluster->world->options.voters > kube_volume_replicas(cluster->kube) + 1) {
		cluster->pools_deleted++;
		kube_delete_pool(cluster->kube, node);
	}
}

/* For longer than replicas are waited for. */
static void away_for_long(struct cluster *cluster)
{
	struct world *world = cluster->world;
	int node = kube_replica_node(cluster->kube,
		(unsigned)rng_below(&cluster->rng, kube_volume_replicas(cluster->kube) + 1));
	uint64_t down_ns = (world->options.replace_after_s + 15) * IO_NS_PER_S;

	if (node >= 0 && (unsigned)node != cluster->node) {
		cluster->replacements++;
		agent_power_loss(&world->agents[node], down_ns);
	}
}

static void take_snapshot(struct cluster *cluster)
{
	if (cluster->snapshots_made < CLUSTER_SNAPSHOTS) {
		kube_create_snapshot(cluster->kube, cluster->snapshots_made++);
	}
}

static void delete_snapshot(struct cluster *cluster)
{
	if (cluster->snapshots_made > 0) {
		kube_delete_snapshot(
			cluster->kube, (unsigned)rng_below(&cluster->rng, cluster->snapshots_made));
	}
}

static const struct {
	const char *name;
	unsigned weight;
	void (*run)(struct cluster *cluster);
	bool with_restores; /* it leaves the places of the replicas as they are */
} works[] = {
	{"move the pod", 10, move_pod, true},
	{"force the pod away", 8, force_move, true},
	{"cut a node from the API", 10, cut_node, true},
	{"API outage", 6, api_outage, true},
	{"stale caches", 10, deafen, true},
	{"crash csi-controller", 10, crash_controller, true},
	{"crash a csi-node", 8, crash_node, true},
	{"change spec.replicas", 10, change_replicas, false},
	{"grow", 6, grow, false},
	{"delete a pool", 4, delete_pool, false},
	{"a node is away for long", 8, away_for_long, false},
	{"take a snapshot", 8, take_snapshot, true},
	{"delete a snapshot", 2, delete_snapshot, true},
};

static void on_work(struct sim_event *event)
{
	struct cluster *cluster = container_of(event, struct cluster, work);
	unsigned total = 0;

	for (unsigned i = 0; i < ARRAY_COUNT(works); i++) {
		total += works[i].weight;
	}

	uint64_t at = rng_below(&cluster->rng, total);
	unsigned which = 0;

	while (at >= works[which].weight) {
		at -= works[which++].weight;
	}
	if (!cluster->world->options.restores || works[which].with_restores) {
		sim_trace(cluster->world->sim, "cluster: %s", works[which].name);
		works[which].run(cluster);
	}
	sim_at_ns(cluster->world->sim, event,
		sim_now_ns(cluster->world->sim) + rng_below(&cluster->rng, PAUSE_MS) * IO_NS_PER_MS,
		on_work);
}

/* As etcd's operator does: with everything that follows from the objects, which pod runs where too.
 * What was placed or deleted since is not known any more; so that happens only where nothing is. */
static void restore(struct cluster *cluster)
{
	int attached;

	kube_restore(cluster->kube);
	attached = kube_attached_node(cluster->kube);
	cluster_take_back_pod(cluster, attached);
}

/* With one attachment since the backup the next one gets its number again, and the two nodes take
 * the volume from each other until the older one hears that it has lost it (README.md). */
static void on_restore(struct sim_event *event)
{
	struct cluster *cluster = container_of(event, struct cluster, restore);

	if (kube_attach_number(cluster->kube) == cluster->backup_number + 1) {
		sim_at_ns(cluster->world->sim, event, sim_now_ns(cluster->world->sim) + IO_NS_PER_S,
			on_restore);
		return;
	}
	restore(cluster);
}

static void on_backup(struct sim_event *event)
{
	struct cluster *cluster = container_of(event, struct cluster, restore);

	kube_backup(cluster->kube);
	cluster->backup_number = kube_attach_number(cluster->kube);
	sim_at_ns(cluster->world->sim, event,
		sim_now_ns(cluster->world->sim) + (5 + rng_below(&cluster->rng, 10)) * IO_NS_PER_S,
		on_restore);
}

void cluster_work_start(struct cluster *cluster)
{
	if (cluster->world->options.restores) {
		sim_at_ns(cluster->world->sim, &cluster->restore,
			sim_now_ns(cluster->world->sim) + rng_below(&cluster->rng, 5) * IO_NS_PER_S,
			on_backup);
	}
	sim_at_ns(cluster->world->sim, &cluster->work, sim_now_ns(cluster->world->sim), on_work);
}

void cluster_heal(struct cluster *cluster)
{
	sim_cancel(cluster->world->sim, &cluster->work);
	sim_cancel(cluster->world->sim, &cluster->restore);
	if (cluster->away_at_end_ms == 0 && rng_percent(&cluster->rng, 30)) {
		cluster->away_at_end_ms = 1 + rng_below(&cluster->rng, 100000);
	}
	cluster->outage_until_ms = 0;
	for (unsigned i = 0; i < AGENTS_MAX; i++) {
		cluster->cut_until_ms[i] = 0;
	}
	kube_side_heal(cluster->kube);
}
