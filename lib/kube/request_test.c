/* SPDX-License-Identifier: Apache-2.0 */
/* Requests against a server that answers, refuses and breaks. */
#include "kube/env_test.h"

#include <fcntl.h>
#include <sys/stat.h>

static json_t *volume(const char *name, int number)
{
	return json_pack("{s:s, s:s, s:{s:s}, s:{s:i}}", "apiVersion", "strake.io/v1alpha1", "kind",
		"Volume", "metadata", "name", name, "spec", "number", number);
}

static void every_verb_does_what_it_says(void **state)
{
	struct env env;
	struct ask ask;

	(void)state;
	env_open(&env);
	struct kube_request request = {.verb = KUBE_CREATE, .kind = &volumes};

	assert_int_equal(ask_once(&env, request, volume("db", 1)), 0);
	assert_int_equal(ask_once(&env, request, volume("db", 1)), -EEXIST);
	request.name = "db";
	request.verb = KUBE_GET;
	ask_begin(&env, &ask, request, NULL);
	assert_int_equal(ask_wait(&env, &ask), 0);
	assert_string_equal(kube_name(ask.answer), "db");
	assert_int_equal(ask.request.status, 200);
	/* Nobody needs them, and they are half of an object. */
	assert_null(kube_at(ask.answer, "metadata.managedFields"));

	request.verb = KUBE_REPLACE;
	assert_int_equal(ask_once(&env, request, json_deep_copy(ask.answer)), 0);
	(void)json_object_set_new(json_object_get(ask.answer, "spec"), "number", json_integer(2));
	assert_int_equal(ask_once(&env, request, json_deep_copy(ask.answer)), 0);
	assert_int_equal(ask_once(&env, request, json_incref(ask.answer)), -EAGAIN);
	ask_end(&ask);

	request.verb = KUBE_MERGE_PATCH;
	assert_int_equal(ask_once(&env, request, json_pack("{s:{s:i}}", "spec", "more", 3)), 0);
	assert_int_equal(kube_number(fake_api_get(env.api, VOLUMES "/db"), "spec.number", 0), 2);
	request.verb = KUBE_APPLY;
	request.subresource = "status";
	assert_int_equal(
		ask_once(&env, request, json_pack("{s:{s:s}}", "status", "state", "Online")), 0);
	assert_string_equal(
		kube_text(fake_api_get(env.api, VOLUMES "/db"), "status.state"), "Online");

	request.subresource = NULL;
	request.verb = KUBE_JSON_PATCH;
	for (int i = 0; i < 2; i++) {
		int result = ask_once(&env, request,
			json_pack("[{s:s,s:s,s:i},{s:s,s:s,s:i}]", "op", "test", "path",
				"/spec/number", "value", 2, "op", "replace", "path", "/spec/number",
				"value", 7));

		assert_int_equal(result, i == 0 ? 0 : -ESTALE);
	}
	request.verb = KUBE_DELETE;
	request.uid = "another";
	assert_int_equal(ask_once(&env, request, NULL), -EAGAIN);
	request.uid = kube_uid(fake_api_get(env.api, VOLUMES "/db"));
	request.resource_version = "1";
	assert_int_equal(ask_once(&env, request, NULL), -EAGAIN);
	request.resource_version =
		kube_text(fake_api_get(env.api, VOLUMES "/db"), "metadata.resourceVersion");
	assert_int_equal(ask_once(&env, request, NULL), 0);
	request.uid = NULL;
	request.resource_version = NULL;
	assert_int_equal(ask_once(&env, request, NULL), -ENOENT);
	env_close(&env);
}

static void a_name_is_one_segment_of_the_url(void **state)
{
	struct env env;
	struct ask ask;

	(void)state;
	env_open(&env);
	struct kube_request request = {
		.verb = KUBE_GET, .kind = &volumes, .name = "../../v1/secrets?x#%00"};

	ask_begin(&env, &ask, request, NULL);
	assert_int_equal(ask_wait(&env, &ask), -ENOENT);
	assert_string_equal(ask.request.err.text,
		"volumes.strake.io ../../v1/secrets?x#%00: not found (HTTP 404)");
	ask_end(&ask);
	env_close(&env);
}

/* DELETE without a name would be of all of them. */
static void what_is_incomplete_is_refused(void **state)
{
	static const struct kube_request requests[] = {
		{.verb = KUBE_DELETE, .kind = &volumes},
		{.verb = KUBE_DELETE, .kind = &volumes, .name = ""},
		{.verb = KUBE_DELETE, .kind = &config_maps, .name = "x"},
		{.verb = KUBE_DELETE, .kind = &config_maps, .name = "x", .namespace = ""},
		{.verb = KUBE_GET, .kind = &volumes},
		{.verb = KUBE_CREATE, .kind = &volumes},
	};
	struct env env;

	(void)state;
	env_open(&env);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		assert_int_equal(ask_once(&env, requests[i], NULL), -EINVAL);
	}
	assert_int_equal(fake_api_request_count(env.api), 0);
	env_close(&env);
}

static void a_list_is_all_pages(void **state)
{
	struct env env;
	struct ask ask;
	char path[128];

	(void)state;
	env_open(&env);
	for (int i = 0; i < 1201; i++) {
		(void)snprintf(
			path, sizeof(path), "/api/v1/namespaces/n%d/configmaps/c%04d", i % 3, i);
		fake_api_put(env.api, path, "{\"data\":{\"a\":\"b\"}}");
	}
	struct kube_request request = {.verb = KUBE_LIST, .kind = &config_maps};

	ask_begin(&env, &ask, request, NULL);
	assert_int_equal(ask_wait(&env, &ask), 0);
	assert_int_equal(json_array_size(kube_at(ask.answer, "items")), 1201);
	assert_int_equal(fake_api_request_count(env.api), 3);
	const json_t *first = json_array_get(kube_at(ask.answer, "items"), 0);

	/* As a single object has them. */
	assert_string_equal(kube_text(first, "kind"), "ConfigMap");
	assert_string_equal(kube_text(first, "apiVersion"), "v1");
	assert_null(kube_at(first, "metadata.managedFields"));
	ask_end(&ask);
	request.namespace = "n1";
	ask_begin(&env, &ask, request, NULL);
	assert_int_equal(ask_wait(&env, &ask), 0);
	assert_int_equal(json_array_size(kube_at(ask.answer, "items")), 400);
	ask_end(&ask);
	env_close(&env);
}

/* ---- hooks ---- */

struct script {
	struct env *env;
	unsigned status, times, seen;
	const char *headers, *body;
	unsigned compact_at; /* before the request of that number */
	bool closes;
};

static bool follow(void *ctx, const struct fake_request *request)
{
	struct script *script = ctx;

	script->seen++;
	if (script->compact_at == script->seen) {
		fake_api_compact(script->env->api);
	}
	if (script->seen > script->times) {
		return false;
	}
	if (script->closes) {
		/* From the loop: the server's own code still uses it. */
		fake_conn_cut_after(request->conn, 0);
		fake_conn_send(request->conn, "x", 1);
		return true;
	}
	if (script->status == 0) {
		return true;
	}
	fake_reply(request->conn, script->status, script->headers != NULL ? script->headers : "",
		script->body != NULL ? script->body : "{}");
	return true;
}

static void pages_that_are_forgotten_begin_anew(void **state)
{
	struct env env;
	struct ask ask;
	struct script script = {.env = &env, .compact_at = 3};
	char path[128];

	(void)state;
	env_open(&env);
	for (int i = 0; i < 1201; i++) {
		(void)snprintf(path, sizeof(path), VOLUMES "/v%04d", i);
		fake_api_put(env.api, path, "{}");
	}
	fake_api_set_hook(env.api, follow, &script);
	struct kube_request request = {.verb = KUBE_LIST, .kind = &volumes};

	ask_begin(&env, &ask, request, NULL);
	assert_int_equal(ask_wait(&env, &ask), 0);
	assert_int_equal(json_array_size(kube_at(ask.answer, "items")), 1201);
	assert_int_equal(script.seen, 6);
	ask_end(&ask);
	env_close(&env);
}

static void each_refusal_has_its_errno(void **state)
{
	static const struct {
		unsigned status;
		enum kube_verb verb;
		const char *body;
		int result;
	} cases[] = {
		{400, KUBE_GET, "{\"message\":\"no\"}", -EINVAL},
		{401, KUBE_GET, "{}", -EACCES},
		{403, KUBE_GET, "not even JSON", -EPERM},
		{404, KUBE_GET, "", -ENOENT},
		{409, KUBE_MERGE_PATCH, "{\"reason\":\"Conflict\"}", -EAGAIN},
		{409, KUBE_CREATE, "{\"reason\":\"AlreadyExists\"}", -EEXIST},
		{422, KUBE_JSON_PATCH, "{\"reason\":\"Invalid\"}", -ESTALE},
		{422, KUBE_JSON_PATCH, "{\"details\":{\"causes\":[{\"field\":\"spec\"}]}}",
			-EINVAL},
		{422, KUBE_APPLY, "{}", -EINVAL},
		{413, KUBE_APPLY, "{}", -EINVAL},
		{500, KUBE_GET, "{\"code\":\"x\",\"message\":7}", -EREMOTEIO},
		{503, KUBE_CREATE, "{}", -EREMOTEIO},
		{504, KUBE_GET, "[[[", -EREMOTEIO},
		{302, KUBE_GET, "{}", -EPROTO},
		{200, KUBE_GET, "{\"kind\":", -EPROTO},
		{200, KUBE_GET, "[]", -EPROTO},
		{200, KUBE_GET, "", -EPROTO},
		{200, KUBE_LIST, "{\"items\":{}}", -EPROTO},
		{200, KUBE_LIST, "{\"items\":null}", 0},
	};
	struct env env;

	(void)state;
	env_open(&env);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script script = {
			.status = cases[i].status, .body = cases[i].body, .times = 9};
		struct kube_request request = {
			.verb = cases[i].verb, .kind = &volumes, .name = "db"};

		fake_api_set_hook(env.api, follow, &script);
		assert_int_equal(ask_once(&env, request, json_object()), cases[i].result);
		assert_int_equal(script.seen, 1);
	}
	env_close(&env);
}

static void a_server_that_asks_for_patience_is_asked_again(void **state)
{
	struct env env;
	struct kube_request request = {.verb = KUBE_CREATE, .kind = &volumes};

	(void)state;
	env_open(&env);
	struct script script = {.status = 429, .headers = "Retry-After: 1\r\n", .times = 1};

	fake_api_set_hook(env.api, follow, &script);
	assert_int_equal(ask_once(&env, request, volume("a", 1)), 0);
	assert_int_equal(script.seen, 2);
	script = (struct script){.status = 503, .headers = "Retry-After: 1\r\n", .times = 1};
	assert_int_equal(ask_once(&env, request, volume("b", 1)), 0);
	assert_int_equal(script.seen, 2);
	/* There is not that much time. */
	script = (struct script){.status = 429, .headers = "Retry-After: 40\r\n", .times = 9};
	assert_int_equal(ask_once(&env, request, volume("c", 1)), -EBUSY);
	assert_int_equal(script.seen, 1);
	env_close(&env);
}

/* A write may have been executed when its connection breaks; sending it twice would be worse. */
static void only_reads_are_sent_again_after_a_break(void **state)
{
	struct env env;
	struct kube_request request = {.verb = KUBE_GET, .kind = &volumes, .name = "a"};

	(void)state;
	env_open(&env);
	struct script script = {.times = 2, .closes = true};

	fake_api_set_hook(env.api, follow, &script);
	fake_api_put(env.api, VOLUMES "/a", "{}");
	assert_int_equal(ask_once(&env, request, NULL), 0);
	assert_int_equal(script.seen, 3);
	/* The connection that the read has used is used again: curl must not repeat it either. */
	request.verb = KUBE_CREATE;
	script = (struct script){.times = 1, .closes = true};
	assert_int_equal(ask_once(&env, request, volume("b", 1)), -ECONNRESET);
	assert_int_equal(script.seen, 1);
	assert_int_equal(ask_once(&env, request, volume("b", 1)), 0);
	script = (struct script){.times = 9, .closes = true};
	request.verb = KUBE_GET;
	assert_int_equal(ask_once(&env, request, NULL), -ECONNRESET);
	/* Ours, and one of curl's on the connection that was used before. */
	assert_in_range(script.seen, 4, 5);
	env_close(&env);
}

static void a_server_that_is_away_is_found_again(void **state)
{
	struct env env;
	struct ask ask;
	struct kube_request request = {.verb = KUBE_CREATE, .kind = &volumes};

	(void)state;
	env_open(&env);
	fake_http_stop(env.http);
	assert_int_equal(ask_once(&env, request, volume("a", 1)), -ECONNREFUSED);
	/* Nothing was sent: a write is tried again as well. */
	ask_begin(&env, &ask, request, volume("a", 1));
	env_turn_for(&env, 20);
	assert_false(ask.is_done);
	fake_http_start(env.http);
	assert_int_equal(ask_wait(&env, &ask), 0);
	ask_end(&ask);
	env_close(&env);
}

static void a_server_that_says_nothing_is_given_up_in_time(void **state)
{
	struct env env;
	struct script script = {.times = 1};
	struct kube_request request = {.verb = KUBE_CREATE, .kind = &volumes, .timeout_ms = 200};

	(void)state;
	env_open(&env);
	fake_api_set_hook(env.api, follow, &script);
	assert_int_equal(ask_once(&env, request, volume("a", 1)), -ETIMEDOUT);
	request.timeout_ms = 0;
	assert_int_equal(ask_once(&env, request, volume("a", 1)), 0);
	env_close(&env);
}

static void a_cancelled_request_says_nothing(void **state)
{
	struct env env;
	struct ask ask[3];
	struct script script = {.times = 1};
	struct kube_request request = {.verb = KUBE_GET, .kind = &volumes, .name = "a"};

	(void)state;
	env_open(&env);
	fake_api_set_hook(env.api, follow, &script);
	for (int i = 0; i < 3; i++) {
		ask_begin(&env, &ask[i], request, NULL);
		if (i == 1) {
			env_wait(&env, script.seen == 2);
		}
		if (i != 1) {
			kube_cancel(&ask[i].request);
		}
		if (i == 0) {
			ask_begin(&env, &ask[i], request, NULL);
			env_wait(&env, script.seen == 1);
			kube_cancel(&ask[i].request);
			kube_cancel(&ask[i].request);
		}
	}
	env_wait(&env, ask[1].is_done);
	env_turn_for(&env, 50);
	assert_false(ask[0].is_done);
	assert_false(ask[2].is_done);
	ask_end(&ask[1]);
	env_close(&env);
}

static void a_token_that_was_renewed_is_read_again(void **state)
{
	struct env env;
	struct kube_request request = {.verb = KUBE_CREATE, .kind = &volumes};

	(void)state;
	env_open_as(&env, "{tokenFile: token}");
	fake_api_set_token(env.api, "one");
	env_write(&env, "token", "one\n");
	assert_int_equal(ask_once(&env, request, volume("a", 1)), 0);
	fake_api_set_token(env.api, "two");
	assert_int_equal(ask_once(&env, request, volume("b", 1)), -EACCES);
	env_write(&env, "token", "two");
	assert_int_equal(ask_once(&env, request, volume("b", 1)), 0);
	/* One that is broken does not replace one that may be good. */
	env_write(&env, "token", "evil\r\nX-Header: y");
	assert_int_equal(ask_once(&env, request, volume("c", 1)), 0);
	env_close(&env);
}

/* Nothing about the file tells that it is another one: that the server refuses the token does. */
static void a_token_that_is_refused_is_read_again(void **state)
{
	struct env env;
	struct kube_request request = {.verb = KUBE_CREATE, .kind = &volumes};
	struct stat before;
	char path[128];

	(void)state;
	env_open_as(&env, "{tokenFile: token}");
	fake_api_set_token(env.api, "one");
	env_write(&env, "token", "one\n");
	assert_int_equal(ask_once(&env, request, volume("a", 1)), 0);
	(void)snprintf(path, sizeof(path), "%s/token", env.folder);
	assert_int_equal(stat(path, &before), 0);
	env_write(&env, "token", "two\n");
	struct timespec times[2] = {before.st_atim, before.st_mtim};

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	fake_api_set_token(env.api, "two");
	assert_int_equal(ask_once(&env, request, volume("b", 1)), 0);
	env_close(&env);
}

static void a_page_that_is_too_large_is_asked_for_in_parts(void **state)
{
	struct env env;
	struct ask ask;
	struct kube_request request = {.verb = KUBE_LIST, .kind = &volumes};
	char *big = malloc(1024 * 1024 + 1), *json = NULL, path[128];

	(void)state;
	env_open(&env);
	memset(big, 'x', 1024 * 1024);
	big[1024 * 1024] = '\0';
	assert_true(asprintf(&json, "{\"spec\":\"%s\"}", big) > 0);
	for (int i = 0; i < 40; i++) {
		(void)snprintf(path, sizeof(path), VOLUMES "/v%d", i);
		fake_api_put(env.api, path, json);
	}
	ask_begin(&env, &ask, request, NULL);
	assert_int_equal(ask_wait(&env, &ask), 0);
	assert_int_equal(json_array_size(kube_at(ask.answer, "items")), 40);
	ask_end(&ask);
	free(json);
	assert_true(asprintf(&json, "{\"spec\":\"%s%s\"}", big, big) > 0);
	struct strbuf text;

	strbuf_init(&text);
	strbuf_append(&text, "{\"a\":\"");
	for (int i = 0; i < 40; i++) {
		strbuf_append(&text, big);
	}
	strbuf_append(&text, "\"}");
	struct script script = {.status = 200, .body = text.text, .times = 9};

	fake_api_set_hook(env.api, follow, &script);
	request.verb = KUBE_GET;
	request.name = "v1";
	ask_begin(&env, &ask, request, NULL);
	assert_int_equal(ask_wait(&env, &ask), -EPROTO);
	assert_non_null(strstr(ask.request.err.text, "above 32 MiB"));
	ask_end(&ask);
	strbuf_done(&text);
	free(json);
	free(big);
	env_close(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_verb_does_what_it_says),
		cmocka_unit_test(a_name_is_one_segment_of_the_url),
		cmocka_unit_test(what_is_incomplete_is_refused),
		cmocka_unit_test(a_list_is_all_pages),
		cmocka_unit_test(pages_that_are_forgotten_begin_anew),
		cmocka_unit_test(each_refusal_has_its_errno),
		cmocka_unit_test(a_server_that_asks_for_patience_is_asked_again),
		cmocka_unit_test(only_reads_are_sent_again_after_a_break),
		cmocka_unit_test(a_server_that_is_away_is_found_again),
		cmocka_unit_test(a_server_that_says_nothing_is_given_up_in_time),
		cmocka_unit_test(a_cancelled_request_says_nothing),
		cmocka_unit_test(a_token_that_was_renewed_is_read_again),
		cmocka_unit_test(a_token_that_is_refused_is_read_again),
		cmocka_unit_test(a_page_that_is_too_large_is_asked_for_in_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
