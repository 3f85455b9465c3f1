/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/mirror/latency.h"

#define FIRST_SHIFT 10u /* 1 us, nearly */
#define STEP        64u /* p99 is computed again after so many */
#define FADE_AT     4096u

/* 0: below 2^10 ns; then four to each power of two. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned shift;
	unsigned index;

	if (ns < UINT64_C(1) << FIRST_SHIFT) {
		return 0;
	}
	shift = 63u - (unsigned)__builtin_clzll(ns);
	index = 1 + (shift - FIRST_SHIFT) * 4 + (unsigned)(ns >> (shift - 2) & 3);
	return index < LATENCY_BUCKETS ? index : LATENCY_BUCKETS - 1;
}

static uint64_t bucket_end_ns(unsigned index)
{
	unsigned shift = FIRST_SHIFT + (index - 1) / 4;

	return index == 0 ? UINT64_C(1) << FIRST_SHIFT
			  : (UINT64_C(1) << shift) +
				    ((index - 1) % 4 + 1) * (UINT64_C(1) << (shift - 2));
}

static void compute(struct latency *latency)
{
	uint32_t above = latency->count / 100; /* may be slower than p99 */
	uint32_t seen = 0;
	unsigned index = LATENCY_BUCKETS;

	while (index > 0 && seen <= above) {
		seen += latency->buckets[--index];
	}
	latency->p99_ns = bucket_end_ns(index);
}

static void fade(struct latency *latency)
{
	latency->count = 0;
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
		latency->buckets[i] /= 2;
		latency->count += latency->buckets[i];
	}
}

void latency_note(struct latency *latency, uint64_t ns)
{
	latency->buckets[bucket_of(ns)]++;
	latency->count++;
	if (latency->count % STEP == 0) {
		compute(latency);
	}
	if (latency->count >= FADE_AT) {
		fade(latency);
	}
}
