/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directed histories: a test says what happens and in which order, the world of world.h plays it.
 * Each test runs with several seeds; at its end everything heals, the volume must get whole, and
 * all replicas must be equal and hold what the oracle allows.
 */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include "base/testing.h"
#include "nexus/mirror/volume_internal.h"
#include "tests/sim/world.h"

#define A 0
#define B 1
#define C 2

#define SCENARIO_SEEDS    4
#define SCENARIO_REQUESTS 256

struct scenario;

struct scenario_case {
	const char *name;
	void (*run)(struct scenario *scenario);
	struct world_options options; /* 0: the default */
};

/* Runs them as a group of cmocka. */
int scenario_run_all(const char *group, const struct scenario_case *cases, size_t count);

struct scenario_request {
	struct op *op; /* until it is answered */
	bool done;
	int result;
	unsigned usable; /* members of S that were not out when it was answered */
};

struct scenario {
	struct world world;
	struct world_result result;
	struct scenario_request requests[SCENARIO_REQUESTS];
	unsigned request_count;
	unsigned writer; /* slot that the requests below go to */
};

/* ---- running ---- */

/* Opens with the next attach number on that node; the requests go there from now on. */
void scenario_open(struct scenario *scenario, unsigned slot);
struct volume *scenario_volume(struct scenario *scenario);
struct leg *scenario_leg(struct scenario *scenario, unsigned agent);
void run_ms(struct scenario *scenario, unsigned ms);
/* Until is_so holds; it fails after 60 s. */
void await(struct scenario *scenario, bool (*is_so)(void *scenario));
void await_whole(struct scenario *scenario);
void await_state(struct scenario *scenario, enum volume_state state);
void await_replica(struct scenario *scenario, unsigned agent, enum replica_state state);
enum volume_state volume_state_now(struct scenario *scenario);
enum replica_state replica_state_now(struct scenario *scenario, unsigned agent);
/* Steps of the world in one second of its time: many mean that something turns without end. */
uint64_t steps_of_a_second(struct scenario *scenario);

/* ---- requests ---- */

struct scenario_request *submit(
	struct scenario *scenario, enum blk_kind kind, size_t first, size_t count);
/* Never with fua. */
struct scenario_request *submit_write(struct scenario *scenario, size_t first, size_t count);
/* Fails after 60 s. */
int answer_of(struct scenario *scenario, const struct scenario_request *request);
int do_write(struct scenario *scenario, size_t first, size_t count);
int do_read(struct scenario *scenario, size_t first, size_t count);
int do_flush(struct scenario *scenario);
/* The whole volume, in requests of 8 blocks. */
void write_all(struct scenario *scenario);

/* ---- what happens to the nodes ---- */

void go_away(struct scenario *scenario, unsigned agent); /* the process, until come_back() */
void come_back(struct scenario *scenario, unsigned agent);
void lose_power(struct scenario *scenario, unsigned agent, unsigned down_ms);
void disk_stuck(struct scenario *scenario, unsigned agent, bool stuck);
void disk_fails_next(struct scenario *scenario, unsigned agent);
void disk_slow(struct scenario *scenario, unsigned agent, unsigned max_ms);
void disk_sound(struct scenario *scenario, unsigned agent);
/* Where a block of the volume lies on an agent's disk: found by its content. */
uint64_t disk_place(struct scenario *scenario, unsigned agent, size_t block);
/* Between the writer's node and an agent. */
void cut_off(struct scenario *scenario, unsigned agent, bool to_agent, bool from_agent);
void freeze(struct scenario *scenario, unsigned agent, unsigned ms);
void nexus_crash(struct scenario *scenario, bool resend); /* and opens again at once */

#endif
