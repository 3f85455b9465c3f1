/* SPDX-License-Identifier: Apache-2.0 */
/* One change of the voters, or of a policy, of a volume that is open on this node. */
#include "csi-node/node.h"
#include "csi-node/stage_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct change {
	struct node *node;
	char key[OBJECTS_NAME_SIZE];
	struct op op;
	struct volume_object volume;
	enum volume_action action;
	struct uuid replica;
	bool is_known;
	struct stage_voters voters;
	struct stage_voter *added;
	struct kube_request request;
	char selector[OBJECTS_VOLUME_SIZE + 16];
	struct work work;
	/* the thread's */
	char socket[DAEMON_SOCKET_SIZE];
	struct nexus_voter voter;
	int result;
	struct err err;
};

static void change_over(struct change *change, bool is_well)
{
	struct node *node = change->node;

	op_end(node, &change->op);
	kube_queue_done(node->queues[QUEUE_VOLUMES], change->key,
		is_well ? KUBE_QUEUE_OK : KUBE_QUEUE_AGAIN);
	free(change);
}

/* ---- the nexus ---- */

static void change_run(struct work *work)
{
	struct change *change = container_of(work, struct change, work);

	switch (change->action) {
	case VOLUME_ADD_VOTER:
		change->result =
			nexus_add_voter(change->socket, change->key, &change->voter, &change->err);
		return;
	case VOLUME_REMOVE_VOTER:
		change->result = nexus_remove_voter(
			change->socket, change->key, &change->replica, &change->err);
		return;
	case VOLUME_SET_POLICY:
		change->result = nexus_set_min_insync(
			change->socket, change->key, change->volume.min_insync, &change->err);
		return;
	case VOLUME_RESIZE:
		change->result = nexus_resize(
			change->socket, change->key, change->volume.size_bytes, &change->err);
		return;
	case VOLUME_NOTHING:
	case VOLUME_WRITE_NEXUS:
	case VOLUME_REMOVE_NEXUS:
	case VOLUME_LOST:
		break;
	}
}

static void change_done(struct work *work)
{
	struct change *change = container_of(work, struct change, work);
	struct node *node = change->node;
	char uuid[UUID_TEXT_SIZE];

	note_attempt(node, QUEUE_VOLUMES, change->key, change->result < 0 ? &change->err : NULL);
	uuid_to_text(&change->replica, uuid);
	if (change->result < 0) {
		log_warning(node->log, "node", "voters-not-changed",
			"volume=%s replica=%s error=%s", change->key, uuid, change->err.text);
	} else {
		log_info(node->log, "node", "voters-change", "volume=%s replica=%s change=%s",
			change->key, uuid,
			change->action == VOLUME_ADD_VOTER      ? "add"
			: change->action == VOLUME_REMOVE_VOTER ? "remove"
								: "policy");
	}
	view_nexus_soon(node);
	change_over(change, true);
}

static void ask_nexus(struct change *change)
{
	(void)snprintf(
		change->socket, sizeof(change->socket), "%s", change->node->options.nexus_socket);
	change->work.run = change_run;
	change->work.done = change_done;
	workers_submit(change->node->daemon_workers, &change->work);
}

/* ---- the API's own word of the replica ---- */

static void pool_read(struct kube_request *request)
{
	struct change *change = container_of(request, struct change, request);
	struct stage_voter *added = change->added;

	if (request->result < 0 ||
		pool_object_decode(request->response, &added->pool, &change->err) < 0) {
		change_over(change, request->result == -ENOENT);
		return;
	}
	added->has_pool = true;
	if (!stage_place(added, change->node->options.name, &change->voter)) {
		/* The next word of it, or of its pool, changes the Volume's status. */
		change_over(change, true);
		return;
	}
	ask_nexus(change);
}

static void read_pool(struct change *change)
{
	change->request = (struct kube_request){
		.verb = KUBE_GET,
		.kind = &objects_pools,
		.name = change->added->replica.pool,
		.done = pool_read,
	};
	kube_send(change->node->kube, &change->request);
}

static void replicas_read(struct kube_request *request)
{
	struct change *change = container_of(request, struct change, request);
	struct stage_voter *found = NULL;

	if (request->result < 0 ||
		stage_take_replicas(&change->volume, kube_at(request->response, "items"),
			&change->voters, &change->err) < 0) {
		change_over(change, false);
		return;
	}
	for (unsigned i = 0; i < change->voters.count; i++) {
		struct stage_voter *voter = &change->voters.voters[i];

		found = uuid_equal(&voter->replica.uuid, &change->replica) ? voter : found;
	}
	if (change->action == VOLUME_ADD_VOTER) {
		change->added = found;
		if (found == NULL || found->replica.nsid == 0) {
			change_over(change, true);
			return;
		}
		read_pool(change);
	} else if (found != NULL && !change->is_known) {
		/* The Volume's status is only behind. */
		change_over(change, true);
	} else {
		ask_nexus(change);
	}
}

void act_on_voters(struct node *node, const char *key, const struct volume_object *volume,
	const struct volume_plan *plan)
{
	struct change *change = must_alloc(sizeof(*change));
	struct err err;

	change->node = node;
	(void)snprintf(change->key, sizeof(change->key), "%s", key);
	change->volume = *volume;
	change->volume.pool_selector = NULL; /* borrowed from the object */
	change->action = plan->action;
	change->replica = plan->replica;
	change->is_known = plan->is_known;
	if (op_begin(node, &change->op, key, "changing its replicas", &err) < 0) {
		free(change);
		kube_queue_done(node->queues[QUEUE_VOLUMES], key, KUBE_QUEUE_OK);
		return;
	}
	if (plan->action == VOLUME_SET_POLICY || plan->action == VOLUME_RESIZE) {
		ask_nexus(change);
		return;
	}
	(void)snprintf(
		change->selector, sizeof(change->selector), "spec.volume=%.63s", change->key);
	change->request = (struct kube_request){
		.verb = KUBE_LIST,
		.kind = &objects_replicas,
		.field_selector = change->selector,
		.done = replicas_read,
	};
	kube_send(node->kube, &change->request);
}
