/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lib/kube reads from outside: a line of a watch, an answer, a quantity, a kubeconfig.  The
 * first byte says which.  What is accepted must hold what others rely on.
 */
#include "kube/internal.h"
#include "kube/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct kube_kind volumes = {"strake.io", "v1alpha1", "volumes", "Volume", false};

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static void look_at(json_t *object)
{
	(void)kube_name(object);
	(void)kube_namespace(object);
	(void)kube_is_deleted(object);
	(void)kube_has_finalizer(object, "strake.io/volume");
	(void)kube_number(object, "spec.number", 0);
	(void)kube_condition_status(kube_at(object, "status.conditions"), "Ready");
	json_t *conditions = json_object_get(json_object_get(object, "status"), "conditions");

	(void)kube_condition_set(conditions, "Ready", "True", "Fuzzed", "x", 1);
	kube_object_tidy(object, &volumes);
	require(json_object_get(object, "kind") != NULL);
}

static void check_line(const char *line, size_t length)
{
	struct kube_watch_event event;
	struct err err = {0};

	if (kube_watch_event_parse(line, length, &event, &err) < 0) {
		require(err.code < 0 && err.text[0] != '\0');
		return;
	}
	require(json_is_object(event.object));
	if (event.type == KUBE_WATCH_ERROR) {
		require(event.code >= 100 && event.code <= 999);
	} else {
		require(event.version[0] != '\0');
		require(kube_version_compare(event.version, event.version) == 0);
		(void)kube_version_compare(event.version, "100");
	}
	look_at(event.object);
	kube_watch_event_done(&event);
}

static void check_answer(const char *text, size_t length)
{
	struct err err = {0};
	json_t *answer = kube_json_parse(text, length, &err);

	for (unsigned status = 300; status < 600; status += 7) {
		require(kube_status_to_errno(status, answer, KUBE_JSON_PATCH, &err) < 0);
		require(err.text[0] != '\0');
	}
	json_decref(answer);
}

static void check_quantity(const char *text, size_t length)
{
	char copy[512], written[KUBE_QUANTITY_TEXT_SIZE];
	uint64_t bytes, again;

	if (length >= sizeof(copy)) {
		return;
	}
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (kube_quantity_parse(copy, &bytes) == 0) {
		require(bytes <= INT64_MAX);
		require(kube_quantity_parse(kube_quantity_to_text(bytes, written), &again) == 0);
		require(again == bytes);
	}
}

static void check_kubeconfig(const char *text, size_t length)
{
	struct kube_config config;
	struct err err = {0};

	if (kube_config_parse("f", "/f", text, length, &config, &err) < 0) {
		require(err.code < 0 && err.text[0] != '\0');
		return;
	}
	require(config.server != NULL && strpbrk(config.server, " \r\n") == NULL);
	require(config.token == NULL || strpbrk(config.token, " \r\n") == NULL);
	require((config.cert_file != NULL || config.cert_pem != NULL) ==
		(config.key_file != NULL || config.key_pem != NULL));
	kube_config_done(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;

	if (size < 1) {
		return 0;
	}
	switch (data[0] % 4) {
	case 0:
		check_line(text, size - 1);
		break;
	case 1:
		check_answer(text, size - 1);
		break;
	case 2:
		check_quantity(text, size - 1);
		break;
	default:
		check_kubeconfig(text, size - 1);
	}
	return 0;
}
