/* SPDX-License-Identifier: Apache-2.0 */
/* What the plans have in common. */
#include "csi-node/plan.h"

#include <string.h>

static const json_t *find_condition(const json_t *list, const char *type)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);

		if (strcmp(kube_text(item, "type"), type) == 0) {
			return item;
		}
	}
	return NULL;
}

static bool conditions_are(const json_t *now, const json_t *wanted)
{
	for (size_t i = 0; i < json_array_size(wanted); i++) {
		const json_t *item = json_array_get(wanted, i);
		const json_t *is = find_condition(now, kube_text(item, "type"));

		if (is == NULL || !json_equal(is, item)) {
			return false;
		}
	}
	return true;
}

bool plan_status_is(
	const json_t *json, const json_t *wanted, const char *const fields[], size_t field_count)
{
	const json_t *now = kube_at(json, "status");

	if (!conditions_are(
		    json_object_get(now, "conditions"), json_object_get(wanted, "conditions"))) {
		return false;
	}
	for (size_t i = 0; i < field_count; i++) {
		const json_t *is = json_object_get(now, fields[i]);
		const json_t *shall_be = json_object_get(wanted, fields[i]);

		if (is != shall_be && !json_equal(is, shall_be)) {
			return false;
		}
	}
	return true;
}

void plan_add_condition(json_t *list, const json_t *json, const char *type, const char *status,
	const char *reason, const char *message, int64_t generation)
{
	const json_t *before = find_condition(kube_at(json, "status.conditions"), type);
	json_t *text = plan_text(message);

	if (before != NULL) {
		(void)json_array_append_new(list, json_deep_copy(before));
	}
	(void)kube_condition_set(list, type, status, reason, json_string_value(text), generation);
	json_decref(text);
}

json_t *plan_text(const char *text)
{
	char plain[OBJECTS_REASON_SIZE * 2];
	json_t *json = json_string(text);
	size_t length = 0;

	if (json != NULL) {
		return json;
	}
	/* No UTF-8: a cut in the middle of a character. */
	for (; text[length] != '\0' && length + 1 < sizeof(plain); length++) {
		plain[length] = text[length] >= ' ' && text[length] <= '~' ? text[length] : '?';
	}
	plain[length] = '\0';
	return json_string(plain);
}

json_t *plan_quantity(uint64_t bytes)
{
	char text[KUBE_QUANTITY_TEXT_SIZE];

	return json_string(kube_quantity_to_text(bytes, text));
}

bool plan_used_is_due(uint64_t was, uint64_t is, uint64_t whole, const struct plan_clock *clock)
{
	uint64_t moved = was > is ? was - is : is - was;
	bool is_over = clock->written_ms == 0 || clock->now_ms - clock->written_ms >= PLAN_USED_MS;

	return moved > 0 && clock->may_write_idly && (moved >= whole / 100 || is_over);
}
