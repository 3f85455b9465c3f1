/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for the nexus: the FUSE frontend on a device of memory, started by strake-launcher.
 * The memory is a file, so that what was written outlives a SIGKILL, as it would in the replicas.
 *
 *	fuse-null --name NAME --backing FILE [--delay-us N] [--null]
 *
 * --delay-us answers no request sooner, so that a kill finds some in flight; --null moves no data
 * (for measuring).  Prints "published DEVICE" once.
 */
#include "base/bytes.h"
#include "epoll/epoll.h"
#include "nexus/frontend/fuse.h"
#include "nexus/frontend/launcher_link.h"
#include "real/real.h"
#include "uring/uring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 4096u

struct memory_disk {
	struct blk_dev dev;
	unsigned char *memory;
	bool move_data;
	uint64_t delay_ns;
	struct io *io;
	struct list waiting;
	struct task task;
	struct io_timer timer;
};

/* In blk_req.private_state. */
struct memory_request {
	uint64_t due_ns;
};

struct program {
	const char *name;
	struct memory_disk disk;
	struct metric_registry metrics;
	struct log log;
	int log_fd;
	struct launcher_link *link;
	struct launcher_volume *volume;
	/* The reactor's thread. */
	pthread_t thread;
	struct real *real;
	struct fuse_frontend *frontend;
	struct io_msg start_msg, close_msg;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool running, closed;
};

/* ---- the device ---- */

static void execute(struct memory_disk *disk, struct blk_req *req)
{
	unsigned char *at = disk->memory + req->offset;

	req->result = 0;
	if (!disk->move_data) {
		return;
	}
	for (unsigned i = 0; i < req->iov_count; i++) {
		if (req->kind == BLK_READ) {
			memcpy(req->iov[i].iov_base, at, req->iov[i].iov_len);
		} else {
			memcpy(at, req->iov[i].iov_base, req->iov[i].iov_len);
		}
		at += req->iov[i].iov_len;
	}
	if (req->kind == BLK_ZERO || req->kind == BLK_DISCARD) {
		memset(at, 0, req->length);
	}
}

static void disk_step(struct task *task)
{
	struct memory_disk *disk = container_of(task, struct memory_disk, task);
	struct list_node *node;

	while ((node = list_first(&disk->waiting)) != NULL) {
		struct blk_req *req = container_of(node, struct blk_req, node);
		const struct memory_request *state = req->private_state;

		if (state->due_ns > io_now_ns(disk->io)) {
			io_timer_start(&disk->timer, state->due_ns);
			return;
		}
		list_remove(node);
		execute(disk, req);
		req->done(req);
		req->released(req);
	}
}

static void disk_submit(struct blk_dev *dev, struct blk_req *req)
{
	struct memory_disk *disk = container_of(dev, struct memory_disk, dev);
	struct memory_request *state = req->private_state;

	state->due_ns = disk->delay_ns == 0 ? 0 : io_now_ns(disk->io) + disk->delay_ns;
	list_push_back(&disk->waiting, &req->node);
	task_wake(&disk->task);
}

static const struct blk_dev_ops disk_ops = {.submit = disk_submit};

static int open_disk(struct memory_disk *disk, const char *path)
{
	struct stat status;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status) < 0) {
		perror(path);
		return -1;
	}
	disk->memory =
		mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (disk->memory == MAP_FAILED) {
		perror("mmap");
		return -1;
	}
	disk->dev = (struct blk_dev){
		.ops = &disk_ops,
		.size_bytes = (uint64_t)status.st_size,
		.block_bytes = BLOCK_BYTES,
		.req_private_bytes = sizeof(struct memory_request),
	};
	list_init(&disk->waiting);
	return 0;
}

/* ---- the reactor ---- */

static void set_flag(struct program *program, bool *flag)
{
	pthread_mutex_lock(&program->lock);
	*flag = true;
	pthread_cond_broadcast(&program->changed);
	pthread_mutex_unlock(&program->lock);
}

static void wait_flag(struct program *program, const bool *flag)
{
	pthread_mutex_lock(&program->lock);
	while (!*flag) {
		pthread_cond_wait(&program->changed, &program->lock);
	}
	pthread_mutex_unlock(&program->lock);
}

static void start_frontend(struct io_msg *msg)
{
	struct program *program = container_of(msg, struct program, start_msg);
	struct fuse_frontend_options options = {
		.fuse_fd = program->volume->fuse_fd,
		.table = program->volume->table,
		.table_bytes = program->volume->table_bytes,
		.dev = &program->disk.dev,
		.name = program->name,
	};
	struct err err;

	if (fuse_frontend_new(real_io(program->real), &options, &program->frontend, &err) != 0) {
		(void)fprintf(stderr, "frontend: %s\n", err.text);
		abort();
	}
}

static void frontend_closed(void *ctx)
{
	struct program *program = ctx;

	program->frontend = NULL;
	set_flag(program, &program->closed);
}

static void close_frontend(struct io_msg *msg)
{
	struct program *program = container_of(msg, struct program, close_msg);

	if (program->frontend == NULL) {
		set_flag(program, &program->closed);
	} else {
		fuse_frontend_close(program->frontend, frontend_closed, program);
	}
}

static void *run_reactor(void *arg)
{
	struct program *program = arg;
	struct real_options options = {
		.backends = {&uring_backend, &epoll_backend}, .metrics = &program->metrics};
	struct err err;

	if (real_new(&options, &program->real, &err) != 0) {
		(void)fprintf(stderr, "fuse-null: %s\n", err.text);
		abort();
	}
	struct io *io = real_io(program->real);

	io->log = program->log;
	program->disk.io = io;
	task_init(&program->disk.task, &io->runq, disk_step);
	io_timer_init(&program->disk.timer, io, &program->disk.task);
	set_flag(program, &program->running);
	real_run(program->real);
	io_timer_stop(&program->disk.timer);
	task_done(&program->disk.task);
	real_free(program->real);
	return NULL;
}

/* ---- the control thread ---- */

static void on_held(struct launcher_volume *volume, void *ctx)
{
	struct program *program = ctx;

	program->volume = volume;
	program->start_msg.run = start_frontend;
	io_post(real_io(program->real), &program->start_msg);
}

static void close_and_wait(struct program *program)
{
	program->closed = false;
	program->close_msg.run = close_frontend;
	io_post(real_io(program->real), &program->close_msg);
	wait_flag(program, &program->closed);
}

static void on_gone(struct launcher_volume *volume, void *ctx)
{
	close_and_wait(ctx);
	launcher_link_release(volume);
	((struct program *)ctx)->volume = NULL;
	printf("gone\n");
	(void)fflush(stdout);
}

static void on_answer(void *ctx, int result, const char *device, const char *text)
{
	(void)ctx;
	if (result == 0) {
		printf("published %s\n", device);
	} else {
		printf("failed %s: %s\n", err_name(result), text);
	}
	(void)fflush(stdout);
}

static void on_unpublished(void *ctx, int result, const char *device, const char *text)
{
	(void)ctx;
	(void)device;
	printf("unpublish %s: %s\n", result == 0 ? "done" : err_name(result), text);
	(void)fflush(stdout);
}

static void on_ready(void *ctx)
{
	struct program *program = ctx;
	struct launch_msg msg;
	struct err err;

	if (program->volume != NULL) {
		return;
	}
	launcher_link_fill_publish(&msg, program->name, program->disk.dev.size_bytes, BLOCK_BYTES);
	if (launcher_link_publish(program->link, &msg, on_answer, program, &err) != 0) {
		(void)fprintf(stderr, "publish: %s\n", err.text);
	}
}

static void on_lost(void *ctx)
{
	(void)ctx;
	exit(1);
}

static const struct launcher_link_ops link_ops = {
	.held = on_held,
	.gone = on_gone,
	.ready = on_ready,
	.lost = on_lost,
};

/* Until SIGTERM; SIGUSR1 unpublishes. */
static void run_control(struct program *program, int signal_fd)
{
	for (;;) {
		struct pollfd polled[2] = {
			{.fd = launcher_link_fd(program->link), .events = POLLIN},
			{.fd = signal_fd, .events = POLLIN},
		};
		struct signalfd_siginfo info;
		struct err err;

		if (poll(polled, 2, -1) < 0) {
			continue;
		}
		launcher_link_process(program->link);
		if (polled[1].revents == 0 ||
			read(signal_fd, &info, sizeof(info)) != sizeof(info)) {
			continue;
		}
		if (info.ssi_signo == SIGTERM) {
			return;
		}
		if (launcher_link_unpublish(
			    program->link, program->name, 0, on_unpublished, program, &err) != 0) {
			(void)fprintf(stderr, "unpublish: %s\n", err.text);
		}
	}
}

static int parse(int argc, char **argv, struct program *program, const char **ret_backing)
{
	static const struct option options[] = {
		{"name", required_argument, NULL, 'n'},
		{"backing", required_argument, NULL, 'b'},
		{"delay-us", required_argument, NULL, 'd'},
		{"null", no_argument, NULL, '0'},
		{NULL, 0, NULL, 0},
	};
	int option;

	program->disk.move_data = true;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			program->name = optarg;
			break;
		case 'b':
			*ret_backing = optarg;
			break;
		case 'd':
			program->disk.delay_ns = strtoull(optarg, NULL, 10) * 1000;
			break;
		case '0':
			program->disk.move_data = false;
			break;
		default:
			return -1;
		}
	}
	return program->name == NULL || *ret_backing == NULL ? -1 : 0;
}

int main(int argc, char **argv)
{
	static struct program program = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	const char *backing = NULL;
	struct err err;
	sigset_t signals;
	int signal_fd;

	if (parse(argc, argv, &program, &backing) != 0 || open_disk(&program.disk, backing) != 0) {
		return 2;
	}
	program.log_fd = STDERR_FILENO;
	program.log = (struct log){log_sink_fd, &program.log_fd, LOG_INFO};
	metric_registry_init(&program.metrics);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (launcher_link_new(&link_ops, &program, &program.log, &program.link, &err) != 0) {
		(void)fprintf(stderr, "fuse-null: %s\n", err.text);
		return 1;
	}
	if (pthread_create(&program.thread, NULL, run_reactor, &program) != 0) {
		return 1;
	}
	wait_flag(&program, &program.running);
	run_control(&program, signal_fd);
	close_and_wait(&program);
	launcher_link_free(program.link);
	real_stop(program.real);
	pthread_join(program.thread, NULL);
	return 0;
}
