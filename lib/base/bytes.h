/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian loads and stores at any alignment, and arithmetic that notices overflow. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Strake runs on little-endian machines");

static inline uint16_t le16_get(const void *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static inline uint32_t le32_get(const void *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static inline uint64_t le64_get(const void *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static inline void le16_put(void *to, uint16_t value)
{
	memcpy(to, &value, sizeof(value));
}

static inline void le32_put(void *to, uint32_t value)
{
	memcpy(to, &value, sizeof(value));
}

static inline void le64_put(void *to, uint64_t value)
{
	memcpy(to, &value, sizeof(value));
}

static inline uint64_t round_up_u64(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static inline uint64_t div_up_u64(uint64_t value, uint64_t unit)
{
	return value / unit + (value % unit != 0);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline bool is_power_of_two(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

/* true when offset + length stays within limit; no overflow. */
static inline bool range_is_within(uint64_t offset, uint64_t length, uint64_t limit)
{
	return offset <= limit && length <= limit - offset;
}

/* Is memory all zero? */
bool bytes_are_zero(const void *from, size_t length);

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
