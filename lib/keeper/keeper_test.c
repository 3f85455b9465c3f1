/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "keeper/keeper.h"
#include "launch/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct bench {
	char folder[64];
	char path[80];
	int log_fd;
	struct log log;
	struct loop *loop;
	struct keeper *keeper;
	unsigned changes;
};

static void count_change(struct keeper *keeper, void *ctx)
{
	(void)keeper;
	((struct bench *)ctx)->changes++;
}

static int start(struct bench *bench, unsigned volumes_max, struct err *err)
{
	struct keeper_options options = {
		.socket_path = bench->path,
		.log = &bench->log,
		.volumes_max = volumes_max,
		.changed = count_change,
		.ctx = bench,
	};

	return keeper_new(bench->loop, &options, &bench->keeper, err);
}

static int set_up(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	struct err err;

	assert_non_null(bench);
	(void)snprintf(bench->folder, sizeof(bench->folder), "/tmp/keeper_test.XXXXXX");
	assert_non_null(mkdtemp(bench->folder));
	(void)snprintf(bench->path, sizeof(bench->path), "%s/keeper.sock", bench->folder);
	bench->log_fd = open("/dev/null", O_WRONLY);
	bench->log = (struct log){.sink = log_sink_fd, .ctx = &bench->log_fd};
	assert_int_equal(loop_new(&bench->loop, &err), 0);
	assert_int_equal(start(bench, 3, &err), 0);
	*state = bench;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *bench = *state;

	keeper_free(bench->keeper);
	loop_free(bench->loop);
	close(bench->log_fd);
	/* The socket is gone with it. */
	assert_int_equal(rmdir(bench->folder), 0);
	free(bench);
	return 0;
}

/* ---- a launcher ---- */

static int launcher(struct bench *bench)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", bench->path);
	assert_int_equal(connect(fd, (const void *)&address, sizeof(address)), 0);
	return fd;
}

static void turn(struct bench *bench)
{
	for (unsigned i = 0; i < 20; i++) {
		loop_turn(bench->loop, 0);
	}
}

/* The next message, with its descriptors closed. */
static struct launch_msg next(struct bench *bench, int fd, unsigned *ret_fd_count)
{
	struct launch_msg msg = {0};
	int fds[LAUNCH_FDS_MAX];
	unsigned fd_count = 0;

	turn(bench);
	assert_int_equal(launch_receive(fd, &msg, fds, &fd_count), 0);
	for (unsigned i = 0; i < fd_count; i++) {
		close(fds[i]);
	}
	if (ret_fd_count != NULL) {
		*ret_fd_count = fd_count;
	}
	return msg;
}

static void nothing_comes(struct bench *bench, int fd)
{
	struct launch_msg msg;
	int fds[LAUNCH_FDS_MAX];
	unsigned fd_count;

	turn(bench);
	assert_int_equal(launch_receive(fd, &msg, fds, &fd_count), -EAGAIN);
}

static void tell(int fd, enum launch_kind kind, const char *name)
{
	struct launch_msg msg;

	launch_msg_init(&msg, kind);
	(void)snprintf(msg.name, sizeof(msg.name), "%s", name);
	assert_int_equal(launch_send(fd, &msg, NULL, 0), 0);
}

/* Gives the ends of a pipe away; returns the answer's result.  *ret_read_end tells when the other
 * end is closed. */
static int give(struct bench *bench, int fd, const char *name, uint64_t id, int *ret_read_end)
{
	struct launch_msg msg;
	int pipes[2];
	int fds[2];

	assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
	fds[0] = fds[1] = pipes[1];
	launch_msg_init(&msg, LAUNCH_VOLUME);
	(void)snprintf(msg.name, sizeof(msg.name), "%s", name);
	(void)snprintf(msg.device, sizeof(msg.device), "/dev/loop%u", (unsigned)id);
	msg.id = id;
	msg.size_bytes = 4096 * id;
	msg.disk_sequence = 100 + id;
	msg.fuse_connection = (uint32_t)(200 + id);
	assert_int_equal(launch_send(fd, &msg, fds, 2), 0);
	close(pipes[1]);
	if (ret_read_end != NULL) {
		*ret_read_end = pipes[0];
	} else {
		close(pipes[0]);
	}
	msg = next(bench, fd, NULL);
	assert_int_equal(msg.kind, LAUNCH_DONE);
	assert_int_equal(msg.id, id);
	assert_string_equal(msg.name, name);
	assert_true((msg.result == 0) == (msg.text[0] == '\0'));
	return msg.result;
}

static bool is_closed(int read_end)
{
	char byte;
	ssize_t got = read(read_end, &byte, 1);

	assert_true(got == 0 || errno == EAGAIN);
	return got == 0;
}

static struct keeper_status status(struct bench *bench)
{
	struct keeper_status status;

	keeper_get_status(bench->keeper, &status);
	return status;
}

/* ---- tests ---- */

static void test_the_socket_is_for_its_user(void **state)
{
	struct bench *bench = *state;
	struct stat stat_of;

	assert_int_equal(stat(bench->path, &stat_of), 0);
	assert_int_equal(stat_of.st_mode & 0777, 0600);
}

static void test_a_successor_is_given_everything(void **state)
{
	struct bench *bench = *state;
	int fd = launcher(bench);
	int read_end = -1;
	unsigned fd_count = 0;
	char device[LAUNCH_DEVICE_SIZE];

	assert_int_equal(next(bench, fd, NULL).kind, LAUNCH_READY);
	assert_true(status(bench).connected);
	assert_int_equal(give(bench, fd, "a", 1, &read_end), 0);
	assert_int_equal(give(bench, fd, "b", 2, NULL), 0);
	assert_false(keeper_is_synced(bench->keeper));
	tell(fd, LAUNCH_READY, "");
	turn(bench);
	assert_true(keeper_is_synced(bench->keeper));
	assert_true(keeper_holds(bench->keeper, "a", device));
	assert_string_equal(device, "/dev/loop1");
	close(fd);
	turn(bench);
	assert_false(status(bench).connected);
	assert_false(status(bench).synced);
	assert_false(is_closed(read_end));

	fd = launcher(bench);
	struct launch_msg msg = next(bench, fd, &fd_count);

	assert_int_equal(msg.kind, LAUNCH_VOLUME);
	assert_int_equal(fd_count, 2);
	assert_string_equal(msg.name, "a");
	assert_string_equal(msg.device, "/dev/loop1");
	assert_int_equal(msg.size_bytes, 4096);
	assert_int_equal(msg.disk_sequence, 101);
	assert_int_equal(msg.fuse_connection, 201);
	assert_string_equal(next(bench, fd, &fd_count).name, "b");
	assert_int_equal(next(bench, fd, NULL).kind, LAUNCH_READY);
	assert_int_equal(status(bench).given_back, 2);
	tell(fd, LAUNCH_GONE, "a");
	turn(bench);
	assert_true(is_closed(read_end));
	assert_false(keeper_holds(bench->keeper, "a", NULL));
	assert_int_equal(status(bench).volumes, 1);
	close(read_end);
	close(fd);
}

static void test_one_launcher_at_a_time(void **state)
{
	struct bench *bench = *state;
	int first = launcher(bench);

	assert_int_equal(next(bench, first, NULL).kind, LAUNCH_READY);
	assert_int_equal(give(bench, first, "a", 1, NULL), 0);
	int second = launcher(bench);
	int third = launcher(bench);

	nothing_comes(bench, second);
	close(third);
	turn(bench);
	assert_int_equal(give(bench, first, "b", 2, NULL), 0);
	nothing_comes(bench, second);
	close(first);
	assert_string_equal(next(bench, second, NULL).name, "a");
	assert_string_equal(next(bench, second, NULL).name, "b");
	assert_int_equal(next(bench, second, NULL).kind, LAUNCH_READY);
	assert_int_equal(status(bench).launchers, 2);
	close(second);
}

static void test_published_anew_replaces(void **state)
{
	struct bench *bench = *state;
	int fd = launcher(bench);
	int old = -1, new = -1;

	assert_int_equal(next(bench, fd, NULL).kind, LAUNCH_READY);
	assert_int_equal(give(bench, fd, "a", 1, &old), 0);
	assert_int_equal(give(bench, fd, "a", 2, &new), 0);
	assert_true(is_closed(old));
	assert_false(is_closed(new));
	assert_int_equal(status(bench).volumes, 1);
	close(old);
	close(new);
	close(fd);
}

static void test_what_is_refused(void **state)
{
	struct bench *bench = *state;
	int fd = launcher(bench);
	int read_end = -1;
	struct launch_msg msg;

	assert_int_equal(next(bench, fd, NULL).kind, LAUNCH_READY);
	assert_int_equal(give(bench, fd, "../x", 1, &read_end), -EINVAL);
	assert_true(is_closed(read_end));
	close(read_end);
	tell(fd, LAUNCH_VOLUME, "a");
	assert_int_equal(next(bench, fd, NULL).result, -EINVAL);
	for (unsigned i = 1; i <= 3; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "v%u", i);
		assert_int_equal(give(bench, fd, name, i, NULL), 0);
	}
	assert_int_equal(give(bench, fd, "v4", 4, NULL), -ENOSPC);
	assert_int_equal(give(bench, fd, "v3", 5, NULL), 0);
	tell(fd, LAUNCH_GONE, "nobody");
	turn(bench);
	assert_int_equal(status(bench).volumes, 3);
	/* Another release's message ends the connection, and nothing else. */
	launch_msg_init(&msg, LAUNCH_READY);
	msg.version++;
	assert_int_equal(launch_send(fd, &msg, NULL, 0), 0);
	turn(bench);
	assert_false(status(bench).connected);
	assert_int_equal(status(bench).volumes, 3);
	close(fd);
}

/* More than a socket takes at once, and a launcher that does not read for a while. */
static void test_many_volumes(void **state)
{
	struct bench *bench = *state;
	struct err err;
	unsigned count = 0;

	keeper_free(bench->keeper);
	assert_int_equal(start(bench, 400, &err), 0);
	int fd = launcher(bench);

	assert_int_equal(next(bench, fd, NULL).kind, LAUNCH_READY);
	for (unsigned i = 1; i <= 400; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "v%u", i);
		assert_int_equal(give(bench, fd, name, i, NULL), 0);
	}
	close(fd);
	fd = launcher(bench);
	turn(bench);
	for (;;) {
		struct launch_msg msg = next(bench, fd, NULL);

		if (msg.kind == LAUNCH_READY) {
			break;
		}
		assert_int_equal(msg.size_bytes, 4096 * ++count);
	}
	assert_int_equal(count, 400);
	close(fd);
}

static void test_another_keeper_is_told(void **state)
{
	struct bench *bench = *state;
	struct keeper *first = bench->keeper;
	struct err err = {0};
	int fd;

	assert_int_equal(start(bench, 3, &err), -EADDRINUSE);
	bench->keeper = first;
	turn(bench);
	keeper_free(first);
	/* One that nobody listens on any more is replaced, something else is not. */
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", bench->path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(fd, (const void *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(start(bench, 3, &err), 0);
	keeper_free(bench->keeper);
	fd = open(bench->path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(start(bench, 3, &err), -EEXIST);
	assert_int_equal(unlink(bench->path), 0);
	assert_int_equal(start(bench, 3, &err), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_the_socket_is_for_its_user),
		TEST(test_a_successor_is_given_everything),
		TEST(test_one_launcher_at_a_time),
		TEST(test_published_anew_replaces),
		TEST(test_what_is_refused),
		TEST(test_many_volumes),
		TEST(test_another_keeper_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
