/* SPDX-License-Identifier: Apache-2.0 */
/* What a volume tells about itself. */
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

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
	return member && !leg->out ? REPLICA_INSYNC : REPLICA_OUT_OF_SYNC;
}

static void leg_get_status(const struct leg *leg, struct volume_replica_status *status)
{
	status->replica = leg->voter.replica;
	status->agent = leg->voter.agent;
	status->address = leg->peer->address;
	status->state = leg_status_state(leg);
	snprintf(status->reason, sizeof(status->reason), "%s",
		leg->reason[0] != '\0'            ? leg->reason
		: !leg->peer->up                  ? leg->peer->reason
		: status->state != REPLICA_INSYNC ? leg->failure
						  : "");
	status->rebuild_total_bytes = leg->todo_total_bytes;
	if (leg->target && !leg->todo_all) {
		uint64_t left = leg->todo.count * leg->todo.piece_bytes;

		status->rebuild_done_bytes =
			leg->todo_total_bytes > left ? leg->todo_total_bytes - left : 0;
	} else if (!leg->target) {
		status->rebuild_done_bytes = leg->todo_total_bytes;
	}
	status->reads = metric_get(&leg->reads);
	status->writes = metric_get(&leg->writes);
	status->errors = metric_get(&leg->errors);
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

/* Voters that are there, or have been away for no longer than a restart takes. */
static unsigned voters_reached(const struct volume *volume)
{
	unsigned count = 0;

	for (unsigned i = 0; i < volume->leg_count; i++) {
		const struct leg *leg = volume->legs[i];

		count += cfg_find(&volume->cfg, &leg->voter.replica) >= 0 &&
			 (leg->ready || io_now_ns(volume->io) < leg->unready_ns + EJECT_NS);
	}
	return count;
}

static enum volume_state volume_judge_state(const struct volume *volume, char *reason)
{
	leg_mask usable = volume->member_mask & ~volume_out_mask(volume);
	leg_mask data = 0;
	unsigned reachable;

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
		if (volume->legs[i]->voter.kind == VOTER_DATA) {
			data |= (leg_mask)1 << i;
		}
	}
	reachable = mask_count(usable);
	if (reachable < volume->min_insync ||
		mask_count(volume->member_mask) < volume->min_insync) {
		stalled_reason(volume, data & ~usable, volume->min_insync - reachable, reason);
		return VOLUME_STALLED;
	}
	if (voters_reached(volume) < cfg_majority(&volume->cfg)) {
		/* Members enough, and nobody may change S or has the lease to read. */
		snprintf(reason, VOLUME_REASON_SIZE,
			"needs a majority: %u of %u voters reached, %u needed",
			voters_reached(volume), volume->cfg.voter_count,
			cfg_majority(&volume->cfg));
		return VOLUME_STALLED;
	}
	if (usable == data && !volume->proposal_open) {
		return VOLUME_ONLINE;
	}
	snprintf(reason, VOLUME_REASON_SIZE, "%u of %u replicas in sync", reachable,
		mask_count(data));
	return VOLUME_DEGRADED;
}

void volume_get_status(struct volume *volume, struct volume_status *ret_status)
{
	memset(ret_status, 0, sizeof(*ret_status));
	ret_status->state = volume_judge_state(volume, ret_status->reason);
	ret_status->size_bytes = volume->size_bytes;
	ret_status->cfg = volume->cfg;
	ret_status->min_insync = volume->min_insync;
	ret_status->active_regions = piecemap_regions(&volume->active);
	ret_status->resync_regions = piecemap_regions(&volume->resync);
	ret_status->unsettled_ranges = volume->unsettled;
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
	ret_status->replica_count = volume->leg_count;
	for (unsigned i = 0; i < volume->leg_count; i++) {
		leg_get_status(volume->legs[i], &ret_status->replicas[i]);
	}
}
