/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/testing/fake_patch.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fake_merge(json_t *object, const json_t *patch)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)patch, key, value)
	{
		json_t *there = json_object_get(object, key);

		if (json_is_null(value)) {
			(void)json_object_del(object, key);
		} else if (json_is_object(value) && json_is_object(there)) {
			fake_merge(there, value);
		} else if (json_is_object(value)) {
			json_t *made = json_object();

			fake_merge(made, value);
			(void)json_object_set_new(object, key, made);
		} else {
			(void)json_object_set_new(object, key, json_deep_copy(value));
		}
	}
}

/* One segment of a pointer, "~1" and "~0" decoded; where the next begins. */
static const char *segment(const char *pointer, char *name, size_t size)
{
	size_t length = 0;

	for (pointer++; *pointer != '\0' && *pointer != '/'; pointer++) {
		char c = *pointer;

		if (c == '~') {
			c = *++pointer == '1' ? '/' : '~';
		}
		if (length + 1 < size) {
			name[length++] = c;
		}
	}
	name[length] = '\0';
	return pointer;
}

static json_t *child(json_t *parent, const char *name)
{
	return json_is_array(parent) ? json_array_get(parent, strtoul(name, NULL, 10))
				     : json_object_get(parent, name);
}

static bool set_child(json_t *parent, const char *name, const json_t *value, bool is_add)
{
	json_t *copy = json_deep_copy(value);

	if (!json_is_array(parent)) {
		return json_object_set_new(parent, name, copy) == 0;
	}
	if (strcmp(name, "-") == 0) {
		return json_array_append_new(parent, copy) == 0;
	}
	size_t index = strtoul(name, NULL, 10);

	return (is_add ? json_array_insert_new(parent, index, copy)
		       : json_array_set_new(parent, index, copy)) == 0;
}

static bool apply(json_t *object, const char *operation, const char *pointer, const json_t *value)
{
	char name[256] = "";
	json_t *parent = object;

	for (;;) {
		pointer = segment(pointer, name, sizeof(name));
		if (*pointer == '\0') {
			break;
		}
		parent = child(parent, name);
		if (parent == NULL) {
			return false;
		}
	}
	if (strcmp(operation, "test") == 0) {
		return json_equal(child(parent, name), value);
	}
	if (strcmp(operation, "add") == 0) {
		return set_child(parent, name, value, true);
	}
	if (child(parent, name) == NULL) {
		return false;
	}
	if (strcmp(operation, "replace") == 0) {
		return set_child(parent, name, value, false);
	}
	return (json_is_array(parent) ? json_array_remove(parent, strtoul(name, NULL, 10))
				      : json_object_del(parent, name)) == 0;
}

bool fake_json_patch(json_t *object, const json_t *patch)
{
	for (size_t i = 0; i < json_array_size(patch); i++) {
		const json_t *item = json_array_get(patch, i);
		const char *operation = json_string_value(json_object_get(item, "op"));
		const char *path = json_string_value(json_object_get(item, "path"));

		if (operation == NULL || path == NULL || path[0] != '/' ||
			!apply(object, operation, path, json_object_get(item, "value"))) {
			return false;
		}
	}
	return true;
}
