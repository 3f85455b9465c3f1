/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int fail_with(struct err *err, int error, const char *what, const char *path)
{
	return err_set(err, -error, "%s %s: %s", what, path, err_describe(error));
}

int file_read(const char *path, size_t max_bytes, struct strbuf *to, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char buffer[4096];
	size_t total = 0;
	ssize_t got = 0;

	if (fd < 0) {
		return fail_with(err, errno, "open", path);
	}
	while (total <= max_bytes && (got = read(fd, buffer, sizeof(buffer))) != 0) {
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got < 0) {
			int result = fail_with(err, errno, "read", path);

			close(fd);
			return result;
		}
		total += (size_t)got;
		strbuf_append_bytes(to, buffer, (size_t)got);
	}
	close(fd);
	if (total > max_bytes) {
		return err_set(err, -EFBIG, "%s is larger than %zu bytes", path, max_bytes);
	}
	return strbuf_failed(to) ? err_set(err, -ENOMEM, "no memory to read %s", path) : 0;
}

static int sync_parent(const char *path, struct err *err)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');

	if (slash == NULL) {
		(void)snprintf(folder, sizeof(folder), ".");
	} else {
		(void)snprintf(folder, sizeof(folder), "%.*s",
			slash == path ? 1 : (int)(slash - path), path);
	}
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0) {
		int result = fail_with(err, errno, "sync folder", folder);

		if (fd >= 0) {
			close(fd);
		}
		return result;
	}
	close(fd);
	return 0;
}

/* 0 or positive errno. */
static int write_and_sync(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, text, length);

		if (written < 0 && errno != EINTR) {
			return errno;
		}
		if (written > 0) {
			text += written;
			length -= (size_t)written;
		}
	}
	return fsync(fd) < 0 ? errno : 0;
}

int file_replace(const char *path, const char *text, size_t length, struct err *err)
{
	char temporary[PATH_MAX];
	int name_length = snprintf(temporary, sizeof(temporary), "%s.tmp", path);

	if ((size_t)name_length >= sizeof(temporary)) {
		return fail_with(err, ENAMETOOLONG, "write", path);
	}
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		return fail_with(err, errno, "create", temporary);
	}
	int error = write_and_sync(fd, text, length);

	close(fd);
	if (error != 0) {
		(void)unlink(temporary);
		return fail_with(err, error, "write", temporary);
	}
	if (rename(temporary, path) < 0) {
		error = errno;
		(void)unlink(temporary);
		return fail_with(err, error, "replace", path);
	}
	return sync_parent(path, err);
}

int file_remove(const char *path, struct err *err)
{
	if (unlink(path) < 0) {
		return errno == ENOENT ? 0 : fail_with(err, errno, "remove", path);
	}
	return sync_parent(path, err);
}

int folder_make(const char *path, mode_t mode, struct err *err)
{
	char part[PATH_MAX];
	size_t length = strlen(path);
	struct stat stat_now;

	if (length == 0 || length >= sizeof(part)) {
		return fail_with(err, ENAMETOOLONG, "make folder", path);
	}
	for (size_t end = 1; end <= length; end++) {
		if (path[end] != '/' && path[end] != '\0') {
			continue;
		}
		memcpy(part, path, end);
		part[end] = '\0';
		if (mkdir(part, mode) < 0 && errno != EEXIST) {
			return fail_with(err, errno, "make folder", part);
		}
	}
	if (stat(path, &stat_now) < 0) {
		return fail_with(err, errno, "folder", path);
	}
	return S_ISDIR(stat_now.st_mode) ? 0 : fail_with(err, ENOTDIR, "folder", path);
}

int folder_lock(const char *path, unsigned wait_ms, int *ret_fd, struct err *err)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	char name[PATH_MAX];
	char pid[24] = "?";
	unsigned waited_ms = 0;

	(void)snprintf(name, sizeof(name), "%.*s/lock", (int)sizeof(name) - 6, path);
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		return fail_with(err, errno, "open", name);
	}
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || waited_ms >= wait_ms) {
			int error = errno == EWOULDBLOCK ? EBUSY : errno;
			ssize_t got = pread(fd, pid, sizeof(pid) - 1, 0);

			pid[got > 0 ? strcspn(pid, "\n") : 1] = '\0';
			close(fd);
			return err_set(err, -error,
				"%s is used by another process (pid %s); stop it or give this one "
				"another name",
				path, pid);
		}
		(void)nanosleep(&pause, NULL);
		waited_ms += 20;
	}
	/* For the text above only. */
	int length = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)length, 0) < 0) {
		int result = fail_with(err, errno, "write", name);

		close(fd);
		return result;
	}
	*ret_fd = fd;
	return 0;
}

int file_uuid(const char *path, struct uuid *ret_uuid, struct err *err)
{
	struct strbuf text;
	struct err why = {0};
	char line[UUID_TEXT_SIZE + 1];
	struct rng rng;

	strbuf_init(&text);
	int result = file_read(path, 256, &text, &why);

	if (result == 0) {
		(void)snprintf(line, sizeof(line), "%.*s", UUID_TEXT_SIZE - 1, strbuf_text(&text));
		result = text.length == UUID_TEXT_SIZE ? uuid_parse(line, ret_uuid) : -EINVAL;
		strbuf_done(&text);
		return result == 0 ? 0 : err_set(err, -EINVAL, "%s holds no uuid", path);
	}
	strbuf_done(&text);
	if (result != -ENOENT) {
		return err_set(err, result, "%s", why.text);
	}
	if (getrandom(&rng, sizeof(rng), 0) != sizeof(rng)) {
		return fail_with(err, EIO, "random numbers for", path);
	}
	struct uuid made;

	uuid_make(&made, &rng);
	(void)uuid_to_text(&made, line);
	line[UUID_TEXT_SIZE - 1] = '\n';
	result = file_replace(path, line, UUID_TEXT_SIZE, err);
	if (result == 0) {
		*ret_uuid = made;
	}
	return result;
}
