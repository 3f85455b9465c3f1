/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metric.h"
#include "base/testing.h"

#include <string.h>

static void test_print(void **state)
{
	struct metric_registry registry;
	struct metric writes_a = {0}, writes_b = {0}, depth = {0}, latency = {0};
	_Atomic uint64_t buckets[METRIC_BUCKETS] = {0};
	struct strbuf text;

	(void)state;
	metric_registry_init(&registry);
	latency.buckets = buckets;
	metric_add(&registry, &writes_b, METRIC_COUNTER, "strake_writes_total", "Writes.",
		"volume=\"%s\"", "b");
	metric_add(&registry, &latency, METRIC_HISTOGRAM, "strake_latency_seconds", "Latency.",
		"volume=\"%s\"", "a");
	metric_add(&registry, &writes_a, METRIC_COUNTER, "strake_writes_total", "Writes.",
		"volume=\"%s\"", "a");
	metric_add(&registry, &depth, METRIC_GAUGE, "strake_depth", "Depth.", "%s", "");
	metric_inc(&writes_b, 3);
	metric_inc(&writes_b, 4);
	metric_set(&depth, -5);
	metric_observe_ns(&latency, 1000);
	metric_observe_ns(&latency, 1001);
	metric_observe_ns(&latency, UINT64_C(100000000000));
	strbuf_init(&text);
	metric_registry_print(&registry, &text);
	const char *printed = strbuf_text(&text);

	assert_memory_equal(printed,
		"# HELP strake_depth Depth.\n# TYPE strake_depth gauge\nstrake_depth -5\n", 69);
	assert_non_null(
		strstr(printed, "# TYPE strake_latency_seconds histogram\n"
				"strake_latency_seconds_bucket{volume=\"a\",le=\"0.000001\"} 1\n"
				"strake_latency_seconds_bucket{volume=\"a\",le=\"0.000002\"} 2\n"));
	assert_non_null(
		strstr(printed, ",le=\"4.194304\"} 2\n"
				"strake_latency_seconds_bucket{volume=\"a\",le=\"+Inf\"} 3\n"
				"strake_latency_seconds_sum{volume=\"a\"} 100.000002001\n"
				"strake_latency_seconds_count{volume=\"a\"} 3\n"));
	assert_non_null(strstr(printed, "# TYPE strake_writes_total counter\n"
					"strake_writes_total{volume=\"b\"} 7\n"
					"strake_writes_total{volume=\"a\"} 0\n"));
	/* HELP and TYPE come once for each name. */
	const char *help = strstr(printed, "# HELP strake_writes_total");

	assert_null(strstr(help + 1, "# HELP strake_writes_total"));
	strbuf_done(&text);
	metric_remove(&registry, &writes_a);
	metric_remove(&registry, &writes_b);
	metric_remove(&registry, &depth);
	metric_remove(&registry, &latency);
	metric_remove(&registry, &latency);
	metric_registry_done(&registry);
}

struct counter {
	struct metric_registry *registry;
	struct metric metric;
};

static void *count_up(void *ctx)
{
	struct counter *counter = ctx;

	for (unsigned i = 0; i < 100000; i++) {
		metric_inc(&counter->metric, 1);
	}
	return NULL;
}

static void test_read_while_counting(void **state)
{
	struct metric_registry registry;
	struct counter counter = {.registry = &registry};
	uint64_t before = 0;
	pthread_t thread;

	(void)state;
	metric_registry_init(&registry);
	metric_add(&registry, &counter.metric, METRIC_COUNTER, "strake_x_total", "X.", "%s", "");
	assert_int_equal(pthread_create(&thread, NULL, count_up, &counter), 0);
	while (before < 100000) {
		uint64_t now = metric_get(&counter.metric);

		assert_true(now >= before);
		before = now;
	}
	pthread_join(thread, NULL);
	metric_remove(&registry, &counter.metric);
	metric_registry_done(&registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_read_while_counting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
