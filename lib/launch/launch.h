/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small protocol between a launcher and the nexus that it started: fixed messages over a
 * SOCK_SEQPACKET socketpair, whose end the nexus inherits; its number is in STRAKE_LAUNCHER_FD.
 *
 *   nexus                       launcher
 *                           <-  VOLUME + 2 descriptors, for each volume that is published
 *                           <-  READY: that was all of them
 *   PUBLISH name size block ->
 *                           <-  VOLUME + 2 descriptors: serve it from now on
 *                           <-  DONE result device: the block device is there
 *   PUBLISH name size block ->  of what is published, with a bigger size: it has grown
 *                           <-  DONE result: so has the block device
 *   UNPUBLISH name          ->
 *                           <-  GONE: device and mount are gone, let go of the descriptors
 *                               (not when it failed)
 *                           <-  DONE result
 *
 * The two descriptors of VOLUME are /dev/fuse (non-blocking) and the memfd with the request table,
 * in this order. A successor of a nexus gets them only after the process before it was reaped.
 *
 * The same messages go between a launcher and its keeper (lib/keeper), a process that outlives it,
 * over a SOCK_SEQPACKET socket on which the keeper listens:
 *
 *   launcher                    keeper
 *                           <-  VOLUME + 2 descriptors, for each volume that it holds
 *                           <-  READY: that was all of them
 *   GONE name               ->  of what cannot be taken over: let go of it
 *   VOLUME id + descriptors ->  for each volume that the keeper does not hold yet
 *                           <-  DONE id result: it holds it
 *   READY                   ->  that was all of them
 *   VOLUME id + descriptors ->  published since
 *                           <-  DONE id result
 *   GONE name               ->  not published any more
 *
 * Launcher and keeper come from different releases: the version rises only when an older side would
 * do harm, new fields take reserved bytes that are zero until then.
 */
#ifndef LAUNCH_LAUNCH_H
#define LAUNCH_LAUNCH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define LAUNCH_FD_ENVIRONMENT "STRAKE_LAUNCHER_FD"

#define LAUNCH_MAGIC       UINT32_C(0x484c5453) /* "STLH" */
#define LAUNCH_VERSION     2u
#define LAUNCH_NAME_SIZE   64
#define LAUNCH_DEVICE_SIZE 64
#define LAUNCH_TEXT_SIZE   256
#define LAUNCH_FDS_MAX     2

/* The volume fails everything for good: that the device cannot be flushed does not keep it. */
#define LAUNCH_DATA_IS_LOST 1u
/* The device goes at once, in use or not, also while it is just being published or unpublished. */
#define LAUNCH_FORCE 2u

enum launch_kind {
	LAUNCH_VOLUME = 1,
	LAUNCH_READY,
	LAUNCH_PUBLISH,
	LAUNCH_UNPUBLISH,
	LAUNCH_GONE,
	LAUNCH_DONE,
};

/* Published at once, on one machine. */
#define LAUNCH_VOLUMES_MAX 1000u

/* Fields that a message does not use are zero.  Texts end with NUL. */
struct launch_msg {
	uint32_t magic;
	uint16_t version;
	uint16_t kind; /* enum launch_kind */
	uint64_t id; /* PUBLISH, UNPUBLISH: chosen by the nexus, not 0; DONE: the same, 0: its asker
			died.  VOLUME to a keeper likewise */
	int32_t result;          /* DONE: 0 or negative errno */
	uint32_t block_bytes;    /* PUBLISH, VOLUME */
	uint64_t size_bytes;     /* PUBLISH, VOLUME */
	uint64_t table_bytes;    /* PUBLISH, VOLUME: of the request table */
	uint32_t transfer_bytes; /* PUBLISH: largest read or write that a slot of the table takes */
	uint32_t flags;          /* UNPUBLISH: LAUNCH_DATA_IS_LOST, LAUNCH_FORCE; others are
				    ignored */
	/* VOLUME between launcher and keeper: which binding of the device is meant. */
	uint64_t disk_sequence;   /* the kernel's number of it; 0: an older kernel has none */
	uint32_t fuse_connection; /* as in /sys/fs/fuse/connections */
	uint32_t reserved_1;
	uint8_t reserved_2[64];
	char name[LAUNCH_NAME_SIZE];
	char device[LAUNCH_DEVICE_SIZE]; /* VOLUME (empty when not there yet), DONE: like
					    "/dev/loop3" */
	char text[LAUNCH_TEXT_SIZE];     /* DONE with an error: what, and the way out */
};

_Static_assert(sizeof(struct launch_msg) == 128 + 64 + 64 + 256, "the wire format of the launcher");

void launch_msg_init(struct launch_msg *msg, enum launch_kind kind);

/* 0 or negative errno.  Never blocks: -EAGAIN when the other side does not read. */
int launch_send(int socket_fd, const struct launch_msg *msg, const int *fds,
	unsigned fd_count) __must_check;

/* 0; -EAGAIN nothing there; -ECONNRESET the other side is gone; -EPROTO not a valid message.
 * Descriptors are the caller's. */
int launch_receive(int socket_fd, struct launch_msg *ret_msg, int ret_fds[LAUNCH_FDS_MAX],
	unsigned *ret_fd_count) __must_check;

/* A volume's name: 1..63 of [a-zA-Z0-9._-], not beginning with '.' or '-'. */
int launch_check_name(const char *name, struct err *err) __must_check;

#endif
