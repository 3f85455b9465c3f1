/* SPDX-License-Identifier: Apache-2.0 */
/* A volume grows; what the rest of the mirror must know of it (resize.c). */
#ifndef NEXUS_MIRROR_RESIZE_H
#define NEXUS_MIRROR_RESIZE_H

#include "nexus/mirror/piecemap.h"
#include "nexus/nexus.h"

struct leg;

enum resize_state {
	RESIZE_START,
	RESIZE_AWAIT_WANTED,
	RESIZE_AWAIT_GROWN,
	RESIZE_AWAIT_COMMITTED,
	RESIZE_DONE,
};

struct resizer {
	struct task task;
	enum resize_state state;
	struct io_timer timer;         /* runs while the request may wait */
	struct volume_resize *request; /* borrowed; NULL: none */
	uint64_t incarnation;          /* of the volume when it was begun */
	uint64_t wanted_bytes;         /* by it; 0: nothing */
	/* Who must has grown, and the maps have room: may be, or was, proposed.  0: nothing. */
	uint64_t proposable_bytes;
};

task_step resize_step;
/* What every data replica that is reached should have. */
uint64_t resize_goal(const struct volume *volume);
/* FENCE told its size. */
void resize_leg_came_up(struct leg *leg);
/* Ready, and none is under way.  Wakes the leg's rebuild task at the end, among others. */
void resize_send(struct leg *leg, uint64_t size_bytes);
/* Of those replicas (a leg_mask), the ready ones that are smaller are asked to grow: true when none
 * of them is still to answer. */
bool resize_is_over(struct volume *volume, uint32_t mask, uint64_t size_bytes);
/* For a map that is made while the volume may grow.  0 or -ENOMEM. */
int resize_reserve(const struct volume *volume, struct piecemap *map);
/* Of the configuration that should follow. */
uint64_t resize_wished_bytes(const struct volume *volume);
void resize_committed(struct volume *volume);
void resize_reopened(struct volume *volume); /* the size is what will be chosen */

#endif
