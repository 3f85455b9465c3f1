/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "csi-controller/service.h"
#include "csi-controller/wait.h"
#include "daemon/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define PROGRAM        "csi-controller"
#define CONFIG_DEFAULT "/etc/strake/csi-controller.yaml"
#define SERVE_GRACE_MS 5000
/* The provisioner and the attacher have up to 100 workers each. */
#define STREAMS_MAX 256

static const struct config_key keys[] = {
	DAEMON_CONFIG_KEYS,
	{"csi_socket", CONFIG_STRING, false, "/csi/csi.sock", 1, 100,
		"the socket of the CSI services; its folder is there"},
	{"kubeconfig", CONFIG_STRING, false, NULL, 1, 4096,
		"a kubeconfig file; without it what Kubernetes gives a pod is used"},
	{"namespace", CONFIG_STRING, false, "strake", 1, 63, "of the Lease and of Events"},
	{"identity", CONFIG_STRING, false, NULL, 1, 253,
		"of this process in the Lease; the host's name when not given"},
	{"overcommit_percent", CONFIG_UINT, false, "100", 10, 1000,
		"of a pool's capacity that the sizes of its replicas may sum up to"},
	{"replace_after_s", CONFIG_UINT, false, "600", 1, 86400,
		"a replica that is away for so many seconds is replaced"},
};

struct program {
	struct config *config;
	struct daemon *daemon;
	struct kube *kube;
	struct controller controller;
	char identity[256];
};

static void controller_stopped(void *ctx)
{
	struct program *program = ctx;

	daemon_quit(program->daemon, 0);
}

static void serving_stopped(void *ctx)
{
	struct program *program = ctx;

	controller_stop(&program->controller, controller_stopped, program);
}

static void stop(void *ctx)
{
	struct program *program = ctx;

	daemon_set_ready(program->daemon, false);
	controller_stop_waiting(&program->controller);
	daemon_stop_serving(program->daemon, SERVE_GRACE_MS, serving_stopped, program);
}

static void ready(void *ctx)
{
	struct program *program = ctx;

	daemon_set_ready(program->daemon, true);
}

static int start_controller(struct program *program, struct err *err)
{
	const struct config *config = program->config;
	const char *identity = config_string(config, "identity");
	struct kube_options kube_options = {
		.loop = daemon_loop(program->daemon),
		.log = daemon_log(program->daemon),
		.metrics = daemon_metrics(program->daemon),
		.kubeconfig = config_string(config, "kubeconfig"),
		.user_agent = PROGRAM "/" STRAKE_VERSION,
		.field_manager = OBJECTS_MANAGER_CONTROLLER,
	};
	struct controller_options options = {
		.log = daemon_log(program->daemon),
		.namespace = config_string(config, "namespace"),
		.identity = program->identity,
		.overcommit_percent = (unsigned)config_number(config, "overcommit_percent"),
		.replace_after_s = (unsigned)config_number(config, "replace_after_s"),
		.ready = ready,
		.ctx = program,
	};

	if (identity != NULL) {
		(void)snprintf(program->identity, sizeof(program->identity), "%s", identity);
	} else if (gethostname(program->identity, sizeof(program->identity) - 1) < 0) {
		return err_set(err, -errno, "the host's name: %s", err_describe(errno));
	}
	if (getrandom(&options.seed, sizeof(options.seed), 0) != sizeof(options.seed)) {
		return err_set(err, -EIO, "no random numbers");
	}
	int result = kube_new(&kube_options, &program->kube, err);

	options.kube = program->kube;
	return result < 0 ? result : controller_start(&program->controller, &options, err);
}

static int run(struct program *program, struct err *err)
{
	struct daemon_options daemon_options = {
		.program = PROGRAM,
		.config = program->config,
		.off_data_path = true,
		.stateless = true,
		.socket_path = config_string(program->config, "csi_socket"),
		.streams_max = STREAMS_MAX,
		.stop = stop,
		.ctx = program,
	};
	int result = daemon_new(&daemon_options, &program->daemon, err);

	result = result < 0 ? result : start_controller(program, err);
	result = result < 0 ? result
			    : daemon_serve(program->daemon, service_methods, service_method_count,
				      &program->controller, err);
	if (result < 0) {
		return result;
	}
	log_info(daemon_log(program->daemon), "daemon", "started",
		"program=%s version=%s name=%s identity=%s", PROGRAM, STRAKE_VERSION,
		daemon_name(program->daemon), program->identity);
	int code = daemon_run(program->daemon);

	kube_free(program->kube);
	daemon_free(program->daemon);
	config_free(program->config);
	return code;
}

int main(int argc, char **argv)
{
	struct program program = {0};
	struct daemon_args args;
	struct err err = {0};
	int code = daemon_parse_args(argc, argv, PROGRAM, CONFIG_DEFAULT, &args);

	if (code >= 0) {
		return code;
	}
	if (config_load(args.config_path, keys, ARRAY_COUNT(keys), &program.config, &err) < 0) {
		(void)fprintf(stderr, PROGRAM ": %s\n", err.text);
		return 2;
	}
	if (args.check_only) {
		printf("%s is good\n", args.config_path);
		config_free(program.config);
		return 0;
	}
	int result = run(&program, &err);

	if (result < 0) {
		(void)fprintf(stderr, PROGRAM ": %s\n", err.text);
		/* Nothing was begun that needs an orderly end. */
		_exit(1);
	}
	return result;
}
