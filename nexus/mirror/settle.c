/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After R is empty (docs/protocol.md 1.5, end): flush all of S, raise clean to the write generation
 * before ours, tell RESYNCED.  Never while a member is unreachable or a change of the configuration
 * is open (1.2).
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

static bool settle_ends(const struct volume *volume)
{
	return volume->ending || volume->superseded;
}

/* The volume was opened anew, or ends: what was begun means nothing any more. */
static bool settle_is_over(const struct volume *volume)
{
	return volume_is_dead(volume) || !volume->serving ||
	       volume->settle_incarnation != volume->incarnation;
}

static bool settle_is_quiet(const struct volume *volume)
{
	if (mutant_is(MUTANT_B9)) {
		return true;
	}
	return volume->resync.count == 0 && !volume->proposal_open && volume->joiner == NULL &&
	       (volume->member_mask & (volume_out_mask(volume) | ~volume_ready_mask(volume))) == 0;
}

static bool settle_is_due(struct volume *volume)
{
	return volume->serving && !volume_is_dead(volume) &&
	       volume->settled_incarnation != volume->incarnation && settle_is_quiet(volume);
}

static void settle_cmd_done(struct leg_io *lio)
{
	struct volume *volume = lio->leg->volume;

	volume->settle_pending &= ~LEG_BIT(lio->leg);
	if (lio->result == LEG_OK) {
		volume->settle_ok |= LEG_BIT(lio->leg);
	} else if (lio->result == LEG_IO) {
		leg_fail(lio->leg, "flush failed");
	}
	task_wake(&volume->settle_task);
}

static void settle_send_one(struct volume *volume, struct leg *leg, uint8_t opcode, uint64_t clean)
{
	struct leg_io *lio = &volume->settle_ios[leg->index];
	struct wire_io flush = {
		.opcode = WIRE_FLUSH,
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.wgen_low = (uint32_t)volume->wgen,
		.seq = volume->seq,
	};

	lio->done = settle_cmd_done;
	volume->settle_pending |= LEG_BIT(leg);
	if (opcode == WIRE_FLUSH) {
		leg_submit_io(leg, lio, &flush, NULL, 0);
		return;
	}
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = opcode;
	if (opcode == WIRE_MARK) {
		lio->cmd.sqe.cdw10 = (uint32_t)clean;
		lio->cmd.sqe.cdw11 = (uint32_t)(clean >> 32);
	} else {
		lio->cmd.sqe.cdw10 = (uint32_t)leg->answer.boot;
		lio->cmd.sqe.cdw11 = (uint32_t)(leg->answer.boot >> 32);
	}
	leg_submit(leg, lio, true, NULL, 0);
}

static void settle_send_all(struct volume *volume, uint8_t opcode)
{
	uint64_t clean = mutant_is(MUTANT_B9) ? volume->wgen : volume->wgen - 1;

	volume->settle_ok = 0;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if ((volume->member_mask & LEG_BIT(leg)) && leg->ready && !leg->refence &&
			!volume->settle_ios[i].busy) {
			settle_send_one(volume, leg, opcode, clean);
		}
	}
}

static bool settle_is_answered(const struct volume *volume)
{
	return (volume->settle_pending & volume_ready_mask(volume)) == 0 || settle_is_over(volume);
}

/* All of an S that has not changed meanwhile completed it. */
static bool settle_all_agreed(const struct volume *volume)
{
	return settle_is_quiet(volume) && cfg_equal(&volume->settled_cfg, &volume->cfg) &&
	       (volume->member_mask & ~volume->settle_ok) == 0;
}

static void settle_note_clean(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (volume->settle_ok & LEG_BIT(leg)) {
			leg->clean = max_u64(leg->clean, volume->wgen - 1);
		}
	}
}

void settle_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, settle_task);

	volume_works(volume, TRACE_WORK_SETTLE);
	switch (volume->settle_state) {
	case SETTLE_START:
		for (;;) {
			AWAIT_AT(volume->settle_state, SETTLE_AWAIT_DUE,
				settle_is_due(volume) || settle_ends(volume));
			if (settle_ends(volume)) {
				break;
			}
			volume->settle_incarnation = volume->incarnation;
			volume->settled_cfg = volume->cfg;
			settle_send_all(volume, WIRE_FLUSH);
			AWAIT_AT(volume->settle_state, SETTLE_AWAIT_FLUSHED,
				settle_is_answered(volume));
			if (settle_is_over(volume) || !settle_all_agreed(volume)) {
				continue;
			}
			settle_send_all(volume, WIRE_MARK);
			AWAIT_AT(volume->settle_state, SETTLE_AWAIT_MARKED,
				settle_is_answered(volume));
			if (settle_is_over(volume)) {
				continue;
			}
			settle_note_clean(volume);
			settle_send_all(volume, WIRE_RESYNCED);
			AWAIT_AT(volume->settle_state, SETTLE_AWAIT_RESYNCED,
				settle_is_answered(volume));
			volume->settled_incarnation = volume->settle_incarnation;
		}
		volume->settle_state = SETTLE_DONE;
		task_wake(&volume->close_task);
		return;
	case SETTLE_DONE:
		return;
	}
}
