/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of the CSI Node service, or of the kubelet's registration service, for tests:
 *
 *   node-call SOCKET stage ID PATH attach=N [USE]
 *   node-call SOCKET publish ID STAGING TARGET [readonly=1] [USE]
 *   node-call SOCKET unstage|unpublish|stats ID PATH
 *   node-call SOCKET info|capabilities|expand
 *   node-call SOCKET registered [error=TEXT]     GetInfo and NotifyRegistrationStatus
 *
 * USE: block=1 fs=TYPE mode=NUMBER flag=MOUNTFLAG; timeout=MS is for all of them.  Prints the
 * answer; an error as its code and text, and exits with 1.
 */
#include "api/pluginregistration.pb-c.h"
#include "tests/kube/calls.h"

/* ---- calls ---- */

struct use {
	Csi__V1__VolumeCapability capability;
	Csi__V1__VolumeCapability__AccessMode mode;
	Csi__V1__VolumeCapability__MountVolume mount;
	Csi__V1__VolumeCapability__BlockVolume block;
	char *flags[1];
};

static Csi__V1__VolumeCapability *take_use(struct use *to, const struct words *words)
{
	csi__v1__volume_capability__init(&to->capability);
	csi__v1__volume_capability__access_mode__init(&to->mode);
	csi__v1__volume_capability__mount_volume__init(&to->mount);
	csi__v1__volume_capability__block_volume__init(&to->block);
	to->mode.mode = (Csi__V1__VolumeCapability__AccessMode__Mode)number(words, "mode", 1);
	to->capability.access_mode = &to->mode;
	if (number(words, "block", 0) != 0) {
		to->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
		to->capability.block = &to->block;
		return &to->capability;
	}
	to->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
	to->capability.mount = &to->mount;
	if (option(words, "fs") != NULL) {
		to->mount.fs_type = option(words, "fs");
	}
	if (option(words, "flag") != NULL) {
		to->flags[0] = option(words, "flag");
		to->mount.mount_flags = to->flags;
		to->mount.n_mount_flags = 1;
	}
	return &to->capability;
}

static int stage(struct called *called, const struct words *words)
{
	Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;
	Csi__V1__NodeStageVolumeRequest__PublishContextEntry entry =
		CSI__V1__NODE_STAGE_VOLUME_REQUEST__PUBLISH_CONTEXT_ENTRY__INIT;
	Csi__V1__NodeStageVolumeRequest__PublishContextEntry *entries[] = {&entry};
	char key[] = CSI_ATTACH_KEY;
	struct use use;

	request.volume_id = plain(words, 0);
	request.staging_target_path = plain(words, 1);
	request.volume_capability = take_use(&use, words);
	if (option(words, "attach") != NULL) {
		entry.key = key;
		entry.value = option(words, "attach");
		request.publish_context = entries;
		request.n_publish_context = 1;
	}
	return call(called, "/csi.v1.Node/NodeStageVolume", &request.base,
		&csi__v1__node_stage_volume_response__descriptor);
}

static int publish(struct called *called, const struct words *words)
{
	Csi__V1__NodePublishVolumeRequest request = CSI__V1__NODE_PUBLISH_VOLUME_REQUEST__INIT;
	struct use use;

	request.volume_id = plain(words, 0);
	request.staging_target_path = plain(words, 1);
	request.target_path = plain(words, 2);
	request.readonly = number(words, "readonly", 0) != 0;
	request.volume_capability = take_use(&use, words);
	return call(called, "/csi.v1.Node/NodePublishVolume", &request.base,
		&csi__v1__node_publish_volume_response__descriptor);
}

static int unstage(struct called *called, const struct words *words)
{
	Csi__V1__NodeUnstageVolumeRequest request = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;

	request.volume_id = plain(words, 0);
	request.staging_target_path = plain(words, 1);
	return call(called, "/csi.v1.Node/NodeUnstageVolume", &request.base,
		&csi__v1__node_unstage_volume_response__descriptor);
}

static int unpublish(struct called *called, const struct words *words)
{
	Csi__V1__NodeUnpublishVolumeRequest request = CSI__V1__NODE_UNPUBLISH_VOLUME_REQUEST__INIT;

	request.volume_id = plain(words, 0);
	request.target_path = plain(words, 1);
	return call(called, "/csi.v1.Node/NodeUnpublishVolume", &request.base,
		&csi__v1__node_unpublish_volume_response__descriptor);
}

static int stats(struct called *called, const struct words *words)
{
	Csi__V1__NodeGetVolumeStatsRequest request = CSI__V1__NODE_GET_VOLUME_STATS_REQUEST__INIT;

	request.volume_id = plain(words, 0);
	request.volume_path = plain(words, 1);
	int code = call(called, "/csi.v1.Node/NodeGetVolumeStats", &request.base,
		&csi__v1__node_get_volume_stats_response__descriptor);

	if (code == 0) {
		const Csi__V1__NodeGetVolumeStatsResponse *response = (const void *)called->answer;

		for (size_t i = 0; i < response->n_usage; i++) {
			const Csi__V1__VolumeUsage *usage = response->usage[i];

			printf("%s total=%lld used=%lld available=%lld\n",
				usage->unit == CSI__V1__VOLUME_USAGE__UNIT__BYTES ? "bytes"
										  : "inodes",
				(long long)usage->total, (long long)usage->used,
				(long long)usage->available);
		}
	}
	return code;
}

static int info(struct called *called, const struct words *words)
{
	Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;

	(void)words;
	int code = call(called, "/csi.v1.Node/NodeGetInfo", &request.base,
		&csi__v1__node_get_info_response__descriptor);

	if (code == 0) {
		const Csi__V1__NodeGetInfoResponse *response = (const void *)called->answer;

		printf("%s max=%lld %s=%s\n", response->node_id,
			(long long)response->max_volumes_per_node,
			response->accessible_topology->segments[0]->key,
			response->accessible_topology->segments[0]->value);
	}
	return code;
}

static int capabilities(struct called *called, const struct words *words)
{
	Csi__V1__NodeGetCapabilitiesRequest request = CSI__V1__NODE_GET_CAPABILITIES_REQUEST__INIT;

	(void)words;
	int code = call(called, "/csi.v1.Node/NodeGetCapabilities", &request.base,
		&csi__v1__node_get_capabilities_response__descriptor);

	if (code == 0) {
		const Csi__V1__NodeGetCapabilitiesResponse *response = (const void *)called->answer;

		for (size_t i = 0; i < response->n_capabilities; i++) {
			printf("%d\n", (int)response->capabilities[i]->rpc->type);
		}
	}
	return code;
}

static int expand(struct called *called, const struct words *words)
{
	Csi__V1__NodeExpandVolumeRequest request = CSI__V1__NODE_EXPAND_VOLUME_REQUEST__INIT;

	(void)words;
	return call(called, "/csi.v1.Node/NodeExpandVolume", &request.base,
		&csi__v1__node_expand_volume_response__descriptor);
}

/* As a kubelet does. */
static int registered(struct called *called, const struct words *words)
{
	Pluginregistration__InfoRequest request = PLUGINREGISTRATION__INFO_REQUEST__INIT;
	Pluginregistration__RegistrationStatus status =
		PLUGINREGISTRATION__REGISTRATION_STATUS__INIT;
	int code = call(called, "/pluginregistration.Registration/GetInfo", &request.base,
		&pluginregistration__plugin_info__descriptor);

	if (code == 0) {
		const Pluginregistration__PluginInfo *plugin = (const void *)called->answer;

		printf("%s %s %s %s\n", plugin->type, plugin->name, plugin->endpoint,
			plugin->n_supported_versions == 1 ? plugin->supported_versions[0] : "?");
		status.plugin_registered = option(words, "error") == NULL;
		if (option(words, "error") != NULL) {
			status.error = option(words, "error");
		}
		code = call(called, "/pluginregistration.Registration/NotifyRegistrationStatus",
			&status.base,
			&pluginregistration__registration_status_response__descriptor);
	}
	return code;
}

int main(int argc, char **argv)
{
	static const struct command commands[] = {{"stage", stage}, {"unstage", unstage},
		{"publish", publish}, {"unpublish", unpublish}, {"stats", stats}, {"info", info},
		{"capabilities", capabilities}, {"expand", expand}, {"registered", registered}};

	return run_command(argc, argv, commands, ARRAY_COUNT(commands));
}
