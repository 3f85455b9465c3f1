/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/machine.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More in one turn means that tasks wake each other for ever. */
#define TURN_STEPS_MAX 200000u

/* ---- memory ---- */

/* Before each piece of memory. */
struct memory {
	struct list_node node;
	void *base;
};

static struct machine *machine_of(struct io *io)
{
	return container_of(io, struct machine, io);
}

static void *machine_zalloc(struct io *io, size_t alignment, size_t size)
{
	struct machine *machine = machine_of(io);
	size_t offset = round_up_u64(sizeof(struct memory), alignment);
	struct memory *memory;
	void *base;

	machine->allocations++;
	if (machine->fail_allocation != 0 && machine->allocations == machine->fail_allocation) {
		return NULL;
	}
	if (posix_memalign(&base, alignment, offset + size) != 0) {
		abort();
	}
	memset(base, 0, offset + size);
	memory = (struct memory *)(void *)((char *)base + offset - sizeof(struct memory));
	memory->base = base;
	list_push_back(&machine->memory, &memory->node);
	machine->allocated++;
	return memory + 1;
}

static void machine_free(struct io *io, void *pointer)
{
	struct memory *memory;

	if (pointer == NULL) {
		return;
	}
	memory = (struct memory *)pointer - 1;
	list_remove(&memory->node);
	machine_of(io)->allocated--;
	free(memory->base);
}

static uint64_t machine_now_ns(struct io *io)
{
	return machine_of(io)->completions;
}

/* The store asks for nothing else. */
static const struct io_ops machine_ops = {
	.now_ns = machine_now_ns,
	.zalloc = machine_zalloc,
	.free = machine_free,
};

/* ---- disk ---- */

static void write_add(struct machine *machine, uint32_t block, uint32_t content, uint32_t request)
{
	assert(machine->write_count < WRITES_MAX);
	machine->writes[machine->write_count++] = (struct machine_write){
		.block = block,
		.content = content,
		.request = request,
	};
	machine->changes++;
}

static void write_remove(struct machine *machine, unsigned index)
{
	memmove(&machine->writes[index], &machine->writes[index + 1],
		(machine->write_count - index - 1) * sizeof(machine->writes[0]));
	machine->write_count--;
	if (index < machine->completed_count) {
		machine->completed_count--;
	}
	machine->changes++;
}

static void capture_writes(struct machine *machine, const struct machine_request *request)
{
	const struct io_disk_op *op = request->op;
	uint32_t block = (uint32_t)(op->offset / IMAGE_BLOCK_BYTES);

	if (op->kind == IO_DISK_ZERO) {
		for (uint64_t at = 0; at < op->length; at += IMAGE_BLOCK_BYTES) {
			write_add(machine, block++, 0, request->number);
		}
		return;
	}
	for (unsigned i = 0; i < op->iov_count; i++) {
		const uint8_t *base = op->iov[i].iov_base;

		for (size_t at = 0; at < op->iov[i].iov_len; at += IMAGE_BLOCK_BYTES) {
			write_add(machine, block++, content_of(base + at), request->number);
		}
	}
}

static int draw_result(struct machine *machine, enum io_disk_op_kind kind)
{
	struct machine_fault *fault = &machine->fault;

	if (fault->nth == 0 || fault->kind != kind) {
		return 0;
	}
	fault->seen++;
	return fault->seen == fault->nth || (fault->and_later && fault->seen > fault->nth) ? -EIO
											   : 0;
}

static void machine_submit(struct io_disk *disk, struct io_disk_op *op)
{
	struct machine *machine = container_of(disk, struct machine, disk);
	struct machine_request *request;

	assert(machine->request_count < REQUESTS_MAX);
	assert(op->kind == IO_DISK_FLUSH ||
		(op->length > 0 && op->offset % IMAGE_BLOCK_BYTES == 0 &&
			op->length % IMAGE_BLOCK_BYTES == 0 &&
			range_is_within(op->offset, op->length, disk->size_bytes)));
	request = &machine->requests[machine->request_count++];
	*request = (struct machine_request){
		.number = machine->next_request++,
		.op = op,
		.flush_upto = machine->completions,
		.result = draw_result(machine, op->kind),
	};
	if (op->kind == IO_DISK_WRITE || op->kind == IO_DISK_ZERO) {
		capture_writes(machine, request);
	}
}

static const struct io_disk_ops disk_ops = {.submit = machine_submit};

/* Writes up to that completion are on stable storage; so is `block` with every older one of it. */
static void make_durable(struct machine *machine, unsigned index)
{
	struct machine_write write = machine->writes[index];

	write_remove(machine, index);
	if (write.completed > machine->durable_at[write.block]) {
		machine->durable.contents[write.block] = write.content;
		machine->durable_at[write.block] = write.completed;
	}
}

static void complete_write(struct machine *machine, unsigned index, bool fua)
{
	struct machine_write write = machine->writes[index];

	write_remove(machine, index);
	write.completed = ++machine->completions;
	machine->current.contents[write.block] = write.content;
	memmove(&machine->writes[machine->completed_count + 1],
		&machine->writes[machine->completed_count],
		(machine->write_count - machine->completed_count) * sizeof(write));
	machine->writes[machine->completed_count] = write;
	machine->write_count++;
	machine->completed_count++;
	if (!fua) {
		return;
	}
	for (unsigned i = machine->completed_count; i-- > 0;) {
		if (machine->writes[i].block == write.block) {
			make_durable(machine, i);
		}
	}
}

static void complete_writes(struct machine *machine, const struct machine_request *request)
{
	bool lands = request->result == 0 || machine->fault.lands;
	bool fua = request->op->fua && request->result == 0;

	for (unsigned i = machine->completed_count; i < machine->write_count;) {
		if (machine->writes[i].request != request->number ||
			machine->writes[i].completed != 0) {
			i++;
		} else if (lands) {
			complete_write(machine, i, fua);
			i = machine->completed_count;
		} else {
			write_remove(machine, i);
		}
	}
}

static void complete_flush(struct machine *machine, const struct machine_request *request)
{
	for (unsigned i = 0; i < machine->completed_count;) {
		if (machine->writes[i].completed <= request->flush_upto) {
			make_durable(machine, i);
		} else {
			i++;
		}
	}
	machine->changes++;
}

static void complete_read(struct machine *machine, const struct io_disk_op *op)
{
	uint64_t block = op->offset / IMAGE_BLOCK_BYTES;

	for (unsigned i = 0; i < op->iov_count; i++) {
		uint8_t *base = op->iov[i].iov_base;

		for (size_t at = 0; at < op->iov[i].iov_len; at += IMAGE_BLOCK_BYTES) {
			memcpy(base + at, content_bytes(machine->current.contents[block++]),
				IMAGE_BLOCK_BYTES);
		}
	}
}

static void complete(struct machine *machine, unsigned index)
{
	struct machine_request request = machine->requests[index];

	machine->requests[index] = machine->requests[--machine->request_count];
	switch (request.op->kind) {
	case IO_DISK_READ:
		if (request.result == 0) {
			complete_read(machine, request.op);
		}
		break;
	case IO_DISK_WRITE:
	case IO_DISK_ZERO:
		complete_writes(machine, &request);
		break;
	case IO_DISK_FLUSH:
		if (request.result == 0) {
			complete_flush(machine, &request);
		}
		break;
	}
	request.op->result = request.result;
	request.op->done(request.op);
}

/* ---- life ---- */

void machine_start(struct machine *machine, const struct image *image, uint32_t block_count,
	bool starts_zeroed, uint64_t seed)
{
	memset(machine, 0, sizeof(*machine));
	metric_registry_init(&machine->metrics);
	io_init(&machine->io, &machine_ops, NULL, seed, &machine->metrics);
	rng_init(&machine->order, seed);
	list_init(&machine->memory);
	machine->durable = *image;
	machine->current = *image;
	machine->disk = (struct io_disk){
		.ops = &disk_ops,
		.size_bytes = (uint64_t)block_count * IMAGE_BLOCK_BYTES,
		.block_bytes = SECTOR_BYTES,
		.power = 1,
		.starts_zeroed = starts_zeroed,
	};
}

void machine_kill(struct machine *machine)
{
	list_for_each_safe (&machine->memory, node, following) {
		free(container_of(node, struct memory, node)->base);
	}
	list_init(&machine->memory);
}

bool machine_is_clean(const struct machine *machine)
{
	return machine->allocated == 0 && machine->request_count == 0 &&
	       runq_is_empty(&machine->io.runq);
}

bool machine_step(struct machine *machine)
{
	bool stepped = !runq_is_empty(&machine->io.runq);

	if (!stepped && machine->request_count > 0) {
		complete(machine, (unsigned)rng_below(&machine->order, machine->request_count));
		stepped = true;
	}
	if (runq_run(&machine->io.runq, TURN_STEPS_MAX)) {
		fprintf(stderr, "tasks wake each other for ever\n");
		abort();
	}
	return stepped;
}
