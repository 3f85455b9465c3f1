/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shipped controller, services and actors against an API server in memory, from a seed: caches
 * are behind, requests and answers are lost, the process dies between any two steps, nodes die,
 * pools refuse. What must never be is checked with every change of an object; in the end, all
 * healed, everything must come to rest in order.
 *
 *   controller_converge_test SEED   one seed with its trace; STRAKE_SEEDS=1000 in the environment:
 * more of them
 */
#include "csi-controller/converge_test.h"

#include "base/bytes.h"
#include "base/size.h"
#include "csi-controller/plan_pool.h"
#include "csi-controller/plan_volume.h"
#include "csi-controller/service.h"
#include "csi-controller/wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_available(const json_t *volume)
{
	return strcmp(kube_condition_status(kube_at(volume, "status.conditions"), "Available"),
		       "True") == 0;
}

static void check_replica(const json_t *before, const json_t *object)
{
	const json_t *replica = object != NULL ? object : before;
	const json_t *volume = volume_of(replica);
	const json_t *voters = json_object_get(sim.nodes.voters, kube_text(volume, "spec.uuid"));

	if (before == NULL && kube_text(replica, "spec.key.sealed")[0] == '\0') {
		wrong("replica %s is made without a key", kube_name(replica));
	}
	if (before == NULL) {
		struct survey of_volume = survey(volume, NULL);
		struct survey of_pool = survey(NULL, kube_text(replica, "spec.pool"));
		const json_t *pool =
			fake_server_get(&sim.server, "pools", kube_text(replica, "spec.pool"));
		uint64_t capacity = 0;

		sim.placed++;
		sim.replaced += kube_number(replica, "spec.slot", 0) >=
				kube_number(volume, "spec.replicas", 0);
		if (volume != NULL && voters == NULL && !sim.is_resized &&
			of_volume.data > (unsigned)kube_number(volume, "spec.replicas", 0)) {
			wrong("volume %s has %u live replicas", kube_name(volume), of_volume.data);
		}
		if (of_volume.live > OBJECTS_VOTERS_MAX) {
			wrong("volume %s has %u voters", kube_name(volume), of_volume.live);
		}
		if (of_volume.twice > 0) {
			wrong("volume %s has two replicas on a node", kube_name(volume));
		}
		if (pool != NULL &&
			kube_quantity_parse(kube_text(pool, "status.capacity"), &capacity) == 0 &&
			of_pool.reserved > capacity) {
			wrong("pool %s is overcommitted", kube_name(pool));
		}
		survey_done(&of_volume);
		survey_done(&of_pool);
	}
	if (volume != NULL && !kube_is_deleted(volume) && kube_is_deleted(object) &&
		!kube_is_deleted(before)) {
		sim.left += voters != NULL;
		if (json_object_get(voters, kube_text(replica, "spec.uuid")) != NULL) {
			wrong("replica %s of volume %s is deleted and has a vote",
				kube_name(replica), kube_name(volume));
		}
	}
}

/* Of the attachment as it is, and of no other: a node that had the volume before has the old one.
 */
static void check_capability(const json_t *volume)
{
	const json_t *secret = fake_server_get(&sim.server, "secrets", CONTROLLER_MASTER_SECRET);
	const char *node = kube_text(volume, "status.attachment.node");
	const char *text = kube_text(volume, "status.attachment.capability");
	uint8_t master[CAPABILITY_SECRET_SIZE], bytes[CAPABILITY_ENCODED_SIZE];
	struct capability capability;
	struct volume_key key;
	struct uuid uuid, host;

	if (node[0] == '\0') {
		if (text[0] != '\0') {
			wrong("volume %s is not attached and has a capability", kube_name(volume));
		}
		return;
	}
	if (base64_parse(kube_text(secret, "data.key"), master, sizeof(master)) < 0 ||
		uuid_parse(kube_text(volume, "spec.uuid"), &uuid) < 0 ||
		base64_parse(text, bytes, sizeof(bytes)) < 0 ||
		capability_decode(bytes, &capability) < 0) {
		wrong("volume %s is attached without a capability", kube_name(volume));
		return;
	}
	capability_node(node, &host);
	volume_key_derive(master, &uuid, 1, &key);
	if (!capability_fits(&capability, &key, &uuid,
		    (uint32_t)kube_number(volume, "status.attachment.number", 0), &host)) {
		wrong("volume %s is attached with a capability of something else",
			kube_name(volume));
	}
}

static void check_attachment(const json_t *before, const json_t *object)
{
	int64_t was = kube_number(before, "status.attachment.number", 0);
	int64_t is = kube_number(object, "status.attachment.number", 0);
	const char *from = kube_text(before, "status.attachment.node");
	const char *to = kube_text(object, "status.attachment.node");
	struct survey of_volume;

	if (object == NULL || before == NULL) {
		return;
	}
	if (is < was || is > was + 1 ||
		(from[0] != '\0' && to[0] != '\0' && strcmp(from, to) != 0)) {
		wrong("volume %s: attachment %lld %s becomes %lld %s", kube_name(object),
			(long long)was, from, (long long)is, to);
	}
	check_capability(object);
	if ((from[0] == '\0' && to[0] != '\0') != (is == was + 1)) {
		wrong("volume %s is attached without a number", kube_name(object));
	}
	if (was == 0 && is == 1) {
		of_volume = survey(object, NULL);
		if (!is_available(before) || of_volume.made != of_volume.live ||
			(!sim.is_resized && of_volume.data != (unsigned)kube_number(object,
								      "spec.replicas", 0))) {
			wrong("volume %s is attached with %u of its replicas", kube_name(object),
				of_volume.made);
		}
		survey_done(&of_volume);
		sim.attached++;
	}
}

static void check_volume(const json_t *before, const json_t *object)
{
	struct survey of_volume;

	check_attachment(before, object);
	if (object == NULL) {
		of_volume = survey(before, NULL);
		if (kube_text(before, "status.attachment.node")[0] != '\0') {
			wrong("volume %s goes while it is attached", kube_name(before));
		}
		survey_done(&of_volume);
	}
	sim.unplaceable +=
		object != NULL && strstr(kube_text(object, "status.reason"), "a place") != NULL;
}

static void live_replica_of(void *ctx, const json_t *replica)
{
	/* By uuid: the volume is not there any more. */
	if (strcmp(kube_text(replica, "spec.volumeUUID"), ctx) == 0 && !kube_is_deleted(replica)) {
		wrong("a volume goes before its replica %s is deleted", kube_name(replica));
	}
}

static void changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	(void)ctx;
	if (sim.is_traced) {
		char *text =
			object == NULL ? NULL : json_dumps(kube_at(object, "status"), JSON_COMPACT);

		printf("  %s %s%s %s\n", key,
			object == NULL   ? "gone"
			: before == NULL ? "new"
					 : "changed",
			kube_is_deleted(object) ? " (deleted)" : "", text != NULL ? text : "");
		free(text);
	}
	if (strncmp(key, "replicas/", 9) == 0) {
		check_replica(before, object);
	} else if (strncmp(key, "volumes/", 8) == 0) {
		check_volume(before, object);
		if (object == NULL) {
			fake_server_each(&sim.server, "replicas", live_replica_of,
				(void *)(uintptr_t)kube_text(before, "spec.uuid"));
		}
	} else if (strncmp(key, "pools/", 6) == 0 && object == NULL) {
		struct survey of_pool = survey(NULL, kube_name(before));

		if (of_pool.all > 0) {
			wrong("pool %s goes with %u replicas", kube_name(before), of_pool.all);
		}
		survey_done(&of_pool);
	}
}

/* ---- users ---- */

static const char *any_volume(char name[16])
{
	(void)snprintf(name, 16, "v%u", (unsigned)rng_below(&sim.rng, VOLUMES));
	return name;
}

static void put_pool(unsigned index)
{
	char name[8], node[8];

	(void)snprintf(name, sizeof(name), "p%u", index);
	/* The last one shares the first one's node. */
	(void)snprintf(node, sizeof(node), "n%u", index % NODES);
	if (fake_server_get(&sim.server, "pools", name) == NULL) {
		fake_server_put(&sim.server, "pools",
			json_pack("{s:{s:s}, s:{s:s, s:[s]}}", "metadata", "name", name, "spec",
				"node", node, "disks", "/dev/sdb"));
	}
}

static void put_volume(const char *name)
{
	if (fake_server_get(&sim.server, "volumes", name) == NULL) {
		fake_server_put(&sim.server, "volumes",
			json_pack("{s:{s:s}, s:{s:s, s:i}}", "metadata", "name", name, "spec",
				"size", "2Gi", "replicas", (int)(1 + rng_below(&sim.rng, 3))));
	}
}

static struct grpc_call *begin(grpc_handler *handler, ProtobufCMessage *request)
{
	for (unsigned i = 0; i < CALLS; i++) {
		if (sim.calls[i] == NULL) {
			sim.calls[i] = calloc(1, sizeof(struct grpc_call));
			sim.calls[i]->ctx = &sim.leader->controller;
			handler(sim.calls[i], request);
			return sim.calls[i];
		}
	}
	return NULL;
}

static void call_create(void)
{
	Csi__V1__CreateVolumeRequest request = CSI__V1__CREATE_VOLUME_REQUEST__INIT;
	Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;
	Csi__V1__VolumeCapability capability = CSI__V1__VOLUME_CAPABILITY__INIT;
	Csi__V1__VolumeCapability *capabilities[] = {&capability};
	Csi__V1__VolumeCapability__AccessMode mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__INIT;
	Csi__V1__VolumeCapability__BlockVolume block =
		CSI__V1__VOLUME_CAPABILITY__BLOCK_VOLUME__INIT;
	char name[16];

	mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
	capability.access_mode = &mode;
	capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
	capability.block = &block;
	range.required_bytes = 2 * (int64_t)GIB;
	any_volume(name);
	request.name = name;
	request.volume_capabilities = capabilities;
	request.n_volume_capabilities = 1;
	request.capacity_range = &range;
	(void)begin(service_create_volume, &request.base);
}

static void publish_on(const char *name, const char *node)
{
	Csi__V1__ControllerPublishVolumeRequest request =
		CSI__V1__CONTROLLER_PUBLISH_VOLUME_REQUEST__INIT;
	Csi__V1__VolumeCapability capability = CSI__V1__VOLUME_CAPABILITY__INIT;
	Csi__V1__VolumeCapability__AccessMode mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__INIT;
	Csi__V1__VolumeCapability__BlockVolume block =
		CSI__V1__VOLUME_CAPABILITY__BLOCK_VOLUME__INIT;

	mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
	capability.access_mode = &mode;
	capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
	capability.block = &block;
	request.volume_id = (char *)(uintptr_t)name;
	request.node_id = (char *)(uintptr_t)node;
	request.volume_capability = &capability;
	(void)begin(service_publish_volume, &request.base);
}

static void call_publish(void)
{
	char name[16], node[8];

	(void)snprintf(node, sizeof(node), "n%u", (unsigned)rng_below(&sim.rng, NODES));
	publish_on(any_volume(name), node);
}

static void call_unpublish(const char *volume_id)
{
	Csi__V1__ControllerUnpublishVolumeRequest request =
		CSI__V1__CONTROLLER_UNPUBLISH_VOLUME_REQUEST__INIT;

	request.volume_id = (char *)(uintptr_t)volume_id;
	(void)begin(service_unpublish_volume, &request.base);
}

static void call_delete(void)
{
	Csi__V1__DeleteVolumeRequest request = CSI__V1__DELETE_VOLUME_REQUEST__INIT;
	char name[16];

	request.volume_id = (char *)(uintptr_t)any_volume(name);
	(void)begin(service_delete_volume, &request.base);
}

static void end_calls(void)
{
	for (unsigned i = 0; i < CALLS; i++) {
		if (sim.calls[i] != NULL && sim.calls[i]->is_done) {
			free(sim.calls[i]);
			sim.calls[i] = NULL;
		}
	}
}

/* A client's deadline. */
static void end_a_wait(void)
{
	struct list_node *node = list_first(&sim.leader->controller.waits);

	if (node != NULL) {
		struct wait *wait = container_of(node, struct wait, node);

		loop_timer_stop(&wait->timer);
		wait->timer.expired(&wait->timer);
	}
}

static void change_replicas(const char *name)
{
	json_t *object = fake_server_copy(&sim.server, "volumes", name);

	if (object != NULL) {
		sim.is_resized = true;
		(void)json_object_set_new(json_object_get(object, "spec"), "replicas",
			json_integer((json_int_t)(1 + rng_below(&sim.rng, 4))));
		fake_server_put(&sim.server, "volumes", object);
	}
}

static void act_as_user(void)
{
	char name[16];

	end_calls();
	switch (rng_below(&sim.rng, 20)) {
	case 0:
	case 1:
	case 2:
	case 3:
		call_create();
		break;
	case 4:
	case 5:
	case 6:
	case 7:
	case 8:
		call_publish();
		break;
	case 9:
	case 10:
		call_unpublish(any_volume(name));
		break;
	case 11:
		call_delete();
		break;
	case 12:
		put_volume(any_volume(name));
		break;
	case 13:
		if (rng_percent(&sim.rng, 30)) {
			fake_server_delete(&sim.server, "volumes", any_volume(name));
		}
		break;
	case 14:
		if (rng_percent(&sim.rng, 10)) {
			(void)snprintf(
				name, sizeof(name), "p%u", (unsigned)rng_below(&sim.rng, POOLS));
			fake_server_delete(&sim.server, "pools", name);
		} else {
			put_pool((unsigned)rng_below(&sim.rng, POOLS));
		}
		break;
	case 15:
	case 16:
	case 17:
	case 18:
		change_replicas(any_volume(name));
		break;
	default:
		end_a_wait();
		break;
	}
}

static void disturb(void)
{
	unsigned node = (unsigned)rng_below(&sim.rng, NODES);
	char name[8];

	(void)snprintf(name, sizeof(name), "n%u", node);
	if (rng_percent(&sim.rng, 10)) {
		fake_server_delete(&sim.server, "nodes", name);
	} else {
		fake_node_put(&sim.server, name, rng_percent(&sim.rng, 80));
	}
}

/* ---- the controller's life ---- */

static void start_controller(struct part *part)
{
	struct controller_options options = {.log = &log_null,
		.namespace = "strake",
		.identity = "test",
		.overcommit_percent = 100,
		.replace_after_s = 600,
		.seed = rng_u64(&sim.rng),
		.now_s = sim_now_s};
	struct err err = {0};

	part->kube = fake_kube_new(&sim.server, sim.loop, &sim.rng);
	options.kube = part->kube;
	assert_int_equal(controller_start(&part->controller, &options, &err), 0);
}

static void stopped(void *ctx)
{
	*(bool *)ctx = true;
}

static void kill_controller(struct part *part)
{
	bool is_stopped = false;

	controller_stop_waiting(&part->controller);
	fake_kube_drop_requests(part->kube);
	controller_stop(&part->controller, stopped, &is_stopped);
	assert_true(is_stopped);
	fake_kube_free(part->kube);
	end_calls();
}

static void step(void);

/* A second one reads everything and hears nothing any more while the first goes on, which dies
 * then. */
static void take_over(void)
{
	struct part *old = sim.leader, *new = &sim.parts[old == &sim.parts[0]];

	start_controller(new);
	while (!controller_is_ready(&new->controller)) {
		(void)fake_kube_hear(new->kube);
	}
	for (uint64_t i = rng_below(&sim.rng, 400); i > 0; i--) {
		step();
	}
	kill_controller(old);
	sim.leader = new;
	fake_kube_lead(new->kube, true);
}

static void restart(void)
{
	kill_controller(sim.leader);
	start_controller(sim.leader);
	fake_kube_lead(sim.leader->kube, true);
}

static void step(void)
{
	uint64_t what = rng_below(&sim.rng, 1000);

	if (what < 250) {
		(void)fake_kube_execute(sim.leader->kube, 10);
	} else if (what < 500) {
		(void)fake_kube_answer(sim.leader->kube);
	} else if (what < 650) {
		(void)fake_kube_hear(sim.leader->kube);
	} else if (what < 850) {
		(void)fake_kube_work(sim.leader->kube);
	} else if (what < 930) {
		fake_nodes_step(&sim.nodes);
	} else if (what < 970) {
		act_as_user();
	} else if (what < 980) {
		disturb();
	} else if (what < 998) {
		sim.server.now_s += (int64_t)rng_below(&sim.rng, 10);
		fake_kube_pass_time(sim.leader->kube);
	} else if (!sim.is_taking_over) {
		sim.crashes++;
		sim.is_taking_over = true;
		(rng_percent(&sim.rng, 50) ? restart : take_over)();
		sim.is_taking_over = false;
	}
}

/* ---- rest ---- */

static void detach_deleted(void *ctx, const json_t *volume)
{
	(void)ctx;
	if (kube_is_deleted(volume) && kube_text(volume, "status.attachment.node")[0] != '\0') {
		call_unpublish(kube_name(volume));
	}
}

/* Until nothing happens any more; false: it goes on and on. */
static bool come_to_rest(void)
{
	uint64_t version = 0;
	unsigned quiet = 0;

	for (unsigned round = 0; round < REST_ROUNDS && quiet < 5; round++) {
		for (unsigned i = 0; i < 1500; i++) {
			(void)fake_kube_execute(sim.leader->kube, 0);
			(void)fake_kube_answer(sim.leader->kube);
			(void)fake_kube_hear(sim.leader->kube);
			(void)fake_kube_work(sim.leader->kube);
		}
		fake_nodes_all(&sim.nodes);
		end_calls();
		fake_server_each(&sim.server, "volumes", detach_deleted, NULL);
		sim.server.now_s += 20;
		fake_kube_pass_time(sim.leader->kube);
		quiet = sim.server.version == version ? quiet + 1 : 0;
		version = sim.server.version;
	}
	return quiet == 5;
}

/* What a volume lacks must have no place. */
static void check_no_place(const json_t *volume, unsigned missing, uint64_t size)
{
	struct survey of_volume = survey(volume, NULL);
	json_t *nodes = json_object();

	for (unsigned i = 0; i < POOLS; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "p%u", i);
		const json_t *pool = fake_server_get(&sim.server, "pools", name);
		struct survey of_pool = survey(NULL, name);
		const char *node = kube_text(pool, "spec.node");

		if (pool != NULL && !kube_is_deleted(pool) && of_pool.reserved + size <= 10 * GIB &&
			json_object_get(of_volume.nodes, node) == NULL) {
			(void)json_object_set_new(nodes, node, json_true());
		}
		survey_done(&of_pool);
	}
	if (missing == 0 || json_object_size(nodes) >= missing) {
		wrong("volume %s lacks %u, and there is a place: %s", kube_name(volume), missing,
			kube_text(volume, "status.reason"));
	}
	json_decref(nodes);
	survey_done(&of_volume);
}

static void check_place(const json_t *volume)
{
	struct survey of_volume = survey(volume, NULL);
	uint64_t size = 0;

	assert_int_equal(kube_quantity_parse(kube_text(volume, "spec.size"), &size), 0);
	check_no_place(
		volume, (unsigned)kube_number(volume, "spec.replicas", 0) - of_volume.data, size);
	survey_done(&of_volume);
}

/* Of an open volume: as many as are wanted, if there are places, all in sync, and nobody else. */
static void check_voters(const json_t *volume)
{
	const json_t *voters = json_object_get(sim.nodes.voters, kube_text(volume, "spec.uuid"));
	unsigned wanted = (unsigned)kube_number(volume, "spec.replicas", 0);
	struct survey of_volume = survey(volume, NULL);
	const char *uuid;
	json_t *state;

	json_object_foreach((json_t *)(uintptr_t)voters, uuid, state)
	{
		if (strcmp(json_string_value(state), "Online") != 0) {
			wrong("voter %s of volume %s is %s at rest", uuid, kube_name(volume),
				json_string_value(state));
		}
	}
	if (json_object_size(voters) != of_volume.live ||
		(of_volume.data > wanted && !of_volume.is_on_deleted_pool) ||
		of_volume.live - of_volume.data > (wanted % 2 == 0)) {
		wrong("volume %s of %u replicas has %u and %u arbiters, %zu of them voters",
			kube_name(volume), wanted, of_volume.data, of_volume.live - of_volume.data,
			json_object_size(voters));
	}
	if (of_volume.data < wanted) {
		check_place(volume);
	} else if (wanted % 2 == 0 && of_volume.live == of_volume.data) {
		check_no_place(volume, 1, 0);
	}
	survey_done(&of_volume);
}

static void check_volume_at_rest(void *ctx, const json_t *volume)
{
	(void)ctx;
	if (kube_is_deleted(volume)) {
		wrong("volume %s is still there: %s", kube_name(volume),
			kube_text(volume, "status.reason"));
	}
	if (!is_available(volume)) {
		check_place(volume);
	} else if (kube_text(volume, "status.attachment.node")[0] != '\0') {
		check_voters(volume);
	}
}

static void check_replica_at_rest(void *ctx, const json_t *replica)
{
	(void)ctx;
	if (kube_is_deleted(replica) || volume_of(replica) == NULL) {
		wrong("replica %s is still there", kube_name(replica));
	}
}

static void check_pool_at_rest(void *ctx, const json_t *pool)
{
	struct survey of_pool = survey(NULL, kube_name(pool));
	const json_t *node = fake_server_get(&sim.server, "nodes", kube_text(pool, "spec.node"));

	(void)ctx;
	if (kube_is_deleted(pool) && of_pool.all == 0) {
		wrong("pool %s is still there", kube_name(pool));
	}
	if (json_object_get(kube_at(node, "metadata.labels"), OBJECTS_LABEL_POOL_AGENT) == NULL) {
		wrong("node %s has a pool and no label", kube_name(node));
	}
	survey_done(&of_pool);
}

static void check_rest(void)
{
	fake_server_each(&sim.server, "volumes", check_volume_at_rest, NULL);
	fake_server_each(&sim.server, "replicas", check_replica_at_rest, NULL);
	fake_server_each(&sim.server, "pools", check_pool_at_rest, NULL);
}

/* ---- a seed ---- */

static void begin_world(uint64_t seed, unsigned nodes, unsigned pools)
{
	char name[16];

	sim.seed = seed;
	sim.is_resized = false;
	rng_init(&sim.rng, seed);
	fake_server_init(&sim.server, NOW_S);
	sim.server.changed = changed;
	sim.nodes = (struct fake_nodes){&sim.server, &sim.rng, 20, json_object()};
	for (unsigned i = 0; i < nodes; i++) {
		(void)snprintf(name, sizeof(name), "n%u", i);
		fake_node_put(&sim.server, name, true);
	}
	for (unsigned i = 0; i < pools; i++) {
		put_pool(i);
	}
	sim.leader = &sim.parts[0];
	start_controller(sim.leader);
	fake_kube_lead(sim.leader->kube, true);
}

static void end_world(void)
{
	while (!list_is_empty(&sim.leader->controller.waits)) {
		end_a_wait();
	}
	kill_controller(sim.leader);
	for (unsigned i = 0; i < CALLS; i++) {
		assert_null(sim.calls[i]);
	}
	fake_server_done(&sim.server);
	json_decref(sim.nodes.voters);
}

static void run_seed(uint64_t seed)
{
	char name[8];

	begin_world(seed, NODES, POOLS);
	for (unsigned i = 0; i < STEPS; i++) {
		step();
	}
	sim.nodes.refuse_percent = 0;
	for (unsigned i = 0; i < NODES; i++) {
		(void)snprintf(name, sizeof(name), "n%u", i);
		fake_node_put(&sim.server, name, true);
	}
	if (!come_to_rest()) {
		wrong("it does not come to rest");
	}
	check_rest();
	end_world();
}

/* A volume whose replicas are all in sync lacks only an arbiter, which has no place before a third
 * node is Ready. */
static void test_arbiter_waits_for_a_place(void **state)
{
	struct survey of_volume;
	struct err err = {0};

	(void)state;
	assert_int_equal(loop_new(&sim.loop, &err), 0);
	begin_world(1, 3, 3);
	sim.nodes.refuse_percent = 0;
	fake_node_put(&sim.server, "n2", false);
	fake_server_put(&sim.server, "volumes",
		json_pack("{s:{s:s}, s:{s:s, s:i}}", "metadata", "name", "v0", "spec", "size",
			"2Gi", "replicas", 2));
	assert_true(come_to_rest());
	publish_on("v0", "n0");
	assert_true(come_to_rest());
	of_volume = survey(fake_server_get(&sim.server, "volumes", "v0"), NULL);
	assert_int_equal(of_volume.live, 2);
	survey_done(&of_volume);
	fake_node_put(&sim.server, "n2", true);
	assert_true(come_to_rest());
	of_volume = survey(fake_server_get(&sim.server, "volumes", "v0"), NULL);
	assert_int_equal(of_volume.live, 3);
	survey_done(&of_volume);
	check_rest();
	end_world();
	loop_free(sim.loop);
}

static void test_everything_converges(void **state)
{
	const char *seed = *state, *more = getenv("STRAKE_SEEDS");
	uint64_t seeds = more != NULL ? strtoull(more, NULL, 10) : SEEDS;
	struct err err = {0};

	assert_int_equal(loop_new(&sim.loop, &err), 0);
	if (seed != NULL) {
		sim.is_traced = true;
		run_seed(strtoull(seed, NULL, 10));
	}
	for (uint64_t i = 1; seed == NULL && i <= seeds; i++) {
		run_seed(i);
	}
	loop_free(sim.loop);
	printf("seeds=%llu placed=%u replaced=%u left=%u attached=%u crashes=%u unplaceable=%u\n",
		(unsigned long long)seeds, sim.placed, sim.replaced, sim.left, sim.attached,
		sim.crashes, sim.unplaceable);
	if (seed == NULL) {
		/* Else nothing was proven. */
		assert_true(sim.attached > seeds && sim.crashes > seeds && sim.replaced > seeds &&
			    sim.left > seeds / 4 && sim.unplaceable > seeds);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arbiter_waits_for_a_place),
		cmocka_unit_test_prestate(test_everything_converges, argc > 1 ? argv[1] : NULL),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
