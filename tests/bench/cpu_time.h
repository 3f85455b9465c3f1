/* SPDX-License-Identifier: Apache-2.0 */
/* CPU time of processes, from /proc, as finely as the kernel counts it. */
#ifndef BENCH_CPU_TIME_H
#define BENCH_CPU_TIME_H

#include <stdint.h>
#include <sys/types.h>

/* Nanoseconds on a CPU, user and system, of all threads that live now; 0, or -ESRCH when there is
 * no such process. */
int cpu_time_of_pid(pid_t pid, uint64_t *ret_ns);
uint64_t cpu_time_of_self(void);

#endif
