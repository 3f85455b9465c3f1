/* SPDX-License-Identifier: Apache-2.0 */
/* What is next for one Pool, one Replica (of what its Volume does not decide), one Node.  Pure, as
 * plan_volume.h. */
#ifndef CSI_CONTROLLER_PLAN_POOL_H
#define CSI_CONTROLLER_PLAN_POOL_H

#include "csi-controller/world.h"

/* ---- pools ---- */

enum pool_action {
	POOL_NOTHING,
	POOL_ADOPT,        /* the finalizer; guarded by the version */
	POOL_MARK_UNKNOWN, /* `status`: state and condition Ready, as its node cannot say them;
			      guarded */
	POOL_WRITE_STATUS, /* `status`: condition Deletable */
	POOL_RELEASE, /* takes the finalizer away; a node that is not there is looked for once more
		       */
};

struct pool_plan {
	enum pool_action action;
	json_t *status; /* owned */
};

void plan_pool(
	const struct world *world, const struct world_pool *pool, struct pool_plan *ret_plan);
void pool_plan_done(struct pool_plan *plan);

/* ---- replicas ---- */

enum replica_action {
	REPLICA_NOTHING,
	REPLICA_DELETE, /* its volume is gone; looked for once more before */
	REPLICA_PURGE,  /* takes the finalizer away: nobody will erase it; a pool that is not there
			   is  looked for once more before */
	REPLICA_MARK_ORPHAN, /* state Orphaned; guarded by the version */
};

enum replica_action plan_replica(const struct world *world, const struct world_replica *replica);

/* ---- nodes ---- */

enum node_action {
	NODE_NOTHING,
	NODE_LABEL, /* pool-agent shall run there */
	NODE_UNLABEL,
};

enum node_action plan_node(const struct world_node *node);

#endif
