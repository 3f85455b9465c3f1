/* SPDX-License-Identifier: Apache-2.0 */
/* Files, the HTTP server, the reactor and the frame of a daemon. */
#include "base/bytes.h"
#include "base/testing.h"
#include "daemon/daemon.h"
#include "daemon/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder {
	char path[64];
};

static void folder_new(struct folder *folder)
{
	(void)snprintf(folder->path, sizeof(folder->path), "/tmp/daemon_test.XXXXXX");
	assert_non_null(mkdtemp(folder->path));
}

static const char *in(const struct folder *folder, const char *name, char path[256])
{
	(void)snprintf(path, 256, "%s/%s", folder->path, name);
	return path;
}

/* ---- files ---- */

static void test_file_replace_and_read(void **state)
{
	struct folder folder;
	char path[256], temporary[256];
	struct err err = {0};
	struct strbuf text;
	struct stat stat_now;

	(void)state;
	folder_new(&folder);
	in(&folder, "a.json", path);
	strbuf_init(&text);
	assert_int_equal(file_read(path, 100, &text, &err), -ENOENT);
	assert_int_equal(file_replace(path, "one", 3, &err), 0);
	assert_int_equal(file_replace(path, "two two", 7, &err), 0);
	assert_int_equal(file_read(path, 100, &text, &err), 0);
	assert_string_equal(strbuf_text(&text), "two two");
	assert_int_equal(stat(in(&folder, "a.json.tmp", temporary), &stat_now), -1);
	assert_int_equal(file_read(path, 6, &text, &err), -EFBIG);
	strbuf_done(&text);
	assert_int_equal(file_remove(path, &err), 0);
	assert_int_equal(file_remove(path, &err), 0);
	assert_int_equal(rmdir(folder.path), 0);
	/* An error names the file. */
	assert_int_equal(file_replace(path, "x", 1, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
}

static void test_folder_is_locked_once(void **state)
{
	struct folder folder;
	char path[256], name[300];
	struct err err = {0};
	int first = -1, second = -1;

	(void)state;
	folder_new(&folder);
	in(&folder, "deep/er", path);
	assert_int_equal(folder_make(path, 0700, &err), 0);
	assert_int_equal(folder_make(path, 0700, &err), 0);
	assert_int_equal(folder_lock(path, 0, &first, &err), 0);
	assert_int_equal(folder_lock(path, 0, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, path));
	close(first);
	assert_int_equal(folder_lock(path, 0, &second, &err), 0);
	close(second);
	(void)snprintf(name, sizeof(name), "%s/lock", path);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(in(&folder, "deep", path)), 0);
	assert_int_equal(rmdir(folder.path), 0);
}

static void test_uuid_is_kept(void **state)
{
	struct folder folder;
	char path[256];
	struct err err = {0};
	struct uuid first, second;

	(void)state;
	folder_new(&folder);
	in(&folder, "uuid", path);
	assert_int_equal(file_uuid(path, &first, &err), 0);
	assert_int_equal(file_uuid(path, &second, &err), 0);
	assert_true(uuid_equal(&first, &second));
	assert_int_equal(file_replace(path, "nonsense\n", 9, &err), 0);
	assert_int_equal(file_uuid(path, &second, &err), -EINVAL);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder.path), 0);
}

/* ---- HTTP ---- */

static unsigned get_hello(
	void *ctx, const char *path, struct strbuf *body, const char **content_type)
{
	(void)ctx;
	(void)content_type;
	strbuf_printf(body, "path %s", path);
	return strcmp(path, "/none") == 0 ? 404 : 200;
}

/* Sends the request and runs the loop until the server closed; appends what came. */
static void http_exchange(
	struct loop *loop, uint16_t port, const char *request, struct strbuf *answer)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	char buffer[1024];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (const void *)&to, sizeof(to)), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	for (;;) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

		if (got >= 0) {
			strbuf_append_bytes(answer, buffer, (size_t)got);
		}
		if (got == 0 || (got < 0 && errno != EAGAIN)) {
			break;
		}
		loop_turn(loop, 10);
	}
	close(fd);
}

static void test_http(void **state)
{
	static const struct {
		const char *request, *status, *body;
	} cases[] = {
		{"GET /hello?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n",
			"path /hello"},
		{"GET /none HTTP/1.0\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "path /none"},
		{"POST /x HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ", "Method Not Allowed\n"},
		{"HEAD /x HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", ""},
		{"nonsense\r\n\r\n", "HTTP/1.1 400 ", "Bad Request\n"},
		{"GET x HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "Bad Request\n"},
	};
	struct loop *loop = NULL;
	struct http_server *server = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(loop_new(&loop, &err), 0);
	if (http_server_new(loop, "127.0.0.1:0", get_hello, NULL, &server, &err) < 0) {
		fail_msg("%s", err.text);
	}
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct strbuf answer;

		strbuf_init(&answer);
		http_exchange(loop, http_server_port(server), cases[i].request, &answer);
		assert_int_equal(
			strncmp(strbuf_text(&answer), cases[i].status, strlen(cases[i].status)), 0);
		const char *body = strstr(strbuf_text(&answer), "\r\n\r\n");

		assert_non_null(body);
		assert_string_equal(body + 4, cases[i].body);
		strbuf_done(&answer);
	}
	/* A request without an end is dropped at the limit. */
	char *endless = malloc(8000);
	struct strbuf answer;

	memset(endless, 'G', 7999);
	endless[7999] = '\0';
	strbuf_init(&answer);
	http_exchange(loop, http_server_port(server), endless, &answer);
	assert_string_equal(strbuf_text(&answer), "");
	strbuf_done(&answer);
	free(endless);
	http_server_free(server);
	assert_int_equal(
		http_server_new(loop, "somewhere", get_hello, NULL, &server, &err), -EINVAL);
	loop_free(loop);
}

/* ---- a whole daemon ---- */

static const struct config_key keys[] = {DAEMON_CONFIG_KEYS};

struct fixture {
	struct folder folder;
	struct config *config;
	struct daemon *daemon;
	unsigned returned;
	bool stopped;
	pthread_t data_thread;
	struct reactor_call call;
	struct task task;
};

static void stop_asked(void *ctx)
{
	struct fixture *fixture = ctx;

	fixture->stopped = true;
	daemon_quit(fixture->daemon, 3);
}

static void step(struct task *task)
{
	struct fixture *fixture = container_of(task, struct fixture, task);

	fixture->data_thread = pthread_self();
	log_info(&reactor_io(fixture->call.reactor)->log, "test", "from-the-data-thread",
		"number=%d", 7);
	reactor_call_return(&fixture->call);
}

static void call_run(struct reactor_call *call)
{
	struct fixture *fixture = container_of(call, struct fixture, call);

	task_init(&fixture->task, &reactor_io(call->reactor)->runq, step);
	task_wake(&fixture->task);
}

static void call_done(struct reactor_call *call)
{
	struct fixture *fixture = container_of(call, struct fixture, call);

	fixture->returned++;
	/* The next thing that happens is the signal. */
	(void)kill(getpid(), SIGTERM);
}

static void look(void *ctx)
{
	*(pthread_t *)ctx = pthread_self();
}

static int daemon_setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	char text[512];
	struct err err = {0};

	folder_new(&fixture->folder);
	int length =
		snprintf(text, sizeof(text), "name: d1\nrun_dir: %s/run\nstate_dir: %s/state\n",
			fixture->folder.path, fixture->folder.path);

	assert_int_equal(config_parse("t", text, (size_t)length, keys, ARRAY_COUNT(keys),
				 &fixture->config, &err),
		0);
	*state = fixture;
	return 0;
}

static int daemon_teardown(void **state)
{
	struct fixture *fixture = *state;
	char path[256];

	config_free(fixture->config);
	(void)unlink(in(&fixture->folder, "state/d1/lock", path));
	(void)rmdir(in(&fixture->folder, "state/d1", path));
	(void)rmdir(in(&fixture->folder, "state", path));
	(void)rmdir(in(&fixture->folder, "run", path));
	assert_int_equal(rmdir(fixture->folder.path), 0);
	free(fixture);
	return 0;
}

static void test_daemon_runs_and_stops_by_signal(void **state)
{
	struct fixture *fixture = *state;
	struct daemon_options options = {
		.program = "test", .config = fixture->config, .stop = stop_asked, .ctx = fixture};
	struct err err = {0};
	pthread_t asked;

	if (daemon_new(&options, &fixture->daemon, &err) < 0) {
		fail_msg("%s", err.text);
	}
	assert_int_equal(daemon_start_reactor(fixture->daemon, &err), 0);
	assert_true(strlen(daemon_boot_id(fixture->daemon)) > 30);
	reactor_ask(daemon_reactor(fixture->daemon), look, &asked);
	fixture->call.run = call_run;
	fixture->call.done = call_done;
	reactor_call(daemon_reactor(fixture->daemon), &fixture->call);
	assert_int_equal(daemon_run(fixture->daemon), 3);
	assert_int_equal(fixture->returned, 1);
	assert_true(fixture->stopped);
	assert_true(pthread_equal(asked, fixture->data_thread));
	assert_false(pthread_equal(asked, pthread_self()));
	daemon_free(fixture->daemon);
}

static void test_a_stateless_daemon_makes_no_folder_and_serves_where_it_is_told(void **state)
{
	static const struct grpc_method methods[1];
	struct fixture *fixture = *state;
	char socket[256], path[256];
	struct daemon_options options = {.program = "test",
		.config = fixture->config,
		.stop = stop_asked,
		.ctx = fixture,
		.off_data_path = true,
		.stateless = true,
		.socket_path = in(&fixture->folder, "csi.sock", socket)};
	struct err err = {0};

	assert_int_equal(daemon_new(&options, &fixture->daemon, &err), 0);
	assert_false(daemon_has_io_flusher(fixture->daemon));
	assert_int_equal(daemon_serve(fixture->daemon, methods, 0, NULL, &err), 0);
	assert_int_equal(access(socket, F_OK), 0);
	assert_int_equal(access(in(&fixture->folder, "run", path), F_OK), -1);
	assert_int_equal(access(in(&fixture->folder, "state", path), F_OK), -1);
	daemon_stop_serving(fixture->daemon, 0, stop_asked, fixture);
	assert_int_equal(daemon_run(fixture->daemon), 3);
	daemon_free(fixture->daemon);
	(void)unlink(socket);
}

static void test_bad_daemon_configuration(void **state)
{
	static const char *const texts[] = {"name: ../x\n", "name: d1\nlog_level: loud\n",
		"name: d1\nrun_dir: /dev/null/x\n", "name: .\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct config *config = NULL;
		struct daemon *daemon = NULL;
		struct err err = {0};

		assert_int_equal(config_parse("t", texts[i], strlen(texts[i]), keys,
					 ARRAY_COUNT(keys), &config, &err),
			0);
		struct daemon_options options = {.program = "test", .config = config};

		assert_true(daemon_new(&options, &daemon, &err) < 0);
		assert_true(err.text[0] != '\0');
		config_free(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_replace_and_read),
		cmocka_unit_test(test_folder_is_locked_once),
		cmocka_unit_test(test_uuid_is_kept),
		cmocka_unit_test(test_http),
		cmocka_unit_test_setup_teardown(
			test_daemon_runs_and_stops_by_signal, daemon_setup, daemon_teardown),
		cmocka_unit_test_setup_teardown(
			test_a_stateless_daemon_makes_no_folder_and_serves_where_it_is_told,
			daemon_setup, daemon_teardown),
		cmocka_unit_test(test_bad_daemon_configuration),
	};

	return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
