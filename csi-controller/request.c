/* SPDX-License-Identifier: Apache-2.0 */
#include "csi-controller/request.h"

#include "base/bytes.h"
#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_DEFAULT     GIB
#define SIDECAR_PREFIX   "csi.storage.k8s.io/"
#define REPLICAS_DEFAULT 3
#define TOKEN_PREFIX     "after:"

/* ---- StorageClass parameters ---- */

static int take_number(const char *key, const char *text, unsigned min, unsigned max,
	unsigned *ret_number, struct err *err)
{
	/* Two digits are more than any of them needs. */
	if (text[0] == '\0' || strlen(text) > 2 || strspn(text, "0123456789") != strlen(text) ||
		(unsigned)atoi(text) < min || (unsigned)atoi(text) > max) {
		return err_set(err, -EINVAL, "parameter %s: \"%.32s\" is no number from %u to %u",
			key, text, min, max);
	}
	*ret_number = (unsigned)atoi(text);
	return 0;
}

static int take_replicas(struct class_wish *class, const char *text, struct err *err)
{
	return take_number("replicas", text, 1, OBJECTS_REPLICAS_MAX, &class->replicas, err);
}

static int take_min_insync(struct class_wish *class, const char *text, struct err *err)
{
	return take_number("minInsync", text, 0, OBJECTS_REPLICAS_MAX, &class->min_insync, err);
}

static int take_frontend(struct class_wish *class, const char *text, struct err *err)
{
	if (text[0] != '\0' && strcmp(text, "fuse") != 0) {
		return err_set(err, -EINVAL,
			"parameter frontend: \"%.32s\" is not offered: fuse is, or nothing, for "
			"the "
			"best that a node has",
			text);
	}
	(void)snprintf(class->frontend, sizeof(class->frontend), "%s", text);
	return 0;
}

static int take_data_locality(struct class_wish *class, const char *text, struct err *err)
{
	(void)class;
	if (strcmp(text, "strict-local") == 0) {
		return err_set(err, -EINVAL,
			"parameter dataLocality: strict-local is not there yet; best-effort "
			"(default) puts one replica on the pod's first node");
	}
	if (strcmp(text, "best-effort") != 0 && strcmp(text, "disabled") != 0) {
		return err_set(err, -EINVAL,
			"parameter dataLocality: \"%.32s\" is neither best-effort nor disabled",
			text);
	}
	return 0;
}

/* "key=value", of `length` characters. */
static int take_label(json_t *labels, const char *text, size_t length, struct err *err)
{
	static const char key_letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
	char key[320], value[64];
	const char *equals = memchr(text, '=', length);
	size_t key_length = equals == NULL ? 0 : (size_t)(equals - text);
	size_t value_length = equals == NULL ? 0 : length - key_length - 1;

	if (key_length == 0 || key_length >= sizeof(key) || value_length >= sizeof(value) ||
		strspn(text, key_letters) != key_length ||
		strspn(text + key_length + 1, key_letters) < value_length) {
		return err_set(err, -EINVAL,
			"parameter poolSelector: \"%.*s\" is not key=value; several are separated "
			"by commas",
			(int)(length > 64 ? 64 : length), text);
	}
	memcpy(key, text, key_length);
	key[key_length] = '\0';
	memcpy(value, text + key_length + 1, value_length);
	value[value_length] = '\0';
	(void)json_object_set_new(labels, key, json_string(value));
	return 0;
}

static int take_pool_selector(struct class_wish *class, const char *text, struct err *err)
{
	int result = 0;

	/* Of a key that comes twice the last one counts. */
	class_wish_done(class);
	class->pool_selector = json_object();
	while (*text != '\0' && result == 0) {
		text += strspn(text, " ");
		size_t length = strcspn(text, ",");
		size_t trimmed = length;

		while (trimmed > 0 && text[trimmed - 1] == ' ') {
			trimmed--;
		}
		result = take_label(class->pool_selector, text, trimmed, err);
		text += length + (text[length] == ',');
	}
	if (json_object_size(class->pool_selector) == 0) {
		json_decref(class->pool_selector);
		class->pool_selector = NULL;
	}
	return result;
}

static const struct {
	const char *key;
	int (*take)(struct class_wish *class, const char *text, struct err *err);
} parameters[] = {
	{"replicas", take_replicas},
	{"minInsync", take_min_insync},
	{"frontend", take_frontend},
	{"poolSelector", take_pool_selector},
	{"dataLocality", take_data_locality},
};

static int take_parameter(struct class_wish *class, const struct csi_pair *pair, struct err *err)
{
	if (strncmp(pair->key, SIDECAR_PREFIX, strlen(SIDECAR_PREFIX)) == 0) {
		return 0;
	}
	for (size_t i = 0; i < ARRAY_COUNT(parameters); i++) {
		if (strcmp(pair->key, parameters[i].key) == 0) {
			return parameters[i].take(class, pair->value, err);
		}
	}
	return err_set(err, -EINVAL,
		"parameter \"%.64s\" is unknown: there are replicas, minInsync, frontend, "
		"poolSelector, dataLocality and " SIDECAR_PREFIX "...",
		pair->key);
}

int class_wish_decode(
	const void *pairs, size_t count, struct class_wish *ret_class, struct err *err)
{
	int result = 0;

	*ret_class = (struct class_wish){.replicas = REPLICAS_DEFAULT};
	for (size_t i = 0; i < count && result == 0; i++) {
		result = take_parameter(ret_class, csi_pair_at(pairs, i), err);
	}
	if (result == 0 && ret_class->min_insync > ret_class->replicas) {
		result = err_set(err, -EINVAL,
			"parameter minInsync: %u is more than the %u replicas",
			ret_class->min_insync, ret_class->replicas);
	}
	if (result < 0) {
		class_wish_done(ret_class);
	}
	return result;
}

void class_wish_done(struct class_wish *class)
{
	json_decref(class->pool_selector);
	class->pool_selector = NULL;
}

/* ---- CreateVolume ---- */

static int take_name(const char *name, struct volume_wish *wish, struct err *err)
{
	int result = csi_need("name", name, err);
	json_t *text;

	if (result < 0) {
		return result;
	}
	if (strlen(name) > CSI_TEXT_MAX) {
		return err_set(err, -EINVAL, "name has more than %d bytes", CSI_TEXT_MAX);
	}
	for (const char *at = name; *at != '\0'; at++) {
		if (((unsigned char)*at < 0x20 && strchr("\t\n\r", *at) == NULL) || *at == 0x7f) {
			return err_set(err, -EINVAL, "name has control characters");
		}
	}
	text = json_string(name);
	if (text == NULL) {
		return err_set(err, -EINVAL, "name is no UTF-8 text");
	}
	json_decref(text);
	volume_name_from_csi(name, wish->name);
	wish->csi_name = strcmp(name, wish->name) == 0 ? NULL : name;
	return 0;
}

static int take_size(const Csi__V1__CapacityRange *range, struct volume_wish *wish, struct err *err)
{
	int64_t required = range == NULL ? 0 : range->required_bytes;
	int64_t limit = range == NULL ? 0 : range->limit_bytes;

	if (required < 0 || limit < 0) {
		return err_set(err, -EINVAL, "capacity_range has negative sizes");
	}
	if (limit > 0 && required > limit) {
		return err_set(err, -EINVAL,
			"capacity_range: %lld bytes are required, and %lld are the limit",
			(long long)required, (long long)limit);
	}
	wish->required_bytes = (uint64_t)required;
	wish->limit_bytes = (uint64_t)limit;
	if ((uint64_t)required > OBJECTS_SIZE_MAX) {
		return err_set(err, -ERANGE, "a volume has at most 64 TiB");
	}
	if (required > 0) {
		wish->size_bytes = round_up_u64((uint64_t)required, OBJECTS_SIZE_UNIT);
	} else {
		wish->size_bytes = SIZE_DEFAULT;
		if (limit > 0 && (uint64_t)limit < SIZE_DEFAULT) {
			wish->size_bytes = (uint64_t)limit / OBJECTS_SIZE_UNIT * OBJECTS_SIZE_UNIT;
		}
	}
	if (wish->size_bytes == 0 || (limit > 0 && wish->size_bytes > (uint64_t)limit)) {
		return err_set(err, -ERANGE,
			"volumes are multiples of 1 MiB: between %lld and %lld bytes there is none",
			(long long)required, (long long)limit);
	}
	return 0;
}

/* The node that the pod was scheduled to: the first of the preferred topologies. */
static void take_topology(const Csi__V1__CreateVolumeRequest *request, struct volume_wish *wish)
{
	const Csi__V1__TopologyRequirement *requirement = request->accessibility_requirements;
	const char *locality =
		csi_pair_find(request->parameters, request->n_parameters, "dataLocality");
	const char *node;

	if (requirement == NULL || requirement->n_preferred == 0 ||
		(locality != NULL && strcmp(locality, "disabled") == 0)) {
		return;
	}
	node = csi_pair_find(requirement->preferred[0]->segments,
		requirement->preferred[0]->n_segments, OBJECTS_TOPOLOGY_NODE);
	if (node != NULL && csi_node_id_is_possible(node)) {
		(void)snprintf(wish->preferred_node, sizeof(wish->preferred_node), "%s", node);
	}
}

/* --extra-create-metadata of the provisioner. */
static void take_claim(const Csi__V1__CreateVolumeRequest *request, struct volume_wish *wish)
{
	const char *namespace = csi_pair_find(
		request->parameters, request->n_parameters, SIDECAR_PREFIX "pvc/namespace");
	const char *name = csi_pair_find(
		request->parameters, request->n_parameters, SIDECAR_PREFIX "pvc/name");

	if (namespace != NULL && name != NULL && csi_node_id_is_possible(namespace) &&
		csi_node_id_is_possible(name)) {
		(void)snprintf(
			wish->claim_namespace, sizeof(wish->claim_namespace), "%s", namespace);
		(void)snprintf(wish->claim_name, sizeof(wish->claim_name), "%s", name);
	}
}

int volume_wish_decode(
	const Csi__V1__CreateVolumeRequest *request, struct volume_wish *ret_wish, struct err *err)
{
	struct volume_wish *wish = ret_wish;
	int result;

	*wish = (struct volume_wish){0};
	result = take_name(request->name, wish, err);
	result = result < 0 ? result : take_size(request->capacity_range, wish, err);
	result = result < 0 ? result
			    : csi_capabilities_check(request->volume_capabilities,
				      request->n_volume_capabilities, wish->size_bytes, err);
	if (result == 0 && request->volume_content_source != NULL) {
		result = err_set(err, -EINVAL,
			"volume_content_source: snapshots and clones are not there yet; only empty "
			"volumes can be made");
	}
	if (result == 0 && request->n_mutable_parameters > 0) {
		result = err_set(err, -EINVAL,
			"mutable_parameters: there are none (no VolumeAttributesClass)");
	}
	result = result < 0 ? result
			    : class_wish_decode(request->parameters, request->n_parameters,
				      &wish->class, err);
	if (result == 0) {
		take_topology(request, wish);
		take_claim(request, wish);
	}
	return result;
}

void volume_wish_done(struct volume_wish *wish)
{
	class_wish_done(&wish->class);
}

int volume_wish_compare(
	const struct volume_wish *wish, const struct volume_object *volume, struct err *err)
{
	const char *what = NULL;
	size_t selector_size = json_object_size(wish->class.pool_selector);

	if (volume->size_bytes < wish->required_bytes ||
		(wish->limit_bytes > 0 && volume->size_bytes > wish->limit_bytes)) {
		what = "size";
	} else if (volume->replicas != wish->class.replicas) {
		what = "number of replicas";
	} else if (volume->min_insync != wish->class.min_insync) {
		what = "minInsync";
	} else if (strcmp(volume->frontend, wish->class.frontend) != 0) {
		what = "frontend";
	} else if (json_object_size(volume->pool_selector) != selector_size ||
		   (selector_size > 0 &&
			   !json_equal(volume->pool_selector, wish->class.pool_selector))) {
		what = "poolSelector";
	} else if (wish->csi_name != NULL && strcmp(volume->csi_name, wish->csi_name) != 0) {
		what = "name";
	}
	return what == NULL ? 0
			    : err_set(err, -EEXIST, "volume %s exists with another %s",
				      volume->meta.name, what);
}

json_t *volume_wish_object(const struct volume_wish *wish, const struct uuid *uuid)
{
	char uuid_text[UUID_TEXT_SIZE], size[KUBE_QUANTITY_TEXT_SIZE];
	json_t *object = object_new(&objects_volumes, wish->name), *placement = json_object();
	json_t *spec = json_pack("{s:s, s:s, s:I, s:I}", "size",
		kube_quantity_to_text(wish->size_bytes, size), "uuid",
		uuid_to_text(uuid, uuid_text), "replicas", (json_int_t)wish->class.replicas,
		"minInsync", (json_int_t)wish->class.min_insync);

	(void)json_object_set_new(json_object_get(object, "metadata"), "finalizers",
		json_pack("[s]", OBJECTS_FINALIZER_VOLUME));
	if (wish->csi_name != NULL) {
		(void)json_object_set_new(spec, "csiName", json_string(wish->csi_name));
	}
	if (wish->class.frontend[0] != '\0') {
		(void)json_object_set_new(spec, "frontend", json_string(wish->class.frontend));
	}
	if (wish->preferred_node[0] != '\0') {
		(void)json_object_set_new(
			placement, "preferredNode", json_string(wish->preferred_node));
	}
	if (wish->class.pool_selector != NULL) {
		(void)json_object_set(placement, "poolSelector", wish->class.pool_selector);
	}
	if (json_object_size(placement) > 0) {
		(void)json_object_set(spec, "placement", placement);
	}
	if (wish->claim_name[0] != '\0') {
		(void)json_object_set_new(spec, "claim",
			json_pack("{s:s, s:s}", "namespace", wish->claim_namespace, "name",
				wish->claim_name));
	}
	json_decref(placement);
	(void)json_object_set_new(object, "spec", spec);
	return object;
}

/* ---- ListVolumes ---- */

void list_token_make(const char *last_name, char ret_token[LIST_TOKEN_SIZE])
{
	(void)snprintf(ret_token, LIST_TOKEN_SIZE, TOKEN_PREFIX "%s", last_name);
}

int list_token_decode(const char *token, char ret_last_name[OBJECTS_VOLUME_SIZE], struct err *err)
{
	ret_last_name[0] = '\0';
	if (token[0] == '\0') {
		return 0;
	}
	if (strncmp(token, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) != 0 ||
		!csi_volume_id_is_possible(token + strlen(TOKEN_PREFIX))) {
		return err_set(err, -ESTALE, "starting_token \"%.64s\" is not one of ours", token);
	}
	(void)snprintf(ret_last_name, OBJECTS_VOLUME_SIZE, "%s", token + strlen(TOKEN_PREFIX));
	return 0;
}
