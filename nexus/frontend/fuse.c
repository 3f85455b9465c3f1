/* SPDX-License-Identifier: Apache-2.0 */
#include "nexus/frontend/fuse.h"

#include "base/bytes.h"
#include "nexus/frontend/fuse_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define MODULE "fuse"

/* After this many requests in a row that left reads waiting there are too many of them. */
#define QUIET_MAX 256

static void slot_step(struct task *task);
static void close_step(struct task *task);

/* ---- reads of requests
 * ----------------------------------------------------------------------------------------- */

static void read_done(struct io_fd_op *op)
{
	struct fuse_slot *slot = op->ctx;

	slot->read_pending = false;
	slot->frontend->armed--;
	task_wake(&slot->task);
}

static void arm_read(struct fuse_slot *slot)
{
	struct fuse_frontend *frontend = slot->frontend;

	/* From here on the slot is empty for a successor until the kernel fills it. */
	slot->page->in.unique = 0;
	slot->read_iov.iov_base = &slot->page->in;
	slot->read_iov.iov_len = FUSE_READ_BYTES;
	slot->read = (struct io_fd_op){
		.fd = frontend->fuse_fd,
		.iov = &slot->read_iov,
		.iov_count = 1,
		.done = read_done,
		.ctx = slot,
	};
	slot->read_pending = true;
	io_fd_submit(frontend->io, &slot->read);
}

static void arm_more(struct fuse_frontend *frontend)
{
	while (!frontend->gone && !frontend->closing && frontend->armed < frontend->armed_target) {
		struct list_node *node = list_pop_front(&frontend->free);

		if (node == NULL) {
			return;
		}
		struct fuse_slot *slot = container_of(node, struct fuse_slot, node);

		slot->state = FUSE_SLOT_ARM;
		task_wake(&slot->task);
		frontend->armed++;
	}
}

/* Bursts that use up all waiting reads double them; long quiet halves them. */
static void adapt_armed(struct fuse_frontend *frontend)
{
	if (frontend->armed == 0) {
		frontend->armed_target = frontend->armed_target * 2;
		if (frontend->armed_target > FUSE_FRONTEND_SLOTS) {
			frontend->armed_target = FUSE_FRONTEND_SLOTS;
		}
		frontend->quiet = 0;
	} else if (++frontend->quiet >= QUIET_MAX && frontend->armed_target > 1) {
		frontend->armed_target /= 2;
		frontend->quiet = 0;
	}
}

static void set_gone(struct fuse_frontend *frontend, ssize_t result)
{
	if (!frontend->gone) {
		frontend->gone = true;
		log_info(&frontend->io->log, MODULE, "disconnected", "volume=%s error=%s",
			frontend->name, err_name((int)result));
	}
}

/* Did the read bring a request that is to be served now? */
static bool took_request(struct fuse_slot *slot)
{
	struct fuse_frontend *frontend = slot->frontend;
	ssize_t result = slot->read.result;

	if (result < 0) {
		/* ENOENT: the request was withdrawn in the middle of it. */
		slot->page->in.unique = 0;
		if (result != -ECANCELED && result != -EINTR && result != -EAGAIN &&
			result != -ENOENT) {
			set_gone(frontend, result);
		}
		return false;
	}
	if ((size_t)result < sizeof(struct fuse_in_header) ||
		slot->page->in.len != (size_t)result) {
		log_error(&frontend->io->log, MODULE, "short-request", "volume=%s bytes=%zd",
			frontend->name, result);
		slot->page->in.unique = 0;
		return false;
	}
	if (frontend->closing) {
		/* It stays in the table: the successor finds it there. */
		return false;
	}
	adapt_armed(frontend);
	return true;
}

/* ---- the device's part
 * ----------------------------------------------------------------------------------------- */

static void device_done(struct blk_req *req)
{
	struct fuse_slot *slot = req->ctx;

	slot->device_done = true;
	task_wake(&slot->task);
}

static void device_released(struct blk_req *req)
{
	struct fuse_slot *slot = req->ctx;

	slot->released = true;
	task_wake(&slot->task);
}

static void submit_to_device(struct fuse_slot *slot)
{
	slot->device_done = false;
	slot->released = false;
	slot->req.done = device_done;
	slot->req.released = device_released;
	slot->req.ctx = slot;
	slot->req.result = 0;
	blk_submit(slot->frontend->dev, &slot->req);
}

/* ---- answers
 * ----------------------------------------------------------------------------------------------------
 */

static void answer_done(struct io_fd_op *op)
{
	struct fuse_slot *slot = op->ctx;

	slot->answer_pending = false;
	task_wake(&slot->task);
}

/* From now on nobody executes this request again. */
static void mark_done(struct fuse_slot *slot)
{
	struct fuse_slot_page *page = slot->page;

	page->done_result = slot->error;
	atomic_store_explicit(&page->done_unique, page->in.unique, memory_order_release);
}

static void send_answer(struct fuse_slot *slot)
{
	struct fuse_slot_page *page = slot->page;
	uint32_t body_bytes = slot->error == 0 ? slot->body_bytes : 0;
	uint32_t data_bytes = slot->error == 0 ? slot->data_bytes : 0;

	page->out = (struct fuse_out_header){
		.len = (uint32_t)sizeof(page->out) + body_bytes + data_bytes,
		.error = slot->error,
		.unique = page->in.unique,
	};
	slot->answer_iov[0] = (struct iovec){&page->out, sizeof(page->out) + body_bytes};
	slot->answer_iov[1] = (struct iovec){page->data, data_bytes};
	slot->answer = (struct io_fd_op){
		.fd = slot->frontend->fuse_fd,
		.write = true,
		.iov = slot->answer_iov,
		.iov_count = data_bytes > 0 ? 2 : 1,
		.done = answer_done,
		.ctx = slot,
	};
	slot->answer_pending = true;
	if (slot->error != 0) {
		metric_inc(&slot->frontend->errors, 1);
	}
	io_fd_submit(slot->frontend->io, &slot->answer);
}

static void check_answer(struct fuse_slot *slot)
{
	struct fuse_frontend *frontend = slot->frontend;
	ssize_t result = slot->answer.result;

	if (result == -ENOENT) {
		/* The kernel has the answer already, or no longer waits for it. */
		return;
	}
	if (result < 0) {
		if (result != -ENODEV && result != -ECONNABORTED && result != -EPERM) {
			log_error(&frontend->io->log, MODULE, "answer-refused",
				"volume=%s opcode=%u error=%s", frontend->name,
				slot->page->in.opcode, err_name((int)result));
		}
		set_gone(frontend, result);
		return;
	}
	if (slot->page->in.opcode == FUSE_INIT && slot->error == 0) {
		frontend->head->init_done = 1;
	}
}

/* ---- one slot
 * ----------------------------------------------------------------------------------------------------
 */

static void slot_becomes_free(struct fuse_slot *slot)
{
	struct fuse_frontend *frontend = slot->frontend;

	slot->state = FUSE_SLOT_FREE;
	slot->again = false;
	/* The last used one first: its memory is in the caches. */
	list_push_front(&frontend->free, &slot->node);
	if (frontend->closing) {
		task_wake(&frontend->close_task);
	} else {
		arm_more(frontend);
	}
}

/* The device failed it because we are closing: not the kernel's business, the successor executes
 * it. */
static bool is_left_behind(const struct fuse_slot *slot)
{
	return slot->frontend->closing && slot->plan == FUSE_PLAN_DEVICE && slot->req.result != 0;
}

static void begin_request(struct fuse_slot *slot)
{
	struct fuse_frontend *frontend = slot->frontend;
	struct fuse_slot_page *page = slot->page;

	frontend->in_flight++;
	metric_inc(&frontend->requests, 1);
	arm_more(frontend);
	slot->error = 0;
	slot->body_bytes = 0;
	slot->data_bytes = 0;
	slot->device_done = true;
	slot->released = true;
	if (slot->again && page->in.opcode != FUSE_READ &&
		atomic_load_explicit(&page->done_unique, memory_order_acquire) == page->in.unique) {
		frontend->answered_again++;
		fuse_plan_again(slot);
		slot->plan = FUSE_PLAN_ANSWER;
		return;
	}
	if (slot->again) {
		frontend->executed_again++;
	}
	slot->plan = fuse_plan_request(slot, page->in.len);
	if (slot->plan == FUSE_PLAN_DEVICE) {
		submit_to_device(slot);
	}
}

static void slot_step(struct task *task)
{
	struct fuse_slot *slot = container_of(task, struct fuse_slot, task);

	runq_work(task->runq, slot->frontend->object, TRACE_WORK_FRONTEND);
	switch (slot->state) {
	case FUSE_SLOT_FREE:
		return;
	case FUSE_SLOT_ARM:
		if (slot->frontend->closing || slot->frontend->gone) {
			slot->frontend->armed--;
			slot_becomes_free(slot);
			return;
		}
		arm_read(slot);
		AWAIT(slot, FUSE_SLOT_AWAIT_REQUEST, !slot->read_pending);
		if (!took_request(slot)) {
			slot_becomes_free(slot);
			return;
		}
		__attribute__((fallthrough));
	case FUSE_SLOT_TAKEN:
		begin_request(slot);
		AWAIT(slot, FUSE_SLOT_AWAIT_DEVICE, slot->device_done);
		if (slot->plan == FUSE_PLAN_DEVICE) {
			fuse_plan_result(slot, slot->req.result);
		}
		slot->answer_pending = false;
		if (slot->plan != FUSE_PLAN_SILENT && !is_left_behind(slot)) {
			if (slot->page->in.opcode != FUSE_READ) {
				mark_done(slot);
			}
			send_answer(slot);
		}
		AWAIT(slot, FUSE_SLOT_AWAIT_ANSWER, !slot->answer_pending);
		if (slot->plan == FUSE_PLAN_SILENT) {
			slot->page->in.unique = 0;
		} else if (!is_left_behind(slot)) {
			check_answer(slot);
			slot->page->in.unique = 0;
		}
		AWAIT(slot, FUSE_SLOT_AWAIT_RELEASED, slot->released);
		slot->frontend->in_flight--;
		slot_becomes_free(slot);
		return;
	}
}

/* ---- the frontend
 * ------------------------------------------------------------------------------------------------
 */

static unsigned count_free(const struct fuse_frontend *frontend)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		count += frontend->slots[i].state == FUSE_SLOT_FREE;
	}
	return count;
}

static void free_memory(struct fuse_frontend *frontend)
{
	struct io *io = frontend->io;

	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		task_done(&frontend->slots[i].task);
		io_free(io, frontend->slots[i].req.private_state);
	}
	task_done(&frontend->close_task);
	metric_remove(io->metrics, &frontend->requests);
	metric_remove(io->metrics, &frontend->errors);
	metric_remove(io->metrics, &frontend->recovered);
	io_free(io, frontend);
}

static void close_step(struct task *task)
{
	struct fuse_frontend *frontend = container_of(task, struct fuse_frontend, close_task);
	void (*closed)(void *ctx) = frontend->closed;
	void *closed_ctx = frontend->closed_ctx;

	if (count_free(frontend) < FUSE_FRONTEND_SLOTS) {
		return;
	}
	io_fd_forget(frontend->io, frontend->fuse_fd);
	free_memory(frontend);
	closed(closed_ctx);
}

void fuse_frontend_close(struct fuse_frontend *frontend, void (*closed)(void *ctx), void *ctx)
{
	assert(!frontend->closing);
	frontend->closing = true;
	frontend->closed = closed;
	frontend->closed_ctx = ctx;
	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		struct fuse_slot *slot = &frontend->slots[i];

		if (slot->state == FUSE_SLOT_AWAIT_REQUEST && slot->read_pending) {
			io_fd_cancel(frontend->io, &slot->read);
		}
	}
	task_wake(&frontend->close_task);
}

/* A fresh table is filled in, a predecessor's must be one that we understand, of this very device.
 */
static int check_table(const struct fuse_frontend_options *options, struct err *err)
{
	struct fuse_table_head *head = options->table;

	if (bytes_are_zero(head->magic, sizeof(head->magic))) {
		*head = (struct fuse_table_head){
			.version = FUSE_TABLE_VERSION,
			.slot_count = FUSE_FRONTEND_SLOTS,
			.data_bytes = FUSE_FRONTEND_DATA_BYTES,
			.block_bytes = options->dev->block_bytes,
			.size_bytes = options->dev->size_bytes,
		};
		memcpy(head->name, options->name, strlen(options->name));
		atomic_signal_fence(memory_order_release);
		memcpy(head->magic, FUSE_TABLE_MAGIC, sizeof(head->magic));
		return 0;
	}
	if (memcmp(head->magic, FUSE_TABLE_MAGIC, sizeof(head->magic)) != 0 ||
		head->version != FUSE_TABLE_VERSION || head->slot_count != FUSE_FRONTEND_SLOTS ||
		head->data_bytes != FUSE_FRONTEND_DATA_BYTES) {
		return err_set(err, -EPROTO,
			"the request table was made by another version of the nexus (version %u); "
			"unpublish the volume with that one",
			head->version);
	}
	if (head->block_bytes != options->dev->block_bytes ||
		head->size_bytes % head->block_bytes != 0 ||
		strncmp(head->name, options->name, sizeof(head->name)) != 0) {
		return err_set(err, -EPROTO, "the request table belongs to another volume: %.*s",
			(int)sizeof(head->name), head->name);
	}
	return 0;
}

static int check_options(const struct fuse_frontend_options *options, struct err *err)
{
	const struct blk_dev *dev = options->dev;
	size_t name_length = strlen(options->name);

	assert((uintptr_t)options->table % FUSE_FRONTEND_PAGE == 0);
	if (options->table_bytes < FUSE_FRONTEND_TABLE_BYTES) {
		return err_set(err, -EINVAL, "the request table has %zu bytes, needed are %zu",
			options->table_bytes, (size_t)FUSE_FRONTEND_TABLE_BYTES);
	}
	if (name_length == 0 || name_length >= FUSE_FRONTEND_NAME_SIZE) {
		return err_set(
			err, -EINVAL, "a name has 1 to %u bytes", FUSE_FRONTEND_NAME_SIZE - 1);
	}
	if (!is_power_of_two(dev->block_bytes) || dev->block_bytes > FUSE_FRONTEND_PAGE ||
		dev->size_bytes == 0 || dev->size_bytes % dev->block_bytes != 0) {
		return err_set(
			err, -EINVAL, "blocks of %u bytes cannot be published", dev->block_bytes);
	}
	return 0;
}

static int new_slots(struct fuse_frontend *frontend)
{
	struct fuse_slot_page *pages =
		(void *)((unsigned char *)frontend->head + FUSE_FRONTEND_PAGE);

	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		struct fuse_slot *slot = &frontend->slots[i];

		slot->frontend = frontend;
		slot->page = &pages[i];
		slot->req.private_state =
			io_zalloc(frontend->io, max_u64(frontend->dev->req_private_bytes, 1));
		if (slot->req.private_state == NULL) {
			return -ENOMEM;
		}
	}
	return 0;
}

static void add_metrics(struct fuse_frontend *frontend)
{
	struct metric_registry *registry = frontend->io->metrics;

	metric_add(registry, &frontend->requests, METRIC_COUNTER, "strake_fuse_requests_total",
		"Requests of the kernel.", "volume=\"%s\"", frontend->name);
	metric_add(registry, &frontend->errors, METRIC_COUNTER, "strake_fuse_errors_total",
		"Requests answered with an error.", "volume=\"%s\"", frontend->name);
	metric_add(registry, &frontend->recovered, METRIC_COUNTER, "strake_fuse_recovered_total",
		"Requests that a predecessor left, executed or answered again.", "volume=\"%s\"",
		frontend->name);
}

/* Slots that a predecessor left full are taken as if they had just been read. */
static void start_slots(struct fuse_frontend *frontend)
{
	unsigned left = 0;

	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		struct fuse_slot *slot = &frontend->slots[i];

		if (slot->page->in.unique != 0) {
			slot->again = true;
			slot->state = FUSE_SLOT_TAKEN;
			task_wake(&slot->task);
			left++;
		} else {
			list_push_back(&frontend->free, &slot->node);
		}
	}
	metric_inc(&frontend->recovered, left);
	log_info(&frontend->io->log, MODULE, "serving", "volume=%s left_by_predecessor=%u",
		frontend->name, left);
	arm_more(frontend);
}

int fuse_frontend_new(struct io *io, const struct fuse_frontend_options *options,
	struct fuse_frontend **ret_frontend, struct err *err)
{
	struct fuse_frontend *frontend;
	int result = check_options(options, err);

	if (result != 0) {
		return result;
	}
	result = check_table(options, err);
	if (result != 0) {
		return result;
	}
	frontend = io_zalloc(io, sizeof(*frontend));
	if (frontend == NULL) {
		return err_set(err, -ENOMEM, "no memory for the frontend of %s", options->name);
	}
	frontend->io = io;
	frontend->dev = options->dev;
	frontend->fuse_fd = options->fuse_fd;
	frontend->head = options->table;
	frontend->object = options->object;
	frontend->armed_target = 1;
	memcpy(frontend->name, options->name, strlen(options->name));
	list_init(&frontend->free);
	task_init(&frontend->close_task, &io->runq, close_step);
	for (unsigned i = 0; i < FUSE_FRONTEND_SLOTS; i++) {
		task_init(&frontend->slots[i].task, &io->runq, slot_step);
	}
	add_metrics(frontend);
	if (new_slots(frontend) != 0) {
		free_memory(frontend);
		return err_set(err, -ENOMEM, "no memory for the frontend of %s", options->name);
	}
	start_slots(frontend);
	*ret_frontend = frontend;
	return 0;
}

void fuse_frontend_get_status(
	const struct fuse_frontend *frontend, struct fuse_frontend_status *ret_status)
{
	*ret_status = (struct fuse_frontend_status){
		.ready = frontend->head->init_done != 0,
		.gone = frontend->gone,
		.executed_again = frontend->executed_again,
		.answered_again = frontend->answered_again,
		.requests = metric_get(&frontend->requests),
		.in_flight = frontend->in_flight,
	};
}
