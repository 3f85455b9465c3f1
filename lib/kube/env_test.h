/* SPDX-License-Identifier: Apache-2.0 */
/* A client and a fake API server on one loop. */
#ifndef KUBE_ENV_TEST_H
#define KUBE_ENV_TEST_H

#include "base/testing.h"
#include "kube/kube.h"
#include "kube/testing/fake_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Longer than anything that works takes on a busy machine. */
#define WAIT_MS 60000u

struct env {
	struct loop *loop;
	struct fake_api *api;
	struct fake_http *http;
	struct metric_registry metrics;
	struct kube *kube;
	char folder[64];
};

static const struct kube_kind volumes = {"strake.io", "v1alpha1", "volumes", "Volume", false};
static const struct kube_kind config_maps = {"", "v1", "configmaps", "ConfigMap", true};

#define VOLUMES "/apis/strake.io/v1alpha1/volumes"

/* `user` as in fake_api_kubeconfig. */
static inline void env_open_as(struct env *env, const char *user)
{
	char path[128];
	struct err err = {0};

	*env = (struct env){.folder = "/tmp/strake-kube-test-XXXXXX"};
	assert_non_null(mkdtemp(env->folder));
	assert_int_equal(loop_new(&env->loop, &err), 0);
	metric_registry_init(&env->metrics);
	env->api = fake_api_new(env->loop);
	env->http = fake_api_http(env->api);
	(void)snprintf(path, sizeof(path), "%s/kubeconfig", env->folder);
	fake_api_kubeconfig(env->api, path, user);
	struct kube_options options = {.loop = env->loop,
		.log = &log_null,
		.metrics = &env->metrics,
		.kubeconfig = path,
		.user_agent = "test/1",
		.field_manager = "strake-test"};

	assert_int_equal(kube_new(&options, &env->kube, &err), 0);
}

static inline void env_open(struct env *env)
{
	env_open_as(env, NULL);
}

static inline void env_write(struct env *env, const char *name, const char *text)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", env->folder, name);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	(void)fputs(text, file);
	(void)fclose(file);
}

static inline void env_close(struct env *env)
{
	char command[128];

	kube_free(env->kube);
	fake_api_free(env->api);
	metric_registry_done(&env->metrics);
	loop_free(env->loop);
	(void)snprintf(command, sizeof(command), "rm -r %s", env->folder);
	assert_int_equal(system(command), 0);
}

/* Until the condition holds; fails when that takes WAIT_MS. */
#define env_wait(env, condition)                                                                   \
	do {                                                                                       \
		uint64_t wait_end = loop_now_ms((env)->loop) + WAIT_MS;                            \
		while (!(condition)) {                                                             \
			if (loop_now_ms((env)->loop) > wait_end) {                                 \
				fail_msg("waited in vain for %s", #condition);                     \
			}                                                                          \
			loop_turn((env)->loop, 20);                                                \
		}                                                                                  \
	} while (0)

static inline void env_turn_for(struct env *env, unsigned ms)
{
	uint64_t end = loop_now_ms(env->loop) + ms;

	while (loop_now_ms(env->loop) < end) {
		loop_turn(env->loop, 5);
	}
}

/* ---- one request ---- */

struct ask {
	struct kube_request request; /* first */
	bool is_done;
	json_t *answer;
};

static inline void ask_done(struct kube_request *request)
{
	struct ask *ask = request->ctx;

	assert_false(ask->is_done);
	ask->is_done = true;
	ask->answer = json_incref(request->response);
}

/* Takes `body`. */
static inline void ask_begin(
	struct env *env, struct ask *ask, struct kube_request request, json_t *body)
{
	*ask = (struct ask){.request = request};
	ask->request.body = body;
	ask->request.done = ask_done;
	ask->request.ctx = ask;
	kube_send(env->kube, &ask->request);
	assert_false(ask->is_done);
	json_decref(body);
}

static inline int ask_wait(struct env *env, struct ask *ask)
{
	env_wait(env, ask->is_done);
	return ask->request.result;
}

static inline void ask_end(struct ask *ask)
{
	json_decref(ask->answer);
	ask->answer = NULL;
}

static inline int ask_once(struct env *env, struct kube_request request, json_t *body)
{
	struct ask ask;

	ask_begin(env, &ask, request, body);
	int result = ask_wait(env, &ask);

	ask_end(&ask);
	return result;
}

#endif
