/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of a daemon: arguments, folders, log, signals, memory rules, metrics and health, the
 * control loop, the reactor and the gRPC server.  A main.c goes
 *
 *   daemon_parse_args -> config_load -> daemon_new -> daemon_start_reactor -> its own objects
 *   -> daemon_serve -> daemon_set_ready -> daemon_run -> daemon_free
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "base/metric.h"
#include "daemon/config.h"
#include "daemon/file.h"
#include "daemon/memory.h"
#include "daemon/reactor.h"
#include "grpc/grpc.h"

struct daemon;

/* Keys that every daemon's configuration has; put the macro into its table. */
#define DAEMON_CONFIG_KEYS                                                                         \
	{"name", CONFIG_STRING, true, NULL, 1, 48, "the daemon's name on this machine"},           \
		{"run_dir", CONFIG_STRING, false, "/run/strake", 1, 80,                            \
			"the folder of the sockets"},                                              \
		{"state_dir", CONFIG_STRING, false, "/var/lib/strake", 1, 200,                     \
			"the folder of what is kept"},                                             \
		{"log_level", CONFIG_STRING, false, "info", 1, 16,                                 \
			"debug, info, warning or error"},                                          \
		{"metrics.address", CONFIG_STRING, false, NULL, 1, 200,                            \
			"where /metrics, /healthz and /readyz are served: 127.0.0.1:9500 or "      \
			"unix:/path"}

struct daemon_args {
	const char *config_path;
	bool check_only; /* --check: only tell whether the configuration is good */
};

/* --config, --check, --help, --version.  -1: go on; else the exit code. */
int daemon_parse_args(int argc, char **argv, const char *program, const char *config_default,
	struct daemon_args *ret_args) __must_check;

struct daemon_options {
	const char *program;         /* "nexus" */
	const struct config *config; /* has DAEMON_CONFIG_KEYS; borrowed */
	/* No block of a pod goes through it: the memory rules do not apply. */
	bool off_data_path;
	/* Keeps nothing: no folder is made or locked; run_dir and state_dir are not used. */
	bool stateless;
	/* Of daemon_serve(); borrowed.  NULL: run_dir/name.sock. */
	const char *socket_path;
	unsigned streams_max; /* calls at a time of one connection; 0: grpc.h's default */
	/* A signal asks to end: the owner closes what it has, then calls daemon_quit().  A second
	 * signal, or a minute without, ends the process at once: it is built for that. */
	void (*stop)(void *ctx);
	void *ctx;
};

/* Applies the memory rules, so before any thread.  Makes and locks the folders. */
int daemon_new(const struct daemon_options *options, struct daemon **ret_daemon,
	struct err *err) __must_check;
/* The owner's objects are gone.  Stops the reactor. */
void daemon_free(struct daemon *daemon);

/*
 * For the start, where a port is taken (-EADDRINUSE): a killed predecessor's sockets may outlive it
 * by a moment, and a folder of its own (another state_dir) does not make this process wait for it.
 * True after a short pause: try again; false when DAEMON_PORT_WAIT_MS are over.  *waited_ms begins
 * as 0.
 */
#define DAEMON_PORT_WAIT_MS 5000u
bool daemon_wait_for_port(unsigned *waited_ms) __must_check;

/* Over io_uring or epoll, as lib/real chooses. */
int daemon_start_reactor(struct daemon *daemon, struct err *err) __must_check;
/* gRPC on options.socket_path. */
int daemon_serve(struct daemon *daemon, const struct grpc_method *methods, size_t method_count,
	void *ctx, struct err *err) __must_check;
/* Takes no more calls and waits for those in flight, at most grace_ms; then stopped().  Without
 * daemon_serve() before: at once. */
void daemon_stop_serving(
	struct daemon *daemon, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx);
/* What /readyz says. */
void daemon_set_ready(struct daemon *daemon, bool ready);
/* Something of it does not work, the rest goes on: /healthz says why, and still answers 200, as a
 * restart would not help.  NULL or "": all is well. */
void daemon_set_degraded(struct daemon *daemon, const char *reason);

/* Until daemon_quit(); returns its code. */
int daemon_run(struct daemon *daemon);
void daemon_quit(struct daemon *daemon, int code);

struct loop *daemon_loop(struct daemon *daemon);
struct reactor *daemon_reactor(struct daemon *daemon);
struct io *daemon_io(struct daemon *daemon);
const struct log *daemon_log(const struct daemon *daemon); /* control thread */
struct metric_registry *daemon_metrics(struct daemon *daemon);
const char *daemon_name(const struct daemon *daemon);
const char *daemon_state_folder(const struct daemon *daemon); /* state_dir/name */
bool daemon_has_io_flusher(const struct daemon *daemon);
/* real_text(): "io_uring SINGLE_ISSUER ...". */
const char *daemon_io_text(const struct daemon *daemon);
/* What the process before died of, once the reactor was started. */
const struct trace_crash *daemon_predecessor(const struct daemon *daemon);
/* Names the kernel that runs now: changes with every boot.  Never NULL. */
const char *daemon_boot_id(const struct daemon *daemon);

#endif
