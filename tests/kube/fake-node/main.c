/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A csi-node without daemons, for tests of csi-controller: says of the objects of one node what a
 * csi-node would, as if every pool, replica and nexus did at once what it is asked.
 *
 *   fake-node --kubeconfig FILE --node NAME [--socket PATH]
 *
 * With a socket it serves CSI Identity and Node too, which take everything.  Annotations change
 * what it does: on a Pool "test/refuse: REASON" lets no replica be made there; on a Volume
 * "test/hold" keeps it open.  What a real one does slowly is done by SIGSTOP.
 */
#include "base/bytes.h"
#include "csi/csi.h"
#include "objects/objects.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A public key: what is sealed for it is not opened here. */
#define SEALING_KEY "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

enum { POOLS, VOLUMES, REPLICAS, KINDS };

static const struct kube_kind *const kinds[KINDS] = {
	&objects_pools, &objects_volumes, &objects_replicas};

struct fake {
	const char *node;
	struct loop *loop;
	struct kube *kube;
	struct kube_cache *caches[KINDS];
	struct kube_queue *queues[KINDS];
	int log_fd;
	struct log log;
	struct metric_registry metrics;
};

static struct fake fake;

/* ---- writes ---- */

struct write {
	struct kube_request request;
	unsigned kind;
	char name[OBJECTS_NAME_SIZE];
};

static void write_done(struct kube_request *request)
{
	struct write *write = container_of(request, struct write, request);

	if (request->result == 0 && request->verb != KUBE_MERGE_PATCH) {
		kube_cache_absorb(fake.caches[write->kind], request->response);
	} else if (request->result < 0 && request->result != -ENOENT) {
		log_info(&fake.log, "fake", "write-failed", "error=%s", request->err.text);
	}
	kube_queue_done(fake.queues[write->kind], write->name,
		request->result < 0 && request->result != -ENOENT ? KUBE_QUEUE_AGAIN
								  : KUBE_QUEUE_OK);
	free(write);
}

static void send(
	unsigned kind, const char *name, enum kube_verb verb, const char *subresource, json_t *body)
{
	struct write *write = calloc(1, sizeof(*write));

	assert(write != NULL && body != NULL);
	write->kind = kind;
	(void)snprintf(write->name, sizeof(write->name), "%s", name);
	write->request = (struct kube_request){.verb = verb,
		.kind = kinds[kind],
		.name = write->name,
		.subresource = subresource,
		.body = body,
		.done = write_done};
	kube_send(fake.kube, &write->request);
	json_decref(body);
}

/* Takes the status. */
static void apply_status(unsigned kind, const char *name, json_t *status)
{
	json_t *body = object_new(kinds[kind], name);

	(void)json_object_set_new(body, "status", status);
	send(kind, name, KUBE_APPLY, "status", body);
}

static json_t *ready_condition(bool is_ready, const char *reason)
{
	char now[KUBE_TIME_TEXT_SIZE];

	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "Ready", "status",
		is_ready ? "True" : "False", "reason", reason, "message", "", "lastTransitionTime",
		kube_time_now(now));
}

static const char *annotation(const json_t *object, const char *key)
{
	const char *text =
		json_string_value(json_object_get(kube_at(object, "metadata.annotations"), key));

	return text != NULL ? text : "";
}

/* ---- pools ---- */

static void count_replica(void *ctx, const char *key, const json_t *object)
{
	struct pool_object *pool = ctx;

	(void)key;
	pool->replicas += strcmp(kube_text(object, "spec.pool"), pool->meta.name) == 0;
}

static bool work_on_pool(const char *name, const json_t *object)
{
	struct pool_object pool;
	struct err err;
	char capacity[KUBE_QUANTITY_TEXT_SIZE];

	if (pool_object_decode(object, &pool, &err) < 0 || strcmp(pool.node, fake.node) != 0) {
		return false;
	}
	pool.replicas = 0;
	kube_cache_each(fake.caches[REPLICAS], count_replica, &pool);
	if (pool.meta.is_deleted && pool.replicas == 0 && pool.state != POOL_RELEASED) {
		apply_status(POOLS, name,
			json_pack("{s:s, s:[o]}", "state", "Released", "conditions",
				ready_condition(false, "Released")));
		return true;
	}
	if (pool.state == POOL_RELEASED || (pool.state == POOL_ONLINE && pool.is_ready)) {
		return false;
	}
	apply_status(POOLS, name,
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:[o]}", "state", "Online", "uuid",
			pool.meta.uid, "agent", pool.meta.uid, "address", "127.0.0.1:4430",
			"sealingKey", SEALING_KEY, "capacity",
			kube_quantity_to_text(pool.file_size_bytes, capacity), "conditions",
			ready_condition(true, "Online")));
	return true;
}

/* ---- replicas ---- */

static bool work_on_replica(const char *name, const json_t *object)
{
	struct replica_object replica;
	struct err err;
	const char *refused;

	if (replica_object_decode(object, &replica, &err) < 0 ||
		strcmp(replica.node, fake.node) != 0) {
		return false;
	}
	if (replica.meta.is_deleted) {
		if (replica.meta.has_finalizer) {
			send(REPLICAS, name, KUBE_MERGE_PATCH, NULL,
				json_pack("{s:{s:n}}", "metadata", "finalizers"));
		}
		return replica.meta.has_finalizer;
	}
	refused = annotation(kube_cache_get(fake.caches[POOLS], replica.pool), "test/refuse");
	if (replica.nsid != 0 || (refused[0] != '\0' && strcmp(refused, replica.reason) == 0)) {
		return false;
	}
	if (refused[0] != '\0') {
		apply_status(REPLICAS, name,
			json_pack("{s:s, s:s, s:[o]}", "state", "Creating", "reason", refused,
				"conditions", ready_condition(false, refused)));
	} else {
		apply_status(REPLICAS, name,
			json_pack("{s:s, s:i, s:[o]}", "state", "Online", "nsid", 1, "conditions",
				ready_condition(true, "Online")));
	}
	return true;
}

/* ---- volumes ---- */

struct legs {
	const struct volume_object *volume;
	json_t *list;
};

static void add_leg(void *ctx, const char *key, const json_t *object)
{
	struct legs *legs = ctx;

	(void)key;
	if (strcmp(kube_text(object, "spec.volume"), legs->volume->meta.name) == 0 &&
		!kube_is_deleted(object)) {
		(void)json_array_append_new(
			legs->list, json_pack("{s:s, s:s}", "uuid", kube_text(object, "spec.uuid"),
					    "state", "Online"));
	}
}

static bool work_on_volume(const char *name, const json_t *object)
{
	struct volume_object volume;
	struct err err;

	if (volume_object_decode(object, &volume, &err) < 0) {
		return false;
	}
	bool is_wanted = strcmp(volume.attached_node, fake.node) == 0;
	bool is_open = strcmp(volume.nexus.node, fake.node) == 0;

	if (is_wanted && !is_open) {
		struct legs legs = {.volume = &volume, .list = json_array()};

		kube_cache_each(fake.caches[REPLICAS], add_leg, &legs);
		apply_status(VOLUMES, name,
			json_pack("{s:{s:s, s:s, s:s, s:o}}", "nexus", "node", fake.node, "device",
				"/dev/loop1", "state", "Online", "replicas", legs.list));
		return true;
	}
	if (!is_wanted && is_open && annotation(object, "test/hold")[0] == '\0') {
		send(VOLUMES, name, KUBE_JSON_PATCH, "status",
			json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "op", "test", "path",
				"/status/nexus/node", "value", fake.node, "op", "remove", "path",
				"/status/nexus"));
		return true;
	}
	return false;
}

/* ---- caches and queues ---- */

static void work(void *ctx, const char *key)
{
	static bool (*const works[KINDS])(const char *name, const json_t *object) = {
		work_on_pool, work_on_volume, work_on_replica};
	unsigned kind = (unsigned)(uintptr_t)ctx;
	const json_t *object = kube_cache_get(fake.caches[kind], key);

	if (object == NULL || !works[kind](key, object)) {
		kube_queue_done(fake.queues[kind], key, KUBE_QUEUE_OK);
	}
}

static void changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	unsigned kind = (unsigned)(uintptr_t)ctx;

	kube_queue_add(fake.queues[kind], key);
	if (kind == REPLICAS && object == NULL) {
		kube_queue_add(fake.queues[POOLS], kube_text(before, "spec.pool"));
	}
}

/* ---- CSI ---- */

static void probe(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	csi_probe_reply(call, true);
}

static void get_info(struct grpc_call *call, const ProtobufCMessage *request)
{
	Csi__V1__NodeGetInfoResponse response = CSI__V1__NODE_GET_INFO_RESPONSE__INIT;

	(void)request;
	response.node_id = (char *)(uintptr_t)fake.node;
	grpc_call_reply(call, &response.base);
}

static void get_capabilities(struct grpc_call *call, const ProtobufCMessage *request)
{
	Csi__V1__NodeGetCapabilitiesResponse response =
		CSI__V1__NODE_GET_CAPABILITIES_RESPONSE__INIT;

	(void)request;
	grpc_call_reply(call, &response.base);
}

static void publish(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__NodePublishVolumeRequest *request = (const void *)message;
	Csi__V1__NodePublishVolumeResponse response = CSI__V1__NODE_PUBLISH_VOLUME_RESPONSE__INIT;

	(void)mkdir(request->target_path, 0755);
	grpc_call_reply(call, &response.base);
}

static void unpublish(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__NodeUnpublishVolumeRequest *request = (const void *)message;
	Csi__V1__NodeUnpublishVolumeResponse response =
		CSI__V1__NODE_UNPUBLISH_VOLUME_RESPONSE__INIT;

	(void)rmdir(request->target_path);
	grpc_call_reply(call, &response.base);
}

#define METHOD(name, message, handler)                                                             \
	{"/csi.v1.Node/" name, &csi__v1__node_##message##_request__descriptor,                     \
		&csi__v1__node_##message##_response__descriptor, handler}

static const struct grpc_method methods[] = {
	CSI_IDENTITY_METHODS(probe),
	METHOD("NodeGetInfo", get_info, get_info),
	METHOD("NodeGetCapabilities", get_capabilities, get_capabilities),
	METHOD("NodePublishVolume", publish_volume, publish),
	METHOD("NodeUnpublishVolume", unpublish_volume, unpublish),
};

/* ---- start ---- */

static int start(const char *kubeconfig, const char *socket, struct err *err)
{
	struct kube_options options = {.loop = fake.loop,
		.log = &fake.log,
		.metrics = &fake.metrics,
		.kubeconfig = kubeconfig,
		.user_agent = "fake-node",
		.field_manager = OBJECTS_MANAGER_NODE};
	struct grpc_server_options server_options = {
		.socket_path = socket, .methods = methods, .method_count = ARRAY_COUNT(methods)};
	struct grpc_server *server;
	int result = kube_new(&options, &fake.kube, err);

	for (unsigned i = 0; i < KINDS && result == 0; i++) {
		struct kube_queue_options queue = {
			.name = kinds[i]->plural, .work = work, .ctx = (void *)(uintptr_t)i};

		result = kube_queue_new(fake.kube, &queue, &fake.queues[i], err);
	}
	for (unsigned i = 0; i < KINDS && result == 0; i++) {
		struct kube_cache_options cache = {
			.kind = kinds[i], .changed = changed, .ctx = (void *)(uintptr_t)i};

		result = kube_cache_new(fake.kube, &cache, &fake.caches[i], err);
	}
	if (result == 0 && socket != NULL) {
		result = grpc_server_new(fake.loop, &server_options, &server, err);
	}
	return result;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"kubeconfig", required_argument, NULL, 'k'},
		{"node", required_argument, NULL, 'n'},
		{"socket", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	const char *kubeconfig = NULL, *socket = NULL;
	struct err err = {0};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		*(option == 'k' ? &kubeconfig : option == 'n' ? &fake.node : &socket) = optarg;
	}
	if (kubeconfig == NULL || fake.node == NULL) {
		(void)fprintf(
			stderr, "usage: fake-node --kubeconfig FILE --node NAME [--socket PATH]\n");
		return 2;
	}
	fake.log_fd = STDERR_FILENO;
	fake.log = (struct log){.sink = log_sink_fd, .ctx = &fake.log_fd, .level_min = LOG_INFO};
	metric_registry_init(&fake.metrics);
	if (loop_new(&fake.loop, &err) < 0 || start(kubeconfig, socket, &err) < 0) {
		(void)fprintf(stderr, "fake-node: %s\n", err.text);
		return 1;
	}
	loop_run(fake.loop);
	return 0;
}
