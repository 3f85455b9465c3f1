/* SPDX-License-Identifier: Apache-2.0 */
/* The loop against the real kernel: loopback sockets, files in a temporary directory, threads. */
#include "real/env_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
	struct real *real;
	struct io *io;
	char directory[64];
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct err err;

	assert_non_null(fixture);
	assert_int_equal(way_new(*state, &fixture->real, &err), 0);
	fixture->io = real_io(fixture->real);
	snprintf(fixture->directory, sizeof(fixture->directory), "/var/tmp/real_test.XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	real_free(fixture->real);
	assert_int_equal(rmdir(fixture->directory), 0);
	free(fixture);
	return 0;
}

/* A task that stops the loop when it runs: what is awaited wakes it. */
struct stopper {
	struct task task;
	struct real *real;
};

static void stopper_step(struct task *task)
{
	real_stop(container_of(task, struct stopper, task)->real);
}

static void stopper_init(struct stopper *stopper, struct fixture *fixture)
{
	task_init(&stopper->task, &fixture->io->runq, stopper_step);
	stopper->real = fixture->real;
}

/* ---- timers and stop --------------------------------------------------------------------------
 */

static void test_timer_and_stop(void **state)
{
	struct fixture *fixture = *state;
	struct stopper stopper;
	struct io_timer timer;

	stopper_init(&stopper, fixture);
	io_timer_init(&timer, fixture->io, &stopper.task);
	uint64_t begin_ns = io_now_ns(fixture->io);

	io_timer_start_after(&timer, 20 * IO_NS_PER_MS);
	real_run(fixture->real);
	assert_true(io_now_ns(fixture->io) >= begin_ns + 20 * IO_NS_PER_MS);
	assert_false(io_timer_is_running(&timer));
	/* A deadline in the past expires at once, and a stop before the run is not lost. */
	io_timer_start(&timer, 1);
	real_run(fixture->real);
	assert_false(io_timer_is_running(&timer));
	real_stop(fixture->real);
	real_run(fixture->real);
	assert_true(strlen(real_text(fixture->real)) > 0);
}

static void test_idle_does_not_wake(void **state)
{
	struct fixture *fixture = *state;
	struct stopper stopper;
	struct io_timer timer;

	stopper_init(&stopper, fixture);
	io_timer_init(&timer, fixture->io, &stopper.task);
	io_timer_start_after(&timer, 300 * IO_NS_PER_MS);
	uint64_t turns = metric_get(&fixture->real->metrics.turns);

	real_run(fixture->real);
	/* One or two that arm the wake-up and the timer's own, with room for a stray signal. */
	assert_true(metric_get(&fixture->real->metrics.turns) - turns <= 6);
}

/* ---- messages ---------------------------------------------------------------------------------
 */

#define POSTERS  2
#define MESSAGES 50000

struct posted {
	struct io_msg msg;
	struct poster *poster;
	unsigned number;
};

struct poster {
	struct io *io;
	pthread_t thread;
	struct posted *messages;
	unsigned expected; /* the loop's */
	unsigned *posters_left;
	struct task *finished;
};

static void message_run(struct io_msg *msg)
{
	struct posted *posted = container_of(msg, struct posted, msg);
	struct poster *poster = posted->poster;

	assert_int_equal(posted->number, poster->expected);
	poster->expected++;
	if (poster->expected == MESSAGES && --*poster->posters_left == 0) {
		task_wake(poster->finished);
	}
}

static void *poster_main(void *ctx)
{
	struct poster *poster = ctx;

	for (unsigned i = 0; i < MESSAGES; i++) {
		struct posted *posted = &poster->messages[i];

		posted->msg = (struct io_msg){.run = message_run};
		posted->poster = poster;
		posted->number = i;
		io_post(poster->io, &posted->msg);
	}
	return NULL;
}

static void test_messages_arrive_in_order(void **state)
{
	struct fixture *fixture = *state;
	struct stopper stopper;
	struct poster posters[POSTERS] = {0};
	unsigned left = POSTERS;

	stopper_init(&stopper, fixture);
	for (unsigned i = 0; i < POSTERS; i++) {
		posters[i].io = fixture->io;
		posters[i].messages = calloc(MESSAGES, sizeof(*posters[i].messages));
		assert_non_null(posters[i].messages);
		posters[i].posters_left = &left;
		posters[i].finished = &stopper.task;
		assert_int_equal(
			pthread_create(&posters[i].thread, NULL, poster_main, &posters[i]), 0);
	}
	real_run(fixture->real);
	for (unsigned i = 0; i < POSTERS; i++) {
		pthread_join(posters[i].thread, NULL);
		assert_int_equal(posters[i].expected, MESSAGES);
		free(posters[i].messages);
	}
}

static void *stop_main(void *ctx)
{
	real_stop(ctx);
	return NULL;
}

static void test_stop_from_another_thread(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < 200; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, stop_main, fixture->real), 0);
		real_run(fixture->real);
		pthread_join(thread, NULL);
	}
}

/* ---- disks ------------------------------------------------------------------------------------
 */

#define DISK_BYTES (4 * MIB_BYTES)
#define MIB_BYTES  (1024u * 1024)

struct disk_run {
	struct stopper stopper;
	unsigned left;
};

static void disk_done(struct io_disk_op *op)
{
	struct disk_run *run = op->ctx;

	if (--run->left == 0) {
		task_wake(&run->stopper.task);
	}
}

/* Submits all of them at once and returns when all are done. */
static void run_disk_ops(
	struct fixture *fixture, struct io_disk *disk, struct io_disk_op *ops, unsigned count)
{
	struct disk_run run = {.left = count};

	stopper_init(&run.stopper, fixture);
	for (unsigned i = 0; i < count; i++) {
		ops[i].done = disk_done;
		ops[i].ctx = &run;
		ops[i].result = 1;
		io_disk_submit(disk, &ops[i]);
		assert_int_equal(ops[i].result, 1);
	}
	real_run(fixture->real);
	assert_int_equal(run.left, 0);
}

static int run_disk_op(struct fixture *fixture, struct io_disk *disk, struct io_disk_op op)
{
	run_disk_ops(fixture, disk, &op, 1);
	return op.result;
}

static void fill_randomly(struct rng *rng, unsigned char *to, size_t length)
{
	for (size_t i = 0; i < length; i += 8) {
		le64_put(to + i, rng_u64(rng));
	}
}

/* Random operations against a copy in memory, in batches whose ranges do not overlap. */
static void exercise_disk(struct fixture *fixture, struct io_disk *disk)
{
	enum { SLOTS = 32, SLOT_BYTES = DISK_BYTES / SLOTS, BATCHES = 12 };
	unsigned char *model = io_zalloc_aligned(fixture->io, 4096, DISK_BYTES);
	unsigned char *buffer = io_zalloc_aligned(fixture->io, 4096, DISK_BYTES);
	struct rng rng;

	rng_init(&rng, 7);
	assert_true(model != NULL && buffer != NULL);
	struct io_disk_op clear = {.kind = IO_DISK_ZERO, .length = DISK_BYTES, .fua = true};

	assert_int_equal(run_disk_op(fixture, disk, clear), 0);
	for (unsigned batch = 0; batch < BATCHES; batch++) {
		struct io_disk_op ops[SLOTS] = {0};
		struct iovec iov[SLOTS][4];

		fill_randomly(&rng, buffer, DISK_BYTES);
		for (unsigned i = 0; i < SLOTS; i++) {
			uint64_t blocks = rng_below(&rng, SLOT_BYTES / 4096 / 4) + 1;
			uint64_t offset = (uint64_t)i * SLOT_BYTES;

			ops[i].iov = iov[i];
			ops[i].iov_count = (unsigned)rng_below(&rng, 4) + 1;
			ops[i].offset = offset;
			ops[i].length = blocks * 4096 * ops[i].iov_count;
			ops[i].fua = rng_percent(&rng, 20);
			for (unsigned k = 0; k < ops[i].iov_count; k++) {
				iov[i][k].iov_base = buffer + offset + k * blocks * 4096;
				iov[i][k].iov_len = blocks * 4096;
			}
			ops[i].kind = (enum io_disk_op_kind)rng_below(&rng, 4);
			if (ops[i].kind == IO_DISK_WRITE) {
				memcpy(model + offset, buffer + offset, ops[i].length);
			} else if (ops[i].kind == IO_DISK_ZERO) {
				memset(model + offset, 0, ops[i].length);
			}
		}
		run_disk_ops(fixture, disk, ops, SLOTS);
		for (unsigned i = 0; i < SLOTS; i++) {
			assert_int_equal(ops[i].result, 0);
			if (ops[i].kind == IO_DISK_READ) {
				assert_memory_equal(model + ops[i].offset, buffer + ops[i].offset,
					ops[i].length);
			}
		}
	}
	struct iovec all = {.iov_base = buffer, .iov_len = DISK_BYTES};
	struct io_disk_op read = {
		.kind = IO_DISK_READ, .length = DISK_BYTES, .iov = &all, .iov_count = 1};

	assert_int_equal(run_disk_op(fixture, disk, read), 0);
	assert_memory_equal(model, buffer, DISK_BYTES);
	io_free(fixture->io, model);
	io_free(fixture->io, buffer);
}

static void test_file_disk(void **state)
{
	struct fixture *fixture = *state;
	struct real_disk_options options = {
		.create = true, .size_bytes = DISK_BYTES, .buffered_allowed = true};
	struct io_disk *disk = NULL;
	struct io_disk *second = NULL;
	struct err err = {0};
	char path[96];

	snprintf(path, sizeof(path), "%s/disk", fixture->directory);
	assert_int_equal(real_disk_open(fixture->real, path, &options, 0, &disk, &err), 0);
	assert_int_equal(disk->size_bytes, DISK_BYTES);
	assert_true(disk->starts_zeroed);
	uint64_t power = disk->power;

	exercise_disk(fixture, disk);
	/* Punched out, then by ranges, then by writing: each gives zeros. */
	struct real_disk *own = container_of(disk, struct real_disk, disk);

	own->no_punch_hole = true;
	exercise_disk(fixture, disk);
	own->no_zero_range = true;
	exercise_disk(fixture, disk);

	/* Nobody else gets it, not even the same process, and the file is not made again. */
	options.create = false;
	assert_int_equal(real_disk_open(fixture->real, path, &options, 30, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, ", real_loop_"));
	options.create = true;
	assert_int_equal(real_disk_open(fixture->real, path, &options, 0, &second, &err), -EEXIST);
	real_disk_close(disk);
	options.create = false;
	assert_int_equal(real_disk_open(fixture->real, path, &options, 0, &disk, &err), 0);
	assert_true(disk->power == power);
	assert_false(disk->starts_zeroed);
	real_disk_close(disk);
	unlink(path);
}

static void test_disk_that_shrank_gives_eio(void **state)
{
	struct fixture *fixture = *state;
	struct real_disk_options options = {
		.create = true, .size_bytes = DISK_BYTES, .buffered_allowed = true};
	struct io_disk *disk = NULL;
	struct err err = {0};
	char path[96];

	snprintf(path, sizeof(path), "%s/disk", fixture->directory);
	assert_int_equal(real_disk_open(fixture->real, path, &options, 0, &disk, &err), 0);
	assert_int_equal(truncate(path, DISK_BYTES / 2), 0);
	unsigned char *buffer = io_zalloc_aligned(fixture->io, 4096, DISK_BYTES);
	struct iovec all = {.iov_base = buffer, .iov_len = DISK_BYTES};
	struct io_disk_op read = {
		.kind = IO_DISK_READ, .length = DISK_BYTES, .iov = &all, .iov_count = 1};

	assert_int_equal(run_disk_op(fixture, disk, read), -EIO);
	real_disk_close(disk);
	unlink(path);
	io_free(fixture->io, buffer);
}

static void test_memory_disk(void **state)
{
	struct fixture *fixture = *state;
	struct io_disk *disk = NULL;
	struct err err = {0};

	assert_int_equal(real_memory_disk_new(fixture->real, DISK_BYTES, &disk, &err), 0);
	exercise_disk(fixture, disk);
	real_disk_close(disk);
	assert_int_equal(real_memory_disk_new(fixture->real, 1, &disk, &err), -EINVAL);
}

static void test_disk_open_errors(void **state)
{
	struct fixture *fixture = *state;
	struct io_disk *disk = NULL;
	struct err err = {0};

	assert_int_equal(
		real_disk_open(fixture->real, "/nonexistent/disk", NULL, 0, &disk, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/disk"));
	assert_true(real_disk_open(fixture->real, "/dev/null", NULL, 0, &disk, &err) < 0);
	assert_null(disk);
}

/* ---- descriptors -------------------------------------------------------------------------------
 */

struct fd_run {
	struct stopper stopper;
	bool done;
	ssize_t result;
};

static void fd_done(struct io_fd_op *op)
{
	struct fd_run *run = op->ctx;

	run->done = true;
	run->result = op->result;
	/* Nothing may refer to it any more. */
	free(op);
	task_wake(&run->stopper.task);
}

static struct io_fd_op *fd_read(
	struct fixture *fixture, struct fd_run *run, int fd, struct iovec *iov)
{
	struct io_fd_op *op = calloc(1, sizeof(*op));

	assert_non_null(op);
	*op = (struct io_fd_op){.fd = fd, .iov = iov, .iov_count = 1, .done = fd_done, .ctx = run};
	run->done = false;
	io_fd_submit(fixture->io, op);
	return op;
}

static void run_for_a_moment(struct fixture *fixture, struct fd_run *run)
{
	struct io_timer timer;

	io_timer_init(&timer, fixture->io, &run->stopper.task);
	io_timer_start_after(&timer, 5 * IO_NS_PER_MS);
	real_run(fixture->real);
	assert_false(run->done);
}

static void exercise_fd(struct fixture *fixture, int pipe_flags)
{
	struct fd_run run = {0};
	int fds[2];
	char text[8] = "";
	struct iovec iov = {.iov_base = text, .iov_len = sizeof(text)};

	stopper_init(&run.stopper, fixture);
	assert_int_equal(pipe2(fds, pipe_flags), 0);
	/* As the launcher does: the file lives on when our descriptor of it is closed. */
	int kept = dup(fds[0]);

	(void)fd_read(fixture, &run, fds[0], &iov);
	run_for_a_moment(fixture, &run);
	assert_int_equal(write(fds[1], "hello", 5), 5);
	real_run(fixture->real);
	assert_true(run.done);
	assert_int_equal(run.result, 5);
	assert_memory_equal(text, "hello", 5);

	/* Cancelled before it reached the kernel, and afterwards. */
	for (unsigned i = 0; i < 2; i++) {
		struct io_fd_op *op = fd_read(fixture, &run, fds[0], &iov);

		if (i > 0) {
			run_for_a_moment(fixture, &run);
		}
		io_fd_cancel(fixture->io, op);
		io_fd_cancel(fixture->io, op);
		assert_false(run.done);
		real_run(fixture->real);
		assert_true(run.done);
		assert_int_equal(run.result, -ECANCELED);
	}
	io_fd_forget(fixture->io, fds[0]);
	close(fds[0]);
	/* Nobody hears of it any more, whatever has the number now. */
	assert_int_equal(write(fds[1], "late", 4), 4);
	run.done = false;
	run_for_a_moment(fixture, &run);
	close(fds[1]);
	close(kept);
}

static void test_fd_ops(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		exercise_fd(*state, O_CLOEXEC);
		exercise_fd(*state, O_CLOEXEC | O_NONBLOCK);
	}
}

/* As /dev/fuse has them: each message ends one of the reads that wait, whichever. */
static void test_reads_of_one_fd(void **state)
{
	enum { READS = 8 };
	struct fixture *fixture = *state;
	struct fd_run runs[READS] = {0};
	struct io_fd_op *ops[READS];
	char text[READS][8];
	struct iovec iov[READS];
	unsigned done = 0;
	int fds[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	for (unsigned i = 0; i < READS; i++) {
		stopper_init(&runs[i].stopper, fixture);
		iov[i] = (struct iovec){.iov_base = text[i], .iov_len = sizeof(text[i])};
		ops[i] = fd_read(fixture, &runs[i], fds[0], &iov[i]);
	}
	run_for_a_moment(fixture, &runs[0]);
	for (unsigned sent = 1; sent <= READS / 2; sent++) {
		assert_int_equal(write(fds[1], "hello", 5), 5);
		while (done < sent) {
			real_run(fixture->real);
			done = 0;
			for (unsigned i = 0; i < READS; i++) {
				done += runs[i].done;
				assert_true(!runs[i].done || runs[i].result == 5);
			}
		}
		assert_int_equal(done, sent);
	}
	for (unsigned i = 0; i < READS; i++) {
		if (!runs[i].done) {
			io_fd_cancel(fixture->io, ops[i]);
		}
	}
	for (unsigned i = 0; i < READS; i++) {
		while (!runs[i].done) {
			real_run(fixture->real);
		}
		done += runs[i].result == -ECANCELED;
	}
	assert_int_equal(done, READS);
	io_fd_forget(fixture->io, fds[0]);
	close(fds[0]);
	close(fds[1]);
}

/* ---- allocation -------------------------------------------------------------------------------
 */

static void test_zalloc(void **state)
{
	struct fixture *fixture = *state;

	for (size_t alignment = 16; alignment <= 8192; alignment *= 2) {
		unsigned char *memory = io_zalloc_aligned(fixture->io, alignment, 1000);

		assert_non_null(memory);
		assert_int_equal((uintptr_t)memory % alignment, 0);
		assert_true(bytes_are_zero(memory, 1000));
		memset(memory, 0xFF, 1000);
		io_free(fixture->io, memory);
	}
	assert_null(io_zalloc(fixture->io, SIZE_MAX));
}

/* Is the page in a core dump? */
static bool page_is_dumped(const void *page)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	bool in_mapping = false;
	char line[1024];
	int dumped = -1;

	assert_non_null(smaps);
	while (dumped < 0 && fgets(line, sizeof(line), smaps) != NULL) {
		unsigned long begin, end;

		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) {
			in_mapping = begin <= (uintptr_t)page && (uintptr_t)page < end;
		} else if (in_mapping && strncmp(line, "VmFlags:", 8) == 0) {
			dumped = strstr(line, " dd") == NULL;
		}
	}
	(void)fclose(smaps);
	assert_true(dumped >= 0);
	return dumped != 0;
}

static void test_data_is_not_dumped(void **state)
{
	struct fixture *fixture = *state;

	/* Of the heap, and mappings of their own. */
	for (size_t size = 1000; size <= 1u << 20; size *= 8) {
		unsigned char *data = io_zalloc_data(fixture->io, size);
		unsigned char *other = io_zalloc_aligned(fixture->io, 4096, 4096);

		assert_non_null(data);
		assert_non_null(other);
		assert_false(page_is_dumped(data));
		assert_false(page_is_dumped(data + size - 1));
		assert_true(page_is_dumped(other));
		io_free(fixture->io, other);
		io_free_data(fixture->io, data, size);
	}
	/* Its pages are used again, for what may be dumped. */
	for (unsigned i = 0; i < 16; i++) {
		unsigned char *other = io_zalloc_aligned(fixture->io, 4096, 4096);

		assert_non_null(other);
		assert_true(page_is_dumped(other));
		io_free(fixture->io, other);
	}
	assert_null(io_zalloc_data(fixture->io, SIZE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_timer_and_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_idle_does_not_wake, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_messages_arrive_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stop_from_another_thread, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_disk_that_shrank_gives_eio, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_disk_open_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fd_ops, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reads_of_one_fd, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_zalloc, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_data_is_not_dumped, set_up, tear_down),
	};

	return run_in_all_ways(tests, ARRAY_COUNT(tests));
}
