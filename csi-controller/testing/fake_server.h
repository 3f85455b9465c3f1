/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of fake_kube.h: what a request does to the objects. */
#ifndef CSI_CONTROLLER_TESTING_FAKE_SERVER_H
#define CSI_CONTROLLER_TESTING_FAKE_SERVER_H

#include "csi-controller/testing/fake_kube.h"

struct fake_server_request {
	enum kube_verb verb;
	const char *version;             /* DELETE: only this one */
	const char *plural, *name, *uid; /* LIST: the field selector */
	bool is_status;
	json_t *body;
	int result;
	json_t *response; /* owned */
};

void fake_server_execute(struct fake_server *server, struct fake_server_request *request);

#endif
