/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of the CSI Controller service, for tests:
 *
 *   csi-call SOCKET create NAME [size=BYTES] [limit=BYTES] [node=NODE] [mode=NUMBER] [KEY=VALUE
 * ...] csi-call SOCKET delete|get|validate ID [mode=NUMBER] csi-call SOCKET publish ID NODE
 * [readonly=1] csi-call SOCKET unpublish ID [NODE] csi-call SOCKET list [max=N] [token=TOKEN]
 *   csi-call SOCKET capacity [KEY=VALUE ...]
 *   csi-call SOCKET probe
 *
 * timeout=MS is for all of them.  Prints the answer; an error as its code and text, and exits
 * with 1.
 */
#include "tests/kube/calls.h"

#define PAIRS_MAX 16

/* ---- parts of requests ---- */

struct capability {
	Csi__V1__VolumeCapability capability, *list[1];
	Csi__V1__VolumeCapability__AccessMode mode;
	Csi__V1__VolumeCapability__MountVolume mount;
};

static void fill_capability(struct capability *to, const struct words *words)
{
	csi__v1__volume_capability__init(&to->capability);
	csi__v1__volume_capability__access_mode__init(&to->mode);
	csi__v1__volume_capability__mount_volume__init(&to->mount);
	to->mode.mode = (Csi__V1__VolumeCapability__AccessMode__Mode)number(words, "mode", 1);
	to->capability.access_mode = &to->mode;
	to->capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
	to->capability.mount = &to->mount;
	to->list[0] = &to->capability;
}

/* Options that are no StorageClass parameters. */
static bool is_own(const char *word)
{
	static const char *const own[] = {
		"size=", "limit=", "node=", "mode=", "readonly=", "max=", "token=", "timeout="};

	for (size_t i = 0; i < ARRAY_COUNT(own); i++) {
		if (strncmp(word, own[i], strlen(own[i])) == 0) {
			return true;
		}
	}
	return false;
}

static size_t take_parameters(const struct words *words, struct csi_pair pairs[PAIRS_MAX])
{
	size_t count = 0;

	for (int i = 0; i < words->count && count < PAIRS_MAX; i++) {
		char *equals = strchr(words->words[i], '=');

		if (equals != NULL && !is_own(words->words[i])) {
			pairs[count].key =
				strndup(words->words[i], (size_t)(equals - words->words[i]));
			pairs[count++].value = equals + 1;
		}
	}
	return count;
}

/* ---- calls ---- */

static int create(struct called *called, const struct words *words)
{
	Csi__V1__CreateVolumeRequest request = CSI__V1__CREATE_VOLUME_REQUEST__INIT;
	Csi__V1__CreateVolumeRequest__ParametersEntry entries[PAIRS_MAX], *pointers[PAIRS_MAX];
	Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;
	Csi__V1__TopologyRequirement requirement = CSI__V1__TOPOLOGY_REQUIREMENT__INIT;
	Csi__V1__Topology topology = CSI__V1__TOPOLOGY__INIT, *topologies[] = {&topology};
	Csi__V1__Topology__SegmentsEntry segment = CSI__V1__TOPOLOGY__SEGMENTS_ENTRY__INIT;
	Csi__V1__Topology__SegmentsEntry *segments[] = {&segment};
	struct csi_pair pairs[PAIRS_MAX];
	struct capability capability;
	char key[] = "csi.strake.io/node";

	fill_capability(&capability, words);
	request.name = plain(words, 0);
	request.volume_capabilities = capability.list;
	request.n_volume_capabilities = 1;
	range.required_bytes = number(words, "size", 0);
	range.limit_bytes = number(words, "limit", 0);
	request.capacity_range = &range;
	request.parameters = pointers;
	request.n_parameters = take_parameters(words, pairs);
	for (size_t i = 0; i < request.n_parameters; i++) {
		csi__v1__create_volume_request__parameters_entry__init(&entries[i]);
		entries[i].key = pairs[i].key;
		entries[i].value = pairs[i].value;
		pointers[i] = &entries[i];
	}
	if (option(words, "node") != NULL) {
		segment.key = key;
		segment.value = (char *)(uintptr_t)option(words, "node");
		topology.segments = segments;
		topology.n_segments = 1;
		requirement.preferred = topologies;
		requirement.n_preferred = 1;
		request.accessibility_requirements = &requirement;
	}
	int code = call(called, "/csi.v1.Controller/CreateVolume", &request.base,
		&csi__v1__create_volume_response__descriptor);

	if (code == 0) {
		const Csi__V1__CreateVolumeResponse *response = (const void *)called->answer;

		printf("%s %lld topologies=%zu\n", response->volume->volume_id,
			(long long)response->volume->capacity_bytes,
			response->volume->n_accessible_topology);
	}
	return code;
}

static int delete(struct called *called, const struct words *words)
{
	Csi__V1__DeleteVolumeRequest request = CSI__V1__DELETE_VOLUME_REQUEST__INIT;

	request.volume_id = plain(words, 0);
	return call(called, "/csi.v1.Controller/DeleteVolume", &request.base,
		&csi__v1__delete_volume_response__descriptor);
}

static int get(struct called *called, const struct words *words)
{
	Csi__V1__ControllerGetVolumeRequest request = CSI__V1__CONTROLLER_GET_VOLUME_REQUEST__INIT;

	request.volume_id = plain(words, 0);
	int code = call(called, "/csi.v1.Controller/ControllerGetVolume", &request.base,
		&csi__v1__controller_get_volume_response__descriptor);

	if (code == 0) {
		const Csi__V1__ControllerGetVolumeResponse *response = (const void *)called->answer;

		printf("%s %lld %s\n", response->volume->volume_id,
			(long long)response->volume->capacity_bytes,
			response->status->n_published_node_ids > 0
				? response->status->published_node_ids[0]
				: "-");
	}
	return code;
}

static int validate(struct called *called, const struct words *words)
{
	Csi__V1__ValidateVolumeCapabilitiesRequest request =
		CSI__V1__VALIDATE_VOLUME_CAPABILITIES_REQUEST__INIT;
	struct capability capability;

	fill_capability(&capability, words);
	request.volume_id = plain(words, 0);
	request.volume_capabilities = capability.list;
	request.n_volume_capabilities = 1;
	int code = call(called, "/csi.v1.Controller/ValidateVolumeCapabilities", &request.base,
		&csi__v1__validate_volume_capabilities_response__descriptor);

	if (code == 0) {
		const Csi__V1__ValidateVolumeCapabilitiesResponse *response =
			(const void *)called->answer;

		printf("%s%s\n",
			response->confirmed != NULL ? "confirmed" : "refused: ", response->message);
	}
	return code;
}

static int publish(struct called *called, const struct words *words)
{
	Csi__V1__ControllerPublishVolumeRequest request =
		CSI__V1__CONTROLLER_PUBLISH_VOLUME_REQUEST__INIT;
	struct capability capability;

	fill_capability(&capability, words);
	request.volume_id = plain(words, 0);
	request.node_id = plain(words, 1);
	request.volume_capability = &capability.capability;
	request.readonly = number(words, "readonly", 0) != 0;
	int code = call(called, "/csi.v1.Controller/ControllerPublishVolume", &request.base,
		&csi__v1__controller_publish_volume_response__descriptor);

	if (code == 0) {
		const Csi__V1__ControllerPublishVolumeResponse *response =
			(const void *)called->answer;

		printf("%s\n", csi_pair_find(response->publish_context, response->n_publish_context,
				       CSI_ATTACH_KEY));
	}
	return code;
}

static int unpublish(struct called *called, const struct words *words)
{
	Csi__V1__ControllerUnpublishVolumeRequest request =
		CSI__V1__CONTROLLER_UNPUBLISH_VOLUME_REQUEST__INIT;

	request.volume_id = plain(words, 0);
	request.node_id = plain(words, 1);
	return call(called, "/csi.v1.Controller/ControllerUnpublishVolume", &request.base,
		&csi__v1__controller_unpublish_volume_response__descriptor);
}

static int list(struct called *called, const struct words *words)
{
	Csi__V1__ListVolumesRequest request = CSI__V1__LIST_VOLUMES_REQUEST__INIT;

	request.max_entries = (int32_t)number(words, "max", 0);
	if (option(words, "token") != NULL) {
		request.starting_token = (char *)(uintptr_t)option(words, "token");
	}
	int code = call(called, "/csi.v1.Controller/ListVolumes", &request.base,
		&csi__v1__list_volumes_response__descriptor);

	if (code == 0) {
		const Csi__V1__ListVolumesResponse *response = (const void *)called->answer;

		for (size_t i = 0; i < response->n_entries; i++) {
			printf("%s %s\n", response->entries[i]->volume->volume_id,
				response->entries[i]->status->n_published_node_ids > 0
					? response->entries[i]->status->published_node_ids[0]
					: "-");
		}
		if (response->next_token[0] != '\0') {
			printf("next %s\n", response->next_token);
		}
	}
	return code;
}

static int capacity(struct called *called, const struct words *words)
{
	Csi__V1__GetCapacityRequest request = CSI__V1__GET_CAPACITY_REQUEST__INIT;
	Csi__V1__GetCapacityRequest__ParametersEntry entries[PAIRS_MAX], *pointers[PAIRS_MAX];
	struct csi_pair pairs[PAIRS_MAX];

	request.parameters = pointers;
	request.n_parameters = take_parameters(words, pairs);
	for (size_t i = 0; i < request.n_parameters; i++) {
		csi__v1__get_capacity_request__parameters_entry__init(&entries[i]);
		entries[i].key = pairs[i].key;
		entries[i].value = pairs[i].value;
		pointers[i] = &entries[i];
	}
	int code = call(called, "/csi.v1.Controller/GetCapacity", &request.base,
		&csi__v1__get_capacity_response__descriptor);

	if (code == 0) {
		printf("%lld\n", (long long)((const Csi__V1__GetCapacityResponse *)called->answer)
					 ->available_capacity);
	}
	return code;
}

static int probe(struct called *called, const struct words *words)
{
	Csi__V1__ProbeRequest request = CSI__V1__PROBE_REQUEST__INIT;
	int code = call(called, "/csi.v1.Identity/Probe", &request.base,
		&csi__v1__probe_response__descriptor);

	(void)words;
	if (code == 0) {
		const Csi__V1__ProbeResponse *response = (const void *)called->answer;

		printf("%s\n", response->ready->value ? "ready" : "not ready");
	}
	return code;
}

int main(int argc, char **argv)
{
	static const struct command commands[] = {{"create", create}, {"delete", delete},
		{"get", get}, {"validate", validate}, {"publish", publish},
		{"unpublish", unpublish}, {"list", list}, {"capacity", capacity}, {"probe", probe}};

	return run_command(argc, argv, commands, ARRAY_COUNT(commands));
}
