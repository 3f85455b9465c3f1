/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes on the disk to a store in memory.  Nothing that is read here is believed
 * unchecked: what contradicts itself ends the open with an error, or makes one replica abstain.
 */
#include "pool-agent/store/store_internal.h"

int recovery_init(struct recovery *recovery, struct store *store, struct err *err)
{
	uint32_t blocks = store->sb.layout.journal_blocks;
	struct io *io = store->io;

	*recovery = (struct recovery){.store = store, .err = err};
	recovery->journal = io_zalloc(io, (size_t)blocks * STORE_BLOCK_BYTES);
	recovery->headers = io_zalloc(io, blocks * sizeof(struct journal_header));
	recovery->crcs = io_zalloc(io, blocks * sizeof(uint32_t));
	recovery->unreadable = io_zalloc(io, blocks * sizeof(bool));
	if (recovery->journal == NULL || recovery->headers == NULL || recovery->crcs == NULL ||
		recovery->unreadable == NULL) {
		return -ENOMEM;
	}
	return 0;
}

void recovery_done(struct recovery *recovery)
{
	if (recovery->store == NULL) {
		return;
	}
	io_free(recovery->store->io, recovery->journal);
	io_free(recovery->store->io, recovery->headers);
	io_free(recovery->store->io, recovery->crcs);
	io_free(recovery->store->io, recovery->unreadable);
}

/* ---- vmeta ---- */

enum member_state { MEMBER_NEVER, MEMBER_GOOD, MEMBER_BAD, MEMBER_NEWER };

static bool is_of_slot(const struct vmeta *vmeta, const struct slot *slot, unsigned pair)
{
	return vmeta->seq > 0 && vmeta->seq <= ONDISK_SEQ_MAX && vmeta->seq % 2 == pair &&
	       vmeta->slot == slot->index && uuid_equal(&vmeta->pool, &slot->store->sb.uuid);
}

static enum member_state member_read(
	const uint8_t *block, const struct slot *slot, unsigned pair, struct vmeta *vmeta)
{
	int result = block == NULL ? -EBADMSG : vmeta_decode(block, vmeta);

	if (result == 0) {
		return is_of_slot(vmeta, slot, pair) ? MEMBER_GOOD : MEMBER_BAD;
	}
	if (result == -ENODATA) {
		return MEMBER_NEVER;
	}
	return result == -EOPNOTSUPP ? MEMBER_NEWER : MEMBER_BAD;
}

/* The winner's image goes to the member that differs. */
static int plan_repair(struct recovery *recovery, struct slot *slot, unsigned pair, unsigned winner,
	uint8_t *const blocks[2])
{
	unsigned loser = 1 - winner;
	uint8_t *image;

	if (blocks[loser] != NULL &&
		memcmp(blocks[loser], blocks[winner], STORE_BLOCK_BYTES) == 0) {
		return 0;
	}
	image = io_zalloc_aligned(recovery->store->io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
	if (image == NULL) {
		return err_set(recovery->err, -ENOMEM, "no memory");
	}
	memcpy(image, blocks[winner], STORE_BLOCK_BYTES);
	slot->repair[pair][loser] = image;
	return 0;
}

static int pair_read(
	struct recovery *recovery, struct slot *slot, unsigned pair, uint8_t *const blocks[2])
{
	struct pair *own = &recovery->pairs[pair];
	struct vmeta vmetas[2];
	enum member_state states[2] = {
		member_read(blocks[0], slot, pair, &vmetas[0]),
		member_read(blocks[1], slot, pair, &vmetas[1]),
	};
	unsigned winner;

	if (states[0] == MEMBER_NEWER || states[1] == MEMBER_NEWER) {
		own->state = PAIR_NEWER;
		return 0;
	}
	if (states[0] == MEMBER_GOOD || states[1] == MEMBER_GOOD) {
		winner = states[0] != MEMBER_GOOD ||
					 (states[1] == MEMBER_GOOD && vmetas[1].seq > vmetas[0].seq)
				 ? 1
				 : 0;
		own->state = PAIR_GOOD;
		own->vmeta = vmetas[winner];
		return plan_repair(recovery, slot, pair, winner, blocks);
	}
	if (states[0] == MEMBER_BAD && states[1] == MEMBER_BAD) {
		own->state = PAIR_BAD;
		slot->unreadable |= blocks[0] == NULL || blocks[1] == NULL;
		return 0;
	}
	/* A first version that was torn before its second member was begun. */
	own->state = PAIR_NEVER;
	return plan_repair(recovery, slot, pair, states[0] == MEMBER_NEVER ? 0 : 1, blocks);
}

static int slot_add_replica(struct recovery *recovery, struct slot *slot, const struct vmeta *vmeta)
{
	int result = replica_new(recovery->store, slot, vmeta, &slot->replica);

	if (result == -ENOSPC) {
		return err_set(recovery->err, -EBADMSG,
			"slot %u: replica of %s is bigger than the pool allows", slot->index,
			vmeta->name);
	}
	if (result != 0) {
		return err_set(recovery->err, result, "slot %u: no memory", slot->index);
	}
	slot->use = SLOT_READY;
	recovery->store->replica_count++;
	return 0;
}

/* Both pairs are known.  A pair that is bad on both sides may have held anything, also a newer
 * version with promises: the voter abstains.  So it does when a version is missing between the
 * pairs. */
static int slot_decide(struct recovery *recovery, struct slot *slot)
{
	static const struct vmeta unknown;
	const struct pair *pairs = recovery->pairs;
	const struct vmeta *newest = &unknown;
	uint64_t other = 0;

	for (unsigned i = 0; i < 2; i++) {
		if (pairs[i].state == PAIR_GOOD && pairs[i].vmeta.seq > newest->seq) {
			other = newest->seq;
			newest = &pairs[i].vmeta;
		} else if (pairs[i].state == PAIR_GOOD) {
			other = pairs[i].vmeta.seq;
		}
	}
	slot->seq = newest->seq;
	slot->newer = pairs[0].state == PAIR_NEWER || pairs[1].state == PAIR_NEWER;
	slot->abstains = pairs[0].state == PAIR_BAD || pairs[1].state == PAIR_BAD || slot->newer ||
			 (newest->seq > 0 && other != newest->seq - 1) ||
			 newest->size_bytes % STORE_BLOCK_BYTES != 0;
	if (slot->abstains) {
		slot->unmapped = true;
		return slot_add_replica(recovery, slot, newest);
	}
	if (newest->seq == 0) {
		return 0;
	}
	switch (newest->state) {
	case VMETA_READY:
		return slot_add_replica(recovery, slot, newest);
	case VMETA_CREATING:
		/* open.c writes a tombstone. */
		slot->use = SLOT_BUSY;
		slot->unmapped = true;
		return 0;
	case VMETA_DELETED:
		slot->unmapped = true;
		return 0;
	}
	return 0;
}

int recover_vmeta(void *ctx, uint64_t index, uint8_t *const blocks[2])
{
	struct recovery *recovery = ctx;
	struct slot *slot = &recovery->store->slots[index / 2];
	unsigned pair = (unsigned)(index % 2);
	int result = pair_read(recovery, slot, pair, blocks);

	if (result != 0 || pair == 0) {
		return result;
	}
	return slot_decide(recovery, slot);
}

/* ---- pages ---- */

/* The better one of the two places; NULL when both are bad. */
static const uint8_t *page_choose(struct recovery *recovery, const struct page_id *id,
	struct meta_page *page, uint8_t *const blocks[2])
{
	const uint8_t *best = NULL;
	struct page_header headers[2];
	unsigned good = 0;

	for (unsigned place = 0; place < 2; place++) {
		if (blocks[place] == NULL || page_check(&recovery->store->sb.uuid, id,
						     blocks[place], &headers[place]) != 0) {
			continue;
		}
		good++;
		if (best == NULL || headers[place].seq > page->seq) {
			best = blocks[place];
			page->seq = headers[place].seq;
			recovery->page_lsn_max =
				max_u64(recovery->page_lsn_max, headers[place].lsn);
		}
	}
	page->stale = good == 1 || (good == 2 && headers[0].seq != headers[1].seq);
	page->first_place = page->stale && best == blocks[0] ? 1 : 0;
	recovery->stale |= page->stale;
	return best;
}

static bool entry_is_senseless(const struct store *store, uint64_t entry)
{
	unsigned state = entry_state(entry);

	if (state == CLUSTER_FREE || state == CLUSTER_DIRTY) {
		return entry != state;
	}
	return state > CLUSTER_DIRTY || (entry & ENTRY_PENDING) != 0 ||
	       entry_slot(entry) >= store->sb.layout.slots;
}

int recover_table_page(void *ctx, uint64_t index, uint8_t *const blocks[2])
{
	struct recovery *recovery = ctx;
	struct clusters *clusters = &recovery->store->clusters;
	struct page_id id = {.kind = PAGE_TABLE, .index = (uint32_t)index};
	const uint8_t *page = page_choose(recovery, &id, &clusters->pages[index], blocks);
	uint64_t first = index * PAGE_ENTRIES;

	if (page == NULL) {
		return err_set(recovery->err, -EBADMSG,
			"page %llu of the cluster table is damaged at both places",
			(unsigned long long)index);
	}
	for (uint64_t i = 0; i < PAGE_ENTRIES && first + i < clusters->count; i++) {
		uint64_t entry = le64_get(page + PAGE_HEADER_BYTES + i * 8);

		if (entry_is_senseless(recovery->store, entry)) {
			return err_set(recovery->err, -EBADMSG,
				"page %llu of the cluster table has a senseless entry",
				(unsigned long long)index);
		}
		clusters->entries[first + i] = entry;
	}
	return 0;
}

int recover_stamp_page(void *ctx, uint64_t index, uint8_t *const blocks[2])
{
	struct recovery *recovery = ctx;
	struct store_replica *replica = recovery->replica;
	struct page_id id = {
		.kind = PAGE_STAMPS,
		.slot = replica->slot->index,
		.index = (uint32_t)index,
	};
	const uint8_t *page = page_choose(recovery, &id, &replica->pages[index], blocks);
	uint64_t first = index * PAGE_ENTRIES;

	if (page == NULL) {
		/* Without its stamps it cannot say what it lacks.  What abstains is left as it is.
		 */
		replica->slot->abstains = true;
		replica->slot->unreadable |= blocks[0] == NULL || blocks[1] == NULL;
		reclaim_forget_surplus(&recovery->store->reclaim, replica->slot);
		return 0;
	}
	for (uint64_t i = 0; i < PAGE_ENTRIES && first + i < replica->region_count; i++) {
		replica->queued[first + i] = le64_get(page + PAGE_HEADER_BYTES + i * 8);
	}
	return 0;
}

/* ---- journal ---- */

int recover_journal_block(void *ctx, uint64_t index, uint8_t *const blocks[2])
{
	struct recovery *recovery = ctx;
	struct store *store = recovery->store;
	struct journal_header header;
	uint32_t crc;

	recovery->unreadable[index] = blocks[0] == NULL;
	if (blocks[0] == NULL || journal_check(&store->sb.uuid, blocks[0], &header, &crc) != 0 ||
		header.seq % store->sb.layout.journal_blocks != index) {
		return 0;
	}
	memcpy(recovery->journal + index * STORE_BLOCK_BYTES, blocks[0], STORE_BLOCK_BYTES);
	recovery->headers[index] = header;
	recovery->crcs[index] = crc;
	return 0;
}

int recover_journal_end(struct recovery *recovery)
{
	struct store *store = recovery->store;
	struct journal *journal = &store->journal;
	uint32_t blocks = store->sb.layout.journal_blocks;
	const struct journal_header *last = NULL;

	for (uint32_t i = 0; i < blocks; i++) {
		const struct journal_header *header = &recovery->headers[i];

		if (header->seq > (last == NULL ? 0 : last->seq)) {
			last = header;
		}
	}
	/* One block of the ring is always left for moving the tail. */
	if (last == NULL || last->seq - last->tail + 1 >= blocks) {
		return err_set(recovery->err, -EBADMSG, "the journal has no good end");
	}
	if (recovery->unreadable[(last->seq + 1) % blocks]) {
		/* It may hold what was promised: that is no end. */
		return err_set(recovery->err, -EIO, "journal block %llu cannot be read",
			(unsigned long long)last->seq + 1);
	}
	for (uint64_t seq = last->tail; seq < last->seq; seq++) {
		const struct journal_header *header = &recovery->headers[seq % blocks];
		const struct journal_header *next = &recovery->headers[(seq + 1) % blocks];

		if (header->seq != seq || next->seq != seq + 1 ||
			next->previous_crc != recovery->crcs[seq % blocks] ||
			next->first_lsn != header->first_lsn + header->count) {
			return err_set(recovery->err, -EBADMSG, "journal block %llu is damaged",
				(unsigned long long)seq);
		}
	}
	recovery->first_seq = last->tail;
	recovery->last_seq = last->seq;
	journal->next_seq = last->seq + 1;
	journal->tail_durable = last->tail;
	journal->crc = recovery->crcs[last->seq % blocks];
	journal->queued_lsn = last->first_lsn + last->count - 1;
	journal->durable_lsn = journal->queued_lsn;
	return 0;
}

/* Calls for every record from the tail to the end. */
static int replay(
	struct recovery *recovery, int (*each)(struct recovery *recovery,
					   const struct record *record, uint64_t seq, uint64_t lsn))
{
	uint32_t blocks = recovery->store->sb.layout.journal_blocks;

	for (uint64_t seq = recovery->first_seq; seq <= recovery->last_seq; seq++) {
		const struct journal_header *header = &recovery->headers[seq % blocks];
		uint8_t *block = recovery->journal + seq % blocks * STORE_BLOCK_BYTES;

		for (uint32_t i = 0; i < header->count; i++) {
			struct record record;
			int result = record_decode(journal_record_at(block, i), &record);

			if (result == 0) {
				result = each(recovery, &record, seq, header->first_lsn + i);
			}
			if (result == -EBADMSG) {
				return err_set(recovery->err, result,
					"journal block %llu has a senseless record",
					(unsigned long long)seq);
			}
			if (result != 0) {
				return result;
			}
		}
	}
	return 0;
}

/* ---- clusters ---- */

static int replay_cluster(
	struct recovery *recovery, const struct record *record, uint64_t seq, uint64_t lsn)
{
	struct store *store = recovery->store;
	uint64_t *entry;

	(void)seq;
	if (record->type == RECORD_STAMP) {
		return record->slot < store->sb.layout.slots ? 0 : -EBADMSG;
	}
	if (record->slot >= store->sb.layout.slots || record->index >= store->clusters.count ||
		record->value > ENTRY_PAYLOAD_MAX) {
		return -EBADMSG;
	}
	entry = &store->clusters.entries[record->index];
	switch (record->type) {
	case RECORD_DATA:
		*entry = entry_make(CLUSTER_DATA, record->slot, record->value);
		break;
	case RECORD_STAMPS:
		*entry = entry_make(CLUSTER_STAMPS, record->slot, record->value);
		if (record->value == 0) {
			store->slots[record->slot].created_lsn = lsn;
		}
		break;
	case RECORD_DIRTY:
		*entry = entry_make(CLUSTER_DIRTY, 0, 0);
		break;
	case RECORD_FREE:
		*entry = entry_make(CLUSTER_FREE, 0, 0);
		break;
	case RECORD_STAMP:
		break;
	}
	return 0;
}

static int owner_check(struct recovery *recovery, uint32_t cluster)
{
	struct store *store = recovery->store;
	uint64_t entry = store->clusters.entries[cluster];
	struct slot *slot = &store->slots[entry_slot(entry)];
	struct store_replica *replica = slot->replica;
	uint64_t payload = entry_payload(entry);

	slot->clusters++;
	if (slot->use != SLOT_READY) {
		/* Deleted, or never created: reclaim.c takes it. */
		slot->unmapped = true;
		return 0;
	}
	if (slot->unmapped) {
		return 0;
	}
	if (entry_state(entry) == CLUSTER_STAMPS) {
		if (payload >= replica->stamp_cluster_count) {
			/* A resize that was cut off. */
			reclaim_add_surplus(&store->reclaim, slot, 1);
			return 0;
		}
		if (replica->stamp_clusters[payload] != CLUSTER_NONE) {
			return -EBADMSG;
		}
		replica->stamp_clusters[payload] = cluster;
		return 0;
	}
	if (payload >= div_up_u64(replica->vmeta.size_bytes, store->sb.layout.cluster_bytes)) {
		return -EBADMSG;
	}
	return clusters_map_add(&store->clusters, cluster);
}

/* Clusters were taken, so there was metadata: somebody erased it.  That is not an empty slot. */
static int slot_lost_metadata(struct recovery *recovery, struct slot *slot)
{
	static const struct vmeta unknown;

	slot->abstains = true;
	return slot_add_replica(recovery, slot, &unknown);
}

static int owners_check(struct recovery *recovery)
{
	struct store *store = recovery->store;

	for (uint32_t i = 0; i < store->clusters.count; i++) {
		unsigned state = entry_state(store->clusters.entries[i]);
		bool bad = state != CLUSTER_FREE && i >= store->sb.zeroed_clusters;

		if (state == CLUSTER_DATA || state == CLUSTER_STAMPS) {
			bad |= owner_check(recovery, i) != 0;
		}
		if (bad) {
			return err_set(recovery->err, -EBADMSG,
				"cluster %u: its entry in the table contradicts others", i);
		}
	}
	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		struct slot *slot = &store->slots[i];

		for (uint32_t j = 0; slot->replica != NULL && !slot->unmapped &&
				     j < slot->replica->stamp_cluster_count;
			j++) {
			if (slot->replica->stamp_clusters[j] == CLUSTER_NONE) {
				return err_set(recovery->err, -EBADMSG,
					"slot %u: a cluster for its stamps is missing", i);
			}
		}
		if (slot->use == SLOT_FREE && slot->clusters > 0 && slot->seq == 0) {
			int result = slot_lost_metadata(recovery, slot);

			if (result != 0) {
				return result;
			}
		} else if (slot->use == SLOT_FREE && slot->clusters > 0) {
			slot->use = SLOT_DRAINING;
			reclaim_slot(&store->reclaim);
		} else if (slot->use == SLOT_FREE) {
			slot->unmapped = false;
		}
	}
	return 0;
}

int recover_clusters(struct recovery *recovery)
{
	int result = replay(recovery, replay_cluster);

	if (result == 0 && recovery->page_lsn_max > recovery->store->journal.durable_lsn) {
		result = err_set(recovery->err, -EBADMSG,
			"the journal ends before what the cluster table has: its newest block is "
			"damaged");
	}
	if (result == 0) {
		result = owners_check(recovery);
	}
	if (result == 0) {
		clusters_build_lists(&recovery->store->clusters);
	}
	return result;
}

/* ---- stamps ---- */

/* The replica that a stamp record is for; NULL: an earlier one of the slot, or none that counts. */
static struct store_replica *stamp_owner(
	struct recovery *recovery, const struct record *record, uint64_t lsn)
{
	struct slot *slot = &recovery->store->slots[record->slot];
	struct store_replica *replica = slot->replica;

	if (replica == NULL || slot->abstains || replica->region_count == 0 ||
		lsn < slot->created_lsn) {
		return NULL;
	}
	return replica;
}

static int replay_stamp(
	struct recovery *recovery, const struct record *record, uint64_t seq, uint64_t lsn)
{
	const struct slot *slot = &recovery->store->slots[record->slot];
	struct store_replica *replica;

	(void)seq;
	if (record->type != RECORD_STAMP) {
		return 0;
	}
	if (slot->unreadable && lsn >= slot->created_lsn) {
		/* The tail would pass it, and what it belongs to may be readable again later. */
		return err_set(recovery->err, -EIO,
			"slot %u: its metadata cannot be read, and the journal has stamps for it",
			slot->index);
	}
	replica = stamp_owner(recovery, record, lsn);
	if (replica == NULL) {
		return 0;
	}
	if (record->index >= replica->region_count) {
		return -EBADMSG;
	}
	replica->queued[record->index] = max_u64(replica->queued[record->index], record->value);
	return 0;
}

static int replay_dirty(
	struct recovery *recovery, const struct record *record, uint64_t seq, uint64_t lsn)
{
	struct store *store = recovery->store;
	struct meta_page *page = NULL;

	if (record->type != RECORD_STAMP) {
		page = &store->clusters.pages[record->index / PAGE_ENTRIES];
	} else {
		struct store_replica *replica = stamp_owner(recovery, record, lsn);

		if (replica != NULL) {
			page = &replica->pages[record->index / PAGE_ENTRIES];
		}
	}
	if (page != NULL) {
		checkpoint_page_dirty(&store->checkpoint, page, seq);
	}
	return 0;
}

static void mend_pages(struct store *store, struct meta_page *pages, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (pages[i].stale) {
			pages[i].stale = false;
			checkpoint_page_dirty(
				&store->checkpoint, &pages[i], store->journal.next_seq);
			store->checkpoint.urgent = true;
		}
	}
}

int recover_stamps(struct recovery *recovery)
{
	struct store *store = recovery->store;
	int result = replay(recovery, replay_stamp);

	if (result == 0 && recovery->page_lsn_max > store->journal.durable_lsn) {
		result = err_set(recovery->err, -EBADMSG,
			"the journal ends before what the stamps have: its newest block is "
			"damaged");
	}
	if (result != 0) {
		return result;
	}
	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		struct store_replica *replica = store->slots[i].replica;

		if (replica != NULL && replica->region_count > 0) {
			memcpy(replica->durable, replica->queued,
				replica->region_count * sizeof(uint64_t));
		}
	}
	result = replay(recovery, replay_dirty);
	mend_pages(store, store->clusters.pages, store->sb.layout.table_pages);
	for (uint32_t i = 0; i < store->sb.layout.slots; i++) {
		struct store_replica *replica = store->slots[i].replica;

		/* What abstains is left as it is. */
		if (replica != NULL && !store->slots[i].abstains) {
			mend_pages(store, replica->pages, replica->page_count);
		}
	}
	return result;
}
