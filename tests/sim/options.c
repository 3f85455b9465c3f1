/* SPDX-License-Identifier: Apache-2.0 */
/* What the seed decides before anything happens, and changing it by name. */
#include "tests/sim/cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The opener waits 5 % longer than a lease lasts: two clocks may differ by that much. */
#define CLOCK_PPM_MAX 24000

static const struct {
	const char *name;
	size_t offset;
} fields[] = {
	{"replicas", offsetof(struct world_options, data_replicas)},
	{"voters", offsetof(struct world_options, voters)},
	{"spares", offsetof(struct world_options, spares)},
	{"voter_changes", offsetof(struct world_options, voter_changes)},
	{"min_insync", offsetof(struct world_options, min_insync)},
	{"blocks", offsetof(struct world_options, block_count)},
	{"start", offsetof(struct world_options, start_blocks)},
	{"cluster", offsetof(struct world_options, cluster_bytes)},
	{"region", offsetof(struct world_options, region_bytes)},
	{"pool", offsetof(struct world_options, pool_bytes)},
	{"journal", offsetof(struct world_options, journal_blocks)},
	{"agent_buffers", offsetof(struct world_options, agent_buffers)},
	{"nexus_buffers", offsetof(struct world_options, nexus_buffers)},
	{"small", offsetof(struct world_options, small_agent)},
	{"local", offsetof(struct world_options, local_agent)},
	{"rotten", offsetof(struct world_options, rotten_agent)},
	{"rotten_too", offsetof(struct world_options, rotten_too)},
	{"absent", offsetof(struct world_options, absent_agent)},
	{"depth", offsetof(struct world_options, depth)},
	{"duration", offsetof(struct world_options, duration_ns)},
	{"pace", offsetof(struct world_options, ops_target)},
	{"ops", offsetof(struct world_options, ops_max)},
	{"spreads", offsetof(struct world_options, spreads)},
	{"fault_count", offsetof(struct world_options, fault_count)},
	{"faults", offsetof(struct world_options, fault_mask)},
	{"kinds", offsetof(struct world_options, kind_mask)},
	{"net_max", offsetof(struct world_options, net_max_ns)},
	{"disk_max", offsetof(struct world_options, disk_max_ns)},
	{"no_quorum", offsetof(struct world_options, no_quorum_ns)},
	{"slow", offsetof(struct world_options, slow_ns)},
	{"eject_away", offsetof(struct world_options, eject_away_ns)},
	{"windows", offsetof(struct world_options, window_entries)},
	{"restart_wait", offsetof(struct world_options, restart_wait_ms)},
	{"checkpoint", offsetof(struct world_options, checkpoint_ns)},
	{"dirty", offsetof(struct world_options, dirty_bytes)},
	{"rebuilds", offsetof(struct world_options, rebuilds)},
	{"rebuild_min", offsetof(struct world_options, rebuild_rate_min)},
	{"rebuild_max", offsetof(struct world_options, rebuild_rate_max)},
	{"kube", offsetof(struct world_options, kube)},
	{"restores", offsetof(struct world_options, restores)},
	{"replace_after", offsetof(struct world_options, replace_after_s)},
	{"clock_ppm", offsetof(struct world_options, clock_ppm)},
	{"down", offsetof(struct world_options, down_at_end)},
	{"power_cycle", offsetof(struct world_options, power_cycle_at_end)},
	{"snapshots", offsetof(struct world_options, snapshots)},
	{"version", offsetof(struct world_options, version)},
	{"recover", offsetof(struct world_options, recover)},
};

static void draw_replicas(struct world_options *options, struct rng *rng)
{
	static const uint8_t counts[] = {1, 2, 2, 3, 3, 3, 3, 3, 4, 5};

	options->data_replicas = counts[rng_below(rng, ARRAY_COUNT(counts))];
	options->voters = options->data_replicas | 1;
	options->min_insync = rng_percent(rng, 60)   ? 0
			      : rng_percent(rng, 75) ? 1
						     : options->data_replicas;
	options->small_agent = -1;
	options->local_agent = -1;
	options->absent_agent = -1;
	if (rng_percent(rng, 40)) {
		options->local_agent = (int64_t)rng_below(rng, options->voters);
	}
	if (options->data_replicas >= 3 && options->min_insync < 2 && rng_percent(rng, 15)) {
		options->small_agent = (int64_t)rng_below(rng, options->data_replicas);
	} else if (rng_percent(rng, 4)) {
		options->small_agent = -2;
		options->min_insync = 1; /* a rebuild may find no room */
	}
	if (options->voters >= 3 && options->small_agent == -1 &&
		options->min_insync < options->data_replicas && rng_percent(rng, 20)) {
		options->absent_agent = (int64_t)rng_below(rng, options->voters);
	}
	if (options->voters >= 3 && rng_percent(rng, 40)) {
		options->down_at_end = 1 + rng_below(rng, options->voters / 2);
	}
}

/* Spare agents for voters that come and go, blocks that cannot be read, time-outs of the nexus. */
static void draw_changes(struct world_options *options, struct rng *rng)
{
	options->rotten_agent = -1;
	if (options->data_replicas > 1 && rng_percent(rng, 40)) {
		options->rotten_agent = (int64_t)rng_below(rng, options->data_replicas);
	}
	if (rng_percent(rng, 25)) {
		options->no_quorum_ns = (1 + rng_below(rng, 5)) * IO_NS_PER_S;
	}
	/* Faults do not last as long as it takes in the real world. */
	options->slow_ns = (1 + rng_below(rng, 3)) * IO_NS_PER_S;
	options->eject_away_ns = (1 + rng_below(rng, 3)) * IO_NS_PER_S;
	options->voter_changes = rng_percent(rng, 35);
	if (options->voter_changes) {
		options->spares = 1 + rng_below(rng, AGENTS_MAX - options->voters);
		options->voters += options->spares;
		options->small_agent = -1;
		options->absent_agent = -1;
		/* One that is made anew has its stamps where others had data: rot.c would hit
		 * them. */
		options->rotten_agent = -1;
	}
}

/* Limits so small that they are reached: each of a few seeds in ten. */
static void draw_limits(struct world_options *options, struct rng *rng)
{
	options->cluster_bytes = rng_percent(rng, 70) ? 16384 : 32768;
	options->region_bytes = options->cluster_bytes << rng_below(rng, 3);
	options->pool_bytes = UINT64_C(6) << 20;
	options->journal_blocks = rng_percent(rng, 70) ? 32 : 8 + rng_below(rng, 8);
	options->agent_buffers = UINT64_C(2) << 20;
	options->nexus_buffers = UINT64_C(1) << 20;
	if (rng_percent(rng, 80)) {
		options->checkpoint_ns = (20 + rng_below(rng, 2000)) * IO_NS_PER_MS;
	}
	options->window_entries = rng_percent(rng, 30) ? 1 + rng_below(rng, 40) : 0;
	options->dirty_bytes = rng_percent(rng, 20) ? 1 : 0;
	options->restart_wait_ms = rng_percent(rng, 60) ? 10000 : rng_below(rng, 2) * 3000;
}

/* Rebuilds one at a time, held up by the host or by a limit: of a volume of a megabyte. */
static void draw_pace(struct world_options *options, struct rng *rng)
{
	if (rng_percent(rng, 50)) {
		options->rebuilds = 1;
	}
	if (rng_percent(rng, 60)) {
		options->rebuild_rate_min = UINT64_C(65536) << rng_below(rng, 5);
	}
	if (rng_percent(rng, 25)) {
		options->rebuild_rate_max = UINT64_C(131072) << rng_below(rng, 5);
	}
}

/* Most seeds know only some kinds of faults, so that those meet often; and nets or disks that are
 * faster or slower than usual. */
static void draw_environment(struct world_options *options, struct rng *rng)
{
	static const unsigned latencies_us[] = {50, 400, 400, 400, 3000};

	options->fault_count = 4 + rng_below(rng, 10);
	options->fault_mask = UINT64_MAX;
	options->kind_mask = UINT64_MAX;
	if (rng_percent(rng, 50)) {
		options->kind_mask = rng_u64(rng) | rng_u64(rng);
	} else if (rng_percent(rng, 60)) {
		options->kind_mask = rng_u64(rng) & rng_u64(rng);
	}
	options->net_max_ns =
		latencies_us[rng_below(rng, ARRAY_COUNT(latencies_us))] * UINT64_C(1000);
	options->disk_max_ns =
		latencies_us[rng_below(rng, ARRAY_COUNT(latencies_us))] * UINT64_C(1000);
	if (rng_percent(rng, 50)) {
		options->clock_ppm = rng_below(rng, CLOCK_PPM_MAX + 1);
	}
}

void world_draw_options(struct world_options *options, uint64_t seed)
{
	struct rng rng;

	rng_init(&rng, seed ^ UINT64_C(0x5eed5eed));
	*options = (struct world_options){.seed = seed};
	draw_replicas(options, &rng);
	draw_changes(options, &rng);
	draw_limits(options, &rng);
	options->block_count = 64 + rng_below(&rng, 193);
	if (options->small_agent == -2) {
		/* A copy of a rebuild is as large as a cluster, as in real pools: or the holes of
		 * one replica would take space on another. */
		options->cluster_bytes = 16384;
		options->region_bytes = 64 * options->cluster_bytes;
		options->block_count += 256;
	}
	options->depth = 1 + rng_below(&rng, 12);
	options->duration_ns = (8 + rng_below(&rng, 25)) * IO_NS_PER_S;
	options->ops_target = 500 + rng_below(&rng, 1200);
	options->spreads = rng_percent(&rng, 40);
	options->ops_max = UINT64_MAX;
	draw_environment(options, &rng);
	options->power_cycle_at_end = rng_percent(&rng, 25);
	resizer_draw(options, &rng);
	draw_pace(options, &rng);
	options->rotten_too = -1;
	if (options->rotten_agent >= 0 && rng_percent(&rng, 50)) {
		options->rotten_too = (options->rotten_agent + 1) % (int64_t)options->data_replicas;
	}
	snapshots_draw(options, &rng);
	recovery_draw(options, &rng);
	cluster_draw_options(options);
	/* A replica that is asked to become the volume must be understood where it is. */
	if (options->recover == 0 && rng_percent(&rng, 15)) {
		options->version = CFG_VERSION + 1;
	}
}

/* One "name=value"; the fields are 64 bits wide, signed or not. */
static bool change_option(struct world_options *options, const char *text, size_t length)
{
	const char *equals = memchr(text, '=', length);
	char *end = NULL;
	uint64_t value;

	if (equals == NULL) {
		return false;
	}
	errno = 0;
	value = strtoull(equals + 1, &end, 0);
	if (errno != 0 || end != text + length || end == equals + 1) {
		return false;
	}
	for (unsigned i = 0; i < ARRAY_COUNT(fields); i++) {
		if (strlen(fields[i].name) == (size_t)(equals - text) &&
			memcmp(fields[i].name, text, (size_t)(equals - text)) == 0) {
			memcpy((char *)options + fields[i].offset, &value, sizeof(value));
			return true;
		}
	}
	return false;
}

const char *world_change_options(struct world_options *options, const char *sets)
{
	while (sets != NULL && *sets != '\0') {
		size_t length = strcspn(sets, " ");

		if (length > 0 && !change_option(options, sets, length)) {
			return sets;
		}
		sets += length + (sets[length] == ' ');
	}
	return "";
}

size_t world_options_difference(
	const struct world_options *a, const struct world_options *b, char *to, size_t size)
{
	size_t used = 0;

	for (unsigned i = 0; i < ARRAY_COUNT(fields) && used < size; i++) {
		uint64_t was, is;

		memcpy(&was, (const char *)a + fields[i].offset, sizeof(was));
		memcpy(&is, (const char *)b + fields[i].offset, sizeof(is));
		if (was != is) {
			used += (size_t)snprintf(
				to + used, size - used, " %s=%ld", fields[i].name, (long)is);
		}
	}
	return used;
}

void world_trace_options(struct world *world)
{
	const char *options = (const char *)&world->options;
	char line[800];
	size_t used = (size_t)snprintf(
		line, sizeof(line), "seed %lu:", (unsigned long)world->options.seed);

	for (unsigned i = 0; i < ARRAY_COUNT(fields) && used < sizeof(line); i++) {
		uint64_t value;

		memcpy(&value, options + fields[i].offset, sizeof(value));
		if (value != UINT64_MAX) {
			used += (size_t)snprintf(line + used, sizeof(line) - used, " %s=%lu",
				fields[i].name, (unsigned long)value);
		}
	}
	sim_trace(world->sim, "%s", line);
}
