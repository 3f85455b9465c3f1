/* SPDX-License-Identifier: Apache-2.0 */
/* What directed histories with voters that come and go share; D and E are agents without a replica
 * in the beginning. */
#ifndef SIM_SCENARIO_VOTERS_H
#define SIM_SCENARIO_VOTERS_H

#include "tests/sim/scenario.h"

#define D 3
#define E 4

void open_whole(struct scenario *scenario);
struct slot *slot_of(struct scenario *scenario); /* the writer's */
const struct cfg *cfg_of(struct scenario *scenario);
bool is_committed(void *scenario); /* for await() */
bool is_proposing(void *scenario);
bool is_voter(struct scenario *scenario, unsigned agent);
/* A replica on an agent that has none. */
void make(struct scenario *scenario, unsigned agent, enum voter_kind kind);
int ask_add(struct scenario *scenario, unsigned agent, struct err *err);
int ask_remove(struct scenario *scenario, unsigned agent, struct err *err);
void begin_add(struct scenario *scenario, unsigned agent);
void await_voter(struct scenario *scenario, unsigned agent, bool wanted);  /* 60 s */
void add(struct scenario *scenario, unsigned agent, enum voter_kind kind); /* until it is in sync */
void drop(struct scenario *scenario, unsigned agent);
/* The API knows the places of all who have a replica. */
void api_is_current(struct scenario *scenario);

#endif
