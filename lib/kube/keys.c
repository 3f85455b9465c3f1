/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/keys.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 64

static uint64_t hash_of(const char *key)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *key != '\0'; key++) {
		hash = (hash ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
	}
	return hash ^ hash >> 32;
}

static struct key_node **bucket_of(const struct keys *keys, uint64_t hash)
{
	return &keys->buckets[hash & (keys->bucket_count - 1)];
}

struct key_node *keys_find(const struct keys *keys, const char *key)
{
	uint64_t hash = hash_of(key);

	if (keys->bucket_count == 0) {
		return NULL;
	}
	for (struct key_node *node = *bucket_of(keys, hash); node != NULL; node = node->next) {
		if (node->hash == hash && strcmp(node->key, key) == 0) {
			return node;
		}
	}
	return NULL;
}

static void link_node(struct keys *keys, struct key_node *node)
{
	struct key_node **bucket = bucket_of(keys, node->hash);

	node->next = *bucket;
	*bucket = node;
}

static void grow(struct keys *keys, size_t bucket_count)
{
	struct keys larger = {.buckets = calloc(bucket_count, sizeof(struct key_node *)),
		.bucket_count = bucket_count,
		.count = keys->count};

	if (larger.buckets == NULL) {
		return;
	}
	for (size_t i = 0; i < keys->bucket_count; i++) {
		while (keys->buckets[i] != NULL) {
			struct key_node *node = keys->buckets[i];

			keys->buckets[i] = node->next;
			link_node(&larger, node);
		}
	}
	free(keys->buckets);
	*keys = larger;
}

int keys_add(struct keys *keys, struct key_node *node)
{
	if (keys->count >= keys->bucket_count) {
		grow(keys, keys->bucket_count == 0 ? BUCKETS_MIN : keys->bucket_count * 2);
	}
	if (keys->bucket_count == 0) {
		return -ENOMEM;
	}
	node->hash = hash_of(node->key);
	link_node(keys, node);
	keys->count++;
	return 0;
}

void keys_remove(struct keys *keys, struct key_node *node)
{
	struct key_node **at = bucket_of(keys, node->hash);

	while (*at != node) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	keys->count--;
}

struct key_node *keys_any(const struct keys *keys)
{
	for (size_t i = 0; keys->count > 0 && i < keys->bucket_count; i++) {
		if (keys->buckets[i] != NULL) {
			return keys->buckets[i];
		}
	}
	return NULL;
}

void keys_done(struct keys *keys)
{
	assert(keys->count == 0);
	free(keys->buckets);
	*keys = (struct keys){.count = 0};
}
