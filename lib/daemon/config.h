/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files in YAML, checked against a table: what is not in the table is an error that
 * says where it is and what may stand there.  In values ${NAME} is an environment variable, which
 * must be set, and $$ a dollar.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type {
	CONFIG_STRING,
	CONFIG_SIZE, /* "64M", in bytes */
	CONFIG_UINT,
	CONFIG_BOOL, /* true or false */
};

/*
 * One value.  The path is made of keys with dots; "[]" behind a key makes a list: "pools[].disk" is
 * the disk of each mapping in the list `pools`, "hosts[]" a list of plain values.
 */
struct config_key {
	const char *path;
	enum config_type type;
	bool required;        /* in a list: of each of its mappings */
	const char *fallback; /* as it would be written, or NULL */
	uint64_t min,
		max; /* of numbers; max 0: no limit.  Strings: of the length, min 0 lets "" pass */
	const char *help;
};

struct config;

/* -ENOENT, -EINVAL, ... with "file:line:column: ..." where there is a place. */
int config_load(const char *path, const struct config_key *keys, size_t key_count,
	struct config **ret_config, struct err *err) __must_check;
/* `name` stands for the file in errors. */
int config_parse(const char *name, const char *text, size_t length, const struct config_key *keys,
	size_t key_count, struct config **ret_config, struct err *err) __must_check;
void config_free(struct config *config);

/* Paths have indexes for lists: "pools[2].disk".  Without a value and a fallback: NULL and 0.  A
 * path that is not in the table is a mistake of ours (assert). */
const char *config_string(const struct config *config, const char *path_format, ...)
	__attribute__((format(printf, 2, 3)));
uint64_t config_number(const struct config *config, const char *path_format, ...)
	__attribute__((format(printf, 2, 3))); /* UINT and SIZE */
bool config_bool(const struct config *config, const char *path_format, ...)
	__attribute__((format(printf, 2, 3)));
bool config_has(const struct config *config, const char *path_format, ...)
	__attribute__((format(printf, 2, 3)));
/* Items of a list: config_count(config, "pools"). */
unsigned config_count(const struct config *config, const char *list);

/* For what the table cannot say: puts the place of the value before the text.  -EINVAL. */
int config_refuse(const struct config *config, struct err *err, const char *path,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
