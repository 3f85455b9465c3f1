/* SPDX-License-Identifier: Apache-2.0 */
/* The state folder: the agent's uuid, and its pools as JSON, replaced as a whole. */
#include "base/bytes.h"
#include "pool-agent/control/control.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATE_VERSION   1
#define STATE_BYTES_MAX (1u << 20)

static const char *const phase_names[] = {
	[POOL_PRESENT] = "",
	[POOL_CREATING] = "creating",
	[POOL_DELETING] = "deleting",
};

static int phase_parse(const char *text, enum pool_phase *ret_phase)
{
	for (unsigned i = 0; i < ARRAY_COUNT(phase_names); i++) {
		if (strcmp(text, phase_names[i]) == 0) {
			*ret_phase = (enum pool_phase)i;
			return 0;
		}
	}
	return -EBADMSG;
}

static int pool_from_json(struct control *control, json_t *from, struct err *err)
{
	const char *name;
	const char *disk;
	const char *uuid;
	const char *phase = "";
	int index;
	int is_configured;
	int made_file = 0;
	json_error_t error;
	struct pool *pool;

	if (json_unpack_ex(from, &error, 0, "{s:s, s:s, s:s, s:i, s:b, s?b, s?s}", "name", &name,
		    "disk", &disk, "uuid", &uuid, "index", &index, "configured", &is_configured,
		    "made_file", &made_file, "phase", &phase) != 0) {
		return err_set(err, -EBADMSG, "a pool: %s", error.text);
	}
	if (index < 0 || index >= AGENT_POOLS_MAX || control->pools[index].used) {
		return err_set(err, -EBADMSG, "pool %s: index %d", name, index);
	}
	pool = &control->pools[index];
	if (pool_name_check(name, err) != 0 || pool_disk_check(disk, err) != 0) {
		return err->code;
	}
	if (phase_parse(phase, &pool->phase) != 0) {
		return err_set(err, -EBADMSG, "pool %s: phase %s", name, phase);
	}
	if (control_find_pool(control, name) != NULL || uuid_parse(uuid, &pool->uuid) != 0) {
		return err_set(err, -EBADMSG, "pool %s: there twice, or a bad uuid", name);
	}
	pool->used = true;
	pool->is_configured = is_configured != 0;
	pool->made_file = made_file != 0;
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	snprintf(pool->disk, sizeof(pool->disk), "%s", disk);
	return 0;
}

static int state_from_json(struct control *control, json_t *root, struct err *err)
{
	json_t *pools;
	json_t *pool;
	size_t i;
	int version;
	json_error_t error;

	if (json_unpack_ex(root, &error, 0, "{s:i, s:o}", "version", &version, "pools", &pools) !=
		0) {
		return err_set(err, -EBADMSG, "%s", error.text);
	}
	if (version != STATE_VERSION) {
		return err_set(
			err, -EOPNOTSUPP, "version %d is not known to this program", version);
	}
	if (!json_is_array(pools)) {
		return err_set(err, -EBADMSG, "pools: not a list");
	}
	json_array_foreach(pools, i, pool)
	{
		int result = pool_from_json(control, pool, err);

		if (result != 0) {
			return result;
		}
	}
	return 0;
}

static void state_path(const struct control *control, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.4000s/%s", daemon_state_folder(control->daemon), name);
}

static int pools_load(struct control *control, struct err *err)
{
	char path[PATH_MAX];
	struct strbuf text;
	json_error_t error;
	json_t *root;
	int result;

	state_path(control, "pools.json", path);
	strbuf_init(&text);
	result = file_read(path, STATE_BYTES_MAX, &text, err);
	if (result != 0) {
		strbuf_done(&text);
		return result == -ENOENT ? 0 : result;
	}
	root = json_loads(strbuf_text(&text), JSON_REJECT_DUPLICATES, &error);
	strbuf_done(&text);
	if (root == NULL) {
		return err_set(err, -EBADMSG, "%s: line %d: %s", path, error.line, error.text);
	}
	result = state_from_json(control, root, err);
	json_decref(root);
	return result == 0 ? 0 : err_prefix(err, "%s", path);
}

int state_load(struct control *control, struct err *err)
{
	char path[PATH_MAX];
	int result;

	state_path(control, "uuid", path);
	result = file_uuid(path, &control->uuid, err);
	return result != 0 ? result : pools_load(control, err);
}

static json_t *state_to_json(const struct control *control)
{
	char id[UUID_TEXT_SIZE];
	json_t *pools = json_array();

	for (unsigned i = 0; i < AGENT_POOLS_MAX; i++) {
		const struct pool *pool = &control->pools[i];

		if (pool->used) {
			json_array_append_new(pools,
				json_pack("{s:s, s:s, s:s, s:i, s:b, s:b, s:s}", "name", pool->name,
					"disk", pool->disk, "uuid", uuid_to_text(&pool->uuid, id),
					"index", (int)i, "configured", (int)pool->is_configured,
					"made_file", (int)pool->made_file, "phase",
					phase_names[pool->phase]));
		}
	}
	return json_pack("{s:i, s:o}", "version", STATE_VERSION, "pools", pools);
}

int state_save(const struct control *control, struct err *err)
{
	char path[PATH_MAX];
	json_t *root = state_to_json(control);
	char *text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
	int result;

	state_path(control, "pools.json", path);
	if (text == NULL) {
		result = err_set(err, -ENOMEM, "%s: out of memory", path);
	} else {
		result = file_replace(path, text, strlen(text), err);
	}
	free(text);
	json_decref(root);
	return result;
}
