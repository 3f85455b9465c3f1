/* SPDX-License-Identifier: Apache-2.0 */
/* The table of mounts and, as root in a mount namespace of its own, mounts and file systems on loop
 * devices. */
#include "base/testing.h"
#include "csi-node/filesystem.h"
#include "csi-node/mounts.h"
#include "csi-node/program.h"
#include "csi/csi.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DISK_BYTES (UINT64_C(64) << 20)

/* ---- the table ---- */

static void test_a_table_is_understood(void **state)
{
	static const char text[] =
		"21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
		"36 21 7:3 / /var/lib/a\\040b rw,noatime shared:1 master:2 - ext4 /dev/loop3 rw\n"
		"37 21 0:5 /loop3 /pods/x/dev rw - devtmpfs udev rw,size=1k\n"
		"38 21 7:4 / /pods/y ro,relatime - xfs /dev/loop4 rw\n"
		"39 21 7:5 / /pods/z rw - xfs  ro\n"
		"nonsense\n"
		"40 21 7:6 / /pods/y rw - ext4 /dev/loop6 rw";
	struct mounts mounts;
	struct err err = {0};
	const struct mount_entry *entry;

	(void)state;
	assert_int_equal(mounts_parse(text, &mounts, &err), 0);
	assert_int_equal(mounts.count, 6);
	entry = mounts_find(&mounts, "/var/lib/a b");
	assert_non_null(entry);
	assert_int_equal(entry->device, makedev(7, 3));
	assert_string_equal(entry->type, "ext4");
	assert_false(entry->is_read_only);
	assert_true(mounts_find(&mounts, "/pods/z")->is_read_only);
	/* The topmost one. */
	assert_int_equal(mounts_find(&mounts, "/pods/y")->device, makedev(7, 6));
	assert_true(mounts.entries[3].is_read_only);
	assert_null(mounts_find(&mounts, "/pods"));
	mounts_done(&mounts);
}

static void test_who_has_a_device(void **state)
{
	static const char text[] = "36 21 7:3 / /staging rw - ext4 /dev/loop3 rw\n"
				   "37 21 0:5 /loop3 /pods/block rw - devtmpfs udev rw\n"
				   "38 21 0:5 / /dev rw - devtmpfs udev rw\n"
				   "39 21 7:3 / /pods/x rw - ext4 /dev/loop3 rw\n";
	const dev_t number = makedev(7, 3);
	struct mounts mounts;
	struct err err = {0};

	(void)state;
	assert_int_equal(mounts_parse(text, &mounts, &err), 0);
	assert_string_equal(mounts_find_user(&mounts, number, NULL, NULL, NULL)->path, "/staging");
	assert_string_equal(
		mounts_find_user(&mounts, number, NULL, "/staging", NULL)->path, "/pods/x");
	assert_null(mounts_find_user(&mounts, number, NULL, "/staging", "/pods/x"));
	assert_string_equal(mounts_find_user(&mounts, 0, "loop3", NULL, NULL)->path, "/pods/block");
	assert_null(mounts_find_user(&mounts, 0, "loop", NULL, NULL));
	assert_false(mount_is_node(mounts_find(&mounts, "/dev"), NULL));
	mounts_done(&mounts);
}

static void test_paths_are_resolved_but_for_their_last_part(void **state)
{
	char folder[] = "/tmp/mounts_test.XXXXXX", path[PATH_MAX], wanted[PATH_MAX], link[64];
	struct err err = {0};

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(link, sizeof(link), "%s/link", folder);
	assert_int_equal(symlink(".", link), 0);
	(void)snprintf(path, sizeof(path), "%s/link/link/none/", folder);
	assert_int_equal(mount_path_resolve(path, wanted, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/none", folder);
	assert_string_equal(wanted, path);
	(void)snprintf(path, sizeof(path), "%s/none/none", folder);
	assert_int_equal(mount_path_resolve(path, wanted, &err), -ENOENT);
	assert_int_equal(mount_path_resolve("a/b", wanted, &err), -EINVAL);
	assert_int_equal(mount_path_resolve("/", wanted, &err), -EINVAL);
	assert_int_equal(mount_path_resolve("/tmp/..", wanted, &err), -EINVAL);
	(void)unlink(link);
	assert_int_equal(rmdir(folder), 0);
}

/* ---- on loop devices ---- */

struct fixture {
	char folder[32], file[48], path[48], other[48];
	char device[32];
};

static int run(const char *const argv[], struct program_result *result)
{
	struct err err = {0};

	if (program_run(argv, 60000, result, &err) < 0) {
		fail_msg("%s", err.text);
	}
	return result->exit_code;
}

/* False: not as root, or without loop devices. */
static bool setup_device(struct fixture *fixture, uint64_t size_bytes)
{
	const char *const argv[] = {"losetup", "--find", "--show", fixture->file, NULL};
	struct program_result result;
	int fd;

	memset(fixture, 0, sizeof(*fixture));
	if (geteuid() != 0 || access("/dev/loop-control", R_OK | W_OK) < 0) {
		return false;
	}
	(void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/strake-mounts.XXXXXX");
	assert_non_null(mkdtemp(fixture->folder));
	(void)snprintf(fixture->file, sizeof(fixture->file), "%s/disk", fixture->folder);
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/a", fixture->folder);
	(void)snprintf(fixture->other, sizeof(fixture->other), "%s/b", fixture->folder);
	fd = open(fixture->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)size_bytes) == 0 && close(fd) == 0);
	assert_int_equal(mkdir(fixture->path, 0700), 0);
	assert_int_equal(mkdir(fixture->other, 0700), 0);
	assert_int_equal(run(argv, &result), 0);
	assert_int_equal(strncmp(result.output, "/dev/loop", 9), 0);
	(void)snprintf(fixture->device, sizeof(fixture->device), "%.31s", result.output);
	return true;
}

static void teardown_device(struct fixture *fixture)
{
	const char *const argv[] = {"losetup", "--detach", fixture->device, NULL};
	struct program_result result;
	struct err err = {0};

	assert_int_equal(mount_remove(fixture->path, true, &err), 0);
	assert_int_equal(run(argv, &result), 0);
	assert_int_equal(unlink(fixture->file), 0);
	assert_int_equal(rmdir(fixture->path), 0);
	assert_int_equal(rmdir(fixture->other), 0);
	assert_int_equal(rmdir(fixture->folder), 0);
}

static struct filesystem_wish wish_of(const struct fixture *fixture, const char *type)
{
	return (struct filesystem_wish){.device = fixture->device,
		.volume = "v",
		.type = type,
		.path = fixture->path,
		.options = "noatime",
		.timeout_ms = 60000};
}

static void mount_well(const struct filesystem_wish *wish)
{
	struct err err = {0};

	if (filesystem_mount(wish, &err) < 0) {
		fail_msg("%s", err.text);
	}
}

static void test_an_empty_device_is_formatted_once(void **state)
{
	struct fixture fixture;
	struct filesystem_wish wish;
	struct filesystem_stats stats;
	struct err err = {0};
	char file[100], type[FILESYSTEM_TYPE_SIZE];

	(void)state;
	if (!setup_device(&fixture, DISK_BYTES)) {
		skip();
	}
	wish = wish_of(&fixture, "ext4");
	wish.is_read_only = true;
	assert_int_equal(filesystem_mount(&wish, &err), -EBUSY);
	wish.is_read_only = false;
	mount_well(&wish);
	(void)snprintf(file, sizeof(file), "%s/kept", fixture.path);
	assert_int_equal(mkdir(file, 0700), 0);
	assert_int_equal(filesystem_stats(fixture.path, &stats, &err), 0);
	assert_true(stats.total_bytes > UINT64_C(40) << 20 && stats.total_inodes > 1000);
	assert_int_equal(mount_remove(fixture.path, false, &err), 0);
	assert_int_equal(mount_remove(fixture.path, false, &err), 0);
	mount_well(&wish);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(mount_remove(fixture.path, false, &err), 0);
	/* Another one is asked for. */
	wish.type = "xfs";
	assert_int_equal(filesystem_mount(&wish, &err), -EBUSY);
	assert_non_null(strstr(err.text, "holds ext4, not xfs"));
	assert_int_equal(filesystem_probe(fixture.device, type, &err), 0);
	assert_string_equal(type, "ext4");
	teardown_device(&fixture);
}

/* A DOS partition table with one partition. */
static void write_partition_table(const char *device)
{
	uint8_t sector[512] = {0};
	int fd = open(device, O_WRONLY | O_CLOEXEC);

	sector[450] = 0x83;
	sector[455] = 8;  /* begins at 2048 */
	sector[459] = 64; /* 16384 sectors */
	sector[510] = 0x55;
	sector[511] = 0xaa;
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, sector, sizeof(sector), 0), sizeof(sector));
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(fd), 0);
}

static void test_what_is_no_file_system_is_left_alone(void **state)
{
	struct fixture fixture;
	struct filesystem_wish wish;
	struct err err = {0};

	(void)state;
	if (!setup_device(&fixture, DISK_BYTES)) {
		skip();
	}
	write_partition_table(fixture.device);
	wish = wish_of(&fixture, "ext4");
	assert_int_equal(filesystem_mount(&wish, &err), -EBUSY);
	assert_non_null(strstr(err.text, "partition table"));
	teardown_device(&fixture);
}

static void test_a_broken_ext4_is_repaired_or_refused(void **state)
{
	struct fixture fixture;
	struct filesystem_wish wish;
	struct program_result result;
	struct err err = {0};

	(void)state;
	if (!setup_device(&fixture, DISK_BYTES)) {
		skip();
	}
	/* Marked as having errors: e2fsck -p looks at all of it. */
	const char *const mark[] = {
		"debugfs", "-w", "-R", "set_super_value state 2", fixture.device, NULL};
	/* Its root folder is gone: only a person may decide. */
	const char *const clear[] = {"debugfs", "-w", "-R", "clri <2>", fixture.device, NULL};

	wish = wish_of(&fixture, "ext4");
	mount_well(&wish);
	assert_int_equal(mount_remove(fixture.path, false, &err), 0);
	assert_int_equal(run(mark, &result), 0);
	mount_well(&wish);
	assert_int_equal(mount_remove(fixture.path, false, &err), 0);
	assert_int_equal(run(clear, &result), 0);
	assert_int_equal(run(mark, &result), 0);
	assert_int_equal(filesystem_mount(&wish, &err), -EIO);
	assert_non_null(strstr(err.text, "e2fsck"));
	teardown_device(&fixture);
}

static void test_a_mount_in_use_says_by_whom(void **state)
{
	struct fixture fixture;
	struct filesystem_wish wish;
	struct err err = {0};
	int fd;

	(void)state;
	if (!setup_device(&fixture, DISK_BYTES)) {
		skip();
	}
	wish = wish_of(&fixture, "ext4");
	mount_well(&wish);
	fd = open(fixture.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(mount_remove(fixture.path, false, &err), -EBUSY);
	assert_non_null(strstr(err.text, "process"));
	assert_int_equal(close(fd), 0);
	assert_int_equal(mount_remove(fixture.path, false, &err), 0);
	teardown_device(&fixture);
}

static void test_bind_mounts(void **state)
{
	struct fixture fixture;
	struct filesystem_wish wish;
	struct mounts mounts;
	struct err err = {0};
	char file[100];

	(void)state;
	if (!setup_device(&fixture, DISK_BYTES)) {
		skip();
	}
	wish = wish_of(&fixture, "ext4");
	wish.options = "nosuid,nodev";
	mount_well(&wish);
	assert_int_equal(mount_bind(fixture.path, fixture.other, true, &err), 0);
	(void)snprintf(file, sizeof(file), "%s/x", fixture.other);
	assert_int_equal(mkdir(file, 0700), -1);
	assert_int_equal(errno, EROFS);
	(void)snprintf(file, sizeof(file), "%s/x", fixture.path);
	assert_int_equal(mkdir(file, 0700), 0);
	assert_int_equal(mounts_read(&mounts, &err), 0);
	assert_true(mounts_find(&mounts, fixture.other)->is_read_only);
	assert_false(mounts_find(&mounts, fixture.path)->is_read_only);
	assert_int_equal(mounts_find(&mounts, fixture.other)->device,
		mounts_find(&mounts, fixture.path)->device);
	mounts_done(&mounts);
	assert_int_equal(mount_remove(fixture.other, false, &err), 0);
	teardown_device(&fixture);
}

static void test_xfs_and_its_least_size(void **state)
{
	struct fixture fixture;
	struct filesystem_wish wish;
	struct err err = {0};

	(void)state;
	assert_int_equal(csi_filesystem_fits("xfs", CSI_XFS_BYTES_MIN - 1, &err), -EDOM);
	assert_non_null(strstr(err.text, "300 MiB"));
	assert_int_equal(csi_filesystem_fits("xfs", CSI_XFS_BYTES_MIN, &err), 0);
	assert_int_equal(csi_filesystem_fits("ext4", DISK_BYTES, &err), 0);
	if (access("/usr/sbin/mkfs.xfs", X_OK) < 0 || !setup_device(&fixture, CSI_XFS_BYTES_MIN)) {
		skip();
	}
	wish = wish_of(&fixture, "xfs");
	mount_well(&wish);
	teardown_device(&fixture);
}

static int own_namespace(void **state)
{
	(void)state;
	if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0) {
		return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_table_is_understood),
		cmocka_unit_test(test_who_has_a_device),
		cmocka_unit_test(test_paths_are_resolved_but_for_their_last_part),
		cmocka_unit_test(test_an_empty_device_is_formatted_once),
		cmocka_unit_test(test_what_is_no_file_system_is_left_alone),
		cmocka_unit_test(test_a_broken_ext4_is_repaired_or_refused),
		cmocka_unit_test(test_a_mount_in_use_says_by_whom),
		cmocka_unit_test(test_bind_mounts),
		cmocka_unit_test(test_xfs_and_its_least_size),
	};

	return cmocka_run_group_tests(tests, own_namespace, NULL);
}
