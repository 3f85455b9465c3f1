/* SPDX-License-Identifier: Apache-2.0 */
/* Driving the nexus of this node (daemons.h). */
#include "base/bytes.h"
#include "csi-node/daemons.h"
#include "grpc/grpc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define CONNECT_MS 3000
#define LOOK_MS    5000
/* Closing waits for what is under way, publishing for the launcher. */
#define CHANGE_MS 60000
#define POLL_MS   100
#define BUSY_MS   3000

#define METHOD(name, request_type, response_type)                                                  \
	{"/strake.v1.Nexus/" name, &strake__v1__##request_type##__descriptor,                      \
		&strake__v1__##response_type##__descriptor, NULL}

static const struct grpc_method list_volumes =
	METHOD("ListVolumes", list_volumes_request, list_volumes_response);
static const struct grpc_method create_volume =
	METHOD("CreateVolume", create_volume_request, volume);
static const struct grpc_method open_volume = METHOD("OpenVolume", open_volume_request, volume);
static const struct grpc_method close_volume = METHOD("CloseVolume", close_volume_request, volume);
static const struct grpc_method add_replica = METHOD("AddReplica", add_replica_request, volume);
static const struct grpc_method remove_replica =
	METHOD("RemoveReplica", remove_replica_request, volume);
static const struct grpc_method resize_volume =
	METHOD("ResizeVolume", resize_volume_request, volume);
static const struct grpc_method create_snapshot =
	METHOD("CreateSnapshot", create_snapshot_request, snapshot);
static const struct grpc_method set_volume = METHOD("SetVolume", set_volume_request, volume);
static const struct grpc_method publish_volume =
	METHOD("PublishVolume", publish_volume_request, volume);
static const struct grpc_method unpublish_volume =
	METHOD("UnpublishVolume", unpublish_volume_request, volume);
static const struct grpc_method delete_volume =
	METHOD("DeleteVolume", delete_volume_request, delete_volume_response);

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

static int connect_to(const char *socket, struct grpc_client **ret_client, struct err *err)
{
	if (grpc_client_new(socket, CONNECT_MS, ret_client, err) == 0) {
		return 0;
	}
	/* One that is just being started again serves in a moment: the caller tries again. */
	err->code = -EAGAIN;
	return err_prefix(err, "nexus");
}

/* The answer is dropped. */
static int call(struct grpc_client *client, const struct grpc_method *method,
	const ProtobufCMessage *request, struct err *err)
{
	ProtobufCMessage *response = NULL;
	int result = grpc_client_call(client, method, request, CHANGE_MS, &response, err);

	daemon_message_free(response);
	return result;
}

/* ---- looking ---- */

static int look(struct grpc_client *client, const char *volume,
	Strake__V1__ListVolumesResponse **ret_volumes, struct err *err)
{
	Strake__V1__ListVolumesRequest request = STRAKE__V1__LIST_VOLUMES_REQUEST__INIT;
	ProtobufCMessage *response = NULL;

	request.name = text_of(volume);
	int result =
		grpc_client_call(client, &list_volumes, &request.base, LOOK_MS, &response, err);

	*ret_volumes = (void *)response;
	return result;
}

int nexus_look(const char *socket, Strake__V1__ListVolumesResponse **ret_volumes, struct err *err)
{
	struct grpc_client *client;
	int result = connect_to(socket, &client, err);

	*ret_volumes = NULL;
	if (result < 0) {
		return result;
	}
	result = look(client, "", ret_volumes, err);
	grpc_client_free(client);
	return result < 0 ? err_prefix(err, "nexus") : 0;
}

static int find(struct grpc_client *client, const char *name, Strake__V1__Volume **ret_volume,
	struct err *err)
{
	Strake__V1__ListVolumesResponse *volumes = NULL;
	int result = look(client, name, &volumes, err);

	*ret_volume = NULL;
	if (result == -ENOENT) {
		result = 0;
	} else if (result == 0 && volumes->n_volumes > 0) {
		*ret_volume = volumes->volumes[0];
		volumes->volumes[0] = volumes->volumes[--volumes->n_volumes];
	}
	daemon_message_free(volumes);
	return result;
}

int nexus_find(
	const char *socket, const char *volume, Strake__V1__Volume **ret_volume, struct err *err)
{
	struct grpc_client *client;
	int result = connect_to(socket, &client, err);

	*ret_volume = NULL;
	if (result < 0) {
		return result;
	}
	result = find(client, volume, ret_volume, err);
	grpc_client_free(client);
	return result < 0 ? err_prefix(err, "nexus") : 0;
}

/* ---- one step each ---- */

/* What the message points to is in `from` and `uuid`. */
static void fill_voter(
	const struct nexus_voter *from, Strake__V1__Voter *ret_voter, char uuid[UUID_TEXT_SIZE])
{
	strake__v1__voter__init(ret_voter);
	ret_voter->replica = uuid_to_text(&from->replica, uuid);
	ret_voter->kind = text_of(from->is_arbiter ? "arbiter" : "data");
	ret_voter->agent = text_of(from->agent);
	ret_voter->address = text_of(from->address);
	ret_voter->nsid = from->nsid;
	ret_voter->local = from->is_local;
}

static int create(struct grpc_client *client, const struct nexus_wish *wish, struct err *err)
{
	Strake__V1__CreateVolumeRequest request = STRAKE__V1__CREATE_VOLUME_REQUEST__INIT;
	Strake__V1__Voter voters[OBJECTS_VOTERS_MAX], *pointers[OBJECTS_VOTERS_MAX];
	char uuid[UUID_TEXT_SIZE], replicas[OBJECTS_VOTERS_MAX][UUID_TEXT_SIZE];

	for (unsigned i = 0; i < wish->voter_count; i++) {
		fill_voter(&wish->voters[i], &voters[i], replicas[i]);
		pointers[i] = &voters[i];
	}
	request.used = wish->is_used;
	request.lineage = wish->lineage;
	request.lineage_attach = wish->lineage_attach;
	request.name = text_of(wish->volume);
	request.uuid = uuid_to_text(&wish->uuid, uuid);
	request.size_bytes = wish->size_bytes;
	request.min_insync = wish->min_insync;
	request.voters = pointers;
	request.n_voters = wish->voter_count;
	return call(client, &create_volume, &request.base, err);
}

static int open(struct grpc_client *client, const struct nexus_wish *wish, struct err *err)
{
	Strake__V1__OpenVolumeRequest request = STRAKE__V1__OPEN_VOLUME_REQUEST__INIT;

	request.name = text_of(wish->volume);
	request.attach = wish->attach;
	if (wish->has_capability) {
		request.capability = (ProtobufCBinaryData){
			sizeof(wish->capability), (uint8_t *)(uintptr_t)wish->capability};
	}
	return call(client, &open_volume, &request.base, err);
}

static int publish(struct grpc_client *client, const char *name, struct err *err)
{
	Strake__V1__PublishVolumeRequest request = STRAKE__V1__PUBLISH_VOLUME_REQUEST__INIT;

	request.name = text_of(name);
	return call(client, &publish_volume, &request.base, err);
}

static int unpublish(struct grpc_client *client, const char *name, bool force, struct err *err)
{
	Strake__V1__UnpublishVolumeRequest request = STRAKE__V1__UNPUBLISH_VOLUME_REQUEST__INIT;

	request.name = text_of(name);
	request.force = force;
	return call(client, &unpublish_volume, &request.base, err);
}

static int close_it(struct grpc_client *client, const char *name, struct err *err)
{
	Strake__V1__CloseVolumeRequest request = STRAKE__V1__CLOSE_VOLUME_REQUEST__INIT;

	request.name = text_of(name);
	return call(client, &close_volume, &request.base, err);
}

static int forget(struct grpc_client *client, const char *name, struct err *err)
{
	Strake__V1__DeleteVolumeRequest request = STRAKE__V1__DELETE_VOLUME_REQUEST__INIT;

	request.name = text_of(name);
	return call(client, &delete_volume, &request.base, err);
}

/* ---- away ---- */

/* Just after an unmount something may still be looking at the device (udev, blkid). */
static int unpublish_soon(struct grpc_client *client, const char *name, bool force, struct err *err)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	uint64_t end_ms = monotonic_ms() + BUSY_MS;
	int result = unpublish(client, name, force, err);

	while (result == -EBUSY && monotonic_ms() < end_ms) {
		(void)nanosleep(&pause, NULL);
		result = unpublish(client, name, force, err);
	}
	return result;
}

static int unless_gone(int result)
{
	return result == -ENOENT ? 0 : result;
}

/* Its device may be gone, and the volume there. */
static int take_away(struct grpc_client *client, const char *name, bool force, struct err *err)
{
	int result = unless_gone(unpublish_soon(client, name, force, err));

	result = result < 0 ? result : unless_gone(close_it(client, name, err));
	return result < 0 ? result : unless_gone(forget(client, name, err));
}

int nexus_take_away(const char *socket, const char *volume, bool force, struct err *err)
{
	struct grpc_client *client;
	int result = connect_to(socket, &client, err);

	if (result < 0) {
		return result;
	}
	result = take_away(client, volume, force, err);
	grpc_client_free(client);
	return result < 0 ? err_prefix(err, "nexus") : 0;
}

/* ---- up ---- */

static bool state_is(const Strake__V1__Volume *volume, const char *state)
{
	return strcmp(volume->state, state) == 0;
}

/* Something of an earlier attachment, or of a volume that is not this one; a Faulted one is opened
 * anew when nothing of it is mounted any more: then nobody relies on what it lost. */
static bool must_go(
	const Strake__V1__Volume *volume, const struct nexus_wish *wish, bool is_mounted)
{
	char uuid[UUID_TEXT_SIZE];
	bool is_open = !state_is(volume, NEXUS_CLOSED);

	return strcasecmp(volume->uuid, uuid_to_text(&wish->uuid, uuid)) != 0 ||
	       (is_open && volume->attach != wish->attach) ||
	       (is_open && !is_mounted &&
		       (state_is(volume, NEXUS_FAULTED) || state_is(volume, NEXUS_SUPERSEDED)));
}

/* The record: is it there, and does it say where the voters are now? */
static int record(
	struct grpc_client *client, const struct nexus_wish *wish, bool is_mounted, struct err *err)
{
	Strake__V1__Volume *volume;
	int result = find(client, wish->volume, &volume, err);

	if (result < 0) {
		return result;
	}
	bool is_open = volume != NULL && !state_is(volume, NEXUS_CLOSED);

	if (volume != NULL && must_go(volume, wish, is_mounted)) {
		result = take_away(client, wish->volume, true, err);
		is_open = false;
	}
	daemon_message_free(volume);
	result = result < 0 ? result : create(client, wish, err);
	if (result == -EEXIST && is_open) {
		/* Open with other voters: what it opened with is what counts. */
		result = 0;
	} else if (result == -EEXIST) {
		result = take_away(client, wish->volume, true, err);
		result = result < 0 ? result : create(client, wish, err);
	}
	return result;
}

/* 0 in service, -EAGAIN not yet, or for good. */
static int judge(const Strake__V1__Volume *volume, struct err *err)
{
	if (state_is(volume, NEXUS_ONLINE) || state_is(volume, NEXUS_DEGRADED)) {
		return 0;
	}
	/* Closed: by an operator, after we opened it. */
	bool is_over = state_is(volume, NEXUS_SUPERSEDED) || state_is(volume, NEXUS_FAULTED) ||
		       state_is(volume, NEXUS_CLOSED);

	return err_set(err, is_over ? -EBUSY : -EAGAIN, "volume %s is %s%s%s", volume->name,
		volume->state, volume->reason[0] != '\0' ? ": " : "", volume->reason);
}

static int wait_for_service(
	struct grpc_client *client, const struct nexus_wish *wish, uint64_t end_ms, struct err *err)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	Strake__V1__Volume *volume;
	int result;

	for (;;) {
		result = find(client, wish->volume, &volume, err);
		if (result == 0 && volume == NULL) {
			return err_set(
				err, -EAGAIN, "volume %s is gone from the nexus", wish->volume);
		}
		result = result < 0 ? result : judge(volume, err);
		daemon_message_free(volume);
		if (result != -EAGAIN || monotonic_ms() >= end_ms) {
			return result;
		}
		(void)nanosleep(&pause, NULL);
	}
}

static int bring_up(struct grpc_client *client, const struct nexus_wish *wish, bool is_mounted,
	uint64_t end_ms, struct err *err)
{
	int result = record(client, wish, is_mounted, err);

	result = result < 0 ? result : open(client, wish, err);
	result = result < 0 ? result : wait_for_service(client, wish, end_ms, err);
	return result < 0 ? result : publish(client, wish->volume, err);
}

int nexus_bring_up(const char *socket, const struct nexus_wish *wish, bool is_mounted,
	uint64_t end_ms, Strake__V1__Volume **ret_volume, struct err *err)
{
	struct grpc_client *client;
	int result = connect_to(socket, &client, err);

	*ret_volume = NULL;
	if (result < 0) {
		return result;
	}
	result = bring_up(client, wish, is_mounted, end_ms, err);
	result = result < 0 ? result : find(client, wish->volume, ret_volume, err);
	if (result == 0 && (*ret_volume == NULL || (*ret_volume)->device[0] == '\0')) {
		result = err_set(err, -EAGAIN, "volume %s has no device yet", wish->volume);
		daemon_message_free(*ret_volume);
		*ret_volume = NULL;
	}
	grpc_client_free(client);
	return result;
}

/* ---- voters of an open volume ---- */

static int call_once(const char *socket, const struct grpc_method *method,
	const ProtobufCMessage *request, struct err *err)
{
	struct grpc_client *client;
	int result = connect_to(socket, &client, err);

	if (result < 0) {
		return result;
	}
	result = call(client, method, request, err);
	grpc_client_free(client);
	return result;
}

int nexus_add_voter(
	const char *socket, const char *volume, const struct nexus_voter *voter, struct err *err)
{
	Strake__V1__AddReplicaRequest request = STRAKE__V1__ADD_REPLICA_REQUEST__INIT;
	Strake__V1__Voter message;
	char uuid[UUID_TEXT_SIZE];

	fill_voter(voter, &message, uuid);
	request.name = text_of(volume);
	request.voter = &message;
	return call_once(socket, &add_replica, &request.base, err);
}

int nexus_remove_voter(
	const char *socket, const char *volume, const struct uuid *replica, struct err *err)
{
	Strake__V1__RemoveReplicaRequest request = STRAKE__V1__REMOVE_REPLICA_REQUEST__INIT;
	char uuid[UUID_TEXT_SIZE];

	request.name = text_of(volume);
	request.replica = uuid_to_text(replica, uuid);
	return call_once(socket, &remove_replica, &request.base, err);
}

int nexus_resize(const char *socket, const char *volume, uint64_t size_bytes, struct err *err)
{
	Strake__V1__ResizeVolumeRequest request = STRAKE__V1__RESIZE_VOLUME_REQUEST__INIT;

	request.name = text_of(volume);
	request.size_bytes = size_bytes;
	return call_once(socket, &resize_volume, &request.base, err);
}

int nexus_set_min_insync(
	const char *socket, const char *volume, unsigned min_insync, struct err *err)
{
	Strake__V1__SetVolumeRequest request = STRAKE__V1__SET_VOLUME_REQUEST__INIT;

	request.name = text_of(volume);
	request.set_min_insync = true;
	request.min_insync = min_insync;
	return call_once(socket, &set_volume, &request.base, err);
}

int nexus_snapshot(const char *socket, const char *volume, const char *name,
	Strake__V1__Snapshot **ret_snapshot, struct err *err)
{
	Strake__V1__CreateSnapshotRequest request = STRAKE__V1__CREATE_SNAPSHOT_REQUEST__INIT;
	ProtobufCMessage *response = NULL;
	struct grpc_client *client;
	int result = connect_to(socket, &client, err);

	*ret_snapshot = NULL;
	if (result < 0) {
		return result;
	}
	request.name = text_of(volume);
	request.snapshot = text_of(name);
	result = grpc_client_call(
		client, &create_snapshot, &request.base, CHANGE_MS, &response, err);
	grpc_client_free(client);
	*ret_snapshot = (void *)response;
	return result;
}
