/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/testing.h"
#include "cli/voter.h"

#include <errno.h>
#include <string.h>

#define R "replica=11111111-2222-4333-8444-555555555555"
#define A "agent=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"

static void test_there_and_back(void **state)
{
	static const char *const texts[] = {
		R "," A ",address=10.0.0.2:4430,nsid=7",
		R "," A ",address=[fd00::2]:4430,nsid=1,local",
		R "," A ",address=10.0.0.2:4430,nsid=4294967294,arbiter",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct voter voter;
		struct err err = {0};
		char text[VOTER_TEXT_SIZE];

		assert_int_equal(voter_parse(texts[i], &voter, &err), 0);
		assert_string_equal(voter_to_text(&voter, text), texts[i]);
	}
}

static void test_any_order(void **state)
{
	struct voter voter;
	struct err err = {0};

	(void)state;
	assert_int_equal(voter_parse("local,nsid=3,address=h:1," A "," R, &voter, &err), 0);
	assert_int_equal(voter.nsid, 3);
	assert_true(voter.local);
	assert_false(voter.arbiter);
	assert_string_equal(voter.address, "h:1");
	assert_string_equal(voter.replica, "11111111-2222-4333-8444-555555555555");
	assert_string_equal(voter.agent, "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee");
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"", "none of replica="},
		{R "," A ",address=h:1", "nsid=N is missing"},
		{R "," A ",nsid=1", "address=HOST:PORT is missing"},
		{R ",address=h:1,nsid=1", "agent=UUID is missing"},
		{A ",address=h:1,nsid=1", "replica=UUID is missing"},
		{R "," R "," A ",address=h:1,nsid=1", "replica= is there twice"},
		{"replica=1111," A ",address=h:1,nsid=1", "\"1111\" is no uuid"},
		{R "," A ",address=h,nsid=1", "\"h\" is not HOST:PORT"},
		{R "," A ",address=:1,nsid=1", "is not HOST:PORT"},
		{R "," A ",address=h:,nsid=1", "is not HOST:PORT"},
		{R "," A ",address=h:1,nsid=0", "no namespace number"},
		{R "," A ",address=h:1,nsid=-1", "no namespace number"},
		{R "," A ",address=h:1,nsid=4294967296", "no namespace number"},
		{R "," A ",address=h:1,nsid=1,", "\"\" is none of"},
		{R "," A ",address=h:1,nsid=1,remote", "\"remote\" is none of"},
	};
	char text[600];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct voter voter;
		struct err err = {0};

		assert_int_equal(voter_parse(bad[i].text, &voter, &err), -EINVAL);
		assert_non_null(strstr(err.text, bad[i].says));
	}
	for (size_t length = 100; length < sizeof(text); length += 30) {
		struct voter voter;
		struct err err = {0};

		memset(text, '1', sizeof(text));
		memcpy(text, "address=", 8);
		text[length - 1] = '\0';
		assert_int_equal(voter_parse(text, &voter, &err), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("voter", tests, NULL, NULL);
}
