/* SPDX-License-Identifier: Apache-2.0 */
/* File systems on a volume's device.  Blocking: for worker threads. */
#ifndef CSI_NODE_FILESYSTEM_H
#define CSI_NODE_FILESYSTEM_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define FILESYSTEM_TYPE_SIZE 32

/* What is on it: "" nothing, "ext4", ...  -EBUSY when it holds what libblkid cannot name, or
 * several things at once. */
int filesystem_probe(
	const char *device, char ret_type[FILESYSTEM_TYPE_SIZE], struct err *err) __must_check;

struct filesystem_wish {
	const char *device, *volume; /* the volume's name, for texts */
	const char *type;            /* "ext4" or "xfs" */
	const char *path;            /* is there */
	const char *options;         /* of mount(8) */
	bool is_read_only;           /* nothing is written: neither made nor checked */
	uint64_t timeout_ms;
};

/* Makes it when the device is empty, checks it when it is ext4, mounts it.  What is there already
 * and is something else is never written to: -EBUSY. */
int filesystem_mount(const struct filesystem_wish *wish, struct err *err) __must_check;

struct filesystem_stats {
	uint64_t total_bytes, available_bytes, used_bytes;
	uint64_t total_inodes, free_inodes;
};

int filesystem_stats(
	const char *path, struct filesystem_stats *ret_stats, struct err *err) __must_check;
/* Of a block device. */
int device_size(const char *path, uint64_t *ret_bytes, struct err *err) __must_check;

#endif
