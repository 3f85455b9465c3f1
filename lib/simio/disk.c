/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks.  Each 4 KiB block has a chain of versions, newest first: what reads see, what a loss of
 * power may leave, and at the end what is durable.  An operation takes effect when it is delivered;
 * what was submitted before a crash is captured then and decided when the disk is opened anew or
 * loses power.
 */
#include "simio/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sim_disk_handle {
	struct io_disk disk;
	struct list_node node; /* process->handles */
	struct sim_disk *backing;
	struct sim_process *process;
	struct list in_flight; /* struct request */
	unsigned in_flight_count;
};

struct request {
	struct list_node node;
	struct sim_disk_handle *handle;
	struct io_disk_op *op;
	struct sim_event event;
	struct sim_completion completion;
	uint64_t flush_seq; /* FLUSH: what had completed when it was submitted */
	int result;
};

/* ---- versions ---- */

struct version *sim_version_new(const uint8_t *data)
{
	struct version *version =
		malloc(sizeof(*version) + (data != NULL ? SIM_DISK_BLOCK_BYTES : 0));

	assert(version != NULL);
	*version = (struct version){.has_data = data != NULL};
	if (data != NULL) {
		memcpy(version->data, data, SIM_DISK_BLOCK_BYTES);
	}
	return version;
}

static void free_chain(struct version *version)
{
	while (version != NULL) {
		struct version *older = version->older;

		free(version->told);
		free(version);
		version = older;
	}
}

static void list_unflushed(struct sim_disk *disk, size_t index)
{
	if (disk->blocks[index].listed) {
		return;
	}
	if (disk->unflushed_count == disk->unflushed_capacity) {
		disk->unflushed_capacity = max_u64(64, disk->unflushed_capacity * 2);
		disk->unflushed =
			realloc(disk->unflushed, disk->unflushed_capacity * sizeof(size_t));
		assert(disk->unflushed != NULL);
	}
	disk->blocks[index].listed = true;
	disk->unflushed[disk->unflushed_count++] = index;
}

void sim_block_write(struct sim_disk *disk, size_t index, struct version *version, bool durable)
{
	struct block *block = &disk->blocks[index];

	version->seq = ++disk->seq;
	version->durable = durable;
	if (durable) {
		free_chain(block->newest);
		version->older = NULL;
	} else {
		version->older = block->newest;
		list_unflushed(disk, index);
	}
	block->newest = version;
	block->unreadable = false;
}

/* Makes the newest version of seq or before the durable one.  true when nothing newer is left
 * unflushed. */
static bool block_flush(struct block *block, uint64_t seq)
{
	for (struct version *version = block->newest; version != NULL; version = version->older) {
		if (version->durable || version->seq <= seq) {
			version->durable = true;
			free_chain(version->older);
			version->older = NULL;
			break;
		}
	}
	return block->newest == NULL || block->newest->durable;
}

static void disk_flush(struct sim_disk *disk, uint64_t seq)
{
	size_t kept = 0;

	for (size_t i = 0; i < disk->unflushed_count; i++) {
		size_t index = disk->unflushed[i];

		if (block_flush(&disk->blocks[index], seq)) {
			disk->blocks[index].listed = false;
		} else {
			disk->unflushed[kept++] = index;
		}
	}
	disk->unflushed_count = kept;
}

void sim_block_read(const struct sim_disk *disk, size_t index, uint8_t *to)
{
	const struct version *newest = disk->blocks[index].newest;

	if (newest != NULL && newest->has_data) {
		memcpy(to, newest->data, SIM_DISK_BLOCK_BYTES);
	} else {
		memset(to, 0, SIM_DISK_BLOCK_BYTES);
	}
}

/* ---- loss of power ---- */

static void sectors_of(const struct version *version, uint8_t to[SIM_DISK_BLOCK_BYTES])
{
	if (version != NULL && version->has_data) {
		memcpy(to, version->data, SIM_DISK_BLOCK_BYTES);
	} else {
		memset(to, 0, SIM_DISK_BLOCK_BYTES);
	}
}

static bool may_be_torn(const struct sim_disk *disk, size_t index)
{
	uint64_t offset = (uint64_t)index * SIM_DISK_BLOCK_BYTES;

	return offset >= disk->torn_offset && offset < disk->torn_offset + disk->torn_length;
}

/* What is left of a chain: any version down to the durable one, in the torn range a mixture of two;
 * a new version or NULL for zeros. */
static struct version *chain_survivor(struct sim_disk *disk, size_t index, struct rng *rng)
{
	struct version *newest = disk->blocks[index].newest;
	struct version *survivor = newest;
	struct version *made;
	uint8_t data[SIM_DISK_BLOCK_BYTES], told[SIM_DISK_BLOCK_BYTES];

	/* The newest half of the time, so that not everything is always lost. */
	if (rng_percent(rng, 50)) {
		while (survivor != NULL && !survivor->durable && rng_percent(rng, 60)) {
			survivor = survivor->older;
		}
	}
	if (survivor == NULL) {
		return NULL;
	}
	sectors_of(survivor, data);
	if (!survivor->durable && may_be_torn(disk, index) && rng_percent(rng, 30)) {
		uint8_t older[SIM_DISK_BLOCK_BYTES];

		sectors_of(survivor->older, older);
		for (size_t at = 0; at < SIM_DISK_BLOCK_BYTES; at += SIM_DISK_SECTOR_BYTES) {
			if (rng_percent(rng, 50)) {
				memcpy(data + at, older + at, SIM_DISK_SECTOR_BYTES);
			}
		}
		sim_trace(disk->sim, "disk %s: %lu is torn", disk->name,
			(unsigned long)index * SIM_DISK_BLOCK_BYTES);
	}
	made = sim_version_new(data);
	made->durable = true;
	sectors_of(survivor->told != NULL ? survivor->told : survivor, told);
	if (memcmp(data, told, SIM_DISK_BLOCK_BYTES) != 0) {
		made->told = sim_version_new(told);
	}
	return made;
}

/* With power lost even a write with FUA is only as good as any other: it had not completed. */
static void land_orphans(struct sim_disk *disk, bool power)
{
	struct rng *rng = &disk->sim->rng;
	unsigned percent = (unsigned)rng_below(rng, 101);

	while (!list_is_empty(&disk->orphans)) {
		struct orphan *orphan =
			container_of(list_pop_front(&disk->orphans), struct orphan, node);

		if (rng_percent(rng, percent)) {
			sim_block_write(
				disk, orphan->block, orphan->version, orphan->fua && !power);
		} else {
			free(orphan->version);
		}
		free(orphan);
	}
}

void sim_disk_power_loss(struct sim_disk *disk)
{
	struct sim *sim = disk->sim;
	size_t lost = disk->unflushed_count;

	land_orphans(disk, true);
	for (size_t i = 0; i < disk->unflushed_count; i++) {
		size_t index = disk->unflushed[i];
		struct version *survivor = chain_survivor(disk, index, &sim->rng);

		free_chain(disk->blocks[index].newest);
		disk->blocks[index].newest = survivor;
		disk->blocks[index].listed = false;
	}
	disk->unflushed_count = 0;
	disk->power = rng_u64(&sim->rng) | 1;
	sim_trace(sim, "disk %s lost power with %zu unflushed blocks", disk->name, lost);
}

void sim_disk_power_loss_all(struct sim_host *host)
{
	list_for_each (&host->disks, node) {
		sim_disk_power_loss(container_of(node, struct sim_disk, node));
	}
}

/* ---- operations ---- */

/* Blocks of a write in order: calls for each with its bytes (NULL: zeros). */
static void write_blocks(const struct io_disk_op *op, struct sim_disk *disk,
	void (*each)(struct sim_disk *disk, size_t block, const uint8_t *data, bool fua))
{
	size_t block = op->offset / SIM_DISK_BLOCK_BYTES;

	if (op->kind == IO_DISK_ZERO) {
		for (uint64_t at = 0; at < op->length; at += SIM_DISK_BLOCK_BYTES) {
			each(disk, block++, NULL, op->fua);
		}
		return;
	}
	for (unsigned i = 0; i < op->iov_count; i++) {
		const uint8_t *base = op->iov[i].iov_base;

		for (size_t at = 0; at < op->iov[i].iov_len; at += SIM_DISK_BLOCK_BYTES) {
			each(disk, block++, base + at, op->fua);
		}
	}
}

static void apply_block(struct sim_disk *disk, size_t block, const uint8_t *data, bool fua)
{
	sim_block_write(disk, block, sim_version_new(data), fua);
}

static void apply_some_blocks(struct sim_disk *disk, size_t block, const uint8_t *data, bool fua)
{
	(void)fua;
	if (rng_percent(&disk->sim->rng, 50)) {
		sim_block_write(disk, block, sim_version_new(data), false);
	}
}

static void capture_block(struct sim_disk *disk, size_t block, const uint8_t *data, bool fua)
{
	struct orphan *orphan = sim_alloc(sizeof(*orphan));

	orphan->block = block;
	orphan->fua = fua;
	orphan->version = sim_version_new(data);
	list_push_back(&disk->orphans, &orphan->node);
}

static void read_blocks(struct sim_disk *disk, const struct io_disk_op *op)
{
	size_t block = op->offset / SIM_DISK_BLOCK_BYTES;

	for (unsigned i = 0; i < op->iov_count; i++) {
		uint8_t *base = op->iov[i].iov_base;

		for (size_t at = 0; at < op->iov[i].iov_len; at += SIM_DISK_BLOCK_BYTES) {
			sim_block_read(disk, block++, base + at);
		}
	}
}

static bool is_readable(const struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	for (uint64_t at = offset; at < offset + length; at += SIM_DISK_BLOCK_BYTES) {
		const struct block *block = &disk->blocks[at / SIM_DISK_BLOCK_BYTES];

		if (block->unreadable ||
			(disk->checks && block->newest != NULL && block->newest->told != NULL)) {
			return false;
		}
	}
	return true;
}

static void execute(struct sim_disk *disk, struct request *request)
{
	struct io_disk_op *op = request->op;

	if (op->kind == IO_DISK_READ && !is_readable(disk, op->offset, op->length)) {
		request->result = -EIO;
	}

	switch (op->kind) {
	case IO_DISK_READ:
		if (request->result == 0) {
			read_blocks(disk, op);
		}
		return;
	case IO_DISK_WRITE:
	case IO_DISK_ZERO:
		if (sim_write_is_misdirected(disk, op)) {
			return;
		}
		write_blocks(op, disk, request->result == 0 ? apply_block : apply_some_blocks);
		return;
	case IO_DISK_FLUSH:
		if (request->result == 0 && !disk->lying) {
			disk_flush(disk, request->flush_seq);
		}
		return;
	}
}

static void request_done(struct sim_completion *completion)
{
	struct request *request = container_of(completion, struct request, completion);
	struct sim_disk_handle *handle = request->handle;
	struct io_disk_op *op = request->op;

	execute(handle->backing, request);
	op->result = request->result;
	list_remove(&request->node);
	handle->in_flight_count--;
	free(request);
	sim_trace_io(handle->backing->sim, "disk %s op %u offset %lu length %lu%s: %d",
		handle->backing->name, (unsigned)op->kind, (unsigned long)op->offset,
		(unsigned long)op->length, op->fua ? " fua" : "", op->result);
	sim_hash_add(handle->backing->sim, op->offset + (uint64_t)op->result);
	op->done(op);
}

static void request_event(struct sim_event *event)
{
	struct request *request = container_of(event, struct request, event);

	request->completion.run = request_done;
	sim_complete(request->handle->process, &request->completion);
}

static unsigned error_percent(const struct sim_disk_faults *faults, enum io_disk_op_kind kind)
{
	switch (kind) {
	case IO_DISK_READ:
		return faults->read_error_percent;
	case IO_DISK_WRITE:
	case IO_DISK_ZERO:
		return faults->write_error_percent;
	case IO_DISK_FLUSH:
		return faults->flush_error_percent;
	}
	return 0;
}

static int draw_result(struct sim_disk *disk, const struct io_disk_op *op)
{
	struct sim_disk_faults *faults = &disk->faults;
	enum io_disk_op_kind kind = op->kind;
	bool hit = kind == IO_DISK_READ && faults->read_max_bytes > 0 &&
		   op->length > faults->read_max_bytes;

	if (faults->fail_nth > 0) {
		hit = hit || faults->fail_nth == 1;
		if (faults->fail_nth > 1 || !faults->fail_after_nth) {
			faults->fail_nth--;
		}
	}
	if (error_percent(faults, kind) > 0 &&
		rng_percent(&disk->sim->rng, error_percent(faults, kind))) {
		hit = true;
	}
	if (hit) {
		sim_trace(disk->sim, "disk %s: operation of kind %u fails", disk->name,
			(unsigned)kind);
	}
	return hit ? -EIO : 0;
}

static void check_op(const struct sim_disk *disk, const struct io_disk_op *op)
{
	uint64_t sum = 0;

	if (op->kind == IO_DISK_FLUSH) {
		return;
	}
	assert(op->length > 0);
	assert(op->offset % SIM_DISK_BLOCK_BYTES == 0 && op->length % SIM_DISK_BLOCK_BYTES == 0);
	assert(range_is_within(op->offset, op->length, disk->size_bytes));
	if (op->kind == IO_DISK_ZERO) {
		return;
	}
	assert(op->iov_count >= 1 && op->iov_count <= IO_IOV_MAX);
	for (unsigned i = 0; i < op->iov_count; i++) {
		assert((uintptr_t)op->iov[i].iov_base % SIM_DISK_BLOCK_BYTES == 0);
		assert(op->iov[i].iov_len % SIM_DISK_BLOCK_BYTES == 0);
		sum += op->iov[i].iov_len;
	}
	assert(sum == op->length);
}

static void schedule_request(struct sim_disk *disk, struct request *request)
{
	struct sim *sim = disk->sim;
	uint64_t delay_ns = sim_random_ns(
		sim, sim->options.disk_latency_min_ns, sim->options.disk_latency_max_ns);

	if (disk->faults.slow_percent > 0 && rng_percent(&sim->rng, disk->faults.slow_percent)) {
		delay_ns += sim_random_ns(sim, 0, disk->faults.slow_max_ns);
	}
	if (disk->faults.bytes_per_s > 0 && request->op->kind != IO_DISK_FLUSH) {
		disk->busy_ns = max_u64(disk->busy_ns, sim->now_ns) +
				request->op->length * IO_NS_PER_S / disk->faults.bytes_per_s;
		delay_ns += disk->busy_ns - sim->now_ns;
	}
	sim_at_ns(sim, &request->event, sim->now_ns + delay_ns, request_event);
}

static void disk_count_write(struct sim_disk *disk, enum io_disk_op_kind kind)
{
	struct sim *sim = disk->sim;

	if (kind == IO_DISK_READ || disk->at_write == 0 || --disk->at_write != 0) {
		return;
	}
	sim_at_ns(sim, disk->at_write_event,
		sim->now_ns + sim_random_ns(sim, 0, 2 * sim->options.disk_latency_max_ns),
		disk->at_write_run);
}

static void disk_submit(struct io_disk *io_disk, struct io_disk_op *op)
{
	struct sim_disk_handle *handle = container_of(io_disk, struct sim_disk_handle, disk);
	struct sim_disk *disk = handle->backing;
	struct request *request = sim_alloc(sizeof(*request));

	check_op(disk, op);
	disk->operations++;
	disk->durable_operations += op->kind == IO_DISK_FLUSH || op->fua;
	disk_count_write(disk, op->kind);
	request->handle = handle;
	request->op = op;
	request->flush_seq = disk->seq;
	request->result = draw_result(disk, op);
	list_push_back(&handle->in_flight, &request->node);
	handle->in_flight_count++;
	if (!disk->faults.stuck) {
		schedule_request(disk, request);
	}
}

static const struct io_disk_ops disk_ops = {.submit = disk_submit};

/* ---- life ---- */

struct sim_disk *sim_disk_new(struct sim_host *host, const char *name, uint64_t size_bytes)
{
	struct sim_disk *disk = sim_alloc(sizeof(*disk));

	assert(size_bytes > 0 && size_bytes % SIM_DISK_BLOCK_BYTES == 0);
	disk->sim = host->sim;
	disk->host = host;
	(void)snprintf(disk->name, sizeof(disk->name), "%s", name);
	disk->size_bytes = size_bytes;
	disk->block_count = size_bytes / SIM_DISK_BLOCK_BYTES;
	disk->blocks = sim_alloc(disk->block_count * sizeof(struct block));
	disk->power = rng_u64(&host->sim->rng) | 1;
	list_init(&disk->orphans);
	list_push_back(&host->disks, &disk->node);
	return disk;
}

struct io_disk *sim_disk_open(struct sim_disk *disk, struct sim_process *process)
{
	struct sim_disk_handle *handle = sim_alloc(sizeof(*handle));

	assert(disk->handle == NULL);
	assert(process->host == disk->host);
	land_orphans(disk, false);
	handle->disk = (struct io_disk){
		.ops = &disk_ops,
		.size_bytes = disk->size_bytes,
		.block_bytes = SIM_DISK_BLOCK_BYTES,
		.power = disk->power,
		.starts_zeroed = true,
	};
	handle->backing = disk;
	handle->process = process;
	list_init(&handle->in_flight);
	list_push_back(&process->handles, &handle->node);
	disk->handle = handle;
	return &handle->disk;
}

static void handle_free(struct sim_disk_handle *handle)
{
	handle->backing->handle = NULL;
	list_remove(&handle->node);
	free(handle);
}

void sim_disk_close(struct io_disk *io_disk)
{
	struct sim_disk_handle *handle = container_of(io_disk, struct sim_disk_handle, disk);

	assert(handle->in_flight_count == 0);
	handle_free(handle);
}

static void handle_crash(struct sim_disk_handle *handle)
{
	struct sim_disk *disk = handle->backing;

	while (!list_is_empty(&handle->in_flight)) {
		struct request *request =
			container_of(list_pop_front(&handle->in_flight), struct request, node);

		if (request->op->kind == IO_DISK_WRITE || request->op->kind == IO_DISK_ZERO) {
			write_blocks(request->op, disk, capture_block);
		}
		sim_cancel(disk->sim, &request->event);
		free(request);
	}
	handle_free(handle);
}

void sim_disk_crash_handles(struct sim_process *process)
{
	while (!list_is_empty(&process->handles)) {
		handle_crash(
			container_of(list_first(&process->handles), struct sim_disk_handle, node));
	}
}

static void disk_free(struct sim_disk *disk)
{
	assert(disk->handle == NULL);
	while (!list_is_empty(&disk->orphans)) {
		struct orphan *orphan =
			container_of(list_pop_front(&disk->orphans), struct orphan, node);

		free(orphan->version);
		free(orphan);
	}
	for (size_t i = 0; i < disk->block_count; i++) {
		free_chain(disk->blocks[i].newest);
	}
	list_remove(&disk->node);
	free(disk->blocks);
	free(disk->unflushed);
	free(disk);
}

void sim_disk_free_all(struct sim_host *host)
{
	list_for_each_safe (&host->disks, node, following) {
		disk_free(container_of(node, struct sim_disk, node));
	}
}

/* ---- the test's hand ---- */

void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults)
{
	disk->faults = *faults;
	if (faults->stuck || disk->handle == NULL) {
		return;
	}
	list_for_each (&disk->handle->in_flight, node) {
		struct request *request = container_of(node, struct request, node);

		if (request->event.index == 0 && !list_is_linked(&request->completion.node)) {
			schedule_request(disk, request);
		}
	}
}

void sim_disk_at_write(struct sim_disk *disk, uint64_t nth, struct sim_event *event,
	void (*run)(struct sim_event *event))
{
	disk->at_write = event != NULL ? nth : 0;
	disk->at_write_event = event;
	disk->at_write_run = run;
}

void sim_disk_set_lying(struct sim_disk *disk, bool lying)
{
	disk->lying = lying;
}

void sim_disk_set_torn_range(struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	disk->torn_offset = offset;
	disk->torn_length = length;
}

uint64_t sim_disk_size_bytes(const struct sim_disk *disk)
{
	return disk->size_bytes;
}

uint64_t sim_disk_power(const struct sim_disk *disk)
{
	return disk->power;
}

uint64_t sim_disk_operations(const struct sim_disk *disk)
{
	return disk->operations;
}

uint64_t sim_disk_durable_operations(const struct sim_disk *disk)
{
	return disk->durable_operations;
}

unsigned sim_disk_in_flight(const struct sim_disk *disk)
{
	return disk->handle != NULL ? disk->handle->in_flight_count : 0;
}

size_t sim_disk_unflushed_blocks(const struct sim_disk *disk)
{
	return disk->unflushed_count;
}

struct sim_disk *sim_disk_power_loss_copy(
	struct sim_disk *disk, struct sim_host *host, const char *name)
{
	struct sim_disk *copy = sim_disk_new(host, name, disk->size_bytes);
	struct rng *rng = &disk->sim->rng;

	copy->torn_offset = disk->torn_offset;
	copy->torn_length = disk->torn_length;
	for (size_t i = 0; i < disk->block_count; i++) {
		if (disk->blocks[i].newest != NULL) {
			copy->blocks[i].newest = chain_survivor(disk, i, rng);
		}
	}
	if (disk->handle == NULL) {
		return copy;
	}
	list_for_each (&disk->handle->in_flight, node) {
		struct request *request = container_of(node, struct request, node);

		if (request->op->kind == IO_DISK_WRITE || request->op->kind == IO_DISK_ZERO) {
			write_blocks(request->op, copy, capture_block);
		}
	}
	land_orphans(copy, true);
	disk_flush(copy, UINT64_MAX);
	return copy;
}
