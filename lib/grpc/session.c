/* SPDX-License-Identifier: Apache-2.0 */
/* What nghttp2 tells the server. */
#include "grpc/server_internal.h"

#include <errno.h>
#include <string.h>

/* Also of cancelled ones, whose handlers have not noticed yet. */
#define CALLS_MAX       1024u
#define PINGS_MAX       64u
#define PINGS_TIME_MS   10000u
#define RESETS_BURST    256u
#define RESETS_A_SECOND 32u

static struct grpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
	return nghttp2_session_get_stream_user_data(session, stream_id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct grpc_conn *conn = ctx;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
		return 0;
	}
	if (conn->server->stopping || conn->server->call_count >= CALLS_MAX) {
		/* The client knows that it was not executed. */
		return nghttp2_submit_rst_stream(
			session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
	}
	struct grpc_call *call = grpc_call_new(conn, frame->hd.stream_id);

	if (call == NULL) {
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
}

static bool is_text(const nghttp2_vec *vec, const char *text)
{
	return vec->len == strlen(text) && memcmp(vec->base, text, vec->len) == 0;
}

static bool begins_with(const nghttp2_vec *vec, const char *text)
{
	return vec->len >= strlen(text) && memcmp(vec->base, text, strlen(text)) == 0;
}

static void take_header(struct grpc_call *call, const nghttp2_vec *name, const nghttp2_vec *value)
{
	if (is_text(name, ":method")) {
		call->is_post = is_text(value, "POST");
	} else if (is_text(name, ":path")) {
		/* A longer one is no method's: it stays "". */
		if (value->len < sizeof(call->path)) {
			memcpy(call->path, value->base, value->len);
			call->path[value->len] = '\0';
		}
	} else if (is_text(name, "content-type")) {
		const char *type = "application/grpc";
		size_t length = strlen(type);

		call->is_grpc = begins_with(value, type) &&
				(value->len == length || strchr("+;", value->base[length]) != NULL);
	} else if (is_text(name, "grpc-timeout")) {
		call->has_bad_header |= grpc_timeout_parse((const char *)value->base, value->len,
						&call->timeout_ms) < 0;
	}
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
	nghttp2_rcbuf *value, uint8_t flags, void *ctx)
{
	struct grpc_conn *conn = ctx;
	struct grpc_call *call = call_of(session, frame->hd.stream_id);
	nghttp2_vec name_vec = nghttp2_rcbuf_get_buf(name);
	nghttp2_vec value_vec = nghttp2_rcbuf_get_buf(value);

	(void)flags;
	if (call == NULL || frame->hd.type != NGHTTP2_HEADERS ||
		frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
		return 0;
	}
	call->header_bytes += name_vec.len + value_vec.len + 32;
	if (call->header_bytes <= conn->server->options.header_bytes_max) {
		take_header(call, &name_vec, &value_vec);
	}
	return 0;
}

static int on_ping(struct grpc_conn *conn)
{
	uint64_t now_ms = loop_now_ms(conn->server->loop);
	static const char reason[] = "too_many_pings";

	if (conn->pings == 0 || now_ms - conn->ping_ms > PINGS_TIME_MS) {
		conn->pings = 0;
		conn->ping_ms = now_ms;
	}
	if (++conn->pings != PINGS_MAX + 1) {
		return 0;
	}
	/* The text is what makes the known clients ping less often. */
	return nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
		nghttp2_session_get_last_proc_stream_id(conn->session), NGHTTP2_ENHANCE_YOUR_CALM,
		(const uint8_t *)reason, sizeof(reason) - 1);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct grpc_conn *conn = ctx;

	if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
		return on_ping(conn);
	}
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) {
		return 0;
	}
	struct grpc_call *call = call_of(session, frame->hd.stream_id);

	if (call == NULL) {
		return 0;
	}
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		grpc_call_headers_done(call);
	}
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
		grpc_call_remote_ended(call);
	}
	return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
	const uint8_t *data, size_t length, void *ctx)
{
	struct grpc_call *call = call_of(session, stream_id);

	(void)flags;
	(void)ctx;
	if (call != NULL) {
		grpc_call_data(call, data, length);
	}
	return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
	struct grpc_conn *conn = ctx;

	/* Clients measure the bandwidth by a ping for what they receive. */
	if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) {
		conn->pings = 0;
	}
	if (frame->hd.type != NGHTTP2_HEADERS || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
		return 0;
	}
	struct grpc_call *call = call_of(session, frame->hd.stream_id);

	/* The answer is complete before the request is: without this the client would go on
	 * uploading. */
	if (call != NULL && !call->remote_ended) {
		return nghttp2_submit_rst_stream(
			session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	}
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code, void *ctx)
{
	struct grpc_call *call = call_of(session, stream_id);

	(void)code;
	(void)ctx;
	if (call != NULL) {
		(void)nghttp2_session_set_stream_user_data(session, stream_id, NULL);
		grpc_call_stream_closed(call);
	}
	return 0;
}

int grpc_session_setup(struct grpc_server *server)
{
	if (nghttp2_session_callbacks_new(&server->callbacks) != 0 ||
		nghttp2_option_new(&server->option) != 0) {
		return -ENOMEM;
	}
	nghttp2_session_callbacks_set_on_begin_headers_callback(
		server->callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(server->callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(server->callbacks, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(server->callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_send_callback(server->callbacks, on_frame_send);
	nghttp2_session_callbacks_set_on_stream_close_callback(server->callbacks, on_stream_close);
	nghttp2_option_set_stream_reset_rate_limit(server->option, RESETS_BURST, RESETS_A_SECOND);
	nghttp2_option_set_max_continuations(server->option, 8);
	nghttp2_option_set_max_outbound_ack(server->option, 256);
	nghttp2_option_set_max_settings(server->option, 32);
	nghttp2_option_set_no_closed_streams(server->option, 1);
	return 0;
}
