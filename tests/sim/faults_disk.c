/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: errors, slowness, crashes in the middle of a write, rot.
 *
 * Rot and misdirected writes stay within what must be survivable.  Data have no checksums, so only
 * metadata are touched, of which there are two copies each: superblock, replica metadata, pages.
 * One of two copies that are the same now is damaged while the pool-agent is down with nothing
 * under way; its next start mends it.  (With a write of the other copy torn by a loss of power at
 * the same time both would be bad: that is two faults, and the voter rightly abstains.)
 */
#include "pool-agent/store/ondisk.h"
#include "tests/sim/faults.h"

#include <string.h>

static void on_disk_end(struct sim_event *event)
{
	struct node_agent *node = container_of(event, struct node_agent, fault_end);
	struct sim_disk_faults none = {0};

	node->disk_faulty = false;
	sim_disk_set_faults(node->disk, &none);
}

void fault_disk_ends_after(struct node_agent *node, uint64_t delay_ns)
{
	struct sim *sim = node->world->sim;

	sim_at_ns(sim, &node->fault_end, sim_now_ns(sim) + delay_ns, on_disk_end);
}

/* The nexus sends again what the disk still has from before. */
static void on_cut(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, event);
	struct world *world = fault->world;

	sim_cut_connections(fault->agent->host, world->slots[world->active].host);
}

static void set_faults(struct fault *fault, const struct sim_disk_faults *faults, bool faulty)
{
	struct node_agent *node = draw_agent(fault);
	struct sim *sim = fault->world->sim;

	node->disk_faulty = faulty;
	sim_disk_set_faults(node->disk, faults);
	fault_disk_ends_after(node, draw_duration_ns(&fault->rng));
	fault->agent = node;
	if (rng_percent(&fault->rng, 40)) {
		fault_nexus_soon(fault, IO_NS_PER_S);
	} else if (rng_percent(&fault->rng, 50)) {
		sim_at_ns(sim, &fault->event,
			sim_now_ns(sim) + rng_below(&fault->rng, 2 * IO_NS_PER_S), on_cut);
	}
}

void fault_disk_error(struct fault *fault)
{
	struct rng *rng = &fault->rng;
	struct sim_disk_faults faults = {0};

	if (rng_percent(rng, 50)) {
		faults.fail_nth = 1 + rng_below(rng, 40);
	} else {
		faults.read_error_percent = (unsigned)rng_below(rng, 10);
		faults.write_error_percent = (unsigned)rng_below(rng, 10);
		faults.flush_error_percent = (unsigned)rng_below(rng, 10);
	}
	set_faults(fault, &faults, true);
}

void fault_disk_slow(struct fault *fault)
{
	struct rng *rng = &fault->rng;

	set_faults(fault,
		&(struct sim_disk_faults){
			.slow_percent = 10 + (unsigned)rng_below(rng, 90),
			.slow_max_ns = (1 + rng_below(rng, 800)) * IO_NS_PER_MS,
		},
		false);
}

void fault_disk_stuck(struct fault *fault)
{
	set_faults(fault, &(struct sim_disk_faults){.stuck = true}, false);
}

static void on_at_write(struct sim_event *event)
{
	struct fault *fault = container_of(event, struct fault, event);
	uint64_t down_ns = draw_duration_ns(&fault->rng);

	if (rng_percent(&fault->rng, 50)) {
		agent_crash(fault->agent, down_ns);
	} else {
		agent_power_loss(fault->agent, down_ns);
	}
	if (rng_percent(&fault->rng, 60)) {
		fault_nexus_soon(fault, 2 * IO_NS_PER_MS);
	}
}

/* Between the submission of a write and soon after its end. */
void fault_crash_at_write(struct fault *fault)
{
	fault->agent = draw_agent(fault);
	sim_disk_at_write(
		fault->agent->disk, 1 + rng_below(&fault->rng, 60), &fault->event, on_at_write);
}

/* ---- rot ---- */

/* Two places with the same content. */
struct copies {
	uint64_t near, far; /* blocks */
};

static unsigned list_copies(
	const struct node_agent *node, const struct layout *layout, struct copies to[5])
{
	unsigned slot = node->nsid - 1;
	unsigned count = 0;

	to[count++] = (struct copies){0, layout->size_blocks - 1};
	if (!node->has_replica || node->nsid == 0) {
		return count;
	}
	for (unsigned pair = 0; pair < 2; pair++) {
		to[count++] = (struct copies){layout->vmeta_near + 2 * (uint64_t)slot + pair,
			layout->vmeta_far + 2 * (uint64_t)slot + pair};
	}
	to[count++] = (struct copies){layout->table, layout->table + layout->table_pages};
	if (node->kind == VOTER_DATA && !node->remade) {
		/* The first cluster of a new pool's first replica has its only page of stamps. */
		to[count++] = (struct copies){layout->clusters, layout->clusters + 1};
	}
	return count;
}

static bool superblocks_agree(const uint8_t *near, const uint8_t *far, const struct copies *copies)
{
	struct superblock a, b;
	struct err err;

	return superblock_decode(near, copies->near, &a, &err) == 0 &&
	       superblock_decode(far, copies->far, &b, &err) == 0 && a.seq == b.seq;
}

static bool copies_agree(const struct sim_disk *disk, const struct copies *copies)
{
	uint8_t near[STORE_BLOCK_BYTES], far[STORE_BLOCK_BYTES];

	sim_disk_peek(disk, copies->near * STORE_BLOCK_BYTES, near, sizeof(near));
	sim_disk_peek(disk, copies->far * STORE_BLOCK_BYTES, far, sizeof(far));
	if (copies->near == 0) {
		return superblocks_agree(near, far, copies);
	}
	return !bytes_are_zero(near, sizeof(near)) && memcmp(near, far, sizeof(near)) == 0;
}

static void flip_bits(struct sim_disk *disk, uint64_t offset, struct rng *rng)
{
	unsigned flips = 1 + (unsigned)rng_below(rng, 8);

	while (flips-- > 0) {
		uint64_t at = offset + rng_below(rng, STORE_BLOCK_BYTES);
		uint8_t byte;

		sim_disk_peek(disk, at, &byte, 1);
		byte ^= (uint8_t)(1u << rng_below(rng, 8));
		sim_disk_poke(disk, at, &byte, 1);
	}
}

static bool agent_is_quiet(const struct node_agent *node)
{
	return node->state == AGENT_UP && sim_disk_in_flight(node->disk) == 0 &&
	       !node->disk_faulty && !node->making && !node->removing;
}

void fault_rot(struct fault *fault)
{
	struct node_agent *node = draw_agent(fault);
	struct copies copies[5];
	struct layout layout;
	unsigned count, which;

	if (!agent_is_quiet(node)) {
		return;
	}
	agent_layout(node, &layout);
	agent_crash(node, draw_duration_ns(&fault->rng));
	count = list_copies(node, &layout, copies);
	which = (unsigned)rng_below(&fault->rng, count);
	if (copies_agree(node->disk, &copies[which])) {
		uint64_t block =
			rng_percent(&fault->rng, 50) ? copies[which].near : copies[which].far;

		sim_trace(
			fault->world->sim, "%s: block %lu rots", node->name, (unsigned long)block);
		node->world->result->rotten++;
		flip_bits(node->disk, block * STORE_BLOCK_BYTES, &fault->rng);
	}
}

/* The next version of the replica's metadata goes, near or far, to an unused slot instead. */
void fault_misdirect(struct fault *fault)
{
	struct node_agent *node = draw_agent(fault);
	bool far = rng_percent(&fault->rng, 50);
	unsigned pair = (unsigned)((node->seen.seq + 1) % 2);
	struct layout layout;
	uint64_t area;

	if (!agent_is_quiet(node) || !agent_has_replica_now(node)) {
		return;
	}
	agent_layout(node, &layout);
	area = far ? layout.vmeta_far : layout.vmeta_near;
	/* One of both blocks of a pair at most. */
	sim_disk_misdirect(node->disk,
		(area + 2 * (uint64_t)(node->nsid - 1) + pair) * STORE_BLOCK_BYTES,
		STORE_BLOCK_BYTES,
		(area + 2 * (layout.slots - 1 - far) + pair) * STORE_BLOCK_BYTES);
}
