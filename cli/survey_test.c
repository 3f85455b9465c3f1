/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "cli/survey.h"

#include <errno.h>
#include <string.h>

#define MAX 4

/* Four replicas a... b... c... d..., the last one an arbiter; whoever is in `found` answers. */
struct bench {
	Strake__V1__Replica replicas[MAX];
	Strake__V1__Configuration cfgs[MAX];
	Strake__V1__ConfigurationVoter voters[MAX][MAX];
	Strake__V1__ConfigurationVoter *lists[MAX][MAX];
	const Strake__V1__Replica *found[MAX];
	struct survey survey;
};

static char ids[MAX][12] = {"aaaaaaaa-1", "bbbbbbbb-2", "cccccccc-3", "dddddddd-4"};
static char data[] = "data", arbiter[] = "arbiter", state[] = "OutOfSync";

/* Replica i has the configuration attach.1/gen of that lineage, with bits of S among `voters`. */
static void has(struct bench *bench, unsigned i, uint64_t lineage, uint32_t attach, uint32_t gen,
	unsigned insync, unsigned voters)
{
	Strake__V1__Configuration *cfg = &bench->cfgs[i];

	strake__v1__replica__init(&bench->replicas[i]);
	strake__v1__configuration__init(cfg);
	bench->replicas[i].uuid = ids[i];
	bench->replicas[i].state = state;
	bench->replicas[i].kind = i == 3 ? arbiter : data;
	bench->replicas[i].configuration = cfg;
	cfg->lineage = lineage;
	cfg->attach = attach;
	cfg->inc = 1;
	cfg->generation = gen;
	cfg->wgen = attach * 10;
	cfg->voters = bench->lists[i];
	for (unsigned j = 0; j < MAX; j++) {
		if ((voters >> j & 1) != 0) {
			Strake__V1__ConfigurationVoter *voter = &bench->voters[i][cfg->n_voters];

			strake__v1__configuration_voter__init(voter);
			voter->replica = ids[j];
			voter->kind = j == 3 ? arbiter : data;
			voter->in_sync = (insync >> j & 1) != 0;
			bench->lists[i][cfg->n_voters++] = voter;
		}
	}
	bench->found[bench->survey.count++] = &bench->replicas[i];
	bench->survey.replicas = bench->found;
}

static void test_nothing_to_recover(void **ctx)
{
	struct bench bench = {0};
	char missing[SURVEY_TEXT_SIZE];

	(void)ctx;
	assert_null(survey_newest(&bench.survey, 0));
	has(&bench, 0, 7, 2, 1, 7, 7);
	has(&bench, 1, 7, 2, 3, 6, 7);
	assert_ptr_equal(survey_newest(&bench.survey, 0), &bench.cfgs[1]);
	assert_true(survey_can_open(&bench.survey, &bench.cfgs[1], missing));
	assert_string_equal(missing, "cccccccc (in sync): not found");
	/* What the volume has in sync is in the middle of a rebuild. */
	static char rebuilding[] = "Rebuilding";

	bench.replicas[1].state = rebuilding;
	assert_false(survey_can_open(&bench.survey, &bench.cfgs[1], missing));
}

static void test_members_lost(void **ctx)
{
	struct bench bench = {0};
	char missing[SURVEY_TEXT_SIZE];

	(void)ctx;
	/* A is stale, the arbiter knows; B was in sync. */
	has(&bench, 0, 7, 2, 1, 3, 11);
	has(&bench, 3, 7, 2, 4, 2, 11);
	bench.replicas[3].promised = 9;
	assert_false(survey_can_open(&bench.survey, survey_newest(&bench.survey, 7), missing));
	assert_string_equal(missing, "bbbbbbbb (in sync): not found");
	assert_int_equal(survey_attach(&bench.survey), 9);
	assert_int_equal(survey_wgen(&bench.survey), 20);
}

static void test_majority_lost(void **ctx)
{
	struct bench bench = {0};
	char missing[SURVEY_TEXT_SIZE];

	(void)ctx;
	has(&bench, 0, 7, 2, 1, 7, 7);
	assert_false(survey_can_open(&bench.survey, &bench.cfgs[0], missing));
	assert_string_equal(
		missing, "bbbbbbbb (in sync): not found, cccccccc (in sync): not found");
}

/* What answers, but cannot be used. */
static void test_broken_ones_are_lost(void **ctx)
{
	static char abstains[] = "Abstains";
	struct bench bench = {0};
	char missing[SURVEY_TEXT_SIZE];

	(void)ctx;
	has(&bench, 0, 7, 2, 1, 7, 7);
	has(&bench, 1, 7, 2, 1, 7, 7);
	bench.replicas[1].state = abstains;
	bench.replicas[1].configuration = NULL;
	assert_false(survey_can_open(&bench.survey, &bench.cfgs[0], missing));
	assert_string_equal(missing,
		"bbbbbbbb (in sync): its metadata are unreadable, cccccccc (in sync): not found");
	assert_true(survey_is_unreached(-EIO));
	assert_true(survey_is_unreached(-ETIMEDOUT));
	assert_false(survey_is_unreached(-ESTALE)); /* somebody has it, under a higher number */
	assert_false(survey_is_unreached(-EBUSY));
	assert_false(survey_is_unreached(-EINVAL));
}

/* Its configuration counts, its vote does not. */
static void test_newer_ones_have_no_vote(void **ctx)
{
	static char newer[] = "Newer";
	struct bench bench = {0};
	char missing[SURVEY_TEXT_SIZE];

	(void)ctx;
	has(&bench, 0, 7, 2, 1, 7, 7);
	has(&bench, 1, 7, 3, 1, 7, 7);
	bench.replicas[1].state = newer;
	assert_ptr_equal(survey_newest(&bench.survey, 0), &bench.cfgs[1]);
	assert_false(survey_can_open(&bench.survey, &bench.cfgs[1], missing));
	assert_string_equal(missing,
		"bbbbbbbb (in sync): its metadata are newer than its pool-agent: upgrade the "
		"pool-agent, cccccccc (in sync): not found");
}

static void test_of_two_lineages(void **ctx)
{
	struct bench bench = {0};
	char missing[SURVEY_TEXT_SIZE];
	unsigned count;

	(void)ctx;
	has(&bench, 0, 8, 5, 1, 1, 1);
	has(&bench, 1, 7, 4, 9, 6, 7);
	has(&bench, 2, 7, 4, 8, 7, 7);
	assert_ptr_equal(survey_newest(&bench.survey, 0), &bench.cfgs[0]);
	assert_ptr_equal(survey_newest(&bench.survey, 7), &bench.cfgs[1]);
	assert_false(survey_is_left_behind(&bench.survey, &bench.replicas[0]));
	assert_true(survey_is_left_behind(&bench.survey, &bench.replicas[1]));
	assert_true(survey_can_open(&bench.survey, &bench.cfgs[0], missing));
	assert_true(survey_can_open(&bench.survey, &bench.cfgs[1], missing));
	assert_string_equal(missing, "aaaaaaaa (out of sync): of another lineage");
	assert_ptr_equal(survey_find(&bench.survey, "bb", &count), &bench.replicas[1]);
	assert_null(survey_find(&bench.survey, "", &count));
	assert_int_equal(count, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_to_recover),
		cmocka_unit_test(test_members_lost),
		cmocka_unit_test(test_majority_lost),
		cmocka_unit_test(test_broken_ones_are_lost),
		cmocka_unit_test(test_newer_ones_have_no_vote),
		cmocka_unit_test(test_of_two_lineages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
