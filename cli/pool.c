/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static char *text_of(const char *text)
{
	/* protobuf-c's strings are not const; it does not write to them. */
	return (char *)(uintptr_t)(text != NULL ? text : "");
}

int pool_create(struct cli *cli)
{
	Strake__V1__CreatePoolRequest request = STRAKE__V1__CREATE_POOL_REQUEST__INIT;
	struct err err = {0};
	char size[32];

	if (cli->args.disk == NULL) {
		(void)cli_fail("pool create needs --disk /dev/NAME or --disk file:///PATH");
		return EXIT_USAGE;
	}
	if (cli->args.has_size && cli->args.size_bytes == 0) {
		return cli_fail(
			"pool %s: a size of 0 holds nothing; give --size 10G", cli->args.name);
	}
	struct daemon *agent = cli_choose_agent(cli);

	if (agent == NULL) {
		return 1;
	}
	request.name = text_of(cli->args.name);
	request.disk = text_of(cli->args.disk);
	request.size_bytes = cli->args.size_bytes;
	request.wipe = cli->args.wipe;
	Strake__V1__Pool *pool = cli_call(agent, "CreatePool", &request.base, &err);

	if (pool == NULL) {
		return cli_fail("%s: %s", agent->name, err.text);
	}
	if (cli->args.output == OUTPUT_JSON) {
		json_print_message(&pool->base, stdout);
	} else {
		printf("pool %s on %s of %s: %s for data\n", pool->name, pool->disk, agent->name,
			size_cell(pool->capacity_bytes, size));
	}
	cli_free(pool);
	return 0;
}

/* ---- listing ---- */

struct pools {
	unsigned count;
	Strake__V1__ListPoolsResponse
		*lists[DAEMONS_MAX]; /* owned; one for each agent that answered */
	struct daemon *agents[DAEMONS_MAX];
};

static int ask_pools(struct cli *cli, struct pools *pools)
{
	Strake__V1__ListPoolsRequest request = STRAKE__V1__LIST_POOLS_REQUEST__INIT;
	struct daemon *agent;
	int result = 0;

	pools->count = 0;
	if (cli_discover(cli) < 0) {
		return 1;
	}
	for (unsigned i = 0; (agent = cli_daemon(cli, DAEMON_AGENT, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListPoolsResponse *list =
			cli_call(agent, "ListPools", &request.base, &err);

		if (list == NULL) {
			result = cli_fail("%s: %s", agent->name, err.text);
			continue;
		}
		pools->agents[pools->count] = agent;
		pools->lists[pools->count++] = list;
	}
	return result;
}

static void add_row(
	struct table *table, const Strake__V1__Pool *pool, const struct daemon *agent, bool wide)
{
	char capacity[32], used[32], free_text[32], reclaiming[32];
	uint64_t left = pool->capacity_bytes > pool->used_bytes
				? pool->capacity_bytes - pool->used_bytes
				: 0;

	table_cell(table, "%s", pool->name);
	table_cell(table, "%s", agent->name);
	table_cell(table, "%s", pool->state);
	table_cell(table, "%s", size_cell(pool->capacity_bytes, capacity));
	table_cell(table, "%s", size_cell(pool->used_bytes, used));
	table_cell(table, "%s", size_cell(left, free_text));
	table_cell(table, "%u", pool->replicas);
	if (wide) {
		table_cell(table, "%s", size_cell(pool->reclaiming_bytes, reclaiming));
		table_cell(table, "%s", text_cell(pool->uuid));
	}
	table_cell(table, "%s", pool->disk);
	table_cell(table, "%s", text_cell(pool->reason));
}

static void print_pools(const struct cli *cli, const struct pools *pools, const char *name)
{
	static const char *const wide_headers[] = {"NAME", "AGENT", "STATE", "CAPACITY", "USED",
		"FREE", "REPLICAS", "RECLAIMING", "UUID", "DISK", "REASON"};
	static const char *const headers[] = {
		"NAME", "AGENT", "STATE", "CAPACITY", "USED", "FREE", "REPLICAS", "DISK", "REASON"};
	bool wide = cli->args.output == OUTPUT_WIDE;
	struct table *table = wide ? table_new(ARRAY_COUNT(wide_headers), wide_headers)
				   : table_new(ARRAY_COUNT(headers), headers);

	for (unsigned i = 0; i < pools->count; i++) {
		for (size_t j = 0; j < pools->lists[i]->n_pools; j++) {
			const Strake__V1__Pool *pool = pools->lists[i]->pools[j];

			if (name == NULL || strcmp(pool->name, name) == 0) {
				add_row(table, pool, pools->agents[i], wide);
			}
		}
	}
	table_print(table, stdout);
	table_free(table);
}

static const ProtobufCMessage **collect(
	const struct pools *pools, const char *name, size_t *ret_count)
{
	const ProtobufCMessage **messages;
	size_t count = 0;

	for (unsigned i = 0; i < pools->count; i++) {
		count += pools->lists[i]->n_pools;
	}
	messages = calloc(count + 1, sizeof(*messages));
	if (messages == NULL) {
		abort();
	}
	*ret_count = 0;
	for (unsigned i = 0; i < pools->count; i++) {
		for (size_t j = 0; j < pools->lists[i]->n_pools; j++) {
			if (name == NULL || strcmp(pools->lists[i]->pools[j]->name, name) == 0) {
				messages[(*ret_count)++] = &pools->lists[i]->pools[j]->base;
			}
		}
	}
	return messages;
}

static int show(struct cli *cli, const char *name)
{
	struct pools pools;
	int result = ask_pools(cli, &pools);
	size_t count = 0;

	if (pools.count == 0 && result != 0) {
		return result;
	}
	const ProtobufCMessage **messages = collect(&pools, name, &count);

	if (name != NULL && count == 0) {
		result = result != 0
				 ? result
				 : cli_fail("no pool \"%s\"; `strake pool list` shows all", name);
	} else if (cli->args.output != OUTPUT_JSON) {
		print_pools(cli, &pools, name);
	} else if (name != NULL) {
		json_print_message(messages[0], stdout);
	} else {
		json_print_messages(messages, count, stdout);
	}
	free(messages);
	for (unsigned i = 0; i < pools.count; i++) {
		cli_free(pools.lists[i]);
	}
	return result;
}

int pool_list(struct cli *cli)
{
	return show(cli, NULL);
}

int pool_show(struct cli *cli)
{
	return show(cli, cli->args.name);
}

/* ---- delete ---- */

/* The agent that has the pool; NULL after an error text. */
static struct daemon *find_agent(struct cli *cli, const char *name)
{
	struct daemon *found = NULL;
	struct pools pools;
	unsigned count = 0;
	int result = ask_pools(cli, &pools);

	for (unsigned i = 0; i < pools.count; i++) {
		for (size_t j = 0; j < pools.lists[i]->n_pools; j++) {
			if (strcmp(pools.lists[i]->pools[j]->name, name) == 0) {
				found = pools.agents[i];
				count++;
			}
		}
		cli_free(pools.lists[i]);
	}
	if (count > 1) {
		(void)cli_fail(
			"several pool-agents have a pool \"%s\"; say with --agent whose", name);
		return NULL;
	}
	if (count == 0 && result == 0) {
		(void)cli_fail("no pool \"%s\"; `strake pool list` shows all", name);
	}
	return found;
}

int pool_delete(struct cli *cli)
{
	Strake__V1__DeletePoolRequest request = STRAKE__V1__DELETE_POOL_REQUEST__INIT;
	struct err err = {0};
	struct daemon *agent = cli->args.agents.count > 0 ? cli_choose_agent(cli)
							  : find_agent(cli, cli->args.name);

	if (agent == NULL) {
		return 1;
	}
	request.name = text_of(cli->args.name);
	request.forget = cli->args.forget;
	void *response = cli_call(agent, "DeletePool", &request.base, &err);

	if (response == NULL) {
		return cli_fail("%s: %s", agent->name, err.text);
	}
	cli_free(response);
	printf("pool %s of %s deleted\n", cli->args.name, agent->name);
	return 0;
}

int daemon_list(struct cli *cli)
{
	static const char *const headers[] = {
		"NAME", "KIND", "VERSION", "ADDRESS", "UUID", "IO-FLUSHER", "IO"};
	struct table *table;

	if (cli_discover(cli) < 0) {
		return 1;
	}
	if (cli->args.output == OUTPUT_JSON) {
		json_print_daemons(cli->daemons, cli->daemon_count, stdout);
		return 0;
	}
	table = table_new(ARRAY_COUNT(headers), headers);
	for (unsigned i = 0; i < cli->daemon_count; i++) {
		const struct daemon *daemon = &cli->daemons[i];
		const Strake__V1__Agent *agent = daemon->agent;
		const Strake__V1__NexusInfo *nexus = daemon->nexus;
		bool flusher = agent != NULL ? agent->io_flusher : nexus->io_flusher;

		table_cell(table, "%s", daemon->name);
		table_cell(table, "%s", agent != NULL ? "pool-agent" : "nexus");
		table_cell(table, "%s", agent != NULL ? agent->version : nexus->version);
		table_cell(table, "%s",
			text_cell(agent != NULL ? agent->address : nexus->export_address));
		table_cell(table, "%s", agent != NULL ? agent->uuid : nexus->uuid);
		table_cell(table, "%s", flusher ? "yes" : "no");
		table_cell(table, "%s", agent != NULL ? agent->io : nexus->io);
	}
	table_print(table, stdout);
	table_free(table);
	return 0;
}
