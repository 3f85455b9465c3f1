/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata of several replicas are written together: power is lost at each of the writes, or
 * one of them fails. */
#include "pool-agent/store/store_internal.h"
#include "pool-agent/testing/store_bench.h"

#define DISK_BYTES   (UINT64_C(64) << 20)
#define REPLICA_SIZE (UINT64_C(4) << 20)
#define REPLICAS     8u
#define UPDATES      3u /* of each */
#define SEEDS        4u

struct updates {
	struct bench bench;
	struct store_replica *replicas[REPLICAS];
	struct uuid ids[REPLICAS];
	struct store_op ops[REPLICAS];
	unsigned answered[REPLICAS], failed;
	struct sim_event event;
	bool lost_power;
};

static void updates_start(struct updates *updates, uint64_t seed)
{
	static const struct store_format_options options = {
		.name = "pool",
		.cluster_bytes = 64u * 1024,
		.region_bytes = 256u * 1024,
		.replica_slots = 2 * REPLICAS,
		.journal_blocks = 64,
	};
	struct bench *bench = &updates->bench;

	*updates = (struct updates){0};
	bench_init(bench, seed, DISK_BYTES);
	assert_int_equal(bench_format(bench, &options), 0);
	assert_int_equal(bench_open(bench), 0);
	for (unsigned i = 0; i < REPLICAS; i++) {
		assert_int_equal(bench_create(bench, "db", REPLICA_SIZE, &updates->replicas[i]), 0);
		updates->ids[i] = store_replica_vmeta(updates->replicas[i])->replica;
	}
	bench_settle(bench);
}

static void update_begin(struct updates *updates, unsigned i);

static void update_done(struct store_op *op)
{
	struct updates *updates = op->ctx;
	unsigned i = (unsigned)(op - updates->ops);

	if (op->result != 0) {
		updates->failed++;
	} else if (++updates->answered[i] < UPDATES) {
		update_begin(updates, i);
	}
}

/* Much of it changes: a torn block is of no version. */
static void update_begin(struct updates *updates, unsigned i)
{
	struct vmeta vmeta = *store_replica_vmeta(updates->replicas[i]);
	unsigned number = updates->answered[i] + 1;

	vmeta.promised = (struct epoch){.attach = 1, .inc = number, .nonce = 77};
	for (unsigned k = 0; k < 2; k++) {
		vmeta.keys[k].number = (uint16_t)(number + 1 - k);
		memset(vmeta.keys[k].secret, (int)(number * 7 + k), sizeof(vmeta.keys[k].secret));
	}
	vmeta.cfg = (struct cfg){
		.epoch = vmeta.promised,
		.gen = number,
		.lineage = 1,
		.size_bytes = REPLICA_SIZE,
		.wgen = number,
		.voter_count = 1,
		.voters = {{.id = vmeta.replica,
			.kind = VOTER_DATA,
			.insync = true,
			.power = number * 1234567}},
	};
	updates->ops[i] = (struct store_op){.done = update_done, .ctx = updates};
	store_replica_update(updates->replicas[i], &vmeta, &updates->ops[i]);
}

static void power_loss(struct sim_event *event)
{
	struct updates *updates = container_of(event, struct updates, event);

	sim_host_power_loss(updates->bench.host);
	updates->lost_power = true;
}

/* Each has the version that was answered last, or the one behind it. */
static void check(struct updates *updates)
{
	struct bench *bench = &updates->bench;

	bench->store = NULL;
	bench_start_process(bench);
	assert_int_equal(bench_open(bench), 0);
	for (unsigned i = 0; i < REPLICAS; i++) {
		const struct store_replica *replica =
			store_replica_find(bench->store, &updates->ids[i]);

		assert_non_null(replica);
		assert_false(store_replica_abstains(replica));
		assert_in_range(store_replica_vmeta(replica)->promised.inc, updates->answered[i],
			updates->answered[i] + 1);
	}
}

/* false: there are fewer writes. */
static bool crash_at(uint64_t seed, uint64_t nth)
{
	struct updates updates;

	updates_start(&updates, seed * 1000 + nth);
	sim_disk_set_torn_range(updates.bench.disk, 0, DISK_BYTES);
	for (unsigned i = 0; i < REPLICAS; i++) {
		update_begin(&updates, i);
	}
	sim_disk_at_write(updates.bench.disk, nth, &updates.event, power_loss);
	sim_run_for_ns(updates.bench.sim, 2 * IO_NS_PER_S);
	if (updates.lost_power) {
		check(&updates);
	}
	bench_done(&updates.bench);
	return updates.lost_power;
}

static void test_power_loss_at_each_write(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		uint64_t nth = 1;

		while (crash_at(seed, nth)) {
			nth++;
		}
		assert_true(nth > (uint64_t)2 * REPLICAS * UPDATES);
	}
}

/* Of the first, by itself, while the others wait: nothing of those is written. */
static void test_first_write_fails(void **state)
{
	struct sim_disk_faults faults = {.fail_nth = 1};
	struct updates updates;
	struct bench *bench = &updates.bench;
	uint64_t before;

	(void)state;
	updates_start(&updates, 1);
	before = sim_disk_operations(bench->disk);
	sim_disk_set_faults(bench->disk, &faults);
	update_begin(&updates, 0);
	while (sim_disk_operations(bench->disk) == before) {
		sim_run_for_ns(bench->sim, 1000);
	}
	assert_int_equal(updates.failed, 0);
	for (unsigned i = 1; i < REPLICAS; i++) {
		update_begin(&updates, i);
	}
	sim_run_for_ns(bench->sim, IO_NS_PER_S);
	assert_int_equal(updates.failed, REPLICAS);
	assert_int_equal(sim_disk_operations(bench->disk) - before, 1);
	assert_true(bench_info(bench).failed);
	assert_int_equal(bench_close(bench), 0);
	bench_end_process(bench);
	check(&updates);
	assert_int_equal(bench_close(bench), 0);
	bench_end_process(bench);
	bench_done(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_loss_at_each_write),
		cmocka_unit_test(test_first_write_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
