/* SPDX-License-Identifier: Apache-2.0 */
/* The program: its configuration, start and end. */
#include "base/bytes.h"
#include "daemon/address.h"
#include "pool-agent/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STOP_GRACE_MS 3000u

static const struct config_key config_keys[] = {
	DAEMON_CONFIG_KEYS,
	{"address", CONFIG_STRING, false, "0.0.0.0:4430", 1, 80,
		"where the replicas are served over NVMe/TCP: " DAEMON_ADDRESS_HELP},
	{"buffers", CONFIG_SIZE, false, "8M", 1u << 20, UINT64_C(4) << 30,
		"memory for data in flight"},
	{"windows", CONFIG_UINT, false, "65536", 64, 1u << 24,
		"writes under way that are remembered exactly, of all replicas; 48 bytes each"},
	{"restart-wait", CONFIG_UINT, false, "10", 0, 10,
		"seconds that volumes wait for its replicas when it is stopped, before they do "
		"without; "
		"0: they do so at once"},
	{"connections", CONFIG_UINT, false, "128", 4, 4096, "NVMe/TCP connections at once"},
	{"pools[].name", CONFIG_STRING, true, NULL, 1, STORE_POOL_NAME_SIZE - 1, "the pool's name"},
	{"pools[].disk", CONFIG_STRING, true, NULL, 1, PATH_MAX - 1, "/dev/NAME, or file:///PATH"},
	{"pools[].size", CONFIG_SIZE, false, NULL, 0, 0,
		"of the file that is made when it is not there"},
};

struct program {
	struct daemon *daemon;
	struct control_options options;
	struct control control;
	bool starting, stop_asked;
	int exit_code;
};

static int options_read_pool(const struct config *config, struct control_options *options,
	unsigned index, struct err *err)
{
	struct control_pool_options *pool = &options->pools[index];
	struct err reason;
	char path[32];

	snprintf(pool->name, sizeof(pool->name), "%s",
		config_string(config, "pools[%u].name", index));
	snprintf(pool->disk, sizeof(pool->disk), "%s",
		config_string(config, "pools[%u].disk", index));
	pool->size_bytes = config_number(config, "pools[%u].size", index);
	snprintf(path, sizeof(path), "pools[%u].name", index);
	if (pool_name_check(pool->name, &reason) != 0) {
		return config_refuse(config, err, path, "%s", reason.text);
	}
	for (unsigned i = 0; i < index; i++) {
		if (strcmp(options->pools[i].name, pool->name) == 0) {
			return config_refuse(
				config, err, path, "pool %s is there twice", pool->name);
		}
	}
	snprintf(path, sizeof(path), "pools[%u].disk", index);
	if (pool_disk_check(pool->disk, &reason) != 0) {
		return config_refuse(config, err, path, "%s", reason.text);
	}
	if (pool->size_bytes % STORE_BLOCK_BYTES != 0) {
		snprintf(path, sizeof(path), "pools[%u].size", index);
		return config_refuse(config, err, path, "the size is not a multiple of 4096");
	}
	return 0;
}

static int options_read(
	const struct config *config, struct control_options *options, struct err *err)
{
	struct err reason;

	options->agent.buffer_bytes = config_number(config, "buffers");
	options->agent.window_entries = (uint32_t)config_number(config, "windows");
	options->agent.restart_wait_ms = 1000 * (uint32_t)config_number(config, "restart-wait");
	options->agent.queues_max = (unsigned)config_number(config, "connections");
	if (daemon_address_parse(config_string(config, "address"), 4430, &options->agent.address,
		    &reason) != 0) {
		return config_refuse(config, err, "address", "%s", reason.text);
	}
	options->pool_count = config_count(config, "pools");
	if (options->pool_count > AGENT_POOLS_MAX) {
		return config_refuse(config, err, "pools", "more than %d pools", AGENT_POOLS_MAX);
	}
	for (unsigned i = 0; i < options->pool_count; i++) {
		int result = options_read_pool(config, options, i, err);

		if (result != 0) {
			return result;
		}
	}
	return 0;
}

static void stopped(void *ctx)
{
	struct program *program = ctx;

	daemon_quit(program->daemon, program->exit_code);
}

static void stop(struct program *program)
{
	daemon_set_ready(program->daemon, false);
	control_stop(&program->control, STOP_GRACE_MS, stopped, program);
}

static void stop_asked(void *ctx)
{
	struct program *program = ctx;

	if (program->starting) {
		program->stop_asked = true;
	} else if (!program->control.stopping) {
		stop(program);
	}
}

/* Runs until asked to stop; what failed at start ends in the same order. */
static int program_run(struct program *program, struct err *err)
{
	int result = daemon_start_reactor(program->daemon, err);

	if (result != 0) {
		return result;
	}
	result = control_start(&program->control, program->daemon, &program->options, err);
	/* The socket comes last: whoever reaches it finds the pools decided. */
	if (result == 0) {
		result = daemon_serve(program->daemon, control_methods, control_method_count,
			&program->control, err);
	}
	program->starting = false;
	if (result == 0 && !program->stop_asked) {
		daemon_set_ready(program->daemon, true);
	} else {
		program->exit_code = result != 0;
		stop(program);
	}
	(void)daemon_run(program->daemon);
	return result;
}

static int program_main(struct program *program, const struct config *config, bool check_only)
{
	struct daemon_options options = {
		.program = "pool-agent",
		.config = config,
		.stop = stop_asked,
		.ctx = program,
	};
	struct err err;
	int result = options_read(config, &program->options, &err);

	if (result == 0 && check_only) {
		return 0;
	}
	program->starting = true;
	if (result == 0) {
		result = daemon_new(&options, &program->daemon, &err);
	}
	if (result == 0) {
		result = program_run(program, &err);
		daemon_free(program->daemon);
	}
	if (result != 0) {
		(void)fprintf(stderr, "pool-agent: %s\n", err.text);
	}
	return result != 0;
}

int main(int argc, char **argv)
{
	struct daemon_args args;
	struct config *config;
	struct program *program;
	struct err err;
	int code =
		daemon_parse_args(argc, argv, "pool-agent", "/etc/strake/pool-agent.yaml", &args);

	if (code >= 0) {
		return code;
	}
	if (config_load(args.config_path, config_keys, ARRAY_COUNT(config_keys), &config, &err) !=
		0) {
		(void)fprintf(stderr, "pool-agent: %s\n", err.text);
		return 2;
	}
	/* Large: it holds the paths of all pools. */
	program = calloc(1, sizeof(*program));
	code = 1;
	if (program != NULL) {
		code = program_main(program, config, args.check_only);
	}
	free(program);
	config_free(config);
	return code;
}
