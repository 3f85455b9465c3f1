/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nexus's end of the launcher protocol (lib/launch/launch.h).  All of it runs on the control
 * thread; the owner hands what it learns to the reactor.
 *
 * The owner keeps a frontend for each held volume:
 *   held()  the launcher holds this volume: make its frontend as soon as the volume is open.
 *           Called for volumes that a predecessor left, and within a publish.
 *   gone()  the block device was taken away: close the frontend, then call
 *           launcher_link_release().
 */
#ifndef NEXUS_FRONTEND_LAUNCHER_LINK_H
#define NEXUS_FRONTEND_LAUNCHER_LINK_H

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "launch/launch.h"

#include <stdbool.h>

struct launcher_link;

/* Memory, mapping and descriptor are the link's, until launcher_link_release(). */
struct launcher_volume {
	struct list_node node; /* the link's */
	struct launcher_link *link;
	char name[LAUNCH_NAME_SIZE];
	char device[LAUNCH_DEVICE_SIZE]; /* "" until it is there */
	uint64_t size_bytes; /* of the block device; the owner raises it when it has grown */
	uint32_t block_bytes;
	bool gone;
	int fuse_fd; /* for fuse_frontend_options */
	void *table; /* mapped, every page touched */
	size_t table_bytes;
	void *ctx; /* the owner's */
};

struct launcher_link_ops {
	void (*held)(struct launcher_volume *volume, void *ctx);
	void (*gone)(struct launcher_volume *volume, void *ctx);
	/* All volumes that a predecessor left were reported by held(). */
	void (*ready)(void *ctx);
	/* The launcher is gone and its volumes with it: the frontends stay until they are closed.
	 */
	void (*lost)(void *ctx);
};

/* An answer to publish and unpublish.  device is "" unless publish succeeded, text is "" on
 * success. */
typedef void launcher_answer(void *ctx, int result, const char *device, const char *text);

/*
 * Takes over the descriptor named in the environment.  -ENOENT: not started by a launcher (publish
 * is not possible then; the text says how to start it).  ops, ctx and log are borrowed.  Callbacks
 * come from launcher_link_process() only.
 */
int launcher_link_new(const struct launcher_link_ops *ops, void *ctx, const struct log *log,
	struct launcher_link **ret_link, struct err *err) __must_check;
/* Open answers are ended with -ECANCELED; every frontend was closed before. */
void launcher_link_free(struct launcher_link *link);

/* Readable when launcher_link_process() has something to do. */
int launcher_link_fd(const struct launcher_link *link);
void launcher_link_process(struct launcher_link *link);

/*
 * The answer comes later, unless an error is returned.  Publishing what is published answers with
 * its device, after it has grown when the size is bigger than the held one; a smaller one is
 * refused.  held() comes in between, and the block device only appears when its frontend serves.
 */
int launcher_link_publish(struct launcher_link *link, const struct launch_msg *volume,
	launcher_answer *answer, void *answer_ctx, struct err *err) __must_check;
/* Refused with -EBUSY and a text that says by whom while the device is in use; and when what was
 * written cannot be flushed, unless the flags (LAUNCH_...) say otherwise. */
int launcher_link_unpublish(struct launcher_link *link, const char *name, uint32_t flags,
	launcher_answer *answer, void *answer_ctx, struct err *err) __must_check;
/* For publish: name, size_bytes, block_bytes and the table's sizes filled in. */
void launcher_link_fill_publish(
	struct launch_msg *ret_msg, const char *name, uint64_t size_bytes, uint32_t block_bytes);

/* NULL when the launcher does not hold it. */
struct launcher_volume *launcher_link_find(struct launcher_link *link, const char *name);
/* Its frontend is closed: unmaps and closes. */
void launcher_link_release(struct launcher_volume *volume);

#endif
