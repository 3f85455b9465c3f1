/* SPDX-License-Identifier: Apache-2.0 */
/* One history from its seed. */
#include "base/mutant.h"
#include "tests/sim/cluster.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MONITOR_NS (100 * IO_NS_PER_MS)

void world_fail(struct world *world, uint64_t *counter, const char *oracle, const char *format, ...)
{
	va_list args;

	(*counter)++;
	if (world->failed) {
		return;
	}
	world->failed = true;
	(void)snprintf(world->result->oracle, sizeof(world->result->oracle), "%s", oracle);
	va_start(args, format);
	(void)vsnprintf(world->result->reason, sizeof(world->result->reason), format, args);
	va_end(args);
	sim_trace(world->sim, "FAILED %s: %s", oracle, world->result->reason);
}

/* The operator: restarts what cannot go on by itself. */
static void on_monitor(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, monitor);
	struct rng *rng = sim_rng(world->sim);

	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *slot = &world->slots[i];
		struct volume_status status;

		if (world->cluster != NULL || !slot_status(slot, &status)) {
			continue; /* kubelet and csi-node look after it */
		}
		if (i == world->active && status.state == VOLUME_FAULTED) {
			slot_renew(slot);
		} else if (i != world->active && status.state == VOLUME_SUPERSEDED &&
			   slot->in_flight == 0 && rng_percent(rng, 5)) {
			slot_stop_issuing(slot);
			slot_crash(slot, false);
		}
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		struct node_agent *node = &world->agents[i];
		struct store_info info;

		if (node->state == AGENT_UP) {
			store_get_info(node->store, &info);
			if (info.failed) {
				agent_crash(node, rng_below(rng, IO_NS_PER_S));
			}
		}
	}
	sim_at_ns(world->sim, event, sim_now_ns(world->sim) + MONITOR_NS, on_monitor);
}

static void run_faults(struct world *world)
{
	uint64_t end_ns = sim_now_ns(world->sim) + world->options.duration_ns;

	for (unsigned i = 0; i < world->options.voters; i++) {
		sim_disk_set_lying(world->agents[i].disk, mutant_is(MUTANT_LYING_FLUSH));
	}
	world->load_begin_ns = sim_now_ns(world->sim);
	if (world->options.kube) {
		cluster_start(world);
		cluster_work_start(world->cluster);
		end_ns = sim_now_ns(world->sim) + world->options.duration_ns;
	} else {
		slot_open(&world->slots[0], 1);
		slot_start_issuing(&world->slots[0]);
		operator_start(world);
		resizer_start(world);
		snapshots_start(world);
		recovery_schedule(world);
	}
	faults_schedule(world);
	sim_at_ns(world->sim, &world->monitor, sim_now_ns(world->sim) + MONITOR_NS, on_monitor);
	while (!world->failed && sim_now_ns(world->sim) < end_ns && sim_step(world->sim)) {
	}
}

static void drop_slot(struct slot *slot)
{
	struct list *lists[] = {&slot->ops, &slot->resend};

	for (unsigned i = 0; i < ARRAY_COUNT(lists); i++) {
		while (lists[i]->head.next != NULL && !list_is_empty(lists[i])) {
			struct op *op = container_of(list_pop_front(lists[i]), struct op, node);

			free(op->req.private_state);
			free(op->buffer);
			free(op);
		}
	}
}

void world_drop(struct world *world)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		drop_slot(&world->slots[i]);
	}
	for (unsigned i = 0; i < world->options.voters; i++) {
		image_store_done(&world->agents[i]);
	}
	snapshots_done(world);
	free(world->recovery.buffer);
	cluster_free(world->cluster);
	oracle_done(&world->oracle);
	chain_done(&world->chain);
}

static void on_step(void *ctx)
{
	chain_observe(ctx);
	snapshots_observe(ctx);
	faults_observe(ctx);
}

struct sim *world_sim_new(struct world *world, FILE *trace, bool trace_io)
{
	struct sim_options options = {
		.trace = trace,
		.trace_io = trace_io,
		.net_latency_max_ns = world->options.net_max_ns,
		.disk_latency_max_ns = world->options.disk_max_ns,
		.after_step = on_step,
		.ctx = world,
	};

	return sim_new(world->options.seed, &options);
}

void world_run(const struct world_request *request, struct world_result *ret_result)
{
	struct world *world = calloc(1, sizeof(*world));

	assert(world != NULL);
	memset(ret_result, 0, sizeof(*ret_result));
	world->result = ret_result;
	world_draw_options(&world->options, request->seed);
	(void)world_change_options(&world->options, request->sets); /* main() has tried it */
	cluster_adapt_options(&world->options);
	world->options.start_blocks =
		min_u64(world->options.start_blocks, world->options.block_count);
	world->sim = world_sim_new(world, request->trace, request->trace_io);
	world_trace_options(world);
	rng_init(&world->load_rng, request->seed ^ UINT64_C(0x10ad));
	world_setup(world);
	if (!world->failed) {
		run_faults(world);
	}
	if (!world->failed) {
		world_finish(world);
	}
	ret_result->hash = sim_hash(world->sim);
	ret_result->steps = sim_steps(world->sim);
	sim_free(world->sim);
	world_drop(world);
	free(world);
}
