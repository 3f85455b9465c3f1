/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked list.  A list and its nodes belong to one thread. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* A node that is in no list has next == NULL.  Zeroed memory is a valid unlinked node. */
struct list_node {
	struct list_node *next;
	struct list_node *prev;
};

struct list {
	struct list_node head;
};

static inline void list_init(struct list *list)
{
	list->head.next = &list->head;
	list->head.prev = &list->head;
}

static inline bool list_is_empty(const struct list *list)
{
	return list->head.next == &list->head;
}

static inline bool list_is_linked(const struct list_node *node)
{
	return node->next != NULL;
}

static inline void list_insert_before(struct list_node *next, struct list_node *node)
{
	assert(node->next == NULL);
	node->prev = next->prev;
	node->next = next;
	next->prev->next = node;
	next->prev = node;
}

static inline void list_push_back(struct list *list, struct list_node *node)
{
	list_insert_before(&list->head, node);
}

static inline void list_push_front(struct list *list, struct list_node *node)
{
	list_insert_before(list->head.next, node);
}

/* The node must be linked. */
static inline void list_remove(struct list_node *node)
{
	assert(node->next != NULL);
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->next = NULL;
	node->prev = NULL;
}

static inline void list_remove_if_linked(struct list_node *node)
{
	if (node->next != NULL) {
		list_remove(node);
	}
}

/* NULL when the list is empty. */
static inline struct list_node *list_first(const struct list *list)
{
	return list_is_empty(list) ? NULL : list->head.next;
}

static inline struct list_node *list_pop_front(struct list *list)
{
	struct list_node *node = list_first(list);

	if (node != NULL) {
		list_remove(node);
	}
	return node;
}

/* Moves everything from `from` to the end of `to`. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_is_empty(from)) {
		return;
	}
	from->head.next->prev = to->head.prev;
	to->head.prev->next = from->head.next;
	from->head.prev->next = &to->head;
	to->head.prev = from->head.prev;
	list_init(from);
}

#define list_for_each(list, pos)                                                                   \
	for (struct list_node *pos = (list)->head.next; pos != &(list)->head; pos = pos->next)

/* The current node may be removed within the loop. */
#define list_for_each_safe(list, pos, following)                                                   \
	for (struct list_node *pos = (list)->head.next, *following = pos->next;                    \
		pos != &(list)->head; pos = following, following = pos->next)

#endif
