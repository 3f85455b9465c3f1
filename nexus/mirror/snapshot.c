/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot barrier (docs/protocol.md 1.10): while no two members can differ, host writes stop
 * and those under way end; every member of S makes an image (PREPARE); writes go on; the images are
 * flushed; a configuration with the snapshot's number and id is committed, and with that it exists.
 * Until then nobody joins S, who would have no image.
 *
 * An image counts only for the session in which it was made, up to its flush: what a pool-agent has
 * only PREPARED it may forget with its process.  What came to nothing is deleted by the next
 * RESOLVE, which each member is sent in each session, after each attempt and each commit.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>
#include <stdio.h>

#define SNAPSHOT_WAIT_NS  (5 * IO_NS_PER_S)
#define SNAPSHOT_PAUSE_NS IO_NS_PER_S /* below what ejects a member */

static struct snapshotter *snapshotter_of(struct volume *volume)
{
	return &volume->snapshotter;
}

bool snapshot_is_open(const struct volume *volume)
{
	return volume->snapshotter.number != 0;
}

bool snapshot_stops(const struct vol_op *op)
{
	return op->volume->snapshotter.stops && op->req->kind != BLK_READ &&
	       op->req->kind != BLK_FLUSH && !mutant_is(MUTANT_SNAPSHOT_NO_STOP);
}

void snapshot_wish(const struct volume *volume, struct cfg *cfg)
{
	const struct snapshotter *snapshotter = &volume->snapshotter;

	if (snapshotter->proposable && snapshotter->number > cfg->snap_seq) {
		cfg->snap_seq = snapshotter->number;
		cfg->snap_id = snapshotter->id;
	}
}

void snapshot_proposed(struct volume *volume)
{
	if (volume->proposal.snap_seq > volume->cfg.snap_seq) {
		volume->snapshotter.unsettled = true;
	}
}

/* ---- keeping and deleting ---- */

static bool snapshot_is_member(const struct volume *volume, const struct leg *leg)
{
	return (volume->member_mask & LEG_BIT(leg)) != 0;
}

static void resolve_done(struct leg_io *lio)
{
	struct leg *leg = lio->leg;

	if (lio->result == LEG_OK && leg->session == leg->snapshot.resolved_session) {
		leg->snapshot.kept = lio->cmd.dw01;
	} else {
		leg->snapshot.owed = true;
		if (lio->result == LEG_IO || lio->result == LEG_REFUSED) {
			leg_fail(leg, "it cannot keep or delete its snapshots");
		}
	}
	task_wake(&leg->volume->snapshotter.task);
	task_wake(&leg->rebuild_task);
}

static void snapshot_send_resolve(struct leg *leg, uint64_t committed)
{
	struct leg_io *lio = &leg->snapshot.io;

	leg->snapshot.owed = false;
	leg->snapshot.resolved_session = leg->session;
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	lio->cmd.sqe.opcode = WIRE_SNAPSHOT_RESOLVE;
	lio->cmd.sqe.cdw10 = (uint32_t)committed;
	lio->cmd.sqe.cdw11 = (uint32_t)(committed >> 32);
	lio->done = resolve_done;
	leg_submit(leg, lio, true, NULL, 0);
}

void snapshot_leg_came_up(struct leg *leg)
{
	leg->snapshot.kept = leg->answer.snapshots_kept;
	leg->snapshot.owed = leg->answer.snapshots;
	task_wake(&leg->volume->snapshotter.task);
}

/* Only what is committed says what there is: an opener's own configuration first, and no proposal
 * with another number that may still be chosen.  (Those with the same one hold up nothing: one that
 * lacks a member may have to wait for a target that lacks a snapshot, which this makes readable.)
 */
static bool resolve_may_begin(const struct volume *volume)
{
	if (mutant_is(MUTANT_SNAPSHOT_EARLY) && volume->electing) {
		return true;
	}
	return volume->committed && !volume->snapshotter.unsettled && !snapshot_is_open(volume) &&
	       !volume_is_dead(volume);
}

static void snapshot_resolve_all(struct volume *volume)
{
	if (!resolve_may_begin(volume)) {
		return;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (snapshot_is_member(volume, leg) && leg->snapshot.owed && leg->ready &&
			!leg->refence && !leg->out && !leg->snapshot.io.busy) {
			snapshot_send_resolve(leg, volume->cfg.snap_seq);
		}
	}
}

static void snapshot_owe_all(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		leg->snapshot.owed = leg->snapshot.owed || leg->answer.snapshots;
	}
	task_wake(&volume->snapshotter.task);
}

bool snapshot_is_lacking(const struct leg *leg)
{
	return leg->snapshot.kept < leg->volume->cfg.snap_seq &&
	       !mutant_is(MUTANT_SNAPSHOT_LACKING);
}

/* ---- what becomes of it ---- */

void snapshot_committed(struct volume *volume)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	snapshotter->unsettled = false;
	if (snapshot_is_open(volume) && snapshotter->proposable &&
		volume->cfg.snap_seq >= snapshotter->number) {
		snapshotter->number = 0;
		snapshotter->proposable = false;
		snapshot_owe_all(volume);
		log_info(&volume->io->log, "nexus", "snapshot", "volume=%s number=%llu copies=%u",
			volume->options.name, (unsigned long long)volume->cfg.snap_seq,
			mask_count(volume->member_mask));
	}
	task_wake(&snapshotter->task);
}

static void snapshot_resume(struct volume *volume)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	if (snapshotter->stops) {
		snapshotter->stops = false;
		io_timer_stop(&snapshotter->pause_timer);
		ops_revisit(volume);
	}
}

/* Writes go on, and what members made of it is deleted.  When it was proposed a configuration
 * without it follows, or one that an opener chooses. */
static void snapshot_give_up(struct volume *volume)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	snapshot_resume(volume);
	if (snapshotter->number != 0) {
		snapshotter->number = 0;
		snapshotter->proposable = false;
		if (!mutant_is(MUTANT_SNAPSHOT_LEFTOVER)) {
			snapshot_owe_all(volume);
		}
		membership_wake(volume);
		for (unsigned i = 0; i < volume->leg_count; i++) {
			task_wake(&volume->legs[i]->join_task);
		}
		task_wake(&volume->resizer.task);
	}
}

void snapshot_reopened(struct volume *volume)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	snapshot_resume(volume);
	snapshotter->number = 0;
	snapshotter->proposable = false;
	snapshotter->unsettled = false;
	task_wake(&snapshotter->task);
}

static void snapshot_finish(struct volume *volume, int result, const char *text)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);
	struct volume_snapshot *request = snapshotter->request;

	snapshot_give_up(volume);
	snapshotter->request = NULL;
	io_timer_stop(&snapshotter->timer);
	request->copies = mask_count(volume->member_mask & ~volume_out_mask(volume));
	request->ready = result == 0 && request->copies >= volume->min_insync;
	request->result = result == 0 ? 0
				      : err_set(&request->err, result, "volume %s: %s",
						volume->options.name, text);
	request->done(request);
}

static void snapshot_succeed(struct volume *volume, uint64_t number)
{
	volume->snapshotter.request->number = number;
	snapshot_finish(volume, 0, "");
}

static bool snapshot_is_late(const struct volume *volume)
{
	return volume_is_dead(volume) || !io_timer_is_running(&volume->snapshotter.timer);
}

/* Opened anew in between. */
static bool snapshot_is_stale(const struct volume *volume)
{
	return !volume->serving || volume->snapshotter.incarnation != volume->incarnation;
}

/* ---- the conditions ---- */

static bool members_may_differ(const struct volume *volume)
{
	return (volume->resync.count > 0 || volume->unsettled > 0) &&
	       !mutant_is(MUTANT_SNAPSHOT_IN_R);
}

/* NULL, or what is in the way. */
static const char *snapshot_obstacle(const struct volume *volume)
{
	leg_mask usable =
		volume->member_mask & volume_ready_mask(volume) & ~volume_out_mask(volume);

	if (members_may_differ(volume)) {
		return "its replicas are being made equal after a failure";
	}
	if (volume->proposal_open || volume->joiner != NULL || volume->resizer.request != NULL ||
		resize_wished_bytes(volume) != volume->cfg.size_bytes) {
		return "its replicas, or its size, are being changed";
	}
	if (usable != volume->member_mask || mask_count(usable) < volume->min_insync) {
		return "a replica in sync is not reached, or too few are in sync";
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		if (snapshot_is_member(volume, leg) &&
			(leg->snapshot.owed || leg->snapshot.io.busy)) {
			return "what is left of an older snapshot is being deleted";
		}
	}
	return NULL;
}

/* A member whose pool has none; "" the answer. */
static bool snapshot_is_unsupported(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];
		char id[UUID_TEXT_SIZE], pool[UUID_TEXT_SIZE], text[200];

		if (leg->voter.kind == VOTER_DATA && voters_has(&volume->cfg, leg) && leg->ready &&
			!leg->answer.snapshots) {
			uuid_to_text(&leg->voter.replica, id);
			uuid_to_text(&leg->answer.vmeta.pool, pool);
			snprintf(text, sizeof(text),
				"a snapshot needs pool format 1: replica %s of pool %s", id, pool);
			snapshot_finish(volume, -EOPNOTSUPP, text);
			return true;
		}
	}
	return false;
}

/* ---- the steps ---- */

static bool snapshot_may_begin(const struct volume *volume)
{
	return volume->snapshotter.request != NULL &&
	       ((volume->serving && volume->committed) || snapshot_is_late(volume));
}

/* false: the request was answered. */
static bool snapshot_begin(struct volume *volume)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	snapshotter->incarnation = volume->incarnation;
	snapshotter->id = snapshotter->request->id;
	snapshotter->exists = 0;
	if (volume->cfg.snap_seq != 0 && uuid_equal(&volume->cfg.snap_id, &snapshotter->id)) {
		snapshot_succeed(volume, volume->cfg.snap_seq);
		return false;
	}
	return !snapshot_is_unsupported(volume);
}

static void snapshot_stop(struct volume *volume)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	snapshotter->number = volume->cfg.snap_seq + 1;
	snapshotter->stops = true;
	snapshotter->members = volume->member_mask;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct snapshot_leg *its = &volume->legs[i]->snapshot;

		its->prepared = its->flushed = its->refused = false;
	}
	io_timer_start_after(&snapshotter->pause_timer, SNAPSHOT_PAUSE_NS);
}

static bool snapshot_pause_is_over(const struct volume *volume)
{
	return snapshot_is_stale(volume) || snapshot_is_late(volume) ||
	       !io_timer_is_running(&volume->snapshotter.pause_timer);
}

/* Nothing that writes to a member is under way. */
static bool snapshot_is_drained(const struct volume *volume)
{
	if (mutant_is(MUTANT_SNAPSHOT_NO_DRAIN)) {
		return true;
	}
	return ops_count_writes(volume) == 0 && list_is_empty(&volume->repairs) &&
	       volume->repairer.repair == NULL;
}

static void snapshot_cmd_done(struct leg_io *lio)
{
	struct leg *leg = lio->leg;
	struct volume *volume = leg->volume;
	struct snapshot_leg *its = &leg->snapshot;
	bool prepares = lio->cmd.sqe.opcode == WIRE_SNAPSHOT_PREPARE;
	bool same = leg->session == its->session && snapshot_is_open(volume);

	if (lio->result == LEG_OK && same) {
		its->prepared = its->prepared || prepares;
		its->flushed = its->flushed || !prepares;
	} else if (lio->result == LEG_REFUSED && prepares) {
		its->refused = true;
		volume->snapshotter.exists = lio->cmd.dw01;
	} else if (lio->result != LEG_OK && lio->result != LEG_RESET && lio->result != LEG_STALE) {
		its->refused = true;
	}
	task_wake(&volume->snapshotter.task);
}

static void snapshot_send_prepare(struct leg *leg)
{
	struct snapshotter *snapshotter = snapshotter_of(leg->volume);
	struct leg_io *lio = &leg->snapshot.io;
	struct nvme_sqe *sqe = &lio->cmd.sqe;

	leg->snapshot.session = leg->session;
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	sqe->opcode = WIRE_SNAPSHOT_PREPARE;
	wire_snapshot_encode(snapshotter->number, &snapshotter->id, sqe);
	lio->done = snapshot_cmd_done;
	leg_submit(leg, lio, true, NULL, 0);
}

static void snapshot_send_flush(struct leg *leg)
{
	struct wire_io flush = {
		.opcode = WIRE_FLUSH,
		.nsid = leg->voter.nsid,
		.session = leg->session,
		.wgen_low = (uint32_t)leg->volume->wgen,
		.seq = leg->volume->seq,
	};

	leg->snapshot.io.done = snapshot_cmd_done;
	leg_submit_io(leg, &leg->snapshot.io, &flush, NULL, 0);
}

/* Its image is of a session that has ended. */
static bool snapshot_is_lost_on(const struct leg *leg)
{
	const struct snapshot_leg *its = &leg->snapshot;

	return its->prepared && leg->ready && !leg->refence && leg->session != its->session;
}

/* A member that cannot leaves S, when the others are enough (scenario 56): false when they are not.
 */
static bool snapshot_fail_member(struct leg *leg)
{
	struct volume *volume = leg->volume;
	leg_mask rest = volume->member_mask & ~volume_out_mask(volume) & ~LEG_BIT(leg);

	if (leg->out) {
		return true;
	}
	if (mask_count(rest) < max_u64(volume->min_insync, 1) || volume->snapshotter.exists != 0) {
		return false;
	}
	leg->snapshot.refused = false;
	leg_fail(leg, "it could not make a snapshot");
	return true;
}

enum snapshot_progress { SNAPSHOT_WAITS, SNAPSHOT_GOES_ON, SNAPSHOT_FAILS };

/* One of PREPARE and FLUSH at all members of the present S, each of which counts for its session.
 */
static enum snapshot_progress snapshot_ask(struct volume *volume, bool flushes)
{
	leg_mask members = volume->member_mask;
	bool all = !volume->proposal_open && (members & volume_out_mask(volume)) == 0;

	if (mutant_is(MUTANT_SNAPSHOT_JOINS)) {
		members &= volume->snapshotter.members;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];
		struct snapshot_leg *its = &leg->snapshot;

		if (!(members & LEG_BIT(leg))) {
			continue;
		}
		if (snapshot_is_lost_on(leg) || (its->refused && !snapshot_fail_member(leg))) {
			return SNAPSHOT_FAILS;
		}
		if (!(flushes ? its->flushed : its->prepared)) {
			all = false;
			if (leg->ready && !leg->refence && !leg->out && !its->io.busy) {
				if (flushes) {
					snapshot_send_flush(leg);
				} else {
					snapshot_send_prepare(leg);
				}
			}
		}
	}
	return all ? SNAPSHOT_GOES_ON : SNAPSHOT_WAITS;
}

/* Why it came to nothing. */
static void snapshot_fail(struct volume *volume, const char *what)
{
	uint64_t exists = volume->snapshotter.exists;
	const char *obstacle = snapshot_obstacle(volume);
	char text[200];

	if (volume->ending) {
		snapshot_finish(volume, -ESHUTDOWN, "it is being closed");
	} else if (volume_is_dead(volume)) {
		snapshot_finish(volume, -EBUSY, volume->reason);
	} else if (exists != 0) {
		snapshot_succeed(volume, exists);
	} else {
		snprintf(text, sizeof(text), "%s%s%s: ask again", what,
			obstacle != NULL ? ": " : "", obstacle != NULL ? obstacle : "");
		snapshot_finish(volume, -EAGAIN, text);
	}
}

static void snapshot_fail_late(struct volume *volume)
{
	snapshot_fail(volume, !volume->serving ? "it is not open yet" : "no snapshot was made");
}

static bool snapshot_is_over(const struct volume *volume)
{
	return snapshot_is_stale(volume) || snapshot_is_late(volume);
}

static bool snapshot_is_committed(const struct volume *volume)
{
	return volume->committed && volume->cfg.snap_seq != 0 &&
	       uuid_equal(&volume->cfg.snap_id, &volume->snapshotter.id);
}

/* Stop, drain, PREPARE, resume: false, it came to nothing. */
static bool snapshot_is_prepared(struct volume *volume)
{
	bool prepared =
		!snapshot_pause_is_over(volume) && snapshot_ask(volume, false) == SNAPSHOT_GOES_ON;

	snapshot_resume(volume);
	return prepared;
}

static bool snapshot_is_flushed(struct volume *volume)
{
	if (mutant_is(MUTANT_SNAPSHOT_UNFLUSHED)) {
		return true;
	}
	return !snapshot_is_over(volume) && snapshot_ask(volume, true) == SNAPSHOT_GOES_ON;
}

/* The barrier may be closed: nothing in the way has come up while writes were drained. */
static bool snapshot_may_prepare(const struct volume *volume)
{
	return !snapshot_pause_is_over(volume) && !members_may_differ(volume);
}

static void snapshot_run(struct volume *volume)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	switch (snapshotter->state) {
	case SNAPSHOT_START:
		for (;;) {
			AWAIT(snapshotter, SNAPSHOT_AWAIT_WANTED,
				snapshot_may_begin(volume) || volume_is_dead(volume));
			if (snapshotter->request == NULL) {
				break;
			}
			if (snapshot_is_late(volume)) {
				snapshot_fail_late(volume);
				continue;
			}
			if (!snapshot_begin(volume)) {
				continue;
			}
			AWAIT(snapshotter, SNAPSHOT_AWAIT_QUIET,
				snapshot_obstacle(volume) == NULL || snapshot_is_over(volume));
			if (snapshot_is_over(volume)) {
				continue;
			}
			snapshot_stop(volume);
			AWAIT(snapshotter, SNAPSHOT_AWAIT_DRAINED,
				snapshot_is_drained(volume) || snapshot_pause_is_over(volume));
			if (!snapshot_may_prepare(volume)) {
				snapshot_fail(volume, "its writes did not end in time");
				continue;
			}
			snapshotter->attempt++;
			AWAIT(snapshotter, SNAPSHOT_AWAIT_PREPARED,
				snapshot_pause_is_over(volume) ||
					snapshot_ask(volume, false) != SNAPSHOT_WAITS);
			if (!snapshot_is_prepared(volume)) {
				snapshot_fail(volume, "a replica made no snapshot in time");
				continue;
			}
			AWAIT(snapshotter, SNAPSHOT_AWAIT_FLUSHED,
				mutant_is(MUTANT_SNAPSHOT_UNFLUSHED) || snapshot_is_over(volume) ||
					snapshot_ask(volume, true) != SNAPSHOT_WAITS);
			if (!snapshot_is_flushed(volume)) {
				snapshot_fail(volume, "a replica did not flush its snapshot");
				continue;
			}
			snapshotter->proposable = true;
			membership_wake(volume);
			AWAIT(snapshotter, SNAPSHOT_AWAIT_COMMITTED,
				snapshot_is_committed(volume) || snapshot_is_over(volume));
			if (snapshot_is_committed(volume)) {
				snapshot_succeed(volume, volume->cfg.snap_seq);
			} else {
				snapshot_fail(volume, "its voters did not all accept it in time");
			}
		}
		snapshotter->state = SNAPSHOT_DONE;
		task_wake(&volume->close_task);
		return;
	case SNAPSHOT_DONE:
		return;
	}
}

void snapshot_step(struct task *task)
{
	struct volume *volume = container_of(task, struct volume, snapshotter.task);

	volume_works(volume, TRACE_WORK_MEMBERSHIP);
	snapshot_resolve_all(volume);
	snapshot_run(volume);
}

void volume_snapshot(struct volume *volume, struct volume_snapshot *snapshot)
{
	struct snapshotter *snapshotter = snapshotter_of(volume);

	assert(snapshotter->request == NULL && !volume->closing);
	snapshot->err = (struct err){0};
	snapshot->number = 0;
	snapshot->ready = false;
	snapshotter->request = snapshot;
	snapshotter->state = SNAPSHOT_START;
	io_timer_start_after(&snapshotter->timer, SNAPSHOT_WAIT_NS);
	task_wake(&snapshotter->task);
}
