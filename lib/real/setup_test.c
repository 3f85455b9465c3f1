/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend is chosen, with backends that are refused. */
#include "base/bytes.h"
#include "base/testing.h"
#include "epoll/epoll.h"
#include "real/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int refusal; /* of the refused backend */

static int refuse(struct real *real, struct err *err)
{
	(void)real;
	return err_set(err, refusal, "the first is refused");
}

static struct real_backend refused_backend;

static int choose(const char *asked, struct real **ret_real, struct err *err)
{
	struct real_options options = {.backends = {&refused_backend, &epoll_backend}};

	refused_backend = epoll_backend;
	refused_backend.name = "first";
	refused_backend.open = refuse;
	if (asked != NULL) {
		setenv("STRAKE_IO", asked, 1);
	} else {
		unsetenv("STRAKE_IO");
	}
	return real_new(&options, ret_real, err);
}

static void test_what_is_lacked_or_forbidden_is_replaced(void **state)
{
	static const int refusals[] = {-ENOSYS, -EPERM};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
		struct real *real = NULL;
		struct err err = {0};

		refusal = refusals[i];
		assert_int_equal(choose(NULL, &real, &err), 0);
		assert_int_equal(strncmp(real_text(real), "epoll, ", 7), 0);
		assert_non_null(strstr(real_why(real), "the first is refused"));
		assert_non_null(strstr(real_why(real), epoll_backend.cost));
		real_free(real);
	}
}

static void test_another_failure_is_told(void **state)
{
	struct real *real = NULL;
	struct err err = {0};

	(void)state;
	refusal = -ENOMEM;
	assert_int_equal(choose(NULL, &real, &err), -ENOMEM);
	assert_string_equal(err.text, "the first is refused");
}

static void test_what_was_asked_for_or_none(void **state)
{
	struct real *real = NULL;
	struct err err = {0};

	(void)state;
	refusal = -EPERM;
	assert_int_equal(choose("first", &real, &err), -EPERM);
	assert_string_equal(err.text, "the first is refused");
	assert_int_equal(choose("aio", &real, &err), -EINVAL);
	assert_string_equal(err.text, "STRAKE_IO is \"aio\": it may be first or epoll or unset");
	assert_int_equal(choose("epoll", &real, &err), 0);
	assert_string_equal(real_why(real), "");
	real_free(real);
	/* Empty is as good as unset. */
	assert_int_equal(choose("", &real, &err), 0);
	assert_string_not_equal(real_why(real), "");
	real_free(real);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_lacked_or_forbidden_is_replaced),
		cmocka_unit_test(test_another_failure_is_told),
		cmocka_unit_test(test_what_was_asked_for_or_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
