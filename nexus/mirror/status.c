/* SPDX-License-Identifier: Apache-2.0 */
/* What a volume tells about itself. */
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

#define ALL_SLOW "every replica is slow: perhaps this node's network"

const char *volume_state_name(enum volume_state state)
{
	switch (state) {
	case VOLUME_OPENING:
		return "Opening";
	case VOLUME_ONLINE:
		return "Online";
	case VOLUME_DEGRADED:
		return "Degraded";
	case VOLUME_STALLED:
		return "Stalled";
	case VOLUME_FAULTED:
		return "Faulted";
	case VOLUME_SUPERSEDED:
		return "Superseded";
	case VOLUME_CLOSED:
		return "Closed";
	}
	return "?";
}

const char *replica_state_name(enum replica_state state)
{
	switch (state) {
	case REPLICA_UNKNOWN:
		return "Unknown";
	case REPLICA_OFFLINE:
		return "Offline";
	case REPLICA_INSYNC:
		return "Online";
	case REPLICA_OUT_OF_SYNC:
		return "OutOfSync";
	case REPLICA_REBUILDING:
		return "Rebuilding";
	case REPLICA_FAULTED:
		return "Faulted";
	}
	return "?";
}

const char *replica_membership_name(enum replica_membership membership)
{
	switch (membership) {
	case MEMBERSHIP_UNKNOWN:
		return "Unknown";
	case MEMBERSHIP_NONE:
		return "None";
	case MEMBERSHIP_VOTER:
		return "Voter";
	case MEMBERSHIP_ADDING:
		return "Adding";
	case MEMBERSHIP_REMOVING:
		return "Removing";
	}
	return "?";
}

static enum replica_membership status_membership(
	const struct volume *volume, const struct uuid *replica)
{
	bool changes = volume->change != CHANGE_NONE && uuid_equal(&volume->change_id, replica);

	if (!volume->committed) {
		return MEMBERSHIP_UNKNOWN;
	}
	if (cfg_find(&volume->cfg, replica) >= 0) {
		return changes && volume->change == CHANGE_REMOVE ? MEMBERSHIP_REMOVING
								  : MEMBERSHIP_VOTER;
	}
	if (changes && volume->change == CHANGE_ADD) {
		return MEMBERSHIP_ADDING;
	}
	/* Taken back, but an opener may still choose it. */
	return volume->unsettled_change == CHANGE_ADD && uuid_equal(&volume->unsettled_id, replica)
		       ? MEMBERSHIP_REMOVING
		       : MEMBERSHIP_NONE;
}

static enum replica_state leg_status_state(const struct leg *leg)
{
	const struct volume *volume = leg->volume;
	bool member = (volume->member_mask & LEG_BIT(leg)) != 0;

	if (leg->faulted) {
		return REPLICA_FAULTED;
	}
	if (!leg->ready) {
		return volume->attempt == 0 ? REPLICA_UNKNOWN : REPLICA_OFFLINE;
	}
	if (leg->target) {
		return REPLICA_REBUILDING;
	}
	if (leg->voter.kind == VOTER_ARBITER) {
		return voters_has(&volume->cfg, leg) ? REPLICA_INSYNC : REPLICA_OUT_OF_SYNC;
	}
	return member && !leg->out ? REPLICA_INSYNC : REPLICA_OUT_OF_SYNC;
}

static void leg_get_status(const struct leg *leg, struct volume_replica_status *status)
{
	const char *unfit = NULL;
	struct rebuild_status rebuild;

	if (leg->vacant || leg->leaving) {
		return;
	}
	status->replica = leg->voter.replica;
	status->kind = leg->voter.kind;
	status->membership = status_membership(leg->volume, &leg->voter.replica);
	if (status->membership == MEMBERSHIP_ADDING && leg->ready) {
		unfit = voters_newcomer_is_unfit(leg->volume, leg);
	}
	status->agent = leg->voter.agent;
	status->address = leg->peer->address;
	status->state = leg_status_state(leg);
	snprintf(status->reason, sizeof(status->reason), "%s",
		unfit != NULL                     ? unfit
		: leg->reason[0] != '\0'          ? leg->reason
		: !leg->peer->up                  ? leg->peer->reason
		: status->state != REPLICA_INSYNC ? leg->failure
						  : "");
	if (status->state == REPLICA_INSYNC && leg->unread_run > UNREAD_RUN_MAX) {
		snprintf(status->reason, sizeof(status->reason),
			"%u reads in a row failed: replace its disk", leg->unread_run);
	} else if (leg->target && leg->unreadable.count > 0) {
		snprintf(status->reason, sizeof(status->reason),
			"%llu pieces of %llu bytes hold blocks that no replica in sync can read, "
			"and it takes no marks: write them anew",
			(unsigned long long)leg->unreadable.count,
			(unsigned long long)leg->unreadable.piece_bytes);
	}
	rebuilds_get(leg, &rebuild);
	status->rebuild_total_bytes = rebuild.total_bytes;
	status->rebuild_done_bytes = rebuild.done_bytes;
	status->rebuild_bytes_per_s = rebuild.bytes_per_s;
	status->rebuild_seconds_left = rebuild.seconds_left;
	status->rebuild_waits = rebuild.waits;
	if (rebuild.waits) {
		size_t used = strlen(status->reason);

		snprintf(status->reason + used, sizeof(status->reason) - used, "%s%s",
			used > 0 ? "; " : "", "waits for other rebuilds");
	}
	status->rebuild_compared_bytes =
		metric_get(&leg->compared_bytes) - leg->before_compared_bytes;
	status->rebuild_equal_bytes = metric_get(&leg->equal_bytes) - leg->before_equal_bytes;
	status->rebuild_copied_bytes = metric_get(&leg->copied_bytes) - leg->before_copied_bytes;
	status->reads = metric_get(&leg->reads);
	status->writes = metric_get(&leg->writes);
	status->errors = metric_get(&leg->errors);
	status->unreadable = metric_get(&leg->unread);
	status->repairs = metric_get(&leg->repairs);
	status->ejections = metric_get(&leg->ejections);
}

/* Members without which too few are left: "needs 1 of replicas a, b". */
static void stalled_reason(
	const struct volume *volume, leg_mask missing, unsigned wanted, char *reason)
{
	size_t used = (size_t)snprintf(reason, VOLUME_REASON_SIZE, "needs %u of replicas", wanted);

	for (unsigned i = 0; i < volume->leg_count; i++) {
		char id[UUID_TEXT_SIZE];

		if (missing & (leg_mask)1 << i) {
			uuid_to_text(&volume->legs[i]->voter.replica, id);
			used += (size_t)snprintf(reason + used, VOLUME_REASON_SIZE - used,
				"%s %.8s", missing & (((leg_mask)1 << i) - 1) ? "," : "", id);
		}
	}
}

/* Voters that are reached, or have been within the lease; false: I/O waits for a majority (reads
 * for the lease, writes for the configuration without those that are lost). */
static bool has_majority(const struct volume *volume, char *reason)
{
	uint64_t now_ns = io_now_ns(volume->io);
	unsigned count = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		count += voters_has(&volume->cfg, leg) &&
			 (leg->ready || now_ns < leg->unready_ns + LEASE_NS);
	}
	if (count >= cfg_majority(&volume->cfg)) {
		return true;
	}
	snprintf(reason, VOLUME_REASON_SIZE, "needs a majority: %u of %u voters reached", count,
		volume->cfg.voter_count);
	version_name_outdated(volume, reason);
	return false;
}

static enum volume_state volume_judge_state(const struct volume *volume, char *reason)
{
	leg_mask usable = volume->member_mask & ~volume_out_mask(volume);
	leg_mask data = 0;
	unsigned reachable, data_count = voters_data_count(volume);

	snprintf(reason, VOLUME_REASON_SIZE, "%s", volume->reason);
	if (volume->superseded) {
		return VOLUME_SUPERSEDED;
	}
	if (volume->faulted) {
		return VOLUME_FAULTED;
	}
	if (!volume->serving) {
		return VOLUME_OPENING;
	}
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->voter.kind == VOTER_DATA &&
			voters_has(&volume->cfg, volume->legs[i])) {
			data |= (leg_mask)1 << i;
		}
	}
	reachable = mask_count(usable);
	if (reachable < volume->min_insync ||
		mask_count(volume->member_mask) < volume->min_insync) {
		stalled_reason(volume, data & ~usable, volume->min_insync - reachable, reason);
		return VOLUME_STALLED;
	}
	if (!has_majority(volume, reason)) {
		return VOLUME_STALLED;
	}
	if (reachable < data_count || volume->proposal_open) {
		snprintf(reason, VOLUME_REASON_SIZE, "%u of %u replicas in sync%s", reachable,
			data_count, volume->slow_all ? "; " ALL_SLOW : "");
		return VOLUME_DEGRADED;
	}
	if (volume->slow_all) {
		snprintf(reason, VOLUME_REASON_SIZE, "%s", ALL_SLOW);
	}
	return VOLUME_ONLINE;
}

/* Voters that nobody has told where to find. */
static void status_add_unplaced(const struct volume *volume, struct volume_status *status)
{
	const struct cfg *cfg = volume->cfg.gen != 0 ? &volume->cfg : &volume->chosen;

	for (unsigned i = 0; cfg->gen != 0 && i < cfg->voter_count; i++) {
		struct volume_replica_status *replica = &status->replicas[status->replica_count];

		if (status->replica_count < REPL_VOTERS_MAX &&
			volume_leg_by_id(volume, &cfg->voters[i].id) == NULL) {
			replica->replica = cfg->voters[i].id;
			replica->kind = cfg->voters[i].kind;
			replica->membership = status_membership(volume, &cfg->voters[i].id);
			snprintf(replica->reason, sizeof(replica->reason), "place unknown");
			status->replica_count++;
		}
	}
}

static void add_reason(struct volume_status *status, const char *text)
{
	size_t used = strlen(status->reason);

	snprintf(status->reason + used, sizeof(status->reason) - used, "%s%s",
		used > 0 ? "; " : "", text);
}

void volume_get_status(struct volume *volume, struct volume_status *ret_status)
{
	char text[VOLUME_REASON_SIZE];

	memset(ret_status, 0, sizeof(*ret_status));
	ret_status->state = volume_judge_state(volume, ret_status->reason);
	if (volume->failing) {
		add_reason(ret_status, "requests fail meanwhile");
	}
	if (volume->unequal.count > 0) {
		snprintf(text, sizeof(text),
			"%llu pieces of %llu bytes cannot be read: they hold blocks that no "
			"replica gives, and there is no room for more marks: write them anew",
			(unsigned long long)volume->unequal.count,
			(unsigned long long)volume->unequal.piece_bytes);
		add_reason(ret_status, text);
	}
	ret_status->no_quorum_ns = volume->no_quorum_ns;
	ret_status->size_bytes = volume->size_bytes;
	ret_status->min_insync = volume->min_insync;
	ret_status->active_regions = checkpoint_active_regions(volume);
	ret_status->resync_regions = piecemap_regions(&volume->resync);
	ret_status->unsettled_ranges = volume->unsettled;
	ret_status->unreadable_blocks = volume->lost.count;
	ret_status->reads = metric_get(&volume->reads);
	ret_status->writes = metric_get(&volume->writes);
	ret_status->flushes = metric_get(&volume->flushes);
	ret_status->bytes_read = metric_get(&volume->bytes_read);
	ret_status->bytes_written = metric_get(&volume->bytes_written);
	ret_status->errors = metric_get(&volume->errors);
	list_for_each (&volume->ops, pos) {
		const struct vol_op *op = container_of(pos, struct vol_op, node);

		ret_status->in_flight++;
		ret_status->waiting += op->state == OP_AWAIT_SERVING ||
				       op->state == OP_AWAIT_RESYNC || op->state == OP_AWAIT_LOCK ||
				       op->state == OP_AWAIT_LEASE || op->lock.parked;
	}
	volume_get_voters(volume, &ret_status->cfg, &ret_status->adding);
	ret_status->superseded_by = volume->superseded_by;
	ret_status->replica_count = volume->leg_count;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		leg_get_status(volume->legs[i], &ret_status->replicas[i]);
	}
	status_add_unplaced(volume, ret_status);
}
