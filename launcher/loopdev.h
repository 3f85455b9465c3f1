/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loop devices.  Attaching and detaching may wait for the nexus: helper processes do it, never the
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

/* Its file has this size now: so does the device afterwards, under whatever uses it.  Again:
 * nothing happens. */
int loopdev_grow(
	const char *device, const char *file, uint64_t size_bytes, struct err *err) __must_check;
uint64_t loopdev_size(const char *device); /* as sysfs tells; 0: not bound */

/*
 * The kernel's number of what is bound to the device now: another binding has another number.  0:
 * not bound, or the kernel is older than 5.15.
 */
uint64_t loopdev_sequence(const char *device);

/*
 * Is the device bound to a file of this name, and by the binding with this number (0: unknown)?
 * Asks sysfs only, which waits for nobody.  -ENODEV: no, for certain, with what is there instead;
 * any other error: it cannot be told.
 */
int loopdev_check(
	const char *device, const char *name, uint64_t sequence, struct err *err) __must_check;
/* And has it this block size, and at least this size?  It may have grown. */
int loopdev_check_size(const char *device, uint64_t size_bytes, uint32_t block_bytes,
	struct err *err) __must_check;

/* -EBUSY with a text that says by whom while it is mounted or open; else the device is unbound when
 * this returns.  -ENXIO: it was not bound.  A flush that fails keeps it bound, unless the data is
 * lost anyway. */
int loopdev_detach(const char *device, bool data_is_lost, struct err *err) __must_check;

/* Unbinds it as soon as nobody uses it any more, now or later. */
void loopdev_detach_lazily(const char *device);

/*
 * Bound to a file of this name on this FUSE connection: one after the other, *index from 0; false:
 * no more.  For a connection that is aborted: old kernels ask who serves it.
 */
bool loopdev_next_of(const char *name, uint32_t fuse_connection, unsigned *index,
	char ret_device[LOOPDEV_PATH_SIZE]);

#endif
