/* SPDX-License-Identifier: Apache-2.0 */
/* What is next for one Snapshot: pure, as plan_volume.h.  Whose csi-node takes it, and what is said
 * of one that nobody can take; the rest is csi-node's. */
#ifndef CSI_CONTROLLER_PLAN_SNAPSHOT_H
#define CSI_CONTROLLER_PLAN_SNAPSHOT_H

#include "csi-controller/world.h"

enum snapshot_action {
	SNAPSHOT_NOTHING,
	SNAPSHOT_FILL,         /* spec.uuid; guarded by the version, as all that follow */
	SNAPSHOT_HOLD,         /* the finalizer: it was made */
	SNAPSHOT_WRITE_STATUS, /* `status`: a merge patch */
	SNAPSHOT_LOSE,         /* `status`, when its Volume is really gone: looked for once more */
	SNAPSHOT_RELEASE,      /* takes the finalizer away: there is nothing to hold */
};

struct snapshot_plan {
	enum snapshot_action action;
	json_t *status; /* owned */
};

void plan_snapshot(const struct world *world, const struct world_snapshot *snapshot,
	struct snapshot_plan *ret_plan);
void snapshot_plan_done(struct snapshot_plan *plan);

#endif
