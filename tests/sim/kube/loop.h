/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc/loop.h and csi-node/worker.h again, on the simulated clock: timers run and works are done
 * when the simulation says so, and "threads" are turns of it.
 */
#ifndef SIM_KUBE_LOOP_H
#define SIM_KUBE_LOOP_H

#include "grpc/loop.h"

/* For all loops, and for time() of the recompiled files. */
void sim_loop_set_clock(uint64_t now_ms);
uint64_t sim_loop_clock_ms(void);
/* Of the wall clock at 0. */
#define SIM_LOOP_WALL_S INT64_C(1700000000)

struct loop *sim_loop_new(void);
/* No works and timers are left. */
void sim_loop_free(struct loop *loop);
void sim_loop_run_timers(struct loop *loop);
/* One step of the oldest work: it runs, or is back.  false: there is none. */
bool sim_loop_work(struct loop *loop);

#endif
