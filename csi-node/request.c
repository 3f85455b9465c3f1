/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- fields ---- */

static int take_volume(const char *id, char ret_volume[OBJECTS_VOLUME_SIZE], struct err *err)
{
	int result = csi_need("volume_id", id, err);

	if (result == 0 && !csi_volume_id_is_possible(id)) {
		result = err_set(err, -ENOENT, "there is no volume \"%.64s\"", id);
	}
	if (result == 0) {
		(void)snprintf(ret_volume, OBJECTS_VOLUME_SIZE, "%s", id);
	}
	return result;
}

static bool has_parent_part(const char *path)
{
	for (const char *at = path; at != NULL; at = strchr(at, '/')) {
		at += *at == '/';
		if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0')) {
			return true;
		}
	}
	return false;
}

static int take_path(
	const char *field, const char *path, char ret_path[REQUEST_PATH_SIZE], struct err *err)
{
	int result = csi_need(field, path, err);

	if (result < 0) {
		return result;
	}
	if (strlen(path) >= REQUEST_PATH_SIZE) {
		return err_set(err, -EINVAL, "%s is longer than %d characters", field,
			REQUEST_PATH_SIZE - 1);
	}
	if (path[0] != '/' || strcmp(path, "/") == 0 || has_parent_part(path)) {
		return err_set(err, -EINVAL, "%s \"%.200s\" is no absolute path", field, path);
	}
	(void)snprintf(ret_path, REQUEST_PATH_SIZE, "%s", path);
	return 0;
}

static int take_use(const Csi__V1__VolumeCapability *message, struct node_use *use, struct err *err)
{
	struct csi_capability capability;
	size_t length = 0;
	int result = csi_capability_decode(message, &capability, err);

	if (result < 0) {
		return result;
	}
	use->is_block = capability.is_block;
	use->is_read_only = capability.is_read_only;
	use->is_single_pod = capability.is_single_pod;
	use->fs_type = capability.fs_type;
	for (size_t i = 0; i < capability.mount_flag_count; i++) {
		const char *flag = capability.mount_flags[i];

		if (flag[0] == '\0' || strpbrk(flag, " \t\n\\") != NULL) {
			return err_set(err, -EINVAL, "mount flag \"%.64s\" is none", flag);
		}
		if (length + strlen(flag) + 2 > sizeof(use->options)) {
			return err_set(err, -EINVAL,
				"the mount flags are longer than %d characters",
				REQUEST_OPTIONS_SIZE);
		}
		length += (size_t)snprintf(use->options + length, sizeof(use->options) - length,
			"%s%s", length > 0 ? "," : "", flag);
	}
	return 0;
}

/* ---- requests ---- */

int stage_wish_decode(const Csi__V1__NodeStageVolumeRequest *request, struct stage_wish *ret_wish,
	struct err *err)
{
	struct stage_wish *wish = ret_wish;

	memset(wish, 0, sizeof(*wish));
	int result = csi_need("volume_id", request->volume_id, err);

	result = result < 0 ? result
			    : take_path("staging_target_path", request->staging_target_path,
				      wish->staging_path, err);
	result = result < 0 ? result : take_use(request->volume_capability, &wish->use, err);
	result = result < 0 ? result : take_volume(request->volume_id, wish->volume, err);
	return result < 0 ? result
			  : csi_attach_number_decode(request->publish_context,
				    request->n_publish_context, &wish->attach_min, err);
}

int publish_wish_decode(const Csi__V1__NodePublishVolumeRequest *request,
	struct publish_wish *ret_wish, struct err *err)
{
	struct publish_wish *wish = ret_wish;

	memset(wish, 0, sizeof(*wish));
	int result = csi_need("volume_id", request->volume_id, err);

	result = result < 0
			 ? result
			 : take_path("target_path", request->target_path, wish->target_path, err);
	result = result < 0 ? result : take_use(request->volume_capability, &wish->use, err);
	if (result == 0 && request->staging_target_path[0] == '\0') {
		result = err_set(err, -EBUSY,
			"staging_target_path is missing: the volume must be staged first");
	}
	result = result < 0 ? result
			    : take_path("staging_target_path", request->staging_target_path,
				      wish->staging_path, err);
	wish->is_read_only = request->readonly || wish->use.is_read_only;
	return result < 0 ? result : take_volume(request->volume_id, wish->volume, err);
}

int unstage_wish_decode(const Csi__V1__NodeUnstageVolumeRequest *request,
	struct path_wish *ret_wish, struct err *err)
{
	memset(ret_wish, 0, sizeof(*ret_wish));
	int result = csi_need("volume_id", request->volume_id, err);

	result = result < 0 ? result
			    : take_path("staging_target_path", request->staging_target_path,
				      ret_wish->path, err);
	return result < 0 ? result : take_volume(request->volume_id, ret_wish->volume, err);
}

int unpublish_wish_decode(const Csi__V1__NodeUnpublishVolumeRequest *request,
	struct path_wish *ret_wish, struct err *err)
{
	memset(ret_wish, 0, sizeof(*ret_wish));
	int result = csi_need("volume_id", request->volume_id, err);

	result = result < 0 ? result
			    : take_path("target_path", request->target_path, ret_wish->path, err);
	return result < 0 ? result : take_volume(request->volume_id, ret_wish->volume, err);
}

int stats_wish_decode(const Csi__V1__NodeGetVolumeStatsRequest *request, struct path_wish *ret_wish,
	struct err *err)
{
	memset(ret_wish, 0, sizeof(*ret_wish));
	int result = csi_need("volume_id", request->volume_id, err);

	result = result < 0 ? result : csi_need("volume_path", request->volume_path, err);
	result = result < 0 ? result : take_volume(request->volume_id, ret_wish->volume, err);
	if (result == 0 &&
		take_path("volume_path", request->volume_path, ret_wish->path, err) < 0) {
		result = err_set(err, -ENOENT, "volume %s is not at \"%.200s\"", ret_wish->volume,
			request->volume_path);
	}
	return result;
}
