/* SPDX-License-Identifier: Apache-2.0 */
#include "repl/capability.h"

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 64

struct text {
	uint8_t bytes[TEXT_MAX];
	size_t length;
};

static void text_add(struct text *text, const void *bytes, size_t length)
{
	assert(text->length + length <= TEXT_MAX);
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
}

/* With the NUL, so that no purpose is the beginning of another. */
static void text_begin(struct text *text, const char *purpose, const struct uuid *volume)
{
	text->length = 0;
	text_add(text, purpose, strlen(purpose) + 1);
	text_add(text, volume->b, sizeof(volume->b));
}

static void text_sign(const struct text *text, const uint8_t secret[CAPABILITY_SECRET_SIZE],
	uint8_t ret_mac[CAPABILITY_SECRET_SIZE])
{
	unsigned length = 0;

	if (HMAC(EVP_sha256(), secret, CAPABILITY_SECRET_SIZE, text->bytes, text->length, ret_mac,
		    &length) == NULL) {
		/* Memory is short: never an answer that could be a right one. */
		abort();
	}
	assert(length == CAPABILITY_SECRET_SIZE);
}

void volume_key_derive(const uint8_t master[CAPABILITY_SECRET_SIZE], const struct uuid *volume,
	uint16_t number, struct volume_key *ret_key)
{
	struct text text;
	uint8_t bytes[2];

	assert(number != 0);
	text_begin(&text, "strake volume key", volume);
	le16_put(bytes, number);
	text_add(&text, bytes, sizeof(bytes));
	ret_key->number = number;
	text_sign(&text, master, ret_key->secret);
}

bool volume_key_equal(const struct volume_key *a, const struct volume_key *b)
{
	return a->number == b->number &&
	       CRYPTO_memcmp(a->secret, b->secret, sizeof(a->secret)) == 0;
}

void capability_make(const struct volume_key *key, const struct uuid *volume, uint32_t attach,
	const struct uuid *node, struct capability *ret_capability)
{
	struct text text;
	uint8_t bytes[4];

	text_begin(&text, "strake capability", volume);
	le32_put(bytes, attach);
	text_add(&text, bytes, 4);
	text_add(&text, node->b, sizeof(node->b));
	le16_put(bytes, key->number);
	text_add(&text, bytes, 2);
	ret_capability->version = CAPABILITY_VERSION;
	ret_capability->key = key->number;
	text_sign(&text, key->secret, ret_capability->mac);
}

void capability_node(const char *name, struct uuid *ret_node)
{
	static const char purpose[] = "strake node"; /* with its NUL */
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *hash = EVP_MD_CTX_new();

	if (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1 ||
		EVP_DigestUpdate(hash, purpose, sizeof(purpose)) != 1 ||
		EVP_DigestUpdate(hash, name, strlen(name)) != 1 ||
		EVP_DigestFinal_ex(hash, digest, NULL) != 1) {
		abort();
	}
	EVP_MD_CTX_free(hash);
	memcpy(ret_node->b, digest, sizeof(ret_node->b));
	ret_node->b[6] = (uint8_t)((ret_node->b[6] & 0x0f) | 0x80);
	ret_node->b[8] = (uint8_t)((ret_node->b[8] & 0x3f) | 0x80);
}

bool capability_fits(const struct capability *capability, const struct volume_key *key,
	const struct uuid *volume, uint32_t attach, const struct uuid *node)
{
	struct capability right;

	if (key->number == 0 || capability->version != CAPABILITY_VERSION ||
		capability->key != key->number) {
		return false;
	}
	capability_make(key, volume, attach, node, &right);
	return CRYPTO_memcmp(right.mac, capability->mac, sizeof(right.mac)) == 0;
}

void capability_encode(const struct capability *capability, uint8_t to[CAPABILITY_ENCODED_SIZE])
{
	le16_put(to, capability->version);
	le16_put(to + 2, capability->key);
	memcpy(to + 4, capability->mac, sizeof(capability->mac));
}

int capability_decode(
	const uint8_t from[CAPABILITY_ENCODED_SIZE], struct capability *ret_capability)
{
	struct capability capability = {.version = le16_get(from), .key = le16_get(from + 2)};

	if (capability.version != CAPABILITY_VERSION || capability.key == 0) {
		return -EBADMSG;
	}
	memcpy(capability.mac, from + 4, sizeof(capability.mac));
	*ret_capability = capability;
	return 0;
}
