/* SPDX-License-Identifier: Apache-2.0 */
/* test-keeper SOCKET: the keeper library and nothing else; says on standard output what it holds.
 */
#include "keeper/keeper.h"

#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct program {
	struct loop *loop;
	struct keeper *keeper;
	struct loop_watch signals;
};

static void say(struct keeper *keeper, void *ctx)
{
	struct keeper_status status;

	(void)ctx;
	keeper_get_status(keeper, &status);
	printf("%s volumes=%u\n",
		status.synced      ? "synced"
		: status.connected ? "connected"
				   : "alone",
		status.volumes);
	(void)fflush(stdout);
}

static void signalled(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	loop_stop(container_of(watch, struct program, signals)->loop);
}

static int start(struct program *program, const char *path, const struct log *log, struct err *err)
{
	struct keeper_options options = {
		.socket_path = path, .log = log, .changed = say, .ctx = program};
	sigset_t signals;
	int result = loop_new(&program->loop, err);

	if (result < 0) {
		return result;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	program->signals.fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	program->signals.events = EPOLLIN;
	program->signals.ready = signalled;
	result = loop_watch_add(program->loop, &program->signals);
	if (result < 0) {
		return err_set(err, result, "signals");
	}
	return keeper_new(program->loop, &options, &program->keeper, err);
}

int main(int argc, char **argv)
{
	int log_fd = STDERR_FILENO;
	struct log log = {.sink = log_sink_fd, .ctx = &log_fd, .level_min = LOG_INFO};
	struct program program = {0};
	struct err err = {0};

	if (argc != 2) {
		(void)fputs("usage: test-keeper SOCKET\n", stderr);
		return 2;
	}
	if (start(&program, argv[1], &log, &err) < 0) {
		(void)fprintf(stderr, "test-keeper: %s\n", err.text);
		return 1;
	}
	say(program.keeper, NULL);
	loop_run(program.loop);
	keeper_free(program.keeper);
	loop_watch_remove(program.loop, &program.signals);
	close(program.signals.fd);
	loop_free(program.loop);
	return 0;
}
