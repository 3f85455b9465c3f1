/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests. */
#include "base/mutant.h"
#include "csi-node/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *must_alloc(size_t size)
{
	void *memory = calloc(1, size);

	if (memory == NULL) {
		abort();
	}
	return memory;
}

json_t *status_body(const struct kube_kind *kind, const char *name, json_t *status)
{
	json_t *body = object_new(kind, name);

	(void)json_object_set_new(body, "status", status);
	return body;
}

json_t *finalizer_removal(const json_t *object, const char *finalizer)
{
	const json_t *finalizers = kube_at(object, "metadata.finalizers");
	char path[64];

	for (size_t i = 0; i < json_array_size(finalizers); i++) {
		const char *text = json_string_value(json_array_get(finalizers, i));

		if (text != NULL && strcmp(text, finalizer) == 0) {
			(void)snprintf(path, sizeof(path), "/metadata/finalizers/%zu", i);
			/* Of this very object: by now there may be another one of the name, and
			 * its finalizer is what has it erased one day. */
			return json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s}]", "op",
				"test", "path", "/metadata/uid", "value", kube_uid(object), "op",
				"test", "path", path, "value", finalizer, "op", "remove", "path",
				path);
		}
	}
	return NULL;
}

json_t *nexus_setting(const struct node *node, json_t *nexus)
{
	if (mutant_is(MUTANT_LOST_NODE_SPEAKS)) {
		return json_pack(
			"[{s:s, s:s, s:o}]", "op", "add", "path", "/status/nexus", "value", nexus);
	}
	return json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:o}]", "op", "test", "path",
		"/status/attachment/node", "value", node->options.name, "op", "add", "path",
		"/status/nexus", "value", nexus);
}

json_t *nexus_removal(const struct node *node)
{
	return json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "op", "test", "path",
		"/status/nexus/node", "value", node->options.name, "op", "remove", "path",
		"/status/nexus");
}
