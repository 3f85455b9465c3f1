/* SPDX-License-Identifier: Apache-2.0 */
#include "api/strake.pb-c.h"
#include "base/bytes.h"
#include "base/testing.h"
#include "grpc/internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- a server on a thread of its own ---- */

struct fixture {
	char folder[64];
	char path[96];
	struct loop *loop;
	struct grpc_server *server;
	pthread_t thread;
	atomic_uint running;   /* calls in handlers */
	atomic_uint cancelled; /* of them seen as cancelled when they ended */
	struct loop_msg stop;
	unsigned grace_ms;
};

/* Answers by the name: "echo" at once, "fail" with an error, "slow" after a while, "huge" with 5
 * MiB, "latin" with what is not UTF-8. */
struct slow_call {
	struct loop_timer timer;
	struct grpc_call *call;
	struct fixture *fixture;
};

static void reply_name(struct grpc_call *call, const char *name)
{
	Strake__V1__Volume volume = STRAKE__V1__VOLUME__INIT;

	volume.name = (char *)(uintptr_t)name;
	volume.size_bytes = UINT64_MAX;
	grpc_call_reply(call, &volume.base);
}

static void slow_expired(struct loop_timer *timer)
{
	struct slow_call *slow = container_of(timer, struct slow_call, timer);

	atomic_fetch_add(&slow->fixture->cancelled, grpc_call_is_cancelled(slow->call));
	atomic_fetch_sub(&slow->fixture->running, 1);
	reply_name(slow->call, "slow");
	free(slow);
}

static void open_volume(struct grpc_call *call, const ProtobufCMessage *message)
{
	const Strake__V1__OpenVolumeRequest *request = (const void *)message;
	struct fixture *fixture = grpc_call_ctx(call);

	if (strcmp(request->name, "fail") == 0) {
		grpc_call_failf(
			call, -EBUSY, "volume \"%s\" is open at 100%%\nclose it: ü", request->name);
	} else if (strncmp(request->name, "slow", 4) == 0) {
		struct slow_call *slow = calloc(1, sizeof(*slow));

		slow->timer.expired = slow_expired;
		slow->call = call;
		slow->fixture = fixture;
		atomic_fetch_add(&fixture->running, 1);
		loop_timer_start(fixture->loop, &slow->timer, (uint64_t)atoi(request->name + 4));
	} else if (strcmp(request->name, "huge") == 0) {
		char *text = malloc(5 * 1024 * 1024);

		memset(text, 'x', 5 * 1024 * 1024);
		text[5 * 1024 * 1024 - 1] = '\0';
		reply_name(call, text);
		free(text);
	} else if (strcmp(request->name, "latin") == 0) {
		reply_name(call, "\xe4");
	} else {
		reply_name(call, request->name);
	}
}

static const struct grpc_method methods[] = {
	{"/strake.v1.Nexus/OpenVolume", &strake__v1__open_volume_request__descriptor,
		&strake__v1__volume__descriptor, open_volume},
};

static const struct grpc_method unknown_method = {"/strake.v1.Nexus/Fly",
	&strake__v1__open_volume_request__descriptor, &strake__v1__volume__descriptor, NULL};

static void server_stopped(void *ctx)
{
	struct fixture *fixture = ctx;

	loop_stop(fixture->loop);
}

static void stop_run(struct loop_msg *msg)
{
	struct fixture *fixture = container_of(msg, struct fixture, stop);

	grpc_server_stop(fixture->server, fixture->grace_ms, server_stopped, fixture);
}

static void *serve(void *ctx)
{
	struct fixture *fixture = ctx;

	loop_run(fixture->loop);
	return NULL;
}

static void start_with(struct fixture *fixture, struct grpc_server_options options)
{
	struct err err = {0};

	memset(fixture, 0, sizeof(*fixture));
	(void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/grpc_test.XXXXXX");
	assert_non_null(mkdtemp(fixture->folder));
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->folder);
	fixture->stop.run = stop_run;
	assert_int_equal(loop_new(&fixture->loop, &err), 0);
	options.socket_path = fixture->path;
	options.methods = methods;
	options.method_count = ARRAY_COUNT(methods);
	options.ctx = fixture;
	if (grpc_server_new(fixture->loop, &options, &fixture->server, &err) < 0) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(pthread_create(&fixture->thread, NULL, serve, fixture), 0);
}

static void start(struct fixture *fixture)
{
	start_with(fixture, (struct grpc_server_options){0});
}

/* The server must be well at the end of every test: it stops, with every call answered. */
static void stop(struct fixture *fixture)
{
	struct stat stat_now;

	fixture->grace_ms = 2000;
	loop_post(fixture->loop, &fixture->stop);
	pthread_join(fixture->thread, NULL);
	loop_free(fixture->loop);
	assert_int_equal(stat(fixture->path, &stat_now), -1);
	assert_int_equal(rmdir(fixture->folder), 0);
}

static struct grpc_client *client_of(const struct fixture *fixture)
{
	struct grpc_client *client = NULL;
	struct err err = {0};

	if (grpc_client_new(fixture->path, 5000, &client, &err) < 0) {
		fail_msg("%s", err.text);
	}
	return client;
}

/* 0 and the name that came back equals, or the error's code. */
static int call_name(
	struct grpc_client *client, const char *name, unsigned timeout_ms, struct err *err)
{
	Strake__V1__OpenVolumeRequest request = STRAKE__V1__OPEN_VOLUME_REQUEST__INIT;
	ProtobufCMessage *response = NULL;

	request.name = (char *)(uintptr_t)name;
	int result =
		grpc_client_call(client, &methods[0], &request.base, timeout_ms, &response, err);

	if (result == 0) {
		const Strake__V1__Volume *volume = (const void *)response;

		result = strncmp(volume->name, name, 4) == 0 && volume->size_bytes == UINT64_MAX
				 ? 0
				 : 1;
		protobuf_c_message_free_unpacked(response, NULL);
	}
	return result;
}

static void assert_serves(const struct fixture *fixture)
{
	struct grpc_client *client = client_of(fixture);
	struct err err = {0};

	if (call_name(client, "well", 20000, &err) != 0) {
		fail_msg("the server does not serve: %s", err.text);
	}
	grpc_client_free(client);
}

static int raw_connect(const struct fixture *fixture)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, fixture->path, strlen(fixture->path) + 1);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Reads until the server closes; fails when it does not within 20 s. */
static void assert_closed_by_server(int fd)
{
	char buffer[4096];

	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

		assert_int_equal(poll(&poll_fd, 1, 20000), 1);
		if (read(fd, buffer, sizeof(buffer)) <= 0) {
			close(fd);
			return;
		}
	}
}

/* ---- tests ---- */

static void test_round_trips(void **state)
{
	struct fixture fixture;
	struct err err = {0};

	(void)state;
	start(&fixture);
	struct grpc_client *client = client_of(&fixture);

	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(call_name(client, "data", 20000, &err), 0);
	}
	assert_int_equal(call_name(client, "slow20", 20000, &err), 0);
	/* A missing field is an empty string. */
	assert_int_equal(call_name(client, "", 20000, &err), 0);
	grpc_client_free(client);
	stop(&fixture);
}

static void test_large_request(void **state)
{
	struct fixture fixture;
	struct err err = {0};
	size_t length = 3 * 1024 * 1024;
	char *name = malloc(2 * length);

	(void)state;
	start(&fixture);
	struct grpc_client *client = client_of(&fixture);

	memset(name, 'y', 2 * length);
	name[length] = '\0';
	assert_int_equal(call_name(client, name, 20000, &err), 0);
	free(name);
	grpc_client_free(client);
	stop(&fixture);
}

static void test_errors_come_with_their_text(void **state)
{
	struct fixture fixture;
	struct err err = {0};
	ProtobufCMessage *response = NULL;
	Strake__V1__OpenVolumeRequest request = STRAKE__V1__OPEN_VOLUME_REQUEST__INIT;

	(void)state;
	start(&fixture);
	struct grpc_client *client = client_of(&fixture);

	assert_int_equal(call_name(client, "fail", 20000, &err), -EBUSY);
	assert_string_equal(err.text, "volume \"fail\" is open at 100%\nclose it: ü");
	assert_int_equal(
		call_name(client, "latin", 20000, &err), grpc_code_to_errno(GRPC_DATA_LOSS));
	assert_int_equal(call_name(client, "huge", 20000, &err), -ENOSPC);
	assert_int_equal(
		grpc_client_call(client, &unknown_method, &request.base, 20000, &response, &err),
		-EOPNOTSUPP);
	assert_non_null(strstr(err.text, "/strake.v1.Nexus/Fly"));
	assert_int_equal(call_name(client, "data", 20000, &err), 0);
	/* The client refuses to send what no server could read. */
	assert_int_equal(call_name(client, "\xff", 20000, &err), -EBADMSG);
	grpc_client_free(client);
	stop(&fixture);
}

static void test_no_server(void **state)
{
	struct grpc_client *client = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(grpc_client_new("/tmp/grpc_test.none", 1000, &client, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/tmp/grpc_test.none"));
}

static void test_request_over_the_limit(void **state)
{
	struct fixture fixture;
	struct err err = {0};

	(void)state;
	start_with(&fixture,
		(struct grpc_server_options){.message_bytes_max = 1000, .header_bytes_max = 4096});
	struct grpc_client *client = client_of(&fixture);
	char name[3000];

	memset(name, 'z', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(call_name(client, name, 20000, &err), -ENOSPC);
	assert_int_equal(call_name(client, "data", 20000, &err), 0);
	grpc_client_free(client);
	stop(&fixture);
}

static void test_budget_is_given_back(void **state)
{
	struct fixture fixture;
	struct err err = {0};
	char name[1000];

	(void)state;
	start_with(&fixture, (struct grpc_server_options){.budget_bytes = 3000});
	struct grpc_client *client = client_of(&fixture);

	memset(name, 'b', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(call_name(client, name, 20000, &err), 0);
		assert_int_equal(call_name(client, "fail", 20000, &err), -EBUSY);
	}
	grpc_client_free(client);
	stop(&fixture);
}

static void test_deadline(void **state)
{
	struct fixture fixture;
	struct err err = {0};

	(void)state;
	start(&fixture);
	struct grpc_client *client = client_of(&fixture);

	assert_int_equal(call_name(client, "slow500", 50, &err), -ETIMEDOUT);
	/* The same client goes on. */
	assert_int_equal(call_name(client, "data", 20000, &err), 0);
	grpc_client_free(client);
	stop(&fixture);
	assert_int_equal(fixture.cancelled, 1);
}

static void test_client_goes_away_in_a_call(void **state)
{
	struct fixture fixture;
	struct err err = {0};

	(void)state;
	start(&fixture);
	for (unsigned i = 0; i < 8; i++) {
		struct grpc_client *client = client_of(&fixture);

		assert_int_equal(call_name(client, "slow300", 10, &err), -ETIMEDOUT);
		grpc_client_free(client);
	}
	assert_serves(&fixture);
	stop(&fixture);
	assert_int_equal(fixture.running, 0);
}

static void test_garbage_is_dropped(void **state)
{
	struct fixture fixture;
	static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

	(void)state;
	start(&fixture);
	int fd = raw_connect(&fixture);

	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	assert_closed_by_server(fd);
	/* The right preface, then a frame of an impossible length. */
	fd = raw_connect(&fixture);
	assert_int_equal(write(fd, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN),
		NGHTTP2_CLIENT_MAGIC_LEN);
	assert_int_equal(write(fd, "\xff\xff\xff\x01\x04\0\0\0\x01", 9), 9);
	assert_closed_by_server(fd);
	assert_serves(&fixture);
	stop(&fixture);
}

static void test_half_open_clients_are_dropped(void **state)
{
	struct fixture fixture;
	int fds[20];

	(void)state;
	start_with(&fixture, (struct grpc_server_options){.request_ms_max = 200});
	for (unsigned i = 0; i < ARRAY_COUNT(fds); i++) {
		fds[i] = raw_connect(&fixture);
		if (i % 2 == 0) {
			assert_int_equal(write(fds[i], NGHTTP2_CLIENT_MAGIC, 10), 10);
		}
	}
	assert_serves(&fixture);
	for (unsigned i = 0; i < ARRAY_COUNT(fds); i++) {
		assert_closed_by_server(fds[i]);
	}
	assert_serves(&fixture);
	stop(&fixture);
}

static void test_connections_above_the_limit_are_refused(void **state)
{
	struct fixture fixture;

	(void)state;
	start_with(&fixture, (struct grpc_server_options){.connections_max = 2});
	int first = raw_connect(&fixture);
	int second = raw_connect(&fixture);

	assert_closed_by_server(raw_connect(&fixture));
	close(first);
	close(second);
	stop(&fixture);
}

/* ---- 16 clients at once ---- */

static void *client_thread(void *ctx)
{
	const struct fixture *fixture = ctx;
	struct grpc_client *client = NULL;
	struct err err = {0};
	uintptr_t failures = 0;

	if (grpc_client_new(fixture->path, 10000, &client, &err) < 0) {
		return (void *)1000;
	}
	for (unsigned i = 0; i < 50; i++) {
		failures += call_name(client, i % 10 == 0 ? "slow5" : "data", 20000, &err) != 0;
		failures += call_name(client, "fail", 20000, &err) != -EBUSY;
	}
	grpc_client_free(client);
	return (void *)failures;
}

static void test_parallel_clients(void **state)
{
	struct fixture fixture;
	pthread_t threads[16];

	(void)state;
	start(&fixture);
	for (unsigned i = 0; i < ARRAY_COUNT(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, client_thread, &fixture), 0);
	}
	for (unsigned i = 0; i < ARRAY_COUNT(threads); i++) {
		void *failures;

		pthread_join(threads[i], &failures);
		assert_null(failures);
	}
	stop(&fixture);
}

/* ---- stopping ---- */

static void *slow_thread(void *ctx)
{
	const struct fixture *fixture = ctx;
	struct grpc_client *client = client_of(fixture);
	struct err err = {0};
	int result = call_name(client, "slow200", 20000, &err);

	grpc_client_free(client);
	return (void *)(intptr_t)result;
}

static void test_stop_lets_the_call_in_flight_end(void **state)
{
	struct fixture fixture;
	pthread_t thread;
	void *result;

	(void)state;
	start(&fixture);
	assert_int_equal(pthread_create(&thread, NULL, slow_thread, &fixture), 0);
	while (atomic_load(&fixture.running) == 0) {
		usleep(1000);
	}
	stop(&fixture);
	pthread_join(thread, &result);
	assert_null(result);
}

static void test_socket_in_use_and_stale(void **state)
{
	struct fixture fixture;
	struct err err = {0};
	struct grpc_server *server = NULL;
	struct loop *loop = NULL;
	struct stat stat_now;

	(void)state;
	start(&fixture);
	struct grpc_server_options options = {.socket_path = fixture.path,
		.methods = methods,
		.method_count = ARRAY_COUNT(methods)};

	assert_int_equal(stat(fixture.path, &stat_now), 0);
	assert_int_equal(stat_now.st_mode & 0777, 0600);
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(grpc_server_new(loop, &options, &server, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, fixture.path));
	stop(&fixture);
	/* What a killed server leaves behind. */
	assert_int_equal(mkdir(fixture.folder, 0700), 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(address.sun_path, fixture.path, strlen(fixture.path) + 1);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(grpc_server_new(loop, &options, &server, &err), 0);
	struct fixture stopped = {.loop = loop};

	grpc_server_stop(server, 0, server_stopped, &stopped);
	loop_run(loop);
	loop_free(loop);
	/* A file that is no socket is not ours to remove. */
	FILE *file = fopen(fixture.path, "w");

	assert_non_null(file);
	(void)fclose(file);
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(grpc_server_new(loop, &options, &server, &err), -EEXIST);
	loop_free(loop);
	assert_int_equal(unlink(fixture.path), 0);
	assert_int_equal(rmdir(fixture.folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_large_request),
		cmocka_unit_test(test_errors_come_with_their_text),
		cmocka_unit_test(test_no_server),
		cmocka_unit_test(test_request_over_the_limit),
		cmocka_unit_test(test_budget_is_given_back),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_client_goes_away_in_a_call),
		cmocka_unit_test(test_garbage_is_dropped),
		cmocka_unit_test(test_half_open_clients_are_dropped),
		cmocka_unit_test(test_connections_above_the_limit_are_refused),
		cmocka_unit_test(test_parallel_clients),
		cmocka_unit_test(test_stop_lets_the_call_in_flight_end),
		cmocka_unit_test(test_socket_in_use_and_stale),
	};

	return cmocka_run_group_tests_name("grpc", tests, NULL, NULL);
}
