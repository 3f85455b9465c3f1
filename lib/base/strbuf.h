/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing string for the control path.  When memory runs out it stays as it is and remembers the
 * failure: callers append freely and test strbuf_failed() once at the end.
 */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct strbuf {
	char *text; /* owned; always NUL-terminated once something was appended, else NULL */
	size_t length;
	size_t capacity;
	bool failed;
};

void strbuf_init(struct strbuf *buf);
void strbuf_done(struct strbuf *buf);
void strbuf_append(struct strbuf *buf, const char *text);
void strbuf_append_bytes(struct strbuf *buf, const void *from, size_t length);
void strbuf_printf(struct strbuf *buf, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void strbuf_vprintf(struct strbuf *buf, const char *format, va_list args);
/* JSON string with quotes and escapes; invalid UTF-8 becomes U+FFFD. */
void strbuf_append_json_string(struct strbuf *buf, const char *text);
bool strbuf_failed(const struct strbuf *buf);
/* "" instead of NULL. */
const char *strbuf_text(const struct strbuf *buf);

#endif
