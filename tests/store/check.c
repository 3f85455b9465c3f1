/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/check.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK STORE_BLOCK_BYTES

/* ---- the store against itself ---- */

static void check_free(struct run *run, uint32_t cluster)
{
	uint64_t block = store_cluster_block(run->store, cluster);

	for (unsigned i = 0; i < CLUSTER_BLOCKS; i++) {
		if (run->machine.current.contents[block + i] != 0) {
			case_failed("cluster %u is free and not zero", cluster);
		}
	}
}

static void check_owner(struct run *run, uint32_t cluster)
{
	struct store *store = run->store;
	uint64_t entry = store->clusters.entries[cluster];
	struct slot *slot = &store->slots[entry_slot(entry)];
	uint64_t payload = entry_payload(entry);

	if (slot->use == SLOT_DRAINING) {
		return;
	}
	if (slot->use != SLOT_READY || slot->replica == NULL) {
		case_failed("cluster %u belongs to slot %u, which has no replica", cluster,
			slot->index);
	}
	if (entry_state(entry) == CLUSTER_DATA) {
		if (clusters_find(&store->clusters, slot->index, payload) != cluster) {
			case_failed("cluster %u is not where the map says", cluster);
		}
	} else if (payload < slot->replica->stamp_cluster_count &&
		   slot->replica->stamp_clusters[payload] != cluster) {
		case_failed("cluster %u has stamps of slot %u that are elsewhere", cluster,
			slot->index);
	}
}

static uint32_t map_size(const struct clusters *clusters)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i <= clusters->hash_mask; i++) {
		count += clusters->hash[i] != CLUSTER_NONE;
	}
	return count;
}

/* Table, map, lists and counts agree; free clusters are zero. */
static void check_structure(struct run *run, bool settled)
{
	struct store *store = run->store;
	struct clusters *clusters = &store->clusters;
	uint64_t of_slot[MODEL_SLOTS] = {0};
	uint32_t counts[4] = {0};
	uint32_t mapped = 0;

	for (uint32_t i = 0; i < clusters->count; i++) {
		uint64_t entry = clusters->entries[i];
		unsigned state = entry_state(entry);

		if (i >= store->sb.zeroed_clusters) {
			if (entry != 0) {
				case_failed("cluster %u above the watermark is in use", i);
			}
			continue;
		}
		counts[state]++;
		if (state == CLUSTER_FREE) {
			check_free(run, i);
		} else if (state != CLUSTER_DIRTY) {
			check_owner(run, i);
			of_slot[entry_slot(entry)]++;
			mapped +=
				state == CLUSTER_DATA && !store->slots[entry_slot(entry)].unmapped;
		}
	}
	if (counts[CLUSTER_FREE] != clusters->free.count ||
		counts[CLUSTER_DATA] + counts[CLUSTER_STAMPS] != clusters->used ||
		map_size(clusters) != mapped) {
		case_failed("table, lists and map of the clusters do not agree");
	}
	for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
		if (of_slot[i] != store->slots[i].clusters) {
			case_failed("slot %u has %llu clusters, not %llu", i,
				(unsigned long long)of_slot[i],
				(unsigned long long)store->slots[i].clusters);
		}
	}
	if (settled && (counts[CLUSTER_DIRTY] != 0 || store->reclaim.draining != 0 ||
			       store->reclaim.surplus != 0)) {
		case_failed("space was not given back: %u dirty clusters, %u slots, %u clusters of "
			    "stamps",
			counts[CLUSTER_DIRTY], store->reclaim.draining, store->reclaim.surplus);
	}
}

/* What is mapped was written once, and not discarded since. */
static void check_mapped(struct run *run, unsigned index)
{
	struct model_replica *replica = &run->model.replicas[index];
	struct store_replica *handle = run->handles[index];
	uint32_t slot = store_replica_slot(handle);
	uint64_t expected = 0;
	uint32_t mapped = 0;

	for (unsigned i = 0; i < CELL_CLUSTERS; i++) {
		if (clusters_find(&run->store->clusters, slot,
			    cell_logical(i * CLUSTER_BLOCKS) / CLUSTER_BLOCKS) != CLUSTER_NONE) {
			mapped |= 1u << i;
			expected++;
		}
	}
	if ((mapped & ~replica->mapped_maybe) != 0) {
		case_failed("replica %u has clusters (bits %x) that were never written or are "
			    "discarded",
			index, mapped & ~replica->mapped_maybe);
	}
	replica->mapped_maybe = mapped;
	expected += handle->stamp_cluster_count;
	if (store_replica_used_bytes(handle) != expected * CLUSTER_BLOCKS * BLOCK) {
		case_failed("replica %u uses %llu bytes, not %llu clusters", index,
			(unsigned long long)store_replica_used_bytes(handle),
			(unsigned long long)expected);
	}
}

/* ---- the store against the model ---- */

static void check_vmeta(struct run *run, unsigned index)
{
	struct model_replica *replica = &run->model.replicas[index];
	const struct vmeta *vmeta = store_replica_vmeta(run->handles[index]);
	struct vmeta expected = *vmeta;
	uint64_t number = vmeta->clean;

	if (number < replica->update_acked || number > replica->update_issued) {
		case_failed("replica %u: update %llu; %u was answered, %u asked for", index,
			(unsigned long long)number, replica->update_acked, replica->update_issued);
	}
	model_vmeta((uint16_t)number, &expected);
	if (!vmeta_equal(&expected, vmeta)) {
		case_failed("replica %u: metadata of update %llu are mixed with others", index,
			(unsigned long long)number);
	}
	if (vmeta->seq < replica->seq_low) {
		case_failed("replica %u: version %llu after %llu", index,
			(unsigned long long)vmeta->seq, (unsigned long long)replica->seq_low);
	}
	replica->seq_low = vmeta->seq;
	replica->update_acked = (uint16_t)number;
	replica->update_issued = (uint16_t)number;
}

static void check_size(struct run *run, unsigned index)
{
	struct model_replica *replica = &run->model.replicas[index];
	uint64_t size_bytes = store_replica_vmeta(run->handles[index])->size_bytes;

	if (replica->arbiter) {
		if (size_bytes != 0) {
			case_failed("arbiter %u has a size", index);
		}
		return;
	}
	if (size_bytes == (uint64_t)model_size_blocks[replica->size_issued] * BLOCK) {
		replica->size_acked = replica->size_issued;
	}
	replica->size_issued = replica->size_acked;
	if (size_bytes != (uint64_t)model_size_blocks[replica->size_acked] * BLOCK) {
		case_failed("replica %u has %llu bytes", index, (unsigned long long)size_bytes);
	}
}

static void check_stamps(struct run *run, unsigned index)
{
	struct model_replica *replica = &run->model.replicas[index];
	const struct store_replica *handle = run->handles[index];
	uint64_t sum = 0;
	uint64_t expected = 0;

	for (unsigned i = 0; i < CELL_REGIONS; i++) {
		uint64_t stamp;

		if (cell_region(i) >= store_replica_region_count(handle)) {
			continue;
		}
		stamp = store_replica_stamp(handle, cell_region(i));
		if (stamp < replica->stamp_low[i] || stamp > replica->stamp_high[i]) {
			case_failed("replica %u, region %u: stamp %llu, not %llu to %llu", index,
				cell_region(i), (unsigned long long)stamp,
				(unsigned long long)replica->stamp_low[i],
				(unsigned long long)replica->stamp_high[i]);
		}
		replica->stamp_low[i] = stamp;
		replica->stamp_high[i] = stamp;
		expected += stamp;
	}
	for (uint64_t i = 0; i < store_replica_region_count(handle); i++) {
		sum += store_replica_stamp(handle, i);
	}
	if (sum != expected) {
		case_failed("replica %u has stamps in regions that were never written", index);
	}
}

static void check_value(struct run *run, unsigned index, unsigned cell, int number, bool power_lost)
{
	struct model_replica *replica = &run->model.replicas[index];

	if (number < 0) {
		case_failed("replica %u, block %u: mixed, or of something else", index,
			cell_logical(cell));
	}
	if (!cell_may_be(&replica->cells[cell], (uint16_t)number, power_lost)) {
		const struct cell *own = &replica->cells[cell];

		case_failed("replica %u, block %u: %d; the oldest is %u, the answered one %u, the "
			    "newest %u",
			index, cell_logical(cell), number, own->entries[0],
			own->entries[own->certain], own->entries[own->count - 1]);
	}
	if (run->model.value_wgen[number] > replica->stamp_low[cell / REGION_BLOCKS]) {
		case_failed("replica %u, block %u: data of generation %llu, stamp %llu", index,
			cell_logical(cell), (unsigned long long)run->model.value_wgen[number],
			(unsigned long long)replica->stamp_low[cell / REGION_BLOCKS]);
	}
}

static const uint8_t *cell_bytes(
	struct run *run, unsigned index, unsigned cell, uint32_t *ret_block)
{
	uint32_t logical = cell_logical(cell);
	uint32_t cluster = clusters_find(&run->store->clusters,
		store_replica_slot(run->handles[index]), logical / CLUSTER_BLOCKS);

	*ret_block = NO_BLOCK;
	if (cluster == CLUSTER_NONE) {
		return content_bytes(0);
	}
	*ret_block = (uint32_t)store_cluster_block(run->store, cluster) + logical % CLUSTER_BLOCKS;
	return content_bytes(run->machine.current.contents[*ret_block]);
}

static bool is_marked(const struct run *run, unsigned index, unsigned cell)
{
	return marks_touch(&store_replica_vmeta(run->handles[index])->marks, cell_logical(cell), 1);
}

static void check_cells(struct run *run, unsigned index, bool power_lost, uint32_t torn)
{
	struct model_replica *replica = &run->model.replicas[index];
	uint32_t size = model_size_blocks[replica->size_acked];

	for (unsigned cell = 0; cell < CELLS && cell_is_within(cell, size); cell++) {
		uint32_t block;
		const uint8_t *bytes = cell_bytes(run, index, cell, &block);
		unsigned step = block != NO_BLOCK && block == torn ? 1 : BLOCK_SECTORS;
		int number = 0;

		if (is_marked(run, index, cell)) {
			check_value(run, index, cell, MODEL_MARK, power_lost);
			cell_pin(&replica->cells[cell], MODEL_MARK);
			continue;
		}
		for (unsigned sector = 0; sector < BLOCK_SECTORS; sector += step) {
			number = value_read(
				bytes, replica->number, cell_logical(cell), sector, step);
			check_value(run, index, cell, number, power_lost);
		}
		/* Torn data stay as they are, but no single number says it. */
		if (step == BLOCK_SECTORS) {
			cell_pin(&replica->cells[cell], (uint16_t)number);
		}
	}
}

void check_opened(struct run *run, bool power_lost, uint32_t torn)
{
	struct store_info info;
	unsigned present = 0;

	run_find_replicas(run);
	for (unsigned i = 0; i < MODEL_REPLICAS; i++) {
		struct model_replica *replica = &run->model.replicas[i];

		if ((run->abstaining >> i & 1) != 0) {
			present++;
			continue;
		}
		if (replica->existence == PRESENT && run->handles[i] == NULL) {
			case_failed("replica %u is gone", i);
		}
		replica->existence = run->handles[i] != NULL ? PRESENT : ABSENT;
		if (run->handles[i] == NULL) {
			continue;
		}
		present++;
		check_vmeta(run, i);
		check_size(run, i);
		if (!replica->arbiter) {
			check_stamps(run, i);
			check_cells(run, i, power_lost, torn);
			check_mapped(run, i);
		}
	}
	store_get_info(run->store, &info);
	if (info.replica_count != present) {
		case_failed("%u replicas, not %u: one came back, or was never made",
			info.replica_count, present);
	}
	check_structure(run, false);
}

void check_settled(struct run *run)
{
	if (run->store->failed) {
		case_failed("the pool has failed, and no fault was injected");
	}
	check_structure(run, true);
}

/* ---- reads through the store ---- */

struct read {
	struct store_io io;
	struct iovec iov;
	bool done;
};

static void read_done(struct store_io *io)
{
	((struct read *)io->ctx)->done = true;
}

static int read_cells(struct run *run, unsigned index, unsigned cell, unsigned count, uint8_t *to)
{
	struct read read = {
		.io =
			{
				.kind = STORE_READ,
				.offset = (uint64_t)cell_logical(cell) * BLOCK,
				.length = (uint64_t)count * BLOCK,
				.iov_count = 1,
				.done = read_done,
			},
		.iov = {.iov_base = to, .iov_len = (size_t)count * BLOCK},
	};

	read.io.iov = &read.iov;
	read.io.ctx = &read;
	store_submit(run->handles[index], &read.io);
	while (!read.done) {
		if (!run_step(run)) {
			case_failed("a read is never answered");
		}
	}
	return read.io.result;
}

static void check_read(struct run *run, unsigned index, unsigned cell, unsigned count, uint8_t *to)
{
	const struct model_replica *replica = &run->model.replicas[index];
	int result = read_cells(run, index, cell, count, to);

	if (result == -EIO && count > 1) {
		/* One of them may be unreadable. */
		for (unsigned i = 0; i < count; i++) {
			check_read(run, index, cell + i, 1, to);
		}
		return;
	}
	if (result == -EIO && cell_may_be(&replica->cells[cell], MODEL_MARK, false)) {
		return;
	}
	if (result != 0) {
		if (!run->faults || result != -EIO) {
			case_failed("a read is answered with %d", result);
		}
		run->errors++;
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		int number = value_read(to + (size_t)i * BLOCK, replica->number,
			cell_logical(cell + i), 0, BLOCK_SECTORS);

		if (number < 0 ||
			!cell_may_be(&replica->cells[cell + i], (uint16_t)number, false)) {
			case_failed("replica %u, block %u: %d is read", index,
				cell_logical(cell + i), number);
		}
	}
}

void check_reads(struct run *run)
{
	uint8_t *buffer = aligned_alloc(BLOCK, (size_t)FRONT_CELLS * BLOCK);

	assert(buffer != NULL);
	for (unsigned i = 0; i < MODEL_REPLICAS; i++) {
		const struct model_replica *replica = &run->model.replicas[i];

		if (replica->existence != PRESENT || replica->arbiter || run->handles[i] == NULL) {
			continue;
		}
		check_read(run, i, 0, FRONT_CELLS, buffer);
		for (unsigned cell = FRONT_CELLS; cell < CELLS; cell += TAIL_CELLS) {
			if (cell_is_within(cell, model_size_blocks[replica->size_acked])) {
				check_read(run, i, cell, TAIL_CELLS, buffer);
			}
		}
	}
	free(buffer);
}
