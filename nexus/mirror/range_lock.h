/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Range locks of a volume: overlapping writes, copies and reads are executed one after the other
 * (trap F10).  First come, first served among those that conflict.  One reactor.
 */
#ifndef NEXUS_MIRROR_RANGE_LOCK_H
#define NEXUS_MIRROR_RANGE_LOCK_H

#include "base/list.h"
#include "base/task.h"

#include <stdbool.h>
#include <stdint.h>

struct range_locks {
	struct list held;
	struct list waiting; /* in order of asking */
};

struct range_lock {
	struct list_node node;
	uint64_t offset, length;
	bool exclusive;
	/* A copy within the mirror: it passes parked holders. */
	bool internal;
	/* The holder is a write that is complete on every reachable member and only waits for the
	 * configuration: a copy may read and move its range. */
	bool parked;
	bool held;
	struct task *task; /* woken when held */
};

void range_locks_init(struct range_locks *locks);
/* offset, length, exclusive and internal are set by the caller.  lock->held tells whether it was
 * got at once; else the task is woken. */
void range_lock_acquire(struct range_locks *locks, struct range_lock *lock, struct task *task);
/* Also takes back a waiting one; nothing when it is neither. */
void range_lock_release(struct range_locks *locks, struct range_lock *lock);
/* Does somebody else hold a part of the range (who passed it while it was parked)? */
bool range_lock_is_shared(const struct range_locks *locks, const struct range_lock *lock);
/* lock->parked was set: those who may pass now get theirs. */
void range_lock_parked(struct range_locks *locks, struct range_lock *lock);

#endif
