/* SPDX-License-Identifier: Apache-2.0 */
/* What the files with faults share.  A fault draws from its own random numbers, fault->rng. */
#ifndef SIM_FAULTS_H
#define SIM_FAULTS_H

#include "tests/sim/world.h"

/* Mostly short; now and then longer than every time-out. */
uint64_t draw_duration_ns(struct rng *rng);
struct node_agent *draw_agent(struct fault *fault);
struct sim_host *draw_host(struct fault *fault);
/* Takes the fault's event for a takeover after so long. */
void fault_take_over_after(struct fault *fault, uint64_t delay_ns);
/* Lets run() be called when what it did is to end; also by faults_end(). */
void fault_ends_after(struct fault *fault, uint64_t delay_ns, void (*run)(struct sim_event *));

/* faults_net.c */
void fault_partition(struct fault *fault);
void fault_isolation(struct fault *fault);
void fault_swizzle(struct fault *fault);
void fault_latency(struct fault *fault);
void fault_slow_link(struct fault *fault);
void fault_slow_connection(struct fault *fault);
void fault_cut(struct fault *fault);

/* faults_join.c */
void fault_at_join(struct fault *fault);
/* After each step. */
void fault_join_observe(struct fault *fault);

/* faults_disk.c */
/* What was done to the disk is taken back after so long. */
void fault_disk_ends_after(struct node_agent *node, uint64_t delay_ns);
void fault_disk_error(struct fault *fault);
void fault_disk_slow(struct fault *fault);
void fault_disk_stuck(struct fault *fault);
void fault_crash_at_write(struct fault *fault);
/* Soon after, the nexus goes, or another takes over: what was half done is left to somebody else.
 */
void fault_nexus_soon(struct fault *fault, uint64_t within_ns);
void fault_rot(struct fault *fault);
void fault_misdirect(struct fault *fault);

#endif
