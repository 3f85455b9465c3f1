/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "repl/record.h"

#include <errno.h>

static void assert_marks(const struct marks *marks, const char *expected)
{
	for (uint64_t block = 0; expected[block] != '\0'; block++) {
		assert_int_equal(marks_touch(marks, block, 1), expected[block] == 'x');
	}
}

static void test_add_and_remove(void **state)
{
	struct marks marks = {0};

	(void)state;
	assert_false(marks_touch(&marks, 0, UINT64_MAX));
	assert_true(marks_add(&marks, 5, 2));
	assert_true(marks_add(&marks, 1, 1));
	assert_true(marks_add(&marks, 8, 1));
	assert_marks(&marks, ".x...xx.x.");
	assert_true(marks_add(&marks, 4, 5));
	assert_marks(&marks, ".x..xxxxx.");
	assert_int_equal(marks.count, 6);
	marks_remove(&marks, 0, 6);
	assert_marks(&marks, "......xxx.");
	marks_remove(&marks, 7, 1);
	assert_marks(&marks, "......x.x.");
	assert_true(marks_touch(&marks, 0, 7));
	assert_true(marks_touch(&marks, 8, UINT64_MAX - 8));
	assert_false(marks_touch(&marks, 0, 6));
	assert_false(marks_touch(&marks, 9, 100));
}

static void test_limit(void **state)
{
	struct marks marks = {0};

	(void)state;
	assert_false(marks_add(&marks, 0, MARKS_MAX + 1));
	assert_true(marks_add(&marks, 10, MARKS_MAX));
	assert_false(marks_add(&marks, 9, 1));
	assert_true(marks_add(&marks, 10, MARKS_MAX));
	assert_false(marks_add(&marks, 9, MARKS_MAX + 1));
	assert_false(marks_add(&marks, 0, UINT64_MAX));
	assert_int_equal(marks.count, MARKS_MAX);
}

static void test_bytes(void **state)
{
	struct marks marks = {0};
	struct marks again;
	uint8_t bytes[MARKS_ENCODED_SIZE];

	(void)state;
	assert_true(marks_add(&marks, 3, 1));
	assert_true(marks_add(&marks, 300, 2));
	marks_encode(&marks, bytes);
	assert_int_equal(marks_decode(bytes, 3, 302, &again), 0);
	assert_int_equal(again.count, 3);
	assert_true(marks_touch(&again, 301, 1));
	assert_int_equal(marks_decode(bytes, 3, 301, &again), -EBADMSG);
	assert_int_equal(marks_decode(bytes, 2, 302, &again), -EBADMSG);
	assert_int_equal(marks_decode(bytes, 4, 302, &again), -EBADMSG);
	assert_int_equal(marks_decode(bytes, MARKS_MAX + 1, 302, &again), -EBADMSG);
	bytes[0] = 0xff;
	bytes[1] = 0xff;
	assert_int_equal(marks_decode(bytes, 3, 1 << 20, &again), -EBADMSG);
}

/* Who does not know the marks must not open what has some, and may what has none. */
static void test_feature_of_vmeta(void **state)
{
	static struct vmeta vmeta = {.seq = 1, .state = VMETA_READY, .size_bytes = 1 << 20};
	static struct vmeta again;
	uint8_t image[VMETA_SIZE];

	(void)state;
	assert_true(marks_add(&vmeta.marks, 255, 1));
	vmeta_encode(&vmeta, image);
	assert_int_equal(image[20], 1);
	assert_int_equal(vmeta_decode(image, &again), 0);
	assert_true(vmeta_equal(&vmeta, &again));
	marks_remove(&again.marks, 255, 1);
	vmeta_encode(&again, image);
	assert_int_equal(image[20], 0);
	/* One beyond the replica's end. */
	assert_true(marks_add(&vmeta.marks, 256, 1));
	vmeta_encode(&vmeta, image);
	assert_int_equal(vmeta_decode(image, &again), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_remove),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_feature_of_vmeta),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
