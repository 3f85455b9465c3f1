/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds, names of states, and names of objects. */
#include "objects/objects.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHA256_BYTES    32
#define NAME_HASH_BYTES 10 /* of v-..., as 20 hexadecimal digits */
#define SUFFIX_LENGTH   5
#define DNS_LABEL_MAX   63

const struct kube_kind objects_pools = {
	.group = OBJECTS_GROUP, .version = OBJECTS_VERSION, .plural = "pools", .kind = "Pool"};
const struct kube_kind objects_volumes = {
	.group = OBJECTS_GROUP, .version = OBJECTS_VERSION, .plural = "volumes", .kind = "Volume"};
const struct kube_kind objects_replicas = {.group = OBJECTS_GROUP,
	.version = OBJECTS_VERSION,
	.plural = "replicas",
	.kind = "Replica"};
const struct kube_kind objects_snapshots = {.group = OBJECTS_GROUP,
	.version = OBJECTS_VERSION,
	.plural = "snapshots",
	.kind = "Snapshot"};

const char *pool_state_name(enum pool_state state)
{
	switch (state) {
	case POOL_CREATING:
		return "Creating";
	case POOL_ONLINE:
		return "Online";
	case POOL_FAULTED:
		return "Faulted";
	case POOL_UNKNOWN:
		return "Unknown";
	case POOL_RELEASED:
		return "Released";
	}
	return "?";
}

const char *replica_state_name(enum replica_state state)
{
	switch (state) {
	case REPLICA_CREATING:
		return "Creating";
	case REPLICA_ONLINE:
		return "Online";
	case REPLICA_OUT_OF_SYNC:
		return "OutOfSync";
	case REPLICA_REBUILDING:
		return "Rebuilding";
	case REPLICA_FAULTED:
		return "Faulted";
	case REPLICA_ORPHANED:
		return "Orphaned";
	}
	return "?";
}

const char *volume_state_name(enum volume_state state)
{
	switch (state) {
	case VOLUME_CREATING:
		return "Creating";
	case VOLUME_ONLINE:
		return "Online";
	case VOLUME_DEGRADED:
		return "Degraded";
	case VOLUME_STALLED:
		return "Stalled";
	case VOLUME_FAULTED:
		return "Faulted";
	case VOLUME_DELETING:
		return "Deleting";
	}
	return "?";
}

const char *snapshot_state_name(enum snapshot_object_state state)
{
	switch (state) {
	case SNAPSHOT_PENDING:
		return "Pending";
	case SNAPSHOT_CREATING:
		return "Creating";
	case SNAPSHOT_READY:
		return "Ready";
	case SNAPSHOT_FAILED:
		return "Failed";
	}
	return "?";
}

json_t *object_new(const struct kube_kind *kind, const char *name)
{
	return json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", OBJECTS_GROUP "/" OBJECTS_VERSION,
		"kind", kind->kind, "metadata", "name", name);
}

/* ---- names ---- */

/* RFC 1123: lower case letters, digits and '-', which is neither first nor last. */
static bool is_dns_label(const char *text)
{
	size_t length = strlen(text);

	if (length == 0 || length > DNS_LABEL_MAX || text[0] == '-' || text[length - 1] == '-') {
		return false;
	}
	for (size_t i = 0; i < length; i++) {
		if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
			text[i] != '-') {
			return false;
		}
	}
	return true;
}

static void sha256(const void *bytes, size_t length, uint8_t ret_digest[SHA256_BYTES])
{
	unsigned digest_length = 0;

	if (EVP_Digest(bytes, length, ret_digest, &digest_length, EVP_sha256(), NULL) != 1) {
		/* Only without memory; a wrong name is worse than none. */
		abort();
	}
}

void volume_name_from_csi(const char *csi_name, char ret_name[OBJECTS_VOLUME_SIZE])
{
	uint8_t digest[SHA256_BYTES];

	if (is_dns_label(csi_name)) {
		(void)snprintf(ret_name, OBJECTS_VOLUME_SIZE, "%s", csi_name);
		return;
	}
	sha256(csi_name, strlen(csi_name), digest);
	(void)snprintf(ret_name, OBJECTS_VOLUME_SIZE, "v-");
	for (size_t i = 0; i < NAME_HASH_BYTES; i++) {
		(void)snprintf(ret_name + 2 + 2 * i, 3, "%02x", digest[i]);
	}
}

char *replica_seal_purpose(const struct uuid *replica, char text[OBJECTS_SEAL_PURPOSE_SIZE])
{
	char id[UUID_TEXT_SIZE];

	(void)snprintf(
		text, OBJECTS_SEAL_PURPOSE_SIZE, "strake replica %s", uuid_to_text(replica, id));
	return text;
}

void replica_name_make(const char *volume, const struct uuid *volume_uuid, uint32_t slot,
	char ret_name[OBJECTS_NAME_SIZE])
{
	/* As the names that Kubernetes makes: no vowels, nothing that looks like another. */
	static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";
	char text[UUID_TEXT_SIZE];
	char source[UUID_TEXT_SIZE + 16];
	char suffix[SUFFIX_LENGTH + 1] = {0};
	uint8_t digest[SHA256_BYTES];

	(void)snprintf(source, sizeof(source), "%s/%u", uuid_to_text(volume_uuid, text), slot);
	sha256(source, strlen(source), digest);
	for (unsigned i = 0; i < SUFFIX_LENGTH; i++) {
		suffix[i] = letters[digest[i] % (sizeof(letters) - 1)];
	}
	(void)snprintf(ret_name, OBJECTS_NAME_SIZE, "%s-%s", volume, suffix);
}
