/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NodeStageVolume: Volume, Replicas and Pools are read from the API (not from caches), a thread
 * opens and publishes the volume, status.nexus is written, a thread makes the file system and
 * mounts it. NodeUnstageVolume the other way round.
 */
#include "csi-node/filesystem.h"
#include "csi-node/mounts.h"
#include "csi-node/service.h"
#include "csi-node/stage_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define API_MS 10000 /* for one answer */

struct stage {
	struct service_job job;
	struct stage_wish wish;
	struct volume_object volume;
	json_t *nexus_json; /* owned: status.nexus as it was read, or NULL */
	struct stage_voters voters;
	unsigned pool_next;
	char key[OBJECTS_NAME_SIZE]; /* of the request under way */
	char selector[OBJECTS_VOLUME_SIZE + 32];
	struct kube_request request;
	/* the thread's */
	struct nexus_wish nexus;
	Strake__V1__Volume *opened; /* owned */
	char path[PATH_MAX];
};

static void stage_free_parts(struct stage *stage)
{
	json_decref(stage->nexus_json);
	daemon_message_free(stage->opened);
}

static void stage_fail(struct stage *stage)
{
	stage_free_parts(stage);
	service_job_fail(&stage->job);
}

static void stage_send(struct stage *stage, enum kube_verb verb, const struct kube_kind *kind,
	const char *name, void (*done)(struct kube_request *request))
{
	stage->request = (struct kube_request){
		.verb = verb,
		.kind = kind,
		.name = name,
		.timeout_ms = API_MS,
		.done = done,
	};
	kube_send(stage->job.node->kube, &stage->request);
}

/* ---- 3: mounted ---- */

static dev_t device_number(const char *path)
{
	struct stat info;

	return stat(path, &info) == 0 && S_ISBLK(info.st_mode) ? info.st_rdev : 0;
}

static int mount_staged(struct stage *stage)
{
	struct service_job *job = &stage->job;
	struct err *err = &job->err;
	char options[REQUEST_OPTIONS_SIZE + 8];
	uint64_t now_ms = monotonic_ms();
	struct filesystem_wish wish = {
		.device = stage->opened->device,
		.volume = stage->wish.volume,
		.type = stage->wish.use.fs_type,
		.path = stage->path,
		.options = options,
		.is_read_only = stage->wish.use.is_read_only,
		.timeout_ms = job->end_ms > now_ms + 1000 ? job->end_ms - now_ms : 1000,
	};
	struct mounts mounts;

	(void)snprintf(options, sizeof(options), "%s%s%s", stage->wish.use.options,
		wish.is_read_only && stage->wish.use.options[0] != '\0' ? "," : "",
		wish.is_read_only ? "ro" : "");
	int result = mounts_read(&mounts, err);

	if (result < 0) {
		return result;
	}
	/* What was stale is gone since the volume was opened. */
	bool is_there = mounts_find(&mounts, stage->path) != NULL;

	mounts_done(&mounts);
	if (is_there) {
		return 0;
	}
	if (mkdir(stage->path, 0750) < 0 && errno != EEXIST) {
		return err_set(err, -errno, "make %s: %s", stage->path, err_describe(errno));
	}
	return filesystem_mount(&wish, err);
}

static void mount_run(struct work *work)
{
	struct stage *stage = container_of(work, struct stage, job.work);

	stage->job.result = mount_staged(stage);
}

static void mount_done(struct work *work)
{
	struct stage *stage = container_of(work, struct stage, job.work);
	Csi__V1__NodeStageVolumeResponse response = CSI__V1__NODE_STAGE_VOLUME_RESPONSE__INIT;

	if (stage->job.result < 0) {
		stage_fail(stage);
		return;
	}
	stage_free_parts(stage);
	service_job_reply(&stage->job, &response.base);
}

/* ---- 2: open, and said so ---- */

static void nexus_written(struct kube_request *request)
{
	struct stage *stage = container_of(request, struct stage, request);
	struct node *node = stage->job.node;

	if (request->result == -ESTALE) {
		(void)err_set(&stage->job.err, -EALREADY,
			"volume %s is attached to another node meanwhile", stage->wish.volume);
	} else if (request->result < 0) {
		service_api_error(&request->err, &stage->job.err);
	}
	if (request->result < 0) {
		stage_fail(stage);
		return;
	}
	node_absorb_volume(node, request->response);
	note_written(node, QUEUE_VOLUMES, stage->wish.volume, false);
	if (stage->wish.use.is_block) {
		struct work *work = &stage->job.work;

		mount_done(work);
		return;
	}
	service_job_run(&stage->job, mount_run, mount_done);
}

/* A mount of this very device counts; anything else at the path is of an earlier time. */
static bool is_mounted_live(const Strake__V1__Volume *volume, const struct nexus_wish *wish,
	const struct mount_entry *entry)
{
	return entry != NULL && volume != NULL && plan_nexus_is_open(volume) &&
	       volume->attach == wish->attach && volume->device[0] != '\0' &&
	       device_number(volume->device) == entry->device;
}

static int look_at_staging(struct stage *stage, bool *ret_mounted, struct err *err)
{
	Strake__V1__Volume *volume = NULL;
	struct mounts mounts = {0};
	int result = mount_path_resolve(stage->wish.staging_path, stage->path, err);

	result = result < 0 ? result
			    : nexus_find(stage->job.nexus_socket, stage->wish.volume, &volume, err);
	result = result < 0 ? result : mounts_read(&mounts, err);
	if (result == 0) {
		const struct mount_entry *entry = mounts_find(&mounts, stage->path);

		*ret_mounted = is_mounted_live(volume, &stage->nexus, entry);
		if (entry != NULL && !*ret_mounted && !stage->wish.use.is_block) {
			result = mount_remove(stage->path, true, err);
		}
	}
	mounts_done(&mounts);
	daemon_message_free(volume);
	return result;
}

static void open_run(struct work *work)
{
	struct stage *stage = container_of(work, struct stage, job.work);
	struct service_job *job = &stage->job;
	bool is_mounted = false;
	job->result = look_at_staging(stage, &is_mounted, &job->err);
	if (job->result == 0) {
		job->result = nexus_bring_up(job->nexus_socket, &stage->nexus, is_mounted,
			job->end_ms, &stage->opened, &job->err);
	}
}

static void open_done(struct work *work)
{
	struct stage *stage = container_of(work, struct stage, job.work);
	struct node *node = stage->job.node;
	char now[KUBE_TIME_TEXT_SIZE];
	json_t *body, *nexus;

	if (stage->job.result < 0) {
		stage_fail(stage);
		return;
	}
	nexus = plan_nexus_json(node->options.name, &stage->volume, stage->opened,
		stage->nexus_json, kube_time_now(now));
	body = nexus_setting(node, nexus);
	stage->request = (struct kube_request){
		.verb = KUBE_JSON_PATCH,
		.kind = &objects_volumes,
		.name = stage->wish.volume,
		.subresource = "status",
		.body = body,
		.timeout_ms = API_MS,
		.done = nexus_written,
	};
	kube_send(node->kube, &stage->request);
	json_decref(body);
}

/* ---- 1: what the API says ---- */

static void next_pool(struct stage *stage);

static void pool_read(struct kube_request *request)
{
	struct stage *stage = container_of(request, struct stage, request);
	struct stage_voter *voter = &stage->voters.voters[stage->pool_next++];

	if (request->result < 0 && request->result != -ENOENT) {
		service_api_error(&request->err, &stage->job.err);
		stage_fail(stage);
		return;
	}
	if (request->result == 0) {
		if (pool_object_decode(request->response, &voter->pool, &stage->job.err) < 0) {
			stage_fail(stage);
			return;
		}
		voter->has_pool = true;
	}
	next_pool(stage);
}

static void next_pool(struct stage *stage)
{
	struct node *node = stage->job.node;

	if (stage->pool_next < stage->voters.count) {
		(void)snprintf(stage->key, sizeof(stage->key), "%s",
			stage->voters.voters[stage->pool_next].replica.pool);
		stage_send(stage, KUBE_GET, &objects_pools, stage->key, pool_read);
		return;
	}
	if (stage_make_wish(&stage->volume, &stage->voters, node->options.name, &stage->nexus,
		    &stage->job.err) < 0) {
		stage_fail(stage);
		return;
	}
	service_job_run(&stage->job, open_run, open_done);
}

static void replicas_read(struct kube_request *request)
{
	struct stage *stage = container_of(request, struct stage, request);

	if (request->result < 0) {
		service_api_error(&request->err, &stage->job.err);
		stage_fail(stage);
		return;
	}
	if (stage_take_replicas(&stage->volume, kube_at(request->response, "items"), &stage->voters,
		    &stage->job.err) < 0) {
		stage_fail(stage);
		return;
	}
	next_pool(stage);
}

static void volume_read(struct kube_request *request)
{
	struct stage *stage = container_of(request, struct stage, request);
	struct service_job *job = &stage->job;
	int result = request->result;

	if (result == -ENOENT) {
		(void)err_set(&job->err, -ENOENT, "there is no volume %s", stage->wish.volume);
	} else if (result < 0) {
		service_api_error(&request->err, &job->err);
	} else {
		result = volume_object_decode(request->response, &stage->volume, &job->err);
	}
	if (result == 0) {
		stage->volume.pool_selector = NULL; /* borrowed from the response */
		stage->nexus_json = json_incref(
			(json_t *)(uintptr_t)kube_at(request->response, "status.nexus"));
		result = stage_check_volume(
			&stage->volume, &stage->wish, job->node->options.name, &job->err);
	}
	if (result == 0 && !stage->wish.use.is_block) {
		result = csi_filesystem_fits(
			stage->wish.use.fs_type, stage->volume.size_bytes, &job->err);
	}
	if (result < 0) {
		stage_fail(stage);
		return;
	}
	(void)snprintf(
		stage->selector, sizeof(stage->selector), "spec.volume=%s", stage->wish.volume);
	stage->request = (struct kube_request){
		.verb = KUBE_LIST,
		.kind = &objects_replicas,
		.field_selector = stage->selector,
		.timeout_ms = API_MS,
		.done = replicas_read,
	};
	kube_send(job->node->kube, &stage->request);
}

void service_stage(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct stage_wish wish;
	struct err err = {0};

	if (stage_wish_decode((const void *)message, &wish, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	struct stage *stage = service_job_new(call, wish.volume, "NodeStageVolume", sizeof(*stage));

	if (stage != NULL) {
		stage->wish = wish;
		stage_send(stage, KUBE_GET, &objects_volumes, stage->wish.volume, volume_read);
	}
}

/* ---- unstage ---- */

struct unstage {
	struct service_job job;
	struct path_wish wish;
	struct kube_request request;
	struct volume_object volume;
	bool has_volume; /* it is attached here, as far as is known */
};

/* Pods still have it: the kubelet unpublishes first.  `ret_keep`: the Volume is not attached here
 * any more, and who looks after lost ones decides about what was recovered here. */
static int check_unused(const struct unstage *unstage, bool *ret_keep, struct err *err)
{
	Strake__V1__Volume *volume = NULL;
	struct mounts mounts = {0};
	int result = nexus_find(unstage->job.nexus_socket, unstage->wish.volume, &volume, err);

	if (result == 0 && volume != NULL && volume->device[0] != '\0') {
		const struct mount_entry *user = NULL;

		result = mounts_read(&mounts, err);
		if (result == 0) {
			user = mounts_find_user(&mounts, device_number(volume->device),
				strrchr(volume->device, '/') + 1, NULL, NULL);
		}
		if (user != NULL) {
			result = err_set(err, -EBUSY, "volume %s is still mounted at %s",
				unstage->wish.volume, user->path);
		}
	}
	/* Nobody else knows: were it forgotten here, the next opening would be told the old one. */
	if (result == 0 && volume != NULL && unstage->has_volume &&
		plan_recovery_is_news(&unstage->volume, volume)) {
		result = err_set(err, -EAGAIN,
			"volume %s was recovered on this node; waiting for csi-controller to say "
			"so in status.record",
			unstage->wish.volume);
	}
	*ret_keep = volume != NULL && !unstage->has_volume && volume->recovered &&
		    !plan_nexus_is_open(volume);
	mounts_done(&mounts);
	daemon_message_free(volume);
	return result;
}

static void unstage_run(struct work *work)
{
	struct unstage *unstage = container_of(work, struct unstage, job.work);
	struct err *err = &unstage->job.err;
	char path[PATH_MAX];
	bool is_kept = false;
	int result = mount_path_resolve(unstage->wish.path, path, err);

	if (result == -ENOENT) {
		/* Not even its folder. */
		err_clear(err);
		result = 0;
	} else if (result == 0) {
		result = mount_remove(path, false, err);
	}
	result = result < 0 ? result : check_unused(unstage, &is_kept, err);
	unstage->job.result = result < 0 || is_kept ? result
						    : nexus_take_away(unstage->job.nexus_socket,
							      unstage->wish.volume, false, err);
}

/* Gone, another node's, or not there: all the same. */
static void nexus_removed(struct kube_request *request)
{
	struct unstage *unstage = container_of(request, struct unstage, request);
	Csi__V1__NodeUnstageVolumeResponse response = CSI__V1__NODE_UNSTAGE_VOLUME_RESPONSE__INIT;

	if (request->result < 0 && request->result != -ENOENT && request->result != -ESTALE) {
		service_api_error(&request->err, &unstage->job.err);
		service_job_fail(&unstage->job);
		return;
	}
	if (request->result == 0) {
		node_absorb_volume(unstage->job.node, request->response);
	}
	service_job_reply(&unstage->job, &response.base);
}

static void unstage_done(struct work *work)
{
	struct unstage *unstage = container_of(work, struct unstage, job.work);
	struct node *node = unstage->job.node;
	json_t *body;

	if (unstage->job.result < 0) {
		service_job_fail(&unstage->job);
		return;
	}
	body = nexus_removal(node);
	unstage->request = (struct kube_request){
		.verb = KUBE_JSON_PATCH,
		.kind = &objects_volumes,
		.name = unstage->wish.volume,
		.subresource = "status",
		.body = body,
		.timeout_ms = API_MS,
		.done = nexus_removed,
	};
	kube_send(node->kube, &unstage->request);
	json_decref(body);
}

void service_unstage(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct path_wish wish;
	struct err err = {0};

	if (unstage_wish_decode((const void *)message, &wish, &err) < 0) {
		grpc_call_fail(call, &err);
		return;
	}
	struct unstage *unstage =
		service_job_new(call, wish.volume, "NodeUnstageVolume", sizeof(*unstage));

	if (unstage != NULL) {
		const json_t *json =
			kube_cache_get(unstage->job.node->caches[CACHE_VOLUMES], wish.volume);

		unstage->wish = wish;
		unstage->has_volume =
			json != NULL && volume_object_decode(json, &unstage->volume, &err) == 0;
		service_job_run(&unstage->job, unstage_run, unstage_done);
	}
}
