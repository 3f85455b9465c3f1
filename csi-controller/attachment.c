/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/attachment.h"

#include <openssl/crypto.h>

/* Shows the replicas that this attachment to this node is meant; "" when nobody has it. */
static char *make_capability(const struct controller *controller, const json_t *object,
	const struct attachment *attachment, char text[OBJECTS_CAPABILITY_SIZE])
{
	uint8_t bytes[CAPABILITY_ENCODED_SIZE];
	struct capability capability;
	struct volume_key key;
	struct uuid volume, host;

	text[0] = '\0';
	if (attachment->node[0] == '\0' ||
		uuid_parse(kube_text(object, "spec.uuid"), &volume) < 0) {
		return text;
	}
	capability_node(attachment->node, &host);
	volume_key_derive(controller->master, &volume, controller->key_number, &key);
	capability_make(&key, &volume, (uint32_t)attachment->number, &host, &capability);
	OPENSSL_cleanse(&key, sizeof(key));
	capability_encode(&capability, bytes);
	return base64_to_text(bytes, sizeof(bytes), text);
}

json_t *attachment_patch(const struct controller *controller, const json_t *object,
	const struct attachment *attachment)
{
	char capability[OBJECTS_CAPABILITY_SIZE];
	json_int_t before = kube_number(object, "status.attachment.number", 0);
	json_t *test = before == 0 ? json_pack("{s:s, s:s, s:s}", "op", "test", "path",
					     "/metadata/resourceVersion", "value",
					     kube_text(object, "metadata.resourceVersion"))
				   : json_pack("{s:s, s:s, s:I}", "op", "test", "path",
					     "/status/attachment/number", "value", before);

	return json_pack("[o, {s:s, s:s, s:{s:I, s:s, s:b, s:s}}]", test, "op", "add", "path",
		"/status/attachment", "value", "number", attachment->number, "node",
		attachment->node, "readOnly", attachment->is_read_only, "capability",
		make_capability(controller, object, attachment, capability));
}
