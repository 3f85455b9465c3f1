/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC service Nexus of proto/strake.proto. */
#include "nexus/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* NULL: the call was answered. */
static struct cvolume *find_volume(struct grpc_call *call, const char *name)
{
	struct control *control = grpc_call_ctx(call);
	struct cvolume *cv = name[0] == '\0' ? NULL : control_find(control, name);

	if (name[0] == '\0') {
		grpc_call_failf(call, -EINVAL, "the volume's name is missing");
	} else if (cv == NULL) {
		grpc_call_failf(call, -ENOENT, "nexus %s has no volume %s",
			daemon_name(control->daemon), name);
	}
	return cv;
}

static void get_nexus(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct control *control = grpc_call_ctx(call);
	Strake__V1__NexusInfo info = STRAKE__V1__NEXUS_INFO__INIT;
	char uuid[UUID_TEXT_SIZE], hostnqn[80], address[IO_ADDRESS_TEXT_SIZE], io[200],
		version[] = STRAKE_VERSION;

	(void)message;
	info.uuid = uuid_to_text(&control->uuid, uuid);
	(void)snprintf(hostnqn, sizeof(hostnqn), "nqn.2025-01.io.strake:host:%s", uuid);
	info.hostnqn = hostnqn;
	info.export_address = io_address_to_text(&control->options.export_address, address);
	info.version = version;
	(void)snprintf(io, sizeof(io), "%s", daemon_io_text(control->daemon));
	info.io = io;
	info.io_flusher = daemon_has_io_flusher(control->daemon);
	info.launcher = control->link != NULL && launcher_link_fd(control->link) >= 0;
	grpc_call_reply(call, &info.base);
}

/* ---- create and delete ---- */

static int parse_voter(
	const Strake__V1__Voter *from, struct volume_voter *ret_voter, struct err *err)
{
	*ret_voter = (struct volume_voter){.nsid = from->nsid, .local = from->local};
	if (uuid_parse(from->replica, &ret_voter->replica) < 0) {
		return err_set(err, -EINVAL, "voter: replica \"%.64s\" is no uuid", from->replica);
	}
	if (uuid_parse(from->agent, &ret_voter->agent) < 0) {
		return err_set(err, -EINVAL, "voter: agent \"%.64s\" is no uuid", from->agent);
	}
	if (strcmp(from->kind, "arbiter") == 0) {
		ret_voter->kind = VOTER_ARBITER;
	} else if (from->kind[0] != '\0' && strcmp(from->kind, "data") != 0) {
		return err_set(err, -EINVAL, "voter: kind \"%.32s\" is neither data nor arbiter",
			from->kind);
	}
	return io_address_parse(from->address, 0, &ret_voter->address, err);
}

/* What must hold of the voters that a volume begins with. */
static int check_created(struct volume_record *record, struct err *err)
{
	int result = volume_record_check(record, err);

	record->copies = volume_record_data_voters(record);
	for (unsigned i = 0; result == 0 && i < record->voter_count; i++) {
		for (unsigned j = 0; j < i && !record->used; j++) {
			if (uuid_equal(&record->voters[i].agent, &record->voters[j].agent)) {
				return err_set(err, -EINVAL,
					"volume %s: two of its replicas are on one pool-agent",
					record->name);
			}
		}
	}
	return result;
}

static int parse_create(const Strake__V1__CreateVolumeRequest *request,
	struct volume_record *record, struct err *err)
{
	struct rng rng;

	memset(record, 0, sizeof(*record));
	if (getrandom(&rng, sizeof(rng), 0) != sizeof(rng)) {
		return err_set(err, -EIO, "no random numbers");
	}
	if (strlen(request->name) >= sizeof(record->name) || request->n_voters > REPL_VOTERS_MAX) {
		return err_set(err, -EINVAL,
			"volume \"%.64s\": the name is too long or there are more than %d voters",
			request->name, REPL_VOTERS_MAX);
	}
	(void)snprintf(record->name, sizeof(record->name), "%s", request->name);
	if (request->uuid[0] == '\0') {
		uuid_make(&record->uuid, &rng);
	} else if (uuid_parse(request->uuid, &record->uuid) < 0) {
		return err_set(err, -EINVAL, "\"%.64s\" is no uuid", request->uuid);
	}
	record->size_bytes = request->size_bytes;
	record->lineage = rng_u64(&rng) | 1;
	record->attach = 1;
	record->min_insync = request->min_insync;
	record->used = request->used;
	if (request->used && request->lineage != 0) {
		record->lineage = request->lineage;
		record->lineage_known = true;
	}
	record->no_quorum_s = request->no_quorum_s;
	record->voter_count = (unsigned)request->n_voters;
	for (unsigned i = 0; i < record->voter_count; i++) {
		int result = parse_voter(request->voters[i], &record->voters[i], err);

		if (result < 0) {
			return result;
		}
	}
	return check_created(record, err);
}

/* Takes over what is new; true: something was. */
static bool create_again_takes(
	struct cvolume *cv, const struct volume_record *wanted, uint32_t lineage_attach)
{
	bool changed = volume_record_relocate(&cv->record, wanted);
	bool is_full;

	if (!cv->record.used && !cv->is_open && cv->job == NULL &&
		cv->record.size_bytes < wanted->size_bytes) {
		cv->record.size_bytes = wanted->size_bytes;
		changed = true;
	}
	if (wanted->used && !cv->record.used) {
		cv->record.used = true;
		changed = true;
	}
	if (wanted->lineage_known && !cv->is_open && cv->job == NULL) {
		changed =
			volume_record_take_lineage(&cv->record, wanted->lineage, lineage_attach) ||
			changed;
	}
	/* An open one knows its voters; those whose place it lacks are told with AddReplica. */
	for (unsigned i = 0;
		wanted->used && !cv->is_open && cv->job == NULL && i < wanted->voter_count; i++) {
		changed = volume_record_learn(&cv->record, &wanted->voters[i], &is_full) || changed;
	}
	return changed;
}

/* The volume is there: is it this one, and are its voters where they were? */
static void create_again(struct grpc_call *call, struct cvolume *cv,
	const struct volume_record *wanted, uint32_t lineage_attach)
{
	const struct volume_record before = cv->record;
	struct err err = {0};

	if (volume_record_compare(&cv->record, wanted, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	if (create_again_takes(cv, wanted, lineage_attach)) {
		if (cvolume_save(cv, &err) < 0) {
			cv->record = before;
			grpc_call_fail(call, &err);
			return;
		}
		cvolume_relocate(cv);
	}
	reply_volume(call, cv);
}

static void create_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__CreateVolumeRequest *request = (const void *)message;
	struct control *control = grpc_call_ctx(call);
	struct volume_record record;
	struct err err = {0};

	if (parse_create(request, &record, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	if (control->stopping) {
		grpc_call_failf(call, -ESHUTDOWN, "the nexus is stopping");
		return;
	}
	struct cvolume *cv = control_find(control, record.name);

	if (cv != NULL) {
		if (request->uuid[0] == '\0') {
			record.uuid = cv->record.uuid;
		}
		create_again(call, cv, &record, request->lineage_attach);
		return;
	}
	cv = cvolume_new(control, &record);
	if (cv == NULL) {
		grpc_call_failf(call, -ENOMEM, "no memory for volume %s", record.name);
	} else if (cvolume_save(cv, &err) < 0) {
		cvolume_free(cv);
		grpc_call_fail(call, &err);
	} else {
		reply_volume(call, cv);
	}
}

static void set_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__SetVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	struct volume_record before;
	struct err err = {0};

	if (cv == NULL) {
		return;
	}
	if (cv->job != NULL) {
		grpc_call_failf(call, -EALREADY,
			"volume %s is busy with something else; try again when it is done",
			request->name);
		return;
	}
	if (request->set_min_insync &&
		request->min_insync > volume_record_data_voters(&cv->record)) {
		grpc_call_failf(call, -EINVAL, "volume %s: min_insync %u with %u data replicas",
			request->name, request->min_insync, volume_record_data_voters(&cv->record));
		return;
	}
	before = cv->record;
	if (request->set_min_insync) {
		cv->record.min_insync = request->min_insync;
	}
	if (request->set_no_quorum) {
		cv->record.no_quorum_s = request->no_quorum_s;
	}
	if (volume_record_check(&cv->record, &err) < 0 || cvolume_save(cv, &err) < 0) {
		cv->record = before;
		grpc_call_fail(call, &err);
		return;
	}
	cvolume_set_policy(cv);
	reply_volume(call, cv);
}

static bool is_at_rest(const struct cvolume *cv)
{
	return cv->job == NULL && !cv->is_open && !cv->record.opened &&
	       cv->record.frontend == FRONTEND_NONE;
}

/* What an operator decided: the record is of the new lineage, and of nothing before. */
static int recover_record(const Strake__V1__RecoverVolumeRequest *request,
	struct volume_record *record, struct err *err)
{
	struct volume_voter voter;

	if (request->voter == NULL || request->lineage == 0) {
		return err_set(err, -EINVAL, "the voter or the lineage is missing");
	}
	if (request->attach < record->attach) {
		return err_set(err, -EINVAL, "volume %s: attach %u is below the recorded %u",
			record->name, request->attach, record->attach);
	}
	if (parse_voter(request->voter, &voter, err) < 0 || volume_voter_check(&voter, err) < 0) {
		return err->code;
	}
	if (record->attach != request->attach) {
		record->attach = request->attach;
		record->inc = 0;
		record->capability = (struct capability){0};
	}
	record->size_bytes = request->size_bytes;
	record->lineage = request->lineage;
	record->lineage_known = true;
	record->recovered = true;
	record->used = true;
	record->boot_id[0] = '\0';
	record->voter_count = 1;
	record->voters[0] = voter;
	return volume_record_check(record, err);
}

static void recover_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__RecoverVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	struct volume_record before;
	struct err err = {0};

	if (cv == NULL) {
		return;
	}
	if (!is_at_rest(cv)) {
		grpc_call_failf(call, -EBUSY,
			"volume %s is open or published, and what its host has seen is no longer "
			"true: unpublish and close it first",
			request->name);
		return;
	}
	before = cv->record;
	if (recover_record(request, &cv->record, &err) < 0 || cvolume_save(cv, &err) < 0) {
		cv->record = before;
		grpc_call_fail(call, &err);
		return;
	}
	reply_volume(call, cv);
}

static void delete_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__DeleteVolumeRequest *request = (const void *)message;
	Strake__V1__DeleteVolumeResponse response = STRAKE__V1__DELETE_VOLUME_RESPONSE__INIT;
	struct control *control = grpc_call_ctx(call);
	struct cvolume *cv = find_volume(call, request->name);
	struct err err = {0};

	if (cv == NULL) {
		return;
	}
	if (!is_at_rest(cv)) {
		grpc_call_failf(call, -EBUSY, "volume %s is %s; unpublish and close it first",
			request->name, cv->record.frontend != FRONTEND_NONE ? "published" : "open");
	} else if (volume_record_remove(daemon_state_folder(control->daemon), request->name, &err) <
		   0) {
		grpc_call_fail(call, &err);
	} else {
		cvolume_free(cv);
		grpc_call_reply(call, &response.base);
	}
}

/* ---- what changes while it is open ---- */

static void add_replica(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__AddReplicaRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	struct volume_voter voter;
	struct err err = {0};

	if (cv == NULL) {
		return;
	}
	if (request->voter == NULL) {
		grpc_call_failf(call, -EINVAL, "the voter is missing");
	} else if (parse_voter(request->voter, &voter, &err) < 0 ||
		   volume_voter_check(&voter, &err) < 0) {
		grpc_call_fail(call, &err);
	} else {
		job_add_voter(cv, &voter, call);
	}
}

static void remove_replica(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__RemoveReplicaRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	struct uuid replica;

	if (cv == NULL) {
		return;
	}
	if (uuid_parse(request->replica, &replica) < 0 || uuid_is_nil(&replica)) {
		grpc_call_failf(call, -EINVAL, "replica \"%.64s\" is no uuid", request->replica);
	} else {
		job_remove_voter(cv, &replica, call);
	}
}

static void resize_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__ResizeVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);

	if (cv == NULL) {
		return;
	}
	if (request->size_bytes == 0 || request->size_bytes % 4096 != 0 ||
		request->size_bytes > REPL_SIZE_MAX) {
		grpc_call_failf(call, -EINVAL,
			"volume %s: a size of %llu bytes is no multiple of 4096, or above 64 TiB",
			request->name, (unsigned long long)request->size_bytes);
	} else {
		job_resize(cv, request->size_bytes, call);
	}
}

static void create_snapshot(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__CreateSnapshotRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	size_t length = strlen(request->snapshot);

	if (cv == NULL) {
		return;
	}
	if (length == 0 || length >= REPL_NAME_SIZE) {
		grpc_call_failf(call, -EINVAL,
			"volume %s: a snapshot's name has 1 to %u characters, this one has %zu",
			request->name, REPL_NAME_SIZE - 1, length);
	} else {
		job_snapshot(cv, request->snapshot, call);
	}
}

/* ---- the rest ---- */

static void open_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__OpenVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	struct capability capability;

	if (cv == NULL) {
		return;
	}
	if (request->capability.len != 0 &&
		(request->capability.len != CAPABILITY_ENCODED_SIZE ||
			capability_decode(request->capability.data, &capability) != 0)) {
		grpc_call_failf(
			call, -EINVAL, "volume %s: the capability is malformed", request->name);
		return;
	}
	job_open(cv, request->attach, request->capability.len != 0 ? &capability : NULL, call);
}

static void close_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__CloseVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);

	if (cv != NULL) {
		job_close(cv, call);
	}
}

static void publish_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__PublishVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	enum frontend_kind frontend = FRONTEND_FUSE;
	struct err err = {0};

	if (cv == NULL) {
		return;
	}
	if (request->frontend[0] != '\0' &&
		frontend_kind_parse(request->frontend, &frontend, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	job_publish(cv, frontend, call);
}

static void unpublish_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__UnpublishVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);

	if (cv != NULL) {
		job_unpublish(cv, request->force, call);
	}
}

static void list_volumes(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__ListVolumesRequest *request = (const void *)message;

	reply_volumes(call, grpc_call_ctx(call), request->name);
}

static void compare_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__CompareVolumeRequest *request = (const void *)message;
	struct cvolume *cv = find_volume(call, request->name);
	struct err err = {0};

	if (cv == NULL) {
		return;
	}
	if (request->start && compare_start(cv, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	compare_reply(cv, call);
}

#define METHOD(name, request_type, response_type, handler)                                         \
	{"/strake.v1.Nexus/" name, &strake__v1__##request_type##__descriptor,                      \
		&strake__v1__##response_type##__descriptor, handler}

const struct grpc_method control_methods[] = {
	METHOD("GetNexus", get_nexus_request, nexus_info, get_nexus),
	METHOD("CreateVolume", create_volume_request, volume, create_volume),
	METHOD("OpenVolume", open_volume_request, volume, open_volume),
	METHOD("CloseVolume", close_volume_request, volume, close_volume),
	METHOD("PublishVolume", publish_volume_request, volume, publish_volume),
	METHOD("UnpublishVolume", unpublish_volume_request, volume, unpublish_volume),
	METHOD("ListVolumes", list_volumes_request, list_volumes_response, list_volumes),
	METHOD("DeleteVolume", delete_volume_request, delete_volume_response, delete_volume),
	METHOD("SetVolume", set_volume_request, volume, set_volume),
	METHOD("ResizeVolume", resize_volume_request, volume, resize_volume),
	METHOD("CreateSnapshot", create_snapshot_request, snapshot, create_snapshot),
	METHOD("AddReplica", add_replica_request, volume, add_replica),
	METHOD("RemoveReplica", remove_replica_request, volume, remove_replica),
	METHOD("RecoverVolume", recover_volume_request, volume, recover_volume),
	METHOD("CompareVolume", compare_volume_request, compare_volume_response, compare_volume),
};
const size_t control_method_count = sizeof(control_methods) / sizeof(control_methods[0]);
