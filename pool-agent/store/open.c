/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a pool: a flush (what is read afterwards is durable then, also what a killed predecessor
 * had under way), superblock, vmeta, cluster table, journal, stamps; then what was found half done
 * is finished: copies that differ, creations without an end.
 */
#include "pool-agent/store/store_internal.h"

/* Two ladders, one after the other, on one task. */
enum open_superblock_state {
	OPEN_START,
	OPEN_AWAIT_FLUSH,
	OPEN_AWAIT_NEAR,
	OPEN_AWAIT_FAR,
	OPEN_AWAIT_SUPERBLOCK_REPAIR,
};

enum open_recover_state {
	RECOVER_START,
	RECOVER_AWAIT_VMETA,
	RECOVER_AWAIT_TABLE,
	RECOVER_AWAIT_JOURNAL,
	RECOVER_AWAIT_STAMPS,
	RECOVER_AWAIT_REPAIR,
	RECOVER_AWAIT_TOMBSTONE,
	RECOVER_FINISH,
};

struct opening {
	struct task task;
	int state;
	struct io *io;
	struct io_disk *disk;
	struct store *store; /* owned until it is given away */
	struct store **ret_store;
	struct store_op *op;
	struct batch batch;
	struct batch_op ops[2];
	uint8_t *blocks[2]; /* owned; near and far superblock */
	bool unreadable[2];
	struct scan scan;
	struct recovery recovery;
	struct superblock sb;
	uint32_t slot;
	unsigned part;
	struct vmeta vmeta;
	int result;
};

static int open_error(struct opening *opening, int result, const char *what)
{
	return err_set(&opening->op->err, result, "%s: %s", what, err_describe(result));
}

/* ---- superblock ---- */

static uint64_t last_block(const struct opening *opening)
{
	return opening->disk->size_bytes / STORE_BLOCK_BYTES - 1;
}

static uint64_t far_block(const struct opening *opening)
{
	struct superblock sb;
	struct err err;

	/* The disk may have grown since: the near copy knows where the far one is. */
	if (!opening->unreadable[0] && superblock_decode(opening->blocks[0], 0, &sb, &err) == 0 &&
		sb.layout.size_blocks - 1 <= last_block(opening)) {
		return sb.layout.size_blocks - 1;
	}
	return last_block(opening);
}

static int check_size(struct opening *opening)
{
	uint64_t size_blocks = opening->sb.layout.size_blocks;

	if (size_blocks - 1 > last_block(opening)) {
		return err_set(&opening->op->err, -EBADMSG,
			"the pool has %llu MiB, the disk only %llu MiB",
			(unsigned long long)(size_blocks / 256),
			(unsigned long long)(opening->disk->size_bytes >> 20));
	}
	return 0;
}

/* The newer one of the good copies.  What a newer program wrote is not touched. */
static int choose_superblock(struct opening *opening)
{
	struct superblock sbs[2];
	struct err errs[2];
	uint64_t places[2] = {0, far_block(opening)};
	int results[2];

	for (unsigned i = 0; i < 2; i++) {
		err_clear(&errs[i]);
		results[i] = opening->unreadable[i]
				     ? err_set(&errs[i], -EIO, "superblock: cannot be read")
				     : superblock_decode(
					       opening->blocks[i], places[i], &sbs[i], &errs[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		if (results[i] == -EOPNOTSUPP) {
			opening->op->err = errs[i];
			return results[i];
		}
	}
	if (results[0] == 0 && results[1] == 0 && !uuid_equal(&sbs[0].uuid, &sbs[1].uuid)) {
		/* The far one was left by another pool, at the end of a disk that was bigger. */
		results[1] = -EBADMSG;
	}
	if (results[0] == 0 || results[1] == 0) {
		bool far = results[0] != 0 || (results[1] == 0 && sbs[1].seq > sbs[0].seq);

		opening->sb = sbs[far ? 1 : 0];
		return check_size(opening);
	}
	opening->op->err = errs[results[0] == -ENODATA && results[1] != -ENODATA ? 1 : 0];
	if (results[0] == -EIO && results[1] == -EIO) {
		return -EIO;
	}
	opening->op->err.code = -EBADMSG;
	return -EBADMSG;
}

/* The copies are made equal again.  true: there is something to write. */
static bool superblock_needs_repair(struct opening *opening)
{
	uint64_t at = opening->part == 0 ? 0 : opening->sb.layout.size_blocks - 1;
	struct superblock sb;
	struct err err;

	if (!opening->unreadable[opening->part] &&
		superblock_decode(opening->blocks[opening->part], at, &sb, &err) == 0 &&
		sb.seq == opening->sb.seq && uuid_equal(&sb.uuid, &opening->sb.uuid)) {
		return false;
	}
	superblock_encode(&opening->sb, at, opening->blocks[opening->part]);
	batch_write_durable(&opening->batch, &opening->ops[0], at, opening->blocks[opening->part],
		STORE_BLOCK_BYTES);
	return true;
}

static int make_store(struct opening *opening)
{
	struct store *store = io_zalloc(opening->io, sizeof(*store));
	int result;

	if (store == NULL) {
		return open_error(opening, -ENOMEM, "open pool");
	}
	store->io = opening->io;
	store->disk = opening->disk;
	store->sb = opening->sb;
	opening->store = store;
	result = store_init(store);
	if (result == 0) {
		result = scan_init(&opening->scan, opening->io, opening->disk, &opening->task);
	}
	if (result == 0) {
		result = recovery_init(&opening->recovery, store, &opening->op->err);
	}
	return result == 0 ? 0 : open_error(opening, result, "open pool");
}

/* ---- what is scanned ---- */

static uint64_t vmeta_block_of(void *ctx, uint64_t index, unsigned place)
{
	const struct recovery *recovery = ctx;

	return slot_block(recovery->store, (uint32_t)(index / 2), (unsigned)(index % 2), place);
}

static uint64_t table_block_of(void *ctx, uint64_t index, unsigned place)
{
	const struct recovery *recovery = ctx;
	const struct layout *layout = &recovery->store->sb.layout;

	return layout->table + place * layout->table_pages + index;
}

static uint64_t journal_block_of(void *ctx, uint64_t index, unsigned place)
{
	const struct recovery *recovery = ctx;

	(void)place;
	return recovery->store->sb.layout.journal + index;
}

static uint64_t stamps_block_of(void *ctx, uint64_t index, unsigned place)
{
	const struct recovery *recovery = ctx;

	return replica_page_block(recovery->replica, (uint32_t)index, place);
}

static void scan_begin(struct opening *opening, unsigned places, uint64_t count,
	uint64_t (*block_of)(void *ctx, uint64_t index, unsigned place),
	int (*take)(void *ctx, uint64_t index, uint8_t *const blocks[2]))
{
	struct scan *scan = &opening->scan;

	scan->places = places;
	scan->count = count;
	scan->block_of = block_of;
	scan->take = take;
	scan->ctx = &opening->recovery;
	scan_start(scan);
}

/* The next replica whose stamps can be read. */
static bool stamps_begin(struct opening *opening)
{
	struct store *store = opening->store;

	for (; opening->slot < store->sb.layout.slots; opening->slot++) {
		struct slot *slot = &store->slots[opening->slot];

		if (slot->use == SLOT_READY && !slot->abstains && slot->replica->page_count > 0) {
			opening->recovery.replica = slot->replica;
			scan_begin(opening, 2, slot->replica->page_count, stamps_block_of,
				recover_stamp_page);
			opening->slot++;
			return true;
		}
	}
	return false;
}

/* ---- what is finished ---- */

/* The next member of a pair that differs from the other one.  slot * 4 + pair * 2 + member counts.
 */
static bool repair_begin(struct opening *opening)
{
	struct store *store = opening->store;
	uint32_t count = 4 * store->sb.layout.slots;

	for (; opening->slot < count; opening->slot++) {
		struct slot *slot = &store->slots[opening->slot / 4];
		unsigned pair = opening->slot / 2 % 2;
		unsigned member = opening->slot % 2;

		if (slot->abstains || slot->repair[pair][member] == NULL) {
			continue;
		}
		batch_write_durable(&opening->batch, &opening->ops[0],
			slot_block(store, slot->index, pair, member), slot->repair[pair][member],
			STORE_BLOCK_BYTES);
		opening->slot++;
		return true;
	}
	return false;
}

static void repairs_free(struct store *store)
{
	for (uint32_t i = 0; i < 4 * store->sb.layout.slots; i++) {
		struct slot *slot = &store->slots[i / 4];

		io_free(store->io, slot->repair[i / 2 % 2][i % 2]);
		slot->repair[i / 2 % 2][i % 2] = NULL;
	}
}

/* The next creation that did not come to its end. */
static bool tombstone_begin(struct opening *opening)
{
	struct store *store = opening->store;

	for (; opening->slot < store->sb.layout.slots; opening->slot++) {
		struct slot *slot = &store->slots[opening->slot];

		if (slot->use == SLOT_BUSY) {
			opening->vmeta = (struct vmeta){.state = VMETA_DELETED};
			slot_write(slot, opening->blocks[0], &opening->vmeta, &opening->task);
			return true;
		}
	}
	return false;
}

static void tombstone_end(struct opening *opening)
{
	struct slot *slot = &opening->store->slots[opening->slot];

	opening->slot++;
	if (slot->result != 0) {
		opening->result = open_error(opening, slot->result, "undo creation of a replica");
		return;
	}
	slot->use = SLOT_DRAINING;
	reclaim_slot(&opening->store->reclaim);
}

/* ---- ladder ---- */

static void open_finish(struct opening *opening)
{
	struct store_op *op = opening->op;
	struct io *io = opening->io;
	int result = opening->result;

	recovery_done(&opening->recovery);
	scan_done(&opening->scan);
	if (result == 0) {
		repairs_free(opening->store);
		store_run(opening->store);
		*opening->ret_store = opening->store;
	} else if (opening->store != NULL) {
		store_free(opening->store);
	}
	task_done(&opening->task);
	io_free(io, opening->blocks[0]);
	io_free(io, opening->blocks[1]);
	io_free(io, opening);
	store_op_finish(op, result);
}

static void open_read_superblock(struct opening *opening, unsigned copy, uint64_t block)
{
	batch_read(&opening->batch, &opening->ops[copy], block, opening->blocks[copy],
		STORE_BLOCK_BYTES);
}

static void open_check_batch(struct opening *opening, const char *what)
{
	int result = batch_take_result(&opening->batch);

	if (result != 0 && opening->result == 0) {
		opening->result = open_error(opening, result, what);
	}
}

static void open_recover_step(struct task *task);

/* What the superblock tells, read and checked; then the store itself begins to be. */
static void open_superblock_step(struct task *task)
{
	struct opening *opening = container_of(task, struct opening, task);

	switch ((enum open_superblock_state)opening->state) {
	case OPEN_START:
		batch_flush(&opening->batch, &opening->ops[0]);
		AWAIT(opening, OPEN_AWAIT_FLUSH, opening->batch.pending == 0);
		open_check_batch(opening, "flush of the disk");
		if (opening->result != 0) {
			break;
		}
		open_read_superblock(opening, 0, 0);
		AWAIT(opening, OPEN_AWAIT_NEAR, opening->batch.pending == 0);
		opening->unreadable[0] = batch_take_result(&opening->batch) != 0;
		open_read_superblock(opening, 1, far_block(opening));
		AWAIT(opening, OPEN_AWAIT_FAR, opening->batch.pending == 0);
		opening->unreadable[1] = batch_take_result(&opening->batch) != 0;
		opening->result = choose_superblock(opening);
		if (opening->result == 0) {
			opening->result = make_store(opening);
		}
		for (; opening->part < 2 && opening->result == 0; opening->part++) {
			if (superblock_needs_repair(opening)) {
				AWAIT(opening, OPEN_AWAIT_SUPERBLOCK_REPAIR,
					opening->batch.pending == 0);
				open_check_batch(opening, "repair of the superblock");
			}
		}
		break;
	}
	opening->state = opening->result == 0 ? RECOVER_START : RECOVER_FINISH;
	opening->task.step = open_recover_step;
	task_wake(task);
}

static void open_recover_step(struct task *task)
{
	struct opening *opening = container_of(task, struct opening, task);
	struct recovery *recovery = &opening->recovery;

	switch ((enum open_recover_state)opening->state) {
	case RECOVER_START:
		scan_begin(opening, 2, 2 * (uint64_t)opening->sb.layout.slots, vmeta_block_of,
			recover_vmeta);
		AWAIT(opening, RECOVER_AWAIT_VMETA, !opening->scan.running);
		opening->result = opening->scan.result;
		if (opening->result != 0) {
			break;
		}
		scan_begin(opening, 2, opening->sb.layout.table_pages, table_block_of,
			recover_table_page);
		AWAIT(opening, RECOVER_AWAIT_TABLE, !opening->scan.running);
		opening->result = opening->scan.result;
		if (opening->result != 0) {
			break;
		}
		scan_begin(opening, 1, opening->sb.layout.journal_blocks, journal_block_of,
			recover_journal_block);
		AWAIT(opening, RECOVER_AWAIT_JOURNAL, !opening->scan.running);
		opening->result = recover_journal_end(recovery);
		if (opening->result == 0) {
			opening->result = recover_clusters(recovery);
		}
		while (opening->result == 0 && stamps_begin(opening)) {
			AWAIT(opening, RECOVER_AWAIT_STAMPS, !opening->scan.running);
			opening->result = opening->scan.result;
		}
		if (opening->result == 0) {
			opening->result = recover_stamps(recovery);
		}
		opening->slot = 0;
		while (opening->result == 0 && repair_begin(opening)) {
			AWAIT(opening, RECOVER_AWAIT_REPAIR, opening->batch.pending == 0);
			open_check_batch(opening, "repair of a replica's metadata");
		}
		opening->slot = 0;
		while (opening->result == 0 && tombstone_begin(opening)) {
			AWAIT(opening, RECOVER_AWAIT_TOMBSTONE,
				opening->store->slots[opening->slot].parent == NULL);
			tombstone_end(opening);
		}
		break;
	case RECOVER_FINISH:
		break;
	}
	open_finish(opening);
}

void store_open(struct io *io, struct io_disk *disk, struct store **ret_store, struct store_op *op)
{
	struct opening *opening = io_zalloc(io, sizeof(*opening));
	bool ready = opening != NULL;

	err_clear(&op->err);
	if (store_check_disk(disk, &op->err) != 0) {
		io_free(io, opening);
		store_op_fail_later(io, NULL, op, op->err.code);
		return;
	}
	for (unsigned i = 0; i < 2 && ready; i++) {
		opening->blocks[i] = io_zalloc_aligned(io, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES);
		ready = opening->blocks[i] != NULL;
	}
	if (!ready || disk->size_bytes < STORE_BLOCK_BYTES) {
		int result = ready ? err_set(&op->err, -EBADMSG, "the disk is empty")
				   : err_set(&op->err, -ENOMEM, "open pool: no memory");

		if (opening != NULL) {
			io_free(io, opening->blocks[0]);
			io_free(io, opening->blocks[1]);
			io_free(io, opening);
		}
		store_op_fail_later(io, NULL, op, result);
		return;
	}
	opening->io = io;
	opening->disk = disk;
	opening->ret_store = ret_store;
	opening->op = op;
	task_init(&opening->task, &io->runq, open_superblock_step);
	batch_init(&opening->batch, disk, &opening->task);
	task_wake(&opening->task);
}
