/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table of structs by a text.  Running out of memory ends the program: it is started again
 * and reads everything anew. */
#ifndef CSI_CONTROLLER_TABLE_H
#define CSI_CONTROLLER_TABLE_H

#include <stddef.h>

struct table_entry {
	struct table_entry *next;
	char *key; /* owned */
};

struct table {
	struct table_entry **buckets; /* owned */
	size_t bucket_count, count;
};

/* Zeroed memory is an empty table. */
void table_done(struct table *table); /* it is empty */
/* NULL: not there. */
struct table_entry *table_find(const struct table *table, const char *key);
/* Not there yet; the key is copied. */
void table_add(struct table *table, struct table_entry *entry, const char *key);
void table_remove(struct table *table, struct table_entry *entry);
/* In no order; NULL begins and ends.  The table does not change meanwhile. */
struct table_entry *table_next(const struct table *table, const struct table_entry *entry);

/* Zeroed; never NULL. */
void *must_alloc(size_t size);
char *must_copy(const char *text);
void must_free(const void *memory);

#endif
