/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"
#include "base/testing.h"
#include "repl/capability.h"

#include <errno.h>
#include <string.h>

static const struct uuid volume = {.b = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct uuid node = {.b = {0xaa, 0xbb, [15] = 0xcc}};
static uint8_t master[CAPABILITY_SECRET_SIZE];

static int setup(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(master); i++) {
		master[i] = (uint8_t)i;
	}
	return 0;
}

/* What another implementation of RFC 2104 makes of the text in the header. */
static void test_known_answers(void **state)
{
	char text[HEX_TEXT_SIZE(CAPABILITY_SECRET_SIZE)];
	struct volume_key key;
	struct capability capability;

	(void)state;
	volume_key_derive(master, &volume, 3, &key);
	assert_int_equal(key.number, 3);
	assert_string_equal(hex_to_text(key.secret, sizeof(key.secret), text),
		"273225ddcf0ba12e2d35e81908db12419f38fbed78f1204f716c472db5593e5f");
	capability_make(&key, &volume, 0x01020304, &node, &capability);
	assert_int_equal(capability.version, 1);
	assert_int_equal(capability.key, 3);
	assert_string_equal(hex_to_text(capability.mac, sizeof(capability.mac), text),
		"f0b64ca9fbbb8c8d4324852de628811bac91a440d20561ec0247e2abc1b80dfc");
}

static void test_fits_nothing_else(void **state)
{
	struct volume_key key, other;
	struct capability capability, changed;
	struct uuid elsewhere = node;

	(void)state;
	volume_key_derive(master, &volume, 1, &key);
	capability_make(&key, &volume, 7, &node, &capability);
	assert_true(capability_fits(&capability, &key, &volume, 7, &node));
	assert_false(capability_fits(&capability, &key, &volume, 8, &node));
	assert_false(capability_fits(&capability, &key, &volume, 6, &node));
	elsewhere.b[15]++;
	assert_false(capability_fits(&capability, &key, &volume, 7, &elsewhere));
	assert_false(capability_fits(&capability, &key, &node, 7, &node));
	volume_key_derive(master, &volume, 2, &other);
	assert_false(capability_fits(&capability, &other, &volume, 7, &node));
	other = key;
	other.number = 0;
	assert_false(capability_fits(&capability, &other, &volume, 7, &node));
	changed = capability;
	changed.mac[31] ^= 1;
	assert_false(capability_fits(&changed, &key, &volume, 7, &node));
	changed = capability;
	changed.version = 2;
	assert_false(capability_fits(&changed, &key, &volume, 7, &node));
	memset(&changed, 0, sizeof(changed));
	assert_false(capability_fits(&changed, &key, &volume, 7, &node));
}

static void test_encoding(void **state)
{
	uint8_t bytes[CAPABILITY_ENCODED_SIZE];
	struct volume_key key;
	struct capability capability, decoded;

	(void)state;
	volume_key_derive(master, &volume, 0xfedc, &key);
	capability_make(&key, &volume, 1, &node, &capability);
	capability_encode(&capability, bytes);
	assert_int_equal(capability_decode(bytes, &decoded), 0);
	assert_true(capability_fits(&decoded, &key, &volume, 1, &node));
	bytes[0] = 2;
	assert_int_equal(capability_decode(bytes, &decoded), -EBADMSG);
	bytes[0] = 1;
	bytes[2] = bytes[3] = 0;
	assert_int_equal(capability_decode(bytes, &decoded), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_fits_nothing_else),
		cmocka_unit_test(test_encoding),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
