/* SPDX-License-Identifier: Apache-2.0 */
/* status.attachment of a Volume: who may open it, and under which number. */
#ifndef CSI_CONTROLLER_ATTACHMENT_H
#define CSI_CONTROLLER_ATTACHMENT_H

#include "csi-controller/controller.h"

struct attachment {
	json_int_t number;
	const char *node; /* "": none */
	bool is_read_only;
};

/*
 * The JSON patch that sets it, with the capability for it, if the number is still what the object
 * says; a first one tests the whole version: it must not pass by a plan that replaces replicas
 * (plan_volume.h).
 */
json_t *attachment_patch(const struct controller *controller, const json_t *object,
	const struct attachment *attachment);

#endif
