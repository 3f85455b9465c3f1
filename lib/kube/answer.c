/* SPDX-License-Identifier: Apache-2.0 */
/* What the server says, from bytes to objects and errors. */
#include "kube/internal.h"

#include <errno.h>
#include <string.h>

json_t *kube_json_parse(const char *text, size_t length, struct err *err)
{
	json_error_t error;
	/* Whoever may annotate a pod may put a NUL there; it must not blind us for all pods. */
	json_t *json = json_loadb(text, length, JSON_ALLOW_NUL, &error);

	if (json == NULL) {
		(void)err_set(err,
			json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EPROTO,
			"the server's answer is no JSON: byte %d: %.120s", error.position,
			error.text);
		return NULL;
	}
	if (!json_is_object(json)) {
		json_decref(json);
		(void)err_set(err, -EPROTO, "the server's answer is no JSON object");
		return NULL;
	}
	return json;
}

void kube_object_tidy(json_t *object, const struct kube_kind *kind)
{
	json_t *metadata = json_object_get(object, "metadata");

	if (json_is_object(metadata)) {
		(void)json_object_del(metadata, "managedFields");
	}
	if (kind != NULL && json_object_get(object, "kind") == NULL) {
		(void)json_object_set_new(object, "kind", json_string(kind->kind));
	}
	if (kind != NULL && json_object_get(object, "apiVersion") == NULL) {
		(void)json_object_set_new(object, "apiVersion",
			kind->group[0] == '\0' ? json_string(kind->version)
					       : json_sprintf("%s/%s", kind->group, kind->version));
	}
}

static int status_code(unsigned status, const json_t *answer, enum kube_verb verb)
{
	const char *reason = kube_text(answer, "reason");

	switch (status) {
	case 401:
		return -EACCES;
	case 403:
		return -EPERM;
	case 404:
		return -ENOENT;
	case 409:
		return strcmp(reason, "AlreadyExists") == 0 ? -EEXIST : -EAGAIN;
	case 410:
		return -EAGAIN;
	case 422:
		/* A lost test has no causes; what validation finds wrong is named in them. */
		return verb == KUBE_JSON_PATCH &&
				       json_array_size(kube_at(answer, "details.causes")) == 0
			       ? -ESTALE
			       : -EINVAL;
	case 429:
		return -EBUSY;
	}
	if (status >= 500) {
		return -EREMOTEIO;
	}
	return status >= 400 ? -EINVAL : -EPROTO;
}

int kube_status_to_errno(
	unsigned status, const json_t *answer, enum kube_verb verb, struct err *err)
{
	const char *message = kube_text(answer, "message");

	return err_set(err, status_code(status, answer, verb), "%s%s(HTTP %u)", message,
		message[0] != '\0' ? " " : "the server refuses ", status);
}
