/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvmet-memory: the NVMe/TCP target alone, with memory behind it: what its path costs without a
 * store.  Prints a line of JSON with its address when it is ready, and one with its counters when
 * SIGTERM or SIGINT ends it.
 *
 *	nvmet-memory [--port 4439] [--size 256M] [--poll-us 0]
 */
#include "base/size.h"
#include "base/uuid.h"
#include "epoll/epoll.h"
#include "nvmet/nvmet.h"
#include "real/real.h"
#include "tests/bench/cpu_time.h"
#include "uring/uring.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define NQN        "nqn.2025-01.io.strake:volume:memory"
#define POOL_BYTES (64u << 20)

struct server {
	struct real *real;
	struct io *io;
	struct io_disk *disk;
	struct blk_dev dev;
	struct bufpool *buffers;
	struct nvmet *target;
	struct nvmet_blk *blk;
	struct io_fd_op signal_op;
	struct iovec signal_iov;
	struct signalfd_siginfo signal;
};

/* What a request needs of its own: the disk's operation. */
struct memory_io {
	struct io_disk_op op;
};

/* ---- the device ---- */

static void memory_done(struct io_disk_op *op)
{
	struct blk_req *req = op->ctx;

	req->result = op->result;
	req->done(req);
	req->released(req);
}

static enum io_disk_op_kind disk_kind(enum blk_kind kind)
{
	switch (kind) {
	case BLK_READ:
		return IO_DISK_READ;
	case BLK_WRITE:
		return IO_DISK_WRITE;
	case BLK_FLUSH:
		return IO_DISK_FLUSH;
	case BLK_ZERO:
	case BLK_DISCARD:
		return IO_DISK_ZERO;
	}
	abort();
}

static void memory_submit(struct blk_dev *dev, struct blk_req *req)
{
	struct server *server = container_of(dev, struct server, dev);
	struct memory_io *io = req->private_state;

	io->op = (struct io_disk_op){
		.kind = disk_kind(req->kind),
		.fua = req->fua,
		.offset = req->offset,
		.length = req->length,
		.iov = req->iov,
		.iov_count = req->iov_count,
		.done = memory_done,
		.ctx = req,
	};
	io_disk_submit(server->disk, &io->op);
}

static const struct blk_dev_ops memory_ops = {.submit = memory_submit};

/* ---- the end ---- */

static void target_closed(void *ctx)
{
	struct server *server = ctx;

	real_stop(server->real);
}

static void blk_removed(void *ctx)
{
	struct server *server = ctx;
	struct nvmet_stats stats;

	nvmet_get_stats(server->target, &stats);
	printf("{\"commands\": %" PRIu64 ", \"sends\": %" PRIu64 ", \"receives\": %" PRIu64
	       ", \"sent_bytes\": %" PRIu64 ", \"received_bytes\": %" PRIu64
	       ", \"cpu_seconds\": %.3f}\n",
		stats.commands, stats.sends, stats.receives, stats.sent_bytes, stats.received_bytes,
		(double)cpu_time_of_self() / 1e9);
	nvmet_close(server->target, target_closed, server);
}

static void signal_came(struct io_fd_op *op)
{
	struct server *server = op->ctx;

	nvmet_blk_remove(server->blk, blk_removed, server);
}

static void signals_watch(struct server *server)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	server->signal_iov = (struct iovec){&server->signal, sizeof(server->signal)};
	server->signal_op = (struct io_fd_op){
		.fd = signalfd(-1, &set, SFD_CLOEXEC),
		.iov = &server->signal_iov,
		.iov_count = 1,
		.done = signal_came,
		.ctx = server,
	};
	server->io->ops->fd_submit(server->io, &server->signal_op);
}

/* ---- the beginning ---- */

static int server_start(struct server *server, const struct real_options *ring, uint16_t port,
	uint64_t size_bytes, struct err *err)
{
	struct nvmet_options options = {.address = {"127.0.0.1", port}};
	struct uuid uuid;
	int result = real_new(ring, &server->real, err);

	if (result != 0) {
		return result;
	}
	server->io = real_io(server->real);
	result = real_memory_disk_new(server->real, size_bytes, &server->disk, err);
	if (result != 0) {
		return result;
	}
	result = bufpool_new(server->io, POOL_BYTES, &server->buffers);
	if (result != 0) {
		return err_set(err, result, "out of memory");
	}
	options.buffers = server->buffers;
	result = nvmet_new(server->io, &options, &server->target, err);
	if (result != 0) {
		return result;
	}
	server->dev =
		(struct blk_dev){&memory_ops, size_bytes, 4096, sizeof(struct memory_io), false};
	uuid_make(&uuid, &server->io->rng);
	return nvmet_blk_new(
		server->target, server->io, &server->dev, NQN, &uuid, &server->blk, err);
}

static const struct option long_options[] = {
	{"port", required_argument, NULL, 'p'},
	{"size", required_argument, NULL, 's'},
	{"poll-us", required_argument, NULL, 'u'},
	{NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
	struct metric_registry metrics;
	struct real_options ring = {
		.backends = {&uring_backend, &epoll_backend}, .metrics = &metrics};
	struct server server = {0};
	uint64_t size_bytes = 256u << 20;
	uint16_t port = 4439;
	struct err err;
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == 'p') {
			port = (uint16_t)strtoul(optarg, NULL, 10);
		} else if (option == 'u') {
			ring.poll_ns = strtoul(optarg, NULL, 10) * 1000;
		} else if (option != 's' || size_parse(optarg, &size_bytes, &err) != 0) {
			fprintf(stderr,
				"usage: nvmet-memory [--port P] [--size S] [--poll-us U]\n");
			return 2;
		}
	}
	metric_registry_init(&metrics);
	if (server_start(&server, &ring, port, size_bytes, &err) != 0) {
		fprintf(stderr, "nvmet-memory: %s\n", err.text);
		return 1;
	}
	signals_watch(&server);
	printf("{\"traddr\": \"127.0.0.1\", \"trsvcid\": %u, \"nqn\": \"%s\", \"pid\": %d}\n",
		nvmet_port(server.target), NQN, (int)getpid());
	fflush(stdout);
	real_run(server.real);
	bufpool_free(server.buffers);
	real_disk_close(server.disk);
	real_free(server.real);
	metric_registry_done(&metrics);
	return 0;
}
