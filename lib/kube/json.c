/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "kube/internal.h"

#include <string.h>

/* ---- looking into objects ---- */

const json_t *kube_at(const json_t *object, const char *path)
{
	char name[128];

	while (object != NULL && *path != '\0') {
		size_t length = strcspn(path, ".");

		if (length >= sizeof(name)) {
			return NULL;
		}
		memcpy(name, path, length);
		name[length] = '\0';
		object = json_object_get(object, name);
		path += length + (path[length] == '.');
	}
	return object;
}

const char *kube_text(const json_t *object, const char *path)
{
	const char *text = json_string_value(kube_at(object, path));

	return text != NULL ? text : "";
}

int64_t kube_number(const json_t *object, const char *path, int64_t fallback)
{
	const json_t *number = kube_at(object, path);

	return json_is_integer(number) ? json_integer_value(number) : fallback;
}

bool kube_bool(const json_t *object, const char *path)
{
	return json_is_true(kube_at(object, path));
}

const char *kube_name(const json_t *object)
{
	return kube_text(object, "metadata.name");
}

const char *kube_namespace(const json_t *object)
{
	return kube_text(object, "metadata.namespace");
}

const char *kube_uid(const json_t *object)
{
	return kube_text(object, "metadata.uid");
}

bool kube_is_deleted(const json_t *object)
{
	const json_t *when = kube_at(object, "metadata.deletionTimestamp");

	return when != NULL && !json_is_null(when);
}

bool kube_has_finalizer(const json_t *object, const char *finalizer)
{
	const json_t *list = kube_at(object, "metadata.finalizers");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (text != NULL && strcmp(text, finalizer) == 0) {
			return true;
		}
	}
	return false;
}

/* ---- texts ---- */

json_t *kube_json_text(const char *text, size_t bytes_max)
{
	struct strbuf escaped;
	json_t *string;

	strbuf_init(&escaped);
	strbuf_append_json_string(&escaped, text);
	string = strbuf_failed(&escaped)
			 ? NULL
			 : json_loadb(escaped.text, escaped.length, JSON_DECODE_ANY, NULL);
	strbuf_done(&escaped);
	if (string == NULL || bytes_max == 0 || json_string_length(string) <= bytes_max) {
		return string;
	}
	const char *valid = json_string_value(string);
	size_t length = bytes_max - strlen("…");

	/* Not within a character. */
	while (length > 0 && ((unsigned char)valid[length] & 0xC0) == 0x80) {
		length--;
	}
	json_t *cut = json_sprintf("%.*s…", (int)length, valid);

	json_decref(string);
	return cut;
}

/* ---- conditions ---- */

static json_t *find_condition(const json_t *conditions, const char *type)
{
	for (size_t i = 0; i < json_array_size(conditions); i++) {
		json_t *condition = json_array_get(conditions, i);

		if (strcmp(kube_text(condition, "type"), type) == 0) {
			return condition;
		}
	}
	return NULL;
}

static bool set_text(json_t *object, const char *key, const char *text, size_t bytes_max)
{
	json_t *value = kube_json_text(text, bytes_max);
	bool changes = value != NULL && !json_equal(value, json_object_get(object, key));

	if (changes) {
		(void)json_object_set(object, key, value);
	}
	json_decref(value);
	return changes;
}

bool kube_condition_set(json_t *conditions, const char *type, const char *status,
	const char *reason, const char *message, int64_t observed_generation)
{
	char now[KUBE_TIME_TEXT_SIZE];
	json_t *condition = find_condition(conditions, type);
	bool changed = false;

	if (condition == NULL) {
		condition = json_object();
		if (condition == NULL || json_array_append_new(conditions, condition) < 0) {
			return false;
		}
	}
	if (strcmp(kube_text(condition, "status"), status) != 0) {
		changed =
			set_text(condition, "lastTransitionTime", kube_time_now(now), 0) || changed;
	}
	changed = set_text(condition, "type", type, 316) || changed;
	changed = set_text(condition, "status", status, 0) || changed;
	changed = set_text(condition, "reason", reason, 1024) || changed;
	changed = set_text(condition, "message", message, 32768) || changed;
	if (observed_generation > 0 &&
		kube_number(condition, "observedGeneration", 0) != observed_generation) {
		(void)json_object_set_new(
			condition, "observedGeneration", json_integer(observed_generation));
		changed = true;
	}
	return changed;
}

const char *kube_condition_status(const json_t *conditions, const char *type)
{
	return kube_text(find_condition(conditions, type), "status");
}
