/* SPDX-License-Identifier: Apache-2.0 */
/* The images of a pool-agent (snapshot_store.h). */
#include "tests/sim/snapshot_store.h"

#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BLOCKS 32u

/* A read of a snapshot. */
struct image_read {
	struct list_node node;
	struct node_agent *agent;
	struct store_io *asked;
	struct store_io delay; /* the time that a disk takes */
	struct iovec iov;
	uint64_t number;
	uint8_t *buffer; /* owned */
};

static void image_drop(struct image *image)
{
	free(image->blocks);
	*image = (struct image){0};
}

void image_store_init(struct node_agent *node)
{
	list_init(&node->images.reads);
	node->images.buffer = aligned_alloc(ORACLE_BLOCK_BYTES, PIECE_BLOCKS * ORACLE_BLOCK_BYTES);
	assert(node->images.buffer != NULL);
}

static void reads_drop(struct image_store *store)
{
	while (store->reads.head.next != NULL && !list_is_empty(&store->reads)) {
		struct image_read *read =
			container_of(list_pop_front(&store->reads), struct image_read, node);

		free(read->buffer);
		free(read);
	}
}

void image_store_done(struct node_agent *node)
{
	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		image_drop(&node->images.images[i]);
	}
	image_drop(&node->images.making);
	reads_drop(&node->images);
	free(node->images.buffer);
}

/* Some of its blocks are what was never written. */
static void image_damage(struct image *image, struct rng *rng)
{
	for (size_t i = 0; i < image->block_count; i++) {
		if (rng_percent(rng, 50)) {
			image->blocks[i] = IMAGE_DAMAGED;
		}
	}
	image->blocks[rng_below(rng, image->block_count)] = IMAGE_DAMAGED;
}

void image_store_crash(struct node_agent *node, bool power_lost)
{
	struct image_store *store = &node->images;
	struct rng *rng = sim_rng(node->world->sim);

	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		struct image *image = &store->images[i];

		if (image->number == 0 || image->durable || rng_percent(rng, 30)) {
			image->durable = image->durable || power_lost;
		} else if (power_lost && rng_percent(rng, 50)) {
			image_damage(image, rng);
			image->durable = true;
		} else {
			image_drop(image);
		}
	}
	image_drop(&store->making);
	reads_drop(store);
	store->op = NULL;
}

static bool is_of(const struct image *image, const struct uuid *replica)
{
	return image->number != 0 && uuid_equal(&image->replica, replica);
}

const struct image *image_find(const struct node_agent *node, uint64_t number)
{
	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		const struct image *image = &node->images.images[i];

		if (image->number == number && is_of(image, &node->replica_id)) {
			return image;
		}
	}
	return NULL;
}

void image_lose(struct node_agent *node, uint64_t number)
{
	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		if (node->images.images[i].number == number) {
			image_drop(&node->images.images[i]);
		}
	}
}

void image_spoil(struct node_agent *node, uint64_t number, size_t block)
{
	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		if (node->images.images[i].number == number &&
			is_of(&node->images.images[i], &node->replica_id)) {
			node->images.images[i].blocks[block] = IMAGE_UNREADABLE;
		}
	}
}

static void op_end(struct image_store *store, int result)
{
	struct store_op *op = store->op;

	store->op = NULL;
	op->result = result;
	op->done(op);
}

static void op_begin(struct image_store *store, struct store_replica *replica, struct store_op *op)
{
	assert(store->op == NULL);
	store->op = op;
	store->source = replica;
}

/* Of replicas that are no more. */
static void images_drop_others(struct image_store *store, const struct uuid *replica)
{
	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		if (store->images[i].number != 0 && !is_of(&store->images[i], replica)) {
			image_drop(&store->images[i]);
		}
	}
}

/* ---- PREPARE ---- */

static void prepare_piece(struct node_agent *node);

static struct image *free_place(struct image_store *store)
{
	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		if (store->images[i].number == 0) {
			return &store->images[i];
		}
	}
	return NULL;
}

static void prepare_end(struct node_agent *node, int result)
{
	struct image_store *store = &node->images;
	struct image *place = free_place(store);

	if (result == 0 && place == NULL) {
		result = -ENOSPC;
	}
	if (result == 0) {
		store->making.made = ++store->made;
		*place = store->making;
		store->making = (struct image){0};
	} else {
		image_drop(&store->making);
	}
	op_end(store, result);
}

static bool is_marked(const struct store_replica *replica, size_t block)
{
	return marks_touch(&store_replica_vmeta(replica)->marks, block, 1);
}

static void on_prepare_read(struct store_io *io)
{
	struct node_agent *node = io->ctx;
	struct image *image = &node->images.making;
	size_t first = io->offset / ORACLE_BLOCK_BYTES;
	size_t count = io->length / ORACLE_BLOCK_BYTES;

	if (io->result == -EIO && count > 1) {
		node->images.single_until = first + count;
		prepare_piece(node);
		return;
	}
	if (io->result == -EIO && is_marked(node->images.source, first)) {
		image->blocks[first] = IMAGE_UNREADABLE;
	} else if (io->result != 0) {
		prepare_end(node, io->result);
		return;
	}
	for (size_t i = 0; i < count && io->result == 0; i++) {
		image->blocks[first + i] =
			oracle_number(node->images.buffer + i * ORACLE_BLOCK_BYTES, first + i);
	}
	if (first + count < image->block_count) {
		io->offset += io->length;
		prepare_piece(node);
		return;
	}
	prepare_end(node, 0);
}

static void prepare_piece(struct node_agent *node)
{
	struct image_store *store = &node->images;
	uint64_t offset = store->io.offset;
	uint64_t end = store->making.block_count * ORACLE_BLOCK_BYTES;
	uint64_t most = (offset < store->single_until * ORACLE_BLOCK_BYTES ? 1 : PIECE_BLOCKS) *
			(uint64_t)ORACLE_BLOCK_BYTES;

	store->iov = (struct iovec){store->buffer, min_u64(most, end - offset)};
	store->io = (struct store_io){
		.kind = STORE_READ,
		.offset = offset,
		.length = store->iov.iov_len,
		.iov = &store->iov,
		.iov_count = 1,
		.done = on_prepare_read,
		.ctx = node,
	};
	store_submit(store->source, &store->io);
}

static void prepare(void *ctx, struct store_replica *replica, uint64_t number,
	const struct uuid *id, struct store_op *op)
{
	struct node_agent *node = ctx;
	struct image *image = &node->images.making;
	const struct vmeta *vmeta = store_replica_vmeta(replica);

	op_begin(&node->images, replica, op);
	images_drop_others(&node->images, &vmeta->replica);
	*image = (struct image){
		.number = number,
		.id = *id,
		.replica = vmeta->replica,
		.block_count = vmeta->size_bytes / ORACLE_BLOCK_BYTES,
	};
	image->blocks = calloc(image->block_count, sizeof(*image->blocks));
	assert(image->blocks != NULL && image_find(node, number) == NULL);
	node->images.io.offset = 0;
	node->images.single_until = 0;
	prepare_piece(node);
}

/* ---- RESOLVE ---- */

static void on_resolve_read(struct store_io *io)
{
	struct node_agent *node = io->ctx;
	struct image_store *store = &node->images;

	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		struct image *image = &store->images[i];

		if (image->number == 0 || image->kept) {
			continue;
		}
		if (is_of(image, &node->replica_id) && image->number <= store->committed) {
			image->kept = true;
			snapshots_judge_kept(node, image);
		} else {
			image_drop(image);
		}
	}
	op_end(store, 0);
}

static void resolve(
	void *ctx, struct store_replica *replica, uint64_t committed, struct store_op *op)
{
	struct node_agent *node = ctx;
	struct image_store *store = &node->images;

	op_begin(store, replica, op);
	store->committed = committed;
	store->iov = (struct iovec){store->buffer, ORACLE_BLOCK_BYTES};
	store->io = (struct store_io){
		.kind = STORE_READ, /* takes its time */
		.length = ORACLE_BLOCK_BYTES,
		.iov = &store->iov,
		.iov_count = 1,
		.done = on_resolve_read,
		.ctx = node,
	};
	store_submit(replica, &store->io);
}

/* ---- looking at them ---- */

static bool next(void *ctx, const struct store_replica *replica, uint64_t after,
	struct store_snapshot *ret_snapshot)
{
	const struct node_agent *node = ctx;
	const struct uuid *id = &store_replica_vmeta(replica)->replica;
	const struct image *found = NULL;

	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		const struct image *image = &node->images.images[i];

		if (is_of(image, id) && image->number > after &&
			(found == NULL || image->number < found->number)) {
			found = image;
		}
	}
	if (found != NULL) {
		*ret_snapshot = (struct store_snapshot){
			.number = found->number, .id = found->id, .kept = found->kept};
	}
	return found != NULL;
}

static void fill_block(const struct image *image, size_t block, uint8_t *to)
{
	int64_t number = block < image->block_count ? image->blocks[block] : 0;

	if (number > 0) {
		oracle_fill(to, block, (uint64_t)number);
	} else {
		memset(to, number == 0 ? 0 : 0xdb, ORACLE_BLOCK_BYTES);
	}
}

static bool is_readable(const struct image *image, const struct store_io *io)
{
	for (uint64_t at = io->offset; at < io->offset + io->length; at += ORACLE_BLOCK_BYTES) {
		size_t block = at / ORACLE_BLOCK_BYTES;

		if (block < image->block_count && image->blocks[block] == IMAGE_UNREADABLE) {
			return false;
		}
	}
	return true;
}

static void copy_out(const struct store_io *io, const uint8_t *from)
{
	for (unsigned i = 0; i < io->iov_count; i++) {
		memcpy(io->iov[i].iov_base, from, io->iov[i].iov_len);
		from += io->iov[i].iov_len;
	}
}

static void on_read(struct store_io *delay)
{
	struct image_read *read = delay->ctx;
	struct store_io *io = read->asked;
	const struct image *image = image_find(read->agent, read->number);
	uint8_t *content = malloc(io->length);

	assert(content != NULL);
	if (image != NULL && !is_readable(image, io)) {
		image = NULL;
	}
	for (size_t at = 0; image != NULL && at < io->length; at += ORACLE_BLOCK_BYTES) {
		fill_block(image, (io->offset + at) / ORACLE_BLOCK_BYTES, content + at);
	}
	if (image != NULL) {
		copy_out(io, content);
	}
	io->result = image == NULL ? -EIO : 0;
	free(content);
	list_remove(&read->node);
	free(read->buffer);
	free(read);
	io->done(io);
}

static void read_snapshot(
	void *ctx, struct store_replica *replica, uint64_t number, struct store_io *io)
{
	struct node_agent *node = ctx;
	struct image_read *read = calloc(1, sizeof(*read));

	assert(read != NULL);
	read->agent = node;
	read->asked = io;
	read->number = number;
	read->buffer = aligned_alloc(ORACLE_BLOCK_BYTES, ORACLE_BLOCK_BYTES);
	assert(read->buffer != NULL);
	read->iov = (struct iovec){read->buffer, ORACLE_BLOCK_BYTES};
	read->delay = (struct store_io){
		.kind = STORE_READ,
		.length = ORACLE_BLOCK_BYTES,
		.iov = &read->iov,
		.iov_count = 1,
		.done = on_read,
		.ctx = read,
	};
	list_push_back(&node->images.reads, &read->node);
	store_submit(replica, &read->delay);
}

/* ---- flushes ---- */

static uint64_t flush_begins(void *ctx, const struct store_replica *replica)
{
	(void)replica;
	return ((const struct node_agent *)ctx)->images.made;
}

static void flushed(void *ctx, struct store_replica *replica, uint64_t begun)
{
	struct node_agent *node = ctx;

	for (unsigned i = 0; i < IMAGES_MAX; i++) {
		struct image *image = &node->images.images[i];

		if (is_of(image, &store_replica_vmeta(replica)->replica) && image->made <= begun) {
			image->durable = true;
		}
	}
}

const struct store_snapshot_ops image_store_ops = {
	.prepare = prepare,
	.resolve = resolve,
	.next = next,
	.read = read_snapshot,
	.flush_begins = flush_begins,
	.flushed = flushed,
};
