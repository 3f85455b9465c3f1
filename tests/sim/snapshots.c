/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one who asks for snapshots, and their oracle: what a snapshot shows of each block is a value
 * that was possible when the barrier had closed; it is the same on every member of S, in every
 * configuration from the one that committed it on; none is kept that no configuration has.
 */
#include "nexus/mirror/volume_internal.h"
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void snapshots_draw(struct world_options *options, struct rng *rng)
{
	options->snapshots = rng_percent(rng, 40);
}

/* ---- what may be in it ---- */

static void attempt_fill(struct snapshot_attempt *attempt, const struct oracle *oracle)
{
	attempt->block_count = oracle->block_count;
	attempt->blocks = calloc(oracle->block_count, sizeof(*attempt->blocks));
	assert(attempt->blocks != NULL);
	for (size_t block = 0; block < oracle->block_count; block++) {
		const struct oracle_block *from = &oracle->blocks[block];
		struct snapshot_values *to = &attempt->blocks[block];

		to->numbers = calloc(from->count + 1, sizeof(*to->numbers));
		assert(to->numbers != NULL);
		for (size_t i = 0; i < from->count; i++) {
			if (from->values[i].dropped == UINT64_MAX) {
				to->numbers[to->count++] =
					from->values[i].zero ? 0 : from->values[i].number;
			}
		}
	}
}

static void attempt_free(struct snapshot_attempt *attempt)
{
	for (size_t i = 0; i < attempt->block_count; i++) {
		free(attempt->blocks[i].numbers);
	}
	free(attempt->blocks);
}

static void attempt_begin(struct world *world, const struct snapshotter *snapshotter)
{
	struct snapshots *all = &world->snapshots;
	struct snapshot_attempt *attempt;

	if (all->attempt_count == all->attempt_capacity) {
		all->attempt_capacity = 2 * all->attempt_capacity + 8;
		all->attempts =
			realloc(all->attempts, all->attempt_capacity * sizeof(*all->attempts));
		assert(all->attempts != NULL);
	}
	attempt = &all->attempts[all->attempt_count++];
	*attempt = (struct snapshot_attempt){
		.number = snapshotter->number,
		.id = snapshotter->id,
	};
	attempt_fill(attempt, &world->oracle);
	sim_trace(world->sim, "barrier of snapshot %lu", (unsigned long)snapshotter->number);
}

void snapshots_observe(struct world *world)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *slot = &world->slots[i];

		if (slot->process == NULL || slot->volume == NULL) {
			continue;
		}
		if (slot->volume->snapshotter.attempt != slot->snapshot_attempt) {
			slot->snapshot_attempt = slot->volume->snapshotter.attempt;
			attempt_begin(world, &slot->volume->snapshotter);
		}
	}
}

static bool is_possible(const struct snapshot_attempt *attempt, const struct image *image)
{
	for (size_t block = 0; block < image->block_count; block++) {
		const struct snapshot_values *values;
		bool found = image->blocks[block] == IMAGE_UNREADABLE; /* it shows nothing */

		if (block >= attempt->block_count) {
			return false;
		}
		values = &attempt->blocks[block];
		for (size_t i = 0; i < values->count; i++) {
			found = found || (int64_t)values->numbers[i] == image->blocks[block];
		}
		if (!found) {
			return false;
		}
	}
	return true;
}

/* ---- what must be so ---- */

__attribute__((format(printf, 2, 3))) static void snapshot_fail(
	struct world *world, const char *format, ...)
{
	char text[300];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	world_fail(world, &world->result->lost, "snapshot", "%s", text);
}

static bool is_equal(const struct image *a, const struct image *b, size_t *ret_block)
{
	size_t most = a->block_count > b->block_count ? a->block_count : b->block_count;

	for (size_t i = 0; i < most; i++) {
		int64_t of_a = i < a->block_count ? a->blocks[i] : 0;
		int64_t of_b = i < b->block_count ? b->blocks[i] : 0;

		if (of_a != of_b && of_a != IMAGE_UNREADABLE && of_b != IMAGE_UNREADABLE) {
			*ret_block = i;
			return false;
		}
	}
	return true;
}

/* The first one that is seen says what it is. */
static void judge_first(struct world *world, uint64_t number, const struct image *image)
{
	struct snapshots *all = &world->snapshots;
	struct image *copy = &all->committed[number];
	bool possible = false;

	for (size_t i = 0; i < all->attempt_count; i++) {
		possible = possible || (all->attempts[i].number == number &&
					       uuid_equal(&all->attempts[i].id, &image->id) &&
					       is_possible(&all->attempts[i], image));
	}
	if (!possible) {
		snapshot_fail(world, "snapshot %lu is not what the volume was at its barrier",
			(unsigned long)number);
	}
	*copy = *image;
	copy->blocks = calloc(image->block_count, sizeof(*copy->blocks));
	assert(copy->blocks != NULL);
	memcpy(copy->blocks, image->blocks, image->block_count * sizeof(*copy->blocks));
}

/* What the first one did not show, another one may. */
static void learn_rest(struct image *committed, const struct image *image)
{
	for (size_t i = 0; i < committed->block_count && i < image->block_count; i++) {
		if (committed->blocks[i] == IMAGE_UNREADABLE) {
			committed->blocks[i] = image->blocks[i];
		}
	}
}

static void judge_image(struct node_agent *node, uint64_t number, const struct image *image)
{
	struct world *world = node->world;
	struct image *committed = &world->snapshots.committed[number];
	size_t block = 0;

	if (committed->number == 0) {
		judge_first(world, number, image);
	} else if (!uuid_equal(&committed->id, &image->id)) {
		snapshot_fail(world, "%s has another snapshot %lu than others", node->name,
			(unsigned long)number);
	} else if (!is_equal(committed, image, &block)) {
		snapshot_fail(world, "%s: block %zu of snapshot %lu is write %ld, elsewhere %ld",
			node->name, block, (unsigned long)number,
			(long)(block < image->block_count ? image->blocks[block] : 0),
			(long)(block < committed->block_count ? committed->blocks[block] : 0));
	}
	learn_rest(committed, image);
}

static void judge_member(struct node_agent *node, const struct cfg *cfg)
{
	for (uint64_t number = 1; number <= cfg->snap_seq; number++) {
		const struct image *image = image_find(node, number);

		if (image == NULL) {
			snapshot_fail(node->world, "%s is in S and lacks snapshot %lu", node->name,
				(unsigned long)number);
			return;
		}
		judge_image(node, number, image);
	}
}

void snapshots_judge(struct world *world, const struct cfg *cfg)
{
	struct snapshots *all = &world->snapshots;
	bool newest = cfg_compare(cfg, &all->last_cfg) > 0;

	if (cfg->lineage != world->lineage) {
		return; /* a nexus of an old one goes on for itself */
	}
	if (cfg->snap_seq > SNAPSHOTS_OF_WORLD || (newest && cfg->snap_seq < all->last)) {
		snapshot_fail(world, "snapshot %lu was committed, and now there are %lu",
			(unsigned long)all->last, (unsigned long)cfg->snap_seq);
		return;
	}
	if (!newest) {
		return; /* an older nexus hears late of what was so */
	}
	all->last_cfg = *cfg;
	all->last = cfg->snap_seq;
	world->result->snapshots = all->last;
	for (unsigned i = 0; i < cfg->voter_count; i++) {
		struct node_agent *node = agent_of_replica(world, &cfg->voters[i].id);

		if (cfg->voters[i].insync && node != NULL) {
			judge_member(node, cfg);
		}
	}
}

void snapshots_recovered(struct world *world, const struct cfg *cfg)
{
	struct snapshots *all = &world->snapshots;

	if (cfg->snap_seq > all->last) {
		snapshot_fail(world, "snapshot %lu was recovered, and never committed",
			(unsigned long)cfg->snap_seq);
		return;
	}
	for (uint64_t number = cfg->snap_seq + 1; number <= all->last; number++) {
		free(all->committed[number].blocks);
		all->committed[number] = (struct image){0};
	}
	all->last_cfg = *cfg;
	all->last = cfg->snap_seq;
}

void snapshots_judge_kept(struct node_agent *node, const struct image *image)
{
	struct world *world = node->world;

	sim_trace(world->sim, "%s keeps snapshot %lu", node->name, (unsigned long)image->number);
	if (store_replica_vmeta(node->replica)->cfg.lineage != world->lineage) {
		return;
	}
	if (image->number > world->snapshots.last) {
		snapshot_fail(world, "%s keeps snapshot %lu, which was never committed", node->name,
			(unsigned long)image->number);
		return;
	}
	judge_image(node, image->number, image);
}

/* ---- who asks ---- */

static void on_snapshot(struct volume_snapshot *snapshot)
{
	struct slot *slot = container_of(snapshot, struct slot, snapshot);
	struct world *world = slot->world;

	slot->snapshotting = false;
	slot->snapshot_answers[slot->snapshot_answered++ % SLOT_ANSWERS] = *snapshot;
	sim_trace(world->sim, "%s: snapshot: %d %s", slot->name, snapshot->result,
		snapshot->result != 0 ? snapshot->err.text : "");
	if (snapshot->result == 0 && slot->committed.lineage == world->lineage &&
		(snapshot->number == 0 || snapshot->number > world->snapshots.last ||
			!uuid_equal(
				&world->snapshots.committed[snapshot->number].id, &snapshot->id))) {
		snapshot_fail(world, "%s says that snapshot %lu was made", slot->name,
			(unsigned long)snapshot->number);
	} else if (snapshot->result == -EOPNOTSUPP && world->options.snapshots) {
		world_fail(world, &world->result->broken, "snapshot", "%s", snapshot->err.text);
	}
}

void slot_snapshot(struct slot *slot, const struct uuid *id)
{
	slot->snapshotting = true;
	slot->snapshot = (struct volume_snapshot){.id = *id, .done = on_snapshot};
	sim_trace(slot->world->sim, "%s: snapshot", slot->name);
	volume_snapshot(slot->volume, &slot->snapshot);
}

static void on_event(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, snapshots.event);
	struct slot *slot = &world->slots[world->active];
	struct rng *rng = sim_rng(world->sim);

	if (!world->healing && slot->process != NULL && slot->volume != NULL &&
		!slot->snapshotting && world->snapshots.last < SNAPSHOTS_OF_WORLD) {
		if (rng_percent(rng, 80)) {
			uuid_make(&world->snapshots.last_id, rng);
		}
		slot_snapshot(slot, &world->snapshots.last_id);
	}
	sim_at_ns(world->sim, event,
		sim_now_ns(world->sim) + (50 + rng_below(rng, 4000)) * IO_NS_PER_MS, on_event);
}

void snapshots_start(struct world *world)
{
	/* With Kubernetes csi-node asks for them. */
	if (world->options.snapshots && world->cluster == NULL) {
		uuid_make(&world->snapshots.last_id, sim_rng(world->sim));
		sim_at_ns(world->sim, &world->snapshots.event, sim_now_ns(world->sim) + IO_NS_PER_S,
			on_event);
	}
}

void snapshots_stop(struct world *world)
{
	sim_cancel(world->sim, &world->snapshots.event);
}

void snapshots_done(struct world *world)
{
	struct snapshots *all = &world->snapshots;

	for (size_t i = 0; i < all->attempt_count; i++) {
		attempt_free(&all->attempts[i]);
	}
	free(all->attempts);
	for (unsigned i = 0; i <= SNAPSHOTS_OF_WORLD; i++) {
		free(all->committed[i].blocks);
	}
}
