/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicas and arbiters of an open volume come and go.  Each command may be given again after it
 * was broken off: it looks at what is there and goes on.
 */
#include "cli/cli.h"
#include "cli/placement.h"
#include "cli/voter.h"
#include "repl/capability.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define POLL_MS   200
#define POOLS_MAX 1024

struct change {
	struct cli *cli;
	struct daemon *nexus;
	Strake__V1__Volume *volume; /* owned; as it was last seen */
	/* where the new one goes */
	struct daemon *agent; /* NULL: another machine's */
	char pool[256];
	struct voter voter; /* replica "": not made yet */
};

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

static const char *kind_of(const struct change *change)
{
	return change->cli->args.arbiter ? "arbiter" : "data";
}

static const Strake__V1__VolumeReplica *find_replica(
	const Strake__V1__Volume *volume, const char *uuid)
{
	for (size_t i = 0; i < volume->n_replicas; i++) {
		if (strncmp(volume->replicas[i]->uuid, uuid, strlen(uuid)) == 0) {
			return volume->replicas[i];
		}
	}
	return NULL;
}

static const Strake__V1__VolumeReplica *find_on_agent(
	const Strake__V1__Volume *volume, const struct daemon *agent)
{
	for (size_t i = 0; i < volume->n_replicas; i++) {
		if (strcmp(volume->replicas[i]->agent, agent->agent->uuid) == 0) {
			return volume->replicas[i];
		}
	}
	return NULL;
}

/* Takes the answer of a call. */
static int seen(struct change *change, Strake__V1__Volume *volume, const struct err *err)
{
	if (volume == NULL) {
		return cli_fail("%s: %s", change->nexus->name, err->text);
	}
	cli_free(change->volume);
	change->volume = volume;
	return 0;
}

/* ---- where ---- */

static int take_pools(struct change *change, struct daemon *agent,
	const Strake__V1__ListPoolsResponse *list, struct placement_pool *pools, size_t *count)
{
	const struct args *args = &change->cli->args;

	for (size_t i = 0; i < list->n_pools && *count < POOLS_MAX; i++) {
		const Strake__V1__Pool *pool = list->pools[i];

		if (args->agents.count > 0 && strcmp(args->agents.names[0], agent->name) != 0) {
			continue;
		}
		pools[(*count)++] = (struct placement_pool){
			.name = pool->name,
			.agent = agent->agent->uuid,
			.online = strcmp(pool->state, "Online") == 0,
			.capacity_bytes = pool->capacity_bytes,
			.used_bytes = pool->used_bytes,
			.wanted = args->pools.count > 0 &&
				  strcmp(args->pools.names[0], pool->name) == 0,
		};
	}
	return 0;
}

/* An agent with a voter of the volume takes no other one, but for what an earlier call began. */
static int choose(struct change *change, const struct placement_pool *pools, size_t count)
{
	const struct args *args = &change->cli->args;
	struct placement_wish wish = {
		.size_bytes = args->arbiter ? 0 : change->volume->size_bytes,
		.replicas = 1,
		.overcommit = args->overcommit,
		.by_name = args->pools.count > 0,
	};
	struct placement_pool *free_pools = calloc(count + 1, sizeof(*pools));
	size_t *indexes = calloc(count + 1, sizeof(*indexes));
	size_t free_count = 0, chosen;
	struct err err = {0};

	if (free_pools == NULL || indexes == NULL) {
		abort();
	}
	for (size_t i = 0; i < count; i++) {
		struct daemon *agent = cli_find_agent(change->cli, pools[i].agent);

		if (find_on_agent(change->volume, agent) == NULL || wish.by_name) {
			indexes[free_count] = i;
			free_pools[free_count++] = pools[i];
		}
	}
	int result = placement_choose(free_pools, free_count, &wish, &chosen, &err);

	if (result == 0) {
		const struct placement_pool *pool = &pools[indexes[chosen]];

		change->agent = cli_find_agent(change->cli, pool->agent);
		(void)snprintf(change->pool, sizeof(change->pool), "%s", pool->name);
	}
	free(free_pools);
	free(indexes);
	return result < 0 ? cli_fail("volume %s: %s", args->name, err.text) : 0;
}

static int find_place(struct change *change)
{
	Strake__V1__ListPoolsRequest request = STRAKE__V1__LIST_POOLS_REQUEST__INIT;
	Strake__V1__ListPoolsResponse *lists[DAEMONS_MAX];
	struct placement_pool *pools = calloc(POOLS_MAX, sizeof(*pools));
	struct daemon *agent;
	size_t count = 0;
	unsigned list_count = 0;

	if (pools == NULL) {
		abort();
	}
	for (unsigned i = 0; (agent = cli_daemon(change->cli, DAEMON_AGENT, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListPoolsResponse *list =
			cli_call(agent, "ListPools", &request.base, &err);

		if (list != NULL) {
			lists[list_count++] = list;
			(void)take_pools(change, agent, list, pools, &count);
		}
	}
	int result = choose(change, pools, count);

	while (list_count > 0) {
		cli_free(lists[--list_count]);
	}
	free(pools);
	return result;
}

/* ---- add ---- */

/* One that an earlier call made, and that no configuration knows. */
static void find_made(struct change *change)
{
	Strake__V1__ListReplicasRequest request = STRAKE__V1__LIST_REPLICAS_REQUEST__INIT;
	struct err err = {0};

	request.pool = change->pool;
	request.volume_name = change->volume->name;
	Strake__V1__ListReplicasResponse *list =
		cli_call(change->agent, "ListReplicas", &request.base, &err);

	for (size_t i = 0; list != NULL && i < list->n_replicas; i++) {
		const Strake__V1__Replica *replica = list->replicas[i];

		if (strcmp(replica->volume_uuid, change->volume->uuid) == 0 &&
			strcmp(replica->state, "Free") == 0 &&
			strcmp(replica->kind, kind_of(change)) == 0) {
			(void)snprintf(change->voter.replica, sizeof(change->voter.replica), "%s",
				replica->uuid);
			change->voter.nsid = replica->nsid;
		}
	}
	cli_free(list);
}

static bool has_key(struct change *change)
{
	Strake__V1__ListReplicasRequest request = STRAKE__V1__LIST_REPLICAS_REQUEST__INIT;
	struct daemon *agent;
	bool found = false;

	request.volume_name = change->volume->name;
	for (unsigned i = 0; (agent = cli_daemon(change->cli, DAEMON_AGENT, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListReplicasResponse *list =
			cli_call(agent, "ListReplicas", &request.base, &err);

		for (size_t j = 0; list != NULL && j < list->n_replicas; j++) {
			found = found || (list->replicas[j]->key_number != 0 &&
						 strcmp(list->replicas[j]->volume_uuid,
							 change->volume->uuid) == 0);
		}
		cli_free(list);
	}
	return found;
}

static int make_replica(struct change *change)
{
	Strake__V1__CreateReplicaRequest request = STRAKE__V1__CREATE_REPLICA_REQUEST__INIT;
	struct volume_key key;
	struct err err = {0};
	struct uuid uuid;
	struct rng rng;

	find_made(change);
	if (change->voter.replica[0] != '\0') {
		return 0;
	}
	if (getrandom(&rng, sizeof(rng), 0) != sizeof(rng)) {
		return cli_fail("no random numbers");
	}
	uuid_make(&uuid, &rng);
	request.pool = change->pool;
	request.uuid = uuid_to_text(&uuid, change->voter.replica);
	request.volume_name = change->volume->name;
	request.volume_uuid = change->volume->uuid;
	request.size_bytes = change->cli->args.arbiter ? 0 : change->volume->size_bytes;
	request.kind = text_of(kind_of(change));
	int result = cli_volume_key(&change->cli->args, change->volume->uuid, &key);

	if (result != 0) {
		return result;
	}
	if (key.number != 0) {
		request.key_number = key.number;
		request.key = (ProtobufCBinaryData){sizeof(key.secret), key.secret};
	} else if (has_key(change)) {
		return cli_fail("volume %s has a key: give --key-file, or anybody may open the new "
				"replica",
			change->volume->name);
	}
	Strake__V1__Replica *made = cli_call(change->agent, "CreateReplica", &request.base, &err);

	if (made == NULL) {
		return cli_fail("%s: %s", change->agent->name, err.text);
	}
	change->voter.nsid = made->nsid;
	cli_free(made);
	return 0;
}

static void take_agent(struct change *change)
{
	const struct names *locals = &change->cli->args.locals;
	struct voter *voter = &change->voter;

	(void)snprintf(voter->agent, sizeof(voter->agent), "%s", change->agent->agent->uuid);
	(void)snprintf(voter->address, sizeof(voter->address), "%s", change->agent->agent->address);
	voter->local = locals->count == 0 || strcmp(locals->names[0], change->agent->name) == 0;
}

static int ask_to_add(struct change *change)
{
	Strake__V1__AddReplicaRequest request = STRAKE__V1__ADD_REPLICA_REQUEST__INIT;
	Strake__V1__Voter voter = STRAKE__V1__VOTER__INIT;
	struct err err = {0};

	voter.replica = change->voter.replica;
	voter.kind = text_of(kind_of(change));
	voter.agent = change->voter.agent;
	voter.address = change->voter.address;
	voter.nsid = change->voter.nsid;
	voter.local = change->voter.local;
	request.name = change->volume->name;
	request.voter = &voter;
	return seen(change, cli_call(change->nexus, "AddReplica", &request.base, &err), &err);
}

static unsigned limit_ms(const struct cli *cli)
{
	return cli->args.timeout_s != 0 ? cli->args.timeout_s * 1000 : 0;
}

static bool is_added(const struct change *change, bool in_sync)
{
	const Strake__V1__VolumeReplica *replica =
		find_replica(change->volume, change->voter.replica);

	return replica != NULL && strcmp(replica->membership, "Voter") == 0 &&
	       (!in_sync || strcmp(replica->state, "Online") == 0);
}

static int give_up(const struct change *change)
{
	const Strake__V1__VolumeReplica *replica =
		find_replica(change->volume, change->voter.replica);

	return cli_fail("volume %s: replica %s is %s, %s%s%s; the same command goes on with it",
		change->volume->name, change->voter.replica,
		replica != NULL ? replica->membership : "not listed",
		replica != NULL ? replica->state : "",
		replica != NULL && replica->reason[0] != '\0' ? ": " : "",
		replica != NULL ? replica->reason : "");
}

/* Asks again until it is a voter, as a nexus that was restarted has forgotten it; in_sync: and
 * until it has all data. */
static int wait_added(struct change *change, bool in_sync)
{
	unsigned limit = limit_ms(change->cli);

	for (unsigned waited_ms = 0; !is_added(change, in_sync); waited_ms += POLL_MS) {
		if (limit != 0 && waited_ms >= limit) {
			return give_up(change);
		}
		cli_pause_ms(POLL_MS);
		if (ask_to_add(change) != 0) {
			return 1;
		}
	}
	return 0;
}

/* Where the volume has a replica already that is where the new one should be, that is it. */
static int begin_add(struct change *change)
{
	int result = find_place(change);

	if (result != 0) {
		return result;
	}
	const Strake__V1__VolumeReplica *there = find_on_agent(change->volume, change->agent);

	take_agent(change);
	if (there == NULL) {
		result = make_replica(change);
		return result != 0 ? result : ask_to_add(change);
	}
	if (strcmp(there->kind, kind_of(change)) != 0) {
		return cli_fail("volume %s: %s has its replica %s, which is no %s",
			change->volume->name, change->agent->name, there->uuid, kind_of(change));
	}
	(void)snprintf(change->voter.replica, sizeof(change->voter.replica), "%s", there->uuid);
	change->voter.nsid = there->nsid;
	return 0;
}

/* ---- remove ---- */

static int delete_replica(struct change *change, const char *uuid, const char *agent_uuid)
{
	Strake__V1__DeleteReplicaRequest request = STRAKE__V1__DELETE_REPLICA_REQUEST__INIT;
	struct daemon *agent = cli_find_agent(change->cli, agent_uuid);
	struct err err = {0};

	if (agent == NULL) {
		printf("its pool-agent %s does not answer here; on its machine: strake replica "
		       "delete %s\n",
			agent_uuid, uuid);
		return 0;
	}
	request.uuid = text_of(uuid);
	for (unsigned tries = 0; tries < 25; tries++) {
		void *response = cli_call(agent, "DeleteReplica", &request.base, &err);

		if (response != NULL || err.code == -ENOENT) {
			cli_free(response);
			return 0;
		}
		cli_pause_ms(POLL_MS); /* the nexus is just letting it go */
	}
	return cli_fail("%s: %s; try `strake replica delete %s`", agent->name, err.text, uuid);
}

static int remove_and_delete(struct change *change, const Strake__V1__VolumeReplica *replica)
{
	Strake__V1__RemoveReplicaRequest request = STRAKE__V1__REMOVE_REPLICA_REQUEST__INIT;
	unsigned limit = limit_ms(change->cli);
	char uuid[UUID_TEXT_SIZE], agent[UUID_TEXT_SIZE];
	struct err err = {0};

	(void)snprintf(uuid, sizeof(uuid), "%s", replica->uuid);
	(void)snprintf(agent, sizeof(agent), "%s", replica->agent);
	request.name = text_of(change->cli->args.name);
	request.replica = uuid;
	for (unsigned waited_ms = 0;; waited_ms += POLL_MS) {
		if (seen(change, cli_call(change->nexus, "RemoveReplica", &request.base, &err),
			    &err) != 0) {
			return 1;
		}
		replica = find_replica(change->volume, uuid);
		if (replica == NULL) {
			break;
		}
		if (limit != 0 && waited_ms >= limit) {
			return cli_fail(
				"volume %s: replica %s is %s; the same command goes on with "
				"it",
				change->volume->name, uuid, replica->membership);
		}
		cli_pause_ms(POLL_MS);
	}
	return change->cli->args.keep_replicas ? 0 : delete_replica(change, uuid, agent);
}

/* ---- commands ---- */

static int begin(struct change *change, struct cli *cli)
{
	*change = (struct change){.cli = cli};
	change->nexus = cli_find_volume(cli, cli->args.name, &change->volume);
	return change->nexus == NULL;
}

static int end(struct change *change, int result, const char *what, const char *uuid)
{
	if (result == 0 && change->cli->args.output == OUTPUT_JSON) {
		json_print_message(&change->volume->base, stdout);
	} else if (result == 0) {
		printf("volume %s: replica %s %s: %s%s%s\n", change->volume->name, uuid, what,
			change->volume->state, change->volume->reason[0] != '\0' ? ": " : "",
			change->volume->reason);
	}
	cli_free(change->volume);
	return result;
}

/* A replica that is there already, here or on another machine; or where a voter is found that
 * nobody told yet. */
static int begin_add_voter(struct change *change)
{
	struct args *args = &change->cli->args;
	struct err err = {0};

	if (args->voters.count > 1 || args->pools.count > 0 || args->agents.count > 0) {
		(void)cli_fail(
			"--voter: one, and it says where: --pool and --agent cannot go with it");
		return EXIT_USAGE;
	}
	if (voter_parse(args->voters.names[0], &change->voter, &err) < 0) {
		(void)cli_fail("--voter %s: %s", args->voters.names[0], err.text);
		return EXIT_USAGE;
	}
	args->arbiter = args->arbiter || change->voter.arbiter;
	return ask_to_add(change);
}

int volume_add_replica(struct cli *cli)
{
	struct change change;

	if (begin(&change, cli) != 0) {
		return 1;
	}
	int result = cli->args.voters.count > 0 ? begin_add_voter(&change) : begin_add(&change);

	result = result != 0 ? result : wait_added(&change, cli->args.wait);
	return end(&change, result, "added", change.voter.replica);
}

/* NULL after an error text, or (ret_gone) when there is none such any more. */
static const Strake__V1__VolumeReplica *named_replica(struct change *change, bool *ret_gone)
{
	const char *name = change->cli->args.second;
	const Strake__V1__VolumeReplica *replica = find_replica(change->volume, name);
	unsigned count = 0;

	for (size_t i = 0; i < change->volume->n_replicas; i++) {
		count += strncmp(change->volume->replicas[i]->uuid, name, strlen(name)) == 0;
	}
	*ret_gone = count == 0;
	if (count > 1) {
		(void)cli_fail("several replicas begin with \"%s\"; give more of the uuid", name);
		return NULL;
	}
	return replica;
}

int volume_remove_replica(struct cli *cli)
{
	struct change change;
	bool gone;

	if (begin(&change, cli) != 0) {
		return 1;
	}
	const Strake__V1__VolumeReplica *replica = named_replica(&change, &gone);
	char uuid[UUID_TEXT_SIZE] = "";
	int result = replica != NULL ? 0
		     : gone          ? cli_fail("volume %s has no replica \"%s\"; `strake volume "
							 "status %s` shows all",
					       cli->args.name, cli->args.second, cli->args.name)
				     : 1;

	if (result == 0) {
		(void)snprintf(uuid, sizeof(uuid), "%s", replica->uuid);
		result = remove_and_delete(&change, replica);
	}
	return end(&change, result, "removed", uuid);
}

/* Never below as many copies as there are: the new one is in sync before the old one goes. */
int volume_move_replica(struct cli *cli)
{
	struct change change;
	bool gone;

	if (cli->args.pools.count == 0 && cli->args.agents.count == 0) {
		(void)cli_fail("volume move-replica needs --pool or --agent: where it goes");
		return EXIT_USAGE;
	}
	if (begin(&change, cli) != 0) {
		return 1;
	}
	const Strake__V1__VolumeReplica *replica = named_replica(&change, &gone);

	if (replica == NULL && !gone) {
		return end(&change, 1, "", "");
	}
	if (replica != NULL) {
		cli->args.arbiter = strcmp(replica->kind, "arbiter") == 0;
	}
	int result = begin_add(&change);

	if (result == 0 && replica != NULL &&
		find_replica(change.volume, cli->args.second) != NULL &&
		strcmp(change.voter.replica, find_replica(change.volume, cli->args.second)->uuid) ==
			0) {
		result = cli_fail("volume %s: replica %s is there already", cli->args.name,
			change.voter.replica);
	}
	result = result != 0 ? result : wait_added(&change, true);
	replica = find_replica(change.volume, cli->args.second);
	if (result == 0 && replica != NULL) {
		result = remove_and_delete(&change, replica);
	}
	return end(&change, result, "moved here", change.voter.replica);
}
