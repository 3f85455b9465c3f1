/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a volume cannot be opened any more, or nobody knows it: which ones the pool-agents have
 * (scan), recording one again from its replicas (import), and the operator's decision that one
 * replica is the volume from now on (recover; docs/protocol.md 1.12).
 */
#include "base/size.h"
#include "cli/cli.h"
#include "cli/survey.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define VOTERS_MAX 7

struct found {
	Strake__V1__ListReplicasResponse *lists[DAEMONS_MAX]; /* owned */
	unsigned list_count;
	/* Of all lists, those of one volume first to last. */
	const Strake__V1__Replica **replicas; /* owned array */
	struct daemon **agents;               /* of each; owned array */
	size_t count;
};

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)(text != NULL ? text : "");
}

/* ---- what there is ---- */

static void found_free(struct found *found)
{
	while (found->list_count > 0) {
		cli_free(found->lists[--found->list_count]);
	}
	free(found->replicas);
	free(found->agents);
}

static void take(struct found *found, struct daemon *agent, const Strake__V1__Replica *replica)
{
	size_t count = found->count + 1;

	found->replicas = realloc(found->replicas, count * sizeof(*found->replicas));
	found->agents = realloc(found->agents, count * sizeof(*found->agents));
	if (found->replicas == NULL || found->agents == NULL) {
		abort();
	}
	found->replicas[found->count] = replica;
	found->agents[found->count++] = agent;
}

/* Those of a volume (NULL: of all), also of agents that were asked before in vain: what does not
 * answer is named. */
static void find_replicas(struct cli *cli, const char *volume, struct found *found)
{
	Strake__V1__ListReplicasRequest request = STRAKE__V1__LIST_REPLICAS_REQUEST__INIT;
	struct daemon *agent;

	memset(found, 0, sizeof(*found));
	request.volume_name = text_of(volume);
	for (unsigned i = 0; (agent = cli_daemon(cli, DAEMON_AGENT, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListReplicasResponse *list =
			cli_call(agent, "ListReplicas", &request.base, &err);

		if (list == NULL) {
			(void)cli_fail("%s: %s", agent->name, err.text);
			continue;
		}
		found->lists[found->list_count++] = list;
		for (size_t j = 0; j < list->n_replicas; j++) {
			if (strcmp(list->replicas[j]->state, "Abstains") != 0) {
				take(found, agent, list->replicas[j]);
			}
		}
	}
}

/* Only those with this uuid stay. */
static void keep_volume(struct found *found, const char *uuid)
{
	size_t kept = 0;

	for (size_t i = 0; i < found->count; i++) {
		if (strcmp(found->replicas[i]->volume_uuid, uuid) == 0) {
			found->replicas[kept] = found->replicas[i];
			found->agents[kept++] = found->agents[i];
		}
	}
	found->count = kept;
}

static struct survey survey_of(const struct found *found)
{
	return (struct survey){.count = found->count, .replicas = found->replicas};
}

static struct daemon *agent_of(const struct found *found, const Strake__V1__Replica *replica)
{
	for (size_t i = 0; i < found->count; i++) {
		if (found->replicas[i] == replica) {
			return found->agents[i];
		}
	}
	return NULL;
}

static void print_replicas(const struct found *found, FILE *to)
{
	static const char *const headers[] = {"REPLICA", "AGENT", "KIND", "STATE", "LINEAGE",
		"CONFIGURATION", "WGEN", "CLEAN", "SIZE"};
	struct table *table = table_new(sizeof(headers) / sizeof(headers[0]), headers);
	struct survey survey = survey_of(found);
	char size[32];

	for (size_t i = 0; i < found->count; i++) {
		const Strake__V1__Replica *replica = found->replicas[i];
		const Strake__V1__Configuration *cfg = replica->configuration;

		table_cell(table, "%.8s", replica->uuid);
		table_cell(table, "%s", found->agents[i]->name);
		table_cell(table, "%s", replica->kind);
		table_cell(table, "%s",
			survey_is_left_behind(&survey, replica) ? "LeftBehind" : replica->state);
		if (cfg == NULL || cfg->generation == 0) {
			table_cell(table, "-");
			table_cell(table, "none");
			table_cell(table, "-");
		} else {
			table_cell(table, "%016" PRIx64, cfg->lineage);
			table_cell(table, "%u.%u/%u", cfg->attach, cfg->inc, cfg->generation);
			table_cell(table, "%" PRIu64, cfg->wgen);
		}
		table_cell(table, "%" PRIu64, replica->clean);
		table_cell(table, "%s", size_cell(replica->size_bytes, size));
	}
	table_print(table, to);
	table_free(table);
}

/* ---- recover ---- */

struct recovery {
	struct cli *cli;
	struct daemon *nexus;
	Strake__V1__Volume *volume; /* owned */
	struct found found;
	const Strake__V1__Replica *replica; /* the chosen one */
	struct daemon *agent;               /* it is there */
	Strake__V1__Replica *made;          /* owned; as it is afterwards */
};

static void print_known(const struct recovery *recovery, const Strake__V1__Configuration *newest,
	const char *missing)
{
	const Strake__V1__Configuration *mine = recovery->replica->configuration;
	bool is_last = mine->attach == newest->attach && mine->inc == newest->inc &&
		       mine->generation == newest->generation;
	bool in_sync = false;
	char size[32];

	(void)printf("replicas of volume %s that are found here:\n", recovery->volume->name);
	(void)fflush(stdout);
	print_replicas(&recovery->found, stdout);
	(void)printf("the newest configuration among them: %u.%u/%u", newest->attach, newest->inc,
		newest->generation);
	(void)printf("%s%s\n", missing[0] != '\0' ? "; missing of its voters: " : "", missing);
	for (size_t i = 0; i < newest->n_voters; i++) {
		in_sync |= newest->voters[i]->in_sync &&
			   strcmp(newest->voters[i]->replica, recovery->replica->uuid) == 0;
	}
	if (in_sync && is_last) {
		(void)printf("replica %.8s was in sync in it; whether there is a later one only "
			     "those know that are missing: WHAT WAS WRITTEN WITHOUT IT IS LOST\n",
			recovery->replica->uuid);
	} else {
		(void)printf("replica %.8s is older than the volume: it has %u.%u/%u, and ALL THAT "
			     "WAS WRITTEN SINCE IS LOST\n",
			recovery->replica->uuid, mine->attach, mine->inc, mine->generation);
	}
	if (mine->size_bytes < recovery->volume->size_bytes) {
		(void)printf("it is also smaller than the volume was: %s\n",
			size_cell(mine->size_bytes, size));
	}
	(void)fflush(stdout);
}

static int choose(struct recovery *recovery)
{
	struct survey survey = survey_of(&recovery->found);
	const char *wanted = recovery->cli->args.second;
	unsigned count;

	recovery->replica = survey_find(&survey, wanted, &count);
	if (recovery->replica == NULL) {
		return cli_fail(count > 1 ? "several replicas begin with \"%s\"; give more of the "
					    "uuid"
					  : "no replica \"%s\" of this volume is found here; "
					    "`strake volume scan` shows all",
			wanted);
	}
	if (recovery->replica->configuration == NULL ||
		recovery->replica->configuration->generation == 0 ||
		strcmp(recovery->replica->kind, "data") != 0) {
		return cli_fail("replica %s has no data of the volume", recovery->replica->uuid);
	}
	recovery->agent = agent_of(&recovery->found, recovery->replica);
	return 0;
}

/* Of what the volume is now.  0: it is right to go on. */
static int judge(const struct recovery *recovery)
{
	struct survey survey = survey_of(&recovery->found);
	const Strake__V1__Configuration *newest = survey_newest(&survey, recovery->volume->lineage);
	const struct args *args = &recovery->cli->args;
	char missing[SURVEY_TEXT_SIZE] = "";

	if (newest == NULL) {
		newest = survey_newest(&survey, recovery->replica->configuration->lineage);
	}
	if (survey_can_open(&survey, newest, missing)) {
		return cli_fail("volume %s: there is nothing to recover: a majority of its voters "
				"is there, with a replica in sync; `strake volume open %s`, and "
				"`strake volume status %s` says what it waits for",
			args->name, args->name, args->name);
	}
	print_known(recovery, newest, missing);
	if (!args->accept_data_loss) {
		return cli_fail("volume %s is not changed: make sure that those that are missing "
				"never come back into use, then give --accept-data-loss",
			args->name);
	}
	return 0;
}

/* Whoever still has it open by those that are reached cannot go on. */
static int fence_others(const struct recovery *recovery, uint32_t attach, uint64_t nonce)
{
	for (size_t i = 0; i < recovery->found.count; i++) {
		const Strake__V1__Replica *replica = recovery->found.replicas[i];
		Strake__V1__FenceReplicaRequest request = STRAKE__V1__FENCE_REPLICA_REQUEST__INIT;
		struct err err = {0};

		if (replica == recovery->replica || replica->configuration == NULL ||
			replica->configuration->generation == 0) {
			continue;
		}
		request.uuid = replica->uuid;
		request.attach = attach;
		request.nonce = nonce;
		void *fenced =
			cli_call(recovery->found.agents[i], "FenceReplica", &request.base, &err);

		if (fenced == NULL && survey_is_unreached(err.code)) {
			(void)printf("replica %.8s is NOT FENCED, and counts as not found: %s: "
				     "%s\n",
				replica->uuid, recovery->found.agents[i]->name, err.text);
			(void)fflush(stdout);
			continue;
		}
		if (fenced == NULL) {
			return cli_fail("%s: %s; nothing was recovered",
				recovery->found.agents[i]->name, err.text);
		}
		cli_free(fenced);
	}
	return 0;
}

static int recover_replica(struct recovery *recovery)
{
	Strake__V1__RecoverReplicaRequest request = STRAKE__V1__RECOVER_REPLICA_REQUEST__INIT;
	struct survey survey = survey_of(&recovery->found);
	uint32_t attach = survey_attach(&survey);
	struct err err = {0};
	uint64_t lineage;

	if (getrandom(&lineage, sizeof(lineage), 0) != sizeof(lineage)) {
		return cli_fail("no random numbers");
	}
	lineage |= 1;
	attach = attach < recovery->volume->attach ? recovery->volume->attach : attach;
	if (attach >= UINT32_MAX - 2) {
		return cli_fail("volume %s: its attach number is too high", recovery->volume->name);
	}
	int result = fence_others(recovery, attach + 1, lineage);

	if (result != 0) {
		return result;
	}
	request.uuid = recovery->replica->uuid;
	request.lineage = lineage;
	request.attach = attach + 1;
	request.wgen = survey_wgen(&survey);
	request.half_rebuilt = recovery->cli->args.half_rebuilt;
	recovery->made = cli_call(recovery->agent, "RecoverReplica", &request.base, &err);
	if (recovery->made == NULL) {
		return cli_fail("%s: %s%s", recovery->agent->name, err.text,
			err.code == -EBUSY && !recovery->cli->args.half_rebuilt &&
					strcmp(recovery->replica->state, "Rebuilding") == 0
				? "; only with --half-rebuilt"
				: "");
	}
	return 0;
}

/* The nexus's record follows. */
static int record(const struct recovery *recovery, const Strake__V1__Replica *replica)
{
	Strake__V1__RecoverVolumeRequest request = STRAKE__V1__RECOVER_VOLUME_REQUEST__INIT;
	const struct names *locals = &recovery->cli->args.locals;
	Strake__V1__Voter voter = STRAKE__V1__VOTER__INIT;
	struct err err = {0};

	voter.replica = replica->uuid;
	voter.kind = replica->kind;
	voter.agent = recovery->agent->agent->uuid;
	voter.address = recovery->agent->agent->address;
	voter.nsid = replica->nsid;
	voter.local = locals->count == 0 || strcmp(locals->names[0], recovery->agent->name) == 0;
	request.name = recovery->volume->name;
	request.lineage = replica->configuration->lineage;
	request.attach = replica->promised + 1;
	request.size_bytes = replica->configuration->size_bytes;
	request.voter = &voter;
	Strake__V1__Volume *volume =
		cli_call(recovery->nexus, "RecoverVolume", &request.base, &err);

	if (volume == NULL) {
		return cli_fail("replica %s is recovered, but %s does not record it: %s; the same "
				"command goes on with it",
			replica->uuid, recovery->nexus->name, err.text);
	}
	if (recovery->cli->args.output == OUTPUT_JSON) {
		json_print_message(&volume->base, stdout);
	} else {
		(void)printf("volume %s is replica %s from now on (lineage %016" PRIx64 ")\n",
			volume->name, replica->uuid, request.lineage);
		(void)printf("next: strake volume open %s --attach %u --wait%s\n"
			     "then check the file system, and: strake volume add-replica %s\n"
			     "those left behind are kept until: strake replica delete UUID\n",
			volume->name, request.attach,
			replica->key_number != 0 ? " --key-file FILE" : "", volume->name);
	}
	cli_free(volume);
	return 0;
}

/* An earlier call came so far, and the nexus did not hear of it. */
static bool is_recovered_already(const struct recovery *recovery)
{
	const Strake__V1__Configuration *cfg = recovery->replica->configuration;

	return recovery->volume->lineage != 0 && cfg->lineage != recovery->volume->lineage &&
	       cfg->n_voters == 1 && cfg->voters[0]->in_sync &&
	       strcmp(cfg->voters[0]->replica, recovery->replica->uuid) == 0 &&
	       cfg->attach > recovery->volume->attach;
}

static int recover(struct recovery *recovery)
{
	struct cli *cli = recovery->cli;

	if (strcmp(recovery->volume->state, "Closed") != 0) {
		return cli_fail("volume %s is %s: what its host has seen is no longer true "
				"afterwards; first: strake volume unpublish %s --force; strake "
				"volume close %s",
			cli->args.name, recovery->volume->state, cli->args.name, cli->args.name);
	}
	find_replicas(cli, cli->args.name, &recovery->found);
	keep_volume(&recovery->found, recovery->volume->uuid);
	int result = choose(recovery);

	if (result == 0 && cli->args.accept_data_loss && is_recovered_already(recovery)) {
		return record(recovery, recovery->replica);
	}
	result = result != 0 ? result : judge(recovery);
	result = result != 0 ? result : recover_replica(recovery);
	return result != 0 ? result : record(recovery, recovery->made);
}

int volume_recover(struct cli *cli)
{
	struct recovery recovery = {.cli = cli};

	recovery.nexus = cli_find_volume(cli, cli->args.name, &recovery.volume);
	if (recovery.nexus == NULL) {
		(void)fprintf(stderr, "strake: if no nexus knows it: strake volume import %s\n",
			cli->args.name);
		return 1;
	}
	int result = recover(&recovery);

	found_free(&recovery.found);
	cli_free(recovery.made);
	cli_free(recovery.volume);
	return result;
}

/* ---- scan ---- */

/* The name of the nexus that has it recorded; NULL: none of those that answer. */
static const char *recorded_by(struct cli *cli, const char *uuid)
{
	Strake__V1__ListVolumesRequest request = STRAKE__V1__LIST_VOLUMES_REQUEST__INIT;
	const char *name = NULL;
	struct daemon *nexus;

	for (unsigned i = 0; (nexus = cli_daemon(cli, DAEMON_NEXUS, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListVolumesResponse *list =
			cli_call(nexus, "ListVolumes", &request.base, &err);

		for (size_t j = 0; list != NULL && j < list->n_volumes; j++) {
			if (strcmp(list->volumes[j]->uuid, uuid) == 0) {
				name = nexus->name;
			}
		}
		cli_free(list);
	}
	return name;
}

static void scan_one(struct cli *cli, const struct found *all, size_t first, struct table *table)
{
	struct found found = {0};
	const char *uuid = all->replicas[first]->volume_uuid;
	const char *recorded = recorded_by(cli, uuid);
	const Strake__V1__Configuration *newest;
	char missing[SURVEY_TEXT_SIZE] = "", size[32];
	struct survey survey;
	size_t behind = 0;

	for (size_t i = first; i < all->count; i++) {
		if (strcmp(all->replicas[i]->volume_uuid, uuid) == 0) {
			take(&found, all->agents[i], all->replicas[i]);
		}
	}
	survey = survey_of(&found);
	newest = survey_newest(&survey, 0);
	for (size_t i = 0; i < found.count; i++) {
		behind += survey_is_left_behind(&survey, found.replicas[i]);
	}
	table_cell(table, "%s", all->replicas[first]->volume_name);
	table_cell(table, "%s", uuid);
	table_cell(table, "%s", recorded != NULL ? recorded : "-");
	table_cell(table, "%zu", found.count - behind);
	table_cell(table, "%zu", behind);
	if (newest == NULL) {
		table_cell(table, "%s", "-");
		table_cell(table, "%s", "none");
		table_cell(table, "%s", "never open");
	} else {
		table_cell(table, "%s", size_cell(newest->size_bytes, size));
		table_cell(table, "%u.%u/%u", newest->attach, newest->inc, newest->generation);
		table_cell(table, "%s",
			survey_can_open(&survey, newest, missing) ? "can be opened" : missing);
	}
	found_free(&found);
}

int volume_scan(struct cli *cli)
{
	static const char *const headers[] = {"VOLUME", "UUID", "NEXUS", "REPLICAS", "LEFT-BEHIND",
		"SIZE", "CONFIGURATION", "FOUND"};
	struct found all;

	if (cli_discover(cli) < 0) {
		return 1;
	}
	find_replicas(cli, NULL, &all);
	struct table *table = table_new(sizeof(headers) / sizeof(headers[0]), headers);

	for (size_t i = 0; i < all.count; i++) {
		bool is_first = true;

		for (size_t j = 0; j < i; j++) {
			is_first = is_first && strcmp(all.replicas[j]->volume_uuid,
						       all.replicas[i]->volume_uuid) != 0;
		}
		if (is_first) {
			scan_one(cli, &all, i, table);
		}
	}
	table_print(table, stdout);
	table_free(table);
	found_free(&all);
	return 0;
}

/* ---- import ---- */

static int import_check(const struct found *found, const struct args *args)
{
	if (found->count == 0) {
		return cli_fail("no replica of a volume \"%s\" is found here; `strake volume scan` "
				"shows what is",
			args->name);
	}
	for (size_t i = 1; i < found->count; i++) {
		if (strcmp(found->replicas[i]->volume_uuid, found->replicas[0]->volume_uuid) != 0) {
			return cli_fail("there are several volumes \"%s\": give --uuid; `strake "
					"volume scan` shows them",
				args->name);
		}
	}
	return 0;
}

/* The places of the newest lineage's replicas; who the voters are they say themselves. */
static int import(struct cli *cli, struct daemon *nexus, const struct found *found)
{
	Strake__V1__CreateVolumeRequest request = STRAKE__V1__CREATE_VOLUME_REQUEST__INIT;
	struct survey survey = survey_of(found);
	const Strake__V1__Configuration *newest = survey_newest(&survey, 0);
	Strake__V1__Voter voters[VOTERS_MAX], *pointers[VOTERS_MAX];
	char missing[SURVEY_TEXT_SIZE];
	struct err err = {0};

	if (newest == NULL) {
		return cli_fail("volume %s was never open: nothing is on its replicas; `strake "
				"replica delete` them",
			cli->args.name);
	}
	for (size_t i = 0; i < found->count && request.n_voters < VOTERS_MAX; i++) {
		const Strake__V1__Replica *replica = found->replicas[i];
		Strake__V1__Voter *voter = &voters[request.n_voters];

		if (survey_is_left_behind(&survey, replica) || replica->configuration == NULL ||
			replica->configuration->generation == 0 ||
			strcmp(replica->state, "Removed") == 0) {
			continue;
		}
		strake__v1__voter__init(voter);
		voter->replica = replica->uuid;
		voter->kind = replica->kind;
		voter->agent = found->agents[i]->agent->uuid;
		voter->address = found->agents[i]->agent->address;
		voter->nsid = replica->nsid;
		voter->local = true;
		pointers[request.n_voters++] = voter;
	}
	request.voters = pointers;
	request.name = text_of(cli->args.name);
	request.uuid = found->replicas[0]->volume_uuid;
	request.size_bytes = newest->size_bytes;
	request.min_insync = cli->args.min_insync;
	request.used = true;
	request.lineage = newest->lineage;
	Strake__V1__Volume *volume = cli_call(nexus, "CreateVolume", &request.base, &err);

	if (volume == NULL) {
		return cli_fail("%s: %s", nexus->name, err.text);
	}
	print_replicas(found, stdout);
	if (survey_can_open(&survey, newest, missing)) {
		(void)printf("volume %s is recorded on %s\nnext: strake volume open %s --attach %u "
			     "--wait\n",
			volume->name, nexus->name, volume->name, survey_attach(&survey) + 1);
	} else {
		(void)printf("volume %s is recorded on %s, and cannot be opened without: %s\n"
			     "those on other machines are told with: strake volume add-replica %s "
			     "--voter ...\n",
			volume->name, nexus->name, missing, volume->name);
	}
	cli_free(volume);
	return 0;
}

int volume_import(struct cli *cli)
{
	struct daemon *nexus = cli_choose_nexus(cli);
	char uuid[UUID_TEXT_SIZE];
	struct found found;

	if (nexus == NULL) {
		return 1;
	}
	find_replicas(cli, cli->args.name, &found);
	if (cli->args.has_uuid) {
		keep_volume(&found, uuid_to_text(&cli->args.uuid, uuid));
	}
	int result = import_check(&found, &cli->args);

	result = result != 0 ? result : import(cli, nexus, &found);
	found_free(&found);
	return result;
}
