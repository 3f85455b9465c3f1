/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MODULE "launcher"

#define RUN_DIR_DEFAULT "/run/strake"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
/* For taking the volumes away while stopping, then for the nexus to end. */
#define STOP_VOLUMES_NS (15 * NS_PER_S)
#define STOP_NEXUS_NS   (20 * NS_PER_S)

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define LOCK_ROOM_BYTES ((size_t)64 << 20)

uint64_t launcher_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- stopping
 * ----------------------------------------------------------------------------------------------------------
 */

static void begin_stop(struct launcher *launcher)
{
	if (launcher->stopping) {
		return;
	}
	log_info(&launcher->log, MODULE, "stopping", "volumes=%u", launcher->volume_count);
	launcher->stopping = true;
	launcher->stop_deadline_ns = launcher_now_ns() + STOP_VOLUMES_NS;
	list_for_each_safe (&launcher->volumes, node, following) {
		held_stop(launcher, container_of(node, struct held, node));
	}
}

static void stop_nexus(struct launcher *launcher, uint64_t now_ns)
{
	if (launcher->nexus == 0) {
		launcher->finished = true;
	} else if (!launcher->term_sent) {
		launcher->term_sent = true;
		launcher->stop_deadline_ns = now_ns + STOP_NEXUS_NS;
		kill(launcher->nexus, SIGTERM);
	} else if (now_ns >= launcher->stop_deadline_ns && !launcher->kill_sent) {
		log_warning(&launcher->log, MODULE, "nexus-killed", "reason=it did not stop");
		launcher->kill_sent = true;
		kill(launcher->nexus, SIGKILL);
	}
}

/* The volumes first, while there is a nexus to write back to; then the nexus. */
static void go_on_stopping(struct launcher *launcher)
{
	uint64_t now_ns = launcher_now_ns();

	if (!list_is_empty(&launcher->volumes) && now_ns < launcher->stop_deadline_ns) {
		return;
	}
	list_for_each_safe (&launcher->volumes, node, following) {
		held_force(launcher, container_of(node, struct held, node), -ESHUTDOWN,
			"the launcher stops");
	}
	stop_nexus(launcher, now_ns);
}

/* ---- the loop
 * ------------------------------------------------------------------------------------------------------------
 */

static void take_signals(struct launcher *launcher)
{
	struct signalfd_siginfo info;

	while (read(launcher->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
			begin_stop(launcher);
		}
	}
	nexus_reap(launcher);
	/* Helpers that were given up. */
	for (;;) {
		siginfo_t child = {0};

		if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 ||
			child.si_pid == 0) {
			return;
		}
		if (child.si_pid == launcher->nexus) {
			nexus_reap(launcher);
			continue;
		}
		list_for_each (&launcher->volumes, node) {
			if (container_of(node, struct held, node)->worker.pid == child.si_pid) {
				/* worker_finish() takes it. */
				return;
			}
		}
		waitpid(child.si_pid, NULL, WNOHANG);
	}
}

/* Milliseconds until the next thing that is due without an event; -1: none. */
static int timeout_ms(const struct launcher *launcher)
{
	uint64_t now_ns = launcher_now_ns();
	uint64_t due_ns = UINT64_MAX;

	if (launcher->stopping && !launcher->kill_sent) {
		due_ns = launcher->stop_deadline_ns;
	}
	if (launcher->nexus == 0 && launcher->restart_ns != 0 && launcher->restart_ns < due_ns) {
		due_ns = launcher->restart_ns;
	}
	if (due_ns == UINT64_MAX) {
		return -1;
	}
	return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / NS_PER_MS) + 1;
}

static nfds_t fill_polled(struct launcher *launcher)
{
	struct pollfd *polled = launcher->polled;
	nfds_t count = 0;

	polled[count++] = (struct pollfd){.fd = launcher->signal_fd, .events = POLLIN};
	polled[count++] = (struct pollfd){
		.fd = launcher->nexus_fd,
		.events = (short)(POLLIN | (nexus_wants_write(launcher) ? POLLOUT : 0)),
	};
	list_for_each (&launcher->volumes, node) {
		struct held *held = container_of(node, struct held, node);

		if (worker_is_running(&held->worker)) {
			launcher->polled_volumes[count] = held;
			polled[count++] =
				(struct pollfd){.fd = worker_fd(&held->worker), .events = POLLIN};
		}
	}
	return count;
}

static void run(struct launcher *launcher)
{
	const struct pollfd *polled = launcher->polled;

	while (!launcher->finished) {
		nexus_flush(launcher);
		nfds_t count = fill_polled(launcher);

		if (poll(launcher->polled, count, timeout_ms(launcher)) < 0 && errno != EINTR) {
			log_error(
				&launcher->log, MODULE, "poll-failed", "error=%s", err_name(errno));
			return;
		}
		for (nfds_t i = 2; i < count; i++) {
			if (polled[i].revents != 0) {
				held_worker_ready(launcher, launcher->polled_volumes[i]);
			}
		}
		if (polled[1].revents != 0) {
			nexus_receive(launcher);
		}
		if (polled[0].revents != 0) {
			take_signals(launcher);
		}
		if (launcher->stopping) {
			go_on_stopping(launcher);
		}
		if (launcher->nexus == 0 && launcher->restart_ns != 0 && !launcher->term_sent &&
			launcher_now_ns() >= launcher->restart_ns) {
			nexus_start(launcher);
		}
	}
}

/* ---- start
 * ---------------------------------------------------------------------------------------------------------------
 */

/* With MCL_FUTURE, mappings beyond the limit of locked memory fail: only where there is room for
 * all that comes.  Locking a range on fault takes no memory, so it is a question. */
static int lock_memory(void)
{
	void *room = mmap(NULL, LOCK_ROOM_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED) {
		return -1;
	}
	int result = mlock2(room, LOCK_ROOM_BYTES, MLOCK_ONFAULT);
	int error = errno;

	(void)munmap(room, LOCK_ROOM_BYTES);
	errno = error;
	return result < 0 ? result : mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

/* Dirty pages of the node are written back through the nexus, which cannot go on after a crash
 * without us. */
static void keep_out_of_memory_trouble(const struct launcher *launcher)
{
	static const char score[] = "-900";
	int fd;

	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0) {
		log_warning(&launcher->log, MODULE, "io-flusher-refused",
			"error=%s help=give CAP_SYS_RESOURCE", err_name(errno));
	}
	if (lock_memory() < 0) {
		log_warning(&launcher->log, MODULE, "mlockall-refused",
			"error=%s help=raise ulimit -l", err_name(errno));
	}
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, score, sizeof(score) - 1) < 0) {
		log_warning(
			&launcher->log, MODULE, "oom-score-refused", "error=%s", err_name(errno));
	}
	if (fd >= 0) {
		close(fd);
	}
}

/* The folders, and a lock that says that this launcher owns them. */
static int take_run_dir(struct launcher *launcher, const char *run_dir, struct err *err)
{
	char path[PATH_MAX];
	char absolute[PATH_MAX];
	int fd;

	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST) {
		return err_set(err, -errno, "making %s: %s", run_dir, err_describe(errno));
	}
	/* As it will appear in /proc and /sys. */
	if (realpath(run_dir, absolute) == NULL) {
		return err_set(err, -errno, "finding %s: %s", run_dir, err_describe(errno));
	}
	if ((size_t)snprintf(path, sizeof(path), "%s/launcher.lock", absolute) >= sizeof(path) ||
		(size_t)snprintf(launcher->volumes_folder, sizeof(launcher->volumes_folder),
			"%s/volumes", absolute) >= sizeof(launcher->volumes_folder)) {
		return err_set(err, -ENAMETOOLONG, "the path of %s is too long", run_dir);
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		return err_set(err, -errno, "opening %s: %s", path, err_describe(errno));
	}
	/* The descriptor stays open for the life of the process. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return err_set(err, -EBUSY,
			"another strake-launcher runs with %s: stop it, or give another --run-dir",
			run_dir);
	}
	if (mkdir(launcher->volumes_folder, 0700) < 0 && errno != EEXIST) {
		return err_set(err, -errno, "making %s: %s", launcher->volumes_folder,
			err_describe(errno));
	}
	return 0;
}

static int catch_signals(struct launcher *launcher)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &signals, &launcher->signals_before) < 0) {
		return -errno;
	}
	launcher->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	return launcher->signal_fd < 0 ? -errno : 0;
}

static void usage(FILE *to)
{
	(void)fprintf(to,
		"Usage: strake-launcher [--run-dir FOLDER] -- nexus --config FILE\n"
		"Starts a nexus, starts it again when it dies, and holds the block devices of its "
		"volumes\n"
		"meanwhile. SIGTERM takes the devices away and stops both.\n"
		"  --run-dir FOLDER  for its lock and mounts (default " RUN_DIR_DEFAULT ")\n");
}

static int parse_options(int argc, char **argv, const char **ret_run_dir)
{
	static const struct option options[] = {
		{"run-dir", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (option) {
		case 'r':
			*ret_run_dir = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case 'v':
			printf("strake-launcher %s\n", STRAKE_VERSION);
			exit(0);
		default:
			usage(stderr);
			return -EINVAL;
		}
	}
	if (optind >= argc) {
		usage(stderr);
		return -EINVAL;
	}
	return 0;
}

static int start(struct launcher *launcher, const char *run_dir, struct err *err)
{
	int result = take_run_dir(launcher, run_dir, err);

	if (result != 0) {
		return result;
	}
	keep_out_of_memory_trouble(launcher);
	result = catch_signals(launcher);
	if (result != 0) {
		return err_set(err, result, "signals cannot be caught: %s", err_describe(result));
	}
	held_clean_leftovers(launcher);
	nexus_start(launcher);
	return 0;
}

int main(int argc, char **argv)
{
	int log_fd = STDERR_FILENO;
	const char *run_dir = RUN_DIR_DEFAULT;
	struct launcher *launcher;
	struct err err;
	int result = parse_options(argc, argv, &run_dir);

	if (result != 0) {
		return 2;
	}
	launcher = calloc(1, sizeof(*launcher));
	if (launcher == NULL) {
		return 1;
	}
	launcher->log = (struct log){.sink = log_sink_fd, .ctx = &log_fd, .level_min = LOG_INFO};
	launcher->command = argv + optind;
	launcher->nexus_fd = -1;
	list_init(&launcher->outbox);
	list_init(&launcher->volumes);
	if (start(launcher, run_dir, &err) != 0) {
		(void)fprintf(stderr, "strake-launcher: %s\n", err.text);
		result = 1;
	} else {
		run(launcher);
		result = launcher->exit_code;
	}
	free(launcher);
	return result;
}
