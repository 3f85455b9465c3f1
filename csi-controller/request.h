/* SPDX-License-Identifier: Apache-2.0 */
/* CSI requests into valid structs.  Pure. */
#ifndef CSI_CONTROLLER_REQUEST_H
#define CSI_CONTROLLER_REQUEST_H

#include "csi/csi.h"
#include "objects/objects.h"

/* Parameters of a StorageClass. */
struct class_wish {
	unsigned replicas, min_insync;
	char frontend[16];
	json_t *pool_selector; /* owned; NULL: none */
};

/* What CreateVolume asks for. */
struct volume_wish {
	char name[OBJECTS_VOLUME_SIZE]; /* of the Volume */
	const char *csi_name; /* borrowed from the request; NULL: it is the Volume's name */
	uint64_t size_bytes;
	uint64_t required_bytes, limit_bytes; /* 0: no limit */
	char preferred_node[OBJECTS_NAME_SIZE];
	char claim_namespace[OBJECTS_NAME_SIZE], claim_name[OBJECTS_NAME_SIZE];
	struct class_wish class;
};

/* `pairs`: the map `parameters`.  0, or -EINVAL with a text that lists what is known. */
int class_wish_decode(const void *pairs, size_t count, struct class_wish *ret_class,
	struct err *err) __must_check;
void class_wish_done(struct class_wish *class);

/* 0, -EINVAL, -EDOM or -ERANGE. */
int volume_wish_decode(const Csi__V1__CreateVolumeRequest *request, struct volume_wish *ret_wish,
	struct err *err) __must_check;
void volume_wish_done(struct volume_wish *wish);

/* Whether a Volume of that name is what is asked for: 0 or -EEXIST. */
int volume_wish_compare(const struct volume_wish *wish, const struct volume_object *volume,
	struct err *err) __must_check;
/* The Volume as it is to be created; a new reference. */
json_t *volume_wish_object(const struct volume_wish *wish, const struct uuid *uuid);

/* ListVolumes' tokens: after which name to go on.  0, or -ESTALE (ABORTED). */
#define LIST_TOKEN_SIZE (OBJECTS_VOLUME_SIZE + 8)
void list_token_make(const char *last_name, char ret_token[LIST_TOKEN_SIZE]);
int list_token_decode(
	const char *token, char ret_last_name[OBJECTS_VOLUME_SIZE], struct err *err) __must_check;

#endif
