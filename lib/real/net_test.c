/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of the loop over loopback: echo with random sizes and tiny buffers, closing in flight,
 * running out of descriptors. */
#include "real/env_test.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_MAX (3u * 1024 * 1024)
#define CHUNK_MAX  65536u

struct fixture {
	struct real *real;
	struct io *io;
	struct io_listener listener;
	struct rng rng;
	struct task stop_task;
	struct server *servers[4];
	unsigned server_count;
};

static void stop_step(struct task *task)
{
	real_stop(container_of(task, struct fixture, stop_task)->real);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct err err;

	assert_non_null(fixture);
	assert_int_equal(way_new(*state, &fixture->real, &err), 0);
	fixture->io = real_io(fixture->real);
	rng_init(&fixture->rng, 11);
	task_init(&fixture->stop_task, &fixture->io->runq, stop_step);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	real_free(fixture->real);
	free(fixture);
	return 0;
}

/* ---- an echo server ---------------------------------------------------------------------------
 */

struct server {
	struct fixture *fixture;
	struct io_conn *conn;
	struct io_recv recv;
	struct io_send send;
	struct iovec iov[3];
	bool closed;
	unsigned char chunk[CHUNK_MAX];
};

static void server_receive(struct server *server)
{
	/* Two pieces, not alike. */
	size_t first = rng_below(&server->fixture->rng, 1000) + 1;

	server->recv.iov[0] = (struct iovec){.iov_base = server->chunk, .iov_len = first};
	server->recv.iov[1] =
		(struct iovec){.iov_base = server->chunk + first, .iov_len = CHUNK_MAX - first};
	server->recv.iov_count = 2;
	io_conn_recv(server->conn, &server->recv);
}

static void server_received(struct io_recv *recv)
{
	struct server *server = recv->ctx;

	if (recv->result <= 0) {
		if (recv->result != -ECANCELED) {
			io_conn_close(server->conn);
		}
		return;
	}
	size_t length = (size_t)recv->result;
	size_t third = length / 3;

	/* An empty entry in the middle, too. */
	server->iov[0] = (struct iovec){.iov_base = server->chunk, .iov_len = third};
	server->iov[1] = (struct iovec){.iov_base = server->chunk + third, .iov_len = 0};
	server->iov[2] =
		(struct iovec){.iov_base = server->chunk + third, .iov_len = length - third};
	server->send.iov = server->iov;
	server->send.iov_count = 3;
	io_conn_send(server->conn, &server->send);
}

static void server_sent(struct io_send *send)
{
	struct server *server = send->ctx;

	if (send->result == 0) {
		server_receive(server);
	} else if (send->result != -ECANCELED) {
		io_conn_close(server->conn);
	}
}

static void server_closed(struct io_conn *conn)
{
	struct server *server = conn->ctx;

	server->closed = true;
	task_wake(&server->fixture->stop_task);
}

/* A connection's socket, found by its two ends. */
static int socket_of(const struct io_conn *conn)
{
	for (int fd = 0; fd < 1024; fd++) {
		struct sockaddr_storage at;
		socklen_t length = sizeof(at);
		struct io_address local, peer;

		if (getsockname(fd, (struct sockaddr *)(void *)&at, &length) != 0) {
			continue;
		}
		real_address_from_sockaddr(&at, &local);
		length = sizeof(at);
		if (getpeername(fd, (struct sockaddr *)(void *)&at, &length) != 0) {
			continue;
		}
		real_address_from_sockaddr(&at, &peer);
		if (local.port == conn->local.port && peer.port == conn->peer.port) {
			return fd;
		}
	}
	fail();
	return -1;
}

/* So that sends are partial.  A small buffer for receiving would make TCP wait 200 ms for a window,
 * again and again. */
static void set_small_buffers(struct io_conn *conn)
{
	int bytes = 4096;

	(void)setsockopt(socket_of(conn), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void server_accepted(struct io_listener *listener, struct io_conn *conn)
{
	struct fixture *fixture = listener->ctx;
	struct server *server = calloc(1, sizeof(*server));

	assert_non_null(server);
	assert_string_equal(conn->peer.host, "127.0.0.1");
	fixture->servers[fixture->server_count++] = server;
	server->fixture = fixture;
	server->conn = conn;
	server->recv.done = server_received;
	server->recv.ctx = server;
	server->send.done = server_sent;
	server->send.ctx = server;
	conn->ctx = server;
	conn->closed = server_closed;
	set_small_buffers(conn);
	server_receive(server);
}

static void listen_on_loopback(struct fixture *fixture)
{
	struct err err;

	fixture->listener = (struct io_listener){
		.address = {.host = "127.0.0.1"}, .accepted = server_accepted, .ctx = fixture};
	assert_int_equal(io_listen(fixture->io, &fixture->listener, &err), 0);
	assert_int_not_equal(fixture->listener.address.port, 0);
}

/* Runs until every server has seen its connection closed. */
static void finish_servers(struct fixture *fixture)
{
	for (unsigned i = 0; i < fixture->server_count; i++) {
		while (!fixture->servers[i]->closed) {
			real_run(fixture->real);
		}
		free(fixture->servers[i]);
	}
	fixture->server_count = 0;
}

/* ---- a client ---------------------------------------------------------------------------------
 */

struct client {
	struct fixture *fixture;
	struct io_connect connect;
	struct io_conn *conn;
	struct io_send send;
	struct io_recv recv;
	struct iovec iov[IO_IOV_MAX];
	unsigned char *out, *in;
	size_t sent, received, in_send;
	bool sends_done, recv_done, closed, close_in_recv;
};

static void client_connected(struct io_connect *connect)
{
	struct client *client = connect->ctx;

	client->conn = connect->conn;
	task_wake(&client->fixture->stop_task);
}

static void client_closed(struct io_conn *conn)
{
	struct client *client = conn->ctx;

	client->closed = true;
	task_wake(&client->fixture->stop_task);
}

static void client_connect(struct client *client, struct fixture *fixture)
{
	*client = (struct client){.fixture = fixture};
	client->connect.to = fixture->listener.address;
	client->connect.timeout_ns = 5 * IO_NS_PER_S;
	client->connect.done = client_connected;
	client->connect.ctx = client;
	io_connect(fixture->io, &client->connect);
	real_run(fixture->real);
	assert_int_equal(client->connect.result, 0);
	client->conn->ctx = client;
	client->conn->closed = client_closed;
	set_small_buffers(client->conn);
}

static void client_send_more(struct client *client)
{
	struct rng *rng = &client->fixture->rng;
	size_t left = STREAM_MAX - client->sent;
	unsigned count = (unsigned)rng_below(rng, IO_IOV_MAX) + 1;
	unsigned char *at = client->out + client->sent;

	client->in_send = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t length = rng_below(rng, rng_percent(rng, 10) ? 100000 : 300);

		length = length < left ? length : left;
		client->iov[i] = (struct iovec){.iov_base = at, .iov_len = length};
		at += length;
		left -= length;
		client->in_send += length;
	}
	client->send.iov = client->iov;
	client->send.iov_count = count;
	io_conn_send(client->conn, &client->send);
}

static void client_sent(struct io_send *send)
{
	struct client *client = send->ctx;

	assert_int_equal(send->result, 0);
	client->sent += client->in_send;
	if (client->sent < STREAM_MAX) {
		client_send_more(client);
	}
}

static void client_receive(struct client *client)
{
	size_t left = STREAM_MAX - client->received;

	client->recv.iov[0] = (struct iovec){.iov_base = client->in + client->received,
		.iov_len = rng_below(&client->fixture->rng, left) + 1};
	client->recv.iov_count = 1;
	io_conn_recv(client->conn, &client->recv);
}

static void client_received(struct io_recv *recv)
{
	struct client *client = recv->ctx;

	assert_true(recv->result > 0);
	client->received += (size_t)recv->result;
	if (client->received < STREAM_MAX) {
		client_receive(client);
	} else {
		task_wake(&client->fixture->stop_task);
	}
}

static void client_close(struct client *client)
{
	io_conn_close(client->conn);
	assert_false(client->closed);
	while (!client->closed) {
		real_run(client->fixture->real);
	}
}

static void test_echo(void **state)
{
	struct fixture *fixture = *state;
	struct client client;

	listen_on_loopback(fixture);
	client_connect(&client, fixture);
	client.out = malloc(STREAM_MAX);
	client.in = calloc(1, STREAM_MAX);
	assert_true(client.out != NULL && client.in != NULL);
	for (size_t i = 0; i < STREAM_MAX; i += 8) {
		le64_put(client.out + i, rng_u64(&fixture->rng));
	}
	client.send.done = client_sent;
	client.send.ctx = &client;
	client.recv.done = client_received;
	client.recv.ctx = &client;
	client_send_more(&client);
	client_receive(&client);
	while (client.received < STREAM_MAX) {
		real_run(fixture->real);
	}
	assert_memory_equal(client.out, client.in, STREAM_MAX);
	client_close(&client);
	finish_servers(fixture);
	io_unlisten(fixture->io, &fixture->listener);
	free(client.out);
	free(client.in);
}

/* ---- closing ----------------------------------------------------------------------------------
 */

static void blocked_send_done(struct io_send *send)
{
	struct client *client = send->ctx;

	assert_false(client->closed);
	client->sends_done = true;
}

static void blocked_recv_done(struct io_recv *recv)
{
	struct client *client = recv->ctx;

	assert_false(client->closed);
	client->recv_done = true;
	if (client->close_in_recv) {
		io_conn_close(client->conn);
	}
}

/* With a send that cannot go on and a receive that gets nothing, submitted `turns` turns before the
 * close. */
static void close_in_flight(struct fixture *fixture, unsigned turns)
{
	struct client client;
	unsigned char byte;
	unsigned char *out = calloc(1, 64 * STREAM_MAX);

	assert_non_null(out);
	client_connect(&client, fixture);
	struct iovec iov[2] = {{.iov_base = out, .iov_len = 32 * STREAM_MAX},
		{.iov_base = out, .iov_len = 32 * STREAM_MAX}};

	client.send = (struct io_send){
		.iov = iov, .iov_count = 2, .done = blocked_send_done, .ctx = &client};
	client.recv = (struct io_recv){.iov[0] = {.iov_base = &byte, .iov_len = 1},
		.iov_count = 1,
		.done = blocked_recv_done,
		.ctx = &client};
	io_conn_send(client.conn, &client.send);
	io_conn_recv(client.conn, &client.recv);
	for (unsigned i = 0; i < turns; i++) {
		task_wake(&fixture->stop_task);
		real_run(fixture->real);
	}
	bool recv_was_done = client.recv_done;

	client_close(&client);
	assert_true(client.sends_done && client.recv_done);
	assert_int_equal(client.send.result, -ECANCELED);
	if (!recv_was_done) {
		assert_true(client.recv.result == -ECANCELED || client.recv.result == 1);
	}
	finish_servers(fixture);
	free(out);
}

static void test_close_in_flight(void **state)
{
	struct fixture *fixture = *state;

	listen_on_loopback(fixture);
	for (unsigned turns = 0; turns < 6; turns++) {
		close_in_flight(fixture, turns);
	}
	io_unlisten(fixture->io, &fixture->listener);
}

static void test_close_within_done(void **state)
{
	struct fixture *fixture = *state;
	struct client client;
	unsigned char byte;

	listen_on_loopback(fixture);
	client_connect(&client, fixture);
	client.close_in_recv = true;
	client.recv = (struct io_recv){.iov[0] = {.iov_base = &byte, .iov_len = 1},
		.iov_count = 1,
		.done = blocked_recv_done,
		.ctx = &client};
	io_conn_recv(client.conn, &client.recv);
	while (fixture->server_count == 0) {
		task_wake(&fixture->stop_task);
		real_run(fixture->real);
	}
	(void)shutdown(socket_of(fixture->servers[0]->conn), SHUT_WR);
	while (!client.closed) {
		real_run(fixture->real);
	}
	assert_int_equal(client.recv.result, 0);
	finish_servers(fixture);
	io_unlisten(fixture->io, &fixture->listener);
}

/* The end of the stream is seen when it comes with the last bytes, before anybody looked, and when
 * it comes later. */
static void test_end_behind_bytes(void **state)
{
	struct fixture *fixture = *state;

	listen_on_loopback(fixture);
	for (unsigned turns = 0; turns < 8; turns++) {
		struct sockaddr_in at = {.sin_family = AF_INET,
			.sin_port = htons(fixture->listener.address.port),
			.sin_addr = {htonl(INADDR_LOOPBACK)}};
		int raw = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		char bytes[300] = "";

		assert_int_equal(connect(raw, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
		assert_int_equal(write(raw, bytes, sizeof(bytes)), sizeof(bytes));
		for (unsigned i = 0; i < turns; i++) {
			task_wake(&fixture->stop_task);
			real_run(fixture->real);
		}
		assert_int_equal(shutdown(raw, SHUT_WR), 0);
		while (fixture->server_count == 0) {
			task_wake(&fixture->stop_task);
			real_run(fixture->real);
		}
		finish_servers(fixture);
		assert_int_equal(recv(raw, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
		close(raw);
	}
	io_unlisten(fixture->io, &fixture->listener);
}

/* ---- failures ---------------------------------------------------------------------------------
 */

static int connect_result(struct fixture *fixture, struct io_address to, uint64_t timeout_ns)
{
	struct client client = {.fixture = fixture};

	client.connect = (struct io_connect){.to = to,
		.timeout_ns = timeout_ns,
		.done = client_connected,
		.ctx = &client,
		.result = 1};
	io_connect(fixture->io, &client.connect);
	assert_int_equal(client.connect.result < 0 ? 1 : client.connect.result, 1);
	real_run(fixture->real);
	assert_null(client.conn);
	return client.connect.result;
}

static void test_connect_fails(void **state)
{
	struct fixture *fixture = *state;
	struct io_address to;

	listen_on_loopback(fixture);
	to = fixture->listener.address;
	io_unlisten(fixture->io, &fixture->listener);
	assert_int_equal(connect_result(fixture, to, IO_NS_PER_S), -ECONNREFUSED);
	snprintf(to.host, sizeof(to.host), "localhost");
	assert_int_equal(connect_result(fixture, to, IO_NS_PER_S), -EINVAL);

	/* The port can be taken again at once. */
	struct io_listener again = {.address = {.host = "127.0.0.1", .port = to.port},
		.accepted = server_accepted,
		.ctx = fixture};
	struct io_listener twice = again;
	struct err err;

	assert_int_equal(io_listen(fixture->io, &again, &err), 0);
	assert_int_equal(io_listen(fixture->io, &twice, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "127.0.0.1:"));
	io_unlisten(fixture->io, &again);
}

static void test_connect_times_out(void **state)
{
	struct fixture *fixture = *state;
	/* A listener whose queue is full answers nothing. */
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(at);
	int fillers[4];

	assert_int_equal(bind(fd, (struct sockaddr *)(void *)&at, length), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&at, &length), 0);
	for (unsigned i = 0; i < 4; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(fillers[i], (struct sockaddr *)(void *)&at, length);
	}
	struct io_address to = {.host = "127.0.0.1", .port = ntohs(at.sin_port)};

	assert_int_equal(connect_result(fixture, to, 50 * IO_NS_PER_MS), -ETIMEDOUT);
	for (unsigned i = 0; i < 4; i++) {
		close(fillers[i]);
	}
	close(fd);
}

/* Without descriptors the listener neither spins nor dies: it accepts when there is one again. */
static void test_accept_survives_emfile(void **state)
{
	struct fixture *fixture = *state;
	struct rlimit limit, low;
	struct io_timer timer;
	int raw = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	listen_on_loopback(fixture);
	struct sockaddr_in at = {.sin_family = AF_INET,
		.sin_port = htons(fixture->listener.address.port),
		.sin_addr = {htonl(INADDR_LOOPBACK)}};

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(connect(raw, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
	io_timer_init(&timer, fixture->io, &fixture->stop_task);
	io_timer_start_after(&timer, 350 * IO_NS_PER_MS);
	uint64_t turns = metric_get(&fixture->real->metrics.turns);

	while (io_timer_is_running(&timer)) {
		real_run(fixture->real);
	}
	turns = metric_get(&fixture->real->metrics.turns) - turns;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(fixture->server_count, 0);
	assert_true(turns < 30);
	while (fixture->server_count == 0) {
		io_timer_start_after(&timer, 10 * IO_NS_PER_MS);
		real_run(fixture->real);
	}
	io_timer_stop(&timer);
	close(raw);
	finish_servers(fixture);
	io_unlisten(fixture->io, &fixture->listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_echo, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close_in_flight, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close_within_done, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_behind_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_connect_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_connect_times_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_accept_survives_emfile, set_up, tear_down),
	};

	return run_in_all_ways(tests, ARRAY_COUNT(tests));
}
