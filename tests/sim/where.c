/* SPDX-License-Identifier: Apache-2.0 */
/* Where a replica's blocks lie on its disk: in a file of its own, as the names of the store's
 * inside and those of the worlds are the same. */
#include "tests/sim/where.h"

#include "pool-agent/store/store_internal.h"

uint64_t where_is(const struct store_replica *replica, uint64_t block)
{
	const struct store *store = replica->store;
	uint64_t cluster_blocks = store->sb.layout.cluster_bytes / STORE_BLOCK_BYTES;
	uint32_t cluster;

	if (block >= replica->vmeta.size_bytes / STORE_BLOCK_BYTES) {
		return UINT64_MAX;
	}
	cluster = clusters_find(&store->clusters, replica->slot->index, block / cluster_blocks);
	if (cluster == CLUSTER_NONE) {
		return UINT64_MAX;
	}
	return (store_cluster_block(store, cluster) + block % cluster_blocks) * STORE_BLOCK_BYTES;
}
