/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "launcher/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/record_test.XXXXXX";

static void count(const struct record *record, void *ctx)
{
	struct record *last = ctx;

	last[0] = *record;
	last[1].fuse_connection++;
}

static unsigned look(struct record *ret_last)
{
	struct record found[2] = {0};

	records_each(folder, count, found);
	*ret_last = found[0];
	return found[1].fuse_connection;
}

static void test_a_record_comes_back(void **state)
{
	struct record record = {.name = "v.1", .fuse_connection = 57};
	struct record found;
	struct err err;

	(void)state;
	assert_int_equal(look(&found), 0);
	assert_int_equal(record_write(folder, &record, &err), 0);
	assert_int_equal(look(&found), 1);
	assert_memory_equal(&found, &record, sizeof(record));
	record.disk_sequence = UINT64_MAX;
	memcpy(record.device, "/dev/loop12", 12);
	assert_int_equal(record_write(folder, &record, &err), 0);
	assert_int_equal(look(&found), 1);
	assert_memory_equal(&found, &record, sizeof(record));
	record_remove(folder, "v.1");
	assert_int_equal(look(&found), 0);
}

static void put(const char *name, const char *text)
{
	char path[100];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	(void)fputs(text, file);
	(void)fclose(file);
}

/* The numbers may be somebody else's by now. */
static void test_those_of_another_boot_are_removed(void **state)
{
	struct record found;

	(void)state;
	put("old", "boot=00000000-0000-4000-8000-000000000000 fuse_connection=1 disk_sequence=2 "
		   "device=/dev/loop3\n");
	put("empty", "");
	put("cut", "boot=");
	put(".new", "x");
	assert_int_equal(look(&found), 0);
	assert_int_equal(rmdir(folder), 0);
	assert_non_null(mkdtemp(strcpy(folder, "/tmp/record_test.XXXXXX")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_record_comes_back),
		cmocka_unit_test(test_those_of_another_boot_are_removed),
	};

	if (mkdtemp(folder) == NULL) {
		return 1;
	}
	int result = cmocka_run_group_tests(tests, NULL, NULL);

	(void)rmdir(folder);
	return result;
}
