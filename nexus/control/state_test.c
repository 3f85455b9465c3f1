/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/testing.h"
#include "daemon/file.h"
#include "nexus/control/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fill(struct volume_record *record)
{
	struct rng rng;

	memset(record, 0, sizeof(*record));
	rng_init(&rng, 7);
	/* The other file's name is the beginning of this. */
	(void)snprintf(record->name, sizeof(record->name), "db.1");
	uuid_make(&record->uuid, &rng);
	record->size_bytes = UINT64_C(64) << 40;
	record->lineage = UINT64_C(0xfedcba9876543210);
	record->attach = UINT32_MAX;
	record->capability.version = CAPABILITY_VERSION;
	record->capability.key = 7;
	memset(record->capability.mac, 0xa5, sizeof(record->capability.mac));
	record->inc = 17;
	record->min_insync = 2;
	record->copies = 3;
	record->no_quorum_s = 45;
	(void)snprintf(
		record->boot_id, sizeof(record->boot_id), "f8b7c8aa-0000-1111-2222-333344445555");
	record->opened = true;
	record->frontend = FRONTEND_NVME;
	record->copies = 2;
	record->voter_count = 3;
	for (unsigned i = 0; i < record->voter_count; i++) {
		struct volume_voter *voter = &record->voters[i];

		uuid_make(&voter->replica, &rng);
		uuid_make(&voter->agent, &rng);
		voter->kind = i == 2 ? VOTER_ARBITER : VOTER_DATA;
		(void)snprintf(voter->address.host, sizeof(voter->address.host),
			i == 1 ? "fe80::1" : "10.0.0.%u", i);
		voter->address.port = (uint16_t)(4430 + i);
		voter->nsid = 65537 + i;
		voter->local = i == 0;
	}
}

struct found {
	unsigned good, bad;
	struct volume_record record;
	struct err err;
};

static void found_one(
	void *ctx, const char *file, const struct volume_record *record, const struct err *err)
{
	struct found *found = ctx;

	(void)file;
	if (record != NULL) {
		found->good++;
		found->record = *record;
	} else {
		found->bad++;
		found->err = *err;
	}
}

static int folder_setup(void **state)
{
	char *folder = strdup("/tmp/state_test.XXXXXX");

	assert_non_null(mkdtemp(folder));
	*state = folder;
	struct found none = {0};
	struct err err;

	/* Makes volumes/. */
	assert_int_equal(volume_records_load(folder, found_one, &none, &err), 0);
	assert_int_equal(none.good + none.bad, 0);
	return 0;
}

static int folder_teardown(void **state)
{
	char path[200];

	(void)snprintf(path, sizeof(path), "%s/volumes", (char *)*state);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(*state), 0);
	free(*state);
	return 0;
}

static void test_record_comes_back_as_saved(void **state)
{
	const char *folder = *state;
	struct volume_record record;
	struct found found = {0};
	struct err err = {0};

	fill(&record);
	record.used = true;
	record.waited =
		(struct epoch){.attach = 3, .inc = 4, .nonce = UINT64_C(0x8123456789abcdef)};
	record.lineage_known = record.recovered = true;
	assert_int_equal(volume_record_save(folder, &record, &err), 0);
	record.inc++;
	assert_int_equal(volume_record_save(folder, &record, &err), 0);
	assert_int_equal(volume_records_load(folder, found_one, &found, &err), 0);
	assert_int_equal(found.good, 1);
	assert_int_equal(found.bad, 0);
	assert_memory_equal(&found.record, &record, sizeof(record));
	assert_int_equal(volume_record_remove(folder, record.name, &err), 0);
}

/* A file that was damaged is named and left alone; the others are read. */
static void test_bad_files_are_told(void **state)
{
	const char *folder = *state;
	struct volume_record record;
	struct found found = {0};
	struct err err = {0};
	struct strbuf text;
	char path[200], copy[200];

	fill(&record);
	assert_int_equal(volume_record_save(folder, &record, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/volumes/db.1.json", folder);
	(void)snprintf(copy, sizeof(copy), "%s/volumes/db.json", folder);
	strbuf_init(&text);
	assert_int_equal(file_read(path, 65536, &text, &err), 0);
	/* Cut anywhere, it is refused. */
	for (size_t length = 0; length + 1 < text.length; length += 7) {
		assert_int_equal(file_replace(copy, text.text, length, &err), 0);
		assert_true(volume_record_load(copy, &record, &err) < 0);
		assert_non_null(strstr(err.text, copy));
	}
	assert_int_equal(file_replace(copy, text.text, text.length, &err), 0);
	assert_int_equal(volume_records_load(folder, found_one, &found, &err), 0);
	assert_int_equal(found.good, 1);
	assert_int_equal(found.bad, 1);
	assert_non_null(strstr(found.err.text, "is the state of volume db.1"));
	strbuf_done(&text);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(unlink(copy), 0);
}

static void test_checks(void **state)
{
	struct volume_record record;
	struct err err = {0};

	(void)state;
	fill(&record);
	assert_int_equal(volume_record_check(&record, &err), 0);
	record.size_bytes += 4096;
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
	fill(&record);
	record.size_bytes = 4095;
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
	fill(&record);
	record.voters[1].replica = record.voters[0].replica;
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
	assert_non_null(strstr(err.text, "twice"));
	fill(&record);
	record.no_quorum_s = NO_QUORUM_S_MAX + 1;
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
	fill(&record);
	record.min_insync = 3;
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
	fill(&record);
	record.voters[0].kind = record.voters[1].kind = VOTER_ARBITER;
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
	fill(&record);
	(void)snprintf(record.name, sizeof(record.name), "../x");
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
	fill(&record);
	record.voter_count = 0;
	assert_int_equal(volume_record_check(&record, &err), -EINVAL);
}

static void refuse_as_other(const struct volume_record *wanted, const char *what)
{
	struct volume_record record;
	struct err err = {0};

	fill(&record);
	assert_int_equal(volume_record_compare(&record, wanted, &err), -EEXIST);
	assert_non_null(strstr(err.text, what));
}

static void test_the_same_volume_again(void **state)
{
	struct volume_record record, wanted;
	struct volume_voter voter;
	struct err err = {0};

	(void)state;
	fill(&record);
	fill(&wanted);
	assert_int_equal(volume_record_compare(&record, &wanted, &err), 0);
	assert_false(volume_record_relocate(&record, &wanted));
	/* It may have been made bigger before it was ever open, not afterwards. */
	record.size_bytes -= 4096;
	assert_int_equal(volume_record_compare(&record, &wanted, &err), 0);
	record.used = true;
	assert_int_equal(volume_record_compare(&record, &wanted, &err), -EEXIST);
	fill(&record);
	/* What this nexus made of it since, and the order and places of the voters, do not count.
	 */
	wanted.lineage = 1;
	wanted.attach = 1;
	wanted.inc = 0;
	voter = wanted.voters[0];
	wanted.voters[0] = wanted.voters[2];
	wanted.voters[2] = voter;
	wanted.voters[2].address.port = 9;
	wanted.voters[2].nsid = 4;
	wanted.voters[2].local = false;
	assert_int_equal(volume_record_compare(&record, &wanted, &err), 0);
	assert_true(volume_record_relocate(&record, &wanted));
	assert_int_equal(record.voters[0].address.port, 9);
	assert_int_equal(record.voters[0].nsid, 4);
	assert_false(record.voters[0].local);
	assert_int_equal(record.voters[2].kind, VOTER_ARBITER);
	assert_int_equal(record.inc, 17);
	assert_false(volume_record_relocate(&record, &wanted));
}

/* The API's copy of it may be older than the record, or newer. */
static void test_a_lineage_is_told(void **state)
{
	struct volume_record record;

	(void)state;
	fill(&record);
	record.lineage_known = false;
	record.attach = 5;
	assert_true(volume_record_take_lineage(&record, 42, 3));
	assert_int_equal(record.lineage, 42);
	assert_true(record.lineage_known);
	assert_false(volume_record_take_lineage(&record, 42, 9));
	/* Recovered here, under 5, and the API has not heard of it. */
	assert_false(volume_record_take_lineage(&record, 43, 4));
	assert_false(volume_record_take_lineage(&record, 43, 5));
	assert_int_equal(record.lineage, 42);
	/* Recovered elsewhere since. */
	record.recovered = true;
	assert_true(volume_record_take_lineage(&record, 43, 6));
	assert_int_equal(record.lineage, 43);
	assert_false(record.recovered);
	/* An operator's word. */
	assert_true(volume_record_take_lineage(&record, 44, 0));
	assert_int_equal(record.lineage, 44);
}

static void test_another_volume_of_this_name(void **state)
{
	struct volume_record wanted;

	(void)state;
	fill(&wanted);
	wanted.uuid.b[0] ^= 1;
	refuse_as_other(&wanted, "with uuid");
	fill(&wanted);
	wanted.size_bytes -= 4096;
	refuse_as_other(&wanted, "bytes, not");
	fill(&wanted);
	wanted.min_insync = 1;
	refuse_as_other(&wanted, "with min_insync 2, not 1");
	fill(&wanted);
	wanted.voters[1].replica.b[0] ^= 1;
	refuse_as_other(&wanted, "without replica");
	fill(&wanted);
	wanted.voters[2].kind = VOTER_DATA;
	refuse_as_other(&wanted, "as arbiter, not data");
	fill(&wanted);
	wanted.voter_count = 2;
	refuse_as_other(&wanted, "with 3 voters, not 2");
}

/* The file's voters are those of the committed V, and who is being added. */
static void test_voters_follow(void **state)
{
	struct volume_record record;
	struct volume_voter voter;
	struct cfg cfg = {
		.gen = 3, .voter_count = 2, .size_bytes = UINT64_C(5) << 30, .lineage = 42};
	struct uuid nobody = {{0}};
	struct err err = {0};
	bool is_full;

	(void)state;
	fill(&record);
	cfg.voters[0].id = record.voters[0].replica;
	cfg.voters[1].id = record.voters[2].replica;
	voter = record.voters[1];
	voter.replica.b[0] ^= 1;
	assert_true(volume_record_learn(&record, &voter, &is_full));
	assert_false(volume_record_learn(&record, &voter, &is_full));
	assert_false(is_full);
	voter.address.port++;
	assert_true(volume_record_learn(&record, &voter, &is_full));
	assert_int_equal(record.voter_count, 4);
	assert_true(volume_record_follow(&record, &cfg, &voter.replica));
	assert_int_equal(record.size_bytes, UINT64_C(5) << 30);
	assert_true(record.used);
	assert_int_equal(record.voter_count, 3);
	assert_int_equal(record.voters[2].address.port, voter.address.port);
	assert_false(volume_record_follow(&record, &cfg, &voter.replica));
	/* Which lineage is the volume's is known from the first commit on. */
	assert_true(record.lineage_known);
	assert_int_equal(record.lineage, 42);
	/* A recovery is over when it was opened. */
	record.recovered = true;
	assert_true(volume_record_follow(&record, &cfg, &voter.replica));
	assert_false(record.recovered);
	cfg.size_bytes += 4096;
	assert_true(volume_record_follow(&record, &cfg, &voter.replica));
	assert_true(volume_record_follow(&record, &cfg, &nobody));
	assert_int_equal(record.voter_count, 2);
	/* Fewer copies than min_insync, even none whose place is known, is no bad record now. */
	record.min_insync = 3;
	assert_int_equal(volume_record_check(&record, &err), 0);
	while (record.voter_count < REPL_VOTERS_MAX) {
		voter.replica.b[0]++;
		assert_true(volume_record_learn(&record, &voter, &is_full));
	}
	voter.replica.b[0]++;
	assert_false(volume_record_learn(&record, &voter, &is_full));
	assert_true(is_full);
}

/* Who knows that it was used knows no better who its voters are. */
static void test_a_used_volume_again(void **state)
{
	struct volume_record record, wanted;
	struct err err = {0};

	(void)state;
	fill(&record);
	fill(&wanted);
	wanted.voters[1].replica.b[0] ^= 1;
	wanted.min_insync = 1;
	assert_int_equal(volume_record_compare(&record, &wanted, &err), -EEXIST);
	wanted.used = true;
	assert_int_equal(volume_record_compare(&record, &wanted, &err), 0);
	wanted.size_bytes += 4096;
	assert_int_equal(volume_record_compare(&record, &wanted, &err), 0);
	wanted.size_bytes -= 8192;
	assert_int_equal(volume_record_compare(&record, &wanted, &err), -EEXIST);
}

/* Of a version that knew no changes of voters. */
static void test_a_file_of_before(void **state)
{
	const char *folder = *state;
	struct volume_record record;
	struct strbuf text;
	struct err err = {0};
	char path[200], *at;

	fill(&record);
	assert_int_equal(volume_record_save(folder, &record, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/volumes/%s.json", folder, record.name);
	strbuf_init(&text);
	assert_int_equal(file_read(path, 65536, &text, &err), 0);
	/* Another name for a member is as good as none. */
	at = strstr(text.text, "\"copies\"");
	assert_non_null(at);
	at[1] = 'x';
	at = strstr(text.text, "\"used\"");
	assert_non_null(at);
	at[1] = 'x';
	at = strstr(text.text, "\"waited\"");
	assert_non_null(at);
	at[1] = 'x';
	assert_int_equal(file_replace(path, text.text, text.length, &err), 0);
	assert_int_equal(volume_record_load(path, &record, &err), 0);
	assert_int_equal(record.copies, 2);
	assert_false(record.used);
	assert_int_equal(record.waited.attach, 0);
	strbuf_done(&text);
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_record_comes_back_as_saved, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(
			test_bad_files_are_told, folder_setup, folder_teardown),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_the_same_volume_again),
		cmocka_unit_test(test_a_lineage_is_told),
		cmocka_unit_test(test_another_volume_of_this_name),
		cmocka_unit_test(test_voters_follow),
		cmocka_unit_test(test_a_used_volume_again),
		cmocka_unit_test_setup_teardown(
			test_a_file_of_before, folder_setup, folder_teardown),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
