/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-node/stage_plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int stage_check_volume(const struct volume_object *volume, const struct stage_wish *wish,
	const char *node, struct err *err)
{
	const char *name = volume->meta.name;

	if (volume->meta.is_deleted) {
		return err_set(err, -EBUSY, "volume %s is being deleted", name);
	}
	if (strcmp(volume->attached_node, node) != 0) {
		return err_set(err, -EBUSY, "volume %s is attached to %s%s, not to this node (%s)",
			name, volume->attached_node[0] != '\0' ? "node " : "no node",
			volume->attached_node, node);
	}
	if (volume->attach_number < wish->attach_min) {
		return err_set(err, -EALREADY,
			"volume %s: attach number %u of the Volume is below %u of the publish "
			"context",
			name, volume->attach_number, wish->attach_min);
	}
	if (uuid_is_nil(&volume->uuid)) {
		return err_set(err, -EAGAIN, "volume %s has no uuid yet", name);
	}
	return 0;
}

/* By slot. */
static void insert(struct stage_voters *voters, const struct replica_object *replica)
{
	unsigned at = voters->count++;

	while (at > 0 && voters->voters[at - 1].replica.slot > replica->slot) {
		voters->voters[at] = voters->voters[at - 1];
		at--;
	}
	voters->voters[at] = (struct stage_voter){.replica = *replica};
}

int stage_take_replicas(const struct volume_object *volume, const json_t *items,
	struct stage_voters *ret_voters, struct err *err)
{
	struct replica_object replica;
	size_t i;
	json_t *item;

	ret_voters->count = 0;
	json_array_foreach(items, i, item)
	{
		int result = replica_object_decode(item, &replica, err);

		if (result < 0) {
			return result;
		}
		if (!uuid_equal(&replica.volume_uuid, &volume->uuid) || replica.meta.is_deleted ||
			strcmp(replica.volume, volume->meta.name) != 0) {
			continue;
		}
		if (ret_voters->count == OBJECTS_VOTERS_MAX) {
			return err_set(err, -EINVAL, "volume %s has more than %d replicas",
				volume->meta.name, OBJECTS_VOTERS_MAX);
		}
		insert(ret_voters, &replica);
	}
	return 0;
}

bool stage_place(const struct stage_voter *voter, const char *node, struct nexus_voter *ret_voter)
{
	const struct replica_object *replica = &voter->replica;

	/* A pool may be gone for good. */
	if (!voter->has_pool || voter->pool.agent[0] == '\0' || voter->pool.address[0] == '\0' ||
		replica->nsid == 0) {
		return false;
	}
	*ret_voter = (struct nexus_voter){.replica = replica->uuid,
		.nsid = replica->nsid,
		.is_local = strcmp(replica->node, node) == 0,
		.is_arbiter = replica->is_arbiter};
	(void)snprintf(ret_voter->agent, sizeof(ret_voter->agent), "%s", voter->pool.agent);
	(void)snprintf(ret_voter->address, sizeof(ret_voter->address), "%s", voter->pool.address);
	return true;
}

int stage_make_wish(const struct volume_object *volume, const struct stage_voters *voters,
	const char *node, struct nexus_wish *ret_wish, struct err *err)
{
	struct nexus_wish *wish = ret_wish;

	*wish = (struct nexus_wish){
		.uuid = volume->uuid,
		.size_bytes = volume->size_bytes,
		.attach = volume->attach_number,
		.min_insync = volume->min_insync,
		.is_used = volume->is_used,
		.lineage = volume->lineage,
		.lineage_attach = volume->lineage_attach,
	};
	if (volume->capability[0] != '\0') {
		wish->has_capability = true;
		if (base64_parse(volume->capability, wish->capability, sizeof(wish->capability)) <
			0) {
			return err_set(err, -EINVAL,
				"volume %s: status.attachment.capability is malformed",
				volume->meta.name);
		}
	}
	(void)snprintf(wish->volume, sizeof(wish->volume), "%.*s", OBJECTS_VOLUME_SIZE - 1,
		volume->meta.name);
	for (unsigned i = 0; i < voters->count; i++) {
		const struct stage_voter *from = &voters->voters[i];

		if (from->replica.nsid == 0 && !volume->is_used) {
			return err_set(err, -EAGAIN, "volume %s: replica %s was not made yet",
				volume->meta.name, from->replica.meta.name);
		}
		wish->voter_count += stage_place(from, node, &wish->voters[wish->voter_count]);
	}
	/* The first opening makes the configuration of those that it is given: of all.  Later ones
	 * are told the places that are known; who has a vote, the replicas say. */
	if (wish->voter_count == 0 ||
		(!volume->is_used && wish->voter_count < voters->count &&
			(volume->attach_number <= 1 || wish->voter_count <= voters->count / 2)) ||
		(volume->attach_number <= 1 && !volume->is_used &&
			voters->count < volume->replicas)) {
		return err_set(err, -EAGAIN,
			"volume %s: of %u replicas only %u are there and have a pool whose "
			"pool-agent was heard of",
			volume->meta.name, volume->replicas, wish->voter_count);
	}
	return 0;
}
