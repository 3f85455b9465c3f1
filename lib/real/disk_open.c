/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, locking and closing of disks: the control path, which may block. */
#include "base/bytes.h"
#include "real/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_BLOCK_BYTES 4096u
#define LOCK_RETRY_MS    20u

static void sleep_ms(unsigned ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
	}
}

/* ---- open -------------------------------------------------------------------------------------
 */

static int open_refused(const char *path, int error, struct err *err)
{
	switch (error) {
	case -EBUSY:
		return err_set(err, -EBUSY,
			"%s is in use: it is mounted, or LVM, md or another process has opened it "
			"exclusively (see lsblk and fuser -v)",
			path);
	case -EEXIST:
		return err_set(err, -EEXIST, "%s exists already; it is not overwritten", path);
	case -EINVAL:
	case -EOPNOTSUPP:
		return err_set(err, -EOPNOTSUPP,
			"%s: this file system does not support O_DIRECT (tmpfs of an older "
			"kernel?): put the "
			"file on ext4 or XFS, or use a block device",
			path);
	default:
		return err_set(err, error, "open %s: %s", path, err_describe(error));
	}
}

static bool is_block_device(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISBLK(status.st_mode);
}

/* A descriptor or negative errno.  *wait_ms is what is left of the waiting time. */
static int open_path(const char *path, const struct real_disk_options *options, unsigned *wait_ms,
	struct err *err)
{
	int flags = (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT;

	if (options->create) {
		flags |= O_CREAT | O_EXCL;
	} else if (is_block_device(path)) {
		flags |= O_EXCL;
	}
	for (;;) {
		int fd = open(path, flags, 0600);

		if (fd >= 0) {
			return fd;
		}
		if ((errno == EINVAL || errno == EOPNOTSUPP) && options->buffered_allowed &&
			(flags & O_DIRECT) != 0) {
			/* open(2) may have made the file before it refused the flag. */
			if (options->create) {
				(void)unlink(path);
			}
			flags &= ~O_DIRECT;
			continue;
		}
		if (errno == EBUSY && *wait_ms > 0) {
			unsigned pause_ms = *wait_ms < LOCK_RETRY_MS ? *wait_ms : LOCK_RETRY_MS;

			sleep_ms(pause_ms);
			*wait_ms -= pause_ms;
			continue;
		}
		int error = -errno;

		if (options->create && error == -EINVAL) {
			(void)unlink(path);
		}
		return open_refused(path, error, err);
	}
}

static int lock(int fd, const char *path, bool shared, unsigned wait_ms, struct err *err)
{
	int operation = (shared ? LOCK_SH : LOCK_EX) | LOCK_NB;

	while (flock(fd, operation) != 0) {
		int error = -errno;

		if (error == -EINTR) {
			continue;
		}
		if (error != -EWOULDBLOCK) {
			return err_set(err, error, "lock %s: %s", path, err_describe(error));
		}
		if (wait_ms == 0) {
			char holder[128] = "";

			real_disk_lock_holder(fd, holder, sizeof(holder));
			return err_set(err, -EBUSY,
				"%s is locked by another process%s: stop it first, or give this "
				"one another "
				"disk",
				path, holder);
		}
		unsigned pause_ms = wait_ms < LOCK_RETRY_MS ? wait_ms : LOCK_RETRY_MS;

		sleep_ms(pause_ms);
		wait_ms -= pause_ms;
	}
	return 0;
}

/* ---- size and alignment -----------------------------------------------------------------------
 */

static int measure_block_device(struct real_disk *disk, const char *path, struct err *err)
{
	uint64_t size_bytes = 0;
	int logical_bytes = 0;

	if (ioctl(disk->fd, BLKGETSIZE64, &size_bytes) != 0 ||
		ioctl(disk->fd, BLKSSZGET, &logical_bytes) != 0) {
		return err_set(err, -errno, "size of %s: %s", path, err_describe(errno));
	}
	if (logical_bytes < 512 || !is_power_of_two((uint64_t)logical_bytes)) {
		return err_set(
			err, -EINVAL, "%s has a logical block of %d bytes", path, logical_bytes);
	}
	disk->disk.block_bytes = (uint32_t)logical_bytes;
	disk->disk.size_bytes = size_bytes / (uint32_t)logical_bytes * (uint32_t)logical_bytes;
	return 0;
}

static int measure_file(struct real_disk *disk, const char *path, struct err *err)
{
	struct statx status;
	unsigned mask = STATX_SIZE;

	disk->disk.block_bytes = FILE_BLOCK_BYTES;
#ifdef STATX_DIOALIGN
	mask |= STATX_DIOALIGN;
#endif
	if (statx(disk->fd, "", AT_EMPTY_PATH, mask, &status) != 0) {
		return err_set(err, -errno, "statx %s: %s", path, err_describe(errno));
	}
#ifdef STATX_DIOALIGN
	if ((status.stx_mask & STATX_DIOALIGN) != 0 &&
		status.stx_dio_offset_align > disk->disk.block_bytes) {
		disk->disk.block_bytes = status.stx_dio_offset_align;
	}
#endif
	disk->disk.size_bytes = status.stx_size / disk->disk.block_bytes * disk->disk.block_bytes;
	return 0;
}

/* The name must survive a power loss as well as the file. */
static int sync_directory(const char *path)
{
	char *copy = strdup(path);

	if (copy == NULL) {
		return -ENOMEM;
	}
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = fd >= 0 && fsync(fd) == 0 ? 0 : -errno;

	if (fd >= 0) {
		close(fd);
	}
	free(copy);
	return error;
}

static int make_file(
	int fd, const char *path, const struct real_disk_options *options, struct err *err)
{
	int error = 0;

	if (options->size_bytes > INT64_MAX || ftruncate(fd, (off_t)options->size_bytes) != 0) {
		error = options->size_bytes > INT64_MAX ? -EFBIG : -errno;
	} else if (fsync(fd) != 0) {
		error = -errno;
	} else {
		error = sync_directory(path);
	}
	if (error != 0) {
		err_set(err, error, "make %s of %llu bytes: %s", path,
			(unsigned long long)options->size_bytes, err_describe(error));
	}
	return error;
}

static int prepare_disk(struct real_disk *disk, const char *path,
	const struct real_disk_options *options, struct err *err)
{
	struct stat status;

	if (fstat(disk->fd, &status) != 0) {
		return err_set(err, -errno, "stat %s: %s", path, err_describe(errno));
	}
	disk->is_block_device = S_ISBLK(status.st_mode);
	if (!disk->is_block_device && !S_ISREG(status.st_mode)) {
		return err_set(
			err, -EINVAL, "%s is neither a regular file nor a block device", path);
	}
	if (options->create) {
		int error = make_file(disk->fd, path, options, err);

		if (error != 0) {
			return error;
		}
		disk->disk.starts_zeroed = true;
	}
	disk->disk.power = real_disk_power(disk->fd);
	return disk->is_block_device ? measure_block_device(disk, path, err)
				     : measure_file(disk, path, err);
}

int real_disk_open(struct real *real, const char *path, const struct real_disk_options *options,
	unsigned lock_wait_ms, struct io_disk **ret_disk, struct err *err)
{
	static const struct real_disk_options defaults = {0};
	struct real_disk *disk = calloc(1, sizeof(*disk));

	if (disk == NULL) {
		return err_set(err, -ENOMEM, "open %s: no memory", path);
	}
	options = options != NULL ? options : &defaults;
	disk->disk.ops = &real_disk_ops;
	disk->real = real;
	disk->backend = real->backend;
	disk->fd = open_path(path, options, &lock_wait_ms, err);
	if (disk->fd < 0) {
		int error = disk->fd;

		free(disk);
		return error;
	}
	int error = lock(disk->fd, path, options->read_only, lock_wait_ms, err);

	if (error == 0) {
		error = prepare_disk(disk, path, options, err);
	}
	if (error == 0 && disk->backend->disk_open != NULL) {
		error = disk->backend->disk_open(disk, err);
	}
	if (error != 0) {
		if (options->create) {
			(void)unlink(path);
		}
		close(disk->fd);
		free(disk);
		return error;
	}
	atomic_fetch_add(&real->disk_count, 1);
	*ret_disk = &disk->disk;
	return 0;
}

/* ---- memory -----------------------------------------------------------------------------------
 */

int real_memory_disk_new(
	struct real *real, uint64_t size_bytes, struct io_disk **ret_disk, struct err *err)
{
	uint64_t size = size_bytes / FILE_BLOCK_BYTES * FILE_BLOCK_BYTES;
	struct real_disk *disk = calloc(1, sizeof(*disk));

	if (disk == NULL || size == 0) {
		free(disk);
		return err_set(err, size == 0 ? -EINVAL : -ENOMEM, "memory disk of %llu bytes",
			(unsigned long long)size_bytes);
	}
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED) {
		int error = err_set(err, -errno, "memory disk of %llu bytes: %s",
			(unsigned long long)size_bytes, err_describe(errno));

		free(disk);
		return error;
	}
	/* Users' data. */
	real_dump(&real->io, memory, size, false);
	disk->memory = memory;
	disk->real = real;
	disk->fd = -1;
	disk->disk = (struct io_disk){
		.ops = &real_disk_ops,
		.size_bytes = size,
		.block_bytes = FILE_BLOCK_BYTES,
		/* Its contents live exactly as long as it does. */
		.power = rng_u64(&real->io.rng),
		.starts_zeroed = true,
	};
	atomic_fetch_add(&real->disk_count, 1);
	*ret_disk = &disk->disk;
	return 0;
}

void real_disk_close(struct io_disk *io_disk)
{
	if (io_disk == NULL) {
		return;
	}
	struct real_disk *disk = container_of(io_disk, struct real_disk, disk);

	if (disk->fd >= 0 && disk->backend->disk_close != NULL) {
		disk->backend->disk_close(disk);
	}
	atomic_fetch_sub(&disk->real->disk_count, 1);
	if (disk->memory != NULL) {
		(void)munmap(disk->memory, disk->disk.size_bytes);
	} else {
		close(disk->fd);
	}
	free(disk);
}
