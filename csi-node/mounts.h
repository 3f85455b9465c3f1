/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts, as this process's mount namespace has them.  Blocking: for worker threads. */
#ifndef CSI_NODE_MOUNTS_H
#define CSI_NODE_MOUNTS_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct mount_entry {
	char path[PATH_MAX];
	char root[PATH_MAX]; /* within the file system: "/loop3" of a device node's bind mount */
	char type[32];
	dev_t device;      /* st_dev of what is in it */
	bool is_read_only; /* this mount, or the whole file system */
};

struct mounts {
	size_t count;
	struct mount_entry *entries; /* owned; in order of mounting */
};

int mounts_read(struct mounts *ret_mounts, struct err *err) __must_check;
/* From the text of a mountinfo file. */
int mounts_parse(const char *text, struct mounts *ret_mounts, struct err *err) __must_check;
void mounts_done(struct mounts *mounts);
/* The topmost mount at exactly this path (absolute, without links); NULL: none. */
const struct mount_entry *mounts_find(const struct mounts *mounts, const char *path);

/* The first mount of a block device: of its file system (number), or of its node (name below /dev;
 * NULL: not looked for); but for two paths (NULL: none).  NULL: nobody has it. */
const struct mount_entry *mounts_find_user(const struct mounts *mounts, dev_t number,
	const char *name, const char *but_path, const char *but_other_path);
/* Is it a bind mount of a device's node?  `name` of the node below /dev; NULL: of any. */
bool mount_is_node(const struct mount_entry *entry, const char *name);

/* As mountinfo has it: absolute, links resolved, also when the last part does not exist. */
int mount_path_resolve(const char *path, char ret_path[PATH_MAX], struct err *err) __must_check;

/* Through libmount; `options` as for mount(8), "": none. */
int mount_file_system(const char *device, const char *path, const char *type, const char *options,
	struct err *err) __must_check;
/* `from` also at `to`, which exists. */
int mount_bind(const char *from, const char *to, bool is_read_only, struct err *err) __must_check;
/* All that is mounted at the path; nothing is fine.  -EBUSY says who has it.  `lazily`: also when
 * somebody uses it, who goes on with what is mounted. */
int mount_remove(const char *path, bool lazily, struct err *err) __must_check;

#endif
