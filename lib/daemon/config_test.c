/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/testing.h"
#include "daemon/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct config_key keys[] = {
	{"name", CONFIG_STRING, true, NULL, 1, 16, "the name"},
	{"export.address", CONFIG_STRING, false, "0.0.0.0", 1, 64, NULL},
	{"export.port", CONFIG_UINT, false, "4431", 1, 65535, "a TCP port"},
	{"buffers", CONFIG_SIZE, false, "8M", 1024, 0, "a size"},
	{"strict", CONFIG_BOOL, false, "true", 0, 0, NULL},
	{"pools[].name", CONFIG_STRING, true, NULL, 1, 0, NULL},
	{"pools[].disk", CONFIG_STRING, true, NULL, 1, 0, "a path"},
	{"pools[].size", CONFIG_SIZE, false, NULL, 0, 0, NULL},
	{"hosts[]", CONFIG_STRING, false, NULL, 1, 0, NULL},
};

static int parse(const char *text, struct config **ret_config, struct err *err)
{
	return config_parse(
		"test.yaml", text, strlen(text), keys, ARRAY_COUNT(keys), ret_config, err);
}

static void test_values_and_fallbacks(void **state)
{
	struct config *config = NULL;
	struct err err = {0};

	(void)state;
	if (parse("# a comment\nname: nexus\nexport: {port: 4500}\npools:\n  - name: a\n    disk: "
		  "/dev/sdb\n"
		  "  - {name: b, disk: 'file:///b', size: 10G}\nhosts: [x, y]\nstrict: false\n",
		    &config, &err) < 0) {
		fail_msg("%s", err.text);
	}
	assert_string_equal(config_string(config, "name"), "nexus");
	assert_string_equal(config_string(config, "export.address"), "0.0.0.0");
	assert_int_equal(config_number(config, "export.port"), 4500);
	assert_int_equal(config_number(config, "buffers"), 8u << 20);
	assert_false(config_bool(config, "strict"));
	assert_int_equal(config_count(config, "pools"), 2);
	assert_string_equal(config_string(config, "pools[%u].disk", 1), "file:///b");
	assert_int_equal(config_number(config, "pools[%u].size", 1), UINT64_C(10) << 30);
	assert_false(config_has(config, "pools[%u].size", 0));
	assert_true(config_has(config, "export.port"));
	assert_int_equal(config_count(config, "hosts"), 2);
	assert_string_equal(config_string(config, "hosts[%u]", 1), "y");
	assert_int_equal(config_refuse(config, &err, "pools[1].disk", "is busy"), -EINVAL);
	assert_string_equal(err.text, "test.yaml:7:21: pools[1].disk: is busy");
	config_free(config);
}

static void test_environment_variables(void **state)
{
	static const struct {
		const char *text, *error;
	} bad[] = {
		{"name: x\nhosts: ['${NOT_SET_1}']\n",
			"test.yaml:2:9: hosts[0]: the environment variable NOT_SET_1 is not set"},
		{"name: ${}\n", "is no environment variable"},
		{"name: ${STRAKE_A\n", "is no environment variable"},
		{"name: ${1A}\n", "is no environment variable"},
		{"name: $STRAKE_A\n", "a dollar is written $$"},
		{"name: a$\n", "a dollar is written $$"},
		{"name: ${STRAKE_EMPTY}\n", "test.yaml:1:7: name: must not be empty"},
		{"name: x\nbuffers: ${STRAKE_A}\n", "buffers"},
		{"name: ${STRAKE_A}${STRAKE_A}${STRAKE_A}${STRAKE_A}\n", "is too long"},
	};
	struct config *config = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(setenv("STRAKE_A", "node-1", 1), 0);
	assert_int_equal(setenv("STRAKE_PORT", "4500", 1), 0);
	assert_int_equal(setenv("STRAKE_EMPTY", "", 1), 0);
	if (parse("name: ${STRAKE_A}\nexport: {port: \"${STRAKE_PORT}\"}\nhosts:\n  - "
		  "a-${STRAKE_A}.x$$\n"
		  "  - $${STRAKE_A}${STRAKE_EMPTY}\n",
		    &config, &err) < 0) {
		fail_msg("%s", err.text);
	}
	assert_string_equal(config_string(config, "name"), "node-1");
	assert_int_equal(config_number(config, "export.port"), 4500);
	assert_string_equal(config_string(config, "hosts[%u]", 0), "a-node-1.x$");
	assert_string_equal(config_string(config, "hosts[%u]", 1), "${STRAKE_A}");
	config_free(config);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(parse(bad[i].text, &config, &err), -EINVAL);
		if (strstr(err.text, bad[i].error) == NULL) {
			fail_msg("\"%s\" lacks \"%s\"", err.text, bad[i].error);
		}
	}
}

static void test_absent_values(void **state)
{
	struct config *config = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(parse("name: n", &config, &err), 0);
	assert_int_equal(config_number(config, "export.port"), 4431);
	assert_true(config_bool(config, "strict"));
	assert_int_equal(config_count(config, "pools"), 0);
	assert_int_equal(config_refuse(config, &err, "export.port", "is taken"), -EINVAL);
	assert_string_equal(err.text, "test.yaml: export.port: is taken");
	config_free(config);
}

/* Each is refused, at its place and with what helps. */
static void test_refusals(void **state)
{
	static const struct {
		const char *text;
		const char *expected;
	} cases[] = {
		{"", "test.yaml: key \"name\" is missing (the name)"},
		{"name: n\nexpord: 1\n", "test.yaml:2:1: unknown key \"expord\"; known keys: name, "
					 "export, buffers, strict, pools, hosts"},
		{"name: n\nexport:\n  prot: 1\n",
			"test.yaml:3:3: unknown key \"prot\"; known keys in export: address, port"},
		{"name: n\npools:\n- name: a\n  disc: b\n",
			"test.yaml:4:3: unknown key \"disc\"; known keys in pools[0]: name, disk, "
			"size"},
		{"name: n\npools:\n- name: a\n",
			"test.yaml:3:3: pools[0]: key \"disk\" is missing (a path)"},
		{"name: n\nname: m\n", "test.yaml:2:1: key \"name\" is there twice"},
		{"name: [a]\n", "test.yaml:1:7: name must not be a list"},
		{"name: {a: b}\n", "test.yaml:1:7: name must not be a mapping"},
		{"name:\n", "test.yaml:1:6: name: must not be empty; it is the name"},
		{"name: aaaaaaaaaaaaaaaaa\n", "test.yaml:1:7: name: is too long; it is the name"},
		{"name: \"a\\0b\"\n", "test.yaml:1:7: name holds a NUL character"},
		{"name: n\nexport: 5\n", "test.yaml:2:9: export must be a mapping or a list"},
		{"name: n\nexport: {port: 70000}\n",
			"test.yaml:2:16: export.port: 70000 is out of range; allowed: 1 to 65535; "
			"it is a TCP port"},
		{"name: n\nexport: {port: -1}\n",
			"test.yaml:2:16: export.port: \"-1\" is no whole number; it is a TCP port"},
		{"name: n\nstrict: maybe\n",
			"test.yaml:2:9: strict: \"maybe\" is neither true nor false"},
		{"- a\n", "test.yaml:1:1: the configuration must not be a list"},
		{"name: n\n--- \nname: m\n", "test.yaml:3:1: a second document"},
		{"just text\n", "test.yaml:1:1: the configuration must be a mapping or a list"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct config *config = NULL;
		struct err err = {0};

		assert_int_equal(parse(cases[i].text, &config, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].expected);
	}
}

/* What the parser refuses has a line too. */
static void test_malformed_yaml(void **state)
{
	static const char *const cases[] = {"name: n\n  bad: [\n", "name: \"n\n",
		"a: &x [*x]\nname: b", "\tname: n\n", "name: n\nexport: *none\n", "\xff\xfe\xff"};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct config *config = NULL;
		struct err err = {0};

		assert_int_equal(parse(cases[i], &config, &err), -EINVAL);
		assert_int_equal(strncmp(err.text, "test.yaml:", 10), 0);
	}
}

static void test_bombs_are_refused(void **state)
{
	struct config *config = NULL;
	struct err err = {0};
	char *text = malloc(100000);
	size_t length = 0;

	(void)state;
	/* Aliases that multiply. */
	length += (size_t)sprintf(text + length, "name: n\nhosts: [&a x");
	for (unsigned i = 0; i < 9000; i++) {
		length += (size_t)sprintf(text + length, ", *a");
	}
	length += (size_t)sprintf(text + length, "]\n");
	assert_int_equal(parse(text, &config, &err), -EINVAL);
	memset(text, '[', 99999);
	text[99999] = '\0';
	assert_int_equal(parse(text, &config, &err), -EINVAL);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_and_fallbacks),
		cmocka_unit_test(test_environment_variables),
		cmocka_unit_test(test_absent_values),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_malformed_yaml),
		cmocka_unit_test(test_bombs_are_refused),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
