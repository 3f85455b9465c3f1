/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/testing/fake_http.h"

#include "base/bytes.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct fake_http {
	struct fake_http_options options;
	struct loop_watch listener;
	uint16_t port;
	struct list conns;
	unsigned conn_count;
	bool frozen;
};

struct fake_conn {
	struct list_node node;
	struct fake_http *http;
	struct loop_watch watch;
	struct strbuf in, out;
	size_t sent;
	bool answering; /* a request was handed out and has no whole answer yet */
	bool cuts;
	size_t cut_after;
	bool closing; /* when all is sent */
};

void fake_conn_close(struct fake_conn *conn)
{
	struct fake_http *http = conn->http;

	loop_watch_remove(http->options.loop, &conn->watch);
	close(conn->watch.fd);
	list_remove(&conn->node);
	http->conn_count--;
	http->options.closed(http->options.ctx, conn);
	strbuf_done(&conn->in);
	strbuf_done(&conn->out);
	free(conn);
}

static void set_events(struct fake_conn *conn)
{
	uint32_t events = EPOLLIN;

	if (conn->sent < conn->out.length || conn->closing) {
		events |= EPOLLOUT;
	}
	loop_watch_change(conn->http->options.loop, &conn->watch, conn->http->frozen ? 0 : events);
}

/* ---- sending ---- */

void fake_conn_send(struct fake_conn *conn, const void *bytes, size_t length)
{
	if (conn->cuts) {
		size_t part = min_u64(length, conn->cut_after);

		conn->cut_after -= part;
		conn->closing = conn->closing || part < length;
		length = part;
	}
	strbuf_append_bytes(&conn->out, bytes, length);
	set_events(conn);
}

void fake_conn_cut_after(struct fake_conn *conn, size_t bytes)
{
	conn->cuts = true;
	conn->cut_after = bytes;
}

void fake_conn_half_close(struct fake_conn *conn)
{
	(void)shutdown(conn->watch.fd, SHUT_WR);
}

void fake_reply(struct fake_conn *conn, unsigned status, const char *headers, const char *body)
{
	struct strbuf text;

	strbuf_init(&text);
	strbuf_printf(&text,
		"HTTP/1.1 %u Status\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
		"%s\r\n%s",
		status, strlen(body), headers, body);
	conn->answering = false;
	fake_conn_send(conn, text.text, text.length);
	strbuf_done(&text);
}

void fake_stream_begin(struct fake_conn *conn)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n";

	fake_conn_send(conn, text, sizeof(text) - 1);
}

void fake_stream_send(struct fake_conn *conn, const void *bytes, size_t length)
{
	char head[32];
	int head_length = snprintf(head, sizeof(head), "%zx\r\n", length);

	fake_conn_send(conn, head, (size_t)head_length);
	fake_conn_send(conn, bytes, length);
	fake_conn_send(conn, "\r\n", 2);
}

void fake_stream_end(struct fake_conn *conn)
{
	conn->answering = false;
	fake_conn_send(conn, "0\r\n\r\n", 5);
}

/* ---- receiving ---- */

static char *header(char *head, const char *name)
{
	size_t length = strlen(name);

	for (char *line = head; line != NULL && *line != '\0';) {
		char *next = strstr(line, "\r\n");

		if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
			return line + length + 1 + strspn(line + length + 1, " ");
		}
		line = next == NULL ? NULL : next + 2;
	}
	return NULL;
}

static void end_line(char *value)
{
	if (value != NULL) {
		value[strcspn(value, "\r\n")] = '\0';
	}
}

/* Hands out the request that is there as a whole, if one is. */
static void take_request(struct fake_conn *conn)
{
	char *end = conn->in.text == NULL ? NULL : strstr(conn->in.text, "\r\n\r\n");
	char *length_text = end == NULL ? NULL : header(conn->in.text, "Content-Length");
	size_t body_length =
		length_text != NULL && length_text < end ? strtoul(length_text, NULL, 10) : 0;

	if (conn->answering || end == NULL ||
		conn->in.length < (size_t)(end + 4 - conn->in.text) + body_length) {
		return;
	}
	size_t whole = (size_t)(end + 4 - conn->in.text) + body_length;
	char *text = strndup(conn->in.text, whole);
	char *head_end = text + (end - conn->in.text);

	memmove(conn->in.text, conn->in.text + whole, conn->in.length - whole + 1);
	conn->in.length -= whole;
	conn->answering = true;
	*head_end = '\0';
	char *authorization = header(text, "Authorization");
	char *content_type = header(text, "Content-Type");

	end_line(authorization);
	end_line(content_type);
	char *path = strchr(text, ' ');
	char *path_end = path == NULL ? NULL : strchr(path + 1, ' ');

	assert(path_end != NULL);
	*path++ = *path_end = '\0';
	char *query = strchr(path, '?');

	if (query != NULL) {
		*query++ = '\0';
	}
	struct fake_request request = {.conn = conn,
		.method = text,
		.path = path,
		.query = query != NULL ? query : "",
		.body = head_end + 4,
		.body_length = body_length,
		.authorization = authorization != NULL ? authorization : "",
		.content_type = content_type != NULL ? content_type : ""};

	conn->http->options.request(conn->http->options.ctx, &request);
	free(text);
}

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
	struct fake_conn *conn = container_of(watch, struct fake_conn, watch);
	char bytes[8192];

	if ((events & EPOLLOUT) != 0) {
		ssize_t sent = conn->sent == conn->out.length
				       ? 0
				       : send(watch->fd, conn->out.text + conn->sent,
						 conn->out.length - conn->sent, MSG_NOSIGNAL);

		conn->sent += sent > 0 ? (size_t)sent : 0;
		if ((sent < 0 && errno != EAGAIN) ||
			(conn->closing && conn->sent == conn->out.length)) {
			fake_conn_close(conn);
			return;
		}
		if (conn->sent == conn->out.length) {
			strbuf_done(&conn->out);
			conn->sent = 0;
		}
		set_events(conn);
		return;
	}
	ssize_t got = recv(watch->fd, bytes, sizeof(bytes), 0);

	if (got <= 0) {
		fake_conn_close(conn);
		return;
	}
	strbuf_append_bytes(&conn->in, bytes, (size_t)got);
	take_request(conn);
}

static void listener_ready(struct loop_watch *watch, uint32_t events)
{
	struct fake_http *http = container_of(watch, struct fake_http, listener);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct fake_conn *conn = calloc(1, sizeof(*conn));

	(void)events;
	assert(fd >= 0 && conn != NULL);
	conn->http = http;
	conn->watch.fd = fd;
	conn->watch.events = EPOLLIN;
	conn->watch.ready = conn_ready;
	int result = loop_watch_add(http->options.loop, &conn->watch);

	assert(result == 0);
	list_push_back(&http->conns, &conn->node);
	http->conn_count++;
}

/* ---- life ---- */

void fake_http_start(struct fake_http *http)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(http->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert(fd >= 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	int result = bind(fd, (const void *)&address, sizeof(address));

	assert(result == 0);
	result = listen(fd, 1024);
	assert(result == 0);
	(void)getsockname(fd, (void *)&address, &length);
	http->port = ntohs(address.sin_port);
	http->listener = (struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = listener_ready};
	result = loop_watch_add(http->options.loop, &http->listener);
	assert(result == 0);
}

void fake_http_stop(struct fake_http *http)
{
	list_for_each_safe (&http->conns, node, following) {
		fake_conn_close(container_of(node, struct fake_conn, node));
	}
	if (http->listener.added) {
		loop_watch_remove(http->options.loop, &http->listener);
		close(http->listener.fd);
	}
}

void fake_http_freeze(struct fake_http *http, bool frozen)
{
	http->frozen = frozen;
	loop_watch_change(http->options.loop, &http->listener, frozen ? 0 : EPOLLIN);
	list_for_each (&http->conns, node) {
		set_events(container_of(node, struct fake_conn, node));
	}
}

struct fake_http *fake_http_new(const struct fake_http_options *options)
{
	struct fake_http *http = calloc(1, sizeof(*http));

	assert(http != NULL);
	http->options = *options;
	list_init(&http->conns);
	fake_http_start(http);
	return http;
}

void fake_http_free(struct fake_http *http)
{
	fake_http_stop(http);
	free(http);
}

unsigned fake_http_port(const struct fake_http *http)
{
	return http->port;
}

unsigned fake_http_conn_count(const struct fake_http *http)
{
	return http->conn_count;
}

/* ---- queries ---- */

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool fake_query(const char *query, const char *key, char *value, size_t size)
{
	size_t key_length = strlen(key), length = 0;

	while (*query != '\0') {
		bool is_it = strncmp(query, key, key_length) == 0 && query[key_length] == '=';

		if (!is_it) {
			query += strcspn(query, "&");
			query += *query == '&';
			continue;
		}
		for (query += key_length + 1; *query != '\0' && *query != '&'; query++) {
			char c = *query;

			if (c == '%' && hex(query[1]) >= 0 && hex(query[2]) >= 0) {
				c = (char)(hex(query[1]) << 4 | hex(query[2]));
				query += 2;
			}
			assert(length + 1 < size);
			value[length++] = c;
		}
		value[length] = '\0';
		return true;
	}
	return false;
}
