/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/testing.h"
#include "objects/seal.h"

#include <errno.h>
#include <string.h>

static const uint8_t secret[SEAL_SECRET_BYTES] = "what nobody else may know......";

static void test_only_who_it_was_sealed_for(void **state)
{
	uint8_t key[SEAL_KEY_BYTES], other[SEAL_KEY_BYTES], got[SEAL_SECRET_BYTES] = {0};
	char public[SEAL_PUBLIC_SIZE], sealed[SEAL_TEXT_SIZE], again[SEAL_TEXT_SIZE];
	struct err err;

	(void)state;
	assert_int_equal(seal_key_make(key, &err), 0);
	assert_int_equal(seal_key_make(other, &err), 0);
	assert_int_equal(seal_key_public(key, public, &err), 0);
	assert_int_equal(seal(public, "replica 1", secret, sealed, &err), 0);
	assert_int_equal(seal(public, "replica 1", secret, again, &err), 0);
	assert_string_not_equal(sealed, again);
	assert_int_equal(seal_open(other, "replica 1", sealed, got, &err), -EBADMSG);
	assert_int_equal(seal_open(key, "replica 2", sealed, got, &err), -EBADMSG);
	assert_true(bytes_are_zero(got, sizeof(got)));
	assert_int_equal(seal_open(key, "replica 1", sealed, got, &err), 0);
	assert_memory_equal(got, secret, sizeof(got));
}

static void test_what_was_changed_is_refused(void **state)
{
	uint8_t key[SEAL_KEY_BYTES], got[SEAL_SECRET_BYTES];
	char public[SEAL_PUBLIC_SIZE], sealed[SEAL_TEXT_SIZE];
	struct err err;

	(void)state;
	assert_int_equal(seal_key_make(key, &err), 0);
	assert_int_equal(seal_key_public(key, public, &err), 0);
	assert_int_equal(seal(public, "", secret, sealed, &err), 0);
	/* The last digit but the padding has bits that do not count. */
	for (size_t i = 0; i + 3 < sizeof(sealed); i++) {
		char was = sealed[i];

		sealed[i] = was == 'A' ? 'B' : 'A';
		/* The highest bit of an X25519 key is ignored (RFC 7748, section 5), and is in
		 * the salt here. */
		assert_int_equal(seal_open(key, "", sealed, got, &err), -EBADMSG);
		sealed[i] = was;
	}
	assert_int_equal(seal_open(key, "", sealed, got, &err), 0);
	assert_int_equal(seal_open(key, "", "", got, &err), -EBADMSG);
	sealed[40] = '\0';
	assert_int_equal(seal_open(key, "", sealed, got, &err), -EBADMSG);
}

static void test_bad_public_keys(void **state)
{
	static const char *const bad[] = {"", "AAAA",
		"not base64 not base64 not base64 not base64!",
		/* With zero nothing can be agreed. */
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="};
	char sealed[SEAL_TEXT_SIZE];
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(seal(bad[i], "", secret, sealed, &err), -EINVAL);
	}
}

static void test_base64(void **state)
{
	char text[16];
	uint8_t bytes[5];

	(void)state;
	assert_string_equal(base64_to_text("foob", 4, text), "Zm9vYg==");
	assert_int_equal(base64_parse("Zm9vYg==", bytes, 4), 0);
	assert_memory_equal(bytes, "foob", 4);
	assert_int_equal(base64_parse("Zm9vYg==", bytes, 5), -EINVAL);
	assert_int_equal(base64_parse("Zm9vYgo=", bytes, 4), -EINVAL);
	assert_int_equal(base64_parse("Zm9v=g==", bytes, 4), -EINVAL);
	assert_int_equal(base64_parse(" m9vYg==", bytes, 4), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_who_it_was_sealed_for),
		cmocka_unit_test(test_what_was_changed_is_refused),
		cmocka_unit_test(test_bad_public_keys),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
