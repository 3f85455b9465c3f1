/* SPDX-License-Identifier: Apache-2.0 */
#include "base/size.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int malformed(const char *text, struct err *err)
{
	return err_set(err, -EINVAL,
		"\"%.64s\" is not a size: write a whole number and K, M, G or T (powers of 1024), "
		"like 64M or 10G",
		text);
}

/* The number of bits that a suffix shifts by; -1 when it is none. */
static int suffix_shift(const char *suffix)
{
	static const char letters[] = "KMGT";
	static const char small_letters[] = "kmgt";

	if (suffix[0] == '\0' || strcmp(suffix, "B") == 0) {
		return 0;
	}
	const char *found = strchr(letters, suffix[0]);
	const char *found_small = strchr(small_letters, suffix[0]);

	if (found == NULL && found_small == NULL) {
		return -1;
	}
	if (suffix[1] != '\0' && strcmp(suffix + 1, "i") != 0 && strcmp(suffix + 1, "iB") != 0 &&
		strcmp(suffix + 1, "B") != 0) {
		return -1;
	}
	ptrdiff_t power = found != NULL ? found - letters : found_small - small_letters;

	return 10 * ((int)power + 1);
}

int size_parse(const char *text, uint64_t *ret_bytes, struct err *err)
{
	const char *at = text;
	uint64_t value = 0;
	bool too_large = false;

	if (*at < '0' || *at > '9') {
		return malformed(text, err);
	}
	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');

		too_large = too_large || value > (UINT64_MAX - digit) / 10;
		value = value * 10 + digit;
	}
	int shift = suffix_shift(at);

	if (shift < 0) {
		return malformed(text, err);
	}
	if (too_large || value > UINT64_MAX >> shift) {
		return err_set(
			err, -ERANGE, "size \"%.64s\" is too large: the most is 16777215T", text);
	}
	*ret_bytes = value << shift;
	return 0;
}

char *size_to_text(uint64_t bytes, char text[SIZE_TEXT_SIZE])
{
	static const char letters[] = "KMGT";
	unsigned power = 0;

	while (power < 4 && bytes >> (10 * (power + 1)) != 0) {
		power++;
	}
	if (power == 0) {
		(void)snprintf(text, SIZE_TEXT_SIZE, "%" PRIu64, bytes);
		return text;
	}
	uint64_t unit = UINT64_C(1) << (10 * power);
	uint64_t whole = bytes / unit;
	uint64_t rest = bytes % unit;

	if (rest == 0) {
		(void)snprintf(text, SIZE_TEXT_SIZE, "%" PRIu64 "%c", whole, letters[power - 1]);
	} else {
		(void)snprintf(text, SIZE_TEXT_SIZE, "%" PRIu64 ".%02u%c", whole,
			(unsigned)(rest * 100 / unit), letters[power - 1]);
	}
	return text;
}
