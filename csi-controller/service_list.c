/* SPDX-License-Identifier: Apache-2.0 */
/* What is answered from the caches: ListVolumes, ControllerGetVolume, GetCapacity,
 * ValidateVolumeCapabilities. */
#include "base/bytes.h"
#include "csi-controller/place.h"
#include "csi-controller/request.h"
#include "csi-controller/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- ListVolumes ---- */

/* One entry and what it points to. */
struct entry {
	Csi__V1__ListVolumesResponse__Entry message;
	Csi__V1__Volume volume;
	Csi__V1__ListVolumesResponse__VolumeStatus status;
	char *nodes[1];
};

static char *unconst(const char *text)
{
	/* The generated structs have no const; a message that is sent is not changed. */
	return (char *)(uintptr_t)text;
}

static void fill_volume(const struct volume_object *object, Csi__V1__Volume *volume)
{
	csi__v1__volume__init(volume);
	volume->volume_id = unconst(object->meta.name);
	volume->capacity_bytes = (int64_t)object->size_bytes;
}

static void fill_entry(const struct volume_object *object, struct entry *entry)
{
	csi__v1__list_volumes_response__entry__init(&entry->message);
	csi__v1__list_volumes_response__volume_status__init(&entry->status);
	fill_volume(object, &entry->volume);
	entry->message.volume = &entry->volume;
	entry->message.status = &entry->status;
	if (object->attached_node[0] != '\0') {
		entry->nodes[0] = unconst(object->attached_node);
		entry->status.published_node_ids = entry->nodes;
		entry->status.n_published_node_ids = 1;
	}
}

static int by_name(const void *a, const void *b)
{
	const struct world_volume *const *left = a, *const *right = b;

	return strcmp((*left)->entry.key, (*right)->entry.key);
}

/* Those after a name, in order. */
static size_t list_after(
	const struct world *world, const char *name, const struct world_volume ***ret_volumes)
{
	size_t count = 0;

	*ret_volumes = must_alloc((world->volumes.count + 1) * sizeof(**ret_volumes));
	for (struct table_entry *entry = table_next(&world->volumes, NULL); entry != NULL;
		entry = table_next(&world->volumes, entry)) {
		const struct world_volume *volume = container_of(entry, struct world_volume, entry);

		if (volume->is_valid && strcmp(entry->key, name) > 0) {
			(*ret_volumes)[count++] = volume;
		}
	}
	qsort(*ret_volumes, count, sizeof(**ret_volumes), by_name);
	return count;
}

void service_list_volumes(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__ListVolumesRequest *request = (const void *)message;
	const struct controller *controller = grpc_call_ctx(call);
	Csi__V1__ListVolumesResponse response = CSI__V1__LIST_VOLUMES_RESPONSE__INIT;
	const struct world_volume **volumes;
	char after[OBJECTS_VOLUME_SIZE], token[LIST_TOKEN_SIZE];
	struct err err = {0};

	if (!service_may(call)) {
		return;
	}
	if (request->max_entries < 0) {
		grpc_call_failf(call, -EINVAL, "max_entries is negative");
		return;
	}
	if (list_token_decode(request->starting_token, after, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	size_t count = list_after(&controller->world, after, &volumes);
	size_t limit = request->max_entries == 0 ? count : (size_t)request->max_entries;
	size_t shown = count < limit ? count : limit;
	struct entry *entries = must_alloc((shown + 1) * sizeof(*entries));

	response.entries = must_alloc((shown + 1) * sizeof(*response.entries));
	for (size_t i = 0; i < shown; i++) {
		fill_entry(&volumes[i]->object, &entries[i]);
		response.entries[i] = &entries[i].message;
	}
	response.n_entries = shown;
	if (shown < count) {
		list_token_make(volumes[shown - 1]->entry.key, token);
		response.next_token = token;
	}
	grpc_call_reply(call, &response.base);
	free(response.entries);
	free(entries);
	free(volumes);
}

/* ---- ControllerGetVolume ---- */

/* NULL: the call was answered. */
static const struct world_volume *find_volume(struct grpc_call *call, const char *volume_id)
{
	const struct controller *controller = grpc_call_ctx(call);
	const struct world_volume *volume = world_volume(&controller->world, volume_id);

	if (volume == NULL || !volume->is_valid) {
		grpc_call_failf(call, -ENOENT, "there is no volume \"%.64s\"", volume_id);
		return NULL;
	}
	return volume;
}

void service_get_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__ControllerGetVolumeRequest *request = (const void *)message;
	Csi__V1__ControllerGetVolumeResponse response =
		CSI__V1__CONTROLLER_GET_VOLUME_RESPONSE__INIT;
	Csi__V1__ControllerGetVolumeResponse__VolumeStatus status =
		CSI__V1__CONTROLLER_GET_VOLUME_RESPONSE__VOLUME_STATUS__INIT;
	Csi__V1__Volume answer;
	const struct world_volume *volume;
	char *nodes[1];
	struct err err = {0};

	if (!service_may(call)) {
		return;
	}
	if (csi_need("volume_id", request->volume_id, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	volume = find_volume(call, request->volume_id);
	if (volume == NULL) {
		return;
	}
	fill_volume(&volume->object, &answer);
	if (volume->object.attached_node[0] != '\0') {
		nodes[0] = unconst(volume->object.attached_node);
		status.published_node_ids = nodes;
		status.n_published_node_ids = 1;
	}
	response.volume = &answer;
	response.status = &status;
	grpc_call_reply(call, &response.base);
}

/* ---- GetCapacity ---- */

void service_get_capacity(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__GetCapacityRequest *request = (const void *)message;
	const struct controller *controller = grpc_call_ctx(call);
	Csi__V1__GetCapacityResponse response = CSI__V1__GET_CAPACITY_RESPONSE__INIT;
	Csi__V1__Int64Value largest = CSI__V1__INT64_VALUE__INIT;
	Csi__V1__Int64Value smallest = CSI__V1__INT64_VALUE__INIT;
	struct class_wish class;
	struct err err = {0};
	int result = 0;

	if (!service_may(call)) {
		return;
	}
	if (class_wish_decode(request->parameters, request->n_parameters, &class, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	if (request->n_volume_capabilities > 0) {
		result = csi_capabilities_check(
			request->volume_capabilities, request->n_volume_capabilities, 0, &err);
	}
	if (result == -EINVAL) {
		grpc_call_fail(call, &err);
		class_wish_done(&class);
		return;
	}
	/* The same for every topology: a volume opens on every node, also on those without pools.
	 * Of what is not offered there is no room. */
	struct place_request place_request = {.world = &controller->world,
		.preferred_node = "",
		.pool_selector = class.pool_selector,
		.count = class.replicas};

	response.available_capacity = result < 0 ? 0 : (int64_t)place_largest(&place_request);
	largest.value = response.available_capacity;
	smallest.value = OBJECTS_SIZE_MIN;
	response.maximum_volume_size = &largest;
	response.minimum_volume_size = &smallest;
	grpc_call_reply(call, &response.base);
	class_wish_done(&class);
}

/* ---- ValidateVolumeCapabilities ---- */

/* Map entries of a request for the answer, in which they are of another type. */
#define COPY_MAP(to, to_count, from, from_count, type, init)                                       \
	do {                                                                                       \
		(to) = must_alloc(((from_count) + 1) * sizeof(*(to)));                             \
		type *copies = must_alloc(((from_count) + 1) * sizeof(*copies));                   \
                                                                                                   \
		for (size_t i = 0; i < (from_count); i++) {                                        \
			init(&copies[i]);                                                          \
			copies[i].key = (from)[i]->key;                                            \
			copies[i].value = (from)[i]->value;                                        \
			(to)[i] = &copies[i];                                                      \
		}                                                                                  \
		(to)[from_count] = copies;                                                         \
		(to_count) = (from_count);                                                         \
	} while (0)

static void confirm(
	struct grpc_call *call, const Csi__V1__ValidateVolumeCapabilitiesRequest *request)
{
	Csi__V1__ValidateVolumeCapabilitiesResponse response =
		CSI__V1__VALIDATE_VOLUME_CAPABILITIES_RESPONSE__INIT;
	Csi__V1__ValidateVolumeCapabilitiesResponse__Confirmed confirmed =
		CSI__V1__VALIDATE_VOLUME_CAPABILITIES_RESPONSE__CONFIRMED__INIT;

	confirmed.volume_capabilities = request->volume_capabilities;
	confirmed.n_volume_capabilities = request->n_volume_capabilities;
	COPY_MAP(confirmed.volume_context, confirmed.n_volume_context, request->volume_context,
		request->n_volume_context,
		Csi__V1__ValidateVolumeCapabilitiesResponse__Confirmed__VolumeContextEntry,
		csi__v1__validate_volume_capabilities_response__confirmed__volume_context_entry__init);
	COPY_MAP(confirmed.parameters, confirmed.n_parameters, request->parameters,
		request->n_parameters,
		Csi__V1__ValidateVolumeCapabilitiesResponse__Confirmed__ParametersEntry,
		csi__v1__validate_volume_capabilities_response__confirmed__parameters_entry__init);
	response.confirmed = &confirmed;
	grpc_call_reply(call, &response.base);
	free(confirmed.volume_context[confirmed.n_volume_context]);
	free(confirmed.volume_context);
	free(confirmed.parameters[confirmed.n_parameters]);
	free(confirmed.parameters);
}

static void refuse(struct grpc_call *call, const char *text)
{
	Csi__V1__ValidateVolumeCapabilitiesResponse response =
		CSI__V1__VALIDATE_VOLUME_CAPABILITIES_RESPONSE__INIT;

	response.message = unconst(text);
	grpc_call_reply(call, &response.base);
}

/* 0, or what the volume is not: -EEXIST. */
static int compare_class(
	const void *pairs, size_t count, const struct volume_object *volume, struct err *err)
{
	struct volume_wish wish = {0};
	int result = count == 0 ? 0 : class_wish_decode(pairs, count, &wish.class, err);

	if (count > 0 && result == 0) {
		result = volume_wish_compare(&wish, volume, err);
		volume_wish_done(&wish);
	}
	return result;
}

void service_validate_capabilities(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Csi__V1__ValidateVolumeCapabilitiesRequest *request = (const void *)message;
	const struct world_volume *volume;
	struct err err = {0};
	int result;

	if (!service_may(call)) {
		return;
	}
	result = csi_need("volume_id", request->volume_id, &err);
	result = result < 0 ? result
			    : csi_capabilities_check(request->volume_capabilities,
				      request->n_volume_capabilities, 0, &err);
	if (result == -EINVAL) {
		grpc_call_fail(call, &err);
		return;
	}
	volume = find_volume(call, request->volume_id);
	if (volume == NULL) {
		return;
	}
	result = result < 0 ? result
			    : compare_class(request->parameters, request->n_parameters,
				      &volume->object, &err);
	if (result < 0) {
		refuse(call, err.text);
	} else if (request->n_mutable_parameters > 0) {
		refuse(call, "there are no mutable parameters");
	} else {
		confirm(call, request);
	}
}
