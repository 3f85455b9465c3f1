/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a member out of S that answers, but badly: slow.c and repair.c ask for it.  Being wrong
 * here costs redundancy, so there is much that must not happen: too few members left, one after the
 * other within a minute, all volumes of a pool-agent at once.  The member comes back by a rebuild,
 * not at once, and later each time.
 */
#include "base/bytes.h"
#include "nexus/mirror/volume_internal.h"

#include <stdio.h>

#define EJECT_AWAY_NS        (60 * IO_NS_PER_S)
#define EJECT_AWAY_DOUBLINGS 4
#define EJECT_PAUSE_NS       (60 * IO_NS_PER_S)
/* Of a pool-agent's replicas that are in use here, at most one in so many is out at a time (one
 * always may be): when all volumes find the same agent bad, the others keep their redundancy. */
#define EJECT_AGENT_PART 4

leg_mask eject_members(const struct volume *volume)
{
	return volume->member_mask & volume_ready_mask(volume) & ~volume_out_mask(volume);
}

/* A member in order, beside which there are enough. */
static bool eject_is_spare(const struct leg *leg)
{
	const struct volume *volume = leg->volume;

	return volume->serving && !volume->proposal_open && volume->joiner == NULL &&
	       (eject_members(volume) & LEG_BIT(leg)) &&
	       mask_count(eject_members(volume) & ~LEG_BIT(leg)) >= max_u64(volume->min_insync, 1);
}

void eject_leaving(struct leg *leg)
{
	if (leg->peer->awaited_until_ns == 0 && eject_is_spare(leg)) {
		leg_fail(leg, "its pool-agent was stopped");
	}
}

static bool eject_is_allowed(const struct leg *leg, uint64_t now_ns)
{
	const struct volume *volume = leg->volume;
	const struct peer *peer = leg->peer;

	if (!eject_is_spare(leg)) {
		return false;
	}
	if (volume->ejected_ns != 0 && now_ns < volume->ejected_ns + EJECT_PAUSE_NS) {
		return false;
	}
	return peer->ejected == 0 || (peer->ejected + 1) * EJECT_AGENT_PART <= peer->users;
}

bool eject_member(struct leg *leg, const char *why)
{
	struct volume *volume = leg->volume;
	struct eject_leg *eject = &leg->eject;
	uint64_t now_ns = io_now_ns(volume->io);
	uint64_t first_ns = volume->nexus->options.eject_away_ns;
	char reason[sizeof(leg->reason)];

	if (!eject_is_allowed(leg, now_ns)) {
		return false;
	}
	first_ns = first_ns != 0 ? first_ns : EJECT_AWAY_NS;
	/* The one that was good for long begins anew. */
	if (eject->away_ns == 0 || now_ns > eject->returned_ns + 4 * eject->away_ns) {
		eject->away_ns = first_ns;
	} else {
		eject->away_ns = min_u64(2 * eject->away_ns, first_ns << EJECT_AWAY_DOUBLINGS);
	}
	eject->ejected = true;
	eject->until_ns = now_ns + eject->away_ns;
	eject->members_beside = mask_count(eject_members(volume) & ~LEG_BIT(leg));
	leg->peer->ejected++;
	volume->ejected_ns = now_ns;
	metric_inc(&leg->ejections, 1);
	(void)snprintf(reason, sizeof(reason), "%s; out for %llu s", why,
		(unsigned long long)(eject->away_ns / IO_NS_PER_S));
	leg_fail(leg, reason);
	return true;
}

/* A single bad block is repaired; a disk that gives nothing any more is to be replaced. */
void eject_unread(struct leg *leg)
{
	char reason[60];

	leg->unread_run++;
	(void)snprintf(reason, sizeof(reason), "%u reads in a row failed", leg->unread_run);
	if (leg->unread_run > UNREAD_RUN_MAX && eject_member(leg, reason)) {
		leg->unread_run = 0;
	}
}

bool eject_keeps_out(const struct leg *leg)
{
	const struct volume *volume = leg->volume;
	unsigned beside =
		mask_count(volume->member_mask & ~volume_out_mask(volume) & ~LEG_BIT(leg));

	/* When another one fails a bad member is better than none. */
	return leg->eject.ejected && io_now_ns(volume->io) < leg->eject.until_ns &&
	       beside >= leg->eject.members_beside;
}

void eject_returned(struct leg *leg)
{
	if (!leg->eject.ejected) {
		return;
	}
	leg->eject.ejected = false;
	leg->eject.returned_ns = io_now_ns(leg->volume->io);
	assert(leg->peer->ejected > 0);
	leg->peer->ejected--;
}

bool eject_wants_tick(const struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		if (volume->legs[i]->eject.ejected) {
			return true;
		}
	}
	return false;
}

void eject_tick(struct volume *volume)
{
	for (unsigned i = 0; i < volume->leg_count; i++) {
		struct leg *leg = volume->legs[i];

		if (!leg->eject.ejected || eject_keeps_out(leg)) {
			continue;
		}
		if (leg->out && leg->ready && (volume->member_mask & LEG_BIT(leg))) {
			/* It is a member still: in place, after everything is sent that it missed.
			 */
			leg->refence = true;
			task_wake(&leg->task);
		}
		task_wake(&leg->rebuild_task);
	}
}
