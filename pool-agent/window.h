/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows (docs/protocol.md 1.2): which pieces of a replica (1/64 of a region) were written by
 * commands that are not known to be on all of S.  In memory only: a window is a superset of that,
 * or invalid.  All replicas of the agent share one table, which is allocated at start; a window
 * that finds it full, or becomes too large itself, drops what it has and is invalid.  One reactor.
 */
#ifndef POOL_AGENT_WINDOW_H
#define POOL_AGENT_WINDOW_H

#include "io/io.h"

#define WINDOW_ENTRIES_MAX 65536u /* of one window */

struct window_entry {
	struct list_node node;      /* in windows->unused or one of a window's lists */
	struct window_entry *chain; /* of its bucket */
	uint64_t seq;               /* the highest of this epoch that touched the piece; 0: none */
	uint32_t nsid;
	uint32_t piece;
};

struct windows {
	struct io *io;
	struct window_entry *entries;  /* owned */
	struct window_entry **buckets; /* owned */
	uint32_t bucket_count;         /* a power of two */
	struct list unused;
};

int windows_init(struct windows *windows, struct io *io, uint32_t entries) __must_check;
/* Every window is done. */
void windows_done(struct windows *windows);

struct window {
	struct windows *windows; /* borrowed */
	uint32_t nsid;           /* tells the windows of the table apart */
	uint64_t piece_bytes;
	struct list own; /* entries of the present epoch, in the order of their last command */
	struct list old; /* of earlier ones */
	uint32_t count;
	bool valid;
	uint64_t last_seq; /* the highest of a command of the present epoch */
	uint64_t lost_seq; /* commands up to this one had entries that were dropped; 0: none */
};

/* Empty and invalid: what the process before had is not known. */
void window_init(
	struct window *window, struct windows *windows, uint32_t nsid, uint64_t region_bytes);
void window_done(struct window *window);
/* A command that changes the range is about to be executed. */
void window_add(struct window *window, uint64_t seq, uint64_t offset, uint64_t length);
/* Every command of the present epoch up to this one is on all of S. */
void window_settle(struct window *window, uint64_t settled);
void window_new_epoch(struct window *window);
void window_invalidate(struct window *window);
/*
 * RESYNCED: the replica is equal to all of S but for commands of the present epoch above `upto`.
 * false: entries of such were dropped, the window stays invalid.
 */
bool window_resynced(struct window *window, uint64_t upto);
/* Pieces from the `first`-th on; returns how many were stored, at most `max`. */
uint32_t window_get(
	const struct window *window, uint32_t first, uint32_t *ret_pieces, uint32_t max);

#endif
