/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of rebuilds against a machine that is nothing but numbers. */
#include "base/bytes.h"
#include "base/testing.h"
#include "nexus/mirror/pace.h"

#define MS       UINT64_C(1000000)
#define MIB      (UINT64_C(1) << 20)
#define PIECE    (UINT64_C(256) << 10)
#define SLOTS    4
#define RATE_MIN (8 * MIB)
#define HISTORY  16 /* ms that a copy is felt */
#define USUAL_NS MS

/* A disk: a request of the host takes USUAL_NS, and the longer the more is copied. */
struct plant {
	struct pace pace;
	struct pace_host host;
	uint64_t now_ns;
	bool host_works;
	uint64_t copy_ms;         /* a copy takes that long */
	uint64_t harm;            /* bytes a second that double the time of a request; 0: none do */
	uint64_t ends_ms[SLOTS];  /* of copies that are under way; 0: free */
	uint64_t recent[HISTORY]; /* bytes copied in each of the last ms */
	uint64_t bytes, took_ns, requests, free_ms;
};

static void plant_init(struct plant *plant, uint64_t rate_max)
{
	*plant = (struct plant){.now_ns = 60000 * MS, .host_works = true, .copy_ms = 2};
	pace_init(&plant->pace, RATE_MIN, rate_max);
}

static uint64_t latency_ns(const struct plant *plant)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < HISTORY; i++) {
		bytes += plant->recent[i];
	}
	return plant->harm == 0 ? USUAL_NS
				: USUAL_NS + USUAL_NS * (bytes * 1000 / HISTORY) / plant->harm;
}

static void copy(struct plant *plant, uint64_t now_ms, bool copies)
{
	plant->recent[now_ms % HISTORY] = 0;
	for (unsigned i = 0; i < SLOTS; i++) {
		if (plant->ends_ms[i] != 0 && now_ms >= plant->ends_ms[i]) {
			plant->ends_ms[i] = 0;
			pace_copy_ended(&plant->pace, plant->now_ns);
		}
		if (copies && plant->ends_ms[i] == 0 &&
			pace_due_ns(&plant->pace, plant->now_ns) <= plant->now_ns) {
			plant->ends_ms[i] = now_ms + plant->copy_ms;
			plant->recent[now_ms % HISTORY] += PIECE;
			plant->bytes += PIECE;
			pace_copy_began(&plant->pace, PIECE, true, plant->now_ns);
		}
	}
	plant->free_ms += plant->pace.copies == 0;
}

static void run(struct plant *plant, unsigned ms, bool copies)
{
	plant->bytes = plant->took_ns = plant->requests = plant->free_ms = 0;
	for (unsigned i = 0; i < ms; i++) {
		uint64_t ns = latency_ns(plant);

		plant->now_ns += MS;
		copy(plant, plant->now_ns / MS, copies);
		if (plant->host_works) {
			pace_host_began(&plant->pace, plant->now_ns);
			pace_host_ended(&plant->pace, &plant->host, PACE_WRITE, plant->now_ns - ns,
				plant->now_ns);
			plant->took_ns += ns;
			plant->requests++;
		}
	}
}

static uint64_t rate_of(const struct plant *plant, unsigned ms)
{
	return plant->bytes * 1000 / ms;
}

static void an_idle_host_holds_nothing_up(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	plant.host_works = false;
	run(&plant, 1000, true);
	assert_int_equal(rate_of(&plant, 1000), 1000 / 2 * SLOTS * PIECE);
	assert_true(pace_limit(&plant.pace, plant.now_ns) == UINT64_MAX);
}

/* Nobody is harmed: nearly as fast as with an idle one. */
static void a_host_that_feels_nothing(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	run(&plant, 5000, true);
	run(&plant, 5000, true);
	assert_true(rate_of(&plant, 5000) > 1000 / 2 * SLOTS * PIECE * 85 / 100);
}

/* Requests take half as long again at the most, in the mean, and the copies get what that leaves
 * at least by half. */
static void a_host_that_is_harmed_is_given_way(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	plant.harm = 200 * MIB;
	run(&plant, 2000, true);
	run(&plant, 20000, true);
	assert_true(plant.took_ns < plant.requests * USUAL_NS * 16 / 10);
	assert_true(rate_of(&plant, 20000) > 100 * MIB / 2);
	assert_true(rate_of(&plant, 20000) < 200 * MIB);
}

/* Whatever they do, the host is slow: they go on at the least rate. */
static void never_below_the_least_rate(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	plant.harm = MIB;
	run(&plant, 2000, true);
	run(&plant, 20000, true);
	assert_true(rate_of(&plant, 20000) >= RATE_MIN * 90 / 100);
	assert_true(rate_of(&plant, 20000) <= RATE_MIN * 115 / 100);
}

static void faster_again_when_the_host_recovers(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	plant.harm = MIB;
	run(&plant, 5000, true);
	plant.harm = 0;
	run(&plant, 10000, true);
	run(&plant, 1000, true);
	assert_true(rate_of(&plant, 1000) > 20 * RATE_MIN);
}

/* In any time, the host working or not. */
static void the_largest_rate_is_kept(void **state)
{
	struct plant plant;

	(void)state;
	for (unsigned works = 0; works < 2; works++) {
		plant_init(&plant, 20 * MIB);
		plant.host_works = works == 1;
		run(&plant, 100, false);
		for (unsigned ms = 50; ms < 10000; ms *= 3) {
			run(&plant, ms, true);
			assert_true(plant.bytes <= 20 * MIB * (ms + 50) / 1000 + PIECE);
		}
		assert_true(rate_of(&plant, 4050) > 15 * MIB);
	}
}

static void a_largest_rate_below_the_least_one_counts(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, RATE_MIN / 4);
	plant.harm = MIB;
	run(&plant, 20000, true);
	assert_true(rate_of(&plant, 20000) <= RATE_MIN / 4 + PIECE);
	assert_true(rate_of(&plant, 20000) >= RATE_MIN / 4 * 95 / 100);
}

/* Copies one upon the other: there is a moment without any every two seconds, and not much of it.
 */
static void pauses_are_short(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	run(&plant, 5000, true);
	run(&plant, 20000, true);
	assert_in_range(plant.free_ms, 9 * 30, 11 * 50);
}

/* Nothing can be learned: copies that are never over. */
static void a_pause_ends(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	run(&plant, 100, false);
	pace_copy_began(&plant.pace, PIECE, false, plant.now_ns);
	run(&plant, 20000, true);
	assert_true(rate_of(&plant, 20000) > 20 * RATE_MIN);
}

/* What the host needs without copies may change: that is nobody's fault. */
static void a_host_that_is_slow_by_itself(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	run(&plant, 5000, true);
	for (unsigned i = 0; i < 30000; i++) {
		plant.now_ns += MS;
		copy(&plant, plant.now_ns / MS, true);
		pace_host_began(&plant.pace, plant.now_ns);
		pace_host_ended(&plant.pace, &plant.host, PACE_WRITE, plant.now_ns - 10 * USUAL_NS,
			plant.now_ns);
	}
	run(&plant, 1000, true);
	assert_true(rate_of(&plant, 1000) > 20 * RATE_MIN);
}

/* A few requests that met something else (a member that failed) do not blind it. */
static void the_first_requests_may_be_late(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	for (unsigned i = 0; i < 7; i++) {
		pace_host_ended(&plant.pace, &plant.host, PACE_WRITE, plant.now_ns - 3000 * MS,
			plant.now_ns);
	}
	run(&plant, 100, false);
	assert_true(plant.host.base_ns[PACE_WRITE] < 2 * USUAL_NS);
	for (unsigned i = 0; i < 3; i++) {
		pace_host_ended(&plant.pace, &plant.host, PACE_WRITE, plant.now_ns - 2000 * MS,
			plant.now_ns);
	}
	assert_true(plant.host.base_ns[PACE_WRITE] < 2 * USUAL_NS);
}

/* What was copied while the host was idle, or for those who wait, is no debt. */
static void no_debt(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	run(&plant, 100, false);
	plant.host_works = false;
	run(&plant, 10000, true);
	for (unsigned i = 0; i < 1000; i++) {
		pace_copy_began(&plant.pace, PIECE, false, plant.now_ns);
		pace_copy_ended(&plant.pace, plant.now_ns);
	}
	plant.host_works = true;
	run(&plant, 300, true);
	assert_true(rate_of(&plant, 300) >= RATE_MIN / 2);
}

/* Reads and writes, small and large, are compared each with its kind. */
static void another_mixture_is_no_harm(void **state)
{
	struct plant plant;

	(void)state;
	plant_init(&plant, 0);
	for (unsigned i = 0; i < 200; i++) {
		plant.now_ns += MS;
		pace_host_ended(
			&plant.pace, &plant.host, PACE_READ, plant.now_ns - MS / 10, plant.now_ns);
		pace_host_ended(&plant.pace, &plant.host, PACE_LARGE_WRITE, plant.now_ns - 5 * MS,
			plant.now_ns);
	}
	for (unsigned i = 0; i < 3000; i++) {
		plant.now_ns += MS;
		copy(&plant, plant.now_ns / MS, true);
		pace_host_ended(&plant.pace, &plant.host, i < 1500 ? PACE_READ : PACE_LARGE_WRITE,
			plant.now_ns - (i < 1500 ? MS / 10 : 5 * MS), plant.now_ns);
	}
	assert_true(pace_limit(&plant.pace, plant.now_ns) > 20 * RATE_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_host_holds_nothing_up),
		cmocka_unit_test(a_host_that_feels_nothing),
		cmocka_unit_test(a_host_that_is_harmed_is_given_way),
		cmocka_unit_test(never_below_the_least_rate),
		cmocka_unit_test(faster_again_when_the_host_recovers),
		cmocka_unit_test(the_largest_rate_is_kept),
		cmocka_unit_test(a_largest_rate_below_the_least_one_counts),
		cmocka_unit_test(pauses_are_short),
		cmocka_unit_test(a_pause_ends),
		cmocka_unit_test(a_host_that_is_slow_by_itself),
		cmocka_unit_test(the_first_requests_may_be_late),
		cmocka_unit_test(no_debt),
		cmocka_unit_test(another_mixture_is_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
