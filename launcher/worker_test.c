/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "launcher/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void wait_readable(const struct worker *worker)
{
	struct pollfd polled = {.fd = worker_fd(worker), .events = POLLIN};

	while (poll(&polled, 1, -1) < 0) {
		assert_int_equal(errno, EINTR);
	}
}

/* Says what it was given, and whether it has inherited a descriptor. */
static void say_job(const void *arg, struct worker_result *result)
{
	const int *inherited = arg;

	result->result = fcntl(*inherited, F_GETFD) < 0 ? -errno : 0;
	(void)snprintf(result->device, sizeof(result->device), "/dev/loop%d", *inherited);
}

static void die_job(const void *arg, struct worker_result *result)
{
	(void)arg;
	(void)result;
	raise(SIGKILL);
}

static void hang_job(const void *arg, struct worker_result *result)
{
	(void)arg;
	(void)result;
	pause();
}

static void test_result(void **state)
{
	struct worker worker = {0};
	struct worker_result result;
	struct err err;
	char expected[LAUNCH_DEVICE_SIZE];
	int fd = open("/dev/null", O_RDWR);
	int high = fcntl(fd, F_DUPFD, 100);

	(void)state;
	assert_true(high >= 100);
	assert_int_equal(worker_start(&worker, -1, say_job, &high, &err), 0);
	assert_true(worker_is_running(&worker));
	wait_readable(&worker);
	worker_finish(&worker, &result);
	assert_false(worker_is_running(&worker));
	/* A helper that held /dev/fuse would keep a dead launcher's volumes alive. */
	assert_int_equal(result.result, -EBADF);
	(void)snprintf(expected, sizeof(expected), "/dev/loop%d", high);
	assert_string_equal(result.device, expected);
	close(high);
	close(fd);
}

static void test_helper_that_dies(void **state)
{
	struct worker worker = {0};
	struct worker_result result;
	struct err err;

	(void)state;
	assert_int_equal(worker_start(&worker, -1, die_job, NULL, &err), 0);
	wait_readable(&worker);
	worker_finish(&worker, &result);
	assert_int_equal(result.result, -EIO);
	assert_string_equal(result.text, "the helper process died");
}

static void test_abandon(void **state)
{
	struct worker worker = {0};
	struct err err;

	(void)state;
	assert_int_equal(worker_start(&worker, -1, hang_job, NULL, &err), 0);
	worker_abandon(&worker);
	assert_false(worker_is_running(&worker));
	worker_abandon(&worker);
}

/* Says whether the descriptor that it may keep is open, and how many others are. */
static void count_job(const void *arg, struct worker_result *result)
{
	(void)arg;
	for (int fd = 3; fd < 256; fd++) {
		result->result += fcntl(fd, F_GETFD) >= 0;
	}
	result->disk_sequence = UINT64_C(1) << 40;
}

static void test_kept_descriptor(void **state)
{
	struct worker worker = {0};
	struct worker_result result;
	struct err err;
	int fds[2], ends[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	/* Low numbers and high ones. */
	for (unsigned i = 0; i < 2; i++) {
		fds[i] = fcntl(ends[1], F_DUPFD, i == 0 ? 3 : 200);
		assert_int_equal(worker_start(&worker, fds[i], count_job, NULL, &err), 0);
		wait_readable(&worker);
		worker_finish(&worker, &result);
		/* The pipe of the result, and the kept one. */
		assert_int_equal(result.result, 2);
		assert_true(result.disk_sequence == UINT64_C(1) << 40);
	}
	/* It lives as long as the helper. */
	assert_int_equal(worker_start(&worker, fds[0], hang_job, NULL, &err), 0);
	close(fds[0]);
	close(fds[1]);
	close(ends[1]);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(read(ends[0], &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	worker_abandon(&worker);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_result),
		cmocka_unit_test(test_helper_that_dies),
		cmocka_unit_test(test_abandon),
		cmocka_unit_test(test_kept_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
