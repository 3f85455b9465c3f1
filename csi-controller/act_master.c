/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The master secret, from which volumes' keys and the capabilities of attachments are made
 * (docs/protocol.md 1.4): a Secret that only csi-controller reads.  The first leader makes it.
 */
#include "csi-controller/act.h"
#include "objects/seal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_TEXT_SIZE 45

/* "number": base64 of a decimal number; 1 when there is none, 0 when it is malformed. */
static uint16_t number_of(const json_t *secret)
{
	const char *text = kube_text(secret, "data.number");
	size_t padding = strlen(text) - strcspn(text, "=");
	size_t length = strlen(text) / 4 * 3 - padding;
	char decimal[8] = "", *end;
	unsigned long number;

	if (text[0] == '\0') {
		return 1;
	}
	if (padding > 2 || length == 0 || length >= sizeof(decimal) ||
		base64_parse(text, decimal, length) < 0) {
		return 0;
	}
	number = strtoul(decimal, &end, 10);
	return *end != '\0' || decimal[0] < '0' || decimal[0] > '9' || number > UINT16_MAX
		       ? 0
		       : (uint16_t)number;
}

static void take(struct act_request *request)
{
	struct controller *controller = request->act->controller;
	uint16_t number = number_of(request->request.response);

	if (number == 0 || base64_parse(kube_text(request->request.response, "data.key"),
				   controller->master, sizeof(controller->master)) < 0) {
		log_error(controller->log, "controller", "master-secret-malformed",
			"secret=%s hint=\"key: 32 bytes, number: 1 to 65535; restore it from a "
			"backup\"",
			CONTROLLER_MASTER_SECRET);
		request->act->failed = true;
		return;
	}
	controller->key_number = number;
	log_info(controller->log, "controller", "master-secret", "secret=%s",
		CONTROLLER_MASTER_SECRET);
	controller_look_at_all(controller);
}

/* Another one would shut out what the lost one made keys for. */
static bool is_in_use(const struct controller *controller)
{
	const struct table *replicas = &controller->world.replicas;

	for (struct table_entry *entry = table_next(replicas, NULL); entry != NULL;
		entry = table_next(replicas, entry)) {
		if (container_of(entry, struct world_replica, entry)->object.key_number != 0) {
			return true;
		}
	}
	return false;
}

static void made(struct act_request *request)
{
	if (request->request.result == 0) {
		take(request);
	} else {
		/* Somebody made it: it is read the next time. */
		act_fail(request);
	}
}

static void make(struct act *act)
{
	struct act_request *request;
	uint8_t secret[SEAL_SECRET_BYTES];
	char text[SECRET_TEXT_SIZE];

	if (is_in_use(act->controller)) {
		log_error(act->controller->log, "controller", "master-secret-missing",
			"secret=%s hint=\"volumes have keys of it and cannot be attached; restore "
			"it from a backup\"",
			CONTROLLER_MASTER_SECRET);
		act->failed = true;
		return;
	}
	if (RAND_bytes(secret, sizeof(secret)) != 1) {
		act->failed = true;
		return;
	}
	request = act_request_new(act, KUBE_CREATE, &kube_secrets, CONTROLLER_MASTER_SECRET);
	request->request.namespace = act->controller->options.namespace;
	request->answered = made;
	act_send(request,
		json_pack("{s:s, s:s, s:{s:s}, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Secret",
			"metadata", "name", CONTROLLER_MASTER_SECRET, "type", "Opaque", "data",
			"key", base64_to_text(secret, sizeof(secret), text)));
	OPENSSL_cleanse(secret, sizeof(secret));
}

static void read_it(struct act_request *request)
{
	if (request->request.result == 0) {
		take(request);
	} else if (request->request.result == -ENOENT) {
		make(request->act);
	} else {
		act_fail(request);
	}
}

void act_on_master(void *ctx, const char *key)
{
	struct controller *controller = ctx;
	struct act *act = act_begin(controller, QUEUE_MASTER, key);
	struct act_request *request;

	if (controller_has_lease(controller) && controller->key_number == 0) {
		request = act_request_new(act, KUBE_GET, &kube_secrets, CONTROLLER_MASTER_SECRET);
		request->request.namespace = controller->options.namespace;
		request->answered = read_it;
		act_send(request, NULL);
	}
	act_end(act);
}
