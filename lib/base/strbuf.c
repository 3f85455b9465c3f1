/* SPDX-License-Identifier: Apache-2.0 */
#include "base/strbuf.h"

#include "base/json_text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strbuf_init(struct strbuf *buf)
{
	*buf = (struct strbuf){0};
}

void strbuf_done(struct strbuf *buf)
{
	free(buf->text);
	strbuf_init(buf);
}

/* Makes room for `more` bytes and a NUL. */
static bool reserve(struct strbuf *buf, size_t more)
{
	if (buf->failed || more > SIZE_MAX / 4 - buf->length) {
		buf->failed = true;
		return false;
	}
	size_t needed = buf->length + more + 1;

	if (needed <= buf->capacity) {
		return true;
	}
	size_t capacity = buf->capacity < 32 ? 64 : buf->capacity * 2;

	if (capacity < needed) {
		capacity = needed;
	}
	char *text = realloc(buf->text, capacity);

	if (text == NULL) {
		buf->failed = true;
		return false;
	}
	buf->text = text;
	buf->capacity = capacity;
	return true;
}

void strbuf_append_bytes(struct strbuf *buf, const void *from, size_t length)
{
	if (!reserve(buf, length)) {
		return;
	}
	if (length > 0) {
		memcpy(buf->text + buf->length, from, length);
	}
	buf->length += length;
	buf->text[buf->length] = '\0';
}

void strbuf_append(struct strbuf *buf, const char *text)
{
	strbuf_append_bytes(buf, text, strlen(text));
}

void strbuf_printf(struct strbuf *buf, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	strbuf_vprintf(buf, format, args);
	va_end(args);
}

__attribute__((format(printf, 2, 0))) void strbuf_vprintf(
	struct strbuf *buf, const char *format, va_list args)
{
	va_list again;

	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (length < 0) {
		buf->failed = true;
		return;
	}
	if (reserve(buf, (size_t)length)) {
		(void)vsnprintf(buf->text + buf->length, (size_t)length + 1, format, args);
		buf->length += (size_t)length;
	}
}

void strbuf_append_json_string(struct strbuf *buf, const char *text)
{
	const char *end = text + strlen(text);
	char character[JSON_CHARACTER_MAX];

	strbuf_append(buf, "\"");
	while (text < end) {
		size_t length = json_character(&text, end, character);

		strbuf_append_bytes(buf, character, length);
	}
	strbuf_append(buf, "\"");
}

bool strbuf_failed(const struct strbuf *buf)
{
	return buf->failed;
}

const char *strbuf_text(const struct strbuf *buf)
{
	return buf->text != NULL ? buf->text : "";
}
