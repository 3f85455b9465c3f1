/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One voter of a volume: fenced whenever its association is new or its commands were given up, with
 * a session number that is never used twice (I4).  Ready means: fenced for us on the present
 * association, and nothing of an older session is under way.
 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "nexus/mirror/volume_internal.h"

#include <errno.h>
#include <stdio.h>

#define OUTDATED "its pool-agent is too old for the volume: upgrade the pool-agent"

static task_step leg_step;

static enum leg_result leg_classify(const struct nvmeh_cmd *cmd)
{
	if (cmd->result != 0) {
		return LEG_RESET;
	}
	switch (cmd->status) {
	case 0:
		return LEG_OK;
	case NVME_SC_CAPACITY_EXCEEDED:
		return LEG_NOSPC;
	case NVME_SC_UNRECOVERED_READ_ERROR:
		return LEG_MEDIA;
	case WIRE_STATUS_STALE_TOKEN:
		return LEG_STALE;
	case WIRE_STATUS_BUSY:
	case WIRE_STATUS_ABSTAIN:
	case WIRE_STATUS_REFUSED:
	case WIRE_STATUS_WRONG_REPLICA:
		return LEG_REFUSED;
	}
	return LEG_IO;
}

/* The repair, which follows, finds out who is to be blamed: not a disk for what no other one gives
 * either.  It has nobody to ask besides a member that is alone. */
static void leg_count_unread(struct leg *leg, enum leg_result result)
{
	if (result == LEG_OK) {
		leg->unread_run = 0;
	} else if (result == LEG_MEDIA) {
		metric_inc(&leg->unread, 1);
		if (mask_count(leg->volume->member_mask) < 2) {
			eject_unread(leg);
		}
	}
}

/* Nobody has it, or it is of a snapshot's image: that says nothing about what it holds now. */
static bool leg_read_what_is_lost(const struct leg *leg, const struct nvmeh_cmd *cmd)
{
	struct wire_io wio;

	return wire_io_decode(&cmd->sqe, &wio) == 0 &&
	       (wio.snapshot != 0 ||
		       (leg->volume->lost.count > 0 &&
			       marks_touch(&leg->volume->lost, wio.slba, wio.block_count)));
}

static void leg_cmd_done(struct nvmeh_cmd *cmd)
{
	struct leg_io *lio = cmd->ctx;
	struct leg *leg = lio->leg;
	struct io *io = leg->volume->io;
	enum leg_result result = leg_classify(cmd);
	bool is_read =
		(cmd->sqe.opcode == WIRE_READ || cmd->sqe.opcode == WIRE_HASH) && !cmd->admin;

	volume_works(leg->volume, TRACE_WORK_ANSWER);
	lio->busy = false;
	lio->result = result;
	TRACE(io, leg_answer, trace_id(&leg->volume->options.uuid), leg->index, cmd->sqe.opcode,
		result);
	list_remove(&lio->node);
	if (lio->result == LEG_STALE && leg->ready && !leg->lost) {
		/* Somebody else fenced this replica; who, the next FENCE tells. */
		leg->lost = true;
		task_wake(&leg->task);
	}
	if (lio->result == LEG_IO || lio->result == LEG_MEDIA) {
		metric_inc(&leg->errors, 1);
	}
	if (lio->result == LEG_RESET && leg->ready &&
		(leg->reset_ns == 0 || lio->started_ns < leg->reset_ns)) {
		leg->reset_ns = lio->started_ns;
	}
	if (list_is_empty(&leg->inflight)) {
		task_wake(&leg->task);
		/* A leg whose ladder is over ends the volume's closing with its last command. */
		task_wake(&leg->volume->close_task);
		task_wake(&leg->volume->voters_task);
	}
	lio->done(lio);
	if (is_read && (result == LEG_OK || !leg_read_what_is_lost(leg, cmd))) {
		leg_count_unread(leg, result);
	}
	runq_work_done(&io->runq);
}

void leg_submit(
	struct leg *leg, struct leg_io *lio, bool admin, struct iovec *iov, unsigned iov_count)
{
	assert(!lio->busy && leg->peer->assoc != NULL);
	lio->leg = leg;
	lio->busy = true;
	lio->started_ns = io_now_ns(leg->volume->io);
	lio->cmd.sqe.nsid = leg->voter.nsid;
	lio->cmd.sqe.cdw2 = leg->session;
	lio->cmd.admin = admin;
	lio->cmd.queue = 0;
	lio->cmd.iov = iov;
	lio->cmd.iov_count = iov_count;
	lio->cmd.length = 0;
	for (unsigned i = 0; i < iov_count; i++) {
		lio->cmd.length += (uint32_t)iov[i].iov_len;
	}
	lio->cmd.done = leg_cmd_done;
	lio->cmd.ctx = lio;
	list_push_back(&leg->inflight, &lio->node);
	volume_tick_start(leg->volume);
	TRACE(leg->volume->io, leg_send, trace_id(&leg->volume->options.uuid), leg->index,
		lio->cmd.sqe.opcode, (uint64_t)lio->cmd.sqe.cdw11 << 32 | lio->cmd.sqe.cdw10);
	nvmeh_submit(leg->peer->assoc, &lio->cmd);
}

void leg_submit_io(struct leg *leg, struct leg_io *lio, const struct wire_io *wio,
	struct iovec *iov, unsigned iov_count)
{
	assert(leg->ready);
	memset(&lio->cmd, 0, sizeof(lio->cmd));
	wire_io_encode(wio, &lio->cmd.sqe);
	leg_submit(leg, lio, false, iov, iov_count);
}

/* A network that is gone is noticed late: what is under way, or ended with the association, has
 * waited already. */
static uint64_t leg_silent_since_ns(const struct leg *leg)
{
	struct list_node *first = list_first(&leg->inflight);
	uint64_t since_ns = io_now_ns(leg->volume->io);

	if (leg->reset_ns != 0) {
		since_ns = min_u64(since_ns, leg->reset_ns);
	}
	if (first != NULL) {
		since_ns = min_u64(since_ns, container_of(first, struct leg_io, node)->started_ns);
	}
	return since_ns;
}

static void leg_unready(struct leg *leg)
{
	if (!leg->ready) {
		return;
	}
	TRACE(leg->volume->io, leg_unready, trace_id(&leg->volume->options.uuid), leg->index,
		leg->session, leg->refence);
	leg->ready = false;
	leg->unready_ns = leg_silent_since_ns(leg);
	if (leg->volume->electing) {
		leg->out = true; /* the opener goes on with those that it fenced */
		membership_wake(leg->volume);
	}
	rebuild_drop(leg, leg->reason);
	volume_tick_start(leg->volume);
	volume_changed(leg->volume);
}

void leg_fail(struct leg *leg, const char *reason)
{
	struct volume *volume = leg->volume;
	bool member = (volume->member_mask | volume->proposed_mask) & LEG_BIT(leg);

	TRACE(volume->io, leg_fail, trace_id(&volume->options.uuid), leg->index, member,
		leg->ready);
	if (reason != leg->reason) {
		snprintf(leg->reason, sizeof(leg->reason), "%s", reason);
	}
	/* It is fenced anew at once, which settles `reason`, but not why it is not in sync. */
	snprintf(leg->failure, sizeof(leg->failure), "%s", leg->reason);
	if ((volume->committed || volume->electing) && member && !leg->out) {
		leg->out = true;
		log_warning(&volume->io->log, "nexus", "member-failed",
			"volume=%s replica=%u reason=%s", volume->options.name, leg->index, reason);
		membership_wake(volume);
	}
	rebuild_drop(leg, reason);
	if (leg->ready) {
		leg->refence = true;
		task_wake(&leg->task);
	}
	volume_changed(volume);
}

/*
 * Too many I/O commands that were given up are still not answered; or a single one that has a buffer
 * of the nexus, while others wait for those: all volumes share them.  (Not any one: a write that a
 * slow disk will answer would be ended, and sent again, for ever.)  A leg that is not ready gets no new
 * ones, so its association is not reset again before all of them were answered.
 */
static bool leg_pins_buffers(const struct leg *leg, uint64_t now_ns)
{
	bool wanted = bufpool_has_waiters(leg->volume->nexus->buffers);
	unsigned count = 0;

	list_for_each (&leg->inflight, pos) {
		const struct leg_io *lio = container_of(pos, struct leg_io, node);

		if (now_ns < lio->started_ns + 2 * EJECT_NS) {
			continue;
		}
		if (wanted && lio->pooled) {
			return true;
		}
		count += !lio->cmd.admin;
	}
	return count > PINNED_MAX;
}

/* One that said that it comes back is waited for longer, while nobody else is missing. */
static uint64_t leg_given_up_ns(const struct leg *leg)
{
	const struct volume *volume = leg->volume;
	uint64_t given_up_ns = leg->unready_ns + EJECT_NS;

	if (volume_out_mask(volume) == 0 && !volume->proposal_open) {
		given_up_ns = max_u64(given_up_ns, leg->peer->awaited_until_ns);
	}
	return given_up_ns;
}

void leg_check_deadlines(struct leg *leg, uint64_t now_ns)
{
	struct volume *volume = leg->volume;
	struct list_node *first = list_first(&leg->inflight);
	bool member = (volume->member_mask | volume->proposed_mask) & LEG_BIT(leg);

	if (leg->vacant) {
		return;
	}
	if (!leg->ready && leg->peer->up && leg_pins_buffers(leg, now_ns)) {
		peer_reset(leg->peer, "buffers wait for a stuck disk");
		return;
	}
	if (leg->ready && !leg->refence && first != NULL) {
		const struct leg_io *lio = container_of(first, struct leg_io, node);

		if (now_ns >= lio->started_ns + EJECT_NS) {
			leg_fail(leg, "did not answer for 2 s");
			return;
		}
	}
	if (!leg->ready && member && !leg->out && volume->committed &&
		now_ns >= leg_given_up_ns(leg)) {
		leg_fail(leg, leg->reason[0] != '\0' ? leg->reason : "not reached for 2 s");
	}
}

uint64_t leg_next_deadline_ns(const struct leg *leg)
{
	const struct volume *volume = leg->volume;
	struct list_node *first = list_first(&leg->inflight);

	if (leg->ready && !leg->refence && first != NULL) {
		return container_of(first, struct leg_io, node)->started_ns + EJECT_NS;
	}
	if (!leg->ready && !leg->out && (volume->member_mask & LEG_BIT(leg))) {
		return leg_given_up_ns(leg);
	}
	return UINT64_MAX;
}

/* ---- what the peer says ---- */

static void leg_peer_up(struct peer_watch *watch)
{
	struct leg *leg = container_of(watch, struct leg, watch);

	task_wake(&leg->task);
	task_wake(&leg->volume->open_task);
}

static void leg_peer_down(struct peer_watch *watch)
{
	struct leg *leg = container_of(watch, struct leg, watch);

	if (leg->peer->leaving) {
		snprintf(leg->reason, sizeof(leg->reason), "its pool-agent was stopped");
	} else {
		snprintf(leg->reason, sizeof(leg->reason),
			"connection to the pool-agent lost: %.100s", leg->peer->reason);
	}
	if (!leg->peer->was_reset) {
		leg->rebuild_retry_ns = 0; /* it may come back as another */
	}
	leg_unready(leg);
	task_wake(&leg->task);
}

static void leg_peer_heard(struct peer_watch *watch, uint64_t sent_ns, bool lost)
{
	struct leg *leg = container_of(watch, struct leg, watch);

	lease_note_time(leg->volume);
	if (leg->peer->leaving) {
		eject_leaving(leg);
	}
	if (sent_ns < leg->fence_sent_ns || leg->refence) {
		return;
	}
	/* The list is told once: a leg that is about to be ready must not forget it. */
	if (lost && (leg->ready || leg->state == LEG_AWAIT_VOTER_STATE ||
			    leg->state == LEG_AWAIT_DRAIN)) {
		leg->lost = true;
		task_wake(&leg->task);
		return;
	}
	if (!leg->ready || lost) {
		return;
	}
	leg->heard_ns = sent_ns;
	if (leg->volume->lease_waiters) {
		ops_revisit(leg->volume);
	}
}

/* ---- fencing ---- */

bool leg_ends(const struct leg *leg)
{
	return leg->volume->ending || leg->volume->superseded || leg->leaving;
}

static bool leg_is_wanted(const struct leg *leg)
{
	const struct volume *volume = leg->volume;

	if (leg_ends(leg)) {
		return true;
	}
	if (!leg->peer->up) {
		return false;
	}
	/* Before the first commit of this epoch a replica is asked once only: a session above the
	 * first belongs to the committed opener (1.1). */
	return volume->committed ||
	       (volume->fencing && (leg->attempt != volume->attempt || leg->fence_busy));
}

static void leg_fence_done(struct leg_io *lio)
{
	task_wake(&lio->leg->task);
}

static void leg_send_fence(struct leg *leg)
{
	struct volume *volume = leg->volume;
	struct wire_fence_entry entry = {
		.nsid = leg->voter.nsid,
		.replica = leg->voter.replica,
		.token = {.epoch = volume->epoch},
		.capability = volume->options.capability,
	};

	/* Asking again after BUSY repeats the token. */
	if (!leg->fence_busy || leg->attempt != volume->attempt ||
		leg->generation != leg->peer->generation) {
		leg->session =
			volume->committed ? volume->nexus->next_session++ : volume->open_session;
	}
	entry.token.session = leg->session;
	leg->attempt = volume->attempt;
	leg->generation = leg->peer->generation;
	leg->fence_sent_ns = io_now_ns(volume->io);
	leg->lost = false;
	leg->refence = false;
	wire_fence_entry_encode(&entry, leg->fence_data);
	memset(&leg->fence_io.cmd, 0, sizeof(leg->fence_io.cmd));
	leg->fence_io.cmd.sqe.opcode = WIRE_FENCE;
	leg->fence_io.cmd.sqe.cdw10 = 1;
	leg->fence_io.iov.iov_base = leg->fence_data;
	leg->fence_io.iov.iov_len = WIRE_FENCE_ENTRY_SIZE;
	leg->fence_io.done = leg_fence_done;
	TRACE(volume->io, leg_fence, trace_id(&volume->options.uuid), leg->index, volume->epoch.inc,
		leg->session);
	leg_submit(leg, &leg->fence_io, true, &leg->fence_io.iov, 1);
}

static void leg_send_voter_state(struct leg *leg)
{
	memset(&leg->fence_io.cmd, 0, sizeof(leg->fence_io.cmd));
	leg->fence_io.cmd.sqe.opcode = WIRE_VOTER_STATE;
	leg->fence_io.iov.iov_base = leg->fence_data;
	leg->fence_io.iov.iov_len = WIRE_VOTER_STATE_SIZE;
	leg->fence_io.done = leg_fence_done;
	leg_submit(leg, &leg->fence_io, true, &leg->fence_io.iov, 1);
}

/* The association has gone on since, or another one has taken its place: then nothing is held. */
static bool leg_may_hold(const struct leg *leg)
{
	return leg->peer->up && leg->generation == leg->peer->generation;
}

/* So that the replica is nobody's when the volume is closed: the association stays for others. */
static void leg_send_release(struct leg *leg)
{
	memset(&leg->fence_io.cmd, 0, sizeof(leg->fence_io.cmd));
	leg->fence_io.cmd.sqe.opcode = WIRE_RELEASE;
	leg->fence_io.done = leg_fence_done;
	leg_submit(leg, &leg->fence_io, true, NULL, 0);
}

static void leg_fault(struct leg *leg, const char *reason)
{
	leg->faulted = true;
	leg->outdated = false;
	snprintf(leg->reason, sizeof(leg->reason), "%s", reason);
}

/* Returns true when the replica is fenced for us. */
static bool leg_handle_answer(struct leg *leg)
{
	struct wire_voter_state answer;

	leg->fence_busy = false;
	if (!leg->fence_fetched) {
		return false; /* the association went in between */
	}
	if (leg->fence_io.result != LEG_OK) {
		if (leg->fence_io.result != LEG_RESET) {
			leg_fault(leg, "the pool-agent does not serve this replica");
		}
		return false;
	}
	if (wire_voter_state_decode(leg->fence_data, &answer) != 0) {
		leg_fault(leg, "the answer to FENCE is malformed");
		return false;
	}
	leg->fence_busy = answer.status == WIRE_STATUS_BUSY;
	if (answer.status == 0 || leg->fence_busy || answer.status == WIRE_STATUS_STALE_TOKEN) {
		lineage_heard(leg, &answer.vmeta.cfg);
	}
	if (leg->foreign_lineage != 0 && (answer.status == 0 || lineage_is_none_of_ours(leg))) {
		leg_fault(leg,
			"it belongs to another lineage of this volume: delete the replica or "
			"keep it aside");
		return false;
	}
	if (answer.status == WIRE_STATUS_STALE_TOKEN) {
		snprintf(leg->reason, sizeof(leg->reason), "fenced by epoch %u.%u",
			answer.cur.epoch.attach, answer.cur.epoch.inc);
		open_refused(leg->volume, leg, &answer.cur);
		return false;
	}
	if (answer.status == WIRE_STATUS_ABSTAIN) {
		leg_fault(leg, answer.newer ? OUTDATED
					    : "its metadata are unreadable: replace the replica");
		leg->outdated = answer.newer;
		return false;
	}
	if (answer.status == WIRE_STATUS_WRONG_REPLICA) {
		leg_fault(leg, "another replica is in its place");
		return false;
	}
	if (answer.status == WIRE_STATUS_UNAUTHORIZED) {
		leg_fault(leg, leg->volume->options.capability.version == 0
				       ? "not authorized: it has a key, and the volume was opened "
					 "without a capability"
				       : "not authorized: the capability is not for this attach "
					 "number and node, or of another key");
		return false;
	}
	if (answer.status != 0) {
		snprintf(leg->reason, sizeof(leg->reason), "busy: older requests still run");
		return false;
	}
	leg->answer = answer;
	if (leg->volume->committed && !version_is_understood(leg, &leg->volume->cfg)) {
		leg_fault(leg, OUTDATED);
		leg->outdated = true;
		return false;
	}
	leg->faulted = false;
	leg->outdated = false;
	return true;
}

/* A member of S that was away is back, or a voter that may become one. */
static void leg_came_up(struct leg *leg)
{
	struct volume *volume = leg->volume;
	int at = cfg_find(&volume->cfg, &leg->voter.replica);

	TRACE(volume->io, leg_ready, trace_id(&volume->options.uuid), leg->index, leg->session,
		leg->answer.vmeta.clean);
	leg->ready = true;
	leg->reset_ns = 0;
	leg->attempt_over = leg->attempt;
	leg->reason[0] = '\0';
	leg->heard_ns = leg->fence_sent_ns;
	leg->clean = leg->answer.vmeta.clean;
	leg->cfg_wgen = leg->answer.vmeta.cfg.wgen;
	resynced_leg_came_up(leg);
	resize_leg_came_up(leg);
	snapshot_leg_came_up(leg);
	leg->vmeta_rebuilding = leg->answer.vmeta.rebuilding;
	leg->no_hashes = false;
	leg->power_lost = false;
	lost_add_marks(leg);
	if (volume->committed && at >= 0 && (volume->member_mask & LEG_BIT(leg))) {
		if (volume->cfg.voters[at].power != leg->answer.power &&
			!mutant_is(MUTANT_POWER_IGNORED)) {
			leg->power_lost = true;
			leg->out = true;
			snprintf(leg->reason, sizeof(leg->reason),
				"lost power: unflushed writes may be gone");
		} else if (!leg->vmeta_rebuilding && !eject_keeps_out(leg)) {
			eject_returned(leg);
			leg->out = false;
			dirty_forget(&leg->dirty);
		}
		/* What it answered stays answered while its power is the same. */
		ops_forget_leg(volume, leg, leg->power_lost);
	}
	open_fenced_one(volume);
	task_wake(&volume->open_task);
	task_wake(&leg->rebuild_task);
	membership_wake(volume);
	volume_changed(volume);
}

static bool leg_must_refence(const struct leg *leg)
{
	return leg->refence || leg->lost || !leg->peer->up ||
	       leg->peer->generation != leg->generation || leg_ends(leg) ||
	       (leg->attempt != leg->volume->attempt &&
		       (leg->volume->fencing || leg->volume->committed));
}

static void leg_step(struct task *task)
{
	struct leg *leg = container_of(task, struct leg, task);

	volume_works(leg->volume, TRACE_WORK_FENCE);
	switch (leg->state) {
	case LEG_START:
		for (;;) {
			AWAIT(leg, LEG_AWAIT_WANTED, leg_is_wanted(leg));
			if (leg_ends(leg)) {
				break;
			}
			leg_send_fence(leg);
			leg->fence_fetched = false;
			AWAIT(leg, LEG_AWAIT_FENCE, !leg->fence_io.busy);
			if (leg->fence_io.result == LEG_OK && leg->peer->up &&
				leg->peer->generation == leg->generation) {
				leg->fence_fetched = true;
				leg_send_voter_state(leg);
				AWAIT(leg, LEG_AWAIT_VOTER_STATE, !leg->fence_io.busy);
			}
			if (leg_handle_answer(leg)) {
				AWAIT(leg, LEG_AWAIT_DRAIN,
					list_is_empty(&leg->inflight) || leg_must_refence(leg));
				if (!leg_must_refence(leg)) {
					leg_came_up(leg);
					AWAIT(leg, LEG_AWAIT_LOSS, leg_must_refence(leg));
					leg->gave_up = leg->refence;
					leg_unready(leg);
					if (!leg->gave_up) {
						continue;
					}
				}
			}
			leg->attempt_over = leg->fence_busy ? 0 : leg->attempt;
			task_wake(&leg->volume->open_task);
			volume_changed(leg->volume);
			io_timer_start_after(
				&leg->timer, leg->faulted ? IO_NS_PER_S : 100 * IO_NS_PER_MS);
			AWAIT(leg, LEG_AWAIT_RETRY,
				!io_timer_is_running(&leg->timer) || leg_ends(leg));
		}
		leg->ready = false;
		io_timer_stop(&leg->timer);
		/* Connections are independent: it must not overtake a command on another one. */
		AWAIT(leg, LEG_AWAIT_QUIET, list_is_empty(&leg->inflight) || !leg_may_hold(leg));
		if (leg_may_hold(leg)) {
			leg_send_release(leg);
			AWAIT(leg, LEG_AWAIT_RELEASE, !leg->fence_io.busy);
		}
		leg->state = LEG_DONE;
		task_wake(&leg->volume->close_task);
		task_wake(&leg->volume->voters_task);
		return;
	case LEG_DONE:
		/* Its last command was answered. */
		task_wake(&leg->volume->close_task);
		return;
	}
}

struct leg_metric {
	struct metric *metric;
	enum metric_kind kind;
	const char *name, *help;
};

#define LEG_METRICS 14

static void leg_list_metrics(struct leg *leg, struct leg_metric to[LEG_METRICS])
{
	const struct leg_metric all[LEG_METRICS] = {
		{&leg->reads, METRIC_COUNTER, "strake_nexus_replica_reads_total",
			"Read commands sent to a replica."},
		{&leg->writes, METRIC_COUNTER, "strake_nexus_replica_writes_total",
			"Write commands sent to a replica."},
		{&leg->errors, METRIC_COUNTER, "strake_nexus_replica_errors_total",
			"Failed commands of a replica."},
		{&leg->ejections, METRIC_COUNTER, "strake_nexus_replica_ejections_total",
			"Times that a replica was taken out of the in-sync set because it answered "
			"badly."},
		{&leg->unread, METRIC_COUNTER, "strake_nexus_replica_unreadable_total",
			"Reads that a replica could not answer from its disk."},
		{&leg->repairs, METRIC_COUNTER, "strake_nexus_replica_repairs_total",
			"Unreadable blocks of a replica that were written again from another one."},
		{&leg->copied_bytes, METRIC_COUNTER, "strake_nexus_replica_copied_bytes_total",
			"Bytes copied to a replica by rebuilds."},
		{&leg->compared_bytes, METRIC_COUNTER, "strake_nexus_replica_compared_bytes_total",
			"Bytes of a replica that rebuilds compared by hashes."},
		{&leg->equal_bytes, METRIC_COUNTER, "strake_nexus_replica_equal_bytes_total",
			"Bytes of a replica that rebuilds found equal and did not copy."},
		{&leg->write_latency, METRIC_GAUGE,
			"strake_nexus_replica_write_latency_nanoseconds",
			"Mean time of a host write at a replica, in the last second with some."},
		{&leg->rebuild_total, METRIC_GAUGE, "strake_nexus_replica_rebuild_bytes",
			"Bytes that the running rebuild of a replica has to copy; 0: none runs."},
		{&leg->rebuild_done, METRIC_GAUGE, "strake_nexus_replica_rebuild_done_bytes",
			"Bytes of them that are done."},
		{&leg->rebuild_rate, METRIC_GAUGE, "strake_nexus_replica_rebuild_bytes_per_second",
			"How fast the running rebuild goes; 0: it stands, or none runs."},
		{&leg->rebuild_left, METRIC_GAUGE, "strake_nexus_replica_rebuild_seconds_left",
			"Until it is done at this speed; 0: not known, or none runs."},
	};

	memcpy(to, all, sizeof(all));
}

static void leg_add_metrics(struct leg *leg)
{
	struct metric_registry *metrics = leg->volume->io->metrics;
	struct leg_metric all[LEG_METRICS];
	char id[UUID_TEXT_SIZE];

	uuid_to_text(&leg->voter.replica, id);
	leg_list_metrics(leg, all);
	for (unsigned i = 0; metrics != NULL && i < LEG_METRICS; i++) {
		metric_add(metrics, all[i].metric, all[i].kind, all[i].name, all[i].help,
			"volume=\"%s\",replica=\"%s\"", leg->volume->options.name, id);
	}
}

static void leg_remove_metrics(struct leg *leg)
{
	struct metric_registry *metrics = leg->volume->io->metrics;
	struct leg_metric all[LEG_METRICS];

	leg_list_metrics(leg, all);
	for (unsigned i = 0; metrics != NULL && i < LEG_METRICS; i++) {
		metric_remove(metrics, all[i].metric);
	}
}

/* Everything but its peer, its memory for answers and its metrics. */
static void leg_init(struct leg *leg, struct volume *volume, unsigned index)
{
	/* Those of a vacant one may be queued: whatever happens to the volume wakes them. */
	task_done(&leg->task);
	task_done(&leg->rebuild_task);
	task_done(&leg->compute_task);
	task_done(&leg->join_task);
	task_done(&leg->layers.task);
	memset(leg, 0, sizeof(*leg));
	leg->volume = volume;
	leg->index = index;
	leg->unready_ns = io_now_ns(volume->io);
	list_init(&leg->inflight);
	task_init(&leg->task, &volume->io->runq, leg_step);
	io_timer_init(&leg->timer, volume->io, &leg->task);
	task_init(&leg->rebuild_task, &volume->io->runq, rebuild_step);
	task_init(&leg->compute_task, &volume->io->runq, todo_step);
	task_init(&leg->join_task, &volume->io->runq, join_step);
	task_init(&leg->layers.task, &volume->io->runq, layers_step);
	leg->layers.state = LAYERS_DONE;
	leg->join_state = JOIN_DONE;
	io_timer_init(&leg->rebuild_timer, volume->io, &leg->rebuild_task);
	leg->watch.up = leg_peer_up;
	leg->watch.down = leg_peer_down;
	leg->watch.heard = leg_peer_heard;
}

static void leg_set_vacant(struct leg *leg)
{
	leg_init(leg, leg->volume, leg->index);
	leg->voter.kind = VOTER_ARBITER; /* nowhere does it count as data */
	leg->state = LEG_DONE;
	leg->rebuild_state = REBUILD_DONE;
	leg->vacant = true;
}

int leg_init_dirty(struct leg *leg)
{
	const struct volume *volume = leg->volume;

	if (leg->voter.kind != VOTER_DATA || volume->region_bytes == 0) {
		return 0;
	}
	if (dirty_init(&leg->dirty, &volume->nexus->dirty_store, volume->io, volume->size_bytes,
		    volume->region_bytes) != 0) {
		return -ENOMEM;
	}
	return dirty_reserve(&leg->dirty, volume->io, resize_goal(volume));
}

int leg_start(
	struct leg *leg, struct volume *volume, unsigned index, const struct volume_voter *voter)
{
	leg_init(leg, volume, index);
	leg->voter = *voter;
	leg->watch.nsid = leg->voter.nsid;
	leg->fence_data = io_zalloc(volume->io, WIRE_VOTER_STATE_SIZE);
	if (leg->fence_data == NULL || leg_init_dirty(leg) != 0) {
		io_free(volume->io, leg->fence_data);
		leg_set_vacant(leg);
		return -ENOMEM;
	}
	leg->peer = peer_get(
		&volume->nexus->peers, &leg->voter.agent, &leg->voter.address, &leg->watch);
	if (leg->peer == NULL) {
		dirty_done(&leg->dirty, volume->io);
		io_free(volume->io, leg->fence_data);
		leg_set_vacant(leg);
		return -ENOMEM;
	}
	volume->local_mask =
		(volume->local_mask & ~LEG_BIT(leg)) | (leg->voter.local ? LEG_BIT(leg) : 0);
	leg_add_metrics(leg);
	task_wake(&leg->task);
	task_wake(&leg->rebuild_task);
	return 0;
}

bool leg_is_idle(const struct leg *leg)
{
	return leg->state == LEG_DONE && leg->rebuild_state == REBUILD_DONE &&
	       list_is_empty(&leg->inflight);
}

void leg_vacate(struct leg *leg)
{
	struct io *io = leg->volume->io;

	assert(leg_is_idle(leg));
	task_done(&leg->task);
	task_done(&leg->rebuild_task);
	task_done(&leg->compute_task);
	task_done(&leg->join_task);
	task_done(&leg->layers.task);
	if (leg->vacant) {
		return;
	}
	eject_returned(leg);
	peer_put(leg->peer, &leg->watch);
	leg_remove_metrics(leg);
	dirty_done(&leg->dirty, io);
	io_free(io, leg->fence_data);
	leg_set_vacant(leg);
}

void leg_stop(struct leg *leg)
{
	leg_vacate(leg);
	io_free(leg->volume->io, leg);
}
