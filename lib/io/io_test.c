/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, timers against a naive model, and the buffer pool under random use. */
#include "base/bytes.h"
#include "base/testing.h"
#include "io/bufpool.h"
#include "io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- a small environment: a clock that is set by hand, memory that may run out
 * ------------------------ */

struct fixture {
	struct io io;
	uint64_t now_ns;
	unsigned allocations;
	size_t undumped_bytes;    /* left out of core dumps */
	unsigned allocations_max; /* the next one fails */
};

static uint64_t fake_now_ns(struct io *io)
{
	struct fixture *fixture = io->ctx;

	return fixture->now_ns;
}

static void *fake_zalloc(struct io *io, size_t alignment, size_t size)
{
	struct fixture *fixture = io->ctx;

	if (fixture->allocations == fixture->allocations_max) {
		return NULL;
	}
	void *memory = aligned_alloc(alignment, round_up_u64(size, alignment));

	assert_non_null(memory);
	memset(memory, 0, size);
	fixture->allocations++;
	return memory;
}

static void fake_free(struct io *io, void *memory)
{
	struct fixture *fixture = io->ctx;

	fixture->allocations -= memory != NULL ? 1 : 0;
	free(memory);
}

/* What may not be in a dump, in whole pages. */
static void fake_dump(struct io *io, void *memory, size_t size, bool may)
{
	struct fixture *fixture = io->ctx;

	assert_int_equal((uintptr_t)memory % IO_PAGE_BYTES, 0);
	assert_int_equal(size % IO_PAGE_BYTES, 0);
	/* Nothing of what was in them is dumped later. */
	assert_true(bytes_are_zero(memory, size));
	fixture->undumped_bytes += may ? -size : size;
}

static const struct io_ops fake_ops = {
	.now_ns = fake_now_ns,
	.zalloc = fake_zalloc,
	.free = fake_free,
	.dump = fake_dump,
};

static void fixture_init(struct fixture *fixture)
{
	*fixture = (struct fixture){.allocations_max = 100};
	io_init(&fixture->io, &fake_ops, fixture, 5, NULL);
}

/* ---- addresses --------------------------------------------------------------------------------
 */

static void check_address(const char *text, const char *host, unsigned port, const char *back)
{
	struct io_address address;
	struct err err;
	char printed[IO_ADDRESS_TEXT_SIZE];

	assert_int_equal(io_address_parse(text, 4430, &address, &err), 0);
	assert_string_equal(address.host, host);
	assert_int_equal(address.port, port);
	assert_string_equal(io_address_to_text(&address, printed), back);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {"", ":", "localhost", "localhost:1",
		"10.0.0.1:", "10.0.0.1:x", "10.0.0.1:65536", "10.0.0.1:100000", "10.0.0.256",
		"10.0.0.1:-1", "[::1", "[::1]x", "[::1]:", "[10.0.0.1]:5", "::g", "fe80::1%eth0",
		"10.0.0.1 ", "[]",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:1111:2222:3333:4444:5555:6666"};
	struct io_address address = {.port = 1};
	struct err err;

	(void)state;
	check_address("10.0.0.1", "10.0.0.1", 4430, "10.0.0.1:4430");
	check_address("10.0.0.1:1", "10.0.0.1", 1, "10.0.0.1:1");
	check_address("0.0.0.0:65535", "0.0.0.0", 65535, "0.0.0.0:65535");
	check_address("::1", "::1", 4430, "[::1]:4430");
	check_address("[FE80:0::1]:77", "fe80::1", 77, "[fe80::1]:77");
	check_address("[::]", "::", 4430, "[::]:4430");
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(io_address_parse(bad[i], 4430, &address, &err), -EINVAL);
		assert_non_null(strstr(err.text, "4430"));
	}
	assert_int_equal(address.port, 1);
}

/* ---- timers -----------------------------------------------------------------------------------
 */

#define TIMERS 100

struct expiring {
	struct task task;
	struct io_timer timer;
	unsigned expired;
	bool model_running;
	uint64_t model_deadline_ns;
	unsigned model_expired;
};

static void expiring_step(struct task *task)
{
	container_of(task, struct expiring, task)->expired++;
}

static void expire_both(struct fixture *fixture, struct expiring *all)
{
	uint64_t next_ns = UINT64_MAX;

	io_timers_expire(&fixture->io.timers, fixture->now_ns);
	(void)runq_run(&fixture->io.runq, UINT32_MAX);
	for (unsigned i = 0; i < TIMERS; i++) {
		if (all[i].model_running && all[i].model_deadline_ns <= fixture->now_ns) {
			all[i].model_running = false;
			all[i].model_expired++;
		}
		if (all[i].model_running) {
			next_ns = min_u64(next_ns, all[i].model_deadline_ns);
		}
		assert_int_equal(all[i].expired, all[i].model_expired);
		assert_int_equal(io_timer_is_running(&all[i].timer), all[i].model_running);
	}
	assert_true(io_timers_next_ns(&fixture->io.timers) == next_ns);
}

static void test_timers_against_model(void **state)
{
	struct expiring all[TIMERS] = {0};
	struct fixture fixture;
	struct rng rng;

	(void)state;
	fixture_init(&fixture);
	rng_init(&rng, 3);
	for (unsigned i = 0; i < TIMERS; i++) {
		task_init(&all[i].task, &fixture.io.runq, expiring_step);
		io_timer_init(&all[i].timer, &fixture.io, &all[i].task);
	}
	for (unsigned round = 0; round < 30000; round++) {
		struct expiring *one = &all[rng_below(&rng, TIMERS)];
		uint64_t delay_ns = rng_below(&rng, 300);

		if (rng_percent(&rng, 60)) {
			io_timer_start_after(&one->timer, delay_ns);
			one->model_running = true;
			one->model_deadline_ns = fixture.now_ns + delay_ns;
		} else if (rng_percent(&rng, 50)) {
			io_timer_stop(&one->timer);
			one->model_running = false;
		} else {
			fixture.now_ns += rng_below(&rng, 60);
			expire_both(&fixture, all);
		}
	}
	io_timer_start_after(&all[0].timer, UINT64_MAX);
	assert_true(all[0].timer.deadline_ns == UINT64_MAX);
	for (unsigned i = 0; i < TIMERS; i++) {
		io_timer_stop(&all[i].timer);
	}
	assert_null(fixture.io.timers.root);
}

static void test_timers_expire_in_order(void **state)
{
	struct expiring all[3] = {0};
	struct fixture fixture;

	(void)state;
	fixture_init(&fixture);
	for (unsigned i = 0; i < 3; i++) {
		task_init(&all[i].task, &fixture.io.runq, expiring_step);
		io_timer_init(&all[i].timer, &fixture.io, &all[i].task);
	}
	io_timer_start(&all[0].timer, 30);
	io_timer_start(&all[1].timer, 10);
	io_timer_start(&all[2].timer, 20);
	io_timers_expire(&fixture.io.timers, 9);
	assert_true(runq_is_empty(&fixture.io.runq));
	io_timers_expire(&fixture.io.timers, 100);
	for (unsigned i = 1; i <= 3; i++) {
		(void)runq_run(&fixture.io.runq, 1);
		assert_int_equal(all[i % 3].expired, 1);
	}
}

/* ---- buffers ----------------------------------------------------------------------------------
 */

#define BUFFERS    300
#define POOL_BYTES (4u * BUFPOOL_BUFFER_MAX)

struct held {
	unsigned char *buffer;
	size_t size;
};

static void mark(const struct held *held, unsigned number)
{
	for (size_t at = 0; at < held->size; at += 512) {
		held->buffer[at] = (unsigned char)number;
		held->buffer[held->size - 1] = (unsigned char)number;
	}
}

static void check_mark(const struct held *held, unsigned number)
{
	for (size_t at = 0; at < held->size; at += 512) {
		assert_int_equal(held->buffer[at], (unsigned char)number);
	}
	assert_int_equal(held->buffer[held->size - 1], (unsigned char)number);
}

static size_t random_size(struct rng *rng)
{
	size_t size = (size_t)BUFPOOL_UNIT << rng_below(rng, rng_percent(rng, 20) ? 9 : 4);

	return size - rng_below(rng, BUFPOOL_UNIT);
}

static void test_bufpool_random(void **state)
{
	struct held all[BUFFERS] = {0};
	struct fixture fixture;
	struct bufpool *pool = NULL;
	struct rng rng;
	unsigned failures = 0;

	(void)state;
	fixture_init(&fixture);
	rng_init(&rng, 9);
	assert_int_equal(bufpool_new(&fixture.io, POOL_BYTES - 5, &pool), 0);
	assert_int_equal(fixture.undumped_bytes, POOL_BYTES);
	for (unsigned round = 0; round < 40000; round++) {
		unsigned i = (unsigned)rng_below(&rng, BUFFERS);

		if (all[i].buffer != NULL) {
			check_mark(&all[i], i);
			bufpool_put(pool, all[i].buffer, all[i].size);
			all[i].buffer = NULL;
			continue;
		}
		all[i].size = random_size(&rng);
		all[i].buffer = bufpool_get(pool, all[i].size);
		if (all[i].buffer == NULL) {
			failures++;
			continue;
		}
		assert_int_equal((uintptr_t)all[i].buffer % BUFPOOL_UNIT, 0);
		mark(&all[i], i);
	}
	assert_true(failures > 0);
	for (unsigned i = 0; i < BUFFERS; i++) {
		if (all[i].buffer != NULL) {
			check_mark(&all[i], i);
			bufpool_put(pool, all[i].buffer, all[i].size);
		}
	}
	assert_int_equal(bufpool_used_bytes(pool), 0);
	/* Everything has grown together again. */
	for (unsigned i = 0; i < 4; i++) {
		all[i].buffer = bufpool_get(pool, BUFPOOL_BUFFER_MAX);
		assert_non_null(all[i].buffer);
	}
	assert_null(bufpool_get(pool, 1));
	assert_int_equal(bufpool_used_bytes(pool), POOL_BYTES);
	for (unsigned i = 0; i < 4; i++) {
		bufpool_put(pool, all[i].buffer, BUFPOOL_BUFFER_MAX);
	}
	bufpool_free(pool);
	assert_int_equal(fixture.allocations, 0);
	assert_int_equal(fixture.undumped_bytes, 0);
}

static void test_bufpool_waiters(void **state)
{
	struct expiring waiting[3] = {0};
	struct bufpool_waiter waiters[3] = {0};
	struct fixture fixture;
	struct bufpool *pool = NULL;

	(void)state;
	fixture_init(&fixture);
	assert_int_equal(bufpool_new(&fixture.io, 1, &pool), 0);
	void *all = bufpool_get(pool, BUFPOOL_BUFFER_MAX);

	assert_non_null(all);
	assert_null(bufpool_get(pool, 1));
	for (unsigned i = 0; i < 3; i++) {
		task_init(&waiting[i].task, &fixture.io.runq, expiring_step);
		bufpool_wait(pool, &waiters[i], &waiting[i].task);
		bufpool_wait(pool, &waiters[i], &waiting[i].task);
	}
	bufpool_unwait(&waiters[1]);
	bufpool_unwait(&waiters[1]);
	assert_true(runq_is_empty(&fixture.io.runq));
	bufpool_put(pool, all, BUFPOOL_BUFFER_MAX);
	(void)runq_run(&fixture.io.runq, 1);
	assert_int_equal(waiting[0].expired, 1);
	(void)runq_run(&fixture.io.runq, 10);
	assert_int_equal(waiting[1].expired, 0);
	assert_int_equal(waiting[2].expired, 1);
	/* Once only. */
	all = bufpool_get(pool, 1);
	bufpool_put(pool, all, 1);
	assert_true(runq_is_empty(&fixture.io.runq));
	bufpool_free(pool);
	bufpool_free(NULL);
}

static void test_bufpool_without_memory(void **state)
{
	struct fixture fixture;
	struct bufpool *pool = NULL;

	(void)state;
	fixture_init(&fixture);
	for (fixture.allocations_max = 0; fixture.allocations_max < 3; fixture.allocations_max++) {
		assert_int_equal(bufpool_new(&fixture.io, POOL_BYTES, &pool), -ENOMEM);
		assert_int_equal(fixture.allocations, 0);
	}
	assert_int_equal(bufpool_new(&fixture.io, 0, &pool), -EINVAL);
	assert_int_equal(bufpool_new(&fixture.io, SIZE_MAX, &pool), -EINVAL);
	assert_int_equal(bufpool_new(&fixture.io, POOL_BYTES, &pool), 0);
	bufpool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_timers_against_model),
		cmocka_unit_test(test_timers_expire_in_order),
		cmocka_unit_test(test_bufpool_random),
		cmocka_unit_test(test_bufpool_waiters),
		cmocka_unit_test(test_bufpool_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
