/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the CSI Node service as structs that hold valid values only, owned copies. */
#ifndef CSI_NODE_REQUEST_H
#define CSI_NODE_REQUEST_H

#include "csi/csi.h"
#include "objects/objects.h"

#define REQUEST_PATH_SIZE    1024 /* a kubelet's are below 512 */
#define REQUEST_OPTIONS_SIZE 1024

/* What a volume is used as. */
struct node_use {
	bool is_block;
	bool is_read_only;                  /* by its access mode */
	bool is_single_pod;                 /* one target path */
	const char *fs_type;                /* static */
	char options[REQUEST_OPTIONS_SIZE]; /* the mount flags, with commas between */
};

struct stage_wish {
	char volume[OBJECTS_VOLUME_SIZE];
	char staging_path[REQUEST_PATH_SIZE];
	uint32_t attach_min; /* of the PublishContext: a lower bound */
	struct node_use use;
};

struct publish_wish {
	char volume[OBJECTS_VOLUME_SIZE];
	char staging_path[REQUEST_PATH_SIZE];
	char target_path[REQUEST_PATH_SIZE];
	bool is_read_only; /* by access mode or request */
	struct node_use use;
};

/* Unstage, Unpublish, Stats: a volume and a path. */
struct path_wish {
	char volume[OBJECTS_VOLUME_SIZE];
	char path[REQUEST_PATH_SIZE];
};

/*
 * 0; -EINVAL, -EDOM for what is wrong; -ENOENT for a volume id that no volume can have.  A path is
 * absolute and without "..".
 */
int stage_wish_decode(const Csi__V1__NodeStageVolumeRequest *request, struct stage_wish *ret_wish,
	struct err *err) __must_check;
int publish_wish_decode(const Csi__V1__NodePublishVolumeRequest *request,
	struct publish_wish *ret_wish, struct err *err) __must_check;
int unstage_wish_decode(const Csi__V1__NodeUnstageVolumeRequest *request,
	struct path_wish *ret_wish, struct err *err) __must_check;
int unpublish_wish_decode(const Csi__V1__NodeUnpublishVolumeRequest *request,
	struct path_wish *ret_wish, struct err *err) __must_check;
/* A path that is none is -ENOENT here, says the specification. */
int stats_wish_decode(const Csi__V1__NodeGetVolumeStatsRequest *request, struct path_wish *ret_wish,
	struct err *err) __must_check;

#endif
