/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/launcher.h"
#include "launcher/loopdev.h"
#include "launcher/mounts.h"
#include "launcher/record.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#define KEEP_NS            (UINT64_C(10) * 1000 * 1000 * 1000)

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
	record_remove(launcher->records_folder, held->name);
	if (held->offered) {
		keeper_tell_gone(launcher, held->name);
	}
	list_remove(&held->node);
	launcher->volume_count--;
	free(held);
}

void held_leave_all(struct launcher *launcher)
{
	struct list_node *node;

	while ((node = list_pop_front(&launcher->volumes)) != NULL) {
		struct held *held = container_of(node, struct held, node);

		worker_abandon(&held->worker);
		close(held->fuse_fd);
		close(held->table_fd);
		free(held);
	}
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
	result->disk_sequence = loopdev_sequence(result->device);
}

static void grow_job(const void *arg, struct worker_result *result)
{
	const struct held *held = arg;
	char file[PATH_MAX + LAUNCH_NAME_SIZE];
	struct err err;

	(void)snprintf(file, sizeof(file), "%s/%s", held->folder, held->name);
	set_result(result, loopdev_grow(held->device, file, held->wanted_bytes, &err), &err);
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

int held_check_sizes(const struct launch_msg *msg, struct err *err)
{
	if (msg->block_bytes < 512 || msg->block_bytes > 4096 ||
		(msg->block_bytes & (msg->block_bytes - 1)) != 0 || msg->size_bytes == 0 ||
		msg->size_bytes % msg->block_bytes != 0 || msg->size_bytes > INT64_MAX) {
		return err_set(err, -EINVAL,
			"a volume of %llu bytes in blocks of %u cannot be published",
			(unsigned long long)msg->size_bytes, msg->block_bytes);
	}
	if (msg->table_bytes == 0 || msg->table_bytes > TABLE_BYTES_MAX ||
		msg->table_bytes % 4096 != 0) {
		return err_set(err, -EINVAL, "a request table of %llu bytes is not possible",
			(unsigned long long)msg->table_bytes);
	}
	return 0;
}

static int check_request(struct launcher *launcher, const struct launch_msg *msg, struct err *err)
{
	int result = launch_check_name(msg->name, err);

	result = result != 0 ? result : held_check_sizes(msg, err);
	if (result != 0) {
		return result;
	}
	if (msg->transfer_bytes < 4096 || msg->transfer_bytes > TRANSFER_BYTES_MAX) {
		return err_set(
			err, -EINVAL, "requests of %u bytes are not possible", msg->transfer_bytes);
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
static int prepare(
	struct launcher *launcher, struct held *held, const struct launch_msg *msg, struct err *err)
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
	held->fuse_connection = mounts_connection(held->folder);
	/* Before there can be a device, which stays behind when we die. */
	result = held_record(launcher, held, err);
	if (result == 0) {
		result = worker_start(
			&held->worker, launcher->helpers_lock_fd, attach_job, held, err);
	}
	if (result != 0) {
		mounts_abort(held->folder);
		mounts_drop(held->folder);
	}
	return result;
}

struct held *held_new(struct launcher *launcher, const struct launch_msg *msg)
{
	struct held *held = calloc(1, sizeof(*held));

	if (held == NULL || (size_t)snprintf(held->folder, sizeof(held->folder), "%s/%s",
				    launcher->volumes_folder, msg->name) >= sizeof(held->folder)) {
		free(held);
		return NULL;
	}
	memcpy(held->name, msg->name, sizeof(held->name));
	held->size_bytes = msg->size_bytes;
	held->block_bytes = msg->block_bytes;
	held->table_bytes = msg->table_bytes;
	held->fuse_fd = -1;
	held->table_fd = -1;
	list_push_back(&launcher->volumes, &held->node);
	launcher->volume_count++;
	return held;
}

int held_record(const struct launcher *launcher, const struct held *held, struct err *err)
{
	struct record record = {
		.disk_sequence = held->disk_sequence,
		.fuse_connection = held->fuse_connection,
	};

	memcpy(record.name, held->name, sizeof(record.name));
	memcpy(record.device, held->device, sizeof(record.device));
	return record_write(launcher->records_folder, &record, err);
}

static void publish_new(struct launcher *launcher, const struct launch_msg *msg)
{
	struct held *held = held_new(launcher, msg);
	struct err err;
	int result;

	if (held == NULL) {
		nexus_answer(launcher, msg->id, NULL, -ENOMEM,
			"the launcher is out of memory, or the run folder's path is too long");
		return;
	}
	held->state = HELD_ATTACHING;
	held->asked = msg->id;
	result = prepare(launcher, held, msg, &err);
	if (result != 0) {
		answer(launcher, held, result, err.text);
		release(launcher, held);
	}
	/* The descriptors go out with nexus_flush(). */
}

/* Without the keeper it would not outlive us. */
static int check_keeper(const struct launcher *launcher, struct err *err)
{
	if (launcher->keeper_path == NULL || launcher->keeper_ready) {
		return 0;
	}
	return err_set(err, -EAGAIN,
		"the keeper at %s is not connected, which would hold it too: start it and try "
		"again",
		launcher->keeper_path);
}

static void grow(struct launcher *launcher, struct held *held, const struct launch_msg *msg)
{
	struct err err;
	int result;

	held->wanted_bytes = msg->size_bytes;
	result = worker_start(&held->worker, launcher->helpers_lock_fd, grow_job, held, &err);
	if (result != 0) {
		nexus_answer(launcher, msg->id, held, result, err.text);
		return;
	}
	held->asked = msg->id;
	held->state = HELD_GROWING;
}

void held_publish(struct launcher *launcher, const struct launch_msg *msg)
{
	struct held *held = held_find(launcher, msg->name);
	struct err err;
	int result = check_request(launcher, msg, &err);

	if (result != 0) {
		nexus_answer(launcher, msg->id, NULL, result, err.text);
	} else if (held == NULL) {
		if (check_keeper(launcher, &err) == 0) {
			publish_new(launcher, msg);
		} else {
			nexus_answer(launcher, msg->id, NULL, err.code, err.text);
		}
	} else if (held->state != HELD_PUBLISHED) {
		nexus_answer(launcher, msg->id, NULL, -EBUSY,
			"it is just being published or unpublished");
	} else if (held->size_bytes > msg->size_bytes || held->block_bytes != msg->block_bytes) {
		nexus_answer(launcher, msg->id, NULL, -EEXIST,
			"a volume of this name that is bigger, or has other blocks, is published: "
			"unpublish it first");
	} else if (held->size_bytes < msg->size_bytes) {
		grow(launcher, held, msg);
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
	result = worker_start(&held->worker, launcher->helpers_lock_fd, detach_job, held, &err);
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

static void published(struct launcher *launcher, struct held *held)
{
	held->state = HELD_PUBLISHED;
	log_info(&launcher->log, MODULE, "published", "volume=%s device=%s kept=%s", held->name,
		held->device, held->kept ? "yes" : "no");
	if (held->asked == 0) {
		/* Who asked is dead; its successor learns the device's name by an answer to
		 * nobody. */
		nexus_answer(launcher, 0, held, 0, "");
	}
	answer(launcher, held, 0, "");
	if (launcher->stopping && launcher->keeper_path == NULL) {
		held_stop(launcher, held);
	}
}

void held_kept(struct launcher *launcher, struct held *held, int result, const char *text)
{
	held->kept = result == 0;
	if (result != 0) {
		log_error(
			&launcher->log, MODULE, "not-kept", "volume=%s error=%s", held->name, text);
	}
	if (held->state != HELD_KEEPING) {
		return;
	}
	if (result == 0) {
		published(launcher, held);
	} else {
		held_force(launcher, held, result, text);
	}
}

void held_keep_expired(struct launcher *launcher, struct held *held)
{
	char text[LAUNCH_TEXT_SIZE];

	(void)snprintf(text, sizeof(text), "the keeper at %.150s did not take it: does it run?",
		launcher->keeper_path);
	held_force(launcher, held, -ETIMEDOUT, text);
}

static void attached(
	struct launcher *launcher, struct held *held, const struct worker_result *result)
{
	struct err err;

	if (result->result == 0) {
		memcpy(held->device, result->device, sizeof(held->device));
		held->disk_sequence = result->disk_sequence;
		if (held_record(launcher, held, &err) != 0) {
			log_warning(&launcher->log, MODULE, "not-recorded", "volume=%s error=%s",
				held->name, err.text);
		}
		if (launcher->keeper_path == NULL) {
			published(launcher, held);
		} else {
			held->state = HELD_KEEPING;
			held->keep_deadline_ns = launcher_now_ns() + KEEP_NS;
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

static void grown(struct launcher *launcher, struct held *held, const struct worker_result *result)
{
	held->state = HELD_PUBLISHED;
	if (result->result == 0) {
		held->size_bytes = held->wanted_bytes;
		log_info(&launcher->log, MODULE, "grown", "volume=%s device=%s bytes=%llu",
			held->name, held->device, (unsigned long long)held->size_bytes);
	} else {
		log_warning(&launcher->log, MODULE, "not-grown", "volume=%s device=%s error=%s",
			held->name, held->device, result->text);
	}
	answer(launcher, held, result->result, result->text);
	if (launcher->stopping && launcher->keeper_path == NULL) {
		held_stop(launcher, held);
	}
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
	if (launcher->stopping && !held->kept) {
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
	case HELD_GROWING:
		grown(launcher, held, &result);
		return;
	case HELD_KEEPING:
	case HELD_PUBLISHED:
		break;
	}
	assert(false && "no helper is at work");
}

void held_stop(struct launcher *launcher, struct held *held)
{
	struct err err;

	if (held->state != HELD_PUBLISHED) {
		/* Its helper is at work, and what follows comes from there. */
		return;
	}
	held->state = HELD_DETACHING;
	if (worker_start(&held->worker, launcher->helpers_lock_fd, stop_job, held, &err) != 0) {
		held_force(launcher, held, -ESHUTDOWN, STOP_TEXT);
	}
}

void held_drop_device(struct launcher *launcher, const char *device)
{
	char mount_point[PATH_MAX];

	if (mounts_find_device(device, mount_point, sizeof(mount_point))) {
		log_warning(&launcher->log, MODULE, "device-in-use",
			"device=%s mounted_at=%s help=umount it, every access fails", device,
			mount_point);
	}
	loopdev_detach_lazily(device);
}

/* A helper that was given up may have bound one that we were not told of. */
static void drop_devices(struct launcher *launcher, const struct held *held)
{
	char device[LOOPDEV_PATH_SIZE];
	unsigned index = 0;

	if (held->device[0] != '\0') {
		if (loopdev_check(held->device, held->name, held->disk_sequence, NULL) != -ENODEV) {
			held_drop_device(launcher, held->device);
		}
		return;
	}
	while (loopdev_next_of(held->name, held->fuse_connection, &index, device)) {
		held_drop_device(launcher, device);
	}
}

/* The number of a connection that is dead already may be another one's by now. */
static bool is_alive(const struct held *held)
{
	struct pollfd polled = {.fd = held->fuse_fd};

	return poll(&polled, 1, 0) == 0 || (polled.revents & POLLERR) == 0;
}

void held_force(struct launcher *launcher, struct held *held, int result, const char *text)
{
	log_warning(&launcher->log, MODULE, "cut-off",
		"volume=%s device=%s reason=in use or not answering: what was not written is lost",
		held->name, held->device);
	if (held->fuse_connection != 0 && is_alive(held)) {
		mounts_abort_connection(held->fuse_connection);
	}
	mounts_abort(held->folder);
	worker_abandon(&held->worker);
	drop_devices(launcher, held);
	mounts_drop(held->folder);
	nexus_tell_gone(launcher, held);
	answer(launcher, held, result, result == 0 ? "" : text);
	release(launcher, held);
}
