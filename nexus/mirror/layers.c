/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rebuild's target gets the snapshots that it lacks, oldest first (docs/protocol.md 1.10), before
 * it is registered in the write path: its content is made that of a snapshot of a member, flushed,
 * PREPARED under the snapshot's number, flushed and kept.  Only then the next one; in the end the
 * rebuild copies, by the stamps, what has become of the volume since.
 *
 * A piece that one member cannot read from its image is asked of the others, and then block by
 * block.  A block that no member can read is marked (WRITE UNCORRECTABLE): the target's image does
 * not show it either, and the rest of it is there.
 *
 * What is only PREPARED on a target is deleted first, whatever its number: it may be of an attempt
 * that came to nothing, or not have been flushed when the target lost its power.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

#define LAYER_PIECE_BYTES (128u << 10)

static bool layers_go_on(const struct leg *leg)
{
	const struct volume *volume = leg->volume;

	return volume->serving && !volume_is_dead(volume) && !leg_ends(leg) && leg->ready &&
	       !leg->refence && leg->layers.incarnation == volume->incarnation &&
	       leg->layers.session == leg->session;
}

bool layers_are_complete(const struct leg *leg)
{
	return leg->snapshot.kept >= leg->volume->cfg.snap_seq;
}

static bool layers_are_missing(const struct leg *leg)
{
	return layers_go_on(leg) && leg->layers.io.result == LEG_OK && !layers_are_complete(leg);
}

static void layers_io_done(struct leg_io *lio)
{
	task_wake(lio->ctx);
}

static void layers_send(struct leg *leg, uint8_t opcode, uint64_t number)
{
	struct leg_io *lio = &leg->layers.io;

	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = opcode;
	if (opcode == WIRE_SNAPSHOT_PREPARE) {
		wire_snapshot_encode(number, &leg->layers.id, &lio->cmd.sqe);
	} else {
		lio->cmd.sqe.cdw10 = (uint32_t)number;
		lio->cmd.sqe.cdw11 = (uint32_t)(number >> 32);
	}
	lio->done = layers_io_done;
	lio->ctx = &leg->layers.task;
	lio->pooled = leg->layers.buffer != NULL;
	leg_submit(leg, lio, true, NULL, 0);
}

/* Its present content, or with `length` 0 its flush.  They settle nothing: what layers wrote stays
 * in the replica's window, and so in what the rebuild copies afterwards. */
static void layers_send_io(struct leg *leg, uint8_t opcode, uint64_t length)
{
	struct volume *volume = leg->volume;
	struct layers *layers = &leg->layers;
	struct wire_io wio = {
		.opcode = opcode,
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.wgen_low = (uint32_t)leg->cfg_wgen,
		.seq = ++volume->seq,
		.slba = layers->offset / volume->block_bytes,
		.block_count = length / volume->block_bytes,
	};
	bool has_data = opcode == WIRE_WRITE;

	layers->io.iov = (struct iovec){layers->buffer, length};
	layers->io.done = layers_io_done;
	layers->io.ctx = &layers->task;
	layers->io.pooled = true;
	leg_submit_io(leg, &layers->io, &wio, has_data ? &layers->io.iov : NULL, has_data);
}

/* ---- the source ---- */

/* Members that know it to be committed. */
static leg_mask layers_sources(const struct leg *leg)
{
	const struct volume *volume = leg->volume;
	leg_mask sources = volume_readable(volume) & ~LEG_BIT(leg);

	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->snapshot.kept < leg->layers.number) {
			sources &= ~LEG_BIT(volume->legs[i]);
		}
	}
	return sources;
}

static bool layers_ask(struct leg *leg, bool admin)
{
	struct volume *volume = leg->volume;
	struct layers *layers = &leg->layers;
	leg_mask sources = layers_sources(leg) & ~layers->tried;
	struct leg *source;
	struct leg_io *lio = &layers->read_io;
	struct wire_io wio = {
		.opcode = WIRE_READ,
		.seq = volume->seq,
		.slba = layers->offset / volume->block_bytes,
		.block_count = layers->length / volume->block_bytes,
		.snapshot = (uint32_t)layers->number,
	};

	if (sources == 0) {
		return false;
	}
	source = volume->legs[__builtin_ctz(sources)];
	lio->done = layers_io_done;
	lio->ctx = &layers->task;
	lio->pooled = true;
	if (admin) {
		memset(&lio->cmd, 0, sizeof(lio->cmd));
		lio->cmd.sqe.opcode = WIRE_SNAPSHOT_LIST;
		lio->cmd.sqe.cdw10 = (uint32_t)layers->number - 1;
		lio->iov = (struct iovec){layers->buffer, WIRE_SNAPSHOT_LIST_SIZE};
		leg_submit(source, lio, true, &lio->iov, 1);
		return true;
	}
	wio.nsid = source->voter.nsid;
	wio.session = source->session;
	lio->iov = (struct iovec){layers->buffer, layers->length};
	leg_submit_io(source, lio, &wio, &lio->iov, 1);
	return true;
}

/* The answer to LIST: the id of the layer. */
static bool layers_take_id(struct leg *leg)
{
	struct wire_snapshot_list list;

	if (leg->layers.read_io.result != LEG_OK ||
		wire_snapshot_list_decode(leg->layers.buffer, &list) != 0 || list.count == 0 ||
		list.snapshots[0].number != leg->layers.number) {
		return false;
	}
	leg->layers.id = list.snapshots[0].id;
	return true;
}

/* ---- one piece ---- */

static bool layers_has_piece(struct leg *leg)
{
	struct layers *layers = &leg->layers;

	if (!layers_go_on(leg) || layers->io.result != LEG_OK ||
		layers->offset >= leg->volume->size_bytes) {
		return false;
	}
	layers->length = min_u64(LAYER_PIECE_BYTES, leg->volume->size_bytes - layers->offset);
	if (layers->offset < layers->blocks_until) {
		layers->length = leg->volume->block_bytes;
	}
	if (!layers_ask(leg, false)) {
		layers->io.result = LEG_IO; /* nobody can give it now: the attempt ends */
		return false;
	}
	return true;
}

/* A member did not give the piece.  true: none has it, a single block, and all were asked. */
static bool layers_is_lost(struct leg *leg)
{
	const struct volume *volume = leg->volume;
	struct layers *layers = &leg->layers;
	leg_mask members = volume->member_mask & ~volume_out_mask(volume);
	leg_mask bit = LEG_BIT(layers->read_io.leg);

	layers->tried |= bit;
	layers->unread |= layers->read_io.result == LEG_MEDIA ? bit : 0;
	if ((layers_sources(leg) & ~layers->tried) != 0) {
		return false; /* the next one is asked */
	}
	if (layers->length > volume->block_bytes) {
		layers->blocks_until = layers->offset + layers->length;
		layers->tried = layers->unread = 0;
		return false;
	}
	snprintf(leg->failure, sizeof(leg->failure),
		"lacks snapshot %llu: its block at %llu cannot be read on any replica in sync",
		(unsigned long long)layers->number, (unsigned long long)layers->offset);
	/* Who is just not reached, or is told of it only now, may have it. */
	if (members == 0 || (members & ~layers->unread) != 0) {
		layers->io.result = LEG_IO;
		return false;
	}
	log_error(&volume->io->log, "nexus", "snapshot-block-lost",
		"volume=%s snapshot=%llu offset=%llu length=%u", volume->options.name,
		(unsigned long long)layers->number, (unsigned long long)layers->offset,
		volume->block_bytes);
	return true;
}

/* false: it was not read, and there is nothing to mark. */
static bool layers_write(struct leg *leg)
{
	struct layers *layers = &leg->layers;
	uint8_t opcode = WIRE_WRITE_UNCORRECTABLE;

	if (!layers_go_on(leg)) {
		layers->io.result = LEG_IO;
		return false;
	}
	if (layers->read_io.result == LEG_OK) {
		opcode = bytes_are_zero(layers->buffer, layers->length) ? WIRE_DISCARD : WIRE_WRITE;
	} else if (!layers_is_lost(leg)) {
		return false;
	}
	checkpoint_note_written(leg->volume, layers->offset, layers->length);
	layers_send_io(leg, opcode, layers->length);
	return true;
}

static void layers_go_to_next(struct leg *leg)
{
	struct layers *layers = &leg->layers;

	layers->offset += layers->length;
	layers->tried = layers->unread = 0;
}

/* ---- the ladder ---- */

static bool layers_get_buffer(struct leg *leg)
{
	struct bufpool *buffers = leg->volume->nexus->buffers;

	if (leg->layers.buffer == NULL) {
		leg->layers.buffer = bufpool_get(buffers, LAYER_PIECE_BYTES);
		if (leg->layers.buffer == NULL) {
			bufpool_wait(buffers, &leg->layers.waiter, &leg->layers.task);
		}
	}
	return leg->layers.buffer != NULL;
}

static void layers_put_buffer(struct leg *leg)
{
	bufpool_unwait(&leg->layers.waiter);
	if (leg->layers.buffer != NULL) {
		bufpool_put(leg->volume->nexus->buffers, leg->layers.buffer, LAYER_PIECE_BYTES);
		leg->layers.buffer = NULL;
	}
}

static bool layers_may_follow(const struct leg *leg)
{
	return layers_go_on(leg) && leg->layers.io.result == LEG_OK;
}

/* Begins with the oldest one that is missing; false: not now. */
static bool layers_begin_one(struct leg *leg)
{
	struct layers *layers = &leg->layers;

	layers->number = leg->snapshot.kept + 1;
	layers->offset = layers->blocks_until = 0;
	layers->tried = layers->unread = 0;
	snprintf(leg->failure, sizeof(leg->failure), "lacks snapshot %llu: it is being copied",
		(unsigned long long)layers->number);
	if (!layers_go_on(leg) || layers->buffer == NULL || !layers_ask(leg, true)) {
		layers->io.result = LEG_IO;
		return false;
	}
	return true;
}

/* The answer to RESOLVE: what is there. */
static void layers_take_kept(struct leg *leg)
{
	if (layers_may_follow(leg)) {
		leg->snapshot.kept = leg->layers.io.cmd.dw01;
	}
}

static void layers_end(struct leg *leg)
{
	struct layers *layers = &leg->layers;

	layers_put_buffer(leg);
	layers->state = LAYERS_DONE;
	if (layers->number != 0 && layers_are_complete(leg)) {
		leg->failure[0] = '\0';
		log_info(&leg->volume->io->log, "nexus", "layers-copied",
			"volume=%s replica=%u snapshots=%llu", leg->volume->options.name,
			leg->index, (unsigned long long)leg->snapshot.kept);
	}
	task_wake(&leg->rebuild_task);
}

void layers_step(struct task *task)
{
	struct leg *leg = container_of(task, struct leg, layers.task);
	struct layers *layers = &leg->layers;

	volume_works(leg->volume, TRACE_WORK_REBUILD);
	switch (layers->state) {
	case LAYERS_START:
		/* It was begun in an earlier turn. */
		if (layers_go_on(leg)) {
			layers_send(leg, WIRE_SNAPSHOT_RESOLVE,
				mutant_is(MUTANT_SNAPSHOT_TARGET) ? leg->volume->cfg.snap_seq : 0);
			AWAIT(layers, LAYERS_AWAIT_RESOLVED, !layers->io.busy);
			layers_take_kept(leg);
		}
		while (layers_are_missing(leg)) {
			AWAIT(layers, LAYERS_AWAIT_BUFFER,
				layers_get_buffer(leg) || !layers_go_on(leg));
			if (layers_begin_one(leg)) {
				AWAIT(layers, LAYERS_AWAIT_LIST, !layers->read_io.busy);
				if (!layers_take_id(leg)) {
					layers->io.result = LEG_IO;
				}
			}
			while (layers_has_piece(leg)) {
				AWAIT(layers, LAYERS_AWAIT_READ, !layers->read_io.busy);
				if (layers_write(leg)) {
					AWAIT(layers, LAYERS_AWAIT_WRITTEN, !layers->io.busy);
					layers_go_to_next(leg);
				}
			}
			if (layers_may_follow(leg) && !mutant_is(MUTANT_SNAPSHOT_LAYER)) {
				layers_send_io(leg, WIRE_FLUSH, 0);
				AWAIT(layers, LAYERS_AWAIT_FLUSHED, !layers->io.busy);
			}
			if (layers_may_follow(leg)) {
				layers_send(leg, WIRE_SNAPSHOT_PREPARE, layers->number);
				AWAIT(layers, LAYERS_AWAIT_PREPARED, !layers->io.busy);
			}
			if (layers_may_follow(leg) && !mutant_is(MUTANT_SNAPSHOT_LAYER)) {
				layers_send_io(leg, WIRE_FLUSH, 0);
				AWAIT(layers, LAYERS_AWAIT_DURABLE, !layers->io.busy);
			}
			if (layers_may_follow(leg)) {
				layers_send(leg, WIRE_SNAPSHOT_RESOLVE, layers->number);
				AWAIT(layers, LAYERS_AWAIT_KEPT, !layers->io.busy);
				layers_take_kept(leg);
			}
		}
		layers_end(leg);
		return;
	case LAYERS_DONE:
		return;
	}
}

void layers_begin(struct leg *leg)
{
	struct layers *layers = &leg->layers;

	if (!leg->answer.snapshots) {
		leg->snapshot.kept = 0;
		if (leg->volume->cfg.snap_seq > 0) {
			snprintf(leg->failure, sizeof(leg->failure),
				"lacks snapshot 1: its pool needs pool format 1");
		}
		return;
	}
	layers->incarnation = leg->volume->incarnation;
	layers->session = leg->session;
	layers->number = 0;
	layers->state = LAYERS_START;
	task_wake(&layers->task);
}
