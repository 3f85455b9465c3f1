/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/daemon.h"

#include "daemon/http.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define LOCK_WAIT_MS    10000
#define PORT_PAUSE_MS   50
#define STOP_MS_MAX     60000
#define REACTOR_DEAF_MS 5000
#define BOOT_ID_SIZE    40

struct daemon {
	struct daemon_options options;
	const char *name; /* the configuration's */
	char state_folder[PATH_MAX];
	char socket_path[PATH_MAX];
	char boot_id[BOOT_ID_SIZE];
	char io_text[160];
	int lock_fd;
	int log_fd;
	struct log log;
	struct memory_rules memory;
	struct metric_registry metrics;
	struct metric io_flusher_metric, memory_locked_metric, log_dropped_metric;
	struct loop *loop;
	struct loop_watch signals;
	struct loop_timer stop_limit;
	struct http_server *http;
	struct reactor *reactor;
	struct trace *trace; /* owned; NULL: the folder is not for it */
	struct trace_crash crash;
	struct metric crash_metric;
	struct grpc_server *server;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
	bool ready, stopping;
	char degraded[256]; /* "": it is not */
	int exit_code;

	/* Health: a message that the reactor sends back. */
	struct reactor_call ping;
	uint64_t ping_sent_ms; /* 0: none is under way */
};

/* ---- arguments ---- */

static void print_help(const char *program, const char *config_default)
{
	printf("usage: %s [--config FILE] [--check]\n\n"
	       "  -c, --config FILE   configuration in YAML (default %s)\n"
	       "      --check         only tell whether the configuration is good\n"
	       "      --version\n"
	       "  -h, --help\n\n"
	       "Logs to standard error, one JSON object a line.  SIGTERM and SIGINT end it "
	       "gracefully.\n",
		program, config_default);
}

int daemon_parse_args(int argc, char **argv, const char *program, const char *config_default,
	struct daemon_args *ret_args)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'k'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	*ret_args = (struct daemon_args){.config_path = config_default};
	while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		if (option == 'c') {
			ret_args->config_path = optarg;
		} else if (option == 'k') {
			ret_args->check_only = true;
		} else if (option == 'v') {
			printf("%s %s\n", program, STRAKE_VERSION);
			return 0;
		} else if (option == 'h') {
			print_help(program, config_default);
			return 0;
		} else {
			return 2;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "%s: unexpected argument \"%s\"; see --help\n", program,
			argv[optind]);
		return 2;
	}
	return -1;
}

/* ---- health and metrics ---- */

static void ping_run(struct reactor_call *call)
{
	reactor_call_return(call);
}

static void ping_done(struct reactor_call *call)
{
	container_of(call, struct daemon, ping)->ping_sent_ms = 0;
}

/* Each question sends a message to the reactor; the next ones see whether it came back. */
static bool reactor_is_deaf(struct daemon *daemon)
{
	uint64_t now_ms = loop_now_ms(daemon->loop);

	if (daemon->reactor == NULL) {
		return false;
	}
	if (daemon->ping_sent_ms == 0) {
		daemon->ping_sent_ms = now_ms;
		daemon->ping.run = ping_run;
		daemon->ping.done = ping_done;
		reactor_call(daemon->reactor, &daemon->ping);
	}
	return now_ms - daemon->ping_sent_ms > REACTOR_DEAF_MS;
}

static unsigned http_answer(
	void *ctx, const char *path, struct strbuf *body, const char **content_type)
{
	struct daemon *daemon = ctx;

	if (strcmp(path, "/metrics") == 0) {
		*content_type = "text/plain; version=0.0.4; charset=utf-8";
		if (daemon->reactor != NULL) {
			metric_set(&daemon->log_dropped_metric,
				(int64_t)reactor_log_dropped(daemon->reactor));
		}
		metric_registry_print(&daemon->metrics, body);
		return 200;
	}
	if (strcmp(path, "/healthz") == 0) {
		bool deaf = reactor_is_deaf(daemon);

		if (deaf) {
			strbuf_append(body, "the data thread does not answer\n");
		} else if (daemon->degraded[0] != 0) {
			strbuf_printf(body, "degraded: %s\n", daemon->degraded);
		} else {
			strbuf_append(body, "ok\n");
		}
		return deaf ? 503 : 200;
	}
	if (strcmp(path, "/readyz") == 0) {
		bool ready = daemon->ready && !daemon->stopping;

		strbuf_append(body, ready              ? "ok\n"
				    : daemon->stopping ? "stopping\n"
						       : "starting\n");
		return ready ? 200 : 503;
	}
	strbuf_append(body, "there are /metrics, /healthz and /readyz\n");
	return 404;
}

static void add_metrics(struct daemon *daemon)
{
	if (daemon->options.off_data_path) {
		return;
	}
	metric_add(&daemon->metrics, &daemon->io_flusher_metric, METRIC_GAUGE, "strake_io_flusher",
		"1 when PR_SET_IO_FLUSHER is on.", "program=\"%s\"", daemon->options.program);
	metric_set(&daemon->io_flusher_metric, daemon->memory.io_flusher == 0);
	metric_add(&daemon->metrics, &daemon->memory_locked_metric, METRIC_GAUGE,
		"strake_memory_locked", "1 when the process's memory is locked.", "program=\"%s\"",
		daemon->options.program);
	metric_set(&daemon->memory_locked_metric, daemon->memory.locked == 0);
	metric_add(&daemon->metrics, &daemon->log_dropped_metric, METRIC_COUNTER,
		"strake_log_lines_dropped_total", "Log lines of the data thread that had no room.",
		"program=\"%s\"", daemon->options.program);
}

/* ---- signals ---- */

static void stop_limit_expired(struct loop_timer *timer)
{
	struct daemon *daemon = container_of(timer, struct daemon, stop_limit);

	log_error(&daemon->log, "daemon", "stop-took-too-long", "limit_ms=%d", STOP_MS_MAX);
	_exit(1);
}

static void signals_ready(struct loop_watch *watch, uint32_t events)
{
	struct daemon *daemon = container_of(watch, struct daemon, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	if (daemon->stopping) {
		log_warning(&daemon->log, "daemon", "ended-by-second-signal", "signal=%u",
			info.ssi_signo);
		_exit(1);
	}
	log_info(&daemon->log, "daemon", "stopping", "signal=%u", info.ssi_signo);
	daemon->stopping = true;
	loop_timer_start(daemon->loop, &daemon->stop_limit, STOP_MS_MAX);
	daemon->options.stop(daemon->options.ctx);
}

static int watch_signals(struct daemon *daemon, struct err *err)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	daemon->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	daemon->signals.events = EPOLLIN;
	daemon->signals.ready = signals_ready;
	int result =
		daemon->signals.fd < 0 ? -errno : loop_watch_add(daemon->loop, &daemon->signals);

	return result < 0 ? err_set(err, result, "signalfd: %s", err_describe(result)) : 0;
}

/* ---- set-up ---- */

static int parse_level(const struct config *config, enum log_level *ret_level, struct err *err)
{
	const char *text = config_string(config, "log_level");

	for (unsigned level = LOG_DEBUG; level <= LOG_ERROR; level++) {
		if (strcmp(text, log_level_name((enum log_level)level)) == 0) {
			*ret_level = (enum log_level)level;
			return 0;
		}
	}
	return config_refuse(
		config, err, "log_level", "\"%s\" is none of debug, info, warning, error", text);
}

/* The name becomes a part of file names. */
static int check_name(const struct config *config, const char *name, struct err *err)
{
	static const char good[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	if (name[0] == '.' || name[0] == '-' || strspn(name, good) != strlen(name)) {
		return config_refuse(config, err, "name",
			"\"%s\" may have letters, digits, '.', '_' and '-', and begins with a "
			"letter or digit",
			name);
	}
	return 0;
}

static int make_folders(struct daemon *daemon, struct err *err)
{
	const char *run_dir = config_string(daemon->options.config, "run_dir");
	const char *state_dir = config_string(daemon->options.config, "state_dir");

	if (daemon->options.socket_path != NULL) {
		(void)snprintf(daemon->socket_path, sizeof(daemon->socket_path), "%s",
			daemon->options.socket_path);
	} else {
		(void)snprintf(daemon->socket_path, sizeof(daemon->socket_path), "%s/%s.sock",
			run_dir, daemon->name);
	}
	if (daemon->options.stateless) {
		return 0;
	}
	(void)snprintf(daemon->state_folder, sizeof(daemon->state_folder), "%s/%s", state_dir,
		daemon->name);
	int result = folder_make(run_dir, 0755, err);

	result = result < 0 ? result : folder_make(daemon->state_folder, 0700, err);
	return result < 0 ? result
			  : folder_lock(daemon->state_folder, LOCK_WAIT_MS, &daemon->lock_fd, err);
}

static void read_boot_id(struct daemon *daemon)
{
	struct strbuf text;
	struct err err;

	strbuf_init(&text);
	if (file_read("/proc/sys/kernel/random/boot_id", 256, &text, &err) == 0) {
		(void)snprintf(daemon->boot_id, sizeof(daemon->boot_id), "%.*s",
			(int)strcspn(strbuf_text(&text), "\n"), strbuf_text(&text));
	}
	strbuf_done(&text);
}

static int set_up(struct daemon *daemon, struct err *err)
{
	const struct config *config = daemon->options.config;
	int result = parse_level(config, &daemon->log.level_min, err);

	result = result < 0 ? result : check_name(config, daemon->name, err);
	if (result < 0) {
		return result;
	}
	if (daemon->options.off_data_path) {
		daemon->memory = (struct memory_rules){.io_flusher = -ENOTSUP, .locked = -ENOTSUP};
	} else {
		memory_rules_apply(&daemon->memory);
		memory_rules_log(&daemon->memory, &daemon->log);
	}
	read_boot_id(daemon);
	add_metrics(daemon);
	result = make_folders(daemon, err);
	result = result < 0 ? result : loop_new(&daemon->loop, err);
	result = result < 0 ? result : watch_signals(daemon, err);
	if (result < 0) {
		return result;
	}
	const char *address = config_string(config, "metrics.address");
	unsigned waited_ms = 0;

	if (address == NULL) {
		return 0;
	}
	do {
		result = http_server_new(
			daemon->loop, address, http_answer, daemon, &daemon->http, err);
	} while (result == -EADDRINUSE && daemon_wait_for_port(&waited_ms));
	return result < 0 ? err_prefix(err, "metrics") : 0;
}

bool daemon_wait_for_port(unsigned *waited_ms)
{
	const struct timespec pause = {.tv_nsec = PORT_PAUSE_MS * 1000000};

	if (*waited_ms >= DAEMON_PORT_WAIT_MS) {
		return false;
	}
	(void)nanosleep(&pause, NULL);
	*waited_ms += PORT_PAUSE_MS;
	return true;
}

int daemon_new(const struct daemon_options *options, struct daemon **ret_daemon, struct err *err)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));

	if (daemon == NULL) {
		return err_set(err, -ENOMEM, "no memory for the daemon");
	}
	daemon->options = *options;
	daemon->name = config_string(options->config, "name");
	daemon->lock_fd = -1;
	daemon->signals.fd = -1;
	daemon->stop_limit.expired = stop_limit_expired;
	daemon->log_fd = STDERR_FILENO;
	daemon->log = (struct log){.sink = log_sink_fd, .ctx = &daemon->log_fd};
	metric_registry_init(&daemon->metrics);
	int result = set_up(daemon, err);

	if (result < 0) {
		daemon_free(daemon);
		return result;
	}
	*ret_daemon = daemon;
	return 0;
}

void daemon_free(struct daemon *daemon)
{
	if (daemon == NULL) {
		return;
	}
	assert(daemon->server == NULL);
	http_server_free(daemon->http);
	while (daemon->ping_sent_ms != 0) {
		loop_turn(daemon->loop, 100);
	}
	reactor_stop(daemon->reactor);
	trace_free(daemon->trace);
	loop_timer_stop(&daemon->stop_limit);
	if (daemon->loop != NULL) {
		loop_watch_remove(daemon->loop, &daemon->signals);
	}
	if (daemon->signals.fd >= 0) {
		close(daemon->signals.fd);
	}
	loop_free(daemon->loop);
	metric_remove(&daemon->metrics, &daemon->io_flusher_metric);
	metric_remove(&daemon->metrics, &daemon->memory_locked_metric);
	metric_remove(&daemon->metrics, &daemon->log_dropped_metric);
	metric_remove(&daemon->metrics, &daemon->crash_metric);
	metric_registry_done(&daemon->metrics);
	if (daemon->lock_fd >= 0) {
		close(daemon->lock_fd);
	}
	free(daemon);
}

/* Best effort: a daemon without a trace serves as well. */
static void start_trace(struct daemon *daemon)
{
	const char *run_dir = config_string(daemon->options.config, "run_dir");
	char path[PATH_MAX];
	struct err err = {0};

	if (trace_new(run_dir, daemon->name, daemon->options.program, TRACE_RECORDS, &daemon->trace,
		    &daemon->crash, &err) == 0) {
		crash_watch(daemon->trace);
	} else {
		log_warning(&daemon->log, "daemon", "no-trace", "error=%s", err.text);
	}
	metric_add(&daemon->metrics, &daemon->crash_metric, METRIC_GAUGE,
		"strake_predecessor_signal",
		"The signal of which the process before died by its own fault; 0: of none.",
		"program=\"%s\"", daemon->options.program);
	metric_set(&daemon->crash_metric, daemon->crash.signal);
	if (daemon->crash.signal != 0) {
		trace_path(run_dir, daemon->name, true, path, sizeof(path));
		log_error(&daemon->log, "daemon", "predecessor-crashed",
			"signal=%d work=%s object=%08x trace=%s", daemon->crash.signal,
			daemon->crash.on_data_thread ? trace_work_name(daemon->crash.work.operation)
						     : "",
			(unsigned)(daemon->crash.work.object >> 32), path);
	}
}

int daemon_start_reactor(struct daemon *daemon, struct err *err)
{
	start_trace(daemon);
	struct reactor_options reactor = {.loop = daemon->loop,
		.log = &daemon->log,
		.metrics = &daemon->metrics,
		.trace = daemon->trace};
	int result = reactor_start(&reactor, &daemon->reactor, err);

	if (result < 0) {
		return result;
	}
	const char *why = real_why(reactor_real(daemon->reactor));

	(void)snprintf(daemon->io_text, sizeof(daemon->io_text), "%s",
		real_text(reactor_real(daemon->reactor)));
	if (why[0] != '\0') {
		log_warning(&daemon->log, "daemon", "second-best-io", "why=%s", why);
	}
	log_info(&daemon->log, "daemon", "started", "program=%s version=%s name=%s io=%s",
		daemon->options.program, STRAKE_VERSION, daemon->name, daemon->io_text);
	return 0;
}

/* ---- serving ---- */

int daemon_serve(struct daemon *daemon, const struct grpc_method *methods, size_t method_count,
	void *ctx, struct err *err)
{
	struct grpc_server_options options = {
		.socket_path = daemon->socket_path,
		.methods = methods,
		.method_count = method_count,
		.ctx = ctx,
		.streams_max = daemon->options.streams_max,
	};
	int result = grpc_server_new(daemon->loop, &options, &daemon->server, err);

	if (result == 0) {
		log_info(&daemon->log, "daemon", "serving", "socket=%s", daemon->socket_path);
	}
	return result;
}

static void server_stopped(void *ctx)
{
	struct daemon *daemon = ctx;

	daemon->server = NULL;
	daemon->stopped(daemon->stopped_ctx);
}

void daemon_stop_serving(
	struct daemon *daemon, unsigned grace_ms, void (*stopped)(void *ctx), void *ctx)
{
	if (daemon->server == NULL) {
		stopped(ctx);
		return;
	}
	daemon->stopped = stopped;
	daemon->stopped_ctx = ctx;
	grpc_server_stop(daemon->server, grace_ms, server_stopped, daemon);
}

void daemon_set_ready(struct daemon *daemon, bool ready)
{
	daemon->ready = ready;
}

void daemon_set_degraded(struct daemon *daemon, const char *reason)
{
	(void)snprintf(
		daemon->degraded, sizeof(daemon->degraded), "%s", reason == NULL ? "" : reason);
}

int daemon_run(struct daemon *daemon)
{
	loop_run(daemon->loop);
	return daemon->exit_code;
}

void daemon_quit(struct daemon *daemon, int code)
{
	daemon->exit_code = code;
	loop_stop(daemon->loop);
}

/* ---- parts ---- */

struct loop *daemon_loop(struct daemon *daemon)
{
	return daemon->loop;
}

struct reactor *daemon_reactor(struct daemon *daemon)
{
	return daemon->reactor;
}

struct io *daemon_io(struct daemon *daemon)
{
	return reactor_io(daemon->reactor);
}

const struct log *daemon_log(const struct daemon *daemon)
{
	return &daemon->log;
}

struct metric_registry *daemon_metrics(struct daemon *daemon)
{
	return &daemon->metrics;
}

const char *daemon_name(const struct daemon *daemon)
{
	return daemon->name;
}

const char *daemon_state_folder(const struct daemon *daemon)
{
	return daemon->state_folder;
}

bool daemon_has_io_flusher(const struct daemon *daemon)
{
	return daemon->memory.io_flusher == 0;
}

const char *daemon_io_text(const struct daemon *daemon)
{
	return daemon->io_text;
}

const struct trace_crash *daemon_predecessor(const struct daemon *daemon)
{
	return &daemon->crash;
}

const char *daemon_boot_id(const struct daemon *daemon)
{
	return daemon->boot_id;
}
