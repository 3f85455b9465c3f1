/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: objects from text. */
#ifndef OBJECTS_TESTING_H
#define OBJECTS_TESTING_H

#include "base/testing.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 1, 2))) static inline json_t *parse(const char *format, ...)
{
	char text[4096];
	json_error_t why;
	va_list args;

	va_start(args, format);
	assert_true(vsnprintf(text, sizeof(text), format, args) < (int)sizeof(text));
	va_end(args);
	/* Single quotes are easier to read in C. */
	for (char *at = text; *at != '\0'; at++) {
		*at = *at == '\'' ? '"' : *at;
	}
	json_t *json = json_loads(text, 0, &why);

	if (json == NULL) {
		fail_msg("%s at %d: %s", why.text, why.position, text);
	}
	return json;
}

#endif
