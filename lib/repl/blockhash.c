/* SPDX-License-Identifier: Apache-2.0 */
#include "repl/blockhash.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

/* The nonce hides nothing here, so one serves for all blocks. */
static const uint8_t nonce[12];

/* The thread's, to its end. */
static _Thread_local EVP_CIPHER_CTX *ctx;

int blockhash_prepare(void)
{
	static const uint8_t key[BLOCKHASH_KEY_SIZE];
	EVP_CIPHER_CTX *made = ctx == NULL ? EVP_CIPHER_CTX_new() : NULL;

	if (ctx != NULL) {
		return 0;
	}
	if (made == NULL || EVP_EncryptInit_ex(made, EVP_aes_128_gcm(), NULL, key, nonce) != 1) {
		EVP_CIPHER_CTX_free(made);
		return -ENOMEM;
	}
	ctx = made;
	return 0;
}

/* Never an answer that could be a right one: equal hashes mean that nothing is copied. */
static void must(int result)
{
	if (result != 1) {
		abort();
	}
}

void blockhash_blocks(const uint8_t key[BLOCKHASH_KEY_SIZE], const void *blocks, size_t block_bytes,
	uint64_t count, uint8_t *ret_hashes)
{
	uint8_t rest[BLOCKHASH_SIZE];
	int length = 0;

	assert(ctx != NULL && block_bytes > 0 && block_bytes <= INT32_MAX);
	must(EVP_EncryptInit_ex(ctx, NULL, NULL, key, nonce));
	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *block = (const uint8_t *)blocks + i * block_bytes;

		must(EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce));
		must(EVP_EncryptUpdate(ctx, NULL, &length, block, (int)block_bytes));
		must(EVP_EncryptFinal_ex(ctx, rest, &length));
		must(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, BLOCKHASH_SIZE,
			ret_hashes + i * BLOCKHASH_SIZE));
	}
}
