/* SPDX-License-Identifier: Apache-2.0 */
/* The CSI Node service.  A call's context is the struct node. */
#ifndef CSI_NODE_SERVICE_H
#define CSI_NODE_SERVICE_H

#include "csi-node/node.h"
#include "csi-node/request.h"

extern const struct grpc_method service_methods[];
extern const size_t service_method_count;

/* ---- for its files ---- */

grpc_handler service_stage, service_unstage, service_publish, service_unpublish, service_stats;

/* A call that works on a thread on one volume: the beginning of each such struct. */
struct service_job {
	struct node *node;
	struct grpc_call *call;
	struct op op;
	struct work work;
	const char *what; /* "NodePublishVolume" */
	/* the thread's */
	char nexus_socket[DAEMON_SOCKET_SIZE];
	uint64_t end_ms; /* of the monotonic clock: the client waits no longer */
	int result;
	struct err err;
};

/* Zeroed beyond the job.  NULL: refused and answered, as another operation is under way. */
void *service_job_new(
	struct grpc_call *call, const char *volume, const char *what, size_t size) __must_check;
/* `run` on a thread of its volume, then `done` on the loop. */
void service_job_run(
	struct service_job *job, void (*run)(struct work *work), void (*done)(struct work *work));
/* Answers with the error, logs it, and frees the job. */
void service_job_fail(struct service_job *job);
/* Answers and frees. */
void service_job_reply(struct service_job *job, const ProtobufCMessage *response);

/* An API error as something that the kubelet tries again. */
void service_api_error(const struct err *why, struct err *ret_err);

#endif
