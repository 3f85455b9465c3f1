/* SPDX-License-Identifier: Apache-2.0 */
/* Resource quantities, as k8s.io/apimachinery/pkg/api/resource writes them; exact. */
#include "kube/kube.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* More than this no number of bytes has: 19 digits and the zeros that "n" takes away. */
#define DIGITS_MAX   64
#define EXPONENT_MAX 64

struct decimal {
	char digits[DIGITS_MAX + 1]; /* without zeros at the beginning */
	unsigned count;
	int exponent;  /* of ten */
	bool has_rest; /* digits that are not kept, not all of them zero */
};

static int binary_shift(const char *suffix)
{
	static const char *const names[] = {"Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};

	for (int i = 0; i < 6; i++) {
		if (strcmp(suffix, names[i]) == 0) {
			return 10 * (i + 1);
		}
	}
	return -1;
}

/* "e9", "E-3"; true when it is one. */
static bool parse_exponent(const char *suffix, int *ret_exponent)
{
	int value = 0;
	bool negative = suffix[0] != '\0' && suffix[1] == '-';
	const char *digit = suffix + 1;

	if (suffix[0] != 'e' && suffix[0] != 'E') {
		return false;
	}
	digit += *digit == '+' || *digit == '-';
	if (*digit == '\0') {
		return false;
	}
	for (; *digit != '\0'; digit++) {
		if (*digit < '0' || *digit > '9') {
			return false;
		}
		if (value < 100000) {
			value = value * 10 + (*digit - '0');
		}
	}
	*ret_exponent = negative ? -value : value;
	return true;
}

static bool parse_suffix(const char *suffix, int *ret_exponent, int *ret_shift)
{
	static const struct {
		const char *name;
		int exponent;
	} names[] = {{"", 0}, {"n", -9}, {"u", -6}, {"m", -3}, {"k", 3}, {"M", 6}, {"G", 9},
		{"T", 12}, {"P", 15}, {"E", 18}};

	*ret_exponent = 0;
	*ret_shift = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(suffix, names[i].name) == 0) {
			*ret_exponent = names[i].exponent;
			return true;
		}
	}
	if (binary_shift(suffix) > 0) {
		*ret_shift = binary_shift(suffix);
		return true;
	}
	return parse_exponent(suffix, ret_exponent);
}

static void add_digit(struct decimal *number, char digit, bool is_fraction)
{
	if (number->count == DIGITS_MAX) {
		number->has_rest = number->has_rest || digit != '0';
		number->exponent += is_fraction ? 0 : 1;
		return;
	}
	if (number->count > 0 || digit != '0') {
		number->digits[number->count++] = digit;
	}
	number->exponent -= is_fraction ? 1 : 0;
}

/* Returns where the suffix begins; NULL: no number. */
static const char *parse_decimal(const char *text, struct decimal *number)
{
	bool has_digit = false, in_fraction = false;

	for (;; text++) {
		if (*text == '.' && !in_fraction) {
			in_fraction = true;
		} else if (*text >= '0' && *text <= '9') {
			has_digit = true;
			if (number->exponent < 1000000 && number->exponent > -1000000) {
				add_digit(number, *text, in_fraction);
			}
		} else {
			return has_digit ? text : NULL;
		}
	}
}

/* value * by + add, or false when it is above what 128 bits minus a margin hold. */
static bool multiply_add(unsigned __int128 *value, unsigned by, unsigned add)
{
	if (*value > ((unsigned __int128)1 << 120) / by) {
		return false;
	}
	*value = *value * by + add;
	return true;
}

/* number * 2^shift, rounded up: digits are taken one after the other, the fraction by a long
 * multiplication of its decimal digits. */
static int to_bytes(const struct decimal *number, int shift, uint64_t *ret_bytes)
{
	unsigned __int128 whole = 0;
	char fraction[DIGITS_MAX + 2 * EXPONENT_MAX] = {0};
	int point = (int)number->count + number->exponent; /* digits before the point */
	int fraction_count = 0;
	bool rest = number->has_rest;

	if (number->count == 0) {
		*ret_bytes = 0;
		return 0;
	}
	if (point > EXPONENT_MAX) {
		return -EINVAL;
	}
	if (point < -EXPONENT_MAX) {
		/* Less than any unit of any suffix makes a byte of. */
		*ret_bytes = 1;
		return 0;
	}
	for (int i = 0; i < point; i++) {
		unsigned digit = i < (int)number->count ? (unsigned)(number->digits[i] - '0') : 0;

		if (!multiply_add(&whole, 10, digit)) {
			return -EINVAL;
		}
	}
	for (int i = point; i < (int)number->count; i++) {
		fraction[fraction_count++] = i < 0 ? 0 : (char)(number->digits[i] - '0');
	}
	for (; shift > 0; shift--) {
		unsigned carry = 0;

		for (int i = fraction_count - 1; i >= 0; i--) {
			unsigned doubled = (unsigned)fraction[i] * 2 + carry;

			fraction[i] = (char)(doubled % 10);
			carry = doubled / 10;
		}
		if (!multiply_add(&whole, 2, carry)) {
			return -EINVAL;
		}
	}
	for (int i = 0; i < fraction_count; i++) {
		rest = rest || fraction[i] != 0;
	}
	whole += rest ? 1 : 0;
	if (whole > INT64_MAX) {
		return -EINVAL;
	}
	*ret_bytes = (uint64_t)whole;
	return 0;
}

int kube_quantity_parse(const char *text, uint64_t *ret_bytes)
{
	struct decimal number = {.count = 0};
	int exponent, shift;
	bool negative = text[0] == '-';
	const char *suffix = parse_decimal(text + (text[0] == '+' || negative), &number);

	if (suffix == NULL || !parse_suffix(suffix, &exponent, &shift) ||
		(negative && (number.count > 0 || number.has_rest))) {
		return -EINVAL;
	}
	number.exponent += exponent;
	return to_bytes(&number, shift, ret_bytes);
}

char *kube_quantity_to_text(uint64_t bytes, char text[KUBE_QUANTITY_TEXT_SIZE])
{
	static const char *const suffixes[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
	unsigned i = 0;

	while (bytes != 0 && i < 6 && bytes % 1024 == 0) {
		bytes /= 1024;
		i++;
	}
	(void)snprintf(
		text, KUBE_QUANTITY_TEXT_SIZE, "%llu%s", (unsigned long long)bytes, suffixes[i]);
	return text;
}
