/* SPDX-License-Identifier: Apache-2.0 */
/* Escaping of text for JSON, shared by strbuf and log. */
#ifndef BASE_JSON_TEXT_H
#define BASE_JSON_TEXT_H

#include <stddef.h>

#define JSON_CHARACTER_MAX 6

/*
 * Takes one character from *from (before end; *from < end) and writes what stands for it within a
 * JSON string to out, no NUL. Returns the length of that.  A byte that is not part of valid UTF-8
 * becomes U+FFFD.
 */
size_t json_character(const char **from, const char *end, char out[JSON_CHARACTER_MAX]);

#endif
