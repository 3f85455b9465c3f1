/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of requests that controller and node services both read. */
#include "base/bytes.h"
#include "csi/csi.h"
#include "objects/objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DNS_LABEL_MAX     63
#define DNS_SUBDOMAIN_MAX 253

/* ---- maps ---- */

_Static_assert(offsetof(struct csi_pair, key) ==
			       offsetof(Csi__V1__CreateVolumeRequest__ParametersEntry, key) &&
		       offsetof(struct csi_pair, value) ==
			       offsetof(Csi__V1__CreateVolumeRequest__ParametersEntry, value),
	"the generated entries of maps look like csi_pair");

const struct csi_pair *csi_pair_at(const void *pairs, size_t index)
{
	const struct csi_pair *const *array = pairs;

	return array[index];
}

const char *csi_pair_find(const void *pairs, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++) {
		const struct csi_pair *pair = csi_pair_at(pairs, i);

		if (strcmp(pair->key, key) == 0) {
			return pair->value;
		}
	}
	return NULL;
}

/* ---- fields ---- */

int csi_need(const char *field, const char *text, struct err *err)
{
	return text == NULL || text[0] == '\0' ? err_set(err, -EINVAL, "%s is missing", field) : 0;
}

/* Lower case letters, digits, '-' and, in a subdomain, '.', which begin and end nothing. */
static bool is_dns_name(const char *text, size_t length_max, bool with_dots)
{
	size_t length = strlen(text);
	size_t good = strspn(text, with_dots ? "abcdefghijklmnopqrstuvwxyz0123456789-."
					     : "abcdefghijklmnopqrstuvwxyz0123456789-");

	return length > 0 && length <= length_max && good == length && text[0] != '-' &&
	       text[0] != '.' && text[length - 1] != '-' && text[length - 1] != '.';
}

bool csi_volume_id_is_possible(const char *volume_id)
{
	return is_dns_name(volume_id, DNS_LABEL_MAX, false);
}

bool csi_node_id_is_possible(const char *node_id)
{
	return is_dns_name(node_id, DNS_SUBDOMAIN_MAX, true);
}

/* ---- capabilities ---- */

/* What a volume can be used as; the first is the default. */
static const char *const fs_types[] = {"ext4", "xfs"};

static int decode_mode(Csi__V1__VolumeCapability__AccessMode__Mode mode, struct csi_capability *to,
	struct err *err)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
		&csi__v1__volume_capability__access_mode__mode__descriptor, (int)mode);

	switch (mode) {
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_READER_ONLY:
		to->is_read_only = true;
		return 0;
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER:
		to->is_single_pod = true;
		return 0;
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER:
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_MULTI_WRITER:
		return 0;
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__UNKNOWN:
		return err_set(err, -EINVAL, "the volume capability's access mode is missing");
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY:
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_SINGLE_WRITER:
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER:
	case _CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE_IS_INT_SIZE:
		break;
	}
	return err_set(err, -EDOM,
		"access mode %s: a volume is used on one node at a time; ask for ReadWriteOnce or "
		"ReadWriteOncePod",
		value != NULL ? value->name : "unknown to this version");
}

static int decode_fs_type(const char *text, struct csi_capability *to, struct err *err)
{
	if (text == NULL || text[0] == '\0') {
		to->fs_type = fs_types[0];
		return 0;
	}
	for (size_t i = 0; i < ARRAY_COUNT(fs_types); i++) {
		if (strcmp(text, fs_types[i]) == 0) {
			to->fs_type = fs_types[i];
			return 0;
		}
	}
	return err_set(err, -EDOM,
		"file system \"%.32s\" is not offered: ext4 (default) and xfs are", text);
}

int csi_capability_decode(const Csi__V1__VolumeCapability *capability,
	struct csi_capability *ret_capability, struct err *err)
{
	struct csi_capability *to = ret_capability;
	int result;

	memset(to, 0, sizeof(*to));
	to->fs_type = fs_types[0];
	if (capability == NULL) {
		return err_set(err, -EINVAL, "the volume capability is missing");
	}
	if (capability->access_mode == NULL) {
		return err_set(err, -EINVAL, "the volume capability's access mode is missing");
	}
	result = decode_mode(capability->access_mode->mode, to, err);
	if (result < 0) {
		return result;
	}
	switch (capability->access_type_case) {
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK:
		to->is_block = true;
		return 0;
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT:
		to->mount_flags = capability->mount->mount_flags;
		to->mount_flag_count = capability->mount->n_mount_flags;
		return decode_fs_type(capability->mount->fs_type, to, err);
	case CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE__NOT_SET:
	case _CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE__CASE_IS_INT_SIZE:
		break;
	}
	return err_set(err, -EINVAL, "the volume capability has no access type: block or mount");
}

int csi_filesystem_fits(const char *fs_type, uint64_t size_bytes, struct err *err)
{
	if (strcmp(fs_type, "xfs") == 0 && size_bytes < CSI_XFS_BYTES_MIN) {
		return err_set(err, -EDOM,
			"a volume of %llu MiB is too small for xfs, which needs at least 300 MiB: "
			"ask for a larger one, or for ext4",
			(unsigned long long)(size_bytes >> 20));
	}
	return 0;
}

int csi_capabilities_check(Csi__V1__VolumeCapability *const *capabilities, size_t count,
	uint64_t size_bytes, struct err *err)
{
	struct csi_capability capability;

	if (count == 0) {
		return err_set(err, -EINVAL, "volume_capabilities is missing");
	}
	for (size_t i = 0; i < count; i++) {
		int result = csi_capability_decode(capabilities[i], &capability, err);

		if (result == 0 && size_bytes > 0 && !capability.is_block) {
			result = csi_filesystem_fits(capability.fs_type, size_bytes, err);
		}
		if (result < 0) {
			return result;
		}
	}
	return 0;
}

/* ---- attach numbers ---- */

int csi_attach_number_decode(
	const void *publish_context, size_t count, uint32_t *ret_number, struct err *err)
{
	const char *text = csi_pair_find(publish_context, count, CSI_ATTACH_KEY);
	unsigned long long number;

	if (text == NULL) {
		return err_set(err, -EINVAL, "publish_context has no " CSI_ATTACH_KEY);
	}
	if (text[0] == '\0' || strlen(text) >= CSI_ATTACH_TEXT_SIZE ||
		strspn(text, "0123456789") != strlen(text)) {
		return err_set(err, -EINVAL,
			"publish_context: " CSI_ATTACH_KEY " \"%.32s\" is no number", text);
	}
	number = strtoull(text, NULL, 10);
	if (number == 0 || number > UINT32_MAX) {
		return err_set(err, -EINVAL,
			"publish_context: " CSI_ATTACH_KEY " %s is not between 1 and %u", text,
			UINT32_MAX);
	}
	*ret_number = (uint32_t)number;
	return 0;
}
