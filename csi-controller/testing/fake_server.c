/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/testing/fake_server.h"

#include "csi-controller/table.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEY_SIZE 320

void fake_server_init(struct fake_server *server, int64_t now_s)
{
	*server = (struct fake_server){
		.objects = json_object(), .log = json_array(), .version = 1, .now_s = now_s};
}

void fake_server_done(struct fake_server *server)
{
	json_decref(server->objects);
	json_decref(server->log);
}

static const char *key_of(const char *plural, const char *name, char key[KEY_SIZE])
{
	(void)snprintf(key, KEY_SIZE, "%s/%s", plural, name);
	return key;
}

const json_t *fake_server_get(
	const struct fake_server *server, const char *plural, const char *name)
{
	char key[KEY_SIZE];

	return json_object_get(server->objects, key_of(plural, name, key));
}

json_t *fake_server_copy(const struct fake_server *server, const char *plural, const char *name)
{
	return json_deep_copy(fake_server_get(server, plural, name));
}

static json_t *metadata_of(const json_t *object)
{
	json_t *metadata = json_object_get(object, "metadata");

	assert(metadata != NULL);
	return metadata;
}

__attribute__((format(printf, 3, 4))) static void set_text(
	json_t *object, const char *key, const char *format, ...)
{
	char text[64];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)json_object_set_new(object, key, json_string(text));
}

static void set_time(const struct fake_server *server, json_t *object, const char *key)
{
	char text[32];
	time_t now = (time_t)server->now_s;
	struct tm parts;

	(void)gmtime_r(&now, &parts);
	(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
	(void)json_object_set_new(object, key, json_string(text));
}

/* Takes `object`; what is deleted and has no finalizer goes. */
static void store(struct fake_server *server, const char *plural, json_t *object)
{
	char key[KEY_SIZE];
	json_t *before;
	bool is_gone = kube_is_deleted(object) &&
		       json_array_size(kube_at(object, "metadata.finalizers")) == 0;

	key_of(plural, kube_name(object), key);
	before = json_incref(json_object_get(server->objects, key));
	set_text(metadata_of(object), "resourceVersion", "%llu",
		(unsigned long long)++server->version);
	if (is_gone) {
		(void)json_object_del(server->objects, key);
	} else {
		(void)json_object_set(server->objects, key, object);
	}
	(void)json_array_append_new(
		server->log, json_pack("{s:s, s:O, s:b, s:I}", "kind", plural, "object", object,
				     "gone", is_gone, "version", (json_int_t)server->version));
	if (server->changed != NULL) {
		server->changed(server->ctx, key, before, is_gone ? NULL : object);
	}
	json_decref(before);
	json_decref(object);
}

void fake_server_put(struct fake_server *server, const char *plural, json_t *object)
{
	if (kube_uid(object)[0] == '\0') {
		set_text(metadata_of(object), "uid", "uid-%llu",
			(unsigned long long)server->version);
		set_time(server, metadata_of(object), "creationTimestamp");
	}
	store(server, plural, object);
}

void fake_server_delete(struct fake_server *server, const char *plural, const char *name)
{
	json_t *object = fake_server_copy(server, plural, name);

	if (object != NULL) {
		set_time(server, metadata_of(object), "deletionTimestamp");
		store(server, plural, object);
	}
}

static json_t *copy_without_version(const json_t *object)
{
	json_t *copy = json_deep_copy(object);

	(void)json_object_del(json_object_get(copy, "metadata"), "resourceVersion");
	return copy;
}

static void split_key(const char *key, char plural[64], const char **ret_name)
{
	*ret_name = strchr(key, '/') + 1;
	(void)snprintf(plural, 64, "%.*s", (int)(*ret_name - key - 1), key);
}

/* What was made since is gone, finalizers or not. */
static void forget_newer(struct fake_server *server, const json_t *backup)
{
	json_t *now = json_copy(server->objects), *object;
	char plural[64];
	const char *key, *name;

	json_object_foreach(now, key, object)
	{
		if (json_object_get(backup, key) == NULL) {
			json_t *copy = copy_without_version(object);

			split_key(key, plural, &name);
			(void)json_object_del(metadata_of(copy), "finalizers");
			set_time(server, metadata_of(copy), "deletionTimestamp");
			store(server, plural, copy);
		}
	}
	json_decref(now);
}

void fake_server_restore(struct fake_server *server, const json_t *backup)
{
	const char *key, *name;
	char plural[64];
	json_t *object;

	forget_newer(server, backup);
	json_object_foreach((json_t *)(uintptr_t)backup, key, object)
	{
		json_t *copy = copy_without_version(object);
		json_t *now = copy_without_version(json_object_get(server->objects, key));

		split_key(key, plural, &name);
		if (json_equal(copy, now)) {
			json_decref(copy);
		} else {
			store(server, plural, copy);
		}
		json_decref(now);
	}
}

void fake_server_each(const struct fake_server *server, const char *plural,
	void (*visit)(void *ctx, const json_t *object), void *ctx)
{
	size_t prefix = strlen(plural);
	json_t *keys = json_array();
	const char *key;
	json_t *object;
	size_t i;

	json_object_foreach(server->objects, key, object)
	{
		if (strncmp(key, plural, prefix) == 0 && key[prefix] == '/') {
			(void)json_array_append(keys, object);
		}
	}
	json_array_foreach(keys, i, object)
	{
		visit(ctx, object);
	}
	json_decref(keys);
}

/* ---- patches ---- */

static void merge(json_t *to, const json_t *patch)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)patch, key, value)
	{
		if (json_is_null(value)) {
			(void)json_object_del(to, key);
		} else if (json_is_object(value)) {
			if (!json_is_object(json_object_get(to, key))) {
				(void)json_object_set_new(to, key, json_object());
			}
			merge(json_object_get(to, key), value);
		} else {
			(void)json_object_set_new(to, key, json_deep_copy(value));
		}
	}
}

static json_t *find_condition(json_t *list, const char *type)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (strcmp(kube_text(json_array_get(list, i), "type"), type) == 0) {
			return json_array_get(list, i);
		}
	}
	return NULL;
}

/* Server-side apply of status: lists but conditions are replaced, and a reason that is left out
 * goes. */
static void apply(json_t *object, const json_t *body)
{
	json_t *status = json_object_get(object, "status");
	json_t *from = json_deep_copy(kube_at(body, "status"));
	json_t *conditions = json_incref(json_object_get(from, "conditions"));

	if (status == NULL) {
		status = json_object();
		(void)json_object_set_new(object, "status", status);
	}
	(void)json_object_del(from, "conditions");
	/* csi-controller has several appliers' fields in one object, csi-node all of its own. */
	if (json_object_get(from, "inSync") != NULL || json_object_get(from, "nsid") != NULL ||
		json_object_get(from, "capacity") != NULL) {
		(void)json_object_del(status, "reason");
	}
	merge(status, from);
	if (json_object_get(status, "conditions") == NULL) {
		(void)json_object_set_new(status, "conditions", json_array());
	}
	for (size_t i = 0; i < json_array_size(conditions); i++) {
		json_t *condition = json_array_get(conditions, i);
		json_t *list = json_object_get(status, "conditions");
		json_t *there = find_condition(list, kube_text(condition, "type"));

		if (there != NULL) {
			(void)json_object_update(there, condition);
		} else {
			(void)json_array_append(list, condition);
		}
	}
	json_decref(conditions);
	json_decref(from);
}

static json_t *member_of(json_t *parent, const char *name)
{
	return json_is_array(parent) ? json_array_get(parent, strtoul(name, NULL, 10))
				     : json_object_get(parent, name);
}

/* The parent of what a path ("/a/b/0", no escapes) names; NULL: it is not there. */
static json_t *parent_of(json_t *object, char *path, const char **ret_last)
{
	char *next, *at = path + 1;

	while (object != NULL && (next = strchr(at, '/')) != NULL) {
		*next = '\0';
		object = member_of(object, at);
		at = next + 1;
	}
	*ret_last = at;
	return object;
}

static void patch_remove(json_t *parent, const char *last)
{
	if (json_is_array(parent)) {
		(void)json_array_remove(parent, strtoul(last, NULL, 10));
	} else {
		(void)json_object_del(parent, last);
	}
}

static int patch_json(json_t *object, const json_t *operations)
{
	for (size_t i = 0; i < json_array_size(operations); i++) {
		const json_t *operation = json_array_get(operations, i);
		const char *op = kube_text(operation, "op");
		const json_t *now;
		const char *last;
		char path[128];
		json_t *parent;

		(void)snprintf(path, sizeof(path), "%s", kube_text(operation, "path"));
		parent = parent_of(object, path, &last);
		now = parent == NULL ? NULL : member_of(parent, last);
		if (strcmp(op, "test") == 0) {
			if (now == NULL || !json_equal(now, json_object_get(operation, "value"))) {
				return -ESTALE;
			}
			continue;
		}
		if (parent == NULL || (strcmp(op, "remove") == 0 && now == NULL)) {
			return -ESTALE;
		}
		if (strcmp(op, "remove") == 0) {
			patch_remove(parent, last);
		} else {
			(void)json_object_set(parent, last, json_object_get(operation, "value"));
		}
	}
	return 0;
}

/* ---- requests ---- */

static bool is_other_version(const json_t *object, const json_t *body)
{
	const char *wanted = kube_text(body, "metadata.resourceVersion");

	return wanted[0] != '\0' &&
	       strcmp(wanted, kube_text(object, "metadata.resourceVersion")) != 0;
}

static int change(json_t *object, const struct fake_server_request *request)
{
	switch (request->verb) {
	case KUBE_APPLY:
		if (is_other_version(object, request->body)) {
			return -EAGAIN;
		}
		assert(request->is_status);
		apply(object, request->body);
		return 0;
	case KUBE_MERGE_PATCH:
		if (is_other_version(object, request->body)) {
			return -EAGAIN;
		}
		merge(object, request->body);
		return 0;
	case KUBE_JSON_PATCH:
		return patch_json(object, request->body);
	case KUBE_GET:
	case KUBE_LIST:
	case KUBE_CREATE:
	case KUBE_REPLACE:
	case KUBE_DELETE:
		break;
	}
	assert(false);
	return -EINVAL;
}

static void execute_create(struct fake_server *server, struct fake_server_request *request)
{
	if (fake_server_get(server, request->plural, request->name) != NULL) {
		request->result = -EEXIST;
		return;
	}
	fake_server_put(server, request->plural, json_deep_copy(request->body));
	request->response = fake_server_copy(server, request->plural, request->name);
}

static void execute_delete(struct fake_server *server, struct fake_server_request *request)
{
	const json_t *object = fake_server_get(server, request->plural, request->name);

	if ((request->uid != NULL && strcmp(request->uid, kube_uid(object)) != 0) ||
		(request->version != NULL &&
			strcmp(request->version, kube_text(object, "metadata.resourceVersion")) !=
				0)) {
		request->result = -EAGAIN;
		return;
	}
	if (!kube_is_deleted(object)) {
		fake_server_delete(server, request->plural, request->name);
	}
	request->response = fake_server_copy(server, request->plural, request->name);
	if (request->response == NULL) {
		request->response = json_pack("{s:s, s:s}", "kind", "Status", "status", "Success");
	}
}

struct listed {
	char path[64];
	const char *value;
	json_t *items;
};

static void list_one(void *ctx, const json_t *object)
{
	struct listed *listed = ctx;

	if (strcmp(kube_text(object, listed->path), listed->value) == 0) {
		(void)json_array_append_new(listed->items, json_deep_copy(object));
	}
}

static void execute_list(struct fake_server *server, struct fake_server_request *request)
{
	struct listed listed = {.items = json_array()};
	size_t length = strcspn(request->name, "=");

	(void)snprintf(listed.path, sizeof(listed.path), "%.*s", (int)length, request->name);
	listed.value = request->name + length + 1;
	fake_server_each(server, request->plural, list_one, &listed);
	request->response = json_pack("{s:o}", "items", listed.items);
}

void fake_server_execute(struct fake_server *server, struct fake_server_request *request)
{
	const json_t *object = fake_server_get(server, request->plural, request->name);

	request->result = 0;
	if (request->verb == KUBE_CREATE) {
		execute_create(server, request);
	} else if (request->verb == KUBE_LIST) {
		execute_list(server, request);
	} else if (object == NULL) {
		request->result = -ENOENT;
	} else if (request->verb == KUBE_GET) {
		request->response = json_deep_copy(object);
	} else if (request->verb == KUBE_DELETE) {
		execute_delete(server, request);
	} else {
		json_t *changed = json_deep_copy(object);

		request->result = change(changed, request);
		if (request->result == 0 && !json_equal(changed, object)) {
			request->response = json_incref(changed);
			store(server, request->plural, json_incref(changed));
		} else if (request->result == 0) {
			request->response = json_incref(changed);
		}
		json_decref(changed);
	}
}
