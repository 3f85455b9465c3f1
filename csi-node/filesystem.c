/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/filesystem.h"

#include "csi-node/mounts.h"
#include "csi-node/program.h"
#include "csi/csi.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- what is there ---- */

static int describe(
	blkid_probe probe, const char *device, char ret_type[FILESYSTEM_TYPE_SIZE], struct err *err)
{
	const char *type = NULL;

	if (blkid_probe_lookup_value(probe, "TYPE", &type, NULL) == 0) {
		(void)snprintf(ret_type, FILESYSTEM_TYPE_SIZE, "%s", type);
		return 0;
	}
	if (blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL) == 0) {
		return err_set(err, -EBUSY, "%s holds a partition table (%s)", device, type);
	}
	return err_set(err, -EBUSY, "%s holds something that has no name", device);
}

int filesystem_probe(const char *device, char ret_type[FILESYSTEM_TYPE_SIZE], struct err *err)
{
	blkid_probe probe = blkid_new_probe_from_filename(device);
	int found, result = 0;

	ret_type[0] = '\0';
	if (probe == NULL) {
		int code = errno != 0 ? -errno : -EIO;

		return err_set(err, code, "%s: cannot be probed: %s", device, err_describe(code));
	}
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_MAGIC);
	blkid_probe_enable_partitions(probe, 1);
	/* 0: one, -2: several that contradict each other, 1: none. */
	found = blkid_do_safeprobe(probe);
	if (found == 0) {
		result = describe(probe, device, ret_type, err);
	} else if (found == -2) {
		result = err_set(err, -EBUSY, "%s holds several kinds of data at once", device);
	} else if (found < 0) {
		/* An error of reading is none of its content: never taken for empty. */
		result = err_set(err, -EIO, "%s: cannot be read", device);
	}
	blkid_free_probe(probe);
	return result;
}

/* ---- making and checking ---- */

/* Without discards: nothing was written yet that could be given back, and each discarded region
 * would have to be copied by the next rebuild.  What mkfs and the kernel zero later (lazy inode
 * tables) they zero with WRITE ZEROES, for which replicas take no room. */
static int make(const struct filesystem_wish *wish, struct err *err)
{
	const char *const ext4[] = {"mkfs.ext4", "-q", "-F", "-m", "0", "-E",
		"nodiscard,lazy_itable_init=1", wish->device, NULL};
	const char *const xfs[] = {"mkfs.xfs", "-q", "-K", wish->device, NULL};
	const char *const *argv = strcmp(wish->type, "xfs") == 0 ? xfs : ext4;
	struct program_result made;
	int result = program_run(argv, wish->timeout_ms, &made, err);

	if (result == 0 && made.exit_code != 0) {
		result = err_set(err, -EIO, "volume %s: %s %s failed (%d): %s", wish->volume,
			argv[0], wish->device, made.exit_code, made.output);
	}
	return result;
}

/* Replays the journal, and repairs what is safe to repair.  Exit codes as in e2fsck(8): 4 errors
 * were left; 8 and more: it could not do its work, and whether the file system can be mounted tells
 * the kernel. */
static int check_ext4(const struct filesystem_wish *wish, struct err *err)
{
	const char *const argv[] = {"e2fsck", "-p", wish->device, NULL};
	struct program_result checked;
	int result = program_run(argv, wish->timeout_ms, &checked, err);

	if (result == 0 && checked.exit_code >= 0 && checked.exit_code < 8 &&
		(checked.exit_code & 4) != 0) {
		return err_set(err, -EIO,
			"volume %s: its file system has errors that only a person can repair: run "
			"e2fsck on it as a block volume: %s",
			wish->volume, checked.output);
	}
	return result;
}

int filesystem_mount(const struct filesystem_wish *wish, struct err *err)
{
	char type[FILESYSTEM_TYPE_SIZE];
	uint64_t size_bytes = 0;
	int result = filesystem_probe(wish->device, type, err);

	if (result < 0) {
		return err_prefix(err, "volume %s", wish->volume);
	}
	if (type[0] == '\0' && wish->is_read_only) {
		return err_set(err, -EBUSY,
			"volume %s is empty, and nothing is made on it as it is to be read only",
			wish->volume);
	}
	if (type[0] != '\0' && strcmp(type, wish->type) != 0) {
		return err_set(err, -EBUSY,
			"volume %s holds %s, not %s: it is left as it is; ask for %s, or empty the "
			"volume first",
			wish->volume, type, wish->type, type);
	}
	if (type[0] == '\0') {
		result = device_size(wish->device, &size_bytes, err);
		result = result < 0 ? result : csi_filesystem_fits(wish->type, size_bytes, err);
		result = result < 0 ? result : make(wish, err);
	} else if (strcmp(type, "ext4") == 0 && !wish->is_read_only) {
		result = check_ext4(wish, err);
	}
	if (result < 0) {
		return result;
	}
	return mount_file_system(wish->device, wish->path, wish->type, wish->options, err) < 0
		       ? err_prefix(err, "volume %s", wish->volume)
		       : 0;
}

/* ---- numbers ---- */

int filesystem_stats(const char *path, struct filesystem_stats *ret_stats, struct err *err)
{
	struct statvfs info;
	struct filesystem_stats *to = ret_stats;

	if (statvfs(path, &info) < 0) {
		return err_set(err, -errno, "%s: %s", path, err_describe(errno));
	}
	to->total_bytes = (uint64_t)info.f_blocks * info.f_frsize;
	to->available_bytes = (uint64_t)info.f_bavail * info.f_frsize;
	to->used_bytes = (uint64_t)(info.f_blocks - info.f_bfree) * info.f_frsize;
	to->total_inodes = info.f_files;
	to->free_inodes = info.f_ffree;
	return 0;
}

int device_size(const char *path, uint64_t *ret_bytes, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, ret_bytes) < 0) {
		result = err_set(err, -errno, "%s: %s", path, err_describe(errno));
	}
	if (fd >= 0) {
		(void)close(fd);
	}
	return result;
}
