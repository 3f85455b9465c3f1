/* SPDX-License-Identifier: Apache-2.0 */
/* Events: one for each series, within the server's limits, never a flood. */
#include "kube/env_test.h"

#define EVENTS "/apis/events.k8s.io/v1/namespaces/ns/events/"

struct speaker {
	struct env env;
	struct kube_recorder *recorder;
	json_t *object;
};

static void open_speaker(struct speaker *speaker)
{
	struct err err = {0};

	*speaker = (struct speaker){.recorder = NULL};
	env_open(&speaker->env);
	speaker->object = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "apiVersion", "v1", "kind",
		"PersistentVolumeClaim", "metadata", "name", "data-0", "namespace", "ns", "uid",
		"u-1");
	assert_int_equal(kube_recorder_new(speaker->env.kube, "csi.strake.io/controller", "host-1",
				 &speaker->recorder, &err),
		0);
}

static void close_speaker(struct speaker *speaker)
{
	kube_recorder_free(speaker->recorder);
	json_decref(speaker->object);
	env_close(&speaker->env);
}

struct sum {
	const char *reason;
	unsigned events;
	int64_t times;
	const json_t *last;
};

/* What the server has with that reason. */
static struct sum sum_of(struct speaker *speaker, const char *reason)
{
	struct kube_request list = {.verb = KUBE_LIST, .kind = &kube_events};
	struct ask ask;
	struct sum sum = {.reason = reason};
	size_t i;
	json_t *event;

	ask_begin(&speaker->env, &ask, list, NULL);
	assert_int_equal(ask_wait(&speaker->env, &ask), 0);
	json_array_foreach(json_object_get(ask.answer, "items"), i, event)
	{
		if (strcmp(kube_text(event, "reason"), reason) == 0) {
			char path[400];

			(void)snprintf(path, sizeof(path),
				"/apis/events.k8s.io/v1/namespaces/%s/events/%s",
				kube_namespace(event), kube_name(event));
			sum.events++;
			sum.times += kube_number(event, "series.count", 1);
			sum.last = fake_api_get(speaker->env.api, path);
		}
	}
	ask_end(&ask);
	return sum;
}

static void an_event_has_what_the_server_demands(void **state)
{
	struct speaker speaker;
	char *note = malloc(3000);

	(void)state;
	memset(note, 'n', 2999);
	note[2999] = '\0';
	memcpy(note, "\xff\xc0", 2);
	/* A character of three bytes lies across the limit. */
	memcpy(note + 1013, "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac", 9);
	open_speaker(&speaker);
	kube_event(speaker.recorder, speaker.object, true, "Full", "Placing", "%s", note);
	env_wait(&speaker.env, sum_of(&speaker, "Full").events == 1);
	const json_t *event = sum_of(&speaker, "Full").last;

	assert_string_equal(kube_text(event, "type"), "Warning");
	assert_string_equal(kube_text(event, "action"), "Placing");
	assert_string_equal(kube_text(event, "reportingController"), "csi.strake.io/controller");
	assert_string_equal(kube_text(event, "reportingInstance"), "host-1");
	assert_string_equal(kube_text(event, "regarding.kind"), "PersistentVolumeClaim");
	assert_string_equal(kube_text(event, "regarding.uid"), "u-1");
	assert_string_equal(kube_namespace(event), "ns");
	assert_int_equal(strlen(kube_text(event, "eventTime")), 27);
	assert_in_range(strlen(kube_text(event, "note")), 1000, 1024);
	assert_int_equal(strncmp(kube_name(event), "data-0.", 7), 0);
	free(note);
	close_speaker(&speaker);
}

static void names_are_valid_whatever_the_object_is_called(void **state)
{
	static const char *const names[] = {"system:kube-scheduler", "-a-", "A..b", "a.-b", ".",
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"01234567890123456789012345678901234567890123456789"};
	struct speaker speaker;

	(void)state;
	open_speaker(&speaker);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char reason[16];
		json_t *object = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind",
			"Node", "metadata", "name", names[i]);

		(void)snprintf(reason, sizeof(reason), "R%zu", i);
		kube_event(speaker.recorder, object, false, reason, "Act", "x");
		env_wait(&speaker.env, sum_of(&speaker, reason).events == 1);
		const json_t *event = sum_of(&speaker, reason).last;
		const char *name = kube_name(event);

		assert_string_equal(kube_namespace(event), "default");
		assert_in_range(strlen(name), 18, 253);
		assert_int_equal(
			strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-"), strlen(name));
		assert_true(name[0] != '-' && name[0] != '.');
		assert_null(strstr(name, ".."));
		assert_null(strstr(name, "-."));
		assert_null(strstr(name, ".-"));
		json_decref(object);
	}
	close_speaker(&speaker);
}

static void equal_ones_are_one_with_a_count(void **state)
{
	struct speaker speaker;

	(void)state;
	open_speaker(&speaker);
	for (int i = 0; i < 8; i++) {
		kube_event(speaker.recorder, speaker.object, false, "Same", "Act", "again");
	}
	kube_event(speaker.recorder, speaker.object, false, "Same2", "Act", "another");
	env_wait(&speaker.env, sum_of(&speaker, "Same").times == 8);
	assert_int_equal(sum_of(&speaker, "Same").events, 1);
	kube_event(speaker.recorder, speaker.object, false, "Same", "Act", "again");
	env_wait(&speaker.env, sum_of(&speaker, "Same").times == 9);
	/* The server keeps them for an hour only. */
	char path[400];

	(void)snprintf(path, sizeof(path), EVENTS "%s", kube_name(sum_of(&speaker, "Same").last));
	fake_api_delete(speaker.env.api, path);
	kube_event(speaker.recorder, speaker.object, false, "Same", "Act", "again");
	env_wait(&speaker.env, sum_of(&speaker, "Same").times == 10);
	assert_int_equal(sum_of(&speaker, "Same").events, 1);
	close_speaker(&speaker);
}

static void a_flood_is_held_back(void **state)
{
	struct speaker speaker;

	(void)state;
	open_speaker(&speaker);
	for (int i = 0; i < 2000; i++) {
		kube_event(speaker.recorder, speaker.object, false, "Flood", "Act", "number %d", i);
	}
	env_wait(&speaker.env, sum_of(&speaker, "Flood").events >= 25);
	env_turn_for(&speaker.env, 100);
	assert_in_range(sum_of(&speaker, "Flood").events, 25, 27);
	/* Another object has its own budget. */
	(void)json_object_set_new(
		json_object_get(speaker.object, "metadata"), "name", json_string("data-1"));
	kube_event(speaker.recorder, speaker.object, false, "Other", "Act", "x");
	env_wait(&speaker.env, sum_of(&speaker, "Other").events == 1);
	close_speaker(&speaker);
}

static void memory_is_bounded(void **state)
{
	struct speaker speaker;
	char name[32];

	(void)state;
	open_speaker(&speaker);
	fake_http_stop(speaker.env.http);
	for (int i = 0; i < 5000; i++) {
		(void)snprintf(name, sizeof(name), "data-%d", i);
		(void)json_object_set_new(
			json_object_get(speaker.object, "metadata"), "name", json_string(name));
		kube_event(speaker.recorder, speaker.object, false, "Many", "Act", "x");
	}
	fake_http_start(speaker.env.http);
	env_wait(&speaker.env, sum_of(&speaker, "Many").events == 512);
	/* Those that were written may go. */
	kube_event(speaker.recorder, speaker.object, false, "More", "Act", "x");
	env_wait(&speaker.env, sum_of(&speaker, "More").events == 1);
	close_speaker(&speaker);
}

static bool refuse_first(void *ctx, const struct fake_request *request)
{
	unsigned *times = ctx;

	if (strcmp(request->method, "POST") != 0 || *times == 0) {
		return false;
	}
	(*times)--;
	if (*times == 0) {
		/* Executed, but the answer is lost. */
		fake_conn_cut_after(request->conn, 5);
		return false;
	}
	fake_reply(request->conn, 500, "", "{}");
	return true;
}

static void what_does_not_get_through_is_sent_again(void **state)
{
	struct speaker speaker;
	unsigned times = 2;

	(void)state;
	open_speaker(&speaker);
	fake_api_set_hook(speaker.env.api, refuse_first, &times);
	kube_event(speaker.recorder, speaker.object, false, "Once", "Act", "x");
	env_wait(&speaker.env, sum_of(&speaker, "Once").events == 1);
	env_turn_for(&speaker.env, 3000);
	assert_int_equal(sum_of(&speaker, "Once").events, 1);
	kube_event(speaker.recorder, speaker.object, false, "Once", "Act", "x");
	env_wait(&speaker.env, sum_of(&speaker, "Once").times == 2);
	/* Ended with one under way. */
	kube_event(speaker.recorder, speaker.object, false, "Last", "Act", "x");
	loop_turn(speaker.env.loop, 0);
	close_speaker(&speaker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_has_what_the_server_demands),
		cmocka_unit_test(names_are_valid_whatever_the_object_is_called),
		cmocka_unit_test(equal_ones_are_one_with_a_count),
		cmocka_unit_test(a_flood_is_held_back),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(what_does_not_get_through_is_sent_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
