/* SPDX-License-Identifier: Apache-2.0 */
/* What clients are told about volumes. */
#include "nexus/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The file may name others than the volume knows. */
#define REPLICAS_MAX (2u * REPL_VOTERS_MAX)

/* A Volume message with all that it points to. */
struct volume_reply {
	struct cvolume *cv;
	bool is_open;
	struct volume_status status;
	Strake__V1__Volume message;
	Strake__V1__VolumeReplica replicas[REPLICAS_MAX];
	Strake__V1__VolumeReplica *pointers[REPLICAS_MAX];
	char uuid[UUID_TEXT_SIZE];
	char epoch[EPOCH_TEXT_SIZE];
	char snapshot[UUID_TEXT_SIZE];
	char nqn[NVME_NQN_SIZE];
	char address[IO_ADDRESS_TEXT_SIZE];
	char replica_uuids[REPLICAS_MAX][UUID_TEXT_SIZE];
	char agent_uuids[REPL_VOTERS_MAX][UUID_TEXT_SIZE];
	char addresses[REPL_VOTERS_MAX][IO_ADDRESS_TEXT_SIZE];
	char reason[VOLUME_REASON_SIZE + ERR_TEXT_MAX];
};

struct replies {
	size_t count;
	struct volume_reply *replies;
};

/* Reactor: one visit for all of them. */
static void look_at_volumes(void *ctx)
{
	struct replies *replies = ctx;

	for (size_t i = 0; i < replies->count; i++) {
		struct volume_reply *reply = &replies->replies[i];

		reply->is_open = reply->cv->volume != NULL;
		if (reply->is_open) {
			volume_get_status(reply->cv->volume, &reply->status);
		}
	}
}

/* protobuf-c's strings are not const; it does not write to them. */
static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

static void fill_replica_status(
	Strake__V1__VolumeReplica *replica, struct volume_replica_status *status)
{
	replica->state = text_of(replica_state_name(status->state));
	replica->membership = text_of(replica_membership_name(status->membership));
	replica->reason = status->reason;
	replica->rebuild_total_bytes = status->rebuild_total_bytes;
	replica->rebuild_done_bytes = status->rebuild_done_bytes;
	replica->rebuild_bytes_per_s = status->rebuild_bytes_per_s;
	replica->rebuild_seconds_left = status->rebuild_seconds_left;
	replica->rebuild_waits = status->rebuild_waits;
	replica->rebuild_compared_bytes = status->rebuild_compared_bytes;
	replica->rebuild_equal_bytes = status->rebuild_equal_bytes;
	replica->rebuild_copied_bytes = status->rebuild_copied_bytes;
	replica->reads = status->reads;
	replica->writes = status->writes;
	replica->errors = status->errors;
	replica->ejections = status->ejections;
	replica->unreadable = status->unreadable;
	replica->repairs = status->repairs;
}

static Strake__V1__VolumeReplica *add_replica(
	struct volume_reply *reply, const struct uuid *id, enum voter_kind kind)
{
	size_t at = reply->message.n_replicas++;
	Strake__V1__VolumeReplica *replica = &reply->replicas[at];

	strake__v1__volume_replica__init(replica);
	reply->pointers[at] = replica;
	replica->uuid = uuid_to_text(id, reply->replica_uuids[at]);
	replica->kind = text_of(kind == VOTER_ARBITER ? "arbiter" : "data");
	replica->membership = text_of(replica_membership_name(MEMBERSHIP_UNKNOWN));
	replica->state = text_of(replica_state_name(REPLICA_UNKNOWN));
	return replica;
}

/* Those of the state file, and voters that nobody has told where to find. */
static void fill_replicas(struct volume_reply *reply)
{
	const struct volume_record *record = &reply->cv->record;
	bool told[REPL_VOTERS_MAX] = {false};

	for (unsigned i = 0; i < record->voter_count; i++) {
		const struct volume_voter *voter = &record->voters[i];
		Strake__V1__VolumeReplica *replica =
			add_replica(reply, &voter->replica, voter->kind);

		replica->agent = uuid_to_text(&voter->agent, reply->agent_uuids[i]);
		replica->address = io_address_to_text(&voter->address, reply->addresses[i]);
		replica->nsid = voter->nsid;
		for (unsigned j = 0; reply->is_open && j < reply->status.replica_count; j++) {
			if (uuid_equal(&reply->status.replicas[j].replica, &voter->replica)) {
				fill_replica_status(replica, &reply->status.replicas[j]);
				told[j] = true;
			}
		}
	}
	for (unsigned j = 0; reply->is_open && j < reply->status.replica_count; j++) {
		struct volume_replica_status *status = &reply->status.replicas[j];

		/* The place of one that left is empty. */
		if (!told[j] && !uuid_is_nil(&status->replica) &&
			status->membership != MEMBERSHIP_NONE) {
			fill_replica_status(
				add_replica(reply, &status->replica, status->kind), status);
		}
	}
	reply->message.replicas = reply->pointers;
}

static void fill_status(struct volume_reply *reply)
{
	struct volume_status *status = &reply->status;
	Strake__V1__Volume *message = &reply->message;

	message->state = text_of(volume_state_name(status->state));
	message->reason = status->reason;
	message->superseded_by = status->superseded_by;
	message->size_bytes = status->size_bytes;
	message->epoch = epoch_to_text(&status->cfg.epoch, reply->epoch);
	message->generation = status->cfg.gen;
	message->min_insync = status->min_insync;
	message->active_regions = status->active_regions;
	message->resync_regions = status->resync_regions;
	message->unsettled_ranges = status->unsettled_ranges;
	message->unreadable_blocks = status->unreadable_blocks;
	message->reads = status->reads;
	message->writes = status->writes;
	message->flushes = status->flushes;
	message->bytes_read = status->bytes_read;
	message->bytes_written = status->bytes_written;
	message->errors = status->errors;
	message->waiting = status->waiting;
	if (status->cfg.snap_seq != 0) {
		message->snapshots = status->cfg.snap_seq;
		message->last_snapshot = uuid_to_text(&status->cfg.snap_id, reply->snapshot);
	}
}

static void fill_frontend(struct volume_reply *reply)
{
	struct cvolume *cv = reply->cv;
	Strake__V1__Volume *message = &reply->message;

	message->frontend = text_of(frontend_kind_name(cv->record.frontend));
	if (cv->held != NULL && !cv->held->gone) {
		message->device = cv->held->device;
	}
	if (cv->exported) {
		(void)snprintf(
			reply->nqn, sizeof(reply->nqn), EXPORT_NQN_PREFIX "%s", cv->record.name);
		message->nqn = reply->nqn;
		message->address =
			io_address_to_text(&cv->control->options.export_address, reply->address);
	}
	if (cv->fuse_result < 0) {
		(void)snprintf(reply->reason, sizeof(reply->reason), "%s%sfrontend: %s",
			message->reason, message->reason[0] != '\0' ? "; " : "", cv->fuse_err.text);
		message->reason = reply->reason;
	}
}

static void fill(struct volume_reply *reply)
{
	const struct volume_record *record = &reply->cv->record;
	Strake__V1__Volume *message = &reply->message;

	strake__v1__volume__init(message);
	message->name = text_of(record->name);
	message->uuid = uuid_to_text(&record->uuid, reply->uuid);
	message->size_bytes = record->size_bytes;
	message->attach = record->attach;
	message->lineage = record->lineage_known ? record->lineage : 0;
	message->recovered = record->recovered;
	message->min_insync = record->min_insync;
	message->no_quorum_s = record->no_quorum_s;
	message->state = text_of(volume_state_name(VOLUME_CLOSED));
	if (reply->is_open) {
		fill_status(reply);
	}
	fill_frontend(reply);
	fill_replicas(reply);
}

static int make_replies(struct control *control, const char *name, struct replies *ret_replies)
{
	size_t count = 0;

	list_for_each (&control->volumes, node) {
		count++;
	}
	ret_replies->count = 0;
	ret_replies->replies = calloc(count > 0 ? count : 1, sizeof(struct volume_reply));
	if (ret_replies->replies == NULL) {
		return -ENOMEM;
	}
	list_for_each (&control->volumes, node) {
		struct cvolume *cv = container_of(node, struct cvolume, node);

		if (name[0] == '\0' || strcmp(name, cv->record.name) == 0) {
			ret_replies->replies[ret_replies->count++].cv = cv;
		}
	}
	if (ret_replies->count > 0) {
		reactor_ask(daemon_reactor(control->daemon), look_at_volumes, ret_replies);
	}
	for (size_t i = 0; i < ret_replies->count; i++) {
		fill(&ret_replies->replies[i]);
	}
	return 0;
}

void reply_volume(struct grpc_call *call, struct cvolume *cv)
{
	struct replies replies;

	if (make_replies(cv->control, cv->record.name, &replies) < 0) {
		grpc_call_failf(call, -ENOMEM, "no memory for an answer");
		return;
	}
	grpc_call_reply(call, &replies.replies[0].message.base);
	free(replies.replies);
}

void reply_volumes(struct grpc_call *call, struct control *control, const char *name)
{
	Strake__V1__ListVolumesResponse response = STRAKE__V1__LIST_VOLUMES_RESPONSE__INIT;
	struct replies replies;

	if (name[0] != '\0' && control_find(control, name) == NULL) {
		grpc_call_failf(call, -ENOENT, "this nexus has no volume %s", name);
		return;
	}
	if (make_replies(control, name, &replies) < 0) {
		grpc_call_failf(call, -ENOMEM, "no memory for an answer");
		return;
	}
	response.volumes = calloc(replies.count + 1, sizeof(*response.volumes));
	if (response.volumes == NULL) {
		grpc_call_failf(call, -ENOMEM, "no memory for an answer");
	} else {
		for (size_t i = 0; i < replies.count; i++) {
			response.volumes[response.n_volumes++] = &replies.replies[i].message;
		}
		grpc_call_reply(call, &response.base);
	}
	free(response.volumes);
	free(replies.replies);
}
