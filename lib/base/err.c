/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void err_clear(struct err *err)
{
	if (err != NULL) {
		err->code = 0;
		err->text[0] = '\0';
	}
}

int err_set(struct err *err, int code, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	assert(code < 0);
	if (err == NULL) {
		return code;
	}
	/* Formatted aside: the old text may be one of the arguments. */
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(err->text, text, sizeof(text));
	err->code = code;
	return code;
}

int err_prefix(struct err *err, const char *format, ...)
{
	char prefix[ERR_TEXT_MAX];
	va_list args;

	assert(err != NULL);
	va_start(args, format);
	int length = vsnprintf(prefix, sizeof(prefix), format, args);
	va_end(args);
	if (length < 0 || (size_t)length + 3 > sizeof(prefix)) {
		/* A prefix that fills everything would leave nothing of the cause. */
		return err->code;
	}
	memcpy(prefix + length, ": ", 3);
	size_t prefix_length = (size_t)length + 2;
	size_t room = sizeof(err->text) - 1 - prefix_length;
	size_t kept = strnlen(err->text, room);

	memmove(err->text + prefix_length, err->text, kept);
	memcpy(err->text, prefix, prefix_length);
	err->text[prefix_length + kept] = '\0';
	return err->code;
}

static int positive(int code)
{
	if (code == INT_MIN) {
		return INT_MAX;
	}
	return code < 0 ? -code : code;
}

const char *err_name(int code)
{
	const char *name = code == 0 ? "OK" : strerrorname_np(positive(code));

	return name != NULL ? name : "EUNKNOWN";
}

const char *err_describe(int code)
{
	const char *text = strerrordesc_np(positive(code));

	return text != NULL ? text : "Unknown error";
}
