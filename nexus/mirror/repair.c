/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that a member cannot read from its disk.  Each block of a range is read from all members;
 * who could not read it gets what another one has, as an ordinary stamped write in its place, under
 * the range lock: a host write that came between would be undone.  In R all members get the same.
 * What nobody can read stays so: reads of it end in an error.  Where a replica could show something
 * else there, it is marked, as an ordinary stamped write (WRITE UNCORRECTABLE): all members in R,
 * and the target of a rebuild.  That gets the piece here, block by block, whatever was found: a disk
 * that refuses long reads, or each second one, would be asked for the piece again without end.
 *
 * One repairer a volume, one block at a time: this is rare.  It passes parked writes as copies do,
 * for a rebuild may wait for it that alone can end their wait.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

/* A disk may succeed at the next try. */
#define REPAIR_ATTEMPTS 3

static bool repairer_ends(const struct repairer *repairer)
{
	return repairer->volume->ending || repairer->volume->superseded;
}

static bool repairer_is_valid(const struct repairer *repairer)
{
	const struct volume *volume = repairer->volume;

	return volume->serving && !volume_is_dead(volume) &&
	       repairer->incarnation == volume->incarnation;
}

bool repair_start(struct volume *volume, struct repair *repair, uint64_t offset, uint64_t length,
	struct task *task)
{
	struct repairer *repairer = &volume->repairer;

	assert(!repair->busy);
	if (!volume->serving || volume_is_dead(volume) || repairer->state == REPAIR_AWAIT_PENDING ||
		repairer->state == REPAIR_DONE) {
		return false; /* a stuck disk has the buffers: the next read finds it again */
	}
	repair->offset = offset;
	repair->length = length;
	repair->task = task;
	repair->busy = true;
	repair->complete = true;
	repair->unreadable = 0;
	repair->unmarked = false;
	list_push_back(&volume->repairs, &repair->node);
	task_wake(&repairer->task);
	return true;
}

static void repair_end(struct repair *repair)
{
	repair->busy = false;
	task_wake(repair->task);
}

static bool repairer_take(struct repairer *repairer)
{
	struct list_node *node = list_pop_front(&repairer->volume->repairs);

	if (node == NULL) {
		return false;
	}
	repairer->repair = container_of(node, struct repair, node);
	repairer->at = repairer->repair->offset;
	repairer->attempt = 0;
	repairer->filling = false;
	repairer->incarnation = repairer->volume->incarnation;
	return true;
}

static bool repairer_has_more(const struct repairer *repairer)
{
	return repairer->at < repairer->repair->offset + repairer->repair->length;
}

/* The next block, or the same one; or the first one again: the range is to be filled. */
static void repairer_go_on(struct repairer *repairer)
{
	struct repair *repair = repairer->repair;

	if (repairer->again) {
		return;
	}
	repairer->at += repairer->volume->block_bytes;
	repairer->attempt = 0;
	if (!repairer_has_more(repairer) && !repairer->filling && repair->fill != 0 &&
		repair->complete) {
		repairer->filling = true;
		repairer->at = repair->offset;
		repair->unreadable = 0;
	}
}

static bool repairer_get_buffer(struct repairer *repairer)
{
	struct bufpool *buffers = repairer->volume->nexus->buffers;

	if (repairer->buffer == NULL) {
		repairer->buffer = bufpool_get(buffers, REPAIR_BUFFER_BYTES);
	}
	if (repairer->buffer == NULL) {
		bufpool_wait(buffers, &repairer->waiter, &repairer->task);
	}
	return repairer->buffer != NULL;
}

static void repairer_put_buffer(struct repairer *repairer)
{
	bufpool_unwait(&repairer->waiter);
	if (repairer->buffer != NULL) {
		bufpool_put(
			repairer->volume->nexus->buffers, repairer->buffer, REPAIR_BUFFER_BYTES);
		repairer->buffer = NULL;
	}
}

static void repairer_lock(struct repairer *repairer)
{
	if (repairer->lock.held) {
		return; /* filling: until the end */
	}
	repairer->lock.offset = repairer->at;
	repairer->lock.length =
		repairer->filling ? repairer->repair->length : repairer->volume->block_bytes;
	repairer->lock.exclusive = true;
	repairer->lock.internal = true;
	if (mutant_is(MUTANT_R1)) {
		repairer->lock.held = true; /* Deliberate bug: host writes go on meanwhile. */
		return;
	}
	range_lock_acquire(&repairer->volume->locks, &repairer->lock, &repairer->task);
}

static void repairer_unlock(struct repairer *repairer)
{
	struct repair *repair = repairer->repair;
	bool goes_on = repairer_is_valid(repairer) && repairer->pending == 0 && repair->complete;

	bool whole = repairer->filling && repairer->lock.length == repair->length;

	if (whole && goes_on && repairer_has_more(repairer)) {
		return;
	}
	if (whole && goes_on) {
		/* Host writes that were left to the copy are in what it got. */
		repair->filled(repair);
	}
	range_lock_release(&repairer->volume->locks, &repairer->lock);
	repairer->lock.held = false;
	ops_revisit(repairer->volume);
}

/* ---- one block ---- */

static void repair_io_done(struct leg_io *lio)
{
	struct repairer *repairer = lio->ctx;
	leg_mask bit = LEG_BIT(lio->leg);

	repairer->pending &= ~bit;
	if (lio->result == LEG_OK) {
		repairer->ok |= bit;
	} else if (repairer->marking && (lio->cmd.status == WIRE_STATUS_MARKS_FULL ||
						lio->cmd.status == NVME_SC_INVALID_OPCODE)) {
		repairer->unmarked |= bit;
	} else if (lio->result == LEG_MEDIA) {
		repairer->unread |= bit;
	}
	task_wake(&repairer->task);
}

static void repairer_send(struct repairer *repairer, leg_mask legs, uint8_t opcode, uint8_t *data)
{
	struct volume *volume = repairer->volume;

	repairer->ok = repairer->unread = repairer->unmarked = 0;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];
		struct leg_io *lio = &repairer->ios[i];
		bool reads = opcode == WIRE_READ;
		bool has_data = reads || opcode == WIRE_WRITE;
		struct wire_io wio = {
			.opcode = opcode,
			.nsid = leg->voter.nsid,
			.session = leg->session,
			.wgen_low = (uint32_t)volume->wgen,
			.seq = reads ? volume->seq : volume->seq + 1,
			.slba = repairer->at / volume->block_bytes,
			.block_count = 1,
		};

		if (!(legs & LEG_BIT(leg)) || !leg->ready || leg->refence) {
			continue;
		}
		volume->seq = wio.seq;
		lio->iov.iov_base = reads ? data + (size_t)i * volume->block_bytes : data;
		lio->iov.iov_len = volume->block_bytes;
		lio->done = repair_io_done;
		lio->ctx = repairer;
		lio->pooled = true;
		repairer->pending |= LEG_BIT(leg);
		metric_inc(reads ? &leg->reads : &leg->writes, 1);
		leg_submit_io(leg, lio, &wio, has_data ? &lio->iov : NULL, has_data ? 1 : 0);
	}
}

static void repairer_send_reads(struct repairer *repairer)
{
	struct volume *volume = repairer->volume;

	repairer->readers = volume_readable(volume) &
			    ops_complete_on(volume, repairer->at, volume->block_bytes);
	repairer_send(repairer, repairer->readers, WIRE_READ, repairer->buffer);
}

/* Nobody who still counts is waited for. */
static bool repairer_is_answered(const struct repairer *repairer)
{
	return (repairer->pending & volume_ready_mask(repairer->volume)) == 0 ||
	       !repairer_is_valid(repairer);
}

/* Nobody has it.  true: somebody is to be marked, who might show something else. */
static bool repairer_give_up_block(struct repairer *repairer)
{
	struct volume *volume = repairer->volume;
	struct repair *repair = repairer->repair;
	leg_mask members = volume->member_mask & ~volume_out_mask(volume);

	if (repair->equalise) {
		/* One that is on its way back is not read from yet. */
		members |= volume_needed(volume);
	}
	/* Who is just not reached may have it. */
	if (repairer->unread == 0 || repairer->unread != repairer->readers ||
		(members & ~repairer->readers) != 0) {
		repair->complete = false;
		return false;
	}
	if (++repairer->attempt < REPAIR_ATTEMPTS) {
		repairer->again = true;
		return false;
	}
	repair->unreadable++;
	metric_inc(&volume->unreadable, !repairer->filling);
	if (lost_note(volume, repairer->at)) {
		log_error(&volume->io->log, "nexus", "block-lost",
			"volume=%s offset=%llu length=%u", volume->options.name,
			(unsigned long long)repairer->at, volume->block_bytes);
	}
	repairer->marking = true;
	repairer->bad = 0;
	if (repair->equalise) {
		repairer->destinations = copy_members(volume, repairer->at, volume->block_bytes);
	} else if (repairer->filling) {
		repairer->destinations = repair->fill;
	}
	return repairer->destinations != 0;
}

/* true: there is something to write. */
static bool repairer_judge_reads(struct repairer *repairer)
{
	struct volume *volume = repairer->volume;
	struct repair *repair = repairer->repair;
	bool all = repair->equalise || lost_touches(volume, repairer->at, volume->block_bytes);

	repairer->destinations = 0;
	repairer->marking = false;
	if (!repairer_is_valid(repairer)) {
		return false;
	}
	if (repairer->ok == 0) {
		return repairer_give_up_block(repairer);
	}
	lost_forget(volume, repairer->at, volume->block_bytes);
	repairer->source = __builtin_ctz(repairer->ok);
	repairer->destinations = repairer->unread;
	if (all) {
		repairer->destinations |= copy_members(volume, repairer->at, volume->block_bytes) &
					  ~((leg_mask)1 << repairer->source);
	}
	if (repairer->filling) {
		repairer->destinations |= repair->fill;
	}
	repairer->bad = repairer->unread;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (repairer->unread & (leg_mask)1 << i) {
			eject_unread(volume->legs[i]);
		}
	}
	return repairer->destinations != 0;
}

static void repairer_send_writes(struct repairer *repairer)
{
	struct volume *volume = repairer->volume;
	uint8_t *from = repairer->buffer + (size_t)repairer->source * volume->block_bytes;
	bool zero = bytes_are_zero(from, volume->block_bytes);

	checkpoint_note_written(volume, repairer->at, volume->block_bytes);
	if (repairer->marking && !mutant_is(MUTANT_GARBAGE_AFTER_BAD)) {
		repairer_send(repairer, repairer->destinations, WIRE_WRITE_UNCORRECTABLE, NULL);
		return;
	}
	repairer_send(repairer, repairer->destinations,
		zero || repairer->marking ? WIRE_DISCARD : WIRE_WRITE, from);
}

/*
 * Who took no mark may show something tomorrow.  One of S may (or a target that has had every write
 * there): what it shows is the block then, and the others, who show nothing, get it.  Two might show
 * different things, one after the other.  What a rebuild is to bring has nothing that may be shown.
 */
static bool repairer_is_unmarked(const struct repairer *repairer)
{
	return mask_count(repairer->unmarked) > (repairer->filling ? 0 : 1);
}

static void repairer_judge_writes(struct repairer *repairer)
{
	struct volume *volume = repairer->volume;

	if ((repairer->destinations & ~(repairer->ok | repairer->unmarked)) != 0) {
		repairer->repair->complete = false;
	}
	repairer->repair->unmarked |= repairer_is_unmarked(repairer);
	volume->acked++; /* reads rely on it: lost with the power like a write */
	for (unsigned i = 0; i < volume->leg_count && repairer_is_valid(repairer); i++) {
		struct leg *leg = volume->legs[i];
		bool wanted = (repairer->destinations & LEG_BIT(leg)) != 0;
		enum leg_result result = repairer->ios[i].result;

		if (wanted && (repairer->ok & LEG_BIT(leg))) {
			metric_inc(&leg->repairs, (repairer->bad & LEG_BIT(leg)) != 0);
		} else if (wanted && !((repairer->pending | repairer->unmarked) & LEG_BIT(leg)) &&
			   (result == LEG_IO || result == LEG_NOSPC)) {
			leg_fail(leg, result == LEG_NOSPC ? "pool full" : "I/O error at a repair");
		}
	}
}

/* ---- the ladder ---- */

static void repairer_end_repair(struct repairer *repairer)
{
	struct repair *repair = repairer->repair;
	const struct volume *volume = repairer->volume;

	repair->complete =
		repair->complete && repairer_is_valid(repairer) && !repairer_has_more(repairer);
	log_info(&volume->io->log, "nexus", "repaired",
		"volume=%s offset=%llu length=%llu unreadable=%llu complete=%u",
		volume->options.name, (unsigned long long)repair->offset,
		(unsigned long long)repair->length, (unsigned long long)repair->unreadable,
		repair->complete);
	repairer->repair = NULL;
	repair_end(repair);
	task_wake(&repairer->volume->checkpoint_task);
	task_wake(&repairer->volume->snapshotter.task);
}

/* A disk is stuck, or nothing goes on: nobody waits for that. */
static void repairer_end_all(struct repairer *repairer)
{
	if (repairer->repair != NULL) {
		repairer_end_repair(repairer);
	}
	while (repairer_take(repairer)) {
		repairer->repair->complete = false;
		repairer_end_repair(repairer);
	}
}

void repairer_step(struct task *task)
{
	struct repairer *repairer = container_of(task, struct repairer, task);

	switch (repairer->state) {
	case REPAIR_START:
		for (;;) {
			AWAIT(repairer, REPAIR_AWAIT_WORK,
				repairer_take(repairer) || repairer_ends(repairer));
			if (repairer->repair == NULL) {
				break;
			}
			while (repairer_has_more(repairer) && repairer_is_valid(repairer)) {
				AWAIT(repairer, REPAIR_AWAIT_BUFFER,
					repairer_get_buffer(repairer) ||
						!repairer_is_valid(repairer));
				repairer->again = false;
				repairer_lock(repairer);
				AWAIT(repairer, REPAIR_AWAIT_LOCK,
					repairer->lock.held || !repairer_is_valid(repairer));
				if (repairer_is_valid(repairer) && repairer->buffer != NULL) {
					repairer_send_reads(repairer);
					AWAIT(repairer, REPAIR_AWAIT_READS,
						repairer_is_answered(repairer));
					if (repairer_judge_reads(repairer)) {
						repairer_send_writes(repairer);
						AWAIT(repairer, REPAIR_AWAIT_WRITES,
							repairer_is_answered(repairer));
						repairer_judge_writes(repairer);
					}
				}
				repairer_go_on(repairer);
				repairer_unlock(repairer);
				if (repairer->pending != 0) {
					break;
				}
			}
			if (repairer->pending == 0) {
				repairer_end_repair(repairer);
				repairer_put_buffer(repairer);
				continue;
			}
			repairer->repair->complete = false;
			repairer_end_all(repairer);
			AWAIT(repairer, REPAIR_AWAIT_PENDING, repairer->pending == 0);
			repairer_put_buffer(repairer);
		}
		repairer->state = REPAIR_DONE;
		task_wake(&repairer->volume->close_task);
		return;
	case REPAIR_DONE:
		return;
	}
}

bool repairer_refers_to(const struct volume *volume, const struct leg *leg)
{
	const struct repairer *repairer = &volume->repairer;

	return repairer->repair != NULL &&
	       (repairer->source == (int)leg->index ||
		       ((repairer->readers | repairer->ok | repairer->unread | repairer->bad |
				repairer->destinations | repairer->pending |
				repairer->repair->fill) &
			       LEG_BIT(leg)) != 0);
}
