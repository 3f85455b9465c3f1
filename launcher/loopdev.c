/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/loopdev.h"

#include "launcher/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOOP_MAJOR       7
#define ATTEMPTS_MAX     100
#define ATTEMPT_US_MAX   20000
#define POLL_US          20000
#define GONE_WAIT_US     5000000
#define SYSFS_LOOP       "/sys/block/loop%u/loop/backing_file"
#define HOLDER_TEXT_SIZE 128
#define LOOP_PATH        "/dev/loop%u"

/* Without udev the node of a new device may be missing. */
static int open_loop(unsigned number, char device[LOOPDEV_PATH_SIZE])
{
	int fd;

	(void)snprintf(device, LOOPDEV_PATH_SIZE, LOOP_PATH, number);
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT &&
		mknod(device, S_IFBLK | 0660, makedev(LOOP_MAJOR, number)) == 0) {
		fd = open(device, O_RDWR | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static void unbind(int loop_fd)
{
	if (ioctl(loop_fd, LOOP_CLR_FD) < 0) {
		/* It was not bound any more: what we want. */
		return;
	}
}

/* The kernel falls back to the page cache without a word, and takes the size from the file. */
static int check_bound(int loop_fd, const char *device, uint64_t size_bytes, struct err *err)
{
	struct loop_info64 info;
	uint64_t found_bytes = 0;

	if (ioctl(loop_fd, LOOP_GET_STATUS64, &info) < 0 ||
		ioctl(loop_fd, BLKGETSIZE64, &found_bytes) < 0) {
		return err_set(
			err, -errno, "asking %s for its state: %s", device, err_describe(errno));
	}
	if ((info.lo_flags & LO_FLAGS_DIRECT_IO) == 0) {
		return err_set(err, -EOPNOTSUPP,
			"the kernel did not turn on direct I/O for %s: publishing would go through "
			"the page cache",
			device);
	}
	if (found_bytes != size_bytes) {
		return err_set(err, -EIO, "%s has %llu bytes instead of %llu", device,
			(unsigned long long)found_bytes, (unsigned long long)size_bytes);
	}
	return 0;
}

/* A descriptor, -EAGAIN: somebody else was quicker or took the device away, else an error. */
static int bind_one(unsigned number, const struct loop_config *config,
	char device[LOOPDEV_PATH_SIZE], struct err *err)
{
	int fd = open_loop(number, device);

	if (fd == -ENXIO || fd == -ENODEV || fd == -EBUSY) {
		return -EAGAIN;
	}
	if (fd < 0) {
		return err_set(err, fd, "opening %s: %s", device, err_describe(fd));
	}
	if (ioctl(fd, LOOP_CONFIGURE, config) == 0) {
		return fd;
	}
	int error = errno;

	close(fd);
	if (error == EBUSY || error == EAGAIN || error == ENXIO) {
		return -EAGAIN;
	}
	return err_set(err, -error, "binding %s (needs Linux 5.8 or newer): %s", device,
		err_describe(error));
}

/* Finding a free one and taking it are two steps, and many may be at it on one machine. */
static int bind_free(int control_fd, const struct loop_config *config,
	char device[LOOPDEV_PATH_SIZE], struct err *err)
{
	unsigned seed = (unsigned)getpid();

	for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
		int number = ioctl(control_fd, LOOP_CTL_GET_FREE);
		int fd = number < 0 ? -errno : bind_one((unsigned)number, config, device, err);

		if (number < 0 && fd != -EEXIST && fd != -EAGAIN) {
			return err_set(err, fd, "no free loop device: %s", err_describe(fd));
		}
		if (number >= 0 && fd != -EAGAIN) {
			return fd;
		}
		usleep((useconds_t)(rand_r(&seed) % ATTEMPT_US_MAX));
	}
	return err_set(err, -EBUSY, "others took every free loop device");
}

int loopdev_attach(const char *file, uint64_t size_bytes, uint32_t block_bytes,
	char ret_device[LOOPDEV_PATH_SIZE], struct err *err)
{
	struct loop_config config = {
		.block_size = block_bytes,
		.info = {.lo_flags = LO_FLAGS_DIRECT_IO},
	};
	int control_fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file_fd;
	int loop_fd;
	int result;

	if (control_fd < 0) {
		return err_set(err, -errno, "opening /dev/loop-control (modprobe loop): %s",
			err_describe(errno));
	}
	file_fd = open(file, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (file_fd < 0) {
		result = err_set(err, -errno, "opening %s: %s", file, err_describe(errno));
		close(control_fd);
		return result;
	}
	config.fd = (uint32_t)file_fd;
	memcpy(config.info.lo_file_name, file, strnlen(file, sizeof(config.info.lo_file_name) - 1));
	loop_fd = bind_free(control_fd, &config, ret_device, err);
	close(file_fd);
	close(control_fd);
	if (loop_fd < 0) {
		return loop_fd;
	}
	result = check_bound(loop_fd, ret_device, size_bytes, err);
	if (result != 0) {
		unbind(loop_fd);
	}
	close(loop_fd);
	return result;
}

/* The kernel asks the file system for the file's size only when somebody wants to know it exactly;
 * loop takes what the kernel has. */
static int refresh_size(const char *file, uint64_t *ret_bytes, struct err *err)
{
	struct statx status;

	if (statx(AT_FDCWD, file, AT_STATX_FORCE_SYNC, STATX_SIZE, &status) < 0) {
		return err_set(
			err, -errno, "asking %s for its size: %s", file, err_describe(errno));
	}
	*ret_bytes = status.stx_size;
	return 0;
}

int loopdev_grow(const char *device, const char *file, uint64_t size_bytes, struct err *err)
{
	uint64_t file_bytes = 0;
	int result = refresh_size(file, &file_bytes, err);
	int fd;

	if (result == 0 && file_bytes != size_bytes) {
		result = err_set(err, -EIO, "%s has %llu bytes instead of %llu", file,
			(unsigned long long)file_bytes, (unsigned long long)size_bytes);
	}
	if (result != 0) {
		return result;
	}
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return err_set(err, -errno, "opening %s: %s", device, err_describe(errno));
	}
	if (ioctl(fd, LOOP_SET_CAPACITY, 0) < 0) {
		result = err_set(err, -errno, "%s does not grow: %s", device, err_describe(errno));
	} else {
		result = check_bound(fd, device, size_bytes, err);
	}
	close(fd);
	return result;
}

/* ---- taking it away
 * ------------------------------------------------------------------------------------------------
 */

static bool is_bound(const char *device)
{
	char path[LOOPDEV_PATH_SIZE];
	unsigned number;

	if (sscanf(device, LOOP_PATH, &number) != 1) {
		return false;
	}
	(void)snprintf(path, sizeof(path), SYSFS_LOOP, number);
	return access(path, F_OK) == 0;
}

static bool process_has_open(const char *pid, const char *device)
{
	char folder[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	(void)snprintf(folder, sizeof(folder), "/proc/%.16s/fd", pid);
	dir = opendir(folder);
	if (dir == NULL) {
		return false;
	}
	while (!found && (entry = readdir(dir)) != NULL) {
		char target[PATH_MAX];
		ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (length > 0) {
			target[length] = '\0';
			found = strcmp(target, device) == 0;
		}
	}
	closedir(dir);
	return found;
}

static void name_process(const char *pid, char text[HOLDER_TEXT_SIZE])
{
	char path[64];
	char command[64] = "";
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	file = fopen(path, "re");
	if (file != NULL) {
		if (fgets(command, sizeof(command), file) != NULL) {
			command[strcspn(command, "\n")] = '\0';
		}
		(void)fclose(file);
	}
	(void)snprintf(text, HOLDER_TEXT_SIZE, "by process %.16s (%s)", pid, command);
}

/* "by process 4711 (dd)", or a guess. */
static void name_holder(const char *device, char text[HOLDER_TEXT_SIZE])
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	(void)snprintf(
		text, HOLDER_TEXT_SIZE, "by another device, or mounted in another mount namespace");
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
			atoi(entry->d_name) != getpid() &&
			process_has_open(entry->d_name, device)) {
			name_process(entry->d_name, text);
			break;
		}
	}
	if (dir != NULL) {
		closedir(dir);
	}
}

static int say_who_uses_it(const char *device, struct err *err)
{
	char mount_point[PATH_MAX];
	char holder[HOLDER_TEXT_SIZE];

	if (mounts_find_device(device, mount_point, sizeof(mount_point))) {
		return err_set(
			err, -EBUSY, "%s is mounted at %s: umount it first", device, mount_point);
	}
	name_holder(device, holder);
	return err_set(err, -EBUSY, "%s is in use %s", device, holder);
}

static bool wait_until_unbound(const char *device)
{
	for (unsigned waited_us = 0; waited_us < GONE_WAIT_US; waited_us += POLL_US) {
		if (!is_bound(device)) {
			return true;
		}
		usleep(POLL_US);
	}
	return !is_bound(device);
}

/* Somebody still has it open: it stays as it was. */
static void stay_bound(const char *device)
{
	struct loop_info64 info;
	int fd = open(device, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		return;
	}
	if (ioctl(fd, LOOP_GET_STATUS64, &info) == 0) {
		info.lo_flags &= ~(uint32_t)LO_FLAGS_AUTOCLEAR;
		if (ioctl(fd, LOOP_SET_STATUS64, &info) < 0) {
			/* Then it goes away with its last user, and with it our reason to keep it.
			 */
			close(fd);
			return;
		}
	}
	close(fd);
}

int loopdev_detach(const char *device, bool data_is_lost, struct err *err)
{
	int fd;
	int result = 0;

	if (!is_bound(device)) {
		return err_set(err, -ENXIO, "%s is not bound", device);
	}
	fd = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	if (fd < 0) {
		return errno == EBUSY ? say_who_uses_it(device, err)
				      : err_set(err, -errno, "opening %s: %s", device,
						err_describe(errno));
	}
	if (fsync(fd) < 0 && !data_is_lost) {
		result = err_set(err, -errno, "flushing %s: %s", device, err_describe(errno));
	} else if (ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO) {
		result = err_set(err, -errno, "unbinding %s: %s", device, err_describe(errno));
	}
	close(fd);
	if (result != 0) {
		return result;
	}
	if (!wait_until_unbound(device)) {
		result = say_who_uses_it(device, err);
		stay_bound(device);
	}
	return result;
}

void loopdev_detach_lazily(const char *device)
{
	int fd = open(device, O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		unbind(fd);
		close(fd);
	}
}

/* ---- finding ours
 * ----------------------------------------------------------------------------------------------------
 */

/* One line of a file of sysfs; 0, -ENOENT, ... */
static int read_attribute(unsigned number, const char *attribute, char *line, size_t size)
{
	char path[LOOPDEV_PATH_SIZE];
	FILE *file;
	int result = 0;

	(void)snprintf(path, sizeof(path), "/sys/block/loop%u/%s", number, attribute);
	file = fopen(path, "re");
	if (file == NULL) {
		return -errno;
	}
	if (fgets(line, (int)size, file) == NULL) {
		result = ferror(file) != 0 ? -EIO : -ENOENT;
	} else {
		line[strcspn(line, "\n")] = '\0';
	}
	(void)fclose(file);
	return result;
}

static uint64_t read_number(unsigned number, const char *attribute)
{
	char line[32];

	return read_attribute(number, attribute, line, sizeof(line)) == 0 ? strtoull(line, NULL, 10)
									  : 0;
}

/* The last part of the path: what is before it depends on mount namespaces, and is gone with ours.
 * The file is our own: its name tells the volume. */
static int read_file_name(unsigned number, char *name, size_t size)
{
	char path[PATH_MAX];
	int result = read_attribute(number, "loop/backing_file", path, sizeof(path));

	if (result == 0) {
		const char *slash = strrchr(path, '/');

		(void)snprintf(name, size, "%.*s", (int)size - 1, slash == NULL ? path : slash + 1);
	}
	return result;
}

uint64_t loopdev_sequence(const char *device)
{
	unsigned number;

	return sscanf(device, LOOP_PATH, &number) == 1 && is_bound(device)
		       ? read_number(number, "diskseq")
		       : 0;
}

int loopdev_check(const char *device, const char *name, uint64_t sequence, struct err *err)
{
	char found[NAME_MAX + 1];
	unsigned number;
	uint64_t now;
	int result;

	if (sscanf(device, LOOP_PATH, &number) != 1) {
		return err_set(err, -ENODEV, "\"%s\" is no loop device", device);
	}
	result = read_file_name(number, found, sizeof(found));
	if (result == -ENOENT || result == -ENXIO) {
		/* The folder of a device that is not bound is not there: not for want of sysfs. */
		return access("/sys/block", F_OK) == 0
			       ? err_set(err, -ENODEV, "%s is not bound", device)
			       : err_set(err, -EIO, "/sys is not mounted");
	}
	if (result != 0) {
		return err_set(
			err, -EIO, "%s: what it is bound to: %s", device, err_describe(result));
	}
	if (strcmp(found, name) != 0) {
		return err_set(err, -ENODEV, "%s is bound to %s", device, found);
	}
	now = read_number(number, "diskseq");
	if (sequence != 0 && now != 0 && now != sequence) {
		return err_set(err, -ENODEV, "%s was bound anew", device);
	}
	return 0;
}

uint64_t loopdev_size(const char *device)
{
	unsigned number;

	return sscanf(device, LOOP_PATH, &number) == 1 ? read_number(number, "size") * 512 : 0;
}

int loopdev_check_size(
	const char *device, uint64_t size_bytes, uint32_t block_bytes, struct err *err)
{
	unsigned number;

	if (sscanf(device, LOOP_PATH, &number) != 1) {
		return err_set(err, -ENODEV, "\"%s\" is no loop device", device);
	}
	uint64_t found_bytes = read_number(number, "size") * 512;
	uint64_t found_block = read_number(number, "queue/logical_block_size");

	if (found_bytes >= size_bytes && found_block == block_bytes) {
		return 0;
	}
	return err_set(err, -ENODEV, "%s has %llu bytes in blocks of %llu, not %llu of %u", device,
		(unsigned long long)found_bytes, (unsigned long long)found_block,
		(unsigned long long)size_bytes, block_bytes);
}

/* Loop reports the device of the file's file system, for FUSE the number of the connection. */
static bool is_on_connection(unsigned number, uint32_t fuse_connection)
{
	struct loop_info64 info;
	char device[LOOPDEV_PATH_SIZE];
	int fd = open_loop(number, device);
	bool is_it = false;

	if (fd < 0) {
		return false;
	}
	if (ioctl(fd, LOOP_GET_STATUS64, &info) == 0) {
		is_it = ((info.lo_device & 0xff) | ((info.lo_device >> 12) & 0xfff00)) ==
				fuse_connection &&
			((info.lo_device >> 8) & 0xfff) == 0;
	}
	close(fd);
	return is_it;
}

static bool is_of(unsigned number, const char *name, uint32_t fuse_connection)
{
	char found[NAME_MAX + 1];

	return read_file_name(number, found, sizeof(found)) == 0 && strcmp(found, name) == 0 &&
	       is_on_connection(number, fuse_connection);
}

bool loopdev_next_of(const char *name, uint32_t fuse_connection, unsigned *index,
	char ret_device[LOOPDEV_PATH_SIZE])
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	unsigned best = UINT_MAX;

	/* The numbers come in no order: take the smallest from *index on. */
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		unsigned number;

		if (sscanf(entry->d_name, "loop%u", &number) == 1 && number >= *index &&
			number < best && is_of(number, name, fuse_connection)) {
			best = number;
		}
	}
	if (dir != NULL) {
		closedir(dir);
	}
	if (best == UINT_MAX) {
		return false;
	}
	*index = best + 1;
	(void)snprintf(ret_device, LOOPDEV_PATH_SIZE, LOOP_PATH, best);
	return true;
}
