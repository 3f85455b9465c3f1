/* SPDX-License-Identifier: Apache-2.0 */
/* NodePublishVolume, NodeUnpublishVolume: bind mounts; and NodeGetVolumeStats. */
#include "base/bytes.h"
#include "csi-node/filesystem.h"
#include "csi-node/mounts.h"
#include "csi-node/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- publish ---- */

struct publish {
	struct service_job job;
	struct publish_wish wish;
	char staging_path[PATH_MAX], target_path[PATH_MAX];
};

/* What is to be at the target. */
struct source {
	const char *path; /* is bound to the target */
	dev_t number;     /* of a file system; else 0 */
	const char *node; /* of a block volume: the device's name below /dev; else NULL */
};

static bool is_source(const struct mount_entry *entry, const struct source *source)
{
	return source->node != NULL ? mount_is_node(entry, source->node)
				    : entry->device == source->number;
}

static int make_target(const char *path, bool is_file, struct err *err)
{
	int fd;

	if (!is_file) {
		return mkdir(path, 0750) < 0 && errno != EEXIST
			       ? err_set(err, -errno, "make %s: %s", path, err_describe(errno))
			       : 0;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0660);
	if (fd < 0 && errno != EEXIST) {
		return err_set(err, -errno, "make %s: %s", path, err_describe(errno));
	}
	if (fd >= 0) {
		(void)close(fd);
	}
	return 0;
}

/* RWOP: one pod only. */
static int check_alone(const struct publish *publish, const struct mounts *mounts,
	const struct source *source, struct err *err)
{
	const struct mount_entry *other;

	if (!publish->wish.use.is_single_pod) {
		return 0;
	}
	other = mounts_find_user(
		mounts, source->number, source->node, publish->staging_path, publish->target_path);
	return other == NULL ? 0
			     : err_set(err, -EBUSY,
				       "volume %s is for one pod, and published at %s already",
				       publish->wish.volume, other->path);
}

static int bind_to_target(struct publish *publish, const struct mounts *mounts,
	const struct source *source, struct err *err)
{
	const struct mount_entry *target = mounts_find(mounts, publish->target_path);
	int result = check_alone(publish, mounts, source, err);

	if (result < 0) {
		return result;
	}
	if (target != NULL && is_source(target, source)) {
		/* A read-only file system is read-only at each of its mounts. */
		return target->is_read_only || !publish->wish.is_read_only
			       ? 0
			       : err_set(err, -EEXIST,
					 "volume %s is published at %s to read and write",
					 publish->wish.volume, publish->target_path);
	}
	if (target != NULL) {
		/* Of a device that died. */
		result = mount_remove(publish->target_path, true, err);
	}
	result = result < 0 ? result : make_target(publish->target_path, source->node != NULL, err);
	return result < 0 ? result
			  : mount_bind(source->path, publish->target_path,
				    publish->wish.is_read_only, err);
}

static int publish_filesystem(struct publish *publish, const struct mounts *mounts, struct err *err)
{
	const struct mount_entry *staged = mounts_find(mounts, publish->staging_path);
	struct source source = {.path = publish->staging_path};

	if (staged == NULL) {
		return err_set(err, -EBUSY, "volume %s is not staged at %s", publish->wish.volume,
			publish->staging_path);
	}
	source.number = staged->device;
	return bind_to_target(publish, mounts, &source, err);
}

static int publish_block(struct publish *publish, const struct mounts *mounts, struct err *err)
{
	Strake__V1__Volume *volume;
	int result = nexus_find(publish->job.nexus_socket, publish->wish.volume, &volume, err);

	if (result < 0) {
		return result;
	}
	if (volume == NULL || volume->device[0] == '\0') {
		result = err_set(err, -EBUSY, "volume %s is not staged", publish->wish.volume);
	} else {
		struct source source = {
			.path = volume->device,
			.node = strrchr(volume->device, '/') + 1,
		};

		result = bind_to_target(publish, mounts, &source, err);
	}
	daemon_message_free(volume);
	return result;
}

static void publish_run(struct work *work)
{
	struct publish *publish = container_of(work, struct publish, job.work);
	struct err *err = &publish->job.err;
	struct mounts mounts = {0};
	int result = mount_path_resolve(publish->wish.staging_path, publish->staging_path, err);

	if (result == -ENOENT) {
		result = err_set(err, -EBUSY, "volume %s is not staged at %s", publish->wish.volume,
			publish->wish.staging_path);
	}
	result = result < 0
			 ? result
			 : mount_path_resolve(publish->wish.target_path, publish->target_path, err);
	result = result < 0 ? result : mounts_read(&mounts, err);
	if (result == 0) {
		result = publish->wish.use.is_block ? publish_block(publish, &mounts, err)
						    : publish_filesystem(publish, &mounts, err);
	}
	publish->job.result = result;
	mounts_done(&mounts);
}

static void publish_done(struct work *work)
{
	struct publish *publish = container_of(work, struct publish, job.work);
	Csi__V1__NodePublishVolumeResponse response = CSI__V1__NODE_PUBLISH_VOLUME_RESPONSE__INIT;

	if (publish->job.result < 0) {
		service_job_fail(&publish->job);
	} else {
		service_job_reply(&publish->job, &response.base);
	}
}

void service_publish(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct publish_wish wish;
	struct err err = {0};

	if (publish_wish_decode((const void *)message, &wish, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	struct publish *publish =
		service_job_new(call, wish.volume, "NodePublishVolume", sizeof(*publish));

	if (publish != NULL) {
		publish->wish = wish;
		service_job_run(&publish->job, publish_run, publish_done);
	}
}

/* ---- unpublish ---- */

struct unpublish {
	struct service_job job;
	struct path_wish wish;
};

static int unpublish_target(const char *target, struct err *err)
{
	char path[PATH_MAX];
	int result = mount_path_resolve(target, path, err);

	if (result == -ENOENT) {
		return 0;
	}
	result = result < 0 ? result : mount_remove(path, false, err);
	if (result < 0) {
		return result;
	}
	/* A folder, or the file of a block volume. */
	if (rmdir(path) < 0 && errno != ENOENT && (errno != ENOTDIR || unlink(path) < 0)) {
		return err_set(err, -errno, "remove %s: %s", path, err_describe(errno));
	}
	return 0;
}

static void unpublish_run(struct work *work)
{
	struct unpublish *unpublish = container_of(work, struct unpublish, job.work);

	unpublish->job.result = unpublish_target(unpublish->wish.path, &unpublish->job.err);
}

static void unpublish_done(struct work *work)
{
	struct unpublish *unpublish = container_of(work, struct unpublish, job.work);
	Csi__V1__NodeUnpublishVolumeResponse response =
		CSI__V1__NODE_UNPUBLISH_VOLUME_RESPONSE__INIT;

	if (unpublish->job.result < 0) {
		service_job_fail(&unpublish->job);
	} else {
		service_job_reply(&unpublish->job, &response.base);
	}
}

void service_unpublish(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct path_wish wish;
	struct err err = {0};

	if (unpublish_wish_decode((const void *)message, &wish, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	struct unpublish *unpublish =
		service_job_new(call, wish.volume, "NodeUnpublishVolume", sizeof(*unpublish));

	if (unpublish != NULL) {
		unpublish->wish = wish;
		service_job_run(&unpublish->job, unpublish_run, unpublish_done);
	}
}

/* ---- stats ---- */

/* No operation of the volume: it may be asked for beside any. */
struct stats {
	struct list_node node; /* of stats_ops: one a path, as it may hang */
	struct node *owner;
	struct grpc_call *call;
	struct path_wish wish;
	struct work work;
	/* the thread's */
	bool is_block;
	uint64_t size_bytes;
	struct filesystem_stats numbers;
	int result;
	struct err err;
};

static int find_mount(const char *wanted, struct mount_entry *ret_entry, struct err *err)
{
	char path[PATH_MAX];
	struct mounts mounts = {0};
	const struct mount_entry *entry = NULL;
	int result = mount_path_resolve(wanted, path, err);

	result = result < 0 ? result : mounts_read(&mounts, err);
	if (result == 0) {
		entry = mounts_find(&mounts, path);
		result =
			entry != NULL ? 0 : err_set(err, -ENOENT, "nothing is mounted at %s", path);
	}
	if (entry != NULL) {
		*ret_entry = *entry;
	}
	mounts_done(&mounts);
	return result;
}

static void stats_run(struct work *work)
{
	struct stats *stats = container_of(work, struct stats, work);
	struct mount_entry *entry = must_alloc(sizeof(*entry));

	stats->result = find_mount(stats->wish.path, entry, &stats->err);
	if (stats->result == 0) {
		stats->is_block = mount_is_node(entry, NULL);
		stats->result =
			stats->is_block
				? device_size(entry->path, &stats->size_bytes, &stats->err)
				: filesystem_stats(entry->path, &stats->numbers, &stats->err);
	}
	free(entry);
}

static void stats_reply(struct stats *stats)
{
	Csi__V1__NodeGetVolumeStatsResponse response =
		CSI__V1__NODE_GET_VOLUME_STATS_RESPONSE__INIT;
	Csi__V1__VolumeUsage usages[2], *pointers[] = {&usages[0], &usages[1]};
	const struct filesystem_stats *numbers = &stats->numbers;

	csi__v1__volume_usage__init(&usages[0]);
	csi__v1__volume_usage__init(&usages[1]);
	usages[0].unit = CSI__V1__VOLUME_USAGE__UNIT__BYTES;
	usages[0].total = (int64_t)stats->size_bytes;
	response.usage = pointers;
	response.n_usage = 1;
	if (!stats->is_block) {
		usages[0].total = (int64_t)numbers->total_bytes;
		usages[0].available = (int64_t)numbers->available_bytes;
		usages[0].used = (int64_t)numbers->used_bytes;
		usages[1].unit = CSI__V1__VOLUME_USAGE__UNIT__INODES;
		usages[1].total = (int64_t)numbers->total_inodes;
		usages[1].available = (int64_t)numbers->free_inodes;
		usages[1].used = (int64_t)(numbers->total_inodes - numbers->free_inodes);
		response.n_usage = 2;
	}
	grpc_call_reply(stats->call, &response.base);
}

static void stats_done(struct work *work)
{
	struct stats *stats = container_of(work, struct stats, work);

	list_remove(&stats->node);
	if (stats->result < 0) {
		(void)err_prefix(&stats->err, "volume %s", stats->wish.volume);
		grpc_call_fail(stats->call, &stats->err);
	} else {
		stats_reply(stats);
	}
	free(stats);
}

static bool is_asked_already(const struct node *node, const struct path_wish *wish)
{
	list_for_each (&node->stats_ops, at) {
		if (strcmp(container_of(at, struct stats, node)->wish.path, wish->path) == 0) {
			return true;
		}
	}
	return false;
}

void service_stats(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct node *node = grpc_call_ctx(call);
	struct path_wish wish;
	struct err err = {0};

	if (stats_wish_decode((const void *)message, &wish, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	if (is_asked_already(node, &wish)) {
		grpc_call_failf(call, -EALREADY,
			"volume %s: %s is being looked at, and does not answer", wish.volume,
			wish.path);
		return;
	}
	struct stats *stats = must_alloc(sizeof(*stats));

	stats->owner = node;
	stats->call = call;
	stats->wish = wish;
	stats->work.run = stats_run;
	stats->work.done = stats_done;
	list_push_back(&node->stats_ops, &stats->node);
	workers_submit(node->stats_workers, &stats->work);
}
