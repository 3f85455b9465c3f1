/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIPE_FD     3
#define END_WAIT_US 1000000
#define POLL_US     1000

static _Noreturn void run_job(int pipe_fd, worker_job *job, const void *arg, pid_t parent)
{
	struct worker_result result = {0};
	sigset_t none;
	ssize_t written;

	/* A helper that hangs on to /dev/fuse would keep a dead launcher's connections alive. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent) {
		_exit(1);
	}
	if (pipe_fd != PIPE_FD && dup2(pipe_fd, PIPE_FD) < 0) {
		_exit(1);
	}
	(void)close_range(PIPE_FD + 1, ~0U, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	job(arg, &result);
	written = write(PIPE_FD, &result, sizeof(result));
	_exit(written == sizeof(result) ? 0 : 1);
}

int worker_start(struct worker *worker, worker_job *job, const void *arg, struct err *err)
{
	pid_t parent = getpid();
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return err_set(err, -errno, "pipe of a helper process: %s", err_describe(errno));
	}
	worker->pid = fork();
	if (worker->pid < 0) {
		int result =
			err_set(err, -errno, "starting a helper process: %s", err_describe(errno));

		worker->pid = 0;
		close(fds[0]);
		close(fds[1]);
		return result;
	}
	if (worker->pid == 0) {
		run_job(fds[1], job, arg, parent);
	}
	close(fds[1]);
	worker->pipe_fd = fds[0];
	return 0;
}

void worker_finish(struct worker *worker, struct worker_result *ret_result)
{
	ssize_t got;

	do {
		got = read(worker->pipe_fd, ret_result, sizeof(*ret_result));
	} while (got < 0 && errno == EINTR);
	if (got != sizeof(*ret_result)) {
		*ret_result = (struct worker_result){
			.result = -EIO,
			.text = "the helper process died",
		};
	}
	close(worker->pipe_fd);
	/* It has nothing left to do but to exit. */
	while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR) {
	}
	worker->pid = 0;
}

void worker_abandon(struct worker *worker)
{
	if (worker->pid != 0) {
		kill(worker->pid, SIGKILL);
		close(worker->pipe_fd);
		for (unsigned waited_us = 0;
			waited_us < END_WAIT_US && waitpid(worker->pid, NULL, WNOHANG) == 0;
			waited_us += POLL_US) {
			usleep(POLL_US);
		}
		worker->pid = 0;
	}
}
