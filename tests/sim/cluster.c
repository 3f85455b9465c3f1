/* SPDX-License-Identifier: Apache-2.0 */
/* The turns of a world with Kubernetes. */
#include "tests/sim/cluster.h"

#include <stdlib.h>

#define TURN_MS       15 /* about */
#define UNREADY_MS    8000
#define START_NS      (120 * IO_NS_PER_S)
#define KUBE_PERCENT  8
#define START_BLOCKS  256 /* sizes of Volumes are in MiB */
#define BLOCKS        768
#define WORLD_SECONDS 30

uint64_t cluster_now_ms(const struct cluster *cluster)
{
	return sim_now_ns(cluster->world->sim) / IO_NS_PER_MS;
}

/* ---- options ---- */

void cluster_draw_options(struct world_options *options)
{
	struct rng rng;

	rng_init(&rng, options->seed ^ UINT64_C(0xc0be));
	options->kube = rng_percent(&rng, KUBE_PERCENT);
	options->replace_after_s = 20 + rng_below(&rng, 60);
	options->restores = rng_percent(&rng, 12);
}

void cluster_adapt_options(struct world_options *options)
{
	if (!options->kube) {
		return;
	}
	/* One node more than what is wanted, at least. */
	options->voters = max_u64(options->voters, 3 + options->data_replicas / 2);
	options->voters = min_u64(max_u64(options->voters, options->data_replicas + 1), AGENTS_MAX);
	options->data_replicas = min_u64(options->data_replicas, options->voters);
	options->spares = options->voters;
	options->voter_changes = 1;
	if (options->restores) {
		/* Nobody is replaced meanwhile. */
		options->replace_after_s = 600;
	}
	options->min_insync = 0;
	options->local_agent = 0;
	options->recover = 0; /* its oracle knows who asks for it */
	options->rotten_too = -1;
	options->small_agent = options->absent_agent = options->rotten_agent = -1;
	options->start_blocks = START_BLOCKS;
	options->block_count = BLOCKS;
	options->cluster_bytes = max_u64(options->cluster_bytes, 16384);
	options->pool_bytes = UINT64_C(16) << 20;
	options->duration_ns = max_u64(options->duration_ns, WORLD_SECONDS * IO_NS_PER_S);
	/* Nobody but csi-node tells what a bad disk means; and an agent's memory is no matter of
	 * Kubernetes. */
	options->kind_mask &= ~(UINT64_C(3) << 22);
	options->down_at_end = options->power_cycle_at_end = 0;
}

/* ---- turns ---- */

static void look_after_node(struct cluster *cluster, unsigned node)
{
	bool is_up = sim_host_is_up(cluster->world->agents[node].host);
	uint64_t now_ms = cluster_now_ms(cluster);

	kube_node_set_power(cluster->kube, node, is_up);
	if (now_ms >= cluster->cut_until_ms[node]) {
		kube_node_set_cut(cluster->kube, node, false);
	}
	if (is_up && !kube_node_is_cut(cluster->kube, node)) {
		cluster->away_since_ms[node] = 0;
	} else if (cluster->away_since_ms[node] == 0) {
		cluster->away_since_ms[node] = now_ms;
	}
	if (now_ms >= cluster->outage_until_ms) {
		kube_node_set_ready(cluster->kube, node,
			cluster->away_since_ms[node] == 0 ||
				now_ms - cluster->away_since_ms[node] < UNREADY_MS);
	}
}

static void on_turn(struct sim_event *event)
{
	struct cluster *cluster = container_of(event, struct cluster, turn);
	struct world *world = cluster->world;

	kube_set_outage(cluster->kube, cluster_now_ms(cluster) < cluster->outage_until_ms);
	for (unsigned i = 0; i < world->options.voters; i++) {
		look_after_node(cluster, i);
	}
	kube_side_turn(cluster->kube, cluster_now_ms(cluster));
	pod_step(cluster);
	sim_at_ns(world->sim, event,
		sim_now_ns(world->sim) + (1 + rng_below(&cluster->rng, 2 * TURN_MS)) * IO_NS_PER_MS,
		on_turn);
}

/* ---- beginning and end ---- */

static void trace(void *ctx, const char *text)
{
	const struct cluster *cluster = ctx;

	if (cluster->world != NULL) {
		sim_trace(cluster->world->sim, "%.240s", text);
	}
}

static void wrong(void *ctx, const char *text)
{
	const struct cluster *cluster = ctx;
	struct world *world = cluster->world;

	world_fail(world, &world->result->broken, "kube", "%s", text);
}

void cluster_make(struct world *world)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));

	assert(cluster != NULL);
	cluster->world = world;
	world->cluster = cluster;
	rng_init(&cluster->rng, world->options.seed ^ UINT64_C(0xc1));
	cluster_daemons_set(cluster);

	struct kube_world kube = {
		.ctx = cluster,
		.node_count = (unsigned)world->options.voters,
		.seed = world->options.seed ^ UINT64_C(0xc2),
		.replace_after_s = world->options.replace_after_s,
		.lost_percent = rng_below(&cluster->rng, 12),
		.trace = trace,
		.wrong = wrong,
		.has_vote = cluster_has_vote,
		.vote_count = cluster_vote_count,
		.has_snapshots = world->options.snapshots != 0,
		.is_snapshot = cluster_is_snapshot,
	};

	cluster->kube = kube_side_new(&kube);
	for (unsigned i = 0; i < world->options.voters; i++) {
		kube_create_pool(cluster->kube, i);
	}
	sim_at_ns(world->sim, &cluster->turn, sim_now_ns(world->sim), on_turn);
}

static bool pod_runs(void *ctx)
{
	const struct cluster *cluster = ctx;

	return cluster->pod == POD_RUNS || cluster->world->failed;
}

void cluster_start(struct world *world)
{
	cluster_make(world);
	kube_create_volume(world->cluster->kube, START_BLOCKS * ORACLE_BLOCK_BYTES,
		(unsigned)world->options.data_replicas);
	world->cluster->node = (unsigned)rng_below(&world->cluster->rng, SLOTS);
	if (!sim_run_until(world->sim, pod_runs, world->cluster, START_NS)) {
		world_fail(world, &world->result->stuck, "kube", "the pod does not start");
	}
}

void cluster_free(struct cluster *cluster)
{
	if (cluster != NULL) {
		/* The world may be gone: what its processes still ask for, nobody answers. */
		cluster->world = NULL;
		cluster_daemons_set(NULL);
		kube_side_free(cluster->kube);
		free(cluster);
	}
}
