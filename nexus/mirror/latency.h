/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running p99 of durations: counts in buckets a quarter of a power of two wide, which fade as new
 * ones come.  Costs an increment each, and a pass over the buckets now and then.  One reactor.
 */
#ifndef NEXUS_MIRROR_LATENCY_H
#define NEXUS_MIRROR_LATENCY_H

#include <stdint.h>

#define LATENCY_BUCKETS 100 /* the first ends at 1 us, the last is above 16 s */

struct latency {
	uint32_t buckets[LATENCY_BUCKETS];
	uint32_t count;
	uint64_t p99_ns; /* the end of the bucket that holds it; 0: too few yet */
};

void latency_note(struct latency *latency, uint64_t ns);

#endif
