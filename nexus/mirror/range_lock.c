/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/mirror/range_lock.h"

#include "base/mutant.h"

void range_locks_init(struct range_locks *locks)
{
	list_init(&locks->held);
	list_init(&locks->waiting);
}

static bool conflicts(const struct range_lock *holder, const struct range_lock *asking)
{
	if (!holder->exclusive && !asking->exclusive) {
		return false;
	}
	if (mutant_is(MUTANT_NO_RANGE_LOCK) && !holder->internal && !asking->internal) {
		return false;
	}
	if (holder->offset >= asking->offset + asking->length ||
		asking->offset >= holder->offset + holder->length) {
		return false;
	}
	return !(asking->internal && holder->held && holder->parked);
}

static bool any_conflicts(const struct list *list, const struct range_lock *asking)
{
	list_for_each (list, pos) {
		const struct range_lock *other = container_of(pos, struct range_lock, node);

		if (other == asking) {
			return false; /* only those who asked before it count */
		}
		if (conflicts(other, asking)) {
			return true;
		}
	}
	return false;
}

static bool any_is_parked(const struct range_locks *locks)
{
	list_for_each (&locks->held, pos) {
		if (container_of(pos, struct range_lock, node)->parked) {
			return true;
		}
	}
	return false;
}

/* A copy does not wait behind a host request that itself, perhaps by way of others, waits for a
 * parked write, or the parked write would never end.  While nothing is parked it does, or a long
 * discard would wait for the last of all copies. */
static bool must_wait(const struct range_locks *locks, const struct range_lock *lock)
{
	if (any_conflicts(&locks->held, lock)) {
		return true;
	}
	return any_conflicts(&locks->waiting, lock) && !(lock->internal && any_is_parked(locks));
}

void range_lock_acquire(struct range_locks *locks, struct range_lock *lock, struct task *task)
{
	assert(!lock->held && !list_is_linked(&lock->node));
	lock->task = task;
	lock->parked = false;
	if (must_wait(locks, lock)) {
		list_push_back(&locks->waiting, &lock->node);
		return;
	}
	lock->held = true;
	list_push_back(&locks->held, &lock->node);
}

static void grant_waiting(struct range_locks *locks)
{
	list_for_each_safe (&locks->waiting, pos, following) {
		struct range_lock *lock = container_of(pos, struct range_lock, node);

		if (!must_wait(locks, lock)) {
			list_remove(&lock->node);
			lock->held = true;
			list_push_back(&locks->held, &lock->node);
			task_wake(lock->task);
		}
	}
}

bool range_lock_is_shared(const struct range_locks *locks, const struct range_lock *lock)
{
	list_for_each (&locks->held, pos) {
		const struct range_lock *other = container_of(pos, struct range_lock, node);

		if (other != lock && conflicts(other, lock)) {
			return true;
		}
	}
	return false;
}

void range_lock_release(struct range_locks *locks, struct range_lock *lock)
{
	if (!list_is_linked(&lock->node)) {
		return;
	}
	list_remove(&lock->node);
	lock->held = false;
	lock->parked = false;
	grant_waiting(locks);
}

void range_lock_parked(struct range_locks *locks, struct range_lock *lock)
{
	assert(lock->held && lock->parked);
	grant_waiting(locks);
}
