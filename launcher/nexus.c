/* SPDX-License-Identifier: Apache-2.0 */
/* The nexus's process, and what is said to it. */
#include "launcher/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODULE "launcher"

#define NS_PER_MS   UINT64_C(1000000)
#define BACKOFF_MIN (100 * NS_PER_MS)
#define BACKOFF_MAX (5000 * NS_PER_MS)
/* One that lived this long was not wrong from the start. */
#define LIVED_NS     (3000 * NS_PER_MS)
#define BELIEVED_NS  (2000 * NS_PER_MS)
#define EXIT_NO_EXEC 127

/* A message that waits for room in the socket. */
struct outgoing {
	struct list_node node;
	struct launch_msg msg;
};

/* ---- what is said
 * ------------------------------------------------------------------------------------------------------
 */

static void queue(struct launcher *launcher, const struct launch_msg *msg)
{
	struct outgoing *outgoing;

	if (launcher->nexus_fd < 0) {
		return;
	}
	outgoing = calloc(1, sizeof(*outgoing));
	if (outgoing == NULL) {
		log_error(&launcher->log, MODULE, "out-of-memory", "message=%u", msg->kind);
		return;
	}
	outgoing->msg = *msg;
	list_push_back(&launcher->outbox, &outgoing->node);
}

static void fill_held(struct launch_msg *msg, const struct held *held)
{
	memcpy(msg->name, held->name, sizeof(msg->name));
	memcpy(msg->device, held->device, sizeof(msg->device));
	msg->size_bytes = held->size_bytes;
	msg->block_bytes = held->block_bytes;
	msg->table_bytes = held->table_bytes;
}

void nexus_answer(struct launcher *launcher, uint64_t id, const struct held *held, int result,
	const char *text)
{
	struct launch_msg msg;

	launch_msg_init(&msg, LAUNCH_DONE);
	msg.id = id;
	msg.result = result;
	if (held != NULL) {
		fill_held(&msg, held);
	}
	memcpy(msg.text, text, strnlen(text, sizeof(msg.text) - 1));
	queue(launcher, &msg);
}

void nexus_tell_gone(struct launcher *launcher, const struct held *held)
{
	struct launch_msg msg;

	if (held->told) {
		launch_msg_init(&msg, LAUNCH_GONE);
		fill_held(&msg, held);
		queue(launcher, &msg);
	}
}

/* 0; -EAGAIN no room now; else the nexus is gone, which its end will tell us. */
static int tell_volumes(struct launcher *launcher)
{
	list_for_each (&launcher->volumes, node) {
		struct held *held = container_of(node, struct held, node);
		int fds[LAUNCH_FDS_MAX] = {held->fuse_fd, held->table_fd};
		struct launch_msg msg;
		int result;

		if (held->told) {
			continue;
		}
		launch_msg_init(&msg, LAUNCH_VOLUME);
		fill_held(&msg, held);
		result = launch_send(launcher->nexus_fd, &msg, fds, LAUNCH_FDS_MAX);
		if (result != 0) {
			return result;
		}
		held->told = true;
	}
	return 0;
}

bool nexus_wants_write(const struct launcher *launcher)
{
	if (launcher->nexus_fd < 0) {
		return false;
	}
	list_for_each (&launcher->volumes, node) {
		if (!container_of(node, struct held, node)->told) {
			return true;
		}
	}
	return !launcher->ready_sent || !list_is_empty(&launcher->outbox);
}

void nexus_flush(struct launcher *launcher)
{
	struct list_node *node;
	struct launch_msg ready;

	if (launcher->nexus_fd < 0 || tell_volumes(launcher) != 0) {
		return;
	}
	launch_msg_init(&ready, LAUNCH_READY);
	if (!launcher->ready_sent && launch_send(launcher->nexus_fd, &ready, NULL, 0) != 0) {
		return;
	}
	launcher->ready_sent = true;
	while ((node = list_first(&launcher->outbox)) != NULL) {
		struct outgoing *outgoing = container_of(node, struct outgoing, node);

		if (launch_send(launcher->nexus_fd, &outgoing->msg, NULL, 0) != 0) {
			return;
		}
		list_remove(node);
		free(outgoing);
	}
}

static void hang_up(struct launcher *launcher)
{
	struct list_node *node;

	if (launcher->nexus_fd >= 0) {
		close(launcher->nexus_fd);
		launcher->nexus_fd = -1;
	}
	while ((node = list_pop_front(&launcher->outbox)) != NULL) {
		free(container_of(node, struct outgoing, node));
	}
	list_for_each (&launcher->volumes, volume_node) {
		struct held *held = container_of(volume_node, struct held, node);

		held->told = false;
		held->asked = 0;
	}
}

/* ---- what is heard
 * ------------------------------------------------------------------------------------------------------
 */

void nexus_receive(struct launcher *launcher)
{
	while (launcher->nexus_fd >= 0) {
		struct launch_msg msg;
		int fds[LAUNCH_FDS_MAX];
		unsigned fd_count = 0;
		int result = launch_receive(launcher->nexus_fd, &msg, fds, &fd_count);

		if (result == -EAGAIN) {
			return;
		}
		if (result == -EPROTO) {
			log_error(&launcher->log, MODULE, "bad-message", NULL);
			continue;
		}
		if (result != 0) {
			/* Its end of life follows, or it does without us. */
			hang_up(launcher);
			return;
		}
		for (unsigned i = 0; i < fd_count; i++) {
			close(fds[i]);
		}
		if (msg.kind == LAUNCH_PUBLISH) {
			held_publish(launcher, &msg);
		} else if (msg.kind == LAUNCH_UNPUBLISH) {
			held_unpublish(launcher, &msg);
		} else {
			log_warning(&launcher->log, MODULE, "unknown-message", "kind=%u", msg.kind);
		}
	}
}

/* ---- the process
 * --------------------------------------------------------------------------------------------------------
 */

static _Noreturn void run_nexus(const struct launcher *launcher, int socket_fd, pid_t parent)
{
	char number[16];

	/* Without us it could not be restarted, and nobody could take the volumes over. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent) {
		_exit(EXIT_NO_EXEC);
	}
	/* A terminal's Ctrl-C is for us: we stop the nexus when the volumes are taken away. */
	setpgid(0, 0);
	sigprocmask(SIG_SETMASK, &launcher->signals_before, NULL);
	(void)snprintf(number, sizeof(number), "%d", socket_fd);
	/* Until its last thread is gone, also when we die with it. */
	(void)fcntl(launcher->nexus_lock_fd, F_SETFD, 0);
	if (fcntl(socket_fd, F_SETFD, 0) == 0 && setenv(LAUNCH_FD_ENVIRONMENT, number, 1) == 0) {
		execvp(launcher->command[0], launcher->command);
	}
	dprintf(STDERR_FILENO, "strake-launcher: starting %s: %s\n", launcher->command[0],
		err_describe(errno));
	_exit(EXIT_NO_EXEC);
}

static void start_later(struct launcher *launcher)
{
	launcher->restart_ns = launcher_now_ns() + launcher->backoff_ns;
	launcher->backoff_ns *= 2;
	if (launcher->backoff_ns > BACKOFF_MAX) {
		launcher->backoff_ns = BACKOFF_MAX;
	}
}

void nexus_start(struct launcher *launcher)
{
	pid_t parent = getpid();
	int fds[2];

	if (launcher->backoff_ns == 0) {
		launcher->backoff_ns = BACKOFF_MIN;
	}
	launcher->restart_ns = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
		log_error(&launcher->log, MODULE, "start-failed", "error=%s", err_name(errno));
		start_later(launcher);
		return;
	}
	launcher->nexus = fork();
	if (launcher->nexus == 0) {
		run_nexus(launcher, fds[1], parent);
	}
	close(fds[1]);
	if (launcher->nexus < 0) {
		log_error(&launcher->log, MODULE, "start-failed", "error=%s", err_name(errno));
		launcher->nexus = 0;
		close(fds[0]);
		start_later(launcher);
		return;
	}
	launcher->nexus_fd = fds[0];
	launcher->ready_sent = false;
	launcher->started_ns = launcher_now_ns();
	log_info(&launcher->log, MODULE, "nexus-started", "pid=%d volumes=%u", launcher->nexus,
		launcher->volume_count);
}

/* A configuration that was never right is for a person to mend: no use in trying again. */
static bool is_hopeless(const struct launcher *launcher, int status, uint64_t lived_ns)
{
	return !launcher->ever_lived && launcher->volume_count == 0 && lived_ns < BELIEVED_NS &&
	       WIFEXITED(status) && WEXITSTATUS(status) != 0;
}

void nexus_reap(struct launcher *launcher)
{
	uint64_t lived_ns = launcher_now_ns() - launcher->started_ns;
	int status;

	if (launcher->nexus == 0 || waitpid(launcher->nexus, &status, WNOHANG) != launcher->nexus) {
		return;
	}
	/* Its threads are gone and the reads that it had submitted are over: a successor may have
	 * the table. */
	launcher->nexus = 0;
	nexus_receive(launcher);
	hang_up(launcher);
	if (WIFSIGNALED(status)) {
		log_warning(&launcher->log, MODULE, "nexus-died", "signal=%d", WTERMSIG(status));
	} else {
		log_info(&launcher->log, MODULE, "nexus-ended", "status=%d", WEXITSTATUS(status));
	}
	if (launcher->stopping && launcher->term_sent) {
		return;
	}
	if (is_hopeless(launcher, status, lived_ns)) {
		launcher->finished = true;
		launcher->exit_code = WEXITSTATUS(status);
		return;
	}
	launcher->ever_lived = true;
	if (lived_ns >= LIVED_NS) {
		launcher->backoff_ns = BACKOFF_MIN;
	}
	start_later(launcher);
}
