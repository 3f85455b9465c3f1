/* SPDX-License-Identifier: Apache-2.0 */
/* What a running pool counts. */
#include "pool-agent/store/store_internal.h"

#include <string.h>

struct store_metric {
	struct metric *metric;
	enum metric_kind kind;
	const char *name, *help;
};

#define STORE_METRICS 4u

static void list_metrics(struct store_metrics *metrics, struct store_metric to[STORE_METRICS])
{
	const struct store_metric all[STORE_METRICS] = {
		{&metrics->journal_writes, METRIC_COUNTER, "strake_pool_journal_writes_total",
			"Blocks of metadata records that were written."},
		{&metrics->journal_records, METRIC_COUNTER, "strake_pool_journal_records_total",
			"Records in these blocks: stamps and changes of the map."},
		{&metrics->stamp_wait, METRIC_HISTOGRAM, "strake_pool_stamp_wait_seconds",
			"How long writes waited until the stamps of their regions, and their part "
			"of the map, were durable."},
		{&metrics->map_wait, METRIC_HISTOGRAM, "strake_pool_map_wait_seconds",
			"How long writes whose regions were stamped waited for their part of the "
			"map."},
	};

	memcpy(to, all, sizeof(all));
}

void store_metrics_add(struct store *store)
{
	struct metric_registry *registry = store->io->metrics;
	struct store_metrics *metrics = &store->metrics;
	struct store_metric all[STORE_METRICS];

	metrics->stamp_wait.buckets = metrics->stamp_buckets;
	metrics->map_wait.buckets = metrics->map_buckets;
	list_metrics(metrics, all);
	for (unsigned i = 0; registry != NULL && i < STORE_METRICS; i++) {
		metric_add(registry, all[i].metric, all[i].kind, all[i].name, all[i].help,
			"pool=\"%s\"", store->sb.name);
	}
}

void store_metrics_remove(struct store *store)
{
	struct metric_registry *registry = store->io->metrics;
	struct store_metric all[STORE_METRICS];

	list_metrics(&store->metrics, all);
	for (unsigned i = 0; registry != NULL && i < STORE_METRICS; i++) {
		metric_remove(registry, all[i].metric);
	}
}
