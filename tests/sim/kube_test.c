/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directed histories with Kubernetes (cluster.h): csi-controller and csi-nodes make, open and
 * change everything, a pod on one of the first three nodes has the load.  At the end of each all
 * must come to rest in order, the volume hold what the oracles allow, and be deleted without a
 * trace.
 */
#include "tests/sim/cluster.h"
#include "tests/sim/scenario.h"

#define LONG_NS (400 * IO_NS_PER_S)

static struct cluster *cluster_of(struct scenario *scenario)
{
	return scenario->world.cluster;
}

static struct slot *pod_slot(struct scenario *scenario)
{
	return &scenario->world.slots[cluster_of(scenario)->node];
}

/* The pod runs on n0. */
static struct cluster *begin(struct scenario *scenario)
{
	rng_init(&scenario->world.load_rng, scenario->world.options.seed);
	cluster_start(&scenario->world);
	assert_false(scenario->world.failed);
	if (cluster_of(scenario)->node != 0) {
		cluster_move(cluster_of(scenario), 0, false);
	}
	return cluster_of(scenario);
}

static void await_long(struct scenario *scenario, bool (*is_so)(void *scenario))
{
	bool is_reached = sim_run_until(scenario->world.sim, is_so, scenario, LONG_NS);

	if (scenario->world.failed) {
		fail_msg("%s", scenario->result.reason);
	}
	assert_true(is_reached);
}

static bool pod_runs(void *ctx)
{
	struct scenario *scenario = ctx;
	struct cluster *cluster = cluster_of(scenario);
	struct volume_status status;

	return cluster->pod == POD_RUNS && slot_status(pod_slot(scenario), &status) &&
	       (status.state == VOLUME_ONLINE || status.state == VOLUME_DEGRADED);
}

static void await_pod(struct scenario *scenario, unsigned node)
{
	await_long(scenario, pod_runs);
	assert_int_equal(cluster_of(scenario)->node, node);
	assert_int_equal(kube_attached_node(cluster_of(scenario)->kube), node);
}

static void start(struct scenario *scenario)
{
	(void)begin(scenario);
	await_pod(scenario, 0);
	run_ms(scenario, 1000);
}

static uint64_t acknowledged(const struct scenario *scenario)
{
	return scenario->result.ops - scenario->result.errors;
}

/* Requests are answered with success. */
static void expect_progress(struct scenario *scenario)
{
	uint64_t before = acknowledged(scenario);

	run_ms(scenario, 5000);
	assert_true(acknowledged(scenario) > before);
}

static void api_away(struct scenario *scenario, unsigned seconds)
{
	struct cluster *cluster = cluster_of(scenario);

	cluster->outage_until_ms = cluster_now_ms(cluster) + seconds * 1000;
}

static void cut_node(struct scenario *scenario, unsigned node, unsigned seconds)
{
	struct cluster *cluster = cluster_of(scenario);

	cluster->cut_until_ms[node] = cluster_now_ms(cluster) + seconds * 1000;
	kube_node_set_cut(cluster->kube, node, true);
}

/* A data replica on another node than the pod's. */
static unsigned other_replica(struct scenario *scenario)
{
	struct cluster *cluster = cluster_of(scenario);

	for (unsigned i = 0; i < 3; i++) {
		int node = kube_replica_node(cluster->kube, i);

		if (node >= 0 && (unsigned)node != cluster->node) {
			return (unsigned)node;
		}
	}
	fail_msg("no replica on another node");
	return 0;
}

/* 8: the nexus dies while the API is away; it is opened again from its state file. */
static void test_kube_restarts_without_api(struct scenario *scenario)
{
	uint32_t attach;

	start(scenario);
	attach = pod_slot(scenario)->attach;
	api_away(scenario, 60);
	run_ms(scenario, 2000);
	slot_crash(pod_slot(scenario), true);
	slot_restart_after(pod_slot(scenario), 100 * IO_NS_PER_MS);
	run_ms(scenario, 8000);
	expect_progress(scenario);
	assert_int_equal(pod_slot(scenario)->attach, attach);
	assert_true(cluster_now_ms(cluster_of(scenario)) < cluster_of(scenario)->outage_until_ms);
}

/* 10: a replica fails while the API is away, then the nexus dies: the API's copy is of before. */
static void test_kube_replica_fails_without_api(struct scenario *scenario)
{
	unsigned node;

	start(scenario);
	api_away(scenario, 60);
	run_ms(scenario, 1000);
	node = other_replica(scenario);
	go_away(scenario, node);
	run_ms(scenario, 8000);
	expect_progress(scenario);
	slot_crash(pod_slot(scenario), true);
	slot_restart_after(pod_slot(scenario), 100 * IO_NS_PER_MS);
	run_ms(scenario, 8000);
	expect_progress(scenario);
	assert_true(cluster_now_ms(cluster_of(scenario)) < cluster_of(scenario)->outage_until_ms);
	agent_restart_after(&scenario->world.agents[node], 0);
}

static bool is_raised(void *ctx)
{
	struct scenario *scenario = ctx;

	return kube_attach_number(cluster_of(scenario)->kube) > 4;
}

/* 12: etcd is restored from a backup; the attach number in it is one of before. */
static void test_kube_counter_goes_back(struct scenario *scenario)
{
	struct cluster *cluster;

	start(scenario);
	cluster = cluster_of(scenario);
	kube_backup(cluster->kube);

	uint32_t old = kube_attach_number(cluster->kube);

	while (kube_attach_number(cluster->kube) < 4) {
		cluster_move(cluster, (cluster->node + 1) % 2, false);
		run_ms(scenario, 100);
		await_long(scenario, pod_runs);
	}
	run_ms(scenario, 2000);
	kube_restore(cluster->kube);
	assert_int_equal(kube_attach_number(cluster->kube), old);
	cluster_take_back_pod(cluster, kube_attached_node(cluster->kube));
	await_long(scenario, is_raised);
	await_pod(scenario, 0);
	expect_progress(scenario);
}

/* 13: the node that has lost the volume goes on with what it heard before. */
static void test_kube_stale_cache(struct scenario *scenario)
{
	struct cluster *cluster;

	start(scenario);
	cluster = cluster_of(scenario);
	kube_set_deaf(cluster->kube, 0, cluster_now_ms(cluster) + 40000);
	cluster_move(cluster, 1, true);
	run_ms(scenario, 100);
	await_pod(scenario, 1);
	expect_progress(scenario);
	/* Its csi-node still believes that it has it: what it writes is refused (kube/check.c). */
	run_ms(scenario, 10000);
	assert_int_equal(kube_attached_node(cluster->kube), 1);
	/* And back, with a cache that is older than all of that. */
	cluster_move(cluster, 0, false);
	run_ms(scenario, 100);
	await_pod(scenario, 0);
	expect_progress(scenario);
}

static bool is_replaced(void *ctx)
{
	struct scenario *scenario = ctx;
	const struct cfg *cfg = chain_last(&scenario->world);
	const struct node_agent *node = &scenario->world.agents[scenario->writer];

	return cfg_find(cfg, &node->replica_id) < 0;
}

/* 14: a replica was replaced, and its node is cut off from the API before it can say so; the next
 * one opens with what the API has. */
static void test_kube_old_voters(struct scenario *scenario)
{
	struct cluster *cluster;
	unsigned node;

	start(scenario);
	cluster = cluster_of(scenario);
	node = other_replica(scenario);
	scenario->writer = node;
	agent_power_loss(&scenario->world.agents[node], 120 * IO_NS_PER_S);
	await_long(scenario, is_replaced);
	cut_node(scenario, 0, 60);
	cluster_move(cluster, node == 1 ? 2 : 1, true);
	run_ms(scenario, 100);
	await_long(scenario, pod_runs);
	expect_progress(scenario);
}

/* 62: the kubelet is dead or cut off, the pod is forced away after a while; it goes on where it is.
 */
static void test_kube_forced_detach(struct scenario *scenario)
{
	struct cluster *cluster;

	start(scenario);
	cluster = cluster_of(scenario);
	cut_node(scenario, 0, 120);
	run_ms(scenario, 10000);
	cluster_move(cluster, 1, true);
	run_ms(scenario, 100);
	await_pod(scenario, 1);
	/* The old one still has its load, and nobody takes its device away. */
	assert_true(scenario->world.slots[0].issuing);
	assert_true(scenario->world.slots[0].recorded);
	run_ms(scenario, 20000);
	expect_progress(scenario);
	assert_true(scenario->world.slots[0].recorded);
}

static bool old_one_is_gone(void *ctx)
{
	return !((struct scenario *)ctx)->world.slots[0].recorded;
}

/* 63: the taint out-of-service although the node runs, and hears of it. */
static void test_kube_out_of_service(struct scenario *scenario)
{
	start(scenario);
	cluster_move(cluster_of(scenario), 1, true);
	run_ms(scenario, 100);
	await_pod(scenario, 1);
	await_long(scenario, old_one_is_gone);
	assert_false(scenario->world.slots[0].issuing);
	expect_progress(scenario);
}

static bool call_ends(void *ctx)
{
	struct scenario *scenario = ctx;
	enum kube_call_state state = kube_call_state(cluster_of(scenario)->kube, KUBE_CALL_PUBLISH);

	assert_int_not_equal(state, KUBE_CALL_DONE);
	return state == KUBE_CALL_FAILED;
}

/* 64: a second node wants the volume while the first has it. */
static void test_kube_two_nodes(struct scenario *scenario)
{
	struct cluster *cluster;
	uint32_t attach;

	start(scenario);
	cluster = cluster_of(scenario);
	attach = kube_attach_number(cluster->kube);
	for (unsigned i = 0; i < 3; i++) {
		kube_call_begin(cluster->kube, KUBE_CALL_PUBLISH, 1);
		await_long(scenario, call_ends);
	}
	assert_int_equal(kube_attached_node(cluster->kube), 0);
	assert_int_equal(kube_attach_number(cluster->kube), attach);
	expect_progress(scenario);
}

/* 70: the volume is deleted while a replica's node is away, for longer than it is waited for. */
static void test_kube_deleted_while_away(struct scenario *scenario)
{
	start(scenario);
	cluster_of(scenario)->away_at_end_ms = 100000;
}

static bool is_replaced_and_whole(void *ctx)
{
	return is_replaced(ctx) && is_whole(&((struct scenario *)ctx)->world);
}

/* A replica that is away for 10 minutes is replaced; not before. */
static void test_kube_replaced_after_ten_minutes(struct scenario *scenario)
{
	struct world *world = &scenario->world;
	unsigned node;

	start(scenario);
	node = other_replica(scenario);
	scenario->writer = node;
	agent_power_loss(&world->agents[node], 1200 * IO_NS_PER_S);
	slot_stop_issuing(pod_slot(scenario));
	run_ms(scenario, 590000);
	assert_false(is_replaced(scenario));
	await_long(scenario, is_replaced_and_whole);
	assert_false(sim_host_is_up(world->agents[node].host));
	slot_start_issuing(pod_slot(scenario));
	expect_progress(scenario);
}

/* A pool is deleted, and its node goes away before it is given up: what is left on it is erased
 * when the node is back. */
static void test_kube_pool_deleted_while_away(struct scenario *scenario)
{
	struct cluster *cluster;
	unsigned node;

	start(scenario);
	cluster = cluster_of(scenario);
	node = other_replica(scenario);
	scenario->writer = node;
	agent_power_loss(&scenario->world.agents[node], 90 * IO_NS_PER_S);
	run_ms(scenario, 12000);
	kube_delete_pool(cluster->kube, node);
	await_long(scenario, is_replaced_and_whole);
	expect_progress(scenario);
}

static bool has_state(struct scenario *scenario, const char *state)
{
	return strcmp(kube_snapshot_state(cluster_of(scenario)->kube, 0), state) == 0;
}

static bool is_detached(void *ctx)
{
	return kube_attached_node(cluster_of(ctx)->kube) < 0;
}

static bool is_ready(void *ctx)
{
	return has_state(ctx, "Ready");
}

static bool is_failed(void *ctx)
{
	return has_state(ctx, "Failed");
}

/* A Snapshot of a Volume that is attached nowhere is taken as soon as it is open. */
static void test_kube_snapshot_is_taken(struct scenario *scenario)
{
	struct cluster *cluster;

	start(scenario);
	cluster = cluster_of(scenario);
	cluster_move(cluster, 1, false);
	await_long(scenario, is_detached);
	kube_create_snapshot(cluster->kube, 0);
	await_long(scenario, is_ready);
	assert_int_equal(scenario->result.snapshots, 1);
	expect_progress(scenario);
	/* Deleted, it stays, and says why: no nexus deletes one. */
	kube_delete_snapshot(cluster->kube, 0);
	run_ms(scenario, 5000);
	assert_true(is_ready(scenario));
	assert_non_null(strstr(
		kube_snapshot_message(cluster->kube, 0, "Deletable"), "goes with its Volume v"));
}

static bool is_made(void *ctx)
{
	return ((struct scenario *)ctx)->result.snapshots == 1;
}

/* The node that has taken it does not reach the API to say so, and loses the volume: the next one
 * asks again, and finds it. */
static void test_kube_snapshot_is_taken_once(struct scenario *scenario)
{
	struct cluster *cluster;

	start(scenario);
	cluster = cluster_of(scenario);
	kube_create_snapshot(cluster->kube, 0);
	await_long(scenario, is_made);
	cut_node(scenario, 0, 120);
	assert_false(is_ready(scenario));
	cluster_move(cluster, 1, true);
	run_ms(scenario, 100);
	await_pod(scenario, 1);
	await_long(scenario, is_ready);
	assert_int_equal(scenario->result.snapshots, 1);
	expect_progress(scenario);
}

/* Pools without snapshots: the nexus is asked once, and what it says is the Snapshot's. */
static void test_kube_snapshot_is_refused(struct scenario *scenario)
{
	struct cluster *cluster;

	start(scenario);
	cluster = cluster_of(scenario);
	kube_create_snapshot(cluster->kube, 0);
	await_long(scenario, is_failed);
	assert_non_null(strstr(kube_snapshot_message(cluster->kube, 0, "Ready"),
		"a snapshot needs pool format 1: replica "));
	run_ms(scenario, 100000);
	assert_true(is_failed(scenario));
	kube_delete_snapshot(cluster->kube, 0);
	assert_int_equal(kube_snapshot_count(cluster->kube), 0);
}

#define KUBE                                                                                       \
	.kube = 1, .replace_after_s = 20, .ops_target = 300, .duration_ns = 30 * IO_NS_PER_S,      \
	.depth = 4

int main(void)
{
	static const struct scenario_case cases[] = {
		{"test_kube_restarts_without_api", test_kube_restarts_without_api, {KUBE}},
		{"test_kube_replica_fails_without_api", test_kube_replica_fails_without_api,
			{KUBE}},
		{"test_kube_counter_goes_back", test_kube_counter_goes_back, {KUBE}},
		{"test_kube_stale_cache", test_kube_stale_cache, {KUBE}},
		{"test_kube_old_voters", test_kube_old_voters, {KUBE}},
		{"test_kube_forced_detach", test_kube_forced_detach, {KUBE}},
		{"test_kube_out_of_service", test_kube_out_of_service, {KUBE}},
		{"test_kube_two_nodes", test_kube_two_nodes, {KUBE}},
		{"test_kube_deleted_while_away", test_kube_deleted_while_away, {KUBE}},
		{"test_kube_replaced_after_ten_minutes", test_kube_replaced_after_ten_minutes,
			{.kube = 1,
				.replace_after_s = 600,
				.ops_target = 300,
				.depth = 4,
				.duration_ns = 30 * IO_NS_PER_S}},
		{"test_kube_pool_deleted_while_away", test_kube_pool_deleted_while_away, {KUBE}},
		{"test_kube_snapshot_is_taken", test_kube_snapshot_is_taken,
			{KUBE, .snapshots = 1}},
		{"test_kube_snapshot_is_taken_once", test_kube_snapshot_is_taken_once,
			{KUBE, .snapshots = 1}},
		{"test_kube_snapshot_is_refused", test_kube_snapshot_is_refused, {KUBE}},
	};

	return scenario_run_all("kube", cases, ARRAY_COUNT(cases));
}
