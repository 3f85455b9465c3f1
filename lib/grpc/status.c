/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "grpc/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * errno <-> code.  The first row of a code is what the client gets back; "maybe" is of the code:
 * may a call that ended so have been executed?
 */
static const struct {
	int error;
	enum grpc_code code;
	bool maybe_done;
} table[] = {
	{ECANCELED, GRPC_CANCELLED, true},
	{EIO, GRPC_UNKNOWN, true},
	{EINVAL, GRPC_INVALID_ARGUMENT, false},
	{ENAMETOOLONG, GRPC_INVALID_ARGUMENT, false},
	{EDOM, GRPC_INVALID_ARGUMENT, false},
	{ETIMEDOUT, GRPC_DEADLINE_EXCEEDED, true},
	{ETIME, GRPC_DEADLINE_EXCEEDED, true},
	{ENOENT, GRPC_NOT_FOUND, false},
	{ENODEV, GRPC_NOT_FOUND, false},
	{ENXIO, GRPC_NOT_FOUND, false},
	{EEXIST, GRPC_ALREADY_EXISTS, false},
	{EPERM, GRPC_PERMISSION_DENIED, false},
	{EACCES, GRPC_PERMISSION_DENIED, false},
	{ENOSPC, GRPC_RESOURCE_EXHAUSTED, false},
	{ENOMEM, GRPC_RESOURCE_EXHAUSTED, false},
	{EMSGSIZE, GRPC_RESOURCE_EXHAUSTED, false},
	{EMFILE, GRPC_RESOURCE_EXHAUSTED, false},
	{EBUSY, GRPC_FAILED_PRECONDITION, false},
	{ENOTEMPTY, GRPC_FAILED_PRECONDITION, false},
	{EADDRINUSE, GRPC_FAILED_PRECONDITION, false},
	{EROFS, GRPC_FAILED_PRECONDITION, false},
	{ESTALE, GRPC_ABORTED, false},
	{EALREADY, GRPC_ABORTED, false},
	{ERANGE, GRPC_OUT_OF_RANGE, false},
	{EFBIG, GRPC_OUT_OF_RANGE, false},
	{EOPNOTSUPP, GRPC_UNIMPLEMENTED, false},
	{ENOSYS, GRPC_UNIMPLEMENTED, false},
	{EPROTO, GRPC_INTERNAL, true},
	{ENOTRECOVERABLE, GRPC_INTERNAL, true},
	{EAGAIN, GRPC_UNAVAILABLE, true},
	{ESHUTDOWN, GRPC_UNAVAILABLE, true},
	{ECONNREFUSED, GRPC_UNAVAILABLE, true},
	{ECONNRESET, GRPC_UNAVAILABLE, true},
	{EPIPE, GRPC_UNAVAILABLE, true},
	{EHOSTUNREACH, GRPC_UNAVAILABLE, true},
	{ENOTCONN, GRPC_UNAVAILABLE, true},
	{EBADMSG, GRPC_DATA_LOSS, false},
	{EILSEQ, GRPC_DATA_LOSS, false},
	{EKEYREJECTED, GRPC_UNAUTHENTICATED, false},
};

enum grpc_code grpc_code_from_errno(int code)
{
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		if (table[i].error == -code) {
			return table[i].code;
		}
	}
	return code == 0 ? GRPC_OK : GRPC_UNKNOWN;
}

int grpc_code_to_errno(unsigned code)
{
	if (code == GRPC_OK) {
		return 0;
	}
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		if (table[i].code == code) {
			return -table[i].error;
		}
	}
	return -EIO;
}

bool grpc_code_is_maybe_done(unsigned code)
{
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		if (table[i].code == code) {
			return table[i].maybe_done;
		}
	}
	return true;
}

const char *grpc_code_name(unsigned code)
{
	static const char *const names[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
		"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};

	return code < ARRAY_COUNT(names) ? names[code] : "UNKNOWN";
}

void grpc_percent_encode(const char *text, struct strbuf *to)
{
	for (; *text != '\0'; text++) {
		uint8_t byte = (uint8_t)*text;

		if (byte < 0x20 || byte > 0x7e || byte == '%') {
			strbuf_printf(to, "%%%02X", byte);
		} else {
			strbuf_append_bytes(to, text, 1);
		}
	}
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9') {
		return digit - '0';
	}
	digit = (char)(digit | 0x20);
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

void grpc_percent_decode(const char *text, size_t length, char *to, size_t to_bytes)
{
	size_t out = 0;

	for (size_t in = 0; in < length && out + 1 < to_bytes; in++) {
		int high = -1, low = -1;

		if (text[in] == '%' && length - in > 2) {
			high = hex_digit(text[in + 1]);
			low = hex_digit(text[in + 2]);
		}
		/* A NUL would end the text for every reader. */
		if (high >= 0 && low >= 0 && high + low > 0) {
			to[out++] = (char)(high * 16 + low);
			in += 2;
		} else {
			to[out++] = text[in];
		}
	}
	to[out] = '\0';
}

int grpc_timeout_parse(const char *text, size_t length, uint64_t *ret_ms)
{
	uint64_t value = 0;

	/* At most 8 digits and a unit, says the specification: nothing overflows. */
	if (length < 2 || length > 9) {
		return -EINVAL;
	}
	for (size_t i = 0; i < length - 1; i++) {
		if (text[i] < '0' || text[i] > '9') {
			return -EINVAL;
		}
		value = value * 10 + (uint64_t)(text[i] - '0');
	}
	switch (text[length - 1]) {
	case 'H':
		*ret_ms = value * 3600000;
		return 0;
	case 'M':
		*ret_ms = value * 60000;
		return 0;
	case 'S':
		*ret_ms = value * 1000;
		return 0;
	case 'm':
		*ret_ms = value;
		return 0;
	case 'u':
		*ret_ms = div_up_u64(value, 1000);
		return 0;
	case 'n':
		*ret_ms = div_up_u64(value, 1000000);
		return 0;
	}
	return -EINVAL;
}
