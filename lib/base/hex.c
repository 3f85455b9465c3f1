/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

char *hex_to_text(const void *bytes, size_t length, char *text)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *from = bytes;

	for (size_t i = 0; i < length; i++) {
		text[2 * i] = digits[from[i] >> 4];
		text[2 * i + 1] = digits[from[i] & 15];
	}
	text[2 * length] = '\0';
	return text;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int hex_parse(const char *text, void *ret_bytes, size_t length)
{
	uint8_t *to = ret_bytes;

	if (strlen(text) != 2 * length) {
		return -EINVAL;
	}
	for (size_t i = 0; i < length; i++) {
		int high = digit(text[2 * i]);
		int low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0) {
			return -EINVAL;
		}
		to[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}
