/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "repl/blockhash.h"

#include <string.h>

#define BLOCK 4096

static void hash_of(uint8_t first_key_byte, const uint8_t block[BLOCK], uint8_t to[BLOCKHASH_SIZE])
{
	uint8_t key[BLOCKHASH_KEY_SIZE];

	for (unsigned i = 0; i < sizeof(key); i++) {
		key[i] = (uint8_t)(i + (i == 0 ? first_key_byte : 0));
	}
	blockhash_blocks(key, block, BLOCK, 1, to);
}

/* Two agents must agree for ever: what a GHASH written from NIST SP 800-38D gives. */
static void test_known_answers(void **ctx)
{
	static const uint8_t zeros[BLOCK];
	static const uint8_t of_zeros[BLOCKHASH_SIZE] = {0x93, 0xcf, 0x8f, 0x88, 0x86, 0x2b, 0x40,
		0xbf, 0x72, 0x4c, 0x3a, 0x6c, 0x3e, 0x76, 0x42, 0x45};
	static const uint8_t of_pattern[BLOCKHASH_SIZE] = {0x25, 0x7e, 0xa3, 0x33, 0x75, 0xf0, 0x4d,
		0x5a, 0x86, 0x39, 0x88, 0x04, 0xd1, 0x7d, 0xe6, 0xf5};
	uint8_t block[BLOCK], hash[BLOCKHASH_SIZE];

	(void)ctx;
	for (unsigned i = 0; i < BLOCK; i++) {
		block[i] = (uint8_t)(i * 7);
	}
	hash_of(0, zeros, hash);
	assert_memory_equal(hash, of_zeros, sizeof(hash));
	hash_of(0, block, hash);
	assert_memory_equal(hash, of_pattern, sizeof(hash));
}

/* Any bit of the block, and any key, makes another one. */
static void test_differs(void **ctx)
{
	uint8_t block[BLOCK] = {0}, first[BLOCKHASH_SIZE], hash[BLOCKHASH_SIZE];

	(void)ctx;
	hash_of(0, block, first);
	for (unsigned at = 0; at < BLOCK; at += 97) {
		block[at] ^= (uint8_t)(1u << (at % 8));
		hash_of(0, block, hash);
		assert_memory_not_equal(hash, first, sizeof(hash));
		block[at] ^= (uint8_t)(1u << (at % 8));
	}
	hash_of(1, block, hash);
	assert_memory_not_equal(hash, first, sizeof(hash));
	hash_of(0, block, hash);
	assert_memory_equal(hash, first, sizeof(hash));
}

/* Many blocks at once are as many one by one: nothing of the one before is left. */
static void test_many(void **ctx)
{
	static uint8_t blocks[5 * BLOCK];
	uint8_t key[BLOCKHASH_KEY_SIZE] = {7}, hashes[5 * BLOCKHASH_SIZE], one[BLOCKHASH_SIZE];

	(void)ctx;
	for (unsigned i = 0; i < sizeof(blocks); i++) {
		blocks[i] = (uint8_t)(i * 2654435761u >> 13);
	}
	memcpy(blocks + 4 * BLOCK, blocks, BLOCK);
	blockhash_blocks(key, blocks, BLOCK, 5, hashes);
	for (size_t i = 0; i < 5; i++) {
		blockhash_blocks(key, blocks + i * BLOCK, BLOCK, 1, one);
		assert_memory_equal(one, hashes + i * BLOCKHASH_SIZE, sizeof(one));
	}
	assert_memory_equal(hashes, hashes + 4 * BLOCKHASH_SIZE, sizeof(one));
	assert_memory_not_equal(hashes, hashes + BLOCKHASH_SIZE, sizeof(one));
}

static int prepare(void **ctx)
{
	(void)ctx;
	return blockhash_prepare();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_differs),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests_name("blockhash", tests, prepare, NULL);
}
