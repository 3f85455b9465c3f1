/* SPDX-License-Identifier: Apache-2.0 */
/* Commands on volumes that are there. */
#include "base/bytes.h"
#include "base/size.h"
#include "cli/cli.h"
#include "repl/capability.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLL_MS 100
/* A volume that stays Degraded serves: nobody waits for a replica that is away. */
#define DEGRADED_MS_MAX 5000

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)(text != NULL ? text : "");
}

static bool is_state(const Strake__V1__Volume *volume, const char *state)
{
	return strcmp(volume->state, state) == 0;
}

/* ---- showing ---- */

#define REBUILD_TEXT_SIZE 140

static void time_left_text(const Strake__V1__VolumeReplica *replica, char text[32])
{
	uint64_t seconds = replica->rebuild_seconds_left;

	if (seconds == 0) {
		(void)snprintf(text, 32, "end not known");
	} else if (seconds < 120) {
		(void)snprintf(text, 32, "%" PRIu64 " s left", seconds);
	} else if (seconds < 7200) {
		(void)snprintf(text, 32, "%" PRIu64 " min left", div_up_u64(seconds, 60));
	} else {
		(void)snprintf(text, 32, "%" PRIu64 " h left", div_up_u64(seconds, 3600));
	}
}

/* "34 % (1.20G of 3.50G, 1.05G equal, 85M/s, 27 s left)". */
static void rebuild_text(const Strake__V1__VolumeReplica *replica, char text[REBUILD_TEXT_SIZE])
{
	char done[SIZE_TEXT_SIZE], total[SIZE_TEXT_SIZE], equal[SIZE_TEXT_SIZE],
		rate[SIZE_TEXT_SIZE];
	char left[32];

	if (strcmp(replica->state, "Rebuilding") != 0) {
		(void)snprintf(text, REBUILD_TEXT_SIZE, "-");
		return;
	}
	time_left_text(replica, left);
	(void)snprintf(text, REBUILD_TEXT_SIZE, "%" PRIu64 " %% (%s of %s, %s equal, %s/s, %s)",
		replica->rebuild_total_bytes == 0
			? 0
			: replica->rebuild_done_bytes /
				  div_up_u64(replica->rebuild_total_bytes, 100),
		size_to_text(replica->rebuild_done_bytes, done),
		size_to_text(replica->rebuild_total_bytes, total),
		size_to_text(replica->rebuild_equal_bytes, equal),
		size_to_text(replica->rebuild_bytes_per_s, rate), left);
}

static const char *voter_text(const char *membership)
{
	return strcmp(membership, "Voter") == 0     ? "yes"
	       : strcmp(membership, "None") == 0    ? "no"
	       : strcmp(membership, "Unknown") == 0 ? "-"
						    : membership;
}

static void print_replicas(struct cli *cli, const Strake__V1__Volume *volume)
{
	static const char *const headers[] = {"REPLICA", "KIND", "AGENT", "ADDRESS", "NSID",
		"VOTER", "STATE", "REBUILD", "READS", "WRITES", "ERRORS", "REASON"};
	struct table *table = table_new(ARRAY_COUNT(headers), headers);

	for (size_t i = 0; i < volume->n_replicas; i++) {
		const Strake__V1__VolumeReplica *replica = volume->replicas[i];
		const struct daemon *agent = cli_find_agent(cli, replica->agent);
		char rebuild[REBUILD_TEXT_SIZE];

		rebuild_text(replica, rebuild);
		table_cell(table, cli->args.output == OUTPUT_WIDE ? "%s" : "%.8s", replica->uuid);
		table_cell(table, "%s", replica->kind);
		if (agent != NULL) {
			table_cell(table, "%s", agent->name);
		} else {
			table_cell(table, "%.8s", text_cell(replica->agent));
		}
		table_cell(table, "%s", text_cell(replica->address));
		table_cell(table, "%u", replica->nsid);
		table_cell(table, "%s", voter_text(replica->membership));
		table_cell(table, "%s", replica->state);
		table_cell(table, "%s", rebuild);
		table_cell(table, "%" PRIu64, replica->reads);
		table_cell(table, "%" PRIu64, replica->writes);
		table_cell(table, "%" PRIu64, replica->errors);
		table_cell(table, "%s", text_cell(replica->reason));
	}
	table_print(table, stdout);
	table_free(table);
}

static void print_volume(const Strake__V1__Volume *volume, const struct daemon *nexus)
{
	char size[SIZE_TEXT_SIZE], read[32], written[32];

	printf("volume      %s (%s)\n", volume->name, volume->uuid);
	printf("state       %s%s%s\n", volume->state, volume->reason[0] != '\0' ? ": " : "",
		volume->reason);
	printf("size        %s\n", size_to_text(volume->size_bytes, size));
	printf("nexus       %s\n", nexus->name);
	printf("attach      %u, epoch %s, generation %u\n", volume->attach,
		text_cell(volume->epoch), volume->generation);
	printf("min-insync  %u\n", volume->min_insync);
	if (volume->no_quorum_s != 0) {
		printf("no quorum   requests fail after %u s\n", volume->no_quorum_s);
	} else {
		printf("no quorum   requests wait\n");
	}
	if (volume->frontend[0] == '\0') {
		printf("published   no\n");
	} else if (volume->nqn[0] != '\0') {
		printf("published   %s: %s at %s\n", volume->frontend, volume->nqn,
			volume->address);
	} else {
		printf("published   %s: %s\n", volume->frontend, text_cell(volume->device));
	}
	printf("regions     %" PRIu64 " active, %" PRIu64 " to resync, %" PRIu64
	       " unsettled ranges\n",
		volume->active_regions, volume->resync_regions, volume->unsettled_ranges);
	if (volume->unreadable_blocks > 0) {
		printf("unreadable  %" PRIu64
		       " blocks that no replica gives: reads of them fail until they are written\n",
			volume->unreadable_blocks);
	}
	printf("requests    %" PRIu64 " reads (%s), %" PRIu64 " writes (%s), %" PRIu64
	       " flushes, %" PRIu64 " errors, %" PRIu64 " waiting\n",
		volume->reads, size_cell(volume->bytes_read, read), volume->writes,
		size_cell(volume->bytes_written, written), volume->flushes, volume->errors,
		volume->waiting);
}

/* After a change: the volume as JSON, or one line. */
static int changed(struct cli *cli, Strake__V1__Volume *volume, const char *what)
{
	if (cli->args.output == OUTPUT_JSON) {
		json_print_message(&volume->base, stdout);
	} else {
		printf("volume %s %s: %s%s%s\n", volume->name, what, volume->state,
			volume->reason[0] != '\0' ? ": " : "", volume->reason);
	}
	cli_free(volume);
	return 0;
}

int volume_status(struct cli *cli)
{
	Strake__V1__Volume *volume = NULL;
	const struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	if (cli->args.output == OUTPUT_JSON) {
		json_print_message(&volume->base, stdout);
	} else {
		print_volume(volume, nexus);
		printf("\n");
		print_replicas(cli, volume);
	}
	cli_free(volume);
	return 0;
}

/* ---- list ---- */

static void add_row(struct table *table, const Strake__V1__Volume *volume, const char *nexus)
{
	char size[SIZE_TEXT_SIZE];
	unsigned online = 0, data = 0;

	for (size_t i = 0; i < volume->n_replicas; i++) {
		if (strcmp(volume->replicas[i]->kind, "data") == 0) {
			online += strcmp(volume->replicas[i]->state, "Online") == 0;
			data++;
		}
	}
	table_cell(table, "%s", volume->name);
	table_cell(table, "%s", volume->state);
	table_cell(table, "%s", size_to_text(volume->size_bytes, size));
	table_cell(table, "%u of %u", online, data);
	table_cell(table, "%s", text_cell(volume->frontend));
	table_cell(
		table, "%s", text_cell(volume->device[0] != '\0' ? volume->device : volume->nqn));
	table_cell(table, "%s", nexus);
	table_cell(table, "%s", text_cell(volume->reason));
}

int volume_list(struct cli *cli)
{
	static const char *const headers[] = {
		"NAME", "STATE", "SIZE", "IN-SYNC", "FRONTEND", "DEVICE", "NEXUS", "REASON"};
	Strake__V1__ListVolumesRequest request = STRAKE__V1__LIST_VOLUMES_REQUEST__INIT;
	Strake__V1__ListVolumesResponse *lists[DAEMONS_MAX];
	const ProtobufCMessage **messages = NULL;
	struct daemon *nexus;
	size_t count = 0;
	unsigned list_count = 0;
	int result = 0;

	if (cli_discover(cli) < 0) {
		return 1;
	}
	struct table *table = table_new(ARRAY_COUNT(headers), headers);

	for (unsigned i = 0; (nexus = cli_daemon(cli, DAEMON_NEXUS, i)) != NULL; i++) {
		struct err err = {0};
		Strake__V1__ListVolumesResponse *list =
			cli_call(nexus, "ListVolumes", &request.base, &err);

		if (list == NULL) {
			result = cli_fail("%s: %s", nexus->name, err.text);
			continue;
		}
		lists[list_count++] = list;
		messages = reallocarray(messages, count + list->n_volumes + 1, sizeof(*messages));
		if (messages == NULL) {
			abort();
		}
		for (size_t j = 0; j < list->n_volumes; j++) {
			messages[count++] = &list->volumes[j]->base;
			add_row(table, list->volumes[j], nexus->name);
		}
	}
	if (cli->args.output == OUTPUT_JSON) {
		json_print_messages(messages, count, stdout);
	} else {
		table_print(table, stdout);
	}
	table_free(table);
	free(messages);
	while (list_count > 0) {
		cli_free(lists[--list_count]);
	}
	return result;
}

/* ---- open, publish, unpublish, close ---- */

static Strake__V1__Volume *ask_volume(struct daemon *nexus, const char *name, struct err *err)
{
	Strake__V1__ListVolumesRequest request = STRAKE__V1__LIST_VOLUMES_REQUEST__INIT;

	request.name = text_of(name);
	Strake__V1__ListVolumesResponse *list = cli_call(nexus, "ListVolumes", &request.base, err);
	Strake__V1__Volume *volume = NULL;

	if (list != NULL && list->n_volumes == 1) {
		volume = list->volumes[0];
		list->n_volumes = 0;
	}
	cli_free(list);
	return volume;
}

/* Until the volume serves, or has failed, or the time is over.  Takes and gives a volume; NULL
 * after an error text. */
static Strake__V1__Volume *wait_until_serving(
	struct cli *cli, struct daemon *nexus, Strake__V1__Volume *volume)
{
	unsigned limit_ms = (cli->args.timeout_s != 0 ? cli->args.timeout_s : 60) * 1000;
	unsigned degraded_ms = 0;
	struct err err = {0};

	for (unsigned waited_ms = 0;; waited_ms += POLL_MS) {
		degraded_ms = is_state(volume, "Degraded") ? degraded_ms + POLL_MS : 0;
		if (is_state(volume, "Online") || degraded_ms > DEGRADED_MS_MAX) {
			return volume;
		}
		if (is_state(volume, "Faulted") || is_state(volume, "Superseded") ||
			is_state(volume, "Closed") || waited_ms >= limit_ms) {
			(void)cli_fail("volume %s does not serve: %s%s%s; `strake volume status "
				       "%s` tells more",
				volume->name, volume->state, volume->reason[0] != '\0' ? ": " : "",
				volume->reason, volume->name);
			cli_free(volume);
			return NULL;
		}
		cli_pause_ms(POLL_MS);
		cli_free(volume);
		volume = ask_volume(nexus, cli->args.name, &err);
		if (volume == NULL) {
			(void)cli_fail("%s: %s", nexus->name, err.text);
			return NULL;
		}
	}
}

/* With --key-file: what shows the replicas that this attachment to this nexus is meant. */
static int add_capability(struct cli *cli, const struct daemon *nexus,
	const Strake__V1__Volume *volume, Strake__V1__OpenVolumeRequest *request,
	uint8_t bytes[CAPABILITY_ENCODED_SIZE])
{
	struct capability capability;
	struct volume_key key;
	struct uuid uuid, node;
	int result = cli_volume_key(&cli->args, volume->uuid, &key);

	if (result != 0 || key.number == 0) {
		return result;
	}
	if (uuid_parse(volume->uuid, &uuid) < 0 || uuid_parse(nexus->nexus->uuid, &node) < 0) {
		return cli_fail("%s: its uuid, or the volume's, is malformed", nexus->name);
	}
	/* An attach number that rises between this and the opening is refused. */
	request->attach = request->attach != 0 ? request->attach : volume->attach;
	capability_make(&key, &uuid, request->attach, &node, &capability);
	capability_encode(&capability, bytes);
	request->capability = (ProtobufCBinaryData){CAPABILITY_ENCODED_SIZE, bytes};
	return 0;
}

int volume_open(struct cli *cli)
{
	Strake__V1__OpenVolumeRequest request = STRAKE__V1__OPEN_VOLUME_REQUEST__INIT;
	uint8_t bytes[CAPABILITY_ENCODED_SIZE];
	Strake__V1__Volume *volume = NULL;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	request.name = text_of(cli->args.name);
	request.attach = cli->args.attach;
	int result = add_capability(cli, nexus, volume, &request, bytes);

	cli_free(volume);
	if (result != 0) {
		return result;
	}
	volume = cli_call(nexus, "OpenVolume", &request.base, &err);
	if (volume == NULL) {
		return cli_fail("%s: %s", nexus->name, err.text);
	}
	if (cli->args.wait) {
		volume = wait_until_serving(cli, nexus, volume);
	}
	return volume == NULL ? 1 : changed(cli, volume, "opened");
}

/* Asks the nexus that has the volume, and says what was done. */
static int change(struct cli *cli, const char *method, ProtobufCMessage *request, const char *what)
{
	Strake__V1__Volume *volume = NULL;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	cli_free(volume);
	volume = cli_call(nexus, method, request, &err);
	if (volume == NULL) {
		return cli_fail("%s: %s", nexus->name, err.text);
	}
	return changed(cli, volume, what);
}

int volume_set(struct cli *cli)
{
	Strake__V1__SetVolumeRequest request = STRAKE__V1__SET_VOLUME_REQUEST__INIT;

	if (cli->args.min_insync == 0 && !cli->args.has_no_quorum) {
		(void)cli_fail("volume set needs --min-insync or --on-no-quorum");
		return EXIT_USAGE;
	}
	request.name = text_of(cli->args.name);
	request.set_min_insync = cli->args.min_insync != 0;
	request.min_insync = cli->args.min_insync;
	request.set_no_quorum = cli->args.has_no_quorum;
	request.no_quorum_s = cli->args.no_quorum_s;
	return change(cli, "SetVolume", &request.base, "changed");
}

int volume_resize(struct cli *cli)
{
	Strake__V1__ResizeVolumeRequest request = STRAKE__V1__RESIZE_VOLUME_REQUEST__INIT;

	if (cli->args.size_bytes == 0) {
		(void)cli_fail("volume resize needs --size");
		return EXIT_USAGE;
	}
	request.name = text_of(cli->args.name);
	request.size_bytes = cli->args.size_bytes;
	return change(cli, "ResizeVolume", &request.base, "resized");
}

int volume_publish(struct cli *cli)
{
	Strake__V1__PublishVolumeRequest request = STRAKE__V1__PUBLISH_VOLUME_REQUEST__INIT;
	Strake__V1__Volume *volume = NULL;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	cli_free(volume);
	request.name = text_of(cli->args.name);
	request.frontend = text_of(cli->args.frontend);
	volume = cli_call(nexus, "PublishVolume", &request.base, &err);
	if (volume == NULL) {
		return cli_fail("%s: %s", nexus->name, err.text);
	}
	if (cli->args.output == OUTPUT_JSON) {
		json_print_message(&volume->base, stdout);
	} else if (volume->nqn[0] != '\0') {
		printf("%s at %s\n", volume->nqn, volume->address);
	} else {
		printf("%s\n", volume->device);
	}
	cli_free(volume);
	return 0;
}

int volume_unpublish(struct cli *cli)
{
	Strake__V1__UnpublishVolumeRequest request = STRAKE__V1__UNPUBLISH_VOLUME_REQUEST__INIT;
	Strake__V1__Volume *volume = NULL;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	cli_free(volume);
	request.name = text_of(cli->args.name);
	request.force = cli->args.force;
	volume = cli_call(nexus, "UnpublishVolume", &request.base, &err);
	return volume == NULL ? cli_fail("%s: %s", nexus->name, err.text)
			      : changed(cli, volume, "unpublished");
}

int volume_close(struct cli *cli)
{
	Strake__V1__CloseVolumeRequest request = STRAKE__V1__CLOSE_VOLUME_REQUEST__INIT;
	Strake__V1__Volume *volume = NULL;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	cli_free(volume);
	request.name = text_of(cli->args.name);
	volume = cli_call(nexus, "CloseVolume", &request.base, &err);
	return volume == NULL ? cli_fail("%s: %s", nexus->name, err.text)
			      : changed(cli, volume, "closed");
}

/* ---- delete ---- */

/* Before anything is deleted: every agent must be there, or its replica would stay behind. */
static int check_agents(struct cli *cli, const Strake__V1__Volume *volume)
{
	for (size_t i = 0; i < volume->n_replicas; i++) {
		if (cli_find_agent(cli, volume->replicas[i]->agent) == NULL) {
			return cli_fail("volume %s: the pool-agent %s at %s, which has its replica "
					"%s, does not answer in "
					"%s; start it and try again, or, for replicas on other "
					"machines, see --keep-replicas",
				volume->name, volume->replicas[i]->agent,
				volume->replicas[i]->address, volume->replicas[i]->uuid,
				cli->args.run_dir);
		}
	}
	return 0;
}

static int delete_replicas(struct cli *cli, const Strake__V1__Volume *volume)
{
	int result = 0;

	for (size_t i = 0; i < volume->n_replicas; i++) {
		Strake__V1__DeleteReplicaRequest request = STRAKE__V1__DELETE_REPLICA_REQUEST__INIT;
		struct daemon *agent = cli_find_agent(cli, volume->replicas[i]->agent);
		struct err err = {0};

		request.uuid = volume->replicas[i]->uuid;
		void *response = cli_call(agent, "DeleteReplica", &request.base, &err);

		if (response == NULL && err.code != -ENOENT) {
			result = cli_fail("volume %s is deleted, but its replica on %s is not: %s; "
					  "try `strake replica "
					  "delete %s`",
				volume->name, agent->name, err.text, request.uuid);
		}
		cli_free(response);
	}
	return result;
}

static void print_kept(const Strake__V1__Volume *volume)
{
	printf("volume %s is forgotten; its replicas are kept:\n", volume->name);
	for (size_t i = 0; i < volume->n_replicas; i++) {
		printf("  on the machine of %s: strake replica delete %s\n",
			volume->replicas[i]->address, volume->replicas[i]->uuid);
	}
}

int volume_delete(struct cli *cli)
{
	Strake__V1__DeleteVolumeRequest request = STRAKE__V1__DELETE_VOLUME_REQUEST__INIT;
	Strake__V1__Volume *volume = NULL;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	bool keep = cli->args.keep_replicas;
	int result = keep ? 0 : check_agents(cli, volume);

	if (result == 0) {
		request.name = text_of(cli->args.name);
		/* The nexus refuses a volume that is open or published; its word comes before any
		 * replica goes. */
		void *response = cli_call(nexus, "DeleteVolume", &request.base, &err);

		result = response == NULL ? cli_fail("%s: %s", nexus->name, err.text)
			 : keep           ? 0
					  : delete_replicas(cli, volume);
		cli_free(response);
	}
	if (result == 0 && cli->args.output != OUTPUT_JSON) {
		if (keep) {
			print_kept(volume);
		} else {
			printf("volume %s deleted\n", volume->name);
		}
	}
	cli_free(volume);
	return result;
}

/* ---- compare ---- */

static int compare_verdict(struct cli *cli, const Strake__V1__CompareVolumeResponse *response)
{
	unsigned good = 0;

	if (response->error[0] != '\0') {
		return cli_fail("volume %s was not compared: %s", cli->args.name, response->error);
	}
	for (size_t i = 0; i < response->n_replicas; i++) {
		good += response->replicas[i]->error[0] == '\0';
	}
	if (response->differs) {
		printf("volume %s DIFFERS, first at byte offset %" PRIu64 "\n", cli->args.name,
			response->first_difference);
		return 1;
	}
	if (good < response->n_replicas) {
		return cli_fail("volume %s: only %u of %zu replicas could be compared; wait until "
				"it is Online",
			cli->args.name, good, response->n_replicas);
	}
	printf("volume %s: %u replicas are equal\n", cli->args.name, good);
	return 0;
}

static int compare_report(struct cli *cli, const Strake__V1__CompareVolumeResponse *response)
{
	static const char *const headers[] = {"REPLICA", "BYTES", "SHA-256"};
	struct table *table = table_new(ARRAY_COUNT(headers), headers);

	for (size_t i = 0; i < response->n_replicas; i++) {
		const Strake__V1__CompareReplica *replica = response->replicas[i];

		table_cell(table, "%s", replica->uuid);
		table_cell(table, "%" PRIu64, replica->bytes);
		table_cell(table, "%s",
			replica->error[0] != '\0' ? replica->error : text_cell(replica->sha256));
	}
	if (cli->args.output == OUTPUT_JSON) {
		bool good = response->error[0] == '\0' && !response->differs;

		for (size_t i = 0; i < response->n_replicas; i++) {
			good = good && response->replicas[i]->error[0] == '\0';
		}
		json_print_message(&response->base, stdout);
		table_free(table);
		return good ? 0 : 1;
	}
	table_print(table, stdout);
	table_free(table);
	return compare_verdict(cli, response);
}

static void show_progress(const Strake__V1__CompareVolumeResponse *response)
{
	if (isatty(STDERR_FILENO) && response->size_bytes > 0) {
		(void)fprintf(stderr, "\r%3" PRIu64 " %% %s",
			response->done_bytes * 100 / response->size_bytes,
			response->running ? "" : "\r      \r");
	}
}

int volume_compare(struct cli *cli)
{
	Strake__V1__CompareVolumeRequest request = STRAKE__V1__COMPARE_VOLUME_REQUEST__INIT;
	Strake__V1__CompareVolumeResponse *response = NULL;
	Strake__V1__Volume *volume = NULL;
	struct err err = {0};
	struct daemon *nexus = cli_find_volume(cli, cli->args.name, &volume);

	if (nexus == NULL) {
		return 1;
	}
	cli_free(volume);
	request.name = text_of(cli->args.name);
	request.start = true;
	do {
		if (response != NULL) {
			cli_pause_ms(POLL_MS);
		}
		cli_free(response);
		response = cli_call(nexus, "CompareVolume", &request.base, &err);
		if (response == NULL) {
			return cli_fail("%s: %s", nexus->name, err.text);
		}
		request.start = false;
		show_progress(response);
	} while (response->running);
	int result = compare_report(cli, response);

	cli_free(response);
	return result;
}
