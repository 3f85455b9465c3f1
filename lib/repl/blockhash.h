/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyed 128-bit hashes of blocks, by which replicas are compared before anything is copied
 * (docs/protocol.md 1.8): GMAC, that is GHASH under a secret of AES, which ordinary CPUs do at
 * several GB/s.  For a key that is drawn at random after the blocks were written two different
 * blocks of 4 KiB are equal here with a probability of at most 2^-119; it is no signature: who
 * knows the key, or sees many hashes, can make blocks that collide.
 *
 * Both sides of a comparison must compute the same: it is a part of the wire format.
 */
#ifndef REPL_BLOCKHASH_H
#define REPL_BLOCKHASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define BLOCKHASH_SIZE     16
#define BLOCKHASH_KEY_SIZE 16

/* Once in a thread before the first call of the other one, which then allocates nothing.  0 or
 * -ENOMEM. */
int blockhash_prepare(void) __must_check;
/* A hash of each of `count` blocks of `block_bytes`, one after the other. */
void blockhash_blocks(const uint8_t key[BLOCKHASH_KEY_SIZE], const void *blocks, size_t block_bytes,
	uint64_t count, uint8_t *ret_hashes);

#endif
