/* SPDX-License-Identifier: Apache-2.0 */
/* Making a volume: replicas on the agents, then the volume on the nexus; what was made is taken
 * back when a step fails. */
#include "base/size.h"
#include "cli/cli.h"
#include "cli/placement.h"
#include "cli/voter.h"
#include "repl/capability.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define VOTERS_MAX 7
#define POOLS_MAX  1024

struct creation {
	struct cli *cli;
	struct daemon *nexus;
	unsigned pool_count;
	struct placement_pool pools[POOLS_MAX];
	struct daemon *agents[POOLS_MAX];                  /* of each pool */
	Strake__V1__ListPoolsResponse *lists[DAEMONS_MAX]; /* owned */
	unsigned list_count;
	struct rng rng;
	char volume_uuid[UUID_TEXT_SIZE];
	struct volume_key key; /* number 0: none */
	bool arbiter;
	unsigned voter_count;
	size_t chosen[VOTERS_MAX];
	Strake__V1__Replica *replicas[VOTERS_MAX]; /* owned; made so far */
	unsigned made;
};

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

static bool is_named(const struct names *names, const char *name)
{
	for (unsigned i = 0; i < names->count; i++) {
		if (strcmp(names->names[i], name) == 0) {
			return true;
		}
	}
	return false;
}

/* ---- what there is ---- */

static bool is_agent(struct cli *cli, const char *name)
{
	struct daemon *agent;

	for (unsigned i = 0; (agent = cli_daemon(cli, DAEMON_AGENT, i)) != NULL; i++) {
		if (strcmp(agent->name, name) == 0) {
			return true;
		}
	}
	return false;
}

static int check_agents(struct cli *cli, const char *option, const struct names *names)
{
	for (unsigned i = 0; i < names->count; i++) {
		if (!is_agent(cli, names->names[i])) {
			return cli_fail(
				"%s: no pool-agent \"%s\" answers; `strake daemon list` shows "
				"who does",
				option, names->names[i]);
		}
	}
	return 0;
}

static void add_pool(struct creation *creation, struct daemon *agent, const Strake__V1__Pool *pool)
{
	const struct args *args = &creation->cli->args;

	if (creation->pool_count == POOLS_MAX ||
		(args->agents.count > 0 && !is_named(&args->agents, agent->name))) {
		return;
	}
	creation->agents[creation->pool_count] = agent;
	creation->pools[creation->pool_count++] = (struct placement_pool){
		.name = pool->name,
		.agent = agent->agent->uuid,
		.online = strcmp(pool->state, "Online") == 0,
		.capacity_bytes = pool->capacity_bytes,
		.used_bytes = pool->used_bytes,
		.wanted = is_named(&args->pools, pool->name) || is_named(&args->pools, pool->uuid),
	};
}

static int look_for_pools(struct creation *creation)
{
	Strake__V1__ListPoolsRequest request = STRAKE__V1__LIST_POOLS_REQUEST__INIT;
	const struct names *wanted = &creation->cli->args.pools;
	struct daemon *agent;

	for (unsigned i = 0; (agent = cli_daemon(creation->cli, DAEMON_AGENT, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListPoolsResponse *list =
			cli_call(agent, "ListPools", &request.base, &err);

		if (list == NULL) {
			(void)cli_fail("%s: %s", agent->name, err.text);
			continue;
		}
		creation->lists[creation->list_count++] = list;
		for (size_t j = 0; j < list->n_pools; j++) {
			add_pool(creation, agent, list->pools[j]);
		}
	}
	if (check_agents(creation->cli, "--local", &creation->cli->args.locals) != 0 ||
		check_agents(creation->cli, "--agent", &creation->cli->args.agents) != 0) {
		return 1;
	}
	for (unsigned i = 0; i < wanted->count; i++) {
		bool found = false;

		for (unsigned j = 0; j < creation->pool_count; j++) {
			found = found ||
				(creation->pools[j].wanted &&
					strcmp(creation->pools[j].name, wanted->names[i]) == 0);
		}
		if (!found) {
			return cli_fail(
				"no pool \"%s\"; `strake pool list` shows all", wanted->names[i]);
		}
	}
	return 0;
}

static int place(struct creation *creation)
{
	const struct args *args = &creation->cli->args;
	struct placement_wish wish = {
		.size_bytes = args->size_bytes,
		.replicas = args->replicas,
		.overcommit = args->overcommit,
		.by_name = args->pools.count > 0,
	};
	struct err err = {0};

	/* An even number of voters stalls as soon as one of them is lost: the arbiter makes it odd.
	 */
	wish.arbiter = args->replicas % 2 == 0;
	int result = placement_choose(
		creation->pools, creation->pool_count, &wish, creation->chosen, &err);

	if (result < 0 && wish.arbiter) {
		wish.arbiter = false;
		result = placement_choose(
			creation->pools, creation->pool_count, &wish, creation->chosen, &err);
		if (result == 0) {
			(void)fprintf(stderr,
				"strake: volume %s gets no arbiter: there is no pool-agent for "
				"one; "
				"it stalls when one of its replicas is lost (later: strake volume "
				"add-replica %s --arbiter)\n",
				args->name, args->name);
		}
	}
	if (result < 0) {
		return cli_fail("volume %s: %s", args->name, err.text);
	}
	creation->arbiter = wish.arbiter;
	creation->voter_count = wish.replicas + wish.arbiter;
	return 0;
}

/* ---- replicas ---- */

static int make_replica(struct creation *creation, unsigned index)
{
	Strake__V1__CreateReplicaRequest request = STRAKE__V1__CREATE_REPLICA_REQUEST__INIT;
	bool is_arbiter = creation->arbiter && index == creation->voter_count - 1;
	size_t at = creation->chosen[index];
	char text[UUID_TEXT_SIZE];
	struct err err = {0};
	struct uuid uuid;

	uuid_make(&uuid, &creation->rng);
	request.pool = text_of(creation->pools[at].name);
	request.uuid = uuid_to_text(&uuid, text);
	request.volume_name = text_of(creation->cli->args.name);
	request.volume_uuid = creation->volume_uuid;
	request.size_bytes = is_arbiter ? 0 : creation->cli->args.size_bytes;
	request.kind = text_of(is_arbiter ? "arbiter" : "data");
	if (creation->key.number != 0) {
		request.key_number = creation->key.number;
		request.key =
			(ProtobufCBinaryData){sizeof(creation->key.secret), creation->key.secret};
	}
	creation->replicas[index] =
		cli_call(creation->agents[at], "CreateReplica", &request.base, &err);
	if (creation->replicas[index] == NULL) {
		return cli_fail("volume %s: replica in pool %s of %s: %s", creation->cli->args.name,
			creation->pools[at].name, creation->agents[at]->name, err.text);
	}
	creation->made++;
	return 0;
}

static void take_back(struct creation *creation)
{
	for (unsigned i = 0; i < creation->made; i++) {
		Strake__V1__DeleteReplicaRequest request = STRAKE__V1__DELETE_REPLICA_REQUEST__INIT;
		struct daemon *agent = creation->agents[creation->chosen[i]];
		struct err err = {0};

		request.uuid = creation->replicas[i]->uuid;
		void *response = cli_call(agent, "DeleteReplica", &request.base, &err);

		if (response == NULL) {
			(void)cli_fail("the replica %s that was made on %s could not be taken "
				       "back: %s; try "
				       "`strake replica delete %s`",
				request.uuid, agent->name, err.text, request.uuid);
		}
		cli_free(response);
	}
}

/* ---- the volume ---- */

static Strake__V1__Volume *make_volume(struct creation *creation, struct err *err)
{
	Strake__V1__CreateVolumeRequest request = STRAKE__V1__CREATE_VOLUME_REQUEST__INIT;
	Strake__V1__Voter voters[VOTERS_MAX];
	Strake__V1__Voter *pointers[VOTERS_MAX];
	const struct names *locals = &creation->cli->args.locals;

	for (unsigned i = 0; i < creation->voter_count; i++) {
		const struct daemon *agent = creation->agents[creation->chosen[i]];

		strake__v1__voter__init(&voters[i]);
		voters[i].replica = creation->replicas[i]->uuid;
		voters[i].kind = creation->replicas[i]->kind;
		voters[i].agent = agent->agent->uuid;
		voters[i].address = agent->agent->address;
		voters[i].nsid = creation->replicas[i]->nsid;
		/* Its socket is on this machine, so it is unless the user says otherwise. */
		voters[i].local = locals->count == 0 || is_named(locals, agent->name);
		pointers[i] = &voters[i];
	}
	request.name = text_of(creation->cli->args.name);
	request.uuid = creation->volume_uuid;
	request.size_bytes = creation->cli->args.size_bytes;
	request.min_insync = creation->cli->args.min_insync;
	request.no_quorum_s = creation->cli->args.no_quorum_s;
	request.voters = pointers;
	request.n_voters = creation->voter_count;
	return cli_call(creation->nexus, "CreateVolume", &request.base, err);
}

static void print_created(const struct creation *creation, const Strake__V1__Volume *volume)
{
	char size[SIZE_TEXT_SIZE];

	printf("volume %s of %s on %s, replicas on", volume->name,
		size_to_text(volume->size_bytes, size), creation->nexus->name);
	for (unsigned i = 0; i < creation->voter_count; i++) {
		printf("%s %s", i > 0 ? "," : "", creation->agents[creation->chosen[i]]->name);
	}
	printf("%s\nnext: strake volume open %s --wait", creation->arbiter ? " (arbiter)" : "",
		volume->name);
	if (creation->key.number != 0) {
		printf(" --key-file %s", creation->cli->args.key_file);
	}
	printf("\n");
}

static int create(struct creation *creation)
{
	struct err err = {0};
	int result = look_for_pools(creation);

	result = result != 0 ? result : place(creation);
	for (unsigned i = 0; result == 0 && i < creation->voter_count; i++) {
		result = make_replica(creation, i);
	}
	if (result != 0) {
		take_back(creation);
		return result;
	}
	Strake__V1__Volume *volume = make_volume(creation, &err);

	if (volume == NULL) {
		take_back(creation);
		return cli_fail("%s: volume %s: %s", creation->nexus->name,
			creation->cli->args.name, err.text);
	}
	if (creation->cli->args.output == OUTPUT_JSON) {
		json_print_message(&volume->base, stdout);
	} else {
		print_created(creation, volume);
	}
	cli_free(volume);
	return 0;
}

/* ---- of replicas that are there already ---- */

static int create_of_voters(struct creation *creation)
{
	Strake__V1__CreateVolumeRequest request = STRAKE__V1__CREATE_VOLUME_REQUEST__INIT;
	const struct args *args = &creation->cli->args;
	struct voter voters[VOTERS_MAX];
	Strake__V1__Voter messages[VOTERS_MAX];
	Strake__V1__Voter *pointers[VOTERS_MAX];
	struct err err = {0};

	for (unsigned i = 0; i < args->voters.count; i++) {
		if (voter_parse(args->voters.names[i], &voters[i], &err) < 0) {
			(void)cli_fail("--voter %s: %s", args->voters.names[i], err.text);
			return EXIT_USAGE;
		}
		strake__v1__voter__init(&messages[i]);
		messages[i].replica = voters[i].replica;
		messages[i].kind = text_of(voters[i].arbiter ? "arbiter" : "data");
		messages[i].agent = voters[i].agent;
		messages[i].address = voters[i].address;
		messages[i].nsid = voters[i].nsid;
		messages[i].local = voters[i].local;
		pointers[i] = &messages[i];
	}
	request.name = text_of(args->name);
	request.uuid = creation->volume_uuid;
	request.size_bytes = args->size_bytes;
	request.min_insync = args->min_insync;
	request.no_quorum_s = args->no_quorum_s;
	request.voters = pointers;
	request.n_voters = args->voters.count;
	Strake__V1__Volume *volume = cli_call(creation->nexus, "CreateVolume", &request.base, &err);

	if (volume == NULL) {
		return cli_fail("%s: volume %s: %s", creation->nexus->name, args->name, err.text);
	}
	if (args->output == OUTPUT_JSON) {
		json_print_message(&volume->base, stdout);
	} else {
		printf("volume %s on %s, of %u voters\nnext: strake volume open %s --wait\n",
			volume->name, creation->nexus->name, args->voters.count, volume->name);
	}
	cli_free(volume);
	return 0;
}

/* ---- arguments ---- */

static int check_voters(const struct args *args)
{
	if (args->voters.count > VOTERS_MAX) {
		return cli_fail("volume %s: at most %d voters", args->name, VOTERS_MAX);
	}
	if (!args->has_uuid) {
		(void)cli_fail("--voter needs --uuid: the volume's, which its replicas were "
			       "created with");
		return EXIT_USAGE;
	}
	if (args->replicas != 0 || args->pools.count > 0 || args->agents.count > 0 ||
		args->locals.count > 0 || args->overcommit || args->key_file != NULL) {
		(void)cli_fail("--voter says which replicas the volume has: --replicas, --pool, "
			       "--agent, --local, --overcommit and --key-file cannot go with it");
		return EXIT_USAGE;
	}
	return 0;
}

static int check_args(struct args *args)
{
	if (!args->has_size) {
		(void)cli_fail("volume create needs --size, like --size 1G");
		return EXIT_USAGE;
	}
	if (args->size_bytes == 0 || args->size_bytes % 4096 != 0 || args->size_bytes > 64 * TIB) {
		return cli_fail("volume %s: the size must be a multiple of 4096, more than 0 and "
				"at most 64T",
			args->name);
	}
	if (args->voters.count > 0) {
		return check_voters(args);
	}
	args->replicas = args->replicas == 0 ? 3 : args->replicas;
	if (args->replicas + (args->replicas % 2 == 0) > VOTERS_MAX) {
		return cli_fail("volume %s: at most %d replicas", args->name, VOTERS_MAX);
	}
	if (args->min_insync > args->replicas) {
		return cli_fail("volume %s: --min-insync %u is more than the %u replicas",
			args->name, args->min_insync, args->replicas);
	}
	return 0;
}

int volume_create(struct cli *cli)
{
	int result = check_args(&cli->args);
	struct uuid uuid;

	if (result != 0) {
		return result;
	}
	struct daemon *nexus = cli_choose_nexus(cli);
	struct creation *creation = nexus == NULL ? NULL : calloc(1, sizeof(*creation));

	if (creation == NULL ||
		getrandom(&creation->rng, sizeof(creation->rng), 0) != sizeof(creation->rng)) {
		free(creation);
		return 1;
	}
	creation->cli = cli;
	creation->nexus = nexus;
	uuid_make(&uuid, &creation->rng);
	(void)uuid_to_text(cli->args.has_uuid ? &cli->args.uuid : &uuid, creation->volume_uuid);
	result = cli_volume_key(&cli->args, creation->volume_uuid, &creation->key);
	if (result == 0) {
		result = cli->args.voters.count > 0 ? create_of_voters(creation) : create(creation);
	}
	for (unsigned i = 0; i < creation->made; i++) {
		cli_free(creation->replicas[i]);
	}
	for (unsigned i = 0; i < creation->list_count; i++) {
		cli_free(creation->lists[i]);
	}
	free(creation);
	return result;
}
