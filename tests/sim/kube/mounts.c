/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi-node/mounts.h and filesystem.h of hosts that mount nothing: pods have the volume as a block
 * device, and what would be a mount of it is the load that a world runs.  Nothing here is called
 * for a block volume but the first four.
 */
#include "csi-node/mounts.h"

#include "csi-node/filesystem.h"

#include <errno.h>
#include <stdio.h>

int mounts_read(struct mounts *ret_mounts, struct err *err)
{
	(void)err;
	*ret_mounts = (struct mounts){0};
	return 0;
}

void mounts_done(struct mounts *mounts)
{
	(void)mounts;
}

const struct mount_entry *mounts_find(const struct mounts *mounts, const char *path)
{
	(void)mounts;
	(void)path;
	return NULL;
}

const struct mount_entry *mounts_find_user(const struct mounts *mounts, dev_t number,
	const char *name, const char *but_path, const char *but_other_path)
{
	(void)mounts;
	(void)number;
	(void)name;
	(void)but_path;
	(void)but_other_path;
	return NULL;
}

bool mount_is_node(const struct mount_entry *entry, const char *name)
{
	(void)entry;
	(void)name;
	return false;
}

int mount_path_resolve(const char *path, char ret_path[PATH_MAX], struct err *err)
{
	(void)err;
	(void)snprintf(ret_path, PATH_MAX, "%s", path);
	return 0;
}

int mount_remove(const char *path, bool lazily, struct err *err)
{
	(void)path;
	(void)lazily;
	(void)err;
	return 0;
}

static int none(struct err *err)
{
	return err_set(err, -EOPNOTSUPP, "a simulated host mounts nothing");
}

int mount_bind(const char *from, const char *to, bool is_read_only, struct err *err)
{
	(void)from;
	(void)to;
	(void)is_read_only;
	return none(err);
}

int filesystem_mount(const struct filesystem_wish *wish, struct err *err)
{
	(void)wish;
	return none(err);
}

int filesystem_stats(const char *path, struct filesystem_stats *ret_stats, struct err *err)
{
	(void)path;
	(void)ret_stats;
	return none(err);
}

int device_size(const char *path, uint64_t *ret_bytes, struct err *err)
{
	(void)path;
	(void)ret_bytes;
	return none(err);
}
