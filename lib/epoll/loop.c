/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend's part of a turn: disk operations are handed to their threads, one system call waits
 * for descriptors that are ready again, then everything that was started is tried.
 */
#include "epoll/epoll.h"
#include "epoll/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* While there is other work the set is looked at every so many turns only. */
#define SKIPPED_MAX 4u

int epoll_add(struct epoll *epoll, int fd, uint32_t events, struct epoll_source *source)
{
	struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};

	return epoll_ctl(epoll->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void epoll_remove(struct epoll *epoll, int fd)
{
	(void)epoll_ctl(epoll->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- parts of a turn --------------------------------------------------------------------------
 */

static void submit(struct real *real)
{
	epoll_disks_hand_over(epoll_of_real(real));
}

static bool has_work(struct real *real)
{
	struct epoll *epoll = epoll_of_real(real);

	return epoll->event_count > 0 || !list_is_empty(&epoll->started);
}

/* Rounded up: a timer that is early would make the loop turn in vain. */
static int wait_in_ms(struct epoll *epoll, uint64_t wait_ns)
{
	uint64_t wait_ms = (wait_ns + IO_NS_PER_MS - 1) / IO_NS_PER_MS;
	int timeout = wait_ns == UINT64_MAX ? -1 : wait_ms < 60000 ? (int)wait_ms : 60000;

	return epoll_wait(epoll->epoll_fd, epoll->events, EPOLL_EVENTS, timeout);
}

static int wait_for_events(struct epoll *epoll, uint64_t wait_ns)
{
	struct timespec timeout = {.tv_sec = (time_t)(wait_ns / IO_NS_PER_S),
		.tv_nsec = (long)(wait_ns % IO_NS_PER_S)};

	if (wait_ns == 0 || wait_ns == UINT64_MAX || epoll->no_pwait2) {
		return wait_in_ms(epoll, wait_ns);
	}
	int count = epoll_pwait2(epoll->epoll_fd, epoll->events, EPOLL_EVENTS, &timeout, NULL);

	/* Absent before Linux 5.11, and unknown to older seccomp profiles. */
	if (count < 0 && (errno == ENOSYS || errno == EPERM)) {
		epoll->no_pwait2 = true;
		return wait_in_ms(epoll, wait_ns);
	}
	return count;
}

static void enter(struct real *real, uint64_t deadline_ns)
{
	struct epoll *epoll = epoll_of_real(real);
	uint64_t wait_ns = deadline_ns;

	if (deadline_ns == 0 && !list_is_empty(&epoll->started) && epoll->skipped < SKIPPED_MAX) {
		epoll->skipped++;
		return;
	}
	if (epoll->event_count > 0) {
		return;
	}
	epoll->skipped = 0;
	if (deadline_ns != 0 && deadline_ns != UINT64_MAX) {
		uint64_t now_ns = real_clock_ns();

		wait_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
	}
	int count = wait_for_events(epoll, wait_ns);

	assert(count >= 0 || errno == EINTR);
	epoll->event_count = count > 0 ? (unsigned)count : 0;
}

static unsigned complete(struct real *real)
{
	struct epoll *epoll = epoll_of_real(real);
	struct list now;
	struct list_node *node;
	unsigned count = 0;

	/* Only notes and starts; so nothing that an event refers to goes before the next is seen.
	 */
	for (unsigned i = 0; i < epoll->event_count; i++) {
		struct epoll_source *source = epoll->events[i].data.ptr;

		source->ready(epoll, source, epoll->events[i].events);
	}
	epoll->event_count = 0;
	/* What is started from within waits for the next turn. */
	list_init(&now);
	list_splice_back(&now, &epoll->started);
	while ((node = list_pop_front(&now)) != NULL) {
		struct epoll_op *op = container_of(node, struct epoll_op, node);

		op->run(epoll, op);
		count++;
	}
	return count;
}

/* ---- making -----------------------------------------------------------------------------------
 */

/* Not even read: each write is a new edge. */
static void event_ready(struct epoll *epoll, struct epoll_source *source, uint32_t events)
{
	(void)epoll;
	(void)source;
	(void)events;
}

static int open_set(struct real *real, struct err *err)
{
	struct epoll *epoll = epoll_of_real(real);
	int error;

	epoll->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll->epoll_fd < 0) {
		return err_set(err, -errno, "epoll_create1: %s", err_describe(errno));
	}
	list_init(&epoll->started);
	list_init(&epoll->started_disks);
	epoll->event_source.ready = event_ready;
	error = epoll_add(epoll, real->event_fd, EPOLLIN, &epoll->event_source);
	if (error != 0) {
		close(epoll->epoll_fd);
		return err_set(err, error, "epoll_ctl: %s", err_describe(error));
	}
	(void)snprintf(real->text, sizeof(real->text), "epoll, %d threads for each disk",
		EPOLL_DISK_THREADS);
	return 0;
}

static void close_set(struct real *real)
{
	struct epoll *epoll = epoll_of_real(real);

	/* Listeners that are closed but not freed. */
	while (!list_is_empty(&epoll->started)) {
		(void)complete(real);
	}
	epoll_fds_free(epoll);
	close(epoll->epoll_fd);
}

static const struct io_ops io_ops = {
	.now_ns = real_now_ns,
	.post = real_post,
	.listen = epoll_listen,
	.unlisten = epoll_unlisten,
	.connect = epoll_connect,
	.fd_submit = epoll_fd_submit,
	.fd_cancel = epoll_fd_cancel,
	.fd_forget = epoll_fd_forget,
	.zalloc = real_zalloc,
	.free = real_free_memory,
	.dump = real_dump,
};

const struct real_backend epoll_backend = {
	.name = "epoll",
	.cost = "more CPU for each I/O, and only a few I/Os at a time on each disk",
	.ops = &io_ops,
	.size = sizeof(struct epoll),
	.open = open_set,
	.close = close_set,
	.submit = submit,
	.has_work = has_work,
	.enter = enter,
	.complete = complete,
	.disk_start = epoll_disk_start,
	.disk_open = epoll_disk_open,
	.disk_close = epoll_disk_close,
};
