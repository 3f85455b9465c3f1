/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a trace: made, mapped, and put aside for the next. */
#include "trace/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

void trace_path(const char *folder, const char *name, bool previous, char *path, size_t path_bytes)
{
	(void)snprintf(path, path_bytes, "%s/%s.trace%s", folder, name, previous ? ".1" : "");
}

/* A page of a disk's file that is being written back makes whoever stores into it wait for the
 * disk. */
static int check_folder(const char *folder, struct err *err)
{
	struct statfs fs;

	if (statfs(folder, &fs) < 0) {
		return err_set(err, -errno, "%s: %s", folder, err_describe(errno));
	}
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC) {
		return err_set(err, -EOPNOTSUPP,
			"%s is not in memory (tmpfs): nothing is traced, and a successor cannot "
			"tell what "
			"this process dies of",
			folder);
	}
	return 0;
}

/* What the process before left; nothing when there is none, or none that can be read. */
static void read_crash(const char *path, struct trace_crash *ret_crash)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct trace_view view;
	struct stat st;

	*ret_crash = (struct trace_crash){0};
	if (fd < 0) {
		return;
	}
	if (fstat(fd, &st) == 0 && st.st_size > 0) {
		void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);

		if (bytes != MAP_FAILED) {
			if (trace_view_init(&view, bytes, (size_t)st.st_size, NULL) == 0) {
				*ret_crash = trace_view_crash(&view);
			}
			(void)munmap(bytes, (size_t)st.st_size);
		}
	}
	close(fd);
}

/* A file of that size whose pages are all there: a store must not find the file system full. */
static int map_file(const char *path, size_t size, void **ret_bytes, struct err *err)
{
	(void)unlink(path);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	void *bytes = MAP_FAILED;

	if (fd < 0) {
		return err_set(err, -errno, "%s: %s", path, err_describe(errno));
	}
	int result = -posix_fallocate(fd, 0, (off_t)size);

	if (result == 0) {
		bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		result = bytes == MAP_FAILED ? -errno : 0;
	}
	close(fd);
	if (result < 0) {
		(void)unlink(path);
		return err_set(err, result, "%s: %s", path, err_describe(result));
	}
	/* Touched, so that no page is faulted in later. */
	memset(bytes, 0, size);
	*ret_bytes = bytes;
	return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void fill_head(struct trace_head *head, const char *program, uint32_t record_count)
{
	head->version = TRACE_VERSION;
	head->record_bytes = sizeof(struct trace_record);
	head->record_count = record_count;
	head->pid = getpid();
	(void)snprintf(head->program, sizeof(head->program), "%s", program);
	(void)snprintf(head->release, sizeof(head->release), "%s", STRAKE_VERSION);
	head->start_real_ns = clock_ns(CLOCK_REALTIME);
	head->start_monotonic_ns = clock_ns(CLOCK_MONOTONIC);
	atomic_signal_fence(memory_order_release);
	memcpy(head->magic, TRACE_MAGIC, sizeof(head->magic));
}

int trace_new(const char *folder, const char *name, const char *program, uint32_t record_count,
	struct trace **ret_trace, struct trace_crash *ret_crash, struct err *err)
{
	size_t size = TRACE_HEAD_BYTES + record_count * sizeof(struct trace_record);
	char path[PATH_MAX], previous[PATH_MAX], fresh[PATH_MAX];
	void *bytes = NULL;

	assert(record_count > 0 && (record_count & (record_count - 1)) == 0 &&
		record_count <= TRACE_RECORDS_MAX);
	trace_path(folder, name, false, path, sizeof(path));
	trace_path(folder, name, true, previous, sizeof(previous));
	(void)snprintf(fresh, sizeof(fresh), "%.*s.new", PATH_MAX - 8, path);
	read_crash(path, ret_crash);
	if (rename(path, previous) < 0 && errno != ENOENT) {
		return err_set(err, -errno, "%s: %s", previous, err_describe(errno));
	}
	int result = check_folder(folder, err);

	result = result < 0 ? result : map_file(fresh, size, &bytes, err);
	if (result < 0) {
		return result;
	}
	fill_head(bytes, program, record_count);

	struct trace *trace = calloc(1, sizeof(*trace));

	if (trace == NULL || rename(fresh, path) < 0) {
		result = trace == NULL ? -ENOMEM : -errno;
		(void)munmap(bytes, size);
		(void)unlink(fresh);
		free(trace);
		return err_set(err, result, "%s: %s", path, err_describe(result));
	}
	trace->head = bytes;
	trace->records = (void *)((char *)bytes + TRACE_HEAD_BYTES);
	trace->mask = record_count - 1;
	trace->bytes = size;
	*ret_trace = trace;
	return 0;
}
