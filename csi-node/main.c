/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/hex.h"
#include "csi-node/endpoint.h"
#include "csi-node/registration.h"
#include "csi-node/service.h"
#include "daemon/daemon.h"
#include "daemon/file.h"
#include "keeper/keeper.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PROGRAM        "csi-node"
#define CONFIG_DEFAULT "/etc/strake/csi-node.yaml"
/* Calls in flight may end before they are cancelled. */
#define SERVE_GRACE_MS 5000

static const struct config_key keys[] = {
	DAEMON_CONFIG_KEYS,
	{"node", CONFIG_STRING, true, NULL, 1, 253, "the name of the Kubernetes Node"},
	{"kubeconfig", CONFIG_STRING, false, NULL, 1, 4096,
		"a kubeconfig file; without it what Kubernetes gives a pod is used"},
	{"kubelet_dir", CONFIG_STRING, false, "/var/lib/kubelet", 1, 64,
		"the kubelet's folder, as it has it"},
	{"csi_socket", CONFIG_STRING, false, NULL, 1, 100,
		"the socket of the CSI services, as the kubelet has it; "
		"KUBELET_DIR/plugins/csi.strake.io/csi.sock when not given"},
	{"nexus", CONFIG_STRING, false, "nexus", 1, 48, "the nexus's name: RUN_DIR/NAME.sock"},
	{"pool_agent", CONFIG_STRING, false, "pool-agent", 1, 48, "the pool-agent's name"},
	{"volumes_max", CONFIG_UINT, false, "1000", 0, 100000,
		"the number of volumes that the scheduler brings here; 0: no limit"},
};

struct program {
	struct config *config;
	struct daemon *daemon;
	struct kube *kube;
	struct node node;
	struct keeper *keeper;
	struct endpoint csi;
	struct registration registration;
	char csi_path[DAEMON_SOCKET_SIZE];
	char nexus_socket[DAEMON_SOCKET_SIZE], agent_socket[DAEMON_SOCKET_SIZE];
	char keeper_path[DAEMON_SOCKET_SIZE];
	uint8_t sealing_key[SEAL_KEY_BYTES];
};

/* ---- end ---- */

static void node_stopped(void *ctx)
{
	struct program *program = ctx;

	/* Last: until now a launcher that was killed would have had its volumes back. */
	keeper_free(program->keeper);
	daemon_quit(program->daemon, 0);
}

static void csi_stopped(void *ctx)
{
	struct program *program = ctx;

	node_stop(&program->node, node_stopped, program);
}

static void registration_stopped(void *ctx)
{
	struct program *program = ctx;

	endpoint_stop(&program->csi, SERVE_GRACE_MS, csi_stopped, program);
}

static void stop(void *ctx)
{
	struct program *program = ctx;

	daemon_set_ready(program->daemon, false);
	/* First: the kubelet forgets the plugin when the socket goes. */
	registration_stop(&program->registration, registration_stopped, program);
}

/* ---- beginning ---- */

/* What an update of the DaemonSet waits for: this one can be the only one that holds what a
 * launcher holds. */
static void ready(void *ctx)
{
	struct program *program = ctx;

	daemon_set_ready(program->daemon,
		node_is_ready(&program->node) && keeper_is_synced(program->keeper));
}

static void keeper_changed(struct keeper *keeper, void *ctx)
{
	struct program *program = ctx;
	struct keeper_status status;

	keeper_get_status(keeper, &status);
	log_info(daemon_log(program->daemon), "node", "keeper", "launcher=%s volumes=%u",
		!status.connected ? "none"
		: status.synced   ? "synced"
				  : "connected",
		status.volumes);
	ready(ctx);
}

/* Two descriptors a volume. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int start_keeper(struct program *program, struct err *err)
{
	struct keeper_options options = {
		.socket_path = program->keeper_path,
		.log = daemon_log(program->daemon),
		.changed = keeper_changed,
		.ctx = program,
	};

	raise_limits();
	return keeper_new(daemon_loop(program->daemon), &options, &program->keeper, err);
}

static void csi_bound(struct endpoint *endpoint)
{
	struct program *program = container_of(endpoint, struct program, csi);

	registration_start(&program->registration, daemon_loop(program->daemon),
		daemon_log(program->daemon), config_string(program->config, "kubelet_dir"),
		program->csi_path);
}

/* A name of a configuration key, as a socket. */
static int take_socket(const struct program *program, const char *key,
	char ret_path[DAEMON_SOCKET_SIZE], struct err *err)
{
	const char *name = config_string(program->config, "%s", key);

	if (strchr(name, '/') != NULL ||
		snprintf(ret_path, DAEMON_SOCKET_SIZE, "%s/%s.sock",
			config_string(program->config, "run_dir"), name) >= DAEMON_SOCKET_SIZE) {
		return config_refuse(
			program->config, err, key, "\"%s\" is no name of a socket", name);
	}
	return 0;
}

static int take_paths(struct program *program, struct err *err)
{
	const char *csi_path = config_string(program->config, "csi_socket");
	const char *kubelet_dir = config_string(program->config, "kubelet_dir");
	int result = take_socket(program, "nexus", program->nexus_socket, err);

	if (csi_path != NULL) {
		(void)snprintf(program->csi_path, sizeof(program->csi_path), "%s", csi_path);
	} else if (snprintf(program->csi_path, sizeof(program->csi_path),
			   "%s/plugins/" OBJECTS_DRIVER "/csi.sock",
			   kubelet_dir) >= (int)sizeof(program->csi_path)) {
		return config_refuse(program->config, err, "kubelet_dir",
			"%s is too long for a socket below it", kubelet_dir);
	}
	(void)snprintf(program->keeper_path, sizeof(program->keeper_path), "%s/keeper.sock",
		config_string(program->config, "run_dir"));
	return result < 0 ? result : take_socket(program, "pool_agent", program->agent_socket, err);
}

/* What is sealed for this node opens with it; made with the first start. */
static int take_sealing_key(struct program *program, struct err *err)
{
	char path[PATH_MAX], text[HEX_TEXT_SIZE(SEAL_KEY_BYTES)];
	struct strbuf read;

	if (snprintf(path, sizeof(path), "%s/sealing-key", daemon_state_folder(program->daemon)) >=
		(int)sizeof(path)) {
		return err_set(err, -ENAMETOOLONG, "the state folder's name is too long");
	}
	strbuf_init(&read);
	int result = file_read(path, sizeof(text), &read, err);

	if (result == -ENOENT) {
		err_clear(err);
		result = seal_key_make(program->sealing_key, err);
		result = result < 0
				 ? result
				 : file_replace(path,
					   hex_to_text(program->sealing_key, SEAL_KEY_BYTES, text),
					   sizeof(text) - 1, err);
	} else if (result == 0 &&
		   hex_parse(strbuf_text(&read), program->sealing_key, SEAL_KEY_BYTES) < 0) {
		result = err_set(err, -EBADMSG,
			"%s: not 64 hexadecimal digits; without the file another one is made",
			path);
	}
	strbuf_done(&read);
	return result;
}

static int start_node(struct program *program, struct err *err)
{
	struct kube_options kube_options = {
		.loop = daemon_loop(program->daemon),
		.log = daemon_log(program->daemon),
		.metrics = daemon_metrics(program->daemon),
		.kubeconfig = config_string(program->config, "kubeconfig"),
		.user_agent = PROGRAM "/" STRAKE_VERSION,
		.field_manager = OBJECTS_MANAGER_NODE,
	};
	struct node_options options = {
		.loop = daemon_loop(program->daemon),
		.log = daemon_log(program->daemon),
		.name = config_string(program->config, "node"),
		.nexus_socket = program->nexus_socket,
		.agent_socket = program->agent_socket,
		.volumes_max = (unsigned)config_number(program->config, "volumes_max"),
		.sealing_key = program->sealing_key,
		.ready = ready,
		.ctx = program,
	};
	int result = kube_new(&kube_options, &program->kube, err);

	options.kube = program->kube;
	return result < 0 ? result : node_start(&program->node, &options, err);
}

static int run(struct program *program, struct err *err)
{
	struct daemon_options daemon_options = {
		.program = PROGRAM,
		.config = program->config,
		.off_data_path = true,
		.stop = stop,
		.ctx = program,
	};
	int result = daemon_new(&daemon_options, &program->daemon, err);

	result = result < 0 ? result : take_sealing_key(program, err);
	result = result < 0 ? result : start_keeper(program, err);
	result = result < 0 ? result : start_node(program, err);
	if (result < 0) {
		return result;
	}
	program->csi = (struct endpoint){
		.loop = daemon_loop(program->daemon),
		.log = daemon_log(program->daemon),
		.path = program->csi_path,
		.methods = service_methods,
		.method_count = service_method_count,
		.ctx = &program->node,
		.makes_folder = true,
		.bound = csi_bound,
	};
	endpoint_start(&program->csi);
	log_info(daemon_log(program->daemon), "daemon", "started",
		"program=%s version=%s name=%s node=%s", PROGRAM, STRAKE_VERSION,
		daemon_name(program->daemon), program->node.options.name);
	int code = daemon_run(program->daemon);

	kube_free(program->kube);
	daemon_free(program->daemon);
	config_free(program->config);
	return code;
}

int main(int argc, char **argv)
{
	static struct program program;
	struct daemon_args args;
	struct err err = {0};
	int code = daemon_parse_args(argc, argv, PROGRAM, CONFIG_DEFAULT, &args);

	if (code >= 0) {
		return code;
	}
	if (config_load(args.config_path, keys, ARRAY_COUNT(keys), &program.config, &err) < 0 ||
		take_paths(&program, &err) < 0) {
		(void)fprintf(stderr, PROGRAM ": %s\n", err.text);
		config_free(program.config);
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
