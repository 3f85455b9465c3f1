/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the kubelet learns of us: it looks at its plugins_registry folder, asks the socket there who
 * it is, and says whether it took us.  A refusal is for good until a new socket appears, so after
 * one the socket is bound anew, later and later.
 */
#ifndef CSI_NODE_REGISTRATION_H
#define CSI_NODE_REGISTRATION_H

#include "csi-node/endpoint.h"

struct registration {
	struct endpoint endpoint;
	char path[108];
	const char *csi_path; /* borrowed; as the kubelet sees it */
	struct loop_timer again;
	unsigned refusal_count;
	bool is_started, is_registered;
};

/* The CSI socket is served already: the kubelet calls it at once.  Again when that was bound anew.
 */
void registration_start(struct registration *registration, struct loop *loop, const struct log *log,
	const char *kubelet_dir, const char *csi_path);
void registration_stop(struct registration *registration, void (*stopped)(void *ctx), void *ctx);

#endif
