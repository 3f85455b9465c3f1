/* SPDX-License-Identifier: Apache-2.0 */
#include "grpc/server_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG  1024
#define ACCEPT_AGAIN_MS 100
#define RECEIVE_BYTES   (8u * 1024)

/* ---- the end ---- */

static void server_free(struct grpc_server *server)
{
	nghttp2_session_callbacks_del(server->callbacks);
	nghttp2_option_del(server->option);
	free(server->path);
	free(server);
}

static void ended_expired(struct loop_timer *timer)
{
	struct grpc_server *server = container_of(timer, struct grpc_server, ended);
	void (*stopped)(void *ctx) = server->stopped;
	void *ctx = server->stopped_ctx;

	loop_timer_stop(&server->grace);
	server_free(server);
	stopped(ctx);
}

void grpc_server_check_stopped(struct grpc_server *server)
{
	if (server->stopping && server->conn_count == 0 && list_is_empty(&server->calls) &&
		!loop_timer_is_running(&server->ended)) {
		loop_timer_start(server->loop, &server->ended, 0);
	}
}

/* ---- connections ---- */

void grpc_conn_close(struct grpc_conn *conn)
{
	struct grpc_server *server = conn->server;

	loop_timer_stop(&conn->first_request);
	loop_timer_stop(&conn->stall);
	loop_watch_remove(server->loop, &conn->watch);
	close(conn->watch.fd);
	list_for_each_safe (&conn->calls, node, following) {
		/* nghttp2 does not close the streams of a session that is deleted. */
		grpc_call_stream_closed(container_of(node, struct grpc_call, conn_node));
	}
	nghttp2_session_del(conn->session);
	list_remove(&conn->node);
	server->conn_count--;
	free(conn);
	grpc_server_check_stopped(server);
}

/* Takes what the session wants to send next.  false: nothing, or the session is broken. */
static bool next_output(struct grpc_conn *conn)
{
	if (conn->out_length == 0) {
		ssize_t length = nghttp2_session_mem_send(conn->session, &conn->out);

		conn->out_length = length > 0 ? (size_t)length : 0;
	}
	return conn->out_length > 0;
}

void grpc_conn_flush(struct grpc_conn *conn)
{
	struct loop *loop = conn->server->loop;

	if (conn->receiving) {
		return;
	}
	while (next_output(conn)) {
		ssize_t sent = send(
			conn->watch.fd, conn->out, conn->out_length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR) {
			continue;
		}
		if (sent < 0 && errno != EAGAIN) {
			grpc_conn_close(conn);
			return;
		}
		if (sent < 0) {
			/* Nothing is read meanwhile: who does not take answers gives no work. */
			loop_watch_change(loop, &conn->watch, EPOLLOUT);
			if (!loop_timer_is_running(&conn->stall)) {
				loop_timer_start(
					loop, &conn->stall, conn->server->options.stall_ms_max);
			}
			return;
		}
		loop_timer_stop(&conn->stall);
		conn->out += sent;
		conn->out_length -= (size_t)sent;
	}
	if (!nghttp2_session_want_read(conn->session) &&
		!nghttp2_session_want_write(conn->session)) {
		grpc_conn_close(conn);
		return;
	}
	loop_watch_change(loop, &conn->watch, EPOLLIN);
}

/* false: the connection is gone. */
static bool receive(struct grpc_conn *conn)
{
	uint8_t buffer[RECEIVE_BYTES];
	ssize_t length = recv(conn->watch.fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
		return true;
	}
	if (length <= 0) {
		grpc_conn_close(conn);
		return false;
	}
	conn->receiving = true;
	ssize_t taken = nghttp2_session_mem_recv(conn->session, buffer, (size_t)length);
	conn->receiving = false;
	if (taken < 0) {
		/* Not HTTP/2 at all, or no memory.  Errors of the protocol are answered by nghttp2
		 * with GOAWAY. */
		grpc_conn_close(conn);
		return false;
	}
	return true;
}

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
	struct grpc_conn *conn = container_of(watch, struct grpc_conn, watch);

	if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
		grpc_conn_close(conn);
		return;
	}
	if ((events & EPOLLIN) != 0 && !receive(conn)) {
		return;
	}
	grpc_conn_flush(conn);
}

static void first_request_expired(struct loop_timer *timer)
{
	grpc_conn_close(container_of(timer, struct grpc_conn, first_request));
}

static void stall_expired(struct loop_timer *timer)
{
	grpc_conn_close(container_of(timer, struct grpc_conn, stall));
}

static int start_session(struct grpc_conn *conn)
{
	const struct grpc_server_options *options = &conn->server->options;
	nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->streams_max},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)options->header_bytes_max},
	};

	if (nghttp2_session_server_new2(
		    &conn->session, conn->server->callbacks, conn, conn->server->option) != 0) {
		return -ENOMEM;
	}
	return nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
		       sizeof(settings) / sizeof(settings[0])) == 0
		       ? 0
		       : -ENOMEM;
}

static bool peer_is_allowed(int fd, pid_t *ret_pid)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
		return false;
	}
	*ret_pid = peer.pid;
	return peer.uid == 0 || peer.uid == geteuid();
}

/* Takes the descriptor. */
static void conn_new(struct grpc_server *server, int fd)
{
	pid_t pid = 0;
	struct grpc_conn *conn = NULL;

	if (server->conn_count >= server->options.connections_max || !peer_is_allowed(fd, &pid)) {
		close(fd);
		return;
	}
	conn = calloc(1, sizeof(*conn));
	if (conn == NULL) {
		close(fd);
		return;
	}
	conn->server = server;
	conn->peer_pid = pid;
	conn->watch.fd = fd;
	conn->watch.events = EPOLLIN;
	conn->watch.ready = conn_ready;
	conn->first_request.expired = first_request_expired;
	conn->stall.expired = stall_expired;
	list_init(&conn->calls);
	list_push_back(&server->conns, &conn->node);
	server->conn_count++;
	if (start_session(conn) < 0 || loop_watch_add(server->loop, &conn->watch) < 0) {
		grpc_conn_close(conn);
		return;
	}
	loop_timer_start(server->loop, &conn->first_request, server->options.request_ms_max);
	grpc_conn_flush(conn);
}

/* ---- the listening socket ---- */

static void accept_again(struct loop_timer *timer)
{
	struct grpc_server *server = container_of(timer, struct grpc_server, accept_again);

	loop_watch_change(server->loop, &server->listener, EPOLLIN);
}

static void listener_ready(struct loop_watch *watch, uint32_t events)
{
	struct grpc_server *server = container_of(watch, struct grpc_server, listener);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		conn_new(server, fd);
		return;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		/* The connection stays in the backlog, so the descriptor stays ready: look away for
		 * a while. */
		loop_watch_change(server->loop, watch, 0);
		loop_timer_start(server->loop, &server->accept_again, ACCEPT_AGAIN_MS);
	}
}

/* 0: nobody answers, -EADDRINUSE, or why it cannot be told. */
static int probe_socket(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return -errno;
	}
	int result =
		connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : -errno;

	close(fd);
	if (result == -ENOENT || result == -ECONNREFUSED) {
		return 0;
	}
	/* EAGAIN: its backlog is full, so somebody listens. */
	return result == 0 || result == -EAGAIN ? -EADDRINUSE : result;
}

static int remove_stale(const struct sockaddr_un *address, struct err *err)
{
	struct stat stat;

	if (lstat(address->sun_path, &stat) < 0) {
		return errno == ENOENT ? 0
				       : err_set(err, -errno, "socket %s: %s", address->sun_path,
						 err_describe(errno));
	}
	if (!S_ISSOCK(stat.st_mode)) {
		return err_set(err, -EEXIST,
			"%s is there and is no socket; remove it or choose another run_dir",
			address->sun_path);
	}
	int result = probe_socket(address);

	if (result == -EADDRINUSE) {
		return err_set(err, result,
			"another process answers on %s; stop it or choose another name",
			address->sun_path);
	}
	if (result < 0) {
		return err_set(
			err, result, "socket %s: %s", address->sun_path, err_describe(result));
	}
	return unlink(address->sun_path) == 0 || errno == ENOENT
		       ? 0
		       : err_set(err, -errno, "remove %s: %s", address->sun_path,
				 err_describe(errno));
}

static int bind_socket(struct grpc_server *server, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat stat;

	if (strlen(server->path) >= sizeof(address.sun_path)) {
		return err_set(err, -ENAMETOOLONG, "socket path %s is longer than %zu characters",
			server->path, sizeof(address.sun_path) - 1);
	}
	memcpy(address.sun_path, server->path, strlen(server->path) + 1);
	int result = remove_stale(&address, err);

	if (result < 0) {
		return result;
	}
	server->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The mode of the descriptor becomes that of the file, from its first moment on. */
	if (server->listener.fd < 0 || fchmod(server->listener.fd, 0600) < 0 ||
		bind(server->listener.fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		lstat(server->path, &stat) < 0 || chmod(server->path, 0600) < 0 ||
		listen(server->listener.fd, LISTEN_BACKLOG) < 0) {
		result = -errno;
		return err_set(err, result, "listen on %s: %s", server->path, err_describe(result));
	}
	server->inode = stat.st_ino;
	server->listener.events = EPOLLIN;
	server->listener.ready = listener_ready;
	result = loop_watch_add(server->loop, &server->listener);
	return result < 0 ? err_set(err, result, "watch %s: %s", server->path, err_describe(result))
			  : 0;
}

static void close_socket(struct grpc_server *server)
{
	struct stat stat;

	loop_timer_stop(&server->accept_again);
	loop_watch_remove(server->loop, &server->listener);
	/* Unless a successor has replaced it already. */
	if (server->inode != 0 && lstat(server->path, &stat) == 0 && stat.st_ino == server->inode) {
		(void)unlink(server->path);
	}
	if (server->listener.fd >= 0) {
		close(server->listener.fd);
		server->listener.fd = -1;
	}
}

/* ---- public ---- */

static void set_defaults(struct grpc_server_options *options)
{
	options->connections_max = options->connections_max ? options->connections_max : 64;
	options->streams_max = options->streams_max ? options->streams_max : 64;
	options->message_bytes_max =
		options->message_bytes_max ? options->message_bytes_max : GRPC_MESSAGE_MAX;
	options->budget_bytes = options->budget_bytes ? options->budget_bytes : 16u * 1024 * 1024;
	options->header_bytes_max =
		options->header_bytes_max ? options->header_bytes_max : 16u * 1024;
	options->request_ms_max = options->request_ms_max ? options->request_ms_max : 10000;
	options->stall_ms_max = options->stall_ms_max ? options->stall_ms_max : 30000;
}

static void grace_expired(struct loop_timer *timer)
{
	struct grpc_server *server = container_of(timer, struct grpc_server, grace);

	list_for_each_safe (&server->conns, node, following) {
		struct grpc_conn *conn = container_of(node, struct grpc_conn, node);

		list_for_each_safe (&conn->calls, call_node, following_call) {
			grpc_call_cancel(container_of(call_node, struct grpc_call, conn_node));
		}
		(void)nghttp2_session_terminate_session(conn->session, NGHTTP2_NO_ERROR);
	}
	/* Sends what the sockets take now; what is left then is not waited for. */
	list_for_each_safe (&server->conns, node, following) {
		grpc_conn_flush(container_of(node, struct grpc_conn, node));
	}
	list_for_each_safe (&server->conns, node, following) {
		grpc_conn_close(container_of(node, struct grpc_conn, node));
	}
	grpc_server_check_stopped(server);
}

int grpc_server_new(struct loop *loop, const struct grpc_server_options *options,
	struct grpc_server **ret_server, struct err *err)
{
	struct grpc_server *server = calloc(1, sizeof(*server));

	if (server == NULL) {
		return err_set(err, -ENOMEM, "no memory for the gRPC server");
	}
	server->loop = loop;
	server->options = *options;
	set_defaults(&server->options);
	server->listener.fd = -1;
	server->accept_again.expired = accept_again;
	server->grace.expired = grace_expired;
	server->ended.expired = ended_expired;
	list_init(&server->conns);
	list_init(&server->calls);
	server->path = strdup(options->socket_path);
	int result = server->path == NULL ? -ENOMEM : grpc_session_setup(server);

	if (result < 0) {
		(void)err_set(err, result, "no memory for the gRPC server");
	} else {
		result = bind_socket(server, err);
	}
	if (result < 0) {
		close_socket(server);
		server_free(server);
		return result;
	}
	*ret_server = server;
	return 0;
}

void grpc_server_stop(
	struct grpc_server *server, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx)
{
	server->stopped = stopped;
	server->stopped_ctx = ctx;
	loop_timer_start(server->loop, &server->grace, grace_ms);
	if (server->stopping) {
		return;
	}
	server->stopping = true;
	close_socket(server);
	list_for_each_safe (&server->conns, node, following) {
		struct grpc_conn *conn = container_of(node, struct grpc_conn, node);

		/* terminate_session() would drop the calls in flight as soon as the frame is
		 * written. */
		(void)nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
			nghttp2_session_get_last_proc_stream_id(conn->session), NGHTTP2_NO_ERROR,
			NULL, 0);
		grpc_conn_flush(conn);
	}
	grpc_server_check_stopped(server);
}
