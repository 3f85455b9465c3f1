/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/testing/fake_api.h"

#include "kube/testing/fake_patch.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 512

struct fake_api {
	struct loop *loop;
	struct fake_http *http;
	json_t *objects; /* path to object */
	json_t *history; /* of {version, type, path, object} */
	uint64_t version, compacted;
	struct list watches;
	unsigned watch_count, request_count;
	fake_api_hook *hook;
	void *hook_ctx;
	char token[TEXT_MAX];
	size_t cut_after;
	bool late_expiry;
};

struct watch {
	struct list_node node;
	struct fake_conn *conn;
	char collection[TEXT_MAX], selector[TEXT_MAX];
};

/* A path, taken apart. */
struct target {
	char collection[TEXT_MAX]; /* "/api/v1/pods", "/api/v1/namespaces/a/pods" */
	char object[TEXT_MAX];     /* "" for a collection */
	char namespace[TEXT_MAX], name[TEXT_MAX], subresource[TEXT_MAX];
};

/* ---- paths ---- */

static void parse_target(const char *path, struct target *target)
{
	char copy[TEXT_MAX], *parts[10] = {0}, *rest = NULL;
	unsigned count = 0;

	*target = (struct target){.name = ""};
	(void)snprintf(copy, sizeof(copy), "%s", path);
	for (char *part = strtok_r(copy, "/", &rest); part != NULL && count < 9;
		part = strtok_r(NULL, "/", &rest)) {
		parts[count++] = part;
	}
	unsigned at = count > 0 && strcmp(parts[0], "api") == 0 ? 2 : 3;

	if (count > at + 2 && strcmp(parts[at], "namespaces") == 0) {
		(void)snprintf(target->namespace, TEXT_MAX, "%s", parts[at + 1]);
		at += 2;
	}
	unsigned begin = at;

	for (unsigned i = 0; i <= begin && i < count; i++) {
		(void)strcat(strcat(target->collection, "/"), parts[i]);
	}
	if (count > at + 1) {
		(void)snprintf(target->name, TEXT_MAX, "%s", parts[at + 1]);
		(void)snprintf(target->object, TEXT_MAX, "%.250s/%.250s", target->collection,
			target->name);
	}
	if (count > at + 2) {
		(void)snprintf(target->subresource, TEXT_MAX, "%s", parts[at + 2]);
	}
}

/* Is the object of that path in the collection, which may be of all namespaces? */
static bool is_in(const char *collection, const char *path)
{
	struct target object, all;
	char stripped[TEXT_MAX];

	parse_target(path, &object);
	if (strcmp(object.collection, collection) == 0) {
		return true;
	}
	parse_target(collection, &all);
	if (object.namespace[0] == '\0' || all.namespace[0] != '\0') {
		return false;
	}
	char *cut = strstr(object.collection, "/namespaces/");

	(void)snprintf(stripped, sizeof(stripped), "%.*s%s", (int)(cut - object.collection),
		object.collection, strrchr(object.collection, '/'));
	return strcmp(stripped, collection) == 0;
}

/* "a=b" of a label; "" selects everything. */
static bool is_selected(const char *selector, const json_t *object)
{
	const json_t *metadata = json_object_get(object, "metadata");
	char key[TEXT_MAX];
	const char *equal = strchr(selector, '=');

	if (equal == NULL) {
		return true;
	}
	(void)snprintf(key, sizeof(key), "%.*s", (int)(equal - selector), selector);
	const char *value =
		json_string_value(json_object_get(json_object_get(metadata, "labels"), key));

	return value != NULL && strcmp(value, equal + 1) == 0;
}

/* ---- watches ---- */

static void send_event(struct watch *watch, const char *type, const json_t *object)
{
	json_t *event =
		json_pack("{s:s, s:O}", "type", type, "object", (json_t *)(uintptr_t)object);
	char *text = json_dumps(event, JSON_COMPACT);
	struct strbuf line;

	strbuf_init(&line);
	strbuf_printf(&line, "%s\n", text);
	fake_stream_send(watch->conn, line.text, line.length);
	strbuf_done(&line);
	free(text);
	json_decref(event);
}

static void send_change(struct watch *watch, const json_t *change)
{
	const json_t *object = json_object_get(change, "object");
	const char *path = json_string_value(json_object_get(change, "path"));

	if (is_in(watch->collection, path) && is_selected(watch->selector, object)) {
		send_event(watch, json_string_value(json_object_get(change, "type")), object);
	}
}

static void note(struct fake_api *api, const char *type, const char *path, json_t *object)
{
	json_t *change = json_pack("{s:I, s:s, s:s, s:o}", "version", (json_int_t)api->version,
		"type", type, "path", path, "object", json_deep_copy(object));

	(void)json_array_append_new(api->history, change);
	list_for_each_safe (&api->watches, node, following) {
		send_change(container_of(node, struct watch, node), change);
	}
}

static void stamp(struct fake_api *api, json_t *object)
{
	char version[32];

	(void)snprintf(version, sizeof(version), "%" PRIu64, ++api->version);
	(void)json_object_set_new(
		json_object_get(object, "metadata"), "resourceVersion", json_string(version));
}

static void reply_json(struct fake_conn *conn, unsigned status, const json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);

	fake_reply(conn, status, "", text);
	free(text);
}

static json_t *make_status(unsigned code, const char *reason, const char *message)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "kind", "Status", "apiVersion", "v1",
		"status", "Failure", "reason", reason, "message", message, "code", (int)code);
}

static void refuse(struct fake_conn *conn, unsigned code, const char *reason, const char *message)
{
	json_t *status = make_status(code, reason, message);

	reply_json(conn, code, status);
	json_decref(status);
}

static void begin_watch(
	struct fake_api *api, const struct fake_request *request, const struct target *target)
{
	char version[64] = "0";
	struct watch *watch = calloc(1, sizeof(*watch));
	size_t i;
	json_t *change;

	assert(watch != NULL);
	(void)fake_query(request->query, "resourceVersion", version, sizeof(version));
	(void)fake_query(request->query, "labelSelector", watch->selector, TEXT_MAX);
	uint64_t from = strtoull(version, NULL, 10);

	if (from < api->compacted && !api->late_expiry) {
		free(watch);
		refuse(request->conn, 410, "Expired", "too old resource version");
		return;
	}
	watch->conn = request->conn;
	memcpy(watch->collection, target->collection, TEXT_MAX);
	list_push_back(&api->watches, &watch->node);
	api->watch_count++;
	fake_stream_begin(watch->conn);
	if (api->cut_after != SIZE_MAX) {
		fake_conn_cut_after(watch->conn, api->cut_after);
	}
	if (from < api->compacted) {
		json_t *status = make_status(410, "Expired", "too old resource version");

		send_event(watch, "ERROR", status);
		json_decref(status);
		fake_stream_end(watch->conn);
		return;
	}
	json_array_foreach(api->history, i, change)
	{
		if ((uint64_t)json_integer_value(json_object_get(change, "version")) > from) {
			send_change(watch, change);
		}
	}
}

/* ---- lists ---- */

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list(
	struct fake_api *api, const struct fake_request *request, const struct target *target)
{
	char limit_text[32] = "0", token[TEXT_MAX] = "", selector[TEXT_MAX] = "", version[32];
	const char **paths = calloc(json_object_size(api->objects) + 1, sizeof(*paths));
	size_t count = 0;
	const char *path;
	json_t *object, *items = json_array();

	(void)fake_query(request->query, "limit", limit_text, sizeof(limit_text));
	(void)fake_query(request->query, "continue", token, sizeof(token));
	(void)fake_query(request->query, "labelSelector", selector, sizeof(selector));
	size_t limit = strtoul(limit_text, NULL, 10);
	uint64_t at = token[0] != '\0' ? strtoull(token, NULL, 10) : api->version;

	if (at < api->compacted) {
		json_decref(items);
		free(paths);
		refuse(request->conn, 410, "Expired", "the continue token is too old");
		return;
	}
	json_object_foreach(api->objects, path, object)
	{
		bool is_later = token[0] == '\0' || strcmp(path, strchr(token, ':') + 1) > 0;

		if (is_later && is_in(target->collection, path) && is_selected(selector, object)) {
			paths[count++] = path;
		}
	}
	qsort(paths, count, sizeof(*paths), compare_paths);
	size_t part = limit != 0 && limit < count ? limit : count;

	for (size_t i = 0; i < part; i++) {
		(void)json_array_append(items, json_object_get(api->objects, paths[i]));
	}
	(void)snprintf(version, sizeof(version), "%" PRIu64, at);
	json_t *answer = json_pack("{s:s, s:s, s:{s:s}, s:o}", "kind", "List", "apiVersion", "v1",
		"metadata", "resourceVersion", version, "items", items);

	if (part < count) {
		(void)json_object_set_new(json_object_get(answer, "metadata"), "continue",
			json_sprintf("%s:%s", version, paths[part - 1]));
	}
	reply_json(request->conn, 200, answer);
	json_decref(answer);
	free(paths);
}

/* ---- objects ---- */

static json_t *metadata_of(json_t *object)
{
	json_t *metadata = json_object_get(object, "metadata");

	if (metadata == NULL) {
		metadata = json_object();
		(void)json_object_set_new(object, "metadata", metadata);
	}
	return metadata;
}

/* Takes `object`, which replaces what is there. */
static void store(struct fake_api *api, const char *path, json_t *object)
{
	const json_t *before = json_object_get(api->objects, path);
	json_t *metadata = metadata_of(object);
	struct target target;

	parse_target(path, &target);
	(void)json_object_set_new(metadata, "name", json_string(target.name));
	if (target.namespace[0] != '\0') {
		(void)json_object_set_new(metadata, "namespace", json_string(target.namespace));
	}
	stamp(api, object);
	if (before == NULL) {
		(void)json_object_set_new(
			metadata, "uid", json_sprintf("uid-%" PRIu64, api->version));
		(void)json_object_set_new(
			metadata, "creationTimestamp", json_string("2026-01-01T00:00:00Z"));
		(void)json_object_set_new(metadata, "generation", json_integer(1));
		(void)json_object_set_new(
			metadata, "managedFields", json_pack("[{s:s}]", "manager", "x"));
	}
	json_incref(object);
	(void)json_object_set_new(api->objects, path, object);
	note(api, before == NULL ? "ADDED" : "MODIFIED", path, object);
	json_decref(object);
}

static void take_out(struct fake_api *api, const char *path)
{
	json_t *object = json_deep_copy(json_object_get(api->objects, path));

	(void)json_object_del(api->objects, path);
	stamp(api, object);
	note(api, "DELETED", path, object);
	json_decref(object);
}

/* What a write makes of what is there: status or all but it, the server's own metadata stay. */
static json_t *merge_parts(const json_t *before, json_t *wanted, bool is_status)
{
	static const char *const kept[] = {
		"uid", "creationTimestamp", "deletionTimestamp", "managedFields", "generation"};
	json_t *result = json_deep_copy(is_status ? before : wanted);
	const json_t *status = json_object_get(is_status ? wanted : before, "status");

	if (status == NULL) {
		(void)json_object_del(result, "status");
	} else {
		(void)json_object_set_new(result, "status", json_deep_copy(status));
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		const json_t *value = json_object_get(json_object_get(before, "metadata"), kept[i]);

		if (value != NULL) {
			(void)json_object_set_new(
				metadata_of(result), kept[i], json_deep_copy(value));
		}
	}
	if (!json_equal(json_object_get(before, "spec"), json_object_get(result, "spec"))) {
		json_t *metadata = metadata_of(result);

		(void)json_object_set_new(metadata, "generation",
			json_integer(
				json_integer_value(json_object_get(metadata, "generation")) + 1));
	}
	json_decref(wanted);
	return result;
}

/* Takes `wanted`. */
static void update(
	struct fake_api *api, struct fake_conn *conn, const struct target *target, json_t *wanted)
{
	const json_t *before = json_object_get(api->objects, target->object);
	const json_t *metadata = json_object_get(before, "metadata");
	const char *wanted_version = json_string_value(
		json_object_get(json_object_get(wanted, "metadata"), "resourceVersion"));
	bool is_status = strcmp(target->subresource, "status") == 0;

	if (wanted_version != NULL &&
		strcmp(wanted_version,
			json_string_value(json_object_get(metadata, "resourceVersion"))) != 0) {
		json_decref(wanted);
		refuse(conn, 409, "Conflict", "the object has been modified");
		return;
	}
	json_t *result = merge_parts(before, wanted, is_status);
	json_t *after = metadata_of(result);

	/* A write that changes nothing has no version of its own. */
	(void)json_object_set(
		after, "resourceVersion", json_object_get(metadata, "resourceVersion"));
	if (!json_equal(before, result)) {
		json_incref(result);
		store(api, target->object, result);
	}
	reply_json(conn, 200, result);
	if (json_object_get(after, "deletionTimestamp") != NULL &&
		json_array_size(json_object_get(after, "finalizers")) == 0) {
		take_out(api, target->object);
	}
	json_decref(result);
}

static void delete(
	struct fake_api *api, const struct fake_request *request, const struct target *target)
{
	json_t *options = json_loads(request->body, 0, NULL);
	const json_t *wanted = json_object_get(options, "preconditions");
	const char *uid = json_string_value(json_object_get(wanted, "uid"));
	const char *version = json_string_value(json_object_get(wanted, "resourceVersion"));
	json_t *object = json_deep_copy(json_object_get(api->objects, target->object));
	json_t *metadata = metadata_of(object);

	if (uid != NULL && strcmp(uid, json_string_value(json_object_get(metadata, "uid"))) != 0) {
		refuse(request->conn, 409, "Conflict",
			"the UID in the precondition does not match");
	} else if (version != NULL && strcmp(version, json_string_value(json_object_get(
							      metadata, "resourceVersion"))) != 0) {
		refuse(request->conn, 409, "Conflict",
			"the resourceVersion in the precondition does not match");
	} else if (json_array_size(json_object_get(metadata, "finalizers")) > 0) {
		if (json_object_get(metadata, "deletionTimestamp") == NULL) {
			(void)json_object_set_new(
				metadata, "deletionTimestamp", json_string("2026-01-01T00:00:00Z"));
			json_incref(object);
			store(api, target->object, object);
		}
		reply_json(request->conn, 200, object);
	} else {
		take_out(api, target->object);
		reply_json(request->conn, 200, object);
	}
	json_decref(options);
	json_decref(object);
}

/* Takes `body`. */
static void create(struct fake_api *api, const struct fake_request *request,
	const struct target *target, json_t *body)
{
	const char *name = json_string_value(json_object_get(metadata_of(body), "name"));
	char path[TEXT_MAX + 128];

	(void)snprintf(
		path, sizeof(path), "%s/%.120s", target->collection, name != NULL ? name : "");
	if (name == NULL) {
		json_decref(body);
		refuse(request->conn, 422, "Invalid", "name is required");
	} else if (json_object_get(api->objects, path) != NULL) {
		json_decref(body);
		refuse(request->conn, 409, "AlreadyExists", "it already exists");
	} else {
		json_incref(body);
		store(api, path, body);
		reply_json(request->conn, 201, body);
		json_decref(body);
	}
}

static void patch(struct fake_api *api, const struct fake_request *request,
	const struct target *target, const json_t *body)
{
	json_t *object = json_deep_copy(json_object_get(api->objects, target->object));

	if (strstr(request->content_type, "json-patch") == NULL) {
		fake_merge(object, body);
	} else if (!fake_json_patch(object, body)) {
		json_decref(object);
		refuse(request->conn, 422, "Invalid",
			"the server rejected our request due to an error in our request");
		return;
	}
	update(api, request->conn, target, object);
}

/* ---- requests ---- */

static void change(
	struct fake_api *api, const struct fake_request *request, const struct target *target)
{
	json_t *body = json_loadb(request->body, request->body_length, 0, NULL);
	bool is_there = json_object_get(api->objects, target->object) != NULL;
	bool is_apply = strstr(request->content_type, "apply-patch") != NULL;

	if (body == NULL) {
		refuse(request->conn, 400, "BadRequest", "the body is no JSON");
	} else if (strcmp(request->method, "POST") == 0) {
		create(api, request, target, json_incref(body));
	} else if (!is_there && is_apply) {
		(void)json_object_set_new(metadata_of(body), "name", json_string(target->name));
		create(api, request, target, json_incref(body));
	} else if (!is_there) {
		refuse(request->conn, 404, "NotFound", "not found");
	} else if (strcmp(request->method, "PUT") == 0) {
		update(api, request->conn, target, json_incref(body));
	} else {
		patch(api, request, target, body);
	}
	json_decref(body);
}

static void request_came(void *ctx, const struct fake_request *request)
{
	struct fake_api *api = ctx;
	char text[TEXT_MAX];
	struct target target;
	const json_t *object;

	api->request_count++;
	if (api->hook != NULL && api->hook(api->hook_ctx, request)) {
		return;
	}
	(void)snprintf(text, sizeof(text), "Bearer %.400s", api->token);
	if (api->token[0] != '\0' && strcmp(request->authorization, text) != 0) {
		refuse(request->conn, 401, "Unauthorized", "Unauthorized");
		return;
	}
	parse_target(request->path, &target);
	object = json_object_get(api->objects, target.object);
	if (strcmp(request->method, "GET") == 0 && target.name[0] == '\0') {
		if (fake_query(request->query, "watch", text, sizeof(text))) {
			begin_watch(api, request, &target);
		} else {
			list(api, request, &target);
		}
	} else if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "DELETE") != 0) {
		change(api, request, &target);
	} else if (object == NULL) {
		refuse(request->conn, 404, "NotFound", "not found");
	} else if (strcmp(request->method, "DELETE") == 0) {
		delete (api, request, &target);
	} else {
		reply_json(request->conn, 200, object);
	}
}

static void conn_closed(void *ctx, struct fake_conn *conn)
{
	struct fake_api *api = ctx;

	list_for_each_safe (&api->watches, node, following) {
		struct watch *watch = container_of(node, struct watch, node);

		if (watch->conn == conn) {
			list_remove(node);
			api->watch_count--;
			free(watch);
		}
	}
}

/* ---- what tests do ---- */

struct fake_api *fake_api_new(struct loop *loop)
{
	struct fake_api *api = calloc(1, sizeof(*api));
	struct fake_http_options options = {
		.loop = loop, .request = request_came, .closed = conn_closed, .ctx = api};

	assert(api != NULL);
	api->loop = loop;
	api->objects = json_object();
	api->history = json_array();
	api->version = 100;
	api->cut_after = SIZE_MAX;
	list_init(&api->watches);
	api->http = fake_http_new(&options);
	return api;
}

void fake_api_free(struct fake_api *api)
{
	fake_http_free(api->http);
	json_decref(api->objects);
	json_decref(api->history);
	free(api);
}

struct fake_http *fake_api_http(struct fake_api *api)
{
	return api->http;
}

void fake_api_kubeconfig(const struct fake_api *api, const char *path, const char *user)
{
	FILE *file = fopen(path, "we");

	assert(file != NULL);
	(void)fprintf(file,
		"apiVersion: v1\nkind: Config\ncurrent-context: test\n"
		"contexts: [{name: test, context: {cluster: fake, user: me}}]\n"
		"clusters: [{name: fake, cluster: {server: \"http://127.0.0.1:%u\"}}]\n"
		"users: [{name: me, user: %s}]\n",
		fake_http_port(api->http), user != NULL ? user : "{}");
	(void)fclose(file);
}

void fake_api_put(struct fake_api *api, const char *path, const char *json)
{
	json_t *object = json_loads(json, 0, NULL);
	const json_t *before = json_object_get(api->objects, path);

	assert(json_is_object(object));
	if (before != NULL) {
		json_t *merged = json_deep_copy(before);

		fake_merge(merged, object);
		json_decref(object);
		object = merged;
	}
	store(api, path, object);
}

void fake_api_delete(struct fake_api *api, const char *path)
{
	take_out(api, path);
}

const json_t *fake_api_get(const struct fake_api *api, const char *path)
{
	return json_object_get(api->objects, path);
}

unsigned fake_api_count(const struct fake_api *api)
{
	return (unsigned)json_object_size(api->objects);
}

uint64_t fake_api_version(const struct fake_api *api)
{
	return api->version;
}

void fake_api_set_version(struct fake_api *api, uint64_t version)
{
	if (version < api->version) {
		(void)json_array_clear(api->history);
		api->compacted = 0;
	}
	api->version = version;
}

void fake_api_compact(struct fake_api *api)
{
	(void)json_array_clear(api->history);
	api->compacted = ++api->version;
}

void fake_api_bookmark(struct fake_api *api)
{
	json_t *object = json_pack("{s:s, s:{s:o}}", "kind", "Anything", "metadata",
		"resourceVersion", json_sprintf("%" PRIu64, api->version));

	list_for_each_safe (&api->watches, node, following) {
		send_event(container_of(node, struct watch, node), "BOOKMARK", object);
	}
	json_decref(object);
}

void fake_api_set_hook(struct fake_api *api, fake_api_hook *hook, void *ctx)
{
	api->hook = hook;
	api->hook_ctx = ctx;
}

void fake_api_set_token(struct fake_api *api, const char *token)
{
	(void)snprintf(api->token, sizeof(api->token), "%s", token != NULL ? token : "");
}

void fake_api_cut_watches_after(struct fake_api *api, size_t bytes)
{
	api->cut_after = bytes;
}

void fake_api_set_late_expiry(struct fake_api *api, bool late)
{
	api->late_expiry = late;
}

void fake_api_close_watches(struct fake_api *api)
{
	list_for_each_safe (&api->watches, node, following) {
		fake_conn_close(container_of(node, struct watch, node)->conn);
	}
}

void fake_api_end_watches(struct fake_api *api)
{
	list_for_each_safe (&api->watches, node, following) {
		struct watch *watch = container_of(node, struct watch, node);

		fake_stream_end(watch->conn);
		list_remove(node);
		api->watch_count--;
		free(watch);
	}
}

void fake_api_half_close_watches(struct fake_api *api)
{
	list_for_each_safe (&api->watches, node, following) {
		fake_conn_half_close(container_of(node, struct watch, node)->conn);
	}
}

void fake_api_send_to_watches(struct fake_api *api, const char *bytes)
{
	list_for_each_safe (&api->watches, node, following) {
		fake_stream_send(
			container_of(node, struct watch, node)->conn, bytes, strlen(bytes));
	}
}

unsigned fake_api_watch_count(const struct fake_api *api)
{
	return api->watch_count;
}

unsigned fake_api_request_count(const struct fake_api *api)
{
	return api->request_count;
}
