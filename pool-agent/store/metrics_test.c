/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool counts: writes that wait for metadata, and for which. */
#include "pool-agent/store/store_internal.h"
#include "pool-agent/testing/store_bench.h"

#define MIB     (UINT64_C(1) << 20)
#define CLUSTER (64u * 1024)
#define REGION  (UINT64_C(256) * 1024)
#define BLOCK   STORE_BLOCK_BYTES

static const struct store_format_options small_options = {
	.name = "pool",
	.cluster_bytes = CLUSTER,
	.region_bytes = REGION,
	.replica_slots = 8,
	.journal_blocks = 16,
};

/* Histograms: how many waited. */
static void assert_waited(const struct bench *bench, uint64_t for_stamp, uint64_t for_map)
{
	const struct store_metrics *metrics = &bench->store->metrics;

	assert_int_equal(metric_get(&metrics->stamp_wait), for_stamp);
	assert_int_equal(metric_get(&metrics->map_wait), for_map);
}

static void test_waits_are_counted(void **state)
{
	struct bench bench;
	struct store_replica *replica;
	uint64_t records;

	(void)state;
	bench_init(&bench, 1, 32 * MIB);
	assert_int_equal(bench_format(&bench, &small_options), 0);
	assert_int_equal(bench_open(&bench), 0);
	assert_int_equal(bench_create(&bench, "db", 8 * MIB, &replica), 0);
	records = metric_get(&bench.store->metrics.journal_records);
	/* A region and a cluster that are new. */
	assert_int_equal(bench_write(&bench, replica, 0, BLOCK, 1, 5), 0);
	assert_waited(&bench, 1, 0);
	assert_int_equal(metric_get(&bench.store->metrics.journal_records), records + 2);
	/* A cluster that is new. */
	assert_int_equal(bench_write(&bench, replica, CLUSTER, BLOCK, 1, 5), 0);
	assert_waited(&bench, 1, 1);
	/* Neither. */
	assert_int_equal(bench_write(&bench, replica, 0, BLOCK, 2, 5), 0);
	assert_waited(&bench, 1, 1);
	/* The next generation. */
	assert_int_equal(bench_write(&bench, replica, CLUSTER, BLOCK, 2, 6), 0);
	assert_waited(&bench, 2, 1);
	assert_int_equal(bench_write(&bench, replica, 0, BLOCK, 2, 6), 0);
	assert_waited(&bench, 2, 1);
	/* They waited as long as a write of the journal takes. */
	assert_true(atomic_load(&bench.store->metrics.stamp_wait.sum_ns) > 0);
	assert_true(atomic_load(&bench.store->metrics.map_wait.sum_ns) > 0);
	assert_int_equal(bench_close(&bench), 0);
	bench_end_process(&bench);
	bench_done(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
