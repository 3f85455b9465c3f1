/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts: the FUSE file systems that a launcher makes, and who has a device mounted. */
#ifndef LAUNCHER_MOUNTS_H
#define LAUNCHER_MOUNTS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Shows in /proc/mounts. */
#define MOUNTS_TYPE "fuse.strake"

/* Mounts the descriptor of /dev/fuse; does not wait for whoever serves it. */
int mounts_add(
	const char *folder, int fuse_fd, uint32_t transfer_bytes, struct err *err) __must_check;

/* Waits until nobody uses it, a few seconds; -EBUSY then.  May wait for the nexus. */
int mounts_remove(const char *folder, struct err *err) __must_check;

/* The number of the FUSE connection that is mounted at the folder, in this mount namespace; 0:
 * none. */
uint32_t mounts_connection(const char *folder);

/* Ends every request of the connection with an error, present and future, also when it is mounted
 * in no namespace any more.  Waits for nobody. */
void mounts_abort_connection(uint32_t fuse_connection);
/* The same for what is mounted at the folder. */
void mounts_abort(const char *folder);

/* Takes the mount away now, or else as soon as nobody uses it.  Waits for nobody, after
 * mounts_abort(). */
void mounts_drop(const char *folder);

/* Where the block device is mounted, in this mount namespace; the first place. */
bool mounts_find_device(const char *device, char *ret_mount_point, size_t size);

/* Mounts of MOUNTS_TYPE below the folder: calls `found` with the path of each; it may unmount it.
 * Negative errno when that cannot be known. */
int mounts_list_below(
	const char *folder, void (*found)(const char *path, void *ctx), void *ctx) __must_check;

#endif
