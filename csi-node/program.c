/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLED_WAIT_MS 2000

extern char **environ;

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- output: its end counts ---- */

static void keep_end(char output[PROGRAM_OUTPUT_SIZE], const char *text, size_t length)
{
	size_t have = strlen(output), room = PROGRAM_OUTPUT_SIZE - 1;

	if (length > room) {
		text += length - room;
		length = room;
	}
	if (have + length > room) {
		size_t drop = have + length - room;

		memmove(output, output + drop, have - drop);
		have -= drop;
	}
	memcpy(output + have, text, length);
	output[have + length] = '\0';
}

/* One line of printable ASCII, as it goes into a gRPC status and a log. */
static void make_line(char output[PROGRAM_OUTPUT_SIZE])
{
	char *to = output;
	bool blank = true;

	for (const char *from = output; *from != '\0'; from++) {
		bool is_blank = *from <= ' ' || *from > '~';

		if (!is_blank) {
			*to++ = *from;
		} else if (!blank) {
			*to++ = ' ';
		}
		blank = is_blank;
	}
	while (to > output && to[-1] == ' ') {
		to--;
	}
	*to = '\0';
}

/* ---- running ---- */

static int spawn(const char *const argv[], int output_fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, defaults;
	int result;

	(void)sigemptyset(&none);
	(void)sigemptyset(&defaults);
	(void)sigaddset(&defaults, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	(void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
	(void)posix_spawn_file_actions_adddup2(&actions, output_fd, STDERR_FILENO);
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	(void)posix_spawnattr_setsigdefault(&attributes, &defaults);
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	result = posix_spawnp(
		ret_pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return -result;
}

static void take_output(int fd, char output[PROGRAM_OUTPUT_SIZE], bool *is_open)
{
	char text[1024];
	ssize_t length;

	while (*is_open && (length = read(fd, text, sizeof(text))) != -1) {
		*is_open = length > 0;
		keep_end(output, text, (size_t)length);
	}
}

/* Reads until the process has ended or the time is over.  True: it has ended. */
static bool attend(int pid_fd, int output_fd, uint64_t end_ms, char output[PROGRAM_OUTPUT_SIZE])
{
	struct pollfd fds[2] = {
		{.fd = pid_fd, .events = POLLIN}, {.fd = output_fd, .events = POLLIN}};
	bool is_open = true;

	for (;;) {
		uint64_t now = now_ms();

		if (now >= end_ms) {
			return false;
		}
		fds[1].fd = is_open ? output_fd : -1;
		if (poll(fds, 2, (int)(end_ms - now < 1000 ? end_ms - now : 1000)) < 0 &&
			errno != EINTR) {
			return false;
		}
		if (fds[1].revents != 0) {
			take_output(output_fd, output, &is_open);
		}
		if (fds[0].revents != 0) {
			/* A child of its own may keep the pipe: what is there now is all. */
			take_output(output_fd, output, &is_open);
			return true;
		}
	}
}

static int finish(const char *name, pid_t pid, int output_fd, uint64_t timeout_ms,
	struct program_result *result, struct err *err)
{
	int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	bool is_over;
	int status;

	if (pid_fd < 0) {
		int code = -errno;

		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
		return err_set(err, code, "%s: %s", name, err_describe(code));
	}
	is_over = attend(pid_fd, output_fd, now_ms() + timeout_ms, result->output);
	if (!is_over) {
		(void)kill(pid, SIGKILL);
		(void)attend(pid_fd, output_fd, now_ms() + KILLED_WAIT_MS, result->output);
	}
	(void)close(pid_fd);
	make_line(result->output);
	pid_t waited = waitpid(pid, &status, WNOHANG);

	if (!is_over) {
		return err_set(err, -ETIMEDOUT, "%s did not end within %llu s: %s", name,
			(unsigned long long)timeout_ms / 1000, result->output);
	}
	result->exit_code = waited == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return 0;
}

int program_run(const char *const argv[], uint64_t timeout_ms, struct program_result *ret_result,
	struct err *err)
{
	int fds[2], result;
	pid_t pid;

	*ret_result = (struct program_result){.exit_code = -1};
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		return err_set(err, -errno, "%s: %s", argv[0], err_describe(errno));
	}
	/* The program's end blocks, as it expects. */
	(void)fcntl(fds[1], F_SETFL, 0);
	result = spawn(argv, fds[1], &pid);
	(void)close(fds[1]);
	if (result < 0) {
		(void)err_set(err, result, "%s cannot be run: %s", argv[0], err_describe(result));
	} else {
		result = finish(argv[0], pid, fds[0], timeout_ms, ret_result, err);
	}
	(void)close(fds[0]);
	return result;
}
