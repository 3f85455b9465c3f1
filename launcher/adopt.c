/* SPDX-License-Identifier: Apache-2.0 */
/* What a predecessor left: with the keeper, to be taken over; with nobody, to be cleaned away. */
#include "launcher/launcher.h"
#include "launcher/loopdev.h"
#include "launcher/mounts.h"
#include "launcher/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE "launcher"

/* ---- what the keeper holds ---- */

static void close_both(const int *fds, unsigned fd_count)
{
	for (unsigned i = 0; i < fd_count; i++) {
		close(fds[i]);
	}
}

static bool is_same(const struct held *held, const struct launch_msg *msg)
{
	return held->fuse_connection == msg->fuse_connection &&
	       held->disk_sequence == msg->disk_sequence && strcmp(held->device, msg->device) == 0;
}

/* The table is a memfd that nobody can shorten, and /dev/fuse is still connected. */
static int check_descriptors(const struct launch_msg *msg, const int *fds, struct err *err)
{
	struct pollfd polled = {.fd = fds[0]};
	struct stat status;
	int seals = fcntl(fds[1], F_GET_SEALS);

	if (fstat(fds[1], &status) < 0 || (uint64_t)status.st_size != msg->table_bytes ||
		seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
		return err_set(err, -ENODEV, "its request table is none of ours");
	}
	if (poll(&polled, 1, 0) > 0 && (polled.revents & POLLERR) != 0) {
		return err_set(err, -ENODEV, "its FUSE connection was aborted");
	}
	return 0;
}

/* -ENODEV: it is not ours any more; another error: that cannot be told. */
static int check_offered(
	const struct launch_msg *msg, const int *fds, unsigned fd_count, struct err *err)
{
	int result;

	if (fd_count != LAUNCH_FDS_MAX || launch_check_name(msg->name, err) != 0 ||
		held_check_sizes(msg, err) != 0) {
		return err_set(err, -ENODEV, "its description makes no sense");
	}
	result = check_descriptors(msg, fds, err);
	if (result == 0) {
		result = loopdev_check(msg->device, msg->name, msg->disk_sequence, err);
	}
	return result != 0
		       ? result
		       : loopdev_check_size(msg->device, msg->size_bytes, msg->block_bytes, err);
}

static void adopt(struct launcher *launcher, const struct launch_msg *msg, const int *fds)
{
	struct held *held = held_new(launcher, msg);
	struct err err;

	if (held == NULL) {
		log_error(&launcher->log, MODULE, "out-of-memory", "volume=%s", msg->name);
		close_both(fds, LAUNCH_FDS_MAX);
		return;
	}
	held->state = HELD_PUBLISHED;
	held->size_bytes = loopdev_size(msg->device); /* it may have grown since */
	memcpy(held->device, msg->device, sizeof(held->device));
	held->fuse_connection = msg->fuse_connection;
	held->disk_sequence = msg->disk_sequence;
	held->fuse_fd = fds[0];
	held->table_fd = fds[1];
	held->offered = true;
	held->kept = true;
	if (held_record(launcher, held, &err) != 0) {
		log_warning(&launcher->log, MODULE, "not-recorded", "volume=%s error=%s",
			held->name, err.text);
	}
	log_info(
		&launcher->log, MODULE, "adopted", "volume=%s device=%s", held->name, held->device);
}

/* The keeper has one of this name, and so have we. */
static void compare(struct launcher *launcher, struct held *held, const struct launch_msg *msg)
{
	if (!is_same(held, msg)) {
		/* Of an earlier publication; ours follows. */
		keeper_tell_gone(launcher, msg->name);
		return;
	}
	held->offered = true;
	held_kept(launcher, held, 0, "");
}

/* The keeper goes on holding it: neither cleaned away nor served. */
static void cannot_tell(struct launcher *launcher, const struct launch_msg *msg, const char *text)
{
	log_error(&launcher->log, MODULE, "not-adopted", "volume=%s device=%s error=%s help=%s",
		msg->name, msg->device, text, "start the launcher again");
	if (!launcher->begun) {
		launcher->finished = true;
		launcher->exit_code = 1;
	}
}

void held_offered(
	struct launcher *launcher, const struct launch_msg *msg, const int *fds, unsigned fd_count)
{
	struct held *held = held_find(launcher, msg->name);
	struct err err = {0};
	int result;

	if (held != NULL || launcher->stopping) {
		if (held != NULL) {
			compare(launcher, held, msg);
		}
		/* What a launcher that stops does not know, stays for the next one. */
		close_both(fds, fd_count);
		return;
	}
	result = check_offered(msg, fds, fd_count, &err);
	if (result == 0 && launcher->volume_count < LAUNCHER_VOLUMES_MAX) {
		adopt(launcher, msg, fds);
		return;
	}
	close_both(fds, fd_count);
	if (result == -ENODEV) {
		log_warning(&launcher->log, MODULE, "refused", "volume=%s device=%s error=%s",
			msg->name, msg->device, err.text);
		keeper_tell_gone(launcher, msg->name);
	} else {
		cannot_tell(launcher, msg, result == 0 ? "too many volumes" : err.text);
	}
}

/* ---- what nobody holds ---- */

static bool is_held(const struct launcher *launcher, uint32_t fuse_connection)
{
	list_for_each (&launcher->volumes, node) {
		if (container_of(node, struct held, node)->fuse_connection == fuse_connection) {
			return true;
		}
	}
	return false;
}

static void drop_devices_of(struct launcher *launcher, const char *name, uint32_t fuse_connection)
{
	char device[LOOPDEV_PATH_SIZE];
	unsigned index = 0;

	while (loopdev_next_of(name, fuse_connection, &index, device)) {
		log_warning(&launcher->log, MODULE, "leftover-cleaned", "volume=%s device=%s", name,
			device);
		held_drop_device(launcher, device);
	}
}

static void clean_mount(const char *path, void *ctx)
{
	struct launcher *launcher = ctx;
	uint32_t fuse_connection = mounts_connection(path);

	if (is_held(launcher, fuse_connection)) {
		return;
	}
	mounts_abort(path);
	drop_devices_of(launcher, strrchr(path, '/') + 1, fuse_connection);
	mounts_drop(path);
	log_warning(&launcher->log, MODULE, "leftover-cleaned", "path=%s", path);
}

/* Its descriptors are closed, or we could not have the lock: the connection is aborted.  The number
 * of a binding is never used again; that of a connection is, but not while a device is on it. */
static void clean_record(const struct record *record, void *ctx)
{
	struct launcher *launcher = ctx;

	if (held_find(launcher, record->name) != NULL) {
		return;
	}
	if (record->disk_sequence == 0) {
		drop_devices_of(launcher, record->name, record->fuse_connection);
	} else if (loopdev_check(record->device, record->name, record->disk_sequence, NULL) == 0) {
		log_warning(&launcher->log, MODULE, "leftover-cleaned", "volume=%s device=%s",
			record->name, record->device);
		held_drop_device(launcher, record->device);
	}
	record_remove(launcher->records_folder, record->name);
}

void held_clean_leftovers(struct launcher *launcher)
{
	struct dirent *entry;
	DIR *dir;

	/* With a keeper that holds nothing of it, or none. */
	if (mounts_list_below(launcher->volumes_folder, clean_mount, launcher) < 0) {
		log_error(&launcher->log, MODULE, "mounts-unknown", NULL);
	}
	records_each(launcher->records_folder, clean_record, launcher);
	dir = opendir(launcher->volumes_folder);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		/* Where something is mounted this fails, as it should. */
		if (entry->d_name[0] != '.') {
			(void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
		}
	}
	if (dir != NULL) {
		closedir(dir);
	}
}
