/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/registration.h"

#include "api/pluginregistration.pb-c.h"
#include "base/bytes.h"
#include "objects/objects.h"

#include <stdio.h>

#define AGAIN_MS_MIN 1000
#define AGAIN_MS_MAX 60000

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

static void get_info(struct grpc_call *call, const ProtobufCMessage *request)
{
	struct registration *registration = grpc_call_ctx(call);
	Pluginregistration__PluginInfo info = PLUGINREGISTRATION__PLUGIN_INFO__INIT;
	char version[] = "1.0.0"; /* of the CSI, as kubelets count it */
	char *versions[] = {version};

	(void)request;
	info.type = text_of("CSIPlugin");
	info.name = text_of(OBJECTS_DRIVER);
	info.endpoint = text_of(registration->csi_path);
	info.supported_versions = versions;
	info.n_supported_versions = ARRAY_COUNT(versions);
	grpc_call_reply(call, &info.base);
}

static void again_expired(struct loop_timer *timer)
{
	endpoint_rebind(&container_of(timer, struct registration, again)->endpoint);
}

static void notify(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Pluginregistration__RegistrationStatus *status = (const void *)message;
	struct registration *registration = grpc_call_ctx(call);
	Pluginregistration__RegistrationStatusResponse response =
		PLUGINREGISTRATION__REGISTRATION_STATUS_RESPONSE__INIT;
	uint64_t delay_ms = AGAIN_MS_MIN;

	registration->is_registered = status->plugin_registered;
	if (status->plugin_registered) {
		registration->refusal_count = 0;
		loop_timer_stop(&registration->again);
		log_info(registration->endpoint.log, "node", "registered", "driver=%s",
			OBJECTS_DRIVER);
	} else {
		for (unsigned i = 0; i < registration->refusal_count && delay_ms < AGAIN_MS_MAX;
			i++) {
			delay_ms *= 2;
		}
		delay_ms = min_u64(delay_ms, AGAIN_MS_MAX);
		registration->refusal_count++;
		log_warning(registration->endpoint.log, "node", "registration-refused",
			"error=%s again_ms=%llu", status->error, (unsigned long long)delay_ms);
		if (!registration->endpoint.is_stopping) {
			loop_timer_start(
				registration->endpoint.loop, &registration->again, delay_ms);
		}
	}
	grpc_call_reply(call, &response.base);
}

static const struct grpc_method methods[] = {
	{"/pluginregistration.Registration/GetInfo", &pluginregistration__info_request__descriptor,
		&pluginregistration__plugin_info__descriptor, get_info},
	{"/pluginregistration.Registration/NotifyRegistrationStatus",
		&pluginregistration__registration_status__descriptor,
		&pluginregistration__registration_status_response__descriptor, notify},
};

void registration_start(struct registration *registration, struct loop *loop, const struct log *log,
	const char *kubelet_dir, const char *csi_path)
{
	if (registration->is_started) {
		endpoint_rebind(&registration->endpoint);
		return;
	}
	registration->is_started = true;
	registration->csi_path = csi_path;
	registration->again.expired = again_expired;
	(void)snprintf(registration->path, sizeof(registration->path),
		"%s/plugins_registry/" OBJECTS_DRIVER "-reg.sock", kubelet_dir);
	registration->endpoint = (struct endpoint){
		.loop = loop,
		.log = log,
		.path = registration->path,
		.methods = methods,
		.method_count = ARRAY_COUNT(methods),
		.ctx = registration,
	};
	endpoint_start(&registration->endpoint);
}

void registration_stop(struct registration *registration, void (*stopped)(void *ctx), void *ctx)
{
	loop_timer_stop(&registration->again);
	if (registration->is_started) {
		endpoint_stop(&registration->endpoint, 1000, stopped, ctx);
	} else {
		stopped(ctx);
	}
}
