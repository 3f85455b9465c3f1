/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data of replicas.  A write makes sure that the stamps of its regions and the map of its clusters
 * are durable (one journal write for both, shared with everyone else), then submits; an overwrite
 * in the same generation finds both there and is one device operation.
 */
#include "base/mutant.h"
#include "pool-agent/store/store_internal.h"

enum sio_state { SIO_START, SIO_AWAIT_METADATA, SIO_AWAIT_SEGMENT, SIO_AWAIT_DISK, SIO_DONE };

static struct store *store_of(const struct sio *sio)
{
	return sio->replica->store;
}

static struct store_io *io_of(struct sio *sio)
{
	return container_of(sio, struct store_io, backend);
}

/* ---- segments: disk operations of an io ---- */

static void segment_free(struct store *store, struct segment *segment)
{
	struct pooled_segment *pooled;

	if (!segment->pooled) {
		sio_of(segment->io)->alone_used = false;
		return;
	}
	pooled = container_of(segment, struct pooled_segment, segment);
	list_push_front(&store->data.free_segments, &pooled->node);
	/* All of them: the first one may not need it any more. */
	waiters_wake(&store->data.segment_waiters);
}

static void segment_done(struct io_disk_op *op)
{
	struct segment *segment = container_of(op, struct segment, op);
	struct store_io *io = segment->io;
	struct sio *sio = sio_of(io);
	struct grace *grace = &store_of(sio)->data.grace;

	if (op->result != 0 && io->result == 0) {
		/* -ENOSPC: the file system below a pool in a sparse file is full. */
		io->result = op->result == -ENOSPC ? -ENOSPC : -EIO;
	}
	assert(grace->count[segment->epoch] > 0);
	grace->count[segment->epoch]--;
	if (grace->count[segment->epoch] == 0 && segment->epoch != grace->current &&
		grace->task != NULL) {
		task_wake(grace->task);
	}
	segment_free(store_of(sio), segment);
	assert(sio->pending > 0);
	sio->pending--;
	task_wake(&sio->task);
}

struct segment *sio_segment(struct store *store, struct store_io *io, bool alone)
{
	struct sio *sio = sio_of(io);
	struct segment *segment;
	struct list_node *node;

	if (alone && !sio->alone_used) {
		sio->alone_used = true;
		sio->alone = (struct segment){.io = io};
		return &sio->alone;
	}
	node = list_pop_front(&store->data.free_segments);
	if (node == NULL) {
		waiter_add(&store->data.segment_waiters, &sio->waiter, &sio->task);
		return NULL;
	}
	segment = &container_of(node, struct pooled_segment, node)->segment;
	*segment = (struct segment){.io = io, .pooled = true};
	return segment;
}

void sio_segment_submit(
	struct store *store, struct segment *segment, uint64_t disk_offset, uint64_t length)
{
	struct grace *grace = &store->data.grace;

	segment->op.offset = disk_offset;
	segment->op.length = length;
	segment->op.done = segment_done;
	/* From here until it is done the clusters are not given to anybody else. */
	segment->epoch = (uint8_t)grace->current;
	grace->count[grace->current]++;
	sio_of(segment->io)->pending++;
	io_disk_submit(store->disk, &segment->op);
}

/* The part of io's memory at [skip, skip + length). */
static unsigned slice_iov(
	const struct store_io *io, uint64_t skip, uint64_t length, struct iovec to[IO_IOV_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < io->iov_count && length > 0; i++) {
		uint64_t size = io->iov[i].iov_len;
		uint64_t take;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		take = min_u64(size - skip, length);
		assert(count < IO_IOV_MAX);
		to[count++] = (struct iovec){
			.iov_base = (uint8_t *)io->iov[i].iov_base + skip,
			.iov_len = take,
		};
		length -= take;
		skip = 0;
	}
	assert(length == 0);
	return count;
}

static void zero_memory(const struct store_io *io, uint64_t skip, uint64_t length)
{
	for (unsigned i = 0; i < io->iov_count && length > 0; i++) {
		uint64_t size = io->iov[i].iov_len;
		uint64_t take;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		take = min_u64(size - skip, length);
		memset((uint8_t *)io->iov[i].iov_base + skip, 0, take);
		length -= take;
		skip = 0;
	}
}

/* ---- map and stamps before a write ---- */

int sio_stamp(struct store_io *io, uint64_t from, uint64_t until)
{
	struct sio *sio = sio_of(io);
	struct store_replica *replica = sio->replica;
	struct store *store = replica->store;
	uint64_t region_bytes = store->sb.layout.region_bytes;
	int durable = 0;

	for (uint64_t region = from / region_bytes; region <= (until - 1) / region_bytes;
		region++) {
		if (mutant_is(MUTANT_B11) && replica->queued[region] > io->wgen &&
			journal_has_room(&store->journal, 1)) {
			/* Deliberate bug: a stamp falls. */
			replica_queue_stamp(replica, region, io->wgen);
			continue;
		}
		if (replica->durable[region] >= io->wgen) {
			continue;
		}
		durable = 1;
		if (replica->queued[region] >= io->wgen) {
			continue;
		}
		if (!journal_has_room(&store->journal, 1)) {
			waiter_add(&store->journal.room_waiters, &sio->waiter, &sio->task);
			return 1;
		}
		replica_queue_stamp(replica, region, io->wgen);
	}
	return durable;
}

/* As sio_stamp(); adds what is missing in the map. */
static int sio_map(struct store_io *io, uint64_t from, uint64_t until)
{
	struct sio *sio = sio_of(io);
	struct store *store = store_of(sio);
	uint32_t slot = sio->replica->slot->index;
	uint64_t cluster_bytes = store->sb.layout.cluster_bytes;
	int waits = 0;

	for (uint64_t logical = from / cluster_bytes; logical <= (until - 1) / cluster_bytes;
		logical++) {
		uint32_t cluster = clusters_find(&store->clusters, slot, logical);

		if (cluster != CLUSTER_NONE) {
			waits |= clusters_is_pending(&store->clusters, cluster);
			continue;
		}
		if (store->clusters.free.count == 0) {
			if (!cleaner_may_free(store)) {
				return -ENOSPC;
			}
			waiter_add(&store->cleaner.space_waiters, &sio->waiter, &sio->task);
			return 1;
		}
		if (!journal_has_room(&store->journal, 1)) {
			waiter_add(&store->journal.room_waiters, &sio->waiter, &sio->task);
			return 1;
		}
		clusters_map(&store->clusters, slot, logical);
		waits = 1;
	}
	return waits;
}

/* Only a write that waits looks at the clock. */
static void sio_wait_begins(struct sio *sio, bool for_stamp)
{
	if (sio->waits_since_ns == 0) {
		sio->waits_since_ns = io_now_ns(store_of(sio)->io);
	}
	sio->waits_for_stamp |= for_stamp;
}

static void sio_wait_ended(struct sio *sio)
{
	struct store *store = store_of(sio);
	struct store_metrics *metrics = &store->metrics;

	if (sio->waits_since_ns != 0) {
		metric_observe_ns(sio->waits_for_stamp ? &metrics->stamp_wait : &metrics->map_wait,
			io_now_ns(store->io) - sio->waits_since_ns);
		sio->waits_since_ns = 0;
		sio->waits_for_stamp = false;
	}
}

/* 0: everything that the rest of the write needs is durable.  1: it waits; ask again when woken,
 * for the map may change meanwhile. */
static int sio_prepare(struct store_io *io)
{
	struct sio *sio = sio_of(io);
	uint64_t until = io->offset + io->length;
	int waits;
	int mapped;

	if (store_of(sio)->failed) {
		return -EIO;
	}
	waits = sio_stamp(io, sio->cursor, until);
	mapped = waiter_waits(&sio->waiter) ? 1
		 : io->kind == STORE_STAMP  ? 0
					    : sio_map(io, sio->cursor, until);
	if (mapped < 0) {
		return mapped;
	}
	if (io->kind == STORE_WRITE && (waits != 0 || mapped != 0)) {
		sio_wait_begins(sio, waits != 0);
	}
	if (waiter_waits(&sio->waiter)) {
		return 1;
	}
	if ((waits == 0 || mutant_is(MUTANT_S3)) && (mapped == 0 || mutant_is(MUTANT_S1))) {
		return 0;
	}
	journal_wait_durable(&store_of(sio)->journal, &sio->waiter, &sio->task);
	return 1;
}

/* ---- reads and writes ---- */

struct run {
	uint32_t cluster; /* CLUSTER_NONE: not mapped */
	uint64_t length;  /* bytes from the cursor */
};

/* What lies together on the disk from the cursor on. */
static struct run next_run(const struct store_io *io, const struct sio *sio)
{
	const struct store *store = store_of(sio);
	uint32_t slot = sio->replica->slot->index;
	uint64_t cluster_bytes = store->sb.layout.cluster_bytes;
	uint64_t until = io->offset + io->length;
	uint64_t logical = sio->cursor / cluster_bytes;
	struct run run = {.cluster = clusters_find(&store->clusters, slot, logical)};
	uint64_t end = (logical + 1) * cluster_bytes;
	uint32_t expected = run.cluster;

	while (end < until) {
		logical++;
		expected = run.cluster == CLUSTER_NONE ? CLUSTER_NONE : expected + 1;
		if (clusters_find(&store->clusters, slot, logical) != expected) {
			break;
		}
		end += cluster_bytes;
	}
	run.length = min_u64(end, until) - sio->cursor;
	return run;
}

/* One run; false: no segment now, it waits for one. */
static bool sio_submit_run(struct store_io *io)
{
	struct sio *sio = sio_of(io);
	struct store *store = store_of(sio);
	uint64_t cluster_bytes = store->sb.layout.cluster_bytes;
	struct run run = next_run(io, sio);
	struct segment *segment;

	if (run.cluster == CLUSTER_NONE) {
		assert(io->kind == STORE_READ);
		zero_memory(io, sio->cursor - io->offset, run.length);
		sio->cursor += run.length;
		return true;
	}
	segment = sio_segment(store, io, run.length == io->length);
	if (segment == NULL) {
		return false;
	}
	segment->op.kind = io->kind == STORE_READ ? IO_DISK_READ : IO_DISK_WRITE;
	segment->op.fua = io->kind == STORE_WRITE && sio_is_durable(io);
	if (segment->pooled) {
		segment->op.iov = container_of(segment, struct pooled_segment, segment)->iov;
		segment->op.iov_count =
			slice_iov(io, sio->cursor - io->offset, run.length, segment->op.iov);
	} else {
		segment->op.iov = io->iov;
		segment->op.iov_count = io->iov_count;
	}
	sio_segment_submit(store, segment,
		store_cluster_block(store, run.cluster) * STORE_BLOCK_BYTES +
			sio->cursor % cluster_bytes,
		run.length);
	sio->cursor += run.length;
	return true;
}

void sio_finish(struct store_io *io, int result)
{
	struct sio *sio = sio_of(io);
	struct store_replica *replica = sio->replica;

	assert(sio->pending == 0 && !waiter_waits(&sio->waiter));
	task_done(&sio->task);
	assert(replica->ios > 0);
	replica->ios--;
	if (io->kind == STORE_FLUSH && result == 0 && replica->store->snapshot_ops != NULL) {
		replica->store->snapshot_ops->flushed(
			replica->store->snapshot_ctx, replica, sio->flush_begun);
	}
	store_unbusy(replica->store);
	io->result = result;
	io->done(io);
}

/* The store failed with an unmapping that is not durable: what memory shows as zeros may be back
 * after the next opening, and nobody may have seen it. */
static bool map_is_doubtful(const struct store *store)
{
	return store->failed && store->unmapped_lsn > store->journal.durable_lsn;
}

static void sio_step(struct task *task)
{
	struct sio *sio = container_of(task, struct sio, task);
	struct store_io *io = io_of(sio);

	switch ((enum sio_state)sio->state) {
	case SIO_START:
		if (io->kind == STORE_READ &&
			(map_is_doubtful(store_of(sio)) ||
				(sio->replica->vmeta.marks.count > 0 && sio_touches_marks(io)))) {
			io->result = -EIO;
		}
		while (sio->cursor < io->offset + io->length && io->result == 0) {
			while (io->kind != STORE_READ && (sio->prepared = sio_prepare(io)) == 1) {
				AWAIT(sio, SIO_AWAIT_METADATA, !waiter_waits(&sio->waiter));
			}
			sio_wait_ended(sio);
			if (sio->prepared < 0 || io->kind == STORE_STAMP) {
				io->result = sio->prepared;
				break;
			}
			if (!sio_submit_run(io)) {
				AWAIT(sio, SIO_AWAIT_SEGMENT, !waiter_waits(&sio->waiter));
			}
		}
		AWAIT(sio, SIO_AWAIT_DISK, sio->pending == 0);
		sio->state = SIO_DONE;
		if (sio->unmarks && io->result == 0) {
			sio_unmark(io);
			return;
		}
		sio_finish(io, io->result);
		return;
	case SIO_DONE:
		return;
	}
}

/* ---- flush ---- */

enum flusher_state { FLUSHER_START, FLUSHER_AWAIT_WORK, FLUSHER_AWAIT_DISK, FLUSHER_DONE };

/* One flush of the disk answers all that were asked for before it was submitted. */
static void flusher_step(struct task *task)
{
	struct flusher *flusher = container_of(task, struct flusher, task);
	struct store *store = flusher->store;
	struct list_node *node;

	switch ((enum flusher_state)flusher->state) {
	case FLUSHER_START:
		for (;;) {
			AWAIT(flusher, FLUSHER_AWAIT_WORK,
				!list_is_empty(&flusher->waiting) || store->closing);
			if (store->closing) {
				break;
			}
			list_splice_back(&flusher->served, &flusher->waiting);
			flusher->result = -EIO;
			if (!store->failed) {
				batch_flush(&flusher->batch, &flusher->op);
				AWAIT(flusher, FLUSHER_AWAIT_DISK, flusher->batch.pending == 0);
				flusher->result = batch_take_result(&flusher->batch);
				if (flusher->result != 0) {
					store_fail(store, "flush", flusher->result);
					flusher->result = -EIO;
				}
			}
			while ((node = list_pop_front(&flusher->served)) != NULL) {
				sio_finish(
					io_of(container_of(container_of(node, struct waiter, node),
						struct sio, waiter)),
					flusher->result);
			}
		}
		flusher->state = FLUSHER_DONE;
		task_wake(&store->close_task);
		return;
	case FLUSHER_DONE:
		return;
	}
}

bool flusher_is_done(const struct store *store)
{
	return store->data.flusher.state == FLUSHER_DONE;
}

/* ---- entry ---- */

void store_submit(struct store_replica *replica, struct store_io *io)
{
	struct store *store = replica->store;
	struct sio *sio = sio_of(io);
	bool unmaps = io->kind == STORE_ZERO || io->kind == STORE_DISCARD;

	assert(!store->closing && !replica->slot->abstains);
	assert(io->kind == STORE_FLUSH ||
		(io->length > 0 && io->offset % STORE_BLOCK_BYTES == 0 &&
			io->length % STORE_BLOCK_BYTES == 0 &&
			range_is_within(io->offset, io->length, replica->vmeta.size_bytes)));
	*sio = (struct sio){.replica = replica, .cursor = io->offset};
	sio->unmarks = replica->vmeta.marks.count > 0 && (unmaps || io->kind == STORE_WRITE) &&
		       sio_touches_marks(io);
	task_init(&sio->task, &store->io->runq,
		unmaps                            ? discard_step
		: io->kind == STORE_UNCORRECTABLE ? mark_step
						  : sio_step);
	io->result = 0;
	replica->ios++;
	store->busy++;
	if (io->kind == STORE_FLUSH) {
		if (store->snapshot_ops != NULL) {
			sio->flush_begun =
				store->snapshot_ops->flush_begins(store->snapshot_ctx, replica);
		}
		waiter_add(&store->data.flusher.waiting, &sio->waiter, &sio->task);
		task_wake(&store->data.flusher.task);
		return;
	}
	task_wake(&sio->task);
}

int data_init(struct store *store)
{
	struct data *data = &store->data;

	list_init(&data->free_segments);
	list_init(&data->segment_waiters);
	list_init(&data->flusher.waiting);
	list_init(&data->flusher.served);
	data->flusher.store = store;
	task_init(&data->flusher.task, &store->io->runq, flusher_step);
	batch_init(&data->flusher.batch, store->disk, &data->flusher.task);
	data->segments = io_zalloc(store->io, SEGMENTS * sizeof(struct pooled_segment));
	if (data->segments == NULL) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i < SEGMENTS; i++) {
		list_push_back(&data->free_segments, &data->segments[i].node);
	}
	return 0;
}

void data_done(struct store *store)
{
	if (store->data.flusher.store == NULL) {
		return;
	}
	task_done(&store->data.flusher.task);
	io_free(store->io, store->data.segments);
}
