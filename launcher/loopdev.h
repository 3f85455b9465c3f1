/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loop devices.  Everything here may wait for the nexus: helper processes call it, never the
 * launcher's own loop.
 */
#ifndef LAUNCHER_LOOPDEV_H
#define LAUNCHER_LOOPDEV_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOPDEV_PATH_SIZE 64

/* A free loop device onto the file, with direct I/O, checked.  The name of the file shows in
 * /sys/block/loopN/loop. */
int loopdev_attach(const char *file, uint64_t size_bytes, uint32_t block_bytes,
	char ret_device[LOOPDEV_PATH_SIZE], struct err *err) __must_check;

/* -EBUSY with a text that says by whom while it is mounted or open; else the device is unbound when
 * this returns.  -ENXIO: it was not bound.  A flush that fails keeps it bound, unless the data is
 * lost anyway. */
int loopdev_detach(const char *device, bool data_is_lost, struct err *err) __must_check;

/* Unbinds it as soon as nobody uses it any more, now or later. */
void loopdev_detach_lazily(const char *device);

/* Bound to a file below `folder`: one after the other, *index from 0; false: no more. */
bool loopdev_next_below(const char *folder, unsigned *index, char ret_device[LOOPDEV_PATH_SIZE]);

#endif
