/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/table.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 64

void *must_alloc(size_t size)
{
	void *memory = calloc(1, size);

	if (memory == NULL) {
		abort();
	}
	return memory;
}

char *must_copy(const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL) {
		abort();
	}
	return copy;
}

void must_free(const void *memory)
{
	free((void *)(uintptr_t)memory);
}

/* FNV-1a; names come from people with rights on the objects, nobody gains by collisions. */
static uint64_t hash_of(const char *key)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *key != '\0'; key++) {
		hash = (hash ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
	}
	return hash;
}

static struct table_entry **bucket_of(const struct table *table, const char *key)
{
	return &table->buckets[hash_of(key) & (table->bucket_count - 1)];
}

static void grow(struct table *table)
{
	struct table bigger = {
		.bucket_count = table->bucket_count == 0 ? BUCKETS_MIN : table->bucket_count * 2,
		.count = table->count,
	};

	bigger.buckets = must_alloc(bigger.bucket_count * sizeof(struct table_entry *));
	for (size_t i = 0; i < table->bucket_count; i++) {
		struct table_entry *entry = table->buckets[i];

		while (entry != NULL) {
			struct table_entry *next = entry->next;
			struct table_entry **bucket = bucket_of(&bigger, entry->key);

			entry->next = *bucket;
			*bucket = entry;
			entry = next;
		}
	}
	free(table->buckets);
	*table = bigger;
}

void table_done(struct table *table)
{
	assert(table->count == 0);
	free(table->buckets);
	*table = (struct table){0};
}

struct table_entry *table_find(const struct table *table, const char *key)
{
	struct table_entry *entry = table->bucket_count == 0 ? NULL : *bucket_of(table, key);

	while (entry != NULL && strcmp(entry->key, key) != 0) {
		entry = entry->next;
	}
	return entry;
}

void table_add(struct table *table, struct table_entry *entry, const char *key)
{
	struct table_entry **bucket;

	if (table->count >= table->bucket_count) {
		grow(table);
	}
	entry->key = must_copy(key);
	bucket = bucket_of(table, key);
	entry->next = *bucket;
	*bucket = entry;
	table->count++;
}

void table_remove(struct table *table, struct table_entry *entry)
{
	struct table_entry **at = bucket_of(table, entry->key);

	while (*at != entry) {
		at = &(*at)->next;
	}
	*at = entry->next;
	free(entry->key);
	entry->key = NULL;
	table->count--;
}

struct table_entry *table_next(const struct table *table, const struct table_entry *entry)
{
	size_t i = 0;

	if (entry != NULL) {
		if (entry->next != NULL) {
			return entry->next;
		}
		i = (size_t)(bucket_of(table, entry->key) - table->buckets) + 1;
	}
	while (i < table->bucket_count && table->buckets[i] == NULL) {
		i++;
	}
	return i < table->bucket_count ? table->buckets[i] : NULL;
}
