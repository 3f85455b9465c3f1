/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the control path: a negative errno and a text for a person, prefixed on the way up
 * ("open volume db: fence replica 7d1c: ...").  The data path uses negative errno alone.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define ERR_TEXT_MAX 512

#define __must_check __attribute__((warn_unused_result))

struct err {
	int code; /* 0 or negative errno */
	char text[ERR_TEXT_MAX];
};

void err_clear(struct err *err);

/* Sets code and text; returns code, so that callers write `return err_set(err, -EINVAL, "...")`.
 * `code` is negative.  `err` may be NULL. */
int err_set(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "text: " before what is there.  Returns err->code. */
int err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Name of an errno value, positive or negative: "ENOSPC"; never NULL. */
const char *err_name(int code);

/* Plain description of an errno value, thread-safe: "No space left on device". */
const char *err_describe(int code);

#endif
