/* SPDX-License-Identifier: Apache-2.0 */
/* The Identity service: the same answers from csi-controller and from every csi-node. */
#include "base/bytes.h"
#include "csi/csi.h"
#include "objects/objects.h"

void csi_get_plugin_info(struct grpc_call *call, const ProtobufCMessage *request)
{
	Csi__V1__GetPluginInfoResponse response = CSI__V1__GET_PLUGIN_INFO_RESPONSE__INIT;
	char name[] = OBJECTS_DRIVER;
	char version[] = STRAKE_VERSION;

	(void)request;
	response.name = name;
	response.vendor_version = version;
	grpc_call_reply(call, &response.base);
}

void csi_get_plugin_capabilities(struct grpc_call *call, const ProtobufCMessage *request)
{
	static const Csi__V1__PluginCapability__Service__Type types[] = {
		CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__CONTROLLER_SERVICE,
		CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__VOLUME_ACCESSIBILITY_CONSTRAINTS,
	};
	Csi__V1__PluginCapability__Service services[ARRAY_COUNT(types)];
	Csi__V1__PluginCapability capabilities[ARRAY_COUNT(types)];
	Csi__V1__PluginCapability *pointers[ARRAY_COUNT(types)];
	Csi__V1__GetPluginCapabilitiesResponse response =
		CSI__V1__GET_PLUGIN_CAPABILITIES_RESPONSE__INIT;

	(void)request;
	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		csi__v1__plugin_capability__service__init(&services[i]);
		services[i].type = types[i];
		csi__v1__plugin_capability__init(&capabilities[i]);
		capabilities[i].type_case = CSI__V1__PLUGIN_CAPABILITY__TYPE_SERVICE;
		capabilities[i].service = &services[i];
		pointers[i] = &capabilities[i];
	}
	response.capabilities = pointers;
	response.n_capabilities = ARRAY_COUNT(types);
	grpc_call_reply(call, &response.base);
}

void csi_probe_reply(struct grpc_call *call, bool ready)
{
	Csi__V1__ProbeResponse response = CSI__V1__PROBE_RESPONSE__INIT;
	Csi__V1__BoolValue value = CSI__V1__BOOL_VALUE__INIT;

	value.value = ready;
	response.ready = &value;
	grpc_call_reply(call, &response.base);
}
