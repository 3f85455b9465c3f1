/* SPDX-License-Identifier: Apache-2.0 */
/* The CSI Controller service.  A call's context is the struct controller. */
#ifndef CSI_CONTROLLER_SERVICE_H
#define CSI_CONTROLLER_SERVICE_H

#include "csi-controller/controller.h"
#include "csi/csi.h"

extern const struct grpc_method service_methods[];
extern const size_t service_method_count;

/* ---- for its files ---- */

grpc_handler service_create_volume, service_delete_volume, service_publish_volume,
	service_unpublish_volume, service_list_volumes, service_get_volume, service_get_capacity,
	service_validate_capabilities;

/* False: the call was answered, as only the leader with its caches may. */
bool service_may(struct grpc_call *call) __must_check;
/* The API's refusal as something that the sidecar tries again: what was written may be there. */
void service_fail_again(struct grpc_call *call, const struct err *err);

#endif
