/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Caches.  Whatever the server, the connection and the order of things do, in the end the cache
 * holds what the server holds, and what was reported adds up to it: each test ends with settle().
 */
#include "kube/env_test.h"
#include "kube/internal.h"

struct watcher {
	struct env env;
	struct kube_cache *cache;
	json_t *reported; /* what the reports add up to */
	unsigned reports, synced;
	bool absorbs_in_report;
};

static void changed(void *ctx, const char *key, const json_t *before, const json_t *object)
{
	struct watcher *watcher = ctx;
	const json_t *known = json_object_get(watcher->reported, key);

	watcher->reports++;
	assert_true(before != NULL || object != NULL);
	assert_true((before == NULL) == (known == NULL));
	assert_true(before == NULL || json_equal(before, known));
	assert_true(before == NULL || object == NULL || !json_equal(before, object));
	assert_true(watcher->cache == NULL || kube_cache_get(watcher->cache, key) == object);
	if (object == NULL) {
		(void)json_object_del(watcher->reported, key);
	} else {
		(void)json_object_set_new(watcher->reported, key, json_deep_copy(object));
	}
}

static void synced(void *ctx)
{
	struct watcher *watcher = ctx;

	watcher->synced++;
}

static void trim(json_t *object)
{
	(void)json_object_del(object, "ballast");
}

static void open_empty(struct watcher *watcher)
{
	*watcher = (struct watcher){.reported = json_object()};
	env_open(&watcher->env);
}

static void begin(struct watcher *watcher)
{
	struct err err = {0};
	struct kube_cache_options options = {.kind = &volumes,
		.trim = trim,
		.changed = changed,
		.synced = synced,
		.ctx = watcher};

	assert_int_equal(kube_cache_new(watcher->env.kube, &options, &watcher->cache, &err), 0);
}

static void put(struct watcher *watcher, const char *name, int number)
{
	char path[128], json[128];

	(void)snprintf(path, sizeof(path), VOLUMES "/%s", name);
	(void)snprintf(json, sizeof(json), "{\"spec\":{\"number\":%d},\"ballast\":1}", number);
	fake_api_put(watcher->env.api, path, json);
}

static bool same(const struct watcher *watcher)
{
	const char *key;
	json_t *object;
	char path[128];

	if (kube_cache_count(watcher->cache) != fake_api_count(watcher->env.api) ||
		json_object_size(watcher->reported) != fake_api_count(watcher->env.api)) {
		return false;
	}
	json_object_foreach(watcher->reported, key, object)
	{
		(void)snprintf(path, sizeof(path), VOLUMES "/%s", key);
		const json_t *there = fake_api_get(watcher->env.api, path);
		const json_t *cached = kube_cache_get(watcher->cache, key);

		assert_null(json_object_get(object, "ballast"));
		assert_null(kube_at(object, "metadata.managedFields"));
		if (there == NULL || cached == NULL ||
			strcmp(kube_text(there, "metadata.resourceVersion"),
				kube_text(cached, "metadata.resourceVersion")) != 0 ||
			strcmp(kube_text(there, "metadata.resourceVersion"),
				kube_text(object, "metadata.resourceVersion")) != 0) {
			return false;
		}
	}
	return true;
}

static void settle(struct watcher *watcher)
{
	env_wait(&watcher->env, kube_cache_is_synced(watcher->cache) && same(watcher));
	/* And a change after all is seen. */
	put(watcher, "last", 1);
	env_wait(&watcher->env, same(watcher));
	assert_int_equal(watcher->synced, 1);
}

static void close_all(struct watcher *watcher)
{
	kube_cache_free(watcher->cache);
	json_decref(watcher->reported);
	env_close(&watcher->env);
}

static void make_many(struct watcher *watcher, int count)
{
	char name[32];

	for (int i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "v%04d", i);
		put(watcher, name, i);
	}
}

/* ---- what it is for ---- */

static void changes_are_seen_once_each(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	put(&watcher, "b", 1);
	begin(&watcher);
	assert_false(kube_cache_is_synced(watcher.cache));
	assert_true(kube_cache_age_ms(watcher.cache) == UINT64_MAX);
	env_wait(&watcher.env, kube_cache_is_synced(watcher.cache));
	assert_int_equal(watcher.reports, 2);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	put(&watcher, "a", 2);
	put(&watcher, "c", 1);
	fake_api_delete(watcher.env.api, VOLUMES "/b");
	env_wait(&watcher.env, same(&watcher));
	assert_int_equal(watcher.reports, 5);
	assert_int_equal(kube_number(kube_cache_get(watcher.cache, "a"), "spec.number", 0), 2);
	assert_null(kube_cache_get(watcher.cache, "b"));
	settle(&watcher);
	close_all(&watcher);
}

static void a_large_list_comes_in_pages(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	make_many(&watcher, 1201);
	begin(&watcher);
	settle(&watcher);
	assert_int_equal(watcher.reports, 1202);
	close_all(&watcher);
}

static void objects_of_namespaces_have_both_in_their_key(void **state)
{
	struct env env;
	struct err err = {0};
	struct kube_cache *cache;
	struct kube_cache_options options = {
		.kind = &config_maps, .namespace = "n1", .label_selector = "a=b"};

	(void)state;
	env_open(&env);
	fake_api_put(env.api, "/api/v1/namespaces/n1/configmaps/x",
		"{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	fake_api_put(env.api, "/api/v1/namespaces/n1/configmaps/y", "{}");
	fake_api_put(env.api, "/api/v1/namespaces/n2/configmaps/x",
		"{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	assert_int_equal(kube_cache_new(env.kube, &options, &cache, &err), 0);
	env_wait(&env, kube_cache_is_synced(cache));
	assert_int_equal(kube_cache_count(cache), 1);
	assert_non_null(kube_cache_get(cache, "n1/x"));
	kube_cache_free(cache);
	env_close(&env);
}

/* ---- broken connections ---- */

static void a_watch_goes_on_where_it_was(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	begin(&watcher);
	for (int i = 2; i < 6; i++) {
		env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
		switch (i) {
		case 2:
			fake_api_end_watches(watcher.env.api);
			break;
		case 3:
			fake_api_close_watches(watcher.env.api);
			break;
		case 4:
			fake_api_half_close_watches(watcher.env.api);
			break;
		default:
			fake_http_stop(watcher.env.http);
			fake_http_start(watcher.env.http);
		}
		/* Nobody listens. */
		put(&watcher, "a", i);
		env_wait(&watcher.env, same(&watcher));
	}
	/* One for the list, each change once. */
	assert_int_equal(watcher.reports, 5);
	settle(&watcher);
	close_all(&watcher);
}

/* The stream ends after each number of bytes that an event has. */
static void a_line_is_cut_anywhere(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	for (size_t cut = 0; cut < 560; cut += 17) {
		fake_api_cut_watches_after(watcher.env.api, cut);
		fake_api_close_watches(watcher.env.api);
		put(&watcher, "a", (int)cut);
		env_turn_for(&watcher.env, 3);
		put(&watcher, "b", (int)cut);
	}
	fake_api_cut_watches_after(watcher.env.api, SIZE_MAX);
	settle(&watcher);
	close_all(&watcher);
}

static void each_byte_of_a_line_may_be_the_last(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	/* Bytes one by one: each is a piece of its own for the reader. */
	static const char line[] = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"z\","
				   "\"resourceVersion\":\"101\"}}}\n";
	char byte[2] = {0};

	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		assert_int_equal(watcher.reports, 0);
		byte[0] = line[i];
		fake_api_send_to_watches(watcher.env.api, byte);
		loop_turn(watcher.env.loop, 0);
		loop_turn(watcher.env.loop, 0);
	}
	env_wait(&watcher.env, watcher.reports == 1);
	/* The server never had it. */
	fake_api_set_version(watcher.env.api, 200);
	fake_api_compact(watcher.env.api);
	fake_api_close_watches(watcher.env.api);
	env_wait(&watcher.env, kube_cache_count(watcher.cache) == 0);
	settle(&watcher);
	close_all(&watcher);
}

/* ---- a server that forgets ---- */

static void forget(struct watcher *watcher, bool late)
{
	open_empty(watcher);
	fake_api_set_late_expiry(watcher->env.api, late);
	make_many(watcher, 600);
	begin(watcher);
	env_wait(&watcher->env, fake_api_watch_count(watcher->env.api) == 1);
	watcher->reports = 0;
	fake_api_close_watches(watcher->env.api);
	put(watcher, "v0000", 1000);
	put(watcher, "v0599", 1000);
	put(watcher, "new", 1);
	fake_api_delete(watcher->env.api, VOLUMES "/v0001");
	fake_api_delete(watcher->env.api, VOLUMES "/v0598");
	fake_api_compact(watcher->env.api);
	env_wait(&watcher->env, same(watcher));
	/* Of 600 objects only the differences. */
	assert_int_equal(watcher->reports, 5);
	settle(watcher);
	close_all(watcher);
}

static void a_list_after_410_reports_the_differences(void **state)
{
	struct watcher watcher;

	(void)state;
	forget(&watcher, false);
	forget(&watcher, true);
}

static bool compact_each_page(void *ctx, const struct fake_request *request)
{
	struct watcher *watcher = ctx;

	if (strstr(request->query, "continue=") != NULL && watcher->reports < 2500) {
		char name[64];

		/* What the first page had is not there any more when it is read again. */
		(void)snprintf(name, sizeof(name), VOLUMES "/v%04u", watcher->reports / 500);
		if (fake_api_get(watcher->env.api, name) != NULL) {
			fake_api_delete(watcher->env.api, name);
			put(watcher, "v0100", (int)watcher->reports);
			fake_api_compact(watcher->env.api);
		}
	}
	return false;
}

static void pages_may_be_forgotten_while_they_are_read(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	make_many(&watcher, 1201);
	fake_api_set_hook(watcher.env.api, compact_each_page, &watcher);
	begin(&watcher);
	env_wait(&watcher.env, kube_cache_is_synced(watcher.cache));
	assert_true(fake_api_count(watcher.env.api) < 1201);
	settle(&watcher);
	close_all(&watcher);
}

/* etcd was restored from a backup: versions are smaller than those we know. */
static void versions_may_go_back(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	fake_api_set_version(watcher.env.api, 5000);
	put(&watcher, "a", 1);
	put(&watcher, "b", 1);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	fake_api_set_version(watcher.env.api, 70);
	put(&watcher, "a", 2);
	fake_api_delete(watcher.env.api, VOLUMES "/b");
	/* Nothing of it came through: it is older.  The server says at the next watch that it knows
	 * no such version. */
	static const char error[] = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\","
				    "\"code\":410,\"reason\":\"Expired\"}}\n";

	fake_api_send_to_watches(watcher.env.api, error);
	settle(&watcher);
	close_all(&watcher);
}

static void a_server_that_is_behind_turns_nothing_back(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	put(&watcher, "a", 2);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	/* The state of before, out of order. */
	fake_api_send_to_watches(watcher.env.api,
		"{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"a\","
		"\"resourceVersion\":\"100\"}}}\n"
		"{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\"}}}\n"
		"{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"a\","
		"\"resourceVersion\":\"101\"}}}\n"
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"ghost\","
		"\"resourceVersion\":\"99\"}}}\n");
	env_turn_for(&watcher.env, 50);
	assert_int_equal(watcher.reports, 1);
	fake_api_close_watches(watcher.env.api);
	settle(&watcher);
	close_all(&watcher);
}

static void bookmarks_save_the_list(void **state)
{
	struct watcher watcher;
	unsigned before;

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	/* Much happens elsewhere, and is forgotten. */
	fake_api_compact(watcher.env.api);
	fake_api_bookmark(watcher.env.api);
	env_turn_for(&watcher.env, 50);
	before = fake_api_request_count(watcher.env.api);
	fake_api_close_watches(watcher.env.api);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	assert_int_equal(fake_api_request_count(watcher.env.api), before + 1);
	settle(&watcher);
	close_all(&watcher);
}

/* ---- nonsense ---- */

static void nonsense_in_a_watch_ends_it_only(void **state)
{
	static const char *const lines[] = {
		"{\n",
		"nonsense\n",
		"[]\n",
		"{\"type\":\"ADDED\"}\n",
		"{\"type\":\"ADDED\",\"object\":7}\n",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"x\"}}}\n",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"999\"}}}\n",
		"{\"type\":\"WHAT\",\"object\":{\"metadata\":{\"resourceVersion\":\"999\"}}}\n",
		"{\"type\":\"ERROR\",\"object\":{\"code\":\"x\"}}\n",
		"{\"type\":\"ERROR\",\"object\":{\"code\":504,\"message\":\"Too large\"}}\n",
		"\n\n{\"type\":\"ERROR\",\"object\":{}}\n",
	};
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	begin(&watcher);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
		fake_api_send_to_watches(watcher.env.api, lines[i]);
		env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 0);
		/* Else the back-off grows. */
		put(&watcher, "a", (int)i + 2);
		env_wait(&watcher.env, same(&watcher));
	}
	settle(&watcher);
	close_all(&watcher);
}

static void a_line_without_end_ends_the_watch(void **state)
{
	struct watcher watcher;
	size_t length = 1024 * 1024;
	char *piece = malloc(length + 1);

	(void)state;
	memset(piece, 'x', length);
	piece[length] = '\0';
	open_empty(&watcher);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	for (int i = 0; i < 100 && fake_api_watch_count(watcher.env.api) == 1; i++) {
		fake_api_send_to_watches(watcher.env.api, piece);
		env_turn_for(&watcher.env, 20);
	}
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 0);
	free(piece);
	settle(&watcher);
	close_all(&watcher);
}

static bool refuse_lists(void *ctx, const struct fake_request *request)
{
	unsigned *left = ctx;

	if (*left == 0) {
		return false;
	}
	(*left)--;
	fake_reply(request->conn, *left % 2 == 0 ? 500 : 200, "",
		*left % 2 == 0 ? "{}" : "{\"items\":[{\"metadata\":{}}]}");
	return true;
}

static void a_list_that_fails_is_tried_again(void **state)
{
	struct watcher watcher;
	unsigned left = 3;

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	fake_api_set_hook(watcher.env.api, refuse_lists, &left);
	begin(&watcher);
	settle(&watcher);
	assert_int_equal(left, 0);
	close_all(&watcher);
}

/* ---- own writes ---- */

static void absorb(struct watcher *watcher, const char *name, const char *version)
{
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:i}, s:i}", "metadata", "name", name,
		"resourceVersion", version, "spec", "number", 77, "ballast", 1);

	kube_cache_absorb(watcher->cache, object);
	json_decref(object);
}

static void own_writes_are_seen_at_once_and_never_come_back(void **state)
{
	struct watcher watcher;
	char version[32];

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	put(&watcher, "a", 2);
	/* The watch has not brought it yet. */
	kube_cache_absorb(watcher.cache, fake_api_get(watcher.env.api, VOLUMES "/a"));
	assert_int_equal(kube_number(kube_cache_get(watcher.cache, "a"), "spec.number", 0), 2);
	assert_int_equal(watcher.reports, 2);
	/* Older than what is there. */
	absorb(&watcher, "a", "101");
	env_turn_for(&watcher.env, 50);
	assert_int_equal(watcher.reports, 2);
	/* An answer that comes after the end of the object was seen. */
	(void)snprintf(version, sizeof(version), "%llu",
		(unsigned long long)fake_api_version(watcher.env.api) + 1);
	put(&watcher, "b", 1);
	fake_api_delete(watcher.env.api, VOLUMES "/b");
	env_turn_for(&watcher.env, 50);
	absorb(&watcher, "b", version);
	assert_null(kube_cache_get(watcher.cache, "b"));
	settle(&watcher);
	close_all(&watcher);
}

static bool absorb_between_pages(void *ctx, const struct fake_request *request)
{
	struct watcher *watcher = ctx;

	if (strstr(request->query, "continue=") != NULL) {
		/* After the list was begun: not in it, and newer than what is in it. */
		put(watcher, "new", 1);
		put(watcher, "v1000", 5);
		kube_cache_absorb(watcher->cache, fake_api_get(watcher->env.api, VOLUMES "/new"));
		kube_cache_absorb(watcher->cache, fake_api_get(watcher->env.api, VOLUMES "/v1000"));
		fake_api_set_hook(watcher->env.api, NULL, NULL);
	}
	return false;
}

static void own_writes_during_a_list_stay(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	make_many(&watcher, 1201);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	fake_api_set_hook(watcher.env.api, absorb_between_pages, &watcher);
	fake_api_compact(watcher.env.api);
	fake_api_close_watches(watcher.env.api);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	assert_non_null(kube_cache_get(watcher.cache, "new"));
	assert_int_equal(kube_number(kube_cache_get(watcher.cache, "v1000"), "spec.number", 0), 5);
	settle(&watcher);
	close_all(&watcher);
}

/* ---- freezing, and everything at random ---- */

static void a_frozen_server_goes_on(void **state)
{
	struct watcher watcher;

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	fake_http_freeze(watcher.env.http, true);
	put(&watcher, "a", 2);
	env_turn_for(&watcher.env, 200);
	assert_false(same(&watcher));
	assert_true(kube_cache_age_ms(watcher.cache) >= 150);
	fake_http_freeze(watcher.env.http, false);
	settle(&watcher);
	close_all(&watcher);
}

/* The connections are there, but nobody answers: a request that found out saves the watches from
 * waiting, and nobody goes on with those connections. */
static void a_dead_connection_is_left(void **state)
{
	struct watcher watcher;
	struct kube_request request = {
		.verb = KUBE_CREATE, .kind = &volumes, .name = "x", .timeout_ms = 200};

	(void)state;
	open_empty(&watcher);
	put(&watcher, "a", 1);
	begin(&watcher);
	env_wait(&watcher.env, fake_api_watch_count(watcher.env.api) == 1);
	fake_http_freeze(watcher.env.http, true);
	env_turn_for(&watcher.env, 10);
	assert_int_equal(ask_once(&watcher.env, request, json_object()), -ETIMEDOUT);
	put(&watcher, "a", 2);
	/* The old watch is gone, a new one waits on a connection of its own before anybody answers.
	 */
	env_wait(&watcher.env, metric_get(&watcher.env.kube->metric_connections) == 2);
	fake_http_freeze(watcher.env.http, false);
	env_wait(&watcher.env, same(&watcher));
	env_wait(&watcher.env, fake_http_conn_count(watcher.env.http) == 1);
	settle(&watcher);
	close_all(&watcher);
}

static void shake(struct watcher *watcher, unsigned what)
{
	switch (what) {
	case 0:
		fake_api_close_watches(watcher->env.api);
		break;
	case 1:
		fake_api_end_watches(watcher->env.api);
		break;
	case 2:
		fake_api_compact(watcher->env.api);
		break;
	case 3:
		fake_http_stop(watcher->env.http);
		fake_http_start(watcher->env.http);
		break;
	case 4:
		fake_api_cut_watches_after(
			watcher->env.api, random() % 2 == 0 ? (size_t)random() % 900 : SIZE_MAX);
		break;
	case 5:
		fake_api_set_late_expiry(watcher->env.api, random() % 2 == 0);
		break;
	default:
		fake_api_bookmark(watcher->env.api);
	}
}

static void whatever_happens_the_cache_is_right_in_the_end(void **state)
{
	struct watcher watcher;
	char name[32], path[128];

	(void)state;
	srandom(4);
	open_empty(&watcher);
	make_many(&watcher, 700);
	begin(&watcher);
	for (int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "v%04ld", random() % 800);
		(void)snprintf(path, sizeof(path), VOLUMES "/%s", name);
		if (random() % 3 == 0 && fake_api_get(watcher.env.api, path) != NULL) {
			fake_api_delete(watcher.env.api, path);
		} else {
			put(&watcher, name, i);
			if (random() % 4 == 0) {
				kube_cache_absorb(
					watcher.cache, fake_api_get(watcher.env.api, path));
			}
		}
		if (random() % 100 == 0) {
			shake(&watcher, (unsigned)random() % 7);
		}
		loop_turn(watcher.env.loop, random() % 8 == 0 ? 2 : 0);
	}
	fake_api_cut_watches_after(watcher.env.api, SIZE_MAX);
	settle(&watcher);
	close_all(&watcher);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_are_seen_once_each),
		cmocka_unit_test(a_large_list_comes_in_pages),
		cmocka_unit_test(objects_of_namespaces_have_both_in_their_key),
		cmocka_unit_test(a_watch_goes_on_where_it_was),
		cmocka_unit_test(a_line_is_cut_anywhere),
		cmocka_unit_test(each_byte_of_a_line_may_be_the_last),
		cmocka_unit_test(a_list_after_410_reports_the_differences),
		cmocka_unit_test(pages_may_be_forgotten_while_they_are_read),
		cmocka_unit_test(versions_may_go_back),
		cmocka_unit_test(a_server_that_is_behind_turns_nothing_back),
		cmocka_unit_test(bookmarks_save_the_list),
		cmocka_unit_test(nonsense_in_a_watch_ends_it_only),
		cmocka_unit_test(a_line_without_end_ends_the_watch),
		cmocka_unit_test(a_list_that_fails_is_tried_again),
		cmocka_unit_test(own_writes_are_seen_at_once_and_never_come_back),
		cmocka_unit_test(own_writes_during_a_list_stay),
		cmocka_unit_test(a_frozen_server_goes_on),
		cmocka_unit_test(a_dead_connection_is_left),
		cmocka_unit_test(whatever_happens_the_cache_is_right_in_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
