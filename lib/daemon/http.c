/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/http.h"

#include "daemon/address.h"
#include "io/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX   16
#define REQUEST_BYTES_MAX 4096
#define TIMEOUT_MS        5000
#define ACCEPT_AGAIN_MS   100

struct http_server {
	struct loop *loop; /* borrowed */
	struct loop_watch listener;
	struct loop_timer accept_again;
	struct list conns;
	unsigned conn_count;
	http_get *get;
	void *ctx;
	struct sockaddr_un unix_address; /* family 0: TCP */
	uint16_t port;
};

struct http_conn {
	struct list_node node;
	struct http_server *server;
	struct loop_watch watch;
	struct loop_timer timeout; /* for the whole exchange */
	char request[REQUEST_BYTES_MAX + 1];
	size_t received;
	struct strbuf response;
	size_t sent;
	bool answering;
};

static void conn_close(struct http_conn *conn)
{
	struct http_server *server = conn->server;

	loop_timer_stop(&conn->timeout);
	loop_watch_remove(server->loop, &conn->watch);
	close(conn->watch.fd);
	strbuf_done(&conn->response);
	list_remove(&conn->node);
	server->conn_count--;
	free(conn);
}

static void timeout_expired(struct loop_timer *timer)
{
	conn_close(container_of(timer, struct http_conn, timeout));
}

static void send_response(struct http_conn *conn)
{
	while (conn->sent < conn->response.length) {
		ssize_t sent = send(conn->watch.fd, conn->response.text + conn->sent,
			conn->response.length - conn->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR) {
			continue;
		}
		if (sent < 0 && errno == EAGAIN) {
			loop_watch_change(conn->server->loop, &conn->watch, EPOLLOUT);
			return;
		}
		if (sent < 0) {
			break;
		}
		conn->sent += (size_t)sent;
	}
	/* The end of the stream, then the client's end; else bytes that it still sends would reset
	 * what it has not read. */
	(void)shutdown(conn->watch.fd, SHUT_WR);
	loop_watch_change(conn->server->loop, &conn->watch, EPOLLIN);
}

static const char *status_text(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 503:
		return "Service Unavailable";
	}
	return "Internal Server Error";
}

/* Finds the path in the request line and cuts it out.  The status of a request that cannot be
 * answered, else 200. */
static unsigned parse_request(char *request, const char **ret_path, bool *ret_head)
{
	char *space = strchr(request, ' ');
	char *end = space == NULL ? NULL : strpbrk(space + 1, " \r\n");

	if (end == NULL || strncmp(end, " HTTP/1.", 8) != 0 || space[1] != '/') {
		return 400;
	}
	*space = '\0';
	*end = '\0';
	*ret_head = strcmp(request, "HEAD") == 0;
	*ret_path = space + 1;
	space[1 + strcspn(space + 1, "?#")] = '\0';
	return *ret_head || strcmp(request, "GET") == 0 ? 200 : 405;
}

static void answer(struct http_conn *conn)
{
	const char *type = "text/plain; charset=utf-8";
	const char *path = "";
	struct strbuf body;
	bool is_head = false;
	unsigned status = parse_request(conn->request, &path, &is_head);

	strbuf_init(&body);
	if (status == 200) {
		status = conn->server->get(conn->server->ctx, path, &body, &type);
	} else {
		strbuf_printf(&body, "%s\n", status_text(status));
	}
	strbuf_printf(&conn->response,
		"HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: "
		"close\r\n%s\r\n",
		status, status_text(status), type, body.length,
		status == 405 ? "Allow: GET, HEAD\r\n" : "");
	if (!is_head) {
		strbuf_append(&conn->response, strbuf_text(&body));
	}
	bool failed = strbuf_failed(&body) || strbuf_failed(&conn->response);

	strbuf_done(&body);
	conn->answering = true;
	if (failed) {
		conn_close(conn);
		return;
	}
	send_response(conn);
}

static void receive(struct http_conn *conn)
{
	char scrap[512];
	char *to = conn->answering ? scrap : conn->request + conn->received;
	size_t room = conn->answering ? sizeof(scrap) : REQUEST_BYTES_MAX - conn->received;
	ssize_t got = recv(conn->watch.fd, to, room, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (got <= 0) {
		conn_close(conn);
		return;
	}
	if (conn->answering) {
		return;
	}
	conn->received += (size_t)got;
	conn->request[conn->received] = '\0';
	if (strstr(conn->request, "\r\n\r\n") != NULL || strstr(conn->request, "\n\n") != NULL) {
		answer(conn);
	} else if (conn->received == REQUEST_BYTES_MAX || strlen(conn->request) != conn->received) {
		conn_close(conn);
	}
}

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
	struct http_conn *conn = container_of(watch, struct http_conn, watch);

	if ((events & EPOLLERR) != 0) {
		conn_close(conn);
	} else if ((events & EPOLLOUT) != 0) {
		send_response(conn);
	} else {
		receive(conn);
	}
}

static void conn_new(struct http_server *server, int fd)
{
	struct http_conn *conn =
		server->conn_count < CONNECTIONS_MAX ? calloc(1, sizeof(*conn)) : NULL;

	if (conn == NULL) {
		close(fd);
		return;
	}
	conn->server = server;
	conn->watch.fd = fd;
	conn->watch.events = EPOLLIN;
	conn->watch.ready = conn_ready;
	conn->timeout.expired = timeout_expired;
	strbuf_init(&conn->response);
	list_push_back(&server->conns, &conn->node);
	server->conn_count++;
	if (loop_watch_add(server->loop, &conn->watch) < 0) {
		conn_close(conn);
		return;
	}
	loop_timer_start(server->loop, &conn->timeout, TIMEOUT_MS);
}

static void accept_again(struct loop_timer *timer)
{
	struct http_server *server = container_of(timer, struct http_server, accept_again);

	loop_watch_change(server->loop, &server->listener, EPOLLIN);
}

static void listener_ready(struct loop_watch *watch, uint32_t events)
{
	struct http_server *server = container_of(watch, struct http_server, listener);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		conn_new(server, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		loop_watch_change(server->loop, watch, 0);
		loop_timer_start(server->loop, &server->accept_again, ACCEPT_AGAIN_MS);
	}
}

/* ---- addresses ---- */

static int bind_tcp(struct http_server *server, const char *text, struct err *err)
{
	struct io_address address;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	struct sockaddr_in four = {.sin_family = AF_INET};
	int one = 1;
	int result = daemon_address_parse(text, 0, &address, err);

	if (result < 0) {
		return result;
	}
	bool is_four = inet_pton(AF_INET, address.host, &four.sin_addr) == 1;

	if (!is_four && inet_pton(AF_INET6, address.host, &six.sin6_addr) != 1) {
		return err_set(err, -EINVAL, "%s is no numeric address", address.host);
	}
	four.sin_port = six.sin6_port = htons(address.port);
	server->listener.fd =
		socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct sockaddr *to = is_four ? (const void *)&four : (const void *)&six;
	socklen_t length = is_four ? sizeof(four) : sizeof(six);

	if (server->listener.fd < 0 ||
		setsockopt(server->listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(server->listener.fd, to, length) < 0) {
		return err_set(err, -errno, "listen on %s: %s", text, err_describe(errno));
	}
	/* The port lies at the same place in both. */
	length = sizeof(six);
	if (getsockname(server->listener.fd, (void *)&six, &length) == 0) {
		server->port = ntohs(six.sin6_port);
	}
	return 0;
}

static int bind_unix(struct http_server *server, const char *path, struct err *err)
{
	struct sockaddr_un *address = &server->unix_address;
	struct stat stat_now;

	if (path[0] != '/' || strlen(path) >= sizeof(address->sun_path)) {
		return err_set(err, -EINVAL,
			"unix:%s must be an absolute path of at most %zu characters", path,
			sizeof(address->sun_path) - 1);
	}
	if (lstat(path, &stat_now) == 0 && S_ISSOCK(stat_now.st_mode)) {
		/* The daemon holds the lock of its folders: nobody else may use its sockets. */
		(void)unlink(path);
	}
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, strlen(path) + 1);
	server->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->listener.fd < 0 || fchmod(server->listener.fd, 0660) < 0 ||
		bind(server->listener.fd, (const void *)address, sizeof(*address)) < 0 ||
		chmod(path, 0660) < 0) {
		address->sun_family = 0;
		return err_set(err, -errno, "listen on unix:%s: %s", path, err_describe(errno));
	}
	return 0;
}

int http_server_new(struct loop *loop, const char *address, http_get *get, void *ctx,
	struct http_server **ret_server, struct err *err)
{
	struct http_server *server = calloc(1, sizeof(*server));

	if (server == NULL) {
		return err_set(err, -ENOMEM, "no memory for the HTTP server");
	}
	server->loop = loop;
	server->get = get;
	server->ctx = ctx;
	server->listener.fd = -1;
	server->listener.events = EPOLLIN;
	server->listener.ready = listener_ready;
	server->accept_again.expired = accept_again;
	list_init(&server->conns);
	int result = strncmp(address, "unix:", 5) == 0 ? bind_unix(server, address + 5, err)
						       : bind_tcp(server, address, err);

	if (result == 0 && (listen(server->listener.fd, 128) < 0)) {
		result = err_set(err, -errno, "listen on %s: %s", address, err_describe(errno));
	}
	if (result == 0) {
		result = loop_watch_add(loop, &server->listener);
	}
	if (result < 0) {
		http_server_free(server);
		return result;
	}
	*ret_server = server;
	return 0;
}

void http_server_free(struct http_server *server)
{
	if (server == NULL) {
		return;
	}
	list_for_each_safe (&server->conns, node, following) {
		conn_close(container_of(node, struct http_conn, node));
	}
	loop_timer_stop(&server->accept_again);
	loop_watch_remove(server->loop, &server->listener);
	if (server->listener.fd >= 0) {
		close(server->listener.fd);
	}
	if (server->unix_address.sun_family == AF_UNIX) {
		(void)unlink(server->unix_address.sun_path);
	}
	free(server);
}

uint16_t http_server_port(const struct http_server *server)
{
	return server->port;
}
