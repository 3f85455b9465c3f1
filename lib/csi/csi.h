/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What csi-controller and csi-node have in common of the Container Storage Interface: the Identity
 * service, what volumes can do, and the parts of requests that both read.
 *
 * Errors are those of grpc.h's table: -EINVAL a field is missing or malformed and -EDOM a good one
 * is not offered (both INVALID_ARGUMENT), -ENOENT, -EEXIST, -EBUSY (FAILED_PRECONDITION), -EALREADY
 * (ABORTED: ask again), -ERANGE, -ENOSPC, -EAGAIN (UNAVAILABLE).
 */
#ifndef CSI_CSI_H
#define CSI_CSI_H

#include "api/csi.pb-c.h"
#include "base/err.h"
#include "grpc/grpc.h"

#include <stdbool.h>
#include <stdint.h>

/* A text field without a limit of its own, says the specification. */
#define CSI_TEXT_MAX 128

/* ---- Identity ---- */

/* Handlers; they need no context. */
grpc_handler csi_get_plugin_info;
grpc_handler csi_get_plugin_capabilities;
/* For the program's own Probe: it knows whether it is ready. */
void csi_probe_reply(struct grpc_call *call, bool ready);

/* For a table of grpc_method; `probe` is the program's handler. */
#define CSI_IDENTITY_METHODS(probe)                                                                \
	{"/csi.v1.Identity/GetPluginInfo", &csi__v1__get_plugin_info_request__descriptor,          \
		&csi__v1__get_plugin_info_response__descriptor, csi_get_plugin_info},              \
		{"/csi.v1.Identity/GetPluginCapabilities",                                         \
			&csi__v1__get_plugin_capabilities_request__descriptor,                     \
			&csi__v1__get_plugin_capabilities_response__descriptor,                    \
			csi_get_plugin_capabilities},                                              \
	{                                                                                          \
		"/csi.v1.Identity/Probe", &csi__v1__probe_request__descriptor,                     \
			&csi__v1__probe_response__descriptor, probe                                \
	}

/* ---- maps ---- */

/* Any entry of a map<string, string>: they all look like this. */
struct csi_pair {
	ProtobufCMessage base;
	char *key;
	char *value;
};

/* `pairs` is the array of a message's map field.  NULL: not there. */
const char *csi_pair_find(const void *pairs, size_t count, const char *key);
/* The pair at an index. */
const struct csi_pair *csi_pair_at(const void *pairs, size_t index);

/* ---- fields ---- */

/* -EINVAL when it is empty; `field` is for the text: "volume_id". */
int csi_need(const char *field, const char *text, struct err *err) __must_check;
/* Could a Volume have this name?  What could not is not there; it never becomes part of a URL. */
bool csi_volume_id_is_possible(const char *volume_id);
/* The same of a node's. */
bool csi_node_id_is_possible(const char *node_id);

/* ---- capabilities ---- */

struct csi_capability {
	bool is_block;
	bool is_read_only;   /* access mode SINGLE_NODE_READER_ONLY */
	bool is_single_pod;  /* SINGLE_NODE_SINGLE_WRITER: one target path */
	const char *fs_type; /* of a file system: static, never "" */
	/* borrowed from the message */
	char **mount_flags;
	size_t mount_flag_count;
};

/*
 * Into something that a Strake volume can do.  NULL and incomplete ones are -EINVAL; what volumes
 * cannot do (several nodes, other file systems) -EDOM, the text says what they can.
 */
int csi_capability_decode(const Csi__V1__VolumeCapability *capability,
	struct csi_capability *ret_capability, struct err *err) __must_check;
/* mkfs.xfs makes nothing smaller. */
#define CSI_XFS_BYTES_MIN (UINT64_C(300) << 20)
/* Is a volume of that size large enough for the file system?  -EDOM names the least size. */
int csi_filesystem_fits(const char *fs_type, uint64_t size_bytes, struct err *err) __must_check;

/* All of a request's, for a volume of that size (0: of any).  -EINVAL also when there is none. */
int csi_capabilities_check(Csi__V1__VolumeCapability *const *capabilities, size_t count,
	uint64_t size_bytes, struct err *err) __must_check;

/* ---- attach numbers ---- */

/* In the PublishContext. */
#define CSI_ATTACH_KEY       "strake.io/attach"
#define CSI_ATTACH_TEXT_SIZE 12

/* From a PublishContext; -EINVAL. */
int csi_attach_number_decode(const void *publish_context, size_t count, uint32_t *ret_number,
	struct err *err) __must_check;

#endif
