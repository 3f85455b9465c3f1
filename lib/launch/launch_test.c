/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "launch/launch.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void make_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
}

static void test_descriptors_arrive(void **state)
{
	int pair[2];
	int pipes[2];
	int fds[LAUNCH_FDS_MAX];
	unsigned fd_count = 9;
	struct launch_msg msg;
	struct launch_msg got;
	char byte = 0;

	(void)state;
	make_pair(pair);
	assert_int_equal(pipe(pipes), 0);
	launch_msg_init(&msg, LAUNCH_VOLUME);
	memcpy(msg.name, "db", 3);
	assert_int_equal(launch_receive(pair[1], &got, fds, &fd_count), -EAGAIN);
	assert_int_equal(launch_send(pair[0], &msg, pipes, 2), 0);
	assert_int_equal(launch_receive(pair[1], &got, fds, &fd_count), 0);
	assert_int_equal(fd_count, 2);
	assert_memory_equal(&got, &msg, sizeof(msg));
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	launch_msg_init(&msg, LAUNCH_READY);
	assert_int_equal(launch_send(pair[1], &msg, NULL, 0), 0);
	assert_int_equal(launch_receive(pair[0], &got, fds, &fd_count), 0);
	assert_int_equal(fd_count, 0);
	close(pair[1]);
	assert_int_equal(launch_receive(pair[0], &got, fds, &fd_count), -ECONNRESET);
	assert_int_equal(launch_send(pair[0], &msg, NULL, 0), -ECONNRESET);
	close(pair[0]);
	close(pipes[0]);
	close(pipes[1]);
}

static void refuse(const void *bytes, size_t size)
{
	int pair[2];
	int fds[LAUNCH_FDS_MAX];
	unsigned fd_count = 0;
	struct launch_msg got;

	make_pair(pair);
	assert_int_equal(send(pair[0], bytes, size, 0), size);
	assert_int_equal(launch_receive(pair[1], &got, fds, &fd_count), -EPROTO);
	close(pair[0]);
	close(pair[1]);
}

static void test_bad_messages(void **state)
{
	struct {
		struct launch_msg msg;
		char more;
	} longer;
	struct launch_msg msg;

	(void)state;
	launch_msg_init(&msg, LAUNCH_READY);
	refuse(&msg, sizeof(msg) - 1);
	memset(&longer, 0, sizeof(longer));
	longer.msg = msg;
	refuse(&longer, sizeof(msg) + 1);
	msg.magic++;
	refuse(&msg, sizeof(msg));
	launch_msg_init(&msg, LAUNCH_READY);
	msg.version++;
	refuse(&msg, sizeof(msg));
	launch_msg_init(&msg, LAUNCH_READY);
	memset(msg.name, 'a', sizeof(msg.name));
	refuse(&msg, sizeof(msg));
}

static void test_names(void **state)
{
	static const char *const good[] = {"db", "a", "my-volume_1.x", "0"};
	static const char *const bad[] = {"", ".", "..", ".x", "-x", "a/b", "a b", "a\n",
		"\xc3\xa4", "0123456789012345678901234567890123456789012345678901234567890123"};
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(launch_check_name(good[i], &err), 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(launch_check_name(bad[i], &err), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors_arrive),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
