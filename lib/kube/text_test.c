/* SPDX-License-Identifier: Apache-2.0 */
/* What is read out of texts: kubeconfigs, quantities, objects, conditions, versions, lines of
 * watches. */
#include "base/testing.h"
#include "kube/internal.h"
#include "kube/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- quantities ---- */

static void quantities_are_exact_and_rounded_up(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{"0", 0},
		{"1", 1},
		{"10Gi", UINT64_C(10) << 30},
		{"1Ki", 1024},
		{"1k", 1000},
		{"500M", 500000000},
		{"1.5e9", 1500000000},
		{"1.5E9", 1500000000},
		{"15e+8", 1500000000},
		{"1e3", 1000},
		{"1E", UINT64_C(1000000000000000000)},
		{"1E1", 10},
		{"1Ei", UINT64_C(1) << 60},
		{"1.5Gi", UINT64_C(3) << 29},
		{"0.5Ki", 512},
		{"0.1Ki", 103},
		{".5Ki", 512},
		{"5.", 5},
		{"5.Ki", 5120},
		{"+5", 5},
		{"-0", 0},
		{"1m", 1},
		{"999m", 1},
		{"1000m", 1},
		{"1001m", 2},
		{"1500m", 2},
		{"1u", 1},
		{"1n", 1},
		{"1000000000n", 1},
		{"1000000001n", 2},
		{"0n", 0},
		{"1e-3", 1},
		{"2e-1", 1},
		{"25e-1", 3},
		{"0.000000000000000000000000001Ei", 1},
		{"9223372036854775807", INT64_MAX},
		{"7.999999999999999999Ei", INT64_MAX - 8 + 8},
		{"9223372036854775806.5", INT64_MAX},
		{"007", 7},
		{"1P", UINT64_C(1000000000000000)},
		{"1T", UINT64_C(1000000000000)},
		{"3Pi", UINT64_C(3) << 50},
		{"4Ti", UINT64_C(4) << 40},
		{"1e-1000000", 1},
		{"0e1000000", 0},
		{"1000000000000000000000000000e-27", 1},
		{"1.00000000000000000000000000000000000000000000000000000000000000000000000000001",
			2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 12345;

		if (kube_quantity_parse(cases[i].text, &bytes) < 0) {
			fail_msg("%s is refused", cases[i].text);
		}
		if (bytes != cases[i].bytes) {
			fail_msg("%s is %llu", cases[i].text, (unsigned long long)bytes);
		}
	}
}

static void what_is_no_quantity_is_refused(void **state)
{
	static const char *const cases[] = {"", " 1", "1 ", "Gi", ".", "-1", "-1Gi", "-1n", "1gi",
		"1KI", "1K", "1B", "1GiB", "1e", "1e+", "1e1.5", "1.2.3", "0x10", "1,5", "1ee3",
		"e3", "9223372036854775808", "8Ei", "9.3E", "1e19", "1e1000000000000",
		"99999999999999999999999999999999999999999999999999999999999999999999999999",
		"9223372036854775807.1", "--1", "+-1", "NaN", "inf"};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes;

		if (kube_quantity_parse(cases[i], &bytes) != -EINVAL) {
			fail_msg("%s is taken", cases[i]);
		}
	}
}

static void quantities_are_written_canonically(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {{0, "0"}, {1, "1"}, {1023, "1023"}, {1024, "1Ki"}, {1025, "1025"},
		{UINT64_C(10) << 30, "10Gi"}, {UINT64_C(1500) << 20, "1500Mi"},
		{UINT64_C(1) << 60, "1Ei"}, {INT64_MAX, "9223372036854775807"}};
	char text[KUBE_QUANTITY_TEXT_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes;

		assert_string_equal(kube_quantity_to_text(cases[i].bytes, text), cases[i].text);
		assert_int_equal(kube_quantity_parse(text, &bytes), 0);
		assert_true(bytes == cases[i].bytes);
	}
}

/* ---- objects ---- */

static void paths_lead_to_what_is_there_only(void **state)
{
	json_t *object = json_loads("{\"metadata\":{\"name\":\"a\",\"deletionTimestamp\":null,"
				    "\"finalizers\":[1,\"x\"]},\"n\":9007199254740993,\"b\":true,"
				    "\"r\":1.5,\"list\":[{\"a\":1}]}",
		0, NULL);

	(void)state;
	assert_string_equal(kube_text(object, "metadata.name"), "a");
	assert_string_equal(kube_text(object, "metadata.name.x"), "");
	assert_string_equal(kube_text(object, "n"), "");
	assert_string_equal(kube_text(object, "list.a"), "");
	assert_string_equal(kube_text(NULL, "a.b"), "");
	assert_true(kube_number(object, "n", 0) == INT64_C(9007199254740993));
	assert_int_equal(kube_number(object, "r", -7), -7);
	assert_int_equal(kube_number(object, "none", -7), -7);
	assert_true(kube_bool(object, "b"));
	assert_false(kube_bool(object, "n"));
	assert_false(kube_is_deleted(object));
	assert_true(kube_has_finalizer(object, "x"));
	assert_false(kube_has_finalizer(object, "y"));
	assert_string_equal(kube_uid(object), "");
	assert_ptr_equal(kube_at(object, ""), object);
	json_decref(object);
}

static void a_condition_changes_its_time_with_its_status_only(void **state)
{
	json_t *conditions = json_array();

	(void)state;
	assert_true(kube_condition_set(conditions, "Ready", "False", "Waiting", "a", 1));
	json_t *condition = json_array_get(conditions, 0);

	(void)json_object_set_new(condition, "lastTransitionTime", json_string("then"));
	assert_false(kube_condition_set(conditions, "Ready", "False", "Waiting", "a", 1));
	assert_true(kube_condition_set(conditions, "Ready", "False", "Waiting", "b", 1));
	assert_true(kube_condition_set(conditions, "Ready", "False", "Waiting", "b", 2));
	assert_string_equal(kube_text(condition, "lastTransitionTime"), "then");
	assert_true(kube_condition_set(conditions, "Ready", "True", "Done", "\xff", 2));
	assert_int_equal(strlen(kube_text(condition, "lastTransitionTime")), 20);
	assert_true(kube_condition_set(conditions, "Other", "Unknown", "X", "", 0));
	assert_int_equal(json_array_size(conditions), 2);
	assert_string_equal(kube_condition_status(conditions, "Ready"), "True");
	assert_string_equal(kube_condition_status(conditions, "None"), "");
	assert_string_equal(kube_condition_status(NULL, "None"), "");
	assert_false(kube_condition_set(NULL, "Ready", "True", "X", "", 0));
	json_decref(conditions);
}

static void versions_are_compared_as_numbers(void **state)
{
	(void)state;
	assert_true(kube_version_compare("9", "10") < 0);
	assert_true(kube_version_compare("10", "9") > 0);
	assert_int_equal(kube_version_compare("7", "07"), 0);
	assert_true(kube_version_compare("99999999999999999999999", "1") > 0);
	/* What cannot be compared is taken for news. */
	assert_true(kube_version_compare("x", "1") > 0);
	assert_true(kube_version_compare("1", "x") < 0);
	assert_int_equal(kube_version_compare("x", "x"), 0);
}

static void a_nul_in_somebodys_annotation_harms_nobody(void **state)
{
	static const char line[] =
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\","
		"\"resourceVersion\":\"5\",\"annotations\":{\"x\":\"a\\u0000b\"}}}}";
	struct kube_watch_event event;
	struct err err = {0};

	(void)state;
	assert_int_equal(kube_watch_event_parse(line, sizeof(line) - 1, &event, &err), 0);
	assert_int_equal(event.type, KUBE_WATCH_ADDED);
	assert_string_equal(event.version, "5");
	kube_watch_event_done(&event);
}

/* ---- kubeconfigs ---- */

#define HEAD                                                                                       \
	"current-context: b\n"                                                                     \
	"contexts:\n"                                                                              \
	"- {name: a, context: {cluster: none, user: none}}\n"                                      \
	"- {name: b, context: {cluster: two, user: me}}\n"

static int parse(const char *text, struct kube_config *config, struct err *err)
{
	return kube_config_parse("kc", "/folder", text, strlen(text), config, err);
}

static void a_kubeconfig_is_read(void **state)
{
	static const char text[] = HEAD "clusters:\n"
					"- name: one\n"
					"  cluster: {server: 'https://one'}\n"
					"- name: two\n"
					"  cluster:\n"
					"    server: https://two:6443/prefix/\n"
					"    certificate-authority: pki/ca.crt\n"
					"    certificate-authority-data: \"aGV sbG8=\"\n"
					"    tls-server-name: kubernetes\n"
					"    insecure-skip-tls-verify: true\n"
					"users:\n"
					"- name: me\n"
					"  user:\n"
					"    token: abc\n"
					"    tokenFile: token\n"
					"    client-certificate: /etc/c.pem\n"
					"    client-key: key.pem\n";
	struct kube_config config;
	struct err err = {0};

	(void)state;
	assert_int_equal(parse(text, &config, &err), 0);
	assert_string_equal(config.server, "https://two:6443/prefix");
	/* Data come before files, a file before a token. */
	assert_string_equal(config.ca_pem, "hello");
	assert_null(config.ca_file);
	assert_true(config.insecure);
	assert_string_equal(config.tls_server_name, "kubernetes");
	assert_string_equal(config.token_file, "/folder/token");
	assert_null(config.token);
	assert_string_equal(config.cert_file, "/etc/c.pem");
	assert_string_equal(config.key_file, "/folder/key.pem");
	kube_config_done(&config);
	/* JSON is YAML. */
	assert_int_equal(
		parse("{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":"
		      "{\"cluster\":\"c\"}}],\"clusters\":[{\"name\":\"c\",\"cluster\":"
		      "{\"server\":\"http://127.0.0.1:8080\"}}]}",
			&config, &err),
		0);
	assert_string_equal(config.server, "http://127.0.0.1:8080");
	kube_config_done(&config);
}

static void a_kubeconfig_that_lacks_something_says_what(void **state)
{
	static const struct {
		const char *text, *complaint;
	} cases[] = {
		{"", "current-context"},
		{"[]", "current-context"},
		{"a: [", "line"},
		{"current-context: x\n", "no context \"x\""},
		{HEAD, "no cluster \"two\""},
		{HEAD "clusters: [{name: two, cluster: {server: https://x}}]\n", "no user \"me\""},
		{HEAD "users: [{name: me, user: {}}]\nclusters: [{name: two, cluster: {}}]\n",
			"server"},
		{HEAD "users: [{name: me, user: {}}]\nclusters: [{name: two, cluster: {server: "
		      "'ftp://x'}}]\n",
			"server"},
		{HEAD "users: [{name: me, user: {}}]\nclusters: [{name: two, cluster: {server: "
		      "'https://'}}]\n",
			"server"},
		{HEAD "users: [{name: me, user: {}}]\nclusters: [{name: two, cluster: {server: "
		      "\"https://x\\r\\ny\"}}]\n",
			"server"},
		{HEAD "users: [{name: me, user: {exec: {command: x}}}]\nclusters: [{name: two, "
		      "cluster: "
		      "{server: https://x}}]\n",
			"exec"},
		{HEAD "users: [{name: me, user: {client-key: x}}]\nclusters: [{name: two, cluster: "
		      "{server: https://x}}]\n",
			"client-certificate"},
		{HEAD "users: [{name: me, user: {token: \"a b\"}}]\nclusters: [{name: two, "
		      "cluster: "
		      "{server: https://x}}]\n",
			"token"},
		{HEAD "users: [{name: me, user: {client-key-data: '!'}}]\nclusters: [{name: two, "
		      "cluster: {server: https://x}}]\n",
			"base64"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct kube_config config;
		struct err err = {0};

		assert_int_equal(parse(cases[i].text, &config, &err), -EINVAL);
		if (strstr(err.text, cases[i].complaint) == NULL) {
			fail_msg("\"%s\" does not name %s", err.text, cases[i].complaint);
		}
	}
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	(void)fputs(text, file);
	(void)fclose(file);
}

static void a_pod_is_told_where_the_server_is(void **state)
{
	char folder[] = "/tmp/strake-kube-test-XXXXXX", command[64];
	struct kube_config config;
	struct err err = {0};

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)unsetenv("KUBERNETES_SERVICE_HOST");
	assert_int_equal(kube_config_in_cluster(folder, &config, &err), -ENOENT);
	(void)setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
	(void)setenv("KUBERNETES_SERVICE_PORT", "443", 1);
	assert_int_equal(kube_config_in_cluster(folder, &config, &err), -ENOENT);
	assert_non_null(strstr(err.text, "ca.crt"));
	write_file(folder, "ca.crt", "x");
	assert_int_equal(kube_config_in_cluster(folder, &config, &err), 0);
	assert_string_equal(config.server, "https://[fd00::1]:443");
	kube_config_done(&config);
	(void)snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantities_are_exact_and_rounded_up),
		cmocka_unit_test(what_is_no_quantity_is_refused),
		cmocka_unit_test(quantities_are_written_canonically),
		cmocka_unit_test(paths_lead_to_what_is_there_only),
		cmocka_unit_test(a_condition_changes_its_time_with_its_status_only),
		cmocka_unit_test(versions_are_compared_as_numbers),
		cmocka_unit_test(a_nul_in_somebodys_annotation_harms_nobody),
		cmocka_unit_test(a_kubeconfig_is_read),
		cmocka_unit_test(a_kubeconfig_that_lacks_something_says_what),
		cmocka_unit_test(a_pod_is_told_where_the_server_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
