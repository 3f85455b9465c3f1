/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "cli/cli.h"
#include "cli/survey.h"
#include "cli/voter.h"
#include "repl/capability.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct replicas {
	unsigned count;
	Strake__V1__ListReplicasResponse *lists[DAEMONS_MAX]; /* owned */
	struct daemon *agents[DAEMONS_MAX];
};

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)(text != NULL ? text : "");
}

static int ask_replicas(struct cli *cli, struct replicas *replicas)
{
	Strake__V1__ListReplicasRequest request = STRAKE__V1__LIST_REPLICAS_REQUEST__INIT;
	struct daemon *agent;
	unsigned without_pool = 0;
	int result = 0;

	replicas->count = 0;
	if (cli_discover(cli) < 0) {
		return 1;
	}
	request.pool = text_of(cli->args.pools.count > 0 ? cli->args.pools.names[0] : NULL);
	request.volume_name = text_of(cli->args.volume);
	for (unsigned i = 0; (agent = cli_daemon(cli, DAEMON_AGENT, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListReplicasResponse *list =
			cli_call(agent, "ListReplicas", &request.base, &err);

		if (list != NULL) {
			replicas->agents[replicas->count] = agent;
			replicas->lists[replicas->count++] = list;
		} else if (err.code == -ENOENT) {
			/* The pool may be another agent's. */
			without_pool++;
		} else {
			result = cli_fail("%s: %s", agent->name, err.text);
		}
	}
	if (without_pool > 0 && replicas->count == 0 && result == 0) {
		result = cli_fail("no pool \"%s\"; `strake pool list` shows all", request.pool);
	}
	return result;
}

static void free_replicas(struct replicas *replicas)
{
	for (unsigned i = 0; i < replicas->count; i++) {
		cli_free(replicas->lists[i]);
	}
}

/* By the whole uuid or its beginning.  How many fit; the last of them is stored. */
static unsigned find(const struct replicas *replicas, const char *uuid,
	const Strake__V1__Replica **ret_replica, struct daemon **ret_agent)
{
	unsigned count = 0;

	for (unsigned i = 0; i < replicas->count; i++) {
		for (size_t j = 0; j < replicas->lists[i]->n_replicas; j++) {
			const Strake__V1__Replica *replica = replicas->lists[i]->replicas[j];

			if (strncmp(replica->uuid, uuid, strlen(uuid)) == 0) {
				*ret_replica = replica;
				*ret_agent = replicas->agents[i];
				count++;
			}
		}
	}
	return count;
}

/* Fills `replicas`; NULL after an error text. */
static const Strake__V1__Replica *choose(
	struct cli *cli, struct replicas *replicas, struct daemon **ret_agent)
{
	const Strake__V1__Replica *replica = NULL;
	int result = ask_replicas(cli, replicas);
	unsigned count = find(replicas, cli->args.name, &replica, ret_agent);

	if (count == 1) {
		return replica;
	}
	if (count > 1) {
		(void)cli_fail("several replicas begin with \"%s\"; give more of the uuid",
			cli->args.name);
	} else if (result == 0) {
		(void)cli_fail(
			"no replica \"%s\"; `strake replica list` shows all", cli->args.name);
	}
	return NULL;
}

/* ---- list and show ---- */

/* Of all that were found of its volume. */
static bool is_left_behind(const struct replicas *replicas, const Strake__V1__Replica *replica)
{
	const Strake__V1__Replica *same[SURVEY_MAX];
	struct survey survey = {.replicas = same};

	for (unsigned i = 0; i < replicas->count; i++) {
		for (size_t j = 0; j < replicas->lists[i]->n_replicas; j++) {
			const Strake__V1__Replica *other = replicas->lists[i]->replicas[j];

			if (survey.count < SURVEY_MAX &&
				strcmp(other->volume_uuid, replica->volume_uuid) == 0) {
				same[survey.count++] = other;
			}
		}
	}
	return survey_is_left_behind(&survey, replica);
}

static void add_row(struct table *table, const struct replicas *replicas,
	const Strake__V1__Replica *replica, const struct daemon *agent, bool wide)
{
	char size[32], used[32];

	table_cell(table, wide ? "%s" : "%.8s", replica->uuid);
	table_cell(table, "%s", text_cell(replica->volume_name));
	table_cell(table, "%s", agent->name);
	table_cell(table, "%s", replica->pool);
	table_cell(table, "%s", replica->kind);
	table_cell(table, "%s", is_left_behind(replicas, replica) ? "LeftBehind" : replica->state);
	table_cell(table, "%s", size_cell(replica->size_bytes, size));
	table_cell(table, "%s", size_cell(replica->used_bytes, used));
	if (wide) {
		table_cell(table, "%u", replica->nsid);
		table_cell(table, "%llu", (unsigned long long)replica->clean);
		table_cell(table, "%s", text_cell(replica->token));
		table_cell(table, "%s", text_cell(replica->host));
		table_cell(table, "%s", text_cell(replica->cfg));
	}
	table_cell(table, "%s", text_cell(replica->export_nqn));
}

int replica_list(struct cli *cli)
{
	static const char *const wide_headers[] = {"UUID", "VOLUME", "AGENT", "POOL", "KIND",
		"STATE", "SIZE", "USED", "NSID", "CLEAN", "TOKEN", "HOST", "CONFIGURATION",
		"EXPORT"};
	static const char *const headers[] = {
		"UUID", "VOLUME", "AGENT", "POOL", "KIND", "STATE", "SIZE", "USED", "EXPORT"};
	bool wide = cli->args.output == OUTPUT_WIDE;
	bool json = cli->args.output == OUTPUT_JSON;
	struct replicas replicas;
	int result = ask_replicas(cli, &replicas);

	if (replicas.count == 0 && result != 0) {
		return result;
	}
	struct table *table = wide ? table_new(ARRAY_COUNT(wide_headers), wide_headers)
				   : table_new(ARRAY_COUNT(headers), headers);
	const ProtobufCMessage **messages = NULL;
	size_t count = 0;

	for (unsigned i = 0; i < replicas.count; i++) {
		size_t more = replicas.lists[i]->n_replicas;
		const ProtobufCMessage **longer =
			realloc(messages, (count + more + 1) * sizeof(*messages));

		if (longer == NULL) {
			abort();
		}
		messages = longer;
		for (size_t j = 0; j < more; j++) {
			messages[count++] = &replicas.lists[i]->replicas[j]->base;
			add_row(table, &replicas, replicas.lists[i]->replicas[j],
				replicas.agents[i], wide);
		}
	}
	if (json) {
		json_print_messages(messages, count, stdout);
	} else {
		table_print(table, stdout);
	}
	table_free(table);
	free(messages);
	free_replicas(&replicas);
	return result;
}

static void print_line(const char *name, const char *value)
{
	printf("%-14s %s\n", name, text_cell(value));
}

int replica_show(struct cli *cli)
{
	struct replicas replicas;
	struct daemon *agent = NULL;
	const Strake__V1__Replica *replica = choose(cli, &replicas, &agent);
	char text[32];

	if (replica == NULL) {
		free_replicas(&replicas);
		return 1;
	}
	if (cli->args.output == OUTPUT_JSON) {
		json_print_message(&replica->base, stdout);
	} else {
		print_line("uuid", replica->uuid);
		print_line("volume", replica->volume_name);
		print_line("volume uuid", replica->volume_uuid);
		print_line("agent", agent->name);
		print_line("pool", replica->pool);
		print_line("address", replica->address);
		printf("%-14s %u\n", "nsid", replica->nsid);
		print_line("kind", replica->kind);
		print_line("state", replica->state);
		if (strcmp(replica->state, "Newer") == 0) {
			print_line("reason", "its metadata are newer than its pool-agent: upgrade "
					     "the pool-agent");
		}
		print_line("size", size_cell(replica->size_bytes, text));
		print_line("used", size_cell(replica->used_bytes, text));
		print_line("configuration", replica->cfg);
		if (replica->configuration != NULL && replica->configuration->generation != 0) {
			printf("%-14s %016" PRIx64 "\n", "lineage",
				replica->configuration->lineage);
		}
		printf("%-14s %llu\n", "clean", (unsigned long long)replica->clean);
		print_line("host", replica->host);
		print_line("token", replica->token);
		printf("%-14s %llu\n", "refused", (unsigned long long)replica->refused);
		printf("%-14s %u\n", "key", replica->key_number);
		print_line("export", replica->export_nqn);
	}
	free_replicas(&replicas);
	return 0;
}

/* ---- changes ---- */

static int check_create(const struct args *args)
{
	if (args->pools.count != 1 || (!args->has_size && !args->arbiter)) {
		(void)cli_fail("replica create needs --pool NAME and --size 1G");
		return EXIT_USAGE;
	}
	if (args->arbiter && args->has_size) {
		(void)cli_fail("--arbiter: it has no data, so leave --size out");
		return EXIT_USAGE;
	}
	return 0;
}

static void print_made(
	const struct args *args, const struct daemon *agent, const Strake__V1__Replica *replica)
{
	struct voter voter = {.nsid = replica->nsid, .arbiter = args->arbiter};
	char text[VOTER_TEXT_SIZE];

	if (args->output == OUTPUT_JSON) {
		json_print_message(&replica->base, stdout);
		return;
	}
	printf("replica %s in pool %s of %s\n", replica->uuid, replica->pool, agent->name);
	if (args->has_uuid) {
		(void)snprintf(voter.replica, sizeof(voter.replica), "%s", replica->uuid);
		(void)snprintf(voter.agent, sizeof(voter.agent), "%s", agent->agent->uuid);
		(void)snprintf(voter.address, sizeof(voter.address), "%s", agent->agent->address);
		printf("--voter %s\n", voter_to_text(&voter, text));
	}
}

int replica_create(struct cli *cli)
{
	Strake__V1__CreateReplicaRequest request = STRAKE__V1__CREATE_REPLICA_REQUEST__INIT;
	const struct args *args = &cli->args;
	struct err err = {0};
	struct uuid replica, volume;
	struct rng rng;
	struct volume_key key;
	char replica_text[UUID_TEXT_SIZE], volume_text[UUID_TEXT_SIZE];
	int result = check_create(args);

	if (result != 0) {
		return result;
	}
	struct daemon *agent = cli_choose_agent(cli);

	if (agent == NULL || getrandom(&rng, sizeof(rng), 0) != sizeof(rng)) {
		return 1;
	}
	uuid_make(&replica, &rng);
	uuid_make(&volume, &rng);
	request.pool = text_of(args->pools.names[0]);
	request.uuid = uuid_to_text(&replica, replica_text);
	request.volume_name = text_of(args->name);
	request.volume_uuid = uuid_to_text(args->has_uuid ? &args->uuid : &volume, volume_text);
	request.size_bytes = args->size_bytes;
	request.kind = text_of(args->arbiter ? "arbiter" : "data");
	result = cli_volume_key(args, volume_text, &key);
	if (result != 0) {
		return result;
	}
	if (key.number != 0) {
		request.key_number = key.number;
		request.key = (ProtobufCBinaryData){sizeof(key.secret), key.secret};
	}
	Strake__V1__Replica *made = cli_call(agent, "CreateReplica", &request.base, &err);

	if (made == NULL) {
		return cli_fail("%s: %s", agent->name, err.text);
	}
	print_made(args, agent, made);
	cli_free(made);
	return 0;
}

int replica_delete(struct cli *cli)
{
	Strake__V1__DeleteReplicaRequest request = STRAKE__V1__DELETE_REPLICA_REQUEST__INIT;
	struct replicas replicas;
	struct daemon *agent = NULL;
	struct err err = {0};
	const Strake__V1__Replica *replica = choose(cli, &replicas, &agent);
	int result = 1;

	if (replica != NULL) {
		request.uuid = replica->uuid;
		void *response = cli_call(agent, "DeleteReplica", &request.base, &err);

		result = response == NULL ? cli_fail("%s: %s", agent->name, err.text) : 0;
		cli_free(response);
		if (result == 0 && cli->args.output != OUTPUT_JSON) {
			printf("replica %s deleted\n", replica->uuid);
		}
	}
	free_replicas(&replicas);
	return result;
}

int replica_set_key(struct cli *cli)
{
	Strake__V1__SetReplicaKeyRequest request = STRAKE__V1__SET_REPLICA_KEY_REQUEST__INIT;
	struct replicas replicas;
	struct daemon *agent = NULL;
	struct volume_key key;
	struct err err = {0};

	if (cli->args.key_file == NULL) {
		(void)cli_fail("replica set-key needs --key-file");
		return EXIT_USAGE;
	}
	const Strake__V1__Replica *replica = choose(cli, &replicas, &agent);
	int result = replica == NULL ? 1 : cli_volume_key(&cli->args, replica->volume_uuid, &key);

	if (result == 0) {
		request.uuid = replica->uuid;
		request.key_number = key.number;
		request.key = (ProtobufCBinaryData){sizeof(key.secret), key.secret};
		Strake__V1__Replica *changed =
			cli_call(agent, "SetReplicaKey", &request.base, &err);

		result = changed == NULL ? cli_fail("%s: %s", agent->name, err.text) : 0;
		if (result == 0 && cli->args.output == OUTPUT_JSON) {
			json_print_message(&changed->base, stdout);
		} else if (result == 0) {
			printf("replica %s has key %u\n", changed->uuid, changed->key_number);
		}
		cli_free(changed);
	}
	free_replicas(&replicas);
	return result;
}

int replica_export(struct cli *cli)
{
	Strake__V1__ExportReplicaRequest request = STRAKE__V1__EXPORT_REPLICA_REQUEST__INIT;
	struct replicas replicas;
	struct daemon *agent = NULL;
	struct err err = {0};
	const Strake__V1__Replica *replica = choose(cli, &replicas, &agent);
	int result = 1;

	if (replica != NULL) {
		request.uuid = replica->uuid;
		request.read_only = cli->args.read_only;
		Strake__V1__ExportReplicaResponse *response =
			cli_call(agent, "ExportReplica", &request.base, &err);

		if (response == NULL) {
			result = cli_fail("%s: %s", agent->name, err.text);
		} else if (cli->args.output == OUTPUT_JSON) {
			json_print_message(&response->base, stdout);
			result = 0;
		} else {
			printf("%s at %s\n", response->nqn, response->address);
			result = 0;
		}
		cli_free(response);
	}
	free_replicas(&replicas);
	return result;
}

int replica_unexport(struct cli *cli)
{
	Strake__V1__UnexportReplicaRequest request = STRAKE__V1__UNEXPORT_REPLICA_REQUEST__INIT;
	struct replicas replicas;
	struct daemon *agent = NULL;
	struct err err = {0};
	const Strake__V1__Replica *replica = choose(cli, &replicas, &agent);
	int result = 1;

	if (replica != NULL) {
		request.uuid = replica->uuid;
		void *response = cli_call(agent, "UnexportReplica", &request.base, &err);

		result = response == NULL ? cli_fail("%s: %s", agent->name, err.text) : 0;
		cli_free(response);
	}
	free_replicas(&replicas);
	return result;
}
