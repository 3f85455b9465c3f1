/* SPDX-License-Identifier: Apache-2.0 */
/* Deterministic random numbers (xoshiro256**).  Not for secrets. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
	uint64_t s[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_u64(struct rng *rng);

/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);

/* true in `percent` of 100 calls. */
bool rng_percent(struct rng *rng, unsigned percent);

#endif
