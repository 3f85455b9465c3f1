/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as lower-case hexadecimal digits. */
#ifndef BASE_HEX_H
#define BASE_HEX_H

#include <stddef.h>

#define HEX_TEXT_SIZE(bytes) (2 * (bytes) + 1) /* with NUL */

/* Returns text. */
char *hex_to_text(const void *bytes, size_t length, char *text);
/* 0, or -EINVAL: not exactly 2 x length digits, of either case. */
int hex_parse(const char *text, void *ret_bytes, size_t length);

#endif
