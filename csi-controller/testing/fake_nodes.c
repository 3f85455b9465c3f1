/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/testing/fake_nodes.h"

#include "base/bytes.h"

#include <string.h>

void fake_node_put(struct fake_server *server, const char *name, bool is_ready)
{
	json_t *object = fake_server_copy(server, "nodes", name);

	if (object == NULL) {
		object = json_pack("{s:{s:s}}", "metadata", "name", name);
	}
	(void)json_object_set_new(object, "status",
		json_pack("{s:[{s:s, s:s}]}", "conditions", "type", "Ready", "status",
			is_ready ? "True" : "Unknown"));
	fake_server_put(server, "nodes", object);
}

static bool is_alive(const struct fake_nodes *nodes, const char *node)
{
	const json_t *object = fake_server_get(nodes->server, "nodes", node);
	const json_t *condition = json_array_get(kube_at(object, "status.conditions"), 0);

	return strcmp(kube_text(condition, "status"), "True") == 0;
}

static void set_ready(json_t *object, bool is_ready, const char *reason)
{
	json_t *status = json_object_get(object, "status");

	if (status == NULL) {
		status = json_object();
		(void)json_object_set_new(object, "status", status);
	}
	if (!json_is_array(json_object_get(status, "conditions"))) {
		(void)json_object_set_new(status, "conditions", json_array());
	}
	(void)kube_condition_set(json_object_get(status, "conditions"), "Ready",
		is_ready ? "True" : "False", reason, "", 0);
}

struct users {
	const char *pool;
	unsigned count;
};

static void count_user(void *ctx, const json_t *replica)
{
	struct users *users = ctx;

	users->count += strcmp(kube_text(replica, "spec.pool"), users->pool) == 0;
}

static void tend_pool(void *ctx, const json_t *pool)
{
	struct fake_nodes *nodes = ctx;
	json_t *object;
	const char *state = kube_text(pool, "status.state");
	struct users users = {.pool = kube_name(pool)};

	fake_server_each(nodes->server, "replicas", count_user, &users);
	if (!is_alive(nodes, kube_text(pool, "spec.node")) || strcmp(state, "Released") == 0) {
		return;
	}
	bool is_over = kube_is_deleted(pool) && users.count == 0;

	if (!is_over && strcmp(state, "Online") == 0) {
		return;
	}
	object = fake_server_copy(nodes->server, "pools", kube_name(pool));
	set_ready(object, !is_over, is_over ? "Released" : "Online");
	(void)json_object_set_new(json_object_get(object, "status"), "state",
		json_string(is_over ? "Released" : "Online"));
	(void)json_object_set_new(
		json_object_get(object, "status"), "capacity", json_string("10Gi"));
	(void)json_object_set_new(
		json_object_get(object, "status"), "sealingKey", json_string(FAKE_SEALING_KEY));
	fake_server_put(nodes->server, "pools", object);
}

static void tend_replica(void *ctx, const json_t *replica)
{
	struct fake_nodes *nodes = ctx;
	bool is_refused = rng_percent(nodes->rng, nodes->refuse_percent);
	json_t *object;

	if (!is_alive(nodes, kube_text(replica, "spec.node")) ||
		(kube_number(replica, "status.nsid", 0) != 0 && !kube_is_deleted(replica))) {
		return;
	}
	object = fake_server_copy(nodes->server, "replicas", kube_name(replica));
	if (kube_is_deleted(replica)) {
		(void)json_object_del(json_object_get(object, "metadata"), "finalizers");
	} else if (is_refused) {
		set_ready(object, false, rng_percent(nodes->rng, 50) ? "NoSpace" : "CreateFailed");
	} else {
		set_ready(object, true, "Online");
		(void)json_object_set_new(
			json_object_get(object, "status"), "state", json_string("Online"));
		(void)json_object_set_new(
			json_object_get(object, "status"), "nsid", json_integer(1));
	}
	fake_server_put(nodes->server, "replicas", object);
}

static void tend_volume(void *ctx, const json_t *volume)
{
	struct fake_nodes *nodes = ctx;
	const char *open = kube_text(volume, "status.nexus.node");
	const char *attached = kube_text(volume, "status.attachment.node");
	json_t *object, *status;

	if (strcmp(open, attached) == 0) {
		return;
	}
	object = fake_server_copy(nodes->server, "volumes", kube_name(volume));
	status = json_object_get(object, "status");
	if (attached[0] != '\0' && is_alive(nodes, attached)) {
		(void)json_object_set_new(status, "nexus",
			json_pack("{s:s, s:s, s:s}", "node", attached, "state", "Online", "device",
				"/dev/loop1"));
		fake_server_put(nodes->server, "volumes", object);
	} else if (open[0] != '\0' && is_alive(nodes, open)) {
		(void)json_object_del(status, "nexus");
		fake_server_put(nodes->server, "volumes", object);
	} else {
		json_decref(object);
	}
}

/* ---- of all nodes ---- */

static const struct {
	const char *plural;
	void (*tend)(void *ctx, const json_t *object);
} kinds[] = {{"pools", tend_pool}, {"replicas", tend_replica}, {"volumes", tend_volume}};

struct chosen {
	struct fake_nodes *nodes;
	unsigned skip;
	void (*tend)(void *ctx, const json_t *object);
};

static void tend_chosen(void *ctx, const json_t *object)
{
	struct chosen *chosen = ctx;

	if (chosen->skip-- == 0) {
		chosen->tend(chosen->nodes, object);
	}
}

void fake_nodes_step(struct fake_nodes *nodes)
{
	size_t kind = rng_below(nodes->rng, ARRAY_COUNT(kinds));
	struct chosen chosen = {nodes, (unsigned)rng_below(nodes->rng, 12), kinds[kind].tend};

	fake_server_each(nodes->server, kinds[kind].plural, tend_chosen, &chosen);
}

void fake_nodes_all(struct fake_nodes *nodes)
{
	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		fake_server_each(nodes->server, kinds[i].plural, kinds[i].tend, nodes);
	}
}
