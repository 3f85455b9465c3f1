/* SPDX-License-Identifier: Apache-2.0 */
/* CSI calls that wait for a Volume to become what they ask for. */
#ifndef CSI_CONTROLLER_WAIT_H
#define CSI_CONTROLLER_WAIT_H

#include "csi-controller/controller.h"
#include "grpc/grpc.h"

struct wait {
	struct list_node node;
	struct controller *controller; /* borrowed */
	struct grpc_call *call;
	char volume[OBJECTS_VOLUME_SIZE];
	char uid[40];     /* of the Volume, for calls that are over when it is gone */
	bool is_unwanted; /* of CreateVolume: it is given up */
	char node_name[OBJECTS_NAME_SIZE]; /* of ControllerUnpublish */
	/* Answers the call when it can (`is_over`: in any case) and returns whether it did. */
	bool (*check)(struct wait *wait, bool is_over);
	struct loop_timer timer;
};

/* Checks at once, with every change of the volume or of a node, and shortly before the client's
 * deadline (without one: after a minute).  Copies the struct, of which call, volume and check are
 * set. */
void wait_for(struct controller *controller, const struct wait *wait);
/* Those of the volume; NULL: all. */
void waits_check(struct controller *controller, const char *volume);
/* Ends them all with UNAVAILABLE. */
void waits_end(struct controller *controller, const char *why);

#endif
