/* SPDX-License-Identifier: Apache-2.0 */
/* What the objects say, what must never be, and what must be in the end. */
#include "objects/objects.h"
#include "repl/capability.h"
#include "tests/sim/kube/side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *volume_of(const struct kube_side *side)
{
	return fake_server_get(&side->server, "volumes", KUBE_VOLUME);
}

static int node_of(const char *name)
{
	return name[0] == 'n' && name[1] >= '0' && name[1] <= '9' && name[2] == '\0' ? name[1] - '0'
										     : -1;
}

/* ---- what they say ---- */

bool kube_volume_is_there(const struct kube_side *side)
{
	return volume_of(side) != NULL;
}

bool kube_volume_is_available(const struct kube_side *side)
{
	return strcmp(kube_condition_status(
			      kube_at(volume_of(side), "status.conditions"), "Available"),
		       "True") == 0;
}

unsigned kube_volume_replicas(const struct kube_side *side)
{
	return (unsigned)kube_number(volume_of(side), "spec.replicas", 0);
}

uint64_t kube_volume_size(const struct kube_side *side)
{
	uint64_t bytes = 0;

	return kube_quantity_parse(kube_text(volume_of(side), "spec.size"), &bytes) == 0 ? bytes
											 : 0;
}

uint32_t kube_attach_number(const struct kube_side *side)
{
	return (uint32_t)kube_number(volume_of(side), "status.attachment.number", 0);
}

int kube_attached_node(const struct kube_side *side)
{
	return node_of(kube_text(volume_of(side), "status.attachment.node"));
}

bool kube_pool_is_there(const struct kube_side *side, unsigned node)
{
	char name[8];
	const json_t *pool;

	kube_node_name(node, name);
	pool = fake_server_get(&side->server, "pools", name);
	return pool != NULL && !kube_is_deleted(pool);
}

struct survey {
	unsigned all, live, data, arbiters, leaving_pool;
	unsigned wanted_index;
	int found; /* node */
	const struct kube_side *side;
	const char *without_vote;
};

static void look_at_replica(void *ctx, const json_t *replica)
{
	struct survey *survey = ctx;
	bool is_arbiter = strcmp(kube_text(replica, "spec.kind"), "Arbiter") == 0;
	int node = node_of(kube_text(replica, "spec.node"));
	struct uuid uuid;

	survey->all++;
	if (kube_is_deleted(replica)) {
		return;
	}
	if (!is_arbiter && survey->data == survey->wanted_index) {
		survey->found = node;
	}
	survey->live++;
	survey->data += !is_arbiter;
	survey->arbiters += is_arbiter;
	survey->leaving_pool += node >= 0 && !kube_pool_is_there(survey->side, (unsigned)node);
	if (uuid_parse(kube_text(replica, "spec.uuid"), &uuid) == 0 &&
		!survey->side->world.has_vote(survey->side->world.ctx, &uuid)) {
		survey->without_vote = kube_name(replica);
	}
}

static struct survey survey(const struct kube_side *side, unsigned wanted_index)
{
	struct survey result = {.wanted_index = wanted_index, .found = -1, .side = side};

	fake_server_each(&side->server, "replicas", look_at_replica, &result);
	return result;
}

unsigned kube_replica_count(const struct kube_side *side)
{
	return survey(side, 0).all;
}

int kube_replica_node(const struct kube_side *side, unsigned index)
{
	return survey(side, index).found;
}

static void count_one(void *ctx, const json_t *object)
{
	(void)object;
	++*(unsigned *)ctx;
}

unsigned kube_snapshot_count(const struct kube_side *side)
{
	unsigned count = 0;

	fake_server_each(&side->server, "snapshots", count_one, &count);
	return count;
}

static const json_t *snapshot_of(const struct kube_side *side, unsigned index)
{
	char name[8];

	snapshot_name(index, name);
	return fake_server_get(&side->server, "snapshots", name);
}

const char *kube_snapshot_state(const struct kube_side *side, unsigned index)
{
	return kube_text(snapshot_of(side, index), "status.state");
}

const char *kube_snapshot_message(
	const struct kube_side *side, unsigned index, const char *condition)
{
	const json_t *list = kube_at(snapshot_of(side, index), "status.conditions");

	for (size_t i = 0; i < json_array_size(list); i++) {
		if (strcmp(kube_text(json_array_get(list, i), "type"), condition) == 0) {
			return kube_text(json_array_get(list, i), "message");
		}
	}
	return "";
}

bool kube_nexus_is_said(const struct kube_side *side, unsigned node)
{
	const json_t *volume = volume_of(side);
	const char *state = kube_text(volume, "status.nexus.state");

	return node_of(kube_text(volume, "status.nexus.node")) == (int)node &&
	       (strcmp(state, "Online") == 0 || strcmp(state, "Degraded") == 0);
}

/* ---- what must be in the end ---- */

static const char *voters_are(const struct kube_side *side, const json_t *nexus)
{
	const json_t *replicas = json_object_get(nexus, "replicas"), *replica;
	size_t i;

	if (json_array_size(replicas) != side->world.vote_count(side->world.ctx)) {
		return "status.nexus lists others than the voters";
	}
	json_array_foreach((json_t *)(uintptr_t)replicas, i, replica)
	{
		struct uuid uuid;

		if (uuid_parse(kube_text(replica, "uuid"), &uuid) < 0 ||
			!side->world.has_vote(side->world.ctx, &uuid)) {
			return "status.nexus lists one that is no voter";
		}
		if (strcmp(kube_text(replica, "state"), "Online") != 0) {
			return "status.nexus lists one that is not Online";
		}
	}
	return NULL;
}

/* As many pools as could hold one more. */
static unsigned pools_left(const struct kube_side *side, const struct survey *of)
{
	unsigned pools = 0;

	for (unsigned i = 0; i < side->world.node_count; i++) {
		pools += kube_pool_is_there(side, i);
	}
	return pools > of->live - of->leaving_pool ? pools - (of->live - of->leaving_pool) : 0;
}

static const char *replicas_are(const struct kube_side *side)
{
	unsigned wanted = kube_volume_replicas(side);
	struct survey of = survey(side, 0);

	if (of.without_vote != NULL) {
		return "a Replica has no vote";
	}
	if (of.all != of.live) {
		return "a deleted Replica is still there";
	}
	if (of.live != side->world.vote_count(side->world.ctx)) {
		return "not as many Replicas as voters";
	}
	if ((of.data != wanted || of.arbiters != (wanted % 2 == 0) || of.leaving_pool > 0) &&
		pools_left(side, &of) > 0) {
		return "not as many replicas as are wanted, or some on a pool that is to go";
	}
	return NULL;
}

struct resting {
	const struct kube_side *side;
	const char *wrong;
};

/* Made where pools have them, and held then; else refused for good. */
static void look_at_snapshot(void *ctx, const json_t *snapshot)
{
	struct resting *resting = ctx;
	bool is_ready = kube_bool(snapshot, "status.readyToUse");

	if (strcmp(kube_text(snapshot, "status.state"),
		    resting->side->world.has_snapshots ? "Ready" : "Failed") != 0) {
		resting->wrong = "a Snapshot is not what it comes to in the end";
	} else if (is_ready != resting->side->world.has_snapshots ||
		   is_ready != kube_has_finalizer(snapshot, OBJECTS_FINALIZER_SNAPSHOT)) {
		resting->wrong = "a Snapshot is ready, or held, and should not, or the reverse";
	} else if (kube_is_deleted(snapshot) && !is_ready) {
		resting->wrong = "a deleted Snapshot that was never made is still there";
	} else if (!kube_is_deleted(snapshot) && kube_text(snapshot, "status.node")[0] != '\0') {
		resting->wrong = "a node still watches a Snapshot that is over";
	}
}

static const char *snapshots_are(const struct kube_side *side)
{
	struct resting resting = {.side = side};

	fake_server_each(&side->server, "snapshots", look_at_snapshot, &resting);
	return resting.wrong;
}

bool kube_is_at_rest(const struct kube_side *side, const char *epoch, uint64_t size_bytes,
	char *why, size_t size)
{
	const json_t *nexus = kube_at(volume_of(side), "status.nexus");
	const char *wrong = voters_are(side, nexus);

	wrong = wrong != NULL ? wrong : replicas_are(side);
	wrong = wrong != NULL ? wrong : snapshots_are(side);
	if (wrong == NULL && strcmp(kube_text(nexus, "epoch"), epoch) != 0) {
		wrong = "status.nexus.epoch is not the voters'";
	}
	if (wrong == NULL && kube_volume_size(side) != size_bytes) {
		wrong = "spec.size is not the volume's";
	}
	if (wrong != NULL) {
		char *text = json_dumps(kube_at(volume_of(side), "status"), JSON_COMPACT);

		(void)snprintf(why, size, "%s; status: %s", wrong, text != NULL ? text : "none");
		free(text);
	}
	return wrong == NULL;
}

/* ---- what must never be ---- */

/* Of the attachment as it is, and of no other. */
static void check_capability(struct kube_side *side, const json_t *volume, const char *node)
{
	const json_t *secret = fake_server_get(&side->server, "secrets", "strake-master-key");
	const char *text = kube_text(volume, "status.attachment.capability");
	uint8_t master[CAPABILITY_SECRET_SIZE], bytes[CAPABILITY_ENCODED_SIZE];
	struct capability capability;
	struct volume_key key;
	struct uuid uuid, host;

	if (base64_parse(kube_text(secret, "data.key"), master, sizeof(master)) < 0 ||
		uuid_parse(kube_text(volume, "spec.uuid"), &uuid) < 0 ||
		base64_parse(text, bytes, sizeof(bytes)) < 0 ||
		capability_decode(bytes, &capability) < 0) {
		side_wrong(side, "the volume is attached without a capability");
		return;
	}
	capability_node(node, &host);
	volume_key_derive(master, &uuid, 1, &key);
	if (!capability_fits(&capability, &key, &uuid,
		    (uint32_t)kube_number(volume, "status.attachment.number", 0), &host)) {
		side_wrong(side, "the volume is attached with a capability of something else");
	}
}

/* To something: that it goes is always right. */
static bool nexus_changes(const json_t *before, const json_t *object)
{
	const json_t *is = kube_at(object, "status.nexus");

	return is != NULL && !json_equal(is, kube_at(before, "status.nexus"));
}

static void check_volume(struct kube_side *side, const json_t *before, const json_t *object)
{
	int64_t was = kube_number(before, "status.attachment.number", 0);
	int64_t is = kube_number(object, "status.attachment.number", 0);
	const char *from = kube_text(before, "status.attachment.node");
	const char *to = kube_text(object, "status.attachment.node");

	if (object == NULL) {
		if (from[0] != '\0') {
			side_wrong(side, "the volume goes while it is attached");
		}
		return;
	}
	if (is < was || (from[0] != '\0' && to[0] != '\0' && strcmp(from, to) != 0)) {
		side_wrong(side, "attachment %lld %s becomes %lld %s", (long long)was, from,
			(long long)is, to);
	}
	if (from[0] == '\0' && to[0] != '\0' && is == was) {
		side_wrong(side, "attach number %lld is given out twice", (long long)is);
	}
	if (to[0] != '\0') {
		check_capability(side, object, to);
	}
	if (nexus_changes(before, object) &&
		strcmp(kube_text(object, "status.nexus.node"), to) != 0) {
		side_wrong(side,
			"node %s says what its nexus has, and has lost the volume to \"%s\"",
			kube_text(object, "status.nexus.node"), to);
	}
}

struct placed {
	struct kube_side *side;
	const json_t *replica;
};

static void look_at_other(void *ctx, const json_t *other)
{
	const struct placed *placed = ctx;

	if (other != placed->replica && !kube_is_deleted(other) &&
		strcmp(kube_text(other, "spec.node"), kube_text(placed->replica, "spec.node")) ==
			0) {
		side_wrong(placed->side, "replicas %s and %s are placed on one node",
			kube_name(placed->replica), kube_name(other));
	}
}

static void check_placed(struct kube_side *side, const json_t *replica)
{
	struct placed placed = {side, replica};

	fake_server_each(&side->server, "replicas", look_at_other, &placed);
}

static void check_replica(struct kube_side *side, const json_t *before, const json_t *object)
{
	const json_t *volume = volume_of(side);
	struct uuid uuid;

	if (before == NULL && kube_text(object, "spec.key.sealed")[0] == '\0') {
		side_wrong(side, "replica %s is made without a key", kube_name(object));
	}
	if (before == NULL) {
		check_placed(side, object);
	}
	if (volume != NULL && !kube_is_deleted(volume) && before != NULL &&
		!kube_is_deleted(before) && (object == NULL || kube_is_deleted(object)) &&
		uuid_parse(kube_text(before, "spec.uuid"), &uuid) == 0 &&
		side->world.has_vote(side->world.ctx, &uuid)) {
		side_wrong(side, "replica %s is deleted and has a vote", kube_name(before));
	}
}

/* What is ready was made, and is held as long as it is. */
static void check_snapshot(struct kube_side *side, const json_t *before, const json_t *object)
{
	const json_t *replicas = kube_at(object, "status.replicas"), *replica;
	struct uuid uuid;
	size_t i;

	if (kube_bool(before, "status.readyToUse") &&
		kube_has_finalizer(before, OBJECTS_FINALIZER_SNAPSHOT) &&
		(object == NULL || !kube_has_finalizer(object, OBJECTS_FINALIZER_SNAPSHOT))) {
		side_wrong(side, "snapshot %s goes while it is ready", kube_name(before));
	}
	if (kube_bool(before, "status.readyToUse") && object != NULL &&
		!kube_bool(object, "status.readyToUse") && volume_of(side) != NULL) {
		side_wrong(side, "snapshot %s is ready no more, and its volume is there",
			kube_name(before));
	}
	if (kube_bool(before, "status.readyToUse") || !kube_bool(object, "status.readyToUse")) {
		return;
	}
	if (uuid_parse(kube_text(object, "spec.uuid"), &uuid) < 0 ||
		json_array_size(replicas) == 0) {
		side_wrong(side, "snapshot %s is ready without replicas", kube_name(object));
	}
	json_array_foreach((json_t *)(uintptr_t)replicas, i, replica)
	{
		if (!side->world.is_snapshot(
			    side->world.ctx, &uuid, (uint64_t)kube_number(replica, "number", 0))) {
			side_wrong(side, "snapshot %s is ready, and was never committed so",
				kube_name(object));
		}
	}
}

void check_change(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct kube_side *side = ctx;

	if (side->is_ending || side->was_restored) {
		return;
	}
	if (strncmp(key, "volumes/", 8) == 0) {
		check_volume(side, before, object);
	} else if (strncmp(key, "replicas/", 9) == 0) {
		check_replica(side, before, object);
	} else if (strncmp(key, "snapshots/", 10) == 0) {
		check_snapshot(side, before, object);
	}
}
