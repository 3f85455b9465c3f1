/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/mutant.h"
#include "daemon/address.h"
#include "nexus/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define PROGRAM        "nexus"
#define CONFIG_DEFAULT "/etc/strake/nexus.yaml"
/* Calls in flight may end before they are cancelled. */
#define SERVE_GRACE_MS 5000

static const struct config_key keys[] = {
	DAEMON_CONFIG_KEYS,
	{"uuid", CONFIG_STRING, false, NULL, 36, 36,
		"the nexus's id; made and kept in the state folder when not given"},
	{"node", CONFIG_STRING, false, NULL, 1, 253,
		"the name of the Kubernetes Node, from which the id follows"},
	{"export.address", CONFIG_STRING, false, "127.0.0.1", 1, 80,
		"where volumes that are published over NVMe/TCP are found: " DAEMON_ADDRESS_HELP},
	{"export.port", CONFIG_UINT, false, "4431", 1, 65535,
		"the TCP port, when export.address has none"},
	{"min_insync", CONFIG_UINT, false, "0", 0, REPL_VOTERS_MAX,
		"the number of replicas that must have a write before it is acknowledged; 0: 1 of "
		"2, 2 of 3"},
	{"buffers", CONFIG_SIZE, false, "8M", 1u << 20, 1u << 30,
		"the memory for exported volumes' data"},
	{"absent", CONFIG_SIZE, false, "2M", 4096, 1u << 30,
		"the memory for what replicas that are away lack, of all volumes: 512 bytes for "
		"each 256 MiB in which something was written"},
	{"rebuild.max_concurrent", CONFIG_UINT, false, "4", 1, 10000,
		"rebuilds that copy at once; the others wait, those of volumes with the fewest "
		"replicas come first"},
	{"rebuild.min_rate", CONFIG_SIZE, false, "8M", 4096, UINT64_C(1) << 40,
		"bytes a second that all rebuilds together copy at least, however slow that makes "
		"the volumes"},
	{"rebuild.max_rate", CONFIG_SIZE, false, "0", 0, UINT64_C(1) << 40,
		"bytes a second that they copy at most, also while the volumes are idle; 0: no "
		"limit"},
};

struct nexus_program {
	struct config *config;
	struct daemon *daemon;
	struct control control;
};

static void control_stopped(void *ctx)
{
	struct nexus_program *program = ctx;

	daemon_quit(program->daemon, 0);
}

static void serving_stopped(void *ctx)
{
	struct nexus_program *program = ctx;

	control_stop(&program->control, control_stopped, program);
}

static void stop(void *ctx)
{
	struct nexus_program *program = ctx;

	daemon_stop_serving(program->daemon, SERVE_GRACE_MS, serving_stopped, program);
}

static int read_options(
	const struct config *config, struct control_options *ret_options, struct err *err)
{
	struct err why = {0};
	const char *uuid = config_string(config, "uuid");

	*ret_options = (struct control_options){
		.min_insync = (unsigned)config_number(config, "min_insync"),
		.buffer_bytes = config_number(config, "buffers"),
		.dirty_bytes = config_number(config, "absent"),
		.rebuilds = (unsigned)config_number(config, "rebuild.max_concurrent"),
		.rebuild_rate_min = config_number(config, "rebuild.min_rate"),
		.rebuild_rate_max = config_number(config, "rebuild.max_rate"),
	};
	if (uuid != NULL && uuid_parse(uuid, &ret_options->uuid) < 0) {
		return config_refuse(config, err, "uuid", "\"%s\" is no uuid", uuid);
	}
	if (config_string(config, "node") != NULL) {
		if (uuid != NULL) {
			return config_refuse(config, err, "uuid", "it follows from node");
		}
		capability_node(config_string(config, "node"), &ret_options->uuid);
	}
	if (daemon_address_parse(config_string(config, "export.address"),
		    (uint16_t)config_number(config, "export.port"), &ret_options->export_address,
		    &why) < 0) {
		return config_refuse(config, err, "export.address", "%s", why.text);
	}
	return 0;
}

static int run(
	struct nexus_program *program, const struct control_options *options, struct err *err)
{
	struct daemon_options daemon_options = {
		.program = PROGRAM,
		.config = program->config,
		.stop = stop,
		.ctx = program,
	};
	int result = daemon_new(&daemon_options, &program->daemon, err);

	result = result < 0 ? result : daemon_start_reactor(program->daemon, err);
	result = result < 0 ? result
			    : control_start(&program->control, program->daemon, options, err);
	result = result < 0 ? result
			    : daemon_serve(program->daemon, control_methods, control_method_count,
				      &program->control, err);
	if (result < 0) {
		return result;
	}
	daemon_set_ready(program->daemon, true);
	int code = daemon_run(program->daemon);

	daemon_free(program->daemon);
	config_free(program->config);
	return code;
}

int main(int argc, char **argv)
{
	struct nexus_program program = {0};
	struct control_options options;
	struct daemon_args args;
	struct err err = {0};
	int code = daemon_parse_args(argc, argv, PROGRAM, CONFIG_DEFAULT, &args);

	if (code >= 0) {
		return code;
	}
	if (config_load(args.config_path, keys, ARRAY_COUNT(keys), &program.config, &err) < 0 ||
		read_options(program.config, &options, &err) < 0) {
		(void)fprintf(stderr, PROGRAM ": %s\n", err.text);
		config_free(program.config);
		return 2;
	}
#ifdef STRAKE_MUTANTS
	mutant_active = MUTANT_CRASH;
#endif
	if (args.check_only) {
		printf("%s is good\n", args.config_path);
		config_free(program.config);
		return 0;
	}
	int result = run(&program, &options, &err);

	if (result < 0) {
		(void)fprintf(stderr, PROGRAM ": %s\n", err.text);
		/* Nothing was begun that needs an orderly end: what is on disk is always in order.
		 */
		_exit(1);
	}
	return result;
}
