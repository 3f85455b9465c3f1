/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one who lets the volume grow, as a controller would: it asks again and again, on the node
 * that has the volume now.  What a host saw once it sees from then on.
 */
#include "tests/sim/world.h"

#include <errno.h>

static void on_resizer(struct sim_event *event);

void resizer_draw(struct world_options *options, struct rng *rng)
{
	options->start_blocks = options->block_count;
	if (rng_percent(rng, 35)) {
		options->start_blocks = 16 + rng_below(rng, options->block_count - 16);
	}
}

size_t slot_blocks(const struct slot *slot)
{
	return volume_blk(slot->volume)->size_bytes / ORACLE_BLOCK_BYTES;
}

void resizer_note(struct slot *slot, const struct volume_status *status)
{
	struct world *world = slot->world;

	if (status->size_bytes != status->cfg.size_bytes ||
		volume_blk(slot->volume)->size_bytes != status->size_bytes) {
		world_fail(world, &world->result->broken, "size",
			"%s shows %lu bytes, and has committed %lu", slot->name,
			(unsigned long)volume_blk(slot->volume)->size_bytes,
			(unsigned long)status->cfg.size_bytes);
	} else if (slot == &world->slots[world->active] && status->size_bytes < world->seen_bytes) {
		world_fail(world, &world->result->lost, "size",
			"%s has %lu bytes, and a host has seen %lu", slot->name,
			(unsigned long)status->size_bytes, (unsigned long)world->seen_bytes);
	}
}

void resizer_saw(struct slot *slot)
{
	struct world *world = slot->world;
	uint64_t bytes = slot_blocks(slot) * ORACLE_BLOCK_BYTES;

	if (recovery_overtook(world, slot->order)) {
		return;
	}
	/* What an older nexus still shows takes nobody's word back. */
	world->seen_bytes = max_u64(world->seen_bytes, bytes);
}

static bool may_lack_room(const struct world *world)
{
	return world->options.small_agent != -1;
}

static void on_resized(struct volume_resize *resize)
{
	struct slot *slot = container_of(resize, struct slot, resize);
	struct world *world = slot->world;

	slot->resizing = false;
	sim_trace(world->sim, "%s: resize to %lu: %d %s", slot->name,
		(unsigned long)resize->size_bytes, resize->result,
		resize->result != 0 ? resize->err.text : "");
	if (resize->result == 0 && slot_blocks(slot) * ORACLE_BLOCK_BYTES != resize->size_bytes) {
		world_fail(world, &world->result->broken, "size",
			"%s has %zu blocks after a resize to %lu bytes", slot->name,
			slot_blocks(slot), (unsigned long)resize->size_bytes);
	} else if (resize->result == -ENOSPC && !may_lack_room(world) &&
		   resize->size_bytes <= world->options.block_count * ORACLE_BLOCK_BYTES) {
		world_fail(world, &world->result->broken, "size", "%s", resize->err.text);
	}
}

void slot_resize(struct slot *slot, size_t blocks)
{
	slot->resizing = true;
	slot->resize = (struct volume_resize){
		.size_bytes = blocks * ORACLE_BLOCK_BYTES,
		.done = on_resized,
	};
	sim_trace(slot->world->sim, "%s: resize to %zu blocks", slot->name, blocks);
	volume_resize(slot->volume, &slot->resize);
}

static void on_resizer(struct sim_event *event)
{
	struct world *world = container_of(event, struct world, resizer_event);
	struct slot *slot = &world->slots[world->active];
	struct rng *rng = sim_rng(world->sim);

	if (slot->process != NULL && slot->volume != NULL && !slot->resizing) {
		size_t now = slot_blocks(slot), most = world->options.block_count;

		if (world->healing) {
			slot_resize(slot, most);
		} else if (rng_percent(rng, 30)) {
			/* Often what it has already; sometimes less, which is refused. */
			slot_resize(slot, rng_percent(rng, 20) || now == most
						  ? now - rng_below(rng, 2)
						  : now + 1 + rng_below(rng, most - now));
		}
	}
	sim_at_ns(world->sim, event,
		sim_now_ns(world->sim) + (20 + rng_below(rng, 2000)) * IO_NS_PER_MS, on_resizer);
}

void resizer_start(struct world *world)
{
	if (world->options.start_blocks < world->options.block_count) {
		sim_at_ns(world->sim, &world->resizer_event, sim_now_ns(world->sim) + IO_NS_PER_S,
			on_resizer);
	}
}

void resizer_stop(struct world *world)
{
	sim_cancel(world->sim, &world->resizer_event);
}

bool resizer_is_done(const struct world *world)
{
	const struct slot *slot = &world->slots[world->active];

	return world->resizer_event.index == 0 || may_lack_room(world) ||
	       (slot->volume != NULL && slot_blocks(slot) == world->options.block_count);
}
