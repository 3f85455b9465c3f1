/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs (RFC 4122 version 4), stored as their 16 bytes in text order. */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_SIZE 37 /* with the terminating NUL */

struct uuid {
	uint8_t b[16];
};

/* Random, version and variant bits set. */
void uuid_make(struct uuid *ret_uuid, struct rng *rng);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_nil(const struct uuid *uuid);

/* 36 characters and NUL into text; returns text. */
char *uuid_to_text(const struct uuid *uuid, char text[UUID_TEXT_SIZE]);

/* 0, or -EINVAL: exactly 36 characters, hexadecimal of either case, dashes in place. */
int uuid_parse(const char *text, struct uuid *ret_uuid);

#endif
