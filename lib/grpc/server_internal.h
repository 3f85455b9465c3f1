/* SPDX-License-Identifier: Apache-2.0 */
/* The server's parts: server.c (socket, connections), session.c (HTTP/2 callbacks), call.c (calls
 * and their answers). */
#ifndef GRPC_SERVER_INTERNAL_H
#define GRPC_SERVER_INTERNAL_H

#include "grpc/internal.h"

struct grpc_server {
	struct loop *loop; /* borrowed */
	struct grpc_server_options options;
	char *path;  /* owned */
	ino_t inode; /* of the socket that we bound */
	struct loop_watch listener;
	struct loop_timer accept_again; /* after running out of descriptors */
	struct list conns;
	unsigned conn_count;
	struct list calls; /* all, also those whose connection is gone */
	unsigned call_count;
	size_t held_bytes; /* of messages */
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;

	bool stopping;
	struct loop_timer grace;
	struct loop_timer
		ended; /* calls stopped() from the loop, never from within grpc_server_stop() */
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

struct grpc_conn {
	struct list_node node;
	struct grpc_server *server;
	struct loop_watch watch;
	nghttp2_session *session;
	const uint8_t *out; /* nghttp2's, to be sent before the session is asked for more */
	size_t out_length;
	struct loop_timer first_request;
	struct loop_timer stall;
	struct list calls; /* whose streams are open */
	pid_t peer_pid;
	bool receiving; /* within nghttp2_session_mem_recv: it is flushed afterwards */
	unsigned pings;
	uint64_t ping_ms; /* when the first of them came */
};

struct grpc_call {
	struct list_node node; /* in server->calls */
	struct list_node conn_node;
	struct grpc_server *server;
	struct grpc_conn *conn; /* NULL when its stream is closed */
	int32_t stream_id;
	const struct grpc_method *method;
	ProtobufCMessage *request; /* owned */
	struct grpc_inbox inbox;
	struct grpc_outbox outbox;
	size_t held_bytes; /* counted in server->held_bytes */
	size_t header_bytes;
	uint64_t timeout_ms; /* UINT64_MAX: none */
	pid_t peer_pid;
	struct loop_timer arrival;  /* for the request to be whole */
	struct loop_timer deadline; /* of the client */
	char path[128];
	bool is_post, is_grpc, has_bad_header;
	bool with_handler; /* it will answer */
	bool answered;     /* headers of the answer were submitted */
	bool cancelled;
	bool remote_ended; /* the client sent END_STREAM */
};

/* server.c */
void grpc_conn_flush(struct grpc_conn *conn); /* may close it and free it */
void grpc_conn_close(struct grpc_conn *conn);
void grpc_server_check_stopped(struct grpc_server *server);

/* session.c */
int grpc_session_setup(struct grpc_server *server);

/* call.c */
struct grpc_call *grpc_call_new(struct grpc_conn *conn, int32_t stream_id);
void grpc_call_headers_done(struct grpc_call *call);
void grpc_call_data(struct grpc_call *call, const uint8_t *data, size_t length);
void grpc_call_remote_ended(struct grpc_call *call);
/* Its stream is closed, or the whole connection. */
void grpc_call_stream_closed(struct grpc_call *call);
void grpc_call_cancel(struct grpc_call *call);

#endif
