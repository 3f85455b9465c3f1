/* SPDX-License-Identifier: Apache-2.0 */
/* The blocking client: one connection, one call at a time, poll with a deadline. */
#include "base/bytes.h"
#include "grpc/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE_BYTES (8u * 1024)

struct grpc_client {
	int fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	nghttp2_session *session;

	/* the call of now */
	int32_t stream_id;
	struct grpc_inbox inbox;
	struct grpc_outbox outbox;
	enum grpc_code inbox_code;
	unsigned status; /* grpc-status */
	bool has_status;
	bool is_grpc;
	bool closed;
	uint32_t reset_code;
	char http_status[4];
	char text[GRPC_TEXT_MAX];
};

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- what nghttp2 tells ---- */

static bool is_name(const nghttp2_vec *vec, const char *name)
{
	return vec->len == strlen(name) && memcmp(vec->base, name, vec->len) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name_buf,
	nghttp2_rcbuf *value_buf, uint8_t flags, void *ctx)
{
	struct grpc_client *client = ctx;
	nghttp2_vec name = nghttp2_rcbuf_get_buf(name_buf);
	nghttp2_vec value = nghttp2_rcbuf_get_buf(value_buf);
	const char *text = (const char *)value.base;

	(void)session;
	(void)flags;
	if (frame->hd.stream_id != client->stream_id) {
		return 0;
	}
	if (is_name(&name, ":status") && value.len < sizeof(client->http_status)) {
		memcpy(client->http_status, text, value.len);
		client->http_status[value.len] = '\0';
	} else if (is_name(&name, "content-type")) {
		client->is_grpc = value.len >= 16 && memcmp(text, "application/grpc", 16) == 0;
	} else if (is_name(&name, "grpc-message")) {
		grpc_percent_decode(text, value.len, client->text, sizeof(client->text));
	} else if (is_name(&name, "grpc-status")) {
		client->has_status = value.len > 0 && value.len <= 3;
		client->status = 0;
		for (size_t i = 0; client->has_status && i < value.len; i++) {
			client->has_status = text[i] >= '0' && text[i] <= '9';
			client->status = client->status * 10 + (unsigned)(text[i] - '0');
		}
	}
	return 0;
}

static enum grpc_code admit(void *ctx, uint32_t length)
{
	(void)ctx;
	return length > GRPC_MESSAGE_MAX ? GRPC_RESOURCE_EXHAUSTED : GRPC_OK;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
	const uint8_t *data, size_t length, void *ctx)
{
	struct grpc_client *client = ctx;

	(void)session;
	(void)flags;
	if (stream_id == client->stream_id && client->inbox_code == GRPC_OK) {
		client->inbox_code = grpc_inbox_push(&client->inbox, data, length, admit, client);
	}
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code, void *ctx)
{
	struct grpc_client *client = ctx;

	(void)session;
	if (stream_id == client->stream_id) {
		client->closed = true;
		client->reset_code = code;
	}
	return 0;
}

static ssize_t read_outbox(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t room,
	uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	struct grpc_outbox *outbox = source->ptr;
	size_t taken = grpc_outbox_take(outbox, to, room);

	(void)session;
	(void)stream_id;
	(void)ctx;
	if (outbox->sent == outbox->length) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	}
	return (ssize_t)taken;
}

/* ---- bytes ---- */

/* 0, -ETIMEDOUT or another errno. */
static int wait_ready(int fd, short events, uint64_t deadline_ms)
{
	for (;;) {
		uint64_t now = now_ms();
		struct pollfd poll_fd = {.fd = fd, .events = events};

		if (now >= deadline_ms) {
			return -ETIMEDOUT;
		}
		int count = poll(&poll_fd, 1, (int)min_u64(deadline_ms - now, 3600000));

		if (count > 0) {
			return 0;
		}
		if (count < 0 && errno != EINTR) {
			return -errno;
		}
	}
}

static int send_all(struct grpc_client *client, uint64_t deadline_ms)
{
	for (;;) {
		const uint8_t *bytes;
		ssize_t length = nghttp2_session_mem_send(client->session, &bytes);

		if (length <= 0) {
			return length == 0 ? 0 : -ENOMEM;
		}
		while (length > 0) {
			ssize_t sent = send(
				client->fd, bytes, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);

			if (sent < 0 && errno == EAGAIN) {
				int result = wait_ready(client->fd, POLLOUT, deadline_ms);

				if (result < 0) {
					return result;
				}
			} else if (sent < 0 && errno != EINTR) {
				return -errno;
			} else if (sent > 0) {
				bytes += sent;
				length -= sent;
			}
		}
	}
}

static int receive_some(struct grpc_client *client, uint64_t deadline_ms)
{
	uint8_t buffer[RECEIVE_BYTES];
	int result = wait_ready(client->fd, POLLIN, deadline_ms);

	if (result < 0) {
		return result;
	}
	ssize_t length = recv(client->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
		return 0;
	}
	if (length <= 0) {
		return length == 0 ? -ECONNRESET : -errno;
	}
	return nghttp2_session_mem_recv(client->session, buffer, (size_t)length) < 0 ? -EPROTO : 0;
}

/* ---- connecting ---- */

static int connect_socket(struct grpc_client *client, uint64_t deadline_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, client->path, sizeof(address.sun_path));
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (client->fd < 0) {
		return -errno;
	}
	while (connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		const struct timespec pause = {.tv_nsec = 5000000};

		if (errno != EAGAIN && errno != EINTR) {
			return -errno;
		}
		if (now_ms() >= deadline_ms) {
			return -ETIMEDOUT;
		}
		/* The backlog is full; a unix socket has no event for room in it. */
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

static int start_session(struct grpc_client *client)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks) != 0) {
		return -ENOMEM;
	}
	nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	int result = nghttp2_session_client_new(&client->session, callbacks, client);

	nghttp2_session_callbacks_del(callbacks);
	if (result != 0 ||
		nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, NULL, 0) != 0) {
		return -ENOMEM;
	}
	return 0;
}

static const char *way_out(int code)
{
	switch (code) {
	case -ENOENT:
	case -ECONNREFUSED:
		return "; is the daemon running?";
	case -EACCES:
	case -EPERM:
		return "; run as root";
	}
	return "";
}

static void disconnect(struct grpc_client *client)
{
	/* NULL is allowed. */
	nghttp2_session_del(client->session);
	client->session = NULL;
	if (client->fd >= 0) {
		close(client->fd);
		client->fd = -1;
	}
}

static int connect_client(struct grpc_client *client, uint64_t deadline_ms, struct err *err)
{
	int result = connect_socket(client, deadline_ms);

	result = result < 0 ? result : start_session(client);
	if (result < 0) {
		disconnect(client);
		return err_set(err, result, "connect to %s: %s%s", client->path,
			err_describe(result), way_out(result));
	}
	return 0;
}

int grpc_client_new(const char *socket_path, unsigned timeout_ms, struct grpc_client **ret_client,
	struct err *err)
{
	struct grpc_client *client = calloc(1, sizeof(*client));

	if (client == NULL) {
		return err_set(err, -ENOMEM, "no memory for a gRPC client");
	}
	client->fd = -1;
	if (strlen(socket_path) >= sizeof(client->path)) {
		free(client);
		return err_set(err, -ENAMETOOLONG, "socket path %s is too long", socket_path);
	}
	memcpy(client->path, socket_path, strlen(socket_path) + 1);
	int result = connect_client(client, now_ms() + timeout_ms, err);

	if (result < 0) {
		grpc_client_free(client);
		return result;
	}
	*ret_client = client;
	return 0;
}

void grpc_client_free(struct grpc_client *client)
{
	if (client == NULL) {
		return;
	}
	disconnect(client);
	grpc_inbox_done(&client->inbox);
	grpc_outbox_done(&client->outbox);
	free(client);
}

/* ---- a call ---- */

static int submit(struct grpc_client *client, const char *path, unsigned timeout_ms)
{
	char timeout[16];
	nghttp2_data_provider provider = {
		.source.ptr = &client->outbox, .read_callback = read_outbox};

	/* At most 8 digits. */
	(void)snprintf(
		timeout, sizeof(timeout), "%um", timeout_ms > 99999999 ? 99999999 : timeout_ms);
	nghttp2_nv headers[] = {
		grpc_header(":method", "POST"),
		grpc_header(":scheme", "http"),
		grpc_header(":path", path),
		grpc_header(":authority", "localhost"),
		grpc_header("te", "trailers"),
		grpc_header("content-type", "application/grpc"),
		grpc_header("user-agent", "strake/" STRAKE_VERSION),
		grpc_header("grpc-timeout", timeout),
	};

	return nghttp2_submit_request(client->session, NULL, headers,
		sizeof(headers) / sizeof(headers[0]), &provider, NULL);
}

/* Sends and receives until the stream is closed. */
static int exchange(struct grpc_client *client, uint64_t deadline_ms)
{
	while (!client->closed) {
		int result = send_all(client, deadline_ms);

		if (result < 0 && result != -EPIPE) {
			return result;
		}
		/* After EPIPE the reason may still lie in the socket. */
		result = client->closed ? 0 : receive_some(client, deadline_ms);
		if (result < 0) {
			return result;
		}
		if (client->inbox_code != GRPC_OK) {
			return client->inbox_code == GRPC_RESOURCE_EXHAUSTED ? -EMSGSIZE : -EPROTO;
		}
	}
	return 0;
}

static int take_answer(struct grpc_client *client, const struct grpc_method *method,
	ProtobufCMessage **ret_response, struct err *err)
{
	if (client->has_status && client->status != GRPC_OK) {
		return err_set(err, grpc_code_to_errno(client->status), "%s",
			client->text[0] != '\0' ? client->text : grpc_code_name(client->status));
	}
	if (!client->has_status) {
		if (client->reset_code == NGHTTP2_REFUSED_STREAM) {
			return err_set(err, -EAGAIN,
				"%s refused the call; it is stopping or has too many",
				client->path);
		}
		return err_set(err, -EPROTO, "%s did not answer as gRPC (HTTP status %s, reset %s)",
			client->path, client->http_status[0] != '\0' ? client->http_status : "none",
			nghttp2_http2_strerror(client->reset_code));
	}
	ProtobufCMessage *response =
		client->inbox.whole && client->is_grpc
			? grpc_unpack(method->response, client->inbox.bytes, client->inbox.length)
			: NULL;

	if (response == NULL) {
		return err_set(
			err, -EPROTO, "%s: malformed %s", client->path, method->response->name);
	}
	*ret_response = response;
	return 0;
}

int grpc_client_call(struct grpc_client *client, const struct grpc_method *method,
	const ProtobufCMessage *request, unsigned timeout_ms, ProtobufCMessage **ret_response,
	struct err *err)
{
	grpc_inbox_done(&client->inbox);
	grpc_outbox_done(&client->outbox);
	client->inbox_code = GRPC_OK;
	client->has_status = client->is_grpc = client->closed = false;
	client->reset_code = 0;
	client->http_status[0] = client->text[0] = '\0';
	int result = grpc_outbox_fill(&client->outbox, request, GRPC_MESSAGE_MAX);

	if (result < 0) {
		return err_set(err, result, "request %s: %s", method->path,
			result == -EBADMSG ? "text that is not UTF-8" : err_describe(result));
	}
	uint64_t deadline_ms = now_ms() + timeout_ms;

	if (client->session == NULL || !nghttp2_session_check_request_allowed(client->session)) {
		disconnect(client);
		result = connect_client(client, deadline_ms, err);
		if (result < 0) {
			return result;
		}
	}
	client->stream_id = submit(client, method->path, timeout_ms);
	if (client->stream_id < 0) {
		return err_set(err, -ENOMEM, "no memory for a call of %s", method->path);
	}
	result = exchange(client, deadline_ms);
	if (result == 0 || client->has_status) {
		result = take_answer(client, method, ret_response, err);
	} else {
		(void)err_set(err, result, "call %s on %s: %s", method->path, client->path,
			result == -ETIMEDOUT ? "no answer in time; it may still be done"
					     : err_describe(result));
	}
	if (!client->closed) {
		/* The server takes the end of the connection for a cancellation.  The next call
		 * connects anew. */
		disconnect(client);
	}
	client->stream_id = -1;
	return result;
}
