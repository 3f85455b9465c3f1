/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a call.  It belongs to its stream and, from the moment that the handler got it until
 * that one answers, to the handler; the last of the two that is done with it frees it.
 */
#include "grpc/server_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer_error(struct grpc_call *call, unsigned code, const char *text);

/* ---- bytes held ---- */

static bool hold(struct grpc_call *call, size_t bytes)
{
	struct grpc_server *server = call->server;

	if (bytes > server->options.budget_bytes - server->held_bytes) {
		return false;
	}
	call->held_bytes += bytes;
	server->held_bytes += bytes;
	return true;
}

static void let_go(struct grpc_call *call)
{
	call->server->held_bytes -= call->held_bytes;
	call->held_bytes = 0;
}

static void drop_request(struct grpc_call *call)
{
	grpc_inbox_done(&call->inbox);
	if (call->request != NULL) {
		protobuf_c_message_free_unpacked(call->request, NULL);
		call->request = NULL;
	}
	let_go(call);
	loop_timer_stop(&call->arrival);
}

/* ---- birth and death ---- */

static void arrival_expired(struct loop_timer *timer)
{
	struct grpc_call *call = container_of(timer, struct grpc_call, arrival);
	struct grpc_conn *conn = call->conn;

	answer_error(call, GRPC_DEADLINE_EXCEEDED, "the request did not arrive in time");
	grpc_conn_flush(conn);
}

static void deadline_expired(struct loop_timer *timer)
{
	struct grpc_call *call = container_of(timer, struct grpc_call, deadline);
	struct grpc_conn *conn = call->conn;

	call->cancelled = true;
	answer_error(
		call, GRPC_DEADLINE_EXCEEDED, "the call was not done by the client's deadline");
	grpc_conn_flush(conn);
}

struct grpc_call *grpc_call_new(struct grpc_conn *conn, int32_t stream_id)
{
	struct grpc_call *call = calloc(1, sizeof(*call));

	if (call == NULL) {
		return NULL;
	}
	call->server = conn->server;
	call->conn = conn;
	call->stream_id = stream_id;
	call->timeout_ms = UINT64_MAX;
	call->peer_pid = conn->peer_pid;
	call->arrival.expired = arrival_expired;
	call->deadline.expired = deadline_expired;
	list_push_back(&conn->calls, &call->conn_node);
	list_push_back(&conn->server->calls, &call->node);
	conn->server->call_count++;
	return call;
}

static void free_if_done(struct grpc_call *call)
{
	struct grpc_server *server = call->server;

	if (call->conn != NULL || call->with_handler) {
		return;
	}
	drop_request(call);
	grpc_outbox_done(&call->outbox);
	loop_timer_stop(&call->deadline);
	list_remove(&call->node);
	server->call_count--;
	free(call);
	grpc_server_check_stopped(server);
}

void grpc_call_stream_closed(struct grpc_call *call)
{
	list_remove(&call->conn_node);
	call->conn = NULL;
	call->cancelled |= call->with_handler;
	loop_timer_stop(&call->deadline);
	loop_timer_stop(&call->arrival);
	free_if_done(call);
}

void grpc_call_cancel(struct grpc_call *call)
{
	call->cancelled = true;
	answer_error(call, GRPC_UNAVAILABLE, "the server is stopping");
}

/* ---- answers ---- */

/* nghttp2 gives the callback its parameters. */
static ssize_t read_outbox(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t room,
	uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	struct grpc_call *call = source->ptr;
	size_t taken = grpc_outbox_take(&call->outbox, to, room);
	nghttp2_nv trailer = grpc_header("grpc-status", "0");

	(void)ctx;
	if (call->outbox.sent == call->outbox.length) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (nghttp2_submit_trailer(session, stream_id, &trailer, 1) != 0) {
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
	}
	return (ssize_t)taken;
}

/* A failure to submit means no memory: the connection cannot tell its client any more. */
static void answer_sent(struct grpc_call *call, int result)
{
	call->answered = true;
	loop_timer_stop(&call->deadline);
	if (result != 0) {
		(void)nghttp2_session_terminate_session(
			call->conn->session, NGHTTP2_INTERNAL_ERROR);
	}
}

static void answer_error(struct grpc_call *call, unsigned code, const char *text)
{
	struct strbuf message;
	char number[12];

	if (call->conn == NULL || call->answered) {
		return;
	}
	if (!call->with_handler) {
		drop_request(call);
	}
	strbuf_init(&message);
	grpc_percent_encode(text, &message);
	(void)snprintf(number, sizeof(number), "%u", code);
	nghttp2_nv headers[] = {
		grpc_header(":status", "200"),
		grpc_header("content-type", "application/grpc"),
		grpc_header("grpc-status", number),
		grpc_header("grpc-message", strbuf_failed(&message) ? "" : strbuf_text(&message)),
	};

	answer_sent(call, nghttp2_submit_response(call->conn->session, call->stream_id, headers,
				  sizeof(headers) / sizeof(headers[0]), NULL));
	strbuf_done(&message);
}

static void answer_http(struct grpc_call *call, const char *status)
{
	nghttp2_nv header = grpc_header(":status", status);

	drop_request(call);
	answer_sent(call,
		nghttp2_submit_response(call->conn->session, call->stream_id, &header, 1, NULL));
}

static void answer_message(struct grpc_call *call, const ProtobufCMessage *response)
{
	nghttp2_nv headers[] = {
		grpc_header(":status", "200"), grpc_header("content-type", "application/grpc")};
	nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_outbox};
	int result =
		grpc_outbox_fill(&call->outbox, response, call->server->options.message_bytes_max);

	drop_request(call);
	if (result == 0 && !hold(call, call->outbox.length)) {
		grpc_outbox_done(&call->outbox);
		result = -ENOMEM;
	}
	if (result < 0) {
		answer_error(call, grpc_code_from_errno(result),
			result == -EMSGSIZE ? "the answer is larger than a message may be"
			: result == -ENOMEM ? "the server has no memory for the answer now"
					    : "the answer holds text that is not UTF-8");
		return;
	}
	answer_sent(call, nghttp2_submit_response(call->conn->session, call->stream_id, headers,
				  sizeof(headers) / sizeof(headers[0]), &provider));
}

/* The handler is done with the call. */
static void handler_done(struct grpc_call *call)
{
	struct grpc_conn *conn = call->conn;

	call->with_handler = false;
	free_if_done(call);
	if (conn != NULL) {
		grpc_conn_flush(conn);
	}
}

void grpc_call_reply(struct grpc_call *call, const ProtobufCMessage *response)
{
	assert(call->with_handler && response->descriptor == call->method->response);
	if (call->conn != NULL && !call->answered) {
		answer_message(call, response);
	}
	handler_done(call);
}

void grpc_call_fail(struct grpc_call *call, const struct err *err)
{
	assert(call->with_handler && err->code < 0);
	answer_error(call, grpc_code_from_errno(err->code),
		err->text[0] != '\0' ? err->text : err_describe(err->code));
	drop_request(call);
	handler_done(call);
}

void grpc_call_failf(struct grpc_call *call, int code, const char *format, ...)
{
	struct err err = {.code = code};
	va_list args;

	va_start(args, format);
	(void)vsnprintf(err.text, sizeof(err.text), format, args);
	va_end(args);
	grpc_call_fail(call, &err);
}

/* ---- the request ---- */

static const struct grpc_method *find_method(const struct grpc_server *server, const char *path)
{
	for (size_t i = 0; i < server->options.method_count; i++) {
		if (strcmp(server->options.methods[i].path, path) == 0) {
			return &server->options.methods[i];
		}
	}
	return NULL;
}

void grpc_call_headers_done(struct grpc_call *call)
{
	struct grpc_server *server = call->server;
	char text[200];

	loop_timer_stop(&call->conn->first_request);
	call->method = find_method(server, call->path);
	if (call->header_bytes > server->options.header_bytes_max) {
		answer_error(call, GRPC_RESOURCE_EXHAUSTED, "the header list is too large");
	} else if (!call->is_post) {
		answer_http(call, "405");
	} else if (!call->is_grpc) {
		answer_http(call, "415");
	} else if (call->has_bad_header) {
		answer_error(call, GRPC_INVALID_ARGUMENT, "grpc-timeout is malformed");
	} else if (call->method == NULL) {
		(void)snprintf(text, sizeof(text), "unknown method %s", call->path);
		answer_error(call, GRPC_UNIMPLEMENTED, text);
	} else {
		loop_timer_start(server->loop, &call->arrival, server->options.request_ms_max);
		if (call->timeout_ms != UINT64_MAX) {
			loop_timer_start(server->loop, &call->deadline, call->timeout_ms);
		}
	}
}

/* Before memory is taken for a message of this length. */
static enum grpc_code admit(void *ctx, uint32_t length)
{
	struct grpc_call *call = ctx;

	if (length > call->server->options.message_bytes_max || !hold(call, length)) {
		return GRPC_RESOURCE_EXHAUSTED;
	}
	return GRPC_OK;
}

void grpc_call_data(struct grpc_call *call, const uint8_t *data, size_t length)
{
	if (call->answered || call->with_handler) {
		return;
	}
	enum grpc_code code = grpc_inbox_push(&call->inbox, data, length, admit, call);

	if (code == GRPC_OK) {
		return;
	}
	answer_error(call, code,
		code == GRPC_RESOURCE_EXHAUSTED
			? "the request is too large, or the server holds too many now"
		: code == GRPC_UNIMPLEMENTED ? "compressed messages are not supported"
					     : "a unary call has one message");
}

void grpc_call_remote_ended(struct grpc_call *call)
{
	char text[200];

	call->remote_ended = true;
	loop_timer_stop(&call->arrival);
	if (call->answered) {
		return;
	}
	if (!call->inbox.whole) {
		answer_error(call, GRPC_INTERNAL, "the request ended before its message did");
		return;
	}
	call->request = grpc_unpack(call->method->request, call->inbox.bytes, call->inbox.length);
	if (call->request == NULL) {
		(void)snprintf(text, sizeof(text), "malformed %s", call->method->request->name);
		answer_error(call, GRPC_INVALID_ARGUMENT, text);
		return;
	}
	/* The unpacked message stays counted by the length of its bytes. */
	grpc_inbox_done(&call->inbox);
	call->with_handler = true;
	call->method->handler(call, call->request);
}

/* ---- what handlers ask ---- */

void *grpc_call_ctx(const struct grpc_call *call)
{
	return call->server->options.ctx;
}

const ProtobufCMessage *grpc_call_request(const struct grpc_call *call)
{
	return call->request;
}

bool grpc_call_is_cancelled(const struct grpc_call *call)
{
	return call->cancelled;
}

uint64_t grpc_call_left_ms(const struct grpc_call *call)
{
	if (call->timeout_ms == UINT64_MAX) {
		return UINT64_MAX;
	}
	uint64_t now_ms = loop_now_ms(call->server->loop);

	return call->deadline.deadline_ms > now_ms ? call->deadline.deadline_ms - now_ms : 0;
}

pid_t grpc_call_peer_pid(const struct grpc_call *call)
{
	return call->peer_pid;
}
