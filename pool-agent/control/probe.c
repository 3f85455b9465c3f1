/* SPDX-License-Identifier: Apache-2.0 */
/* Does a disk hold something of somebody else?  The signatures that libblkid knows, and partition
 * tables. */
#include "pool-agent/control/control.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <string.h>

static const char *probe_value(blkid_probe probe, const char *name)
{
	const char *value = NULL;

	return blkid_probe_lookup_value(probe, name, &value, NULL) == 0 ? value : NULL;
}

static int describe(blkid_probe probe, const char *path, struct err *err)
{
	const char *type = probe_value(probe, "TYPE");
	const char *label = probe_value(probe, "LABEL");

	if (type == NULL) {
		type = probe_value(probe, "PTTYPE");
		return err_set(err, -EEXIST, "%s holds a partition table (%s)", path,
			type == NULL ? "unknown" : type);
	}
	return label == NULL
		       ? err_set(err, -EEXIST, "%s holds %s", path, type)
		       : err_set(err, -EEXIST, "%s holds %s labelled '%s'", path, type, label);
}

int disk_probe(const char *path, struct err *err)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);
	int found;
	int result = 0;

	if (probe == NULL) {
		return err_set(err, errno != 0 ? -errno : -EIO, "%s: cannot be probed: %s", path,
			err_describe(errno != 0 ? errno : EIO));
	}
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(
		probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_MAGIC);
	blkid_probe_enable_partitions(probe, 1);
	/* 0: one, -2: several that contradict each other, 1: none. */
	found = blkid_do_safeprobe(probe);
	if (found == 0) {
		result = describe(probe, path, err);
	} else if (found == -2) {
		result = err_set(err, -EEXIST, "%s holds several kinds of data at once", path);
	} else if (found < 0) {
		result = err_set(err, -EIO, "%s: cannot be read", path);
	}
	blkid_free_probe(probe);
	return result;
}
