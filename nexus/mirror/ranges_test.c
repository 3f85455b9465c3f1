/* SPDX-License-Identifier: Apache-2.0 */
/* Range locks, piece maps and dirty maps against naive models, with random operations. */
#include "base/bytes.h"
#include "base/testing.h"
#include "nexus/mirror/dirty.h"
#include "nexus/mirror/piecemap.h"
#include "nexus/mirror/range_lock.h"
#include "simio/simio.h"

#include <string.h>

#define LOCKS 24
#define SPACE 16

static void no_step(struct task *task)
{
	(void)task;
}

static bool overlap(const struct range_lock *a, const struct range_lock *b)
{
	return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

/* Nobody holds a range against another's right, and nobody waits whom nothing hinders. */
static void check_locks(const struct range_lock *locks)
{
	for (unsigned i = 0; i < LOCKS; i++) {
		for (unsigned j = 0; j < LOCKS; j++) {
			const struct range_lock *a = &locks[i];
			const struct range_lock *b = &locks[j];

			if (i == j || !a->held || !b->held || !overlap(a, b)) {
				continue;
			}
			assert_true((!a->exclusive && !b->exclusive) ||
				    (a->internal && b->parked) || (b->internal && a->parked));
		}
	}
}

static void test_random_locks(void **ctx)
{
	struct range_lock locks[LOCKS] = {0};
	struct range_locks table;
	struct task tasks[LOCKS];
	struct runq runq;
	struct rng rng;
	unsigned granted = 0;

	(void)ctx;
	rng_init(&rng, 7);
	runq_init(&runq);
	range_locks_init(&table);
	for (unsigned i = 0; i < LOCKS; i++) {
		task_init(&tasks[i], &runq, no_step);
	}
	for (unsigned turn = 0; turn < 20000; turn++) {
		struct range_lock *lock = &locks[rng_below(&rng, LOCKS)];

		if (!list_is_linked(&lock->node)) {
			lock->offset = rng_below(&rng, SPACE);
			lock->length = 1 + rng_below(&rng, 4);
			lock->exclusive = rng_percent(&rng, 60);
			lock->internal = lock->exclusive && rng_percent(&rng, 20);
			range_lock_acquire(&table, lock, &tasks[lock - locks]);
			granted += lock->held;
		} else if (lock->held && lock->exclusive && !lock->internal && !lock->parked &&
			   rng_percent(&rng, 30)) {
			lock->parked = true;
			range_lock_parked(&table, lock);
		} else {
			range_lock_release(&table, lock);
		}
		check_locks(locks);
		runq_run(&runq, 1000);
	}
	assert_true(granted > 1000);
	for (unsigned i = 0; i < LOCKS; i++) {
		range_lock_release(&table, &locks[i]);
	}
	assert_true(list_is_empty(&table.held) && list_is_empty(&table.waiting));
}

static void test_first_come(void **ctx)
{
	struct range_lock reader = {.length = 4};
	struct range_lock writer = {.length = 4, .exclusive = true};
	struct range_lock late_reader = {.length = 4};
	struct range_lock elsewhere = {.offset = 4, .length = 4, .exclusive = true};
	struct range_locks table;
	struct runq runq;
	struct task task;

	(void)ctx;
	runq_init(&runq);
	task_init(&task, &runq, no_step);
	range_locks_init(&table);
	range_lock_acquire(&table, &reader, &task);
	range_lock_acquire(&table, &writer, &task);
	range_lock_acquire(&table, &late_reader, &task);
	range_lock_acquire(&table, &elsewhere, &task);
	assert_true(reader.held && !writer.held && !late_reader.held && elsewhere.held);
	range_lock_release(&table, &reader);
	assert_true(writer.held && !late_reader.held);
	range_lock_release(&table, &writer);
	assert_true(late_reader.held);
	runq_run(&runq, 10);
}

/* A copy passes a parked write, an ordinary request does not. */
static void test_parked(void **ctx)
{
	struct range_lock parked = {.length = 4, .exclusive = true};
	struct range_lock host = {.length = 4, .exclusive = true};
	struct range_lock copy = {.length = 8, .exclusive = true, .internal = true};
	struct range_locks table;
	struct runq runq;
	struct task task;

	(void)ctx;
	runq_init(&runq);
	task_init(&task, &runq, no_step);
	range_locks_init(&table);
	range_lock_acquire(&table, &parked, &task);
	range_lock_acquire(&table, &host, &task);
	range_lock_acquire(&table, &copy, &task);
	assert_false(copy.held);
	parked.parked = true;
	range_lock_parked(&table, &parked);
	assert_true(copy.held && !host.held);
	range_lock_release(&table, &parked);
	assert_false(host.held);
	range_lock_release(&table, &copy);
	assert_true(host.held);
	runq_run(&runq, 10);
}

/* A copy waits its turn behind a request that came first: a long one would wait for all copies. */
static void test_copies_do_not_overtake(void **ctx)
{
	struct range_lock first = {.length = 1, .exclusive = true, .internal = true};
	struct range_lock discard = {.length = 8, .exclusive = true};
	struct range_lock second = {.offset = 1, .length = 1, .exclusive = true, .internal = true};
	struct range_locks table;
	struct runq runq;
	struct task task;

	(void)ctx;
	runq_init(&runq);
	task_init(&task, &runq, no_step);
	range_locks_init(&table);
	range_lock_acquire(&table, &first, &task);
	range_lock_acquire(&table, &discard, &task);
	range_lock_acquire(&table, &second, &task);
	assert_true(first.held && !discard.held && !second.held);
	range_lock_release(&table, &first);
	assert_true(discard.held && !second.held);
	discard.parked = true;
	range_lock_parked(&table, &discard);
	assert_true(second.held && range_lock_is_shared(&table, &discard));
	range_lock_release(&table, &second);
	assert_false(range_lock_is_shared(&table, &discard));
	runq_run(&runq, 10);
}

#define MAP_SIZE   (1000u * 4096)
#define MAP_REGION (64u * 1024)

static void test_random_pieces(void **ctx)
{
	struct sim *sim = sim_new(3, NULL);
	struct sim_process *process = sim_process_new(sim_host_new(sim, "10.0.0.1"), "test");
	struct io *io = sim_process_io(process);
	static bool model[1000];
	struct piecemap map;
	struct rng rng;

	(void)ctx;
	rng_init(&rng, 11);
	assert_int_equal(piecemap_init(&map, io, MAP_SIZE, MAP_REGION, PIECES_A_REGION), 0);
	assert_int_equal(map.piece_bytes, 4096);
	for (unsigned turn = 0; turn < 5000; turn++) {
		uint64_t from = rng_below(&rng, 1000);
		uint64_t count = 1 + rng_below(&rng, min_u64(40, 1000 - from));
		uint64_t next = from;
		uint64_t total = 0;
		bool any = false;

		if (rng_percent(&rng, 30)) {
			piecemap_set(&map, from * 4096, count * 4096);
			memset(model + from, true, count);
		} else {
			piecemap_clear_piece(&map, from);
			model[from] = false;
		}
		while (next < 1000 && !model[next]) {
			next++;
		}
		assert_int_equal(piecemap_next(&map, from), next == 1000 ? UINT64_MAX : next);
		for (unsigned i = 0; i < 1000; i++) {
			total += model[i];
			any = any || (model[i] && i >= from && i < from + count);
		}
		assert_int_equal(map.count, total);
		assert_int_equal(piecemap_test(&map, from * 4096, count * 4096), any);
	}
	piecemap_set_region(&map, map.region_count - 1); /* a short one */
	assert_int_equal(piecemap_piece_length(&map, 999), 4096);
	piecemap_done(&map, io);
	sim_process_exit(process);
	sim_free(sim);
}

/* What is set stays, and what is added can be set. */
static void grow_both(struct io *io, struct dirty *dirty, struct piecemap *model,
	struct piecemap *copy, uint64_t size)
{
	const uint64_t larger = size + (UINT64_C(300) << 20);

	assert_int_equal(dirty_reserve(dirty, io, larger), 0);
	assert_int_equal(piecemap_reserve(model, io, larger), 0);
	assert_int_equal(piecemap_reserve(copy, io, larger), 0);
	dirty_grow(dirty, larger);
	piecemap_grow(model, larger);
	piecemap_grow(copy, larger);
	assert_true(dirty->known);
	dirty_set(dirty, larger - 4096, 4096);
	piecemap_set(model, larger - 4096, 4096);
	assert_true(dirty->known);
}

/* Against a model, until the pages run out. */
static void test_random_dirty(void **ctx)
{
	const uint64_t size = UINT64_C(10) << 30;
	struct sim *sim = sim_new(3, NULL);
	struct sim_process *process = sim_process_new(sim_host_new(sim, "10.0.0.1"), "test");
	struct io *io = sim_process_io(process);
	struct dirty_store store;
	struct dirty dirty = {0}, other = {0};
	struct piecemap model = {0}, copy = {0};
	struct rng rng;

	(void)ctx;
	rng_init(&rng, 5);
	assert_int_equal(dirty_store_init(&store, io, 42 * DIRTY_PAGE_BYTES), 0);
	assert_int_equal(dirty_init(&dirty, &store, io, size, 16u << 20), 0);
	assert_int_equal(dirty_init(&other, &store, io, size, 16u << 20), 0);
	assert_int_equal(piecemap_init(&model, io, size, 16u << 20, PIECES_A_REGION_FINE), 0);
	assert_int_equal(piecemap_init(&copy, io, size, 16u << 20, PIECES_A_REGION_FINE), 0);
	assert_int_equal(model.piece_bytes, 64u << 10);
	dirty_set(&dirty, 0, 4096);
	assert_false(dirty.known);
	dirty_begin(&dirty, 77);
	for (unsigned turn = 0; turn < 3000; turn++) {
		uint64_t length = 4096 * (1 + rng_below(&rng, 500));
		uint64_t offset = rng_below(&rng, (size - length) / 4096) * 4096;

		dirty_set(&dirty, offset, length);
		piecemap_set(&model, offset, length);
	}
	dirty_set(&dirty, size - 4096, 4096);
	piecemap_set(&model, size - 4096, 4096);
	grow_both(io, &dirty, &model, &copy, size);
	dirty_begin(&dirty, 78); /* goes on */
	assert_int_equal(dirty.power, 77);
	dirty_add_to(&dirty, &copy);
	assert_int_equal(copy.count, model.count);
	assert_int_equal(piecemap_regions(&copy), piecemap_regions(&model));
	piecemap_add(&copy, &model);
	assert_int_equal(copy.count, model.count);
	/* 41 pages are taken: one is left. */
	dirty_begin(&other, 1);
	dirty_set(&other, 0, 4096);
	dirty_set(&other, 128u << 20, 4096);
	assert_true(other.known);
	dirty_set(&other, UINT64_C(1) << 30, 4096);
	assert_false(other.known);
	/* It gave its page back, and begins empty. */
	dirty_forget(&dirty);
	dirty_begin(&other, 1);
	assert_int_equal(dirty_reserve(&other, io, model.size_bytes), 0);
	dirty_grow(&other, model.size_bytes);
	dirty_add_map(&other, &model);
	piecemap_clear(&copy);
	dirty_add_to(&other, &copy);
	assert_int_equal(copy.count, model.count);
	dirty_done(&dirty, io);
	dirty_done(&other, io);
	dirty_store_done(&store, io);
	piecemap_done(&model, io);
	piecemap_done(&copy, io);
	sim_process_exit(process);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_locks),
		cmocka_unit_test(test_first_come),
		cmocka_unit_test(test_parked),
		cmocka_unit_test(test_copies_do_not_overtake),
		cmocka_unit_test(test_random_pieces),
		cmocka_unit_test(test_random_dirty),
	};

	return cmocka_run_group_tests_name("ranges", tests, NULL, NULL);
}
