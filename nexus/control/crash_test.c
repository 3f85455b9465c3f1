/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "nexus/control/crash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct uuid volume_id(unsigned number)
{
	return (struct uuid){.b = {(uint8_t)(number >> 8), (uint8_t)number, 1}};
}

static unsigned count_of(const struct crashes *crashes, unsigned number, uint32_t attach)
{
	const struct uuid id = volume_id(number);
	const struct crash *crash = crashes_find(crashes, &id, attach);

	return crash != NULL ? crash->count : 0;
}

static void add(
	struct crashes *crashes, unsigned number, uint32_t attach, const char *work, uint64_t now_s)
{
	const struct uuid id = volume_id(number);

	crashes_add(crashes, &id, attach, work, now_s);
}

static void test_same_work_counts_up(void **state)
{
	struct crashes crashes = {0};

	(void)state;
	add(&crashes, 1, 5, "write", 1000);
	add(&crashes, 2, 1, "write", 1001);
	assert_int_equal(count_of(&crashes, 1, 5), 1);
	add(&crashes, 1, 5, "write", 1002);
	assert_int_equal(count_of(&crashes, 1, 5), 2);
	assert_int_equal(count_of(&crashes, 2, 1), 1);
	/* Another kind of work, a day without one: from the beginning. */
	add(&crashes, 1, 5, "copy", 1003);
	assert_int_equal(count_of(&crashes, 1, 5), 1);
	add(&crashes, 1, 5, "copy", 1003 + CRASHES_DAY_S);
	assert_int_equal(count_of(&crashes, 1, 5), 1);
	add(&crashes, 1, 5, "copy", 1002 + 2 * CRASHES_DAY_S);
	assert_int_equal(count_of(&crashes, 1, 5), 2);
}

static void test_another_attachment_begins_anew(void **state)
{
	struct crashes crashes = {0};

	(void)state;
	add(&crashes, 1, 5, "write", 1000);
	add(&crashes, 1, 5, "write", 1000);
	assert_int_equal(count_of(&crashes, 1, 6), 0);
	add(&crashes, 1, 6, "write", 1001);
	assert_int_equal(count_of(&crashes, 1, 6), 1);
	assert_int_equal(count_of(&crashes, 1, 5), 0);
	assert_int_equal(crashes.count, 1);
}

static void test_oldest_is_forgotten(void **state)
{
	struct crashes crashes = {0};

	(void)state;
	for (unsigned i = 0; i <= CRASHES_MAX; i++) {
		add(&crashes, i, 1, "write", 1000 + i);
	}
	assert_int_equal(crashes.count, CRASHES_MAX);
	assert_int_equal(count_of(&crashes, 0, 1), 0);
	assert_int_equal(count_of(&crashes, 1, 1), 1);
	assert_int_equal(count_of(&crashes, CRASHES_MAX, 1), 1);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void test_file_is_read_as_written(void **state)
{
	static const char *const bad[] = {"", "[]", "{\"format\": 2, \"crashes\": []}",
		"{\"format\": 1, \"crashes\": [{}]}",
		"{\"format\": 1, \"crashes\": [{\"volume\": "
		"\"00010100-0000-0000-0000-000000000000\", \"attach\": 1, \"work\": "
		"\"longer than the longest\", \"count\": 1, \"last\": 1}]}"};
	char folder[] = "/tmp/crash_test.XXXXXX", path[64];
	struct crashes crashes = {0}, read;
	struct err err = {0};

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/crashes.json", folder);
	assert_int_equal(crashes_load(folder, &read, &err), 0);
	assert_int_equal(read.count, 0);
	for (unsigned i = 0; i < CRASHES_MAX; i++) {
		add(&crashes, i, UINT32_MAX - i, "membership", UINT64_C(1) << 40);
	}
	assert_int_equal(crashes_save(folder, &crashes, &err), 0);
	assert_int_equal(crashes_load(folder, &read, &err), 0);
	assert_memory_equal(&read, &crashes, sizeof(read));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_file(path, bad[i]);
		assert_int_equal(crashes_load(folder, &read, &err), -EBADMSG);
		assert_int_equal(read.count, 0);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_work_counts_up),
		cmocka_unit_test(test_another_attachment_begins_anew),
		cmocka_unit_test(test_oldest_is_forgotten),
		cmocka_unit_test(test_file_is_read_as_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
