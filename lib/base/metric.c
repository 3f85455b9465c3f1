/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metric.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void metric_registry_init(struct metric_registry *registry)
{
	int error = pthread_mutex_init(&registry->lock, NULL);

	assert(error == 0);
	list_init(&registry->metrics);
}

void metric_registry_done(struct metric_registry *registry)
{
	assert(list_is_empty(&registry->metrics));
	int error = pthread_mutex_destroy(&registry->lock);

	assert(error == 0);
}

/* Kept in the order of names, so that printing needs no sorting; equal names in the order of
 * adding. */
static void insert_sorted(struct metric_registry *registry, struct metric *metric)
{
	struct list_node *next = &registry->metrics.head;

	while (next->prev != &registry->metrics.head) {
		struct metric *before = container_of(next->prev, struct metric, node);

		if (strcmp(before->name, metric->name) <= 0) {
			break;
		}
		next = next->prev;
	}
	list_insert_before(next, &metric->node);
}

void metric_add(struct metric_registry *registry, struct metric *metric, enum metric_kind kind,
	const char *name, const char *help, const char *labels_format, ...)
{
	va_list args;

	assert(kind != METRIC_HISTOGRAM || metric->buckets != NULL);
	metric->kind = kind;
	metric->name = name;
	metric->help = help;
	va_start(args, labels_format);
	int length = vsnprintf(metric->labels, sizeof(metric->labels), labels_format, args);
	va_end(args);
	assert(length >= 0 && (size_t)length < sizeof(metric->labels));
	pthread_mutex_lock(&registry->lock);
	insert_sorted(registry, metric);
	pthread_mutex_unlock(&registry->lock);
}

void metric_remove(struct metric_registry *registry, struct metric *metric)
{
	pthread_mutex_lock(&registry->lock);
	list_remove_if_linked(&metric->node);
	pthread_mutex_unlock(&registry->lock);
}

static void add_relaxed(_Atomic uint64_t *to, uint64_t by)
{
	/* One writer: a plain load and store is enough and costs no locked instruction. */
	atomic_store_explicit(
		to, atomic_load_explicit(to, memory_order_relaxed) + by, memory_order_relaxed);
}

void metric_observe_ns(struct metric *metric, uint64_t ns)
{
	unsigned bucket = 0;

	while (bucket < METRIC_BUCKETS - 1 && ns > UINT64_C(1000) << bucket) {
		bucket++;
	}
	add_relaxed(&metric->buckets[bucket], 1);
	add_relaxed(&metric->sum_ns, ns);
	add_relaxed(&metric->value, 1);
}

/* Nanoseconds as seconds, without trailing zeros: "0.000128". */
static void print_seconds(struct strbuf *to, uint64_t ns)
{
	char fraction[10];
	size_t length = 9;

	(void)snprintf(fraction, sizeof(fraction), "%09u", (unsigned)(ns % UINT64_C(1000000000)));
	while (length > 1 && fraction[length - 1] == '0') {
		length--;
	}
	fraction[length] = '\0';
	strbuf_printf(to, "%" PRIu64 ".%s", ns / UINT64_C(1000000000), fraction);
}

static void print_histogram(const struct metric *metric, struct strbuf *to)
{
	const char *comma = metric->labels[0] != '\0' ? "," : "";
	uint64_t below = 0;

	for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
		below += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
		strbuf_printf(to, "%s_bucket{%s%sle=\"", metric->name, metric->labels, comma);
		if (i == METRIC_BUCKETS - 1) {
			strbuf_append(to, "+Inf");
		} else {
			print_seconds(to, UINT64_C(1000) << i);
		}
		strbuf_printf(to, "\"} %" PRIu64 "\n", below);
	}
	const char *open = metric->labels[0] != '\0' ? "{" : "";
	const char *close = metric->labels[0] != '\0' ? "}" : "";

	strbuf_printf(to, "%s_sum%s%s%s ", metric->name, open, metric->labels, close);
	print_seconds(to, atomic_load_explicit(&metric->sum_ns, memory_order_relaxed));
	/* The count is that of the buckets just printed: a reader sees one consistent histogram. */
	strbuf_printf(to, "\n%s_count%s%s%s %" PRIu64 "\n", metric->name, open, metric->labels,
		close, below);
}

static void print_one(const struct metric *metric, struct strbuf *to)
{
	uint64_t value = metric_get(metric);

	switch (metric->kind) {
	case METRIC_HISTOGRAM:
		print_histogram(metric, to);
		return;
	case METRIC_COUNTER:
	case METRIC_GAUGE:
		break;
	}
	strbuf_append(to, metric->name);
	if (metric->labels[0] != '\0') {
		strbuf_printf(to, "{%s}", metric->labels);
	}
	if (metric->kind == METRIC_GAUGE) {
		strbuf_printf(to, " %" PRId64 "\n", (int64_t)value);
	} else {
		strbuf_printf(to, " %" PRIu64 "\n", value);
	}
}

static const char *kind_name(enum metric_kind kind)
{
	static const char *const names[] = {
		[METRIC_COUNTER] = "counter",
		[METRIC_GAUGE] = "gauge",
		[METRIC_HISTOGRAM] = "histogram",
	};

	return names[kind];
}

void metric_registry_print(struct metric_registry *registry, struct strbuf *to)
{
	const char *name = "";

	pthread_mutex_lock(&registry->lock);
	list_for_each (&registry->metrics, node) {
		struct metric *metric = container_of(node, struct metric, node);

		if (strcmp(name, metric->name) != 0) {
			name = metric->name;
			strbuf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, metric->help, name,
				kind_name(metric->kind));
		}
		print_one(metric, to);
	}
	pthread_mutex_unlock(&registry->lock);
}
