/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments, help, and the table of commands. */
#include "cli/command.h"

#include "base/bytes.h"
#include "base/size.h"
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum option_id {
	OPT_RUN_DIR,
	OPT_OUTPUT,
	OPT_HELP,
	OPT_VERSION,
	OPT_SIZE,
	OPT_DISK,
	OPT_WIPE,
	OPT_OVERCOMMIT,
	OPT_AGENT,
	OPT_POOL,
	OPT_NEXUS,
	OPT_LOCAL,
	OPT_VOTER,
	OPT_UUID,
	OPT_ARBITER,
	OPT_KEEP_REPLICAS,
	OPT_VOLUME,
	OPT_FRONTEND,
	OPT_REPLICAS,
	OPT_MIN_INSYNC,
	OPT_ON_NO_QUORUM,
	OPT_ATTACH,
	OPT_KEY_FILE,
	OPT_KEY_NUMBER,
	OPT_FORCE,
	OPT_FORGET,
	OPT_WAIT,
	OPT_TIMEOUT,
	OPT_PREVIOUS,
	OPT_FOLLOW,
	OPT_ACCEPT_DATA_LOSS,
	OPT_HALF_REBUILT,
	OPT_READ_ONLY,
	OPT_COUNT,
};

#define BIT(id)           (UINT64_C(1) << (id))
#define NO_QUORUM_ERROR_S 30
#define OPTION_0          1000 /* getopt's numbers, above the characters */

static const struct {
	const char *name;
	const char *argument; /* NULL: none */
	const char *help;
} options[OPT_COUNT] = {
	[OPT_RUN_DIR] = {"run-dir", "DIR",
		"folder of the daemons' sockets (STRAKE_RUN_DIR, else /run/strake)"},
	[OPT_OUTPUT] = {"output", "FORMAT", "-o: table, wide or json"},
	[OPT_HELP] = {"help", NULL, "-h: about the command"},
	[OPT_VERSION] = {"version", NULL, "of this program"},
	[OPT_SIZE] = {"size", "SIZE", "like 512M, 10G, 1T"},
	[OPT_DISK] = {"disk", "DISK",
		"/dev/NAME, or file:///PATH (made with --size when it is not there)"},
	[OPT_WIPE] = {"wipe", NULL, "take the disk even if it holds something else: THAT IS LOST"},
	[OPT_OVERCOMMIT] = {"overcommit", NULL,
		"also on pools that are smaller than the volume (it is thin)"},
	[OPT_AGENT] = {"agent", "NAME",
		"the pool-agent (its socket's name); several for volume create"},
	[OPT_POOL] = {"pool", "NAME", "the pool; may be repeated for volume create"},
	[OPT_NEXUS] = {"nexus", "NAME", "the nexus, when there are several"},
	[OPT_LOCAL] = {"local", "NAME",
		"the pool-agent of the nexus's own node, which is read from first (default: all of "
		"this machine, in turn)"},
	[OPT_VOTER] = {"voter", "VOTER",
		"replica=UUID,agent=UUID,address=HOST:PORT,nsid=N[,local][,arbiter]: a replica "
		"that is there already, here or on another machine; repeated for each"},
	[OPT_UUID] = {"uuid", "UUID", "of the volume (default: a new one)"},
	[OPT_ARBITER] = {"arbiter", NULL, "votes and has no data"},
	[OPT_KEEP_REPLICAS] = {"keep-replicas", NULL,
		"replicas are not deleted: that is done on their machines"},
	[OPT_VOLUME] = {"volume", "NAME", "only replicas of this volume"},
	[OPT_FRONTEND] = {"frontend", "KIND",
		"fuse (a block device here, default) or nvme (export over NVMe/TCP)"},
	[OPT_REPLICAS] = {"replicas", "N", "copies, each on another pool-agent (default 3)"},
	[OPT_MIN_INSYNC] = {"min-insync", "N",
		"copies that must have a write before it is acknowledged (default 1 of 2, 2 of 3)"},
	[OPT_ON_NO_QUORUM] = {"on-no-quorum", "WHAT",
		"when too few copies are reached: stall (requests wait, default), error (they fail "
		"after 30 s) or error:SECONDS"},
	[OPT_ATTACH] = {"attach", "N",
		"attach number: a higher one takes the volume over (default: as before)"},
	[OPT_KEY_FILE] = {"key-file", "FILE",
		"master secret, 64 hexadecimal digits: the volume can only be opened by who has "
		"it"},
	[OPT_KEY_NUMBER] = {"key-number", "N",
		"of the secret, raised with each new one (default 1)"},
	[OPT_FORCE] = {"force", NULL,
		"take the block device away even if it is mounted or cannot be written back: WHAT "
		"WAS NOT WRITTEN IS LOST"},
	[OPT_FORGET] = {"forget", NULL,
		"also when its disk is lost, faulted or not configured any more: the disk is left "
		"as it is, WHAT REPLICAS IT HAD ARE LOST"},
	[OPT_WAIT] = {"wait", NULL, "until the volume serves"},
	[OPT_TIMEOUT] = {"timeout", "SECONDS",
		"of the waiting (default 60 for a volume to serve, none for replicas)"},
	[OPT_PREVIOUS] = {"previous", NULL, "of the process before the one that runs"},
	[OPT_FOLLOW] = {"follow", NULL,
		"go on with what is written from now on, also by the next process"},
	[OPT_ACCEPT_DATA_LOSS] = {"accept-data-loss", NULL,
		"the replica becomes the volume: WHAT ONLY OTHERS HAVE IS LOST"},
	[OPT_HALF_REBUILT] = {"half-rebuilt", NULL,
		"also a replica in the middle of a rebuild: IT IS OLD IN SOME PLACES AND NEW IN "
		"OTHERS"},
	[OPT_READ_ONLY] = {"read-only", NULL,
		"nothing of it can be changed; also a replica of a volume that does not use it"},
};

static const struct command {
	const char *noun, *verb;
	const char *argument; /* "NAME", "NAME REPLICA", or NULL: takes none */
	uint64_t options;     /* besides the common ones */
	int (*run)(struct cli *cli);
	const char *help;
} commands[] = {
	{"pool", "create", "NAME", BIT(OPT_DISK) | BIT(OPT_SIZE) | BIT(OPT_WIPE) | BIT(OPT_AGENT),
		pool_create,
		"Makes a pool on a disk or in a file, for replicas to live in.\n"
		"  strake pool create p1 --disk file:///var/lib/strake/p1 --size 10G\n"
		"  strake pool create p2 --disk /dev/sdb --agent a"},
	{"pool", "list", NULL, 0, pool_list, "All pools of the pool-agents that answer."},
	{"pool", "show", "NAME", 0, pool_show, "One pool."},
	{"pool", "delete", "NAME", BIT(OPT_AGENT) | BIT(OPT_FORGET), pool_delete,
		"Deletes a pool that holds no replicas; its disk can be used again, a file that "
		"was "
		"made for it goes."},
	{"replica", "list", NULL, BIT(OPT_VOLUME) | BIT(OPT_POOL), replica_list,
		"All replicas, as the pool-agents know them."},
	{"replica", "show", "UUID", 0, replica_show,
		"One replica; the beginning of its uuid will do."},
	{"replica", "create", "NAME",
		BIT(OPT_POOL) | BIT(OPT_SIZE) | BIT(OPT_AGENT) | BIT(OPT_UUID) | BIT(OPT_ARBITER) |
			BIT(OPT_KEY_FILE) | BIT(OPT_KEY_NUMBER),
		replica_create,
		"Makes a single replica: for export, or for a volume across machines, NAME and "
		"--uuid being\n"
		"the volume's; prints the --voter to give to volume create.\n"
		"  strake replica create plain --pool p1 --size 1G\n"
		"  strake replica create db --uuid $(uuidgen) --pool p1 --size 1G"},
	{"replica", "delete", "UUID", 0, replica_delete,
		"Deletes a replica: ITS DATA IS LOST.  Volumes: use volume delete."},
	{"replica", "set-key", "UUID", BIT(OPT_KEY_FILE) | BIT(OPT_KEY_NUMBER), replica_set_key,
		"Gives a replica the key of a new master secret; the key before stays good.\n"
		"  strake replica set-key 0f5b --key-file new.key --key-number 2"},
	{"replica", "export", "UUID", BIT(OPT_READ_ONLY), replica_export,
		"Shows a replica that no volume uses to any NVMe/TCP host; prints NQN and "
		"address.\n"
		"--read-only: one that was left behind by a forced recovery, to save what is on "
		"it."},
	{"replica", "unexport", "UUID", 0, replica_unexport, "Ends the export."},
	{"volume", "create", "NAME",
		BIT(OPT_SIZE) | BIT(OPT_REPLICAS) | BIT(OPT_MIN_INSYNC) | BIT(OPT_POOL) |
			BIT(OPT_ON_NO_QUORUM) | BIT(OPT_AGENT) | BIT(OPT_NEXUS) |
			BIT(OPT_OVERCOMMIT) | BIT(OPT_LOCAL) | BIT(OPT_VOTER) | BIT(OPT_UUID) |
			BIT(OPT_KEY_FILE) | BIT(OPT_KEY_NUMBER),
		volume_create,
		"Makes a volume: its replicas on different pool-agents, those with the most free "
		"space first.\n"
		"An even number of replicas gets an arbiter on one agent more, when there is one.\n"
		"  strake volume create db --size 10G\n"
		"  strake volume create db --size 10G --replicas 3 --pool p1 --pool p2 --pool p3\n"
		"Across machines: strake replica create on each, then here the volume of them.\n"
		"  strake volume create db --size 10G --uuid UUID --voter "
		"replica=UUID,agent=UUID,address=10.0.0.2:4430,nsid=1 ..."},
	{"volume", "open", "NAME",
		BIT(OPT_ATTACH) | BIT(OPT_WAIT) | BIT(OPT_TIMEOUT) | BIT(OPT_NEXUS) |
			BIT(OPT_KEY_FILE) | BIT(OPT_KEY_NUMBER),
		volume_open,
		"Opens a volume on the nexus; it stays open, also after a restart, until it is "
		"closed."},
	{"volume", "set", "NAME", BIT(OPT_MIN_INSYNC) | BIT(OPT_ON_NO_QUORUM) | BIT(OPT_NEXUS),
		volume_set,
		"Changes a volume, also while it is in use.\n"
		"  strake volume set db --min-insync 1\n"
		"  strake volume set db --on-no-quorum error:60"},
	{"volume", "resize", "NAME", BIT(OPT_SIZE) | BIT(OPT_NEXUS), volume_resize,
		"Makes an open volume bigger, also while it is in use; then make the file system "
		"bigger.\n"
		"  strake volume resize db --size 20G && resize2fs /dev/loop0"},
	{"snapshot", "create", "VOLUME NAME", BIT(OPT_NEXUS), snapshot_create,
		"Makes a snapshot of an open volume, while it is used; again with the same name "
		"does no harm.\n"
		"All of its replicas must lie in pools that have snapshots (pool format 1)."},
	{"snapshot", "list", "VOLUME", BIT(OPT_NEXUS), snapshot_list,
		"The snapshots of an open volume."},
	{"volume", "publish", "NAME", BIT(OPT_FRONTEND) | BIT(OPT_NEXUS), volume_publish,
		"Shows an open volume as a block device of this machine, or over NVMe/TCP.\n"
		"Prints the device, or NQN and address."},
	{"volume", "status", "NAME", BIT(OPT_NEXUS), volume_status,
		"State, counters and replicas of a volume."},
	{"volume", "list", NULL, 0, volume_list, "All volumes of the nexuses that answer."},
	{"volume", "unpublish", "NAME", BIT(OPT_NEXUS) | BIT(OPT_FORCE), volume_unpublish,
		"Takes the block device or export away; unmount it first."},
	{"volume", "close", "NAME", BIT(OPT_NEXUS), volume_close,
		"Closes a volume that is not published."},
	{"volume", "delete", "NAME", BIT(OPT_NEXUS) | BIT(OPT_KEEP_REPLICAS), volume_delete,
		"Deletes a closed volume and its replicas: ITS DATA IS LOST."},
	{"volume", "add-replica", "NAME",
		BIT(OPT_POOL) | BIT(OPT_AGENT) | BIT(OPT_ARBITER) | BIT(OPT_OVERCOMMIT) |
			BIT(OPT_LOCAL) | BIT(OPT_VOTER) | BIT(OPT_WAIT) | BIT(OPT_TIMEOUT) |
			BIT(OPT_NEXUS) | BIT(OPT_KEY_FILE) | BIT(OPT_KEY_NUMBER),
		volume_add_replica,
		"Adds a replica, or an arbiter, to an open volume, on a pool-agent that has none "
		"of "
		"it.\n"
		"--wait: until it has all data.  Given again after it was broken off, it goes on.\n"
		"  strake volume add-replica db --pool p4 --wait\n"
		"  strake volume add-replica db --arbiter\n"
		"--voter: one that is there already, as replica create on another machine prints "
		"it; "
		"also tells\n"
		"where a voter is found of which the status says `place unknown`."},
	{"volume", "remove-replica", "NAME REPLICA",
		BIT(OPT_NEXUS) | BIT(OPT_TIMEOUT) | BIT(OPT_KEEP_REPLICAS), volume_remove_replica,
		"Removes a replica or arbiter from an open volume and deletes it; the beginning of "
		"its uuid\n"
		"will do.  Refused while it cannot be spared."},
	{"volume", "move-replica", "NAME REPLICA",
		BIT(OPT_POOL) | BIT(OPT_AGENT) | BIT(OPT_OVERCOMMIT) | BIT(OPT_LOCAL) |
			BIT(OPT_TIMEOUT) | BIT(OPT_NEXUS) | BIT(OPT_KEEP_REPLICAS) |
			BIT(OPT_KEY_FILE) | BIT(OPT_KEY_NUMBER),
		volume_move_replica,
		"Makes a new replica in another pool, waits until it has all data, and removes the "
		"old one.\n"
		"Given again after it was broken off, it goes on.\n"
		"  strake volume move-replica db 1b9d6bcd --pool p4"},
	{"volume", "compare", "NAME", BIT(OPT_NEXUS), volume_compare,
		"Reads every replica directly and compares them; the volume stays in use.\n"
		"Exit code 1 when they differ, with the first differing byte offset."},
	{"volume", "scan", NULL, 0, volume_scan,
		"The volumes that the replicas found here belong to, also those that no nexus "
		"knows: deleted\n"
		"while a pool was away, or lost with the nexus's state (then: volume import)."},
	{"volume", "import", "NAME", BIT(OPT_NEXUS) | BIT(OPT_UUID) | BIT(OPT_MIN_INSYNC),
		volume_import,
		"Records a volume on the nexus again, from its replicas that are found here.\n"
		"  strake volume import db && strake volume open db --attach 7 --wait"},
	{"volume", "recover", "NAME REPLICA",
		BIT(OPT_ACCEPT_DATA_LOSS) | BIT(OPT_HALF_REBUILT) | BIT(OPT_NEXUS) | BIT(OPT_LOCAL),
		volume_recover,
		"When every replica in sync, or the majority, is lost for good: REPLICA, with what "
		"it has,\n"
		"becomes the volume.  Without --accept-data-loss it only says what is known.  "
		"Others that come\n"
		"back later are left behind: none of the volume, and kept until they are "
		"deleted.\n"
		"  strake volume recover db 1b9d6bcd\n"
		"  strake volume recover db 1b9d6bcd --accept-data-loss"},
	{"daemon", "list", NULL, 0, daemon_list, "The daemons that answer on this machine."},
	{"daemon", "trace", "NAME", BIT(OPT_PREVIOUS) | BIT(OPT_FOLLOW), daemon_trace,
		"What a pool-agent or nexus did last, point by point; it need not live any more.\n"
		"  strake daemon trace nexus --previous      after a crash"},
};

#define COMMON_OPTIONS (BIT(OPT_RUN_DIR) | BIT(OPT_OUTPUT) | BIT(OPT_HELP))

/* ---- help ---- */

static void print_options(FILE *to, uint64_t mask)
{
	for (unsigned id = 0; id < OPT_COUNT; id++) {
		if ((mask & BIT(id)) != 0) {
			char text[40];

			(void)snprintf(text, sizeof(text), "--%s%s%s", options[id].name,
				options[id].argument != NULL ? " " : "",
				options[id].argument != NULL ? options[id].argument : "");
			(void)fprintf(to, "  %-20s %s\n", text, options[id].help);
		}
	}
}

static void print_command(FILE *to, const struct command *command)
{
	(void)fprintf(to, "usage: strake %s %s%s%s [options]\n\n%s\n\n", command->noun,
		command->verb, command->argument != NULL ? " " : "",
		command->argument != NULL ? command->argument : "", command->help);
	print_options(to, command->options | COMMON_OPTIONS);
}

static void print_help(FILE *to, const char *noun)
{
	(void)fprintf(to, "usage: strake NOUN VERB [NAME] [options]\n\n"
			  "Drives the Strake daemons of this machine.\n\n");
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		const struct command *command = &commands[i];

		if (noun == NULL || strcmp(noun, command->noun) == 0) {
			char text[40];

			(void)snprintf(text, sizeof(text), "%s %s%s%s", command->noun,
				command->verb, command->argument != NULL ? " " : "",
				command->argument != NULL ? command->argument : "");
			(void)fprintf(to, "  strake %-22s %.*s\n", text,
				(int)strcspn(command->help, "\n"), command->help);
		}
	}
	if (noun == NULL) {
		(void)fprintf(to, "\nA first volume:\n"
				  "  strake pool create p1 --agent a --disk "
				  "file:///var/lib/strake/p1 --size 10G\n"
				  "  (and one on each other pool-agent)\n"
				  "  strake volume create db --size 4G\n"
				  "  strake volume open db --wait\n"
				  "  strake volume publish db\n"
				  "  strake volume status db\n\nEverywhere:\n");
		print_options(to, COMMON_OPTIONS | BIT(OPT_VERSION));
		(void)fprintf(to, "\n`strake NOUN VERB --help` tells more.  Exit codes: 0 done, 1 "
				  "it did not work, "
				  "2 wrong usage.\n");
	}
}

/* ---- arguments ---- */

static int usage(const char *text, const char *value)
{
	(void)cli_fail("%s \"%s\"; usage: strake NOUN VERB [NAME] [options], see strake --help",
		text, value);
	return EXIT_USAGE;
}

static int parse_number(enum option_id id, const char *text, unsigned *ret_number)
{
	char *end;

	errno = 0;
	unsigned long number = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number == 0 ||
		number > UINT32_MAX) {
		(void)cli_fail("--%s: \"%s\" is no whole number above 0", options[id].name, text);
		return EXIT_USAGE;
	}
	*ret_number = (unsigned)number;
	return 0;
}

static int parse_no_quorum(const char *text, unsigned *ret_seconds)
{
	if (strcmp(text, "stall") == 0) {
		*ret_seconds = 0;
		return 0;
	}
	if (strcmp(text, "error") == 0) {
		*ret_seconds = NO_QUORUM_ERROR_S;
		return 0;
	}
	if (strncmp(text, "error:", 6) == 0) {
		return parse_number(OPT_ON_NO_QUORUM, text + 6, ret_seconds);
	}
	return usage("--on-no-quorum is stall, error or error:SECONDS, not", text);
}

static int parse_output(struct args *args, const char *text)
{
	if (strcmp(text, "json") == 0) {
		args->output = OUTPUT_JSON;
	} else if (strcmp(text, "wide") == 0) {
		args->output = OUTPUT_WIDE;
	} else if (strcmp(text, "table") == 0) {
		args->output = OUTPUT_TABLE;
	} else {
		return usage("--output is table, wide or json, not", text);
	}
	return 0;
}

static int add_name(enum option_id id, struct names *names, const char *name)
{
	if (names->count == NAMES_MAX) {
		return usage("given too often: --", options[id].name);
	}
	names->names[names->count++] = name;
	return 0;
}

static int parse_size(struct args *args, const char *text)
{
	struct err err = {0};

	args->has_size = true;
	if (size_parse(text, &args->size_bytes, &err) < 0) {
		(void)cli_fail("--size: %s", err.text);
		return EXIT_USAGE;
	}
	return 0;
}

static int parse_uuid(struct args *args, const char *text)
{
	args->has_uuid = true;
	if (uuid_parse(text, &args->uuid) < 0 || uuid_is_nil(&args->uuid)) {
		(void)cli_fail("--uuid: \"%s\" is no uuid", text);
		return EXIT_USAGE;
	}
	return 0;
}

/* Options without a value. */
static void take_flag(struct args *args, enum option_id id)
{
	args->wipe |= id == OPT_WIPE;
	args->overcommit |= id == OPT_OVERCOMMIT;
	args->arbiter |= id == OPT_ARBITER;
	args->keep_replicas |= id == OPT_KEEP_REPLICAS;
	args->force |= id == OPT_FORCE;
	args->forget |= id == OPT_FORGET;
	args->wait |= id == OPT_WAIT;
	args->previous |= id == OPT_PREVIOUS;
	args->follow |= id == OPT_FOLLOW;
	args->accept_data_loss |= id == OPT_ACCEPT_DATA_LOSS;
	args->half_rebuilt |= id == OPT_HALF_REBUILT;
	args->read_only |= id == OPT_READ_ONLY;
}

static int take_option(struct args *args, enum option_id id, const char *value)
{
	switch (id) {
	case OPT_RUN_DIR:
		args->run_dir = value;
		return 0;
	case OPT_OUTPUT:
		return parse_output(args, value);
	case OPT_SIZE:
		return parse_size(args, value);
	case OPT_DISK:
		args->disk = value;
		return 0;
	case OPT_AGENT:
		return add_name(id, &args->agents, value);
	case OPT_POOL:
		return add_name(id, &args->pools, value);
	case OPT_NEXUS:
		args->nexus = value;
		return 0;
	case OPT_LOCAL:
		return add_name(id, &args->locals, value);
	case OPT_VOTER:
		return add_name(id, &args->voters, value);
	case OPT_UUID:
		return parse_uuid(args, value);
	case OPT_VOLUME:
		args->volume = value;
		return 0;
	case OPT_FRONTEND:
		args->frontend = value;
		return 0;
	case OPT_REPLICAS:
		return parse_number(id, value, &args->replicas);
	case OPT_MIN_INSYNC:
		return parse_number(id, value, &args->min_insync);
	case OPT_ON_NO_QUORUM:
		args->has_no_quorum = true;
		return parse_no_quorum(value, &args->no_quorum_s);
	case OPT_ATTACH:
		return parse_number(id, value, &args->attach);
	case OPT_KEY_FILE:
		args->key_file = value;
		return 0;
	case OPT_KEY_NUMBER:
		return parse_number(id, value, &args->key_number);
	case OPT_TIMEOUT:
		return parse_number(id, value, &args->timeout_s);
	case OPT_WIPE:
	case OPT_OVERCOMMIT:
	case OPT_ARBITER:
	case OPT_KEEP_REPLICAS:
	case OPT_FORCE:
	case OPT_FORGET:
	case OPT_WAIT:
	case OPT_PREVIOUS:
	case OPT_FOLLOW:
	case OPT_ACCEPT_DATA_LOSS:
	case OPT_HALF_REBUILT:
	case OPT_READ_ONLY:
		take_flag(args, id);
		return 0;
	case OPT_HELP:
	case OPT_VERSION:
	case OPT_COUNT:
		break;
	}
	return 0;
}

/* 0, or the exit code of wrong usage.  *ret_given has the bits of the options. */
static int parse_options(int argc, char **argv, struct args *args, uint64_t *ret_given)
{
	struct option table[OPT_COUNT + 1] = {0};
	int found;

	for (unsigned id = 0; id < OPT_COUNT; id++) {
		table[id].name = options[id].name;
		table[id].has_arg = options[id].argument != NULL ? required_argument : no_argument;
		table[id].val = OPTION_0 + (int)id;
	}
	*ret_given = 0;
	while ((found = getopt_long(argc, argv, "o:h", table, NULL)) != -1) {
		unsigned id = found == 'o'   ? OPT_OUTPUT
			      : found == 'h' ? OPT_HELP
					     : (unsigned)(found - OPTION_0);

		if (found == '?') {
			(void)fputs("strake: usage: see strake --help\n", stderr);
			return EXIT_USAGE;
		}
		*ret_given |= BIT(id);
		int result = take_option(args, (enum option_id)id, optarg);

		if (result != 0) {
			return result;
		}
	}
	return 0;
}

static const struct command *find_command(const char *noun, const char *verb)
{
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		if (strcmp(commands[i].noun, noun) == 0 && strcmp(commands[i].verb, verb) == 0) {
			return &commands[i];
		}
	}
	return NULL;
}

static bool is_noun(const char *noun)
{
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		if (strcmp(commands[i].noun, noun) == 0) {
			return true;
		}
	}
	return false;
}

static int run_command(
	struct cli *cli, const struct command *command, uint64_t given, int argc, char **argv)
{
	uint64_t allowed = command->options | COMMON_OPTIONS;

	if ((given & BIT(OPT_HELP)) != 0) {
		print_command(stdout, command);
		return 0;
	}
	for (unsigned id = 0; id < OPT_COUNT; id++) {
		if ((given & BIT(id)) != 0 && (allowed & BIT(id)) == 0) {
			(void)cli_fail("--%s has no meaning for %s %s; see strake %s %s --help",
				options[id].name, command->noun, command->verb, command->noun,
				command->verb);
			return EXIT_USAGE;
		}
	}
	int wanted = command->argument == NULL ? 2 : strchr(command->argument, ' ') == NULL ? 3 : 4;

	if (argc > wanted) {
		return usage("unexpected argument", argv[argc - 1]);
	}
	if (argc < wanted || (wanted > 2 && argv[wanted - 1][0] == '\0')) {
		(void)cli_fail("%s is missing; usage: strake %s %s %s", command->argument,
			command->noun, command->verb, command->argument);
		return EXIT_USAGE;
	}
	cli->args.name = argc >= 3 ? argv[2] : NULL;
	cli->args.second = argc == 4 ? argv[3] : NULL;
	int result = command->run(cli);

	cli_done(cli);
	return result;
}

int command_main(int argc, char **argv)
{
	struct cli cli = {0};
	const char *run_dir = getenv("STRAKE_RUN_DIR");
	uint64_t given;

	cli.args.run_dir = run_dir != NULL && run_dir[0] != '\0' ? run_dir : "/run/strake";
	int result = parse_options(argc, argv, &cli.args, &given);

	if (result != 0) {
		return result;
	}
	argv += optind;
	argc -= optind;
	if ((given & BIT(OPT_VERSION)) != 0) {
		printf("strake %s\n", STRAKE_VERSION);
		return 0;
	}
	if (argc == 0 || strcmp(argv[0], "help") == 0) {
		bool asked = argc > 0 || (given & BIT(OPT_HELP)) != 0;

		print_help(asked ? stdout : stderr, argc > 1 ? argv[1] : NULL);
		return asked ? 0 : EXIT_USAGE;
	}
	if (!is_noun(argv[0])) {
		return usage("unknown command", argv[0]);
	}
	if (argc == 1) {
		print_help((given & BIT(OPT_HELP)) != 0 ? stdout : stderr, argv[0]);
		return (given & BIT(OPT_HELP)) != 0 ? 0 : EXIT_USAGE;
	}
	const struct command *command = find_command(argv[0], argv[1]);

	return command == NULL ? usage("unknown command", argv[1])
			       : run_command(&cli, command, given, argc, argv);
}
