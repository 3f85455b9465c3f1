/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/launcher.h"
#include "launcher/loopdev.h"
#include "launcher/mounts.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE "launcher"

#define STOP_TEXT          "the launcher stops"
#define TABLE_BYTES_MAX    (UINT64_C(1) << 30)
#define TRANSFER_BYTES_MAX (1024u * 1024)

struct held *held_find(struct launcher *launcher, const char *name)
{
	list_for_each (&launcher->volumes, node) {
		struct held *held = container_of(node, struct held, node);

		if (strcmp(held->name, name) == 0) {
			return held;
		}
	}
	return NULL;
}

static void release(struct launcher *launcher, struct held *held)
{
	assert(!worker_is_running(&held->worker));
	if (held->fuse_fd >= 0) {
		close(held->fuse_fd);
	}
	if (held->table_fd >= 0) {
		close(held->table_fd);
	}
	(void)rmdir(held->folder);
	list_remove(&held->node);
	launcher->volume_count--;
	free(held);
}

static void answer(struct launcher *launcher, struct held *held, int result, const char *text)
{
	if (held->asked != 0) {
		nexus_answer(launcher, held->asked, held, result, text);
		held->asked = 0;
	}
}

/* ---- the helpers' jobs
 * ------------------------------------------------------------------------------------------------
 */

static void set_result(struct worker_result *result, int code, const struct err *err)
{
	result->result = code;
	if (code != 0) {
		(void)snprintf(result->text, sizeof(result->text), "%.*s",
			(int)sizeof(result->text) - 1, err->text);
	}
}

static void attach_job(const void *arg, struct worker_result *result)
{
	const struct held *held = arg;
	char file[PATH_MAX + LAUNCH_NAME_SIZE];
	struct err err;

	(void)snprintf(file, sizeof(file), "%s/%s", held->folder, held->name);
	set_result(result,
		loopdev_attach(file, held->size_bytes, held->block_bytes, result->device, &err),
		&err);
}

static void detach_job(const void *arg, struct worker_result *result)
{
	const struct held *held = arg;
	struct err err;
	int code = loopdev_detach(held->device, held->data_is_lost, &err);

	if (code == 0 || code == -ENXIO) {
		code = mounts_remove(held->folder, &err);
	}
	set_result(result, code, &err);
}

/* As above; what is mounted on it is written back at least. */
static void stop_job(const void *arg, struct worker_result *result)
{
	const struct held *held = arg;
	char mount_point[PATH_MAX];

	detach_job(arg, result);
	if (result->result == -EBUSY &&
		mounts_find_device(held->device, mount_point, sizeof(mount_point))) {
		int fd = open(mount_point, O_RDONLY | O_CLOEXEC);

		if (fd >= 0) {
			(void)syncfs(fd);
			close(fd);
		}
	}
}

/* ---- publish
 * ----------------------------------------------------------------------------------------------------------
 */

static int check_request(struct launcher *launcher, const struct launch_msg *msg, struct err *err)
{
	int result = launch_check_name(msg->name, err);

	if (result != 0) {
		return result;
	}
	if (msg->block_bytes < 512 || msg->block_bytes > 4096 ||
		(msg->block_bytes & (msg->block_bytes - 1)) != 0 || msg->size_bytes == 0 ||
		msg->size_bytes % msg->block_bytes != 0 || msg->size_bytes > INT64_MAX) {
		return err_set(err, -EINVAL,
			"a volume of %llu bytes in blocks of %u cannot be published",
			(unsigned long long)msg->size_bytes, msg->block_bytes);
	}
	if (msg->table_bytes == 0 || msg->table_bytes > TABLE_BYTES_MAX ||
		msg->table_bytes % 4096 != 0 || msg->transfer_bytes < 4096 ||
		msg->transfer_bytes > TRANSFER_BYTES_MAX) {
		return err_set(err, -EINVAL, "a request table of %llu bytes is not possible",
			(unsigned long long)msg->table_bytes);
	}
	if (launcher->stopping) {
		return err_set(err, -ESHUTDOWN, STOP_TEXT);
	}
	if (launcher->volume_count >= LAUNCHER_VOLUMES_MAX) {
		return err_set(err, -ENOSPC,
			"%u volumes are published already, more are not possible",
			LAUNCHER_VOLUMES_MAX);
	}
	return 0;
}

static int new_table(const struct launch_msg *msg, struct err *err)
{
	int fd = memfd_create("strake-requests", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0) {
		return err_set(
			err, -errno, "memory for the request table: %s", err_describe(errno));
	}
	/* Nobody can make it shorter under the nexus that has it mapped. */
	if (ftruncate(fd, (off_t)msg->table_bytes) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		int result = err_set(
			err, -errno, "memory for the request table: %s", err_describe(errno));

		close(fd);
		return result;
	}
	return fd;
}

/* Folder, descriptors and mount. */
static int prepare(struct held *held, const struct launch_msg *msg, struct err *err)
{
	int result;

	if (mkdir(held->folder, 0700) < 0 && errno != EEXIST) {
		return err_set(
			err, -errno, "making the folder %s: %s", held->folder, err_describe(errno));
	}
	held->fuse_fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (held->fuse_fd < 0) {
		return err_set(
			err, -errno, "opening /dev/fuse (modprobe fuse): %s", err_describe(errno));
	}
	held->table_fd = new_table(msg, err);
	if (held->table_fd < 0) {
		return held->table_fd;
	}
	result = mounts_add(held->folder, held->fuse_fd, msg->transfer_bytes, err);
	if (result != 0) {
		return result;
	}
	result = worker_start(&held->worker, attach_job, held, err);
	if (result != 0) {
		mounts_abort(held->folder);
		mounts_drop(held->folder);
	}
	return result;
}

static void publish_new(struct launcher *launcher, const struct launch_msg *msg)
{
	struct held *held = calloc(1, sizeof(*held));
	struct err err;
	int result = -ENOMEM;

	if (held == NULL) {
		nexus_answer(launcher, msg->id, NULL, result, "the launcher is out of memory");
		return;
	}
	memcpy(held->name, msg->name, sizeof(held->name));
	held->size_bytes = msg->size_bytes;
	held->block_bytes = msg->block_bytes;
	held->table_bytes = msg->table_bytes;
	held->fuse_fd = -1;
	held->table_fd = -1;
	held->state = HELD_ATTACHING;
	held->asked = msg->id;
	list_push_back(&launcher->volumes, &held->node);
	launcher->volume_count++;
	if ((size_t)snprintf(held->folder, sizeof(held->folder), "%s/%s", launcher->volumes_folder,
		    held->name) >= sizeof(held->folder)) {
		result = err_set(&err, -ENAMETOOLONG, "the run folder's path is too long");
	} else {
		result = prepare(held, msg, &err);
	}
	if (result != 0) {
		answer(launcher, held, result, err.text);
		release(launcher, held);
	}
	/* The descriptors go out with nexus_flush(). */
}

void held_publish(struct launcher *launcher, const struct launch_msg *msg)
{
	struct held *held = held_find(launcher, msg->name);
	struct err err;
	int result = check_request(launcher, msg, &err);

	if (result != 0) {
		nexus_answer(launcher, msg->id, NULL, result, err.text);
	} else if (held == NULL) {
		publish_new(launcher, msg);
	} else if (held->state != HELD_PUBLISHED) {
		nexus_answer(launcher, msg->id, NULL, -EBUSY,
			"it is just being published or unpublished");
	} else if (held->size_bytes != msg->size_bytes || held->block_bytes != msg->block_bytes) {
		nexus_answer(launcher, msg->id, NULL, -EEXIST,
			"a volume of this name and of another size is published: unpublish it "
			"first");
	} else {
		nexus_answer(launcher, msg->id, held, 0, "");
	}
}

void held_unpublish(struct launcher *launcher, const struct launch_msg *msg)
{
	struct held *held = held_find(launcher, msg->name);
	struct err err;
	int result;

	if (held == NULL) {
		nexus_answer(launcher, msg->id, NULL, -ENOENT, "it is not published");
		return;
	}
	if ((msg->flags & LAUNCH_FORCE) != 0) {
		held_force(launcher, held, held->state == HELD_DETACHING ? 0 : -ECANCELED,
			"it was unpublished by force");
		nexus_answer(launcher, msg->id, NULL, 0, "");
		return;
	}
	if (held->state != HELD_PUBLISHED) {
		nexus_answer(launcher, msg->id, NULL, -EBUSY,
			"it is just being published or unpublished");
		return;
	}
	held->data_is_lost = (msg->flags & LAUNCH_DATA_IS_LOST) != 0;
	result = worker_start(&held->worker, detach_job, held, &err);
	if (result != 0) {
		nexus_answer(launcher, msg->id, held, result, err.text);
		return;
	}
	held->asked = msg->id;
	held->state = HELD_DETACHING;
}

/* ---- ends
 * --------------------------------------------------------------------------------------------------------------
 */

static void attached(
	struct launcher *launcher, struct held *held, const struct worker_result *result)
{
	if (result->result == 0) {
		held->state = HELD_PUBLISHED;
		memcpy(held->device, result->device, sizeof(held->device));
		log_info(&launcher->log, MODULE, "published", "volume=%s device=%s", held->name,
			held->device);
		if (held->asked == 0) {
			/* Who asked is dead; its successor learns the device's name by an answer to
			 * nobody. */
			nexus_answer(launcher, 0, held, 0, "");
		}
		answer(launcher, held, 0, "");
		if (launcher->stopping) {
			held_stop(launcher, held);
		}
		return;
	}
	log_error(&launcher->log, MODULE, "publish-failed", "volume=%s error=%s", held->name,
		result->text);
	mounts_abort(held->folder);
	mounts_drop(held->folder);
	nexus_tell_gone(launcher, held);
	answer(launcher, held, result->result, result->text);
	release(launcher, held);
}

static void detached(
	struct launcher *launcher, struct held *held, const struct worker_result *result)
{
	if (result->result == 0) {
		log_info(&launcher->log, MODULE, "unpublished", "volume=%s device=%s", held->name,
			held->device);
		nexus_tell_gone(launcher, held);
		answer(launcher, held, 0, "");
		release(launcher, held);
		return;
	}
	held->state = HELD_PUBLISHED;
	answer(launcher, held, result->result, result->text);
	log_warning(&launcher->log, MODULE, "unpublish-refused", "volume=%s device=%s error=%s",
		held->name, held->device, result->text);
	if (launcher->stopping) {
		held_force(launcher, held, -ESHUTDOWN, STOP_TEXT);
	}
}

void held_worker_ready(struct launcher *launcher, struct held *held)
{
	struct worker_result result;

	worker_finish(&held->worker, &result);
	result.text[sizeof(result.text) - 1] = '\0';
	result.device[sizeof(result.device) - 1] = '\0';
	switch (held->state) {
	case HELD_ATTACHING:
		attached(launcher, held, &result);
		return;
	case HELD_DETACHING:
		detached(launcher, held, &result);
		return;
	case HELD_PUBLISHED:
		break;
	}
	assert(held->state != HELD_PUBLISHED);
}

void held_stop(struct launcher *launcher, struct held *held)
{
	struct err err;

	if (held->state != HELD_PUBLISHED) {
		/* Its helper is at work, and what follows comes from there. */
		return;
	}
	held->state = HELD_DETACHING;
	if (worker_start(&held->worker, stop_job, held, &err) != 0) {
		held_force(launcher, held, -ESHUTDOWN, STOP_TEXT);
	}
}

/* The loop devices onto files below the folder, while it is still mounted: their files have no path
 * afterwards. */
static void drop_devices(struct launcher *launcher, const char *folder)
{
	char device[LOOPDEV_PATH_SIZE];
	char mount_point[PATH_MAX];
	unsigned index = 0;

	while (loopdev_next_below(folder, &index, device)) {
		if (mounts_find_device(device, mount_point, sizeof(mount_point))) {
			log_warning(&launcher->log, MODULE, "device-in-use",
				"device=%s mounted_at=%s help=umount it, every access fails",
				device, mount_point);
		}
		loopdev_detach_lazily(device);
	}
}

void held_force(struct launcher *launcher, struct held *held, int result, const char *text)
{
	log_warning(&launcher->log, MODULE, "cut-off",
		"volume=%s device=%s reason=in use or not answering: what was not written is lost",
		held->name, held->device);
	mounts_abort(held->folder);
	worker_abandon(&held->worker);
	drop_devices(launcher, held->folder);
	mounts_drop(held->folder);
	nexus_tell_gone(launcher, held);
	answer(launcher, held, result, result == 0 ? "" : text);
	release(launcher, held);
}

/* ---- what a killed launcher left
 * ------------------------------------------------------------------------------------------ */

static void clean_mount(const char *path, void *ctx)
{
	struct launcher *launcher = ctx;

	mounts_abort(path);
	drop_devices(launcher, path);
	mounts_drop(path);
	log_warning(&launcher->log, MODULE, "leftover-cleaned", "path=%s", path);
}

void held_clean_leftovers(struct launcher *launcher)
{
	DIR *dir;
	struct dirent *entry;

	if (mounts_list_below(launcher->volumes_folder, clean_mount, launcher) < 0) {
		log_error(&launcher->log, MODULE, "mounts-unknown", NULL);
	}
	dir = opendir(launcher->volumes_folder);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.') {
			(void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
		}
	}
	if (dir != NULL) {
		closedir(dir);
	}
}
