/* SPDX-License-Identifier: Apache-2.0 */
/* What a real API server answers to each kind of request. */
#include "tests/kube/client/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(const char *what, int result, int wanted)
{
	if (result != wanted) {
		die("%s: %s, not %s", what, err_name(result), err_name(wanted));
	}
	(void)printf("%s: %s\n", what, result == 0 ? "done" : err_name(result));
}

static json_t *config_map(const char *name, const char *value)
{
	return json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
		"metadata", "name", name, "data", "key", value);
}

static json_t *test_and_set(const char *before, const char *after)
{
	return json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:s}]", "op", "test", "path", "/data/key",
		"value", before, "op", "replace", "path", "/data/key", "value", after);
}

static void check_patches(struct client *client, struct kube_request one)
{
	json_t *answer = NULL;

	one.verb = KUBE_MERGE_PATCH;
	expect("merge patch",
		ask(client, one, json_pack("{s:{s:s}}", "data", "more", "1"), &answer), 0);
	if (strcmp(kube_text(answer, "data.more"), "1") != 0) {
		die("the patch has no effect");
	}
	json_decref(answer);
	one.verb = KUBE_JSON_PATCH;
	expect("JSON patch whose test holds", ask(client, one, test_and_set("a", "b"), NULL), 0);
	expect("JSON patch whose test is lost", ask(client, one, test_and_set("a", "c"), NULL),
		-ESTALE);
	expect("JSON patch that makes an invalid object",
		ask(client, one,
			json_pack("[{s:s, s:s, s:s}]", "op", "add", "path", "/data/not~1a key",
				"value", "x"),
			NULL),
		-EINVAL);
	one.verb = KUBE_APPLY;
	expect("apply over another's field",
		ask(client, one, config_map(one.name, "applied"), &answer), 0);
	if (strcmp(kube_text(answer, "data.key"), "applied") != 0 ||
		kube_at(answer, "metadata.managedFields") != NULL) {
		die("apply made something else");
	}
	json_decref(answer);
}

static void check_replace(struct client *client, struct kube_request one)
{
	json_t *object = NULL;

	one.verb = KUBE_GET;
	expect("get", ask(client, one, NULL, &object), 0);
	one.verb = KUBE_REPLACE;
	(void)json_object_set_new(json_object_get(object, "data"), "key", json_string("replaced"));
	expect("replace", ask(client, one, json_deep_copy(object), NULL), 0);
	expect("replace of what has changed", ask(client, one, object, NULL), -EAGAIN);
}

void check_requests(struct client *client)
{
	struct kube_request one = {
		.kind = &config_maps, .namespace = client->namespace, .name = "one"};
	static const struct kube_kind nothing = {"strake.invalid", "v1", "things", "Thing", false};
	json_t *object = NULL;

	one.verb = KUBE_DELETE;
	(void)ask(client, one, NULL, NULL);
	one.verb = KUBE_GET;
	expect("get of what is not there", ask(client, one, NULL, NULL), -ENOENT);
	one.verb = KUBE_CREATE;
	expect("create", ask(client, one, config_map("one", "a"), NULL), 0);
	expect("create of what is there", ask(client, one, config_map("one", "a"), NULL), -EEXIST);
	expect("create of what is invalid", ask(client, one, config_map("No Name", "a"), NULL),
		-EINVAL);
	check_patches(client, one);
	check_replace(client, one);
	one.verb = KUBE_APPLY;
	one.name = "two";
	expect("apply of what is not there", ask(client, one, config_map("two", "a"), &object), 0);
	one.verb = KUBE_DELETE;
	one.uid = "11111111-2222-3333-4444-555555555555";
	expect("delete of another with that name", ask(client, one, NULL, NULL), -EAGAIN);
	one.uid = kube_uid(object);
	expect("delete", ask(client, one, NULL, NULL), 0);
	expect("delete of what is gone", ask(client, one, NULL, NULL), -ENOENT);
	json_decref(object);
	one = (struct kube_request){.verb = KUBE_LIST, .kind = &nothing};
	expect("list of an unknown kind", ask(client, one, NULL, NULL), -ENOENT);
}

/* ---- many ---- */

struct crowd {
	struct client *client;
	enum kube_verb verb;
	unsigned begun, ended, count;
	unsigned broken; /* requests whose connection broke: they are sent again */
	bool is_done;
	struct kube_request requests[16];
	unsigned numbers[16]; /* what each is about */
};

#define CROWD_BROKEN_MAX 32

static void send_of_crowd(struct kube_request *request)
{
	struct crowd *crowd = request->ctx;
	char name[32];

	(void)snprintf(name, sizeof(name), "many-%04u", crowd->numbers[request - crowd->requests]);
	json_t *body = crowd->verb == KUBE_CREATE ? config_map(name, "x") : NULL;

	request->verb = crowd->verb;
	request->name = name;
	request->body = body;
	kube_send(crowd->client->kube, request);
	json_decref(body);
}

static void next_of_crowd(struct kube_request *request)
{
	struct crowd *crowd = request->ctx;

	if (crowd->begun < crowd->count) {
		crowd->numbers[request - crowd->requests] = crowd->begun++;
		send_of_crowd(request);
	}
}
static void one_of_crowd(struct kube_request *request)
{
	struct crowd *crowd = request->ctx;

	/* A write whose connection broke may have been executed: it is the caller who knows that it
	 * may be sent again. */
	if (request->result < 0 && request->status == 0 && crowd->broken < CROWD_BROKEN_MAX) {
		crowd->broken++;
		send_of_crowd(request);
		return;
	}
	if (request->result < 0 && request->result != -EEXIST && request->result != -ENOENT) {
		die("%s", request->err.text);
	}
	crowd->ended++;
	crowd->is_done = crowd->ended == crowd->count;
	next_of_crowd(request);
}

static void run_crowd(struct client *client, enum kube_verb verb, unsigned count)
{
	struct crowd crowd = {.client = client, .verb = verb, .count = count};

	for (size_t i = 0; i < 16; i++) {
		crowd.requests[i] = (struct kube_request){.kind = &config_maps,
			.namespace = client->namespace,
			.done = one_of_crowd,
			.ctx = &crowd};
		next_of_crowd(&crowd.requests[i]);
	}
	turn_until(client, &crowd.is_done, 120000);
}

void check_many(struct client *client, unsigned count)
{
	struct kube_request list = {
		.verb = KUBE_LIST, .kind = &config_maps, .namespace = client->namespace};
	json_t *answer = NULL;
	uint64_t begin_ms = loop_now_ms(client->loop);

	run_crowd(client, KUBE_CREATE, count);
	(void)printf("%u created: %llu ms\n", count,
		(unsigned long long)(loop_now_ms(client->loop) - begin_ms));
	begin_ms = loop_now_ms(client->loop);
	expect("list", ask(client, list, NULL, &answer), 0);
	unsigned found = 0;
	size_t i;
	json_t *item;

	json_array_foreach(json_object_get(answer, "items"), i, item)
	{
		found += strncmp(kube_name(item), "many-", 5) == 0;
	}
	(void)printf("%u listed: %llu ms\n", found,
		(unsigned long long)(loop_now_ms(client->loop) - begin_ms));
	if (found != count) {
		die("%u of %u were listed", found, count);
	}
	json_decref(answer);
	run_crowd(client, KUBE_DELETE, count);
}

/* ---- Events ---- */

static bool event_is_there(struct client *client, const char *reason, int64_t count)
{
	struct kube_request list = {
		.verb = KUBE_LIST, .kind = &kube_events, .namespace = client->namespace};
	json_t *answer = NULL;
	unsigned found = 0;
	size_t i;
	json_t *item;

	if (ask(client, list, NULL, &answer) < 0) {
		return false;
	}
	json_array_foreach(json_object_get(answer, "items"), i, item)
	{
		found += strcmp(kube_text(item, "reason"), reason) == 0 &&
			 kube_number(item, "series.count", 1) == count;
	}
	json_decref(answer);
	return found == 1;
}

static void wait_for_event(struct client *client, const char *reason, int64_t count)
{
	uint64_t end_ms = loop_now_ms(client->loop) + 20000;

	while (!event_is_there(client, reason, count)) {
		if (loop_now_ms(client->loop) > end_ms) {
			die("no Event %s with count %lld", reason, (long long)count);
		}
		loop_turn(client->loop, 50);
	}
	(void)printf("Event %s: %lld times\n", reason, (long long)count);
}

void check_events(struct client *client)
{
	struct kube_recorder *recorder = NULL;
	struct kube_request get = {.verb = KUBE_APPLY,
		.kind = &config_maps,
		.namespace = client->namespace,
		.name = "spoken-of"};
	json_t *object = NULL;
	struct err err = {0};
	char *long_text = malloc(3001);

	memset(long_text, 'x', 3000);
	memcpy(long_text, "\xff\xfe", 2);
	long_text[3000] = '\0';
	expect("apply", ask(client, get, config_map("spoken-of", "x"), &object), 0);
	if (kube_recorder_new(client->kube, "csi.strake.io/test", "test-1", &recorder, &err) < 0) {
		die("%s", err.text);
	}
	kube_event(recorder, object, false, "Once", "Testing", "said %d", 1);
	kube_event(recorder, object, true, "Long", "Testing", "%s", long_text);
	wait_for_event(client, "Once", 1);
	wait_for_event(client, "Long", 1);
	for (int i = 0; i < 5; i++) {
		kube_event(recorder, object, true, "Often", "Testing", "said again");
	}
	wait_for_event(client, "Often", 5);
	kube_event(recorder, object, true, "Often", "Testing", "said again");
	wait_for_event(client, "Often", 6);
	kube_recorder_free(recorder);
	json_decref(object);
	free(long_text);
}
