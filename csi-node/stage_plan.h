/* SPDX-License-Identifier: Apache-2.0 */
/* What a NodeStageVolume gives to the nexus: from the objects, pure. */
#ifndef CSI_NODE_STAGE_PLAN_H
#define CSI_NODE_STAGE_PLAN_H

#include "csi-node/daemons.h"
#include "csi-node/request.h"

/* 0: it may be staged here.  -EBUSY it is not attached to this node or being deleted; -EALREADY
 * what the API says is older than the PublishContext. */
int stage_check_volume(const struct volume_object *volume, const struct stage_wish *wish,
	const char *node, struct err *err) __must_check;

struct stage_voter {
	struct replica_object replica;
	bool has_pool; /* the Pool object was read: what follows is there */
	struct pool_object pool;
};

struct stage_voters {
	unsigned count; /* in order of slots */
	struct stage_voter voters[OBJECTS_VOTERS_MAX];
};

/* The volume's replicas of a list, without those of an earlier volume of the name.  -EINVAL. */
int stage_take_replicas(const struct volume_object *volume, const json_t *items,
	struct stage_voters *ret_voters, struct err *err) __must_check;
/* Where a replica is found.  false: its pool cannot be named, or it was not made. */
bool stage_place(const struct stage_voter *voter, const char *node, struct nexus_voter *ret_voter);
/* -EAGAIN: a replica was not made yet, or too few have a pool that can be named. */
int stage_make_wish(const struct volume_object *volume, const struct stage_voters *voters,
	const char *node, struct nexus_wish *ret_wish, struct err *err) __must_check;

#endif
