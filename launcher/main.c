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
#include <sys/resource.h>
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
/* For a keeper that is away to come back and take what it lacks. */
#define STOP_KEEPER_NS (10 * NS_PER_S)
/* For the helpers of a predecessor: what they are at in the kernel ends, unless it waits for the
 * nexus that we are to start. */
#define HELPERS_WAIT_MS 2000
#define LOCK_POLL_MS    20

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
	if (!launcher->begun) {
		/* What the keeper holds stays with it. */
		launcher->finished = true;
	} else if (launcher->keeper_path != NULL) {
		launcher->stop_deadline_ns = launcher_now_ns() + STOP_KEEPER_NS;
	} else {
		launcher->stop_deadline_ns = launcher_now_ns() + STOP_VOLUMES_NS;
		list_for_each_safe (&launcher->volumes, node, following) {
			held_stop(launcher, container_of(node, struct held, node));
		}
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

/* What the keeper has outlives us; what it does not take is taken away. */
static void give_up_keeper(struct launcher *launcher, uint64_t now_ns)
{
	launcher->keeper_given_up = true;
	launcher->stop_deadline_ns = now_ns + STOP_VOLUMES_NS;
	list_for_each_safe (&launcher->volumes, node, following) {
		struct held *held = container_of(node, struct held, node);

		if (!held->kept) {
			log_warning(&launcher->log, MODULE, "not-kept",
				"volume=%s device=%s help=the keeper is not there: taken away",
				held->name, held->device);
			held_stop(launcher, held);
		}
	}
}

static bool is_anything_to_take_away(const struct launcher *launcher)
{
	list_for_each (&launcher->volumes, node) {
		if (!container_of(node, struct held, node)->kept) {
			return true;
		}
	}
	return false;
}

/* The volumes first, while there is a nexus to write back to; then the nexus. */
static void go_on_stopping(struct launcher *launcher)
{
	uint64_t now_ns = launcher_now_ns();

	if (launcher->keeper_path != NULL && !launcher->keeper_given_up &&
		!keeper_has_all(launcher)) {
		if (now_ns >= launcher->stop_deadline_ns) {
			give_up_keeper(launcher, now_ns);
		}
		return;
	}
	if (is_anything_to_take_away(launcher) && now_ns < launcher->stop_deadline_ns) {
		return;
	}
	list_for_each_safe (&launcher->volumes, node, following) {
		struct held *held = container_of(node, struct held, node);

		if (!held->kept) {
			held_force(launcher, held, -ESHUTDOWN, "the launcher stops");
		}
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
	if (launcher->keeper_retry_ns != 0 && launcher->keeper_retry_ns < due_ns) {
		due_ns = launcher->keeper_retry_ns;
	}
	list_for_each (&launcher->volumes, node) {
		const struct held *held = container_of(node, struct held, node);

		if (held->state == HELD_KEEPING && held->keep_deadline_ns < due_ns) {
			due_ns = held->keep_deadline_ns;
		}
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
	polled[count++] = (struct pollfd){
		.fd = launcher->keeper_fd,
		.events = (short)(POLLIN | (keeper_wants_write(launcher) ? POLLOUT : 0)),
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

static void take_events(struct launcher *launcher, nfds_t count)
{
	const struct pollfd *polled = launcher->polled;

	for (nfds_t i = 3; i < count; i++) {
		if (polled[i].revents != 0) {
			held_worker_ready(launcher, launcher->polled_volumes[i]);
		}
	}
	if (polled[1].revents != 0) {
		nexus_receive(launcher);
	}
	if (polled[2].revents != 0) {
		keeper_receive(launcher);
	}
	if (polled[0].revents != 0) {
		take_signals(launcher);
	}
}

static void take_timers(struct launcher *launcher)
{
	uint64_t now_ns = launcher_now_ns();

	list_for_each_safe (&launcher->volumes, node, following) {
		struct held *held = container_of(node, struct held, node);

		if (held->state == HELD_KEEPING && now_ns >= held->keep_deadline_ns) {
			held_keep_expired(launcher, held);
		}
	}
	if (launcher->keeper_retry_ns != 0 && now_ns >= launcher->keeper_retry_ns) {
		keeper_connect(launcher);
	}
	if (launcher->nexus == 0 && launcher->restart_ns != 0 && !launcher->term_sent &&
		now_ns >= launcher->restart_ns) {
		nexus_start(launcher);
	}
}

static void run(struct launcher *launcher)
{
	while (!launcher->finished) {
		nexus_flush(launcher);
		keeper_flush(launcher);
		nfds_t count = fill_polled(launcher);

		if (poll(launcher->polled, count, timeout_ms(launcher)) < 0 && errno != EINTR) {
			log_error(
				&launcher->log, MODULE, "poll-failed", "error=%s", err_name(errno));
			return;
		}
		take_events(launcher, count);
		if (launcher->stopping && !launcher->finished) {
			go_on_stopping(launcher);
		}
		take_timers(launcher);
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
	if (result < 0 || mlockall(MCL_CURRENT) < 0) {
		return -1;
	}
	return mlockall(MCL_FUTURE | MCL_ONFAULT);
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

/* As it will appear in /proc and /sys. */
static int make_folders(
	struct launcher *launcher, const char *run_dir, char absolute[PATH_MAX], struct err *err)
{
	char *const folders[] = {launcher->volumes_folder, launcher->records_folder};
	static const char *const names[] = {"volumes", "records"};

	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST) {
		return err_set(err, -errno, "making %s: %s", run_dir, err_describe(errno));
	}
	if (realpath(run_dir, absolute) == NULL) {
		return err_set(err, -errno, "finding %s: %s", run_dir, err_describe(errno));
	}
	for (unsigned i = 0; i < 2; i++) {
		if ((size_t)snprintf(folders[i], PATH_MAX, "%s/%s", absolute, names[i]) >=
			PATH_MAX) {
			return err_set(err, -ENAMETOOLONG, "the path of %s is too long", run_dir);
		}
		if (mkdir(folders[i], 0700) < 0 && errno != EEXIST) {
			return err_set(
				err, -errno, "making %s: %s", folders[i], err_describe(errno));
		}
	}
	return 0;
}

/* The descriptor stays open for the life of the process. */
static int open_lock(const char *folder, const char *name, struct err *err)
{
	char path[PATH_MAX];
	int fd;

	(void)snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX - 32, folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd >= 0 ? fd : err_set(err, -errno, "opening %s: %s", path, err_describe(errno));
}

/* The folders, and a lock that says that this launcher owns them. */
static int take_run_dir(struct launcher *launcher, const char *run_dir, struct err *err)
{
	char absolute[PATH_MAX];
	int fd = make_folders(launcher, run_dir, absolute, err);

	fd = fd < 0 ? fd : open_lock(absolute, "launcher.lock", err);
	if (fd < 0) {
		return fd;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return err_set(err, -EBUSY,
			"another strake-launcher runs with %s: stop it, or give another --run-dir",
			run_dir);
	}
	launcher->nexus_lock_fd = open_lock(absolute, "nexus.lock", err);
	if (launcher->nexus_lock_fd < 0) {
		return launcher->nexus_lock_fd;
	}
	launcher->helpers_lock_fd = open_lock(absolute, "helpers.lock", err);
	return launcher->helpers_lock_fd < 0 ? launcher->helpers_lock_fd : 0;
}

/* 0; -EWOULDBLOCK: the time is over; -EINTR: we are to stop. */
static int wait_for_lock(struct launcher *launcher, int fd, unsigned wait_ms)
{
	struct pollfd polled = {.fd = launcher->signal_fd, .events = POLLIN};

	for (unsigned waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_POLL_MS) {
		if (waited_ms >= wait_ms) {
			return -EWOULDBLOCK;
		}
		if (poll(&polled, 1, LOCK_POLL_MS) > 0) {
			take_signals(launcher);
			if (launcher->stopping) {
				return -EINTR;
			}
		}
	}
	return 0;
}

/*
 * Two nexuses on one request table would write one request's data twice, at different times.  The
 * lock goes when the last thread of a predecessor's nexus is gone, and with it the reads that it
 * had submitted.
 */
static void wait_for_predecessor(struct launcher *launcher)
{
	int result = wait_for_lock(launcher, launcher->nexus_lock_fd, LOCK_POLL_MS);

	if (result == -EWOULDBLOCK) {
		log_warning(&launcher->log, MODULE, "waiting-for-predecessor",
			"reason=its nexus has not ended yet");
		result = wait_for_lock(launcher, launcher->nexus_lock_fd, UINT_MAX);
	}
	if (result == 0) {
		result = wait_for_lock(launcher, launcher->helpers_lock_fd, HELPERS_WAIT_MS);
	}
	if (result == -EWOULDBLOCK) {
		log_warning(&launcher->log, MODULE, "helpers-left",
			"reason=they wait for a nexus to answer");
	}
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
		"Usage: strake-launcher [--run-dir FOLDER] [--keeper SOCKET] -- nexus --config "
		"FILE\n"
		"Starts a nexus, starts it again when it dies, and holds the block devices of its "
		"volumes\n"
		"meanwhile. SIGTERM takes the devices away and stops both; with a keeper, which "
		"holds "
		"them too,\n"
		"they stay for the next launcher.\n"
		"  --run-dir FOLDER  for its lock and mounts (default " RUN_DIR_DEFAULT ")\n"
		"  --keeper SOCKET   of the process that outlives this one\n");
}

static int parse_options(int argc, char **argv, const char **ret_run_dir, const char **ret_keeper)
{
	static const struct option options[] = {
		{"keeper", required_argument, NULL, 'k'},
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
		case 'k':
			*ret_keeper = optarg;
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

/* Each volume takes two, and the usual limit is below what we hold at most. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int start(struct launcher *launcher, const char *run_dir, struct err *err)
{
	int result = take_run_dir(launcher, run_dir, err);

	if (result != 0) {
		return result;
	}
	keep_out_of_memory_trouble(launcher);
	allow_descriptors();
	result = catch_signals(launcher);
	if (result != 0) {
		return err_set(err, result, "signals cannot be caught: %s", err_describe(result));
	}
	wait_for_predecessor(launcher);
	if (launcher->stopping) {
		return 0;
	}
	if (launcher->keeper_path == NULL) {
		launcher_begin(launcher);
	} else {
		keeper_connect(launcher);
	}
	return 0;
}

void launcher_begin(struct launcher *launcher)
{
	if (!launcher->begun && !launcher->finished) {
		launcher->begun = true;
		held_clean_leftovers(launcher);
		nexus_start(launcher);
	}
}

int main(int argc, char **argv)
{
	int log_fd = STDERR_FILENO;
	const char *run_dir = RUN_DIR_DEFAULT;
	const char *keeper_path = NULL;
	struct launcher *launcher;
	struct err err;
	int result = parse_options(argc, argv, &run_dir, &keeper_path);

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
	launcher->keeper_path = keeper_path;
	launcher->keeper_fd = -1;
	list_init(&launcher->keeper_outbox);
	list_init(&launcher->outbox);
	list_init(&launcher->volumes);
	if (start(launcher, run_dir, &err) != 0) {
		(void)fprintf(stderr, "strake-launcher: %s\n", err.text);
		result = 1;
	} else {
		run(launcher);
		result = launcher->exit_code;
		held_leave_all(launcher);
	}
	free(launcher);
	return result;
}
