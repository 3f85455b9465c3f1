/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/service.h"

#include "base/bytes.h"

#include <errno.h>

bool service_may(struct grpc_call *call)
{
	const struct controller *controller = grpc_call_ctx(call);

	if (!controller_is_ready(controller)) {
		grpc_call_failf(call, -EAGAIN, "csi-controller has not read all objects yet");
		return false;
	}
	if (!controller_has_lease(controller)) {
		grpc_call_failf(call, -EAGAIN, "this csi-controller is not the leader");
		return false;
	}
	if (!controller_leads(controller)) {
		grpc_call_failf(call, -EAGAIN, "csi-controller has not read the secret %s/%s yet",
			controller->options.namespace, CONTROLLER_MASTER_SECRET);
		return false;
	}
	return true;
}

void service_fail_again(struct grpc_call *call, const struct err *err)
{
	grpc_call_failf(call, -EAGAIN, "%s", err->text);
}

static void probe(struct grpc_call *call, const ProtobufCMessage *request)
{
	(void)request;
	csi_probe_reply(call, controller_is_ready(grpc_call_ctx(call)));
}

static void get_capabilities(struct grpc_call *call, const ProtobufCMessage *request)
{
	static const Csi__V1__ControllerServiceCapability__RPC__Type types[] = {
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__CREATE_DELETE_VOLUME,
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__PUBLISH_UNPUBLISH_VOLUME,
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__PUBLISH_READONLY,
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_VOLUMES,
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_VOLUMES_PUBLISHED_NODES,
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_CAPACITY,
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__GET_VOLUME,
		CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER,
	};
	Csi__V1__ControllerServiceCapability__RPC rpcs[ARRAY_COUNT(types)];
	Csi__V1__ControllerServiceCapability capabilities[ARRAY_COUNT(types)];
	Csi__V1__ControllerServiceCapability *pointers[ARRAY_COUNT(types)];
	Csi__V1__ControllerGetCapabilitiesResponse response =
		CSI__V1__CONTROLLER_GET_CAPABILITIES_RESPONSE__INIT;

	(void)request;
	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		csi__v1__controller_service_capability__rpc__init(&rpcs[i]);
		rpcs[i].type = types[i];
		csi__v1__controller_service_capability__init(&capabilities[i]);
		capabilities[i].type_case = CSI__V1__CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC;
		capabilities[i].rpc = &rpcs[i];
		pointers[i] = &capabilities[i];
	}
	response.capabilities = pointers;
	response.n_capabilities = ARRAY_COUNT(types);
	grpc_call_reply(call, &response.base);
}

#define METHOD(name, message, handler)                                                             \
	{"/csi.v1.Controller/" name, &csi__v1__##message##_request__descriptor,                    \
		&csi__v1__##message##_response__descriptor, handler}

const struct grpc_method service_methods[] = {
	CSI_IDENTITY_METHODS(probe),
	METHOD("ControllerGetCapabilities", controller_get_capabilities, get_capabilities),
	METHOD("CreateVolume", create_volume, service_create_volume),
	METHOD("DeleteVolume", delete_volume, service_delete_volume),
	METHOD("ControllerPublishVolume", controller_publish_volume, service_publish_volume),
	METHOD("ControllerUnpublishVolume", controller_unpublish_volume, service_unpublish_volume),
	METHOD("ValidateVolumeCapabilities", validate_volume_capabilities,
		service_validate_capabilities),
	METHOD("ListVolumes", list_volumes, service_list_volumes),
	METHOD("ControllerGetVolume", controller_get_volume, service_get_volume),
	METHOD("GetCapacity", get_capacity, service_get_capacity),
};
const size_t service_method_count = ARRAY_COUNT(service_methods);
