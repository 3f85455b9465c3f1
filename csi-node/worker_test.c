/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for what blocks, and programs. */
#include "base/testing.h"
#include "csi-node/program.h"
#include "csi-node/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORKS   40
#define HANGING 3
#define THREADS 4

/* ---- works ---- */

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t open;
	bool is_open;
	_Atomic unsigned inside;
	_Atomic bool was_crowded;
	unsigned done;
	pthread_t loop_thread;
};

struct test_work {
	struct work work;
	struct gate *gate;
	bool waits;
};

static void work_run(struct work *work)
{
	struct test_work *test = container_of(work, struct test_work, work);
	struct gate *gate = test->gate;

	if (atomic_fetch_add(&gate->inside, 1) >= THREADS) {
		atomic_store(&gate->was_crowded, true);
	}
	pthread_mutex_lock(&gate->lock);
	while (test->waits && !gate->is_open) {
		pthread_cond_wait(&gate->open, &gate->lock);
	}
	pthread_mutex_unlock(&gate->lock);
	atomic_fetch_sub(&gate->inside, 1);
}

static void work_done(struct work *work)
{
	struct test_work *test = container_of(work, struct test_work, work);

	assert_true(pthread_equal(pthread_self(), test->gate->loop_thread));
	test->gate->done++;
}

static void open_gate(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->is_open = true;
	pthread_cond_broadcast(&gate->open);
	pthread_mutex_unlock(&gate->lock);
}

static void test_works_that_hang_do_not_stop_the_others(void **state)
{
	struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER,
		.open = PTHREAD_COND_INITIALIZER,
		.loop_thread = pthread_self()};
	struct test_work works[WORKS] = {0};
	struct workers *workers;
	struct loop *loop;
	struct err err = {0};

	(void)state;
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(workers_new(loop, "test", THREADS, &workers, &err), 0);
	for (unsigned i = 0; i < WORKS; i++) {
		works[i] = (struct test_work){.work = {.run = work_run, .done = work_done},
			.gate = &gate,
			.waits = i < HANGING};
		workers_submit(workers, &works[i].work);
	}
	while (gate.done < WORKS - HANGING) {
		loop_turn(loop, 1000);
	}
	assert_int_equal(workers_busy(workers), HANGING);
	open_gate(&gate);
	while (gate.done < WORKS) {
		loop_turn(loop, 1000);
	}
	assert_int_equal(workers_busy(workers), 0);
	assert_false(atomic_load(&gate.was_crowded));
	workers_free(workers);
	loop_free(loop);
}

/* ---- programs ---- */

static void test_output_and_exit_code_of_a_program(void **state)
{
	const char *const argv[] = {
		"sh", "-c", "echo one; printf 'two\\n\\n  three\\001' >&2; exit 3", NULL};
	struct program_result result;
	struct err err = {0};

	(void)state;
	assert_int_equal(program_run(argv, 10000, &result, &err), 0);
	assert_int_equal(result.exit_code, 3);
	assert_string_equal(result.output, "one two three");
}

static void test_the_end_of_much_output_counts(void **state)
{
	const char *const argv[] = {
		"sh", "-c", "yes 0123456789 | head -n 100000; echo the end", NULL};
	struct program_result result;
	struct err err = {0};

	(void)state;
	assert_int_equal(program_run(argv, 30000, &result, &err), 0);
	assert_int_equal(result.exit_code, 0);
	assert_true(strlen(result.output) > 300);
	assert_string_equal(result.output + strlen(result.output) - 7, "the end");
}

static void test_a_program_that_does_not_end_is_killed(void **state)
{
	const char *const argv[] = {"sh", "-c", "echo begun; exec sleep 1000", NULL};
	struct program_result result;
	struct err err = {0};

	(void)state;
	assert_int_equal(program_run(argv, 1500, &result, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "begun"));
}

static void test_a_program_that_is_not_there(void **state)
{
	const char *const argv[] = {"strake-no-such-program", NULL};
	struct program_result result;
	struct err err = {0};

	(void)state;
	assert_int_equal(program_run(argv, 1000, &result, &err), -ENOENT);
	assert_non_null(strstr(err.text, "strake-no-such-program"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_works_that_hang_do_not_stop_the_others),
		cmocka_unit_test(test_output_and_exit_code_of_a_program),
		cmocka_unit_test(test_the_end_of_much_output_counts),
		cmocka_unit_test(test_a_program_that_does_not_end_is_killed),
		cmocka_unit_test(test_a_program_that_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
