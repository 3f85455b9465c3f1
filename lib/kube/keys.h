/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table of structs that hold their key and a node. */
#ifndef KUBE_KEYS_H
#define KUBE_KEYS_H

#include <stddef.h>
#include <stdint.h>

struct key_node {
	struct key_node *next;
	uint64_t hash;
	char *key; /* owned by whoever owns the node */
};

struct keys {
	struct key_node **buckets; /* owned */
	size_t bucket_count, count;
};

/* NULL: not there. */
struct key_node *keys_find(const struct keys *keys, const char *key);
/* The key is not there yet.  Without memory for a larger table the chains grow longer; only the
 * very first one may fail, with -ENOMEM. */
int keys_add(struct keys *keys, struct key_node *node) __attribute__((warn_unused_result));
void keys_remove(struct keys *keys, struct key_node *node);
/* Any one; NULL when it is empty. */
struct key_node *keys_any(const struct keys *keys);
/* It is empty. */
void keys_done(struct keys *keys);

#endif
