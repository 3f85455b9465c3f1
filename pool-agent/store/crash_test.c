/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations against a model, with a crash at every disk operation (of the process, or of
 * power with any subset of what was not flushed, metadata torn at 512 bytes), again while the
 * crashed pool is being opened, with the n-th disk operation failing, and with the n-th allocation
 * failing.
 */
#include "pool-agent/testing/store_workload.h"

#define STEPS 120u

/* Disk operations of the whole workload. */
static uint64_t measure(uint64_t seed)
{
	struct workload *world = workload_new(seed);
	uint64_t begin = sim_disk_operations(world->bench.disk);
	uint64_t operations;

	workload_run(world, STEPS, 0);
	operations = sim_disk_operations(world->bench.disk) - begin;
	assert_int_equal(bench_close(&world->bench), 0);
	bench_end_process(&world->bench);
	bench_start_process(&world->bench);
	workload_open_and_check(world, false);
	workload_free(world);
	return operations;
}

static void crash_at(uint64_t seed, uint64_t nth)
{
	struct workload *world = workload_new(seed);
	uint64_t begin = sim_disk_operations(world->bench.disk);
	bool power = nth % 3 != 0;
	bool second_power = nth % 2 == 0;

	world->nth = nth;
	workload_run(world, STEPS, begin + nth);
	workload_crash(world, power);
	/* Two of five with another crash, while the pool is being opened. */
	if (nth % 5 < 2 && !workload_crash_while_opening(world, 1 + nth * 7 % 23, second_power)) {
		power |= second_power;
		workload_open_and_check(world, power);
	} else if (world->bench.store == NULL) {
		workload_open_and_check(world, power);
	} else {
		workload_check(world, power);
	}
	if (nth % 4 == 1) {
		/* What an open has shown stays, whatever happens next. */
		workload_crash(world, true);
		workload_open_and_check(world, true);
	}
	/* It goes on as if nothing had happened. */
	workload_run(world, STEPS / 2, 0);
	workload_crash(world, !power);
	workload_open_and_check(world, !power);
	workload_free(world);
}

static uint64_t seeds_from_environment(uint64_t standard)
{
	const char *text = getenv("STRAKE_STORE_SEEDS");

	return text != NULL ? strtoull(text, NULL, 10) : standard;
}

static uint64_t crash_everywhere(uint64_t seed)
{
	uint64_t operations = measure(seed);

	/* The last line before a failure says which seed it was. */
	print_message("seed %llu: %llu crash points\n", (unsigned long long)seed,
		(unsigned long long)operations);
	assert_true(operations > STEPS / 8);
	for (uint64_t nth = 1; nth <= operations; nth++) {
		if (getenv("STRAKE_STORE_SEED") != NULL) {
			print_message("operation %llu\n", (unsigned long long)nth);
		}
		crash_at(seed, nth);
	}
	return operations;
}

static void test_crash_at_every_operation(void **state)
{
	const char *seed = getenv("STRAKE_STORE_SEED");
	const char *operation = getenv("STRAKE_STORE_OPERATION");
	uint64_t points = 0;

	(void)state;
	if (seed != NULL && operation != NULL) {
		crash_at(strtoull(seed, NULL, 10), strtoull(operation, NULL, 10));
		return;
	}
	if (seed != NULL) {
		(void)crash_everywhere(strtoull(seed, NULL, 10));
		return;
	}
	for (uint64_t i = 1; i <= seeds_from_environment(6); i++) {
		points += crash_everywhere(i);
	}
	print_message("%llu crash points\n", (unsigned long long)points);
}

/* true: the fault was hit. */
static bool fail_at(uint64_t seed, uint64_t nth, bool and_later)
{
	struct workload *world = workload_new(seed);
	struct sim_disk_faults faults = {.fail_nth = nth, .fail_after_nth = and_later};
	uint64_t begin = sim_disk_operations(world->bench.disk);
	bool hit;

	world->nth = nth;
	world->faults = true;
	sim_disk_set_faults(world->bench.disk, &faults);
	workload_run(world, STEPS, 0);
	hit = sim_disk_operations(world->bench.disk) - begin >= nth;
	assert_true(hit || world->errors == 0);
	assert_int_equal(bench_close(&world->bench), 0);
	bench_end_process(&world->bench);
	sim_disk_set_faults(world->bench.disk, &(struct sim_disk_faults){0});
	bench_start_process(&world->bench);
	workload_open_and_check(world, false);
	workload_run(world, STEPS / 2, 0);
	workload_free(world);
	return hit;
}

static void test_every_operation_fails_once(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		for (uint64_t nth = 1; fail_at(seed, nth, false); nth++) {
		}
		for (uint64_t nth = 1; fail_at(seed, nth, true); nth += 3) {
		}
	}
}

/* Faults while opening: a clear error, or it opens; afterwards all is as it was. */
static void test_every_operation_of_open_fails_once(void **state)
{
	bool more = true;

	(void)state;
	for (uint64_t nth = 1; more; nth++) {
		struct workload *world = workload_new(3);
		struct sim_disk_faults faults = {.fail_nth = nth};
		uint64_t begin;
		int result;

		workload_run(world, STEPS, 0);
		workload_crash(world, false);
		begin = sim_disk_operations(world->bench.disk);
		sim_disk_set_faults(world->bench.disk, &faults);
		result = bench_open(&world->bench);
		more = sim_disk_operations(world->bench.disk) - begin >= nth;
		sim_disk_set_faults(world->bench.disk, &(struct sim_disk_faults){0});
		assert_true(result == 0 || result == -EIO || result == -EBADMSG);
		if (result == 0) {
			assert_int_equal(bench_close(&world->bench), 0);
		} else {
			assert_true(more);
			assert_string_not_equal(world->bench.err.text, "");
		}
		bench_end_process(&world->bench);
		bench_start_process(&world->bench);
		workload_open_and_check(world, false);
		workload_free(world);
	}
}

/* Every allocation fails once; nothing is left behind, and the next try succeeds. */
static void test_every_allocation_fails_once(void **state)
{
	bool failed = true;

	(void)state;
	for (uint64_t nth = 1; failed; nth++) {
		struct workload *world = workload_new(5);
		int result;

		workload_run(world, 20, 0);
		assert_int_equal(bench_close(&world->bench), 0);
		bench_end_process(&world->bench);
		bench_start_process(&world->bench);
		sim_process_fail_allocation(world->bench.process, nth);
		result = bench_open(&world->bench);
		failed = result != 0;
		if (failed) {
			assert_int_equal(result, -ENOMEM);
			assert_int_equal(sim_process_allocations(world->bench.process), 0);
		} else {
			assert_int_equal(bench_close(&world->bench), 0);
		}
		bench_end_process(&world->bench);
		bench_start_process(&world->bench);
		workload_open_and_check(world, false);
		workload_free(world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash_at_every_operation),
		cmocka_unit_test(test_every_operation_fails_once),
		cmocka_unit_test(test_every_operation_of_open_fails_once),
		cmocka_unit_test(test_every_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
