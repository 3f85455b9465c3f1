/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/testing/fake_nodes.h"

#include "base/bytes.h"

#include <stdio.h>
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

/* ---- an open volume: its nexus, and csi-node beside it ---- */

struct opened {
	struct fake_nodes *nodes;
	const json_t *volume;
	json_t *voters;          /* {replica uuid: state}: what the replicas themselves have */
	unsigned wanted, online; /* of status.replicas, those that stay */
	const json_t *replica;   /* found */
	const char *uuid;
};

static void find_replica(void *ctx, const json_t *replica)
{
	struct opened *opened = ctx;

	if (strcmp(kube_text(replica, "spec.uuid"), opened->uuid) == 0) {
		opened->replica = replica;
	}
}

static const json_t *replica_of(struct opened *opened, const char *uuid)
{
	opened->replica = NULL;
	opened->uuid = uuid;
	fake_server_each(opened->nodes->server, "replicas", find_replica, opened);
	return opened->replica;
}

static void begin_with(void *ctx, const json_t *replica)
{
	struct opened *opened = ctx;

	if (strcmp(kube_text(replica, "spec.volumeUUID"), kube_text(opened->volume, "spec.uuid")) ==
			0 &&
		!kube_is_deleted(replica) && kube_number(replica, "status.nsid", 0) != 0) {
		(void)json_object_set_new(
			opened->voters, kube_text(replica, "spec.uuid"), json_string("Online"));
	}
}

/* Who is reached, and who has been rebuilt. */
static void look_at_voters(struct opened *opened)
{
	const char *uuid;
	json_t *state;
	void *next;

	json_object_foreach_safe(opened->voters, next, uuid, state)
	{
		const json_t *replica = replica_of(opened, uuid);
		bool is_reached =
			replica != NULL && is_alive(opened->nodes, kube_text(replica, "spec.node"));
		const char *now = !is_reached ? "Offline" : json_string_value(state);

		if (is_reached && strcmp(now, "Offline") == 0) {
			now = "Rebuilding";
		} else if (is_reached && strcmp(now, "Rebuilding") == 0 &&
			   rng_percent(opened->nodes->rng,
				   opened->nodes->refuse_percent == 0 ? 100 : 50)) {
			now = "Online";
		}
		if (strcmp(now, json_string_value(state)) != 0) {
			(void)json_object_set_new(opened->voters, uuid, json_string(now));
		}
	}
}

static bool is_online(const struct opened *opened, const char *uuid)
{
	const char *state = json_string_value(json_object_get(opened->voters, uuid));

	return state != NULL && strcmp(state, "Online") == 0;
}

/* A step of csi-node: who shall come, comes; when all those are in sync, who shall go, goes. */
static void change_voters(struct opened *opened)
{
	const json_t *members = kube_at(opened->volume, "status.replicas"), *member;
	const char *uuid;
	json_t *state;
	void *next;
	size_t i;

	opened->wanted = opened->online = 0;
	json_array_foreach((json_t *)(uintptr_t)members, i, member)
	{
		const json_t *replica = replica_of(opened, kube_text(member, "uuid"));

		uuid = kube_text(member, "uuid");
		if (kube_bool(member, "leaving")) {
			continue;
		}
		opened->wanted++;
		if (json_object_get(opened->voters, uuid) == NULL && replica != NULL &&
			!kube_is_deleted(replica) && kube_number(replica, "status.nsid", 0) != 0) {
			(void)json_object_set_new(opened->voters, uuid, json_string("Rebuilding"));
		}
		opened->online += is_online(opened, uuid);
	}
	if (opened->wanted == 0 || opened->online < opened->wanted) {
		return;
	}
	json_object_foreach_safe(opened->voters, next, uuid, state)
	{
		bool is_wanted = false;

		json_array_foreach((json_t *)(uintptr_t)members, i, member)
		{
			is_wanted = is_wanted || (strcmp(kube_text(member, "uuid"), uuid) == 0 &&
							 !kube_bool(member, "leaving"));
		}
		if (!is_wanted) {
			(void)json_object_del(opened->voters, uuid);
			return;
		}
	}
}

static json_t *make_nexus(struct opened *opened, const char *node)
{
	const json_t *members = kube_at(opened->volume, "status.replicas"), *member;
	json_t *replicas = json_array(), *removed = json_array(), *state;
	char epoch[32];
	const char *uuid;
	size_t i;

	json_object_foreach(opened->voters, uuid, state)
	{
		(void)json_array_append_new(
			replicas, json_pack("{s:s, s:O}", "uuid", uuid, "state", state));
	}
	json_array_foreach((json_t *)(uintptr_t)members, i, member)
	{
		if (kube_bool(member, "leaving") &&
			json_object_get(opened->voters, kube_text(member, "uuid")) == NULL) {
			(void)json_array_append_new(
				removed, json_string(kube_text(member, "uuid")));
		}
	}
	(void)snprintf(epoch, sizeof(epoch), "%lld.1",
		(long long)kube_number(opened->volume, "status.attachment.number", 0));
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o}", "node", node, "state", "Online",
		"device", "/dev/loop1", "epoch", epoch, "generation", 1, "replicas", replicas,
		"removed", removed);
}

/* true: its status.nexus is another one now. */
static bool serve(struct fake_nodes *nodes, const json_t *volume, json_t *status)
{
	struct opened opened = {.nodes = nodes,
		.volume = volume,
		.voters = json_object_get(nodes->voters, kube_text(volume, "spec.uuid"))};
	const char *node = kube_text(volume, "status.attachment.node");
	json_t *nexus;
	bool is_changed;

	if (opened.voters == NULL) {
		opened.voters = json_object();
		(void)json_object_set_new(
			nodes->voters, kube_text(volume, "spec.uuid"), opened.voters);
		fake_server_each(nodes->server, "replicas", begin_with, &opened);
	}
	look_at_voters(&opened);
	change_voters(&opened);
	nexus = make_nexus(&opened, node);
	is_changed = !json_equal(nexus, json_object_get(status, "nexus"));
	(void)json_object_set_new(status, "nexus", nexus);
	return is_changed;
}

static void tend_volume(void *ctx, const json_t *volume)
{
	struct fake_nodes *nodes = ctx;
	const char *open = kube_text(volume, "status.nexus.node");
	const char *attached = kube_text(volume, "status.attachment.node");
	bool is_changed = false;
	json_t *object, *status;

	if (open[0] == '\0' && attached[0] == '\0') {
		return;
	}
	object = fake_server_copy(nodes->server, "volumes", kube_name(volume));
	status = json_object_get(object, "status");
	if (attached[0] != '\0' && is_alive(nodes, attached)) {
		is_changed = serve(nodes, volume, status);
	} else if (open[0] != '\0' && strcmp(open, attached) != 0 && is_alive(nodes, open)) {
		(void)json_object_del(status, "nexus");
		is_changed = true;
	}
	if (is_changed) {
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
