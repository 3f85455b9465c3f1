/* SPDX-License-Identifier: Apache-2.0 */
/* The frontend against a fake kernel and a fake device: what is answered, and what a successor does
 * with each kind of slot. */
#include "base/testing.h"
#include "nexus/frontend/fuse.h"
#include "nexus/frontend/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_BYTES (1024u * 1024)
#define ANSWER_BYTES (sizeof(struct fuse_out_header) + FUSE_FRONTEND_DATA_BYTES)

struct fixture {
	struct io io;
	struct metric_registry metrics;
	/* The kernel. */
	struct io_fd_op *reads[FUSE_FRONTEND_SLOTS];
	unsigned read_count;
	struct io_fd_op *writes[FUSE_FRONTEND_SLOTS];
	unsigned write_count;
	/* The device. */
	struct blk_dev dev;
	struct list submitted;
	unsigned submitted_count;
	/* The launcher. */
	void *table;
	struct fuse_frontend *frontend;
	unsigned forgotten; /* descriptors */
	bool closed;
	unsigned char *answer; /* of the last answer taken */
	unsigned char *request;
};

static struct fixture *fixture_of_io(struct io *io)
{
	return io->ctx;
}

static void fake_fd_submit(struct io *io, struct io_fd_op *op)
{
	struct fixture *f = fixture_of_io(io);

	if (op->write) {
		assert_true(f->write_count < FUSE_FRONTEND_SLOTS);
		f->writes[f->write_count++] = op;
	} else {
		assert_true(f->read_count < FUSE_FRONTEND_SLOTS);
		f->reads[f->read_count++] = op;
	}
}

static void complete(struct fixture *f, struct io_fd_op *op, ssize_t result)
{
	op->result = result;
	op->done(op);
	runq_run(&f->io.runq, 1000);
}

static void fake_fd_cancel(struct io *io, struct io_fd_op *op)
{
	struct fixture *f = fixture_of_io(io);

	for (unsigned i = 0; i < f->read_count; i++) {
		if (f->reads[i] == op) {
			f->reads[i] = f->reads[--f->read_count];
			op->result = -ECANCELED;
			op->done(op);
			return;
		}
	}
}

static void fake_fd_forget(struct io *io, int fd)
{
	struct fixture *f = fixture_of_io(io);

	(void)fd;
	assert_int_equal(f->read_count, 0);
	f->forgotten++;
}

static void *fake_zalloc(struct io *io, size_t alignment, size_t size)
{
	void *memory = NULL;

	(void)io;
	assert_int_equal(posix_memalign(&memory, alignment, size), 0);
	memset(memory, 0, size);
	return memory;
}

static void fake_free(struct io *io, void *memory)
{
	(void)io;
	free(memory);
}

static const struct io_ops fake_io_ops = {
	.fd_submit = fake_fd_submit,
	.fd_cancel = fake_fd_cancel,
	.fd_forget = fake_fd_forget,
	.zalloc = fake_zalloc,
	.free = fake_free,
};

static void fake_submit(struct blk_dev *dev, struct blk_req *req)
{
	struct fixture *f = container_of(dev, struct fixture, dev);

	list_push_back(&f->submitted, &req->node);
	f->submitted_count++;
}

static const struct blk_dev_ops fake_dev_ops = {.submit = fake_submit};

static void new_frontend(struct fixture *f)
{
	struct fuse_frontend_options options = {
		.fuse_fd = 3,
		.table = f->table,
		.table_bytes = FUSE_FRONTEND_TABLE_BYTES,
		.dev = &f->dev,
		.name = "db",
	};
	struct err err;

	assert_int_equal(fuse_frontend_new(&f->io, &options, &f->frontend, &err), 0);
	f->closed = false;
	runq_run(&f->io.runq, 1000);
}

/* What SIGKILL leaves: the table, nothing else. */
static void kill_frontend(struct fixture *f)
{
	while (runq_run(&f->io.runq, 1000)) {
	}
	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		struct fuse_slot *slot = &f->frontend->slots[i];

		task_done(&slot->task);
		list_remove_if_linked(&slot->req.node);
		free(slot->req.private_state);
	}
	task_done(&f->frontend->close_task);
	metric_remove(&f->metrics, &f->frontend->requests);
	metric_remove(&f->metrics, &f->frontend->errors);
	metric_remove(&f->metrics, &f->frontend->recovered);
	free(f->frontend);
	f->frontend = NULL;
	f->read_count = 0;
	f->write_count = 0;
	f->submitted_count = 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	metric_registry_init(&f->metrics);
	io_init(&f->io, &fake_io_ops, f, 1, &f->metrics);
	list_init(&f->submitted);
	f->dev = (struct blk_dev){
		.ops = &fake_dev_ops,
		.size_bytes = DEVICE_BYTES,
		.block_bytes = 4096,
		.req_private_bytes = 100,
	};
	f->table = fake_zalloc(&f->io, FUSE_FRONTEND_PAGE, FUSE_FRONTEND_TABLE_BYTES);
	f->answer = calloc(1, ANSWER_BYTES);
	f->request = calloc(1, FUSE_READ_BYTES);
	assert_non_null(f->answer);
	assert_non_null(f->request);
	new_frontend(f);
	*state = f;
	return 0;
}

static void note_closed(void *ctx)
{
	struct fixture *f = ctx;

	f->closed = true;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->frontend != NULL) {
		fuse_frontend_close(f->frontend, note_closed, f);
		runq_run(&f->io.runq, 1000);
		assert_true(f->closed);
		assert_int_equal(f->forgotten, 1);
	}
	metric_registry_done(&f->metrics);
	free(f->table);
	free(f->answer);
	free(f->request);
	free(f);
	return 0;
}

/* ---- the kernel's side ---- */

/* A request with `args` and `data` behind it arrives at the first waiting read. */
static void request(struct fixture *f, uint32_t opcode, uint64_t unique, const void *args,
	size_t args_bytes, size_t data_bytes)
{
	struct fuse_in_header in = {
		.len = (uint32_t)(sizeof(in) + args_bytes + data_bytes),
		.opcode = opcode,
		.unique = unique,
		.nodeid = opcode == FUSE_LOOKUP || opcode == FUSE_READDIR || opcode == FUSE_OPENDIR
				  ? 1
				  : 2,
	};
	struct io_fd_op *op;

	assert_true(f->read_count > 0);
	op = f->reads[0];
	f->reads[0] = f->reads[--f->read_count];
	assert_int_equal(op->iov_count, 1);
	assert_true(op->iov[0].iov_len >= in.len);
	memcpy(op->iov[0].iov_base, &in, sizeof(in));
	if (args_bytes > 0) {
		memcpy((char *)op->iov[0].iov_base + sizeof(in), args, args_bytes);
	}
	memset((char *)op->iov[0].iov_base + sizeof(in) + args_bytes, (int)unique & 0xff,
		data_bytes);
	complete(f, op, in.len);
}

static void request_write(struct fixture *f, uint64_t unique, uint64_t offset, uint32_t size)
{
	struct fuse_write_in in = {.offset = offset, .size = size};

	request(f, FUSE_WRITE, unique, &in, sizeof(in), size);
}

static void request_read(struct fixture *f, uint64_t unique, uint64_t offset, uint32_t size)
{
	struct fuse_read_in in = {.offset = offset, .size = size};

	request(f, FUSE_READ, unique, &in, sizeof(in), 0);
}

/* Takes one answer; the kernel's verdict is `result`, 0 for "taken".  Returns the answer's error.
 */
static int take_answer_with(struct fixture *f, uint64_t unique, size_t body_bytes, ssize_t result)
{
	struct fuse_out_header out;
	struct io_fd_op *op;
	size_t bytes = 0;

	assert_true(f->write_count > 0);
	op = f->writes[0];
	memmove(f->writes, f->writes + 1, --f->write_count * sizeof(*f->writes));
	for (unsigned i = 0; i < op->iov_count; i++) {
		assert_true(bytes + op->iov[i].iov_len <= ANSWER_BYTES);
		memcpy(f->answer + bytes, op->iov[i].iov_base, op->iov[i].iov_len);
		bytes += op->iov[i].iov_len;
	}
	memcpy(&out, f->answer, sizeof(out));
	assert_int_equal(out.len, bytes);
	assert_int_equal(out.unique, unique);
	assert_int_equal(bytes - sizeof(out), body_bytes);
	complete(f, op, result == 0 ? (ssize_t)bytes : result);
	return out.error;
}

static int take_answer(struct fixture *f, uint64_t unique, size_t body_bytes)
{
	return take_answer_with(f, unique, body_bytes, 0);
}

static const void *answer_body(const struct fixture *f)
{
	return f->answer + sizeof(struct fuse_out_header);
}

/* ---- the device's side ---- */

static struct blk_req *device_request(struct fixture *f)
{
	struct list_node *node = list_pop_front(&f->submitted);

	assert_non_null(node);
	return container_of(node, struct blk_req, node);
}

static void device_answers(struct fixture *f, struct blk_req *req, int result)
{
	req->result = result;
	req->done(req);
	runq_run(&f->io.runq, 1000);
}

static void device_releases(struct fixture *f, struct blk_req *req)
{
	req->released(req);
	runq_run(&f->io.runq, 1000);
}

static struct fuse_slot_page *slot_with(struct fixture *f, uint64_t unique)
{
	struct fuse_slot_page *pages = (void *)((char *)f->table + FUSE_FRONTEND_PAGE);

	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		if (pages[i].in.unique == unique) {
			return &pages[i];
		}
	}
	return NULL;
}

/* ---- tests ---- */

static void test_init(void **state)
{
	struct fixture *f = *state;
	struct fuse_init_in in = {
		.major = 7,
		.minor = 45,
		.max_readahead = 4096,
		.flags = UINT32_MAX,
		.flags2 = UINT32_MAX,
	};
	struct fuse_init_out out;
	struct fuse_frontend_status status;

	fuse_frontend_get_status(f->frontend, &status);
	assert_false(status.ready);
	request(f, FUSE_INIT, 2, &in, sizeof(in), 0);
	assert_int_equal(take_answer(f, 2, sizeof(out)), 0);
	memcpy(&out, answer_body(f), sizeof(out));
	assert_int_equal(out.major, 7);
	assert_int_equal(out.max_write, FUSE_FRONTEND_DATA_BYTES);
	assert_int_equal(out.max_pages, 256);
	assert_true(out.max_background >= 64);
	assert_int_not_equal(out.flags & FUSE_ASYNC_DIO, 0);
	assert_int_not_equal(out.flags & FUSE_MAX_PAGES, 0);
	assert_int_equal(out.flags & FUSE_WRITEBACK_CACHE, 0);
	fuse_frontend_get_status(f->frontend, &status);
	assert_true(status.ready);
}

static void test_init_refuses_old_kernels(void **state)
{
	struct fixture *f = *state;
	struct fuse_init_in in = {.major = 7, .minor = 20};

	request(f, FUSE_INIT, 2, &in, offsetof(struct fuse_init_in, flags2), 0);
	assert_int_equal(take_answer(f, 2, 0), -EPROTO);
	in.major = 8;
	request(f, FUSE_INIT, 4, &in, offsetof(struct fuse_init_in, flags2), 0);
	assert_int_equal(take_answer(f, 4, sizeof(struct fuse_init_out)), 0);
}

static void test_names(void **state)
{
	struct fixture *f = *state;
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_open_in in = {.flags = O_RDWR};
	struct fuse_read_in readdir = {.size = 4096};

	request(f, FUSE_LOOKUP, 2, "db", 3, 0);
	assert_int_equal(take_answer(f, 2, sizeof(entry)), 0);
	memcpy(&entry, answer_body(f), sizeof(entry));
	assert_int_equal(entry.attr.size, DEVICE_BYTES);
	assert_int_equal(entry.nodeid, 2);
	request(f, FUSE_LOOKUP, 4, "dx", 3, 0);
	assert_int_equal(take_answer(f, 4, 0), -ENOENT);
	/* Without its NUL. */
	request(f, FUSE_LOOKUP, 6, "db", 2, 0);
	assert_int_equal(take_answer(f, 6, 0), -ENOENT);
	request(f, FUSE_GETATTR, 8, NULL, 0, 0);
	assert_int_equal(take_answer(f, 8, sizeof(struct fuse_attr_out)), 0);
	request(f, FUSE_OPEN, 10, &in, sizeof(in), 0);
	assert_int_equal(take_answer(f, 10, sizeof(opened)), 0);
	memcpy(&opened, answer_body(f), sizeof(opened));
	assert_int_equal(opened.open_flags, FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES);
	request(f, FUSE_READDIR, 12, &readdir, sizeof(readdir), 0);
	assert_int_equal(take_answer(f, 12, 96), 0);
	readdir.offset = 3;
	request(f, FUSE_READDIR, 14, &readdir, sizeof(readdir), 0);
	assert_int_equal(take_answer(f, 14, 0), 0);
	request(f, FUSE_STATFS, 16, NULL, 0, 0);
	assert_int_equal(take_answer(f, 16, sizeof(struct fuse_statfs_out)), 0);
	request(f, FUSE_SETXATTR, 18, NULL, 0, 0);
	assert_int_equal(take_answer(f, 18, 0), -ENOSYS);
	/* No answer at all. */
	request(f, FUSE_FORGET, 20, NULL, 0, 0);
	request(f, FUSE_INTERRUPT, 22, NULL, 0, 0);
	assert_int_equal(f->write_count, 0);
	assert_int_equal(f->submitted_count, 0);
}

static void test_write(void **state)
{
	struct fixture *f = *state;
	struct fuse_write_out out;
	struct blk_req *req;

	request_write(f, 2, 8192, 4096);
	/* The next read is armed while this one is served. */
	assert_true(f->read_count > 0);
	req = device_request(f);
	assert_int_equal(req->kind, BLK_WRITE);
	assert_int_equal(req->offset, 8192);
	assert_int_equal(req->length, 4096);
	assert_false(req->fua);
	assert_int_equal((uintptr_t)req->iov[0].iov_base % 4096, 0);
	assert_int_equal(*(unsigned char *)req->iov[0].iov_base, 2);
	assert_int_equal(f->write_count, 0);
	device_answers(f, req, 0);
	/* Marked before the answer is taken. */
	assert_int_equal(slot_with(f, 2)->done_unique, 2);
	assert_int_equal(take_answer(f, 2, sizeof(out)), 0);
	memcpy(&out, answer_body(f), sizeof(out));
	assert_int_equal(out.size, 4096);
	assert_null(slot_with(f, 2));
	device_releases(f, req);
}

/* A late replica may still send from the buffer: the slot takes nothing new until it is released.
 */
static void test_slot_waits_for_release(void **state)
{
	struct fixture *f = *state;
	struct blk_req *held[FUSE_FRONTEND_SLOTS];

	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		request_write(f, 2 + i * 2, 4096 * i, 4096);
		held[i] = device_request(f);
		device_answers(f, held[i], 0);
		assert_int_equal(take_answer(f, 2 + i * 2, sizeof(struct fuse_write_out)), 0);
	}
	assert_int_equal(f->read_count, 0);
	device_releases(f, held[7]);
	assert_int_equal(f->read_count, 1);
	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		if (i != 7) {
			device_releases(f, held[i]);
		}
	}
	assert_true(f->read_count > 1);
}

static void test_read(void **state)
{
	struct fixture *f = *state;
	struct blk_req *req;

	request_read(f, 2, DEVICE_BYTES - 4096, 8192);
	req = device_request(f);
	assert_int_equal(req->kind, BLK_READ);
	assert_int_equal(req->length, 4096);
	memset(req->iov[0].iov_base, 0x5a, 4096);
	device_answers(f, req, 0);
	device_releases(f, req);
	assert_int_equal(take_answer(f, 2, 4096), 0);
	assert_int_equal(((const unsigned char *)answer_body(f))[4095], 0x5a);
	request_read(f, 4, DEVICE_BYTES, 4096);
	assert_int_equal(take_answer(f, 4, 0), 0);
}

static void test_bad_requests(void **state)
{
	struct fixture *f = *state;
	struct fuse_write_in lying = {.offset = 0, .size = 8192};
	struct fuse_fallocate_in grow = {.offset = DEVICE_BYTES, .length = 4096};

	request_write(f, 2, 512, 4096);
	assert_int_equal(take_answer(f, 2, 0), -EINVAL);
	request_write(f, 4, 0, 1000);
	assert_int_equal(take_answer(f, 4, 0), -EINVAL);
	request_write(f, 6, DEVICE_BYTES, 4096);
	assert_int_equal(take_answer(f, 6, 0), -EFBIG);
	request_write(f, 8, UINT64_MAX - 4095, 4096);
	assert_int_equal(take_answer(f, 8, 0), -EFBIG);
	request(f, FUSE_WRITE, 10, &lying, sizeof(lying), 4096);
	assert_int_equal(take_answer(f, 10, 0), -EPROTO);
	request(f, FUSE_WRITE, 12, &lying, 8, 0);
	assert_int_equal(take_answer(f, 12, 0), -EPROTO);
	request_read(f, 14, 100, 4096);
	assert_int_equal(take_answer(f, 14, 0), -EINVAL);
	request_read(f, 16, 0, UINT32_MAX);
	assert_int_equal(take_answer(f, 16, 0), -EINVAL);
	request(f, FUSE_FALLOCATE, 18, &grow, sizeof(grow), 0);
	assert_int_equal(take_answer(f, 18, 0), -EFBIG);
	grow = (struct fuse_fallocate_in){.offset = 0, .length = 4096};
	request(f, FUSE_FALLOCATE, 20, &grow, sizeof(grow), 0);
	assert_int_equal(take_answer(f, 20, 0), -EOPNOTSUPP);
	assert_int_equal(f->submitted_count, 0);
}

static void test_flush_discard_zero(void **state)
{
	struct fixture *f = *state;
	struct fuse_fallocate_in in = {
		.length = DEVICE_BYTES, .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	static const enum blk_kind kinds[] = {BLK_FLUSH, BLK_DISCARD, BLK_ZERO};

	request(f, FUSE_FSYNC, 2, NULL, 0, 0);
	request(f, FUSE_FALLOCATE, 4, &in, sizeof(in), 0);
	in.mode = FALLOC_FL_ZERO_RANGE;
	request(f, FUSE_FALLOCATE, 6, &in, sizeof(in), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct blk_req *req = device_request(f);

		assert_int_equal(req->kind, kinds[i]);
		assert_int_equal(req->iov_count, 0);
		device_answers(f, req, i == 2 ? -ENOSPC : 0);
		device_releases(f, req);
		assert_int_equal(take_answer(f, 2 + i * 2, 0), i == 2 ? -ENOSPC : 0);
	}
}

static void test_device_errors(void **state)
{
	struct fixture *f = *state;
	static const int results[] = {-EIO, -ESHUTDOWN, -ERANGE, -ENOSPC};

	for (unsigned i = 0; i < 4; i++) {
		struct blk_req *req;

		request_write(f, 2 + i * 2, 0, 4096);
		req = device_request(f);
		device_answers(f, req, results[i]);
		device_releases(f, req);
		assert_int_equal(
			take_answer(f, 2 + i * 2, 0), results[i] == -ENOSPC ? -ENOSPC : -EIO);
	}
}

/* Killed before the device had answered: executed by the successor, from the data in the table. */
static void test_restart_executes_what_is_not_done(void **state)
{
	struct fixture *f = *state;
	struct fuse_frontend_status status;
	struct blk_req *req;

	request_write(f, 2, 4096, 4096);
	request_read(f, 4, 0, 4096);
	kill_frontend(f);
	new_frontend(f);
	assert_int_equal(f->submitted_count, 2);
	for (unsigned i = 0; i < 2; i++) {
		req = device_request(f);
		if (req->kind == BLK_WRITE) {
			assert_int_equal(req->offset, 4096);
			assert_int_equal(*(unsigned char *)req->iov[0].iov_base, 2);
		}
		device_answers(f, req, 0);
		device_releases(f, req);
		assert_int_equal(
			take_answer(f, req->kind == BLK_WRITE ? 2 : 4,
				req->kind == BLK_WRITE ? sizeof(struct fuse_write_out) : 4096),
			0);
	}
	fuse_frontend_get_status(f->frontend, &status);
	assert_int_equal(status.executed_again, 2);
	assert_int_equal(status.answered_again, 0);
	assert_null(slot_with(f, 2));
}

/* The successor's device has the size of before until its volume is open. */
static void test_restart_grown(void **state)
{
	struct fixture *f = *state;
	struct fuse_attr_out attr;

	f->dev.size_bytes = 2 * DEVICE_BYTES;
	request_write(f, 2, DEVICE_BYTES, 4096);
	kill_frontend(f);
	f->dev.size_bytes = DEVICE_BYTES;
	new_frontend(f);
	assert_int_equal(device_request(f)->offset, DEVICE_BYTES);
	request(f, FUSE_GETATTR, 4, NULL, 0, 0);
	assert_int_equal(take_answer(f, 4, sizeof(attr)), 0);
	memcpy(&attr, answer_body(f), sizeof(attr));
	assert_int_equal(attr.attr.size, 2 * DEVICE_BYTES);
	kill_frontend(f);
}

/* Killed between the mark and the kernel's taking the answer: answered again with the recorded
 * result, not executed. */
static void test_restart_never_executes_what_is_done(void **state)
{
	struct fixture *f = *state;
	struct fuse_frontend_status status;

	request_write(f, 2, 4096, 4096);
	device_answers(f, device_request(f), 0);
	request_write(f, 4, 8192, 4096);
	device_answers(f, device_request(f), -ENOSPC);
	kill_frontend(f);
	new_frontend(f);
	assert_int_equal(f->submitted_count, 0);
	assert_int_equal(f->write_count, 2);
	for (unsigned i = 0; i < 2; i++) {
		struct fuse_out_header out;
		uint64_t unique;

		memcpy(&out, f->writes[0]->iov[0].iov_base, sizeof(out));
		unique = out.unique;
		/* The first one the kernel had taken already. */
		assert_int_equal(
			take_answer_with(f, unique, unique == 2 ? sizeof(struct fuse_write_out) : 0,
				unique == 2 ? -ENOENT : 0),
			unique == 2 ? 0 : -ENOSPC);
	}
	fuse_frontend_get_status(f->frontend, &status);
	assert_int_equal(status.answered_again, 2);
	assert_false(status.gone);
	assert_null(slot_with(f, 2));
	assert_null(slot_with(f, 4));
}

/* Killed after the answer: the slot is empty, and a mark of an older request in it means nothing.
 */
static void test_restart_ignores_old_marks(void **state)
{
	struct fixture *f = *state;
	struct blk_req *req;

	request_write(f, 2, 0, 4096);
	req = device_request(f);
	device_answers(f, req, 0);
	take_answer(f, 2, sizeof(struct fuse_write_out));
	device_releases(f, req);
	kill_frontend(f);
	new_frontend(f);
	assert_int_equal(f->write_count, 0);
	assert_int_equal(f->submitted_count, 0);
	/* The same slots, now with a new request each, are executed. */
	request_write(f, 4, 0, 4096);
	kill_frontend(f);
	new_frontend(f);
	assert_int_equal(f->submitted_count, 1);
	req = device_request(f);
	device_answers(f, req, 0);
	device_releases(f, req);
	take_answer(f, 4, sizeof(struct fuse_write_out));
}

/* A graceful restart: what the closing device fails is left for the successor, not told to the
 * kernel. */
static void test_close_leaves_failures_behind(void **state)
{
	struct fixture *f = *state;
	struct blk_req *failed;
	struct blk_req *good;

	request_write(f, 2, 0, 4096);
	request_write(f, 4, 4096, 4096);
	failed = device_request(f);
	good = device_request(f);
	fuse_frontend_close(f->frontend, note_closed, f);
	runq_run(&f->io.runq, 1000);
	assert_false(f->closed);
	assert_int_equal(f->read_count, 0);
	device_answers(f, failed, -ESHUTDOWN);
	device_releases(f, failed);
	device_answers(f, good, 0);
	device_releases(f, good);
	assert_int_equal(f->write_count, 1);
	assert_int_equal(take_answer(f, 4, sizeof(struct fuse_write_out)), 0);
	assert_true(f->closed);
	assert_int_equal(f->forgotten, 1);
	f->frontend = NULL;
	f->forgotten = 0;
	assert_non_null(slot_with(f, 2));
	assert_null(slot_with(f, 4));
	f->submitted_count = 0;
	new_frontend(f);
	assert_int_equal(f->submitted_count, 1);
	good = device_request(f);
	device_answers(f, good, 0);
	device_releases(f, good);
	assert_int_equal(take_answer(f, 2, sizeof(struct fuse_write_out)), 0);
}

static void test_disconnect(void **state)
{
	struct fixture *f = *state;
	struct fuse_frontend_status status;
	struct io_fd_op *op = f->reads[0];

	f->read_count = 0;
	complete(f, op, -ENODEV);
	assert_int_equal(f->read_count, 0);
	fuse_frontend_get_status(f->frontend, &status);
	assert_true(status.gone);
}

/* A withdrawn request may have left its header in the slot: it must not be executed by a successor.
 */
static void test_withdrawn_request(void **state)
{
	struct fixture *f = *state;
	struct io_fd_op *op = f->reads[0];
	struct fuse_in_header in = {.len = 80, .opcode = FUSE_WRITE, .unique = 2, .nodeid = 2};

	f->read_count = 0;
	memcpy(op->iov[0].iov_base, &in, sizeof(in));
	complete(f, op, -ENOENT);
	assert_null(slot_with(f, 2));
	assert_int_equal(f->read_count, 1);
}

static void test_foreign_tables(void **state)
{
	struct fixture *f = *state;
	struct fuse_table_head *head = f->table;
	struct fuse_frontend_options options = {
		.table = f->table,
		.table_bytes = FUSE_FRONTEND_TABLE_BYTES,
		.dev = &f->dev,
		.name = "other",
	};
	struct fuse_frontend *frontend;
	struct err err;

	assert_int_equal(fuse_frontend_new(&f->io, &options, &frontend, &err), -EPROTO);
	options.name = "db";
	head->version = 2;
	assert_int_equal(fuse_frontend_new(&f->io, &options, &frontend, &err), -EPROTO);
	head->version = FUSE_TABLE_VERSION;
	options.table_bytes--;
	assert_int_equal(fuse_frontend_new(&f->io, &options, &frontend, &err), -EINVAL);
}

/* Bursts arm more reads, quiet takes them back. */
static void test_armed_reads_follow_the_load(void **state)
{
	struct fixture *f = *state;
	unsigned high;

	assert_int_equal(f->read_count, 1);
	for (unsigned i = 0; i < 64; i++) {
		unsigned burst = f->read_count;

		for (unsigned j = 0; j < burst; j++) {
			struct io_fd_op *op = f->reads[j];
			struct fuse_in_header in = {.len = sizeof(in),
				.opcode = FUSE_FORGET,
				.unique = 2 + j,
				.nodeid = 2};

			memcpy(op->iov[0].iov_base, &in, sizeof(in));
			op->result = sizeof(in);
		}
		f->read_count = 0;
		for (unsigned j = 0; j < burst; j++) {
			f->reads[j]->done(f->reads[j]);
		}
		runq_run(&f->io.runq, 1000);
	}
	high = f->read_count;
	assert_true(high >= 8);
	for (unsigned i = 0; i < 5000; i++) {
		request(f, FUSE_FORGET, 2, NULL, 0, 0);
	}
	assert_true(f->read_count <= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_init, setup, teardown),
		cmocka_unit_test_setup_teardown(test_init_refuses_old_kernels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slot_waits_for_release, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_discard_zero, setup, teardown),
		cmocka_unit_test_setup_teardown(test_device_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_grown, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_restart_executes_what_is_not_done, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_restart_never_executes_what_is_done, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_ignores_old_marks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_leaves_failures_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disconnect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_withdrawn_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(test_armed_reads_follow_the_load, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
