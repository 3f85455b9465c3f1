/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/control/state.h"

#include "base/hex.h"
#include "daemon/file.h"
#include "launch/launch.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT         1
#define FILE_BYTES_MAX (256u * 1024)

const char *frontend_kind_name(enum frontend_kind kind)
{
	switch (kind) {
	case FRONTEND_NONE:
		return "";
	case FRONTEND_FUSE:
		return "fuse";
	case FRONTEND_NVME:
		return "nvme";
	}
	return "";
}

int frontend_kind_parse(const char *text, enum frontend_kind *ret_kind, struct err *err)
{
	for (unsigned kind = FRONTEND_FUSE; kind <= FRONTEND_NVME; kind++) {
		if (strcmp(text, frontend_kind_name((enum frontend_kind)kind)) == 0) {
			*ret_kind = (enum frontend_kind)kind;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "unknown frontend \"%.32s\"; there are fuse and nvme", text);
}

unsigned volume_record_data_voters(const struct volume_record *record)
{
	unsigned count = 0;

	for (unsigned i = 0; i < record->voter_count; i++) {
		count += record->voters[i].kind == VOTER_DATA;
	}
	return count;
}

int volume_voter_check(const struct volume_voter *voter, struct err *err)
{
	return uuid_is_nil(&voter->replica) || voter->nsid == 0 || voter->address.port == 0
		       ? err_set(err, -EINVAL, "a replica lacks its uuid, nsid or address")
		       : 0;
}

static int check_voters(const struct volume_record *record, struct err *err)
{
	unsigned data = volume_record_data_voters(record);

	if (record->voter_count == 0 || record->voter_count > REPL_VOTERS_MAX) {
		return err_set(err, -EINVAL, "volume %s: needs 1 to %d replicas, not %u",
			record->name, REPL_VOTERS_MAX, record->voter_count);
	}
	for (unsigned i = 0; i < record->voter_count; i++) {
		char text[UUID_TEXT_SIZE];

		if (volume_voter_check(&record->voters[i], err) < 0) {
			return err_set(err, -EINVAL,
				"volume %s: replica %u lacks its uuid, nsid or address",
				record->name, i + 1);
		}
		for (unsigned j = 0; j < i; j++) {
			if (uuid_equal(&record->voters[i].replica, &record->voters[j].replica)) {
				return err_set(err, -EINVAL, "volume %s: replica %s is there twice",
					record->name,
					uuid_to_text(&record->voters[i].replica, text));
			}
		}
	}
	/* Of a used one the places of some may not be known here, or it has fewer copies now. */
	if (!record->used && (data == 0 || record->min_insync > data)) {
		return err_set(err, -EINVAL, "volume %s: min_insync %u with %u data replicas",
			record->name, record->min_insync, data);
	}
	return 0;
}

int volume_record_check(const struct volume_record *record, struct err *err)
{
	int result = launch_check_name(record->name, err);

	if (result < 0) {
		return result;
	}
	if (record->size_bytes == 0 || record->size_bytes % 4096 != 0 ||
		record->size_bytes > REPL_SIZE_MAX) {
		return err_set(err, -EINVAL,
			"volume %s: size %" PRIu64 " is no multiple of 4096 from 4K to 64T",
			record->name, record->size_bytes);
	}
	if (record->no_quorum_s > NO_QUORUM_S_MAX) {
		return err_set(err, -EINVAL,
			"volume %s: without a quorum requests wait for ever (0) or up to %d "
			"seconds, "
			"not %" PRIu32,
			record->name, NO_QUORUM_S_MAX, record->no_quorum_s);
	}
	if (uuid_is_nil(&record->uuid) || record->attach == 0) {
		return err_set(
			err, -EINVAL, "volume %s: lacks its uuid or attach number", record->name);
	}
	return check_voters(record, err);
}

/* ---- the same volume again? ---- */

static const struct volume_voter *find_voter(
	const struct volume_record *record, const struct uuid *replica)
{
	for (unsigned i = 0; i < record->voter_count; i++) {
		if (uuid_equal(&record->voters[i].replica, replica)) {
			return &record->voters[i];
		}
	}
	return NULL;
}

static const char *kind_name(enum voter_kind kind)
{
	return kind == VOTER_ARBITER ? "arbiter" : "data";
}

/* Every voter of `wanted` is recorded, and of the same kind. */
static int compare_voters(
	const struct volume_record *record, const struct volume_record *wanted, struct err *err)
{
	char text[UUID_TEXT_SIZE];

	for (unsigned i = 0; i < wanted->voter_count; i++) {
		const struct volume_voter *voter = &wanted->voters[i];
		const struct volume_voter *recorded = find_voter(record, &voter->replica);

		if (recorded == NULL) {
			return err_set(err, -EEXIST,
				"volume %s is there already, without replica %s", record->name,
				uuid_to_text(&voter->replica, text));
		}
		if (recorded->kind != voter->kind) {
			return err_set(err, -EEXIST,
				"volume %s is there already, with replica %s as %s, not %s",
				record->name, uuid_to_text(&voter->replica, text),
				kind_name(recorded->kind), kind_name(voter->kind));
		}
	}
	/* Both were checked: none is there twice. */
	if (record->voter_count != wanted->voter_count) {
		return err_set(err, -EEXIST, "volume %s is there already, with %u voters, not %u",
			record->name, record->voter_count, wanted->voter_count);
	}
	return 0;
}

int volume_record_compare(
	const struct volume_record *record, const struct volume_record *wanted, struct err *err)
{
	char uuid[UUID_TEXT_SIZE], wanted_uuid[UUID_TEXT_SIZE];

	if (!uuid_equal(&record->uuid, &wanted->uuid)) {
		return err_set(err, -EEXIST, "volume %s is there already, with uuid %s, not %s",
			record->name, uuid_to_text(&record->uuid, uuid),
			uuid_to_text(&wanted->uuid, wanted_uuid));
	}
	/* A size that has grown is for ResizeVolume, or for the first opening. */
	if (wanted->used || !record->used ? record->size_bytes > wanted->size_bytes
					  : record->size_bytes != wanted->size_bytes) {
		return err_set(err, -EEXIST,
			"volume %s is there already, with %" PRIu64 " bytes, not %" PRIu64,
			record->name, record->size_bytes, wanted->size_bytes);
	}
	if (!wanted->used && record->min_insync != wanted->min_insync) {
		return err_set(err, -EEXIST,
			"volume %s is there already, with min_insync %u, not %u", record->name,
			record->min_insync, wanted->min_insync);
	}
	return wanted->used ? 0 : compare_voters(record, wanted, err);
}

static bool place_is(const struct volume_voter *a, const struct volume_voter *b)
{
	return uuid_equal(&a->agent, &b->agent) && strcmp(a->address.host, b->address.host) == 0 &&
	       a->address.port == b->address.port && a->nsid == b->nsid && a->local == b->local;
}

bool volume_record_relocate(struct volume_record *record, const struct volume_record *wanted)
{
	bool changed = false;

	for (unsigned i = 0; i < record->voter_count; i++) {
		struct volume_voter *voter = &record->voters[i];
		const struct volume_voter *now = find_voter(wanted, &voter->replica);

		if (now == NULL) {
			continue;
		}
		changed = changed || !place_is(voter, now);
		*voter = *now;
	}
	return changed;
}

bool volume_record_follow(
	struct volume_record *record, const struct cfg *cfg, const struct uuid *adding)
{
	unsigned kept = 0;
	bool changed = !record->used;

	for (unsigned i = 0; i < record->voter_count; i++) {
		const struct volume_voter *voter = &record->voters[i];

		if (cfg_find(cfg, &voter->replica) >= 0 || uuid_equal(&voter->replica, adding)) {
			record->voters[kept++] = *voter;
		}
	}
	changed = changed || kept != record->voter_count || record->size_bytes != cfg->size_bytes ||
		  !record->lineage_known || record->lineage != cfg->lineage || record->recovered;
	record->lineage = cfg->lineage;
	record->lineage_known = true;
	record->recovered = false;
	record->size_bytes = cfg->size_bytes;
	record->voter_count = kept;
	record->used = true;
	return changed;
}

bool volume_record_take_lineage(struct volume_record *record, uint64_t lineage, uint32_t attach)
{
	if (record->lineage_known &&
		(record->lineage == lineage || (attach != 0 && attach <= record->attach))) {
		return false;
	}
	record->lineage = lineage;
	record->lineage_known = true;
	record->recovered = false;
	return true;
}

bool volume_record_learn(
	struct volume_record *record, const struct volume_voter *voter, bool *ret_full)
{
	*ret_full = false;
	for (unsigned i = 0; i < record->voter_count; i++) {
		struct volume_voter *known = &record->voters[i];

		if (uuid_equal(&known->replica, &voter->replica)) {
			bool changed = !place_is(known, voter) || known->kind != voter->kind;

			*known = *voter;
			return changed;
		}
	}
	if (record->voter_count == REPL_VOTERS_MAX) {
		*ret_full = true;
		return false;
	}
	record->voters[record->voter_count++] = *voter;
	return true;
}

/* ---- to JSON ---- */

static json_t *voter_to_json(const struct volume_voter *voter)
{
	char replica[UUID_TEXT_SIZE], agent[UUID_TEXT_SIZE], address[IO_ADDRESS_TEXT_SIZE];

	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:b}", "replica",
		uuid_to_text(&voter->replica, replica), "kind", kind_name(voter->kind), "agent",
		uuid_to_text(&voter->agent, agent), "address",
		io_address_to_text(&voter->address, address), "nsid", (json_int_t)voter->nsid,
		"local", (int)voter->local);
}

/* "" without one. */
static const char *capability_to_hex(
	const struct capability *capability, char text[HEX_TEXT_SIZE(CAPABILITY_ENCODED_SIZE)])
{
	uint8_t bytes[CAPABILITY_ENCODED_SIZE];

	if (capability->version == 0) {
		return "";
	}
	capability_encode(capability, bytes);
	return hex_to_text(bytes, sizeof(bytes), text);
}

static json_t *record_to_json(const struct volume_record *record)
{
	char uuid[UUID_TEXT_SIZE], capability[HEX_TEXT_SIZE(CAPABILITY_ENCODED_SIZE)];
	char lineage[24], waited[48];
	json_t *voters = json_array();

	for (unsigned i = 0; i < record->voter_count; i++) {
		if (json_array_append_new(voters, voter_to_json(&record->voters[i])) < 0) {
			json_decref(voters);
			return NULL;
		}
	}
	/* A string: JSON's integers are signed here. */
	(void)snprintf(lineage, sizeof(lineage), "%016" PRIx64, record->lineage);
	(void)snprintf(waited, sizeof(waited), "%" PRIu32 ".%" PRIu32 ".%016" PRIx64,
		record->waited.attach, record->waited.inc, record->waited.nonce);
	return json_pack(
		"{s:i, s:s, s:s, s:I, s:s, s:b, s:I, s:s, s:I, s:s, s:I, s:I, s:s, s:b, s:s, s:I, "
		"s:b, s:b, "
		"s:o}",
		"format", FORMAT, "name", record->name, "uuid", uuid_to_text(&record->uuid, uuid),
		"size_bytes", (json_int_t)record->size_bytes, "lineage", lineage, "lineage_known",
		(int)record->lineage_known, "attach", (json_int_t)record->attach, "capability",
		capability_to_hex(&record->capability, capability), "inc", (json_int_t)record->inc,
		"waited", waited, "min_insync", (json_int_t)record->min_insync, "no_quorum_s",
		(json_int_t)record->no_quorum_s, "boot_id", record->boot_id, "opened",
		(int)record->opened, "frontend", frontend_kind_name(record->frontend), "copies",
		(json_int_t)record->copies, "used", (int)record->used, "recovered",
		(int)record->recovered, "voters", voters);
}

static int record_path(
	const char *state_folder, const char *name, char path[PATH_MAX], struct err *err)
{
	int length = snprintf(path, PATH_MAX, "%s/volumes/%s.json", state_folder, name);

	return length < PATH_MAX - 8
		       ? 0
		       : err_set(err, -ENAMETOOLONG, "state folder %s: too long", state_folder);
}

int volume_record_save(
	const char *state_folder, const struct volume_record *record, struct err *err)
{
	char path[PATH_MAX];
	int result = record_path(state_folder, record->name, path, err);

	if (result < 0) {
		return result;
	}
	json_t *json = record_to_json(record);
	char *text = json == NULL ? NULL : json_dumps(json, JSON_INDENT(2));

	json_decref(json);
	if (text == NULL) {
		return err_set(err, -ENOMEM, "no memory for the state of volume %s", record->name);
	}
	result = file_replace(path, text, strlen(text), err);
	free(text);
	return result;
}

int volume_record_remove(const char *state_folder, const char *name, struct err *err)
{
	char path[PATH_MAX];
	int result = record_path(state_folder, name, path, err);

	return result < 0 ? result : file_remove(path, err);
}

/* ---- from JSON ---- */

static int parse_voter(json_t *json, struct volume_voter *voter)
{
	const char *replica, *kind, *agent, *address;
	json_int_t nsid;
	int local;

	if (json_unpack(json, "{s:s, s:s, s:s, s:s, s:I, s:b}", "replica", &replica, "kind", &kind,
		    "agent", &agent, "address", &address, "nsid", &nsid, "local", &local) < 0 ||
		uuid_parse(replica, &voter->replica) < 0 || uuid_parse(agent, &voter->agent) < 0 ||
		io_address_parse(address, 0, &voter->address, NULL) < 0 || nsid <= 0 ||
		nsid > UINT32_MAX) {
		return -EINVAL;
	}
	if (strcmp(kind, "data") != 0 && strcmp(kind, "arbiter") != 0) {
		return -EINVAL;
	}
	voter->kind = kind[0] == 'a' ? VOTER_ARBITER : VOTER_DATA;
	voter->nsid = (uint32_t)nsid;
	voter->local = local != 0;
	return 0;
}

static bool copy_text(char *to, size_t to_bytes, const char *from)
{
	size_t length = strlen(from);

	if (length >= to_bytes) {
		return false;
	}
	memcpy(to, from, length + 1);
	return true;
}

static int parse_capability(const char *text, struct capability *ret_capability)
{
	uint8_t bytes[CAPABILITY_ENCODED_SIZE];

	if (text[0] == '\0') {
		return 0;
	}
	return hex_parse(text, bytes, sizeof(bytes)) < 0 ? -EINVAL
							 : capability_decode(bytes, ret_capability);
}

static int parse_waited(const char *text, struct epoch *ret_epoch)
{
	int length = 0;

	return sscanf(text, "%" SCNu32 ".%" SCNu32 ".%" SCNx64 "%n", &ret_epoch->attach,
		       &ret_epoch->inc, &ret_epoch->nonce, &length) == 3 &&
			       text[length] == '\0'
		       ? 0
		       : -EINVAL;
}

static int parse_record(json_t *json, struct volume_record *record)
{
	const char *name, *uuid, *lineage, *boot_id, *frontend, *capability = "", *waited = "0.0.0";
	json_int_t size, attach, inc, min_insync, no_quorum_s = 0, copies = 0;
	int format, opened, used = 0, lineage_known = 0, recovered = 0;
	json_t *voters;
	char *end;

	/* Files of earlier versions lack `lineage_known`, `capability`, `waited`, `no_quorum_s`,
	 * `copies`, `used` and `recovered`. */
	if (json_unpack(json,
		    "{s:i, s:s, s:s, s:I, s:s, s?b, s:I, s?s, s:I, s?s, s:I, s?I, s:s, s:b, s:s, "
		    "s?I, s?b, s?b, "
		    "s:o}",
		    "format", &format, "name", &name, "uuid", &uuid, "size_bytes", &size, "lineage",
		    &lineage, "lineage_known", &lineage_known, "attach", &attach, "capability",
		    &capability, "inc", &inc, "waited", &waited, "min_insync", &min_insync,
		    "no_quorum_s", &no_quorum_s, "boot_id", &boot_id, "opened", &opened, "frontend",
		    &frontend, "copies", &copies, "used", &used, "recovered", &recovered, "voters",
		    &voters) < 0 ||
		format != FORMAT || !json_is_array(voters) ||
		json_array_size(voters) > REPL_VOTERS_MAX) {
		return -EINVAL;
	}
	record->lineage = strtoull(lineage, &end, 16);
	if (*end != '\0' || !copy_text(record->name, sizeof(record->name), name) ||
		!copy_text(record->boot_id, sizeof(record->boot_id), boot_id) ||
		uuid_parse(uuid, &record->uuid) < 0 ||
		parse_capability(capability, &record->capability) < 0 ||
		parse_waited(waited, &record->waited) < 0 || size < 0 || attach <= 0 ||
		attach > UINT32_MAX || inc < 0 || inc > UINT32_MAX || min_insync < 0 ||
		min_insync > REPL_VOTERS_MAX || no_quorum_s < 0 || no_quorum_s > NO_QUORUM_S_MAX ||
		copies < 0 || copies > REPL_VOTERS_MAX) {
		return -EINVAL;
	}
	record->size_bytes = (uint64_t)size;
	record->attach = (uint32_t)attach;
	record->inc = (uint32_t)inc;
	record->min_insync = (unsigned)min_insync;
	record->no_quorum_s = (uint32_t)no_quorum_s;
	record->opened = opened != 0;
	record->copies = (unsigned)copies;
	record->used = used != 0;
	record->lineage_known = lineage_known != 0;
	record->recovered = recovered != 0;
	record->voter_count = (unsigned)json_array_size(voters);
	for (unsigned i = 0; i < record->voter_count; i++) {
		if (parse_voter(json_array_get(voters, i), &record->voters[i]) < 0) {
			return -EINVAL;
		}
	}
	if (record->copies == 0) {
		record->copies = volume_record_data_voters(record);
	}
	record->frontend = FRONTEND_NONE;
	return frontend[0] == '\0' ? 0 : frontend_kind_parse(frontend, &record->frontend, NULL);
}

int volume_record_load(const char *path, struct volume_record *ret_record, struct err *err)
{
	struct volume_record record = {0};
	struct strbuf text;
	struct err why = {0};
	json_error_t error;

	strbuf_init(&text);
	int result = file_read(path, FILE_BYTES_MAX, &text, err);

	if (result < 0) {
		strbuf_done(&text);
		return result;
	}
	json_t *json = json_loadb(strbuf_text(&text), text.length, JSON_REJECT_DUPLICATES, &error);

	strbuf_done(&text);
	if (json == NULL) {
		return err_set(
			err, -EBADMSG, "%s:%d:%d: %s", path, error.line, error.column, error.text);
	}
	result = parse_record(json, &record);
	json_decref(json);
	if (result < 0) {
		return err_set(
			err, -EBADMSG, "%s: is no state of a volume that this version knows", path);
	}
	if (volume_record_check(&record, &why) < 0) {
		return err_set(err, -EBADMSG, "%s: %s", path, why.text);
	}
	*ret_record = record;
	return 0;
}

static void load_one(const char *folder, const char *file,
	void (*found)(void *ctx, const char *file, const struct volume_record *record,
		const struct err *err),
	void *ctx)
{
	char path[PATH_MAX];
	struct volume_record record;
	struct err why = {0};

	(void)snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX - 300, folder, file);
	int result = volume_record_load(path, &record, &why);

	/* Without its ".json". */
	size_t length = strlen(file) - 5;

	if (result == 0 &&
		(strlen(record.name) != length || strncmp(file, record.name, length) != 0)) {
		result =
			err_set(&why, -EBADMSG, "%s: is the state of volume %s", path, record.name);
	}
	found(ctx, file, result == 0 ? &record : NULL, &why);
}

int volume_records_load(const char *state_folder,
	void (*found)(void *ctx, const char *file, const struct volume_record *record,
		const struct err *err),
	void *ctx, struct err *err)
{
	char folder[PATH_MAX];
	const struct dirent *entry;

	(void)snprintf(folder, sizeof(folder), "%.*s/volumes", PATH_MAX - 16, state_folder);
	int result = folder_make(folder, 0700, err);

	if (result < 0) {
		return result;
	}
	DIR *directory = opendir(folder);

	if (directory == NULL) {
		return err_set(err, -errno, "open folder %s: %s", folder, err_describe(errno));
	}
	while ((entry = readdir(directory)) != NULL) {
		size_t length = strlen(entry->d_name);

		/* Also passes over what a crash within file_replace() left: *.json.tmp. */
		if (length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0) {
			load_one(folder, entry->d_name, found, ctx);
		}
	}
	(void)closedir(directory);
	return 0;
}
