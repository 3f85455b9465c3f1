/* SPDX-License-Identifier: Apache-2.0 */
#include "objects/seal.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <stdbool.h>
#include <string.h>

#define TAG_BYTES    16
#define SEALED_BYTES (SEAL_KEY_BYTES + SEAL_SECRET_BYTES + TAG_BYTES)
#define TEXT_BYTES   256

_Static_assert(SEAL_TEXT_SIZE == 4 * ((SEALED_BYTES + 2) / 3) + 1, "a sealed secret as text");
_Static_assert(SEAL_PUBLIC_SIZE == 4 * ((SEAL_KEY_BYTES + 2) / 3) + 1, "a public key as text");

/* ---- base64 ---- */

char *base64_to_text(const void *bytes, size_t length, char *text)
{
	(void)EVP_EncodeBlock((unsigned char *)text, bytes, (int)length);
	return text;
}

int base64_parse(const char *text, void *ret_bytes, size_t length)
{
	unsigned char decoded[TEXT_BYTES];
	size_t text_length = strlen(text);
	size_t padding = (3 - length % 3) % 3;

	/* The decoder counts what pads as zeros, and takes blanks. */
	if (text_length != 4 * ((length + 2) / 3) || text_length / 4 * 3 > sizeof(decoded) ||
		strcspn(text, " \t\r\n") != text_length ||
		strcspn(text, "=") != text_length - padding ||
		EVP_DecodeBlock(decoded, (const unsigned char *)text, (int)text_length) < 0) {
		return -EINVAL;
	}
	memcpy(ret_bytes, decoded, length);
	OPENSSL_cleanse(decoded, sizeof(decoded));
	return 0;
}

/* ---- keys ---- */

int seal_key_make(uint8_t ret_key[SEAL_KEY_BYTES], struct err *err)
{
	size_t length = SEAL_KEY_BYTES;
	EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	int made = pair != NULL ? EVP_PKEY_get_raw_private_key(pair, ret_key, &length) : 0;

	EVP_PKEY_free(pair);
	return made == 1 ? 0 : err_set(err, -EIO, "no key could be made");
}

int seal_key_public(
	const uint8_t key[SEAL_KEY_BYTES], char ret_public[SEAL_PUBLIC_SIZE], struct err *err)
{
	uint8_t public[SEAL_KEY_BYTES];
	size_t length = sizeof(public);
	EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key, SEAL_KEY_BYTES);
	int got = pair != NULL ? EVP_PKEY_get_raw_public_key(pair, public, &length) : 0;

	EVP_PKEY_free(pair);
	if (got != 1) {
		return err_set(err, -EIO, "a private key without a public one");
	}
	(void)base64_to_text(public, sizeof(public), ret_public);
	return 0;
}

/* The key that only these two can know, for this purpose. */
static bool agree(EVP_PKEY *mine, const uint8_t theirs[SEAL_KEY_BYTES],
	const uint8_t ephemeral[SEAL_KEY_BYTES], const char *purpose, uint8_t ret_key[32])
{
	uint8_t shared[32];
	size_t shared_length = sizeof(shared), key_length = 32;
	EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, theirs, SEAL_KEY_BYTES);
	EVP_PKEY_CTX *exchange = EVP_PKEY_CTX_new(mine, NULL);
	EVP_PKEY_CTX *hkdf = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
	bool is_good = peer != NULL && exchange != NULL && hkdf != NULL &&
		       EVP_PKEY_derive_init(exchange) == 1 &&
		       EVP_PKEY_derive_set_peer(exchange, peer) == 1 &&
		       EVP_PKEY_derive(exchange, shared, &shared_length) == 1 &&
		       EVP_PKEY_derive_init(hkdf) == 1 &&
		       EVP_PKEY_CTX_set_hkdf_md(hkdf, EVP_sha256()) == 1 &&
		       EVP_PKEY_CTX_set1_hkdf_salt(hkdf, ephemeral, SEAL_KEY_BYTES) == 1 &&
		       EVP_PKEY_CTX_set1_hkdf_key(hkdf, shared, (int)sizeof(shared)) == 1 &&
		       EVP_PKEY_CTX_add1_hkdf_info(
			       hkdf, (const unsigned char *)purpose, (int)strlen(purpose)) == 1 &&
		       EVP_PKEY_derive(hkdf, ret_key, &key_length) == 1;

	EVP_PKEY_free(peer);
	EVP_PKEY_CTX_free(exchange);
	EVP_PKEY_CTX_free(hkdf);
	OPENSSL_cleanse(shared, sizeof(shared));
	return is_good;
}

/* A key is used once, so its nonce may be zero.  `tag` is written when sealing, else tested. */
static bool crypt_once(const uint8_t key[32], bool is_sealing, const uint8_t *from, uint8_t *to,
	uint8_t tag[TAG_BYTES])
{
	static const uint8_t nonce[12];
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	int length = 0, rest = 0;
	bool is_good =
		cipher != NULL &&
		EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, key, nonce, is_sealing) == 1 &&
		EVP_CipherUpdate(cipher, to, &length, from, SEAL_SECRET_BYTES) == 1 &&
		(is_sealing ||
			EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1) &&
		EVP_CipherFinal_ex(cipher, to + length, &rest) == 1 &&
		(!is_sealing ||
			EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1);

	EVP_CIPHER_CTX_free(cipher);
	return is_good && length + rest == SEAL_SECRET_BYTES;
}

/* ---- secrets ---- */

int seal(const char *public, const char *purpose, const uint8_t secret[SEAL_SECRET_BYTES],
	char ret_sealed[SEAL_TEXT_SIZE], struct err *err)
{
	uint8_t theirs[SEAL_KEY_BYTES], key[32], sealed[SEALED_BYTES];
	size_t length = SEAL_KEY_BYTES;

	if (base64_parse(public, theirs, sizeof(theirs)) < 0) {
		return err_set(err, -EINVAL, "\"%.60s\" is no public key", public);
	}
	EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	bool is_good = pair != NULL && EVP_PKEY_get_raw_public_key(pair, sealed, &length) == 1 &&
		       agree(pair, theirs, sealed, purpose, key) &&
		       crypt_once(key, true, secret, sealed + SEAL_KEY_BYTES,
			       sealed + SEAL_KEY_BYTES + SEAL_SECRET_BYTES);

	EVP_PKEY_free(pair);
	OPENSSL_cleanse(key, sizeof(key));
	if (!is_good) {
		/* Among them keys with which nothing can be agreed. */
		return err_set(err, -EINVAL, "nothing can be sealed for \"%.60s\"", public);
	}
	(void)base64_to_text(sealed, sizeof(sealed), ret_sealed);
	return 0;
}

int seal_open(const uint8_t key[SEAL_KEY_BYTES], const char *purpose, const char *sealed,
	uint8_t ret_secret[SEAL_SECRET_BYTES], struct err *err)
{
	uint8_t bytes[SEALED_BYTES], shared[32], secret[SEAL_SECRET_BYTES];
	bool is_good = false;

	if (base64_parse(sealed, bytes, sizeof(bytes)) == 0) {
		EVP_PKEY *mine =
			EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key, SEAL_KEY_BYTES);

		is_good = mine != NULL && agree(mine, bytes, bytes, purpose, shared) &&
			  crypt_once(shared, false, bytes + SEAL_KEY_BYTES, secret,
				  bytes + SEAL_KEY_BYTES + SEAL_SECRET_BYTES);
		EVP_PKEY_free(mine);
		OPENSSL_cleanse(shared, sizeof(shared));
	}
	if (is_good) {
		memcpy(ret_secret, secret, sizeof(secret));
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	return is_good ? 0 : err_set(err, -EBADMSG, "it was not sealed for this node and purpose");
}
