/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the daemons, and calling them. */
#include "base/bytes.h"
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_MS 3000
/* Making a pool on a large disk is the slowest. */
#define CALL_MS 60000
/* To say who it is takes a daemon no time: one that hangs must not hold up what the others can
 * answer. */
#define ASK_MS 2000

#define METHOD(service, name, request_type, response_type)                                         \
	{"/strake.v1." service "/" name, &strake__v1__##request_type##__descriptor,                \
		&strake__v1__##response_type##__descriptor, NULL}

static const struct grpc_method methods[] = {
	METHOD("PoolAgent", "GetAgent", get_agent_request, agent),
	METHOD("PoolAgent", "CreatePool", create_pool_request, pool),
	METHOD("PoolAgent", "DeletePool", delete_pool_request, delete_pool_response),
	METHOD("PoolAgent", "ListPools", list_pools_request, list_pools_response),
	METHOD("PoolAgent", "CreateReplica", create_replica_request, replica),
	METHOD("PoolAgent", "ListReplicas", list_replicas_request, list_replicas_response),
	METHOD("PoolAgent", "DeleteReplica", delete_replica_request, delete_replica_response),
	METHOD("PoolAgent", "SetReplicaKey", set_replica_key_request, replica),
	METHOD("PoolAgent", "RecoverReplica", recover_replica_request, replica),
	METHOD("PoolAgent", "FenceReplica", fence_replica_request, replica),
	METHOD("PoolAgent", "ExportReplica", export_replica_request, export_replica_response),
	METHOD("PoolAgent", "UnexportReplica", unexport_replica_request, unexport_replica_response),
	METHOD("Nexus", "GetNexus", get_nexus_request, nexus_info),
	METHOD("Nexus", "CreateVolume", create_volume_request, volume),
	METHOD("Nexus", "OpenVolume", open_volume_request, volume),
	METHOD("Nexus", "CloseVolume", close_volume_request, volume),
	METHOD("Nexus", "PublishVolume", publish_volume_request, volume),
	METHOD("Nexus", "UnpublishVolume", unpublish_volume_request, volume),
	METHOD("Nexus", "ListVolumes", list_volumes_request, list_volumes_response),
	METHOD("Nexus", "DeleteVolume", delete_volume_request, delete_volume_response),
	METHOD("Nexus", "SetVolume", set_volume_request, volume),
	METHOD("Nexus", "ResizeVolume", resize_volume_request, volume),
	METHOD("Nexus", "CreateSnapshot", create_snapshot_request, snapshot),
	METHOD("Nexus", "AddReplica", add_replica_request, volume),
	METHOD("Nexus", "RemoveReplica", remove_replica_request, volume),
	METHOD("Nexus", "RecoverVolume", recover_volume_request, volume),
	METHOD("Nexus", "CompareVolume", compare_volume_request, compare_volume_response),
};

int cli_fail(const char *format, ...)
{
	va_list args;

	(void)fputs("strake: ", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	return 1;
}

void cli_pause_ms(unsigned ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&time, NULL);
}

void cli_free(void *message)
{
	if (message != NULL) {
		protobuf_c_message_free_unpacked(message, NULL);
	}
}

static void *call_within(unsigned timeout_ms, struct daemon *daemon, const char *name,
	const ProtobufCMessage *request, struct err *err)
{
	ProtobufCMessage *response = NULL;

	for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
		if (strcmp(strrchr(methods[i].path, '/') + 1, name) == 0) {
			int result = grpc_client_call(
				daemon->client, &methods[i], request, timeout_ms, &response, err);

			return result == 0 ? response : NULL;
		}
	}
	abort();
}

void *cli_call(
	struct daemon *daemon, const char *name, const ProtobufCMessage *request, struct err *err)
{
	return call_within(CALL_MS, daemon, name, request, err);
}

/* ---- discovery ---- */

/* What answers behind the socket?  0, or negative with err. */
static int ask_kind(struct daemon *daemon, struct err *err)
{
	Strake__V1__GetAgentRequest agent = STRAKE__V1__GET_AGENT_REQUEST__INIT;
	Strake__V1__GetNexusRequest nexus = STRAKE__V1__GET_NEXUS_REQUEST__INIT;
	int result = grpc_client_new(daemon->path, CONNECT_MS, &daemon->client, err);

	if (result < 0) {
		return result;
	}
	daemon->kind = DAEMON_AGENT;
	daemon->agent = call_within(ASK_MS, daemon, "GetAgent", &agent.base, err);
	if (daemon->agent != NULL) {
		return 0;
	}
	if (err->code == -EOPNOTSUPP) {
		daemon->kind = DAEMON_NEXUS;
		daemon->nexus = call_within(ASK_MS, daemon, "GetNexus", &nexus.base, err);
		if (daemon->nexus != NULL) {
			return 0;
		}
	}
	grpc_client_free(daemon->client);
	daemon->client = NULL;
	return err->code;
}

static int is_socket_name(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > 5 && length < 64 && strcmp(entry->d_name + length - 5, ".sock") == 0;
}

static void try_daemon(struct cli *cli, const char *file)
{
	struct daemon *daemon = &cli->daemons[cli->daemon_count];
	struct err err = {0};

	memset(daemon, 0, sizeof(*daemon));
	(void)snprintf(daemon->name, sizeof(daemon->name), "%.*s", (int)strlen(file) - 5, file);
	(void)snprintf(daemon->path, sizeof(daemon->path), "%s/%s", cli->args.run_dir, file);
	if (ask_kind(daemon, &err) == 0) {
		cli->daemon_count++;
	} else if (err.code != -EPROTOTYPE) {
		/* A keeper's socket has other messages than calls. */
		(void)fprintf(stderr, "strake: %s does not answer: %s\n", daemon->name, err.text);
	}
}

int cli_discover(struct cli *cli)
{
	struct dirent **entries = NULL;

	if (cli->discovered) {
		return 0;
	}
	if (strlen(cli->args.run_dir) > 100) {
		(void)cli_fail(
			"run folder %s: the path is too long for a socket", cli->args.run_dir);
		return -1;
	}
	cli->daemons = calloc(DAEMONS_MAX, sizeof(*cli->daemons));
	int count = cli->daemons == NULL
			    ? -1
			    : scandir(cli->args.run_dir, &entries, is_socket_name, alphasort);

	if (count < 0) {
		(void)cli_fail("run folder %s: %s; start the daemons, or name their folder with "
			       "--run-dir or "
			       "STRAKE_RUN_DIR",
			cli->args.run_dir, err_describe(errno));
		return -1;
	}
	for (int i = 0; i < count; i++) {
		if (cli->daemon_count < DAEMONS_MAX) {
			try_daemon(cli, entries[i]->d_name);
		}
		free(entries[i]);
	}
	free(entries);
	cli->discovered = true;
	if (cli->daemon_count == 0) {
		(void)cli_fail("no daemon answers in %s; start pool-agent and nexus, or name their "
			       "folder with "
			       "--run-dir or STRAKE_RUN_DIR",
			cli->args.run_dir);
		return -1;
	}
	return 0;
}

void cli_done(struct cli *cli)
{
	for (unsigned i = 0; i < cli->daemon_count; i++) {
		grpc_client_free(cli->daemons[i].client);
		cli_free(cli->daemons[i].agent);
		cli_free(cli->daemons[i].nexus);
	}
	free(cli->daemons);
}

/* ---- choosing ---- */

struct daemon *cli_daemon(struct cli *cli, enum daemon_kind kind, unsigned n)
{
	for (unsigned i = 0; i < cli->daemon_count; i++) {
		if (cli->daemons[i].kind == kind && n-- == 0) {
			return &cli->daemons[i];
		}
	}
	return NULL;
}

struct daemon *cli_find_agent(struct cli *cli, const char *uuid)
{
	struct daemon *daemon;

	for (unsigned i = 0; (daemon = cli_daemon(cli, DAEMON_AGENT, i)) != NULL; i++) {
		if (strcmp(daemon->agent->uuid, uuid) == 0) {
			return daemon;
		}
	}
	return NULL;
}

static struct daemon *choose(struct cli *cli, enum daemon_kind kind, const char *name,
	const char *what, const char *option)
{
	struct daemon *daemon;

	if (cli_discover(cli) < 0) {
		return NULL;
	}
	if (name == NULL) {
		daemon = cli_daemon(cli, kind, 0);
		if (daemon == NULL) {
			(void)cli_fail("no %s answers in %s; start one", what, cli->args.run_dir);
		} else if (cli_daemon(cli, kind, 1) != NULL) {
			(void)cli_fail("there are several %ss in %s; choose one with %s", what,
				cli->args.run_dir, option);
			return NULL;
		}
		return daemon;
	}
	for (unsigned i = 0; (daemon = cli_daemon(cli, kind, i)) != NULL; i++) {
		const char *uuid = kind == DAEMON_AGENT ? daemon->agent->uuid : daemon->nexus->uuid;

		if (strcmp(daemon->name, name) == 0 || strcmp(uuid, name) == 0) {
			return daemon;
		}
	}
	(void)cli_fail("no %s named \"%s\" answers in %s; `strake daemon list` shows who does",
		what, name, cli->args.run_dir);
	return NULL;
}

struct daemon *cli_choose_agent(struct cli *cli)
{
	return choose(cli, DAEMON_AGENT,
		cli->args.agents.count > 0 ? cli->args.agents.names[0] : NULL, "pool-agent",
		"--agent NAME");
}

struct daemon *cli_choose_nexus(struct cli *cli)
{
	return choose(cli, DAEMON_NEXUS, cli->args.nexus, "nexus", "--nexus NAME");
}

/* Takes the message apart: the list's only element becomes the caller's. */
static Strake__V1__Volume *steal_volume(Strake__V1__ListVolumesResponse *list)
{
	Strake__V1__Volume *volume = list->n_volumes == 1 ? list->volumes[0] : NULL;

	if (volume != NULL) {
		list->n_volumes = 0;
	}
	cli_free(list);
	return volume;
}

struct daemon *cli_find_volume(struct cli *cli, const char *name, Strake__V1__Volume **ret_volume)
{
	Strake__V1__ListVolumesRequest request = STRAKE__V1__LIST_VOLUMES_REQUEST__INIT;
	struct daemon *daemon;
	struct err err = {0};
	unsigned asked = 0;

	if (cli_discover(cli) < 0) {
		return NULL;
	}
	request.name = (char *)(uintptr_t)name;
	for (unsigned i = 0; (daemon = cli_daemon(cli, DAEMON_NEXUS, i)) != NULL; i++) {
		if (cli->args.nexus != NULL && strcmp(cli->args.nexus, daemon->name) != 0) {
			continue;
		}
		asked++;
		Strake__V1__ListVolumesResponse *list =
			cli_call(daemon, "ListVolumes", &request.base, &err);

		if (list != NULL) {
			*ret_volume = steal_volume(list);
			if (*ret_volume != NULL) {
				return daemon;
			}
		} else if (err.code != -ENOENT) {
			(void)cli_fail("%s: %s", daemon->name, err.text);
			return NULL;
		}
	}
	if (asked == 0) {
		(void)cli_fail("no nexus %s%sanswers in %s; start one",
			cli->args.nexus != NULL ? cli->args.nexus : "",
			cli->args.nexus != NULL ? " " : "", cli->args.run_dir);
	} else {
		(void)cli_fail("no volume \"%s\"; `strake volume list` shows all", name);
	}
	return NULL;
}
