/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC socket in a folder that is the kubelet's: it may not be there yet, and it may be removed
 * or made anew under us.  Then the socket is bound again.
 */
#ifndef CSI_NODE_ENDPOINT_H
#define CSI_NODE_ENDPOINT_H

#include "base/log.h"
#include "grpc/grpc.h"

struct endpoint {
	/* set by the owner before endpoint_start() */
	struct loop *loop;     /* borrowed */
	const struct log *log; /* borrowed */
	const char *path;      /* borrowed */
	const struct grpc_method *methods;
	size_t method_count;
	void *ctx; /* of calls */
	bool makes_folder;
	/* It was bound, the first time or again; may be NULL. */
	void (*bound)(struct endpoint *endpoint);

	struct grpc_server *server; /* NULL: not bound */
	struct loop_timer timer;
	uint64_t inode, device;
	bool has_warned, is_stopping;
	unsigned closing_count; /* servers that were stopped and have calls to answer */
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

void endpoint_start(struct endpoint *endpoint);
/* Unlinks and binds anew. */
void endpoint_rebind(struct endpoint *endpoint);
/* Unlinks; `stopped` when every call was answered. */
void endpoint_stop(
	struct endpoint *endpoint, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx);

#endif
