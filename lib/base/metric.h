/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters, gauges and histograms, read by the control thread while the data thread counts: relaxed
 * atomics, one writer thread each.  A metric is embedded in the object that counts; the registry
 * lists them and prints the Prometheus text format 0.0.4.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include "base/list.h"
#include "base/strbuf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

#define METRIC_LABELS_MAX 160
#define METRIC_BUCKETS    24 /* of nanoseconds: upper bounds 1 us * 2^i, the last is +Inf */

struct metric {
	struct list_node node; /* in the registry */
	enum metric_kind kind;
	const char *name;               /* static, like "strake_nexus_writes_total" */
	const char *help;               /* static */
	char labels[METRIC_LABELS_MAX]; /* like `volume="db",replica="7d1c"`, or "" */
	_Atomic uint64_t value;         /* counter, gauge (as int64_t); count of a histogram */
	_Atomic uint64_t sum_ns;
	_Atomic uint64_t *
		buckets; /* METRIC_BUCKETS of them, owned by the embedding object; histogram only */
};

/* Any thread may add, remove and print. */
struct metric_registry {
	pthread_mutex_t lock;
	struct list metrics;
};

void metric_registry_init(struct metric_registry *registry);
void metric_registry_done(struct metric_registry *registry);

/* labels_format builds the label list (values are escaped by the caller's choice of values). */
void metric_add(struct metric_registry *registry, struct metric *metric, enum metric_kind kind,
	const char *name, const char *help, const char *labels_format, ...)
	__attribute__((format(printf, 6, 7)));
void metric_remove(struct metric_registry *registry, struct metric *metric);

static inline void metric_inc(struct metric *metric, uint64_t by)
{
	atomic_store_explicit(&metric->value,
		atomic_load_explicit(&metric->value, memory_order_relaxed) + by,
		memory_order_relaxed);
}

static inline void metric_set(struct metric *metric, int64_t value)
{
	atomic_store_explicit(&metric->value, (uint64_t)value, memory_order_relaxed);
}

static inline uint64_t metric_get(const struct metric *metric)
{
	return atomic_load_explicit(
		&((struct metric *)(uintptr_t)metric)->value, memory_order_relaxed);
}

void metric_observe_ns(struct metric *metric, uint64_t ns);

/* All metrics in the order of their names, HELP and TYPE once a name. */
void metric_registry_print(struct metric_registry *registry, struct strbuf *to);

#endif
