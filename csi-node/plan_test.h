/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of plans: objects from text. */
#ifndef CSI_NODE_PLAN_TEST_H
#define CSI_NODE_PLAN_TEST_H

#include "base/testing.h"
#include "csi-node/plan.h"

#include <stdio.h>
#include <string.h>

static inline char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

/* Single quotes are easier to read in C. */
__attribute__((format(printf, 1, 2))) static inline json_t *parse(const char *format, ...)
{
	char text[4096];
	json_error_t why;
	va_list args;

	va_start(args, format);
	assert_true(vsnprintf(text, sizeof(text), format, args) < (int)sizeof(text));
	va_end(args);
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
