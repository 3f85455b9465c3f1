/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raises clean (docs/protocol.md 1.2), here and nowhere else but in grow: when no write of an older
 * wgen is under way, all of S is flushed and told that what is stamped below the present wgen is
 * clean.  That is so after each opening, when R is empty, and after a checkpoint, which is nothing
 * but a configuration with the next wgen: proposed when the present one is old and many of its
 * regions are not written any more.  Never while members may differ (R), one of them is
 * unreachable, a change of S is open, a target joins or a block is being repaired.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#define RAISE_RETRY_NS (100 * IO_NS_PER_MS)

static bool checkpoint_ends(const struct volume *volume)
{
	return volume->ending || volume->superseded;
}

/* The volume was opened anew, or ends: what was begun means nothing any more. */
static bool raise_is_over(const struct volume *volume)
{
	return volume_is_dead(volume) || !volume->serving ||
	       volume->raise_incarnation != volume->incarnation;
}

static bool volume_is_quiet(const struct volume *volume)
{
	leg_mask out = volume_out_mask(volume);

	if (mutant_is(MUTANT_B9)) {
		return true;
	}
	if (mutant_is(MUTANT_CLEAN_BESIDE_OUT)) {
		out = 0;
	}
	return (volume->resync.count == 0 || mutant_is(MUTANT_B14)) && !volume->proposal_open &&
	       volume->joiner == NULL && list_is_empty(&volume->repairs) &&
	       volume->repairer.repair == NULL &&
	       (volume->member_mask & (out | ~volume_ready_mask(volume))) == 0;
}

/* ---- when a checkpoint is worth it ---- */

void checkpoint_note_written(struct volume *volume, uint64_t offset, uint64_t length)
{
	piecemap_set(&volume->written, offset, length);
	piecemap_set(&volume->recent, offset, length);
}

void checkpoint_wgen_began(struct volume *volume, uint64_t wgen)
{
	volume->wgen = wgen;
	volume->wgen_since_ns = io_now_ns(volume->io);
	volume->checkpoint_pays = false;
	piecemap_add(&volume->retiring, &volume->written);
	piecemap_clear(&volume->written);
	piecemap_clear(&volume->recent);
	io_timer_start_after(&volume->checkpoint_timer, volume->checkpoint_ns / 2);
}

uint64_t checkpoint_active_regions(const struct volume *volume)
{
	const struct piecemap *written = &volume->written;
	uint64_t count = volume->retiring.count;

	for (uint64_t at = piecemap_next(written, 0); at != UINT64_MAX;
		at = piecemap_next(written, at + 1)) {
		count += !piecemap_test(&volume->retiring, at * written->piece_bytes,
			piecemap_piece_length(written, at));
	}
	return count;
}

/* Every half period: regions that were written under this wgen, but not since the last look, would
 * be retired; the others would only get a new stamp. */
static void checkpoint_look(struct volume *volume)
{
	uint64_t written = volume->written.count;
	uint64_t retired = written - volume->recent.count;
	uint64_t age_ns = io_now_ns(volume->io) - volume->wgen_since_ns;

	if (io_timer_is_running(&volume->checkpoint_timer)) {
		return;
	}
	volume->checkpoint_pays =
		age_ns >= volume->checkpoint_ns && written > 0 && 2 * retired >= written;
	piecemap_clear(&volume->recent);
	io_timer_start_after(&volume->checkpoint_timer, volume->checkpoint_ns / 2);
}

/* S does not agree yet that everything below the present wgen is clean. */
static bool clean_is_behind(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if ((volume->member_mask & LEG_BIT(leg)) && leg->clean < volume->wgen - 1) {
			return true;
		}
	}
	return false;
}

static bool raise_is_due(struct volume *volume)
{
	return clean_is_behind(volume) &&
	       (!ops_of_older_wgen_run(volume) || mutant_is(MUTANT_CLEAN_OLDER));
}

static bool checkpoint_is_due(struct volume *volume)
{
	return volume->checkpoint_pays && volume->wgen_proposed == volume->wgen &&
	       !clean_is_behind(volume);
}

static bool checkpoint_has_cause(struct volume *volume)
{
	if (!volume->serving || volume_is_dead(volume)) {
		return false;
	}
	checkpoint_look(volume);
	return volume_is_quiet(volume) && (raise_is_due(volume) || checkpoint_is_due(volume));
}

/* From here on every proposal carries it. */
static void checkpoint_begin(struct volume *volume)
{
	volume->wgen_proposed = volume->wgen + 1;
	log_info(&volume->io->log, "nexus", "checkpoint", "volume=%s wgen=%llu regions=%llu",
		volume->options.name, (unsigned long long)volume->wgen_proposed,
		(unsigned long long)volume->written.count);
	membership_wake(volume);
}

/* ---- commands to the members ---- */

static void raise_cmd_done(struct leg_io *lio)
{
	struct volume *volume = lio->leg->volume;

	volume->raise_pending &= ~LEG_BIT(lio->leg);
	if (lio->result == LEG_OK) {
		volume->raise_ok |= LEG_BIT(lio->leg);
	} else if (lio->result == LEG_IO) {
		leg_fail(lio->leg, "flush failed");
	}
	task_wake(&volume->checkpoint_task);
}

static void raise_send_one(struct volume *volume, struct leg *leg, uint8_t opcode, uint64_t clean)
{
	struct leg_io *lio = &volume->raise_ios[leg->index];
	struct wire_io flush = {
		.opcode = WIRE_FLUSH,
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.wgen_low = (uint32_t)volume->wgen,
		.seq = volume->seq,
	};

	lio->done = raise_cmd_done;
	volume->raise_pending |= LEG_BIT(leg);
	if (opcode == WIRE_FLUSH) {
		leg_submit_io(leg, lio, &flush, NULL, 0);
		return;
	}
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = WIRE_MARK;
	lio->cmd.sqe.cdw10 = (uint32_t)clean;
	lio->cmd.sqe.cdw11 = (uint32_t)(clean >> 32);
	leg_submit(leg, lio, true, NULL, 0);
}

static void raise_send_all(struct volume *volume, uint8_t opcode)
{
	uint64_t clean = mutant_is(MUTANT_B9) ? volume->wgen : volume->wgen - 1;

	volume->raise_ok = 0;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if ((volume->member_mask & LEG_BIT(leg)) && leg->ready && !leg->refence &&
			!volume->raise_ios[i].busy) {
			raise_send_one(volume, leg, opcode, clean);
		}
	}
}

static void raise_flush(struct volume *volume)
{
	if (mutant_is(MUTANT_B13)) {
		volume->raise_ok = volume->member_mask; /* Deliberate bug: without it. */
		return;
	}
	raise_send_all(volume, WIRE_FLUSH);
}

static bool raise_is_answered(const struct volume *volume)
{
	return (volume->raise_pending & volume_ready_mask(volume)) == 0 || raise_is_over(volume);
}

/* All of an S that has not changed meanwhile completed it. */
static bool raise_all_agreed(const struct volume *volume)
{
	return !raise_is_over(volume) && volume_is_quiet(volume) &&
	       cfg_equal(&volume->raise_cfg, &volume->cfg) &&
	       (volume->member_mask & ~volume->raise_ok) == 0;
}

static void raise_note_clean(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (volume->raise_ok & LEG_BIT(leg)) {
			leg->clean = max_u64(leg->clean, volume->wgen - 1);
			resynced_owe(leg);
		}
	}
	if (!clean_is_behind(volume)) {
		piecemap_clear(&volume->retiring);
		log_info(&volume->io->log, "nexus", "clean", "volume=%s clean=%llu",
			volume->options.name, (unsigned long long)volume->wgen - 1);
	}
}

void checkpoint_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, checkpoint_task);

	volume_works(volume, TRACE_WORK_CHECKPOINT);
	switch (volume->checkpoint_state) {
	case CHECKPOINT_START:
		for (;;) {
			AWAIT_AT(volume->checkpoint_state, CHECKPOINT_AWAIT_CAUSE,
				checkpoint_has_cause(volume) || checkpoint_ends(volume));
			if (checkpoint_ends(volume)) {
				break;
			}
			if (!raise_is_due(volume)) {
				checkpoint_begin(volume);
				continue;
			}
			volume->raise_incarnation = volume->incarnation;
			volume->raise_cfg = volume->cfg;
			raise_flush(volume);
			AWAIT_AT(volume->checkpoint_state, CHECKPOINT_AWAIT_FLUSHED,
				raise_is_answered(volume));
			if (raise_all_agreed(volume)) {
				raise_send_all(volume, WIRE_MARK);
				AWAIT_AT(volume->checkpoint_state, CHECKPOINT_AWAIT_MARKED,
					raise_is_answered(volume));
			}
			if (!raise_all_agreed(volume)) {
				io_timer_start_after(&volume->raise_timer, RAISE_RETRY_NS);
				AWAIT_AT(volume->checkpoint_state, CHECKPOINT_AWAIT_RETRY,
					!io_timer_is_running(&volume->raise_timer) ||
						checkpoint_ends(volume));
				continue;
			}
			raise_note_clean(volume);
		}
		io_timer_stop(&volume->checkpoint_timer);
		io_timer_stop(&volume->raise_timer);
		volume->checkpoint_state = CHECKPOINT_DONE;
		task_wake(&volume->close_task);
		return;
	case CHECKPOINT_DONE:
		return;
	}
}
