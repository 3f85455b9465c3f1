/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells members of S that their windows are worth something (docs/protocol.md 1.2): when R is
 * empty, and every command that was issued before this boot of the member began is on all of S.
 * Also again after each raise of clean: a window that became too large is valid again then.
 */
#include "nexus/mirror/volume_internal.h"

#define RESYNCED_RETRY_NS IO_NS_PER_S

void resynced_owe(struct leg *leg)
{
	leg->resynced = false;
	task_wake(&leg->volume->resynced_task);
}

void resynced_leg_came_up(struct leg *leg)
{
	struct volume *volume = leg->volume;

	if (leg->boot != leg->answer.boot || leg->boot_incarnation != volume->incarnation) {
		leg->boot = leg->answer.boot;
		leg->boot_incarnation = volume->incarnation;
		leg->boot_seq = volume->seq;
		leg->resynced = false;
	}
	if (!leg->answer.window_valid) {
		leg->resynced = false;
	}
}

static bool resynced_is_due(const struct leg *leg)
{
	const struct volume *volume = leg->volume;

	return (volume->member_mask & LEG_BIT(leg)) && !leg->resynced && leg->ready &&
	       !leg->refence && !leg->out && !leg->resynced_io.busy &&
	       volume_settled(volume) >= leg->boot_seq;
}

static bool resynced_any_is_due(struct volume *volume)
{
	if (!volume->serving || volume_is_dead(volume) || volume->resync.count > 0) {
		return false;
	}
	volume->resynced_waits = false;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (resynced_is_due(leg)) {
			return true;
		}
		if ((volume->member_mask & LEG_BIT(leg)) && !leg->resynced) {
			volume->resynced_waits = true;
		}
	}
	return false;
}

static void resynced_done(struct leg_io *lio)
{
	struct leg *leg = lio->leg;

	/* Refused: it has begun anew, or its window had lost a command that runs still. */
	if (lio->result != LEG_OK && leg->boot_incarnation == leg->volume->incarnation) {
		leg->resynced = false;
	}
	task_wake(&leg->volume->resynced_task);
}

static void resynced_send(struct leg *leg)
{
	struct leg_io *lio = &leg->resynced_io;
	uint64_t upto = volume_settled(leg->volume);

	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = WIRE_RESYNCED;
	lio->cmd.sqe.cdw10 = (uint32_t)leg->boot;
	lio->cmd.sqe.cdw11 = (uint32_t)(leg->boot >> 32);
	lio->cmd.sqe.cdw12 = (uint32_t)upto;
	lio->cmd.sqe.cdw13 = (uint32_t)(upto >> 32);
	lio->done = resynced_done;
	leg->resynced = true;
	leg_submit(leg, lio, true, NULL, 0);
}

static bool resynced_ends(const struct volume *volume)
{
	return volume->ending || volume->superseded;
}

void resynced_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, resynced_task);

	volume_works(volume, TRACE_WORK_RESYNCED);
	switch (volume->resynced_state) {
	case RESYNCED_START:
		for (;;) {
			AWAIT_AT(volume->resynced_state, RESYNCED_AWAIT_DUE,
				resynced_any_is_due(volume) || resynced_ends(volume));
			if (resynced_ends(volume)) {
				break;
			}
			for (unsigned i = 0; i < volume->leg_count; i++) {
				if (resynced_is_due(volume->legs[i])) {
					resynced_send(volume->legs[i]);
				}
			}
			/* Also so that one that is refused is not asked all the time. */
			io_timer_start_after(&volume->resynced_timer, RESYNCED_RETRY_NS);
			AWAIT_AT(volume->resynced_state, RESYNCED_AWAIT_PAUSE,
				!io_timer_is_running(&volume->resynced_timer) ||
					resynced_ends(volume));
		}
		io_timer_stop(&volume->resynced_timer);
		volume->resynced_state = RESYNCED_DONE;
		task_wake(&volume->close_task);
		return;
	case RESYNCED_DONE:
		return;
	}
}
