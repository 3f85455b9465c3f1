/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_text.h"

#include <stdint.h>
#include <string.h>

/* Length of the well-formed UTF-8 sequence at `from`, which has `room` > 0 bytes; 0 when there is
 * none. */
static size_t utf8_length(const unsigned char *from, size_t room)
{
	unsigned char first = from[0];
	size_t length;

	if (first < 0x80) {
		return 1;
	}
	if (first >= 0xC2 && first <= 0xDF) {
		length = 2;
	} else if ((first & 0xF0) == 0xE0) {
		length = 3;
	} else if (first >= 0xF0 && first <= 0xF4) {
		length = 4;
	} else {
		return 0;
	}
	if (length > room) {
		return 0;
	}
	for (size_t i = 1; i < length; i++) {
		if ((from[i] & 0xC0) != 0x80) {
			return 0;
		}
	}
	/* Overlong forms, surrogates and what is above U+10FFFF. */
	if ((first == 0xE0 && from[1] < 0xA0) || (first == 0xED && from[1] > 0x9F) ||
		(first == 0xF0 && from[1] < 0x90) || (first == 0xF4 && from[1] > 0x8F)) {
		return 0;
	}
	return length;
}

/* The letter of a two-character escape; 0 when there is none. */
static char short_escape(char c)
{
	static const char plain[] = "\"\\\n\r\t\b\f";
	static const char letters[] = "\"\\nrtbf";
	const char *found = c == '\0' ? NULL : strchr(plain, c);

	return found == NULL ? '\0' : letters[found - plain];
}

size_t json_character(const char **from, const char *end, char out[JSON_CHARACTER_MAX])
{
	static const char digits[] = "0123456789abcdef";
	const char *at = *from;
	size_t length = utf8_length((const unsigned char *)at, (size_t)(end - at));
	char letter = short_escape(*at);

	if (length == 0) {
		*from = at + 1;
		memcpy(out, "\xEF\xBF\xBD", 3);
		return 3;
	}
	*from = at + length;
	if (letter != '\0') {
		out[0] = '\\';
		out[1] = letter;
		return 2;
	}
	if ((unsigned char)*at < 0x20 || *at == 0x7F) {
		memcpy(out, "\\u00", 4);
		out[4] = digits[(unsigned char)*at >> 4];
		out[5] = digits[*at & 0x0F];
		return 6;
	}
	memcpy(out, at, length);
	return length;
}
