/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/control/crash.h"

#include "daemon/file.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT         1
#define FILE_BYTES_MAX (64u * 1024)

const struct crash *crashes_find(
	const struct crashes *crashes, const struct uuid *volume, uint32_t attach)
{
	for (unsigned i = 0; i < crashes->count; i++) {
		const struct crash *crash = &crashes->all[i];

		if (uuid_equal(&crash->volume, volume) && crash->attach == attach) {
			return crash;
		}
	}
	return NULL;
}

/* Its own place, a free one, or that of the oldest. */
static struct crash *place_for(struct crashes *crashes, const struct uuid *volume)
{
	struct crash *oldest = &crashes->all[0];

	for (unsigned i = 0; i < crashes->count; i++) {
		if (uuid_equal(&crashes->all[i].volume, volume)) {
			return &crashes->all[i];
		}
		if (crashes->all[i].last_s < oldest->last_s) {
			oldest = &crashes->all[i];
		}
	}
	return crashes->count < CRASHES_MAX ? &crashes->all[crashes->count++] : oldest;
}

void crashes_add(struct crashes *crashes, const struct uuid *volume, uint32_t attach,
	const char *work, uint64_t now_s)
{
	const struct crash *before = crashes_find(crashes, volume, attach);
	bool again = before != NULL && strcmp(before->work, work) == 0 &&
		     now_s < before->last_s + CRASHES_DAY_S;
	struct crash crash = {.volume = *volume,
		.attach = attach,
		.count = again ? before->count + 1 : 1,
		.last_s = now_s};

	(void)snprintf(crash.work, sizeof(crash.work), "%s", work);
	*place_for(crashes, volume) = crash;
}

/* ---- the file ---- */

static int file_path(const char *state_folder, char path[PATH_MAX], struct err *err)
{
	int length = snprintf(path, PATH_MAX, "%s/crashes.json", state_folder);

	return length < PATH_MAX - 8
		       ? 0
		       : err_set(err, -ENAMETOOLONG, "state folder %s: too long", state_folder);
}

int crashes_save(const char *state_folder, const struct crashes *crashes, struct err *err)
{
	json_t *list = json_array();
	char path[PATH_MAX];
	int result = file_path(state_folder, path, err);

	for (unsigned i = 0; i < crashes->count; i++) {
		const struct crash *crash = &crashes->all[i];
		char uuid[UUID_TEXT_SIZE];

		(void)json_array_append_new(
			list, json_pack("{s:s, s:I, s:s, s:I, s:I}", "volume",
				      uuid_to_text(&crash->volume, uuid), "attach",
				      (json_int_t)crash->attach, "work", crash->work, "count",
				      (json_int_t)crash->count, "last", (json_int_t)crash->last_s));
	}
	bool complete = json_array_size(list) == crashes->count;
	json_t *json = json_pack("{s:i, s:o}", "format", FORMAT, "crashes", list);
	char *text = json == NULL || !complete ? NULL : json_dumps(json, JSON_INDENT(2));

	json_decref(json);
	if (result == 0) {
		result = text != NULL ? file_replace(path, text, strlen(text), err)
				      : err_set(err, -ENOMEM, "%s: no memory", path);
	}
	free(text);
	return result;
}

static int parse_crash(json_t *json, struct crash *crash)
{
	json_int_t attach, count, last;
	const char *volume, *work;

	if (json_unpack(json, "{s:s, s:I, s:s, s:I, s:I}", "volume", &volume, "attach", &attach,
		    "work", &work, "count", &count, "last", &last) < 0 ||
		uuid_parse(volume, &crash->volume) < 0 || attach <= 0 || attach > UINT32_MAX ||
		count <= 0 || count > INT_MAX || last < 0 || strlen(work) >= sizeof(crash->work)) {
		return -EINVAL;
	}
	crash->attach = (uint32_t)attach;
	crash->count = (unsigned)count;
	crash->last_s = (uint64_t)last;
	(void)snprintf(crash->work, sizeof(crash->work), "%s", work);
	return 0;
}

static int parse(json_t *json, struct crashes *crashes)
{
	json_t *list;
	int format;

	if (json_unpack(json, "{s:i, s:o}", "format", &format, "crashes", &list) < 0 ||
		format != FORMAT || !json_is_array(list) || json_array_size(list) > CRASHES_MAX) {
		return -EINVAL;
	}
	crashes->count = (unsigned)json_array_size(list);
	for (unsigned i = 0; i < crashes->count; i++) {
		if (parse_crash(json_array_get(list, i), &crashes->all[i]) < 0) {
			return -EINVAL;
		}
	}
	return 0;
}

int crashes_load(const char *state_folder, struct crashes *ret_crashes, struct err *err)
{
	struct crashes crashes = {0};
	char path[PATH_MAX];
	struct strbuf text;
	json_error_t error;
	int result = file_path(state_folder, path, err);

	*ret_crashes = crashes;
	if (result < 0) {
		return result;
	}
	strbuf_init(&text);
	result = file_read(path, FILE_BYTES_MAX, &text, err);
	if (result == 0) {
		json_t *json =
			json_loadb(strbuf_text(&text), text.length, JSON_REJECT_DUPLICATES, &error);

		if (json == NULL || parse(json, &crashes) < 0) {
			result = err_set(err, -EBADMSG,
				"%s: is no list of crashes that this version knows", path);
		} else {
			*ret_crashes = crashes;
		}
		json_decref(json);
	}
	strbuf_done(&text);
	return result == -ENOENT ? 0 : result;
}
