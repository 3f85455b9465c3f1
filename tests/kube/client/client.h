/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_KUBE_CLIENT_H
#define TESTS_KUBE_CLIENT_H

#include "kube/kube.h"

struct client {
	struct loop *loop;
	struct log log;
	struct metric_registry metrics;
	struct kube *kube;
	const char *namespace;
};

extern const struct kube_kind config_maps;

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* Waits for the answer, which is kept in `ret_answer` (NULL: not).  Takes `body`. */
int ask(struct client *client, struct kube_request request, json_t *body, json_t **ret_answer);
/* Turns the loop until *is_done. */
void turn_until(struct client *client, const bool *is_done, unsigned timeout_ms);
/* Every verb, against objects of its own. */
void check_requests(struct client *client);
/* `count` ConfigMaps "many-0001"... are made, 16 at a time, listed in pages and taken away again.
 */
void check_many(struct client *client, unsigned count);
void check_events(struct client *client);

#endif
