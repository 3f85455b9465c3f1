/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that fails: one file, "disk", in a FUSE file system; its bytes lie in another file.
 *
 *   fault-disk PIPES FILE FOLDER     serves FILE as FOLDER/disk until FOLDER is unmounted
 *
 * Each line to the named pipe PIPES.in is a command, each is answered with one line to PIPES.out:
 * "ok requests=N failed=N delayed=N held=N", counted since the start, or "error".
 *
 *   fail KINDS ERROR PERMILLE
 *     So many of these requests fail; ERROR is EIO or ENOSPC.
 *   full
 *     Writes where FILE has a hole fail with ENOSPC, as on a file system that is full.
 *   delay KINDS MS
 *     These requests take so much longer.
 *   hold KINDS
 *     These requests are not answered.
 *   clear
 *     Everything is well again; what was held is done now.
 *   look
 *     Only the answer.
 *
 * KINDS: read,write,zero,flush or some of them.  A request that fails changes nothing.
 *
 * FILE is written through the page cache and a flush does nothing: what this program has taken
 * survives everything but the death of the machine.  It speaks to /dev/fuse itself: requests are
 * answered late and out of order, while others go on.
 */
#include "tests/faults/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define TRANSFER   (1u << 20)
#define BUFFER     (TRANSFER + 4096)
#define DISK_NODE  2u
#define NEVER      UINT64_MAX
#define NAME       "disk"
#define ATTR_VALID 3600u
#define NS_PER_MS  UINT64_C(1000000)

enum kind { READ, WRITE, ZERO, FLUSH, KINDS, OTHER = KINDS };

static const char *const kind_names[KINDS] = {"read", "write", "zero", "flush"};

struct behaviour {
	int error;
	unsigned permille;
	uint64_t delay_ns; /* NEVER: not answered */
};

/* A request that is answered later. */
struct held {
	struct held *next;
	uint64_t due_ns;
	size_t length;
	_Alignas(8) uint8_t request[];
};

static int fuse_fd, file_fd, command_fd;
static struct behaviour behaviours[KINDS];
static bool full;
static struct held *held_first;
static uint64_t requests, failed, delayed, held_count;
static uint8_t data[TRANSFER];

static void fail(const char *what)
{
	fprintf(stderr, "fault-disk: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- answers ---- */

static void answer(uint64_t unique, int error, const void *body, size_t length)
{
	struct fuse_out_header header = {
		.unique = unique, .error = error, .len = (uint32_t)(sizeof(header) + length)};
	struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)body, length}};

	/* ENOENT: the request was interrupted and is gone. */
	if (writev(fuse_fd, iov, length > 0 ? 2 : 1) < 0 && errno != ENOENT && errno != ENODEV) {
		fail("answer");
	}
}

static void attributes(uint64_t node, struct fuse_attr *attr)
{
	struct stat st;

	if (fstat(file_fd, &st) != 0) {
		fail("fstat");
	}
	*attr = (struct fuse_attr){
		.ino = node, .mode = S_IFDIR | 0755, .nlink = 2, .blksize = 4096};
	if (node == DISK_NODE) {
		attr->mode = S_IFREG | 0600;
		attr->nlink = 1;
		attr->size = (uint64_t)st.st_size;
		attr->blocks = (uint64_t)st.st_blocks;
	}
}

static void do_init(const struct fuse_in_header *in)
{
	const struct fuse_init_in *init = (const void *)(in + 1);
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 31,
		.max_readahead = init->max_readahead,
		.flags = (FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES) & init->flags,
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = TRANSFER,
		.max_pages = TRANSFER / 4096,
		.time_gran = 1,
	};

	answer(in->unique, 0, &out, sizeof(out));
}

static void do_lookup(const struct fuse_in_header *in)
{
	struct fuse_entry_out out = {
		.nodeid = DISK_NODE, .entry_valid = ATTR_VALID, .attr_valid = ATTR_VALID};

	if (in->nodeid != FUSE_ROOT_ID || strcmp((const char *)(in + 1), NAME) != 0) {
		answer(in->unique, -ENOENT, NULL, 0);
		return;
	}
	attributes(DISK_NODE, &out.attr);
	answer(in->unique, 0, &out, sizeof(out));
}

static void do_attributes(const struct fuse_in_header *in)
{
	struct fuse_attr_out out = {.attr_valid = ATTR_VALID};

	attributes(in->nodeid, &out.attr);
	answer(in->unique, 0, &out, sizeof(out));
}

static void do_open(const struct fuse_in_header *in)
{
	struct fuse_open_out out = {
		.open_flags = in->opcode == FUSE_OPEN
				      ? FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES
				      : 0};

	answer(in->unique, 0, &out, sizeof(out));
}

static void do_readdir(const struct fuse_in_header *in)
{
	const struct fuse_read_in *read_in = (const void *)(in + 1);
	struct fuse_dirent entry = {
		.ino = DISK_NODE, .off = 1, .namelen = sizeof(NAME) - 1, .type = S_IFREG >> 12};
	size_t length = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);

	if (read_in->offset != 0 || read_in->size < length) {
		answer(in->unique, 0, NULL, 0);
		return;
	}
	memset(data, 0, length);
	memcpy(data, &entry, FUSE_NAME_OFFSET);
	memcpy(data + FUSE_NAME_OFFSET, NAME, entry.namelen);
	answer(in->unique, 0, data, length);
}

/* ---- what a disk does ---- */

static void do_read(const struct fuse_in_header *in)
{
	const struct fuse_read_in *read_in = (const void *)(in + 1);
	ssize_t length = read_in->size > TRANSFER
				 ? -1
				 : pread(file_fd, data, read_in->size, (off_t)read_in->offset);

	answer(in->unique, length < 0 ? -EIO : 0, data, length < 0 ? 0 : (size_t)length);
}

/* Something of the range is not allocated in FILE. */
static bool has_hole(uint64_t offset, uint64_t length)
{
	off_t hole = lseek(file_fd, (off_t)offset, SEEK_HOLE);

	return hole < 0 || (uint64_t)hole < offset + length;
}

static void do_write(const struct fuse_in_header *in)
{
	const struct fuse_write_in *write_in = (const void *)(in + 1);
	struct fuse_write_out out = {.size = write_in->size};

	if (full && has_hole(write_in->offset, write_in->size)) {
		failed++;
		answer(in->unique, -ENOSPC, NULL, 0);
		return;
	}
	if (pwrite(file_fd, write_in + 1, write_in->size, (off_t)write_in->offset) !=
		(ssize_t)write_in->size) {
		answer(in->unique, -EIO, NULL, 0);
		return;
	}
	answer(in->unique, 0, &out, sizeof(out));
}

static void do_zero(const struct fuse_in_header *in)
{
	const struct fuse_fallocate_in *range = (const void *)(in + 1);
	int result =
		fallocate(file_fd, (int)range->mode, (off_t)range->offset, (off_t)range->length);

	answer(in->unique, result == 0 ? 0 : -errno, NULL, 0);
}

static enum kind kind_of(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_READ:
		return READ;
	case FUSE_WRITE:
		return WRITE;
	case FUSE_FALLOCATE:
		return ZERO;
	case FUSE_FSYNC:
		return FLUSH;
	default:
		return OTHER;
	}
}

static void execute(const struct fuse_in_header *in)
{
	switch (in->opcode) {
	case FUSE_READ:
		do_read(in);
		break;
	case FUSE_WRITE:
		do_write(in);
		break;
	case FUSE_FALLOCATE:
		do_zero(in);
		break;
	case FUSE_INIT:
		do_init(in);
		break;
	case FUSE_LOOKUP:
		do_lookup(in);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		do_attributes(in);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		do_open(in);
		break;
	case FUSE_READDIR:
		do_readdir(in);
		break;
	case FUSE_FSYNC:
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		answer(in->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(in->unique, -ENOSYS, NULL, 0);
		break;
	}
}

/* ---- and what it fails to do ---- */

static void hold(const struct fuse_in_header *in, size_t length, uint64_t due_ns)
{
	struct held *held = malloc(sizeof(*held) + length), **at = &held_first;

	if (held == NULL) {
		fail("memory");
	}
	held->due_ns = due_ns;
	held->length = length;
	memcpy(held->request, in, length);
	while (*at != NULL && (*at)->due_ns <= due_ns) {
		at = &(*at)->next;
	}
	held->next = *at;
	*at = held;
	held_count++;
	delayed++;
}

static void handle(const struct fuse_in_header *in, size_t length)
{
	enum kind kind = kind_of(in->opcode);
	const struct behaviour *behaviour = kind == OTHER ? NULL : &behaviours[kind];

	requests += behaviour != NULL;
	if (behaviour != NULL && (unsigned)random() % 1000 < behaviour->permille) {
		failed++;
		answer(in->unique, -behaviour->error, NULL, 0);
	} else if (behaviour != NULL && behaviour->delay_ns != 0) {
		hold(in, length,
			behaviour->delay_ns == NEVER ? NEVER : now_ns() + behaviour->delay_ns);
	} else {
		execute(in);
	}
}

static void release(uint64_t until_ns)
{
	while (held_first != NULL && held_first->due_ns <= until_ns) {
		struct held *held = held_first;

		held_first = held->next;
		held_count--;
		execute((const void *)held->request);
		free(held);
	}
}

/* ---- commands ---- */

static bool name_in(const char *name, const char *names)
{
	size_t length = strlen(name);

	for (const char *at = names; (at = strstr(at, name)) != NULL; at += length) {
		if ((at == names || at[-1] == ',') && (at[length] == ',' || at[length] == '\0')) {
			return true;
		}
	}
	return false;
}

static bool set(const char *names, struct behaviour behaviour)
{
	bool found = false;

	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (name_in(kind_names[kind], names)) {
			behaviours[kind] = behaviour;
			found = true;
		}
	}
	return found;
}

static bool obey(const char *line)
{
	char names[64] = "", error[16] = "";
	unsigned permille;
	uint64_t ms;

	if (sscanf(line, "fail %63s %15s %u", names, error, &permille) == 3) {
		int number = strcmp(error, "EIO") == 0      ? EIO
			     : strcmp(error, "ENOSPC") == 0 ? ENOSPC
							    : 0;

		return number != 0 &&
		       set(names, (struct behaviour){.error = number, .permille = permille});
	}
	if (sscanf(line, "delay %63s %" SCNu64, names, &ms) == 2) {
		return set(names, (struct behaviour){.delay_ns = ms * 1000000});
	}
	if (sscanf(line, "hold %63s", names) == 1) {
		return set(names, (struct behaviour){.delay_ns = NEVER});
	}
	if (strcmp(line, "full") == 0) {
		full = true;
		return true;
	}
	if (strcmp(line, "clear") == 0) {
		memset(behaviours, 0, sizeof(behaviours));
		full = false;
		release(NEVER);
		return true;
	}
	return strcmp(line, "look") == 0;
}

static void tell(char *text, size_t size)
{
	(void)snprintf(text, size,
		"requests=%" PRIu64 " failed=%" PRIu64 " delayed=%" PRIu64 " held=%" PRIu64,
		requests, failed, delayed, held_count);
}

/* ---- the loop ---- */

static int time_left_ms(void)
{
	uint64_t now = now_ns();

	if (held_first == NULL || held_first->due_ns == NEVER) {
		return -1;
	}
	return held_first->due_ns <= now
		       ? 0
		       : (int)((held_first->due_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void serve(void)
{
	static _Alignas(4096) uint8_t buffer[BUFFER];
	struct pollfd polled[2] = {
		{.fd = fuse_fd, .events = POLLIN}, {.fd = command_fd, .events = POLLIN}};

	for (;;) {
		ssize_t length;

		if (poll(polled, 2, time_left_ms()) < 0 && errno != EINTR) {
			fail("poll");
		}
		release(now_ns());
		if (polled[1].revents != 0) {
			commands_read(obey, tell);
		}
		if (polled[0].revents == 0) {
			continue;
		}
		length = read(fuse_fd, buffer, sizeof(buffer));
		if (length < 0 && errno == ENODEV) {
			return; /* unmounted */
		}
		if (length < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT) {
			fail("read");
		}
		if (length >= (ssize_t)sizeof(struct fuse_in_header)) {
			handle((const void *)buffer, (size_t)length);
		}
	}
}

int main(int argc, char **argv)
{
	char options[96];

	if (argc != 4) {
		fprintf(stderr, "usage: fault-disk PIPES FILE FOLDER\n");
		return 2;
	}
	srandom((unsigned)now_ns());
	file_fd = open(argv[2], O_RDWR | O_CLOEXEC);
	fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (file_fd < 0 || fuse_fd < 0) {
		fail(file_fd < 0 ? argv[2] : "/dev/fuse");
	}
	(void)snprintf(
		options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse_fd);
	if (mount("fault-disk", argv[3], "fuse.fault-disk", MS_NOSUID | MS_NODEV, options) != 0) {
		fail(argv[3]);
	}
	command_fd = commands_open(argv[1]);
	serve();
	return 0;
}
