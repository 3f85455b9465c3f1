/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
#include "trace/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORDS 64u
#define KEPT    (RECORDS - 8)
#define OBJECT  UINT64_C(0x0123456789abcdef)

struct fixture {
	char folder[64];
	struct trace *trace;
	struct trace_crash crash; /* of the process before */
};

static void make_folder(struct fixture *fixture)
{
	*fixture = (struct fixture){.folder = "/dev/shm/strake-trace-XXXXXX"};
	assert_non_null(mkdtemp(fixture->folder));
}

static void next_process(struct fixture *fixture)
{
	struct err err = {0};

	if (trace_new(fixture->folder, "n", "test", RECORDS, &fixture->trace, &fixture->crash,
		    &err) < 0) {
		fail_msg("%s", err.text);
	}
}

static void remove_folder(struct fixture *fixture)
{
	char path[128];

	for (unsigned previous = 0; previous < 2; previous++) {
		trace_path(fixture->folder, "n", previous == 1, path, sizeof(path));
		(void)unlink(path);
	}
	assert_int_equal(rmdir(fixture->folder), 0);
}

static void put(struct fixture *fixture, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t number = atomic_load(&fixture->trace->head->written);

		trace_put(fixture->trace, number, TRACE_host_issue, 1, 1, number, 0);
	}
}

static void view_current(struct fixture *fixture, struct trace_view *view)
{
	assert_int_equal(
		trace_view_init(view, fixture->trace->head, fixture->trace->bytes, NULL), 0);
}

static void test_ring_keeps_the_newest(void **state)
{
	struct trace_record records[RECORDS];
	struct fixture fixture;
	struct trace_view view;
	uint64_t cursor = 0;

	(void)state;
	make_folder(&fixture);
	next_process(&fixture);
	view_current(&fixture, &view);
	assert_int_equal(trace_view_read(&view, &cursor, records, RECORDS), 0);
	put(&fixture, 3);
	/* In two parts, and nothing twice. */
	assert_int_equal(trace_view_read(&view, &cursor, records, 2), 2);
	assert_int_equal(records[1].a, 1);
	assert_int_equal(trace_view_read(&view, &cursor, records, RECORDS), 1);
	assert_int_equal(records[0].a, 2);
	assert_int_equal(trace_view_read(&view, &cursor, records, RECORDS), 0);
	/* Round and round: what was lost is passed over, the rest is in order. */
	put(&fixture, 5 * RECORDS + 7);
	unsigned count = trace_view_read(&view, &cursor, records, RECORDS);

	assert_int_equal(count, KEPT);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(records[i].a, 5 * RECORDS + 10 - KEPT + i);
	}
	trace_free(fixture.trace);
	remove_folder(&fixture);
}

static void test_torn_record_is_not_read(void **state)
{
	struct trace_record records[RECORDS];
	struct fixture fixture;
	struct trace_view view;
	uint64_t cursor = 0;

	(void)state;
	make_folder(&fixture);
	next_process(&fixture);
	put(&fixture, 2 * RECORDS);
	/* The process dies while it writes the next one, over the oldest. */
	memset(&fixture.trace->records[0], 0xff, sizeof(struct trace_record) / 2);
	view_current(&fixture, &view);
	unsigned count = trace_view_read(&view, &cursor, records, RECORDS);

	assert_int_equal(count, KEPT);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(records[i].a, 2 * RECORDS - KEPT + i);
	}
	trace_free(fixture.trace);
	remove_folder(&fixture);
}

static void test_next_process_keeps_one_older_file(void **state)
{
	struct fixture fixture;
	struct stat first, previous;
	char path[128];

	(void)state;
	make_folder(&fixture);
	trace_path(fixture.folder, "n", false, path, sizeof(path));
	next_process(&fixture);
	assert_int_equal(stat(path, &first), 0);
	assert_int_equal(first.st_mode & 07777, 0600);
	trace_free(fixture.trace);
	next_process(&fixture);
	trace_free(fixture.trace);
	trace_path(fixture.folder, "n", true, path, sizeof(path));
	assert_int_equal(stat(path, &previous), 0);
	assert_int_equal(previous.st_ino, first.st_ino);
	remove_folder(&fixture);
}

static void test_folder_on_a_disk_is_refused(void **state)
{
	struct trace_crash crash;
	struct err err = {0};
	struct trace *trace;

	(void)state;
	/* Neither tmpfs nor ramfs anywhere. */
	assert_int_equal(
		trace_new("/proc", "n", "test", RECORDS, &trace, &crash, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "/proc is not in memory"));
}

static void test_garbage_is_refused(void **state)
{
	const size_t size = TRACE_HEAD_BYTES + RECORDS * sizeof(struct trace_record);
	struct trace_head *head = aligned_alloc(4096, size + 4096 - size % 4096);
	struct trace_view view;

	(void)state;
	memset(head, 0, size);
	assert_int_equal(trace_view_init(&view, head, size, NULL), -EBADMSG);
	memcpy(head->magic, TRACE_MAGIC, sizeof(head->magic));
	head->version = TRACE_VERSION;
	head->record_bytes = sizeof(struct trace_record);
	head->record_count = RECORDS;
	assert_int_equal(trace_view_init(&view, head, size, NULL), 0);
	assert_int_equal(trace_view_init(&view, head, size - 1, NULL), -EBADMSG);
	assert_int_equal(trace_view_init(&view, head, 100, NULL), -EBADMSG);
	head->record_count = RECORDS * 2;
	assert_int_equal(trace_view_init(&view, head, size, NULL), -EBADMSG);
	head->record_count = UINT32_MAX;
	assert_int_equal(trace_view_init(&view, head, size, NULL), -EBADMSG);
	head->record_count = RECORDS;
	head->version++;
	assert_int_equal(trace_view_init(&view, head, size, NULL), -EBADMSG);
	free(head);
}

static void test_text(void **state)
{
	struct trace_head head = {.start_real_ns = UINT64_C(1700000000) * 1000000000};
	struct trace_view view = {.head = &head};
	struct trace_record record = {.time_ns = 1500,
		.object = 0xabcd,
		.part = 1,
		.a = 4096,
		.b = 512,
		.point = TRACE_host_issue};
	struct strbuf text;

	(void)state;
	strbuf_init(&text);
	trace_record_to_text(&view, &record, &text);
	assert_string_equal(strbuf_text(&text),
		"2023-11-14T22:13:20.000001Z host_issue volume=0000abcd request=write offset=4096 "
		"length=512");
	strbuf_done(&text);
	strbuf_init(&text);
	record.point = UINT16_MAX;
	trace_record_to_text(&view, &record, &text);
	assert_string_equal(
		strbuf_text(&text), "2023-11-14T22:13:20.000001Z point-65535 0000abcd 1 4096 512");
	strbuf_done(&text);
}

/* ---- deaths ---- */

enum death { BY_ABORT, BY_FAULT, BY_FAULT_ELSEWHERE, BY_SOMEBODY, BY_SIGKILL, BY_EXIT };

struct dying {
	struct fixture *fixture;
	enum death death;
};

/* A data thread, with all signals blocked as lib/real starts it. */
static void *die(void *ctx)
{
	struct dying *dying = ctx;
	struct runq runq;

	if (dying->death != BY_FAULT_ELSEWHERE) {
		crash_watch_data_thread(dying->fixture->trace);
	}
	runq_init(&runq);
	runq.work = &dying->fixture->trace->head->work;
	runq_work(&runq, OBJECT, TRACE_WORK_COPY);
	switch (dying->death) {
	case BY_ABORT:
		abort();
	case BY_FAULT:
	case BY_FAULT_ELSEWHERE:
		__builtin_trap();
	case BY_SOMEBODY:
	case BY_SIGKILL:
		pause();
		break;
	case BY_EXIT:
		_exit(0);
	}
	return NULL;
}

static void child(struct fixture *fixture, enum death death)
{
	struct dying dying = {.fixture = fixture, .death = death};
	const struct rlimit none = {0};
	sigset_t all;
	pthread_t thread;

	(void)setrlimit(RLIMIT_CORE, &none);
	/* Not those of cmocka or of a sanitizer. */
	for (int number = 1; number < SIGRTMIN; number++) {
		(void)signal(number, SIG_DFL);
	}
	crash_watch(fixture->trace);
	if (death == BY_FAULT_ELSEWHERE) {
		crash_watch_data_thread(fixture->trace);
	}
	(void)sigfillset(&all);
	if (death == BY_FAULT_ELSEWHERE) {
		(void)sigdelset(&all, SIGILL);
	}
	(void)pthread_sigmask(SIG_SETMASK, &all, NULL);
	if (pthread_create(&thread, NULL, die, &dying) != 0) {
		_exit(77);
	}
	(void)pthread_join(thread, NULL);
	_exit(77);
}

/* Lets a process die; what the next one reads of it is in fixture->crash. */
static int let_die(struct fixture *fixture, enum death death)
{
	int status;

	next_process(fixture);
	pid_t pid = fork();

	if (pid == 0) {
		child(fixture, death);
	}
	assert_true(pid > 0);
	if (death == BY_SOMEBODY || death == BY_SIGKILL) {
		while (fixture->trace->head->work.operation == TRACE_WORK_NONE) {
			(void)usleep(1000);
		}
		assert_int_equal(kill(pid, death == BY_SIGKILL ? SIGKILL : SIGSEGV), 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	trace_free(fixture->trace);
	next_process(fixture);
	trace_free(fixture->trace);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_own_death_is_written_down(void **state)
{
	static const struct {
		enum death death;
		int signal;
	} deaths[] = {{BY_ABORT, SIGABRT}, {BY_FAULT, SIGILL}};
	struct fixture fixture;

	(void)state;
	make_folder(&fixture);
	for (unsigned i = 0; i < ARRAY_COUNT(deaths); i++) {
		/* The signal takes its course: whoever waits for the process sees it. */
		assert_int_equal(let_die(&fixture, deaths[i].death), deaths[i].signal);
		assert_int_equal(fixture.crash.signal, deaths[i].signal);
		assert_true(fixture.crash.on_data_thread);
		assert_int_equal(fixture.crash.work.operation, TRACE_WORK_COPY);
		assert_true(fixture.crash.work.object == OBJECT);
	}
	remove_folder(&fixture);
}

static void test_death_of_another_thread_is_not_the_works_fault(void **state)
{
	struct fixture fixture;

	(void)state;
	make_folder(&fixture);
	assert_int_equal(let_die(&fixture, BY_FAULT_ELSEWHERE), SIGILL);
	assert_int_equal(fixture.crash.signal, SIGILL);
	assert_false(fixture.crash.on_data_thread);
	remove_folder(&fixture);
}

static void test_end_by_others_is_no_crash(void **state)
{
	struct fixture fixture;

	(void)state;
	make_folder(&fixture);
	assert_int_equal(let_die(&fixture, BY_SOMEBODY), SIGSEGV);
	assert_int_equal(fixture.crash.signal, 0);
	assert_int_equal(let_die(&fixture, BY_SIGKILL), SIGKILL);
	assert_int_equal(fixture.crash.signal, 0);
	assert_int_equal(let_die(&fixture, BY_EXIT), 0);
	assert_int_equal(fixture.crash.signal, 0);
	remove_folder(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_keeps_the_newest),
		cmocka_unit_test(test_torn_record_is_not_read),
		cmocka_unit_test(test_next_process_keeps_one_older_file),
		cmocka_unit_test(test_folder_on_a_disk_is_refused),
		cmocka_unit_test(test_garbage_is_refused),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_own_death_is_written_down),
		cmocka_unit_test(test_death_of_another_thread_is_not_the_works_fault),
		cmocka_unit_test(test_end_by_others_is_no_crash),
	};

	if (access("/dev/shm", W_OK) != 0) {
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
