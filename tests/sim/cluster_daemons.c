/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi-node/daemons.h for simulated daemons: what csi-node asks of its pool-agent and its nexus is
 * done with the agent and the slot of its node.  Nothing blocks: what takes time is begun, and
 * answered with -EAGAIN until it is done, as csi-node takes it from a daemon that does not answer.
 *
 * lib/objects and the nexus have types of the same names; those of lib/objects are not used here.
 */
#define volume_state        objects_volume_state
#define replica_state       objects_replica_state
#define VOLUME_CREATING     OBJECTS_VOLUME_CREATING
#define VOLUME_ONLINE       OBJECTS_VOLUME_ONLINE
#define VOLUME_DEGRADED     OBJECTS_VOLUME_DEGRADED
#define VOLUME_STALLED      OBJECTS_VOLUME_STALLED
#define VOLUME_FAULTED      OBJECTS_VOLUME_FAULTED
#define VOLUME_DELETING     OBJECTS_VOLUME_DELETING
#define REPLICA_FAULTED     OBJECTS_REPLICA_FAULTED
#define REPLICA_OUT_OF_SYNC OBJECTS_REPLICA_OUT_OF_SYNC
#define REPLICA_REBUILDING  OBJECTS_REPLICA_REBUILDING
#define volume_state_name   objects_volume_state_name
#define replica_state_name  objects_replica_state_name
#include "csi-node/daemons.h"
#undef volume_state
#undef replica_state
#undef VOLUME_CREATING
#undef VOLUME_ONLINE
#undef VOLUME_DEGRADED
#undef VOLUME_STALLED
#undef VOLUME_FAULTED
#undef VOLUME_DELETING
#undef REPLICA_FAULTED
#undef REPLICA_OUT_OF_SYNC
#undef REPLICA_REBUILDING
#undef volume_state_name
#undef replica_state_name

#include "tests/sim/cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* csi-node names its daemons by sockets, which here are numbers of nodes: the cluster that they are
 * of is the one there is. */
static struct cluster *cluster;

void cluster_daemons_set(struct cluster *now)
{
	cluster = now;
}

static struct node_agent *agent_at(const char *socket)
{
	return &cluster->world->agents[strtoul(socket, NULL, 10)];
}

/* NULL: this node runs none. */
static struct slot *slot_at(const char *socket)
{
	unsigned long node = strtoul(socket, NULL, 10);

	return node < SLOTS ? &cluster->world->slots[node] : NULL;
}

static int is_away(struct err *err, const char *daemon)
{
	return err_set(err, -EAGAIN, "%s: nobody answers", daemon);
}

static int is_under_way(struct err *err, const char *what)
{
	return err_set(err, -EAGAIN, "%s is under way", what);
}

/* ---- the configuration, as the voters have it ---- */

bool cluster_has_vote(void *ctx, const struct uuid *replica)
{
	const struct cfg *cfg = chain_last(((struct cluster *)ctx)->world);

	return cfg != NULL && cfg_find(cfg, replica) >= 0;
}

unsigned cluster_vote_count(void *ctx)
{
	const struct cfg *cfg = chain_last(((struct cluster *)ctx)->world);

	return cfg != NULL ? cfg->voter_count : 0;
}

bool cluster_is_snapshot(void *ctx, const struct uuid *id, uint64_t number)
{
	const struct snapshots *snapshots = &((struct cluster *)ctx)->world->snapshots;

	return number >= 1 && number <= snapshots->last &&
	       uuid_equal(&snapshots->committed[number].id, id);
}

/* ---- messages ---- */

/* protobuf-c's strings are not const; it does not write to them. */
static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

/* An owned copy of what points to the stack. */
static void *copy_message(const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(size + 1);
	void *copy;

	assert(bytes != NULL);
	(void)protobuf_c_message_pack(message, bytes);
	copy = protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
	assert(copy != NULL);
	free(bytes);
	return copy;
}

void daemon_message_free(void *message)
{
	if (message != NULL) {
		protobuf_c_message_free_unpacked(message, NULL);
	}
}

/* ---- pool-agent ---- */

void agent_view_done(struct agent_view *view)
{
	daemon_message_free(view->agent);
	daemon_message_free(view->pools);
	daemon_message_free(view->replicas);
	*view = (struct agent_view){0};
}

struct agent_texts {
	char agent[UUID_TEXT_SIZE], address[IO_ADDRESS_TEXT_SIZE], pool[UUID_TEXT_SIZE];
	char replica[UUID_TEXT_SIZE], volume[UUID_TEXT_SIZE], name[8];
};

static void look_at_pool(
	const struct node_agent *node, struct agent_texts *texts, struct agent_view *view)
{
	Strake__V1__ListPoolsResponse response = STRAKE__V1__LIST_POOLS_RESPONSE__INIT;
	Strake__V1__Pool pool = STRAKE__V1__POOL__INIT, *pools[] = {&pool};
	struct store_info info;

	store_get_info(node->store, &info);
	kube_node_name(node->index, texts->name);
	pool.name = texts->name;
	pool.uuid = uuid_to_text(&info.uuid, texts->pool);
	pool.state = text_of(info.failed ? "Faulted" : "Online");
	pool.capacity_bytes = info.size_bytes;
	pool.used_bytes = info.used_bytes;
	pool.replicas = info.replica_count;
	pool.agent = texts->agent;
	response.pools = pools;
	response.n_pools = cluster->pool_is_taken[node->index];
	view->pools = copy_message(&response.base);
}

static void look_at_replica(
	const struct node_agent *node, struct agent_texts *texts, struct agent_view *view)
{
	Strake__V1__ListReplicasResponse response = STRAKE__V1__LIST_REPLICAS_RESPONSE__INIT;
	Strake__V1__Replica replica = STRAKE__V1__REPLICA__INIT, *replicas[] = {&replica};

	response.replicas = replicas;
	if (cluster->pool_is_taken[node->index] && agent_has_replica_now(node) &&
		!store_replica_abstains(node->replica)) {
		const struct vmeta *vmeta = store_replica_vmeta(node->replica);

		replica.uuid = uuid_to_text(&node->replica_id, texts->replica);
		replica.pool = texts->name;
		replica.volume_name = text_of(vmeta->name);
		replica.volume_uuid = uuid_to_text(&vmeta->volume, texts->volume);
		replica.size_bytes = vmeta->size_bytes;
		replica.used_bytes = store_replica_used_bytes(node->replica);
		replica.nsid = node->nsid;
		replica.key_number = vmeta->keys[0].number;
		response.n_replicas = 1;
	}
	view->replicas = copy_message(&response.base);
}

int agent_look(const char *socket, struct agent_view *ret_view, struct err *err)
{
	Strake__V1__Agent message = STRAKE__V1__AGENT__INIT;
	struct agent_texts texts;
	const struct node_agent *node = cluster != NULL ? agent_at(socket) : NULL;
	struct slot slot = {0};

	*ret_view = (struct agent_view){0};
	if (node == NULL || node->state != AGENT_UP) {
		return is_away(err, "pool-agent");
	}
	struct volume_voter place = agent_place(node, &slot);

	message.uuid = uuid_to_text(&node->uuid, texts.agent);
	message.address = io_address_to_text(&place.address, texts.address);
	ret_view->agent = copy_message(&message.base);
	look_at_pool(node, &texts, ret_view);
	look_at_replica(node, &texts, ret_view);
	return 0;
}

/* The pool itself is there since the beginning: what is made of it is that it is served. */
int agent_create_pool(const char *socket, const struct agent_wish *wish, struct err *err)
{
	struct node_agent *node = cluster != NULL ? agent_at(socket) : NULL;

	(void)wish;
	if (node == NULL || node->state != AGENT_UP) {
		return is_away(err, "pool-agent");
	}
	cluster->pool_is_taken[node->index] = true;
	return 0;
}

int agent_delete_pool(const char *socket, const char *pool, struct err *err)
{
	struct node_agent *node = cluster != NULL ? agent_at(socket) : NULL;

	if (node == NULL || node->state != AGENT_UP || node->making || node->removing) {
		return is_away(err, "pool-agent");
	}
	if (node->has_replica) {
		return err_set(err, -EBUSY, "pool %s has a replica", pool);
	}
	cluster->pool_is_taken[node->index] = false;
	return 0;
}

/* The world has one volume: its uuid is the one that csi-controller has drawn. */
static void fill_replica_options(
	const struct agent_wish *wish, struct store_replica_options *options)
{
	cluster->world->volume_uuid = wish->volume_uuid;
	*options = (struct store_replica_options){
		.volume = wish->volume_uuid,
		.replica = wish->replica,
		.kind = wish->is_arbiter ? VOTER_ARBITER : VOTER_DATA,
		.size_bytes = wish->is_arbiter ? 0 : wish->size_bytes,
	};
	(void)snprintf(options->name, sizeof(options->name), "%s", wish->volume);
	if (wish->key_number != 0) {
		options->key.number = (uint16_t)wish->key_number;
		memcpy(options->key.secret, wish->key, sizeof(options->key.secret));
	}
}

int agent_create_replica(const char *socket, const struct agent_wish *wish, struct err *err)
{
	struct node_agent *node = cluster != NULL ? agent_at(socket) : NULL;
	struct store_replica_options options;

	if (node == NULL || node->state != AGENT_UP) {
		return is_away(err, "pool-agent");
	}
	bool is_this = uuid_equal(&node->replica_id, &wish->replica);

	if (node->has_replica && is_this && node->nsid != 0) {
		return 0;
	}
	if (is_this && !node->making && node->made_result != 0) {
		int result = node->made_result;

		node->made_result = 0;
		return err_set(err, result, "the replica is not made");
	}
	fill_replica_options(wish, &options);
	/* One at a time: an older one of the volume is erased first. */
	(void)agent_make_named_replica(node, &options);
	return is_under_way(err, "making the replica");
}

int agent_delete_replica(const char *socket, const struct uuid *replica, struct err *err)
{
	struct node_agent *node = cluster != NULL ? agent_at(socket) : NULL;

	if (node == NULL || node->state != AGENT_UP) {
		return is_away(err, "pool-agent");
	}
	if (!uuid_equal(&node->replica_id, replica) || (!node->has_replica && !node->making)) {
		return 0;
	}
	if (!node->making && !node->removing) {
		agent_remove_replica(node);
	}
	return is_under_way(err, "erasing the replica");
}

/* ---- nexus: what it says ---- */

struct volume_texts {
	char uuid[UUID_TEXT_SIZE], epoch[EPOCH_TEXT_SIZE], device[24];
	char replicas[2 * REPL_VOTERS_MAX][UUID_TEXT_SIZE];
	char agents[2 * REPL_VOTERS_MAX][UUID_TEXT_SIZE];
	struct volume_status status;
};

struct volume_message {
	Strake__V1__Volume volume;
	Strake__V1__VolumeReplica replicas[2 * REPL_VOTERS_MAX];
	Strake__V1__VolumeReplica *pointers[2 * REPL_VOTERS_MAX];
	struct volume_texts texts;
};

static Strake__V1__VolumeReplica *add_replica(
	struct volume_message *message, const struct uuid *id, enum voter_kind kind)
{
	size_t at = message->volume.n_replicas++;
	Strake__V1__VolumeReplica *replica = &message->replicas[at];

	strake__v1__volume_replica__init(replica);
	message->pointers[at] = replica;
	replica->uuid = uuid_to_text(id, message->texts.replicas[at]);
	replica->kind = text_of(kind == VOTER_ARBITER ? "arbiter" : "data");
	replica->membership = text_of(replica_membership_name(MEMBERSHIP_UNKNOWN));
	replica->state = text_of(replica_state_name(REPLICA_UNKNOWN));
	return replica;
}

static void fill_replica(
	Strake__V1__VolumeReplica *replica, const struct volume_replica_status *status)
{
	replica->state = text_of(replica_state_name(status->state));
	replica->membership = text_of(replica_membership_name(status->membership));
	replica->reason = text_of(status->reason);
	replica->rebuild_total_bytes = status->rebuild_total_bytes;
	replica->rebuild_done_bytes = status->rebuild_done_bytes;
}

/* As nexus/control/reply.c: those of the state file, and voters that nobody told where to find. */
static void fill_replicas(
	const struct slot *slot, const struct volume_status *status, struct volume_message *message)
{
	bool told[REPL_VOTERS_MAX] = {false};

	for (unsigned i = 0; i < slot->file.count; i++) {
		const struct volume_voter *voter = &slot->file.voters[i];
		Strake__V1__VolumeReplica *replica =
			add_replica(message, &voter->replica, voter->kind);

		replica->agent = uuid_to_text(&voter->agent, message->texts.agents[i]);
		for (unsigned j = 0; j < status->replica_count; j++) {
			if (uuid_equal(&status->replicas[j].replica, &voter->replica)) {
				fill_replica(replica, &status->replicas[j]);
				told[j] = true;
			}
		}
	}
	for (unsigned j = 0; j < status->replica_count; j++) {
		const struct volume_replica_status *replica = &status->replicas[j];

		if (!told[j] && !uuid_is_nil(&replica->replica) &&
			replica->membership != MEMBERSHIP_NONE) {
			fill_replica(
				add_replica(message, &replica->replica, replica->kind), replica);
		}
	}
	message->volume.replicas = message->pointers;
}

/* An owned message; NULL: it has no volume. */
static Strake__V1__Volume *volume_message(struct slot *slot)
{
	struct volume_message *message;
	Strake__V1__Volume *volume;
	void *copy;

	if (slot == NULL || !slot->recorded) {
		return NULL;
	}
	message = calloc(1, sizeof(*message));
	assert(message != NULL);
	volume = &message->volume;
	strake__v1__volume__init(volume);
	volume->name = text_of(KUBE_VOLUME);
	volume->uuid = uuid_to_text(&slot->world->volume_uuid, message->texts.uuid);
	volume->attach = slot->attach;
	volume->size_bytes = slot->file.size_bytes;
	volume->state = text_of(NEXUS_CLOSED);
	if (slot_status(slot, &message->texts.status)) {
		const struct volume_status *status = &message->texts.status;

		volume->state = text_of(volume_state_name(status->state));
		volume->reason = text_of(status->reason);
		volume->superseded_by = status->superseded_by;
		volume->size_bytes = status->size_bytes;
		volume->epoch = epoch_to_text(&status->cfg.epoch, message->texts.epoch);
		volume->generation = status->cfg.gen;
		volume->lineage = status->cfg.lineage;
		volume->min_insync = status->min_insync;
		(void)snprintf(message->texts.device, sizeof(message->texts.device), "/dev/loop%u",
			slot->index);
		volume->device = message->texts.device;
		volume->frontend = text_of("fuse");
	}
	fill_replicas(slot, &message->texts.status, message);
	copy = copy_message(&volume->base);
	free(message);
	return copy;
}

/* Its process has died and is about to be started again, or the host has lost its power, and what
 * csi-node's threads have begun ends now. */
static bool is_down(const struct slot *slot)
{
	return slot != NULL &&
	       ((slot->recorded && slot->process == NULL) || !sim_host_is_up(slot->host));
}

int nexus_find(
	const char *socket, const char *volume, Strake__V1__Volume **ret_volume, struct err *err)
{
	struct slot *slot = cluster != NULL ? slot_at(socket) : NULL;

	(void)volume;
	*ret_volume = NULL;
	if (cluster == NULL || is_down(slot)) {
		return is_away(err, "nexus");
	}
	*ret_volume = volume_message(slot);
	return 0;
}

int nexus_look(const char *socket, Strake__V1__ListVolumesResponse **ret_volumes, struct err *err)
{
	Strake__V1__ListVolumesResponse empty = STRAKE__V1__LIST_VOLUMES_RESPONSE__INIT, *volumes;
	Strake__V1__Volume *volume;
	int result = nexus_find(socket, KUBE_VOLUME, &volume, err);

	*ret_volumes = NULL;
	if (result < 0) {
		return result;
	}
	volumes = copy_message(&empty.base);
	if (volume != NULL) {
		volumes->volumes = calloc(1, sizeof(volumes->volumes[0]));
		assert(volumes->volumes != NULL);
		volumes->volumes[0] = volume;
		volumes->n_volumes = 1;
	}
	*ret_volumes = volumes;
	return 0;
}

/* ---- nexus: away ---- */

static void on_exit_nexus(struct sim_event *event)
{
	struct slot *slot = container_of(event, struct slot, exits);

	sim_process_exit(slot->process);
	slot->process = NULL;
	slot->closing = false;
	slot->recorded = false;
}

/* It is still in its turn. */
static void on_nexus_closed(void *ctx)
{
	struct slot *slot = ctx;

	sim_at_ns(slot->world->sim, &slot->exits, sim_now_ns(slot->world->sim), on_exit_nexus);
}

static void on_volume_closed(void *ctx)
{
	struct slot *slot = ctx;

	/* The oracles that look after each step must not find it any more. */
	slot->volume = NULL;
	nexus_close(slot->nexus, on_nexus_closed, slot);
}

int nexus_take_away(const char *socket, const char *volume, bool force, struct err *err)
{
	struct slot *slot = cluster != NULL ? slot_at(socket) : NULL;

	if (cluster == NULL || is_down(slot)) {
		return is_away(err, "nexus");
	}
	if (slot == NULL || !slot->recorded) {
		return 0;
	}
	if (!force && slot->issuing) {
		return err_set(err, -EBUSY, "volume %s is in use", volume);
	}
	if (!slot->closing) {
		slot->closing = true;
		slot_stop_issuing(slot);
		sim_cancel(slot->world->sim, &slot->inc_saved);
		sim_cancel(slot->world->sim, &slot->file_saved);
		volume_close(slot->volume, on_volume_closed, slot);
	}
	return is_under_way(err, "closing the volume");
}

/* ---- nexus: up ---- */

static struct volume_voter place_of(const struct slot *slot, const struct nexus_voter *voter)
{
	struct volume_voter place = {
		.replica = voter->replica,
		.kind = voter->is_arbiter ? VOTER_ARBITER : VOTER_DATA,
		.nsid = voter->nsid,
		.local = voter->is_local,
	};
	struct err err;

	(void)slot;
	if (uuid_parse(voter->agent, &place.agent) < 0 ||
		io_address_parse(voter->address, 0, &place.address, &err) < 0) {
		assert(false);
	}
	return place;
}

static void record(struct slot *slot, const struct nexus_wish *wish)
{
	slot->file = (struct places){.size_bytes = wish->size_bytes};
	for (unsigned i = 0; i < wish->voter_count; i++) {
		slot->file.voters[slot->file.count++] = place_of(slot, &wish->voters[i]);
	}
	slot->told_used = wish->is_used;
	slot->told_lineage = wish->lineage;
	slot->capability = (struct capability){0};
	if (wish->has_capability && capability_decode(wish->capability, &slot->capability) < 0) {
		assert(false);
	}
	char name[8];

	kube_node_name(slot->index, name);
	capability_node(name, &slot->host_uuid);
	/* Nothing of an earlier record. */
	slot->attach = 0;
	slot->recorded = true;
	slot->world->active = slot->index;
	slot_open(slot, wish->attach);
}

/* Something of an earlier attachment; a Faulted one is opened anew when nobody has it any more. */
static bool must_go(struct slot *slot, const struct nexus_wish *wish, bool is_mounted)
{
	struct volume_status status;

	return slot->attach != wish->attach ||
	       (slot_status(slot, &status) && !is_mounted &&
		       (status.state == VOLUME_FAULTED || status.state == VOLUME_SUPERSEDED));
}

static int judge(const struct volume_status *status, struct err *err)
{
	if (status->state == VOLUME_ONLINE || status->state == VOLUME_DEGRADED) {
		return 0;
	}
	return err_set(err,
		status->state == VOLUME_SUPERSEDED || status->state == VOLUME_FAULTED ? -EBUSY
										      : -EAGAIN,
		"the volume is %s: %s", volume_state_name(status->state), status->reason);
}

int nexus_bring_up(const char *socket, const struct nexus_wish *wish, bool is_mounted,
	uint64_t end_ms, Strake__V1__Volume **ret_volume, struct err *err)
{
	struct slot *slot = cluster != NULL ? slot_at(socket) : NULL;
	struct volume_status status;

	(void)end_ms;
	*ret_volume = NULL;
	if (slot == NULL || is_down(slot)) {
		return is_away(err, "nexus");
	}
	if (slot->recorded && (slot->closing || must_go(slot, wish, is_mounted))) {
		int result = nexus_take_away(socket, wish->volume, true, err);

		if (result < 0) {
			return result;
		}
	}
	if (!slot->recorded) {
		record(slot, wish);
	}
	/* An open one knows its voters (nexus/control: CreateVolume again). */
	if (!slot_status(slot, &status)) {
		return is_away(err, "nexus");
	}
	int result = judge(&status, err);

	if (result == 0) {
		*ret_volume = volume_message(slot);
	}
	return result;
}

/* ---- nexus: an open volume ---- */

static struct slot *open_slot(const char *socket, struct err *err)
{
	struct slot *slot = cluster != NULL ? slot_at(socket) : NULL;

	if (slot == NULL || !slot->recorded || slot->closing || slot->volume == NULL) {
		(void)is_away(err, "nexus");
		return NULL;
	}
	return slot;
}

int nexus_add_voter(
	const char *socket, const char *volume, const struct nexus_voter *voter, struct err *err)
{
	struct slot *slot = open_slot(socket, err);
	struct volume_voter place;

	(void)volume;
	if (slot == NULL) {
		return err->code;
	}
	place = place_of(slot, voter);
	/* Its place is in the file before it can be in a configuration, and only then stays there.
	 */
	places_add(&slot->file, &place);
	int result = volume_add_voter(slot->volume, &place, err);

	(void)places_follow_now(slot);
	return result;
}

int nexus_remove_voter(
	const char *socket, const char *volume, const struct uuid *replica, struct err *err)
{
	struct slot *slot = open_slot(socket, err);

	(void)volume;
	return slot == NULL ? err->code : volume_remove_voter(slot->volume, replica, err);
}

int nexus_resize(const char *socket, const char *volume, uint64_t size_bytes, struct err *err)
{
	struct slot *slot = open_slot(socket, err);

	(void)volume;
	if (slot == NULL) {
		return err->code;
	}
	if (slot->resizing) {
		return err_set(err, -EALREADY, "the volume is being resized");
	}
	slot_resize(slot, (size_t)(size_bytes / ORACLE_BLOCK_BYTES));
	return 0;
}

/* As nexus/control/snapshot.c. */
static Strake__V1__Snapshot *snapshot_message(const struct uuid *id,
	const struct volume_snapshot *snapshot, const struct volume_status *status)
{
	char text[UUID_TEXT_SIZE], texts[REPL_VOTERS_MAX][UUID_TEXT_SIZE],
		*replicas[REPL_VOTERS_MAX];
	Strake__V1__Snapshot message = STRAKE__V1__SNAPSHOT__INIT;

	for (unsigned i = 0; i < status->cfg.voter_count; i++) {
		if (status->cfg.voters[i].insync) {
			replicas[message.n_replicas] = texts[message.n_replicas];
			(void)uuid_to_text(&status->cfg.voters[i].id, texts[message.n_replicas++]);
		}
	}
	message.id = uuid_to_text(id, text);
	message.number = snapshot->number;
	message.size_bytes = status->size_bytes;
	message.ready = snapshot->ready;
	message.replicas = replicas;
	return copy_message(&message.base);
}

/* NULL: it has not ended yet, or its end was told. */
static struct volume_snapshot *snapshot_answer(struct slot *slot, const struct uuid *id)
{
	for (unsigned i = 0; i < SLOT_ANSWERS; i++) {
		if (uuid_equal(&slot->snapshot_answers[i].id, id)) {
			return &slot->snapshot_answers[i];
		}
	}
	return NULL;
}

/* Its name is a uuid, and that the id of the snapshot here. */
int nexus_snapshot(const char *socket, const char *volume, const char *name,
	Strake__V1__Snapshot **ret_snapshot, struct err *err)
{
	struct slot *slot = open_slot(socket, err);
	struct volume_snapshot *answer;
	struct volume_status status;
	struct uuid id;

	*ret_snapshot = NULL;
	if (slot == NULL) {
		return err->code;
	}
	if (uuid_parse(name, &id) < 0 || !slot_status(slot, &status)) {
		assert(false);
	}
	answer = snapshot_answer(slot, &id);
	if (answer == NULL) {
		if (!slot->snapshotting) {
			slot_snapshot(slot, &id);
		}
		return is_under_way(err, "a snapshot");
	}
	answer->id = (struct uuid){0};
	if (answer->result < 0) {
		return err_set(
			err, answer->result, "snapshot volume %s: %s", volume, answer->err.text);
	}
	*ret_snapshot = snapshot_message(&id, answer, &status);
	return 0;
}

int nexus_set_min_insync(
	const char *socket, const char *volume, unsigned min_insync, struct err *err)
{
	struct slot *slot = open_slot(socket, err);

	(void)volume;
	if (slot == NULL) {
		return err->code;
	}
	volume_set_min_insync(slot->volume, min_insync);
	return 0;
}
