/* SPDX-License-Identifier: Apache-2.0 */
/* The simulation of converge_test.c, and what it counts. */
#ifndef CSI_CONTROLLER_CONVERGE_TEST_H
#define CSI_CONTROLLER_CONVERGE_TEST_H

#include "base/testing.h"
#include "csi-controller/controller.h"
#include "csi-controller/testing/fake_kube.h"
#include "csi-controller/testing/fake_nodes.h"

#include <stdio.h>
#include <string.h>

#define SEEDS       60
#define STEPS       5000
#define NODES       5
#define POOLS       6
#define VOLUMES     6
#define CALLS       8
#define NOW_S       INT64_C(1700000000)
#define REST_ROUNDS 200

struct sim {
	uint64_t seed;
	struct rng rng;
	struct loop *loop;
	struct fake_server server;
	struct fake_nodes nodes;
	struct part {
		struct kube *kube;
		struct controller controller;
	} parts[2], *leader;
	struct grpc_call *calls[CALLS];
	bool is_traced, is_taking_over;
	bool is_resized; /* some volume's spec.replicas was changed */
	unsigned placed, replaced, attached, crashes, unplaceable, left;
};

static struct sim sim;

static inline int64_t sim_now_s(void)
{
	return sim.server.now_s;
}

__attribute__((format(printf, 1, 2))) static inline void wrong(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fail_msg("seed %llu: %s", (unsigned long long)sim.seed, text);
}

/* ---- what must never be ---- */

static inline const json_t *volume_of(const json_t *replica)
{
	const json_t *volume =
		fake_server_get(&sim.server, "volumes", kube_text(replica, "spec.volume"));

	return strcmp(kube_text(volume, "spec.uuid"), kube_text(replica, "spec.volumeUUID")) == 0
		       ? volume
		       : NULL;
}

struct survey {
	const json_t *volume;
	const char *pool;
	unsigned live, data, made, twice, all;
	uint64_t reserved;
	bool is_on_deleted_pool; /* a live one is */
	json_t *nodes;
};

static inline bool is_arbiter(const json_t *replica)
{
	return strcmp(kube_text(replica, "spec.kind"), "Arbiter") == 0;
}

static inline void survey_replica(void *ctx, const json_t *replica)
{
	struct survey *survey = ctx;
	uint64_t size = 0;

	if (survey->pool != NULL && strcmp(survey->pool, kube_text(replica, "spec.pool")) == 0) {
		if (!is_arbiter(replica)) {
			assert_int_equal(
				kube_quantity_parse(kube_text(replica, "spec.size"), &size), 0);
		}
		survey->reserved += size;
		survey->all++;
	}
	if (survey->volume == NULL || volume_of(replica) != survey->volume) {
		return;
	}
	survey->all += survey->pool == NULL;
	if (!kube_is_deleted(replica)) {
		const char *node = kube_text(replica, "spec.node");

		survey->live++;
		survey->data += !is_arbiter(replica);
		survey->is_on_deleted_pool = survey->is_on_deleted_pool ||
					     kube_is_deleted(fake_server_get(&sim.server, "pools",
						     kube_text(replica, "spec.pool")));
		survey->made += kube_number(replica, "status.nsid", 0) != 0;
		survey->twice += json_object_get(survey->nodes, node) != NULL;
		(void)json_object_set_new(survey->nodes, node, json_true());
	}
}

static inline struct survey survey(const json_t *volume, const char *pool)
{
	struct survey result = {.volume = volume, .pool = pool, .nodes = json_object()};

	fake_server_each(&sim.server, "replicas", survey_replica, &result);
	return result;
}

static inline void survey_done(struct survey *survey)
{
	json_decref(survey->nodes);
}

#endif
