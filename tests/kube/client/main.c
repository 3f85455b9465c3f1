/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/kube against a real API server, for tests/kube.
 *
 *   kube-client KUBECONFIG NAMESPACE requests | many COUNT | events
 *   kube-client KUBECONFIG NAMESPACE follow [SELECTOR]   a cache of ConfigMaps; each change is a
 * line, a line of standard input asks for the state; SIGTERM ends it kube-client KUBECONFIG
 * NAMESPACE lead LEASE IDENTITY until SIGTERM; a line for each change
 */
#include "tests/kube/client/client.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

const struct kube_kind config_maps = {"", "v1", "configmaps", "ConfigMap", true};

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)printf("FAILED: ");
	(void)vprintf(format, args);
	(void)printf("\n");
	va_end(args);
	exit(1);
}

void turn_until(struct client *client, const bool *is_done, unsigned timeout_ms)
{
	uint64_t end_ms = loop_now_ms(client->loop) + timeout_ms;

	while (!*is_done) {
		if (loop_now_ms(client->loop) > end_ms) {
			die("no answer within %u ms", timeout_ms);
		}
		loop_turn(client->loop, 100);
	}
}

/* ---- one request ---- */

struct question {
	struct kube_request request;
	bool is_done;
	json_t *answer;
};

static void answered(struct kube_request *request)
{
	struct question *question = request->ctx;

	question->is_done = true;
	question->answer = json_incref(request->response);
	if (request->result < 0) {
		(void)printf("  (%s)\n", request->err.text);
	}
}

int ask(struct client *client, struct kube_request request, json_t *body, json_t **ret_answer)
{
	struct question question = {.request = request};

	question.request.body = body;
	question.request.done = answered;
	question.request.ctx = &question;
	kube_send(client->kube, &question.request);
	json_decref(body);
	turn_until(client, &question.is_done, 60000);
	if (ret_answer != NULL) {
		*ret_answer = json_incref(question.answer);
	}
	json_decref(question.answer);
	return question.request.result;
}

/* ---- until SIGTERM ---- */

struct until {
	struct loop_watch signal, input;
	struct client *client;
	struct kube_cache *cache;
	bool is_over;
};

static void signal_came(struct loop_watch *watch, uint32_t events)
{
	struct until *until = container_of(watch, struct until, signal);

	(void)events;
	until->is_over = true;
	loop_watch_remove(until->client->loop, watch);
}

static void input_came(struct loop_watch *watch, uint32_t events)
{
	struct until *until = container_of(watch, struct until, input);
	char line[64];

	(void)events;
	if (read(watch->fd, line, sizeof(line)) <= 0) {
		loop_watch_remove(until->client->loop, watch);
		return;
	}
	(void)printf("state count=%zu age_ms=%llu\n", kube_cache_count(until->cache),
		(unsigned long long)kube_cache_age_ms(until->cache));
}

static void until_begin(struct until *until, struct client *client)
{
	sigset_t signals;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	until->client = client;
	until->signal.fd = signalfd(-1, &signals, SFD_CLOEXEC);
	until->signal.events = until->input.events = EPOLLIN;
	until->signal.ready = signal_came;
	until->input.ready = input_came;
	if (loop_watch_add(client->loop, &until->signal) < 0) {
		die("no signals");
	}
}

static void changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	(void)ctx;
	(void)printf("%s %s %s\n",
		object == NULL   ? "gone"
		: before == NULL ? "new"
				 : "changed",
		key, kube_text(object, "data.key"));
}

static void synced(void *ctx)
{
	(void)ctx;
	(void)printf("synced\n");
}

static void follow(struct client *client, const char *selector)
{
	struct until until = {.is_over = false};
	struct err err = {0};
	struct kube_cache_options options = {.kind = &config_maps,
		.namespace = client->namespace,
		.label_selector = selector,
		.changed = changed,
		.synced = synced};

	until_begin(&until, client);
	if (kube_cache_new(client->kube, &options, &until.cache, &err) < 0) {
		die("%s", err.text);
	}
	until.input.fd = STDIN_FILENO;
	/* Standard input may be a file, which epoll refuses. */
	int result = loop_watch_add(client->loop, &until.input);

	(void)result;
	while (!until.is_over) {
		loop_turn(client->loop, 1000);
	}
	loop_watch_remove(client->loop, &until.input);
	kube_cache_free(until.cache);
}

static void leading(void *ctx, bool leads)
{
	struct timespec now;

	(void)ctx;
	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	(void)printf("%s %lld.%03ld\n", leads ? "leading" : "over", (long long)now.tv_sec,
		now.tv_nsec / 1000000);
}

static void freed(void *ctx)
{
	*(bool *)ctx = true;
}

static void lead(struct client *client, const char *name, const char *identity)
{
	struct until until = {.is_over = false};
	struct kube_lease *lease = NULL;
	struct err err = {0};
	bool is_freed = false;
	struct kube_lease_options options = {.namespace = client->namespace,
		.name = name,
		.identity = identity,
		.duration_ms = 5000,
		.renew_ms = 3000,
		.retry_ms = 500,
		.leading = leading};

	until_begin(&until, client);
	if (kube_lease_new(client->kube, &options, &lease, &err) < 0) {
		die("%s", err.text);
	}
	while (!until.is_over) {
		loop_turn(client->loop, 1000);
	}
	kube_lease_free(lease, freed, &is_freed);
	turn_until(client, &is_freed, 20000);
	(void)printf("given back\n");
}

int main(int argc, char **argv)
{
	int standard_error = STDERR_FILENO;
	struct client client = {
		.log = {.sink = log_sink_fd, .ctx = &standard_error, .level_min = LOG_DEBUG}};
	struct err err = {0};

	if (argc < 4) {
		die("usage: kube-client KUBECONFIG NAMESPACE COMMAND");
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	client.namespace = argv[2];
	metric_registry_init(&client.metrics);
	if (loop_new(&client.loop, &err) < 0) {
		die("%s", err.text);
	}
	struct kube_options options = {.loop = client.loop,
		.log = &client.log,
		.metrics = &client.metrics,
		.kubeconfig = argv[1],
		.user_agent = "kube-client/1",
		.field_manager = "strake-test"};

	if (kube_new(&options, &client.kube, &err) < 0) {
		die("%s", err.text);
	}
	const char *command = argv[3];

	if (strcmp(command, "requests") == 0) {
		check_requests(&client);
	} else if (strcmp(command, "many") == 0 && argc == 5) {
		check_many(&client, (unsigned)strtoul(argv[4], NULL, 10));
	} else if (strcmp(command, "events") == 0) {
		check_events(&client);
	} else if (strcmp(command, "follow") == 0) {
		follow(&client, argc > 4 ? argv[4] : NULL);
	} else if (strcmp(command, "lead") == 0 && argc == 6) {
		lead(&client, argv[4], argv[5]);
	} else {
		die("unknown command %s", command);
	}
	struct strbuf metrics;

	strbuf_init(&metrics);
	metric_registry_print(&client.metrics, &metrics);
	(void)fputs(strbuf_text(&metrics), stderr);
	strbuf_done(&metrics);
	kube_free(client.kube);
	metric_registry_done(&client.metrics);
	loop_free(client.loop);
	return 0;
}
