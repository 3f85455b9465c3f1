/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a successor must know of a published volume to clean up after us when nobody holds its
 * descriptors any more: its mount may have died with our mount namespace, the loop device stays.
 * Small files in the run folder, one for each volume.
 */
#ifndef LAUNCHER_RECORD_H
#define LAUNCHER_RECORD_H

#include "base/err.h"
#include "launch/launch.h"

#include <stdint.h>

struct record {
	char name[LAUNCH_NAME_SIZE];
	char device[LAUNCH_DEVICE_SIZE]; /* "" until it is bound */
	uint64_t disk_sequence;          /* 0: unknown */
	uint32_t fuse_connection;
};

int record_write(const char *folder, const struct record *record, struct err *err) __must_check;
void record_remove(const char *folder, const char *name);
/* Calls `found` for each record of this boot; those of another one, and what is none, are removed.
 */
void records_each(
	const char *folder, void (*found)(const struct record *record, void *ctx), void *ctx);

#endif
