/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define POLL_US         20000
#define REMOVE_WAIT_US  5000000
#define CONTROL_PATH    "/sys/fs/fuse/connections"
#define CONNECTION_PATH CONTROL_PATH "/%u/abort"
#define CONTROL_MAGIC   0x65735543

struct mount {
	unsigned major, minor;
	char *mount_point;
	char *type;
};

/* Blanks and backslashes are written as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] != '\0' &&
			from[3] != '\0') {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* "36 35 98:0 /root /mnt rw,... [optional ...] - type source options", pointing into the line. */
static bool parse_line(char *line, struct mount *ret_mount)
{
	char *rest = line;
	char *fields[5];

	for (unsigned i = 0; i < 5; i++) {
		fields[i] = strsep(&rest, " ");
		if (fields[i] == NULL || rest == NULL) {
			return false;
		}
	}
	char *separator = strstr(rest, " - ");

	if (separator == NULL ||
		sscanf(fields[2], "%u:%u", &ret_mount->major, &ret_mount->minor) != 2) {
		return false;
	}
	rest = separator + 3;
	ret_mount->type = strsep(&rest, " ");
	ret_mount->mount_point = fields[4];
	unescape(ret_mount->mount_point);
	return true;
}

/* Calls `each` until it returns true.  1: it did; 0: it never did; negative errno. */
static int each_mount(bool (*each)(const struct mount *mount, void *ctx), void *ctx)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t line_size = 0;
	int result = 0;

	if (file == NULL) {
		return -errno;
	}
	while (result == 0 && getline(&line, &line_size, file) > 0) {
		struct mount mount;

		if (parse_line(line, &mount) && each(&mount, ctx)) {
			result = 1;
		}
	}
	free(line);
	(void)fclose(file);
	return result;
}

/* ---- our mounts
 * ------------------------------------------------------------------------------------------------------
 */

int mounts_add(const char *folder, int fuse_fd, uint32_t transfer_bytes, struct err *err)
{
	char options[128];

	(void)snprintf(options, sizeof(options),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,max_read=%u",
		fuse_fd, transfer_bytes);
	if (mount("strake", folder, MOUNTS_TYPE, MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME,
		    options) < 0) {
		return err_set(err, -errno, "mounting FUSE at %s: %s", folder, err_describe(errno));
	}
	return 0;
}

int mounts_remove(const char *folder, struct err *err)
{
	for (unsigned waited_us = 0;; waited_us += POLL_US) {
		if (umount2(folder, UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT) {
			return 0;
		}
		/* The kernel lets go of the file a moment after the loop device is gone. */
		if (errno != EBUSY || waited_us >= REMOVE_WAIT_US) {
			return err_set(
				err, -errno, "unmounting %s: %s", folder, err_describe(errno));
		}
		usleep(POLL_US);
	}
}

struct find_path {
	const char *path;
	unsigned minor;
};

static bool is_our_path(const struct mount *mount, void *ctx)
{
	struct find_path *find = ctx;

	if (strcmp(mount->type, MOUNTS_TYPE) == 0 && strcmp(mount->mount_point, find->path) == 0) {
		find->minor = mount->minor;
		return true;
	}
	return false;
}

uint32_t mounts_connection(const char *folder)
{
	struct find_path find = {.path = folder};

	/* Not by stat(), which would ask whoever serves it. */
	return each_mount(is_our_path, &find) == 1 ? find.minor : 0;
}

static int write_abort(uint32_t fuse_connection)
{
	char path[64];
	int fd;
	int result;

	(void)snprintf(path, sizeof(path), CONNECTION_PATH, fuse_connection);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	result = write(fd, "1", 1) == 1 ? 0 : -errno;
	close(fd);
	return result;
}

/* A container's /sys may lack it. */
static bool mount_control(void)
{
	struct statfs status;

	return statfs(CONTROL_PATH, &status) == 0 && status.f_type != CONTROL_MAGIC &&
	       mount("none", CONTROL_PATH, "fusectl", 0, NULL) == 0;
}

void mounts_abort_connection(uint32_t fuse_connection)
{
	if (write_abort(fuse_connection) == -ENOENT && mount_control()) {
		(void)write_abort(fuse_connection);
	}
}

void mounts_abort(const char *folder)
{
	uint32_t fuse_connection = mounts_connection(folder);

	if (fuse_connection == 0) {
		return;
	}
	mounts_abort_connection(fuse_connection);
	/* Aborts too, where the control file system is not mounted, and does nothing else to a
	 * mount in use. */
	(void)umount2(folder, MNT_FORCE | UMOUNT_NOFOLLOW);
}

void mounts_drop(const char *folder)
{
	if (umount2(folder, MNT_FORCE | UMOUNT_NOFOLLOW) < 0 && errno == EBUSY) {
		(void)umount2(folder, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
}

struct list_below {
	const char *folder;
	char **paths;
	size_t count;
	bool failed;
};

static bool collect_below(const struct mount *mount, void *ctx)
{
	struct list_below *list = ctx;
	size_t length = strlen(list->folder);

	if (strcmp(mount->type, MOUNTS_TYPE) == 0 &&
		strncmp(mount->mount_point, list->folder, length) == 0 &&
		mount->mount_point[length] == '/') {
		char **paths = realloc(list->paths, (list->count + 1) * sizeof(*paths));
		char *path = strdup(mount->mount_point);

		if (paths != NULL) {
			list->paths = paths;
		}
		if (paths == NULL || path == NULL) {
			free(path);
			list->failed = true;
			return true;
		}
		paths[list->count++] = path;
	}
	return false;
}

int mounts_list_below(const char *folder, void (*found)(const char *path, void *ctx), void *ctx)
{
	struct list_below list = {.folder = folder};
	int result = each_mount(collect_below, &list);

	for (size_t i = 0; i < list.count; i++) {
		found(list.paths[i], ctx);
		free(list.paths[i]);
	}
	free(list.paths);
	if (result < 0) {
		return result;
	}
	return list.failed ? -ENOMEM : 0;
}

/* ---- who has a device mounted
 * ------------------------------------------------------------------------------------------ */

struct find_device {
	unsigned major, minor;
	char *mount_point;
	size_t size;
};

static bool is_device(const struct mount *mount, void *ctx)
{
	struct find_device *find = ctx;

	if (mount->major != find->major || mount->minor != find->minor) {
		return false;
	}
	(void)snprintf(find->mount_point, find->size, "%s", mount->mount_point);
	return true;
}

bool mounts_find_device(const char *device, char *ret_mount_point, size_t size)
{
	struct find_device find = {.mount_point = ret_mount_point, .size = size};
	struct stat status;

	if (stat(device, &status) < 0) {
		return false;
	}
	find.major = major(status.st_rdev);
	find.minor = minor(status.st_rdev);
	return each_mount(is_device, &find) == 1;
}
