/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unary gRPC over unix sockets: a server on a control loop and a blocking client for programs.
 *
 * The server takes nothing on trust: socket mode 0600 and SO_PEERCRED (root and the daemon's own
 * user), and limits on connections, header lists, message size, bytes held in all, time to the
 * first request, resets and pings.  A call that is not answered in time, or whose client is gone,
 * is "cancelled"; the handler's call object stays until it answers.
 */
#ifndef GRPC_GRPC_H
#define GRPC_GRPC_H

#include "base/err.h"
#include "grpc/loop.h"

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <sys/types.h>

/* The codes of the gRPC specification. */
enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

/* The one table between negative errno and codes.  Errno values without a row are GRPC_UNKNOWN;
 * codes go to the first errno of their row, unknown codes to -EIO. */
enum grpc_code grpc_code_from_errno(int code);
int grpc_code_to_errno(unsigned code);
const char *grpc_code_name(unsigned code);
/* May the call have been executed when it ended so?  For callers that retry. */
bool grpc_code_is_maybe_done(unsigned code);

/* ---- server ---- */

struct grpc_server;
struct grpc_call;

/*
 * On the loop's thread.  `request` is of the method's type and stays until the answer.  The handler
 * answers with grpc_call_reply or grpc_call_fail exactly once, at once or later; the call is gone
 * then.
 */
typedef void grpc_handler(struct grpc_call *call, const ProtobufCMessage *request);

struct grpc_method {
	const char *path; /* "/strake.v1.Nexus/GetNexus" */
	const ProtobufCMessageDescriptor *request;
	const ProtobufCMessageDescriptor *response;
	grpc_handler *handler;
};

struct grpc_server_options {
	const char *socket_path;
	const struct grpc_method *methods; /* borrowed */
	size_t method_count;
	void *ctx; /* grpc_call_ctx() of every call */

	/* 0: the default */
	unsigned connections_max;   /* 64 */
	unsigned streams_max;       /* 64, of a connection */
	uint32_t message_bytes_max; /* 4 MiB */
	size_t budget_bytes;        /* 16 MiB: messages held in all, requests and replies */
	size_t header_bytes_max;    /* 16 KiB, as RFC 7540 6.5.2 counts */
	unsigned request_ms_max; /* 10 s: from connecting to the first request, and for each request
				    to arrive whole */
	unsigned stall_ms_max; /* 30 s: a client that takes nothing of what is sent to it is dropped
				*/
};

/* Listens.  -EADDRINUSE: another process answers on the socket; a socket that nobody answers on is
 * replaced. */
int grpc_server_new(struct loop *loop, const struct grpc_server_options *options,
	struct grpc_server **ret_server, struct err *err) __must_check;
/*
 * Takes no more connections and calls (GOAWAY), lets the calls in flight end for up to grace_ms,
 * then cancels them.  `stopped` when every call was answered; the server is gone then.  Called
 * once; with a shorter grace again by a second signal.
 */
void grpc_server_stop(
	struct grpc_server *server, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx);

void *grpc_call_ctx(const struct grpc_call *call);
const ProtobufCMessage *grpc_call_request(const struct grpc_call *call);
/* The client is gone, gave up, or its deadline has passed: the answer will be dropped. */
bool grpc_call_is_cancelled(const struct grpc_call *call);
/* Milliseconds to the client's deadline, 0 when it has passed, UINT64_MAX when it gave none. */
uint64_t grpc_call_left_ms(const struct grpc_call *call);
pid_t grpc_call_peer_pid(const struct grpc_call *call);
/* The message is copied; of the method's response type. */
void grpc_call_reply(struct grpc_call *call, const ProtobufCMessage *response);
/* err->code is negative; its text goes to the client. */
void grpc_call_fail(struct grpc_call *call, const struct err *err);
void grpc_call_failf(struct grpc_call *call, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- client ---- */

struct grpc_client;

/* Connects; blocking, at most timeout_ms.  -ENOENT, -ECONNREFUSED, -EACCES with a text that names
 * the socket. */
int grpc_client_new(const char *socket_path, unsigned timeout_ms, struct grpc_client **ret_client,
	struct err *err) __must_check;
void grpc_client_free(struct grpc_client *client);

/*
 * One call; blocks at most timeout_ms, which the server is told too.  *ret_response is freed with
 * protobuf_c_message_free_unpacked(). Errors of the server come with the code of the table and its
 * text.  One thread at a time.
 */
int grpc_client_call(struct grpc_client *client, const struct grpc_method *method,
	const ProtobufCMessage *request, unsigned timeout_ms, ProtobufCMessage **ret_response,
	struct err *err) __must_check;

#endif
