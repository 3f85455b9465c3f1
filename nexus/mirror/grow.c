/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target that has caught up joins S (docs/protocol.md 1.7, grow): joint acknowledgement, older
 * writes, FLUSH, then the membership proposes the configuration with it; one target at a time.
 */
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

static bool join_is_committed(const struct leg *leg)
{
	const struct volume *volume = leg->volume;

	return volume->joiner == leg && volume->joiner_proposed && !volume->proposal_open &&
	       (volume->member_mask & LEG_BIT(leg)) && !leg->out && !leg->vmeta_rebuilding;
}

/* What was acknowledged without it, and was sent to it, too. */
static bool join_has_older(const struct leg *leg)
{
	return !ops_older_pend_on(leg->volume, leg->older_seq, leg) || mutant_is(MUTANT_JOIN_EARLY);
}

/* Between PREPARE and the commit of a snapshot nobody joins who has no image. */
static bool join_has_turn(const struct volume *volume)
{
	return volume->joiner == NULL &&
	       (!snapshot_is_open(volume) || mutant_is(MUTANT_SNAPSHOT_JOINS));
}

static void join_begin(struct leg *leg)
{
	struct volume *volume = leg->volume;

	TRACE(volume->io, rebuild_join, trace_id(&volume->options.uuid), leg->index, 0, 0);
	volume->joiner = leg;
	volume->joiner_ready = false;
	volume->joiner_proposed = false;
	leg->joining = true;
	ops_absorb_skipped(volume, leg);
	leg->older_seq = volume->seq;
	ops_revisit(volume);
}

static void join_end(struct leg *leg)
{
	struct volume *volume = leg->volume;

	leg->joining = false;
	leg->target = false;
	if (volume->joiner == leg) {
		volume->joiner = NULL;
		volume->joiner_ready = false;
		volume->joiner_proposed = false;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		task_wake(&volume->legs[i]->join_task);
	}
	ops_revisit(volume);
}

void join_step(struct task *task)
{
	struct leg *leg = container_of(task, struct leg, join_task);
	struct volume *volume = leg->volume;

	volume_works(volume, TRACE_WORK_REBUILD);
	switch (leg->join_state) {
	case JOIN_START:
		AWAIT_AT(leg->join_state, JOIN_AWAIT_TURN,
			join_has_turn(volume) || rebuild_is_over(leg));
		if (!rebuild_is_over(leg) && snapshot_is_lacking(leg)) {
			rebuild_drop(leg, "it lacks a snapshot that was made meanwhile");
		}
		if (!rebuild_is_over(leg)) {
			join_begin(leg);
			AWAIT_AT(leg->join_state, JOIN_AWAIT_OLDER,
				(join_has_older(leg) && rebuild_is_copied(leg)) ||
					rebuild_is_over(leg));
		}
		if (!rebuild_is_over(leg)) {
			rebuild_send(leg, WIRE_FLUSH, &leg->join_task);
			AWAIT_AT(leg->join_state, JOIN_AWAIT_FLUSH, !leg->rebuild_io.busy);
			if (leg->rebuild_io.result != LEG_OK) {
				rebuild_drop(leg, "it did not flush");
			}
		}
		if (!rebuild_is_over(leg)) {
			volume->joiner_ready = true;
			membership_wake(volume);
			AWAIT_AT(leg->join_state, JOIN_AWAIT_COMMIT,
				join_is_committed(leg) || rebuild_is_over(leg));
		}
		if (join_is_committed(leg)) {
			log_info(&volume->io->log, "nexus", "rebuild-finished",
				"volume=%s replica=%u bytes=%llu", volume->options.name, leg->index,
				(unsigned long long)leg->todo_total_bytes);
			leg->failure[0] = '\0';
			leg->rebuild_retry_ns = 0;
			join_end(leg);
			resynced_owe(leg);
		} else {
			join_end(leg);
		}
		leg->join_state = JOIN_DONE;
		task_wake(&leg->rebuild_task);
		return;
	case JOIN_DONE:
		return;
	}
}
