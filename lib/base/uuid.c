/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include "base/bytes.h"

#include <errno.h>

void uuid_make(struct uuid *ret_uuid, struct rng *rng)
{
	le64_put(ret_uuid->b, rng_u64(rng));
	le64_put(ret_uuid->b + 8, rng_u64(rng));
	ret_uuid->b[6] = (uint8_t)((ret_uuid->b[6] & 0x0F) | 0x40);
	ret_uuid->b[8] = (uint8_t)((ret_uuid->b[8] & 0x3F) | 0x80);
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool uuid_is_nil(const struct uuid *uuid)
{
	return bytes_are_zero(uuid->b, sizeof(uuid->b));
}

static bool dash_comes_before(unsigned byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

char *uuid_to_text(const struct uuid *uuid, char text[UUID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char *at = text;

	for (unsigned i = 0; i < 16; i++) {
		if (dash_comes_before(i)) {
			*at++ = '-';
		}
		*at++ = digits[uuid->b[i] >> 4];
		*at++ = digits[uuid->b[i] & 0x0F];
	}
	*at = '\0';
	return text;
}

/* -1 when it is none. */
static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return -1;
}

int uuid_parse(const char *text, struct uuid *ret_uuid)
{
	struct uuid uuid = {0};

	for (unsigned i = 0; i < 16; i++) {
		if (dash_comes_before(i) && *text++ != '-') {
			return -EINVAL;
		}
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0) {
			return -EINVAL;
		}
		uuid.b[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (*text != '\0') {
		return -EINVAL;
	}
	*ret_uuid = uuid;
	return 0;
}
