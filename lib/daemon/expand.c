/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/expand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE  128
#define NAME_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* `text` is behind "${".  Returns what is behind "}", or NULL. */
static const char *expand_variable(const char *text, struct strbuf *to, struct err *err)
{
	char name[NAME_SIZE];
	size_t length = strspn(text, NAME_BYTES);
	const char *value;

	if (length == 0 || length >= sizeof(name) || text[length] != '}' ||
		(text[0] >= '0' && text[0] <= '9')) {
		(void)err_set(err, -EINVAL, "\"${%.32s\" is no environment variable: write ${NAME}",
			text);
		return NULL;
	}
	memcpy(name, text, length);
	name[length] = '\0';
	value = getenv(name);
	if (value == NULL) {
		(void)err_set(err, -EINVAL, "the environment variable %s is not set", name);
		return NULL;
	}
	strbuf_append(to, value);
	return text + length + 1;
}

int expand(const char *text, struct strbuf *to, struct err *err)
{
	for (;;) {
		const char *dollar = strchrnul(text, '$');

		strbuf_append_bytes(to, text, (size_t)(dollar - text));
		if (*dollar == '\0') {
			break;
		}
		if (dollar[1] == '$') {
			strbuf_append(to, "$");
			text = dollar + 2;
		} else if (dollar[1] == '{') {
			text = expand_variable(dollar + 2, to, err);
			if (text == NULL) {
				return -EINVAL;
			}
		} else {
			return err_set(err, -EINVAL,
				"\"%.32s\": a dollar is written $$, an environment variable "
				"${NAME}",
				dollar);
		}
	}
	return strbuf_failed(to) ? err_set(err, -ENOMEM, "no memory") : 0;
}
